"""The two ways an audit can end without a verdict."""

from __future__ import annotations


class AuditInputError(Exception):
    """The user's configuration or source can't be audited; the message is one sentence (exit code 2)."""


class AuditIncompleteError(Exception):
    """The audit could not be completed for a reason that is not the user's (exit code 3)."""
