"""Sweeping the blend weight and the confidence threshold on the validation split."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ris_pipeline.config import Config, to_toml
from ris_pipeline.evaluation.localize import network_input, network_sources
from ris_pipeline.files import write_text
from ris_pipeline.metrics import SceneScores, aggregate, score_scenes, selection_score
from ris_pipeline.model import Checkpoint, Prediction
from ris_pipeline.shards import Scenes

BETAS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6)
THRESHOLDS = (0.0, 0.25, 0.3, 0.35, 0.4, 0.5, 0.6)


@dataclass(frozen=True)
class TuneResult:
    """The pair with the lowest composite score, every pair tried, and the score of the configuration as it was."""

    beta: float
    k_conf_thresh: float
    objective: float
    objective_before: float
    table: list[dict[str, float]]


@torch.no_grad()
def tune(
    checkpoint: Checkpoint,
    scenes: Scenes,
    config: Config,
    where: str,
    progress: Callable[[float], None] = lambda beta: None,
    device: torch.device | str = "cpu",
) -> TuneResult:
    """Score the ``network`` method for every pair of :data:`BETAS` and :data:`THRESHOLDS` (and the configured ones), lower is better.

    The network runs once per weight; the thresholds reuse its outputs. Ties go to the configured values, then to the smaller ones.

    Raises:
        CheckpointError: the weights do not fit the data.
        IncompleteError: a metric could not be computed.
    """
    configured = (config.covariance.beta, config.estimate.k_conf_thresh)
    table = []
    for beta in sorted({*BETAS, configured[0]}):
        blended = config.replaced(covariance={"beta": beta})
        table += _score_thresholds(checkpoint, scenes, blended, where, sorted({*THRESHOLDS, configured[1]}), device)
        progress(beta)
    before = next(row for row in table if (row["beta"], row["k_conf_thresh"]) == configured)
    best = min([before, *table], key=lambda row: row["objective"])
    return TuneResult(best["beta"], best["k_conf_thresh"], best["objective"], before["objective"], table)


def write_tuned(path: Path, result: TuneResult) -> None:
    """Write the best pair as a partial configuration, atomically."""
    values: dict[str, Any] = {"covariance": {"beta": result.beta}, "estimate": {"k_conf_thresh": result.k_conf_thresh}}
    comment = f"tuned on validation: objective {result.objective:.6f}, was {result.objective_before:.6f}"
    write_text(path, to_toml(values, comment))


def _score_thresholds(
    checkpoint: Checkpoint, scenes: Scenes, config: Config, where: str, thresholds: Sequence[float], device: torch.device | str
) -> list[dict[str, float]]:
    model = checkpoint.network_for(config, where, device)
    gates = [config.replaced(estimate={"k_conf_thresh": threshold}) for threshold in thresholds]
    scores: list[list[SceneScores]] = [[] for _ in gates]
    for index in torch.arange(len(scenes)).split(config.evaluate.batch_size):
        batch = scenes.batch(index).to(torch.device(device))
        prediction: Prediction = model(network_input(batch.measurements, model, config))
        for parts, gate in zip(scores, gates, strict=True):
            estimate, _ = network_sources(model, prediction, gate)
            parts.append(score_scenes(estimate, batch.sources, config.metrics))
    rows = []
    for threshold, parts in zip(thresholds, scores, strict=True):
        metrics = aggregate(SceneScores.cat(parts))
        rows.append(
            {
                "beta": config.covariance.beta,
                "k_conf_thresh": threshold,
                "objective": selection_score(metrics, config.metrics),
                "k_acc": metrics.k_acc,
                "success_rate": metrics.success_rate,
            }
        )
    return rows
