"""The manifest of a data folder, and the random streams behind it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field, ValidationError

from ris_pipeline.config import Config, PositiveInt, Section, build_config, digest
from ris_pipeline.errors import DataError
from ris_pipeline.files import write_text

SCHEMA_VERSION = 1
GENERATOR_VERSION = 1
"""Raised whenever the same seeds would give other scenes."""
MANIFEST_NAME = "manifest.json"
SPLITS = ("train", "val", "test")


class ShardEntry(Section):
    """One shard file."""

    name: str
    scenes: PositiveInt
    sha256: str = Field(pattern="^[0-9a-f]{64}$")


class SplitEntry(Section):
    """One split; ``seed`` is the entropy of its stream."""

    scenes: PositiveInt
    seed: int
    files: tuple[ShardEntry, ...]


class Manifest(Section):
    """``manifest.json``: what was generated, from which configuration, in which files."""

    schema_version: Literal[1] = 1
    generator_version: int
    config: dict[str, Any]
    config_sha256: str
    snr_db: tuple[float, float]
    splits: dict[Literal["train", "val", "test"], SplitEntry]

    def sha256(self) -> str:
        """SHA-256 of the manifest's canonical JSON."""
        return digest(self.model_dump(mode="json"))

    def to_config(self) -> Config:
        """The configuration that the data were generated with; sections that do not concern data have their defaults."""
        return build_config(self.config, "the manifest")


@dataclass(frozen=True)
class ShardPlan:
    """A shard to be written: its place, size and random stream."""

    split: str
    index: int
    scenes: int
    seed: int

    @property
    def name(self) -> str:
        """File name."""
        return f"{self.split}-{self.index:05d}.safetensors"

    @property
    def stream(self) -> int:
        """Seed of the shard's own generator.

        torch's CPU generator reads only the low 32 bits of a seed, so these are made distinct by construction: two bits name the split,
        30 count the shards from a place that the split's seed chooses. The high bits are a child of the split's seed sequence.
        """
        low = SPLITS.index(self.split) << 30 | (self.seed + self.index) % (1 << 30)
        high = int(np.random.SeedSequence(self.seed, spawn_key=(self.index,)).generate_state(1, np.uint32)[0])
        return high << 32 | low


def split_seed(seed: int, split: str) -> int:
    """Entropy of a split's stream: a child of the data seed, 52 bits so that every JSON reader keeps it exact."""
    child = np.random.SeedSequence(seed, spawn_key=(SPLITS.index(split),))
    return int(child.generate_state(1, np.uint64)[0] >> np.uint64(12))


def plan_shards(config: Config) -> list[ShardPlan]:
    """All shards of a data set in order: train, val, test."""
    return [plan for split in SPLITS for plan in _split_plans(config, split)]


def split_sizes(config: Config) -> dict[str, int]:
    """Scenes per split."""
    return {"train": config.data.n_train, "val": config.data.n_val, "test": config.data.n_test}


def read_manifest(directory: Path) -> Manifest:
    """Read and check ``manifest.json``.

    Raises:
        DataError: the folder or the manifest is missing, is not JSON, has another schema, or contradicts its own hash or counts.
    """
    path = directory / MANIFEST_NAME
    if not directory.is_dir():
        raise DataError(f"expected a data folder, got {directory}, which is not a folder")
    if not path.is_file():
        raise DataError(f"{directory} holds no {MANIFEST_NAME}; run `ris generate --out {directory}` (again, if it was interrupted)")
    try:
        manifest = Manifest.model_validate_json(path.read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the file"
        raise DataError(f"{path} is not a manifest of schema {SCHEMA_VERSION}: {where}: {first['msg']}") from None
    if digest(manifest.config) != manifest.config_sha256:
        raise DataError(f"{path} does not match itself: its configuration does not have the recorded SHA-256")
    for name in SPLITS:
        if name not in manifest.splits:
            raise DataError(f"{path} has no split {name!r}; it has {', '.join(manifest.splits)}")
    if manifest.to_config().data_part() != manifest.config:
        raise DataError(f"{path} records a configuration with other keys than this version's; generate the data again")
    for name, split in manifest.splits.items():
        total = sum(entry.scenes for entry in split.files)
        if total != split.scenes:
            raise DataError(f"{path} does not match itself: split {name} records {split.scenes} scenes, its files hold {total}")
    return manifest


def write_manifest(directory: Path, config: Config, sha256: dict[str, str]) -> Manifest:
    """Write the manifest of a complete data set; ``sha256`` maps file names to checksums."""
    plans = plan_shards(config)
    splits = {
        split: SplitEntry(
            scenes=scenes,
            seed=split_seed(config.data.seed, split),
            files=tuple(ShardEntry(name=plan.name, scenes=plan.scenes, sha256=sha256[plan.name]) for plan in plans if plan.split == split),
        )
        for split, scenes in split_sizes(config).items()
    }
    manifest = Manifest.model_validate(
        {
            "generator_version": GENERATOR_VERSION,
            "config": config.data_part(),
            "config_sha256": digest(config.data_part()),
            "snr_db": (config.scene.snr_min_db, config.scene.snr_max_db),
            "splits": splits,
        }
    )
    write_text(directory / MANIFEST_NAME, json.dumps(manifest.model_dump(mode="json"), indent=1) + "\n")
    return manifest


def _split_plans(config: Config, split: str) -> Iterator[ShardPlan]:
    total, size = split_sizes(config)[split], config.data.shard_scenes
    for index, start in enumerate(range(0, total, size)):
        yield ShardPlan(split, index, min(size, total - start), split_seed(config.data.seed, split))
