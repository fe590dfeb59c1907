"""Tasks that two processes share: every result arrives once, in order, whatever a child does."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest

from audits.static import shared
from audits.static.run import audit
from audits.static.settings import parse_settings


def test_both_processes_take_part_and_the_order_stays() -> None:
    tasks = [f"t{n}" for n in range(40)]

    def run(task: str) -> tuple[str, int]:
        time.sleep(0.002)
        return task, os.getpid()

    found = shared.results(tasks, run, processes=2)
    assert list(found) == tasks
    assert [name for name, _ in found.values()] == tasks
    assert len({pid for _, pid in found.values()}) == 2


def test_what_a_child_does_not_finish_is_run_here() -> None:
    parent = os.getpid()

    def run(task: str) -> str:
        time.sleep(0.002)
        if os.getpid() != parent:
            os._exit(1)
        return task.upper()

    assert shared.results(["a", "b", "c", "d"], run, processes=2) == {"a": "A", "b": "B", "c": "C", "d": "D"}


def test_an_error_of_a_task_is_raised_here() -> None:
    def run(task: str) -> str:
        raise ValueError(task)

    with pytest.raises(ValueError, match="a"):
        shared.results(["a", "aa"], run, processes=2)


def test_beside_another_thread_nothing_is_forked() -> None:
    done = threading.Event()
    other = threading.Thread(target=done.wait)
    other.start()
    try:
        found = shared.results(["a", "b"], lambda task: os.getpid(), processes=2)
    finally:
        done.set()
        other.join()
    assert set(found.values()) == {os.getpid()}


def test_two_processes_reach_the_verdict_of_one(tmp_path: Path) -> None:
    (tmp_path / "pkg").mkdir()
    (tmp_path / "pkg/__init__.py").write_text(
        "import torch\nimport numpy as np\ndef step(x):\n    try:\n        return torch.linalg.inv(x).numpy() + np.random.rand()\n"
        "    except Exception:\n        pass\n",
        encoding="utf-8",
    )
    settings = parse_settings({"packages": ["pkg"], "hot-path": {"entry-points": ["pkg:step"]}})
    one, two = (audit(tmp_path, settings, processes=n) for n in (1, 2))
    assert {f.rule for f in one.findings} == {"HOT001", "HOT003", "ERR001", "RNG001"}
    assert (two.findings, two.proofs, two.checked) == (one.findings, one.proofs, one.checked)
    assert two.timings_s.keys() == one.timings_s.keys()
