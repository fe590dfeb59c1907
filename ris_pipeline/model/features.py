"""Physical features of a measurement: coarse spectra of a greedy pursuit, its residuals, and the matched filter's spectrum.

Axes: B scenes, L snapshots, M antennas, N elements, G grid cells = A azimuths x E elevations x R ranges, T pursuit rounds. There is no
linear solve: atoms are orthogonalised one after the other, snapshot by snapshot.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Complex, Float, Int
from torch import Tensor, nn

from ris_pipeline.arrays import search_grid
from ris_pipeline.codes import code_phasors
from ris_pipeline.config import Config, SceneConfig
from ris_pipeline.simulation import Measurements

_FLOOR = 1e-4
"""Spectra and residual shares below -40 dB carry nothing at the SNRs of interest."""


@dataclass(frozen=True)
class Features:
    """What the trunk and the count head see.

    ``maps`` are log spectra [B, (T+1) R, A, E]; ``residual`` is the log share of the power left after 0..K rounds; ``excess`` is the log
    ratio of that residual to the noise that should be left; ``description_length`` are MDL scores of 0..K sources relative to their
    smallest, in nats per measurement.
    """

    maps: Float[Tensor, "B C A E"]
    residual: Float[Tensor, "B counts"]
    excess: Float[Tensor, "B counts"]
    description_length: Float[Tensor, "B counts"]


def coarse_axes(config: Config) -> tuple[Float[Tensor, " A"], Float[Tensor, " E"], Float[Tensor, " R"]]:
    """Centres of the coarse cells: uniform in azimuth and elevation (rad), geometric in range (given as inverse range, 1/m)."""
    scene, model = config.scene, config.model
    azimuth_rad = _cell_centres(model.grid_azimuth) * scene.azimuth_max_rad
    elevation_rad = _cell_centres(model.grid_elevation) * scene.elevation_max_rad
    range_m = range_from_fraction((_cell_centres(model.grid_range) + 1.0) / 2.0, scene)
    return azimuth_rad, elevation_rad, 1.0 / range_m


def range_from_fraction(fraction: Float[Tensor, "*S"], scene: SceneConfig) -> Float[Tensor, "*S"]:
    """Range in metres at a fraction 0..1 of the logarithmic interval range_min_m..range_max_m."""
    return scene.range_min_m * torch.exp(fraction * math.log(scene.range_max_m / scene.range_min_m))


class PursuitFeatures(nn.Module):
    """Orthogonal matching pursuit on the coarse grid, with everything it saw on the way.

    It runs on z_l = Q diag(c_l) x_l, the back-projected fields x_l of the sample factor in an orthonormal basis Q of the channel's rows:
    there every direction of the surface counts alike, while in the raw snapshots the line of sight to the base station hides the
    sources. Without a sample factor it runs on the snapshots, with H in the place of Q.

    Round t takes the cell with the largest sum_l |a^H diag(c_l)^H Q^H r_l|^2, builds its atom g_l = Q diag(c_l) a, orthogonalises it
    against the earlier atoms in every snapshot and removes it from the residuals r_l. (Pati, Rezaiifar, Krishnaprasad, "Orthogonal
    matching pursuit", Asilomar 1993, with one amplitude per snapshot.)
    """

    grid_real: Float[Tensor, "G2 N2"]
    grid: Complex[Tensor, "G N"]

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        axes = coarse_axes(config)
        self.shape = tuple(axis.numel() for axis in axes)
        _, steering = search_grid(config.array, *axes)
        grid = steering.flatten(0, 2).to(torch.complex64)
        conjugate = grid.conj().resolve_conj()
        # One real product of twice the size is faster than a complex one and leaves |.|^2 as a plain sum of squares.
        rows = torch.cat((torch.cat((conjugate.real, -conjugate.imag), 1), torch.cat((conjugate.imag, conjugate.real), 1)))
        self.register_buffer("grid", grid, persistent=False)
        self.register_buffer("grid_real", rows.contiguous(), persistent=False)

    @property
    def n_maps(self) -> int:
        """Channels of the maps: the spectra of the first rounds and the matched filter's, each with R ranges."""
        return (min(self.config.model.pursuit_maps, self.config.scene.k_max) + 1) * self.shape[2]

    @torch.no_grad()
    def forward(self, measurements: Measurements) -> Features:
        """Compute the features of B scenes; differentiates nothing."""
        codes = code_phasors(measurements.code_index, self.config.codes.bits, measurements.snapshots.dtype)
        data, rows, noise = self._pursued(measurements, codes)
        energy = _power(data)
        residual, basis, spectra, residuals = data, data.new_zeros((*data.shape, 0)), [], [energy]
        for _ in range(self.config.scene.k_max):
            spectra.append(self.spectrum(codes.conj() * (residual @ rows.conj())))
            atom = self.grid[spectra[-1].argmax(dim=1)]
            residual, basis = _remove(residual, basis, (codes * atom[:, None, :]) @ rows.transpose(1, 2))
            residuals.append(_power(residual))
        matched = self.spectrum(codes.conj() * (measurements.snapshots @ measurements.channel.conj()))
        maps = [_log_share(spectrum) for spectrum in (*spectra[: self.config.model.pursuit_maps], matched)]
        left = torch.stack(residuals, dim=1) / energy[:, None]
        return Features(
            maps=torch.stack(maps, dim=1).unflatten(2, self.shape).movedim(-1, 2).flatten(1, 2),
            residual=torch.log(left + _FLOOR),
            excess=self._excess(torch.stack(residuals, dim=1), noise),
            description_length=self._description_length(left, data),
        )

    def _pursued(
        self, measurements: Measurements, codes: Complex[Tensor, "B L N"]
    ) -> tuple[Complex[Tensor, "B L M"], Complex[Tensor, "B M N"], Float[Tensor, " B"] | None]:
        """Data and rows of the pursuit, and the noise power in the data.

        The back-projection turned noise of variance sigma^2 into sigma^2 lambda / (lambda + rho)^2 along the eigenvector of H H^H that
        belongs to lambda.
        """
        snapshots, channel, factor = measurements.snapshots, measurements.channel, measurements.sample_factor
        noise = measurements.noise_variance
        if factor is None:
            return snapshots, channel, noise
        rows, eigenvalues = _orthonormal_rows(channel)
        data = (codes * factor.transpose(1, 2)) @ rows.transpose(1, 2) * snapshots.shape[1] ** 0.5
        if noise is None:
            return data, rows, None
        rho = self.config.back_projection.ridge * eigenvalues.mean(dim=1, keepdim=True)
        gain = eigenvalues / (eigenvalues + rho).square().clamp_min(1e-30)
        return data, rows, noise * gain.mean(dim=1)

    def spectrum(self, field: Complex[Tensor, "B L N"]) -> Float[Tensor, "B G"]:
        """sum_l |a^H x_l|^2 on the coarse grid."""
        batch, length, n = field.shape
        columns = torch.cat((field.real, field.imag), dim=2).reshape(batch * length, 2 * n)
        response = self.grid_real @ columns.T
        return response.square().view(2, -1, batch, length).sum(dim=(0, 3)).T

    def _excess(self, residuals: Float[Tensor, "B counts"], noise: Float[Tensor, " B"] | None) -> Float[Tensor, "B counts"]:
        """Log ratio of the residual to the noise that k fitted amplitudes per snapshot and k positions leave; 0 for unknown noise."""
        if noise is None:
            return torch.zeros_like(residuals)
        length, antennas = self.config.codes.snapshots, self.config.array.bs_antennas
        count = torch.arange(residuals.shape[1], device=residuals.device)
        freedom = (1.0 - count * (length + 1.5) / (length * antennas)).clamp_min(1.0 / (length * antennas))
        return torch.log(residuals / (noise[:, None] * freedom).clamp_min(1e-30) + _FLOOR)

    def _description_length(self, left: Float[Tensor, "B counts"], data: Tensor) -> Float[Tensor, "B counts"]:
        """MDL of the conditional model, log rss_k + (2 L + 3) k log(2 L M) / (2 L M), which holds although the code changes.

        (Rissanen, "Modeling by shortest data description", Automatica 14, 1978.) The usual MDL on covariance eigenvalues does not hold
        here: with a new code in every snapshot the snapshots share no subspace.
        """
        _, length, antennas = data.shape
        total = length * antennas
        count = torch.arange(left.shape[1], device=left.device)
        scores = torch.log(left + _FLOOR) + (2 * length + 3) * count * math.log(2 * total) / (2 * total)
        return scores - scores.amin(dim=1, keepdim=True)


def _orthonormal_rows(channel: Complex[Tensor, "B M N"]) -> tuple[Complex[Tensor, "B M N"], Float[Tensor, "B M"]]:
    """Orthonormal basis of the channel's row space, and the eigenvalues of H H^H; directions that H does not have are zero rows.

    A channel that is not finite, which LAPACK would refuse, gives NaN, so that a training step can mask it.
    """
    gram = (channel @ channel.mH).to(torch.complex128)
    finite = torch.isfinite(gram).all(dim=-1).all(dim=-1)[:, None]
    values, vectors = torch.linalg.eigh(torch.where(finite[..., None], gram, 0.0))
    values = torch.where(finite, values, math.nan)
    floor = 1e-6 * values[:, -1:]
    scale = torch.where(values > floor, values.clamp_min(1e-30).rsqrt(), 0.0)
    basis = (vectors * scale[:, None, :]).to(channel.dtype)
    return basis.mH @ channel, values.clamp_min(0.0).float()


def _remove(
    residual: Complex[Tensor, "B L M"], basis: Complex[Tensor, "B L M t"], atom: Complex[Tensor, "B L M"]
) -> tuple[Complex[Tensor, "B L M"], Complex[Tensor, "B L M t1"]]:
    """Project one more atom out of the residual, snapshot by snapshot (modified Gram-Schmidt)."""
    before = atom.abs().square().sum(dim=2, keepdim=True)
    for column in basis.unbind(dim=-1):
        atom = atom - column * (column.conj() * atom).sum(dim=2, keepdim=True)
    norm = atom.abs().square().sum(dim=2, keepdim=True)
    # An atom that repeats an earlier one has nothing new to remove.
    unit = torch.where(norm > 1e-6 * before, atom * norm.clamp_min(1e-30).rsqrt(), 0.0)
    residual = residual - unit * (unit.conj() * residual).sum(dim=2, keepdim=True)
    return residual, torch.cat((basis, unit[..., None]), dim=-1)


def _power(snapshots: Complex[Tensor, "B L M"]) -> Float[Tensor, " B"]:
    return torch.view_as_real(snapshots.resolve_conj()).square().sum(dim=-1).mean(dim=(1, 2)).clamp_min(1e-30)


def _log_share(spectrum: Float[Tensor, "B G"]) -> Float[Tensor, "B G"]:
    """Spectrum relative to its peak in units of 10 dB, shifted to about zero mean."""
    share = spectrum / spectrum.amax(dim=1, keepdim=True).clamp_min(1e-30)
    return torch.log10(share + _FLOOR) + 1.0


def _cell_centres(count: int) -> Float[Tensor, " count"]:
    """Centres of ``count`` equal cells of [-1, 1]."""
    return (torch.arange(count, dtype=torch.float64) + 0.5) * (2.0 / count) - 1.0


def cell_index(value: Float[Tensor, "*S"], limit: float, count: int) -> Int[Tensor, "*S"]:
    """Cell of [-limit, limit] that holds ``value``."""
    return ((value / limit + 1.0) * (count / 2)).long().clamp(0, count - 1)
