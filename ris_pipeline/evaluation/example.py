"""One scene to look at: its angle-range spectrum, the truth and the estimates.

Axes: A azimuths, R ranges, E elevations, K source slots.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ris_pipeline.arrays import Sources, search_grid
from ris_pipeline.config import Config
from ris_pipeline.covariance import FactoredCovariance
from ris_pipeline.evaluation.localize import sample_covariance
from ris_pipeline.shards import Scenes

SHAPE = (91, 21, 24)
"""Azimuths, elevations and ranges of the map; ranges uniform in 1/r."""
TYPICAL_K = 3


def typical_scene(k: Int[Tensor, " B"], snr_db: Float[Tensor, " B"]) -> int:
    """The scene with K nearest to 3, and among those with the SNR nearest to the upper quartile of all, where sources show."""
    far = (k - TYPICAL_K).abs()
    off = (snr_db - snr_db.quantile(0.75)).abs()
    return int(torch.where(far == far.min(), off, math.inf).argmin())


def example(scenes: Scenes, index: int, config: Config, estimates: Mapping[str, Sources]) -> dict[str, Any]:
    """The scene at ``index`` as plain values: truth, the estimates by method, and its map in dB relative to the highest place."""
    batch = scenes.batch(torch.tensor([index]))
    spectrum, azimuth_rad, range_m = angle_range_spectrum(sample_covariance(batch.measurements, config), config)
    assert batch.measurements.snr_db is not None
    return {
        "scene": index,
        "snr_db": round(float(batch.measurements.snr_db), 2),
        "azimuth_deg": [round(math.degrees(value), 3) for value in azimuth_rad.tolist()],
        "range_m": [round(value, 4) for value in range_m.tolist()],
        "spectrum_db": [[round(value, 1) for value in row] for row in (10.0 * torch.log10(spectrum / spectrum.max())).tolist()],
        "truth": _listed(batch.sources),
        "estimates": {name: _listed(found[index : index + 1]) for name, found in estimates.items()},
    }


def angle_range_spectrum(
    covariance: FactoredCovariance, config: Config
) -> tuple[Float[Tensor, "A R"], Float[Tensor, " A"], Float[Tensor, " R"]]:
    """Bartlett spectrum a^H R a / N of the first scene, the largest over elevations, and the axes: azimuth (rad) and range (m)."""
    scene, device = config.scene, covariance.factor.device
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
        power = covariance.quadratic(steering.to(covariance.factor.dtype))[0] / covariance.n
        rows.append(power.reshape(SHAPE[1:]).amax(dim=0))
    return torch.stack(rows), azimuth_rad, 1.0 / inverse_range_per_m


def _listed(sources: Sources) -> list[dict[str, float]]:
    """The sources of one scene, in degrees, degrees and metres."""
    rows = sources.position[0, : int(sources.k[0])].double().tolist()
    return [{"azimuth_deg": math.degrees(a), "elevation_deg": math.degrees(e), "range_m": r} for a, e, r in rows]
