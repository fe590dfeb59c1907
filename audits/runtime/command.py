"""What the run-time audits' commands share: options, exit codes, output."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from rich.console import Console

from audits.runtime.advice import ADVICE
from audits.runtime.manual import MANUAL
from audits.runtime.report import FORMATS, Report, show
from audits.static.errors import AuditIncompleteError, AuditInputError, Parser
from audits.static.report import write_atomically
from audits.static.rules import all_rules
from ris_pipeline.errors import RisError, nearest_name

FINE, FINDINGS, INPUT, INCOMPLETE = 0, 1, 2, 3
PIPE_WIDTH = 150


def parser(name: str, description: str) -> argparse.ArgumentParser:
    """A parser with the options that every run-time audit has."""
    result = Parser(prog=f"python -m audits{name}", description=description)
    result.add_argument(
        "--format", action="append", default=[], metavar="FMT[=PATH]", help=f"{', '.join(FORMATS)}; repeatable (default: text)"
    )
    result.add_argument(
        "--select", action="append", default=[], metavar="CODES", help="only these checks; RUN, PATH or DATA stands for all of its kind"
    )
    result.add_argument("--list-checks", "--list-rules", action="store_true", help="list the checks and stop")
    result.add_argument("--explain", metavar="CODE", help="print the manual of a check and stop")
    return result


def selected(values: Sequence[str], prefix: str | tuple[str, ...]) -> set[str]:
    """Codes of the command's checks that ``--select`` asks for; all of them where it asks for none.

    Raises:
        AuditInputError: a code that does not exist, or that belongs to another command.
    """
    families = (prefix,) if isinstance(prefix, str) else prefix
    known = [code for code in MANUAL if code.startswith(families)]
    asked = [code for value in values for code in value.replace(",", " ").split()]
    for code in asked:
        if code not in known and code not in families:
            raise AuditInputError(f"--select: unknown check {code!r}; {_suggestion(code, known)}")
    if values and not asked:
        raise AuditInputError("--select: expected the code of a check, got none")
    return {code for code in known if not asked or code in asked or code.rstrip("0123456789") in asked}


def _suggestion(code: str, known: Sequence[str]) -> str:
    """Where an unknown code is explained, else the code that is near, else what there is."""
    if code in all_rules():
        return f"it is a rule of the static audit: python -m audits static --explain {code}"
    if nearest := nearest_name(code, known):
        return nearest.removeprefix("; ")
    ends = [[code for code in known if code.startswith(family)] for family in dict.fromkeys(code.rstrip("0123456789") for code in known)]
    return f"expected one of {', '.join(f'{family[0]} to {family[-1]}' for family in ends)} (see --list-checks)"


def run(
    options: argparse.ArgumentParser,
    argv: Sequence[str] | None,
    prefix: str | tuple[str, ...],
    audit: Callable[[argparse.Namespace], Report],
) -> int:
    """Parse, audit, write the report, and return the exit code; ``prefix`` names the checks that belong to the command."""
    try:
        return _run(options.parse_args(argv), prefix, audit)
    except AuditInputError as error:
        return _say(options.prog, str(error), INPUT)
    except AuditIncompleteError as error:
        return _say(options.prog, str(error), INCOMPLETE)
    except RisError as error:
        return _say(options.prog, str(error), error.exit_code)
    except Exception as error:  # noqa: BLE001 - a crash of any kind in the audited run means that it could not be completed
        return _say(options.prog, f"could not complete: {type(error).__name__}: {error}", INCOMPLETE)


def _run(options: argparse.Namespace, prefix: str | tuple[str, ...], audit: Callable[[argparse.Namespace], Report]) -> int:
    if options.list_checks:
        sys.stdout.writelines(f"{code}  {check.title}\n" for code, check in MANUAL.items() if code.startswith(prefix))
        return FINE
    if options.explain:
        return _explain(options.explain)
    outputs = [_output(text) for text in options.format or ["text"]]
    report = audit(options)
    for name, path in outputs:
        _emit(report, name, path)
    return FINE if report.passed else FINDINGS if report.failures or not report.incomplete else INCOMPLETE


def _explain(code: str) -> int:
    if code not in MANUAL:
        raise AuditInputError(f"--explain: unknown check {code!r}; {_suggestion(code, [*MANUAL])}")
    check, advice = MANUAL[code], ADVICE[code]
    sys.stdout.write(f"{code}: {check.title}\n\n{check.text}\n\nWhy it matters: {advice.why}\n\nHow to mend: {advice.mend}\n")
    return FINE


def _output(text: str) -> tuple[str, Path | None]:
    name, equals, path = text.partition("=")
    if name not in FORMATS:
        raise AuditInputError(f"--format: expected one of {', '.join(FORMATS)}, got {name!r}{nearest_name(name, FORMATS)}")
    if equals and not path:
        raise AuditInputError(f"--format: expected a path after '{name}='")
    return name, Path(path) if path else None


def _emit(report: Report, name: str, path: Path | None) -> None:
    if path is not None:
        try:
            write_atomically(path, FORMATS[name](report))
        except OSError as error:
            raise AuditInputError(f"--format: cannot write {path}: {error.strerror}") from error
    elif name == "text":
        show(report, Console(highlight=False, width=None if sys.stdout.isatty() else PIPE_WIDTH))
    else:
        sys.stdout.write(FORMATS[name](report))


def _say(program: str, sentence: str, code: int) -> int:
    sys.stderr.write(f"{program}: {sentence}\n")
    return code
