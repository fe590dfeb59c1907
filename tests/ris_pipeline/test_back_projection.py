"""Back-projection and the sample factor against dense pseudo-inverses, and the energy law of one noise-free source."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ris_pipeline.arrays import steering_vector
from ris_pipeline.back_projection import back_project, sample_factor, with_sample_factor
from ris_pipeline.config import Config
from ris_pipeline.simulation import clean_snapshots, codes_of, simulate, true_factor

SMALL = Config().replaced(
    array={"n_h": 4, "n_v": 3, "bs_antennas": 4}, codes={"beams_h": 4, "beams_v": 4, "snapshots": 8}, scene={"k_max": 3}
)
LAW = Config().replaced(back_projection={"ridge": 0.0})


def simulated(config, count, seed=0):
    return simulate(config, count, torch.Generator().manual_seed(seed))


def dense_sensing(measurements, b, snapshot):
    code = np.exp(2j * np.pi * measurements.code_index[b, snapshot].numpy().astype(float) / 8)
    return measurements.channel[b].numpy() @ np.diag(code)


@given(st.integers(0, 2**32))
def test_without_ridge_each_snapshot_equals_its_pseudo_inverse(seed):
    measurements = simulated(SMALL, 2, seed).measurements
    codes = codes_of(measurements, SMALL.codes)
    fields = back_project(measurements.snapshots, measurements.channel, codes, 0.0)
    for b in range(2):
        for snapshot in range(8):
            expected = np.linalg.pinv(dense_sensing(measurements, b, snapshot)) @ measurements.snapshots[b, snapshot].numpy()
            np.testing.assert_allclose(fields[b, snapshot].numpy(), expected, rtol=1e-6, atol=1e-8 * np.abs(expected).max())


@given(st.integers(0, 2**32), st.floats(1e-6, 10.0))
def test_with_ridge_each_snapshot_equals_its_regularised_inverse(seed, ridge):
    """rho = ridge tr(H H^H)/M, from the definition with the dense G_l of each snapshot."""
    measurements = simulated(SMALL, 2, seed).measurements
    codes = codes_of(measurements, SMALL.codes)
    fields = back_project(measurements.snapshots, measurements.channel, codes, ridge)
    for b in range(2):
        channel = measurements.channel[b].numpy()
        rho = ridge * np.trace(channel @ channel.conj().T).real / 4
        for snapshot in range(8):
            sensing = dense_sensing(measurements, b, snapshot)
            inverse = np.linalg.inv(sensing @ sensing.conj().T + rho * np.eye(4))
            expected = sensing.conj().T @ inverse @ measurements.snapshots[b, snapshot].numpy()
            np.testing.assert_allclose(fields[b, snapshot].numpy(), expected, rtol=1e-6, atol=1e-8 * np.abs(expected).max())


def test_without_ridge_the_field_explains_the_snapshots():
    measurements = simulated(SMALL, 3).measurements
    codes = codes_of(measurements, SMALL.codes)
    fields = back_project(measurements.snapshots, measurements.channel, codes, 0.0)
    again = (codes * fields) @ measurements.channel.transpose(1, 2)
    np.testing.assert_allclose(again.numpy(), measurements.snapshots.numpy(), rtol=1e-7, atol=1e-9)


def test_sample_factor_holds_the_fields_over_root_l():
    measurements = simulated(SMALL, 2).measurements
    fields = back_project(measurements.snapshots, measurements.channel, codes_of(measurements, SMALL.codes), SMALL.back_projection.ridge)
    factor = sample_factor(measurements, SMALL)
    np.testing.assert_allclose(factor.numpy(), fields.transpose(1, 2).numpy() / math.sqrt(8), rtol=1e-12, atol=0)
    expected = sum(np.outer(x, x.conj()) for x in fields[0].numpy()) / 8
    np.testing.assert_allclose((factor[0] @ factor[0].mH).numpy(), expected, atol=1e-12 * np.abs(expected).max())


def noise_free(config, count, seed=0):
    """Scenes with one source and no noise: measurements, steering vectors [B, N] and symbols."""
    scenes = simulated(config.replaced(scene={"k_min": 1, "k_max": 1}), count, seed)
    factor = true_factor(config.array, scenes.sources)
    clean = clean_snapshots(scenes.measurements.channel, codes_of(scenes.measurements, config.codes), factor, scenes.symbols)
    sources = scenes.sources
    steering = steering_vector(config.array, sources.azimuth_rad[:, 0], sources.elevation_rad[:, 0], sources.range_m[:, 0])
    return replace(scenes.measurements, snapshots=clean), steering, scenes.symbols[:, :, 0]


def energy_share(factor, steering):
    """a^H R a / (N tr R) of each scene for R = F F^H."""
    along = (steering.conj()[:, None, :] @ factor).abs().square().sum(dim=(1, 2))
    return along / (steering.shape[1] * factor.abs().square().sum(dim=(1, 2)))


def test_one_noise_free_source_keeps_its_energy_in_the_sample_covariance():
    """Each snapshot sees an M-dimensional projection: the share is near M/N, far above the 1/N of white noise."""
    measurements, steering, _ = noise_free(LAW, 150)
    share = energy_share(sample_factor(measurements, LAW), steering).mean().item()
    m, n = LAW.array.bs_antennas, LAW.array.n_elements
    assert 0.8 * m / n <= share <= 1.2 * m / n


def test_default_ridge_keeps_that_energy_too():
    measurements, steering, _ = noise_free(Config(), 150)
    assert energy_share(sample_factor(measurements, Config()), steering).mean() >= 0.8 * 16 / 144


@given(st.integers(0, 2**32))
def test_energy_share_equals_its_identity_scene_by_scene(seed):
    """a^H R a/(N tr R) = sum |s_l|^2 (a^H P_l a)^2 / (N sum |s_l|^2 a^H P_l a), P_l the projector on the row space of G_l."""
    law = SMALL.replaced(back_projection={"ridge": 0.0})
    measurements, steering, symbols = noise_free(law, 2, seed)
    share = energy_share(sample_factor(measurements, law), steering)
    for b in range(2):
        a, weight = steering[b].numpy(), symbols[b].abs().square().numpy()
        seen = []
        for snapshot in range(8):
            sensing = dense_sensing(measurements, b, snapshot)
            seen.append((a.conj() @ np.linalg.pinv(sensing) @ sensing @ a).real)
        seen = np.array(seen)
        assert share[b].item() == pytest.approx((weight * seen**2).sum() / (len(a) * (weight * seen).sum()), rel=1e-6)


def test_no_mean_is_removed():
    """A field that is the same in every snapshot is signal: it must change the factor, column by column."""
    measurements, _, _ = noise_free(SMALL, 2)
    codes = codes_of(measurements, SMALL.codes)
    constant = torch.ones(2, 8, 12, dtype=torch.complex128)
    added = (codes * constant) @ measurements.channel.transpose(1, 2)
    with_constant = sample_factor(replace(measurements, snapshots=measurements.snapshots + added), SMALL)
    alone = sample_factor(replace(measurements, snapshots=added), SMALL)
    difference = with_constant - sample_factor(measurements, SMALL)
    assert (difference.abs().amax(dim=1) > 1e-3).all()
    np.testing.assert_allclose(difference.numpy(), alone.numpy(), atol=1e-10)


def test_factor_of_one_snapshot_is_not_zero():
    """With a mean removed across one distinct field, nothing would be left."""
    measurements, _, _ = noise_free(SMALL.replaced(scene={"symbols": "static"}), 3)
    assert (sample_factor(measurements, SMALL).abs().square().sum(dim=(1, 2)) > 1e-6).all()


@pytest.mark.parametrize("dtype", [torch.complex64, torch.complex128])
def test_factor_keeps_the_precision_of_the_snapshots(dtype):
    measurements = simulated(Config(), 3).measurements
    factor = sample_factor(measurements.to(dtype), Config())
    assert factor.dtype == dtype
    assert factor.shape == (3, 144, 16)
    assert factor.is_contiguous()
    exact = sample_factor(measurements, Config())
    assert (factor - exact).abs().max() < (2e-4 if dtype == torch.complex64 else 1e-12) * exact.abs().max()


@given(st.integers(0, 2**32))
def test_batch_equals_single(seed):
    measurements = simulated(SMALL, 4, seed).measurements
    together = sample_factor(measurements, SMALL)
    for b in range(4):
        np.testing.assert_allclose(sample_factor(measurements[b : b + 1], SMALL)[0].numpy(), together[b].numpy(), rtol=1e-9, atol=1e-12)


def test_ridge_changes_the_factor_and_shrinks_it():
    measurements = simulated(SMALL, 3).measurements
    norms = [
        sample_factor(measurements, SMALL.replaced(back_projection={"ridge": ridge})).abs().square().sum(dim=(1, 2))
        for ridge in (0.0, 1e-3, 1e-1)
    ]
    assert (norms[0] > norms[1]).all()
    assert (norms[1] > norms[2]).all()


def test_factor_scales_with_the_snapshots():
    measurements = simulated(SMALL, 2).measurements
    scaled = replace(measurements, snapshots=(3.0 - 4.0j) * measurements.snapshots)
    np.testing.assert_allclose(
        sample_factor(scaled, SMALL).numpy(), ((3.0 - 4.0j) * sample_factor(measurements, SMALL)).numpy(), rtol=1e-10
    )


def test_a_rank_deficient_channel_without_ridge_is_an_error():
    measurements = simulated(SMALL, 1).measurements
    channel = torch.zeros_like(measurements.channel)
    with pytest.raises(torch.linalg.LinAlgError):
        back_project(measurements.snapshots, channel, codes_of(measurements, SMALL.codes), 0.0)


def test_a_factor_that_is_there_is_not_recomputed():
    measurements = simulated(SMALL, 2).measurements
    stored = torch.ones(2, 12, 8, dtype=torch.complex128)
    kept = with_sample_factor(replace(measurements, sample_factor=stored), SMALL)
    assert kept.sample_factor is stored
    computed = with_sample_factor(measurements, SMALL)
    assert torch.equal(computed.sample_factor, sample_factor(measurements, SMALL))
    assert measurements.sample_factor is None
    assert computed.snapshots is measurements.snapshots
