"""RUN001 to RUN004: each saboteur is caught by name, and the clean step passes."""

from __future__ import annotations

import json
import threading

import numpy as np
import pytest
import torch

from audits.runtime import ops, witness
from audits.runtime.ops import Allowed, Steps
from audits.runtime.trial import state_of
from audits.static.errors import AuditInputError
from ris_pipeline.training import Trainer

WITNESSES = {"modes": witness.by_modes, "calls": witness.by_calls, "profiler": witness.by_profiler}


def watched(trial, *names_of: str) -> dict[str, witness.Testimony]:
    """The step as the named witnesses saw it."""
    testimony = witness.Testimony()
    for name in names_of:
        trainer = trial.trainer()
        WITNESSES[name](lambda trainer=trainer: trainer.train_step(trial.batch), testimony)
    return {"as configured": testimony}


def names(results, code):
    return {result.subject for result in results if result.code == code and not result.passed}


def after_loss(monkeypatch, extra):
    """Let ``extra`` add to the total of every loss."""
    clean = Trainer.loss

    def loss(self, prediction, batch):
        terms = clean(self, prediction, batch)
        return type(terms)(terms.values, terms.total + extra(self, prediction))

    monkeypatch.setattr(Trainer, "loss", loss)


def solved():
    matrix = 2.0 * torch.eye(3)
    return torch.linalg.solve(matrix, torch.ones(3)).sum() * 0.0


def middle():
    return solved()


def top(*_):
    return middle()


def test_the_clean_step_passes_and_repeats_itself(trial, allowed, monkeypatch):
    monkeypatch.setattr(ops, "FLAGS", {"as configured": {}})
    testimonies, taken = ops.witness_steps(trial)
    results = [
        *ops.check_operators(testimonies, allowed),
        *ops.check_solvers(testimonies, allowed),
        *ops.check_escapes(testimonies, allowed),
        *ops.check_undisturbed(taken),
    ]
    assert [(result.code, result.passed) for result in results] == [(f"RUN00{i}", True) for i in (1, 2, 3, 4)]
    assert results[0].evidence["as configured"]["nodes"] > 100
    assert results[3].evidence["compared"] > 400


@pytest.mark.parametrize("witness", ["modes", "profiler"])
def test_a_solver_three_calls_below_the_loss_is_named(trial, allowed, monkeypatch, witness):
    after_loss(monkeypatch, top)
    seen = watched(trial, witness)
    assert "aten::_linalg_solve_ex" in names(ops.check_operators(seen, allowed), "RUN001")
    assert "aten::_linalg_solve_ex" in names(ops.check_solvers(seen, allowed), "RUN002")


def test_the_place_of_an_unknown_operator_is_evidence(trial, allowed, monkeypatch):
    after_loss(monkeypatch, top)
    results = ops.check_operators(watched(trial, "modes"), allowed)
    (found,) = [result for result in results if result.subject == "aten::_linalg_solve_ex"]
    assert found.evidence["seen by"].endswith("test_ops:solved (as configured)")


def test_a_solver_in_a_backward_hook_is_caught(trial, allowed, monkeypatch):
    def hooked(self, prediction):
        prediction.factor.register_hook(lambda gradient: gradient + 0.0 * torch.linalg.inv(2.0 * torch.eye(2)).sum())
        return 0.0

    after_loss(monkeypatch, hooked)
    assert "aten::linalg_inv_ex" in names(ops.check_solvers(watched(trial, "modes"), allowed), "RUN002")
    assert "aten::linalg_inv_ex" in names(ops.check_solvers(watched(trial, "profiler"), allowed), "RUN002")


class Whiten(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        lower = torch.eye(1)
        return torch.cholesky_solve(gradient.reshape(1, 1), lower).reshape(gradient.shape)


def test_a_solver_in_the_backward_of_a_custom_function_is_caught(trial, allowed, monkeypatch):
    after_loss(monkeypatch, lambda self, prediction: 0.0 * Whiten.apply(prediction.k_logits.sum()))
    seen = watched(trial, "modes", "profiler")
    assert "aten::_cholesky_solve_helper" in names(ops.check_solvers(seen, allowed), "RUN002")
    assert "WhitenBackward" in names(ops.check_operators(seen, allowed), "RUN001")


def test_a_solver_in_another_thread_is_seen_by_the_profiler(trial, allowed, monkeypatch):
    def elsewhere(self, prediction):
        worker = threading.Thread(target=solved)
        worker.start()
        worker.join()
        return 0.0

    after_loss(monkeypatch, elsewhere)
    assert "aten::_linalg_solve_ex" in names(ops.check_solvers(watched(trial, "profiler"), allowed), "RUN002")


def test_a_custom_operator_is_unknown_and_its_numpy_is_an_escape(trial, allowed, monkeypatch):
    @torch.library.custom_op("ris_saboteur::whiten", mutates_args=())
    def whiten(x: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(np.linalg.inv(x.numpy()))

    after_loss(monkeypatch, lambda self, prediction: 0.0 * whiten(torch.eye(2)).sum())
    seen = watched(trial, "modes", "profiler", "calls")
    assert "ris_saboteur::whiten" in names(ops.check_operators(seen, allowed), "RUN001")
    escapes = names(ops.check_escapes(seen, allowed), "RUN003")
    assert any(name.startswith("numpy.linalg") and "inv in " in name for name in escapes)


@pytest.mark.parametrize(
    ("what", "extra"),
    [
        ("item", lambda self, prediction: prediction.power.sum().item() * 0.0),
        ("__float__", lambda self, prediction: float(prediction.power.detach().sum()) * 0.0),
        ("__bool__", lambda self, prediction: 0.0 * bool(prediction.power.sum() > 0)),
        ("tolist", lambda self, prediction: sum(prediction.power[0].tolist()) * 0.0),
        ("numpy", lambda self, prediction: float(prediction.power.detach().numpy()[0, 0]) * 0.0),
        ("cpu", lambda self, prediction: prediction.power.cpu().sum() * 0.0),
    ],
)
def test_a_host_read_is_named_with_its_function(trial, allowed, monkeypatch, what, extra):
    after_loss(monkeypatch, extra)
    escapes = names(ops.check_escapes(watched(trial, "modes"), allowed), "RUN003")
    assert any(name.startswith(f"{what} in ") and name.endswith("<lambda>") for name in escapes)


def test_numpy_prints_and_reads_in_another_thread_are_seen(trial, allowed, monkeypatch, capsys):
    def read(value):
        value.item()

    def elsewhere(self, prediction):
        worker = threading.Thread(target=read, args=(prediction.power.detach().sum(),))
        worker.start()
        worker.join()
        print("step")
        return float(np.mean(np.ones(3))) * 0.0

    after_loss(monkeypatch, elsewhere)
    escapes = names(ops.check_escapes(watched(trial, "calls"), allowed), "RUN003")
    assert any(name.startswith("item in ") and name.endswith("read") for name in escapes)
    assert any(name.startswith("builtins.print in ") for name in escapes)
    assert any(name.startswith("numpy") and "mean in " in name for name in escapes)


def test_reads_that_only_the_profiler_saw_are_a_finding(allowed):
    testimony = witness.Testimony(reads=3, internal_reads=1)
    (result,) = ops.check_escapes({"as configured": testimony}, allowed)
    assert not result.passed
    assert "2 reads" in result.message


def test_a_solver_on_the_list_fails(allowed):
    spoiled = Allowed(allowed.operators | {"aten::linalg_inv_ex"}, allowed.nodes | {"LinalgSolveExBackward0"}, allowed.escapes)
    assert names(ops.check_solvers({}, spoiled), "RUN002") == {"aten::linalg_inv_ex", "LinalgSolveExBackward0"}


@pytest.mark.parametrize(
    ("name", "solves"),
    [
        ("aten::linalg_lstsq", True), ("aten::linalg_solve_triangular", True), ("aten::cholesky_inverse", True),
        ("aten::linalg_qr", True), ("aten::linalg_slogdet", True), ("mine::solve", True), ("aten::_linalg_eigh", False),
        ("aten::linalg_eigvalsh", False), ("aten::sqrt", False), ("aten::relu", False),
    ],
)  # fmt: skip
def test_what_a_solver_is(name, solves):
    assert ops.is_solver_operator(name) is solves


@pytest.mark.parametrize(
    ("name", "solves"),
    [("LinalgInvExBackward0", True), ("LinalgQrBackward0", True), ("LinalgEighBackward0", False), ("SqrtBackward0", False),
     ("InvertBackward", False), ("LuFactorExBackward0", True), ("LinalgEigBackward0", True)],
)  # fmt: skip
def test_which_node_belongs_to_a_solver(name, solves):
    assert ops.is_solver_node(name) is solves


def test_accepting_adds_what_is_harmless_and_nothing_else(tmp_path):
    path = tmp_path / "allowed.json"
    path.write_text(json.dumps({"operators": ["aten::add"], "nodes": [], "escapes": {"a": "b"}}))
    testimony = witness.Testimony()
    for name in ("aten::mul", "aten::linalg_inv_ex"):
        testimony.dispatched.add(name, "here")
    for name in ("MulBackward0", "LinalgInvExBackward0"):
        testimony.nodes.add(name, "here")
    assert ops.accept({"x": testimony}, path=path) == ["MulBackward0", "aten::mul"]
    assert json.loads(path.read_text()) == {
        "operators": ["aten::add", "aten::mul"],
        "nodes": ["MulBackward0"],
        "escapes": {"a": "b"},
    }


def test_a_list_that_cannot_be_read_is_the_users_input(tmp_path):
    path = tmp_path / "allowed.json"
    path.write_text("{}")
    with pytest.raises(AuditInputError, match="not a list of allowed operators"):
        ops.load_allowed(path)


def test_a_witness_that_saw_nothing_fails(allowed):
    (result,) = ops.check_operators({"as configured": witness.Testimony()}, allowed)
    assert not result.passed
    assert result.message == "a witness saw nothing"


def test_a_step_that_does_not_repeat_itself_is_caught(trial, monkeypatch):
    generator = torch.Generator().manual_seed(1)
    after_loss(monkeypatch, lambda self, prediction: prediction.power.sum() * torch.rand((), generator=generator))
    steps = Steps(trial, "as configured", {})
    for name in ("no witness", "no witness, again"):
        steps.take(name, lambda step: step())
    (result,) = ops.check_undisturbed({"as configured": steps})
    assert not result.passed
    assert result.evidence["tensors"]


def test_a_state_holds_weights_and_moments(trial):
    trainer = trial.trainer()
    trainer.train_step(trial.batch)
    state = state_of(trainer)
    assert "count_head.layers.1.weight" in state
    assert "optimizer.0.exp_avg" in state
