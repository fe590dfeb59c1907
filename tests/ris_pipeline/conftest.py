"""A tiny data set and a tiny network, made once per run: 6 x 4 elements, 6 antennas, 8 snapshots, up to 3 sources."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch

from ris_pipeline.config import Config
from ris_pipeline.evaluation.evaluate import evaluate
from ris_pipeline.evaluation.localize import METHODS
from ris_pipeline.shards import Batch, MemoryScenes, generate, open_split, read_manifest
from ris_pipeline.training import FitResult, Trainer

SETTINGS = {
    "array": {"n_h": 6, "n_v": 4, "bs_antennas": 6},
    "scene": {"k_max": 3},
    "codes": {"beams_h": 4, "beams_v": 4, "snapshots": 8},
    "data": {"n_train": 256, "n_val": 64, "n_test": 64, "shard_scenes": 128},
    "model": {"channels": 16, "hidden": 32, "grid_azimuth": 12, "grid_elevation": 8, "grid_range": 2, "pursuit_maps": 2},
    "train": {"epochs": 2, "batch_size": 32, "device": "cpu"},
    "estimate": {"grid_azimuth_deg": 10.0, "grid_elevation_deg": 10.0, "grid_range": 3, "refine_steps": 5},
    "evaluate": {"bootstrap": 20, "batch_size": 16},
    "hpo": {"trials": 2, "epochs": 1, "subset_fraction": 0.25},
}


@dataclass(frozen=True)
class Run:
    """A finished training run."""

    folder: Path
    config: Config
    trainer: Trainer
    result: FitResult


@pytest.fixture(scope="session")
def tiny_settings():
    """The settings behind ``tiny_config``, as nested plain values."""
    return SETTINGS


@pytest.fixture(scope="session")
def tiny_config():
    """The configuration of everything tiny."""
    return Config().replaced(**SETTINGS)


@pytest.fixture(scope="session")
def tiny_data(tiny_config, tmp_path_factory):
    """A data folder of 256, 64 and 64 scenes in four shards that no test changes."""
    folder = tmp_path_factory.mktemp("tiny") / "data"
    generate(tiny_config, folder)
    return folder


@pytest.fixture(scope="session")
def tiny_manifest(tiny_data):
    """Its manifest."""
    return read_manifest(tiny_data)


@pytest.fixture(scope="session")
def tiny_batch(tiny_data, tiny_manifest):
    """Twelve test scenes."""
    return open_split(tiny_data, tiny_manifest, "test").batch(torch.arange(12))


@pytest.fixture(scope="session")
def few(tiny_data, tiny_manifest):
    """64 training and 32 validation scenes in memory."""
    return tuple(
        open_split(tiny_data, tiny_manifest, split, count=count, storage="memory") for split, count in (("train", 64), ("val", 32))
    )


@pytest.fixture(scope="session")
def few_without_sample(few):
    """The same scenes as shards hold them when ``data.store_sample`` is off."""

    def stripped(scenes):
        batch = scenes.batch(torch.arange(len(scenes)))
        return MemoryScenes(Batch(replace(batch.measurements, sample_factor=None), batch.sources, batch.symbols))

    return tuple(stripped(scenes) for scenes in few)


@pytest.fixture(scope="session")
def tiny_run(tiny_config, few, tmp_path_factory):
    """Two epochs on the few scenes, with a run folder."""
    folder = tmp_path_factory.mktemp("tiny") / "run"
    trainer = Trainer(tiny_config, *few, folder)
    return Run(folder, tiny_config, trainer, trainer.fit())


@pytest.fixture(scope="session")
def tiny_test(tiny_data, tiny_manifest):
    """40 test scenes."""
    return open_split(tiny_data, tiny_manifest, "test", count=40, storage="memory")


@pytest.fixture(scope="session")
def tiny_document(tiny_test, tiny_run):
    """The evaluation of every method on the 40 test scenes."""
    return evaluate(tiny_test, tiny_run.config, METHODS, tiny_run.trainer.model)
