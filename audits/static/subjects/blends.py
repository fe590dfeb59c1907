"""The calls of the covariance builder that training reaches: their options, their contexts and where their results go."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from audits.static.dataflow.expressions import key
from audits.static.dataflow.flow import Place
from audits.static.dataflow.origins import Answer, Demand, Frame, Origins, field_names
from audits.static.dataflow.reaching import step_text
from audits.static.source import ir
from audits.static.source.project import ClassInfo, FunctionInfo
from audits.static.subjects.covariances import KEEPING, Covariances
from audits.static.subjects.gradients import Gradients

_SAMPLE = re.compile(r"sampl|meas|observ|empiric|r_?samp|(^|_)(obs|emp|scm)(_|$)", re.I)
_BETA = re.compile(r"^(beta|gamma|blend\w*|mix\w*|\w*weight|w|(\w*_)?(fraction|frac|share|ratio))$", re.I)
_LOADING = re.compile(r"load|ridge|jitter|^eps|^reg(ular\w*)?(_|$)|tikhonov|nugget|damp|^(delta|lam|lambda_)$|^diag(onal)?(_|$)", re.I)
_SHRINKAGE = re.compile(r"shrink|^alpha$|^law$|^rho$|ledoit|^oas$", re.I)
_CONTEXTS = 24


@dataclass(frozen=True)
class Use:
    """A call of the builder in one chain of calls; `chain` holds the calls around it, the innermost first."""

    place: Place
    frame: Frame | None

    @property
    def chain(self) -> tuple[int, ...]:
        """The identities of the call and of those around it."""
        out, frame = [id(self.place.expr)], self.frame
        while frame is not None:
            out.append(id(frame.call))
            frame = frame.outer
        return tuple(out)


class Blends:
    """Questions about calls of the builder."""

    def __init__(self, origins: Origins, covariances: Covariances, hot: set[FunctionInfo]) -> None:
        self.origins = origins
        self.covariances = covariances
        self.builder = covariances.builder
        self.hot = hot
        self._behind: dict[tuple[object, ...], list[Use]] = {}
        self._known_loaders: dict[FunctionInfo, bool] = {}
        self.gradients = Gradients(origins)
        own = self.builder.cls is not None and "staticmethod" not in self.builder.flags
        params = self.builder.node.params[1 if own else 0 :]
        self.sample = next((p for p in params if _SAMPLE.search(p.name) and not _BETA.match(p.name)), None)
        if self.sample is None and len(params) > 1:
            typed = [p for p in params if covariances.typed(p, self.builder)] or params
            self.sample = typed[1] if len(typed) > 1 else None
        self.beta = next((p for p in params if _BETA.match(p.name)), None)
        self.loading = [p for p in params if _LOADING.search(p.name)]
        self.shrinkage = [p for p in params if _SHRINKAGE.search(p.name)]
        self.prediction = params[0] if params else None

    # -- the calls

    def uses(self) -> Iterator[Use]:
        """Every hot call of the builder, once for each chain of calls that decides its arguments."""
        for fn in sorted(self.hot, key=lambda f: f.symbol):
            if fn.module is self.covariances.home:
                continue
            for call in self.origins.analysis.cold[fn].calls:
                place = Place(call, fn.module, fn)
                if self.is_builder(place):
                    for frame in self._contexts(fn, 5) if self._by_arguments(call, fn) else [None]:
                        yield Use(place, frame)

    def is_builder(self, place: Place) -> bool:
        """Whether a call may run the builder."""
        return any(fn is self.builder for fn, _ in self.origins.targets(place))

    def _by_arguments(self, call: ir.Call, fn: FunctionInfo) -> bool:
        return bool(fn.node.params) or fn.enclosing is not None

    def _contexts(self, fn: FunctionInfo, depth: int) -> list[Frame | None]:
        out: list[Frame | None] = []
        for call, unit, bound in self.origins.flow.sites(fn) if depth else []:
            if unit.fn is None or unit.fn not in self.hot or unit.fn is fn:
                continue
            for outer in self._contexts(unit.fn, depth - 1):
                frame = self.origins.enter(fn, call, Place(call, unit.module, unit.fn), outer, bound)
                if frame is not None:
                    out.append(frame)
        return out[:_CONTEXTS] or [None]

    def option(self, use: Use, param: ir.Param | None) -> list[Demand]:
        """What a use passes for a parameter of the builder; nothing where the default stands."""
        if param is None:
            return []
        bound = any(b for fn, b in self.origins.targets(use.place) if fn is self.builder)
        passed = self.origins.passed(use.place, self.builder, param, bound=bound, frame=use.frame)
        return [Demand(place, path, frame, (), (place.step(),)) for place, path, frame in passed]

    # -- what a loss does to its sides

    def treated(self, fn: FunctionInfo, params: list[ir.Param]) -> list[dict[str, Place]]:
        """What loads or shrinks each of the parameters inside a function; nothing where one call cannot be told for which it is."""
        out: list[dict[str, Place]] = [{} for _ in params]
        for inner in self.origins.flow.cold_path([fn]):
            for call in self.origins.analysis.cold[inner].calls if inner.module is not self.covariances.home else ():
                place = Place(call, inner.module, inner)
                made = self._loaders(place)
                for frame in self._within(fn, inner, 4) if made else ():
                    for what, demand in self._loads(Use(place, frame), made):
                        reached = self._reached(demand, fn)
                        for param, known in zip(params, out, strict=True):
                            known.update({what: place} if param.name in reached else {})
                        if not reached:
                            return []
        return out

    def _within(self, fn: FunctionInfo, inner: FunctionInfo, depth: int) -> list[Frame | None]:
        # The calls that lead from `fn` into a function below it.
        if inner is fn:
            return [None]
        out: list[Frame | None] = []
        for call, unit, bound in self.origins.flow.sites(inner) if depth else []:
            for outer in self._within(fn, unit.fn, depth - 1) if unit.fn is not None and unit.fn is not inner else ():
                frame = self.origins.enter(inner, call, Place(call, unit.module, unit.fn), outer, bound)
                out += [frame] if frame is not None else []
        return out[:_CONTEXTS]

    def _loaders(self, place: Place) -> list[tuple[FunctionInfo, bool]]:
        found = [(t, b) for t, b in self.origins.targets(place) if t.module is self.covariances.home]
        return [(t, b) for t, b in found if t is self.builder or self._is_loader(t)]

    def _loads(self, use: Use, made: list[tuple[FunctionInfo, bool]]) -> Iterator[tuple[str, Demand]]:
        """What a call loads or shrinks, and how."""
        call = use.place.expr
        for target, bound in made:
            if target is self.builder:
                params = [p for p in (*self.loading, *self.shrinkage) if self.asks(use, [p])]
                given = self.option(use, self.prediction) if params else []
            else:
                params = [p for p in target.node.params if _LOADING.search(p.name) or _SHRINKAGE.search(p.name)]
                taken = [*self.covariances.parameters(target), *target.positional[bound:]][:1]
                given = [d for p in taken for d in self._given(use, target, p, bound)]
                if bound and isinstance(call, ir.Call) and isinstance(call.func, ir.Attribute) and target.cls in self.covariances.kinds:
                    given = [Demand(use.place.at(call.func.value), (), use.frame)]
            options = sorted(self.canonical(d) for p in params for d in self._given(use, target, p, bound))
            yield from ((f"{target.node.name}({', '.join(options)})", d) for d in given)

    def _given(self, use: Use, fn: FunctionInfo, param: ir.Param, bound: bool) -> list[Demand]:
        passed = self.origins.passed(use.place, fn, param, bound=bound, frame=use.frame)
        return [Demand(place, path, frame) for place, path, frame in passed]

    def _reached(self, start: Demand, fn: FunctionInfo) -> set[str]:
        """The parameters of a function that a value inside of it is made from."""
        out: set[str] = set()

        def visit(found: Demand, answer: Answer) -> bool | Iterable[Demand]:
            own = self._own(found, fn)
            out.update({own} if own else ())
            inside = [d for d in answer.demands if d.place.fn is fn and d.frame is found.frame]
            return inside if own else [*answer.demands, *self.origins.filled(found)]

        self.origins.walk(start, visit)
        return out

    def _own(self, demand: Demand, fn: FunctionInfo) -> str:
        # The name of the parameter that an expression may stand for.
        expr = demand.expr
        if demand.frame is not None or demand.place.fn is not fn or not isinstance(expr, ir.Name):
            return ""
        found = self.origins.reaching(demand.place).envs.get(id(expr), {}).get(expr.id, {})
        return expr.id if any(d.kind == "param" for d in found) else ""

    def _is_loader(self, fn: FunctionInfo) -> bool:
        """Whether a function of the builder's module returns what it takes with something added to its diagonal."""
        if fn not in self._known_loaders:
            self._known_loaders[fn] = False  # one that calls itself
            self._known_loaders[fn] = self._adds_to(fn)
        return self._known_loaders[fn]

    def _adds_to(self, fn: FunctionInfo) -> bool:
        taken, sums = [False], list[Demand]()

        def visit(found: Demand, answer: Answer) -> bool | Iterable[Demand]:
            expr = found.expr
            if self._own(found, fn):
                taken[0] = True
                return [d for d in answer.demands if d.place.fn is fn and d.frame is found.frame]
            if isinstance(expr, ir.Call) and self.is_builder(found.place):
                use = Use(found.place, found.frame)
                sums.extend([found] if self.asks(use, [*self.loading, *self.shrinkage]) else [])
                return self.option(use, self.prediction)
            if isinstance(expr, ir.BinOp) and expr.op in ("+", "-"):
                sums.append(found)
            return _keeps(expr, answer)

        for place in self.origins.flow.returns(fn):
            self.origins.walk(Demand(place), visit)
        return taken[0] and (
            any(isinstance(s.expr, ir.Call) or self._holds_identity(s, fn) for s in sums)
            or any(_adds_to_diagonal(n) for n in ir.walk_own(fn.node.body))
        )

    def _holds_identity(self, total: Demand, fn: FunctionInfo) -> bool:
        found = [False]

        def visit(current: Demand, answer: Answer) -> bool | Iterable[Demand]:
            if self._own(current, fn):
                return [d for d in answer.demands if d.place.fn is fn and d.frame is current.frame]
            identity = isinstance(current.expr, ir.Call) and ir.last_name(current.expr.func) in ("eye", "identity", "diag_embed")
            found[0] = found[0] or identity
            return not identity and _keeps(current.expr, answer)

        self.origins.walk(total, visit)
        return found[0]

    # -- options

    def neutral(self, demand: Demand) -> bool:
        """Whether an option is nothing (None, 0, False, or a missing key) whichever way it came."""
        asked = [False]

        def visit(found: Demand, answer: Answer) -> bool:
            expr = found.expr
            if answer.kind in ("moved", "cycle"):
                return True
            if isinstance(expr, ir.Constant) and not found.path:
                asked[0] = asked[0] or expr.value not in (None, 0, False)
            elif not self._lacks(found) and not (answer.kind == "composite" and not answer.demands):
                asked[0] = True
            return answer.kind.startswith("mixed")

        return self.origins.walk(demand, visit) and not asked[0]

    def _lacks(self, demand: Demand) -> bool:
        """Whether a mapping surely has no such key: a display, what `**` has gathered, a record taken as a mapping."""
        expr = demand.expr
        if not demand.path:
            return False
        kind, wanted = demand.path[0]
        if kind == "field":
            classes = self.origins.classes(demand.place) if isinstance(expr, ir.Call) else []
            return bool(classes) and all(wanted not in self._members(c) for c in classes)
        if kind != "item":
            return False
        return self.origins.has_item(demand) is False or (isinstance(expr, ir.Name) and self._gathers(demand, expr))

    def _members(self, cls: ClassInfo) -> set[str]:
        order = self.origins.analysis.mro_cache.get(cls) or [cls]
        stored = {n for c in order for n in c.scope.names}
        return stored | {f for c in order for f in field_names(c)}

    def _gathers(self, demand: Demand, name: ir.Name) -> bool:
        # `**options`, where no call on the way passes an option of this name.
        fn, frame = demand.place.fn, demand.frame
        param = next((p for p in fn.node.params if p.name == name.id and p.kind == "**"), None) if fn is not None else None
        if fn is None or param is None:
            return False
        if frame is not None and frame.fn is fn:
            calls = [(frame.caller, frame.bound, frame.outer)]
        else:
            calls = [(Place(c, u.module, u.fn), b, None) for c, u, b in self.origins.flow.sites(fn)]
        return all(not list(self.origins.passed(c, fn, param, bound=b, path=demand.path, frame=o)) for c, b, o in calls)

    def has_sample(self, use: Use) -> bool:
        """Whether a sample may be passed."""
        return any(not self.neutral(d) for d in self.option(use, self.sample))

    def asks(self, use: Use, params: list[ir.Param]) -> bool:
        """Whether one of the options is asked for."""
        return any(not self.neutral(d) for p in params for d in self.option(use, p))

    # -- gradients

    def builder_detaches(self) -> bool:
        """Whether the builder itself cuts the sample's gradient."""
        return self.sample is not None and self.gradients.cut_inside(self.builder, self.sample)

    def detached(self, demand: Demand) -> bool:
        """Whether no gradient can pass, whichever way the value came."""
        return self.gradients.detached(demand, self._lacks)

    # -- chains

    def behind(self, demand: Demand, *, through: bool = True) -> list[Use]:
        """The calls of the builder that a value comes from; with `through`, also those that their predictions come from."""
        known = self._behind.get((*demand.key, through))
        if known is not None:
            return known
        out: list[Use] = []

        def visit(found: Demand, answer: Answer) -> bool | Iterable[Demand]:
            if isinstance(found.expr, ir.Call):
                if self.is_builder(found.place):
                    use = Use(found.place, found.frame)
                    out.append(use)
                    return self.option(use, self.prediction) if through else False
                receiver = found.expr.func.value if isinstance(found.expr.func, ir.Attribute) else None
                targets = self.origins.targets(found.place)
                if receiver is not None and (not targets or all(t.module is self.covariances.home for t, _ in targets)):
                    moved = Demand(found.place.at(receiver), (), found.frame, found.guards, found.trail)
                    return [*answer.demands, moved]
            return [*answer.demands, *self.origins.filled(found)]

        self.origins.walk(demand, visit)
        self._behind[(*demand.key, through)] = out
        return out

    def canonical(self, demand: Demand, depth: int = 12) -> str:
        """A value's expression with parameters and plain variables replaced by what they stand for."""
        expr, place, frame = demand.expr, demand.place, demand.frame
        if depth == 0:
            return key(expr)
        if demand.path:
            answer = self.origins.step(demand)
            if answer.kind == "moved" and len(answer.demands) == 1:
                return self.canonical(answer.demands[0], depth - 1)
            return key(expr) + "".join(step_text(s) for s in demand.path)
        if isinstance(expr, ir.Name):
            answer = self.origins.step(demand)
            if answer.kind == "moved" and len(answer.demands) == 1 and not answer.demands[0].path:
                following = answer.demands[0]
                stays = following.place.fn is place.fn and following.frame is frame
                if stays or frame is not None or place.fn is None or following.place.fn is not None:
                    return self.canonical(following, depth - 1)
            return expr.id
        if isinstance(expr, ir.Attribute):
            return f"{self.canonical(Demand(place.at(expr.value), (), frame), depth - 1)}.{expr.attr}"
        if isinstance(expr, ir.Call):
            inner = [expr.func.value] if isinstance(expr.func, ir.Attribute) else []
            values = [*inner, *(a.value for a in expr.args)]
            if ir.last_name(expr.func) in ("detach", "clone", "to", "contiguous") and inner:
                values = inner
                return self.canonical(Demand(place.at(inner[0]), (), frame), depth - 1)
            parts = ",".join(self.canonical(Demand(place.at(v), (), frame), depth - 1) for v in values)
            return f"{ir.last_name(expr.func)}({parts})"
        if isinstance(expr, ir.IfExp) and isinstance(expr.body, ir.Constant) and expr.body.value is None:
            return self.canonical(Demand(place.at(expr.orelse), (), frame), depth - 1)
        if isinstance(expr, ir.IfExp) and isinstance(expr.orelse, ir.Constant) and expr.orelse.value is None:
            return self.canonical(Demand(place.at(expr.body), (), frame), depth - 1)
        if isinstance(expr, (ir.BinOp, ir.UnaryOp, ir.BoolOp, ir.Compare, ir.IfExp)):
            sides = [self.canonical(Demand(place.at(e), (), frame), depth - 1) for e in ir.children(expr) if isinstance(e, ir.Expr)]
            if not isinstance(expr, ir.BinOp):
                return f"{type(expr).__name__}{getattr(expr, 'op', getattr(expr, 'ops', ''))}({','.join(sides)})"
            kept = [s for s in sides if s != "1.0"] if expr.op == "*" else sides
            return f"({f' {expr.op} '.join(kept)})" if len(kept) == 2 else (kept or sides)[0]
        if isinstance(expr, ir.Constant) and isinstance(expr.value, int) and not isinstance(expr.value, bool):
            return repr(float(expr.value))
        return key(expr)


def _keeps(expr: ir.Expr, answer: Answer) -> bool:
    """Whether a matrix goes on through an expression: not through a product of matrices, nor through a decomposition."""
    if isinstance(expr, ir.BinOp):
        return expr.op != "@"
    return answer.kind != "outside" or not isinstance(expr, ir.Call) or ir.last_name(expr.func) in KEEPING


def _adds_to_diagonal(node: ir.Node) -> bool:
    # `r.diagonal(dim1=-2, dim2=-1).add_(x)`
    if not (isinstance(node, ir.Call) and isinstance(node.func, ir.Attribute) and node.func.attr == "add_"):
        return False
    return isinstance(node.func.value, ir.Call) and ir.last_name(node.func.value.func) == "diagonal"
