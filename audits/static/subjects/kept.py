"""Where values are stored, and what is kept: a variable, field or item that its own comparison decides to replace."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from audits.static.analysis.values import Cls, Inst, SuperOf
from audits.static.dataflow.backwards import NEAR
from audits.static.dataflow.expressions import key, without_neutral
from audits.static.dataflow.flow import Place, pairs_of
from audits.static.dataflow.origins import Answer, Demand, Origins
from audits.static.dataflow.reaching import Path, access
from audits.static.source import ir
from audits.static.source.project import ClassInfo, FunctionInfo, lookup_scope

SAME = frozenset({
    "float", "bool", "round", "item", "tensor", "as_tensor", "asarray", "array", "float32", "float64", "cpu", "detach", "clone", "tolist",
    "cast",
})  # fmt: skip
_LIBRARIES = ("torch", "np", "numpy", "jnp", "math", "typing")


@dataclass(frozen=True, slots=True)
class Part:
    """A variable, with the parts taken of it; or a field of a class, with the parts taken of that, where `root` is None."""

    root: object
    path: Path
    owners: frozenset[ClassInfo] = frozenset()


@dataclass(frozen=True, eq=False, slots=True)
class Store:
    """A statement or expression that stores a value."""

    node: ir.Node
    fn: FunctionInfo
    target: ir.Expr
    part: Part
    value: ir.Expr


class Parts:
    """The parts that a value is read from, and the stores of each part in some functions."""

    def __init__(self, origins: Origins, functions: Iterable[FunctionInfo]) -> None:
        self.origins = origins
        self._stores: dict[object, list[Store]] = {}
        self._families: dict[ClassInfo, frozenset[ClassInfo]] = {}
        self._read: dict[object, tuple[tuple[Part, ...], ...]] = {}
        self.pushed: dict[str, list[Place]] = {}
        self.sorted: dict[str, Place] = {}
        for fn in functions:
            for store in self._stores_of(fn):
                self._stores.setdefault(_index(store.part.path) or store.part.root, []).append(store)

    # -- stores

    def _stores_of(self, fn: FunctionInfo) -> Iterator[Store]:
        for node in ir.walk_own(fn.node.body):
            pairs: list[tuple[ir.Expr, ir.Expr]] = []
            if isinstance(node, ir.Assign) and node.value is not None:
                pairs = [p for t in node.targets for p in pairs_of(t, node.value)]
            elif isinstance(node, ir.NamedExpr):
                pairs = [(node.target, node.value)]
            elif isinstance(node, ir.Call):
                pairs = list(self._called(node, fn))
            for target, value in pairs:
                part = self._part_of(target, fn)
                if part is not None:
                    yield Store(node, fn, target, part, value)

    def _called(self, node: ir.Call, fn: FunctionInfo) -> Iterator[tuple[ir.Expr, ir.Expr]]:
        name = ir.last_name(node.func)
        plain = [a.value for a in node.args if a.keyword is None and not a.star]
        place = (node.line, node.column, node.end_line, node.end_column)
        if name in ("setattr", "__setattr__") and len(plain) >= 2 and isinstance(plain[-2], ir.Constant):
            owner = plain[0] if len(plain) == 3 else getattr(node.func, "value", plain[0])
            yield ir.Attribute(*place, owner, str(plain[-2].value)), plain[-1]
        elif name == "update" and isinstance(node.func, ir.Attribute):
            pairs = [(a.keyword, a.value) for a in node.args if a.keyword is not None]
            for display in [p for p in plain if isinstance(p, ir.Dict)]:
                pairs += [(str(k.value), v) for k, v in zip(display.keys, display.values, strict=True) if isinstance(k, ir.Constant)]
            for text, value in pairs:
                yield ir.Subscript(*place, node.func.value, ir.Constant(*place, text)), value
        elif name == "heappush" and len(plain) == 2:
            self.pushed.setdefault(key(plain[0]), []).append(Place(plain[1], fn.module, fn))
        elif name == "sort" and isinstance(node.func, ir.Attribute):
            self.sorted[key(node.func.value)] = Place(node, fn.module, fn)

    def _part_of(self, target: ir.Expr, fn: FunctionInfo) -> Part | None:
        found = access(target)
        if found is None or ("elem", None) in found[1]:
            return None
        name, path = found
        fields = [i for i, step in enumerate(path) if step[0] == "field"]
        if not fields:
            return Part(self.root(Place(target, fn.module, fn), name), path)
        expr = target
        for _ in range(len(path) - fields[-1] - 1):
            assert isinstance(expr, ir.Subscript)
            expr = expr.value
        assert isinstance(expr, ir.Attribute)
        return Part(None, path[fields[-1] :], self.classes(Place(expr.value, fn.module, fn)))

    def root(self, place: Place, name: str) -> object:
        """The scope that owns a name, with the name."""
        scope = place.fn.scope if place.fn is not None else place.module.scope
        return lookup_scope(scope, name) or scope, name

    def classes(self, place: Place) -> frozenset[ClassInfo]:
        """The classes that an expression is an instance of."""
        return frozenset(v.cls for v in self.origins.values(place) if isinstance(v, (Inst, SuperOf, Cls)))

    # -- what a value is read from

    def read(self, demand: Demand) -> tuple[Part, ...]:
        """The variables and fields that a value is read from, up to the fields of an object that is only passed along."""
        return tuple(dict.fromkeys(p for parts in self.ways(demand) for p in parts))

    def ways(self, demand: Demand) -> tuple[tuple[Part, ...], ...]:
        """The parts on a value's way back: those that one expression reads together, the nearest first."""
        known = demand.key
        if known not in self._read:
            self._read[known] = ()
            out: list[tuple[Part, ...]] = []

            def visit(current: Demand, answer: Answer) -> bool | Iterable[Demand]:
                out.append(tuple(self.parts(current)))
                return [] if _is_field_of_own(current) else self.onward(current, answer)

            self.origins.walk(demand, visit, NEAR)
            self._read[known] = tuple(parts for parts in out if parts)
        return self._read[known]

    def parts(self, demand: Demand) -> Iterator[Part]:
        """The part that a demand itself reads, told by its variable and by its field."""
        expr, path = demand.expr, demand.path
        if isinstance(expr, ir.Name):
            yield Part(self.root(demand.place, expr.id), path)
            if path and path[0][0] == "field":
                yield Part(None, path, self.classes(demand.place))
            for i in range(1, len(path)):
                if path[i][0] == "field":
                    yield Part(None, path[i:])
        elif isinstance(expr, ir.Attribute):
            yield Part(None, (("field", expr.attr), *path), self.classes(demand.place.at(expr.value)))

    def onward(self, demand: Demand, answer: Answer) -> bool | Iterable[Demand]:
        """Where the same value is, through conversions and what changes nothing."""
        expr = demand.expr
        plain = without_neutral(expr)
        if plain is not expr:
            return [self.origins.to(demand, plain, demand.path)]
        if answer.kind == "moved" or answer.kind.startswith("mixed"):
            return True
        if isinstance(expr, ir.Call) and answer.kind == "outside" and ir.last_name(expr.func) in SAME:
            library = isinstance(expr.func, ir.Attribute) and ir.last_name(expr.func.value) in _LIBRARIES
            if isinstance(expr.func, ir.Attribute) and not library:
                return [self.origins.to(demand, expr.func.value, demand.path)]
            return [self.origins.to(demand, a.value, demand.path) for a in expr.args[-1 if ir.last_name(expr.func) == "cast" else 0 :][:1]]
        return False

    # -- which store fills a part

    def stores(self, part: Part) -> list[tuple[Store, Path]]:
        """The stores that fill a part, each with what is taken of the stored value."""
        out: list[tuple[Store, Path]] = []
        if part.root is None:
            for store in self._stores.get(_index(part.path), ()):
                steps = store.part.path
                if part.path[: len(steps)] == steps and self._related(store.part.owners, part.owners):
                    out.append((store, part.path[len(steps) :]))
            return out
        for store in self._stores.get(part.root, ()):
            steps = store.part.path
            if part.path[: len(steps)] == steps:
                out.append((store, part.path[len(steps) :]))
        return out

    def _related(self, one: frozenset[ClassInfo], other: frozenset[ClassInfo]) -> bool:
        if not one or not other:
            return True
        return any(self._family(a) & self._family(b) for a in one for b in other)

    def _family(self, cls: ClassInfo) -> frozenset[ClassInfo]:
        # Itself and its subclasses: the classes whose instances have its fields.
        found = self._families.get(cls)
        if found is None:
            order = self.origins.analysis.mro_cache
            below = [c for c in self.origins.analysis.project.classes if cls in (order.get(c) or ())]
            found = self._families[cls] = frozenset([cls, *below])
        return found


def taken(demand: Demand, expr: ir.Expr, path: Path) -> Demand:
    """A demand for a part of another expression in the same code."""
    return replace(demand, place=demand.place.at(expr), path=path)


def is_reversed(call: ir.Call) -> bool:
    """Whether a sort puts the highest first."""
    return any(a.keyword == "reverse" and not (isinstance(a.value, ir.Constant) and a.value.value is False) for a in call.args)


def _index(path: Path) -> object:
    return path[0] if path and path[0][0] == "field" else None


def _is_field_of_own(demand: Demand) -> bool:
    fn, expr = demand.place.fn, demand.expr
    if fn is None or fn.cls is None or not fn.node.params or not isinstance(expr, ir.Name):
        return False
    return expr.id == fn.node.params[0].name and bool(demand.path) and demand.path[0][0] == "field"
