"""A real two-trial study, check RUN022."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import optuna
import torch

from audits.runtime.composite import composite, scenes_of
from audits.runtime.observe import Observer
from audits.runtime.report import Result
from audits.runtime.trial import SMALL, Trial, small_config, small_trial
from ris_pipeline.config import Config, load_config
from ris_pipeline.errors import ConfigError
from ris_pipeline.evaluation.localize import localize
from ris_pipeline.hpo import StudyResult, run_study
from ris_pipeline.shards import open_split, read_manifest
from ris_pipeline.training import FitResult, Trainer

TRIALS = 2
SIZES: dict[str, dict[str, Any]] = {
    "data": {"n_train": 60, "n_val": 36, "n_test": 1, "shard_scenes": 25},
    "hpo": {"trials": TRIALS, "subset_fraction": 0.3, "epochs": 2},
    "train": {"patience": 1, "val_primary": "loss"},
}
"""The base configuration asks for the loss, and for a patience that would end trials early; a trial must overrule both."""
TOLERANCE = 1e-6


@dataclass
class Study:
    """What was seen of the study: a trainer, a result and an Optuna trial each, digests of the configuration, and the outcome."""

    base: Config
    trainers: list[Trainer] = field(default_factory=list)
    fits: list[FitResult] = field(default_factory=list)
    trials: list[optuna.trial.FrozenTrial] = field(default_factory=list)
    digests: list[str] = field(default_factory=list)
    outcome: StudyResult | None = None
    direction: str = ""


@contextmanager
def _quiet() -> Iterator[None]:
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(logging.ERROR)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(before)


def run(trial: Trial) -> Study:
    """Run a study as ``ris hpo`` does and watch every ``fit()`` in it."""
    manifest = read_manifest(trial.directory / "data")
    study = Study(trial.config, digests=[_digest(trial.config)])

    def after(finished: optuna.trial.FrozenTrial) -> None:
        study.trials.append(finished)
        study.digests.append(_digest(trial.config))

    out = trial.directory / "study"
    with _quiet(), Observer({"fit": Trainer.fit}) as observer:
        study.outcome = run_study(trial.config, trial.directory / "data", manifest, out, on_trial=after)
        database = optuna.load_study(study_name=trial.config.hpo.study_name, storage=f"sqlite:///{out / 'study.db'}")
        study.direction = database.direction.name
    calls = [call for call in observer.of("fit") if isinstance(call.result, FitResult)]
    study.trainers = [call.arguments["self"] for call in calls]
    study.fits = [call.result for call in calls]
    return study


def _digest(config: Config) -> str:
    """Of the base configuration and of the defaults together."""
    return config.sha256() + Config().sha256()


def check(device: str) -> list[Result]:
    """RUN022: sizes, values, settings and best.toml of a two-trial study."""
    with small_trial(small_config(device).replaced(**SMALL).replaced(**SIZES)) as trial:
        return check_study(run(trial), trial)


def check_study(study: Study, trial: Trial) -> list[Result]:
    """One result per claim."""
    parts = (
        ("trial values", _values(study, trial)),
        ("sizes", _sizes(study, trial)),
        ("configuration", _configuration(study)),
        ("searched keys", _searched(study)),
        ("best.toml", _best(study)),
    )
    seen = f"{len(study.trials)} trials and {len(study.trainers)} fits were observed, expected {TRIALS} each"
    missing = [seen] if len(study.trials) != TRIALS or len(study.trainers) != TRIALS else []
    results = []
    for name, (found, evidence) in parts:
        problems = [*missing, *found]
        results.append(Result("RUN022", name, not problems, "; ".join(problems) or str(evidence.pop("message")), evidence))
    return results


Part = tuple[list[str], dict[str, Any]]


def _values(study: Study, trial: Trial) -> Part:
    problems, values, recomputed = [], [], []
    for finished, trainer, fit in zip(study.trials, study.trainers, study.fits, strict=False):
        values.append(finished.value)
        recomputed.append(_rescore(trainer, trial))
        if finished.value is None or abs(finished.value - recomputed[-1]) > TOLERANCE:
            problems.append(f"trial {finished.number} has the value {finished.value}, its network scores {recomputed[-1]:.6g}")
        if finished.value != fit.objective:
            problems.append(f"trial {finished.number} has the value {finished.value}, fit() returned {fit.objective:.6g}")
        reported = [finished.intermediate_values.get(epoch) for epoch in range(fit.epochs)]
        if reported != [line["objective"] for line in fit.history]:
            problems.append(f"trial {finished.number} reported {reported} to the pruner, its objectives were others")
    if study.direction != "MINIMIZE":
        problems.append(f"the study's direction is {study.direction.lower()}, the composite is better when lower")
    return problems, {"values": values, "recomputed": recomputed, "message": f"values {values} are the recomputed composites"}


def _rescore(trainer: Trainer, trial: Trial) -> float:
    """Composite of the trial's network on the first ``fraction`` of the validation scenes, opened anew."""
    data = trial.directory / "data"
    manifest = read_manifest(data)
    count = round(trial.config.hpo.subset_fraction * manifest.splits["val"].scenes)
    batch = open_split(data, manifest, "val", count=count, storage="mmap").batch(torch.arange(count))
    model = trainer.model.to("cpu").eval()
    estimate = localize(batch.measurements, trainer.config, "network", model)
    return composite(scenes_of(batch.sources, estimate.sources), trainer.config.metrics)


def _sizes(study: Study, trial: Trial) -> Part:
    manifest = read_manifest(trial.directory / "data")
    expected = [round(trial.config.hpo.subset_fraction * manifest.splits[split].scenes) for split in ("train", "val")]
    got = [[len(trainer.train), len(trainer.val)] for trainer in study.trainers]
    problems = [f"trial {number} used {sizes} scenes, expected {expected}" for number, sizes in enumerate(got) if sizes != expected]
    message = f"{expected[0]} and {expected[1]} scenes are {trial.config.hpo.subset_fraction:g} of the manifest's"
    return problems, {"expected": expected, "got": got, "message": message}


def _configuration(study: Study) -> Part:
    problems = [f"the configuration changed in trial {n}" for n, d in enumerate(study.digests[1:]) if d != study.digests[0]]
    wanted = {"val_primary": "k_loc", "epochs": study.base.hpo.epochs}
    for number, (trainer, fit) in enumerate(zip(study.trainers, study.fits, strict=False)):
        got = {"val_primary": trainer.config.train.val_primary, "epochs": fit.epochs}
        if got != wanted:
            problems.append(f"trial {number} ran with {got}, expected {wanted}")
    return problems, {"digest": study.digests[0], "message": f"unchanged after {len(study.digests) - 1} trials"}


def _searched(study: Study) -> Part:
    """Each drawn value is the one that the trial's trainer holds, and differs between trials; nothing else differs."""
    problems: list[str] = []
    for finished, trainer in zip(study.trials, study.trainers, strict=False):
        used = _flat(trainer.config.model_dump(mode="json"))
        problems += [
            f"trial {finished.number} drew {key} = {value}, its trainer has {used.get(key)}"
            for key, value in finished.params.items()
            if used.get(key) != value
        ]
        base = _flat(study.base.model_dump(mode="json"))
        allowed = {*finished.params, "train.epochs", "train.patience", "train.val_primary"}
        others = sorted(key for key in used.keys() | base.keys() if used.get(key) != base.get(key) and key not in allowed)
        problems += [f"trial {finished.number} changed {', '.join(others)}, which is not searched"] if others else []
    keys = sorted(study.trials[0].params) if study.trials else []
    if not keys:
        problems.append("nothing is searched")
    if len({str(sorted(finished.params.items())) for finished in study.trials}) != len(study.trials):
        problems.append("two trials drew the same values")
    return problems, {"keys": keys, "message": f"{len(keys)} keys reach the trainer as drawn"}


def _best(study: Study) -> Part:
    outcome = study.outcome
    if outcome is None or not study.trials:
        return ["the study returned nothing"], {}
    values = [finished.value for finished in study.trials if finished.value is not None]
    number = min(range(len(values)), key=lambda index: values[index]) if values else 0
    problems = []
    if outcome.trial != number or outcome.objective != values[number]:
        problems.append(
            f"the study returned trial {outcome.trial} with {outcome.objective}, the lowest value is {values[number]} of trial {number}"
        )
    try:
        config = load_config([Path(outcome.best_toml)], [], study.base.model_dump(mode="json"))
    except ConfigError as error:
        return [*problems, f"best.toml cannot be used: {error}"], {}
    loaded = _flat(config.model_dump(mode="json"))
    wanted = _flat(study.trainers[number].config.model_dump(mode="json"))
    settled = {"train.epochs", "train.patience", "train.val_primary"}
    different = sorted(key for key in wanted if key not in settled and wanted[key] != loaded.get(key))
    if different:
        problems.append(f"best.toml does not reproduce {', '.join(different)} of trial {number}")
    return problems, {
        "different": different,
        "message": f"reproduces the configuration of trial {number}, objective {outcome.objective:.6g}",
    }


def _flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        name = f"{prefix}{key}"
        flat |= _flat(value, f"{name}.") if isinstance(value, dict) else {name: value}
    return flat
