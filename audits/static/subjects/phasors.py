"""Complex exponentials in any spelling, and whether their phase is that of a wave over an array."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from audits.static.analysis.values import Func, Inst
from audits.static.dataflow import usage
from audits.static.dataflow.flow import Flow, Place
from audits.static.dataflow.value_origins import Origins
from audits.static.source import ir
from audits.static.source.project import FunctionInfo

_TRIG = frozenset({"sin", "cos", "tan", "sincos"})
_NORMS = frozenset({"norm", "cdist", "hypot", "dist", "vector_norm", "pairwise_distance", "pdist", "euclidean"})
_ROOTS = frozenset({"sqrt", "rsqrt", "pow", "float_power"})
_RUNS = frozenset({"arange", "linspace", "meshgrid", "range", "mgrid", "indices"})
_WAVE = frozenset({"wavelength", "lambda", "lam", "lambd", "lmbda", "lamda", "wavenumber", "wavenum", "k0", "wl", "carrier", "wavevector"})
_DISTANCE = frozenset(
    {"distance", "distances", "dist", "dists", "range", "ranges", "radius", "path", "paths", "delta", "difference", "projection"}
)
_SHORT = frozenset({"d", "r", "u", "x", "rho"})
_ELEMENT = frozenset(
    {"position", "positions", "element", "elements", "antenna", "antennas", "sensor", "sensors", "coord", "coords",
     "coordinates", "spacing",
     "pitch", "aperture", "xyz", "elem", "elems", "pos", "locations"}
)  # fmt: skip
_MOTION = frozenset({"doppler", "velocity", "cfo", "freqs", "inv", "rope", "theta", "embedding"})
_LIGHT = (299792458.0, 3e8, 2.998e8, 2.99792458e8)
_DEPTH = 14


@dataclass
class Evidence:
    """What the phase of an exponential is made of."""

    trig: bool = False
    distance: bool = False
    named_distance: bool = False
    short: bool = False
    wave: bool = False
    element: bool = False
    run: bool = False
    pi: bool = False
    params: set[str] = field(default_factory=set)
    motion: bool = False

    def merge(self, other: Evidence) -> None:
        """Add what another part of the phase is made of; parameters stay its own."""
        for name in ("trig", "distance", "named_distance", "short", "wave", "element", "run", "pi", "motion"):
            setattr(self, name, getattr(self, name) or getattr(other, name))

    def geometric(self, *, pair: bool) -> bool:
        """Whether a wave reaches the elements of an array at different times: a direction cosine or a distance in its phase."""
        if self.wave and (self.trig or self.distance or self.named_distance or self.element or self.short):
            return True
        if self.wave and self.run and not self.motion:
            return True
        if pair:
            return self.trig and self.run and self.pi
        return (self.trig and (self.pi or self.element or self.run)) or self.distance


@dataclass(frozen=True)
class Phasor:
    """An exponential and the expressions that make up its phase."""

    node: ir.Expr
    phases: tuple[ir.Expr, ...]
    pair: bool = False


class Phasors:
    """Finds exponentials in one place after another."""

    def __init__(self, flow: Flow) -> None:
        self.flow = flow
        self.bindings = usage.Bindings(flow)
        self.origins = Origins(flow, callers=False)

    def inside(self, place: Place, nodes: list[ir.Node]) -> Iterator[Phasor]:
        """The exponentials among the nodes of one unit."""
        cosines: dict[str, ir.Expr] = {}
        sines: dict[str, ir.Expr] = {}
        for node in nodes:
            if not isinstance(node, ir.Expr):
                continue
            phases = self._direct(place, node)
            if phases:
                yield Phasor(node, tuple(phases))
            operand = _trig_operand(node)
            if operand is not None and isinstance(node, ir.Call):
                (cosines if ir.last_name(node.func) == "cos" else sines).setdefault(_key(operand), operand)
        complex_here = any(_joins(n) for n in nodes)
        for key, operand in cosines.items():
            if key in sines:
                yield Phasor(operand, (operand,), pair=not complex_here)

    def _direct(self, place: Place, node: ir.Expr) -> list[ir.Expr]:
        if isinstance(node, ir.Call):
            name = self._name(place, node)
            operands = _operands(node)
            if name in ("exp", "exp_", "expm1") and operands and self.imaginary(place.at(operands[0])):
                return operands[:1]
            if name in ("polar", "rect"):
                angle = usage.keyword(node, "angle") or (operands[1] if len(operands) > 1 else None)
                return [angle] if angle is not None else []
            if name in ("pow", "float_power") and len(operands) == 2 and _euler(operands[0]) and self.imaginary(place.at(operands[1])):
                return [operands[1]]
        elif isinstance(node, ir.BinOp) and node.op == "**" and _euler(node.left) and self.imaginary(place.at(node.right)):
            return [node.right]
        return []

    def _name(self, place: Place, call: ir.Call) -> str:
        outside = usage.called_names(self.flow.unit(place), call)
        names = {n.rpartition(".")[2] for n in outside}
        wanted = names & {"exp", "exp_", "polar", "rect", "pow", "float_power", "expm1"}
        return min(wanted) if wanted else ir.last_name(call.func) if not outside and not self._own(place, call) else ""

    def _own(self, place: Place, call: ir.Call) -> bool:
        return any(isinstance(c, Func) for c in self.flow.callees(place.at(call)))

    def imaginary(self, place: Place, depth: int = 6) -> bool:
        """Whether the imaginary unit is a part of the expression."""
        for node in _shallow(place.expr):
            if isinstance(node, ir.Constant) and isinstance(node.value, complex) and node.value.imag:
                return True
            if isinstance(node, ir.Call) and ir.last_name(node.func) in ("complex", "view_as_complex"):
                return True
            if depth and isinstance(node, ir.Name):
                if any(self.imaginary(p, depth - 1) for p, _ in self._bound(place, node)):
                    return True
            elif depth and isinstance(node, ir.Attribute):
                if any(self.imaginary(p, depth - 1) for p in self._field(place, node)):
                    return True
        return False

    def _bound(self, place: Place, node: ir.Name) -> list[tuple[Place, bool]]:
        # Arguments stay with the caller: a helper is judged where it is called.
        found = self.bindings.of(place.at(node), node.id)
        names = {p.name for p in place.fn.node.params} if place.fn is not None else set()
        return [
            (p, e)
            for p, e in found
            if p.expr is not node and (p.fn is place.fn or p.fn is None) and not (node.id in names and p.fn is None)
        ]

    def _field(self, place: Place, node: ir.Attribute) -> list[Place]:
        receivers = self.flow.receivers(place.at(node))
        return [p for r in receivers if isinstance(r, Inst) for p in self.flow.field(r.cls, node.attr)][:4]

    # -- what a phase is made of

    def evidence(self, place: Place) -> Evidence:
        """What the phase at `place` is made of, through variables, fields and helpers."""
        out = Evidence()
        self._collect(place, out, set(), _DEPTH)
        return out

    def _collect(self, place: Place, out: Evidence, seen: set[int], depth: int) -> None:
        if id(place.expr) in seen or not depth:
            return
        seen.add(id(place.expr))
        for node in _shallow(place.expr):
            if isinstance(node, ir.Constant):
                _constant(node, out)
            elif isinstance(node, ir.Name):
                self._named(place, node, out, seen, depth)
            elif isinstance(node, ir.Attribute):
                _words(node.attr, out, own=False)
                out.pi = out.pi or node.attr in ("pi", "tau")
                for found in [*self._field(place, node), *self.origins.of(place.at(node))]:
                    self._collect(found, out, seen, depth - 1)
            elif isinstance(node, ir.Subscript):
                for found in self.origins.of(place.at(node)):
                    self._collect(found, out, seen, depth - 1)
            elif isinstance(node, ir.BinOp):
                if node.op == "**" and isinstance(node.right, ir.Constant) and node.right.value in (0.5, -0.5):
                    out.distance = out.distance or self._sum_of_squares(place.at(node.left))
                if node.op == "/" and isinstance(node.right, ir.Constant) and isinstance(node.right.value, float) and node.right.value % 1:
                    out.wave = out.wave or _has_pi(node.left)
            elif isinstance(node, ir.Call):
                self._called(place, node, out, seen, depth)

    def _named(self, place: Place, node: ir.Name, out: Evidence, seen: set[int], depth: int) -> None:
        fn: FunctionInfo | None = place.fn
        while fn is not None and not any(p.name == node.id for p in fn.node.params):
            fn = fn.enclosing
        if fn is not None and fn is place.fn:
            out.params.add(node.id)
        _words(node.id, out, own=True)
        out.pi = out.pi or node.id in ("pi", "tau")
        behind = [p for p in self.origins.of(place.at(node)) if node.id not in out.params and p.expr is not node]
        for found, element in [*self._bound(place, node), *((p, False) for p in behind)]:
            self._collect(found, out, seen, depth - 1)
            out.run = out.run or (element and _is_range(found.expr))

    def _called(self, place: Place, node: ir.Call, out: Evidence, seen: set[int], depth: int) -> None:
        name = ir.last_name(node.func)
        operands = _operands(node)
        if name in _TRIG and operands:
            inner = Evidence()
            self._collect(place.at(operands[0]), inner, set(), 4)
            out.trig = out.trig or not (inner.run and inner.pi) or inner.wave
        elif name in _NORMS:
            out.distance = True
        elif name in _ROOTS and operands:
            root = name in ("sqrt", "rsqrt") or (len(operands) > 1 and isinstance(operands[1], ir.Constant) and operands[1].value == 0.5)
            out.distance = out.distance or (root and self._sum_of_squares(place.at(operands[0])))
        elif name in _RUNS:
            out.run = True
        else:
            _words(name, out, own=False)
        for found in self.origins.of(place.at(node)):
            if found.expr is not node and not isinstance(found.expr, ir.Name):
                inner = Evidence()
                self._collect(found, inner, seen, depth - 1)
                out.merge(inner)
        for callee in self.flow.callees(place.at(node)):
            if isinstance(callee, Func) and not callee.weak:
                for returned in self.flow.returns(callee.fn):
                    inner = Evidence()
                    self._collect(returned, inner, seen, depth - 1)
                    out.merge(inner)

    def _sum_of_squares(self, place: Place, depth: int = 4) -> bool:
        squares = sums = False
        for node in _shallow(place.expr):
            if isinstance(node, ir.BinOp):
                squares = squares or (node.op == "**" and isinstance(node.right, ir.Constant) and node.right.value == 2)
                squares = squares or (node.op == "*" and _key(node.left) == _key(node.right))
                sums = sums or node.op in ("+", "-")
            elif isinstance(node, ir.Call):
                squares = squares or ir.last_name(node.func) in ("square", "pow", "dot", "einsum", "abs2")
                sums = sums or ir.last_name(node.func) in ("sum", "dot", "einsum", "add", "sub", "subtract")
            elif isinstance(node, ir.Name) and depth:
                if any(self._sum_of_squares(p, depth - 1) for p, _ in self._bound(place, node)):
                    return True
        return squares and sums


def _joins(node: ir.Node) -> bool:
    if isinstance(node, ir.Call):
        return ir.last_name(node.func) in ("complex", "view_as_complex")
    return isinstance(node, ir.Constant) and isinstance(node.value, complex)


def _operands(call: ir.Call) -> list[ir.Expr]:
    receiver = call.func.value if isinstance(call.func, ir.Attribute) else None
    plain = usage.positional(call) + [a.value for a in call.args if a.keyword in ("input", "x", "other", "exponent")]
    module = isinstance(receiver, ir.Name) and receiver.id in (
        "torch",
        "np",
        "numpy",
        "math",
        "cmath",
        "xp",
        "jnp",
        "F",
        "t",
        "th",
        "linalg",
    )
    if receiver is None or module or (isinstance(receiver, ir.Attribute) and receiver.attr in ("linalg", "functional", "special")):
        return plain
    return plain if plain and ir.last_name(call.func) in ("exp", "sin", "cos", "tan", "sqrt", "polar", "rect") else [receiver, *plain]


def _trig_operand(node: ir.Expr) -> ir.Expr | None:
    if isinstance(node, ir.Call) and ir.last_name(node.func) in ("sin", "cos"):
        return next(iter(_operands(node)), None)
    return None


def _shallow(expr: ir.Expr) -> Iterator[ir.Node]:
    """The expression's own nodes; callees of calls by name are no values."""
    stack: list[ir.Node] = [expr]
    while stack:
        node = stack.pop()
        yield node
        if isinstance(node, ir.Attribute) and node.attr not in ("T", "mT", "H", "mH", "real", "imag", "data"):
            continue  # a field is a value of its own; what holds it is not part of the phase
        for child in ir.children(node):
            if isinstance(child, ir.Function) or (isinstance(node, ir.Call) and child is node.func and isinstance(child, ir.Name)):
                continue
            if isinstance(node, ir.Call) and child is node.func and isinstance(child, ir.Attribute):
                stack.append(child.value)
            else:
                stack.append(child)


def _words(name: str, out: Evidence, *, own: bool) -> None:
    words = set(re.split(r"[_\W]+", name.lower()))
    out.wave = (
        out.wave or bool(words & _WAVE) or "wavelength" in name.lower() or "wavenumber" in name.lower() or {"speed", "light"} <= words
    )
    out.element = out.element or bool(words & _ELEMENT)
    out.named_distance = out.named_distance or bool(words & _DISTANCE)
    out.motion = out.motion or bool(words & _MOTION)
    out.short = out.short or (own and name in _SHORT)


def _constant(node: ir.Constant, out: Evidence) -> None:
    if isinstance(node.value, (int, float)) and not isinstance(node.value, bool):
        out.wave = out.wave or float(node.value) in _LIGHT
        out.pi = out.pi or abs(float(node.value) - 3.14159265) < 1e-3 or abs(float(node.value) - 6.2831853) < 1e-3


def _has_pi(expr: ir.Expr) -> bool:
    out = Evidence()
    for node in ir.walk(expr):
        if isinstance(node, ir.Constant):
            _constant(node, out)
        elif isinstance(node, (ir.Attribute, ir.Name)) and ir.last_name(node) in ("pi", "tau"):
            out.pi = True
    return out.pi


def _is_range(expr: ir.Expr) -> bool:
    return isinstance(expr, ir.Call) and ir.last_name(expr.func) in _RUNS | {"enumerate"}


def _euler(expr: ir.Expr) -> bool:
    if isinstance(expr, ir.Constant) and isinstance(expr.value, float):
        return abs(expr.value - 2.718281828) < 1e-4
    return (isinstance(expr, ir.Attribute) and expr.attr == "e") or (isinstance(expr, ir.Name) and expr.id == "e")


def _key(expr: ir.Node) -> str:
    parts: list[str] = []
    for node in ir.walk(expr):
        parts.append(type(node).__name__)
        for name in ("id", "attr", "op", "value", "keyword"):
            found = getattr(node, name, None)
            if isinstance(found, (str, int, float)):
                parts.append(str(found))
    return " ".join(parts)
