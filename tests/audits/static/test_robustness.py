"""No input crashes the auditor: what it can't read is named in one sentence, and everything else is analysed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from audits.static import cli
from audits.static.source.nesting import Nesting

TABLES = """\
[tool.audits]
packages = ["pkg"]
[tool.audits.hot-path]
entry-points = ["pkg.step:step"]
[tool.audits.config]
roots = ["config"]
[tool.audits.hpo]
modules = ["pkg"]
size-arguments = ["n_train"]
objective = "pkg.step:step"
[tool.audits.selection]
trainer = "pkg.step:step"
primary-key = "primary"
"""
TOO_DEEP = {
    "loops": "".join("    " * n + f"{'async ' * (n % 2)}for i{n} in x:\n" for n in range(20)) + "    " * 20 + "pass",
    "brackets": "x = " + "(" * 10_000 + "1" + ")" * 10_000,
    "open brackets": "x = " + "[" * 5_000,
    "a sum on one line": "x = " + " + ".join(["a"] * 20_000),
    "a sum on many lines": "x = (\n" + " +\n".join(["1"] * 20_000) + ")",
    "attributes": "x = a" + ".b" * 20_000,
    "attributes on many lines": "x = (a\n" + ".b\n" * 20_000 + ")",
    "calls of calls": "x = f" + "()" * 20_000,
    "items of items": "x = f" + "[0]" * 20_000,
    "not not": "x = " + "not " * 20_000 + "1",
    "signs": "x = " + "-" * 20_000 + "1",
    "lambdas": "x = " + "lambda: " * 20_000 + "1",
    "conditions": "x = " + "1 if a else " * 20_000 + "1",
    "conjunctions": "x = " + " and ".join(["a"] * 20_000),
    "powers": "x = " + "**".join(["2"] * 20_000),
    "adjacent strings": "x = (" + "'a'\n" * 20_000 + ")",
    "branches": "if a: pass\n" + "elif b: pass\n" * 2_000,
    "functions in functions": "".join(" " * i + "def f():\n" for i in range(200)) + " " * 200 + "pass",
    "patterns": "match x:\n case " + "[" * 2_000 + "1" + "]" * 2_000 + ": pass",
}
UNREADABLE = {
    "a syntax error": b"def f(:\n",
    "bytes that are no text": b"x = '\xff'\n",
    "a null byte": b"x = 1\0\n",
    "UTF-16": "x = 1\n".encode("utf-16"),
    "an unknown encoding": b"# coding: nonsense\nx = 1\n",
    "mixed indentation": b"if 1:\n\tx = 1\n        y = 2\n  z = 3\n",
}
FINE = {
    "many loops after one another": b"for i in x:\n    for j in x:\n        pass\n" * 40,
    "empty": b"",
    "blank": b"  \n\t\n",
    "a byte order mark": b"\xef\xbb\xbfx = 1\n",
    "another encoding": b"# -*- coding: latin-1 -*-\nx = '\xe9'\n",
    "a form feed": b"\x0cx = 1\n",
    "carriage returns": b"x = 1\r\ny = 2\r\n",
    "a long sum": b"x = " + b" + ".join([b"1"] * 1_000) + b"\n",
    "a long list": b"x = [" + b"1, " * 5_000 + b"]\n",
    "a long table": b"x = {" + b"".join(b"'%d': 1, " % i for i in range(2_000)) + b"}\n",
    "a long string": b"x = '" + b"a" * 1_000_000 + b"'\n",
    "a long integer": b"x = " + b"9" * 5_000 + b"\n",
    "many statements on a line": b"x = 1;" * 2_000 + b"\n",
    "many targets": b"a = " * 1_000 + b"1\n",
    "nested string annotations": b"x: '" + b"List[" * 400 + b"int" + b"]" * 400 + b"' = 1\n",
    "circular inheritance": b"class A(B): pass\nclass B(A): pass\nclass C(C): pass\nx = A().f(C())\n",
    "circular imports": b"from pkg.step import *\nfrom pkg.step import step as other\nfrom pkg import mod\n",
    "circular names": b"a = b\nb = a\ndef f(x=f): return f(a)(b)\n",
    "unlike anything": b"def f(*, a, **k): (yield); return [*a, {**k}][::-1] if (y := a) else lambda *z: z\n",
}


@pytest.fixture
def package(tmp_path: Path) -> Path:
    (tmp_path / "pkg").mkdir()
    (tmp_path / "pkg/__init__.py").touch()
    (tmp_path / "pkg/step.py").write_text("from pkg import mod\ndef step(x):\n    return mod\n", encoding="utf-8")
    (tmp_path / "pyproject.toml").write_text(TABLES, encoding="utf-8")
    return tmp_path


def audit(root: Path, source: bytes) -> int:
    (root / "pkg/mod.py").write_bytes(source)
    return cli.main(["--root", str(root), "--no-cache", "--select", "HOT001,HOT002,HOT004,ERR001"])


def one_sentence(capsys: pytest.CaptureFixture[str]) -> str:
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "Traceback" not in error
    return error


@pytest.mark.parametrize("source", TOO_DEEP.values(), ids=TOO_DEEP)
def test_code_that_nests_too_deeply_is_refused_with_its_file(package: Path, source: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert audit(package, source.encode() + b"\n") == 2
    error = one_sentence(capsys)
    assert "pkg/mod.py:" in error
    assert "more than" in error


@pytest.mark.parametrize("source", UNREADABLE.values(), ids=UNREADABLE)
def test_unreadable_source_is_named(package: Path, source: bytes, capsys: pytest.CaptureFixture[str]) -> None:
    assert audit(package, source) == 2
    assert "pkg/mod.py" in one_sentence(capsys)


@pytest.mark.parametrize("source", FINE.values(), ids=FINE)
def test_unusual_source_is_analysed(package: Path, source: bytes, capsys: pytest.CaptureFixture[str]) -> None:
    assert audit(package, source) == 0, capsys.readouterr()
    assert "HOT001 proved" in capsys.readouterr().out


def test_a_module_that_is_a_folder_or_a_link_to_nowhere(package: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (package / "pkg/odd.py").mkdir()
    assert audit(package, b"x = 1\n") == 0
    (package / "pkg/gone.py").symlink_to(package / "nowhere")
    assert audit(package, b"x = 1\n") == 2
    assert "pkg/gone.py" in capsys.readouterr().err


def test_a_pipe_among_the_modules_blocks_nothing(package: Path, capsys: pytest.CaptureFixture[str]) -> None:
    os.mkfifo(package / "pkg/pipe.py")
    assert audit(package, b"x = 1\n") == 2
    assert "pkg/pipe.py: expected a regular file" in one_sentence(capsys)


def test_the_line_that_is_shown_is_the_line_that_is_meant(package: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert audit(package, b"text = 'a\x0cb'\n\x0ctry:\n    x = 1\nexcept Exception:\n    pass\n") == 1
    assert "4 | except Exception:" in capsys.readouterr().out


def test_links_that_lead_back_up(package: Path) -> None:
    (package / "pkg/loop").symlink_to(package / "pkg")
    (package / "pkg/self").symlink_to(package / "pkg/self")
    assert audit(package, b"x = 1\n") == 0


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read(package: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (package / "pkg/shut.py").touch(mode=0o000)
    assert audit(package, b"x = 1\n") == 2
    assert "pkg/shut.py" in one_sentence(capsys)


def test_a_package_without_modules(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "pkg").mkdir()
    (tmp_path / "pyproject.toml").write_text(TABLES, encoding="utf-8")
    assert cli.main(["--root", str(tmp_path)]) == 2
    assert "'pkg'" in one_sentence(capsys)


@pytest.mark.parametrize("root", ["pyproject.toml", "nowhere"])
def test_a_root_that_is_no_folder(package: Path, root: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--root", str(package / root)]) == 2
    assert root in one_sentence(capsys)


def test_the_native_parser_is_never_reached_by_what_would_overflow_it(package: Path) -> None:
    # In a process of its own: an overflow of the C stack can't be caught.
    (package / "pkg/mod.py").write_text("x = " + "(a and not " * 3_000 + "1" + ")" * 3_000 + "\n", encoding="utf-8")
    done = subprocess.run([sys.executable, "-m", "audits", "static", "--root", str(package)], capture_output=True, text=True)
    assert done.returncode == 2
    assert "pkg/mod.py:1" in done.stderr


EXPRESSIONS = st.recursive(
    st.sampled_from(["x", "1", "'text'", "...", "step", "mod.y", "torch"]),
    lambda inner: st.one_of(
        st.builds("({} + {})".format, inner, inner),
        st.builds("{}({}, *{})".format, inner, inner, inner),
        st.builds("getattr({}, {})".format, inner, inner),
        st.builds("[{} for x in {} if {}]".format, inner, inner, inner),
        st.builds("(lambda x=({}): {})".format, inner, inner),
        st.builds("{{{}: {}}}".format, inner, inner),
        st.builds("({} if {} else {})".format, inner, inner, inner),
        st.builds("({}).a[{}]".format, inner, inner),
    ),
    max_leaves=12,
)
STATEMENTS = st.lists(
    st.one_of(
        st.builds("x = {}".format, EXPRESSIONS),
        st.builds("mod.y = {}".format, EXPRESSIONS),
        st.builds("def step(x={}):\n    return {}".format, EXPRESSIONS, EXPRESSIONS),
        st.builds("class A({}):\n    a = {}\n    def __call__(self, x):\n        return {}".format, EXPRESSIONS, EXPRESSIONS, EXPRESSIONS),
        st.builds("for x in {}:\n    {}".format, EXPRESSIONS, EXPRESSIONS),
        st.builds("try:\n    {}\nexcept E as x:\n    {}".format, EXPRESSIONS, EXPRESSIONS),
        st.builds("@{}\ndef other(*x): yield {}".format, EXPRESSIONS, EXPRESSIONS),
        st.sampled_from(["from pkg.step import *", "import torch", "del x", "global x", "from . import mod as torch"]),
    ),
    max_size=8,
).map("\n".join)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(source=STATEMENTS)
def test_any_program_ends_in_a_verdict(package: Path, source: str) -> None:
    assert audit(package, source.encode() + b"\n") in {0, 1}


@settings(max_examples=200, deadline=None)
@given(text=st.text(alphabet="([{}])'\"\\#\n \tab1.,:;+-*not and if:else", max_size=150))
def test_counting_tokens_never_fails_and_shallow_text_is_never_too_deep(text: str) -> None:
    assert Nesting().check(text) is None
