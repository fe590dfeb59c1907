"""SEL001: the configured primary selects the model that is saved and the value that fit() returns."""

from __future__ import annotations

from collections.abc import Iterable

from audits.static.analysis.reach import entry_functions
from audits.static.context import Context
from audits.static.dataflow.primary_values import is_read
from audits.static.findings import Finding
from audits.static.rules.base import Case, Rule
from audits.static.subjects.selection import Selection

MANUAL = """\
Selecting by one quantity, saving by another and reporting a third makes every comparison of runs meaningless. From
`selection.trainer` (fit) on, this rule follows what is returned and under which conditions the model is saved, in a file or in memory.
Both lead to a kept value: a variable, field or item that is replaced under a comparison with itself, whatever it is called and however
the comparison is written (helpers, operators, modes, signs, `min`), or to the lowest of a history. What is compared must depend on
`selection.primary-key`, and lower must win; the kept value starts from infinity or None, it may change, and the best checkpoint may be
written, only where that comparison is the condition, or after the epochs once the best weights are back; and fit() must return the kept
value, alone or as the objective of a result. A checkpoint named last, latest, epoch or resume may be written at any time. `<=` is
accepted like `<`. Where nothing that is returned or saved leads to a comparison, those with a value named `best…` are read.
"""


def check(context: Context) -> Iterable[Finding]:
    """Wrong comparisons, unconditional updates and saves, and wrong returns."""
    roots = entry_functions(context.analysis, context.settings.trainer)
    if not roots:
        text = f"the trainer {context.settings.trainer} does not exist"
        yield context.config_finding("SEL001", "selection.trainer", text)
        return
    if not is_read(context.project, context.settings.primary_key):
        text = f"no code reads {context.settings.primary_key!r}, so nothing is selected by it"
        yield context.config_finding("SEL001", "selection.primary-key", text)
        return
    selection = Selection(context.origins, context.settings.primary_key, roots)
    if not selection.sites and not selection.extremes:
        message = "no comparison with a best value was found, so nothing shows how the model is selected"
        yield context.finding("SEL001", roots[0].module, roots[0].node, message, fn=roots[0])
        return
    for place, message in selection.faults():
        yield context.finding("SEL001", place.module, place.expr, message, fn=place.fn)


_TRAINER = "pkg.train:Trainer.fit"
_SETTINGS = {"selection": {"trainer": _TRAINER, "primary-key": "val_primary"}}


def _case(name: str, loop: str, returned: str = "return self.best", rest: str = "", extra: str = "") -> Case:
    body = "\n".join(f"            {line}" for line in loop.splitlines())
    source = (
        f"import math\nimport torch\n{extra}class Trainer:\n    def __init__(self, config):\n        self.config = config\n"
        f"        self.best = math.inf\n    def primary(self, loss, score):\n"
        f"        return loss if self.config.train.val_primary == 'loss' else score\n"
        f"    def fit(self):\n        for epoch in range(self.config.epochs):\n"
        f"            loss, score = self.validate()\n            objective = self.primary(loss, score)\n{body}\n"
        f"        {returned}\n    def validate(self):\n        return 1.0, 2.0\n"
        f"    def save(self, name):\n        torch.save({{}}, name)\n{rest}"
    )
    return Case(name, {"pkg/__init__.py": "", "pkg/train.py": source})


def _swapped() -> Case:
    good = _case("the two primaries are mixed up", _GOOD)
    return Case(good.name, {p: t.replace("loss if", "score if").replace("else score", "else loss") for p, t in good.files.items()})


def _chosen(name: str, objective: str) -> Case:
    good = _case(name, _GOOD)
    return Case(name, {p: t.replace("self.primary(loss, score)", objective) for p, t in good.files.items()})


_GOOD = "if objective < self.best:\n    self.best = objective\n    self.save('best.pt')"
_RESET = "    def reset(self):\n        self.best = 0.0\n"
_TRACKER = (
    "class Tracker:\n    def __init__(self):\n        self.best = math.inf\n    def improved(self, value):\n"
    "        if value OP self.best:\n            self.best = value\n            return True\n        return False\n"
)
_STYLES = {
    "a callback": (
        "class Keeper:\n    def __init__(self, path, monitor):\n        self.path = path\n        self.monitor = monitor\n"
        "        self.record = math.inf\n    def on_epoch_end(self, net, logs):\n        current = logs[self.monitor]\n"
        "        if current < self.record:\n            self.record = current\n            torch.save(net.state_dict(), self.path)\n",
        "        self.keeper = Keeper('best.pt', monitor=config.val_primary)\n",
        "            self.keeper.on_epoch_end(self.net, {'loss': loss, 'k_loc': score})\n",
        "self.keeper.record",
    ),
    "a helper for any two values": (
        "def is_better(new, old):\n    return old is None or new < old\n",
        "        self.top = None\n",
        "            if is_better(value, self.top):\n                self.top = value\n                self.net.save('best.pt')\n",
        "self.top",
    ),
    "a history": (
        "",
        "        self.rows = []\n",
        "            self.rows.append((value, epoch, copy.deepcopy(self.net.state_dict())))\n",
        "self.finish(min(self.rows, key=lambda row: row[0]))",
    ),
    "the place of the lowest": (
        "",
        "        self.values = []\n",
        "            self.values.append(value)\n"
        "            if np.argmin(self.values) == epoch:\n                self.net.save('best.pt')\n",
        "min(self.values)",
    ),
    "a mode and a sign": (
        "class Tracker:\n    def __init__(self, mode):\n        self.sign = 1.0 if mode == 'min' else -1.0\n        self.held = None\n"
        "    def offer(self, value):\n        if self.held is None or self.sign * value < self.sign * self.held:\n"
        "            self.held = value\n            return True\n        return False\n",
        "        self.tracker = Tracker('min')\n",
        "            if self.tracker.offer(value):\n                self.net.save('best.pt')\n",
        "self.tracker.held",
    ),
    "an operator from a table": (
        "OPERATORS = {'min': operator.lt, 'max': operator.gt}\n",
        "        self.wins = OPERATORS['min']\n        self.held = math.inf\n",
        "            if self.wins(value, self.held):\n                self.held = value\n                self.net.save('best.pt')\n",
        "self.held",
    ),
    "a closure": (
        "def tracker():\n    held = math.inf\n    def observe(value):\n        nonlocal held\n        better = value < held\n"
        "        if better:\n            held = value\n        return better\n    def current():\n        return held\n"
        "    return observe, current\n",
        "        self.epochs = config.epochs\n",
        "            if observe(value):\n                self.net.save('best.pt')\n",
        "current()",
    ),
    "a snapshot in memory": (
        "@dataclasses.dataclass\nclass Leader:\n    value: float\n    weights: dict\n",
        "        self.leader = None\n",
        "            entry = Leader(value, copy.deepcopy(self.net.state_dict()))\n"
        "            if self.leader is None or entry.value < self.leader.value:\n                self.leader = entry\n",
        "self.restore(self.leader)",
    ),
}


def _style(name: str, title: str, *edits: str) -> Case:
    helper, start, body, result = _STYLES[name]
    source = (
        f"import copy\nimport dataclasses\nimport math\nimport operator\nimport numpy as np\nimport torch\n{helper}class Trainer:\n"
        f"    def __init__(self, config, net):\n        self.config = config\n        self.net = net\n{start}"
        f"    def fit(self):\n{'        observe, current = tracker()' + chr(10) if name == 'a closure' else ''}"
        f"        for epoch in range(self.config.epochs):\n            loss, score = self.net.validate()\n"
        f"            value = loss if self.config.val_primary == 'loss' else score\n{body}        return {result}\n"
        f"    def finish(self, row):\n        self.net.load_state_dict(row[2])\n        self.net.save('best.pt')\n        return row[0]\n"
        f"    def restore(self, leader):\n        self.net.load_state_dict(leader.weights)\n        return leader.value\n"
    )
    for old, new in zip(edits[::2], edits[1::2], strict=True):
        assert old in source, old
        source = source.replace(old, new)
    return Case(f"{name}{title}", {"pkg/__init__.py": "", "pkg/train.py": source})


_METER = (
    "from dataclasses import dataclass\n@dataclass\nclass Meter:\n    total: float = 0.0\n    count: int = 0\n"
    "    def add(self, value):\n        self.total += value\n        self.count += 1\n"
)
_METERS = (
    "losses, errors = Meter(), Meter()\n        for loss, error in self.batches():\n"
    "            losses.add(loss)\n            errors.add(error)\n"
    "        return losses.total / losses.count, errors.total / errors.count"
)
_TABLE = _chosen("", "{'k_loc': composite(score), 'loss': loss}[self.config['fit']['val_primary']]")
_PEAK = "if loss > self.peak:\n    self.peak = loss\n" + _GOOD
RULE = Rule(
    code="SEL001",
    title="the configured primary selects, saves and is returned",
    table="selection",
    manual=MANUAL,
    mend="Compare `objective < best`, save and update best under that condition, and return best.",
    check=check,
    settings=_SETTINGS,
    valid=(
        _case("plain", _GOOD),
        _case("a check that something was selected", _GOOD, "assert self.best < math.inf\n        return self.best"),
        _chosen("another name for the score", "score if self.config.train.val_primary == 'composite' else loss"),
        _case("the other way round", _GOOD.replace("objective < self.best", "self.best > objective")),
        _case("a difference", _GOOD.replace("objective < self.best", "objective - self.best < 0")),
        _case("an operator function", "import operator\n" + _GOOD.replace("objective < self.best", "operator.lt(objective, self.best)")),
        _case("the first epoch or better", _GOOD.replace("objective < self.best", "epoch == 0 or objective < self.best")),
        _case("a conditional expression", "better = objective < self.best\nself.best = objective if objective < self.best else self.best\n"
              "if better:\n    self.save('best.pt')"),
        _case("a negated worse", _GOOD.replace("objective < self.best", "not objective >= self.best")),
        _case("a named condition", "improved = objective < self.best\n" + _GOOD.replace("objective < self.best", "improved")),
        _case("an early continue", "if objective >= self.best:\n    continue\nself.best = objective\nself.save('best.pt')"),
        _case("a last checkpoint beside it", _GOOD + "\nself.save('last.pt')"),
        _case("a margin", _GOOD.replace("< self.best", "< self.best - 1e-4")),
        _case("a helper", "if self.improved(objective):\n    self.save('best.pt')", rest=(
            "    def improved(self, value):\n        if value < self.best:\n            self.best = value\n"
            "            return True\n        return False\n")),
        _case("a tracker", "if self.tracker.improved(objective):\n    self.save('best.pt')", "return self.tracker.best",
              rest="    tracker = Tracker()\n", extra=_TRACKER.replace("OP", "<")),
        _case("a result", _GOOD, "return Result(objective=self.best, epochs=3)",
              extra="from dataclasses import dataclass\n@dataclass\nclass Result:\n    objective: float\n    epochs: int\n"),
        _case("min keeps the best", "improved = objective < self.best\nself.best = min(self.best, objective)\n"
              "if improved:\n    self.save('best.pt')"),
        _case("the same number in another spelling", _GOOD.replace("if objective", "if self.plain(objective)"),
              "return +self.best * 1.0", rest="    def plain(self, x):\n        return x + 0.0\n"),
        *(_style(name, "") for name in _STYLES),
        _style("a helper for any two values", ", by keyword", "is_better(value, self.top)", "is_better(old=self.top, new=value)"),
        _style("a history", ", sorted", "min(self.rows, key=lambda row: row[0])", "sorted(self.rows, key=lambda row: row[0])[0]"),
        _style("the place of the lowest", " is the last", "np.argmin(self.values) == epoch", "value <= min(self.values)"),
        _case("a highest value that selects nothing", _PEAK, rest="    peak = 0.0\n"),
        _case("weights that are put back", "held = self.net.state_dict()\nself.net.load_state_dict(self.mean)\n"
              "self.net.load_state_dict(held)\n" + _GOOD),
        Case("a table of a dictionary's settings, which declares the score as its default", {
            "pkg/__init__.py": "", "pkg/settings.py": "import copy\nDEFAULTS = {'fit': {'val_primary': 'k_loc', 'epochs': 3}}\n"
            "def load(extra):\n    out = copy.deepcopy(DEFAULTS)\n    for section, values in extra.items():\n"
            "        out[section].update(values)\n    return out\n",
            "pkg/run.py": "from pkg.settings import load\nfrom pkg.train import Trainer\nTrainer(load(read('a.toml'))).fit()\n",
            "pkg/train.py": _TABLE.files["pkg/train.py"] + "def composite(q):\n    return (1 - q['acc']) + q['rmse'] / 5\n"}),
        Case("a meter for the loss beside one for the error", {p: t.replace("return 1.0, 2.0", _METERS) for p, t in _case(
            "", _GOOD, extra=_METER).files.items()}),
        _chosen("a success rate, negated", "-score['hit_rate'] if self.config.train.val_primary == 'k_loc' else loss"),
        _chosen("what a success rate leaves", "1 - score['hit_rate'] if self.config.train.val_primary == 'k_loc' else loss"),
        _case("early stopping beside it", _GOOD + "\n    best_epoch = epoch\nif epoch - best_epoch > 3:\n    break"),
    ),
    invalid=(
        _case("a start that nothing beats", _GOOD, rest=_RESET),
        _chosen("a negated score", "-score if self.config.train.val_primary == 'k_loc' else loss"),
        _chosen("a success rate, of which more is better", "score['hit_rate'] if self.config.train.val_primary == 'k_loc' else loss"),
        _chosen("a choice that is negated", "-(score if self.config.train.val_primary == 'k_loc' else loss)"),
        _chosen("one minus the score", "1 - score if self.config.train.val_primary == 'k_loc' else loss"),
        _chosen("a negated item", "-{'k_loc': score, 'loss': loss}[self.config.train.val_primary]"),
        _case("higher wins", _GOOD.replace("<", ">")),
        _case("saved in every fifth epoch as well", _GOOD.replace("objective < self.best", "objective < self.best or epoch % 5 == 0")),
        _case("saved where nothing improved", "if objective < self.best:\n    self.best = objective\nelse:\n    self.save('best.pt')"),
        _case("a negated candidate", _GOOD.replace("if objective", "if -objective")),
        _case("higher wins, by a difference", _GOOD.replace("objective < self.best", "objective - self.best > 0")),
        _case("higher wins, the other way round", _GOOD.replace("objective < self.best", "self.best < objective")),
        _case("a negated better", _GOOD.replace("objective < self.best", "not objective < self.best")),
        _case("the loss is compared", _GOOD.replace("objective", "loss")),
        _case("the loss is compared, the objective kept", _GOOD.replace("if objective", "if loss")),
        _case("the smaller of loss and objective", _GOOD.replace("if objective", "if min(loss, objective)")),
        Case("the meter of the loss, read for the error", {p: t.replace("return 1.0, 2.0", _METERS.replace("errors.total", "losses.total"))
                                                           for p, t in _case("", _GOOD, extra=_METER).files.items()}),
        _case("the loss is kept", _GOOD.replace("= objective", "= loss")),
        _case("saved in every epoch", "if objective < self.best:\n    self.best = objective\nself.save('best.pt')"),
        _case(
            "best replaced in every epoch",
            "improved = objective < self.best\nself.best = objective\nif improved:\n    self.save('best.pt')",
        ),
        _case("the last objective is returned", _GOOD, "return objective"),
        _case("the last loss is returned", _GOOD, "return loss"),
        _case("a result holds the last value", _GOOD, "return Result(objective=objective, epochs=3)",
              extra="from dataclasses import dataclass\n@dataclass\nclass Result:\n    objective: float\n    epochs: int\n"),
        _case("a negated return", _GOOD, "return -self.best"),
        _case("no comparison", "self.save('best.pt')", "return objective"),
        _case("a tracker that keeps the highest", "if self.tracker.improved(objective):\n    self.save('best.pt')",
              "return self.tracker.best", rest="    tracker = Tracker()\n", extra=_TRACKER.replace("OP", ">")),
        _case("a tracker that is given the loss", "if self.tracker.improved(loss):\n    self.save('best.pt')",
              "return self.tracker.best", rest="    tracker = Tracker()\n", extra=_TRACKER.replace("OP", "<")),
        _style("a callback", " for the highest", "current < self.record", "current > self.record"),
        _style("a callback", " that saves in every epoch", "            torch.save(net", "        torch.save(net"),
        _style("a callback", " that watches the loss", "monitor=config.val_primary", "monitor='loss'"),
        _style("a helper for any two values", ", the wrong way round", "is_better(value, self.top)", "is_better(self.top, value)"),
        _style("a helper for any two values", " that is given the loss", "is_better(value, self.top)", "is_better(loss, self.top)"),
        _style("a helper for any two values", ", the loss kept", "self.top = value", "self.top = loss"),
        _style("a history", " of which the highest is taken", "min(self.rows", "max(self.rows"),
        _style("a history", " of losses", "append((value,", "append((loss,"),
        _style("a history", " ordered by one part, another returned", "return row[0]", "return row[1]"),
        _style("the place of the lowest", " mistaken for that of the highest", "argmin", "argmax"),
        _style("a mode and a sign", ", maximised", "Tracker('min')", "Tracker('max')"),
        _style("an operator from a table", ", the wrong one", "OPERATORS['min']", "OPERATORS['max']"),
        _style("a closure", " that always replaces", "        if better:\n            held = value\n", "        held = value\n"),
        _style("a closure", ", the last value returned", "return current()", "return value"),
        _style("a snapshot in memory", " in every epoch", "if self.leader is None or entry.value < self.leader.value:", "if epoch >= 0:"),
        _style("a snapshot in memory", ", the last value returned", "return self.restore(self.leader)", "return self.restore(entry)"),
        _case("a best value that never changes", "if objective < self.best:\n    self.save('best.pt')"),
        _case("saved after the epochs", "if objective < self.best:\n    self.best = objective",
              "self.save('best.pt')\n        return self.best"),
        _case("one of two results is the last value", _GOOD, "return self.best if self.best < 9.0 else objective"),
        _case("nothing returned", _GOOD, "self.close()"),
        Case("a primary that no code reads", _case("", _GOOD).files, {"selection": {"trainer": _TRAINER, "primary-key": "val_primry"}}),
        Case("a missing trainer", {"pkg/__init__.py": "", "pkg/train.py": "class Trainer:\n    pass\n"}),
        _swapped(),
    ),
    limits=(
        _case("the score minus the loss under a name that says nothing", "objective = self.mixed(objective)\n" + _GOOD,
              rest="    def mixed(self, x):\n        return x - self.last\n"),
    ),
)  # fmt: skip
