"""Scenes and snapshots: the labels are true of the data, and the receiver is told nothing else."""

from __future__ import annotations

import math
from dataclasses import fields

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ris_pipeline.arrays import Sources, steering_vector
from ris_pipeline.config import Config, SceneConfig
from ris_pipeline.simulation import (
    Measurements,
    clean_snapshots,
    codes_of,
    draw_sources,
    draw_symbols,
    estimate_snr_db,
    simulate,
    source_steering,
    true_factor,
)

SMALL = Config().replaced(
    array={"n_h": 4, "n_v": 3, "bs_antennas": 4}, codes={"beams_h": 4, "beams_v": 4, "snapshots": 8}, scene={"k_max": 4}
)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def clean_of(simulated, config):
    """Noise-free snapshots recomputed from what is stored: channel, codes, positions, powers and symbols."""
    measurements = simulated.measurements
    factor = true_factor(config.array, simulated.sources)
    return clean_snapshots(measurements.channel, codes_of(measurements, config.codes), factor, simulated.symbols)


def test_measurements_hold_no_truth():
    """What an estimator may see; a field of the truth added here would let it reach an estimate."""
    names = [field.name for field in fields(Measurements)]
    assert names == ["snapshots", "channel", "code_index", "snr_db", "noise_variance", "sample_factor"]


@pytest.mark.parametrize(
    "scene", [SceneConfig(), SceneConfig(azimuth_max_deg=20.0, elevation_max_deg=70.0, range_min_m=2.0, range_max_m=3.0)]
)
def test_sources_fill_the_field_of_view_and_stay_inside(scene):
    sources = draw_sources(scene, 4000, seeded())
    for values, low, high in (
        (sources.azimuth_rad, -math.radians(scene.azimuth_max_deg), math.radians(scene.azimuth_max_deg)),
        (sources.elevation_rad, -math.radians(scene.elevation_max_deg), math.radians(scene.elevation_max_deg)),
        (sources.range_m, scene.range_min_m, scene.range_max_m),
    ):
        drawn = values[sources.mask]
        assert drawn.min() >= low
        assert drawn.max() <= high
        # Uniform: five standard errors of mean and variance.
        width = high - low
        assert abs(drawn.mean() - (low + high) / 2) < 5.0 * width / math.sqrt(12.0 * len(drawn))
        assert drawn.var() == pytest.approx(width**2 / 12.0, rel=5.0 * math.sqrt(0.8 / len(drawn)))


@given(st.integers(1, 5), st.integers(0, 3), st.integers(0, 2**32))
def test_counts_stay_in_their_range_and_empty_slots_are_zero(k_min, more, seed):
    scene = SceneConfig(k_min=k_min, k_max=k_min + more)
    sources = draw_sources(scene, 60, seeded(seed))
    assert sources.k.min() >= k_min
    assert sources.k.max() <= k_min + more
    slots = torch.arange(k_min + more).expand(60, -1)
    for values in (sources.azimuth_rad, sources.elevation_rad, sources.range_m, sources.power):
        assert values.shape == (60, k_min + more)
        assert (values[slots >= sources.k[:, None]] == 0.0).all()
    assert (sources.power[slots < sources.k[:, None]] > 0.0).all()


def test_counts_are_uniform():
    counts = torch.bincount(draw_sources(SceneConfig(), 10_000, seeded()).k, minlength=6).double()
    assert counts[0] == 0
    assert (counts[1:] - 2000.0).abs().max() < 5.0 * math.sqrt(10_000 * 0.2 * 0.8)


@pytest.mark.parametrize(("power_control", "exponent"), [(0.0, -2.0), (0.5, -1.0), (1.0, 0.0)])
def test_power_follows_the_range_to_its_exponent(power_control, exponent):
    sources = draw_sources(SceneConfig(k_min=3, k_max=3, power_control=power_control), 200, seeded())
    ratio = sources.power / sources.power[:, :1]
    np.testing.assert_allclose(ratio.numpy(), ((sources.range_m / sources.range_m[:, :1]) ** exponent).numpy(), rtol=1e-12)


def test_steering_matrix_has_a_zero_column_for_an_empty_slot():
    sources = draw_sources(SMALL.scene, 20, seeded())
    steering = source_steering(SMALL.array, sources)
    np.testing.assert_allclose(steering.abs().numpy(), sources.mask[:, None, :].expand(-1, 12, -1).double().numpy(), atol=1e-12)
    single = steering_vector(SMALL.array, sources.azimuth_rad[3, 0], sources.elevation_rad[3, 0], sources.range_m[3, 0])
    np.testing.assert_allclose(steering[3, :, 0].numpy(), single.numpy(), atol=1e-13)


def test_true_factor_gives_a_diag_p_a_hermitian():
    sources = draw_sources(SMALL.scene, 5, seeded())
    factor = true_factor(SMALL.array, sources)
    for b in range(5):
        expected = np.zeros((12, 12), dtype=complex)
        for j in range(int(sources.k[b])):
            a = steering_vector(SMALL.array, sources.azimuth_rad[b, j], sources.elevation_rad[b, j], sources.range_m[b, j]).numpy()
            expected += sources.power[b, j].item() * np.outer(a, a.conj())
        np.testing.assert_allclose((factor[b] @ factor[b].mH).numpy(), expected, atol=1e-12)


def test_clean_snapshots_equal_explicit_loops():
    simulated = simulate(SMALL, 3, seeded())
    measurements, sources = simulated.measurements, simulated.sources
    found = clean_of(simulated, SMALL).numpy()
    for b in range(3):
        channel, index = measurements.channel[b].numpy(), measurements.code_index[b].numpy()
        for snapshot in range(8):
            field = np.zeros(12, dtype=complex)
            for j in range(int(sources.k[b])):
                coordinates = (sources.azimuth_rad[b, j], sources.elevation_rad[b, j], sources.range_m[b, j])
                amplitude = math.sqrt(sources.power[b, j].item()) * simulated.symbols[b, snapshot, j].item()
                field += amplitude * steering_vector(SMALL.array, *coordinates).numpy()
            code = np.exp(2j * np.pi * index[snapshot].astype(float) / 8)
            np.testing.assert_allclose(found[b, snapshot], channel @ (code * field), atol=1e-12)


@pytest.mark.parametrize("symbols", ["gaussian", "static"])
def test_stored_snr_is_the_realised_snr(symbols):
    """Mean clean power of the realised snapshots over the stored noise variance; no clipping after the draw."""
    config = SMALL.replaced(scene={"symbols": symbols, "snr_min_db": -40.0, "snr_max_db": 60.0})
    simulated = simulate(config, 200, seeded())
    realised = clean_of(simulated, config).abs().square().mean(dim=(1, 2)) / simulated.measurements.noise_variance
    np.testing.assert_allclose(10.0 * np.log10(realised.numpy()), simulated.measurements.snr_db.numpy(), atol=1e-9)


def test_snr_is_uniform_between_its_limits():
    snr_db = simulate(SMALL, 2000, seeded()).measurements.snr_db
    assert snr_db.min() >= -5.0
    assert snr_db.max() <= 20.0
    assert snr_db.mean() == pytest.approx(7.5, abs=5.0 * 25.0 / math.sqrt(12.0 * 2000))
    assert snr_db.var() == pytest.approx(25.0**2 / 12.0, rel=5.0 * math.sqrt(0.8 / 2000))


def test_noise_has_its_stored_variance_and_is_white():
    simulated = simulate(SMALL, 1000, seeded())
    noise = simulated.measurements.snapshots - clean_of(simulated, SMALL)
    normalised = noise / simulated.measurements.noise_variance.sqrt()[:, None, None]
    power = normalised.abs().square()
    assert power.mean().item() == pytest.approx(1.0, abs=5.0 / math.sqrt(power.numel()))
    vectors = normalised.reshape(-1, 4)
    covariance = vectors.mH @ vectors / len(vectors)
    assert (covariance - torch.eye(4)).abs().max() < 6.0 / math.sqrt(len(vectors))
    assert normalised.square().mean().abs() < 5.0 * math.sqrt(2.0 / power.numel())
    lag = (normalised[:, 1:] * normalised[:, :-1].conj()).mean()
    assert lag.abs() < 5.0 / math.sqrt(normalised[:, 1:].numel())


def test_surface_field_covariance_equals_the_label():
    """With fresh symbols the sources are uncorrelated: E[x x^H] = A diag(p) A^H, of rank K and not of rank one."""
    sources = draw_sources(SceneConfig(k_min=3, k_max=4, power_control=1.0), 1, seeded(1))
    k = int(sources.k[0])
    factor = true_factor(SMALL.array, sources)
    snapshots = 200_000
    fields_of_snapshots = draw_symbols(SMALL.scene, snapshots, 1, seeded(2)) @ factor.transpose(1, 2)
    sampled = (fields_of_snapshots[0].T @ fields_of_snapshots[0].conj()) / snapshots
    label = factor[0] @ factor[0].mH
    # Each entry of the K x K symbol covariance has standard error 1/sqrt(L); |A diag(sqrt p)|^2 bounds what it does to R.
    bound = 5.0 * k / math.sqrt(snapshots) * torch.linalg.matrix_norm(factor[0], 2) ** 2
    assert torch.linalg.matrix_norm(sampled - label, 2) < bound
    eigenvalues = torch.linalg.eigvalsh(label).flip(0)
    assert eigenvalues[k - 1] > 2.0 * bound
    assert eigenvalues[k] < 1e-12


def test_symbols_of_simulated_scenes_are_uncorrelated_and_of_unit_power():
    simulated = simulate(SMALL.replaced(scene={"k_min": 3, "k_max": 3}), 1500, seeded())
    symbols = simulated.symbols
    covariance = torch.einsum("blj,blk->jk", symbols.conj(), symbols) / (symbols.shape[0] * symbols.shape[1])
    assert (covariance - torch.eye(3)).abs().max() < 5.0 / math.sqrt(symbols.shape[0] * symbols.shape[1])
    lag = (symbols[:, 1:] * symbols[:, :-1].conj()).mean()
    assert lag.abs() < 5.0 / math.sqrt(symbols[:, 1:].numel())
    # Rank over the snapshots of one scene is K, not 1.
    singular = torch.linalg.svdvals(symbols)
    assert (singular[:, 2] > 1e-2).all()


def test_static_symbols_are_constant_within_a_scene_and_differ_between_scenes():
    simulated = simulate(SMALL.replaced(scene={"symbols": "static"}), 50, seeded())
    assert torch.equal(simulated.symbols, simulated.symbols[:, :1].expand(-1, 8, -1))
    assert len(set(simulated.symbols[:, 0, 0].tolist())) == 50
    power = draw_symbols(SceneConfig(symbols="static"), 2, 5000, seeded())[:, 0].abs().square()
    assert power.mean().item() == pytest.approx(1.0, abs=5.0 / math.sqrt(power.numel()))


def test_symbols_of_empty_slots_are_zero():
    simulated = simulate(SMALL, 50, seeded())
    empty = ~simulated.sources.mask[:, None, :].expand(-1, 8, -1)
    assert empty.any()
    assert (simulated.symbols[empty] == 0).all()
    assert (simulated.symbols[~empty] != 0).all()


def tensors_of(simulated):
    parts = (simulated.measurements, simulated.sources)
    named = {field.name: getattr(part, field.name) for part in parts for field in fields(part)} | {"symbols": simulated.symbols}
    return {name: value for name, value in named.items() if value is not None}


@given(st.integers(0, 2**63 - 1), st.sampled_from(["balanced", "random"]))
def test_the_same_stream_gives_the_same_scenes_bit_for_bit(seed, selection):
    config = SMALL.replaced(codes={"selection": selection})
    first, again = (tensors_of(simulate(config, 2, seeded(seed))) for _ in range(2))
    assert all(torch.equal(first[name], again[name]) for name in first)


@given(st.lists(st.integers(0, 2**63 - 1), min_size=2, max_size=2, unique=True))
def test_different_streams_give_different_scenes(seeds):
    first, other = (tensors_of(simulate(SMALL, 2, seeded(seed))) for seed in seeds)
    assert all(not torch.equal(first[name], other[name]) for name in ("snapshots", "channel", "snr_db", "azimuth_rad", "symbols"))


def test_scenes_of_one_stream_differ_from_each_other():
    simulated = simulate(SMALL, 100, seeded())
    assert len(set(simulated.sources.azimuth_rad[:, 0].tolist())) == 100
    assert len(set(simulated.measurements.snapshots[:, 0, 0].tolist())) == 100


def test_simulation_leaves_the_global_random_state_alone():
    before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    simulate(SMALL, 2, seeded())
    assert torch.equal(before[0], torch.get_rng_state())
    assert np.array_equal(before[1], np.random.get_state()[1])  # noqa: NPY002


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"scene": {"symbols": "static"}}, "symbols"),
        ({"scene": {"power_control": 1.0}}, "power"),
        ({"scene": {"azimuth_max_deg": 30.0}}, "azimuth_rad"),
        ({"scene": {"elevation_max_deg": 10.0}}, "elevation_rad"),
        ({"scene": {"range_min_m": 3.0}}, "range_m"),
        ({"scene": {"range_max_m": 5.0}}, "range_m"),
        ({"scene": {"snr_min_db": 10.0}}, "snr_db"),
        ({"scene": {"snr_max_db": 0.0}}, "snr_db"),
        ({"scene": {"k_min": 4}}, "k"),
        ({"codes": {"selection": "stride"}}, "code_index"),
        ({"codes": {"selection": "random"}}, "code_index"),
        ({"codes": {"bits": 2}}, "code_index"),
        ({"channel": {"rician_min": 9.0}}, "channel"),
        ({"channel": {"rician_max": 0.6}}, "channel"),
        ({"channel": {"angle_max_deg": 10.0}}, "channel"),
        ({"channel": {"distance_m": 5.0}}, "channel"),
        ({"array": {"spacing_m": 0.1}}, "snapshots"),
        ({"array": {"wavelength_m": 0.4}}, "snapshots"),
    ],
)
def test_every_option_changes_what_it_names(change, name):
    default, changed = tensors_of(simulate(SMALL, 30, seeded())), tensors_of(simulate(SMALL.replaced(**change), 30, seeded()))
    assert not torch.equal(default[name], changed[name])


@given(st.floats(-15.0, 40.0), st.floats(1e-6, 1e6))
def test_estimated_snr_is_the_excess_over_the_noise(snr_db, noise_variance):
    power = noise_variance * (1.0 + 10.0 ** (snr_db / 10.0))
    snapshots = torch.full((1, 2, 3), math.sqrt(power), dtype=torch.complex128)
    found = estimate_snr_db(snapshots, torch.tensor([noise_variance], dtype=torch.float64))
    assert found.item() == pytest.approx(snr_db, abs=1e-6)


def test_estimated_snr_is_at_least_minus_20_db():
    snapshots = torch.zeros((1, 2, 3), dtype=torch.complex128)
    assert estimate_snr_db(snapshots, torch.ones(1, dtype=torch.float64)).item() == pytest.approx(-20.0)


def test_estimated_snr_agrees_with_the_label_on_average():
    config = Config().replaced(scene={"snr_min_db": 5.0, "snr_max_db": 20.0})
    measurements = simulate(config, 100, seeded()).measurements
    error_db = estimate_snr_db(measurements.snapshots, measurements.noise_variance) - measurements.snr_db
    assert error_db.abs().max() < 2.0
    assert abs(error_db.mean()) < 0.2


def test_measurements_cast_select_and_count():
    measurements = simulate(SMALL, 5, seeded()).measurements
    narrow = measurements.to(torch.complex64)
    assert (narrow.snapshots.dtype, narrow.snr_db.dtype, narrow.code_index.dtype) == (torch.complex64, torch.float32, torch.uint8)
    assert narrow.sample_factor is None
    assert len(measurements) == 5
    part = measurements[torch.tensor([4, 2])]
    assert len(part) == 2
    assert torch.equal(part.snapshots[1], measurements.snapshots[2])
    assert torch.equal(part.noise_variance[0], measurements.noise_variance[4])
    assert len(measurements[1:3]) == 2
    assert torch.equal(measurements.to(torch.device("cpu")).channel, measurements.channel)


def test_codes_of_measurements_follow_their_precision():
    measurements = simulate(SMALL, 2, seeded()).measurements
    expected = np.exp(2j * np.pi * measurements.code_index.numpy().astype(float) / 8)
    np.testing.assert_allclose(codes_of(measurements, SMALL.codes).numpy(), expected, atol=1e-13)
    assert codes_of(measurements.to(torch.complex64), SMALL.codes).dtype == torch.complex64


def test_sources_type_serves_truth_and_estimate():
    assert isinstance(simulate(SMALL, 1, seeded()).sources, Sources)
