"""OMP: the atoms that a dense pursuit picks, grid points only, and exact recovery of what lies on the grid."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from ris_pipeline.arrays import Sources
from ris_pipeline.errors import DataError
from ris_pipeline.estimators import grid_of, omp
from ris_pipeline.simulation import clean_snapshots, codes_of, simulate, true_factor


def pursuit(measurements, scene, steering, count, bits=3):
    """Textbook simultaneous OMP by dense least squares: indices of the atoms, powers, residual energy."""
    y, H = measurements.snapshots[scene].numpy(), measurements.channel[scene].numpy()
    codes = np.exp(2j * np.pi * measurements.code_index[scene].numpy() / 2**bits)
    atoms = [H @ (c[:, None] * steering.T) for c in codes]
    picked, residual = [], y.copy()
    for _ in range(count):
        gain = sum(np.abs(g.conj().T @ r) ** 2 / np.sum(np.abs(g) ** 2, axis=0) for g, r in zip(atoms, residual, strict=True))
        picked.append(int(np.argmax(gain)))
        fits = [np.linalg.lstsq(g[:, picked], row, rcond=None)[0] for g, row in zip(atoms, y, strict=True)]
        residual = np.array([row - g[:, picked] @ b for g, row, b in zip(atoms, y, fits, strict=True)])
    return picked, np.mean(np.abs(fits) ** 2, axis=0)


def test_picks_the_atoms_of_a_dense_pursuit(small, scenes):
    k = torch.full((12,), 3)
    found = omp(scenes.measurements, small, k)
    grid = grid_of(small)
    for scene in range(12):
        picked, power = pursuit(scenes.measurements, scene, grid.steering.to(torch.complex128).numpy(), 3)
        np.testing.assert_allclose(found.position[scene].numpy(), grid.position[picked].numpy(), rtol=1e-12)
        np.testing.assert_allclose(found.power[scene].numpy(), power, rtol=1e-4)


def on_grid(config, points, seed=0):
    """Noise-free scenes whose sources are grid points."""
    scenes = simulate(config, len(points), torch.Generator().manual_seed(seed))
    position = grid_of(config).position[torch.tensor(points)]
    k = torch.full((len(points),), position.shape[1])
    padded = torch.ones(len(points), config.scene.k_max, 3, dtype=torch.float64)
    padded[:, : position.shape[1]] = position
    sources = Sources.from_position(padded, torch.full((len(points), config.scene.k_max), 0.5).double(), k)
    symbols = torch.ones(len(points), config.codes.snapshots, config.scene.k_max, dtype=torch.complex128)
    measured = scenes.measurements
    clean = clean_snapshots(measured.channel, codes_of(measured, config.codes), true_factor(config.array, sources), symbols)
    return replace(measured, snapshots=clean, noise_variance=torch.full((len(points),), 1e-9).double()), sources


def test_noise_free_source_on_the_grid_is_recovered_and_counted_exactly(small):
    measured, sources = on_grid(small, [[3], [700], [1500]])
    found = omp(measured, small)
    assert found.k.tolist() == [1, 1, 1]
    torch.testing.assert_close(found.position, sources.position, rtol=0, atol=1e-12)
    np.testing.assert_allclose(found.power[:, 0].numpy(), 0.5, rtol=1e-6)


def test_estimates_are_grid_points_and_distinct(small, scenes):
    found = omp(scenes.measurements, small, torch.full((12,), 3))
    points = {tuple(point) for point in grid_of(small).position.tolist()}
    for scene in found.position.tolist():
        assert len({tuple(position) for position in scene}) == 3
        assert {tuple(position) for position in scene} <= points


def test_a_known_count_of_no_source_is_none(small, scenes):
    found = omp(scenes.measurements, small, torch.zeros(12, dtype=torch.int64))
    assert bool((found.position == 0).all())
    assert bool((found.k == 0).all())


def test_counts_noise_as_nothing_at_the_false_alarm_rate(small):
    """200 scenes of noise alone at a false-alarm rate of 5 %; the coarse grid has fewer places than the rate assumes."""
    config = small.replaced(estimate={"false_alarm": 0.05})
    scenes = simulate(config, 200, torch.Generator().manual_seed(5)).measurements
    noise = torch.randn(scenes.snapshots.shape, dtype=torch.complex128, generator=torch.Generator().manual_seed(6))
    found = omp(replace(scenes, snapshots=noise, noise_variance=torch.ones(200).double()), config)
    assert float((found.k > 0).double().mean()) < 0.1


@pytest.mark.parametrize("k", [-1, 4])
def test_a_count_out_of_range_is_a_readable_error(small, scenes, k):
    with pytest.raises(DataError, match=r"k must lie in 0\.\.3 \(scene\.k_max\), got"):
        omp(scenes.measurements, small, torch.tensor([2] * 11 + [k]))
