"""Lowers files into a cache; `python -m audits.static.source.worker FOLDER` reads their paths from standard input."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from audits.static.errors import AuditInputError
from audits.static.source.cache import Cache, dump_facts, facts_key
from audits.static.source.sources import SourceFile

_SHARE = 60_000  # bytes of source whose lowering takes as long as starting a process
_MOST = 8
RECURSION = 6_000  # a sum of several hundred terms nests as deeply; beyond this a file is refused


def lower_all(files: list[SourceFile], cache: Cache) -> None:
    """Put the facts of `files` into the cache, on as many cores as that is worth; what fails is left out."""
    total = sum(len(f.content) for f in files)
    count = max(1, min(cores(), _MOST, total // _SHARE))
    shares: list[list[SourceFile]] = [[] for _ in range(count)]
    sizes = [0] + [_SHARE] * (count - 1)
    for file in sorted(files, key=lambda f: -len(f.content)):
        least = sizes.index(min(sizes))
        shares[least].append(file)
        sizes[least] += len(file.content)
    started = [_start(share, cache) for share in shares[1:]]
    for file in shares[0]:
        lower_into(cache, file.content, file.relative)
    for process in started:
        process.wait()


def _start(share: list[SourceFile], cache: Cache) -> subprocess.Popen[bytes]:
    home = str(Path(__file__).resolve().parents[3])
    path = os.pathsep.join([home, *([os.environ["PYTHONPATH"]] if os.environ.get("PYTHONPATH") else [])])
    process = subprocess.Popen(  # noqa: S603 - this interpreter, this module
        [sys.executable, "-P", "-m", "audits.static.source.worker", str(cache.folder)],
        stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env={**os.environ, "PYTHONPATH": path},
    )  # fmt: skip
    assert process.stdin is not None
    with process.stdin:
        process.stdin.write(b"\0".join(os.fsencode(f.path) for f in share))
    return process


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def lower_into(cache: Cache, content: bytes, label: str) -> None:
    """Put the facts of one file into the cache; whoever needs the file finds out again what is wrong with it."""
    from audits.static.source.lower import lower_source  # noqa: PLC0415 - LibCST is slow to import

    try:
        facts = dump_facts(lower_source(content, label))
    except AuditInputError:
        return
    if facts is not None:
        cache.store(facts_key(hashlib.sha256(content).hexdigest()), facts)


def _read(paths: Iterable[bytes]) -> Iterable[bytes]:
    for path in paths:
        try:
            yield Path(os.fsdecode(path)).read_bytes()
        except OSError:
            continue


def main() -> int:
    """Lower what standard input names."""
    sys.setrecursionlimit(RECURSION)
    cache = Cache.open(Path(sys.argv[1]), required=True)
    assert cache is not None
    for content in _read(p for p in sys.stdin.buffer.read().split(b"\0") if p):
        lower_into(cache, content, "")
    return 0


if __name__ == "__main__":
    sys.exit(main())
