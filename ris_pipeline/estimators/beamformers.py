r"""Bartlett and MVDR (Capon) beamformers for the near field.

Axes: B scenes, N elements, J dimensions of the covariance's factor, K source slots, C candidates, S = B C searches. With the
eigenvectors u_i and eigenvalues lambda_i of F F^H in R = F F^H + delta I both powers grow with a quadratic form of the steering
vector, a^H W a with W = sum_i w_i u_i u_i^H and 0 <= w_i <= 1:

    Bartlett   a^H R a / N^2 = (lambda_1 a^H W a + N delta) / N^2,   w_i = lambda_i / lambda_1,
    MVDR       1 / (a^H R^-1 a) = delta / (N - a^H W a),             w_i = lambda_i / (lambda_i + delta)  (Woodbury),

so that no N x N matrix is built or inverted. The loading of MVDR is the diagonal part delta of the covariance it is given and
nothing else: the builder's ``diagonal_loading`` and shrinkage. Without one the limit delta -> 0 is taken, whose weights are 1 on
the whole span of the factor.

The K highest peaks of the spectrum on the search grid, which covers azimuth, elevation and inverse range, are refined off the grid
with exact derivatives; candidates that climb to the same peak count once. Both are biased where sources lie closer than their
resolution, whatever the data; Bartlett also where side lobes of a strong source exceed a weak one.

Coherent sources (static symbols): MVDR cancels a source that another one copies; Bartlett sees their interference. Neither
resolves them reliably; figures are in :mod:`ris_pipeline.estimators.music`.

Sources: Bartlett, "Smoothing periodograms from time-series with continuous spectra", Nature 161, 1948; Capon, "High-resolution
frequency-wavenumber spectrum analysis", Proc. IEEE 57, 1969.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Complex, Float, Int
from torch import Tensor

from ris_pipeline.arrays import Sources, steering_vector
from ris_pipeline.config import Config
from ris_pipeline.covariance import FactoredCovariance
from ris_pipeline.errors import DataError
from ris_pipeline.estimators.derivatives import inside, search_box, search_jacobian, to_position
from ris_pipeline.estimators.levenberg import Quadratic, minimise
from ris_pipeline.estimators.spectrum import SearchGrid, find_peaks, grid_of

CANDIDATES_PER_SOURCE = 2
"""Peaks of the scan that are refined for every source slot."""
DISTINCT = 0.999
"""Two positions are the same source when their steering vectors correlate more than this."""
FLATTEST = 1e-4
"""Least curvature that a step relies on, relative to the largest that a spectrum can have."""
IN_RANGE = 1e-9
"""A steering vector with less than this fraction of its energy outside the factor's span lies in it."""


@dataclass(frozen=True)
class QuadraticForm:
    """W = U diag(weight) U^H with orthonormal or zero columns of U and weights in 0..1."""

    basis: Complex[Tensor, "B N J"]
    weight: Float[Tensor, "B J"]

    def weighted(self) -> Complex[Tensor, "B N J"]:
        """V = U diag(sqrt(weight)), so that a^H W a = |V^H a|^2."""
        return self.basis * self.weight.sqrt()[:, None, :]

    def __getitem__(self, index: Tensor) -> QuadraticForm:
        return QuadraticForm(self.basis[index], self.weight[index])


def bartlett(covariance: FactoredCovariance, k: Int[Tensor, " B"], config: Config) -> Sources:
    """Positions of the k highest peaks of a^H R a / N^2, which is also the power given for each.

    Args:
        covariance: effective covariance, used as it is.
        k: sources per scene, 0..k_max.
        config: array, field of view and search grid.

    Raises:
        DataError: k lies outside 0..k_max.
    """
    check_count(k, config)
    form, value = bartlett_form(covariance)
    position = form_peaks(form, config)
    steering = steering_vector(config.array, *position.unbind(-1))
    power = (_energy(form, steering) * value[:, :1] + covariance.n * covariance.diagonal.double()[:, None]) / covariance.n**2
    return Sources.from_position(position, power, k)


def mvdr(covariance: FactoredCovariance, k: Int[Tensor, " B"], config: Config) -> Sources:
    """Positions of the k highest peaks of 1 / (a^H R^-1 a), which is also the power given for each.

    Args:
        covariance: effective covariance, used as it is; its diagonal part is the loading.
        k: sources per scene, 0..k_max.
        config: array, field of view and search grid.

    Raises:
        DataError: k lies outside 0..k_max.
    """
    check_count(k, config)
    form, _ = mvdr_form(covariance)
    position = form_peaks(form, config)
    return Sources.from_position(position, capon_power(covariance, steering_vector(config.array, *position.unbind(-1))), k)


def check_count(k: Int[Tensor, " B"], config: Config) -> None:
    """Refuse counts outside 0..k_max.

    Raises:
        DataError: k lies outside 0..k_max.
    """
    k_max = config.scene.k_max
    if bool((k < 0).any()) or bool((k > k_max).any()):
        raise DataError(f"k must lie in 0..{k_max} (scene.k_max), got {int(k.min())}..{int(k.max())}")


def _spectral_parts(covariance: FactoredCovariance) -> tuple[Complex[Tensor, "B N J"], Float[Tensor, "B J"]]:
    """Eigenvectors and eigenvalues of F F^H, largest first; a direction that the factor does not span is a zero column."""
    width = min(covariance.n, covariance.rank)
    basis = covariance.leading_subspace(width)
    value = (covariance.eigenvalues()[:, :width] - covariance.diagonal.double()[:, None]).clamp_min(0.0)
    return basis, torch.where(basis.abs().amax(dim=1) > 0.0, value, 0.0)


def bartlett_form(covariance: FactoredCovariance) -> tuple[QuadraticForm, Float[Tensor, "B J"]]:
    """The form with weights lambda_i / lambda_1, and the eigenvalues lambda_i of F F^H."""
    basis, value = _spectral_parts(covariance)
    return QuadraticForm(basis, value / value[:, :1].clamp_min(torch.finfo(value.dtype).tiny)), value


def mvdr_form(covariance: FactoredCovariance) -> tuple[QuadraticForm, Float[Tensor, "B J"]]:
    """The form with weights lambda_i / (lambda_i + delta), and the eigenvalues lambda_i of F F^H."""
    basis, value = _spectral_parts(covariance)
    floor = torch.finfo(value.dtype).tiny
    return QuadraticForm(basis, value / (value + covariance.diagonal.double()[:, None]).clamp_min(floor)), value


def capon_power(covariance: FactoredCovariance, steering: Complex[Tensor, "B K N"]) -> Float[Tensor, "B K"]:
    """1 / (a^H R^-1 a); without loading 0 for a vector outside the factor's span, and by the pseudo-inverse inside it."""
    basis, value = _spectral_parts(covariance)
    delta = covariance.diagonal.double()[:, None]
    seen = (steering.conj() @ basis).abs().square()
    size = steering.abs().square().sum(dim=-1)
    outside = (size - seen.sum(dim=-1)).clamp_min(0.0)
    outside = torch.where(outside > IN_RANGE * size, outside, 0.0)
    tiny = torch.finfo(value.dtype).tiny
    inverse = (seen / (value + delta).clamp_min(tiny)[:, None]).sum(dim=-1) + outside / delta.clamp_min(tiny)
    return torch.where(inverse > 0.0, 1.0 / inverse.clamp_min(tiny), 0.0)


@dataclass(frozen=True)
class PeakProblem:
    r"""N - a(x)^H W a(x) per search, as \|a - U (1 - sqrt(1 - w)) U^H a\|^2.

    The second derivatives of the phases are left out of the Hessian, because they are weighted by Im(conj(a) W a), which vanishes
    where a is an eigenvector of W.
    """

    form: QuadraticForm
    config: Config

    def __getitem__(self, index: Tensor) -> PeakProblem:
        return PeakProblem(self.form[index], self.config)

    def quadratic(self, x: Float[Tensor, "S 3"]) -> Quadratic:
        """Value, descent direction and curvature."""
        columns = search_jacobian(self.config.array, x)
        seen = self.form.basis.mH @ columns
        shrunk = 1.0 - (1.0 - self.form.weight).clamp_min(0.0).sqrt()
        residual = columns[..., 0] - (self.form.basis @ (shrunk[..., None] * seen[..., :1]))[..., 0]
        filtered = self.form.basis @ (self.form.weight[..., None] * seen)
        a, slopes = columns[..., 0], columns[..., 1:]
        descent = (slopes.conj() * filtered[..., :1]).real.sum(dim=1)
        inner = (slopes.mH @ filtered[..., 1:]).real
        gain = (a.conj() * filtered[..., 0]).real
        newton = (slopes.mH @ (gain[..., None] * slopes)).real - inner
        value = residual.abs().square().sum(dim=-1)
        return Quadratic(value, descent, _positive(newton, slopes.abs().square().sum(dim=1)))


def _positive(hessian: Float[Tensor, "S P P"], size: Float[Tensor, "S P"]) -> Float[Tensor, "S P P"]:
    """The Hessian with the moduli of its eigenvalues, in units of ``size`` and at least ``FLATTEST``: a descent at saddles too."""
    root = size.clamp_min(torch.finfo(size.dtype).tiny).sqrt()
    pairs = root[:, :, None] * root[:, None, :]
    values, vectors = torch.linalg.eigh(hessian / pairs)
    curvature = values.abs().clamp_min(FLATTEST)
    return (vectors * curvature[:, None, :]) @ vectors.mT * pairs


def form_peaks(form: QuadraticForm, config: Config) -> Float[Tensor, "B K 3"]:
    """Positions of the k_max highest distinct peaks of a^H W a, highest first; fewer peaks are followed by other grid points."""
    grid = grid_of(config, form.basis.device)
    chunks = torch.arange(len(form.basis), device=form.basis.device).split(grid.scenes_at_a_time)
    return torch.cat([_peaks(form[chunk], grid, config) for chunk in chunks])


def _peaks(form: QuadraticForm, grid: SearchGrid, config: Config) -> Float[Tensor, "B K 3"]:
    index, _ = find_peaks(grid.unflatten(grid.energy(form.weighted())[:, 0]), CANDIDATES_PER_SOURCE * config.scene.k_max)
    batch, count = index.shape
    scene = torch.arange(batch, device=index.device).repeat_interleave(count)
    start = grid.search[index]
    limits = search_box(config.scene, index.device)
    x, value = minimise(PeakProblem(form[scene], config), start.flatten(0, 1), *limits, config.estimate.refine_steps)
    chosen = strongest_distinct(x.reshape(batch, count, 3), value.reshape(batch, count), start, config)
    return inside(to_position(chosen), config.scene)


def strongest_distinct(
    search: Float[Tensor, "B C 3"], value: Float[Tensor, "B C"], start: Float[Tensor, "B C 3"], config: Config
) -> Float[Tensor, "B K 3"]:
    """Non-maximum suppression: the k_max candidates of least value that are not the same source as a better one.

    Where fewer are left, the starts of the suppressed ones follow.
    """
    steering = steering_vector(config.array, *to_position(search).unbind(-1))
    same = (steering @ steering.mH).abs() > DISTINCT * config.array.n_elements
    scene = torch.arange(len(value), device=value.device)
    waiting, suppressed = torch.ones_like(value, dtype=torch.bool), torch.zeros_like(value, dtype=torch.bool)
    chosen = []
    for _ in range(min(config.scene.k_max, value.shape[1])):
        best = torch.where(waiting, value + 1e6 * suppressed, torch.inf).argmin(dim=1)
        again = suppressed[scene, best]
        chosen.append(torch.where(again[:, None], start[scene, best], search[scene, best]))
        waiting[scene, best] = False
        suppressed |= same[scene, best] & ~again[:, None]
    padding = [chosen[-1]] * (config.scene.k_max - len(chosen))
    return torch.stack(chosen + padding, dim=1)


def _energy(form: QuadraticForm, steering: Complex[Tensor, "B K N"]) -> Float[Tensor, "B K"]:
    return ((steering.conj() @ form.basis).abs().square() * form.weight[:, None]).sum(dim=-1)
