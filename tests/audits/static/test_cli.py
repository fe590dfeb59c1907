"""The command: exit codes, formats, sentences, and the reports of a small package."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from audits.__main__ import main as audits_main
from audits.static import cli
from audits.static.rules import all_rules

HOT = '[tool.audits]\npackages = ["pkg"]\n[tool.audits.hot-path]\nentry-points = ["pkg.train:Trainer.step"]\n'
TRAIN = """\
from functools import partial

from pkg.losses import Loss


class Trainer:
    def __init__(self, size):
        self.loss = Loss()
        self.reduce = partial(self.loss.reduce, size=size)

    def step(self, batch):
        return self.reduce(batch)
"""
LOSSES = """\
from pkg import kernels

TABLE = {"plain": kernels.plain, "whiten": kernels.whiten}


class Loss:
    def reduce(self, batch, size):
        return TABLE["plain"](batch) / size
"""
KERNELS = """\
import torch


def plain(batch):
    return batch.sum()


def whiten(batch):
    return BODY
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A package whose solver would sit behind a partial, a method and a table."""
    write(tmp_path, "pkg/__init__.py", "")
    write(tmp_path, "pkg/train.py", TRAIN)
    write(tmp_path, "pkg/losses.py", LOSSES)
    write(tmp_path, "pkg/kernels.py", KERNELS.replace("BODY", "batch * 2"))
    write(tmp_path, "pyproject.toml", HOT)
    return tmp_path


def write(root: Path, name: str, text: str) -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def run(root: Path, *options: str) -> int:
    return cli.main(["--root", str(root), *options])


def run_json(root: Path, *options: str) -> tuple[int, dict[str, object]]:
    code = run(root, "--format", f"json={root / 'out.json'}", *options)
    return code, json.loads((root / "out.json").read_text(encoding="utf-8"))


def plant_solver(root: Path) -> None:
    write(root, "pkg/kernels.py", KERNELS.replace("BODY", "torch.linalg.solve(batch, batch)"))


def test_clean_package_is_proved(project: Path) -> None:
    code, report = run_json(project)
    assert code == 0
    assert report["findings"] == []
    assert [(p["rule"], p["status"]) for p in report["proofs"]] == [("HOT001", "proved"), ("HOT002", "proved")]
    assert report["proofs"][0]["reachable_functions"] == 4
    assert report["proofs"][0]["call_sites"] > 0


def test_solver_three_calls_below_the_step_is_found_with_its_path(project: Path) -> None:
    plant_solver(project)
    code, report = run_json(project)
    assert code == 1
    [finding] = report["findings"]
    assert (finding["rule"], finding["path"], finding["line"]) == ("HOT001", "pkg/kernels.py", 9)
    assert finding["entry_point"] == "pkg.train:Trainer.step"
    assert finding["symbol"] == "pkg.kernels:whiten"
    path = [(s["symbol"], s["line"]) for s in finding["call_path"]]
    assert path == [("pkg.train:Trainer.step", 12), ("pkg.losses:Loss.reduce", 8), ("pkg.kernels:whiten", 9)]
    assert report["proofs"][0]["status"] == "violated"


def test_json_schema(project: Path) -> None:
    plant_solver(project)
    _, report = run_json(project)
    assert set(report) == {
        "schema_version", "proofs", "findings", "suppressed", "not_configured", "timings_s",
    }  # fmt: skip
    assert report["schema_version"] == 1
    assert set(report["proofs"][0]) == {
        "rule", "entry_point", "status", "reachable_functions", "call_sites", "unresolved",
    }  # fmt: skip
    assert set(report["findings"][0]) == {
        "rule", "severity", "path", "line", "column", "message", "symbol", "entry_point", "call_path",
    }  # fmt: skip
    assert set(report["findings"][0]["call_path"][0]) == {"symbol", "path", "line"}
    assert "COV001" in report["not_configured"]
    assert "HOT001" not in report["not_configured"]


def test_src_layout(project: Path) -> None:
    plant_solver(project)
    (project / "src").mkdir()
    (project / "pkg").rename(project / "src" / "pkg")
    code, report = run_json(project)
    assert code == 1
    assert report["findings"][0]["path"] == "src/pkg/kernels.py"


def test_missing_entry_point_is_a_finding_and_json_is_written(project: Path) -> None:
    write(project, "pyproject.toml", HOT.replace("Trainer.step", "Trainer.stop"))
    code, report = run_json(project)
    assert code == 1
    assert [f["rule"] for f in report["findings"]] == ["HOT004"]
    assert report["findings"][0]["entry_point"] == "pkg.train:Trainer.stop"
    assert [p["status"] for p in report["proofs"]] == ["unresolved", "unresolved"]


def test_code_beyond_proof_makes_the_proof_unresolved(project: Path) -> None:
    write(project, "pkg/kernels.py", KERNELS.replace("BODY", "eval('batch')"))
    code, report = run_json(project)
    assert code == 1
    assert [p["status"] for p in report["proofs"]] == ["unresolved", "unresolved"]
    assert report["proofs"][0]["unresolved"] == 1


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        ("", "nothing is configured"),
        ("[tool.audits]\npackages = ['pkg']\n", "nothing is configured to check"),
        ("[tool.audits]\npackages = []\n", "at least one entry"),
        ("[tool.audits]\npackages = 'pkg'\n", "expected a list of strings"),
        ("[tool.audits]\npackages = ['src/pkg']\n", "expected names of packages"),
        ("[tool.audits]\n", "expected `packages`"),
        ("[tool.audits\n", "expected TOML"),
        ("[tool]\naudits = 3\n", "expected a table"),
        (HOT.replace("entry-points", "entrypoints"), "nearest known one is 'entry-points'"),
        (HOT.replace("hot-path", "hotpath"), "nearest known one is 'hot-path'"),
        (HOT.replace("pkg.train:Trainer.step", "pkg.train.step"), "expected `module:qualname`"),
        (HOT.replace('["pkg.train:Trainer.step"]', "[]"), "at least one entry"),
        (HOT.replace('["pkg"]', '["other"]'), "expected a package or module 'other'"),
    ],
)
def test_configuration_mistakes_are_one_sentence(project: Path, config: str, sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    write(project, "pyproject.toml", config)
    assert run(project) == 2
    error = capsys.readouterr().err
    assert sentence in error
    assert "Traceback" not in error
    assert error.count("\n") == 1


def test_no_configuration_file(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (project / "pyproject.toml").unlink()
    assert run(project) == 2
    assert "pyproject.toml" in capsys.readouterr().err


def test_config_from_another_file(project: Path) -> None:
    (project / "pyproject.toml").rename(project / "audits.toml")
    assert run(project, "--config", str(project / "audits.toml")) == 0


@pytest.mark.parametrize(
    ("source", "what"),
    [
        (b"def broken(:\n    pass\n", "pkg/broken.py:1: expected Python that parses, but got a syntax error: "),
        (b"x = 1\n\nif x:\n    y = 2\n  z = 3\n", "pkg/broken.py:5: expected Python that parses, but got a syntax error: unindent"),
        (b"x = 1\nif x:\ny = 2\n", "pkg/broken.py:3: expected Python that parses, but got a syntax error: expected an indented block"),
        (b"x = '\xff\xfe'\n", "UTF-8"),
        (b"x = " + b"(" * 10_000 + b"1" + b")" * 10_000 + b"\n", "nested"),
        (b"x = (1,\n", "'(' was never closed"),
    ],
)
def test_unreadable_source_names_the_file(project: Path, source: bytes, what: str, capsys: pytest.CaptureFixture[str]) -> None:
    (project / "pkg" / "broken.py").write_bytes(source)
    assert run(project) == 2
    error = capsys.readouterr().err
    assert "pkg/broken.py" in error
    assert what in error


def test_long_sums_and_circular_imports_are_fine(project: Path) -> None:
    write(project, "pkg/long.py", "from pkg import circle\nx = " + " + ".join(["1"] * 500) + "\n")
    write(project, "pkg/circle.py", "from pkg import long\nfrom pkg.long import *\n")
    assert run(project) == 0


def test_a_crash_is_never_clean(project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def crash(*args: object, **kwargs: object) -> None:
        raise RuntimeError("broken analyser")

    monkeypatch.setattr(cli, "audit", crash)
    assert run(project) == 3
    assert "broken analyser" in capsys.readouterr().err


def test_analysed_code_is_not_imported(project: Path) -> None:
    write(project, "pkg/__init__.py", "raise RuntimeError('imported')\n")
    assert run(project) == 0
    assert "pkg" not in sys.modules


# -- suppressions


ALLOW = "torch.linalg.solve(batch, batch)  # audit: allow[HOT001] {}"


def test_suppressed_finding_is_listed_apart(project: Path) -> None:
    write(project, "pkg/kernels.py", KERNELS.replace("BODY", ALLOW.format('reason="2x2" until=2999-01-31')))
    code, report = run_json(project)
    assert code == 0
    [suppressed] = report["suppressed"]
    assert (suppressed["rule"], suppressed["reason"], suppressed["until"]) == ("HOT001", "2x2", "2999-01-31")


@pytest.mark.parametrize("words", ["", 'reason="2x2" until=2001-01-01'])
def test_suppression_without_reason_or_expired_allows_nothing(project: Path, words: str) -> None:
    write(project, "pkg/kernels.py", KERNELS.replace("BODY", ALLOW.format(words)))
    code, report = run_json(project)
    assert code == 1
    assert {f["rule"] for f in report["findings"]} == {"HOT001", "SUP001"}


def test_suppression_on_the_line_above(project: Path) -> None:
    body = 'batch\n    # audit: allow[HOT001] reason="2x2"\n    return torch.linalg.solve(batch, batch)'
    write(project, "pkg/kernels.py", KERNELS.replace("return BODY", f"batch = {body}"))
    code, report = run_json(project)
    assert code == 0
    assert len(report["suppressed"]) == 1


# -- formats and options


def test_text_shows_excerpt_caret_path_and_mending(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plant_solver(project)
    assert run(project) == 1
    text = capsys.readouterr().out
    assert "torch.linalg.solve(batch, batch)" in text
    assert re.search(r"\| +\^+", text)
    assert "-> pkg.losses:Loss.reduce (pkg/losses.py:8)" in text
    assert "mend:" in text
    assert "why:" in text
    assert "HOT001 violated pkg.train:Trainer.step" in text


def test_several_formats_at_once(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plant_solver(project)
    options = [f"--format={name}={project / name}" for name in ("json", "sarif", "junit", "text")]
    assert run(project, "--format", "github", *options) == 1
    out = capsys.readouterr().out
    assert out.startswith("::error file=pkg/kernels.py,line=9,col=12,title=HOT001::")
    assert json.loads((project / "json").read_text())["findings"]
    sarif = json.loads((project / "sarif").read_text())
    [result] = sarif["runs"][0]["results"]
    assert sarif["version"] == "2.1.0"
    assert result["ruleId"] == "HOT001"
    assert len(result["codeFlows"][0]["threadFlows"][0]["locations"]) == 3
    junit = ET.parse(project / "junit").getroot()
    assert junit.find("testsuite").get("failures") == "1"
    assert "HOT001" in (project / "text").read_text()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--format", "jsn"], "nearest known one is 'json'"),
        (["--format", "json="], "expected a path"),
        (["--select", "HOT01"], "nearest known one is 'HOT001'"),
        (["--explain", "HOT01"], "nearest known one is 'HOT001'"),
        (["--explain", "FOO"], "unknown rule 'FOO'; expected one of CFG001, "),
        (["--select", "FOO"], "unknown rule 'FOO'; expected one of CFG001, "),
        (["--explain", "RUN001"], "python -m audits runtime --explain RUN001"),
        (["--select", "COV001"], "nothing is configured to check"),
        (["--no-such-flag"], "--no-such-flag"),
        (["--root", "/nonexistent"], "expected a folder"),
    ],
)
def test_option_mistakes(project: Path, options: list[str], sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(project, *options) == 2
    assert sentence in capsys.readouterr().err


def test_select_and_ignore(project: Path) -> None:
    plant_solver(project)
    assert run(project, "--select", "HOT002,HOT004") == 0
    assert run(project, "--ignore", "HOT001") == 0
    assert run(project, "--select", "HOT001") == 1


def test_list_rules_and_explain(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--list-checks"]) == 0
    listed = capsys.readouterr().out
    assert cli.main(["--list-rules"]) == 0
    assert [line.split()[0] for line in listed.splitlines()] == list(all_rules())
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == list(all_rules())
    assert cli.main(["--explain", "HOT001"]) == 0
    out = capsys.readouterr().out
    assert "A reference counts as a call" in out
    assert "registered hook" in out
    assert "Known limits" in out


def test_dispatcher(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert audits_main(["static", "--root", str(project)]) == 0
    assert audits_main([]) == 2
    assert audits_main(["statik"]) == 2
    assert "unknown command" in capsys.readouterr().err


def test_absent_audit_is_one_sentence(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(sys.modules, "audits.runtime.data", None)
    monkeypatch.setitem(audits_main.__globals__["_MODULES"], "data", "audits.runtime.no_such_module")
    assert audits_main(["data", "x"]) == 3
    assert "not part of this installation" in capsys.readouterr().err
