"""SARIF against its schema, fingerprints that survive moves, baselines that only shrink, and findings of changed files."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from xml.etree import ElementTree as ET

import jsonschema
import pytest

from audits.static import cli

SCHEMA = Path(__file__).parents[3] / "data" / "sarif-schema-2.1.0.json"
TABLE = '[tool.audits]\npackages = ["pkg"]\n[tool.audits.hot-path]\nentry-points = ["pkg.step:step"]\n'
STEP = "import torch\nfrom pkg.deep import go\ndef step(x):\n    return go(x)\n"
DEEP = """\
import torch
def go(x):
    y = torch.linalg.solve(x, x)
    z = torch.linalg.inv(x)  # audit: allow[HOT001] reason="two by two" until=2999-01-01
    return y @ z
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write(tmp_path, "pkg/__init__.py", "")
    write(tmp_path, "pkg/step.py", STEP)
    write(tmp_path, "pkg/deep.py", DEEP)
    write(tmp_path, "pyproject.toml", TABLE)
    return tmp_path


def write(root: Path, name: str, text: str) -> None:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_text(text, encoding="utf-8")


def run(root: Path, *options: str) -> int:
    return cli.main(["--root", str(root), *options])


def sarif(root: Path, *options: str) -> dict:
    run(root, "--format", f"sarif={root / 'out.sarif'}", *options)
    document = json.loads((root / "out.sarif").read_text(encoding="utf-8"))
    jsonschema.Draft7Validator(json.loads(SCHEMA.read_text(encoding="utf-8"))).validate(document)
    return document["runs"][0]


def prints(root: Path) -> list[str]:
    return [r["partialFingerprints"]["audit/v1"] for r in sarif(root)["results"]]


def findings(root: Path, *options: str) -> list[tuple[str, str]]:
    run(root, "--format", f"json={root / 'out.json'}", *options)
    return [(f["rule"], f["path"]) for f in json.loads((root / "out.json").read_text(encoding="utf-8"))["findings"]]


# -- SARIF


def test_sarif_is_valid_and_holds_flows_suppressions_and_rules(root: Path) -> None:
    document = sarif(root)
    found, allowed = document["results"]
    [flow] = found["codeFlows"]
    places = [step["location"]["physicalLocation"] for step in flow["threadFlows"][0]["locations"]]
    assert [(p["artifactLocation"]["uri"], p["region"]["startLine"]) for p in places] == [("pkg/step.py", 4), ("pkg/deep.py", 3)]
    assert "suppressions" not in found
    assert allowed["suppressions"] == [{"kind": "inSource", "justification": "two by two"}]
    rules = {r["id"] for r in document["tool"]["driver"]["rules"]}
    assert {"HOT001", "COV001", "SUP001"} <= rules


def test_sarif_of_a_missing_entry_point_is_valid(root: Path) -> None:
    write(root, "pyproject.toml", TABLE.replace(":step", ":stop"))
    assert [r["ruleId"] for r in sarif(root)["results"]] == ["SUP001", "HOT004"]


def test_fingerprints_stay_when_lines_move_and_change_with_the_code(root: Path) -> None:
    before = prints(root)
    assert len(set(before)) == 2
    write(root, "pkg/deep.py", "# a comment\n\n" + DEEP.replace("    y = ", "    y  =  ").replace("def go", "\n\ndef go"))
    assert prints(root) == before
    write(root, "pkg/deep.py", DEEP.replace("solve(x, x)", "solve(x, x.mT)"))
    assert prints(root)[0] != before[0]
    assert prints(root)[1] == before[1]


def test_equal_lines_have_fingerprints_of_their_own(root: Path) -> None:
    write(root, "pkg/deep.py", "import torch\ndef go(x):\n    x = torch.inverse(x)\n    x = torch.inverse(x)\n    return x\n")
    assert len(set(prints(root))) == 2


def test_a_stored_result_reports_the_same(root: Path) -> None:
    assert sarif(root) == sarif(root)
    assert sarif(root, "--no-cache") == sarif(root)


# -- the other formats


def test_junit_counts_rules_and_failures(root: Path) -> None:
    run(root, "--format", f"junit={root / 'out.xml'}")
    suite = ET.parse(root / "out.xml").getroot().find("testsuite")
    cases = suite.findall("testcase")
    assert int(suite.get("tests")) == len(cases)
    assert [c.get("name").split()[0] for c in cases if c.find("failure") is not None] == ["HOT001"]
    assert int(suite.get("skipped")) == sum(c.find("skipped") is not None for c in cases) > 0


def test_stats_go_to_standard_error(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(root, "--stats", "--format", "json")
    told = capsys.readouterr()
    assert json.loads(told.out)["timings_s"].keys() >= {"parse", "analyse", "HOT001"}
    assert "3 files, 2 functions" in told.err


# -- baselines


def test_a_baseline_allows_what_it_lists_and_nothing_else(root: Path) -> None:
    baseline = str(root / "baseline.json")
    assert run(root, "--write-baseline", baseline) == 0
    assert run(root, "--baseline", baseline) == 0
    write(root, "pkg/deep.py", "# moved\n" + DEEP.replace("return y @ z", "return y @ torch.linalg.pinv(z)"))
    assert findings(root, "--baseline", baseline) == [("HOT001", "pkg/deep.py")]


def test_a_comment_leaves_the_baseline_as_it_is(root: Path) -> None:
    baseline = str(root / "baseline.json")
    run(root, "--write-baseline", baseline)
    line = next(t for t in DEEP.splitlines() if "torch.linalg.solve" in t)
    write(root, "pkg/deep.py", DEEP.replace(line, f"{line}   # '#' as ever"))
    assert run(root, "--baseline", baseline) == 0


def test_an_entry_that_no_longer_occurs_is_a_finding_until_it_is_removed(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    baseline = str(root / "baseline.json")
    run(root, "--write-baseline", baseline)
    write(root, "pkg/deep.py", DEEP.replace("torch.linalg.solve(x, x)", "x"))
    assert findings(root, "--baseline", baseline) == [("SUP001", "baseline.json")]
    assert run(root, "--baseline", baseline) == 1
    assert "no longer occurs; remove the entry" in capsys.readouterr().out
    assert run(root, "--write-baseline", baseline) == 0
    assert run(root, "--baseline", baseline) == 0


def test_entries_of_rules_that_did_not_run_are_no_findings(root: Path) -> None:
    run(root, "--write-baseline", str(root / "baseline.json"))
    write(root, "pkg/deep.py", DEEP.replace("torch.linalg.solve(x, x)", "x"))
    assert run(root, "--baseline", str(root / "baseline.json"), "--select", "HOT002") == 0


def test_a_baseline_may_only_shrink(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    baseline = root / "baseline.json"
    run(root, "--write-baseline", str(baseline))
    before = baseline.read_bytes()
    write(root, "pkg/deep.py", DEEP.replace("return y @ z", "return torch.linalg.pinv(z)"))
    assert run(root, "--write-baseline", str(baseline)) == 2
    assert "may only shrink" in capsys.readouterr().err
    assert baseline.read_bytes() == before


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"findings": [1]}'])
def test_a_file_that_is_no_baseline(root: Path, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    write(root, "baseline.json", text)
    assert run(root, "--baseline", str(root / "baseline.json")) == 2
    assert run(root, "--baseline", str(root / "none.json")) == 2
    assert capsys.readouterr().err.count("--baseline: expected") == 2


# -- changed files


@pytest.fixture
def repository(root: Path) -> Path:
    write(root, ".gitignore", "out.*\n.audits_cache/\n")
    for command in (["init", "-q", "-b", "main"], ["add", "-A"], ["commit", "-qm", "first"]):
        git(root, *command)
    return root


def git(root: Path, *command: str) -> None:
    identity = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", "-C", str(root), *identity, *command], check=True, capture_output=True)


def test_changed_reports_what_concerns_changed_files(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(repository, "--changed") == 0
    assert "1 in files that have not changed" in capsys.readouterr().out
    write(repository, "pkg/other.py", "try:\n    x = 1\nexcept:\n    pass\n")
    assert findings(repository, "--changed") == [("ERR001", "pkg/other.py")]


def test_changed_sees_a_call_path_that_leads_through_a_changed_file(repository: Path) -> None:
    write(repository, "pkg/step.py", STEP + "\n# changed\n")
    assert findings(repository, "--changed") == [("HOT001", "pkg/deep.py")]


def test_changed_since_a_branch(repository: Path) -> None:
    git(repository, "switch", "-qc", "work")
    write(repository, "pkg/deep.py", DEEP + "\n# changed\n")
    git(repository, "commit", "-qam", "second")
    assert findings(repository, "--changed") == []
    assert findings(repository, "--changed", "main") == [("HOT001", "pkg/deep.py")]


def test_changed_needs_a_repository_and_a_revision(root: Path, repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(repository, "--changed", "no-such-branch") == 2
    assert capsys.readouterr().err.startswith("audits static: --changed: expected a git repository and revision")
