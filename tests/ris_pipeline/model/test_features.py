"""The pursuit in front of the network, against a dense least-squares reference."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from ris_pipeline.back_projection import with_sample_factor
from ris_pipeline.config import Config
from ris_pipeline.model import PursuitFeatures
from ris_pipeline.model.features import cell_index, coarse_axes, range_from_fraction
from ris_pipeline.simulation import simulate

FLOOR = 1e-4
PARTS = ("maps", "residual", "excess", "description_length")


@pytest.fixture(scope="module")
def pursuit(tiny_config):
    return PursuitFeatures(tiny_config)


@pytest.fixture(scope="module")
def measured(tiny_config):
    """30 scenes with the sample factor left out."""
    return simulate(tiny_config, 30, torch.Generator().manual_seed(8)).measurements.to(torch.complex64)


def share_left(features):
    return features.residual.exp() - FLOOR


def test_the_residual_never_rises_with_the_rounds(pursuit, measured):
    left = share_left(pursuit(measured))
    assert left.shape == (30, 4)
    torch.testing.assert_close(left[:, 0], torch.ones(30))
    assert (left[:, 1:] <= left[:, :-1] + 1e-5).all()
    assert (left[:, 1] < 0.95).all()
    assert (left >= -1e-6).all()


def test_the_residual_is_that_of_dense_least_squares_on_the_same_atoms(tiny_config, pursuit, measured, monkeypatch):
    """The chosen cells are taken down; each snapshot is then fitted anew with numpy, jointly over all of its atoms."""
    spectra, real = [], pursuit.spectrum

    def watched(field):
        spectra.append(real(field))
        return spectra[-1]

    monkeypatch.setattr(pursuit, "spectrum", watched)
    left = share_left(pursuit(measured)).double().numpy()
    chosen = torch.stack([spectrum.argmax(dim=1) for spectrum in spectra[:3]], dim=1).numpy()
    grid = pursuit.grid.to(torch.complex128).numpy()
    codes = np.exp(2j * np.pi * measured.code_index.numpy() / 8)
    channel, snapshots = measured.channel.to(torch.complex128).numpy(), measured.snapshots.to(torch.complex128).numpy()
    for scene in range(30):
        energy = np.sum(np.abs(snapshots[scene]) ** 2)
        for rounds in (1, 2, 3):
            rss = 0.0
            for snapshot, code in zip(snapshots[scene], codes[scene], strict=True):
                atoms = channel[scene] @ (code[:, None] * grid[chosen[scene, :rounds]].T)
                fit, *_ = np.linalg.lstsq(atoms, snapshot, rcond=None)
                rss += np.sum(np.abs(snapshot - atoms @ fit) ** 2)
            assert left[scene, rounds] == pytest.approx(rss / energy, abs=2e-4), (scene, rounds)


def test_the_first_map_is_the_matched_filter_on_the_grid(tiny_config, pursuit, measured):
    """10 log10 of sum_l |a^H conj(c_l) H^H y_l|^2 over its peak, in units of 10 dB; its largest cell is the first atom."""
    features = pursuit(measured[:3])
    codes = np.exp(2j * np.pi * measured.code_index[:3].numpy() / 8)
    field = codes.conj() * (measured.snapshots[:3].numpy() @ measured.channel[:3].numpy().conj())
    spectrum = (np.abs(np.einsum("gn,bln->bgl", pursuit.grid.numpy().conj(), field)) ** 2).sum(axis=2)
    expected = np.log10(spectrum / spectrum.max(axis=1, keepdims=True) + FLOOR) + 1.0
    maps = features.maps.unflatten(1, (3, 2))[:, 0].movedim(1, -1).flatten(1)
    np.testing.assert_allclose(maps.numpy(), expected, rtol=2e-3, atol=2e-3)


def test_the_map_of_a_strong_source_peaks_in_its_cell(tiny_config, pursuit):
    """The grid and the maps have the same axes: azimuth, elevation, range. The channel is rich, so that it shapes no spectrum."""
    config = tiny_config.replaced(
        array={"bs_antennas": 64},
        channel={"rician_min": 0.0, "rician_max": 0.0},
        scene={"k_max": 1, "snr_min_db": 30.0, "snr_max_db": 30.0},
    )
    scenes = simulate(config, 60, torch.Generator().manual_seed(0))
    maps = PursuitFeatures(config)(scenes.measurements.to(torch.complex64)).maps.unflatten(1, (2, 2))[:, 0].amax(dim=1)
    peak = maps.flatten(1).argmax(dim=1)
    azimuth = cell_index(scenes.sources.azimuth_rad[:, 0], config.scene.azimuth_max_rad, 12)
    elevation = cell_index(scenes.sources.elevation_rad[:, 0], config.scene.elevation_max_rad, 8)
    near = ((peak // 8 - azimuth).abs() <= 1) & ((peak % 8 - elevation).abs() <= 1)
    assert near.float().mean() > 0.9


def test_description_lengths_are_relative_to_their_smallest_and_follow_rissanen(pursuit, measured):
    features = pursuit(measured)
    assert torch.equal(features.description_length.amin(dim=1), torch.zeros(30))
    total, k = 8 * 6, np.arange(4)
    scores = features.residual.double().numpy() + (2 * 8 + 3) * k * np.log(2 * total) / (2 * total)
    np.testing.assert_allclose(features.description_length.numpy(), scores - scores.min(axis=1, keepdims=True), atol=1e-4)


def test_the_excess_of_pure_noise_is_zero_before_any_round(tiny_config, pursuit, measured):
    g = torch.Generator().manual_seed(1)
    noise = torch.randn(30, 8, 6, dtype=torch.complex64, generator=g)
    features = pursuit(dataclasses.replace(measured, snapshots=noise, noise_variance=torch.ones(30)))
    assert abs(float(features.excess[:, 0].mean())) < 0.05
    blind = pursuit(dataclasses.replace(measured, noise_variance=None))
    assert torch.equal(blind.excess, torch.zeros_like(blind.excess))
    assert torch.equal(blind.maps, pursuit(measured).maps)


def test_without_a_sample_the_pursuit_starts_at_the_matched_filter_and_with_one_elsewhere(pursuit, tiny_batch):
    with_sample = pursuit(tiny_batch.measurements).maps.unflatten(1, (3, 2))
    without = pursuit(dataclasses.replace(tiny_batch.measurements, sample_factor=None)).maps.unflatten(1, (3, 2))
    assert torch.equal(without[:, 0], without[:, 2])
    assert torch.equal(with_sample[:, 2], without[:, 2])
    assert not torch.equal(with_sample[:, 0], without[:, 0])


def test_with_a_sample_the_residual_is_that_of_dense_least_squares_on_the_surface(tiny_config, pursuit, measured, monkeypatch):
    """Fields and atoms are projected on the rows of each snapshot's operator H diag(c), built and inverted densely with numpy."""
    sampled = with_sample_factor(measured[:8], tiny_config)
    spectra, real = [], pursuit.spectrum

    def watched(field):
        spectra.append(real(field))
        return spectra[-1]

    monkeypatch.setattr(pursuit, "spectrum", watched)
    left = share_left(pursuit(sampled)).double().numpy()
    chosen = torch.stack([spectrum.argmax(dim=1) for spectrum in spectra[:3]], dim=1).numpy()
    grid = pursuit.grid.to(torch.complex128).numpy()
    codes = np.exp(2j * np.pi * sampled.code_index.numpy() / 8)
    channel, factor = sampled.channel.to(torch.complex128).numpy(), sampled.sample_factor.to(torch.complex128).numpy()
    for scene in range(8):
        energy = np.sum(np.abs(factor[scene]) ** 2)
        for rounds in (1, 2, 3):
            rss = 0.0
            for snapshot, code in enumerate(codes[scene]):
                operator = channel[scene] * code
                atoms = np.linalg.pinv(operator) @ operator @ grid[chosen[scene, :rounds]].T
                field = factor[scene, :, snapshot]
                fit, *_ = np.linalg.lstsq(atoms, field, rcond=None)
                rss += np.sum(np.abs(field - atoms @ fit) ** 2)
            assert left[scene, rounds] == pytest.approx(rss / energy, abs=3e-4), (scene, rounds)


def test_the_sample_shows_a_source_that_the_line_of_sight_hides(tiny_config):
    """On the default surface with a strong line of sight, the first pick is next to a lone source; on raw snapshots it seldom is."""
    config = Config().replaced(
        scene={"k_max": 1, "snr_min_db": 15.0}, channel={"rician_min": 5.0}, model=tiny_config.model.model_dump(mode="json")
    )
    scenes = simulate(config, 60, torch.Generator().manual_seed(3))
    sampled = with_sample_factor(scenes.measurements, config).to(torch.complex64)
    pursuit = PursuitFeatures(config)
    share = []
    for measurements in (sampled, dataclasses.replace(sampled, sample_factor=None)):
        peak = pursuit(measurements).maps.unflatten(1, (2, 2))[:, 0].amax(dim=1).flatten(1).argmax(dim=1)
        azimuth = cell_index(scenes.sources.azimuth_rad[:, 0], config.scene.azimuth_max_rad, 12)
        elevation = cell_index(scenes.sources.elevation_rad[:, 0], config.scene.elevation_max_rad, 8)
        share.append(float((((peak // 8 - azimuth).abs() <= 1) & ((peak % 8 - elevation).abs() <= 1)).float().mean()))
    assert share[0] > 0.85
    assert share[1] < 0.5


def test_the_excess_of_back_projected_noise_is_zero_before_any_round(tiny_config, pursuit, measured):
    noise = torch.randn(30, 8, 6, dtype=torch.complex64, generator=torch.Generator().manual_seed(1))
    only_noise = dataclasses.replace(measured, snapshots=noise, noise_variance=torch.ones(30))
    features = pursuit(with_sample_factor(only_noise, tiny_config))
    assert abs(float(features.excess[:, 0].mean())) < 0.1


@pytest.mark.parametrize("scale", [1e-12, 1e-6, 1e6, 1e12])
def test_features_are_finite_and_the_same_at_every_scale(pursuit, measured, scale):
    reference = pursuit(measured)
    other = pursuit(dataclasses.replace(measured, snapshots=measured.snapshots * scale, noise_variance=measured.noise_variance * scale**2))
    for name in PARTS:
        assert torch.isfinite(getattr(other, name)).all()
        torch.testing.assert_close(getattr(other, name), getattr(reference, name), rtol=1e-3, atol=2e-3)


@pytest.mark.parametrize("case", ["silence", "one snapshot only", "no noise", "one source on the grid"])
def test_features_are_finite_on_degenerate_scenes(tiny_config, pursuit, measured, case):
    snapshots, noise = measured.snapshots.clone(), measured.noise_variance
    if case == "silence":
        snapshots.zero_()
    elif case == "one snapshot only":
        snapshots[:, 1:] = 0.0
    elif case == "no noise":
        noise = torch.full_like(noise, 1e-20)
    else:
        codes = torch.polar(torch.ones(()), 2 * torch.pi * measured.code_index.float() / 8)
        snapshots = (codes * pursuit.grid[7]) @ measured.channel.transpose(1, 2)
    features = pursuit(dataclasses.replace(measured, snapshots=snapshots, noise_variance=noise))
    assert all(torch.isfinite(getattr(features, name)).all() for name in PARTS)


@pytest.mark.parametrize(("maps", "expected"), [(1, 2), (2, 3), (9, 4)])
def test_the_number_of_maps_is_that_of_the_rounds_drawn_and_the_sample(tiny_config, tiny_batch, maps, expected):
    pursuit = PursuitFeatures(tiny_config.replaced(model={"pursuit_maps": maps}))
    assert pursuit.n_maps == expected * 2
    assert pursuit(tiny_batch.measurements).maps.shape == (12, expected * 2, 12, 8)


def test_the_coarse_axes_are_centres_of_cells_that_fill_the_domain(tiny_config):
    azimuth_rad, elevation_rad, inverse_range = coarse_axes(tiny_config)
    scene = tiny_config.scene
    for axis, limit in ((azimuth_rad, scene.azimuth_max_rad), (elevation_rad, scene.elevation_max_rad)):
        step = axis.diff()
        torch.testing.assert_close(step, step[:1].expand_as(step))
        assert float(axis[0] - step[0] / 2) == pytest.approx(-limit)
        assert float(axis[-1] + step[0] / 2) == pytest.approx(limit)
        assert torch.equal(cell_index(axis, limit, len(axis)), torch.arange(len(axis)))
    assert ((1.0 / inverse_range > scene.range_min_m) & (1.0 / inverse_range < scene.range_max_m)).all()
    ends = range_from_fraction(torch.tensor([0.0, 0.5, 1.0], dtype=torch.float64), scene)
    assert ends.tolist() == pytest.approx([0.5, (0.5 * 10.0) ** 0.5, 10.0])
