"""Observing real calls: who was called, with what, and what came back, without touching the code that runs.

A profile function sees every Python call of every thread that starts while it is set, however the function was reached (imported
under another name, kept in a table, wrapped by a decorator): a call is known by the code object that runs. Nothing is replaced, so
nothing needs to be put back but the profile function itself.
"""

from __future__ import annotations

import inspect
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import CodeType, FrameType, TracebackType
from typing import Any, Self


@dataclass(slots=True)
class Call:
    """One observed call; ``result`` stays ``None`` while it runs and where it raised."""

    name: str
    arguments: dict[str, Any]
    result: Any = None


@dataclass(slots=True)
class Observer:
    """Record the calls of ``targets`` (name -> function or method as its class holds it) while the context is open.

    ``on_call`` sees each call before its body runs, for example to ask a tensor to keep its gradient.
    """

    targets: Mapping[str, Callable[..., Any]]
    on_call: Callable[[Call], None] | None = None
    calls: list[Call] = field(default_factory=list)
    _codes: dict[CodeType, str] = field(default_factory=dict)
    _open: dict[FrameType, Call] = field(default_factory=dict)
    _before: Any = None
    _before_threads: Any = None

    def __post_init__(self) -> None:
        self._codes = {code_of(function): name for name, function in self.targets.items()}

    def __enter__(self) -> Self:
        self._before, self._before_threads = sys.getprofile(), threading.getprofile()
        threading.setprofile(self._see)
        sys.setprofile(self._see)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        sys.setprofile(self._before)
        threading.setprofile(self._before_threads)
        self._open.clear()

    def of(self, name: str) -> list[Call]:
        """The observed calls of one target, in the order in which they began."""
        return [call for call in self.calls if call.name == name]

    def _see(self, frame: FrameType, event: str, argument: Any) -> None:
        if event == "call":
            name = self._codes.get(frame.f_code)
            if name is not None:
                call = self._open[frame] = Call(name, dict(frame.f_locals))
                self.calls.append(call)
                if self.on_call is not None:
                    self.on_call(call)
        elif event == "return" and frame in self._open:
            self._open.pop(frame).result = argument


def code_of(function: Callable[..., Any]) -> CodeType:
    """The code object that runs when ``function`` is called, below its decorators."""
    code = inspect.unwrap(function).__code__
    assert isinstance(code, CodeType)
    return code
