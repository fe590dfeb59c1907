"""`python -m audits`: dispatches to the static, run-time and data audits."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Sequence

USAGE = """\
usage: python -m audits COMMAND [options]

  static    audit the source without running it
  runtime   audit a small, real training run
  data DIR  audit the shards in DIR
  all       static, covariance paths, runtime, and DIR with --data DIR
"""
_MODULES = {"static": "audits.static.cli", "runtime": "audits.runtime.cli", "data": "audits.runtime.data", "all": "audits.all"}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments:
        sys.stderr.write(USAGE)
        return 2
    command, *rest = arguments
    if command in ("-h", "--help"):
        sys.stdout.write(USAGE)
        return 0
    if command not in _MODULES:
        sys.stderr.write(f"audits: unknown command {command!r}; expected static, runtime, data or all.\n")
        return 2
    return _dispatch(command, rest)


def _dispatch(command: str, arguments: list[str]) -> int:
    name = _MODULES[command]
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not name.startswith(error.name):
            raise
        sys.stderr.write(f"audits: the {command} audit is not part of this installation ({name}).\n")
        return 3
    run: Callable[[list[str]], int] = module.main
    return run(arguments)


def cli() -> None:
    """The console script."""
    sys.exit(main())


if __name__ == "__main__":
    cli()
