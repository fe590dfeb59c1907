"""What ties a result to the source, configuration, data and versions that made it, and to the audit that vouched for them."""

from __future__ import annotations

import json
import platform
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import torch

from ris_pipeline.errors import DataError
from ris_pipeline.files import source_digest

AUDIT_NAME = "audit-report.json"
PACKAGE = Path(__file__).resolve().parent


@dataclass(frozen=True)
class Subject:
    """Digests of what made a result; ``None`` where something was not involved or is not known.

    ``source_sha256`` is of the package that runs now, ``trained_source_sha256`` of the one that trained the weights.
    """

    source_sha256: str
    config_sha256: str | None
    manifest_sha256: str | None
    versions: dict[str, str]
    trained_source_sha256: str | None = None
    trained_manifest_sha256: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """Names and values."""
        return asdict(self)


def subject(config_sha256: str | None = None, manifest_sha256: str | None = None, record: Mapping[str, Any] | None = None) -> Subject:
    """The running package with a configuration, a data set, and the record of the weights."""
    known = record or {}
    return Subject(
        source_digest(PACKAGE), config_sha256, manifest_sha256, versions(), known.get("source_sha256"), known.get("manifest_sha256")
    )


def versions() -> dict[str, str]:
    """Versions that a result may depend on."""
    return {"python": platform.python_version(), "torch": torch.__version__, "numpy": np.__version__, "optuna": optuna.__version__}


def find_audit(folders: Iterable[Path]) -> Path | None:
    """The first ``audit-report.json`` in the folders."""
    return next((folder / AUDIT_NAME for folder in folders if (folder / AUDIT_NAME).is_file()), None)


def read_audit(path: Path) -> dict[str, Any]:
    """The attestation inside a report that ``python -m audits all --report`` wrote.

    Raises:
        DataError: the file is missing or is not such a report.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"cannot read the audit report {path}: {error.strerror}") from None
    except ValueError as error:
        raise DataError(f"{path} is not JSON: {error}") from None
    found = document.get("attestation") if isinstance(document, dict) else None
    if not isinstance(found, dict) or not isinstance(found.get("source_sha256"), str) or not isinstance(found.get("passed"), bool):
        raise DataError(f"{path} is not an audit report as `python -m audits all --report` writes it: it holds no attestation")
    return found


def attest(result: Subject, audit: Mapping[str, Any] | None) -> dict[str, Any]:
    """Compare a result with an audit: ``status`` is "attested", "failed", "does not match" or "not audited", ``differences`` say why."""
    document: dict[str, Any] = {"subject": result.as_dict(), "audit": None if audit is None else dict(audit)}
    if audit is None:
        return document | {"status": "not audited", "differences": []}
    differences = list(_differences(result, audit))
    status = "does not match" if differences else "attested" if audit["passed"] else "failed"
    return document | {"status": status, "differences": differences}


def _differences(result: Subject, audit: Mapping[str, Any]) -> Iterable[str]:
    pairs = (
        ("source", audit["source_sha256"], result.source_sha256),
        ("source that trained the weights", audit["source_sha256"], result.trained_source_sha256),
        ("configuration", audit.get("config_sha256"), result.config_sha256),
        ("data", audit.get("manifest_sha256"), result.manifest_sha256),
    )
    for what, audited, used in pairs:
        if audited is not None and used is not None and audited != used:
            yield f"{what} {used[:12]}, audited was {audited[:12]}"
    stated = audit.get("versions") or {}
    yield from (f"{name} {now}, audited with {stated[name]}" for name, now in result.versions.items() if stated.get(name, now) != now)


def sentence(attestation: Mapping[str, Any]) -> str:
    """One sentence for people."""
    source = attestation["subject"]["source_sha256"][:12]
    said = {
        "attested": f"audited: every audit of this source ({source}) passed",
        "failed": f"AUDIT FAILED: an audit of this source ({source}) found something",
        "not audited": f"not audited: no {AUDIT_NAME} for this source ({source}); `python -m audits all --report {AUDIT_NAME}` writes one",
        "does not match": f"AUDIT DOES NOT MATCH: {'; '.join(attestation['differences'])}",
    }
    return said[attestation["status"]]
