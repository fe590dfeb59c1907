"""Places in ``ris_pipeline`` where something can be planted, by what they have to offer."""

from __future__ import annotations

from tests.audits.mutants.model import Site

LOOP, LOSSES, NETWORK = "ris_pipeline/training/loop.py", "ris_pipeline/losses.py", "ris_pipeline/model/network.py"
FEATURES, METRICS, OPTIM = "ris_pipeline/model/features.py", "ris_pipeline/metrics.py", "ris_pipeline/training/optim.py"
ARRAYS, SIMULATION, HPO = "ris_pipeline/arrays.py", "ris_pipeline/simulation.py", "ris_pipeline/hpo.py"
COVARIANCE, LOCALIZE = "ris_pipeline/covariance.py", "ris_pipeline/evaluation/localize.py"
MUSIC, EVALUATE = "ris_pipeline/estimators/music.py", "ris_pipeline/evaluation/evaluate.py"
CHECKPOINT, CONFIG = "ris_pipeline/training/checkpoint.py", "ris_pipeline/config.py"


def after(name: str, file: str, line: str, args: str, scenario: str, indent: int = 8) -> Site:
    """Statements below a line."""
    return Site(name, file, f"{line}\n", f"{line}\n{' ' * indent}§\n", args, scenario)


def instead(name: str, file: str, old: str, new: str, args: str, scenario: str) -> Site:
    """An expression in the place of another."""
    return Site(name, file, old, new, args, scenario)


HOT_PATH = (
    after(
        "train_step",
        LOOP,
        "        self.optimizer.zero_grad(set_to_none=True)\n        prediction = self.model(batch.measurements)",
        "prediction.k_logits",
        "step",
    ),
    after("after the backward", LOOP, "        terms.total.backward()", "terms.values", "step"),
    after("Trainer.loss", LOOP, "        sample = batch.measurements.sample_factor", "prediction.position", "step"),
    after("training_loss", LOSSES, "    slot = match_slots(prediction.position, sources, config)", "prediction.power", "step", 4),
    after(
        "steering_loss",
        LOSSES,
        "    overlap = torch.view_as_real((true.conj() * predicted).mean(dim=-1)).square().sum(dim=-1)",
        "overlap",
        "step",
        4,
    ),
    after(
        "score_loss",
        LOSSES,
        "    log_on, log_off = functional.logsigmoid(score_map), functional.logsigmoid(-score_map)",
        "score_map",
        "step",
        4,
    ),
    after("forward", NETWORK, "        factor = self._factor(position, power)", "power", "step"),
    after("count head", NETWORK, "        spectrum = torch.log10(eigenvalues.float() + 1e-4)", "spectrum", "step"),
    after("decoder", NETWORK, "        score = score_map.flatten(1).gather(1, index)", "score", "step"),
    after("features", FEATURES, "        energy = _power(data)", "energy", "step"),
    after("spectrum of the features", FEATURES, "        response = self.grid_real @ columns.T", "response", "step"),
    after("builder", COVARIANCE, "    is_zero = peak == 0.0", "peak", "step", 4),
    after("eigenvalues", COVARIANCE, "        values = torch.linalg.eigvalsh(torch.where(finite[..., None], gram, 0.0))", "values", "step"),
    after("assignment", METRICS, "    padding = 1.0 + 2.0 * cost.shape[-1] * cost.detach().abs().amax()", "cost", "step", 4),
    after("optimizer step", OPTIM, "    before = [parameter.clone() for parameter in parameters]", "before[0]", "step", 4),
    after(
        "steering vector",
        ARRAYS,
        "    difference_m = (2.0 * projection_m - squared_m2 * inverse_range) / (1.0 + ratio)",
        "ratio",
        "step",
        4,
    ),
    after("true factor", SIMULATION, "    range_m = torch.where(sources.mask, sources.range_m, 1.0)", "range_m", "step", 4),
)
"""Real tensors on the way of the training step."""

EVERYWHERE = (
    HOT_PATH[0], HOT_PATH[3], HOT_PATH[6], HOT_PATH[9], HOT_PATH[14],
    after("validation", LOOP, "        total = torch.zeros((), device=self.device)", "values", "fit"),
    after("scoring", METRICS, "    error = (true[:, :, None] - estimated[:, None]).abs()", "error", "fit", 4),
    after("source draw", SIMULATION, "    range_m = uniform(generator, scene.range_min_m, scene.range_max_m, *shape)", "range_m", "data", 4),
    after("simulation", SIMULATION, "    codes = code_phasors(code_index, config.codes.bits, torch.complex128)", "snr_db", "data", 4),
    after("network estimate", LOCALIZE, "    probability, best = torch.softmax(prediction.k_logits.float(), dim=1).max(dim=1)\n    if k is None:\n"
          "        counted = eigenvalue_count(prediction.effective, config.codes.snapshots, k_max=config.scene.k_max)", "probability", "fit"),
)  # fmt: skip
"""Real tensors in the library, on and off the hot path."""
OFF_HOT_PATH = EVERYWHERE[5:]
"""Places where NumPy may run."""

COVARIANCES = (
    after("loss", LOSSES, "    slot = match_slots(prediction.position, sources, config)", "predicted.dense()", "step", 4),
    after("network", NETWORK, "        sample = measurements.sample_factor\n        return build_effective_covariance(",
          "FactoredCovariance.from_factor(factor).dense()", "step"),
    after("training blend", LOOP, '        """Blend a factor with the detached sample covariance; loading and shrinkage are the loss\'s business."""',
          "factor @ factor.mH", "step"),
    after("validation", LOOP, "            estimate, _ = network_sources(self.model, prediction, self.config)",
          "prediction.effective.dense()", "fit", 12),
    after("estimator", MUSIC, "    subspace = signal_subspace(covariance, k, config.scene.k_max)", "covariance.dense()", "music", 4),
    after("sample covariance", LOCALIZE, "    assert factor is not None\n    options = config.covariance", "factor @ factor.conj().transpose(-2, -1)",
          "music", 4),
)  # fmt: skip
"""Dense covariances [B, N, N] outside the builder's module."""
# The network's site returns in its last matched line: the statement belongs above it.
COVARIANCES = tuple(
    s if s.name != "network" else after("network", NETWORK, "        sample = measurements.sample_factor",
                                        "FactoredCovariance.from_factor(factor).dense()", "step")
    for s in COVARIANCES
)  # fmt: skip
