"""State of an unfinished run: weights, optimizer moments and bookkeeping in one safetensors file."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ris_pipeline.config import Config
from ris_pipeline.errors import CheckpointError
from ris_pipeline.model.network import HybridModel
from ris_pipeline.model.weights import load_state, load_tensors, save_tensors

LAST_NAME = "last.safetensors"
_FREE = {("train", "device"), ("train", "storage"), ("train", "log_every"), ("train", "compile")}


@dataclass
class RunState:
    """Where a run stands. ``best_objective`` is the lowest objective so far, infinite before the first epoch."""

    epoch: int = 0
    step: int = 0
    best_objective: float = float("inf")
    best_epoch: int = -1
    history: list[dict[str, Any]] = field(default_factory=list)


def save_last(path: Path, model: HybridModel, optimizer: torch.optim.Optimizer, state: RunState, config: Config) -> None:
    """Write everything that continuing the run needs, atomically."""
    tensors = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    for index, values in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{name}": torch.as_tensor(value) for name, value in values.items()}
    save_tensors(path, tensors, {"state": asdict(state), "config": config.model_dump(mode="json")})


def load_last(path: Path, model: HybridModel, optimizer: torch.optim.Optimizer, config: Config) -> RunState:
    """Restore a run into ``model`` and ``optimizer``.

    Raises:
        CheckpointError: there is nothing to resume, the file is damaged, or the run had another configuration.
    """
    if not path.is_file():
        raise CheckpointError(f"nothing to resume: expected {path}")
    tensors, record = load_tensors(path)
    _check_same_training(path, record.get("config"), config.model_dump(mode="json"))
    load_state(model, {n.removeprefix("model."): t for n, t in tensors.items() if n.startswith("model.")}, path)
    moments: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        if name.startswith("optimizer."):
            _, index, key = name.split(".")
            moments.setdefault(int(index), {})[key] = tensor
    optimizer.load_state_dict({"state": moments, "param_groups": optimizer.state_dict()["param_groups"]})
    return RunState(**record["state"])


def _check_same_training(path: Path, stored: Any, wanted: dict[str, Any]) -> None:
    """Settings that change no weight may differ between the parts of a run; the number of epochs shapes the schedule and may not."""
    for section, values in wanted.items():
        if section in {"evaluate", "hpo"}:
            continue
        for key, value in values.items():
            old = stored.get(section, {}).get(key) if isinstance(stored, dict) else None
            if old != value and (section, key) not in _FREE:
                raise CheckpointError(f"{path} was trained with another configuration: {section}.{key} was {old}, is now {value}")
