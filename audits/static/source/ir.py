"""The auditor's own syntax tree: LibCST without whitespace, with positions, hashable by identity.

Rules and analyses read these nodes instead of LibCST's because a visit is an order of magnitude cheaper and one
construct has one shape (a `match` or a concatenated string needs no special case in every rule).
Lines and columns count from 1.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from functools import cache
from typing import Any


class _Walked:
    """What walks remember: a tree no longer changes its shape once it is lowered. Neither is stored with the facts."""

    __slots__ = ("below", "own")
    below: tuple[Node, ...]
    own: tuple[list[Stmt], tuple[Node, ...]]


@dataclass(slots=True, eq=False)
class Node(_Walked):
    """Anything with a place in a file."""

    line: int
    column: int
    end_line: int
    end_column: int


class Expr(Node):
    """An expression."""

    __slots__ = ()


class Stmt(Node):
    """A statement."""

    __slots__ = ()


@dataclass(slots=True, eq=False)
class Name(Expr):
    """A plain name."""

    id: str


@dataclass(slots=True, eq=False)
class Attribute(Expr):
    """`value.attr`."""

    value: Expr
    attr: str


@dataclass(slots=True, eq=False)
class Arg(Node):
    """One argument of a call; `star` is "", "*" or "**"."""

    value: Expr
    keyword: str | None = None
    star: str = ""


@dataclass(slots=True, eq=False)
class Call(Expr):
    """A call."""

    func: Expr
    args: list[Arg]


@dataclass(slots=True, eq=False)
class Constant(Expr):
    """A literal number, string, bytes, boolean, None or Ellipsis."""

    value: object


@dataclass(slots=True, eq=False)
class FString(Expr):
    """A formatted string, or strings joined with one."""

    parts: list[Expr]


@dataclass(slots=True, eq=False)
class BinOp(Expr):
    """A binary operation."""

    left: Expr
    op: str
    right: Expr


@dataclass(slots=True, eq=False)
class UnaryOp(Expr):
    """`-x`, `+x`, `~x` or `not x`."""

    op: str
    operand: Expr


@dataclass(slots=True, eq=False)
class BoolOp(Expr):
    """`and` or `or`."""

    op: str
    values: list[Expr]


@dataclass(slots=True, eq=False)
class Compare(Expr):
    """A comparison, chained or not."""

    left: Expr
    ops: list[str]
    comparators: list[Expr]


@dataclass(slots=True, eq=False)
class Slice(Expr):
    """`lower:upper:step` inside a subscript."""

    lower: Expr | None
    upper: Expr | None
    step: Expr | None


@dataclass(slots=True, eq=False)
class Subscript(Expr):
    """`value[index]`."""

    value: Expr
    index: Expr


@dataclass(slots=True, eq=False)
class Sequence(Expr):
    """A tuple, list or set display."""

    kind: str
    items: list[Expr]


@dataclass(slots=True, eq=False)
class Starred(Expr):
    """`*value`."""

    value: Expr


@dataclass(slots=True, eq=False)
class Dict(Expr):
    """A dictionary display; a `None` key is a `**` element."""

    keys: list[Expr | None]
    values: list[Expr]


@dataclass(slots=True, eq=False)
class IfExp(Expr):
    """`body if test else orelse`."""

    test: Expr
    body: Expr
    orelse: Expr


@dataclass(slots=True, eq=False)
class CompFor(Node):
    """One `for` of a comprehension."""

    target: Expr
    iter: Expr
    ifs: list[Expr]


@dataclass(slots=True, eq=False)
class Comprehension(Expr):
    """A comprehension or generator expression; `value` only in a dictionary."""

    kind: str
    element: Expr
    value: Expr | None
    clauses: list[CompFor]


@dataclass(slots=True, eq=False)
class Await(Expr):
    """`await value`."""

    value: Expr


@dataclass(slots=True, eq=False)
class Yield(Expr):
    """`yield value`, or `yield from value`."""

    value: Expr | None
    delegate: bool


@dataclass(slots=True, eq=False)
class NamedExpr(Expr):
    """`target := value`."""

    target: Expr
    value: Expr


@dataclass(slots=True, eq=False)
class Param(Node):
    """One parameter."""

    name: str
    annotation: Expr | None
    default: Expr | None
    kind: str  # "pos", "kw", "*", "**"


@dataclass(slots=True, eq=False)
class Function(Stmt):
    """A function definition, or the function of a lambda."""

    name: str
    params: list[Param]
    body: list[Stmt]
    decorators: list[Expr]
    returns: Expr | None


@dataclass(slots=True, eq=False)
class Lambda(Expr):
    """A lambda."""

    function: Function


@dataclass(slots=True, eq=False)
class ClassDef(Stmt):
    """A class definition."""

    name: str
    bases: list[Expr]
    keywords: list[Arg]
    decorators: list[Expr]
    body: list[Stmt]


@dataclass(slots=True, eq=False)
class ExprStmt(Stmt):
    """An expression as a statement."""

    value: Expr


@dataclass(slots=True, eq=False)
class Assign(Stmt):
    """`targets = value`, or an annotated name; `value` is None for a bare declaration."""

    targets: list[Expr]
    value: Expr | None
    annotation: Expr | None = None


@dataclass(slots=True, eq=False)
class AugAssign(Stmt):
    """`target op= value`."""

    target: Expr
    op: str
    value: Expr


@dataclass(slots=True, eq=False)
class Return(Stmt):
    """`return value`."""

    value: Expr | None


@dataclass(slots=True, eq=False)
class If(Stmt):
    """`if`; an `elif` is an `If` in `orelse`."""

    test: Expr
    body: list[Stmt]
    orelse: list[Stmt]


@dataclass(slots=True, eq=False)
class For(Stmt):
    """A `for` loop."""

    target: Expr
    iter: Expr
    body: list[Stmt]
    orelse: list[Stmt]


@dataclass(slots=True, eq=False)
class While(Stmt):
    """A `while` loop."""

    test: Expr
    body: list[Stmt]
    orelse: list[Stmt]


@dataclass(slots=True, eq=False)
class WithItem(Node):
    """`context as target`."""

    context: Expr
    target: Expr | None


@dataclass(slots=True, eq=False)
class With(Stmt):
    """A `with` block."""

    items: list[WithItem]
    body: list[Stmt]


@dataclass(slots=True, eq=False)
class Handler(Node):
    """One `except`."""

    type: Expr | None
    name: Expr | None
    body: list[Stmt]


@dataclass(slots=True, eq=False)
class Try(Stmt):
    """A `try` block."""

    body: list[Stmt]
    handlers: list[Handler]
    orelse: list[Stmt]
    finalbody: list[Stmt]


@dataclass(slots=True, eq=False)
class Case(Node):
    """One `case`: `tests` are the values it compares with, `bindings` the names it binds."""

    tests: list[Expr]
    bindings: list[Expr]
    guard: Expr | None
    body: list[Stmt]


@dataclass(slots=True, eq=False)
class Match(Stmt):
    """A `match` block."""

    subject: Expr
    cases: list[Case]


@dataclass(slots=True, eq=False)
class Raise(Stmt):
    """`raise exc from cause`."""

    exc: Expr | None
    cause: Expr | None


@dataclass(slots=True, eq=False)
class Assert(Stmt):
    """An assertion."""

    test: Expr
    message: Expr | None


@dataclass(slots=True, eq=False)
class Delete(Stmt):
    """`del target`."""

    target: Expr


@dataclass(slots=True, eq=False)
class Import(Stmt):
    """`import a.b as c` as ("a.b", "c")."""

    names: list[tuple[str, str | None]]


@dataclass(slots=True, eq=False)
class ImportFrom(Stmt):
    """`from ..m import a as b`; a star import has the single name "*"."""

    module: str
    level: int
    names: list[tuple[str, str | None]]


@dataclass(slots=True, eq=False)
class Global(Stmt):
    """`global` or `nonlocal`."""

    names: list[str]
    nonlocal_: bool


@dataclass(slots=True, eq=False)
class Simple(Stmt):
    """`pass`, `break` or `continue`."""

    kind: str


@dataclass(slots=True, eq=False)
class Module(Node):
    """A file, with its comments by line and the lines that hold code."""

    body: list[Stmt]
    comments: dict[int, str] = field(default_factory=dict)
    code_lines: set[int] = field(default_factory=set)


@cache
def _child_fields(kind: Any) -> tuple[str, ...]:
    return tuple(f.name for f in fields(kind) if f.name not in _PLACE)


_PLACE = {"line", "column", "end_line", "end_column", "comments", "code_lines"}


def children(node: Node) -> tuple[Node, ...]:
    """The nodes directly below `node`, in source order of its fields."""
    try:
        return node.below
    except AttributeError:
        node.below = out = tuple(_children(node))  # type: ignore[misc]  # the slot is the base class's
        return out


def _children(node: Node) -> Iterator[Node]:
    kind: Any = type(node)
    for name in _child_fields(kind):
        value = getattr(node, name)
        if isinstance(value, Node):
            yield value
        elif isinstance(value, list):
            for item in value:
                if isinstance(item, Node):
                    yield item


def walk(node: Node) -> Iterator[Node]:
    """`node` and everything below it, nested functions and classes included."""
    stack = [node]
    while stack:
        current = stack.pop()
        yield current
        stack.extend(reversed(children(current)))


def walk_own(body: list[Stmt]) -> Iterator[Node]:
    """Everything in `body` that runs with it: nested functions and classes are yielded but not entered."""
    if not body:
        return iter(())
    known = getattr(body[0], "own", None)
    if known is None or known[0] is not body:
        known = body[0].own = body, tuple(_walk_own(body))
    return iter(known[1])


def _walk_own(body: list[Stmt]) -> Iterator[Node]:
    stack: list[Node] = list(reversed(body))
    while stack:
        current = stack.pop()
        yield current
        if not isinstance(current, (Function, ClassDef)):
            stack.extend([c for c in reversed(children(current)) if not isinstance(c, Function)])


def dotted(expr: Expr) -> str | None:
    """`a.b.c` as text, or None where the expression is anything else."""
    parts: list[str] = []
    while isinstance(expr, Attribute):
        parts.append(expr.attr)
        expr = expr.value
    if isinstance(expr, Name):
        parts.append(expr.id)
        return ".".join(reversed(parts))
    return None


def last_name(expr: Expr) -> str:
    """The last identifier of a name or attribute chain, `""` for anything else."""
    if isinstance(expr, Attribute):
        return expr.attr
    return expr.id if isinstance(expr, Name) else ""
