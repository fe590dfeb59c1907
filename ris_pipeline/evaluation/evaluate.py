"""Scoring methods on a split, with the bounds beside them.

Axes: B scenes, K source slots. All figures are aggregates of per-scene scores, so that bins and bootstrap resamples reuse them.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ris_pipeline.arrays import Sources
from ris_pipeline.bounds import crb_deterministic, detection_bound, genie_ml, genie_stochastic
from ris_pipeline.config import Config, SelectionConfig
from ris_pipeline.estimators import conditional_likelihood
from ris_pipeline.evaluation.counts import RULES, confusion, covariance_counts, network_counts, residual_counts
from ris_pipeline.evaluation.example import example, typical_scene
from ris_pipeline.evaluation.localize import NETWORK_METHODS, SEARCH_METHODS, Estimates, localize, with_noise_variance
from ris_pipeline.metrics import SceneScores, aggregate, score_scenes
from ris_pipeline.model import HybridModel
from ris_pipeline.shards import Batch, Scenes
from ris_pipeline.simulation import Measurements

Progress = Callable[[str, int], None]
_UNIDENTIFIED = 1e4
"""Degrees or metres."""
_COORDINATES = ("azimuth", "elevation", "range")
Genie = Callable[[Measurements, Sources, Config], Sources]
_GENIES: dict[str, Genie] = {"genie_ml": genie_ml, "genie_stochastic": genie_stochastic}


@dataclass(frozen=True)
class MethodScores:
    """What one method found, its scores per scene, the errors over their bounds [B, K, 3], and the seconds that each batch took."""

    found: Sources
    scenes: SceneScores
    error_over_crb: Float[Tensor, "B K 3"]
    batch_scenes: Float[Tensor, " batches"]
    batch_seconds: Float[Tensor, " batches"]

    def figures(self, index: Tensor | None = None) -> dict[str, float]:
        """Metrics of all scenes or of those at ``index``."""
        scenes, ratio = (self.scenes, self.error_over_crb) if index is None else (self.scenes[index], self.error_over_crb[index])
        by_coordinate = ratio.flatten(0, 1).nanmedian(dim=0).values.tolist()
        medians = {f"median_{name}_error_over_crb": value for name, value in zip(_COORDINATES, by_coordinate, strict=True)}
        return aggregate(scenes).as_dict() | {"median_error_over_crb": float(ratio.flatten().nanmedian())} | medians


@dataclass(frozen=True)
class Truth:
    """What is known about the evaluated scenes: SNR, count, the square roots of the bounds (deg, deg, m), and the count's ceilings."""

    snr_db: Float[Tensor, " B"]
    k: Int[Tensor, " B"]
    crb_std: Float[Tensor, "B K 3"]
    detection: Float[Tensor, " B"]
    detection_searched: Float[Tensor, " B"]


def evaluate(
    scenes: Scenes,
    config: Config,
    methods: Sequence[str],
    model: HybridModel | None = None,
    progress: Progress = lambda method, done: None,
) -> dict[str, Any]:
    """Evaluate ``methods`` on every scene and return the document of ``ris evaluate --json``.

    Methods that search the likelihood run on the first ``evaluate.search_scenes`` scenes; each method states its number of scenes.
    Where ``ml`` is among the methods, its count is shown beside those that read the residuals of a conditional search on the same
    scenes; the rules of the network are scored where there is one.

    Args:
        scenes: the split.
        config: grids, thresholds, norms and the bootstrap.
        methods: names from ``evaluation.METHODS``.
        model: the network, where a method needs it.
        progress: called with a method (or bound) and the scenes done so far.

    Raises:
        IncompleteError: a metric could not be computed.
    """
    truth = _truth(scenes, config, progress)
    scored = {name: _score(scenes, config, truth, _runner(name, config, model), progress, name) for name in methods}
    genies = {name: _score(scenes, config, truth, _genie(start, config), progress, name) for name, start in _GENIES.items()}
    counts = _counts(
        scenes, config, len(scored["ml"].scenes) if "ml" in scored else 0, model if set(methods) & set(NETWORK_METHODS) else None, progress
    )
    if "ml" in scored:
        counts["stochastic_likelihood"] = scored["ml"].found.k
    known_to_all = min(len(scores.scenes) for scores in (*scored.values(), *genies.values()))
    shown = typical_scene(truth.k[:known_to_all], truth.snr_db[:known_to_all])
    return {
        "schema_version": 1,
        "scenes": len(scenes),
        "methods": {name: _summary(scores, config) for name, scores in scored.items()},
        "bounds": {
            **{name: _summary(genie, config) for name, genie in genies.items()},
            "detection": {
                "k_acc": float(truth.detection_searched.mean()),
                "k_acc_known_positions": float(truth.detection.mean()),
                "false_alarm": config.evaluate.false_alarm,
            },
        },
        "counting": {name: _count_summary(counts[name], truth.k[: len(counts[name])], config) for name in RULES if name in counts},
        "bins": list(_bins(scored | genies, truth, config)),
        "by_k": list(_by_k(scored | genies, truth, config)),
        "example": example(scenes, shown, config, {name: scores.found for name, scores in scored.items()}),
    }


def crb_std(batch: Batch, config: Config) -> Float[Tensor, "B K 3"]:
    """Square roots of the deterministic bound at the truth, in degrees, degrees and metres; NaN in empty slots."""
    bound = crb_deterministic(batch.measurements, batch.sources, batch.symbols, config)
    std = bound.diagonal(dim1=-2, dim2=-1).clamp_min(0.0).sqrt().unflatten(-1, (-1, 3))
    in_units = torch.cat((torch.rad2deg(std[..., :2]), std[..., 2:]), dim=-1)
    return torch.where(batch.sources.mask[..., None], in_units, math.nan)


def _truth(scenes: Scenes, config: Config, progress: Progress) -> Truth:
    parts = []
    false_alarm = config.evaluate.false_alarm
    for index in torch.arange(len(scenes)).split(config.evaluate.batch_size):
        batch = scenes.batch(index)
        known = detection_bound(batch.measurements, batch.sources, config, false_alarm=false_alarm)
        searched = detection_bound(batch.measurements, batch.sources, config, false_alarm=false_alarm, cells=_resolution_cells(config))
        assert batch.measurements.snr_db is not None
        parts.append(Truth(batch.measurements.snr_db, batch.sources.k, crb_std(batch, config), known.correct, searched.correct))
        progress("bounds", int(index[-1]) + 1)
    return Truth(*(torch.cat([getattr(part, f.name) for part in parts]).cpu() for f in fields(Truth)))


def _resolution_cells(config: Config) -> float:
    """Number of distinguishable places: the field of view over the half-power beam widths, times the near-field depth of focus."""
    array, scene = config.array, config.scene
    beam_h = 0.886 * array.wavelength_m / (array.n_h * array.spacing_m)
    beam_v = 0.886 * array.wavelength_m / (array.n_v * array.spacing_m)
    angles = (2 * scene.azimuth_max_rad / beam_h) * (2 * scene.elevation_max_rad / beam_v)
    aperture_m = math.hypot(array.n_h * array.spacing_m, array.n_v * array.spacing_m)
    # A focus spans about 1/(Rayleigh distance/10) in inverse range (Ramezani and Bjornson, 2023).
    depths = (1 / scene.range_min_m - 1 / scene.range_max_m) * 2 * aperture_m**2 / array.wavelength_m / 10
    return max(1.0, angles * max(1.0, depths))


def _runner(name: str, config: Config, model: HybridModel | None) -> Callable[[Batch], Estimates]:
    used = model if name in NETWORK_METHODS else None
    return lambda batch: localize(batch.measurements, config, name, used)


def _genie(start: Genie, config: Config) -> Callable[[Batch], Estimates]:
    def run(batch: Batch) -> Estimates:
        return Estimates(start(batch.measurements, batch.sources, config), torch.full(batch.sources.k.shape, math.nan))

    return run


def _score(scenes: Scenes, config: Config, truth: Truth, run: Callable[[Batch], Estimates], progress: Progress, name: str) -> MethodScores:
    found, scores, counts, seconds = [], [], [], []
    limit = config.evaluate.search_scenes if name in SEARCH_METHODS else None
    for index in torch.arange(min(len(scenes), limit or len(scenes))).split(config.evaluate.batch_size):
        batch = scenes.batch(index)
        started = time.perf_counter()
        # Moving the estimates waits for the device, so that its work is timed as well.
        found.append(_cpu(run(batch).sources))
        seconds.append(time.perf_counter() - started)
        counts.append(len(batch))
        scores.append(score_scenes(found[-1], _cpu(batch.sources), config.metrics))
        progress(name, int(index[-1]) + 1)
    joined = SceneScores.cat(scores)
    bound = truth.crb_std[: len(joined), : joined.matched_error.shape[1]]
    # Where the data do not identify a source its bound is astronomical, and a ratio to it says nothing.
    ratio = joined.matched_error / torch.where(bound < _UNIDENTIFIED, bound, math.nan)
    everything = Sources(*(torch.cat([getattr(part, f.name) for part in found]) for f in fields(Sources)))
    return MethodScores(everything, joined, ratio, torch.tensor(counts).double(), torch.tensor(seconds).double())


def _counts(scenes: Scenes, config: Config, searched: int, model: HybridModel | None, progress: Progress) -> dict[str, Int[Tensor, " B"]]:
    """What every rule counts; rules on residuals on the first ``searched`` scenes."""
    parts: dict[str, list[Tensor]] = {}
    for index in torch.arange(len(scenes)).split(config.evaluate.batch_size):
        measurements = with_noise_variance(scenes.batch(index).measurements, config)
        counted = covariance_counts(measurements, config)
        few = index[index < searched] - index[0]
        if len(few) > 0:
            some = measurements[few]
            counted |= residual_counts(conditional_likelihood(some, config).rss, some, config)
        if model is not None:
            counted |= network_counts(model, measurements, config)
        for name, k_hat in counted.items():
            parts.setdefault(name, []).append(k_hat.cpu())
        progress("counting", int(index[-1]) + 1)
    return {name: torch.cat(part) for name, part in parts.items()}


def _cpu(sources: Sources) -> Sources:
    return sources.to(torch.device("cpu"))


def _summary(scores: MethodScores, config: Config) -> dict[str, Any]:
    """Every figure, its 95 % bootstrap interval under ``ci95``, and the confusion of the count."""
    options = config.evaluate
    figures = scores.figures() | {"scenes_per_second": float(scores.batch_scenes.sum() / scores.batch_seconds.sum())}
    generator = torch.Generator().manual_seed(options.seed)
    samples: dict[str, list[float]] = {name: [] for name in figures}
    for _ in range(options.bootstrap):
        drawn = torch.randint(len(scores.scenes), (len(scores.scenes),), generator=generator)
        batches = torch.randint(len(scores.batch_scenes), (len(scores.batch_scenes),), generator=generator)
        resampled = scores.figures(drawn)
        resampled["scenes_per_second"] = float(scores.batch_scenes[batches].sum() / scores.batch_seconds[batches].sum())
        for name, value in resampled.items():
            samples[name].append(value)
    return (
        {"scenes": len(scores.scenes)}
        | _plain(figures)
        | {"ci95": {name: _interval(values) for name, values in samples.items()}}
        | {"k_confusion": confusion(scores.scenes.k, scores.scenes.k_hat, config)}
    )


def _count_summary(k_hat: Int[Tensor, " B"], k: Int[Tensor, " B"], config: Config) -> dict[str, Any]:
    """Accuracy of one counting rule on the scenes that it saw, with 95 % bootstrap intervals."""
    hits = torch.stack((k_hat == k, k_hat < k, k_hat > k), dim=1).double()
    generator = torch.Generator().manual_seed(config.evaluate.seed)
    draws = [torch.randint(len(k), (len(k),), generator=generator) for _ in range(config.evaluate.bootstrap)]
    samples = torch.stack([hits[drawn].mean(dim=0) for drawn in draws], dim=1)
    names = ("k_acc", "k_under", "k_over")
    return (
        {"scenes": len(k)}
        | dict(zip(names, hits.mean(dim=0).tolist(), strict=True))
        | {"ci95": {name: _interval(values.tolist()) for name, values in zip(names, samples, strict=True)}}
        | {"k_confusion": confusion(k, k_hat, config)}
    )


def _interval(values: list[float]) -> list[float | None]:
    tensor = torch.tensor(values, dtype=torch.float64)
    if not torch.isfinite(tensor).all():
        return [None, None]
    return torch.quantile(tensor, torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()


def _bins(scored: dict[str, MethodScores], truth: Truth, config: Config) -> Iterator[dict[str, Any]]:
    """Entries of every SNR bin, for all K (``None``) and for each."""
    width, scene = config.evaluate.snr_bin_db, config.scene
    count = max(1, math.ceil((scene.snr_max_db - scene.snr_min_db) / width - 1e-9))
    for number in range(count):
        low = scene.snr_min_db + number * width
        high = min(low + width, scene.snr_max_db)
        inside = (truth.snr_db >= low) & ((truth.snr_db < high) | (number == count - 1))
        yield from _entries({"snr_db": [low, high], "k": None}, inside, scored, truth, config)
        for k in range(scene.k_min, scene.k_max + 1):
            yield from _entries({"snr_db": [low, high], "k": k}, inside & (truth.k == k), scored, truth, config)


def _by_k(scored: dict[str, MethodScores], truth: Truth, config: Config) -> Iterator[dict[str, Any]]:
    """Entries of every K, over all SNR."""
    for k in range(config.scene.k_min, config.scene.k_max + 1):
        yield from _entries({"k": k}, truth.k == k, scored, truth, config)


def _entries(
    head: dict[str, Any], kept: Bool[Tensor, " B"], scored: dict[str, MethodScores], truth: Truth, config: Config
) -> Iterator[dict[str, Any]]:
    """The figures of each method on some scenes, and the bounds in the same units under ``crb`` and ``detection``."""
    chosen = kept.nonzero()[:, 0]
    if len(chosen) == 0:
        return
    for name, scores in scored.items():
        evaluated = chosen[chosen < len(scores.scenes)]
        if len(evaluated) > 0:
            yield head | {"method": name, "scenes": len(evaluated)} | _plain(scores.figures(evaluated))
    yield head | {"method": "crb", "scenes": len(chosen)} | _bound_figures(truth.crb_std[chosen], config.metrics)
    ceilings = {"k_acc": truth.detection_searched[chosen], "k_acc_known_positions": truth.detection[chosen]}
    yield head | {"method": "detection", "scenes": len(chosen)} | {name: float(right.mean()) for name, right in ceilings.items()}


def _bound_figures(std: Float[Tensor, "B K 3"], config: SelectionConfig) -> dict[str, float]:
    """Root-mean-square of the bound, clipped like an error, so that it compares with the methods' figures."""
    clips = std.new_tensor((config.azimuth_clip_deg, config.elevation_clip_deg, config.range_clip_m))
    rms = torch.minimum(std, clips).square().flatten(0, 1).nanmean(dim=0).sqrt().tolist()
    return dict(zip(("azimuth_rmse_deg", "elevation_rmse_deg", "range_rmse_m"), rms, strict=True))


def _plain(figures: dict[str, float]) -> dict[str, float | None]:
    return {name: value if math.isfinite(value) else None for name, value in figures.items()}
