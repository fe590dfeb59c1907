"""`python -m audits static`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from audits.static.cache import FOLDER, Cache
from audits.static.errors import AuditIncompleteError, AuditInputError, Parser
from audits.static.findings import Report
from audits.static.report import FORMATS, text, write_atomically
from audits.static.rules import all_rules
from audits.static.run import audit
from audits.static.settings import load_settings, nearest

CLEAN, FINDINGS, INPUT, INCOMPLETE = 0, 1, 2, 3


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="python -m audits static", description="Audit packages without running them.")
    parser.add_argument("--root", type=Path, default=Path(), help="the folder with the packages (default: here)")
    parser.add_argument("--config", type=Path, help="the TOML file with [tool.audits] (default: ROOT/pyproject.toml)")
    parser.add_argument("--format", action="append", default=[], metavar="FMT[=PATH]", help=f"{', '.join(FORMATS)}; repeatable")
    parser.add_argument("--select", action="append", default=[], metavar="CODES", help="only these rules")
    parser.add_argument("--ignore", action="append", default=[], metavar="CODES", help="all but these rules")
    parser.add_argument("--cache-dir", type=Path, metavar="DIR", help=f"where facts and results are kept (default: ROOT/{FOLDER})")
    parser.add_argument("--no-cache", action="store_true", help="read and write no cache")
    parser.add_argument("--list-rules", action="store_true", help="list the rules and stop")
    parser.add_argument("--explain", metavar="CODE", help="print a rule's manual with its cases and stop")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    try:
        return _run(_parser().parse_args(argv))
    except AuditInputError as error:
        sys.stderr.write(f"audits static: {error}\n")
        return INPUT
    except AuditIncompleteError as error:
        sys.stderr.write(f"audits static: {error}\n")
        return INCOMPLETE
    except Exception as error:  # noqa: BLE001 - the last frame: a crash of any kind ends with exit code 3
        sys.stderr.write(f"audits static: could not complete, {type(error).__name__}: {error}\n")
        return INCOMPLETE


def _run(options: argparse.Namespace) -> int:
    if options.list_rules:
        for rule in all_rules().values():
            table = f"  [tool.audits.{rule.table}]" if rule.table else ""
            sys.stdout.write(f"{rule.code}  {rule.title}{table}\n")
        return CLEAN
    if options.explain:
        return _explain(options.explain)
    outputs = [_output(f) for f in options.format or ["text"]]
    root: Path = options.root
    if not root.is_dir():
        raise AuditInputError(f"--root: expected a folder, got {str(root)!r}.")
    settings = load_settings(options.config or root / "pyproject.toml")
    select, ignore = _codes(options.select), _codes(options.ignore)
    report = audit(root.resolve(), settings, select=select, ignore=ignore, cache=_cache(options, root))
    for name, path in outputs:
        _emit(report, name, path)
    return FINDINGS if report.findings else CLEAN


def _cache(options: argparse.Namespace, root: Path) -> Cache | None:
    if options.no_cache:
        return None
    return Cache.open(options.cache_dir or root / FOLDER, required=options.cache_dir is not None)


def _codes(values: list[str]) -> list[str]:
    return [c for v in values for c in v.replace(",", " ").split()]


def _output(text_: str) -> tuple[str, Path | None]:
    name, equals, path = text_.partition("=")
    if name not in FORMATS:
        raise AuditInputError(f"--format: unknown format {name!r}; the nearest known one is {nearest(name, [*FORMATS])!r}.")
    if equals and not path:
        raise AuditInputError(f"--format: expected a path after '{name}='.")
    return name, Path(path) if path else None


def _emit(report: Report, name: str, path: Path | None) -> None:
    if path is None and name == "text":
        text.show(report, Console(highlight=False))
    elif path is None:
        sys.stdout.write(FORMATS[name](report))
    else:
        try:
            write_atomically(path, FORMATS[name](report))
        except OSError as error:
            raise AuditInputError(f"--format: can't write {str(path)!r}: {error.strerror}.") from error


def _explain(code: str) -> int:
    rules = all_rules()
    if code not in rules:
        raise AuditInputError(f"--explain: unknown rule {code!r}; the nearest known one is {nearest(code, [*rules])!r}.")
    rule = rules[code]
    sys.stdout.write(f"{rule.code}: {rule.title}\n\n{rule.manual}\nHow to mend: {rule.mend}\n\n")
    for title, cases in (("Finds", rule.invalid), ("Allows", rule.valid), ("Known limits: misses", rule.limits)):
        if cases:
            sys.stdout.write(f"{title}:\n" + "".join(f"  - {case.name}\n" for case in cases) + "\n")
    return CLEAN
