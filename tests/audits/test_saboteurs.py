"""The saboteur suite is sound, and the quickest of its saboteurs are caught; `nox -s saboteurs` runs all of them."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

import pytest

from audits.runtime.manual import MANUAL

sys.path.insert(0, str(Path(__file__).with_name("saboteurs")))
import run as suite

sys.path.pop(0)

QUICK = ("frozen-head", "zero-weight", "ties-replace-the-best", "gauss-jordan")
ALL = {saboteur.name: saboteur for saboteur in suite.catalogue()}


def test_names_are_unique_and_there_are_enough():
    counts = Counter(saboteur.name for saboteur in suite.catalogue())
    assert set(counts.values()) == {1}
    assert len(counts) >= 40


def test_every_check_has_a_saboteur_and_every_saboteur_a_check():
    aimed = {code for saboteur in ALL.values() for code in saboteur.checks}
    assert aimed == set(MANUAL)
    assert all(saboteur.checks and saboteur.edits for saboteur in ALL.values())


def test_every_patch_applies_and_leaves_python():
    changed: dict[Path, str] = {}
    for saboteur in ALL.values():
        changed.clear()
        for file, old, new in saboteur.edits:
            path = suite.ROOT / "ris_pipeline" / file
            text = changed.get(path, path.read_text())
            assert text.count(old) == 1, (saboteur.name, file)
            changed[path] = text.replace(old, new)
        for path, text in changed.items():
            compile(text, str(path), "exec")


def test_a_patch_that_does_not_apply_is_refused(tmp_path):
    stale = suite.Saboteur("stale", "", ("RUN001",), (("losses.py", "no such line", ""),))
    with pytest.raises(ValueError, match="expected the piece to be replaced once in losses.py, found it 0 times".replace(".", "[.]")):
        suite.plant(stale, tmp_path)


@pytest.mark.parametrize("name", QUICK)
def test_a_quick_saboteur_is_caught(name):
    saboteur = ALL[name]
    result = suite.tried(saboteur, saboteur.checks)
    assert result["exit"] == 1
    assert set(result["caught by"]) & set(saboteur.checks)
