"""Solvers without a name, and covariances built elsewhere, found by their values: checks RUN016 and RUN017."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from audits.runtime.observe import code_of
from audits.runtime.report import Result
from audits.runtime.tensors import COPIES, Matrix, Recorder, Seen, has_matrix, matrices, square
from audits.runtime.trial import SMALL, Trial, small_config, small_trial
from ris_pipeline.covariance import build_effective_covariance
from ris_pipeline.shards import Batch

COSINE = 0.999
RESIDUAL = 0.05
TRACE_TOLERANCE = 1e-3
POWER = 1.7
"""Labels with this total power: a normalised covariance then differs from a true one."""
WITNESS: dict[str, dict[str, int]] = {"scene": {"k_max": 5}, "data": {"n_train": 2}, "train": {"batch_size": 2}}


@dataclass(frozen=True)
class Solved:
    """X ~ R^-1 Y with X the youngest of the three."""

    r: Matrix
    x: Matrix
    y: Matrix | None
    residual: float


def recorded_step(trial: Trial, *, sample: bool) -> Recorder:
    """Every small matrix of one training step, with or without stored samples, on scenes whose powers do not sum to 1."""
    trainer = trial.trainer()
    trainer.model.train()
    batch = trial.batch
    measured = batch.measurements if sample else replace(batch.measurements, sample_factor=None)
    batch = Batch(measured, replace(batch.sources, power=batch.sources.power * POWER), batch.symbols)
    with Recorder(has_matrix, code_of(build_effective_covariance)) as recorder:
        trainer.train_step(batch)
    return recorder


def check(device: str) -> list[Result]:
    """RUN016 and RUN017 on steps of a small surface, whose sides all differ."""
    with small_trial(small_config(device).replaced(**SMALL).replaced(**WITNESS)) as trial:
        recorders = {"with samples": recorded_step(trial, sample=True), "without samples": recorded_step(trial, sample=False)}
        n = trial.config.array.n_elements
    return [
        replace(result, subject=f"{result.subject} ({name})")
        for name, recorder in recorders.items()
        for result in (*check_inverse(recorder), *check_twin(recorder, n))
    ]


def check_inverse(recorder: Recorder) -> list[Result]:
    """RUN016: no tensor is another one's inverse, or its product with something older."""
    candidates = matrices(recorder.seen)
    systems = list(square(candidates))
    found = list(solved(candidates, systems))
    evidence = {"operators": recorder.operators, "tensors": len(recorder.seen), "matrices": len(candidates), "systems": len(systems)}
    failures = {
        item.x.origin.place: Result("RUN016", item.x.origin.place, False, _sentence(item), {"residual": item.residual, **evidence})
        for item in found
    }
    if failures:
        return list(failures.values())
    if not systems:
        return [Result("RUN016", "training step", False, "no square matrix was seen, so nothing is proved", evidence)]
    message = f"none of {len(candidates)} matrices solves one of {len(systems)} systems"
    return [Result("RUN016", "training step", True, message, evidence)]


def _sentence(item: Solved) -> str:
    side = len(item.r.values)
    made = f"{item.x.origin.operator} of {list(item.x.origin.values.shape)}"
    what = "the inverse" if item.y is None else f"the solution, with a right-hand side from {item.y.origin.place},"
    return f"{made} is {what} of a {side} x {side} matrix from {item.r.origin.place}: somebody solves"


def solved(candidates: list[Matrix], systems: list[Matrix]) -> Iterator[Solved]:
    """Every R, X, Y with R X ~ c Y, X younger than R and Y, and X no multiple of Y.

    R is taken as it is and transposed; X and Y as they are, or both transposed.
    """
    pools: dict[tuple[int, int], list[Matrix]] = defaultdict(list)
    for matrix in candidates:
        rows, columns = matrix.values.shape
        pools[rows, columns].append(matrix)
        pools[columns, rows].append(Matrix(matrix.values.T, matrix.turn, matrix.origin))
    stacks = {key: torch.stack([matrix.values for matrix in pool]).flatten(1) for key, pool in pools.items()}
    turns = {key: torch.tensor([matrix.turn for matrix in pool]) for key, pool in pools.items()}
    for system in systems:
        n = len(system.values)
        for r in (system.values, system.values.T):
            inverse = torch.linalg.inv(r)
            for key in [key for key in pools if key[0] == n]:
                yield from _in_pool(system, r, inverse, pools[key], stacks[key], turns[key], key)


def _in_pool(
    system: Matrix, r: Tensor, inverse: Tensor, pool: list[Matrix], stack: Tensor, turn: Tensor, shape: tuple[int, int]
) -> Iterator[Solved]:
    sides = stack.unflatten(1, shape)
    right, unit = [None, *pool], torch.eye(shape[0], dtype=stack.dtype)
    wanted = (inverse @ sides).flatten(1)
    original, turn_of_y = stack, turn
    if shape[0] == shape[1]:
        wanted, original = torch.cat((inverse.flatten()[None], wanted)), torch.cat((unit.flatten()[None] / unit.norm(), stack))
        turn_of_y = torch.cat((torch.tensor([-1]), turn))
    else:
        right = right[1:]
    wanted = wanted / wanted.norm(dim=1, keepdim=True)
    close = (wanted.conj() @ stack.T).abs() > COSINE
    same = (original.conj() @ stack.T).abs() > COSINE
    younger = (turn[None] > turn_of_y[:, None]) & (turn[None] > system.turn)
    for row, column in torch.nonzero(close & ~same & younger).tolist():
        product, target = (r @ sides[column]).flatten(), original[row]
        scale = torch.vdot(target, product)
        residual = float((product - scale * target).norm() / product.norm())
        if residual < RESIDUAL:
            yield Solved(system, pool[column], right[row], residual)


def check_twin(recorder: Recorder, n: int) -> list[Result]:
    """RUN017: nothing but the builder makes a Hermitian N x N matrix or a factor of trace N."""
    failures: dict[str, Result] = {}
    looked = 0
    built = sum(item.in_builder for item in recorder.seen)
    for item in recorder.seen:
        if item.in_builder or item.operator == "input":
            continue
        looked += 1
        what = twin(item, n)
        if what:
            evidence: dict[str, object] = {"shape": list(item.values.shape), "operator": item.operator}
            failures.setdefault(
                item.place, Result("RUN017", item.place, False, f"{what} of trace N was made outside the builder", evidence)
            )
    evidence = {"tensors outside the builder": looked, "tensors inside": built}
    if not built:
        return [Result("RUN017", "training step", False, "the builder was not seen at work, so nothing is proved", evidence)]
    return list(failures.values()) or [Result("RUN017", "training step", True, f"{looked} tensors, no covariance among them", evidence)]


def twin(item: Seen, n: int) -> str:
    """What kind of covariance a tensor is, empty if none."""
    values = item.values
    if values.ndim >= 2 and values.shape[-2:] == (n, n) and _is_covariance(values.reshape(-1, n, n), n):
        return "a covariance"
    if values.ndim == 3 and values.is_complex() and n in values.shape[1:] and min(values.shape[1:]) > 1 and item.operator not in COPIES:
        power = values.abs().square().sum(dim=(1, 2))
        if bool(((power / n - 1.0).abs() < TRACE_TOLERANCE).all()):
            return "a factor"
    return ""


def _is_covariance(stack: Tensor, n: int) -> bool:
    """Hermitian and trace N, all of them, and not all I."""
    trace = stack.diagonal(dim1=-2, dim2=-1).sum(dim=-1)
    symmetric = (stack - stack.mH).abs().amax() <= TRACE_TOLERANCE * stack.abs().amax()
    identity = (stack - torch.eye(n, dtype=stack.dtype)).abs().amax() <= TRACE_TOLERANCE
    return bool(symmetric and ((trace / n - 1.0).abs() < TRACE_TOLERANCE).all() and not identity)
