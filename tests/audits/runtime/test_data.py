"""DATA001 to DATA008: every way to spoil a data folder is reported by its code, and a clean folder passes."""

from __future__ import annotations

import hashlib
import json
import shutil

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file

from audits.runtime import data
from ris_pipeline.config import Config
from ris_pipeline.shards import generate

TRAIN, VAL = "train-00000.safetensors", "val-00000.safetensors"


@pytest.fixture(scope="module")
def clean(tmp_path_factory):
    directory = tmp_path_factory.mktemp("clean") / "data"
    generate(Config().replaced(data={"n_train": 24, "n_val": 8, "n_test": 4, "shard_scenes": 16}), directory)
    return directory


@pytest.fixture
def folder(clean, tmp_path):
    return shutil.copytree(clean, tmp_path / "data")


def read(path):
    with safe_open(path, framework="np") as shard:
        return {name: shard.get_tensor(name) for name in shard.keys()}, shard.metadata()  # noqa: SIM118


def spoil(folder, change, shard=TRAIN):
    """Rewrite a shard and record its new checksum, as a faulty generator would."""
    path = folder / shard
    tensors, metadata = read(path)
    change(tensors)
    save_file({name: np.ascontiguousarray(values) for name, values in tensors.items()}, path, metadata)
    rewrite(folder, lambda manifest: _record(manifest, path))


def _record(manifest, path):
    for split in manifest["splits"].values():
        for entry in split["files"]:
            if entry["name"] == path.name:
                entry["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()


def rewrite(folder, change):
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    change(manifest)
    path.write_text(json.dumps(manifest))


def failed(folder):
    report = data.audit(folder)
    return {result.code: result for result in report.failures}


def test_a_clean_folder_passes(clean, capsys):
    assert data.main([str(clean), "--format=json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert {result["code"] for result in report["results"]} == {f"DATA{i:03d}" for i in range(1, 11)}
    assert report["facts"]["scenes"] == {"train": 24, "val": 8, "test": 4}


def test_a_folder_without_samples_passes(tmp_path):
    generate(Config().replaced(data={"n_train": 4, "n_val": 4, "n_test": 4, "store_sample": False}), tmp_path)
    assert failed(tmp_path) == {}


def test_a_missing_shard(folder):
    (folder / VAL).unlink()
    assert set(failed(folder)) == {"DATA001"}


def test_a_truncated_shard(folder):
    path = folder / VAL
    path.write_bytes(path.read_bytes()[:5000])
    assert set(failed(folder)) == {"DATA001", "DATA002"}


def test_a_changed_byte(folder):
    path = folder / TRAIN
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    assert "DATA002" in failed(folder)


def test_a_tensor_of_another_shape(folder):
    spoil(folder, lambda tensors: tensors.update(symbols=tensors["symbols"][:, :8]))
    assert "symbols" in failed(folder)["DATA001"].message


def test_a_split_of_another_size(folder):
    def shrink(manifest):
        manifest["splits"]["train"]["scenes"] = 16
        del manifest["splits"]["train"]["files"][1]

    rewrite(folder, shrink)
    assert failed(folder)["DATA001"].evidence == {"expected": 24, "got": 16}


def test_a_scene_of_training_in_validation(folder):
    other, _ = read(folder / TRAIN)

    def copy(tensors):
        for name in tensors:
            tensors[name][3] = other[name][5]

    spoil(folder, copy, VAL)
    found = failed(folder)
    assert set(found) == {"DATA003"}
    assert found["DATA003"].subject == f"{VAL}[3]"
    assert found["DATA003"].evidence == {"other": f"{TRAIN}[5]"}


def test_splits_with_one_seed(folder):
    rewrite(folder, lambda manifest: manifest["splits"]["val"].update(seed=manifest["splits"]["train"]["seed"]))
    assert failed(folder)["DATA003"].subject == "seeds"


def test_degrees_for_radians(folder):
    spoil(folder, lambda tensors: tensors.update(azimuth_rad=np.degrees(tensors["azimuth_rad"])))
    assert "azimuth_rad" in failed(folder)["DATA004"].message


def test_empty_slots_that_are_not_zero(folder):
    spoil(folder, lambda tensors: tensors["range_m"].__setitem__(tensors["range_m"] == 0, 1.0))
    assert "empty slots" in failed(folder)["DATA004"].message


def test_powers_of_another_law(folder):
    spoil(folder, lambda tensors: tensors.update(power=np.where(tensors["power"] > 0, np.float32(1.0), np.float32(0.0))))
    assert "power of" in failed(folder)["DATA004"].message


def test_a_clipped_snr_label(folder):
    spoil(folder, lambda tensors: tensors.update(snr_db=tensors["snr_db"].clip(0.0, 10.0)))
    assert "is not the realised one" in failed(folder)["DATA005"].message


def test_labels_that_pile_up_at_an_end(folder):
    spoil(folder, lambda tensors: tensors.update(snr_db=np.full_like(tensors["snr_db"], 20.0)))
    found = [result for result in data.audit(folder).failures if result.code == "DATA004"]
    assert "as clipping would make them" in found[0].message


def test_noise_of_another_variance(folder):
    def halve(tensors):
        tensors["noise_variance"] /= 2
        tensors["snr_db"] += np.float32(10.0 * np.log10(2.0))

    spoil(folder, halve)
    messages = [result.message for result in data.audit(folder).failures if result.code == "DATA005"]
    assert any("does not have the stored variance" in message for message in messages)
    assert any("times its stored variance" in message for message in messages)


def test_labels_in_a_small_part_of_their_interval(folder):
    for shard in sorted(path.name for path in folder.glob("train-*.safetensors")):
        spoil(folder, lambda tensors: tensors.update(elevation_rad=tensors["elevation_rad"] / 20), shard)
    assert "elevation_rad is not uniform" in failed(folder)["DATA009"].message


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t: t.update(channel=1.1 * t["channel"]), "mean power of the channel is"),
        (lambda t: t.update(symbols=np.repeat(t["symbols"][:, :1], t["symbols"].shape[1], axis=1)), "do not send gaussian symbols"),
        (lambda t: t["symbols"].__iadd__(1e-3), "sources that do not exist send symbols"),
        (lambda t: t["code_index"].__setitem__((0, 0, 0), (t["code_index"][0, 0, 0] + 1) % 8), "no beam of the codebook"),
        (lambda t: t["code_index"].__setitem__((0, 0), t["code_index"][0, 1]), "do not show the balanced beams"),
    ],
)
def test_channels_symbols_and_codes_that_are_not_the_models(folder, change, words):
    spoil(folder, change)
    messages = [result.message for result in data.audit(folder).failures if result.code == "DATA010"]
    assert any(words in message for message in messages)


def test_a_conjugated_channel(folder):
    spoil(folder, lambda tensors: tensors.update(channel=tensors["channel"].conj()))
    assert {"DATA005", "DATA006"} <= set(failed(folder))


def test_a_sample_factor_of_zeros(folder):
    spoil(folder, lambda tensors: tensors["sample_factor"].__setitem__(2, 0))
    messages = [result.message for result in data.audit(folder).failures if result.code == "DATA006"]
    assert "all zero" in messages[0]


def test_a_sample_factor_without_its_mean(folder):
    def centre(tensors):
        tensors["sample_factor"] -= tensors["sample_factor"].mean(axis=2, keepdims=True)

    spoil(folder, centre)
    assert "is not the back-projection" in failed(folder)["DATA006"].message


def test_one_k_only(tmp_path):
    generate(Config().replaced(data={"n_train": 48, "n_val": 2, "n_test": 2, "store_sample": False}), tmp_path)
    spoil(tmp_path, lambda tensors: tensors["k"].__setitem__(slice(None), 1))
    assert "occurs 48 times in 48 scenes" in {r.message[6:34]: r for r in data.audit(tmp_path).failures if r.code == "DATA007"}


def test_values_that_are_not_finite(folder):
    spoil(folder, lambda tensors: tensors["snapshots"].__setitem__((1, 0, 0), np.nan))
    found = failed(folder)
    assert set(found) == {"DATA008"}
    assert found["DATA008"].evidence == {"first scene": 1}


@pytest.mark.parametrize("arguments", [[], ["nowhere"]])
def test_no_data_folder_is_the_users_input(arguments, capsys):
    assert data.main(arguments) == 2
    assert capsys.readouterr().err.count("\n") == 1
