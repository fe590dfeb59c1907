"""A monotone fixpoint: units of code read and extend cells of abstract values until nothing changes."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from audits.static.analysis.members import Member
from audits.static.analysis.values import EMPTY, LIMIT, Cls, Ext, Value, Values, collapsed
from audits.static.source import ir
from audits.static.source.project import ClassInfo, FunctionInfo, ModuleInfo, Project, Scope, bound_names, targets

if TYPE_CHECKING:
    from audits.static.analysis.interp import Interp

Key = tuple[Hashable, ...]
_UNLIMITED = frozenset({"bases", "hot", "impls", "hooks"})


@dataclass(frozen=True, slots=True)
class Ref:
    """A reference in a unit: to a function, an outside name (`call` where it is called), every `method` of a name, or a `group`."""

    fn: FunctionInfo | None
    ext: str
    node: ir.Node
    call: ir.Call | None = None
    method: str = ""
    group: Key = ()


@dataclass(frozen=True, slots=True)
class Issue:
    """Something in a unit that the analysis can't see through."""

    node: ir.Node
    message: str
    hint: str = ""


@dataclass(eq=False, slots=True)
class Unit:
    """A module body, or a function body in one context, run in parts: a statement runs again only for what it reads.

    A function on the hot path is analysed twice: `hot` units take their arguments only from hot callers, so that a
    helper shared with offline code doesn't inherit what offline code passes to it.
    """

    module: ModuleInfo
    fn: FunctionInfo | None
    hot: bool
    settled: bool = False
    starved: bool = False
    runs: int = 0
    refs: list[Ref] = field(default_factory=list)
    issues: list[Issue] = field(default_factory=list)
    patches: list[Issue] = field(default_factory=list)
    calls: dict[ir.Call, Values] = field(default_factory=dict)
    receivers: dict[ir.Expr, Values] = field(default_factory=dict)
    exponents: dict[ir.Call, Values] = field(default_factory=dict)
    body: list[ir.Stmt] = field(default_factory=list)
    enters: bool = False
    parts: list[Unit] = field(default_factory=list)
    nodes: tuple[ir.Node, ...] = ()

    def split(self) -> None:
        """Make the parts; they share what is noted by node."""
        body = self.fn.node.body if self.fn is not None else self.module.tree.body
        bodies = [[], *([s] for s in body)] if len(body) > 2 or self.fn is None else [body]
        for number, statements in enumerate(bodies):
            part = Unit(self.module, self.fn, self.hot, calls=self.calls, receivers=self.receivers, exponents=self.exponents)
            part.body, part.enters = statements, number == 0
            self.parts.append(part)

    def gather(self) -> None:
        """Take over what the parts have found."""
        self.refs = [r for p in self.parts for r in p.refs]
        self.issues = [i for p in self.parts for i in p.issues]
        self.patches = [i for p in self.parts for i in p.patches]

    def notify(self, analysis: Analysis, key: Key) -> None:
        """A cell that this unit has read has grown."""
        analysis.enqueue(self)

    def run(self, analysis: Analysis) -> None:
        """Interpret the code."""
        from audits.static.analysis.interp import Interp  # noqa: PLC0415 - the interpreter works on these cells

        Interp(analysis, self).run()


@dataclass(eq=False, slots=True)
class Memo(Unit):
    """Functions that are worked out again once anything that they were read from has grown."""

    key: Key = ()
    find: Callable[[Interp], list[FunctionInfo]] = field(kw_only=True)
    found: list[FunctionInfo] = field(default_factory=list)

    def run(self, analysis: Analysis) -> None:
        """Look again, and tell everyone who used what was found where there is more."""
        from audits.static.analysis.interp import Interp  # noqa: PLC0415 - as below

        found = list(dict.fromkeys(self.find(Interp(analysis, self))))
        if found != self.found:
            self.found = found
            analysis.touch(self.key)


class Analysis:
    """The cells, their readers and the work list."""

    def __init__(self, project: Project) -> None:
        self.project = project
        self.cells: dict[Key, set[Value]] = {}
        self.readers: dict[Key, dict[Unit | Member, None]] = {}
        self.cold: dict[FunctionInfo, Unit] = {}
        self.hot: dict[FunctionInfo, Unit] = {}
        self.modules: dict[ModuleInfo, Unit] = {}
        self.entries: set[FunctionInfo] = set()
        self.subclasses: dict[ClassInfo, set[ClassInfo]] = {}
        self.decorators: set[FunctionInfo] = set()
        self.declared: dict[ir.Param, Values] = {}
        self.mro_cache: dict[ClassInfo, list[ClassInfo]] = {}
        self.below_cache: dict[ClassInfo, list[ClassInfo]] = {}
        self.memos: dict[Key, Memo] = {}
        self.operations: dict[ir.Node, dict[str, ir.Call]] = {}  # the calls of special methods that an operator amounts to
        self._members: dict[Key, Member] = {}
        self.returning: dict[FunctionInfo, bool] = {}
        self.handing_back: dict[FunctionInfo, str | None] = {}
        self._full: set[Key] = set()
        self._hot_names: set[str] = set()
        self._hot_groups: dict[Key, list[FunctionInfo]] = {}
        self.called_groups: dict[tuple[Key, bool], list[FunctionInfo]] = {}
        self._queue: list[tuple[int, int, Unit]] = []
        self._queued: set[Unit] = set()
        self._enqueued = 0

    # -- cells

    def read(self, unit: Unit | Member, key: Key) -> set[Value]:
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
        if key in self._full:
            cell.update(collapsed(values) if values else EMPTY)
        else:
            cell.update(values)
        if len(cell) != before:
            if len(cell) > LIMIT and key[0] not in _UNLIMITED and key not in self._full:
                self._full.add(key)
                self.cells[key] = cell = collapsed(cell)
            self.touch(key)

    def touch(self, key: Key) -> None:
        """Tell everyone who has read `key`."""
        for reader in list(self.readers.get(key, ())):
            reader.notify(self, key)

    def enqueue(self, unit: Unit) -> None:
        """Run the unit (again); what has run least often comes first, for what feeds many others settles before they run once more."""
        if unit not in self._queued:
            self._queued.add(unit)
            self._enqueued += 1
            heapq.heappush(self._queue, (unit.runs, self._enqueued, unit))

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
            self._family_changed(cls)

    def _family_changed(self, cls: ClassInfo) -> None:
        # Everything known of the classes above and below `cls` is found anew by whoever asked for it.
        self.mro_cache.pop(cls, None)
        self.below_cache.pop(cls, None)
        above, below = self.order(cls), [cls, *self.below(cls)]
        for relative in below:
            self.mro_cache.pop(relative, None)
        for relative in above:
            self.below_cache.pop(relative, None)
        for relative in below:
            self.touch(("above", relative))
        for relative in above:
            self.touch(("below", relative))

    def mro(self, unit: Unit, cls: ClassInfo) -> list[ClassInfo]:
        """The method resolution order within the packages, approximately."""
        self.read(unit, ("above", cls))
        return self.order(cls)

    def order(self, cls: ClassInfo, below: tuple[ClassInfo, ...] = ()) -> list[ClassInfo]:
        """The method resolution order, for who reads what is above `cls` anyway."""
        known = self.mro_cache.get(cls)
        if known is None:
            order = [cls]
            bases = [b.cls for b in self.cells.get(("bases", cls), ()) if isinstance(b, Cls)]
            circular = False
            for base in sorted(bases, key=lambda c: (_base_rank(cls, c), c.symbol)):
                if base in below or base is cls:
                    circular = True
                else:
                    order += self.order(base, (*below, cls))
            known = list(reversed(dict.fromkeys(reversed(order))))
            if not (below and circular):
                self.mro_cache[cls] = known
        return known

    def member(self, unit: Unit, cls: ClassInfo, name: str, *, exact: bool, after: ClassInfo | None = None) -> Values:
        """What `name` is on an instance of `cls`; `unit` runs again when that grows."""
        key: Key = ("member", cls, name, exact, after)
        known = self._members.get(key)
        if known is None:
            known = self._members[key] = Member(cls, name, exact=exact, after=after)
            known.compute(self)
        self.readers.setdefault(key, {})[unit] = None
        return known.values

    def outside_bases(self, unit: Unit, cls: ClassInfo) -> set[str]:
        """The outside classes above `cls`."""
        return {b.name for c in self.mro(unit, cls) for b in self.cells.get(("bases", c), ()) if isinstance(b, Ext)}

    def metaclasses(self, unit: Unit, cls: ClassInfo) -> list[ClassInfo]:
        """The packages' own metaclasses of a class."""
        return [m.cls for c in self.mro(unit, cls) for m in self.read(unit, ("meta", c)) if isinstance(m, Cls)]

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

    def returns_value(self, fn: FunctionInfo) -> bool:
        """Whether the body has a `return` or a `yield`."""
        known = self.returning.get(fn)
        if known is None:
            known = self.returning[fn] = any(isinstance(n, (ir.Return, ir.Yield)) for n in ir.walk_own(fn.node.body))
        return known

    def returned_parameter(self, fn: FunctionInfo) -> str | None:
        """The parameter that every `return` returns, where nothing rebinds it; None where there is none."""
        if fn not in self.handing_back:
            nodes = list(ir.walk_own(fn.node.body))
            returned = {n.value.id if isinstance(n.value, ir.Name) else "" for n in nodes if isinstance(n, ir.Return)}
            name = returned.pop() if len(returned) == 1 else ""
            rebound = {b for n in nodes for t in targets(n) for b in bound_names(t)} | {n.name for n in nodes if isinstance(n, ir.Function)}
            plain = any(p.name == name and p.kind in ("pos", "kw") for p in fn.node.params)
            rebound |= {o for b in fn.node.body for n in ir.walk(b) if isinstance(n, ir.Global) for o in n.names}
            yields = any(isinstance(n, ir.Yield) for n in nodes)
            self.handing_back[fn] = name if plain and name not in rebound and not yields else None
        return self.handing_back[fn]

    def ensure_hot(self, fn: FunctionInfo) -> None:
        """Analyse `fn` as part of the hot path."""
        if fn not in self.hot:
            self.hot[fn] = self._begin(Unit(fn.module, fn, hot=True))
            self.push(("hot", fn), [Ext("hot")])

    def ensure_hot_name(self, name: str) -> None:
        """Analyse every method of this name as part of the hot path."""
        if name not in self._hot_names:
            self._hot_names.add(name)
            for fn in self.project.methods_named.get(name, ()):
                self.ensure_hot(fn)

    def targets(self, ref: Ref) -> list[FunctionInfo]:
        """The functions of the packages that a reference may mean."""
        if ref.group:
            return self.memos[ref.group].found
        return [ref.fn] if ref.fn is not None else self.project.methods_named.get(ref.method, [])

    def ensure_hot_group(self, group: Key) -> None:
        """Analyse a group of functions as part of the hot path."""
        found = self.memos[group].found
        if self._hot_groups.get(group) is not found:
            self._hot_groups[group] = found
            for fn in found:
                self.ensure_hot(fn)

    def _drain(self) -> None:
        while self._queue:
            unit = heapq.heappop(self._queue)[2]
            self._queued.discard(unit)
            unit.runs += 1
            unit.run(self)

    def solve(self) -> None:
        """Run until nothing changes; units that starve for a value then take it as unknown and run again."""
        while True:
            self._drain()
            starving = [p for u in self.all_units() for p in u.parts if p.starved and not p.settled]
            if not starving:
                break
            for unit in starving:
                unit.settled = True
                self.enqueue(unit)
        for unit in self.all_units():
            unit.gather()

    def _begin(self, unit: Unit) -> Unit:
        unit.split()
        for part in unit.parts:
            self.enqueue(part)
        return unit

    def start(self) -> None:
        """Analyse every module and function once, in the cold context."""
        for _, module in sorted(self.project.modules.items()):
            self.modules[module] = self._begin(Unit(module, None, hot=False))
        self._drain()  # imports and classes first: what functions do depends on them
        for fn in self.project.functions:
            self.cold[fn] = self._begin(Unit(fn.module, fn, hot=False))
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
