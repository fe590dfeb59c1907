"""Files that users bring: what is read, and one readable sentence for everything that is not."""

from __future__ import annotations

import dataclasses
import math
import re

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from ris_pipeline.arrays import Sources
from ris_pipeline.errors import DataError
from ris_pipeline.estimators import least_squares_powers
from ris_pipeline.evaluation import inputs
from ris_pipeline.evaluation.inputs import localization_json, read_input
from ris_pipeline.evaluation.localize import Estimates, with_noise_variance
from ris_pipeline.simulation import simulate


@pytest.fixture(scope="module")
def arrays(tiny_batch):
    """Valid arrays of four scenes."""
    m = tiny_batch.measurements[:4]
    return {
        "snapshots": m.snapshots.numpy(),
        "channel": m.channel.numpy(),
        "code_index": m.code_index.numpy(),
        "snr_db": m.snr_db.numpy(),
        "noise_variance": m.noise_variance.numpy(),
        "k": tiny_batch.sources.k[:4].numpy(),
    }


def npz(folder, arrays):
    np.savez(folder / "input.npz", **arrays)
    return folder / "input.npz"


def safetensors(folder, arrays):
    save_file({name: torch.as_tensor(value).contiguous() for name, value in arrays.items()}, folder / "input.safetensors")
    return folder / "input.safetensors"


@pytest.mark.parametrize("write", [npz, safetensors])
def test_both_formats_give_the_measurements(tiny_config, arrays, tmp_path, write):
    given = read_input(write(tmp_path, arrays), tiny_config)
    measured = given.measurements
    for name in ("snapshots", "channel", "code_index"):
        assert torch.equal(getattr(measured, name), torch.as_tensor(arrays[name]))
    for name in ("snr_db", "noise_variance"):
        torch.testing.assert_close(getattr(measured, name), torch.as_tensor(arrays[name]).double())
    assert torch.equal(given.k, torch.as_tensor(arrays["k"]))
    assert measured.sample_factor is None


def test_only_the_measurements_are_needed(tiny_config, arrays, tmp_path):
    given = read_input(npz(tmp_path, {name: arrays[name] for name in ("snapshots", "channel", "code_index")}), tiny_config)
    assert (given.k, given.measurements.snr_db, given.measurements.noise_variance) == (None, None, None)


def test_one_set_of_codes_serves_all_scenes(tiny_config, arrays, tmp_path):
    given = read_input(npz(tmp_path, arrays | {"code_index": arrays["code_index"][1]}), tiny_config)
    expected = torch.as_tensor(arrays["code_index"][1])
    assert given.measurements.code_index.shape == (4, 8, 24)
    assert all(torch.equal(codes, expected) for codes in given.measurements.code_index)


def test_a_single_value_serves_all_scenes(tiny_config, arrays, tmp_path):
    given = read_input(npz(tmp_path, arrays | {"noise_variance": np.float64(0.5), "k": np.int64(2)}), tiny_config)
    assert given.measurements.noise_variance.tolist() == [0.5] * 4
    assert given.k.tolist() == [2] * 4


def test_the_truth_in_a_shard_is_not_read(tiny_config, tiny_data, monkeypatch):
    """A shard is a valid input, and none of its labels but the stated count comes along."""
    given = read_input(tiny_data / "test-00000.safetensors", tiny_config)
    assert len(given.measurements) == 64
    assert given.measurements.sample_factor is None
    assert {f.name for f in dataclasses.fields(given)} == {"measurements", "k"}


def change(name, value):
    return lambda arrays: arrays | {name: value(arrays[name])}


def spoiled(array, index, value):
    copy = array.copy()
    copy[index] = value
    return copy


BAD = {
    "missing snapshots": (lambda a: {k: v for k, v in a.items() if k != "snapshots"}, r"holds no 'snapshots'; it has channel, .*"),
    "misspelt channel": (
        lambda a: {("chanel" if k == "channel" else k): v for k, v in a.items()},
        r"holds no 'channel'; it has .*; did you mean 'chanel'\?",
    ),
    "no arrays": (lambda a: {}, r"holds no 'snapshots'; it has no arrays"),
    "real snapshots": (change("snapshots", np.real), r": snapshots must be complex, got float32"),
    "real channel": (change("channel", np.real), r": channel must be complex, got float32"),
    "signed codes": (change("code_index", lambda v: v.astype(np.int64)), r": code_index must be uint8, got int64"),
    "snapshots of one scene": (change("snapshots", lambda v: v[0]), r": snapshots must have shape \[S, L, M\], got \[8, 6\]"),
    "scalar snapshots": (change("snapshots", lambda v: v[0, 0, 0]), r": snapshots must have shape \[S, L, M\], got \[\]"),
    "fewer snapshots": (change("snapshots", lambda v: v[:, :7]), r": snapshots must have shape \[4, 8, 6\], got \[4, 7, 6\]"),
    "fewer antennas": (change("snapshots", lambda v: v[:, :, :5]), r": snapshots must have shape \[4, 8, 6\], got \[4, 8, 5\]"),
    "channel of another surface": (change("channel", lambda v: v[:, :, :20]), r": channel must have shape \[4, 6, 24\], got \[4, 6, 20\]"),
    "channel of fewer scenes": (change("channel", lambda v: v[:3]), r": channel must have shape \[4, 6, 24\], got \[3, 6, 24\]"),
    "scalar channel": (change("channel", lambda v: v[0, 0, 0]), r": channel must have shape \[4, 6, 24\], got \[\]"),
    "codes of fewer scenes": (change("code_index", lambda v: v[:3]), r": code_index must have shape \[4, 8, 24\], got \[3, 8, 24\]"),
    "codes of another surface": (change("code_index", lambda v: v[0, :, :9]), r": code_index must have shape \[4, 8, 24\], got \[4, 8, 9\]"),
    "NaN in snapshots": (change("snapshots", lambda v: spoiled(v, (2, 1, 0), math.nan)), r": snapshots of scene 2 is not finite"),
    "infinity in channel": (change("channel", lambda v: spoiled(v, (3, 0, 0), math.inf)), r": channel of scene 3 is not finite"),
    "NaN in the SNR": (change("snr_db", lambda v: spoiled(v, 1, math.nan)), r": snr_db of scene 1 is not finite"),
    "codes out of range": (change("code_index", lambda v: spoiled(v, (0, 0, 0), 8)), r": code_index must be below 8, got 8"),
    "no source": (change("k", lambda v: spoiled(v, 0, 0)), r": k must lie in 1\.\.3, got 0\.\.\d"),
    "too many sources": (change("k", lambda v: spoiled(v, 0, 4)), r": k must lie in 1\.\.3, got \d\.\.4"),
    "half a source": (change("k", lambda v: v + 0.5), r": k must be whole numbers, got \[.*\.5, .*\]"),
    "counts of fewer scenes": (change("k", lambda v: v[:3]), r": k must have shape \[4\], got \[3\]"),
    "complex SNR": (change("snr_db", lambda v: v.astype(np.complex64)), r": snr_db must be real numbers, got complex64"),
    "true or false counts": (change("k", lambda v: v > 1), r": k must be real numbers, got bool"),
    "noise of zero": (change("noise_variance", lambda v: spoiled(v, 0, 0.0)), r": noise_variance must be positive, got 0"),
    "negative noise": (change("noise_variance", lambda v: -v), r": noise_variance must be positive, got -.*"),
    "no scenes": (lambda a: {k: v[:0] for k, v in a.items()}, r": expected at least one scene, got none"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
@pytest.mark.parametrize("write", [npz, safetensors])
def test_bad_input_is_one_readable_sentence(tiny_config, arrays, tmp_path, write, case):
    spoil, message = BAD[case]
    path = write(tmp_path, spoil(arrays))
    with pytest.raises(DataError) as caught:
        read_input(path, tiny_config)
    assert re.fullmatch(re.escape(str(path)) + " ?" + message, str(caught.value)), str(caught.value)


def test_a_missing_file_and_a_folder_are_refused(tiny_config, tmp_path):
    for path in (tmp_path / "nothing.npz", tmp_path):
        with pytest.raises(DataError, match=r"^expected measurements in a \.npz or \.safetensors file, got .*, which is not a file$"):
            read_input(path, tiny_config)


def test_another_suffix_is_refused(tiny_config, tmp_path):
    (tmp_path / "input.mat").write_bytes(b"MATLAB 5.0")
    with pytest.raises(DataError, match=r"^expected measurements in a \.npz or \.safetensors file, got .*input\.mat$"):
        read_input(tmp_path / "input.mat", tiny_config)


@pytest.mark.parametrize("name", ["input.npz", "input.safetensors"])
@pytest.mark.parametrize("content", [b"", b"not an archive at all", b"PK\x03\x04 cut", None])
def test_damaged_files_are_refused(tiny_config, arrays, tmp_path, name, content):
    path = tmp_path / name
    if content is None:
        whole = (npz if name.endswith("npz") else safetensors)(tmp_path, arrays)
        content = whole.read_bytes()[: whole.stat().st_size // 2]
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"input\.(npz|safetensors) is damaged or not an? (\.npz|safetensors) file"):
        read_input(path, tiny_config)


def test_pickled_objects_are_never_loaded(tiny_config, arrays, tmp_path):
    path = npz(tmp_path, arrays | {"snapshots": np.array([{"a": 1}], dtype=object)})
    with pytest.raises(DataError, match=r"is damaged or not an \.npz file of plain arrays"):
        read_input(path, tiny_config)


def test_text_arrays_are_refused(tiny_config, arrays, tmp_path):
    path = npz(tmp_path, arrays | {"snapshots": np.array(["one", "two"])})
    with pytest.raises(DataError, match=r"is damaged or not an \.npz file of plain arrays"):
        read_input(path, tiny_config)


# Noise variance.


def test_a_stated_noise_variance_is_kept(tiny_config, tiny_batch):
    assert with_noise_variance(tiny_batch.measurements, tiny_config) is tiny_batch.measurements


def test_the_noise_variance_follows_from_a_stated_snr(tiny_config):
    """Where the SNR is that of the realised clean power, the result is the true variance up to the noise's own fluctuation."""
    measured = simulate(tiny_config, 200, torch.Generator().manual_seed(0)).measurements
    filled = with_noise_variance(dataclasses.replace(measured, noise_variance=None), tiny_config)
    ratio = filled.noise_variance / measured.noise_variance
    assert abs(float(ratio.mean()) - 1.0) < 0.03
    power = measured.snapshots.abs().square().mean(dim=(1, 2))
    torch.testing.assert_close(power / filled.noise_variance - 1.0, 10.0 ** (measured.snr_db / 10.0))


def test_the_noise_variance_is_estimated_where_nothing_is_stated(tiny_config):
    measured = simulate(tiny_config.replaced(scene={"k_max": 3}), 24, torch.Generator().manual_seed(0)).measurements
    bare = dataclasses.replace(measured, noise_variance=None, snr_db=None)
    ratio = with_noise_variance(bare, tiny_config).noise_variance / measured.noise_variance
    assert torch.isfinite(ratio).all()
    assert 0.3 < float(ratio.median()) < 2.0


# What is written.


def test_localizations_are_in_degrees_decibels_and_null_for_what_does_not_exist(tiny_config, tiny_batch, monkeypatch):
    position = torch.tensor([[[0.5, -0.25, 2.0], [0.1, 0.2, 3.0]], [[0.3, 0.0, 9.0], [0.0, 0.0, 0.0]]], dtype=torch.float64)
    power = torch.tensor([[0.1, 1.0], [10.0, 0.0]], dtype=torch.float64)
    std = torch.full((2, 2, 3), 0.01, dtype=torch.float64)
    std[1, 0] = torch.tensor([math.nan, math.inf, 0.5])
    monkeypatch.setattr(inputs, "least_squares_powers", lambda *_: power)
    monkeypatch.setattr(inputs, "position_std", lambda *_: std)
    sources = Sources.from_position(position, power, torch.tensor([2, 1]))
    estimates = Estimates(sources, torch.tensor([0.75, math.nan]))
    document = localization_json("music", estimates, tiny_batch.measurements[:2], tiny_config)
    assert (document["schema_version"], document["method"]) == (1, "music")
    assert [(scene["k"], scene["k_confidence"], len(scene["sources"])) for scene in document["scenes"]] == [(2, 0.75, 2), (1, None, 1)]
    degree = 180.0 / math.pi
    assert document["scenes"][0]["sources"][0] == pytest.approx(
        {
            "azimuth_deg": 0.5 * degree,
            "elevation_deg": -0.25 * degree,
            "range_m": 2.0,
            "power_db": -10.0,
            "azimuth_std_deg": 0.01 * degree,
            "elevation_std_deg": 0.01 * degree,
            "range_std_m": 0.01,
        }
    )
    assert document["scenes"][1]["sources"][0] == {
        "azimuth_deg": pytest.approx(0.3 * degree),
        "elevation_deg": 0.0,
        "range_m": 9.0,
        "power_db": pytest.approx(10.0),
        "azimuth_std_deg": None,
        "elevation_std_deg": None,
        "range_std_m": 0.5,
    }


def test_the_true_count_of_a_shard_is_not_used(tiny_config, arrays, tmp_path):
    """A file with positions is a shard, and its k is a label, not something that a user knows."""
    assert read_input(npz(tmp_path, arrays), tiny_config).k is not None
    assert read_input(npz(tmp_path, arrays | {"azimuth_rad": np.zeros((4, 3))}), tiny_config).k is None


@pytest.mark.parametrize("name", ["snapshots", "channel"])
@pytest.mark.parametrize("scale", [0.0, 1e-40])
def test_a_scene_without_power_is_refused(tiny_config, arrays, tmp_path, name, scale):
    dark = arrays[name].copy()
    dark[2] *= scale
    with pytest.raises(DataError, match=rf"{name} of scene 2 are zero$"):
        read_input(npz(tmp_path, arrays | {name: dark}), tiny_config)


def test_powers_are_those_of_the_amplitudes_at_the_true_positions(tiny_config):
    """Noise-free snapshots of known amplitudes: the mean squared amplitude of each source, whatever the method called its power."""
    scenes = simulate(tiny_config.replaced(scene={"snr_min_db": 200.0, "snr_max_db": 200.0}), 6, torch.Generator().manual_seed(4))
    expected = scenes.sources.power * scenes.symbols.abs().square().mean(dim=1)
    wrong = dataclasses.replace(scenes.sources, power=torch.rand(expected.shape, dtype=torch.float64))
    torch.testing.assert_close(least_squares_powers(scenes.measurements, wrong, tiny_config), expected, rtol=1e-6, atol=1e-9)
