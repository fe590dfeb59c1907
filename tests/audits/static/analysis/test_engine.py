"""The analysis: the cost of a package grows with its size, and too many values are unknown rather than missing."""

from __future__ import annotations

from pathlib import Path

import pytest

from audits.static.analysis.engine import Analysis
from audits.static.analysis.values import LIMIT, UNKNOWN, WIDE, Const, Ext, Func, Inst, bounded
from audits.static.audit import run_audit
from audits.static.settings import parse_settings
from audits.static.source.project import Project

TABLE = {"packages": ["pkg"], "hot-path": {"entry-points": ["pkg.step:step"]}}


def write(root: Path, **modules: str) -> Path:
    (root / "pkg").mkdir(parents=True, exist_ok=True)
    (root / "pkg/__init__.py").touch()
    for name, text in modules.items():
        (root / f"pkg/{name}.py").write_text(text, encoding="utf-8")
    return root


def analysed(root: Path) -> Analysis:
    analysis = Analysis(Project.load(root, ["pkg"]))
    analysis.start()
    return analysis


def runs(root: Path) -> int:
    """How often a part of a unit was run: the cost, in a measure that no machine changes."""
    counted = 0
    enqueue = Analysis.enqueue

    def count(self: Analysis, unit: object) -> None:
        nonlocal counted
        counted += unit not in self._queued
        enqueue(self, unit)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Analysis, "enqueue", count)
        analysed(root)
    return counted


SHAPES = {
    "a chain of calls": lambda n: "\n".join(f"def f{k}(x):\n    return f{k + 1}(x)" for k in range(n)) + f"\ndef f{n}(x):\n    return x\n",
    "a chain of calls backwards": lambda n: "def f0(x):\n    return x\n"
    + "\n".join(f"def f{k + 1}(x):\n    return f{k}(x)" for k in range(n)),
    "one base, many classes": lambda n: "class Base:\n    def run(self, x):\n        return x\n"
    + "".join(f"class C{k}(Base):\n    def run(self, x):\n        return Base.run(self, x)\ndef use{k}():\n    return C{k}().run(1)\n" for k in range(n)),
    "a deep hierarchy": lambda n: "class C0:\n    a = 1\n" + "".join(f"class C{k + 1}(C{k}):\n    b{k} = {k}\n" for k in range(n)),
    "one table of functions": lambda n: "".join(f"def f{k}(x):\n    return x\n" for k in range(n))
    + "T = {" + ", ".join(f"'f{k}': f{k}" for k in range(n)) + "}\n" + "".join(f"def g{k}(x):\n    return T['f{k}'](x)\n" for k in range(n)),
    "one function that all call": lambda n: "def go(f, x):\n    return f(x)\n"
    + "".join(f"def f{k}(x):\n    return x\ndef g{k}(x):\n    return go(f{k}, x)\n" for k in range(n)),
    "one name for all methods": lambda n: "".join(
        f"class C{k}:\n    def run(self, x):\n        return x.run(self)\ndef g{k}(x):\n    return x.run({k})\n" for k in range(n)
    ),
    "one base that all use": lambda n: "class Base:\n    def run(self, x):\n        return x\n    def __add__(self, x):\n        return x\n"
    + "".join(f"class C{k}(Base):\n    def run(self, x):\n        return x\ndef use{k}(o: Base):\n    return o.run(1) + o\n" for k in range(n)),
}  # fmt: skip


def test_overrides_that_are_too_many_are_reached_and_may_be_given_anything(tmp_path: Path) -> None:
    source = "class Base:\n    def run(self, f):\n        return f\n" + "".join(
        f"class C{k}(Base):\n    def run(self, f):\n        return f({k})\n" for k in range(60)
    )
    step = "import torch\nfrom pkg.bases import Base\ndef step(base: Base):\n    return base.run(torch.inverse)\n"
    report = run_audit(write(tmp_path, bases=source, step=step), parse_settings(TABLE))
    assert report.proofs[0].reachable_functions == 62
    assert {(f.rule, f.path) for f in report.findings} == {("HOT001", "pkg/step.py"), ("HOT002", "pkg/bases.py")}


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_four_times_the_code_takes_about_four_times_the_runs(shape, tmp_path: Path) -> None:
    small, large = runs(write(tmp_path / "small", step=shape(60))), runs(write(tmp_path / "large", step=shape(240)))
    assert large <= 6 * small


def test_values_are_made_once(tmp_path: Path) -> None:
    analysis = analysed(write(tmp_path, step="class A:\n    pass\ndef f():\n    return A()\n"))
    [fn], [cls] = analysis.project.functions, analysis.project.classes
    assert Func(fn) is Func(fn, bound=False)
    assert Func(fn) is not Func(fn, bound=True)
    assert Func(fn, True) is Func(fn, bound=True)
    assert analysis.peek(("ret", fn, False)) == {Inst(cls, exact=True)}
    assert Ext("a.b") is Ext("a.b")
    assert Ext("a.b") != Const("a.b")


def test_too_many_values_keep_what_matters_and_say_that_there_were_more() -> None:
    few = frozenset(Const(str(n)) for n in range(LIMIT))
    assert bounded(few) == few
    solver = Ext("torch.linalg.solve")
    assert bounded({*few, solver}) == {solver, UNKNOWN}


def test_functions_among_too_many_values_are_unknown_and_may_be_anything(tmp_path: Path) -> None:
    source = "".join(f"def f{k}(x):\n    return x\n" for k in range(60))
    analysis = analysed(write(tmp_path, step=source))
    assert bounded(Func(f) for f in analysis.project.functions) == {WIDE}
    source += "ALL = [" + ", ".join(f"f{k}" for k in range(60)) + "]\ndef step(x, n):\n    return ALL[n](x)\n"
    report = run_audit(write(tmp_path, step=source), parse_settings(TABLE))
    assert [f.rule for f in report.findings] == ["HOT002"]
    assert "too many different values" in report.findings[0].message
    assert {p.status for p in report.proofs} == {"unresolved"}


def test_every_method_of_a_name_is_reached_through_an_unknown_receiver(tmp_path: Path) -> None:
    source = (
        "".join(f"class C{k}:\n    def run(self, x):\n        return x\n" for k in range(60)) + "def step(one, x):\n    return one.run(x)\n"
    )
    report = run_audit(write(tmp_path, step=source), parse_settings(TABLE))
    assert report.proofs[0].reachable_functions == 61


def test_the_order_of_files_and_of_hashing_changes_nothing(tmp_path: Path) -> None:
    source = (
        "import torch\nfrom pkg.{other} import go\ndef {name}(x):\n    return go(x) if x else torch.inverse(x)\ndef go(x):\n    return x\n"
    )
    found = []
    for first, second in (("a", "z"), ("z", "a")):
        root = write(
            tmp_path / first, **{first: source.format(other=second, name="one"), second: source.format(other=first, name="two")},
            step=f"from pkg.{first} import one\ndef step(x):\n    return one(x)\n",
        )  # fmt: skip
        report = run_audit(root, parse_settings(TABLE))
        found.append((report.proofs[0].reachable_functions, [(f.rule, f.line) for f in report.findings]))
    assert found[0] == found[1] == (4, [("HOT003", 4), ("HOT001", 4)])
