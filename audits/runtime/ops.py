"""What one real training step executes: checks RUN001 to RUN004."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from audits.runtime.report import Result
from audits.runtime.trial import Trial, differences, state_of
from audits.runtime.witness import Record, Testimony, by_calls, by_modes, by_profiler
from audits.static.errors import AuditInputError
from audits.static.libraries.solvers import is_solver
from audits.static.report import write_atomically
from ris_pipeline.shards import Batch

ALLOWED = Path(__file__).with_name("allowed_ops.json")
FLAGS: dict[str, dict[str, Any]] = {
    "as configured": {},
    "prediction alone": {"shrinkage": None, "diagonal_loading": 0.0, "beta": 0.0},
    "no sample": {},
}
_SOLVER_NODE = re.compile(
    r"Solve|Inv(?!ert)|Inverse|Cholesky|Lstsq|Pinv|Triangular|LuWithInfo|LuFactor|Linalg(Qr|Lu|Ldl|Det|Slogdet|Eig(?!h))|"
    r"^(Qr|Lu|Det|Slogdet|Logdet|Geqrf|Eig(?!h))"
)
_SOLVER_KERNEL = re.compile(r"gesv|posv|sysv|hesv|gbsv|gtsv|getri|potri|potrs|getrs|trtri|trtrs|gels|trsm|getrf|potrf|geqrf")


@dataclass(frozen=True)
class Allowed:
    """The reviewed list: operators, autograd nodes, and the few host reads with their reasons."""

    operators: frozenset[str]
    nodes: frozenset[str]
    escapes: Mapping[str, str]


def load_allowed(path: Path = ALLOWED) -> Allowed:
    """Read the reviewed list."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        return Allowed(frozenset(data["operators"]), frozenset(data["nodes"]), data["escapes"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise AuditInputError(f"{path} is not a list of allowed operators: {error}") from None


def accept(testimonies: Mapping[str, Testimony], graphed: Collection[str] = (), path: Path = ALLOWED) -> list[str]:
    """Add what was seen to the list, and return the new names; solvers and host reads are never added."""
    old = load_allowed(path)
    seen = {name for testimony in testimonies.values() for name in operators_of(testimony)}
    seen |= set(graphed)
    nodes = {name for testimony in testimonies.values() for name in testimony.nodes.counts}
    good = {name for name in seen if not is_solver_operator(name)}
    good_nodes = {name for name in nodes if not is_solver_node(name)}
    document = {
        "operators": sorted(old.operators | good),
        "nodes": sorted(old.nodes | good_nodes),
        "escapes": dict(old.escapes),
    }
    write_atomically(path, json.dumps(document, indent=1) + "\n")
    return sorted((good - old.operators) | (good_nodes - old.nodes))


def is_solver_operator(name: str) -> bool:
    """Whether an operator, written as ``namespace::name``, solves; outside aten the name alone decides."""
    _, _, bare = name.rpartition("::")
    return is_solver(f"torch.ops.aten.{bare.partition('.')[0]}")


def is_solver_node(name: str) -> bool:
    """Whether an autograd node belongs to a solver."""
    return bool(_SOLVER_NODE.search(name))


def operators_of(testimony: Testimony) -> dict[str, str]:
    """Every operator that a witness saw, with the witness and the place."""
    found: dict[str, str] = {}
    for witness, record in (("dispatcher", testimony.dispatched), ("profiler", testimony.profiled)):
        for name in record.counts:
            found.setdefault(name, f"{witness}, {record.first[name]}")
    return found


@dataclass
class Steps:
    """The same step, taken again and again from the same start."""

    trial: Trial
    flags: str
    states: dict[str, dict[str, Tensor]]

    def take(self, witness: str, under: Callable[[Callable[[], object]], None]) -> None:
        """Take the step with a fresh trainer under a witness and keep what it left behind."""
        trainer = self.trial.trainer(covariance=FLAGS[self.flags])
        trainer.model.train()
        batch = _batch(self.trial, self.flags)
        reports: list[Tensor] = []
        under(lambda: reports.append(trainer.train_step(batch).values))
        self.states[witness] = {**state_of(trainer), "loss terms": torch.cat(reports).clone()}


def _batch(trial: Trial, flags: str) -> Batch:
    batch = trial.batch
    if flags != "no sample":
        return batch
    return Batch(replace(batch.measurements, sample_factor=None), batch.sources, batch.symbols)


def witness_steps(trial: Trial) -> tuple[dict[str, Testimony], dict[str, Steps]]:
    """One step under each witness, for every set of flags; the first set also without any, twice."""
    testimonies, taken = {}, {}
    for flags in FLAGS:
        testimony, steps = Testimony(), Steps(trial, flags, {})
        steps.take("no witness", _plain)
        if flags == "as configured":
            steps.take("no witness, again", _plain)
        steps.take("modes", lambda step, seen=testimony: by_modes(step, seen))  # type: ignore[misc]
        steps.take("profile function", lambda step, seen=testimony: by_calls(step, seen))  # type: ignore[misc]
        steps.take("profiler", lambda step, seen=testimony: by_profiler(step, seen))  # type: ignore[misc]
        testimonies[flags], taken[flags] = testimony, steps
    return testimonies, taken


def _plain(step: Callable[[], object]) -> None:
    step()


def check_operators(testimonies: Mapping[str, Testimony], allowed: Allowed) -> list[Result]:
    """RUN001: every operator and node is on the list."""
    unknown: dict[str, str] = {}
    counts = {}
    for flags, testimony in testimonies.items():
        found = operators_of(testimony)
        counts[flags] = {
            "operators": len(found),
            "dispatched": testimony.dispatched.counts.total(),
            "profiled": testimony.profiled.counts.total(),
            "nodes": testimony.nodes.counts.total(),
        }
        unknown |= {name: f"{where} ({flags})" for name, where in found.items() if name not in allowed.operators}
        unknown |= {
            name: f"autograd node, {testimony.nodes.first[name]} ({flags})" for name in testimony.nodes.counts if name not in allowed.nodes
        }
    failures = [
        Result("RUN001", name, False, f"{name} is not on the list of allowed operators", {"seen by": where})
        for name, where in sorted(unknown.items())
    ]
    silent = [flags for flags, count in counts.items() if not (count["dispatched"] and count["profiled"] and count["nodes"])]
    failures += [Result("RUN001", flags, False, "a witness saw nothing", {"counts": counts[flags]}) for flags in silent]
    return failures or [Result("RUN001", "training step", True, f"all operators of {len(counts)} configurations are on the list", counts)]


def check_solvers(testimonies: Mapping[str, Testimony], allowed: Allowed) -> list[Result]:
    """RUN002: no witness saw a solver, and none is on the list."""
    listed = {name for name in allowed.operators if is_solver_operator(name)} | {name for name in allowed.nodes if is_solver_node(name)}
    failures = [
        Result("RUN002", name, False, f"the list of allowed operators holds the solver {name}", {"list": ALLOWED.name})
        for name in sorted(listed)
    ]
    for flags, testimony in testimonies.items():
        for name, where in _solvers(testimony):
            failures.append(Result("RUN002", name, False, f"the training step ran {name}", {"seen by": where, "configuration": flags}))
    looked = sum(len(operators_of(testimony)) + len(testimony.nodes.counts) for testimony in testimonies.values())
    return failures or [Result("RUN002", "training step", True, f"no solver among {looked} names", {"names": looked})]


def _solvers(testimony: Testimony) -> Iterator[tuple[str, str]]:
    yield from ((name, where) for name, where in operators_of(testimony).items() if is_solver_operator(name))
    for label, record, pattern in (("autograd node", testimony.nodes, _SOLVER_NODE), ("kernel", testimony.kernels, _SOLVER_KERNEL)):
        yield from ((name, f"{label}, {record.first[name]}") for name in record.counts if pattern.search(name))


def check_escapes(testimonies: Mapping[str, Testimony], allowed: Allowed) -> list[Result]:
    """RUN003: host reads and library calls are the listed ones, and explain all reads that the profiler counted."""
    failures, evidence = [], {}
    for flags, testimony in testimonies.items():
        for name, count in testimony.escapes.counts.items():
            if name not in allowed.escapes:
                failures.append(Result("RUN003", name, False, f"the training step left the device graph: {name}", {"times": count}))
        explained = _reads(testimony.escapes)
        unexplained = testimony.reads - testimony.internal_reads - explained
        evidence[flags] = {"reads": testimony.reads, "by operators": testimony.internal_reads, "allowed": explained}
        if unexplained > 0:
            message = f"the profiler counted {unexplained} reads of device scalars that no other witness saw"
            failures.append(Result("RUN003", flags, False, message, evidence[flags]))
    return failures or [Result("RUN003", "training step", True, "only the listed host reads", evidence)]


def _reads(escapes: Record) -> int:
    return sum(
        count for name, count in escapes.counts.items() if name.split(" ", 1)[0] in ("item", "__float__", "__int__", "__bool__", "tolist")
    )


def check_undisturbed(taken: Mapping[str, Steps]) -> list[Result]:
    """RUN004: the step leaves the same bits behind under every witness."""
    failures, compared = [], 0
    for flags, steps in taken.items():
        reference = steps.states["no witness"]
        for witness, state in steps.states.items():
            different = differences(reference, state)
            compared += len(reference)
            if different:
                message = f"{len(different)} of {len(reference)} tensors differ from the step without a witness"
                failures.append(Result("RUN004", f"{witness} ({flags})", False, message, {"tensors": different}))
    return failures or [
        Result("RUN004", "training step", True, f"{compared} tensors compared, all equal bit for bit", {"compared": compared})
    ]
