"""Fingerprints of findings, and baselines: findings that are known, to be removed one by one, and never added to."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import tokenize
from collections import Counter
from pathlib import Path
from typing import Any

from audits.static.errors import AuditInputError
from audits.static.findings import Finding, Report

_VERSION = 1


def fingerprints(report: Report, findings: list[Finding]) -> list[str]:
    """One for each finding; the same wherever its line moves, as long as its code, symbol and rule stay; comments do not count."""
    seen: Counter[str] = Counter()
    out = []
    for finding in findings:
        lines = report.sources.get(finding.path, [])
        text = _code(lines[finding.line - 1]) if 0 < finding.line <= len(lines) else finding.entry_point
        same = hashlib.sha256("\0".join((finding.rule, finding.path, finding.symbol, text)).encode()).hexdigest()[:32]
        seen[same] += 1
        out.append(f"{same}:{seen[same]}")
    return out


def _code(line: str) -> str:
    words = []
    # A line that is a part of a longer statement ends with an error, once all of it has been read.
    with contextlib.suppress(tokenize.TokenError, SyntaxError):
        for token in tokenize.generate_tokens(io.StringIO(line.strip()).readline):
            if token.type != tokenize.COMMENT:
                words.append(token.string)
    return " ".join(" ".join(words).split())


def write_baseline(report: Report, path: Path) -> None:
    """Write the findings of `report` as the baseline.

    Raises:
        AuditInputError: the file is already a baseline, and this one would allow more.
    """
    from audits.static.report import write_atomically  # noqa: PLC0415 - the reports import this module

    prints = fingerprints(report, report.findings)
    if path.exists():
        more = [f for f, p in zip(report.findings, prints, strict=True) if p not in read_baseline(path)]
        if more:
            first = f"{more[0].rule} at {more[0].path}:{more[0].line}"
            raise AuditInputError(f"--write-baseline: {str(path)!r} may only shrink, but {len(more)} findings are new, first {first}.")
    entries = [
        {"fingerprint": p, "rule": f.rule, "path": f.path, "message": f.message} for f, p in zip(report.findings, prints, strict=True)
    ]
    try:
        write_atomically(path, json.dumps({"schema_version": _VERSION, "findings": entries}, indent=1) + "\n")
    except OSError as error:
        raise AuditInputError(f"--write-baseline: can't write {str(path)!r}: {error.strerror}.") from error


def read_baseline(path: Path) -> dict[str, dict[str, Any]]:
    """The entries of a baseline by fingerprint.

    Raises:
        AuditInputError: there is no such file, or it is no baseline.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        return {str(e["fingerprint"]): {"rule": str(e["rule"]), "path": str(e["path"])} for e in document["findings"]}
    except OSError as error:
        raise AuditInputError(f"--baseline: expected a readable file {str(path)!r}: {error.strerror}.") from error
    except (ValueError, KeyError, TypeError) as error:
        raise AuditInputError(f"--baseline: expected {str(path)!r} to be written by --write-baseline, but it is not.") from error


def apply_baseline(report: Report, path: Path) -> None:
    """Take the findings of the baseline out of `report`; an entry that no longer occurs is a finding itself.

    Raises:
        AuditInputError: as :func:`read_baseline`.
    """
    known = read_baseline(path)
    prints = fingerprints(report, report.findings)
    gone = {p: e for p, e in known.items() if p not in set(prints) and e["rule"] in report.checked}
    report.baselined = sum(p in known for p in prints)
    report.findings = [f for f, p in zip(report.findings, prints, strict=True) if p not in known]
    lines = path.read_text(encoding="utf-8").splitlines()
    for fingerprint, entry in gone.items():
        line = next((n for n, text in enumerate(lines, 1) if fingerprint in text), 1)
        message = f"the baseline allows {entry['rule']} in {entry['path']}, which no longer occurs; remove the entry"
        report.findings.append(Finding("SUP001", path.name, line, 1, message))
    if gone:
        report.sources[path.name] = lines
