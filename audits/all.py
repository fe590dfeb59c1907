"""`python -m audits all`: every audit of the source and of a small run, and one report of them together."""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from audits.runtime import cli as runtime
from audits.runtime import path_audit
from audits.static import cli as static
from audits.static.errors import AuditInputError, Parser
from audits.static.report import write_atomically


def main(argv: Sequence[str] | None = None) -> int:
    """Run the static audit, the covariance paths and the run-time audit; return the worst exit code.

    An audit that finds something does not keep the others from running.
    """
    parser = Parser(prog="python -m audits all", description="Run every audit but that of shards.")
    parser.add_argument("--root", default=".", metavar="DIR", help="source tree of the static audit (default: this folder)")
    parser.add_argument("--report", type=Path, metavar="FILE", help="write the three reports as one JSON document")
    try:
        options = parser.parse_args(argv)
        return _run(options.root, options.report)
    except AuditInputError as error:
        sys.stderr.write(f"{parser.prog}: {error}\n")
        return 2


def _run(root: str, report: Path | None) -> int:
    with tempfile.TemporaryDirectory() as folder:
        parts = {name: Path(folder) / f"{name}.json" for name in ("static", "covariance_paths", "runtime")}

        def formats(name: str) -> list[str]:
            return ["--format", "text", "--format", f"json={parts[name]}"]

        codes = {
            "static": static.main(["--root", root, *formats("static")]),
            "covariance_paths": path_audit.main(formats("covariance_paths")),
            "runtime": runtime.main(["--select", "RUN,DATA", *formats("runtime")]),
        }
        if report is not None:
            documents = {name: json.loads(path.read_text()) if path.exists() else None for name, path in parts.items()}
            write_atomically(report, json.dumps({"schema_version": 1, "exit_codes": codes} | documents, indent=1) + "\n")
    return max(codes.values())
