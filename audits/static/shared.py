"""Tasks on two processes: a forked child takes the next task whenever it is free, as the parent does."""

from __future__ import annotations

import os
import pickle
import threading
from collections.abc import Callable, Sequence
from typing import TypeVar

_T = TypeVar("_T")
MOST = 255  # tasks; the number of one is a byte


def results(tasks: Sequence[str], run: Callable[[str], _T], *, processes: int) -> dict[str, _T]:
    """What `run` returns for each task, in the order of `tasks`; what it returns must survive pickling.

    A child that ends early costs nothing but its share: the parent runs what has no result, and raises what that raises.
    """
    found: dict[str, _T] = {}
    # A child inherits one thread only: what another one holds would stay locked in it.
    if processes > 1 and 1 < len(tasks) <= MOST and hasattr(os, "fork") and threading.active_count() == 1:
        found = _forked(tasks, run)
    return {task: found[task] if task in found else run(task) for task in tasks}


def _forked(tasks: Sequence[str], run: Callable[[str], _T]) -> dict[str, _T]:
    queue, fill = os.pipe()
    os.write(fill, bytes(range(len(tasks))))
    os.close(fill)
    answer, reply = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            with os.fdopen(reply, "wb") as pipe:
                pickle.dump(_take(queue, tasks, run), pipe)
        finally:
            os._exit(0)
    os.close(reply)
    with os.fdopen(answer, "rb") as pipe:
        try:
            mine = _take(queue, tasks, run)
        finally:
            theirs = pipe.read()
            os.close(queue)
            os.waitpid(child, 0)
    return mine | (pickle.loads(theirs) if theirs else {})  # noqa: S301 - written by this process's own child


def _take(queue: int, tasks: Sequence[str], run: Callable[[str], _T]) -> dict[str, _T]:
    out: dict[str, _T] = {}
    while number := os.read(queue, 1):
        task = tasks[number[0]]
        out[task] = run(task)
    return out
