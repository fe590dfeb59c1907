"""Copies of the package, and what the static audit says about them."""

from __future__ import annotations

import difflib
import functools
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from audits.static.audit import run_audit
from audits.static.errors import AuditIncompleteError, AuditInputError
from audits.static.rules import all_rules
from audits.static.settings import load_settings
from audits.static.source import lower
from tests.audits.mutants import live
from tests.audits.mutants.compose import PACKAGE, DoesNotFitError, Planting, compose
from tests.audits.mutants.model import Mutant

ROOT = Path(__file__).parents[3]


@dataclass(frozen=True)
class Verdict:
    """What the audit found: findings as text by rule, and the rules with an unresolved or violated proof."""

    findings: tuple[tuple[str, str], ...] = ()
    unproved: tuple[str, ...] = ()
    error: str = ""

    @property
    def rules(self) -> set[str]:
        """The rules with a finding."""
        return {rule for rule, _ in self.findings}


@dataclass(frozen=True)
class Outcome:
    """One mutant and its twin. ``life`` is executed, compiled, or why it is not alive."""

    key: str
    rule: str
    life: str
    direct: bool
    unresolved: bool
    alarms: tuple[str, ...]
    seconds: float
    note: str = ""

    @property
    def alive(self) -> bool:
        """Whether the mutant counts."""
        return self.life in {"executed", "compiled"}

    def record(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def sources(root: Path = ROOT) -> dict[str, str]:
    """The package's files and the table, by path."""
    files = {path.relative_to(root).as_posix(): path.read_text(encoding="utf-8") for path in sorted((root / PACKAGE).rglob("*.py"))}
    return {**files, "pyproject.toml": (root / "pyproject.toml").read_text(encoding="utf-8")}


@contextmanager
def planted(planting: Planting, root: Path = ROOT) -> Iterator[Path]:
    """A folder with a copy of the package in which something is planted; files that stay as they are, are links."""
    with tempfile.TemporaryDirectory(prefix="mutant-") as name:
        copy = Path(name)
        shutil.copytree(root / PACKAGE, copy / PACKAGE, copy_function=_link, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(root / "pyproject.toml", copy / "pyproject.toml")
        for path, text in planting.files.items():
            (copy / path).parent.mkdir(parents=True, exist_ok=True)
            (copy / path).unlink(missing_ok=True)
            (copy / path).write_text(text, encoding="utf-8")
        yield copy


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # another file system
        shutil.copy2(source, target)


def audit(root: Path, *, select: tuple[str, ...] = (), ignore: tuple[str, ...] = ()) -> Verdict:
    """Audit the copy under ``root``."""
    try:
        report = run_audit(root, load_settings(root / "pyproject.toml"), select=select, ignore=ignore)
    except (AuditInputError, AuditIncompleteError) as error:
        return Verdict(error=str(error))
    found = tuple((f.rule, f"{f.path}:{f.line} {f.message}") for f in report.findings)
    return Verdict(found, tuple(sorted({p.rule for p in report.proofs if p.status != "proved"})))


def remember_parses() -> None:
    """Parse each text once in this process: mutants differ in few files."""
    lower.lower_source = functools.lru_cache(maxsize=400)(lower.lower_source)


def judge(
    mutants: Sequence[Mutant], texts: Mapping[str, str], data: Path, work: Path, *, off: bool = False, execute: bool = True
) -> list[Outcome]:
    """Plant each mutant alone, prove that it is alive, and audit it; plant the twins, which must all be silent, together.

    Args:
        mutants: what to plant.
        texts: :func:`sources`.
        data: data folder of the clean package.
        work: scratch folder.
        off: switch each mutant's own rule off; it must then count as missed.
        execute: run the scenarios; the mutants are compiled only otherwise.
    """
    outcomes = {m.key: _judge(m, texts, data, work, off=off, execute=execute) for m in mutants}
    alarms = _alarms(list(mutants), texts)
    return [replace(outcomes[m.key], alarms=alarms.get(m.key, ())) for m in mutants]


def _judge(mutant: Mutant, texts: Mapping[str, str], data: Path, work: Path, *, off: bool, execute: bool) -> Outcome:
    started = time.perf_counter()
    try:
        bad, good = (compose(mutant, texts, harmless=harmless) for harmless in (False, True))
    except DoesNotFitError as error:
        return Outcome(mutant.key, mutant.rule, "dead", False, False, (), 0.0, str(error))
    hot = mutant.rule in {"HOT001", "HOT002", "HOT003"}
    wanted = () if mutant.rule == "SUP001" else tuple(dict.fromkeys((mutant.rule, *(("HOT001", "HOT002") if hot else ()))))
    if off:
        wanted = tuple(r for r in wanted if r != mutant.rule) or ("HOT004",)
    with planted(bad) as root:
        life, note = _life(mutant, bad, root, data, work, execute=execute)
        verdict = audit(root, select=tuple(r for r in wanted if r in all_rules()))
    broken = _compiles(good)
    if broken:
        life, note = "dead", f"twin: {broken}"
    direct = mutant.rule in verdict.rules
    unresolved = hot and not off and ("HOT002" in verdict.rules or bool(verdict.unproved))
    if verdict.error:
        note = f"{note} audit: {verdict.error}".strip()
    return Outcome(mutant.key, mutant.rule, life, direct, direct or unresolved, (), time.perf_counter() - started, note)


def _alarms(mutants: list[Mutant], texts: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
    """What is found on the twins: as many at a time as fit beside one another, and halves of them where something is found."""
    found: dict[str, tuple[str, ...]] = {}
    while mutants:
        stacked, files = dict(texts), dict[str, str]()
        group: list[Mutant] = []
        for mutant in mutants:
            try:
                twin = compose(mutant, stacked, harmless=True)
            except DoesNotFitError:
                continue
            group.append(mutant)
            stacked |= twin.files
            files |= twin.files
        if not group:
            return found
        with planted(Planting(files, ())) as root:
            verdict = audit(root)
        texts_of = tuple(f"{rule} {text}" for rule, text in verdict.findings) + ((verdict.error,) if verdict.error else ())
        if texts_of and len(group) > 1:
            for half in (group[: len(group) // 2], group[len(group) // 2 :]):
                found |= _alarms(half, texts)
        elif texts_of:
            found[group[0].key] = texts_of
        mutants = [m for m in mutants if m not in group]
    return found


def _life(mutant: Mutant, planting: Planting, root: Path, data: Path, work: Path, *, execute: bool) -> tuple[str, str]:
    broken = _compiles(planting)
    if broken:
        return "dead", broken
    if not (mutant.scenario and planting.watched and execute):
        return "compiled", ""
    seen = live.observe(root, mutant.scenario, planting.watched, data, work)
    if seen.unseen:
        return "dead", f"not run: {', '.join(seen.unseen)} {seen.trace or seen.error}"
    if mutant.block.evidence == "solver" and not seen.solvers:
        return "dead", f"no solver was called {seen.trace or seen.error}"
    return "executed", seen.error


def _compiles(planting: Planting) -> str:
    for path, text in planting.files.items():
        if path.endswith(".py"):
            try:
                compile(text, path, "exec")
            except SyntaxError as error:
                return f"{path}:{error.lineno} {error.msg}"
    return ""


def shown(mutant: Mutant, texts: Mapping[str, str], *, harmless: bool) -> str:
    """The planted source: added files whole, changed ones as differences."""
    lines: list[str] = []
    for path, text in compose(mutant, texts, harmless=harmless).files.items():
        old = texts.get(path, "").splitlines()
        lines += difflib.unified_diff(old, text.splitlines(), path, path, lineterm="", n=1)
    return "\n".join(lines)
