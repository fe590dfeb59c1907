"""Covariances as low rank plus a multiple of the identity, and the one builder of effective covariances.

Axes: B scenes, N elements, r columns. R = F F^H + delta I is Hermitian and positive semidefinite by construction. Small Gram products
are taken in double precision, because differences of squared norms in complex64 go negative by 1e-6.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Complex, Float
from torch import Tensor


@dataclass(frozen=True)
class FactoredCovariance:
    """R = F F^H + delta I with F = ``factor`` [B, N, r] and delta = ``diagonal`` [B], real and non-negative."""

    factor: Complex[Tensor, "B N r"]
    diagonal: Float[Tensor, " B"]

    @classmethod
    def from_factor(cls, factor: Complex[Tensor, "B N r"]) -> FactoredCovariance:
        """R = F F^H, without a diagonal part."""
        return cls(factor, factor.new_zeros(factor.shape[0], dtype=factor.real.dtype))

    @property
    def n(self) -> int:
        """Dimension N."""
        return self.factor.shape[-2]

    @property
    def rank(self) -> int:
        """Number of columns r of the factor."""
        return self.factor.shape[-1]

    def trace(self) -> Float[Tensor, " B"]:
        """Trace |F|^2 + N delta of R, in double precision."""
        return _squared_norm(self.factor) + self.n * self.diagonal.double()

    def gram(self) -> Complex[Tensor, "B r r"]:
        """F^H F in double precision."""
        wide = self.factor.to(torch.complex128)
        return wide.mH @ wide

    def eigenvalues(self) -> Float[Tensor, "B N"]:
        """All N eigenvalues, largest first: delta + the top min(r, N) eigenvalues of the Gram matrix, then copies of delta.

        A matrix that is not finite has NaN for eigenvalues, so that a training step can mask it; LAPACK would refuse it.
        """
        gram = self.gram()
        finite = torch.isfinite(gram).all(dim=-1).all(dim=-1)[:, None]
        values = torch.linalg.eigvalsh(torch.where(finite[..., None], gram, 0.0))
        top = torch.where(finite, values, math.nan).flip(-1).clamp_min(0.0)[..., : self.n]
        rest = top.new_zeros(top.shape[0], self.n - top.shape[-1])
        return torch.cat((top, rest), dim=-1) + self.diagonal.double()[:, None]

    def leading_subspace(self, k: int) -> Complex[Tensor, "B N k"]:
        """Orthonormal basis of the k leading eigenvectors, k <= r; not meant to be differentiated.

        Directions whose Gram eigenvalue vanishes relative to the largest are returned as zero columns.
        """
        values, vectors = torch.linalg.eigh(self.gram().detach())
        values, vectors = values.flip(-1)[..., :k], vectors.flip(-1)[..., :k]
        floor = 1e-14 * values[..., :1].clamp_min(torch.finfo(torch.float64).tiny)
        scale = torch.where(values > floor, values.clamp_min(floor).rsqrt(), 0.0)
        return (self.factor.detach().to(torch.complex128) @ vectors) * scale[:, None, :]

    def inner(self, other: FactoredCovariance) -> Float[Tensor, " B"]:
        """Frobenius inner product tr(R S), real, in double precision."""
        cross = self.factor.to(torch.complex128).mH @ other.factor.to(torch.complex128)
        mine, theirs = self.diagonal.double(), other.diagonal.double()
        mixed = mine * _squared_norm(other.factor) + theirs * _squared_norm(self.factor)
        return _squared_norm(cross) + mixed + self.n * mine * theirs

    def squared_distance(self, other: FactoredCovariance) -> Float[Tensor, " B"]:
        r"""Squared Frobenius distance \|R - S\|^2, clamped at 0."""
        return (self.inner(self) + other.inner(other) - 2.0 * self.inner(other)).clamp_min(0.0)

    def quadratic(self, vectors: Complex[Tensor, "Q N"]) -> Float[Tensor, "B Q"]:
        """a^H R a for every row a of ``vectors``."""
        projected = vectors.conj() @ self.factor.to(vectors.dtype)
        return projected.abs().square().sum(dim=-1) + self.diagonal[:, None] * vectors.abs().square().sum(dim=-1)

    def dense(self) -> Complex[Tensor, "B N N"]:
        """The N x N matrices, for people, tests and audits."""
        identity = torch.eye(self.n, dtype=self.factor.dtype, device=self.factor.device)
        return self.factor @ self.factor.mH + self.diagonal[:, None, None] * identity

    def detach(self) -> FactoredCovariance:
        """The same covariance without gradient."""
        return FactoredCovariance(self.factor.detach(), self.diagonal.detach())

    def __getitem__(self, index: Tensor | slice) -> FactoredCovariance:
        return FactoredCovariance(self.factor[index], self.diagonal[index])


@dataclass(frozen=True)
class Shrinkage:
    """SNR-aware shrinkage weight alpha = clip(base 10^(-snr_db/20), minimum, maximum)."""

    base: float
    minimum: float
    maximum: float

    def __post_init__(self) -> None:
        """Refuse a law whose weight could leave 0..1."""
        if not (0.0 <= self.base < math.inf and 0.0 <= self.minimum <= self.maximum <= 1.0):
            raise ValueError(f"shrinkage needs a finite base >= 0 and 0 <= minimum <= maximum <= 1, got {self}")

    def alpha(self, snr_db: Tensor) -> Tensor:
        """Weight of the identity at an SNR."""
        return (self.base * 10.0 ** (-snr_db.double() / 20.0)).clamp(self.minimum, self.maximum)


def build_effective_covariance(
    predicted: FactoredCovariance,
    sample: FactoredCovariance | None = None,
    *,
    beta: float = 0.0,
    diagonal_loading: float = 0.0,
    shrinkage: Shrinkage | None = None,
    snr_db: Float[Tensor, " B"] | float | None = None,
    target_trace: float | None = None,
) -> FactoredCovariance:
    """Build the effective covariance that the K-head, the loss and MUSIC see. Nobody else normalises, blends, loads or shrinks.

    In this order: each input is scaled to trace N; (1 - beta) predicted + beta sample; plus diagonal_loading I and rescaled;
    (1 - alpha) R + alpha (tr R / N) I; scaled to ``target_trace`` (N unless given). A zero prediction becomes I, with zero gradient. The
    sample never carries gradient; without one, or with beta = 0, the prediction stands alone.

    Args:
        predicted: predicted covariance, [B, N, r].
        sample: sample covariance of the same scenes.
        beta: weight of the sample, 0..1.
        diagonal_loading: loading relative to trace N.
        shrinkage: shrinkage law; needs ``snr_db``.
        snr_db: signal-to-noise ratio per scene, or one for all.
        target_trace: trace of the result.

    Raises:
        ValueError: an option is out of range, shapes disagree, or shrinkage is asked for without an SNR.
    """
    _check_options(predicted, sample, beta, diagonal_loading, shrinkage, snr_db, target_trace)
    effective = _unit_power(predicted)
    if sample is not None and beta > 0.0:
        effective = _blend(effective, _unit_power(sample.detach()), beta)
    if diagonal_loading > 0.0:
        effective = _mix_identity(effective, torch.full_like(effective.diagonal, diagonal_loading / (1.0 + diagonal_loading)))
    if shrinkage is not None and snr_db is not None:
        alpha = shrinkage.alpha(torch.as_tensor(snr_db, dtype=torch.float64, device=effective.diagonal.device))
        effective = _mix_identity(effective, alpha.expand_as(effective.diagonal))
    scale = 1.0 if target_trace is None else target_trace / predicted.n
    dtype = predicted.factor.dtype
    return FactoredCovariance((effective.factor * math.sqrt(scale)).to(dtype), (effective.diagonal * scale).to(predicted.diagonal.dtype))


def _check_options(
    predicted: FactoredCovariance,
    sample: FactoredCovariance | None,
    beta: float,
    diagonal_loading: float,
    shrinkage: Shrinkage | None,
    snr_db: Tensor | float | None,
    target_trace: float | None,
) -> None:
    if not 0.0 <= beta <= 1.0:
        raise ValueError(f"beta must be in 0..1, got {beta}")
    if not 0.0 <= diagonal_loading < math.inf:
        raise ValueError(f"diagonal_loading must be finite and not negative, got {diagonal_loading}")
    if shrinkage is not None and snr_db is None:
        raise ValueError("shrinkage needs snr_db, got None")
    if target_trace is not None and not 0.0 < target_trace < math.inf:
        raise ValueError(f"target_trace must be finite and positive, got {target_trace}")
    if sample is not None and sample.factor.shape[:-1] != predicted.factor.shape[:-1]:
        raise ValueError(f"sample must have batch and N {tuple(predicted.factor.shape[:-1])}, got {tuple(sample.factor.shape[:-1])}")


def _unit_power(covariance: FactoredCovariance) -> FactoredCovariance:
    """Scale to trace N in double precision; a zero covariance becomes I with zero gradient."""
    factor, diagonal = covariance.factor.to(torch.complex128), covariance.diagonal.double()
    # The result does not change with the input's scale, so this factor, which keeps squares in range, needs no gradient.
    peak = torch.maximum(factor.detach().abs().amax(dim=(-2, -1)), diagonal.detach().sqrt())
    is_zero = peak == 0.0
    peak = torch.where(is_zero, 1.0, peak)
    factor, diagonal = factor / peak[:, None, None], diagonal / peak / peak
    trace = _squared_norm(factor) + covariance.n * diagonal
    gain = covariance.n / torch.where(is_zero, 1.0, trace)
    return FactoredCovariance(factor * torch.where(is_zero, 0.0, gain.sqrt())[:, None, None], torch.where(is_zero, 1.0, diagonal * gain))


def _blend(predicted: FactoredCovariance, sample: FactoredCovariance, beta: float) -> FactoredCovariance:
    factor = torch.cat((math.sqrt(1.0 - beta) * predicted.factor, math.sqrt(beta) * sample.factor), dim=-1)
    return FactoredCovariance(factor, (1.0 - beta) * predicted.diagonal + beta * sample.diagonal)


def _mix_identity(covariance: FactoredCovariance, alpha: Float[Tensor, " B"]) -> FactoredCovariance:
    """(1 - alpha) R + alpha I for R of trace N, which keeps the trace."""
    return FactoredCovariance(covariance.factor * (1.0 - alpha).sqrt()[:, None, None], (1.0 - alpha) * covariance.diagonal + alpha)


def _squared_norm(matrix: Complex[Tensor, "B p q"]) -> Float[Tensor, " B"]:
    wide = torch.view_as_real(matrix.to(torch.complex128).resolve_conj())
    return wide.square().sum(dim=(-3, -2, -1))
