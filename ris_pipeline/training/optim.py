"""Optimizer, parameter groups and learning-rate schedule."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from ris_pipeline.config import TrainConfig


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, object]]:
    """One group per top-level part and kind: matrices and kernels decay, vectors do not. Every parameter is in exactly one group."""
    groups: dict[str, list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        kind = "matrices" if parameter.ndim > 1 else "vectors"
        groups.setdefault(f"{name.split('.', 1)[0]}.{kind}", []).append(parameter)
    return [
        {"name": name, "params": members, "weight_decay": weight_decay if name.endswith(".matrices") else 0.0}
        for name, members in groups.items()
    ]


def build_optimizer(model: nn.Module, config: TrainConfig) -> torch.optim.AdamW:
    """AdamW (Loshchilov and Hutter, ICLR 2019) on the groups of :func:`parameter_groups`."""
    return torch.optim.AdamW(parameter_groups(model, config.weight_decay), lr=config.learning_rate, betas=(0.9, 0.99))


def learning_rate(step: int, total_steps: int, config: TrainConfig) -> float:
    """Linear warm-up, then a cosine from the peak to ``final_lr_fraction`` of it; ``step`` counts optimizer steps from 0."""
    warmup = max(1, round(config.warmup_fraction * total_steps))
    if step < warmup:
        return config.learning_rate * ((step + 1) / warmup)
    progress = min(1.0, (step - warmup) / max(1, total_steps - warmup))
    floor = config.final_lr_fraction
    return config.learning_rate * (floor + (1.0 - floor) * 0.5 * (1.0 + math.cos(math.pi * progress)))


@torch.no_grad()
def guarded_step(optimizer: torch.optim.Optimizer, finite: Tensor) -> None:
    """Take an optimizer step, or leave every parameter as it is where ``finite`` (a scalar on the device) is false.

    Gradients are zeroed first, so that the moments stay finite too; nothing is read back from the device.
    """
    parameters = [p for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
    before = [parameter.clone() for parameter in parameters]
    for parameter in parameters:
        parameter.grad = torch.where(finite, parameter.grad, 0.0)
    optimizer.step()
    for parameter, old in zip(parameters, before, strict=True):
        parameter.copy_(torch.where(finite, parameter, old))
