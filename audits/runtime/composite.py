"""The composite score, a second time: from positions to one number, in NumPy, without the library's metrics."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ris_pipeline.arrays import Sources
from ris_pipeline.config import SelectionConfig

Real = NDArray[np.float64]


@dataclass(frozen=True)
class Scene:
    """Positions of one scene in degrees, degrees and metres, one row per source."""

    true: Real
    estimated: Real


def scenes_of(truth: Sources, estimate: Sources) -> list[Scene]:
    """Scene by scene, the occupied slots."""
    return [Scene(true, estimated) for true, estimated in zip(_positions(truth), _positions(estimate), strict=True)]


def _positions(sources: Sources) -> list[Real]:
    columns = [getattr(sources, name).detach().cpu().numpy().astype(np.float64) for name in ("azimuth_rad", "elevation_rad", "range_m")]
    position = np.stack((np.degrees(columns[0]), np.degrees(columns[1]), columns[2]), axis=-1)
    return [rows[:count] for rows, count in zip(position, sources.k.tolist(), strict=True)]


def composite(scenes: list[Scene], config: SelectionConfig) -> float:
    """(1 - k_acc) + the three RMSE over their norms - success_rate; a missed source counts as the clip."""
    norms = np.array([config.azimuth_norm_deg, config.elevation_norm_deg, config.range_norm_m])
    clips = np.array([config.azimuth_clip_deg, config.elevation_clip_deg, config.range_clip_m])
    limits = np.array([config.azimuth_success_deg, config.elevation_success_deg, config.range_success_m])
    squares, sources, right, success = np.zeros(3), 0, 0, 0
    for scene in scenes:
        error = _matched_errors(scene, norms)
        squares += (np.minimum(np.where(np.isnan(error), clips, error), clips) ** 2).sum(axis=0)
        sources += len(scene.true)
        counted = len(scene.true) == len(scene.estimated)
        right += counted
        success += counted and bool((error <= limits).all())
    rmse = np.sqrt(squares / sources)
    return float((1.0 - right / len(scenes)) + (rmse / norms).sum() - success / len(scenes))


def _matched_errors(scene: Scene, norms: Real) -> Real:
    """Absolute errors of every true source under the cheapest matching of as many pairs as can be; NaN for a missed source."""
    errors = np.abs(scene.true[:, None] - scene.estimated[None])
    cost = ((errors / norms) ** 2).sum(axis=-1)
    few, many = sorted(cost.shape)
    wide = cost if cost.shape[0] == few else cost.T
    best = min(itertools.permutations(range(many), few), key=lambda order: wide[np.arange(few), order].sum())
    rows, columns = (range(few), best) if cost.shape[0] == few else (best, range(few))
    matched = np.full(scene.true.shape, np.nan)
    for row, column in zip(rows, columns, strict=True):
        matched[row] = errors[row, column]
    return matched
