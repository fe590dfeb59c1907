"""UNIT001: no mixture of degrees and radians, of decibels and linear values."""

from __future__ import annotations

from collections.abc import Iterable

from audits.static.context import Context
from audits.static.findings import Finding
from audits.static.rules.base import Case, Rule
from audits.static.subjects.unitflow import UnitFlow

MANUAL = """\
A number in the wrong unit is a number like any other, and nothing fails. Names say units by their last word - `_deg`,
`_rad`, `_db`, `_linear`, `_m`, `_mm`, `_hz`, `_s` and their like, of variables, parameters, attributes, keys, keyword
arguments and functions - and known conversions change them: `deg2rad`, `radians`, `* pi / 180`, `10 ** (x / 10)`,
`10 * log10(x)`, `asin` and `atan2`. This rule runs every function over units, in order, with branches joined and
helpers run for what they are given, and reports: degrees in a trigonometric function, in the angle of `polar` or in
`exp(1j ...)`; a second conversion of the same kind; a value under a name, parameter, key or function name of another
unit; sums, comparisons and choices of different units; products of decibels with decibels or with linear values (a
power or a variance without a suffix is linear, and decibels under such a name, or what was divided by them, are a mixture
too); roots and logarithms of decibels; a power of ten of decibels that were not divided; and a full width (`fov`) used on both sides
of zero. Objects keep the units of their fields one by one, so a class may serve several units.

What has no unit by name and by arithmetic is unknown, and the unknown is never a finding.
"""


def check(context: Context) -> Iterable[Finding]:
    """One finding for each mixture."""
    flow = UnitFlow(context.flow)
    flow.run()
    seen: set[tuple[str, int, int]] = set()
    for unit, node, message in flow.problems.values():
        key = (unit.module.relative, node.line, node.column)
        if key not in seen:
            seen.add(key)
            yield context.finding("UNIT001", unit.module, node, message, fn=unit.fn)


def _case(name: str, body: str, arguments: str = "x", head: str = "", **others: str) -> Case:
    source = f"import math\nimport numpy as np\nimport torch\nfrom dataclasses import dataclass\n{head}def step({arguments}):\n    {body}\n"
    return Case(name, {"pkg/__init__.py": "", "pkg/step.py": source, **{f"pkg/{k}.py": v for k, v in others.items()}})


_STEER = "def steer(azimuth_rad, range_m=1.0):\n    return torch.sin(azimuth_rad) * range_m\n"
_SOURCE = "@dataclass\nclass Source:\n    azimuth_rad: float\n    range_m: float\n"
_INVALID = (
    _case("degrees in a sine", "return torch.sin(azimuth_deg)", "azimuth_deg"),
    _case("degrees in a method", "return azimuth_deg.cos()", "azimuth_deg"),
    _case("degrees from a field", "return np.cos(cfg.azimuth_max_deg)", "cfg"),
    _case("degrees from a key", "return math.sin(s['azimuth_deg'])", "s"),
    _case("through variables", "a = azimuth_deg + 1\n    b = -a\n    return torch.sin(b)", "azimuth_deg"),
    _case("through a helper", "return sine(azimuth_deg)", "azimuth_deg", "def sine(x):\n    return torch.sin(x)\n"),
    _case("through a helper's result", "return torch.sin(twice(a_deg))", "a_deg", "def twice(v):\n    return 2 * v\n"),
    _case("through a field", "return Box(a_deg).go()", "a_deg",
          "class Box:\n    def __init__(self, a_deg):\n        self.a = a_deg\n    def go(self):\n        return torch.sin(self.a)\n"),
    _case("through a stack", "return torch.sin(torch.stack((a_deg, b_deg)).clamp(-60, 60))", "a_deg, b_deg"),
    _case("scaled", "return torch.sin((2 * torch.rand(3, generator=g) - 1) * limit_deg)", "limit_deg, g"),
    _case("in one branch", "a = x_deg\n    if flag:\n        a = math.radians(a)\n    return math.sin(a)", "x_deg, flag"),
    _case("in a loop", "return [math.sin(a) for a, r in zip(azimuths_deg, ranges_m)]", "azimuths_deg, ranges_m"),
    _case("mapped", "return list(map(math.sin, angles_deg))", "angles_deg"),
    _case("as keyword", "return lib.steer(azimuth_rad=azimuth_deg)", "lib, azimuth_deg"),
    _case("as positional argument", "return steer(azimuth_deg)", "azimuth_deg", _STEER),
    _case("into a field", "return Source(azimuth_deg, 1.0)", "azimuth_deg", _SOURCE),
    _case("under a name", "azimuth_rad = azimuth_deg\n    return azimuth_rad", "azimuth_deg"),
    _case("under a key", "return {'azimuth_deg': azimuth_rad}", "azimuth_rad"),
    _case("from a function", "return 1", "x", "def azimuth_rad(s):\n    return s.azimuth_deg\n"),
    _case("added", "return azimuth_deg + offset_rad", "azimuth_deg, offset_rad"),
    _case("compared", "return azimuth_deg < limit_rad", "azimuth_deg, limit_rad"),
    _case("converted twice", "return math.radians(math.radians(x_deg))", "x_deg"),
    _case("converted the wrong way", "return torch.sin(azimuth_deg * 180 / math.pi)", "azimuth_deg"),
    _case("a phase", "return torch.exp(1j * phase_deg)", "phase_deg"),
    _case("a power over decibels", "noise_variance = clean.abs().square().mean() / snr_db\n    return noise_variance", "clean, snr_db"),
    _case("decibels times linear", "return power_linear * gain_db", "power_linear, gain_db"),
    _case("decibels times a power", "return noise_variance * snr_db", "noise_variance, snr_db"),
    _case("decibels plus linear", "return snr_db + snr_linear", "snr_db, snr_linear"),
    _case("decibels times decibels", "return a_db * b_db", "a_db, b_db"),
    _case("a logarithm of decibels", "return 10 * torch.log10(snr_db)", "snr_db"),
    _case("an undivided power of ten", "return 10 ** snr_db", "snr_db"),
    _case("linear as decibels", "snr_db = 10 ** (level_db / 10)\n    return snr_db", "level_db"),
    _case("another length", "range_m = range_mm\n    return range_m", "range_mm"),
    _case("spread arguments", "pair = (azimuth_deg, 1.0)\n    return steer(*pair)", "azimuth_deg", _STEER),
    _case("nested loops over pairs", "return [math.sin(a) for i, (a, w) in enumerate(zip(angles_deg, w))]", "angles_deg, w"),
    _case("items of a dictionary", "return [math.sin(v) for k, v in {'a': c.a_deg, 'b': c.b_deg}.items()]", "c"),
    _case("a key by get", "return math.sin(row.get('azimuth_deg', 0.0))", "row"),
    _case("a field by getattr", "return math.sin(getattr(cfg, 'azimuth_deg'))", "cfg"),
    _case("a module that is called", "return Wave()(a_deg)", "a_deg",
          "class Wave(torch.nn.Module):\n    def forward(self, x):\n        return x.sin()\n"),
    _case("a buffer",
          "return Net(a_deg)", "a_deg", "class Net(torch.nn.Module):\n    def __init__(self, grid_deg):\n        super().__init__()\n"
          "        self.register_buffer('grid', grid_deg)\n    def forward(self):\n        return self.grid.sin()\n"),
    _case("an object of a list", "return [math.sin(b.angle) for b in [Beam(a) for a in c.beams_deg]]", "c",
          "@dataclass\nclass Beam:\n    angle: float\n"),
    _case("one object of a class for any unit", "return Range(0.0, c.high_deg).top()", "c", (
        "@dataclass\nclass Range:\n    low: float\n    high: float\n    def top(self):\n        return math.sin(self.high)\n"
        "def other(c):\n    return Range(0.0, c.high_rad).top()\n")),
    _case("a name in camel case", "return math.sin(azimuthDeg)", "azimuthDeg"),
    _case("a unit before a qualifier", "return math.sin(cfg.azimuth_deg_max)", "cfg"),
    _case("a named operand", "return torch.clamp(a_rad, min=-1.0, max=limit_deg)", "a_rad, limit_deg"),
    _case("an angle by name", "return torch.polar(abs=x, angle=phase_deg)", "x, phase_deg"),
    _case("an imaginary unit from elsewhere", "return np.exp(J * phase_deg)", "phase_deg", "J = 1j\n"),
    _case("a passed function", "return apply(torch.sin, a_deg)", "a_deg", "def apply(f, v):\n    return f(v)\n"),
    _case("a wrapped function", "return np.vectorize(math.sin)(a_deg)", "a_deg"),
    _case("a column of a stack", "return torch.stack((a_deg, r_m), -1)[..., 0].sin()", "a_deg, r_m"),
    _case("a copy into a field", "s.azimuth_rad.copy_(a_deg)", "s, a_deg"),
    _case("a loss", "return torch.nn.functional.mse_loss(pred_rad, true_deg)", "pred_rad, true_deg"),
    _case("decibels plus a power", "return noise_power + gain_db", "noise_power, gain_db"),
    _case("a power under a dB name",
          "return Scene(signal_power / noise_power)", "signal_power, noise_power", "@dataclass\nclass Scene:\n    snr_db: float\n"),
    _case("a member of an enumeration", "return math.sin(Limit.WIDE_DEG.value)", "x", "class Limit:\n    WIDE_DEG = 60.0\n"),
    _case("a named tuple",
          "return math.sin(Lim(c.low_deg, 0.0).low)", "c", "from collections import namedtuple\nLim = namedtuple('Lim', 'low high')\n"),
    _case("a global", "return math.sin(NOW)", "x", "NOW = None\ndef put(v_deg):\n    global NOW\n    NOW = v_deg\n"),
    _case("a full width", "return uniform(-fov_deg, fov_deg)", "fov_deg", "def uniform(low, high):\n    return low + (high - low) * 0.5\n"),
)  # fmt: skip
_VALID = (
    _case("converted", "return torch.sin(torch.deg2rad(azimuth_deg))", "azimuth_deg"),
    _case("converted by hand", "return torch.sin(azimuth_deg / 180 * math.pi)", "azimuth_deg"),
    _case("converted by a constant", "return math.sin(a_deg * DEG)", "a_deg", "DEG = math.pi / 180\n"),
    _case("converted by a function", "return math.sin(to_rad(a_deg))", "a_deg", "def to_rad(a_deg):\n    return a_deg * math.pi / 180\n"),
    _case("converted under its own name", "a = cfg.angle_deg\n    a = math.radians(a)\n    return math.sin(a)", "cfg"),
    _case("a ratio of angles", "return math.sin(math.pi * a_deg / b_deg)", "a_deg, b_deg"),
    _case("a root mean square", "rmse_deg = ((a_deg - b_deg) ** 2).mean().sqrt()\n    return rmse_deg", "a_deg, b_deg"),
    _case("decibels to linear", "return power * 10.0 ** (-snr_db / 20.0)", "power, snr_db"),
    _case("linear to decibels", "power_db = 10 * torch.log10(power_linear)\n    return power_db", "power_linear"),
    _case("sums of decibels", "return tx_db + gain_db - loss_db", "tx_db, gain_db, loss_db"),
    _case("a slope over decibels", "slope = (rmse - low) / step_db\n    noise_power = power + slope * over_db\n    return noise_power",
          "rmse, low, step_db, power, over_db"),
    _case("decibels over their span", "return (snr_db - low_db) / (high_db - low_db)", "snr_db, low_db, high_db"),
    _case("a helper for any unit", "snr_db = mid(low_db, high_db)\n    a_rad = mid(0.0, limit_rad)\n    return torch.sin(a_rad), snr_db",
          "low_db, high_db, limit_rad", "def mid(low, high):\n    return low + (high - low) / 2\n"),
    _case("different quantities side by side", "return torch.stack((azimuth_rad, range_m), -1)", "azimuth_rad, range_m"),
    _case("an inverse function", "azimuth_deg = np.degrees(np.arctan2(x, y))\n    return azimuth_deg", "x, y"),
    _case("a speed", "return range_m / time_s", "range_m, time_s"),
    _case("a unit that is asked for", "a = math.radians(x) if degrees else x\n    return math.sin(a)", "x, degrees"),
    _case("a loop that converts its own variable",
          "for az, el in pairs:\n        az = math.radians(az)\n        out = math.sin(az)\n    return out", "pairs"),
    _case("one class for any unit", "return math.sin(Range(0.0, c.a_rad).mid()), Range(0.0, c.b_deg).mid(), Range(0.0, c.c_db).mid()", "c",
          "@dataclass\nclass Range:\n    low: float\n    high: float\n    def mid(self):\n"
          "        return self.low + (self.high - self.low) / 2\n"),
    _case("a table of ranges",
          "return {k: a + (b - a) / 2 for k, (a, b) in {'x': (c.a_rad, c.b_rad), 'y': (c.a_db, c.b_db)}.items()}", "c"),
    _case("a weighed score", "return rmse_deg / 5.0 + rmse_m / 0.5", "rmse_deg, rmse_m"),
    _case("different functions passed on", "return apply(torch.sin, a_rad), apply(torch.abs, b_deg)", "a_rad, b_deg",
          "def apply(f, v):\n    return f(v)\n"),
    _case("converted with an imported pi", "return torch.sin(a_deg * pi / 180)", "a_deg", "from math import pi\n"),
    _case("decibels divided before a bound", "return 10 ** torch.clamp(snr_db / 10, -3, 3)", "snr_db"),
    _case("converted by a table", "return math.sin({'deg': math.radians, 'rad': float}[unit](a_deg))", "a_deg, unit"),
    _case("half a full width", "return uniform(-fov_deg / 2, fov_deg / 2)", "fov_deg", "def uniform(low, high):\n    return low + high\n"),
)  # fmt: skip

RULE = Rule(
    code="UNIT001",
    title="no mixture of units",
    table="",
    manual=MANUAL,
    mend="Convert where the value comes in, and say the unit in its name from there on.",
    check=check,
    settings={},
    valid=_VALID,
    invalid=_INVALID,
    limits=(
        _case("a name that says nothing", "return torch.sin(angle)", "angle"),
        _case("decibels times what says nothing", "return 1.38e-23 * bandwidth * nf_db", "bandwidth, nf_db"),
        _case("a literal in degrees", "return math.sin(45)"),
    ),
)
