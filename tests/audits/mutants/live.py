"""Whether a planted violation is alive: a forked child imports the planted copy, runs its scenario, and watches the planted lines."""

from __future__ import annotations

import contextlib
import importlib
import io
import os
import pickle
import re
import signal
import sys
import threading
import traceback
import types
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.audits.mutants.scenarios import SCENARIOS

_LIBRARIES = ("torch", "torch.utils.data", "torch.utils.checkpoint", "numpy", "scipy.linalg", "scipy.sparse.linalg", "optuna", "sqlalchemy", "pydantic", "jaxtyping",
              "safetensors.torch", "torch.utils._python_dispatch", "torch._dynamo", "torch.optim", "rich")  # fmt: skip
TIMEOUT_S = 120
_SOLVER = re.compile(
    r"solve|(^|_)p?inv(_|$|erse)|lstsq|cholesky|geqrf|ldl_|lu_factor|linalg_lu|lu_with|linalg_eig(vals)?(_|$)|(^|_)(qr|(slog|log)?det)(_|$)"
)
_OPTIMIZED = 1  # code of a function, not of a module or a class body


@dataclass(frozen=True)
class Life:
    """What a run showed. ``unseen`` are watched lines that did not run; ``solvers`` the solvers that were really called."""

    unseen: tuple[str, ...] = ()
    solvers: tuple[str, ...] = ()
    error: str = ""
    trace: str = ""


def preload() -> None:
    """Import what the planted package imports, so that a child starts in milliseconds."""
    for name in _LIBRARIES:
        importlib.import_module(name)
    import torch

    torch.set_num_threads(1)


def observe(root: Path, scenario: str, watched: Iterable[tuple[str, int]], data: Path, work: Path) -> Life:
    """Run ``scenario`` on the package under ``root`` in a child process.

    Args:
        root: folder that holds ``ris_pipeline``.
        scenario: a name of :data:`SCENARIOS`.
        watched: lines, as paths under ``root`` and numbers.
        data: data folder of the clean package.
        work: folder that the scenario may write to.
    """
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        with os.fdopen(writer, "wb") as pipe:
            pickle.dump(_in_child(root, scenario, tuple(watched), data, work), pipe)
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        answer = pipe.read()
    _, status = os.waitpid(child, 0)
    if not answer:
        return Life(error=f"the child ended with status {status}")
    life: Life = pickle.loads(answer)
    return life


def _in_child(root: Path, scenario: str, watched: tuple[tuple[str, int], ...], data: Path, work: Path) -> Life:
    signal.alarm(TIMEOUT_S)
    for name in [n for n in sys.modules if n == "ris_pipeline" or n.startswith("ris_pipeline.")]:
        del sys.modules[name]
    sys.path.insert(0, str(root))
    sys.dont_write_bytecode = True
    lines = _Lines(root, watched)
    solvers: set[str] = set()
    error = trace = ""
    quiet = io.StringIO()
    with contextlib.redirect_stdout(quiet), contextlib.redirect_stderr(quiet), _solver_calls(solvers):
        threading.settrace(lines.trace)
        sys.settrace(lines.trace)
        try:
            SCENARIOS[scenario](data, work)
        except BaseException as raised:  # noqa: BLE001 - whatever the planted code does is reported
            error, trace = f"{type(raised).__name__}: {raised}"[:300], traceback.format_exc()[-3000:]
        finally:
            sys.settrace(None)
    return Life(tuple(f"{p}:{n}" for p, n in watched if (p, n) not in lines.seen), tuple(sorted(solvers)), error, trace)


class _Lines:
    """Which of the watched lines ran inside a function."""

    def __init__(self, root: Path, watched: Iterable[tuple[str, int]]) -> None:
        self.paths = {str(root / path): path for path, _ in watched}
        self.seen: set[tuple[str, int]] = set()

    def trace(self, frame: types.FrameType, event: str, argument: Any) -> Any:
        path = self.paths.get(frame.f_code.co_filename)
        if path is None or not frame.f_code.co_flags & _OPTIMIZED:
            return None
        # A lambda's or comprehension's first line comes as a call.
        self.seen.add((path, frame.f_lineno))
        return self.trace


@contextlib.contextmanager
def _solver_calls(found: set[str]) -> Iterator[None]:
    """Collect the solvers that are called: torch operators as the dispatcher sees them, NumPy's and SciPy's by name."""
    import numpy as np
    import scipy.linalg
    import scipy.sparse.linalg
    from torch.utils._python_dispatch import TorchDispatchMode

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            name = func.name().split("::")[-1].split(".")[0]
            if _SOLVER.search(name):
                found.add(name)
            return func(*args, **(kwargs or {}))

    def spied(library: str, name: str, function: Any) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            found.add(f"{library}.{name}")
            return function(*args, **kwargs)

        return call

    for library, module in (("numpy", np.linalg), ("scipy", scipy.linalg), ("scipy.sparse", scipy.sparse.linalg)):
        for name in dir(module):
            if any(word in name for word in ("solve", "inv", "lstsq", "chol", "qr", "det", "lu", "ldl", "eig")) and callable(
                getattr(module, name)
            ):
                if isinstance(getattr(module, name), type) or name.startswith(("eigh", "eigvalsh", "_")):
                    continue
                setattr(module, name, spied(library, name, getattr(module, name)))
    with Watch():
        yield
