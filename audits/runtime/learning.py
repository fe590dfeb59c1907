"""Whether a step of training teaches: parameters, gradients and loss terms, checks RUN005 and RUN006."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import torch
from torch import Tensor, nn

from audits.runtime.report import Result
from audits.runtime.trial import Trial
from ris_pipeline.config import LossConfig
from ris_pipeline.losses import TERMS
from ris_pipeline.shards import Batch
from ris_pipeline.training import Trainer

TOTAL_TOLERANCE = 1e-5
GRADIENT_TOLERANCE = 1e-3


def check_parameters(trial: Trial) -> list[Result]:
    """RUN005: in the optimizer once, the gradient of the weighted loss, and a move against it, for every parameter."""
    trainer = trial.trainer()
    trainer.model.train()
    trainer.train_step(trial.batch)  # the second step is looked at, so that what the first one leaves behind shows
    parameters = dict(trainer.model.named_parameters())
    before = {name: parameter.detach().clone() for name, parameter in parameters.items()}
    held = Counter(id(member) for group in trainer.optimizer.param_groups for member in group["params"])
    wanted = _clipped_gradient(trainer, trial.batch)
    trainer.train_step(trial.batch)
    failures, norms = _step_problems(parameters, before, wanted), {}
    for name, parameter in parameters.items():
        gradient, moved = parameter.grad, float((parameter.detach() - before[name]).abs().max())
        norms[name] = math.nan if gradient is None else float(gradient.norm())
        evidence = {
            "groups": held[id(parameter)],
            "gradient_norm": norms[name],
            "largest_move": moved,
            "trainable": parameter.requires_grad,
        }
        problem = _problem(held[id(parameter)], norms[name], moved, trainable=parameter.requires_grad)
        if problem:
            failures.append(Result("RUN005", name, False, problem, evidence))
    foreign = sum(held.values()) - sum(held[id(parameter)] for parameter in parameters.values())
    if foreign:
        failures.append(Result("RUN005", "optimizer", False, f"holds {foreign} tensors that the network does not", {"foreign": foreign}))
    message = f"{len(parameters)} parameters, each in the optimizer once, with a gradient, and moved"
    return failures or [Result("RUN005", "all parameters", True, message, {"gradient_norms": norms})]


def _clipped_gradient(trainer: Trainer, batch: Batch) -> dict[str, Tensor]:
    """Gradient of the weighted sum of the loss terms, clipped as configured: what the step should see."""
    loss = trainer.loss(trainer.model(batch.measurements), batch)
    names, parameters = zip(*((name, p) for name, p in trainer.model.named_parameters() if p.requires_grad), strict=True)
    weights = loss.values.new_tensor([float(getattr(trainer.config.loss, name)) for name in TERMS])
    gradients = torch.autograd.grad((loss.values * weights).sum(), parameters, allow_unused=True)
    found = {name: torch.zeros_like(p) if g is None else g for name, p, g in zip(names, parameters, gradients, strict=True)}
    norm = math.sqrt(sum(float(gradient.double().square().sum()) for gradient in found.values()))
    scale = min(1.0, trainer.config.train.clip_norm / (norm + 1e-6))
    return {name: gradient * scale for name, gradient in found.items()}


def _step_problems(parameters: dict[str, nn.Parameter], before: dict[str, Tensor], wanted: dict[str, Tensor]) -> list[Result]:
    """The step's gradient is the one of the weighted terms, and the step goes against it."""
    failures = []
    pairs = {name: (p.grad, wanted[name]) for name, p in parameters.items() if p.grad is not None and name in wanted}
    size = math.sqrt(sum(float(want.double().square().sum()) for _, want in pairs.values()))
    off = math.sqrt(sum(float((got - want).double().square().sum()) for got, want in pairs.values()))
    if not off <= GRADIENT_TOLERANCE * size:
        message = f"the step's gradient differs from that of the weighted, clipped terms by {off / max(size, 1e-30):.2g}"
        failures.append(Result("RUN005", "gradient", False, message, {"difference": off, "norm": size}))
    along = sum(float(((parameters[name].detach() - before[name]) * want).double().sum()) for name, (_, want) in pairs.items())
    if not along < 0.0:
        message = "the step does not go against the gradient"
        failures.append(Result("RUN005", "direction", False, message, {"product of move and gradient": along}))
    return failures


def _problem(groups: int, gradient_norm: float, moved: float, *, trainable: bool) -> str:
    if not trainable:
        return "is frozen: it asks for no gradient"
    if groups != 1:
        return f"is in the optimizer {groups} times, expected once"
    if math.isnan(gradient_norm):
        return "got no gradient, or one that is not a number"
    if math.isinf(gradient_norm):
        return "got an infinite gradient"
    if gradient_norm == 0.0:
        return "got a gradient that is all zero"
    return "" if moved > 0.0 else "did not move in an optimizer step"


def check_terms(trial: Trial) -> list[Result]:
    """RUN006: each weighted term is finite, not negative and has gradient, and the total is their weighted sum."""
    trainer = trial.trainer()
    trainer.model.train()
    batch = trial.batch
    loss = trainer.loss(trainer.model(batch.measurements), batch)
    parameters: list[Tensor] = [parameter for parameter in trainer.model.parameters() if parameter.requires_grad]
    weights = {name: float(getattr(trainer.config.loss, name)) for name in TERMS}
    failures: list[Result] = []
    table: dict[str, Any] = {}
    for name, value in zip(TERMS, loss.values, strict=True):
        norm = _gradient_norm(value, parameters)
        table[name] = {"weight": weights[name], "value": float(value.detach()), "gradient_norm": norm}
        problem = _term_problem(float(value.detach()), norm, weights[name])
        if problem:
            failures.append(Result("RUN006", name, False, problem, table[name]))
    total, expected = float(loss.total.detach()), sum(row["weight"] * row["value"] for row in table.values())
    if not abs(total - expected) <= TOTAL_TOLERANCE * max(1.0, abs(expected)):
        message = f"the total {total:.6g} is not the weighted sum of the terms {expected:.6g}"
        failures.append(Result("RUN006", "total", False, message, {"total": total, "expected": expected, "terms": table}))
    failures += _dead_weights()
    used = [name for name, weight in weights.items() if weight > 0.0]
    return failures or [Result("RUN006", "loss", True, f"{len(used)} weighted terms drive the network: {', '.join(used)}", table)]


def _dead_weights() -> list[Result]:
    """A term that is switched off by default never trains anybody's network."""
    defaults = LossConfig()
    return [
        Result("RUN006", name, False, f"{name} has the weight 0 by default", {"weight": getattr(defaults, name)})
        for name in TERMS
        if not getattr(defaults, name) > 0.0
    ]


def _gradient_norm(value: Tensor, parameters: list[Tensor]) -> float:
    if not value.requires_grad:
        return 0.0
    gradients = torch.autograd.grad(value, parameters, retain_graph=True, allow_unused=True)
    return math.sqrt(sum(float(gradient.double().square().sum()) for gradient in gradients if gradient is not None))


def _term_problem(value: float, gradient_norm: float, weight: float) -> str:
    if not math.isfinite(value) or value < 0.0:
        return f"expected a finite value that is not negative, got {value}"
    if weight > 0.0 and not (math.isfinite(gradient_norm) and gradient_norm > 0.0):
        return f"has weight {weight:g} and a gradient of norm {gradient_norm:g}"
    return ""
