"""Rician channel between the surface and the base station.

Axes: B scenes, M antennas, N elements. H = sqrt(kappa/(1+kappa)) a_BS a_RIS^H + sqrt(1/(1+kappa)) W with W ~ CN(0, 1), so that
E|H_mn|^2 = 1 whatever kappa is.
"""

from __future__ import annotations

import torch
from jaxtyping import Complex, Float
from torch import Tensor

from ris_pipeline.arrays import steering_vector
from ris_pipeline.config import ArrayConfig, ChannelConfig


def uniform(generator: torch.Generator, low: float, high: float, *shape: int) -> Float[Tensor, "..."]:
    """Uniform float64 values in [low, high) on the generator's device."""
    return low + (high - low) * torch.rand(shape, generator=generator, device=generator.device, dtype=torch.float64)


def complex_normal(generator: torch.Generator, *shape: int) -> Complex[Tensor, "..."]:
    """CN(0, 1) values in complex128 on the generator's device: total variance 1."""
    return torch.randn(shape, generator=generator, device=generator.device, dtype=torch.complex128)


def line_of_sight(
    array: ArrayConfig,
    bs_azimuth_rad: Float[Tensor, " B"],
    ris_azimuth_rad: Float[Tensor, " B"],
    ris_elevation_rad: Float[Tensor, " B"],
    distance_m: float,
) -> Complex[Tensor, "B M N"]:
    """a_BS a_RIS^H with unit-modulus entries; the surface is seen as a spherical wave from ``distance_m``.

    a_BS is the far field of a half-wavelength line of M antennas, its phase counted from the first one.
    """
    line = ArrayConfig(n_h=array.bs_antennas, n_v=1, spacing_m=array.wavelength_m / 2.0, wavelength_m=array.wavelength_m)
    a_line = steering_vector(line, bs_azimuth_rad, torch.zeros_like(bs_azimuth_rad), torch.full_like(bs_azimuth_rad, torch.inf))
    a_bs = a_line * a_line[:, :1].conj()
    a_ris = steering_vector(array, ris_azimuth_rad, ris_elevation_rad, torch.full_like(ris_azimuth_rad, distance_m))
    return a_bs[:, :, None] * a_ris.conj()[:, None, :]


def rician_channel(array: ArrayConfig, channel: ChannelConfig, count: int, generator: torch.Generator) -> Complex[Tensor, "B M N"]:
    """Draw ``count`` channels; the Rician factor is uniform in its configured interval, all angles uniform in theirs."""
    kappa = uniform(generator, channel.rician_min, channel.rician_max, count, 1, 1)
    limit = channel.angle_max_rad
    angles_rad = uniform(generator, -limit, limit, 3, count)
    direct = line_of_sight(array, angles_rad[0], angles_rad[1], angles_rad[2], channel.distance_m)
    scattered = complex_normal(generator, count, array.bs_antennas, array.n_elements)
    return torch.sqrt(kappa / (1.0 + kappa)) * direct + torch.sqrt(1.0 / (1.0 + kappa)) * scattered
