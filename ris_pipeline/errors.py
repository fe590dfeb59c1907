"""Everything the library raises on purpose.

``UserError`` and its children are mistakes that a user can mend; their message is one sentence that says what was wrong, what was
expected, what was found and where. The command line prints that sentence without a traceback and exits with ``exit_code``.

    RisError
    ├── UserError            exit 2
    │   ├── ConfigError      unknown key, value out of range, conflicting configuration
    │   ├── DataError        missing, truncated, foreign or inconsistent measurement data
    │   └── CheckpointError  weights that are missing, damaged or of another architecture
    └── IncompleteError      exit 3: the work could not be completed
        └── DivergedError    a loss term or a gradient stopped being finite
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class RisError(Exception):
    """Base of all errors that this package raises on purpose."""

    exit_code = 3


class UserError(RisError):
    """A mistake in the user's input; the message is one readable sentence."""

    exit_code = 2


class ConfigError(UserError):
    """An unknown configuration key, a value out of range, or configurations that contradict each other."""


class DataError(UserError):
    """Measurement data that is missing, truncated, foreign or inconsistent."""


class CheckpointError(UserError):
    """Weights that are missing, damaged or belong to another architecture."""


class IncompleteError(RisError):
    """The work could not be completed for a reason that is not the user's input."""


class DivergedError(IncompleteError):
    """A loss term or a gradient stopped being finite; ``term`` names it."""

    def __init__(self, term: str, step: int) -> None:
        super().__init__(f"training diverged: {term} is not finite at optimizer step {step}")
        self.term = term
        self.step = step


def nearest_name(name: str, known: Iterable[str]) -> str:
    """Return ``"; did you mean X?"`` for the known name nearest to ``name``, or an empty string when none is near."""
    matches = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f"; did you mean {matches[0]!r}?" if matches else ""
