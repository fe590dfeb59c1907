"""What the parts of a selection are called: best values, checkpoints, initial values."""

from __future__ import annotations

import re

from audits.static.dataflow.expressions import key
from audits.static.source import ir

_NOT_VALUES = re.compile(r"epoch|step|iter|index|idx|time|path|name|state|weights|model|round|dir|file|validation|metrics", re.I)
_SAVE = re.compile(r"^_?(save|checkpoint|write_checkpoint|store_checkpoint|dump|export)(_|$)|_checkpoint$|^torch_save$", re.I)
_BEST = re.compile(r"best(?!_?(epoch|objective|score|val))", re.I)
_LAST = re.compile(r"\blast\b|LAST")
OTHER_FILES = re.compile(r"last|latest|resume|epoch_|periodic|final|history|metrics|config|log|figure|plot|json|report", re.I)
HELPERS = re.compile(r"improv|better|best|select|stop|checkpoint|track|monitor|early|primary", re.I)
RESTORING = re.compile(r"^(__init__|reset|__post_init__|setup)$|resume|restore|load", re.I)
COUNTERS = re.compile(r"(^|_)(epochs?|steps?|iters?|iterations?|idx|index|rounds?|patience|wait|counter)($|_)", re.I)
_HUGE = 1e6


def base_of(expr: ir.Expr) -> ir.Expr:
    """The value in `best - margin`."""
    return base_of(expr.left) if isinstance(expr, ir.BinOp) and expr.op in ("-", "+", "*") else expr


def starts_anew(expr: ir.Expr) -> bool:
    """Whether nothing is known yet: `best is None`, `epoch == 0`, `not history`, `isinf(best)`."""
    if isinstance(expr, ir.Compare):
        other = expr.comparators[0]
        plain = isinstance(expr.left, (ir.Name, ir.Attribute)) or (isinstance(expr.left, ir.Call) and ir.last_name(expr.left.func) == "len")
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


def is_initial(expr: ir.Expr) -> bool:
    """Whether a value is one to start from: a literal, infinity, or an empty collection."""
    if isinstance(expr, ir.Constant):
        return True
    if isinstance(expr, ir.UnaryOp):
        return is_initial(expr.operand)
    if isinstance(expr, (ir.Dict, ir.Sequence)):
        return all(is_initial(v) for v in (expr.values if isinstance(expr, ir.Dict) else expr.items))
    if isinstance(expr, ir.IfExp):
        return is_initial(expr.body) and is_initial(expr.orelse)
    if isinstance(expr, ir.Call):
        return all(is_initial(a.value) for a in expr.args) and (bool(expr.args) or ir.last_name(expr.func)[:1].isupper())
    return re.search(r"(^|_)(inf|infty|infinity|nan)$", ir.last_name(expr), re.I) is not None


def is_never_beaten(expr: ir.Expr) -> bool:
    """Whether a value is a number that an objective may well exceed: finite and below a million, or minus infinity."""
    sign = isinstance(expr, ir.UnaryOp) and expr.op == "-"
    inner = expr.operand if isinstance(expr, ir.UnaryOp) else expr
    if isinstance(inner, ir.Call) and ir.last_name(inner.func) == "float" and inner.args and isinstance(inner.args[0].value, ir.Constant):
        return sign or str(inner.args[0].value.value).startswith("-")
    if sign and not isinstance(inner, ir.Constant):
        return is_initial(inner)
    if not isinstance(inner, ir.Constant) or isinstance(inner.value, bool) or not isinstance(inner.value, (int, float)):
        return False
    return sign or inner.value < _HUGE


def words_of(call: ir.Call) -> str:
    """The names and texts in a call, without those of a stored mapping."""
    parts = [ir.last_name(call.func)]
    for arg in call.args:
        if isinstance(arg.value, ir.Dict):
            continue
        for node in ir.walk(arg.value):
            if isinstance(node, (ir.Name, ir.Attribute)):
                parts.append(ir.last_name(node))
            elif isinstance(node, ir.Constant) and isinstance(node.value, str):
                parts.append(node.value)
    return " ".join(parts)


def is_saver(name: str) -> bool:
    """Whether a function's name says that it saves something."""
    return re.match(r"_*(save|write|store|dump|export|checkpoint|persist)", name, re.I) is not None


def is_saving(call: ir.Call) -> bool:
    """Whether a call writes a checkpoint."""
    return bool(_SAVE.search(ir.last_name(call.func))) and not OTHER_FILES.search(ir.last_name(call.func))


def says_best(words: str) -> bool:
    """Whether the words of a call name the best checkpoint."""
    return bool(_BEST.search(words)) and not _LAST.search(words)


def says_other(words: str) -> bool:
    """Whether the words of a call name another file than the best checkpoint."""
    return bool(OTHER_FILES.search(words))
