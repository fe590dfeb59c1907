"""The report formats."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from audits.static.findings import Report
from audits.static.report import github, jsonreport, junit, sarif, text

FORMATS: dict[str, Callable[[Report], str]] = {
    "text": text.render,
    "json": jsonreport.render,
    "github": github.render,
    "sarif": sarif.render,
    "junit": junit.render,
}


def write_atomically(path: Path, content: str) -> None:
    """Write through a temporary name, so that a reader never sees half a report."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_text(content, encoding="utf-8")
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
