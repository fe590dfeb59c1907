"""Search grid, Bartlett spectrum and peaks."""

from __future__ import annotations

import itertools
import math

import numpy as np
import torch

from ris_pipeline.arrays import Sources, steering_vector
from ris_pipeline.channel import complex_normal
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
