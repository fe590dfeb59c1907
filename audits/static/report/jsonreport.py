"""The JSON report, schema version 1."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from audits.static.findings import Finding, Report


def finding_dict(finding: Finding) -> dict[str, Any]:
    """One finding as the schema has it."""
    return {
        "rule": finding.rule,
        "severity": finding.severity,
        "path": finding.path,
        "line": finding.line,
        "column": finding.column,
        "message": finding.message,
        "symbol": finding.symbol,
        "entry_point": finding.entry_point,
        "call_path": [asdict(step) for step in finding.call_path],
    }


def render(report: Report) -> str:
    """The whole report."""
    document = {
        "schema_version": 1,
        "proofs": [asdict(p) for p in report.proofs],
        "findings": [finding_dict(f) for f in report.findings],
        "suppressed": [{**finding_dict(s.finding), "reason": s.reason, "until": s.until} for s in report.suppressed],
        "not_configured": report.not_configured,
        "timings_s": {k: round(v, 4) for k, v in report.timings_s.items()},
    }
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"
