"""Covariance paths: what each consumer received, against the specification and against each other."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from audits.runtime import dense
from audits.runtime.dense import Complex, Options, Real
from audits.runtime.report import Evidence, Result, Row
from audits.runtime.watched import Received, Watched, array_of
from ris_pipeline.config import Config
from ris_pipeline.covariance import FactoredCovariance

TOLERANCE = 1e-5
HERMITIAN_TOLERANCE = 1e-6
EIGENVALUE_TOLERANCE = 1e-6


@dataclass(frozen=True)
class Path:
    """A way that a covariance takes: the run, the consumer and its argument, and what should have arrived."""

    name: str
    run: str
    target: str
    argument: str
    base: str
    blend_only: bool = False


PATHS = (
    Path("K-head, training", "training", "k_head", "covariance", "prediction"),
    Path("training blend, prediction", "training", "training_loss", "predicted", "prediction", blend_only=True),
    Path("training blend, truth", "training", "training_loss", "truth", "truth", blend_only=True),
    Path("loss, prediction", "training", "covariance_nmse", "predicted", "prediction"),
    Path("loss, target", "training", "covariance_nmse", "truth", "truth"),
    Path("K-head, localize network", "network", "k_head", "covariance", "prediction"),
    Path("eigenvalue rule, localize network", "network", "network_sources", "prediction", "prediction"),
    Path("MUSIC, localize music", "music", "music", "covariance", "sample"),
    Path("K-head, localize hybrid", "hybrid", "k_head", "covariance", "prediction"),
    Path("MUSIC, localize hybrid", "hybrid", "music", "covariance", "prediction"),
)


@dataclass(frozen=True)
class Seen:
    """A path of one case with the matrix that was observed on it, dense and in double precision, or why there is none."""

    watched: Watched
    path: Path
    received: Received
    matrix: Complex | None
    problem: str

    @property
    def subject(self) -> str:
        """Name for people."""
        return f"{self.path.name} ({self.watched.case.name})"


def look(watched: Watched) -> list[Seen]:
    """The paths of one case."""
    runs = {"training", *watched.localizations}
    return [_look(watched, path) for path in PATHS if path.run in runs or (path.run == "hybrid" and watched.case.hybrid)]


def _look(watched: Watched, path: Path) -> Seen:
    received = watched.received(path.run, path.target, path.argument)
    matrices, problem = [], "" if received.parts else f"{path.target} was not called with a covariance"
    for part in received.parts:
        matrix = _dense(part)
        if matrix is None:
            problem = f"expected a covariance, got {type(part).__name__}"
        else:
            matrices.append(matrix)
    scenes = sum(len(matrix) for matrix in matrices)
    if not problem and scenes != len(watched.batch):
        problem = f"expected {len(watched.batch)} scenes, saw {scenes}"
    return Seen(watched, path, received, None if problem else np.concatenate(matrices), problem)


def _dense(part: Any) -> Complex | None:
    if isinstance(part, FactoredCovariance):
        n = part.factor.shape[-2]
        diagonal = part.diagonal.detach().cpu().numpy()
        return np.asarray(dense.outer(array_of(part.factor)) + diagonal[:, None, None] * np.eye(n))
    if isinstance(part, Tensor) and part.ndim == 3 and part.shape[-1] == part.shape[-2]:
        return array_of(part)
    return None


def expected(watched: Watched, path: Path) -> list[Complex]:
    """What the specification says should have arrived; two answers where a missing sample may be computed on the way."""
    config = watched.config
    stored = watched.batch.measurements.sample_factor
    sample = None if stored is None else watched.sample_matrix
    base = _base(watched, path)
    if base is None:
        return []
    options = options_of(config)
    if path.blend_only:
        options = Options(beta=options.beta)
    if path.base == "sample":
        options, sample = Options(0.0, options.loading, options.shrinkage), None
    snr_db = snr_db_of(watched)
    answers = [dense.effective(base, sample, options, snr_db)]
    if stored is None and path.run != "training":
        answers.append(dense.effective(base, watched.sample_matrix, options, snr_db))
    return answers


def _base(watched: Watched, path: Path) -> Complex | None:
    if path.base == "truth":
        return watched.true_matrix
    if path.base == "sample":
        return watched.sample_matrix
    factor = watched.network_factor(path.run)
    return None if factor is None else dense.outer(array_of(factor))


def options_of(config: Config) -> Options:
    """Options of the builder, as configured."""
    law = config.covariance.shrinkage
    shrinkage = None if law is None else (law.base, law.minimum, law.maximum)
    return Options(config.covariance.beta, config.covariance.diagonal_loading, shrinkage)


def snr_db_of(watched: Watched) -> Real | None:
    """SNR as the receiver knows it: from the noise variance, else the label."""
    measured = watched.batch.measurements
    if measured.noise_variance is not None:
        return dense.receiver_snr_db(array_of(measured.snapshots), measured.noise_variance.cpu().numpy())
    return None if measured.snr_db is None else np.asarray(measured.snr_db.cpu().numpy(), dtype=np.float64)


@dataclass(frozen=True)
class Figures:
    """Numbers of one observed path; NaN where nothing was observed."""

    hermitian: float = np.nan
    trace: float = np.nan
    smallest: float = np.nan
    agreement: float = np.nan
    finite: bool = False


def measure(seen: Seen) -> Figures:
    """Hermitian error, trace error, smallest eigenvalue and distance from the specification, worst over scenes."""
    if seen.matrix is None:
        return Figures()
    r = seen.matrix
    if not np.isfinite(r).all():
        return Figures()
    n = r.shape[-1]
    adjoint = max([_hermitian_error(r), *(_hermitian_error(array_of(part.dense())) for part in _factored(seen))])
    lowest = min([_smallest_eigenvalue(r), *(float(part.diagonal.detach().min()) for part in _factored(seen))])
    trace_error = float(np.abs(dense.trace(r) / n - 1.0).max())
    answers = [float(dense.relative_error(r, answer).max()) for answer in expected(seen.watched, seen.path)]
    return Figures(adjoint, trace_error, lowest, min(answers, default=np.nan), finite=True)


def _smallest_eigenvalue(r: Complex) -> float:
    return float(torch.linalg.eigvalsh(torch.from_numpy((r + r.conj().swapaxes(-1, -2)) / 2)).min())


def _factored(seen: Seen) -> list[FactoredCovariance]:
    return seen.received.parts if seen.received.factored else []


def _hermitian_error(r: Complex) -> float:
    return float(np.abs(r - r.conj().swapaxes(-1, -2)).max() / np.abs(r).max())


def detail(seen: Seen, figures: Figures) -> Row:
    """One row of the long table."""
    return {
        "path": seen.path.name,
        "case": seen.watched.case.name,
        "scenes": 0 if seen.matrix is None else len(seen.matrix),
        "Hermitian error": figures.hermitian,
        "trace error": figures.trace,
        "smallest eigenvalue": figures.smallest,
        "agreement error": figures.agreement,
        "verdict": "passed" if not list(judge(seen, figures)) else "FAILED",
    }


def judge(seen: Seen, figures: Figures) -> Iterator[Result]:
    """What failed on one path, checks PATH001 to PATH005 and PATH008; nothing where all is well."""

    def failure(code: str, message: str, evidence: Evidence) -> Result:
        return Result(code, seen.subject, False, message, evidence)

    if seen.matrix is None:
        yield failure("PATH001", f"not observed: {seen.problem}", {"calls": len(seen.received.parts)})
        return
    n = seen.matrix.shape[-1]
    if not figures.finite:
        yield failure("PATH002", "holds values that are not finite", {"entries": int((~np.isfinite(seen.matrix)).sum())})
        return
    if figures.hermitian > HERMITIAN_TOLERANCE:
        yield failure("PATH002", f"is not Hermitian: relative error {figures.hermitian:.2e}", {"hermitian_error": figures.hermitian})
    if figures.trace > TOLERANCE:
        traces = dense.trace(seen.matrix).tolist()
        yield failure("PATH003", f"trace is not N = {n}: relative error {figures.trace:.2e}", {"N": n, "traces": traces})
    if figures.smallest < -EIGENVALUE_TOLERANCE * n:
        yield failure("PATH004", f"has the eigenvalue {figures.smallest:.3g}", {"smallest_eigenvalue": figures.smallest})
    if not figures.agreement <= TOLERANCE:
        message = f"differs from the specification by {figures.agreement:.2e}, relative Frobenius norm"
        yield failure("PATH005", message, {"agreement_error": figures.agreement, **_options_evidence(seen)})
    foreign = _foreign(seen)
    if foreign:
        yield failure("PATH008", f"{foreign} of {len(seen.received.parts)} covariances did not come from the builder", {"foreign": foreign})


def _options_evidence(seen: Seen) -> Evidence:
    options, snr = options_of(seen.watched.config), snr_db_of(seen.watched)
    return {
        "beta": options.beta,
        "loading": options.loading,
        "shrinkage": options.shrinkage or "off",
        "snr_db": [] if snr is None else snr.tolist(),
    }


def _foreign(seen: Seen) -> int:
    """How many received covariances are not, and share no storage with, something that the builder returned in the same run."""
    built = seen.watched.built(seen.path.run)
    storages = {covariance.factor.untyped_storage().data_ptr() for covariance in built}

    def is_built(part: object) -> bool:
        if not isinstance(part, FactoredCovariance):
            return False
        return any(part is other for other in built) or part.factor.untyped_storage().data_ptr() in storages

    return sum(not is_built(part) for part in seen.received.parts)


def agree(seen: list[Seen]) -> Iterator[tuple[str, float]]:
    """Distances between paths of one case that ask for the same: PATH006."""
    by_name = {item.path.name: item for item in seen if item.matrix is not None}
    watched = seen[0].watched
    first = by_name.get(PATHS[0].name)
    for item in by_name.values():
        same = item.path.base == "prediction" and not item.path.blend_only
        # Without a stored sample, localization may compute one; only training is bound to the prediction alone.
        comparable = watched.batch.measurements.sample_factor is not None or item.path.run == "training"
        if first is not None and same and comparable and item is not first:
            yield f"{item.path.name} against {first.path.name}", _distance(item, first.matrix)
    options = options_of(watched.config)
    for side, blend in (("loss, prediction", "training blend, prediction"), ("loss, target", "training blend, truth")):
        if side in by_name and blend in by_name:
            base = by_name[blend].matrix
            assert base is not None
            reference = dense.effective(base, None, Options(0.0, options.loading, options.shrinkage), snr_db_of(watched))
            yield f"{side} against {blend}, loaded and shrunk", _distance(by_name[side], reference)


def _distance(item: Seen, reference: Complex | None) -> float:
    assert item.matrix is not None
    assert reference is not None
    return float(dense.relative_error(item.matrix, reference).max())


def gradients(watched: Watched) -> Iterator[tuple[str, bool, str]]:
    """Where gradient must arrive and where it must not: (subject, passed, what was seen), check PATH007."""
    for name, target, argument in (
        ("prediction of the network", "training_loss", "prediction"),
        ("training blend, prediction", "training_loss", "predicted"),
        ("loss, prediction", "covariance_nmse", "predicted"),
    ):
        yield _must_arrive(name, watched, target, argument)
    for name, target in (("training blend, truth", "training_loss"), ("loss, target", "covariance_nmse")):
        parts = [part for part in watched.received("training", target, "truth").parts if isinstance(part, FactoredCovariance)]
        needs = any(part.factor.requires_grad or part.diagonal.requires_grad for part in parts)
        yield (
            name,
            bool(parts) and not needs,
            "asks for a gradient" if needs else "asks for no gradient" if parts else "not observed",
        )
    if watched.sample is not None:
        grad = watched.sample.grad
        yield "sample factor", grad is None, "no gradient" if grad is None else f"gradient of norm {float(grad.abs().norm()):.2e}"


def _must_arrive(name: str, watched: Watched, target: str, argument: str) -> tuple[str, bool, str]:
    calls = [call.arguments.get(argument) for call in watched.training.of(target)]
    tensors: list[Tensor] = [value.factor for value in calls if value is not None and hasattr(value, "factor")]
    grads = [tensor.grad for tensor in tensors if tensor.requires_grad]
    if not tensors or len(grads) < len(tensors) or any(grad is None for grad in grads):
        return name, False, "no gradient arrived" if tensors else "not observed"
    norms = [float(grad.abs().norm()) for grad in grads if grad is not None]
    alive = all(np.isfinite(norm) and norm > 0.0 for norm in norms)
    return name, alive, f"gradient of norm {', '.join(f'{norm:.2e}' for norm in norms)}"


SUMMARY: tuple[tuple[str, str, Callable[[Figures], float]], ...] = (
    ("PATH002", "largest Hermitian error", lambda figures: figures.hermitian),
    ("PATH003", "largest trace error", lambda figures: figures.trace),
    ("PATH004", "smallest eigenvalue", lambda figures: -figures.smallest),
    ("PATH005", "largest distance from the specification", lambda figures: figures.agreement),
)
"""What a passed check shows as evidence."""


def spread(watched: Watched) -> dict[str, Any]:
    """Over which K and SNR the paths were watched."""
    batch = watched.batch
    snr = batch.measurements.snr_db
    histogram = torch.bincount(batch.sources.k.cpu(), minlength=watched.config.scene.k_max + 1)[1:].tolist()
    values = [] if snr is None else [float(snr.min()), float(snr.max())]
    return {"scenes": len(batch), "scenes with K = 1..K_max": histogram, "snr_db (lowest, highest)": values}
