"""The operations that build a covariance: hermitise, normalise, blend, load and shrink, recognised in what code computes."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator

from audits.static.dataflow.flow import Flow
from audits.static.source import ir
from audits.static.source.project import FunctionInfo, ModuleInfo
from audits.static.subjects.symbolic.evidence import Evidence, speaks
from audits.static.subjects.symbolic.relevance import Relevance
from audits.static.subjects.symbolic.run import Symbolic
from audits.static.subjects.symbolic.symbols import Frame, Lit, Seq, Value, each
from audits.static.subjects.symbolic.terms import Atom, Poly, Product, positive

HERMITISED = "a matrix is hermitised"
SYMMETRISED = "a covariance is symmetrised"
MIRRORED = "a covariance is mirrored"
NORMALISED = "a matrix is normalised by a trace"
NORMED = "a covariance is normalised"
FACTOR = "a factor is scaled so that its covariance has a fixed trace"
BLENDED = "two covariances are blended"
FACTORS = "two factors are blended"
LOADED = "a covariance is loaded or shrunk towards the identity"
EIGENVALUES = "a covariance's eigenvalues are loaded"
DIAGONAL = "a covariance's diagonal is written"
_LOADS = frozenset({LOADED, EIGENVALUES, DIAGONAL})

Pattern = tuple[str, object]
Found = tuple[ModuleInfo, FunctionInfo | None, ir.Node, str]
_NONE: frozenset[Pattern] = frozenset()


class Building:
    """Runs the code on symbols and tells which nodes build; `offline` modules may load the systems that they solve."""

    def __init__(self, flow: Flow, builder: FunctionInfo, offline: Callable[[ModuleInfo], bool]) -> None:
        self.builder = builder
        self.offline = offline
        self.evidence = Evidence()
        self.run = Symbolic(
            flow, self._observe, self.evidence.name, lambda fn: fn is builder, Relevance(flow.analysis, speaks), builder.module
        )
        self.run.is_covariance = lambda value: bool(self.evidence.of(value))
        self.terms = self.evidence.terms = self.run.terms
        self._events: dict[tuple[object, ...], tuple[str, ir.Node, ModuleInfo, FunctionInfo | None, tuple[Value, ...]]] = {}
        self._patterns: dict[Poly, frozenset[Pattern]] = {}

    def found(self, modules: Iterable[ModuleInfo]) -> Iterator[Found]:
        """Every operation outside the builder's module."""
        self.run.run([m for m in modules if m is not self.builder.module])
        self.evidence.complete()
        for kind, node, module, fn, values in self._events.values():
            what = self._what(kind, values)
            if what is not None and not (what in _LOADS and self.offline(module)):
                yield module, fn, node, what

    def _observe(self, kind: str, node: ir.Node, frame: Frame, values: tuple[Value, ...]) -> None:
        if kind == "measured":
            self.evidence.measured(values)
            return
        if frame.module is self.builder.module:
            return
        if kind == "value":
            result, operands = values[0], values[1]
            if not isinstance(result, Poly) or not isinstance(operands, Seq) or not _worth(result):
                return
            values = (result, *(v for o in operands.items for v in each(o) if isinstance(v, Poly)))
            if result in values[1:]:
                return
        self._events.setdefault((kind, id(node), *map(id, values)), (kind, node, frame.module, frame.fn, values))

    def _what(self, kind: str, values: tuple[Value, ...]) -> str | None:
        if kind == "value":
            result, *operands = (v for v in values if isinstance(v, Poly))
            new = self.patterns(result)
            for operand in operands if new else ():
                new = new - self.patterns(operand)
            return min(w for w, _ in new) if new else None
        base = values[0]
        if not isinstance(base, Poly):
            return None
        if kind == "choice":
            other = values[1]
            mirrored = isinstance(other, Poly) and other is self.terms.adjoint(base) and other is not base
            return HERMITISED if mirrored and not self.evidence.excluded(base) else None
        if not self.evidence.of(base):
            return None
        if kind == "mirror":
            return MIRRORED
        given, sign = values[1], values[2]
        return DIAGONAL if self._raises(given, sign) else None  # type: ignore[arg-type]

    def _raises(self, given: Value, sign: int) -> bool:
        # Whether what is put on a diagonal is more than nothing, and no noise of a model.
        for value in each(given):
            if not isinstance(value, Poly):
                return True
            known = value.constant
            if known is not None and (complex(known).real * sign <= 0 or abs(known) > 1e6):
                continue
            if known is None and sign < 0 and not _negative(value):
                continue
            if not any(self.evidence.noise(p) for p in value.terms):
                return True
        return False

    def patterns(self, value: Poly) -> frozenset[Pattern]:
        """What has been built in a value, each with the matrix that it was done to."""
        known = self._patterns.get(value)
        if known is None:
            self._patterns[value] = _NONE
            found: set[Pattern] = set()
            for product in value.terms:
                found.update(self._normalised(product, value))
                found.update(self._made(product))
            if len(value.terms) > 1:
                found.update(self._mirrored(value))
                found.update(self._loaded(value))
                found.update(self._blended(value))
            known = self._patterns[value] = frozenset(found)
        return known

    # -- hermitise

    def _mirrored(self, value: Poly) -> Iterator[Pattern]:
        if not any(a.kind == "turned" and a.args[2] for a in value.atoms()):
            return
        for product, factor in value.terms.items():
            for conjugate in (True, False):
                for part in [p for p, n in product if n == 1 and not p.scalar and p.kind != "i"]:
                    other = self._with_turned(product, part, conjugate)
                    if other == product or not _close(value.terms.get(other), factor):
                        continue
                    known = self.evidence.of_product(product)
                    if not conjugate and known:
                        yield SYMMETRISED, _core(part)
                    counted = any(a.kind == "count" and n < 0 for a, n in product)
                    halved = (
                        counted
                        or abs(factor) < 0.999
                        or part.kind == "triangle"
                        or (part.kind == "turned" and part.args[0].kind == "triangle")
                    )
                    if conjugate and (halved or known) and not self.evidence.excluded(self.terms.product(product)):
                        yield HERMITISED, _core(part)

    def _with_turned(self, product: Product, part: Atom, conjugate: bool) -> Product:
        turned = self.terms.turned(self.terms.product(((part, 1),)), conjugate=conjugate, transpose=True)
        rest = self.terms.product(tuple(f for f in product if f[0] is not part))
        return next(iter(self.terms.times(rest, turned).terms), ())

    # -- normalise

    def _normalised(self, product: Product, value: Poly) -> Iterator[Pattern]:
        below = [(a, m) for atom, power in product if power < 0 for a, m in _measures(atom)]
        if not below:
            return
        matrices = [a for a in positive(product) if not a.scalar and a.kind != "i"]
        if not matrices or self._differs(product, value):
            return
        cores = {c for m in matrices for c in _cores(m)}
        known = self.evidence.of_product(product)
        for measure, of in below:
            same = bool(cores & {c for a in of.atoms() for c in _cores(a)})
            if measure == "trace" and (known or same):
                yield NORMALISED, frozenset(cores)
            elif measure == "norm":
                for matrix in matrices:
                    if self.evidence.outer(matrix) and {c for a in matrix.args[0].atoms() for c in _cores(a)} & {
                        c for a in of.atoms() for c in _cores(a)
                    }:
                        yield FACTOR, frozenset(cores)
                if known and same:
                    yield NORMED, frozenset(cores)

    def _differs(self, product: Product, value: Poly) -> bool:
        # `(R - S) / tr R` is a relative error.
        below = [f for f in product if f[1] < 0]
        signs = {_sign(c) for p, c in value.terms.items() if [f for f in p if f[1] < 0] == below and self.evidence.of_product(p)}
        return len(signs) > 1

    # -- load and shrink

    def _loaded(self, value: Poly) -> Iterator[Pattern]:
        eyes = [(p, c) for p, c in value.terms.items() if any(a.kind in ("eye", "diagonal-matrix") for a in positive(p))]
        if not any(_sign(c) > 0 and not self.evidence.noise(p) for p, c in eyes):
            return
        others = [p for p, c in value.terms.items() if (p, c) not in eyes and _sign(c) > 0 and self.evidence.of_product(p)]
        if others:
            yield LOADED, frozenset(c for p in others for a in positive(p) for c in _cores(a))

    # -- blend

    def _blended(self, value: Poly) -> Iterator[Pattern]:
        weights: dict[frozenset[Atom], Poly] = {}
        rest: list[Poly] = []
        for product, factor in value.terms.items():
            base = self.evidence.base(product)
            if any(a.kind in ("eye", "diagonal-matrix") for a, _ in product):
                continue
            if not base:
                rest.append(self.terms.product(product, factor))
                continue
            weight = self.terms.product(tuple(f for f in product if f[0] not in base or f[1] != 1), factor)
            weights[base] = self.terms.add(weights.get(base, self.terms.zero), weight)
        weights = {base: self._undivided(weight) for base, weight in weights.items()}
        for (one, a), (other, b) in itertools.combinations(weights.items(), 2):
            if self._mixes(one, a, other, b):
                yield BLENDED, frozenset((one, other))
        remainder = self.terms.add(*rest) if rest else None
        for base, weight in weights.items():
            if remainder is None or {c for a in base for c in _cores(a)} >= {c for a in _matrices(remainder) for c in _cores(a)}:
                continue  # of the matrix itself, as in the mean of it and its modulus
            if self._completes(weight, remainder):
                yield BLENDED, base

    def _undivided(self, weight: Poly) -> Poly:
        # Without what all of it is divided by, such as the number of snapshots.
        products = list(weight.terms)
        common = [f for f in products[0] if f[1] < 0 and all(f in p for p in products)] if products else []
        return self.terms.times(weight, self.terms.product(tuple((a, -p) for a, p in common))) if common else weight

    def _mixes(self, one: frozenset[Atom], a: Poly, other: frozenset[Atom], b: Poly) -> bool:
        if {_unturned(x) for x in one} == {_unturned(x) for x in other}:
            return False
        if any(w is self.terms.one or w is self.terms.zero or _negative(w) for w in (a, b)):
            return False
        both = self.terms.add(a, b).constant
        if both is not None and (a.constant is None or _close(both, 1.0)):
            return abs(both) > 1e-9
        return self.evidence.strong(one) or self.evidence.strong(other)

    def _completes(self, weight: Poly, remainder: Poly) -> bool:
        # Whether the rest is something weighted with one minus the weight.
        share = weight.constant
        if share is not None:
            single = remainder.single
            if single is None or not isinstance(share, float) or not 0 < share < 1:
                return False
            return _close(single[1], 1 - share) and any(not a.scalar for a in positive(single[0]))
        wanted = self.terms.minus(self.terms.one, weight)
        if wanted.single is not None:
            whole = self.terms.over(remainder, wanted).single
            return whole is not None and all(p > 0 for _, p in whole[0]) and any(not a.scalar for a, _ in whole[0])
        for product in list(remainder.terms)[:4]:
            if any(not a.scalar for a in positive(product)):
                if self.terms.times(self.terms.product(product), wanted) is remainder:
                    return True
        return False

    # -- products, factors and eigenvalues

    def _made(self, product: Product) -> Iterator[Pattern]:
        for atom, power in product:
            if power != 1:
                continue
            if atom.kind in ("beside", "stack") and atom.kind == "beside":
                shares = [w for w in (self._share(p) for p in atom.args) if w is not None]
                for a, b in itertools.combinations(shares, 2):
                    if _close(self.terms.add(a, b).constant, 1.0) and not {a, b} & {self.terms.one, self.terms.zero}:
                        yield FACTORS, atom
            elif atom.kind == "product":
                left, right = atom.args
                vectors = {a.args[0] for a in right.atoms() if a.kind == "turned" and a.args[0].kind == "vectors" and all(a.args[1:])}
                vectors |= {a for a in right.atoms() if a.kind == "right"}
                if vectors and not any(self.evidence.excluded(v.args[0]) for v in vectors) and self._raised(left):
                    yield EIGENVALUES, atom

    def _share(self, part: Poly) -> Poly | None:
        # The weight w of `sqrt(w) * factor`.
        single = part.single
        if single is None:
            return None
        out = self.terms.number(abs(single[1]) ** 2)
        for atom, power in single[0]:
            if power == 0.5:
                out = self.terms.times(out, atom.args[0] if atom.kind == "many" else self.terms.product(((atom, 1),)))
            elif atom.scalar:
                out = self.terms.times(out, self.terms.product(((atom, 2 * power),)))
        return out

    def _raised(self, value: Poly, depth: int = 4) -> bool:
        # Whether eigenvalues have had something added, or a floor put below them.
        with_values = without = False
        for product, factor in value.terms.items():
            kinds = {a.kind for a, _ in product}
            if "raised" in kinds:
                return True
            for atom, _ in product if depth else ():
                inner = (
                    [v for v in atom.args if isinstance(v, Poly)]
                    if atom.kind in ("many", "product", "diagonal-matrix", "item", "call")
                    else []
                )
                if any(self._raised(i, depth - 1) for i in inner):
                    return True
            holds = any(_holds_values(a) for a, _ in product)
            with_values = with_values or holds
            without = without or (not holds and _sign(factor) > 0 and not self.evidence.noise(product))
        return with_values and without


def _holds_values(atom: Atom) -> bool:
    if atom.kind in ("values", "singular"):
        return True
    return atom.kind in ("diagonal-matrix", "item") and isinstance(atom.args[0], Poly) and any(map(_holds_values, atom.args[0].atoms()))


def _worth(value: Poly) -> bool:
    if len(value.terms) > 1:
        return True
    return any(power < 0 or atom.kind in ("product", "beside") for product in value.terms for atom, power in product)


def _measures(atom: Atom) -> Iterator[tuple[str, Poly]]:
    # The traces and norms that something is divided by: also in `tr + eps`.
    if atom.kind in ("trace", "norm") and isinstance(atom.args[0], Poly):
        yield atom.kind, atom.args[0]
    elif atom.kind == "many":
        for inner in atom.args[0].atoms():
            yield from _measures(inner)


def _matrices(value: Poly) -> set[Atom]:
    return {a for p in value.terms for a in positive(p) if not a.scalar and a.kind != "i"}


def _unturned(atom: Atom) -> Atom:
    return atom.args[0] if atom.kind == "turned" else atom


def _core(atom: Atom) -> Atom:
    """The matrix of which an atom is the transpose, an item or a part."""
    while True:
        if atom.kind == "turned":
            atom = atom.args[0]
        elif atom.kind in ("item", "over", "triangle", "abs") and atom.args[0].single is not None and len(atom.args[0].single[0]) == 1:
            if atom.kind == "item" and any(isinstance(k, Lit) and isinstance(k.value, str) for k in atom.args[1]):
                return atom
            atom = atom.args[0].single[0][0][0]
        else:
            return atom


def _cores(atom: Atom) -> Iterator[Atom]:
    core = _core(atom)
    if core.kind == "many" or (core.kind in ("item", "over", "triangle", "abs") and isinstance(core.args[0], Poly)):
        for inner in core.args[0].atoms():
            if not inner.scalar:
                yield from _cores(inner)
    else:
        yield core


def _sign(factor: complex) -> int:
    real = complex(factor).real
    return 0 if not real else 1 if real > 0 else -1


def _negative(value: Poly) -> bool:
    return bool(value.terms) and all(_sign(c) < 0 for c in value.terms.values())


def _close(one: complex | None, other: complex) -> bool:
    return one is not None and abs(one - other) < 1e-9
