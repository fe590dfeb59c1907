"""Where a value comes from, one step at a time, in the context of the calls on the way.

A demand asks for a part of an expression (`.effective` of a call, item 1 of a tuple) inside a chain of calls. A step
answers with the demands it rests on; a rule decides where to stop. Entering a function through a call binds its
parameters to that call's arguments; a demand that starts inside a function goes out to every call site.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

from audits.static import ir, lookup
from audits.static.engine import Unit
from audits.static.findings import Step
from audits.static.flow import Flow, Place
from audits.static.interp import _Silent
from audits.static.project import ClassInfo, FunctionInfo, ModuleInfo, lookup_scope
from audits.static.reaching import _BASE, Alternatives, Def, Guard, Guards, Path, Reaching, access, step_text
from audits.static.values import Cls, Func, Inst, Mod, SuperOf, Values

_LIMIT = 4_000
_NEAR = 150  # how far a side question, such as which table is indexed, is followed
_PATH = 6
_DEPTH = 14
ELEMENT = ("elem", None)


@dataclass(frozen=True, eq=False, slots=True)
class Frame:
    """One call that the demand went into: `call` in `caller` runs `fn`."""

    fn: FunctionInfo
    call: ir.Call
    caller: Place
    outer: Frame | None
    bound: bool
    depth: int


@dataclass(frozen=True, slots=True)
class Bound:
    """The condition of an alternative, with the place and the calls in which it stands."""

    guard: Guard
    place: Place
    frame: Frame | None


@dataclass(frozen=True, slots=True)
class Demand:
    """A part of an expression, the calls around it, the conditions on the way, and the way itself."""

    place: Place
    path: Path = ()
    frame: Frame | None = None
    guards: tuple[Bound, ...] = ()
    trail: tuple[Step, ...] = ()

    @property
    def expr(self) -> ir.Expr:
        """The expression."""
        return self.place.expr

    @property
    def key(self) -> tuple[int, Path, int]:
        """What makes two demands the same."""
        return id(self.place.expr), self.path, id(self.frame)


@dataclass(frozen=True, slots=True)
class Answer:
    """`kind` is moved (the same value elsewhere), constant, construct, outside, arithmetic, parameter, composite, function, cycle or unknown.

    Where the value is moved, it is one of `demands`; otherwise these are the parts it is made of.
    """

    kind: str
    demands: tuple[Demand, ...] = ()


class Origins:
    """Steps backwards over a finished analysis."""

    def __init__(self, flow: Flow) -> None:
        self.flow = flow
        self.analysis = flow.analysis
        self._reaching: dict[object, Reaching] = {}
        self._frames: dict[tuple[int, int, int], Frame] = {}
        self._values: dict[tuple[int, FunctionInfo | ModuleInfo], Values] = {}
        self._returns: dict[FunctionInfo, list[ir.Return | ir.Yield]] = {}
        self._asked: set[int] = set()
        self.made: list[ir.Node] = []  # what a step makes stays alive: its identity stands for it
        self.only: Callable[[FunctionInfo], bool] | None = None  # restricts the callers that a parameter leads to

    # -- facts about places

    def reaching(self, place: Place) -> Reaching:
        """The definitions of the body around a place."""
        owner = place.fn if place.fn is not None else place.module
        found = self._reaching.get(owner)
        if found is None:
            body, params = (place.fn.node.body, place.fn.node.params) if place.fn is not None else (place.module.tree.body, [])
            found = self._reaching[owner] = Reaching(body, params).run()
        return found

    def values(self, place: Place) -> Values:
        """The abstract values of an expression: its types, functions and classes."""
        key = (id(place.expr), place.fn if place.fn is not None else place.module)
        found = self._values.get(key)
        if found is None:
            unit = Unit(place.module, place.fn, hot=False, settled=True)
            scope = place.fn.scope if place.fn is not None else place.module.scope
            found = self._values[key] = _Silent(self.analysis, unit).eval(place.expr, scope)
        return found

    def statement_guards(self, place: Place, node: ir.Node, frame: Frame | None) -> tuple[Bound, ...]:
        """The conditions of a statement."""
        return tuple(Bound(g, place, frame) for g in self.reaching(place).guards.get(id(node), ()))

    def targets(self, place: Place) -> list[tuple[FunctionInfo, bool]]:
        """The packages' functions that a call runs, each with whether its first parameter is the receiver."""
        out: dict[FunctionInfo, bool] = {}
        interp = None
        for callee in self.flow.callees(place):
            if isinstance(callee, Func) and not callee.weak:
                out[callee.fn] = callee.bound
            elif isinstance(callee, Inst):
                interp = interp or _Silent(self.analysis, Unit(place.module, place.fn, hot=False, settled=True))
                out.update({fn: True for fn, takes in lookup.call_targets(interp, callee) if takes})
        return list(out.items())

    def classes(self, place: Place) -> list[ClassInfo]:
        """The packages' classes that a call constructs."""
        return [c.cls for c in self.flow.callees(place) if isinstance(c, Cls)]

    # -- walking

    def walk(self, start: Demand, visit: Callable[[Demand, Answer], bool | Iterable[Demand]], limit: int = _LIMIT,
             *, apart: bool = False) -> bool:  # fmt: skip
        """Go back from `start`; `visit` says whether to follow an answer's demands, or which. False where the way was too long.

        With `apart`, what is reached under different conditions is visited for each of them.
        """
        pending = [start]
        seen: set[object] = {start.key}
        while pending:
            demand = pending.pop()
            answer = self.step(demand)
            chosen = visit(demand, answer)
            for following in answer.demands if chosen is True else chosen or ():
                key = (*following.key, frozenset(following.guards)) if apart else following.key
                if key not in seen:
                    seen.add(key)
                    pending.append(following)
            if len(seen) > limit:
                return False
        return True

    def step(self, demand: Demand) -> Answer:
        """What the demanded value rests on."""
        handler = _STEPS.get(type(demand.expr))
        if handler is None or len(demand.path) > _PATH:
            return Answer("unknown")
        return handler(self, demand, demand.expr)

    def _to(self, demand: Demand, expr: ir.Expr, path: Path, guards: Guards = ()) -> Demand:
        bound = tuple(Bound(g, demand.place, demand.frame) for g in guards)
        return Demand(demand.place.at(expr), path, demand.frame, demand.guards + bound, demand.trail)

    def _at(self, demand: Demand, place: Place, path: Path, frame: Frame | None, guards: tuple[Bound, ...] = ()) -> Demand:
        step = place.step()
        trail = demand.trail if demand.trail and demand.trail[-1] == step else (*demand.trail, step)
        return Demand(place, path, frame, demand.guards + guards, trail)

    # -- names

    def _name(self, demand: Demand, expr: ir.Name) -> Answer:
        reaching = self.reaching(demand.place)
        env = reaching.envs.get(id(expr))
        name, path = expr.id, demand.path
        if env is not None:
            stored = self._stored(demand, env, name, path)
            if stored is not None:
                return stored
            found = env.get(name)
            if found is not None:
                return self._with_outer(demand, self._alternatives(demand, found, path, name), expr)
        return self._with_outer(demand, self._free(demand, expr), expr)

    def _with_outer(self, demand: Demand, answer: Answer, expr: ir.Name) -> Answer:
        # What functions that declare the name global or nonlocal may have bound it to meanwhile.
        scope = demand.place.fn.scope if demand.place.fn is not None else demand.place.module.scope
        found = lookup_scope(scope, expr.id)
        places = self.flow.outer_writes(found, expr.id) if found is not None else []
        places = [p for p in places if p.fn is not demand.place.fn]
        if not places:
            return answer
        moved = tuple(self._at(demand, p, demand.path, None) for p in places)
        return Answer("moved" if answer.kind in ("moved", "outside", "unknown") else answer.kind, answer.demands + moved)

    def _stored(self, demand: Demand, env: dict[str, Alternatives], base: str, path: Path) -> Answer | None:
        # What was stored under an attribute or a key of this name, the longest first.
        text, keys = base, []
        for step in path:
            text += step_text(step)
            keys.append(text)
        for length in range(len(keys), 0, -1):
            found = env.get(keys[length - 1])
            if found is not None:
                return self._alternatives(demand, found, path[length:], base, path)
        if path and path[0][0] in ("elem", "item"):
            starred = env.get(f"{base}[*]")
            if starred is not None:
                answer = self._alternatives(demand, starred, path[1:], base, path)
                whole = env.get(base)
                own = self._alternatives(demand, whole, path, base).demands if whole is not None else ()
                return Answer("moved", answer.demands + own)
            if path[0] == ELEMENT:
                inside = [k for k in env if k.startswith(f"{base}[") and k.count("[") == base.count("[") + 1 and k.endswith("]")]
                parts = tuple(d for k in inside for d in self._alternatives(demand, env[k], path[1:], base, path).demands)
                whole = env.get(base)
                own = self._alternatives(demand, whole, path, base).demands if whole is not None else ()
                return Answer("moved", parts + own) if parts else None
        return None

    def _alternatives(self, demand: Demand, found: Alternatives, path: Path, base: str, full: Path | None = None) -> Answer:
        out: list[Demand] = []
        kinds: set[str] = set()
        for definition, guards in found.items():
            if len(found) > 1 and any(_says_none(g, base, definition) for g in guards):
                continue
            bound = tuple(Bound(g, demand.place, demand.frame) for g in guards)
            if definition is _BASE:
                whole = self.reaching(demand.place).envs[id(demand.expr)].get(base)
                narrowed = replace(demand, guards=demand.guards + bound)
                if whole is not None:
                    out += self._alternatives(narrowed, whole, full or path, base).demands
                continue
            if definition.kind == "value" and definition.expr is not None:
                place = demand.place.at(definition.expr)
                out.append(self._at(demand, place, definition.path + path, demand.frame, bound))
            elif definition.kind == "param":
                answer = self._parameter(replace(demand, guards=demand.guards + bound), definition, path)
                out += answer.demands
                kinds.add(answer.kind)
            elif definition.kind == "import":
                answer = self._module_level(demand, demand.place.module, definition.name, path)
                out += answer.demands
                kinds.add(answer.kind)
            else:
                kinds.add("function" if definition.kind == "function" else "unknown")
        kinds.discard("moved")
        if out and not kinds:
            return Answer("moved", tuple(out))
        if out:
            # Some alternatives end here: they are kept as what they are beside the others.
            return Answer("mixed-" + sorted(kinds)[-1], tuple(out))
        return Answer(sorted(kinds)[-1] if kinds else "unknown")

    def _free(self, demand: Demand, expr: ir.Name) -> Answer:
        scope = demand.place.fn.scope if demand.place.fn is not None else demand.place.module.scope
        found = lookup_scope(scope, expr.id)
        owner = found.function if found is not None else None
        if owner is not None and found is not None and found.kind == "function":
            # A variable of an enclosing function: any of its bindings.
            place = Place(expr, owner.module, owner)
            frame = demand.frame
            while frame is not None and frame.fn is not owner:
                frame = frame.outer
            reaching = self.reaching(place)
            defs = {d: () for d in reaching.every.get(expr.id, []) if d.kind != "made"}
            stored = [d for name, ds in reaching.every.items() for d in ds if demand.path and name == expr.id + step_text(demand.path[0])]
            moved = replace(demand, place=place, frame=frame)
            out = [self._at(moved, place.at(d.expr), d.path + demand.path[1:], frame) for d in stored if d.expr is not None]
            answer = self._alternatives(moved, defs, demand.path, expr.id) if defs else Answer("unknown")
            return Answer(answer.kind, answer.demands + tuple(out))
        return self._module_level(demand, demand.place.module, expr.id, demand.path)

    def _module_level(self, demand: Demand, module: ModuleInfo, name: str, path: Path) -> Answer:
        found = self.flow.module_name(module, name)
        if found:
            return Answer("moved", tuple(self._at(demand, p, path, None) for p in found))
        values = self.values(demand.place)
        if any(isinstance(v, (Func, Cls, Mod)) for v in values):
            return Answer("function")
        return Answer("outside")

    def _parameter(self, demand: Demand, definition: Def, path: Path) -> Answer:
        fn = demand.place.fn
        assert fn is not None
        param = definition.node
        assert isinstance(param, ir.Param)
        if demand.frame is not None and demand.frame.fn is fn:
            return self._argument(demand, fn, param, path, demand.frame)
        if fn.cls is not None and fn.node.params and fn.node.params[0] is param and "staticmethod" not in fn.flags:
            return self.field(demand, fn.cls, path)
        out: list[Demand] = []
        missing = False
        sites = self.flow.sites(fn)
        for call, unit, bound in sites:
            if self.only is not None and unit.fn is not None and not self.only(unit.fn):
                continue
            caller = Place(call, unit.module, unit.fn)
            answer = self._argument(demand, fn, param, path, Frame(fn, call, caller, None, bound, 1))
            out += answer.demands
            missing = missing or answer.kind != "moved"
        if not out:
            typed = [v.cls for v in self.values(demand.place) if isinstance(v, Inst)] if path and path[0][0] == "field" else []
            for cls in typed:
                out += self.field(demand, cls, path).demands
        if not out and param.default is not None:
            out.append(self._at(demand, Place(param.default, fn.module, fn.enclosing), path, None))
        if not out:
            return Answer("parameter")
        return Answer("mixed-unknown" if missing else "moved", tuple(out))

    def _argument(self, demand: Demand, fn: FunctionInfo, param: ir.Param, path: Path, frame: Frame) -> Answer:
        caller, outer = frame.caller, frame.outer
        positional = fn.positional
        call = frame.call
        if frame.bound and positional and positional[0] is param:
            if isinstance(call.func, ir.Attribute) and not self.classes(caller):
                if not any(isinstance(v, (Cls, SuperOf, Mod)) for v in self.flow.receivers(caller.at(call.func))):
                    return Answer("moved", (self._at(demand, caller.at(call.func.value), path, outer),))
            elif not self.classes(caller):
                return Answer("moved", (self._at(demand, caller.at(call.func), path, outer),))
            return self.field(demand, fn.cls, path) if fn.cls is not None else Answer("unknown")
        given = list(self.passed(caller, fn, param, bound=frame.bound, path=path, frame=outer))
        if given:
            out = []
            for place, inner, at in given:
                out.append(self._at(demand, place, inner, at))
            return Answer("moved", tuple(out))
        if param.default is not None:
            return Answer("moved", (self._at(demand, Place(param.default, fn.module, fn.enclosing), path, None),))
        return Answer("unknown")

    def passed(
        self, caller: Place, fn: FunctionInfo, param: ir.Param, *, bound: bool, path: Path = (), frame: Frame | None = None
    ) -> Iterator[tuple[Place, Path, Frame | None]]:
        """What a call passes for a parameter: directly, by `*` and `**`, or bound before by `partial`."""
        call = caller.expr
        assert isinstance(call, ir.Call)
        names = [p.name for p in fn.positional][1 if bound else 0 :]
        early = self._partial(caller, frame) if bound is False or not isinstance(call.func, ir.Attribute) else []
        plain: list[tuple[Place, Path, Frame | None]] = []
        starred: tuple[Place, int] | None = None
        keywords: dict[str, tuple[Place, Path, Frame | None]] = {}
        spread: list[tuple[Place, Frame | None]] = []
        for site, args, at in [*early, (caller, call.args, frame)]:
            for arg in args:
                place = site.at(arg.value)
                if arg.star == "**":
                    spread.append((place, at))
                elif arg.star == "*":
                    starred = (place, len(plain))
                elif arg.keyword is not None:
                    keywords[arg.keyword] = (place, path, at)
                elif starred is None:
                    plain.append((place, path, at))
        if param.kind == "**":
            own = {p.name for p in fn.node.params}
            if path and path[0][0] == "item":
                if path[0][1] in keywords and path[0][1] not in own:
                    place, _, at = keywords[str(path[0][1])]
                    yield place, path[1:], at
                    return
            yield from ((p, path, at) for p, at in spread)
            return
        if param.kind == "*":
            rest = plain[len(names) :]
            if path and path[0][0] == "item" and isinstance(path[0][1], int):
                yield from ((p, path[1:], at) for p, _, at in rest[path[0][1] : path[0][1] + 1])
            else:
                yield from ((p, path[1:], at) for p, _, at in rest)
            if starred is not None:
                yield starred[0], path, frame
            return
        if param.name in keywords:
            yield keywords[param.name]
        elif param.name in names and names.index(param.name) < len(plain):
            yield plain[names.index(param.name)]
        elif starred is not None and param.name in names:
            yield starred[0], (("item", names.index(param.name) - starred[1]), *path), frame
        else:
            yield from ((p, (("item", param.name), *path), at) for p, at in spread)

    def _partial(self, caller: Place, frame: Frame | None) -> list[tuple[Place, list[ir.Arg], Frame | None]]:
        # The arguments that `functools.partial` has bound to what is called.
        call = caller.expr
        assert isinstance(call, ir.Call)
        out: list[tuple[Place, list[ir.Arg], Frame | None]] = []
        if isinstance(call.func, ir.Call) and ir.last_name(call.func.func) in ("partial", "partialmethod"):
            out.append((caller.at(call.func), call.func.args[1:], frame))
        elif isinstance(call.func, (ir.Name, ir.Attribute)):
            found: list[tuple[Place, list[ir.Arg], Frame | None]] = []

            def visit(demand: Demand, answer: Answer) -> bool:
                expr = demand.expr
                if isinstance(expr, ir.Call) and ir.last_name(expr.func) in ("partial", "partialmethod"):
                    found.append((demand.place, expr.args[1:], demand.frame))
                    return False
                return answer.kind in ("moved", "mixed-unknown") and len(found) < 4

            if not any(isinstance(v, Func) and v.fn.node.name == ir.last_name(call.func) for v in self.flow.callees(caller)):
                self.walk(Demand(caller.at(call.func), (), frame), visit, _NEAR)
            out += found[:1]
        return out

    # -- attributes, items, fields

    def _attribute(self, demand: Demand, expr: ir.Attribute) -> Answer:
        receivers = self.flow.receivers(demand.place) or self.values(demand.place.at(expr.value))
        for receiver in receivers:
            if isinstance(receiver, Mod):
                return self._module_level(demand, receiver.module, expr.attr, demand.path)
        getters = [g for r in receivers if isinstance(r, (Inst, SuperOf)) for g in self._getters(r.cls, expr.attr)]
        if getters:
            out = []
            for getter in getters:
                out += self._returned(demand, getter, None)
            return Answer("moved", tuple(out))
        if any(isinstance(r, Cls) for r in receivers):
            found = [p for r in receivers if isinstance(r, Cls) for p in self.flow.field(r.cls, expr.attr)]
            if found:
                return Answer("moved", tuple(self._at(demand, p, demand.path, None) for p in found))
        return Answer("moved", (self._to(demand, expr.value, (("field", expr.attr), *demand.path)),))

    def _getters(self, cls: ClassInfo, name: str) -> list[FunctionInfo]:
        out = []
        for owner in self.analysis.mro_cache.get(cls) or [cls]:
            getter = owner.module.functions.get(f"{owner.qualname}.{name}")
            if getter is not None and "property" in getter.flags:
                out.append(getter)
                break
        return out

    def field(self, demand: Demand, cls: ClassInfo, path: Path) -> Answer:
        """A field of an instance of which only the class is known: anything that is ever stored there."""
        if not path or path[0][0] != "field":
            return Answer("parameter")
        name = str(path[0][1])
        getters = self._getters(cls, name)
        if getters:
            return Answer("moved", tuple(d for g in getters for d in self._returned(replace(demand, path=path[1:]), g, None)))
        found = self.flow.field(cls, name)
        rest = path[1:]
        put = [p for key, p in self.flow.contents(cls, name) if rest and rest[0][0] != "field" and key in (None, rest[0][1])]
        if put or (rest and rest[0] == ELEMENT):
            put = put or [p for _, p in self.flow.contents(cls, name)]
            found = [p for p in found if not (put and _empty(p.expr))]
        if not found and not put:
            return Answer("parameter")
        return Answer("moved", (*(self._at(demand, p, rest, None) for p in found), *(self._at(demand, p, rest[1:], None) for p in put)))

    def _subscript(self, demand: Demand, expr: ir.Subscript) -> Answer:
        index = expr.index
        if isinstance(index, ir.Slice):
            return Answer("moved", (self._to(demand, expr.value, demand.path),))
        if isinstance(index, ir.Constant):
            return Answer("moved", (self._to(demand, expr.value, (("item", index.value), *demand.path)),))
        if isinstance(index, ir.UnaryOp) and isinstance(index.operand, ir.Constant) and isinstance(index.operand.value, int):
            return Answer("moved", (self._to(demand, expr.value, (("item", -index.operand.value), *demand.path)),))
        chosen = self._chosen(demand, expr)
        if chosen is not None:
            return Answer("moved", tuple(chosen))
        deeper = demand.path if demand.path[:2] == (ELEMENT, ELEMENT) else (ELEMENT, *demand.path)
        return Answer("moved", (self._to(demand, expr.value, deeper),))

    def _chosen(self, demand: Demand, expr: ir.Subscript) -> list[Demand] | None:
        # `table[key]` of a display, or `values[a if test else b]`: each entry under its key's condition.
        if id(expr) in self._asked or len(self._asked) > 4:
            return None
        self._asked.add(id(expr))
        try:
            return self._entries(demand, expr)
        finally:
            self._asked.discard(id(expr))

    def _entries(self, demand: Demand, expr: ir.Subscript) -> list[Demand] | None:
        if isinstance(expr.index, ir.IfExp):
            out = []
            for branch, polarity in ((expr.index.body, True), (expr.index.orelse, False)):
                if not isinstance(branch, ir.Constant):
                    return None
                guard = Guard("if", expr.index.test, polarity)
                out.append(self._to(demand, expr.value, (("item", branch.value), *demand.path), (guard,)))
            return out
        keys = self.constants(replace(demand, place=demand.place.at(expr.index), path=()))
        if not keys:
            return self._display(demand, expr)
        return [
            replace(self._to(demand, expr.value, (("item", key), *demand.path)), guards=demand.guards + guards) for key, guards, _ in keys
        ]

    def _display(self, demand: Demand, expr: ir.Subscript) -> list[Demand] | None:
        tables: list[Demand] = []

        def visit(found: Demand, answer: Answer) -> bool:
            if isinstance(found.expr, ir.Dict) and not found.path:
                tables.append(found)
                return False
            return answer.kind == "moved" and len(tables) < 4

        self.walk(Demand(demand.place.at(expr.value), (), demand.frame), visit, _NEAR)
        if not tables:
            return None
        out = []
        for table in tables:
            display = table.expr
            assert isinstance(display, ir.Dict)
            for key, value in zip(display.keys, display.values, strict=True):
                chosen = key.value if isinstance(key, ir.Constant) else ir.dotted(key) if key is not None else None
                bound = Bound(Guard("case", expr.index, key=(chosen,)), demand.place, demand.frame)
                out.append(self._at(demand, table.place.at(value), demand.path, table.frame, (bound,)))
        return out

    def constants(self, demand: Demand) -> list[tuple[object, tuple[Bound, ...], Demand]]:
        """The constants that a value may be, each with its conditions; empty where it may be anything else."""
        out: list[tuple[object, tuple[Bound, ...], Demand]] = []
        complete = True

        def visit(found: Demand, answer: Answer) -> bool:
            nonlocal complete
            if isinstance(found.expr, ir.Constant) and not found.path:
                out.append((found.expr.value, found.guards[len(demand.guards) :], found))
                return False
            if answer.kind != "moved":
                complete = False
            return complete and len(out) < 20

        finished = self.walk(demand, visit, _NEAR)
        return out if complete and finished else []

    # -- calls

    def _call(self, demand: Demand, expr: ir.Call) -> Answer:
        place, path = demand.place, demand.path
        targets = self.targets(place)
        out: list[Demand] = []
        chosen = self._chosen_functions(demand, expr) if len(targets) > 1 else {}
        for fn, bound in targets:
            frame = self.enter(fn, expr, place, demand.frame, bound)
            if frame is not None:
                out += self._returned(replace(demand, guards=demand.guards + chosen.get(fn, ())), fn, frame)
            elif self._turns_back(fn, demand.frame):
                return Answer("cycle")
        classes = self.classes(place)
        for cls in classes:
            if not path or path[0][0] == "elem":
                return Answer("construct", self._parts(demand, expr))
            out += self._constructed(demand, expr, cls)
        if out:
            return Answer("moved", tuple(out))
        if targets or classes:
            return Answer("unknown", self._parts(demand, expr))
        return self._outside(demand, expr)

    def _chosen_functions(self, demand: Demand, expr: ir.Call) -> dict[FunctionInfo, tuple[Bound, ...]]:
        # `table[key](...)`: the condition under which each function of the table is the one that is called.
        out: dict[FunctionInfo, tuple[Bound, ...]] = {}

        def visit(found: Demand, answer: Answer) -> bool:
            if isinstance(found.expr, ir.Lambda):
                functions = [self.analysis.project.function_of.get(found.expr.function)]
            else:
                functions = [v.fn for v in self.values(found.place) if isinstance(v, Func)] if answer.kind == "function" else []
            out.update({fn: found.guards for fn in functions if fn is not None})
            return answer.kind == "moved" and len(out) < 20

        self.walk(Demand(demand.place.at(expr.func), (), demand.frame), visit, _NEAR)
        return out

    def enter(self, fn: FunctionInfo, call: ir.Call, caller: Place, outer: Frame | None, bound: bool) -> Frame | None:
        """The frame of a call, or None where the chain is too long or turns back."""
        depth = outer.depth + 1 if outer is not None else 1
        if depth > _DEPTH or self._turns_back(fn, outer):
            return None
        key = (id(call), id(fn), id(outer))
        if key not in self._frames:
            self._frames[key] = Frame(fn, call, caller, outer, bound, depth)
        return self._frames[key]

    def _turns_back(self, fn: FunctionInfo, frame: Frame | None) -> bool:
        inside = 0
        while frame is not None:
            inside += frame.fn is fn
            frame = frame.outer
        return inside > 1

    def _returned(self, demand: Demand, fn: FunctionInfo, frame: Frame | None) -> list[Demand]:
        found = self._returns.get(fn)
        if found is None:
            found = self._returns[fn] = [n for n in ir.walk_own(fn.node.body) if isinstance(n, (ir.Return, ir.Yield))]
        out = []
        for node in found:
            if node.value is not None:
                path = demand.path
                if isinstance(node, ir.Yield) and not node.delegate and path and path[0][0] in ("elem", "item"):
                    path = path[1:]
                place = Place(node.value, fn.module, fn)
                guards = self.statement_guards(place, node, frame) if isinstance(node, ir.Return) else ()
                out.append(self._at(demand, place, path, frame, guards))
        return out

    def _constructed(self, demand: Demand, call: ir.Call, cls: ClassInfo) -> list[Demand]:
        name, rest = demand.path[0][1], demand.path[1:]
        getters = self._getters(cls, str(name))
        if getters:
            return [d for g in getters for d in self._returned(replace(demand, path=rest), g, None)]
        order = self.analysis.mro_cache.get(cls) or [cls]
        for owner in order:
            init = owner.module.functions.get(f"{owner.qualname}.__init__")
            if init is not None:
                frame = self.enter(init, call, demand.place, demand.frame, bound=True)
                stored = self._stored_by(init, str(name))
                if frame is not None and stored:
                    return [self._at(demand, p, rest, frame) for p in stored]
                break
        fields = [f for owner in reversed(order) for f in field_names(owner)]
        if isinstance(name, int) and name < len(fields):
            name = fields[name]
        for arg in call.args:
            if arg.keyword == name:
                return [self._to(demand, arg.value, rest)]
            if arg.star == "**":
                return [self._to(demand, arg.value, (("item", name), *rest))]
        plain = [a for a in call.args if a.keyword is None]
        if name in fields and fields.index(str(name)) < len(plain) and not any(a.star for a in plain):
            return [self._to(demand, plain[fields.index(str(name))].value, rest)]
        if name in fields and plain and plain[0].star == "*":
            return [self._to(demand, plain[0].value, (("item", fields.index(str(name))), *rest))]
        return [self._at(demand, p, rest, None) for p in self.flow.field(cls, str(name))]

    def _stored_by(self, init: FunctionInfo, name: str) -> list[Place]:
        own = init.node.params[0].name if init.node.params else "self"
        return [
            Place(node.value, init.module, init)
            for node in ir.walk_own(init.node.body)
            if isinstance(node, ir.Assign) and node.value is not None
            for target in node.targets
            if isinstance(target, ir.Attribute) and target.attr == name and ir.last_name(target.value) == own
        ]

    def _parts(self, demand: Demand, expr: ir.Call) -> tuple[Demand, ...]:
        parts = [self._to(demand, a.value, ()) for a in expr.args]
        if isinstance(expr.func, ir.Attribute):
            parts.insert(0, self._to(demand, expr.func.value, ()))
        return tuple(parts)

    def _outside(self, demand: Demand, expr: ir.Call) -> Answer:
        from audits.static.outside import through  # noqa: PLC0415 - the two describe each other

        moved = through(self, demand, expr)
        return Answer("moved", tuple(moved)) if moved else Answer("outside", self._parts(demand, expr))

    # -- displays and operators

    def _constant(self, demand: Demand, expr: ir.Constant) -> Answer:
        return Answer("constant" if not demand.path else "unknown")

    def _sequence(self, demand: Demand, expr: ir.Sequence) -> Answer:
        if not demand.path:
            return Answer("composite", tuple(self._to(demand, i, ()) for i in expr.items))
        (kind, key), rest = demand.path[0], demand.path[1:]
        plain = not any(isinstance(i, ir.Starred) for i in expr.items)
        if kind == "item" and isinstance(key, int) and plain:
            return Answer("moved", (self._to(demand, expr.items[key], rest),)) if -len(expr.items) <= key < len(expr.items) else Answer("unknown")
        return Answer("moved", tuple(
            self._to(demand, i.value, demand.path) if isinstance(i, ir.Starred) else self._to(demand, i, rest) for i in expr.items
        ))  # fmt: skip

    def _dict(self, demand: Demand, expr: ir.Dict) -> Answer:
        pairs = list(zip(expr.keys, expr.values, strict=True))
        if not demand.path:
            return Answer("composite", tuple(self._to(demand, v, ()) for _, v in pairs))
        (kind, wanted), rest = demand.path[0], demand.path[1:]
        if kind in ("item", "field"):
            out: list[Demand] = []
            for key, value in reversed(pairs):
                if key is None:
                    spread = self._to(demand, value, demand.path, (Guard("default", value),) if out else ())
                    if self.has_item(spread) is False:
                        continue
                    out.append(replace(spread, guards=(*spread.guards, Bound(Guard("default", value), demand.place, demand.frame))))
                elif isinstance(key, ir.Constant) and key.value == wanted:
                    missing = tuple(Guard("default", v, polarity=False) for k, v in pairs if k is None) if out else ()
                    return Answer("moved", (*out, self._to(demand, value, rest, missing)))
                elif not isinstance(key, ir.Constant):
                    out.append(self._to(demand, value, rest))
            return Answer("moved", tuple(out)) if out else Answer("unknown")
        return Answer("moved", tuple(self._to(demand, v, demand.path if k is None else rest) for k, v in pairs))

    def has_item(self, demand: Demand) -> bool | None:
        """Whether a mapping surely has, or surely lacks, the first key of the path; None where it can't be told."""
        found: list[bool | None] = []

        def visit(current: Demand, answer: Answer) -> bool:
            if isinstance(current.expr, ir.Dict) and not current.path:
                keys = current.expr.keys
                known = all(isinstance(k, ir.Constant) for k in keys)
                held = any(isinstance(k, ir.Constant) and k.value == demand.path[0][1] for k in keys)
                found.append(True if held else False if known else None)
                return False
            if answer.kind != "moved":
                found.append(None)
            return answer.kind == "moved"

        self.walk(replace(demand, path=()), visit, _NEAR)
        return found[0] if found and all(f is found[0] for f in found) else None

    def _ifexp(self, demand: Demand, expr: ir.IfExp) -> Answer:
        body = self._to(demand, expr.body, demand.path, (Guard("if", expr.test),))
        return Answer("moved", (body, self._to(demand, expr.orelse, demand.path, (Guard("if", expr.test, polarity=False),))))

    def _boolop(self, demand: Demand, expr: ir.BoolOp) -> Answer:
        out = []
        for i, value in enumerate(expr.values):
            guards = tuple(Guard("or" if expr.op == "or" else "if", v) for v in expr.values[:i])
            out.append(self._to(demand, value, demand.path, guards))
        return Answer("moved", tuple(out if expr.op == "or" else out[-1:]))

    def _binop(self, demand: Demand, expr: ir.BinOp) -> Answer:
        if expr.op == "|" and demand.path:
            return Answer("moved", (self._to(demand, expr.right, demand.path), self._to(demand, expr.left, demand.path)))
        if expr.op == "+" and demand.path:
            return Answer("moved", (self._to(demand, expr.left, demand.path), self._to(demand, expr.right, demand.path)))
        return Answer("arithmetic", (self._to(demand, expr.left, ()), self._to(demand, expr.right, ())))

    def _inner(self, demand: Demand, expr: ir.NamedExpr | ir.Await | ir.Starred) -> Answer:
        return Answer("moved", (self._to(demand, expr.value, demand.path),))

    def _comprehension(self, demand: Demand, expr: ir.Comprehension) -> Answer:
        if not demand.path:
            return Answer("composite", (self._to(demand, expr.value or expr.element, ()),))
        kept = tuple(Guard("if", test) for clause in expr.clauses for test in clause.ifs)
        return Answer("moved", (self._to(demand, expr.value or expr.element, demand.path[1:], kept),))

    def _unary(self, demand: Demand, expr: ir.UnaryOp) -> Answer:
        if isinstance(expr.operand, ir.Constant) and not demand.path:
            return Answer("constant")
        return Answer("arithmetic", (self._to(demand, expr.operand, ()),))

    def _compare(self, demand: Demand, expr: ir.Compare) -> Answer:
        return Answer("arithmetic", tuple(self._to(demand, e, ()) for e in (expr.left, *expr.comparators)))

    def _lambda(self, demand: Demand, expr: ir.Lambda) -> Answer:
        return Answer("function")


def _says_none(guard: Guard, name: str, definition: Def) -> bool:
    # Where `name is None` holds, the value that was tested is no value that could flow on.
    test = guard.test
    if definition.node is not None and (definition.node.line, definition.node.column) > (test.line, test.column):
        return False
    if guard.kind != "if" or not isinstance(test, ir.Compare) or len(test.ops) != 1 or ir.dotted(test.left) != name:
        return False
    none = isinstance(test.comparators[0], ir.Constant) and test.comparators[0].value is None
    return none and guard.polarity == (test.ops[0] in ("is", "=="))


def _empty(expr: ir.Expr) -> bool:
    if isinstance(expr, ir.Call):
        return ir.last_name(expr.func) in ("dict", "list", "set", "OrderedDict", "defaultdict", "deque") and not expr.args
    return (isinstance(expr, ir.Dict) and not expr.keys) or (isinstance(expr, ir.Sequence) and not expr.items)


def field_names(cls: ClassInfo) -> list[str]:
    """The annotated fields of a class body, in order: what a dataclass's constructor takes."""
    return [
        s.targets[0].id for s in cls.node.body
        if isinstance(s, ir.Assign) and s.annotation is not None and isinstance(s.targets[0], ir.Name)
    ]  # fmt: skip


def is_infinite(expr: ir.Expr) -> bool:
    """Whether an expression is infinity or not a number, however it is spelled."""
    if isinstance(expr, ir.Call) and ir.last_name(expr.func) == "float" and expr.args:
        inner = expr.args[0].value
        return isinstance(inner, ir.Constant) and str(inner.value).strip("+").lower() in ("inf", "infinity", "nan")
    return isinstance(expr, (ir.Name, ir.Attribute)) and ir.last_name(expr) in ("inf", "infty", "Infinity", "nan")


_STEPS: dict[type[ir.Expr], Callable[..., Answer]] = {
    ir.Name: Origins._name, ir.Attribute: Origins._attribute, ir.Subscript: Origins._subscript, ir.Call: Origins._call,
    ir.Constant: Origins._constant, ir.Sequence: Origins._sequence, ir.Dict: Origins._dict, ir.IfExp: Origins._ifexp,
    ir.BoolOp: Origins._boolop, ir.BinOp: Origins._binop, ir.NamedExpr: Origins._inner, ir.Await: Origins._inner,
    ir.Starred: Origins._inner, ir.Comprehension: Origins._comprehension, ir.UnaryOp: Origins._unary,
    ir.Compare: Origins._compare, ir.Lambda: Origins._lambda,
}  # fmt: skip

__all__ = ["ELEMENT", "Answer", "Bound", "Demand", "Frame", "Origins", "access", "field_names"]
