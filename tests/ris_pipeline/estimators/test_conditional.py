"""Conditional maximum likelihood: brute force, laws, and what it does with bad input."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from ris_pipeline.arrays import Sources, steering_vector
from ris_pipeline.channel import complex_normal
from ris_pipeline.config import Config
from ris_pipeline.errors import DataError
from ris_pipeline.estimators import conditional, conditional_likelihood, estimate_noise_variance, grid_of, refine
from ris_pipeline.estimators.greedy import SensedGrid
from ris_pipeline.estimators.sensing import Sensing, orthonormal_basis, outside
from ris_pipeline.simulation import Simulated, clean_snapshots, codes_of, simulate, true_factor


def residual_by_hand(measurements, scene, positions, config):
    """RSS and mean squared amplitudes by NumPy least squares, snapshot by snapshot."""
    codes = np.exp(2j * np.pi * measurements.code_index[scene].numpy() / 8)
    rss, power = 0.0, np.zeros(len(positions))
    for snapshot, code in zip(measurements.snapshots[scene].numpy(), codes, strict=True):
        columns = [steering_vector(config.array, *torch.as_tensor(p, dtype=torch.float64)).numpy() for p in positions]
        G = measurements.channel[scene].numpy() @ np.diag(code) @ np.stack(columns, axis=1)
        b, *_ = np.linalg.lstsq(G, snapshot, rcond=None)
        rss += np.sum(np.abs(snapshot - G @ b) ** 2)
        power += np.abs(b) ** 2 / len(codes)
    return rss, power


def noise_free(config, position, symbols):
    """Scenes with equal powers at given positions, without noise."""
    count = len(position)
    k = torch.full((count,), position.shape[1])
    sources = Sources.from_position(position, torch.ones(position.shape[:2], dtype=torch.float64), k)
    simulated = simulate(config, count, torch.Generator().manual_seed(9))
    codes = codes_of(simulated.measurements, config.codes)
    clean = clean_snapshots(simulated.measurements.channel, codes, true_factor(config.array, sources), symbols)
    return Simulated(replace(simulated.measurements, snapshots=clean, noise_variance=torch.zeros(count).double()), sources, symbols)


@pytest.fixture(scope="module")
def separated(small):
    """Four noise-free scenes of three sources apart."""
    base = torch.tensor([[-0.8, 0.3, 1.0], [0.1, -0.2, 2.5], [0.9, 0.3, 0.8]], dtype=torch.float64)
    generator = torch.Generator().manual_seed(1)
    position = base + 0.08 * torch.rand(4, 3, 3, generator=generator, dtype=torch.float64)
    return noise_free(small, position, complex_normal(generator, 4, 8, 3))


def sorted_position(sources):
    order = sources.azimuth_rad.argsort(dim=1)
    return sources.position.gather(1, order[..., None].expand(-1, -1, 3))


def test_noise_free_snapshots_give_exact_positions(small, separated):
    k = torch.full((4,), 3)
    estimate = conditional_likelihood(separated.measurements, small, k).sources
    torch.testing.assert_close(sorted_position(estimate), separated.sources.position, rtol=0, atol=1e-6)


def test_noise_free_static_symbols_give_exact_positions(small, separated):
    still = separated.symbols[:, :1].expand(-1, 8, -1)
    simulated = noise_free(small, separated.sources.position, still)
    estimate = conditional_likelihood(simulated.measurements, small, torch.full((4,), 3)).sources
    torch.testing.assert_close(sorted_position(estimate), separated.sources.position, rtol=0, atol=1e-6)


def test_noise_free_count_is_exact(small, separated):
    result = conditional_likelihood(separated.measurements, small)
    assert result.sources.k.tolist() == [3] * 4
    assert conditional_likelihood(replace(separated.measurements, noise_variance=None), small).sources.k.tolist() == [3] * 4


@pytest.fixture(scope="module")
def estimated(small, scenes):
    return conditional_likelihood(scenes.measurements, small, scenes.sources.k)


def test_residuals_and_powers_equal_brute_force_at_the_estimate(small, scenes, estimated):
    for scene in range(12):
        for k in range(1, int(scenes.sources.k[scene]) + 1):
            positions = estimated.position[scene, k - 1, :k].numpy()
            rss, power = residual_by_hand(scenes.measurements, scene, positions, small)
            np.testing.assert_allclose(float(estimated.rss[scene, k]), rss, rtol=1e-8)
            np.testing.assert_allclose(estimated.power[scene, k - 1, :k].numpy(), power, rtol=1e-6)


def test_residual_falls_with_every_source_and_with_nothing_else(small, scenes, estimated):
    energy = scenes.measurements.snapshots.abs().square().sum(dim=(1, 2))
    torch.testing.assert_close(estimated.rss[:, 0], energy)
    assert bool((estimated.rss.diff(dim=1) <= 0).all())
    for scene, k in enumerate(scenes.sources.k.tolist()):
        assert len(torch.unique(estimated.rss[scene])) == k + 1
        assert bool((estimated.position[scene, :, k:] == 0).all())


def test_gain_of_a_grid_point_is_the_fall_of_the_residual(small, scenes):
    sensing = Sensing.of(scenes.measurements, small)
    grid = grid_of(small)
    first = grid.search[[300]].expand(12, -1)
    atom = sensing.sense(steering_vector(small.array, first[:, 0], first[:, 1], 1.0 / first[:, 2])[..., None])
    basis = orthonormal_basis(atom)
    gain = SensedGrid.of(sensing, grid).gain(basis, outside(basis, sensing.snapshots[..., None])[..., 0])
    for scene, point in ((0, 5), (3, 700), (8, 1500)):
        pair = grid.position[[300, point]].numpy()
        before, _ = residual_by_hand(scenes.measurements, scene, pair[:1], small)
        after, _ = residual_by_hand(scenes.measurements, scene, pair, small)
        np.testing.assert_allclose(float(gain[scene, point]), before - after, rtol=1e-3, atol=1e-3 * before)
        assert float(gain[scene, 300]) == 0.0


def test_refine_never_raises_the_residual_and_stays_in_the_field_of_view(small, scenes):
    generator = torch.Generator().manual_seed(6)
    wide = torch.rand(12, 3, 3, generator=generator, dtype=torch.float64) * torch.tensor([3.0, 1.4, 12.0]) - torch.tensor([1.5, 0.7, 0.0])
    start = Sources.from_position(wide, torch.zeros(12, 3).double(), scenes.sources.k)
    previous = refine(scenes.measurements, start, small.replaced(estimate={"refine_steps": 1})).rss
    for steps in (2, 4, 8, 30):
        refined = refine(scenes.measurements, start, small.replaced(estimate={"refine_steps": steps}))
        assert bool((refined.rss <= previous).all())
        previous = refined.rss
    azimuth, elevation, radius = (value[refined.sources.mask] for value in refined.sources.position.unbind(-1))
    assert bool((azimuth.abs() <= math.pi / 3).all())
    assert bool((elevation.abs() <= math.pi / 6).all())
    assert bool(((radius >= 0.5) & (radius <= 10.0)).all())
    assert torch.equal(refined.sources.k, scenes.sources.k)


def test_refine_finds_a_minimum_that_brute_force_confirms(small, scenes):
    refined = refine(scenes.measurements, scenes.sources, small.replaced(estimate={"refine_steps": 300}))
    for scene in range(6):
        k = int(scenes.sources.k[scene])
        best = refined.sources.position[scene, :k].numpy()
        rss, _ = residual_by_hand(scenes.measurements, scene, best, small)
        np.testing.assert_allclose(float(refined.rss[scene]), rss, rtol=1e-9)
        for source in range(k):
            for step in (1e-3 * np.eye(3)).repeat(2, axis=0) * np.array([1, -1] * 3)[:, None]:
                moved = best.copy()
                moved[source] += step
                inside = abs(moved[source, 0]) <= math.pi / 3 and abs(moved[source, 1]) <= math.pi / 6 and 0.5 <= moved[source, 2] <= 10
                if inside:
                    assert residual_by_hand(scenes.measurements, scene, moved, small)[0] > rss * (1 - 1e-7)


def test_order_of_the_sources_does_not_matter(small, scenes):
    three = scenes.sources.k == 3
    assert int(three.sum()) >= 2
    measurements, sources = scenes.measurements[three], scenes.sources[three]
    turned = Sources.from_position(sources.position[:, [2, 0, 1]], sources.power[:, [2, 0, 1]], sources.k)
    one, other = refine(measurements, sources, small), refine(measurements, turned, small)
    torch.testing.assert_close(other.rss, one.rss, rtol=1e-5, atol=0)
    torch.testing.assert_close(other.sources.position, one.sources.position[:, [2, 0, 1]], rtol=1e-3, atol=1e-3)


def test_phase_and_scale_of_the_data_do_not_matter(small, scenes, estimated):
    factor = 1e-7 * torch.exp(torch.tensor(1.1j, dtype=torch.complex128))
    turned = replace(scenes.measurements, snapshots=scenes.measurements.snapshots * factor)
    other = conditional_likelihood(turned, small, scenes.sources.k)
    torch.testing.assert_close(other.rss / 1e-14, estimated.rss, rtol=1e-6, atol=0)
    torch.testing.assert_close(other.sources.position, estimated.sources.position, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(other.sources.power / 1e-14, estimated.sources.power, rtol=1e-3, atol=0)


def test_single_scene_equals_batch(small, scenes, estimated):
    for scene in (0, 4, 11):
        alone = conditional_likelihood(scenes.measurements[scene : scene + 1], small, scenes.sources.k[scene : scene + 1])
        torch.testing.assert_close(alone.rss[0], estimated.rss[scene], rtol=1e-5, atol=0)
        torch.testing.assert_close(alone.sources.position[0], estimated.sources.position[scene], rtol=1e-3, atol=1e-3)


def test_chunks_do_not_matter(small, scenes, estimated, monkeypatch):
    monkeypatch.setattr(conditional, "CHUNK_BYTES", 5_000_000)
    other = conditional_likelihood(scenes.measurements, small, scenes.sources.k)
    torch.testing.assert_close(other.rss, estimated.rss, rtol=1e-5, atol=0)
    best = other.rss.gather(1, scenes.sources.k[:, None])[:, 0]
    torch.testing.assert_close(refine(scenes.measurements, estimated.sources, small).rss, best, rtol=1e-5, atol=0)


def test_the_estimate_depends_on_the_measurements_alone(small, scenes, estimated):
    backwards = torch.tensor([5, 4, 3, 2])
    turned = conditional_likelihood(scenes.measurements[backwards], small, scenes.sources.k[backwards])
    torch.testing.assert_close(turned.rss, estimated.rss[backwards], rtol=1e-5, atol=0)
    noise = replace(scenes.measurements[:4], snapshots=complex_normal(torch.Generator().manual_seed(3), 4, 8, 8))
    other = conditional_likelihood(noise, small, scenes.sources.k[:4]).sources
    error = (other.position - scenes.sources.position[:4]).abs().amax(dim=-1)
    assert float(error[other.mask].min()) > 1e-3


def test_every_count_can_be_read_from_one_search(small, scenes):
    result = conditional_likelihood(scenes.measurements, small)
    assert bool((result.sources.k <= 3).all())
    two = result.at(torch.full((12,), 2))
    assert torch.equal(two.position[:, :2], result.position[:, 1, :2])
    assert bool((two.position[:, 2] == 0).all())
    none = result.at(torch.zeros(12, dtype=torch.int64))
    assert bool((none.position == 0).all())
    again = result.at(result.sources.k)
    assert torch.equal(again.position, result.sources.position)


def test_searching_again_leaves_the_minima_where_the_greedy_search_stops(monkeypatch):
    config = Config().replaced(scene={"k_min": 2, "k_max": 3, "snr_min_db": 20.0})
    hard = torch.tensor([6, 10, 14, 31, 45, 85])  # of 120 scenes, 18 stop in a local minimum
    simulated = simulate(config, 120, torch.Generator().manual_seed(77))
    measurements, truth = simulated.measurements[hard], simulated.sources[hard]
    genie = refine(measurements, truth, config).rss
    searched = conditional_likelihood(measurements, config, truth.k).rss.gather(1, truth.k[:, None])[:, 0]
    monkeypatch.setattr(conditional, "RESEARCH_PASSES", 0)
    greedy = conditional_likelihood(measurements, config, truth.k).rss.gather(1, truth.k[:, None])[:, 0]
    assert int((greedy > 1.5 * genie).sum()) >= 4
    assert int((searched > 1.0001 * genie).sum()) <= 1


def test_noise_variance_is_estimated_from_the_residual(small):
    config = small.replaced(scene={"k_max": 2, "snr_min_db": 10.0})
    simulated = simulate(config, 40, torch.Generator().manual_seed(12))
    estimate = estimate_noise_variance(simulated.measurements, config)
    assert float((estimate / simulated.measurements.noise_variance).median()) == pytest.approx(1.0, abs=0.12)


def test_no_source_asked_for_is_no_source_given(small, scenes):
    result = conditional_likelihood(scenes.measurements[:2], small, torch.tensor([0, 1]))
    assert bool((result.sources.position[0] == 0).all())
    assert bool((result.rss[0] == result.rss[0, 0]).all())


def test_silent_snapshots_give_finite_results(small, scenes):
    silent = replace(scenes.measurements[:2], snapshots=torch.zeros(2, 8, 8, dtype=torch.complex128))
    result = conditional_likelihood(silent, small)
    assert result.sources.k.tolist() == [0, 0]
    assert bool(torch.isfinite(result.position).all())
    assert bool((result.rss == 0).all())


@pytest.mark.parametrize("name", ["snapshots", "channel"])
def test_measurements_that_are_not_finite_are_a_readable_error(small, scenes, name):
    broken = getattr(scenes.measurements, name).clone()
    broken[1, 2, 3] = float("nan")
    with pytest.raises(DataError, match=f"{name} must be finite numbers, got NaN or infinity"):
        conditional_likelihood(replace(scenes.measurements, **{name: broken}), small)


def test_a_count_out_of_range_is_a_readable_error(small, scenes):
    with pytest.raises(DataError, match=r"k must lie in 0\.\.3 \(scene\.k_max\), got 4\.\.4"):
        conditional_likelihood(scenes.measurements, small, torch.full((12,), 4))


def test_stored_single_precision_gives_the_same_estimate(small, scenes, estimated):
    stored = conditional_likelihood(scenes.measurements.to(torch.complex64)[:6], small, scenes.sources.k[:6])
    assert stored.sources.position.dtype == torch.float64
    torch.testing.assert_close(stored.rss, estimated.rss[:6], rtol=1e-4, atol=0)
    start = scenes.sources[:6].to(torch.float32)
    refined = refine(scenes.measurements.to(torch.complex64)[:6], start, small)
    torch.testing.assert_close(refined.rss, refine(scenes.measurements[:6], scenes.sources[:6], small).rss, rtol=1e-4, atol=0)
