"""What arithmetic and calls do to units, and which of them mix units."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from audits.static.analysis import lookup
from audits.static.analysis.engine import Unit as AnalysedUnit
from audits.static.analysis.externals import positional_fields
from audits.static.analysis.interp import Interp
from audits.static.analysis.values import Cls, Ext, ExtInst, Func, Inst
from audits.static.dataflow import usage
from audits.static.source import ir
from audits.static.subjects import units
from audits.static.subjects.units import DB, DEG, LINEAR, NOTHING, RAD, Unit, Value, shallow

if TYPE_CHECKING:
    from audits.static.source.project import FunctionInfo
    from audits.static.subjects.unitflow import Frame, UnitFlow

_TRIG = frozenset({"sin", "cos", "tan", "sin_", "cos_", "tan_", "sincos", "cosm1"})
_UNARY = _TRIG | {
    "exp",
    "exp_",
    "deg2rad",
    "radians",
    "rad2deg",
    "degrees",
    "sqrt",
    "log10",
    "polar",
    "rect",
    "square",
    "norm",
    "hypot",
    "cdist",
}
_INVERSE = frozenset({"asin", "acos", "atan", "atan2", "arcsin", "arccos", "arctan", "arctan2", "phase", "angle"})
_SAME_UNIT = frozenset(
    {"max", "min", "maximum", "minimum", "clamp", "clip", "clamp_", "where", "lerp", "fmin", "fmax", "clamp_min", "clamp_max"}
)
_KEEPING = _SAME_UNIT | frozenset(
    {"abs", "absolute", "fabs", "mean", "sum", "amax", "amin", "median", "nanmean", "nanmedian", "std", "sort", "sorted", "unique",
     "cat", "concat", "concatenate", "stack", "hstack", "vstack", "column_stack", "to", "float", "double", "half", "int", "tensor",
     "as_tensor", "asarray", "array", "from_numpy", "numpy", "cpu", "cuda", "item", "tolist", "list", "tuple", "reversed", "view",
     "reshape", "flatten", "ravel", "unsqueeze", "squeeze", "expand", "expand_as", "repeat", "tile", "permute", "transpose",
     "contiguous", "clone", "detach", "copy", "round", "floor", "ceil", "masked_fill", "index_select", "gather", "take",
     "take_along_dim", "roll", "flip", "linspace", "arange", "broadcast_to", "unbind", "split", "chunk", "diff", "quantile",
     "percentile", "nan_to_num", "uniform", "float32", "float64", "next", "values", "iter", "deepcopy", "to_numpy", "to_list", "fillna",
     "dropna", "iloc", "head", "requires_grad_", "type", "uniform_", "normal", "normal_", "triangular", "range", "interp", "unwrap",
     "full_like", "astype", "Parameter", "norm", "hypot", "meshgrid", "repeat_interleave", "neg", "negative", "positive", "fmod",
     "remainder", "mod", "atleast_1d", "expand_dims", "swapaxes", "ascontiguousarray", "type_as", "set", "frozenset", "nullcontext"}
)  # fmt: skip
_OF_ONE = frozenset(
    {"to", "float", "double", "half", "tensor", "as_tensor", "asarray", "array", "from_numpy", "numpy", "cpu", "cuda", "item", "tolist",
     "list", "tuple", "view", "reshape", "flatten", "ravel", "unsqueeze", "squeeze", "expand", "expand_as", "repeat", "tile", "permute",
     "contiguous", "clone", "detach", "copy", "requires_grad_", "type", "astype", "Parameter", "float32", "float64", "deepcopy", "split",
     "chunk", "unbind", "broadcast_to", "type_as", "atleast_1d", "expand_dims", "ascontiguousarray", "set", "frozenset", "nullcontext",
     "masked_fill", "gather", "take_along_dim", "index_select", "abs", "round", "values", "mean", "sum", "neg"}
)  # fmt: skip
_ARITHMETIC = {"mul": "*", "multiply": "*", "mul_": "*", "div": "/", "divide": "/", "true_divide": "/", "div_": "/", "add": "+",
               "add_": "+", "sub": "-", "subtract": "-", "sub_": "-"}  # fmt: skip
_SPANNING = frozenset({"linspace", "arange", "range", "uniform", "uniform_"})
_WRAPPING = frozenset({"vectorize", "compile", "script", "jit", "lru_cache", "cache", "njit", "frompyfunc"})
_COMPARING = frozenset(
    {"allclose", "isclose", "equal", "array_equal", "assert_close", "assert_allclose", "approx", "pairwise_distance", "cdist", "less",
     "greater", "less_equal", "greater_equal", "lt", "gt", "le", "ge", "eq", "ne", "not_equal", "mean_squared_error",
     "mean_absolute_error"}
)  # fmt: skip
_OPERANDS = frozenset(
    {"input", "other", "x", "x1", "x2", "a", "b", "min", "max", "a_min", "a_max", "target", "object", "exponent", "fill_value"}
)  # fmt: skip
_CONTAINERS = frozenset(
    {
        "get",
        "pop",
        "setdefault",
        "__getitem__",
        "items",
        "values",
        "keys",
        "update",
        "append",
        "add",
        "extend",
        "insert",
        "appendleft",
        "put",
    }
)
_BUILDERS = frozenset(
    {"dict", "SimpleNamespace", "Namespace", "OrderedDict", "replace", "zip", "product", "enumerate", "pairwise", "chain", "next",
     "tqdm", "iter", "reversed", "sorted", "filter", "islice", "track", "cycle", "getattr", "setattr", "__setattr__", "register_buffer",
     "register_parameter", "partial", "partialmethod", "namedtuple", "reduce", "map", "vmap", "starmap", "imap"}
    | _WRAPPING
)  # fmt: skip
_FILLING = frozenset({"full", "full_like", "new_full", "new_tensor", "fill_", "fill"})
_FULL_WIDTH = re.compile(r"(^|_)(fov|field_of_view|full_width|beamwidth|beam_width)(_|$)")
_TUPLE = "namedtuple()"  # the first entry of a class of named tuples, before its fields
_DISPATCHED = 3
_PARTIAL = "partial()"  # the entry of a partial that holds its function
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
        scale = left.scale if not right.units or left.scale == right.scale else right.scale if not left.units else 1.0
        parts = (left, right)
        return Value(
            left.units | right.units, number, scale=scale, scaled=any(v.scaled for v in parts), imaginary=any(v.imaginary for v in parts)
        )
    if node.op in ("*", "/"):
        out = _product(f, frame, node, left, right)
        return replace(out, imaginary=True) if left.imaginary or right.imaginary else out
    if node.op == "**":
        return power(f, frame, node, left, right)
    return Value(left.units, scale=left.scale) if node.op in ("%", "//") else NOTHING


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
        numerator = left.number if left.number is not None else left.scale
        return Value(scale=numerator * (1.0 / right.scale if inverse and right.scale else right.scale))
    known, other, factor_expr = (left, right, node.right) if left.units else (right, left, node.left)
    if f.is_conversion(factor_expr) or all(u.implied and u.name == DEG for u in known.units):
        return NOTHING
    if inverse and known is right:
        # Fields of one object share units where nothing tells them apart: only a divisor that says decibels itself is surely in them.
        said = any(units.named_unit(ir.last_name(n)) == DB for n in ir.walk(node.right) if isinstance(n, (ir.Name, ir.Attribute)))
        return Value(frozenset(Unit(u.name, -u.power, u.implied or (u.name == DB and not said)) for u in right.units))
    factor = 1.0 / other.scale if inverse and other.scale else other.scale
    return replace(_times(f, frame, node, known, factor), scaled=not other.imaginary, number=None)


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
    return Value(frozenset((Unit(a.name, total, a.implied or total < 0),))) if total else NOTHING


def _same_text(left: ir.Expr, right: ir.Expr) -> bool:
    return ir.dotted(left) is not None and ir.dotted(left) == ir.dotted(right)


def power(f: UnitFlow, frame: Frame, node: ir.Expr, base: Value, exponent: Value) -> Value:
    """Powers: of ten, which turn levels into ratios, and of values."""
    if base.number == 10.0:
        if DB in exponent.plain:
            if _close(exponent.scale, 1.0) and not exponent.scaled:
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
    raised = (Unit(u.name, u.power * exponent.number, u.implied or exponent.number < 0) if u.name != LINEAR else u for u in base.units)
    return Value(frozenset(raised))


def root(f: UnitFlow, frame: Frame, node: ir.Expr, value: Value) -> Value:
    """The square root."""
    if DB in value.said() or value.over_level:
        f.report(frame, node, "the square root of a value in dB is taken")
        return NOTHING
    return Value(frozenset(Unit(u.name, u.power / 2, u.implied) if u.name != LINEAR else u for u in value.units))


# -- calls


@dataclass(frozen=True)
class Given:
    """One argument: `name` where it is passed by name, `node` to report."""

    name: str | None
    node: ir.Expr
    value: Value
    rest: bool = False  # of an unknown number of arguments


def call(f: UnitFlow, frame: Frame, node: ir.Call) -> Value:
    """What a call returns, after its arguments have been held against what they are passed for."""
    given = list(_given(f, frame, node))
    receiver = f.eval(node.func.value, frame) if isinstance(node.func, ir.Attribute) else NOTHING
    callees: frozenset[object] = frozenset(frame.unit.calls.get(node, frozenset()))
    called = NOTHING
    if not isinstance(node.func, ir.Attribute):
        called = f.eval(node.func, frame)
    elif receiver.entries or not all(isinstance(c, Ext) for c in callees):
        called = f.attribute(node.func, receiver, frame)
    for each in given:
        if each.name is not None:
            f.meets(frame, each.node, each.value, each.name)
    _full_width(f, frame, node)
    if called.functions and not isinstance(node.func, ir.Attribute):
        callees = called.functions  # what is known to be passed here, not what may be passed anywhere
    made = _completed(f, frame, node, called, given)
    if made is not None:
        return made
    own = [c for c in callees if isinstance(c, (Func, Cls, Inst)) and not (isinstance(c, Func) and c.weak)]
    if own:
        target = node.func.value if isinstance(node.func, ir.Attribute) else None
        before = set(frame.found)
        out = units.joined([_own(f, frame, target, c, receiver, called, given) for c in own])
        if len(own) > _DISPATCHED:
            frame.found = before  # which of so many is meant here is unknown
        return out
    names = {c.name for c in callees if isinstance(c, (Ext, ExtInst))}
    if len(names) > 1 and callees is called.functions:
        ways = [_apply(f, frame, node, c, given) for c in callees]
        clash = any(units.clash(a, b) for v, w in itertools.combinations(ways, 2) for a in v.plain for b in w.plain)
        return NOTHING if clash else units.joined(ways)  # which of them is chosen may depend on the unit
    called_object = any(isinstance(c, ExtInst) for c in callees)  # such as an outside module
    return outside(f, frame, node, names, receiver, given, method=False if called_object else None)


def _given(f: UnitFlow, frame: Frame, node: ir.Call) -> Iterator[Given]:
    for arg in node.args:
        value = f.eval(arg.value, frame)
        if arg.star == "*":
            if value.items is not None and value.axis == 0:
                yield from (Given(None, arg.value, v) for v in value.items)
            else:
                yield Given(None, arg.value, units.element(value), rest=True)
        elif arg.star == "**":
            yield from (Given(k, arg.value, v) for k, v in value.entries or () if k != "*")
        else:
            yield Given(arg.keyword, arg.value, value)


def _own(f: UnitFlow, frame: Frame, target: ir.Expr | None, callee: object, receiver: Value, called: Value, given: list[Given]) -> Value:
    """The result of a call of the packages' own code, which may change the object `target` that it is called on."""
    if isinstance(callee, Cls):
        return _construct(f, frame, callee, given)
    if isinstance(callee, Func):
        if isinstance(target, ir.Call) and ir.last_name(target.func) == "super" and frame.unit.fn is not None and frame.unit.fn.positional:
            target = ir.Name(target.line, target.column, target.end_line, target.end_column, frame.unit.fn.positional[0].name)
            receiver = f.eval(target, frame)
        out, after = _run(f, frame, callee.fn, given, receiver if callee.bound else None)
        if callee.bound and target is not None and receiver.entries is not None and after.entries:
            for key, value in after.entries:
                receiver = receiver.having(key, value)
            f.rebind(target, receiver, frame)
        return out
    if not isinstance(callee, Inst):
        return NOTHING
    interp = Interp(f.analysis, AnalysedUnit(frame.unit.module, frame.unit.fn, hot=False, settled=True))
    return units.joined([_run(f, frame, fn, given, called)[0] for fn, takes in lookup.call_targets(interp, callee) if takes])


def _run(f: UnitFlow, frame: Frame, fn: FunctionInfo, given: list[Given], receiver: Value | None) -> tuple[Value, Value]:
    names = [p.name for p in fn.positional]
    bound: dict[str, Value] = {}
    if receiver is not None and names:
        if receiver.entries is not None:
            bound[names[0]] = receiver
        names = names[1:]
    extra: list[Value] = []
    named: list[tuple[str, Value]] = []
    own = {p.name for p in fn.node.params}
    plain = [g for g in given if g.name is None]
    for position, each in enumerate(plain):
        if each.rest:
            break  # which parameters it fills is unknown
        if position < len(names):
            f.meets(frame, each.node, each.value, names[position], f"{names[position]} of {fn.node.name}")
            bound[names[position]] = each.value
        else:
            extra.append(each.value)
    for each in given:
        if each.name in own and each.name is not None:
            bound[each.name] = each.value
        elif each.name is not None:
            named.append((each.name, each.value))
    for param in fn.node.params:
        if param.kind == "*":
            bound[param.name] = Value(extra[0].units if extra else frozenset(), items=tuple(extra))
        elif param.kind == "**":
            bound[param.name] = Value(entries=tuple(named))
    return f.run_on(fn, {n: shallow(v) for n, v in bound.items()}, frame)


def _completed(f: UnitFlow, frame: Frame, node: ir.Call, called: Value, given: list[Given]) -> Value | None:
    # partial(f, a)(b) is f(a, b).
    if called.entries and called.entries[0][0] == _TUPLE:
        names = [n for n, _ in called.entries[1:]]
        made = {g.name or (names[i] if i < len(names) else ""): g.value for i, g in enumerate(given)}
        return Value(items=tuple(made.get(n, NOTHING) for n in names), entries=tuple(made.items()))
    if not called.entries or called.entries[0][0] != _PARTIAL:
        return None
    parts = [Given(None if k.isdigit() else k, node, v) for k, v in called.entries[1:]]
    return units.joined([_apply(f, frame, node, target, [*parts, *given]) for target in called.entries[0][1].functions])


def _apply(f: UnitFlow, frame: Frame, node: ir.Call, target: object, given: list[Given]) -> Value:
    """The result of calling a function that is held as a value."""
    if isinstance(target, Ext):
        return outside(f, frame, node, {target.name}, NOTHING, given, method=False)
    return _own(f, frame, None, target, NOTHING, NOTHING, given)


def _construct(f: UnitFlow, frame: Frame, callee: Cls, given: list[Given]) -> Value:
    cls = callee.cls
    order = f.analysis.mro_cache.get(cls) or [cls]
    made = Value(entries=())
    init = next((o.module.functions[f"{o.qualname}.__init__"] for o in order if f"{o.qualname}.__init__" in o.module.functions), None)
    if init is not None:
        made = _run(f, frame, init, given, made)[1]
    else:
        names = positional_fields(order)
        for position, each in enumerate(given):
            name = each.name or (names[position] if position < len(names) and not each.rest else None)
            if name is None:
                continue
            if each.name is None:
                f.meets(frame, each.node, each.value, name, f"{name} of {cls.node.name}")
            said = units.named_unit(name)
            value = units.under_unit(each.value, said) if said is not None else each.value
            made = made.having(name, value)
            if value.known:
                f.keep(cls, name, value, (each.node, frame.context))
        after = next(
            (o.module.functions[f"{o.qualname}.__post_init__"] for o in order if f"{o.qualname}.__post_init__" in o.module.functions), None
        )
        if after is not None:
            for key, value in _run(f, frame, after, [], made)[1].entries or ():
                made = made.having(key, value)
        if any(ir.last_name(b) == "NamedTuple" for b in cls.node.bases):
            held = dict(made.entries or ())
            made = replace(made, items=tuple(held.get(n, NOTHING) for n in names))
    return f.constructed(cls, shallow(made))


def _full_width(f: UnitFlow, frame: Frame, node: ir.Call) -> None:
    # uniform(-fov, fov): a width where a half-width is meant.
    plain = usage.positional(node)
    for low, high in itertools.pairwise(plain):
        if isinstance(low, ir.UnaryOp) and low.op == "-" and _same_text(low.operand, high):
            name = ir.last_name(high).lower()
            if _FULL_WIDTH.search(name) and "half" not in name:
                f.report(frame, high, f"{ir.last_name(high)} is a full width, and it is used on both sides of zero")


# -- calls of outside names


def outside(
    f: UnitFlow, frame: Frame, node: ir.Call, names: set[str], receiver: Value, given: list[Given], *, method: bool | None = None
) -> Value:
    """What a function from outside does to the units of its operands."""
    func = node.func
    if method is None:
        method = isinstance(func, ir.Attribute) and _is_method(f, frame, func)
    last = {n.rpartition(".")[2].rstrip("()") for n in names}
    name = ir.last_name(func) if method or not last else min(last & _TRIG or last)
    plain = [g.value for g in given if g.name is None]
    unary = name in _UNARY and plain  # `xp.sin(x)` of a library that is a variable
    operands = [*([receiver] if method and not unary else []), *plain]
    named = {g.name: g.value for g in given if g.name is not None}
    if isinstance(func, ir.Attribute) and name in _CONTAINERS:
        found = _container(f, frame, node, func, name, receiver, given)
        if found is not None:
            return found
    built = _built(f, frame, node, name, given, plain) if name in _BUILDERS else None
    if built is not None:
        return built
    out = f.operation(frame, node, name, operands, named)
    if isinstance(func, ir.Attribute) and method and name.endswith("_") and not name.endswith("__") and name != "requires_grad_":
        f.store(func.value, out if name not in ("copy_", "fill_") else plain[0] if plain else NOTHING, frame, func.value)
    target = usage.keyword(node, "out")
    if target is not None:
        f.store(target, out, frame, target)
    return out


def _is_method(f: UnitFlow, frame: Frame, func: ir.Attribute) -> bool:
    """Whether a call is one on a value, and not of a function in a module."""
    root: ir.Expr = func.value
    while isinstance(root, ir.Attribute):
        root = root.value
    if not isinstance(root, ir.Name) or root.id in frame.env:
        return True
    return not any(isinstance(v, Ext) and not v.name.startswith("?.") for v in usage.name_values(f.analysis, frame.unit, root.id))


def _container(
    f: UnitFlow, frame: Frame, node: ir.Call, func: ir.Attribute, name: str, receiver: Value, given: list[Given]
) -> Value | None:
    """Methods of dictionaries and lists."""
    first = given[0] if given else None
    key = first.node.value if first is not None and isinstance(first.node, ir.Constant) else None
    if name in ("get", "pop", "setdefault", "__getitem__") and first is not None:
        rest = [g.value for g in given[1:]]
        if name == "setdefault" and isinstance(key, str) and rest:
            f.meets(frame, given[1].node, rest[0], key)
            f.rebind(func.value, receiver.having(key, rest[0]), frame)
        if not isinstance(key, str):
            return units.joined([receiver.entry(None) or units.element(receiver), *rest])
        said, entry = units.named_unit(key), receiver.entry(key)
        return units.of(said) if said is not None else units.joined([entry, *rest]) if entry is not None else None
    if name == "items":
        entry = receiver.entry(None)
        return (
            units.holding([Value(items=(NOTHING, entry))])
            if entry is not None
            else Value(each=Value(items=(NOTHING, units.element(receiver))))
        )
    if name == "values" and receiver.entries is not None:
        return units.holding([v for _, v in receiver.entries])
    if name == "keys" or (name == "update" and not given):
        return NOTHING
    if name == "update":
        for each in given:
            for k, v in [(each.name, each.value)] if each.name is not None else each.value.entries or ():
                receiver = receiver.having(k, v)
        f.rebind(func.value, receiver, frame)
        return NOTHING
    if name in ("append", "add", "extend", "insert", "appendleft", "put") and given and receiver.scale == 1.0:
        value = units.element(given[-1].value) if name == "extend" else given[-1].value
        if len(given) == 1 or name == "insert":
            f.meets(frame, given[-1].node, value, ir.last_name(func.value))
            if value.known:
                f.put(func.value, receiver, value, frame)
                return NOTHING
    return None


def _built(f: UnitFlow, frame: Frame, node: ir.Call, name: str, given: list[Given], plain: list[Value]) -> Value | None:
    """Containers, and functions applied to their elements."""
    first = plain[0] if plain else NOTHING
    named = [(g.name, g.value) for g in given if g.name is not None]
    if name in ("dict", "SimpleNamespace", "Namespace", "OrderedDict"):
        return Value(entries=(*(first.entries or ()), *named))
    if name == "replace" and first.entries is not None:
        for key, value in named:
            first = first.having(key, value)
        return first
    if name in ("zip", "product"):
        return Value(each=Value(items=tuple(units.element(v) for v in plain)))
    if name == "enumerate":
        return Value(each=Value(items=(f.index, units.element(first))))
    if name == "pairwise":
        return Value(each=Value(items=(units.element(first),) * 2))
    if name == "chain":
        return units.holding([units.element(v) for v in plain])
    if name == "next":
        return units.joined([units.element(first), *plain[1:]])
    if name in ("tqdm", "iter", "reversed", "sorted", "filter", "islice", "track", "cycle"):
        return plain[1] if name == "filter" and len(plain) > 1 else first
    if name == "getattr" and len(given) > 1:
        text = given[1].node
        if isinstance(text, ir.Constant) and isinstance(text.value, str):
            found = f.eval(ir.Attribute(node.line, node.column, node.end_line, node.end_column, given[0].node, text.value), frame)
            return units.joined([found, *plain[2:]])
    if name in ("setattr", "__setattr__", "register_buffer", "register_parameter") and len(plain) > 1:
        nodes = [g.node for g in given if g.name is None][: 2 if name.startswith("register") else 3]
        holder = nodes[0] if len(nodes) == 3 else node.func.value if isinstance(node.func, ir.Attribute) else None
        field = nodes[-2]
        if holder is not None and isinstance(field, ir.Constant) and isinstance(field.value, str):
            target = ir.Attribute(node.line, node.column, node.end_line, node.end_column, holder, field.value)
            f.store(target, plain[len(nodes) - 1], frame, nodes[-1])
        return NOTHING
    if name in ("partial", "partialmethod") and given and first.functions:
        rest = [*((str(i), v) for i, v in enumerate(plain[1:])), *named]
        for function in first.functions:
            _meets_parameters(f, frame, function, [g for g in given if g is not given[0]])
        return Value(entries=((_PARTIAL, first), *rest))
    if name in _WRAPPING:
        return Value(functions=first.functions)
    if name == "namedtuple" and len(given) > 1:
        names = _field_names(given[1].node)
        return Value(entries=((_TUPLE, NOTHING), *((n, NOTHING) for n in names))) if names else NOTHING
    if name == "reduce" and first.functions and len(plain) > 1:
        out = units.joined(plain[2:] or [units.element(plain[1])])
        for _ in range(2):
            both = [Given(None, node, out), Given(None, node, units.element(plain[1]))]
            out = units.joined([_apply(f, frame, node, function, both) for function in first.functions])
        return out
    if name in ("map", "vmap", "starmap", "imap") and first.functions:
        elements = [units.element(v) for v in plain[1:]]
        if name == "starmap" and elements and elements[0].items is not None:
            elements = list(elements[0].items)
        each = [Given(None, node, v) for v in elements]
        if name != "vmap":
            return units.holding([_apply(f, frame, node, function, each) for function in first.functions])
        return first
    return None


def _field_names(expr: ir.Expr) -> list[str]:
    parts = expr.items if isinstance(expr, ir.Sequence) else [expr]
    return [n for p in parts if isinstance(p, ir.Constant) and isinstance(p.value, str) for n in p.value.replace(",", " ").split()]


def _meets_parameters(f: UnitFlow, frame: Frame, function: object, given: list[Given]) -> None:
    if isinstance(function, Func):
        names = [p.name for p in function.fn.positional][1 if function.bound else 0 :]
        for name, each in zip(names, [g for g in given if g.name is None], strict=False):
            f.meets(frame, each.node, each.value, name, f"{name} of {function.fn.node.name}")


def operation(f: UnitFlow, frame: Frame, node: ir.Call, name: str, values: list[Value], named: dict[str, Value]) -> Value:
    """What a function of numbers does to the units of its operands."""
    values = values + [v for k, v in named.items() if k in _OPERANDS]
    first = values[0] if values else NOTHING
    if name in _TRIG:
        if DEG in first.within:
            f.report(frame, node, f"a value in degrees reaches {name}()")
        return NOTHING
    if name in _INVERSE:
        if len(values) > 1:
            f.same(frame, node, first, values[1], "compared")
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
        angle = named.get("angle", values[1] if len(values) > 1 else NOTHING)
        if DEG in angle.within:
            f.report(frame, node, f"a value in degrees reaches the angle of {name}()")
        return NOTHING
    if name == "complex" and len(values) > 1:
        return replace(values[1], imaginary=True, number=None)
    if name in ("exp", "exp_"):
        return _exponential(f, frame, node, first)
    if name in ("log10", "log10_", "log", "log2", "log1p", "ln"):
        if DB in first.said():
            f.report(frame, node, "the logarithm of a value in dB is taken")
        return Value(
            log=name in ("log10", "log10_"), number=math.log(first.number) if name == "log" and first.number and first.number > 0 else None
        )
    if name in ("sqrt", "sqrt_", "rsqrt"):
        return root(f, frame, node, first) if name != "rsqrt" else NOTHING
    if name in ("square", "square_"):
        return power(f, frame, node, first, Value(number=2.0))
    if name in ("pow", "power", "float_power", "pow_") and len(values) > 1:
        return power(f, frame, node, values[0], values[1])
    if name in _ARITHMETIC and len(values) > 1:
        plain = usage.positional(node)
        sides = plain if len(plain) > 1 else [node.func.value if isinstance(node.func, ir.Attribute) else node, *plain, node][:2]
        made = ir.BinOp(node.line, node.column, node.end_line, node.end_column, sides[0], _ARITHMETIC[name], sides[1])
        return f.arithmetic(frame, made, values[0], values[1])
    if name in _FILLING:
        return Value(values[-1].units) if values else NOTHING
    if name in _COMPARING or name.endswith(("Loss", "_loss")):
        for one, other in itertools.pairwise(values[:2]):
            f.same(frame, node, one, other, "compared")
        return NOTHING
    if name == "copy_" and len(values) > 1:
        return values[1]
    if name in _KEEPING:
        return _kept(f, frame, node, name, values, named)
    said = units.returned_unit(name)
    return units.of(said) if said is not None else NOTHING


def _exponential(f: UnitFlow, frame: Frame, node: ir.Call, value: Value) -> Value:
    if DEG in value.within and value.imaginary:
        f.report(frame, node, "a phase in degrees reaches exp()")
    if DB in value.said() and value.scale == 1.0 and not value.scaled:
        f.report(frame, node, "the exponential of a value in dB is taken")
    return units.of(LINEAR) if DB in value.plain and _close(value.scale, _LN10 / 10, _LN10 / 20) else NOTHING


def _kept(f: UnitFlow, frame: Frame, node: ir.Call, name: str, values: list[Value], named: dict[str, Value]) -> Value:
    first = values[0] if values else NOTHING
    if name in _OF_ONE:
        return _of_one(first, name, [*values[1:], *(v for k, v in named.items() if k in ("dim", "axis"))])
    if name in _SPANNING:
        for one, other in itertools.combinations(values, 2):
            f.same(frame, node, one, other, "put in one range")
    if name in ("cat", "concat", "concatenate", "stack", "hstack", "vstack", "column_stack") and values:
        parts = first.items or ()
        for one, other in itertools.combinations(parts, 2):
            if one.said() | other.said() <= {DEG, RAD}:
                f.same(frame, node, one, other, "stacked")
        places = [v for k, v in named.items() if k in ("dim", "axis")] + values[1:2]
        axis = -1 if name == "column_stack" or (places and places[0].number not in (None, 0.0)) else 0
        by_item = name in ("stack", "column_stack", "vstack")
        return Value(first.units, items=first.items if by_item else None, each=first.each if by_item else None, axis=axis)
    if name == "where" and len(values) == 3:
        values = values[1:]
    if name in _SAME_UNIT:
        for one, other in itertools.combinations(values, 2):
            f.same(frame, node, one, other, "chosen or added together")
    with_units = [v for v in values if v.units]
    if not with_units:
        return Value(number=first.number, each=first.each, items=first.items, axis=first.axis) if len(values) == 1 else NOTHING
    scales = {v.scale for v in with_units}
    out = frozenset().union(*(v.units for v in with_units))
    return Value(out, scale=scales.pop() if len(scales) == 1 else 1.0, scaled=any(v.scaled for v in with_units))


def _of_one(value: Value, name: str, places: list[Value]) -> Value:
    """A value in another form: moved, copied, made a tensor, taken apart."""
    if name == "unbind" and value.items is not None:
        last = bool(places) and places[0].number not in (None, 0.0)
        return replace(value, axis=0) if last == (value.axis == -1) else units.element(value)
    if (
        name in ("reshape", "view", "flatten", "ravel", "permute", "split", "chunk", "gather", "take_along_dim", "index_select")
        and not value.axis
    ):
        return replace(value, items=None, each=None, number=None)
    return value
