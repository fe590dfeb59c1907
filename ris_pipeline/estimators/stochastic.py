r"""The stochastic (unconditional) likelihood: Gaussian symbols, and received powers that follow the scene's power law.

Axes: B scenes, S problems, L snapshots, M antennas, N elements, K source slots, J other sources, Q grid points, P = 4 K parameters,
source-major (azimuth, elevation, inverse range u, log power q). With atoms g_kl = H diag(c_l) a(p_k) the snapshots have the covariance

    R_l = sigma^2 I + sum_k exp(q_k) g_kl g_kl^H,

and the search minimises

    sum_l [log det(R_l / sigma^2) + y_l^H R_l^{-1} y_l] + sum_k (v_k - mean v)^2 / (2 spread^2),
    v_k = q_k - 2 (1 - power_control) log u_k.

The second sum says that sources transmit with about the same power: v_k is the log transmit power up to a common unknown scale, and
``estimate.power_spread_db`` its standard deviation. The conditional likelihood, which leaves every amplitude free, prefers wrong
positions below a threshold SNR (nearly coincident sources that cancel each other, weak sources at noise peaks); integrating the
amplitudes out lowers that threshold, and both agree above it.

Sources: Stoica and Nehorai, "Performance study of conditional and unconditional direction-of-arrival estimation", IEEE TASSP 38,
1990; Jaffer, "Maximum likelihood direction finding of stochastic sources: a separable solution", ICASSP 1988; Fisher scoring as in
Kay, "Fundamentals of statistical signal processing: estimation theory", 1993, chapters 7 and 15.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Complex, Float, Int
from torch import Tensor

from ris_pipeline.config import Config
from ris_pipeline.estimators.derivatives import search_box, search_jacobian
from ris_pipeline.estimators.greedy import SAME_PLACE, SensedGrid
from ris_pipeline.estimators.levenberg import Quadratic, minimise
from ris_pipeline.estimators.sensing import Sensing, sensed_columns, squared_modulus
from ris_pipeline.estimators.spectrum import find_peaks

CANDIDATES = 3
"""Peaks of the search grid that are refined before one of them is chosen."""
CANDIDATE_STEPS = 6
"""Most steps of a candidate's refinement."""
PASSES = 2
"""Most times that every source is taken out and searched again."""
SLACK_NATS = 6.0
"""A replacement is refined jointly where it alone comes this close to the present value."""
IMPROVED_NATS = 1e-3
"""A pass that gains less is the last one."""
LOG_POWER_LIMIT = 60.0
"""Bound of a log power where the data have unit mean power; far outside of what any data ask for."""
NOISE_FLOOR = 1e-9
"""Least noise variance over the mean power of the data: keeps noise-free data well conditioned."""
STATIC_FADING_DB = 5.57
"""Standard deviation of 10 log10 of an exponential variable: one symbol for all snapshots fades the received power."""


@dataclass(frozen=True)
class StochasticFit:
    """Parameters (azimuth, elevation, inverse range, log power) of the sources and the value of the criterion."""

    parameters: Float[Tensor, "B K 4"]
    value: Float[Tensor, " B"]

    @property
    def search(self) -> Float[Tensor, "B K 3"]:
        """Positions in search coordinates."""
        return self.parameters[..., :3]

    @property
    def power(self) -> Float[Tensor, "B K"]:
        """Powers exp(q)."""
        return self.parameters[..., 3].exp()


@dataclass(frozen=True)
class StochasticProblem:
    """The criterion as a function of all parameters of a scene; those of masked sources have no effect."""

    sensing: Sensing
    noise_variance: Float[Tensor, " B"]
    mask: Bool[Tensor, "B K"]
    config: Config

    def __getitem__(self, index: Tensor) -> StochasticProblem:
        return StochasticProblem(self.sensing[index], self.noise_variance[index], self.mask[index], self.config)

    def quadratic(self, x: Float[Tensor, "B P"]) -> Quadratic:
        """Value, negative gradient and Fisher information."""
        k = self.mask.shape[1]
        parameters = torch.unflatten(x, -1, (-1, 4))
        search = torch.where(self.mask[..., None], parameters[..., :3], 1.0)
        power = parameters[..., 3].exp() * self.mask
        atoms, slopes = sensed_columns(self.sensing, self.config, search, self.mask)
        columns = torch.cat((atoms, _with_half_atoms(atoms, slopes), self.sensing.snapshots[..., None]), dim=-1)
        gram = columns.mH @ columns
        noise = self.noise_variance[:, None, None, None]
        white = torch.eye(k, dtype=gram.dtype, device=gram.device)
        scaled = power.sqrt()[:, None, :, None] * gram[..., :k, :]
        lower = torch.linalg.cholesky(scaled[..., :k] * power.sqrt()[:, None, None, :] + noise * white)
        part = _forward_substitution(lower, scaled)
        weighted = (gram - part.mH @ part) / noise
        log_det = 2.0 * lower.diagonal(dim1=-2, dim2=-1).real.log().sum(dim=(1, 2)) - lower.shape[1] * k * self.noise_variance.log()
        model = _scoring(weighted, log_det, power)
        return _plus(model, _power_law(parameters, self.mask, self.config))


def _with_half_atoms(atoms: Complex[Tensor, "S L M K"], slopes: Complex[Tensor, "S L M D"]) -> Complex[Tensor, "S L M P"]:
    """Columns d_i such that dR_l / dx_i = p_k (d_i g_k^H + g_k d_i^H): the three slopes of each source, and g_k / 2 for log power."""
    by_source = torch.unflatten(slopes, -1, (-1, 3))
    return torch.cat((by_source, 0.5 * atoms[..., None]), dim=-1).flatten(-2)


def _scoring(weighted: Complex[Tensor, "S L C C"], log_det: Float[Tensor, " S"], power: Float[Tensor, "S K"]) -> Quadratic:
    """Criterion without the power law, from X^H R_l^{-1} X with X = [g_1 .. g_K, d_1 .. d_P, y_l].

    With w_i the power of the source of parameter i and g_i its atom: gradient_i = 2 w_i sum_l Re(g_i^H R^{-1} d_i -
    y^H R^{-1} d_i g_i^H R^{-1} y), and Fisher_ij = tr(R^{-1} dR_i R^{-1} dR_j) = 2 w_i w_j sum_l Re(g_i^H R^{-1} d_j g_j^H R^{-1} d_i +
    d_i^H R^{-1} d_j g_j^H R^{-1} g_i).
    """
    k = power.shape[1]
    source = torch.arange(k, device=power.device).repeat_interleave(4)
    w = power[:, source]
    g, d, y = slice(0, k), slice(k, 5 * k), 5 * k
    gd = weighted[..., g, d][..., source, :]
    gg = weighted[..., g, g][..., source, :][..., source]
    fisher = (gd * gd.mT + weighted[..., d, d] * gg.mT).real.sum(dim=1)
    slope = (gd.diagonal(dim1=-2, dim2=-1) - weighted[..., y, d] * weighted[..., g, y][..., source]).real.sum(dim=1)
    return Quadratic(log_det + weighted[..., y, y].real.sum(dim=1), -2.0 * w * slope, 2.0 * w[:, :, None] * w[:, None, :] * fisher)


def _forward_substitution(lower: Complex[Tensor, "*S K K"], target: Complex[Tensor, "*S K C"]) -> Complex[Tensor, "*S K C"]:
    """Lower^{-1} target, row by row: for matrices this small a batched triangular solve costs a hundred times more."""
    rows: list[Tensor] = []
    for k in range(lower.shape[-1]):
        rest = target[..., k, :]
        if rows:
            rest = rest - (lower[..., k, None, :k] @ torch.stack(rows, dim=-2))[..., 0, :]
        rows.append(rest / lower[..., k, k, None])
    return torch.stack(rows, dim=-2) if rows else target


def _plus(a: Quadratic, b: Quadratic) -> Quadratic:
    return Quadratic(a.value + b.value, a.descent + b.descent, a.normal + b.normal)


def _power_law(parameters: Float[Tensor, "S K 4"], mask: Bool[Tensor, "S K"], config: Config) -> Quadratic:
    """sum_k (v_k - mean v)^2 / (2 spread^2) over the sources of a scene."""
    share = 1.0 / mask.sum(dim=1).clamp_min(1)[:, None]
    deviation = _log_transmit_power(parameters, config) * mask
    deviation = (deviation - deviation.sum(dim=1, keepdim=True) * share) * mask
    blocks = (
        torch.eye(mask.shape[1], dtype=deviation.dtype, device=mask.device)[:, :, None] * _log_power_slope(parameters, config)[:, :, None]
    )
    jacobian = blocks.flatten(2) * mask[..., None]
    jacobian = (jacobian - jacobian.sum(dim=1, keepdim=True) * share[..., None]) * mask[..., None]
    precision = _spread(config) ** -2.0
    return Quadratic(
        0.5 * precision * deviation.square().sum(dim=1),
        -precision * (deviation[:, None] @ jacobian)[:, 0],
        precision * jacobian.mT @ jacobian,
    )


def _log_transmit_power(parameters: Float[Tensor, "*S 4"], config: Config) -> Float[Tensor, "*S"]:
    return parameters[..., 3] - 2.0 * (1.0 - config.scene.power_control) * parameters[..., 2].log()


def _log_power_slope(parameters: Float[Tensor, "*S 4"], config: Config) -> Float[Tensor, "*S 4"]:
    """Derivatives of v by (azimuth, elevation, inverse range, log power)."""
    slope = torch.zeros_like(parameters)
    slope[..., 2] = -2.0 * (1.0 - config.scene.power_control) / parameters[..., 2]
    slope[..., 3] = 1.0
    return slope


def _spread(config: Config) -> float:
    """Standard deviation of v in nepers of power."""
    fading_db = STATIC_FADING_DB if config.scene.symbols == "static" else 0.0
    return math.hypot(config.estimate.power_spread_db, fading_db) * math.log(10.0) / 10.0


@dataclass(frozen=True)
class Others:
    """What a scene's other sources leave: R_l^{-1} = (I - U U^H) / sigma^2, and their mean log transmit power."""

    basis: Complex[Tensor, "B L M K"]
    weighted_data: Complex[Tensor, "B L M"]
    noise_variance: Float[Tensor, " B"]
    log_transmit_power: Float[Tensor, " B"]
    precision: Float[Tensor, " B"]

    @classmethod
    def of(cls, problem: StochasticProblem, parameters: Float[Tensor, "B K 4"], mask: Bool[Tensor, "B K"]) -> Others:
        """The sources where ``mask``; with precision (n - 1) / (n spread^2) for the power of one more, n of them in all."""
        search = torch.where(mask[..., None], parameters[..., :3], 1.0)
        atoms, _ = sensed_columns(problem.sensing, problem.config, search, mask)
        scaled = atoms * (0.5 * parameters[..., 3]).exp()[:, None, None, :]
        noise = problem.noise_variance[:, None, None, None]
        white = torch.eye(mask.shape[1], dtype=atoms.dtype, device=mask.device)
        lower = torch.linalg.cholesky(scaled.mH @ scaled + noise * white)
        basis = _forward_substitution(lower, scaled.mH).mH
        data = problem.sensing.snapshots[..., None]
        weighted = (data - basis @ (basis.mH @ data))[..., 0] / noise[..., 0]
        count = mask.sum(dim=1)
        mean = (_log_transmit_power(parameters, problem.config) * mask).sum(dim=1) / count.clamp_min(1)
        return cls(basis, weighted, problem.noise_variance, mean, count / (count + 1.0) * _spread(problem.config) ** -2.0)

    def gain(self, sensed: SensedGrid, config: Config) -> tuple[Float[Tensor, "B Q"], Float[Tensor, "B Q"]]:
        """Fall of the likelihood term when a source is added at each grid point, and the log power that it is given there.

        With e_l = g_l^H R_l^{-1} g_l and t_l = g_l^H R_l^{-1} y_l the fall is sum_l [p |t_l|^2 / (1 + p e_l) - log(1 + p e_l)]. The
        power is the moment estimate sum (|t|^2 - e) / sum e^2, kept within one spread of what the law allows in the point's cell.
        """
        low, high = self._log_power_range(sensed, config)
        probes = torch.cat((self.weighted_data[..., None], self.basis), dim=-1).to(torch.complex64).mH
        noise = self.noise_variance.float()
        scenes = zip(probes, sensed.atoms, sensed.energy, noise, low.float(), high.float(), strict=True)
        gain, log_power = zip(*(_gain(*scene) for scene in scenes), strict=True)
        return torch.stack(gain), torch.stack(log_power)

    def _log_power_range(self, sensed: SensedGrid, config: Config) -> tuple[Float[Tensor, "B Q"], Float[Tensor, "B Q"]]:
        exponent, u = 2.0 * (1.0 - config.scene.power_control), sensed.grid.search[:, 2]
        half = 0.5 * (u.amax() - u.amin()) / max(sensed.grid.shape[2] - 1, 1)
        cell = torch.stack(((u - half).clamp_min(u.amin()), (u + half).clamp_max(u.amax()))).log()
        free = torch.where(self.precision > 0.0, _spread(config), LOG_POWER_LIMIT)[:, None]
        middle = self.log_transmit_power[:, None]
        return middle + exponent * cell[0] - free, middle + exponent * cell[1] + free


def _gain(
    probes: Complex[Tensor, "L J M"],
    atoms: Complex[Tensor, "L M Q"],
    energy: Float[Tensor, "L Q"],
    noise_variance: Float[Tensor, ""],
    low: Float[Tensor, " Q"],
    high: Float[Tensor, " Q"],
) -> tuple[Float[Tensor, " Q"], Float[Tensor, " Q"]]:
    """Gain and log power of one scene; the first probe is R^{-1} y, the others are the columns of U."""
    products = squared_modulus(probes @ atoms)
    e = ((energy - products[:, 1:].sum(dim=1)) / noise_variance).clamp_min(0.0)
    excess = (products[:, 0] - e).sum(dim=0).clamp_min(0.0) / e.square().sum(dim=0).clamp_min(1e-30)
    log_power = torch.minimum(torch.maximum(excess.clamp_min(1e-20).log(), low), high)
    grown = log_power.exp() * e
    return (log_power.exp() * products[:, 0] / (1.0 + grown) - grown.log1p()).sum(dim=0), log_power


@dataclass(frozen=True)
class StochasticCandidate:
    """The criterion's change when one source joins the others of its scene, as a function of its four parameters."""

    sensing: Sensing
    others: Others
    scene: Int[Tensor, " S"]
    config: Config

    def __getitem__(self, index: Tensor) -> StochasticCandidate:
        return StochasticCandidate(self.sensing, self.others, self.scene[index], self.config)

    def quadratic(self, x: Float[Tensor, "S 4"]) -> Quadratic:
        """Value, negative gradient and Fisher information of every candidate; the scenes' operators are shared."""
        sensed = self.sensing.sense_each(search_jacobian(self.config.array, x[:, :3]), self.scene)
        columns = _with_half_atoms(sensed[..., :1], sensed[..., 1:])
        columns = torch.cat((sensed[..., :1], columns), dim=-1)
        others, power = self.others, x[:, 3].exp()
        inner = others.basis[self.scene].mH @ columns
        gram = (columns.mH @ columns - inner.mH @ inner) / others.noise_variance[self.scene, None, None, None]
        data = columns.mH @ others.weighted_data[self.scene][..., None]
        full = torch.cat((torch.cat((gram, data), dim=-1), torch.nn.functional.pad(data.mH, (0, 1))), dim=-2)
        # Sherman-Morrison: R^{-1} with the candidate in R.
        grown = 1.0 + power[:, None] * gram[..., 0, 0].real
        full = full - (power[:, None] / grown)[..., None, None] * full[..., :, :1] * full[..., :1, :]
        model = _scoring(full, grown.log().sum(dim=1), power[:, None])
        deviation = _log_transmit_power(x, self.config) - others.log_transmit_power[self.scene]
        slope, precision = _log_power_slope(x, self.config), others.precision[self.scene]
        law = Quadratic(
            0.5 * precision * deviation.square(),
            -(precision * deviation)[:, None] * slope,
            precision[:, None, None] * slope[:, :, None] * slope[:, None, :],
        )
        return _plus(model, law)


def add_source(problem: StochasticProblem, sensed: SensedGrid, found: StochasticFit) -> Float[Tensor, "B K 4"]:
    """The parameters of the sources found and of the best one beside them."""
    mask = torch.ones(found.parameters.shape[:2], dtype=torch.bool, device=found.value.device)
    new, _ = _best_candidate(problem, Others.of(problem, found.parameters, mask), sensed, problem.config)
    return torch.cat((found.parameters, new[:, None]), dim=1)


def refine_jointly(problem: StochasticProblem, start: Float[Tensor, "B K 4"]) -> StochasticFit:
    """Minimise the criterion of every scene from ``start`` over all parameters."""
    lower, upper = _box(problem.config, start.device)
    slots = start.shape[1]
    x, value = minimise(problem, start.flatten(1), lower.repeat(slots), upper.repeat(slots), problem.config.estimate.refine_steps)
    return StochasticFit(torch.unflatten(x, -1, (-1, 4)), value)


def search_again(problem: StochasticProblem, sensed: SensedGrid, start: StochasticFit) -> StochasticFit:
    """Take each source out in turn and search its place beside the others, until nothing is gained or the passes are used up."""
    parameters, value = start.parameters.clone(), start.value.clone()
    active = torch.nonzero(problem.mask.sum(dim=1) > 0)[:, 0]
    for _ in range(PASSES):
        if len(active) == 0:
            break
        before = value[active].clone()
        part, grid = problem[active], sensed[active]
        fit = _pass(part, grid, StochasticFit(parameters[active], value[active]))
        parameters[active], value[active] = fit.parameters, fit.value
        active = active[fit.value < before - IMPROVED_NATS]
    return StochasticFit(parameters, value)


def _pass(problem: StochasticProblem, sensed: SensedGrid, start: StochasticFit) -> StochasticFit:
    parameters, value = start.parameters.clone(), start.value.clone()
    lower, upper = _box(problem.config, value.device)
    for j in range(int(problem.mask.sum(dim=1).max())):
        scene = torch.nonzero(problem.mask[:, j])[:, 0]
        part, own = problem[scene], parameters[scene]
        others = problem.mask[scene].clone()
        others[:, j] = False
        beside = Others.of(part, own, others)
        new, change = _best_candidate(part, beside, sensed[scene], problem.config)
        here = StochasticCandidate(part.sensing, beside, torch.arange(len(scene), device=value.device), problem.config)
        present = here.quadratic(own[:, j]).value
        moved = ((new[:, :3] - own[:, j, :3]).abs() / (upper - lower)[:3]).amax(dim=-1) > SAME_PLACE
        chosen = torch.nonzero(moved & (change < present + SLACK_NATS))[:, 0]
        if len(chosen):
            trial = own[chosen].clone()
            trial[:, j] = new[chosen]
            fit = refine_jointly(part[chosen], trial)
            better = fit.value < value[scene[chosen]]
            index = scene[chosen[better]]
            parameters[index], value[index] = fit.parameters[better], fit.value[better]
    return StochasticFit(parameters, value)


def _best_candidate(
    problem: StochasticProblem, others: Others, sensed: SensedGrid, config: Config
) -> tuple[Float[Tensor, "B 4"], Float[Tensor, " B"]]:
    """Best new source beside the others and its change of the criterion: the best of the highest peaks of the gain, refined."""
    gain, log_power = others.gain(sensed, config)
    index, _ = find_peaks(sensed.grid.unflatten(gain), CANDIDATES)
    batch, count = index.shape
    scene = torch.arange(batch, device=index.device).repeat_interleave(count)
    start = torch.cat((sensed.grid.search[index.flatten()], log_power.gather(1, index).flatten().double()[:, None]), dim=-1)
    candidates = StochasticCandidate(problem.sensing, others, scene, config)
    x, value = minimise(candidates, start, *_box(config, index.device), CANDIDATE_STEPS)
    least, best = value.reshape(batch, count).min(dim=1)
    return x.reshape(batch, count, 4)[torch.arange(batch, device=index.device), best], least


def _box(config: Config, device: torch.device) -> tuple[Float[Tensor, " 4"], Float[Tensor, " 4"]]:
    lower, upper = search_box(config.scene, device)
    limit = lower.new_tensor([LOG_POWER_LIMIT])
    return torch.cat((lower, -limit)), torch.cat((upper, limit))
