"""Recall and false alarms per rule, with Wilson intervals."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from rich.table import Table

from tests.audits.mutants.runner import Outcome

DIRECT, RESOLVED = 0.90, 0.98
"""Smallest recall of a rule: as a finding of its own, and counting what the audit says that it cannot resolve."""


@dataclass(frozen=True)
class Share:
    """A share of a count, with its 95 % Wilson interval."""

    hits: int
    of: int

    @property
    def value(self) -> float:
        """The share; nothing out of nothing is 0, so that no empty sample passes."""
        return self.hits / self.of if self.of else 0.0

    @property
    def ci95(self) -> tuple[float, float]:
        """Wilson's interval. (Wilson, "Probable inference", JASA 22, 1927.)"""
        if not self.of:
            return (0.0, 1.0)
        z, n, p = 1.959964, self.of, self.value
        centre = (p + z * z / (2 * n)) / (1 + z * z / n)
        half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
        return (max(0.0, centre - half), min(1.0, centre + half))

    def text(self) -> str:
        """Counts, share and interval."""
        low, high = self.ci95
        return f"{self.hits}/{self.of}  {self.value:.3f} [{low:.3f}, {high:.3f}]"


@dataclass(frozen=True)
class Score:
    """The figures of one rule."""

    rule: str
    executed: int
    compiled: int
    dead: int
    direct: Share
    resolved: Share
    alarms: Share

    @property
    def good(self) -> bool:
        """Whether the rule meets its goals on mutants that are all alive."""
        return not self.dead and self.direct.value >= DIRECT and self.resolved.value >= RESOLVED and not self.alarms.hits

    def record(self) -> dict[str, Any]:
        """Plain values, each share with its interval."""
        shares = {"direct": self.direct, "resolved": self.resolved, "alarms": self.alarms}
        return asdict(self) | {n: {**asdict(s), "value": s.value, "ci95": s.ci95} for n, s in shares.items()} | {"good": self.good}


def score(rule: str, outcomes: Iterable[Outcome]) -> Score:
    """The figures of one rule; mutants that are not alive count neither as found nor as missed."""
    mine = [o for o in outcomes if o.rule == rule]
    alive = [o for o in mine if o.alive]
    return Score(
        rule,
        sum(o.life == "executed" for o in alive),
        sum(o.life == "compiled" for o in alive),
        len(mine) - len(alive),
        Share(sum(o.direct for o in alive), len(alive)),
        Share(sum(o.direct or o.unresolved for o in alive), len(alive)),
        Share(sum(bool(o.alarms) for o in alive), len(alive)),
    )


def table(scores: Iterable[Score], clean: tuple[str, ...]) -> Table:
    """The scores as a table for a terminal."""
    shown = Table(title=f"Planted violations; findings in the package as it is: {len(clean)}")
    for column in ("rule", "executed", "compiled", "dead", "found", "found or unresolved", "twins with a finding", ""):
        shown.add_column(column, justify="left" if column == "rule" else "right", no_wrap=True)
    for row in scores:
        verdict = "[green]good[/]" if row.good else "[red]bad[/]"
        counts = (str(row.executed), str(row.compiled), str(row.dead))
        shown.add_row(row.rule, *counts, row.direct.text(), row.resolved.text(), row.alarms.text(), verdict)
    return shown
