"""Witnesses of one step: what reached the dispatcher, what the profiler saw in every thread, and what the host read or called.

Under a dispatch mode some complex operations are computed wrongly (conjugation is lazy, and ``linalg.pinv`` or ``x - x.mH`` do not
see it), so a mode only records; whether the numbers are right is checked outside it.
"""

from __future__ import annotations

import re
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode, resolve_name
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode

from audits.static.errors import AuditIncompleteError

HOST_READS = frozenset({"item", "tolist", "numpy", "cpu", "__array__", "__float__", "__int__", "__bool__", "__index__", "__complex__"})
HOST_LIBRARIES = ("numpy", "scipy")
_OPERATOR = re.compile(r"[A-Za-z_]\w*::[\w.]+")
_NODE = re.compile(r"autograd::engine::evaluate_function: (?P<node>.+)")
_OWN = ("audits.runtime.",)
_PLUMBING = (
    "torch._tensor",
    "torch.overrides",
    "torch.utils._",
    "torch._dynamo",
    "torch._compile",
    "torch._ops",
    "torch.autograd",
    "jaxtyping",
    "beartype",
    "contextlib",
    "inspect",
)


@dataclass(slots=True)
class Record:
    """Names and how often each was seen, with the place where it was seen first."""

    counts: Counter[str] = field(default_factory=Counter)
    first: dict[str, str] = field(default_factory=dict)

    def add(self, name: str, where: str) -> None:
        """Count one more."""
        self.counts[name] += 1
        self.first.setdefault(name, where)


@dataclass(slots=True)
class Testimony:
    """What all witnesses of a step said.

    ``dispatched`` and ``profiled`` are operators by witness; ``nodes`` belong to the autograd graph; ``kernels`` are other events of
    the profiler; ``escapes`` are host reads and library calls as "what in whom"; ``reads`` are reads of device scalars that the
    profiler counted, ``internal_reads`` those among them that an operator made for its own sake.
    """

    dispatched: Record = field(default_factory=Record)
    profiled: Record = field(default_factory=Record)
    nodes: Record = field(default_factory=Record)
    kernels: Record = field(default_factory=Record)
    escapes: Record = field(default_factory=Record)
    reads: int = 0
    internal_reads: int = 0


class _Dispatch(TorchDispatchMode):
    """Record the schema name of every operator that reaches the dispatcher."""

    def __init__(self, record: Record) -> None:
        super().__init__()
        self.record = record

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        self.record.add(func._schema.name, caller(sys._getframe(1)))
        return func(*args, **(kwargs or {}))


class _Functions(TorchFunctionMode):
    """Record the functions by which the host reads a tensor."""

    def __init__(self, record: Record) -> None:
        super().__init__()
        self.record = record

    def __torch_function__(
        self, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        name = getattr(func, "__name__", "")
        if name in HOST_READS or (name in ("to", "copy_") and _to_host(args, kwargs or {})):
            self.record.add(f"{(resolve_name(func) or name).rpartition('.')[2]} in {caller(sys._getframe(1))}", "")
        return func(*args, **(kwargs or {}))


def _to_host(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
    """Whether `Tensor.to` takes a tensor of a device to the host."""
    tensor = args[0] if args else None
    if not isinstance(tensor, Tensor) or tensor.device.type == "cpu":
        return False
    targets = [value.device if isinstance(value, Tensor) else value for value in (*args[1:], *kwargs.values())]
    return any(isinstance(value, (str, torch.device)) and torch.device(value).type == "cpu" for value in targets)


def caller(frame: FrameType | None) -> str:
    """The innermost function outside the witnesses and torch's own plumbing, as module:function."""
    while frame is not None:
        module = _module(frame)
        if not module.startswith((*_OWN, *_PLUMBING)):
            return f"{module}:{frame.f_code.co_qualname}"
        frame = frame.f_back
    return "unknown"


def _module(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__") or "")


def by_modes(step: Callable[[], object], testimony: Testimony) -> None:
    """Take the step under a dispatch mode and a function mode."""
    with _Dispatch(testimony.dispatched), _Functions(testimony.escapes):
        step()


def by_profiler(step: Callable[[], object], testimony: Testimony) -> None:
    """Take the step under torch.profiler: all threads, composite and custom operators, autograd nodes, device kernels."""
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if torch.cuda.is_available() else [])]
    with profile(activities=activities, experimental_config=_all_threads()) as profiler:
        step()
    for event in profiler.events() or ():
        node = _NODE.fullmatch(event.name)
        if node:
            testimony.nodes.add(node["node"], f"thread {event.thread}")
        elif _OPERATOR.fullmatch(event.name) and not event.name.startswith("torch::autograd::"):
            testimony.profiled.add(event.name, f"thread {event.thread}")
        else:
            testimony.kernels.add(event.name, f"thread {event.thread}")
        if event.name == "aten::_local_scalar_dense":
            testimony.reads += 1
            testimony.internal_reads += _inside_operator(event)


def _all_threads() -> Any:
    try:
        return torch._C._profiler._ExperimentalConfig(profile_all_threads=True)
    except TypeError:
        raise AuditIncompleteError(f"the profiler of torch {torch.__version__} cannot watch all threads, expected 2.7 or later") from None


def _inside_operator(event: Any) -> bool:
    """Whether an operator read a scalar for its own sake, such as the error check of eigh, and not a function of Python."""
    parent = event.cpu_parent
    while parent is not None:
        if _OPERATOR.fullmatch(parent.name) and parent.name not in ("aten::item", "aten::_local_scalar_dense", "aten::is_nonzero"):
            return True
        parent = parent.cpu_parent
    return False


def by_calls(step: Callable[[], object], testimony: Testimony) -> None:
    """Take the step under a profile function that sees host reads, NumPy, SciPy and prints in every thread the step starts."""
    found = Record()

    def see(frame: FrameType, event: str, argument: Any) -> None:
        if event == "c_call":
            name, owner = getattr(argument, "__name__", ""), getattr(argument, "__self__", None)
            if isinstance(owner, Tensor) and name in HOST_READS:
                found.add(f"{name} in {caller(frame)}", "")
            elif name == "print" or (getattr(argument, "__module__", None) or "").startswith(HOST_LIBRARIES):
                _outside(found, f"{getattr(argument, '__module__', None) or 'builtins'}.{name}", frame)
        elif event == "call" and _module(frame).startswith(HOST_LIBRARIES):
            _outside(found, f"{_module(frame)}.{frame.f_code.co_qualname}", frame.f_back)

    with _profile_function(see):
        step()
    # The function mode has counted the reads of its own thread already; only what it did not see is added.
    for name, count in found.counts.items():
        missing = count - testimony.escapes.counts.get(name, 0)
        if missing > 0:
            testimony.escapes.counts[name] += missing


def _outside(record: Record, name: str, frame: FrameType | None) -> None:
    """Record a library call that comes from outside the libraries, the import system, and the checkers of the test run."""
    origin = "" if frame is None else _module(frame)
    if not origin.startswith((*HOST_LIBRARIES, "importlib", "jaxtyping", "beartype")):
        record.add(f"{name} in {caller(frame)}", "")


@contextmanager
def _profile_function(see: Callable[[FrameType, str, Any], None]) -> Iterator[None]:
    before, before_threads = sys.getprofile(), threading.getprofile()
    threading.setprofile(see)
    sys.setprofile(see)
    try:
        yield
    finally:
        sys.setprofile(before)
        threading.setprofile(before_threads)
