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
power or a variance without a suffix is linear); roots and logarithms of decibels; a power of ten of decibels that were
not divided; and a full width (`fov`) used on both sides of zero.

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
    _case("decibels times linear", "return power_linear * gain_db", "power_linear, gain_db"),
    _case("decibels times a power", "return noise_variance * snr_db", "noise_variance, snr_db"),
    _case("decibels plus linear", "return snr_db + snr_linear", "snr_db, snr_linear"),
    _case("decibels times decibels", "return a_db * b_db", "a_db, b_db"),
    _case("a logarithm of decibels", "return 10 * torch.log10(snr_db)", "snr_db"),
    _case("an undivided power of ten", "return 10 ** snr_db", "snr_db"),
    _case("linear as decibels", "snr_db = 10 ** (level_db / 10)\n    return snr_db", "level_db"),
    _case("another length", "range_m = range_mm\n    return range_m", "range_mm"),
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
    _case("decibels over their span", "return (snr_db - low_db) / (high_db - low_db)", "snr_db, low_db, high_db"),
    _case("a helper for any unit", "snr_db = mid(low_db, high_db)\n    a_rad = mid(0.0, limit_rad)\n    return torch.sin(a_rad), snr_db",
          "low_db, high_db, limit_rad", "def mid(low, high):\n    return low + (high - low) / 2\n"),
    _case("different quantities side by side", "return torch.stack((azimuth_rad, range_m), -1)", "azimuth_rad, range_m"),
    _case("an inverse function", "azimuth_deg = np.degrees(np.arctan2(x, y))\n    return azimuth_deg", "x, y"),
    _case("a speed", "return range_m / time_s", "range_m, time_s"),
    _case("a unit that is asked for", "a = math.radians(x) if degrees else x\n    return math.sin(a)", "x, degrees"),
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
        _case("a literal in degrees", "return math.sin(45)"),
    ),
)
