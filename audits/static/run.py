"""One run with its caches: an unchanged tree answers from the stored result, a changed one lowers only what changed."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import tempfile
import time
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from audits.static.findings import Report
from audits.static.settings import Settings
from audits.static.source.cache import Cache, analyser_version, dump_facts, facts_key, load_facts
from audits.static.source.sources import SourceFile, is_beside, read_sources


def audit(
    root: Path,
    settings: Settings,
    *,
    select: Iterable[str] = (),
    ignore: Iterable[str] = (),
    cache: Cache | None = None,
    today: dt.date | None = None,
    processes: int = 1,
) -> Report:
    """Audit the packages under `root`, reading what `cache` knows and extending it; more than one of `processes` share the rules.

    Raises:
        AuditInputError: the configuration or the analysed source is not usable.
    """
    started = time.perf_counter()
    select, ignore, today = sorted(set(select)), sorted(set(ignore)), today or dt.date.today()
    files = read_sources(root, settings.packages)
    digest = sources_digest(files)
    key = _result_key(digest, settings, select, ignore, today if any(b"until" in f.content for f in files) else None)
    known = _stored(root, cache, key)
    if known is not None:
        known.root, known.timings_s = str(root), {"cached": time.perf_counter() - started}
        return known
    from audits.static.audit import analyse  # noqa: PLC0415 - the analyser takes longer to import than a stored result to read

    if cache is not None:
        report, asked = _analyse(analyse, root, settings, files, select, ignore, cache, today, processes)
        report.sources_sha256 = digest
        cache.store(key, dump_facts((report, asked)) or b"")
        cache.prune()
    else:
        with tempfile.TemporaryDirectory() as folder:
            report, _ = _analyse(analyse, root, settings, files, select, ignore, Cache.open(Path(folder), required=True), today, processes)
        report.sources_sha256 = digest
    return report


def _analyse(analyse: Any, root: Path, settings: Settings, files: list[SourceFile], select: list[str], ignore: list[str],
             cache: Cache | None, today: dt.date, processes: int) -> tuple[Report, dict[str, bool]]:  # fmt: skip
    from audits.static.source.worker import lower_all  # noqa: PLC0415 - as above

    started = time.perf_counter()
    assert cache is not None
    lower_all([f for f in files if cache.load(facts_key(f.sha256)) is None], cache)
    lowered = time.perf_counter()
    report, asked = analyse(root, settings, files, select=select, ignore=ignore, cache=cache, today=today, processes=processes)
    report.timings_s["parse"] += lowered - started
    return report, asked


def sources_digest(files: Iterable[SourceFile]) -> str:
    """The digest of the audited sources: paths and contents."""
    return hashlib.sha256("".join(f"{f.relative}\0{f.sha256}\n" for f in sorted(files, key=lambda f: f.relative)).encode()).hexdigest()


def _result_key(digest: str, settings: Settings, select: list[str], ignore: list[str], day: dt.date | None) -> str:
    table = {k: sorted(v) if isinstance(v, frozenset) else v for k, v in asdict(settings).items()}
    asked = json.dumps([digest, table, select, ignore, str(day), analyser_version()], sort_keys=True)
    return f"result-{hashlib.sha256(asked.encode()).hexdigest()}"


def _stored(root: Path, cache: Cache | None, key: str) -> Report | None:
    content = cache.load(key) if cache is not None else None
    known = load_facts(content) if content is not None else None
    if not isinstance(known, tuple):
        return None
    report, asked = known
    same = all(is_beside(root, name) == there for name, there in asked.items())
    return report if same and isinstance(report, Report) else None
