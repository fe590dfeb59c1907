"""Selection under a script: real training steps, prescribed validations, check RUN020.

Whatever a real run happens to do, here the best composite, the lowest loss, ties and failures lie where the script puts them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from audits.runtime.ops import Allowed, check_solvers
from audits.runtime.report import Result
from audits.runtime.selection import TOLERANCE, formula, stopping_epoch
from audits.runtime.trial import Trial, differences
from audits.runtime.witness import Testimony, by_profiler
from ris_pipeline.config import Config
from ris_pipeline.errors import IncompleteError
from ris_pipeline.losses import TERMS
from ris_pipeline.metrics import Metrics
from ris_pipeline.model import load_model
from ris_pipeline.training import FitResult, Trainer, Validation

PATIENCE = 3


@dataclass(frozen=True)
class Script:
    """What each epoch's validation says, and which epoch must be selected."""

    name: str
    primary: str
    composites: Sequence[float]
    losses: Sequence[float]
    best: int

    @property
    def values(self) -> Sequence[float]:
        """The values that select."""
        return self.losses if self.primary == "loss" else self.composites


FALLING = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3)
DIP = (6.0, 5.0, 4.0, 4.5, 4.4, 4.3, 3.0, 2.0)
SCRIPTS = (
    Script("composite best early, loss still falls", "k_loc", DIP, FALLING, 2),
    Script("the same under its other name", "metrics", DIP, FALLING, 2),
    Script("composite still falls, loss best early", "k_loc", tuple(6.0 * value for value in FALLING), DIP, 7),
    Script("loss is the primary", "loss", tuple(6.0 * value for value in FALLING), DIP, 2),
    Script("a tie keeps the first", "k_loc", (5.0, 3.0, 3.0, 3.0, 3.0, 3.0, 3.0, 3.0), FALLING, 1),
    Script("composite below zero", "k_loc", (0.4, -0.2, -0.7, -0.5, -0.4, -0.3, -0.9, -0.8), FALLING, 2),
    Script("improves once within the patience", "k_loc", (5.0, 6.0, 5.5, 4.9, 5.0, 5.0, 5.0, 5.0), tuple(reversed(FALLING)), 3),
)


def metrics_of(composite: float, config: Config) -> Metrics:
    """Metrics whose composite is the given one."""
    norms = config.metrics
    k_acc, success = (0.5, 0.25) if composite >= 0.5 else (1.0, 1.0)
    rest = composite - (1.0 - k_acc) + success
    return Metrics(
        k_acc=k_acc, k_under=(1.0 - k_acc) / 2, k_over=(1.0 - k_acc) / 2,
        azimuth_rmse_deg=0.5 * rest * norms.azimuth_norm_deg, elevation_rmse_deg=0.3 * rest * norms.elevation_norm_deg,
        range_rmse_m=0.2 * rest * norms.range_norm_m, azimuth_median_deg=1.0, elevation_median_deg=1.0, range_median_m=0.1,
        success_rate=success, source_success_rate=0.5, ospa=1.0,
    )  # fmt: skip


@dataclass
class Played:
    """A run under a script: what fit() returned or raised, and the weights that each validation saw."""

    trainer: Trainer
    weights: list[dict[str, Tensor]] = field(default_factory=list)
    result: FitResult | None = None
    error: Exception | None = None


def play(trial: Trial, script: Script, folder: Path) -> Played:
    """Train for real, validate by the script."""

    class Scripted(Trainer):
        def validate(self) -> Validation:
            epoch = len(played.weights)
            played.weights.append({name: tensor.detach().cpu().clone() for name, tensor in self.model.state_dict().items()})
            loss = script.losses[epoch]
            return Validation(metrics_of(script.composites[epoch], self.config), loss, dict.fromkeys(TERMS, loss / len(TERMS)))

    options = {"val_primary": script.primary, "epochs": len(script.composites), "patience": PATIENCE}
    played = Played(Scripted(trial.config.replaced(train=options), trial.train, trial.val, folder))
    try:
        played.result = played.trainer.fit()
    except IncompleteError as error:
        played.error = error
    return played


def check_whole_run(trial: Trial, allowed: Allowed) -> list[Result]:
    """RUN002 for everything in fit() but validation: between the steps nothing solves either."""
    script = Script("one epoch", "k_loc", (1.0,), (1.0,), 0)
    testimony = Testimony()
    by_profiler(lambda: play(trial, script, trial.directory / "profiled"), testimony)
    results = check_solvers({"fit() without validation": testimony}, allowed)
    return [replace(result, subject="fit() without validation") if result.passed else result for result in results]


def check_scripts(trial: Trial) -> list[Result]:
    """RUN020: the script's best epoch is selected, stored, restored, logged and returned; a metric that is missing stops the run."""
    failures, table = [], {}
    for number, script in enumerate(SCRIPTS):
        played = play(trial, script, trial.directory / f"script-{number}")
        problems = [str(played.error)] if played.result is None else _problems(script, played, played.result)
        table[script.name] = {"epochs": len(played.weights), "returned": None if played.result is None else played.result.objective}
        if problems:
            evidence = {"composites": script.composites, "losses": script.losses, **table[script.name]}
            failures.append(Result("RUN020", script.name, False, "; ".join(problems), evidence))
    failures += _failing(trial)
    message = f"{len(SCRIPTS)} scripted runs, each selected by its primary; a missing metric stopped the run"
    return failures or [Result("RUN020", "fit()", True, message, table)]


def _problems(script: Script, played: Played, result: FitResult) -> list[str]:
    best, problems = script.best, []
    expected = script.values[best]
    stop = stopping_epoch(list(script.values), PATIENCE, len(script.values))
    if len(played.weights) != stop or result.epochs != stop:
        problems.append(f"{len(played.weights)} epochs were validated and {result.epochs} reported, patience gives {stop}")
        return problems
    if abs(result.objective - expected) > TOLERANCE or result.best_epoch != best:
        problems.append(f"returned {result.objective:.6g} of epoch {result.best_epoch}, expected {expected:.6g} of epoch {best}")
    if abs(formula(result.metrics.as_dict(), played.trainer.config.metrics) - script.composites[best]) > TOLERANCE:
        problems.append("the returned metrics are not those of the best epoch")
    problems += _log_problems(script, result)
    wanted = played.weights[best]
    if differences(wanted, {name: tensor.cpu() for name, tensor in played.trainer.model.state_dict().items()}):
        problems.append(f"the network does not have the weights of epoch {best}")
    if result.checkpoint is None or not Path(result.checkpoint).is_file():
        return [*problems, "no checkpoint was stored"]
    stored = load_model(Path(result.checkpoint))
    if differences(wanted, stored.model.state_dict()):
        problems.append(f"the checkpoint does not hold the weights of epoch {best}")
    recorded = stored.record.get("objective")
    if not isinstance(recorded, float) or abs(recorded - expected) > TOLERANCE or stored.record.get("epoch") != best:
        problems.append(f"the checkpoint records {recorded} of epoch {stored.record.get('epoch')}, expected {expected:.6g} of epoch {best}")
    return problems


def _log_problems(script: Script, result: FitResult) -> list[str]:
    running, problems = math.inf, []
    for line, value in zip(result.history, script.values, strict=False):
        improved, running = value < running, min(running, value)
        if any(abs(float(line[key]) - wanted) > TOLERANCE for key, wanted in (("objective", value), ("best_objective", running))):
            problems.append(
                f"epoch {line['epoch']} logs {line['objective']:.6g}, best {line['best_objective']:.6g}; it was {value:.6g}, {running:.6g}"
            )
        elif line["improved"] is not improved:
            problems.append(f"epoch {line['epoch']} logs improved = {line['improved']}")
    return problems


def _failing(trial: Trial) -> list[Result]:
    """A validation whose metrics are not a number must stop the run, also when the loss is fine."""
    failures: list[Result] = []
    for number, at in enumerate((0, 1)):
        composites: list[Any] = [5.0, 5.0, 5.0, 5.0]
        composites[at] = math.nan
        script = Script("missing metric", "k_loc", composites, FALLING[:4], 0)
        played = play(trial, script, trial.directory / f"script-nan-{number}")
        if played.error is None:
            returned = None if played.result is None else played.result.objective
            message = f"the metrics of epoch {at} are not a number, and fit() went on and returned {returned}"
            failures.append(Result("RUN020", "missing metric", False, message, {"returned": returned}))
    return failures
