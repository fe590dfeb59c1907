"""CFG001 to CFG003, GEO001, UNIT001, ERR001, RNG001 and SUP001."""

from __future__ import annotations

from tests.audits.mutants.model import Block, Edit, Op, Sink
from tests.audits.mutants.sites import (
    CHECKPOINT,
    CONFIG,
    EVERYWHERE,
    FEATURES,
    HPO,
    LOCALIZE,
    LOOP,
    LOSSES,
    METRICS,
    MUSIC,
    NETWORK,
    OFF_HOT_PATH,
    OPTIM,
    SIMULATION,
    after,
)

_T = "import torch"


def _sinks(params: str, *rows: tuple[str, str, str] | tuple[str, str, str, str], imports: str = "") -> tuple[Sink, ...]:
    return tuple(Sink(row[0], Op(body=row[1]), Op(body=row[2]), params=params, imports=row[3] if len(row) > 3 else imports) for row in rows)


CONFIG_SITES = (
    after("trainer", LOOP, "        self.device = resolve_device(config.train.device)", "config", "fit"),
    after("training loss", LOSSES, "    options = config.covariance", "config", "step", 4),
    after("network", NETWORK, "        self.features = PursuitFeatures(config)", "config", "step"),
    after("features", FEATURES, "        axes = coarse_axes(config)", "config", "step"),
    after("simulation", SIMULATION, "    array, scene = config.array, config.scene", "config", "data", 4),
    after("trial", HPO, "    searched = suggest(trial)", "config", "objective", 4),
    after("loss of a batch", LOOP, "        sample = batch.measurements.sample_factor", "self.config", "step"),
    after("MUSIC", MUSIC, "    k_max = config.scene.k_max\n    if bool((k < 0).any())", "config", "music", 4),
)
CONFIG_SITES = tuple(s for s in CONFIG_SITES if s.name != "MUSIC")

UNDECLARED = _sinks(
    "given",
    ("a misspelt key", "return given.train.lerning_rate", "return given.train.learning_rate"),
    ("a missing key", "return given.train.momentum", "return given.train.weight_decay"),
    ("a missing section", "return given.scheduler", "return given.train"),
    ("a key of another section", "return given.loss.epochs", "return given.train.epochs"),
    ("a flat key", "return given.learning_rate", "return given.train.learning_rate"),
    ("a section in a variable", "part = given.covariance\nreturn part.blend", "part = given.covariance\nreturn part.beta"),
    ("an upper-case key", "return given.covariance.BETA", "return given.covariance.beta"),
    ("getattr with a default", "return getattr(given.train, 'momentum', 0.9)", "return getattr(given.train, 'weight_decay')"),
    ("getattr of a declared key with a default", "return getattr(given.train, 'seed', 0)", "return given.train.seed"),
    ("getattr with None", "return getattr(given, 'scheduler', None)", "return getattr(given, 'train')"),
    ("getattr of a section with a default", "part = getattr(given, 'loss', None)\nreturn part", "part = getattr(given, 'loss')\nreturn part"),
    ("getattr of a missing key", "return getattr(given.train, 'momentum')", "return getattr(given.train, 'epochs')"),
    ("an unpacked section", "train, loss = given.train, given.loss\nreturn train.under_cost", "train, loss = given.train, given.loss\nreturn loss.under_cost"),
    ("a key of a nested section", "law = given.covariance.shrinkage\nreturn law.floor", "law = given.covariance.shrinkage\nreturn law.minimum"),
    ("in a comprehension", "return [given.train.momentum for _ in range(1)]", "return [given.train.epochs for _ in range(1)]"),
    ("in a condition", "if given.data.cache:\n    return 1\nreturn 0", "if given.data.store_sample:\n    return 1\nreturn 0"),
)  # fmt: skip

_EPOCHS = '    epochs: PositiveInt = Field(30, description="passes over the training set")\n'
_BETA = '    beta: Fraction = Field(0.3, description="weight of the sample covariance in the blend; 0 switches it off")\n'
_K = '    k: NonNegativeFloat = Field(1.0, description="cross-entropy of the source count")\n'
_SEED = '    trials: PositiveInt = Field(20, description="trials of the study, finished ones included")\n'
_READER = "ris_pipeline/planted_reader.py"


def _unread(name: str, line: str, field: str, reads: str, other: str = "") -> Edit:
    """A declared key; ``other`` looks like a read of it, ``reads`` is one."""
    made = line + f'    {field}: NonNegativeFloat = Field(0.5, description="planted")\n'
    head = '"""Planted."""\n\nfrom __future__ import annotations\n\nfrom ris_pipeline.config import Config\n\n\n'
    return Edit(name, CONFIG, line, made, made, "", ((_READER, f"{head}{other}§{reads}"),))


_PLAIN = "def used(config: Config) -> float:\n    return {}\n"
UNREAD = (
    _unread("nothing mentions it", _EPOCHS, "momentum", _PLAIN.format("config.train.momentum")),
    _unread("named in a docstring", _EPOCHS, "label_noise", _PLAIN.format("config.train.label_noise + 1"), 'def told() -> None:\n    """Uses config.train.label_noise."""\n\n\n'),
    _unread("named in a comment", _BETA, "decay", _PLAIN.format("2 * config.covariance.decay"), "# config.covariance.decay is the decay\n\n\n"),
    _unread("a keyword of something else", _EPOCHS, "dampening", _PLAIN.format("config.train.dampening"), "def told() -> dict[str, float]:\n    return dict(dampening=0.5)\n\n\n"),
    _unread("a local variable", _K, "ranking", _PLAIN.format("config.loss.ranking"), "def told() -> float:\n    ranking = 0.5\n    return ranking\n\n\n"),
    _unread("a text", _K, "contrast", _PLAIN.format("config.loss.contrast"), "def told() -> str:\n    return 'contrast'\n\n\n"),
    _unread("only set", _EPOCHS, "jitter", _PLAIN.format("config.train.jitter"), "def told(config: Config) -> Config:\n    return config.replaced(train={'jitter': 0.1})\n\n\n"),
    _unread("a parameter of that name", _SEED, "spread", _PLAIN.format("config.hpo.spread"), "def told(spread: float) -> float:\n    return spread\n\n\n"),
    _unread("an attribute of something else", _SEED, "margin_m", _PLAIN.format("config.hpo.margin_m"),
            "class Box:\n    def __init__(self) -> None:\n        self.margin_m = 1.0\n\n\ndef told(box: Box) -> float:\n    return box.margin_m\n\n\n"),
    _unread("read through a section", _EPOCHS, "smoothing", "def used(config: Config) -> float:\n    part = config.train\n    return part.smoothing\n"),
    _unread("read by a helper", _BETA, "tilt", "from ris_pipeline.config import CovarianceConfig\n\n\ndef part(options: CovarianceConfig) -> float:\n    return options.tilt\n\n\n"
            "def used(config: Config) -> float:\n    return part(config.covariance)\n"),
    _unread("read by getattr", _K, "focus", "def used(config: Config) -> float:\n    return getattr(config.loss, 'focus')\n"),
    _unread("a default only", _EPOCHS, "cooldown", _PLAIN.format("config.train.cooldown"), "def told(cooldown: float = 0.5) -> None:\n    assert cooldown\n\n\n"),
    _unread("read in a condition", _BETA, "gate", "def used(config: Config) -> bool:\n    return config.covariance.gate > 0.0\n"),
    _unread("imported by that name", _SEED, "patience_gain", _PLAIN.format("config.hpo.patience_gain"), "import math as patience_gain\n\n\ndef told() -> float:\n    return patience_gain.pi\n\n\n"),
    _unread("a key of a mapping", _SEED, "restarts", _PLAIN.format("config.hpo.restarts"), "def told() -> float:\n    return {'restarts': 1.0}['restarts']\n\n\n"),
)  # fmt: skip

CONFIG_WRITES = _sinks(
    "given",
    ("an assignment", "given.train.epochs = 3", "copy = given.replaced(train={'epochs': 3})\nreturn copy"),
    ("an augmented assignment", "given.train.epochs += 1", "epochs = given.train.epochs\nepochs += 1\nreturn epochs"),
    ("setattr", "setattr(given.train, 'epochs', 3)", "class Box:\n    pass\nbox = Box()\nsetattr(box, 'epochs', 3)\nreturn box"),
    ("object.__setattr__", "object.__setattr__(given.train, 'epochs', 3)", "return given.replaced(train={'epochs': 3}).train"),
    ("a bound __setattr__", "given.train.__setattr__('epochs', 3)", "plan = {}\nplan.__setitem__('epochs', 3)\nreturn plan"),
    ("a section", "given.train = given.train", "section = given.train\nreturn section"),
    ("__dict__", "given.train.__dict__['epochs'] = 3", "plan = given.train.model_dump()\nplan['epochs'] = 3\nreturn plan"),
    ("vars", "vars(given.train)['epochs'] = 3", "plan = dict(vars(given.train))\nplan['epochs'] = 3\nreturn plan"),
    ("update of __dict__", "given.train.__dict__.update(epochs=3)", "plan = {}\nplan.update(epochs=3)\nreturn plan"),
    ("a deletion", "del given.train.epochs", "plan = given.train.model_dump()\ndel plan['epochs']\nreturn plan"),
    ("a section in a variable", "part = given.covariance\npart.beta = 0.5", "beta = given.covariance.beta\nbeta = 0.5\nreturn beta"),
    ("an unpacked target", "given.train.epochs, rest = 3, 4", "epochs, rest = given.train.epochs, 4\nreturn epochs"),
    ("a loop's target", "~for given.train.epochs in (3,):\n    pass", "for epochs in (given.train.epochs,):\n    pass"),
    ("a chained assignment", "kept = given.loss.k = 1.0", "kept = other = given.loss.k\nreturn kept"),
    ("delattr", "delattr(given.train, 'epochs')", "plan = {'epochs': given.train.epochs}\nplan.pop('epochs')\nreturn plan"),
    ("a nested section", "given.covariance.shrinkage.base = 0.2", "base = given.covariance.shrinkage.base\nreturn base"),
)  # fmt: skip

GEO_SITES = (
    after("training loss", LOSSES, "    slot = match_slots(prediction.position, sources, config)",
          "sources.azimuth_rad, sources.range_m, config.array", "step", 4),
    after("true factor", SIMULATION, "    range_m = torch.where(sources.mask, sources.range_m, 1.0)", "sources.azimuth_rad, range_m, array", "step", 4),
    after("loss of a batch", LOOP, "        sample = batch.measurements.sample_factor",
          "batch.sources.azimuth_rad, batch.sources.range_m, self.config.array", "step"),
    after("factor", NETWORK, "        steering = steering_vector(self.config.array, *position.unbind(dim=-1))",
          "position[..., 0], position[..., 2], self.config.array", "step"),
)  # fmt: skip
_G = "import math\nimport torch"
_E = "n = torch.arange(array.n_h) * array.spacing_m\n"
_D = _E + "distance_m = torch.sqrt(range_m[..., None] ** 2 + n**2 - 2 * range_m[..., None] * n * torch.sin(azimuth_rad)[..., None])\n"
GEO = _sinks(
    "azimuth_rad, range_m, array",
    ("spherical", _D + "return torch.exp(1j * 2 * math.pi / array.wavelength_m * (range_m[..., None] - distance_m))", _D + "return (range_m[..., None] - distance_m) / array.wavelength_m"),
    ("polar", _D + "phase = 2 * math.pi * (range_m[..., None] - distance_m) / array.wavelength_m\nreturn torch.polar(torch.ones_like(phase), phase)",
     "from ris_pipeline.arrays import steering_vector\nreturn steering_vector(array, azimuth_rad, torch.zeros_like(azimuth_rad), range_m)"),
    ("cosine and sine", _D + "phase = (range_m[..., None] - distance_m) * (2 * math.pi / array.wavelength_m)\nreturn torch.complex(phase.cos(), phase.sin())",
     "n = torch.arange(8)\nphase = n * (2 * math.pi / 8)\nreturn torch.complex(phase.cos(), phase.sin())"),
    ("plane wave", _E + "phase = 2 * math.pi / array.wavelength_m * n * torch.sin(azimuth_rad)[..., None]\nreturn torch.exp(1j * phase)",
     "phase = torch.arange(16) * (2 * math.pi / 16)\nreturn torch.exp(1j * phase)"),
    ("plane wave of half wavelengths", "n = torch.arange(array.n_h)\nreturn torch.exp(1j * math.pi * n * torch.sin(azimuth_rad)[..., None])",
     "n = torch.arange(array.n_h)\nreturn torch.exp(-0.5 * n * torch.sin(azimuth_rad)[..., None] ** 2)"),
    ("Fresnel", _E + "u = torch.sin(azimuth_rad)[..., None]\npath = n * u - n**2 * (1 - u**2) / (2 * range_m[..., None])\nreturn torch.exp(2j * math.pi * path / array.wavelength_m)",
     _E + "u = torch.sin(azimuth_rad)[..., None]\nreturn n * u - n**2 * (1 - u**2) / (2 * range_m[..., None])"),
    ("Fresnel without its projection term", _E + "path = n * torch.sin(azimuth_rad)[..., None] - n**2 / (2 * range_m[..., None])\nphase = 2 * math.pi / array.wavelength_m * path\nreturn torch.cos(phase) + 1j * torch.sin(phase)",
     _E + "path = n * torch.sin(azimuth_rad)[..., None]\nreturn path.sum(dim=-1) + range_m"),
    ("conjugated", _D + "return torch.exp(-1j * (2 * math.pi / array.wavelength_m) * (range_m[..., None] - distance_m))", _D + "return torch.exp(-distance_m / array.wavelength_m)"),
    ("a wave number", _D + "k = 2 * math.pi / array.wavelength_m\nreturn (1j * k * (range_m[..., None] - distance_m)).exp()", _D + "k = 2 * math.pi / array.wavelength_m\nreturn k * distance_m.mean()"),
    ("NumPy", "n = np.arange(array.n_h) * array.spacing_m\nu = np.sin(azimuth_rad.detach().numpy())[..., None]\nreturn np.exp(1j * 2 * np.pi / array.wavelength_m * n * u)",
     "n = torch.arange(array.n_h) * array.spacing_m\nreturn n * torch.sin(azimuth_rad)[..., None]", "import numpy as np\nimport torch"),
    ("cmath", "return [cmath.exp(2j * math.pi / array.wavelength_m * n * array.spacing_m * math.sin(azimuth_rad.flatten()[0])) for n in range(array.n_h)]",
     "return [n * array.spacing_m / array.wavelength_m for n in range(array.n_h)]", "import cmath\nimport math"),
    ("view_as_complex", _D + "phase = 2 * math.pi * distance_m / array.wavelength_m\nreturn torch.view_as_complex(torch.stack((phase.cos(), phase.sin()), dim=-1))",
     "parts = torch.stack((range_m, azimuth_rad), dim=-1)\nreturn torch.view_as_complex(parts.contiguous())"),
    ("a power of e", _D + "return math.e ** (1j * 2 * math.pi / array.wavelength_m * distance_m)", _D + "return math.e ** (-distance_m)"),
    ("Euler in two lines", _D + "angle = (distance_m - range_m[..., None]) / array.wavelength_m * math.tau\nre, im = torch.cos(angle), torch.sin(angle)\nreturn re - 1j * im",
     "angle = torch.arange(5) / 5 * math.tau\nre, im = torch.cos(angle), torch.sin(angle)\nreturn re - 1j * im"),
)  # fmt: skip
GEO = tuple(Sink(s.name, s.bad, s.good, s.params, imports=s.imports or _G) for s in GEO)

UNIT_SITES = (
    after("training loss", LOSSES, "    slot = match_slots(prediction.position, sources, config)", "config.scene, config.array, snr_db", "", 4),
    after("simulation", SIMULATION, "    codes = code_phasors(code_index, config.codes.bits, torch.complex128)", "scene, array, snr_db", "data", 4),
    after("loss of a batch", LOOP, "        sample = batch.measurements.sample_factor", "self.config.scene, self.config.array, batch.measurements.snr_db", "step"),
    after("effective covariance", NETWORK, "        sample = measurements.sample_factor", "self.config.scene, self.config.array, snr_of(measurements)", "step"),
)  # fmt: skip
UNIT_SITES = tuple(s for s in UNIT_SITES if s.name != "effective covariance")
_U = "import math\nimport torch"
UNITS = _sinks(
    "scene, array, snr_db",
    ("math.sin of degrees", "return math.sin(scene.azimuth_max_deg)", "return math.sin(scene.azimuth_max_rad)"),
    ("math.cos of a variable", "limit = scene.elevation_max_deg\nreturn math.cos(limit)", "limit = scene.elevation_max_rad\nreturn math.cos(limit)"),
    ("torch.sin of degrees", "limit_deg = torch.tensor(scene.azimuth_max_deg)\nreturn torch.sin(limit_deg)", "limit_deg = torch.tensor(scene.azimuth_max_deg)\nreturn torch.sin(torch.deg2rad(limit_deg))"),
    ("a method", "limit_deg = torch.tensor(scene.azimuth_max_deg)\nreturn limit_deg.cos()", "limit_deg = torch.tensor(scene.azimuth_max_deg)\nreturn limit_deg.deg2rad().cos()"),
    ("tan of half the degrees", "return math.tan(scene.azimuth_max_deg / 2)", "return math.tan(math.radians(scene.azimuth_max_deg) / 2)"),
    ("degrees of radians", "limit_deg = math.degrees(scene.azimuth_max_rad)\nreturn math.sin(limit_deg)", "limit_deg = math.degrees(scene.azimuth_max_rad)\nreturn limit_deg / 5.0"),
    ("rad2deg under a sine", "angle_rad = torch.tensor(scene.azimuth_max_rad)\nreturn torch.sin(torch.rad2deg(angle_rad))", "angle_rad = torch.tensor(scene.azimuth_max_rad)\nreturn torch.rad2deg(angle_rad) / 5.0"),
    ("a _rad variable of degrees", "limit_rad = scene.azimuth_max_deg\nreturn limit_rad", "limit_rad = math.radians(scene.azimuth_max_deg)\nreturn limit_rad"),
    ("a _deg variable of radians", "limit_deg = scene.azimuth_max_rad\nreturn limit_deg", "limit_deg = math.degrees(scene.azimuth_max_rad)\nreturn limit_deg"),
    ("a _rad argument of degrees", "def turned(angle_rad):\n    return angle_rad\nreturn turned(angle_rad=scene.azimuth_max_deg)", "def turned(angle_rad):\n    return angle_rad\nreturn turned(angle_rad=scene.azimuth_max_rad)"),
    ("a positional _rad argument", "def turned(angle_rad):\n    return angle_rad\nreturn turned(scene.azimuth_max_deg)", "def turned(angle_rad):\n    return angle_rad\nreturn turned(math.radians(scene.azimuth_max_deg))"),
    ("a _deg argument of radians", "def shown(angle_deg):\n    return angle_deg\nreturn shown(scene.elevation_max_rad)", "def shown(angle_deg):\n    return angle_deg\nreturn shown(scene.elevation_max_deg)"),
    ("the steering vector in degrees", "a = torch.tensor([scene.azimuth_max_deg])\nreturn steering_vector(array, a, a, torch.ones(1))", "a = torch.tensor([scene.azimuth_max_rad])\nreturn steering_vector(array, a, a, torch.ones(1))", "import math\nimport torch\nfrom ris_pipeline.arrays import steering_vector"),
    ("a sum of degrees and radians", "return scene.azimuth_max_deg + scene.elevation_max_rad", "return scene.azimuth_max_rad + scene.elevation_max_rad"),
    ("a difference of degrees and radians", "offset_rad = scene.azimuth_max_rad\nreturn offset_rad - scene.elevation_max_deg", "offset_rad = scene.azimuth_max_rad\nreturn offset_rad - math.radians(scene.elevation_max_deg)"),
    ("a comparison of degrees and radians", "return scene.azimuth_max_deg > scene.azimuth_max_rad", "return scene.azimuth_max_deg > scene.elevation_max_deg"),
    ("decibels times a power", "noise_power = torch.ones(())\nreturn noise_power * scene.snr_max_db", "noise_power = torch.ones(())\nreturn noise_power * 10 ** (scene.snr_max_db / 10)"),
    ("decibels plus a power", "signal_power = torch.ones(())\nreturn signal_power + scene.snr_max_db", "signal_power = torch.ones(())\nreturn 10 * torch.log10(signal_power) + scene.snr_max_db"),
    ("a power over decibels", "signal_power = torch.ones(())\nnoise_variance = signal_power / scene.snr_min_db\nreturn noise_variance", "signal_power = torch.ones(())\nnoise_variance = signal_power / 10 ** (scene.snr_min_db / 10)\nreturn noise_variance"),
    ("a _db variable of a linear value", "snr_linear = 10 ** (scene.snr_max_db / 10)\nlevel_db = snr_linear\nreturn level_db", "snr_linear = 10 ** (scene.snr_max_db / 10)\nlevel_db = 10 * math.log10(snr_linear)\nreturn level_db"),
    ("a linear variable of decibels", "snr_linear = scene.snr_max_db\nreturn snr_linear", "snr_linear = 10 ** (scene.snr_max_db / 10)\nreturn snr_linear"),
    ("a _db argument of a linear value", "def level(snr_db):\n    return snr_db\nsnr_linear = 10 ** (scene.snr_max_db / 10)\nreturn level(snr_linear)", "def level(snr_db):\n    return snr_db\nreturn level(scene.snr_max_db)"),
    imports=_U,
)  # fmt: skip

ERRORS = _sinks(
    "x",
    ("a bare handler", "try:\n~    return x.sum()\nexcept:\n    return None", "try:\n    return x.sum()\nexcept:\n    raise"),
    ("Exception passed", "try:\n~    y = x.sum()\nexcept Exception:\n    pass\nreturn x", "try:\n    y = x.sum()\nexcept Exception as error:\n    raise RuntimeError('no sum') from error\nreturn y"),
    ("Exception becomes zero", "try:\n~    y = x.sum()\nexcept Exception:\n    y = torch.zeros(())\nreturn y", "try:\n    y = x.sum()\nexcept ValueError as error:\n    raise TypeError('bad') from error\nreturn y"),
    ("BaseException", "try:\n~    y = x.sum()\nexcept BaseException:\n    y = None\nreturn y", "try:\n    y = x.sum()\nexcept BaseException:\n    del x\n    raise\nreturn y"),
    ("in a tuple", "try:\n~    y = x.sum()\nexcept (TypeError, Exception):\n    y = x\nreturn y", "try:\n    y = x.sum()\nexcept (TypeError, ValueError) as error:\n    raise RuntimeError('bad') from error\nreturn y"),
    ("a named one ignored", "try:\n~    y = x.sum()\nexcept RuntimeError:\n    pass\nreturn x", "try:\n    y = x.sum()\nexcept RuntimeError as error:\n    raise ValueError('bad') from error\nreturn y"),
    ("a stand-in", "try:\n~    return x.sum()\nexcept RuntimeError:\n    return 0.0", "try:\n    return x.sum()\nfinally:\n    del x"),
    ("NaN", "try:\n~    return x.sum()\nexcept ValueError:\n    return float('nan')", "if x is None:\n    raise ValueError('nothing')\nreturn x.sum()"),
    ("logged", "try:\n~    return x.sum()\nexcept Exception as error:\n    logging.getLogger(__name__).warning('failed: %s', error)\n    return None", "try:\n    return x.sum()\nexcept Exception as error:\n    logging.getLogger(__name__).warning('failed: %s', error)\n    raise", "import logging"),
    ("suppress", "with contextlib.suppress(Exception):\n~    return x.sum()\nreturn None", "with contextlib.nullcontext():\n    return x.sum()", "import contextlib"),
    ("suppress by name", "with suppress(Exception):\n~    y = x.sum()\nreturn x", "with nullcontext():\n    y = x.sum()\nreturn y", "from contextlib import nullcontext, suppress"),
    ("suppress in a variable", "quiet = contextlib.suppress(Exception)\nwith quiet:\n~    return x.sum()\nreturn None", "quiet = contextlib.nullcontext()\nwith quiet:\n    return x.sum()", "import contextlib"),
    ("an exit that returns True", "class Quiet:\n    def __enter__(self):\n        return self\n    def __exit__(self, *error):\n        return True\nwith Quiet():\n~    return x.sum()", "class Quiet:\n    def __enter__(self):\n        return self\n    def __exit__(self, *error):\n        return None\nwith Quiet():\n    return x.sum()"),
    ("a finally that returns", "try:\n~    y = x.sum()\nfinally:\n    return x", "try:\n    y = x.sum()\nfinally:\n    y = x\nreturn y"),
    ("continue", "for _ in range(1):\n    try:\n~        y = x.sum()\n    except Exception:\n        continue\nreturn x", "for _ in range(1):\n    try:\n        y = x.sum()\n    except Exception:\n        raise\nreturn y"),
    ("break", "while True:\n    try:\n~        y = x.sum()\n    except RuntimeError:\n        break\n    break\nreturn x", "while True:\n    y = x.sum()\n    break\nreturn y"),
    ("raised in one branch only", "try:\n~    return x.sum()\nexcept Exception as error:\n    if x is None:\n        raise\n    return None", "try:\n    return x.sum()\nexcept Exception as error:\n    if x is None:\n        raise\n    raise RuntimeError('bad') from error"),
    ("an alias of Exception", "anything = Exception\ntry:\n~    return x.sum()\nexcept anything:\n    return None", "expected = ValueError\ntry:\n    return x.sum()\nexcept expected:\n    raise"),
    ("kept in a list", "errors = []\ntry:\n~    return x.sum()\nexcept Exception as error:\n    errors.append(error)\nreturn None", "errors = []\ntry:\n    return x.sum()\nexcept Exception as error:\n    errors.append(error)\n    raise"),
    imports=_T,
)  # fmt: skip

RANDOM = tuple(
    Sink(name, Op(body=f"return {bad}"), Op(body=f"return {good}"), imports=imports)
    for name, bad, good, imports in (
        ("torch.rand", "torch.rand(3)", "torch.rand(3, generator=torch.Generator())", _T),
        ("torch.randn", "torch.randn(3, 3)", "torch.randn(3, 3, generator=torch.Generator().manual_seed(0))", _T),
        ("torch.randn_like", "torch.randn_like(x.real.float())", "torch.ones_like(x.real.float())", _T),
        ("torch.rand_like", "torch.rand_like(x.real.float())", "torch.zeros_like(x.real.float())", _T),
        ("torch.randint", "torch.randint(0, 4, (3,))", "torch.randint(0, 4, (3,), generator=torch.Generator())", _T),
        ("torch.randperm", "torch.randperm(5)", "torch.randperm(5, generator=torch.Generator())", _T),
        ("torch.bernoulli", "torch.bernoulli(torch.full((3,), 0.5))", "torch.bernoulli(torch.full((3,), 0.5), generator=torch.Generator())", _T),
        ("torch.multinomial", "torch.multinomial(torch.ones(4), 2)", "torch.multinomial(torch.ones(4), 2, generator=torch.Generator())", _T),
        ("torch.normal", "torch.normal(0.0, 1.0, (3,))", "torch.normal(0.0, 1.0, (3,), generator=torch.Generator())", _T),
        ("torch.manual_seed", "torch.manual_seed(0)", "torch.Generator().manual_seed(0)", _T),
        ("torch.seed", "torch.seed()", "torch.Generator().seed()", _T),
        ("torch.random.manual_seed", "torch.random.manual_seed(3)", "torch.Generator('cpu').initial_seed()", _T),
        ("normal_", "torch.empty(3).normal_()", "torch.empty(3).normal_(generator=torch.Generator())", _T),
        ("uniform_", "torch.empty(3).uniform_(0, 1)", "torch.empty(3).uniform_(0, 1, generator=torch.Generator())", _T),
        ("random_", "torch.empty(3).random_()", "torch.empty(3).random_(generator=torch.Generator())", _T),
        ("nn.init", "torch.nn.init.normal_(torch.empty(3, 3))", "torch.nn.init.normal_(torch.empty(3, 3), generator=torch.Generator())", _T),
        ("np.random.rand", "np.random.rand(3)", "np.random.default_rng(0).random(3)", "import numpy as np"),
        ("np.random.seed", "np.random.seed(0)", "np.random.SeedSequence(0).spawn(1)", "import numpy as np"),
        ("np.random.normal", "np.random.normal(size=3)", "np.random.default_rng(1).normal(size=3)", "import numpy as np"),
        ("np.random.shuffle", "np.random.shuffle(list(range(4)))", "np.random.default_rng(2).permutation(4)", "import numpy as np"),
        ("np.random.permutation", "np.random.permutation(4)", "np.random.Generator(np.random.PCG64(1)).permutation(4)", "import numpy as np"),
        ("np.random by name", "choice(4)", "default_rng(4).choice(4)", "from numpy.random import choice, default_rng"),
        ("random.random", "random.random()", "random.Random(0).random()", "import random"),
        ("random.shuffle", "random.shuffle([1, 2])", "random.Random(1).shuffle([1, 2])", "import random"),
        ("random.seed", "random.seed(0)", "random.Random(2).seed(0)", "import random"),
        ("random by name", "uniform(0, 1)", "Random(3).uniform(0, 1)", "from random import Random, uniform"),
        ("an explicit None", "torch.rand(3, generator=None)", "torch.rand(3, generator=torch.Generator('cpu'))", _T),
    )
)  # fmt: skip
RANDOM_REFS = tuple(
    Sink(f"{ref}, as a function", Op(ref=ref, operands="m"), Op(ref=good, operands="m"), prelude="m = 3", imports=imports)
    for ref, good, imports in (
        ("torch.rand", "torch.arange", _T), ("torch.randn", "torch.zeros", _T), ("torch.randperm", "torch.ones", _T), ("torch.manual_seed", "torch.eye", _T),
        ("numpy.random.rand", "numpy.arange", "import numpy\nimport numpy.random"), ("numpy.random.seed", "numpy.random.default_rng", "import numpy\nimport numpy.random"),
        ("random.seed", "random.Random", "import random"), ("random.getrandbits", "random.SystemRandom", "import random"),
    )
)  # fmt: skip
RANDOM_REFS = tuple(s for s in RANDOM_REFS if "getrandbits" not in s.name)

_LATER, _REASON = "until=2999-01-01", 'reason="reviewed with the authors"'
_PLACES = (
    ("loop", LOOP, "        self._announce()\n", "        "),
    ("losses", LOSSES, "    options = config.covariance\n", "    "),
    ("search", HPO, "    searched = suggest(trial)\n", "    "),
    ("metrics", METRICS, "    padding = 1.0 + 2.0 * cost.shape[-1] * cost.detach().abs().amax()\n", "    "),
    ("checkpoint", CHECKPOINT, "    tensors, record = load_tensors(path)\n", "    "),
    ("optimizer", OPTIM, "    floor = config.final_lr_fraction\n", "    "),
    ("localize", LOCALIZE, "    measurements = with_noise_variance(measurements, config)\n", "    "),
)
_SWALLOW = "{i}try:\n{i}    planted = 1\n{i}{h}\n{i}    planted = 0\n{i}assert planted is not None\n"


def _suppression(name: str, place: tuple[str, str, str, str], comment: str, *, needed: bool = True, above: bool = False) -> Edit:
    where, file, line, indent = place
    valid = f"# audit: allow[ERR001] {_REASON} {_LATER}"
    head = "except Exception:"

    def text(remark: str, *, violates: bool) -> str:
        if not violates:
            return (
                f"{line}{indent}{remark}\n{indent}planted = 1\n{indent}assert planted\n"
                if above
                else f"{line}{indent}planted = 1  {remark}\n{indent}assert planted\n"
            )
        handler = f"{remark}\n{indent}{head}" if above else f"{head}  {remark}"
        return line + _SWALLOW.format(i=indent, h=handler)

    return Edit(f"{name}, {where}{', above' if above else ''}", file, line, text(comment, violates=needed), text(valid, violates=True))


SUPPRESSIONS = tuple(
    _suppression(name, place, comment, needed=needed, above=above)
    for number, (name, comment, needed) in enumerate((
        ("no reason", f"# audit: allow[ERR001] {_LATER}", True),
        ("an empty reason", f'# audit: allow[ERR001] reason="" {_LATER}', True),
        ("a blank reason", f'# audit: allow[ERR001] reason="  " {_LATER}', True),
        ("an unquoted reason", f"# audit: allow[ERR001] reason=reviewed {_LATER}", True),
        ("an unknown rule", f"# audit: allow[ERR099] {_REASON} {_LATER}", True),
        ("a rule in lower case", f"# audit: allow[err001] {_REASON} {_LATER}", True),
        ("no rule", f"# audit: allow {_REASON} {_LATER}", True),
        ("an empty list", f"# audit: allow[] {_REASON} {_LATER}", True),
        ("every rule", f"# audit: allow[*] {_REASON} {_LATER}", True),
        ("another rule", f"# audit: allow[SEL001] {_REASON} {_LATER}", True),
        ("one rule too many", f"# audit: allow[ERR001, COV001] {_REASON} {_LATER}", True),
        ("expired", f"# audit: allow[ERR001] {_REASON} until=2001-01-01", True),
        ("expired last year", f"# audit: allow[ERR001] {_REASON} until=2024-12-31", True),
        ("no date", f"# audit: allow[ERR001] {_REASON} until=soon", True),
        ("an impossible date", f"# audit: allow[ERR001] {_REASON} until=2999-02-30", True),
        ("an American date", f"# audit: allow[ERR001] {_REASON} until=01/02/2999", True),
        ("nothing to allow", f"# audit: allow[ERR001] {_REASON} {_LATER}", False),
        ("nothing to allow on the hot path", f"# audit: allow[HOT001] {_REASON} {_LATER}", False),
        ("a rule of other tools", f"# audit: allow[E501] {_REASON} {_LATER}", False),
    ))
    for above in (False, True)
    for place in (_PLACES[(number + above) % len(_PLACES)],)
)  # fmt: skip


def _with_numpy(sinks: tuple[Sink, ...]) -> tuple[Sink, ...]:
    return tuple(s for s in sinks if "numpy" in s.imports)


def _without_numpy(sinks: tuple[Sink, ...]) -> tuple[Sink, ...]:
    return tuple(s for s in sinks if "numpy" not in s.imports)


BLOCKS = (
    Block("CFG001", UNDECLARED, CONFIG_SITES, names=("config_of", "getattr_of", "option")),
    Block("CFG002", edits=UNREAD),
    Block("CFG003", CONFIG_WRITES, CONFIG_SITES, names=("replaced", "set_option")),
    Block("GEO001", GEO, GEO_SITES, names=("steering", "array_response", "phase_of")),
    Block("UNIT001", UNITS, UNIT_SITES, names=("sine_of", "degrees", "decibels")),
    Block("ERR001", ERRORS, EVERYWHERE, names=("suppress", "quiet", "ignore_errors")),
    Block("RNG001", _without_numpy(RANDOM), EVERYWHERE, names=("rand", "seed", "shuffle", "random_part"), weight=3),
    Block("RNG001", _without_numpy(RANDOM_REFS), EVERYWHERE, names=("rand", "seed", "manual_seed")),
    Block("RNG001", _with_numpy(RANDOM + RANDOM_REFS), OFF_HOT_PATH, names=("rand", "seed", "shuffle")),
    Block("SUP001", edits=SUPPRESSIONS),
)
