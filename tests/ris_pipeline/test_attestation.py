"""Results are tied to what made them, and to the audit that vouches for it."""

from __future__ import annotations

import json

import pytest

from ris_pipeline.attestation import AUDIT_NAME, PACKAGE, attest, find_audit, read_audit, sentence, subject
from ris_pipeline.errors import DataError
from ris_pipeline.files import source_digest
from ris_pipeline.report import attestation_markdown


@pytest.fixture
def package(tmp_path):
    for name, text in (("a.py", "x = 1\n"), ("b/c.py", "y = 2\n"), ("b/data.json", "{}")):
        path = tmp_path / "package" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path / "package"


def test_the_digest_depends_on_python_files_and_their_names_alone(package):
    first = source_digest(package)
    (package / "b" / "data.json").write_text("[]")
    assert source_digest(package) == first
    (package / "a.py").rename(package / "d.py")
    renamed = source_digest(package)
    assert renamed != first
    (package / "d.py").write_text("x = 2\n")
    assert source_digest(package) not in (first, renamed)


def test_content_that_moves_between_files_changes_the_digest(package):
    first = source_digest(package)
    (package / "a.py").write_text("")
    (package / "b" / "c.py").write_text("x = 1\ny = 2\n")
    assert source_digest(package) != first


def audit_of(made, *, passed=True, **changes):
    return {"passed": passed, **made.as_dict(), **changes}


@pytest.fixture
def made():
    return subject("c" * 64, "d" * 64, {"source_sha256": source_digest(PACKAGE)})


def test_an_audit_of_the_same_things_attests(made):
    found = attest(made, audit_of(made))
    assert (found["status"], found["differences"]) == ("attested", [])
    assert "every audit of this source" in sentence(found)


def test_an_audit_that_found_something_says_so(made):
    assert "AUDIT FAILED" in sentence(attest(made, audit_of(made, passed=False)))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"source_sha256": "e" * 64}, "source "),
        ({"config_sha256": "e" * 64}, "configuration cccccccccccc, audited was eeeeeeeeeeee"),
        ({"manifest_sha256": "e" * 64}, "data dddddddddddd, audited was eeeeeeeeeeee"),
        ({"versions": {"torch": "1.0"}}, "audited with 1.0"),
    ],
)
def test_an_audit_of_other_things_does_not_match(made, changes, words):
    found = attest(made, audit_of(made, **changes))
    assert found["status"] == "does not match"
    assert words in sentence(found)


def test_weights_of_another_source_do_not_match(made):
    old = subject("c" * 64, "d" * 64, {"source_sha256": "f" * 64})
    assert "source that trained the weights ffffffffffff" in sentence(attest(old, audit_of(made)))


def test_what_the_audit_did_not_cover_is_not_compared(made):
    assert attest(made, audit_of(made, config_sha256=None, manifest_sha256=None))["status"] == "attested"


def test_without_an_audit_the_sentence_says_how_to_get_one(made):
    assert "python -m audits all --report" in sentence(attest(made, None))


def test_the_first_report_that_is_there_is_found(tmp_path):
    assert find_audit([tmp_path]) is None
    (tmp_path / AUDIT_NAME).write_text("{}")
    assert find_audit([tmp_path / "none", tmp_path]) == tmp_path / AUDIT_NAME


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "cannot read the audit report"),
        ("{", "is not JSON"),
        ("{}", "holds no attestation"),
        ('{"attestation": {"passed": 1}}', "holds no"),
    ],
)
def test_a_report_that_is_none_is_refused(tmp_path, content, words):
    path = tmp_path / AUDIT_NAME
    if content is not None:
        path.write_text(content)
    with pytest.raises(DataError, match=words):
        read_audit(path)


def test_an_attestation_is_read_back(tmp_path, made):
    path = tmp_path / AUDIT_NAME
    path.write_text(json.dumps({"attestation": audit_of(made)}))
    assert attest(made, read_audit(path))["status"] == "attested"


def test_the_report_shows_digests_and_verdict(made):
    text = attestation_markdown({"attestation": attest(made, audit_of(made))})
    assert "every audit of this source" in text
    assert made.source_sha256 in text
    assert "says nothing" in attestation_markdown({})
