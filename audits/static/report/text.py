"""The terminal report."""

from __future__ import annotations

from io import StringIO

from rich.console import Console
from rich.markup import escape

from audits.static.findings import Finding, Report
from audits.static.rules import all_rules

_COLOURS = {"proved": "green", "violated": "red", "unresolved": "yellow"}


def render(report: Report) -> str:
    """The report without colours, for files."""
    buffer = StringIO()
    show(report, Console(file=buffer, width=120, color_system=None, highlight=False))
    return buffer.getvalue()


def show(report: Report, console: Console) -> None:
    """Print the report."""
    for finding in report.findings:
        _finding(report, finding, console)
    for proof in report.proofs:
        colour = _COLOURS[proof.status]
        console.print(
            f"{proof.rule} [{colour}]{proof.status}[/] {escape(proof.entry_point)}: "
            f"{proof.reachable_functions} functions, {proof.call_sites} calls, {proof.unresolved} unresolved",
            soft_wrap=True,
        )
    if report.not_configured:
        console.print(f"not configured: {', '.join(report.not_configured)}", soft_wrap=True)
    count = len(report.findings)
    verdict = "no findings" if count == 0 else f"{count} finding{'s' if count != 1 else ''}"
    allowed = f", {len(report.suppressed)} suppressed" if report.suppressed else ""
    allowed += f", {report.baselined} in the baseline" if report.baselined else ""
    allowed += f", {report.elsewhere} in files that have not changed" if report.elsewhere else ""
    console.print(f"{verdict}{allowed} in {report.files} files ({', '.join(report.checked)})", soft_wrap=True)


def _finding(report: Report, finding: Finding, console: Console) -> None:
    rule = all_rules()[finding.rule]
    place = f"{finding.path}:{finding.line}:{finding.column}"
    console.print(f"[bold]{escape(place)}[/]: [red]{finding.rule}[/] {escape(finding.message)}", soft_wrap=True)
    lines = report.sources.get(finding.path, [])
    if 0 < finding.line <= len(lines):
        text = lines[finding.line - 1].replace("\t", " ")
        width = max(finding.end_column - finding.column, 1)
        console.print(f"  {finding.line:>5} | {escape(text)}", soft_wrap=True)
        console.print(f"        | {' ' * (finding.column - 1)}[red]{'^' * width}[/]", soft_wrap=True)
    if finding.call_path:
        console.print("  path:")
        for depth, step in enumerate(finding.call_path):
            arrow = "" if depth == 0 else "-> "
            line = f"    {'  ' * depth}{arrow}{escape(step.symbol)} ({escape(step.path)}:{step.line})"
            console.print(line, soft_wrap=True)
    console.print(f"  why: {escape(rule.title)} (python -m audits static --explain {rule.code})", soft_wrap=True)
    mend = rule.mend if finding.path.endswith(".py") else "Name what is there, or take the entry out."
    console.print(f"  mend: {escape(mend)}\n", soft_wrap=True)
