"""Shapes of single expressions: operands, literals, and a text that is equal for equal code."""

from __future__ import annotations

import re

from audits.static.source import ir


def is_scalar(expr: ir.Expr) -> bool:
    """Whether an expression is a literal number, or computed from such."""
    if isinstance(expr, ir.Constant):
        return True
    if isinstance(expr, ir.UnaryOp):
        return is_scalar(expr.operand)
    return isinstance(expr, ir.BinOp) and is_scalar(expr.left) and is_scalar(expr.right)


def operand(expr: ir.Expr, names: frozenset[str]) -> ir.Expr | None:
    """X of `x.name`, `x.name(...)` or `module.name(x, ...)`."""
    if isinstance(expr, ir.Attribute) and expr.attr in names and expr.attr in ("T", "mT", "real"):
        return expr.value
    if isinstance(expr, ir.Call) and ir.last_name(expr.func) in names:
        if ir.last_name(expr.func) == "einsum":
            return None
        return receiver_or_argument(expr)
    return None


_LIBRARIES = re.compile(r"^(torch|th|np|numpy|jnp|jax|tnp|cp|cupy|F|functional|[a-z]{0,3}la|linalg|LA|TLA|xp|math|scipy)(\.|$)")


def receiver_or_argument(expr: ir.Call) -> ir.Expr:
    """X of `x.f(...)` or of `library.f(x, ...)`."""
    if isinstance(expr.func, ir.Attribute) and not _LIBRARIES.match(ir.dotted(expr.func.value) or "-"):
        return expr.func.value
    return expr.args[0].value if expr.args else expr.func


def operands_of(expr: ir.Call) -> list[ir.Expr]:
    """The operands of `x.f(y)` or of `library.f(x, y)`."""
    plain = [a.value for a in expr.args if a.keyword is None]
    if isinstance(expr.func, ir.Attribute) and not _LIBRARIES.match(ir.dotted(expr.func.value) or "-"):
        return [expr.func.value, *plain]
    return plain


def key(expr: ir.Expr) -> str:
    """The expression's structure as text: equal for equal code."""
    if isinstance(expr, ir.Name):
        return expr.id
    if isinstance(expr, ir.Attribute):
        return f"{key(expr.value)}.{expr.attr}"
    if isinstance(expr, ir.Constant):
        return repr(expr.value)
    inner = ",".join(key(c) for c in ir.children(expr) if isinstance(c, ir.Expr))
    arguments = ",".join(key(c.value) for c in ir.children(expr) if isinstance(c, ir.Arg))
    return f"{type(expr).__name__}{getattr(expr, 'op', '')}({inner};{arguments})"


def without_neutral(expr: ir.Expr) -> ir.Expr:
    """X of `+x`, `x + 0`, `1 * x`, `x / 1` and the like."""
    while True:
        if isinstance(expr, ir.UnaryOp) and expr.op == "+":
            expr = expr.operand
        elif isinstance(expr, ir.BinOp) and _neutral(expr.right, {"+": 0, "-": 0, "*": 1, "/": 1, "**": 1}.get(expr.op)):
            expr = expr.left
        elif isinstance(expr, ir.BinOp) and _neutral(expr.left, {"+": 0, "*": 1}.get(expr.op)):
            expr = expr.right
        else:
            return expr


def _neutral(expr: ir.Expr, value: int | None) -> bool:
    return isinstance(expr, ir.Constant) and value is not None and not isinstance(expr.value, bool) and expr.value == value
