"""The files of the configured packages, as bytes: found, read once, and named by their content."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from audits.static.errors import AuditInputError


@dataclass(frozen=True, slots=True)
class SourceFile:
    """One module on disk; `relative` is POSIX and relative to the root."""

    name: str
    path: Path
    relative: str
    is_package: bool
    content: bytes
    sha256: str


def locate(root: Path, package: str) -> Path | None:
    """The folder or file of a package or module under `root` or its src folder."""
    parts = package.split(".")
    for base in (root, root / "src"):
        folder = base.joinpath(*parts)
        if folder.is_dir() and any(True for _ in _python_files(folder)):
            return folder
        module = base.joinpath(*parts[:-1], parts[-1] + ".py")
        if module.is_file():
            return module
    return None


def is_installation(root: Path) -> bool:
    """Whether `root` holds installed distributions, so that what lies beside a package is not part of its repository."""
    return any(True for _ in root.glob("*.dist-info"))


def is_beside(root: Path, name: str) -> bool:
    """Whether a top-level name is code of the same repository as the packages under `root`."""
    return name.isidentifier() and locate(root, name) is not None and not is_installation(root)


def read_sources(root: Path, packages: Iterable[str]) -> list[SourceFile]:
    """Every module of the packages.

    Raises:
        AuditInputError: a package is not there, or a file can't be read.
    """
    found: dict[str, SourceFile] = {}
    for package in packages:
        location = locate(root, package)
        if location is None:
            raise AuditInputError(f"packages: expected a package or module {package!r} under {root} (or its src folder), found none.")
        for name, path, is_package in _modules(package, location):
            if name not in found:
                found[name] = _read(root, name, path, is_package=is_package)
    return list(found.values())


def _modules(package: str, location: Path) -> Iterator[tuple[str, Path, bool]]:
    if location.is_file():
        yield package, location, False
        return
    for path in sorted(_python_files(location)):
        inner = path.relative_to(location).with_suffix("").parts
        if all(part.isidentifier() for part in inner):
            is_package = inner[-1] == "__init__"
            yield ".".join([package, *(inner[:-1] if is_package else inner)]), path, is_package


def _python_files(folder: Path) -> Iterator[Path]:
    # A link to a folder above itself would never end: each folder is entered once.
    entered: set[str] = set()
    for current, folders, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(current)
        if real in entered:
            folders.clear()
            continue
        entered.add(real)
        folders.sort()
        yield from (Path(current, name) for name in files if name.endswith(".py"))


def _read(root: Path, name: str, path: Path, *, is_package: bool) -> SourceFile:
    relative = path.relative_to(root).as_posix()
    if path.exists() and not path.is_file():
        raise AuditInputError(f"{relative}: expected a regular file.")
    try:
        content = path.read_bytes()
    except OSError as error:
        raise AuditInputError(f"{relative}: expected a readable file: {error.strerror}.") from error
    return SourceFile(name, path, relative, is_package, content, hashlib.sha256(content).hexdigest())
