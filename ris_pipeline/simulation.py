"""Scenes and coded snapshots.

Axes: B scenes, K source slots, L snapshots, M antennas, N elements. All arithmetic is in double precision on the generator's device;
shards store single precision.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import torch
from jaxtyping import Complex, Float, UInt8
from torch import Tensor

from ris_pipeline.arrays import Sources, steering_vector
from ris_pipeline.channel import complex_normal, rician_channel, uniform
from ris_pipeline.codes import code_phasors, codebook, select_beams
from ris_pipeline.config import ArrayConfig, CodesConfig, Config, SceneConfig


@dataclass(frozen=True)
class Measurements:
    """What the receiver knows: no truth about sources is in here, so none can reach an estimate.

    ``sample_factor`` has columns x_l / sqrt(L) (see ``back_projection``) and is ``None`` where it was not computed. ``snr_db`` and
    ``noise_variance`` (total power per complex measurement) are ``None`` where they are unknown.
    """

    snapshots: Complex[Tensor, "B L M"]
    channel: Complex[Tensor, "B M N"]
    code_index: UInt8[Tensor, "B L N"]
    snr_db: Float[Tensor, " B"] | None = None
    noise_variance: Float[Tensor, " B"] | None = None
    sample_factor: Complex[Tensor, "B N L"] | None = None

    def to(self, target: torch.device | torch.dtype) -> Measurements:
        """Move to a device, or cast the complex tensors to a complex dtype and the real ones to its real counterpart."""

        def convert(value: Tensor | None) -> Tensor | None:
            if value is None or (isinstance(target, torch.dtype) and value.dtype == torch.uint8):
                return value
            if isinstance(target, torch.dtype):
                return value.to(target if value.is_complex() else target.to_real())
            return value.to(target)

        return Measurements(*(convert(getattr(self, f.name)) for f in fields(self)))  # type: ignore[arg-type]

    def __getitem__(self, index: Tensor | slice) -> Measurements:
        values = (getattr(self, f.name) for f in fields(self))
        return Measurements(*(None if v is None else v[index] for v in values))  # type: ignore[arg-type]

    def __len__(self) -> int:
        return self.snapshots.shape[0]


@dataclass(frozen=True)
class Simulated:
    """Simulated scenes: what the receiver knows, and the truth beside it."""

    measurements: Measurements
    sources: Sources
    symbols: Complex[Tensor, "B L K"]


def draw_sources(scene: SceneConfig, count: int, generator: torch.Generator) -> Sources:
    """Draw scenes: K uniform in k_min..k_max, each coordinate uniform in its sector, power p ~ r^(-2 (1 - power_control)).

    Powers are normalised to sum to 1 within a scene; only their ratios matter, since the noise follows the SNR.
    """
    shape = (count, scene.k_max)
    k = torch.randint(scene.k_min, scene.k_max + 1, (count,), generator=generator, device=generator.device)
    azimuth_rad = uniform(generator, -scene.azimuth_max_rad, scene.azimuth_max_rad, *shape)
    elevation_rad = uniform(generator, -scene.elevation_max_rad, scene.elevation_max_rad, *shape)
    range_m = uniform(generator, scene.range_min_m, scene.range_max_m, *shape)
    power = range_m ** (-2.0 * (1.0 - scene.power_control))
    sources = Sources.from_position(torch.stack((azimuth_rad, elevation_rad, range_m), dim=-1), power, k)
    return replace(sources, power=sources.power / sources.power.sum(dim=1, keepdim=True))


def draw_symbols(scene: SceneConfig, snapshots: int, count: int, generator: torch.Generator) -> Complex[Tensor, "B L K"]:
    """Draw CN(0, 1) symbols, fresh for each snapshot (``gaussian``) or one draw for all snapshots of a scene (``static``)."""
    if scene.symbols == "static":
        return complex_normal(generator, count, 1, scene.k_max).expand(count, snapshots, scene.k_max).contiguous()
    return complex_normal(generator, count, snapshots, scene.k_max)


def source_steering(array: ArrayConfig, sources: Sources) -> Complex[Tensor, "B N K"]:
    """Steering matrix A with zero columns in empty slots."""
    range_m = torch.where(sources.mask, sources.range_m, 1.0)
    steering = steering_vector(array, sources.azimuth_rad, sources.elevation_rad, range_m)
    return (steering * sources.mask[..., None]).transpose(1, 2)


def true_factor(array: ArrayConfig, sources: Sources) -> Complex[Tensor, "B N K"]:
    """Factor A diag(sqrt(p)) of the true covariance R = A diag(p) A^H, from the labels."""
    return source_steering(array, sources) * torch.sqrt(sources.power)[:, None, :]


def clean_snapshots(
    channel: Complex[Tensor, "B M N"], codes: Complex[Tensor, "B L N"], factor: Complex[Tensor, "B N K"], symbols: Complex[Tensor, "B L K"]
) -> Complex[Tensor, "B L M"]:
    """Noise-free snapshots y_l = H diag(c_l) A diag(sqrt(p)) s_l."""
    on_surface = symbols @ factor.transpose(1, 2)
    return (codes * on_surface) @ channel.transpose(1, 2)


def simulate(config: Config, count: int, generator: torch.Generator) -> Simulated:
    """Simulate ``count`` scenes on the generator's device.

    y_l = H diag(c_l) sum_k sqrt(p_k) a_k s_kl + n_l. The SNR is the mean clean power per measurement over the realised snapshots of a
    scene divided by the noise variance; it is drawn first and stored as drawn.

    Args:
        config: the configuration.
        count: number of scenes.
        generator: explicit random stream.
    """
    array, scene = config.array, config.scene
    device = generator.device
    sources = draw_sources(scene, count, generator)
    channel = rician_channel(array, config.channel, count, generator)
    code_index = codebook(array, config.codes)[select_beams(config.codes, count, generator)].to(device)
    symbols = draw_symbols(scene, config.codes.snapshots, count, generator) * sources.mask[:, None, :]
    snr_db = uniform(generator, scene.snr_min_db, scene.snr_max_db, count)
    codes = code_phasors(code_index, config.codes.bits, torch.complex128)
    clean = clean_snapshots(channel, codes, true_factor(array, sources), symbols)
    noise_variance = clean.abs().square().mean(dim=(1, 2)) * 10.0 ** (-snr_db / 10.0)
    noise = complex_normal(generator, *clean.shape) * torch.sqrt(noise_variance)[:, None, None]
    measurements = Measurements(clean + noise, channel, code_index, snr_db, noise_variance)
    return Simulated(measurements, sources, symbols)


def estimate_snr_db(snapshots: Complex[Tensor, "B L M"], noise_variance: Float[Tensor, " B"]) -> Float[Tensor, " B"]:
    """SNR that a receiver computes from measured power and a known noise variance, at least -20 dB."""
    excess = snapshots.abs().square().mean(dim=(1, 2)) / noise_variance - 1.0
    return 10.0 * torch.log10(excess.clamp_min(1e-2))


def codes_of(measurements: Measurements, codes: CodesConfig) -> Complex[Tensor, "B L N"]:
    """Unit-modulus codes of the snapshots, in the snapshots' precision."""
    return code_phasors(measurements.code_index, codes.bits, measurements.snapshots.dtype)
