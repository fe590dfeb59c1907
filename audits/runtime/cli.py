"""`python -m audits runtime`: one small, real training run, and what it executed, moved and returned."""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable, Sequence

from audits.runtime import command, learning, ops, robustness, selection
from audits.runtime.report import Report, Result, environment
from audits.runtime.trial import Trial, small_config, small_trial

PREFIX = "RUN"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    options = command.parser(" runtime", "Audit a small, real training run.")
    options.add_argument("--device", default="cpu", help="cpu (default) or a CUDA device")
    options.add_argument(
        "--accept-ops",
        action="store_true",
        help="add the operators that the step ran to the reviewed list, solvers excepted, and stop",
    )
    return command.run(options, argv, PREFIX, _audit_of)


def _audit_of(chosen: argparse.Namespace) -> Report:
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # the profiler announces itself on standard error otherwise
    with small_trial(small_config(chosen.device)) as trial:
        if chosen.accept_ops:
            return _accept(trial)
        return audit(trial)


def _accept(trial: Trial) -> Report:
    testimonies, _ = ops.witness_steps(trial)
    new = ops.accept(testimonies)
    message = f"{len(new)} names added to {ops.ALLOWED.name}" + (f": {', '.join(new)}" if new else "")
    return Report("runtime", ops.check_solvers(testimonies, ops.load_allowed()), facts={"accepted": message})


def audit(trial: Trial) -> Report:
    """Every check of the run-time audit."""
    report = Report("runtime")
    allowed = ops.load_allowed()

    def timed(name: str, check: Callable[[], list[Result]]) -> None:
        started = time.perf_counter()
        report.results += check()
        report.timings_s[name] = time.perf_counter() - started

    timed("operators", lambda: _operators(trial, allowed))
    timed("learning", lambda: [*learning.check_parameters(trial), *learning.check_terms(trial)])
    timed("robustness", lambda: [*robustness.check_guard(trial), *robustness.check_inputs(trial)])
    timed("selection", lambda: _selection(trial))
    report.facts = {
        "configurations of the step": list(ops.FLAGS),
        "environment": environment(trial.config.train.device),
        "configuration": trial.config.sha256(),
    }
    return report


def _operators(trial: Trial, allowed: ops.Allowed) -> list[Result]:
    testimonies, taken = ops.witness_steps(trial)
    return [
        *ops.check_operators(testimonies, allowed),
        *ops.check_solvers(testimonies, allowed),
        *ops.check_escapes(testimonies, allowed),
        *ops.check_undisturbed(taken),
    ]


def _selection(trial: Trial) -> list[Result]:
    made, tried = selection.separated_run(trial)
    by_loss = selection.run(trial, "loss", val_primary="loss", epochs=2)
    return [
        *selection.check_steps(made),
        *selection.check_selection(made, tried),
        *selection.check_loss_primary(by_loss),
        *selection.check_checkpoint(made, trial),
        *selection.check_restored(made),
        *selection.check_rates(by_loss),
    ]
