"""How many sources: information criteria on eigenvalues, and a penalised likelihood on residuals.

Axes: B scenes, n eigenvalues, N elements, K1 = k_max + 1 hypotheses k = 0..k_max.

MDL and AIC assume T independent snapshots of one covariance of known dimension. That does not hold here: the code changes with
every snapshot, so the antennas never see one covariance, and the N x N sample covariance has rank L < N. On default scenes MDL then
gives the right count less often than chance (:mod:`.description_length` states how often, and the form of MDL that is valid). They are
offered as general functions. What counts here are likelihoods in which every snapshot has its own operator: the residuals of the
conditional one (:func:`count_from_residuals`), and the stochastic one with the power law (:mod:`.likelihood`), which counts best.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ris_pipeline.covariance import FactoredCovariance

SEARCH_CELLS = 3000.0
"""Independent places among which a search picks the highest noise peak: measured on 1,000 noise-only scenes of the default
surface, field of view and L = M = 16 (the 1 % point of the largest fall of the residual, 40.8 noise variances, is the Gamma(16)
tail at 1 % / 3100)."""

FIT_PER_SOURCE = 1.5
"""Complex degrees of freedom of a position: three real parameters."""

DIFFUSE_PARTICIPATION = 0.45
"""A covariance whose participation ratio exceeds this fraction of the snapshots is a sample covariance of projected snapshots."""

DIFFUSE_BOUNDARIES = (0.72, 0.77, 0.81, 0.86)
"""Effective rank over snapshots between 1|2|3|4|5 sources, fitted to 16,000 default scenes."""

SIGNIFICANT_SHARE = 0.02
"""Least share of the excess power that an eigenvalue of a concentrated covariance must hold to count as a source."""

SIGNIFICANT_OVER_BULK = 2.6
"""The same, relative to the eigenvalue in the middle of those that the snapshots contribute."""


def negative_log_likelihood(eigenvalues: Float[Tensor, "*B n"], snapshots: int) -> Float[Tensor, "*B n"]:
    """-log L(k) = (n - k) T log(arithmetic / geometric mean) of the n - k smallest eigenvalues, k = 0..n-1, in double precision.

    Eigenvalues below 1e-12 of the largest are taken at that level, so that rank-deficient covariances give finite scores.
    """
    values = eigenvalues.detach().double().sort(dim=-1, descending=True).values
    values = torch.maximum(values, (1e-12 * values[..., :1]).clamp_min(torch.finfo(torch.float64).tiny))
    sizes = torch.arange(values.shape[-1], 0, -1, device=values.device, dtype=torch.float64)
    tail_sum = values.flip(-1).cumsum(dim=-1).flip(-1)
    tail_log = values.log().flip(-1).cumsum(dim=-1).flip(-1)
    return snapshots * (sizes * (tail_sum / sizes).log() - tail_log)


def mdl_scores(eigenvalues: Float[Tensor, "*B n"], snapshots: int) -> Float[Tensor, "*B n"]:
    """MDL(k) = -log L(k) + k (2n - k) log(T) / 2 for k = 0..n-1. Carries no gradient.

    Source: Wax and Kailath, "Detection of signals by information theoretic criteria", IEEE TASSP 33, 1985.
    """
    scores = negative_log_likelihood(eigenvalues, snapshots)
    return scores + 0.5 * math.log(snapshots) * _free_parameters(scores)


def aic_scores(eigenvalues: Float[Tensor, "*B n"], snapshots: int) -> Float[Tensor, "*B n"]:
    """AIC(k) = -log L(k) + k (2n - k) for k = 0..n-1. Carries no gradient. Source: as :func:`mdl_scores`."""
    scores = negative_log_likelihood(eigenvalues, snapshots)
    return scores + _free_parameters(scores)


def mdl(eigenvalues: Float[Tensor, "*B n"], n_snapshots: int) -> Int[Tensor, "*B"]:
    """Source count that minimises MDL, where T snapshots share one covariance."""
    return mdl_scores(eigenvalues, n_snapshots).argmin(dim=-1)


def aic(eigenvalues: Float[Tensor, "*B n"], n_snapshots: int) -> Int[Tensor, "*B"]:
    """Source count that minimises AIC, where T snapshots share one covariance."""
    return aic_scores(eigenvalues, n_snapshots).argmin(dim=-1)


def _free_parameters(scores: Float[Tensor, "*B n"]) -> Float[Tensor, " n"]:
    n = scores.shape[-1]
    k = torch.arange(n, device=scores.device, dtype=torch.float64)
    return k * (2 * n - k)


def gamma_tail_quantile(shape: float, probability: float) -> float:
    """The t at which a Gamma(shape, 1) variable exceeds t with ``probability``: the noise energy in ``shape`` complex dimensions.

    Raises:
        ValueError: the probability is not in (0, 1).
    """
    if not 0.0 < probability < 1.0:
        raise ValueError(f"probability must be in (0, 1), got {probability}")
    degree = torch.tensor(shape, dtype=torch.float64)
    low, high = 0.0, shape + 10.0
    while float(torch.special.gammaincc(degree, torch.tensor(high, dtype=torch.float64))) > probability:
        high *= 2.0
    for _ in range(80):
        middle = 0.5 * (low + high)
        above = float(torch.special.gammaincc(degree, torch.tensor(middle, dtype=torch.float64))) > probability
        low, high = (middle, high) if above else (low, middle)
    return high


def count_from_residuals(
    rss: Float[Tensor, "B K1"],
    noise_variance: Float[Tensor, " B"] | None,
    snapshots: int,
    antennas: int,
    false_alarm: float,
    *,
    cells: float = SEARCH_CELLS,
) -> Int[Tensor, " B"]:
    """Penalised-likelihood source count: the k that minimises RSS_k / noise variance + k tau.

    tau solves cells * P(Gamma(L) > tau) = false_alarm: without any source left, adding one at a fixed place lowers RSS / noise
    variance by a Gamma(L) variable (one complex amplitude per snapshot), and the search takes the largest of about ``cells``
    such falls. So one source too many is added to a scene without further sources with probability ``false_alarm``, where the
    noise variance is known and those found are right. In terms of description length, tau pays for L complex amplitudes and
    three coordinates.

    Where the noise variance is unknown, the fall RSS_j - RSS_{j+1} is replaced by rho_j log(RSS_j / RSS_{j+1}), which has the
    same law to second order (Bartlett): rho_j = L M - j (L + 3/2) - (L + 1)/2.

    Measured on 600 default scenes (chance 0.20, detection ceiling 0.58 for a search): accuracy 0.58 with a known noise variance
    at a false-alarm rate of 0.05.

    Args:
        rss: residual sums of squares with 0..k_max sources.
        noise_variance: total noise power per complex measurement, or None.
        snapshots: L.
        antennas: M.
        false_alarm: false-alarm rate per test.
        cells: independent places of the search; grows with the aperture and the field of view.
    """
    penalty = gamma_tail_quantile(float(snapshots), min(false_alarm / cells, 0.5))
    floored = torch.maximum(rss, (1e-12 * rss[:, :1]).clamp_min(torch.finfo(rss.dtype).tiny))
    k = torch.arange(rss.shape[1], device=rss.device, dtype=rss.dtype)
    if noise_variance is None:
        freedom = snapshots * antennas - k[:-1] * (snapshots + FIT_PER_SOURCE) - 0.5 * (snapshots + 1)
        fall = freedom.clamp_min(1.0) * (floored[:, :-1] / floored[:, 1:]).log()
    else:
        variance = torch.maximum(noise_variance.to(rss), 1e-12 * floored[:, 0])
        fall = (floored[:, :-1] - floored[:, 1:]) / variance[:, None]
    score = torch.nn.functional.pad((penalty - fall).cumsum(dim=1), (1, 0))
    return score.argmin(dim=1)


def noise_variance_from_residuals(rss: Float[Tensor, "B K1"], k: Int[Tensor, " B"], snapshots: int, antennas: int) -> Float[Tensor, " B"]:
    """Noise variance RSS_k / (L M - k (L + 3/2)): each source takes L complex amplitudes and three real coordinates.

    A greedy search fits noise peaks as well, so the estimate with too large a k is low (0.6 of the truth with five sources
    fitted to one).
    """
    freedom = snapshots * antennas - k.to(rss.dtype) * (snapshots + FIT_PER_SOURCE)
    return rss.gather(1, k[:, None])[:, 0] / freedom.clamp_min(1.0)


def eigenvalue_count(covariance: FactoredCovariance, snapshots: int, *, k_max: int = 5) -> Int[Tensor, " B"]:
    """A cheap count, at least 1, from the eigenvalues of an effective covariance alone.

    The excess over the smallest eigenvalue is looked at as shares q_i of its sum, which loading and shrinkage leave alone. A
    concentrated covariance (a prediction, or a blend that it dominates) is counted by its eigenvalues that hold at least 2 %
    and stand 2.6 times above the bulk that the sample covariance contributes. A diffuse one (participation ratio 1 / sum q_i^2
    above 0.45 L) is a sample covariance of snapshots that were each projected on another M-dimensional space: every source
    spreads over all of them, and only the effective rank exp(-sum q_i log q_i) still rises with K; it is compared with fixed
    boundaries.

    Measured on 2,000 to 4,000 default scenes (chance 0.20): sample covariance 0.27, which is also what a trained network makes
    of these eigenvalues; true covariance 0.79; the truth blended with a sample of weight 0.1, 0.3, 0.5: 0.74, 0.39, 0.28.

    Args:
        covariance: effective covariance.
        snapshots: snapshots L behind its sample part.
        k_max: largest answer.
    """
    values = covariance.detach().eigenvalues()
    excess = (values - values[:, -1:]).clamp_min(0.0)
    share = excess / excess.sum(dim=-1, keepdim=True).clamp_min(torch.finfo(excess.dtype).tiny)
    diffuse = share.square().sum(dim=-1) * DIFFUSE_PARTICIPATION * snapshots < 1.0
    effective_rank = torch.special.entr(share).sum(dim=-1).exp()
    boundaries = torch.tensor(DIFFUSE_BOUNDARIES, dtype=share.dtype, device=share.device) * snapshots
    bulk = share[:, min(snapshots // 2, share.shape[1] - 1)]
    significant = share > torch.maximum(SIGNIFICANT_OVER_BULK * bulk, bulk.new_tensor(SIGNIFICANT_SHARE))[:, None]
    concentrated = significant.sum(dim=-1).clamp_min(1)
    return torch.where(diffuse, 1 + torch.bucketize(effective_rank, boundaries), concentrated).clamp_max(k_max)
