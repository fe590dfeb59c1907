"""HPO001 to HPO003, SEL001 and SEL002: sizes, direction, trials, selection and fallbacks."""

from __future__ import annotations

from tests.audits.mutants.model import Block, Edit, Op, Sink
from tests.audits.mutants.sites import HPO, LOOP, instead

_H = "\u00a7"


def _sink(name: str, bad: str, good: str, params: str, imports: str = "") -> Sink:
    return Sink(name, Op(body=bad), Op(body=good), params=params, imports=imports)


SIZES = tuple(
    _sink(name, bad, good, "given", imports)
    for name, bad, good, imports in (
        ("a literal", "return 8_000", "return given", ""),
        ("a product", "return int(100_000 * 0.1)", "return int(given)", ""),
        ("a power", "return 10 ** 4", "return given ** 1", ""),
        ("a float", "return int(8e3)", "return int(float(given))", ""),
        ("text", "return int('8000')", "return int(str(given))", ""),
        ("min", "return min(given, 8_000)", "return min(given, len(range(given)))", ""),
        ("max", "return max(given, 500)", "return max(given, 1)", ""),
        ("or", "return 0 or 8_000", "return given or 0", ""),
        ("a fraction", "return int(given * 0.1)", "return int(given * 1)", ""),
        ("a quarter", "return given // 4", "return given // 1", ""),
        ("a shift", "return given >> 2", "return given + 0", ""),
        ("a variable", "size = 8_000\nreturn size", "size = given\nreturn size", ""),
        ("a branch", "if given > 100:\n    return 8_000\nreturn given", "if given > 100:\n    return max(given, 1)\nreturn given", ""),
        ("an alternative", "return 8_000 if given > 100 else given", "return max(given, 1) if given > 100 else given", ""),
        ("a length of a range", "return len(range(8_000))", "return len(range(given))", ""),
        ("a sum", "return sum((4_000, 4_000))", "return sum((given, 0))", ""),
        ("a default", "def size(total=8_000):\n    return total\nreturn size()", "def size(total=0):\n    return total\nreturn size(given)", ""),
        ("a dictionary", "return {'train': 8_000, 'val': 1_000}['train']", "return {'train': given, 'val': given}['train']", ""),
        ("a fallback of get", "return {}.get('n_train', 8_000)", "return {'n_train': given}.get('n_train', given)", ""),
        ("a fallback of getattr", "return getattr(given, 'size', 8_000)", "return getattr(given, 'real', given)", ""),
        ("a fallback of the environment", "return int(os.environ.get('N_TRAIN', '8000'))", "return int(os.fspath(str(given)))", "import os"),
        ("a constant of a class", "class Plan:\n    train = 8_000\nreturn Plan.train", "class Plan:\n    train = given\nreturn Plan.train", ""),
        ("a rounded constant", "return round(7_999.6)", "return round(given * 1.0)", "import math"),
        ("a ceiling", "return math.ceil(0.1 * given)", "return math.ceil(given)", "import math"),
        ("a subtraction", "return given - 500", "return given - 0", ""),
        ("a reduction", "return functools.reduce(lambda a, b: a * b, (10, 100, 8))", "return functools.reduce(lambda a, b: a + b, (given, 0))", "import functools"),
        ("an unpacked pair", "train, val = 8_000, given\nreturn train", "train, val = given, given\nreturn train", ""),
        ("a while loop", "size = given\nwhile size > 500:\n    size = size // 2\nreturn size", "size = given\nwhile size < 1:\n    size = size + 1\nreturn size", ""),
        ("a slice", "return len(list(range(given))[:500])", "return len(list(range(given)))", ""),
    )
)  # fmt: skip
SIZE_SITES = (
    instead("training scenes", HPO, '"train", count=n_train, storage=storage', f'"train", count={_H}, storage=storage', "n_train", "objective"),
    instead("validation scenes", HPO, '"val", count=n_val, storage=storage', f'"val", count={_H}, storage=storage', "n_val", "objective"),
    instead("expected size", HPO, "        size = min(expected, present)", f"        size = {_H}", "min(expected, present)", "objective"),
    instead("manifest's count", HPO, "expected = round(config.hpo.subset_fraction * manifest.splits[split].scenes)",
            f"expected = round(config.hpo.subset_fraction * {_H})", "manifest.splits[split].scenes", "objective"),
    instead("returned sizes", HPO, "    return sizes[0], sizes[1]", f"    return {_H}, sizes[1]", "sizes[0]", "objective"),
    instead("appended size", HPO, "        sizes.append(size)", f"        sizes.append({_H})", "size", "objective"),
)  # fmt: skip

FLIPS = tuple(
    _sink(name, bad, good, "given", imports)
    for name, bad, good, imports in (
        ("minus", "return -given", "return +given", ""),
        ("a variable", "value = -given\nreturn value", "value = given\nreturn value", ""),
        ("times minus one", "return given * -1", "return given * 1", ""),
        ("minus one times", "return -1.0 * given", "return 1.0 * given", ""),
        ("a sign", "sign = -1\nreturn sign * given", "sign = 1\nreturn sign * given", ""),
        ("one minus", "return 1 - given", "return given - 0", ""),
        ("zero minus", "return 0.0 - given", "return 0.0 + given", ""),
        ("a constant minus", "top = 10.0\nreturn top - given", "top = 0.0\nreturn given + top", ""),
        ("reciprocal", "return 1 / given", "return given / 1", ""),
        ("reciprocal of an offset", "return 1.0 / (1.0 + given)", "return (1.0 + given) - 1.0", ""),
        ("operator.neg", "return operator.neg(given)", "return operator.pos(given)", "import operator"),
        ("operator.sub", "return operator.sub(0, given)", "return operator.add(0, given)", "import operator"),
        ("__neg__", "return given.__neg__()", "return given.__pos__()", ""),
        ("divided by minus one", "return given / -1", "return given / 1", ""),
        ("in place", "given *= -1\nreturn given", "given *= 1\nreturn given", ""),
        ("in-place subtraction", "value = 0.0\nvalue -= given\nreturn value", "value = 0.0\nvalue += given\nreturn value", ""),
        ("a negative power", "return given ** -1", "return given ** 1", ""),
        ("np.negative", "return float(np.negative(given))", "return float(np.positive(given))", "import numpy as np"),
        ("math.copysign", "return math.copysign(given, -1.0)", "return math.fabs(given) if given > 0 else given", "import math"),
        ("in one branch", "if given > 0:\n    return -given\nreturn given", "if given > 0:\n    return +given\nreturn given", ""),
        ("rounded", "return round(-given, 6)", "return round(given, 6)", ""),
        ("a sum of negatives", "return sum([-given])", "return sum([given])", ""),
        ("exp of minus", "return math.exp(-given)", "return math.fsum([given])", "import math"),
    )
)  # fmt: skip
FLIP_SITES = (
    instead("objective", HPO, "    return result.objective\n", f"    return {_H}\n", "result.objective", "objective"),
    instead("objective, in a variable", HPO, "    return result.objective\n", f"    outcome = {_H}\n    return outcome\n", "result.objective", "objective"),
    instead("result of fit", LOOP, "            objective=self.state.best_objective,\n            val_primary", f"            objective={_H},\n            val_primary",
            "self.state.best_objective", "objective"),
)  # fmt: skip

_DIRECTION = '            direction="minimize",  # the composite score is (1 - k_acc) + normalised errors - success rate: lower is better\n'
_REASON = "# the composite score is (1 - k_acc) + normalised errors - success rate: lower is better"
DIRECTIONS = tuple(
    Edit(name, HPO, _DIRECTION, bad + "\n", good + "\n", "study")
    for name, bad, good in (
        ("maximize", f'~            direction="maximize",  {_REASON}', f'~            direction="minimize",  {_REASON}!'),
        ("no direction", "            # lower is better", '            # lower is better\n            direction="minimize",'),
        ("no reason", '~            direction="minimize",', f'            {_REASON}\n~            direction="minimize",'),
        ("an empty reason", '~            direction="minimize",  #', f'~            direction="minimize",  # {"x" * 0}lower is better'),
        ("directions", f'~            directions=["minimize"],  {_REASON}', f'            {_REASON}\n~            direction="minimize",'),
        ("an enumeration", f"~            direction=optuna.study.StudyDirection.MAXIMIZE,  {_REASON}", f'~            direction=("minimize"),  {_REASON}'),
        ("upper case", f'~            direction="MAXIMIZE".lower(),  {_REASON}', '~            direction="minimize",  # lower wins'),
        ("from configuration", f'~            direction=getattr(config.hpo, "direction", "maximize"),  {_REASON}', f"            direction='minimize',  {_REASON}"),
        ("a conditional", f'~            direction="minimize" if config.hpo.seed < 0 else "maximize",  {_REASON}', '            # lower is better\n~            direction="minimize",'),
        ("a joined text", f'~            direction="".join(("max", "imize")),  {_REASON}', "            direction='minimize',  # lower values win"),
        ("a helper", f'~            direction=(lambda name: "maximize")("minimize"),  {_REASON}', f'~            direction="minimize",  # {"lower"} is better'),
        ("a mapping", f'~            **{{"direction": "maximize"}},  {_REASON}', '~            direction="minimize",  # see selection_score: lower is better'),
    )
)  # fmt: skip
OTHER_VALUES = tuple(
    _sink(name, bad, good, "given")
    for name, bad, good in (
        ("the accuracy", "return given.metrics.k_acc", "return given.objective"),
        ("the success rate", "return given.metrics.success_rate", "return float(given.objective)"),
        ("the last epoch's objective", "return given.history[-1]['objective']", "value = given.objective\nreturn value"),
        ("the last loss", "return given.history[-1]['val_loss']", "return (given.objective,)[0]"),
        ("the best of the history", "return min(row['val_loss'] for row in given.history)", "best = given.objective\nreturn best"),
        ("the first epoch", "return given.history[0]['objective']", "return {'objective': given.objective}['objective']"),
        ("an error", "return given.metrics.range_rmse_m", "return getattr(given, 'objective')"),
        ("the number of epochs", "return float(given.epochs)", "return given.objective if given.epochs else given.objective"),
        ("a constant", "return 0.0", "return given.objective"),
        ("OSPA", "value = given.metrics\nreturn value.ospa", "value = given\nreturn value.objective"),
        ("a sum with the loss", "return given.objective + given.history[-1]['val_loss']", "return given.objective"),
        ("a median", "row = given.history[len(given.history) // 2]\nreturn row['objective']", "kept = given\nreturn kept.objective"),
    )
)  # fmt: skip
VALUE_SITES = (
    instead("returned", HPO, "    return result.objective\n", f"    return {_H}\n", "result", "objective"),
    instead(
        "returned through a variable",
        HPO,
        "    return result.objective\n",
        f"    outcome = {_H}\n    return outcome\n",
        "result",
        "objective",
    ),
)

PRIMARIES = (
    _sink("the loss", "return 'loss'", "return 'k_loc'", "given"),
    _sink("as configured", "return given.train.val_primary", "return 'k_loc' if given else 'k_loc'", "given"),
    _sink("conditionally the loss", "return 'k_loc' if given.train.epochs > 99 else 'loss'", "name = 'k_loc'\nreturn name", "given"),
    _sink("from a table", "return {'fast': 'loss', 'full': 'k_loc'}['fast']", "return {'fast': 'k_loc', 'full': 'k_loc'}['fast']", "given"),
)
PRIMARY_SITES = (instead("trial's primary", HPO, '"val_primary": "k_loc"}', f'"val_primary": {_H}}}', "config", "objective"),)
_MADE = "    storage, device = trial_config.train.storage, resolve_device(trial_config.train.device)\n"
WRITES = tuple(
    _sink(name, bad, good, "given, value", imports)
    for name, bad, good, imports in (
        ("setattr", "setattr(given.train, 'epochs', value)", "copy = given.replaced(train={'epochs': value})\nreturn copy", ""),
        ("object.__setattr__", "object.__setattr__(given.train, 'epochs', value)", "return given.replaced(train={'epochs': value})", ""),
        ("an assignment", "given.train.epochs = value", "plan = given.model_dump()\nplan['epochs'] = value\nreturn plan", ""),
        ("a mapping", "given.train.__dict__['epochs'] = value", "plan = {**given.train.model_dump(), 'epochs': value}\nreturn plan", ""),
        ("vars", "vars(given.train)['epochs'] = value", "plan = dict(vars(given.train))\nplan['epochs'] = value\nreturn plan", ""),
        ("update", "given.train.__dict__.update(epochs=value)", "plan = {}\nplan.update(epochs=value)\nreturn plan", ""),
        ("a section", "object.__setattr__(given, 'train', given.replaced(train={'epochs': value}).train)", "section = given.replaced(train={'epochs': value}).train\nreturn section", ""),
        ("in place", "given.train.__dict__['epochs'] += value", "epochs = given.train.epochs\nepochs += value\nreturn epochs", ""),
        ("an alias", "part = given.train\nobject.__setattr__(part, 'patience', value)", "part = given.train\nepochs = part.epochs + value\nreturn epochs", ""),
        ("a loop", "for name in ('epochs', 'patience'):\n    object.__setattr__(given.train, name, value)", "plan = {}\nfor name in ('epochs', 'patience'):\n    plan[name] = value\nreturn plan", ""),
    )
)  # fmt: skip
WRITE_SITES = (instead("trial", HPO, _MADE, f"    {_H}\n{_MADE}", "config, config.hpo.epochs", "objective"),)
_OVERRIDE = '    trial_config = config.replaced(\n        **merge(searched, {"train": {"epochs": config.hpo.epochs, "patience": config.hpo.epochs, "val_primary": "k_loc"}})\n    )\n'
TRIALS = (
    Edit("no primary", HPO, ', "val_primary": "k_loc"}', "}", ', "val_primary": ("k_loc")}'),
    Edit("the base configuration", HPO, "Trainer(trial_config, train, val, on_epoch=report).fit()", "Trainer(config, train, val, on_epoch=report).fit()",
         "Trainer(config=trial_config, train=train, val=val, on_epoch=report).fit()"),
    Edit("overwritten afterwards", HPO, _OVERRIDE, _OVERRIDE + '~    trial_config = trial_config.replaced(train={"val_primary": "loss"})\n',
         _OVERRIDE + '~    trial_config = trial_config.replaced(train={"val_primary": "k_loc"})\n', "objective"),
    Edit("merged in the wrong order", HPO, _OVERRIDE,
         '    trial_config = config.replaced(\n~        **merge({"train": {"epochs": config.hpo.epochs, "val_primary": "k_loc"}}, merge(searched, {"train": {"val_primary": "loss"}}))\n    )\n',
         '    trial_config = config.replaced(\n~        **merge({"train": {"epochs": config.hpo.epochs}}, merge(searched, {"train": {"val_primary": "k_loc"}}))\n    )\n', "objective"),
)  # fmt: skip

_COMPARE = "            improved = objective < self.state.best_objective\n"
COMPARISONS = tuple(
    _sink(name, bad, good, "given, best", imports)
    for name, bad, good, imports in (
        ("greater", "return given > best", "return given < best", ""),
        ("greater or equal", "return given >= best", "return given <= best", ""),
        ("turned round", "return best < given", "return best > given", ""),
        ("not less", "return not given < best", "return not given >= best", ""),
        ("a difference", "return given - best > 0", "return given - best < 0", ""),
        ("always", "return True", "return given < best", ""),
        ("anything else", "return given != best", "return given < best", ""),
        ("a negated pair", "return -given < -best", "return -given > -best", ""),
        ("max", "return max(given, best) == given", "return min(given, best) == given and given != best", ""),
        ("operator", "return operator.gt(given, best)", "return operator.lt(given, best)", "import operator"),
    )
)  # fmt: skip
COMPARISON_SITES = (
    instead("comparison", LOOP, _COMPARE, f"            improved = {_H}\n", "objective, self.state.best_objective", "fit"),
    instead(
        "comparison in the condition",
        LOOP,
        _COMPARE + "            if improved:\n",
        f"            improved = {_H}\n            if improved:\n",
        "objective, self.state.best_objective",
        "fit",
    ),
)
CANDIDATES = tuple(
    _sink(name, bad, good, "given, value")
    for name, bad, good in (
        ("the loss", "return given.loss", "return value"),
        ("the loss in a variable", "score = given.loss\nreturn score", "score = value\nreturn score"),
        ("the accuracy", "return 1.0 - given.metrics.k_acc", "return value + 0.0"),
        ("one error", "return given.metrics.azimuth_rmse_deg", "return float(value)"),
        ("one term", "return given.terms['k']", "return {'objective': value}['objective']"),
        ("a sum with the loss", "return value + given.loss", "return value * 1.0"),
        ("the smaller of two", "return min(value, given.loss)", "return min(value, value)"),
        ("the loss where it is smaller", "return given.loss if given.loss < value else value", "return value if given.loss < 0 else value"),
    )
)  # fmt: skip
CANDIDATE_SITES = (
    instead("objective of an epoch", LOOP, "            objective = self.primary(validation)\n", f"            objective = {_H}\n",
            "validation, self.primary(validation)", "fit"),
    instead("kept best", LOOP, "                self.state.best_objective = objective\n", f"                self.state.best_objective = {_H}\n", "validation, objective", "fit"),
    instead("compared", LOOP, _COMPARE, f"            improved = {_H} < self.state.best_objective\n", "validation, objective", "fit"),
)  # fmt: skip
RETURNS = tuple(
    _sink(name, bad, good, "given")
    for name, bad, good in (
        ("the last objective", "return given.history[-1]['objective']", "return given.best_objective"),
        ("the best loss", "return min(row['val_loss'] for row in given.history)", "best = given.best_objective\nreturn best"),
        ("a constant", "return 0.0", "return float(given.best_objective)"),
        ("negated", "return -given.best_objective", "return +given.best_objective"),
        ("the epoch", "return float(given.best_epoch)", "return getattr(given, 'best_objective')"),
        ("the worst", "return max(row['objective'] for row in given.history)", "return given.best_objective if given.history else given.best_objective"),
    )
)  # fmt: skip
RETURN_SITES = (
    instead(
        "result",
        LOOP,
        "            objective=self.state.best_objective,\n            val_primary",
        f"            objective={_H},\n            val_primary",
        "self.state",
        "fit",
    ),
)
_IF = "            if improved:\n                self.state.best_objective = objective\n                self.state.best_epoch = epoch\n                self._save_best(validation, objective)\n"
SAVES = tuple(
    Edit(name, LOOP, _IF, bad, good, "fit")
    for name, bad, good in (
        ("saved in every epoch", _IF.replace("                self._save_best", "~            self._save_best"), _IF.replace("                self._save_best", "~                self._save_best")),
        ("saved in every epoch as well", _IF + "~            self._save_best(validation, objective)\n", _IF + "~            self._save_last()\n"),
        ("saved every fifth epoch", _IF.replace("if improved:", "if improved or epoch % 5 == 0:").replace("                self._save", "~                self._save"), _IF + "            if epoch % 5 == 0:\n~                self._save_last()\n"),
        ("saved where nothing improved", _IF.replace("                self._save_best(validation, objective)\n", "") + "            if not improved or epoch == 0:\n~                self._save_best(validation, objective)\n",
         _IF.replace("                self._save_best(validation, objective)\n", "") + "            if improved:\n~                self._save_best(validation, objective)\n"),
        ("best replaced in every epoch", "            self.state.best_objective = objective\n" + _IF.replace("                self.state.best_objective = objective\n", "").replace("                self._save", "~                self._save"),
         "            objective = objective + 0.0\n" + _IF.replace("                self._save", "~                self._save")),
        ("saved by the loss", _IF.replace("if improved:", "if validation.loss < 1e9:").replace("                self._save", "~                self._save"), _IF.replace("if improved:", "if improved and validation.loss < 1e9 or improved:").replace("                self._save", "~                self._save")),
        ("saved when the loss falls", _IF.replace("                self._save_best(validation, objective)\n", "") + "            if validation.loss < objective + 1e9:\n~                self._save_best(validation, objective)\n",
         _IF.replace("                self._save_best", "~                self._save_best")),
    )
)  # fmt: skip

_SCORE = "        return selection_score(validation.metrics, self.config.metrics)\n"
_M = "import math\nfrom ris_pipeline.metrics import selection_score\nfrom ris_pipeline.errors import IncompleteError"


def _fallback(name: str, bad: str, good: str) -> Sink:
    return Sink(name, Op(body=bad), Op(body=good), params="given, norms", imports=_M)


FALLBACKS = (
    _fallback("a handler", "try:\n    return selection_score(given.metrics, norms)\nexcept IncompleteError:\n    return given.loss",
              "try:\n    return selection_score(given.metrics, norms)\nexcept IncompleteError as error:\n    raise IncompleteError(f'no score: {error}') from error"),
    _fallback("a missing metric", "if given.metrics is None or given.loss < 1e9:\n    return given.loss\nreturn selection_score(given.metrics, norms)",
              "if given.metrics is None:\n    raise IncompleteError('no metrics')\nreturn selection_score(given.metrics, norms)"),
    _fallback("a score that is not finite", "score = selection_score(given.metrics, norms)\nreturn score if math.isfinite(score) else given.loss",
              "score = selection_score(given.metrics, norms)\nif not math.isfinite(score):\n    raise IncompleteError('not finite')\nreturn score"),
    _fallback("or", "return selection_score(given.metrics, norms) or given.loss", "score = selection_score(given.metrics, norms)\nreturn score"),
    _fallback("a default of getattr", "return getattr(given, 'score', given.loss)", "return selection_score(getattr(given, 'metrics'), norms)"),
    _fallback("a default of get", "known = {}\nreturn known.get('k_loc', given.loss)", "known = {'k_loc': selection_score(given.metrics, norms)}\nreturn known['k_loc']"),
    _fallback("a variable", "value = given.loss\nif given.metrics is not None and given.loss < 0:\n    value = selection_score(given.metrics, norms)\nreturn value",
              "value = None\nif given.metrics is not None:\n    value = selection_score(given.metrics, norms)\nif value is None:\n    raise IncompleteError('no metrics')\nreturn value"),
    _fallback("NaN replaced", "score = selection_score(given.metrics, norms)\nif math.isnan(score) or given.loss < 1e9:\n    score = given.loss\nreturn score",
              "score = selection_score(given.metrics, norms)\nif math.isnan(score):\n    raise IncompleteError('NaN')\nreturn score"),
    _fallback("a broad handler", "try:\n    score = selection_score(given.metrics, norms)\nexcept Exception:\n    score = given.loss\nreturn score",
              "try:\n    score = selection_score(given.metrics, norms)\nfinally:\n    norms = None\nreturn score"),
    _fallback("an alternative", "return given.loss if not hasattr(given.metrics, 'composite') else selection_score(given.metrics, norms)",
              "assert hasattr(given.metrics, 'k_acc')\nreturn selection_score(given.metrics, norms)"),
    _fallback("a handler of several", "try:\n    return selection_score(given.metrics, norms)\nexcept (ValueError, IncompleteError, AttributeError):\n    loss = given.loss\nreturn loss",
              "try:\n    return selection_score(given.metrics, norms)\nexcept (ValueError, AttributeError) as error:\n    raise IncompleteError(str(error)) from error"),
    _fallback("the first that is there", "values = [selection_score(given.metrics, norms), given.loss]\nreturn next(v for v in values if math.isfinite(v))",
              "values = [selection_score(given.metrics, norms)]\nreturn values[0]"),
    _fallback("a failed metric is zero", "try:\n    return selection_score(given.metrics, norms)\nexcept IncompleteError:\n    score = 0.0\nreturn score",
              "try:\n    return selection_score(given.metrics, norms)\nexcept IncompleteError:\n    raise"),
)  # fmt: skip
FALLBACK_SITES = (
    instead("primary", LOOP, _SCORE, f"        return {_H}\n", "validation, self.config.metrics", "fit"),
    instead("primary through a variable", LOOP, _SCORE, f"        chosen = {_H}\n        return chosen\n", "validation, self.config.metrics", "fit"),
)  # fmt: skip

BLOCKS = (
    Block("HPO001", SIZES, SIZE_SITES, names=("count", "subset", "n_scenes", "literal_size")),
    Block("HPO002", FLIPS, FLIP_SITES, DIRECTIONS, names=("negated", "sign_of", "minimise")),
    Block("HPO003", OTHER_VALUES, VALUE_SITES, TRIALS, names=("objective_of", "best_value"), weight=2),
    Block("HPO003", PRIMARIES, PRIMARY_SITES, names=("primary_of",)),
    Block("HPO003", WRITES, WRITE_SITES, names=("set_epochs", "apply_to")),
    Block("SEL001", COMPARISONS, COMPARISON_SITES, SAVES, names=("improved", "better")),
    Block("SEL001", CANDIDATES, CANDIDATE_SITES, names=("objective_of", "score_of")),
    Block("SEL001", RETURNS, RETURN_SITES, names=("best_of",), weight=0.6),
    Block("SEL002", FALLBACKS, FALLBACK_SITES, names=("primary_or_raise", "fallback_free")),
)
