"""Which expressions are certainly tensors on a device: by annotation, by what makes them, or by what is done with them."""

from __future__ import annotations

from audits.static.analysis.engine import Unit
from audits.static.analysis.values import Cls, Ext, ExtInst, Func, Inst, UnknownValue, Value
from audits.static.dataflow.flow import Flow, Place
from audits.static.dataflow.value_origins import Origins
from audits.static.source import ir
from audits.static.source.project import FunctionInfo

_PLAIN = frozenset(
    {"size", "dim", "numel", "nelement", "ndimension", "stride", "element_size", "data_ptr", "storage_offset", "get_device", "item",
     "tolist", "numpy", "is_contiguous", "is_floating_point", "is_complex", "is_pinned", "is_shared", "is_set_to", "is_conj", "is_neg",
     "is_signed", "is_inference", "backward", "register_hook", "untyped_storage", "storage", "type", "has_names", "dense_dim",
     "sparse_dim", "is_same_size", "equal", "allclose", "dim_order", "__len__", "__array__"}
)  # fmt: skip
_PARTS = frozenset({"T", "mT", "mH", "H", "real", "imag", "data", "grad", "values", "indices"})
_NOT_TENSORS = frozenset(
    {"is_tensor", "is_storage", "is_complex", "is_floating_point", "is_nonzero", "is_grad_enabled", "is_inference_mode_enabled", "numel",
     "finfo", "iinfo", "device", "dtype", "Size", "no_grad", "enable_grad", "inference_mode", "set_grad_enabled", "compile", "vmap",
     "promote_types", "result_type", "can_cast", "get_default_dtype", "set_default_dtype", "is_autocast_enabled", "autocast", "load",
     "save", "manual_seed", "Generator", "broadcast_shapes", "allclose", "equal", "get_num_threads", "set_num_threads", "is_same_size",
     "typename", "split", "chunk", "unbind", "meshgrid", "get_device", "is_conj", "is_neg", "is_inference", "is_distributed", "is_signed",
     "script", "trace", "export", "jit", "stream", "Stream", "Event", "is_available", "device_count", "current_device", "synchronize"}
)  # fmt: skip
_HOMES = (
    "torch",
    "torch.linalg",
    "torch.fft",
    "torch.special",
    "torch.nn.functional",
    "torch.functional",
    "torch.Tensor",
    "torch.nn.utils",
)
_ONLY_TENSORS = frozenset(
    {"backward", "detach", "requires_grad_", "grad_fn", "retain_grad", "unsqueeze", "squeeze", "clamp_min", "clamp_max", "log_softmax",
     "softmax", "sigmoid", "unbind", "contiguous", "new_zeros", "new_ones", "new_tensor", "isfinite", "isnan", "logsumexp", "is_cuda"}
)  # fmt: skip
_REDUCED = frozenset(
    {"mean", "sum", "norm", "square", "sqrt", "abs", "max", "min", "amax", "amin", "argmax", "argmin", "detach", "exp", "log", "any",
     "all", "prod", "std", "var", "clamp", "float", "double", "half", "flatten", "pow",
     "unsqueeze", "squeeze", "median", "sigmoid", "softmax",
     "isfinite", "isnan", "to"}
)  # fmt: skip
_NOT_FIRST = frozenset({"tensor", "as_tensor", "full", "zeros", "ones", "empty", "arange", "linspace", "logspace", "eye", "rand", "randn",
                        "randint", "device", "from_numpy", "asarray", "stack", "cat", "concat", "is_tensor", "pow", "where", "full_like",
                        "scalar_tensor", "einsum", "promote_types", "manual_seed", "result_type"})  # fmt: skip
_DEPTH = 12


class Tensors:
    """Questions about the expressions of one unit; a question that can't be answered is answered with no."""

    def __init__(self, flow: Flow, units: dict[FunctionInfo, Unit]) -> None:
        self.flow = flow
        self.units = units
        self.origins = Origins(flow, units=units)
        self._known: dict[int, bool] = {}
        self._used: dict[FunctionInfo, set[str]] = {}

    def unit(self, place: Place) -> Unit:
        """The analysed unit around a place, the hot one where there is one."""
        return self.units[place.fn] if place.fn in self.units else self.flow.unit(place)

    def certain(self, place: Place, depth: int = _DEPTH) -> bool:
        """Whether the expression is a tensor whatever happens."""
        key = id(place.expr)
        if key not in self._known:
            self._known[key] = False  # a loop proves nothing
            self._known[key] = depth > 0 and (self._certain(place, depth) or self._by_origin(place, depth))
        return self._known[key]

    def _by_origin(self, place: Place, depth: int) -> bool:
        if not isinstance(place.expr, (ir.Name, ir.Attribute, ir.Subscript, ir.Call, ir.BoolOp)):
            return False
        found = [p for p in self.origins.of(place) if not _is_none(p.expr)]
        return bool(found) and all(p.expr is not place.expr and self.certain(p, depth - 4) for p in found)

    def _certain(self, place: Place, depth: int) -> bool:
        expr = place.expr
        if isinstance(expr, ir.Name):
            return self._name(place, expr, depth)
        if isinstance(expr, ir.Attribute):
            if expr.attr in _PARTS:
                return self.certain(place.at(expr.value), depth - 1)
            return self._field(place, expr, depth)
        if isinstance(expr, ir.Call):
            return self._call(place, expr, depth)
        if isinstance(expr, ir.BinOp):
            return expr.op == "@" or any(self.certain(place.at(e), depth - 1) for e in (expr.left, expr.right))
        if isinstance(expr, ir.UnaryOp):
            return expr.op != "not" and self.certain(place.at(expr.operand), depth - 1)
        if isinstance(expr, ir.Compare):
            plain = set(expr.ops) & {"is", "is not", "in", "not in"}
            return not plain and any(self.certain(place.at(e), depth - 1) for e in (expr.left, *expr.comparators))
        if isinstance(expr, ir.Subscript):
            return self.certain(place.at(expr.value), depth - 1)
        if isinstance(expr, ir.IfExp):
            return all(self.certain(place.at(e), depth - 1) for e in (expr.body, expr.orelse))
        if isinstance(expr, ir.NamedExpr):
            return self.certain(place.at(expr.value), depth - 1)
        return False

    def _name(self, place: Place, expr: ir.Name, depth: int) -> bool:
        fn = place.fn
        if fn is not None:
            for param in fn.node.params:
                if param.name == expr.id and param.annotation is not None:
                    return _is_tensor_type(param.annotation)
            if expr.id in self._uses(fn):
                return True
        found = [p for p in self.flow.definitions(place, expr.id) if p.fn is place.fn and not _inside_default(p, fn)]
        return (
            bool(found) and all(_is_none(p.expr) or self.certain(p, depth - 1) for p in found) and not all(_is_none(p.expr) for p in found)
        )

    def _uses(self, fn: FunctionInfo) -> set[str]:
        # Names on which the function does what only a tensor can do.
        if fn not in self._used:
            names: set[str] = set()
            self._used[fn] = names
            for node in ir.walk_own(fn.node.body):
                if isinstance(node, ir.Attribute) and node.attr in _ONLY_TENSORS and isinstance(node.value, ir.Name):
                    names.add(node.value.id)
                elif isinstance(node, ir.Call) and node.args and isinstance(node.args[0].value, ir.Name) and not node.args[0].star:
                    called = self.units[fn].calls.get(node, frozenset()) if fn in self.units else frozenset()
                    if called and all(isinstance(c, Ext) and _makes_tensor(c.name, _NOT_FIRST) for c in called):
                        names.add(node.args[0].value.id)
        return self._used[fn]

    def _field(self, place: Place, expr: ir.Attribute, depth: int) -> bool:
        for receiver in self.unit(place).receivers.get(expr, frozenset()):
            if isinstance(receiver, Inst):
                for owner in self.flow.analysis.mro_cache.get(receiver.cls) or [receiver.cls]:
                    for statement in owner.node.body:
                        if isinstance(statement, ir.Assign) and statement.annotation is not None:
                            if ir.last_name(statement.targets[0]) == expr.attr:
                                return _is_tensor_type(statement.annotation)
                    getter = owner.module.functions.get(f"{owner.qualname}.{expr.attr}")
                    if getter is not None:
                        return "property" in getter.flags and self._returns(getter, depth)
                fields = self.flow.field(receiver.cls, expr.attr)
                if fields:
                    return all(self.certain(p, depth - 1) for p in fields)
        return False

    def _call(self, place: Place, expr: ir.Call, depth: int) -> bool:
        callees = self.unit(place).calls.get(expr, frozenset())
        func = expr.func
        if isinstance(func, ir.Attribute) and self.certain(place.at(func.value), depth - 1):
            return func.attr not in _PLAIN
        if isinstance(func, ir.Attribute) and callees and all(_by_name(c) for c in callees):
            return func.attr in _REDUCED and not self._number(place, func.value)
        known = [c for c in callees if not (isinstance(c, Func) and c.weak)]
        return bool(known) and all(self._makes(c, depth) for c in known)

    def _number(self, place: Place, receiver: ir.Expr) -> bool:
        names = self.flow.receivers(place.at(receiver)) if isinstance(receiver, ir.Attribute) else frozenset()
        return any(isinstance(r, Ext) and r.name.startswith("numpy") for r in names)

    def _makes(self, callee: Value, depth: int) -> bool:
        if isinstance(callee, Ext):
            return _makes_tensor(callee.name, _NOT_TENSORS)
        if isinstance(callee, Func):
            return self._returns(callee.fn, depth)
        if isinstance(callee, ExtInst):
            return callee.name.startswith("torch.nn.") and not callee.name.endswith(
                ("ModuleList", "ModuleDict", "LSTM", "GRU", "Attention")
            )
        if isinstance(callee, Inst):
            found = [
                f for name in ("forward", "__call__") for f in (callee.cls.module.functions.get(f"{callee.cls.qualname}.{name}"),) if f
            ]
            return bool(found) and self._returns(found[0], depth)
        return isinstance(callee, Cls) and callee.cls.node.name == "Tensor"

    def _returns(self, fn: FunctionInfo, depth: int) -> bool:
        if fn.node.returns is not None:
            return _is_tensor_type(fn.node.returns)
        returned = self.flow.returns(fn)
        return bool(returned) and all(self.certain(p, depth - 1) for p in returned)


def _by_name(callee: Value) -> bool:
    return (
        isinstance(callee, UnknownValue)
        or (isinstance(callee, Func) and callee.weak)
        or (isinstance(callee, Ext) and callee.name[0] == "?")
    )


def _makes_tensor(name: str, without: frozenset[str]) -> bool:
    home, _, last = name.rpartition(".")
    return home in _HOMES and last not in without and not last[:1].isupper() and not last.startswith(("is_", "set_", "get_", "use_"))


def _is_tensor_type(annotation: ir.Expr) -> bool:
    if isinstance(annotation, ir.Constant) and isinstance(annotation.value, str):
        return annotation.value.rsplit(".", 1)[-1] == "Tensor" or "[Tensor" in annotation.value
    if isinstance(annotation, ir.BinOp) and annotation.op == "|":
        sides = [s for s in (annotation.left, annotation.right) if not _is_none(s)]
        return all(_is_tensor_type(s) for s in sides)
    if isinstance(annotation, ir.Subscript):
        index = annotation.index
        inner = index.items[0] if isinstance(index, ir.Sequence) and index.items else index
        if ir.last_name(annotation.value) in ("tuple", "list", "dict", "Sequence", "Iterable", "Mapping", "Callable", "type", "Iterator"):
            return False
        return _is_tensor_type(inner)
    return ir.last_name(annotation) in ("Tensor", "Parameter", "FloatTensor", "LongTensor")


def _is_none(expr: ir.Expr) -> bool:
    return isinstance(expr, ir.Constant) and expr.value is None


def _inside_default(place: Place, fn: FunctionInfo | None) -> bool:
    return fn is not None and any(p.default is place.expr for p in fn.node.params)


def operands(flow: Flow, place: Place) -> list[Place]:
    """The sides of a boolean expression, or the expression itself."""
    expr = place.expr
    if isinstance(expr, ir.BoolOp):
        return [q for v in expr.values for q in operands(flow, place.at(v))]
    if isinstance(expr, ir.UnaryOp) and expr.op == "not":
        return operands(flow, place.at(expr.operand))
    return [place]
