"""Facts about places, and the walk back from a value; the steps themselves are in `origins`."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

from audits.static.analysis import lookup
from audits.static.analysis.classes import meta_calls
from audits.static.analysis.engine import Unit
from audits.static.analysis.interp import _Silent
from audits.static.analysis.values import Cls, Func, Inst, Values
from audits.static.dataflow.demands import Answer, Bound, Demand, Frame
from audits.static.dataflow.flow import Flow, Place
from audits.static.dataflow.primary_values import score_values
from audits.static.dataflow.reaching import Guards, Path, Reaching, step_text
from audits.static.source import ir
from audits.static.source.project import ClassInfo, FunctionInfo, ModuleInfo

LIMIT = 4_000
NEAR = 150  # how far a side question, such as which table is indexed, is followed
DEPTH = 14
PATH = 6  # how many parts of parts are told apart


Guarded = tuple[Bound, ...]


def _joined(guards: tuple[Bound, ...], further: tuple[Bound, ...]) -> tuple[Bound, ...]:
    # A loop leads through the same conditions again and again.
    return guards + tuple(b for b in further if b not in guards) if further else guards


def _is_full(fn: FunctionInfo, call: ir.Expr) -> bool:
    """Whether a call passes every parameter of a plain function itself, as to one that a descriptor hands out: there is no receiver."""
    if fn.cls is not None or not isinstance(call, ir.Call) or any(a.star for a in call.args):
        return False
    return len(call.args) == len(fn.node.params) and not any(p.kind in ("*", "**") for p in fn.node.params)


def _deepens(demand: Demand, seen: set[object]) -> bool:
    """Whether a loop such as `x = x[0]` leads back to an expression, only with a longer path each time."""
    if len(demand.path) <= PATH:
        return False
    expr, path, frame = demand.key
    return any((expr, path[start:], frame) in seen for start in range(1, len(path)))


def _merged(expr: ir.Expr) -> tuple[list[ir.Expr], list[ir.Expr]] | None:
    """The keys of a mapping that is made here, and the mappings that are merged into it; None for anything else."""
    if isinstance(expr, ir.Dict):
        pairs = list(zip(expr.keys, expr.values, strict=True))
        return [k for k, _ in pairs if k is not None], [v for k, v in pairs if k is None]
    if isinstance(expr, ir.BinOp) and expr.op == "|":
        return [], [expr.left, expr.right]
    if isinstance(expr, ir.Call) and ir.last_name(expr.func) in ("dict", "OrderedDict", "ChainMap"):
        named = [ir.Constant(a.line, a.column, a.end_line, a.end_column, a.keyword) for a in expr.args if a.keyword is not None]
        return list(named), [a.value for a in expr.args if a.keyword is None]
    return None


def _keywords(demand: Demand) -> list[ir.Arg] | None:
    """The arguments from which the `**` parameter of the function that was entered takes its items."""
    expr, frame = demand.expr, demand.frame
    if demand.path:
        return None
    if isinstance(expr, ir.Name) and frame is not None and frame.fn is demand.place.fn:
        if any(p.name == expr.id and p.kind == "**" for p in frame.fn.node.params):
            return [a for a in frame.call.args if a.keyword is not None or a.star == "**"]
    return None


class Backwards:
    """Definitions, types and callees of places, and the walk."""

    def __init__(self, flow: Flow) -> None:
        self.flow = flow
        self.analysis = flow.analysis
        self._reaching: dict[object, Reaching] = {}
        self._frames: dict[tuple[int, int, int], Frame] = {}
        self._values: dict[tuple[int, FunctionInfo | ModuleInfo], Values] = {}
        self._returns: dict[FunctionInfo, list[ir.Return | ir.Yield]] = {}
        self._asked: set[int] = set()
        self._meta: dict[ClassInfo, list[FunctionInfo]] = {}
        self._got: dict[tuple[int, int], ir.Call] = {}
        self._binding: set[int] = set()
        self._choosing: set[int] = set()
        self._scores: dict[str, frozenset[str]] = {}
        self.made: list[ir.Node] = []  # what a step makes stays alive: its identity stands for it
        self.only: Callable[[FunctionInfo], bool] | None = None  # restricts the callers that a parameter leads to

    def reaching(self, place: Place) -> Reaching:
        """The definitions of the body around a place."""
        owner = place.fn if place.fn is not None else place.module
        found = self._reaching.get(owner)
        if found is None:
            body, params = (place.fn.node.body, place.fn.node.params) if place.fn is not None else (place.module.tree.body, [])
            found = self._reaching[owner] = Reaching(body, params).run()
        return found

    def score_values(self, key: str) -> frozenset[str]:
        """The values of the configured primary that mean the score."""
        if key not in self._scores:
            self._scores[key] = score_values(self.analysis.project, key)
        return self._scores[key]

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
        func = place.expr.func if isinstance(place.expr, ir.Call) else None
        read = func.attr if isinstance(func, ir.Attribute) and func.attr in lookup.CONTAINER_READS else ""
        for callee in self.flow.callees(place):
            if isinstance(callee, Func) and read and callee.fn.node.name != read:
                continue  # `table.get(key)` reads a function and runs none
            if isinstance(callee, Func) and not callee.weak:
                out[callee.fn] = callee.bound and not _is_full(callee.fn, place.expr)
            elif isinstance(callee, Inst):
                interp = interp or _Silent(self.analysis, Unit(place.module, place.fn, hot=False, settled=True))
                out.update({fn: True for fn, takes in lookup.call_targets(interp, callee) if takes})
                out.update(dict.fromkeys(self._described(callee.cls), False))
            elif isinstance(callee, Cls):
                out.update(dict.fromkeys(self._metacalls(callee.cls), True))
        if not out and isinstance(place.expr, ir.Call) and isinstance(place.expr.func, ir.Attribute):
            out = dict.fromkeys(self._below(place.expr.func, self.flow.receivers(place.at(place.expr.func))), True)
        if len(out) > 1:
            out = {fn: bound for fn, bound in out.items() if not (fn.node.decorators and self.flow.replacements(fn) & out.keys())}
        return list(out.items())

    def _below(self, func: ir.Attribute, receivers: Values) -> list[FunctionInfo]:
        # The methods of subclasses, where the class of the receiver has none of this name.
        out = []
        pending = [r.cls for r in receivers if isinstance(r, Inst)]
        seen = set(pending)
        while pending:
            for cls in self.analysis.subclasses.get(pending.pop(), set()) - seen:
                seen.add(cls)
                pending.append(cls)
                fn = cls.module.functions.get(f"{cls.qualname}.{func.attr}")
                out += [fn] if fn is not None and not fn.flags else []
        return out

    def _metacalls(self, cls: ClassInfo) -> list[FunctionInfo]:
        # What a metaclass runs where the class is called.
        if cls not in self._meta:
            interp = _Silent(self.analysis, Unit(cls.module, None, hot=False, settled=True))
            self._meta[cls] = meta_calls(interp, cls)
        return self._meta[cls]

    def _described(self, cls: ClassInfo) -> list[FunctionInfo]:
        # What the attribute gives whose descriptor an object is.
        for owner in self.analysis.mro_cache.get(cls) or [cls]:
            getter = owner.module.functions.get(f"{owner.qualname}.__get__")
            if getter is not None:
                return [fn for r in self.flow.returns(getter) for fn in self.functions(r)]
        return []

    def functions(self, place: Place) -> list[FunctionInfo]:
        """The packages' functions that an expression stands for."""
        if isinstance(place.expr, ir.Lambda):
            found = self.analysis.project.function_of.get(place.expr.function)
            return [found] if found is not None else []
        return [v.fn for v in self.values(place) if isinstance(v, Func) and not v.weak]

    def classes(self, place: Place) -> list[ClassInfo]:
        """The packages' classes that a call constructs."""
        return [c.cls for c in self.flow.callees(place) if isinstance(c, Cls) and not self._metacalls(c.cls)]

    def walk(self, start: Demand, visit: Callable[[Demand, Answer], bool | Iterable[Demand]], limit: int = LIMIT,
             *, apart: Callable[[Guarded], tuple[Guarded, object]] | None = None) -> bool:  # fmt: skip
        """Go back from `start`; `visit` says whether to follow an answer's demands, or which. False where the way was too long.

        With `apart`, what is reached under different conditions is visited for each of them. It reduces conditions to those that tell
        the asker anything, and says what they tell: an expression is visited once for each of these.
        """
        pending = [start]
        seen: set[object] = {start.key}
        while pending:
            demand = pending.pop()
            answer = self.step(demand) if not _deepens(demand, seen) else Answer("cycle")
            chosen = visit(demand, answer)
            for following in answer.demands if chosen is True else chosen or ():
                key: object = following.key
                if apart is not None:
                    guards, told = apart(following.guards)
                    following, key = replace(following, guards=guards), (*following.key, told)
                if key not in seen:
                    seen.add(key)
                    pending.append(following)
            if len(seen) > limit:
                return False
        return True

    def step(self, demand: Demand) -> Answer:
        """What the demanded value rests on."""
        raise NotImplementedError

    def to(self, demand: Demand, expr: ir.Expr, path: Path, guards: Guards = ()) -> Demand:
        """Part of another expression in the same place, under further conditions."""
        bound = tuple(Bound(g, demand.place, demand.frame) for g in guards)
        return Demand(demand.place.at(expr), path, demand.frame, _joined(demand.guards, bound), demand.trail)

    def at(self, demand: Demand, place: Place, path: Path, frame: Frame | None, guards: tuple[Bound, ...] = ()) -> Demand:
        """Part of an expression in another place: one more step of the way."""
        step = place.step()
        trail = demand.trail if demand.trail and demand.trail[-1] == step else (*demand.trail, step)
        return Demand(place, path, frame, _joined(demand.guards, guards), trail)

    def _getters(self, cls: ClassInfo, name: str) -> list[FunctionInfo]:
        out = []
        for owner in self.analysis.mro_cache.get(cls) or [cls]:
            getter = owner.module.functions.get(f"{owner.qualname}.{name}")
            if getter is not None and "property" in getter.flags:
                out.append(getter)
                break
        return out

    def got(self, demand: Demand, getter: FunctionInfo, owner: ir.Expr, path: Path) -> list[Demand]:
        """What a property returns for the object `owner`: a call of its function on that object."""
        key = (id(owner), id(getter))
        if key not in self._got:
            where = (owner.line, owner.column, owner.end_line, owner.end_column)
            self._got[key] = ir.Call(*where, ir.Attribute(*where, owner, getter.node.name), [])
        frame = self.enter(getter, self._got[key], demand.place, demand.frame, bound=True)
        return self._returned(replace(demand, path=path), getter, frame)

    def _turns_back(self, fn: FunctionInfo, frame: Frame | None) -> bool:
        inside = 0
        while frame is not None:
            inside += frame.fn is fn
            frame = frame.outer
        return inside > 1

    def enter(self, fn: FunctionInfo, call: ir.Call, caller: Place, outer: Frame | None, bound: bool) -> Frame | None:
        """The frame of a call, or None where the chain is too long or turns back."""
        depth = outer.depth + 1 if outer is not None else 1
        if depth > DEPTH or self._turns_back(fn, outer):
            return None
        key = (id(call), id(fn), id(outer))
        if key not in self._frames:
            self._frames[key] = Frame(fn, call, caller, outer, bound, depth)
        return self._frames[key]

    def _returned(self, demand: Demand, fn: FunctionInfo, frame: Frame | None) -> list[Demand]:
        found = self._returns.get(fn)
        if found is None:
            found = self._returns[fn] = [n for n in ir.walk_own(fn.node.body) if isinstance(n, (ir.Return, ir.Yield))]
        out = []
        for node in found:
            if node.value is not None:
                path = demand.path
                if isinstance(node, ir.Yield) and not node.delegate and path and path[0][0] in ("elem", "item", "enter"):
                    path = path[1:]
                place = Place(node.value, fn.module, fn)
                guards = self.statement_guards(place, node, frame) if isinstance(node, ir.Return) else ()
                out.append(self.at(demand, place, path, frame, guards))
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

        finished = self.walk(demand, visit, NEAR)
        return out if complete and finished else []

    def has_item(self, demand: Demand) -> bool | None:
        """Whether a mapping surely has, or surely lacks, the first key of the path; None where it can't be told."""
        found: list[bool | None] = []

        def visit(current: Demand, answer: Answer) -> bool:
            if self._has_stored(current, demand.path[0]):
                found.append(None)
                return False
            merged = _merged(current.expr) if not current.path and id(current.expr) not in self._asked else None
            if merged is not None:
                keys, inner = merged
                self._asked.add(id(current.expr))
                rests = [self.has_item(self.to(current, e, demand.path)) for e in inner]
                self._asked.discard(id(current.expr))
                held = any(isinstance(k, ir.Constant) and k.value == demand.path[0][1] for k in keys) or True in rests
                known = all(isinstance(k, ir.Constant) for k in keys) and all(r is False for r in rests)
                found.append(True if held else False if known else None)
                return False
            passed = _keywords(current)
            if passed is not None:
                named = any(a.keyword == demand.path[0][1] for a in passed)
                found.append(True if named else None if any(a.keyword is None for a in passed) else False)
                return False
            if answer.kind != "moved":
                found.append(None)
            return answer.kind == "moved"

        self.walk(replace(demand, path=()), visit, NEAR)
        return found[0] if found and all(f is found[0] for f in found) else None

    def _has_stored(self, demand: Demand, step: tuple[str, object]) -> bool:
        # Whether a key may have been stored in the mapping that a name, or a field of it, stands for.
        if not isinstance(demand.expr, ir.Name):
            return False
        env = self.reaching(demand.place).envs.get(id(demand.expr)) or {}
        base = demand.expr.id + "".join(step_text(s) for s in demand.path)
        return base + step_text(step) in env or f"{base}[*]" in env
