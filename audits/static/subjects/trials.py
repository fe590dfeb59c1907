"""What a trial trains with, returns and writes."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator

from audits.static.analysis.reach import entry_functions
from audits.static.analysis.values import Func, Inst, Mod
from audits.static.context import Context
from audits.static.dataflow.expressions import without_neutral
from audits.static.dataflow.flow import Place
from audits.static.dataflow.origins import Answer, Demand, Origins, is_infinite
from audits.static.dataflow.reaching import BASE, access, step_text
from audits.static.source import ir
from audits.static.source.project import FunctionInfo, ModuleInfo, lookup_scope
from audits.static.subjects.configs import configs_of
from audits.static.subjects.selection import RESULT_FIELDS

_SAME = frozenset({"float", "item", "float64", "float32", "cast", "tolist", "round"})
_BEST = re.compile(r"best|score|objective|composite", re.I)
_LOSS = re.compile(r"loss|nll|rmse|epoch|histor|time", re.I)
_CONFIG = re.compile(r"(^|_)(configs?|cfg|conf|settings|hparams|hyper_?params|options|opts|hps)(_|$)|Config|Settings|HParams", re.I)
_DEEP = frozenset({"deepcopy", "model_dump", "asdict", "as_dict", "to_dict", "model_dump_json", "to_container", "loads", "json", "dumps"})
_SHALLOW = frozenset({"copy", "model_copy", "dict", "replace", "evolve", "_replace", "list", "__copy__"})
_WRITES = frozenset(
    ["update", "pop", "clear", "setdefault", "append", "extend", "insert", "remove", "popitem", "sort", "reverse", "add", "discard",
     "__setitem__", "__delitem__",
     "__setattr__", "__delattr__", "merge_from_dict", "merge_from_file", "merge_from_list", "set_value", "override"]
)  # fmt: skip


class Trials:
    """Questions about the functions that run as trials."""

    def __init__(self, context: Context, roots: list[FunctionInfo]) -> None:
        settings, origins = context.settings, context.origins
        self.origins = origins
        self.trials = trial_functions(origins, roots)
        self.fits = entry_functions(context.analysis, settings.trainer) if settings.trainer else []
        self.key = settings.primary_key or "val_primary"
        self.accepted = origins.score_values(self.key)
        self.roots = settings.config_roots or ("config", "cfg")
        self.classes = configs_of(context).of_class
        project = context.project
        self.reached = origins.flow.cold_path([*self.trials, *(f for f in project.functions if inside(f, self.trials))])
        self.outer = {o for t in self.trials for o in _enclosing(t)} | set(self.trials)
        self._reads: list[Place] | None = None

    # -- what is returned

    def returned(self, fn: FunctionInfo) -> Iterator[tuple[Demand, Answer]]:
        """Where the values that a trial returns end, other than in what fit() returned; and the fit() calls themselves."""
        for node in ir.walk_own(fn.node.body):
            if isinstance(node, ir.Return) and node.value is not None:
                ends: list[tuple[Demand, Answer]] = []

                def visit(demand: Demand, answer: Answer, ends: list[tuple[Demand, Answer]] = ends) -> bool | Iterable[Demand]:
                    expr = demand.expr
                    none = isinstance(expr, ir.Constant) and expr.value is None  # which fails the trial
                    if is_infinite(expr) or none or answer.kind == "cycle":
                        return False
                    if isinstance(expr, ir.Call):
                        if self.is_fit(demand.place):
                            ends.append((demand, Answer("fit")))
                            return False
                        if answer.kind == "outside" and ir.last_name(expr.func) in _SAME and answer.demands:
                            return answer.demands[-1:] if ir.last_name(expr.func) == "cast" else answer.demands[:1]
                    if answer.kind == "moved" and answer.demands:
                        return True
                    plain = without_neutral(expr)
                    if plain is not expr:
                        return [self._part(demand, plain)]
                    ends.append((demand, answer))
                    return answer.kind.startswith("mixed")

                self.origins.walk(Demand(Place(node.value, fn.module, fn)), visit)
                yield from ends

    def is_fit(self, place: Place) -> bool:
        """Whether a call runs the trainer's fit()."""
        targets = [t for t, _ in self.origins.targets(place)]
        if targets:
            return any(t in self.fits for t in targets) or (not self.fits and targets[0].node.name == "fit")
        return isinstance(place.expr, ir.Call) and ir.last_name(place.expr.func) == "fit"

    def is_best(self, demand: Demand) -> bool:
        """Whether the part of fit()'s result that is taken is its best value."""
        path = demand.path
        if not path:
            return True
        name = path[0][1]
        if isinstance(name, str):
            return name in RESULT_FIELDS or (bool(_BEST.search(name)) and not _LOSS.search(name))
        places = [r for f, _ in self.origins.targets(demand.place) for r in self.origins.flow.returns(f)]
        chosen = [
            p.expr.items[name] for p in places
            if isinstance(p.expr, ir.Sequence) and isinstance(name, int) and -len(p.expr.items) <= name < len(p.expr.items)
        ]  # fmt: skip
        return not chosen or all(_BEST.search(_name(e)) and not _LOSS.search(_name(e)) for e in chosen)

    @property
    def wanted(self) -> str:
        """The value that a trial must set, for messages."""
        return "k_loc" if "k_loc" in self.accepted else min(self.accepted)

    # -- the primary

    def configured(self, demand: Demand) -> bool | Place | None:
        """Whether the key, wherever the code that a call of fit() runs reads it, is what the trial sets it to.

        A place where it is set to another value, or None where the way to it cannot be followed to its end.
        """
        frames = {}
        for fn, bound in self.origins.targets(demand.place):
            assert isinstance(demand.expr, ir.Call)
            frames[fn] = self.origins.enter(fn, demand.expr, demand.place, demand.frame, bound)
        results = [self._configured(Demand(p, (), frames.get(p.fn) if p.fn is not None else None)) for p in self._key_reads()]
        wrong = next((r for r in results if isinstance(r, Place)), None)
        return wrong if wrong is not None else results[0] if results and all(r is results[0] for r in results) else None

    def _configured(self, read: Demand) -> bool | Place | None:
        results: list[bool | Place | None] = []

        def visit(demand: Demand, answer: Answer) -> bool:
            place = demand.place
            if demand.path and (answer.kind == "parameter" or self._own_parameter(demand)):
                results.append(False)
            elif answer.kind == "moved":
                if self._merged_into(demand):
                    results.append(None)
                return True
            elif isinstance(demand.expr, ir.Constant) and not demand.path:
                declared = place.fn is None and self._is_default(place)
                if str(demand.expr.value).lower() not in self.accepted:
                    results.append(False if declared else place)
                else:
                    results.append(not declared)
            else:
                results.append(None)
            return False

        if not self.origins.walk(read, visit, 400) or not results or None in results:
            return None
        wrong = next((r for r in results if isinstance(r, Place)), None)
        return wrong if wrong is not None else all(r is True for r in results)

    def _merged_into(self, demand: Demand) -> bool:
        # `out[section].update(values)`: the part that is asked for may have been written under a key that is not known.
        expr = demand.expr
        if not isinstance(expr, ir.Name) or len(demand.path) < 2:
            return False
        steps = [rf"({re.escape(step_text(s))}|\[\*\])" for s in demand.path]
        pattern = re.compile(re.escape(expr.id) + steps[0] + steps[1] + "".join(f"({s}" for s in steps[2:]) + ")?" * len(steps[2:]))
        env = self.origins.reaching(demand.place).envs.get(id(expr), {})
        return any("[*]" in name and pattern.fullmatch(name) for name in env)

    def _is_default(self, place: Place) -> bool:
        # `val_primary: str = "k_loc"` in a class.
        bodies = [c.node.body for c in self.origins.analysis.project.classes if c.module is place.module]
        fields = [s for body in bodies for s in body if isinstance(s, ir.Assign) and s.value is place.expr]
        return any(ir.last_name(s.targets[0]) == self.key for s in fields)

    def _key_reads(self) -> list[Place]:
        # `self.config.train.val_primary` in what fit() runs.
        if self._reads is None:
            self._reads = []
            for fn in self.origins.flow.cold_path(self.fits):
                stored = {id(t) for n in ir.walk_own(fn.node.body) if isinstance(n, ir.Assign) for t in n.targets}
                for node in ir.walk_own(fn.node.body):
                    if not isinstance(node, (ir.Attribute, ir.Subscript)) or id(node) in stored:
                        continue
                    found = access(node)
                    if found is not None and found[1][-1][1] == self.key and {found[0], *(k for _, k in found[1])} & {*self.roots}:
                        self._reads.append(Place(node, fn.module, fn))
        return self._reads

    def sets_primary(self, demand: Demand, depth: int = 24) -> bool | Place:
        """Whether every way to a value sets the key to an accepted value; a place where it is set to another one."""
        expr = demand.expr
        if depth == 0:
            return False
        if isinstance(expr, (ir.IfExp, ir.BoolOp)):
            parts = [expr.body, expr.orelse] if isinstance(expr, ir.IfExp) else expr.values
            return self._all([self._part(demand, p) for p in parts], depth)
        elsewhere = self._other_sections(expr) | _merged_over(expr)
        sites = list(self._sites(demand, expr, elsewhere))
        if sites:
            bad = next((s for s in sites if not self._accepted(s)), None)
            return True if bad is None else bad.place
        if isinstance(expr, ir.Name):
            stored = self._stored(demand, expr)
            if stored is not None:
                return stored
            if self._own_parameter(demand):
                return False
            answer = self.origins.step(Demand(demand.place, (), demand.frame))
            return self._all(list(answer.demands), depth) if answer.demands and not answer.kind.startswith("mixed") else False
        if isinstance(expr, ir.Call):
            answer = self.origins.step(Demand(demand.place, (), demand.frame))
            if answer.kind == "moved" and answer.demands and not _merged_over(expr):
                found = self._all(list(answer.demands), depth)
                if found is not False or not self.origins.flow.constructions:
                    return found
                if any(t for t, _ in self.origins.targets(demand.place) if not _builds(t)):
                    return False
            parts = [a.value for a in expr.args if id(a.value) not in elsewhere]
            parts += [expr.func.value] if isinstance(expr.func, ir.Attribute) else []
            return self._any([self._part(demand, p) for p in parts], depth)
        if isinstance(expr, ir.Attribute):
            answer = self.origins.step(Demand(demand.place, (), demand.frame))
            if answer.kind == "moved" and answer.demands and not any(d.path for d in answer.demands):  # a property
                return self._all(list(answer.demands), depth)
        if isinstance(expr, (ir.Attribute, ir.Subscript, ir.NamedExpr, ir.Starred, ir.Await)):
            return self.sets_primary(self._part(demand, expr.value), depth - 1)
        inner = [c for c in ir.children(expr) if isinstance(c, ir.Expr) and id(c) not in elsewhere]
        return self._any([self._part(demand, p) for p in inner], depth)

    def _part(self, demand: Demand, expr: ir.Expr) -> Demand:
        return Demand(demand.place.at(expr), (), demand.frame)

    def _all(self, demands: list[Demand], depth: int) -> bool | Place:
        for demand in demands:
            found = self.sets_primary(demand, depth - 1)
            if found is not True:
                return found
        return bool(demands)

    def _any(self, demands: list[Demand], depth: int) -> bool | Place:
        results = [self.sets_primary(d, depth - 1) for d in demands]
        return next((r for r in results if isinstance(r, Place)), any(r is True for r in results))

    def _sites(self, demand: Demand, expr: ir.Expr, elsewhere: set[int]) -> Iterator[Demand]:
        for node in ir.walk(expr):
            if id(node) in elsewhere:
                continue
            if isinstance(node, ir.Arg) and node.keyword == self.key:
                yield self._part(demand, node.value)
            elif isinstance(node, ir.Dict):
                for i, (name, value) in enumerate(zip(node.keys, node.values, strict=True)):
                    later = [v for k, v in zip(node.keys[i:], node.values[i:], strict=True) if k is None]
                    if name is not None and self._is_key(name) and not any(self._may_hold(demand, v) for v in later):
                        yield self._part(demand, value)
            elif isinstance(node, (ir.Sequence, ir.Call)):
                items = node.items if isinstance(node, ir.Sequence) else [a.value for a in node.args if a.keyword is None]
                for name, value in itertools.pairwise(items):
                    if self._is_key(name):
                        yield self._part(demand, value)
            elif isinstance(node, ir.Constant) and isinstance(node.value, str) and re.search(rf"\b{self.key}\s*=\s*['\"]?\w", node.value):
                text = re.sub(rf".*\b{self.key}\s*=\s*['\"]?(\w+).*", r"\1", node.value, flags=re.S)
                yield self._part(demand, ir.Constant(node.line, node.column, node.end_line, node.end_column, text))

    def _other_sections(self, expr: ir.Expr) -> set[int]:
        # `{"loss": {"val_primary": ...}}` where the key is read in the section `train`.
        read = {r[1][-2][1] for p in self._key_reads() if (r := access(p.expr)) is not None and len(r[1]) > 1}
        if not read or read & {*self.roots}:
            return set()
        pairs: list[tuple[object, ir.Expr]] = []
        for node in ir.walk(expr):
            if isinstance(node, ir.Dict):
                pairs += [(k.value, v) for k, v in zip(node.keys, node.values, strict=True) if isinstance(k, ir.Constant)]
            elif isinstance(node, ir.Arg) and node.keyword is not None:
                pairs.append((node.keyword, node.value))
        return {id(v) for k, v in pairs if isinstance(v, ir.Dict) and k not in read}

    def _may_hold(self, demand: Demand, spread: ir.Expr) -> bool:
        # A mapping that is spread later would win.
        return self.origins.has_item(Demand(demand.place.at(spread), (("item", self.key),), demand.frame)) is not False

    def _is_key(self, expr: ir.Expr) -> bool:
        if not isinstance(expr, ir.Constant) or not isinstance(expr.value, str):
            return False
        return re.split(r"[./]|--", expr.value)[-1].replace("-", "_") == self.key

    def _accepted(self, demand: Demand) -> bool:
        expr = demand.expr
        if isinstance(expr, ir.Constant):
            return str(expr.value).lower() in self.accepted
        # None is what a variable holds before a loop; validation refuses it.
        found = {str(value).lower() for value, _, _ in self.origins.constants(demand) if value is not None}
        if found:
            return found <= self.accepted
        return isinstance(expr, ir.Attribute) and expr.attr.isupper() and expr.attr.lower() in self.accepted

    def _stored(self, demand: Demand, expr: ir.Name) -> bool | Place | None:
        # `cfg.train.val_primary = ...` or `values["train"]["val_primary"] = ...` before this use.
        env = self.origins.reaching(demand.place).envs.get(id(expr), {})
        endings = (step_text(("field", self.key)), step_text(("item", self.key)))
        for name, alternatives in env.items():
            if name.startswith(expr.id) and name[len(expr.id) : len(expr.id) + 1] in (".", "["):
                values = [d for d in alternatives if d is not BASE and d.expr is not None]
                whole = BASE not in alternatives
                merged = [d.expr for d, guards in alternatives.items() if d.expr is not None and _is_update(d.node) and not guards]
                if any(self.sets_primary(self._part(demand, e), 8) is True for e in merged):
                    return True
                if name.endswith(endings):
                    for definition in values:
                        assert definition.expr is not None
                        if not self._accepted(self._part(demand, definition.expr)):
                            return demand.place.at(definition.expr)
                    if whole:
                        return True
                elif whole and values:
                    found = self._all([self._part(demand, d.expr) for d in values if d.expr is not None], 8)
                    if found is not False:
                        return found
        return None

    # -- what is written

    def writes(self) -> Iterator[tuple[Place, Place]]:
        """Every write in what a trial reaches, with the object that it changes."""
        for fn in self.reached:
            for node in ir.walk_own(fn.node.body):
                targets: list[ir.Expr] = []
                if isinstance(node, ir.Assign) and node.value is not None:
                    targets = node.targets
                elif isinstance(node, (ir.AugAssign, ir.Delete, ir.For)):
                    targets = [node.target]
                for target in [i for t in targets for i in (t.items if isinstance(t, ir.Sequence) else [t])]:
                    if self._rebinds(fn, target):
                        yield Place(target, fn.module, fn), Place(target, fn.module, fn)
                    elif isinstance(target, (ir.Attribute, ir.Subscript)):
                        yield Place(target, fn.module, fn), Place(_unwrapped(target.value), fn.module, fn)
                    elif isinstance(node, ir.AugAssign) and node.op == "|":
                        yield Place(target, fn.module, fn), Place(target, fn.module, fn)
                if isinstance(node, ir.Call):
                    written = _written(node)
                    if written is not None:
                        yield Place(node, fn.module, fn), Place(_unwrapped(written), fn.module, fn)

    def _rebinds(self, fn: FunctionInfo, target: ir.Expr) -> bool:
        # `self.config = ...` of the object whose method is the trial, or `CONFIG = ...` of a module.
        if isinstance(target, ir.Name):
            return target.id in fn.scope.outer and self._named_config(target)
        first = fn.node.params[0].name if fn.cls is not None and fn.node.params else ""
        lasting = any(t.cls is fn.cls for t in self.trials) and fn.node.name != "__init__"
        own = isinstance(target, ir.Attribute) and isinstance(target.value, ir.Name) and target.value.id == first
        return own and lasting and isinstance(target, ir.Attribute) and target.attr in self.roots

    def shared(self, place: Place) -> bool:
        """Whether an object is configuration that the trial did not make."""
        if place.fn is not None and self._rebinds(place.fn, place.expr):
            return True
        found = [False]
        marked = self._named_config(place.expr) or self._typed_config(place)

        def visit(demand: Demand, answer: Answer) -> bool | Iterable[Demand]:
            expr = demand.expr
            named = marked or self._named_config(expr) or any(_CONFIG.search(str(k)) for _, k in demand.path)
            module = isinstance(expr, ir.Name) and any(isinstance(v, Mod) for v in self.origins.values(demand.place))
            if module or self._own_parameter(demand):
                found[0] = found[0] or named
                return False
            if isinstance(expr, ir.Call):
                name = ir.last_name(expr.func)
                if name == "type" and len(expr.args) == 1:
                    return answer.demands
                deep = any(a.keyword == "deep" and getattr(a.value, "value", False) is True for a in expr.args)
                if name in _DEEP or deep or (name in _SHALLOW and not demand.path and not self.origins.targets(demand.place)):
                    return False
                if demand.place.fn is None and self.origins.classes(demand.place):
                    found[0] = found[0] or named or self._typed_config(demand.place)
                    return False
            if answer.kind == "moved":
                for inner in answer.demands:
                    if inner.place.fn is None and isinstance(expr, (ir.Name, ir.Attribute)) and (named or self._typed_config(inner.place)):
                        found[0] = True
                        return False
                return True
            if isinstance(expr, ir.Dict) and demand.path and answer.kind == "composite":
                return False
            if answer.kind == "parameter" or answer.kind.startswith("mixed"):
                found[0] = found[0] or named
                return answer.demands
            return False

        self.origins.walk(Demand(place), visit)
        return found[0]

    def _own_parameter(self, demand: Demand) -> bool:
        # A parameter of the trial, or of a function around it: what it stands for was there before the trial.
        expr, fn = demand.expr, demand.place.fn
        if not isinstance(expr, ir.Name) or fn is None:
            return False
        scope = lookup_scope(fn.scope, expr.id)
        owner = scope.function if scope is not None and scope.kind == "function" else None
        if owner is None or owner not in self.outer:
            return False
        if owner is fn:
            found = self.origins.reaching(demand.place).envs.get(id(expr), {}).get(expr.id, {})
            return any(d.kind == "param" for d in found)
        bound = self.origins.reaching(Place(expr, owner.module, owner)).every.get(expr.id, [])
        return bool(bound) and all(d.kind == "param" for d in bound)

    def _named_config(self, expr: ir.Expr) -> bool:
        names: list[str] = []
        while isinstance(expr, (ir.Attribute, ir.Subscript)):
            names.append(expr.attr if isinstance(expr, ir.Attribute) else "")
            expr = expr.value
        names.append(ir.last_name(expr))
        return any(n in self.roots or _CONFIG.search(n) for n in names if n)

    def _typed_config(self, place: Place) -> bool:
        for value in self.origins.values(place):
            if isinstance(value, Inst) and (value.cls in self.classes or _CONFIG.search(value.cls.node.name)):
                return True
            if isinstance(value, Mod) and (_CONFIG.search(value.module.name.rpartition(".")[2]) or "constants" in value.module.name):
                return True
        return False


def trial_parameter(fn: FunctionInfo) -> bool:
    """Whether a function takes a trial."""
    params = fn.node.params[1:] if fn.cls is not None and fn.node.params else fn.node.params
    return any("trial" in p.name.lower() or (p.annotation is not None and ir.last_name(p.annotation).endswith("Trial")) for p in params)


def trial_functions(origins: Origins, roots: list[FunctionInfo]) -> list[FunctionInfo]:
    """The functions that run as trials: the objective, those inside it, or the object that it returns."""
    roots = [r for r in roots if r.node.name not in ("__init__", "__post_init__", "__new__")] or roots
    direct = [r for r in roots if trial_parameter(r)]
    if direct:
        return direct
    project = origins.analysis.project
    inner = [f for f in project.functions if inside(f, roots)]
    made = []
    for root in roots:
        for place in origins.flow.returns(root):
            made += _called(origins, place)
    chosen = [f for f in [*inner, *made] if trial_parameter(f)] or made or [f for f in inner if f.node.name != "<lambda>"]
    return list(dict.fromkeys(chosen)) or roots


def optimized(origins: Origins, modules: list[ModuleInfo]) -> Iterator[tuple[Place, list[FunctionInfo]]]:
    """What is handed to each study's `optimize`, with the functions that it stands for."""
    for unit in [*origins.analysis.modules.values(), *origins.analysis.cold.values()]:
        for call in unit.calls if unit.module in modules else ():
            own = any(isinstance(c, Func) and not c.weak for c in unit.calls[call])  # which hands it on to a study's
            if ir.last_name(call.func) == "optimize" and not own:
                for given in [a.value for a in call.args if a.keyword in (None, "func")][:1]:
                    place = Place(given, unit.module, unit.fn)
                    yield place, _called(origins, place)


def handed_over(origins: Origins, trials: list[FunctionInfo], modules: list[ModuleInfo]) -> list[FunctionInfo]:
    """The functions around the trials that are handed to `optimize` in their stead."""
    found = [f for _, functions in optimized(origins, modules) for f in functions]
    wrappers = [f for f in dict.fromkeys(found) if f not in trials]
    return [f for f in wrappers if any(t in origins.flow.cold_path([f]) for t in trials)]


def _called(origins: Origins, place: Place) -> list[FunctionInfo]:
    # What runs when a value is called: a function, or the method of an object.
    if isinstance(place.expr, ir.Lambda):
        fn = origins.analysis.project.function_of.get(place.expr.function)
        return [fn] if fn is not None else []
    out = []
    for value in origins.values(place):
        if isinstance(value, Inst):
            out += [f for f in value.cls.module.functions.values() if f.cls is value.cls and f.node.name == "__call__"]
        elif isinstance(value, Func):
            out.append(value.fn)
    return out


def inside(fn: FunctionInfo, outer: Iterable[FunctionInfo]) -> bool:
    """Whether a function is written inside one of others."""
    wanted = set(outer)
    current = fn.enclosing
    while current is not None:
        if current in wanted:
            return True
        current = current.enclosing
    return False


def _enclosing(fn: FunctionInfo) -> Iterator[FunctionInfo]:
    current = fn.enclosing
    while current is not None:
        yield current
        current = current.enclosing


def _builds(fn: FunctionInfo) -> bool:
    return bool(re.search(r"build|make|create|from_|merge|with_|replaced|load|parse|validate|apply|override", fn.node.name))


def _merged_over(expr: ir.Expr) -> set[int]:
    # `merge({"train": {...}}, {"train": config.train.model_dump()})`: what comes later wins.
    out: set[int] = set()
    for call in ir.walk(expr):
        if isinstance(call, ir.Call) and re.search(r"merge|update|combine|overlay|override", ir.last_name(call.func)):
            for earlier, later in itertools.combinations([a.value for a in call.args if a.keyword is None], 2):
                if any(isinstance(n, ir.Call) and ir.last_name(n.func) in _DEEP for n in ir.walk(later)):
                    out |= {id(n) for n in ir.walk(earlier)}
    return out


def _name(expr: ir.Expr) -> str:
    found = access(expr)
    return "".join([found[0], *(step_text(s) for s in found[1])]) if found is not None else ir.last_name(expr)


def _is_update(node: ir.Node | None) -> bool:
    return isinstance(node, ir.Call) and ir.last_name(node.func) == "update"


def _unwrapped(expr: ir.Expr) -> ir.Expr:
    # `x.__dict__` and `vars(x)` are x.
    while True:
        if isinstance(expr, ir.Attribute) and expr.attr in ("__dict__", "__pydantic_fields_set__"):
            expr = expr.value
        elif isinstance(expr, ir.Call) and ir.last_name(expr.func) == "vars" and expr.args:
            expr = expr.args[0].value
        else:
            return expr


def _written(call: ir.Call) -> ir.Expr | None:
    name = ir.last_name(call.func)
    plain = [a.value for a in call.args if a.keyword is None]
    if name in ("object", "dict") and plain and isinstance(call.func, ir.Attribute) and ir.last_name(call.func.value) == "patch":
        return plain[0]
    if name in ("setattr", "delattr", "setitem", "delitem") and plain:
        return plain[0]
    if name in ("__setattr__", "__delattr__") and len(plain) == (3 if name == "__setattr__" else 2):
        return plain[0]
    if name in _WRITES and isinstance(call.func, ir.Attribute) and access(_unwrapped(call.func.value)) is not None:
        return call.func.value
    return None
