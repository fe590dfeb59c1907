"""The registry: every module of this package that defines `RULE` is a rule."""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from audits.static.rules.base import Rule


@cache
def all_rules() -> dict[str, Rule]:
    """Every rule, by code."""
    from audits.static.rules.base import Rule  # noqa: PLC0415 - rules bring the analyser, which a stored result does without

    rules = {}
    for info in sorted(pkgutil.iter_modules(__path__), key=lambda i: i.name):
        rule = getattr(importlib.import_module(f"{__name__}.{info.name}"), "RULE", None)
        if isinstance(rule, Rule):
            rules[rule.code] = rule
    return rules
