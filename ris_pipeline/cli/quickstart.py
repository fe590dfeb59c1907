"""``ris quickstart``: the whole line on a small scale, stage by stage, through the commands that users run."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from importlib.resources import as_file, files
from pathlib import Path

from audits.__main__ import main as audits
from ris_pipeline.cli import commands
from ris_pipeline.errors import ConfigError, IncompleteError
from ris_pipeline.report import methods_table, read_evaluation


def source_root() -> Path:
    """The checkout that this package runs from: the static audit reads its source and its table.

    Raises:
        ConfigError: the package was installed without its checkout.
    """
    root = Path(__file__).parents[2]
    if not (root / "pyproject.toml").is_file():
        raise ConfigError(f"quickstart audits its own checkout, and {root} holds no pyproject.toml; install with pip install -e .")
    return root


def quickstart(options: argparse.Namespace) -> int:
    """Generate, search, train, tune, audit, evaluate, localize and report into ``--out``; each stage can be resumed.

    Raises:
        IncompleteError: a stage failed.
    """
    out: Path = options.out
    root = source_root()
    with as_file(files("ris_pipeline") / "recipes" / "quickstart.toml") as recipe:
        config = [recipe, *options.config]

        def run(command: Callable[[argparse.Namespace], int], **arguments: object) -> None:
            started = time.perf_counter()
            commands.console.rule(f"ris {command.__name__}")
            code = command(argparse.Namespace(**{"config": config, "overrides": options.overrides, **arguments}))
            if code != 0:
                raise IncompleteError(f"quickstart stopped: ris {command.__name__} returned {code}")
            commands.console.print(f"{command.__name__}: {time.perf_counter() - started:.0f} s")

        data, weights, tuned = out / "data", out / "run", out / "tuned.toml"
        run(commands.generate, out=data, shards=None)
        run(commands.hpo, data=data, out=out / "study", storage=None, trials=None, no_preflight=False)
        started_before = (weights / "last.safetensors").exists()
        run(commands.train, data=data, out=weights, from_hpo=out / "study" / "best.toml", resume=started_before, no_preflight=False)
        run(commands.tune, data=data, weights=weights, out=tuned)
        config = [*config, tuned]
        commands.console.rule("audits")
        evaluation, audited = out / "evaluation.json", out / "audit-report.json"
        code = audits(["all", "--root", str(root), "--data", str(data), "--weights", str(weights), "--report", str(audited)])
        run(commands.evaluate, data=data, weights=weights, method=None, json=evaluation, audit=audited if audited.is_file() else None)
        shard = next(iter(sorted(data.glob("test-*.safetensors"))))
        run(commands.localize, input=shard, weights=weights, method="network", json=out / "localization.json")
        run(commands.report, evaluation=evaluation, run=weights, out=out / "report")
    commands.console.print(methods_table(read_evaluation(evaluation)))
    commands.console.print(f"shards, study, checkpoint, metrics, figures and audit report are in {out}")
    return code
