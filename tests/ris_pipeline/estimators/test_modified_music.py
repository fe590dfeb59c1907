"""Modified MUSIC: exact on the Fresnel model, biased on exact data, and each of its steps against dense arithmetic."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment, minimize_scalar

from ris_pipeline.arrays import Sources, element_positions_m, fresnel_steering_vector
from ris_pipeline.channel import complex_normal
from ris_pipeline.config import Config
from ris_pipeline.covariance import FactoredCovariance
from ris_pipeline.errors import DataError
from ris_pipeline.estimators import modified_music
from ris_pipeline.estimators.derivatives import search_box
from ris_pipeline.estimators.modified_music import FresnelRays, _aliases, sub_surface, virtual_covariance
from ris_pipeline.simulation import draw_sources, true_factor


def fresnel_factor(config, sources):
    """A diag(sqrt(p)) with Fresnel steering vectors."""
    range_m = torch.where(sources.mask, sources.range_m, 1.0)
    steering = fresnel_steering_vector(config.array, sources.azimuth_rad, sources.elevation_rad, range_m) * sources.mask[..., None]
    return steering.transpose(1, 2) * sources.power.sqrt()[:, None, :]


def errors(estimate, truth):
    """Coordinate errors after the best assignment, all sources of all scenes."""
    found = []
    for scene in range(len(truth.k)):
        k = int(truth.k[scene])
        difference = estimate.position[scene, :k, None] - truth.position[scene, None, :k]
        rows, columns = linear_sum_assignment(difference.square().sum(dim=-1).numpy())
        found.append(difference[rows, columns].abs())
    return torch.cat(found)


@pytest.mark.parametrize("shape", [(12, 12), (12, 10), (9, 11)], ids=["12x12", "12x10", "9x11"])
def test_exact_covariance_of_the_fresnel_model_gives_exact_positions(shape):
    config = Config().replaced(array={"n_h": shape[0], "n_v": shape[1]}, scene={"k_max": 3})
    sources = draw_sources(config.scene, 30, torch.Generator().manual_seed(8))
    covariance = FactoredCovariance(fresnel_factor(config, sources), torch.full((30,), 0.01).double())
    assert float(errors(modified_music(covariance, sources.k, config), sources).max()) < 1e-6


def test_five_sources_of_the_fresnel_model_are_found_exactly_with_their_powers():
    config = Config()
    sources = draw_sources(config.scene.model_copy(update={"k_min": 5}), 12, torch.Generator().manual_seed(9))
    estimate = modified_music(FactoredCovariance.from_factor(fresnel_factor(config, sources)), sources.k, config)
    assert float(errors(estimate, sources).max()) < 1e-6
    np.testing.assert_allclose(estimate.power.sort().values.numpy(), sources.power.sort().values.numpy(), rtol=1e-4)


def bias(range_m, count=40):
    """Median coordinate errors of one source per scene at a range, on an exact covariance of the spherical model."""
    config = Config()
    generator = torch.Generator().manual_seed(10)
    angles = (2.0 * torch.rand(count, 1, 2, generator=generator).double() - 1.0) * torch.tensor([1.0, 0.5], dtype=torch.float64)
    position = torch.cat((angles, torch.full((count, 1, 1), range_m).double()), dim=-1)
    padded = torch.cat((position, torch.ones(count, 4, 3)), dim=1)
    sources = Sources.from_position(padded, torch.ones(count, 5).double(), torch.ones(count, dtype=torch.int64))
    estimate = modified_music(FactoredCovariance.from_factor(true_factor(config.array, sources)), sources.k, config)
    return (estimate.position - sources.position)[:, 0].abs().median(dim=0).values


def test_bias_on_exact_data_is_largest_at_close_range():
    """Measured medians at 0.5, 1, 3 and 8 m: see the bounds below; the third-order terms fall with the square of the range."""
    near, one, three, far = (bias(range_m) for range_m in (0.5, 1.0, 3.0, 8.0))
    for closer, farther in ((near, one), (one, three), (three, far)):
        assert bool((closer[:2] > farther[:2]).all())
    assert float(near[:2].max()) > math.radians(1.0)
    assert float(far[:2].max()) < math.radians(0.1)
    assert float(far[2]) > 1e-3


def test_virtual_covariance_is_the_smoothed_anti_diagonal_of_the_dense_matrix(small):
    covariance = FactoredCovariance.from_factor(complex_normal(torch.Generator().manual_seed(3), 2, 48, 5))
    virtual = virtual_covariance(covariance, small.array).dense().numpy()
    rows, columns = sub_surface(small.array)
    assert (rows, columns) == (4, 6)
    for scene, R in enumerate(covariance.dense().numpy()):
        y = np.fliplr(R).diagonal().reshape(6, 8)
        parts = [y[v : v + rows, h : h + columns].ravel() for v in range(6 - rows + 1) for h in range(8 - columns + 1)]
        expected = sum(np.outer(part, part.conj()) for part in parts) / len(parts)
        np.testing.assert_allclose(virtual[scene], expected, atol=1e-10)


def test_range_cancels_in_the_anti_diagonal_of_the_fresnel_model(small):
    """The virtual covariance of one source does not change with its range, and has rank one."""

    def virtual(range_m):
        position = torch.tensor([[[0.5, 0.2, range_m]]], dtype=torch.float64)
        source = Sources.from_position(position, torch.ones(1, 1).double(), torch.tensor([1]))
        return virtual_covariance(FactoredCovariance.from_factor(fresnel_factor(small, source)), small.array).dense()

    near, far = virtual(0.6), virtual(8.0)
    torch.testing.assert_close(near, far, rtol=0, atol=1e-9)
    values = torch.linalg.eigvalsh(near[0])
    assert float(values[-2]) < 1e-9 * float(values[-1])


def test_smoothing_regains_the_rank_of_coherent_plane_waves():
    config = Config()
    sources = draw_sources(config.scene.model_copy(update={"k_min": 5}), 4, torch.Generator().manual_seed(9))
    values = virtual_covariance(FactoredCovariance.from_factor(fresnel_factor(config, sources)), config.array).eigenvalues()
    assert bool((values[:, 4] > 1e-6 * values[:, 0]).all())
    assert bool((values[:, 5] < 1e-9 * values[:, 0]).all())


@pytest.mark.parametrize(("spacing_m", "aliases"), [(0.15, {1, 2, 4}), (0.075, {1})])
def test_aliases_repeat_the_phase_steps_and_hold_the_truth(spacing_m, aliases):
    config = Config().replaced(array={"spacing_m": spacing_m})
    sources = draw_sources(config.scene, 200, torch.Generator().manual_seed(1))
    u = torch.stack((sources.azimuth_rad.sin() * sources.elevation_rad.cos(), sources.elevation_rad.sin()), dim=-1)
    step = 4.0 * math.pi * spacing_m / config.array.wavelength_m
    angles, valid = _aliases(step * u, config)
    assert set(valid[sources.mask].sum(dim=-1).tolist()) <= aliases
    truth = torch.stack((sources.azimuth_rad, sources.elevation_rad), dim=-1)
    nearest = torch.where(valid, (angles - truth[:, :, None]).abs().amax(dim=-1), torch.inf).amin(dim=-1)
    assert float(nearest[sources.mask].max()) < 1e-7
    other = torch.stack((angles[..., 0].sin() * angles[..., 1].cos(), angles[..., 1].sin()), dim=-1) - u[:, :, None]
    turns = other[valid] * step / (2.0 * math.pi)
    assert float((turns - turns.round()).abs().max()) < 1e-6


def test_derivative_along_a_ray_is_that_of_the_fresnel_vector(small):
    search = torch.tensor([[0.4, -0.2, 0.7], [-0.9, 0.3, 1.6]], dtype=torch.float64)
    columns = FresnelRays(small.array).columns(search)
    step = torch.tensor([0.0, 0.0, 1e-6], dtype=torch.float64)
    slope = (FresnelRays(small.array).columns(search + step)[..., 0] - FresnelRays(small.array).columns(search - step)[..., 0]) / 2e-6
    torch.testing.assert_close(columns[..., 3], slope, rtol=1e-7, atol=1e-7)
    assert bool((columns[..., 1:3] == 0).all())


def test_range_is_the_best_on_the_ray_by_brute_force(small):
    """On noisy data the range of one source is where a bounded scalar search of the dense null spectrum puts it."""
    position = torch.tensor([[[0.5, 0.2, 1.3]]], dtype=torch.float64)
    source = Sources.from_position(position, torch.ones(1, 1).double(), torch.tensor([1]))
    noise = 0.3 * complex_normal(torch.Generator().manual_seed(2), 1, 48, 6)
    covariance = FactoredCovariance.from_factor(torch.cat((fresnel_factor(small, source), noise), dim=-1))
    config = small.replaced(scene={"k_max": 1})
    found = modified_music(covariance, source.k, config).position[0, 0]
    vector = np.linalg.eigh(covariance.dense()[0].numpy())[1][:, -1]

    def null(x):
        a = fresnel_steering_vector(small.array, *(torch.as_tensor(v, dtype=torch.float64) for v in (found[0], found[1], 1.0 / x))).numpy()
        return 48.0 - abs(vector.conj() @ a) ** 2

    lower, upper = (float(limit[2]) for limit in search_box(small.scene))
    edges = np.linspace(lower, upper, 40)
    best = min(
        (
            minimize_scalar(null, bounds=pair, method="bounded", options={"xatol": 1e-10})
            for pair in zip(edges[:-1], edges[1:], strict=True)
        ),
        key=lambda r: r.fun,
    )
    np.testing.assert_allclose(1.0 / float(found[2]), best.x, atol=1e-5)
    elements = element_positions_m(small.array)
    assert bool((elements + elements.flip(0)).abs().max() < 1e-12)


def test_a_count_out_of_range_is_a_readable_error(small):
    covariance = FactoredCovariance.from_factor(complex_normal(torch.Generator().manual_seed(3), 2, 48, 5))
    with pytest.raises(DataError, match=r"k must lie in 0\.\.3 \(scene\.k_max\), got 1\.\.4"):
        modified_music(covariance, torch.tensor([1, 4]), small)
