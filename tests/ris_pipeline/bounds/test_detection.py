"""The genie meets the bound; detection equals brute force and obeys its law."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import gamma, ncx2

from ris_pipeline.arrays import Sources
from ris_pipeline.bounds import crb_deterministic, detection_bound, genie_ml, genie_stochastic
from ris_pipeline.config import Config
from ris_pipeline.errors import DataError
from ris_pipeline.estimators import conditional_likelihood, refine
from ris_pipeline.metrics import aggregate, score_scenes
from ris_pipeline.simulation import clean_snapshots, codes_of, simulate, true_factor

CONFIG = Config()


def noise_free(simulated):
    codes = codes_of(simulated.measurements, CONFIG.codes)
    return clean_snapshots(simulated.measurements.channel, codes, true_factor(CONFIG.array, simulated.sources), simulated.symbols)


def test_genie_errors_meet_the_bound():
    config = CONFIG.replaced(scene={"k_max": 3, "snr_min_db": 15.0, "range_max_m": 5.0})
    simulated = simulate(config, 120, torch.Generator().manual_seed(6))
    estimate = genie_ml(simulated.measurements, simulated.sources, config)
    bound = crb_deterministic(simulated.measurements, simulated.sources, simulated.symbols, config).diagonal(dim1=1, dim2=2)
    error = (estimate.position - simulated.sources.position).abs() / bound.sqrt().reshape(120, 3, 3)
    median = error[simulated.sources.mask].median(dim=0).values
    np.testing.assert_allclose(median.numpy(), 0.674, atol=0.12)  # the median of |N(0, 1)|


def test_knowing_the_power_law_brings_the_genie_closer_to_weak_sources():
    config = CONFIG.replaced(scene={"k_min": 2, "k_max": 3, "snr_max_db": 5.0})
    simulated = simulate(config, 60, torch.Generator().manual_seed(8))
    genies = [genie(simulated.measurements, simulated.sources, config) for genie in (genie_ml, genie_stochastic)]
    rmse = [aggregate(score_scenes(found, simulated.sources, config.metrics)).range_rmse_m for found in genies]
    assert rmse[1] < rmse[0] - 0.05


def test_a_search_without_the_truth_is_as_likely_as_the_genie():
    """So that its errors meet the bound as well; at high SNR and for one or two sources, in nearly every scene."""
    config = CONFIG.replaced(scene={"k_max": 2, "snr_min_db": 15.0, "range_max_m": 5.0})
    simulated = simulate(config, 40, torch.Generator().manual_seed(6))
    searched = conditional_likelihood(simulated.measurements, config, simulated.sources.k)
    rss = searched.rss.gather(1, simulated.sources.k[:, None])[:, 0]
    genie = refine(simulated.measurements, simulated.sources, config).rss
    assert float((rss <= genie * (1 + 1e-6)).double().mean()) >= 0.9


def statistics_by_hand(simulated, scene):
    """Fall of the residual when each source joins all others, over the noise variance, by NumPy least squares."""
    measurements = simulated.measurements
    codes = np.exp(2j * np.pi * measurements.code_index[scene].numpy() / 8)
    A = true_factor(CONFIG.array, simulated.sources)[scene].numpy()
    k = int(simulated.sources.k[scene])
    falls = np.zeros(k)
    for snapshot, code in zip(measurements.snapshots[scene].numpy(), codes, strict=True):
        G = measurements.channel[scene].numpy() @ (code[:, None] * A[:, :k])

        def rss(columns, snapshot=snapshot):
            return np.sum(np.abs(snapshot - columns @ np.linalg.lstsq(columns, snapshot, rcond=None)[0]) ** 2)

        falls += [rss(np.delete(G, source, axis=1)) - rss(G) if k > 1 else np.sum(np.abs(snapshot) ** 2) - rss(G) for source in range(k)]
    return falls / float(measurements.noise_variance[scene])


@pytest.mark.parametrize("cells", [1.0, 3000.0])
def test_detection_equals_brute_force(cells):
    simulated = simulate(CONFIG, 24, torch.Generator().manual_seed(7))
    bound = detection_bound(simulated.measurements, simulated.sources, CONFIG, false_alarm=0.01, cells=cells)
    level = gamma.isf(0.01 / cells, 16)
    expected = [statistics_by_hand(simulated, scene).min() > level for scene in range(24)]
    assert bound.detected.tolist() == expected
    assert 0 < sum(expected) < 24
    right = [hit * (0.99 if k < 5 else 1.0) for hit, k in zip(expected, simulated.sources.k.tolist(), strict=True)]
    assert bound.k_acc == pytest.approx(np.mean(right))


def test_detection_rate_of_one_source_is_the_noncentral_law():
    config = CONFIG.replaced(scene={"k_max": 1, "snr_min_db": -12.0, "snr_max_db": -12.0})
    simulated = simulate(config, 300, torch.Generator().manual_seed(8))
    bound = detection_bound(simulated.measurements, simulated.sources, config, false_alarm=0.01)
    clean = noise_free(simulated).abs().square().sum(dim=(1, 2)) / simulated.measurements.noise_variance
    expected = ncx2.sf(2 * gamma.isf(0.01, 16), 32, 2 * clean.numpy()).mean()
    assert float(bound.detected.double().mean()) == pytest.approx(expected, abs=0.07)
    assert 0.1 < expected < 0.9


def test_search_penalty_lowers_the_ceiling():
    simulated = simulate(CONFIG, 100, torch.Generator().manual_seed(9))
    known, searched = (
        detection_bound(simulated.measurements, simulated.sources, CONFIG, false_alarm=0.01, cells=cells).detected
        for cells in (1.0, 3000.0)
    )
    assert bool((known | ~searched).all())
    assert int(known.sum()) > int(searched.sum())


@pytest.mark.parametrize("false_alarm", [0.05, 0.3])
def test_a_source_that_sends_nothing_is_detected_at_the_false_alarm_rate(false_alarm):
    """Monte Carlo: the second source has no power, so that its statistic is that of noise, whatever the first one sends."""
    config = CONFIG.replaced(scene={"k_min": 1, "k_max": 1, "snr_min_db": 20.0, "range_max_m": 2.0})
    simulated = simulate(config, 1500, torch.Generator().manual_seed(13))
    position = simulated.sources.position
    pair = Sources.from_position(torch.cat((position, position.roll(1, 0)), dim=1), torch.ones(1500, 2), torch.full((1500,), 2))
    rate = detection_bound(simulated.measurements, pair, CONFIG, false_alarm=false_alarm).detected.double().mean()
    assert float(rate) == pytest.approx(false_alarm, abs=4 * (false_alarm * (1 - false_alarm) / 1500) ** 0.5)


def test_detection_does_not_see_the_scale_and_phase_of_the_data():
    simulated = simulate(CONFIG, 60, torch.Generator().manual_seed(14))
    other = replace(
        simulated.measurements,
        snapshots=simulated.measurements.snapshots * 30.0 * complex(np.exp(2j)),
        noise_variance=simulated.measurements.noise_variance * 900.0,
    )
    bounds = [detection_bound(m, simulated.sources, CONFIG, false_alarm=0.01) for m in (simulated.measurements, other)]
    assert torch.equal(bounds[0].detected, bounds[1].detected)


def test_detection_without_noise_variance_is_a_readable_error():
    simulated = simulate(CONFIG, 1, torch.Generator().manual_seed(15))
    with pytest.raises(DataError, match="a bound needs the noise variance of the measurements, got none"):
        detection_bound(replace(simulated.measurements, noise_variance=None), simulated.sources, CONFIG, false_alarm=0.01)
