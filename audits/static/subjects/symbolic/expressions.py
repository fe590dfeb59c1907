"""What expressions compute when code is run on symbols."""

from __future__ import annotations

import builtins
from typing import TYPE_CHECKING, Any

from audits.static.analysis.values import Inst
from audits.static.dataflow.demands import field_names
from audits.static.dataflow.flow import Place
from audits.static.source import ir
from audits.static.subjects.symbolic import calls, library
from audits.static.subjects.symbolic.symbols import (
    ALTERNATIVES,
    NONE,
    UNROLLED,
    Alt,
    Ext,
    Frame,
    Fun,
    Lit,
    Map,
    Obj,
    Record,
    Seq,
    Value,
    each,
    either,
)
from audits.static.subjects.symbolic.terms import Poly

if TYPE_CHECKING:

    from audits.static.subjects.symbolic.run import Symbolic

_BUILTINS = frozenset(dir(builtins))
_OPERATORS = {"+": "add", "-": "sub", "*": "mul", "/": "div", "@": "matmul", "**": "pow", "//": "floordiv", "%": "mod"}
_SPECIAL = {"+": "add", "-": "sub", "*": "mul", "/": "truediv", "@": "matmul", "**": "pow", "|": "or", ">>": "rshift", "<<": "lshift",
            "&": "and", "^": "xor", "//": "floordiv", "%": "mod"}  # fmt: skip
_ARRAYS = frozenset({"xp", "np", "jnp", "torch", "th", "tnp", "backend", "lib", "ops", "anp", "cp", "xnp"})


def evaluate(sym: Symbolic, node: ir.Expr, frame: Frame) -> Value:
    """What an expression computes."""
    sym.left -= 1
    handler = _EXPRESSIONS.get(type(node))
    return handler(sym, node, frame) if handler is not None else NONE


def _name(sym: Symbolic, node: ir.Name, frame: Frame) -> Value:
    current: Frame | None = frame
    while current is not None:
        found = current.variables.get(node.id)
        if found is not None:
            return found
        current = current.parent
    if frame.module in sym.modules:
        found = sym.modules[frame.module].variables.get(node.id)
        if found is not None:
            return found
        if node.id in frame.module.scope.names or frame.module.scope.stars:
            held = sym.of_module(frame.module, node.id) if frame.module.scope.stars else None
            if held is not None and not isinstance(held, Ext):
                return held
    if node.id in _BUILTINS:
        return Ext(f"builtins.{node.id}")
    made = sym.terms.of("name", frame.module.name, node.id)
    sym.name(node.id, made)
    return made


def _attribute(sym: Symbolic, node: ir.Attribute, frame: Frame) -> Value:
    receiver = sym.eval(node.value, frame)
    if isinstance(receiver, Poly) and ir.last_name(node.value) in _ARRAYS and library.data(sym, receiver, node.attr) is None:
        return Ext(f"torch.{node.attr}")
    value = sym.attribute(receiver, node.attr, node, frame)
    if (
        isinstance(value, Poly)
        and isinstance(receiver, Poly)
        and node.attr not in library.METHODS
        and library.field_of(value) is not None
    ):
        # Of an object of which nothing is known: a field, unless it is called.
        typed = [r for r in sym.flow.unit(Place(node, frame.module, frame.fn)).receivers.get(node, ()) if isinstance(r, Inst)]
        held = [sym.attribute(sym.instance(r.cls), node.attr, node, frame) for r in typed[:ALTERNATIVES]]
        value = either(held) if held else value
    sym.name(node.attr, value)
    return value


def _constant(sym: Symbolic, node: ir.Constant, frame: Frame) -> Value:
    if isinstance(node.value, (int, float, complex)) and not isinstance(node.value, bool):
        return sym.terms.number(node.value)
    return Lit(node.value)


def _fstring(sym: Symbolic, node: ir.FString, frame: Frame) -> Value:
    texts = [sym.eval(p, frame) for p in node.parts]
    if all(isinstance(t, Lit) and isinstance(t.value, str) for t in texts):
        return Lit("".join(str(t.value) for t in texts if isinstance(t, Lit)))
    return Lit(object())


def _binop(sym: Symbolic, node: ir.BinOp, frame: Frame) -> Value:
    return sym.binary(node.op, sym.eval(node.left, frame), sym.eval(node.right, frame), node, frame)


def binary(sym: Symbolic, op: str, left: Value, right: Value, node: ir.Node, frame: Frame) -> Value:
    """A binary operation on every pair of alternatives."""
    out = [_operated(sym, op, a, b, node, frame) for a in each(left) for b in each(right)]
    return out[0] if len(out) == 1 else either(out)


def _operated(sym: Symbolic, op: str, left: Value, right: Value, node: ir.Node, frame: Frame) -> Value:
    special = _SPECIAL.get(op)
    for owner, other, prefix in ((left, right, ""), (right, left, "r")):
        found = sym.method(owner.cls, f"__{prefix}{special}__") if isinstance(owner, Obj) else None
        if found is not None:
            return sym.call(Fun(found.fn, found.frame, owner), [other], {}, node, frame)
    if op == "|" and isinstance(left, Map) and isinstance(right, Map):
        return Map({**left.items, **right.items}, left.rest + right.rest)
    if op == "+" and isinstance(left, Seq) and isinstance(right, Seq):
        return Seq(left.items + right.items, left.many or right.many)
    if op == "+" and isinstance(left, Lit) and isinstance(right, Lit) and isinstance(left.value, str) and isinstance(right.value, str):
        return Lit(left.value + right.value)
    if op == "*" and isinstance(left, Seq):
        times = library.number_of(right)
        return Seq(left.items * times, left.many) if isinstance(times, int) and 0 < times < UNROLLED else left
    name = _OPERATORS.get(op)
    if name is None:
        return sym.tensor(left) if isinstance(left, Poly) else NONE
    return library.call(sym, name, [left, right], {}, node, frame)


def tensor(sym: Symbolic, value: Value) -> Poly:
    """A value as a tensor; anything else is a tensor of which nothing is known."""
    if isinstance(value, Poly):
        return value
    if isinstance(value, Lit) and isinstance(value.value, bool):
        return sym.terms.number(float(value.value))
    if isinstance(value, Alt):
        return next((v for v in value.options if isinstance(v, Poly)), sym.terms.of("other", id(value)))
    if isinstance(value, Seq) and value.items and not value.many:
        return sym.terms.of("stack", *(sym.tensor(i) for i in value.items))
    if isinstance(value, Seq) and value.items:
        return sym.tensor(value.items[0])
    return sym.terms.of("other", value.value if isinstance(value, Lit) else id(value))


def _unary(sym: Symbolic, node: ir.UnaryOp, frame: Frame) -> Value:
    value = sym.eval(node.operand, frame)
    out: list[Value] = []
    for option in each(value):
        negative = sym.method(option.cls, "__neg__") if isinstance(option, Obj) and node.op == "-" else None
        if negative is not None:
            out.append(sym.call(Fun(negative.fn, negative.frame, option), [], {}, node, frame))
        elif node.op == "-" and isinstance(option, Poly):
            out.append(sym.terms.scaled(option, -1.0))
        elif node.op == "~" and isinstance(option, Poly):
            out.append(sym.terms.minus(sym.terms.one, option))
        elif node.op == "not":
            out.append(Lit(not option.value) if isinstance(option, Lit) and isinstance(option.value, bool) else Lit(object()))
        else:
            out.append(option)
    return either(out)


def _boolop(sym: Symbolic, node: ir.BoolOp, frame: Frame) -> Value:
    return either([sym.eval(v, frame) for v in node.values])


def _compare(sym: Symbolic, node: ir.Compare, frame: Frame) -> Value:
    left = sym.eval(node.left, frame)
    rights = [sym.eval(c, frame) for c in node.comparators]
    if len(rights) == 1:
        return library.compared(sym, node.ops[0], left, rights[0])
    return Lit(object())


def _subscript(sym: Symbolic, node: ir.Subscript, frame: Frame) -> Value:
    base, index = sym.eval(node.value, frame), sym.eval(node.index, frame)
    out: list[Value] = []
    for option in each(base):
        if isinstance(option, Obj):
            getter = sym.method(option.cls, "__getitem__")
            if getter is not None:
                out.append(sym.call(Fun(getter.fn, getter.frame, option), [index], {}, node, frame))
                continue
            option = sym.iterated(option, node, frame)
        out.append(library.item(sym, option, index))
    value = either(out)
    if isinstance(index, Lit) and isinstance(index.value, str):
        sym.name(index.value, value)
    return value


def _slice(sym: Symbolic, node: ir.Slice, frame: Frame) -> Value:
    parts = [sym.eval(p, frame) if p is not None else NONE for p in (node.lower, node.upper, node.step)]
    return Lit(("slice", *(library.token(p) for p in parts)))


def _sequence(sym: Symbolic, node: ir.Sequence, frame: Frame) -> Value:
    out = Seq([])
    for item in node.items:
        if isinstance(item, ir.Starred):
            for option in each(sym.eval(item.value, frame)):
                spread = sym.iterated(option, node, frame)
                out.items += spread.items
                out.many = out.many or spread.many
                break
        else:
            out.items.append(sym.eval(item, frame))
    return out


def _dict(sym: Symbolic, node: ir.Dict, frame: Frame) -> Value:
    out = Map()
    for key, value in zip(node.keys, node.values, strict=True):
        held = sym.eval(value, frame)
        if key is None:
            for option in each(held):
                if isinstance(option, Map):
                    out.items.update(option.items)
                    out.rest += option.rest
        else:
            library.put(out, sym.eval(key, frame), held)
    return out


def _ifexp(sym: Symbolic, node: ir.IfExp, frame: Frame) -> Value:
    test = sym.eval(node.test, frame)
    if isinstance(test, Lit) and isinstance(test.value, bool):
        return sym.eval(node.body if test.value else node.orelse, frame)
    return either([sym.eval(node.body, frame), sym.eval(node.orelse, frame)])


def _comprehension(sym: Symbolic, node: ir.Comprehension, frame: Frame) -> Value:
    inner = Frame(frame.module, frame.fn, frame, receiver=frame.receiver, branches=frame.branches, loops=frame.loops)
    made: list[tuple[Value, Value | None]] = []
    many = _clauses(sym, node, 0, inner, made)
    if node.value is not None:
        out = Map()
        for key, value in made:
            library.put(out, key, value if value is not None else NONE, soft=many)
        return out
    return Seq([m for m, _ in made], many)


def _clauses(sym: Symbolic, node: ir.Comprehension, number: int, frame: Frame, made: list[tuple[Value, Value | None]]) -> bool:
    if number == len(node.clauses):
        made.append((sym.eval(node.element, frame), sym.eval(node.value, frame) if node.value is not None else None))
        return False
    clause = node.clauses[number]
    many = False
    for option in each(sym.eval(clause.iter, frame)):
        found = sym.iterated(option, clause.iter, frame)
        many = many or found.many or len(found.items) > UNROLLED
        for item in found.items[:UNROLLED]:
            sym.store(clause.target, item, frame, node)
            tests = [sym.eval(t, frame) for t in clause.ifs]
            if not any(isinstance(t, Lit) and t.value is False for t in tests):
                many = _clauses(sym, node, number + 1, frame, made) or many
    return many


def iterated(sym: Symbolic, value: Value, node: ir.Node, frame: Frame) -> Seq:
    """What iterating over a value yields."""
    if isinstance(value, Seq):
        return Seq(value.items[value.position :], value.many) if value.position else value
    if isinstance(value, Map):
        if isinstance(value, Record):
            return Seq(list(value.items.values()))
        return Seq([Lit(k) for k in value.items] or [Lit(object())], many=bool(value.rest) or not value.items)
    if isinstance(value, Alt):
        return sym.iterated(value.options[0], node, frame)
    if isinstance(value, Obj):
        for name in ("__iter__", "__next__", "__getitem__"):
            found = sym.method(value.cls, name)
            if found is not None:
                given: list[Value] = [sym.terms.of("loop", id(node))] if name == "__getitem__" else []
                made = sym.call(Fun(found.fn, found.frame, value), given, {}, node, frame)
                if name == "__iter__" and not (isinstance(made, Obj) and made.cls is value.cls):
                    return sym.iterated(made, node, frame)
                if name != "__iter__":
                    return Seq([made], many=True)
        names = [n for c in reversed(sym.mro(value.cls)) for n in field_names(c)]
        return Seq([sym.attribute(value, n, node, frame) for n in names] or [sym.terms.of("other", id(value))], many=not names)
    return library.elements(sym, value, node)


def _named(sym: Symbolic, node: ir.NamedExpr, frame: Frame) -> Value:
    value = sym.eval(node.value, frame)
    target = frame
    while target.parent is not None and target.parent.fn is target.fn:
        target = target.parent
    sym.store(node.target, value, target, node)
    return value


def _inner(sym: Symbolic, node: ir.Await | ir.Starred, frame: Frame) -> Value:
    return sym.eval(node.value, frame)


def _yield(sym: Symbolic, node: ir.Yield, frame: Frame) -> Value:
    value = sym.eval(node.value, frame) if node.value is not None else NONE
    owner: Frame = frame
    while owner.parent is not None and owner.parent.fn is owner.fn:
        owner = owner.parent
    owner.sent = owner.sent or bool(frame.loops)
    if node.delegate:
        for option in each(value):
            spread = sym.iterated(option, node, frame)
            owner.yielded += spread.items
            owner.sent = owner.sent or spread.many
        return NONE
    owner.yielded.append(value)
    return sym.terms.of("sent", id(node))


def _lambda(sym: Symbolic, node: ir.Lambda, frame: Frame) -> Value:
    fn = sym.project.function_of.get(node.function)
    if fn is None:
        return NONE
    sym.made[fn] = Fun(fn, frame)
    return Fun(fn, frame)


_EXPRESSIONS: dict[type[ir.Expr], Any] = {
    ir.Name: _name, ir.Attribute: _attribute, ir.Constant: _constant, ir.FString: _fstring,
    ir.BinOp: _binop, ir.UnaryOp: _unary, ir.BoolOp: _boolop, ir.Compare: _compare,
    ir.Subscript: _subscript, ir.Slice: _slice, ir.Sequence: _sequence, ir.Dict: _dict,
    ir.IfExp: _ifexp, ir.Comprehension: _comprehension, ir.NamedExpr: _named, ir.Await: _inner,
    ir.Starred: _inner, ir.Yield: _yield, ir.Lambda: _lambda, ir.Call: calls._call,
}  # fmt: skip
