r"""Orthogonal matching pursuit on a near-field dictionary, jointly over the snapshots.

Axes: B scenes, L snapshots, M antennas, N elements, K source slots, Q atoms, J atoms found. The dictionary holds the steering
vectors a(p_q) on the search grid; snapshot l sees atom q as g_lq = H diag(c_l) a(p_q). A source has the same atom in all snapshots
and an amplitude of its own in each, so the next atom is the one that explains most of the residuals r_l,

    q* = argmax_q sum_l |g_lq^H r_l|^2 / |g_lq|^2,

after which all residuals are projected off all atoms found. Nothing is refined off the grid: positions are grid points, wrong by
up to half a cell, and a source between two points often takes a second atom. The maximum-likelihood search does better at a
higher price.

Coherent sources (static symbols) are no obstacle: the amplitudes are free in every snapshot, whatever ties them together.

Sources: Pati, Rezaiifar, Krishnaprasad, "Orthogonal matching pursuit", Asilomar 1993; Tropp, Gilbert, Strauss, "Algorithms for
simultaneous sparse approximation", Signal Processing 86, 2006; Cui and Dai, "Channel estimation for extremely large-scale MIMO:
far-field or near-field?", IEEE TCOM 70(4), 2022 (dictionaries uniform in inverse range).
"""

from __future__ import annotations

import torch
from jaxtyping import Complex, Float, Int
from torch import Tensor

from ris_pipeline.arrays import Sources, steering_vector
from ris_pipeline.config import Config
from ris_pipeline.estimators.beamformers import check_count
from ris_pipeline.estimators.counting import count_from_residuals
from ris_pipeline.estimators.sensing import Sensing, amplitudes, orthonormal_basis, outside
from ris_pipeline.estimators.spectrum import SearchGrid, grid_of
from ris_pipeline.simulation import Measurements

CHUNK_BYTES = 1 << 27
"""Memory that the norms of the sensed atoms of one chunk of scenes may take."""
LEAST_NORM = 1e-6
"""Squared norm, relative to the largest, below which a sensed atom is not divided by its own norm."""


def omp(measurements: Measurements, config: Config, k: Int[Tensor, " B"] | None = None) -> Sources:
    """Grid points that a simultaneous orthogonal matching pursuit picks, in the order in which it picks them.

    Powers are mean squared least-squares amplitudes.

    Args:
        measurements: snapshots, channels and codes; ``noise_variance`` is used by the count where it is known.
        config: the configuration; the grid and ``false_alarm`` come from ``estimate``.
        k: number of sources per scene, 0..k_max; counted by :func:`count_from_residuals` on the pursuit's residuals when absent.

    Raises:
        DataError: k lies outside 0..k_max.
    """
    if k is not None:
        check_count(k, config)
    grid = grid_of(config, measurements.snapshots.device)
    per_scene = 8 * measurements.snapshots.shape[1] * len(grid.search)
    chunks = torch.arange(len(measurements), device=measurements.snapshots.device).split(max(1, CHUNK_BYTES // per_scene))
    parts = [_pursue(measurements[c], None if k is None else k[c], grid, config) for c in chunks]
    position, power, count = (torch.cat(column) for column in zip(*parts, strict=True))
    return Sources.from_position(position, power, count)


def _pursue(
    measurements: Measurements, k: Int[Tensor, " B"] | None, grid: SearchGrid, config: Config
) -> tuple[Float[Tensor, "B K 3"], Float[Tensor, "B K"], Int[Tensor, " B"]]:
    """Positions, powers and counts of one chunk of scenes."""
    raw = Sensing.of(measurements, config)
    mean_power = raw.energy() / raw.snapshots[0].numel()
    scale = torch.where(mean_power > 0.0, mean_power, 1.0)
    sensing = Sensing(raw.snapshots * scale.rsqrt()[:, None, None], raw.operator)
    index, atoms, rss = _pick(sensing, config.scene.k_max if k is None else max(1, int(k.max())), grid, config)
    if k is None:
        noise = None if measurements.noise_variance is None else measurements.noise_variance.double() / scale
        _, snapshots, antennas = sensing.snapshots.shape
        k = count_from_residuals(rss, noise, snapshots, antennas, config.estimate.false_alarm)
    used = torch.arange(atoms.shape[-1], device=k.device) < k[:, None]
    kept = atoms * used[:, None, None, :]
    power = amplitudes(orthonormal_basis(kept), kept, sensing.snapshots).abs().square().mean(dim=1) * scale[:, None]
    missing = config.scene.k_max - index.shape[1]
    pad = torch.nn.functional.pad
    return pad(grid.position[index], (0, 0, 0, missing)), pad(power, (0, missing)), k


def _pick(
    sensing: Sensing, count: int, grid: SearchGrid, config: Config
) -> tuple[Int[Tensor, "B J"], Complex[Tensor, "B L M J"], Float[Tensor, "B J1"]]:
    """Flat grid indices of ``count`` atoms per scene, the sensed atoms, and the residual sums of squares with 0..count of them."""
    batch, snapshots, _, n = sensing.operator.shape
    norms = grid.energy(sensing.operator.conj().reshape(batch, -1, n).mT, groups=snapshots)
    norms = torch.maximum(norms, LEAST_NORM * norms.amax(dim=(1, 2), keepdim=True)).clamp_min(torch.finfo(norms.dtype).tiny)
    scene = torch.arange(batch, device=norms.device)
    free = torch.ones((batch, norms.shape[-1]), dtype=torch.bool, device=norms.device)
    index = torch.zeros((batch, 0), dtype=torch.int64, device=norms.device)
    atoms, residual, rss = sensing.snapshots.new_zeros(*sensing.snapshots.shape, 0), sensing.snapshots, [sensing.energy()]
    for _ in range(count):
        seen = (sensing.operator.mH @ residual[..., None])[..., 0].mT
        gain = (grid.energy(seen, groups=snapshots) / norms).sum(dim=1)
        best = torch.where(free, gain, -1.0).argmax(dim=1)
        free[scene, best] = False
        index = torch.cat((index, best[:, None]), dim=1)
        steering = steering_vector(config.array, *grid.position[best].unbind(-1))
        atoms = torch.cat((atoms, sensing.sense(steering[..., None])), dim=-1)
        residual = outside(orthonormal_basis(atoms), sensing.snapshots[..., None])[..., 0]
        rss.append(residual.abs().square().sum(dim=(1, 2)))
    return index, atoms, torch.stack(rss, dim=1)
