"""Back-projection of snapshots onto the surface, and the sample covariance factor. Offline: nothing in a training step imports this.

Axes: B scenes, L snapshots, M antennas, N elements.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from jaxtyping import Complex
from torch import Tensor

from ris_pipeline.codes import code_phasors
from ris_pipeline.config import Config
from ris_pipeline.simulation import Measurements


def back_project(
    snapshots: Complex[Tensor, "B L M"], channel: Complex[Tensor, "B M N"], codes: Complex[Tensor, "B L N"], ridge: float
) -> Complex[Tensor, "B L N"]:
    """Regularised minimum-norm field x_l = G_l^H (G_l G_l^H + rho I)^-1 y_l with G_l = H diag(c_l), rho = ridge tr(H H^H)/M.

    Because |c| = 1, G_l G_l^H = H H^H for every snapshot: one M x M Cholesky factorisation serves all L snapshots of a scene. No mean
    is removed: that would remove the signal.

    Raises:
        torch.linalg.LinAlgError: H H^H + rho I is singular (a rank-deficient channel with ridge 0).
    """
    gram = channel @ channel.mH
    rho = ridge * gram.diagonal(dim1=-2, dim2=-1).real.mean(dim=-1)
    regularised = gram + torch.diag_embed(rho[:, None].expand(-1, gram.shape[-1])).to(gram.dtype)
    lower = torch.linalg.cholesky(regularised)
    whitened = torch.cholesky_solve(snapshots.transpose(1, 2), lower)
    return codes.conj() * (channel.mH @ whitened).transpose(1, 2)


def sample_factor(measurements: Measurements, config: Config) -> Complex[Tensor, "B N L"]:
    """Factor of the sample covariance R_samp = (1/L) sum_l x_l x_l^H: columns x_l / sqrt(L), unscaled, in the snapshots' precision."""
    codes = code_phasors(measurements.code_index, config.codes.bits, torch.complex128)
    fields = back_project(
        measurements.snapshots.to(torch.complex128), measurements.channel.to(torch.complex128), codes, config.back_projection.ridge
    )
    columns = fields.transpose(1, 2) / measurements.snapshots.shape[1] ** 0.5
    return columns.to(measurements.snapshots.dtype).contiguous()


def with_sample_factor(measurements: Measurements, config: Config) -> Measurements:
    """Return the measurements with their sample factor computed, unless they already carry one."""
    if measurements.sample_factor is not None:
        return measurements
    return replace(measurements, sample_factor=sample_factor(measurements, config))
