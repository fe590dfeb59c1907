"""Which values look like covariance matrices, whatever they are called."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache

from audits.static.subjects.covariances import COVARIANCE_WORDS, LETTERS, OTHER_WORDS, words
from audits.static.subjects.symbolic.symbols import Value, each
from audits.static.subjects.symbolic.terms import Atom, Poly, Product, Terms, positive

STRONG, WEAK = 2, 1
_DENIED = frozenset(
    {"fisher", "fim", "hess", "hessian", "gram", "jac", "jacobian", "kernel", "weight", "weights", "graph", "adjacency", "adj"}
)
_NUMBERED = re.compile(r"^R_?\d$")
_PARTS = frozenset({"item", "over", "triangle", "many", "sealed"})


@cache
def _says(name: str) -> str:
    """What a name says of its value: `covariance`, `other`, `noise` or nothing."""
    called = name.endswith("()")
    plain = name.removesuffix("()")
    found = words(plain)
    if "noise" in found:
        return "noise"
    if found & _DENIED:
        return "other"
    if _NUMBERED.match(plain) and not called:
        return "covariance"
    if found & OTHER_WORDS or (plain.isupper() and len(plain) > 1 and "_" not in plain):
        return ""
    if found & COVARIANCE_WORDS or (called and plain == "dense") or (not called and LETTERS.match(plain)):
        return "covariance"
    return ""


def speaks(name: str) -> bool:
    """Whether a name, or a function of that name, says that its value is a covariance."""
    return _says(name) == "covariance" or name == "dense"


class Evidence:
    """A value counts as a covariance by how it is made, by what it is called anywhere, or by what is done with it."""

    terms: Terms

    def __init__(self) -> None:
        self._named: set[frozenset[Atom]] = set()
        self._measured: set[frozenset[Atom]] = set()
        self._denied: set[frozenset[Atom]] = set()
        self._noise: set[frozenset[Atom]] = set()
        self._known: dict[Product, int] | None = None
        self._holding: dict[Atom, list[frozenset[Atom]]] = {}

    def name(self, name: str, value: Value) -> Value:
        """Note that a value is called so somewhere; a number that is called noise keeps that name."""
        says = _says(name)
        if not says:
            return value
        if says == "noise" and isinstance(value, Poly) and value.constant is not None:
            return self.terms.of("scalar", "number", name)
        target = {"covariance": self._named, "other": self._denied, "noise": self._noise}[says]
        for option in each(value):
            for product in option.terms if isinstance(option, Poly) else ():
                key = _key(product, scalars=says == "noise")
                if key and key not in target:
                    target.add(key)
                    self._holding.setdefault(next(iter(key)), []).append(key)
        return value

    def measured(self, values: Iterable[Value]) -> None:
        """Note that the trace or the eigenvalues of a value are taken."""
        for value in values:
            single = value.single if isinstance(value, Poly) else None
            if single is not None and not any(self.gram(a) for a, _ in single[0]):
                key = _key(single[0])
                if key:
                    self._measured.add(key)
                    self._holding.setdefault(next(iter(key)), []).append(key)

    def _among(self, product: Product, keys: set[frozenset[Atom]]) -> bool:
        atoms = {a for a, p in product if p > 0}
        return any(k in keys and k <= atoms for a in atoms for k in self._holding.get(a, ()))

    def of(self, value: Poly) -> int:
        """How sure it is that a value holds a covariance."""
        return max((self.of_product(p) for p in value.terms), default=0)

    def complete(self) -> None:
        """Nothing more will be noted."""
        self._known = {}

    def of_product(self, product: Product) -> int:
        """How sure it is that a product holds a covariance."""
        if self._known is None:
            return self._evident(product)
        known = self._known.get(product)
        if known is None:
            known = self._known[product] = self._evident(product)
        return known

    def _evident(self, product: Product) -> int:
        if self._among(product, self._named):
            return STRONG
        parts = max((self._of_atom(a) for a in positive(product)), default=0)
        if parts == STRONG:
            return STRONG
        return WEAK if (parts or self._among(product, self._measured)) and not self._among(product, self._denied) else 0

    def _of_atom(self, atom: Atom) -> int:
        own = ((atom, 1),)
        if self._among(own, self._named):
            return STRONG
        if atom.kind == "turned":
            return self.of_product(((atom.args[0], 1),))
        if atom.kind in _PARTS:
            return self.of(atom.args[0])
        if atom.kind in ("stack", "joined"):
            return max((self.of(a) for a in atom.args if isinstance(a, Poly)), default=0)
        if self._among(own, self._denied):
            return 0
        return WEAK if self.outer(atom) or self._among(own, self._measured) else 0

    def outer(self, atom: Atom) -> bool:
        """Whether an atom is X X^H."""
        return atom.kind == "product" and atom.args[1] is self.terms.adjoint(atom.args[0])

    def gram(self, atom: Atom) -> bool:
        """Whether an atom is X^H X."""
        if atom.kind != "product" or atom.args[0] is not self.terms.adjoint(atom.args[1]):
            return False
        return any(a.kind == "turned" for a in atom.args[0].atoms())

    def base(self, product: Product) -> frozenset[Atom]:
        """The atoms that make a product a covariance; empty where it is none."""
        if not self.of_product(product):
            return frozenset()
        atoms = {a for a, p in product if p > 0}
        sets = [k for a in atoms for k in self._holding.get(a, ()) if k <= atoms and k in self._named]
        sets += [frozenset((a,)) for a in atoms if self._of_atom(a)]
        sets += [k for a in atoms for k in self._holding.get(a, ()) if k <= atoms and k in self._measured]
        return min(sets, key=lambda k: (len(k), min(a.number for a in k))) if sets else frozenset()

    def strong(self, base: frozenset[Atom]) -> bool:
        """Whether a base is a covariance by its name."""
        return self.of_product(tuple((a, 1) for a in base)) == STRONG

    def excluded(self, value: Poly) -> bool:
        """Whether a matrix is one that may be made symmetric: a Gram, Fisher or kernel matrix."""
        return any(self._among(p, self._denied) or any(self.gram(a) or self._denied_part(a) for a, _ in p) for p in value.terms)

    def _denied_part(self, atom: Atom) -> bool:
        base = atom.args[0] if atom.kind == "turned" else atom
        if self.gram(base) or self._among(((base, 1),), self._denied):
            return True
        return base.kind in _PARTS and self.excluded(base.args[0])

    def noise(self, product: Product) -> bool:
        """Whether a product has the noise of a model in it."""
        return self._among(product, self._noise) or any(self._noisy(a) for a, _ in product)

    def _noisy(self, atom: Atom, depth: int = 5) -> bool:
        if atom.kind in ("given", "scalar", "field", "name"):
            return "noise" in words(str(atom.args[-1]))
        for part in atom.args if depth else ():
            if isinstance(part, Poly):
                if any(self._among(p, self._noise) or any(self._noisy(a, depth - 1) for a, _ in p) for p in part.terms):
                    return True
            elif isinstance(part, Atom):
                if self._among(((part, 1),), self._noise) or self._noisy(part, depth - 1):
                    return True
            elif isinstance(part, str) and "noise" in words(part.rpartition(":")[2]):
                return True
        return False


def _key(product: Product, *, scalars: bool = False) -> frozenset[Atom]:
    return frozenset(
        a
        for a, p in product
        if p > 0 and (scalars or not a.scalar) and a.kind not in ("eye", "i", "diagonal-matrix", "values", "diagonal", "vectors")
    )


__all__ = ["STRONG", "WEAK", "Evidence"]
