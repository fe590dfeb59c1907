"""Results of a run-time audit, as text for people and JSON for programs."""

from __future__ import annotations

import json
import math
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from io import StringIO
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from audits.runtime.advice import ADVICE
from audits.runtime.manual import MANUAL

SCHEMA_VERSION = 1
Evidence = Mapping[str, Any]
Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Result:
    """The verdict of one check on one subject, with the numbers behind it."""

    code: str
    subject: str
    passed: bool
    message: str
    evidence: Evidence = field(default_factory=dict)


@dataclass(slots=True)
class Report:
    """Everything that one audit found; ``rows`` is the table for people, ``details`` the longer one that only JSON shows."""

    audit: str
    results: list[Result] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    details: list[Row] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)
    timings_s: dict[str, float] = field(default_factory=dict)
    incomplete: dict[str, str] = field(default_factory=dict)

    @property
    def passed(self) -> bool:
        """Whether something was checked, all of it to the end, and nothing failed."""
        return bool(self.results) and not self.incomplete and not self.failures

    @property
    def failures(self) -> list[Result]:
        """The results that failed."""
        return [result for result in self.results if not result.passed]


def environment(device: str = "cpu") -> dict[str, str]:
    """What the run depends on beside the source."""
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "machine": platform.machine(),
        "device": device,
    }


def to_json(report: Report) -> str:
    """The whole report; numbers that JSON cannot hold become strings."""
    document = {
        "schema_version": SCHEMA_VERSION,
        "audit": report.audit,
        "passed": report.passed,
        "incomplete": report.incomplete,
        "results": [{**asdict(result), "title": MANUAL[result.code].title} for result in report.results],
        "rows": report.rows,
        "details": report.details,
        "facts": report.facts,
        "timings_s": {name: round(seconds, 3) for name, seconds in report.timings_s.items()},
    }
    return json.dumps(_plain(document), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def to_text(report: Report) -> str:
    """The report without colours, for files."""
    buffer = StringIO()
    show(report, Console(file=buffer, width=160, color_system=None, highlight=False))
    return buffer.getvalue()


FORMATS: dict[str, Callable[[Report], str]] = {"text": to_text, "json": to_json}


def show(report: Report, console: Console) -> None:
    """Print the report."""
    if report.rows:
        console.print(_row_table(report.rows))
    for result in report.results:
        mark = "[green]passed[/]" if result.passed else "[red]FAILED[/]"
        console.print(f"{result.code} {mark} {escape(result.subject)}: {escape(result.message)}", soft_wrap=True)
        if not result.passed:
            for name, value in result.evidence.items():
                console.print(f"    {escape(name)}: {escape(_short(value))}", soft_wrap=True)
            advice = ADVICE[result.code]
            console.print(f"    why: {escape(advice.why)} (--explain {result.code})", soft_wrap=True)
            console.print(f"    mend: {escape(advice.mend)}", soft_wrap=True)
    for name, value in report.facts.items():
        console.print(f"{escape(name)}: {escape(_short(value))}", soft_wrap=True)
    for name, reason in report.incomplete.items():
        console.print(f"[red]could not complete[/] {escape(name)}: {escape(reason)}", soft_wrap=True)
    verdict = "[green]all passed[/]" if report.passed else f"[red]{len(report.failures)} failed, {len(report.incomplete)} incomplete[/]"
    seconds = sum(report.timings_s.values())
    console.print(
        f"{report.audit}: {len(report.results)} {'check' if len(report.results) == 1 else 'checks'}, {verdict}, {seconds:.1f} s",
        soft_wrap=True,
    )


def _row_table(rows: Sequence[Row]) -> Table:
    table = Table()
    for name, value in rows[0].items():
        table.add_column(name, no_wrap=name in ("path", "verdict"), justify="left" if isinstance(value, str) else "right")
    for row in rows:
        cells = [escape(_cell(value)) for value in row.values()]
        table.add_row(*cells, style="red" if row.get("verdict") == "FAILED" else None)
    return table


def _cell(value: Any) -> str:
    return f"{value:.1e}" if isinstance(value, float) else str(value)


def _short(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_short(item)}" for key, item in value.items())
    if isinstance(value, (list, tuple)):
        shown = ", ".join(_short(item) for item in value[:12])
        return f"{shown}, ... ({len(value)} in all)" if len(value) > 12 else shown
    return str(value)


def _plain(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value
