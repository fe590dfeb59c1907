"""Counting rules side by side, on the same scenes.

Axes: B scenes, K1 = k_max + 1 hypotheses k = 0..k_max. Rules on residuals see one greedy likelihood search; ``mdl`` and ``aic`` are the
forms that hold here (``estimators.description_length``). The textbook forms on eigenvalues are shown beside them because they are often
used on such data, where their model does not hold: the code changes with every snapshot.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ris_pipeline.config import Config
from ris_pipeline.covariance import FactoredCovariance
from ris_pipeline.estimators import aic, count_from_residuals, eigenvalue_count, mdl
from ris_pipeline.estimators.description_length import aic_from_residuals, mdl_from_residuals
from ris_pipeline.evaluation.localize import network_input, network_sources, sample_covariance
from ris_pipeline.model import HybridModel
from ris_pipeline.simulation import Measurements

RULES = {
    "penalised_likelihood": "penalised likelihood on residuals (false-alarm rate `estimate.false_alarm`)",
    "penalised_likelihood_unknown_noise": "the same, noise variance unknown",
    "mdl": "MDL on residuals",
    "mdl_unknown_noise": "MDL on residuals, noise variance unknown",
    "aic": "AIC on residuals",
    "k_head": "K-head of the network",
    "k_head_gated": "K-head where confident, eigenvalue rule elsewhere (`network`)",
    "eigenvalue": "eigenvalue rule on the sample covariance (`music`)",
    "mdl_sample_covariance": "textbook MDL on the sample covariance (model does not hold)",
    "aic_sample_covariance": "textbook AIC on the sample covariance (model does not hold)",
    "mdl_antenna_covariance": "textbook MDL on the antennas' covariance (model does not hold)",
}
"""Every rule, in the order of the tables."""


def residual_counts(rss: Float[Tensor, "B K1"], measurements: Measurements, config: Config) -> dict[str, Int[Tensor, " B"]]:
    """Counts from the residuals of a likelihood search with 0..k_max sources."""
    _, snapshots, antennas = measurements.snapshots.shape
    noise, false_alarm = measurements.noise_variance, config.estimate.false_alarm
    return {
        "penalised_likelihood": count_from_residuals(rss, noise, snapshots, antennas, false_alarm),
        "penalised_likelihood_unknown_noise": count_from_residuals(rss, None, snapshots, antennas, false_alarm),
        "mdl": mdl_from_residuals(rss, noise, snapshots, antennas),
        "mdl_unknown_noise": mdl_from_residuals(rss, None, snapshots, antennas),
        "aic": aic_from_residuals(rss, noise, snapshots, antennas),
    }


def covariance_counts(measurements: Measurements, config: Config) -> dict[str, Int[Tensor, " B"]]:
    """Counts from eigenvalues, at most k_max: of the sample covariance on the surface, and of the antennas' covariance."""
    snapshots, k_max = measurements.snapshots.shape[1], config.scene.k_max
    covariance = sample_covariance(measurements, config)
    on_surface = covariance.eigenvalues()
    data = measurements.snapshots.to(torch.complex128).mT / snapshots**0.5
    at_antennas = FactoredCovariance.from_factor(data).eigenvalues()
    return {
        "eigenvalue": eigenvalue_count(covariance, snapshots, k_max=k_max),
        "mdl_sample_covariance": mdl(on_surface, snapshots).clamp_max(k_max),
        "aic_sample_covariance": aic(on_surface, snapshots).clamp_max(k_max),
        "mdl_antenna_covariance": mdl(at_antennas, snapshots).clamp_max(k_max),
    }


@torch.no_grad()
def network_counts(model: HybridModel, measurements: Measurements, config: Config) -> dict[str, Int[Tensor, " B"]]:
    """Counts of the K-head alone, and gated by its confidence as ``network`` does."""
    prediction = model(network_input(measurements, model, config))
    gated, _ = network_sources(model, prediction, config)
    return {"k_head": prediction.k_logits.argmax(dim=1) + 1, "k_head_gated": gated.k}


def confusion(k: Int[Tensor, " B"], k_hat: Int[Tensor, " B"], config: Config) -> dict[str, Any]:
    """How often k sources were counted as k_hat: one row per k in k_min..k_max, one column per k_hat in 0..k_max."""
    rows = list(range(config.scene.k_min, config.scene.k_max + 1))
    columns = list(range(config.scene.k_max + 1))
    scenes = [torch.bincount(k_hat[k == row], minlength=len(columns)).tolist() for row in rows]
    return {"k": rows, "k_hat": columns, "scenes": scenes}
