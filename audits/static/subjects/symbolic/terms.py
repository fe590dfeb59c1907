"""Tensors as polynomials: sums of elementwise products of atoms, kept once each, so that equal values are the same object.

An atom is something that is not taken apart further: a parameter, a matrix product, a trace, an identity. Conjugation and
transposition are noted on the atom, so that `x.conj().mT`, `x.mH` and `einsum("ij->ji", x.conj())` are one value. Real and
imaginary part are written with the conjugate, so that taking a tensor apart and putting it together again gives the tensor.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

MOST = 24
"""How many products are kept apart in one value."""

SCALARS = frozenset({"trace", "norm", "scalar", "sum", "count"})
_SYMMETRIC = frozenset({"eye", "diagonal-matrix", "vector", "diagonal", "values", "square-sum"}) | SCALARS
_REAL = frozenset({"eye", "norm", "values", "abs", "count", "square-sum"})


class Atom:
    """A kind and what it is of."""

    __slots__ = ("args", "kind", "number")

    def __init__(self, kind: str, args: tuple[Any, ...], number: int) -> None:
        self.kind, self.args, self.number = kind, args, number

    @property
    def scalar(self) -> bool:
        """Whether this is one number for each matrix."""
        return self.kind in SCALARS

    def __repr__(self) -> str:
        return f"{self.kind}{self.args}"


Product = tuple[tuple[Atom, float], ...]
"""Atoms with their powers."""


class Poly:
    """A sum of products with numbers before them."""

    __slots__ = ("number", "terms")

    def __init__(self, terms: dict[Product, complex], number: int) -> None:
        self.terms, self.number = terms, number

    @property
    def constant(self) -> complex | None:
        """The number that this is, if it is one."""
        if not self.terms:
            return 0.0
        return self.terms.get(()) if len(self.terms) == 1 else None

    @property
    def single(self) -> tuple[Product, complex] | None:
        """The only product and its number, if there is just one."""
        return next(iter(self.terms.items())) if len(self.terms) == 1 else None

    def atoms(self) -> set[Atom]:
        """Every atom at the surface."""
        return {a for product in self.terms for a, _ in product}

    def __repr__(self) -> str:
        return " + ".join(f"{c:g}·{p}" if isinstance(c, float) else f"{c}·{p}" for p, c in self.terms.items()) or "0"


class Terms:
    """Makes atoms and polynomials, and computes with them."""

    def __init__(self) -> None:
        self._atoms: dict[tuple[Any, ...], Atom] = {}
        self._polys: dict[frozenset[tuple[Product, complex]], Poly] = {}
        self._products: dict[tuple[Poly, Poly], Poly] = {}
        self._alone: dict[Atom, Poly] = {}
        self._singles: dict[Product, Poly] = {}
        self._turns: dict[tuple[Poly, bool, bool], Poly] = {}
        self.zero = self._poly({})
        self.one = self.number(1.0)
        self.eye = self.of("eye")
        self._imaginary = self.atom("i")

    # -- making

    def atom(self, kind: str, *args: Any) -> Atom:
        """The one atom of this kind and these arguments."""
        found = self._atoms.get((kind, *args))
        if found is None:
            found = self._atoms[(kind, *args)] = Atom(kind, args, len(self._atoms))
        return found

    def of(self, kind: str, *args: Any) -> Poly:
        """An atom as a value."""
        atom = self.atom(kind, *args)
        found = self._alone.get(atom)
        if found is None:
            found = self._alone[atom] = self.product(((atom, 1),))
        return found

    def product(self, product: Product, factor: complex = 1.0) -> Poly:
        """One product as a value."""
        if factor == 1.0:
            found = self._singles.get(product)
            if found is None:
                found = self._singles[product] = self._poly({product: factor})
            return found
        return self._poly({product: factor})

    def number(self, value: complex) -> Poly:
        """A number as a value."""
        return self._poly({(): value})

    def _poly(self, terms: dict[Product, complex]) -> Poly:
        kept = {p: c if c == 1.0 else _plain(c) for p, c in terms.items() if abs(c) > 1e-12}
        key = frozenset(kept.items())
        found = self._polys.get(key)
        if found is None:
            found = self._polys[key] = Poly(kept, len(self._polys))
        if len(kept) > MOST:
            return self.of("many", found)
        return found

    # -- ring

    def add(self, *parts: Poly) -> Poly:
        """The sum."""
        if len(parts) == 1:
            return parts[0]
        terms: dict[Product, complex] = {}
        for part in parts:
            for product, factor in part.terms.items():
                terms[product] = terms.get(product, 0.0) + factor
        return self._poly(terms)

    def scaled(self, value: Poly, factor: complex) -> Poly:
        """The value times a number."""
        return value if factor == 1 else self._poly({p: c * factor for p, c in value.terms.items()})

    def minus(self, one: Poly, other: Poly) -> Poly:
        """The difference."""
        return self.add(one, self.scaled(other, -1.0))

    def times(self, one: Poly, other: Poly) -> Poly:
        """The elementwise product."""
        if one is self.one or other is self.one:
            return other if one is self.one else one
        known = self._products.get((one, other))
        if known is None:
            if len(one.terms) * len(other.terms) > 4 * MOST:
                one, other = self._whole(one), self._whole(other)
            terms: dict[Product, complex] = {}
            for p, c in one.terms.items():
                for q, d in other.terms.items():
                    product, factor = self._joined(p, q)
                    terms[product] = terms.get(product, 0.0) + c * d * factor
            known = self._products[one, other] = self._poly(terms)
        return known

    def _whole(self, value: Poly) -> Poly:
        return value if len(value.terms) == 1 else self.of("many", value)

    def _joined(self, one: Product, other: Product) -> tuple[Product, complex]:
        if not one or not other:
            return one or other, 1.0
        powers: dict[Atom, float] = dict(one)
        for atom, power in other:
            powers[atom] = 1 if atom.kind == "eye" else powers.get(atom, 0) + power
        factor: complex = 1.0
        turns = powers.get(self._imaginary)
        if turns is not None and turns not in (0, 1):
            factor = 1j ** int(turns) if turns == int(turns) else 1.0
            del powers[self._imaginary]
        return tuple(sorted(((a, p) for a, p in powers.items() if p), key=_order)), factor

    def power(self, value: Poly, exponent: float) -> Poly:
        """The elementwise power; a sum becomes one thing, unless it is squared."""
        if exponent == 1:
            return value
        if exponent == 0:
            return self.one
        single = value.single
        if value.constant is not None or single is not None:
            product, factor = single if single is not None else ((), 0.0)
            try:
                number = factor**exponent
            except (ZeroDivisionError, OverflowError):
                number = 1.0
            return self.product(tuple((a, 1 if a.kind == "eye" else p * exponent) for a, p in product), number)
        if exponent == 2 and len(value.terms) <= 4:
            return self.times(value, value)
        return self.product(((self.atom("many", value), exponent),))

    def over(self, one: Poly, other: Poly) -> Poly:
        """The quotient."""
        return self.times(one, self.power(other, -1))

    # -- conjugates and transposes

    def turned(self, value: Poly, *, conjugate: bool = False, transpose: bool = False) -> Poly:
        """The value conjugated, transposed or both."""
        if value.constant is not None and not complex(value.constant).imag:
            return value
        known = self._turns.get((value, conjugate, transpose))
        if known is None:
            known = self._turns[value, conjugate, transpose] = self._turn(value, conjugate, transpose)
        return known

    def _turn(self, value: Poly, conjugate: bool, transpose: bool) -> Poly:
        terms: dict[Product, complex] = {}
        for product, factor in value.terms.items():
            sign = 1.0
            powers: dict[Atom, float] = {}
            for atom, power in product:
                if atom.kind == "i":
                    sign = -1.0 if conjugate and power % 2 else sign
                    powers[atom] = power
                    continue
                new = self._turned(atom, conjugate, transpose)
                powers[new] = powers.get(new, 0) + power
            key = tuple(sorted(powers.items(), key=_order))
            terms[key] = terms.get(key, 0.0) + sign * (complex(factor).conjugate() if conjugate else factor)
        return self._poly(terms)

    def _turned(self, atom: Atom, conjugate: bool, transpose: bool) -> Atom:
        transpose = transpose and atom.kind not in _SYMMETRIC
        conjugate = conjugate and atom.kind not in _REAL and not atom.scalar
        if not (conjugate or transpose):
            return atom
        if atom.kind == "turned":
            base, conjugated, transposed = atom.args
            conjugate, transpose = conjugate != conjugated, transpose != transposed
            return self.atom("turned", base, conjugate, transpose) if conjugate or transpose else base
        if atom.kind == "many":
            return self.atom("many", self.turned(atom.args[0], conjugate=conjugate, transpose=transpose))
        if atom.kind == "stack":
            return self.atom("stack", *(self.turned(p, conjugate=conjugate, transpose=transpose) for p in atom.args))
        return self.atom("turned", atom, conjugate, transpose)

    def adjoint(self, value: Poly) -> Poly:
        """The conjugate transpose."""
        return self.turned(value, conjugate=True, transpose=True)

    def real(self, value: Poly) -> Poly:
        """The real part."""
        other = self.turned(value, conjugate=True)
        return value if other is value or len(value.terms) > 6 else self.scaled(self.add(value, other), 0.5)

    def imaginary(self, value: Poly) -> Poly:
        """The imaginary part."""
        other = self.turned(value, conjugate=True)
        if len(value.terms) > 6:
            return self.of("imaginary", value)
        return self.times(self.scaled(self.minus(value, other), 0.5), self.product(((self._imaginary, 1),), -1.0))

    def complex(self, real: Poly, imaginary: Poly) -> Poly:
        """The two parts together."""
        return self.add(real, self.times(imaginary, self.product(((self._imaginary, 1),))))

    # -- taking apart

    def split(self, product: Product, outside: Callable[[Atom], bool]) -> tuple[Poly, Product]:
        """A product as what is `outside`, and the rest."""
        out = tuple(f for f in product if outside(f[0]))
        if not out:
            return self.one, product
        return self.product(out), tuple(f for f in product if f not in out)

    def distributed(self, value: Poly, each: Callable[[Product], Poly]) -> Poly:
        """A linear operation: applied to each product without the scalars in it, which stay outside."""
        parts: list[Poly] = []
        for product, factor in value.terms.items():
            scalars, rest = self.split(product, lambda a: a.scalar or a.kind == "i")
            made = each(rest)
            parts.append(self.scaled(made if scalars is self.one else self.times(scalars, made), factor))
        return self.add(*parts)


def _order(factor: tuple[Atom, float]) -> int:
    return factor[0].number


def _plain(number: complex) -> complex:
    number = complex(number)
    return round(number.real, 12) if abs(number.imag) < 1e-12 else number


def positive(product: Product) -> Iterable[Atom]:
    """The atoms of a product that are not divided by."""
    return (a for a, p in product if p > 0)
