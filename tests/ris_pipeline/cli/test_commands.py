"""The ``ris`` commands on the tiny data set, in order, as a user runs them."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

from audits import static
from audits.static.errors import AuditIncompleteError
from ris_pipeline.cli import commands, main
from ris_pipeline.cli import quickstart as quickstart_module
from ris_pipeline.config import keys, load_config, read_toml, to_toml
from ris_pipeline.errors import DivergedError
from ris_pipeline.evaluation.localize import METHODS
from ris_pipeline.model import load_model
from ris_pipeline.shards import read_manifest

SOURCE = {"azimuth_deg", "elevation_deg", "range_m", "power_db", "azimuth_std_deg", "elevation_std_deg", "range_std_m"}


def ris(*argv):
    """Exit code of ``ris`` with these words."""
    try:
        return main([str(word) for word in argv])
    except SystemExit as done:
        return done.code


def contents(folder):
    """Every file below a folder, with its bytes."""
    return {path.relative_to(folder): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@dataclass(frozen=True)
class Line:
    """The whole line, command after command; ``codes`` holds the exit code of each."""

    folder: Path
    toml: Path
    codes: dict

    def __truediv__(self, name):
        return self.folder / name


@pytest.fixture(scope="module")
def line(tiny_settings, tmp_path_factory):
    """Generate, search, train, tune, evaluate, localize and report, once."""
    folder = tmp_path_factory.mktemp("line")
    toml = folder / "tiny.toml"
    toml.write_text(to_toml(tiny_settings), encoding="utf-8")
    (data, study, run) = (folder / name for name in ("data", "study", "run"))
    common = ("--config", toml)
    commands_in_order = {
        "generate": ("generate", "--out", data),
        "hpo": ("hpo", "--data", data, "--out", study, "--trials", 1),
        "train": ("train", "--data", data, "--out", run, "--from-hpo", study / "best.toml", "--data.n_train", 64, "--data.n_val", 32),
        "tune": ("tune", "--data", data, "--weights", run, "--out", folder / "tuned.toml", "--data.n_val", 32),
        "evaluate": ("evaluate", "--data", data, "--weights", run, "--json", folder / "evaluation.json", "--evaluate.scenes", 24),
        "localize": (
            "localize", data / "test-00000.safetensors", "--weights", run, "--method", "network", "--json", folder / "localization.json",
        ),
        "report": ("report", folder / "evaluation.json", "--run", run, "--out", folder / "report"),
    }  # fmt: skip
    codes = {name: ris(*words, *common) for name, words in commands_in_order.items()}
    return Line(folder, toml, codes)


def test_every_command_of_the_line_succeeds(line):
    assert line.codes == dict.fromkeys(line.codes, 0)
    assert len(line.codes) == 7


def test_generate_writes_the_manifest_of_the_configuration(line, tiny_config):
    manifest = read_manifest(line / "data")
    assert manifest.config == tiny_config.data_part()
    assert {name: split.scenes for name, split in manifest.splits.items()} == {"train": 256, "val": 64, "test": 64}


def test_train_takes_the_best_of_the_search_and_what_stands_in_flags(line):
    best = read_toml(line / "study" / "best.toml")
    checkpoint = load_model(line / "run")
    for section, values in best.items():
        for key, value in values.items():
            assert getattr(getattr(checkpoint.config, section), key) == value
    assert (checkpoint.config.data.n_train, checkpoint.config.data.n_val) == (64, 32)
    assert checkpoint.record["manifest_sha256"] == read_manifest(line / "data").sha256()


def test_the_result_of_a_run_says_objective(line):
    result = json.loads((line / "run" / "result.json").read_text(encoding="utf-8"))
    assert result["schema_version"] == 1
    assert result["val_primary"] == "k_loc"
    assert result["objective"] == min(entry["objective"] for entry in result["history"])
    assert result["objective"] == load_model(line / "run").record["objective"]


def test_tune_writes_a_configuration_that_evaluate_takes(line):
    tuned = load_config([line.toml, line / "tuned.toml"])
    assert read_toml(line / "tuned.toml").keys() == {"covariance", "estimate"}
    assert 0.0 <= tuned.covariance.beta <= 0.6
    words = ("--method", "network", "--evaluate.scenes", 8, "--config", line.toml, line / "tuned.toml")
    assert ris("evaluate", "--data", line / "data", "--weights", line / "run", *words) == 0


def test_evaluate_scores_every_method_unless_some_are_named(line):
    document = json.loads((line / "evaluation.json").read_text(encoding="utf-8"))
    assert (document["scenes"], tuple(document["methods"])) == (24, METHODS)


def test_evaluate_prints_methods_and_bounds(line, capsys):
    words = ("--method", "music", "music", "--evaluate.scenes", 8, "--config", line.toml)
    assert ris("evaluate", "--data", line / "data", *words) == 0
    printed = capsys.readouterr().out
    assert "music" in printed
    assert re.search(r"genie.*detection", printed, re.DOTALL)
    assert "network" not in printed


def test_evaluate_says_whether_an_audit_vouches_for_it(line, tmp_path, capsys):
    words = ("evaluate", "--data", line / "data", "--method", "music", "--evaluate.scenes", 8, "--config", line.toml)
    out = tmp_path / "evaluation.json"
    assert ris(*words, "--json", out) == 0
    assert "not audited" in " ".join(capsys.readouterr().out.split())
    made = json.loads(out.read_text())["attestation"]["subject"]
    audit = tmp_path / "audit-report.json"
    for changes, status in (({}, "attested"), ({"manifest_sha256": "0" * 64}, "does not match")):
        audit.write_text(json.dumps({"attestation": {"passed": True, **made, **changes}}))
        assert ris(*words, "--json", out, "--audit", audit) == 0
        assert json.loads(out.read_text())["attestation"]["status"] == status
    assert "AUDIT DOES NOT MATCH: data" in " ".join(capsys.readouterr().out.split())
    assert ris("report", out, "--out", tmp_path / "report") == 0
    assert "AUDIT DOES NOT MATCH" in (tmp_path / "report" / "report.md").read_text()


def test_localize_writes_the_schema_of_the_design(line):
    document = json.loads((line / "localization.json").read_text(encoding="utf-8"))
    assert document.keys() == {"schema_version", "method", "scenes"}
    assert (document["schema_version"], document["method"], len(document["scenes"])) == (1, "network", 64)
    for scene in document["scenes"]:
        assert scene.keys() == {"k", "k_confidence", "sources"}
        assert scene["k"] == len(scene["sources"]) >= 1
        assert 0.0 < scene["k_confidence"] <= 1.0
        for source in scene["sources"]:
            assert source.keys() == SOURCE
            assert abs(source["azimuth_deg"]) <= 60.001
            assert abs(source["elevation_deg"]) <= 30.001
            assert 0.4999 <= source["range_m"] <= 10.001
            assert all(value is None or isinstance(value, float) for value in source.values())


@pytest.fixture
def measurements(line, tiny_batch, tmp_path):
    """Three scenes as a user would bring them, without noise level, count or back-projection."""
    m = tiny_batch.measurements[:3]
    arrays = {"snapshots": m.snapshots.numpy(), "channel": m.channel.numpy(), "code_index": m.code_index.numpy()}
    np.savez(tmp_path / "mine.npz", **arrays)
    return tmp_path / "mine.npz", arrays


@pytest.mark.parametrize("method", METHODS)
def test_localize_takes_bare_measurements_with_every_method(line, measurements, tmp_path, method):
    out = tmp_path / "found.json"
    assert ris("localize", measurements[0], "--weights", line / "run", "--method", method, "--json", out, "--config", line.toml) == 0
    document = json.loads(out.read_text(encoding="utf-8"))
    assert (document["method"], len(document["scenes"])) == (method, 3)
    confident = [scene["k_confidence"] is not None for scene in document["scenes"]]
    assert confident == [method in ("hybrid", "network")] * 3


def test_the_default_method_is_hybrid_and_a_stated_count_is_kept(line, measurements, tmp_path):
    path, arrays = measurements
    np.savez(path, **arrays, k=np.array([3, 1, 2]))
    out = tmp_path / "found.json"
    assert ris("localize", path, "--weights", line / "run", "--json", out, "--config", line.toml) == 0
    document = json.loads(out.read_text(encoding="utf-8"))
    assert document["method"] == "hybrid"
    assert [scene["k"] for scene in document["scenes"]] == [3, 1, 2]


def test_localize_sees_the_blend_that_evaluate_sees(line, tmp_path):
    """The sample covariance of a shard is recomputed from its snapshots, so the network's answer is the one on the shard."""
    out = tmp_path / "found.json"
    shard = line / "data" / "test-00000.safetensors"
    assert ris("localize", shard, "--weights", line / "run", "--method", "network", "--json", out, "--config", line.toml) == 0
    document = json.loads(out.read_text(encoding="utf-8"))
    from ris_pipeline.evaluation.localize import localize
    from ris_pipeline.shards import open_split

    checkpoint = load_model(line / "run")
    batch = open_split(line / "data", read_manifest(line / "data"), "test").batch(torch.arange(64))
    found = localize(batch.measurements, checkpoint.config, "network", checkpoint.model, batch.sources.k).sources
    first = [scene["sources"][0]["azimuth_deg"] for scene in document["scenes"]]
    assert np.allclose(first, torch.rad2deg(found.azimuth_rad[:, 0]).tolist(), atol=1e-2)


def test_a_run_is_continued_with_resume_only(line, tmp_path, capsys):
    run = shutil.copytree(line / "run", tmp_path / "run")
    words = ("train", "--data", line / "data", "--out", run, "--from-hpo", line / "study" / "best.toml", "--data.n_train", 64,
             "--data.n_val", 32, "--config", line.toml)  # fmt: skip
    before = contents(run)
    assert ris(*words) == 2
    assert re.fullmatch(r"ris: .*run already holds a run; continue it with --resume or choose another --out\n", capsys.readouterr().err)
    assert contents(run) == before
    assert ris(*words, "--resume") == 0
    assert (run / "best.safetensors").read_bytes() == before[Path("best.safetensors")]


def test_a_study_is_continued_until_it_has_its_trials(line, tmp_path):
    import optuna

    study = shutil.copytree(line / "study", tmp_path / "study")
    words = ("hpo", "--data", line / "data", "--out", study, "--config", line.toml)
    assert ris(*words, "--trials", 1) == 0
    assert len(optuna.load_study(study_name="ris", storage=f"sqlite:///{study / 'study.db'}").trials) == 1
    assert ris(*words, "--hpo.trials", 2) == 0
    assert len(optuna.load_study(study_name="ris", storage=f"sqlite:///{study / 'study.db'}").trials) == 2


def test_checkpoint_and_study_carry_the_verdict_on_the_code_that_made_them(line):
    import optuna

    verdict = static.preflight(Path(static.__file__).parents[2], static.TABLES / "ris_pipeline.toml").record
    assert verdict["status"] == "proved"
    assert load_model(line / "run").record["preflight"] == verdict
    study = optuna.load_study(study_name="ris", storage=f"sqlite:///{line / 'study' / 'study.db'}")
    assert study.user_attrs["preflight"] == verdict


@pytest.mark.parametrize("command", ["train", "hpo"])
def test_a_preflight_with_findings_stops_the_command(line, tmp_path, monkeypatch, capsys, command):
    found = static.Verdict("violated", "0" * 64, ("ris_pipeline/losses.py:1: HOT001 [solve] is on the hot path",), ("HOT001",))
    monkeypatch.setattr(commands.static, "preflight", lambda root, table: found)
    words = (command, "--data", line / "data", "--out", tmp_path / "out", "--config", line.toml)
    assert ris(*words) == 1
    told = capsys.readouterr().out
    assert "ris_pipeline/losses.py:1: HOT001 [solve] is on the hot path" in told
    assert "--no-preflight" in told
    assert not (tmp_path / "out").exists() or not any((tmp_path / "out").iterdir())


def test_the_preflight_can_be_skipped_and_that_is_recorded(line, tmp_path, monkeypatch):
    monkeypatch.setattr(commands.static, "preflight", None)
    words = ("train", "--data", line / "data", "--out", tmp_path / "out", "--config", line.toml, "--train.epochs", 1)
    assert ris(*words, "--no-preflight") == 0
    assert load_model(tmp_path / "out").record["preflight"] == {"status": "skipped"}


def test_a_preflight_that_cannot_be_completed_is_exit_code_3(line, tmp_path, monkeypatch, capsys):
    def broken(root, table):
        raise AuditIncompleteError("the analyser stopped")

    monkeypatch.setattr(commands.static, "preflight", broken)
    assert ris("train", "--data", line / "data", "--out", tmp_path / "out", "--config", line.toml) == 3
    assert "the analyser stopped" in capsys.readouterr().err


def test_shards_made_in_two_goes_equal_those_of_one(line, tmp_path, capsys):
    out = tmp_path / "data"
    assert ris("generate", "--out", out, "--shards", "1:3", "--config", line.toml) == 0
    assert "the manifest is written once all of them are there" in " ".join(capsys.readouterr().out.split())
    assert sorted(path.name for path in out.iterdir()) == ["train-00001.safetensors", "val-00000.safetensors"]
    assert ris("generate", "--out", out, "--config", line.toml) == 0
    assert contents(out) == contents(line / "data")


def test_doctor_lists_every_key_with_its_default(capsys, monkeypatch):
    monkeypatch.setattr(commands.console, "width", 200)
    assert ris("doctor", "--keys") == 0
    printed = capsys.readouterr().out
    assert all(key in printed for key in keys())
    assert "100000" in printed


def test_doctor_tests_the_installed_weights(capsys):
    assert ris("doctor") == 0
    assert re.search(r"default weights: objective [\d.]+; self-test localized \d+ sources", " ".join(capsys.readouterr().out.split()))


def test_quickstart_leaves_everything_and_passes_on_what_the_audits_say(line, tmp_path, monkeypatch, capsys):
    """The whole line on the tiny settings; the audits are watched, not run."""
    asked = []

    def audits(argv):
        asked.append(argv)
        return 1

    monkeypatch.setattr(quickstart_module, "audits", audits)
    small = ("--hpo.trials", 1, "--evaluate.scenes", 8, "--hpo.subset_fraction", 0.25, "--train.epochs", 1)
    assert ris("quickstart", "--out", tmp_path / "quick", "--config", line.toml, *small) == 1
    assert len(asked) == 1
    assert asked[0][0] == "all"
    left = {path.name for path in (tmp_path / "quick").iterdir()}
    assert {"data", "study", "run", "tuned.toml", "evaluation.json", "localization.json", "report"} <= left
    assert "hybrid" in capsys.readouterr().out


# The end of a run that did not go well.


def test_divergence_is_one_sentence_and_exit_code_3(line, tmp_path, monkeypatch, capsys):
    def diverged(self):
        raise DivergedError("k", 12)

    monkeypatch.setattr(commands.Trainer, "fit", diverged)
    assert ris("train", "--data", line / "data", "--out", tmp_path / "run", "--config", line.toml) == 3
    assert capsys.readouterr().err == "ris: training diverged: k is not finite at optimizer step 12\n"


def test_an_unforeseen_error_is_a_traceback_and_exit_code_3(line, tmp_path, monkeypatch, capsys):
    def broken(*arguments):
        raise RuntimeError("a bug in the program")

    monkeypatch.setattr(commands, "run_localize", broken)
    shard = line / "data" / "test-00000.safetensors"
    words = ("--method", "music", "--json", tmp_path / "out.json", "--config", line.toml)
    assert ris("localize", shard, *words) == 3
    error = capsys.readouterr().err
    assert error.startswith("Traceback (most recent call last):")
    assert "RuntimeError: a bug in the program" in error
    assert list(tmp_path.iterdir()) == []


def test_an_interruption_is_exit_code_3_without_a_traceback(line, tmp_path, monkeypatch, capsys):
    def interrupted(self):
        raise KeyboardInterrupt

    monkeypatch.setattr(commands.Trainer, "fit", interrupted)
    assert ris("train", "--data", line / "data", "--out", tmp_path / "run", "--config", line.toml) == 3
    assert capsys.readouterr().err == "ris: interrupted\n"


@pytest.mark.parametrize("words", [("--help",), ("train", "--help")])
def test_help_is_no_error(capsys, words):
    assert ris(*words) == 0
    assert "usage: ris" in capsys.readouterr().out
