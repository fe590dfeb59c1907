"""Cramer-Rao bounds behind the surface: golden values, brute force and laws."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ris_pipeline.arrays import Sources, steering_vector
from ris_pipeline.bounds import (
    crb_deterministic,
    crb_deterministic_expected,
    crb_static,
    crb_stochastic,
    crb_stochastic_unrestricted,
    position_std,
)
from ris_pipeline.channel import complex_normal
from ris_pipeline.config import Config
from ris_pipeline.errors import DataError
from ris_pipeline.simulation import Measurements, clean_snapshots, codes_of, simulate, true_factor

GOLDEN = np.load(Path(__file__).parents[2] / "data" / "crb_cases.npz")
CONFIG = Config()
BOUNDS = {
    "deterministic": crb_deterministic,
    "static": crb_static,
    "stochastic": lambda measurements, sources, _, config: crb_stochastic(measurements, sources, config),
}
"""Those with golden values."""
EVERY = BOUNDS | {
    "expected": lambda measurements, sources, _, config: crb_deterministic_expected(measurements, sources, config),
    "unrestricted": lambda measurements, sources, _, config: crb_stochastic_unrestricted(measurements, sources, config),
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


SMALL = CONFIG.replaced(
    array={"n_h": 6, "n_v": 6, "bs_antennas": 8},
    codes={"beams_h": 4, "beams_v": 4, "snapshots": 8},
    scene={"k_max": 3, "range_max_m": 2.0},
)


@st.composite
def scenes(draw, *, k_min=1, symbols="gaussian"):
    """Three scenes before a small surface: measurements, sources and symbols."""
    config = SMALL.replaced(scene={"k_min": k_min, "symbols": symbols})
    simulated = simulate(config, 3, torch.Generator().manual_seed(draw(st.integers(0, 2**31))))
    return simulated.measurements, simulated.sources, simulated.symbols


def least_excess(high, low):
    """Smallest eigenvalue of ``high - low`` in units of the standard deviations of ``high``; empty parameters count as 0."""
    scale = high.diagonal(dim1=1, dim2=2).sqrt()
    inverse = torch.where(scale > 0, 1 / scale, 0.0)
    return torch.linalg.eigvalsh((high - low) * inverse[:, :, None] * inverse[:, None, :]).amin()


laws = settings(max_examples=15)


@laws
@given(scenes(), st.floats(1.5, 1e3))
@pytest.mark.parametrize("kind", EVERY)
def test_bound_rises_with_the_noise(kind, case, factor):
    measurements, sources, symbols = case
    loud = replace(measurements, noise_variance=measurements.noise_variance * factor)
    quiet, noisy = (EVERY[kind](m, sources, symbols, SMALL) for m in (measurements, loud))
    if kind in ("deterministic", "expected", "static"):
        torch.testing.assert_close(noisy, factor * quiet, rtol=1e-7, atol=1e-30)
    assert float(least_excess(noisy, quiet)) > -1e-6
    used = sources.mask.repeat_interleave(3, dim=1)
    assert bool((noisy.diagonal(dim1=1, dim2=2)[used] > quiet.diagonal(dim1=1, dim2=2)[used]).all())


@laws
@given(scenes())
@pytest.mark.parametrize("fewer", ["snapshots", "antennas"])
@pytest.mark.parametrize("kind", EVERY)
def test_bound_falls_with_snapshots_and_antennas(kind, fewer, case):
    measurements, sources, symbols = case
    if fewer == "snapshots":
        less = replace(measurements, code_index=measurements.code_index[:, :6], snapshots=measurements.snapshots[:, :6])
        kept = symbols[:, :6]
    else:
        less = replace(measurements, channel=measurements.channel[:, :6], snapshots=measurements.snapshots[..., :6])
        kept = symbols
    full, part = EVERY[kind](measurements, sources, symbols, SMALL), EVERY[kind](less, sources, kept, SMALL)
    assert float(least_excess(part, full)) > -1e-6
    used = sources.mask.repeat_interleave(3, dim=1)
    assert bool((part.diagonal(dim1=1, dim2=2)[used] > full.diagonal(dim1=1, dim2=2)[used]).all())


@laws
@given(scenes(k_min=3))
@pytest.mark.parametrize("kind", EVERY)
def test_bound_follows_the_order_of_the_sources(kind, case):
    measurements, sources, symbols = case
    order = [2, 0, 1]
    turned = Sources.from_position(sources.position[:, order], sources.power[:, order], sources.k)
    one, other = EVERY[kind](measurements, sources, symbols, SMALL), EVERY[kind](measurements, turned, symbols[..., order], SMALL)
    rows = [3 * source + axis for source in order for axis in range(3)]
    torch.testing.assert_close(other, one[:, rows][:, :, rows], rtol=1e-4, atol=1e-9 * float(one.abs().max()))


@laws
@given(scenes(), st.floats(0, 7), st.floats(1e-6, 1e6))
@pytest.mark.parametrize("kind", EVERY)
def test_phase_and_scale_of_the_data_do_not_matter(kind, case, phase_rad, scale):
    """A common phase of the channel, and one factor on all powers and the noise."""
    measurements, sources, symbols = case
    other = replace(
        measurements,
        channel=measurements.channel * complex(np.exp(1j * phase_rad)),
        noise_variance=measurements.noise_variance * scale,
    )
    one = EVERY[kind](measurements, sources, symbols, SMALL)
    two = EVERY[kind](other, replace(sources, power=sources.power * scale), symbols, SMALL)
    torch.testing.assert_close(two, one, rtol=1e-4, atol=1e-9 * float(one.abs().max()))


def test_phases_of_the_snapshots_do_not_matter_where_every_amplitude_is_free():
    measurements, sources, symbols = batch()
    turns = torch.exp(1j * torch.linspace(0, 5, 16, dtype=torch.float64))[:, None]
    one, other = (crb_deterministic(measurements, sources, s, CONFIG) for s in (symbols, symbols * turns))
    torch.testing.assert_close(other, one, rtol=1e-9, atol=1e-30)


@laws
@given(scenes(k_min=2))
@pytest.mark.parametrize("kind", EVERY)
def test_another_source_never_lowers_the_bound_of_the_others(kind, case):
    measurements, sources, symbols = case
    without = replace(sources, k=sources.k - 1)
    used = without.mask.repeat_interleave(3, dim=1)
    both = used[:, :, None] & used[:, None, :]
    full = torch.where(both, EVERY[kind](measurements, sources, symbols, SMALL), 0.0)
    fewer = EVERY[kind](measurements, without, symbols, SMALL)
    assert bool((fewer[~both] == 0).all())
    assert float(least_excess(full, fewer)) > -1e-6


@laws
@given(scenes(symbols="static"))
def test_one_amplitude_for_all_snapshots_never_costs(case):
    measurements, sources, symbols = case
    assert bool((symbols == symbols[:, :1]).all())
    free, static = (bound(measurements, sources, symbols, SMALL) for bound in (crb_deterministic, crb_static))
    assert float(least_excess(free, static)) > -1e-6


@laws
@given(scenes())
def test_uncorrelated_sources_never_cost(case):
    measurements, sources, _ = case
    loose, tight = (bound(measurements, sources, SMALL) for bound in (crb_stochastic_unrestricted, crb_stochastic))
    assert float(least_excess(loose, tight)) > -1e-6


def test_neither_the_deterministic_nor_the_stochastic_bound_is_the_lower_one_where_codes_change():
    simulated = simulate(CONFIG, 40, torch.Generator().manual_seed(1))
    stochastic = crb_stochastic_unrestricted(simulated.measurements, simulated.sources, CONFIG).diagonal(dim1=1, dim2=2)
    expected = crb_deterministic_expected(simulated.measurements, simulated.sources, CONFIG).diagonal(dim1=1, dim2=2)
    used = simulated.sources.mask.repeat_interleave(3, dim=1)
    lower = (stochastic < expected)[used].double().mean()
    assert 0.1 < float(lower) < 0.9


def test_expected_bound_is_the_deterministic_one_of_the_average_information():
    measurements, sources, _ = golden_case(2, 2)
    symbols = complex_normal(torch.Generator().manual_seed(12), 800, 16, 2)
    repeated = torch.zeros(800, dtype=torch.long)
    information = torch.linalg.inv(crb_deterministic(measurements[repeated], sources[repeated], symbols, CONFIG)).mean(dim=0)
    expected = torch.linalg.inv(crb_deterministic_expected(measurements, sources, CONFIG)[0])
    torch.testing.assert_close(information.diagonal(), expected.diagonal(), rtol=0.1, atol=0)


def test_a_given_source_covariance_replaces_the_powers():
    """The default is diag(p)."""
    measurements, sources, _ = golden_case(2, 5)
    root = torch.diag_embed(sources.power.sqrt()).to(torch.complex128)
    together = root @ (0.1 * torch.eye(5) + 0.9 * torch.ones(5, 5)).to(torch.complex128) @ root
    for bound in (crb_deterministic_expected, crb_stochastic_unrestricted):
        default, given_diagonal, correlated = (
            bound(measurements, sources, CONFIG, S).diagonal(dim1=1, dim2=2) for S in (None, root @ root, together)
        )
        torch.testing.assert_close(given_diagonal, default, rtol=1e-9, atol=0)
        assert bool((correlated[:, :6] != default[:, :6]).all())
        assert bool((correlated[:, 6:] == 0).all())


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


def noise_free(simulated):
    codes = codes_of(simulated.measurements, CONFIG.codes)
    clean = clean_snapshots(simulated.measurements.channel, codes, true_factor(CONFIG.array, simulated.sources), simulated.symbols)
    return replace(simulated.measurements, snapshots=clean)


def test_standard_deviations_at_the_truth_are_the_bound_where_noise_is_low():
    simulated = simulate(CONFIG, 8, torch.Generator().manual_seed(3))
    measurements = replace(noise_free(simulated), noise_variance=1e-9 * simulated.measurements.noise_variance)
    std = position_std(measurements, simulated.sources, CONFIG)
    bound = crb_deterministic(measurements, simulated.sources, simulated.symbols, CONFIG)
    torch.testing.assert_close(std.flatten(1).square(), bound.diagonal(dim1=1, dim2=2), rtol=1e-5, atol=0)
    assert bool((std[~simulated.sources.mask] == 0).all())
    assert bool((std[simulated.sources.mask] > 0).all())


@pytest.mark.parametrize("snr_db", [0.0, 20.0])
def test_standard_deviations_do_not_take_noise_for_signal(snr_db):
    config = CONFIG.replaced(scene={"snr_min_db": snr_db, "snr_max_db": snr_db})
    simulated = simulate(config, 100, torch.Generator().manual_seed(3))
    std = position_std(simulated.measurements, simulated.sources, config)
    bound = crb_deterministic(simulated.measurements, simulated.sources, simulated.symbols, config).diagonal(dim1=1, dim2=2).sqrt()
    ratio = (std / bound.unflatten(1, (-1, 3)))[simulated.sources.mask]
    assert 0.85 < float(ratio.median()) < 1.05


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


@pytest.mark.parametrize("kind", EVERY)
def test_a_bound_without_noise_variance_is_a_readable_error(kind):
    measurements, sources, symbols = golden_case(0, 1)
    with pytest.raises(DataError, match="a bound needs the noise variance of the measurements, got none"):
        EVERY[kind](replace(measurements, noise_variance=None), sources, symbols, CONFIG)


def test_stochastic_bound_is_near_the_deterministic_one_with_drawn_symbols():
    measurements, sources, _ = golden_case(1, 1)
    drawn = complex_normal(torch.Generator().manual_seed(10), 64, 16, 1)
    bounds = [crb_deterministic(measurements, sources, symbols[None], CONFIG)[0].diagonal() for symbols in drawn]
    ratio = torch.stack(bounds).median(dim=0).values / crb_stochastic(measurements, sources, CONFIG)[0].diagonal()
    assert bool(((ratio > 0.5) & (ratio < 2.0)).all())
