"""What ``fit()`` did and returned: steps, selection, the stored checkpoint, checks RUN007 to RUN010 and RUN013."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from audits.runtime.composite import composite, scenes_of
from audits.runtime.report import Result
from audits.runtime.trial import Trial, differences
from ris_pipeline.config import SelectionConfig
from ris_pipeline.evaluation.localize import localize
from ris_pipeline.model import Checkpoint, load_model
from ris_pipeline.shards import open_split, read_manifest
from ris_pipeline.training import FitResult, Trainer

SEEDS = 8
"""Runs that are tried until one separates loss and composite."""
TOLERANCE = 1e-6


@dataclass
class Steps:
    """Optimizer steps of a run as its hooks saw them, with the learning rate and a fingerprint of the weights before each."""

    count: int = 0
    fingerprints: list[float] = field(default_factory=list)
    rates: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class Run:
    """A finished run: the trainer as ``fit()`` left it, what it returned, and its steps."""

    trainer: Trainer
    result: FitResult
    steps: Steps

    @property
    def objectives(self) -> list[float]:
        """Objective of each epoch, as logged."""
        return [float(epoch["objective"]) for epoch in self.result.history]

    @property
    def losses(self) -> list[float]:
        """Validation loss of each epoch, as logged."""
        return [float(epoch["val_loss"]) for epoch in self.result.history]

    @property
    def composites(self) -> list[float]:
        """Composite of each epoch's metrics, recomputed from its formula."""
        return [formula(epoch["metrics"], self.trainer.config.metrics) for epoch in self.result.history]

    @property
    def separated(self) -> bool:
        """Whether the epoch of the best composite is neither the one of the lowest loss nor the last, so that choosing it shows."""
        best = _first_minimum(self.composites)
        return best not in (_first_minimum(self.losses), len(self.losses) - 1)


def formula(metrics: dict[str, float], config: SelectionConfig) -> float:
    """The composite of one epoch's metrics."""
    return (
        (1.0 - metrics["k_acc"])
        + metrics["azimuth_rmse_deg"] / config.azimuth_norm_deg
        + metrics["elevation_rmse_deg"] / config.elevation_norm_deg
        + metrics["range_rmse_m"] / config.range_norm_m
        - metrics["success_rate"]
    )


def _first_minimum(values: list[float]) -> int:
    return min(range(len(values)), key=lambda index: values[index])


@contextmanager
def _counting(trainer: Trainer) -> Iterator[Steps]:
    steps = Steps()

    def before(*_: Any) -> None:
        squares = [parameter.detach().double().square().sum() for parameter in trainer.model.parameters()]
        steps.fingerprints.append(float(torch.stack(squares).sum()))
        steps.rates.append(float(trainer.optimizer.param_groups[0]["lr"]))

    def after(*_: Any) -> None:
        steps.count += 1

    hooks = (trainer.optimizer.register_step_pre_hook(before), trainer.optimizer.register_step_post_hook(after))
    try:
        yield steps
    finally:
        for hook in hooks:
            hook.remove()


def run(trial: Trial, name: str, **train: Any) -> Run:
    """One run of the real ``fit()`` in a folder of its own."""
    trainer = trial.trainer(trial.directory / name, train=train)
    with _counting(trainer) as steps:
        result = trainer.fit()
    return Run(trainer, result, steps)


def separated_run(trial: Trial) -> tuple[Run, int]:
    """Runs with one seed after the other until selection by the composite shows; the last run otherwise."""
    for seed in range(SEEDS):
        made = run(trial, f"k_loc-{seed}", val_primary="k_loc", seed=seed)
        if made.separated:
            break
    return made, seed + 1


def check_steps(made: Run) -> list[Result]:
    """RUN007: one optimizer step per batch, and each of them moves the weights."""
    trainer, steps = made.trainer, made.steps
    batches = math.ceil(len(trainer.train) / trainer.config.train.batch_size)
    expected = batches * made.result.epochs
    counters = {int(state["step"]) for state in trainer.optimizer.state.values() if "step" in state}
    distinct = len(set(steps.fingerprints))
    evidence = {
        "epochs": made.result.epochs,
        "batches": batches,
        "expected": expected,
        "steps": steps.count,
        "counters": sorted(counters),
        "distinct weights": distinct,
    }
    problems = []
    if steps.count != expected:
        problems.append(f"{steps.count} optimizer steps for {expected} batches")
    if counters != {expected}:
        problems.append(f"the optimizer's counters say {sorted(counters)}, expected {expected}")
    if distinct != len(steps.fingerprints):
        problems.append(f"{len(steps.fingerprints) - distinct} steps left the weights as they were")
    message = "; ".join(problems) or f"{expected} batches, {expected} steps, each moved the weights"
    return [Result("RUN007", "fit()", not problems, message, evidence)]


def check_rates(made: Run) -> list[Result]:
    """RUN013: the rate rises to its peak and then falls with every step; for a run of all its epochs."""
    rates, peak = made.steps.rates, made.trainer.config.train.learning_rate
    top = rates.index(max(rates))
    last_top = len(rates) - 1 - rates[::-1].index(max(rates))
    problems = []
    if abs(rates[top] - peak) > 1e-6 * peak:
        problems.append(f"the highest rate is {rates[top]:.3g}, configured is {peak:.3g}")
    if any(later <= earlier for earlier, later in itertools.pairwise(rates[: top + 1])):
        problems.append("the rate does not rise with every step of the warm-up")
    # The last step of the warm-up and the first of the cosine may both have the peak.
    if last_top - top > 1 or any(later >= earlier for earlier, later in itertools.pairwise(rates[last_top:])):
        problems.append("the rate does not fall with every step after its peak")
    if rates[-1] >= 0.5 * peak:
        problems.append(f"the last rate is {rates[-1]:.3g}, more than half the peak")
    message = "; ".join(problems) or f"{len(rates)} steps, from {rates[top]:.3g} down to {rates[-1]:.3g}"
    return [Result("RUN013", "fit()", not problems, message, {"rates": rates})]


def check_selection(made: Run, tried: int) -> list[Result]:
    """RUN008: in a run in which it matters, everything follows the composite."""
    composites, result = made.composites, made.result
    best = _first_minimum(composites)
    evidence = {
        "runs tried": tried,
        "composites": composites,
        "losses": made.losses,
        "objectives": made.objectives,
        "returned": result.objective,
        "best epoch": result.best_epoch,
        "epoch of the best composite": best,
        "epoch of the lowest loss": _first_minimum(made.losses),
        "epochs": result.epochs,
    }
    problems = []
    if not made.separated:
        problems.append(
            f"in none of {tried} runs did the composite choose another epoch than the loss, and not the last, so nothing is proved"
        )
    if any(abs(a - b) > TOLERANCE for a, b in zip(made.objectives, composites, strict=True)):
        problems.append("the objective of an epoch is not the composite of its metrics")
    if abs(result.objective - composites[best]) > TOLERANCE:
        problems.append(f"returned {result.objective:.6g}, the best composite is {composites[best]:.6g}")
    if result.best_epoch != best:
        problems.append(f"selected epoch {result.best_epoch}, the best composite is in epoch {best}")
    stop = stopping_epoch(composites, made.trainer.config.train.patience, made.trainer.config.train.epochs)
    if result.epochs != stop:
        problems.append(f"ran {result.epochs} epochs, patience on the objective gives {stop}")
    separated = f"epoch {best} selected, lowest loss in epoch {_first_minimum(made.losses)}, objective {result.objective:.6g}"
    return [Result("RUN008", "val_primary = k_loc", not problems, "; ".join(problems) or separated, evidence)]


def stopping_epoch(values: list[float], patience: int, epochs: int) -> int:
    """How many epochs early stopping on ``values`` runs; what was not run cannot shorten it."""
    best, best_epoch = math.inf, -1
    for epoch, value in enumerate(values):
        if value < best:
            best, best_epoch = value, epoch
        if epoch - best_epoch >= patience:
            return epoch + 1
    return epochs


def check_loss_primary(made: Run) -> list[Result]:
    """RUN008 for val_primary = loss: the lowest validation loss is returned."""
    losses, result = made.losses, made.result
    best = _first_minimum(losses)
    fine = abs(result.objective - losses[best]) <= TOLERANCE * max(1.0, abs(losses[best])) and result.best_epoch == best
    message = f"epoch {result.best_epoch} with {result.objective:.6g} returned, lowest loss {losses[best]:.6g} in epoch {best}"
    return [Result("RUN008", "val_primary = loss", fine, message, {"losses": losses, "returned": result.objective})]


def check_checkpoint(made: Run, trial: Trial) -> list[Result]:
    """RUN009: the stored best, loaded and scored anew, gives the returned objective."""
    path = made.result.checkpoint
    if path is None or not Path(path).is_file():
        return [Result("RUN009", "checkpoint", False, "fit() stored no checkpoint", {"checkpoint": str(path)})]
    checkpoint = load_model(Path(path))
    recomputed = rescore(checkpoint, trial.directory / "data")
    returned, recorded = made.result.objective, checkpoint.record.get("objective")
    primary = checkpoint.record.get("val_primary")
    evidence = {"returned": returned, "recomputed": recomputed, "recorded": recorded, "recorded primary": primary}
    problems = []
    if abs(recomputed - returned) > TOLERANCE:
        problems.append(f"the stored checkpoint scores {recomputed:.6g}, fit() returned {returned:.6g}")
    if not isinstance(recorded, float) or abs(recorded - returned) > TOLERANCE:
        problems.append(f"recorded beside the weights is {recorded}, fit() returned {returned:.6g}")
    message = "; ".join(problems) or f"scored anew: {recomputed:.6g}, returned: {returned:.6g}"
    return [Result("RUN009", "checkpoint", not problems, message, evidence)]


def rescore(checkpoint: Checkpoint, data: Path) -> float:
    """Composite of a stored network on the validation split, read from its shards again."""
    config = checkpoint.config
    scenes = open_split(data, read_manifest(data), "val", storage="mmap")
    found = []
    with torch.no_grad():
        for index in torch.split(torch.arange(len(scenes)), config.train.batch_size):
            batch = scenes.batch(index)
            estimate = localize(batch.measurements, config, "network", checkpoint.model)
            found += scenes_of(batch.sources, estimate.sources)
    return composite(found, config.metrics)


def check_restored(made: Run) -> list[Result]:
    """RUN010: the trainer's network is the stored best, bit for bit."""
    path = made.result.checkpoint
    if path is None or not Path(path).is_file():
        return [Result("RUN010", "network", False, "fit() stored no checkpoint to compare with", {"checkpoint": str(path)})]
    stored = load_model(Path(path)).model.state_dict()
    different = differences(stored, made.trainer.model.state_dict())
    message = f"{len(different)} of {len(stored)} tensors differ from the stored best" if different else f"{len(stored)} tensors equal"
    return [Result("RUN010", "network", not different, message, {"different": different})]
