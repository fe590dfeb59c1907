"""Facts of files and results of whole runs on disk, named by content and by the analyser that made them.

Entries are written under a temporary name and renamed, so that parallel runs never see half of one; an entry that
can't be read back is made anew. Facts are pickles that may hold syntax nodes and findings, and nothing else, for a repository may
bring its own cache.
"""

from __future__ import annotations

import hashlib
import io
import os
import pickle
import platform
import shutil
import tempfile
import time
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from audits.static.errors import AuditInputError

FOLDER = ".audits_cache"
_KEPT_S = 14 * 24 * 3600
_CONSTANTS = {("builtins", "Ellipsis"), ("builtins", "complex")}


@cache
def analyser_version() -> str:
    """The digest of the analyser's own files, the interpreter and LibCST: nothing else shapes facts and results."""
    digest = hashlib.sha256(f"{platform.python_version()} {version('libcst')}".encode())
    folder = Path(__file__).parents[1]
    for path in sorted([*folder.rglob("*.py"), *folder.rglob("*.json")]):
        digest.update(path.relative_to(folder).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def user_cache_folder() -> Path:
    """The folder for caches of what may not be written beside the sources, such as an installed package."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "ris-audit"


class Cache:
    """One folder of entries."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._entries = folder / analyser_version()[:16]

    @classmethod
    def open(cls, folder: Path, *, required: bool) -> Cache | None:
        """The cache in `folder`, or None where it can't be written and need not be.

        Raises:
            AuditInputError: the folder can't be written, and `required` says that the user named it.
        """
        made = cls(folder)
        try:
            made._entries.mkdir(parents=True, exist_ok=True)
            ignored = folder / ".gitignore"
            if not ignored.exists():
                ignored.write_text("*\n", encoding="utf-8")
            with tempfile.TemporaryFile(dir=made._entries):
                return made
        except OSError as error:
            if required:
                raise AuditInputError(f"--cache-dir: can't write {str(folder)!r}: {error.strerror}.") from error
            return None

    def load(self, key: str) -> bytes | None:
        """The entry, or None where there is none or it is damaged."""
        try:
            stored = (self._entries / key).read_bytes()
        except OSError:
            return None
        content = stored[32:]
        return content if hashlib.sha256(content).digest() == stored[:32] else None

    def store(self, key: str, content: bytes) -> None:
        """Write an entry; a full disk or a vanished folder only costs the entry."""
        try:
            handle, name = tempfile.mkstemp(dir=self._entries, prefix=".new-")
        except OSError:
            return
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(hashlib.sha256(content).digest() + content)
            Path(name).replace(self._entries / key)
        except OSError:
            Path(name).unlink(missing_ok=True)

    def prune(self) -> None:
        """Remove what other versions of the analyser left, and entries that nobody has written for two weeks."""
        oldest = time.time() - _KEPT_S
        for other in self.folder.iterdir():
            if other.is_dir() and other != self._entries:
                shutil.rmtree(other, ignore_errors=True)
        for entry in self._entries.iterdir():
            if entry.stat().st_mtime < oldest:
                entry.unlink(missing_ok=True)


def facts_key(sha256: str) -> str:
    """The name of a file's facts."""
    return f"facts-{sha256}"


def dump_facts(facts: object) -> bytes | None:
    """Facts as bytes, or None where they nest too deeply to be written."""
    try:
        return pickle.dumps(facts, protocol=5)
    except RecursionError:
        return None


def load_facts(content: bytes) -> Any:
    """Facts from bytes, or None where they are not what this analyser writes."""
    try:
        return _OwnClassesOnly(io.BytesIO(content)).load()
    except (pickle.UnpicklingError, AttributeError, EOFError, IndexError, KeyError, ValueError, TypeError, RecursionError):
        return None


class _OwnClassesOnly(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if module in ("audits.static.source.ir", "audits.static.findings") or (module, name) in _CONSTANTS:
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"{module}.{name} is no syntax node or finding")
