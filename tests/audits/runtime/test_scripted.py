"""RUN018 to RUN024 on the clean tree, with one saboteur each; many more are in the saboteur suite."""

from __future__ import annotations

import pytest
import torch

import ris_pipeline.hpo
import ris_pipeline.losses
import ris_pipeline.training.loop
from audits.runtime import journal, laws, repeat, scripted, search, streams
from audits.runtime.trial import SMALL, TINY, small_config, small_trial
from ris_pipeline.config import Config
from ris_pipeline.shards.manifest import ShardPlan
from ris_pipeline.training import Trainer


@pytest.fixture(scope="module")
def tiny():
    with small_trial(small_config().replaced(**SMALL).replaced(**TINY)) as made:
        yield made


def failed(results):
    assert results
    return {result.subject: result.message for result in results if not result.passed}


def test_the_clean_trainer_follows_every_script(tiny, monkeypatch):
    monkeypatch.setattr(scripted, "SCRIPTS", scripted.SCRIPTS[:1])
    assert not failed(scripted.check_scripts(tiny))


def test_metrics_have_the_composite_that_the_script_asks_for():
    config = Config()
    for script in scripted.SCRIPTS:
        for value in script.composites:
            metrics = scripted.metrics_of(value, config)
            assert scripted.formula(metrics.as_dict(), config.metrics) == pytest.approx(value)


def test_scripts_separate_the_primaries():
    for script in scripted.SCRIPTS:
        others = list(script.composites if script.primary == "loss" else script.losses)
        others = others[: scripted.stopping_epoch(others, scripted.PATIENCE, len(others))]
        assert script.values[script.best] == min(script.values[: script.best + scripted.PATIENCE + 1])
        assert min(range(len(others)), key=lambda epoch: others[epoch]) != script.best


def test_an_objective_that_is_the_loss_fails_the_script(tiny, monkeypatch):
    monkeypatch.setattr(scripted, "SCRIPTS", scripted.SCRIPTS[:1])
    monkeypatch.setattr(Trainer, "primary", lambda self, validation: validation.loss)
    assert {"composite best early, loss still falls", "missing metric"} <= set(failed(scripted.check_scripts(tiny)))


def test_the_clean_trainer_reads_each_scene_once(tiny):
    assert not failed(journal.check_scenes(tiny))


def test_a_metric_on_the_training_split_is_named(tiny, monkeypatch):
    clean = Trainer.validate

    def validate(self):
        held, self.val = self.val, self.train
        try:
            return clean(self)
        finally:
            self.val = held

    monkeypatch.setattr(Trainer, "validate", validate)
    # The observer knows the method that it was given at import; the network and the scores show it anyway.
    found = failed(journal.check_scenes(tiny))
    assert "24 were not those of the split as stored" in found["epoch 0, scenes evaluated"]


def test_the_clean_trainer_repeats_itself(tiny):
    assert not failed(repeat.check_repeats(tiny))


def test_a_run_that_reads_the_global_random_state_does_not_repeat_itself(tiny, monkeypatch):
    clean = Trainer.train_step

    def train_step(self, batch):
        with torch.no_grad():
            self.model.score_head.bias.add_(1e-3 * torch.rand(1))
        return clean(self, batch)

    monkeypatch.setattr(Trainer, "train_step", train_step)
    assert "second run with the seed" in failed(repeat.check_repeats(tiny))


def test_the_clean_loss_obeys_its_laws(tiny):
    assert not failed(laws.check_laws(tiny))


def test_an_index_matched_loss_depends_on_the_order_of_sources(tiny, monkeypatch):
    def by_index(position, sources, config):
        return torch.arange(sources.mask.shape[1]).expand(sources.mask.shape).clone()

    monkeypatch.setattr(ris_pipeline.losses, "match_slots", by_index)
    assert "position is" in failed(laws.check_laws(tiny))["order of sources"]


def test_the_clean_search_passes_and_a_fixed_size_does_not(monkeypatch):
    assert not failed(search.check("cpu"))
    monkeypatch.setattr(ris_pipeline.hpo, "subset_sizes", lambda config, directory, manifest: (20, 12))
    assert "trial 0 used [20, 12] scenes, expected [18, 11]" in failed(search.check("cpu"))["sizes"]


def test_streams_that_splits_share_are_counted(monkeypatch):
    assert not failed(list(streams._plan(Config())))
    monkeypatch.setattr(ShardPlan, "stream", property(lambda plan: plan.index))
    (message,) = failed(list(streams._plan(Config()))).values()
    assert message.startswith("20000 of 120000 streams are shared")
