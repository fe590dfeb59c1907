"""The whole audit of covariance paths: cases, checks and report."""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch

from audits.runtime import command
from audits.runtime.paths import SUMMARY, TOLERANCE, Figures, Seen, agree, detail, gradients, judge, look, measure, spread
from audits.runtime.report import Report, Result, Row, environment
from audits.runtime.trial import SIZES, Trial, one_thread, small_config, small_trial
from audits.runtime.watched import CASES, Watched, watch
from audits.static.errors import AuditInputError
from ris_pipeline.config import Config, build_config, merge
from ris_pipeline.errors import DataError
from ris_pipeline.model import Checkpoint, load_model
from ris_pipeline.shards import Batch, MemoryScenes, open_split, read_manifest

PREFIX = "PATH"
SCENES_PER_K = 2
POOL = 120
"""Scenes from which those that are watched are picked."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``python -m audits.covariance_paths``."""
    options = command.parser(".covariance_paths", "Watch what each covariance consumer receives, and check it.")
    options.add_argument("--data", type=Path, metavar="DIR", help="a data folder whose validation scenes are used (default: own scenes)")
    options.add_argument("--weights", metavar="W", help="a checkpoint, or 'default' (default: a fresh network)")
    return command.run(options, argv, PREFIX, _audit_of)


def _audit_of(chosen: argparse.Namespace) -> Report:
    wanted = command.selected(chosen.select, PREFIX)
    checkpoint = None if chosen.weights is None else load_model(Path(chosen.weights))
    with _trial(chosen.data, checkpoint) as trial:
        report = audit(trial, checkpoint)
    report.results = [result for result in report.results if result.code in wanted]
    return report


def own_scenes() -> Report:
    """The whole audit with a fresh network on scenes made for it."""
    with _trial(None, None) as trial:
        return audit(trial)


@contextmanager
def _trial(data: Path | None, checkpoint: Checkpoint | None) -> Iterator[Trial]:
    """The scenes: those of a folder, or new ones of the checkpoint's kind."""
    base = small_config() if checkpoint is None else checkpoint.config.replaced(**SIZES).replaced(train={"device": "cpu"})
    if data is None:
        with small_trial(base.replaced(data={"n_train": 1, "n_val": POOL, "store_sample": True})) as trial:
            yield trial
        return
    manifest = read_manifest(data)
    config = build_config(merge(base.model_dump(mode="json"), manifest.config), str(data))
    if checkpoint is not None:
        _check_fit(checkpoint, config, data)
    if "val" not in manifest.splits:
        raise DataError(f"expected a split 'val' in {data}, got {', '.join(manifest.splits)}")
    count = min(POOL, manifest.splits["val"].scenes)
    scenes = open_split(data, manifest, "val", count=count, storage="memory")
    with one_thread():
        yield Trial(config, data, scenes, scenes)


def _check_fit(checkpoint: Checkpoint, config: Config, data: Path) -> None:
    """Refuse weights and data of different surfaces, codes or numbers of sources."""
    for section in ("array", "codes"):
        trained, stored = getattr(checkpoint.config, section), getattr(config, section)
        if trained != stored:
            raise AuditInputError(f"{checkpoint.path} was trained with {section} {trained}, {data} has {stored}")
    if checkpoint.config.scene.k_max != config.scene.k_max:
        raise AuditInputError(
            f"{checkpoint.path} was trained with scene.k_max = {checkpoint.config.scene.k_max}, {data} has {config.scene.k_max}"
        )


def pick(trial: Trial) -> Batch:
    """A few scenes of each K, from the lowest to the highest SNR that there is."""
    pool = trial.val.batch(torch.arange(len(trial.val)))
    snr_db = pool.measurements.snr_db
    assert snr_db is not None
    rows: list[int] = []
    for k in range(1, trial.config.scene.k_max + 1):
        members = torch.nonzero(pool.sources.k == k)[:, 0]
        members = members[snr_db[members].argsort()]
        places = {round(share * (len(members) - 1) / (SCENES_PER_K - 1)) for share in range(SCENES_PER_K)} if len(members) else set()
        rows += [int(members[place]) for place in sorted(places)]
    return MemoryScenes(pool).batch(torch.tensor(rows))


def audit(trial: Trial, checkpoint: Checkpoint | None = None) -> Report:
    """Watch every case and judge what was seen."""
    report = Report("covariance paths")
    batch = pick(trial)
    seen: list[tuple[Seen, Figures]] = []
    watched: list[Watched] = []
    for case in CASES:
        if case.sample and batch.measurements.sample_factor is None:
            continue
        started = time.perf_counter()
        trainer = trial.trainer(covariance=case.covariance)
        if checkpoint is not None:
            trainer.model.load_state_dict(checkpoint.model.state_dict(), strict=True)
        watched.append(watch(case, trainer, batch))
        seen += [(item, measure(item)) for item in look(watched[-1])]
        report.timings_s[case.name] = time.perf_counter() - started
    report.results = [*_single(seen), *_between(watched, seen), *_gradients(watched)]
    report.details = [detail(item, figures) for item, figures in seen]
    report.rows = _worst(report.details)
    report.facts = {**spread(watched[-1]), "environment": environment(str(trainer.device)), "configuration": _hash(trial.config)}
    return report


def _hash(config: Config) -> str:
    return config.sha256()


def _single(seen: list[tuple[Seen, Figures]]) -> list[Result]:
    failures = [result for item, figures in seen for result in judge(item, figures)]
    failed = {result.code for result in failures}
    scenes = {item.subject: 0 if item.matrix is None else len(item.matrix) for item, _ in seen}
    passed = []
    if "PATH001" not in failed:
        passed.append(Result("PATH001", "all paths", True, f"{len(seen)} paths observed", {"scenes": scenes}))
    for code, what, value in SUMMARY:
        if code not in failed and seen:
            worst, figures = max(seen, key=lambda pair: np.nan_to_num(value(pair[1]), nan=-np.inf))
            number = abs(value(figures)) if code != "PATH004" else figures.smallest
            passed.append(Result(code, "all paths", True, f"{what} {number:.2e}", {"value": number, "at": worst.subject}))
    if "PATH008" not in failed:
        count = sum(len(item.received.parts) for item, _ in seen)
        passed.append(Result("PATH008", "all paths", True, f"{count} covariances, all from the builder", {"covariances": count}))
    return sorted([*failures, *passed], key=lambda result: result.code)


def _between(watched: list[Watched], seen: list[tuple[Seen, Figures]]) -> list[Result]:
    results: list[Result] = []
    distances: dict[str, float] = {}
    for case in watched:
        items = [item for item, figures in seen if item.watched is case and figures.finite]
        for name, distance in agree(items) if items else ():
            subject = f"{name} ({case.case.name})"
            distances[subject] = distance
            if not distance <= TOLERANCE:
                message = f"received covariances that differ by {distance:.2e}"
                results.append(Result("PATH006", subject, False, message, {"distance": distance}))
    if not distances:
        return [Result("PATH006", "all paths", False, "no two paths were observed that could be compared", {})]
    if not results:
        worst = max(distances, key=lambda name: distances[name])
        message = f"{len(distances)} pairs, largest distance {distances[worst]:.2e}"
        results.append(Result("PATH006", "all paths", True, message, {"value": distances[worst], "at": worst}))
    return results


def _gradients(watched: list[Watched]) -> list[Result]:
    failures, passed = [], {}
    for case in watched:
        for name, fine, what in gradients(case):
            subject = f"{name} ({case.case.name})"
            if fine:
                passed[subject] = what
            else:
                failures.append(Result("PATH007", subject, False, what, {"seen": what}))
    if failures:
        return failures
    return [Result("PATH007", "training step", True, f"{len(passed)} tensors have the gradient that they should", passed)]


def _worst(details: list[Row]) -> list[Row]:
    """One row per path: the worst figures over the cases."""
    rows: list[Row] = []
    for name in dict.fromkeys(row["path"] for row in details):
        of_path = [row for row in details if row["path"] == name]
        worst = {key: max((row[key] for row in of_path), key=_badness) for key in ("Hermitian error", "trace error", "agreement error")}
        rows.append(
            {
                "path": name,
                "cases": len(of_path),
                "scenes": min(row["scenes"] for row in of_path),
                "Hermitian error": worst["Hermitian error"],
                "trace error": worst["trace error"],
                "smallest eigenvalue": min((row["smallest eigenvalue"] for row in of_path), key=lambda value: -_badness(-value)),
                "agreement error": worst["agreement error"],
                "verdict": "FAILED" if any(row["verdict"] == "FAILED" for row in of_path) else "passed",
            }
        )
    return rows


def _badness(value: float) -> float:
    return float("inf") if np.isnan(value) else value
