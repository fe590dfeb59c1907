"""MUSIC: exact covariance in, exact positions out; and what it does where nothing is exact."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment

from ris_pipeline.arrays import Sources, steering_vector
from ris_pipeline.back_projection import sample_factor
from ris_pipeline.channel import complex_normal
from ris_pipeline.config import Config
from ris_pipeline.covariance import FactoredCovariance, Shrinkage, build_effective_covariance
from ris_pipeline.errors import DataError
from ris_pipeline.estimators import grid_of, music, music_angles_first, null_spectrum
from ris_pipeline.estimators.music import NullProblem, Surface, remaining_subspace, signal_subspace
from ris_pipeline.simulation import draw_sources, true_factor

SEED = 8


def errors(estimate, truth):
    """Coordinate errors after the best assignment, per scene."""
    found = []
    for scene in range(len(truth.k)):
        k = int(truth.k[scene])
        difference = estimate.position[scene, :k, None] - truth.position[scene, None, :k]
        rows, columns = linear_sum_assignment(difference.square().sum(dim=-1).numpy())
        found.append(difference[rows, columns].abs())
    return torch.cat(found)


def exact(config, sources):
    return build_effective_covariance(
        FactoredCovariance.from_factor(true_factor(config.array, sources)),
        diagonal_loading=1e-3,
        shrinkage=Shrinkage(base=0.1, minimum=1e-3, maximum=0.3),
        snr_db=10.0,
    )


def test_exact_covariance_gives_exact_positions():
    config = Config()
    sources = draw_sources(config.scene, 24, torch.Generator().manual_seed(SEED))
    estimate = music(exact(config, sources), sources.k, config)
    assert float(errors(estimate, sources).max()) < 1e-6


def test_exact_covariance_gives_exact_positions_on_a_surface_that_is_not_square(small):
    separated = torch.tensor([[-0.8, 0.3, 1.0], [0.1, -0.2, 2.5], [0.9, 0.4, 0.7]], dtype=torch.float64)
    position = separated.expand(3, -1, -1) + 0.05 * torch.rand(3, 3, 3, generator=torch.Generator().manual_seed(1)).double()
    sources = Sources.from_position(position, torch.tensor([[0.5, 0.3, 0.2]] * 3).double(), torch.tensor([1, 2, 3]))
    estimate = music(exact(small, sources), sources.k, small)
    assert float(errors(estimate, sources).max()) < 1e-6
    assert bool((estimate.position[0, 1:] == 0).all())


def test_powers_of_an_exact_covariance(small):
    position = torch.tensor([[[-0.8, 0.3, 1.0], [0.4, -0.2, 2.5]]], dtype=torch.float64)
    sources = Sources.from_position(position, torch.tensor([[0.7, 0.3]]).double(), torch.tensor([2]))
    estimate = music(FactoredCovariance.from_factor(true_factor(small.array, sources)), sources.k, small)
    np.testing.assert_allclose(sorted(estimate.power[0, :2].tolist()), [0.3, 0.7], rtol=1e-6)


def test_two_sources_within_one_grid_cell_are_two_sources():
    config = Config()
    position = torch.tensor([[[0.30, 0.10, 3.0], [0.32, 0.11, 3.3]]], dtype=torch.float64)
    sources = Sources.from_position(position, torch.ones(1, 2).double(), torch.tensor([2]))
    estimate = music(FactoredCovariance.from_factor(true_factor(config.array, sources)), sources.k, config)
    assert float(errors(estimate, sources).max()) < 1e-6


def test_sources_at_the_nearest_range_are_not_lost():
    config = Config()
    position = torch.tensor([[[0.4, 0.2, 0.5], [-0.7, -0.3, 0.55]]], dtype=torch.float64)
    sources = Sources.from_position(position, torch.ones(1, 2).double(), torch.tensor([2]))
    estimate = music(FactoredCovariance.from_factor(true_factor(config.array, sources)), sources.k, config)
    assert float(errors(estimate, sources).max()) < 1e-6


def test_null_spectrum_equals_the_dense_noise_subspace(small):
    covariance = FactoredCovariance(complex_normal(torch.Generator().manual_seed(3), 2, 48, 5), torch.full((2,), 0.1).double())
    k = torch.tensor([2, 3])
    values = null_spectrum(signal_subspace(covariance, k, 3), small).flatten(1)
    steering = grid_of(small).steering.numpy()
    for scene, R in enumerate(covariance.dense().numpy()):
        noise = np.linalg.eigh(R)[1][:, : 48 - int(k[scene])]
        expected = np.sum(np.abs(steering.conj() @ noise) ** 2, axis=1) / 48
        np.testing.assert_allclose(values[scene].numpy(), expected, atol=2e-5)


def test_refinement_criterion_equals_its_definition_and_gradient(small):
    generator = torch.Generator().manual_seed(4)
    found = torch.linalg.qr(complex_normal(generator, 1, 48, 1)).Q
    subspace = torch.linalg.qr(complex_normal(generator, 1, 48, 3)).Q
    remaining = remaining_subspace(subspace, found, torch.tensor([2]))
    assert float((found.mH @ remaining).abs().max()) < 1e-12
    problem = NullProblem(torch.cat((found, remaining), dim=-1), found, Surface(small.array))

    def value(x):
        a = steering_vector(small.array, *torch.tensor([x[0], x[1], 1.0 / x[2]], dtype=torch.float64)).numpy()
        Q = found[0].numpy()
        W = np.concatenate((Q, remaining[0].numpy()), axis=1)
        return np.linalg.norm(a - W @ (W.conj().T @ a)) ** 2 / np.linalg.norm(a - Q @ (Q.conj().T @ a)) ** 2

    x = np.array([0.3, -0.2, 0.6])
    model = problem.quadratic(torch.as_tensor(x)[None])
    np.testing.assert_allclose(float(model.value[0]), value(x), rtol=1e-10)
    slopes = [(value(x + step) - value(x - step)) / 2e-6 for step in 1e-6 * np.eye(3)]
    np.testing.assert_allclose(-2.0 * model.descent[0].numpy(), slopes, rtol=1e-5, atol=1e-8)


def to_search(estimate):
    """The estimate with inverse ranges, in which its precision is even."""
    return replace(estimate, range_m=torch.where(estimate.range_m > 0, 1.0 / estimate.range_m, 0.0))


@pytest.fixture(scope="module")
def sampled(small, scenes):
    return build_effective_covariance(FactoredCovariance.from_factor(sample_factor(scenes.measurements, small)))


def test_estimates_lie_in_the_field_of_view_and_are_distinct(small, sampled):
    estimate = music(sampled, torch.full((12,), 3), small)
    azimuth, elevation, radius = estimate.position.unbind(-1)
    assert bool((azimuth.abs() <= small.scene.azimuth_max_rad).all())
    assert bool((elevation.abs() <= small.scene.elevation_max_rad).all())
    assert bool(((radius >= 0.5) & (radius <= 10.0)).all())
    steering = steering_vector(small.array, azimuth, elevation, radius)
    overlap = (steering @ steering.mH).abs() / 48 - torch.eye(3)
    assert float(overlap.max()) < 0.9991


def test_single_scene_equals_batch(small, scenes, sampled):
    batch = music(sampled, scenes.sources.k, small)
    for scene in (0, 5, 11):
        alone = music(sampled[scene : scene + 1], scenes.sources.k[scene : scene + 1], small)
        torch.testing.assert_close(to_search(alone).position[0], to_search(batch).position[scene], rtol=0, atol=2e-4)


def test_scale_and_phase_of_the_covariance_change_nothing(small, scenes, sampled):
    k = scenes.sources.k
    turned = FactoredCovariance(sampled.factor * (3.0 * torch.exp(torch.tensor(0.7j))), 9.0 * sampled.diagonal)
    one, other = music(turned, k, small), music(sampled, k, small)
    torch.testing.assert_close(to_search(one).position, to_search(other).position, rtol=0, atol=2e-4)


def test_a_covariance_without_enough_dimensions_still_gives_k_distinct_sources(small):
    position = torch.tensor([[[0.4, 0.2, 2.0]]], dtype=torch.float64)
    one = Sources.from_position(position, torch.ones(1, 1).double(), torch.tensor([1]))
    covariance = FactoredCovariance.from_factor(true_factor(small.array, one))
    first, second = (music(covariance, torch.tensor([3]), small) for _ in range(2))
    assert torch.equal(first.position, second.position)
    np.testing.assert_allclose(first.position[0, 0].numpy(), position[0, 0].numpy(), atol=1e-6)
    steering = steering_vector(small.array, first.azimuth_rad, first.elevation_rad, first.range_m)
    assert float(((steering @ steering.mH).abs() / 48 - torch.eye(3)).max()) < 0.5


def test_a_covariance_without_signal_gives_finite_distinct_positions(small):
    nothing = FactoredCovariance(torch.zeros(1, 48, 4, dtype=torch.complex128), torch.ones(1).double())
    estimate = music(nothing, torch.tensor([3]), small)
    assert bool(torch.isfinite(estimate.position).all())
    assert len(torch.unique(estimate.position[0], dim=0)) == 3
    assert bool((estimate.power == 0).all())


def test_no_source_asked_for_is_no_source_given(small, sampled):
    estimate = music(sampled, torch.zeros(12, dtype=torch.int64), small)
    assert bool((estimate.position == 0).all())


def test_covariance_is_used_as_it_is(small, scenes, sampled):
    before = sampled.factor.clone()
    k = scenes.sources.k
    loaded = replace(sampled, diagonal=sampled.diagonal + 0.5)
    torch.testing.assert_close(music(loaded, k, small).position, music(sampled, k, small).position, rtol=1e-9, atol=1e-9)
    assert torch.equal(before, sampled.factor)


@pytest.mark.parametrize("k", [-1, 4])
def test_a_count_out_of_range_is_a_readable_error(small, sampled, k):
    with pytest.raises(DataError, match=r"k must lie in 0\.\.3 \(scene\.k_max\), got 2\.\." if k == 4 else r"got -1\.\.2"):
        music(sampled, torch.tensor([2] * 11 + [k]), small)


def test_single_precision_covariance_gives_the_same_estimate(small, scenes, sampled):
    k = scenes.sources.k
    single = FactoredCovariance(sampled.factor.to(torch.complex64), sampled.diagonal.float())
    one, other = to_search(music(single, k, small)), to_search(music(sampled, k, small))
    torch.testing.assert_close(one.position, other.position, rtol=0, atol=1e-3)


# Angles first, then ranges.


def test_angles_first_finds_separated_sources_exactly(small):
    position = torch.tensor([[[-0.8, 0.3, 1.0], [0.1, -0.2, 2.5], [0.9, 0.4, 4.0]]], dtype=torch.float64)
    sources = Sources.from_position(position, torch.tensor([[0.5, 0.3, 0.2]]).double(), torch.tensor([3]))
    covariance = FactoredCovariance.from_factor(true_factor(small.array, sources))
    estimate = music_angles_first(covariance, sources.k, small)
    assert float(errors(estimate, sources).max()) < 1e-6
    np.testing.assert_allclose(sorted(estimate.power[0].tolist()), [0.2, 0.3, 0.5], rtol=1e-6)


def test_angles_first_needs_a_range_near_the_sources():
    """Scanned at 10 m most sources within a metre are lost; scanned there, nearly none."""
    config = Config().replaced(scene={"range_max_m": 1.0, "k_max": 2})
    sources = draw_sources(config.scene, 60, torch.Generator().manual_seed(SEED))
    wide = Config().replaced(scene={"k_max": 2})

    def found(range_m):
        estimate = music_angles_first(exact(wide, sources), sources.k, wide, range_m=range_m)
        return float((errors(estimate, sources).amax(dim=-1) < 1e-6).double().mean())

    assert found(0.7) > 0.95
    assert found(10.0) < found(0.7) - 0.1


def test_angles_first_reaches_no_better_null_than_the_full_search():
    config = Config()
    sources = draw_sources(config.scene, 40, torch.Generator().manual_seed(SEED))
    covariance = exact(config, sources)
    hits = [
        float((errors(f(covariance, sources.k, config), sources).amax(dim=-1) < 1e-6).double().mean()) for f in (music, music_angles_first)
    ]
    assert hits[0] == 1.0
    assert 0.85 < hits[1] < 1.0
