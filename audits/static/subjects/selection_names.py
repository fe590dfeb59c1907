"""What the parts of a selection are called: best values, checkpoints, initial values."""

from __future__ import annotations

import re
from collections.abc import Iterator

from audits.static.dataflow.expressions import key
from audits.static.dataflow.flow import pairs_of
from audits.static.source import ir
from audits.static.source.project import FunctionInfo

_NOT_VALUES = re.compile(r"epoch|step|iter|index|idx|time|path|name|state|weights|model|round|dir|file|validation|metrics", re.I)
_SAVE = re.compile(r"^_?(save|checkpoint|write_checkpoint|store_checkpoint|dump|export)(_|$)|_checkpoint$|^torch_save$", re.I)
OTHER_FILES = re.compile(r"last|latest|resume|epoch_|periodic|final|history|metrics|config|log|figure|plot|json|report", re.I)
_HUGE = 1e6
FLIP = {"<": ">", ">": "<", "<=": ">=", ">=": "<="}


def base_of(expr: ir.Expr) -> ir.Expr:
    """The value in `best - margin`."""
    return base_of(expr.left) if isinstance(expr, ir.BinOp) and expr.op in ("-", "+", "*") else expr


def is_zero(expr: ir.Expr) -> bool:
    """Whether an expression is the number 0."""
    return isinstance(expr, ir.Constant) and expr.value == 0 and expr.value is not False


def starts_anew(expr: ir.Expr) -> bool:
    """Whether nothing is known yet: `best is None`, `epoch == 0`, `not history`, `isinf(best)`."""
    if isinstance(expr, ir.Compare):
        other = expr.comparators[0]
        plain = isinstance(expr.left, (ir.Name, ir.Attribute))
        first = plain and expr.ops[0] in ("==", "is") and isinstance(other, ir.Constant) and other.value in (0, 1, None)
        return first or (expr.ops[0] == "==" and "inf" in key(other))
    if isinstance(expr, ir.UnaryOp):
        return expr.op == "not"
    return (isinstance(expr, ir.Call) and ir.last_name(expr.func) in ("isinf", "isnan")) or "first" in ir.last_name(expr).lower()


def named_best(expr: ir.Expr) -> bool:
    """Whether an expression is named like a best value."""
    base = base_of(expr)
    if isinstance(base, ir.Subscript) and isinstance(base.index, ir.Constant):
        named = "best" in ir.last_name(base.value).lower()
        return "best" in str(base.index.value).lower() or (named and not _NOT_VALUES.search(str(base.index.value)))
    name = ir.last_name(base)
    return "best" in name.lower() and not _NOT_VALUES.search(name)


def within(node: ir.Node, root: ir.Node) -> bool:
    """Whether a node stands inside another."""
    return any(n is node for n in ir.walk(root))


def is_initial(expr: ir.Expr) -> bool:
    """Whether a value is one to start from: a literal or infinity."""
    if isinstance(expr, (ir.Constant, ir.UnaryOp)):
        return True
    return "inf" in key(expr) or (isinstance(expr, ir.Call) and ir.last_name(expr.func) == "float" and _initial_text(expr))


def is_number(expr: ir.Expr) -> bool:
    """Whether a value is a number that an objective may well exceed: finite and below a million."""
    sign = isinstance(expr, ir.UnaryOp) and expr.op == "-"
    inner = expr.operand if isinstance(expr, ir.UnaryOp) else expr
    if not isinstance(inner, ir.Constant) or isinstance(inner.value, bool) or not isinstance(inner.value, (int, float)):
        return False
    return sign or inner.value < _HUGE


def _initial_text(expr: ir.Call) -> bool:
    return bool(expr.args) and isinstance(expr.args[0].value, ir.Constant)


def _words(call: ir.Call) -> str:
    parts = [ir.last_name(call.func)]
    for arg in call.args:
        for node in ir.walk(arg.value):
            if isinstance(node, (ir.Name, ir.Attribute)):
                parts.append(ir.last_name(node))
            elif isinstance(node, ir.Constant) and isinstance(node.value, str):
                parts.append(node.value)
    return " ".join(parts)


def is_saving(call: ir.Call) -> bool:
    """Whether a call writes a checkpoint."""
    return bool(_SAVE.search(ir.last_name(call.func))) and not OTHER_FILES.search(ir.last_name(call.func))


def says_best(call: ir.Call) -> bool:
    """Whether a call names the best checkpoint."""
    return bool(re.search(r"best(?!_?(epoch|objective|score|val))", _words(call), re.I)) and not re.search(r"\blast\b|LAST", _words(call))


def is_other(call: ir.Call) -> bool:
    """Whether a call names another file than the best checkpoint."""
    return bool(OTHER_FILES.search(_words(call)))


def root_name(expr: ir.Expr) -> str:
    """The last name of an expression without its items."""
    while isinstance(expr, ir.Subscript):
        expr = expr.value
    return ir.last_name(expr)


def kept_values(fn: FunctionInfo) -> Iterator[str]:
    """What is replaced by the other side of the comparison under which it is replaced: a best value, whatever its name."""
    for node in ir.walk_own(fn.node.body):
        if isinstance(node, ir.If):
            for test in ir.walk(node.test):
                if isinstance(test, ir.Compare) and len(test.ops) == 1 and test.ops[0] in FLIP:
                    sides = (test.left, test.comparators[0])
                    for one, other in (sides, sides[::-1]):
                        yield from _replaced(node, one, other)
        elif isinstance(node, ir.Assign) and isinstance(node.value, ir.Call) and ir.last_name(node.value.func) in ("min", "max"):
            items = [key(a.value) for a in node.value.args]
            yield from (key(t) for t in node.targets if len(items) == 2 and key(t) in items)


def _replaced(node: ir.If, kept: ir.Expr, candidate: ir.Expr) -> Iterator[str]:
    if not isinstance(base_of(kept), (ir.Name, ir.Attribute, ir.Subscript)):
        return
    for statement in [*node.body, *node.orelse]:
        for inner in ir.walk(statement):
            if isinstance(inner, ir.Assign) and inner.value is not None:
                pairs = [p for t in inner.targets for p in pairs_of(t, inner.value)]
                if any(key(t) == key(base_of(kept)) and key(v) == key(base_of(candidate)) for t, v in pairs):
                    yield key(base_of(kept))
