"""The cache: stored results answer for an unchanged tree only, and no damage or race changes a verdict."""

from __future__ import annotations

import datetime as dt
import json
import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from audits.static import cli
from audits.static.run import audit
from audits.static.settings import load_settings
from audits.static.source import cache as cache_module
from audits.static.source.cache import FOLDER, Cache, dump_facts, load_facts

TABLE = '[tool.audits]\npackages = ["pkg"]\n[tool.audits.hot-path]\nentry-points = ["pkg.step:step"]\n'
CLEAN = "import torch\nfrom pkg.other import go\ndef step(x):\n    return go(x)\n"
SOLVES = "import torch\ndef go(x):\n    return torch.linalg.solve(x, x)\n"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "pkg").mkdir()
    (tmp_path / "pkg/__init__.py").touch()
    (tmp_path / "pkg/step.py").write_text(CLEAN, encoding="utf-8")
    (tmp_path / "pkg/other.py").write_text("def go(x):\n    return x * 2\n", encoding="utf-8")
    (tmp_path / "pyproject.toml").write_text(TABLE, encoding="utf-8")
    return tmp_path


def report(root: Path, **options: object):
    return audit(root, load_settings(root / "pyproject.toml"), cache=Cache.open(root / FOLDER, required=True), **options)


def entries(root: Path, kind: str) -> list[Path]:
    return sorted((root / FOLDER).rglob(f"{kind}-*"))


def test_an_unchanged_tree_is_answered_from_the_store(root: Path) -> None:
    first, second = report(root), report(root)
    assert "cached" not in first.timings_s
    assert list(second.timings_s) == ["cached"]
    assert (second.findings, second.proofs, second.checked, second.sources_sha256) == (
        first.findings, first.proofs, first.checked, first.sources_sha256,
    )  # fmt: skip


@pytest.mark.parametrize("change", ["source", "new file", "settings", "select", "code beside"])
def test_whatever_shapes_a_result_makes_it_new(root: Path, change: str) -> None:
    (root / "pkg/step.py").write_text(CLEAN.replace("torch", "torch, helper"), encoding="utf-8")
    report(root)
    if change == "source":
        (root / "pkg/other.py").write_text(SOLVES, encoding="utf-8")
        assert [f.rule for f in report(root).findings] == ["HOT001"]
    elif change == "new file":
        (root / "pkg/more.py").write_text("import torch\ntorch.matmul = print\n", encoding="utf-8")
        assert [f.rule for f in report(root).findings] == ["HOT002"]
    elif change == "settings":
        (root / "pyproject.toml").write_text(TABLE.replace("pkg.step:step", "pkg.step:stop"), encoding="utf-8")
        assert [f.rule for f in report(root).findings] == ["HOT004"]
    elif change == "select":
        assert report(root, select=["HOT001"]).checked == ["HOT001"]
    else:
        (root / "pkg/step.py").write_text("import click\ndef step(x):\n    return click.go(x)\n", encoding="utf-8")
        assert report(root).findings == []
        (root / "click.py").write_text("def go(x):\n    return x\n", encoding="utf-8")
        assert [f.rule for f in report(root).findings] == ["HOT002"]


def test_only_changed_files_are_lowered(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    report(root)
    assert len(entries(root, "facts")) == 3
    (root / "pkg/other.py").write_text(SOLVES, encoding="utf-8")
    lowered = []
    monkeypatch.setattr("audits.static.source.worker.lower_into", lambda cache, content, label: lowered.append(label))
    assert [f.rule for f in report(root).findings] == ["HOT001"]
    assert lowered == ["pkg/other.py"]


def test_the_day_matters_only_to_suppressions_that_expire(root: Path) -> None:
    body = SOLVES.replace("x, x)", 'x, x)  # audit: allow[HOT001] reason="2x2" until=2030-01-01')
    (root / "pkg/other.py").write_text(body, encoding="utf-8")
    assert report(root, today=dt.date(2029, 12, 31)).findings == []
    assert {f.rule for f in report(root, today=dt.date(2030, 1, 2)).findings} == {"HOT001", "SUP001"}
    (root / "pkg/other.py").write_text(SOLVES, encoding="utf-8")
    report(root, today=dt.date(2029, 12, 31))
    assert "cached" in report(root, today=dt.date(2030, 1, 2)).timings_s


@pytest.mark.parametrize("damage", [b"", b"x" * 100, None])
def test_a_damaged_entry_is_made_anew(root: Path, damage: bytes | None) -> None:
    (root / "pkg/other.py").write_text(SOLVES, encoding="utf-8")
    first = report(root)
    for entry in (root / FOLDER).rglob("*-*"):
        if entry.is_file():
            entry.write_bytes(entry.read_bytes()[:-1] if damage is None else damage)
    again = report(root)
    assert "cached" not in again.timings_s
    assert again.findings == first.findings
    assert "cached" in report(root).timings_s


def test_an_entry_that_would_run_code_is_refused(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "ran",))

    assert load_facts(pickle.dumps(Evil())) is None
    assert not (tmp_path / "ran").exists()
    assert load_facts(dump_facts(("tree", [1.5, ..., 2j, {"a"}]))) == ("tree", [1.5, ..., 2j, {"a"}])


def test_another_analyser_shares_nothing(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    report(root)
    before = entries(root, "result")
    monkeypatch.setattr(cache_module, "analyser_version", lambda: "f" * 64)
    assert "cached" not in report(root).timings_s
    assert not any(path.exists() for path in before)


def test_parallel_runs_agree(root: Path) -> None:
    (root / "pkg/other.py").write_text(SOLVES, encoding="utf-8")
    command = [sys.executable, "-m", "audits", "static", "--root", str(root), "--format", "json"]
    with ThreadPoolExecutor(3) as pool:
        done = list(pool.map(lambda _: subprocess.run(command, capture_output=True, text=True), range(3)))
    assert {d.returncode for d in done} == {1}
    assert len({json.dumps(json.loads(d.stdout)["findings"]) for d in done}) == 1
    assert not list((root / FOLDER).rglob(".new-*"))


def test_where_the_cache_lies(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--root", str(root), "--no-cache"]) == 0
    assert not (root / FOLDER).exists()
    assert cli.main(["--root", str(root), "--cache-dir", str(tmp_path / "elsewhere")]) == 0
    assert not (root / FOLDER).exists()
    assert cli.main(["--root", str(root)]) == 0
    assert (root / FOLDER / ".gitignore").read_text() == "*\n"
    (tmp_path / "file").touch()
    assert cli.main(["--root", str(root), "--cache-dir", str(tmp_path / "file")]) == 2
    assert "--cache-dir" in capsys.readouterr().err


def test_large_packages_are_lowered_in_several_processes(root: Path) -> None:
    for n in range(8):
        (root / f"pkg/big_{n}.py").write_text("".join(f"def f{k}(x):\n    return x + {n}\n" for k in range(700)), encoding="utf-8")
    (root / "pkg/broken.py").write_text("def f(:\n", encoding="utf-8")
    assert cli.main(["--root", str(root)]) == 2
    assert len(entries(root, "facts")) == 11
    (root / "pkg/broken.py").unlink()
    assert cli.main(["--root", str(root)]) == 0
