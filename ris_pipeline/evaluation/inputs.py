"""Reading measurements that a user brings, and writing what was found in them.

Axes: S scenes, L snapshots, M antennas, N elements.
"""

from __future__ import annotations

import math
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from ris_pipeline.bounds import position_std
from ris_pipeline.config import Config
from ris_pipeline.errors import DataError, nearest_name
from ris_pipeline.estimators import least_squares_powers
from ris_pipeline.evaluation.localize import Estimates
from ris_pipeline.simulation import Measurements

_REQUIRED = ("snapshots", "channel", "code_index")
_OPTIONAL = ("snr_db", "noise_variance", "k")


@dataclass(frozen=True)
class UserInput:
    """Measurements from a file, and the number of sources where the file states it."""

    measurements: Measurements
    k: Int[Tensor, " S"] | None


def read_input(path: Path, config: Config) -> UserInput:
    """Read measurements from ``.npz`` or ``.safetensors``.

    The file holds ``snapshots`` [S, L, M], ``channel`` [S, M, N], ``code_index`` [S, L, N] or [L, N] and optionally ``snr_db``,
    ``noise_variance`` and ``k`` [S]. A file that also holds positions is a shard: its ``k`` is the truth and is not used. Other arrays
    are not looked at.

    Raises:
        DataError: the file is missing or unreadable, an array is missing, or has a wrong type, shape or value.
    """
    arrays = _load(path)
    for name in _REQUIRED:
        if name not in arrays:
            raise DataError(f"{path} holds no {name!r}; it has {', '.join(sorted(arrays)) or 'no arrays'}{nearest_name(name, arrays)}")
    snapshots = _complex(arrays["snapshots"], "snapshots", path)
    channel = _complex(arrays["channel"], "channel", path)
    if snapshots.ndim != 3:
        raise DataError(f"{path}: snapshots must have shape [S, L, M], got {list(snapshots.shape)}")
    scenes, length, _ = snapshots.shape
    if scenes == 0:
        raise DataError(f"{path}: expected at least one scene, got none")
    n = config.array.n_elements
    _shape(channel, (scenes, config.array.bs_antennas, n), "channel", path)
    _shape(snapshots, (scenes, config.codes.snapshots, config.array.bs_antennas), "snapshots", path)
    _finite(snapshots, "snapshots", path)
    _finite(channel, "channel", path)
    code_index = _codes(arrays["code_index"], (scenes, length, n), 2**config.codes.bits, path)
    optional = {name: _per_scene(arrays[name], scenes, name, path) for name in _OPTIONAL if name in arrays}
    _has_power(snapshots, "snapshots", path)
    _has_power(channel, "channel", path)
    k = _count(optional.pop("k", None), config.scene.k_max, path)
    if "azimuth_rad" in arrays:
        k = None
    if "noise_variance" in optional and not bool((optional["noise_variance"] > 0).all()):
        raise DataError(f"{path}: noise_variance must be positive, got {float(optional['noise_variance'].min()):g}")
    return UserInput(Measurements(snapshots, channel, code_index, optional.get("snr_db"), optional.get("noise_variance")), k)


def localization_json(method: str, estimates: Estimates, measurements: Measurements, config: Config) -> dict[str, Any]:
    """The document that ``ris localize`` writes.

    Angles are in degrees. Powers are those of the least-squares amplitudes at the estimate, in dB, whatever the method; standard
    deviations come from the Cramér-Rao bound at the estimate.
    """
    k, k_confidence, position = estimates.sources.k, estimates.k_confidence, estimates.sources.position
    power = least_squares_powers(measurements, estimates.sources, config)
    std = position_std(measurements, estimates.sources, config)
    scenes = []
    for scene in range(len(k)):
        sources = []
        for slot in range(int(k[scene])):
            azimuth_rad, elevation_rad, range_m = position[scene, slot].tolist()
            std_azimuth_rad, std_elevation_rad, std_range_m = std[scene, slot].tolist()
            sources.append(
                {
                    "azimuth_deg": math.degrees(azimuth_rad),
                    "elevation_deg": math.degrees(elevation_rad),
                    "range_m": range_m,
                    "power_db": 10.0 * math.log10(max(float(power[scene, slot]), 1e-30)),
                    "azimuth_std_deg": _or_null(math.degrees(std_azimuth_rad)),
                    "elevation_std_deg": _or_null(math.degrees(std_elevation_rad)),
                    "range_std_m": _or_null(std_range_m),
                }
            )
        scenes.append({"k": int(k[scene]), "k_confidence": _or_null(float(k_confidence[scene])), "sources": sources})
    return {"schema_version": 1, "method": method, "scenes": scenes}


def _or_null(value: float) -> float | None:
    """JSON has no NaN: a number that does not exist is null."""
    return value if math.isfinite(value) else None


def _load(path: Path) -> Mapping[str, Tensor]:
    if not path.is_file():
        raise DataError(f"expected measurements in a .npz or .safetensors file, got {path}, which is not a file")
    if path.suffix == ".safetensors":
        try:
            return load_file(path)
        except SafetensorError as error:
            raise DataError(f"{path} is damaged or not a safetensors file: {error}") from None
    if path.suffix == ".npz":
        try:
            # Opened here, because np.load leaves the files that it refuses open.
            with path.open("rb") as stream, np.load(stream, allow_pickle=False) as stored:
                return {name: torch.as_tensor(stored[name]) for name in stored.files}
        except (ValueError, TypeError, OSError, EOFError, zipfile.BadZipFile) as error:
            raise DataError(f"{path} is damaged or not an .npz file of plain arrays: {error}") from None
    raise DataError(f"expected measurements in a .npz or .safetensors file, got {path}")


def _complex(tensor: Tensor, name: str, path: Path) -> Tensor:
    if not tensor.is_complex():
        raise DataError(f"{path}: {name} must be complex, got {str(tensor.dtype).removeprefix('torch.')}")
    return tensor


def _finite(tensor: Tensor, name: str, path: Path) -> None:
    bad = ~torch.isfinite(tensor).reshape(tensor.shape[0], -1).all(dim=1)
    if bad.any():
        raise DataError(f"{path}: {name} of scene {int(bad.nonzero()[0])} is not finite")


def _has_power(tensor: Tensor, name: str, path: Path) -> None:
    """Refuse scenes whose squares vanish in single precision: there is nothing to find in them."""
    power = tensor.abs().double().square().mean(dim=(1, 2))
    if not bool((power > 1e-60).all()):
        raise DataError(f"{path}: {name} of scene {int((power <= 1e-60).nonzero()[0])} are zero")


def _shape(tensor: Tensor, expected: tuple[int, ...], name: str, path: Path) -> None:
    if tuple(tensor.shape) != expected:
        raise DataError(f"{path}: {name} must have shape {list(expected)}, got {list(tensor.shape)}")


def _codes(index: Tensor, shape: tuple[int, int, int], levels: int, path: Path) -> Tensor:
    if index.dtype != torch.uint8:
        raise DataError(f"{path}: code_index must be uint8, got {str(index.dtype).removeprefix('torch.')}")
    if index.ndim == 2:
        index = index.expand(shape[0], *index.shape)
    _shape(index, shape, "code_index", path)
    if int(index.max()) >= levels:
        raise DataError(f"{path}: code_index must be below {levels}, got {int(index.max())}")
    return index.contiguous()


def _per_scene(values: Tensor, scenes: int, name: str, path: Path) -> Tensor:
    values = values.expand(scenes) if values.ndim == 0 else values
    _shape(values, (scenes,), name, path)
    if values.is_complex() or values.dtype == torch.bool:
        raise DataError(f"{path}: {name} must be real numbers, got {str(values.dtype).removeprefix('torch.')}")
    _finite(values, name, path)
    return values.double() if name != "k" else values


def _count(k: Tensor | None, k_max: int, path: Path) -> Tensor | None:
    if k is None:
        return None
    if bool((k != k.round()).any()) if k.is_floating_point() else False:
        raise DataError(f"{path}: k must be whole numbers, got {k.tolist()[:5]}")
    k = k.long()
    if int(k.min()) < 1 or int(k.max()) > k_max:
        raise DataError(f"{path}: k must lie in 1..{k_max}, got {int(k.min())}..{int(k.max())}")
    return k
