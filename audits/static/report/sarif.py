"""SARIF 2.1.0."""

from __future__ import annotations

import json
from typing import Any

from audits.static.findings import Finding, Report
from audits.static.report.baseline import fingerprints
from audits.static.rules import all_rules

_SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"


def render(report: Report) -> str:
    """The whole report as one run."""
    rules = all_rules()
    every = [*report.findings, *(s.finding for s in report.suppressed)]
    results = [_result(f, p) for f, p in zip(every, fingerprints(report, every), strict=True)]
    for result, allowed in zip(results[len(report.findings) :], report.suppressed, strict=True):
        result["suppressions"] = [{"kind": "inSource", "justification": allowed.reason}]
    driver = {
        "name": "ris-audit",
        "rules": [
            {
                "id": r.code,
                "shortDescription": {"text": r.title},
                "fullDescription": {"text": r.manual},
                "help": {"text": r.mend},
            }
            for r in rules.values()
        ],
    }
    run = {"tool": {"driver": driver}, "results": results, "columnKind": "unicodeCodePoints"}
    return json.dumps({"$schema": _SCHEMA, "version": "2.1.0", "runs": [run]}, indent=2) + "\n"


def _result(finding: Finding, fingerprint: str) -> dict[str, Any]:
    result: dict[str, Any] = {
        "ruleId": finding.rule,
        "level": finding.severity,
        "message": {"text": finding.message},
        "locations": [_location(finding.path, finding.line, finding.column, finding.symbol)],
        "partialFingerprints": {"audit/v1": fingerprint},
    }
    if finding.call_path:
        steps = [{"location": _location(s.path, s.line, 1, s.symbol)} for s in finding.call_path]
        result["codeFlows"] = [{"threadFlows": [{"locations": steps}]}]
    return result


def _location(path: str, line: int, column: int, symbol: str) -> dict[str, Any]:
    region = {"startLine": line, "startColumn": column}
    location: dict[str, Any] = {"physicalLocation": {"artifactLocation": {"uri": path}, "region": region}}
    if symbol:
        location["logicalLocations"] = [{"fullyQualifiedName": symbol}]
        location["message"] = {"text": symbol}
    return location
