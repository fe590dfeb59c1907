"""The training loop: optimizer steps on the device, validation by metrics, selection by the configured primary."""

from __future__ import annotations

import logging
import math
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Complex, Float
from torch import Tensor, nn

from ris_pipeline.config import Config
from ris_pipeline.covariance import FactoredCovariance, build_effective_covariance
from ris_pipeline.errors import ConfigError, DivergedError, IncompleteError
from ris_pipeline.evaluation.localize import network_sources
from ris_pipeline.losses import TERMS, LossTerms, training_loss
from ris_pipeline.metrics import Metrics, SceneScores, aggregate, score_scenes, selection_score
from ris_pipeline.model.network import HybridModel, Prediction, snr_of
from ris_pipeline.model.weights import BEST_NAME, load_state, load_tensors, save_model
from ris_pipeline.shards import Batch, Scenes
from ris_pipeline.simulation import true_factor
from ris_pipeline.training.checkpoint import LAST_NAME, RunState, load_last, save_last
from ris_pipeline.training.optim import build_optimizer, guarded_step, learning_rate

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class StepReport:
    """What one step did, as tensors on the device: unweighted loss terms, and whether each of them and the gradient were finite."""

    values: Float[Tensor, " terms"]
    finite: Bool[Tensor, " terms_and_gradient"]
    gradient_norm: Float[Tensor, ""]


@dataclass(frozen=True)
class Validation:
    """Metrics and loss of the validation set."""

    metrics: Metrics
    loss: float
    terms: dict[str, float]


@dataclass(frozen=True)
class EpochReport:
    """One line of the training log. ``moved`` is the root-mean-square change of each parameter group during the epoch."""

    epoch: int
    step: int
    learning_rate: float
    train_terms: dict[str, float]
    val_loss: float
    metrics: dict[str, float]
    objective: float
    best_objective: float
    improved: bool
    moved: dict[str, float]
    samples_per_second: float


@dataclass(frozen=True)
class FitResult:
    """Outcome of a run. ``objective`` is the best value of the configured primary: the composite score for k_loc, else the loss."""

    objective: float
    val_primary: str
    best_epoch: int
    epochs: int
    metrics: Metrics
    history: list[dict[str, Any]] = field(repr=False)
    checkpoint: Path | None


class Trainer:
    """Trains a network on one split and selects it on another.

    Args:
        config: the configuration; nothing in it is changed.
        train: training scenes.
        val: validation scenes.
        run_directory: where checkpoints and the log go; nothing is written when it is ``None``.
        on_epoch: called with each :class:`EpochReport`; may raise to stop the run.
        record: plain values stored with every checkpoint.
        on_step: called with the steps done and the steps of the epoch, every ``train.log_every`` steps.
    """

    def __init__(
        self,
        config: Config,
        train: Scenes,
        val: Scenes,
        run_directory: Path | None = None,
        on_epoch: Callable[[EpochReport], None] = lambda report: None,
        record: Mapping[str, Any] | None = None,
        on_step: Callable[[int, int], None] = lambda done, total: None,
    ) -> None:
        self.config = config
        self.train = train
        self.val = val
        self.run_directory = run_directory
        self.on_epoch = on_epoch
        self.record = dict(record or {})
        self.on_step = on_step
        self.device = resolve_device(config.train.device)
        self.model = HybridModel(config, torch.Generator().manual_seed(config.train.seed)).to(self.device)
        if config.train.compile:
            self.model.trunk.compile()
        self.optimizer = build_optimizer(self.model, config.train)
        self.steps_per_epoch = math.ceil(len(train) / config.train.batch_size)
        self.state = RunState()
        self._best: dict[str, Tensor] = {}
        self._best_validation: Validation | None = None

    def resume(self) -> None:
        """Continue from the run folder's last checkpoint; the losses are those of an uninterrupted run.

        Raises:
            CheckpointError: there is nothing to resume, or it does not fit.
        """
        if self.run_directory is None:
            raise ValueError("a run without a folder cannot be resumed")
        self.state = load_last(self.run_directory / LAST_NAME, self.model, self.optimizer, self.config)
        best, record = load_tensors(self.run_directory / BEST_NAME)
        load_state(HybridModel(self.config), best, self.run_directory / BEST_NAME)
        self._best = best
        self._best_validation = Validation(Metrics(**record["metrics"]), record["val_loss"], record["val_terms"])

    def fit(self) -> FitResult:
        """Train until the last epoch or until the objective has not improved for ``train.patience`` epochs.

        The objective of every epoch is the configured primary. The best epoch by that objective is the one that is saved, restored into
        the model at the end, and returned.

        Raises:
            DivergedError: a loss term or the gradient stopped being finite.
            IncompleteError: a metric could not be computed; there is no fallback to the loss.
        """
        self._announce()
        for epoch in range(self.state.epoch, self.config.train.epochs):
            # Asked before an epoch, so that a resumed run that had stopped early stays as it is.
            if epoch - 1 - self.state.best_epoch >= self.config.train.patience:
                logger.info("stopping early: objective has not improved since epoch %d", self.state.best_epoch)
                break
            before = self._snapshot()
            started = time.perf_counter()
            train_terms = self._train_epoch(epoch)
            seconds = time.perf_counter() - started
            validation = self.validate()
            objective = self.primary(validation)
            improved = objective < self.state.best_objective
            if improved:
                self.state.best_objective = objective
                self.state.best_epoch = epoch
                self._save_best(validation, objective)
            report = self._report(epoch, train_terms, validation, objective, improved, before, seconds)
            self.state.epoch = epoch + 1
            self.state.history.append(asdict(report))
            self._save_last()
            self.on_epoch(report)
        return self._finish()

    def primary(self, validation: Validation) -> float:
        """The value that selects the model: the composite score for k_loc (alias metrics), the validation loss for loss.

        Raises:
            IncompleteError: it is not finite.
        """
        if self.config.train.val_primary == "loss":
            if not math.isfinite(validation.loss):
                raise IncompleteError(f"the validation loss could not be computed: {validation.terms}")
            return validation.loss
        return selection_score(validation.metrics, self.config.metrics)

    def train_step(self, batch: Batch) -> StepReport:
        """One optimizer step on one batch: forward, loss, backward, clipping, guarded update. Nothing leaves the device."""
        self.optimizer.zero_grad(set_to_none=True)
        prediction = self.model(batch.measurements)
        terms = self.loss(prediction, batch)
        terms.total.backward()
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), self.config.train.clip_norm)
        finite = torch.cat((torch.isfinite(terms.values), torch.isfinite(norm)[None]))
        guarded_step(self.optimizer, finite.all())
        return StepReport(terms.values.detach(), finite, norm)

    def loss(self, prediction: Prediction, batch: Batch) -> LossTerms:
        """Loss of a batch: prediction and truth are blended with the same sample and weight before they are compared."""
        sample = batch.measurements.sample_factor
        return training_loss(
            prediction,
            self.blend(prediction.factor, sample),
            self.blend(true_factor(self.config.array, batch.sources), sample),
            batch.sources,
            snr_of(batch.measurements),
            self.config,
        )

    def blend(self, factor: Complex[Tensor, "B N K"], sample: Complex[Tensor, "B N L"] | None) -> FactoredCovariance:
        """Blend a factor with the detached sample covariance; loading and shrinkage are the loss's business."""
        return build_effective_covariance(
            FactoredCovariance.from_factor(factor),
            None if sample is None else FactoredCovariance.from_factor(sample.detach()),
            beta=self.config.covariance.beta,
        )

    @torch.no_grad()
    def validate(self) -> Validation:
        """Score the validation set exactly as ``ris evaluate --method network`` does, and compute its loss."""
        self.model.eval()
        scores: list[SceneScores] = []
        values = torch.zeros(len(TERMS), device=self.device)
        total = torch.zeros((), device=self.device)
        for index in torch.arange(len(self.val)).split(self.config.train.batch_size):
            batch = self.val.batch(index).to(self.device)
            prediction = self.model(batch.measurements)
            terms = self.loss(prediction, batch)
            values += terms.values * len(batch)
            total += terms.total * len(batch)
            estimate, _ = network_sources(self.model, prediction, self.config)
            scores.append(score_scenes(estimate, batch.sources, self.config.metrics))
        count = len(self.val)
        return Validation(
            aggregate(SceneScores.cat(scores)), float(total) / count, dict(zip(TERMS, (values / count).tolist(), strict=True))
        )

    def _train_epoch(self, epoch: int) -> dict[str, float]:
        self.model.train()
        order = np.random.default_rng(np.random.SeedSequence(self.config.train.seed, spawn_key=(epoch,))).permutation(len(self.train))
        total_steps = self.steps_per_epoch * self.config.train.epochs
        sums = torch.zeros(len(TERMS), device=self.device)
        finite = torch.ones(len(TERMS) + 1, dtype=torch.bool, device=self.device)
        for number, index in enumerate(torch.from_numpy(order).split(self.config.train.batch_size)):
            rate = learning_rate(self.state.step, total_steps, self.config.train)
            for group in self.optimizer.param_groups:
                group["lr"] = rate
            report = self.train_step(self.train.batch(index).to(self.device))
            sums += report.values
            finite &= report.finite
            self.state.step += 1
            if (number + 1) % self.config.train.log_every == 0:
                self._stop_if_diverged(finite)
                self.on_step(number + 1, self.steps_per_epoch)
        self._stop_if_diverged(finite)
        return dict(zip(TERMS, (sums / self.steps_per_epoch).tolist(), strict=True))

    def _stop_if_diverged(self, finite: Bool[Tensor, " terms_and_gradient"]) -> None:
        for name, good in zip((*TERMS, "gradient"), finite.tolist(), strict=True):
            if not good:
                raise DivergedError(name, self.state.step)

    def _announce(self) -> None:
        if self.config.covariance.beta > 0.0 and self.train.batch(torch.zeros(1, dtype=torch.long)).measurements.sample_factor is None:
            logger.warning(
                "covariance.beta = %g, but the shards hold no sample covariance: the prediction is used alone", self.config.covariance.beta
            )

    def _save_best(self, validation: Validation, objective: float) -> None:
        self._best = {name: tensor.detach().cpu().clone() for name, tensor in self.model.state_dict().items()}
        self._best_validation = validation
        if self.run_directory is None:
            return
        record = {
            **self.record,
            "objective": objective,
            "val_primary": self.config.train.val_primary,
            "epoch": self.state.best_epoch,
            "metrics": validation.metrics.as_dict(),
            "val_loss": validation.loss,
            "val_terms": validation.terms,
        }
        save_model(self.run_directory / BEST_NAME, self.model, self.config, record)

    def _save_last(self) -> None:
        if self.run_directory is not None:
            save_last(self.run_directory / LAST_NAME, self.model, self.optimizer, self.state, self.config)

    def _snapshot(self) -> dict[str, list[Tensor]]:
        return {group["name"]: [p.detach().clone() for p in group["params"]] for group in self.optimizer.param_groups}

    def _report(
        self,
        epoch: int,
        train_terms: dict[str, float],
        validation: Validation,
        objective: float,
        improved: bool,
        before: dict[str, list[Tensor]],
        seconds: float,
    ) -> EpochReport:
        moved = {}
        for group in self.optimizer.param_groups:
            squared = sum(float((p.detach() - q).square().sum()) for p, q in zip(group["params"], before[group["name"]], strict=True))
            moved[group["name"]] = math.sqrt(squared / sum(p.numel() for p in group["params"]))
        return EpochReport(
            epoch=epoch,
            step=self.state.step,
            learning_rate=self.optimizer.param_groups[0]["lr"],
            train_terms=train_terms,
            val_loss=validation.loss,
            metrics=validation.metrics.as_dict(),
            objective=objective,
            best_objective=self.state.best_objective,
            improved=improved,
            moved=moved,
            samples_per_second=len(self.train) / seconds,
        )

    def _finish(self) -> FitResult:
        if self._best_validation is None:
            raise IncompleteError("no epoch was run, so there is no model to select")
        self.model.load_state_dict(self._best, strict=True)
        self.model.eval()
        return FitResult(
            objective=self.state.best_objective,
            val_primary=self.config.train.val_primary,
            best_epoch=self.state.best_epoch,
            epochs=self.state.epoch,
            metrics=self._best_validation.metrics,
            history=self.state.history,
            checkpoint=None if self.run_directory is None else self.run_directory / BEST_NAME,
        )


def resolve_device(name: str) -> torch.device:
    """``auto`` is the first CUDA device where there is one, else the CPU.

    Raises:
        ConfigError: there is no such device.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    found = re.fullmatch(r"cpu|cuda(?::(\d+))?", name)
    if found is None or (name != "cpu" and int(found[1] or 0) >= torch.cuda.device_count()):
        raise ConfigError(f"train.device must be auto, cpu or one of the {torch.cuda.device_count()} CUDA devices, got {name!r}")
    return torch.device(name)
