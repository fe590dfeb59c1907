"""Graphs of the training step and the agreement of the three witnesses: checks RUN014 and RUN015."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Self

import audits
import ris_pipeline
from audits.runtime.ops import Allowed, is_solver_node, is_solver_operator, operators_of
from audits.runtime.report import Result
from audits.runtime.witness import Testimony
from audits.static.audit import run_audit
from audits.static.errors import AuditIncompleteError, AuditInputError
from audits.static.settings import load_settings

TIMEOUT_S = 900.0
LOSS_TOLERANCE = 1e-4
BREAKS = {
    "Attempted to inline function marked as skipped": "torch does not trace Optimizer.zero_grad",
    "Unsupported Tensor.backward() call": "the backward is AOTAutograd's own graph",
    "Call to `torch._dynamo.graph_break()`": "torch.optim separates the optimizer's update by a break of its own",
}
"""Why the whole ``train_step`` cannot be one graph: breaks that torch itself makes. Any other is a finding."""
_PLAIN = ("_operator.getitem",)
_PACKAGE = Path(ris_pipeline.__file__).resolve().parent


@dataclass
class Child:
    """The process that compiles the step, running while other checks are made."""

    process: subprocess.Popen[str]
    output: IO[str]
    errors: IO[str]

    @classmethod
    def start(cls) -> Self:
        """Start it with the packages of this process and without an import hook."""
        folders = dict.fromkeys(str(Path(package.__file__ or "").resolve().parents[1]) for package in (audits, ris_pipeline))
        inherited = os.environ.get("PYTHONPATH", "")
        path = os.pathsep.join([*folders, *([inherited] if inherited else [])])
        output, errors = (tempfile.TemporaryFile("w+") for _ in range(2))  # noqa: SIM115 - closed when they have been read
        process = subprocess.Popen(
            [sys.executable, "-m", "audits.runtime.graph_child"],
            env=os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
            stdout=output,
            stderr=errors,
            text=True,
        )
        return cls(process, output, errors)

    def testimony(self) -> dict[str, Any]:
        """What it found.

        Raises:
            AuditIncompleteError: it failed or took too long.
        """
        try:
            code = self.process.wait(TIMEOUT_S)
        except subprocess.TimeoutExpired:
            raise AuditIncompleteError(f"the graphs of the training step took more than {TIMEOUT_S:.0f} s") from None
        finally:
            self.stop()
        self.output.seek(0)
        self.errors.seek(0)
        text, last = self.output.read(), self.errors.read().strip().splitlines()[-1:]
        self.output.close()
        self.errors.close()
        if code != 0:
            raise AuditIncompleteError(f"the process that compiles the training step ended with {code}: {' '.join(last)}")
        return dict(json.loads(text))

    def stop(self) -> None:
        """End it if it still runs."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


def operators(found: Mapping[str, Any]) -> dict[str, str]:
    """Every operator of every graph, with its kind of graph and source line."""
    seen: dict[str, str] = {}
    for case in found.values():
        for name, entry in case["operators"].items():
            if name not in _PLAIN:
                seen.setdefault(name, f"{' and '.join(entry['kinds'])} graph, {short_place(entry['where'])}")
    return seen


def short_place(where: str) -> str:
    """A source line relative to the folder of the package."""
    path, _, line = where.rpartition(":")
    file = Path(path)
    return f"{file.relative_to(_PACKAGE.parent).as_posix()}:{line}" if path and file.is_relative_to(_PACKAGE.parent) else where or "no line"


def check_graphs(found: Mapping[str, Any], allowed: Allowed) -> list[Result]:
    """RUN014: every case is one graph of allowed operators, with a backward in training, and computes the loss of the real code."""
    failures = [result for name, case in found.items() for result in _case(name, case)]
    seen = operators(found)
    for name, where in seen.items():
        if is_solver_operator(name):
            failures.append(Result("RUN014", name, False, f"the graph of the training step holds {name}", {"seen by": where}))
        elif name not in allowed.operators:
            failures.append(Result("RUN014", name, False, f"{name} is not on the list of allowed operators", {"seen by": where}))
    table = {name: case["nodes"] for name, case in found.items()}
    evidence = {"operators": len(seen), "nodes": table, "breaks of torch itself": list(BREAKS.values())}
    message = f"{len(found)} configurations, {len(seen)} operators, all on the list"
    return failures or [Result("RUN014", "training step", True, message, evidence)]


def _case(name: str, case: Mapping[str, Any]) -> Iterator[Result]:
    if case["problem"]:
        yield Result("RUN014", name, False, f"does not compile as it should: {case['problem']}", {"nodes": case["nodes"]})
        return
    kinds = set(case["nodes"])
    expected = {"inference"} if name.endswith("eval") else {"forward", "backward"}
    if not expected <= kinds:
        yield Result(
            "RUN014", name, False, f"expected {' and '.join(sorted(expected))} graphs, got {sorted(kinds)}", {"nodes": case["nodes"]}
        )
    if case["loss"] is not None and not math.isclose(case["loss"], case["eager loss"], rel_tol=LOSS_TOLERANCE):
        message = f"the graph's loss is {case['loss']:.8g}, the code's {case['eager loss']:.8g}"
        yield Result("RUN014", name, False, message, {"graph": case["loss"], "code": case["eager loss"]})
    for reason in case["breaks"]:
        if not any(reason.startswith(known) for known in BREAKS):
            yield Result("RUN014", name, False, f"the step breaks out of its graph: {reason}", {"allowed breaks": list(BREAKS)})


@dataclass(frozen=True)
class Proofs:
    """What the static audit says about solvers: status by entry point, and why there is none."""

    status: dict[str, str] = field(default_factory=dict)
    problem: str = ""


def static_proofs(root: Path = _PACKAGE.parent) -> Proofs:
    """Verdicts of HOT001 on the package that is audited."""
    try:
        report = run_audit(root, load_settings(root / "pyproject.toml"), select=["HOT001"])
    except AuditInputError as error:
        return Proofs(problem=str(error))
    return Proofs({proof.entry_point: proof.status for proof in report.proofs if proof.rule == "HOT001"})


def check_agreement(testimonies: Mapping[str, Testimony], found: Mapping[str, Any], proofs: Proofs, allowed: Allowed) -> list[Result]:
    """RUN015: profiler, graphs and static proof all saw something, none a solver, and both op sets lie inside the list."""
    ran = {name for testimony in testimonies.values() for name in operators_of(testimony)}
    nodes = {name for testimony in testimonies.values() for name in testimony.nodes.counts}
    traced = set(operators(found))
    solvers = {
        "run": sorted({n for n in ran if is_solver_operator(n)} | {n for n in nodes if is_solver_node(n)}),
        "graphs": sorted(n for n in traced if is_solver_operator(n)),
        "static": sorted(f"{entry}: {status}" for entry, status in proofs.status.items() if status != "proved"),
    }
    outside = {"run": sorted(ran - allowed.operators), "graphs": sorted(traced - allowed.operators)}
    evidence = {
        "operators that ran": len(ran), "operators in graphs": len(traced), "in both": len(ran & traced),
        "entry points proved": list(proofs.status), "solvers": solvers, "outside the list": outside,
    }  # fmt: skip
    problems = [f"{witness} shows {', '.join(names)}" for witness, names in solvers.items() if names]
    problems += [f"{witness} holds {', '.join(names)}, which is not on the list" for witness, names in outside.items() if names]
    problems += [what for what, empty in (("nothing ran", not ran), ("no graph was made", not traced)) if empty]
    if not proofs.status:
        problems.append(f"there is no static proof: {proofs.problem or 'no entry point is configured'}")
    message = "; ".join(problems) or f"no solver in {len(ran)} operators that ran, {len(traced)} in graphs, {len(proofs.status)} proofs"
    return [Result("RUN015", "three witnesses", not problems, message, evidence)]
