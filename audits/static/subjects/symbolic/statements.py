"""What statements do when code is run on symbols: each tells whether the block is left."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from audits.static.source import ir
from audits.static.source.project import bound_names
from audits.static.subjects.symbolic import library
from audits.static.subjects.symbolic.symbols import (
    ALTERNATIVES,
    NONE,
    UNROLLED,
    Ext,
    Frame,
    Fun,
    Klass,
    Lit,
    Map,
    Method,
    Mod,
    Obj,
    Partial,
    Seq,
    Value,
    each,
    either,
)
from audits.static.subjects.symbolic.terms import Poly

if TYPE_CHECKING:

    from audits.static.subjects.symbolic.run import Symbolic



def block(sym: Symbolic, body: list[ir.Stmt], frame: Frame) -> bool:
    """Run statements."""
    for statement in body:
        handler = _STATEMENTS.get(type(statement))
        if handler is not None and handler(sym, statement, frame):
            return True
    return False


def _assign(sym: Symbolic, node: ir.Assign, frame: Frame) -> bool:
    if node.value is not None:
        value = sym.eval(node.value, frame)
        for target in node.targets:
            sym.store(target, value, frame, node)
            if isinstance(target, ir.Name):
                _aliased(sym, target.id, node.value, frame)
    return False


def _aliased(sym: Symbolic, name: str, source: ir.Expr, frame: Frame) -> None:
    # Names of one tensor, or of a view of it: what changes one in place changes the others.
    for group in frame.aliases:
        group.discard(name)
    while isinstance(source, ir.Call) and isinstance(source.func, ir.Attribute) and source.func.attr in library.VIEWS:
        source = source.func.value
    if isinstance(source, ir.Name) and source.id in frame.variables and source.id != name:
        known = next((g for g in frame.aliases if source.id in g), None)
        if known is None:
            frame.aliases.append({name, source.id})
        else:
            known.add(name)


def _augmented(sym: Symbolic, node: ir.AugAssign, frame: Frame) -> bool:
    before, value = sym.eval(node.target, frame), sym.eval(node.value, frame)
    if node.op in ("+", "-"):
        held = [before]
        if isinstance(node.target, ir.Subscript):
            index = sym.eval(node.target.index, frame)
            bases = [b for b in each(sym.eval(node.target.value, frame)) if isinstance(b, Poly)]
            held += [library.indexed(sym, b, index, written=True) for b in bases]
        for piece in dict.fromkeys(held):
            _written_diagonal(sym, node.target, piece, value, node, frame, sign=-1 if node.op == "-" else 1)
    if node.op == "+" and isinstance(before, Seq):
        before.items.extend(v for e in each(value) for v in (e.items if isinstance(e, Seq) else [e]))
        return False
    sym.rebind(node.target, sym.binary(node.op, before, value, node, frame), frame, node)
    return False


def _written_diagonal(sym: Symbolic, target: ir.Expr, before: Value, value: Value, node: ir.Node, frame: Frame, sign: int = 1) -> None:
    for held in each(before):
        found = library.diagonal_of(held) if isinstance(held, Poly) else None
        if found is not None:
            sym.observe("diagonal", node, frame, (found, value, sign))


def store(sym: Symbolic, target: ir.Expr, value: Value, frame: Frame, node: ir.Node) -> None:
    """Bind a target."""
    if isinstance(target, ir.Name):
        _owner(sym, target.id, frame, declared=True).variables[target.id] = sym.name(target.id, value)
    elif isinstance(target, ir.Sequence):
        _unpack(sym, target, value, frame, node)
    elif isinstance(target, ir.Starred):
        sym.store(target.value, value, frame, node)
    elif isinstance(target, ir.Attribute):
        value = sym.name(target.attr, value)
        for owner in each(sym.eval(target.value, frame)):
            sym.store_attribute(owner, target.attr, value, frame)
    elif isinstance(target, ir.Subscript):
        _store_item(sym, target, value, frame, node)


def store_attribute(sym: Symbolic, owner: Value, name: str, value: Value, frame: Frame) -> None:
    """Set an attribute."""
    if isinstance(owner, Obj):
        old = owner.attrs.get(name)
        soft = old is not None and (owner.shared or frame.branches or frame.loops)
        owner.attrs[name] = either([value, old]) if soft and old is not None else value
    elif isinstance(owner, Klass):
        sym.body_of(owner.cls).variables[name] = value
    elif isinstance(owner, Mod):
        sym.module(owner.module).variables[name] = value
    elif isinstance(owner, Map):
        owner.items[name] = value


def _unpack(sym: Symbolic, target: ir.Sequence, value: Value, frame: Frame, node: ir.Node) -> None:
    options = [sym.iterated(v, node, frame) for v in each(value)]
    count = len(target.items)
    starred = next((i for i, t in enumerate(target.items) if isinstance(t, ir.Starred)), None)
    for i, item in enumerate(target.items):
        held: list[Value] = []
        for option in options:
            if starred == i and option.many:
                held.append(Seq(option.items[-1:], many=True))
                continue
            if starred == i:
                held.append(Seq(option.items[i : len(option.items) - (count - i - 1)], option.many))
                continue
            if starred is not None and option.many and option.items:
                held.append(library.element(sym, option.items[-1], i))
                continue
            at = i if starred is None or i < starred else len(option.items) - (count - i)
            if 0 <= at < len(option.items):
                held.append(option.items[at])
            elif option.items:
                held.append(library.element(sym, option.items[-1], i))
        sym.store(item, either(held), frame, node)


def _store_item(sym: Symbolic, target: ir.Subscript, value: Value, frame: Frame, node: ir.Node) -> None:
    index = sym.eval(target.index, frame)
    for base in each(sym.eval(target.value, frame)):
        if isinstance(base, Seq):
            at = library.number_of(index)
            if isinstance(at, int) and -len(base.items) <= at < len(base.items) and not base.many:
                base.items[at] = value
            else:
                base.items.append(value)
                base.many = True
        elif isinstance(base, Map):
            library.put(base, index, value, soft=bool(frame.branches))
        elif isinstance(base, Obj):
            setter = sym.method(base.cls, "__setitem__")
            if setter is not None:
                sym.call(Fun(setter.fn, setter.frame, base), [index, value], {}, node, frame)
        elif isinstance(base, Poly):
            if not isinstance(node, ir.AugAssign):
                piece = library.indexed(sym, base, index, written=True)
                _written_diagonal(sym, target, piece, value, node, frame)
                _mirrored(sym, piece, value, node, frame)
            sym.rebind(target.value, library.stored(sym, base, index, value), frame, node)


def _mirrored(sym: Symbolic, piece: Value, value: Value, node: ir.Node, frame: Frame) -> None:
    # `R[i, j] = R[j, i].conj()`
    for held in each(value):
        if isinstance(held, Poly) and isinstance(piece, Poly):
            base = library.mirror(sym, piece, held)
            if base is not None:
                sym.observe("mirror", node, frame, (base,))


def rebind(sym: Symbolic, target: ir.Expr, value: Value, frame: Frame, node: ir.Node) -> None:
    """Put a changed tensor where it was: into a name, wherever that is bound, a field or an item."""
    if isinstance(target, ir.Name):
        owner = _owner(sym, target.id, frame)
        for alias in {target.id, *(n for g in owner.aliases if target.id in g for n in g)}:
            owner.variables[alias] = value
            owner.changed.add(alias)
        sym.name(target.id, value)
    elif isinstance(target, (ir.Attribute, ir.Subscript)):
        if isinstance(target, ir.Attribute) and target.attr in ("real", "imag", "data", "mT", "T", "mH"):
            return
        sym.store(target, value, frame, ir.AugAssign(node.line, node.column, node.end_line, node.end_column, target, "=", target))


def _owner(sym: Symbolic, name: str, frame: Frame, *, declared: bool = False) -> Frame:
    # The frame that holds a name; a plain assignment binds it here, unless it is declared global or nonlocal.
    outer = frame.fn.scope.outer.get(name) if frame.fn is not None else None
    if outer is False:
        return sym.module(frame.module)
    if declared and outer is None:
        return frame
    current: Frame | None = frame.parent if outer else frame
    while current is not None:
        if name in current.variables:
            return current
        current = current.parent
    return frame


def _branches(sym: Symbolic, bodies: list[list[ir.Stmt]], frame: Frame, *, open_end: bool = True) -> bool:
    # Each body from the same start; what is bound afterwards is bound by any of them.
    start = frame.variables
    ends: list[dict[str, Value]] = [dict(start)] if open_end else []
    frame.branches += 1
    for body in bodies:
        frame.variables = dict(start)
        if not sym.block(body, frame):
            ends.append(frame.variables)
    frame.branches -= 1
    if not ends:
        frame.variables = start
        return True
    start.clear()
    start.update(_joined(sym, ends))
    frame.variables = start
    return False


def _joined(sym: Symbolic, ends: list[dict[str, Value]]) -> dict[str, Value]:
    out = dict(ends[0])
    for end in ends[1:]:
        for name, value in end.items():
            if name not in out:
                out[name] = value
            elif out[name] is not value:
                out[name] = either([out[name], value])
    return out


def _if(sym: Symbolic, node: ir.If, frame: Frame) -> bool:
    test = sym.eval(node.test, frame)
    if isinstance(test, Lit) and isinstance(test.value, bool):
        return sym.block(node.body if test.value else node.orelse, frame)
    return _branches(sym, [node.body, node.orelse], frame, open_end=False)


def _for(sym: Symbolic, node: ir.For, frame: Frame) -> bool:
    found = [sym.iterated(v, node.iter, frame) for v in each(sym.eval(node.iter, frame))]
    if len(found) == 1 and not found[0].many and len(found[0].items) <= UNROLLED:
        for item in found[0].items:
            sym.store(node.target, item, frame, node)
            if sym.block(node.body, frame):
                break
    else:
        frame.loops += 1
        for _ in range(2 if frame.loops == 1 else 1):  # what one round leaves is what the next one finds
            for item in dict.fromkeys(i for f in found for i in f.items[:ALTERNATIVES]) if found else ():
                start = dict(frame.variables)
                sym.store(node.target, item, frame, node)
                sym.block(node.body, frame)
                merged = _joined(sym, [frame.variables, start])
                frame.variables.clear()
                frame.variables.update(merged)
        frame.loops -= 1
    sym.block(node.orelse, frame)
    return False


def _while(sym: Symbolic, node: ir.While, frame: Frame) -> bool:
    sym.eval(node.test, frame)
    frame.loops += 1
    for _ in range(2 if frame.loops == 1 else 1):
        _branches(sym, [node.body], frame)
    frame.loops -= 1
    return False


def _try(sym: Symbolic, node: ir.Try, frame: Frame) -> bool:
    before = dict(frame.variables)
    left = sym.block([*node.body, *node.orelse], frame)
    after = dict(frame.variables)
    frame.variables.clear()
    frame.variables.update(_joined(sym, [after, before]))
    if node.handlers:
        bodies = [h.body for h in node.handlers]
        for handler in node.handlers:
            if isinstance(handler.name, ir.Name):
                frame.variables[handler.name.id] = NONE
        ended = _branches(sym, bodies, frame, open_end=False)
        if not left:
            merged = _joined(sym, [after, frame.variables]) if not ended else after
            frame.variables.clear()
            frame.variables.update(merged)
        left = left and ended
    elif not left:
        frame.variables.clear()
        frame.variables.update(after)
    return sym.block(node.finalbody, frame) or left


def _with(sym: Symbolic, node: ir.With, frame: Frame) -> bool:
    for item in node.items:
        value = sym.eval(item.context, frame)
        entered: list[Value] = []
        for option in each(value):
            if isinstance(option, Obj):
                enter = sym.method(option.cls, "__enter__")
                entered.append(sym.call(Fun(enter.fn, enter.frame, option), [], {}, node, frame) if enter is not None else option)
            else:
                entered.append(option.items[0] if isinstance(option, Seq) and option.items else option)
        if item.target is not None:
            sym.store(item.target, either(entered), frame, node)
    return sym.block(node.body, frame)


def _match(sym: Symbolic, node: ir.Match, frame: Frame) -> bool:
    subject = sym.eval(node.subject, frame)
    bodies: list[list[ir.Stmt]] = []
    total = False
    for case in node.cases:
        tests = [sym.eval(t, frame) for t in case.tests]
        for binding in case.bindings:
            for name in bound_names(binding):
                frame.variables[name] = subject
        if case.guard is not None:
            sym.eval(case.guard, frame)
        elif not case.tests:
            total = True
        if isinstance(subject, Lit) and tests and all(isinstance(t, Lit) for t in tests) and not case.guard:
            if subject in tests:
                return sym.block(case.body, frame)
            continue
        bodies.append(case.body)
    return _branches(sym, bodies, frame, open_end=not total)


def _return(sym: Symbolic, node: ir.Return, frame: Frame) -> bool:
    frame.returned.append(sym.eval(node.value, frame) if node.value is not None else NONE)
    return True


def _raise(sym: Symbolic, node: ir.Raise, frame: Frame) -> bool:
    return True


def _assert(sym: Symbolic, node: ir.Assert, frame: Frame) -> bool:
    sym.eval(node.test, frame)
    return False


def _simple(sym: Symbolic, node: ir.Simple, frame: Frame) -> bool:
    return node.kind in ("break", "continue")


def _expression(sym: Symbolic, node: ir.ExprStmt, frame: Frame) -> bool:
    sym.eval(node.value, frame)
    return False


def _function(sym: Symbolic, node: ir.Function, frame: Frame) -> bool:
    fn = sym.project.function_of.get(node)
    if fn is not None:
        parent = frame if frame.fn is not None else sym.module(frame.module)
        value: Value = Fun(fn, parent)
        sym.made[fn] = Fun(fn, parent)
        for decorator in reversed(node.decorators):
            value = _decorated(sym, decorator, value, frame)
        frame.variables[node.name] = value
    return False


def _decorated(sym: Symbolic, decorator: ir.Expr, value: Value, frame: Frame) -> Value:
    wrapper = sym.eval(decorator, frame)
    if isinstance(wrapper, Method) and isinstance(wrapper.receiver, Map) and isinstance(value, Fun):
        return value
    if isinstance(wrapper, (Fun, Obj, Partial, Klass)):
        made = sym.call(wrapper, [value], {}, decorator, frame)
        return made if isinstance(made, (Fun, Obj, Partial)) else value
    return value


def _class(sym: Symbolic, node: ir.ClassDef, frame: Frame) -> bool:
    cls = sym.project.class_of.get(node)
    if cls is not None:
        frame.variables[node.name] = Klass(cls)
        if frame.fn is not None and cls not in sym.classes:
            body = sym.classes[cls] = Frame(cls.module, None, frame)
            sym.block(node.body, body)
        for decorator in node.decorators:
            wrapper = sym.eval(decorator, frame)
            if isinstance(wrapper, (Fun, Obj, Partial)):
                sym.call(wrapper, [Klass(cls)], {}, decorator, frame)
        told = sym.method(cls, "__init_subclass__", after=cls)
        if told is not None:
            keywords = {a.keyword: sym.eval(a.value, frame) for a in node.keywords if a.keyword and a.keyword != "metaclass"}
            sym.call(Fun(told.fn, told.frame, Klass(cls)), [], keywords, node, frame)
    return False


def _import(sym: Symbolic, node: ir.Import, frame: Frame) -> bool:
    for name, asname in node.names:
        bound = name if asname else name.split(".", maxsplit=1)[0]
        module = sym.project.modules.get(bound)
        frame.variables[asname or bound] = Mod(module) if module is not None else Ext(bound)
    return False


def _import_from(sym: Symbolic, node: ir.ImportFrom, frame: Frame) -> bool:
    source = frame.module.absolute(node.module, node.level)
    module = sym.project.modules.get(source)
    for name, asname in node.names:
        if name == "*":
            if module is not None and module is not frame.module:
                frame.variables.update({k: v for k, v in sym.module(module).variables.items() if not k.startswith("_")})
            continue
        value = sym.of_module(module, name) if module is not None else None
        inner = sym.project.modules.get(f"{source}.{name}")
        frame.variables[asname or name] = value if value is not None else Mod(inner) if inner is not None else Ext(f"{source}.{name}")
    return False


_STATEMENTS: dict[type[ir.Stmt], Any] = {
    ir.Assign: _assign, ir.AugAssign: _augmented, ir.If: _if, ir.For: _for,
    ir.While: _while, ir.Try: _try, ir.With: _with, ir.Match: _match, ir.Return: _return,
    ir.Raise: _raise, ir.Assert: _assert, ir.Simple: _simple, ir.ExprStmt: _expression,
    ir.Function: _function,
    ir.ClassDef: _class, ir.Import: _import, ir.ImportFrom: _import_from,
}  # fmt: skip
