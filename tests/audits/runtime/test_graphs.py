"""RUN014 and RUN015: what is made of the graphs' testimony; the graphs themselves are the saboteur suite's and the audit's business."""

from __future__ import annotations

import copy
import itertools

import pytest
import torch

from audits.runtime import graph_child, graphs, ops, witness


@pytest.fixture
def found():
    entry = {"count": 3, "kinds": ["forward"], "where": ""}
    case = {
        "operators": {"aten::mul": entry, "_operator.getitem": entry},
        "nodes": {"forward": 5, "backward": 4},
        "problem": "",
        "loss": 1.0,
        "eager loss": 1.0,
        "breaks": [],
    }
    step = case | {"loss": None, "eager loss": None, "breaks": list(graphs.BREAKS)}
    return {"beta, train": copy.deepcopy(case), "beta, eval": copy.deepcopy(case) | {"nodes": {"inference": 5}}, "train_step": step}


@pytest.fixture
def list_():
    return ops.Allowed(frozenset({"aten::mul"}), frozenset({"MulBackward0"}), {})


def messages(results):
    return [f"{result.subject}: {result.message}" for result in results if not result.passed]


def test_every_pair_of_flags_takes_all_four_of_its_values():
    rows = [(*(word.startswith("no ") for word in name.split(", ")[:6]), name.endswith("eval")) for name, *_ in graph_child.cases()]
    assert len(rows) == 8
    for first, second in itertools.combinations(range(7), 2):
        assert {(row[first], row[second]) for row in rows} == set(itertools.product((False, True), repeat=2))


def test_allowed_graphs_pass(found, list_):
    (result,) = graphs.check_graphs(found, list_)
    assert result.passed


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda f: f["beta, train"]["operators"].update({"mylib::x": {"kinds": ["backward"], "where": ""}}), "mylib::x is not on the list"),
        (
            lambda f: f["beta, eval"]["operators"].update({"aten::linalg_inv_ex": {"kinds": ["inference"], "where": ""}}),
            "holds aten::linalg_inv_ex",
        ),
        (lambda f: f["beta, train"].update(problem="Unsupported: a thread"), "does not compile as it should: Unsupported: a thread"),
        (lambda f: f["beta, train"].update(nodes={"forward": 5}), "expected backward and forward graphs"),
        (lambda f: f["beta, train"].update({"loss": 1.1}), "the graph's loss is 1.1, the code's 1"),
        (lambda f: f["train_step"]["breaks"].append("Data-dependent branching"), "breaks out of its graph: Data-dependent branching"),
    ],
)
def test_what_is_wrong_with_a_graph_is_said(found, list_, change, words):
    change(found)
    assert any(words in message for message in messages(graphs.check_graphs(found, list_)))


def profiled(*names):
    seen = witness.Testimony()
    for name in names:
        seen.profiled.add(name, "thread 1")
    return {"as configured": seen}


PROVED = graphs.Proofs({"a:b": "proved"})


def test_three_witnesses_that_agree_pass(found, list_):
    (result,) = graphs.check_agreement(profiled("aten::mul"), found, PROVED, list_)
    assert result.passed


@pytest.mark.parametrize(
    ("ran", "proofs", "words"),
    [
        (("aten::mul", "aten::linalg_inv"), PROVED, "run shows aten::linalg_inv"),
        (("aten::mul", "aten::new"), PROVED, "run holds aten::new, which is not on the list"),
        ((), PROVED, "nothing ran"),
        (("aten::mul",), graphs.Proofs({"a:b": "violated"}), "static shows a:b: violated"),
        (("aten::mul",), graphs.Proofs(problem="no table"), "there is no static proof: no table"),
    ],
)
def test_a_witness_that_disagrees_is_named(found, list_, ran, proofs, words):
    (result,) = graphs.check_agreement(profiled(*ran), found, proofs, list_)
    assert not result.passed
    assert words in result.message


def test_a_backend_keeps_both_graphs_with_their_source_lines():
    kept = graph_child.Graphs()
    weight = torch.ones(3, requires_grad=True)
    compiled = torch.compile(lambda x: (x * weight).sin().sum(), backend=kept.backend(), fullgraph=True)
    compiled(torch.ones(3)).backward()
    assert set(kept.nodes) == {"forward", "backward"}
    assert kept.seen["aten::sin"]["kinds"] == ["forward"]
    assert "test_graphs.py" in kept.seen["aten::sin"]["where"]
