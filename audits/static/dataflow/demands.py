"""What is asked of a value's way back, and what is answered."""

from __future__ import annotations

from dataclasses import dataclass

from audits.static.dataflow.flow import Place
from audits.static.dataflow.reaching import Guard, Path
from audits.static.findings import Step
from audits.static.source import ir
from audits.static.source.project import ClassInfo, FunctionInfo

ELEMENT = ("elem", None)


@dataclass(frozen=True, eq=False, slots=True)
class Frame:
    """One call that the demand went into: `call` in `caller` runs `fn`."""

    fn: FunctionInfo
    call: ir.Call
    caller: Place
    outer: Frame | None
    bound: bool
    depth: int


@dataclass(frozen=True, slots=True)
class Bound:
    """The condition of an alternative, with the place and the calls in which it stands."""

    guard: Guard
    place: Place
    frame: Frame | None


@dataclass(frozen=True, slots=True)
class Demand:
    """A part of an expression, the calls around it, the conditions on the way, and the way itself."""

    place: Place
    path: Path = ()
    frame: Frame | None = None
    guards: tuple[Bound, ...] = ()
    trail: tuple[Step, ...] = ()

    @property
    def expr(self) -> ir.Expr:
        """The expression."""
        return self.place.expr

    @property
    def key(self) -> tuple[int, Path, int]:
        """What makes two demands the same."""
        return id(self.place.expr), self.path, id(self.frame)


@dataclass(frozen=True, slots=True)
class Answer:
    """What kind of thing a demanded value is, and the demands that it rests on.

    The kind is moved (the same value elsewhere), constant, construct, outside, arithmetic, parameter, composite, function, cycle (a
    call that turns back) or unknown; mixed-… where some alternatives are moved and others end here. Where the value is
    moved, it is one of `demands`; otherwise these are the parts it is made of.
    """

    kind: str
    demands: tuple[Demand, ...] = ()


def field_names(cls: ClassInfo) -> list[str]:
    """The annotated fields of a class body, in order: what a dataclass's constructor takes."""
    return [
        s.targets[0].id for s in cls.node.body
        if isinstance(s, ir.Assign) and s.annotation is not None and isinstance(s.targets[0], ir.Name)
    ]  # fmt: skip


def is_infinite(expr: ir.Expr) -> bool:
    """Whether an expression is infinity or not a number, however it is spelled."""
    if isinstance(expr, ir.Call) and ir.last_name(expr.func) == "float" and expr.args:
        inner = expr.args[0].value
        return isinstance(inner, ir.Constant) and str(inner.value).strip("+").lower() in ("inf", "infinity", "nan")
    return isinstance(expr, (ir.Name, ir.Attribute)) and ir.last_name(expr) in ("inf", "infty", "Infinity", "nan")
