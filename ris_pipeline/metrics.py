"""Count and localization metrics, and the composite score that selects models.

Axes: B scenes, K source slots, P permutations. Pure functions score each scene; :func:`aggregate` reduces scenes to figures, so that
bins and bootstrap intervals are aggregates of subsets of the same scores.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from functools import lru_cache

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ris_pipeline.arrays import Sources
from ris_pipeline.config import SelectionConfig
from ris_pipeline.errors import IncompleteError


@dataclass(frozen=True)
class SceneScores:
    """What each scene contributes to the metrics. Errors are absolute, in degrees, degrees and metres."""

    k: Int[Tensor, " B"]
    k_hat: Int[Tensor, " B"]
    clipped_error: Float[Tensor, "B K 3"]
    matched_error: Float[Tensor, "B K 3"]
    located: Int[Tensor, " B"]
    success: Bool[Tensor, " B"]
    ospa: Float[Tensor, " B"]

    def __getitem__(self, index: Tensor | slice) -> SceneScores:
        return SceneScores(*(getattr(self, f.name)[index] for f in fields(self)))

    @classmethod
    def cat(cls, parts: Sequence[SceneScores]) -> SceneScores:
        """Join the scores of several batches."""
        return cls(*(torch.cat([getattr(part, f.name) for part in parts]) for f in fields(cls)))

    def __len__(self) -> int:
        return self.k.shape[0]


@dataclass(frozen=True)
class Metrics:
    """Metrics of a set of scenes; definitions in DESIGN section 4. Medians are NaN when no source was matched."""

    k_acc: float
    k_under: float
    k_over: float
    azimuth_rmse_deg: float
    elevation_rmse_deg: float
    range_rmse_m: float
    azimuth_median_deg: float
    elevation_median_deg: float
    range_median_m: float
    success_rate: float
    source_success_rate: float
    ospa: float

    def as_dict(self) -> dict[str, float]:
        """Names and values."""
        return asdict(self)


@lru_cache(maxsize=8)
def permutations(k: int) -> Int[Tensor, "P K"]:
    """All orders of k slots, k <= 8."""
    return torch.tensor(list(itertools.permutations(range(k))))


def best_permutation(cost: Float[Tensor, "B K K"]) -> Int[Tensor, "B K"]:
    """Column assigned to each row by the cheapest one-to-one assignment, by enumeration (K <= 8)."""
    orders = permutations(cost.shape[-1]).to(cost.device)
    rows = torch.arange(cost.shape[-1], device=cost.device)
    return orders[cost[:, rows, orders].sum(dim=-1).argmin(dim=1)]


def assign(cost: Float[Tensor, "B K K"], rows: Bool[Tensor, "B K"], columns: Bool[Tensor, "B K"]) -> Int[Tensor, "B K"]:
    """Cheapest assignment that pairs as many valid rows with valid columns as there can be; returns the column of each row."""
    padding = 1.0 + 2.0 * cost.shape[-1] * cost.detach().abs().amax()
    both = rows[:, :, None] & columns[:, None, :]
    neither = ~rows[:, :, None] & ~columns[:, None, :]
    return best_permutation(torch.where(both, cost, torch.where(neither, 0.0, padding)))


def score_scenes(estimate: Sources, truth: Sources, config: SelectionConfig) -> SceneScores:
    """Score each scene.

    Sources are matched by optimal assignment on (d azimuth/norm)^2 + (d elevation/norm)^2 + (d range/norm)^2; each error is clipped; a
    missed source counts as the clip. A source is located when all three errors are within the success limits. OSPA has order 2, the
    same normalised distance, and the largest of the clip-to-norm ratios as its cut-off.

    Raises:
        IncompleteError: an estimated position is not finite.
    """
    slots = max(estimate.azimuth_rad.shape[1], truth.azimuth_rad.shape[1])
    estimated, true = _position_in_norm_units(estimate, slots), _position_in_norm_units(truth, slots)
    estimate_mask, true_mask = _padded_mask(estimate, slots), _padded_mask(truth, slots)
    if not torch.isfinite(estimated).all():
        raise IncompleteError("a metric could not be computed: an estimated position is not finite")
    units = estimated.new_tensor((config.azimuth_norm_deg, config.elevation_norm_deg, config.range_norm_m))
    clips = estimated.new_tensor((config.azimuth_clip_deg, config.elevation_clip_deg, config.range_clip_m))
    limits = estimated.new_tensor((config.azimuth_success_deg, config.elevation_success_deg, config.range_success_m))
    error = (true[:, :, None] - estimated[:, None]).abs()
    cost = (error / units).square().sum(dim=-1)
    column = assign(cost, true_mask, estimate_mask)
    paired = error.take_along_dim(column[:, :, None, None], dim=2).squeeze(2)
    matched = true_mask & estimate_mask.take_along_dim(column, dim=1)
    clipped = torch.where(matched[..., None], torch.minimum(paired, clips), clips) * true_mask[..., None]
    located = (matched & (paired <= limits).all(dim=-1)).sum(dim=1)
    return SceneScores(
        k=truth.k,
        k_hat=estimate.k,
        clipped_error=clipped,
        matched_error=torch.where(matched[..., None], paired, math.nan),
        located=located,
        success=(estimate.k == truth.k) & (located == truth.k),
        ospa=_ospa(cost, true_mask, estimate_mask, cutoff=float((clips / units).max())),
    )


def aggregate(scores: SceneScores) -> Metrics:
    """Reduce scenes to metrics.

    Raises:
        IncompleteError: there are no scenes or no true sources, so that nothing can be computed.
    """
    sources = int(scores.k.sum())
    if len(scores) == 0 or sources == 0:
        raise IncompleteError(f"metrics could not be computed from {len(scores)} scenes with {sources} sources")
    rmse = (scores.clipped_error.square().sum(dim=(0, 1)) / sources).sqrt().tolist()
    median = scores.matched_error.flatten(0, 1).nanmedian(dim=0).values.tolist()
    return Metrics(
        k_acc=_share(scores.k_hat == scores.k),
        k_under=_share(scores.k_hat < scores.k),
        k_over=_share(scores.k_hat > scores.k),
        azimuth_rmse_deg=rmse[0],
        elevation_rmse_deg=rmse[1],
        range_rmse_m=rmse[2],
        azimuth_median_deg=median[0],
        elevation_median_deg=median[1],
        range_median_m=median[2],
        success_rate=_share(scores.success),
        source_success_rate=float(scores.located.sum() / torch.maximum(scores.k, scores.k_hat).sum()),
        ospa=float(scores.ospa.mean()),
    )


def selection_score(metrics: Metrics, config: SelectionConfig) -> float:
    """Composite score, lower is better: (1 - k_acc) + azimuth_rmse/norm + elevation_rmse/norm + range_rmse/norm - success_rate.

    Raises:
        IncompleteError: one of its metrics is not finite; there is no fallback.
    """
    score = (
        (1.0 - metrics.k_acc)
        + metrics.azimuth_rmse_deg / config.azimuth_norm_deg
        + metrics.elevation_rmse_deg / config.elevation_norm_deg
        + metrics.range_rmse_m / config.range_norm_m
        - metrics.success_rate
    )
    if not math.isfinite(score):
        raise IncompleteError(f"the composite score could not be computed from {metrics}")
    return score


def _position_in_norm_units(sources: Sources, slots: int) -> Float[Tensor, "B K 3"]:
    """Positions in degrees, degrees and metres, padded to ``slots``."""
    degrees = torch.rad2deg(sources.position[..., :2].double())
    position = torch.cat((degrees, sources.position[..., 2:].double()), dim=-1)
    return torch.nn.functional.pad(position, (0, 0, 0, slots - position.shape[1]))


def _padded_mask(sources: Sources, slots: int) -> Bool[Tensor, "B K"]:
    return torch.arange(slots, device=sources.k.device) < sources.k[:, None]


def _ospa(cost: Float[Tensor, "B K K"], rows: Bool[Tensor, "B K"], columns: Bool[Tensor, "B K"], cutoff: float) -> Float[Tensor, " B"]:
    """Optimal sub-pattern assignment metric of order 2 (Schuhmacher, Vo, Vo, IEEE TSP 56(8), 2008); 0 for two empty sets."""
    both = rows[:, :, None] & columns[:, None, :]
    neither = ~rows[:, :, None] & ~columns[:, None, :]
    penalty = torch.where(both, cost.clamp_max(cutoff**2), torch.where(neither, 0.0, cutoff**2))
    cheapest = penalty.take_along_dim(best_permutation(penalty)[:, :, None], dim=2).sum(dim=(1, 2))
    largest = torch.maximum(rows.sum(dim=1), columns.sum(dim=1)).clamp_min(1)
    return (cheapest / largest).sqrt()


def _share(hit: Bool[Tensor, " B"]) -> float:
    return float(hit.double().mean())
