"""`python -m audits all`: which audits run, with what, and what the report attests."""

from __future__ import annotations

import json

import pytest

from audits import all as every
from ris_pipeline.attestation import PACKAGE, read_audit
from ris_pipeline.files import source_digest


@pytest.fixture
def asked(monkeypatch):
    """Arguments of each audit; none of them runs, all of them pass unless a code is set."""
    calls, codes = {}, {"static": 0, "covariance_paths": 0, "runtime": 0}

    def stub(name):
        def main(argv):
            calls[name] = argv
            return codes[name]

        return main

    monkeypatch.setattr(every.static, "main", stub("static"))
    monkeypatch.setattr(every.path_audit, "main", stub("covariance_paths"))
    monkeypatch.setattr(every.runtime, "main", stub("runtime"))
    return calls, codes


def test_the_three_audits_run_and_the_report_attests_their_source(asked, tmp_path):
    calls, _ = asked
    report = tmp_path / "audit-report.json"
    assert every.main(["--root", "here", "--report", str(report)]) == 0
    assert list(calls) == ["static", "covariance_paths", "runtime"]
    assert calls["static"][:2] == ["--root", "here"]
    assert calls["runtime"][:2] == ["--select", "RUN,DATA"]
    found = read_audit(report)
    assert found["passed"] is True
    assert found["source_sha256"] == source_digest(PACKAGE)
    assert found["config_sha256"] is None
    assert set(json.loads(report.read_text())) >= {"schema_version", "exit_codes", "attestation", *calls}


def test_an_audit_that_finds_something_is_not_attested(asked, tmp_path):
    _, codes = asked
    codes["runtime"] = 1
    report = tmp_path / "audit-report.json"
    assert every.main(["--report", str(report)]) == 1
    assert read_audit(report)["passed"] is False


def test_source_that_changed_meanwhile_is_not_attested():
    assert every.attestation({"static": 0}, None, None, before="0" * 64)["passed"] is False


def test_weights_decide_the_configuration_and_the_watched_paths(asked, tmp_path):
    calls, _ = asked
    report = tmp_path / "audit-report.json"
    assert every.main(["--weights", "default", "--report", str(report)]) == 0
    assert calls["covariance_paths"][:2] == ["--weights", "default"]
    assert len(read_audit(report)["config_sha256"]) == 64


def test_weights_that_are_not_there_are_the_users_input(asked, tmp_path, capsys):
    assert every.main(["--weights", str(tmp_path / "none")]) == 2
    assert "expected a checkpoint" in capsys.readouterr().err
