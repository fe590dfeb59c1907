"""What a symbolic run computes with besides tensors: containers, objects, functions and outside names."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from audits.static.source import ir
from audits.static.source.project import ClassInfo, FunctionInfo, ModuleInfo
from audits.static.subjects.symbolic.terms import Poly

ALTERNATIVES = 4
"""Values that are kept apart where a name may hold several."""
UNROLLED = 8
"""Items of a container that are looked at one by one."""


@dataclass(frozen=True, slots=True)
class Lit:
    """A text, truth value, None or anything else that is no tensor and no number."""

    value: object


@dataclass(eq=False, slots=True)
class Seq:
    """A list, tuple, set or iterator; `many` where the last item stands for any number of others."""

    items: list[Value]
    many: bool = False
    position: int = 0


@dataclass(eq=False, slots=True)
class Map:
    """A dictionary; `rest` holds what is stored under keys that are not known."""

    items: dict[Any, Value] = field(default_factory=dict)
    rest: list[Value] = field(default_factory=list)


@dataclass(eq=False, slots=True)
class Record(Map):
    """A named tuple made by hand."""


@dataclass(eq=False, slots=True)
class Obj:
    """An instance of a class of the packages; `shared` where it stands for every instance."""

    cls: ClassInfo
    attrs: dict[str, Value] = field(default_factory=dict)
    shared: bool = False


@dataclass(eq=False, slots=True)
class Fun:
    """A function with the variables around it, and what it is bound to."""

    fn: FunctionInfo
    frame: Frame
    receiver: Value | None = None


@dataclass(eq=False, slots=True)
class Partial:
    """A callable with arguments given early; `method` where it is bound to its object like a method."""

    func: Value
    args: list[Value]
    keywords: dict[str, Value]
    method: bool = False


@dataclass(frozen=True, slots=True)
class Klass:
    """A class of the packages."""

    cls: ClassInfo


@dataclass(frozen=True, slots=True)
class Mod:
    """A module of the packages."""

    module: ModuleInfo


@dataclass(frozen=True, slots=True)
class Ext:
    """An outside name."""

    name: str


@dataclass(eq=False, slots=True)
class Method:
    """A method of a container or a tensor, taken but not called yet; `receiver` comes first among its arguments."""

    receiver: Value
    name: str


@dataclass(eq=False, slots=True)
class Taker:
    """What `itemgetter`, `attrgetter` or `methodcaller` make."""

    kind: str
    args: list[Value]
    keywords: dict[str, Value]


@dataclass(frozen=True, slots=True)
class Super:
    """`super()` in a method of `cls`."""

    cls: ClassInfo
    receiver: Any


@dataclass(frozen=True, slots=True)
class Alt:
    """One of several values."""

    options: tuple[Value, ...]


Value = Poly | Lit | Seq | Map | Obj | Fun | Partial | Klass | Mod | Ext | Method | Taker | Super | Alt
NONE = Lit(None)


@dataclass(eq=False, slots=True)
class Frame:
    """The variables of one running body."""

    module: ModuleInfo
    fn: FunctionInfo | None = None
    parent: Frame | None = None
    variables: dict[str, Value] = field(default_factory=dict)
    returned: list[Value] = field(default_factory=list)
    yielded: list[Value] = field(default_factory=list)
    sent: bool = False
    branches: int = 0
    loops: int = 0
    changed: set[str] = field(default_factory=set)
    receiver: Value | None = None
    aliases: list[set[str]] = field(default_factory=list)


def each(value: Value) -> tuple[Value, ...]:
    """The alternatives of a value."""
    return value.options if isinstance(value, Alt) else (value,)


def either(values: list[Value] | tuple[Value, ...]) -> Value:
    """Any of some values; the first few, where they are many."""
    options: list[Value] = []
    for value in values:
        for option in each(value):
            if not any(option is o or (isinstance(option, (Lit, Ext, Klass)) and option == o) for o in options):
                options.append(option)
    if len(options) > 1 and NONE in options:
        options.remove(NONE)
    return options[0] if len(options) == 1 else Alt(tuple(options[:ALTERNATIVES])) if options else NONE


def constant(expr: ir.Expr | None) -> object:
    """The value of a literal."""
    return expr.value if isinstance(expr, ir.Constant) else None
