"""Abstract values: what an expression may stand for.

A container stands for its elements, so a table of functions is the set of its functions; this loses which element is
meant and loses no element. Every value is made once, so that sets of values hash and compare identities.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from audits.static.libraries import solvers
from audits.static.source.project import ClassInfo, FunctionInfo, ModuleInfo

LIMIT = 32  # values that are kept apart; what there is beyond them is unknown, so that the cost stays linear


class _Once(type):
    """Makes one object for each value; those of a function, class or module live as long as it does."""

    _pool: dict[Any, Any] = {}  # noqa: RUF012 - shared by all kinds on purpose

    def __call__(cls, of: Any, *flags: Any, **named: Any) -> Any:
        """The value of this kind for `of`, with at most one flag or name."""
        flag = flags[0] if flags else next(iter(named.values()), False)
        pool = of.values if isinstance(of, (FunctionInfo, ClassInfo, ModuleInfo)) else cls._pool
        key = (cls, flag) if pool is not cls._pool else (cls, of)
        known = pool.get(key)
        if known is None:
            known = pool[key] = super().__call__(of, flag) if flag else super().__call__(of)
        return known


@dataclass(frozen=True, eq=False, slots=True)
class Ext(metaclass=_Once):
    """An object outside the analysed packages, by dotted name; `?.x` is attribute x of something unknown."""

    name: str


@dataclass(frozen=True, eq=False, slots=True)
class ExtInst(metaclass=_Once):
    """An instance of an outside class, or the result `name()` of an outside function."""

    name: str


@dataclass(frozen=True, eq=False, slots=True)
class Func(metaclass=_Once):
    """A function of the packages."""

    fn: FunctionInfo
    bound: bool = False

    @property
    def weak(self) -> bool:
        """Whether the function was found by its name alone; never, for those are `Named`."""
        return False


@dataclass(frozen=True, eq=False, slots=True)
class Named(metaclass=_Once):
    """Every method of this name in the packages: an attribute of something of unknown type."""

    name: str


@dataclass(frozen=True, eq=False, slots=True)
class Overrides(metaclass=_Once):
    """A method of a class and of every class below it, where those are too many to keep apart."""

    cls: ClassInfo
    name: str


@dataclass(frozen=True, eq=False, slots=True)
class Cls(metaclass=_Once):
    """A class of the packages; with `derived`, it or a class below it."""

    cls: ClassInfo
    derived: bool = False


@dataclass(frozen=True, eq=False, slots=True)
class Inst(metaclass=_Once):
    """An instance; `exact` where the constructor call was seen, otherwise subclasses are possible."""

    cls: ClassInfo
    exact: bool = False


@dataclass(frozen=True, eq=False, slots=True)
class Loader(metaclass=_Once):
    """A data loader over an instance of a data set: it yields what the data set returns, and never the data set itself."""

    of: Inst


@dataclass(frozen=True, eq=False, slots=True)
class SuperOf(metaclass=_Once):
    """`super()` inside `cls`."""

    cls: ClassInfo


@dataclass(frozen=True, eq=False, slots=True)
class Mod(metaclass=_Once):
    """A module of the packages."""

    module: ModuleInfo


@dataclass(frozen=True, eq=False, slots=True)
class Const(metaclass=_Once):
    """A string that may name an attribute."""

    value: str


@dataclass(frozen=True, slots=True)
class Namespace:
    """The `__dict__` of a value."""

    of: Value


@dataclass(frozen=True, eq=False, slots=True)
class UnknownValue(metaclass=_Once):
    """Something that the analysis can't follow; `wide` where it was one of too many to keep apart."""

    wide: bool = False


Value = Ext | ExtInst | Func | Named | Overrides | Cls | Inst | Loader | SuperOf | Mod | Const | Namespace | UnknownValue
Values = frozenset[Value]

UNKNOWN = UnknownValue(False)
WIDE = UnknownValue(True)
EMPTY: Values = frozenset()
NOTHING = ExtInst("builtins.None")
NUMBER = ExtInst("builtins.number")
POSITIVE = ExtInst("builtins.number>=0")
NEGATIVE = ExtInst("builtins.number<0")
TEXT = ExtInst("builtins.str")
DATA: Values = frozenset({NOTHING, NUMBER, POSITIVE, NEGATIVE, TEXT})  # what nothing can call
OUTSIDE = ExtInst("outside()")
TENSOR = ExtInst("torch.Tensor")


def held(values: Iterable[Value]) -> set[Value]:
    """The values that a wrapper built from `values` may later call and that could matter then."""
    return {v for v in values if isinstance(v, (Func, Inst, Loader, Cls)) or v is WIDE or _solves(v)}


def _solves(value: Value) -> bool:
    if isinstance(value, ExtInst):
        return solvers.is_solver(value.name)  # an object such as a distribution, one of whose methods solves
    return isinstance(value, Ext) and solvers.matters(value.name)


def bounded(values: Iterable[Value]) -> Values:
    """`values`, or where they are too many to keep apart what stands for them."""
    values = frozenset(values)
    return values if len(values) <= LIMIT else frozenset(collapsed(values))


def collapsed(values: Iterable[Value]) -> set[Value]:
    """What stands for too many values: the outside names that matter among them, and that there is more."""
    out: set[Value] = set()
    more: Value = UNKNOWN
    for value in values:
        if isinstance(value, (Mod, UnknownValue)) or (isinstance(value, Ext) and solvers.matters(value.name)):
            out.add(value)
        elif isinstance(value, (Func, Inst, Loader, Cls, SuperOf, Namespace)):
            more = WIDE
    out.add(more)
    return out


def callables(values: Iterable[Value]) -> set[Value]:
    """The values that are functions, or outside names that may be."""
    return {v for v in values if isinstance(v, Func) or (isinstance(v, Ext) and "." in v.name)}
