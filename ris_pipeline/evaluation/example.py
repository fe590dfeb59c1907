"""One scene to look at: what a source at each azimuth and range would explain, with the truth and the estimates.

Axes: A azimuths, R ranges, E elevations, K source slots.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ris_pipeline.arrays import Sources, search_grid
from ris_pipeline.config import Config
from ris_pipeline.estimators.sensing import Sensing, squared_modulus
from ris_pipeline.shards import Scenes

SHAPE = (61, 21, 24)
"""Azimuths, elevations and ranges of the map; ranges uniform in 1/r."""
TYPICAL_K = 3


def typical_scene(k: Tensor, snr_db: Tensor) -> int:
    """The scene with K nearest to 3, and among those with the SNR nearest to the median of all."""
    far = (k - TYPICAL_K).abs()
    off = (snr_db - snr_db.median()).abs()
    return int(torch.where(far == far.min(), off, math.inf).argmin())


def example(scenes: Scenes, index: int, config: Config, estimates: Mapping[str, Sources]) -> dict[str, Any]:
    """The scene at ``index`` as plain values: truth, the estimates by method, and its map.

    The map is the part of the data's energy that one source at a place explains, in dB relative to the best place, at the best of
    all elevations: sum_l |g_l^H y_l|^2 / |g_l|^2, the single-source likelihood.
    """
    batch = scenes.batch(torch.tensor([index]))
    gain, azimuth_rad, range_m = likelihood_map(Sensing.of(batch.measurements, config), config)
    assert batch.measurements.snr_db is not None
    return {
        "scene": index,
        "snr_db": round(float(batch.measurements.snr_db), 2),
        "azimuth_deg": [round(math.degrees(value), 3) for value in azimuth_rad.tolist()],
        "range_m": [round(value, 4) for value in range_m.tolist()],
        "gain_db": [[round(value, 1) for value in row] for row in (10.0 * torch.log10(gain / gain.max())).tolist()],
        "truth": _listed(batch.sources),
        "estimates": {name: _listed(found[index : index + 1]) for name, found in estimates.items()},
    }


def likelihood_map(sensing: Sensing, config: Config) -> tuple[Float[Tensor, "A R"], Float[Tensor, " A"], Float[Tensor, " R"]]:
    """Energy that one source explains at each azimuth and range, the largest over elevations, of the first scene; and the axes."""
    scene, device = config.scene, sensing.snapshots.device
    limits = (
        (-scene.azimuth_max_rad, scene.azimuth_max_rad),
        (-scene.elevation_max_rad, scene.elevation_max_rad),
        (1.0 / scene.range_max_m, 1.0 / scene.range_min_m),
    )
    azimuth_rad, elevation_rad, inverse_range_per_m = (
        torch.linspace(low, high, count, dtype=torch.float64, device=device) for (low, high), count in zip(limits, SHAPE, strict=True)
    )
    rows = []
    # One azimuth at a time bounds the memory.
    for part in torch.split(azimuth_rad, 1):
        steering = search_grid(config.array, part, elevation_rad, inverse_range_per_m)[1].flatten(0, -2)
        atoms = sensing[:1].sense(steering.T[None])[0]
        matched = squared_modulus((atoms.conj() * sensing.snapshots[0, :, :, None]).sum(dim=1))
        explained = (matched / squared_modulus(atoms).sum(dim=1)).sum(dim=0)
        rows.append(explained.reshape(SHAPE[1:]).amax(dim=0))
    return torch.stack(rows), azimuth_rad, 1.0 / inverse_range_per_m


def _listed(sources: Sources) -> list[dict[str, float]]:
    """The sources of one scene, in degrees, degrees and metres."""
    rows = sources.position[0, : int(sources.k[0])].double().tolist()
    return [{"azimuth_deg": math.degrees(a), "elevation_deg": math.degrees(e), "range_m": r} for a, e, r in rows]
