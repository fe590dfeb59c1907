"""The preflight: the same verdict from a checkout and from an installation, quick when nothing has changed."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from audits import static
from audits.static.source.cache import FOLDER

ROOT = Path(__file__).parents[3]
TABLE = '[tool.audits]\npackages = ["pkg"]\n[tool.audits.hot-path]\nentry-points = ["pkg.step:step"]\n'
SOLVE = "import torch\nimport click\ndef step(x):\n    return torch.linalg.solve(x, x)\n"


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    site = tmp_path / "site"
    (site / "pkg").mkdir(parents=True)
    (site / "pkg/__init__.py").touch()
    (site / "pkg/step.py").write_text("import click\ndef step(x):\n    return click.go(x)\n", encoding="utf-8")
    (tmp_path / "table.toml").write_text(TABLE, encoding="utf-8")
    return site


def verdict(root: Path) -> static.Verdict:
    return static.preflight(root, root.parent / "table.toml")


def test_the_packaged_table_is_the_projects() -> None:
    packaged = tomllib.loads((static.TABLES / "ris_pipeline.toml").read_text(encoding="utf-8"))
    assert packaged["tool"]["audits"] == tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["audits"]


def test_this_package_is_proved() -> None:
    found = static.preflight(ROOT, static.TABLES / "ris_pipeline.toml")
    assert (found.status, found.findings) == ("proved", ())
    assert len(found.sources_sha256) == 64
    assert "HOT001" in found.checked


def test_a_violation_is_told_with_its_place(root: Path) -> None:
    assert verdict(root).status == "proved"
    (root / "pkg/step.py").write_text(SOLVE, encoding="utf-8")
    found = verdict(root)
    assert found.status == "violated"
    assert found.findings[0].startswith("pkg/step.py:4: HOT001 torch.linalg.solve")


def test_the_digest_follows_every_source(root: Path) -> None:
    first = verdict(root).sources_sha256
    assert verdict(root).sources_sha256 == first
    (root / "pkg/other.py").write_text("x = 1\n", encoding="utf-8")
    assert verdict(root).sources_sha256 != first


def test_code_beside_a_checkout_is_unresolved_and_beside_an_installation_another_package(root: Path) -> None:
    (root / "click.py").write_text("def go(x):\n    return x\n", encoding="utf-8")
    assert verdict(root).status == "unresolved"
    (root / "pkg-1.0.dist-info").mkdir()
    assert verdict(root).status == "proved"


def test_an_installed_package_is_cached_in_the_users_folder(root: Path, tmp_path: Path) -> None:
    verdict(root)
    assert (root / FOLDER).is_dir()
    (root / "pkg-1.0.dist-info").mkdir()
    assert not (tmp_path / "home").exists()
    verdict(root)
    assert any((tmp_path / "home/ris-audit").rglob("result-*"))


def test_an_unchanged_package_is_answered_without_the_analyser(root: Path) -> None:
    verdict(root)
    code = (
        "import sys; from pathlib import Path; from audits.static import preflight; "
        f"v = preflight(Path({str(root)!r}), Path({str(root.parent / 'table.toml')!r})); "
        "print(v.status, sorted({'libcst', 'torch', 'audits.static.analysis.engine'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.split("\n")[0] == "proved []"
