"""Units by name and by arithmetic: degrees, radians, decibels, linear ratios, metres, seconds and hertz."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
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
_NOT_FIRST = frozenset({"is", "has", "n", "num", "to", "from", "as", "in", "use", "poly", "polynomial", "node", "graph"})
_LINEAR_LAYERS = frozenset({"qkv", "out", "in", "final", "self", "piecewise", "log"})
# What may stand behind a unit in a name without changing what the name says: `azimuth_deg_max`, `snr_db_0`.
_QUALIFIERS = frozenset(
    {"max", "min", "low", "high", "lo", "hi", "limit", "limits", "lower", "upper", "start", "stop", "end", "step", "mean", "avg", "std",
     "offset", "range", "span", "true", "pred", "est", "hat", "grid", "list", "tensor", "t", "np", "array", "batch", "all", "value",
     "values", "ref", "gt", "err", "error", "tol", "threshold"}
)  # fmt: skip
_ANGLES = frozenset(
    {
        "azimuth",
        "az",
        "elevation",
        "el",
        "angle",
        "angles",
        "theta",
        "phi",
        "tilt",
        "yaw",
        "roll",
        "heading",
        "bearing",
        "phase",
        "doa",
        "aoa",
    }
)


@cache
def _words(name: str) -> tuple[str, ...]:
    """The words of a name, in lower case; `azimuthDeg` and `snr_dB` have two."""
    spread = re.sub(r"_?dB", "_Db", name)
    if spread.upper() != spread:
        spread = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", spread)
    return tuple(spread.lower().strip("_").split("_"))


@cache
def named_unit(name: str) -> str | None:
    """The unit that a name says, or None; a name that is nothing but a short unit says none."""
    words = _words(name)
    if len(words) < 2:
        return {"degrees": DEG, "radians": RAD}.get(words[0]) if name.lower() == name and len(words[0]) > 6 else None
    if "to" in words or "per" in words[-3:-1] or words[0] in _NOT_FIRST:
        return None
    unit = _SUFFIX.get(words[-1])
    if unit == LINEAR and words[-1] == "linear" and words[-2] in _LINEAR_LAYERS:
        return None
    if unit is not None and not ("_" not in name.strip("_") and _DIMENSION[unit] in ("length", "time")):
        return unit
    return _inner_unit(words)


def _inner_unit(words: tuple[str, ...]) -> str | None:
    # A unit before qualifiers, or before what it is the unit of.
    kept = list(words)
    while len(kept) > 2 and (kept[-1] in _QUALIFIERS or kept[-1].isdigit()):
        kept.pop()
    unit = _SUFFIX.get(kept[-1]) if len(kept) < len(words) else None
    if unit in (DEG, RAD, DB):
        return unit
    first = _SUFFIX.get(words[0])
    return first if first in (DEG, RAD) and words[1] in _ANGLES else None


@cache
def implied_unit(name: str) -> str | None:
    """The unit that a name implies where it says none: a power or a variance is linear."""
    words = _words(name)
    return LINEAR if words and words[-1] in _POWERS and not {"control", "log"} & set(words) else None


@cache
def returned_unit(name: str) -> str | None:
    """The unit that a function's name says of what it returns: `to_rad`, `deg2rad`, `azimuth_rad`."""
    words = _words(name)
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
    """A unit to a power: `deg` squared is Unit("deg", 2). `implied` is whether a name only implies it."""

    name: str
    power: float = 1
    implied: bool = False


@dataclass(slots=True, unsafe_hash=True)  # making a frozen one takes three times as long, and there are hundred thousands
class Value:
    """What is known of a value; it never changes.

    That is the units that it may have, its number, and what it holds: `items` in order, along the axis 0 or -1; `entries` of a
    dictionary or the fields of an object, those of unknown name under "*"; `each` of its elements. `functions` is what it may call.
    """

    units: frozenset[Unit] = frozenset()
    number: float | None = None
    items: tuple[Value, ...] | None = None
    entries: tuple[tuple[str, Value], ...] | None = None
    each: Value | None = None
    axis: int = 0
    scale: float = 1.0  # what it was multiplied with on the way to a conversion or to a power of ten
    scaled: bool = False  # by something of unknown size too
    log: bool = False  # the base-10 logarithm of a linear value
    full_width: bool = False
    imaginary: bool = False
    functions: frozenset[object] = frozenset()
    marks: frozenset[str] = frozenset()  # what a phase is made of, and in what follows the phase that this is
    turned: frozenset[str] | None = None  # the cosine or sine of
    phasor: frozenset[str] | None = None  # the complex exponential of

    @property
    def plain(self) -> frozenset[str]:
        """The units that the value may have to the power of one."""
        return frozenset(u.name for u in self.units if u.power == 1)

    def said(self) -> frozenset[str]:
        """Those of them that a name says."""
        return frozenset(u.name for u in self.units if u.power == 1 and not u.implied)

    @property
    def over_level(self) -> bool:
        """Whether something was divided by a value that is in dB by name, and may be in nothing else."""
        return bool(self.units) and all(u.name == DB and u.power < 0 and not u.implied for u in self.units)

    @property
    def within(self) -> frozenset[str]:
        """The units of the value, or of what it holds."""
        held = [*(self.items or ()), *([self.each] if self.each is not None else [])]
        return self.plain or frozenset(u for v in held for u in v.within)

    @property
    def known(self) -> bool:
        """Whether anything is known that a helper could use."""
        return bool(self.units or self.items or self.entries or self.each or self.functions or self.number is not None
                    or self.marks or self.imaginary or self.turned is not None or self.phasor is not None)  # fmt: skip

    def entry(self, key: str | None) -> Value | None:
        """What a dictionary holds under a key, or under any."""
        if self.entries is None:
            return None
        found = dict(self.entries)
        if key is not None and (key in found or "*" in found):
            return found.get(key, found.get("*"))
        return joined(list(found.values())) if key is None and found else None

    def having(self, key: str, value: Value) -> Value:
        """This value with an entry."""
        kept = tuple((k, v) for k, v in self.entries or () if k != key)
        return replace(self, entries=(*kept, (key, shallow(value))))


NOTHING = Value()
_LEVELS = 5


def shallow(value: Value, levels: int = _LEVELS) -> Value:
    """A value without what is nested too deeply in it."""
    if value.items is None and value.entries is None and value.each is None:
        return value
    if not levels:
        return replace(value, items=None, entries=None, each=None)
    return replace(
        value,
        items=tuple(shallow(v, levels - 1) for v in value.items) if value.items is not None else None,
        entries=tuple((k, shallow(v, levels - 1)) for k, v in value.entries) if value.entries is not None else None,
        each=shallow(value.each, levels - 1) if value.each is not None else None,
    )


_TELLING = (math.pi / 180, 180 / math.pi, math.pi, 180.0, 10.0, 20.0, 0.1, 0.05)


def telling(value: Value) -> Value:
    """A value without what would tell a helper nothing: other numbers than those of conversions, and what a name says anyway."""
    if value.entries is None and value.items is None and value.each is None and value.number is None and not value.scaled:
        return value
    entries = tuple((k, telling(v)) for k, v in value.entries or ())
    return replace(
        value,
        scaled=value.scaled and DB in value.plain,
        number=value.number if value.number is not None and any(math.isclose(abs(value.number), n) for n in _TELLING) else None,
        entries=tuple((k, v) for k, v in entries if v.known and v.units != of(named_unit(k)).units and v.plain != {LINEAR}) or None,
        items=tuple(telling(v) for v in value.items) if value.items is not None and any(v.known for v in value.items) else None,
        each=telling(value.each) if value.each is not None else None,
    )


def of(unit: str | None, *, implied: bool = False) -> Value:
    """A value in one unit."""
    return Value(frozenset((Unit(unit, implied=implied),))) if unit is not None else NOTHING


def under_unit(value: Value, unit: str) -> Value:
    """A value that is said to be in a unit, and so is what it holds where that is in none."""
    own = frozenset((Unit(unit),))

    def inner(held: Value) -> Value:
        return held if held.units else under_unit(held, unit)

    return Value(
        own, value.number,
        tuple(inner(v) for v in value.items) if value.items is not None else None,
        tuple((k, inner(v)) for k, v in value.entries) if value.entries is not None else None,
        inner(value.each) if value.each is not None else None,
        value.axis, full_width=value.full_width, functions=value.functions, marks=value.marks, turned=value.turned, phasor=value.phasor,
    )  # fmt: skip


def joined(values: list[Value]) -> Value:
    """What may be any of the values."""
    if not values:
        return NOTHING
    if len(values) == 1 or all(v is values[0] or v == values[0] for v in values):
        return values[0]
    units = frozenset(u for v in values for u in v.units)
    numbers = {v.number for v in values}
    lists = [v for v in values if v.items is not None]
    lengths = {len(v.items or ()) for v in lists}
    items = tuple(joined([(v.items or ())[i] for v in lists]) for i in range(lengths.pop())) if len(lengths) == 1 else None
    entries: dict[str, list[Value]] = {}
    for value in values:
        for key, entry in value.entries or ():
            entries.setdefault(key, []).append(entry)
    kept = tuple((k, joined(v)) for k, v in entries.items()) if any(v.entries is not None for v in values) else None
    each = [v.each for v in values if v.each is not None]
    scales = {v.scale for v in values if v.units}
    return Value(
        units, numbers.pop() if len(numbers) == 1 else None, items, kept, joined(each) if each else None,
        -1 if lists and all(v.axis == -1 for v in lists) else 0,
        scales.pop() if len(scales) == 1 else 1.0, any(v.scaled for v in values), all(v.log for v in values),
        imaginary=any(v.imaginary for v in values), functions=frozenset(f for v in values for f in v.functions),
        marks=frozenset(m for v in values for m in v.marks), turned=united([v.turned for v in values]),
        phasor=united([v.phasor for v in values]),
    )  # fmt: skip


def united(sets: list[frozenset[str] | None]) -> frozenset[str] | None:
    """The union of those that are known, or None."""
    known = [s for s in sets if s is not None]
    return frozenset().union(*known) if known else None


def element(value: Value) -> Value:
    """An element of a container: of the same unit, where its items agree."""
    if value.each is not None:
        return value.each
    if value.items is not None and value.axis == 0:
        return joined(list(value.items))
    if value.items is not None:
        return value
    return Value(
        value.units, scale=value.scale, scaled=value.scaled, full_width=value.full_width, functions=value.functions,
        imaginary=value.imaginary,
        marks=value.marks, turned=value.turned, phasor=value.phasor,
    )  # fmt: skip


def holding(elements: Iterable[Value]) -> Value:
    """A container of such elements."""
    each = joined(list(elements))
    return Value(each.units, each=shallow(each)) if each.known else NOTHING


def converted(value: Value, factor: float) -> Value:
    """A value times a number: pi/180 turns degrees into radians and 180/pi turns them back; 1000 turns km into m.

    Factors add up, so that `x * pi / 180` is seen as a whole.
    """
    total = value.scale * factor
    out = frozenset(Unit(_scaled(u.name, total), u.power, u.implied) if u.power == 1 else u for u in value.units)
    changed = {u.name for u in out} != {u.name for u in value.units}
    number = value.number * factor if value.number is not None else None
    items = tuple(converted(v, factor) for v in value.items) if value.items is not None and value.axis else None
    return Value(
        frozenset(u for u in out if u.name), number, items, axis=value.axis, scale=1.0 if changed else total, scaled=value.scaled,
        imaginary=value.imaginary,
    )  # fmt: skip


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
