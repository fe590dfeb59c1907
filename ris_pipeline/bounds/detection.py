"""The genie, and matched-subspace detection of the weakest source: ceilings of localization and of the source count.

Axes: B scenes, L snapshots, M antennas, K source slots.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ris_pipeline.arrays import Sources
from ris_pipeline.bounds.cramer_rao import evidence, known_noise_variance, sensed_sources
from ris_pipeline.config import Config
from ris_pipeline.estimators.conditional import refine
from ris_pipeline.estimators.counting import gamma_tail_quantile
from ris_pipeline.estimators.likelihood import refine_stochastic
from ris_pipeline.simulation import Measurements


def genie_ml(measurements: Measurements, truth: Sources, config: Config) -> Sources:
    """The practical ceiling of localization: the conditional likelihood search started at the truth with the true number of sources.

    A search from nowhere may do better where it knows more: the conditional likelihood does not know the power law.
    """
    return refine(measurements, truth, config).sources


def genie_stochastic(measurements: Measurements, truth: Sources, config: Config) -> Sources:
    """The ceiling of ``ml``: the stochastic likelihood with the power law, started at the truth with the true number of sources.

    Raises:
        DataError: the measurements carry no noise variance.
    """
    known_noise_variance(measurements)
    return refine_stochastic(measurements, truth, config).sources


@dataclass(frozen=True)
class DetectionBound:
    """Ceiling of the source count: whether the weakest source was detected, and the probability of a right count per scene."""

    detected: Bool[Tensor, " B"]
    correct: Float[Tensor, " B"]

    @property
    def k_acc(self) -> float:
        """Expected fraction of scenes with the right count."""
        return float(self.correct.mean())


def detection_bound(
    measurements: Measurements, truth: Sources, config: Config, *, false_alarm: float, cells: float = 1.0
) -> DetectionBound:
    """Matched-subspace detection of the weakest source with all other sources known.

    The weakest source is the one with the smallest T_k = :func:`~ris_pipeline.bounds.cramer_rao.evidence`; it is detected where T_k
    exceeds the level that noise exceeds at one of ``cells`` places with probability ``false_alarm``. A right count needs that, and
    no false alarm where another source could be added.

    Args:
        measurements: snapshots, channels, codes and noise variance.
        truth: true positions.
        config: the configuration.
        false_alarm: rate at which a source that is not there is found.
        cells: places that a search compares; 1 when the positions are known.

    Raises:
        DataError: the measurements carry no noise variance.
    """
    atoms, _ = sensed_sources(measurements, truth, config)
    snapshots = measurements.snapshots.to(torch.complex128)
    statistic = evidence(atoms, snapshots, known_noise_variance(measurements))
    weakest = torch.where(truth.mask, statistic, torch.inf).amin(dim=1)
    detected = weakest > gamma_tail_quantile(float(snapshots.shape[1]), false_alarm / cells)
    quiet = 1.0 - false_alarm * (truth.k < config.scene.k_max).double()
    return DetectionBound(detected, detected * quiet)
