"""`python -m audits data DIR`: what a data folder really holds."""

from __future__ import annotations

import argparse
import hashlib
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from audits.runtime import command
from audits.runtime.report import Report, Result, environment
from audits.runtime.shard_checks import Totals, check_noise, check_shard
from audits.runtime.shard_statistics import Statistics, check_symbols_and_codes
from ris_pipeline.config import Config
from ris_pipeline.errors import DataError
from ris_pipeline.shards import Manifest, read_manifest

PREFIX = "DATA"
K_SIGMAS = 6.0
Arrays = dict[str, NDArray[Any]]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    options = command.parser(" data", "Audit the shards of a data folder.")
    options.add_argument("directory", type=Path, nargs="?", metavar="DIR", help="the data folder")
    return command.run(options, argv, PREFIX, _audit_of)


def _audit_of(chosen: argparse.Namespace) -> Report:
    if chosen.directory is None:
        raise DataError("expected a data folder: python -m audits data DIR")
    wanted = command.selected(chosen.select, PREFIX)
    report = audit(chosen.directory)
    report.results = [result for result in report.results if result.code in wanted]
    return report


@dataclass
class _Audit:
    """The state of one audit: findings so far, hashes of all scenes, totals by split."""

    directory: Path
    manifest: Manifest
    config: Config
    failures: list[Result] = field(default_factory=list)
    scenes: dict[str, dict[bytes, str]] = field(default_factory=lambda: {"positions": {}, "channel": {}})
    totals: dict[str, Totals] = field(default_factory=dict)
    statistics: dict[str, Statistics] = field(default_factory=dict)
    shards: int = 0

    def fail(self, code: str, subject: str, message: str, **evidence: object) -> None:
        self.failures.append(Result(code, subject, False, message, evidence))


def audit(directory: Path) -> Report:
    """Every check of a data folder."""
    started = time.perf_counter()
    manifest = read_manifest(directory)
    state = _Audit(directory, manifest, manifest.to_config())
    _check_counts(state)
    for split, entry in manifest.splits.items():
        state.totals[split], state.statistics[split] = Totals(), Statistics()
        for shard in entry.files:
            _check_file(state, split, shard.name, shard.scenes, shard.sha256)
        _check_spread(state, split)
        _check_statistics(state, split)
    report = Report("data", [*state.failures, *_passed(state)])
    report.results.sort(key=lambda result: result.code)
    report.facts = _facts(state)
    report.timings_s["data"] = time.perf_counter() - started
    return report


def _check_counts(state: _Audit) -> None:
    data, manifest = state.config.data, state.manifest
    for split, expected in (("train", data.n_train), ("val", data.n_val), ("test", data.n_test)):
        entry = {str(name): value for name, value in manifest.splits.items()}.get(split)
        if entry is None or entry.scenes != expected:
            got = 0 if entry is None else entry.scenes
            state.fail("DATA001", split, f"expected {expected} scenes, the manifest has {got}", expected=expected, got=got)
    seeds = {str(name): entry.seed for name, entry in manifest.splits.items()}
    if len(set(seeds.values())) != len(seeds):
        state.fail("DATA003", "seeds", "two splits have the same seed", seeds=seeds)


def _check_file(state: _Audit, split: str, name: str, scenes: int, sha256: str) -> None:
    path = state.directory / name
    if not path.is_file():
        state.fail("DATA001", name, "the shard is missing", expected=scenes)
        return
    with path.open("rb") as stream:
        got = hashlib.file_digest(stream, "sha256").hexdigest()
    if got != sha256:
        state.fail("DATA002", name, "the file is not the one that the manifest describes", expected=sha256, got=got)
    tensors = _read(state, path)
    if tensors is None or not _shapes_fit(state, name, tensors, scenes):
        return
    state.shards += 1
    _check_shared(state, name, tensors)
    for code, message, evidence in check_shard(tensors, state.config, state.totals[split]):
        state.fail(code, name, message, **evidence)
    for code, message, evidence in check_symbols_and_codes(tensors, state.config):
        state.fail(code, name, message, **evidence)
    state.statistics[split].add(tensors, state.config)


def _read(state: _Audit, path: Path) -> Arrays | None:
    """Every tensor of a shard, as it is stored; the library's reader would refuse what is to be reported."""
    try:
        with safe_open(path, framework="np") as shard:
            return {name: shard.get_tensor(name) for name in shard.keys()}  # noqa: SIM118 - not a mapping
    except (SafetensorError, OSError, TypeError, ValueError) as error:
        state.fail("DATA001", path.name, f"the shard cannot be read: {error}")
        return None


def _shapes_fit(state: _Audit, name: str, tensors: Arrays, scenes: int) -> bool:
    expected = _shapes(state.config, scenes)
    fine = True
    for key in sorted(expected.keys() | tensors.keys()):
        want, got = expected.get(key), tensors.get(key)
        kind = None if got is None else (got.dtype.name, got.shape)
        if want != kind:
            state.fail("DATA001", name, f"{key}: expected {want}, got {kind}")
            fine = False
    return fine


def _shapes(config: Config, scenes: int) -> dict[str, tuple[str, tuple[int, ...]]]:
    length, antennas, n, slots = config.codes.snapshots, config.array.bs_antennas, config.array.n_elements, config.scene.k_max
    label = ("float32", (scenes, slots))
    shapes: dict[str, tuple[str, tuple[int, ...]]] = {
        "snapshots": ("complex64", (scenes, length, antennas)), "channel": ("complex64", (scenes, antennas, n)),
        "code_index": ("uint8", (scenes, length, n)), "symbols": ("complex64", (scenes, length, slots)),
        "azimuth_rad": label, "elevation_rad": label, "range_m": label, "power": label,
        "k": ("int64", (scenes,)), "snr_db": ("float32", (scenes,)), "noise_variance": ("float32", (scenes,)),
    }  # fmt: skip
    if config.data.store_sample:
        shapes["sample_factor"] = ("complex64", (scenes, n, length))
    return shapes


def _check_shared(state: _Audit, name: str, tensors: Arrays) -> None:
    columns = [np.ascontiguousarray(tensors[key]) for key in ("azimuth_rad", "elevation_rad", "range_m")]
    channel = np.ascontiguousarray(tensors["channel"])
    for scene in range(len(channel)):
        place = f"{name}[{scene}]"
        prints = {"positions": b"".join(column[scene].tobytes() for column in columns), "channel": channel[scene].tobytes()}
        for kind, content in prints.items():
            other = state.scenes[kind].setdefault(hashlib.blake2b(content, digest_size=16).digest(), place)
            if other != place:
                state.fail("DATA003", place, f"has the same {kind} as {other}", other=other)


def _check_spread(state: _Audit, split: str) -> None:
    totals, scene = state.totals[split], state.config.scene
    values = range(scene.k_min, scene.k_max + 1)
    share = 1.0 / len(values)
    deviation = math.sqrt(max(totals.scenes * share * (1.0 - share), 1e-12))
    for k in values:
        sigmas = abs(totals.k[k] - totals.scenes * share) / deviation
        if len(values) > 1 and sigmas > K_SIGMAS:
            message = f"K = {k} occurs {totals.k[k]} times in {totals.scenes} scenes, expected {totals.scenes * share:.0f}"
            state.fail("DATA007", split, message, histogram=dict(sorted(totals.k.items())), sigmas=sigmas)
    for name, at_ends in totals.at_ends.items():
        if at_ends > 2 + 0.001 * totals.labels[name]:
            message = f"{name}: {at_ends} of {totals.labels[name]} values lie at an end of the interval, as clipping would make them"
            state.fail("DATA004", split, message, at_ends=at_ends)


def _check_statistics(state: _Audit, split: str) -> None:
    statistics = state.statistics[split]
    if state.totals[split].scenes:
        for code, message, evidence in (*check_noise(state.totals[split]), *statistics.spread(), *statistics.power()):
            state.fail(code, split, message, **evidence)


def _passed(state: _Audit) -> list[Result]:
    failed = {result.code for result in state.failures}
    scenes = sum(totals.scenes for totals in state.totals.values())
    worst = {split: totals.worst for split, totals in state.totals.items()}
    histogram = {split: dict(sorted(totals.k.items())) for split, totals in state.totals.items()}
    sampled = state.config.data.store_sample

    def largest(name: str) -> float:
        return max((values.get(name, 0.0) for values in worst.values()), default=0.0)

    messages: dict[str, tuple[str, Callable[[], object]]] = {
        "DATA001": (f"{scenes} scenes in {state.shards} shards, as the manifest says", lambda: state.shards),
        "DATA002": (f"{state.shards} checksums agree", lambda: state.shards),
        "DATA003": (f"{len(state.scenes['channel'])} different scenes", lambda: len(state.scenes["channel"])),
        "DATA004": ("labels are in their intervals", lambda: {s: dict(t.labels) for s, t in state.totals.items()}),
        "DATA005": (f"largest error {largest('SNR error (dB)'):.1e} dB", lambda: worst),
        "DATA006": (
            f"largest error {largest('sample factor error'):.1e}" if sampled else "no sample factors are stored",
            lambda: worst,
        ),
        "DATA007": (f"K: {histogram}", lambda: histogram),
        "DATA008": ("all values are finite", lambda: scenes),
        "DATA009": ("labels fill their intervals evenly", lambda: {s: list(t.bins) for s, t in state.statistics.items()}),
        "DATA010": (
            "channel, symbols and codes are as the model says",
            lambda: {s: {"channel": t.channel, "symbols": t.symbols} for s, t in state.statistics.items()},
        ),
    }
    return [Result(code, "all splits", True, message, {"seen": seen()}) for code, (message, seen) in messages.items() if code not in failed]


def _facts(state: _Audit) -> dict[str, object]:
    scenes = {str(split): totals.scenes for split, totals in state.totals.items()}
    return {"scenes": scenes, "manifest": state.manifest.sha256(), "environment": environment()}
