"""Bartlett and MVDR: textbook spectra by dense matrices, their highest peaks, and the powers there."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.optimize import minimize

from ris_pipeline.arrays import Sources, steering_vector
from ris_pipeline.channel import complex_normal
from ris_pipeline.covariance import FactoredCovariance
from ris_pipeline.errors import DataError
from ris_pipeline.estimators import bartlett, mvdr
from ris_pipeline.estimators.beamformers import PeakProblem, bartlett_form, capon_power, mvdr_form, strongest_distinct
from ris_pipeline.estimators.derivatives import search_box, to_search
from ris_pipeline.simulation import true_factor


def dense_bartlett(matrix, a):
    return (a.conj() @ matrix @ a).real / len(a) ** 2


def dense_mvdr(matrix, a):
    return 1.0 / (a.conj() @ np.linalg.inv(matrix) @ a).real


ESTIMATORS = [(bartlett, bartlett_form, dense_bartlett), (mvdr, mvdr_form, dense_mvdr)]
both = pytest.mark.parametrize(("estimate", "form_of", "dense"), ESTIMATORS, ids=["bartlett", "mvdr"])


def vector(config, x):
    return steering_vector(config.array, *torch.tensor([x[0], x[1], 1.0 / x[2]], dtype=torch.float64)).numpy()


@pytest.fixture
def noisy():
    """Covariances of six random columns with 0.4 of noise, 2 scenes of 48 elements."""
    return FactoredCovariance(complex_normal(torch.Generator().manual_seed(1), 2, 48, 6), torch.tensor([0.4, 2.0]).double())


@pytest.fixture
def separated(small):
    """Two sources far apart in every coordinate."""
    position = torch.tensor([[[-0.8, 0.3, 1.0], [0.6, -0.2, 2.5]]], dtype=torch.float64)
    return Sources.from_position(position, torch.tensor([[0.7, 0.3]]).double(), torch.tensor([2]))


@both
def test_power_at_the_estimate_is_the_dense_one(small, noisy, estimate, form_of, dense):
    found = estimate(noisy, torch.tensor([3, 2]), small)
    for scene, R in enumerate(noisy.dense().numpy()):
        for slot in range(int(found.k[scene])):
            a = steering_vector(small.array, *found.position[scene, slot]).numpy()
            np.testing.assert_allclose(float(found.power[scene, slot]), dense(R, a), rtol=1e-9)


@both
def test_highest_peak_is_the_highest_of_a_brute_force_search(small, noisy, estimate, form_of, dense):
    """SciPy climbs the dense spectrum from 200 random starts and finds nothing higher."""
    found = estimate(noisy, torch.tensor([1, 1]), small)
    lower, upper = (limit.numpy() for limit in search_box(small.scene))
    generator = np.random.default_rng(2)
    for scene, R in enumerate(noisy.dense().numpy()):
        inverse = np.linalg.inv(R) if estimate is mvdr else None

        def cost(x, matrix=R, inverse=inverse):
            a = vector(small, x)
            return -dense_bartlett(matrix, a) if inverse is None else (a.conj() @ inverse @ a).real

        starts = generator.uniform(lower, upper, (200, 3))
        best = sorted(starts, key=cost)[:12]
        climbed = [minimize(cost, x, method="L-BFGS-B", bounds=list(zip(lower, upper, strict=True))) for x in best]
        reached = cost(to_search(found.position[scene, :1])[0].numpy())
        assert reached <= min(result.fun for result in climbed) * (1.0 + np.sign(min(r.fun for r in climbed)) * 1e-6)


@both
def test_slope_and_value_of_the_search_are_those_of_the_dense_form(small, noisy, estimate, form_of, dense):
    form, _ = form_of(noisy)
    problem = PeakProblem(form, small)
    W = (form.weighted() @ form.weighted().mH).numpy()

    def value(scene, x):
        a = vector(small, x)
        return 48.0 - (a.conj() @ W[scene] @ a).real

    x = np.array([[0.3, -0.2, 0.6], [-0.5, 0.1, 1.4]])
    model = problem.quadratic(torch.as_tensor(x))
    for scene in range(2):
        np.testing.assert_allclose(float(model.value[scene]), value(scene, x[scene]), rtol=1e-10)
        slopes = [(value(scene, x[scene] + step) - value(scene, x[scene] - step)) / 2e-6 for step in 1e-6 * np.eye(3)]
        np.testing.assert_allclose(-2.0 * model.descent[scene].numpy(), slopes, rtol=1e-5, atol=1e-6)
        assert np.linalg.eigvalsh(model.normal[scene].numpy())[0] > 0.0
        assert float(model.descent[scene] @ torch.linalg.solve(model.normal[scene], model.descent[scene])) > 0.0


@both
def test_one_source_is_found_exactly_with_its_power(small, estimate, form_of, dense):
    position = torch.tensor([[[0.41, -0.13, 1.7]]], dtype=torch.float64)
    source = Sources.from_position(position, torch.tensor([[0.8]]).double(), torch.tensor([1]))
    covariance = FactoredCovariance(true_factor(small.array, source), torch.tensor([1e-3]).double())
    found = estimate(covariance, source.k, small)
    np.testing.assert_allclose(found.position[0, 0].numpy(), position[0, 0].numpy(), atol=1e-6)
    np.testing.assert_allclose(float(found.power[0, 0]), 0.8 + 1e-3 / 48, rtol=1e-6)


def test_mvdr_tends_to_the_exact_positions_and_powers_as_the_noise_vanishes(small, separated):
    def error(noise):
        found = mvdr(FactoredCovariance(true_factor(small.array, separated), torch.tensor([noise]).double()), separated.k, small)
        order = found.azimuth_rad[0, :2].argsort()
        return float((found.position[0, order] - separated.position[0]).abs().max()), found.power[0, order]

    errors = [error(noise)[0] for noise in (1.0, 1e-2, 1e-4)]
    assert errors[0] > errors[1] > errors[2]
    assert errors[2] < 1e-4
    exact, power = error(0.0)
    assert exact < 1e-6
    np.testing.assert_allclose(power.numpy(), [0.7, 0.3], rtol=1e-5)


def test_mvdr_resolves_two_sources_that_bartlett_merges(small):
    position = torch.tensor([[[0.30, 0.0, 1.5], [0.46, 0.0, 1.5]]], dtype=torch.float64)
    sources = Sources.from_position(position, torch.full((1, 2), 0.5).double(), torch.tensor([2]))
    covariance = FactoredCovariance(true_factor(small.array, sources), torch.tensor([1e-4]).double())
    fine = small.replaced(estimate={"grid_azimuth_deg": 2.0, "grid_range": 8})

    def error(estimate):
        found = estimate(covariance, sources.k, fine).azimuth_rad[0, :2].sort().values
        return float((found - position[0, :, 0]).abs().max())

    assert error(mvdr) < 0.01
    assert error(bartlett) > 0.05


def test_capon_power_outside_the_span_without_loading_is_zero(small):
    a = steering_vector(small.array, *torch.tensor([0.2, 0.1, 2.0], dtype=torch.float64))
    covariance = FactoredCovariance.from_factor(a[None, :, None] * 0.5)
    other = steering_vector(small.array, *torch.tensor([-0.4, 0.1, 2.0], dtype=torch.float64))
    power = capon_power(covariance, torch.stack((a, other))[None])
    np.testing.assert_allclose(power[0].numpy(), [0.25, 0.0], rtol=1e-9)


def test_candidates_of_one_peak_count_once_and_starts_fill_up(small):
    config = small.replaced(scene={"k_max": 3})
    peak, other = [0.3, 0.1, 0.5], [-0.6, -0.2, 0.9]
    search = torch.tensor([[peak, [0.3001, 0.1, 0.5], other, [0.30005, 0.1, 0.5]]], dtype=torch.float64)
    start = search + 0.2
    chosen = strongest_distinct(search, torch.tensor([[1.0, 2.0, 3.0, 4.0]]).double(), start, config)
    torch.testing.assert_close(chosen[0], torch.stack((search[0, 0], search[0, 2], start[0, 1])))


@both
def test_a_count_out_of_range_is_a_readable_error(small, noisy, estimate, form_of, dense):
    with pytest.raises(DataError, match=r"k must lie in 0\.\.3 \(scene\.k_max\), got 1\.\.4"):
        estimate(noisy, torch.tensor([1, 4]), small)
