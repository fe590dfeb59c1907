r"""Modified MUSIC for a reconfigurable surface in the near field, with spatial smoothing: angles first, then one range each.

Axes: B scenes, N elements, K source slots, D elements of a sub-surface, U sub-surfaces, G frequencies per axis, C aliases, R
inverse ranges. The elements n and N-1-n stand at p_n and -p_n. In the Fresnel approximation the part of the phase that depends on
the range is even in p_n, so it cancels in the anti-diagonal of the covariance,

    y_n = R[n, N-1-n] = sum_k P_k a_n(p_k) conj(a_{N-1-n}(p_k)) = sum_k P_k exp(2j 2 pi/lambda u_k.p_n),

which is one snapshot of a far-field array of twice the spacing, all sources coherent. What is done with it:

1. y is cut into all sub-surfaces of about two thirds of the rows and columns; their average outer product (spatial smoothing)
   regains rank K for sources at distinct angles.
2. A two-dimensional MUSIC on a sub-surface gives the phase steps omega = 2 (2 pi/lambda) d (u_x, u_z): an FFT of the subspace is the
   scan, each source found is projected out before the next is sought, and every peak is refined off the grid.
3. With d = lambda/2 the doubled spacing leaves u_x and u_z known up to whole numbers. All aliases in the field of view are
   kept.
4. For each alias the null spectrum of the whole surface is searched in inverse range and refined, with Fresnel steering vectors;
   the alias with the least null spectrum wins.

Exact for an exact covariance of the Fresnel model whose sources differ in omega. On exact (spherical) data the odd terms of
third order bias the angles and the even ones of fourth order the range, most of all at close range. Sources at one angle and
different ranges, or at angles that are aliases of each other, cannot be told apart.

Coherent sources (static symbols): the anti-diagonal then holds cross terms of pairs of sources, in which the range does not
cancel. Smoothing restores the rank that the anti-diagonal itself loses, not this; the method does not hold. On sample covariances
of 16 snapshots it hardly works with fresh symbols either: each is a projection of the surface, and the anti-diagonal of a sum of
projections is not that of the field (4 % of the sources located in the scenes of :mod:`ris_pipeline.estimators.music`).

Source: Ramezani, Kosasih, Bjornson, "An efficient modified MUSIC algorithm for RIS-assisted near-field localization",
arXiv:2409.14152, 2024. There the spacing is small enough for step 3 to be void, and a grid search stands in for each refinement.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Complex, Float, Int
from torch import Tensor

from ris_pipeline.arrays import Sources, direction, element_positions_m, fresnel_steering_vector
from ris_pipeline.config import ArrayConfig, Config
from ris_pipeline.covariance import FactoredCovariance
from ris_pipeline.estimators.beamformers import check_count
from ris_pipeline.estimators.derivatives import inside, search_box, to_position
from ris_pipeline.estimators.levenberg import minimise
from ris_pipeline.estimators.music import NullProblem, fitted_powers, remaining_subspace, signal_subspace
from ris_pipeline.estimators.sensing import orthonormal_basis, squared_modulus

POINTS_PER_ELEMENT = 8
"""Frequencies of the scan per row or column of a sub-surface."""
RANGES_PER_GRID_POINT = 4
"""Inverse ranges that are tried on a ray, for each of the search grid's."""
CHUNK_SCENES = 32
"""Scenes that are handled at a time."""


def modified_music(covariance: FactoredCovariance, k: Int[Tensor, " B"], config: Config) -> Sources:
    """Positions of k sources per scene under the Fresnel model.

    Args:
        covariance: effective covariance; its diagonal part is left out of the anti-diagonal.
        k: sources per scene, 0..k_max.
        config: array, field of view, and the number of inverse ranges of the search grid.

    Raises:
        DataError: k lies outside 0..k_max.
    """
    check_count(k, config)
    parts = []
    for scenes in torch.arange(len(k), device=k.device).split(CHUNK_SCENES):
        omega = _frequencies(virtual_covariance(covariance[scenes], config.array), k[scenes], config)
        subspace = signal_subspace(covariance[scenes], k[scenes], config.scene.k_max)
        parts.append(_ranges(omega, subspace, k[scenes], config))
    position = inside(torch.cat(parts), config.scene)
    return Sources.from_position(position, fitted_powers(covariance, fresnel_steering_vector(config.array, *position.unbind(-1)), k), k)


def sub_surface(array: ArrayConfig) -> tuple[int, int]:
    """Rows and columns of a sub-surface: two thirds, rounded up."""
    return math.ceil(2 * array.n_v / 3), math.ceil(2 * array.n_h / 3)


def virtual_covariance(covariance: FactoredCovariance, array: ArrayConfig) -> FactoredCovariance:
    """Spatially smoothed covariance of the anti-diagonal, one column per sub-surface."""
    factor = covariance.factor.to(torch.complex128)
    anti_diagonal = (factor * factor.flip(1).conj()).sum(dim=-1).unflatten(-1, (array.n_v, array.n_h))
    rows, columns = sub_surface(array)
    windows = anti_diagonal.unfold(1, rows, 1).unfold(2, columns, 1)
    shifted = windows.flatten(3).flatten(1, 2).mT
    return FactoredCovariance.from_factor(shifted / math.sqrt(shifted.shape[-1]))


@dataclass(frozen=True)
class PlaneWaves:
    """exp(j (h omega_h + v omega_v)) on the rows v and columns h of a sub-surface."""

    shape: tuple[int, int]

    def columns(self, x: Float[Tensor, "S 2"]) -> Complex[Tensor, "S D 3"]:
        """The waves with phase steps x = (omega_h, omega_v), and their two derivatives."""
        v, h = torch.meshgrid(*(torch.arange(size, dtype=x.dtype, device=x.device) for size in self.shape), indexing="ij")
        index = torch.stack((h, v), dim=-1).reshape(-1, 2)
        phase_rad = x @ index.T
        wave = torch.polar(torch.ones_like(phase_rad), phase_rad)
        return torch.cat((wave[..., None], wave[..., None] * (1j * index)), dim=-1)


def _frequencies(virtual: FactoredCovariance, k: Int[Tensor, " B"], config: Config) -> Float[Tensor, "B K 2"]:
    """Phase steps (omega_h, omega_v) of k plane waves, one after the other."""
    shape = sub_surface(config.array)
    width = config.scene.k_max
    subspace = signal_subspace(virtual, k, width)
    batch, size, _ = subspace.shape
    omega = torch.zeros((batch, width, 2), dtype=torch.float64, device=k.device)
    found = subspace.new_zeros(batch, size, width)
    manifold = PlaneWaves(shape)
    upper = torch.full((2,), 3.0 * math.pi, dtype=torch.float64, device=k.device)
    for j in range(int(k.max()) if batch else 0):
        scene = torch.nonzero(k > j)[:, 0]
        known = found[scene, :, :j]
        remaining = remaining_subspace(subspace[scene], known, k[scene] - j)
        start = _highest(remaining, known, shape)
        problem = NullProblem(torch.cat((known, remaining), dim=-1), known, manifold)
        omega[scene, j], _ = minimise(problem, start, upper - 4.0 * math.pi, upper, config.estimate.refine_steps)
        waves = manifold.columns(omega[scene, : j + 1].flatten(0, 1))[..., 0].unflatten(0, (len(scene), j + 1)).mT
        found[scene, :, : j + 1] = orthonormal_basis(waves)
    return omega


def _highest(remaining: Complex[Tensor, "B D K"], known: Complex[Tensor, "B D J"], shape: tuple[int, int]) -> Float[Tensor, "B 2"]:
    """The frequency pair of an FFT grid at which |U^H b|^2 / |(I - Q Q^H) b|^2 is greatest; both from padded FFTs."""
    size = math.prod(shape)
    points = [POINTS_PER_ELEMENT * axis for axis in shape]

    def energy(basis: Complex[Tensor, "B D W"]) -> Float[Tensor, "B G G2"]:
        surfaces = basis.mT.unflatten(-1, shape)
        return torch.fft.fft2(surfaces, s=points).abs().square().sum(dim=1)

    explained = energy(known) if known.shape[-1] else 0.0 * energy(remaining)
    free = (size - explained).clamp_min(1e-3 * size)
    best = (energy(remaining) / free + 1e-5 * free / size).flatten(1).argmax(dim=1)
    steps = torch.stack((best % points[1] / points[1], best // points[1] / points[0]), dim=-1)
    return (2.0 * math.pi * steps).double()


def _aliases(omega: Float[Tensor, "B K 2"], config: Config) -> tuple[Float[Tensor, "B K C 2"], Bool[Tensor, "B K C"]]:
    """Azimuths and elevations with phase steps omega, clamped to the field of view, and which of them lie inside."""
    array, scene = config.array, config.scene
    turn = 2.0 * array.spacing_m / array.wavelength_m
    whole = torch.arange(-math.floor(turn + 0.5), math.floor(turn + 0.5) + 1, dtype=omega.dtype, device=omega.device)
    shifts = torch.cartesian_prod(whole, whole)
    wrapped = torch.remainder(omega + math.pi, 2.0 * math.pi) - math.pi
    cosine = (wrapped[..., None, :] / (2.0 * math.pi) + shifts) / turn
    elevation_rad = torch.asin(cosine[..., 1].clamp(-1.0, 1.0)).clamp(-scene.elevation_max_rad, scene.elevation_max_rad)
    sine = (cosine[..., 0] / torch.cos(elevation_rad)).clamp(-1.0, 1.0)
    azimuth_rad = torch.asin(sine).clamp(-scene.azimuth_max_rad, scene.azimuth_max_rad)
    angles = torch.stack((azimuth_rad, elevation_rad), dim=-1)
    meant = direction(azimuth_rad, elevation_rad)[..., [0, 2]]
    return angles, (meant - cosine).abs().amax(dim=-1) < 1e-6


@dataclass(frozen=True)
class FresnelRays:
    """Fresnel steering vectors on rays: as functions of azimuth, elevation and inverse range, of which only the last may change."""

    array: ArrayConfig

    def columns(self, x: Float[Tensor, "S 3"]) -> Complex[Tensor, "S N 4"]:
        """The steering vectors and their derivatives; those by the angles are zero, which holds the angles."""
        azimuth_rad, elevation_rad, inverse_range_per_m = x.unbind(-1)
        a = fresnel_steering_vector(self.array, azimuth_rad, elevation_rad, 1.0 / inverse_range_per_m)
        elements_m = element_positions_m(self.array, device=x.device, dtype=x.dtype)
        projection_m = direction(azimuth_rad, elevation_rad) @ elements_m.T
        slope_rad_m = -(math.pi / self.array.wavelength_m) * (elements_m.square().sum(dim=-1) - projection_m.square())
        return torch.stack((a, torch.zeros_like(a), torch.zeros_like(a), 1j * slope_rad_m * a), dim=-1)


def _ranges(
    omega: Float[Tensor, "B K 2"], subspace: Complex[Tensor, "B N K"], k: Int[Tensor, " B"], config: Config
) -> Float[Tensor, "B K 3"]:
    """The alias and the range on its ray with the least null spectrum of the whole surface."""
    angles, valid = _aliases(omega, config)
    occupied = torch.arange(omega.shape[1], device=k.device) < k[:, None]
    wanted = (valid | ~valid.any(dim=-1, keepdim=True)) & occupied[..., None]
    scene = torch.nonzero(wanted)[:, 0]
    start = _best_on_ray(angles[wanted], subspace[scene], config)
    problem = NullProblem(subspace[scene], subspace.new_zeros(len(scene), subspace.shape[1], 0), FresnelRays(config.array))
    x, value = minimise(problem, start, *search_box(config.scene, k.device), config.estimate.refine_steps)
    search = torch.ones((*wanted.shape, 3), dtype=torch.float64, device=k.device)
    null = torch.full(wanted.shape, torch.inf, dtype=torch.float64, device=k.device)
    search[wanted], null[wanted] = x, value
    return to_position(search.take_along_dim(null.argmin(dim=-1)[..., None, None], dim=2)[:, :, 0])


def _best_on_ray(angles: Float[Tensor, "S 2"], subspace: Complex[Tensor, "S N K"], config: Config) -> Float[Tensor, "S 3"]:
    """The grid point of largest |E^H a|^2 on each ray, in search coordinates."""
    lower, upper = (float(limit[2]) for limit in search_box(config.scene))
    count = RANGES_PER_GRID_POINT * config.estimate.grid_range
    inverse_range_per_m = torch.linspace(lower, upper, count, dtype=angles.dtype, device=angles.device)
    azimuth_rad, elevation_rad = (angles[:, axis, None].expand(-1, count) for axis in (0, 1))
    steering = fresnel_steering_vector(config.array, azimuth_rad, elevation_rad, (1.0 / inverse_range_per_m).expand_as(azimuth_rad))
    best = squared_modulus(steering.conj() @ subspace).sum(dim=-1).argmax(dim=1)
    return torch.cat((angles, inverse_range_per_m[best, None]), dim=-1)
