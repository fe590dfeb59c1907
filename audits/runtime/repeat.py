"""Whether training repeats itself, check RUN019."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch
from torch import Tensor

from audits.runtime.report import Result
from audits.runtime.trial import Trial, differences, state_of
from ris_pipeline.training import EpochReport, Trainer

EPOCHS = 3
UNTIMED = frozenset({"samples_per_second"})


class _StopError(Exception):
    """Ends a run from outside."""


def _run(trial: Trial, name: str, *, stop_after: int | None = None, resume: bool = False) -> tuple[dict[str, Tensor], list[dict[str, Any]]]:
    options = {"epochs": EPOCHS, "patience": EPOCHS, "device": "cpu"}

    def on_epoch(report: EpochReport) -> None:
        if report.epoch == stop_after:
            raise _StopError

    trainer = Trainer(trial.config.replaced(train=options), trial.train, trial.val, trial.directory / name, on_epoch)
    if resume:
        trainer.resume()
    try:
        history = trainer.fit().history
    except _StopError:
        history = []
    lines = [{key: value for key, value in line.items() if key not in UNTIMED} for line in history]
    return state_of(trainer), lines


def check_repeats(trial: Trial) -> list[Result]:
    """RUN019: the same seed gives the same bits, whatever global random state is, and through an interruption."""
    first, log = _run(trial, "repeat-0")
    states = torch.get_rng_state(), np.random.get_state(), random.getstate()  # noqa: NPY002 - put back below
    try:
        torch.manual_seed(20_011)
        np.random.seed(20_011)  # noqa: NPY002 - a run that reads the global state shows
        random.seed(20_011)
        second, log_again = _run(trial, "repeat-1")
        _run(trial, "repeat-2", stop_after=0)
        torch.manual_seed(7)
        third, log_resumed = _run(trial, "repeat-2", resume=True)
    finally:
        torch.set_rng_state(states[0])
        np.random.set_state(states[1])  # noqa: NPY002
        random.setstate(states[2])
    results = []
    for name, state, lines in (("second run with the seed", second, log_again), ("interrupted and resumed run", third, log_resumed)):
        different = differences(first, state)
        evidence = {"tensors": len(first), "different": different[:5], "epochs": len(lines)}
        same_log = lines == log and len(log) == EPOCHS
        message = (
            f"{len(first)} tensors and {len(log)} log lines equal" if same_log and not different else _what(different, same_log=same_log)
        )
        results.append(Result("RUN019", name, same_log and not different, message, evidence))
    return results


def _what(different: list[str], *, same_log: bool) -> str:
    parts = [f"{len(different)} tensors differ"] if different else []
    return ", ".join(parts + ([] if same_log else ["the logs differ"]))
