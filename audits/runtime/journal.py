"""What scenes a real ``fit()`` trained on and scored, check RUN018."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import safe_open
from torch import Tensor

from audits.runtime.observe import Call, Observer
from audits.runtime.report import Result
from audits.runtime.trial import Trial
from ris_pipeline.arrays import Sources
from ris_pipeline.metrics import score_scenes
from ris_pipeline.model import HybridModel
from ris_pipeline.shards import read_manifest
from ris_pipeline.training import Trainer

EPOCHS = 2
TARGETS: dict[str, Callable[..., Any]] = {
    "step": Trainer.train_step,
    "validate": Trainer.validate,
    "network": HybridModel.forward,
    "score": score_scenes,
}
Print = bytes


@dataclass
class Epoch:
    """Fingerprints of the scenes of one epoch: trained on, given to the network in evaluation, and scored."""

    trained: Counter[Print] = field(default_factory=Counter)
    evaluated: Counter[Print] = field(default_factory=Counter)
    scored: Counter[Print] = field(default_factory=Counter)
    outside: int = 0


def prints_of(columns: dict[str, NDArray[Any]]) -> list[Print]:
    """Hash of each scene's rows."""
    arrays = [np.ascontiguousarray(columns[name]) for name in sorted(columns)]
    return [hashlib.blake2b(b"".join(array[row].tobytes() for array in arrays), digest_size=16).digest() for row in range(len(arrays[0]))]


def _array(tensor: Tensor) -> NDArray[Any]:
    return np.asarray(tensor.detach().cpu().resolve_conj().numpy())


def _measured(measurements: Any) -> dict[str, NDArray[Any]]:
    return {name: _array(getattr(measurements, name)) for name in ("snapshots", "channel", "code_index")}


def _labels(sources: Sources) -> dict[str, NDArray[Any]]:
    return {name: _array(getattr(sources, name)) for name in ("azimuth_rad", "elevation_rad", "range_m", "k")}


def stored(data: Path, split: str) -> dict[str, list[Print]]:
    """Fingerprints of the measurements, labels and both of every scene of a split, read from its files directly."""
    manifest = read_manifest(data)
    entry = next(value for name, value in manifest.splits.items() if name == split)
    result: dict[str, list[Print]] = {"measured": [], "labels": [], "both": []}
    for shard in entry.files:
        with safe_open(data / shard.name, framework="np") as file:
            measured = {name: file.get_tensor(name) for name in ("snapshots", "channel", "code_index")}
            labels = {name: file.get_tensor(name) for name in ("azimuth_rad", "elevation_rad", "range_m", "k")}
        result["measured"] += prints_of(measured)
        result["labels"] += prints_of(labels)
        result["both"] += prints_of(measured | labels)
    return result


def watch_fit(trial: Trial) -> list[Epoch]:
    """A real run, epoch by epoch."""
    epochs = [Epoch()]
    training = [False]

    def seen(call: Call) -> None:
        now = epochs[-1]
        if call.name == "step":
            training[0] = True
            batch = call.arguments["batch"]
            now.trained.update(prints_of(_measured(batch.measurements) | _labels(batch.sources)))
        elif call.name == "validate":
            training[0] = False
        elif call.name == "network" and not call.arguments["self"].training:
            now.evaluated.update(prints_of(_measured(call.arguments["measurements"])))
        elif call.name == "score":
            now.scored.update(prints_of(_labels(call.arguments["truth"])))
        elif call.name == "network" and not training[0]:
            now.outside += 1

    trainer = trial.trainer(train={"epochs": EPOCHS, "patience": EPOCHS})
    trainer.on_epoch = lambda report: epochs.append(Epoch())
    with Observer(TARGETS, on_call=seen):
        trainer.fit()
    return epochs[:-1]


def check_scenes(trial: Trial) -> list[Result]:
    """RUN018: every epoch trains on each training scene once, and scores each validation scene once, as they are stored."""
    data = trial.directory / "data"
    train, val = stored(data, "train"), stored(data, "val")
    epochs = watch_fit(trial)
    failures = []
    for number, epoch in enumerate(epochs):
        for what, expected, got in (
            ("trained on", train["both"], epoch.trained),
            ("evaluated", val["measured"], epoch.evaluated),
            ("scored", val["labels"], epoch.scored),
        ):
            problem = _compare(Counter(expected), got)
            if problem:
                evidence = {"expected": len(expected), "got": got.total(), "different": len(got)}
                failures.append(Result("RUN018", f"epoch {number}, scenes {what}", False, problem, evidence))
    if len(epochs) != EPOCHS:
        failures.append(Result("RUN018", "fit()", False, f"{len(epochs)} epochs were observed, expected {EPOCHS}", {}))
    shared = set(train["measured"]) & set(val["measured"])
    if shared:
        failures.append(Result("RUN018", "splits", False, f"{len(shared)} validation scenes are training scenes", {"shared": len(shared)}))
    message = f"{EPOCHS} epochs, {len(train['both'])} scenes trained on and {len(val['both'])} scored in each, all once"
    return failures or [Result("RUN018", "fit()", True, message, {"train": len(train["both"]), "val": len(val["both"])})]


def _compare(expected: Counter[Print], got: Counter[Print]) -> str:
    parts = list(_parts(expected, got))
    return ", ".join(parts)


def _parts(expected: Counter[Print], got: Counter[Print]) -> Iterator[str]:
    missing, foreign = (expected - got).total(), sum(count for key, count in got.items() if key not in expected)
    repeated = sum(count - expected[key] for key, count in got.items() if 0 < expected[key] < count)
    if missing:
        yield f"{missing} of {expected.total()} scenes were left out"
    if foreign:
        yield f"{foreign} were not those of the split as stored"
    if repeated:
        yield f"{repeated} were repeated"
