"""The configuration tree: frozen, closed, validated where it is built, and passed as an argument.

One file or command-line override after the other is merged into a plain nested dictionary, which is validated once as a whole. Angles
in degrees and ratios in decibels say so in their names; the properties beside them give radians and linear values.
"""

from __future__ import annotations

import hashlib
import json
import math
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from ris_pipeline.errors import ConfigError, nearest_name

PositiveInt = Annotated[int, Field(gt=0)]
PositiveFloat = Annotated[float, Field(gt=0)]
NonNegativeFloat = Annotated[float, Field(ge=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]

DATA_SECTIONS = ("array", "scene", "channel", "codes", "back_projection", "data")
"""Sections that decide what a shard contains; their hash identifies a data set."""


class Section(BaseModel):
    """A frozen group of settings that refuses unknown keys and values that are not finite."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, validate_default=True)


class ArrayConfig(Section):
    """Reconfigurable surface and base station (DESIGN: N = n_h n_v elements, M antennas)."""

    n_h: PositiveInt = Field(12, description="elements per row of the surface")
    n_v: PositiveInt = Field(12, description="rows of the surface")
    spacing_m: PositiveFloat = Field(0.15, description="distance of neighbouring elements")
    wavelength_m: PositiveFloat = Field(0.3, description="carrier wavelength")
    bs_antennas: PositiveInt = Field(16, description="antennas of the base station, a half-wavelength line")

    @property
    def n_elements(self) -> int:
        """Number of surface elements N."""
        return self.n_h * self.n_v


class SceneConfig(Section):
    """Where sources may be, how many there are, and what they send."""

    k_min: PositiveInt = Field(1, description="fewest sources of a scene")
    k_max: Annotated[int, Field(gt=0, le=8)] = Field(5, description="most sources of a scene")
    azimuth_max_deg: Annotated[float, Field(gt=0, lt=90)] = Field(60.0, description="half-width of the azimuth sector")
    elevation_max_deg: Annotated[float, Field(gt=0, lt=90)] = Field(30.0, description="half-width of the elevation sector")
    range_min_m: PositiveFloat = Field(0.5, description="nearest source")
    range_max_m: PositiveFloat = Field(10.0, description="farthest source")
    symbols: Literal["gaussian", "static"] = Field("gaussian", description="fresh symbols per snapshot, or one pilot per scene")
    power_control: Fraction = Field(0.0, description="0 free space, 1 equal received power")
    snr_min_db: float = Field(-5.0, description="lowest signal-to-noise ratio")
    snr_max_db: float = Field(20.0, description="highest signal-to-noise ratio")

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        for low, high in (("k_min", "k_max"), ("range_min_m", "range_max_m"), ("snr_min_db", "snr_max_db")):
            if getattr(self, low) > getattr(self, high):
                raise ValueError(f"{low} = {getattr(self, low)} is above {high} = {getattr(self, high)}")
        return self

    @property
    def azimuth_max_rad(self) -> float:
        """Half-width of the azimuth sector in radians."""
        return math.radians(self.azimuth_max_deg)

    @property
    def elevation_max_rad(self) -> float:
        """Half-width of the elevation sector in radians."""
        return math.radians(self.elevation_max_deg)


class ChannelConfig(Section):
    """Rician channel between surface and base station."""

    rician_min: NonNegativeFloat = Field(0.5, description="smallest Rician factor (linear)")
    rician_max: NonNegativeFloat = Field(10.0, description="largest Rician factor (linear)")
    angle_max_deg: Annotated[float, Field(gt=0, lt=90)] = Field(60.0, description="half-width of the line-of-sight angles")
    distance_m: PositiveFloat = Field(100.0, description="distance between surface and base station")

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.rician_min > self.rician_max:
            raise ValueError(f"rician_min = {self.rician_min} is above rician_max = {self.rician_max}")
        return self

    @property
    def angle_max_rad(self) -> float:
        """Half-width of the line-of-sight angles in radians."""
        return math.radians(self.angle_max_deg)


class CodesConfig(Section):
    """Phase codes that the surface shows, one per snapshot."""

    bits: Annotated[int, Field(ge=1, le=8)] = Field(3, description="phase resolution; 2**bits phases")
    beams_h: PositiveInt = Field(8, description="horizontal beams of the codebook")
    beams_v: PositiveInt = Field(8, description="vertical beams of the codebook")
    snapshots: PositiveInt = Field(16, description="snapshots L of a scene")
    selection: Literal["balanced", "stride", "random"] = Field("balanced", description="which beams are shown")

    @model_validator(mode="after")
    def _selectable(self) -> Self:
        if self.snapshots > self.beams_h * self.beams_v:
            raise ValueError(f"snapshots = {self.snapshots} is above the {self.beams_h * self.beams_v} beams of the codebook")
        if self.selection == "balanced" and (self.snapshots % self.beams_v or self.beams_h % (self.snapshots // self.beams_v)):
            raise ValueError(
                f"balanced selection needs snapshots to be a multiple m of beams_v with m dividing beams_h, "
                f"got snapshots = {self.snapshots}, beams_v = {self.beams_v}, beams_h = {self.beams_h}"
            )
        return self


class BackProjectionConfig(Section):
    """Regularised inversion of the sensing operator, offline only."""

    ridge: NonNegativeFloat = Field(1e-3, description="rho relative to tr(H H^H)/M")


class DataConfig(Section):
    """Sizes and seed of a data set."""

    n_train: PositiveInt = Field(100_000, description="training scenes")
    n_val: PositiveInt = Field(10_000, description="validation scenes")
    n_test: PositiveInt = Field(10_000, description="test scenes")
    shard_scenes: PositiveInt = Field(2_000, description="scenes per shard file")
    seed: Annotated[int, Field(ge=0)] = Field(0, description="entropy of the seed sequence")
    store_sample: bool = Field(True, description="store the sample covariance factor")


class ShrinkageConfig(Section):
    """SNR-aware shrinkage: alpha = clip(base 10^(-snr_db/20), minimum, maximum)."""

    base: NonNegativeFloat = Field(0.1, description="alpha at 0 dB")
    minimum: Fraction = Field(1e-3, description="smallest alpha")
    maximum: Fraction = Field(0.3, description="largest alpha")

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.minimum > self.maximum:
            raise ValueError(f"minimum = {self.minimum} is above maximum = {self.maximum}")
        return self


class CovarianceConfig(Section):
    """Options of the one covariance builder."""

    beta: Fraction = Field(0.3, description="weight of the sample covariance in the blend; 0 switches it off")
    diagonal_loading: NonNegativeFloat = Field(1e-3, description="loading relative to trace N")
    shrinkage: ShrinkageConfig | None = Field(ShrinkageConfig(), description="SNR-aware shrinkage; null switches it off")


class ModelConfig(Section):
    """Size of the network and of the spectrum that it looks at."""

    channels: Annotated[int, Field(ge=16, multiple_of=8)] = Field(32, description="channels of the convolutional trunk")
    hidden: PositiveInt = Field(128, description="width of the count head")
    grid_azimuth: Annotated[int, Field(ge=8)] = Field(24, description="azimuth cells of the coarse spectrum")
    grid_elevation: Annotated[int, Field(ge=8)] = Field(12, description="elevation cells of the coarse spectrum")
    grid_range: PositiveInt = Field(4, description="range cells of the coarse spectrum, geometric")
    pursuit_maps: PositiveInt = Field(3, description="pursuit rounds whose spectrum the trunk sees")


class LossConfig(Section):
    """Weights of the loss terms; a weight of 0 switches its term off."""

    covariance: NonNegativeFloat = Field(0.3, description="NMSE of the effective covariance")
    k: NonNegativeFloat = Field(1.0, description="cross-entropy of the source count")
    position: NonNegativeFloat = Field(1.0, description="permutation-invariant position loss")
    score: NonNegativeFloat = Field(1.0, description="focal loss of the map that says where sources are")
    steering: NonNegativeFloat = Field(0.3, description="decorrelation of true and predicted steering vectors")
    under_cost: Annotated[float, Field(ge=1)] = Field(1.25, description="cost of undercounting relative to overcounting")


class TrainConfig(Section):
    """Optimisation, selection and bookkeeping of a training run."""

    val_primary: Literal["loss", "k_loc", "metrics"] = Field("k_loc", description="what selects the model; metrics means k_loc")
    epochs: PositiveInt = Field(30, description="passes over the training set")
    batch_size: PositiveInt = Field(128, description="scenes per optimizer step")
    learning_rate: PositiveFloat = Field(2e-3, description="peak learning rate")
    weight_decay: NonNegativeFloat = Field(1e-2, description="AdamW weight decay of matrices")
    warmup_fraction: Fraction = Field(0.05, description="part of all steps spent warming up")
    final_lr_fraction: Fraction = Field(0.02, description="learning rate at the end, relative to the peak")
    clip_norm: PositiveFloat = Field(1.0, description="largest gradient norm")
    patience: PositiveInt = Field(10, description="epochs without improvement before stopping")
    log_every: PositiveInt = Field(50, description="optimizer steps between reads of the device")
    seed: Annotated[int, Field(ge=0)] = Field(0, description="initialisation and order of the batches")
    device: str = Field("auto", description="auto, cpu or a CUDA device")
    compile: bool = Field(False, description="torch.compile the network")
    storage: Literal["memory", "mmap"] = Field("memory", description="keep the set on the device, or map the shards")


class SelectionConfig(Section):
    """Norms of the composite score and limits of the position metrics."""

    azimuth_norm_deg: PositiveFloat = 5.0
    elevation_norm_deg: PositiveFloat = 5.0
    range_norm_m: PositiveFloat = 1.0
    azimuth_clip_deg: PositiveFloat = 15.0
    elevation_clip_deg: PositiveFloat = 15.0
    range_clip_m: PositiveFloat = 3.0
    azimuth_success_deg: PositiveFloat = 3.0
    elevation_success_deg: PositiveFloat = 3.0
    range_success_m: PositiveFloat = 0.5


class EstimateConfig(Section):
    """Estimation of count and positions."""

    k_conf_thresh: Fraction = Field(0.3, description="confidence of the K-head below which the counting rule decides")
    hybrid_conf_thresh: Fraction = Field(0.9, description="the same for `hybrid`, whose counting rule is a likelihood search")
    grid_azimuth_deg: PositiveFloat = Field(3.0, description="azimuth step of the search grid")
    grid_elevation_deg: PositiveFloat = Field(3.0, description="elevation step of the search grid")
    grid_range: PositiveInt = Field(6, description="range points of the search grid, uniform in 1/r")
    refine_steps: PositiveInt = Field(12, description="most Levenberg-Marquardt steps of a refinement")
    false_alarm: Annotated[float, Field(gt=0, lt=1)] = Field(0.05, description="false-alarm rate of the penalised count")
    power_spread_db: PositiveFloat = Field(1.0, description="standard deviation of the sources' transmit powers that `ml` assumes")


class HpoConfig(Section):
    """Hyper-parameter search."""

    trials: PositiveInt = Field(20, description="trials of the study, finished ones included")
    subset_fraction: Annotated[float, Field(gt=0, le=1)] = Field(0.1, description="part of the manifest's counts used by a trial")
    epochs: PositiveInt = Field(8, description="epochs of a trial")
    seed: Annotated[int, Field(ge=0)] = Field(0, description="seed of the sampler")
    study_name: str = Field("ris", min_length=1, description="name of the study in its storage")


class EvaluateConfig(Section):
    """Evaluation on a split."""

    split: Literal["train", "val", "test"] = "test"
    scenes: PositiveInt | None = Field(None, description="scenes to evaluate; null means all of the split")
    search_scenes: PositiveInt | None = Field(None, description="scenes for the methods that search the likelihood; null means as many")
    batch_size: PositiveInt = Field(128, description="scenes estimated at a time")
    snr_bin_db: PositiveFloat = Field(5.0, description="width of the SNR bins")
    false_alarm: Annotated[float, Field(gt=0, lt=1)] = Field(0.01, description="false-alarm rate of the detection bound")
    bootstrap: PositiveInt = Field(1000, description="resamples behind every 95 % interval")
    seed: Annotated[int, Field(ge=0)] = Field(0, description="seed of the bootstrap")


class Config(Section):
    """The whole configuration."""

    array: ArrayConfig = ArrayConfig()
    scene: SceneConfig = SceneConfig()
    channel: ChannelConfig = ChannelConfig()
    codes: CodesConfig = CodesConfig()
    back_projection: BackProjectionConfig = BackProjectionConfig()
    data: DataConfig = DataConfig()
    covariance: CovarianceConfig = CovarianceConfig()
    model: ModelConfig = ModelConfig()
    loss: LossConfig = LossConfig()
    train: TrainConfig = TrainConfig()
    metrics: SelectionConfig = SelectionConfig()
    estimate: EstimateConfig = EstimateConfig()
    hpo: HpoConfig = HpoConfig()
    evaluate: EvaluateConfig = EvaluateConfig()

    @model_validator(mode="after")
    def _invertible(self) -> Self:
        if self.back_projection.ridge == 0.0 and self.array.bs_antennas > self.array.n_elements:
            raise ValueError(
                f"back_projection.ridge = 0 needs at least as many elements as antennas, "
                f"got {self.array.n_elements} elements and {self.array.bs_antennas} antennas"
            )
        return self

    def replaced(self, **sections: Mapping[str, Any]) -> Config:
        """Return a validated copy with some keys of some sections replaced, e.g. ``replaced(train={"epochs": 3})``."""
        return build_config(merge(self.model_dump(mode="json"), sections))

    def agrees_with(self, data: Mapping[str, Any], where: str) -> None:
        """Check that the data-describing sections, sizes and seed aside, are those of ``data``.

        Raises:
            ConfigError: names the first key that differs.
        """
        for section in DATA_SECTIONS[:-1]:
            for key, value in self.data_part()[section].items():
                if data[section][key] != value:
                    raise ConfigError(f"configuration {section}.{key} = {value} contradicts {where}, which has {data[section][key]}")

    def data_part(self) -> dict[str, Any]:
        """Return the sections that decide what a shard contains, as plain JSON values."""
        return self.model_dump(mode="json", include=set(DATA_SECTIONS))

    def sha256(self, *sections: str) -> str:
        """Return the SHA-256 of the canonical JSON of the named sections (of all when none is named)."""
        return digest(self.model_dump(mode="json", include=set(sections) or None))


def digest(values: Mapping[str, Any]) -> str:
    """Return the SHA-256 of the canonical JSON of ``values``."""
    return hashlib.sha256(json.dumps(values, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def merge(base: Mapping[str, Any], update: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``base`` with ``update`` merged in, table by table; neither argument is changed."""
    merged = dict(base)
    for key, value in update.items():
        old = merged.get(key)
        merged[key] = merge(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return merged


def build_config(values: Mapping[str, Any], source: str = "the configuration") -> Config:
    """Validate nested ``values`` as a :class:`Config`.

    Raises:
        ConfigError: a key is unknown or a value is out of range; one sentence names the key and, for an unknown one, the nearest key.
    """
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        raise ConfigError(_sentence(error, source)) from None


def load_config(files: Sequence[Path] = (), overrides: Iterable[tuple[str, str]] = (), base: Mapping[str, Any] | None = None) -> Config:
    """Build a configuration from defaults, then ``base``, then TOML ``files``, then ``--section.key VALUE`` ``overrides``.

    Raises:
        ConfigError: a file is missing or not TOML, a key is unknown, or a value is out of range.
    """
    values: Mapping[str, Any] = base or {}
    for file in files:
        update = read_toml(file)
        build_config(merge(values, update), str(file))
        values = merge(values, update)
    for key, text in overrides:
        values = merge(values, _nested(key, text))
    return build_config(values, "the command line" if overrides else "the configuration")


def read_toml(file: Path) -> dict[str, Any]:
    """Read a TOML file.

    Raises:
        ConfigError: the file is missing, is not UTF-8 or is not TOML.
    """
    try:
        return _without_null(tomllib.loads(file.read_text(encoding="utf-8")))
    except OSError as error:
        raise ConfigError(f"cannot read the configuration file {file}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file} is not a TOML file: {error}") from None


def to_toml(values: Mapping[str, Any], comment: str = "") -> str:
    """Write nested ``values`` as TOML. TOML has no null: ``None`` is written as the string "null", which :func:`read_toml` turns back."""
    lines = [f"# {line}" for line in comment.splitlines()]
    _write_table(values, (), lines)
    return "\n".join(lines) + "\n"


def keys(model: type[BaseModel] = Config, prefix: str = "") -> dict[str, str]:
    """Return every dotted key of the tree with its description."""
    found: dict[str, str] = {}
    for name, field in model.model_fields.items():
        section = _section_of(field.annotation)
        if section is not None:
            found |= keys(section, f"{prefix}{name}.")
        else:
            found[f"{prefix}{name}"] = field.description or ""
    return found


def _section_of(annotation: Any) -> type[Section] | None:
    for candidate in (annotation, *getattr(annotation, "__args__", ())):
        if isinstance(candidate, type) and issubclass(candidate, Section):
            return candidate
    return None


def _nested(key: str, text: str) -> dict[str, Any]:
    value: Any = None if text == "null" else text
    for part in reversed(key.split(".")):
        value = {part: value}
    return value


def _write_table(values: Mapping[str, Any], path: tuple[str, ...], lines: list[str]) -> None:
    scalars = {k: v for k, v in values.items() if not isinstance(v, Mapping)}
    if path and scalars:
        lines.append(f"\n[{'.'.join(path)}]")
    lines.extend(f"{key} = {_toml_scalar(value)}" for key, value in scalars.items())
    for key, value in values.items():
        if isinstance(value, Mapping):
            _write_table(value, (*path, key), lines)


def _toml_scalar(value: Any) -> str:
    return '"null"' if value is None else json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _without_null(values: Mapping[str, Any]) -> dict[str, Any]:
    return {k: _without_null(v) if isinstance(v, Mapping) else None if v == "null" else v for k, v in values.items()}


def _sentence(error: ValidationError, source: str) -> str:
    first = error.errors()[0]
    key = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        return f"unknown configuration key {key!r} in {source}{_nearest_key(key)}"
    message = first["msg"].removeprefix("Value error, ")
    got = f", got {_short(first['input'])}" if key else ""
    return f"configuration{key and ' ' + key} in {source}: {message[0].lower()}{message[1:]}{got}"


def _nearest_key(key: str) -> str:
    known = keys()
    same_leaf = [name for name in known if name.rsplit(".", 1)[-1] == key.rsplit(".", 1)[-1]]
    return f"; did you mean {same_leaf[0]!r}?" if len(same_leaf) == 1 else nearest_name(key, [*known, *Config.model_fields])


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
