"""What git says has changed."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from audits.static.errors import AuditInputError
from audits.static.findings import Report


def changed_files(root: Path, base: str) -> set[str]:
    """The files under `root` that differ from where `base` and HEAD parted, untracked ones included; POSIX, relative.

    Raises:
        AuditInputError: there is no git, no repository, or no such revision.
    """
    parted = _git(root, "merge-base", base, "HEAD")[0] if base != "HEAD" else "HEAD"
    tracked = _git(root, "diff", "--name-only", "--relative", parted, "--")
    return {*tracked, *_git(root, "ls-files", "--others", "--exclude-standard")}


def keep_changed(report: Report, files: set[str]) -> None:
    """Leave only findings that lie in changed files, or whose call path leads through one."""
    kept = [f for f in report.findings if f.path in files or any(s.path in files for s in f.call_path)]
    report.elsewhere = len(report.findings) - len(kept)
    report.findings = kept


def _git(root: Path, *arguments: str) -> list[str]:
    git = shutil.which("git")
    if git is None:
        raise AuditInputError("--changed: expected git on the PATH, found none.")
    command = [git, "-C", str(root), "-c", "core.quotePath=false", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - git, found on the PATH
    if done.returncode != 0:
        reason = (done.stderr.strip() or f"git {arguments[0]} failed").splitlines()[0]
        raise AuditInputError(f"--changed: expected a git repository and revision at {str(root)!r}: {reason}.")
    return done.stdout.splitlines()
