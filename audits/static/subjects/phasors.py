"""Complex exponentials in any spelling, and whether their phase is that of a wave over an array.

Runs functions over what their values are made of, in order, as `unitflow` runs them over units.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import replace
from functools import cache

from audits.static.dataflow import usage
from audits.static.dataflow.flow import Flow
from audits.static.source import ir
from audits.static.source.project import ClassInfo, FunctionInfo
from audits.static.subjects.unitflow import Env, Frame, UnitFlow
from audits.static.subjects.units import NOTHING, Value, united

Marks = frozenset[str]

_TRIG = frozenset({"sin", "cos", "tan", "sin_", "cos_", "tan_"})
_INVERSE = frozenset(
    {"asin", "acos", "atan", "atan2", "arcsin", "arccos", "arctan", "arctan2", "angle", "phase", "log", "log10", "log2"}
)  # fmt: skip
_NORMS = frozenset({"norm", "cdist", "hypot", "dist", "vector_norm", "pairwise_distance", "pdist", "euclidean"})
_RUNS = frozenset({"arange", "range", "mgrid", "ogrid", "indices", "count"})
_GRIDS = frozenset({"linspace"})
_FILLING = frozenset({"full", "full_like", "new_full", "new_tensor"})
_PRODUCTS = frozenset({"dot", "einsum", "inner", "vdot", "vecdot"})
_PROJECTING = _PRODUCTS | {"matmul", "mm", "bmm", "mv", "tensordot"}
_COMPLEX = frozenset({"complex", "complex64", "complex128", "cfloat", "cdouble"})
_ROOTS = frozenset({"sqrt", "sqrt_"})
_POWERS = frozenset({"pow", "power", "float_power", "pow_"})
# What computes with numbers or moves them, so that the result is made of what the operands are made of.
_KEEPING = frozenset(
    {"mul", "multiply", "mul_", "div", "divide", "div_", "true_divide", "add", "add_", "sub", "subtract", "sub_", "rsub", "neg", "neg_",
     "negative", "positive", "addcmul", "addcmul_", "addcdiv", "matmul", "mm", "bmm", "mv", "outer", "ger", "kron", "cross", "tensordot",
     "multi_dot", "baddbmm", "addmm", "einsum", "dot", "inner", "vdot", "vecdot", "abs", "absolute", "fabs", "mean", "sum", "prod",
     "cumsum", "cumprod", "amax", "amin", "cat", "concat", "concatenate", "stack", "hstack", "vstack", "dstack", "column_stack", "to",
     "float", "double", "half", "int", "tensor", "as_tensor", "asarray", "array", "from_numpy", "numpy", "cpu", "cuda", "item", "tolist",
     "list", "tuple", "view", "reshape", "flatten", "ravel", "unsqueeze", "squeeze", "expand", "expand_as", "repeat", "tile", "permute",
     "transpose", "swapaxes", "moveaxis", "movedim", "contiguous", "clone", "detach", "copy", "round", "rint", "floor", "ceil", "trunc",
     "remainder", "fmod", "mod", "masked_fill", "index_select", "gather", "take", "take_along_dim", "roll", "flip", "broadcast_to",
     "broadcast_tensors", "unbind", "split", "chunk", "diff", "nan_to_num", "float32", "float64", "deepcopy", "requires_grad_", "type",
     "astype", "Parameter", "Buffer", "meshgrid", "repeat_interleave", "atleast_1d", "atleast_2d", "expand_dims", "ascontiguousarray",
     "type_as", "clamp", "clip", "clamp_", "clamp_min", "clamp_max", "maximum", "minimum", "where", "deg2rad", "rad2deg", "radians",
     "degrees", "long", "conj", "conj_physical", "resolve_conj", "reciprocal", "adjoint", "t", "rearrange", "squeeze_", "unsqueeze_",
     "real", "imag", "cartesian_prod", "vander", "result", "wait"}
)  # fmt: skip

_WAVE = frozenset(
    {"wavelength", "wavelengths", "lambda", "lam", "lambd", "lmbda", "lamda", "wavenumber", "wavenum", "k0", "wl", "wavevector"}
)  # fmt: skip
_DISTANCE = frozenset(
    {"distance", "distances", "dist", "dists", "range", "ranges", "radius", "path", "paths", "projection"}
)  # fmt: skip
_ELEMENT = frozenset(
    {"position", "positions", "element", "elements", "antenna", "antennas", "sensor", "sensors", "coord", "coords", "coordinates",
     "spacing", "pitch", "aperture", "xyz", "elem", "elems", "pos", "locations"}
)  # fmt: skip
_DIRECTION = frozenset({"direction", "directions", "dirs", "cosine", "cosines", "doa", "doas", "aoa", "aoas"})
_SINES = re.compile(
    r"^(sin|sine|cos)_(az|azimuth|el|elevation|theta|phi|angle|doa|aoa)|^(u|sin|sine|cosine)_grid$|^(az|azimuth|doa)_(sin|cos)$"
)
_COSINES = frozenset({"u", "us", "ux", "uy", "sine", "sines", "sins"})
_MOTION = frozenset({"doppler", "velocity", "cfo", "fd", "time", "times", "fs", "embedding", "rope"})
_NUMBERS = frozenset({"k", "kw", "kk", "beta", "kappa", "k0"})
_LIGHT = (299792458.0, 3e8, 2.998e8, 2.99792458e8)

# Marks of what a value is made of.
WAVE, DISTANCE, NAMED, ELEMENT, DIRECTION, TRIG, RUN, PI = "wave", "distance", "named distance", "element", "direction", "trig", "run", "pi"
MOTION, NUMBER, SQUARE, SQUARES, UNIT = "motion", "wave number", "square", "sum of squares", "unit vector"
COSINE, GRID, FACTOR = "u", "grid", "another factor than pi"


def geometric(marks: Marks, *, pair: bool = False) -> bool:
    """Whether a wave reaches the elements of an array at different times: a direction cosine or a distance in its phase.

    A `pair` is a cosine and a sine that are not joined in one complex number.
    """
    place = {DISTANCE, NAMED, ELEMENT}
    if MOTION in marks and not marks & place:
        return False
    if WAVE in marks:
        return True
    if pair:
        return marks >= {TRIG, RUN, PI}
    if DISTANCE in marks or (NAMED in marks and marks & {NUMBER, SQUARE}):
        return True
    if marks >= {COSINE, RUN, PI} and not marks & {FACTOR, SQUARE, MOTION}:
        return True  # elements at half a wavelength
    if marks & {TRIG, DIRECTION, UNIT} and marks & {ELEMENT, RUN}:
        return True
    return any(marks >= both for both in ({TRIG, PI}, {DIRECTION, PI}, {TRIG, UNIT}, {TRIG, SQUARE}))


@cache
def said(name: str) -> Marks:
    """What a name says of its value."""
    lower = name.lower()
    words = set(re.split(r"[_\W]+", lower))
    out = set()
    if words & _WAVE or "wavelength" in lower or "wavenumber" in lower or {"speed", "light"} <= words:
        out.add(WAVE)
    for mark, known in ((NAMED, _DISTANCE), (ELEMENT, _ELEMENT), (DIRECTION, _DIRECTION), (MOTION, _MOTION)):
        if words & known:
            out.add(mark)
    if _SINES.match(lower):
        out.add(DIRECTION)
    if lower in _NUMBERS:
        out.add(NUMBER)
    if words & _COSINES:
        out.add(COSINE)
    return frozenset(out)


def marks(value: Value) -> Marks:
    """What a value, or what it holds, is made of."""
    held = [*(value.items or ()), *([value.each] if value.each is not None else [])]
    return value.marks.union(*(marks(v) for v in held)) if held else value.marks


class Waves(UnitFlow):
    """Finds where a phase of a wave over an array is turned into a complex number.

    The functions of `opaque` are not entered: what they return is made of nothing.
    """

    index = Value(marks=frozenset({RUN}))

    def __init__(self, flow: Flow, opaque: Iterable[FunctionInfo]) -> None:
        super().__init__(flow)
        self.opaque = frozenset(opaque)

    def report(self, frame: Frame, node: ir.Node, message: str) -> None:
        """Units are none of this."""

    def meets(self, frame: Frame, node: ir.Node, value: Value, name: str, what: str = "") -> None:
        """Units are none of this."""

    def same(self, frame: Frame, node: ir.Node, first: Value, second: Value, done: str) -> None:
        """Units are none of this."""

    def under_name(self, name: str, value: Value) -> Value:
        """A value with what its name says."""
        if value.phasor is not None:
            return value
        more = said(name)
        if COSINE in more and RUN in value.marks:  # a grid of them is no index of elements, and an index is none of them
            more -= {COSINE} if GRID not in value.marks else set()
            value = replace(value, marks=value.marks - {RUN}) if COSINE in more else value
        return _with(value, more)

    def telling(self, value: Value) -> Value:
        """A value without its units."""
        if NUMBER in value.marks:
            value = replace(value, marks=value.marks - {NUMBER})
        if value.number is not None and not value.marks:
            value = replace(value, number=None)
        if value.units or value.entries or value.items or value.each:
            entries = tuple((k, self.telling(v)) for k, v in value.entries or ())
            value = replace(
                value, units=frozenset(), scale=1.0, scaled=False, log=False, full_width=False,
                entries=tuple((k, v) for k, v in entries if v.known and v != self.under_name(k, NOTHING)) or None,
                items=tuple(self.telling(v) for v in value.items) if value.items and any(v.known for v in value.items) else None,
                each=self.telling(value.each) if value.each is not None else None,
            )  # fmt: skip
        return value

    def constructed(self, cls: ClassInfo, made: Value) -> Value:
        """Objects of one class are not told apart; their fields are."""
        return Value(items=made.items)

    def one_of(self, held: list[Value]) -> Value:
        """A field that was given these; one class may serve several purposes, so it is made of what all are made of."""
        made = [v.marks for v in held if v.marks]
        return replace(super().one_of(held), marks=frozenset.intersection(*made) if made else frozenset())

    def run_on(self, fn: FunctionInfo, given: Env, caller: Frame) -> tuple[Value, Value]:
        """What a function returns for arguments that are made of something."""
        if fn in self.opaque and caller.depth >= 0:
            return NOTHING, NOTHING
        return super().run_on(fn, given, caller)

    # -- exponentials

    def exponential(self, frame: Frame, node: ir.Node, phase: Marks, *, pair: bool = False) -> Value:
        """Note an exponential of a phase."""
        if geometric(phase, pair=pair):
            frame.found.add((node,))
        return Value(phasor=phase)

    def finish(self, frame: Frame) -> None:
        """A cosine and a sine of one phase that one function computes stand for its exponential."""
        notes = [n for n in frame.noted if isinstance(n, tuple)]
        for name, phase, node in notes:
            if name == "cos" and any(other == "sin" and phase == same for other, same, _ in notes):
                self.exponential(frame, node, phase, pair=True)

    # -- expressions

    def _constant(self, node: ir.Constant, frame: Frame) -> Value:
        value = super()._constant(node, frame)
        if isinstance(node.value, complex) and abs(node.value) != 1.0:
            return _with(value, frozenset({FACTOR}))
        if value.number is None:
            return value
        if value.number in _LIGHT:
            return _with(value, frozenset({WAVE}))
        near = any(math.isclose(value.number, n, rel_tol=1e-4) for n in (math.pi, math.tau))
        return _with(value, frozenset({PI})) if near else value

    def _name(self, node: ir.Name, frame: Frame) -> Value:
        value = self._variable(node, frame)
        if value.number is not None and not value.marks and value.number in (math.pi, math.tau):
            value = _with(value, frozenset({PI}))
        return self.under_name(node.id, value)

    def attribute(self, node: ir.Attribute, base: Value, frame: Frame) -> Value:
        """What an attribute is made of."""
        value = super().attribute(node, base, frame)
        if value.number is not None and node.attr in ("pi", "tau"):
            value = _with(value, frozenset({PI}))
        return self.under_name(node.attr, value)

    def _unary(self, node: ir.UnaryOp, frame: Frame) -> Value:
        value = self.eval(node.operand, frame)
        return replace(value, number=-value.number) if node.op == "-" and value.number is not None else value

    def store(self, target: ir.Expr, value: Value, frame: Frame, source: ir.Expr) -> None:
        """Bind an assignment target; the parts of a complex array may be filled one by one."""
        if isinstance(target, ir.Subscript) and isinstance(target.value, ir.Attribute):
            part = target.value.attr
        else:
            part = target.attr if isinstance(target, ir.Attribute) else ""
        if part in ("real", "imag") and value.turned is not None:
            self.exponential(frame, source, value.turned)
        super().store(target, value, frame, source)

    def part(self, frame: Frame, node: ir.Subscript, base: Value, keys: Value) -> Value:
        """An item; one of a table of phasors is a phasor."""
        value = super().part(frame, node, base, keys)
        if base.phasor is not None and geometric(marks(keys)):
            return self.exponential(frame, node, base.phasor | marks(keys))
        return value

    def arithmetic(self, frame: Frame, node: ir.BinOp, left: Value, right: Value) -> Value:
        """What a binary operation makes."""
        if node.op == "**":
            return self._power(frame, node, left, right)
        numbers = left.number, right.number
        number = None
        if numbers[0] is not None and numbers[1] is not None and (numbers[1] or node.op != "/"):
            one, other = numbers[0], numbers[1]
            number = {"+": one + other, "-": one - other, "*": one * other}.get(node.op, one / other if node.op == "/" else None)
        out = marks(left) | marks(right)
        both = left.turned is not None and right.turned is not None
        if node.op in ("+", "-") and both and left.imaginary != right.imaginary:
            return self.exponential(frame, node, (left.turned or frozenset()) | (right.turned or frozenset()))
        if node.op in ("+", "-") and SQUARE in out:
            out |= {SQUARES}
        if node.op == "*" and isinstance(node.left, (ir.Name, ir.Attribute)) and ir.dotted(node.left) == (ir.dotted(node.right) or "-"):
            out |= {SQUARE}
        if node.op == "@" and TRIG in out:
            out |= {UNIT}
        out = self._factored(node, left, right, number, out)
        if node.op == "/":
            if DISTANCE in right.marks:
                out = (out - {DISTANCE, SQUARES}) | left.marks | {UNIT}
            if right.number == 180.0:
                out -= {PI}
            if left.number is not None and PI in left.marks and right.number is not None and right.number % 1:
                out |= {WAVE}
        return Value(number=number, marks=out, imaginary=left.imaginary or right.imaginary, turned=united([left.turned, right.turned]))

    def _factored(self, node: ir.BinOp, left: Value, right: Value, number: float | None, out: Marks) -> Marks:
        # Whether a phase has another factor than pi: a full turn, the length of a transform.
        if number is not None:
            return out - {FACTOR} | ({FACTOR} if PI in out and not math.isclose(abs(number), math.pi, rel_tol=1e-4) else set())
        factor = left.number if left.number is not None and not left.marks else right.number if not right.marks else None
        if node.op == "/":
            return out - {FACTOR} if factor == 2.0 and factor == right.number else out | {FACTOR}
        if node.op == "*" and factor is not None and abs(factor) != 1.0:
            return out - {FACTOR} if abs(factor) == 0.5 else out | {FACTOR}
        turn = any(v.number is not None and math.isclose(v.number, math.tau) for v in (left, right))
        return out | {FACTOR} if turn else out

    def _power(self, frame: Frame, node: ir.Expr, base: Value, exponent: Value) -> Value:
        if base.number is not None and math.isclose(base.number, math.e, rel_tol=1e-4) and exponent.imaginary:
            return self.exponential(frame, node, marks(exponent))
        if base.phasor is not None:
            return self.exponential(frame, node, base.phasor | marks(exponent))
        out = marks(base) | marks(exponent)
        if exponent.number == 2:
            out |= {SQUARE}
        if exponent.number in (0.5, -0.5) and SQUARES in out:
            out |= {DISTANCE}
        return Value(marks=out, imaginary=base.imaginary)

    def operation(self, frame: Frame, node: ir.Call, name: str, values: list[Value], named: dict[str, Value]) -> Value:
        """What a function of numbers makes of its operands."""
        values = [
            *values,
            *(
                v
                for k, v in named.items()
                if k in ("input", "other", "x", "real", "imag", "tensors", "vec2", "min", "max", "value", "alpha")
            ),
        ]
        first = values[0] if values else NOTHING
        made = frozenset().union(*(marks(v) for v in values))
        if name in _TRIG:
            inner = marks(first)
            frame.noted.add((name.rstrip("_"), inner, node))
            window = PI in inner and bool(inner & {RUN, GRID}) and WAVE not in inner
            return Value(marks=frozenset() if window else frozenset({TRIG}), turned=inner, imaginary=first.imaginary)
        if name in ("polar", "rect"):
            angle = named.get("angle", values[1] if len(values) > 1 else NOTHING)
            return self.exponential(frame, node, marks(angle))
        if name in ("exp", "exp_", "expm1", "exp2"):
            return self.exponential(frame, node, made) if first.imaginary else NOTHING
        if name in _COMPLEX:
            return self._complex(frame, node, values, made)
        if name == "view_as_complex":
            turned = united([first.turned, *(v.turned for v in [*(first.items or ()), *([first.each] if first.each else [])])])
            return self.exponential(frame, node, turned) if turned is not None else Value(marks=made, imaginary=True)
        if name in _POWERS and len(values) > 1:
            return self._power(frame, node, values[0], values[1])
        if name in ("vander", "cumprod") and first.phasor is not None:
            return self.exponential(frame, node, first.phasor)
        if name in _ROOTS:
            imaginary = first.imaginary or (first.number is not None and first.number < 0)
            return Value(marks=made | ({DISTANCE} if SQUARES in made else set()), imaginary=imaginary)
        return self._numbers(frame, node, name, values, made)

    def _complex(self, frame: Frame, node: ir.Call, values: list[Value], made: Marks) -> Value:
        if len(values) < 2:
            text = usage.positional(node)
            imaginary = bool(text) and isinstance(text[0], ir.Constant) and isinstance(text[0].value, str)
            return replace(values[0], imaginary=values[0].imaginary or imaginary) if values else NOTHING
        if values[0].turned is not None and values[1].turned is not None:
            return self.exponential(frame, node, values[0].turned | values[1].turned)
        return Value(marks=made, imaginary=True)

    def _numbers(self, frame: Frame, node: ir.Call, name: str, values: list[Value], made: Marks) -> Value:
        first = values[0] if values else NOTHING
        if name in _NORMS:
            return Value(marks=made | {DISTANCE})
        if name == "normalize":
            return Value(marks=made | {UNIT})
        if name in ("square", "square_"):
            return Value(marks=made | {SQUARE})
        if name in _RUNS:
            return Value(marks=frozenset({RUN}))
        if name in _GRIDS:
            return Value(marks=made - {PI} if PI in made else made | {RUN, GRID})
        if name in _INVERSE:
            return NOTHING
        if name in _FILLING:
            return Value(marks=marks(values[-1]) if values else frozenset())
        if name == "meshgrid":
            return Value(items=tuple(values))
        if name in _PRODUCTS:
            plain = [ir.dotted(e) for e in usage.positional(node) if ir.dotted(e)]
            made |= {SQUARE, SQUARES} if len(plain) != len(set(plain)) or SQUARE in made else set()
        if name in _PROJECTING and TRIG in made:
            made |= {UNIT}
        if name == "sum" and SQUARE in made:
            made |= {SQUARES}
        if name in _KEEPING:
            held = [*values, *(first.items or ()), *([first.each] if first.each is not None else [])]
            turned = united([v.turned for v in held])
            number = first.number if len(values) == 1 else None
            items = first.items if name in ("list", "tuple", "unbind", "broadcast_tensors") else None
            return Value(
                number=number, items=items, marks=made, turned=turned, phasor=first.phasor, imaginary=any(v.imaginary for v in held)
            )
        return Value(marks=said(name))


def _with(value: Value, more: Marks) -> Value:
    return value if more <= value.marks else replace(value, marks=value.marks | more)
