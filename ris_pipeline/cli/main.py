"""Parsing the ``ris`` command line and turning errors into one sentence and an exit code.

Exit codes: 0 fine, 1 failed goal, 2 the user's input or configuration, 3 could not complete.
"""

from __future__ import annotations

import argparse
import logging
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NoReturn

from rich.console import Console
from rich.logging import RichHandler

from ris_pipeline.cli import commands
from ris_pipeline.cli.quickstart import quickstart
from ris_pipeline.config import keys
from ris_pipeline.errors import ConfigError, RisError, nearest_name

Command = Callable[[argparse.Namespace], int]


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are :class:`ConfigError`, one sentence each."""

    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{self.prog.removeprefix('ris ')}: {message}")


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``ris`` and return its exit code."""
    _log_to_terminal()
    try:
        options = parse(sys.argv[1:] if argv is None else argv)
        command: Command = options.command
        return command(options)
    except RisError as error:
        sys.stderr.write(f"ris: {error}\n")
        return error.exit_code
    except KeyboardInterrupt:
        sys.stderr.write("ris: interrupted\n")
        return 3
    except SystemExit as done:
        return int(done.code or 0)
    except Exception as error:
        # An unforeseen error must not look like a failed goal, which is what Python's own exit code 1 would say.
        traceback.print_exc()
        raise SystemExit(3) from error


def _log_to_terminal() -> None:
    """Show the package's own log, and nobody else's, on standard error."""
    logger = logging.getLogger("ris_pipeline")
    if not logger.handlers:
        logger.addHandler(RichHandler(console=Console(stderr=True), show_path=False, show_time=False))
        logger.setLevel(logging.INFO)
    logging.getLogger("optuna").setLevel(logging.ERROR)


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Parse a command line; ``overrides`` holds the ``--section.key VALUE`` pairs.

    Raises:
        ConfigError: a command or flag is unknown, or a value is missing.
    """
    arguments, overrides = split_overrides(argv)
    parser, subparsers = _parser()
    if arguments and not arguments[0].startswith("-"):
        _refuse_unknown(arguments, subparsers)
    options = parser.parse_args(arguments)
    options.overrides = overrides
    return options


def _refuse_unknown(arguments: list[str], subparsers: Mapping[str, argparse.ArgumentParser]) -> None:
    """Name an unknown command or flag before argparse complains about what is missing because of it."""
    name = arguments[0]
    if name not in subparsers:
        raise ConfigError(f"unknown command {name!r}, expected one of {', '.join(subparsers)}{nearest_name(name, subparsers)}")
    flags = [flag for action in subparsers[name]._actions for flag in action.option_strings]
    for word in arguments[1:]:
        if word.startswith("--") and word.partition("=")[0] not in flags:
            raise ConfigError(f"{name}: unknown flag {word!r}{nearest_name(word, [*flags, *(f'--{key}' for key in keys())])}")


def split_overrides(argv: Sequence[str]) -> tuple[list[str], list[tuple[str, str]]]:
    """Take ``--section.key VALUE`` and ``--section.key=VALUE`` out of a command line."""
    rest: list[str] = []
    overrides: list[tuple[str, str]] = []
    words = iter(argv)
    for word in words:
        name, equals, value = word.partition("=")
        if not (name.startswith("--") and "." in name and "/" not in name):
            rest.append(word)
            continue
        if not equals:
            found = next(words, None)
            if found is None:
                raise ConfigError(f"{name} needs a value")
            value = found
        overrides.append((name.removeprefix("--").replace("-", "_"), value))
    return rest, overrides


def _parser() -> tuple[argparse.ArgumentParser, Mapping[str, argparse.ArgumentParser]]:
    parser = _Parser(prog="ris", description="Count and localize near-field sources behind a reconfigurable intelligent surface.")
    subparsers = parser.add_subparsers(dest="name", required=True, metavar="COMMAND", parser_class=_Parser)
    folder = {"type": Path, "metavar": "DIR", "required": True}

    def add(name: str, command: Command, text: str) -> argparse.ArgumentParser:
        sub = subparsers.add_parser(
            name,
            help=text,
            description=text,
            allow_abbrev=False,
            epilog="Every configuration key is a flag, --section.key VALUE; see `ris doctor --keys`.",
        )
        sub.add_argument("--config", type=Path, nargs="+", action="extend", default=[], metavar="FILE", help="TOML files, later ones win")
        sub.set_defaults(command=command)
        return sub

    sub = add("quickstart", quickstart, "the whole line on a small scale: generate, search, train, tune, evaluate, localize, audit")
    sub.add_argument("--out", type=Path, default=Path("results/quickstart"), metavar="DIR")
    sub = add("generate", commands.generate, "write train, val and test shards")
    sub.add_argument("--out", **folder)  # type: ignore[arg-type]
    sub.add_argument("--shards", metavar="A:B", help="write only these shards, counted over train, val and test")
    sub = add("train", commands.train, "train a network and select it by its validation metrics")
    sub.add_argument("--data", **folder)  # type: ignore[arg-type]
    sub.add_argument("--out", **folder)  # type: ignore[arg-type]
    sub.add_argument("--from-hpo", type=Path, metavar="FILE", help="best.toml of a study")
    sub.add_argument("--resume", action="store_true", help="continue the run in --out")
    sub.add_argument("--no-preflight", action="store_true", help="train without the static audit of this package")
    sub = add("hpo", commands.hpo, "search hyper-parameters on the composite score")
    sub.add_argument("--data", **folder)  # type: ignore[arg-type]
    sub.add_argument("--out", **folder)  # type: ignore[arg-type]
    sub.add_argument("--storage", metavar="URL", help="Optuna storage; an SQLite file in --out unless given")
    sub.add_argument("--trials", metavar="N", help="same as --hpo.trials")
    sub.add_argument("--no-preflight", action="store_true", help="search without the static audit of this package")
    sub = add("tune", commands.tune, "sweep the blend weight and the confidence threshold on validation")
    sub.add_argument("--data", **folder)  # type: ignore[arg-type]
    sub.add_argument("--weights", type=Path, required=True, metavar="W")
    sub.add_argument("--out", type=Path, required=True, metavar="FILE")
    sub = add("evaluate", commands.evaluate, "score methods on a split, with bounds beside them")
    sub.add_argument("--data", **folder)  # type: ignore[arg-type]
    sub.add_argument("--weights", type=Path, metavar="W", help="a checkpoint, a run folder, or `default`")
    sub.add_argument("--method", nargs="+", action="extend", metavar="M")
    sub.add_argument("--json", type=Path, metavar="OUT")
    sub.add_argument(
        "--audit", type=Path, metavar="FILE", help="an audit-report.json (default: the one with the weights or the data, or here)"
    )
    sub = add("localize", commands.localize, "localize the sources in measurements")
    sub.add_argument("input", type=Path, metavar="INPUT", help=".npz or .safetensors")
    sub.add_argument("--weights", type=Path, metavar="W", help="a checkpoint, a run folder, or `default`")
    sub.add_argument("--method", metavar="M")
    sub.add_argument("--json", type=Path, metavar="OUT")
    sub = add("report", commands.report, "tables and figures from an evaluation and a run")
    sub.add_argument("evaluation", type=Path, metavar="EVALUATION", help="the JSON that `ris evaluate --json` wrote")
    sub.add_argument("--run", type=Path, metavar="RUN", help="training run to describe")
    sub.add_argument("--out", **folder)  # type: ignore[arg-type]
    sub = add("doctor", commands.doctor, "show versions, devices and whether the installed package works")
    sub.add_argument("--keys", action="store_true", help="list every configuration key")
    return parser, subparsers.choices
