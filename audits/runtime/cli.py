"""`python -m audits runtime`: small, real runs, and what they executed, moved and returned."""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cached_property

import torch

from audits.runtime import (
    command,
    graphs,
    inverse,
    journal,
    laws,
    learning,
    metric_check,
    ops,
    overfit,
    path_audit,
    repeat,
    robustness,
    scripted,
    search,
    selection,
    streams,
)  # fmt: skip
from audits.runtime.manual import MANUAL
from audits.runtime.report import Report, Result, environment
from audits.runtime.trial import SMALL, TINY, Trial, small_config, small_trial
from audits.runtime.witness import Testimony
from audits.static.errors import AuditInputError
from ris_pipeline.errors import ConfigError
from ris_pipeline.training.loop import resolve_device

PREFIX = ("RUN", "PATH", "DATA")


@dataclass
class Session:
    """What the checks share, made when it is first asked for."""

    device: str
    stack: ExitStack
    child: graphs.Child | None = None
    rows: list[dict[str, object]] = field(default_factory=list)
    details: list[dict[str, object]] = field(default_factory=list)

    @cached_property
    def trial(self) -> Trial:
        """Default shapes, few scenes."""
        return self.stack.enter_context(small_trial(small_config(self.device)))

    @cached_property
    def tiny(self) -> Trial:
        """A small surface, few scenes."""
        return self.stack.enter_context(small_trial(small_config(self.device).replaced(**SMALL).replaced(**TINY)))

    @cached_property
    def allowed(self) -> ops.Allowed:
        """The reviewed list."""
        return ops.load_allowed()

    @cached_property
    def witnessed(self) -> tuple[dict[str, Testimony], dict[str, ops.Steps]]:
        """One step under each witness."""
        return ops.witness_steps(self.trial)

    @cached_property
    def graphs(self) -> dict[str, object]:
        """What the child process found."""
        child = self.child or graphs.Child.start()
        return child.testimony()


Check = Callable[[Session], list[Result]]


@dataclass(frozen=True)
class Group:
    """Checks that share a run."""

    name: str
    codes: tuple[str, ...]
    check: Check


def _operators(session: Session) -> list[Result]:
    testimonies, taken = session.witnessed
    return [
        *ops.check_operators(testimonies, session.allowed),
        *ops.check_solvers(testimonies, session.allowed),
        *ops.check_escapes(testimonies, session.allowed),
        *ops.check_undisturbed(taken),
        *scripted.check_whole_run(session.tiny, session.allowed),
    ]


def _graphs(session: Session) -> list[Result]:
    return graphs.check_graphs(session.graphs, session.allowed)


def _agreement(session: Session) -> list[Result]:
    return graphs.check_agreement(session.witnessed[0], session.graphs, graphs.static_proofs(), session.allowed)


def _selection(session: Session) -> list[Result]:
    trial = session.trial
    made, tried = selection.separated_run(trial)
    by_loss = selection.run(trial, "loss", val_primary="loss", epochs=2)
    return [
        *selection.check_steps(made),
        *selection.check_selection(made, tried),
        *selection.check_loss_primary(by_loss),
        *selection.check_checkpoint(made, trial),
        *metric_check.check_metrics(trial),
        *selection.check_restored(made),
        *selection.check_rates(by_loss),
    ]


def _paths(session: Session) -> list[Result]:
    report = path_audit.own_scenes()
    session.rows, session.details = report.rows, report.details
    return report.results


GROUPS: tuple[Group, ...] = (
    Group("operators", ("RUN001", "RUN002", "RUN003", "RUN004"), _operators),
    Group("learning", ("RUN005", "RUN006"), lambda s: [*learning.check_parameters(s.trial), *learning.check_terms(s.trial)]),
    Group("robustness", ("RUN011", "RUN012"), lambda s: [*robustness.check_guard(s.trial), *robustness.check_inputs(s.trial)]),
    Group("tensors", ("RUN016", "RUN017"), lambda s: inverse.check(s.device)),
    Group("selection", ("RUN007", "RUN008", "RUN009", "RUN010", "RUN013"), _selection),
    Group("scenes", ("RUN018",), lambda s: journal.check_scenes(s.trial)),
    Group("repetition", ("RUN019",), lambda s: repeat.check_repeats(s.tiny)),
    Group("scripted selection", ("RUN020",), lambda s: scripted.check_scripts(s.tiny)),
    Group("laws of the loss", ("RUN023",), lambda s: laws.check_laws(s.tiny)),
    Group("search", ("RUN022",), lambda s: search.check(s.device)),
    Group("overfit", ("RUN021",), lambda s: overfit.check(s.device)),
    Group("data", ("RUN024", *(code for code in MANUAL if code.startswith("DATA"))), lambda s: streams.check()),
    Group("covariance paths", tuple(code for code in MANUAL if code.startswith("PATH")), _paths),
    Group("graphs", ("RUN014",), _graphs),
    Group("agreement", ("RUN015",), _agreement),
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    options = command.parser(" runtime", "Audit small, real runs of training, search and generation.")
    options.add_argument("--device", default="cpu", help="cpu (default), auto, or a CUDA device: cuda, cuda:1")
    options.add_argument(
        "--accept-ops",
        action="store_true",
        help="add the operators that the step ran to the reviewed list, solvers excepted, and stop",
    )
    return command.run(options, argv, PREFIX, _audit_of)


def _audit_of(chosen: argparse.Namespace) -> Report:
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # the profiler announces itself on standard error otherwise
    wanted = command.selected(chosen.select, PREFIX)
    _require_device(chosen.device)
    with _session(chosen.device, compiling=chosen.accept_ops or bool({"RUN014", "RUN015"} & wanted)) as session:
        return _accept(session) if chosen.accept_ops else audit(session, wanted)


def _require_device(name: str) -> None:
    """Refuse a device that is not there before any check runs, for each of them would meet it anew."""
    try:
        resolve_device(name)
    except ConfigError as error:
        cuda = torch.cuda.device_count()
        raise AuditInputError(f"--device: expected cpu, auto or a CUDA device (there are {cuda} here), got {name!r}") from error


@contextmanager
def _session(device: str, *, compiling: bool) -> Iterator[Session]:
    with ExitStack() as stack:
        session = Session(device, stack, graphs.Child.start() if compiling else None)
        try:
            yield session
        finally:
            if session.child is not None:
                session.child.stop()


def _accept(session: Session) -> Report:
    testimonies, _ = session.witnessed
    new = ops.accept(testimonies, graphs.operators(session.graphs))
    message = f"{len(new)} names added to {ops.ALLOWED.name}" + (f": {', '.join(new)}" if new else "")
    return Report("runtime", ops.check_solvers(testimonies, ops.load_allowed()), facts={"accepted": message})


def audit(session: Session, wanted: set[str]) -> Report:
    """Every check that is wanted; one that breaks down is reported and does not keep the others from running."""
    report = Report("runtime")
    for group in GROUPS:
        if not wanted.intersection(group.codes):
            continue
        started = time.perf_counter()
        try:
            results = group.check(session)
        except Exception as error:  # noqa: BLE001 - the audited code may break in any way
            report.incomplete[group.name] = f"{type(error).__name__}: {error}"
            results = []
        report.results += [result for result in results if result.code in wanted]
        report.timings_s[group.name] = time.perf_counter() - started
    report.results.sort(key=lambda result: result.code)
    report.rows, report.details = session.rows, session.details
    report.facts = {
        "configurations of the step": list(ops.FLAGS),
        "environment": environment(session.device),
        "configuration": small_config(session.device).sha256(),
    }
    return report
