"""The verdict on an importable package, for commands that audit themselves before a long run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from audits.static.findings import Report
from audits.static.run import audit
from audits.static.settings import load_settings
from audits.static.source.cache import FOLDER, Cache, user_cache_folder
from audits.static.source.sources import is_installation

TABLES = Path(__file__).parents[1] / "tables"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the audits say of a package; `sources_sha256` names exactly the sources that were audited.

    `status` is `proved` where nothing was found, `violated` where a claim is refuted, and `unresolved` where the only
    findings are of code that can't be seen through. `findings` are sentences with their places.
    """

    status: str
    sources_sha256: str
    findings: tuple[str, ...]
    checked: tuple[str, ...]

    @property
    def record(self) -> dict[str, object]:
        """The verdict as plain values, to be stored with what the audited code makes."""
        return {"status": self.status, "sources_sha256": self.sources_sha256, "findings": len(self.findings), "checked": [*self.checked]}


def preflight(root: Path, table: Path) -> Verdict:
    """Audit the packages of a `[tool.audits]` table under `root`; an unchanged package is answered from the cache.

    The cache lies beside a checkout, and in the user's cache folder for an installed package.

    Raises:
        AuditInputError: the table or a source file is not usable.
        AuditIncompleteError: the audit could not be completed.
    """
    settings = load_settings(table)
    beside = None if is_installation(root) else Cache.open(root / FOLDER, required=False)
    return verdict(audit(root, settings, cache=beside or Cache.open(user_cache_folder(), required=False)))


def verdict(report: Report) -> Verdict:
    """The verdict that a report amounts to."""
    unresolved = {"HOT002"} >= {f.rule for f in report.findings}
    status = "proved" if not report.findings else "unresolved" if unresolved else "violated"
    findings = tuple(f"{f.path}:{f.line}: {f.rule} {f.message}" for f in report.findings)
    return Verdict(status, report.sources_sha256, findings, tuple(report.checked))
