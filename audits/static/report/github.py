"""GitHub workflow annotations."""

from __future__ import annotations

from audits.static.findings import Finding, Report


def render(report: Report) -> str:
    """One `::error` line for each finding."""
    return "".join(_line(f) for f in report.findings)


def _line(finding: Finding) -> str:
    path = " -> ".join(s.symbol for s in finding.call_path)
    message = finding.message + (f"\npath: {path}" if path else "")
    place = f"file={_property(finding.path)},line={finding.line},col={finding.column}"
    return f"::error {place},title={_property(finding.rule)}::{_data(message)}\n"


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
