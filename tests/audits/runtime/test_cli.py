"""The commands: exit codes, formats, manual."""

from __future__ import annotations

import json
import re
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

import audits.runtime
from audits.runtime import cli, data, graphs, ops, path_audit
from audits.runtime.manual import MANUAL
from audits.runtime.report import Report, Result, to_json, to_text
from ris_pipeline.errors import IncompleteError
from ris_pipeline.training import Trainer

FOLDER = Path(audits.runtime.__file__).parent


def test_the_clean_tree_passes_what_is_selected(tmp_path, capsys):
    codes = {"RUN005", "RUN006", "RUN009", "RUN012"}
    assert cli.main([f"--format=json={tmp_path / 'run.json'}", "--format", "text", "--select", ",".join(codes)]) == 0
    report = json.loads((tmp_path / "run.json").read_text())
    assert report["schema_version"] == 1
    assert {result["code"] for result in report["results"]} == codes
    assert all(result["evidence"] for result in report["results"])
    assert "RUN005 passed" in capsys.readouterr().out


def test_every_check_belongs_to_one_group():
    codes = [code for group in cli.GROUPS for code in group.codes]
    assert sorted(codes) == sorted(MANUAL)


def test_a_family_stands_for_all_of_its_checks():
    assert cli.selected([]) == set(MANUAL)
    assert cli.selected(["DATA", "RUN001"]) == {code for code in MANUAL if code.startswith("DATA")} | {"RUN001"}


def test_a_planted_solver_gives_exit_code_1_and_its_name(monkeypatch, capsys):
    clean = Trainer.loss

    def loss(self, prediction, batch):
        torch.linalg.solve(2.0 * torch.eye(2), torch.ones(2))
        return clean(self, prediction, batch)

    monkeypatch.setattr(Trainer, "loss", loss)
    monkeypatch.setattr(ops, "FLAGS", {"as configured": {}})
    assert cli.main(["--select", "RUN002"]) == 1
    out = capsys.readouterr().out
    assert "RUN002 FAILED aten::_linalg_solve_ex" in out
    assert "test_cli:test_a_planted_solver_gives_exit_code_1_and_its_name" in out


def test_work_that_cannot_be_completed_gives_exit_code_3(monkeypatch, capsys):
    def stop(*_):
        raise IncompleteError("the run stopped")

    monkeypatch.setattr(cli, "audit", stop)
    assert cli.main(["--select", "RUN005"]) == 3
    assert capsys.readouterr().err == "python -m audits runtime: the run stopped\n"


def crash(*_):
    raise ZeroDivisionError("by zero")


def test_a_check_that_breaks_down_leaves_the_others_running(monkeypatch, capsys):
    good = Result("RUN005", "a", True, "b", {"c": 1})
    groups = (cli.Group("first", ("RUN001",), crash), cli.Group("second", ("RUN005",), lambda session: [good]))
    monkeypatch.setattr(cli, "GROUPS", groups)
    assert cli.main(["--select", "RUN001,RUN005"]) == 3
    out = capsys.readouterr().out
    assert "could not complete first: ZeroDivisionError: by zero" in out
    assert "RUN005 passed" in out


def test_a_finding_outweighs_a_check_that_breaks_down(monkeypatch):
    bad = Result("RUN005", "a", False, "b")
    groups = (cli.Group("first", ("RUN001",), crash), cli.Group("second", ("RUN005",), lambda session: [bad]))
    monkeypatch.setattr(cli, "GROUPS", groups)
    assert cli.main(["--select", "RUN001,RUN005"]) == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--format=yaml"], "expected one of text, json, got 'yaml'"),
        (["--format=json="], "expected a path after 'json='"),
        (["--explain", "RUN01"], "did you mean 'RUN0"),
        (["--select", "RUN00"], "--select: expected codes of checks, got 'RUN00'"),
        (["--wrong"], "unrecognized arguments: --wrong"),
    ],
)
def test_wrong_options_are_one_sentence(arguments, words, capsys):
    assert cli.main(arguments) == 2
    message = capsys.readouterr().err
    assert words in message
    assert message.count("\n") == 1


@pytest.mark.parametrize(("main", "prefix"), [(cli.main, ("RUN", "PATH", "DATA")), (data.main, "DATA"), (path_audit.main, "PATH")])
def test_each_command_lists_and_explains_its_checks(main, prefix, capsys):
    assert main(["--list-checks"]) == 0
    codes = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert codes == [code for code in MANUAL if code.startswith(prefix)]
    for code in codes:
        assert main(["--explain", code]) == 0
        assert MANUAL[code].title in capsys.readouterr().out


def test_every_code_has_a_manual_and_every_manual_a_check():
    used = {
        code
        for path in FOLDER.glob("*.py")
        if path.name != "manual.py"
        for code in re.findall(r'"((?:RUN|PATH|DATA)\d{3})"', path.read_text())
    }
    assert used == set(MANUAL)


def test_a_report_without_results_has_not_passed():
    assert not Report("empty").passed


def test_a_failure_shows_its_evidence_and_json_holds_every_number():
    report = Report("x", [Result("RUN001", "aten::[thing]", False, "is new", {"value": float("nan"), "many": list(range(20))})])
    text = to_text(report)
    assert "RUN001 FAILED aten::[thing]: is new" in text
    assert "(20 in all)" in text
    assert json.loads(to_json(report))["results"][0]["evidence"]["value"] == "nan"


def test_a_report_that_cannot_be_written_is_the_users_input(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(cli, "audit", lambda *_: Report("x", [Result("RUN001", "a", True, "b")]))
    (tmp_path / "file").write_text("")
    assert cli.main([f"--format=json={tmp_path / 'file' / 'report.json'}", "--select", "RUN005"]) == 2
    assert "cannot write" in capsys.readouterr().err


def test_accepting_operators_reports_what_is_new(tmp_path, monkeypatch, capsys):
    path = tmp_path / "allowed.json"
    path.write_text(json.dumps({"operators": [], "nodes": [], "escapes": {}}))
    monkeypatch.setattr(ops, "FLAGS", {"as configured": {}})
    monkeypatch.setattr(ops.accept, "__defaults__", ((), path))
    entry = {"count": 1, "kinds": ["forward"], "where": ""}
    found = {"case": {"operators": {"prims::fma": entry, "aten::linalg_solve": entry}}}
    monkeypatch.setattr(graphs.Child, "start", lambda: SimpleNamespace(testimony=lambda: found, stop=lambda: None))
    monkeypatch.setattr(ops.load_allowed, "__defaults__", (path,))
    assert cli.main(["--accept-ops"]) == 0
    assert "names added to" in capsys.readouterr().out
    listed = json.loads(path.read_text())["operators"]
    assert {"aten::mul", "prims::fma"} <= set(listed)
    assert "aten::linalg_solve" not in listed
