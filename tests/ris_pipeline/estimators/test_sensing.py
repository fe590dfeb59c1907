"""Sensed atoms, projections and variable projection, against plain NumPy."""

from __future__ import annotations

import numpy as np
import torch

from ris_pipeline.arrays import steering_vector
from ris_pipeline.channel import complex_normal
from ris_pipeline.estimators.derivatives import to_search
from ris_pipeline.estimators.sensing import (
    CandidateProblem,
    JointProblem,
    Sensing,
    amplitudes,
    orthonormal_basis,
    outside,
    squared_modulus,
)


def residual_by_hand(measurements, scene, positions, config):
    """RSS by NumPy least squares, snapshot by snapshot."""
    codes = np.exp(2j * np.pi * measurements.code_index[scene].numpy() / 8)
    rss = 0.0
    for snapshot, code in zip(measurements.snapshots[scene].numpy(), codes, strict=True):
        columns = [steering_vector(config.array, *torch.as_tensor(p, dtype=torch.float64)).numpy() for p in positions]
        G = measurements.channel[scene].numpy() @ np.diag(code) @ np.stack(columns, axis=1)
        b, *_ = np.linalg.lstsq(G, snapshot, rcond=None)
        rss += np.sum(np.abs(snapshot - G @ b) ** 2)
    return rss


def test_sense_is_channel_times_code_times_vector(small, scenes):
    sensing = Sensing.of(scenes.measurements, small)
    vectors = complex_normal(torch.Generator().manual_seed(0), 12, 48, 2)
    sensed = sensing.sense(vectors)
    code = np.exp(2j * np.pi * scenes.measurements.code_index[3, 5].numpy() / 8)
    expected = scenes.measurements.channel[3].numpy() @ (code[:, None] * vectors[3].numpy())
    np.testing.assert_allclose(sensed[3, 5].numpy(), expected, atol=1e-10)


def test_basis_spans_the_columns_and_drops_dependent_ones():
    columns = complex_normal(torch.Generator().manual_seed(1), 3, 8, 4)
    columns[:, :, 2] = 1j * columns[:, :, 0] - 2.0 * columns[:, :, 1]
    columns[0, :, 3] = 0.0
    basis = orthonormal_basis(columns)
    assert bool((basis[:, :, 2] == 0).all())
    assert bool((basis[0, :, 3] == 0).all())
    gram = basis.mH @ basis
    torch.testing.assert_close(
        gram, torch.diag_embed(torch.tensor([[1, 1, 0, 0], [1, 1, 0, 1], [1, 1, 0, 1]])).to(gram), rtol=0, atol=1e-12
    )
    torch.testing.assert_close(outside(basis, columns), torch.zeros_like(columns), rtol=0, atol=1e-12)


def test_amplitudes_equal_least_squares():
    generator = torch.Generator().manual_seed(2)
    atoms, data = complex_normal(generator, 5, 8, 3), complex_normal(generator, 5, 8)
    b = amplitudes(orthonormal_basis(atoms), atoms, data)
    for row in range(5):
        expected, *_ = np.linalg.lstsq(atoms[row].numpy(), data[row].numpy(), rcond=None)
        np.testing.assert_allclose(b[row].numpy(), expected, rtol=1e-9)


def test_joint_problem_equals_brute_force_with_its_gradient(small, scenes):
    sources, measurements = scenes.sources, scenes.measurements
    problem = JointProblem(Sensing.of(measurements, small), sources.mask, small)
    search = to_search(torch.where(sources.mask[..., None], sources.position + 0.02, 1.0))
    model = problem.quadratic(search.flatten(1))
    for scene in range(6):
        k = int(sources.k[scene])

        def value(x, scene=scene, k=k):
            positions = np.column_stack((x[:, :2], 1.0 / x[:, 2]))[:k]
            return residual_by_hand(measurements, scene, positions, small)

        start = search[scene].numpy()
        np.testing.assert_allclose(float(model.value[scene]), value(start), rtol=1e-9)
        for parameter in range(3 * k):
            step = np.zeros(9)
            step[parameter] = 1e-6
            slope = (value(start + step.reshape(3, 3)) - value(start - step.reshape(3, 3))) / 2e-6
            np.testing.assert_allclose(-2.0 * float(model.descent[scene, parameter]), slope, rtol=1e-4, atol=1e-6 * value(start))
        assert bool((model.descent[scene, 3 * k :] == 0).all())


def test_candidate_problem_is_the_joint_problem_with_the_others_fixed(small, scenes):
    sensing = Sensing.of(scenes.measurements, small)
    generator = torch.Generator().manual_seed(5)
    found = torch.rand(12, 1, 3, generator=generator, dtype=torch.float64) * 0.5 + 0.2
    new = torch.rand(24, 3, generator=generator, dtype=torch.float64) * 0.5 - 0.6 + torch.tensor([0.0, 0.0, 0.8])
    mask = torch.ones(12, 1, dtype=torch.bool)
    atoms = sensing.sense(steering_vector(small.array, found[..., 0], found[..., 1], 1.0 / found[..., 2]).transpose(1, 2))
    basis = orthonormal_basis(atoms)
    residual = outside(basis, sensing.snapshots[..., None])[..., 0]
    scene = torch.arange(12).repeat_interleave(2)
    problem = CandidateProblem(sensing, basis, residual, scene, small)
    model = problem.quadratic(new)
    joint = JointProblem(sensing[scene], mask[scene].expand(-1, 2), small)
    both = joint.quadratic(torch.cat((found[scene, 0], new), dim=1))
    torch.testing.assert_close(model.value, both.value, rtol=1e-9, atol=0)
    torch.testing.assert_close(model.descent, both.descent[:, 3:], rtol=1e-7, atol=1e-9)
    torch.testing.assert_close(model.normal, both.normal[:, 3:, 3:], rtol=1e-7, atol=1e-9)
    some = torch.tensor([1, 2, 3, 9, 20])
    torch.testing.assert_close(problem[some].quadratic(new[some]).value, model.value[some], rtol=1e-12, atol=0)


def test_squared_modulus():
    values = complex_normal(torch.Generator().manual_seed(6), 4, 5)
    torch.testing.assert_close(squared_modulus(values), values.abs().square())
