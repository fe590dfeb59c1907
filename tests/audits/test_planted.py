"""A violation planted in a copy of this repository's own package is found, with the path to it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from audits.__main__ import main

ROOT = Path(__file__).parents[2]


@pytest.fixture
def copy(tmp_path):
    """The package and its audit table, to be sabotaged."""
    shutil.copytree(ROOT / "ris_pipeline", tmp_path / "ris_pipeline", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def audit(root):
    """Exit code and report of the static audit of ``root``."""
    report = root / "report.json"
    code = main(["static", "--root", str(root), "--format", f"json={report}"])
    return code, json.loads(report.read_text())


def plant(path, old, new):
    """Replace one piece of source, which must be there."""
    text = path.read_text()
    assert text.count(old) == 1
    path.write_text(text.replace(old, new))


def symbols(finding):
    """The functions of a call path, without their modules."""
    return [step["symbol"].rsplit(".", 1)[-1].rsplit(":", 1)[-1] for step in finding["call_path"]]


def test_the_repository_itself_is_clean(copy):
    code, report = audit(copy)
    assert (code, report["findings"]) == (0, [])
    assert report["proofs"]
    assert {proof["status"] for proof in report["proofs"]} == {"proved"}
    assert all(proof["reachable_functions"] > 10 for proof in report["proofs"])


def test_a_solve_three_calls_below_the_training_step_is_found(copy):
    plant(
        copy / "ris_pipeline" / "losses.py",
        "    every_slot = torch.ones_like(sources.mask)\n",
        "    every_slot = torch.ones_like(sources.mask)\n    torch.linalg.solve(error, error)\n",
    )
    code, report = audit(copy)
    found = [f for f in report["findings"] if f["rule"] == "HOT001" and f["entry_point"].endswith("Trainer.train_step")]
    assert code == 1
    assert [f["path"] for f in found] == ["ris_pipeline/losses.py"]
    assert symbols(found[0])[:4] == ["train_step", "loss", "training_loss", "match_slots"]


def test_a_fixed_size_in_the_search_is_found(copy):
    plant(
        copy / "ris_pipeline" / "hpo.py",
        "expected = round(config.hpo.subset_fraction * manifest.splits[split].scenes)",
        "expected = round(config.hpo.subset_fraction * 100_000)",
    )
    code, report = audit(copy)
    found = [f for f in report["findings"] if f["rule"] == "HPO001"]
    assert code == 1
    assert found
    assert {f["path"] for f in found} == {"ris_pipeline/hpo.py"}
    assert all(f["call_path"] for f in found)
    assert any("100_000" in f["message"] or "100000" in f["message"] for f in found)


@pytest.mark.parametrize(
    ("file", "old", "new", "rule"),
    [
        ("hpo.py", 'direction="minimize",', 'direction="maximize",', "HPO002"),
        ("hpo.py", "return result.objective", "return -result.objective", "HPO002"),
        (
            "training/loop.py",
            "improved = objective < self.state.best_objective",
            "improved = objective > self.state.best_objective",
            "SEL001",
        ),
        ("training/loop.py", "            if improved:\n", "            if validation.loss < 1.0:\n", "SEL001"),
        (
            "losses.py",
            "    law, loading = shrinkage_of",
            "    R = predicted.dense()\n    R = 0.5 * (R + R.mH)\n    law, loading = shrinkage_of",
            "COV001",
        ),
    ],
)
def test_other_planted_defects_are_found(copy, file, old, new, rule):
    plant(copy / "ris_pipeline" / file, old, new)
    code, report = audit(copy)
    assert code == 1
    assert rule in {f["rule"] for f in report["findings"]}
