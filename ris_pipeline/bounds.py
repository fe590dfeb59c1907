"""What the data allow: Cramer-Rao bounds, the genie, and the detection of the weakest source.

Axes: B scenes, L snapshots, M antennas, K source slots, P = 3 K position parameters, source-major (azimuth, elevation, range of
the first source, then of the second, ...), in rad and m. Rows and columns of empty slots are zero.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Complex, Float
from torch import Tensor

from ris_pipeline.arrays import Sources
from ris_pipeline.config import Config
from ris_pipeline.errors import DataError
from ris_pipeline.estimators.counting import FIT_PER_SOURCE, gamma_tail_quantile
from ris_pipeline.estimators.derivatives import to_search
from ris_pipeline.estimators.likelihood import refine
from ris_pipeline.estimators.sensing import Sensing, gauss_newton, orthonormal_basis, outside, sensed_columns
from ris_pipeline.simulation import Measurements

SINGULAR = 1e-14
"""Information below this fraction of the best-known direction is taken at this level, so that bounds stay finite."""


def crb_deterministic(
    measurements: Measurements, sources: Sources, symbols: Complex[Tensor, "B L K"], config: Config
) -> Float[Tensor, "B P P"]:
    """Cramer-Rao bound with one unknown complex amplitude per source and snapshot, and a known noise variance.

    FIM = (2 / sigma^2) Re sum_l B_l^* (D_l^H P_l D_l) B_l elementwise, with the amplitudes b = sqrt(p) s, the slopes D_l = dG_l
    and the projection P_l off the atoms. Source: Stoica and Nehorai, "Performance study of conditional and unconditional
    direction-of-arrival estimation", IEEE TASSP 38, 1990.

    Args:
        measurements: channels, codes and noise variance; the snapshots are not used.
        sources: true positions and powers.
        symbols: realised symbols.
        config: the configuration.

    Raises:
        DataError: the measurements carry no noise variance.
    """
    atoms, slopes = _sensed(measurements, sources, config)
    b = _amplitudes(sources, symbols)
    return _position_bound(fisher_deterministic(atoms, slopes, b, _noise_variance(measurements)), sources)


def crb_static(measurements: Measurements, sources: Sources, symbols: Complex[Tensor, "B L K"], config: Config) -> Float[Tensor, "B P P"]:
    """Cramer-Rao bound with one unknown amplitude per source for all snapshots, ``symbols[:, 0]``, and a known noise variance.

    The deterministic bound of the L M measurements taken as a single snapshot.

    Raises:
        DataError: the measurements carry no noise variance.
    """
    atoms, slopes = _sensed(measurements, sources, config)
    b = _amplitudes(sources, symbols)[:, :1]
    stacked = fisher_deterministic(atoms.flatten(1, 2)[:, None], slopes.flatten(1, 2)[:, None], b, _noise_variance(measurements))
    return _position_bound(stacked, sources)


def crb_stochastic(measurements: Measurements, sources: Sources, config: Config) -> Float[Tensor, "B P P"]:
    """Cramer-Rao bound for uncorrelated CN(0, 1) symbols with unknown powers and noise variance; the block of the positions.

    FIM_ij = sum_l tr(R_l^-1 dR_l/di R_l^-1 dR_l/dj) with R_l = G_l diag(p) G_l^H + sigma^2 I. Source: Kay, "Fundamentals of
    statistical signal processing: estimation theory", 1993, chapter 15.

    Raises:
        DataError: the measurements carry no noise variance.
    """
    atoms, slopes = _sensed(measurements, sources, config)
    fisher = fisher_stochastic(atoms, slopes, sources.power.double() * sources.mask, _noise_variance(measurements))
    return _position_bound(fisher, sources)


def fisher_deterministic(
    atoms: Complex[Tensor, "B L M K"],
    slopes: Complex[Tensor, "B L M P"],
    amplitude: Complex[Tensor, "B L K"],
    noise_variance: Float[Tensor, " B"],
) -> Float[Tensor, "B P P"]:
    """Fisher information of the positions with the amplitudes projected out."""
    moved = outside(orthonormal_basis(atoms), slopes) * amplitude.repeat_interleave(3, dim=-1)[:, :, None, :]
    tall = torch.view_as_real(moved).permute(0, 1, 2, 4, 3).flatten(1, 3)
    return (2.0 / noise_variance)[:, None, None] * (tall.mT @ tall)


def fisher_stochastic(
    atoms: Complex[Tensor, "B L M K"],
    slopes: Complex[Tensor, "B L M P"],
    power: Float[Tensor, "B K"],
    noise_variance: Float[Tensor, " B"],
) -> Float[Tensor, "B F F"]:
    """Fisher information of positions, powers and noise variance, in this order: F = 3 K + K + 1."""
    white = torch.eye(atoms.shape[2], dtype=atoms.dtype, device=atoms.device)
    R = (atoms * power[:, None, None, :]) @ atoms.mH + noise_variance[:, None, None, None] * white
    lower = torch.linalg.cholesky(R)
    g, d = (torch.linalg.solve_triangular(lower, columns, upper=False) for columns in (atoms, slopes))
    weighted = (g * power[:, None, None, :]).repeat_interleave(3, dim=-1)
    half = torch.einsum("blmp,blnp->blpmn", d, weighted.conj())
    by_power = torch.einsum("blmk,blnk->blkmn", g, g.conj())
    inverse = torch.linalg.solve_triangular(lower, white.expand_as(lower), upper=False)
    changes = torch.cat((half + half.mH, by_power, (inverse @ inverse.mH)[:, :, None]), dim=2)
    tall = torch.view_as_real(changes).transpose(1, 2).flatten(2)
    return tall @ tall.mT


def position_std(measurements: Measurements, sources: Sources, config: Config) -> Float[Tensor, "B K 3"]:
    """Standard deviations (rad, rad, m): the deterministic bound at an estimate with its least-squares amplitudes.

    The noise variance is the measured one where it is known, else the residual over its degrees of freedom. Empty slots are 0.
    """
    sensing = Sensing.of(measurements, config)
    atoms, slopes = sensed_columns(sensing, config, _search_of(sources), sources.mask)
    model, _ = gauss_newton(atoms, slopes, sensing.snapshots)
    if measurements.noise_variance is None:
        _, snapshots, antennas = sensing.snapshots.shape
        freedom = snapshots * antennas - sources.k.double() * (snapshots + FIT_PER_SOURCE)
        noise_variance = model.value / freedom.clamp_min(1.0)
    else:
        noise_variance = measurements.noise_variance.double()
    # A noise variance of zero leaves no error; the smallest positive number stands for it.
    tiny = torch.finfo(torch.float64).tiny ** 0.5
    bound = _position_bound(model.normal * (2.0 / noise_variance.clamp_min(tiny))[:, None, None], sources)
    deviation: Tensor = bound.diagonal(dim1=-2, dim2=-1).clamp_min(0.0).sqrt()
    return deviation.reshape(*sources.azimuth_rad.shape, 3)


def genie_ml(measurements: Measurements, truth: Sources, config: Config) -> Sources:
    """The practical ceiling of localization: the likelihood search started at the truth with the true number of sources."""
    return refine(measurements, truth, config).sources


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

    T_k = sum_l |P_l g_lk^H y_l|^2 / (|P_l g_lk|^2 sigma^2), P_l projecting off the other sources, is what adding source k at
    its true position lowers the residual by. Without source k it is Gamma(L). The weakest source is the one with the smallest
    T_k; it is detected where T_k exceeds the level that noise exceeds at one of ``cells`` places with probability
    ``false_alarm``. A right count needs that, and no false alarm where another source could be added. Source: Scharf and
    Friedlander, "Matched subspace detectors", IEEE TSP 42, 1994.

    Args:
        measurements: snapshots, channels, codes and noise variance.
        truth: true positions.
        config: the configuration.
        false_alarm: rate at which a source that is not there is found.
        cells: places that a search compares; 1 when the positions are known.

    Raises:
        DataError: the measurements carry no noise variance.
    """
    sensing = Sensing.of(measurements, config)
    atoms, _ = sensed_columns(sensing, config, _search_of(truth), truth.mask)
    fall = torch.stack([_fall_of(atoms, sensing.snapshots, k) for k in range(atoms.shape[-1])], dim=-1)
    statistic = fall / _noise_variance(measurements)[:, None]
    weakest = torch.where(truth.mask, statistic, torch.inf).amin(dim=1)
    detected = weakest > gamma_tail_quantile(float(sensing.snapshots.shape[1]), false_alarm / cells)
    quiet = torch.where(truth.k < config.scene.k_max, 1.0 - false_alarm, 1.0).double()
    return DetectionBound(detected, detected * quiet)


def _fall_of(atoms: Complex[Tensor, "B L M K"], data: Complex[Tensor, "B L M"], k: int) -> Float[Tensor, " B"]:
    """Fall of the residual when source k joins all others."""
    others = [j for j in range(atoms.shape[-1]) if j != k]
    last = orthonormal_basis(atoms[..., [*others, k]])[..., -1]
    return (last.conj() * data).sum(dim=-1).abs().square().sum(dim=-1)


def _search_of(sources: Sources) -> Float[Tensor, "B K 3"]:
    return to_search(torch.where(sources.mask[..., None], sources.position.double(), 1.0))


def _sensed(measurements: Measurements, sources: Sources, config: Config) -> tuple[Complex[Tensor, "B L M K"], Complex[Tensor, "B L M P"]]:
    return sensed_columns(Sensing.of(measurements, config), config, _search_of(sources), sources.mask)


def _amplitudes(sources: Sources, symbols: Complex[Tensor, "B L K"]) -> Complex[Tensor, "B L K"]:
    return symbols.to(torch.complex128) * (sources.power.double().sqrt() * sources.mask)[:, None, :]


def _noise_variance(measurements: Measurements) -> Float[Tensor, " B"]:
    if measurements.noise_variance is None:
        raise DataError("a bound needs the noise variance of the measurements, got none")
    return measurements.noise_variance.double()


def _position_bound(fisher: Float[Tensor, "B F F"], sources: Sources) -> Float[Tensor, "B P P"]:
    """Position block of the inverse, from (azimuth, elevation, inverse range) to (azimuth, elevation, range): dr = -r^2 d(1/r)."""
    search = _search_of(sources)
    scale = torch.stack((*torch.ones_like(search[..., :2]).unbind(-1), -search[..., 2].square().reciprocal()), dim=-1)
    scale = (scale * sources.mask[..., None]).flatten(1)
    size = scale.shape[-1]
    return _inverse(fisher)[:, :size, :size] * scale[:, :, None] * scale[:, None, :]


def _inverse(information: Float[Tensor, "B F F"]) -> Float[Tensor, "B F F"]:
    """Inverse of a positive semidefinite matrix with unit-free scaling; parameters without any information are left out (0)."""
    curvature = information.diagonal(dim1=-2, dim2=-1)
    known = curvature > 0.0
    scale = torch.where(known, curvature, 1.0).rsqrt() * known
    empty = torch.diag_embed(~known)
    scaled = torch.where(empty, 1.0, information * scale[:, :, None] * scale[:, None, :])
    values, vectors = torch.linalg.eigh(scaled)
    gain = torch.maximum(values, SINGULAR * values[:, -1:]).reciprocal()
    inverse: Tensor = (vectors * gain[:, None, :]) @ vectors.mT * scale[:, :, None] * scale[:, None, :]
    return inverse
