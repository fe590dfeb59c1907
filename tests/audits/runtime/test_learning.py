"""RUN005 and RUN006: frozen, forgotten and gated parameters, and loss terms that do nothing."""

from __future__ import annotations

import pytest
import torch

import ris_pipeline.losses
import ris_pipeline.training.loop
from audits.runtime import learning
from ris_pipeline.model import HybridModel
from ris_pipeline.training import Trainer


def failed(results):
    return {result.subject: result.message for result in results if not result.passed}


def test_the_clean_trainer_teaches_every_parameter(trial):
    (result,) = learning.check_parameters(trial)
    assert result.passed
    assert len(result.evidence["gradient_norms"]) == len(list(trial.trainer().model.parameters()))


def rebuilt(monkeypatch, change):
    """Change every trainer right after it was built."""
    clean = Trainer.__init__

    def build(self, *args, **kwargs):
        clean(self, *args, **kwargs)
        change(self)

    monkeypatch.setattr(Trainer, "__init__", build)


def test_a_frozen_head_is_named(trial, monkeypatch):
    rebuilt(monkeypatch, lambda trainer: trainer.model.position_head.requires_grad_(False))
    found = failed(learning.check_parameters(trial))
    assert set(found) == {"position_head.weight", "position_head.bias"}
    assert "frozen" in found["position_head.bias"]


def test_a_head_that_the_optimizer_forgot_is_named(trial, monkeypatch):
    def forget(trainer):
        groups = trainer.optimizer.param_groups
        trainer.optimizer.param_groups = [group for group in groups if not group["name"].startswith("score_head")]

    rebuilt(monkeypatch, forget)
    found = failed(learning.check_parameters(trial))
    assert found["score_head.weight"] == "is in the optimizer 0 times, expected once"


def test_a_gated_optimizer_step_is_caught(trial, monkeypatch):
    monkeypatch.setattr(ris_pipeline.training.loop, "guarded_step", lambda optimizer, finite: None)
    found = failed(learning.check_parameters(trial))
    assert found["count_head.layers.1.weight"] == "did not move in an optimizer step"


def test_a_branch_without_gradient_is_caught(trial, monkeypatch):
    clean = HybridModel.forward

    def forward(self, measurements):
        prediction = clean(self, measurements)
        return type(prediction)(**{**vars(prediction), "k_logits": prediction.k_logits.detach()})

    monkeypatch.setattr(HybridModel, "forward", forward)
    assert "got no gradient" in failed(learning.check_parameters(trial))["count_head.layers.5.bias"]


@pytest.mark.parametrize(("value", "words"), [(float("inf"), "infinite"), (float("nan"), "not a number"), (0.0, "all zero")])
def test_what_is_wrong_with_a_gradient_is_said(value, words):
    assert words in learning._problem(1, value, 1.0, trainable=True)


def test_the_clean_loss_is_its_weighted_terms(trial):
    (result,) = learning.check_terms(trial)
    assert result.passed
    assert set(result.evidence) == set(ris_pipeline.losses.TERMS)


def test_a_detached_term_is_named(trial, monkeypatch):
    clean = ris_pipeline.losses.covariance_nmse
    monkeypatch.setattr(ris_pipeline.losses, "covariance_nmse", lambda predicted, truth: clean(predicted, truth).detach())
    found = failed(learning.check_terms(trial))
    assert set(found) == {"covariance"}
    assert "gradient of norm 0" in found["covariance"]


def test_a_negative_term_is_named(trial, monkeypatch):
    clean = ris_pipeline.losses.steering_loss
    monkeypatch.setattr(ris_pipeline.losses, "steering_loss", lambda *arguments: clean(*arguments) - 5.0)
    assert "not negative" in failed(learning.check_terms(trial))["steering"]


def test_weights_that_are_not_the_configured_ones_are_caught(trial, monkeypatch):
    clean = ris_pipeline.losses.term_weights
    monkeypatch.setattr(ris_pipeline.losses, "term_weights", lambda loss, like: clean(loss, like) * torch.tensor([0.0, 1, 1, 1, 1]))
    assert set(failed(learning.check_terms(trial))) == {"total"}
