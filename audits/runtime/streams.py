"""Data sets that the library generates now, audited as if they were somebody else's: check RUN024 and the DATA checks."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from audits.runtime import data
from audits.runtime.report import Result
from audits.runtime.trial import SMALL, small_config
from ris_pipeline.config import Config
from ris_pipeline.shards import generate
from ris_pipeline.shards.manifest import plan_shards

MANY = {"n_train": 480, "n_val": 24, "n_test": 24, "shard_scenes": 1}
"""One scene per shard, and more of them than the offsets by which splits have been seen to overlap."""
FEW = {"n_train": 1200, "n_val": 300, "n_test": 300, "shard_scenes": 400}


def check() -> list[Result]:
    """RUN024 on the plan of the full data set, and every DATA check on two generated ones."""
    config = small_config("cpu").replaced(**SMALL).replaced(scene={"k_max": 5})
    results = list(_plan(Config()))
    for name, sizes in (("one scene per shard", MANY), ("many scenes per shard", FEW)):
        with tempfile.TemporaryDirectory(prefix="ris-audit-") as folder:
            directory = Path(folder) / "data"
            generate(config.replaced(data=sizes), directory)
            found = data.audit(directory).results
        results += [replace(result, subject=f"{result.subject} ({name})") for result in _merged(found)]
    return results


def _plan(config: Config) -> Iterator[Result]:
    """RUN024: no two shards of the full-size data set, cut as finely as can be, draw from one stream.

    The generator of torch reads the low 32 bits of a seed.
    """
    plans = plan_shards(config.replaced(data={"shard_scenes": 1}))
    streams = Counter(plan.stream & 0xFFFF_FFFF for plan in plans)
    shared = len(plans) - len(streams)
    seeds = {plan.split: plan.seed for plan in plans}
    problems = [f"{shared} of {len(plans)} streams are shared"] if shared else []
    problems += [f"the seeds of the splits are {seeds}"] if len(set(seeds.values())) < len(seeds) else []
    evidence = {"shards": len(plans), "different streams": len(streams), "seeds": seeds}
    yield Result("RUN024", "full-size data set", not problems, "; ".join(problems) or f"{len(plans)} shards, as many streams", evidence)


def _merged(results: list[Result]) -> list[Result]:
    """At most one failure per code and message kind, so that a defect of every shard is one line."""
    kept: dict[tuple[str, bool], Result] = {}
    counts = Counter((result.code, result.passed) for result in results)
    for result in results:
        kept.setdefault((result.code, result.passed), result)
    return [
        result if counts[key] == 1 else replace(result, evidence={**result.evidence, "alike": counts[key]}) for key, result in kept.items()
    ]
