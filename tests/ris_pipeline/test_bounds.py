"""Cramer-Rao bounds, genie and detection: golden values, brute force and laws."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import gamma, ncx2

from ris_pipeline.arrays import Sources, steering_vector
from ris_pipeline.bounds import (
    crb_deterministic,
    crb_static,
    crb_stochastic,
    detection_bound,
    fisher_deterministic,
    genie_ml,
    position_std,
)
from ris_pipeline.channel import complex_normal
from ris_pipeline.config import Config
from ris_pipeline.errors import DataError
from ris_pipeline.simulation import Measurements, clean_snapshots, codes_of, simulate, true_factor

DATA = Path(__file__).parents[1] / "data"
GOLDEN = np.load(DATA / "crb_cases.npz")
PUBLISHED = json.loads((DATA / "published.json").read_text(encoding="utf-8"))
CONFIG = Config()
BOUNDS = {
    "deterministic": crb_deterministic,
    "static": crb_static,
    "stochastic": lambda measurements, sources, _, config: crb_stochastic(measurements, sources, config),
}


def golden_case(case, slots):
    """One golden scene in ``slots`` source slots."""

    def value(name):
        return torch.as_tensor(GOLDEN[f"case{case}_{name}"])[None]

    position = value("position")
    k = position.shape[1]
    padded = torch.cat((position, torch.full((1, slots - k, 3), 7.0, dtype=torch.float64)), dim=1)
    power = torch.cat((value("power"), torch.ones(1, slots - k, dtype=torch.float64)), dim=1)
    symbols = torch.cat((value("symbols"), torch.ones(1, slots - k, 16, dtype=torch.complex128)), dim=1).transpose(1, 2)
    empty = torch.zeros(1, 16, 16, dtype=torch.complex128)
    measurements = Measurements(empty, value("channel"), value("code_index"), None, value("noise_variance"))
    return measurements, Sources.from_position(padded, power, torch.tensor([k])), symbols


@pytest.mark.parametrize("case", range(6))
@pytest.mark.parametrize("kind", BOUNDS)
def test_bounds_equal_golden_values_and_leave_empty_slots_empty(kind, case):
    expected = GOLDEN[f"case{case}_crb_{kind}"]
    size = len(expected)
    measurements, sources, symbols = golden_case(case, 5)
    bound = BOUNDS[kind](measurements, sources, symbols, CONFIG)[0].numpy()
    np.testing.assert_allclose(bound[:size, :size], expected, rtol=1e-6)
    assert np.abs(bound[size:]).max(initial=0.0) == 0.0
    assert np.abs(bound[:, size:]).max(initial=0.0) == 0.0


def batch():
    """All golden scenes at once."""
    cases = [golden_case(case, 5) for case in range(6)]
    measurements = Measurements(
        *(torch.cat([getattr(c[0], name) for c in cases]) for name in ("snapshots", "channel", "code_index")),
        None,
        torch.cat([c[0].noise_variance for c in cases]),
    )
    sources = Sources(
        *(torch.cat([getattr(c[1], name) for c in cases]) for name in ("azimuth_rad", "elevation_rad", "range_m", "power", "k"))
    )
    return measurements, sources, torch.cat([c[2] for c in cases])


@pytest.mark.parametrize("kind", BOUNDS)
def test_scenes_of_a_batch_do_not_mix(kind):
    bounds = BOUNDS[kind](*batch(), CONFIG)
    for case in range(6):
        torch.testing.assert_close(bounds[case], BOUNDS[kind](*golden_case(case, 5), CONFIG)[0], rtol=1e-8, atol=1e-30)


@pytest.mark.parametrize("kind", ["deterministic", "static"])
def test_bound_is_proportional_to_the_noise(kind):
    measurements, sources, symbols = batch()
    loud = replace(measurements, noise_variance=measurements.noise_variance * 100.0)
    quiet, noisy = (BOUNDS[kind](m, sources, symbols, CONFIG) for m in (measurements, loud))
    torch.testing.assert_close(noisy, 100.0 * quiet, rtol=1e-9, atol=0)


@pytest.mark.parametrize("kind", BOUNDS)
def test_bound_falls_with_snapshots_and_signal(kind):
    measurements, sources, symbols = batch()
    fewer = replace(measurements, code_index=measurements.code_index[:, :12], snapshots=measurements.snapshots[:, :12])
    full = BOUNDS[kind](measurements, sources, symbols, CONFIG).diagonal(dim1=1, dim2=2)
    part = BOUNDS[kind](fewer, sources, symbols[:, :12], CONFIG).diagonal(dim1=1, dim2=2)
    loud = BOUNDS[kind](replace(measurements, noise_variance=2 * measurements.noise_variance), sources, symbols, CONFIG)
    used = sources.mask.repeat_interleave(3, dim=1)
    assert bool((part[used] > full[used]).all())
    assert bool((loud.diagonal(dim1=1, dim2=2)[used] > full[used]).all())


def test_bound_falls_with_antennas():
    measurements, sources, symbols = batch()
    fewer = replace(measurements, channel=measurements.channel[:, :10], snapshots=measurements.snapshots[..., :10])
    full, part = (crb_deterministic(m, sources, symbols, CONFIG).diagonal(dim1=1, dim2=2) for m in (measurements, fewer))
    used = sources.mask.repeat_interleave(3, dim=1)
    assert bool((part[used] > full[used]).all())


@pytest.mark.parametrize("kind", BOUNDS)
def test_bound_follows_the_order_of_the_sources(kind):
    measurements, sources, symbols = golden_case(4, 3)
    order = [2, 0, 1]
    turned = Sources.from_position(sources.position[:, order], sources.power[:, order], sources.k)
    one = BOUNDS[kind](measurements, sources, symbols, CONFIG)[0]
    other = BOUNDS[kind](measurements, turned, symbols[..., order], CONFIG)[0]
    rows = [3 * source + axis for source in order for axis in range(3)]
    torch.testing.assert_close(other, one[rows][:, rows], rtol=1e-8, atol=1e-30)


def test_common_phase_of_the_symbols_does_not_matter():
    measurements, sources, symbols = batch()
    turns = torch.exp(1j * torch.linspace(0, 5, 16, dtype=torch.float64))[:, None]
    one, other = (crb_deterministic(measurements, sources, s, CONFIG) for s in (symbols, symbols * turns))
    torch.testing.assert_close(other, one, rtol=1e-9, atol=1e-30)


def test_stochastic_bound_equals_brute_force():
    measurements, sources, _ = golden_case(2, 2)
    codes = np.exp(2j * np.pi * measurements.code_index[0].numpy() / 8)
    channel, noise = measurements.channel[0].numpy(), float(measurements.noise_variance)

    def covariances(x):
        positions = torch.as_tensor(x[:6].reshape(2, 3))
        A = steering_vector(CONFIG.array, *positions.unbind(-1)).numpy().T
        sensed = [(channel * code) @ A for code in codes]
        return np.stack([(G * x[6:8]) @ G.conj().T + x[8] * np.eye(16) for G in sensed])

    x = np.concatenate((sources.position[0].flatten().numpy(), sources.power[0].numpy(), [noise]))
    steps = np.diag(1e-5 * np.concatenate((np.ones(6), x[6:])))
    slopes = [(covariances(x + step) - covariances(x - step)) / (2 * np.max(step)) for step in steps]
    white = [np.linalg.inv(covariances(x)) @ slope for slope in slopes]
    fisher = np.array([[np.sum(one * other.swapaxes(1, 2)).real for other in white] for one in white])
    expected = np.linalg.inv(fisher)[:6, :6]
    bound = crb_stochastic(measurements, sources, CONFIG)[0].numpy()
    np.testing.assert_allclose(np.diag(bound), np.diag(expected), rtol=1e-3)


def plain_bound(atoms, slopes, amplitude, noise_variance):
    """Bound of an identity sensing operator: atoms [M, K] and slopes [M, 3 K] are the same in every snapshot."""
    snapshots = len(amplitude)
    shared = [torch.as_tensor(x).expand(1, snapshots, *x.shape) for x in (atoms, slopes)]
    fisher = fisher_deterministic(*shared, torch.as_tensor(amplitude)[None], torch.tensor([noise_variance]).double())[0].numpy()
    used = np.diag(fisher) > 0
    return np.linalg.inv(fisher[np.ix_(used, used)])


def line(theta, elements):
    """Half-wavelength line: steering vectors and their slopes by the angle, in the first of three slots each."""
    phase = 1j * np.pi * np.arange(elements)[:, None]
    atoms = np.exp(phase * np.sin(theta))
    slopes = np.zeros((elements, len(theta), 3), dtype=complex)
    slopes[..., 0] = phase * np.cos(theta) * atoms
    return atoms, slopes.reshape(elements, -1)


def test_single_source_on_a_line_equals_the_closed_form():
    case = PUBLISHED["crb_ula_single_source"]
    amplitude = np.ones((case["snapshots"], 1), dtype=complex) * np.sqrt(case["snr_linear"])
    bound = plain_bound(*line(np.array([case["doa_rad"]]), case["elements"]), amplitude, 1.0)
    np.testing.assert_allclose(bound[0, 0], case["variance_rad2"], rtol=2e-6)


def test_correlated_sources_on_a_line_equal_published_values():
    case = PUBLISHED["crb_ula_three_correlated_sources"]
    P = np.array(case["source_covariance_re"]) + 1j * np.array(case["source_covariance_im"])
    amplitude = np.sqrt(case["snapshots"]) * np.linalg.cholesky(P).T  # sum_l b_l b_l^H = snapshots P
    bound = plain_bound(*line(np.linspace(-np.pi / 3, np.pi / 4, 3), case["elements"]), amplitude, case["noise_variance"])
    np.testing.assert_allclose(np.diag(bound), case["deterministic_diag_rad2"], rtol=2e-6)


def test_near_field_line_equals_the_closed_form():
    case = PUBLISHED["crb_near_field_ula_fresnel"]
    theta, radius, d, wave = case["doa_rad"], case["range_m"], case["spacing_m"], case["wavelength_m"]
    n = np.arange(case["elements"])
    linear, quadratic = 2 * np.pi * d / wave * n, np.pi * d**2 / wave * n**2
    a = np.exp(1j * (linear * np.sin(theta) - quadratic * np.cos(theta) ** 2 / radius))
    by_angle = linear * np.cos(theta) + quadratic * np.sin(2 * theta) / radius
    by_range = quadratic * np.cos(theta) ** 2 / radius**2
    slopes = 1j * np.stack((by_angle, by_range, np.zeros_like(by_angle)), axis=1) * a[:, None]
    amplitude = np.full((case["snapshots"], 1), np.sqrt(case["snr_linear"]), dtype=complex)
    bound = plain_bound(a[:, None], slopes, amplitude, 1.0)
    np.testing.assert_allclose(bound[0, 0], case["variance_doa_rad2"], rtol=5e-6)
    np.testing.assert_allclose(bound[1, 1], case["variance_range_m2"], rtol=5e-6)
    np.testing.assert_allclose(bound[0, 1], case["covariance"], rtol=5e-6)


def noise_free(simulated):
    codes = codes_of(simulated.measurements, CONFIG.codes)
    clean = clean_snapshots(simulated.measurements.channel, codes, true_factor(CONFIG.array, simulated.sources), simulated.symbols)
    return replace(simulated.measurements, snapshots=clean)


def test_standard_deviations_at_the_truth_are_the_bound():
    simulated = simulate(CONFIG, 8, torch.Generator().manual_seed(3))
    measurements = noise_free(simulated)
    std = position_std(measurements, simulated.sources, CONFIG)
    bound = crb_deterministic(measurements, simulated.sources, simulated.symbols, CONFIG)
    torch.testing.assert_close(std.flatten(1).square(), bound.diagonal(dim1=1, dim2=2), rtol=1e-6, atol=0)
    assert bool((std[~simulated.sources.mask] == 0).all())
    assert bool((std[simulated.sources.mask] > 0).all())


def test_standard_deviations_estimate_a_noise_variance_that_is_unknown():
    config = CONFIG.replaced(scene={"k_max": 2})
    simulated = simulate(config, 40, torch.Generator().manual_seed(4))
    known = position_std(simulated.measurements, simulated.sources, config)
    unknown = position_std(replace(simulated.measurements, noise_variance=None), simulated.sources, config)
    ratio = (unknown / known)[simulated.sources.mask].square()
    assert float(ratio.median()) == pytest.approx(1.0, abs=0.08)


@pytest.mark.parametrize("edge", ["coincident sources", "silence", "no noise"])
def test_standard_deviations_are_finite(edge):
    simulated = simulate(CONFIG.replaced(scene={"k_min": 3}), 2, torch.Generator().manual_seed(5))
    measurements, sources = simulated.measurements, simulated.sources
    if edge == "coincident sources":
        position = sources.position.clone()
        position[:, 1] = position[:, 0]
        sources = Sources.from_position(position, sources.power, sources.k)
    elif edge == "silence":
        measurements = replace(measurements, snapshots=torch.zeros_like(measurements.snapshots))
    else:
        measurements = replace(noise_free(simulated), noise_variance=torch.zeros(2).double())
    assert bool(torch.isfinite(position_std(measurements, sources, CONFIG)).all())


def test_genie_errors_meet_the_bound():
    config = CONFIG.replaced(scene={"k_max": 3, "snr_min_db": 15.0, "range_max_m": 5.0})
    simulated = simulate(config, 120, torch.Generator().manual_seed(6))
    estimate = genie_ml(simulated.measurements, simulated.sources, config)
    bound = crb_deterministic(simulated.measurements, simulated.sources, simulated.symbols, config).diagonal(dim1=1, dim2=2)
    error = (estimate.position - simulated.sources.position).abs() / bound.sqrt().reshape(120, 3, 3)
    median = error[simulated.sources.mask].median(dim=0).values
    np.testing.assert_allclose(median.numpy(), 0.674, atol=0.12)  # the median of |N(0, 1)|


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
    clean = noise_free(simulated).snapshots.abs().square().sum(dim=(1, 2)) / simulated.measurements.noise_variance
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


@pytest.mark.parametrize("kind", [*BOUNDS, "detection"])
def test_a_bound_without_noise_variance_is_a_readable_error(kind):
    measurements, sources, symbols = golden_case(0, 1)
    unknown = replace(measurements, noise_variance=None)
    bounds = BOUNDS | {"detection": lambda m, s, _, config: detection_bound(m, s, config, false_alarm=0.01)}
    with pytest.raises(DataError, match="a bound needs the noise variance of the measurements, got none"):
        bounds[kind](unknown, sources, symbols, CONFIG)


def test_stochastic_bound_is_near_the_deterministic_one_with_drawn_symbols():
    measurements, sources, _ = golden_case(1, 1)
    drawn = complex_normal(torch.Generator().manual_seed(10), 64, 16, 1)
    bounds = [crb_deterministic(measurements, sources, symbols[None], CONFIG)[0].diagonal() for symbols in drawn]
    ratio = torch.stack(bounds).median(dim=0).values / crb_stochastic(measurements, sources, CONFIG)[0].diagonal()
    assert bool(((ratio > 0.5) & (ratio < 2.0)).all())
