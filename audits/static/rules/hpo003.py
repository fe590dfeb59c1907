"""HPO003: a trial is selected by the composite score, returns what fit() returned and leaves the configuration alone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from audits.static.analysis.reach import entry_functions
from audits.static.context import Context
from audits.static.dataflow.flow import Place
from audits.static.dataflow.origins import Answer, Demand
from audits.static.findings import Finding, Step
from audits.static.rules.base import Case, Rule
from audits.static.source import ir
from audits.static.source.project import FunctionInfo, ModuleInfo
from audits.static.subjects.trials import Trials, inside, optimized

MANUAL = """\
A search is only as good as the number that it is told. From the trial function of `hpo.objective` (the function
itself, one inside it, or the object that it returns) this rule follows the returned value backwards through helpers:
on every way it must be what `selection.trainer` (or a method named fit) returned - the number, or the best value of a
result - or infinity for a trial that failed; a loss, another field, a constant or a sum of things is a finding. What a study of
`hpo.modules` is given to optimise must be the trial, or return its value. What
that fit() was called on and with must set `selection.primary-key` literally to a value that means the score on
every way ("k_loc" or "metrics", or what the code compares the key with, limits it to, or else has as its default):
by keyword, dictionary key, dotted key, command-line text, or by writing to a copy; where what fit() runs reads the key,
and the way there can be followed to its end, that decides. And nothing that a trial reaches
may write to configuration that the trial did not make: attributes, items, setattr, update, `__dict__`, vars, also
through aliases, sections and helpers, and also if it is restored later. A copy is `replace`, a constructor,
`model_validate`, `deepcopy` or a dump; what hangs below a shallow copy is still shared.
"""


def check(context: Context) -> Iterable[Finding]:
    """One finding for each wrong value, each missing primary and each write."""
    settings = context.settings
    roots = entry_functions(context.analysis, settings.objective)
    if not roots:
        yield context.config_finding("HPO003", "hpo.objective", f"the objective {settings.objective} does not exist")
        return
    origins = context.origins
    search = Trials(context, roots)
    origins.only = lambda fn: fn in search.reached
    try:
        found = [f for trial in search.trials for f in _faults(search, trial)]
        found += _others(search, context.project.in_modules(settings.hpo_modules))
        for at, written in search.writes():
            if search.shared(written):
                found.append((at, "a trial writes to shared configuration; it must work on its own copy", ()))
    finally:
        origins.only = None
    seen: set[tuple[int, str]] = set()
    for place, message, path in found:
        if (id(place.expr), message) not in seen:
            seen.add((id(place.expr), message))
            call_path = path or (search.reached.get(place.fn, ()) if place.fn is not None else ())
            entry = settings.objective
            yield context.finding("HPO003", place.module, place.expr, message, fn=place.fn, entry_point=entry, call_path=call_path)


def _faults(search: Trials, trial: FunctionInfo) -> Iterator[tuple[Place, str, tuple[Step, ...]]]:
    node = trial.node
    own = Place(ir.Name(node.line, node.column, node.line, node.column, node.name), trial.module, trial)
    ends = list(search.returned(trial))
    if not any(isinstance(n, ir.Return) and n.value is not None for n in ir.walk_own(node.body)):
        yield own, "the trial returns nothing; it must return what fit() returned", ()
    elif not any(answer.kind == "fit" for _, answer in ends):
        yield own, "the trial's value cannot be followed to a call of fit()", ()
    for demand, answer in ends:
        if answer.kind != "fit":
            yield demand.place, f"a trial's value must be what fit() returned, got {_what(answer)}", demand.trail
            continue
        if not search.is_best(demand):
            yield demand.place, f"a trial returns {demand.path[0][1]!r} of fit()'s result, which is not its best value", demand.trail
        yield from _primary(search, demand)


def _others(search: Trials, modules: list[ModuleInfo]) -> Iterator[tuple[Place, str, tuple[Step, ...]]]:
    """What a study optimises other than the trial's value."""
    origins = search.origins
    for place, functions in optimized(origins, modules):
        for fn in functions:
            if fn in search.trials or inside(fn, search.trials):
                continue
            if not any(t in origins.flow.cold_path([fn]) for t in search.trials):
                yield place, f"a study optimises {fn.node.name}, which does not run the objective", ()
                continue
            for demand, answer in search.returned(fn):
                if answer.kind != "fit":
                    yield demand.place, f"a trial's value must be what fit() returned, got {_what(answer)}", demand.trail


def _primary(search: Trials, demand: Demand) -> Iterator[tuple[Place, str, tuple[Step, ...]]]:
    call = demand.expr
    assert isinstance(call, ir.Call)
    parts = [a.value for a in call.args]
    parts += [call.func.value] if isinstance(call.func, ir.Attribute) else []
    decided = search.configured(demand)
    if decided is True:
        return
    direct = [a.value for a in call.args if a.keyword == search.key]
    results: list[bool | Place] = (
        [decided]
        if decided is not None
        else [search.sets_primary(Demand(demand.place.at(call if direct else p), (), demand.frame)) for p in (direct or parts)]
    )
    bad = next((r for r in results if isinstance(r, Place)), None)
    if bad is not None:
        yield bad, f"a trial must set {search.key!r} to {search.wanted!r} itself, whatever the configuration says", demand.trail
    elif not any(r is True for r in results):
        yield demand.place, f"a trial trains without setting {search.key!r} to {search.wanted!r} on every way to fit()", demand.trail


def _what(answer: Answer) -> str:
    kinds = {"constant": "a constant", "arithmetic": "something computed", "outside": "the result of another call"}
    return kinds.get(answer.kind, "something that cannot be followed to it")


_SETTINGS: dict[str, dict[str, object]] = {
    "hpo": {"modules": ["pkg.hpo"], "size-arguments": ["n_train"], "objective": "pkg.hpo:objective"},
    "selection": {"trainer": "pkg.train:Trainer.fit", "primary-key": "val_primary"},
    "config": {"roots": ["config", "cfg"]},
}
_TRAIN = (
    "import math\nfrom dataclasses import dataclass\n@dataclass\nclass Result:\n    objective: float\n    val_loss: float\n"
    "class Trainer:\n    def __init__(self, config):\n        self.config = config\n        self.best = math.inf\n"
    "    def fit(self):\n        return Result(self.best, 1.0)\n"
)
_COPY = "lr = trial.suggest_float('lr', 0, 1)\ncfg = config.replaced(train={'lr': lr, 'val_primary': 'k_loc'})\n"
_INNER = (
    "def inner(trial):\n    cfg = config.replaced(train={'lr': trial.suggest_float('lr', 0, 1), 'val_primary': 'k_loc'})\n"
    "    return Trainer(cfg).fit().objective\nreturn inner"
)
_RUN = "return Trainer(cfg).fit().objective"


_TUNED = (
    "@dataclass\nclass Section:\n    lr: float = 1.0\n    val_primary: str = 'k_loc'\n@dataclass\nclass Config:\n    train: Section\n"
    "def tuned(base, **given):\n    return replace(base, train=replace(base.train, **given))\n"
)


def _case(name: str, body: str, *, arguments: str = "trial, config", rest: str = "") -> Case:
    lines = "".join(f"    {line}\n" for line in body.splitlines())
    head = "import copy\nimport math\nfrom dataclasses import dataclass, replace\nfrom pkg.train import Trainer\n"
    return Case(name, {"pkg/__init__.py": "", "pkg/train.py": _TRAIN, "pkg/hpo.py": f"{head}def objective({arguments}):\n{lines}{rest}"})


def _read(name: str, made: str) -> Case:
    """The trainer reads the key where the trial has set it."""
    files = dict(_case(name, f"lr = trial.suggest_float('lr', 0, 1)\ncfg = {made}\n{_RUN}", rest=_TUNED).files)
    files["pkg/train.py"] = _TRAIN.replace("Result(self.best", "Result(self.best if self.config.train.val_primary == 'k_loc' else 1.0")
    return Case(name, files)


def _items(name: str, made: str) -> Case:
    """Configuration is a dictionary of sections."""
    merged = (
        "def merged(base, extra):\n    out = copy.deepcopy(base)\n    for section, values in extra.items():\n"
        "        out[section].update(values)\n    return out\n"
    )
    files = dict(_case(name, f"{made}\n{_RUN}", rest=merged).files)
    read = "Result(self.best if self.config['train']['val_primary'] == 'k_loc' else 1.0"
    files["pkg/train.py"] = _TRAIN.replace("Result(self.best", read)
    return Case(name, files)


def _other(name: str, value: str = "composite") -> Case:
    files = dict(_case(name, _COPY.replace("k_loc", value) + _RUN).files)
    files["pkg/choice.py"] = "def chosen(config, score, loss):\n    return score if config.val_primary == 'composite' else loss\n"
    return Case(name, files)


RULE = Rule(
    code="HPO003",
    title="a trial trains for the composite score, returns it, and changes no shared configuration",
    table="hpo",
    manual=MANUAL,
    mend="Train on a validated copy that sets the primary key to the score, and return fit()'s objective.",
    check=check,
    settings=_SETTINGS,
    valid=(
        _case("a validated copy", _COPY + _RUN),
        _case("the alias", _COPY.replace("k_loc", "metrics") + _RUN),
        _other("another name for the score"),
        _case("dataclass copies", "cfg = replace(config, train=replace(config.train, val_primary='k_loc'))\n" + _RUN),
        _case("a deep copy that is written", "cfg = copy.deepcopy(config)\ncfg.train.val_primary = 'k_loc'\n" + _RUN),
        _case(
            "helpers",
            "return run(prepared(config))",
            rest=(
                "def prepared(base):\n    return base.replaced(train={'val_primary': 'k_loc'})\n"
                "def run(cfg):\n    return float(Trainer(cfg).fit().objective)\n"
            ),
        ),
        _case("a failed trial", _COPY + "result = Trainer(cfg).fit()\nreturn result.objective if result.epochs else math.inf"),
        _case("an enclosed trial", _INNER, arguments="config"),
        _case(
            "a cached property",
            "return Run(config).cfg_run()",
            rest=(
                "import functools\nclass Run:\n    def __init__(self, base):\n        self.base = base\n    @functools.cached_property\n"
                "    def cfg(self):\n        return self.base.replaced(train={'val_primary': 'k_loc'})\n    def cfg_run(self):\n"
                "        return Trainer(self.cfg).fit().objective\n"
            ),
        ),
        _case(
            "a name that a loop binds",
            "name = None\nfor _ in config.names:\n    name = 'k_loc'\n" + _COPY.replace("'k_loc'", "name") + _RUN,
        ),
        _read("a positional argument", "Config(Section(lr, 'k_loc'))"),
        _read("keywords handed on", "tuned(config, val_primary='k_loc')"),
        _case("a wrapped trial", _COPY + _RUN, rest="def tune(study, cfg):\n    study.optimize(lambda trial: objective(trial, cfg))\n"),
        _case(
            "a partial of the trial",
            _COPY + _RUN,
            rest="from functools import partial\ndef tune(study, config):\n    study.optimize(partial(objective, config=config))\n",
        ),
        _items("a merge of sections", "cfg = merged(config, {'train': {'lr': 0.1, 'val_primary': 'k_loc'}})"),
        _items("an update by a mapping", "cfg = copy.deepcopy(config)\nchosen = {'val_primary': 'k_loc'}\ncfg['train'].update(chosen)"),
        _case("neutral arithmetic", _COPY + "return +Trainer(cfg).fit().objective * 1"),
        _case("notes of the trial", _COPY + "trial.user_attrs['lr'] = lr\nnotes = {}\nnotes['lr'] = lr\n" + _RUN),
    ),
    invalid=(
        _other("another name for the score, and a third", "k_loc"),
        _case("no primary", "cfg = config.replaced(train={'lr': trial.suggest_float('lr', 0, 1)})\n" + _RUN),
        _case("the loss is primary", _COPY.replace("k_loc", "loss") + _RUN),
        _case("whatever is configured", _COPY.replace("'k_loc'", "config.train.val_primary") + _RUN),
        _case("a copy that is not used", _COPY + "return Trainer(config).fit().objective"),
        _case("one way only", _COPY.replace("'k_loc'", "'k_loc' if lr > 0.5 else 'loss'") + _RUN),
        _case("the loss is returned", _COPY + "return Trainer(cfg).fit().val_loss"),
        _case(
            "the loss by a helper", _COPY + "return number(Trainer(cfg).fit())", rest="def number(result):\n    return result.val_loss\n"
        ),
        _case(
            "the loss where the score failed",
            _COPY + "r = Trainer(cfg).fit()\nreturn r.objective if math.isfinite(r.objective) else r.val_loss",
        ),
        _case("zero for a failed trial", _COPY + "try:\n    return Trainer(cfg).fit().objective\nexcept ValueError:\n    return 0.0"),
        _case("a sum", _COPY + "r = Trainer(cfg).fit()\nreturn r.objective + r.val_loss"),
        _case("an attribute of the trainer", _COPY + "trainer = Trainer(cfg)\ntrainer.fit()\nreturn trainer.last_loss"),
        _case("nothing", _COPY + "Trainer(cfg).fit()"),
        _read("a section that is replaced afterwards", "replace(tuned(config, val_primary='k_loc'), train=Section(lr))"),
        _read("another positional argument", "Config(Section(lr, 'loss'))"),
        _read("keywords handed on without it", "tuned(config, lr=lr)"),
        _case("another objective", _COPY + _RUN, rest="def other(trial):\n    return 0.0\ndef tune(study):\n    study.optimize(other)\n"),
        _case(
            "a wrapper that adds to the value",
            _COPY + _RUN,
            rest="def tune(study, cfg):\n    study.optimize(lambda trial: objective(trial, cfg) + trial.number)\n",
        ),
        _items("a merge of sections without it", "cfg = merged(config, {'train': {'lr': 0.1}})"),
        _items("an update by another mapping", "cfg = copy.deepcopy(config)\nchosen = {'lr': 0.1}\ncfg['train'].update(chosen)"),
        _read("another section", "config.replaced(**{'loss': {'val_primary': 'k_loc'}})"),
        _case(
            "what comes later wins",
            _COPY.replace("train={'lr': lr, 'val_primary': 'k_loc'}", "**merge({'train': {'val_primary': 'k_loc'}}, config.model_dump())")
            + _RUN,
        ),
        _case("patched", _COPY + "with mock.patch.object(config.train, 'lr', lr):\n    " + _RUN),
        Case(
            "rebound",
            {
                "pkg/__init__.py": "",
                "pkg/train.py": _TRAIN,
                "pkg/hpo.py": (
                    "from pkg.train import Trainer\nclass Search:\n    def __init__(self, config):\n        self.config = config\n"
                    "    def objective(self, trial):\n        self.config = self.config.replaced(train={'val_primary': 'k_loc'})\n"
                    "        return Trainer(self.config).fit().objective\n"
                ),
            },
            {"hpo": {**_SETTINGS["hpo"], "objective": "pkg.hpo:Search.objective"}},
        ),
        _case("a default of its class", _COPY + "type(config.train).lr = lr\n" + _RUN),
        _case("a write", _COPY + "config.train.lr = lr\n" + _RUN),
        _case("a write past frozen", _COPY + "object.__setattr__(config.train, 'lr', lr)\n" + _RUN),
        _case("a write through an alias", _COPY + "section = config.train\nsection.lr = lr\n" + _RUN),
        _case(
            "a write by a helper", _COPY + "tweak(config, lr)\n" + _RUN, rest="def tweak(base, lr):\n    setattr(base.train, 'lr', lr)\n"
        ),
        _case("a write below a shallow copy", "cfg = copy.copy(config)\ncfg.train.val_primary = 'k_loc'\n" + _RUN),
        _case("a dictionary", _COPY + "config['train'].update(lr=lr)\n" + _RUN),
        _case(
            "a write that is taken back",
            _COPY + "old = config.train.lr\nconfig.train.lr = lr\ntry:\n    " + _RUN + "\nfinally:\n    config.train.lr = old",
        ),
        Case("a missing objective", {"pkg/__init__.py": "", "pkg/hpo.py": "", "pkg/train.py": _TRAIN}),
    ),
    limits=(_case("a library that sets the primary", "cfg = library.prepare(config.replaced(train={'val_primary': 'k_loc'}))\n" + _RUN),),
)
