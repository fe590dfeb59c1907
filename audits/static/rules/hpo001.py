"""HPO001: dataset sizes come from configuration or the manifest."""

from __future__ import annotations

import itertools
import re
from collections.abc import Container, Iterable, Iterator

from audits.static.analysis.reach import entry_functions
from audits.static.analysis.values import Cls, Func
from audits.static.context import Context
from audits.static.dataflow.backwards import NEAR
from audits.static.dataflow.demands import ELEMENT, Answer, Demand, field_names
from audits.static.dataflow.flow import Flow, Place, pairs_of
from audits.static.dataflow.origins import Origins
from audits.static.dataflow.primary_values import is_read
from audits.static.findings import Finding, Step
from audits.static.rules.base import Case, Rule
from audits.static.source import ir
from audits.static.source.project import FunctionInfo, ModuleInfo
from audits.static.subjects.configs import configs_of
from audits.static.subjects.literals import Literal, LiteralSearch, numeric

MANUAL = """\
A search that was tuned on sizes written into the code keeps them when the data grows. Every value that reaches one of
`hpo.size-arguments` - as a keyword, positional argument, variable, field, dictionary key, default or text such as
"n_train=8000" - in the `hpo.modules` or in anything that the objective reaches, and every subset, slice or range of
data in the `hpo.modules`, is followed backwards through variables, helpers, defaults and fields; so are samplers and
subsets in all that a trial reaches, and what a loop over data is cut short by. It must end in configuration or the
manifest; a literal number on the way is a finding, with the path to it. The neutral 0 and 1 are allowed inside an
expression (`max(1, n)`, `n - 1`), not as the whole value. Conditions, keys and plain indices are not part of the
flow. Fields of configuration classes end the search: there a default is configuration. What a manifest holds is followed
to what reads it. A mapping that `**` unpacks counts for each size that the call may take from it, whatever computes its keys.
"""
_COUNTS = frozenset(
    [
        "count",
        "limit",
        "subset_size",
        "num_samples",
        "n_samples",
        "max_samples",
        "n_scenes",
        "max_scenes",
        "n_subset",
        "dataset_size",
        "train_size",
        "val_size",
        "n_examples",
        "max_examples",
    ]
)
_KEYED = frozenset({"setdefault", "get", "pop", "getattr", "set", "override"})
_SIZE = 100  # below it a literal for a word as general as `count`, outside the search's modules, is no dataset size
_PERHAPS = "a slice of what may be data"  # where a small literal may be the width of a text
_ONLY_DATA = frozenset({"Subset", "random_split", "RandomSampler", "SubsetRandomSampler", "WeightedRandomSampler"})
_SUBSETS = {
    "RandomSampler": 2, "SubsetRandomSampler": 0, "WeightedRandomSampler": 1, "Subset": 1, "random_split": 1, "islice": 1, "take": 0,
    "select": 0, "head": 0, "narrow": 2, "sample": 0,
}  # fmt: skip
_NEUTRAL = (0, 1, -1)  # of a bound: from the start, to the end, backwards
_DATA_WORDS = re.compile(r"data|train|val|test|ind(ex|ices)|idx|perm|order|sample|scene|shard|subset|split|loader", re.I)


def check(context: Context) -> Iterable[Finding]:
    """One finding for each literal, at the literal."""
    settings = context.settings
    flow = context.flow
    roots = entry_functions(context.analysis, settings.objective)
    modules = context.project.in_modules(settings.hpo_modules)
    if not modules:
        yield context.config_finding("HPO001", "hpo.modules", f"no module of {list(settings.hpo_modules)} exists")
        return
    if not roots:
        yield context.config_finding("HPO001", "hpo.objective", f"the objective {settings.objective} does not exist")
    for name in settings.size_arguments:
        if not is_read(context.project, name):
            yield context.config_finding("HPO001", "hpo.size-arguments", f"no parameter, keyword, key or variable is called {name!r}")
    paths = flow.cold_path(roots)
    callers = {f for f in context.project.functions if f in paths or f.module in modules}
    search = LiteralSearch(context.origins, settings.config_roots or ("config", "cfg"), configs_of(context).of_class, modules)
    context.origins.only = lambda fn: fn in callers  # an argument from code that no trial runs says nothing about trials
    try:
        found = list(_fed(context, search, modules, paths))
    finally:
        context.origins.only = None
    seen: set[int] = set()
    for what, literal, fn in found:
        place = literal.place
        if id(place.expr) not in seen:
            seen.add(id(place.expr))
            call_path: tuple[Step, ...] = (*(paths.get(fn, ()) if fn is not None else ()), *literal.path)
            message = f"{what} is fed by the literal {context_text(place)}; it must come from configuration or the manifest"
            yield context.finding(
                "HPO001", place.module, place.expr, message, fn=place.fn, entry_point=settings.objective, call_path=call_path
            )


def _fed(
    context: Context, search: LiteralSearch, modules: list[ModuleInfo], paths: dict[FunctionInfo, tuple[Step, ...]]
) -> Iterator[tuple[str, Literal, FunctionInfo | None]]:
    sizes = context.settings.size_arguments
    for module, fn, body in _scopes(context, modules, paths):
        own = module in modules
        if not own:
            # Elsewhere a variable that shares its name with a size argument is anything; what is passed is a size.
            body = [n for n in body if not isinstance(n, (ir.Assign, ir.AugAssign))]
        named = _named_sinks(context.flow, sizes, module, fn, body)
        parts = _item_slices(context.origins, module, fn, body) if own else ()
        for what, value in [*named, *_subset_sinks(context.flow, sizes, module, fn, body, own), *parts]:
            for literal in search.find(Place(value, module, fn)):
                if what == _PERHAPS and abs(numeric(literal.place.expr) or 0) < _SIZE:
                    continue
                if not own and what in _COUNTS and (len(literal.path) > 1 or abs(numeric(literal.place.expr) or 0) < _SIZE):
                    continue
                yield what, literal, fn
        for name, mapping, open_call in _unpacked(context.flow, sizes, module, fn, body):
            yield from ((name, literal, fn) for literal in search.find(Place(mapping, module, fn), name, named=open_call))


def context_text(place: Place) -> str:
    """The source text of a one-line expression."""
    expr = place.expr
    line = place.module.lines[expr.line - 1] if expr.line <= len(place.module.lines) else ""
    return line[expr.column - 1 : expr.end_column - 1] if expr.line == expr.end_line else "here"


def _scopes(
    context: Context, modules: list[ModuleInfo], paths: dict[FunctionInfo, tuple[Step, ...]]
) -> Iterator[tuple[ModuleInfo, FunctionInfo | None, list[ir.Node]]]:
    for module in modules:
        yield module, None, list(_with_class_bodies(module.tree.body))
    for fn in context.project.functions:
        if fn.module in modules or fn in paths:
            yield fn.module, fn, [*fn.node.params, *ir.walk_own(fn.node.body)]


def _with_class_bodies(body: list[ir.Stmt]) -> Iterator[ir.Node]:
    for node in ir.walk_own(body):
        yield node
        if isinstance(node, ir.ClassDef):
            yield from _with_class_bodies(node.body)


def _named_sinks(
    flow: Flow, sizes: tuple[str, ...], module: ModuleInfo, fn: FunctionInfo | None, body: list[ir.Node]
) -> Iterator[tuple[str, ir.Expr]]:
    lowered = {s.lower() for s in sizes}
    ending = re.compile(rf"\b({'|'.join(map(re.escape, sizes))})\s*[=:]\s*$")
    assigned = re.compile(rf"\b({'|'.join(map(re.escape, sizes))})\s*[=:]\s*\d")
    for node in body:
        if isinstance(node, ir.Param) and node.name.lower() in lowered and node.default is not None:
            yield node.name, node.default
        elif isinstance(node, (ir.Assign, ir.AugAssign)) and node.value is not None:
            yield from _assigned(node, lowered)
        elif isinstance(node, ir.Call):
            yield from _passed(flow.callees(Place(node, module, fn)), node, lowered)
            yield from _spread(flow, Place(node, module, fn), node, lowered)
            plain = [a.value for a in node.args if a.keyword is None]
            for before, value in itertools.pairwise(plain):
                if ir.last_name(node.func) in _KEYED and _is_key(before, lowered):
                    yield _text(before), value
        elif isinstance(node, ir.FString):
            for part, value in zip(node.parts, node.parts[1:], strict=False):
                if isinstance(part, ir.Constant) and ending.search(str(part.value)):
                    yield str(part.value), value
        elif isinstance(node, ir.Dict):
            for key, value in zip(node.keys, node.values, strict=True):
                if key is not None and _is_key(key, lowered):
                    yield _text(key), value
        elif isinstance(node, ir.Sequence):
            for key, value in zip(node.items, node.items[1:], strict=False):
                if _is_key(key, lowered):
                    yield _text(key), _as_number(value)
        elif isinstance(node, ir.Constant) and isinstance(node.value, str) and assigned.search(node.value):
            if "\n" not in node.value:
                number = re.findall(r"[\d_]+", node.value)[-1]
                yield node.value, ir.Constant(node.line, node.column, node.end_line, node.end_column, int(number or 0))


def _as_number(value: ir.Expr) -> ir.Expr:
    if isinstance(value, ir.Constant) and isinstance(value.value, str) and value.value.replace("_", "").isdigit():
        return ir.Constant(value.line, value.column, value.end_line, value.end_column, int(value.value))
    return value


def _assigned(node: ir.Assign | ir.AugAssign, sizes: Container[str]) -> Iterator[tuple[str, ir.Expr]]:
    assert node.value is not None
    for target in node.targets if isinstance(node, ir.Assign) else [node.target]:
        for item, value in pairs_of(target, node.value):
            if isinstance(item, ir.Subscript):
                if _is_key(item.index, sizes):
                    yield _text(item.index), value
            elif ir.last_name(item).lower() in sizes:
                yield ir.last_name(item), value


def _passed(callees: Iterable[object], node: ir.Call, sizes: Container[str]) -> Iterator[tuple[str, ir.Expr]]:
    for arg in node.args:
        if arg.keyword is not None and arg.keyword.lower() in sizes:
            yield arg.keyword, arg.value
    plain = [a.value for a in node.args if a.keyword is None and not a.star]
    for names in _signatures(callees):
        yield from ((n, v) for n, v in zip(names, plain, strict=False) if n.lower() in sizes)
    if ir.last_name(node.func) == "setattr" and len(node.args) == 3 and _is_key(node.args[1].value, sizes):
        yield _text(node.args[1].value), node.args[2].value


def _signatures(callees: Iterable[object], *, keywords: bool = False) -> Iterator[list[str]]:
    """The positional parameters of what is called, without the receiver; those that are passed by keyword only come last, if wanted."""
    for callee in callees:
        if isinstance(callee, Func) and not callee.weak:
            yield _parameters(callee.fn, keywords=keywords)[1 if callee.bound else 0 :]
        elif isinstance(callee, Cls):
            init = callee.cls.module.functions.get(f"{callee.cls.qualname}.__init__")
            yield _parameters(init, keywords=keywords)[1:] if init is not None else field_names(callee.cls)


def _parameters(fn: FunctionInfo, *, keywords: bool) -> list[str]:
    return [p.name for p in (fn.node.params if keywords else fn.positional) if p.kind not in ("*", "**")]


def _spread(flow: Flow, place: Place, node: ir.Call, sizes: Container[str]) -> Iterator[tuple[str, ir.Expr]]:
    # `load(*[80_000, 100])`
    before = [a for a in node.args if a.keyword is None]
    for start, arg in enumerate(before):
        if arg.star == "*":
            tables = [place.at(arg.value), *flow.sources(place.at(arg.value))]
            items = next((t.expr.items for t in tables if isinstance(t.expr, ir.Sequence) and t.fn is place.fn), [])
            for names in _signatures(flow.callees(place)):
                yield from ((n, v) for n, v in zip(names[start:], items, strict=False) if n.lower() in sizes)
            break


def _unpacked(
    flow: Flow, sizes: tuple[str, ...], module: ModuleInfo, fn: FunctionInfo | None, body: list[ir.Node]
) -> Iterator[tuple[str, ir.Expr, bool]]:
    """Each mapping that `**` unpacks with a size that it may hold; and whether it must name it, as where nothing says what is called."""
    for node in body:
        spread = [a.value for a in node.args if a.star == "**"] if isinstance(node, ir.Call) else []
        if not spread:
            continue
        assert isinstance(node, ir.Call)
        callees = flow.callees(Place(node, module, fn))
        plain = sum(a.keyword is None and not a.star for a in node.args)
        taken = {a.keyword for a in node.args}
        known = [c for c in callees if isinstance(c, Cls) or (isinstance(c, Func) and not c.weak)]
        free = {n for names in _signatures(known, keywords=True) for n in names[plain:]}
        for name in sizes:
            if name not in taken and (name in free or not known):
                yield from ((name, mapping, name not in free) for mapping in spread)


def _is_key(key: ir.Expr, sizes: Container[str]) -> bool:
    return (
        isinstance(key, ir.Constant)
        and isinstance(key.value, str)
        and (re.split(r"[./\-]+", key.value.lower().rstrip("="))[-1].replace("-", "_") in sizes)
    )


def _text(key: ir.Expr) -> str:
    return str(key.value) if isinstance(key, ir.Constant) else "a size"


def _subset_sinks(
    flow: Flow, sizes: tuple[str, ...], module: ModuleInfo, fn: FunctionInfo | None, body: list[ir.Node], own: bool
) -> Iterator[tuple[str, ir.Expr]]:
    # Outside the search's own modules only what is about data sets and nothing else.
    for node in body:
        if isinstance(node, ir.Call):
            name = ir.last_name(node.func)
            method = isinstance(node.func, ir.Attribute) and _mentions_data(node.func.value)
            position = _SUBSETS.get(name)
            if position is not None and (name in _ONLY_DATA or (own and (name == "islice" or method))):
                plain = [a.value for a in node.args if a.keyword is None]
                sized = plain[position:] if name == "islice" else plain[position : position + 1]  # `islice(data, start, stop)`
                yield from ((f"the size of {name}", p) for p in sized if numeric(p) not in _NEUTRAL)
                yield from ((f"{name}.{a.keyword}", a.value) for a in node.args if a.keyword in ("indices", "lengths", "num_samples"))
            if own:
                yield from _passed(flow.callees(Place(node, module, fn)), node, _COUNTS.difference(sizes))
        elif own and isinstance(node, ir.Subscript) and _mentions_data(node.value):
            yield from (("a slice of data", b) for b in _bounds_of(node.index))
        elif own and isinstance(node, (ir.For, ir.While, ir.CompFor)):
            yield from _stopped(node)


def _item_slices(origins: Origins, module: ModuleInfo, fn: FunctionInfo | None, body: list[ir.Node]) -> Iterator[tuple[str, ir.Expr]]:
    """The bounds of slices of what other names hold: `{k: v[:2_048] for k, v in train.items()}`."""
    for node in body:
        bounds = _bounds_of(node.index) if isinstance(node, ir.Subscript) and not _mentions_data(node.value) else []
        if bounds and isinstance(node, ir.Subscript):
            what = _of_data(origins, Place(node.value, module, fn))
            yield from ((what, b) for b in bounds if what)


def _bounds_of(index: ir.Expr) -> list[ir.Expr]:
    # Those of the rows, in `x[:n]` and in `x[:n, :]`.
    rows = index.items[0] if isinstance(index, ir.Sequence) and index.items else index
    bounds = (rows.lower, rows.upper, rows.step) if isinstance(rows, ir.Slice) else ()
    return [b for b in bounds if b is not None and numeric(b) not in _NEUTRAL]


def _of_data(origins: Origins, place: Place) -> str:
    """Whether a value is an item of data, or what a variable holds whose name may say data and may say anything; "" for neither."""
    found = [""]

    def visit(demand: Demand, answer: Answer) -> bool:
        expr, path = demand.expr, demand.path
        if isinstance(expr, ir.Call) and isinstance(expr.func, ir.Attribute) and _mentions_data(expr.func.value):
            if (expr.func.attr, path) in (("values", (ELEMENT,)), ("items", (ELEMENT, ("item", 1)))):
                found[0] = "a slice of data"
                return False
        if not path and isinstance(expr, (ir.Name, ir.Attribute, ir.Subscript)) and _mentions_data(expr):
            found[0] = found[0] or _PERHAPS
        return answer.kind == "moved" and found[0] != "a slice of data"

    origins.walk(Demand(place), visit, NEAR)
    return found[0]


def _stopped(node: ir.For | ir.While | ir.CompFor) -> Iterator[tuple[str, ir.Expr]]:
    """What a loop over data is stopped or filtered by: `if i >= 5_000: break`."""
    tests: list[ir.Expr] = []
    own = {n.id for n in ir.walk(node.target) if isinstance(n, ir.Name)} if not isinstance(node, ir.While) else set()
    if isinstance(node, ir.CompFor):
        tests = node.ifs if _mentions_data(node.iter) else []
    elif isinstance(node, ir.For):
        ways = [n for n in ir.walk_own(node.body) if isinstance(n, ir.If) and any(_leaves(s) for s in n.body)]
        tests = [n.test for n in ways] if _mentions_data(node.iter) else []
    elif _mentions_data(node.test):
        tests = [node.test]
    for test in tests:
        for part in ir.walk(test):
            if isinstance(part, ir.Compare) and set(part.ops) <= {"<", "<=", ">", ">=", "=="}:
                sides = [part.left, *part.comparators]
                named = [s for s in sides if _bounds(s) and not (isinstance(s, ir.Name) and s.id in own)]
                yield from (("the end of a loop over data", s) for s in named)


def _bounds(side: ir.Expr) -> bool:
    return isinstance(side, (ir.Name, ir.Attribute)) or abs(numeric(side) or 0) >= _SIZE


def _leaves(node: ir.Stmt) -> bool:
    return isinstance(node, ir.Simple) and node.kind in ("break", "continue")


def _mentions_data(expr: ir.Expr) -> bool:
    return any(
        _DATA_WORDS.search(n.id if isinstance(n, ir.Name) else n.attr) for n in ir.walk(expr) if isinstance(n, (ir.Name, ir.Attribute))
    )


_SETTINGS = {
    "hpo": {"modules": ["pkg.hpo"], "size-arguments": ["n_train", "n_val"], "objective": "pkg.hpo:objective"},
    "config": {"roots": ["config", "cfg"]},
}
_STORE = (
    "import json\nfrom dataclasses import dataclass\n@dataclass\nclass Manifest:\n    counts: dict\n    @classmethod\n"
    "    def read(cls, path):\n        with open(path) as stream:\n            document = json.load(stream)\n"
    "        return cls({{name: int({}) for name, split in document['splits'].items()}})\n"
)
_TRAIN = "def fit(n_train, n_val=None):\n    return n_train\n"


def _case(name: str, body: str, *, before: str = "", **others: str) -> Case:
    head = "from dataclasses import replace\nfrom torch.utils.data import Subset\nfrom pkg.train import fit\n"
    source = f"{head}{before}def objective(trial, cfg, manifest, data):\n    {body}\n"
    files = {"pkg/__init__.py": "", "pkg/train.py": _TRAIN, "pkg/hpo.py": source}
    files.update({f"pkg/{k}.py": v for k, v in others.items()})
    return Case(name, files)


_VALID = (
    _case("a fraction of the manifest", "return fit(n_train=int(cfg.hpo.subset_fraction * manifest.train.count))"),
    _case("clamped from below by one", "return fit(n_train=max(1, int(cfg.hpo.fraction * len(data))))"),
    _case("through a helper", "return fit(n_train=size(cfg.hpo.fraction, len(data)))",
          before="def size(fraction, count):\n    return round(fraction * count)\n"),
    _case("an unrelated large number", "deadline = 100_000\n    return fit(n_train=len(data)) + deadline"),
    _case("a subset by configuration", "return fit(n_train=len(Subset(data, range(cfg.hpo.scenes))))"),
    _case("a literal in a condition", "n_train = len(data)\n    if n_train < 0.9 * cfg.hpo.n:\n        print(100_000)\n"
          "    return fit(n_train=n_train)"),
    _case("a suggestion of something else", "trial.suggest_int('width', 16, 256)\n    return fit(n_train=len(data))"),
    _case("a helper called elsewhere with a literal", "return fit(n_train=twice(len(data)))",
          before="def twice(n):\n    return n + n\nLIMIT = twice(50_000)\n"),
    _case("a default of the configuration's own class", "return fit(n_train=plan_of(cfg).total)",
          before="from pkg.plans import PlanConfig\ndef plan_of(cfg):\n    return PlanConfig(share=cfg.hpo.f)\n",
          plans="class PlanConfig:\n    total: int = 80_000\n    def __init__(self, share):\n        self.share = share\n"),
    _case("a copy of configuration",
          "from dataclasses import replace\n    config = replace(cfg, seed=80_000)\n    return fit(n_train=config.n)"),
    _case("bounds from the start",
          "from itertools import islice\n    return fit(data=list(islice(data, 0, cfg.hpo.n)), more=data[0:cfg.hpo.n])"),
    _case("a loop that is counted", "rows = []\n    for i, row in enumerate(data):\n        if i >= cfg.hpo.n:\n            break\n"
          "        rows.append(row)\n    return fit(data=rows)"),
    _case("the batch size of a loader", "loader = DataLoader(data, 64)\n    return fit(n_train=len(loader.dataset))"),
    _case("items of computed keys", "return fit(**sizes(cfg, manifest))", before="def sizes(cfg, manifest):\n"
          "    return {f'n_{name}': max(1, round(cfg.hpo.f * manifest[name])) for name in ('train', 'val')}\n"),
    _case("literals under other computed keys", "return fit(len(data), **{f'w_{name}': 300 for name in ('loc', 'rank')})"),
    _case("literals under other keys of a loop", "opts = {}\n    for name in ('lr', 'width'):\n        opts[name] = 300\n"
          "    return fit(len(data), **opts)"),
    _case("unknown keys of a library's call", "plot(data, **{name: 300 for name in cfg.styles})\n    return fit(n_train=len(data))"),
    _case("the whole of each item", "return fit(data={k: v[:] for k, v in data.items()})"),
    _case("the start of a name", "return fit(data={k[:12]: v for k, v in data.items()})"),
    _case("counts that a reader takes from a file", "return fit(n_train=Manifest.read('x').counts['train'])",
          before="from pkg.store import Manifest\n", store=_STORE.format("split['scenes']")),
    _case("the last of a list", "return fit(n_train=manifest.counts[-1])"),
)  # fmt: skip
_INVALID = (
    _case("a keyword", "return fit(n_train=100_000)"),
    _case("a product with configuration", "return fit(n_train=int(100_000 * cfg.hpo.subset_fraction))"),
    _case("a positional argument", "return fit(80_000)"),
    _case("a fraction", "return fit(n_train=int(0.1 * manifest.train.count))"),
    _case("a variable", "size = 80_000\n    return fit(n_train=size)"),
    _case("a module constant", "return fit(n_train=SIZE)", before="SIZE = 8 * 10_000\n"),
    _case("a constant of another module", "return fit(n_train=sizes.SIZE)", before="from pkg import sizes\n",
          sizes="SIZE = 80_000\n"),
    _case("a helper", "return fit(n_train=size(cfg))", before="def size(cfg):\n    return int(cfg.hpo.f * 80_000)\n"),
    _case("a helper's default", "return fit(n_train=size(cfg))", before="def size(cfg, total=80_000):\n    return total\n"),
    _case("a helper's argument", "return fit(n_train=size(80_000))", before="def size(total):\n    return total\n"),
    _case("min", "return fit(n_train=min(80_000, manifest.train.count))"),
    _case("or", "return fit(n_train=cfg.hpo.n or 80_000)"),
    _case("getattr with a fallback", "return fit(n_train=getattr(cfg, 'n_train', 80_000))"),
    _case("get with a fallback", "return fit(n_train=cfg.hpo.get('n_train', 80_000))"),
    _case("a dictionary", "return fit(**{'n_train': 80_000})"),
    _case("a dotted key", "return cfg.with_values({'data.n_train': 80_000})"),
    _case("replace", "return fit(replace(cfg.data, n_train=80_000))"),
    _case("a model copy", "return fit(cfg.data.model_copy(update={'n_train': 80_000}))"),
    _case("an attribute", "plan = cfg.data\n    plan.n_train = 80_000\n    return fit(plan)"),
    _case("an item", "plan = dict(cfg.data)\n    plan['n_train'] = 80_000\n    return fit(**plan)"),
    _case("a subset of a range", "return fit(data=Subset(data, range(80_000)))"),
    _case("the length of a literal subset", "part = Subset(data, range(80_000))\n    return fit(n_train=len(part))"),
    _case("a slice", "return fit(data=data[:80_000])"),
    _case("a command-line text", "return cfg.parse(['--data.n_train=80000'])"),
    _case("a command-line pair", "return cfg.parse(['--data.n_train', '80000'])"),
    _case("numeric text", "return fit(n_train=int('80000'))"),
    _case("an unpacked tuple", "n_train, n_val = 80_000, len(data)\n    return fit(n_train, n_val)"),
    _case("a tuple from a helper", "n_train, n_val = sizes(cfg)\n    return fit(n_train, n_val)",
          before="def sizes(cfg):\n    return int(80_000 * cfg.hpo.f), cfg.hpo.val\n"),
    _case("a suggestion", "return fit(n_train=trial.suggest_int('n', 1_000, 80_000))"),
    _case("a branch", "return fit(n_train=cfg.hpo.n if cfg.hpo.n else 80_000)"),
    _case("a default of the trained function", "return load(cfg)", before="from pkg.deep import load\n",
          deep="def load(cfg, n_train=80_000):\n    return n_train\n"),
    _case("an enumeration", "return fit(n_train=Sizes.TRAIN.value)",
          before="from enum import Enum\nclass Sizes(Enum):\n    TRAIN = 80_000\n"),
    _case("a default of the environment", "import os\n    return fit(n_train=int(os.environ.get('N', '80000')))"),
    _case("unpacked positions", "sizes = [80_000, 100]\n    return fit(*sizes)"),
    _case("a default that is set", "plan = dict(cfg.data)\n    plan.setdefault('n_train', 80_000)\n    return fit(**plan)"),
    _case("a global that is set elsewhere", "return fit(n_train=SIZE)",
          before="SIZE = 0\ndef setup():\n    global SIZE\n    SIZE = 80_000\n"),
    _case("a star import", "return fit(n_train=SIZE)", before="from pkg.sizes import *\n", sizes="SIZE = 80_000\n"),
    _case("a formatted command-line text", "return cfg.parse([f'--data.n_train={80_000}'])"),
    _case("a list that is filled", "sizes = []\n    sizes.append(80_000)\n    return fit(n_train=sizes[0])"),
    _case("a positional argument of a constructor", "return Plan(80_000)",
          before="from dataclasses import dataclass\n@dataclass\nclass Plan:\n    n_train: int\n"),
    _case("a copy of configuration that sets it",
          "from dataclasses import replace\n    config = replace(cfg, n=80_000)\n    return fit(n_train=config.n)"),
    _case("an argument of partial", "from functools import partial\n    return fit(n_train=partial(share, 0.25)(cfg))",
          before="def share(fraction, cfg):\n    return int(fraction * cfg.hpo.n)\n"),
    _case("numeric text far away", "import os\n    return fit(n_train=int(os.getenv('N') or '80000'))"),
    _case("a subset in another module", "from pkg.deep import part\n    return fit(data=part(data))",
          deep="def part(data):\n    return Subset(data, range(80_000))\n"),
    _case("a sampler", "return fit(data=DataLoader(data, sampler=RandomSampler(data, True, 80_000)))"),
    _case("every tenth", "return fit(data=data[::10])"),
    _case("a loop that is cut short", "rows = []\n    for i, row in enumerate(data):\n        if i >= 80_000:\n            break\n"
          "        rows.append(row)\n    return fit(data=rows)"),
    _case("an option of the search itself", "import argparse\n    parser = argparse.ArgumentParser()\n"
          "    parser.add_argument('--rows', type=int, default=80_000)\n    return fit(n_train=parser.parse_args().rows)"),
    _case("what a context manager gives", "with Sized() as size:\n        return fit(n_train=size)",
          before="class Sized:\n    def __enter__(self):\n        return 80_000\n    def __exit__(self, *error):\n        return None\n"),
    _case("a sum over a list", "sizes = []\n    sizes.append(80_000)\n    return fit(n_train=sum(sizes))"),
    _case("a constant set beside its class", "return fit(n_train=Plan().size)", before="class Plan:\n    pass\nPlan.size = 80_000\n"),
    _case("a metaclass", "return fit(n_train=Plan(cfg))", before="class Meta(type):\n    def __call__(cls, cfg):\n        return 80_000\n"
          "class Plan(metaclass=Meta):\n    pass\n"),
    _case("a descriptor", "return fit(n_train=Plan().size(cfg))", before="def fixed(cfg):\n    return 80_000\nclass Size:\n"
          "    def __get__(self, instance, owner):\n        return fixed\nclass Plan:\n    size = Size()\n"),
    _case("formatted keys of a comprehension", "return fit(**{f'n_{name}': round(0.1 * manifest[name]) for name in ('train', 'val')})"),
    _case("joined keys that a loop fills", "sizes = {}\n    for name in ('train', 'val'):\n        sizes['n_' + name] = 3_000\n"
          "    return fit(**sizes)"),
    _case("keys of a tuple", "return replace(cfg.data, **{k: 3_000 for k in ('n_train', 'n_val')})"),
    _case("one value for many keys", "return fit(**dict.fromkeys(('n_train', 'n_val'), 3_000))"),
    _case("a fraction of the environment under computed keys", "return fit(**sizes(manifest))",
          before="import os\ndef sizes(manifest):\n    part = float(os.environ.get('PART', '0.05'))\n"
          "    return {f'n_{k}': int(part * v) for k, v in manifest.items()}\n"),
    _case("a slice of each item", "return fit(data={k: v[:2_048] for k, v in data.items()})"),
    _case("a slice of each item in a loop", "part = {}\n    for key, rows in data.items():\n        part[key] = rows[:2_048]\n"
          "    return fit(data=part)"),
    _case("a slice of the rows of each item", "return fit(data=[v[:2_048, :] for v in data.values()])"),
    _case("a table of shares", "return fit(**{f'n_{k}': int(SHARES[k] * manifest[k]) for k in SHARES})",
          before="SHARES = {'train': 0.1, 'val': 0.2}\n"),
    _case("keys of a tuple, for a constructor", "return Plan(cfg, **{k: 3_000 for k in ('n_train',)})",
          before="class Plan:\n    def __init__(self, cfg, n_train=None):\n        self.size = n_train\n"),
    _case("a slice in a helper", "return fit(data=first(data))", before="def first(rows):\n    return rows[:2_048]\n"),
    _case("counts of a class called Manifest", "return fit(n_train=Manifest.read('x').counts['train'])",
          before="from pkg.store import Manifest\n", store=_STORE.format("80_000")),
    _case("a count that the manifest's reader falls back on", "return fit(n_train=Manifest.read('x').counts['train'])",
          before="from pkg.store import Manifest\n", store=_STORE.format("split.get('scenes', 80_000)")),
    _case("a field", "return Plan(cfg).run()", before="class Plan:\n    def __init__(self, cfg):\n        self.size = 80_000\n"
          "    def run(self):\n        return fit(n_train=self.size)\n"),
)  # fmt: skip
_LIMITS = (
    _case("a size in a text that is parsed", "import json\n    return fit(n_train=json.loads('{\"n\": 80000}')['n'])"),
    _case("a size read from a file", "return fit(n_train=int(open('size.txt').read()))"),
)

RULE = Rule(
    code="HPO001",
    title="dataset sizes come from configuration or the manifest",
    table="hpo",
    manual=MANUAL,
    mend="Compute the size from the configuration's fraction and the manifest's counts.",
    check=check,
    settings=_SETTINGS,
    valid=_VALID,
    invalid=_INVALID,
    limits=_LIMITS,
)
