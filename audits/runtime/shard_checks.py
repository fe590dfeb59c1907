"""Checks of one shard at a time: labels, SNR, sample factors, finiteness. Everything is recomputed in NumPy from what is stored."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from audits.runtime import dense
from audits.runtime.watched import surface_of
from ris_pipeline.config import Config
from ris_pipeline.covariance import FactoredCovariance, build_effective_covariance

Arrays = Mapping[str, NDArray[Any]]
Verdict = tuple[str, str, dict[str, float | int | str | list[float]]]
"""Code, sentence, evidence of something wrong in a shard."""
CHUNK = 64
SNR_TOLERANCE_DB = 0.01
FACTOR_TOLERANCE = 1e-3
TRACE_TOLERANCE = 1e-5
NOISE_SIGMAS = 6.0
NOISE_ROUNDING = 1e-4
"""Single precision of what is stored, relative to noise at the highest SNR."""
LABEL_TOLERANCE = 1e-4


@dataclass
class Totals:
    """What is collected over the shards of a split."""

    scenes: int = 0
    k: Counter[int] = field(default_factory=Counter)
    at_ends: Counter[str] = field(default_factory=Counter)
    labels: Counter[str] = field(default_factory=Counter)
    worst: dict[str, float] = field(default_factory=dict)
    noise: float = 0.0
    measurements: int = 0

    def note(self, name: str, value: float) -> None:
        """Keep the largest value."""
        self.worst[name] = max(self.worst.get(name, -np.inf), value)


def check_shard(tensors: Arrays, config: Config, totals: Totals) -> Iterator[Verdict]:
    """Everything that is wrong in one shard."""
    broken = [name for name, values in tensors.items() if not np.isfinite(values).all()]
    for name in broken:
        scenes = np.unique(np.argwhere(~np.isfinite(tensors[name]))[:, 0])
        yield "DATA008", f"{name} holds values that are not finite in {len(scenes)} scenes", {"first scene": int(scenes[0])}
    totals.scenes += len(tensors["k"])
    totals.k.update(tensors["k"].tolist())
    yield from check_labels(tensors, config, totals)
    if broken:
        return
    for start in range(0, len(tensors["k"]), CHUNK):
        chunk = {name: values[start : start + CHUNK] for name, values in tensors.items()}
        yield from check_snr(chunk, config, totals, start)
        if "sample_factor" in chunk:
            yield from check_factors(chunk, config, totals, start)


def check_labels(tensors: Arrays, config: Config, totals: Totals) -> Iterator[Verdict]:
    """DATA004: intervals, empty slots, powers, codes."""
    scene = config.scene
    k = tensors["k"]
    occupied = np.arange(tensors["azimuth_rad"].shape[1]) < k[:, None]
    intervals = {
        "azimuth_rad": (-scene.azimuth_max_rad, scene.azimuth_max_rad, occupied),
        "elevation_rad": (-scene.elevation_max_rad, scene.elevation_max_rad, occupied),
        "range_m": (scene.range_min_m, scene.range_max_m, occupied),
        "snr_db": (scene.snr_min_db, scene.snr_max_db, np.ones(len(k), dtype=bool)),
        "k": (scene.k_min, scene.k_max, np.ones(len(k), dtype=bool)),
        "code_index": (0, 2**config.codes.bits - 1, np.ones(tensors["code_index"].shape, dtype=bool)),
    }
    for name, (low, high, where) in intervals.items():
        values = tensors[name][where].astype(np.float64)
        slack = 1e-6 * max(abs(low), abs(high))
        outside = int(((values < low - slack) | (values > high + slack)).sum())
        if outside:
            evidence: dict[str, float | int | str | list[float]] = {
                "expected": [low, high],
                "got": [float(values.min()), float(values.max())],
            }
            yield "DATA004", f"{name}: {outside} values outside {low:.6g}..{high:.6g}", evidence
        if name not in ("k", "code_index") and low < high:
            totals.labels[name] += len(values)
            totals.at_ends[name] += int((np.abs(values - low) <= slack).sum() + (np.abs(values - high) <= slack).sum())
    for name in ("azimuth_rad", "elevation_rad", "range_m", "power"):
        filled = int((tensors[name][~occupied] != 0).sum())
        if filled:
            yield "DATA004", f"{name}: {filled} empty slots are not zero", {"slots": filled}
    yield from _check_powers(tensors, config, occupied)


def _check_powers(tensors: Arrays, config: Config, occupied: NDArray[np.bool_]) -> Iterator[Verdict]:
    range_m = np.where(occupied, tensors["range_m"].astype(np.float64), 1.0)
    with np.errstate(all="ignore"):
        expected = np.where(occupied, np.abs(range_m) ** (-2.0 * (1.0 - config.scene.power_control)), 0.0)
        expected /= expected.sum(axis=1, keepdims=True)
    error = np.abs(tensors["power"] - expected)
    if not float(error.max()) <= LABEL_TOLERANCE:
        scenes = int((error.max(axis=1) > LABEL_TOLERANCE).sum())
        yield (
            "DATA004",
            f"power of {scenes} scenes is not r^(-2 (1 - power_control)), normalised",
            {"largest error": float(error.max())},
        )


def check_snr(chunk: Arrays, config: Config, totals: Totals, start: int) -> Iterator[Verdict]:
    """DATA005: clean power over noise variance is the stored SNR, and the noise has its variance."""
    occupied = np.arange(chunk["azimuth_rad"].shape[1]) < chunk["k"][:, None]
    position = [np.where(occupied, chunk[name].astype(np.float64), 1.0) for name in ("azimuth_rad", "elevation_rad", "range_m")]
    a = dense.steering(surface_of(config), *position) * np.where(occupied, np.sqrt(chunk["power"]), 0.0)[..., None]
    on_surface = np.einsum("blk,bkn->bln", chunk["symbols"].astype(np.complex128), a)
    clean = np.einsum("bln,bmn->blm", dense.codes(chunk["code_index"], config.codes.bits) * on_surface, chunk["channel"], optimize=True)
    noise_variance = chunk["noise_variance"].astype(np.float64)
    realised_db = 10.0 * np.log10((np.abs(clean) ** 2).mean(axis=(1, 2)) / noise_variance)
    error_db = np.abs(realised_db - chunk["snr_db"])
    totals.note("SNR error (dB)", float(error_db.max()))
    wrong = np.flatnonzero(~(error_db <= SNR_TOLERANCE_DB))
    if len(wrong):
        first = int(wrong[0])
        evidence: dict[str, float | int | str | list[float]] = {
            "scene": start + first, "stored (dB)": float(chunk["snr_db"][first]), "realised (dB)": float(realised_db[first]),
        }  # fmt: skip
        yield "DATA005", f"the stored SNR of {len(wrong)} scenes is not the realised one", evidence
    ratio = (np.abs(chunk["snapshots"] - clean) ** 2).mean(axis=(1, 2)) / noise_variance
    totals.noise += float(ratio.sum()) * clean[0].size
    totals.measurements += clean.size
    deviation = np.abs(ratio - 1.0) * np.sqrt(clean[0].size)  # the mean of n exponential variables has the deviation 1/sqrt(n)
    totals.note("noise deviation (standard deviations)", float(deviation.max()))
    noisy = np.flatnonzero(~(deviation <= NOISE_SIGMAS))
    if len(noisy):
        first = int(noisy[0])
        evidence = {"scene": start + first, "noise power over its variance": float(ratio[first])}
        yield "DATA005", f"the noise of {len(noisy)} scenes does not have the stored variance", evidence


def check_noise(totals: Totals) -> Iterator[Verdict]:
    """DATA005 over a whole split, where a deviation shows that a single scene is too small for."""
    if totals.measurements:
        mean = totals.noise / totals.measurements
        totals.note("noise deviation of the split (standard deviations)", abs(mean - 1.0) * np.sqrt(totals.measurements))
        if not abs(mean - 1.0) <= NOISE_SIGMAS / np.sqrt(totals.measurements) + NOISE_ROUNDING:
            evidence: dict[str, float | int | str | list[float]] = {
                "noise power over its variance": mean,
                "measurements": totals.measurements,
            }
            yield "DATA005", f"the noise has {mean:.4g} times its stored variance", evidence


def check_factors(chunk: Arrays, config: Config, totals: Totals, start: int) -> Iterator[Verdict]:
    """DATA006: sample factors are not zero, are the back-projection of the snapshots, and have trace N after the builder."""
    factor = chunk["sample_factor"]
    empty = np.flatnonzero(~np.abs(factor).any(axis=(1, 2)))
    if len(empty):
        yield "DATA006", f"the sample factor of {len(empty)} scenes is all zero", {"scene": start + int(empty[0])}
    code = dense.codes(chunk["code_index"], config.codes.bits)
    expected = dense.back_projected_factor(chunk["snapshots"], chunk["channel"], code, config.back_projection.ridge)
    error = np.linalg.norm(factor - expected, axis=(1, 2)) / np.linalg.norm(expected, axis=(1, 2))
    totals.note("sample factor error", float(error.max()))
    wrong = np.flatnonzero(~(error <= FACTOR_TOLERANCE))
    if len(wrong):
        evidence: dict[str, float | int | str | list[float]] = {
            "scene": start + int(wrong[0]),
            "relative error": float(error[wrong[0]]),
        }
        yield "DATA006", f"the sample factor of {len(wrong)} scenes is not the back-projection of its snapshots", evidence
    built = build_effective_covariance(FactoredCovariance.from_factor(torch.from_numpy(factor)))
    trace_error = float((built.trace() / built.n - 1.0).abs().max())
    totals.note("trace error after the builder", trace_error)
    if not trace_error <= TRACE_TOLERANCE:
        yield "DATA006", "a sample covariance does not have trace N after the builder", {"relative error": trace_error}
