"""The measurement space: sensed steering vectors, projections and variable projection.

Axes: B scenes, S problems, L snapshots, M antennas, N elements, K sources, P = 3 K parameters (source-major: azimuth,
elevation, third coordinate). A source at p is seen in snapshot l as the atom g_l(p) = H diag(c_l) a(p) in C^M.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Complex, Float, Int
from torch import Tensor

from ris_pipeline.config import Config
from ris_pipeline.estimators.derivatives import search_jacobian
from ris_pipeline.estimators.levenberg import Quadratic
from ris_pipeline.simulation import Measurements, codes_of

DEGENERATE = 1e-7
"""An atom whose part outside the span of the atoms before it is below this fraction of its norm adds nothing."""


@dataclass(frozen=True)
class Sensing:
    """Snapshots y_l and the operators G_l = H diag(c_l) of B scenes, in double precision."""

    snapshots: Complex[Tensor, "B L M"]
    operator: Complex[Tensor, "B L M N"]

    @classmethod
    def of(cls, measurements: Measurements, config: Config) -> Sensing:
        """Build from measurements, in double precision."""
        wide = measurements.to(torch.complex128)
        codes = codes_of(wide, config.codes)
        return cls(wide.snapshots, wide.channel[:, None] * codes[:, :, None, :])

    def __getitem__(self, index: Tensor | slice) -> Sensing:
        return Sensing(self.snapshots[index], self.operator[index])

    def sense(self, vectors: Complex[Tensor, "B N C"]) -> Complex[Tensor, "B L M C"]:
        """G_l v for every snapshot and every column v."""
        batch, snapshots, antennas, n = self.operator.shape
        sensed = self.operator.reshape(batch, snapshots * antennas, n) @ vectors
        return sensed.reshape(batch, snapshots, antennas, vectors.shape[-1])

    def sense_each(self, columns: Complex[Tensor, "S N C"], scene: Int[Tensor, " S"]) -> Complex[Tensor, "S L M C"]:
        """G_l v for S sets of columns, each in its own scene (``scene`` is sorted); sets of one scene share a product."""
        batch, width = len(self.snapshots), columns.shape[-1]
        slot = _slots(scene, batch)
        count = int(slot.max()) + 1
        gathered = columns.new_zeros(batch, count, columns.shape[1], width)
        gathered[scene, slot] = columns
        sensed = torch.unflatten(self.sense(gathered.transpose(1, 2).flatten(-2)), -1, (count, width))
        return sensed.permute(0, 3, 1, 2, 4)[scene, slot]

    def energy(self) -> Float[Tensor, " B"]:
        """Sum of |y|^2 over all measurements of a scene."""
        return self.snapshots.abs().square().sum(dim=(1, 2))


def squared_modulus(values: Complex[Tensor, "*S"]) -> Float[Tensor, "*S"]:
    """|z|^2 without the square root of ``abs``."""
    return torch.addcmul(values.real.square(), values.imag, values.imag)


def orthonormal_basis(atoms: Complex[Tensor, "*S M K"]) -> Complex[Tensor, "*S M K"]:
    """Orthonormal basis of the columns by Gram-Schmidt with one repetition; dependent or zero columns become zero."""
    columns: list[Tensor] = []
    for k in range(atoms.shape[-1]):
        column = atoms[..., k]
        size = torch.linalg.vector_norm(column, dim=-1, keepdim=True)
        if columns:
            basis = torch.stack(columns, dim=-1)
            for _ in range(2):
                column = column - (basis @ (basis.mH @ column[..., None]))[..., 0]
        rest = torch.linalg.vector_norm(column, dim=-1, keepdim=True)
        keep = rest > DEGENERATE * size
        columns.append(torch.where(keep, column / torch.where(keep, rest, 1.0), 0.0))
    return torch.stack(columns, dim=-1) if columns else atoms


def outside(basis: Complex[Tensor, "*S M K"], vectors: Complex[Tensor, "*S M C"]) -> Complex[Tensor, "*S M C"]:
    """(I - Q Q^H) v for an orthonormal basis Q."""
    return vectors - basis @ (basis.mH @ vectors) if basis.shape[-1] else vectors


def amplitudes(
    basis: Complex[Tensor, "*S M K"], atoms: Complex[Tensor, "*S M K"], data: Complex[Tensor, "*S M"]
) -> Complex[Tensor, "*S K"]:
    """Least-squares amplitudes b of y = G b by back substitution in R b = Q^H y; 0 for degenerate atoms."""
    triangle = (basis.mH @ atoms).triu()
    target = basis.mH @ data[..., None]
    rows = [torch.zeros_like(target[..., 0, 0])] * atoms.shape[-1]
    for k in reversed(range(atoms.shape[-1])):
        rest = target[..., k, 0]
        for j in range(k + 1, atoms.shape[-1]):
            rest = rest - triangle[..., k, j] * rows[j]
        pivot = triangle[..., k, k]
        empty = pivot.abs() == 0.0
        rows[k] = torch.where(empty, 0.0, rest / torch.where(empty, 1.0, pivot))
    return torch.stack(rows, dim=-1)


def gauss_newton(
    atoms: Complex[Tensor, "S L M K"], slopes: Complex[Tensor, "S L M P"], data: Complex[Tensor, "S L M"]
) -> tuple[Quadratic, Complex[Tensor, "S L K"]]:
    r"""Variable projection: RSS = sum_l \|P_l y_l\|^2 with P_l = I - G_l G_l^+, its descent direction and Gauss-Newton matrix.

    The residual's Jacobian is taken as -P_l D_l b_l (Kaufman), which leaves the gradient exact. The Gauss-Newton matrix times
    2 / noise variance is the Fisher information of the deterministic model.

    Source: Golub and Pereyra, "Separable nonlinear least squares", Inverse Problems 19, 2003; Kaufman, BIT 15, 1975.
    """
    basis = orthonormal_basis(atoms)
    residual = outside(basis, data[..., None])
    b = amplitudes(basis, atoms, data)
    jacobian = outside(basis, slopes) * b.repeat_interleave(3, dim=-1)[:, :, None, :]
    tall = torch.view_as_real(jacobian).permute(0, 1, 2, 4, 3).reshape(jacobian.shape[0], -1, jacobian.shape[-1])
    flat = torch.view_as_real(residual[..., 0]).reshape(jacobian.shape[0], -1, 1)
    value = flat.square().sum(dim=(1, 2))
    return Quadratic(value, (tall.mT @ flat)[..., 0], tall.mT @ tall), b


def sensed_columns(
    sensing: Sensing, config: Config, search: Float[Tensor, "B K 3"], mask: Bool[Tensor, "B K"]
) -> tuple[Complex[Tensor, "B L M K"], Complex[Tensor, "B L M P"]]:
    """Atoms g_l and slopes dg_l by (azimuth, elevation, inverse range) at K positions; zero where masked."""
    columns = search_jacobian(config.array, search) * mask[:, :, None, None]
    k = mask.shape[1]
    sensed = torch.unflatten(sensing.sense(columns.transpose(1, 2).flatten(-2)), -1, (k, 4))
    return sensed[..., 0], sensed[..., 1:].flatten(-2)


@dataclass(frozen=True)
class JointProblem:
    """RSS of all sources of a scene as a function of all their positions in search coordinates."""

    sensing: Sensing
    mask: Bool[Tensor, "B K"]
    config: Config

    def __getitem__(self, index: Tensor) -> JointProblem:
        return JointProblem(self.sensing[index], self.mask[index], self.config)

    def quadratic(self, x: Float[Tensor, "B P"]) -> Quadratic:
        """Value and local model at the positions x."""
        return self.solve(x)[0]

    def solve(self, x: Float[Tensor, "B P"]) -> tuple[Quadratic, Complex[Tensor, "B L K"]]:
        """Local model and amplitudes at the positions x; parameters of masked sources have no effect."""
        search = torch.where(self.mask[..., None], torch.unflatten(x, -1, (-1, 3)), 1.0)
        atoms, slopes = sensed_columns(self.sensing, self.config, search, self.mask)
        return gauss_newton(atoms, slopes, self.sensing.snapshots)


@dataclass(frozen=True)
class CandidateProblem:
    """RSS after adding one source at x, per candidate; the sources found so far are fixed and projected out.

    Axes: B scenes, C candidates of each, which are the S = B C problems of the search.
    """

    sensing: Sensing
    basis: Complex[Tensor, "B L M J"]
    residual: Complex[Tensor, "B L M"]
    scene: Tensor
    config: Config

    def __getitem__(self, index: Tensor) -> CandidateProblem:
        return CandidateProblem(self.sensing, self.basis, self.residual, self.scene[index], self.config)

    def quadratic(self, x: Float[Tensor, "S 3"]) -> Quadratic:
        """Value and local model of every candidate; the scenes' operators are shared by their candidates."""
        sensed = outside(self.basis[self.scene], self.sensing.sense_each(search_jacobian(self.config.array, x), self.scene))
        return gauss_newton(sensed[..., :1], sensed[..., 1:], self.residual[self.scene])[0]


def _slots(scene: Tensor, batch: int) -> Tensor:
    """Running number of every candidate within its scene; ``scene`` is sorted."""
    first = torch.searchsorted(scene, torch.arange(batch, device=scene.device))
    return torch.arange(len(scene), device=scene.device) - first[scene]
