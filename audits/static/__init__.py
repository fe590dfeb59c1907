"""Static audits: they read source code and never run it."""

from audits.static.verdict import TABLES, Verdict, preflight

__all__ = ["TABLES", "Verdict", "preflight"]
