"""Operators of the packages' own classes: their operands flow into the special methods that run."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from audits.static import ir
from audits.static.classes import methods
from audits.static.values import LIMIT, Inst, Value, Values

if TYPE_CHECKING:
    from audits.static.interp import Interp

_WORDS = {
    "+": "add", "-": "sub", "*": "mul", "@": "matmul", "/": "truediv", "//": "floordiv", "%": "mod", "**": "pow",
    "<<": "lshift", ">>": "rshift", "&": "and", "|": "or", "^": "xor",
}  # fmt: skip
_COMPARED = {
    "==": ("__eq__", "__eq__"), "!=": ("__ne__", "__ne__"), "<": ("__lt__", "__gt__"), ">": ("__gt__", "__lt__"),
    "<=": ("__le__", "__ge__"), ">=": ("__ge__", "__le__"),
}  # fmt: skip


def binary(i: Interp, op: str, left: Values, right: Values) -> None:
    """`left op right`, in place or not, by the method of either side."""
    word = _WORDS.get(op)
    if word is not None:
        give(i, left, (f"__{word}__", f"__i{word}__"), right)
        give(i, right, (f"__r{word}__",), left)


def compared(i: Interp, node: ir.Compare, parts: list[Values]) -> None:
    """A chain of comparisons."""
    for op, left, right in zip(node.ops, parts, parts[1:], strict=False):
        if op in ("in", "not in"):
            give(i, right, ("__contains__",), left)
        elif op in _COMPARED:
            give(i, left, _COMPARED[op][:1], right)
            give(i, right, _COMPARED[op][1:], left)


def give(i: Interp, receivers: Iterable[Value], names: tuple[str, ...], *operands: Values) -> None:
    """Let operands flow into the parameters of the receivers' methods; of too many methods nothing is known either way."""
    for value in receivers:
        if isinstance(value, Inst):
            for name in names:
                found = methods(i, value.cls, name, exact=value.exact)
                for fn in found if len(found) <= LIMIT else ():
                    for param, values in zip(fn.positional[1:], operands, strict=False):
                        i.push_name(fn.scope, param.name, values)
