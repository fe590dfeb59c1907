"""Abstract values: what an expression may stand for.

A container stands for its elements, so a table of functions is the set of its functions; this loses which element is
meant and loses no element.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from audits.static import solvers
from audits.static.project import ClassInfo, FunctionInfo, ModuleInfo


@dataclass(frozen=True, slots=True)
class Ext:
    """An object outside the analysed packages, by dotted name; `?.x` is attribute x of something unknown."""

    name: str


@dataclass(frozen=True, slots=True)
class ExtInst:
    """An instance of an outside class, or the result `name()` of an outside function."""

    name: str


@dataclass(frozen=True, slots=True)
class Func:
    """A function of the packages; `weak` means found by its name alone, on a receiver of unknown type."""

    fn: FunctionInfo
    bound: bool = False
    weak: bool = False


@dataclass(frozen=True, slots=True)
class Cls:
    """A class of the packages."""

    cls: ClassInfo


@dataclass(frozen=True, slots=True)
class Inst:
    """An instance; `exact` where the constructor call was seen, otherwise subclasses are possible."""

    cls: ClassInfo
    exact: bool = False


@dataclass(frozen=True, slots=True)
class SuperOf:
    """`super()` inside `cls`."""

    cls: ClassInfo


@dataclass(frozen=True, slots=True)
class Mod:
    """A module of the packages."""

    module: ModuleInfo


@dataclass(frozen=True, slots=True)
class Const:
    """A string that may name an attribute."""

    value: str


@dataclass(frozen=True, slots=True)
class Namespace:
    """The `__dict__` of a value."""

    of: Value


@dataclass(frozen=True, slots=True)
class UnknownValue:
    """Something that the analysis can't follow; `wide` where it was one of too many to keep apart."""

    wide: bool = False


Value = Ext | ExtInst | Func | Cls | Inst | SuperOf | Mod | Const | Namespace | UnknownValue
Values = frozenset[Value]

UNKNOWN = UnknownValue()
WIDE = UnknownValue(wide=True)
EMPTY: Values = frozenset()
NOTHING = ExtInst("builtins.None")
NUMBER = ExtInst("builtins.number")
POSITIVE = ExtInst("builtins.number>=0")
NEGATIVE = ExtInst("builtins.number<0")
TEXT = ExtInst("builtins.str")
OUTSIDE = ExtInst("outside()")
TENSOR = ExtInst("torch.Tensor")


def held(values: Iterable[Value]) -> set[Value]:
    """The values that a wrapper built from `values` may later call and that could matter then."""
    return {v for v in values if isinstance(v, (Func, Inst, Cls)) or v == WIDE or (isinstance(v, Ext) and solvers.matters(v.name))}


def widened(cell: set[Value], values: Iterable[Value], limit: int) -> set[Value]:
    """What of `values` a full cell still takes: outside names that matter, and otherwise that it holds more than it tells."""
    new = [v for v in values if v not in cell]
    kept: set[Value] = {v for v in new if isinstance(v, (Mod, UnknownValue)) or (isinstance(v, Ext) and solvers.matters(v.name))}
    others = [v for v in new if v not in kept]
    room = max(limit - len(cell), 0)
    if room:
        others.sort(key=_order)
    kept.update(others[:room])
    lost = others[room:]
    if any(isinstance(v, (Func, Inst, Cls, SuperOf, Namespace)) for v in lost):
        kept.add(WIDE)
    elif lost:
        kept.add(UNKNOWN)
    return kept - cell


def _order(value: Value) -> str:
    owner = getattr(value, "fn", None) or getattr(value, "cls", None)
    name = getattr(value, "name", "") or getattr(value, "value", "")
    return f"{type(value).__name__} {getattr(owner, 'symbol', name)}"


def callables(values: Iterable[Value]) -> set[Value]:
    """The values that are functions, or outside names that may be."""
    return {v for v in values if isinstance(v, Func) or (isinstance(v, Ext) and "." in v.name)}
