"""`python -m audits all`: every audit of the source and of small runs, and one report of them together."""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from audits.runtime import cli as runtime
from audits.runtime import data as shards
from audits.runtime import path_audit
from audits.static import cli as static
from audits.static.errors import AuditInputError, Parser
from audits.static.report import write_atomically
from ris_pipeline.attestation import AUDIT_NAME, subject
from ris_pipeline.errors import RisError
from ris_pipeline.model import Checkpoint, load_model
from ris_pipeline.shards import Manifest, read_manifest

SCHEMA_VERSION = 1


def main(argv: Sequence[str] | None = None) -> int:
    """Run the static audit, the covariance paths and the run-time audit; return the worst exit code.

    An audit that finds something does not keep the others from running.
    """
    parser = Parser(prog="python -m audits all", description="Run every audit, and attest what they were made of.")
    parser.add_argument("--root", default=".", metavar="DIR", help="source tree of the static audit (default: this folder)")
    parser.add_argument("--data", type=Path, metavar="DIR", help="a data folder to audit as well")
    parser.add_argument(
        "--weights", type=Path, metavar="W", help="a checkpoint or run whose configuration the report is for, and whose paths are watched"
    )
    parser.add_argument(
        "--report", type=Path, metavar="FILE", help=f"write one JSON document with all reports and the attestation, {AUDIT_NAME}"
    )
    try:
        options = parser.parse_args(argv)
        checkpoint = None if options.weights is None else load_model(options.weights)
        manifest = None if options.data is None else read_manifest(options.data)
        return _run(options.root, options.report, options.data, manifest, options.weights, checkpoint)
    except AuditInputError as error:
        sys.stderr.write(f"{parser.prog}: {error}\n")
        return 2
    except RisError as error:
        sys.stderr.write(f"{parser.prog}: {error}\n")
        return error.exit_code


def _run(
    root: str, report: Path | None, data: Path | None, manifest: Manifest | None, weights: Path | None, checkpoint: Checkpoint | None
) -> int:
    before = subject().source_sha256
    with tempfile.TemporaryDirectory() as folder:
        parts = {name: Path(folder) / f"{name}.json" for name in ("static", "covariance_paths", "runtime", "data")}

        def formats(name: str) -> list[str]:
            return ["--format", "text", "--format", f"json={parts[name]}"]

        watched = [] if weights is None else ["--weights", str(weights)]
        codes = {
            "static": static.main(["--root", root, *formats("static")]),
            "covariance_paths": path_audit.main([*watched, *formats("covariance_paths")]),
            "runtime": runtime.main(["--select", "RUN,DATA", *formats("runtime")]),
        }
        if data is not None:
            codes["data"] = shards.main([str(data), *formats("data")])
        if report is not None:
            documents = {name: json.loads(parts[name].read_text()) if parts[name].exists() else None for name in codes}
            vouched = attestation(codes, manifest, checkpoint, before)
            head: dict[str, Any] = {"schema_version": SCHEMA_VERSION, "exit_codes": codes, "attestation": vouched}
            write_atomically(report, json.dumps(head | documents, indent=1) + "\n")
    return max(codes.values())


def attestation(codes: dict[str, int], manifest: Manifest | None, checkpoint: Checkpoint | None, before: str) -> dict[str, Any]:
    """What the audits were made of, and whether all of them passed and the source was the same at the end as ``before``."""
    made = subject(
        None if checkpoint is None else checkpoint.config.sha256(),
        None if manifest is None else manifest.sha256(),
        None if checkpoint is None else checkpoint.record,
    )
    passed = not any(codes.values()) and made.source_sha256 == before
    return {"passed": passed, "audits": sorted(codes), **made.as_dict()}
