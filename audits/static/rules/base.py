"""What a rule is: a code, a manual, named cases that are its tests, and a check."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from audits.static.context import Context
from audits.static.findings import Finding


@dataclass(frozen=True, slots=True)
class Case:
    """A small package; `files` maps paths to sources, and `settings` is laid over the rule's own table."""

    name: str
    files: Mapping[str, str]
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule. `table` is the configuration table that it needs, or "" where it needs only packages."""

    code: str
    title: str
    table: str
    manual: str
    mend: str
    check: Callable[[Context], Iterable[Finding]]
    settings: Mapping[str, Any]
    valid: tuple[Case, ...]
    invalid: tuple[Case, ...]
    limits: tuple[Case, ...] = ()
