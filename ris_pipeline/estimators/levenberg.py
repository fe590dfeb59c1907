"""A batched Levenberg-Marquardt search in a box.

Axes: S independent problems, P parameters each. Every problem has its own damping, accepts only steps that lower its value, and
leaves the batch once it has converged, so a slow problem does not hold up the others' arithmetic.

Source: Marquardt, "An algorithm for least-squares estimation of nonlinear parameters", SIAM J. Appl. Math. 11, 1963; active
bounds as in Bertsekas, "Projected Newton methods", SIAM J. Control Optim. 20, 1982.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float
from torch import Tensor

DAMPING_START = 1e-2
DAMPING_RANGE = (1e-10, 1e8)
CONVERGED_DECREASE = 1e-9
CONVERGED_STEP = 1e-11


@dataclass(frozen=True)
class Quadratic:
    """Local model of a sum of squares: its value, J^T r (the descent direction) and J^T J."""

    value: Float[Tensor, " S"]
    descent: Float[Tensor, "S P"]
    normal: Float[Tensor, "S P P"]

    def __getitem__(self, index: Tensor) -> Quadratic:
        return Quadratic(self.value[index], self.descent[index], self.normal[index])


@runtime_checkable
class Problem(Protocol):
    """A batch of sums of squares |r(x)|^2 with residual Jacobians."""

    def quadratic(self, x: Float[Tensor, "S P"]) -> Quadratic:
        """Value, descent direction and Gauss-Newton matrix at x."""
        ...

    def __getitem__(self, index: Tensor) -> Problem:
        """The sub-batch of the given problems."""
        ...


@dataclass
class _State:
    """The working set: problems that have not converged."""

    x: Tensor
    model: Quadratic
    damping: Tensor
    index: Tensor


def minimise(
    problem: Problem,
    start: Float[Tensor, "S P"],
    lower: Float[Tensor, " P"],
    upper: Float[Tensor, " P"],
    steps: int,
) -> tuple[Float[Tensor, "S P"], Float[Tensor, " S"]]:
    """Minimise every problem inside [lower, upper] from ``start``.

    Returns:
        The best points and their values; a value never exceeds the one at the start (clamped into the box).
    """
    x = torch.minimum(torch.maximum(start, lower), upper)
    model = problem.quadratic(x)
    best_x, best_value = x.clone(), model.value.clone()
    damping = torch.full_like(model.value, DAMPING_START)
    state = _State(x, model, damping, torch.arange(x.shape[0], device=x.device))
    for _ in range(steps):
        done = _advance(problem, state, lower, upper)
        best_x[state.index], best_value[state.index] = state.x, state.model.value
        if bool(done.all()):
            break
        if int(done.sum()) * 3 >= done.numel():
            keep = torch.nonzero(~done)[:, 0]
            problem = problem[keep]
            state = _State(state.x[keep], state.model[keep], state.damping[keep], state.index[keep])
    return best_x, best_value


def _advance(problem: Problem, state: _State, lower: Tensor, upper: Tensor) -> Bool[Tensor, " S"]:
    """One step of every problem of the working set, in place; returns which of them have converged."""
    step = damped_step(state.x, state.model, state.damping, lower, upper)
    trial_x = torch.minimum(torch.maximum(state.x + step, lower), upper)
    moved = ((trial_x - state.x).abs() / (upper - lower)).amax(dim=-1)
    trial = problem.quadratic(trial_x)
    better = trial.value < state.model.value
    decrease = state.model.value - trial.value
    done = torch.where(better, decrease <= CONVERGED_DECREASE * state.model.value, state.damping >= DAMPING_RANGE[1])
    state.damping = torch.where(better, state.damping * 0.2, state.damping * 8.0).clamp(*DAMPING_RANGE)
    state.x = torch.where(better[:, None], trial_x, state.x)
    state.model = Quadratic(
        torch.where(better, trial.value, state.model.value),
        torch.where(better[:, None], trial.descent, state.model.descent),
        torch.where(better[:, None, None], trial.normal, state.model.normal),
    )
    return done | (moved <= CONVERGED_STEP)


def damped_step(
    x: Float[Tensor, "S P"],
    model: Quadratic,
    damping: Float[Tensor, " S"],
    lower: Float[Tensor, " P"],
    upper: Float[Tensor, " P"],
) -> Float[Tensor, "S P"]:
    """Marquardt step (J^T J with its diagonal times 1 + damping); parameters pressed against a bound or without effect stay put."""
    curvature = model.normal.diagonal(dim1=-2, dim2=-1)
    pressed = ((x <= lower) & (model.descent < 0.0)) | ((x >= upper) & (model.descent > 0.0))
    free = ~pressed & (curvature > 0.0)
    scale = torch.where(free, curvature, 1.0).rsqrt()
    pairs = free[:, :, None] & free[:, None, :]
    correlation = torch.where(pairs, model.normal * scale[:, :, None] * scale[:, None, :], 0.0)
    on_diagonal = torch.eye(x.shape[-1], dtype=torch.bool, device=x.device)
    damped = torch.where(on_diagonal, (1.0 + damping)[:, None, None], correlation)
    descent = torch.where(free, model.descent * scale, 0.0)
    step: Tensor = torch.linalg.solve(damped, descent[..., None])[..., 0] * scale
    return step
