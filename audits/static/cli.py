"""`python -m audits static`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from audits.static.errors import AuditIncompleteError, AuditInputError, Parser
from audits.static.findings import Report
from audits.static.report import FORMATS, text, write_atomically
from audits.static.report.baseline import apply_baseline, write_baseline
from audits.static.report.changed import changed_files, keep_changed
from audits.static.rules import all_rules
from audits.static.run import audit
from audits.static.settings import load_settings, suggest_rule, suggestion
from audits.static.source.cache import FOLDER, Cache
from audits.static.source.worker import cores

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
    parser.add_argument("--changed", nargs="?", const="HEAD", metavar="BASE",
                        help="report only what concerns files changed since BASE (default: HEAD); all is analysed")  # fmt: skip
    parser.add_argument(
        "--baseline", type=Path, metavar="FILE", help="leave out the findings in FILE; entries that no longer occur are findings"
    )
    parser.add_argument(
        "--write-baseline", type=Path, metavar="FILE", help="write the findings to FILE and stop; an existing FILE may only shrink"
    )
    parser.add_argument("--stats", action="store_true", help="print counts and times to standard error")
    parser.add_argument("--list-rules", "--list-checks", action="store_true", help="list the rules and stop")
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
    try:
        report = audit(root.resolve(), settings, select=select, ignore=ignore, cache=_cache(options, root), processes=cores())
    except AuditIncompleteError as error:
        if error.report is not None:
            for name, path in outputs:
                _emit(error.report, name, path)
        raise
    if options.write_baseline is not None:
        write_baseline(report, options.write_baseline)
        sys.stdout.write(f"{len(report.findings)} findings are in {options.write_baseline}\n")
        return CLEAN
    if options.baseline is not None:
        apply_baseline(report, options.baseline)
    if options.changed is not None:
        keep_changed(report, changed_files(root.resolve(), options.changed))
    for name, path in outputs:
        _emit(report, name, path)
    if options.stats:
        _stats(report)
    return FINDINGS if report.findings else CLEAN


def _stats(report: Report) -> None:
    sys.stderr.write(f"{report.files} files, {report.functions} functions\n")
    for name, seconds in report.timings_s.items():
        sys.stderr.write(f"{seconds:8.3f} s  {name}\n")


def _cache(options: argparse.Namespace, root: Path) -> Cache | None:
    if options.no_cache:
        return None
    return Cache.open(options.cache_dir or root / FOLDER, required=options.cache_dir is not None)


def _codes(values: list[str]) -> list[str]:
    return [c for v in values for c in v.replace(",", " ").split()]


def _output(text_: str) -> tuple[str, Path | None]:
    name, equals, path = text_.partition("=")
    if name not in FORMATS:
        raise AuditInputError(f"--format: unknown format {name!r}; {suggestion(name, [*FORMATS])}.")
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
        raise AuditInputError(f"--explain: unknown rule {code!r}; {suggest_rule(code, [*rules])}.")
    rule = rules[code]
    sys.stdout.write(f"{rule.code}: {rule.title}\n\n{rule.manual}\nHow to mend: {rule.mend}\n\n")
    for title, cases in (("Finds", rule.invalid), ("Allows", rule.valid), ("Known limits: misses", rule.limits)):
        if cases:
            sys.stdout.write(f"{title}:\n" + "".join(f"  - {case.name}\n" for case in cases) + "\n")
    return CLEAN
