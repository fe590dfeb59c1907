"""The batched Levenberg-Marquardt search, against scipy on problems with and without active bounds."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from scipy.optimize import least_squares
from torch import Tensor

from ris_pipeline.estimators.levenberg import Quadratic, damped_step, minimise


@dataclass(frozen=True)
class Curves:
    """Residuals y - x0 exp(-x1 t), one data set y per problem; counts the points that were evaluated."""

    data: Tensor
    evaluated: list

    def __getitem__(self, index):
        return Curves(self.data[index], self.evaluated)

    def quadratic(self, x):
        self.evaluated.append(len(x))
        t = torch.linspace(0, 3, self.data.shape[1], dtype=torch.float64)
        decay = torch.exp(-x[:, 1:] * t)
        residual = self.data - x[:, :1] * decay
        jacobian = torch.stack((-decay, x[:, :1] * t * decay), dim=-1)
        descent = -(jacobian * residual[..., None]).sum(dim=1)
        return Quadratic(residual.square().sum(dim=1), descent, jacobian.mT @ jacobian)


@pytest.fixture
def curves():
    generator = torch.Generator().manual_seed(2)
    t = torch.linspace(0, 3, 30, dtype=torch.float64)
    truth = torch.tensor([[1.0, 0.5], [2.0, 1.5], [0.3, 3.0], [3.0, 0.1]], dtype=torch.float64)
    noise = 0.05 * torch.randn(4, 30, generator=generator, dtype=torch.float64)
    return Curves(truth[:, :1] * torch.exp(-truth[:, 1:] * t) + noise, [])


@pytest.mark.parametrize("upper", [[5.0, 5.0], [1.8, 2.0]], ids=["free", "bounds active"])
def test_minimise_equals_scipy(curves, upper):
    lower = torch.zeros(2, dtype=torch.float64)
    start = torch.ones(4, 2, dtype=torch.float64)
    x, value = minimise(curves, start, lower, torch.tensor(upper, dtype=torch.float64), 60)
    t = np.linspace(0, 3, 30)
    for k in range(4):
        y = curves.data[k].numpy()
        rival = least_squares(lambda p, y=y: y - p[0] * np.exp(-p[1] * t), [1.0, 1.0], bounds=([0, 0], upper), xtol=1e-14, ftol=1e-14)
        np.testing.assert_allclose(x[k].numpy(), rival.x, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(float(value[k]), 2 * rival.cost, rtol=1e-7)


def test_minimise_never_rises_and_stays_in_the_box(curves):
    generator = torch.Generator().manual_seed(3)
    lower, upper = torch.zeros(2, dtype=torch.float64), torch.full((2,), 2.5, dtype=torch.float64)
    start = 6.0 * torch.rand(4, 2, generator=generator, dtype=torch.float64) - 2.0
    previous = curves.quadratic(start.clamp(lower, upper)).value
    for steps in range(8):
        x, value = minimise(curves, start, lower, upper, steps)
        assert bool((value <= previous).all())
        assert bool(((x >= lower) & (x <= upper)).all())
        torch.testing.assert_close(value, curves.quadratic(x).value, rtol=1e-12, atol=0)
        previous = value


def test_converged_problems_leave_the_batch(curves):
    lower, upper = torch.zeros(2, dtype=torch.float64), torch.full((2,), 5.0, dtype=torch.float64)
    solved, _ = minimise(curves, torch.ones(4, 2, dtype=torch.float64), lower, upper, 60)
    start = solved.clone()
    start[3] = torch.tensor([0.5, 4.0])
    curves.evaluated.clear()
    minimise(curves, start, lower, upper, 60)
    assert curves.evaluated[0] == 4
    assert curves.evaluated[-1] < 4


def test_parameters_without_effect_stay_put():
    x = torch.tensor([[1.0, 2.0]], dtype=torch.float64)
    normal = torch.tensor([[[4.0, 0.0], [0.0, 0.0]]], dtype=torch.float64)
    model = Quadratic(torch.ones(1, dtype=torch.float64), torch.tensor([[2.0, 0.0]], dtype=torch.float64), normal)
    box = torch.full((2,), 9.0, dtype=torch.float64)
    step = damped_step(x, model, torch.zeros(1, dtype=torch.float64), -box, box)
    np.testing.assert_allclose(step.numpy(), [[0.5, 0.0]])
