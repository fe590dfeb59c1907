"""Units by name and by arithmetic: degrees, radians, decibels, linear ratios, metres, seconds and hertz."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from functools import cache

DEG, RAD, DB, LINEAR = "deg", "rad", "dB", "linear"

_SUFFIX = {
    "deg": DEG, "degs": DEG, "degree": DEG, "degrees": DEG, "rad": RAD, "rads": RAD, "radian": RAD, "radians": RAD,
    "db": DB, "dbm": DB, "dbi": DB, "decibel": DB, "decibels": DB, "linear": LINEAR, "lin": LINEAR,
    "m": "m", "metre": "m", "metres": "m", "meter": "m", "meters": "m", "km": "km", "cm": "cm", "mm": "mm",
    "hz": "Hz", "khz": "kHz", "mhz": "MHz", "ghz": "GHz", "s": "s", "sec": "s", "seconds": "s", "ms": "ms", "us": "us", "ns": "ns",
}  # fmt: skip
_DIMENSION = {
    DEG: "angle", RAD: "angle", DB: "level", LINEAR: "level", "m": "length", "km": "length", "cm": "length", "mm": "length",
    "Hz": "frequency", "kHz": "frequency", "MHz": "frequency", "GHz": "frequency", "s": "time", "ms": "time", "us": "time", "ns": "time",
}  # fmt: skip
_POWERS = frozenset({"power", "powers", "variance", "variances", "energy"})
_PLAIN = frozenset({"s", "m", "us", "ms", "ns", "sec", "lin", "linear", "rad", "deg", "db", "hz", "mm", "cm", "km"})


@cache
def named_unit(name: str) -> str | None:
    """The unit that a name says, or None; a name that is nothing but a short unit says none."""
    words = name.lower().strip("_").split("_")
    if len(words) < 2:
        return {"degrees": DEG, "radians": RAD}.get(words[0]) if name.lower() == name and len(words[0]) > 6 else None
    if (
        "to" in words
        or words[-2] == "per"
        or (len(words) > 2 and words[-3] == "per")
        or words[0] in ("is", "has", "n", "num", "to", "from", "as", "in", "use")
    ):
        return None
    unit = _SUFFIX.get(words[-1])
    if (
        unit == LINEAR
        and words[-1] == "linear"
        and len(words) > 1
        and words[-2] in ("qkv", "out", "in", "final", "self", "piecewise", "log")
    ):
        return None
    return unit


@cache
def implied_unit(name: str) -> str | None:
    """The unit that a name implies where it says none: a power or a variance is linear."""
    words = re.split(r"_+", name.lower().strip("_"))
    return LINEAR if words and words[-1] in _POWERS and "control" not in words else None


@cache
def returned_unit(name: str) -> str | None:
    """The unit that a function's name says of what it returns: `to_rad`, `deg2rad`, `azimuth_rad`."""
    words = name.lower().strip("_").split("_")
    if re.search(r"2(rad|radians|deg|degrees|db|linear|lin)$", words[-1]):
        return _SUFFIX[words[-1].rpartition("2")[2]]
    if len(words) > 1 and words[-1] in _SUFFIX and words[0] not in ("is", "has", "from") and words[-1] not in ("s", "m", "linear"):
        return _SUFFIX[words[-1]]
    return None


def dimension(unit: str) -> str:
    """Angle, level, length, frequency or time."""
    return _DIMENSION[unit]


def clash(first: str, second: str) -> bool:
    """Whether a value in one unit may not stand where the other is meant."""
    if first == second:
        return False
    if dimension(first) == dimension(second):
        return True
    # Lengths and times end in letters that end other words too.
    return {dimension(first), dimension(second)} <= {"angle", "level", "frequency"} or "angle" in (dimension(first), dimension(second))


@dataclass(frozen=True)
class Unit:
    """A unit to a power: `deg` squared is Unit("deg", 2). `named` is whether a name says it, `implied` whether it only implies it."""

    name: str
    power: float = 1
    implied: bool = False


@dataclass(frozen=True)
class Value:
    """What is known of a value: the units that it may have, its number, and what its items or entries are."""

    units: frozenset[Unit] = frozenset()
    number: float | None = None
    items: tuple[Value, ...] | None = None
    entries: tuple[tuple[str, Value], ...] | None = None
    scale: float = 1.0  # how a level was scaled on the way to a power of ten
    log: bool = False  # the base-10 logarithm of a linear value
    full_width: bool = False

    @property
    def plain(self) -> frozenset[str]:
        """The units that the value may have to the power of one."""
        return frozenset(u.name for u in self.units if u.power == 1)

    def said(self) -> frozenset[str]:
        """Those of them that a name says."""
        return frozenset(u.name for u in self.units if u.power == 1 and not u.implied)


NOTHING = Value()


def of(unit: str | None, *, implied: bool = False) -> Value:
    """A value in one unit."""
    return Value(frozenset((Unit(unit, implied=implied),))) if unit is not None else NOTHING


def joined(values: list[Value]) -> Value:
    """What may be any of the values."""
    units = frozenset(u for v in values for u in v.units)
    numbers = {v.number for v in values}
    items = values[0].items if values and all(v.items == values[0].items for v in values) else None
    entries = values[0].entries if values and all(v.entries == values[0].entries for v in values) else None
    scale = values[0].scale if values and all(v.scale == values[0].scale for v in values) else 1.0
    return Value(units, numbers.pop() if len(numbers) == 1 else None, items, entries, scale, bool(values) and all(v.log for v in values))


def element(value: Value) -> Value:
    """An element of a container: of the same unit, where its items agree."""
    if value.items is not None:
        return joined(list(value.items)) if value.items else NOTHING
    return Value(value.units, full_width=value.full_width)


def converted(value: Value, factor: float) -> Value:
    """A value times a number: pi/180 turns degrees into radians and 180/pi turns them back; 1000 turns km into m.

    Factors add up, so that `x * pi / 180` is seen as a whole.
    """
    total = value.scale * factor
    out = frozenset(Unit(_scaled(u.name, total), u.power, u.implied) if u.power == 1 else u for u in value.units)
    changed = {u.name for u in out} != {u.name for u in value.units}
    number = value.number * factor if value.number is not None else None
    return Value(frozenset(u for u in out if u.name), number, scale=1.0 if changed else total)


def misconverted(value: Value, factor: float) -> str | None:
    """The unit that a factor of pi/180 or 180/pi turns away from, although the value is not in it."""
    total = abs(value.scale * factor)
    for wrong, ratio in ((RAD, math.pi / 180), (DEG, 180 / math.pi)):
        if value.said() == {wrong} and math.isclose(total, ratio, rel_tol=1e-4):
            return DEG if wrong == RAD else RAD
    return None


def _scaled(unit: str, factor: float) -> str:
    size = abs(factor)
    if unit in (DEG, RAD) and size:
        # A conversion may carry a small rational factor with it: half an angle, a full turn.
        for goal, ratio in ((RAD, math.pi / 180), (DEG, 180 / math.pi)):
            if goal != unit and any(math.isclose(size, ratio * k, rel_tol=1e-3) for k in (1, 2, 0.5, 4, 0.25)):
                return goal
            if goal == unit and any(math.isclose(size, ratio * k, rel_tol=1e-6) for k in (1, 2, 0.5)):
                return ""
    if dimension(unit) in ("length", "frequency", "time") and size:
        order = math.log10(size)
        if abs(order) > 0.9 and math.isclose(order, round(order), abs_tol=1e-9):
            return ""
    return unit


@dataclass
class Problem:
    """One mixture of units."""

    node: object
    message: str
    key: tuple[int, str] = field(default=(0, ""))
