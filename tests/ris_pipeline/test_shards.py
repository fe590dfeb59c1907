"""Data sets on disk: round trip, atomic and resumable writing, disjoint splits, and one readable sentence for every bad folder."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from ris_pipeline.config import Config, digest
from ris_pipeline.errors import DataError
from ris_pipeline.shards import MappedScenes, MemoryScenes, generate, open_split, read_manifest
from ris_pipeline.shards import write as writing
from ris_pipeline.shards.manifest import plan_shards, split_seed
from ris_pipeline.shards.read import available_scenes
from ris_pipeline.shards.write import file_sha256, shard_tensors
from ris_pipeline.simulation import simulate

SMALL = Config().replaced(
    array={"n_h": 3, "n_v": 2, "bs_antennas": 3},
    codes={"beams_h": 2, "beams_v": 2, "snapshots": 4},
    scene={"k_max": 3},
    data={"n_train": 25, "n_val": 10, "n_test": 5, "shard_scenes": 10},
)
NAMES = ["test-00000", "train-00000", "train-00001", "train-00002", "val-00000"]
CPU = torch.device("cpu")


@pytest.fixture(scope="session")
def pristine(tmp_path_factory):
    """A complete small data set that no test changes."""
    folder = tmp_path_factory.mktemp("shards") / "data"
    generate(SMALL, folder)
    return folder


@pytest.fixture
def data(pristine, tmp_path):
    """A copy that a test may damage."""
    return shutil.copytree(pristine, tmp_path / "data")


def contents(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def tensors_of(batch):
    measurements, sources = batch.measurements, batch.sources
    return {
        **{
            name: getattr(measurements, name)
            for name in ("snapshots", "channel", "code_index", "snr_db", "noise_variance", "sample_factor")
        },
        **{name: getattr(sources, name) for name in ("azimuth_rad", "elevation_rad", "range_m", "power", "k")},
        "symbols": batch.symbols,
    }


def assert_equal_batches(first, second):
    one, two = tensors_of(first), tensors_of(second)
    assert all(torch.equal(one[name], two[name]) for name in one)


def damage_shard(path, **tensors):
    """Rewrite a shard with some tensors replaced and its metadata kept."""
    with safe_open(path, framework="pt") as shard:
        metadata = shard.metadata()
    save_file(load_file(path) | tensors, path, metadata)


def edit_manifest(folder, change):
    path = folder / "manifest.json"
    values = json.loads(path.read_text(encoding="utf-8"))
    change(values)
    path.write_text(json.dumps(values), encoding="utf-8")


# Round trip.


def test_shards_hold_exactly_what_was_simulated(pristine):
    """Every split equals the scenes of its shards' own generators, in single precision."""
    manifest = read_manifest(pristine)
    for split in ("train", "val", "test"):
        stored = tensors_of(open_split(pristine, manifest, split).batch(torch.arange(manifest.splits[split].scenes)))
        start = 0
        for plan in (plan for plan in plan_shards(SMALL) if plan.split == split):
            expected = shard_tensors(plan, SMALL, CPU)
            assert all(torch.equal(stored[name][start : start + plan.scenes], tensor) for name, tensor in expected.items())
            start += plan.scenes
        assert start == len(stored["k"])


def test_shard_tensors_are_the_simulation_in_single_precision():
    plan = plan_shards(SMALL)[0]
    tensors = shard_tensors(plan, SMALL, CPU)
    scenes = simulate(SMALL, plan.scenes, torch.Generator().manual_seed(plan.stream))
    assert torch.equal(tensors["snapshots"], scenes.measurements.snapshots.to(torch.complex64))
    assert torch.equal(tensors["channel"], scenes.measurements.channel.to(torch.complex64))
    assert torch.equal(tensors["code_index"], scenes.measurements.code_index)
    assert torch.equal(tensors["symbols"], scenes.symbols.to(torch.complex64))
    assert torch.equal(tensors["snr_db"], scenes.measurements.snr_db.float())
    assert torch.equal(tensors["azimuth_rad"], scenes.sources.azimuth_rad.float())
    assert torch.equal(tensors["k"], scenes.sources.k)


def test_files_names_shapes_and_types_are_those_of_the_design(pristine):
    assert [path.stem for path in sorted(pristine.glob("*.safetensors"))] == NAMES
    tensors = load_file(pristine / "train-00000.safetensors")
    expected = {
        "snapshots": ((10, 4, 3), torch.complex64),
        "channel": ((10, 3, 6), torch.complex64),
        "code_index": ((10, 4, 6), torch.uint8),
        "symbols": ((10, 4, 3), torch.complex64),
        "sample_factor": ((10, 6, 4), torch.complex64),
        "azimuth_rad": ((10, 3), torch.float32),
        "elevation_rad": ((10, 3), torch.float32),
        "range_m": ((10, 3), torch.float32),
        "power": ((10, 3), torch.float32),
        "k": ((10,), torch.int64),
        "snr_db": ((10,), torch.float32),
        "noise_variance": ((10,), torch.float32),
    }
    assert {name: (tuple(tensor.shape), tensor.dtype) for name, tensor in tensors.items()} == expected
    empty = torch.arange(3) >= tensors["k"][:, None]
    assert all((tensors[name][empty] == 0).all() for name in ("azimuth_rad", "elevation_rad", "range_m", "power"))


def test_a_scene_of_the_default_sizes_takes_at_most_45_kilobytes(tmp_path):
    config = Config().replaced(data={"n_train": 30, "n_val": 1, "n_test": 1})
    generate(config, tmp_path / "data")
    tensors = load_file(tmp_path / "data" / "train-00000.safetensors")
    assert (tmp_path / "data" / "train-00000.safetensors").stat().st_size <= 30 * 45_000
    assert not any(list(tensor.shape).count(144) > 1 for tensor in tensors.values())


def test_manifest_describes_the_data(pristine):
    raw = json.loads((pristine / "manifest.json").read_text(encoding="utf-8"))
    assert {"schema_version", "generator_version", "config", "config_sha256", "splits"} <= set(raw)
    assert raw["schema_version"] == 1
    assert raw["config"] == SMALL.data_part()
    assert raw["config_sha256"] == digest(SMALL.data_part())
    assert raw["snr_db"] == [SMALL.scene.snr_min_db, SMALL.scene.snr_max_db]
    assert {name: split["scenes"] for name, split in raw["splits"].items()} == {"train": 25, "val": 10, "test": 5}
    assert {name: split["seed"] for name, split in raw["splits"].items()} == {n: split_seed(0, n) for n in ("train", "val", "test")}
    for split in raw["splits"].values():
        for entry in split["files"]:
            assert entry["sha256"] == hashlib.sha256((pristine / entry["name"]).read_bytes()).hexdigest()
            assert entry["scenes"] == len(load_file(pristine / entry["name"])["k"])
    assert read_manifest(pristine).to_config().data_part() == SMALL.data_part()


def test_manifest_hash_identifies_the_data_set(pristine, data):
    assert read_manifest(data).sha256() == read_manifest(pristine).sha256()
    edit_manifest(data, lambda raw: raw["splits"]["val"]["files"][0].update(sha256="0" * 64))
    assert read_manifest(data).sha256() != read_manifest(pristine).sha256()


@settings(max_examples=15)
@given(st.lists(st.integers(0, 24), min_size=1, max_size=30))
def test_both_kinds_of_storage_give_the_same_scenes_in_any_order(pristine, index):
    manifest = read_manifest(pristine)
    mapped, kept = (open_split(pristine, manifest, "train", storage=storage) for storage in ("mmap", "memory"))
    assert isinstance(mapped, MappedScenes)
    assert isinstance(kept, MemoryScenes)
    assert len(mapped) == len(kept) == 25
    rows = torch.tensor(index)
    assert_equal_batches(mapped.batch(rows), kept.batch(rows))
    single = mapped.batch(rows[:1])
    assert len(single) == 1
    assert torch.equal(single.measurements.snapshots[0], mapped.batch(torch.arange(25)).measurements.snapshots[index[0]])


@pytest.mark.parametrize("storage", ["mmap", "memory"])
def test_a_count_takes_the_first_scenes(pristine, storage):
    manifest = read_manifest(pristine)
    part = open_split(pristine, manifest, "train", count=13, storage=storage)
    assert len(part) == 13
    whole = open_split(pristine, manifest, "train")
    assert_equal_batches(part.batch(torch.arange(13)), whole.batch(torch.arange(13)))


def test_a_count_needs_only_the_shards_that_hold_it(data):
    (data / "train-00002.safetensors").unlink()
    manifest = read_manifest(data)
    assert available_scenes(data, manifest, "train") == 20
    assert len(open_split(data, manifest, "train", count=20).batch(torch.arange(20))) == 20
    with pytest.raises(DataError, match=r"train-00002\.safetensors is missing$"):
        open_split(data, manifest, "train", count=21)


def test_scenes_behind_a_missing_shard_are_not_available(data):
    manifest = read_manifest(data)
    assert {split: available_scenes(data, manifest, split) for split in ("train", "val", "test")} == {
        "train": 25,
        "val": 10,
        "test": 5,
    }
    (data / "train-00000.safetensors").unlink()
    assert available_scenes(data, manifest, "train") == 0


def test_shards_are_mapped_and_not_read_whole(pristine):
    maps = Path("/proc/self/maps")
    if not maps.exists():
        pytest.skip("needs /proc/self/maps, which only Linux has")
    scenes = open_split(pristine, read_manifest(pristine), "train")
    for _ in range(2):
        scenes.batch(torch.tensor([12]))
        assert str(pristine / "train-00001.safetensors") in maps.read_text(encoding="utf-8")


def test_shards_without_a_sample_factor_have_none(tmp_path):
    config = SMALL.replaced(data={"store_sample": False})
    manifest = generate(config, tmp_path / "data")
    assert "sample_factor" not in load_file(tmp_path / "data" / "train-00000.safetensors")
    batch = open_split(tmp_path / "data", manifest, "train").batch(torch.tensor([3, 14]))
    assert batch.measurements.sample_factor is None


# Writing: atomic, resumable, reproducible.


def test_generating_twice_gives_the_same_bytes(pristine, tmp_path):
    generate(SMALL, tmp_path / "again")
    assert contents(tmp_path / "again") == contents(pristine)


def test_generation_returns_the_manifest_that_it_wrote(tmp_path):
    assert generate(SMALL, tmp_path / "data") == read_manifest(tmp_path / "data")


def test_another_seed_gives_other_scenes(pristine, tmp_path):
    generate(SMALL.replaced(data={"seed": 1}), tmp_path / "other")
    for name in NAMES:
        one, other = (load_file(folder / f"{name}.safetensors") for folder in (pristine, tmp_path / "other"))
        assert not torch.equal(one["snapshots"], other["snapshots"])


def test_shards_of_a_range_complete_each_other(pristine, tmp_path):
    """Machines that each write a part leave the same folder as one that writes all, whatever their order."""
    folder = tmp_path / "data"
    assert generate(SMALL, folder, first=3) is None
    assert sorted(path.stem for path in folder.iterdir()) == ["test-00000", "val-00000"]
    assert generate(SMALL, folder, first=0, last=1) is None
    assert generate(SMALL, folder, first=1, last=3) is not None
    assert contents(folder) == contents(pristine)


def test_one_missing_shard_is_regenerated_alone(pristine, data):
    before = {path.name: path.stat().st_mtime_ns for path in data.glob("*.safetensors")}
    (data / "train-00001.safetensors").unlink()
    reports = []
    generate(SMALL, data, progress=lambda plan, written: reports.append((plan.name, written)))
    assert contents(data) == contents(pristine)
    assert {name for name, written in reports if written} == {"train-00001.safetensors"}
    assert len(reports) == 5
    for name, stamp in before.items():
        if name != "train-00001.safetensors":
            assert (data / name).stat().st_mtime_ns == stamp


class KilledError(BaseException):
    """Stands for the end of the process."""


@pytest.mark.parametrize("shard", [0, 2, 4])
def test_a_killed_write_leaves_no_file_with_a_final_name_and_can_be_resumed(pristine, tmp_path, monkeypatch, shard):
    folder = tmp_path / "data"
    started = []

    def dies_half_way(tensors, path, metadata):
        save_file(tensors, path, metadata)
        started.append(path)
        if len(started) == shard + 1:
            whole = path.read_bytes()
            path.write_bytes(whole[: len(whole) // 2])
            raise KilledError

    monkeypatch.setattr(writing, "save_file", dies_half_way)
    with pytest.raises(KilledError):
        generate(SMALL, folder)
    monkeypatch.undo()
    final = sorted(folder.glob("*.safetensors"))
    assert len(final) == shard
    assert all(path.read_bytes() == (pristine / path.name).read_bytes() for path in final)
    assert not (folder / "manifest.json").exists()
    with pytest.raises(DataError, match=r"holds no manifest.json; run `ris generate --out .*` \(again, if it was interrupted\)"):
        read_manifest(folder)
    generate(SMALL, folder)
    assert contents(folder) == contents(pristine)


def test_a_manifest_that_was_never_written_is_made_up_for(pristine, data):
    (data / "manifest.json").unlink()
    generate(SMALL, data)
    assert contents(data) == contents(pristine)


def test_a_shard_cut_short_under_its_final_name_is_redone(pristine, data):
    """A full disk or a broken copy can leave one; its header still says that it belongs here."""
    path = data / "train-00001.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    (data / "manifest.json").unlink()
    generate(SMALL, data)
    assert contents(data) == contents(pristine)


def test_an_empty_range_of_shards_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"^expected a range of shards within 0:5, got 5:, which is empty$"):
        generate(SMALL, tmp_path / "data", first=5)
    with pytest.raises(DataError, match=r"^expected a range of shards within 0:5, got 3:3, which is empty$"):
        generate(SMALL, tmp_path / "data", first=3, last=3)
    assert not (tmp_path / "data").exists()


def test_other_data_are_not_overwritten(pristine, data):
    other = SMALL.replaced(data={"seed": 7})
    with pytest.raises(DataError, match=r"already holds a data set of another configuration; choose another --out$"):
        generate(other, data)
    assert contents(data) == contents(pristine)
    (data / "manifest.json").unlink()
    before = contents(data)
    with pytest.raises(DataError, match=r"train-00000\.safetensors belongs to another data set; choose another --out$"):
        generate(other, data)
    assert contents(data) == before


def test_a_file_is_not_a_folder_to_write_to(tmp_path):
    path = tmp_path / "file"
    path.write_text("kept", encoding="utf-8")
    with pytest.raises(DataError, match=f"^expected a folder to write to, got {re.escape(str(path))}, which is a file$"):
        generate(SMALL, path)
    assert path.read_text(encoding="utf-8") == "kept"


def test_settings_that_do_not_concern_the_data_do_not_forbid_resuming(pristine, data):
    (data / "val-00000.safetensors").unlink()
    generate(SMALL.replaced(train={"epochs": 3}, covariance={"beta": 0.9}), data)
    assert contents(data) == contents(pristine)


def test_generation_leaves_the_global_random_state_alone(tmp_path):
    before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    generate(SMALL, tmp_path / "data")
    assert torch.equal(before[0], torch.get_rng_state())
    assert np.array_equal(before[1], np.random.get_state()[1])  # noqa: NPY002


# Streams.

SIZES = st.fixed_dictionaries(
    {
        "n_train": st.integers(1, 400),
        "n_val": st.integers(1, 400),
        "n_test": st.integers(1, 400),
        "shard_scenes": st.integers(1, 50),
        "seed": st.integers(0, 2**63),
    }
)


@given(SIZES)
def test_no_two_shards_share_a_stream_whatever_the_sizes(sizes):
    plans = plan_shards(SMALL.replaced(data=sizes))
    assert len({plan.stream for plan in plans}) == len(plans)
    assert len({plan.name for plan in plans}) == len(plans)
    for split in ("train", "val", "test"):
        chosen = [plan.scenes for plan in plans if plan.split == split]
        assert sum(chosen) == sizes[f"n_{split}"]
        assert all(scenes == sizes["shard_scenes"] for scenes in chosen[:-1])


@given(st.integers(0, 2**63))
def test_every_split_records_a_seed_of_its_own(seed):
    seeds = {split_seed(seed, split) for split in ("train", "val", "test")}
    assert len(seeds) == 3
    assert all(0 <= value < 2**53 for value in seeds)  # every reader of JSON keeps it exact


@given(SIZES, SIZES)
def test_the_stream_of_a_shard_depends_on_seed_split_and_index_alone(first, second):
    one, two = (
        {(plan.split, plan.index): plan.stream for plan in plan_shards(SMALL.replaced(data=sizes | {"seed": first["seed"]}))}
        for sizes in (first, second)
    )
    assert all(one[key] == two[key] for key in one.keys() & two.keys())


@given(st.lists(st.integers(0, 2**63), min_size=2, max_size=2, unique=True))
def test_other_seeds_share_no_stream(seeds):
    one, two = ({plan.stream for plan in plan_shards(SMALL.replaced(data={"seed": seed}))} for seed in seeds)
    assert not one & two


def scene_hashes(tensors):
    """One hash per scene of what identifies it: its channel and the positions in it."""
    return [
        {hashlib.sha256(tensors[name][row].numpy().tobytes()).hexdigest() for row in range(len(tensors[name]))}
        for name in ("channel", "azimuth_rad", "symbols")
    ]


@pytest.mark.parametrize("sizes", [(60, 60, 60, 20), (150, 10, 10, 150), (3, 70, 41, 7), (1, 1, 1, 1)])
def test_splits_share_no_scene_whatever_the_sizes(tmp_path, sizes):
    """Seeds such as seed + i and seed + 123 + i would overlap as soon as a split is longer than the offset."""
    n_train, n_val, n_test, shard_scenes = sizes
    config = SMALL.replaced(data={"n_train": n_train, "n_val": n_val, "n_test": n_test, "shard_scenes": shard_scenes})
    generate(config, tmp_path / "data")
    hashes = [scene_hashes(load_file(path)) for path in sorted((tmp_path / "data").glob("*.safetensors"))]
    for kind in range(3):
        distinct = set().union(*(shard[kind] for shard in hashes))
        assert len(distinct) == n_train + n_val + n_test


def test_streams_stay_apart_where_the_generator_reads_only_32_bits_of_its_seed():
    """The CPU generator of torch ignores the upper half of a 64-bit seed; the lower halves of many shards meet by chance.

    With this seed and these sizes, the last shards of val and test did: one validation scene was a test scene.
    """
    config = SMALL.replaced(data={"n_train": 1, "n_val": 11_447, "n_test": 10_152, "shard_scenes": 1, "seed": 12})
    groups = {}
    for plan in plan_shards(config):
        groups.setdefault(plan.stream % 2**32, []).append(plan)
    for plans in groups.values():
        drawn = [shard_tensors(plan, config, CPU)["channel"] for plan in plans] if len(plans) > 1 else []
        assert not any(torch.equal(one, other) for one, other in pairwise(drawn))


# Bad folders.


def refused(folder, message, split="train", **options):
    """Opening a split fails with one sentence that matches ``message``."""
    with pytest.raises(DataError, match=message) as raised:
        open_split(folder, read_manifest(folder), split, **options).batch(torch.arange(5))
    assert "\n" not in str(raised.value)


def test_a_folder_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"^expected a data folder, got .*none, which is not a folder$"):
        read_manifest(tmp_path / "none")


def test_an_empty_folder_is_refused(tmp_path):
    with pytest.raises(DataError, match=r" holds no manifest\.json; run `ris generate --out "):
        read_manifest(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is not a manifest of schema 1: the file: Invalid JSON"),
        ("[]", "is not a manifest of schema 1: the file: "),
        ("{}", "is not a manifest of schema 1: generator_version: Field required"),
    ],
)
def test_a_manifest_that_is_none_is_refused(data, content, message):
    (data / "manifest.json").write_text(content, encoding="utf-8")
    with pytest.raises(DataError, match=message) as raised:
        read_manifest(data)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda raw: raw.update(schema_version=2), "is not a manifest of schema 1: schema_version: "),
        (lambda raw: raw.update(more=1), "is not a manifest of schema 1: more: "),
        (
            lambda raw: raw["config"]["scene"].update(k_max=4),
            "does not match itself: its configuration does not have the recorded SHA-256",
        ),
        (
            lambda raw: raw["splits"]["train"].update(scenes=26),
            "does not match itself: split train records 26 scenes, its files hold 25",
        ),
        (
            lambda raw: raw["splits"]["val"]["files"][0].update(sha256="x"),
            r"is not a manifest of schema 1: splits\.val\.files\.0\.sha256: ",
        ),
    ],
)
def test_a_manifest_that_contradicts_itself_is_refused(data, change, message):
    edit_manifest(data, change)
    with pytest.raises(DataError, match=message):
        read_manifest(data)


def test_a_missing_shard_is_refused(data):
    (data / "train-00001.safetensors").unlink()
    refused(data, r"^shard .*train-00001\.safetensors is missing$")


@pytest.mark.parametrize("kept", [-1, -1000])
def test_a_truncated_shard_is_refused_before_anything_is_read(data, kept):
    path = data / "train-00001.safetensors"
    size = path.stat().st_size
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(DataError, match=rf"train-00001\.safetensors is truncated: expected {size} bytes, got {size + kept}$"):
        open_split(data, read_manifest(data), "train")


@pytest.mark.parametrize("size", [0, 4, 300])
def test_a_shard_cut_within_its_header_is_refused(data, size):
    path = data / "train-00000.safetensors"
    path.write_bytes(path.read_bytes()[:size])
    refused(data, rf"is truncated or not a safetensors file: {size} bytes are too few for its header$")


@pytest.mark.parametrize("header", [b"not json", b"[]", b'{"k": 3}', b'{"k": {"dtype": "F32"}}', b"\xff\xff"])
def test_a_file_of_another_format_is_refused(data, header):
    (data / "train-00000.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
    refused(data, r"train-00000\.safetensors is not a safetensors file: its header cannot be read$")


def test_a_file_that_only_looks_like_a_shard_is_refused(data):
    (data / "train-00000.safetensors").write_bytes(b"PK\x03\x04" + bytes(5000))
    refused(data, r"train-00000\.safetensors is (truncated or )?not a safetensors file")


def test_a_shard_of_another_data_set_is_refused(data, tmp_path):
    generate(SMALL.replaced(data={"seed": 5}), tmp_path / "other")
    shutil.copy(tmp_path / "other" / "train-00000.safetensors", data)
    refused(data, r"train-00000\.safetensors is foreign: it is not shard 0 of split .train. of the manifest.s data set$")


def test_a_shard_of_another_split_is_refused(data):
    """Training scenes under a validation name would leak without a trace: same configuration, same shapes."""
    shutil.copy(data / "train-00000.safetensors", data / "val-00000.safetensors")
    refused(data, r"val-00000\.safetensors", split="val")


def test_a_shard_in_the_place_of_another_is_refused(data):
    shutil.copy(data / "train-00000.safetensors", data / "train-00001.safetensors")
    refused(data, r"train-00001\.safetensors")


def test_a_shard_of_another_size_is_refused(data):
    path = data / "train-00000.safetensors"
    damage_shard(path, **{name: tensor[:9].clone() for name, tensor in load_file(path).items()})
    refused(data, r"train-00000\.safetensors does not match the manifest: expected .* got .*9")


def test_a_shard_without_one_of_its_tensors_is_refused(data):
    path = data / "train-00000.safetensors"
    with safe_open(path, framework="pt") as shard:
        metadata = shard.metadata()
    tensors = load_file(path)
    del tensors["symbols"]
    save_file(tensors, path, metadata)
    refused(data, r"train-00000\.safetensors does not match the manifest: expected symbols of .*, got None$")


def test_a_shard_of_another_precision_is_refused(data):
    path = data / "train-00000.safetensors"
    damage_shard(path, snr_db=load_file(path)["snr_db"].double())
    refused(data, r"does not match the manifest: expected snr_db of .*F32.*, got .*F64")


@pytest.mark.parametrize("storage", ["mmap", "memory"])
@pytest.mark.parametrize("name", ["snapshots", "channel", "sample_factor", "symbols", "range_m", "snr_db"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_value_that_is_not_finite_is_refused(data, storage, name, value):
    path = data / "train-00000.safetensors"
    tensor = load_file(path)[name]
    tensor[3] = value
    damage_shard(path, **{name: tensor})
    refused(data, rf"train-00000\.safetensors: {name} of scene 3 is not finite$", storage=storage)


@pytest.mark.parametrize("storage", ["mmap", "memory"])
def test_an_all_zero_sample_factor_is_refused(data, storage):
    path = data / "train-00000.safetensors"
    factor = load_file(path)["sample_factor"]
    factor[2] = 0
    damage_shard(path, sample_factor=factor)
    refused(data, r"train-00000\.safetensors: the sample factor of scene 2 is all zero$", storage=storage)


def test_a_changed_byte_is_seen_by_the_checksum(data):
    manifest = read_manifest(data)
    entry = manifest.splits["train"].files[0]
    path = data / entry.name
    assert file_sha256(path) == entry.sha256
    changed = bytearray(path.read_bytes())
    changed[-1] ^= 1
    path.write_bytes(changed)
    assert file_sha256(path) != entry.sha256


@pytest.mark.parametrize("storage", ["mmap", "memory"])
def test_fewer_scenes_than_asked_for_are_refused(pristine, storage):
    with pytest.raises(DataError, match=r"^expected at least 26 scenes in split 'train' of .*, got 25$"):
        open_split(pristine, read_manifest(pristine), "train", count=26, storage=storage)


def test_a_split_that_is_not_there_is_refused(data):
    edit_manifest(data, lambda raw: raw["splits"].pop("val"))
    with pytest.raises(DataError, match=r"has no split 'val'; it has (train, test|test, train)$"):
        open_split(data, read_manifest(data), "val")


def test_a_changed_byte_is_found_when_the_split_is_read_into_memory(data):
    path = data / "train-00000.safetensors"
    raw = bytearray(path.read_bytes())
    raw[-1] ^= 1
    path.write_bytes(raw)
    refused(data, r"train-00000\.safetensors is damaged: its SHA-256 is not the manifest's$", storage="memory")
