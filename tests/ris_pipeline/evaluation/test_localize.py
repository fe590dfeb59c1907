"""From measurements to sources: every method stays in the field of view, sees no truth, and counts as it says."""

from __future__ import annotations

import dataclasses
import re

import pytest
import torch

from ris_pipeline.back_projection import sample_factor
from ris_pipeline.covariance import FactoredCovariance
from ris_pipeline.errors import ConfigError
from ris_pipeline.estimators import eigenvalue_count, maximum_likelihood, music
from ris_pipeline.evaluation.localize import (
    METHODS,
    SUBSPACE_METHODS,
    localize,
    network_sources,
    sample_covariance,
    warn_of_coherent_sources,
)
from ris_pipeline.metrics import aggregate, score_scenes
from ris_pipeline.simulation import Measurements, simulate


@pytest.fixture(scope="module")
def model(tiny_run):
    return tiny_run.trainer.model


def equal(one, two):
    return all(torch.equal(getattr(one, f.name), getattr(two, f.name)) for f in dataclasses.fields(one))


@pytest.mark.parametrize("method", METHODS)
def test_every_method_finds_sources_inside_the_field_of_view(tiny_config, tiny_batch, model, method):
    scene, found = tiny_config.scene, localize(tiny_batch.measurements, tiny_config, method, model)
    sources = found.sources
    assert sources.azimuth_rad.shape == (12, scene.k_max)
    assert ((sources.k >= 0) & (sources.k <= scene.k_max)).all()
    assert int(sources.k.sum()) > 0
    mask = sources.mask
    assert (sources.azimuth_rad[mask].abs() <= scene.azimuth_max_rad + 1e-6).all()
    assert (sources.elevation_rad[mask].abs() <= scene.elevation_max_rad + 1e-6).all()
    assert (sources.range_m[mask] >= scene.range_min_m - 1e-6).all()
    assert (sources.range_m[mask] <= scene.range_max_m + 1e-5).all()
    assert (sources.position[~mask] == 0).all()
    assert torch.isfinite(sources.power).all()
    assert (sources.power[mask] >= 0).all()


@pytest.mark.parametrize("method", METHODS)
def test_a_known_count_is_kept_by_every_method(tiny_config, tiny_batch, model, method):
    k = torch.arange(12) % 3 + 1
    found = localize(tiny_batch.measurements, tiny_config, method, model, k)
    assert torch.equal(found.sources.k, k)


@pytest.mark.parametrize("method", METHODS)
def test_localizing_scene_by_scene_gives_the_same(tiny_config, tiny_batch, model, method):
    together = localize(tiny_batch.measurements, tiny_config, method, model)
    for scene in range(3):
        alone = localize(tiny_batch.measurements[scene : scene + 1], tiny_config, method, model)
        assert torch.equal(alone.sources.k, together.sources.k[scene : scene + 1])
        torch.testing.assert_close(alone.sources.position, together.sources.position[scene : scene + 1], rtol=1e-2, atol=1e-3)


def test_measurements_hold_no_truth():
    """The canary: an estimator is handed this type and nothing else, and no field of it belongs to a source."""
    assert [f.name for f in dataclasses.fields(Measurements)] == [
        "snapshots",
        "channel",
        "code_index",
        "snr_db",
        "noise_variance",
        "sample_factor",
    ]


@pytest.mark.parametrize("method", METHODS)
def test_estimates_of_pure_noise_do_not_know_the_sources(tiny_config, tiny_batch, model, method):
    """With the snapshots replaced by noise nothing of the scene is left, so the estimates must be as bad as guesses."""
    generator = torch.Generator().manual_seed(5)
    noise = torch.randn(tiny_batch.measurements.snapshots.shape, dtype=torch.complex64, generator=generator)
    blind = dataclasses.replace(tiny_batch.measurements, snapshots=noise, sample_factor=None)
    blind = dataclasses.replace(blind, sample_factor=sample_factor(blind, tiny_config), noise_variance=torch.ones(12))
    found = localize(blind, tiny_config, method, model)
    metrics = aggregate(score_scenes(found.sources, tiny_batch.sources, tiny_config.metrics))
    assert metrics.source_success_rate < 0.1
    assert metrics.azimuth_rmse_deg > 8.0


def test_only_network_and_hybrid_have_a_confidence(tiny_config, tiny_batch, model):
    for method in METHODS:
        confidence = localize(tiny_batch.measurements, tiny_config, method, model).k_confidence
        if method in ("network", "hybrid"):
            assert ((confidence >= 1.0 / 3.0 - 1e-6) & (confidence <= 1.0)).all()
        else:
            assert confidence.isnan().all()


def test_an_unknown_method_is_one_sentence_with_the_nearest(tiny_config, tiny_batch):
    with pytest.raises(
        ConfigError, match=re.escape(f"unknown method 'musik', expected one of {', '.join(METHODS)}; did you mean 'music'?")
    ):
        localize(tiny_batch.measurements, tiny_config, "musik")


# The network's own estimate.


def test_confident_scenes_take_the_head_and_doubtful_ones_the_eigenvalues(tiny_config, tiny_batch, model):
    with torch.no_grad():
        prediction = model(tiny_batch.measurements)
    probability, best = torch.softmax(prediction.k_logits, dim=1).max(dim=1)
    threshold = float(probability.sort().values[5:7].mean())
    config = tiny_config.replaced(estimate={"k_conf_thresh": threshold})
    sources, confidence = network_sources(model, prediction, config)
    ruled = eigenvalue_count(prediction.effective, 8, k_max=3)
    expected = torch.tensor([int(best[i]) + 1 if probability[i] >= threshold else int(ruled[i]) for i in range(12)])
    assert torch.equal(sources.k, expected)
    torch.testing.assert_close(confidence, probability)
    assert 0 < int((probability >= threshold).sum()) < 12


def test_the_network_method_is_the_best_slots_of_the_prediction(tiny_config, tiny_batch, model):
    k = torch.full((12,), 2)
    found = localize(tiny_batch.measurements, tiny_config, "network", model, k).sources
    with torch.no_grad():
        prediction = model(tiny_batch.measurements)
    limit = torch.tensor((tiny_config.scene.azimuth_max_rad, tiny_config.scene.elevation_max_rad, tiny_config.scene.range_max_m))
    expected = prediction.position[:, :2].clamp(-limit, limit)
    torch.testing.assert_close(found.position[:, :2], expected)
    torch.testing.assert_close(found.power.sum(dim=1), torch.ones(12))
    assert (found.position[:, 2] == 0).all()


# Classical methods.


@pytest.mark.parametrize("stored", [True, False])
def test_music_reads_the_sample_covariance_and_computes_it_where_it_is_missing(tiny_config, tiny_batch, stored):
    measured = tiny_batch.measurements if stored else dataclasses.replace(tiny_batch.measurements, sample_factor=None)
    covariance = sample_covariance(measured, tiny_config)
    torch.testing.assert_close(covariance.trace(), torch.full((12,), 24.0, dtype=torch.float64), rtol=1e-5, atol=1e-4)
    factor = sample_factor(tiny_batch.measurements, tiny_config)
    bare = sample_covariance(measured, tiny_config.replaced(covariance={"diagonal_loading": 0.0, "shrinkage": None})).dense()
    unscaled = FactoredCovariance.from_factor(factor)
    torch.testing.assert_close(bare, 24 * unscaled.dense() / unscaled.trace()[:, None, None].float(), rtol=1e-3, atol=1e-3)
    counted = eigenvalue_count(covariance, 8, k_max=3)
    found, expected = localize(measured, tiny_config, "music").sources, music(covariance, counted, tiny_config)
    assert torch.equal(found.k, expected.k)
    assert torch.equal(found.position, expected.position)
    torch.testing.assert_close(found.power, expected.power * unscaled.trace()[:, None] / 24)


def test_music_counts_no_further_than_the_configured_most(tiny_config):
    """A scene type with two sources at most, on covariances that look like more."""
    config = tiny_config.replaced(scene={"k_max": 2})
    measured = simulate(tiny_config, 40, torch.Generator().manual_seed(2)).measurements
    assert int(localize(measured, config, "music").sources.k.max()) <= 2


def test_ml_is_the_likelihood_search(tiny_config, tiny_batch):
    expected = maximum_likelihood(tiny_batch.measurements, tiny_config).sources
    assert equal(localize(tiny_batch.measurements, tiny_config, "ml").sources, expected)


def test_hybrid_finds_strong_single_sources_wherever_the_network_put_them(tiny_config, model):
    config = tiny_config.replaced(scene={"snr_min_db": 25.0, "snr_max_db": 30.0}, estimate={"refine_steps": 25})
    scenes = simulate(config.replaced(scene={"k_max": 1}), 12, torch.Generator().manual_seed(1))
    measured = scenes.measurements.to(torch.complex64)
    measured = dataclasses.replace(measured, sample_factor=sample_factor(measured, config))
    k = torch.ones(12, dtype=torch.int64)
    found = localize(measured, config, "hybrid", model, k).sources
    network = localize(measured, config, "network", model, k).sources
    truth = scenes.sources
    score = [aggregate(score_scenes(s, truth, config.metrics)) for s in (found, network)]
    assert score[0].azimuth_median_deg < 1.0
    assert score[0].source_success_rate > score[1].source_success_rate + 0.3


def test_hybrid_counts_doubtful_scenes_by_the_likelihood(tiny_config, tiny_batch, model):
    def counted(threshold):
        config = tiny_config.replaced(estimate={"hybrid_conf_thresh": threshold})
        return localize(tiny_batch.measurements, config, "hybrid", model).sources.k

    always, never = counted(1.0), counted(0.0)
    assert torch.equal(always, maximum_likelihood(tiny_batch.measurements, tiny_config).sources.k.clamp_min(1))
    assert not torch.equal(always, never)
    with torch.no_grad():
        assert torch.equal(never, model(tiny_batch.measurements).k_logits.argmax(dim=1) + 1)


def test_a_network_that_was_trained_with_samples_gets_one_even_from_shards_without(tiny_run, few_without_sample, few, tiny_config):
    """The factor that is computed where none is stored is the one that would have been stored."""
    stored, bare = (scenes[0].batch(torch.arange(8)).measurements for scenes in (few, few_without_sample))
    assert bare.sample_factor is None
    with_it, without = (localize(m, tiny_config, "network", tiny_run.trainer.model) for m in (stored, bare))
    assert torch.equal(with_it.sources.k, without.sources.k)
    torch.testing.assert_close(with_it.sources.position, without.sources.position, rtol=1e-3, atol=1e-3)


# Coherent sources.


@pytest.mark.parametrize("method", METHODS)
def test_static_symbols_are_warned_of_where_a_method_needs_fresh_ones(tiny_config, caplog, method):
    static = tiny_config.replaced(scene={"symbols": "static"})
    with caplog.at_level("WARNING", logger="ris_pipeline"):
        warn_of_coherent_sources(tiny_config, [method])
        assert not caplog.records
        warn_of_coherent_sources(static, [method])
    assert [record.getMessage().count(method) > 0 for record in caplog.records] == [True] * (method in SUBSPACE_METHODS)


def test_one_warning_names_all_methods_that_are_affected(tiny_config, caplog):
    with caplog.at_level("WARNING", logger="ris_pipeline"):
        warn_of_coherent_sources(tiny_config.replaced(scene={"symbols": "static"}), METHODS)
    (record,) = caplog.records
    assert record.getMessage() == (
        "scene.symbols = static makes the sources coherent, which network, music, modified-music, mvdr, bartlett cannot resolve "
        "reliably; expected one of hybrid, ml, omp"
    )
