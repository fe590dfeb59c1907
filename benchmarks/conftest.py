"""What every benchmark shares: versions and hardware in the record, and one small data set."""

from __future__ import annotations

import platform

import numpy as np
import pytest
import torch

from ris_pipeline.config import build_config
from ris_pipeline.shards import generate, open_split


def pytest_benchmark_update_machine_info(config, machine_info):
    """Name the versions and devices behind a result, but not the host."""
    for name in ("node", "release"):
        machine_info.pop(name, None)
    machine_info["versions"] = {"python": platform.python_version(), "torch": torch.__version__, "numpy": np.__version__}
    machine_info["torch_threads"] = torch.get_num_threads()
    machine_info["cuda_device"] = torch.cuda.get_device_name() if torch.cuda.is_available() else None


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    """Configuration, folder and manifest of 2 048 training scenes of the default scene."""
    config = build_config({"data": {"n_train": 2048, "n_val": 128, "n_test": 128, "shard_scenes": 1024}})
    directory = tmp_path_factory.mktemp("bench") / "data"
    return config, directory, generate(config, directory)


@pytest.fixture(scope="session")
def batch(data):
    """The first 128 training scenes, in memory."""
    _, directory, manifest = data
    return open_split(directory, manifest, "train", count=128, storage="memory").batch(torch.arange(128))
