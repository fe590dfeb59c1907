"""Weights on disk: one safetensors file that also carries its configuration, and a JSON file beside it for people. Never pickle."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ris_pipeline.config import Config, build_config
from ris_pipeline.errors import CheckpointError
from ris_pipeline.model.network import HybridModel

ARCHITECTURE = "hybrid-2"
"""Raised whenever weights of one version do not fit the network of another, its features included."""
BEST_NAME = "best.safetensors"


@dataclass(frozen=True)
class Checkpoint:
    """A loaded network, the configuration it was trained with, and what was recorded beside the weights."""

    model: HybridModel
    config: Config
    record: dict[str, Any]
    path: Path

    def network_for(self, config: Config, where: str, device: torch.device | str = "cpu") -> HybridModel:
        """The network with the covariance options of ``config``; everything else stays as it was trained.

        Raises:
            CheckpointError: the weights were trained for another surface, code set or number of sources than ``config`` asks for.
        """
        _check_same_physics(self, config, where)
        model = HybridModel(self.config.replaced(covariance=config.covariance.model_dump(mode="json")))
        model.load_state_dict(self.model.state_dict(), strict=True)
        return model.to(device).eval()


def save_tensors(path: Path, tensors: Mapping[str, Tensor], record: Mapping[str, Any]) -> None:
    """Write tensors and a JSON record into one safetensors file, atomically, and the record beside it as readable JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    plain = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    save_file(plain, temporary, {"record": json.dumps(record)})
    temporary.replace(path)
    readable = path.with_suffix(".json.tmp")
    readable.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    readable.replace(path.with_suffix(".json"))


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read what :func:`save_tensors` wrote.

    Raises:
        CheckpointError: the file is missing, damaged or not one of ours.
    """
    if not path.is_file():
        raise CheckpointError(f"expected a checkpoint, got {path}, which is not a file")
    try:
        with safe_open(path, framework="pt") as stored:
            metadata = stored.metadata() or {}
            tensors = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118 - not a mapping
    except SafetensorError as error:
        raise CheckpointError(f"{path} is damaged or not a safetensors file: {error}") from None
    try:
        record = json.loads(metadata.get("record", "null"))
    except ValueError:
        raise CheckpointError(f"{path} is not a checkpoint of this program: it carries no record") from None
    if not isinstance(record, dict):
        raise CheckpointError(f"{path} is not a checkpoint of this program: it carries no record")
    return tensors, record


def save_model(path: Path, model: HybridModel, config: Config, record: Mapping[str, Any]) -> None:
    """Write a network's weights with its configuration and ``record``."""
    full = {"architecture": ARCHITECTURE, "config": config.model_dump(mode="json"), **record}
    save_tensors(path, model.state_dict(), full)


def load_model(path: Path, device: torch.device | str = "cpu") -> Checkpoint:
    """Load a network in evaluation mode.

    Args:
        path: a weights file, a run folder that holds ``best.safetensors``, or ``default`` for the weights of the package.
        device: where to put the network.

    Raises:
        CheckpointError: the file is missing, damaged, or belongs to another architecture.
    """
    if str(path) == "default":
        with as_file(files("ris_pipeline") / "weights" / "default.safetensors") as packaged:
            return load_model(packaged, device)
    file = path / BEST_NAME if path.is_dir() else path
    tensors, record = load_tensors(file)
    if record.get("architecture") != ARCHITECTURE:
        raise CheckpointError(f"{file} has architecture {record.get('architecture')!r}, expected {ARCHITECTURE!r}")
    config = build_config(record.get("config", {}), str(file))
    model = HybridModel(config)
    load_state(model, tensors, file)
    return Checkpoint(model.to(device).eval(), config, record, file)


def load_state(model: HybridModel, tensors: Mapping[str, Tensor], file: Path) -> None:
    """Load weights by name; every name and shape must agree.

    Raises:
        CheckpointError: a tensor is missing, superfluous, not finite, or of another shape.
    """
    expected = model.state_dict()
    for name in sorted(expected.keys() | tensors.keys()):
        want, got = expected.get(name), tensors.get(name)
        if want is None or got is None or want.shape != got.shape:
            shapes = [None if tensor is None else tuple(tensor.shape) for tensor in (want, got)]
            raise CheckpointError(f"{file} is of another architecture: expected {name} of shape {shapes[0]}, got {shapes[1]}")
        if not torch.isfinite(got).all():
            raise CheckpointError(f"{file} is damaged: {name} is not finite")
    model.load_state_dict(dict(tensors), strict=True)


def _check_same_physics(checkpoint: Checkpoint, config: Config, where: str) -> None:
    trained, wanted = checkpoint.config, config
    pairs = [
        *((f"{section}.{key}", getattr(getattr(trained, section), key), value)
          for section in ("array", "codes") for key, value in getattr(wanted, section)),
        ("scene.k_max", trained.scene.k_max, wanted.scene.k_max),
        ("back_projection.ridge", trained.back_projection.ridge, wanted.back_projection.ridge),
    ]  # fmt: skip
    for key, old, new in pairs:
        if old != new:
            raise CheckpointError(f"{checkpoint.path} is of another architecture: it was trained with {key} = {old}, {where} has {new}")
