"""Source counts: published and golden criteria, and the penalised likelihood against the law that it claims."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import gamma

from ris_pipeline.arrays import Sources
from ris_pipeline.back_projection import sample_factor
from ris_pipeline.config import Config
from ris_pipeline.covariance import FactoredCovariance, Shrinkage, build_effective_covariance
from ris_pipeline.estimators import (
    aic,
    aic_scores,
    count_from_residuals,
    eigenvalue_count,
    mdl,
    mdl_scores,
    noise_variance_from_residuals,
)
from ris_pipeline.estimators.counting import gamma_tail_quantile
from ris_pipeline.simulation import simulate, true_factor

DATA = Path(__file__).parents[2] / "data"
GOLDEN = json.loads((DATA / "golden.json").read_text(encoding="utf-8"))["source_count"]
PUBLISHED = json.loads((DATA / "published.json").read_text(encoding="utf-8"))["source_count"]


@pytest.mark.parametrize("case", GOLDEN, ids=range(len(GOLDEN)))
def test_criteria_equal_golden_values(case):
    values = torch.tensor(case["eigenvalues"], dtype=torch.float64)
    kept = case["k_max"] + 1
    np.testing.assert_allclose(mdl_scores(values, case["snapshots"])[:kept].numpy(), case["mdl"], rtol=1e-9)
    np.testing.assert_allclose(aic_scores(values, case["snapshots"])[:kept].numpy(), case["aic"], rtol=1e-9)
    assert int(mdl(values, case["snapshots"])) == case["k_mdl"]
    assert int(aic(values, case["snapshots"])) == case["k_aic"]


def test_criteria_count_the_published_cases_whatever_the_order():
    k = np.arange(1, 11)
    values = np.where(np.arange(PUBLISHED["elements"]) < k[:, None], 1.0, 0.1)
    batch = torch.as_tensor(np.random.default_rng(0).permuted(values, axis=1))
    assert mdl(batch, PUBLISHED["snapshots"]).tolist() == k.tolist()
    assert aic(batch, PUBLISHED["snapshots"]).tolist() == k.tolist()


def test_scores_are_finite_for_rank_deficient_covariances_and_carry_no_gradient():
    values = torch.tensor([[3.0, 1.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]], requires_grad=True)
    scores = mdl_scores(values, 16)
    assert bool(torch.isfinite(scores).all())
    assert not scores.requires_grad


@pytest.mark.parametrize("shape", [1, 8, 16, 40])
@pytest.mark.parametrize("probability", [0.5, 1e-2, 1e-7])
def test_gamma_quantile_equals_scipy(shape, probability):
    np.testing.assert_allclose(gamma_tail_quantile(float(shape), probability), gamma.isf(probability, shape), rtol=1e-9)


def test_gamma_quantile_refuses_what_is_not_a_probability():
    with pytest.raises(ValueError, match=r"probability must be in \(0, 1\), got 1\.5"):
        gamma_tail_quantile(16.0, 1.5)


def noise_residuals(count, snapshots, antennas, fitted):
    """Residuals of pure noise: each fitted source takes a Gamma(L) share of the energy."""
    generator = np.random.default_rng(7)
    falls = generator.gamma(snapshots, size=(count, fitted))
    rest = generator.gamma(snapshots * antennas - fitted * snapshots, size=(count, 1))
    return torch.as_tensor(np.concatenate((rest + falls[:, ::-1].cumsum(axis=1)[:, ::-1], rest), axis=1))


@pytest.mark.parametrize("known", [True, False], ids=["noise known", "noise unknown"])
@pytest.mark.parametrize("scale", [1.0, 1e-9])
def test_false_alarm_rate_is_the_stated_one(known, scale):
    rss = scale * noise_residuals(20_000, 16, 16, 1)
    noise = torch.full((20_000,), scale, dtype=torch.float64) if known else None
    rate = float((count_from_residuals(rss, noise, 16, 16, 0.05, cells=1.0) > 0).double().mean())
    assert rate == pytest.approx(0.05, abs=0.008)


@pytest.mark.parametrize("known", [True, False], ids=["noise known", "noise unknown"])
def test_count_is_the_number_of_falls_that_noise_does_not_explain(known):
    rss = torch.tensor([[9000.0, 2000.0, 240.0, 205.0, 175.0], [256.0, 222.0, 190.0, 162.0, 135.0], [9e3, 8e3, 3e3, 1e3, 190.0]])
    noise = torch.ones(3) if known else None
    assert count_from_residuals(rss, noise, 16, 16, 0.01).tolist() == [2, 0, 4]


def test_a_weak_fall_before_a_strong_one_still_counts():
    rss = torch.tensor([[3000.0, 2970.0, 240.0, 206.0]])
    assert count_from_residuals(rss, torch.ones(1), 16, 16, 0.01).tolist() == [2]


def test_noise_free_residuals_do_not_count_rounding():
    rss = torch.tensor([[1.0, 1e-3, 1e-29, 1e-31]], dtype=torch.float64)
    assert count_from_residuals(rss, None, 16, 16, 0.01).tolist() == [2]
    assert count_from_residuals(rss, torch.zeros(1, dtype=torch.float64), 16, 16, 0.01).tolist() == [2]


def test_noise_variance_has_its_degrees_of_freedom():
    rss = 4.0 * noise_residuals(4000, 16, 16, 1)
    estimate = noise_variance_from_residuals(rss, torch.zeros(4000, dtype=torch.int64), 16, 16)
    assert float(estimate.mean()) == pytest.approx(4.0, rel=0.01)
    assert float(noise_variance_from_residuals(torch.tensor([[9.0, 238.5]]), torch.tensor([1]), 16, 16)) == pytest.approx(1.0)


@pytest.fixture(scope="module")
def samples():
    config = Config()
    simulated = simulate(config, 600, torch.Generator().manual_seed(5))
    return simulated.sources, FactoredCovariance.from_factor(sample_factor(simulated.measurements, config))


def test_mdl_on_the_sample_covariance_always_answers_the_same(samples):
    _, covariance = samples
    counts = mdl(covariance.eigenvalues(), 16)
    assert len(torch.unique(counts)) == 1


def test_eigenvalue_count_of_sample_covariances_varies_and_beats_chance(samples):
    sources, covariance = samples
    counts = eigenvalue_count(build_effective_covariance(covariance), 16)
    assert set(counts.tolist()) == {1, 2, 3, 4, 5}
    assert float((counts == sources.k).double().mean()) > 0.215
    assert float(counts[sources.k == 1].double().mean()) < float(counts[sources.k == 5].double().mean()) - 0.5


def test_eigenvalue_count_of_a_clear_covariance_is_right():
    config = Config()
    position = torch.tensor([[-0.9, 0.3, 1.0], [0.1, -0.2, 2.5], [0.9, 0.4, 0.7], [-0.3, -0.4, 4.0], [0.5, 0.1, 9.0]], dtype=torch.float64)
    k = torch.tensor([1, 2, 3, 4, 5])
    sources = Sources.from_position(position.expand(5, -1, -1), torch.ones(5, 5).double(), k)
    assert eigenvalue_count(FactoredCovariance.from_factor(true_factor(config.array, sources)), 16).tolist() == k.tolist()


def test_eigenvalue_count_ignores_scale_loading_and_shrinkage(samples):
    _, covariance = samples
    plain = eigenvalue_count(covariance, 16)
    options = {"diagonal_loading": 0.1, "shrinkage": Shrinkage(0.1, 1e-3, 0.3), "snr_db": 5.0}
    assert torch.equal(eigenvalue_count(build_effective_covariance(covariance, **options), 16), plain)


def test_eigenvalue_count_stays_below_the_largest_answer(samples):
    _, covariance = samples
    assert int(eigenvalue_count(covariance, 16, k_max=3).max()) == 3


def test_eigenvalue_count_of_no_signal_is_one():
    nothing = FactoredCovariance(torch.zeros(1, 20, 2, dtype=torch.complex128), torch.ones(1).double())
    assert eigenvalue_count(nothing, 16).tolist() == [1]
