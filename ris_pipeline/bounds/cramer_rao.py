"""Cramer-Rao bounds of sources behind the surface.

Axes: B scenes, L snapshots, M antennas, K source slots, P = 3 K position parameters, source-major (azimuth, elevation, range of
the first source, then of the second, ...), in rad and m. Rows and columns of empty slots are zero.

Four models of the symbols give four bounds. Where every snapshot had the same operator, the one for an unknown amplitude per snapshot
(taken with the expected source covariance) would never exceed the one for Gaussian symbols of unrestricted covariance (Stoica and
Nehorai, 1990). Here the code changes with every snapshot while the source covariance does not, so that the power received through
known codes also carries position, which free amplitudes cannot use: neither bounds the other. Knowing more never costs: static below
one amplitude per snapshot where the symbols are static, uncorrelated below unrestricted.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Complex, Float
from torch import Tensor

from ris_pipeline.arrays import Sources
from ris_pipeline.bounds.fisher import (
    bound_of,
    diagonal_basis,
    fisher_deterministic,
    fisher_deterministic_expected,
    fisher_stochastic,
    hermitian_basis,
)
from ris_pipeline.config import Config
from ris_pipeline.errors import DataError
from ris_pipeline.estimators.counting import FIT_PER_SOURCE
from ris_pipeline.estimators.derivatives import to_search
from ris_pipeline.estimators.sensing import Sensing, gauss_newton, orthonormal_basis, sensed_columns
from ris_pipeline.simulation import Measurements


def crb_deterministic(
    measurements: Measurements, sources: Sources, symbols: Complex[Tensor, "B L K"], config: Config
) -> Float[Tensor, "B P P"]:
    """Bound with one unknown complex amplitude per source and snapshot, and a known noise variance: what ML can reach.

    FIM = (2 / sigma^2) Re sum_l B_l^H (D_l^H P_l D_l) B_l, with the amplitudes b = sqrt(p) s, the slopes D_l = dG_l and the
    projection P_l off the atoms. An unknown noise variance would not change it. Source: Stoica and Nehorai, "Performance study of
    conditional and unconditional direction-of-arrival estimation", IEEE TASSP 38, 1990.

    Args:
        measurements: channels, codes and noise variance; the snapshots are not used.
        sources: true positions and powers.
        symbols: realised symbols.
        config: the configuration.

    Raises:
        DataError: the measurements carry no noise variance.
    """
    atoms, slopes = sensed_sources(measurements, sources, config)
    b = _amplitudes(sources, symbols)
    return _position_bound(fisher_deterministic(atoms, slopes, b, known_noise_variance(measurements)), sources)


def crb_deterministic_expected(
    measurements: Measurements, sources: Sources, config: Config, source_covariance: Complex[Tensor, "B K K"] | None = None
) -> Float[Tensor, "B P P"]:
    """:func:`crb_deterministic` with the information averaged over symbols of a given covariance E b_l b_l^H, diag(p) by default.

    Raises:
        DataError: the measurements carry no noise variance.
    """
    atoms, slopes = sensed_sources(measurements, sources, config)
    S = _source_covariance(sources, source_covariance)
    return _position_bound(fisher_deterministic_expected(atoms, slopes, S, known_noise_variance(measurements)), sources)


def crb_static(measurements: Measurements, sources: Sources, symbols: Complex[Tensor, "B L K"], config: Config) -> Float[Tensor, "B P P"]:
    """Bound with one unknown amplitude per source for all snapshots, ``symbols[:, 0]``, and a known noise variance.

    The deterministic bound of the L M measurements taken as a single snapshot.

    Raises:
        DataError: the measurements carry no noise variance.
    """
    atoms, slopes = sensed_sources(measurements, sources, config)
    b = _amplitudes(sources, symbols)[:, :1]
    noise_variance = known_noise_variance(measurements)
    stacked = fisher_deterministic(atoms.flatten(1, 2)[:, None], slopes.flatten(1, 2)[:, None], b, noise_variance)
    return _position_bound(stacked, sources)


def crb_stochastic(measurements: Measurements, sources: Sources, config: Config) -> Float[Tensor, "B P P"]:
    """Bound for uncorrelated CN(0, 1) symbols with unknown powers and noise variance; the block of the positions.

    FIM_ij = sum_l tr(R_l^-1 dR_l/di R_l^-1 dR_l/dj) with R_l = G_l diag(p) G_l^H + sigma^2 I; see ``fisher_stochastic``.

    Raises:
        DataError: the measurements carry no noise variance.
    """
    return _stochastic(measurements, sources, config, None, diagonal_basis)


def crb_stochastic_unrestricted(
    measurements: Measurements, sources: Sources, config: Config, source_covariance: Complex[Tensor, "B K K"] | None = None
) -> Float[Tensor, "B P P"]:
    """Bound for Gaussian symbols of any unknown source covariance S and an unknown noise variance; the block of the positions.

    As :func:`crb_stochastic` with R_l = G_l S G_l^H + sigma^2 I and the K^2 real parameters of S unknown; S is diag(p) by default.
    Source: Stoica and Nehorai, IEEE TASSP 38, 1990, for one operator; here the Slepian-Bangs sum over the snapshots' operators.

    Raises:
        DataError: the measurements carry no noise variance.
    """
    return _stochastic(measurements, sources, config, source_covariance, hermitian_basis)


def position_std(measurements: Measurements, sources: Sources, config: Config) -> Float[Tensor, "B K 3"]:
    """Standard deviations (rad, rad, m): the deterministic bound of all sources jointly at an estimate.

    The amplitudes are the least-squares ones, reduced to the part that is not noise: of T_k = :func:`evidence`, L is expected from
    noise alone, so the information of source k is multiplied by 1 - L / T_k (at least 1 / L). Without this the deviations at 0 dB
    would be 0.63 times those at the truth. The noise variance is the measured one where it is known, else the residual over its
    degrees of freedom. Empty slots are 0.
    """
    sensing = Sensing.of(measurements, config)
    atoms, slopes = sensed_columns(sensing, config, _search_of(sources), sources.mask)
    model, _ = gauss_newton(atoms, slopes, sensing.snapshots)
    _, snapshots, antennas = sensing.snapshots.shape
    if measurements.noise_variance is None:
        freedom = snapshots * antennas - sources.k.double() * (snapshots + FIT_PER_SOURCE)
        noise_variance = model.value / freedom.clamp_min(1.0)
    else:
        noise_variance = measurements.noise_variance.double()
    # A noise variance of zero leaves no error; the smallest positive number stands for it.
    noise_variance = noise_variance.clamp_min(torch.finfo(torch.float64).tiny ** 0.5)
    signal = 1.0 - snapshots / evidence(atoms, sensing.snapshots, noise_variance).clamp_min(snapshots)
    weight = signal.clamp_min(1.0 / snapshots).sqrt().repeat_interleave(3, dim=1)
    fisher = model.normal * (2.0 / noise_variance)[:, None, None] * weight[:, :, None] * weight[:, None, :]
    deviation: Tensor = _position_bound(fisher, sources).diagonal(dim1=-2, dim2=-1).clamp_min(0.0).sqrt()
    return deviation.reshape(*sources.azimuth_rad.shape, 3)


def evidence(
    atoms: Complex[Tensor, "B L M K"], snapshots: Complex[Tensor, "B L M"], noise_variance: Float[Tensor, " B"]
) -> Float[Tensor, "B K"]:
    """T_k = sum_l |P_l g_lk^H y_l|^2 / (|P_l g_lk|^2 sigma^2), P_l projecting off all sources but k; Gamma(L) without source k.

    This is what source k lowers the residual by when it joins all others. Source: Scharf and Friedlander, "Matched subspace
    detectors", IEEE TSP 42, 1994.
    """
    size = atoms.shape[-1]
    # Gram-Schmidt leaves in its last column what no other atom explains.
    last = [orthonormal_basis(atoms[..., [*(j for j in range(size) if j != k), k]])[..., -1] for k in range(size)]
    fall = (torch.stack(last, dim=-1).conj() * snapshots[..., None]).sum(dim=2).abs().square().sum(dim=1)
    return fall / noise_variance[:, None]


def sensed_sources(
    measurements: Measurements, sources: Sources, config: Config
) -> tuple[Complex[Tensor, "B L M K"], Complex[Tensor, "B L M P"]]:
    """Atoms and slopes of the sources by azimuth, elevation and inverse range; zero in empty slots."""
    return sensed_columns(Sensing.of(measurements, config), config, _search_of(sources), sources.mask)


def known_noise_variance(measurements: Measurements) -> Float[Tensor, " B"]:
    """Noise variance of measurements that must carry one.

    Raises:
        DataError: they do not.
    """
    if measurements.noise_variance is None:
        raise DataError("a bound needs the noise variance of the measurements, got none")
    return measurements.noise_variance.double()


def _stochastic(
    measurements: Measurements, sources: Sources, config: Config, source_covariance: Tensor | None, basis: Callable[..., Tensor]
) -> Float[Tensor, "B P P"]:
    atoms, slopes = sensed_sources(measurements, sources, config)
    S = _source_covariance(sources, source_covariance)
    parameters = basis(S.shape[-1], S.device)
    return _position_bound(fisher_stochastic(atoms, slopes, S, known_noise_variance(measurements), parameters), sources)


def _source_covariance(sources: Sources, given: Tensor | None) -> Complex[Tensor, "B K K"]:
    """The given covariance or the powers' one, with empty slots cleared."""
    if given is None:
        return torch.diag_embed(sources.power.double() * sources.mask).to(torch.complex128)
    return given.to(torch.complex128) * sources.mask[:, :, None] * sources.mask[:, None, :]


def _amplitudes(sources: Sources, symbols: Complex[Tensor, "B L K"]) -> Complex[Tensor, "B L K"]:
    return symbols.to(torch.complex128) * (sources.power.double().sqrt() * sources.mask)[:, None, :]


def _search_of(sources: Sources) -> Float[Tensor, "B K 3"]:
    return to_search(torch.where(sources.mask[..., None], sources.position.double(), 1.0))


def _position_bound(fisher: Float[Tensor, "B F F"], sources: Sources) -> Float[Tensor, "B P P"]:
    """Position block of the inverse, from (azimuth, elevation, inverse range) to (azimuth, elevation, range): dr = -r^2 d(1/r)."""
    search = _search_of(sources)
    scale = torch.stack((*torch.ones_like(search[..., :2]).unbind(-1), -search[..., 2].square().reciprocal()), dim=-1)
    scale = (scale * sources.mask[..., None]).flatten(1)
    return bound_of(fisher, scale.shape[-1]) * scale[:, :, None] * scale[:, None, :]
