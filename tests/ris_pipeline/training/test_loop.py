"""The training loop: what it steps on, what it selects by, what it saves, how it stops, and that it can be repeated and resumed."""

from __future__ import annotations

import json
import logging
import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from ris_pipeline import losses
from ris_pipeline.errors import CheckpointError, ConfigError, DivergedError, IncompleteError
from ris_pipeline.evaluation.localize import localize
from ris_pipeline.losses import TERMS, term_weights
from ris_pipeline.metrics import Metrics, SceneScores, aggregate, score_scenes, selection_score
from ris_pipeline.model import load_model
from ris_pipeline.model.weights import BEST_NAME, load_tensors
from ris_pipeline.shards import MemoryScenes
from ris_pipeline.training import Trainer, Validation, loop
from ris_pipeline.training.checkpoint import LAST_NAME
from ris_pipeline.training.loop import resolve_device


def config_with(config, **train):
    return config.replaced(train=train)


def first(scenes, count):
    return MemoryScenes(scenes.batch(torch.arange(count)))


@pytest.fixture
def quick(few):
    """16 scenes to train on and 16 to select on: one step per epoch."""
    return first(few[0], 16), first(few[1], 16)


def state_of(model):
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}


def same_state(one, two):
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


def scored(score):
    """Metrics whose composite is ``score``."""
    return Metrics(1.0 - score, score, 0.0, *(0.0,) * 6, success_rate=0.0, source_success_rate=0.0, ospa=0.0)


class Scripted(Trainer):
    """A trainer whose validations are written down beforehand; it keeps the weights that each of them saw."""

    def __init__(self, config, scenes, script, folder=None, **options):
        super().__init__(config, *scenes, folder, **options)
        self.script = list(script)
        self.seen = []

    def validate(self):
        score, loss = self.script[len(self.seen)]
        self.seen.append(state_of(self.model))
        return Validation(scored(score), loss, dict.fromkeys(TERMS, loss))


# Selection.

LOSS_BEST, METRIC_BEST = 2, 1
SCRIPT = [(0.9, 4.0), (0.3, 3.0), (0.6, 1.0), (0.5, 2.0)]


@pytest.mark.parametrize(
    ("primary", "best", "objective"), [("k_loc", METRIC_BEST, 0.3), ("metrics", METRIC_BEST, 0.3), ("loss", LOSS_BEST, 1.0)]
)
def test_everything_selects_by_the_configured_primary(tiny_config, quick, tmp_path, primary, best, objective):
    """Loss and metric disagree on the best epoch: result, file, record and restored weights all follow the primary."""
    trainer = Scripted(config_with(tiny_config, epochs=4, val_primary=primary), quick, SCRIPT, tmp_path)
    result = trainer.fit()
    assert result.objective == pytest.approx(objective, abs=1e-12)
    assert (result.val_primary, result.best_epoch, result.epochs) == (primary, best, 4)
    assert result.checkpoint == tmp_path / BEST_NAME
    assert same_state(state_of(trainer.model), trainer.seen[best])
    assert not same_state(trainer.seen[LOSS_BEST], trainer.seen[METRIC_BEST])
    checkpoint = load_model(tmp_path)
    assert same_state(state_of(checkpoint.model), trainer.seen[best])
    assert checkpoint.record["objective"] == result.objective
    assert checkpoint.record["epoch"] == best
    assert checkpoint.record["val_primary"] == primary
    assert checkpoint.record["metrics"] == result.metrics.as_dict() == scored(SCRIPT[best][0]).as_dict()
    column = 1 if primary == "loss" else 0
    assert [entry["objective"] for entry in result.history] == pytest.approx([line[column] for line in SCRIPT])
    assert min(entry["objective"] for entry in result.history) == result.objective
    assert [entry["improved"] for entry in result.history] == [True, True, primary == "loss", False]


@pytest.mark.parametrize(("primary", "epochs"), [("k_loc", 3), ("loss", 5)])
def test_early_stopping_counts_epochs_without_a_better_primary(tiny_config, quick, primary, epochs):
    """The metric is best at once while the loss keeps falling."""
    script = [(0.2 + 0.1 * epoch, 5.0 - epoch) for epoch in range(5)]
    result = Scripted(config_with(tiny_config, epochs=5, patience=2, val_primary=primary), quick, script).fit()
    assert result.epochs == epochs


def test_an_equal_objective_is_no_improvement(tiny_config, quick):
    result = Scripted(config_with(tiny_config, epochs=3), quick, [(0.5, 3.0), (0.5, 2.0), (0.5, 1.0)]).fit()
    assert result.best_epoch == 0


@pytest.mark.parametrize("field", ["k_acc", "azimuth_rmse_deg", "elevation_rmse_deg", "range_rmse_m", "success_rate"])
def test_a_metric_that_cannot_be_computed_stops_the_run_and_nothing_is_saved(tiny_config, quick, tmp_path, monkeypatch, field):
    """The validation loss is there and finite; it must not stand in for the metric."""
    broken = Validation(replace(scored(0.5), **{field: math.nan}), 0.1, dict.fromkeys(TERMS, 0.1))
    trainer = Trainer(tiny_config, *quick, tmp_path)
    monkeypatch.setattr(trainer, "validate", lambda: broken)
    with pytest.raises(IncompleteError, match="the composite score could not be computed"):
        trainer.fit()
    assert list(tmp_path.iterdir()) == []


def test_a_validation_loss_that_is_not_finite_stops_a_run_that_selects_by_it(tiny_config, quick, tmp_path):
    trainer = Scripted(config_with(tiny_config, val_primary="loss"), quick, [(0.5, math.nan)], tmp_path)
    with pytest.raises(IncompleteError, match="the validation loss could not be computed"):
        trainer.fit()
    assert list(tmp_path.iterdir()) == []


def test_estimates_that_are_not_finite_stop_the_run(tiny_config, quick, monkeypatch):
    real = loop.network_sources

    def broken(*arguments):
        sources, confidence = real(*arguments)
        return replace(sources, azimuth_rad=torch.full_like(sources.azimuth_rad, math.nan)), confidence

    monkeypatch.setattr(loop, "network_sources", broken)
    with pytest.raises(IncompleteError, match="an estimated position is not finite"):
        Trainer(tiny_config, *quick).fit()


def test_the_stored_objective_is_what_the_stored_weights_score(tiny_run, few):
    """Reload the best checkpoint, localize the validation set by the network alone, and score it by hand."""
    checkpoint = load_model(tiny_run.folder)
    truth = few[1].batch(torch.arange(len(few[1])))
    estimate = localize(truth.measurements, tiny_run.config, "network", checkpoint.model).sources
    metrics = aggregate(score_scenes(estimate, truth.sources, tiny_run.config.metrics))
    assert selection_score(metrics, tiny_run.config.metrics) == pytest.approx(tiny_run.result.objective, abs=1e-9)
    assert checkpoint.record["objective"] == tiny_run.result.objective == min(e["objective"] for e in tiny_run.result.history)
    assert checkpoint.record["metrics"] == tiny_run.result.metrics.as_dict()


def test_validation_scores_what_localizing_with_the_network_gives(tiny_config, few, tiny_run):
    """Batch by batch; the loss is the mean over scenes of the training loss."""
    trainer, val = tiny_run.trainer, few[1]
    validation = trainer.validate()
    scores, total = [], 0.0
    for index in torch.arange(len(val)).split(tiny_config.train.batch_size):
        batch = val.batch(index)
        estimate = localize(batch.measurements, tiny_config, "network", trainer.model)
        scores.append(score_scenes(estimate.sources, batch.sources, tiny_config.metrics))
        with torch.no_grad():
            total += float(trainer.loss(trainer.model(batch.measurements), batch).total) * len(batch)
    assert validation.metrics == aggregate(SceneScores.cat(scores))
    assert validation.loss == pytest.approx(total / len(val), rel=1e-5)
    weighted = dict(zip(TERMS, term_weights(tiny_config.loss, torch.zeros(())).tolist(), strict=True))
    assert sum(weighted[name] * validation.terms[name] for name in TERMS) == pytest.approx(validation.loss, rel=1e-5)


# Steps.


def test_every_batch_is_one_optimizer_step_and_every_scene_is_seen_once_per_epoch(tiny_config, few, monkeypatch):
    """50 scenes in batches of 16 are four steps per epoch, the last one of two scenes, in an order of its own in every epoch."""
    trainer = Trainer(config_with(tiny_config, epochs=3, batch_size=16), first(few[0], 50), few[1])
    steps, batches = [], []
    optimizer_step, train_step = trainer.optimizer.step, trainer.train_step

    def counted(*arguments, **options):
        steps.append(1)
        return optimizer_step(*arguments, **options)

    def watched(batch):
        batches.append(batch.measurements.snr_db.clone())
        return train_step(batch)

    monkeypatch.setattr(trainer.optimizer, "step", counted)
    monkeypatch.setattr(trainer, "train_step", watched)
    trainer.fit()
    assert len(steps) == len(batches) == trainer.state.step == 12
    assert [len(batch) for batch in batches] == [16, 16, 16, 2] * 3
    epochs = [torch.cat(batches[start : start + 4]) for start in (0, 4, 8)]
    everything = first(few[0], 50).batch(torch.arange(50)).measurements.snr_db.sort().values
    assert all(torch.equal(epoch.sort().values, everything) for epoch in epochs)
    assert not torch.equal(epochs[0], epochs[1])
    assert not torch.equal(epochs[1], epochs[2])


def test_every_parameter_group_moves_in_every_epoch(tiny_run):
    names = {group["name"] for group in tiny_run.trainer.optimizer.param_groups}
    for entry in tiny_run.result.history:
        assert entry["moved"].keys() == names
        assert all(1e-6 < moved < 1.0 for moved in entry["moved"].values()), entry["moved"]


def test_every_single_parameter_moves_in_one_step(tiny_config, few):
    trainer = Trainer(tiny_config, *few)
    trainer.optimizer.param_groups[0]["lr"] = 1e-3
    before = state_of(trainer.model)
    trainer.train_step(few[0].batch(torch.arange(32)))
    still = [name for name, parameter in trainer.model.named_parameters() if torch.equal(parameter, before[name])]
    assert still == []


def test_the_learning_rate_follows_warm_up_and_cosine_step_by_step(tiny_config, few, monkeypatch):
    """One rate per optimizer step and group: linear to the peak, then a cosine down to the floor over all steps of the run."""
    config = config_with(tiny_config, epochs=5, batch_size=16, warmup_fraction=0.2, final_lr_fraction=0.1, learning_rate=1e-2)
    trainer = Trainer(config, *few)
    trace, real = [], loop.guarded_step

    def watched(optimizer, finite):
        trace.append([group["lr"] for group in optimizer.param_groups])
        real(optimizer, finite)

    monkeypatch.setattr(loop, "guarded_step", watched)
    result = trainer.fit()
    total, warmup = 20, 4
    rising = [1e-2 * step / warmup for step in range(1, warmup + 1)]
    angle = np.pi * np.arange(total - warmup) / (total - warmup)
    falling = 1e-2 * (0.1 + 0.9 * (1.0 + np.cos(angle)) / 2.0)
    expected = np.concatenate((rising, falling))
    np.testing.assert_allclose(np.array(trace), np.repeat(expected[:, None], len(trainer.optimizer.param_groups), axis=1), rtol=1e-12)
    assert max(trace[warmup - 1]) == 1e-2
    assert [entry["learning_rate"] for entry in result.history] == [trace[step - 1][0] for step in (4, 8, 12, 16, 20)]


def test_the_loss_of_64_scenes_falls_clearly_when_they_are_trained_on(tiny_config, few):
    trainer = Trainer(config_with(tiny_config, epochs=12, learning_rate=1e-2, patience=12), few[0], first(few[1], 8))
    history = trainer.fit().history
    weights = term_weights(trainer.config.loss, torch.zeros(()))
    totals = [float((torch.tensor([entry["train_terms"][name] for name in TERMS]) * weights).sum()) for entry in history]
    assert totals[-1] < 0.6 * totals[0], totals
    assert all(history[-1]["train_terms"][name] < history[0]["train_terms"][name] for name in ("k", "position", "score"))


# Faults.


def inject(monkeypatch, value, at):
    """Make the k term ``value`` (with gradient) in the calls ``at``."""
    real, calls = losses.count_loss, []

    def broken(logits, k, under_cost):
        calls.append(1)
        loss = real(logits, k, under_cost)
        return loss * value if len(calls) in at else loss

    monkeypatch.setattr(losses, "count_loss", broken)


@pytest.mark.parametrize("value", [math.inf, math.nan])
def test_a_loss_that_is_not_finite_never_reaches_the_weights(tiny_config, few, monkeypatch, value):
    trainer = Trainer(tiny_config, *few)
    batch = few[0].batch(torch.arange(16))
    trainer.train_step(batch)
    before = state_of(trainer.model)
    inject(monkeypatch, value, at={1})
    report = trainer.train_step(batch)
    assert dict(zip((*TERMS, "gradient"), report.finite.tolist(), strict=True))["k"] is False
    assert same_state(state_of(trainer.model), before)
    moments = [v for values in trainer.optimizer.state.values() for v in values.values()]
    assert all(torch.isfinite(torch.as_tensor(v)).all() for v in moments)
    good = trainer.train_step(batch)
    assert good.finite.all()
    assert not same_state(state_of(trainer.model), before)
    assert all(torch.isfinite(tensor).all() for tensor in trainer.model.state_dict().values())


def test_a_gradient_that_is_not_finite_never_reaches_the_weights(tiny_config, few):
    trainer = Trainer(tiny_config, *few)
    trainer.model.score_head.weight.register_hook(lambda gradient: gradient * math.inf)
    before = state_of(trainer.model)
    report = trainer.train_step(few[0].batch(torch.arange(16)))
    assert report.finite.tolist() == [True] * len(TERMS) + [False]
    assert same_state(state_of(trainer.model), before)
    with pytest.raises(DivergedError, match="training diverged: gradient is not finite at optimizer step"):
        trainer.fit()


@pytest.mark.parametrize(("log_every", "step"), [(1, 2), (50, 4)])
def test_a_run_stops_with_the_name_of_the_term_before_anything_is_saved(tiny_config, few, tmp_path, monkeypatch, log_every, step):
    """The second of four steps diverges; it is noticed at the next read, at the latest before the checkpoint."""
    inject(monkeypatch, math.inf, at={2})
    trainer = Trainer(config_with(tiny_config, batch_size=16, log_every=log_every), *few, tmp_path)
    with pytest.raises(DivergedError) as caught:
        trainer.fit()
    assert (caught.value.term, caught.value.step) == ("k", step)
    assert str(caught.value) == f"training diverged: k is not finite at optimizer step {step}"
    assert list(tmp_path.iterdir()) == []


def test_divergence_in_a_later_epoch_keeps_the_checkpoints_of_the_earlier_one(tiny_config, quick, tmp_path, monkeypatch):
    """Call 1 is the first step, call 2 its validation, call 3 the step that diverges."""
    inject(monkeypatch, math.nan, at={3})
    trainer = Trainer(tiny_config, *quick, tmp_path)
    with pytest.raises(DivergedError, match="k is not finite at optimizer step 2"):
        trainer.fit()
    assert load_tensors(tmp_path / LAST_NAME)[1]["state"]["epoch"] == 1
    assert load_model(tmp_path).record["epoch"] == 0


def test_a_missing_sample_is_reported_once_per_fit_and_the_prediction_is_used_alone(tiny_config, few_without_sample, caplog):
    trainer = Trainer(tiny_config, *few_without_sample)
    with caplog.at_level(logging.WARNING, logger="ris_pipeline"):
        result = trainer.fit()
    messages = [record.getMessage() for record in caplog.records]
    assert messages == ["covariance.beta = 0.3, but the shards hold no sample covariance: the prediction is used alone"]
    assert all(moved > 0.0 for entry in result.history for moved in entry["moved"].values())
    assert math.isfinite(result.objective)


@pytest.mark.parametrize(("beta", "stored"), [(0.0, False), (0.3, True), (0.0, True)])
def test_nothing_is_reported_where_the_sample_is_there_or_not_wanted(tiny_config, quick, few_without_sample, caplog, beta, stored):
    scenes = quick if stored else (first(few_without_sample[0], 16), first(few_without_sample[1], 16))
    with caplog.at_level(logging.WARNING, logger="ris_pipeline"):
        Trainer(tiny_config.replaced(covariance={"beta": beta}, train={"epochs": 1}), *scenes).fit()
    assert caplog.records == []


# Repetition and resuming.


def comparable(history):
    return [{key: value for key, value in entry.items() if key != "samples_per_second"} for entry in history]


def test_one_seed_gives_one_run_and_another_seed_another(tiny_config, few, tiny_run):
    again = Trainer(tiny_config, *few)
    result = again.fit()
    assert comparable(result.history) == comparable(tiny_run.result.history)
    assert same_state(state_of(again.model), state_of(tiny_run.trainer.model))
    other = Trainer(config_with(tiny_config, seed=1, epochs=1), *few)
    assert other.fit().history[0]["train_terms"] != result.history[0]["train_terms"]


def test_a_run_depends_on_no_global_random_state(tiny_config, quick):
    torch.manual_seed(1)
    one = Trainer(tiny_config, *quick)
    first_result = one.fit()
    torch.manual_seed(2)
    two = Trainer(tiny_config, *quick)
    second_result = two.fit()
    assert comparable(first_result.history) == comparable(second_result.history)
    assert same_state(state_of(one.model), state_of(two.model))


class Interrupted(Exception):
    """Somebody pulled the plug."""


@pytest.mark.parametrize("step", [3, 6])
def test_a_resumed_run_equals_an_uninterrupted_one_bit_for_bit(tiny_config, few, tmp_path, monkeypatch, step):
    """Interrupted in the middle of an epoch; that epoch is done again."""
    config = config_with(tiny_config, epochs=4)
    whole = Trainer(config, *few, tmp_path / "whole")
    expected = whole.fit()
    broken = Trainer(config, *few, tmp_path / "broken")
    real = broken.train_step

    def failing(batch):
        if broken.state.step == step:
            raise Interrupted
        return real(batch)

    monkeypatch.setattr(broken, "train_step", failing)
    with pytest.raises(Interrupted):
        broken.fit()
    resumed = Trainer(config, *few, tmp_path / "broken")
    resumed.resume()
    assert resumed.state.epoch == step // 2
    result = resumed.fit()
    assert comparable(result.history) == comparable(expected.history)
    assert (result.objective, result.best_epoch, result.metrics) == (expected.objective, expected.best_epoch, expected.metrics)
    assert same_state(state_of(resumed.model), state_of(whole.model))
    for name in (BEST_NAME, LAST_NAME):
        one, two = load_tensors(tmp_path / "whole" / name)[0], load_tensors(tmp_path / "broken" / name)[0]
        assert same_state(one, two), name


def test_resuming_a_finished_run_trains_no_further_and_returns_its_result(tiny_config, quick, tmp_path, monkeypatch):
    expected = Trainer(tiny_config, *quick, tmp_path).fit()
    again = Trainer(tiny_config, *quick, tmp_path)
    again.resume()
    monkeypatch.setattr(again, "train_step", lambda batch: pytest.fail("a finished run took another step"))
    result = again.fit()
    assert (result.objective, result.best_epoch, result.metrics) == (expected.objective, expected.best_epoch, expected.metrics)


def test_resuming_a_run_that_stopped_early_trains_no_further(tiny_config, quick, tmp_path):
    """It would otherwise run one more epoch at every call."""
    config = config_with(tiny_config, epochs=9, patience=1)
    script = [(0.2, 1.0), (0.3, 1.0), (0.1, 1.0)]
    assert Scripted(config, quick, script, tmp_path).fit().epochs == 2
    again = Scripted(config, quick, script, tmp_path)
    again.resume()
    assert again.fit().epochs == 2


def test_a_resumed_run_still_knows_its_best_epoch(tiny_config, quick, tmp_path):
    """The best epoch lies before the interruption and nothing after it is better: its weights are the result."""
    config = config_with(tiny_config, epochs=4)

    def stop(report):
        if report.epoch == 1:
            raise Interrupted

    before = Scripted(config, quick, [(0.2, 1.0), (0.4, 1.0)], tmp_path, on_epoch=stop)
    with pytest.raises(Interrupted):
        before.fit()
    after = Scripted(config, quick, [(0.3, 1.0), (0.5, 1.0)], tmp_path)
    after.resume()
    result = after.fit()
    assert (result.best_epoch, result.epochs) == (0, 4)
    assert result.objective == pytest.approx(0.2)
    assert same_state(state_of(after.model), before.seen[0])
    assert same_state(state_of(load_model(tmp_path).model), before.seen[0])


def test_there_must_be_something_to_resume(tiny_config, quick, tmp_path):
    with pytest.raises(CheckpointError, match=r"^nothing to resume: expected .*last\.safetensors$"):
        Trainer(tiny_config, *quick, tmp_path).resume()
    with pytest.raises(ValueError, match="a run without a folder cannot be resumed"):
        Trainer(tiny_config, *quick).resume()


def test_a_run_of_another_configuration_is_not_resumed(tiny_config, few, tiny_run):
    trainer = Trainer(config_with(tiny_config, learning_rate=1e-3), *few, tiny_run.folder)
    before = state_of(trainer.model)
    with pytest.raises(CheckpointError, match=r"was trained with another configuration: train\.learning_rate was 0\.002, is now 0\.001$"):
        trainer.resume()
    assert same_state(state_of(trainer.model), before)


@pytest.mark.parametrize("name", [LAST_NAME, BEST_NAME])
def test_a_truncated_checkpoint_is_not_resumed(tiny_config, few, tiny_run, tmp_path, name):
    for path in tiny_run.folder.glob("*.safetensors"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / name).write_bytes((tmp_path / name).read_bytes()[:-100])
    with pytest.raises(CheckpointError, match="is damaged or not a safetensors file"):
        Trainer(tiny_config, *few, tmp_path).resume()


# What a run leaves behind.


def test_checkpoints_are_safetensors_with_readable_json_beside_them(tiny_run):
    assert sorted(path.name for path in tiny_run.folder.iterdir()) == [
        "best.json",
        "best.safetensors",
        "last.json",
        "last.safetensors",
    ]
    record = json.loads((tiny_run.folder / "best.json").read_text(encoding="utf-8"))
    assert record["objective"] == tiny_run.result.objective
    assert record["config"] == tiny_run.config.model_dump(mode="json")
    assert "objective" in json.loads((tiny_run.folder / "last.json").read_text(encoding="utf-8"))["state"]["history"][0]


def test_a_run_without_a_folder_writes_nothing(tiny_config, quick, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert Trainer(tiny_config, *quick).fit().checkpoint is None
    assert list(tmp_path.iterdir()) == []


def test_training_changes_nothing_in_the_configuration(tiny_config, quick):
    before = tiny_config.sha256()
    trainer = Trainer(tiny_config, *quick)
    trainer.fit()
    assert trainer.config is tiny_config
    assert tiny_config.sha256() == before


def test_the_blend_of_the_configuration_is_the_one_that_is_trained_and_validated(tiny_config, few):
    """The weight of the sample is active: another beta gives another covariance loss, and so does another sample."""
    batch = few[1].batch(torch.arange(16))

    def terms(beta):
        trainer = Trainer(tiny_config.replaced(covariance={"beta": beta}), *few)
        return trainer.loss(trainer.model(batch.measurements), batch).values.detach()

    assert terms(0.0)[0] > terms(0.5)[0] > terms(0.9)[0] > 0.0
    trainer = Trainer(tiny_config, *few)
    factor = torch.randn(16, 24, 3, dtype=torch.complex64, generator=torch.Generator().manual_seed(0))
    blended = trainer.blend(factor, batch.measurements.sample_factor)
    one, two = (f / f.abs().square().sum(dim=(1, 2), keepdim=True).sqrt() for f in (factor, batch.measurements.sample_factor))
    expected = 24 * (0.7 * one @ one.mH + 0.3 * two @ two.mH)
    torch.testing.assert_close(blended.dense(), expected, rtol=1e-4, atol=1e-4)


# Devices.


def test_devices_are_resolved_by_name():
    assert resolve_device("cpu") == torch.device("cpu")
    assert resolve_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")


@pytest.mark.parametrize("name", ["gpu", "cuda:99"])
def test_a_device_that_is_not_there_is_one_sentence(name):
    with pytest.raises(ConfigError, match=f"train.device.*{name}"):
        resolve_device(name)
