"""HPO002: the study minimises, says why, and nothing flips the score's sign."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from audits.static.analysis.reach import entry_functions
from audits.static.analysis.values import Ext, Func
from audits.static.context import Context
from audits.static.dataflow.flow import Place
from audits.static.dataflow.origins import Answer, Demand, Origins
from audits.static.findings import Finding
from audits.static.rules.base import Case, Rule
from audits.static.source import ir
from audits.static.subjects.signs import Signs
from audits.static.subjects.trials import Trials, handed_over, inside, trial_parameter

MANUAL = """\
The score is lower-is-better. A study that maximises it, or leaves the direction to a default, or an objective that
returns `-score` looks for the worst model. Every Optuna `create_study` must pass direction="minimize" (a literal, or
a name bound to nothing else), and a comment on that line or directly above it must say why. `directions`, "maximize"
and a direction from configuration are findings. From what the trial function returns, and what is handed to
`optimize` around it, the rule goes backwards through variables, helpers, properties and fields to fit() and on to the
best value that the trainer keeps. It reports negation, subtraction from a value without the score, division of such
a value by it, multiplication by a negative number and their function spellings. How the score itself is computed,
`(1 - k_acc)`, is its formula.
"""


def check(context: Context) -> Iterable[Finding]:
    """Studies without a reasoned direction, and sign flips."""
    origins = context.origins
    studies = 0
    for unit in [*context.analysis.modules.values(), *context.analysis.cold.values()]:
        for call in unit.calls:
            if _creates_study(unit.calls[call], call):
                studies += 1
                for node, message in _direction_faults(origins, Place(call, unit.module, unit.fn), call):
                    yield context.finding("HPO002", node.module, node.expr, message, fn=node.fn)
    if not studies:
        yield context.config_finding("HPO002", "hpo.modules", "no study is created anywhere, so no direction is stated")
    settings = context.settings
    roots = entry_functions(context.analysis, settings.objective)
    if not roots:
        yield context.config_finding("HPO002", "hpo.objective", f"the objective {settings.objective} does not exist")
        return
    search = Trials(context, roots)
    around = handed_over(origins, search.trials, context.project.in_modules(settings.hpo_modules))
    within = [f for f in context.project.functions if trial_parameter(f) and inside(f, search.trials)]
    seen: set[int] = set()
    for trial in [*search.trials, *around, *within]:
        for flip in Signs(origins, search).flips(trial):
            if id(flip.expr) not in seen:
                seen.add(id(flip.expr))
                message = "the sign of the score is flipped between fit() and the objective's return"
                place, entry = flip.place, settings.objective
                yield context.finding(
                    "HPO002", place.module, place.expr, message, fn=place.fn, entry_point=entry, call_path=flip.trail
                )  # fmt: skip


# -- the direction


def _creates_study(callees: Iterable[object], call: ir.Call) -> bool:
    if ir.last_name(call.func) not in ("create_study", "Study"):
        return any(isinstance(c, Ext) and c.name.endswith(".create_study") for c in callees) and ir.last_name(call.func) != "partial"
    return ir.last_name(call.func) == "create_study" and not any(isinstance(c, Func) and not c.weak for c in callees)


def _direction_faults(origins: Origins, place: Place, call: ir.Call) -> Iterator[tuple[Place, str]]:
    several = _keyword(origins, place, "directions")
    if several:
        yield several[0].place, "the study has several directions; it must have one, 'minimize'"
        return
    given = _keyword(origins, place, "direction")
    if not given:
        yield place, "the study states no direction; pass direction='minimize' with its reason"
        return
    for direction in given:
        texts, places = _texts(origins, direction)
        if texts != {"minimize"}:
            got = ", ".join(sorted(repr(v) for v in texts if v)) or "a value that is not a literal"
            yield direction.place, f"the study's direction must be 'minimize', got {got}"
        elif not any(_has_reason(p) for p in [direction.place, *places]):
            yield direction.place, "direction='minimize' stands without its reason on the same line or in the comment directly above"


def _keyword(origins: Origins, place: Place, name: str) -> list[Demand]:
    """What a call passes by keyword: itself, through `**`, or through the `partial` that it calls."""
    call = place.expr
    assert isinstance(call, ir.Call)
    spread: list[Demand] = []
    for site, args, frame in [(place, call.args, None), *origins.partials(place, None)]:
        for arg in args:
            if arg.keyword == name:
                return [Demand(site.at(arg.value), (), frame)]
            if arg.star == "**":
                spread.append(Demand(site.at(arg.value), (("item", name),), frame))
    return [d for s in spread for d in _items(origins, s)]


def _items(origins: Origins, mapping: Demand) -> list[Demand]:
    # The values that a mapping holds under a key, as far as it is known to hold any.
    found: list[Demand] = []

    def visit(demand: Demand, answer: Answer) -> bool:
        if not demand.path:
            found.append(demand)
        return bool(demand.path) and answer.kind.startswith(("moved", "mixed"))

    origins.walk(mapping, visit, 300)
    return found


def _texts(origins: Origins, start: Demand) -> tuple[set[str], list[Place]]:
    """The texts that a value may be, "" where it may be anything else, and where they stand."""
    texts: set[str] = set()
    places: list[Place] = []

    def visit(demand: Demand, answer: Answer) -> bool | list[Demand]:
        expr = demand.expr
        if isinstance(expr, ir.Constant) and not demand.path:
            texts.add(str(expr.value))
            places.append(demand.place)
        elif isinstance(expr, ir.Attribute) and expr.attr in ("MINIMIZE", "MAXIMIZE"):
            texts.add(expr.attr.lower())
        elif isinstance(expr, ir.Attribute) and expr.attr in ("name", "value") and isinstance(expr.value, ir.Attribute):
            return [Demand(demand.place.at(expr.value), (), demand.frame)]
        elif isinstance(expr, ir.Call) and isinstance(expr.func, ir.Attribute) and expr.func.attr == "lower":
            lowered, inner = _texts(origins, Demand(demand.place.at(expr.func.value), (), demand.frame))
            texts.update(t.lower() for t in lowered)
            places.extend(inner)
        elif answer.kind == "moved":
            return True
        else:
            texts.add("")
        return False

    origins.walk(start, visit, 300)
    return texts, places


def _has_reason(place: Place) -> bool:
    comments = place.module.tree.comments
    line = place.expr.line
    texts = [comments.get(line, "")]
    above = line - 1
    while above in comments and place.module.lines[above - 1].lstrip().startswith("#"):
        texts.append(comments[above])
        above -= 1
    return any(_is_reason(t) for t in texts)


def _is_reason(comment: str) -> bool:
    text = re.sub(r"\b(noqa|type: ignore|pragma|fmt|mypy|pylint|audit)\b.*", "", comment.lstrip("#! "))
    return len(re.findall(r"[^\W\d_]{2,}", text)) >= 2


_SETTINGS = {"hpo": {"modules": ["pkg.hpo"], "size-arguments": ["n_train"], "objective": "pkg.hpo:objective"}}
_STUDY = "def main():\n    return optuna.create_study(direction='minimize')  # the score is lower-is-better\n"


def _case(name: str, returned: str = "return trainer.fit().objective", study: str = _STUDY, **others: str) -> Case:
    head = "import optuna\nfrom pkg.tools import Trainer, helper\n"
    source = f"{head}def objective(trial):\n    trainer = Trainer()\n    {returned}\n{study}"
    tools = "class Trainer:\n    def fit(self):\n        return 1.0\ndef helper(x):\n    return float(x)\n"
    files = {"pkg/__init__.py": "", "pkg/hpo.py": source, "pkg/tools.py": tools}
    files.update({f"pkg/{k}.py": v for k, v in others.items()})
    return Case(name, files)


def _study(name: str, arguments: str, before: str = "") -> Case:
    return _case(name, study=f"{before}def main():\n    return optuna.create_study({arguments})\n")


def _tracked(name: str, kept: str) -> Case:
    tools = (
        "from dataclasses import dataclass\n@dataclass\nclass Best:\n    value: float = 9.0\n    def update(self, value):\n"
        f"        if value < self.value:\n            self.value = {kept}\n"
        "class Trainer:\n    def evaluate(self):\n        return {'score': (1 - self.blend) * self.error, 'loss': -self.gain}\n"
        "    def fit(self):\n        best = Best()\n        best.update(self.evaluate()[self.key])\n        return best\n"
        "def helper(x):\n    return float(x)\n"
    )
    made = _case(name, "return trainer.fit().value", tools=tools)
    return Case(name, made.files, {"selection": {"trainer": "pkg.tools:Trainer.fit", "primary-key": "key"}})


_FLIPPING = "class Trainer:\n    def fit(self):\n        return 1.0\ndef helper(x):\n    return -x\n"
RULE = Rule(
    code="HPO002",
    title="the study minimises, with its reason, and nothing flips the score",
    table="hpo",
    manual=MANUAL,
    mend="Pass direction='minimize'  # <why lower is better>, and return fit()'s objective unchanged.",
    check=check,
    settings=_SETTINGS,
    valid=(
        _case("a reason on the line"),
        _study("a reason above", "\n        # the composite score is lower-is-better\n        direction='minimize',\n    "),
        _study("a named direction", "direction=DIRECTION", "DIRECTION = 'minimize'  # lower scores are better\n"),
        _study("the enumeration", "direction=optuna.study.StudyDirection.MINIMIZE  # lower is better\n    "),
        _case(
            "a partial",
            study=(
                "import functools\nmake = functools.partial(optuna.create_study, direction='minimize')  # lower is better\n"
                "def main():\n    return make(study_name='x')\n"
            ),
        ),
        _study("an entry of a table", "direction=WAYS['loss']", "WAYS = {'loss': 'minimize', 'gain': 'maximize'}  # losses fall\n"),
        _case("a wrapper that hands on", study=_STUDY + "def run(study):\n    study.optimize(lambda trial: float(objective(trial)))\n"),
        _case("neutral arithmetic", "return +trainer.fit() * 1 - 0"),
        _case("a penalty for a failed trial", "return float('inf') if trial is None else trainer.fit()"),
        _case("another negation", "trial.report(-1.0, 0)\n    gain = -trainer.size\n    return trainer.fit()"),
        _case(
            "the score's own formula",
            "return helper(trainer.fit())",
            tools=(
                "class Trainer:\n    def fit(self):\n        return (1 - self.k_acc) + self.rmse - self.success\n"
                "def helper(x):\n    return float(x)\n"
            ),
        ),
        _tracked("what a tracker that fit() returns is given", "value"),
    ),
    invalid=(
        _study("no direction", ""),
        _study("maximize", "direction='maximize'  # the score is better when higher\n    "),
        _study("no reason", "direction='minimize'"),
        _study("a comment that is no reason", "direction='minimize'  # noqa: E501\n    "),
        _study(
            "a reason two lines above", "\n        # lower is better here\n        study_name='x',\n        direction='minimize',\n    "
        ),
        _study("several directions", "directions=['minimize', 'maximize']  # both of them matter\n    "),
        _study("from configuration", "direction=cfg.hpo.direction  # lower is better\n    ", "cfg = load()\n"),
        _study("a named maximize", "direction=DIRECTION  # lower is better\n    ", "DIRECTION = 'maximize'\n"),
        _study("the enumeration's other member", "direction=optuna.study.StudyDirection.MAXIMIZE  # lower is better\n    "),
        _study("through a dictionary", "**OPTIONS", "OPTIONS = {'direction': 'maximize'}  # lower is better\n"),
        _case("no study at all", study=""),
        _case("negated", "return -trainer.fit()"),
        _tracked("negated by a tracker that fit() returns", "-value"),
        _case("negated variable", "score = trainer.fit()\n    value = -score\n    return value"),
        _case("subtracted from one", "return 1 - trainer.fit()"),
        _case("negated in place", "value = trainer.fit()\n    value *= -1\n    return value"),
        _case("taken from nothing", "value = 0.0\n    value -= trainer.fit()\n    return value"),
        _case("a sign from a table", "signs = {'up': -1}\n    return signs['up'] * trainer.fit()"),
        _case("a negated field", "result = trainer.fit()\n    result.objective = -result.objective\n    return result.objective"),
        _case("negated in a dictionary", "out = {'v': -trainer.fit()}\n    return out['v']"),
        _case("negated by map", "import operator\n    return next(map(operator.neg, [trainer.fit()]))"),
        _case("negated in a generator", "return next(-x for x in [trainer.fit()])"),
        _case("a product with minus one", "import math\n    return math.prod([trainer.fit(), -1])"),
        _case("taken from a variable", "top = trainer.top\n    return top - trainer.fit()"),
        _case("negated in optimize", study=_STUDY + "def run(study):\n    study.optimize(lambda trial: -objective(trial))\n"),
        _case(
            "taken from one around the objective",
            study=(_STUDY + "def around(trial):\n    return 1 - objective(trial)\ndef run(study):\n    study.optimize(around)\n"),
        ),
        _case(
            "a property of the result",
            "return trainer.fit().utility",
            tools=(
                "class Result:\n    def __init__(self, best):\n        self.best = best\n    @property\n    def utility(self):\n"
                "        return -self.best\nclass Trainer:\n    def fit(self):\n        return Result(self.best)\n"
                "def helper(x):\n    return x\n"
            ),
        ),
        _case(
            "a method of the result",
            "return trainer.fit().utility()",
            tools=(
                "class Result:\n    def __init__(self, best):\n        self.best = best\n    def utility(self):\n"
                "        return 1 / (1 + self.best)\nclass Trainer:\n    def fit(self):\n        return Result(self.best)\n"
                "def helper(x):\n    return x\n"
            ),
        ),
        _case(
            "negated by the trainer",
            tools="class Trainer:\n    def fit(self):\n        return -self.best\ndef helper(x):\n    return x\n",
            returned="return trainer.fit()",
        ),
        _case("a partial product", "import functools, operator\n    return functools.partial(operator.mul, -1)(trainer.fit())"),
        _case("a method's product", "import torch\n    return torch.tensor(trainer.fit()).mul(-1).item()"),
        _case("a sum over a list", "values = []\n    values.append(-trainer.fit())\n    return sum(values)"),
        _case("inverted", "return 1.0 / trainer.fit()"),
        _case("times minus one", "return trainer.fit() * -1"),
        _case("times a negative constant", "sign = -1.0\n    return sign * trainer.fit()"),
        _case("operator.neg", "import operator\n    return operator.neg(trainer.fit())"),
        _case("negated in a helper elsewhere", "return helper(trainer.fit())", tools=_FLIPPING),
        _case("negated in a local helper", "return flip(trainer.fit())", study=_STUDY + "def flip(x):\n    return -x\n"),
        _case("negated in the enclosed trial", "def inner(trial):\n        return -trainer.fit()\n    return inner"),
        Case("a missing objective", {"pkg/__init__.py": "", "pkg/hpo.py": "import optuna\n" + _STUDY}),
    ),
    limits=(_case("a flip by a library", "return library.utility(trainer.fit())"),),
)
