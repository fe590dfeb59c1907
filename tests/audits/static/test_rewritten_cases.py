"""Every rule's own cases, rewritten in ways that change nothing: the verdict stays what it was."""

from __future__ import annotations

import ast
import re
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from audits.static.audit import run_audit
from audits.static.errors import AuditInputError
from audits.static.rules import all_rules
from audits.static.rules.base import Case, Rule
from audits.static.settings import parse_settings

Package = tuple[dict[str, str], dict[str, Any]]
COMMENTED = {"HPO002", "SUP001"}  # what they read is in comments, which an unparsed tree has lost


def as_written(files: Mapping[str, str], table: Mapping[str, Any]) -> Package:
    return dict(files), dict(table)


def unparsed(files: Mapping[str, str], table: Mapping[str, Any]) -> Package:
    """Quotes, parentheses and line breaks of another hand."""
    return {p: _each(t, lambda tree: tree) for p, t in files.items()}, dict(table)


def spread(files: Mapping[str, str], table: Mapping[str, Any]) -> Package:
    """Blank lines, a header and a trailing function that nobody calls."""
    tail = "\n\n\ndef unrelated_thing(number):\n    return number + 1\n"
    return {p: f"# A header.\n\n\n{t}{tail}" if t.strip() and "__future__" not in t else t for p, t in files.items()}, dict(table)


def moved(files: Mapping[str, str], table: Mapping[str, Any]) -> Package:
    """The package one folder down."""
    inside = {f"deep/{p}" if p.startswith("pkg/") else p: _word(t) for p, t in files.items()}
    return {"deep/__init__.py": "", **inside}, {**_deep(table), "packages": ["deep"]}


def renamed(files: Mapping[str, str], table: Mapping[str, Any]) -> Package:
    """Other names for what is imported."""
    return {p: _each(t, _renamed_imports) for p, t in files.items()}, dict(table)


def reordered(files: Mapping[str, str], table: Mapping[str, Any]) -> Package:
    """Imports at the top in the opposite order."""
    return {p: _each(t, _reversed_imports) for p, t in files.items()}, dict(table)


def nested(files: Mapping[str, str], table: Mapping[str, Any]) -> Package:
    """Each module's code in a branch that is always taken."""
    return {p: _each(t, _in_a_branch) for p, t in files.items()}, dict(table)


TREES = (unparsed, renamed, reordered, nested)
REWRITINGS = (spread, moved, *TREES)


def _each(text: str, change: Callable[[ast.Module], ast.Module]) -> str:
    return ast.unparse(ast.fix_missing_locations(change(ast.parse(text)))) + "\n" if text.strip() else text


def _word(text: str) -> str:
    return re.sub(r"(?<![\w.])pkg(?=[./:\s])", "deep.pkg", text)


def _deep(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {k: _deep(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_deep(v) for v in value]
    return re.sub(r"^pkg\b", "deep.pkg", value) if isinstance(value, str) else value


def _top(tree: ast.Module) -> tuple[list[ast.stmt], list[ast.stmt]]:
    """Docstring and future imports, and everything else."""
    head = [s for s in tree.body if (isinstance(s, ast.ImportFrom) and s.module == "__future__")
            or (s is tree.body[0] and isinstance(s, ast.Expr) and isinstance(s.value, ast.Constant))]  # fmt: skip
    return head, [s for s in tree.body if s not in head]


def _in_a_branch(tree: ast.Module) -> ast.Module:
    head, rest = _top(tree)
    return ast.Module([*head, ast.If(ast.Constant(True), rest, [])] if rest else head, [])


def _reversed_imports(tree: ast.Module) -> ast.Module:
    head, rest = _top(tree)
    starred = any(isinstance(s, ast.ImportFrom) and s.names[0].name == "*" for s in rest)
    imports = [s for s in rest if isinstance(s, (ast.Import, ast.ImportFrom))]
    if starred or rest[: len(imports)] != imports:
        return tree
    return ast.Module([*head, *reversed(imports), *rest[len(imports) :]], [])


def _renamed_imports(tree: ast.Module) -> ast.Module:
    bound = {n.id for n in ast.walk(tree) if isinstance(n, ast.Name) and not isinstance(n.ctx, ast.Load)}
    bound |= {n.arg for n in ast.walk(tree) if isinstance(n, ast.arg)}
    bound |= {n.name for n in ast.walk(tree) if isinstance(n, (ast.FunctionDef, ast.ClassDef, ast.AsyncFunctionDef))}
    imported = [a.asname or a.name for s in tree.body if isinstance(s, (ast.Import, ast.ImportFrom)) for a in s.names]
    names: dict[str, str] = {}
    for statement in tree.body:
        if not isinstance(statement, (ast.Import, ast.ImportFrom)) or getattr(statement, "module", "") == "__future__":
            continue
        for alias in statement.names:
            old = alias.asname or alias.name
            if old == "*" or "." in old or old in bound or imported.count(old) > 1 or _told(tree, old):
                continue
            names[old] = alias.asname = f"other_{old}"
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and node.id in names:
            node.id = names[node.id]
    return tree


def _told(tree: ast.Module, name: str) -> bool:
    # In `__all__`, in an annotation that is text, or imported again further down: left alone.
    told = any(isinstance(n, ast.Constant) and isinstance(n.value, str) and re.search(rf"\b{name}\b", n.value) for n in ast.walk(tree))
    inner = [a.asname or a.name.split(".")[0] for n in ast.walk(tree) if isinstance(n, (ast.Import, ast.ImportFrom)) for a in n.names]
    return told or inner.count(name) > 1


def _verdict(rule: Rule, package: Package, root: Path) -> bool:
    files, table = package
    for path, source in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(source, encoding="utf-8")
    report = run_audit(root, parse_settings(table), select=[rule.code] if rule.code != "SUP001" else [])
    return any(f.rule == rule.code for f in report.findings)


def _cases() -> list[Any]:
    """Each case with two rewritings; which ones differs from case to case."""
    out = []
    for rule in all_rules().values():
        for case in (*rule.valid, *rule.invalid):
            fitting = [r for r in REWRITINGS if not (rule.code in COMMENTED and r in TREES)]
            turn = zlib.crc32(f"{rule.code} {case.name}".encode())
            for rewrite in {fitting[turn % len(fitting)], fitting[(turn // 7 + 1) % len(fitting)]}:
                out.append(pytest.param(rule, case, rewrite, id=f"{rule.code}-{case.name}-{rewrite.__name__}"))
    return sorted(out, key=lambda p: str(p.id))


@pytest.mark.parametrize(("rule", "case", "rewrite"), _cases())
def test_rewriting_keeps_the_verdict(rule: Rule, case: Case, rewrite: Callable[..., Package], tmp_path: Path) -> None:
    table = {"packages": ["pkg"], **rule.settings, **case.settings}
    try:
        files, settings = rewrite(case.files, table)
    except SyntaxError:
        pytest.skip("the case is not Python")
    (tmp_path / "before").mkdir()
    (tmp_path / "after").mkdir()
    try:
        before = _verdict(rule, as_written(case.files, table), tmp_path / "before")
    except AuditInputError:
        pytest.skip("the case is refused")
    assert _verdict(rule, (files, settings), tmp_path / "after") == before
