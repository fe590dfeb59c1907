"""The covariance consumers that are watched, and one watched run: a real training step and real localizations."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from audits.runtime import dense
from audits.runtime.dense import Complex, Real
from audits.runtime.observe import Call, Observer
from ris_pipeline.config import Config
from ris_pipeline.covariance import FactoredCovariance, build_effective_covariance
from ris_pipeline.estimators import music
from ris_pipeline.evaluation.localize import localize, network_sources
from ris_pipeline.losses import covariance_nmse, training_loss
from ris_pipeline.model import CountHead, HybridModel, Prediction
from ris_pipeline.shards import Batch
from ris_pipeline.training import Trainer

TARGETS: dict[str, Callable[..., Any]] = {
    "builder": build_effective_covariance,
    "network": HybridModel.forward,
    "k_head": CountHead.forward,
    "training_loss": training_loss,
    "covariance_nmse": covariance_nmse,
    "network_sources": network_sources,
    "music": music,
}
"""Resolved when this module is imported, so that a consumer that is swapped for another one later is missed, and its path fails."""


@dataclass(frozen=True)
class Case:
    """Options and inputs under which the paths are watched."""

    name: str
    covariance: dict[str, Any] = field(default_factory=dict)
    sample: bool = True
    noise_variance: bool = True
    hybrid: bool = False


CASES = (
    Case("as configured", hybrid=True),
    Case("shrinkage off", {"shrinkage": None}),
    Case("strong shrinkage", {"beta": 0.6, "diagonal_loading": 0.05, "shrinkage": {"base": 0.8, "minimum": 0.02, "maximum": 0.6}}),
    Case("neither loaded nor shrunk", {"diagonal_loading": 0.0, "shrinkage": None}),
    Case("beta 0", {"beta": 0.0}),
    Case("no sample", sample=False),
    Case("SNR from the label", noise_variance=False),
)


@dataclass(frozen=True)
class Received:
    """The covariance that a consumer received, over all its calls: the objects, and the gradient that came back."""

    parts: list[Any]

    @property
    def factored(self) -> bool:
        """Whether everything received is a factored covariance."""
        return bool(self.parts) and all(isinstance(part, FactoredCovariance) for part in self.parts)

    def gradients(self) -> list[Tensor | None]:
        """Gradient that reached each received factor."""
        return [part.factor.grad if part.factor.requires_grad else None for part in self.parts]


@dataclass(frozen=True)
class Watched:
    """What one case showed."""

    case: Case
    config: Config
    batch: Batch
    training: Observer
    localizations: dict[str, Observer]
    sample: Tensor | None

    def received(self, run: str, target: str, argument: str) -> Received:
        """What ``target`` received as ``argument`` in the training step or in a localization."""
        observer = self.training if run == "training" else self.localizations.get(run)
        calls = [] if observer is None else observer.of(target)
        return Received([_covariance(call, argument) for call in calls])

    def built(self, run: str) -> list[FactoredCovariance]:
        """What the builder returned in a run."""
        observer = self.training if run == "training" else self.localizations[run]
        return [call.result for call in observer.of("builder") if isinstance(call.result, FactoredCovariance)]

    def network_factor(self, run: str) -> Tensor | None:
        """The factor that the network predicted in a run; ``None`` where no prediction was observed."""
        observer = self.training if run == "training" else self.localizations[run]
        factors = [call.result.factor.detach() for call in observer.of("network") if call.result is not None]
        return torch.cat(factors) if factors else None

    @cached_property
    def true_matrix(self) -> Complex:
        """R = A diag(p) A^H from the labels, by the reference."""
        sources = self.batch.sources
        columns = {name: _real(getattr(sources, name)) for name in ("azimuth_rad", "elevation_rad", "range_m", "power")}
        return dense.true_covariance(surface_of(self.config), k=sources.k.cpu().numpy(), **columns)

    @cached_property
    def sample_matrix(self) -> Complex:
        """R_samp of the stored factor; where none is stored, of the factor that the reference computes."""
        measured, config = self.batch.measurements, self.config
        if measured.sample_factor is not None:
            return dense.outer(array_of(measured.sample_factor))
        code = dense.codes(measured.code_index.cpu().numpy(), config.codes.bits)
        arrays = (array_of(measured.snapshots), array_of(measured.channel), code)
        return dense.outer(dense.back_projected_factor(*arrays, config.back_projection.ridge))


def array_of(tensor: Tensor) -> Complex:
    """Values of a complex tensor in double precision."""
    return np.asarray(tensor.detach().resolve_conj().cpu().numpy(), dtype=np.complex128)


def _real(tensor: Tensor) -> Real:
    return np.asarray(tensor.detach().cpu().numpy(), dtype=np.float64)


def surface_of(config: Config) -> dense.Surface:
    """The surface, for the reference."""
    array = config.array
    return dense.Surface(array.n_h, array.n_v, array.spacing_m, array.wavelength_m)


def _covariance(call: Call, argument: str) -> Any:
    value = call.arguments.get(argument)
    return value.effective if argument == "prediction" and value is not None else value


def watch(case: Case, trainer: Trainer, batch: Batch) -> Watched:
    """Localize the scenes of ``batch`` by every method that uses a covariance, then take a training step on them."""
    config = trainer.config
    batch = _inputs(case, batch)
    localizations = {}
    trainer.model.eval()
    for method in ("network", "music", "hybrid") if case.hybrid else ("network", "music"):
        known = batch.sources.k if method == "hybrid" else None  # a known K spares the search for it, which is not watched here
        with Observer(TARGETS) as observer:
            localize(batch.measurements, config, method, trainer.model, known)
        localizations[method] = observer
    trainer.model.train()
    sample = batch.measurements.sample_factor
    if sample is not None:
        sample = sample.clone().requires_grad_()
    asking = Batch(replace(batch.measurements, sample_factor=sample), batch.sources, batch.symbols)
    with Observer(TARGETS, on_call=_keep_gradients) as training:
        trainer.train_step(asking)
    return Watched(case, config, batch, training, localizations, sample)


def _inputs(case: Case, batch: Batch) -> Batch:
    measurements = batch.measurements
    if not case.sample:
        measurements = replace(measurements, sample_factor=None)
    if not case.noise_variance:
        measurements = replace(measurements, noise_variance=None)
    return Batch(measurements, batch.sources, batch.symbols)


def _keep_gradients(call: Call) -> None:
    """Ask every received covariance to keep the gradient that will reach it; this changes no number."""
    if call.name == "builder":
        return
    for value in call.arguments.values():
        if isinstance(value, (FactoredCovariance, Prediction)) and value.factor.requires_grad and not value.factor.is_leaf:
            value.factor.retain_grad()
