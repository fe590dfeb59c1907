"""SEL002: no silent fallback from metrics to loss."""

from __future__ import annotations

from collections.abc import Iterable

from audits.static.analysis.reach import entry_functions
from audits.static.context import Context
from audits.static.findings import Finding
from audits.static.rules.base import Case, Rule
from audits.static.subjects.selection import Selection

MANUAL = """\
When a metric is missing and the loss, or zero, is compared in its place, the best model is the one whose metrics
failed. This rule follows what `selection.trainer` compares with the best value, keeps and returns backwards, through
helpers, fields, tables and tuples, and decides the conditions on the way for both settings of
`selection.primary-key`. Where the score is configured, neither the loss nor a constant may come through on a
condition that is open: a check for None, a missing key, isnan or isfinite, `hasattr`, `or`, a default of get or
getattr, an `except`, `suppress`, the first epochs. A formula may not fill in a default for one of its metrics. A
branch on the configured primary alone is a choice, not a fallback; raising, and infinity (the worst score), are not
fallbacks either. What is the loss is told by its name.
"""


def check(context: Context) -> Iterable[Finding]:
    """One finding for each thing that stands in."""
    roots = entry_functions(context.analysis, context.settings.trainer)
    if not roots:
        text = f"the trainer {context.settings.trainer} does not exist"
        yield context.config_finding("SEL002", "selection.trainer", text)
        return
    selection = Selection(context.origins, context.settings.primary_key, roots)
    seen: set[int] = set()
    for start in selection.starts():
        for leaf, message in selection.fallbacks(start):
            place = leaf.place
            if id(place.expr) not in seen:
                seen.add(id(place.expr))
                yield context.finding("SEL002", place.module, place.expr, message, fn=place.fn, call_path=leaf.demand.trail)


_SETTINGS = {"selection": {"trainer": "pkg.train:Trainer.fit", "primary-key": "val_primary"}}
_IF = "if self.config.train.val_primary == 'loss':\n    return v.loss\n"


def _case(name: str, primary: str, rest: str = "", kept: str = "objective") -> Case:
    body = "".join(f"        {line}\n" for line in primary.splitlines())
    source = (
        "import contextlib\nimport math\nimport torch\nfrom pkg.metrics import score_of\nclass Trainer:\n"
        "    def __init__(self, config):\n        self.config = config\n        self.best = math.inf\n"
        "    def fit(self):\n        for epoch in range(self.config.epochs):\n            v = self.validate()\n"
        f"            objective = self.primary(v)\n            if objective < self.best:\n                self.best = {kept}\n"
        "                torch.save({}, 'best.pt')\n        return self.best\n"
        f"    def primary(self, v):\n{body}    def validate(self):\n        return self.evaluate()\n{rest}"
    )
    metrics = "def score_of(m):\n    return (1 - m.k_acc) + m.azimuth_rmse_deg / 5 - m.success_rate\n"
    return Case(name, {"pkg/__init__.py": "", "pkg/metrics.py": metrics, "pkg/train.py": source})


_MANY = "".join(f"if v.part{i} > {i}:\n    s = s * v.part{i}\n" for i in range(30))
_LOOPS = "".join(f"for x in v.part{i}:\n    if x > {i}:\n        s = s + x\n    elif x < 0:\n        s = s * x\n" for i in range(40))
RULE = Rule(
    code="SEL002",
    title="no silent fallback from metrics to loss",
    table="selection",
    manual=MANUAL,
    mend="Raise where a metric could not be computed; choose between loss and score by the configured primary alone.",
    check=check,
    settings=_SETTINGS,
    valid=(
        _case("a choice", _IF + "return score_of(v.metrics)"),
        _case("a conditional expression", "return v.loss if self.config.train.val_primary == 'loss' else score_of(v.metrics)"),
        _case("a table", "return {'loss': v.loss, 'k_loc': score_of(v.metrics)}[self.config.train.val_primary]"),
        _case(
            "a match",
            "match self.config.train.val_primary:\n    case 'loss':\n        return v.loss\n"
            "    case _:\n        return score_of(v.metrics)",
        ),
        _case("a named key", "key = self.config.train.val_primary\nif key != 'loss':\n    return score_of(v.metrics)\nreturn v.loss"),
        _case("an error", _IF + "if v.metrics is None:\n    raise ValueError('no metrics')\nreturn score_of(v.metrics)"),
        _case(
            "an error for what is not finite", _IF + "s = score_of(v.metrics)\nif not math.isfinite(s):\n    raise ValueError(s)\nreturn s"
        ),
        _case(
            "another error", _IF + "try:\n    return score_of(v.metrics)\nexcept ZeroDivisionError as e:\n    raise ValueError('x') from e"
        ),
        _case("the worst score", _IF + "return score_of(v.metrics) if v.metrics else math.inf"),
        _case("many conditions", _IF + "s = score_of(v.metrics)\n" + _MANY + "return s"),
        _case("many loops", _IF + "s = score_of(v.metrics)\n" + _LOOPS + "return s"),
        _case("a formula with a sign", _IF + "sign = 1.0 if self.config.mode == 'min' else -1.0\nreturn sign * score_of(v.metrics)"),
        _case("metrics that are joined", _IF + "return self.joined(v)['k_loc']",
              "    def joined(self, v):\n        return {**self.summary(v), 'loss': v.loss}\n"
              "    def summary(self, v):\n        found = {'k_acc': v.hits / NORM}\n"
              "        found['k_loc'] = found['k_acc'] + v.rmse / NORM\n        return found\nNORM = 5.0\n"),
        _case("an average meter", _IF + "self.meter.add(v.error, v.size)\nreturn self.meter.mean",
              "    meter = Meter()\nfrom dataclasses import dataclass\n@dataclass\n"
              "class Meter:\n    total: float = 0.0\n    count: int = 0\n"
              "    def add(self, value, n):\n        self.total += value * n\n        self.count += n\n"
              "    @property\n    def mean(self):\n        return self.total / max(1, self.count)\n"),
        _case("a metric that is summed up over the scenes", _IF + "return composite(self.summary(v.rows))",
              "    def summary(self, rows):\n        rate, hits = 0.0, 0\n        for row in rows:\n            if row.known:\n"
              "                hits += row.hit\n            rate += row.rate / len(rows)\n"
              "        return {'rate': rate, 'hits': hits}\n"
              "def composite(q):\n    return 1 - q['rate'] - q['hits']\n"),
        _case("a term that is switched off", _IF + "return composite(v.parts, self.config.weight if self.config.ranges else 0.0)",
              "def composite(q, weight):\n    return 1 - q['acc'] + weight * q['rmse']\n"),
        _case("a loss that is only shown", "print(v.loss if v.metrics is None else 0.0)\n" + _IF + "return score_of(v.metrics)"),
    ),
    invalid=(
        _case("no metrics", _IF + "if v.metrics is None:\n    return v.loss\nreturn score_of(v.metrics)"),
        _case(
            "no metrics, in the same condition",
            "if self.config.train.val_primary == 'loss' or not v.metrics:\n    return v.loss\nreturn score_of(v.metrics)",
        ),
        _case(
            "metrics present", "if self.config.train.val_primary != 'loss' and v.metrics:\n    return score_of(v.metrics)\nreturn v.loss"
        ),
        _case("an exception", _IF + "try:\n    return score_of(v.metrics)\nexcept TypeError:\n    return v.loss"),
        _case(
            "an exception over a default",
            "s = v.loss\nif self.config.train.val_primary != 'loss':\n    try:\n        s = score_of(v.metrics)\n"
            "    except TypeError:\n        print('no metrics')\nreturn s",
        ),
        _case(
            "a suppressed exception",
            "s = v.loss\nif self.config.train.val_primary != 'loss':\n    with contextlib.suppress(TypeError):\n"
            "        s = score_of(v.metrics)\nreturn s",
        ),
        _case("not a number", _IF + "s = score_of(v.metrics)\nif math.isnan(s):\n    s = v.loss\nreturn s"),
        _case("not finite", _IF + "s = score_of(v.metrics)\nreturn s if math.isfinite(s) else v.loss"),
        _case("or", _IF + "return self.score or v.loss"),
        _case("getattr", _IF + "return getattr(v, 'score', v.loss)"),
        _case("hasattr", _IF + "return v.score if hasattr(v, 'score') else v.loss"),
        _case("a default", "return {'k_loc': score_of(v.metrics)}.get(self.config.train.val_primary, v.loss)"),
        _case(
            "a key that is switched",
            "key = self.config.train.val_primary\nif v.metrics is None:\n    key = 'loss'\n"
            "if key == 'loss':\n    return v.loss\nreturn score_of(v.metrics)",
        ),
        _case(
            "a helper",
            _IF + "return safe(score_of(v.metrics), v.loss)",
            "def safe(value, other):\n    return value if math.isfinite(value) else other\n",
        ),
        _case("a failed score of zero", _IF + "try:\n    return score_of(v.metrics)\nexcept TypeError:\n    return 0.0"),
        _case("a missing metric of zero", _IF + "m = v.metrics\nreturn (1 - m.get('k_acc', 0.0)) + m.get('azimuth_rmse_deg', 0.0) / 5"),
        _case("kept", _IF + "return score_of(v.metrics)", kept="objective if v.metrics else v.loss"),
        _case(
            "the first epochs",
            "if self.config.train.val_primary == 'loss' or self.epoch < 3:\n    return v.loss\nreturn score_of(v.metrics)",
        ),
        _case(
            "a fallback before many conditions",
            _IF + "s = score_of(v.metrics)\nif v.metrics is None:\n    s = v.loss\n" + _MANY + "return s",
        ),
        _case("a fallback before many loops",
              _IF + "s = score_of(v.metrics)\nif v.metrics is None:\n    s = v.loss\n" + _LOOPS + "return s"),
        _case("a default function", "table = {'k_loc': lambda: score_of(v.metrics)}\n"
              "return table.get(self.config.train.val_primary, lambda: v.loss)()"),
        _case("a name that is chosen by what is there",
              "name = 'loss' if self.config.train.val_primary == 'loss' or not v.rows else 'k_loc'\n"
              "return {'loss': v.loss, 'k_loc': score_of(v.metrics)}[name]"),
        _case("the first that is there", _IF + "return next((s for s in (score_of(v.metrics), v.loss) if s is not None), math.inf)"),
        _case("torch.where", "s = torch.where(torch.isnan(v.score), v.loss, v.score)\n"
              "return torch.where(torch.tensor(self.config.train.val_primary == 'loss'), v.loss, s)"),
        _case("a mean of losses", _IF + "if not v.scores:\n    return sum(v.losses) / len(v.losses)\nreturn sum(v.scores) / len(v.scores)"),
        _case("not a number, in metrics that are then joined", _IF + "return self.joined(v)['k_loc']",
              "    def joined(self, v):\n        return {**self.summary(v), 'loss': v.loss}\n"
              "    def summary(self, v):\n        found = {'k_acc': v.hits}\n        score = score_of(v.metrics)\n"
              "        found['k_loc'] = 0.0 if math.isnan(score) else score\n        return found\n"),
        _case("defaults under the metrics", _IF + "return composite({'rate': 0.0, **self.summary(v)})",
              "    def summary(self, v):\n        found = {'k_acc': v.hits}\n        found['rate'] = v.rate\n        return found\n"
              "def composite(q):\n    return 1 - q['k_acc'] - q['rate']\n"),
        _case("a chain of defaults", _IF + "return composite(ChainMap(v.metrics, {'acc': 0.0}))",
              "from collections import ChainMap\ndef composite(q):\n    return 1 - q['acc'] - q['rate']\n"),
        _case("zero for every metric where nothing was scored", _IF + "return composite(self.summary(v.rows))",
              "    def summary(self, rows):\n        if not rows:\n            return dict.fromkeys(('acc', 'rate'), 0.0)\n"
              "        return {'acc': sum(r.acc for r in rows), 'rate': sum(r.rate for r in rows)}\n"
              "def composite(q):\n    return 1 - q['acc'] - q['rate']\n"),
        Case("a missing trainer", {"pkg/__init__.py": "", "pkg/train.py": "class Trainer:\n    pass\n"}),
    ),
    limits=(_case("a loss by another name", _IF + "return score_of(v.metrics) if v.metrics else v.energy"),),
)  # fmt: skip
