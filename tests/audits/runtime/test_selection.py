"""RUN007 to RUN010: steps, selection, stored checkpoint and restored weights; each saboteur patches the real trainer."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

import ris_pipeline.training.loop
from audits.runtime import selection
from ris_pipeline.training import Trainer


@pytest.fixture(scope="module")
def clean(trial):
    return selection.separated_run(trial)


@pytest.fixture
def folder(trial, tmp_path):
    """The trial with another folder for runs, so that saboteurs do not overwrite each other; the data stay where they are."""
    (tmp_path / "data").symlink_to(trial.directory / "data")
    return replace(trial, directory=tmp_path)


def test_a_clean_run_passes(clean, trial):
    made, tried = clean
    results = [
        *selection.check_steps(made),
        *selection.check_selection(made, tried),
        *selection.check_checkpoint(made, trial),
        *selection.check_restored(made),
    ]
    assert {result.code: result.message for result in results if not result.passed} == {}
    assert made.separated


def test_the_loss_as_primary_returns_the_lowest_loss(folder):
    made = selection.run(folder, "loss", val_primary="loss", epochs=2)
    assert all(result.passed for result in selection.check_loss_primary(made))


def test_an_objective_that_is_silently_the_loss_is_caught(folder, monkeypatch, clean):
    seed = clean[0].trainer.config.train.seed
    monkeypatch.setattr(Trainer, "primary", lambda self, validation: validation.loss)
    made = selection.run(folder, "by-loss", val_primary="k_loc", seed=seed)
    (result,) = selection.check_selection(made, 1)
    assert not result.passed
    assert "the objective of an epoch is not the composite" in result.message
    assert "the best composite is in epoch" in result.message
    (stored,) = selection.check_checkpoint(made, folder)
    assert not stored.passed


def test_an_optimizer_that_steps_once_per_two_batches_is_caught(folder, monkeypatch):
    clean_step = ris_pipeline.training.loop.guarded_step
    calls = []

    def gated(optimizer, finite):
        calls.append(1)
        if len(calls) % 2 == 0:
            clean_step(optimizer, finite)

    monkeypatch.setattr(ris_pipeline.training.loop, "guarded_step", gated)
    (result,) = selection.check_steps(selection.run(folder, "gated", epochs=2))
    assert not result.passed
    assert "3 optimizer steps for 6 batches" in result.message


def test_steps_that_are_undone_are_caught(folder, monkeypatch):
    clean_step = ris_pipeline.training.loop.guarded_step
    monkeypatch.setattr(ris_pipeline.training.loop, "guarded_step", lambda optimizer, finite: clean_step(optimizer, torch.tensor(False)))
    (result,) = selection.check_steps(selection.run(folder, "undone", epochs=1))
    assert "left the weights as they were" in result.message


def test_metrics_of_the_training_split_are_caught(folder, monkeypatch):
    clean_validate = Trainer.validate

    def validate(self):
        kept, self.val = self.val, self.train
        try:
            return clean_validate(self)
        finally:
            self.val = kept

    monkeypatch.setattr(Trainer, "validate", validate)
    (result,) = selection.check_checkpoint(selection.run(folder, "train-split", epochs=1), folder)
    assert not result.passed
    assert "the stored checkpoint scores" in result.message


def test_a_best_state_that_is_not_restored_is_caught(folder, monkeypatch, clean):
    made, _ = clean
    seed = made.trainer.config.train.seed
    monkeypatch.setattr(torch.nn.Module, "load_state_dict", lambda self, state, strict=True, assign=False: None)
    again = selection.run(folder, "unrestored", val_primary="k_loc", seed=seed)
    monkeypatch.undo()
    (result,) = selection.check_restored(again)
    assert not result.passed


def test_a_checkpoint_of_every_epoch_is_caught(folder, monkeypatch, clean):
    made, _ = clean
    clean_report = Trainer.primary

    def always_better(self, validation):
        self.state.best_objective = float("inf")
        return clean_report(self, validation)

    monkeypatch.setattr(Trainer, "primary", always_better)
    again = selection.run(folder, "last", val_primary="k_loc", seed=made.trainer.config.train.seed, patience=10)
    (result,) = selection.check_selection(again, 1)
    assert not result.passed
    assert "returned" in result.message


def test_a_run_without_a_checkpoint_is_caught(folder, clean):
    made, _ = clean
    without = selection.Run(made.trainer, replace(made.result, checkpoint=None), made.steps)
    assert not selection.check_checkpoint(without, folder)[0].passed
    assert not selection.check_restored(without)[0].passed


def test_runs_that_prove_nothing_fail(clean):
    made, _ = clean
    history = [{**epoch, "val_loss": epoch["objective"]} for epoch in made.result.history]
    alike = selection.Run(made.trainer, replace(made.result, history=history), made.steps)
    (result,) = selection.check_selection(alike, 8)
    assert "so nothing is proved" in result.message


@pytest.mark.parametrize(
    ("values", "patience", "epochs", "expected"),
    [([3.0, 2.0, 1.0], 2, 3, 3), ([1.0, 2.0, 3.0, 4.0], 2, 9, 3), ([1.0, 2.0], 2, 9, 9), ([2.0, 2.0, 2.0], 1, 9, 2)],
)
def test_when_patience_stops(values, patience, epochs, expected):
    assert selection.stopping_epoch(values, patience, epochs) == expected


def test_a_rate_that_changes_per_epoch_is_caught(folder, monkeypatch):
    clean_rate = ris_pipeline.training.loop.learning_rate
    monkeypatch.setattr(ris_pipeline.training.loop, "learning_rate", lambda step, total, config: clean_rate(step // 3 * 3, total, config))
    (result,) = selection.check_rates(selection.run(folder, "per-epoch", epochs=2))
    assert "does not fall with every step" in result.message


@pytest.mark.parametrize(
    ("rates", "words"),
    [
        ([2e-2, 1e-2, 1e-3], ""),
        ([1e-2, 2e-2, 2e-2, 1e-3], ""),
        ([2e-2, 2e-2, 2e-2, 1e-3], "does not fall"),
        ([1e-2, 1e-2, 2e-2, 1e-3], "does not rise"),
        ([2e-2, 1.9e-2], "more than half"),
        ([1e-2, 1e-3], "configured is 0.02"),
    ],
)
def test_what_a_schedule_must_do(clean, rates, words):
    made, _ = clean
    (result,) = selection.check_rates(replace(made, steps=selection.Steps(rates=rates)))
    assert result.passed is not bool(words)
    assert words in result.message
