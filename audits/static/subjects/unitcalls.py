"""What arithmetic and calls do to units, and which of them mix units."""

from __future__ import annotations

import itertools
import math
import re
from typing import TYPE_CHECKING

from audits.static.analysis.externals import positional_fields
from audits.static.analysis.values import Cls, Ext, Func, Inst
from audits.static.dataflow import usage
from audits.static.source import ir
from audits.static.subjects import units
from audits.static.subjects.units import DB, DEG, LINEAR, NOTHING, RAD, Unit, Value

if TYPE_CHECKING:
    from audits.static.source.project import FunctionInfo
    from audits.static.subjects.unitflow import Frame, UnitFlow

_TRIG = frozenset({"sin", "cos", "tan", "sin_", "cos_", "tan_", "sincos", "cosm1"})
_INVERSE = frozenset({"asin", "acos", "atan", "atan2", "arcsin", "arccos", "arctan", "arctan2", "phase", "angle"})
_SAME_UNIT = frozenset(
    {"max", "min", "maximum", "minimum", "clamp", "clip", "clamp_", "where", "lerp", "fmin", "fmax", "clamp_min", "clamp_max"}
)
_KEEPING = _SAME_UNIT | frozenset(
    {"abs", "absolute", "fabs", "mean", "sum", "amax", "amin", "median", "nanmean", "nanmedian", "std", "sort", "sorted", "unique", "cat",
     "concat", "concatenate", "stack", "hstack", "vstack", "column_stack", "to", "float", "double", "half", "int", "tensor", "as_tensor",
     "asarray", "array", "from_numpy", "numpy", "cpu", "cuda", "item", "tolist", "list", "tuple", "reversed", "view", "reshape", "flatten",
     "ravel", "unsqueeze", "squeeze", "expand", "expand_as", "repeat", "tile", "permute", "transpose", "contiguous", "clone", "detach",
     "copy", "round", "floor", "ceil", "masked_fill", "index_select", "gather", "take", "take_along_dim", "roll", "flip", "linspace",
     "arange", "broadcast_to", "unbind", "split", "chunk", "diff", "quantile", "percentile", "nan_to_num", "uniform", "float32", "float64",
     "next", "values", "iter", "deepcopy",
     "requires_grad_", "type", "astype", "Parameter", "norm", "hypot", "meshgrid", "repeat_interleave",
     "neg", "negative", "positive", "add", "sub", "subtract", "fmod", "remainder", "mod", "atleast_1d", "expand_dims", "swapaxes",
     "ascontiguousarray", "type_as", "set", "frozenset", "sub_", "add_", "nullcontext"}
)  # fmt: skip
_FILLING = frozenset({"full", "full_like", "new_full", "fill_", "fill"})
_FULL_WIDTH = re.compile(r"(^|_)(fov|field_of_view|full_width|beamwidth|beam_width)(_|$)")
_LN10 = math.log(10.0)


def _close(value: float, *goals: float) -> bool:
    return any(math.isclose(abs(value), g, rel_tol=1e-3) for g in goals)


# -- arithmetic


def arithmetic(f: UnitFlow, frame: Frame, node: ir.BinOp, left: Value, right: Value) -> Value:
    """The unit of a binary operation."""
    if node.op in ("+", "-"):
        f.same(frame, node, left, right, "added to" if node.op == "+" else "subtracted")
        number = None
        if left.number is not None and right.number is not None:
            number = left.number + right.number if node.op == "+" else left.number - right.number
        return Value(left.units | right.units, number)
    if node.op in ("*", "/"):
        return _product(f, frame, node, left, right)
    if node.op == "**":
        return power(f, frame, node, left, right)
    return Value(left.units) if node.op in ("%", "//") else NOTHING


def _product(f: UnitFlow, frame: Frame, node: ir.BinOp, left: Value, right: Value) -> Value:
    inverse = node.op == "/"
    if right.number is not None and not right.units:
        factor = right.number if not inverse else 1.0 / right.number if right.number else 0.0
        return logarithm(left, factor) or _times(f, frame, node, left, factor)
    if left.number is not None and not left.units and not inverse:
        return logarithm(right, left.number) or _times(f, frame, node, right, left.number)
    if DB in left.plain and DB in right.plain:
        if not inverse and not _same_text(node.left, node.right):
            f.report(frame, node, "two values in dB are multiplied")
        return NOTHING
    for level, other in ((left, right), (right, left)):
        if DB in level.said() and LINEAR in other.plain:
            f.report(frame, node, f"a value in dB is {'divided' if inverse else 'multiplied'} with a linear one")
            return NOTHING
    if left.units and right.units:
        return _combined(left, right, inverse=inverse)
    if not left.units and not right.units:
        return NOTHING
    known, factor_expr = (left, node.right) if left.units else (right, node.left)
    if f.is_conversion(factor_expr):
        return NOTHING
    if inverse and known is right:
        return Value(frozenset(Unit(u.name, -u.power, u.implied) for u in right.units))
    return Value(known.units)


def _times(f: UnitFlow, frame: Frame, node: ir.BinOp, value: Value, factor: float) -> Value:
    wrong = units.misconverted(value, factor)
    if wrong is not None:
        f.report(frame, node, f"a value in {min(value.said())} is converted as if it were in {wrong}")
    return units.converted(value, factor)


def logarithm(value: Value, factor: float) -> Value | None:
    """10 log10(x) and 20 log10(x) are levels."""
    return units.of(DB) if value.log and _close(factor, 10.0, 20.0) else None


def _combined(left: Value, right: Value, *, inverse: bool) -> Value:
    sign = -1 if inverse else 1
    first, second = {u.name for u in left.units}, {u.name for u in right.units}
    if first != second or len(first) != 1 or len(left.units) != 1 or len(right.units) != 1:
        return units.of(LINEAR, implied=True) if first == second == {LINEAR} else NOTHING
    (a,), (b,) = left.units, right.units
    if a.name == LINEAR:
        return Value(frozenset((Unit(LINEAR, 1, a.implied or b.implied),)))
    total = a.power + sign * b.power
    return Value(frozenset((Unit(a.name, total, a.implied),))) if total else NOTHING


def _same_text(left: ir.Expr, right: ir.Expr) -> bool:
    return ir.dotted(left) is not None and ir.dotted(left) == ir.dotted(right)


def power(f: UnitFlow, frame: Frame, node: ir.Expr, base: Value, exponent: Value) -> Value:
    """Powers: of ten, which turn levels into ratios, and of values."""
    if base.number == 10.0:
        if DB in exponent.plain:
            if _close(exponent.scale, 1.0):
                f.report(frame, node, "10 is raised to a value in dB that is not divided by 10 or 20")
                return NOTHING
            return units.of(LINEAR)
        if LINEAR in exponent.said() and _close(exponent.scale, 0.1, 0.05):
            f.report(frame, node, "a linear value is converted as if it were in dB")
        return units.of(LINEAR) if _close(exponent.scale, 0.1, 0.05) and exponent.units else NOTHING
    if exponent.number is None:
        return NOTHING
    if exponent.number == 0.5:
        return root(f, frame, node, base)
    return Value(frozenset(Unit(u.name, u.power * exponent.number, u.implied) if u.name != LINEAR else u for u in base.units))


def root(f: UnitFlow, frame: Frame, node: ir.Expr, value: Value) -> Value:
    """The square root."""
    if DB in value.said():
        f.report(frame, node, "the square root of a value in dB is taken")
        return NOTHING
    return Value(frozenset(Unit(u.name, u.power / 2, u.implied) if u.name != LINEAR else u for u in value.units))


# -- calls


def call(f: UnitFlow, frame: Frame, node: ir.Call) -> Value:
    """What a call returns, after its arguments have been held against what they are passed for."""
    given = [f.eval(a.value, frame) for a in node.args]
    receiver = f.eval(node.func.value, frame) if isinstance(node.func, ir.Attribute) else NOTHING
    if not isinstance(node.func, (ir.Attribute, ir.Name)):
        f.eval(node.func, frame)
    for arg, value in zip(node.args, given, strict=True):
        if arg.keyword is not None:
            f.meets(frame, arg.value, value, arg.keyword)
    _full_width(f, frame, node)
    callees = frame.unit.calls.get(node, frozenset())
    made = _completed(frame, node)
    if made is not None:
        return call(f, frame, made)
    own = [c for c in callees if isinstance(c, (Func, Cls, Inst)) and not (isinstance(c, Func) and c.weak)]
    out: list[Value] = []
    for callee in own:
        if isinstance(callee, Func):
            out.append(_own_call(f, frame, node, callee.fn, given, skip=callee.bound))
        elif isinstance(callee, Cls):
            _construct(f, frame, node, callee, given)
    if out:
        return units.joined(out)
    if own:
        return NOTHING
    names = {c.name for c in callees if isinstance(c, Ext)}
    _container(frame, node, receiver, given)
    if isinstance(node.func, ir.Attribute) and node.func.attr in ("get", "pop") and given and receiver.entries is not None:
        key = node.args[0].value
        entry = dict(receiver.entries).get(key.value) if isinstance(key, ir.Constant) and isinstance(key.value, str) else None
        if entry is not None:
            return entry
    if names & {"functools.partial", "builtins.map", "torch.vmap"} and node.args:
        return _applied(f, frame, node, given, each="builtins.map" in names)
    method = isinstance(node.func, ir.Attribute) and (not names or any(n.startswith(("?.", "torch.Tensor.")) for n in names))
    name = min((n.rpartition(".")[2] for n in names), default=ir.last_name(node.func))
    values = [
        v for a, v in zip(node.args, given, strict=True) if a.keyword is None or a.keyword in ("min", "max", "a_min", "a_max", "other")
    ]
    return _outside(f, frame, node, name, ([receiver] if method else []) + values)


def _completed(frame: Frame, node: ir.Call) -> ir.Call | None:
    # partial(f, a)(b) is f(a, b).
    made = node.func
    if isinstance(made, ir.Call) and "functools.partial" in usage.called_names(frame.unit, made) and made.args:
        inner = ir.Call(node.line, node.column, node.end_line, node.end_column, made.args[0].value, [*made.args[1:], *node.args])
        frame.unit.calls.setdefault(inner, frame.unit.calls.get(node, frozenset()))
        return inner
    return None


def _container(frame: Frame, node: ir.Call, receiver: Value, given: list[Value]) -> None:
    # x.append(v): what is put into a container is an element of it.
    func = node.func
    if isinstance(func, ir.Attribute) and func.attr in ("append", "add", "extend", "insert") and isinstance(func.value, ir.Name) and given:
        if given[-1].units and func.value.id in frame.env:
            frame.env[func.value.id] = Value(receiver.units | given[-1].units)


def _own_call(f: UnitFlow, frame: Frame, node: ir.Call, fn: FunctionInfo, given: list[Value], *, skip: bool) -> Value:
    names = [p.name for p in fn.positional][1 if skip else 0 :]
    bound: dict[str, Value] = {}
    position = 0
    extra: list[Value] = []
    named: list[tuple[str, Value]] = []
    for arg, value in zip(node.args, given, strict=True):
        if arg.star:
            position = len(names)
        elif arg.keyword is not None:
            bound[arg.keyword] = value
            named.append((arg.keyword, value))
        elif position < len(names):
            f.meets(frame, arg.value, value, names[position], f"{names[position]} of {fn.node.name}")
            bound[names[position]] = value
            position += 1
        else:
            extra.append(value)
    for param in fn.node.params:
        if param.kind == "*":
            bound[param.name] = Value(extra[0].units if extra else frozenset(), items=tuple(extra))
        elif param.kind == "**":
            bound[param.name] = Value(entries=tuple(named))
    return f.invoke(fn, bound, frame.depth + 1)


def _construct(f: UnitFlow, frame: Frame, node: ir.Call, callee: Cls, given: list[Value]) -> None:
    cls = callee.cls
    for owner in f.analysis.mro_cache.get(cls) or [cls]:
        init = owner.module.functions.get(f"{owner.qualname}.__init__")
        if init is not None:
            _own_call(f, frame, node, init, given, skip=True)
            return
    names = positional_fields(f.analysis.mro_cache.get(cls) or [cls])
    for position, (arg, value) in enumerate(zip(node.args, given, strict=True)):
        if arg.star:
            return
        name = arg.keyword or (names[position] if position < len(names) else None)
        if name is not None:
            if arg.keyword is None:
                f.meets(frame, arg.value, value, name, f"{name} of {cls.node.name}")
            if value.units:
                f.fields.setdefault((cls, name), Value(value.units))


def _applied(f: UnitFlow, frame: Frame, node: ir.Call, given: list[Value], *, each: bool) -> Value:
    # partial(fn, ...), map(fn, ...): the function gets the arguments now, or one after the other.
    values = [units.element(v) if each else v for v in given[1:]]
    inner = ir.Call(node.line, node.column, node.end_line, node.end_column, node.args[0].value, node.args[1:])
    for fn in f.functions(frame, node.args[0].value):
        return _own_call(f, frame, inner, fn, values, skip=False)
    names = usage.outside_names(f.analysis, frame.unit, node.args[0].value)
    for name in names:
        return _outside(f, frame, inner, name.rpartition(".")[2], values)
    return NOTHING


def _full_width(f: UnitFlow, frame: Frame, node: ir.Call) -> None:
    # uniform(-fov, fov): a width where a half-width is meant.
    plain = usage.positional(node)
    for low, high in itertools.pairwise(plain):
        if isinstance(low, ir.UnaryOp) and low.op == "-" and _same_text(low.operand, high):
            name = ir.last_name(high).lower()
            if _FULL_WIDTH.search(name) and "half" not in name:
                f.report(frame, high, f"{ir.last_name(high)} is a full width, and it is used on both sides of zero")


def _outside(f: UnitFlow, frame: Frame, node: ir.Call, name: str, values: list[Value]) -> Value:
    """What a function from outside does to the units of its operands."""
    first = values[0] if values else NOTHING
    if name in _TRIG:
        if DEG in first.plain:
            f.report(frame, node, f"a value in degrees reaches {name}()")
        return NOTHING
    if name in _INVERSE:
        in_degrees = any(a.keyword == "deg" and not (isinstance(a.value, ir.Constant) and a.value.value is False) for a in node.args)
        return units.of(DEG if in_degrees else RAD)
    if name in ("deg2rad", "radians", "deg2rad_"):
        if RAD in first.plain:
            f.report(frame, node, f"a value in radians reaches {name}()")
        return units.of(RAD)
    if name in ("rad2deg", "degrees", "rad2deg_"):
        if DEG in first.plain:
            f.report(frame, node, f"a value in degrees reaches {name}()")
        return units.of(DEG)
    if name in ("polar", "rect"):
        if len(values) > 1 and DEG in values[1].plain:
            f.report(frame, node, f"a value in degrees reaches the angle of {name}()")
        return NOTHING
    if name in ("exp", "exp_"):
        return _exponential(f, frame, node, first)
    if name in ("log10", "log", "log2", "log1p", "ln"):
        if DB in first.said():
            f.report(frame, node, "the logarithm of a value in dB is taken")
        return Value(log=name == "log10", number=math.log(first.number) if name == "log" and first.number and first.number > 0 else None)
    if name in ("sqrt", "sqrt_", "rsqrt"):
        return root(f, frame, node, first) if name != "rsqrt" else NOTHING
    if name in ("square", "square_"):
        return power(f, frame, node, first, Value(number=2.0))
    if name in ("pow", "power", "float_power", "pow_") and len(values) > 1:
        return power(f, frame, node, values[0], values[1])
    if name in ("mul", "multiply", "div", "divide", "true_divide", "mul_", "div_") and len(values) > 1:
        plain = usage.positional(node)
        sides = plain if len(plain) > 1 else [node.func.value if isinstance(node.func, ir.Attribute) else plain[0], plain[0]]
        made = ir.BinOp(
            node.line, node.column, node.end_line, node.end_column, sides[0], "*" if name.startswith("mul") else "/", sides[1],
        )  # fmt: skip
        return arithmetic(f, frame, made, values[0], values[1])
    if name in _FILLING:
        return Value(values[-1].units) if values else NOTHING
    if name in _KEEPING:
        return _kept(f, frame, node, name, values)
    said = units.returned_unit(name)
    return units.of(said) if said is not None else NOTHING


def _exponential(f: UnitFlow, frame: Frame, node: ir.Call, value: Value) -> Value:
    inside = node.args[0].value if node.args else node.func
    imaginary = any(isinstance(n, ir.Constant) and isinstance(n.value, complex) for n in ir.walk(inside))
    if DEG in value.plain and imaginary:
        f.report(frame, node, "a phase in degrees reaches exp()")
    return units.of(LINEAR) if DB in value.plain and _close(value.scale, _LN10 / 10, _LN10 / 20) else NOTHING


def _kept(f: UnitFlow, frame: Frame, node: ir.Call, name: str, values: list[Value]) -> Value:
    if name in ("expand_as", "type_as", "to", "masked_fill", "gather", "take_along_dim", "index_select", "broadcast_to"):
        values = values[:1]
    if name == "where" and len(values) == 3:
        values = values[1:]
    if name in _SAME_UNIT or name in ("add", "sub", "subtract"):
        for first, second in itertools.pairwise(values):
            f.same(frame, node, first, second, "chosen or added together")
    with_units = [v.units for v in values if v.units]
    if name in ("cat", "concat", "concatenate", "stack", "hstack", "vstack", "column_stack") and values:
        return Value(values[0].units, items=values[0].items if name == "stack" else None)
    if len(values) == 1 and name in ("list", "tuple", "unbind", "to", "float", "double", "tensor", "array", "asarray", "as_tensor"):
        return Value(values[0].units, values[0].number, values[0].items)
    return Value(frozenset().union(*with_units)) if with_units else NOTHING
