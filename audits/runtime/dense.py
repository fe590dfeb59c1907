"""An independent reference: steering vectors, back-projection and effective covariances, dense and in double precision, in NumPy.

Written from the signal model and the builder's specification, not from the library's code, and it imports none of it: an error
must be made twice to go unnoticed. Axes: B scenes, N elements, K slots, L snapshots, M antennas, r columns.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Complex = NDArray[np.complex128]
Real = NDArray[np.float64]


@dataclass(frozen=True)
class Surface:
    """The surface: n_h elements per row, n_v rows, spacing and wavelength in metres."""

    n_h: int
    n_v: int
    spacing_m: float
    wavelength_m: float


@dataclass(frozen=True)
class Options:
    """What the builder is asked to do; ``shrinkage`` is (base, minimum, maximum)."""

    beta: float = 0.0
    loading: float = 0.0
    shrinkage: tuple[float, float, float] | None = None


def steering(surface: Surface, azimuth_rad: Real, elevation_rad: Real, range_m: Real) -> Complex:
    """a_n = exp(+j 2 pi/lambda (r - |p - p_n|)), elements in the last axis, n = v n_h + h."""
    column = (np.arange(surface.n_h) - (surface.n_h - 1) / 2) * surface.spacing_m
    row = (np.arange(surface.n_v) - (surface.n_v - 1) / 2) * surface.spacing_m
    x, z = np.tile(column, surface.n_v), np.repeat(row, surface.n_h)
    radius = np.asarray(range_m, dtype=np.float64)[..., None]
    azimuth, elevation = (np.asarray(angle, dtype=np.float64)[..., None] for angle in (azimuth_rad, elevation_rad))
    east, north, up = np.sin(azimuth) * np.cos(elevation), np.cos(azimuth) * np.cos(elevation), np.sin(elevation)
    distance = np.sqrt((radius * east - x) ** 2 + (radius * north) ** 2 + (radius * up - z) ** 2)
    return np.asarray(np.exp(2j * np.pi / surface.wavelength_m * (radius - distance)))


def true_covariance(
    surface: Surface, *, azimuth_rad: Real, elevation_rad: Real, range_m: Real, power: Real, k: NDArray[np.int64]
) -> Complex:
    """R = A diag(p) A^H of each scene over its first k slots."""
    occupied = np.arange(azimuth_rad.shape[1]) < k[:, None]
    a = steering(surface, azimuth_rad, elevation_rad, np.where(occupied, range_m, 1.0))
    weighted = a * (np.where(occupied, power, 0.0))[..., None]
    return np.asarray(np.einsum("bkn,bkm->bnm", weighted, a.conj()))


def outer(factor: Complex) -> Complex:
    """F F^H of factors [B, N, r]; a plain sum, since threaded products of matrices this small are slower."""
    wide = np.asarray(factor, dtype=np.complex128)
    return np.asarray(np.einsum("bnr,bmr->bnm", wide, wide.conj()))


def effective(predicted: Complex, sample: Complex | None, options: Options, snr_db: Real | None) -> Complex:
    """Effective covariances of dense inputs: trace N each, blend, load and rescale, shrink, trace N."""
    n = predicted.shape[-1]
    r = to_trace_n(predicted)
    if sample is not None and options.beta > 0.0:
        r = (1.0 - options.beta) * r + options.beta * to_trace_n(sample)
    r = to_trace_n(r + options.loading * np.eye(n))
    if options.shrinkage is not None and snr_db is not None:
        base, minimum, maximum = options.shrinkage
        alpha = np.clip(base * 10.0 ** (-np.asarray(snr_db, dtype=np.float64) / 20.0), minimum, maximum)[:, None, None]
        r = (1.0 - alpha) * r + alpha * (trace(r) / n)[:, None, None] * np.eye(n)
    return to_trace_n(r)


def to_trace_n(r: Complex) -> Complex:
    """Scale to trace N; a zero covariance becomes I."""
    n, power = r.shape[-1], trace(r)
    scale = n / np.where(power > 0.0, power, 1.0)
    return np.asarray(np.where((power > 0.0)[:, None, None], r * scale[:, None, None], np.eye(n)))


def trace(r: Complex) -> Real:
    """Real part of the trace."""
    return np.asarray(np.trace(r, axis1=-2, axis2=-1).real)


def receiver_snr_db(snapshots: Complex, noise_variance: Real) -> Real:
    """SNR from measured power and known noise variance, at least -20 dB."""
    power = (np.abs(np.asarray(snapshots, dtype=np.complex128)) ** 2).mean(axis=(1, 2))
    return np.asarray(10.0 * np.log10(np.maximum(power / np.asarray(noise_variance, dtype=np.float64) - 1.0, 1e-2)))


def codes(code_index: NDArray[np.uint8], bits: int) -> Complex:
    """C = exp(2 pi j index / 2**bits)."""
    return np.asarray(np.exp(2j * np.pi * code_index.astype(np.float64) / 2**bits))


def back_projected_factor(snapshots: Complex, channel: Complex, code: Complex, ridge: float) -> Complex:
    """Columns x_l / sqrt(L), x_l = G_l^H (G_l G_l^H + rho I)^-1 y_l with G_l = H diag(c_l), solved snapshot by snapshot."""
    h = np.asarray(channel, dtype=np.complex128)
    y = np.asarray(snapshots, dtype=np.complex128)
    antennas, length = h.shape[1], y.shape[1]
    rho = ridge * (np.abs(h) ** 2).sum(axis=(1, 2)) / antennas
    columns = []
    for snapshot in range(length):
        g = h * code[:, snapshot, None, :]
        gram = g @ g.conj().swapaxes(-1, -2) + rho[:, None, None] * np.eye(antennas)
        columns.append((g.conj().swapaxes(-1, -2) @ np.linalg.solve(gram, y[:, snapshot, :, None]))[..., 0])
    return np.asarray(np.stack(columns, axis=-1) / np.sqrt(length))


def relative_error(got: Complex, expected: Complex) -> Real:
    """Frobenius distance over the norm of the expected matrix, per scene."""
    return np.asarray(np.linalg.norm(got - expected, axis=(-2, -1)) / np.linalg.norm(expected, axis=(-2, -1)))
