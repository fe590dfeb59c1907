"""The verdict of HOT001 and HOT002 on each entry point."""

from __future__ import annotations

from audits.static.context import Context
from audits.static.findings import Proof
from audits.static.rules import hot002
from audits.static.subjects.solver_use import violated


def proofs(context: Context, checked: list[str]) -> list[Proof]:
    """One line per entry point and rule; an entry point that reaches nothing is unresolved."""
    out = []
    for reached in context.reaches:
        opaque = hot002.count(context, reached)
        empty = not reached.functions
        statuses = {
            "HOT001": "violated" if violated(reached) else "unresolved" if opaque or empty else "proved",
            "HOT002": "unresolved" if opaque or empty else "proved",
        }
        out += [
            Proof(code, reached.entry_point, status, len(reached.functions), reached.call_sites, opaque)
            for code, status in statuses.items()
            if code in checked
        ]
    return out
