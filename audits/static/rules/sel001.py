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
`selection.trainer` (fit) on, in its class and in selection helpers that it uses, this rule reads each comparison with
a value named `best…`. The other side must depend on `selection.primary-key`, and lower must win; the best value starts
from infinity, it may change, and the best checkpoint may be written, only where that comparison (or a name, helper or method that holds it)
is the condition; and fit() must return the best value, alone or as the objective of a result. A checkpoint named
last, latest, epoch or resume may be written at any time. `<=` is accepted like `<`.
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
        _case("early stopping beside it", _GOOD + "\n    best_epoch = epoch\nif epoch - best_epoch > 3:\n    break"),
    ),
    invalid=(
        _case("a start that nothing beats", _GOOD, rest=_RESET),
        _chosen("a negated score", "-score if self.config.train.val_primary == 'k_loc' else loss"),
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
        Case("a primary that no code reads", _case("", _GOOD).files, {"selection": {"trainer": _TRAINER, "primary-key": "val_primry"}}),
        Case("a missing trainer", {"pkg/__init__.py": "", "pkg/train.py": "class Trainer:\n    pass\n"}),
        _swapped(),
    ),
    limits=(
        _case("the score minus the loss under a name that says nothing", "objective = self.mixed(objective)\n" + _GOOD,
              rest="    def mixed(self, x):\n        return x - self.last\n"),
    ),
)  # fmt: skip
