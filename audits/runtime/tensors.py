"""Every matrix of one small step, with its age and its origin, for checks RUN016 and RUN017.

A dispatch mode sees inputs as well as outputs, so that what comes back from NumPy, from another thread or out of a custom operator is
seen when it is first used. The mode only copies; nothing is computed under it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import CodeType, FrameType
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from audits.runtime.witness import caller

SMALLEST_SIDE = 4
LARGEST_SIDE = 64
LARGEST_STACK = 512
COPIES = frozenset(
    {
        "alias", "as_strided", "_conj", "_to_copy", "_unsafe_view", "cat", "clone", "contiguous", "copy_", "detach", "expand", "index",
        "lift_fresh", "permute", "resolve_conj", "select", "slice", "split", "squeeze", "stack", "t", "transpose", "unbind", "unsqueeze",
        "view", "view_as_complex", "view_as_real", "where", "_reshape_alias", "gather", "zeros", "zeros_like", "slice_backward",
    }
)  # fmt: skip
"""Operators that hand values on; what they return was made by somebody else."""


@dataclass(frozen=True, slots=True)
class Seen:
    """One tensor when it was first seen: its values in double precision, its turn, and who made it with what."""

    values: Tensor
    turn: int
    operator: str
    place: str
    in_builder: bool


@dataclass
class Recorder(TorchDispatchMode):
    """Keep a copy of every matrix or stack of matrices that goes into or comes out of an operator."""

    wanted: Callable[[Tensor], bool]
    builder: CodeType
    seen: list[Seen] = field(default_factory=list)
    operators: int = 0
    _known: set[tuple[int, int]] = field(default_factory=set)
    _alive: list[Tensor] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        self.operators += 1
        self._keep("input", tree_leaves((args, kwargs or {})))
        result = func(*args, **(kwargs or {}))
        self._keep(func._schema.name.rpartition("::")[2], tree_leaves(result))
        return result

    def _keep(self, operator: str, values: Iterable[Any]) -> None:
        for value in values:
            if not isinstance(value, Tensor) or not (value.is_floating_point() or value.is_complex()) or not self.wanted(value):
                continue
            key = (id(value), value._version)
            if operator == "input" and key in self._known:
                continue
            self._known.add(key)
            self._alive.append(value)  # so that no other tensor gets its id
            kind = torch.complex128 if value.is_complex() else torch.float64
            copy = value.detach().resolve_conj().to("cpu", kind, copy=True)
            frame = sys._getframe(2)
            self.seen.append(Seen(copy, len(self.seen), operator, caller(frame), _inside(frame, self.builder)))


def _inside(frame: FrameType | None, code: CodeType) -> bool:
    while frame is not None:
        if frame.f_code is code:
            return True
        frame = frame.f_back
    return False


def has_matrix(tensor: Tensor) -> bool:
    """Whether the last two dimensions may belong to a small linear system."""
    if tensor.ndim < 1 or tensor.numel() == 0:
        return False
    rows, columns = (tensor.shape[-2], tensor.shape[-1]) if tensor.ndim > 1 else (1, tensor.shape[-1])
    longest, stack = max(rows, columns), tensor.numel() // (rows * columns)
    return SMALLEST_SIDE <= longest <= LARGEST_SIDE and stack <= LARGEST_STACK


@dataclass(frozen=True, slots=True)
class Matrix:
    """One matrix [n, k] of a stack, scaled to unit norm; ``turn`` is when these values were first seen, in any scale or layout."""

    values: Tensor
    turn: int
    origin: Seen


def matrices(seen: Iterable[Seen]) -> list[Matrix]:
    """The different matrices among the tensors; one that repeats, scales or transposes an earlier one has its age."""
    found: dict[tuple[int, ...], list[tuple[Tensor, int]]] = {}
    result: list[Matrix] = []
    kept: set[tuple[int, ...]] = set()
    for item in seen:
        values = item.values.to(torch.complex128)
        values = values[..., None, :] if values.ndim == 1 else values
        for matrix in values.reshape(-1, *values.shape[-2:]):
            norm = float(torch.linalg.vector_norm(matrix))
            if not 0.0 < norm < float("inf"):
                continue
            unit = matrix / norm
            print_ = _features(unit)
            turn = _first_turn(found, print_, unit.numel(), item.turn)
            key = (*unit.shape, turn)
            if key not in kept:
                kept.add(key)
                result.append(Matrix(unit, turn, item))
    return result


def _features(unit: Tensor) -> Tensor:
    """Numbers that neither scale, sign, conjugation nor layout changes."""
    size = unit.abs()
    return torch.stack((size.sum() / size.numel() ** 0.5, size.pow(4).sum().pow(0.25), size.amax(), size.pow(3).sum()))


def _first_turn(found: dict[tuple[int, ...], list[tuple[Tensor, int]]], features: Tensor, count: int, turn: int) -> int:
    place = int(torch.round(features[0] * 1e3))
    for near in (place - 1, place, place + 1):
        for other, first in found.get((count, near), ()):
            if torch.allclose(other, features, rtol=1e-5, atol=0.0):
                return first
    found.setdefault((count, place), []).append((features, turn))
    return turn


def square(candidates: Iterable[Matrix]) -> Iterator[Matrix]:
    """Square matrices that an inverse would tell from a transpose: neither unitary nor a multiple of I, and not singular."""
    for matrix in candidates:
        rows, columns = matrix.values.shape
        if rows == columns >= SMALLEST_SIDE:
            singular = torch.linalg.svdvals(matrix.values)
            if 1.3 * float(singular[-1]) < float(singular[0]) < 1e8 * float(singular[-1]):
                yield matrix
