"""What a run reports: findings, proofs and the whole result."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a call path or data-flow path: the line at which `symbol` leads on to the next step."""

    symbol: str
    path: str
    line: int


@dataclass(frozen=True, slots=True)
class Finding:
    """One violation; `path` is POSIX and relative to the root, lines and columns count from 1."""

    rule: str
    path: str
    line: int
    column: int
    message: str
    symbol: str = ""
    entry_point: str = ""
    call_path: tuple[Step, ...] = ()
    severity: str = "error"
    end_column: int = 0

    @property
    def order(self) -> tuple[str, int, int, str, str]:
        """The order in which findings are reported."""
        return (self.path, self.line, self.column, self.rule, self.message)


@dataclass(frozen=True, slots=True)
class Suppressed:
    """A finding that a comment allows."""

    finding: Finding
    reason: str
    until: str


@dataclass(frozen=True, slots=True)
class Proof:
    """The verdict of one hot-path rule on one entry point."""

    rule: str
    entry_point: str
    status: str
    reachable_functions: int
    call_sites: int
    unresolved: int


@dataclass(slots=True)
class Report:
    """The result of a run."""

    root: str
    proofs: list[Proof] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    suppressed: list[Suppressed] = field(default_factory=list)
    not_configured: list[str] = field(default_factory=list)
    checked: list[str] = field(default_factory=list)
    timings_s: dict[str, float] = field(default_factory=dict)
    sources: dict[str, list[str]] = field(default_factory=dict)
    files: int = 0
    functions: int = 0
    sources_sha256: str = ""
    baselined: int = 0
    elsewhere: int = 0
