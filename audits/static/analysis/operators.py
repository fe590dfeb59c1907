"""Operators of the packages' own classes: their operands flow into the special methods that run."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from audits.static.analysis.classes import methods
from audits.static.analysis.values import LIMIT, Func, Inst, Value, Values
from audits.static.source import ir

if TYPE_CHECKING:
    from audits.static.analysis.interp import Interp

_WORDS = {
    "+": "add", "-": "sub", "*": "mul", "@": "matmul", "/": "truediv", "//": "floordiv", "%": "mod", "**": "pow",
    "<<": "lshift", ">>": "rshift", "&": "and", "|": "or", "^": "xor",
}  # fmt: skip
_COMPARED = {
    "==": ("__eq__", "__eq__"), "!=": ("__ne__", "__ne__"), "<": ("__lt__", "__gt__"), ">": ("__gt__", "__lt__"),
    "<=": ("__le__", "__ge__"), ">=": ("__ge__", "__le__"),
}  # fmt: skip


def binary(i: Interp, node: ir.BinOp | ir.AugAssign, left: Values, right: Values) -> None:
    """`left op right`, in place or not, by the method of either side."""
    word = _WORDS.get(node.op)
    if word is not None:
        one, other = (node.left, node.right) if isinstance(node, ir.BinOp) else (node.target, node.value)
        give(i, node, one, left, (f"__{word}__", f"__i{word}__"), (other, right))
        give(i, node, other, right, (f"__r{word}__",), (one, left))


def compared(i: Interp, node: ir.Compare, values: list[Values]) -> None:
    """A chain of comparisons."""
    parts = list(zip((node.left, *node.comparators), values, strict=True))
    for op, left, right in zip(node.ops, parts, parts[1:], strict=False):
        if op in ("in", "not in"):
            give(i, node, *right, ("__contains__",), left)
        elif op in _COMPARED:
            give(i, node, *left, _COMPARED[op][:1], right)
            give(i, node, *right, _COMPARED[op][1:], left)


def give(
    i: Interp, node: ir.Node, owner: ir.Expr, receivers: Iterable[Value], names: tuple[str, ...], *operands: tuple[ir.Expr, Values]
) -> None:
    """Let operands flow into the parameters of the receivers' methods, and note the call that this is.

    Of the operands of too many methods nothing is known.
    """
    for value in receivers:
        if isinstance(value, Inst):
            for name in names:
                found = methods(i, value.cls, name, exact=value.exact)
                if not found or len(found) > LIMIT:
                    continue
                _note(i, node, owner, name, [expr for expr, _ in operands], [Func(fn, bound=True) for fn in found])
                for fn in found:
                    for param, (_, values) in zip(fn.positional[1:], operands, strict=False):
                        i.push_name(fn.scope, param.name, values)


def _note(i: Interp, node: ir.Node, owner: ir.Expr, name: str, operands: list[ir.Expr], functions: list[Func]) -> None:
    place = (node.line, node.column, node.end_line, node.end_column)
    made = i.a.operations.setdefault(node, {})
    if name not in made:
        made[name] = ir.Call(*place, ir.Attribute(*place, owner, name), [ir.Arg(*place, e) for e in operands])
    i.unit.calls[made[name]] = i.unit.calls.get(made[name], frozenset()) | frozenset(functions)
