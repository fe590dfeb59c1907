"""Loss terms of the training step; each is non-negative, named, weighted by configuration and reported.

Axes: B scenes, K slots, N elements, A azimuth cells, E elevation cells. Every term is a mean over scenes or true sources, so that its
size does not depend on the batch.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from ris_pipeline.arrays import Sources, steering_vector
from ris_pipeline.config import Config, LossConfig
from ris_pipeline.covariance import FactoredCovariance, build_effective_covariance
from ris_pipeline.metrics import assign
from ris_pipeline.model.features import cell_index
from ris_pipeline.model.network import Prediction, shrinkage_of

TERMS = ("covariance", "k", "position", "score", "steering")
_SCORE_WIDTH_CELLS = 0.7


@dataclass(frozen=True)
class LossTerms:
    """Unweighted values of :data:`TERMS` and their weighted sum, as scalars on the device."""

    values: Float[Tensor, " terms"]
    total: Float[Tensor, ""]


def training_loss(
    prediction: Prediction,
    predicted: FactoredCovariance,
    truth: FactoredCovariance,
    sources: Sources,
    snr_db: Float[Tensor, " B"] | None,
    config: Config,
) -> LossTerms:
    """All terms of a batch.

    Args:
        prediction: output of the network.
        predicted, truth: blends of prediction and truth with the same sample and weight, neither loaded nor shrunk; the same loading and
            shrinkage is applied to both here.
        sources: the true sources.
        snr_db: SNR per scene, needed when shrinkage is on.
        config: weights, loading and shrinkage.
    """
    options = config.covariance
    law, loading = shrinkage_of(options), options.diagonal_loading
    effective = build_effective_covariance(predicted, diagonal_loading=loading, shrinkage=law, snr_db=snr_db)
    target = build_effective_covariance(truth, diagonal_loading=loading, shrinkage=law, snr_db=snr_db)
    slot = match_slots(prediction.position, sources, config)
    values = torch.stack(
        (
            covariance_nmse(effective, target),
            count_loss(prediction.k_logits, sources.k, config.loss.under_cost),
            position_loss(prediction.position, sources, slot, config),
            score_loss(prediction.score_map, sources, config),
            steering_loss(prediction.position, sources, slot, config),
        )
    )
    return LossTerms(values, (values * term_weights(config.loss, values)).sum())


def term_weights(loss: LossConfig, like: Tensor) -> Float[Tensor, " terms"]:
    """Weights of :data:`TERMS`, in that order."""
    return like.new_tensor((loss.covariance, loss.k, loss.position, loss.score, loss.steering))


def covariance_nmse(predicted: FactoredCovariance, truth: FactoredCovariance) -> Float[Tensor, ""]:
    r"""Mean of \|R_predicted - R_true\|_F^2 / \|R_true\|_F^2; both come from the builder."""
    return (predicted.squared_distance(truth) / truth.inner(truth)).mean().float()


def count_loss(k_logits: Float[Tensor, "B K"], k: Int[Tensor, " B"], under_cost: float) -> Float[Tensor, ""]:
    """Cross-entropy -log P(K) plus (under_cost - 1) times -log P(count >= K); logit i stands for i + 1 sources."""
    log_probability = functional.log_softmax(k_logits, dim=1)
    target = (k - 1)[:, None]
    enough = torch.arange(k_logits.shape[1], device=k.device) >= target
    log_enough = torch.logsumexp(log_probability.masked_fill(~enough, -torch.inf), dim=1)
    exact = log_probability.gather(1, target).squeeze(1)
    return (-exact - (under_cost - 1.0) * log_enough.clamp_max(0.0)).mean()


def match_slots(position: Float[Tensor, "B K 3"], sources: Sources, config: Config) -> Int[Tensor, "B K"]:
    """Slot assigned to each true source: the cheapest assignment on normalised squared errors, without gradient."""
    error = _error_in_norms(position[:, None], sources.position[:, :, None], config)
    every_slot = torch.ones_like(sources.mask)
    return assign(error.detach().square().sum(dim=-1), sources.mask, every_slot)


def position_loss(position: Float[Tensor, "B K 3"], sources: Sources, slot: Int[Tensor, "B K"], config: Config) -> Float[Tensor, ""]:
    """Mean over true sources and coordinates of log(1 + e^2/2), e the error over its norm: robust, with gradient everywhere."""
    error = _error_in_norms(position.take_along_dim(slot[..., None], dim=1), sources.position, config)
    return _source_mean(torch.log1p(0.5 * error.square()).mean(dim=-1), sources)


def steering_loss(position: Float[Tensor, "B K 3"], sources: Sources, slot: Int[Tensor, "B K"], config: Config) -> Float[Tensor, ""]:
    """Mean over true sources of 1 - |a^H a_predicted|^2 / N^2: what the covariance loses by a wrong position."""
    predicted = steering_vector(config.array, *position.take_along_dim(slot[..., None], dim=1).unbind(dim=-1))
    range_m = torch.where(sources.mask, sources.range_m, config.scene.range_max_m)
    true = steering_vector(config.array, sources.azimuth_rad, sources.elevation_rad, range_m)
    overlap = torch.view_as_real((true.conj() * predicted).mean(dim=-1)).square().sum(dim=-1)
    return _source_mean((1.0 - overlap).clamp_min(0.0), sources)


def score_loss(score_map: Float[Tensor, "B A E"], sources: Sources, config: Config) -> Float[Tensor, ""]:
    """Penalty-reduced focal loss of the cells' scores, per true source.

    The cell that holds a source is positive; its neighbours are negatives whose weight (1 - y)^4 falls with their closeness y. (Law and
    Deng, "CornerNet", ECCV 2018.)
    """
    target, positive = _score_target(score_map, sources, config)
    log_on, log_off = functional.logsigmoid(score_map), functional.logsigmoid(-score_map)
    hit = -(log_off.exp().square() * log_on)
    miss = -((1.0 - target) ** 4 * log_on.exp().square() * log_off)
    return torch.where(positive, hit, miss).sum() / sources.k.sum().clamp_min(1)


def _score_target(score_map: Tensor, sources: Sources, config: Config) -> tuple[Tensor, Tensor]:
    """Closeness of each cell to the nearest true source, and whether the cell holds one: [B, A, E] each."""
    scene, (cells_a, cells_e) = config.scene, score_map.shape[1:]
    limits = (scene.azimuth_max_rad, scene.elevation_max_rad)
    squared, inside = score_map.new_zeros(()), torch.ones((), dtype=torch.bool, device=score_map.device)
    for value, limit, count, shape in (
        (sources.azimuth_rad, limits[0], cells_a, (1, 1, cells_a, 1)),
        (sources.elevation_rad, limits[1], cells_e, (1, 1, 1, cells_e)),
    ):
        cells = torch.arange(count, device=score_map.device).view(shape)
        at = ((value / limit + 1.0) * (count / 2) - 0.5)[:, :, None, None]
        squared = squared + (cells - at).square()
        inside = inside & (cells == cell_index(value, limit, count)[:, :, None, None])
    mask = sources.mask[:, :, None, None]
    closeness = torch.where(mask, torch.exp(-squared / (2.0 * _SCORE_WIDTH_CELLS**2)), 0.0).amax(dim=1)
    return closeness, (inside & mask).any(dim=1)


def _error_in_norms(position: Tensor, truth: Tensor, config: Config) -> Tensor:
    """Coordinate errors over the norms of the composite score (degrees, degrees, metres)."""
    norms = config.metrics
    difference = position - truth
    degrees = torch.rad2deg(difference[..., :2]) / difference.new_tensor((norms.azimuth_norm_deg, norms.elevation_norm_deg))
    return torch.cat((degrees, difference[..., 2:] / norms.range_norm_m), dim=-1)


def _source_mean(value: Float[Tensor, "B K"], sources: Sources) -> Float[Tensor, ""]:
    return (value * sources.mask).sum() / sources.k.sum().clamp_min(1)
