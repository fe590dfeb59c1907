"""The sweep of blend weight and confidence threshold."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from ris_pipeline.config import load_config
from ris_pipeline.errors import CheckpointError
from ris_pipeline.evaluation import tune as tuning
from ris_pipeline.evaluation.localize import localize
from ris_pipeline.evaluation.tune import BETAS, THRESHOLDS, tune, write_tuned
from ris_pipeline.metrics import aggregate, score_scenes, selection_score
from ris_pipeline.model import load_model


@pytest.fixture(scope="module")
def checkpoint(tiny_run):
    return load_model(tiny_run.folder)


@pytest.fixture(scope="module")
def tuned(checkpoint, few, tiny_config):
    return tune(checkpoint, few[1], tiny_config, "the test")


def test_every_pair_is_scored_and_the_lowest_wins(tuned):
    pairs = {(row["beta"], row["k_conf_thresh"]) for row in tuned.table}
    assert pairs == {(beta, threshold) for beta in BETAS for threshold in THRESHOLDS}
    assert len(tuned.table) == len(pairs)
    assert tuned.objective == min(row["objective"] for row in tuned.table) <= tuned.objective_before
    assert len({row["objective"] for row in tuned.table}) > 3
    best = next(row for row in tuned.table if (row["beta"], row["k_conf_thresh"]) == (tuned.beta, tuned.k_conf_thresh))
    assert best["objective"] == tuned.objective
    before = next(row for row in tuned.table if (row["beta"], row["k_conf_thresh"]) == (0.3, 0.3))
    assert before["objective"] == tuned.objective_before


def test_a_row_is_what_the_network_method_scores_with_that_pair(tuned, checkpoint, few, tiny_config):
    batch = few[1].batch(torch.arange(len(few[1])))
    for beta, threshold in ((0.0, 0.0), (0.5, 0.6), (tuned.beta, tuned.k_conf_thresh)):
        config = tiny_config.replaced(covariance={"beta": beta}, estimate={"k_conf_thresh": threshold})
        model = checkpoint.network_for(config, "the test")
        metrics = aggregate(score_scenes(localize(batch.measurements, config, "network", model).sources, batch.sources, config.metrics))
        row = next(row for row in tuned.table if (row["beta"], row["k_conf_thresh"]) == (beta, threshold))
        assert row["objective"] == pytest.approx(selection_score(metrics, config.metrics), abs=1e-5)
        assert (row["k_acc"], row["success_rate"]) == pytest.approx((metrics.k_acc, metrics.success_rate))


def scripted(monkeypatch, objective):
    """Every pair scores ``objective(beta, threshold)``."""

    def rows(checkpoint, scenes, config, where, thresholds, device):
        beta = config.covariance.beta
        return [{"beta": beta, "k_conf_thresh": t, "objective": objective(beta, t), "k_acc": 0.5, "success_rate": 0.5} for t in thresholds]

    monkeypatch.setattr(tuning, "_score_thresholds", rows)


def test_ties_keep_the_configured_pair(checkpoint, few, tiny_config, monkeypatch):
    scripted(monkeypatch, lambda beta, threshold: 1.0)
    result = tune(checkpoint, few[1], tiny_config, "the test")
    assert (result.beta, result.k_conf_thresh) == (0.3, 0.3)


def test_ties_among_others_take_the_smaller_pair(checkpoint, few, tiny_config, monkeypatch):
    scripted(monkeypatch, lambda beta, threshold: 1.0 if (beta, threshold) == (0.3, 0.3) else 0.5)
    result = tune(checkpoint, few[1], tiny_config, "the test")
    assert (result.beta, result.k_conf_thresh, result.objective, result.objective_before) == (0.0, 0.0, 0.5, 1.0)


def test_configured_values_off_the_grid_are_tried_too(checkpoint, few, tiny_config, monkeypatch):
    scripted(monkeypatch, lambda beta, threshold: abs(beta - 0.37) + abs(threshold - 0.11))
    config = tiny_config.replaced(covariance={"beta": 0.37}, estimate={"k_conf_thresh": 0.11})
    result = tune(checkpoint, few[1], config, "the test")
    assert (result.beta, result.k_conf_thresh, result.objective) == (0.37, 0.11, 0.0)
    assert len(result.table) == (len(BETAS) + 1) * (len(THRESHOLDS) + 1)


def test_the_written_file_is_a_partial_configuration(tuned, tiny_config, tmp_path):
    path = tmp_path / "deep" / "tuned.toml"
    write_tuned(path, tuned)
    loaded = load_config([path], base=tiny_config.model_dump(mode="json"))
    assert loaded == tiny_config.replaced(covariance={"beta": tuned.beta}, estimate={"k_conf_thresh": tuned.k_conf_thresh})
    assert [entry.name for entry in path.parent.iterdir()] == ["tuned.toml"]
    assert path.read_text(encoding="utf-8").startswith(
        f"# tuned on validation: objective {tuned.objective:.6f}, was {tuned.objective_before:.6f}"
    )


def test_numbers_survive_the_file_exactly(tmp_path, tuned):
    write_tuned(tmp_path / "tuned.toml", dataclasses.replace(tuned, beta=0.1 + 0.2, k_conf_thresh=1.0 / 3.0))
    loaded = load_config([tmp_path / "tuned.toml"])
    assert (loaded.covariance.beta, loaded.estimate.k_conf_thresh) == (0.1 + 0.2, 1.0 / 3.0)


def test_weights_for_another_surface_are_refused(checkpoint, few, tiny_config):
    with pytest.raises(CheckpointError, match=r"trained with array\.n_h = 6, the test has 8$"):
        tune(checkpoint, few[1], tiny_config.replaced(array={"n_h": 8}), "the test")


def test_tuning_changes_neither_configuration_nor_weights(checkpoint, few, tiny_config):
    before, weights = tiny_config.sha256(), {n: t.clone() for n, t in checkpoint.model.state_dict().items()}
    tune(checkpoint, few[1], tiny_config, "the test")
    assert tiny_config.sha256() == before
    assert all(torch.equal(tensor, weights[name]) for name, tensor in checkpoint.model.state_dict().items())
