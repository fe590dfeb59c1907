"""Laws that the loss terms obey whatever they are made of, check RUN023."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from audits.runtime.report import Result
from audits.runtime.trial import Trial
from ris_pipeline.arrays import steering_vector
from ris_pipeline.losses import TERMS
from ris_pipeline.model import Prediction
from ris_pipeline.shards import Batch
from ris_pipeline.training import Trainer

ZERO = 1e-4
EQUAL = 2e-2
CERTAIN = 30.0


def check_laws(trial: Trial) -> list[Result]:
    """RUN023: zero at the truth, blind to the order of sources, alive over the whole domain, and fair between coordinates."""
    trainer = trial.trainer()
    trainer.model.eval()
    batch = trial.batch
    with torch.no_grad():
        base = trainer.model(batch.measurements)
    truth = _perfect(base, batch, trainer)
    parts = {
        "zero at the truth": _zero(trainer, truth, batch),
        "order of sources": _order(trainer, base, batch),
        "gradient over the domain": _alive(trainer, truth, batch),
        "one norm costs the same": _fair(trainer, truth, batch),
        "the true count is cheapest": _count(trainer, base, batch),
        "a source's cell is cheapest": _cells(trainer, base, batch),
    }
    return [
        Result("RUN023", name, not problems, "; ".join(problems) or message, evidence)
        for name, (problems, message, evidence) in parts.items()
    ]


Part = tuple[list[str], str, dict[str, Any]]


def _terms(trainer: Trainer, prediction: Prediction, batch: Batch) -> dict[str, float]:
    with torch.no_grad():
        values = trainer.loss(prediction, batch).values
    return dict(zip(TERMS, values.tolist(), strict=True))


def _moved(prediction: Prediction, batch: Batch, trainer: Trainer, position: Tensor) -> Prediction:
    """The prediction with other positions and the covariance that belongs to them."""
    steering = steering_vector(trainer.config.array, *position.unbind(dim=-1))
    power = torch.where(batch.sources.mask, batch.sources.power, 0.0)
    factor = (steering * torch.sqrt(power)[..., None]).transpose(1, 2).to(prediction.factor.dtype)
    return replace(prediction, position=position, power=power, factor=factor)


def _true_position(batch: Batch) -> Tensor:
    away = batch.sources.position.new_tensor((0.0, 0.0, 5.0))
    return torch.where(batch.sources.mask[..., None], batch.sources.position, away)


def _perfect(base: Prediction, batch: Batch, trainer: Trainer) -> Prediction:
    slots = torch.arange(base.k_logits.shape[1], device=base.k_logits.device)
    logits = torch.where(slots == (batch.sources.k - 1)[:, None], CERTAIN, 0.0)
    return replace(_moved(base, batch, trainer, _true_position(batch)), k_logits=logits)


def _zero(trainer: Trainer, truth: Prediction, batch: Batch) -> Part:
    values = _terms(trainer, truth, batch)
    problems = [
        f"{name} is {values[name]:.3g} for a perfect prediction"
        for name in ("covariance", "k", "position", "steering")
        if name in values and not abs(values[name]) <= ZERO
    ]
    return problems, "no term is left for a perfect prediction", values


def _order(trainer: Trainer, base: Prediction, batch: Batch) -> Part:
    """Sources are a set: listing them in another order changes nothing."""
    sources = batch.sources
    slots = torch.arange(sources.mask.shape[1], device=sources.k.device)
    reverse = torch.where(slots < sources.k[:, None], sources.k[:, None] - 1 - slots, slots)
    columns = {name: getattr(sources, name).gather(1, reverse) for name in ("azimuth_rad", "elevation_rad", "range_m", "power")}
    turned = Batch(batch.measurements, replace(sources, **columns), batch.symbols)
    first, second = _terms(trainer, base, batch), _terms(trainer, base, turned)
    problems = [
        f"{name} is {first[name]:.6g}, with the sources listed backwards {second[name]:.6g}"
        for name in first
        if not math.isclose(first[name], second[name], rel_tol=1e-4, abs_tol=1e-6)
    ]
    return problems, "the order of the sources changes no term", {"as listed": first, "backwards": second}


def _alive(trainer: Trainer, truth: Prediction, batch: Batch) -> Part:
    """Every coordinate of every true source has gradient, wherever in the domain the estimate is."""
    scene = trainer.config.scene
    generator = torch.Generator().manual_seed(5)
    limits = torch.tensor((scene.azimuth_max_rad, scene.elevation_max_rad, 1.0))
    draw = (torch.rand(truth.position.shape, generator=generator) * 2.0 - 1.0) * limits
    draw[..., 2] = scene.range_min_m + (scene.range_max_m - scene.range_min_m) * (draw[..., 2] + 1.0) / 2.0
    # One guess per scene is far from its source; only single-source scenes keep the matching out of it.
    single = (batch.sources.k == 1).nonzero()[:, 0]
    alone = Batch(batch.measurements[single], batch.sources[single], batch.symbols[single])
    dead, looked = 0, 0
    index = TERMS.index("position")
    if len(single) > 0:
        position = draw.to(truth.position)[single].clone()
        position[:, 1:] = 1e3  # slots that are never matched
        position.requires_grad_()
        part = Prediction(
            truth.factor[single], truth.k_logits[single], position, truth.power[single], truth.score[single], truth.score_map[single],
            truth.effective[single],
        )  # fmt: skip
        value = trainer.loss(part, alone).values[index]
        (gradient,) = torch.autograd.grad(value, position)
        dead, looked = int((gradient[:, 0] == 0.0).sum()), 3 * len(single)
    problems = [f"{dead} of {looked} coordinates have no gradient"] if dead else []
    problems += [] if looked else ["no scene with one source was there to look at"]
    return problems, f"{looked} coordinates, all with gradient", {"coordinates": looked, "without gradient": dead}


def _fair(trainer: Trainer, truth: Prediction, batch: Batch) -> Part:
    """A small error of the same size in units of its norm costs the same in azimuth, elevation and range."""
    norms = trainer.config.metrics
    steps = (math.radians(norms.azimuth_norm_deg), math.radians(norms.elevation_norm_deg), norms.range_norm_m)
    costs = []
    for axis, step in enumerate(steps):
        position = truth.position.clone()
        position[..., axis] += 0.2 * step
        costs.append(_terms(trainer, replace(truth, position=position), batch)["position"])
    fair = costs[0] > 0.0 and all(math.isclose(cost, costs[0], rel_tol=EQUAL) for cost in costs)
    problems = [] if fair else [f"a fifth of a norm costs {costs[0]:.4g} in azimuth, {costs[1]:.4g} in elevation, {costs[2]:.4g} in range"]
    return problems, f"a fifth of a norm costs {costs[0]:.4g} in every coordinate", {"costs": costs}


def _count(trainer: Trainer, base: Prediction, batch: Batch) -> Part:
    """Among all sure answers the true count costs least, in every scene by itself."""
    slots = torch.arange(base.k_logits.shape[1], device=base.k_logits.device)
    wrong = 0
    for scene in range(len(batch)):
        row = torch.tensor([scene], device=slots.device)
        one = Batch(batch.measurements[row], batch.sources[row], batch.symbols[row])
        costs = []
        for answer in slots:
            logits = torch.where(slots == answer, 5.0, 0.0)[None]
            part = Prediction(
                base.factor[row], logits, base.position[row], base.power[row], base.score[row], base.score_map[row], base.effective[row]
            )
            costs.append(_terms(trainer, part, one)["k"])
        wrong += costs.index(min(costs)) + 1 != int(one.sources.k)
    problems = [f"in {wrong} of {len(batch)} scenes a wrong count costs least"] if wrong else []
    return problems, f"{len(batch)} scenes, the true count costs least in each", {"scenes": len(batch), "wrong": wrong}


def _cells(trainer: Trainer, base: Prediction, batch: Batch) -> Part:
    """A map that is high only in the cell of a source costs less than one that is high only in any other cell tried."""
    scene = trainer.config.scene
    cells_a, cells_e = base.score_map.shape[1:]
    single = (batch.sources.k == 1).nonzero()[:, 0]
    wrong = 0
    for row in single.tolist():
        index = torch.tensor([row], device=base.score_map.device)
        one = Batch(batch.measurements[index], batch.sources[index], batch.symbols[index])
        a = int((float(one.sources.azimuth_rad[0, 0]) / scene.azimuth_max_rad + 1.0) / 2.0 * cells_a)
        e = int((float(one.sources.elevation_rad[0, 0]) / scene.elevation_max_rad + 1.0) / 2.0 * cells_e)
        costs = []
        for at in ((a, e), ((a + cells_a // 2) % cells_a, e), (a, (e + cells_e // 2) % cells_e)):
            score_map = torch.full_like(base.score_map[index], -6.0)
            score_map[0, at[0], at[1]] = 6.0
            part = Prediction(
                base.factor[index],
                base.k_logits[index],
                base.position[index],
                base.power[index],
                base.score[index],
                score_map,
                base.effective[index],
            )
            costs.append(_terms(trainer, part, one)["score"])
        wrong += costs[0] >= min(costs[1:])
    problems = [f"in {wrong} of {len(single)} scenes another cell costs less"] if wrong else []
    problems += [] if len(single) else ["no scene with one source was there to look at"]
    return problems, f"{len(single)} scenes, the source's cell costs least in each", {"scenes": len(single), "wrong": wrong}
