"""The two ways an audit can end without a verdict."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from audits.static.findings import Report


class AuditInputError(Exception):
    """The user's configuration or source can't be audited; the message is one sentence (exit code 2)."""


class AuditIncompleteError(Exception):
    """The audit could not be completed for a reason that is not the user's (exit code 3).

    `report` holds what the rules that were completed have found, if any were.
    """

    def __init__(self, message: str, report: Report | None = None) -> None:
        super().__init__(message)
        self.report = report


class Parser(argparse.ArgumentParser):
    """A parser whose errors are :class:`AuditInputError`, one sentence each; every audit command uses it."""

    def error(self, message: str) -> NoReturn:
        """Raise instead of printing a usage and exiting."""
        raise AuditInputError(f"{message} (see {self.prog} --help)")
