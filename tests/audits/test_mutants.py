"""The harness that plants violations: what it plants is distinct, alive and harmless where it should be, and it can fail."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from audits.static.rules import all_rules
from tests.audits.mutants import live, runner
from tests.audits.mutants.blocks import BLOCKS, RULES
from tests.audits.mutants.compose import DoesNotFitError, compose
from tests.audits.mutants.model import Block, Edit, Mutant, sample
from tests.audits.mutants.runner import Outcome
from tests.audits.mutants.score import Share, score

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def texts():
    return runner.sources()


def run(tmp_path, *arguments):
    """Exit code and document of the command in another process."""
    out = tmp_path / "scores.json"
    command = [sys.executable, "-m", "tests.audits.mutants", "--processes", "1", "--json", str(out), *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600)
    assert out.is_file(), done.stderr
    return done.returncode, json.loads(out.read_text())


def test_planted_violations_are_found_and_their_twins_are_not(tmp_path):
    code, document = run(tmp_path, "--rules", "HOT001,ERR001", "--sample", "2", "--seed", "3")
    assert code == 0, document["outcomes"]
    assert [s["direct"]["hits"] for s in document["scores"]] == [2, 2]
    assert {o["life"] for o in document["outcomes"]} == {"executed"}


def test_with_its_rule_switched_off_a_mutant_counts_as_missed(tmp_path):
    code, document = run(tmp_path, "--rules", "HOT001,ERR001", "--sample", "1", "--seed", "3", "--off")
    assert code == 1
    assert [(s["resolved"]["hits"], s["resolved"]["of"]) for s in document["scores"]] == [(0, 1), (0, 1)]


def test_every_rule_has_enough_distinct_mutants():
    mutants = sample(BLOCKS, RULES, 30, seed=0)
    keys = [m.key for m in mutants]
    assert len(keys) == len(set(keys))
    assert set(RULES) == set(all_rules())
    assert len(keys) >= 400
    assert min(sum(m.rule == rule for m in mutants) for rule in RULES) >= 15


def test_the_same_seed_gives_the_same_sources(texts):
    first, second = (sample(BLOCKS, ["COV001"], 3, seed=4) for _ in range(2))
    assert [m.key for m in first] == [m.key for m in second]
    assert compose(first[0], texts, harmless=False) == compose(second[0], texts, harmless=False)


def test_a_mutant_and_its_twin_are_python_and_differ(texts):
    for mutant in sample(BLOCKS, RULES, 6, seed=1):
        bad, good = (compose(mutant, texts, harmless=harmless) for harmless in (False, True))
        assert bad.files != good.files, mutant.key
        for planting in (bad, good):
            for path, text in planting.files.items():
                assert "\u00a7" not in text
                if path.endswith(".py"):
                    compile(text, path, "exec")


def test_any_number_of_twins_stand_beside_one_another(texts):
    stacked, files = dict(texts), set()
    for mutant in sample(BLOCKS, ["HOT001", "HOT003"], 20, seed=2):
        try:
            twin = compose(mutant, stacked, harmless=True)
        except DoesNotFitError:
            continue
        stacked |= twin.files
        files |= set(twin.files) - set(texts)
    assert len(files) > 10


def test_a_site_that_is_gone_is_an_error(texts):
    edit = Edit("gone", "ris_pipeline/losses.py", "no such line", "x", "y")
    with pytest.raises(DoesNotFitError, match="found 0 times"):
        compose(Mutant(Block("ERR001", edits=(edit,)), edit), texts, harmless=False)


def test_a_line_that_does_not_run_is_seen(tmp_path, monkeypatch):
    package = tmp_path / "ris_pipeline"
    package.mkdir()
    (package / "__init__.py").write_text("def used():\n    return 1\n\n\ndef idle():\n    return 2\n\n\nused()\n")
    monkeypatch.setitem(live.SCENARIOS, "planted", lambda data, work: __import__("ris_pipeline"))
    seen = live.observe(tmp_path, "planted", [("ris_pipeline/__init__.py", 2), ("ris_pipeline/__init__.py", 6)], tmp_path, tmp_path)
    assert seen.unseen == ("ris_pipeline/__init__.py:6",)


def outcome(key="a", *, life="executed", direct=True, unresolved=True, alarms=()):
    return Outcome(key, "ERR001", life, direct, unresolved, alarms, 0.0)


def test_a_rule_without_mutants_is_not_good():
    assert not score("ERR001", []).good


@pytest.mark.parametrize(
    "bad",
    [outcome(life="dead"), outcome(direct=False, unresolved=False), outcome(alarms=("ERR001 a.py:1 something",))],
    ids=["dead", "missed", "false alarm"],
)
def test_one_fault_in_ten_fails_a_rule(bad):
    fine = [outcome(str(n)) for n in range(9)]
    assert score("ERR001", fine).good
    assert not score("ERR001", [*fine, bad]).good


def test_what_is_unresolved_counts_up_to_a_tenth():
    fine = [outcome(str(n)) for n in range(18)]
    unresolved = outcome("u", direct=False)
    assert score("ERR001", [*fine, unresolved]).good
    assert not score("ERR001", [*fine, unresolved, unresolved, unresolved]).good


@pytest.mark.parametrize(
    ("hits", "of", "low", "high"), [(0, 10, 0.0, 0.2775), (10, 10, 0.7225, 1.0), (5, 10, 0.2366, 0.7634), (0, 0, 0.0, 1.0)]
)
def test_wilson_interval(hits, of, low, high):
    assert Share(hits, of).ci95 == pytest.approx((low, high), abs=1e-4)
