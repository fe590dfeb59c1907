"""Speed of the estimators: default surface and field of view, names state batch size and grid, every result is checked.

Run with ``python -m pytest benchmarks/bench_estimators.py``; ``extra_info`` holds scenes/s, the ratio to the rival where there is
one, and the number of threads.
"""

from __future__ import annotations

import math
import time

import numpy as np
import pytest
import torch

from ris_pipeline.back_projection import sample_factor
from ris_pipeline.bounds import crb_deterministic, position_std
from ris_pipeline.config import Config
from ris_pipeline.covariance import FactoredCovariance, build_effective_covariance
from ris_pipeline.estimators import (
    bartlett,
    grid_of,
    maximum_likelihood,
    modified_music,
    music,
    music_angles_first,
    mvdr,
    null_spectrum,
    omp,
    refine,
)
from ris_pipeline.estimators.music import signal_subspace
from ris_pipeline.simulation import simulate, true_factor

CONFIG = Config()
ONE_DEGREE = CONFIG.replaced(estimate={"grid_azimuth_deg": 1.0, "grid_elevation_deg": 1.0})
assert grid_of(CONFIG).shape == (41, 21, 6)


@pytest.fixture(scope="module", params=[1, 2], ids=["1 thread", "2 threads"])
def threads(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def scenes():
    return simulate(CONFIG, 32, torch.Generator().manual_seed(1))


def record(benchmark, count, threads):
    benchmark.extra_info.update(
        scenes_per_second=round(count / benchmark.stats["mean"], 2), threads=threads, torch=torch.__version__, scenes=count
    )


def exact(scenes):
    return build_effective_covariance(FactoredCovariance.from_factor(true_factor(CONFIG.array, scenes.sources)))


def worst_error(estimate, truth):
    """Largest distance of a true source from the nearest estimate, in rad and m together."""
    gap = (estimate.position[:, :, None] - truth.position[:, None]).abs().amax(dim=-1)
    nearest = torch.where(estimate.mask[:, :, None], gap, torch.inf).amin(dim=1)
    return float(nearest[truth.mask].max())


@pytest.mark.parametrize("config", [CONFIG, ONE_DEGREE], ids=["grid 3deg x 3deg x 6", "grid 1deg x 1deg x 6"])
def test_music_32_scenes_exact_covariance(benchmark, scenes, threads, config):
    covariance = exact(scenes)
    grid_of(config)
    estimate = benchmark.pedantic(music, args=(covariance, scenes.sources.k, config), rounds=3, warmup_rounds=1)
    assert worst_error(estimate, scenes.sources) < 1e-6
    record(benchmark, 32, threads)


SPECTRAL = {"music": music, "angles first": music_angles_first, "modified music": modified_music, "mvdr": mvdr, "bartlett": bartlett}


@pytest.mark.parametrize("method", SPECTRAL)
@pytest.mark.parametrize("config", [CONFIG, ONE_DEGREE], ids=["grid 3deg x 3deg x 6", "grid 1deg x 1deg x 6"])
def test_spectral_32_scenes_sample_covariance(benchmark, scenes, threads, config, method):
    covariance = build_effective_covariance(
        FactoredCovariance.from_factor(sample_factor(scenes.measurements, CONFIG)), diagonal_loading=1e-3
    )
    estimate = benchmark.pedantic(SPECTRAL[method], args=(covariance, scenes.sources.k, config), rounds=3, warmup_rounds=1)
    assert bool(torch.isfinite(estimate.position).all())
    assert torch.equal(estimate.k, scenes.sources.k)
    record(benchmark, 32, threads)


def test_omp_32_scenes_grid_3deg_x_3deg_x_6(benchmark, scenes, threads):
    estimate = benchmark.pedantic(omp, args=(scenes.measurements, CONFIG, scenes.sources.k), rounds=3, warmup_rounds=1)
    assert torch.equal(estimate.k, scenes.sources.k)
    record(benchmark, 32, threads)


def test_null_spectrum_32_scenes_grid_3deg_x_3deg_x_6_against_dense_noise_subspace(benchmark, scenes, threads):
    """The rival is the textbook scan: an N x N eigendecomposition and |E_n^H a|^2 over all cells, in NumPy."""
    covariance = exact(scenes)
    k = scenes.sources.k
    values = benchmark.pedantic(lambda: null_spectrum(signal_subspace(covariance, k, 5), CONFIG), rounds=3, warmup_rounds=1).flatten(1)
    steering = grid_of(CONFIG).steering.numpy()
    dense = covariance.dense()[:4].numpy()
    started = time.perf_counter()
    rival = [np.sum(np.abs(steering.conj() @ np.linalg.eigh(R)[1][:, : 144 - int(k[b])]) ** 2, axis=1) / 144 for b, R in enumerate(dense)]
    rival_s = (time.perf_counter() - started) / 4
    np.testing.assert_allclose(values[:4].numpy(), rival, atol=1e-4)
    record(benchmark, 32, threads)
    benchmark.extra_info.update(rival="dense NumPy scan", ratio=round(rival_s * 32 / benchmark.stats["mean"], 1))
    assert benchmark.extra_info["ratio"] > 0


@pytest.mark.parametrize("known", [True, False], ids=["K known", "K unknown"])
def test_ml_32_scenes_grid_3deg_x_3deg_x_6(benchmark, scenes, threads, known):
    k = scenes.sources.k if known else None
    result = benchmark.pedantic(maximum_likelihood, args=(scenes.measurements, CONFIG, k), rounds=1, warmup_rounds=0)
    genie = refine(scenes.measurements, scenes.sources, CONFIG)
    reached = result.rss.gather(1, scenes.sources.k[:, None])[:, 0] <= 1.001 * genie.rss
    assert float(reached.double().mean()) > 0.7
    record(benchmark, 32, threads)
    benchmark.extra_info.update(reaches_genie_likelihood=float(reached.double().mean()))


def test_refinement_from_the_truth_32_scenes(benchmark, scenes, threads):
    refined = benchmark.pedantic(refine, args=(scenes.measurements, scenes.sources, CONFIG), rounds=3, warmup_rounds=1)
    degrees_of_freedom = 256 - 17.5 * scenes.sources.k
    assert float((refined.rss / scenes.measurements.noise_variance / degrees_of_freedom).mean()) == pytest.approx(1.0, abs=0.1)
    record(benchmark, 32, threads)


def test_position_std_32_scenes(benchmark, scenes, threads):
    std = benchmark.pedantic(position_std, args=(scenes.measurements, scenes.sources, CONFIG), rounds=3, warmup_rounds=1)
    bound = crb_deterministic(scenes.measurements, scenes.sources, scenes.symbols, CONFIG).diagonal(dim1=1, dim2=2).sqrt()
    ratio = (std.flatten(1) / bound)[scenes.sources.mask.repeat_interleave(3, dim=1)]
    assert math.isclose(float(ratio.median()), 1.0, abs_tol=0.15)
    record(benchmark, 32, threads)
