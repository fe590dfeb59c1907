"""CFG002: no declared key that nothing reads."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable

from audits.static.analysis.engine import Unit
from audits.static.analysis.values import Cls, Ext, ExtInst, Mod, UnknownValue, Values
from audits.static.context import Context
from audits.static.dataflow import usage
from audits.static.findings import Finding
from audits.static.rules.base import Case, Rule
from audits.static.source import ir
from audits.static.source.project import ClassInfo, FunctionInfo
from audits.static.subjects.config_schema import BUILDING, Schema, is_validator, stored
from audits.static.subjects.configs import Configs, configs_of

MANUAL = """\
An option that is accepted and used nowhere promises an effect that it has not. Every key of every configuration class
(and dictionary, module of constants or argparse parser under a name in `config.roots`) must be read by code of the
packages: as an attribute of that class or of something of which nothing is known, as a literal `getattr`,
`attrgetter` or subscript of its dictionary form, by walking over the items of a dictionary that has
no sections, in a `match`, by unpacking a NamedTuple, or by `**` into a call.

These are no reads: writing it; declaring, validating or copying it (constructors, validators, `__post_init__`,
`replace`); dumping, hashing or printing the whole section; walking over all fields under computed names, as a command
line does; reading it only to throw it away (`_ = config.x`) or to hand it on under its own name (`Section(x=config.x)`); a
private function that nothing mentions; and a property or method of the class that is itself never used. `**section` into
a constructor of configuration is a copy as well.
"""
_TEXT_FIELD = re.compile(r"\{[\w.\[\]]*\.(\w+)")
_SELF_CALLED = re.compile(r"^__(?!init__|post_init__|setattr__|repr__|str__|hash__|eq__|new__|attrs_\w+__|setstate__)\w+__$")


def check(context: Context) -> Iterable[Finding]:
    """One finding for each key, at its declaration."""
    configs = configs_of(context)
    if configs.empty:
        return
    reads = _Reads(configs)
    schemas = [*configs.of_class.values(), *configs.of_module.values(), *configs.dictionaries]
    seen: set[int] = set()
    for schema in schemas:
        if schema.cls is None and not schema.keys:
            continue
        for key, node in schema.keys.items():
            if id(node) not in seen and not reads.reads(schema, key) and (schema.cls is None or _declared_here(schema.cls, node)):
                seen.add(id(node))
                message = f"{key!r} of {schema.name} is declared, and nothing reads it"
                yield context.finding("CFG002", schema.module, node, message)


def _declared_here(cls: ClassInfo, node: ir.Node) -> bool:
    return any(node is n for n in ir.walk(cls.node))


class _Reads:
    """Everything that the packages read, by class and key; the key alone where the class is not known."""

    def __init__(self, configs: Configs) -> None:
        self.configs = configs
        self.flow = configs.flow
        self.known: set[tuple[Schema, str]] = set()
        self.anywhere: set[str] = set()
        self.inside: dict[FunctionInfo, set[str]] = {}
        units = usage.cold_units(configs.analysis)
        mentioned = _mentions(units)
        for unit in units:
            if not _is_dead(unit, mentioned):
                self._unit(unit)
        self._spread()

    def reads(self, schema: Schema, key: str) -> bool:
        """Whether anything reads the key."""
        if key in self.anywhere:
            return True
        related = {schema}
        if schema.cls is not None:
            related |= self.configs.family({schema})
            related |= {self.configs.of_class[c] for c in self.configs.order(schema.cls) if c in self.configs.of_class}
        return any((s, key) in self.known for s in related)

    def _spread(self) -> None:
        # What a property or method of a configuration class reads counts once it is used itself.
        changed = True
        while changed:
            changed = False
            for fn, names in list(self.inside.items()):
                owner = self.configs.of_class.get(fn.cls) if fn.cls is not None else None
                if owner is not None and (_SELF_CALLED.match(fn.node.name) or self.reads(owner, fn.node.name)):
                    self.known |= {(owner, n) for n in names}
                    del self.inside[fn]
                    changed = True

    def _unit(self, unit: Unit) -> None:
        own = _method_of_config(self.configs, unit.fn)
        dropped = _dropped(unit) | self._copied(unit)
        for node in usage.own_nodes(unit):
            if id(node) in dropped:
                continue
            if isinstance(node, ir.Attribute):
                self._attribute(unit, node, own)
            elif isinstance(node, ir.Subscript):
                self._subscript(unit, node)
            elif isinstance(node, ir.Call):
                self._call(unit, node, own)
            elif isinstance(node, ir.Constant) and isinstance(node.value, str) and "{" in node.value:
                self.anywhere.update(_TEXT_FIELD.findall(node.value))
            elif isinstance(node, ir.Match) and ir.dotted(node.subject) is None:
                for case in node.cases:
                    for test in case.tests:
                        self._all_of(_classes(self.configs, unit, test))
            elif isinstance(node, (ir.Assign, ir.For)):
                self._unpacked(unit, node)
            elif isinstance(node, ir.ImportFrom):
                self._imported(unit, node)

    def _add(self, schemas: set[Schema], key: str, own: FunctionInfo | None, base: ir.Expr) -> None:
        if own is not None and isinstance(base, ir.Name) and own.node.params and base.id == own.node.params[0].name:
            if own.node.name not in BUILDING and not is_validator(own):
                self.inside.setdefault(own, set()).add(key)
            return
        self.known |= {(s, key) for s in schemas}

    def _schemas(self, unit: Unit, expr: ir.Expr, values: Values | None = None) -> set[Schema]:
        # Without configuration of which nothing is known: what is read of that may be a key of any.
        return {s for s in self.configs.schemas(unit, expr, values) if not s.open}

    def _attribute(self, unit: Unit, node: ir.Attribute, own: FunctionInfo | None) -> None:
        receivers = unit.receivers.get(node, frozenset())
        schemas = self._schemas(unit, node.value, receivers or None)
        classes = {self.configs.of_class[r.cls] for r in receivers if isinstance(r, Cls) and r.cls in self.configs.of_class}
        modules = {self.configs.of_module[r.module] for r in receivers if isinstance(r, Mod) and r.module in self.configs.of_module}
        if schemas or classes or modules:
            self._add(schemas | classes | modules, node.attr, own, node.value)
        elif all(isinstance(r, (UnknownValue, ExtInst)) and _says_nothing(r) for r in receivers):
            self.anywhere.add(node.attr)

    def _subscript(self, unit: Unit, node: ir.Subscript) -> None:
        schemas = self._schemas(unit, node.value)
        if isinstance(node.index, ir.Constant) and isinstance(node.index.value, str):
            dumped = self.configs.dumped(unit, node.value)
            if schemas or dumped:
                self.known |= {(s, node.index.value) for s in schemas | dumped}
            else:
                self._key_of_any_dictionary(unit, node, node.index.value)
        elif isinstance(node.index, ir.Constant) and isinstance(node.index.value, int) and not isinstance(node.index.value, bool):
            for schema in schemas:  # of a NamedTuple, and what a class pattern takes by position
                self.known |= {(schema, key) for key in [*schema.keys][node.index.value :][:1]}
        elif any(s.is_tuple for s in schemas):
            self._all_of(schemas)
        elif any(s.mapping for s in schemas):
            texts = usage.texts(self.flow, usage.place(unit, node.index))
            self.known |= {(s, t) for s in schemas for t in texts}
            if not texts:
                self._all_of(_lists(schemas))

    def _key_of_any_dictionary(self, unit: Unit, node: ir.Subscript, key: str) -> None:
        # A dictionary of which nothing is known may be the one that a root name holds.
        values = self.configs.values(unit, node.value)
        unknown = any(s.open for s in self.configs.schemas(unit, node.value))
        if unknown or (isinstance(node.value, (ir.Name, ir.Attribute)) and all(isinstance(v, UnknownValue) for v in values)):
            self.known |= {(s, key) for s in self.configs.dictionaries}

    def _call(self, unit: Unit, call: ir.Call, own: FunctionInfo | None) -> None:
        names = usage.called_names(unit, call)
        given = usage.positional(call)
        if "builtins.getattr" in names and len(given) >= 2:
            schemas = self._schemas(unit, given[0])
            for text in usage.texts(self.flow, usage.place(unit, given[1])):
                if schemas:
                    self._add(schemas, text, own, given[0])
                else:
                    self.anywhere.add(text)
        elif names & {"operator.attrgetter", "operator.itemgetter"}:
            self.anywhere.update(p for e in given for t in usage.texts(self.flow, usage.place(unit, e)) for p in t.split("."))
        elif any(isinstance(v, Ext) and v.name == "builtins.getattr" for e in given for v in self.configs.values(unit, e)):
            for node in ir.walk(call):
                if isinstance(node, ir.Constant) and isinstance(node.value, str):
                    self.anywhere.update(node.value.split("."))
        if isinstance(call.func, ir.Attribute) and call.func.attr in ("get", "pop", "__getitem__") and given:
            schemas = self._schemas(unit, call.func.value) | self.configs.dumped(unit, call.func.value)
            self.known |= {(s, t) for s in schemas for t in usage.texts(self.flow, usage.place(unit, given[0]))}
        if isinstance(call.func, ir.Attribute) and call.func.attr in ("items", "values"):
            self._all_of(_lists(self._schemas(unit, call.func.value)))
        for arg in call.args:
            if arg.star and not self._copies(unit, call):
                schemas = {s for s in self._schemas(unit, arg.value) if s.is_tuple or arg.star == "**"}
                self._all_of(schemas | self.configs.dumped(unit, arg.value))

    def _copies(self, unit: Unit, call: ir.Call) -> bool:
        # Making a configuration from another one uses no key.
        callees = unit.calls.get(call, frozenset())
        made = any(isinstance(c, Cls) and c.cls in self.configs.of_class for c in callees)
        return made or any(isinstance(c, Ext) and c.name in ("dataclasses.replace", "builtins.dict", "attrs.evolve") for c in callees)

    def _copied(self, unit: Unit) -> set[int]:
        # `Section(key=old.key)` hands a key on under its own name.
        return {
            id(arg.value)
            for call in unit.calls
            for arg in call.args
            if isinstance(arg.value, ir.Attribute) and arg.keyword == arg.value.attr and self._copies(unit, call)
        }

    def _unpacked(self, unit: Unit, node: ir.Assign | ir.For) -> None:
        source = node.value if isinstance(node, ir.Assign) else node.iter
        target = node.targets[0] if isinstance(node, ir.Assign) else node.target
        if source is not None and (isinstance(target, ir.Sequence) or isinstance(node, ir.For)):
            self._all_of({s for s in self._schemas(unit, source) if s.is_tuple})

    def _imported(self, unit: Unit, node: ir.ImportFrom) -> None:
        module = self.configs.context.project.modules.get(unit.module.absolute(node.module, node.level))
        if module in self.configs.of_module:
            self.known |= {(self.configs.of_module[module], name) for name, _ in node.names}

    def _all_of(self, schemas: set[Schema]) -> None:
        self.known |= {(s, key) for s in schemas for key in s.keys}


def _mentions(units: list[Unit]) -> Counter[str]:
    """How often each word is used as a name, an attribute, an import or a text."""
    out: Counter[str] = Counter()
    for unit in units:
        for node in usage.own_nodes(unit):
            if isinstance(node, ir.Name):
                out[node.id] += 1
            elif isinstance(node, ir.Attribute):
                out[node.attr] += 1
            elif isinstance(node, ir.ImportFrom):
                out.update(name for name, _ in node.names)
            elif isinstance(node, ir.Constant) and isinstance(node.value, str):
                out.update(node.value.replace(".", " ").split())
    return out


def _is_dead(unit: Unit, mentioned: Counter[str]) -> bool:
    # A private or a nested function that nothing mentions never runs; anything else may be called from outside.
    fn = unit.fn
    if fn is None or fn.node.decorators or fn.node.name.startswith("__"):
        return False
    hidden = fn.node.name.startswith("_") or (fn.enclosing is not None and fn.cls is None)
    return hidden and fn.node.name.isidentifier() and not mentioned[fn.node.name]


def _says_nothing(value: object) -> bool:
    return isinstance(value, UnknownValue) or (isinstance(value, ExtInst) and value.name in ("outside()", "builtins.None"))


def _method_of_config(configs: Configs, fn: FunctionInfo | None) -> FunctionInfo | None:
    return fn if fn is not None and fn.cls is not None and fn.cls in configs.of_class else None


def _classes(configs: Configs, unit: Unit, expr: ir.Expr) -> set[Schema]:
    values = configs.values(unit, expr)
    return {configs.of_class[v.cls] for v in values if isinstance(v, Cls) and v.cls in configs.of_class}


def _lists(schemas: set[Schema]) -> set[Schema]:
    # Dictionaries without sections: `weights[name]` and `weights.items()` use what they hold.
    return {s for s in schemas if s.cls is None and s.mapping and not s.nested}


def _dropped(unit: Unit) -> set[int]:
    # What is written, and what is read only to be thrown away.
    out: set[int] = set()
    for node in usage.own_nodes(unit):
        out |= {id(t) for t in stored(node)}
        if (isinstance(node, ir.ExprStmt) and isinstance(node.value, ir.Attribute)) or (
            isinstance(node, ir.Assign) and node.value is not None and all(ir.last_name(t) == "_" for t in node.targets)
        ):
            out.add(id(node.value))
    return out


_CONFIG = (
    "from dataclasses import dataclass\n@dataclass(frozen=True)\nclass TrainConfig:\n    lr: float = 0.1\n    extra: int = 4\n{more}"
    "@dataclass(frozen=True)\nclass Config:\n    train: TrainConfig = TrainConfig()\n    seed: int = 0\n"
)
_READ = "from pkg.config import Config, TrainConfig\ndef step(config: Config):\n    return config.train.lr, config.seed\n"


def _case(name: str, source: str = "", more: str = "") -> Case:
    return Case(name, {"pkg/__init__.py": "", "pkg/config.py": _CONFIG.replace("{more}", more), "pkg/step.py": _READ + source})


def _single(name: str, source: str, **others: str) -> Case:
    return Case(name, {"pkg/__init__.py": "", "pkg/step.py": source, **{f"pkg/{k}.py": v for k, v in others.items()}})


_TWICE = "    @property\n    def twice(self):\n        return 2 * self.extra\n"
_TABLE = (
    "import copy\nimport json\nDEFAULTS = {'fit': {'lr': 0.1, 'extra': 3}, 'weights': {'a': 1, 'b': 2}}\ndef merge(base, extra):\n"
    "    out = copy.deepcopy(base)\n    for name, values in extra.items():\n        out[name].update(values)\n    return out\n"
    "def load(path):\n    return merge(DEFAULTS, json.loads(path.read_text()))\n"
)


def _table(name: str, part: str) -> Case:
    source = (
        "from pkg.settings import load\ndef step(state):\n    cfg = state['cfg']\n"
        f"    return cfg['fit']['lr'], {part}\ndef main(path):\n    cfg = load(path)\n    return step({{'cfg': cfg}})\n"
    )
    return Case(name, {"pkg/__init__.py": "", "pkg/settings.py": _TABLE, "pkg/step.py": source})


_INVALID = (
    Case(
        "handed on in a list of arguments",
        {
            "pkg/__init__.py": "",
            "pkg/step.py": "from dataclasses import dataclass\n@dataclass\nclass Config:\n    lr: float = 0.1\n    unread: int = 0\n"
            "def tell(cb, *args):\n    cb(*args)\ndef step(config: Config, cb):\n    tell(cb, config)\n    return config.lr\n",
        },
    ),
    _table("a key of a table below a file", "[w for n, w in cfg['weights'].items()]"),
    _table("one entry of a section of a table", "cfg['fit']['extra'], cfg['weights']['a']"),
    _case("never mentioned"),
    _case("only written", "def change(config: Config):\n    object.__setattr__(config.train, 'extra', 3)\n"),
    _case("only dumped", "from dataclasses import asdict\ndef dump(config: Config):\n    return asdict(config)\n"),
    _case("only validated", more="    def __post_init__(self):\n        if self.extra < 0:\n            raise ValueError('extra')\n"),
    _case("only in an unused property", more=_TWICE),
    _case("only walked over", "from dataclasses import fields\ndef walk(config: Config):\n"
          "    return [getattr(config.train, f.name) for f in fields(config.train)]\n"),
    _case("only passed to the constructor", "def make():\n    return TrainConfig(extra=3)\n"),
    _case("another object's attribute",
          "class Net:\n    def __init__(self):\n        self.extra = 3\n    def go(self):\n        return self.extra\n"),
    _case("thrown away", "def drop(config: Config):\n    _ = config.train.extra\n"),
    _case("only copied", "from dataclasses import asdict\ndef copy(config: Config):\n    return TrainConfig(**asdict(config.train))\n"),
    _case("only handed on under its own name", "def copied(config: Config):\n    return TrainConfig(extra=config.train.extra)\n"),
    _case("beside the key that a pattern takes", "def use(t: TrainConfig):\n    match t:\n        case TrainConfig(lr=rate):\n"
            "            return rate\n"),
    _case("read by a private function that nothing mentions", "def _left(config: Config):\n    return config.train.extra\n"),
    _single("a namespace that is written down", "from types import SimpleNamespace\nconfig = SimpleNamespace(lr=0.1, extra=3)\n"
            "def step():\n    return config.lr\n"),
    _single("a dictionary", "config = {'lr': 0.1, 'extra': 3}\ndef step(x):\n    return config['lr']\n"),
    _single("a module", "from pkg import config\ndef step(x):\n    return config.LR\n", config="LR = 0.1\nEXTRA = 3\n"),
    _single("a namespace", "import argparse\ndef step(argv):\n    p = argparse.ArgumentParser()\n    p.add_argument('--lr')\n"
            "    p.add_argument('--extra')\n    config = p.parse_args(argv)\n    return config.lr\n"),
)  # fmt: skip
_VALID = (
    _case("read", "def use(config: Config):\n    return config.train.extra\n"),
    _case("read under another name", "def use(config: Config):\n    t = config.train\n    return t.extra\n"),
    _case("read in a helper", "def use(t):\n    return t.extra\n"),
    _case("literal getattr", "NAMES = ('lr', 'extra')\ndef use(config: Config):\n    return [getattr(config.train, n) for n in NAMES]\n"),
    _case("a property that is used", "def use(config: Config):\n    return config.train.twice\n", more=_TWICE),
    _case("keywords of a call", "from dataclasses import asdict\nimport other\ndef use(config: Config):\n"
          "    return other.run(**asdict(config.train))\n"),
    _case("a subscript of its dictionary", "def use(config: Config):\n    return vars(config.train)['extra']\n"),
    _case("attrgetter", "import operator\nuse = operator.attrgetter('train.extra')\n"),
    _case("a pattern by position", "def use(t: TrainConfig):\n    match t:\n        case TrainConfig(_, e):\n            return e\n"),
    _case("read by a private function", "def _part(config: Config):\n    return config.train.extra\ndef use(config: Config):\n"
            "    return _part(config)\n"),
    _case("a pattern", "def use(t: TrainConfig):\n    match t:\n        case TrainConfig(extra=e):\n            return e\n"),
    _single("a class that is no configuration", "from dataclasses import dataclass\n@dataclass\nclass Point:\n    x: int\n    y: int\n"
            "def step(p: Point):\n    return p.x\n"),
    _table("the items of a section of a table", "cfg['fit']['extra'], [n * w for n, w in cfg['weights'].items()]"),
    _table("computed keys of a section of a table", "cfg['fit']['extra'], [cfg['weights'][n] for n in state['names']]"),
)  # fmt: skip

RULE = Rule(
    code="CFG002",
    title="no configuration key that nothing reads",
    table="config",
    manual=MANUAL,
    mend="Use the key where its description says, or remove it.",
    check=check,
    settings={"config": {"roots": ["config", "cfg"]}},
    valid=_VALID,
    invalid=_INVALID,
    limits=(
        _case("an attribute of that name on something unknown", "def other(x):\n    return x.extra\n"),
        _case("read in a function that nothing calls", "def unused(config: Config):\n    return config.train.extra\n"),
    ),
)
