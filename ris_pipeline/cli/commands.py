"""The commands behind ``ris``; each takes the parsed options and returns an exit code."""

from __future__ import annotations

import argparse
import json
import platform
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from audits import static
from audits.static.errors import AuditIncompleteError, AuditInputError
from ris_pipeline import hpo as search
from ris_pipeline import report as reporting
from ris_pipeline.attestation import PACKAGE, attest, find_audit, read_audit, sentence, subject
from ris_pipeline.config import Config, keys, load_config, merge
from ris_pipeline.errors import ConfigError, IncompleteError, nearest_name
from ris_pipeline.evaluation.evaluate import evaluate as run_evaluation
from ris_pipeline.evaluation.inputs import localization_json, read_input
from ris_pipeline.evaluation.localize import METHODS, NETWORK_METHODS, warn_of_coherent_sources, with_noise_variance
from ris_pipeline.evaluation.localize import localize as run_localize
from ris_pipeline.evaluation.tune import tune as run_tune
from ris_pipeline.evaluation.tune import write_tuned
from ris_pipeline.files import check_file, check_folder, source_digest, write_text
from ris_pipeline.model import Checkpoint, count_parameters, load_model
from ris_pipeline.shards import generate as write_shards
from ris_pipeline.shards import open_split, read_manifest
from ris_pipeline.shards.manifest import Manifest, ShardPlan, plan_shards
from ris_pipeline.simulation import simulate
from ris_pipeline.training import EpochReport, FitResult, Trainer
from ris_pipeline.training.checkpoint import LAST_NAME
from ris_pipeline.training.loop import resolve_device

console = Console()


def generate(options: argparse.Namespace) -> int:
    """``ris generate``: write shards, all or some."""
    check_folder(options.out)
    config = configuration(options)
    total = len(plan_shards(config))
    first, last = _shard_range(options.shards, total)
    with _progress() as bar:
        task = bar.add_task("shards", total=last - first)

        def done(plan: ShardPlan, written: bool) -> None:
            bar.update(task, advance=1, description=plan.name if written else f"{plan.name} kept")

        manifest = write_shards(config, options.out, first=first, last=last, progress=done)
    if manifest is None:
        console.print(f"shards {first}:{last} of {total} are in {options.out}; the manifest is written once all of them are there")
    else:
        console.print(f"{sum(s.scenes for s in manifest.splits.values())} scenes in {total} shards and their manifest are in {options.out}")
    return 0


def train(options: argparse.Namespace) -> int:
    """``ris train``: train, select by the configured primary, keep the best."""
    check_folder(options.out)
    audited = preflight(options)
    if audited is None:
        return 1
    manifest = read_manifest(options.data)
    files = [*options.config, *([options.from_hpo] if options.from_hpo else [])]
    config = data_configuration(options, manifest, files=files)
    if not options.resume and (options.out / LAST_NAME).exists():
        raise ConfigError(f"{options.out} already holds a run; continue it with --resume or choose another --out")
    device, storage = resolve_device(config.train.device), config.train.storage
    train_scenes = open_split(options.data, manifest, "train", count=config.data.n_train, storage=storage, device=device)
    val_scenes = open_split(options.data, manifest, "val", count=config.data.n_val, storage=storage, device=device)
    record = {"manifest_sha256": manifest.sha256(), "source_sha256": source_digest(PACKAGE), "preflight": audited}
    with _progress() as bar:
        task = bar.add_task("steps of the epoch", total=None)
        trainer = Trainer(
            config,
            train_scenes,
            val_scenes,
            options.out,
            print_epoch,
            record,
            lambda done, total: bar.update(task, completed=done, total=total),
        )
        console.print(f"{count_parameters(trainer.model)} parameters, {len(train_scenes)} training scenes, device {device}")
        if options.resume:
            trainer.resume()
        result = trainer.fit()
    write_json(options.out / "result.json", result_json(result))
    console.print(f"objective {result.objective:.4f} ({result.val_primary}) at epoch {result.best_epoch}; {result.checkpoint}")
    return 0


def hpo(options: argparse.Namespace) -> int:
    """``ris hpo``: run or continue a study and write best.toml."""
    check_folder(options.out)
    audited = preflight(options)
    if audited is None:
        return 1
    manifest = read_manifest(options.data)
    extra = [("hpo.trials", options.trials)] if options.trials is not None else []
    config = data_configuration(options, manifest, overrides=[*options.overrides, *extra])
    result = search.run_study(
        config, options.data, manifest, options.out, storage=options.storage, on_trial=print_trial, record={"preflight": audited}
    )
    console.print(
        f"objective {result.objective:.4f} at trial {result.trial} of {result.finished} finished; `ris train --from-hpo {result.best_toml}`"
    )
    return 0


def tune(options: argparse.Namespace) -> int:
    """``ris tune``: sweep beta and the confidence threshold on validation."""
    check_file(options.out)
    manifest = read_manifest(options.data)
    checkpoint = load_model(options.weights)
    config = data_configuration(options, manifest, base=checkpoint.config)
    scenes = open_split(options.data, manifest, "val", count=min(config.data.n_val, manifest.splits["val"].scenes))
    with _progress() as bar:
        task = bar.add_task("beta", total=None)
        result = run_tune(checkpoint, scenes, config, str(options.data), lambda beta: bar.update(task, advance=1))
    write_tuned(options.out, result)
    console.print(
        f"beta {result.beta:g}, k_conf_thresh {result.k_conf_thresh:g}: "
        f"objective {result.objective:.4f}, before {result.objective_before:.4f}; {options.out}"
    )
    return 0


def evaluate(options: argparse.Namespace) -> int:
    """``ris evaluate``: score methods on a split."""
    if options.json is not None:
        check_file(options.json)
    methods = check_methods(options.method or METHODS)
    manifest = read_manifest(options.data)
    checkpoint = _checkpoint(options.weights, methods)
    config = data_configuration(options, manifest, base=None if checkpoint is None else checkpoint.config)
    audit = None if options.audit is None else read_audit(options.audit)
    warn_of_coherent_sources(config, methods)
    document = evaluate_split(options.data, manifest, config, methods, checkpoint)
    document["attestation"] = attestation(options, config, manifest, checkpoint, audit)
    console.print(reporting.methods_table(document))
    console.print(reporting.counting_table(document))
    console.print(sentence(document["attestation"]), highlight=False, soft_wrap=True)
    if options.json is not None:
        write_json(options.json, document)
    return 0


def attestation(
    options: argparse.Namespace, config: Config, manifest: Manifest, checkpoint: Checkpoint | None, audit: dict[str, Any] | None
) -> dict[str, Any]:
    """What made this evaluation, beside the audit report that was named or lies with the weights, with the data, or here."""
    if audit is None:
        folders = [options.data, Path()] if checkpoint is None else [checkpoint.path.parent, options.data, Path()]
        found = find_audit(folders)
        audit = None if found is None else read_audit(found)
    trained = None if checkpoint is None else checkpoint.record
    used = config if checkpoint is None else checkpoint.config
    return attest(subject(used.sha256(), manifest.sha256(), trained), audit)


def localize(options: argparse.Namespace) -> int:
    """``ris localize``: localize the sources of a file of measurements."""
    if options.json is not None:
        check_file(options.json)
    method = check_methods([options.method or METHODS[0]])[0]
    checkpoint = _checkpoint(options.weights, [method])
    config = configuration(options, base=None if checkpoint is None else checkpoint.config.model_dump(mode="json"))
    model = None if checkpoint is None else checkpoint.network_for(config, str(options.input))
    given = read_input(options.input, config)
    warn_of_coherent_sources(config, [method])
    parts = []
    for index in torch.arange(len(given.measurements)).split(config.evaluate.batch_size):
        measurements = with_noise_variance(given.measurements[index], config)
        found = run_localize(measurements, config, method, model, None if given.k is None else given.k[index])
        parts.append(localization_json(method, found, measurements, config))
    document = parts[0] | {"scenes": [scene for part in parts for scene in part["scenes"]]}
    if options.json is not None:
        write_json(options.json, document)
    console.print(reporting.localization_table(document, k_given=given.k is not None))
    return 0


def report(options: argparse.Namespace) -> int:
    """``ris report``: Markdown and figures."""
    document = reporting.read_evaluation(options.evaluation)
    written = reporting.write_report(document, options.out, run=options.run)
    console.print(f"{', '.join(path.name for path in written)} are in {options.out}")
    if "attestation" in document:
        console.print(sentence(document["attestation"]), highlight=False, soft_wrap=True)
    return 0


def doctor(options: argparse.Namespace) -> int:
    """``ris doctor``: versions, devices, a self-test of the installed package, and the configuration keys."""
    config = configuration(options)
    if options.keys:
        table = Table("key", "default", "meaning")
        for key, description in keys().items():
            table.add_row(key, str(_value(config, key)), description)
        console.print(table)
        return 0
    cuda = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
    console.print(f"python {platform.python_version()}, torch {torch.__version__}, CUDA device: {cuda}, threads: {torch.get_num_threads()}")
    checkpoint = load_model(Path("default"))
    scenes = simulate(checkpoint.config, 4, torch.Generator().manual_seed(0))
    measured = scenes.measurements.to(torch.complex64)
    found = run_localize(measured, checkpoint.config, METHODS[0], checkpoint.network_for(checkpoint.config, "the self-test"))
    console.print(
        f"default weights: objective {checkpoint.record['objective']:.3f}; self-test localized {int(found.sources.k.sum())} sources"
    )
    return 0


def preflight(options: argparse.Namespace) -> dict[str, object] | None:
    """The verdict of the static audit of this package as plain values; None, and the findings printed, where it is not clean.

    Raises:
        IncompleteError: the audit could not be completed.
    """
    if options.no_preflight:
        return {"status": "skipped"}
    try:
        verdict = static.preflight(Path(__file__).parents[2], static.TABLES / "ris_pipeline.toml")
    except (AuditInputError, AuditIncompleteError) as error:
        raise IncompleteError(f"the preflight audit could not be completed: {error}") from error
    for finding in verdict.findings:
        console.print(f"{finding}", highlight=False, markup=False, soft_wrap=True)
    if verdict.findings:
        console.print(
            f"the preflight audit finds {len(verdict.findings)} faults in this package ({verdict.status}); "
            "`python -m audits static` explains them, --no-preflight goes on all the same",
            soft_wrap=True,
        )
        return None
    return verdict.record


def configuration(
    options: argparse.Namespace,
    *,
    base: Mapping[str, Any] | None = None,
    files: Sequence[Path] | None = None,
    overrides: Sequence[tuple[str, str]] | None = None,
) -> Config:
    """Defaults, then ``base``, then ``--config`` files, then flags."""
    return load_config(options.config if files is None else files, options.overrides if overrides is None else overrides, base)


def data_configuration(
    options: argparse.Namespace,
    manifest: Manifest,
    *,
    base: Config | None = None,
    files: Sequence[Path] | None = None,
    overrides: Sequence[tuple[str, str]] | None = None,
) -> Config:
    """A configuration whose data sections are the manifest's.

    Raises:
        ConfigError: files or flags contradict the manifest.
    """
    start = merge({} if base is None else base.model_dump(mode="json"), manifest.config)
    config = configuration(options, base=start, files=files, overrides=overrides)
    config.agrees_with(manifest.config, f"the manifest of {options.data}")
    return config


def evaluate_split(data: Path, manifest: Manifest, config: Config, methods: Sequence[str], checkpoint: Checkpoint | None) -> dict[str, Any]:
    """Evaluate on the configured split, with a progress bar."""
    split = config.evaluate.split
    scenes = open_split(data, manifest, split, count=config.evaluate.scenes)
    model = None if checkpoint is None else checkpoint.network_for(config, str(data))
    with _progress() as bar:
        tasks: dict[str, Any] = {}

        def done(name: str, count: int) -> None:
            if name not in tasks:
                tasks[name] = bar.add_task(name, total=len(scenes))
            bar.update(tasks[name], completed=count)

        return run_evaluation(scenes, config, methods, model, done)


def check_methods(methods: Sequence[str]) -> list[str]:
    """Refuse unknown methods before any work is done."""
    for method in methods:
        if method not in METHODS:
            raise ConfigError(f"unknown method {method!r}, expected one of {', '.join(METHODS)}{nearest_name(method, METHODS)}")
    return list(dict.fromkeys(methods))


def print_epoch(report: EpochReport) -> None:
    """One line per epoch."""
    m = report.metrics
    console.print(
        f"epoch {report.epoch:3d}  objective {report.objective:7.4f}{' *' if report.improved else '  '} "
        f"K_acc {m['k_acc']:.3f} (under {m['k_under']:.3f}, over {m['k_over']:.3f})  "
        f"az {m['azimuth_rmse_deg']:.2f} deg  el {m['elevation_rmse_deg']:.2f} deg  range {m['range_rmse_m']:.2f} m  "
        f"success {m['success_rate']:.3f}  val loss {report.val_loss:.3f}  "
        f"smallest group step {min(report.moved.values()):.1e}  {report.samples_per_second:.0f} scenes/s",
        highlight=False,
        soft_wrap=True,
    )


def print_trial(trial: Any) -> None:
    """One line per trial."""
    objective = "none" if trial.value is None else f"{trial.value:.4f}"
    reason = trial.user_attrs.get("reason", "")
    console.print(f"trial {trial.number}  {trial.state.name.lower()}  objective {objective}  {reason}", highlight=False, soft_wrap=True)


def result_json(result: FitResult) -> dict[str, Any]:
    """A run's outcome as plain values."""
    return {
        "schema_version": 1,
        "objective": result.objective,
        "val_primary": result.val_primary,
        "best_epoch": result.best_epoch,
        "epochs": result.epochs,
        "metrics": result.metrics.as_dict(),
        "history": result.history,
    }


def write_json(path: Path, document: Mapping[str, Any]) -> None:
    """Write JSON atomically.

    Raises:
        DataError: the folder cannot be written to.
    """
    try:
        text = json.dumps(document, indent=1, allow_nan=False) + "\n"
    except ValueError:
        raise IncompleteError(f"{path} was not written: a result is not finite") from None
    write_text(path, text)


def _checkpoint(weights: Path | None, methods: Sequence[str]) -> Checkpoint | None:
    """The weights that were asked for, or the default ones where a method needs a network."""
    if weights is None and not set(methods) & set(NETWORK_METHODS):
        return None
    return load_model(weights or Path("default"))


def _shard_range(text: str | None, total: int) -> tuple[int, int]:
    if text is None:
        return 0, total
    match = re.fullmatch(r"(\d*):(\d*)", text)
    if match is None:
        raise ConfigError(f"--shards must be A:B with whole numbers, got {text!r}")
    first, last = int(match[1] or 0), int(match[2] or total)
    if not 0 <= first < last <= total:
        raise ConfigError(f"--shards must lie within 0:{total} and not be empty, got {text!r}")
    return first, last


def _value(config: Config, key: str) -> Any:
    value: Any = config.model_dump(mode="json")
    for part in key.split("."):
        value = None if value is None else value[part]
    return value


def _progress() -> Progress:
    return Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), console=console, transient=True
    )
