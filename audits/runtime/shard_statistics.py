"""Whether labels fill their intervals, and channel, symbols and codes are as the model says: checks DATA009 and DATA010."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ris_pipeline.config import Config

BINS = 1000
SPREAD = 3.3
"""Kolmogorov's statistic sqrt(n) D exceeds this once in 10^9 times."""
SIGMAS = 6.0
Arrays = Mapping[str, NDArray[Any]]
Row = tuple[str, str, dict[str, float | int | str | list[float]]]


@dataclass
class Statistics:
    """Sums over all shards of a split."""

    bins: dict[str, NDArray[np.int64]] = field(default_factory=dict)
    channel: list[float] = field(default_factory=lambda: [0.0, 0.0])
    symbols: list[float] = field(default_factory=lambda: [0.0, 0.0])

    def add(self, tensors: Arrays, config: Config) -> None:
        """Count one shard."""
        scene, k = config.scene, tensors["k"]
        occupied = np.arange(tensors["azimuth_rad"].shape[1]) < k[:, None]
        for name, low, high, where in (
            ("azimuth_rad", -scene.azimuth_max_rad, scene.azimuth_max_rad, occupied),
            ("elevation_rad", -scene.elevation_max_rad, scene.elevation_max_rad, occupied),
            ("range_m", scene.range_min_m, scene.range_max_m, occupied),
            ("snr_db", scene.snr_min_db, scene.snr_max_db, np.ones(len(k), dtype=bool)),
        ):
            if low < high:
                values = np.clip(tensors[name][where].astype(np.float64), low, high)
                self.bins[name] = self.bins.get(name, 0) + np.histogram(values, BINS, (low, high))[0]
        power = np.abs(tensors["channel"].astype(np.complex128)) ** 2
        self.channel = [self.channel[0] + float(power.sum()), self.channel[1] + power.size]
        sent = np.abs(tensors["symbols"].astype(np.complex128)) ** 2
        drawn = int(k.sum()) * (1 if config.scene.symbols == "static" else sent.shape[1])
        repeats = int(k.sum()) * sent.shape[1] / drawn
        self.symbols = [self.symbols[0] + float(sent.sum()) / repeats, self.symbols[1] + drawn]

    def spread(self) -> Iterator[Row]:
        """DATA009: distance between the distribution of each label and the uniform one."""
        for name, bins in self.bins.items():
            count, share = int(bins.sum()), np.arange(1, BINS + 1) / BINS
            distance = float(np.abs(bins.cumsum() / max(count, 1) - share).max())
            statistic = math.sqrt(count) * max(0.0, distance - 1.0 / BINS)
            if statistic > SPREAD:
                filled = np.flatnonzero(bins)
                evidence: dict[str, float | int | str | list[float]] = {
                    "values": count,
                    "largest distance": distance,
                    "filled share of the interval": [filled[0] / BINS, (filled[-1] + 1) / BINS],
                }
                yield "DATA009", f"{name} is not uniform in its interval: the distributions differ by {distance:.2f}", evidence

    def power(self) -> Iterator[Row]:
        """DATA010: mean powers of channel and symbols."""
        for name, (total, count) in (("channel", self.channel), ("symbols", self.symbols)):
            mean = total / max(count, 1.0)
            if not abs(mean - 1.0) <= SIGMAS / math.sqrt(max(count, 1.0)):
                yield "DATA010", f"the mean power of the {name} is {mean:.4g}, expected 1", {"mean": mean, "values": count}


def check_symbols_and_codes(tensors: Arrays, config: Config) -> Iterator[Row]:
    """DATA010: symbols are fresh or not as configured, and each scene shows the beams that it should."""
    symbols, k = tensors["symbols"], tensors["k"]
    occupied = np.arange(symbols.shape[2]) < k[:, None]
    if (symbols * ~occupied[:, None, :] != 0).any():
        yield "DATA010", "sources that do not exist send symbols", {"slots": int((np.abs(symbols).sum(axis=1) * ~occupied > 0).sum())}
    repeated = (symbols[:, 1:] == symbols[:, :-1]).all(axis=1) & occupied
    wrong = int((repeated != (occupied & (config.scene.symbols == "static"))).sum()) if symbols.shape[1] > 1 else 0
    if wrong:
        yield "DATA010", f"{wrong} sources do not send {config.scene.symbols} symbols", {"sources": wrong}
    book = codebook(config)
    known = {row.tobytes() for row in book}
    foreign = sum(any(code.tobytes() not in known for code in scene) for scene in tensors["code_index"])
    if foreign:
        yield "DATA010", f"{foreign} scenes show codes that are no beam of the codebook", {"scenes": foreign}
        return
    beams = balanced_beams(config)
    if config.codes.selection == "balanced":
        expected = sorted(book[beam].tobytes() for beam in beams)
        unbalanced = sum(sorted(code.tobytes() for code in scene) != expected for scene in tensors["code_index"])
        if unbalanced:
            yield "DATA010", f"{unbalanced} scenes do not show the balanced beams", {"scenes": unbalanced}


def codebook(config: Config) -> NDArray[np.uint8]:
    """Phase indices of all beams, beam = jv beams_h + jh; the sum of both phases is quantised once."""
    array, codes = config.array, config.codes
    element = np.arange(array.n_elements)
    h, v = element % array.n_h - (array.n_h - 1) / 2, element // array.n_h - (array.n_v - 1) / 2
    levels = 2**codes.bits
    rows = [
        np.round(levels * (h * jh / array.n_h + v * jv / array.n_v)) % levels for jv in range(codes.beams_v) for jh in range(codes.beams_h)
    ]
    return np.stack(rows).astype(np.uint8)


def balanced_beams(config: Config) -> list[int]:
    """Beams jv beams_h + (jv + i beams_h/m) mod beams_h, i < m = L / beams_v."""
    codes = config.codes
    m = max(1, codes.snapshots // codes.beams_v)
    return [jv * codes.beams_h + (jv + i * (codes.beams_h // m)) % codes.beams_h for jv in range(codes.beams_v) for i in range(m)]
