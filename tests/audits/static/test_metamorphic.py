"""A verdict depends on what code does, not on how it is written: each rewriting keeps it, for a sink and its twin."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from audits.static.audit import run_audit
from audits.static.settings import parse_settings

Files = dict[str, str]
SINK, TWIN = "torch.linalg.solve(a, b)", "torch.linalg.eigh(a + b)"
TABLE = {"packages": ["pkg"], "hot-path": {"entry-points": ["pkg.step:step"]}}


def plain(call: str) -> Files:
    return {"pkg/step.py": f"import torch\ndef step(a, b):\n    return {call}\n"}


def alias(call: str) -> Files:
    name = call.split("(", maxsplit=1)[0]
    return {"pkg/step.py": f"import torch\nf = {name}\ndef step(a, b):\n    return {call.replace(name, 'f')}\n"}


def rename_import(call: str) -> Files:
    return {"pkg/step.py": f"import torch as t\ndef step(a, b):\n    return {call.replace('torch', 't')}\n"}


def move(call: str) -> Files:
    step = "from pkg.other.deep import work\ndef step(a, b):\n    return work(a, b)\n"
    return {
        "pkg/step.py": step,
        "pkg/other/__init__.py": "",
        "pkg/other/deep.py": f"import torch\ndef work(a, b):\n    return {call}\n",
    }


def wrap(call: str) -> Files:
    source = f"import torch\ndef one(a, b):\n    return {call}\ndef two(a, b):\n    return one(b=b, a=a)\n"
    return {"pkg/step.py": source + "def step(a, b):\n    return two(a, b)\n"}


def method(call: str) -> Files:
    source = f"import torch\nclass Work:\n    def go(self, a, b):\n        return {call}\n"
    return {"pkg/step.py": source + "def step(a, b):\n    return Work().go(a, b)\n"}


def decorate(call: str) -> Files:
    source = "import torch\ndef quiet(fn):\n    def inner(*args):\n        return fn(*args)\n    return inner\n"
    return {"pkg/step.py": source + f"@quiet\ndef work(a, b):\n    return {call}\ndef step(a, b):\n    return work(a, b)\n"}


def reformat(call: str) -> Files:
    spread = call.replace("(", "(\n        ").replace(", ", ",\n        ")
    return {"pkg/step.py": f"import torch\n\n\ndef step(\n    a,\n    b,\n):\n    x = ({spread})\n    return x\n"}


def branch(call: str) -> Files:
    return {"pkg/step.py": f"import torch\ndef step(a, b):\n    if a is None:\n        return b\n    else:\n        return {call}\n"}


def order(call: str) -> Files:
    return {"pkg/step.py": f"def step(a, b):\n    return work(a, b)\ndef work(a, b):\n    return {call}\nimport torch\n"}


REWRITINGS: list[Callable[[str], Files]] = [
    plain, alias, rename_import, move, wrap, method, decorate, reformat, branch, order,
]  # fmt: skip


@pytest.mark.parametrize("rewrite", REWRITINGS, ids=lambda r: r.__name__)
@pytest.mark.parametrize(("call", "status"), [(SINK, "violated"), (TWIN, "proved")], ids=["sink", "twin"])
def test_rewriting_keeps_the_verdict(rewrite: Callable[[str], Files], call: str, status: str, tmp_path: Path) -> None:
    for name, text in {"pkg/__init__.py": "", **rewrite(call)}.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    report = run_audit(tmp_path, parse_settings(TABLE))
    assert [p.status for p in report.proofs if p.rule == "HOT001"] == [status]
    assert bool(report.findings) == (status == "violated")


def test_two_runs_agree(tmp_path: Path) -> None:
    for name, text in {"pkg/__init__.py": "", **move(SINK)}.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    first, second = (run_audit(tmp_path, parse_settings(TABLE)) for _ in range(2))
    assert first.findings == second.findings
    assert first.proofs == second.proofs
