"""Exact derivatives of the steering vector, and the coordinates in which positions are searched.

Axes: N elements, *S any shape of positions. Searches run in (azimuth, elevation, inverse range), because the phase over the
aperture is almost linear in 1/r; positions that leave this package are in azimuth, elevation and range.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Complex, Float
from torch import Tensor

from ris_pipeline.arrays import direction, element_positions_m, steering_vector
from ris_pipeline.config import ArrayConfig, SceneConfig


def steering_jacobian(array: ArrayConfig, position: Float[Tensor, "*S 3"]) -> tuple[Complex[Tensor, "*S N"], Complex[Tensor, "*S N 3"]]:
    r"""Steering vector a and its derivatives by azimuth (rad), elevation (rad) and range (m).

    With p = r u(phi, theta) and w = 2 pi/lambda: da_n/dx = j w (dr/dx - (p - p_n).dp/dx / \|p - p_n\|) a_n, where dr/dx is 1
    for the range and 0 for the angles.

    Args:
        array: geometry and wavelength.
        position: azimuth, elevation and range in the last axis; ranges are finite and positive.

    Returns:
        a [*S, N] and da [*S, N, 3], in the complex counterpart of the position's precision.
    """
    azimuth_rad, elevation_rad, range_m = position.unbind(dim=-1)
    a = steering_vector(array, azimuth_rad, elevation_rad, range_m)
    elements_m = element_positions_m(array, device=position.device, dtype=position.dtype)
    u = direction(azimuth_rad, elevation_rad)
    offset_m = range_m[..., None, None] * u[..., None, :] - elements_m
    unit = offset_m / torch.linalg.vector_norm(offset_m, dim=-1, keepdim=True)
    u_azimuth, u_elevation = _direction_derivatives(azimuth_rad, elevation_rad)
    moved = torch.stack((range_m[..., None] * u_azimuth, range_m[..., None] * u_elevation, u), dim=-1)
    path_slope = torch.tensor([0.0, 0.0, 1.0], device=position.device, dtype=position.dtype) - unit @ moved
    return a, a[..., None] * torch.complex(torch.zeros_like(path_slope), (2.0 * math.pi / array.wavelength_m) * path_slope)


def _direction_derivatives(
    azimuth_rad: Float[Tensor, "*S"], elevation_rad: Float[Tensor, "*S"]
) -> tuple[Float[Tensor, "*S 3"], Float[Tensor, "*S 3"]]:
    """du/dphi and du/dtheta of u = (sin phi cos theta, cos phi cos theta, sin theta)."""
    sin_az, cos_az = torch.sin(azimuth_rad), torch.cos(azimuth_rad)
    sin_el, cos_el = torch.sin(elevation_rad), torch.cos(elevation_rad)
    by_azimuth = torch.stack((cos_az * cos_el, -sin_az * cos_el, torch.zeros_like(sin_el)), dim=-1)
    by_elevation = torch.stack((-sin_az * sin_el, -cos_az * sin_el, cos_el), dim=-1)
    return by_azimuth, by_elevation


def to_search(position: Float[Tensor, "*S 3"]) -> Float[Tensor, "*S 3"]:
    """(azimuth, elevation, range) -> (azimuth, elevation, inverse range)."""
    return torch.cat((position[..., :2], 1.0 / position[..., 2:]), dim=-1)


def to_position(search: Float[Tensor, "*S 3"]) -> Float[Tensor, "*S 3"]:
    """(azimuth, elevation, inverse range) -> (azimuth, elevation, range)."""
    return torch.cat((search[..., :2], 1.0 / search[..., 2:]), dim=-1)


def search_jacobian(array: ArrayConfig, search: Float[Tensor, "*S 3"]) -> Complex[Tensor, "*S N 4"]:
    """Steering vector and its derivatives by azimuth, elevation and inverse range, as the four columns [a, da]."""
    a, da = steering_jacobian(array, to_position(search))
    chain = torch.ones_like(search)
    chain[..., 2] = -search[..., 2].square().reciprocal()
    return torch.cat((a[..., None], da * chain[..., None, :]), dim=-1)


def search_box(scene: SceneConfig, device: torch.device | str = "cpu") -> tuple[Float[Tensor, " 3"], Float[Tensor, " 3"]]:
    """Lower and upper corner of the field of view in search coordinates."""
    upper = [scene.azimuth_max_rad, scene.elevation_max_rad, 1.0 / scene.range_min_m]
    lower = [-scene.azimuth_max_rad, -scene.elevation_max_rad, 1.0 / scene.range_max_m]
    return (
        torch.tensor(lower, dtype=torch.float64, device=device),
        torch.tensor(upper, dtype=torch.float64, device=device),
    )


def inside(position: Float[Tensor, "*S 3"], scene: SceneConfig) -> Float[Tensor, "*S 3"]:
    """Positions clamped to the field of view, free of the rounding of 1/(1/r)."""
    azimuth_rad, elevation_rad, range_m = position.unbind(dim=-1)
    return torch.stack(
        (
            azimuth_rad.clamp(-scene.azimuth_max_rad, scene.azimuth_max_rad),
            elevation_rad.clamp(-scene.elevation_max_rad, scene.elevation_max_rad),
            range_m.clamp(scene.range_min_m, scene.range_max_m),
        ),
        dim=-1,
    )
