"""Whether the network reads its inputs and the step refuses what is not finite, checks RUN011 and RUN012."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import torch
from torch import Tensor

from audits.runtime.report import Result
from audits.runtime.trial import Trial
from ris_pipeline.losses import TERMS
from ris_pipeline.model import Prediction
from ris_pipeline.shards import Batch
from ris_pipeline.simulation import Measurements

Change = Callable[[Measurements], Measurements]


POISONS: Mapping[str, str] = {"power": "covariance", "range_m": "position"}
"""Labels that are made infinite, and the term that must be named for it."""


def check_guard(trial: Trial) -> list[Result]:
    """RUN011: a batch that is not finite leaves every weight as it was, and the step names the term."""
    return [_poisoned(trial, label, term) for label, term in POISONS.items()]


def _poisoned(trial: Trial, label: str, term: str) -> Result:
    trainer = trial.trainer()
    trainer.model.train()
    before = {name: tensor.detach().clone() for name, tensor in trainer.model.state_dict().items()}
    batch = trial.batch
    values = getattr(batch.sources, label).clone()
    values[0, 0] = torch.inf
    report = trainer.train_step(Batch(batch.measurements, replace(batch.sources, **{label: values}), batch.symbols))
    changed = [name for name, tensor in trainer.model.state_dict().items() if not torch.equal(tensor, before[name])]
    flags = dict(zip((*TERMS, "gradient"), report.finite.tolist(), strict=True))
    reported = [name for name, fine in flags.items() if not fine]
    problems = []
    if changed:
        problems.append(f"{len(changed)} of {len(before)} tensors changed")
    if term not in reported:
        problems.append(f"expected {term} to be reported, got {', '.join(reported) or 'nothing'}")
    message = "; ".join(problems) or f"{len(before)} tensors unchanged, reported: {', '.join(reported)}"
    return Result("RUN011", f"infinite {label}", not problems, message, {"changed": changed, "finite": flags})


def _rolled(name: str, dimension: int) -> Change:
    return lambda measurements: replace(measurements, **{name: getattr(measurements, name).roll(1, dims=dimension)})


CHANGES: Mapping[str, Change] = {
    "snapshots of another scene": _rolled("snapshots", 0),
    "channel of another scene": _rolled("channel", 0),
    "codes in another order than the snapshots": _rolled("code_index", 1),
    "sample factor of another scene": _rolled("sample_factor", 0),
    "four times the noise variance": lambda measurements: replace(
        measurements, noise_variance=None if measurements.noise_variance is None else 4.0 * measurements.noise_variance
    ),
}
"""Changes of one input each. Codes and snapshots are moved against each other, so that pooling them apart shows."""


def check_inputs(trial: Trial) -> list[Result]:
    """RUN012: every input of the network changes what it predicts."""
    model = trial.trainer().model.eval()
    measurements = trial.batch.measurements
    with torch.no_grad():
        base = _outputs(model(measurements))
        moves = {
            name: {output: float((value - base[output]).abs().max()) for output, value in _outputs(model(change(measurements))).items()}
            for name, change in CHANGES.items()
        }
    failures = [
        Result("RUN012", name, False, "changes nothing that the network predicts", moved)
        for name, moved in moves.items()
        if not max(moved.values()) > 0.0
    ]
    return failures or [Result("RUN012", "network", True, f"{len(moves)} changed inputs, each changes the prediction", moves)]


def _outputs(prediction: Prediction) -> dict[str, Tensor]:
    return {"k_logits": prediction.k_logits, "score_map": prediction.score_map, "position": prediction.position}
