"""Search grid, Bartlett spectrum and peaks."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from ris_pipeline.arrays import Sources, steering_vector
from ris_pipeline.channel import complex_normal
from ris_pipeline.config import Config
from ris_pipeline.covariance import FactoredCovariance
from ris_pipeline.estimators import bartlett_spectrum, find_peaks, grid_of, spectrum
from ris_pipeline.simulation import true_factor


def test_grid_covers_the_field_of_view_at_the_asked_steps(small):
    grid = grid_of(small)
    axes = [np.unique(grid.search[:, axis].numpy()) for axis in range(3)]
    assert tuple(len(axis) for axis in axes) == grid.shape == (25, 13, 5)
    np.testing.assert_allclose([axes[0][0], axes[0][-1]], [-math.pi / 3, math.pi / 3])
    np.testing.assert_allclose([axes[1][0], axes[1][-1]], [-math.pi / 6, math.pi / 6])
    np.testing.assert_allclose(axes[2], np.linspace(0.1, 2.0, 5))
    assert np.diff(axes[0]).max() <= math.radians(5.0) + 1e-12
    point = 777
    expected = steering_vector(small.array, *grid.position[point])
    np.testing.assert_allclose(grid.steering[point].numpy(), expected.numpy(), atol=1e-5)


def test_grid_is_built_once_per_configuration(small):
    assert grid_of(small) is grid_of(small.replaced(train={"epochs": 3}))
    assert grid_of(small) is not grid_of(small.replaced(estimate={"grid_range": 4}))


def test_bartlett_equals_dense_quadratic_forms(small, monkeypatch):
    covariance = FactoredCovariance(complex_normal(torch.Generator().manual_seed(1), 2, 48, 3), torch.tensor([0.0, 0.4]).double())
    monkeypatch.setattr(spectrum, "CHUNK_POINTS", 100)
    values = bartlett_spectrum(covariance, small).flatten(1).numpy()
    steering = grid_of(small).steering.numpy()
    for scene, R in enumerate(covariance.dense().numpy()):
        expected = np.einsum("qn,nm,qm->q", steering.conj(), R, steering).real / 48
        np.testing.assert_allclose(values[scene], expected, rtol=2e-4, atol=1e-4)


def neighbours(shape, cell):
    offsets = itertools.product((-1, 0, 1), repeat=3)
    for offset in offsets:
        moved = tuple(c + o for c, o in zip(cell, offset, strict=True))
        if all(0 <= m < s for m, s in zip(moved, shape, strict=True)):
            yield moved


def test_peaks_are_the_highest_local_maxima():
    values = torch.rand(3, 7, 5, 4, generator=torch.Generator().manual_seed(2))
    index, valid = find_peaks(values, 5)
    for scene, table in enumerate(values.numpy()):
        cells = itertools.product(*map(range, table.shape))
        maxima = [cell for cell in cells if all(table[cell] >= table[other] for other in neighbours(table.shape, cell))]
        best = sorted(maxima, key=lambda cell: -table[cell])[:5]
        expected = [np.ravel_multi_index(cell, table.shape) for cell in best]
        assert index[scene, valid[scene]].tolist() == expected


def test_peaks_fill_up_where_a_map_has_too_few():
    values = -torch.arange(60.0).reshape(1, 5, 4, 3)
    index, valid = find_peaks(values, 3)
    assert valid.tolist() == [[True, False, False]]
    assert index.tolist() == [[0, 1, 2]]


def test_two_sources_give_two_peaks_not_two_cells_of_one(small):
    position = torch.tensor([[[0.5, 0.1, 2.0], [-0.6, -0.2, 4.0]]], dtype=torch.float64)
    sources = Sources.from_position(position, torch.tensor([[1.0, 0.4]], dtype=torch.float64), torch.tensor([2]))
    values = bartlett_spectrum(FactoredCovariance.from_factor(true_factor(small.array, sources)), small)
    cells = values.flatten(1).topk(2).indices
    peaks, _ = find_peaks(values, 2)
    points = grid_of(small).position
    assert float((points[peaks[0, 0], 0] - points[peaks[0, 1], 0]).abs()) > 0.9
    assert float((points[cells[0, 0], 0] - points[cells[0, 1], 0]).abs()) < 0.2


# Scans.


@pytest.mark.parametrize("shape", [(8, 6), (5, 7), (1, 4), (4, 1)], ids=["8x6", "5x7", "1x4", "4x1"])
@pytest.mark.parametrize("chunk", [30, 2048])
def test_scan_equals_products_with_the_steering_vectors(small, monkeypatch, shape, chunk):
    config = small.replaced(array={"n_h": shape[0], "n_v": shape[1]}, estimate={"refine_steps": 20 + chunk % 7})
    monkeypatch.setattr(spectrum, "CHUNK_POINTS", chunk)
    monkeypatch.setattr(spectrum, "CACHE_BYTES", 0)
    columns = complex_normal(torch.Generator().manual_seed(7), 3, config.array.n_elements, 4)
    grid = grid_of(config)
    found = grid.energy(columns, groups=2)
    products = (columns.mT.conj() @ grid.steering.to(torch.complex128).T).abs().square()
    expected = products.unflatten(1, (2, 2)).sum(dim=2)
    assert found.shape == (3, 2, math.prod(grid.shape))
    torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=1e-4 * float(expected.max()))


class Allocations(TorchDispatchMode):
    """Bytes of every tensor that an operation returns, maps of the whole grid aside."""

    def __init__(self, map_values):
        super().__init__()
        self.map_values, self.largest = map_values, 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, (tuple, list)) else (result,):
            if isinstance(tensor, torch.Tensor) and tensor.numel() != self.map_values and tensor._base is None:
                self.largest = max(self.largest, tensor.numel() * tensor.element_size())
        return result


def largest_allocation(config, columns):
    grid = grid_of(config)
    points = math.prod(grid.shape)
    with Allocations(points) as seen:
        values = grid.energy(columns)
    assert values.numel() == points
    return points, seen.largest


def test_memory_of_a_scan_does_not_grow_with_the_grid(monkeypatch):
    """Grids of 5 thousand to 0.6 million points: beside the map, no tensor is larger than what the chunk sizes allow."""
    monkeypatch.setattr(spectrum, "CACHE_BYTES", 0)
    columns = complex_normal(torch.Generator().manual_seed(7), 1, 144, 5)
    steps = ((3.0, 3.0, 6), (1.0, 1.0, 6), (2.0, 0.1, 16))
    configs = [
        Config().replaced(estimate=dict(zip(("grid_azimuth_deg", "grid_elevation_deg", "grid_range"), s, strict=True))) for s in steps
    ]
    points, largest = zip(*(largest_allocation(config, columns) for config in configs), strict=True)
    assert points[2] > 100 * points[0]
    bound = spectrum.CHUNK_POINTS * 144 * 3 * 8  # coordinates of the distances to all elements
    assert max(largest) <= bound
    assert points[2] * 144 * 8 > 40 * bound


def test_steering_vectors_are_kept_only_where_they_are_small(small):
    columns = complex_normal(torch.Generator().manual_seed(7), 1, 144, 1)
    for step, kept in ((3.0, True), (0.25, False)):
        grid = grid_of(Config().replaced(estimate={"grid_azimuth_deg": step, "grid_elevation_deg": step, "grid_range": 7}))
        grid.energy(columns)
        assert ("_kept" in vars(grid)) == kept


def test_scenes_are_taken_in_numbers_whose_maps_stay_bounded():
    for step in (5.0, 1.0, 0.2):
        grid = grid_of(Config().replaced(estimate={"grid_azimuth_deg": step, "grid_elevation_deg": step}))
        count, bytes_per_map = grid.scenes_at_a_time, 4 * math.prod(grid.shape)
        assert count == 1 or count * bytes_per_map <= spectrum.MAP_BYTES
        assert count == spectrum.MOST_SCENES or (count + 1) * bytes_per_map > spectrum.MAP_BYTES
