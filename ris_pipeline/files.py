"""Writing small files so that a reader never sees half of one, and the digest of a source tree."""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path

from ris_pipeline.errors import DataError


def write_text(path: Path, text: str) -> None:
    """Write a file under a temporary name and rename it, creating its folder.

    Raises:
        DataError: the folder cannot be created or written to, or the name is that of a folder.
    """
    temporary = path.with_name(path.name + ".tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(path)
    except OSError as error:
        if temporary.is_file():
            temporary.unlink()
        raise DataError(f"cannot write {path}: {error.strerror}") from None


def check_folder(folder: Path) -> None:
    """Check that a folder could be written to, before any work is done; it is not created yet.

    Raises:
        DataError: it is or lies below a file, or cannot be created or written to.
    """
    for place in (folder, *folder.parents):
        if place.exists() and not place.is_dir():
            raise DataError(f"expected a folder to write to, got {place}, which is a file")
    existing = next(place for place in (folder, *folder.parents) if place.is_dir())
    try:
        with tempfile.TemporaryFile(dir=existing):
            pass
    except OSError as error:
        raise DataError(f"cannot write to {existing}: {error.strerror}") from None


def check_file(path: Path) -> None:
    """Check that a file could be written, before any work is done.

    Raises:
        DataError: the name is that of a folder, or its folder cannot be written to.
    """
    if path.is_dir():
        raise DataError(f"expected a file to write to, got {path}, which is a folder")
    check_folder(path.parent)


def source_digest(package: Path) -> str:
    """SHA-256 over the relative POSIX paths and the bytes of every Python file below ``package``, in the order of the paths."""
    total = hashlib.sha256()
    files = {path.relative_to(package).as_posix(): path for path in package.rglob("*.py")}
    for name in sorted(files):
        content = files[name].read_bytes()
        total.update(f"{name}\0{len(content)}\0".encode())
        total.update(content)
    return total.hexdigest()
