"""Literal numbers behind names, as far as they are plain."""

from __future__ import annotations

from audits.static.analysis.engine import Unit
from audits.static.source import ir
from audits.static.source.project import lookup_scope


def integer_value(unit: Unit, expr: ir.Expr, depth: int = 4) -> int | None:
    """The integer that `expr` certainly is, following names with one literal assignment; None where it is not plain."""
    if isinstance(expr, ir.Constant):
        return expr.value if isinstance(expr.value, int) and not isinstance(expr.value, bool) else None
    if isinstance(expr, ir.UnaryOp) and expr.op in ("-", "+"):
        inner = integer_value(unit, expr.operand, depth)
        return None if inner is None else (-inner if expr.op == "-" else inner)
    if isinstance(expr, ir.BinOp) and expr.op in ("+", "-", "*"):
        left, right = integer_value(unit, expr.left, depth), integer_value(unit, expr.right, depth)
        if left is None or right is None:
            return None
        return left + right if expr.op == "+" else left - right if expr.op == "-" else left * right
    if isinstance(expr, ir.Name) and depth:
        scope = unit.fn.scope if unit.fn is not None else unit.module.scope
        found = lookup_scope(scope, expr.id)
        if found is None:
            return None
        body = found.function.node.body if found.function is not None else found.module.tree.body
        values = [
            n.value for n in ir.walk_own(body)
            if isinstance(n, ir.Assign) and n.value is not None and any(ir.last_name(t) == expr.id for t in n.targets)
        ]  # fmt: skip
        if found.function is not None:
            values += [p.default for p in found.function.node.params if p.name == expr.id and p.default is not None]
        known = {integer_value(unit, v, depth - 1) for v in values}
        return min((k for k in known if k is not None), default=None)
    return None
