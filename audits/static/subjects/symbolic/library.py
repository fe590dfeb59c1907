"""What functions and methods of Python, torch and NumPy compute, on symbols."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from audits.static.subjects.symbolic import tensor_functions as tensors
from audits.static.subjects.symbolic.symbols import (
    NONE,
    Alt,
    Ext,
    Fun,
    Klass,
    Lit,
    Map,
    Mod,
    Obj,
    Partial,
    Record,
    Seq,
    Taker,
    Value,
    each,
    either,
)
from audits.static.subjects.symbolic.terms import Poly

if TYPE_CHECKING:
    from audits.static.source import ir
    from audits.static.subjects.symbolic.run import Symbolic
    from audits.static.subjects.symbolic.symbols import Frame

VIEWS = tensors.VIEWS
METHODS = tensors.METHODS
diagonal_of, element, mirror, data, indexed, stored = (
    tensors.diagonal_of, tensors.element, tensors.mirror, tensors.data, tensors.indexed, tensors.stored,
)  # fmt: skip
_SAME = frozenset(
    ["list", "tuple", "sorted", "reversed", "iter", "set", "frozenset", "deque", "ModuleList", "ParameterList", "deepcopy", "Parameter",
     "cast", "jit", "compile", "script", "wraps", "no_grad", "enable_grad", "inference_mode", "lru_cache", "cache", "islice",
     "cycle", "shuffle", "MappingProxyType", "OrderedDict", "ModuleDict", "tee", "nullcontext", "contextmanager", "vmap",
     "jit_ignore", "Tensor", "require"]
)  # fmt: skip
_MODULES = frozenset(
    ["builtins", "operator", "functools", "itertools", "copy", "contextlib", "dataclasses", "typing", "collections", "types", ""]
)
_OPERATORS = {"truediv": "div", "itruediv": "div_", "iadd": "add_", "imul": "mul_", "isub": "sub_", "concat": "cat"}


def number_of(value: Value) -> complex | int | None:
    """A number, as an integer where it is one."""
    if isinstance(value, Lit) and isinstance(value.value, bool):
        return int(value.value)
    found = value.constant if isinstance(value, Poly) else None
    if found is None:
        return None
    return int(found.real) if isinstance(found, (int, float)) and found == int(found.real) else found


def token(value: Value) -> Any:
    """Something hashable that is equal for equal values."""
    if isinstance(value, Poly):
        return value
    if isinstance(value, Lit):
        try:
            hash(value.value)
        except TypeError:
            return id(value.value)
        return ("lit", value.value)
    if isinstance(value, Seq):
        return ("seq", value.many, *(token(i) for i in value.items))
    if isinstance(value, (Ext, Klass, Mod)):
        return value
    if isinstance(value, Fun):
        return ("fun", value.fn.symbol, id(value.frame), id(value.receiver))
    if isinstance(value, Alt):
        return ("alt", *(token(o) for o in value.options))
    if isinstance(value, Obj) and value.shared:
        return ("shared", value.cls.symbol)
    return id(value)


def _key(index: Value) -> object | None:
    found = number_of(index)
    if found is not None:
        return found
    if isinstance(index, Lit):
        return token(index)[1] if isinstance(token(index), tuple) else None
    if isinstance(index, (Seq, Klass, Ext)):
        return token(index)
    if isinstance(index, Obj) and "name" in index.attrs:  # a member of an enumeration
        return ("member", index.cls.symbol, token(index.attrs["name"]))
    return None


def put(table: Map, index: Value, value: Value, *, soft: bool = False) -> None:
    """Store under a key."""
    for option in each(index):
        key = _key(option)
        if key is None:
            table.rest.append(value)
        else:
            table.items[key] = either([value, table.items[key]]) if soft and key in table.items else value


def item(sym: Symbolic, base: Value, index: Value) -> Value:
    """`base[index]`."""
    if isinstance(base, Seq):
        at = number_of(index)
        if isinstance(at, int) and -len(base.items) <= at < len(base.items) and not (base.many and at < 0):
            return base.items[at]
        cut = _cut(index)
        if cut is not None and not base.many:
            return Seq(base.items[cut], base.many)
        if isinstance(index, Lit) and isinstance(index.value, tuple):
            return base
        return either(base.items) if base.items else NONE
    if isinstance(base, Record) and number_of(index) is not None:
        return item(sym, Seq(list(base.items.values())), index)
    if isinstance(base, Map):
        found = [base.items.get(k) for k in [_key(o) for o in each(index)] if k is not None]
        known = [v for v in found if v is not None]
        if known and len(known) == len(each(index)):
            return either(known)
        return either([*base.items.values(), *base.rest]) if base.items or base.rest else sym.terms.of("entry", id(base), token(index))
    if isinstance(base, Poly):
        return indexed(sym, base, index)
    if isinstance(base, (Klass, Ext)):
        return base
    return sym.terms.of("entry", token(base), token(index))


def _cut(index: Value) -> slice | None:
    if not (isinstance(index, Lit) and isinstance(index.value, tuple) and index.value and index.value[0] == "slice"):
        return None
    parts: list[int | None] = []
    for part in index.value[1:]:
        at = number_of(part) if isinstance(part, Poly) else None
        if at is None and part != ("lit", None):
            return None
        parts.append(at if isinstance(at, int) else None)
    return slice(*parts)


def field_of(value: Value) -> tuple[Poly, str] | None:
    """The object and the name where a value is an attribute of something unknown."""
    single = value.single if isinstance(value, Poly) else None
    if single is None or len(single[0]) != 1 or single[1] != 1 or single[0][0][0].kind != "field":
        return None
    owner, name = single[0][0][0].args
    return (owner, name) if isinstance(owner, Poly) else None


def elements(sym: Symbolic, value: Value, node: ir.Node) -> Seq:
    """What iterating over a tensor or something unknown yields."""
    if isinstance(value, Poly):
        pieces = tensors.pieces(value)
        return Seq(pieces) if pieces is not None else Seq([indexed(sym, value, sym.terms.of("loop", id(node)))], many=True)
    return Seq([sym.terms.of("element", token(value), id(node))], many=True)


def compared(sym: Symbolic, op: str, left: Value, right: Value) -> Value:
    """A comparison, decided where both sides are literals."""
    if op in ("is", "is not") and right == NONE and not isinstance(left, (Alt, Lit)) and not _unknown(left):
        return Lit(op == "is not")
    if op in ("==", "!=", "is", "is not") and isinstance(left, Lit) and isinstance(right, Lit) and _told(left) and _told(right):
        return Lit((left.value == right.value) == (op in ("==", "is")))
    if op in ("in", "not in") and isinstance(left, Lit) and isinstance(right, (Seq, Map)) and _told(left):
        held = [i.value for i in right.items if isinstance(i, Lit)] if isinstance(right, Seq) else list(right.items)
        if isinstance(right, Map) or len(held) == len(right.items):
            return Lit((left.value in held) == (op == "in"))
    if isinstance(left, Poly) and isinstance(right, Poly) and left is right and op == "==" and tensors.arange(left):
        return sym.terms.eye
    if isinstance(left, Poly) and isinstance(right, Poly) and tensors.same_range(left, right) and op in ("==", "!="):
        return sym.terms.eye if op == "==" else sym.terms.minus(sym.terms.one, sym.terms.eye)
    return sym.terms.of("test", op, token(left), token(right))


def _unknown(value: Value) -> bool:
    return isinstance(value, Poly) and value.constant is None and all(a.kind in ("given", "field", "call", "entry") for a in value.atoms())


def _told(value: Lit) -> bool:
    return isinstance(value.value, (str, bool, int, type(None)))


# -- callables


def taken(sym: Symbolic, taker: Taker, args: list[Value], node: ir.Node, frame: Frame) -> Value:
    """Call what `itemgetter`, `attrgetter` or `methodcaller` made."""
    if not args:
        return NONE
    if taker.kind == "methodcaller":
        name = taker.args[0]
        func = sym.attribute(args[0], str(name.value) if isinstance(name, Lit) else "", node, frame)
        return sym.call(func, taker.args[1:], taker.keywords, node, frame)
    out: list[Value] = []
    for wanted in taker.args:
        if taker.kind == "itemgetter":
            out.append(item(sym, args[0], wanted))
        else:
            held = args[0]
            for part in str(wanted.value).split(".") if isinstance(wanted, Lit) else ():
                held = sym.attribute(held, part, node, frame)
                sym.name(part, held)
            out.append(held)
    return out[0] if len(out) == 1 else Seq(out)


def call(sym: Symbolic, name: str, args: list[Value], keywords: dict[str, Value], node: ir.Node, frame: Frame) -> Value:
    """A call of an outside function."""
    prefix, _, last = name.rpartition(".")
    python = prefix.split(".", maxsplit=1)[0] in _MODULES
    if prefix == "operator":
        last = _OPERATORS.get(last.strip("_"), last.strip("_"))
    if prefix.endswith(("add", "multiply")) and last in ("reduce", "accumulate", "at", "outer"):
        last = f"{prefix.rpartition('.')[2]}.{last}"
    handler = _PYTHON.get(last)
    if handler is not None and (python or last in _ANYWHERE):
        value = handler(sym, args, keywords, node, frame)
        if value is not None:
            return value
    if last == "sorted" and "key" in keywords and args:
        for one in sym.iterated(each(args[0])[0], node, frame).items[:2]:
            sym.call(keywords["key"], [one], {}, node, frame)
    if last in _SAME and args and not (isinstance(args[0], Poly) and not python and last in tensors.FUNCTIONS):
        return args[0]
    if prefix == "operator" and any(isinstance(a, Obj) for a in args) and len(args) == 2:
        return sym.binary(
            {"add": "+", "sub": "-", "mul": "*", "div": "/", "matmul": "@", "or": "|"}.get(last, "?"), args[0], args[1], node, frame
        )
    out: list[Value] = []
    choices = [each(a) for a in args]
    for chosen in itertools.islice(itertools.product(*choices), 4):
        out.append(_tensor(sym, last, list(chosen), keywords, node, frame))
    return either(out)


def _tensor(sym: Symbolic, name: str, args: list[Value], keywords: dict[str, Value], node: ir.Node, frame: Frame) -> Value:
    base = name[:-1] if name.endswith("_") and not name.endswith("__") else name.strip("_")
    function = tensors.FUNCTIONS.get(name) or tensors.FUNCTIONS.get(base)
    value: Value | None = None
    if function is not None:
        one = {k: each(v)[0] for k, v in keywords.items()}
        value = function(tensors.Arguments(sym, base, args, one, node, frame))
    if value is None:
        called = _called_back(sym, args, keywords, node, frame)
        if called is not None:
            return called
        value = sym.unknown_call(name, args)
    sym.observe("value", node, frame, (value, Seq(args)))
    return value


def _called_back(sym: Symbolic, args: list[Value], keywords: dict[str, Value], node: ir.Node, frame: Frame) -> Value | None:
    # What is handed to an outside function may be called there: with what is handed along with it, or with parts of that.
    given = [*args, *keywords.values()]
    values = [a for a in given if not isinstance(a, (Fun, Partial))]
    out: list[Value] = []
    for func in given:
        inner = func.func if isinstance(func, Partial) else func
        if not isinstance(inner, Fun) or inner.fn in sym.running:
            continue
        wanted = len([p for p in inner.fn.positional if p.default is None]) - (inner.receiver is not None)
        wanted -= len(func.args) if isinstance(func, Partial) else 0
        rest: list[Value] = args[args.index(func) + 1 :] if func in args else []
        if not (len(rest) >= wanted or any(p.kind == "*" for p in inner.fn.node.params)):
            rest = []
        for value in values if wanted and not rest else ():
            if isinstance(value, Seq) and value.items and not isinstance(value.items[0], (Fun, Partial)):
                out.append(sym.call(func, value.items[:1] if wanted == 1 else value.items[:wanted], {}, node, frame))
                if wanted == 1:
                    out.append(sym.call(func, [value], {}, node, frame))
        if rest or not wanted or not out:
            out.append(sym.call(func, [*(rest or values)][: max(wanted, len(rest))], {}, node, frame))
    return either(out) if out else None


def method(sym: Symbolic, receiver: Value, name: str, args: list[Value], keywords: dict[str, Value], node: ir.Node, frame: Frame) -> Value:
    """A call of a method of a container, a text or a tensor."""
    if isinstance(receiver, Seq):
        found = _of_sequence(sym, receiver, name, args, frame)
        if found is not None:
            return found
    if isinstance(receiver, Map):
        found = _of_mapping(sym, receiver, name, args, keywords, frame)
        if found is not None:
            return found
    if isinstance(receiver, Fun):
        if name == "__call__":
            return sym.call(receiver, args, keywords, node, frame)
        if name in ("register", "dispatch") and args and isinstance(args[-1], Fun):
            return args[-1]
        return receiver if name == "__wrapped__" else sym.unknown_call(name, [receiver, *args])
    if isinstance(receiver, Partial) and name.startswith("register_") and name.endswith("_hook") and args:
        if receiver.func == Ext("torch.run_in_turn") and isinstance(receiver.args[0], Seq):
            _hang(receiver.args[0], name, args[0])
        return NONE
    if isinstance(receiver, Obj):
        return _of_object(sym, receiver, name, args, keywords)
    if isinstance(receiver, Lit):
        text = receiver.value
        if isinstance(text, str) and name in ("lower", "upper", "strip") and not args:
            return Lit(getattr(text, name)())
        return Lit(object())
    return call(sym, f"torch.{name}", [receiver, *args], keywords, node, frame)


def _of_sequence(sym: Symbolic, receiver: Seq, name: str, args: list[Value], frame: Frame) -> Value | None:
    if name in ("append", "add", "appendleft", "put", "insert", "put_nowait") and args:
        receiver.items.append(args[-1])
        receiver.many = receiver.many or bool(frame.loops)
        return NONE
    if name in ("extend", "update") and args:
        for option in each(args[0]):
            spread = sym.iterated(option, sym_node(frame), frame)
            receiver.items += spread.items
            receiver.many = receiver.many or spread.many
        return NONE
    if name in ("pop", "popleft", "get", "get_nowait") and receiver.items:
        at = number_of(args[0]) if args else -1 if name == "pop" else 0
        if (
            isinstance(at, int)
            and not (frame.loops or frame.branches or receiver.many)
            and -len(receiver.items) <= at < len(receiver.items)
        ):
            return receiver.items.pop(at)
        return receiver.items[at] if isinstance(at, int) and -len(receiver.items) <= at < len(receiver.items) else either(receiver.items)
    if name in ("__next__", "send") and receiver.items:
        return _next(sym, receiver, frame)
    if name in ("copy", "__iter__", "values"):
        return Seq(list(receiver.items), receiver.many)
    if name in ("reverse", "sort", "clear", "close", "index", "count", "remove", "join"):
        if name == "reverse":
            receiver.items.reverse()
        return NONE
    if name == "__getitem__" and args:
        return item(sym, receiver, args[0])
    return None


def sym_node(frame: Frame) -> Any:
    """A node to name what is spread in a frame."""
    return frame.fn.node if frame.fn is not None else frame.module.tree


def _of_mapping(sym: Symbolic, receiver: Map, name: str, args: list[Value], keywords: dict[str, Value], frame: Frame) -> Value | None:
    if name in ("get", "set") and "default" in receiver.items and len(args) == (name == "set"):  # a context variable
        if name == "set":
            receiver.rest += args
        return either([receiver.items["default"], *receiver.rest])
    if name in ("get", "pop", "__getitem__", "setdefault") and args:
        if name == "setdefault" and len(args) > 1 and _key(each(args[0])[0]) not in receiver.items:
            put(receiver, args[0], args[1])
        held = item(sym, receiver, args[0])
        known = _key(each(args[0])[0])
        if known is not None and known not in receiver.items and len(args) > 1 and name != "setdefault":
            return either([args[1], *receiver.rest])
        return held
    if name == "values":
        return Seq([*receiver.items.values(), *receiver.rest], many=bool(receiver.rest))
    if name == "keys":
        return Seq([Lit(k) for k in receiver.items])
    if name == "items":
        known_items: list[Value] = [
            Seq([sym.terms.number(k) if isinstance(k, (int, float)) else Lit(k), v]) for k, v in receiver.items.items()
        ]
        return Seq([*known_items, *(Seq([Lit(object()), v]) for v in receiver.rest)], many=bool(receiver.rest))
    if name in ("update", "__setitem__", "register"):
        for arg in args[:1] if name == "update" else ():
            for option in each(arg):
                if isinstance(option, Map):
                    receiver.items.update(option.items)
                    receiver.rest += option.rest
        if name != "update" and len(args) > 1:
            put(receiver, args[0], args[1])
        receiver.items.update(keywords)
        return NONE
    if name in ("copy", "_asdict", "model_dump"):
        return Map(dict(receiver.items), list(receiver.rest))
    return None


def _of_object(sym: Symbolic, receiver: Obj, name: str, args: list[Value], keywords: dict[str, Value]) -> Value:
    if name in ("_replace", "model_copy"):
        made = Obj(receiver.cls, {**receiver.attrs, **keywords}, receiver.shared)
        update = keywords.get("update")
        if isinstance(update, Map):
            made.attrs.update({str(k): v for k, v in update.items.items()})
        return made
    if name in ("_asdict", "model_dump", "dict"):
        return Map({**receiver.attrs})
    if name in ("register_forward_hook", "register_forward_pre_hook") and args:
        hooks = receiver.attrs.setdefault("_hooks", Seq([]))
        if isinstance(hooks, Seq):
            hooks.items.append(Partial(Ext("torch.hooked"), [args[0], Lit("pre" in name)], {}))
        return NONE
    if name in ("append", "register_module", "add_module", "register_buffer", "register_parameter", "__setattr__") and args:
        if isinstance(args[0], Lit) and len(args) > 1:
            receiver.attrs[str(args[0].value)] = args[1]
        return NONE
    if name in ("to", "eval", "train", "cuda", "cpu", "float", "double", "requires_grad_", "__enter__", "half", "clone", "detach"):
        return receiver
    return sym.unknown_call(name, [receiver, *args])


# -- Python's own functions


def _next(sym: Symbolic, value: Value, frame: Frame) -> Value:
    options: list[Value] = []
    for option in each(value):
        if isinstance(option, Seq) and option.items:
            at = min(option.position, len(option.items) - 1)
            option.position += 1
            options.append(option.items[at])
        elif isinstance(option, Obj):
            found = sym.method(option.cls, "__next__") or sym.method(option.cls, "__iter__")
            if found is not None:
                made = sym.call(Fun(found.fn, found.frame, option), [], {}, sym_node(frame), frame)
                options.append(_next(sym, made, frame) if found.fn.node.name == "__iter__" else made)
        else:
            options += sym.iterated(option, sym_node(frame), frame).items[:1]
    return either(options)


def _fold(sym: Symbolic, func: Value, items: list[Value], node: ir.Node, frame: Frame) -> Value:
    total = items[0]
    for each_one in items[1:]:
        total = sym.call(func, [total, each_one], {}, node, frame)
    return total


def _reduce(sym: Symbolic, args: list[Value], keywords: dict[str, Value], node: ir.Node, frame: Frame) -> Value | None:
    if len(args) < 2:
        return None
    found = sym.iterated(args[1], node, frame)
    start = [args[2]] if len(args) > 2 else []
    items = [*start, *found.items, *(found.items[-1:] if found.many else [])]
    return _fold(sym, args[0], items, node, frame) if items else NONE


def _accumulate(sym: Symbolic, args: list[Value], keywords: dict[str, Value], node: ir.Node, frame: Frame) -> Value | None:
    found = sym.iterated(args[0], node, frame)
    func = args[1] if len(args) > 1 else Ext("operator.add")
    out = found.items[:1]
    for each_one in found.items[1:]:
        out.append(sym.call(func, [out[-1], each_one], {}, node, frame))
    return Seq(out, found.many)


def _sum(sym: Symbolic, args: list[Value], keywords: dict[str, Value], node: ir.Node, frame: Frame) -> Value | None:
    if not args:
        return None
    if isinstance(args[0], Poly):
        return call(sym, "torch.sum", [args[0], sym.terms.zero], {}, node, frame) if tensors.pieces(args[0]) is not None else None
    found = sym.iterated(args[0], node, frame)
    items = [*args[1:2], *found.items]
    if "start" in keywords:
        items.insert(0, keywords["start"])
    if found.many and len(found.items) == 1 and isinstance(found.items[0], Poly) and tensors.diagonal_of(found.items[0]) is not None:
        return call(sym, "torch.sum", [found.items[0], sym.terms.zero], {}, node, frame)
    return _fold(sym, Ext("operator.add"), items, node, frame) if items else sym.terms.zero


def _map(sym: Symbolic, args: list[Value], keywords: dict[str, Value], node: ir.Node, frame: Frame) -> Value | None:
    if len(args) < 2:
        return None
    rows = [sym.iterated(a, node, frame) for a in args[1:]]
    count = min((len(r.items) for r in rows if not r.many), default=max(len(r.items) for r in rows))
    out = [sym.call(args[0], [r.items[min(i, len(r.items) - 1)] for r in rows], {}, node, frame) for i in range(min(count, 8))
           if all(r.items for r in rows)]  # fmt: skip
    return Seq(out, all(r.many for r in rows))


def _starmap(sym: Symbolic, args: list[Value], keywords: dict[str, Value], node: ir.Node, frame: Frame) -> Value | None:
    found = sym.iterated(args[1], node, frame)
    return Seq([sym.call(args[0], sym.iterated(i, node, frame).items, {}, node, frame) for i in found.items[:8]], found.many)


def _zip(sym: Symbolic, args: list[Value], keywords: dict[str, Value], node: ir.Node, frame: Frame) -> Value | None:
    rows = [sym.iterated(each(a)[0], node, frame) for a in args]
    if not rows or not all(r.items for r in rows):
        return Seq([])
    count = min((len(r.items) for r in rows if not r.many), default=max(len(r.items) for r in rows))
    return Seq([Seq([r.items[min(i, len(r.items) - 1)] for r in rows]) for i in range(count)], all(r.many for r in rows))


def _enumerate(sym: Symbolic, args: list[Value], keywords: dict[str, Value], node: ir.Node, frame: Frame) -> Value | None:
    found = sym.iterated(args[0], node, frame)
    counts = [sym.terms.of("loop", id(node)) if found.many else sym.terms.number(i) for i in range(len(found.items))]
    return Seq([Seq([c, i]) for c, i in zip(counts, found.items, strict=True)], found.many)


def _chain(sym: Symbolic, args: list[Value], keywords: dict[str, Value], node: ir.Node, frame: Frame) -> Value | None:
    rows = [sym.iterated(a, node, frame) for a in args]
    return Seq([i for r in rows for i in r.items], any(r.many for r in rows))


def _flattened(sym: Symbolic, args: list[Value], keywords: dict[str, Value], node: ir.Node, frame: Frame) -> Value | None:
    return _chain(sym, sym.iterated(args[0], node, frame).items, keywords, node, frame)


def _product(sym: Symbolic, args: list[Value], keywords: dict[str, Value], node: ir.Node, frame: Frame) -> Value | None:
    if args and isinstance(args[0], Poly):
        return None
    rows = [sym.iterated(a, node, frame) for a in args]
    repeat = number_of(keywords["repeat"]) if "repeat" in keywords else 1
    rows = rows * (repeat if isinstance(repeat, int) else 1)
    return Seq([Seq(list(c)) for c in itertools.islice(itertools.product(*(r.items for r in rows)), 16)], any(r.many for r in rows))


def _pairs(sym: Symbolic, args: list[Value], keywords: dict[str, Value], node: ir.Node, frame: Frame) -> Value | None:
    found = sym.iterated(args[0], node, frame)
    return Seq([Seq([a, b]) for a, b in itertools.islice(itertools.combinations(found.items, 2), 12)], found.many)


def _range(sym: Symbolic, args: list[Value], keywords: dict[str, Value], node: ir.Node, frame: Frame) -> Value | None:
    given = [number_of(a) for a in args]
    if all(isinstance(g, int) for g in given) and given:
        steps = range(*[g for g in given if isinstance(g, int)]) if 0 not in given[2:] else range(0)
        if len(steps) <= 8:
            return Seq([sym.terms.number(i) for i in steps])
    return Seq([sym.terms.of("loop", id(node))], many=True)


def _getattr(sym: Symbolic, args: list[Value], keywords: dict[str, Value], node: ir.Node, frame: Frame) -> Value | None:
    out: list[Value] = []
    for name in each(args[1]) if len(args) > 1 else ():
        if isinstance(name, Lit) and isinstance(name.value, str):
            held = sym.attribute(args[0], name.value, node, frame)
            sym.name(name.value, held)
            out.append(held)
    return either(out) if out else sym.terms.of("entry", *(token(a) for a in args))


def _setattr(sym: Symbolic, args: list[Value], keywords: dict[str, Value], node: ir.Node, frame: Frame) -> Value | None:
    if len(args) == 3 and isinstance(args[1], Lit):
        sym.name(str(args[1].value), args[2])
        for owner in each(args[0]):
            sym.store_attribute(owner, str(args[1].value), args[2], frame)
    return NONE


def _dict(sym: Symbolic, args: list[Value], keywords: dict[str, Value], node: ir.Node, frame: Frame) -> Value | None:
    out = Map()
    for option in each(args[0]) if args else ():
        if isinstance(option, Map):
            out.items.update(option.items)
            out.rest += option.rest
        elif isinstance(option, Seq):
            for pair in option.items:
                if isinstance(pair, Seq) and len(pair.items) == 2:
                    put(out, pair.items[0], pair.items[1])
        elif isinstance(option, Obj):
            out.items.update(option.attrs)
    out.items.update(keywords)
    return out


def _partial(sym: Symbolic, args: list[Value], keywords: dict[str, Value], node: ir.Node, frame: Frame) -> Value | None:
    return Partial(args[0], args[1:], dict(keywords)) if args else None


def _partial_method(sym: Symbolic, args: list[Value], keywords: dict[str, Value], node: ir.Node, frame: Frame) -> Value | None:
    return Partial(args[0], args[1:], dict(keywords), method=True) if args else None


def _loader(sym: Symbolic, args: list[Value], keywords: dict[str, Value], node: ir.Node, frame: Frame) -> Value | None:
    collate = keywords.get("collate_fn")
    if not args:
        return None
    return Seq([sym.call(collate, [args[0]], {}, node, frame)], many=True) if isinstance(collate, (Fun, Partial, Obj)) else args[0]


def _field(sym: Symbolic, args: list[Value], keywords: dict[str, Value], node: ir.Node, frame: Frame) -> Value | None:
    return Partial(Ext("dataclasses.field"), [], dict(keywords))


def _taker(kind: str) -> Callable[..., Value]:
    return lambda sym, args, keywords, node, frame: Taker(kind, args, keywords)


def _replace(sym: Symbolic, args: list[Value], keywords: dict[str, Value], node: ir.Node, frame: Frame) -> Value | None:
    for option in each(args[0]) if args else ():
        if isinstance(option, Obj):
            for name, value in keywords.items():
                sym.name(name, value)
            return Obj(option.cls, {**option.attrs, **keywords}, option.shared)
    return None


def _fields(sym: Symbolic, args: list[Value], keywords: dict[str, Value], node: ir.Node, frame: Frame) -> Value | None:
    for option in each(args[0]) if args else ():
        if isinstance(option, Obj):
            return Map({**option.attrs})
        if isinstance(option, Map):
            return option
    return None


def _astuple(sym: Symbolic, args: list[Value], keywords: dict[str, Value], node: ir.Node, frame: Frame) -> Value | None:
    return sym.iterated(args[0], node, frame) if args else None


def _next_of(sym: Symbolic, args: list[Value], keywords: dict[str, Value], node: ir.Node, frame: Frame) -> Value | None:
    return _next(sym, args[0], frame) if args else None


def _len(sym: Symbolic, args: list[Value], keywords: dict[str, Value], node: ir.Node, frame: Frame) -> Value | None:
    if args and isinstance(args[0], Seq) and not args[0].many:
        return sym.terms.number(len(args[0].items))
    if args and isinstance(args[0], Map) and not args[0].rest:
        return sym.terms.number(len(args[0].items))
    pieces = tensors.pieces(args[0]) if args and isinstance(args[0], Poly) else None
    return sym.terms.number(len(pieces)) if pieces is not None else sym.terms.of("count", *(token(a) for a in args))


def _filter(sym: Symbolic, args: list[Value], keywords: dict[str, Value], node: ir.Node, frame: Frame) -> Value | None:
    return sym.iterated(args[-1], node, frame) if args else None


def _number(sym: Symbolic, args: list[Value], keywords: dict[str, Value], node: ir.Node, frame: Frame) -> Value | None:
    if args and isinstance(args[0], Lit) and isinstance(args[0].value, str):
        try:
            return sym.terms.number(float(args[0].value))
        except ValueError:
            return None
    if len(args) == 2 and all(isinstance(a, Poly) for a in args):
        return sym.binary("/", args[0], args[1], node, frame)
    return args[0] if args and isinstance(args[0], Poly) else None


def _namespace(sym: Symbolic, args: list[Value], keywords: dict[str, Value], node: ir.Node, frame: Frame) -> Value | None:
    for name, value in keywords.items():
        sym.name(name, value)
    return Map({**keywords})


def _namedtuple(sym: Symbolic, args: list[Value], keywords: dict[str, Value], node: ir.Node, frame: Frame) -> Value | None:
    names: list[str] = []
    if len(args) > 1 and isinstance(args[1], Lit):
        names = str(args[1].value).replace(",", " ").split()
    elif len(args) > 1 and isinstance(args[1], Seq):
        names = [str(i.value) for i in args[1].items if isinstance(i, Lit)]
    return Partial(Ext("collections.record"), [Seq([Lit(n) for n in names])], {})


def _record(sym: Symbolic, args: list[Value], keywords: dict[str, Value], node: ir.Node, frame: Frame) -> Value | None:
    names = [str(n.value) for n in args[0].items if isinstance(n, Lit)] if args and isinstance(args[0], Seq) else []
    made = {**dict(zip(names, args[1:], strict=False)), **keywords}
    for name, value in made.items():
        sym.name(name, value)
    return Record({n: made[n] for n in names if n in made})


def _sequential(sym: Symbolic, args: list[Value], keywords: dict[str, Value], node: ir.Node, frame: Frame) -> Value | None:
    return Partial(Ext("torch.run_in_turn"), [Seq(list(args))], {})


def _nothing(sym: Symbolic, args: list[Value], keywords: dict[str, Value], node: ir.Node, frame: Frame) -> Value | None:
    return Partial(Ext("torch.run_in_turn"), [Seq([])], {})


def _in_turn(sym: Symbolic, args: list[Value], keywords: dict[str, Value], node: ir.Node, frame: Frame) -> Value | None:
    value = args[1] if len(args) > 1 else NONE
    for stage in args[0].items if isinstance(args[0], Seq) else ():
        value = sym.call(stage, [value], {}, node, frame)
    return value


def _hooked(sym: Symbolic, args: list[Value], keywords: dict[str, Value], node: ir.Node, frame: Frame) -> Value | None:
    # What a module's hook makes of what comes in or goes out.
    hook, before, value = args[0], args[1], args[-1]
    module = Lit("module")
    given: list[Value] = [module, Seq([value])] if before == Lit(True) else [module, Seq([value]), value]
    made = sym.call(hook, given, {}, node, frame)
    if made == NONE:
        return value
    return made.items[0] if isinstance(made, Seq) and made.items else made


def _hang(stages: Seq, name: str, hook: Value) -> None:
    before = "pre" in name
    stage = Partial(Ext("torch.hooked"), [hook, Lit(before)], {})
    stages.items.insert(0 if before else len(stages.items), stage)


def _added_at(sym: Symbolic, args: list[Value], keywords: dict[str, Value], node: ir.Node, frame: Frame) -> Value | None:
    if len(args) == 3 and isinstance(args[0], Poly):
        owner = diagonal_of(indexed(sym, args[0], args[1]))
        if owner is not None:
            sym.observe("diagonal", node, frame, (owner, args[2], 1))
    return NONE


def _added_up(sym: Symbolic, args: list[Value], keywords: dict[str, Value], node: ir.Node, frame: Frame) -> Value | None:
    return _reduce(sym, [Ext("operator.add"), *args[:1]], {}, node, frame) if args else None


def _empty_list(sym: Symbolic, args: list[Value], keywords: dict[str, Value], node: ir.Node, frame: Frame) -> Value | None:
    if not args:
        return Seq([])
    found = sym.iterated(each(args[0])[0], node, frame)
    return Seq(list(found.items), found.many)


def _repeated(sym: Symbolic, args: list[Value], keywords: dict[str, Value], node: ir.Node, frame: Frame) -> Value | None:
    return Seq(args[:1], many=True)


def _turned_round(sym: Symbolic, args: list[Value], keywords: dict[str, Value], node: ir.Node, frame: Frame) -> Value | None:
    found = sym.iterated(each(args[0])[0], node, frame)
    return Seq(list(reversed(found.items)), found.many)


def _copied(sym: Symbolic, args: list[Value], keywords: dict[str, Value], node: ir.Node, frame: Frame) -> Value | None:
    value = args[0] if args else NONE
    return Seq(list(value.items), value.many) if isinstance(value, Seq) else value


def _defaulting(sym: Symbolic, args: list[Value], keywords: dict[str, Value], node: ir.Node, frame: Frame) -> Value | None:
    return Map()


def _print(sym: Symbolic, args: list[Value], keywords: dict[str, Value], node: ir.Node, frame: Frame) -> Value | None:
    return NONE


def _isinstance(sym: Symbolic, args: list[Value], keywords: dict[str, Value], node: ir.Node, frame: Frame) -> Value | None:
    if len(args) == 2 and isinstance(args[0], (Obj, Poly, Map, Seq)) and not (isinstance(args[0], Poly) and _unknown(args[0])):
        kinds = args[1].items if isinstance(args[1], Seq) else [args[1]]
        if all(isinstance(k, Klass) for k in kinds):
            order = sym.mro(args[0].cls) if isinstance(args[0], Obj) else []
            held = any(isinstance(k, Klass) and k.cls in order for k in kinds)
            if held or not (isinstance(args[0], Obj) and args[0].shared):
                return Lit(held)
    return Lit(object())


_PYTHON: dict[str, Callable[..., Value | None]] = {
    "next": _next_of, "reduce": _reduce, "accumulate": _accumulate, "sum": _sum, "fsum": _sum, "map": _map, "starmap": _starmap,
    "zip": _zip, "zip_longest": _zip, "enumerate": _enumerate, "chain": _chain, "from_iterable": _flattened, "product": _product,
    "combinations": _pairs, "permutations": _pairs, "pairwise": _pairs, "range": _range, "getattr": _getattr, "setattr": _setattr,
    "dict": _dict, "partial": _partial, "partialmethod": _partial_method, "DataLoader": _loader, "field": _field, "itemgetter":
    _taker("itemgetter"), "attrgetter": _taker("attrgetter"), "methodcaller": _taker("methodcaller"), "replace": _replace,
    "asdict": _fields, "vars": _fields, "astuple": _astuple, "len": _len, "filter": _filter, "float": _number, "int": _number,
    "Fraction": _number, "SimpleNamespace": _namespace, "namedtuple": _namedtuple, "record": _record, "Sequential": _sequential,
    "Identity": _nothing, "Dropout": _nothing, "hooked": _hooked, "run_in_turn": _in_turn, "add.at": _added_at, "add.reduce":
    _added_up, "list": _empty_list, "tuple": _empty_list, "deque": _empty_list, "set": _empty_list, "repeat": _repeated,
    "reversed": _turned_round, "copy": _copied, "defaultdict": _defaulting, "print": _print, "isinstance": _isinstance, "hasattr":
    _isinstance, "callable": _isinstance, "OrderedDict": _dict, "ModuleDict": _dict, "ModuleList": _empty_list, "TensorDict":
    _dict, "ContextVar": _namespace, "run": lambda sym, args, keywords, node, frame: args[0] if args and isinstance(args[0], Poly)
    else None, "submit": lambda sym, args, keywords, node, frame: sym.call(args[1], args[2:], keywords, node, frame) if len(args)
    > 1 else None,
}  # fmt: skip
_ANYWHERE = frozenset(
    ["Sequential", "Identity", "Dropout", "hooked", "run_in_turn", "add.at", "add.reduce", "SimpleNamespace", "namedtuple", "ModuleDict",
     "ModuleList", "partial", "Fraction", "defaultdict", "OrderedDict", "TensorDict", "submit", "itemgetter", "reduce",
     "ContextVar", "run", "DataLoader", "partialmethod", "starmap", "attrgetter", "methodcaller"]
)  # fmt: skip
