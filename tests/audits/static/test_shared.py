"""Tasks that two processes share: every result arrives once, in order, whatever a child does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from audits.static import shared
from audits.static.report import FORMATS
from audits.static.run import audit
from audits.static.settings import load_settings

ROOT = Path(__file__).parents[3]


def in_a_process_of_its_own(code: str) -> str:
    """What code prints where no earlier test has left a thread behind."""
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


SHARED = """
import os, time
from audits.static import shared
parent = os.getpid()
def run(task):
    time.sleep(0.002)
    if DIES and os.getpid() != parent:
        os._exit(1)
    return task.upper(), os.getpid()
found = shared.results([f"t{n}" for n in range(40)], run, processes=2)
assert list(found) == [f"t{n}" for n in range(40)]
assert [name for name, _ in found.values()] == [f"T{n}" for n in range(40)]
print(len({pid for _, pid in found.values()}))
"""


def test_both_processes_take_part_and_the_order_stays() -> None:
    assert in_a_process_of_its_own(SHARED.replace("DIES", "False")) == "2\n"


def test_what_a_child_does_not_finish_is_run_by_its_parent() -> None:
    assert in_a_process_of_its_own(SHARED.replace("DIES", "True")) == "1\n"


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
    (tmp_path / "pyproject.toml").write_text(
        '[tool.audits]\npackages = ["pkg"]\n[tool.audits.hot-path]\nentry-points = ["pkg:step"]\n', encoding="utf-8"
    )
    one = audit(tmp_path, load_settings(tmp_path / "pyproject.toml"))
    command = "from audits.static import cli\ncli.cores = lambda: 2\ncli.main(['--root', {root!r}, '--no-cache', '--format', 'json'])"
    two = json.loads(in_a_process_of_its_own(command.format(root=str(tmp_path))))
    assert {f.rule for f in one.findings} == {"HOT001", "HOT003", "ERR001", "RNG001"}
    expected = json.loads(FORMATS["json"](one))
    assert (two["findings"], two["proofs"]) == (expected["findings"], expected["proofs"])
    assert two["timings_s"].keys() == expected["timings_s"].keys()
