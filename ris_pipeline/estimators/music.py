r"""MUSIC for the near field, with recursive projection.

Axes: B scenes, N elements, K source slots, Q grid points, C candidates, S = B C searches. With an orthonormal basis E of the
signal subspace (the k leading eigenvectors) the null spectrum is f(p) = \|a\|^2 - \|E^H a\|^2; it vanishes at the sources.

The scan covers azimuth, elevation and all inverse ranges of the search grid: the whole domain lies inside the Rayleigh
distance, so angles scanned at one range would lose the sources elsewhere (at half a metre the far-field steering vector is
nearly orthogonal to the exact one). Each source found is projected out of subspace and steering vectors before the next is
sought, so that two sources closer than a grid cell give two peaks and every scene gives k distinct ones. Every position is
polished on the plain null spectrum.

Coherent sources (static symbols): where one operator serves all snapshots, the covariance of coherent sources has rank one and
MUSIC cannot work. Here every snapshot has its own projection P_l, so the sample covariance sum_l P_l v v^H P_l of the one field v
has rank L nevertheless, but its leading eigenvector is close to v and the next ones are not steering vectors. Measured on 200 scenes
with two or three sources of equal power at 15 to 20 dB, K known, share of the sources located within 3 degrees, 3 degrees and
0.5 m, fresh and static symbols: MUSIC 0.32 and 0.19, MVDR 0.46 and 0.28, Bartlett 0.42 and 0.33, OMP 0.18 and 0.15, maximum
likelihood (60 scenes) 0.90 and 0.86.

Sources: Schmidt, "Multiple emitter location and signal parameter estimation", IEEE TAP 34, 1986; Huang and Barkat, "Near-field
multiple source localization by passive sensor array", IEEE TAP 39, 1991; Makela, Stenroos, Sarvas, Ilmoniemi, "Truncated
RAP-MUSIC (TRAP-MUSIC) for MEG and EEG source localization", NeuroImage 167, 2018.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Complex, Float, Int
from torch import Tensor

from ris_pipeline.arrays import Sources, steering_vector
from ris_pipeline.config import ArrayConfig, Config
from ris_pipeline.covariance import FactoredCovariance
from ris_pipeline.estimators.beamformers import DISTINCT, check_count, strongest_distinct
from ris_pipeline.estimators.derivatives import inside, search_box, search_jacobian, to_position
from ris_pipeline.estimators.levenberg import Quadratic, minimise
from ris_pipeline.estimators.sensing import amplitudes, orthonormal_basis, outside, squared_modulus
from ris_pipeline.estimators.spectrum import SearchGrid, find_peaks, grid_of

CANDIDATES = 2
"""Peaks of the scan that are refined before one of them is chosen."""


def music(covariance: FactoredCovariance, k: Int[Tensor, " B"], config: Config) -> Sources:
    """Positions of k sources per scene from the leading subspace of a covariance.

    Estimates lie in the field of view; the strongest subspace match comes first. Where the covariance has fewer than k
    dimensions, the remaining sources are the places farthest (in the sense of projection) from those found. Powers are the
    least-squares fit of the factor to the steering vectors.

    Args:
        covariance: effective covariance, used as it is.
        k: sources per scene, 0..k_max; below N.
        config: array, field of view and search grid.

    Raises:
        DataError: k lies outside 0..k_max.
    """
    check_count(k, config)
    subspace = signal_subspace(covariance, k, config.scene.k_max)
    grid = grid_of(config, k.device)
    chunks = zip(subspace.split(grid.scenes_at_a_time), k.split(grid.scenes_at_a_time), strict=True)
    position = torch.cat([_search(basis, count, grid, config) for basis, count in chunks])
    return Sources.from_position(position, fitted_powers(covariance, steering_vector(config.array, *position.unbind(-1)), k), k)


def music_angles_first(covariance: FactoredCovariance, k: Int[Tensor, " B"], config: Config, *, range_m: float | None = None) -> Sources:
    """MUSIC in two steps: peaks of the null spectrum in azimuth and elevation at one range, then the range of each, then a polish.

    The angles are scanned at ``range_m``, by default the geometric mean of the field of view's ranges (2.24 m). Since the whole
    domain lies inside the Rayleigh distance, a wavefront from another range is defocused there and its peak low, shifted or
    missing. Measured on exact covariances of 500 default scenes with K known: 96 % of the sources are found (to 1e-6) when the
    angles are scanned at 2.24 m, 93 % at 10 m (63 % of those within 1 m), 48 % at 0.95 m, and all by :func:`music`.

    Args:
        covariance: effective covariance, used as it is.
        k: sources per scene, 0..k_max; below N.
        config: array, field of view and search grid.
        range_m: range at which the angles are scanned.

    Raises:
        DataError: k lies outside 0..k_max.
    """
    check_count(k, config)
    fov = config.scene
    inverse = 1.0 / (range_m or math.sqrt(fov.range_min_m * fov.range_max_m))
    grid = grid_of(config, k.device)
    plane = SearchGrid(grid.array, grid.azimuth_rad, grid.elevation_rad, torch.full((1,), inverse, dtype=torch.float64, device=k.device))
    subspace = signal_subspace(covariance, k, fov.k_max)
    index, _ = find_peaks(plane.unflatten(plane.energy(subspace)[:, 0]), CANDIDATES * fov.k_max)
    batch, count = index.shape
    scene = torch.arange(batch, device=k.device).repeat_interleave(count)
    start = _range_of(plane.search[index].flatten(0, 1), subspace[scene], grid, config)
    problem = NullProblem(subspace[scene], subspace.new_zeros(len(scene), covariance.n, 0), Surface(config.array))
    x, value = minimise(problem, start, *search_box(fov, k.device), config.estimate.refine_steps)
    distinct = strongest_distinct(
        x.unflatten(0, (batch, count)), value.unflatten(0, (batch, count)), start.unflatten(0, (batch, count)), config
    )
    position = inside(to_position(distinct), fov)
    return Sources.from_position(position, fitted_powers(covariance, steering_vector(config.array, *position.unbind(-1)), k), k)


def _range_of(search: Float[Tensor, "S 3"], subspace: Complex[Tensor, "S N K"], grid: SearchGrid, config: Config) -> Float[Tensor, "S 3"]:
    """The same angles with the inverse range of the grid at which the null spectrum is least."""
    rays = search[:, None].repeat(1, len(grid.inverse_range_per_m), 1)
    rays[..., 2] = grid.inverse_range_per_m
    steering = steering_vector(config.array, *to_position(rays).unbind(-1))
    best = squared_modulus(steering.conj() @ subspace).sum(dim=-1).argmax(dim=1)
    return rays[torch.arange(len(search), device=search.device), best]


def signal_subspace(covariance: FactoredCovariance, k: Int[Tensor, " B"], width: int) -> Complex[Tensor, "B N K"]:
    """Orthonormal basis of the k leading eigenvectors of every scene, zero-padded to ``width`` columns."""
    basis = covariance.leading_subspace(min(width, covariance.rank))
    padded = basis.new_zeros(basis.shape[0], basis.shape[1], width)
    padded[..., : basis.shape[-1]] = basis
    return padded * (torch.arange(width, device=k.device) < k[:, None])[:, None, :]


def null_spectrum(subspace: Complex[Tensor, "B N K"], config: Config) -> Float[Tensor, "B A E R"]:
    r"""f(p) / N = 1 - \|E^H a\|^2 / N on the search grid, in single precision."""
    grid = grid_of(config, subspace.device)
    return grid.unflatten(1.0 - grid.energy(subspace)[:, 0] / config.array.n_elements)


@runtime_checkable
class Manifold(Protocol):
    """Steering vectors as functions of P parameters."""

    def columns(self, x: Float[Tensor, "S P"]) -> Complex[Tensor, "S N P1"]:
        """Steering vectors and their derivatives by the parameters, as columns [a, da]."""
        ...


@dataclass(frozen=True)
class Surface:
    """Exact steering vectors of the surface in azimuth, elevation and inverse range."""

    array: ArrayConfig

    def columns(self, x: Float[Tensor, "S 3"]) -> Complex[Tensor, "S N 4"]:
        """The steering vectors and their three derivatives."""
        return search_jacobian(self.array, x)


@dataclass(frozen=True)
class NullProblem:
    r"""\|(I - W W^H) a(x)\|^2 / \|(I - Q Q^H) a(x)\|^2 per search; W spans Q (what was found) and the remaining signal subspace.

    With Q empty this is the MUSIC null spectrum over N. It is a sum of squares that vanishes at the sources, so Gauss-Newton
    with exact derivatives converges quadratically there.
    """

    signal: Complex[Tensor, "S N W"]
    found: Complex[Tensor, "S N J"]
    manifold: Manifold

    def __getitem__(self, index: Tensor) -> NullProblem:
        return NullProblem(self.signal[index], self.found[index], self.manifold)

    def quadratic(self, x: Float[Tensor, "S P"]) -> Quadratic:
        """Value, descent direction and Gauss-Newton matrix."""
        columns = self.manifold.columns(x)
        kept, rest = outside(self.signal, columns), outside(self.found, columns)
        size = torch.linalg.vector_norm(rest[..., 0], dim=-1).clamp_min(1e-9)[:, None]
        growth = (rest[..., :1].conj() * rest[..., 1:]).real.sum(dim=1) / size**2
        residual = kept[..., 0] / size
        jacobian = kept[..., 1:] / size[..., None] - residual[..., None] * growth[:, None, :]
        tall = torch.view_as_real(jacobian).permute(0, 1, 3, 2).flatten(1, 2)
        flat = torch.view_as_real(residual).flatten(1)[..., None]
        return Quadratic(flat.square().sum(dim=(1, 2)), -(tall.mT @ flat)[..., 0], tall.mT @ tall)


def _search(subspace: Complex[Tensor, "B N K"], k: Int[Tensor, " B"], grid: SearchGrid, config: Config) -> Float[Tensor, "B K 3"]:
    """Find k sources one after the other, then polish all of them."""
    batch, n, width = subspace.shape
    search = torch.ones((batch, width, 3), dtype=torch.float64, device=k.device)
    found = subspace.new_zeros(batch, n, width)
    explained = torch.zeros((batch, len(grid.search)), device=k.device)
    for j in range(int(k.max()) if len(k) else 0):
        scene = torch.nonzero(k > j)[:, 0]
        dimension = k[scene] - j
        remaining = remaining_subspace(subspace[scene], found[scene, :, :j], dimension)
        search[scene, j] = _next_source(remaining, found[scene, :, :j], dimension, explained[scene], grid, config)
        steering = steering_vector(config.array, *to_position(search[scene, : j + 1]).unbind(-1)).transpose(1, 2)
        found[scene, :, : j + 1] = orthonormal_basis(steering)
        scene = torch.nonzero(k > j + 1)[:, 0]
        explained[scene] += grid.energy(found[scene, :, j : j + 1])[:, 0]
    return _polish(subspace, search, k, config)


def _scan(basis: Complex[Tensor, "B N J"], dimension: Int[Tensor, " B"], grid: SearchGrid) -> Float[Tensor, "B Q"]:
    """|U^H a|^2 on the grid, where only the first ``dimension`` columns of U are not zero."""
    energy = torch.empty((len(basis), len(grid.search)), device=basis.device)
    for width in torch.unique(dimension).tolist():
        scene = torch.nonzero(dimension == width)[:, 0]
        energy[scene] = grid.energy(basis[scene, :, :width])[:, 0]
    return energy


def remaining_subspace(
    subspace: Complex[Tensor, "B N K"], found: Complex[Tensor, "B N J"], dimension: Int[Tensor, " B"]
) -> Complex[Tensor, "B N K"]:
    """The ``dimension`` strongest directions of (I - Q Q^H) E, orthonormal; the others are zero columns."""
    rest = outside(found, subspace)
    values, vectors = torch.linalg.eigh(rest.mH @ rest)
    values, vectors = values.flip(-1), vectors.flip(-1)
    keep = (torch.arange(values.shape[-1], device=values.device) < dimension[:, None]) & (values > 1e-12)
    scale = torch.where(keep, values.clamp_min(1e-12).rsqrt(), 0.0)
    remaining: Tensor = (rest @ vectors) * scale[:, None, :]
    return remaining


def _next_source(
    remaining: Complex[Tensor, "B N K"],
    found: Complex[Tensor, "B N J"],
    dimension: Int[Tensor, " B"],
    explained: Float[Tensor, "B Q"],
    grid: SearchGrid,
    config: Config,
) -> Float[Tensor, "B 3"]:
    """Highest peak of |U^H a|^2 / |(I - Q Q^H) a|^2 after refining the best cells of the scan."""
    n = config.array.n_elements
    free = (n - explained).clamp_min(1e-3 * n)
    # The small second term decides where nothing of the subspace is left.
    ratio = _scan(remaining, dimension, grid) / free + 1e-5 * free / n
    index, _ = find_peaks(grid.unflatten(torch.where(explained < (1.0 - 1e-3) * n, ratio, 0.0)), CANDIDATES)
    batch, count = index.shape
    scene = torch.arange(batch, device=index.device).repeat_interleave(count)
    problem = NullProblem(torch.cat((found, remaining), dim=-1)[scene], found[scene], Surface(config.array))
    x, value = minimise(problem, grid.search[index.flatten()], *search_box(config.scene, index.device), config.estimate.refine_steps)
    best = value.reshape(batch, count).argmin(dim=1)
    return x.reshape(batch, count, 3)[torch.arange(batch, device=index.device), best]


def _polish(
    subspace: Complex[Tensor, "B N K"], search: Float[Tensor, "B K 3"], k: Int[Tensor, " B"], config: Config
) -> Float[Tensor, "B K 3"]:
    """Refine every position on the plain null spectrum; one that falls onto another source keeps its place."""
    batch, width, _ = search.shape
    lower, upper = search_box(config.scene, search.device)
    scene = torch.arange(batch, device=search.device).repeat_interleave(width)
    occupied = torch.nonzero((torch.arange(width, device=k.device) < k[:, None]).flatten())[:, 0]
    nothing = subspace.new_zeros(len(occupied), subspace.shape[1], 0)
    problem = NullProblem(subspace[scene[occupied]], nothing, Surface(config.array))
    polished = search.flatten(0, 1).clone()
    polished[occupied], _ = minimise(problem, polished[occupied], lower, upper, config.estimate.refine_steps)
    refined = polished.reshape(batch, width, 3)
    steering = steering_vector(config.array, *to_position(refined).unbind(-1))
    correlation = (steering @ steering.mH).abs() / config.array.n_elements
    earlier = correlation.tril(-1) * (torch.arange(width, device=k.device) < k[:, None])[:, None, :]
    refined = torch.where((earlier > DISTINCT).any(dim=-1)[..., None], search, refined)
    return inside(to_position(refined), config.scene)


def fitted_powers(covariance: FactoredCovariance, steering: Complex[Tensor, "B K N"], k: Int[Tensor, " B"]) -> Float[Tensor, "B K"]:
    """Squared row norms of A^+ F: the powers of uncorrelated sources that the low-rank part holds."""
    mask = torch.arange(steering.shape[1], device=k.device) < k[:, None]
    matrix = (steering * mask[..., None]).transpose(1, 2)[:, None]
    columns = covariance.factor.to(torch.complex128).transpose(1, 2)
    shared = matrix.expand(-1, columns.shape[1], -1, -1)
    basis = orthonormal_basis(matrix).expand_as(shared)
    return amplitudes(basis, shared, columns).abs().square().sum(dim=1)
