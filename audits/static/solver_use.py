"""Where a unit uses a solver."""

from __future__ import annotations

from collections.abc import Iterable

from audits.static import ir, solvers
from audits.static.constants import integer_value
from audits.static.engine import Ref, Unit
from audits.static.reach import Reach
from audits.static.values import NEGATIVE, POSITIVE


def violated(reached: Reach) -> bool:
    """Whether this entry point reaches a solver."""
    return any(True for fn in reached.functions for _ in solver_refs(reached.units[fn]))


def solver_refs(unit: Unit) -> Iterable[tuple[Ref, str]]:
    """The references of a unit to solvers, each with its message."""
    for ref in unit.refs:
        if not ref.ext:
            continue
        if solvers.is_solver(ref.ext):
            yield ref, _message(ref.ext)
        elif solvers.is_matrix_power(ref.ext) and negative_power(unit, ref.node):
            yield ref, f"{ref.ext.removeprefix('?.')} with a negative exponent inverts, and it is on the hot path"
    for call, callees in unit.calls.items():
        for named in callees:
            dynamic = getattr(named, "name", "")
            if dynamic in ("operator.methodcaller", "operator.attrgetter") and call.args:
                text = call.args[0].value
                if isinstance(text, ir.Constant) and isinstance(text.value, str) and _named_solver(text.value):
                    yield Ref(None, dynamic, call), f"{dynamic} names the solver {text.value!r} on the hot path"


def _named_solver(text: str) -> bool:
    return solvers.is_solver(f"?.{text}") or solvers.is_solver(f"torch.linalg.{text.rsplit('.', 1)[-1]}")


def _message(name: str) -> str:
    if name.startswith("?."):
        return f"the Tensor method .{name[2:]}() solves, and it is on the hot path"
    return f"{name} solves a linear system (or its backward does), and it is on the hot path"


def negative_power(unit: Unit, node: ir.Node) -> bool:
    """Whether the matrix power referenced at `node` is called with a negative exponent."""
    for call in unit.calls:
        if call.func is node:
            return exponent_sign(unit, call) < 0
    return False


def exponent_sign(unit: Unit, call: ir.Call) -> int:
    """The sign of the exponent that a call of a matrix power passes: -1, 1 (or zero), or 0 where it is not known."""
    exponent = exponent_of(call)
    number = integer_value(unit, exponent) if exponent is not None else None
    if number is not None:
        return -1 if number < 0 else 1
    values = unit.exponents.get(call, frozenset())
    if NEGATIVE in values:
        return -1
    return 1 if values == {POSITIVE} else 0


def exponent_of(call: ir.Call) -> ir.Expr | None:
    """The exponent that a call of a matrix power passes."""
    for arg in call.args:
        if arg.keyword == "n":
            return arg.value
    positional = [a.value for a in call.args if a.keyword is None]
    return positional[-1] if positional else None
