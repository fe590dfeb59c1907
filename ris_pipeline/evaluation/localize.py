"""From measurements to sources, by any method: what ``ris localize``, ``ris evaluate`` and validation share."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ris_pipeline.arrays import Sources
from ris_pipeline.back_projection import with_sample_factor
from ris_pipeline.config import Config
from ris_pipeline.covariance import FactoredCovariance, build_effective_covariance
from ris_pipeline.errors import ConfigError, nearest_name
from ris_pipeline.estimators import (
    Refined,
    bartlett,
    eigenvalue_count,
    estimate_noise_variance,
    maximum_likelihood,
    modified_music,
    music,
    mvdr,
    omp,
    refine,
)
from ris_pipeline.model import HybridModel, Prediction, shrinkage_of, snr_of
from ris_pipeline.simulation import Measurements

NETWORK_METHODS = ("hybrid", "network")
SEARCH_METHODS = ("hybrid", "ml")
SPECTRAL_METHODS = ("music", "modified-music", "mvdr", "bartlett")
"""Methods that read the sample covariance alone."""
METHODS = (*NETWORK_METHODS, *SPECTRAL_METHODS, "omp", "ml")
"""Every method, the default first."""
SUBSPACE_METHODS = ("network", "music", "modified-music", "mvdr", "bartlett")
"""Methods whose positions rest on sources that are not coherent."""

_LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True)
class Estimates:
    """Estimated sources and the confidence of their count: the K-head's largest probability, NaN for methods without one."""

    sources: Sources
    k_confidence: Float[Tensor, " B"]


@torch.no_grad()
def localize(
    measurements: Measurements,
    config: Config,
    method: str,
    model: HybridModel | None = None,
    k: Int[Tensor, " B"] | None = None,
) -> Estimates:
    """Count and localize the sources of B scenes.

    ``network`` takes the network's own outputs. The spectral methods read the sample covariance; their powers are those of the
    back-projected field, about M/N of the power on the surface. ``omp`` and ``ml`` read the snapshots and need no network. ``hybrid``
    also refines proposals of the network and of MUSIC on the effective covariance, and keeps the likeliest.

    Args:
        measurements: what the receiver knows. A missing noise variance is estimated; a missing sample factor is computed for ``music``
            and for a network that was trained with one.
        config: grids, thresholds and covariance options.
        method: one of :data:`METHODS`.
        model: the network, for ``network`` and ``hybrid``.
        k: number of sources where it is known; counted otherwise.

    Raises:
        ConfigError: the method is unknown.
    """
    measurements = with_noise_variance(measurements, config)
    if method in NETWORK_METHODS:
        assert model is not None
        return _network(measurements, config, model, k) if method == "network" else _hybrid(measurements, config, model, k)
    if method in SPECTRAL_METHODS:
        return _without_confidence(_spectral(measurements, config, method, k))
    if method == "omp":
        return _without_confidence(omp(measurements, config, k))
    if method == "ml":
        return _without_confidence(maximum_likelihood(measurements, config, k).sources)
    raise ConfigError(f"unknown method {method!r}, expected one of {', '.join(METHODS)}{nearest_name(method, METHODS)}")


def warn_of_coherent_sources(config: Config, methods: Iterable[str]) -> None:
    """Log one sentence where ``scene.symbols = "static"`` makes all sources coherent and a method rests on the opposite.

    The measurements do not say it: the configuration does.
    """
    affected = [method for method in methods if method in SUBSPACE_METHODS]
    if config.scene.symbols == "static" and affected:
        _LOGGER.warning(
            "scene.symbols = static makes the sources coherent, which %s cannot resolve reliably; expected one of hybrid, ml, omp",
            ", ".join(affected),
        )


def with_noise_variance(measurements: Measurements, config: Config) -> Measurements:
    """Fill in the noise variance: from the SNR where it is stated, else from the residual of a likelihood fit."""
    if measurements.noise_variance is not None:
        return measurements
    if measurements.snr_db is not None:
        power = measurements.snapshots.abs().square().mean(dim=(1, 2)).double()
        return replace(measurements, noise_variance=power / (1.0 + 10.0 ** (measurements.snr_db / 10.0)))
    return replace(measurements, noise_variance=estimate_noise_variance(measurements, config))


def sample_covariance(measurements: Measurements, config: Config) -> FactoredCovariance:
    """Effective covariance of the sample alone, with loading and shrinkage as configured: what the spectral methods read."""
    factor = with_sample_factor(measurements, config).sample_factor
    assert factor is not None
    options = config.covariance
    return build_effective_covariance(
        FactoredCovariance.from_factor(factor),
        diagonal_loading=options.diagonal_loading,
        shrinkage=shrinkage_of(options),
        snr_db=snr_of(measurements),
    )


def network_sources(
    model: HybridModel, prediction: Prediction, config: Config, k: Int[Tensor, " B"] | None = None
) -> tuple[Sources, Float[Tensor, " B"]]:
    """The network's own estimate and its confidence: K gated by the eigenvalue rule, positions from its best slots; no search.

    Where the K-head's largest probability is below ``estimate.k_conf_thresh``, the eigenvalues of the effective covariance decide. A
    known ``k`` replaces both.
    """
    probability, best = torch.softmax(prediction.k_logits.float(), dim=1).max(dim=1)
    if k is None:
        counted = eigenvalue_count(prediction.effective, config.codes.snapshots, k_max=config.scene.k_max)
        k = torch.where(probability >= config.estimate.k_conf_thresh, best + 1, counted)
    return model.sources(prediction, k), probability


def network_input(measurements: Measurements, model: HybridModel, config: Config) -> Measurements:
    """Measurements with a sample factor if, and only if, the network was trained with one: it is not the same network without."""
    if not model.config.data.store_sample:
        return replace(measurements, sample_factor=None)
    return with_sample_factor(measurements, config)


def _spectral(measurements: Measurements, config: Config, method: str, k: Int[Tensor, " B"] | None) -> Sources:
    """Peaks of one spectrum of the sample covariance, powers on its unscaled level; its eigenvalues count."""
    measurements = with_sample_factor(measurements, config)
    covariance = sample_covariance(measurements, config)
    if k is None:
        k = eigenvalue_count(covariance, config.codes.snapshots, k_max=config.scene.k_max)
    sources = _peaks(covariance, k, config, method)
    assert measurements.sample_factor is not None
    level = FactoredCovariance.from_factor(measurements.sample_factor).trace() / config.array.n_elements
    return replace(sources, power=sources.power * level[:, None])


def _peaks(covariance: FactoredCovariance, k: Int[Tensor, " B"], config: Config, method: str) -> Sources:
    if method == "music":
        return music(covariance, k, config)
    if method == "modified-music":
        return modified_music(covariance, k, config)
    if method == "mvdr":
        return mvdr(covariance, k, config)
    return bartlett(covariance, k, config)


def _network(measurements: Measurements, config: Config, model: HybridModel, k: Int[Tensor, " B"] | None) -> Estimates:
    return Estimates(*network_sources(model, model(network_input(measurements, model, config)), config, k))


def _hybrid(measurements: Measurements, config: Config, model: HybridModel, k: Int[Tensor, " B"] | None) -> Estimates:
    """The K-head counts where it is confident, the penalised likelihood elsewhere; the likeliest of three fits gives the positions."""
    prediction = model(network_input(measurements, model, config))
    probability, best = torch.softmax(prediction.k_logits.float(), dim=1).max(dim=1)
    searched = maximum_likelihood(measurements, config, k)
    if k is None:
        # Below one source there is nothing to propose; the network never answers 0 either.
        counted = searched.sources.k.clamp_min(1)
        k = torch.where(probability >= config.estimate.hybrid_conf_thresh, best + 1, counted)
    starts = (searched.at(k), model.sources(prediction, k), music(prediction.effective, k, config))
    return Estimates(_likeliest([refine(measurements, start, config) for start in starts]), probability)


def _likeliest(fits: list[Refined]) -> Sources:
    """Scene by scene, the fit with the smallest residual."""
    winner = torch.stack([fit.rss for fit in fits]).argmin(dim=0)
    position = torch.stack([fit.sources.position for fit in fits])
    power = torch.stack([fit.sources.power for fit in fits])
    scene = torch.arange(len(winner), device=winner.device)
    return Sources.from_position(position[winner, scene], power[winner, scene], fits[0].sources.k)


def _without_confidence(sources: Sources) -> Estimates:
    return Estimates(sources, torch.full(sources.k.shape, torch.nan, device=sources.k.device))
