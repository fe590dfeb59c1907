"""Whether a gradient can pass from a value to what it was made from: `detach`, blocks without gradient, writes in place."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from audits.static.analysis.values import Ext, Func, Inst, Mod, Value
from audits.static.dataflow.backwards import NEAR
from audits.static.dataflow.demands import Answer, Demand, Frame
from audits.static.dataflow.expressions import key
from audits.static.dataflow.flow import Place
from audits.static.dataflow.origins import Origins
from audits.static.dataflow.reaching import BASE, IN_PLACE, Def
from audits.static.source import ir
from audits.static.source.project import FunctionInfo

_STOPS = frozenset({"detach", "detach_", "stop_gradient", "numpy", "tolist", "item", "from_numpy", "tensor", "new_tensor", "load_file"})
# What is computed without a gradient, whatever it is computed from.
_FLAT = frozenset(
    ["zeros_like", "ones_like", "empty_like", "full_like", "rand_like", "randn_like", "new_zeros", "new_ones", "new_empty", "new_full",
     "eye", "zeros", "ones", "empty", "full", "arange", "isfinite", "isnan", "isinf", "argmax", "argmin", "argsort", "sign", "size",
     "numel", "dim", "len", "is_complex", "is_floating_point", "isinstance", "eq", "ne", "lt", "le", "gt", "ge", "finfo", "type",
     "float", "int", "bool", "str", "range", "searchsorted", "nonzero", "count_nonzero", "any", "all"]
)  # fmt: skip
_BUILTINS = frozenset({"float", "int", "bool", "str", "type", "len", "range"})  # as methods, these are casts
_PLAIN = frozenset({"shape", "dtype", "device", "ndim", "real_dtype", "requires_grad", "is_cuda", "layout", "is_leaf"})
_VIEWS = frozenset({"real", "imag", "mH", "mT", "H", "T", "data", "abs"})
_OFF, _ON, _SWITCH = frozenset({"no_grad", "inference_mode"}), frozenset({"enable_grad"}), frozenset({"set_grad_enabled"})


class Gradients:
    """Questions about gradients."""

    def __init__(self, origins: Origins) -> None:
        self.origins = origins
        self._contexts: dict[object, dict[int, tuple[ir.Expr, ...]]] = {}
        self._modes: dict[tuple[int, int], bool | None] = {}

    def cut_inside(self, fn: FunctionInfo, param: ir.Param) -> bool:
        """Whether the body of a function cuts the gradient of what it takes as `param`."""
        for node in ir.walk_own(fn.node.body):
            if isinstance(node, ir.Call) and ir.last_name(node.func) in ("detach", "detach_", "stop_gradient"):
                parts = [node.func.value] if isinstance(node.func, ir.Attribute) else []
                if any(ir.last_name(e) == param.name for e in [*parts, *(a.value for a in node.args)]):
                    return True
        return False

    def detached(self, demand: Demand, lacks: Callable[[Demand], bool]) -> bool:
        """Whether no gradient can pass, whichever way the value came; `lacks` tells what is not there at all."""
        leaks = [False]

        def visit(found: Demand, answer: Answer) -> bool | Iterable[Demand]:
            expr = found.expr
            if leaks[0] or self._cut(found, answer):
                return False
            written, kept = self._written(found)
            if not kept:
                return written
            rests = [*answer.demands, *written]
            if isinstance(expr, ir.Call) and answer.kind in ("outside", "unknown") and not isinstance(expr.func, ir.Attribute):
                called = self.origins.to(found, expr.func, ())
                rests += [called] if not self._names(called) else []
            if answer.kind in ("constant", "function", "cycle") or (not answer.demands and lacks(found)):
                return written
            if rests and answer.kind in ("moved", "construct", "arithmetic", "composite", "outside", "unknown"):
                return [d for d in rests if not (self._plain(d) or _has_none(found, d))]
            nothing = answer.kind in ("composite", "construct") or (isinstance(expr, ir.Call) and not expr.args and not rests)
            leaks[0] = not nothing
            return rests

        return self.origins.walk(demand, visit) and not leaks[0]

    # -- one step

    def _cut(self, demand: Demand, answer: Answer) -> bool:
        expr = demand.expr
        if isinstance(expr, ir.Compare):
            return True
        if isinstance(expr, ir.Call) and not self.origins.targets(demand.place) and not self.origins.classes(demand.place):
            names = self._called(demand, expr)
            if names and all(n in _STOPS or n in _FLAT for n in names) and not _casts(expr, names):
                return True
        if isinstance(expr, ir.Attribute) and (expr.attr in _PLAIN or (expr.attr == "data" and self._of_tensor(demand, expr))):
            return True
        # What is made where gradients are off has none; what is only handed on there keeps its own.
        made = answer.kind in ("outside", "arithmetic", "unknown") and not isinstance(expr, ir.Name)
        return made and self.off(demand.place, demand.frame) is True

    def _of_tensor(self, demand: Demand, expr: ir.Attribute) -> bool:
        if any(isinstance(v, Inst) for v in self.origins.values(demand.place.at(expr.value))):
            return False
        if not demand.path:
            return True
        kind, name = demand.path[0]
        return name in _VIEWS if kind == "field" else not isinstance(name, str)

    def _called(self, demand: Demand, call: ir.Call) -> set[str]:
        """The names of the outside functions that a call may run, through aliases, `getattr` and `methodcaller`."""
        if isinstance(call.func, ir.Attribute) and not self._names(self.origins.to(demand, call.func, ())):
            return {call.func.attr}
        out: set[str] = set()

        def visit(found: Demand, answer: Answer) -> bool:
            names = self._names(found)
            named = _named(found.expr)
            if named is not None or names or isinstance(found.expr, ir.Attribute):
                out.update({named} if named is not None else names or {found.expr.attr})  # type: ignore[attr-defined]
                return False
            if answer.kind != "moved":
                out.add(found.expr.id if isinstance(found.expr, ir.Name) and answer.kind == "outside" else "")
            return answer.kind == "moved"

        self.origins.walk(self.origins.to(demand, call.func, ()), visit, NEAR)
        return out

    def _names(self, demand: Demand) -> set[str]:
        # The last names of what an expression stands for, where all of it is outside.
        values = self.origins.values(demand.place) if isinstance(demand.expr, (ir.Name, ir.Attribute)) and not demand.path else frozenset()
        known = [v.name for v in values if isinstance(v, Ext) and "." in v.name and not v.name.startswith("?")]
        return {n.rsplit(".", 1)[-1] for n in known} if known and len(known) == len(values) else set()

    def _written(self, demand: Demand) -> tuple[list[Demand], bool]:
        """What has been written into a name's value in place, and whether what it was bound to still counts."""
        expr = demand.expr
        if not isinstance(expr, ir.Name):
            return [], True
        env = self.origins.reaching(demand.place).envs.get(id(expr), {})
        whole = env.get(f"{expr.id}{IN_PLACE}")
        parts = [k for k in env if k.startswith((f"{expr.id}.", f"{expr.id}[")) and not k.endswith(IN_PLACE)] if not demand.path else []
        known = {id(d.expr) for k in parts for d in env[k]}
        found = [d for k in parts for d in env[k]] + list(whole or ())
        places = [demand.place.at(d.expr) for d in found if d.expr is not None and not self._written_off(demand, d)]
        paths = {id(d.expr): d.path for d in found}
        out = [self.origins.at(demand, p, paths[id(p.expr)], demand.frame) for p in places]
        out += [d for d in self.origins.filled(demand) if id(d.expr) not in known]
        return out, whole is None or BASE in whole

    def _written_off(self, demand: Demand, definition: Def) -> bool:
        # `x[...] = y` where gradients are off.
        node = definition.node
        return isinstance(node, ir.Assign) and "[" in definition.name and self.off(demand.place.at(node), demand.frame) is True  # type: ignore[arg-type]

    def _plain(self, demand: Demand) -> bool:
        # A module is no value, and the shape of a tensor has no gradient.
        expr = demand.expr
        if isinstance(expr, ir.Attribute) and expr.attr in _PLAIN:
            return True
        values: Iterable[Value] = self.origins.values(demand.place) if isinstance(expr, (ir.Name, ir.Attribute)) else ()
        return bool(values) and all(isinstance(v, (Mod, Ext, Func)) and not getattr(v, "name", "").startswith("?") for v in values)

    # -- where gradients are off

    def off(self, place: Place, frame: Frame | None) -> bool | None:
        """Whether an expression is computed without gradients, True or False; None where nothing on the way in says."""
        known = (id(place.expr), id(frame))
        if known not in self._modes:
            self._modes[known] = None  # a context that is made in itself
            self._modes[known] = self._mode(place, frame)
        return self._modes[known]

    def _mode(self, place: Place, frame: Frame | None) -> bool | None:
        for context in reversed(self._around(place).get(id(place.expr), ())):
            mode = self._switch(Demand(place.at(context), (), frame))
            if mode is not None:
                return mode
        fn = place.fn
        if fn is None:
            return None
        for decorator in fn.node.decorators:
            mode = self._switch(Demand(Place(decorator, fn.module, fn.enclosing), ()))
            if mode is not None:
                return mode
        if frame is not None and frame.fn is fn:
            return self.off(frame.caller, frame.outer)
        return None

    def _around(self, place: Place) -> dict[int, tuple[ir.Expr, ...]]:
        owner = place.fn if place.fn is not None else place.module
        if owner not in self._contexts:
            found: dict[int, tuple[ir.Expr, ...]] = {}
            _note(place.fn.node.body if place.fn is not None else place.module.tree.body, (), found)
            self._contexts[owner] = found
        return self._contexts[owner]

    def _switch(self, demand: Demand) -> bool | None:
        """Whether a context switches gradients off, on, or leaves them: every way that it may come to be must agree."""
        found: list[bool | None] = []

        def visit(current: Demand, answer: Answer) -> bool:
            expr = current.expr
            name = ir.last_name(expr.func if isinstance(expr, ir.Call) else expr)
            if name in _OFF | _ON | _SWITCH and not self.origins.targets(current.place):
                found.append(_switched(name, expr))
                return False
            entered = [t for t, _ in self.origins.targets(current.place)] if isinstance(expr, ir.Call) else []
            if any(_is_manager(t) for t in entered):
                found.extend(self._within(t) for t in entered)
                return False
            if answer.kind != "moved":
                found.append(None)
            return answer.kind == "moved"

        self.origins.walk(demand, visit, NEAR)
        if not found or len(set(found)) > 1:
            return False if False in found else None
        return found[0]

    def _within(self, fn: FunctionInfo) -> bool | None:
        # What holds at the `yield` of a context manager's body.
        modes = [
            self.off(Place(node, fn.module, fn), None) for node in ir.walk_own(fn.node.body) if isinstance(node, ir.Yield)
        ]  # fmt: skip
        return modes[0] if modes and all(m is modes[0] for m in modes) else None


def _note(body: list[ir.Stmt], around: tuple[ir.Expr, ...], found: dict[int, tuple[ir.Expr, ...]]) -> None:
    """The contexts around each expression, the outermost first: `with`, `enter_context` and `set_grad_enabled` before it."""
    for statement in body:
        inner = around
        if isinstance(statement, ir.With):
            for item in statement.items:
                found.update((id(n), inner) for n in ir.walk(item.context))
                inner = (*inner, item.context)
            _note(statement.body, inner, found)
            continue
        if around:
            found.update((id(n), around) for n in ir.walk(statement))
        for block in _blocks(statement):
            _note(block, around, found)
        call = statement.value if isinstance(statement, ir.ExprStmt) else None
        if isinstance(call, ir.Call) and ir.last_name(call.func) in _SWITCH:
            around = (*around, call)
        elif isinstance(call, ir.Call) and ir.last_name(call.func) == "enter_context" and call.args:
            around = (*around, call.args[0].value)


def _blocks(statement: ir.Stmt) -> Iterator[list[ir.Stmt]]:
    for name in ("body", "orelse", "finalbody"):
        block = getattr(statement, name, None)
        if isinstance(block, list) and not isinstance(statement, (ir.Function, ir.ClassDef)):
            yield block
    for part in (*getattr(statement, "handlers", ()), *getattr(statement, "cases", ())):
        yield part.body


def _switched(name: str, expr: ir.Expr) -> bool | None:
    given = expr.args[0].value if isinstance(expr, ir.Call) and expr.args else None
    if name in _ON:
        return False
    if name in _SWITCH or (name == "inference_mode" and isinstance(given, ir.Constant)):
        return given.value in (False, 0) if isinstance(given, ir.Constant) and name in _SWITCH else getattr(given, "value", None) is True
    return True


def _is_manager(fn: FunctionInfo) -> bool:
    return any(ir.last_name(d) in ("contextmanager", "asynccontextmanager") for d in fn.node.decorators)


def _named(expr: ir.Expr) -> str | None:
    # `getattr(x, "name")` and `methodcaller("name")`.
    if isinstance(expr, ir.Call) and ir.last_name(expr.func) in ("getattr", "methodcaller") and expr.args:
        texts = [a.value for a in expr.args[: 2 if ir.last_name(expr.func) == "getattr" else 1]]
        if isinstance(texts[-1], ir.Constant) and isinstance(texts[-1].value, str):
            return texts[-1].value
    return None


def _casts(call: ir.Call, names: set[str]) -> bool:
    return isinstance(call.func, ir.Attribute) and bool(names & _BUILTINS)


def _has_none(found: Demand, following: Demand) -> bool:
    # On the way where `x.requires_grad` does not hold, or x is None, x has no gradient to pass.
    for bound in following.guards[len(found.guards) :]:
        test, polarity = bound.guard.test, bound.guard.polarity
        while isinstance(test, ir.UnaryOp) and test.op == "not":
            test, polarity = test.operand, not polarity
        if bound.guard.kind != "if":
            continue
        if isinstance(test, ir.Attribute) and test.attr == "requires_grad" and not polarity and key(test.value) == key(found.expr):
            return True
        if isinstance(test, ir.Call) and ir.last_name(test.func) in ("isinstance", "is_tensor") and test.args and not polarity:
            return key(test.args[0].value) == key(found.expr) and ir.last_name(test.args[-1].value) in ("Tensor", key(found.expr))
        if isinstance(test, ir.Compare) and len(test.ops) == 1 and isinstance(following.expr, ir.Name):
            none = isinstance(test.comparators[0], ir.Constant) and test.comparators[0].value is None
            if none and polarity == (test.ops[0] in ("is", "==")) and key(test.left) == following.expr.id:
                return bound.place.fn is following.place.fn
    return False
