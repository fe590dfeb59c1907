"""Every rule's named cases: what it must find, what it must leave alone, and what it is known to miss."""

from __future__ import annotations

from pathlib import Path

import pytest

from audits.static.audit import run_audit
from audits.static.rules import all_rules
from audits.static.rules.base import Case, Rule
from audits.static.settings import parse_settings


def _cases(kind: str) -> list[object]:
    return [pytest.param(rule, case, id=f"{rule.code}-{case.name}") for rule in all_rules().values() for case in getattr(rule, kind)]


def _found(rule: Rule, case: Case, root: Path) -> list[str]:
    for path, source in case.files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(source, encoding="utf-8")
    table = {"packages": ["pkg"], **rule.settings, **case.settings}
    select = [rule.code] if rule.code != "SUP001" else []
    report = run_audit(root, parse_settings(table), select=select)
    return [f"{f.path}:{f.line} {f.message}" for f in report.findings if f.rule == rule.code]


@pytest.mark.parametrize(("rule", "case"), _cases("invalid"))
def test_finds(rule: Rule, case: Case, tmp_path: Path) -> None:
    assert _found(rule, case, tmp_path), f"{rule.code} missed: {case.name}"


@pytest.mark.parametrize(("rule", "case"), _cases("valid"))
def test_allows(rule: Rule, case: Case, tmp_path: Path) -> None:
    assert _found(rule, case, tmp_path) == []


@pytest.mark.parametrize(("rule", "case"), _cases("limits"))
def test_known_limit_still_misses(rule: Rule, case: Case, tmp_path: Path) -> None:
    assert _found(rule, case, tmp_path) == [], "a known limit is found now: move the case to `invalid`"


@pytest.mark.parametrize("rule", all_rules().values(), ids=list(all_rules()))
def test_rule_is_complete(rule: Rule) -> None:
    assert len(rule.manual) > 100
    assert rule.title
    assert rule.mend
    assert rule.valid
    assert rule.invalid
    names = [c.name for c in (*rule.valid, *rule.invalid, *rule.limits)]
    assert len(names) == len(set(names))
