"""Where a unit uses a solver."""

from __future__ import annotations

from collections.abc import Iterable

from audits.static.analysis.constants import integer_value
from audits.static.analysis.engine import Ref, Unit
from audits.static.analysis.reach import Reach
from audits.static.analysis.values import NEGATIVE, POSITIVE
from audits.static.libraries import solvers
from audits.static.source import ir

CONDITIONS = frozenset({"torch.linalg.cond", "numpy.linalg.cond"})


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
        elif ref.ext in CONDITIONS and condition_norm(unit, ref.node) == "inverts":
            yield ref, f"{ref.ext} in a norm other than 2 inverts, and it is on the hot path"
    for call, callees in unit.calls.items():
        for named in callees:
            dynamic = getattr(named, "name", "")
            if dynamic in ("operator.methodcaller", "operator.attrgetter") and call.args:
                text = call.args[0].value
                if isinstance(text, ir.Constant) and isinstance(text.value, str) and _named_solver(text.value):
                    yield Ref(None, dynamic, call), f"{dynamic} names the solver {text.value!r} on the hot path"


def condition_norm(unit: Unit, node: ir.Node) -> str:
    """What a call of a condition number at `node` does: `inverts`, `values` where it takes singular values, or `unknown`."""
    call = next((c for c in unit.calls if c.func is node), None)
    if call is None:
        return "values"
    norms = [a.value for a in call.args if a.keyword == "p"] or [a.value for a in call.args if a.keyword is None][1:2]
    norm = norms[0] if norms else None
    norm = norm.operand if isinstance(norm, ir.UnaryOp) and norm.op == "-" else norm
    if norm is None or (isinstance(norm, ir.Constant) and norm.value in (None, 2)):
        return "unknown" if any(a.star for a in call.args) else "values"
    infinite = isinstance(norm, (ir.Attribute, ir.Call)) and ("inf" in (ir.last_name(norm), ir.last_name(getattr(norm, "func", norm))))
    return "inverts" if infinite or isinstance(norm, ir.Constant) else "unknown"


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
    if isinstance(exponent, ir.UnaryOp) and exponent.op == "-" and is_offset(exponent.operand):
        return -1
    values = unit.exponents.get(call, frozenset())
    if NEGATIVE in values:
        return -1
    return 1 if values == {POSITIVE} else 0


def is_offset(exponent: ir.Expr) -> bool:
    """Whether an exponent is not negative, whatever it is."""
    return isinstance(exponent, ir.Call) and ir.last_name(exponent.func) in ("abs", "len")


def exponent_of(call: ir.Call) -> ir.Expr | None:
    """The exponent that a call of a matrix power passes."""
    for arg in call.args:
        if arg.keyword == "n":
            return arg.value
    positional = [a.value for a in call.args if a.keyword is None]
    return positional[-1] if positional else None
