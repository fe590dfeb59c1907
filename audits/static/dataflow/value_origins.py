"""Where a value comes from, through variables, containers, fields, helpers and partials; a helper is left the way it was entered."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from audits.static.analysis.engine import Unit
from audits.static.analysis.externals import positional_fields
from audits.static.analysis.values import Cls, Func, Inst
from audits.static.dataflow import usage
from audits.static.dataflow.flow import Flow, Place, argument
from audits.static.source import ir
from audits.static.source.project import FunctionInfo, lookup_scope

_DEPTH = 24
_BUDGET = 300
_ENTRIES = frozenset({"get", "pop", "setdefault", "__getitem__"})


@dataclass(frozen=True, slots=True)
class Entered:
    """The call through which a function was entered, and how its caller was."""

    fn: FunctionInfo
    call: ir.Call
    caller: Place
    skip: bool
    outer: Entered | None


@dataclass(frozen=True, slots=True)
class Origin:
    """An expression that a value may come from."""

    place: Place
    entered: Entered | None


class Origins:
    """Answers for one project.

    `stop` says which expressions are answers although more is behind them, `callers` whether a parameter leads to its callers.
    """

    def __init__(
        self,
        flow: Flow,
        stop: Callable[[Place], bool] | None = None,
        units: dict[FunctionInfo, Unit] | None = None,
        *,
        callers: bool = True,
    ) -> None:
        self.flow = flow
        self.bindings = usage.Bindings(flow)
        self.stop = stop
        self.units = units or {}
        self.callers = callers
        self._left = 0
        self._nested: dict[FunctionInfo, list[FunctionInfo]] = {}
        for fn in flow.analysis.project.functions:
            if fn.enclosing is not None and any(fn.scope.outer.values()):
                self._nested.setdefault(fn.enclosing, []).append(fn)
        self._assigned: dict[object, dict[str, list[ir.Expr]]] = {}
        self._returned: dict[FunctionInfo, list[Place]] = {}

    def of(self, place: Place) -> list[Place]:
        """Every expression that the value at `place` may come from; the place itself where nothing is behind it."""
        before, self._left = self._left, _BUDGET
        try:
            return [o.place for o in self._follow(Origin(place, None), set(), _DEPTH)]
        finally:
            self._left = before

    def unit(self, place: Place) -> Unit:
        """The analysed unit around a place."""
        return self.units[place.fn] if place.fn in self.units else self.flow.unit(place)

    def _follow(self, origin: Origin, seen: set[tuple[int, int]], depth: int) -> Iterator[Origin]:
        key = (id(origin.place.expr), id(origin.entered.call) if origin.entered else 0)
        if key in seen:
            return
        seen.add(key)
        self._left -= 1
        if depth <= 0 or self._left < 0:
            yield origin  # too far to say more
            return
        if self.stop is not None and self.stop(origin.place):
            yield origin
            return
        behind = list(self._step(origin, depth))
        if not behind:
            yield origin
        for each in behind:
            yield from self._follow(each, seen, depth - 1)

    def _step(self, origin: Origin, depth: int) -> list[Origin]:
        expr = origin.place.expr
        made = self.flow.analysis.operations.get(expr)
        if made is not None:
            calls = self.unit(origin.place).calls
            return [o for c in made.values() if c in calls for o in self._call(self._at(origin, c), c, depth)]
        if isinstance(expr, ir.Name):
            return self._name(origin, expr, depth)
        if isinstance(expr, ir.IfExp):
            return [self._at(origin, e) for e in (expr.body, expr.orelse)]
        if isinstance(expr, ir.BoolOp):
            return [self._at(origin, e) for e in expr.values]
        if isinstance(expr, (ir.NamedExpr, ir.Await, ir.Starred)):
            return [self._at(origin, expr.value)]
        if isinstance(expr, ir.Subscript):
            return self._item(origin, expr.value, expr.index, depth)
        if isinstance(expr, ir.Attribute):
            return self._field(origin, expr, depth)
        if isinstance(expr, ir.Call):
            return self._call(origin, expr, depth)
        return []

    def _at(self, origin: Origin, expr: ir.Expr) -> Origin:
        return Origin(origin.place.at(expr), origin.entered)

    # -- names

    def _name(self, origin: Origin, expr: ir.Name, depth: int) -> list[Origin]:
        place = origin.place
        scope = lookup_scope(place.fn.scope if place.fn is not None else place.module.scope, expr.id)
        owner = scope.function if scope is not None and scope.kind == "function" else None
        out: list[Origin] = []
        own = [(p, e) for p, e in self.bindings.of(place, expr.id) if p.fn is owner or scope is None or owner is None]
        if owner is not None:
            params = {p.name for p in owner.node.params}
            given = {id(a.expr) for a in self.flow.arguments(owner, expr.id)} if expr.id in params else set()
            own = [(p, e) for p, e in own if id(p.expr) not in given]
            if place.fn is owner:
                own = _latest(owner, own, expr, expr.id in params)
            if expr.id in params and not _replaced(owner, own, expr):
                out += self._parameter(origin, owner, expr.id)
            own += self._written_inside(owner, expr.id)
        for bound, element in own:
            found = Origin(bound, origin.entered if bound.fn is place.fn else None)
            out += self.elements(found, depth - 2) if element else [found]
        return [o for o in out if o.place.expr is not expr]

    def _written_inside(self, owner: FunctionInfo, name: str) -> list[tuple[Place, bool]]:
        inner = [f for f in self._nested.get(owner, ()) if f.scope.outer.get(name)]
        return [b for f in inner for b in self.bindings.of(Place(ir.Name(1, 1, 1, 1, name), f.module, f), name) if b[0].fn is f]

    def _parameter(self, origin: Origin, fn: FunctionInfo, name: str) -> list[Origin]:
        entered = origin.entered
        while entered is not None and entered.fn is not fn:
            entered = entered.outer
        if entered is None:
            return [Origin(p, None) for p in self.flow.arguments(fn, name)] if self.callers else []
        positional = [p.name for p in fn.positional][1 if entered.skip else 0 :]
        value = argument(entered.call, positional, name)
        if value is not None:
            return [Origin(entered.caller.at(value), entered.outer)]
        defaults = [p.default for p in fn.node.params if p.name == name and p.default is not None]
        return [Origin(Place(d, fn.module, fn.enclosing), None) for d in defaults]

    # -- items

    def _item(self, origin: Origin, base: ir.Expr, index: ir.Expr | None, depth: int) -> list[Origin]:
        key = index.value if isinstance(index, ir.Constant) else None
        out: list[Origin] = []
        rest = self._collected(origin, base, key)
        if rest is not None:
            return rest
        for found in self._follow(self._at(origin, base), set(), depth - 1):
            expr = found.place.expr
            if isinstance(expr, ir.Sequence):
                plain = not any(isinstance(i, ir.Starred) for i in expr.items)
                wanted = [expr.items[key]] if plain and isinstance(key, int) and -len(expr.items) <= key < len(expr.items) else expr.items
                out += [self._at(found, i) for i in wanted]
            elif isinstance(expr, ir.Dict):
                pairs = zip(expr.keys, expr.values, strict=True)
                out += [self._at(found, v) for k, v in pairs if key is None or not isinstance(k, ir.Constant) or k.value == key]
            elif isinstance(expr, ir.Comprehension):
                out.append(self._at(found, expr.value if expr.value is not None else expr.element))
            elif isinstance(expr, ir.Call) and ir.last_name(expr.func) in ("zip", "enumerate") and isinstance(key, int):
                parts = usage.positional(expr)
                part = parts[0] if ir.last_name(expr.func) == "enumerate" else parts[key] if key < len(parts) else None
                out += self.elements(self._at(found, part), depth - 1) if part is not None else []
            elif isinstance(expr, ir.Call) and ir.last_name(expr.func) == "dict":
                out += [self._at(found, a.value) for a in expr.args if a.keyword == key]
        if isinstance(base, ir.Name):
            # What was appended to it, or stored under a key.
            bound = {id(p.expr) for p, _ in self.bindings.of(origin.place.at(base), base.id)}
            filled = [
                p for p in self.flow.definitions(origin.place.at(base), base.id) if id(p.expr) not in bound and p.fn is origin.place.fn
            ]
            out += [Origin(p, origin.entered) for p in filled]
        return out

    def _collected(self, origin: Origin, base: ir.Expr, key: object) -> list[Origin] | None:
        # An item of *args or of **kwargs: what the call passes beyond the named parameters.
        fn, entered = origin.place.fn, origin.entered
        if fn is None or entered is None or entered.fn is not fn or not isinstance(base, ir.Name):
            return None
        kinds = {p.kind for p in fn.node.params if p.name == base.id}
        if "*" in kinds:
            extra = usage.positional(entered.call)[len(fn.positional) - (1 if entered.skip else 0) :]
            chosen = [extra[key]] if isinstance(key, int) and -len(extra) <= key < len(extra) else extra
            return [Origin(entered.caller.at(e), entered.outer) for e in chosen]
        if "**" in kinds:
            named = {p.name for p in fn.node.params}
            passed = [a.value for a in entered.call.args if a.keyword is not None and a.keyword not in named and key in (None, a.keyword)]
            return [Origin(entered.caller.at(e), entered.outer) for e in passed]
        return None

    def elements(self, origin: Origin, depth: int) -> list[Origin]:
        """What iterating over a value yields."""
        expr = origin.place.expr
        if isinstance(expr, ir.Subscript):  # an item of what zip or enumerate yields
            return self._item(origin, expr.value, expr.index, depth)
        return self._item(origin, expr, None, depth) if depth > 0 else []

    # -- fields

    def _field(self, origin: Origin, expr: ir.Attribute, depth: int) -> list[Origin]:
        place = origin.place
        out = [Origin(place.at(v), origin.entered) for v in self._set_here(place, expr)]
        if out:
            return out
        for made in self._follow(self._at(origin, expr.value), set(), depth - 1):
            call = made.place.expr
            if isinstance(call, ir.Call):
                out += self._of_made(made, call, expr.attr)
        if out:
            return out
        receivers = self.unit(place).receivers.get(expr, frozenset())
        return [Origin(p, None) for p in self.flow.sources(place)] if any(isinstance(r, Inst) for r in receivers) else []

    def _set_here(self, place: Place, expr: ir.Attribute) -> list[ir.Expr]:
        owner = place.fn if place.fn is not None else place.module
        if owner not in self._assigned:
            index: dict[str, list[ir.Expr]] = {}
            body = place.fn.node.body if place.fn is not None else place.module.tree.body
            for node in ir.walk_own(body):
                if isinstance(node, ir.Assign) and node.value is not None:
                    for target in node.targets:
                        if isinstance(target, ir.Attribute):
                            index.setdefault(ir.dotted(target) or "", []).append(node.value)
            self._assigned[owner] = index
        wanted = ir.dotted(expr)
        return self._assigned[owner].get(wanted, []) if wanted else []

    def _returns(self, fn: FunctionInfo) -> list[Place]:
        if fn not in self._returned:
            self._returned[fn] = self.flow.returns(fn)
        return self._returned[fn]

    def _of_made(self, made: Origin, call: ir.Call, name: str) -> list[Origin]:
        out: list[Origin] = []
        for callee in self.unit(made.place).calls.get(call, frozenset()):
            if not isinstance(callee, Cls):
                continue
            for owner in self.flow.analysis.mro_cache.get(callee.cls) or [callee.cls]:
                getter = owner.module.functions.get(f"{owner.qualname}.{name}")
                if getter is not None and "property" in getter.flags:
                    inner = [p for r in self._returns(getter) for p in self._own_fields(r, made, call)]
                    return inner or [Origin(r, None) for r in self._returns(getter)]
                init = owner.module.functions.get(f"{owner.qualname}.__init__")
                if init is not None:
                    entered = Entered(init, call, made.place, True, made.entered)
                    fields = [p for p in self.flow.field(callee.cls, name) if p.fn is init]
                    return [Origin(p, entered) for p in fields]
            given = argument(call, positional_fields(self.flow.analysis.mro_cache.get(callee.cls) or [callee.cls]), name)
            out += [Origin(made.place.at(given), made.entered)] if given is not None else []
        for maker in self._follow(self._at(made, call.func), set(), 2) if isinstance(call.func, ir.Name) else ():
            # A named tuple made by hand.
            source = maker.place.expr
            if isinstance(source, ir.Call) and ir.last_name(source.func) == "namedtuple" and len(source.args) > 1:
                texts = usage.texts(self.flow, maker.place.at(source.args[1].value))
                names = [w for t in texts for w in t.replace(",", " ").split()]
                given = argument(call, names, name) if len(texts) == 1 else None
                out += [Origin(made.place.at(given), made.entered)] if given is not None else []
        return out

    def _own_fields(self, returned: Place, made: Origin, call: ir.Call) -> list[Origin]:
        expr = returned.expr
        if isinstance(expr, ir.Attribute) and isinstance(expr.value, ir.Name) and expr.value.id == "self":
            return self._of_made(made, call, expr.attr)
        return []

    # -- calls

    def _call(self, origin: Origin, expr: ir.Call, depth: int) -> list[Origin]:
        place, out = origin.place, []
        names = usage.called_names(self.unit(place), expr)
        given = usage.positional(expr)
        if names & {"builtins.next", "builtins.iter"} and given:
            return self.elements(self._at(origin, given[0]), depth - 1) or self._step(self._at(origin, given[0]), depth - 1)
        if "contextlib.nullcontext" in names and given:
            return [self._at(origin, given[0])]
        if isinstance(expr.func, ir.Attribute) and expr.func.attr in _ENTRIES and given:
            return self._item(origin, expr.func.value, given[0], depth) + [self._at(origin, g) for g in given[1:]]
        for callee in self.unit(place).calls.get(expr, frozenset()):
            if isinstance(callee, Func) and not callee.weak:
                call = self._completed(origin, expr, depth)
                entered = Entered(callee.fn, call, place, callee.bound, origin.entered)
                for returned in self._returns(callee.fn):
                    out += self._of_self(origin, expr, returned, entered, depth)
        return out

    def _of_self(self, origin: Origin, expr: ir.Call, returned: Place, entered: Entered, depth: int) -> list[Origin]:
        # `Box(x).get()`: what a method returns of its own object comes from the constructor's arguments.
        inner = returned.expr
        own = isinstance(inner, ir.Attribute) and isinstance(inner.value, ir.Name) and inner.value.id == "self"
        if own and isinstance(expr.func, ir.Attribute) and isinstance(inner, ir.Attribute):
            out = []
            for made in self._follow(self._at(origin, expr.func.value), set(), depth - 1):
                if isinstance(made.place.expr, ir.Call):
                    out += self._of_made(made, made.place.expr, inner.attr)
            if out:
                return out
        return [Origin(returned, entered)]

    def _completed(self, origin: Origin, expr: ir.Call, depth: int) -> ir.Call:
        # partial(f, a)(b) is f(a, b).
        if "functools.partial" in usage.called_names(self.unit(origin.place), expr):
            return ir.Call(expr.line, expr.column, expr.end_line, expr.end_column, expr.func, expr.args[1:])
        for made in self._follow(self._at(origin, expr.func), set(), min(depth, 4)):
            source = made.place.expr
            if isinstance(source, ir.Call) and "functools.partial" in usage.called_names(self.unit(made.place), source):
                return ir.Call(expr.line, expr.column, expr.end_line, expr.end_column, expr.func, [*source.args[1:], *expr.args])
        return expr


def _latest(fn: FunctionInfo, bound: list[tuple[Place, bool]], use: ir.Expr, parameter: bool) -> list[tuple[Place, bool]]:
    """The bindings that reach a use: an unconditional one hides what was bound before it."""
    last = _last_line(fn, bound, use)
    if last is None:
        return bound
    return [(p, e) for p, e in bound if p.expr.line >= last and (_before(p.expr, use) or _looped(fn, use))] or bound


def _last_line(fn: FunctionInfo, bound: list[tuple[Place, bool]], use: ir.Expr) -> int | None:
    whole = {id(n.value) for n in fn.node.body if isinstance(n, ir.Assign)} | {
        id(i) for n in fn.node.body if isinstance(n, ir.Assign) and isinstance(n.value, ir.Sequence) for i in n.value.items
    }
    lines = [p.expr.line for p, e in bound if not e and id(p.expr) in whole and p.expr.line < use.line]
    return max(lines, default=None)


def _before(first: ir.Expr, second: ir.Expr) -> bool:
    return (first.line, first.column) < (second.line, second.column)


def _replaced(fn: FunctionInfo, bound: list[tuple[Place, bool]], use: ir.Expr) -> bool:
    return _last_line(fn, bound, use) is not None


def _looped(fn: FunctionInfo, use: ir.Expr) -> bool:
    return any(isinstance(n, (ir.For, ir.While)) and n.line <= use.line <= _end(n) for n in ir.walk_own(fn.node.body))


def _end(node: ir.Node) -> int:
    return max((n.end_line for n in ir.walk(node)), default=node.line)
