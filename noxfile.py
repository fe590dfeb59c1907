"""Sessions that people, continuous integration and pre-commit run; nothing else does."""

from __future__ import annotations

import os
from pathlib import Path

import nox

nox.options.sessions = ["lint", "types", "tests", "audit"]
nox.options.reuse_existing_virtualenvs = True
nox.options.default_venv_backend = "virtualenv"

CONSTRAINTS = "ci/constraints.txt"


def install(session: nox.Session, extras: str = "[dev]") -> None:
    """Install the project in place with the pinned versions, unless ``nox -R`` says to reuse what is there."""
    session.install("-c", CONSTRAINTS, "-e", f".{extras}")


@nox.session
def quickstart(session: nox.Session) -> None:
    """Run the whole line on a small scale; results go to results/quickstart/. Flags are passed on."""
    install(session, "")
    session.run("ris", "quickstart", *session.posargs)


@nox.session
def tests(session: nox.Session) -> None:
    """Run the tests. Arguments are passed to pytest."""
    install(session)
    session.run("pytest", *session.posargs)


@nox.session
def audit(session: nox.Session) -> None:
    """Run the static audit, the covariance paths and the run-time audit."""
    install(session, "")
    session.run("python", "-m", "audits", "all", *session.posargs)


@nox.session
def mutants(session: nox.Session) -> None:
    """Plant violations in copies of the package and report recall and false alarms of each static rule. Flags are passed on."""
    install(session)
    session.run("python", "-m", "tests.audits.mutants", *session.posargs)


@nox.session
def static(session: nox.Session) -> None:
    """Run the static audit alone; it needs neither torch nor this project installed. Arguments are passed on."""
    session.install("-c", CONSTRAINTS, "libcst", "rich")
    session.run("python", "-m", "audits", "static", *session.posargs)


@nox.session
def saboteurs(session: nox.Session) -> None:
    """Plant every defect of the suite in a copy and see which checks find it; results are kept in results/saboteurs.json."""
    install(session)
    session.run("python", "tests/audits/saboteurs/run.py", *session.posargs)


@nox.session
def lint(session: nox.Session) -> None:
    """Check style, formatting-independent defects and the import layers."""
    session.install("-c", CONSTRAINTS, "ruff", "import-linter")
    session.run("ruff", "check", ".")
    session.run("lint-imports", env={"PYTHONPATH": "."})


@nox.session
def types(session: nox.Session) -> None:
    """Check types with mypy in strict mode."""
    install(session)
    session.run("mypy", *session.posargs)


@nox.session
def bench(session: nox.Session) -> None:
    """Run the benchmarks and record them, with hardware and versions, under benchmarks/results/."""
    install(session)
    Path("benchmarks/results").mkdir(parents=True, exist_ok=True)
    name = session.posargs[0] if session.posargs else os.environ.get("BENCH_NAME", "latest")
    session.run("pytest", "benchmarks", "--benchmark-only", f"--benchmark-json=benchmarks/results/{name}.json")
