"""Greedy search for one source after the other in measurement space.

Axes: B scenes, L snapshots, M antennas, K source slots, J sources found, Q grid points, C candidates.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Complex, Float, Int
from torch import Tensor

from ris_pipeline.config import Config
from ris_pipeline.estimators.derivatives import search_box
from ris_pipeline.estimators.levenberg import minimise
from ris_pipeline.estimators.sensing import (
    CandidateProblem,
    JointProblem,
    Sensing,
    amplitudes,
    orthonormal_basis,
    outside,
    sensed_columns,
    squared_modulus,
)
from ris_pipeline.estimators.spectrum import SearchGrid, find_peaks

CANDIDATES = 3
"""Peaks of the search grid that are refined before one of them is chosen."""
CANDIDATE_STEPS = 6
"""Most steps of a candidate's refinement."""
SAME_PLACE = 0.01
"""A replacement closer than this fraction of the field of view in every coordinate is the source that was taken out."""
RESEARCH_SLACK = 1.5
"""A replacement is refined jointly where it alone brings the RSS below this multiple of the present one."""


@dataclass(frozen=True)
class Solution:
    """Positions in search coordinates, of which the first k are used, and the RSS that they leave."""

    search: Float[Tensor, "B K 3"]
    rss: Float[Tensor, " B"]
    k: Int[Tensor, " B"]


@dataclass(frozen=True)
class SensedGrid:
    """Atoms of all grid points in single precision and their squared norms, scene by scene: a part copies nothing."""

    grid: SearchGrid
    atoms: tuple[Complex[Tensor, "L M Q"], ...]
    energy: tuple[Float[Tensor, "L Q"], ...]

    @classmethod
    def of(cls, sensing: Sensing, grid: SearchGrid) -> SensedGrid:
        """Sense every grid point of every scene."""
        _, snapshots, antennas, n = sensing.operator.shape
        rows = sensing.operator.to(torch.complex64).reshape(-1, snapshots * antennas, n)
        atoms = tuple((scene @ grid.steering.T).reshape(snapshots, antennas, -1) for scene in rows)
        return cls(grid, atoms, tuple(squared_modulus(scene).sum(dim=1) for scene in atoms))

    def __getitem__(self, index: Tensor) -> SensedGrid:
        chosen = index.tolist()
        return SensedGrid(self.grid, tuple(self.atoms[i] for i in chosen), tuple(self.energy[i] for i in chosen))

    def gain(self, basis: Complex[Tensor, "B L M J"], residual: Complex[Tensor, "B L M"]) -> Float[Tensor, "B Q"]:
        """Fall of the RSS when a source is added at each grid point; 0 where it cannot be told from those found."""
        probes = torch.cat((residual[..., None], basis), dim=-1).to(torch.complex64).mH
        return torch.stack([_gain(*scene) for scene in zip(probes, self.atoms, self.energy, strict=True)])


def _gain(probes: Complex[Tensor, "L J M"], atoms: Complex[Tensor, "L M Q"], energy: Float[Tensor, "L Q"]) -> Float[Tensor, " Q"]:
    """sum_l |g_l^H r_l|^2 / (|g_l|^2 - |Q_l^H g_l|^2) for one scene; the first probe is r, the others are the columns of Q."""
    products = squared_modulus(probes @ atoms)
    remaining = energy - products[:, 1:].sum(dim=1)
    usable = remaining > 1e-4 * energy
    return torch.where(usable, products[:, 0] / torch.where(usable, remaining, 1.0), 0.0).sum(dim=0)


def joint_refinement(
    sensing: Sensing, search: Float[Tensor, "B K 3"], mask: Tensor, config: Config
) -> tuple[Float[Tensor, "B K 3"], Float[Tensor, " B"]]:
    """Refine all sources of every scene jointly; returns the positions in search coordinates and the RSS."""
    lower, upper = search_box(config.scene, search.device)
    slots = search.shape[1]
    x, rss = minimise(
        JointProblem(sensing, mask, config),
        search.flatten(1),
        lower.repeat(slots),
        upper.repeat(slots),
        config.estimate.refine_steps,
    )
    return torch.unflatten(x, -1, (-1, 3)), rss


def source_powers(sensing: Sensing, search: Float[Tensor, "B K 3"], mask: Tensor, config: Config) -> Float[Tensor, "B K"]:
    """Mean squared least-squares amplitude of every source."""
    atoms, _ = sensed_columns(sensing, config, torch.where(mask[..., None], search, 1.0), mask)
    return amplitudes(orthonormal_basis(atoms), atoms, sensing.snapshots).abs().square().mean(dim=1)


def search_again(sensing: Sensing, sensed: SensedGrid, start: Solution, config: Config) -> Solution:
    """Take each source out in turn, search its place again beside the others, refine all jointly, and keep what lowers the RSS."""
    search, rss, k = start.search.clone(), start.rss.clone(), start.k
    slots = torch.arange(search.shape[1], device=k.device)
    lower, upper = search_box(config.scene, k.device)
    for j in range(int(k.max())):
        mask = slots < k[:, None]
        trial = search.clone()
        trial[:, j], alone = next_source(sensing, sensed, trial, mask & (slots != j), config)
        moved = ((trial[:, j] - search[:, j]).abs() / (upper - lower)).amax(dim=-1) > SAME_PLACE
        chosen = torch.nonzero((k > j) & moved & (alone < RESEARCH_SLACK * rss))[:, 0]
        if len(chosen):
            refined, value = joint_refinement(sensing[chosen], trial[chosen], mask[chosen], config)
            better = value < rss[chosen]
            search[chosen[better]], rss[chosen[better]] = refined[better], value[better]
    return Solution(search, rss, k)


def next_source(
    sensing: Sensing, sensed: SensedGrid, found: Float[Tensor, "B J 3"], mask: Tensor, config: Config
) -> tuple[Float[Tensor, "B 3"], Float[Tensor, " B"]]:
    """Best new source beside those found (where ``mask``), and its RSS: the best of the highest peaks of the gain, refined."""
    atoms, _ = sensed_columns(sensing, config, found, mask)
    basis = orthonormal_basis(atoms)
    residual = outside(basis, sensing.snapshots[..., None])[..., 0]
    gain = sensed.grid.unflatten(sensed.gain(basis, residual))
    index, _ = find_peaks(gain, CANDIDATES)
    batch, count = index.shape
    scene = torch.arange(batch, device=found.device).repeat_interleave(count)
    start = sensed.grid.search[index.flatten()]
    problem = CandidateProblem(sensing, basis, residual, scene, config)
    x, value = minimise(problem, start, *search_box(config.scene, found.device), CANDIDATE_STEPS)
    least, best = value.reshape(batch, count).min(dim=1)
    return x.reshape(batch, count, 3)[torch.arange(batch, device=found.device), best], least
