"""Calls when code is run on symbols: the packages' own functions run inside, with what they are given."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from audits.static.analysis.values import Func as KnownFunc
from audits.static.analysis.values import Inst
from audits.static.dataflow.demands import field_names
from audits.static.dataflow.flow import Place
from audits.static.source import ir
from audits.static.source.project import ClassInfo, FunctionInfo
from audits.static.subjects.symbolic import library
from audits.static.subjects.symbolic.symbols import (
    ALTERNATIVES,
    NONE,
    Alt,
    Ext,
    Frame,
    Fun,
    Klass,
    Lit,
    Map,
    Method,
    Obj,
    Partial,
    Seq,
    Super,
    Taker,
    Value,
    each,
    either,
)
from audits.static.subjects.symbolic.terms import Poly

if TYPE_CHECKING:

    from audits.static.subjects.symbolic.run import Symbolic

_DEPTH = 10
_OF_MATRICES = frozenset({"turned", "product", "trace", "eye", "diagonal", "diagonal-matrix", "stack", "vectors"})
STEPS = 100
"""Evaluations that one call of the function that is run may take, with all that it calls."""


def _call(sym: Symbolic, node: ir.Call, frame: Frame) -> Value:
    func = sym.eval(node.func, frame)
    if isinstance(func, Ext) and func.name == "builtins.super":
        current: Frame | None = frame
        while current is not None and (current.fn is None or current.fn.cls is None):
            current = current.parent
        return Super(current.fn.cls, current.receiver) if current is not None and current.fn is not None and current.fn.cls else NONE
    args: list[Value] = []
    keywords: dict[str, Value] = {}
    for arg in node.args:
        value = sym.eval(arg.value, frame)
        if arg.star == "*":
            args += sym.iterated(each(value)[0], node, frame).items
        elif arg.star == "**":
            for option in each(value):
                if isinstance(option, Map):
                    keywords.update({str(k): v for k, v in option.items.items()})
        elif arg.keyword is not None:
            keywords[arg.keyword] = value
        else:
            args.append(value)
    out = [sym.call(option, args, keywords, node, frame) for option in each(func)]
    value = either(out)
    name = ir.last_name(node.func)
    if isinstance(func, (Fun, Method, Poly)) or (isinstance(func, Ext) and name in ("cov", "dense")):
        sym.name(f"{name}()", value)
    _changed_in_place(sym, node, func, args, keywords, value, frame)
    return value


def _changed_in_place(sym: Symbolic, node: ir.Call, func: Value, args: list[Value], keywords: dict[str, Value], value: Value, frame: Frame
) -> None:
    name = ir.last_name(node.func)
    out = next((a.value for a in node.args if a.keyword == "out"), None)
    if out is not None:
        for item in out.items[:1] if isinstance(out, ir.Sequence) else [out]:
            sym.rebind(item, value, frame, node)
    elif isinstance(func, Method) and name.endswith("_") and not name.endswith("__") and isinstance(func.receiver, Poly):
        if isinstance(node.func, ir.Attribute):
            _written(sym, node.func.value, func.receiver, name, args, keywords, value, node, frame)
    elif isinstance(func, Alt) and name.endswith("_") and isinstance(node.func, ir.Attribute):
        for option in func.options:
            if isinstance(option, Method) and isinstance(option.receiver, Poly):
                _written(sym, node.func.value, option.receiver, name, args, keywords, value, node, frame)
    elif isinstance(func, Ext) and name in ("add_", "mul_", "div_", "sub_", "copyto") and node.args:
        sym.rebind(node.args[0].value, value, frame, node)


def _written(
    sym: Symbolic,
    target: ir.Expr,
    before: Poly,
    name: str,
    args: list[Value],
    keywords: dict[str, Value],
    value: Value,
    node: ir.Node,
    frame: Frame,
) -> None:
    found = library.diagonal_of(before)
    if found is not None and found.constant == 0 and isinstance(target, ir.Call) and isinstance(target.func, ir.Attribute):
        sym.rebind(target.func.value, sym.terms.times(sym.terms.eye, sym.tensor(args[0] if args else value)), frame, node)
        return
    if found is not None and name != "zero_":
        given = args[0] if args else next(iter(keywords.values()), sym.terms.one)
        sym.observe("diagonal", node, frame, (found, given, -1 if name.startswith("sub") else 1))
        return
    while isinstance(target, ir.Call) and isinstance(target.func, ir.Attribute):  # of a chain, or of a view
        if ir.last_name(target.func) not in library.VIEWS and not ir.last_name(target.func).endswith("_"):
            return
        target = target.func.value
    if isinstance(target, ir.Subscript):
        base = sym.eval(target.value, frame)
        if isinstance(base, Poly):
            sym.rebind(target.value, library.stored(sym, base, sym.eval(target.index, frame), value), frame, node)
            return
    if isinstance(target, (ir.Name, ir.Attribute, ir.Subscript)):
        sym.rebind(target, value, frame, node)


def call(sym: Symbolic, func: Value, args: list[Value], keywords: dict[str, Value], node: ir.Node, frame: Frame) -> Value:
    """What a call returns."""
    if isinstance(func, Fun):
        return _inline(sym, func, args, keywords, node, frame)
    if isinstance(func, Partial):
        return sym.call(func.func, [*func.args, *args], {**func.keywords, **keywords}, node, frame)
    if isinstance(func, Klass):
        return _constructed(sym, func.cls, args, keywords, node, frame)
    if isinstance(func, Obj):
        for name in ("__call__", "forward"):
            found = sym.method(func.cls, name)
            if found is not None:
                return _hooked(sym, func, Fun(found.fn, found.frame, func), args, keywords, node, frame)
        return _opaque(sym, func, args, node, frame)
    if isinstance(func, Alt):
        return either([sym.call(f, args, keywords, node, frame) for f in func.options])
    if isinstance(func, Taker):
        return library.taken(sym, func, args, node, frame)
    if isinstance(func, Ext):
        return library.call(sym, func.name, args, keywords, node, frame)
    if isinstance(func, Method):
        return _method(sym, func, args, keywords, node, frame)
    field = library.field_of(func) if isinstance(func, Poly) else None
    if field is not None:
        return _method(sym, Method(*field), args, keywords, node, frame)
    return _opaque(sym, func, args, node, frame)


def _hooked(sym: Symbolic, owner: Obj, run: Fun, args: list[Value], keywords: dict[str, Value], node: ir.Node, frame: Frame) -> Value:
    hooks = owner.attrs.get("_hooks")
    for hook in hooks.items if isinstance(hooks, Seq) and args else ():
        if isinstance(hook, Partial) and hook.args[1] == Lit(True):
            args = [sym.call(hook, args[:1], {}, node, frame), *args[1:]]
    value = sym.call(run, args, keywords, node, frame)
    for hook in hooks.items if isinstance(hooks, Seq) else ():
        if isinstance(hook, Partial) and hook.args[1] == Lit(False):
            value = sym.call(hook, [value], {}, node, frame)
    return value


def _method(sym: Symbolic, func: Method, args: list[Value], keywords: dict[str, Value], node: ir.Node, frame: Frame) -> Value:
    if isinstance(func.receiver, Poly) and func.name not in library.METHODS:
        known = _analysed(sym, node, args, keywords, frame)
        return known if known is not None else library.call(sym, f"torch.{func.name}", [func.receiver, *args], keywords, node, frame)
    return library.method(sym, func.receiver, func.name, args, keywords, node, frame)


def _analysed(sym: Symbolic, node: ir.Node, args: list[Value], keywords: dict[str, Value], frame: Frame) -> Value | None:
    # What the analysis knows to be called.
    if not isinstance(node, ir.Call):
        return None
    found: list[Value] = []
    for callee in sym.flow.callees(Place(node, frame.module, frame.fn)):
        if isinstance(callee, KnownFunc) and not callee.weak:
            made = sym.made.get(callee.fn) or Fun(callee.fn, sym.module(callee.fn.module))
            bound = sym.instance(callee.fn.cls) if callee.bound and callee.fn.cls is not None else None
            found.append(sym.call(Fun(made.fn, made.frame, bound), args, keywords, node, frame))
        elif isinstance(callee, Inst):
            found.append(sym.call(sym.instance(callee.cls), args, keywords, node, frame))
        if len(found) >= ALTERNATIVES:
            break
    return either(found) if found else None


def _opaque(sym: Symbolic, func: Value, args: list[Value], node: ir.Node, frame: Frame) -> Value:
    known = _analysed(sym, node, args, {}, frame) if not isinstance(func, (Obj, Lit)) else None
    return known if known is not None else sym.unknown_call(library.token(func), args)


def unknown_call(sym: Symbolic, name: Any, args: list[Value]) -> Poly:
    """A result of which nothing is known but what it was made from."""
    return sym.terms.of("call", name, *(library.token(a) for a in args))


def _inline(sym: Symbolic, func: Fun, args: list[Value], keywords: dict[str, Value], node: ir.Node, frame: Frame) -> Value:
    fn = func.fn
    given = [func.receiver, *args] if func.receiver is not None else list(args)
    if sym.opaque(fn):
        built = sym.unknown_call(fn.symbol, [*given, *keywords.values()])
        sym.name("covariance()", built)
        return built
    if not (sym.relevance.near(fn) or sym.relevance.small(fn) or any(map(_interesting, [*given, *keywords.values()]))):
        return sym.unknown_call(fn.symbol, [*given, *keywords.values()])
    if len(sym.stack) >= _DEPTH or sym.stack.count(fn) > 3 or (sym.left <= 0 and len(sym.stack) > 1):
        return sym.unknown_call(fn.symbol, [*given, *keywords.values()])
    key = (fn, id(func.frame), *(library.token(g) for g in given), *((k, library.token(v)) for k, v in keywords.items()))
    simple = func.frame.fn is None and all(map(_unchanging, [*given, *keywords.values()]))
    if simple and key in sym.memo:
        return sym.memo[key]
    if len(sym.stack) <= 1:
        sym.left = STEPS  # each call of the function that is run has its own share
    inner = Frame(fn.module, fn, func.frame, receiver=func.receiver)
    inner.branches = inner.loops = 0
    _bind(sym, fn, inner, given, keywords)
    if fn.cls is not None and inner.receiver is None and given:
        inner.receiver = given[0]
    value = sym.body(fn, inner)
    if fn.module is sym.home and frame.module is not sym.home:
        value = either([_sealed(sym, v) for v in each(value)])
    if simple:
        sym.memo[key] = value
    if inner.changed and isinstance(node, ir.Call):
        _handed_back(sym, fn, inner, func, node, frame)
    return value


def _sealed(sym: Symbolic, value: Value) -> Value:
    # What the builder's module has built is whole for everyone else.
    return sym.terms.of("sealed", value) if isinstance(value, Poly) and len(value.terms) > 1 else value


def _handed_back(sym: Symbolic, fn: FunctionInfo, inner: Frame, func: Fun, node: ir.Call, frame: Frame) -> None:
    # A tensor that the function changed in place has changed for its caller, too.
    names = [p.name for p in fn.positional][1 if func.receiver is not None else 0 :]
    plain = [a.value for a in node.args if a.keyword is None and not a.star]
    given = {**dict(zip(names, plain, strict=False)), **{a.keyword: a.value for a in node.args if a.keyword}}
    for name, expr in given.items():
        if name in inner.changed and isinstance(expr, (ir.Name, ir.Attribute)) and isinstance(inner.variables.get(str(name)), Poly):
            sym.rebind(expr, inner.variables[str(name)], frame, node)


def _bind(sym: Symbolic, fn: FunctionInfo, inner: Frame, given: list[Value], keywords: dict[str, Value]) -> None:
    left = dict(keywords)
    place = 0
    for param in fn.node.params:
        if param.kind == "*":
            inner.variables[param.name] = Seq(given[place:])
            place = len(given)
            continue
        if param.kind == "**":
            inner.variables[param.name] = Map({**left})
            continue
        if param.kind == "pos" and place < len(given):
            value = given[place]
            place += 1
        elif param.name in left:
            value = left.pop(param.name)
        elif param.default is not None:
            value = sym.eval(param.default, inner.parent or inner)
        else:
            value = sym.unknown(param, fn)
        inner.variables[param.name] = sym.name(param.name, value)


def _constructed(sym: Symbolic, cls: ClassInfo, args: list[Value], keywords: dict[str, Value], node: ir.Node, frame: Frame) -> Value:
    made = Obj(cls)
    for owner in sym.mro(cls):
        meta = next((a.value for a in owner.node.keywords if a.keyword == "metaclass"), None)
        held = sym.eval(meta, sym.module(owner.module)) if meta is not None else NONE
        caller = sym.method(held.cls, "__call__") if isinstance(held, Klass) else None
        if caller is not None and caller.fn not in sym.stack:
            return sym.call(Fun(caller.fn, caller.frame, Klass(cls)), args, keywords, node, frame)
    init = sym.method(cls, "__init__")
    if (sym.left <= 0 and len(sym.stack) > 1) or len(sym.stack) >= _DEPTH:
        return made
    if init is not None:
        sym.call(Fun(init.fn, init.frame, made), args, keywords, node, frame)
        return made
    names = list(dict.fromkeys(n for c in reversed(sym.mro(cls)) for n in field_names(c)))
    given = {**dict(zip(names, args, strict=False)), **keywords}
    for name in names:
        value = given.get(name)
        if value is None:
            value = next((sym.body_of(c).variables[name] for c in sym.mro(cls) if name in sym.body_of(c).variables), None)
            if isinstance(value, Partial) and value.func == Ext("dataclasses.field"):
                factory = value.keywords.get("default_factory")
                usual = value.keywords.get("default", NONE)
                value = sym.call(factory, [], {}, node, frame) if factory is not None else usual
        if value is not None:
            made.attrs[name] = sym.name(name, value)
    for name, value in keywords.items():
        made.attrs.setdefault(name, value)
    if sym.outside(cls, "Enum") and args:
        made.attrs["value"] = args[0]
    after = sym.method(cls, "__post_init__")
    if after is not None:
        sym.call(Fun(after.fn, after.frame, made), [], {}, node, frame)
    return made


def _unchanging(value: Value) -> bool:
    # Whether a call with this argument gives the same each time.
    if isinstance(value, (Alt, Seq)):
        return all(map(_unchanging, value.options if isinstance(value, Alt) else value.items)) and not getattr(value, "position", 0)
    return isinstance(value, (Poly, Lit, Ext, Klass)) or (isinstance(value, Obj) and value.shared)


def _interesting(value: Value) -> bool:
    # Whether a function that does nothing with matrices itself may do something with this argument.
    if isinstance(value, Poly):
        return any(a.kind in _OF_MATRICES for a in value.atoms())
    if isinstance(value, Alt):
        return any(map(_interesting, value.options))
    if isinstance(value, Seq):
        return any(map(_interesting, value.items[:ALTERNATIVES]))
    return isinstance(value, (Fun, Partial, Taker, Ext))
