"""One run: load, analyse, check, suppress."""

from __future__ import annotations

import datetime as dt
import sys
import time
from collections.abc import Iterable
from pathlib import Path

from audits.static import hot_proofs
from audits.static.engine import Analysis
from audits.static.errors import AuditInputError
from audits.static.findings import Finding, Report
from audits.static.project import Project
from audits.static.rules import all_rules
from audits.static.rules.base import Context, Rule
from audits.static.rules.sup001 import review
from audits.static.settings import Settings, nearest
from audits.static.suppress import apply_suppressions, suppressions

_RECURSION = 6_000  # a sum of several hundred terms nests as deeply; beyond this a file is refused


def choose_rules(settings: Settings, select: Iterable[str], ignore: Iterable[str]) -> tuple[list[Rule], list[str]]:
    """The rules to run, and the codes of those whose table is absent.

    Raises:
        AuditInputError: an unknown code, or nothing is left to check.
    """
    rules = all_rules()
    select, ignore = list(select), list(ignore)
    for code in [*select, *ignore]:
        if code not in rules:
            raise AuditInputError(f"unknown rule {code!r}; the nearest known one is {nearest(code, list(rules))!r}.")
    wanted = [r for c, r in rules.items() if (not select or c in select) and c not in ignore]
    missing = [r.code for r in wanted if r.table and r.table not in settings.tables]
    chosen = [r for r in wanted if r.code not in missing]
    if not chosen or (not settings.tables and not select):
        tables = ", ".join(f"[tool.audits.{t}]" for t in sorted({r.table for r in rules.values() if r.table}))
        raise AuditInputError(f"{settings.source}: nothing is configured to check; expected one of {tables}.")
    return chosen, missing


def run_audit(
    root: Path,
    settings: Settings,
    *,
    select: Iterable[str] = (),
    ignore: Iterable[str] = (),
    today: dt.date | None = None,
) -> Report:
    """Audit the packages under `root`.

    Raises:
        AuditInputError: the configuration or the analysed source is not usable.
    """
    rules, missing = choose_rules(settings, select, ignore)
    sys.setrecursionlimit(max(sys.getrecursionlimit(), _RECURSION))
    report = Report(str(root), not_configured=missing, checked=[r.code for r in rules])
    started = time.perf_counter()
    project = Project.load(root, settings.packages)
    report.timings_s["parse"] = time.perf_counter() - started
    started = time.perf_counter()
    analysis = Analysis(project)
    analysis.start()
    context = Context(settings, project, analysis)
    if "hot-path" in settings.tables:
        _ = context.reaches
    report.timings_s["analyse"] = time.perf_counter() - started
    found: list[Finding] = []
    for rule in rules:
        started = time.perf_counter()
        found += rule.check(context)
        report.timings_s[rule.code] = time.perf_counter() - started
    comments = [c for m in project.configured_modules() for c in suppressions(m)]
    unique = sorted(dict.fromkeys(found), key=lambda f: f.order)
    standing, report.suppressed = apply_suppressions(unique, comments, today or dt.date.today())
    if "SUP001" in report.checked:
        standing += review(context, comments, report.checked, today or dt.date.today())
    report.findings = sorted(standing, key=lambda f: f.order)
    report.proofs = hot_proofs.proofs(context, report.checked) if "hot-path" in settings.tables else []
    report.sources = {m.relative: m.lines for m in project.modules.values()}
    report.files = len(project.modules)
    return report
