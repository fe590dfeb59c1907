"""Exact derivatives of the steering vector, against automatic and finite differences."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from ris_pipeline.arrays import steering_vector
from ris_pipeline.config import ArrayConfig, SceneConfig
from ris_pipeline.estimators.derivatives import inside, search_box, search_jacobian, steering_jacobian, to_position, to_search

POSITIONS = torch.tensor([[0.0, 0.0, 5.0], [0.9, -0.4, 0.5], [-1.0, 0.5, 10.0], [0.3, 0.2, 1.7]], dtype=torch.float64)
ARRAY = ArrayConfig(n_h=5, n_v=3)


def steering_by_hand(position):
    azimuth, elevation, radius = position
    x, z = np.meshgrid((np.arange(5) - 2.0) * 0.15, (np.arange(3) - 1.0) * 0.15)
    source = radius * np.array([np.sin(azimuth) * np.cos(elevation), np.cos(azimuth) * np.cos(elevation), np.sin(elevation)])
    distance = np.sqrt((source[0] - x.ravel()) ** 2 + source[1] ** 2 + (source[2] - z.ravel()) ** 2)
    return np.exp(2j * math.pi / 0.3 * (radius - distance))


@pytest.mark.parametrize("position", POSITIONS, ids=str)
def test_steering_jacobian_equals_central_differences(position):
    a, da = steering_jacobian(ARRAY, position)
    np.testing.assert_allclose(a.numpy(), steering_by_hand(position.numpy()), atol=1e-11)
    for axis in range(3):
        step = np.zeros(3)
        step[axis] = 1e-6
        slope = (steering_by_hand(position.numpy() + step) - steering_by_hand(position.numpy() - step)) / 2e-6
        np.testing.assert_allclose(da[:, axis].numpy(), slope, rtol=1e-6, atol=1e-6)


def test_steering_jacobian_equals_automatic_differentiation():
    for position in POSITIONS:
        _, da = steering_jacobian(ARRAY, position)
        automatic = torch.autograd.functional.jacobian(lambda p: torch.view_as_real(steering_vector(ARRAY, *p)), position)
        torch.testing.assert_close(da, torch.complex(automatic[:, 0], automatic[:, 1]), rtol=1e-9, atol=1e-9)


def test_search_jacobian_is_by_inverse_range():
    columns = search_jacobian(ARRAY, to_search(POSITIONS))
    for position, column in zip(POSITIONS, columns, strict=True):
        q = 1.0 / float(position[2])
        ahead, behind = (steering_by_hand([*position[:2].numpy(), 1.0 / (q + step)]) for step in (1e-6, -1e-6))
        np.testing.assert_allclose(column[:, 3].numpy(), (ahead - behind) / 2e-6, rtol=1e-6, atol=1e-6)


def test_search_coordinates_round_trip():
    torch.testing.assert_close(to_position(to_search(POSITIONS)), POSITIONS, rtol=1e-15, atol=0)


def test_inside_clamps_to_the_field_of_view():
    scene = SceneConfig()
    clamped = inside(torch.tensor([[9.0, -9.0, 99.0], [-9.0, 9.0, 0.01]], dtype=torch.float64), scene)
    expected = [[scene.azimuth_max_rad, -scene.elevation_max_rad, 10.0], [-scene.azimuth_max_rad, scene.elevation_max_rad, 0.5]]
    np.testing.assert_array_equal(clamped.numpy(), expected)
    lower, upper = search_box(scene)
    np.testing.assert_allclose(lower.numpy(), [-math.pi / 3, -math.pi / 6, 0.1])
    np.testing.assert_allclose(upper.numpy(), [math.pi / 3, math.pi / 6, 2.0])
