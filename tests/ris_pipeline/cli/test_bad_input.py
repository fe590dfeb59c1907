"""What users get wrong: one readable sentence, exit code 2, nothing half-written, nothing good overwritten."""

from __future__ import annotations

import json
import math
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from ris_pipeline.cli import main
from ris_pipeline.config import to_toml
from ris_pipeline.model.weights import load_tensors, save_tensors


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None for path in sorted(folder.rglob("*"))}


@dataclass(frozen=True)
class Desk:
    """A folder with a configuration, a copy of the tiny data, a copy of the tiny run, and measurements."""

    folder: Path
    capsys: object

    def __truediv__(self, name):
        return self.folder / name

    def refuses(self, words, message):
        """``ris`` with these words prints one line that matches, returns 2, and leaves the folder as it was."""
        before = contents(self.folder)
        self.capsys.readouterr()
        words = [str(self.folder / word[1:]) if str(word).startswith("@") else str(word) for word in words]
        try:
            code = main(words)
        except SystemExit as done:
            code = done.code
        error = self.capsys.readouterr().err
        assert code == 2, error
        assert error.endswith("\n")
        assert error.count("\n") == 1, error
        assert re.search(message, error.removesuffix("\n")), error
        assert error.startswith("ris: ")
        assert "Traceback" not in error
        assert contents(self.folder) == before


@pytest.fixture
def desk(tiny_settings, tiny_data, tiny_run, tiny_batch, tmp_path, capsys, monkeypatch):
    (tmp_path / "tiny.toml").write_text(to_toml(tiny_settings), encoding="utf-8")
    shutil.copytree(tiny_data, tmp_path / "data")
    shutil.copytree(tiny_run.folder, tmp_path / "run")
    m = tiny_batch.measurements[:2]
    np.savez(tmp_path / "mine.npz", snapshots=m.snapshots.numpy(), channel=m.channel.numpy(), code_index=m.code_index.numpy())
    monkeypatch.chdir(tmp_path)
    return Desk(tmp_path, capsys)


TINY = ("--config", "@tiny.toml")
TRAIN = ("train", "--data", "@data", "--out", "@new", *TINY)
GENERATE = ("generate", "--out", "@new", *TINY)
EVALUATE = ("evaluate", "--data", "@data", "--weights", "@run", "--json", "@new.json", *TINY)
LOCALIZE = ("localize", "@mine.npz", "--weights", "@run", "--json", "@new.json", *TINY)
TUNE = ("tune", "--data", "@data", "--weights", "@run", "--out", "@new.toml", *TINY)
HPO = ("hpo", "--data", "@data", "--out", "@new", *TINY)

WORDS = {
    "no command": ((), r"."),
    "unknown command": (("trian", "--data", "@data"), r"unknown command 'trian', expected one of .*; did you mean 'train'\?$"),
    "unknown flag": ((*TRAIN, "--dta", "x"), r"train: unknown flag '--dta'; did you mean '--data'\?$"),
    "missing flag": (("train", "--data", "@data"), r"train: the following arguments are required: --out"),
    "flag without a value": ((*TRAIN, "--train.epochs"), r"--train\.epochs needs a value$"),
    "a word too many": ((*TRAIN, "what"), r"what"),
    "unknown key": ((*GENERATE, "--train.epocs", "3"), r"unknown configuration key 'train\.epocs' in the command line; did you mean 'train\.epochs'\?$"),
    "unknown section": ((*GENERATE, "--trian.epochs", "3"), r"unknown configuration key 'trian' in the command line; did you mean 'train'\?$"),
    "key of another section": ((*GENERATE, "--model.beta", "0.1"), r"unknown configuration key 'model\.beta' .*; did you mean 'covariance\.beta'\?$"),
    "out of range": ((*GENERATE, "--covariance.beta", "1.5"), r"configuration covariance\.beta in the command line: .* less than or equal to 1, got '1\.5'$"),
    "not a number": ((*TRAIN, "--train.epochs", "many"), r"configuration train\.epochs in the command line: .* got 'many'$"),
    "not finite": ((*TRAIN, "--train.learning_rate", "nan"), r"configuration train\.learning_rate in the command line: .* finite"),
    "contradicting keys": ((*GENERATE, "--scene.k_min", "4"), r"k_min = 4 is above k_max = 3"),
    "no such device": ((*TRAIN, "--train.device", "gpu"), r"train\.device must be auto, cpu or one of the \d+ CUDA devices, got 'gpu'$"),
    "unknown method": ((*EVALUATE, "--method", "musik"), r"unknown method 'musik', expected one of hybrid, .*; did you mean 'music'\?$"),
    "unknown method to localize": ((*LOCALIZE, "--method", "hybird"), r"unknown method 'hybird', .*; did you mean 'hybrid'\?$"),
    "shards that are no range": ((*GENERATE, "--shards", "3"), r"--shards must be A:B with whole numbers, got '3'$"),
    "shards out of range": ((*GENERATE, "--shards", "0:9"), r"--shards must lie within 0:4 and not be empty, got '0:9'$"),
    "no shards": ((*GENERATE, "--shards", "2:2"), r"--shards must lie within 0:4 and not be empty, got '2:2'$"),
    "trials that are no number": ((*HPO, "--trials", "many"), r"configuration hpo\.trials .* got 'many'$"),
    "no trials": ((*HPO, "--trials", "0"), r"configuration hpo\.trials .* greater than 0, got '0'$"),
    "missing configuration": ((*GENERATE, "--config", "@nothing.toml"), r"cannot read the configuration file .*nothing\.toml: No such file"),
    "configuration that is no TOML": ((*GENERATE, "--config", "@mine.npz"), r"mine\.npz is not a TOML file: "),
    "missing best.toml": ((*TRAIN, "--from-hpo", "@best.toml"), r"cannot read the configuration file .*best\.toml: No such file"),
    "fewer training scenes than asked for": ((*TRAIN, "--data.n_train", "1000"), r"expected at least 1000 scenes in split 'train' of .*data, got 256$"),
    "fewer validation scenes than asked for": ((*TRAIN, "--data.n_val", "65"), r"expected at least 65 scenes in split 'val' of .*data, got 64$"),
    "fewer test scenes than asked for": ((*EVALUATE, "--evaluate.scenes", "65"), r"expected at least 65 scenes in split 'test' of .*data, got 64$"),
    "flags that contradict the data": ((*TRAIN, "--codes.snapshots", "4"), r"configuration codes\.snapshots = 4 contradicts the manifest of .*data, which has 8$"),
    "nothing to resume": ((*TRAIN, "--resume"), r"nothing to resume: expected .*last\.safetensors$"),
    "a run that is there": (("train", "--data", "@data", "--out", "@run", *TINY), r"run already holds a run; continue it with --resume or choose another --out$"),
    "resumed with another configuration": (
        ("train", "--data", "@data", "--out", "@run", "--resume", "--train.learning_rate", "0.5", *TINY), r"was trained with another configuration: ",
    ),
    "a run in a file": (("train", "--data", "@data", "--out", "@mine.npz", *TINY), r"expected a folder to write to, got .*mine\.npz, which is a file$"),
    "data in a file": (("generate", "--out", "@mine.npz", *TINY), r"expected a folder to write to, got .*mine\.npz, which is a file$"),
    "a study in a file": (("hpo", "--data", "@data", "--out", "@mine.npz", *TINY), r"expected a folder to write to, got .*mine\.npz, which is a file$"),
    "a report in a file": (("report", "@eval.json", "--out", "@mine.npz"), r"cannot read the evaluation .*eval\.json: No such file"),
    "tuned below a file": ((*TUNE[:-4], "--out", "@mine.npz/tuned.toml", *TINY), r"expected a folder to write to, got .*mine\.npz, which is a file$"),
    "JSON below a file": ((*LOCALIZE[:-4], "--json", "@mine.npz/x.json", *TINY), r"expected a folder to write to, got .*mine\.npz, which is a file$"),
    "storage that is none": ((*HPO, "--storage", "nonsense://x"), r"cannot use 'nonsense://x' as the study's storage: "),
    "no data folder": (("train", "--data", "@nothing", "--out", "@new", *TINY), r"expected a data folder, got .*nothing, which is not a folder$"),
    "no measurements": (("localize", "@nothing.npz", "--weights", "@run", *TINY), r"expected measurements .*nothing\.npz, which is not a file$"),
    "no weights": ((*EVALUATE, "--weights", "@nothing"), r"expected a checkpoint, got .*nothing, which is not a file$"),
    "no weights to tune": ((*TUNE, "--weights", "@data"), r"expected a checkpoint, got .*best\.safetensors, which is not a file$"),
    "weights that are data": ((*EVALUATE, "--weights", "@data/test-00000.safetensors"), r"is not a checkpoint of this program: it carries no record$"),
    "weights that are a resume file": ((*EVALUATE, "--weights", "@run/last.safetensors"), r"has architecture None, expected 'hybrid-2'$"),
    "weights of no format": ((*EVALUATE, "--weights", "@mine.npz"), r"is damaged or not a safetensors file: "),
    "weights for another surface": (("localize", "@mine.npz", "--weights", "@run", "--array.n_h", "8", *TINY), r"is of another architecture: it was trained with array\.n_h = 6, .* has 8$"),
    "not an evaluation": (("report", "@run/best.json", "--out", "@new"), r"is not an evaluation of schema 1 as `ris evaluate --json` writes it$"),
    "not JSON": (("report", "@mine.npz", "--out", "@new"), r"mine\.npz is not JSON: "),
}  # fmt: skip


@pytest.mark.parametrize("case", WORDS)
def test_wrong_words_are_one_sentence(desk, case):
    desk.refuses(*WORDS[case])


# Data.


@pytest.fixture(params=["train", "evaluate", "tune", "hpo"])
def reading(request):
    """Every command that reads shards."""
    return {"train": TRAIN, "evaluate": EVALUATE, "tune": TUNE, "hpo": HPO}[request.param]


def test_an_empty_folder_is_no_data(desk, reading):
    shutil.rmtree(desk / "data")
    (desk / "data").mkdir()
    desk.refuses(reading, r"data holds no manifest\.json; run `ris generate --out .*data` \(again, if it was interrupted\)$")


def shards_of(words):
    """The shard that a command reads first."""
    return {"train": "train", "evaluate": "test", "tune": "val", "hpo": "train"}[words[0]] + "-00000.safetensors"


def test_a_missing_shard_is_named(desk, reading):
    (desk / "data" / shards_of(reading)).unlink()
    desk.refuses(reading, rf"{shards_of(reading)} is missing$|got 0 of the 0 that its shards hold$")


@pytest.mark.parametrize("keep", [0, 5, 200, -1])
def test_a_truncated_shard_is_named(desk, keep):
    path = desk / "data" / "train-00000.safetensors"
    path.write_bytes(path.read_bytes()[:keep])
    desk.refuses(TRAIN, r"train-00000\.safetensors is truncated")


def test_a_truncated_shard_stops_the_search_before_it_starts(desk):
    path = desk / "data" / "val-00000.safetensors"
    path.write_bytes(path.read_bytes()[:-9])
    desk.refuses(HPO, r"val-00000\.safetensors is truncated")


def test_a_foreign_shard_is_named(desk):
    shutil.copy(desk / "data" / "val-00000.safetensors", desk / "data" / "train-00000.safetensors")
    desk.refuses(TRAIN, r"train-00000\.safetensors is foreign: ")


def test_a_file_of_other_tensors_is_named(desk):
    save_file({"weights": torch.zeros(3)}, desk / "data" / "train-00001.safetensors")
    desk.refuses(TRAIN, r"train-00001\.safetensors is foreign: ")


def test_values_that_are_not_finite_are_named(desk):
    from safetensors import safe_open

    path = desk / "data" / "train-00001.safetensors"
    with safe_open(path, framework="pt") as shard:
        metadata = shard.metadata()
    tensors = load_file(path)
    tensors["snapshots"][17, 0, 0] = math.nan
    save_file(tensors, path, metadata)
    desk.refuses(TRAIN, r"train-00001\.safetensors: snapshots of scene 17 is not finite$")


def edit_manifest(desk, change):
    path = desk / "data" / "manifest.json"
    values = json.loads(path.read_text(encoding="utf-8"))
    change(values)
    path.write_text(json.dumps(values), encoding="utf-8")


def test_a_manifest_that_does_not_match_its_hash_is_refused(desk, reading):
    edit_manifest(desk, lambda values: values["config"]["data"].update(seed=9))
    desk.refuses(reading, r"manifest\.json does not match itself: its configuration does not have the recorded SHA-256$")


def test_a_manifest_that_does_not_match_its_counts_is_refused(desk, reading):
    edit_manifest(desk, lambda values: values["splits"]["val"].update(scenes=60))
    desk.refuses(reading, r"manifest\.json does not match itself: split val records 60 scenes, its files hold 64$")


def test_a_manifest_of_another_schema_is_refused(desk, reading):
    edit_manifest(desk, lambda values: values.update(schema_version=2))
    desk.refuses(reading, r"manifest\.json is not a manifest of schema 1: schema_version: ")


def test_a_manifest_that_is_no_json_is_refused(desk, reading):
    (desk / "data" / "manifest.json").write_text("{", encoding="utf-8")
    desk.refuses(reading, r"manifest\.json is not a manifest of schema 1: ")


def test_data_of_another_configuration_are_not_overwritten(desk):
    desk.refuses(
        ("generate", "--out", "@data", "--data.seed", "1", *TINY),
        r"data already holds a data set of another configuration; choose another --out$",
    )


def test_a_search_on_other_data_is_refused(desk):
    assert main([str(desk / w[1:]) if w.startswith("@") else w for w in (*HPO, "--trials", "1")]) == 0
    assert main(["generate", "--out", str(desk / "other"), "--config", str(desk / "tiny.toml"), "--data.seed", "5"]) == 0
    before = (desk / "new" / "best.toml").read_bytes()
    code = main(["hpo", "--data", str(desk / "other"), "--out", str(desk / "new"), "--config", str(desk / "tiny.toml")])
    assert code == 2
    assert re.search(r"ris: study 'ris' was run on other data; choose another --out.*\n$", desk.capsys.readouterr().err)
    assert (desk / "new" / "best.toml").read_bytes() == before


# Weights.


def tampered(desk, change):
    """Rewrite the run's best checkpoint."""
    path = desk / "run" / "best.safetensors"
    tensors, record = load_tensors(path)
    change(tensors, record)
    save_tensors(path, tensors, record)


@pytest.mark.parametrize("words", [EVALUATE, LOCALIZE, TUNE], ids=["evaluate", "localize", "tune"])
class TestWeights:
    """Every command that takes weights."""

    def test_another_architecture_version(self, desk, words):
        tampered(desk, lambda tensors, record: record.update(architecture="hybrid-0"))
        desk.refuses(words, r"best\.safetensors has architecture 'hybrid-0', expected 'hybrid-2'$")

    def test_tensors_of_another_shape(self, desk, words):
        tampered(desk, lambda tensors, record: record["config"]["model"].update(channels=24))
        desk.refuses(words, r"best\.safetensors is of another architecture: expected .* of shape \(.*\), got \(.*\)$")

    def test_weights_that_are_not_finite(self, desk, words):
        tampered(desk, lambda tensors, record: tensors["score_head.bias"].fill_(math.nan))
        desk.refuses(words, r"best\.safetensors is damaged: score_head\.bias is not finite$")

    def test_truncated_weights(self, desk, words):
        path = desk / "run" / "best.safetensors"
        path.write_bytes(path.read_bytes()[:-64])
        desk.refuses(words, r"best\.safetensors is damaged or not a safetensors file: ")

    def test_a_record_of_unknown_keys(self, desk, words):
        tampered(desk, lambda tensors, record: record["config"]["train"].update(epocs=3))
        desk.refuses(words, r"unknown configuration key 'train\.epocs' in .*best\.safetensors; did you mean 'train\.epochs'\?$")


def test_weights_for_other_codes_are_refused(desk):
    """A data set of other codes, and weights that were trained without them."""
    words = ["generate", "--out", str(desk / "other"), "--config", str(desk / "tiny.toml"), "--codes.bits", "2"]
    assert main(words) == 0
    words = ("evaluate", "--data", "@other", "--weights", "@run", "--json", "@new.json")
    desk.refuses(words, r"is of another architecture: it was trained with codes\.bits = 3, .*other has 2$")


# Measurements.


MEASURED = {
    "NaN": ("snapshots", lambda v: v * math.nan, r"mine\.npz: snapshots of scene 0 is not finite$"),
    "another surface": ("channel", lambda v: v[:, :, :9], r"mine\.npz: channel must have shape \[2, 6, 24\], got \[2, 6, 9\]$"),
    "no scenes": ("snapshots", lambda v: v[:0], r"mine\.npz: expected at least one scene, got none$"),
    "codes out of range": ("code_index", lambda v: v + 8, r"mine\.npz: code_index must be below 8, got 1[0-5]$"),
}  # fmt: skip


@pytest.mark.parametrize("case", MEASURED)
def test_bad_measurements_are_one_sentence(desk, case):
    name, spoil, message = MEASURED[case]
    with np.load(desk / "mine.npz") as stored:
        arrays = {key: stored[key] for key in stored.files}
    np.savez(desk / "mine.npz", **(arrays | {name: spoil(arrays[name]).astype(arrays[name].dtype)}))
    desk.refuses(LOCALIZE, message)


def test_a_good_json_is_not_overwritten_by_a_failure(desk):
    (desk / "new.json").write_text("{}", encoding="utf-8")
    (desk / "run" / "best.safetensors").unlink()
    desk.refuses(EVALUATE, r"expected a checkpoint")
    desk.refuses(LOCALIZE, r"expected a checkpoint")
