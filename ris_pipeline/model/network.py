"""``HybridModel``: from measurements to a covariance factor, a source count and positions.

Axes: B scenes, N elements, K slots, A azimuth cells, E elevation cells. A convolutional trunk looks at the pursuit's log spectra. Each
angle cell says whether a source is there and where in the cell it is; the K best cells become the slots. The covariance factor is the
physics of those slots, sqrt(power) times the steering vector, so that covariance and positions cannot disagree.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Complex, Float
from torch import Tensor, nn

from ris_pipeline.arrays import Sources, steering_vector
from ris_pipeline.config import Config, CovarianceConfig
from ris_pipeline.covariance import FactoredCovariance, Shrinkage, build_effective_covariance
from ris_pipeline.model.features import Features, PursuitFeatures, coarse_axes, range_from_fraction
from ris_pipeline.simulation import Measurements, estimate_snr_db

_EIGENVALUES = 8
"""Leading eigenvalues shown to the count head; later ones are loading, shrinkage or noise."""
_GROUPS = 8


@dataclass(frozen=True)
class Prediction:
    """Output of the network.

    ``effective`` is the covariance that the count head saw. Slots are ordered by falling score; ``score_map`` holds the logits behind
    them.
    """

    factor: Complex[Tensor, "B N K"]
    k_logits: Float[Tensor, "B K"]
    position: Float[Tensor, "B K 3"]
    power: Float[Tensor, "B K"]
    score: Float[Tensor, "B K"]
    score_map: Float[Tensor, "B A E"]
    effective: FactoredCovariance


def shrinkage_of(covariance: CovarianceConfig) -> Shrinkage | None:
    """Shrinkage law of a configuration."""
    options = covariance.shrinkage
    return None if options is None else Shrinkage(options.base, options.minimum, options.maximum)


def snr_of(measurements: Measurements) -> Float[Tensor, " B"] | None:
    """SNR as the receiver knows it: computed from the noise variance, else as given, else unknown."""
    if measurements.noise_variance is not None:
        return estimate_snr_db(measurements.snapshots, measurements.noise_variance)
    return measurements.snr_db


class CountHead(nn.Module):
    """K logits (for 1..K sources) from the effective covariance's eigenvalues, the pursuit's scores and the trunk's summary."""

    def __init__(self, config: Config, summary: int) -> None:
        super().__init__()
        k_max = config.scene.k_max
        inputs = _EIGENVALUES + 3 * (k_max + 1) + k_max + summary
        hidden = config.model.hidden
        self.layers = nn.Sequential(
            nn.LayerNorm(inputs), nn.Linear(inputs, hidden), nn.GELU(), nn.Linear(hidden, hidden), nn.GELU(), nn.Linear(hidden, k_max)
        )

    def forward(
        self, covariance: FactoredCovariance, features: Features, score: Float[Tensor, "B K"], summary: Float[Tensor, "B S"]
    ) -> Float[Tensor, "B K"]:
        """Return the logits; ``covariance`` comes from the builder."""
        eigenvalues = covariance.eigenvalues()[:, :_EIGENVALUES] / covariance.n
        spectrum = torch.log10(eigenvalues.float() + 1e-4)
        scores = (features.residual, features.excess, features.description_length)
        return self.layers(torch.cat((spectrum, *scores, score, summary), dim=1))


class HybridModel(nn.Module):
    """The network; its size and grid come from ``config.model``, its physics from the other sections."""

    cell_rad: Float[Tensor, " 2"]
    centre_rad: Float[Tensor, "cells 2"]

    def __init__(self, config: Config, generator: torch.Generator | None = None) -> None:
        super().__init__()
        self.config = config
        self.features = PursuitFeatures(config)
        width = config.model.channels
        self.trunk = nn.Sequential(
            nn.Conv2d(self.features.n_maps, width, 3, padding=1), nn.GroupNorm(_GROUPS, width), nn.GELU(),
            _Residual(width), _Residual(width, dilation=2), _Residual(width),
        )  # fmt: skip
        self.score_head = nn.Conv2d(width, 1, 1)
        self.position_head = nn.Conv2d(width, 4, 1)
        self.count_head = CountHead(config, 2 * width)
        azimuth_rad, elevation_rad, _ = coarse_axes(config)
        cell = (2 * config.scene.azimuth_max_rad / len(azimuth_rad), 2 * config.scene.elevation_max_rad / len(elevation_rad))
        centre = torch.cartesian_prod(azimuth_rad, elevation_rad)
        self.register_buffer("cell_rad", torch.tensor(cell, dtype=torch.float32), persistent=False)
        self.register_buffer("centre_rad", centre.float(), persistent=False)
        _initialise(self, generator or torch.Generator().manual_seed(config.train.seed))

    def forward(self, measurements: Measurements) -> Prediction:
        """Predict B scenes from snapshots, channel, codes and, where stored, the sample factor; the scale of the data does not matter."""
        measurements = _normalised(measurements)
        features = self.features(measurements)
        # Only training takes the shortcut: scores must not depend on the device.
        with torch.autocast(features.maps.device.type, torch.bfloat16, enabled=features.maps.is_cuda and self.training):
            hidden = self.trunk(features.maps)
            score_map = self.score_head(hidden).squeeze(1)
            regression = self.position_head(hidden)
        score_map, regression, hidden = score_map.float(), regression.float(), hidden.float()
        position, power, score = self._decode(score_map, regression)
        factor = self._factor(position, power)
        effective = self._effective(factor, measurements)
        summary = torch.cat((hidden.mean(dim=(2, 3)), hidden.amax(dim=(2, 3))), dim=1)
        k_logits = self.count_head(effective, features, score, summary)
        return Prediction(factor, k_logits, position, power, score, score_map, effective)

    def _decode(
        self, score_map: Float[Tensor, "B A E"], regression: Float[Tensor, "B 4 A E"]
    ) -> tuple[Float[Tensor, "B K 3"], Float[Tensor, "B K"], Float[Tensor, "B K"]]:
        """Take the K best local maxima of the score map and read the position and power that their cells predict."""
        local = nn.functional.max_pool2d(score_map[:, None], 3, stride=1, padding=1).squeeze(1)
        # Cells that are no local maximum come after all that are, still in order, so that there are always K slots.
        ranked = torch.where(score_map >= local, score_map, score_map - 1e3).flatten(1)
        index = ranked.detach().topk(self.config.scene.k_max, dim=1).indices
        score = score_map.flatten(1).gather(1, index)
        cells = regression.flatten(2).gather(2, index[:, None, :].expand(-1, 4, -1))
        angles_rad = self.centre_rad[index] + torch.tanh(cells[:, :2].transpose(1, 2)) * self.cell_rad
        range_m = range_from_fraction(torch.sigmoid(cells[:, 2]), self.config.scene)
        power = torch.sigmoid(score) * torch.exp(4.0 * torch.tanh(cells[:, 3]))
        return torch.cat((angles_rad, range_m[..., None]), dim=-1), power, score

    def _factor(self, position: Float[Tensor, "B K 3"], power: Float[Tensor, "B K"]) -> Complex[Tensor, "B N K"]:
        steering = steering_vector(self.config.array, *position.unbind(dim=-1))
        # The square root has no gradient at zero, where a score far below the others would take it.
        return (steering * torch.sqrt(power.clamp_min(1e-30))[..., None]).transpose(1, 2)

    def _effective(self, factor: Complex[Tensor, "B N K"], measurements: Measurements) -> FactoredCovariance:
        """Effective covariance with blend, loading and shrinkage as configured, applied once."""
        options = self.config.covariance
        sample = measurements.sample_factor
        return build_effective_covariance(
            FactoredCovariance.from_factor(factor),
            None if sample is None else FactoredCovariance.from_factor(sample),
            beta=options.beta,
            diagonal_loading=options.diagonal_loading,
            shrinkage=shrinkage_of(options),
            snr_db=snr_of(measurements),
        )

    def sources(self, prediction: Prediction, k: Tensor) -> Sources:
        """The k best slots as sources, inside the field of view; their powers are relative and sum to 1."""
        scene = self.config.scene
        limit = prediction.position.new_tensor((scene.azimuth_max_rad, scene.elevation_max_rad, scene.range_max_m))
        position = torch.minimum(torch.maximum(prediction.position, -limit), limit)
        sources = Sources.from_position(position, prediction.power, k)
        return Sources.from_position(position, sources.power / sources.power.sum(dim=1, keepdim=True).clamp_min(1e-30), k)


class _Residual(nn.Module):
    """Two 3x3 convolutions with group normalisation beside an identity."""

    def __init__(self, width: int, dilation: int = 1) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=dilation, dilation=dilation), nn.GroupNorm(_GROUPS, width), nn.GELU(),
            nn.Conv2d(width, width, 3, padding=1), nn.GroupNorm(_GROUPS, width),
        )  # fmt: skip

    def forward(self, x: Float[Tensor, "B C A E"]) -> Float[Tensor, "B C A E"]:
        return nn.functional.gelu(x + self.layers(x))


def _normalised(measurements: Measurements) -> Measurements:
    """Single precision with snapshots and channel of unit mean power, so that no square leaves the range of floats.

    The sample factor and the noise variance are scaled along.
    """
    snapshots, gain = _unit_power(measurements.snapshots)
    channel, channel_gain = _unit_power(measurements.channel)
    noise, factor = measurements.noise_variance, measurements.sample_factor
    return replace(
        measurements,
        snapshots=snapshots,
        channel=channel,
        snr_db=None if measurements.snr_db is None else measurements.snr_db.float(),
        noise_variance=None if noise is None else (noise.double() * gain * gain).float(),
        sample_factor=None if factor is None else (factor * (gain / channel_gain)[:, None, None]).to(torch.complex64),
    )


def _unit_power(data: Complex[Tensor, "B p q"]) -> tuple[Complex[Tensor, "B p q"], Float[Tensor, " B"]]:
    """Data over its root-mean-square, in complex64, and that gain in double precision; zero data stay zero."""
    parts = torch.view_as_real(data.resolve_conj())
    peak = parts.abs().amax(dim=(1, 2, 3)).double()
    peak = torch.where(peak > 0.0, peak, 1.0)
    power = (parts / peak[:, None, None, None]).square().sum(dim=-1).mean(dim=(1, 2))
    gain = torch.where(power > 0.0, power, 1.0).rsqrt() / peak
    return torch.view_as_complex((parts * gain[:, None, None, None]).float()), gain


def count_parameters(model: nn.Module) -> int:
    """Number of trainable parameters."""
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


def _initialise(model: HybridModel, generator: torch.Generator) -> None:
    """He initialisation from an explicit generator; the score head starts at a low rate of sources per cell."""
    for module in model.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu", generator=generator)
            assert module.bias is not None
            nn.init.zeros_(module.bias)
    for head, scale in ((model.score_head, 0.1), (model.position_head, 0.1)):
        with torch.no_grad():
            head.weight.mul_(scale)
    assert model.score_head.bias is not None
    nn.init.constant_(model.score_head.bias, -3.0)
