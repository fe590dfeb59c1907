"""CFG001: no undeclared key and no default at the place of use on configuration."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cached_property

from audits.static.analysis.engine import Unit
from audits.static.analysis.values import NOTHING, OUTSIDE, Cls, ExtInst, Inst, Mod, UnknownValue
from audits.static.context import Context
from audits.static.dataflow import usage
from audits.static.findings import Finding
from audits.static.rules.base import Case, Rule
from audits.static.settings import nearest
from audits.static.source import ir
from audits.static.subjects.config_schema import Schema, stored
from audits.static.subjects.configs import Configs, configs_of

MANUAL = """\
A key that is read with a default exists twice: once where it is declared and once where it is read, until the two
disagree; a key that is declared nowhere is always its default. This rule finds configuration by the names in
`config.roots` and by the types of what they hold: dataclasses, pydantic and attrs models, NamedTuples, TypedDicts,
plain classes, dictionaries and namespaces that are written down, modules of constants and argparse namespaces, with everything
nested in them, in containers of them, under any alias, in helpers and in `self.config`. A dictionary that was copied from
a written one, or that lays the content of a file over it, has the keys of the written one. What a root name holds of which nothing is
known, such as the content of a file, is configuration too. It reports reading an attribute or key that the class does not
declare (fields, properties, methods and inherited members count), `getattr` with a default, `hasattr`, `.get(...)`,
`in`, and `try ... except AttributeError` around a read - on the configuration or on its dictionary form.

Configuration whose class derives from one outside the packages that may add members, and a `getattr` under a name
that is computed at run time, are left alone.
"""


def check(context: Context) -> Iterable[Finding]:
    """One finding for each read."""
    configs = configs_of(context)
    if configs.empty:
        if configs.roots:
            names = ", ".join(sorted(configs.roots))
            yield context.config_finding("CFG001", "config.roots", f"none of {names} is a name in the packages: nothing is checked")
        return
    search = _Search(configs)
    for unit in usage.cold_units(context.analysis):
        seen: set[tuple[int, int]] = set()
        for node, message in search.unit(unit):
            if (node.line, node.column) not in seen:
                seen.add((node.line, node.column))
                yield context.finding("CFG001", unit.module, node, message, fn=unit.fn)


class _Search:
    def __init__(self, configs: Configs) -> None:
        self.configs = configs
        self.flow = configs.flow

    def unit(self, unit: Unit) -> Iterator[tuple[ir.Node, str]]:
        written = {id(t) for node in usage.own_nodes(unit) for t in stored(node)}
        for node in usage.own_nodes(unit):
            if isinstance(node, ir.Attribute) and id(node) not in written:
                yield from self._attribute(unit, node)
            elif isinstance(node, ir.Subscript) and id(node) not in written:
                yield from self._subscript(unit, node)
            elif isinstance(node, ir.Call):
                yield from self._call(unit, node)
            elif isinstance(node, ir.Compare) and set(node.ops) & {"in", "not in"}:
                yield from self._membership(unit, node)
            elif isinstance(node, ir.Try):
                yield from self._attempt(unit, node)

    # -- undeclared keys

    def _attribute(self, unit: Unit, node: ir.Attribute) -> Iterator[tuple[ir.Node, str]]:
        receivers = unit.receivers.get(node, frozenset())
        declared = self.configs.declared(unit, node.value)
        others = [] if declared else [r for r in receivers if not self._is_config(r)]
        others = [r for r in others if not (isinstance(r, ExtInst) and self.configs.rooted(node.value))]
        unknown = any(isinstance(r, UnknownValue) for r in receivers)
        schemas = self.configs.schemas(unit, node.value, receivers or None)
        classes = {self.configs.of_class[r.cls] for r in receivers if isinstance(r, Cls) and r.cls in self.configs.of_class}
        if len(classes) == len(receivers):
            schemas = schemas or classes
        if others or (not declared and unknown and len(receivers) > 1 and not self.configs.rooted(node.value)):
            return
        message = self._undeclared(schemas, node.attr)
        if message is not None and not self._mapping_use(schemas):
            yield node, message

    def _is_config(self, value: object) -> bool:
        # Or nothing that could be told from it; a tensor or a path is something else.
        if isinstance(value, ExtInst):
            return value in (NOTHING, OUTSIDE)
        if isinstance(value, Inst):
            return value.cls in self.configs.of_class
        return value.module in self.configs.of_module if isinstance(value, Mod) else True

    def _mapping_use(self, schemas: set[Schema]) -> bool:
        return all(s.mapping for s in schemas)

    def _undeclared(self, schemas: set[Schema], key: str) -> str | None:
        family = self.configs.family(schemas)
        if not family or any(s.has(key) for s in family):
            return None
        named = sorted(family, key=lambda s: s.name)[0]
        known = sorted({k for s in family for k in (*s.keys, *s.members)})
        hint = f"; the nearest declared one is {nearest(key, known)!r}" if known else ""
        return f"{key!r} is read from {named.name}, which does not declare it{hint}"

    def _subscript(self, unit: Unit, node: ir.Subscript) -> Iterator[tuple[ir.Node, str]]:
        if not isinstance(node.index, ir.Constant) or not isinstance(node.index.value, str):
            return
        schemas = {s for s in self.configs.certain(unit, node.value) if s.mapping}
        schemas = schemas or self.configs.dumped(unit, node.value)
        family, key = self.configs.family(schemas), node.index.value
        missing = [s for s in family if s.closed and key not in s.keys]
        if schemas and len(missing) == len(family) and not self._added(unit, key) and not self.configs.filled(schemas, key):
            yield node, f"{key!r} is read from {missing[0].name}, which does not declare it"

    def _added(self, unit: Unit, key: str) -> bool:
        # A key that the same function has put into its own copy is there.
        return any(
            isinstance(t, ir.Subscript) and isinstance(t.index, ir.Constant) and t.index.value == key
            for n in usage.own_nodes(unit)
            for t in stored(n)
        )

    # -- defaults at the place of use

    def _call(self, unit: Unit, call: ir.Call) -> Iterator[tuple[ir.Node, str]]:
        names = usage.called_names(unit, call)
        given = usage.positional(call) or self._starred(unit, call)
        if names & {"builtins.getattr", "builtins.hasattr"} and len(given) >= 2:
            schemas = self.configs.sections(unit, given[0])
            if schemas and "builtins.hasattr" in names:
                yield call, "hasattr on configuration asks for a key that may not be declared"
            elif schemas and max(len(given), len(call.args)) > 2:
                yield call, "getattr with a default on configuration hides an undeclared key"
            elif schemas:
                for text in sorted(usage.texts(self.flow, usage.place(unit, given[1]))):
                    message = self._undeclared(schemas, text)
                    if message is not None:
                        yield call, message
        elif isinstance(call.func, ir.Attribute) and call.func.attr in ("get", "pop", "setdefault", "__getattr__") and given:
            yield from self._get(unit, call, call.func)
        yield from self._getter(unit, call)

    def _starred(self, unit: Unit, call: ir.Call) -> list[ir.Expr]:
        # getattr(*arguments), where the function writes the arguments down.
        if len(call.args) != 1 or call.args[0].star != "*":
            return []
        found = [p for p in usage.behind(self.flow, usage.place(unit, call.args[0].value)) if p.fn is unit.fn]
        return found[0].expr.items if len(found) == 1 and isinstance(found[0].expr, ir.Sequence) else []

    def _get(self, unit: Unit, call: ir.Call, func: ir.Attribute) -> Iterator[tuple[ir.Node, str]]:
        schemas = self.configs.sections(unit, func.value)
        if any(s.cls is not None and not s.mapping and func.attr in s.members for s in schemas):
            return
        known = [s for s in schemas or self.configs.dumped(unit, func.value) if s.closed or s.open]
        if known and (func.attr == "get" or len(call.args) > 1):
            yield call, f".{func.attr}() on configuration hides an undeclared key"

    def _getter(self, unit: Unit, call: ir.Call) -> Iterator[tuple[ir.Node, str]]:
        # operator.attrgetter("section.key")(config)
        if not call.args or not self._getters or not self.configs.schemas(unit, call.args[0].value):
            return
        for made in usage.behind(self.flow, usage.place(unit, call.func), 2):
            if (
                isinstance(made.expr, ir.Call)
                and "operator.attrgetter" in usage.called_names(self.flow.unit(made), made.expr)
                and call.args
            ):
                schemas = self.configs.schemas(unit, call.args[0].value)
                for path in (a.value for a in made.expr.args):
                    for text in usage.texts(self.flow, made.at(path)):
                        yield from ((call, m) for m in self._along(schemas, text.split(".")))

    @cached_property
    def _getters(self) -> bool:
        return any("operator.attrgetter" in usage.called_names(u, c) for u in usage.cold_units(self.configs.analysis) for c in u.calls)

    def _along(self, schemas: set[Schema], path: list[str]) -> Iterator[str]:
        for part in path:
            message = self._undeclared(schemas, part)
            if message is not None:
                yield message
            schemas = {n for s in schemas for n in s.nested.get(part, ())}

    def _membership(self, unit: Unit, node: ir.Compare) -> Iterator[tuple[ir.Node, str]]:
        if not isinstance(node.left, ir.Constant) or not isinstance(node.left.value, str):
            return
        for expr in node.comparators:
            schemas = self.configs.sections(unit, expr)
            asked = any(self._indexed(expr) if s.open else not s.is_tuple and "__contains__" not in s.members for s in schemas)
            if asked or self.configs.dumped(unit, expr):
                yield node, "asking whether configuration has a key hides an undeclared one"

    def _indexed(self, expr: ir.Expr) -> bool:
        # A part of configuration of which nothing is known may be a list of names: what is asked must be taken by name elsewhere.
        path = self._path(expr)
        return path == "" or path in self._indexed_paths

    @cached_property
    def _indexed_paths(self) -> set[str | None]:
        # The parts of root names that are indexed by text anywhere.
        return {
            self._path(base)
            for unit in usage.cold_units(self.configs.analysis)
            for node in usage.own_nodes(unit)
            for base, key in _entries(node)
            if isinstance(key, ir.Constant) and isinstance(key.value, str)
        } - {None}

    def _path(self, expr: ir.Expr) -> str | None:
        if ir.last_name(expr) in self.configs.roots:
            return ""
        base = self._path(expr.value) if isinstance(expr, (ir.Subscript, ir.Attribute)) else None
        if base is None or (isinstance(expr, ir.Subscript) and not isinstance(expr.index, ir.Constant)):
            return None
        return f"{base}.{expr.attr if isinstance(expr, ir.Attribute) else getattr(getattr(expr, 'index', None), 'value', None)}"

    def _attempt(self, unit: Unit, node: ir.Try) -> Iterator[tuple[ir.Node, str]]:
        for handler in node.handlers:
            kinds = handler.type.items if isinstance(handler.type, ir.Sequence) else [handler.type] if handler.type is not None else []
            caught = {ir.last_name(k) for k in kinds}
            if not caught & {"AttributeError", "KeyError"} or any(isinstance(n, ir.Raise) for n in ir.walk_own(handler.body)):
                continue
            for inner in ir.walk_own(node.body):
                if "AttributeError" in caught and isinstance(inner, ir.Attribute) and self.configs.sections(unit, inner.value):
                    yield inner, "a handler of AttributeError around a read of configuration hides an undeclared key"
                elif "KeyError" in caught and isinstance(inner, ir.Subscript):
                    if any(s.mapping for s in self.configs.sections(unit, inner.value)) or self.configs.dumped(unit, inner.value):
                        yield inner, "a handler of KeyError around a read of configuration hides an undeclared key"


def _entries(node: ir.Node) -> Iterator[tuple[ir.Expr, ir.Expr]]:
    if isinstance(node, ir.Subscript):
        yield node.value, node.index
    elif isinstance(node, ir.Call) and isinstance(node.func, ir.Attribute) and node.func.attr in ("get", "pop") and node.args:
        yield node.func.value, node.args[0].value


_CONFIG = (
    "from dataclasses import dataclass, field\n@dataclass(frozen=True)\nclass TrainConfig:\n    lr: float = 0.1\n    epochs: int = 3\n"
    "@dataclass(frozen=True)\nclass Config:\n    train: TrainConfig = TrainConfig()\n    seed: int = 0\n    @property\n"
    "    def total(self):\n        return self.train.epochs\n"
)


def _case(name: str, body: str, *, arguments: str = "config: Config", head: str = "", config: str = _CONFIG) -> Case:
    source = f"from pkg.config import Config, TrainConfig\n{head}def step({arguments}):\n    {body}\n"
    return Case(name, {"pkg/__init__.py": "", "pkg/config.py": config, "pkg/step.py": source})


def _single(name: str, source: str, **others: str) -> Case:
    return Case(name, {"pkg/__init__.py": "", "pkg/step.py": source, **{f"pkg/{k}.py": v for k, v in others.items()}})


_PYDANTIC = (
    "from pydantic import BaseModel\nclass TrainConfig(BaseModel):\n    lr: float = 0.1\n    epochs: int = 3\n"
    "class Config(BaseModel):\n    train: TrainConfig = TrainConfig()\n    seed: int = 0\n"
)
_SEVERAL = _CONFIG + "    stages: list[TrainConfig] = field(default_factory=list)\n    named: dict[str, list[TrainConfig]] | None = None\n"
_TABLE = (
    "import copy\nimport json\nDEFAULTS = {'fit': {'lr': 0.1, 'epochs': 3}, 'net': {'width': 8}}\ndef merge(base, extra):\n"
    "    out = copy.deepcopy(base)\n    for name, values in extra.items():\n        out[name].update(values)\n    return out\n"
    "def load(path):\n    return merge(DEFAULTS, {} if path is None else json.loads(path.read_text()))\n"
)


def _table(name: str, body: str, *, head: str = "", load: str = "", more: str = "") -> Case:
    source = (
        f"from pkg.settings import load\n{head}def step(cfg):\n    {body}\n"
        "def main(path):\n    cfg = load(path)\n    return step(cfg), cfg['fit']['lr'], cfg['fit']['epochs'], cfg['net']['width']\n"
    )
    return Case(name, {"pkg/__init__.py": "", "pkg/settings.py": _TABLE + load, "pkg/step.py": source + more})


_INVALID: tuple[Case, ...] = (
    Case("roots that match nothing", {"pkg/__init__.py": "", "pkg/step.py": "def step(x):\n    return x\n"}),
    _case("an undeclared key", "return config.learning_rate"),
    _case("an undeclared key of a section", "return config.train.momentum"),
    _case("a section under another name", "t = config.train\n    return t.momentum"),
    _case("a root without a type", "return cfg.train.momentum", arguments="cfg"),
    _case("self.config", "return x", arguments="x", head=(
        "class Trainer:\n    def __init__(self, config: Config):\n        self.config = config\n"
        "    def run(self):\n        return self.config.train.momentum\n")),
    _case("a section as parameter", "return section.momentum", arguments="section: TrainConfig"),
    _case("a section in a helper", "return pick(config.train)", head="def pick(s):\n    return s.momentum\n"),
    _case("a pydantic model", "return config.train.momentum", config=_PYDANTIC),
    _case("getattr with a default", "return getattr(config.train, 'lr', 0.1)"),
    _case("getattr of an undeclared key", "return getattr(config.train, 'momentum')"),
    _case("getattr in a helper", "return opt(config.train, 'lr', 0.1)",
          head="def opt(s, name, other):\n    return getattr(s, name, other)\n"),
    _case("hasattr", "return config.train.lr if hasattr(config.train, 'lr') else 0.1"),
    _case("get on its dictionary", "return vars(config.train).get('lr', 0.1)"),
    _case("get on its dumped form", "d = config.train.model_dump()\n    return d.get('lr', 0.1)", config=_PYDANTIC),
    _case("get on a root of which nothing is known", "return config.get('lr', 0.1)", arguments="config"),
    _case("a handler instead of a default", "try:\n        return config.train.momentum\n    except AttributeError:\n        return 0.9"),
    _case("attrgetter", "return operator.attrgetter('train.momentum')(config)", head="import operator\n"),
    _case("a section in a list of sections", "return [t.momentum for t in config.stages]", config=_SEVERAL),
    _case("a section in a queue", "queue = deque(config.stages)\n    return queue.popleft().momentum",
          head="from collections import deque\n", config=_SEVERAL),
    _case("a section in a dictionary of lists", "for name, ts in config.named.items():\n        for t in ts:\n"
            "            print(name, t.momentum)",
          config=_SEVERAL),
    _case("a section beside another value in a loop", "for x, t in zip(xs, config.stages):\n        print(x, t.momentum)",
          arguments="config: Config, xs", config=_SEVERAL),
    _case("one of several sections", "return (config.stages[0] if x else config.train).momentum",
          arguments="config: Config, x", config=_SEVERAL),
    _case("an item of its nested dictionary", "return asdict(config)['train']['momentum']", head="from dataclasses import asdict\n"),
    _case("a name from a table", "return {n: getattr(config.train, k) for n, k in NAMES.items()}",
          head="NAMES = {'rate': 'lr', 'm': 'momentum'}\n"),
    _case("several paths of attrgetter", "return operator.attrgetter('seed', 'train.momentum')(config)", head="import operator\n"),
    _case("arguments in a tuple", "wanted = (config.train, 'lr', 0.1)\n    return getattr(*wanted)"),
    _case("of the class", "return Config.sead"),
    _case("getattr in a helper that others use too", "return opt(config.train), opt(x)", arguments="config: Config, x",
          head="def opt(s):\n    return getattr(s, 'lr', 0.1)\n"),
    _single("a section of a file", "import tomllib\ndef load(path):\n    return tomllib.loads(path.read_text())\nclass Run:\n"
            "    def __init__(self, path):\n        self.config = load(path)\n    def lr(self):\n        part = self.config['train']\n"
            "        return part.get('lr', 0.1)\n"),
    _single("a part that is asked and then taken", "def step(config):\n"
            "    return config['train']['amp'] if 'amp' in config['train'] else False\n"),
    _single("a part of a root of which nothing is known", "def step(cfg):\n    return cfg['fit'].get('lr', 0.1)\n"),
    _single("a member of a root of which nothing is known", "def step(cfg):\n    return getattr(cfg.fit, 'lr', 0.1)\n"),
    _single("a namespace that is written down", "from types import SimpleNamespace\ndef make():\n    return SimpleNamespace(lr=0.1)\n"
            "def step():\n    config = make()\n    return config.momentum\n"),
    _single("a namespace of another module's parser", "from pkg.cli import parser\ndef main(argv):\n"
            "    config = parser().parse_args(argv)\n"
            "    return run(config)\ndef run(o):\n    return o.momentum\n",
            cli="import argparse\ndef parser():\n    p = argparse.ArgumentParser()\n    p.add_argument('--lr')\n    return p\n"),
    _single("a dictionary", "config = {'lr': 0.1}\ndef step(x):\n    return config['momentum']\n"),
    _single("a TypedDict", "from typing import TypedDict\nclass Config(TypedDict):\n    lr: float\ndef step(config: Config):\n"
            "    return config['momentum']\n"),
    _single("a module", "from pkg import config\ndef step(x):\n    return config.MOMENTUM\n", config="LR = 0.1\n"),
    _single("a namespace", "import argparse\ndef step(argv):\n    p = argparse.ArgumentParser()\n    p.add_argument('--lr')\n"
            "    config = p.parse_args(argv)\n    return config.momentum\n"),
)  # fmt: skip
_INVALID += (
    _table("a table below a file", "return cfg['fit']['momentum']"),
    _table("get on a section of a table", "return cfg['fit'].get('beta', 0.9)"),
    _table("in on a section of a table", "return 'amp' in cfg['fit']"),
    _table("a handler instead of a default of a table",
           "try:\n        return cfg['fit']['amp']\n    except KeyError:\n        return False"),
    _table("a section of a table in a helper", "return pick(cfg['net'])", head="def pick(net):\n    return net['depth']\n"),
    _table("a table in a state", "return use({'cfg': cfg, 'n': 1})", head="def use(state):\n    return state['cfg']['fit']['momentum']\n"),
    _table("a table as it is", "return cfg['fit']['momentum']", load="def load(path):\n    return DEFAULTS\n"),
    _table("a spread table", "return cfg['fit']['momentum']",
           load="def load(path):\n    return {**DEFAULTS, 'fit': {**DEFAULTS['fit'], 'lr': 3}}\n"),
    _table("a table joined with a file", "return cfg['fit']['momentum']",
           load="def load(path):\n    return DEFAULTS | json.load(path.open())\n"),
    _table("a table by its sections", "return cfg['fit']['momentum']",
           load="def load(path):\n    more = json.load(path.open())\n"
                "    return {k: {**v, **more.get(k, {})} for k, v in DEFAULTS.items()}\n"),
    _table("a table of another module", "return cfg['fit']['momentum']", head="from pkg import settings\n",
           more="def load(path):\n    return settings.copy.deepcopy(settings.DEFAULTS)\n"),
    _table("a table of tables", "return cfg['fit']['momentum']",
           load="FIT = {'lr': 0.1, 'epochs': 3}\nALL = {'fit': FIT, 'net': {'width': 8}}\ndef load(path):\n    return dict(ALL)\n"),
    _single("parsed arguments under the same name in a helper", "import argparse\ndef main(argv):\n"
            "    p = argparse.ArgumentParser()\n    p.add_argument('--lr')\n    config = p.parse_args(argv)\n    return run(config)\n"
            "def run(config):\n    return config.lr, config.momentum\n"),
    _single("a namespace under the same name in a helper", "from types import SimpleNamespace\ndef main():\n"
            "    config = SimpleNamespace(lr=0.1)\n    return run(config)\ndef run(config):\n    return config.lr, config.momentum\n"),
)  # fmt: skip
_VALID = (
    _case("declared keys", "return config.train.lr * config.seed"),
    _case("a property", "return config.total"),
    _case("getattr over literal names", "return [getattr(config.train, n) for n in ('lr', 'epochs')]"),
    _case("another object", "return getattr(x, 'lr', 1)", arguments="x"),
    _case("the interface of pydantic", "return config.model_dump(), config.model_fields_set", config=_PYDANTIC),
    _case("the interface of dataclasses", "return [getattr(config, f.name) for f in fields(config)]",
          head="from dataclasses import fields\n"),
    _case("a subclass", "return config.extra", arguments="config: Sub", head="class Sub(Config):\n    extra: int = 3\n"),
    _case("methods of values", "return config.train.lr.hex(), config.seed.bit_length()"),
    _case("the methods of containers", "return len(config.stages), config.named.get('a'), config.stages.count(3), [*config.named]",
          config=_SEVERAL),
    _case("sections by their name", "groups = defaultdict(list)\n    for t in config.stages:\n        groups[t.lr].append(t)\n"
            "    return groups",
          head="from collections import defaultdict\n", config=_SEVERAL),
    _case("a list that holds sections", "out = []\n    out.append(config.train)\n    return out.count(config.train)"),
    _case("a dictionary that holds a section", "out = {'train': config.train, 'notes': []}\n    out['notes'].append(3)\n    return out"),
    _case("a label beside each name", "return {label: getattr(config.train, k) for k, label in (('lr', 'Rate'), ('epochs', 'Passes'))}"),
    _single("a list of names in a file", "def step(config):\n    return 'mse' in config['losses']\n"),
    _single("a path under a root name", "from pathlib import Path\ndef step(config: Path):\n    return getattr(config, 'anchor', '')\n"),
    _case("an option of that name", "return args.config.exists()", arguments="args",
          head="import argparse\ndef parser():\n    p = argparse.ArgumentParser()\n    p.add_argument('--config')\n    return p\n"),
    _single("a parser that helpers fill", "import argparse\nfrom pkg.more import fill\ndef main(argv):\n    p = argparse.ArgumentParser()\n"
            "    fill(p)\n    p.add_argument('--seed')\n    config = p.parse_args(argv)\n    return config.lr, config.seed\n",
            more="def fill(p):\n    p.add_argument('--lr')\n"),
    _case("another dictionary", "d = {'a': config.seed}\n    return d.get('a', 1)"),
    _single("a class from outside", "from foreign import Config\ndef step(config: Config):\n    return config.anything\n"),
    _single("a declared argument",
            "import argparse\ndef step(argv):\n    p = argparse.ArgumentParser()\n    p.add_argument('--batch-size')\n"
            "    config = p.parse_args(argv)\n    return config.batch_size\n"),
    _table("declared keys of a table", "return [cfg['fit'][k] for k in ('lr', 'epochs')], pick(cfg['net'])",
           head="def pick(net):\n    return net['width']\n"),
    _table("a key that the loader adds", "return cfg['path'], cfg['fit']['when']",
           load="def load(path):\n    made = copy.deepcopy(DEFAULTS)\n    made.update(path=path)\n"
                "    made['fit']['when'] = 3\n    return made\n"),
    _table("a key beside a table", "return cfg['path']", load="def load(path):\n    return {**DEFAULTS, 'path': path}\n"),
    _table("keys from elsewhere over a table", "return cfg['notes']",
           load="def load(path):\n    return {**DEFAULTS, **dict(zip(names(path), path))}\ndef names(path):\n    return list(path)\n"),
    _table("walking over a table", "return [(k, v.keys()) for k, v in cfg.items()], len(cfg['fit']), json.dumps(cfg)",
           head="import json\n"),
    _single("what an unknown maker was given", "import torch\nfrom dataclasses import dataclass\nfrom foreign import TABLE\n"
            "@dataclass\nclass Config:\n    width: int = 3\nclass Net(torch.nn.Module):\n    def __init__(self, config: Config):\n"
            "        super().__init__()\n        self.body = TABLE.get('a')(config)\n        self.head = torch.nn.Linear(3, 3)\n"
            "    def forward(self, x):\n        return self.head(self.body(x)).unflatten(-1, (3, 1))\n"),
    _single("a path that an option names", "import argparse\nimport json\nfrom dataclasses import dataclass\nfrom pathlib import Path\n"
            "@dataclass\nclass Config:\n    lr: float = 0.1\ndef load(path: Path):\n    return Config(**json.loads(path.read_text()))\n"
            "def run(config: Config):\n    return config.lr\ndef main(argv):\n    p = argparse.ArgumentParser()\n"
            "    p.add_argument('--config', type=Path)\n    args = p.parse_args(argv)\n    return run(load(args.config))\n"),
)  # fmt: skip

RULE = Rule(
    code="CFG001",
    title="no undeclared key and no default on configuration",
    table="config",
    manual=MANUAL,
    mend="Declare the key with its default in the configuration class, and read it as an attribute.",
    check=check,
    settings={"config": {"roots": ["config", "cfg"]}},
    valid=_VALID,
    invalid=_INVALID,
    limits=(
        _case("a name from outside", "return getattr(config.train, name)", arguments="config: Config, name"),
        _single("a configuration of which nothing is declared", "def step(config):\n    return config.anything\n"),
    ),
)
