"""Small runs of the planted package: what shows that a planted line is executed."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

SETTINGS: dict[str, dict[str, Any]] = {
    "array": {"n_h": 4, "n_v": 3, "bs_antennas": 4},
    "scene": {"k_max": 2},
    "codes": {"beams_h": 4, "beams_v": 4, "snapshots": 4},
    "data": {"n_train": 32, "n_val": 16, "n_test": 16, "shard_scenes": 16},
    "model": {"channels": 16, "hidden": 16, "grid_azimuth": 8, "grid_elevation": 8, "grid_range": 2, "pursuit_maps": 2},
    "train": {"epochs": 2, "batch_size": 16, "device": "cpu", "log_every": 1},
    "estimate": {"grid_azimuth_deg": 20.0, "grid_elevation_deg": 20.0, "grid_range": 2, "refine_steps": 2},
    "hpo": {"trials": 1, "epochs": 1, "subset_fraction": 0.5},
}


def step(data: Path, work: Path) -> None:
    """One training step."""
    import torch

    trainer = _trainer(data, None)
    trainer.model.train()
    trainer.train_step(trainer.train.batch(torch.arange(16)))


def fit(data: Path, work: Path) -> None:
    """Two epochs with a run folder."""
    _trainer(data, work / "run").fit()


def loss_fit(data: Path, work: Path) -> None:
    """The same, selected by the loss."""
    _trainer(data, work / "run", train={"val_primary": "loss"}).fit()


def generate(data: Path, work: Path) -> None:
    """A data folder."""
    from ris_pipeline.shards import generate as write

    write(_config(), work / "data")


def simulate(data: Path, work: Path) -> None:
    """A few scenes in memory."""
    import torch

    from ris_pipeline.simulation import simulate as draw

    draw(_config(), 4, torch.Generator().manual_seed(0))


def music(data: Path, work: Path) -> None:
    """MUSIC on a few scenes."""
    import torch

    from ris_pipeline.evaluation.localize import localize

    localize(_split(data, "test").batch(torch.arange(2)).measurements, _config(), "music")


def objective(data: Path, work: Path) -> None:
    """One trial."""
    import optuna

    from ris_pipeline.hpo import objective as run
    from ris_pipeline.shards import read_manifest

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    trial = optuna.create_study(direction="minimize", sampler=optuna.samplers.RandomSampler(seed=0)).ask()
    run(trial, _config(), data, read_manifest(data))


def study(data: Path, work: Path) -> None:
    """A study of one trial."""
    import optuna

    from ris_pipeline.hpo import run_study
    from ris_pipeline.shards import read_manifest

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    run_study(_config(), data, read_manifest(data), work / "study", storage=f"sqlite:///{work / 'study.db'}")


def importing(data: Path, work: Path) -> None:
    """Every module of the package."""
    import importlib
    import pkgutil

    import ris_pipeline

    for module in pkgutil.walk_packages(ris_pipeline.__path__, "ris_pipeline."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)


SCENARIOS: dict[str, Callable[[Path, Path], None]] = {
    "step": step, "fit": fit, "loss fit": loss_fit, "data": simulate, "generate": generate, "music": music, "objective": objective,
    "study": study, "import": importing,
}  # fmt: skip


def _config(**sections: Any) -> Any:
    from ris_pipeline.config import Config

    return Config().replaced(**SETTINGS).replaced(**sections)


def _split(data: Path, name: str) -> Any:
    from ris_pipeline.shards import open_split, read_manifest

    return open_split(data, read_manifest(data), name, storage="memory")


def _trainer(data: Path, run: Path | None, **sections: Any) -> Any:
    from ris_pipeline.training import Trainer

    if run is not None:
        shutil.rmtree(run, ignore_errors=True)
    return Trainer(_config(**sections), _split(data, "train"), _split(data, "val"), run)
