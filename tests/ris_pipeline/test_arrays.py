"""Geometry and the one steering vector: modulus, symmetries, limits, precision, gradients, a reference in decimal arithmetic."""

from __future__ import annotations

import math
from decimal import Decimal, localcontext

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from jaxtyping import TypeCheckError

from ris_pipeline.arrays import Sources, direction, element_positions_m, fresnel_steering_vector, search_grid, steering_vector
from ris_pipeline.config import ArrayConfig

ARRAYS = st.builds(
    ArrayConfig,
    n_h=st.integers(1, 9),
    n_v=st.integers(1, 9),
    spacing_m=st.sampled_from([0.15, 0.1, 0.05]),
    wavelength_m=st.sampled_from([0.3, 0.2]),
)
AZIMUTHS = st.floats(-math.pi / 3, math.pi / 3)
ELEVATIONS = st.floats(-math.pi / 6, math.pi / 6)
RANGES = st.floats(0.5, 10.0)
DEFAULT = ArrayConfig()
SMALL = ArrayConfig(n_h=4, n_v=3)


def scalars(*values, dtype=torch.float64):
    return tuple(torch.tensor(value, dtype=dtype) for value in values)


def domain(count, seed=0, dtype=torch.float64):
    """Sources over the whole domain, its corners included."""
    generator = torch.Generator().manual_seed(seed)
    unit = torch.rand(3, count, generator=generator, dtype=torch.float64)
    unit[:, :8] = torch.cartesian_prod(*[torch.tensor([0.0, 1.0], dtype=torch.float64)] * 3).T
    low = torch.tensor([-math.pi / 3, -math.pi / 6, 0.5], dtype=torch.float64)[:, None]
    high = torch.tensor([math.pi / 3, math.pi / 6, 10.0], dtype=torch.float64)[:, None]
    return tuple((low + (high - low) * unit).to(dtype))


def reference_path_difference_m(array, azimuth_rad, elevation_rad, range_m):
    """|p| - |p - p_n| of every element with 60 digits, element by element from the definition."""
    u = (math.sin(azimuth_rad) * math.cos(elevation_rad), math.cos(azimuth_rad) * math.cos(elevation_rad), math.sin(elevation_rad))
    found = []
    with localcontext() as context:
        context.prec = 60
        p = [Decimal(range_m) * Decimal(component) for component in u]
        origin = sum(c * c for c in p).sqrt()
        for v in range(array.n_v):
            for h in range(array.n_h):
                x = (Decimal(h) - Decimal(array.n_h - 1) / 2) * Decimal(array.spacing_m)
                z = (Decimal(v) - Decimal(array.n_v - 1) / 2) * Decimal(array.spacing_m)
                found.append(float(origin - ((p[0] - x) ** 2 + p[1] ** 2 + (p[2] - z) ** 2).sqrt()))
    return np.array(found)


def reference_steering(array, azimuth_rad, elevation_rad, range_m):
    return np.exp(2j * np.pi / array.wavelength_m * reference_path_difference_m(array, azimuth_rad, elevation_rad, range_m))


@given(ARRAYS)
def test_coordinates_sum_to_zero(array):
    assert element_positions_m(array).sum(dim=0).abs().max() < 1e-12


@given(ARRAYS)
def test_element_n_stands_where_the_design_puts_it(array):
    positions = element_positions_m(array)
    assert positions.shape == (array.n_elements, 3)
    for v in range(array.n_v):
        for h in range(array.n_h):
            expected = ((h - (array.n_h - 1) / 2) * array.spacing_m, 0.0, (v - (array.n_v - 1) / 2) * array.spacing_m)
            assert positions[v * array.n_h + h].tolist() == pytest.approx(expected, abs=1e-15)


@given(AZIMUTHS, ELEVATIONS)
def test_direction_is_a_unit_vector_with_broadside_y(azimuth_rad, elevation_rad):
    u = direction(*scalars(azimuth_rad, elevation_rad))
    assert u.norm().item() == pytest.approx(1.0, abs=1e-14)
    assert math.atan2(u[0], u[1]) == pytest.approx(azimuth_rad, abs=1e-12)
    assert math.asin(u[2]) == pytest.approx(elevation_rad, abs=1e-12)


@given(ARRAYS, AZIMUTHS, ELEVATIONS, st.floats(0.5, 1e7))
def test_steering_equals_the_definition_in_decimal_arithmetic(array, azimuth_rad, elevation_rad, range_m):
    steering = steering_vector(array, *scalars(azimuth_rad, elevation_rad, range_m))
    np.testing.assert_allclose(steering.numpy(), reference_steering(array, azimuth_rad, elevation_rad, range_m), rtol=0, atol=1e-12)


def test_steering_equals_the_definition_over_the_whole_domain():
    azimuth_rad, elevation_rad, range_m = domain(24)
    steering = steering_vector(DEFAULT, azimuth_rad, elevation_rad, range_m).numpy()
    for i in range(24):
        expected = reference_steering(DEFAULT, azimuth_rad[i].item(), elevation_rad[i].item(), range_m[i].item())
        np.testing.assert_allclose(steering[i], expected, rtol=0, atol=1e-12)


@given(ARRAYS, AZIMUTHS, ELEVATIONS, st.floats(0.5, 1e9) | st.just(math.inf))
def test_steering_has_unit_modulus_and_squared_norm_n(array, azimuth_rad, elevation_rad, range_m):
    steering = steering_vector(array, *scalars(azimuth_rad, elevation_rad, range_m))
    np.testing.assert_allclose(steering.abs().numpy(), 1.0, atol=1e-14)
    assert steering.abs().square().sum().item() == pytest.approx(array.n_elements)


@given(AZIMUTHS, ELEVATIONS, RANGES)
def test_phase_origin_is_the_centre(azimuth_rad, elevation_rad, range_m):
    steering = steering_vector(ArrayConfig(n_h=5, n_v=3), *scalars(azimuth_rad, elevation_rad, range_m))
    assert steering[1 * 5 + 2].item() == pytest.approx(1.0, abs=1e-14)


@given(ARRAYS, AZIMUTHS, ELEVATIONS, RANGES, st.booleans())
def test_steering_mirrors_with_the_source(array, azimuth_rad, elevation_rad, range_m, horizontal):
    """Negating the azimuth mirrors the columns of the surface, negating the elevation its rows."""
    steering = steering_vector(array, *scalars(azimuth_rad, elevation_rad, range_m)).reshape(array.n_v, array.n_h)
    mirrored = (-azimuth_rad, elevation_rad) if horizontal else (azimuth_rad, -elevation_rad)
    other = steering_vector(array, *scalars(*mirrored, range_m)).reshape(array.n_v, array.n_h)
    axis = 1 if horizontal else 0
    np.testing.assert_allclose(other.numpy(), steering.flip(axis).numpy(), atol=1e-12)
    np.testing.assert_array_equal(other.flip(axis).flip(axis), other)


@given(AZIMUTHS, ELEVATIONS)
def test_rows_and_columns_are_not_interchanged(azimuth_rad, elevation_rad):
    """A single row sees nothing of the elevation's sign, a single column nothing of the azimuth's."""
    row, column = ArrayConfig(n_h=7, n_v=1), ArrayConfig(n_h=1, n_v=7)
    for array, other in ((row, (azimuth_rad, -elevation_rad)), (column, (-azimuth_rad, elevation_rad))):
        here = steering_vector(array, *scalars(azimuth_rad, elevation_rad, 2.0))
        there = steering_vector(array, *scalars(*other, 2.0))
        np.testing.assert_allclose(here.numpy(), there.numpy(), atol=1e-12)


def test_a_row_sees_the_azimuth_and_a_column_the_elevation():
    for array, angles in ((ArrayConfig(n_h=7, n_v=1), (0.5, 0.0)), (ArrayConfig(n_h=1, n_v=7), (0.0, 0.5))):
        tilted = steering_vector(array, *scalars(*angles, 1e9))
        steps = torch.angle(tilted[1:] * tilted[:-1].conj())
        np.testing.assert_allclose(steps.numpy(), math.pi * math.sin(0.5), atol=1e-6)  # half-wavelength spacing; positive towards +x, +z


@given(ARRAYS, AZIMUTHS, ELEVATIONS)
def test_far_field_is_the_limit(array, azimuth_rad, elevation_rad):
    angles = scalars(azimuth_rad, elevation_rad)
    plane = torch.exp(2j * math.pi / array.wavelength_m * (element_positions_m(array) @ direction(*angles)))
    at_infinity = steering_vector(array, *angles, torch.tensor(math.inf, dtype=torch.float64))
    np.testing.assert_allclose(at_infinity.numpy(), plane.numpy(), atol=1e-12)
    squared_size_m2 = element_positions_m(array).square().sum(dim=1).max().item()
    for range_m in (1e4, 1e6):
        bound = 2.0 * math.pi / array.wavelength_m * squared_size_m2 / (2.0 * range_m) * 1.01 + 1e-12
        assert (steering_vector(array, *angles, torch.tensor(range_m, dtype=torch.float64)) - plane).abs().max() <= bound


@given(st.lists(st.floats(2.0, 1e6), min_size=2, max_size=2, unique=True), AZIMUTHS, ELEVATIONS)
def test_farther_is_closer_to_the_plane_wave(ranges, azimuth_rad, elevation_rad):
    plane = steering_vector(SMALL, *scalars(azimuth_rad, elevation_rad, math.inf))
    deviation = [
        (steering_vector(SMALL, *scalars(azimuth_rad, elevation_rad, range_m)) - plane).abs().max() for range_m in (*sorted(ranges), 1e9)
    ]
    assert deviation[0] >= deviation[1] * 0.99 - 1e-12
    assert deviation[2] < 1e-8


def test_float32_phase_error_stays_below_a_ten_thousandth_of_a_radian():
    """Phases reach 27 rad; ten roundings of 2^-24 each stay below 27 * 10 * 2^-24 = 1.6e-5, plus the rounding of the inputs."""
    azimuth_rad, elevation_rad, range_m = domain(4000, dtype=torch.float32)
    narrow = steering_vector(DEFAULT, azimuth_rad, elevation_rad, range_m)
    wide = steering_vector(DEFAULT, azimuth_rad.double(), elevation_rad.double(), range_m.double())
    assert narrow.dtype == torch.complex64
    assert torch.angle(narrow.to(torch.complex128) * wide.conj()).abs().max() < 1e-4


def test_float32_keeps_its_accuracy_at_long_range():
    far = torch.tensor(1e6, dtype=torch.float32)
    narrow = steering_vector(DEFAULT, *scalars(0.3, -0.2, dtype=torch.float32), far)
    wide = steering_vector(DEFAULT, *(value.double() for value in scalars(0.3, -0.2, dtype=torch.float32)), far.double())
    assert torch.angle(narrow.to(torch.complex128) * wide.conj()).abs().max() < 1e-4


@given(AZIMUTHS, ELEVATIONS, RANGES)
def test_gradient_equals_finite_differences(azimuth_rad, elevation_rad, range_m):
    point = torch.tensor([azimuth_rad, elevation_rad, range_m], dtype=torch.float64)

    def stacked(position):
        return torch.view_as_real(steering_vector(SMALL, *position.unbind()))

    gradient = torch.autograd.functional.jacobian(stacked, point)
    step = 1e-6
    for i in range(3):
        offset = torch.zeros(3, dtype=torch.float64)
        offset[i] = step
        finite = (stacked(point + offset) - stacked(point - offset)) / (2 * step)
        np.testing.assert_allclose(gradient[..., i].numpy(), finite.numpy(), atol=1e-6)


def test_gradient_is_not_zero_anywhere_on_the_domain():
    position = torch.stack(domain(200), dim=-1).requires_grad_()
    steering = steering_vector(DEFAULT, *position.unbind(dim=-1))
    # The phase of the first element, a corner, changes with every coordinate; its gradient is d(angle).
    phase = steering[:, 0]
    (gradient,) = torch.autograd.grad((phase * phase.detach().conj()).imag.sum(), position)
    assert torch.isfinite(gradient).all()
    assert (gradient.abs().amax(dim=1) > 1e-3).all()


def test_gradient_is_finite_at_infinite_range():
    position = torch.tensor([0.2, -0.1, math.inf], dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(steering_vector(DEFAULT, *position.unbind()).imag.sum(), position)
    assert torch.isfinite(gradient).all()
    assert gradient[2] == 0.0


@given(st.sampled_from([(), (1,), (3,), (2, 3), (2, 1, 2)]))
def test_any_shape_of_sources_gives_the_single_results(shape):
    coordinates = [values[: math.prod(shape)].reshape(shape) for values in domain(12)]
    array = ArrayConfig(n_h=3, n_v=2)
    steering = steering_vector(array, *coordinates)
    assert steering.shape == (*shape, 6)
    flat = [values.reshape(-1) for values in coordinates]
    for i in range(math.prod(shape)):
        single = steering_vector(array, *(values[i] for values in flat))
        np.testing.assert_allclose(steering.reshape(-1, 6)[i].numpy(), single.numpy(), atol=1e-13)


def test_shapes_that_disagree_are_refused_by_the_annotations():
    with pytest.raises(TypeCheckError):
        steering_vector(DEFAULT, torch.zeros(2), torch.zeros(3), torch.ones(2))


def phase_error_rad(steering, exact):
    return torch.angle(steering * exact.conj()).abs().amax(dim=-1)


def test_fresnel_phase_error_is_bounded_by_the_third_order_term():
    """With x = u.p_n, the exact difference is x - (rho^2 - x^2)/(2r) - x (rho^2 - x^2)/(2r^2) - ...

    The last of these is what the approximation leaves out, and x (rho^2 - x^2) <= 2 rho^3/sqrt(27).
    """
    azimuth_rad, elevation_rad, _ = domain(300)
    rho_m = element_positions_m(DEFAULT).norm(dim=1).max().item()
    for range_m in (6.0, 10.0, 30.0, 100.0):
        coordinates = (azimuth_rad, elevation_rad, torch.full_like(azimuth_rad, range_m))
        error = phase_error_rad(fresnel_steering_vector(DEFAULT, *coordinates), steering_vector(DEFAULT, *coordinates)).max()
        third_order = 2.0 * math.pi / DEFAULT.wavelength_m * rho_m**3 / math.sqrt(27.0) / range_m**2
        assert 0.3 * third_order < error < third_order * (1.0 + 2.0 * rho_m / range_m)


def test_fresnel_phase_error_falls_as_the_inverse_square_of_range():
    azimuth_rad, elevation_rad, _ = domain(300)
    errors = []
    for range_m in (50.0, 100.0):
        coordinates = (azimuth_rad, elevation_rad, torch.full_like(azimuth_rad, range_m))
        errors.append(phase_error_rad(fresnel_steering_vector(DEFAULT, *coordinates), steering_vector(DEFAULT, *coordinates)).max())
    assert errors[0] / errors[1] == pytest.approx(4.0, rel=0.02)


def test_fresnel_is_far_from_the_exact_wave_at_half_a_metre():
    """Why it is never the default, and why its projection term must stay: without it the correlation falls much further."""
    azimuth_rad, elevation_rad, _ = domain(300)
    near = torch.full_like(azimuth_rad, 2.0)
    positions = element_positions_m(DEFAULT)
    u = direction(azimuth_rad, elevation_rad)

    def correlation(steering, exact):
        return ((steering * exact.conj()).sum(dim=-1).abs() / DEFAULT.n_elements).mean()

    def without_projection(range_m):
        curvature_m = positions.square().sum(dim=1) / (2.0 * range_m[:, None])
        return torch.exp(2j * math.pi / DEFAULT.wavelength_m * (u @ positions.T - curvature_m))

    exact = steering_vector(DEFAULT, azimuth_rad, elevation_rad, near)
    assert correlation(fresnel_steering_vector(DEFAULT, azimuth_rad, elevation_rad, near), exact) > 0.9
    assert correlation(without_projection(near), exact) < 0.85
    nearest = torch.full_like(azimuth_rad, 0.5)
    exact = steering_vector(DEFAULT, azimuth_rad, elevation_rad, nearest)
    assert correlation(fresnel_steering_vector(DEFAULT, azimuth_rad, elevation_rad, nearest), exact) < 0.7
    assert correlation(without_projection(nearest), exact) < 0.45


def test_search_grid_holds_the_steering_vectors_of_its_positions():
    array = ArrayConfig(n_h=3, n_v=2)
    azimuth_rad, elevation_rad = torch.linspace(-1, 1, 5, dtype=torch.float64), torch.linspace(-0.4, 0.5, 4, dtype=torch.float64)
    inverse_range_per_m = torch.tensor([0.1, 0.5, 2.0], dtype=torch.float64)
    position, steering = search_grid(array, azimuth_rad, elevation_rad, inverse_range_per_m)
    for a in range(5):
        for e in range(4):
            for r in range(3):
                expected = (azimuth_rad[a].item(), elevation_rad[e].item(), 1.0 / inverse_range_per_m[r].item())
                assert position[a, e, r].tolist() == pytest.approx(expected)
                np.testing.assert_allclose(steering[a, e, r].numpy(), reference_steering(array, *expected), atol=1e-12)


def example_sources():
    position = torch.arange(24, dtype=torch.float64).reshape(2, 4, 3) + 1.0
    return Sources.from_position(position, torch.ones(2, 4, dtype=torch.float64), torch.tensor([1, 3]))


def test_sources_are_zero_from_k_on():
    sources = example_sources()
    assert sources.mask.tolist() == [[True, False, False, False], [True, True, True, False]]
    for name in ("azimuth_rad", "elevation_rad", "range_m", "power"):
        assert torch.equal(getattr(sources, name) != 0.0, sources.mask)
    assert sources.position[1, 2].tolist() == [19.0, 20.0, 21.0]


def test_sources_select_scenes_and_keep_counts_when_cast():
    sources = example_sources()
    narrow = sources.to(torch.float32)
    assert (narrow.range_m.dtype, narrow.k.dtype) == (torch.float32, torch.int64)
    assert torch.equal(sources[1:].k, torch.tensor([3]))
    assert torch.equal(sources[torch.tensor([1, 0])].range_m[1], sources.range_m[0])
    assert torch.equal(sources.to(torch.device("cpu")).position, sources.position)
