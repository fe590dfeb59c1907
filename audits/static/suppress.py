"""Suppression comments: `# audit: allow[CODE] reason="…" until=YYYY-MM-DD`."""

from __future__ import annotations

import datetime as dt
import re
from dataclasses import dataclass, field

from audits.static.findings import Finding, Suppressed
from audits.static.source.project import ModuleInfo

_COMMENT = re.compile(r"#\s*audit\s*:\s*allow\b(.*)$", re.IGNORECASE)
_CODES = re.compile(r"^\s*\[([^\]]*)\]")
_REASON = re.compile(r"""reason\s*=\s*(?:"([^"]*)"|'([^']*)')""")
_UNTIL = re.compile(r"until\s*=\s*(\S+)")


@dataclass(eq=False, slots=True)
class Suppression:
    """One comment; `covers` is the line whose findings it allows."""

    module: ModuleInfo
    line: int
    covers: int
    codes: tuple[str, ...]
    reason: str
    until: str
    used: set[str] = field(default_factory=set)

    def expired(self, today: dt.date) -> bool:
        """Whether `until` has passed; an unreadable date counts as passed."""
        if not self.until:
            return False
        try:
            return dt.date.fromisoformat(self.until) < today
        except ValueError:
            return True


def suppressions(module: ModuleInfo) -> list[Suppression]:
    """The suppression comments of a module; one on a line of its own covers the next line of code."""
    out = []
    for line, text in sorted(module.tree.comments.items()):
        match = _COMMENT.search(text)
        if match is None:
            continue
        rest = match.group(1)
        codes = _CODES.match(rest)
        names = tuple(c.strip() for c in codes.group(1).split(",") if c.strip()) if codes else ()
        reason = _REASON.search(rest)
        until = _UNTIL.search(rest)
        covers = line
        if line not in module.tree.code_lines and module.lines[line - 1].lstrip().startswith("#"):
            covers = min((n for n in module.tree.code_lines if n > line), default=line)
        text_of = (reason.group(1) or reason.group(2) or "").strip() if reason else ""
        out.append(Suppression(module, line, covers, names, text_of, until.group(1) if until else ""))
    return out


def apply_suppressions(found: list[Finding], comments: list[Suppression], today: dt.date) -> tuple[list[Finding], list[Suppressed]]:
    """Split findings into those that stand and those that a valid comment allows."""
    by_place: dict[tuple[str, int], list[Suppression]] = {}
    for known in comments:
        for line in {known.line, known.covers}:
            by_place.setdefault((known.module.relative, line), []).append(known)
    standing: list[Finding] = []
    allowed: list[Suppressed] = []
    for finding in found:
        comment: Suppression | None = next((c for c in by_place.get((finding.path, finding.line), ()) if finding.rule in c.codes), None)
        if comment is not None:
            comment.used.add(finding.rule)
        if comment is None or not comment.reason or comment.expired(today) or finding.rule == "SUP001":
            standing.append(finding)
        else:
            allowed.append(Suppressed(finding, comment.reason, comment.until))
    return standing, allowed
