"""The commands: exit codes, formats, manual."""

from __future__ import annotations

import json
import pkgutil
import re
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

import audits.runtime
from audits.runtime import cli, command, data, graphs, ops, path_audit
from audits.runtime.advice import ADVICE
from audits.runtime.manual import MANUAL
from audits.runtime.report import Report, Result, to_json, to_text
from ris_pipeline.config import Config
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
    assert command.selected([], cli.PREFIX) == set(MANUAL)
    assert command.selected(["DATA", "RUN001"], cli.PREFIX) == {code for code in MANUAL if code.startswith("DATA")} | {"RUN001"}


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
        (["--explain", "HOT001"], "python -m audits static --explain HOT001"),
        (["--select", "RUN00"], "--select: unknown check 'RUN00'; did you mean 'RUN0"),
        (["--select", "FOO"], "expected one of RUN001 to RUN024, PATH001 to PATH008, DATA001 to DATA010"),
        (["--select", ","], "--select: expected the code of a check, got none"),
        (["--device", "gpu"], "--device: expected cpu, auto or a CUDA device"),
        (["--device", "cuda:99"], "got 'cuda:99'"),
        (["--wrong"], "unrecognized arguments: --wrong"),
    ],
)
def test_wrong_options_are_one_sentence(arguments, words, capsys):
    assert cli.main(arguments) == 2
    message = capsys.readouterr().err
    assert words in message
    assert message.count("\n") == 1


def test_a_device_that_is_not_there_is_refused_before_any_check(monkeypatch):
    monkeypatch.setattr(cli, "audit", crash)
    monkeypatch.setattr(graphs.Child, "start", crash)
    assert cli.main(["--device", "gpu"]) == 2


@pytest.mark.parametrize("command_", [data, path_audit])
def test_the_other_commands_select_too(command_, tmp_path, monkeypatch, capsys):
    codes = [code for code in MANUAL if code.startswith(command_.PREFIX)]
    report = Report("x", [Result(code, "a", code == codes[0], "b") for code in codes])
    monkeypatch.setattr(command_, "audit", lambda *_: report)
    monkeypatch.setattr(path_audit, "small_trial", lambda *_: nullcontext())
    directory = [str(tmp_path)] if command_ is data else []
    assert command_.main([*directory, "--select", codes[0]]) == 0
    assert command_.main([*directory, "--select", "FOO"]) == 2
    assert f"expected one of {codes[0]} to {codes[-1]}" in capsys.readouterr().err


@pytest.mark.parametrize(("main", "prefix"), [(cli.main, ("RUN", "PATH", "DATA")), (data.main, "DATA"), (path_audit.main, "PATH")])
def test_each_command_lists_and_explains_its_checks(main, prefix, capsys):
    assert main(["--list-rules"]) == 0
    listed = capsys.readouterr().out
    assert main(["--list-checks"]) == 0
    codes = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert codes == [line.split()[0] for line in listed.splitlines()]
    assert codes == [code for code in MANUAL if code.startswith(prefix)]
    for code in codes:
        assert main(["--explain", code]) == 0
        out = capsys.readouterr().out
        assert all(part in out for part in (MANUAL[code].title, MANUAL[code].text, ADVICE[code].why, ADVICE[code].mend))


def test_every_check_says_what_why_and_how_to_mend():
    assert list(ADVICE) == list(MANUAL)
    for code, advice in ADVICE.items():
        assert MANUAL[code].text.strip()
        assert re.fullmatch(r"[A-Z][^.]*\.", advice.why), f"{code}: why is one sentence"
        assert advice.mend.endswith("."), code
    assert len({advice.why for advice in ADVICE.values()} | {advice.mend for advice in ADVICE.values()}) == 2 * len(ADVICE)


@pytest.mark.parametrize("code", list(ADVICE))
def test_what_a_mend_points_at_exists(code):
    for name in re.findall(r"`([\w.]+)`", ADVICE[code].mend):
        section, _, key = name.partition(".")
        if section == "ris_pipeline":
            assert pkgutil.resolve_name(name)
        else:
            assert key in Config.model_fields[section].annotation.model_fields, name


def test_every_code_has_a_manual_and_every_manual_a_check():
    used = {
        code
        for path in FOLDER.glob("*.py")
        if path.name not in ("manual.py", "advice.py")
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
