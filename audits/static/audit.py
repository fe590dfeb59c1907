"""One run: load, analyse, check, suppress."""

from __future__ import annotations

import datetime as dt
import gc
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

from audits.static import hot_proofs, shared
from audits.static.analysis.engine import Analysis
from audits.static.context import Context
from audits.static.errors import AuditIncompleteError, AuditInputError
from audits.static.findings import Finding, Report
from audits.static.rules import all_rules
from audits.static.rules.base import Rule
from audits.static.rules.sup001 import review
from audits.static.settings import Settings, suggest_rule
from audits.static.source.cache import Cache
from audits.static.source.project import Project
from audits.static.source.sources import SourceFile, read_sources
from audits.static.source.worker import RECURSION
from audits.static.suppress import apply_suppressions, suppressions

_T = TypeVar("_T")


_LONGEST = frozenset({"COV001", "COV003", "GEO001", "UNIT001"})  # they start first, so that no process waits for one of them


def choose_rules(settings: Settings, select: Iterable[str], ignore: Iterable[str]) -> tuple[list[Rule], list[str]]:
    """The rules to run, and the codes of those whose table is absent.

    Raises:
        AuditInputError: an unknown code, or nothing is left to check.
    """
    rules = all_rules()
    select, ignore = list(select), list(ignore)
    for code in [*select, *ignore]:
        if code not in rules:
            raise AuditInputError(f"unknown rule {code!r}; {suggest_rule(code, [*rules])}.")
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
    """Audit the packages under `root`, with no cache.

    Raises:
        AuditInputError: the configuration or the analysed source is not usable.
    """
    choose_rules(settings, select, ignore)
    return analyse(root, settings, read_sources(root, settings.packages), select=select, ignore=ignore, today=today)[0]


def analyse(
    root: Path,
    settings: Settings,
    files: list[SourceFile],
    *,
    select: Iterable[str] = (),
    ignore: Iterable[str] = (),
    cache: Cache | None = None,
    today: dt.date | None = None,
    processes: int = 1,
) -> tuple[Report, dict[str, bool]]:
    """Audit `files`; also tells which outside names were looked for beside the packages, and whether they were there.

    With more than one of `processes`, a child shares the rules.

    Raises:
        AuditInputError: the configuration or the analysed source is not usable.
        AuditIncompleteError: the source is nested too deeply, for some rules or for all.
    """
    rules, missing = choose_rules(settings, select, ignore)
    report = Report(str(root), not_configured=missing, checked=[r.code for r in rules], files=len(files))
    before = sys.getrecursionlimit()
    collecting = gc.isenabled()
    sys.setrecursionlimit(max(before, RECURSION))
    gc.disable()  # everything that is made here lives until the end
    try:
        project = _timed(report, "parse", lambda: Project.build(root, files, cache))
        context = _timed(report, "analyse", lambda: _context(project, settings))
        _check(report, rules, context, today or dt.date.today(), processes)
    except RecursionError as error:
        raise AuditIncompleteError("the code is nested too deeply to be analysed.") from error
    finally:
        sys.setrecursionlimit(before)
        if collecting:
            gc.enable()
    return report, project.asked


def _context(project: Project, settings: Settings) -> Context:
    analysis = Analysis(project)
    analysis.start()
    context = Context(settings, project, analysis)
    if "hot-path" in settings.tables:
        _ = context.reaches
    return context


@dataclass(frozen=True, slots=True)
class _Outcome:
    """What one rule found in how many seconds, unless the code nests too deeply for it."""

    findings: tuple[Finding, ...] | None
    seconds: float
    asked: dict[str, bool]


def _outcome(context: Context, rules: dict[str, Rule], code: str) -> _Outcome:
    started = time.perf_counter()
    try:
        found = tuple(rules[code].check(context))
    except RecursionError:
        found = None
    return _Outcome(found, time.perf_counter() - started, context.project.asked)


def _check(report: Report, rules: list[Rule], context: Context, today: dt.date, processes: int) -> None:
    found: list[Finding] = []
    stopped: list[str] = []
    if processes > 1:
        _ = context.flow, context.origins  # what several rules ask is worked out before they part
    by_code = {r.code: r for r in rules}
    codes = sorted(by_code, key=lambda c: (c not in _LONGEST, c))
    for code, outcome in shared.results(codes, partial(_outcome, context, by_code), processes=processes).items():
        report.timings_s[code] = outcome.seconds
        context.project.asked |= outcome.asked
        found += outcome.findings or ()
        if outcome.findings is None:
            stopped.append(code)
            report.checked.remove(code)
    project = context.project
    comments = [c for m in project.configured_modules() for c in suppressions(m)]
    unique = sorted(dict.fromkeys(found), key=lambda f: f.order)
    standing, report.suppressed = apply_suppressions(unique, comments, today)
    if "SUP001" in report.checked:
        standing += review(context, comments, report.checked, today)
    report.findings = sorted(standing, key=lambda f: f.order)
    report.proofs = hot_proofs.proofs(context, report.checked) if "hot-path" in context.settings.tables else []
    shown = {f.path for f in report.findings} | {s.finding.path for s in report.suppressed}
    report.sources = {m.relative: m.lines for m in project.modules.values() if m.relative in shown}
    report.functions = len(project.functions)
    if stopped:
        raise AuditIncompleteError(f"the code is nested too deeply for {', '.join(stopped)}; the other rules were completed.", report)


def _timed(report: Report, name: str, step: Callable[[], _T]) -> _T:
    started = time.perf_counter()
    out = step()
    report.timings_s[name] = time.perf_counter() - started
    return out
