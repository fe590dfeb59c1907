"""A monotone fixpoint: units of code read and extend cells of abstract values until nothing changes."""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field

from audits.static import ir
from audits.static.project import ClassInfo, FunctionInfo, ModuleInfo, Project, Scope
from audits.static.values import EMPTY, Cls, Ext, Func, Value, Values, widened

Key = tuple[Hashable, ...]
LIMIT = 32  # values that a cell keeps apart; what it holds beyond them is unknown, so that the cost stays linear
_UNLIMITED = frozenset({"bases", "hierarchy", "dunders", "hot", "impls", "hooks"})


@dataclass(frozen=True, slots=True)
class Ref:
    """A reference found in a unit: to a function of the packages, or to an outside name (`call` where it is called)."""

    fn: FunctionInfo | None
    ext: str
    node: ir.Node
    call: ir.Call | None = None


@dataclass(frozen=True, slots=True)
class Issue:
    """Something in a unit that the analysis can't see through."""

    node: ir.Node
    message: str
    hint: str = ""


@dataclass(eq=False, slots=True)
class Unit:
    """A module body, or a function body in one context.

    A function on the hot path is analysed twice: `hot` units take their arguments only from hot callers, so that a
    helper shared with offline code doesn't inherit what offline code passes to it.
    """

    module: ModuleInfo
    fn: FunctionInfo | None
    hot: bool
    settled: bool = False
    starved: bool = False
    refs: list[Ref] = field(default_factory=list)
    issues: list[Issue] = field(default_factory=list)
    patches: list[Issue] = field(default_factory=list)
    calls: dict[ir.Call, Values] = field(default_factory=dict)
    receivers: dict[ir.Expr, Values] = field(default_factory=dict)
    exponents: dict[ir.Call, Values] = field(default_factory=dict)


class Analysis:
    """The cells, their readers and the work list."""

    def __init__(self, project: Project) -> None:
        self.project = project
        self.cells: dict[Key, set[Value]] = {}
        self.readers: dict[Key, dict[Unit, None]] = {}
        self.cold: dict[FunctionInfo, Unit] = {}
        self.hot: dict[FunctionInfo, Unit] = {}
        self.modules: dict[ModuleInfo, Unit] = {}
        self.entries: set[FunctionInfo] = set()
        self.subclasses: dict[ClassInfo, set[ClassInfo]] = {}
        self.decorators: set[FunctionInfo] = set()
        self.informative: dict[ir.Param, bool] = {}
        self.mro_cache: dict[ClassInfo, list[ClassInfo]] = {}
        self.below_cache: dict[ClassInfo, list[ClassInfo]] = {}
        self.implicit_cache: dict[tuple[ClassInfo, bool], list[FunctionInfo]] = {}
        self._queue: deque[Unit] = deque()
        self._queued: set[Unit] = set()

    # -- cells

    def read(self, unit: Unit, key: Key) -> set[Value]:
        """The cell's values; `unit` runs again when they grow."""
        readers = self.readers.get(key)
        if readers is None:
            self.readers[key] = {unit: None}
        else:
            readers[unit] = None
        return self.cells.get(key) or set()

    def peek(self, key: Key) -> Values:
        """The cell's values, without waiting for more."""
        return frozenset(self.cells.get(key) or EMPTY)

    def push(self, key: Key, values: Iterable[Value]) -> None:
        """Extend the cell."""
        cell = self.cells.setdefault(key, set())
        before = len(cell)
        if not isinstance(values, (set, frozenset)):
            values = set(values)
        if before + len(values) > LIMIT and key[0] not in _UNLIMITED:
            values = widened(cell, values, LIMIT)
        cell.update(values)
        if len(cell) != before:
            if key[0] == "name" and isinstance(key[2], str) and key[2].startswith("__"):
                self._new_dunder(key, cell)
            for unit in self.readers.get(key, ()):
                self.enqueue(unit)

    def _new_dunder(self, key: Key, cell: set[Value]) -> None:
        # What handing over an instance may run depends on the special methods of every class.
        scope = key[1]
        if isinstance(scope, Scope) and scope.kind == "class" and any(isinstance(v, Func) for v in cell):
            self.implicit_cache.clear()
            self.push(("dunders",), [Ext(f"{id(scope)}.{key[2]}<{len(cell)}")])

    def enqueue(self, unit: Unit) -> None:
        """Run the unit (again)."""
        if unit not in self._queued:
            self._queued.add(unit)
            self._queue.append(unit)

    # -- classes

    def add_base(self, cls: ClassInfo, bases: Iterable[Value]) -> None:
        """Record what `cls` derives from."""
        new = {b for b in bases if isinstance(b, (Cls, Ext))}
        key = ("bases", cls)
        if new - self.cells.get(key, set()):
            self.push(key, new)
            for base in new:
                if isinstance(base, Cls):
                    self.subclasses.setdefault(base.cls, set()).add(cls)
            self.mro_cache.clear()
            self.below_cache.clear()
            self.implicit_cache.clear()
            self.push(("hierarchy",), [Ext(f"{cls.symbol}<{len(self.cells[key])}")])

    def mro(self, unit: Unit, cls: ClassInfo) -> list[ClassInfo]:
        """The method resolution order within the packages, approximately."""
        self.read(unit, ("hierarchy",))
        known = self.mro_cache.get(cls)
        if known is None:
            known = self.mro_cache[cls] = self._linearise(cls, ())
        return known

    def _linearise(self, cls: ClassInfo, below: tuple[ClassInfo, ...]) -> list[ClassInfo]:
        order = [cls]
        bases = sorted((b.cls for b in self.cells.get(("bases", cls), ()) if isinstance(b, Cls)), key=lambda c: _base_rank(cls, c))
        for base in bases:
            if base not in below and base is not cls:
                order += self._linearise(base, (*below, cls))
        return [c for i, c in enumerate(order) if c not in order[i + 1 :]]

    def outside_bases(self, unit: Unit, cls: ClassInfo) -> set[str]:
        """The outside classes above `cls`."""
        return {b.name for c in self.mro(unit, cls) for b in self.cells.get(("bases", c), ()) if isinstance(b, Ext)}

    def below(self, cls: ClassInfo) -> list[ClassInfo]:
        """Every class of the packages derived from `cls`, itself excluded."""
        known = self.below_cache.get(cls)
        if known is None:
            seen: set[ClassInfo] = set()
            stack = list(self.subclasses.get(cls, ()))
            while stack:
                current = stack.pop()
                if current not in seen and current is not cls:
                    seen.add(current)
                    stack.extend(self.subclasses.get(current, ()))
            known = self.below_cache[cls] = sorted(seen, key=lambda c: c.symbol)
        return known

    # -- running

    def ensure_hot(self, fn: FunctionInfo) -> None:
        """Analyse `fn` as part of the hot path."""
        if fn not in self.hot:
            unit = self.hot[fn] = Unit(fn.module, fn, hot=True)
            self.enqueue(unit)
            self.push(("hot", fn), [Ext("hot")])

    def solve(self) -> None:
        """Run until nothing changes; units that starve for a value then take it as unknown and run again."""
        from audits.static.interp import Interp  # noqa: PLC0415 - the interpreter works on these cells

        while True:
            while self._queue:
                unit = self._queue.popleft()
                self._queued.discard(unit)
                Interp(self, unit).run()
            starving = [u for u in self.all_units() if u.starved and not u.settled]
            if not starving:
                return
            for unit in starving:
                unit.settled = True
                self.enqueue(unit)

    def start(self) -> None:
        """Analyse every module and function once, in the cold context."""
        for _, module in sorted(self.project.modules.items()):
            self.modules[module] = Unit(module, None, hot=False)
            self.enqueue(self.modules[module])
        for fn in self.project.functions:
            self.cold[fn] = Unit(fn.module, fn, hot=False)
            self.enqueue(self.cold[fn])
        self.solve()

    def heat(self, entries: Iterable[FunctionInfo]) -> None:
        """Analyse everything that `entries` reach, in the hot context."""
        self.entries.update(entries)
        for fn in sorted(self.entries, key=lambda f: f.symbol):
            self.ensure_hot(fn)
        self.solve()

    def all_units(self) -> list[Unit]:
        """Every unit, in a fixed order."""
        return [*self.modules.values(), *self.cold.values(), *self.hot.values()]

    def name_key(self, scope: Scope, name: str, *, hot: bool) -> Key:
        """The cell of a name; only names inside functions have a hot twin."""
        return ("name", scope, name, hot and scope.kind not in ("module", "class"))


def _base_rank(cls: ClassInfo, base: ClassInfo) -> int:
    names = [ir.last_name(b) for b in cls.node.bases]
    return names.index(base.node.name) if base.node.name in names else len(names)
