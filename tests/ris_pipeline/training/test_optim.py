"""Parameter groups, the learning-rate schedule and the guarded step."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ris_pipeline.config import TrainConfig
from ris_pipeline.model import HybridModel
from ris_pipeline.training.optim import build_optimizer, guarded_step, learning_rate, parameter_groups


def test_every_parameter_is_in_exactly_one_group(tiny_config):
    model = HybridModel(tiny_config)
    optimizer = build_optimizer(model, tiny_config.train)
    grouped = [id(parameter) for group in optimizer.param_groups for parameter in group["params"]]
    assert sorted(grouped) == sorted(id(parameter) for parameter in model.parameters())
    names = [group["name"] for group in optimizer.param_groups]
    assert len(set(names)) == len(names)
    assert {name.split(".")[0] for name in names} == {"trunk", "score_head", "position_head", "count_head"}


def test_matrices_decay_and_vectors_do_not(tiny_config):
    for group in parameter_groups(HybridModel(tiny_config), 0.125):
        matrices = {parameter.ndim > 1 for parameter in group["params"]}
        assert len(matrices) == 1
        assert group["weight_decay"] == (0.125 if matrices == {True} else 0.0)


@given(
    total=st.integers(1, 500),
    warmup=st.floats(0.0, 1.0),
    floor=st.floats(0.0, 1.0),
    peak=st.floats(1e-5, 1.0),
)
def test_the_schedule_rises_to_the_peak_and_then_only_falls_to_the_floor(total, warmup, floor, peak):
    config = TrainConfig(learning_rate=peak, warmup_fraction=warmup, final_lr_fraction=floor)
    rates = [learning_rate(step, total, config) for step in range(total + 1)]
    top = max(1, round(warmup * total)) - 1
    assert rates[top] == pytest.approx(peak)
    assert all(a < b for a, b in zip(rates[:top], rates[1 : top + 1], strict=True))
    assert all(a >= b - 1e-12 * peak for a, b in zip(rates[top:-1], rates[top + 1 :], strict=True))
    assert all(0.0 <= rate <= peak * (1 + 1e-12) for rate in rates)
    if top + 1 < total:
        assert rates[-1] == pytest.approx(peak * floor, abs=1e-12 * peak)


def test_the_schedule_takes_known_values():
    config = TrainConfig(learning_rate=1.0, warmup_fraction=0.1, final_lr_fraction=0.2)
    assert [learning_rate(step, 20, config) for step in (0, 1, 2, 11, 20)] == pytest.approx([0.5, 1.0, 1.0, 0.6, 0.2])


@pytest.mark.parametrize("finite", [True, False])
def test_a_guarded_step_moves_all_or_nothing(finite):
    weight = torch.nn.Parameter(torch.tensor([1.0, -2.0]))
    optimizer = torch.optim.AdamW([weight], lr=0.1, weight_decay=0.1)
    weight.grad = torch.tensor([0.5, 0.5 if finite else math.nan])
    guarded_step(optimizer, torch.tensor(finite))
    assert torch.isfinite(weight).all()
    assert torch.equal(weight.detach(), torch.tensor([1.0, -2.0])) is not finite


def test_a_guarded_step_that_is_finite_is_a_plain_step():
    def run(step):
        weight = torch.nn.Parameter(torch.linspace(-1, 1, 5))
        optimizer = torch.optim.AdamW([weight], lr=0.1)
        for scale in (1.0, -0.3, 2.0):
            weight.grad = torch.sin(scale * weight.detach())
            step(optimizer)
        return weight.detach()

    assert torch.equal(run(lambda optimizer: guarded_step(optimizer, torch.tensor(True))), run(lambda optimizer: optimizer.step()))
