"""A loop that rebinds a value ends every search for it, whatever it is rebound to, and one rule that gives up does not hide the others."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest

from audits.static import audit, cli
from audits.static.context import Context
from audits.static.findings import Finding
from audits.static.rules import all_rules
from audits.static.rules.base import Rule
from audits.static.settings import Settings

LOOPS = ("for i in range(3):", "while x.any():", "for i, x in enumerate(batch):", "async for i in batch:")
REBINDINGS = (
    "x = x / 2", "x = 0.5 * x", "x = x[0]", "x = x + build(f)", "x += noise", "x = half(x)", "x, y = y, x @ x.mH", "x = (x, x)[0]",
    "x = x.field", "x = {'a': x}['a']", "x = {**x, 'a': x['b']}", "x = [x, *y]", "self.x = self.x - x; x = self.x", "x = x if i else y / x",
    "x = torch.where(x > 0, x / 2, x)", "best = x if x < best else best; x = best - x", "x = replace(x, total=x.total * 2)",
    "f = lambda v, f=f: f(v / x); x = f(x)", "x = torch.linalg.eigh(x)[1] @ x; y = x * y", "x = -x", "x = not x", "x = x.mH @ x / x.trace() + x",
    "x = torch.deg2rad(x) + x", "total = min(total, x); x = range(total)[x]",
)  # fmt: skip
TABLE = """\
[tool.audits]
packages = ["pkg"]
[tool.audits.hot-path]
entry-points = ["pkg:Trainer.fit"]
[tool.audits.covariance]
builder = "pkg:build"
consumers = ["pkg:music"]
[tool.audits.geometry]
steering = "pkg:build"
[tool.audits.config]
roots = ["config"]
[tool.audits.hpo]
modules = ["pkg"]
size-arguments = ["total"]
objective = "pkg:objective"
[tool.audits.selection]
trainer = "pkg:Trainer.fit"
primary-key = "primary"
"""
HEAD = (
    "import torch\nfrom dataclasses import replace\ndef build(f):\n    return f @ f.mH\ndef music(cov, k):\n    return cov[..., :k]\n"
    "def half(x):\n    return x / 2 if x.any() else half(x[0])\n"
)


def _package(folder: Path, bodies: Iterable[tuple[str, str]]) -> None:
    (folder / "pkg").mkdir()
    methods, calls = "", ""
    for number, (loop, rebinding) in enumerate(bodies):
        inner = "".join(f"            {part}\n" for part in rebinding.split("; "))
        start = "x = y = build(f)\n        best, total, noise = self.best, 8, f\n"
        body = f"        {start}        {loop}\n{inner}        music(x, 2)\n"
        end = "        if x < self.best:\n            self.best = x\n            torch.save(x, 'best.pt')\n        return self.best\n"
        methods += f"    {'async ' * loop.startswith('async')}def way{number}(self, f, batch):\n{body}{end}"
        calls += f"        objective = self.way{number}(f, batch)\n        if objective < self.best:\n            self.best = objective\n"
    trainer = f"class Trainer:\n    best = float('inf')\n    def fit(self, config, f, batch):\n{calls}        return self.best\n{methods}"
    trial = "def objective(trial, config):\n    x = replace(config, primary='k_loc')\n    return Trainer().fit(x, x.f, x.batch)\n"
    (folder / "pkg/__init__.py").write_text(HEAD + trainer + trial)
    (folder / "pyproject.toml").write_text(TABLE)


@pytest.mark.parametrize(("loop", "rebinding"), [*zip(itertools.cycle(LOOPS), REBINDINGS, strict=False)])
def test_no_rule_is_led_in_circles(tmp_path: Path, loop: str, rebinding: str, capsys: pytest.CaptureFixture[str]) -> None:
    _package(tmp_path, [(loop, rebinding)])
    code = cli.main(["--root", str(tmp_path), "--no-cache"])
    printed = capsys.readouterr()
    assert code in (cli.CLEAN, cli.FINDINGS), printed.err
    assert all(rule in printed.out.rpartition("(")[2] for rule in all_rules())


def test_a_rule_that_is_led_too_deep_is_named_and_the_others_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def deep(context: Context) -> Iterable[Finding]:
        raise RecursionError

    choose = audit.choose_rules

    def chosen(settings: Settings, select: Iterable[str], ignore: Iterable[str]) -> tuple[list[Rule], list[str]]:
        rules, missing = choose(settings, select, ignore)
        return [replace(r, check=deep) if r.code == "COV002" else r for r in rules], missing

    monkeypatch.setattr(audit, "choose_rules", chosen)
    _package(tmp_path, [(LOOPS[0], "x = torch.linalg.inv(x)")])
    assert cli.main(["--root", str(tmp_path), "--no-cache"]) == cli.INCOMPLETE
    printed = capsys.readouterr()
    assert "COV002" in printed.err
    assert "HOT001" in printed.out
    assert "linalg.inv" in printed.out
    assert "COV002" not in printed.out
