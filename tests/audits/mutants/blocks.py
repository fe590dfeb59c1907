"""Every block of mutants."""

from __future__ import annotations

from tests.audits.mutants import cov, hot, rest, search

BLOCKS = (*hot.BLOCKS, *cov.BLOCKS, *search.BLOCKS, *rest.BLOCKS)
RULES = tuple(dict.fromkeys(block.rule for block in BLOCKS))
