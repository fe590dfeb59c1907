"""Whether training learns a small set by heart, check RUN021."""

from __future__ import annotations

from typing import Any

import torch

from audits.runtime.report import Result
from audits.runtime.trial import SMALL, Trial, small_config, small_trial
from ris_pipeline.training import Trainer

SCENES = 64
FALL = 10.0
MARGIN = 0.25
K_MAX = 3
OPTIONS: dict[str, dict[str, Any]] = {
    "scene": {"k_max": K_MAX, "snr_min_db": 15.0},
    "model": {"channels": 16, "hidden": 32},
    "data": {"n_train": SCENES, "n_val": 4, "shard_scenes": SCENES},
    "train": {"batch_size": 16, "epochs": 40, "patience": 40, "learning_rate": 1e-2, "weight_decay": 0.0},
}


def check(device: str) -> list[Result]:
    """RUN021: the loss on 64 scenes falls at least tenfold, and the K-head counts them far better than the commonest count would."""
    config = small_config(device).replaced(**SMALL).replaced(**OPTIONS)
    with small_trial(config) as trial:
        trainer = trial.trainer()
        before, _ = _measure(trainer, trial)
        # The validation split is not what is measured; the composite selects the epoch, so the last one is measured before it is lost.
        last: list[tuple[float, float]] = []
        trainer.on_epoch = lambda report: last.append(_measure(trainer, trial)) if report.epoch == config.train.epochs - 1 else None
        trainer.fit()
        counts = torch.bincount(trial.train.batch(torch.arange(SCENES)).sources.k, minlength=K_MAX + 1)
    after, k_acc = last[-1] if last else (before, 0.0)
    chance = float(counts.max()) / SCENES
    evidence = {"loss before": before, "loss after": after, "steps": trainer.state.step, "K accuracy": k_acc, "chance": chance}
    falls, counts_well = before >= FALL * after, k_acc >= chance + MARGIN
    return [
        Result(
            "RUN021", "loss", falls, f"fell from {before:.4g} to {after:.4g}, {before / after:.0f} times, expected {FALL:.0f}", evidence
        ),
        Result("RUN021", "K-head", counts_well, f"right in {k_acc:.0%} of the scenes, the commonest K occurs in {chance:.0%}", evidence),
    ]


def _measure(trainer: Trainer, trial: Trial) -> tuple[float, float]:
    """Loss and accuracy of the K-head on the whole training set, as it is now."""
    batch = trial.train.batch(torch.arange(SCENES)).to(trainer.device)
    trainer.model.eval()
    with torch.no_grad():
        prediction = trainer.model(batch.measurements)
        loss = float(trainer.loss(prediction, batch).total)
    return loss, float((prediction.k_logits.argmax(dim=1) + 1 == batch.sources.k).double().mean())
