"""Search grid, Bartlett spectrum and peaks.

Axes: B scenes, N elements, Q grid points (A azimuths x E elevations x R inverse ranges, in this order), C peaks. The grid is
uniform in azimuth, elevation and inverse range and includes the edges of the field of view. The whole domain lies inside the
Rayleigh distance, so no single range sees all sources: every scan covers all ranges of the grid.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Complex, Float, Int
from torch import Tensor
from torch.nn import functional

from ris_pipeline.arrays import search_grid
from ris_pipeline.config import ArrayConfig, Config, EstimateConfig, SceneConfig
from ris_pipeline.covariance import FactoredCovariance
from ris_pipeline.estimators.derivatives import to_position

CHUNK_POINTS = 8192
"""Grid points that a scan handles at a time; bounds its memory whatever the grid."""


@dataclass(frozen=True)
class SearchGrid:
    """Grid in search coordinates; ``shape`` is (A, E, R) and ``search`` its points in that order."""

    shape: tuple[int, int, int]
    search: Float[Tensor, "Q 3"]
    steering: Complex[Tensor, "Q N"]

    @property
    def position(self) -> Float[Tensor, "Q 3"]:
        """Azimuth (rad), elevation (rad) and range (m) of the points."""
        return to_position(self.search)

    def scan(self, kernel: Callable[[Complex[Tensor, "q N"]], Float[Tensor, "B q"]]) -> Float[Tensor, "B Q"]:
        """Evaluate ``kernel`` on the steering vectors of all points, chunk by chunk."""
        return torch.cat([kernel(part) for part in torch.split(self.steering, CHUNK_POINTS)], dim=-1)

    def unflatten(self, values: Float[Tensor, "B Q"]) -> Float[Tensor, "B A E R"]:
        """Values on the points, as a map."""
        return values.reshape(-1, *self.shape)


def grid_of(config: Config, device: torch.device | str = "cpu") -> SearchGrid:
    """The search grid of a configuration, with steering vectors in single precision; built once per configuration and device."""
    return _grid(config.array, config.scene, config.estimate, str(device))


@functools.lru_cache(maxsize=8)
def _grid(array: ArrayConfig, scene: SceneConfig, estimate: EstimateConfig, device: str) -> SearchGrid:
    def axis(limit: float, step: float) -> Tensor:
        return torch.linspace(-limit, limit, 2 * math.ceil(limit / step) + 1, dtype=torch.float64, device=device)

    azimuth_rad = axis(scene.azimuth_max_rad, math.radians(estimate.grid_azimuth_deg))
    elevation_rad = axis(scene.elevation_max_rad, math.radians(estimate.grid_elevation_deg))
    inverse_range_per_m = torch.linspace(
        1.0 / scene.range_max_m, 1.0 / scene.range_min_m, estimate.grid_range, dtype=torch.float64, device=device
    )
    shape = (len(azimuth_rad), len(elevation_rad), len(inverse_range_per_m))
    search = torch.cartesian_prod(azimuth_rad, elevation_rad, inverse_range_per_m)
    # One azimuth at a time, so that only the single-precision result is ever large.
    parts = [search_grid(array, part, elevation_rad, inverse_range_per_m)[1].to(torch.complex64) for part in torch.split(azimuth_rad, 1)]
    return SearchGrid(shape, search, torch.cat(parts).reshape(len(search), -1))


def bartlett_spectrum(covariance: FactoredCovariance, config: Config) -> Float[Tensor, "B A E R"]:
    """P(p) = a^H R a / N on the search grid, in single precision."""
    grid = grid_of(config, covariance.factor.device)
    single = FactoredCovariance(covariance.factor.to(torch.complex64), covariance.diagonal.float())
    return grid.unflatten(grid.scan(single.quadratic) / covariance.n)


def find_peaks(spectrum: Float[Tensor, "B A E R"], count: int) -> tuple[Int[Tensor, "B C"], Bool[Tensor, "B C"]]:
    """The ``count`` highest local maxima (no greater value among the 26 neighbours), highest first.

    Returns:
        Flat grid indices, and whether each is a local maximum: where a map has fewer of them, the highest other cells fill up.
    """
    highest = functional.max_pool3d(spectrum[:, None], kernel_size=3, stride=1, padding=1)[:, 0]
    flat, is_peak = spectrum.flatten(1), (spectrum >= highest).flatten(1)
    # Peaks first, then everything else, each by height: suppressed cells are shifted below the lowest value of their map.
    low, high = flat.amin(dim=1, keepdim=True), flat.amax(dim=1, keepdim=True)
    ranked = torch.where(is_peak, flat, flat - 2.0 * (high - low) - 1e-30)
    index = ranked.topk(min(count, flat.shape[1]), dim=1).indices
    return index, is_peak.gather(1, index)
