"""Which expressions are certainly tensors on a device: by annotation, by what makes them, or by what is done with them."""

from __future__ import annotations

from audits.static.analysis.engine import Unit
from audits.static.analysis.unknown_calls import tensor_methods
from audits.static.analysis.values import Cls, Ext, ExtInst, Func, Inst, Mod, UnknownValue, Value
from audits.static.dataflow import usage
from audits.static.dataflow.flow import Flow, Place
from audits.static.dataflow.value_origins import Origins
from audits.static.source import ir
from audits.static.source.project import ClassInfo, FunctionInfo

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
    {"backward", "detach", "grad_fn", "retain_grad", "unsqueeze", "squeeze", "clamp_min", "clamp_max", "log_softmax",
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
                        "scalar_tensor", "einsum", "promote_types", "manual_seed", "result_type", "bartlett_window", "blackman_window",
                        "hamming_window", "hann_window", "kaiser_window", "fftfreq", "rfftfreq", "randperm", "normal", "tril_indices",
                        "triu_indices", "hstack", "vstack", "dstack", "column_stack", "row_stack", "block_diag", "multi_dot", "cond",
                        "meshgrid", "broadcast_tensors", "broadcast_shapes", "empty_strided", "sparse_coo_tensor", "range", "frombuffer",
                        "from_dlpack", "from_file", "save", "load", "compile", "typename", "concatenate", "chain_matmul", "can_cast",
                        "finfo", "iinfo", "Size", "Generator", "while_loop", "vmap", "autocast"})  # fmt: skip
_MADE = frozenset(
    ["torch.nn.Parameter", "torch.nn.parameter.Parameter", "torch.nn.Buffer", "torch.nn.parameter.Buffer", "torch.Tensor",
     "torch.nn.utils.get_total_norm"]
)  # fmt: skip
_LISTS = frozenset({"unbind", "split", "chunk", "tensor_split", "hsplit", "vsplit", "dsplit", "meshgrid", "split_with_sizes"})
_CONTAINERS = ("tuple", "list", "dict", "Sequence", "Iterable", "Mapping", "Callable", "type", "Iterator", "set", "MutableMapping",
               "Collection", "Generator", "List", "Dict", "Tuple", "Type", "defaultdict", "deque", "MutableSequence")  # fmt: skip
_OF_CONTAINERS = frozenset({"values", "index", "split", "chunk", "unbind"})
_ENTRIES = frozenset({"get", "pop", "popleft", "setdefault"})
_MAPPINGS = frozenset({"dict", "Mapping", "Dict", "defaultdict", "MutableMapping", "OrderedDict"})
_VIEWS = frozenset({"items", "keys", "values"})
_VALUES = -1  # stands for the values of a mapping, where others name an item of a row
_DEPTH = 12


class Tensors:
    """Questions about the expressions of one unit; a question that can't be answered is answered with no."""

    def __init__(self, flow: Flow, units: dict[FunctionInfo, Unit]) -> None:
        self.flow = flow
        self.units = units
        self.origins = Origins(flow, units=units)
        self.bindings = usage.Bindings(flow)
        self._known: dict[ir.Expr, bool] = {}  # by identity; what is asked about stays alive
        self._holding: dict[tuple[ir.Expr, int | None], bool] = {}
        self._used: dict[FunctionInfo, set[str]] = {}
        self._registered: dict[tuple[ClassInfo, str], list[Place]] | None = None

    def unit(self, place: Place) -> Unit:
        """The analysed unit around a place, the hot one where there is one."""
        return self.units[place.fn] if place.fn in self.units else self.flow.unit(place)

    def certain(self, place: Place, depth: int = _DEPTH) -> bool:
        """Whether the expression is a tensor whatever happens."""
        key = place.expr
        if key not in self._known:
            self._known[key] = False  # a loop proves nothing
            self._known[key] = depth > 0 and (self._certain(place, depth) or self._by_origin(place, depth))
        return self._known[key]

    def _by_origin(self, place: Place, depth: int) -> bool:
        if not isinstance(place.expr, (ir.Name, ir.Attribute, ir.Subscript, ir.Call, ir.BoolOp)):
            return False
        if isinstance(place.expr, ir.Call) and isinstance(place.expr.func, ir.Attribute) and place.expr.func.attr in _VIEWS:
            return False
        if isinstance(place.expr, ir.Name) and any(element for _, element in self.bindings.of(place, place.expr.id)):
            return False  # iterating over a mapping yields its keys
        started = _is_none if isinstance(place.expr, ir.Subscript) else _is_plain  # what stands under other keys is no accumulator
        found = [p for p in self.origins.of(place) if not started(p.expr)]
        return bool(found) and all(p.expr is not place.expr and self.certain(p, depth - 4) for p in found)

    def _declared_tensor(self, place: Place, depth: int) -> bool:
        said = self._declared(place, depth)
        return said is not None and _is_tensor_type(said.expr)

    def _declared(self, place: Place, depth: int) -> Place | None:
        # What annotations say of an expression: of the container that it is taken from, or of what it names.
        expr = place.expr
        if depth <= 0:
            return None
        if isinstance(expr, ir.Subscript):
            held = self._declared(place.at(expr.value), depth - 1)
            if isinstance(expr.index, ir.Slice):
                return held
            return self._meant(held and _item(held, _number(expr.index)))
        if isinstance(expr, ir.Call) and isinstance(expr.func, ir.Attribute) and expr.func.attr in _ENTRIES:
            held = self._declared(place.at(expr.func.value), depth - 1)
            given = usage.positional(expr)
            plain = expr.func.attr in ("pop", "popleft") or len(given) < 2 or self.certain(place.at(given[1]), depth - 1)
            return self._meant(held and _item(held, None)) if plain else None
        if isinstance(expr, ir.Name):
            return self._declared_name(place, expr, depth)
        if isinstance(expr, ir.Attribute):
            for receiver in self.unit(place).receivers.get(expr, frozenset()):
                for owner in (self.flow.analysis.mro_cache.get(receiver.cls) or [receiver.cls]) if isinstance(receiver, Inst) else ():
                    for statement in owner.node.body:
                        if isinstance(statement, ir.Assign) and ir.last_name(statement.targets[0]) == expr.attr and statement.annotation:
                            return self._meant(Place(statement.annotation, owner.module, None))
        if isinstance(expr, ir.Call):
            callees = list(self.unit(place).calls.get(expr, frozenset()))
            fn = callees[0].fn if len(callees) == 1 and isinstance(callees[0], Func) else None
            return self._meant(Place(fn.node.returns, fn.module, None)) if fn is not None and fn.node.returns is not None else None
        return None

    def _declared_name(self, place: Place, expr: ir.Name, depth: int) -> Place | None:
        own = place.fn.node if place.fn is not None else None
        for param in own.params if own is not None else ():
            if param.name == expr.id:
                plain = param.annotation is not None and param.kind not in ("*", "**")
                return self._meant(place.at(param.annotation)) if plain and param.annotation is not None else None
        found = self.bindings.of(place, expr.id)
        if len(found) != 1 or found[0][0].fn is not place.fn:
            return None
        bound, element = found[0]
        for node in ir.walk_own(own.body) if own is not None else ():
            if isinstance(node, ir.Assign) and node.value is bound.expr and node.annotation is not None:
                return self._meant(place.at(node.annotation))
        held = self._declared(bound, depth - 1)
        return self._meant(held and _element(held)) if element else held

    def _meant(self, place: Place | None) -> Place | None:
        # An annotation, or the type that it is another name of.
        for _ in range(3):
            if place is None or not isinstance(place.expr, ir.Name):
                break
            found = self.flow.definitions(Place(place.expr, place.module, None), place.expr.id)
            if len(found) != 1 or not isinstance(found[0].expr, (ir.Subscript, ir.Name, ir.BinOp)):
                break
            place = found[0]
        return place

    def holds(self, place: Place, part: int | None = None, depth: int = _DEPTH) -> bool:
        """Whether all that iterating over the expression yields is a tensor, or, of rows, their item `part`; of a mapping, its values."""
        key = (place.expr, part)
        if key not in self._holding:
            self._holding[key] = False
            self._holding[key] = depth > 0 and (self._holds(place, part, depth - 1) or self._declared_holds(place, part, depth - 1))
        return self._holding[key]

    def _declared_holds(self, place: Place, part: int | None, depth: int) -> bool:
        said = self._declared(place, depth)
        return said is not None and _holds_tensors(_present(said.expr), part)

    def _holds(self, place: Place, part: int | None, depth: int) -> bool:
        expr = place.expr
        if isinstance(expr, ir.Sequence):
            if part is None or part < 0:
                return part is None and bool(expr.items) and all(self.certain(place.at(e), depth) for e in expr.items)
            rows = [e for e in expr.items if isinstance(e, ir.Sequence) and len(e.items) > part]
            return bool(rows) and len(rows) == len(expr.items) and all(self.certain(place.at(r.items[part]), depth) for r in rows)
        if isinstance(expr, ir.Comprehension) and (expr.value is None or part == _VALUES):
            made = expr.element if expr.value is None else expr.value
            if part not in (None, _VALUES):
                return isinstance(made, ir.Sequence) and len(made.items) > part and self.certain(place.at(made.items[part]), depth)
            return self.certain(place.at(made), depth)
        if isinstance(expr, ir.Dict):
            return part == _VALUES and bool(expr.values) and all(self.certain(place.at(v), depth) for v in expr.values)
        if isinstance(expr, ir.Call):
            return self._call_holds(place, expr, part, depth)
        if isinstance(expr, ir.Name):
            return self._name_holds(place, expr, part, depth)
        if not isinstance(expr, ir.Attribute) or part not in (None, _VALUES):
            return False
        receivers = self.unit(place).receivers.get(expr, frozenset())
        return any(isinstance(r, Inst) and self._declared_holding(r.cls, expr.attr, part) for r in receivers)

    def _call_holds(self, place: Place, expr: ir.Call, part: int | None, depth: int) -> bool:
        given = usage.positional(expr)
        name = ir.last_name(expr.func)
        if isinstance(expr.func, ir.Name) and name in ("zip", "enumerate") and part is not None:
            chosen = given[0] if name == "enumerate" and part == 1 and given else None
            chosen = given[part] if name == "zip" and part < len(given) else chosen
            return chosen is not None and self._yields(place.at(chosen), depth)
        if isinstance(expr.func, ir.Name) and name in ("list", "tuple", "sorted", "reversed", "iter") and given and part is None:
            return self._yields(place.at(given[0]), depth)
        if isinstance(expr.func, ir.Attribute) and (name, part) in (("values", None), ("items", 1)):
            return self.holds(place.at(expr.func.value), _VALUES, depth)
        if part is None and name in _LISTS:
            names = usage.called_names(self.unit(place), expr)
            owner = expr.func.value if isinstance(expr.func, ir.Attribute) else None
            return any(n.startswith("torch.") for n in names) or (owner is not None and self.certain(place.at(owner), depth))
        callees = self.unit(place).calls.get(expr, frozenset())
        return bool(callees) and all(isinstance(c, Func) and self._function_holds(c.fn, part, depth) for c in callees)

    def _function_holds(self, fn: FunctionInfo, part: int | None, depth: int) -> bool:
        if fn.node.returns is not None:
            return _holds_tensors(fn.node.returns, part)
        returned = self.flow.returns(fn)
        return bool(returned) and all(self.holds(p, part, depth) for p in returned)

    def _name_holds(self, place: Place, expr: ir.Name, part: int | None, depth: int) -> bool:
        for param in place.fn.node.params if place.fn is not None else ():
            if param.name == expr.id and param.annotation is not None:
                return _holds_tensors(param.annotation, part)
        found = self.bindings.of(place, expr.id)
        return bool(found) and all(not element and self._filled(p, expr.id, part, depth) for p, element in found)

    def _filled(self, place: Place, name: str, part: int | None, depth: int) -> bool:
        # A list that starts empty holds what is put into it.
        if not (isinstance(place.expr, (ir.Sequence, ir.Dict)) and not getattr(place.expr, "items", getattr(place.expr, "values", None))):
            return self.holds(place, part, depth)
        put = [p for p in self.flow.definitions(place, name) if p.fn is place.fn and p.expr is not place.expr]
        return part in (None, _VALUES) and bool(put) and all(self.certain(p, depth) for p in put)

    def _yields(self, place: Place, depth: int) -> bool:
        return self.certain(place, depth) or self.holds(place, None, depth)

    def _declared_holding(self, cls: ClassInfo, name: str, part: int | None) -> bool:
        for owner in self.flow.analysis.mro_cache.get(cls) or [cls]:
            for statement in owner.node.body:
                if isinstance(statement, ir.Assign) and statement.annotation is not None and ir.last_name(statement.targets[0]) == name:
                    return _holds_tensors(statement.annotation, part)
        return False

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
            return self.certain(place.at(expr.value), depth - 1) or self._declared_tensor(place, depth)
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
                    return _is_tensor_type(param.annotation) or self._is_alias(place.at(param.annotation))
            if expr.id in self._uses(fn):
                return True
        found = [(p, e) for p, e in self.bindings.of(place, expr.id) if p.fn is place.fn and not _inside_default(p, fn)]
        bound = [(p, e) for p, e in found if e or not _is_plain(p.expr)]
        if bound and all(self._element(p, depth - 1) if e else self.certain(p, depth - 1) for p, e in bound):
            return True
        return self._declared_tensor(place, depth)

    def _is_alias(self, place: Place) -> bool:
        name = place.expr
        meant = self.flow.definitions(Place(name, place.module, None), name.id) if isinstance(name, ir.Name) else []
        return bool(meant) and all(_is_tensor_type(p.expr) for p in meant)

    def _element(self, place: Place, depth: int) -> bool:
        # What a loop binds: an element of a tensor or of a list of tensors, or an item of a row.
        expr = place.expr
        if isinstance(expr, ir.Subscript) and isinstance(expr.index, ir.Constant) and isinstance(expr.index.value, int):
            if (expr.index.line, expr.index.column) == (expr.value.line, expr.value.column):  # the part of a row that is unpacked
                return self.certain(place.at(expr.value), depth) or self.holds(place.at(expr.value), expr.index.value, depth)
        return self._yields(place, depth)

    def _uses(self, fn: FunctionInfo) -> set[str]:
        # Names on which the function does what only a tensor can do.
        if fn not in self._used:
            names: set[str] = set()
            self._used[fn] = names
            for node in ir.walk_own(fn.node.body):
                if isinstance(node, ir.Attribute) and node.attr in _ONLY_TENSORS and isinstance(node.value, ir.Name):
                    known = self.units[fn].receivers.get(node, frozenset()) if fn in self.units else frozenset()
                    if not any(isinstance(r, (Ext, Mod, Cls)) for r in known):  # `math.isnan` says nothing of `math`
                        names.add(node.value.id)
                elif isinstance(node, ir.Call) and node.args and isinstance(node.args[0].value, ir.Name) and not node.args[0].star:
                    called = self.units[fn].calls.get(node, frozenset()) if fn in self.units else frozenset()
                    if called and all(isinstance(c, Ext) and _takes_tensor(c.name) for c in called):
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
                fields = self.flow.field(receiver.cls, expr.attr) + self._buffers(receiver.cls, expr.attr)
                made = [p for p in fields if not _is_plain(p.expr)]
                if fields:
                    return bool(made) and all(self.certain(p, depth - 1) for p in made)
        return False

    def _buffers(self, cls: ClassInfo, name: str) -> list[Place]:
        if self._registered is None:
            self._registered = {}
            for fn in self.flow.analysis.project.functions:
                for node in ir.walk_own(fn.node.body) if fn.cls is not None else ():
                    if isinstance(node, ir.Call) and ir.last_name(node.func) in ("register_buffer", "register_parameter"):
                        given = [a.value for a in node.args if a.keyword in (None, "name", "tensor", "param")]
                        if len(given) > 1 and isinstance(given[0], ir.Constant) and fn.cls is not None:
                            self._registered.setdefault((fn.cls, str(given[0].value)), []).append(Place(given[1], fn.module, fn))
        order = self.flow.analysis.mro_cache.get(cls) or [cls]
        return [p for owner in order for p in self._registered.get((owner, name), [])]

    def _call(self, place: Place, expr: ir.Call, depth: int) -> bool:
        callees = self.unit(place).calls.get(expr, frozenset())
        func = expr.func
        if isinstance(func, ir.Attribute) and self.certain(place.at(func.value), depth - 1):
            return func.attr not in _PLAIN
        if isinstance(func, ir.Attribute) and func.attr not in _ENTRIES and callees and all(_by_name(c) for c in callees):
            return func.attr in _REDUCED and not self._number(place, func.value)
        if isinstance(func, ir.Attribute) and func.attr in _ENTRIES and self._declared_tensor(place, depth):
            return True
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
    if name in _MADE:
        return True
    if home == "torch.Tensor" and (last in _PLAIN or last in _OF_CONTAINERS or last not in tensor_methods()):
        return False  # a container stands for its elements: `table.items()` is no method of a tensor
    return home in _HOMES and last not in without and not last[:1].isupper() and not last.startswith(("is_", "set_", "get_", "use_"))


def _takes_tensor(name: str) -> bool:
    # `y.reshape(n)` says nothing of n, nor does a utility that takes an iterable of parameters.
    return not name.startswith(("torch.Tensor.", "torch.nn.utils.")) and _makes_tensor(name, _NOT_FIRST)


def _is_tensor_type(annotation: ir.Expr) -> bool:
    if isinstance(annotation, ir.Constant) and isinstance(annotation.value, str):
        return annotation.value.rsplit(".", 1)[-1] == "Tensor" or "[Tensor" in annotation.value
    if isinstance(annotation, ir.BinOp) and annotation.op == "|":
        sides = [s for s in (annotation.left, annotation.right) if not _is_none(s)]
        return all(_is_tensor_type(s) for s in sides)
    if isinstance(annotation, ir.Subscript):
        index = annotation.index
        inner = index.items[0] if isinstance(index, ir.Sequence) and index.items else index
        if ir.last_name(annotation.value) in _CONTAINERS:
            return False
        return _is_tensor_type(inner)
    return ir.last_name(annotation) in ("Tensor", "Parameter", "FloatTensor", "LongTensor")


def _holds_tensors(annotation: ir.Expr, part: int | None) -> bool:
    # `list[Tensor]`, `tuple[Tensor, ...]`, `dict[str, Tensor]`
    if not isinstance(annotation, ir.Subscript) or ir.last_name(annotation.value) not in _CONTAINERS:
        return False
    if ir.last_name(annotation.value) in ("Callable", "type", "Type"):
        return False
    items = annotation.index.items if isinstance(annotation.index, ir.Sequence) else [annotation.index]
    kept = [i for i in items if not (isinstance(i, ir.Constant) and i.value is ...)]
    mapping = ir.last_name(annotation.value) in _MAPPINGS
    return part == (_VALUES if mapping else None) and all(_is_tensor_type(i) for i in (kept[-1:] if mapping else kept))


def _present(annotation: ir.Expr) -> ir.Expr:
    # `T` of `T | None` and of `Optional[T]`
    if isinstance(annotation, ir.BinOp) and annotation.op == "|":
        sides = [s for s in (annotation.left, annotation.right) if not _is_none(s)]
        return _present(sides[0]) if len(sides) == 1 else annotation
    if isinstance(annotation, ir.Subscript) and ir.last_name(annotation.value) in ("Optional", "Annotated", "Final", "ClassVar"):
        index = annotation.index
        return _present(index.items[0] if isinstance(index, ir.Sequence) and index.items else index)
    return annotation


def _arguments(said: Place) -> tuple[str, list[ir.Expr]]:
    # A container's name and the types that it is said to hold.
    annotation = _present(said.expr)
    if not isinstance(annotation, ir.Subscript) or ir.last_name(annotation.value) not in _CONTAINERS:
        return "", []
    items = annotation.index.items if isinstance(annotation.index, ir.Sequence) else [annotation.index]
    return ir.last_name(annotation.value), list(items)


def _item(said: Place, index: int | None) -> Place | None:
    # What annotations say of an item of a container.
    name, items = _arguments(said)
    if name in _MAPPINGS:
        return said.at(items[-1]) if len(items) == 2 else None
    if name in ("Callable", "type", "Type", "Iterator", "Iterable", "Generator", "set", ""):
        return None
    kept = [i for i in items if not (isinstance(i, ir.Constant) and i.value is ...)]
    if len(kept) == 1:
        return said.at(kept[0])
    if index is not None and -len(kept) <= index < len(kept):
        return said.at(kept[index])
    return said.at(kept[0]) if kept and all(_is_tensor_type(k) for k in kept) else None


def _element(said: Place) -> Place | None:
    # What iterating over the container yields.
    name, items = _arguments(said)
    if name in ("Iterator", "Iterable", "Generator", "set"):
        return said.at(items[0])
    return None if name in _MAPPINGS else _item(said, None)


def _number(index: ir.Expr) -> int | None:
    sign = isinstance(index, ir.UnaryOp) and index.op == "-"
    value = index.operand if isinstance(index, ir.UnaryOp) and sign else index
    found = value.value if isinstance(value, ir.Constant) and isinstance(value.value, int) else None
    return -found if sign and found is not None else found


def _is_plain(expr: ir.Expr) -> bool:
    # None or a number: where an accumulator starts.
    return isinstance(expr, ir.Constant) and (expr.value is None or isinstance(expr.value, (int, float)))


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
