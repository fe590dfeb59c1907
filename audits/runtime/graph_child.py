"""The child process behind check RUN014: graphs that AOTAutograd makes of the training step, as JSON on standard output.

It is a process of its own because code under jaxtyping's import hook does not compile as one graph, and because a compiler keeps state.
"""

from __future__ import annotations

import contextlib
import json
import re
import sys
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import torch
from torch._dynamo.backends.common import aot_autograd
from torch._dynamo.utils import counters
from torch.fx import GraphModule, Node

from audits.runtime.trial import SMALL, Trial, small_config, small_trial
from ris_pipeline.config import Config
from ris_pipeline.shards import Batch
from ris_pipeline.training import Trainer

FLAGS: tuple[tuple[str, dict[str, Any], dict[str, Any]], ...] = (
    ("beta", {}, {"covariance": {"beta": 0.0}}),
    ("shrinkage", {}, {"covariance": {"shrinkage": None}}),
    ("loading", {}, {"covariance": {"diagonal_loading": 0.0}}),
    ("heads", {}, {"loss": {"steering": 0.0, "covariance": 0.0}, "model": {"pursuit_maps": 1}}),
)
_FRAME = re.compile(r'File "(?P<path>[^"]+)", line (?P<line>\d+)')


def cases() -> Iterator[tuple[str, dict[str, Any], bool, bool, bool]]:
    """Name, configuration, and whether there is a sample, a noise variance, and training.

    The rows of the orthogonal array with eight runs and seven factors: every pair of flags takes all four of its values.
    """
    for row in range(8):
        a, b, c = (bool(row & bit) for bit in (1, 2, 4))
        beta, shrinkage, loading, heads = a ^ b ^ c, b, c, a ^ b
        sample, noise, train = a ^ c, b ^ c, not a
        changes: dict[str, Any] = {}
        for (_, off_values, on_values), on in zip(FLAGS, (beta, shrinkage, loading, heads), strict=True):
            for section, values in (on_values if on else off_values).items():
                changes[section] = changes.get(section, {}) | values
        words = [name if not on else f"no {name}" for (name, _, _), on in zip(FLAGS, (beta, shrinkage, loading, heads), strict=True)]
        words += ["no sample" if sample else "sample", "no noise variance" if noise else "noise variance", "train" if train else "eval"]
        yield ", ".join(words), changes, not sample, not noise, train


class Graphs:
    """The graphs of one compilation, by kind, as a table of operators with their number and first source line."""

    def __init__(self) -> None:
        self.seen: dict[str, dict[str, Any]] = {}
        self.nodes: dict[str, int] = {}

    def backend(self) -> Callable[..., Any]:
        """A backend that keeps the graphs and runs them unchanged."""
        return aot_autograd(
            fw_compiler=self._keep("forward"), bw_compiler=self._keep("backward"), inference_compiler=self._keep("inference")
        )

    def _keep(self, kind: str) -> Callable[..., Any]:
        def compiler(module: GraphModule, _: Any) -> Callable[..., Any]:
            self.nodes[kind] = self.nodes.get(kind, 0) + len(module.graph.nodes)
            for node in module.graph.nodes:
                self._add(kind, node, module)
            return _boxed(module.forward)

        return compiler

    def _add(self, kind: str, node: Node, module: GraphModule) -> None:
        if node.op in ("placeholder", "output"):
            return
        if node.op == "get_attr":
            owned = getattr(module, str(node.target), None)
            if not isinstance(owned, GraphModule):
                return
            for inner in owned.graph.nodes:
                self._add(kind, inner, owned)
            return
        name = operator_name(node)
        entry = self.seen.setdefault(name, {"kinds": [], "count": 0, "where": ""})
        entry["count"] += 1
        entry["kinds"] = sorted({*entry["kinds"], kind})
        entry["where"] = entry["where"] or place(node)


def operator_name(node: Node) -> str:
    """The operator as ``namespace::name``; what is no operator under its own name."""
    if isinstance(node.target, torch._ops.OpOverload):
        return str(node.target._schema.name)
    module = getattr(node.target, "__module__", "")
    return f"{module}.{getattr(node.target, '__name__', node.target)}"


def place(node: Node) -> str:
    """Innermost source line of a node."""
    frames = list(_FRAME.finditer(node.stack_trace or ""))
    return f"{frames[-1]['path']}:{frames[-1]['line']}" if frames else ""


def _boxed(forward: Callable[..., Any]) -> Callable[..., Any]:
    def run(arguments: list[Any]) -> Any:
        return forward(*arguments)

    run._boxed_call = True  # type: ignore[attr-defined]
    return run


def whole(trainer: Trainer, batch: Batch, *, train: bool) -> dict[str, Any]:
    """Forward and loss as one graph, and its backward in training."""
    graphs = Graphs()

    def forward_and_loss(given: Batch) -> torch.Tensor:
        return trainer.loss(trainer.model(given.measurements), given).total

    compiled = torch.compile(forward_and_loss, backend=graphs.backend(), fullgraph=True, dynamic=False)
    trainer.model.train(train)
    problem, eager, got = "", float("nan"), float("nan")
    with torch.enable_grad() if train else torch.no_grad():
        try:
            eager = float(forward_and_loss(batch).detach())
            total = compiled(batch)
            if train:
                total.backward()
            got = float(total.detach())
        except Exception as error:  # noqa: BLE001 - whatever keeps the step from being one graph is the finding
            problem = first_lines(error)
    return {"operators": graphs.seen, "nodes": graphs.nodes, "problem": problem, "loss": got, "eager loss": eager, "breaks": []}


def step(trainer: Trainer, batch: Batch) -> dict[str, Any]:
    """The whole ``train_step`` in the largest graphs that it allows, and where it breaks."""
    graphs = Graphs()
    counters.clear()
    trainer.model.train()
    problem = ""
    try:
        torch.compile(trainer.train_step, backend=graphs.backend(), dynamic=False)(batch)
    except Exception as error:  # noqa: BLE001 - as above
        problem = first_lines(error)
    breaks = [first_line(reason) for reason in counters["graph_break"]]
    return {"operators": graphs.seen, "nodes": graphs.nodes, "problem": problem, "loss": None, "eager loss": None, "breaks": breaks}


def first_line(text: object) -> str:
    """A sentence for the report."""
    return str(text).strip().splitlines()[0][:300]


def first_lines(error: Exception) -> str:
    """What an exception of the compiler says, and where in the source."""
    frames = [f"{frame['path']}:{frame['line']}" for frame in _FRAME.finditer(str(error))]
    return f"{type(error).__name__}: {first_line(error)}" + (f" at {frames[-1]}" if frames else "")


def given(trial: Trial, *, sample: bool, noise: bool) -> Batch:
    """The first batch, with or without its optional inputs."""
    batch = trial.batch
    measurements = batch.measurements
    if not sample:
        measurements = replace(measurements, sample_factor=None)
    if not noise:
        measurements = replace(measurements, noise_variance=None)
    return Batch(measurements, batch.sources, batch.symbols)


def testify(config: Config) -> dict[str, Any]:
    """All cases."""
    found: dict[str, Any] = {}
    with small_trial(config) as trial:
        for name, changes, sample, noise, train in cases():
            torch._dynamo.reset()
            found[name] = whole(trial.trainer(**changes), given(trial, sample=sample, noise=noise), train=train)
        torch._dynamo.reset()
        found["train_step, optimizer included"] = step(trial.trainer(), trial.batch)
    return found


def main() -> None:
    """Print the testimony."""
    with contextlib.redirect_stdout(sys.stderr):
        warnings.simplefilter("ignore")  # a function behind a cache is traced through, which is what is wanted here
        found = testify(small_config().replaced(**SMALL))
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
