"""The stochastic likelihood against dense NumPy, its derivatives against finite differences, and its laws."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from ris_pipeline.arrays import steering_vector
from ris_pipeline.estimators import grid_of, stochastic
from ris_pipeline.estimators.derivatives import to_search
from ris_pipeline.estimators.greedy import SensedGrid
from ris_pipeline.estimators.sensing import Sensing
from ris_pipeline.estimators.stochastic import Others, StochasticCandidate, StochasticFit, StochasticProblem


@pytest.fixture(scope="module")
def problem(small, scenes):
    return StochasticProblem(
        Sensing.of(scenes.measurements, small), scenes.measurements.noise_variance.double(), scenes.sources.mask, small
    )


@pytest.fixture(scope="module")
def at(scenes):
    """Parameters near the truth, powers off the law."""
    generator = torch.Generator().manual_seed(2)
    search = to_search(torch.where(scenes.sources.mask[..., None], scenes.sources.position, 1.0))
    log_power = torch.where(scenes.sources.mask, scenes.sources.power, 1.0).log()
    jitter = 0.03 * torch.randn(12, 3, 4, generator=generator, dtype=torch.float64)
    return torch.cat((search, log_power[..., None]), dim=-1) + jitter


def operators(measurements, scene):
    codes = np.exp(2j * np.pi * measurements.code_index[scene].numpy() / 8)
    return measurements.channel[scene].numpy()[None] * codes[:, None, :]


def atoms(config, measurements, scene, parameters):
    place = torch.as_tensor(parameters)
    a = steering_vector(config.array, place[:, 0], place[:, 1], 1.0 / place[:, 2]).numpy()
    return operators(measurements, scene) @ a.T


def covariances(config, measurements, scene, parameters):
    G = atoms(config, measurements, scene, parameters)
    noise = float(measurements.noise_variance[scene]) * np.eye(G.shape[1])
    return noise + (G * np.exp(parameters[:, 3])) @ G.conj().transpose(0, 2, 1)


def criterion_by_hand(config, measurements, scene, parameters):
    """Dense covariances, and the power law written as its definition says."""
    parameters = np.asarray(parameters)
    R = covariances(config, measurements, scene, parameters)
    y = measurements.snapshots[scene].numpy()
    log_det = np.linalg.slogdet(R / float(measurements.noise_variance[scene]))[1].sum()
    fit = sum((y[i].conj() @ np.linalg.inv(R[i]) @ y[i]).real for i in range(len(y)))
    transmit = parameters[:, 3] - 2 * (1 - config.scene.power_control) * np.log(parameters[:, 2])
    spread = config.estimate.power_spread_db * math.log(10) / 10
    return log_det + fit + np.sum((transmit - transmit.mean()) ** 2) / (2 * spread**2)


def test_value_equals_dense_numpy(small, scenes, problem, at):
    value = problem.quadratic(at.flatten(1)).value
    for scene in range(12):
        k = int(scenes.sources.k[scene])
        by_hand = criterion_by_hand(small, scenes.measurements, scene, at[scene, :k].numpy())
        assert float(value[scene]) == pytest.approx(by_hand, rel=1e-9)


@pytest.mark.parametrize("power_control", [0.0, 0.4, 1.0])
def test_descent_is_the_negative_gradient(small, scenes, problem, at, power_control):
    config = small.replaced(scene={"power_control": power_control})
    model = replace(problem, config=config).quadratic(at.flatten(1))
    for scene in range(5):
        k = int(scenes.sources.k[scene])
        inner = at[scene, :k].numpy()
        for i in range(4 * k):
            step = np.zeros(4 * k)
            step[i] = 1e-6
            sides = [criterion_by_hand(config, scenes.measurements, scene, inner + sign * step.reshape(k, 4)) for sign in (1, -1)]
            slope = (sides[0] - sides[1]) / 2e-6
            assert float(model.descent[scene, i]) == pytest.approx(-slope, rel=1e-4, abs=1e-3)
        assert bool((model.descent[scene, 4 * k :] == 0).all())


def test_normal_matrix_is_the_fisher_information_and_the_power_laws(small, scenes, problem, at):
    """tr(R^-1 dR_i R^-1 dR_j) summed over snapshots, with dR by finite differences, plus J^T J of the law's deviations."""
    model = problem.quadratic(at.flatten(1))
    spread = small.estimate.power_spread_db * math.log(10) / 10
    for scene in range(4):
        k = int(scenes.sources.k[scene])
        inner = at[scene, :k].numpy()
        inverse = np.linalg.inv(covariances(small, scenes.measurements, scene, inner))
        changes, deviations = [], []
        for i in range(4 * k):
            step = np.zeros(4 * k)
            step[i] = 1e-6
            sides = [inner + sign * step.reshape(k, 4) for sign in (1, -1)]
            changes.append((np.subtract(*(covariances(small, scenes.measurements, scene, side) for side in sides))) / 2e-6)
            transmit = [side[:, 3] - 2 * np.log(side[:, 2]) for side in sides]
            slope = (transmit[0] - transmit[1]) / 2e-6
            deviations.append((slope - slope.mean()) / spread)
        fisher = np.array([[np.trace(inverse @ a @ inverse @ b, axis1=1, axis2=2).real.sum() for a in changes] for b in changes])
        expected = fisher + np.array(deviations) @ np.array(deviations).T
        scale = np.sqrt(np.diag(expected))
        np.testing.assert_allclose(
            model.normal[scene, : 4 * k, : 4 * k].numpy() / np.outer(scale, scale), expected / np.outer(scale, scale), atol=1e-5
        )


def test_a_candidates_change_is_the_fall_of_the_whole_criterion(small, scenes, problem, at):
    three = torch.nonzero(scenes.sources.k == 3)[:, 0]
    part, parameters = problem[three], at[three]
    others = torch.tensor([True, True, False]).expand(len(three), 3)
    beside = Others.of(part, parameters, others)
    candidate = StochasticCandidate(part.sensing, beside, torch.arange(len(three)), small)
    model = candidate.quadratic(parameters[:, 2])
    with_it = part.quadratic(parameters.flatten(1))
    without = replace(part, mask=others).quadratic(parameters.flatten(1))
    torch.testing.assert_close(model.value, with_it.value - without.value, rtol=1e-7, atol=1e-7)
    torch.testing.assert_close(model.descent, with_it.descent[:, 8:], rtol=1e-6, atol=1e-6)


def test_candidates_of_one_scene_do_not_mix(small, problem, at):
    others = torch.tensor([True, False, False]).expand(2, 3) & problem.mask[:2]
    beside = Others.of(problem[torch.arange(2)], at[:2], others)
    places = at[:3, 0]
    together = StochasticCandidate(problem[torch.arange(2)].sensing, beside, torch.tensor([0, 1, 1]), small).quadratic(places)
    for row, scene in enumerate((0, 1, 1)):
        alone = StochasticCandidate(problem[torch.arange(2)].sensing, beside, torch.tensor([scene]), small).quadratic(places[row : row + 1])
        torch.testing.assert_close(alone.value[0], together.value[row])
        torch.testing.assert_close(alone.normal[0], together.normal[row])


def test_gain_of_a_grid_point_is_the_fall_of_the_likelihood_at_its_power(small, scenes, problem, at):
    lax = small.replaced(estimate={"power_spread_db": 1e6})  # the law's own term vanishes
    two = torch.nonzero(scenes.sources.k >= 2)[:3, 0]
    part = replace(problem[two], config=lax)
    others = torch.tensor([True, True, False]).expand(3, 3)
    grid = grid_of(small)
    gain, log_power = Others.of(part, at[two], others).gain(SensedGrid.of(part.sensing, grid), small)
    for row, scene in enumerate(two.tolist()):
        for point in (5, 700, 1500):
            new = np.append(grid.search[point].numpy(), float(log_power[row, point]))
            pair = at[scene, :2].numpy()
            before = criterion_by_hand(lax, scenes.measurements, scene, pair)
            after = criterion_by_hand(lax, scenes.measurements, scene, np.vstack((pair, new)))
            assert float(gain[row, point]) == pytest.approx(before - after, rel=2e-3, abs=2e-2)


def test_grid_powers_keep_to_the_law_where_other_sources_set_its_scale(small, problem, at):
    others = torch.tensor([True, False, False]).expand(12, 3)
    beside = Others.of(problem, at, others)
    grid = grid_of(small)
    _, log_power = beside.gain(SensedGrid.of(problem.sensing, grid), small)
    transmit = log_power.double() - 2 * grid.search[:, 2].log()
    spread = small.estimate.power_spread_db * math.log(10) / 10
    cell = 2 * math.log(1 + 0.5 * (2.0 - 0.1) / 4 / 0.1)  # half a cell of the grid at its far end
    assert float((transmit - beside.log_transmit_power[:, None]).abs().max()) <= spread + cell + 1e-4


def test_refining_never_raises_the_criterion(small, problem, at):
    previous = problem.quadratic(at.flatten(1)).value
    for steps in (1, 3, 9, 27):
        config = small.replaced(estimate={"refine_steps": steps})
        value = stochastic.refine_jointly(replace(problem, config=config), at).value
        assert bool((value <= previous + 1e-9).all())
        previous = value


def test_searching_again_never_raises_the_criterion_and_moves_a_misplaced_source(small, scenes, problem, at):
    sensed = SensedGrid.of(problem.sensing, grid_of(small))
    lost = at.clone()
    lost[:, 0, 0] = -lost[:, 0, 0]
    start = stochastic.refine_jointly(problem, lost)
    found = stochastic.search_again(problem, sensed, StochasticFit(start.parameters, start.value))
    assert bool((found.value <= start.value).all())
    best = stochastic.refine_jointly(problem, at).value
    assert int((start.value > best + 1.0).sum()) >= 4
    assert int((found.value > best + 1.0).sum()) <= 1


def test_static_symbols_loosen_the_power_law(small, problem, at):
    still = small.replaced(scene={"symbols": "static"})
    fresh = problem.quadratic(at.flatten(1)).value
    assert bool((replace(problem, config=still).quadratic(at.flatten(1)).value <= fresh).all())


def test_a_common_factor_of_data_noise_and_powers_changes_nothing_but_the_log_determinant(small, problem, at):
    louder = Sensing(problem.sensing.snapshots * 3.0, problem.sensing.operator)
    shifted = at + torch.tensor([0.0, 0.0, 0.0, math.log(9.0)], dtype=torch.float64)
    other = StochasticProblem(louder, problem.noise_variance * 9.0, problem.mask, small)
    one, two = problem.quadratic(at.flatten(1)), other.quadratic(shifted.flatten(1))
    torch.testing.assert_close(one.value, two.value)
    torch.testing.assert_close(one.normal, two.normal)
