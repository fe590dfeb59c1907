"""CFG003: no write to configuration."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from audits.static.analysis.engine import Unit
from audits.static.analysis.values import Cls, Func, Inst
from audits.static.context import Context
from audits.static.dataflow import usage
from audits.static.dataflow.flow import Place
from audits.static.dataflow.value_origins import Origins
from audits.static.findings import Finding
from audits.static.rules.base import Case, Rule
from audits.static.source import ir
from audits.static.subjects.config_schema import Schema, stored
from audits.static.subjects.configs import PARSED, Configs, configs_of

MANUAL = """\
Configuration that changes while a program runs means different things to those who read it early and late, and a
search whose trials change the shared one compares nothing. This rule reports every write to what CFG001 takes for
configuration, under any alias and in any helper: assignment and augmented assignment to an attribute, `del`, targets of
loops and `with`, `setattr`, `object.__setattr__`, `delattr`, `config.__init__(...)`, writes through `__dict__` and `vars`, item
assignment and mutating methods and functions on its dictionaries and on the containers that it holds (`config.layers.append(...)`,
`shuffle(config.layers)`). A helper is judged by each of its calls.

Building is no writing: constructors, `__post_init__` and validators of the class itself, and the function that reads a file
and returns its content.
Nor is changing a copy that the
function has just made - `deepcopy`, or the first level of `copy`, `replace` and `model_copy`, whose sections and
containers are still shared - nor a dictionary made by `asdict`, `model_dump` or `dict`.
"""
_MUTATORS = frozenset(
    {"append", "extend", "insert", "remove", "pop", "popitem", "clear", "sort", "reverse", "update", "setdefault", "add", "discard",
     "__setitem__", "__delitem__", "__iadd__", "__ior__", "appendleft", "popleft", "difference_update", "intersection_update",
     "symmetric_difference_update", "rotate", "fill", "merge_with", "merge_from_file", "merge_from_list", "merge_from_dict"}
)  # fmt: skip
_CHANGING = re.compile(r"^(.*\.)?(shuffle|heapify|heappush|heappop|heapreplace|heappushpop|insort|insort_left|insort_right)$")
_IN_PLACE = re.compile(r"^[a-z]\w*[a-z\d]_$")  # mul_, fill_
_SETTERS = {
    "builtins.setattr", "builtins.delattr", "builtins.object.__setattr__", "builtins.object.__delattr__", "operator.setitem",
    "operator.delitem", "operator.iadd", "operator.ior", "builtins.super.__setattr__", "omegaconf.OmegaConf.update",
}  # fmt: skip
_LOADING = re.compile(r"(^|_)(load|loads|read|parse)(_|$)")
_DEEP = frozenset({"deepcopy", "__new__", "loads"})
_SHALLOW = frozenset({"copy", "replace", "model_copy", "evolve", "_replace", "model_construct"})


def check(context: Context) -> Iterable[Finding]:
    """One finding for each write."""
    configs = configs_of(context)
    if configs.empty:
        return
    search = _Search(configs)
    for unit in usage.cold_units(context.analysis):
        seen: set[tuple[int, int]] = set()
        for node, message in search.unit(unit):
            if (node.line, node.column) not in seen:
                seen.add((node.line, node.column))
                yield context.finding("CFG003", unit.module, node, message, fn=unit.fn)


class _Search:
    def __init__(self, configs: Configs) -> None:
        self.configs = configs
        self.flow = configs.flow
        self.held = Origins(self.flow, stop=self._is_field)
        self.copies = Origins(self.flow, stop=_is_copy)

    def unit(self, unit: Unit) -> Iterator[tuple[ir.Node, str]]:
        for node in usage.own_nodes(unit):
            for target in stored(node):
                yield from self._target(unit, node, target)
            if isinstance(node, ir.Call):
                yield from self._call(unit, node)

    # -- statements

    def _target(self, unit: Unit, node: ir.Node, target: ir.Expr) -> Iterator[tuple[ir.Node, str]]:
        if isinstance(target, ir.Attribute):
            schemas = self._configuration(unit, target.value)
            if schemas and not self._own(unit, target.value) and not self._fresh(unit, target.value, deep=False):
                yield target, f"{target.attr!r} of {_name(schemas)} is written"
        elif isinstance(target, ir.Subscript):
            if self._namespace(unit, target.value) or self._dictionary(unit, target.value) or self._contained(unit, target.value):
                yield target, "an item of configuration is written"
        elif isinstance(target, ir.Name) and isinstance(node, ir.AugAssign):
            if self._contained(unit, target, typed=True):
                yield target, f"{target.id!r} is a container of configuration, and it is changed in place"

    # -- calls

    def _call(self, unit: Unit, call: ir.Call) -> Iterator[tuple[ir.Node, str]]:
        names = usage.called_names(unit, call)
        given = usage.positional(call)
        if names & _SETTERS and given:
            yield from self._setter(unit, call, given[0])
        elif "functools.partial" in names and len(given) > 1 and usage.outside_names(self.configs.analysis, unit, given[0]) & _SETTERS:
            yield from self._setter(unit, call, given[1])
        elif given and _CHANGING.match(ir.last_name(call.func)) and self._contained(unit, given[0]):
            yield call, "a container of configuration is changed in place"
        elif any(n.rpartition(".")[2] in _MUTATORS and n.startswith("builtins.") and n.count(".") == 2 for n in names) and given:
            if self._contained(unit, given[0]) or self._dictionary(unit, given[0]):
                yield call, "a container of configuration is changed in place"
        if isinstance(call.func, ir.Attribute):
            yield from self._method(unit, call, call.func)

    def _setter(self, unit: Unit, call: ir.Call, owner: ir.Expr) -> Iterator[tuple[ir.Node, str]]:
        schemas = self._configuration(unit, owner)
        if schemas and not self._own(unit, owner) and not self._fresh(unit, owner, deep=False):
            yield call, f"an attribute of {_name(schemas)} is set"
        elif self._contained(unit, owner) or self._namespace(unit, owner):
            yield call, "a container of configuration is changed in place"

    def _method(self, unit: Unit, call: ir.Call, func: ir.Attribute) -> Iterator[tuple[ir.Node, str]]:
        if func.attr in ("__setattr__", "__delattr__") and len(usage.positional(call)) < 3:
            schemas = self._configuration(unit, func.value)
            if schemas and not self._own(unit, func.value) and not self._fresh(unit, func.value, deep=False):
                yield call, f"an attribute of {_name(schemas)} is set"
        elif func.attr in ("__init__", "__setstate__"):
            schemas = {s for s in self._configuration(unit, func.value) if s.cls is not None}
            if schemas and not self._own(unit, func.value):
                yield call, f"{_name(schemas)} is made once more in place"
        elif func.attr in _MUTATORS or (_IN_PLACE.match(func.attr) and isinstance(func.value, (ir.Name, ir.Attribute))):
            if self._namespace(unit, func.value) or self._dictionary(unit, func.value) or self._contained(unit, func.value):
                yield call, f".{func.attr}() changes configuration in place"

    # -- what is written

    def _configuration(self, unit: Unit, expr: ir.Expr) -> set[Schema]:
        return self.configs.sections(unit, expr)

    def _own(self, unit: Unit, expr: ir.Expr) -> bool:
        # `self` in what makes the object, and an object that a factory of the class has just made.
        fn = unit.fn
        while fn is not None and fn.cls is None:
            fn = fn.enclosing
        if fn is None or fn.cls is None or fn.cls not in self.configs.of_class or not isinstance(expr, ir.Name):
            return False
        first = fn.node.params[0].name if fn.node.params else ""
        if self.configs.builds(fn):
            return expr.id == first
        if fn.flags & {"classmethod", "staticmethod"}:
            found = [p for p, _ in self.configs.bindings.of(usage.place(unit, expr), expr.id)]
            return bool(found) and all(isinstance(p.expr, ir.Call) for p in found) and expr.id != first
        return False

    def _namespace(self, unit: Unit, expr: ir.Expr) -> bool:
        # vars(config), config.__dict__
        if isinstance(expr, ir.Attribute) and expr.attr == "__dict__":
            return bool(self._configuration(unit, expr.value)) and not self._own(unit, expr.value)
        if isinstance(expr, ir.Call) and "builtins.vars" in usage.called_names(unit, expr) and expr.args:
            return bool(self._configuration(unit, expr.args[0].value))
        if isinstance(expr, ir.Name):
            found = [p for p, element in self.configs.bindings.of(usage.place(unit, expr), expr.id) if not element]
            return any(not isinstance(p.expr, ir.Name) and self._namespace(self.flow.unit(p), p.expr) for p in found)
        return False

    def _dictionary(self, unit: Unit, expr: ir.Expr) -> bool:
        # A dictionary that is the configuration, or one of which nothing but its root name is known.
        if any(s.mapping for s in self._configuration(unit, expr)):
            return not self._fresh(unit, expr, deep=False)
        values = self.configs.values(unit, expr)
        if isinstance(expr, ir.Name) and expr.id in self.configs.roots:
            found = [p for p, _ in self.configs.bindings.of(usage.place(unit, expr), expr.id)]
            unknown = not any(isinstance(v, (Inst, Func, Cls)) for v in values)
            return unknown and not any(isinstance(p.expr, (ir.Dict, ir.Call, ir.Comprehension)) and p.fn is unit.fn for p in found)
        return isinstance(expr, ir.Subscript) and self._dictionary(unit, expr.value)

    def _contained(self, unit: Unit, expr: ir.Expr, *, typed: bool = False) -> bool:
        # A container that configuration holds, under whatever name.
        if isinstance(expr, ir.Subscript) and not isinstance(expr.index, ir.Slice) and self._contained(unit, expr.value, typed=typed):
            return True
        for found in self.held.of(usage.place(unit, expr)):
            if not isinstance(found.expr, ir.Attribute):
                continue
            inside = self.flow.unit(found)
            schemas = {s for s in self._configuration(inside, found.expr.value) if _may_change(s, found.expr.attr)}
            if typed:
                schemas = {s for s in schemas if found.expr.attr in s.container_keys}
            if schemas and not self._own(inside, found.expr.value) and not self._fresh(inside, found.expr.value, deep=True):
                return True
        return False

    def _is_field(self, place: Place) -> bool:
        return isinstance(place.expr, ir.Attribute) and bool(self._configuration(self.flow.unit(place), place.expr.value))

    # -- copies

    def _loaded_here(self, unit: Unit, expr: ir.Expr, schemas: set[Schema]) -> bool:
        # What the function itself has just read from a file or written down is still being built.
        while isinstance(expr, (ir.Attribute, ir.Subscript)):
            expr = expr.value
        if not isinstance(expr, ir.Name) or unit.fn is None or any(s.cls is not None for s in schemas):
            return False
        found = [p for p, element in self.configs.bindings.of(usage.place(unit, expr), expr.id) if not element]
        if not found or not all(p.fn is unit.fn and self._from_outside(unit, p.expr) for p in found):
            return False
        return _returned(unit, expr.id) or not any(_LOADING.search(ir.last_name(getattr(p.expr, "func", p.expr))) for p in found)

    def _answered(self, unit: Unit, name: ir.Name) -> bool:
        # A root name holds what a loader answered: that is the configuration, whatever copy of the defaults it is.
        if name.id not in self.configs.roots or _returned(unit, name.id):
            return False
        found = [p for p, _ in self.configs.bindings.of(usage.place(unit, name), name.id) if p.fn is unit.fn]
        calls = [p.expr for p in found if isinstance(p.expr, ir.Call)]
        made = any(isinstance(c, Func) for call in calls for c in unit.calls.get(call, frozenset()))
        copies = any(self.configs.schemas(unit, a.value) for call in calls for a in call.args)
        return made and not copies and any(s.mapping for s in self.configs.schemas(unit, name))

    def _from_outside(self, unit: Unit, expr: ir.Expr) -> bool:
        if isinstance(expr, ir.Call):
            callees = unit.calls.get(expr, frozenset())
            return ir.last_name(expr.func) not in PARSED and not any(isinstance(c, (Func, Cls, Inst)) for c in callees)
        return isinstance(expr, (ir.Dict, ir.Comprehension))

    def _fresh(self, unit: Unit, expr: ir.Expr, *, deep: bool) -> bool:
        """Whether the function has just made the copy that is written; below its first level only a deep one is its own."""
        if self._loaded_here(unit, expr, self._configuration(unit, expr)):
            return True
        root = expr
        while isinstance(root, (ir.Attribute, ir.Subscript)):
            if isinstance(root, ir.Attribute) and not self.configs.schemas(unit, root.value):
                break
            root, deep = root.value, True
        if isinstance(root, ir.Attribute):
            held = self.flow.sources(usage.place(unit, root))
            return bool(held) and all(self._made(p, unit, deep=deep) for p in held)
        if unit.fn is not None and isinstance(root, ir.Name) and any(p.name == root.id for p in unit.fn.node.params):
            own = [p for p, _ in self.configs.bindings.of(usage.place(unit, root), root.id) if p.fn is unit.fn]
            return bool(own) and all(self._made(p, unit, deep=deep) for p in own)
        if isinstance(root, ir.Name) and (self._kept(unit, root) or self._answered(unit, root)):
            return False
        if isinstance(root, ir.Name) and self._part_of_copy(unit, root):
            return True
        found = self.copies.of(usage.place(unit, root))
        return bool(found) and all(self._made(p, unit, deep=deep) and self._nearby(p, unit) for p in found)

    def _part_of_copy(self, unit: Unit, name: ir.Name) -> bool:
        # `for section in copied.sections:` takes parts of the function's own deep copy.
        bound = self.configs.bindings.of(usage.place(unit, name), name.id)
        if not bound or not all(element and p.fn is unit.fn for p, element in bound):
            return False
        return all(self._fresh(unit, source, deep=True) for p, _ in bound for source in _iterated(p.expr))

    def _kept(self, unit: Unit, name: ir.Name) -> bool:
        # A copy that an object or a container holds already is no longer the function's own.
        for node in usage.own_nodes(unit):
            if (node.line, node.column) >= (name.line, name.column):
                continue
            if isinstance(node, ir.Assign) and isinstance(node.value, ir.Name) and node.value.id == name.id:
                if any(isinstance(t, (ir.Attribute, ir.Subscript)) for t in node.targets):
                    return True
            elif isinstance(node, ir.Call) and any(isinstance(a.value, ir.Name) and a.value.id == name.id for a in node.args):
                classes = [c.cls for c in unit.calls.get(node, frozenset()) if isinstance(c, Cls)]
                if any(c not in self.configs.of_class for c in classes) or ir.last_name(node.func) in ("append", "add", "put"):
                    return True
        return False

    def _nearby(self, place: Place, unit: Unit) -> bool:
        # Made here, or by a helper that was called here; what came from a caller is shared with it.
        near = {unit.fn} | {r.fn for r in unit.refs}
        return place.fn in near or any(place.fn is r.fn for f in near if f is not None for r in self.configs.analysis.cold[f].refs)

    def _made(self, place: Place, unit: Unit, *, deep: bool) -> bool:
        expr = place.expr
        if isinstance(expr, (ir.Dict, ir.Comprehension)):
            return place.fn is unit.fn and unit.fn is not None
        if not isinstance(expr, ir.Call):
            return False
        whole = any(a.keyword == "deep" and isinstance(a.value, ir.Constant) and a.value.value is True for a in expr.args)
        name = ir.last_name(expr.func)
        return name in _DEEP or (name in _SHALLOW and (not deep or whole)) or (name == "dict" and not deep)


def _returned(unit: Unit, name: str) -> bool:
    # What a function returns, as it is or inside of something, it makes.
    body = unit.fn.node.body if unit.fn is not None else []
    returned = [n.value for n in ir.walk_own(body) if isinstance(n, (ir.Return, ir.Yield)) and n.value is not None]
    return any(isinstance(n, ir.Name) and n.id == name for value in returned for n in ir.walk(value))


def _may_change(schema: Schema, key: str) -> bool:
    # What a key holds, unless that is a section, whose own keys are told apart.
    return schema.open or (key in schema.keys and (key not in schema.nested or key in schema.several))


def _iterated(expr: ir.Expr) -> list[ir.Expr]:
    # What a loop goes through, without what only numbers, sorts or pairs it.
    while isinstance(expr, ir.Subscript):
        expr = expr.value
    if isinstance(expr, ir.Call) and isinstance(expr.func, ir.Attribute):
        return [expr.func.value]
    if isinstance(expr, ir.Call):
        return [a.value for a in expr.args[:1]]
    return [expr]


def _is_copy(place: Place) -> bool:
    return isinstance(place.expr, ir.Call) and ir.last_name(place.expr.func) in _DEEP | _SHALLOW


def _name(schemas: set[Schema]) -> str:
    return min(s.name for s in schemas)


_CONFIG = (
    "from dataclasses import dataclass, field\n@dataclass\nclass TrainConfig:\n    lr: float = 0.1\n"
    "    tags: list = field(default_factory=list)\n    extra: dict = field(default_factory=dict)\n"
    "@dataclass\nclass Config:\n    train: TrainConfig = field(default_factory=TrainConfig)\n    seed: int = 0\n"
    "    stages: list[TrainConfig] = field(default_factory=list)\n    fixed: tuple[TrainConfig, ...] = ()\n"
)


def _case(name: str, body: str, *, arguments: str = "config: Config", head: str = "", more: str = "") -> Case:
    source = (
        f"import copy\nfrom dataclasses import asdict, replace\nfrom pkg.config import Config, TrainConfig\n{head}def step({arguments}):\n"
    )
    return Case(name, {"pkg/__init__.py": "", "pkg/config.py": _CONFIG + more, "pkg/step.py": f"{source}    {body}\n"})


def _single(name: str, source: str) -> Case:
    return Case(name, {"pkg/__init__.py": "", "pkg/step.py": source})


_TABLE = (
    "import copy\nimport json\nDEFAULTS = {'fit': {'lr': 0.1}}\ndef load(path):\n    made = copy.deepcopy(DEFAULTS)\n"
    "    made['fit'].update(json.loads(path.read_text()))\n    return made\n"
)


_INVALID: tuple[Case, ...] = (
    _case("a copy that an object holds already", "copied = replace(config)\n    t = Keeps(copied)\n    copied.seed = 3\n    return t",
          head="class Keeps:\n    def __init__(self, config):\n        self.config = config\n"),
    Case(
        "a copy that a helper is given",
        {
            "pkg/__init__.py": "",
            "pkg/config.py": _CONFIG,
            "pkg/step.py": "import argparse\nfrom dataclasses import replace\nfrom pkg.config import Config\n"
            "def parse(argv) -> Config:\n    args = argparse.ArgumentParser().parse_args(argv)\n"
            "    return replace(Config(), seed=args.seed)\n"
            "def main():\n    config = parse(None)\n    tweak(config)\n    return config.seed\ndef tweak(o):\n    o.seed *= 2\n",
        },
    ),
    _case("a copy that a list holds already", "copied = replace(config)\n    KEPT.append(copied)\n    copied.seed = 3", head="KEPT = []\n"),
    _case("an attribute", "config.seed = 3"),
    _case("an attribute of a section", "config.train.lr *= 2"),
    _case("a root without a type", "cfg.train.lr = 3", arguments="cfg"),
    _case("another name", "t = config.train\n    t.lr = 3"),
    _case("a helper", "change(config)", head="def change(settings):\n    settings.train.lr = 3\n"),
    _case("self.config", "return x", arguments="x", head=(
        "class Trainer:\n    def __init__(self, config: Config):\n        self.config = config\n"
        "    def run(self):\n        self.config.train.lr = 1\n")),
    _case("setattr", "for k, v in values.items():\n        setattr(config.train, k, v)", arguments="config: Config, values"),
    _case("object.__setattr__", "object.__setattr__(config, 'seed', 3)"),
    _case("its dictionary", "config.__dict__['seed'] = 3"),
    _case("vars", "vars(config.train).update(lr=3)"),
    _case("del", "del config.seed"),
    _case("a target of a loop", "for config.seed in range(3):\n        pass"),
    _case("a list", "config.train.tags.append(3)"),
    _case("a list under another name", "tags = config.train.tags\n    tags.append(3)"),
    _case("a list in place", "tags = config.train.tags\n    tags += [3]"),
    _case("an item", "config.train.extra['a'] = 3"),
    _case("a list in a helper", "change(config.train.tags)", head="def change(xs):\n    xs.append(3)\n"),
    _case("an item of a root of which nothing is known", "config['lr'] = 3", arguments="config"),
    _case("a method of the class", "return 1", more="    def change(self, seed):\n        self.seed = seed\n"),
    _case("below a shallow copy", "c = copy.copy(config)\n    c.train.lr = 3"),
    _case("below a replaced one", "c = replace(config, seed=1)\n    c.train.tags.append(3)"),
    _case("an operand", "return Change() @ config", head="class Change:\n    def __matmul__(self, given):\n        given.seed = 3\n"),
    _case("an index", "return Change()[config, 1]", head="class Change:\n    def __getitem__(self, parts):\n        parts[0].seed = 3\n"),
    _case("a call of a class whose metaclass answers", "return Change(config)", head=(
        "class Meta(type):\n    def __call__(cls, given):\n        given.seed = 3\nclass Change(metaclass=Meta):\n    pass\n")),
    _case("a function that map runs", "return list(map(change, [config]))", head="def change(given):\n    given.seed = 3\n"),
    _case("a mixin's other base", "return Both().run(config)", head=(
        "class Runs:\n    def run(self, given):\n        return self.part(given)\nclass Has:\n    def part(self, given):\n"
        "        given.seed = 3\nclass Both(Runs, Has):\n    pass\n")),
    _case("a table that is read by items", "return {n: f(config) for n, f in TABLE.items()}", head=(
        "def change(given):\n    given.seed = 3\nTABLE = {'full': change}\n")),
    _case("right after the constructor", "config = Config()\n    config.seed = 3\n    return config", arguments="x"),
)  # fmt: skip
_INVALID += (
    _case("a list of sections", "config.stages.append(TrainConfig())"),
    _case("a section of a list", "for stage in config.stages:\n        stage.lr = 3"),
    _case("a section under a property", "return x", arguments="x", head=(
        "class Trainer:\n    def __init__(self, config: Config):\n        self.config = config\n    @property\n    def part(self):\n"
        "        return self.config.train\n    def run(self):\n        self.part.lr = 1\n")),
    _case("a helper that others use too", "put(config, 'seed'), put(x, 'seed')", arguments="config: Config, x",
          head="def put(o, name):\n    setattr(o, name, 3)\n"),
    _case("a walk along a path", "put(config, 'train.lr')", head=(
        "def put(node, path):\n    *parts, last = path.split('.')\n    for part in parts:\n        node = getattr(node, part)\n"
        "    setattr(node, last, 3)\n")),
    _case("one of the rows of a loop", "for o, name in ((x, 'a'), (config.train, 'lr')):\n        setattr(o, name, 3)",
          arguments="config: Config, x"),
    _case("shuffled", "rng.shuffle(config.train.tags)", arguments="config: Config, rng"),
    _case("a heap", "heapq.heappush(config.train.tags, 3)", head="import heapq\n"),
    _case("made once more", "config.__init__(seed=3)"),
    _case("its dictionary through a function", "operator.setitem(vars(config), 'seed', 3)", head="import operator\n"),
    _case("a generator of sections", "for part in parts(config):\n        part.lr = 3",
          head="def parts(config: Config):\n    yield from config.stages\n"),
    _single("a file's content under a field", "import tomllib\ndef load(path):\n    return tomllib.loads(path.read_text())\nclass Run:\n"
            "    def __init__(self, path):\n        self.config = load(path)\n    def fix(self):\n        part = self.config['train']\n"
            "        part['lr'] = 3\n"),
    _single("parsed arguments in a helper", "import argparse\ndef main(argv):\n    p = argparse.ArgumentParser()\n"
            "    p.add_argument('--lr')\n"
            "    config = p.parse_args(argv)\n    fix(config)\ndef fix(o):\n    o.lr = 3\n"),
    _single("a namespace", "from types import SimpleNamespace\ndef make():\n    return SimpleNamespace(part=SimpleNamespace(lr=0.1))\n"
            "def step():\n    config = make()\n    config.part.lr = 3\n"),
    _single("what a loader answers", _TABLE + "def main(path):\n    config = load(path)\n    config['fit'] |= {'lr': 3}\n    run(config)\n"
            "def run(config):\n    return config['fit']['lr']\n"),
    _single("a section of a table in a helper", _TABLE + "def main(path):\n    config = load(path)\n    fill(config['fit'])\n"
            "def fill(part):\n    part.setdefault('lr', 3)\n"),
    _single("a file's content that others use", "from omegaconf import OmegaConf\ndef main(path):\n    config = OmegaConf.load(path)\n"
            "    config.fit.lr = 3\n    print(config.fit.lr)\n"),
)  # fmt: skip
_VALID = (
    _case("a copy that is changed before an object holds it", "copied = replace(config)\n    copied.seed = 3\n    return Keeps(copied)",
          head="class Keeps:\n    def __init__(self, config):\n        self.config = config\n"),
    _case("a replaced copy", "return replace(config, seed=3)"),
    _case("a constructor", "return Config(train=config.train, seed=3)"),
    _case("a deep copy", "c = copy.deepcopy(config)\n    c.train.lr = 3\n    return c"),
    _case("its dictionary form", "d = asdict(config)\n    d['seed'] = 3\n    return Config(**d)"),
    _case("a copied list", "tags = list(config.train.tags)\n    tags.append(3)\n    return tags"),
    _case("a number", "lr = config.train.lr\n    lr *= 2\n    return lr"),
    _case("another object", "model.seed = config.seed\n    model.tags.append(config.seed)", arguments="model, config: Config"),
    _case("what holds it", "holder.config = config", arguments="holder, config: Config"),
    _case("a list of values", "out = [config.seed]\n    out.append(config.train.lr)\n    return out"),
    _case("the sections of a deep copy", "c = copy.deepcopy(config)\n    for stage in c.stages:\n        stage.lr = 3\n    return c"),
    _case("a list made of its list", "tags = [t for t in config.train.tags]\n    tags[0] = 3\n    return tags"),
    _case("a tuple that grows", "stages = config.fixed\n    stages += (TrainConfig(),)\n    return stages"),
    _case("a dictionary that holds a section", "out = {}\n    out['train'] = config.train\n    out.setdefault('notes', []).append(3)\n"
            "    return out"),
    _single("a file's content that is being read", "import tomllib\ndef load(path):\n    config = tomllib.loads(path.read_text())\n"
            "    config['path'] = str(path)\n    return config\n"),
    _case("building", "return Config()", more="    def __post_init__(self):\n        object.__setattr__(self, 'seed', 3)\n"),
    _single("a table in its loader", _TABLE + "def read(path):\n    config = load(path)\n    config['fit']['lr'] = 3\n    return config\n"),
    _single("a copy of what a loader answers", _TABLE + "def clone(given):\n    return copy.deepcopy(given)\ndef main(path):\n"
            "    config = load(path)\n    config = clone(config)\n    config['fit']['lr'] = 3\n    return config['fit']['lr']\n"),
)  # fmt: skip

RULE = Rule(
    code="CFG003",
    title="no write to configuration",
    table="config",
    manual=MANUAL,
    mend="Make a changed copy: replace, a constructor, or model_validate of the changed dictionary.",
    check=check,
    settings={"config": {"roots": ["config", "cfg"]}},
    valid=_VALID,
    invalid=_INVALID,
    limits=(_case("handed to another library", "change(config)", head="from someone import change\n"),),
)
