"""Reading shards: memory-mapped, or kept whole on a device.

Axes: S scenes of a shard, B scenes of a batch, K source slots, L snapshots, M antennas, N elements.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal, Protocol, runtime_checkable

import torch
from jaxtyping import Complex, Int
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ris_pipeline.arrays import Sources
from ris_pipeline.config import Config
from ris_pipeline.errors import DataError
from ris_pipeline.shards.manifest import Manifest, ShardEntry
from ris_pipeline.simulation import Measurements

_DTYPES = {
    "snapshots": "C64", "channel": "C64", "code_index": "U8", "symbols": "C64", "sample_factor": "C64", "azimuth_rad": "F32",
    "elevation_rad": "F32", "range_m": "F32", "power": "F32", "k": "I64", "snr_db": "F32", "noise_variance": "F32",
}  # fmt: skip


@dataclass(frozen=True)
class Batch:
    """Scenes for training and scoring: measurements, the truth beside them, and the symbols that were sent."""

    measurements: Measurements
    sources: Sources
    symbols: Complex[Tensor, "B L K"]

    def to(self, device: torch.device) -> Batch:
        """Move to a device."""
        return Batch(self.measurements.to(device), self.sources.to(device), self.symbols.to(device))

    def __len__(self) -> int:
        return len(self.measurements)


@runtime_checkable
class Scenes(Protocol):
    """A split whose scenes can be taken by index."""

    def __len__(self) -> int: ...

    def batch(self, index: Int[Tensor, " B"]) -> Batch:
        """The scenes at ``index``, on the split's device."""
        ...


def file_sha256(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@dataclass(frozen=True)
class Header:
    """Header of a safetensors file: dtype and shape of each tensor, and the metadata."""

    tensors: dict[str, tuple[str, tuple[int, ...]]]
    metadata: dict[str, str]


def read_header(path: Path) -> Header:
    """Read a shard's header and check that the file is as long as the header says.

    Raises:
        DataError: the file is missing, truncated or not a safetensors file.
    """
    if not path.is_file():
        raise DataError(f"shard {path} is missing")
    size = path.stat().st_size
    with path.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        if size < 8 or length > size - 8:
            raise DataError(f"{path} is truncated or not a safetensors file: {size} bytes are too few for its header")
        try:
            raw = json.loads(stream.read(length))
            metadata = raw.pop("__metadata__", {})
            tensors = {name: (entry["dtype"], tuple(entry["shape"])) for name, entry in raw.items()}
            end = max((entry["data_offsets"][1] for entry in raw.values()), default=0)
        except (ValueError, KeyError, TypeError, AttributeError, IndexError):
            raise DataError(f"{path} is not a safetensors file: its header cannot be read") from None
    if size != 8 + length + end:
        raise DataError(f"{path} is truncated: expected {8 + length + end} bytes, got {size}")
    return Header(tensors, metadata)


class MappedScenes:
    """The first ``count`` scenes of a split, read through memory maps: a batch touches only the pages of its own scenes."""

    def __init__(self, directory: Path, manifest: Manifest, split: Literal["train", "val", "test"], count: int) -> None:
        entries = manifest.splits[split].files
        starts = torch.tensor([0, *(entry.scenes for entry in entries)]).cumsum(0)
        needed = int((starts[:-1] < count).sum())
        self._paths = [directory / entry.name for entry in entries[:needed]]
        for path, entry in zip(self._paths, entries, strict=False):
            _check_shard(path, entry, manifest, split)
        self._starts = starts[: needed + 1]
        self._count = count

    def __len__(self) -> int:
        return self._count

    @cached_property
    def _shards(self) -> list[dict[str, Tensor]]:
        return [_map_tensors(path) for path in self._paths]

    def verify_checksums(self, entries: Sequence[ShardEntry]) -> None:
        """Read every shard whole and compare its SHA-256 with the manifest's.

        Raises:
            DataError: a shard is damaged.
        """
        for path, entry in zip(self._paths, entries, strict=False):
            if file_sha256(path) != entry.sha256:
                raise DataError(f"{path} is damaged: its SHA-256 is not the manifest's")

    def batch(self, index: Int[Tensor, " B"]) -> Batch:
        """The scenes at ``index``, on the CPU.

        Raises:
            DataError: a scene holds values that are not finite, or an all-zero sample factor.
        """
        shard = torch.searchsorted(self._starts, index, right=True) - 1
        order = torch.argsort(shard, stable=True)
        parts = []
        for number in shard.unique().tolist():
            rows = index[order][shard[order] == number] - self._starts[number]
            parts.append({name: tensor[rows] for name, tensor in self._shards[number].items()})
            _check_values(parts[-1], self._paths[number], rows)
        back = torch.argsort(order)
        return to_batch({name: torch.cat([part[name] for part in parts])[back] for name in parts[0]})


class MemoryScenes:
    """A split kept whole on a device."""

    def __init__(self, scenes: Batch) -> None:
        self._scenes = scenes

    def __len__(self) -> int:
        return len(self._scenes)

    def batch(self, index: Int[Tensor, " B"]) -> Batch:
        """The scenes at ``index``."""
        rows = index.to(self._scenes.symbols.device)
        return Batch(self._scenes.measurements[rows], self._scenes.sources[rows], self._scenes.symbols[rows])


def open_split(
    directory: Path,
    manifest: Manifest,
    split: Literal["train", "val", "test"],
    *,
    count: int | None = None,
    storage: Literal["memory", "mmap"] = "mmap",
    device: torch.device | str = "cpu",
) -> MappedScenes | MemoryScenes:
    """Open a split, or its first ``count`` scenes. Checksums are verified when the scenes are read whole, into memory.

    Raises:
        DataError: the manifest has no such split, a shard is missing, truncated, foreign or damaged, or fewer scenes are there than
            asked for.
    """
    entry = manifest.splits[split]
    wanted = entry.scenes if count is None else count
    if wanted < 1:
        raise DataError(f"expected to take at least one scene of split {split!r}, got {wanted}")
    if wanted > entry.scenes:
        raise DataError(f"expected at least {wanted} scenes in split {split!r} of {directory}, got {entry.scenes}")
    mapped = MappedScenes(directory, manifest, split, wanted)
    if storage == "mmap":
        return mapped
    scenes = mapped.batch(torch.arange(wanted))
    # Last, because a value that is not finite is named more helpfully than a checksum.
    mapped.verify_checksums(entry.files)
    return MemoryScenes(scenes.to(torch.device(device)))


def available_scenes(directory: Path, manifest: Manifest, split: Literal["train", "val", "test"]) -> int:
    """Scenes in the leading shards of a split that are really there: what a subset can be taken from."""
    files = itertools.takewhile(lambda entry: (directory / entry.name).is_file(), manifest.splits[split].files)
    return sum(entry.scenes for entry in files)


def to_batch(tensors: dict[str, Tensor]) -> Batch:
    """Group the tensors of shards into what the receiver knows and the truth."""
    measurements = Measurements(
        tensors["snapshots"], tensors["channel"], tensors["code_index"], tensors["snr_db"], tensors["noise_variance"],
        tensors.get("sample_factor"),
    )  # fmt: skip
    sources = Sources(tensors["azimuth_rad"], tensors["elevation_rad"], tensors["range_m"], tensors["power"], tensors["k"])
    return Batch(measurements, sources, tensors["symbols"])


def _map_tensors(path: Path) -> dict[str, Tensor]:
    try:
        with safe_open(path, framework="pt") as shard:
            return {name: shard.get_tensor(name) for name in shard.keys()}  # noqa: SIM118 - not a mapping
    except SafetensorError as error:
        raise DataError(f"{path} is not a readable safetensors file: {error}") from None


def _expected_shapes(scenes: int, config: Config) -> dict[str, tuple[int, ...]]:
    length, antennas, n, k_max = config.codes.snapshots, config.array.bs_antennas, config.array.n_elements, config.scene.k_max
    shapes = {
        "snapshots": (scenes, length, antennas), "channel": (scenes, antennas, n), "code_index": (scenes, length, n),
        "symbols": (scenes, length, k_max), "sample_factor": (scenes, n, length), "azimuth_rad": (scenes, k_max),
        "elevation_rad": (scenes, k_max), "range_m": (scenes, k_max), "power": (scenes, k_max), "k": (scenes,), "snr_db": (scenes,),
        "noise_variance": (scenes,),
    }  # fmt: skip
    if not config.data.store_sample:
        del shapes["sample_factor"]
    return shapes


def shard_metadata(config_sha256: str, generator_version: int, split: str, index: int) -> dict[str, str]:
    """What a shard says of itself, under a single key: several keys would be written in an arbitrary order."""
    identity = {"config_sha256": config_sha256, "generator_version": generator_version, "split": split, "index": index}
    return {"shard": json.dumps(identity, sort_keys=True)}


def _check_shard(path: Path, entry: ShardEntry, manifest: Manifest, split: Literal["train", "val", "test"]) -> None:
    header = read_header(path)
    index = manifest.splits[split].files.index(entry)
    if header.metadata != shard_metadata(manifest.config_sha256, manifest.generator_version, split, index):
        raise DataError(f"{path} is foreign: it is not shard {index} of split {split!r} of the manifest's data set")
    expected = {name: (_DTYPES[name], shape) for name, shape in _expected_shapes(entry.scenes, manifest.to_config()).items()}
    for name, kind in expected.items():
        if header.tensors.get(name) != kind:
            raise DataError(f"{path} does not match the manifest: expected {name} of {kind}, got {header.tensors.get(name)}")


def _check_values(tensors: dict[str, Tensor], path: Path, rows: Tensor) -> None:
    for name, tensor in tensors.items():
        bad = ~torch.isfinite(tensor).reshape(len(rows), -1).all(dim=1)
        if bad.any():
            raise DataError(f"{path}: {name} of scene {int(rows[bad][0])} is not finite")
    factor = tensors.get("sample_factor")
    if factor is not None:
        empty = ~factor.flatten(1).any(dim=1)
        if empty.any():
            raise DataError(f"{path}: the sample factor of scene {int(rows[empty][0])} is all zero")
