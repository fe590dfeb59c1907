r"""Search grid, scans over it, and the peaks of what they give.

Axes: B scenes, N elements, J columns, G groups of columns, Q grid points (A azimuths x E elevations x R inverse ranges, in this
order), q points of a part, C peaks. The grid is uniform in azimuth, elevation and inverse range and includes the edges of the
field of view. The whole domain lies inside the Rayleigh distance, so no single range sees all sources: every scan covers all
ranges of the grid.

A scan evaluates |v^H a|^2 for many vectors v. The surface and the grid are both mirror-symmetric: the steering vector at
(-azimuth, elevation) is the one at (azimuth, elevation) with the columns of the surface in reverse order, and likewise for rows
and elevation. So v and a are split into parts that are even and odd in rows and columns; the four partial products of a point
in one quadrant, with signs, are the products of all four mirror images. That quarters both the arithmetic and the steering
vectors to be kept, and is exact.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Complex, Float, Int
from torch import Tensor

from ris_pipeline.arrays import search_grid
from ris_pipeline.config import ArrayConfig, Config, EstimateConfig, SceneConfig
from ris_pipeline.covariance import FactoredCovariance
from ris_pipeline.estimators.derivatives import to_position

CHUNK_POINTS = 2048
"""Grid points of one quadrant that a scan handles at a time."""
CHUNK_PRODUCTS = 1 << 17
"""Products of one block that a scan holds at a time; with ``CHUNK_POINTS`` it bounds the memory beside the map itself."""
CACHE_BYTES = 1 << 26
"""Steering vectors of a scan are kept for the next one where they take no more than this, and built anew part by part elsewhere."""
MAP_BYTES = 1 << 25
"""Memory that one map of all scenes of a chunk may take; one scene's map, of 4 bytes a point, is the least."""
MOST_SCENES = 64
"""Most scenes of a chunk."""

Part = tuple[slice, slice]
"""Azimuths and elevations of a part of the quadrant."""


@dataclass(frozen=True)
class SearchGrid:
    """Grid in search coordinates; ``shape`` is (A, E, R) and ``search`` its points in that order."""

    array: ArrayConfig
    azimuth_rad: Float[Tensor, " A"]
    elevation_rad: Float[Tensor, " E"]
    inverse_range_per_m: Float[Tensor, " R"]

    @property
    def shape(self) -> tuple[int, int, int]:
        """Number of azimuths, elevations and inverse ranges."""
        return len(self.azimuth_rad), len(self.elevation_rad), len(self.inverse_range_per_m)

    @property
    def scenes_at_a_time(self) -> int:
        """Scenes whose maps fit into ``MAP_BYTES``."""
        return max(1, min(MOST_SCENES, MAP_BYTES // (4 * math.prod(self.shape))))

    @functools.cached_property
    def search(self) -> Float[Tensor, "Q 3"]:
        """Azimuth (rad), elevation (rad) and inverse range (1/m) of the points."""
        return torch.cartesian_prod(self.azimuth_rad, self.elevation_rad, self.inverse_range_per_m).reshape(-1, 3)

    @property
    def position(self) -> Float[Tensor, "Q 3"]:
        """Azimuth (rad), elevation (rad) and range (m) of the points."""
        return to_position(self.search)

    @functools.cached_property
    def steering(self) -> Complex[Tensor, "Q N"]:
        """Steering vectors of all points in single precision; a scan does not need them."""
        # One azimuth at a time, so that only the single-precision result is ever large.
        axes = (self.elevation_rad, self.inverse_range_per_m)
        parts = [search_grid(self.array, part, *axes)[1].to(torch.complex64) for part in torch.split(self.azimuth_rad, 1)]
        return torch.cat(parts).reshape(len(self.search), -1)

    def energy(self, columns: Complex[Tensor, "B N J"], groups: int = 1) -> Float[Tensor, "B G Q"]:
        """Sums of |v^H a|^2 over each of ``groups`` equal runs of columns v at all points, in single precision."""
        batch, _, width = columns.shape
        out = torch.zeros((batch, groups, *self.shape), dtype=torch.float32, device=columns.device)
        if width == 0 or batch == 0:
            return out.flatten(2)
        folded = [_real_rows(block) for block in _fold(columns.to(torch.complex64).mT, self.array)]
        for part, atoms in self._quadrant():
            points = atoms[0].shape[1]
            for scenes in torch.arange(batch).split(max(1, CHUNK_PRODUCTS // (width * points))):
                rows = [block[scenes[0] : scenes[-1] + 1] for block in folded]
                mirrored = _mirrored_energies(rows, atoms, groups)
                self._place(out[scenes[0] : scenes[-1] + 1], part, mirrored)
        return out.flatten(2)

    def unflatten(self, values: Float[Tensor, "B Q"]) -> Float[Tensor, "B A E R"]:
        """Values on the points, as a map."""
        return values.reshape(-1, *self.shape)

    def _quadrant(self) -> Iterator[tuple[Part, tuple[Tensor, ...]]]:
        """Parts of the quadrant in which neither angle is negative, each with its folded steering vectors [Re a; Im a]."""
        points = (len(self.azimuth_rad) // 2 + 1) * (len(self.elevation_rad) // 2 + 1) * len(self.inverse_range_per_m)
        if 8 * points * self.array.n_elements <= CACHE_BYTES:
            return iter(self._kept)
        return self._built()

    @functools.cached_property
    def _kept(self) -> list[tuple[Part, tuple[Tensor, ...]]]:
        return list(self._built())

    def _built(self) -> Iterator[tuple[Part, tuple[Tensor, ...]]]:
        azimuth_rad = self.azimuth_rad[len(self.azimuth_rad) // 2 :]
        elevation_rad = self.elevation_rad[len(self.elevation_rad) // 2 :]
        ranges = len(self.inverse_range_per_m)
        for rows in _slices(len(azimuth_rad), CHUNK_POINTS // (len(elevation_rad) * ranges)):
            for columns in _slices(len(elevation_rad), CHUNK_POINTS // ((rows.stop - rows.start) * ranges)):
                steering = search_grid(self.array, azimuth_rad[rows], elevation_rad[columns], self.inverse_range_per_m)[1]
                blocks = _fold(steering.to(torch.complex64).flatten(0, 2), self.array)
                yield (rows, columns), tuple(torch.cat((block.real, block.imag), dim=-1).T.contiguous() for block in blocks)

    def _place(self, out: Float[Tensor, "B G A E R"], part: Part, energies: list[Float[Tensor, "B G q"]]) -> None:
        """Write the energies of the four mirror images of a part; those on an axis are written twice, with the same value."""
        block = (*(axis.stop - axis.start for axis in part), len(self.inverse_range_per_m))
        (right, left), (up, down) = (_images(axis, size // 2) for axis, size in zip(part, self.shape[:2], strict=True))
        right_up, right_down, left_up, left_down = (values.unflatten(-1, block) for values in energies)
        out[:, :, right, up], out[:, :, left, up] = right_up, left_up.flip(2)
        out[:, :, right, down], out[:, :, left, down] = right_down.flip(3), left_down.flip((2, 3))


def _slices(length: int, size: int) -> Iterator[slice]:
    for first in range(0, length, max(1, size)):
        yield slice(first, min(first + max(1, size), length))


def _images(part: slice, centre: int) -> tuple[slice, slice]:
    """Where a part of the half of an axis that is not negative lies on the whole axis, and where its mirror image does."""
    return slice(centre + part.start, centre + part.stop), slice(centre - part.stop + 1, centre - part.start + 1)


def _fold(vectors: Complex[Tensor, "*S N"], array: ArrayConfig) -> list[Complex[Tensor, "*S n"]]:
    """Parts that are even-even, even-odd, odd-even and odd-odd in rows and columns of the surface; an orthonormal transform."""
    surface = vectors.unflatten(-1, (array.n_v, array.n_h))
    return [block.flatten(-2) for rows in _parities(surface, -2) for block in _parities(rows, -1)]


def _parities(values: Complex[Tensor, "..."], dim: int) -> tuple[Complex[Tensor, "..."], Complex[Tensor, "..."]]:
    """Even and odd part along an axis."""
    size = values.shape[dim]
    front, back = values.narrow(dim, 0, size // 2), values.flip(dim).narrow(dim, 0, size // 2)
    middle = values.narrow(dim, size // 2, size % 2)
    return torch.cat(((front + back) * math.sqrt(0.5), middle), dim=dim), (front - back) * math.sqrt(0.5)


def _real_rows(vectors: Complex[Tensor, "B J n"]) -> Float[Tensor, "B J 2 n2"]:
    """Real rows whose products with [Re a; Im a] are the real and the imaginary part of v^H a."""
    real, imaginary = vectors.real, vectors.imag
    return torch.stack((torch.cat((real, imaginary), dim=-1), torch.cat((-imaginary, real), dim=-1)), dim=-2)


def _mirrored_energies(
    rows: list[Float[Tensor, "B J 2 _"]], atoms: tuple[Float[Tensor, "_ q"], ...], groups: int
) -> list[Float[Tensor, "B G q"]]:
    """Energies at (az, el), (az, -el), (-az, el), (-az, -el).

    With x and y the products of the parts that are even and odd in rows, |x + y|^2 and |x - y|^2 are |x|^2 + |y|^2 +- 2 Re x* y.
    """
    batch, width = rows[0].shape[:2]
    shape = (batch, groups, 2 * width // groups, -1)
    even_even, even_odd, odd_even, odd_odd = (r.flatten(0, 2) @ a for r, a in zip(rows, atoms, strict=True))
    found = []
    for x, y in ((even_even + even_odd, odd_even + odd_odd), (even_even - even_odd, odd_even - odd_odd)):
        total = torch.addcmul(x.square(), y, y).reshape(shape).sum(dim=2)
        cross = (x * y).reshape(shape).sum(dim=2)
        found += [total.add(cross, alpha=2.0), total.sub(cross, alpha=2.0)]
    return found


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
    return SearchGrid(array, azimuth_rad, elevation_rad, inverse_range_per_m)


def bartlett_spectrum(covariance: FactoredCovariance, config: Config) -> Float[Tensor, "B A E R"]:
    """P(p) = a^H R a / N on the search grid, in single precision."""
    grid = grid_of(config, covariance.factor.device)
    return grid.unflatten(grid.energy(covariance.factor)[:, 0] / covariance.n + covariance.diagonal.float()[:, None])


def find_peaks(spectrum: Float[Tensor, "B A E R"], count: int) -> tuple[Int[Tensor, "B C"], Bool[Tensor, "B C"]]:
    """The ``count`` highest local maxima (no greater value among the 26 neighbours), highest first.

    Returns:
        Flat grid indices, and whether each is a local maximum: where a map has fewer of them, the highest other cells fill up.
    """
    highest = spectrum
    for axis in (1, 2, 3):
        highest = _highest_neighbour(highest, axis)
    flat, is_peak = spectrum.flatten(1), (spectrum >= highest).flatten(1)
    # Peaks first, then everything else, each by height: suppressed cells are shifted below the lowest value of their map.
    low, high = flat.amin(dim=1, keepdim=True), flat.amax(dim=1, keepdim=True)
    ranked = torch.where(is_peak, flat, flat - 2.0 * (high - low) - 1e-30)
    index = ranked.topk(min(count, flat.shape[1]), dim=1).indices
    return index, is_peak.gather(1, index)


def _highest_neighbour(values: Float[Tensor, "B A E R"], axis: int) -> Float[Tensor, "B A E R"]:
    """The greatest of every value and its two neighbours along an axis."""
    size = values.shape[axis]
    highest = values.clone()
    for kept, shifted in ((0, 1), (1, 0)):
        part = highest.narrow(axis, kept, size - 1)
        torch.maximum(part, values.narrow(axis, shifted, size - 1), out=part)
    return highest
