"""Conditional (deterministic) maximum likelihood in measurement space.

Axes: B scenes, L snapshots, M antennas, K source slots, Q grid points, C candidates. The amplitude of every source is free in
every snapshot, so with G_l = [g_l(p_1) ... g_l(p_K)] and g_l(p) = H diag(c_l) a(p) the likelihood depends on the positions
through

    RSS(p_1..p_K) = sum_l |(I - G_l G_l^+) y_l|^2.

Static symbols are a special case of this model. Positions are searched in azimuth, elevation and inverse range, and stay in the
field of view. Sources: Ziskind and Wax, "Maximum likelihood localization of multiple sources by alternating projection", IEEE
TASSP 36, 1988; Stoica and Nehorai, "MUSIC, maximum likelihood and Cramer-Rao bound", IEEE TASSP 37, 1989.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ris_pipeline.arrays import Sources
from ris_pipeline.config import Config
from ris_pipeline.errors import DataError
from ris_pipeline.estimators.beamformers import check_count
from ris_pipeline.estimators.counting import count_from_residuals, noise_variance_from_residuals
from ris_pipeline.estimators.derivatives import inside, to_position, to_search
from ris_pipeline.estimators.greedy import SensedGrid, Solution, joint_refinement, next_source, search_again, source_powers
from ris_pipeline.estimators.sensing import Sensing
from ris_pipeline.estimators.spectrum import SearchGrid, grid_of
from ris_pipeline.simulation import Measurements

RESEARCH_PASSES = 2
"""Most times that every source is taken out and searched again at the final count."""
IMPROVED = 1e-6
"""A pass that lowers the RSS by less than this fraction is the last one."""
CHUNK_BYTES = 1 << 28
"""Memory that the sensed grid of one chunk of scenes may take."""


@dataclass(frozen=True)
class Refined:
    """Refined sources and the residual sum of squares of each scene."""

    sources: Sources
    rss: Float[Tensor, " B"]


@dataclass(frozen=True)
class ConditionalLikelihood:
    """Greedy maximum likelihood for every source count.

    ``rss[:, k]`` is the residual sum of squares with k sources; ``position[:, k - 1]`` and ``power[:, k - 1]`` are the k sources
    behind it. It falls with k, except that the count of ``sources`` (the known or the estimated one) was searched again and may
    lie below its right neighbour. Where k was known, the entries beyond it repeat those at k.
    """

    sources: Sources
    rss: Float[Tensor, "B K1"]
    position: Float[Tensor, "B K K 3"]
    power: Float[Tensor, "B K K"]

    def at(self, k: Int[Tensor, " B"]) -> Sources:
        """The estimate with k sources per scene, k in 0..k_max."""
        scene = torch.arange(len(k), device=k.device)
        slot = (k - 1).clamp_min(0)
        return Sources.from_position(self.position[scene, slot], self.power[scene, slot], k)


def refine(measurements: Measurements, sources: Sources, config: Config) -> Refined:
    """Refine all sources of every scene jointly by Levenberg-Marquardt with variable projection.

    The residual sum of squares never exceeds the one at the (clamped) start; the number of sources is kept. Powers are mean
    squared least-squares amplitudes.
    """
    size = max(1, CHUNK_BYTES // operator_bytes(measurements))
    chunks = torch.split(torch.arange(len(measurements), device=sources.k.device), size)
    parts = [_refine_chunk(measurements[c], sources[c], config) for c in chunks]
    position = torch.cat([part.sources.position for part in parts])
    power = torch.cat([part.sources.power for part in parts])
    return Refined(Sources.from_position(position, power, sources.k), torch.cat([part.rss for part in parts]))


def _refine_chunk(measurements: Measurements, sources: Sources, config: Config) -> Refined:
    sensing, scale = normalised(measurements, config)
    search = to_search(torch.where(sources.mask[..., None], sources.to(torch.float64).position, 1.0))
    search, rss = joint_refinement(sensing, search, sources.mask, config)
    power = source_powers(sensing, search, sources.mask, config)
    position = inside(to_position(search), config.scene)
    return Refined(Sources.from_position(position, power * scale[:, None], sources.k), rss * scale)


def least_squares_powers(measurements: Measurements, sources: Sources, config: Config) -> Float[Tensor, "B K"]:
    """Mean squared least-squares amplitudes of sources at given positions; zero in empty slots."""
    sensing, scale = normalised(measurements, config)
    search = to_search(torch.where(sources.mask[..., None], sources.to(torch.float64).position, 1.0))
    return source_powers(sensing, search, sources.mask, config) * scale[:, None] * sources.mask


def conditional_likelihood(measurements: Measurements, config: Config, k: Int[Tensor, " B"] | None = None) -> ConditionalLikelihood:
    """Greedy maximum likelihood: find the next source on the grid, refine it, refine all jointly; for 1, 2, .. sources.

    The next source maximises the gain sum_l |g_l^H r_l|^2 / |P_l g_l|^2 over the grid, r_l = P_l y_l being the residual and P_l
    the projection off the sources found so far; this is exactly the fall of the RSS. The highest peaks are refined before the
    best is taken. At the final count each source in turn is taken out and searched again, and the result is kept where the RSS
    falls.

    Args:
        measurements: snapshots, channels and codes; ``noise_variance`` is used by the count where it is known.
        config: the configuration; the grid and ``false_alarm`` come from ``estimate``.
        k: number of sources per scene, 0..k_max; counted by :func:`count_from_residuals` when absent.

    Raises:
        DataError: k lies outside 0..k_max.
    """
    k_max = config.scene.k_max
    if k is not None:
        check_count(k, config)
    depth = torch.full((len(measurements),), k_max, device=measurements.snapshots.device) if k is None else k
    grid = grid_of(config, measurements.snapshots.device)
    per_scene = 10 * measurements.snapshots[0].numel() * len(grid.search) + operator_bytes(measurements)
    order = depth.argsort(descending=True, stable=True)
    chunks = torch.split(order, max(1, CHUNK_BYTES // per_scene))
    parts = [_search_chunk(measurements[c], depth[c], k is None, grid, config) for c in chunks]
    inverse = order.argsort()
    rss, position, power, count = (torch.cat(column)[inverse] for column in zip(*parts, strict=True))
    scene, slot = torch.arange(len(count), device=count.device), (count - 1).clamp_min(0)
    sources = Sources.from_position(position[scene, slot], power[scene, slot], count)
    return ConditionalLikelihood(sources, rss, position, power)


def estimate_noise_variance(measurements: Measurements, config: Config) -> Float[Tensor, " B"]:
    """Noise variance from the residual of the maximum-likelihood fit with as many sources as the residuals themselves ask for.

    sigma^2 = RSS_k / (L M - k (L + 3/2)), k by :func:`count_from_residuals` with an unknown noise variance.
    """
    likelihood = conditional_likelihood(replace(measurements, noise_variance=None), config)
    _, snapshots, antennas = measurements.snapshots.shape
    return noise_variance_from_residuals(likelihood.rss, likelihood.sources.k, snapshots, antennas)


def operator_bytes(measurements: Measurements) -> int:
    """Bytes of the sensing operators of one scene."""
    return 16 * measurements.code_index[0].numel() * measurements.channel.shape[1]


def normalised(measurements: Measurements, config: Config) -> tuple[Sensing, Float[Tensor, " B"]]:
    """Snapshots of unit mean power, and that power: the search is the same at any scale of the data.

    Raises:
        DataError: measurements are not finite.
    """
    sensing = Sensing.of(measurements, config)
    power = sensing.energy() / sensing.snapshots[0].numel()
    for name, values in (("snapshots", measurements.snapshots), ("channel", measurements.channel)):
        if not bool(torch.isfinite(values).all()):
            raise DataError(f"{name} must be finite numbers, got NaN or infinity")
    scale = torch.where(power > 0.0, power, 1.0)
    return Sensing(sensing.snapshots * scale.rsqrt()[:, None, None], sensing.operator), scale


def _search_chunk(
    measurements: Measurements, depth: Int[Tensor, " B"], counted: bool, grid: SearchGrid, config: Config
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """RSS, positions, powers and count of scenes sorted by falling depth: those still active are always the first ones."""
    sensing, scale = normalised(measurements, config)
    sensed = SensedGrid.of(sensing, grid)
    paths = _greedy(sensing, sensed, depth, config)
    noise = None if measurements.noise_variance is None else measurements.noise_variance.double() / scale
    count = _count(paths, noise, sensing, config) if counted else depth
    _improve(paths, sensing, sensed, count, config)
    slots = torch.arange(config.scene.k_max, device=depth.device)
    used = slots < torch.minimum(slots[:, None] + 1, depth[:, None, None])
    power = torch.stack([source_powers(sensing, paths.search[:, k], used[:, k], config) for k in slots.tolist()], dim=1)
    position = torch.where(used[..., None], inside(to_position(paths.search), config.scene), 0.0)
    return paths.rss * scale[:, None], position, power * scale[:, None, None], count


@dataclass(frozen=True)
class _Paths:
    """Solutions for every count: ``rss[:, k]``, and ``search[:, k - 1]`` with its first k slots in use; updated in place."""

    rss: Tensor
    search: Tensor


def _greedy(sensing: Sensing, sensed: SensedGrid, depth: Int[Tensor, " B"], config: Config) -> _Paths:
    """One source after the other, all of them refined jointly each time."""
    k_max = config.scene.k_max
    rss = sensing.energy()[:, None].repeat(1, k_max + 1)
    search = torch.ones((len(depth), k_max, k_max, 3), dtype=torch.float64, device=depth.device)
    for k in range(1, k_max + 1):
        search[:, k - 1], rss[:, k] = search[:, max(k - 2, 0)], rss[:, k - 1]
        scene = torch.nonzero(depth >= k)[:, 0]
        if len(scene):
            mask = torch.ones((len(scene), k), dtype=torch.bool, device=depth.device)
            part, now = sensing[: len(scene)], search[scene, k - 1, :k]
            now[:, -1], _ = next_source(part, sensed[scene], now[:, :-1], mask[:, :-1], config)
            search[scene, k - 1, :k], rss[scene, k] = joint_refinement(part, now, mask, config)
    return _Paths(rss, search)


def _count(paths: _Paths, noise: Tensor | None, sensing: Sensing, config: Config) -> Int[Tensor, " B"]:
    _, snapshots, antennas = sensing.snapshots.shape
    return count_from_residuals(paths.rss, noise, snapshots, antennas, config.estimate.false_alarm)


def _improve(paths: _Paths, sensing: Sensing, sensed: SensedGrid, k: Int[Tensor, " B"], config: Config) -> None:
    """Search every source of the solutions with k sources again, until nothing changes or the passes are used up."""
    scene = torch.nonzero(k > 1)[:, 0]
    for _ in range(RESEARCH_PASSES):
        if len(scene) == 0:
            return
        count = k[scene]
        part = sensing if len(scene) == len(k) else sensing[scene]
        before = Solution(paths.search[scene, count - 1], paths.rss[scene, count], count)
        after = search_again(part, sensed[scene], before, config)
        paths.search[scene, count - 1], paths.rss[scene, count] = after.search, after.rss
        scene = scene[after.rss < before.rss * (1.0 - IMPROVED)]
