"""Fisher information of source positions, for any array and any sensing operator.

Axes: B scenes, L snapshots, M measurements per snapshot, N elements, K sources, q coordinates per source, P = q K position
parameters (source-major), Q parameters of the source covariance, F all parameters of a model. A source is seen in snapshot l as
the atom g_l(p) in C^M, and dg_l(p) are its slopes by the coordinates; without a surface both are the same in every snapshot.
"""

from __future__ import annotations

import torch
from jaxtyping import Complex, Float
from torch import Tensor

from ris_pipeline.estimators.sensing import orthonormal_basis, outside

SINGULAR = 1e-14
"""Information below this fraction of the best-known direction is taken at this level, so that bounds stay finite."""


def sensed(
    operator: Complex[Tensor, "B L M N"], steering: Complex[Tensor, "B N K"], derivatives: Complex[Tensor, "B N K q"]
) -> tuple[Complex[Tensor, "B L M K"], Complex[Tensor, "B L M P"]]:
    """Atoms and slopes of sources with given steering vectors: G_l a and G_l da/dx."""
    return operator @ steering[:, None], operator @ derivatives.flatten(2)[:, None]


def fisher_deterministic(
    atoms: Complex[Tensor, "B L M K"],
    slopes: Complex[Tensor, "B L M P"],
    amplitude: Complex[Tensor, "B L K"],
    noise_variance: Float[Tensor, " B"],
) -> Float[Tensor, "B P P"]:
    """Information of the positions with the amplitudes b_l, one per source and snapshot, projected out.

    FIM = (2 / sigma^2) Re sum_l B_l^H D_l^H P_l D_l B_l with B_l = diag(b_l) over the slopes D_l, and the projection P_l off the atoms.
    Source: Stoica and Nehorai, "MUSIC, maximum likelihood, and Cramer-Rao bound", IEEE TASSP 37, 1989.
    """
    moved = outside(orthonormal_basis(atoms), slopes) * _per_parameter(amplitude, slopes)[:, :, None, :]
    tall = torch.view_as_real(moved).permute(0, 1, 2, 4, 3).flatten(1, 3)
    return (2.0 / noise_variance)[:, None, None] * (tall.mT @ tall)


def fisher_deterministic_expected(
    atoms: Complex[Tensor, "B L M K"],
    slopes: Complex[Tensor, "B L M P"],
    source_covariance: Complex[Tensor, "B K K"],
    noise_variance: Float[Tensor, " B"],
) -> Float[Tensor, "B P P"]:
    """:func:`fisher_deterministic` averaged over amplitudes with E b_l b_l^H = S: (2 / sigma^2) Re sum_l (D_l^H P_l D_l) * S^T."""
    moved = outside(orthonormal_basis(atoms), slopes).flatten(1, 2)
    spread = _per_parameter(_per_parameter(source_covariance, slopes).mT, slopes)
    return (2.0 / noise_variance)[:, None, None] * (moved.mH @ moved * spread).real


def fisher_stochastic(
    atoms: Complex[Tensor, "B L M K"],
    slopes: Complex[Tensor, "B L M P"],
    source_covariance: Complex[Tensor, "B K K"],
    noise_variance: Float[Tensor, " B"],
    basis: Complex[Tensor, "Q K K"],
) -> Float[Tensor, "B F F"]:
    """Information of the positions, the source covariance and the noise variance, in this order: F = P + Q + 1.

    FIM_ij = sum_l tr(R_l^-1 dR_l/di R_l^-1 dR_l/dj) with R_l = G_l S G_l^H + sigma^2 I and S = sum_q x_q E_q over Hermitian E_q:
    :func:`diagonal_basis` for uncorrelated sources of unknown powers, :func:`hermitian_basis` for any source covariance. Every
    derivative has low rank (dR = d c^H + c d^H with c = G S e_k; G E G^H), so that only products of whitened columns are formed.
    Source: Slepian-Bangs formula; Kay, "Fundamentals of statistical signal processing: estimation theory", 1993, chapter 15.
    """
    white = torch.eye(atoms.shape[2], dtype=atoms.dtype, device=atoms.device)
    R = atoms @ source_covariance[:, None] @ atoms.mH + noise_variance[:, None, None, None] * white
    lower = torch.linalg.cholesky(R)
    g, d, inverse = (torch.linalg.solve_triangular(lower, x, upper=False) for x in (atoms, slopes, white.expand_as(lower)))
    c = _per_parameter(g @ source_covariance[:, None], slopes)
    cd, gg = c.mH @ d, g.mH @ g
    positions = 2.0 * (cd * cd.mT + (c.mH @ c) * (d.mH @ d).mT).real.sum(dim=1)
    crossed = torch.einsum("blik,blji->bikj", c.mH @ g, g.mH @ d)
    mixed = 2.0 * torch.einsum("qkj,bikj->biq", basis, crossed).real
    pairs = torch.einsum("blij,blkm->bijkm", gg, gg)
    signals = torch.einsum("qmi,bijkm,rjk->bqr", basis, pairs, basis).real
    gR, cR, dR = (inverse.mH @ x for x in (g, c, d))
    by_noise = torch.cat(
        (
            2.0 * (cR.conj() * dR).real.sum(dim=(1, 2)),
            torch.einsum("qkj,blmj,blmk->bq", basis, gR.conj(), gR).real,
            (inverse.mH @ inverse).abs().square().sum(dim=(1, 2, 3))[:, None],
        ),
        dim=1,
    )
    upper = torch.cat((positions, mixed), dim=2)
    lower_rows = torch.cat((mixed.mT, signals), dim=2)
    square = torch.cat((upper, lower_rows), dim=1)
    return torch.cat((torch.cat((square, by_noise[:, :-1, None]), dim=2), by_noise[:, None]), dim=1)


def diagonal_basis(k: int, device: torch.device | str = "cpu") -> Complex[Tensor, "K K K"]:
    """E_k = e_k e_k^T: uncorrelated sources, one power each."""
    return torch.diag_embed(torch.eye(k, dtype=torch.complex128, device=device))


def hermitian_basis(k: int, device: torch.device | str = "cpu") -> Complex[Tensor, "Q K K"]:
    """A basis of the Hermitian K x K matrices over the reals, Q = K^2: any source covariance."""
    units = torch.eye(k * k, dtype=torch.complex128, device=device).reshape(k, k, k, k)
    row, column = torch.triu_indices(k, k, offset=1, device=device)
    above, below = units[row, column], units[column, row]
    return torch.cat((diagonal_basis(k, device), above + below, 1j * (above - below)))


def bound_of(fisher: Float[Tensor, "B F F"], parameters: int) -> Float[Tensor, "B P P"]:
    """Block of the first ``parameters`` in the inverse of an information matrix; parameters without any information are 0."""
    curvature = fisher.diagonal(dim1=-2, dim2=-1)
    known = curvature > 0.0
    scale = torch.where(known, curvature, 1.0).rsqrt() * known
    scaled = torch.where(torch.diag_embed(~known), 1.0, fisher * scale[:, :, None] * scale[:, None, :])
    values, vectors = torch.linalg.eigh(scaled)
    gain = torch.maximum(values, SINGULAR * values[:, -1:]).reciprocal()
    inverse: Tensor = (vectors * gain[:, None, :]) @ vectors.mT * scale[:, :, None] * scale[:, None, :]
    return inverse[:, :parameters, :parameters]


def music_mse(
    atoms: Complex[Tensor, "B M K"],
    slopes: Complex[Tensor, "B M P"],
    source_covariance: Complex[Tensor, "B K K"],
    noise_variance: Float[Tensor, " B"],
    snapshots: int,
) -> Float[Tensor, "B P"]:
    """Asymptotic mean squared errors of MUSIC on ``snapshots`` samples of one covariance R = G S G^H + sigma^2 I.

    MSE_k = sigma^2 / (2 T) [S^-1 + sigma^2 S^-1 (G^H G)^-1 S^-1]_kk [(Re D_k^H P D_k)^-1]_ii for coordinate i of source k, with the
    projection P off the atoms. Never below the deterministic bound with the same covariance. Every source must be present.
    Source: Stoica and Nehorai, "MUSIC, maximum likelihood, and Cramer-Rao bound", IEEE TASSP 37, 1989.
    """
    k, q = atoms.shape[-1], slopes.shape[-1] // atoms.shape[-1]
    inverse = torch.linalg.inv(source_covariance)
    spread = inverse + noise_variance[:, None, None] * inverse @ torch.linalg.inv(atoms.mH @ atoms) @ inverse
    moved = torch.unflatten(outside(orthonormal_basis(atoms), slopes), -1, (k, q)).transpose(1, 2)
    curvature = torch.linalg.inv((moved.mH @ moved).real).diagonal(dim1=-2, dim2=-1)
    weight = noise_variance[:, None] / (2.0 * snapshots) * spread.diagonal(dim1=-2, dim2=-1).real
    return (weight[..., None] * curvature).flatten(1)


def _per_parameter(values: Complex[Tensor, "*S K"], slopes: Complex[Tensor, "B L M P"]) -> Complex[Tensor, "*S P"]:
    """The value of each source, repeated for its coordinates."""
    return values.repeat_interleave(slopes.shape[-1] // values.shape[-1], dim=-1)
