"""COV002: every declared consumer gets its covariance from the builder."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from audits.static.analysis.reach import entry_functions
from audits.static.analysis.values import Func, Inst, Value
from audits.static.context import Context
from audits.static.dataflow.flow import Place
from audits.static.dataflow.origins import ELEMENT, Answer, Demand, Frame, Origins, field_names
from audits.static.dataflow.reaching import BASE, IN_PLACE, Def, Path
from audits.static.findings import Finding, Step
from audits.static.rules.base import Case, Rule
from audits.static.source import ir
from audits.static.source.project import FunctionInfo
from audits.static.subjects.covariances import KEEPING, Covariances, adds_identity, named_covariance, source_text

MANUAL = """\
Training and inference agree only if the K-head, the loss and MUSIC see what the one builder made. For each function in
`covariance.consumers` this rule goes to every call of it - direct, aliased, from a table, through partial, map or a
callback - and follows the argument of each covariance parameter backwards: through variables, tuples, dictionaries,
fields, properties, closures, helpers and their arguments. It must end in a call of `covariance.builder`, or in a
covariance parameter of a consumer, which is followed from its own calls. Moves, casts, indices, detach and scaling
keep a covariance what it is. Every branch counts. What ends in anything else is a finding at that call; so is what
cannot be followed. A covariance parameter is one annotated with the builder's return type, else one named like a
covariance. Inside a consumer and the helpers that it calls, the same holds for whatever they hand to a covariance
parameter or decompose into eigenvalues, except for what is computed from the consumer's own covariance; a consumer
must use the covariance that it takes, for more than its shape, and one that takes none must reach the builder. The
builder's own module is trusted, and so are callers outside the packages.
"""
_EIGEN = frozenset({"eigh", "eigvalsh", "eig", "eigvals", "svd", "svdvals"})
_SCALING = frozenset({"mul_", "div_", "detach_", "requires_grad_", "nan_to_num_", "squeeze_", "unsqueeze_", "resize_as_"})
# What may be asked of any array of the same shape.
_SHAPES = frozenset(
    ["shape", "dtype", "device", "ndim", "size", "numel", "dim", "is_complex", "is_cuda", "layout", "element_size", "new_zeros",
     "new_ones", "new_empty", "new_full", "new_tensor", "requires_grad"]
)  # fmt: skip
_OF_SHAPE = frozenset(["len", "isinstance", "zeros_like", "ones_like", "empty_like", "rand_like", "randn_like", "full_like"])


def check(context: Context) -> Iterable[Finding]:
    """One finding for each call that hands over something else."""
    settings = context.settings
    builder = context.project.find(settings.builder)
    if not isinstance(builder, FunctionInfo):
        yield context.config_finding("COV002", "covariance.builder", f"the builder {settings.builder} does not exist")
        return
    covariances = Covariances(context.origins, builder)
    consumers: dict[FunctionInfo, str] = {}
    for reference in settings.consumers:
        found = entry_functions(context.analysis, reference)
        found = [f for f in found if f.node.name not in ("__init__", "__post_init__", "__new__")] or found
        if not found:
            yield context.config_finding("COV002", "covariance.consumers", f"the consumer {reference} does not exist")
        consumers.update(dict.fromkeys(found, reference))
    if not settings.consumers:
        yield context.config_finding("COV002", "covariance.consumers", "no consumer is declared, so nothing is shown")
    search = _Search(context, covariances, consumers)
    seen: set[tuple[str, int, int, str]] = set()
    for fn, reference in consumers.items():
        for place, message, path in search.faults(fn, reference):
            key = (place.module.relative, place.expr.line, place.expr.column, message)
            if key not in seen:
                seen.add(key)
                yield context.finding("COV002", place.module, place.expr, message, fn=place.fn, call_path=path)


Reasons = list[tuple[str, tuple[Step, ...]]]
Fault = tuple[Place, str, tuple[Step, ...]]


class _Search:
    """Follows what consumers are handed."""

    def __init__(self, context: Context, covariances: Covariances, consumers: dict[FunctionInfo, str]) -> None:
        self.context = context
        self.origins: Origins = context.origins
        self.flow = context.flow
        self.covariances = covariances
        self.consumers = consumers
        self.open: set[object] = set()  # computations whose sides are being followed: a loop leads back to them
        self.cut: set[object] = set()
        self.verdicts: dict[object, tuple[bool | None, Reasons]] = {}

    def faults(self, fn: FunctionInfo, reference: str) -> Iterator[Fault]:
        """Everything that `fn` is handed, and that it and its helpers hand on, and that is not from the builder."""
        params = self.covariances.parameters(fn)
        own = Place(_name(fn), fn.module, fn)
        if params:
            sites = list(self._sites(fn))
            handed = [(c, s, p) for c, s, p in self._handed_on(fn) if list(self._aligned(fn, s, c))]
            if not sites and not handed and self._referred(fn):
                yield own, f"the covariance of {reference} cannot be followed: it is referred to, but no call of it was found", ()
            for caller, bound, frame in sites:
                for param in params:
                    for place, path, at in self.origins.passed(caller, fn, param, bound=bound, frame=frame):
                        yield from self._judge(Demand(place, path, at, (), (place.step(),)), caller, f"{param.name!r} of {reference}")
            for caller, start, path in handed:
                for param, value in self._aligned(fn, start, caller):
                    yield from self._judge(Demand(value, path, None, (), (value.step(),)), caller, f"{param.name!r} of {reference}")
            for param in params:
                if not self._used(fn, param.name):
                    yield own, f"{reference} takes the covariance {param.name!r} and never uses its values", ()
        reached = self.flow.cold_path([fn])
        if not params and self.covariances.builder not in reached and not any(c in reached for c in self.consumers if c is not fn):
            if not list(self._read(fn)):
                yield own, f"{reference} takes no covariance and does not reach the builder", ()
        for inner in reached:
            if inner.module is not self.covariances.home and (inner is fn or inner not in self.consumers):
                yield from self._inside(inner, reference)
        if not params:
            for place in self._read(fn):
                yield from self._judge(Demand(place, (), None, (), (place.step(),)), place, f"what {reference} reads")

    def _used(self, fn: FunctionInfo, name: str, depth: int = 3) -> bool:
        """Whether a function reads more of a value than its shape, its type and where it is."""
        nodes = [n for s in fn.node.body for n in ir.walk(s)]
        plain: set[int] = set()  # the occurrences that read no values
        renamed: dict[int, list[str]] = {}
        for node in nodes:
            if _reads_shape(node) or (isinstance(node, ir.Attribute) and self._tells_shape(node, depth)):
                plain.update(id(e) for e in _chain(node))
            elif isinstance(node, ir.Assign) and node.value is not None and all(isinstance(t, ir.Name) for t in node.targets):
                plain.update(id(t) for t in node.targets)
                read = _chain(node.value) if not isinstance(node.value, (ir.Call, ir.Compare)) else ()
                renamed.update({id(e): [ir.last_name(t) for t in node.targets] for e in read})
        for node in nodes:
            if isinstance(node, ir.Name) and node.id == name and id(node) not in plain:
                others = [n for n in renamed.get(id(node), ()) if n != name]
                if id(node) not in renamed or (others and (depth == 0 or any(self._used(fn, n, depth - 1) for n in others))):
                    return True
        return False

    def _tells_shape(self, expr: ir.Attribute, depth: int) -> bool:
        # A property or method of the builder's type that reads no values either.
        getters = [cls.module.functions.get(f"{cls.qualname}.{expr.attr}") for cls in self.covariances.kinds]
        known = [g for g in getters if g is not None and g.node.params]
        return bool(known) and depth > 0 and not any(self._used(g, g.node.params[0].name, depth - 1) for g in known)

    # -- calls of a consumer

    def _sites(self, fn: FunctionInfo) -> Iterator[tuple[Place, bool, Frame | None]]:
        for call, unit, bound in self.flow.sites(fn):
            if unit.module is self.covariances.home:
                continue
            caller = Place(call, unit.module, unit.fn)
            frames = self._callback_frames(caller, fn)
            for frame in frames if frames is not None else [None]:
                yield caller, bound, frame

    def _callback_frames(self, caller: Place, fn: FunctionInfo) -> list[Frame] | None:
        # `helper(consumer, value)`: inside the helper only the calls that hand over the consumer matter.
        call, inside = caller.expr, caller.fn
        if not isinstance(call, ir.Call) or not isinstance(call.func, ir.Name) or inside is None:
            return None
        param = next((p for p in inside.node.params if p.name == call.func.id), None)
        if param is None:
            return None
        out = []
        for site, unit, bound in self.flow.sites(inside):
            outer = Place(site, unit.module, unit.fn)
            for place, _, _ in self.origins.passed(outer, inside, param, bound=bound):
                if any(self._is_consumer(v, fn) for v in self.origins.values(place)):
                    frame = self.origins.enter(inside, site, outer, None, bound)
                    if frame is not None:
                        out.append(frame)
        return out

    def _is_consumer(self, value: Value, fn: FunctionInfo) -> bool:
        if isinstance(value, Func):
            return value.fn is fn
        return isinstance(value, Inst) and fn.cls is not None and fn.node.name in ("forward", "__call__") and value.cls is fn.cls

    def _referred(self, fn: FunctionInfo) -> bool:
        # Whether anything in the packages may run `fn`; what nobody runs is there for others.
        for unit in [*self.flow.analysis.modules.values(), *self.flow.analysis.cold.values()]:
            if unit.module is not self.covariances.home and any(r.fn is fn and not isinstance(r.node, ir.Function) for r in unit.refs):
                return True
            for call in unit.calls:
                if ir.last_name(call.func) == fn.node.name and not self.origins.targets(Place(call, unit.module, unit.fn)):
                    return fn.node.name not in ("forward", "__call__")
        return False

    def _handed_on(self, fn: FunctionInfo) -> Iterator[tuple[Place, int, Path]]:
        # `partial(consumer, cov)`, `map(consumer, covs)`, `checkpoint(head, cov)`: the arguments after the consumer.
        for unit in [*self.flow.analysis.modules.values(), *self.flow.analysis.cold.values()]:
            if not any(r.fn is fn for r in unit.refs):
                continue
            for call in unit.calls:
                place = Place(call, unit.module, unit.fn)
                if self.origins.targets(place):
                    continue
                for i, arg in enumerate(call.args):
                    if arg.keyword is None and any(self._is_consumer(v, fn) for v in self.origins.values(place.at(arg.value))):
                        yield place, i + 1, (ELEMENT,) if ir.last_name(call.func) in ("map", "starmap") else ()

    def _aligned(self, fn: FunctionInfo, start: int, caller: Place) -> Iterator[tuple[ir.Param, Place]]:
        call = caller.expr
        assert isinstance(call, ir.Call)
        wanted = self.covariances.parameters(fn)
        positional = fn.positional[1:] if fn.cls is not None and "staticmethod" not in fn.flags else fn.positional
        plain = [a.value for a in call.args[start:] if a.keyword is None and not a.star]
        yield from ((p, caller.at(v)) for p, v in zip(positional, plain, strict=False) if p in wanted)
        yield from ((p, caller.at(a.value)) for p in wanted for a in call.args if a.keyword == p.name)

    # -- inside a consumer

    def _inside(self, fn: FunctionInfo, reference: str) -> Iterator[Fault]:
        for call in self.flow.analysis.cold[fn].calls:
            caller = Place(call, fn.module, fn)
            targets = self.origins.targets(caller)
            for target, bound in targets:
                if target is self.covariances.builder or target.module is self.covariances.home or target in self.consumers:
                    continue
                for param in self.covariances.parameters(target):
                    if self.covariances.kinds and not self.covariances.typed(param, target):
                        continue
                    for place, path, at in self.origins.passed(caller, target, param, bound=bound):
                        what = f"{param.name!r} of {target.qualname}, which {reference} reaches,"
                        start = Demand(place, path, at, (), (place.step(),))
                        if not self._derived(start):
                            yield from self._judge(start, caller, what)
            if not targets and ir.last_name(call.func) in _EIGEN:
                for place in [caller.at(a.value) for a in call.args[:1]]:
                    if named_covariance(ir.last_name(place.expr)):
                        yield from self._judge(Demand(place, (), None, (), (place.step(),)), caller, f"what {reference} decomposes")

    def _read(self, fn: FunctionInfo) -> Iterator[Place]:
        # The covariances that a consumer takes out of its arguments.
        for node in ir.walk_own(fn.node.body):
            if isinstance(node, (ir.Attribute, ir.Subscript)):
                key = node.attr if isinstance(node, ir.Attribute) else getattr(node.index, "value", "")
                root: ir.Expr = node
                while isinstance(root, (ir.Attribute, ir.Subscript)):
                    root = root.value
                if isinstance(key, str) and named_covariance(key) and any(p.name == ir.last_name(root) for p in fn.node.params):
                    if isinstance(node, ir.Attribute) and any(isinstance(v, Func) for v in self.origins.values(Place(node, fn.module, fn))):
                        continue
                    if self.covariances.kinds and not self.covariances.holds(Place(node, fn.module, fn)):
                        continue
                    yield Place(node, fn.module, fn)

    def _derived(self, start: Demand) -> bool:
        # Inside a consumer, what is computed from its covariance (a smoothed or virtual one) is its own affair.
        found = [False]

        def visit(demand: Demand, answer: Answer) -> bool | Iterable[Demand]:
            if isinstance(demand.expr, ir.Call):
                if any(t is self.covariances.builder for t, _ in self.origins.targets(demand.place)):
                    found[0] = True
                    return False
            if self._own_covariance(demand):
                found[0] = True
                return False
            return not found[0]

        self.origins.walk(start, visit, 600)
        return found[0]

    def _own_covariance(self, demand: Demand) -> bool:
        expr, fn = demand.expr, demand.place.fn
        if not isinstance(expr, ir.Name) or fn not in self.consumers or all(p.name != expr.id for p in self.covariances.parameters(fn)):
            return False
        found = self.origins.reaching(demand.place).envs.get(id(expr), {}).get(expr.id, {})
        return any(d.kind == "param" for d in found)

    # -- one value

    def _judge(self, start: Demand, at: Place, what: str) -> Iterator[Fault]:
        faults: list[tuple[str, tuple[Step, ...]]] = []
        built = [False]

        def visit(demand: Demand, answer: Answer) -> bool | Iterable[Demand]:
            return self._visit(demand, answer, faults, built)

        complete = self.origins.walk(start, visit)
        if not complete:
            faults.append(("takes too many ways to be followed", start.trail))
        elif not faults and not built[0] and not (isinstance(start.expr, ir.Constant) and start.expr.value is None):
            faults.append(("cannot be followed to a call of the builder", start.trail))
        if faults:
            reason, trail = faults[0]
            yield at, f"{what} {reason}, not from {self.context.settings.builder}", trail

    def _visit(self, demand: Demand, answer: Answer, faults: Reasons, built: list[bool]) -> bool | Iterable[Demand]:
        expr, fn = demand.expr, demand.place.fn
        if self._own_covariance(demand):
            built[0] = True
            return [d for d in answer.demands if d.place.fn is fn and d.frame is demand.frame]
        if isinstance(expr, ir.Call):
            kept = self._call(demand, expr, answer, built)
            if kept is not None:
                return kept
        indexed = isinstance(expr, ir.Subscript) and answer.demands and all(d.place.module is self.covariances.home for d in answer.demands)
        if isinstance(expr, ir.Subscript) and indexed and self._holds(demand.place.at(expr.value)):
            return [Demand(demand.place.at(expr.value), demand.path, demand.frame, demand.guards, demand.trail)]
        if isinstance(expr, ir.Name) and not demand.path:
            written, whole = self._written(demand, expr)
            written += [d for d in self.origins.filled(demand) if all(d.key != w.key for w in written)]
            if written or not whole:
                return [*written, *(answer.demands if whole else ())]
        if answer.kind == "moved":
            if not answer.demands and not isinstance(expr, (ir.Sequence, ir.Dict)):
                faults.append((f"cannot be followed beyond {source_text(demand.place)}", demand.trail))
            return True
        if answer.kind == "composite":
            return True
        if answer.kind in ("constant", "cycle"):
            return False
        if answer.kind == "arithmetic" and isinstance(expr, ir.BinOp) and expr.op in ("*", "/", "+", "-"):
            return self._arithmetic(demand, expr, answer, faults, built)
        if answer.kind in ("parameter", "unknown", "function") or answer.kind.startswith("mixed"):
            faults.append((f"cannot be followed beyond {source_text(demand.place)}", demand.trail))
            return answer.kind.startswith("mixed")
        faults.append((f"comes from `{source_text(demand.place)}`", demand.trail))
        return False

    def _call(self, demand: Demand, expr: ir.Call, answer: Answer, built: list[bool]) -> bool | Iterable[Demand] | None:
        targets = self.origins.targets(demand.place)
        if any(t is self.covariances.builder for t, _ in targets):
            built[0] = True
            return [d for d in answer.demands if d.place.fn is not self.covariances.builder]
        receiver = expr.func.value if isinstance(expr.func, ir.Attribute) else None
        if targets and receiver is not None and all(t.module is self.covariances.home and b for t, b in targets):
            if self._holds(demand.place.at(receiver)):
                return [Demand(demand.place.at(receiver), (), demand.frame, demand.guards, demand.trail)]
        if not targets and not self.origins.classes(demand.place) and ir.last_name(expr.func) in KEEPING:
            values = self.origins.values(demand.place.at(receiver)) if receiver is not None else frozenset()
            library = any(type(v).__name__ in ("Ext", "Mod") for v in values) and not any(isinstance(v, Inst) for v in values)
            if receiver is not None and (not library or isinstance(receiver, ir.Call)):
                return [Demand(demand.place.at(receiver), demand.path, demand.frame, demand.guards, demand.trail)]
            if expr.args:
                chosen = expr.args[:1]
                if ir.last_name(expr.func) == "where":
                    chosen = [a for a in expr.args[1:3] if not isinstance(a.value, ir.Constant) and not _is_zero(a.value)]
                return [Demand(demand.place.at(a.value), demand.path, demand.frame, demand.guards, demand.trail) for a in chosen]
        return None

    def _holds(self, place: Place) -> bool:
        return bool(self.covariances.kinds) and self.covariances.holds(place)

    def _written(self, demand: Demand, name: ir.Name) -> tuple[list[Demand], bool]:
        """What is written into a covariance, or into a list of them, in place, and whether what it was before still counts."""
        env = self.origins.reaching(demand.place).envs.get(id(name), {})
        fields = {f for c in self.covariances.kinds for f in field_names(c)} if self._holds(demand.place) else set()
        keys = [k for k in env if k.startswith(f"{name.id}[") or k.removeprefix(f"{name.id}.").split(".")[0] in fields]
        keys = [k for k in keys if k.startswith((f"{name.id}.", f"{name.id}["))]
        whole = env.get(f"{name.id}{IN_PLACE}", {})
        out: list[Demand] = []
        for definition in [*whole, *(d for k in keys for d in env[k])]:
            values = _stored_values(definition)
            out += [self.origins.at(demand, demand.place.at(v), definition.path, demand.frame) for v in values]
        return out + self._written_by_helpers(demand, name, fields), not whole or BASE in whole or not out

    def _written_by_helpers(self, demand: Demand, name: ir.Name, fields: set[str]) -> list[Demand]:
        # `poke(cov, x)`: what a function of the packages writes into the covariance that it is handed.
        out = []
        for call in self.flow.unit(demand.place).calls if fields else ():
            if not any(isinstance(a.value, ir.Name) and a.value.id == name.id for a in call.args):
                continue
            caller = demand.place.at(call)
            for target, bound in self.origins.targets(caller):
                for param in target.node.params if target.module is not self.covariances.home else ():
                    passed = [p.expr for p, path, _ in self.origins.passed(caller, target, param, bound=bound) if not path]
                    if any(isinstance(e, ir.Name) and e.id == name.id for e in passed):
                        frame = self.origins.enter(target, call, caller, demand.frame, bound)
                        out += [Demand(v, path, frame, (), demand.trail) for v, path in self._writes(target, param.name, fields)]
        return out

    def _writes(self, fn: FunctionInfo, name: str, fields: set[str]) -> Iterator[tuple[Place, Path]]:
        own = Place(_name(fn), fn.module, fn)
        for key, definitions in self.origins.reaching(own).every.items():
            if key.startswith(f"{name}.") and key.split(".")[1].partition("[")[0] in fields:
                for definition in definitions:
                    yield from ((own.at(v), definition.path) for v in _stored_values(definition))

    def _arithmetic(self, demand: Demand, expr: ir.BinOp, answer: Answer, faults: Reasons, built: list[bool]) -> Iterable[Demand]:
        if demand.key in self.open:
            self.cut.add(demand.key)
            return []
        sides = [d for d in answer.demands if not isinstance(d.expr, (ir.Constant, ir.UnaryOp)) and not adds_identity(d.expr)]
        self.open.add(demand.key)
        verdicts = [self._verdict(s) for s in sides]
        self.open.discard(demand.key)
        good = [v for v, _ in verdicts if v]
        if good and (expr.op in ("*", "/") or len(good) == len(sides)):
            built[0] = True
        elif good:
            faults += next(inner for v, inner in verdicts if not v)[:1] or [(f"is mixed in `{source_text(demand.place)}`", demand.trail)]
        elif None not in [v for v, _ in verdicts]:
            faults.append((f"comes from `{source_text(demand.place)}`", demand.trail))
        return []

    def _verdict(self, side: Demand) -> tuple[bool | None, Reasons]:
        """Whether one side of a computation is built, with the reasons if not; None where it is only what it is computed for."""
        known = self.verdicts.get(side.key)
        if known is not None:
            return known
        inner: Reasons = []
        reached = [False]
        before, self.cut = self.cut, set()
        if not self.origins.walk(side, lambda d, a: self._visit(d, a, inner, reached)):
            inner.append(("takes too many ways to be followed", side.trail))
        waiting = self.cut & self.open
        good = None if waiting and not reached[0] and not inner else reached[0] and not inner
        self.cut = before | waiting
        if not waiting:
            self.verdicts[side.key] = good, inner
        return good, inner


def _stored_values(definition: Def) -> list[ir.Expr]:
    """The values that a write puts into what is there: none where it only scales."""
    made = definition.expr
    values = [made] if made is not None else []
    if definition.name.endswith(IN_PLACE) and isinstance(made, ir.Call):
        scales = ir.last_name(made.func) in _SCALING
        values = [a.value for a in made.args if a.keyword != "out"] if not scales else []
    return [v for v in values if not isinstance(v, (ir.Constant, ir.UnaryOp)) and not adds_identity(v)]


def _reads_shape(node: ir.Node) -> bool:
    """Whether an expression tells of a value's shape, type or place only: `x.shape`, `x.size(0)`, `zeros_like(x)`, `len(x)`."""
    if isinstance(node, ir.Attribute):
        return node.attr in _SHAPES
    if isinstance(node, ir.Compare):
        return node.ops[0] in ("is", "is not")
    return isinstance(node, ir.Call) and ir.last_name(node.func) in _OF_SHAPE


def _chain(node: ir.Node) -> Iterator[ir.Expr]:
    """The expressions that an access such as `x.factor[0].mH` goes through, down to the name."""
    current = node.args[0].value if isinstance(node, ir.Call) and node.args else node.left if isinstance(node, ir.Compare) else node
    while isinstance(current, (ir.Attribute, ir.Subscript, ir.Name)):
        yield current
        if isinstance(current, ir.Name):
            return
        current = current.value


def _is_zero(expr: ir.Expr) -> bool:
    return isinstance(expr, ir.Call) and ir.last_name(expr.func) in ("zeros_like", "zeros", "new_zeros")


def _name(fn: FunctionInfo) -> ir.Expr:
    node = fn.node
    return ir.Name(node.line, node.column, node.line, node.column, node.name)


_BUILD = (
    "from dataclasses import dataclass\nimport torch\n@dataclass(frozen=True)\nclass Cov:\n    factor: torch.Tensor\n"
    "    def detach(self) -> 'Cov':\n        return Cov(self.factor.detach())\n"
    "def build(predicted: Cov, sample: Cov | None = None, *, beta=0.0) -> Cov:\n    return Cov(predicted.factor)\n"
)
_USE = "from pkg.cov import Cov, build\ndef music(cov: Cov, k):\n    return cov.factor[..., :k]\n"
_SETTINGS = {"covariance": {"builder": "pkg.cov:build", "consumers": ["pkg.use:music"]}}


def _case(name: str, body: str, *, head: str = "", arguments: str = "f", use: str = _USE, consumers: list[str] | None = None) -> Case:
    imports = "from functools import partial\nfrom pkg.cov import Cov, build\nfrom pkg.use import music\n"
    source = f"{imports}{head}def go({arguments}):\n    {body}\n"
    table = {"covariance": {"builder": "pkg.cov:build", "consumers": consumers}} if consumers is not None else {}
    return Case(name, {"pkg/__init__.py": "", "pkg/cov.py": _BUILD, "pkg/use.py": use, "pkg/main.py": source}, table)


RULE = Rule(
    code="COV002",
    title="consumers get their covariance from the builder",
    table="covariance",
    manual=MANUAL,
    mend="Pass what the builder returned, or let the helper that makes it call the builder.",
    check=check,
    settings=_SETTINGS,
    valid=(
        _case("direct", "return music(build(Cov(f)), 2)"),
        _case("the same name twice", "cov = Cov(f)\n    cov = build(cov)\n    return music(cov, 2)"),
        _case(
            "through helpers",
            "return music(first(f), 2)",
            head="def first(f):\n    return second(f)\ndef second(f):\n    return build(Cov(f))\n",
        ),
        _case(
            "an argument handed down",
            "return first(build(Cov(f)))",
            head="def first(r):\n    return second(r)\ndef second(s):\n    return music(s, 2)\n",
        ),
        _case("halved in a loop", "cov = build(Cov(f))\n    for _ in range(3):\n        cov = cov / 2\n    return music(cov, 2)"),
        _case("parts of parts in a loop", "cov = build(Cov(f))\n    for _ in range(3):\n        cov = cov[0]\n    return music(cov, 2)"),
        _case("a tuple's element", "raw, eff = both(f)\n    return music(eff, 2)", head="def both(f):\n    return Cov(f), build(Cov(f))\n"),
        _case(
            "a field",
            "out = Out(Cov(f), build(Cov(f)))\n    return music(out.eff, 2)",
            head="from dataclasses import dataclass\n@dataclass\nclass Out:\n    raw: Cov\n    eff: Cov\n",
        ),
        _case("a dictionary", "made = {'raw': Cov(f), 'eff': build(Cov(f))}\n    return music(made['eff'], 2)"),
        _case(
            "every branch",
            "cov = build(Cov(f)) if s is None else build(Cov(f), Cov(s), beta=0.3)\n    return music(cov, 2)",
            arguments="f, s",
        ),
        _case(
            "an object that is entered",
            "with Made(f) as cov:\n        return music(cov, 2)",
            head="class Made:\n    def __init__(self, f):\n        self.f = f\n"
            "    def __enter__(self):\n        return build(Cov(self.f))\n    def __exit__(self, *error):\n        return None\n",
        ),
        _case(
            "put into a table of the module",
            "TABLE['cov'] = build(Cov(f))\n    return last()",
            head="TABLE = {}\ndef last():\n    return music(TABLE['cov'], 2)\n",
        ),
        _case("a lambda that is mapped", "return list(map(lambda c: music(c, 2), [build(Cov(f))]))"),
        _case(
            "a decorator that hands it over",
            "return run(f)",
            head="def built(fn):\n    def inner(x, *rest):\n        return fn(build(Cov(x)), *rest)\n    return inner\n"
            "@built\ndef run(cov, k=2):\n    return music(cov, k)\n",
        ),
        _case("a list that is filled by index", "covs = [None] * 2\n    covs[0] = build(Cov(f))\n    return [music(c, 2) for c in covs]"),
        _case("scaled in place", "cov = build(Cov(f))\n    cov.factor.mul_(2)\n    return music(cov, 2)"),
        _case(
            "a method of what an attribute holds",
            "return Site(Made(f)).go()",
            head="class Made:\n    def __init__(self, f):\n        self.cov = build(Cov(f))\n"
            "    def __call__(self):\n        return self.cov\n"
            "class Site:\n    def __init__(self, make):\n        self.make, self.cov = make, None\n"
            "    def go(self):\n        return music(self.make(), 2)\n",
        ),
        _case("a list", "covs = []\n    covs.append(build(Cov(f)))\n    return [music(c, 2) for c in covs]"),
        _case("an estimator for others to call", "return f"),
        _case(
            "a cache that starts empty",
            "return Cache().find(f)",
            head="class Cache:\n    def __init__(self):\n        self.kept = {}\n    def find(self, f):\n        key = hash(f)\n"
            "        if key not in self.kept:\n            self.kept[key] = build(Cov(f))\n"
            "        cov = self.kept[key]\n        return music(cov, 2)\n",
        ),
        _case(
            "what the setter of a property keeps",
            "box = Box()\n    box.parts = (build(Cov(f)),)\n    return music(box.parts, 2)",
            head="def same(x):\n    return x\nclass Box:\n    @property\n    def parts(self):\n        return self.made\n"
            "    @parts.setter\n    def parts(self, parts):\n        self.made = same(*parts)\n",
        ),
        _case(
            "a covariance read beside its shape",
            "return music(build(Cov(f)), 2)",
            use=(
                "from pkg.cov import Cov\ndef music(cov: Cov, k):\n    r = cov.factor\n    n = r.shape[-1]\n"
                "    return r.reshape(n, n)[..., :k]\n"
            ),
        ),
        _case(
            "a covariance computed from the consumer's own",
            "return music(build(Cov(f)), 2)",
            use=(
                "from pkg.cov import Cov\ndef music(cov: Cov, k):\n    return space(Cov(cov.factor[1:]), k)\n"
                "def space(cov: Cov, k):\n    return cov.factor[..., :k]\n"
            ),
        ),
        _case("moved and detached", "return music(build(Cov(f)).detach(), 2)"),
        _case("a partial builder", "make = partial(build, beta=0.3)\n    return music(make(Cov(f)), 2)"),
        _case("a helper that serves two", "y = same(f)\n    return music(same(build(Cov(f))), 2), y", head="def same(x):\n    return x\n"),
        _case(
            "a consumer that builds",
            "return localize(f)",
            consumers=["pkg.use:localize", "pkg.use:music"],
            use=_USE + "def localize(f):\n    return music(build(Cov(f)), 2)\n",
            head="from pkg.use import localize\n",
        ),
    ),
    invalid=(
        _case("another one, halved in a loop", "cov = Cov(f)\n    for _ in range(3):\n        cov = cov / 2\n    return music(cov, 2)"),
        _case("never built", "return music(Cov(f), 2)"),
        _case("one branch", "cov = build(Cov(f))\n    if s:\n        cov = Cov(f)\n    return music(cov, 2)", arguments="f, s"),
        _case(
            "a helper that does not build",
            "return music(first(f), 2)",
            head="def first(f):\n    return second(f)\ndef second(f):\n    return Cov(f)\n",
        ),
        _case("one of two callers", "first(build(Cov(f)))\n    return first(Cov(f))", head="def first(r):\n    return music(r, 2)\n"),
        _case("the wrong element", "raw, eff = both(f)\n    return music(raw, 2)", head="def both(f):\n    return Cov(f), build(Cov(f))\n"),
        _case("the wrong key", "made = {'raw': Cov(f), 'eff': build(Cov(f))}\n    return music(made['raw'], 2)"),
        _case("an alias of the consumer", "spectral = music\n    return spectral(Cov(f), 2)"),
        _case("a bound argument", "run = partial(music, Cov(f))\n    return run(2)"),
        _case("a callback", "return apply(music, Cov(f))", head="def apply(fn, x):\n    return fn(x, 2)\n"),
        _case("mapped", "return list(map(music, [Cov(f)], [2]))"),
        _case("a field of unknown data", "return music(f.covariance, 2)"),
        _case(
            "a failed build", "try:\n        cov = build(Cov(f))\n    except ValueError:\n        cov = Cov(f)\n    return music(cov, 2)"
        ),
        _case(
            "a consumer that builds and drops it",
            "return localize(f)",
            consumers=["pkg.use:localize", "pkg.use:music"],
            use=_USE + "def localize(f):\n    build(Cov(f))\n    return music(Cov(f), 2)\n",
            head="from pkg.use import localize\n",
        ),
        _case(
            "an unused covariance", "return music(build(Cov(f)), 2)", use="from pkg.cov import Cov\ndef music(cov: Cov, k):\n    return k\n"
        ),
        _case(
            "a covariance read for its shape only",
            "return music(build(Cov(f)), 2)",
            use=(
                "import torch\nfrom pkg.cov import Cov\ndef music(cov: Cov, k):\n    r = cov.factor\n"
                "    return torch.linalg.eigvalsh(k @ k.mT)[..., :r.shape[-1]]\n"
            ),
        ),
        _case(
            "a cache with another one",
            "return Cache().find(f)",
            head="class Cache:\n    def __init__(self):\n        self.kept = {}\n    def find(self, f):\n        key = hash(f)\n"
            "        if key not in self.kept:\n            self.kept[key] = Cov(f)\n"
            "        return music(self.kept[key], 2)\n",
        ),
        _case("a reference without a call", "return f.register(music)"),
        _case(
            "changed in place by a helper",
            "cov = build(Cov(f))\n    poke(cov, f)\n    return music(cov, 2)",
            head="def poke(cov, f):\n    cov.factor.zero_().add_(f)\n",
        ),
        _case(
            "put into a table of the module by another function",
            "note(f)\n    return music(TABLE['cov'], 2)",
            head="TABLE = {}\ndef note(f):\n    TABLE['cov'] = Cov(f)\n",
        ),
        _case("changed in place", "cov = build(Cov(f))\n    cov.factor.copy_(f)\n    return music(cov, 2)"),
        _case("a missing consumer", "return music(build(Cov(f)), 2)", consumers=["pkg.use:music", "pkg.use:nobody"]),
    ),
    limits=(),
)
