"""The Rician channel: power, line-of-sight share, angles. Tolerances are five standard errors of means over independent scenes."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ris_pipeline.arrays import steering_vector
from ris_pipeline.channel import complex_normal, line_of_sight, rician_channel, uniform
from ris_pipeline.config import ArrayConfig, ChannelConfig

SMALL = ArrayConfig(n_h=4, n_v=3, bs_antennas=4)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def assert_mean(values, expected):
    """The mean of independent values equals ``expected`` within five standard errors, which are below 2 % of it."""
    standard_error = values.std() / math.sqrt(len(values))
    assert standard_error < 0.02 * abs(expected)
    assert abs(values.mean() - expected) < 5.0 * standard_error + 1e-12


def rician(kappa, count=4000, array=SMALL, seed=0):
    return rician_channel(array, ChannelConfig(rician_min=kappa, rician_max=kappa), count, seeded(seed))


@pytest.mark.parametrize("kappa", [0.0, 1e-3, 0.5, 3.0, 10.0, 1e3])
def test_mean_power_of_an_entry_is_one_whatever_kappa_is(kappa):
    assert_mean(rician(kappa).abs().square().mean(dim=(1, 2)), 1.0)


def test_mean_power_is_one_over_the_configured_interval():
    assert_mean(rician_channel(SMALL, ChannelConfig(), 4000, seeded()).abs().square().mean(dim=(1, 2)), 1.0)


@pytest.mark.parametrize("kappa", [0.0, 0.5, 2.0, 10.0, 1e4])
def test_line_of_sight_share_is_kappa_over_one_plus_kappa(kappa):
    """For a share s of fixed modulus and the rest Gaussian, E|H_mn|^4 = s^2 + 4 s (1 - s) + 2 (1 - s)^2 = 2 - s^2."""
    share = kappa / (1.0 + kappa)
    assert_mean(rician(kappa).abs().pow(4).mean(dim=(1, 2)), 2.0 - share**2)


def test_kappa_is_uniform_in_its_interval():
    """E s^2 over kappa uniform in [a, b], with the primitive k - 2 ln(1 + k) - 1/(1 + k) of (k/(1 + k))^2."""
    low, high = 0.5, 10.0
    mean = np.subtract(*(k - 2.0 * math.log1p(k) - 1.0 / (1.0 + k) for k in (high, low))) / (high - low)
    fourth = rician_channel(SMALL, ChannelConfig(rician_min=low, rician_max=high), 8000, seeded(3)).abs().pow(4).mean(dim=(1, 2))
    assert_mean(fourth, 2.0 - mean)


def test_every_scene_draws_its_own_channel():
    channel = rician(1.0, count=3)
    assert not torch.allclose(channel[0], channel[1])
    assert not torch.allclose(channel[1], channel[2])


@given(st.floats(-1.0, 1.0), st.floats(-1.0, 1.0), st.floats(-1.0, 1.0), st.floats(1.0, 1e4))
def test_line_of_sight_is_rank_one_with_unit_modulus(bs_azimuth_rad, azimuth_rad, elevation_rad, distance_m):
    angles = [torch.tensor([value], dtype=torch.float64) for value in (bs_azimuth_rad, azimuth_rad, elevation_rad)]
    direct = line_of_sight(SMALL, *angles, distance_m)[0]
    np.testing.assert_allclose(direct.abs().numpy(), 1.0, atol=1e-13)
    singular = torch.linalg.svdvals(direct)
    assert singular[0].item() == pytest.approx(math.sqrt(SMALL.bs_antennas * SMALL.n_elements))
    assert singular[1].item() < 1e-9


@given(st.floats(-1.0, 1.0), st.floats(-1.0, 1.0), st.floats(-1.0, 1.0))
def test_line_of_sight_is_a_bs_times_a_ris_hermitian(bs_azimuth_rad, azimuth_rad, elevation_rad):
    angles = [torch.tensor([value], dtype=torch.float64) for value in (bs_azimuth_rad, azimuth_rad, elevation_rad)]
    a_bs = np.exp(1j * np.pi * np.arange(SMALL.bs_antennas) * np.sin(bs_azimuth_rad))
    a_ris = steering_vector(SMALL, angles[1], angles[2], torch.tensor([100.0], dtype=torch.float64))[0].numpy()
    np.testing.assert_allclose(line_of_sight(SMALL, *angles, 100.0)[0].numpy(), np.outer(a_bs, a_ris.conj()), atol=1e-12)


def test_distance_changes_the_line_of_sight():
    zeros = torch.zeros(1, dtype=torch.float64)
    assert not torch.allclose(line_of_sight(SMALL, zeros, zeros, zeros, 1.0), line_of_sight(SMALL, zeros, zeros, zeros, 100.0))


@pytest.mark.parametrize("limit_deg", [60.0, 20.0])
def test_angles_fill_their_sector_and_stay_inside(limit_deg):
    """With kappa so large that only the line of sight is left, the phase step between antennas is pi sin(angle)."""
    channel = rician_channel(SMALL, ChannelConfig(rician_min=1e12, rician_max=1e12, angle_max_deg=limit_deg), 3000, seeded(1))
    angle_rad = torch.asin(torch.angle(channel[:, 1, 0] * channel[:, 0, 0].conj()) / math.pi)
    limit_rad = math.radians(limit_deg)
    assert angle_rad.abs().max() < limit_rad + 1e-4
    assert angle_rad.min() < -0.98 * limit_rad
    assert angle_rad.max() > 0.98 * limit_rad
    assert abs(angle_rad.mean()) < 5.0 * limit_rad / math.sqrt(3.0 * 3000)


def test_channel_follows_its_generator():
    first, again, other = (rician_channel(SMALL, ChannelConfig(), 2, seeded(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@given(st.floats(-100, 100), st.floats(1e-3, 100))
def test_uniform_values_fill_their_interval(low, width):
    values = uniform(seeded(), low, low + width, 500)
    assert values.dtype == torch.float64
    assert values.min() >= low
    assert values.max() <= low + width
    assert values.max() - values.min() > 0.95 * width


def test_complex_normal_has_total_variance_one_and_is_circular():
    values = complex_normal(seeded(), 50_000)
    assert_mean(values.abs().square(), 1.0)
    assert values.mean().abs() < 5.0 / math.sqrt(50_000)
    assert values.square().mean().abs() < 5.0 * math.sqrt(2.0 / 50_000)
