"""The library's composite on estimates that are right, nearly right and wrong, part of check RUN009.

The network of a small run is never right, so that a term of the composite which only a good one earns would not show in it.
"""

from __future__ import annotations

import torch
from torch import Tensor

from audits.runtime.composite import composite, scenes_of
from audits.runtime.report import Result
from audits.runtime.trial import Trial
from ris_pipeline.arrays import Sources
from ris_pipeline.metrics import aggregate, score_scenes, selection_score

SCALES = (0.0, 0.3, 1.0, 5.0, 30.0)
"""Standard deviations of the errors, in norms of the composite."""
TOLERANCE = 1e-5


def estimates(truth: Sources, scale: float, units: Tensor, generator: torch.Generator) -> Sources:
    """Sources in another order, moved by errors of ``scale``, a third of the scenes with one too few or one too many."""
    slots = truth.azimuth_rad.shape[1]
    position = truth.position + scale * units * torch.randn(truth.position.shape, generator=generator)
    change = torch.randint(-1, 2, truth.k.shape, generator=generator) * (torch.rand(truth.k.shape, generator=generator) < 0.5)
    k = (truth.k + change).clamp(1, slots)
    order = torch.arange(slots).expand_as(truth.azimuth_rad)
    order = torch.where(order < k[:, None], k[:, None] - 1 - order, order)
    return Sources.from_position(position.gather(1, order[..., None].expand(-1, -1, 3)), torch.ones_like(truth.power), k)


def check_metrics(trial: Trial) -> list[Result]:
    """RUN009: for each size of error the composite of the library is the independent one."""
    generator = torch.Generator().manual_seed(11)
    norms = trial.config.metrics
    units = torch.tensor((norms.azimuth_norm_deg, norms.elevation_norm_deg, norms.range_norm_m))
    units[:2] = torch.deg2rad(units[:2])
    truth = trial.train.batch(torch.arange(len(trial.train))).sources
    table, problems = {}, []
    for scale in SCALES:
        guess = estimates(truth, scale, units, generator)
        metrics = aggregate(score_scenes(guess, truth, norms))
        got, expected = selection_score(metrics, norms), composite(scenes_of(truth, guess), norms)
        table[f"errors of {scale:g} norms"] = {"library": got, "independent": expected, "success rate": metrics.success_rate}
        if abs(got - expected) > TOLERANCE:
            problems.append(f"for errors of {scale:g} norms the composite is {got:.6g}, expected {expected:.6g}")
    message = "; ".join(problems) or f"{len(SCALES)} sizes of error, the composite is the independent one"
    return [Result("RUN009", "constructed estimates", not problems, message, table)]
