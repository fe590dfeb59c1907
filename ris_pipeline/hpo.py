"""Hyper-parameter search with Optuna on the composite score that also selects models in training."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from sqlalchemy.exc import SQLAlchemyError

from ris_pipeline.config import Config, merge, to_toml
from ris_pipeline.errors import ConfigError, DataError, DivergedError, IncompleteError
from ris_pipeline.files import write_text
from ris_pipeline.shards import Manifest, available_scenes, open_split
from ris_pipeline.training import EpochReport, Trainer
from ris_pipeline.training.loop import resolve_device

logger = logging.getLogger(__name__)

FINISHED = (optuna.trial.TrialState.COMPLETE, optuna.trial.TrialState.PRUNED, optuna.trial.TrialState.FAIL)


@dataclass(frozen=True)
class StudyResult:
    """Best trial of a study and the partial configuration behind it."""

    objective: float
    trial: int
    finished: int
    best_toml: Path


def suggest(trial: optuna.Trial) -> dict[str, Any]:
    """Draw the searched keys as a partial configuration; every one of them can change the objective."""
    return {
        "train": {
            "learning_rate": trial.suggest_float("train.learning_rate", 5e-4, 8e-3, log=True),
            "weight_decay": trial.suggest_float("train.weight_decay", 1e-4, 1e-1, log=True),
            "batch_size": trial.suggest_categorical("train.batch_size", [64, 128, 256]),
        },
        "model": {
            "channels": trial.suggest_categorical("model.channels", [16, 24, 32, 48]),
            "pursuit_maps": trial.suggest_int("model.pursuit_maps", 1, 4),
        },
        "loss": {
            "covariance": trial.suggest_float("loss.covariance", 0.03, 1.0, log=True),
            "k": trial.suggest_float("loss.k", 0.3, 3.0, log=True),
            "position": trial.suggest_float("loss.position", 0.3, 3.0, log=True),
            "score": trial.suggest_float("loss.score", 0.3, 3.0, log=True),
            "under_cost": trial.suggest_float("loss.under_cost", 1.0, 2.0),
        },
        "covariance": {"beta": trial.suggest_float("covariance.beta", 0.0, 0.6)},
    }


def subset_sizes(config: Config, directory: Path, manifest: Manifest) -> tuple[int, int]:
    """Scenes of a trial's training and validation subsets: ``hpo.subset_fraction`` of the manifest's counts, as far as shards exist.

    Fewer than 90 % of the expected scenes are reported.

    Raises:
        DataError: a subset would be empty.
    """
    sizes = []
    for split in ("train", "val"):
        expected = round(config.hpo.subset_fraction * manifest.splits[split].scenes)
        present = available_scenes(directory, manifest, split)
        size = min(expected, present)
        if size == 0:
            raise DataError(
                f"expected {expected} {split} scenes in {directory} (hpo.subset_fraction of the manifest's "
                f"{manifest.splits[split].scenes}), got 0 of the {present} that its shards hold"
            )
        if size < 0.9 * expected:
            logger.warning("expected %d %s scenes, the shards hold only %d", expected, split, present)
        sizes.append(size)
    return sizes[0], sizes[1]


def objective(
    trial: optuna.Trial,
    config: Config,
    directory: Path,
    manifest: Manifest,
    on_epoch: Callable[[EpochReport], None] = lambda report: None,
) -> float:
    """Train with one draw of the searched keys and return what ``fit()`` selected: the best composite score, lower is better.

    The trial trains on a validated copy of ``config`` with ``val_primary = "k_loc"``; ``config`` itself is frozen.

    Raises:
        optuna.TrialPruned: the pruner stopped the trial.
        DivergedError, IncompleteError: training failed; the reason of any failure is recorded with the trial.
    """
    n_train, n_val = subset_sizes(config, directory, manifest)
    searched = suggest(trial)
    trial_config = config.replaced(
        **merge(searched, {"train": {"epochs": config.hpo.epochs, "patience": config.hpo.epochs, "val_primary": "k_loc"}})
    )
    storage, device = trial_config.train.storage, resolve_device(trial_config.train.device)
    train = open_split(directory, manifest, "train", count=n_train, storage=storage, device=device)
    val = open_split(directory, manifest, "val", count=n_val, storage=storage, device=device)
    trial.set_user_attr("n_train", n_train)
    trial.set_user_attr("n_val", n_val)

    def report(epoch: EpochReport) -> None:
        on_epoch(epoch)
        trial.report(epoch.objective, epoch.epoch)
        if trial.should_prune():
            raise optuna.TrialPruned(f"objective {epoch.objective:.3f} at epoch {epoch.epoch} is worse than the median trial")

    started = time.perf_counter()
    try:
        result = Trainer(trial_config, train, val, on_epoch=report).fit()
    except optuna.TrialPruned:
        raise
    except Exception as error:
        trial.set_user_attr("reason", str(error) or type(error).__name__)
        raise
    trial.set_user_attr("metrics", result.metrics.as_dict())
    trial.set_user_attr("seconds", time.perf_counter() - started)
    return result.objective


def run_study(
    config: Config,
    directory: Path,
    manifest: Manifest,
    out: Path,
    *,
    storage: str | None = None,
    on_trial: Callable[[optuna.trial.FrozenTrial], None] = lambda trial: None,
    record: dict[str, Any] | None = None,
) -> StudyResult:
    """Run the study until ``hpo.trials`` trials are finished, earlier ones included, and write ``best.toml``.

    Args:
        config: base configuration of every trial.
        directory: data folder.
        manifest: its manifest.
        out: folder of the study and of ``best.toml``.
        storage: Optuna storage URL; an SQLite file in ``out`` unless given.
        on_trial: called after each trial.
        record: plain values stored with the study.

    Raises:
        ConfigError: the storage cannot be used.
        DataError: the study was run on other data, or the shards hold too little.
        IncompleteError: no trial could be completed.
    """
    _check_shards(config, directory, manifest)
    if storage is None:
        out.mkdir(parents=True, exist_ok=True)
    study = _open_study(config, storage or f"sqlite:///{out / 'study.db'}")
    _check_same_question(study, config, manifest)
    for key, value in (record or {}).items():
        study.set_user_attr(key, value)
    # A resumed study must not draw again what it has drawn.
    study.sampler = _sampler(config.hpo.seed + len(study.trials))
    remaining = config.hpo.trials - len(_finished(study))
    if remaining > 0:
        study.optimize(
            lambda trial: objective(trial, config, directory, manifest),
            n_trials=remaining,
            callbacks=[lambda _study, trial: on_trial(trial)],
            catch=(DivergedError, IncompleteError),
        )
    return _finish(study, out)


def _check_shards(config: Config, directory: Path, manifest: Manifest) -> None:
    """Open what the trials will read, so that a damaged shard is found before there is a study."""
    n_train, n_val = subset_sizes(config, directory, manifest)
    open_split(directory, manifest, "train", count=n_train)
    open_split(directory, manifest, "val", count=n_val)


def _open_study(config: Config, storage: str) -> optuna.Study:
    try:
        return optuna.create_study(
            study_name=config.hpo.study_name,
            storage=storage,
            load_if_exists=True,
            direction="minimize",  # the composite score is (1 - k_acc) + normalised errors - success rate: lower is better
            sampler=_sampler(config.hpo.seed),
            pruner=optuna.pruners.MedianPruner(n_startup_trials=4, n_warmup_steps=2),
        )
    except (SQLAlchemyError, optuna.exceptions.StorageInternalError, ImportError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(f"cannot use {storage!r} as the study's storage: {reason}") from None


def _sampler(seed: int) -> optuna.samplers.TPESampler:
    return optuna.samplers.TPESampler(seed=seed, n_startup_trials=6, multivariate=True)


def _finished(study: optuna.Study) -> list[optuna.trial.FrozenTrial]:
    """Trials that ended by themselves; one that was interrupted failed without a reason and is run again."""
    return [t for t in study.trials if t.state in FINISHED and (t.state != optuna.trial.TrialState.FAIL or "reason" in t.user_attrs)]


def _check_same_question(study: optuna.Study, config: Config, manifest: Manifest) -> None:
    """Objectives of one study must be comparable: same data, and a configuration that differs in nothing that a trial depends on."""
    asked = config.replaced(hpo={"trials": 1}, train={"device": "auto", "storage": "memory", "log_every": 1}).sha256()
    for key, what, value in (("manifest_sha256", "data", manifest.sha256()), ("config_sha256", "settings", asked)):
        if study.user_attrs.get(key, value) != value:
            raise DataError(f"study {study.study_name!r} was run on other {what}; choose another --out, --storage or --hpo.study_name")
        study.set_user_attr(key, value)


def _finish(study: optuna.Study, out: Path) -> StudyResult:
    finished = _finished(study)
    complete = [trial for trial in finished if trial.state == optuna.trial.TrialState.COMPLETE]
    if not complete:
        reasons = "; ".join(f"trial {t.number}: {t.user_attrs.get('reason', t.state.name.lower())}" for t in finished)
        raise IncompleteError(f"no trial could be completed: {reasons or 'none was run'}")
    best = study.best_trial
    assert best.value is not None
    values: dict[str, Any] = {}
    for key, value in best.params.items():
        section, name = key.split(".")
        values = merge(values, {section: {name: value}})
    path = out / "best.toml"
    comment = f"trial {best.number} of study {study.study_name!r}: objective {best.value:.6f} of {len(complete)} completed trials"
    write_text(path, to_toml(values, comment))
    return StudyResult(best.value, best.number, len(finished), path)
