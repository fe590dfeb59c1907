"""RUN011 and RUN012: an update that is not finite, and inputs that nothing reads."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

import ris_pipeline.training.loop
from audits.runtime import robustness
from ris_pipeline.model import HybridModel


def test_the_clean_step_refuses_what_is_not_finite(trial):
    power, range_m = robustness.check_guard(trial)
    assert power.passed
    assert range_m.passed
    assert not power.evidence["finite"]["covariance"]
    assert power.evidence["finite"]["k"]
    assert not range_m.evidence["finite"]["position"]


def test_an_unguarded_step_is_caught(trial, monkeypatch):
    monkeypatch.setattr(ris_pipeline.training.loop, "guarded_step", lambda optimizer, finite: optimizer.step())
    for result in robustness.check_guard(trial):
        assert not result.passed
        assert "tensors changed" in result.message


def test_overflow_that_is_hidden_is_caught(trial, monkeypatch):
    clean = ris_pipeline.training.loop.true_factor
    monkeypatch.setattr(
        ris_pipeline.training.loop, "true_factor", lambda array, sources: torch.nan_to_num(clean(array, sources), posinf=1.0)
    )
    result, _ = robustness.check_guard(trial)
    assert "expected covariance to be reported, got nothing" in result.message


def test_every_input_of_the_clean_network_is_read(trial):
    (result,) = robustness.check_inputs(trial)
    assert result.passed
    assert set(result.evidence) == set(robustness.CHANGES)


@pytest.mark.parametrize(
    ("change", "subject"),
    [
        (lambda m: replace(m, code_index=torch.zeros_like(m.code_index)), "codes in another order than the snapshots"),
        (lambda m: replace(m, channel=torch.ones_like(m.channel)), "channel of another scene"),
        (lambda m: replace(m, sample_factor=None), "sample factor of another scene"),
        (lambda m: replace(m, noise_variance=None), "four times the noise variance"),
    ],
)
def test_an_input_that_nothing_reads_is_named(trial, monkeypatch, change, subject):
    clean = HybridModel.forward
    monkeypatch.setattr(HybridModel, "forward", lambda self, measurements: clean(self, change(measurements)))
    results = robustness.check_inputs(trial)
    assert subject in {result.subject for result in results if not result.passed}
