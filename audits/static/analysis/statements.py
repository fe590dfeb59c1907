"""What statements do: they bind names, define functions and classes, and evaluate expressions on the way."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from audits.static.analysis import externals, lookup, operators
from audits.static.analysis.values import EMPTY, NOTHING, Cls, Ext, ExtInst, Func, Inst, Value, Values
from audits.static.source import ir
from audits.static.source.project import ClassInfo, FunctionInfo, Scope

if TYPE_CHECKING:
    from audits.static.analysis.interp import Interp


_OPERATION = Ext("torch.Tensor.__torch_function__")  # stands for the operation that the library hands over


def enter(i: Interp, fn: FunctionInfo) -> None:
    """Let annotations and defaults flow into the parameters of a function, and its return annotation into what it returns."""
    params, scope = fn.node.params, fn.scope
    outer = scope.parent or scope
    if fn.cls is not None and params and "staticmethod" not in fn.flags:
        by_class = "classmethod" in fn.flags or fn.node.name in ("__new__", "__init_subclass__", "__class_getitem__")
        i.push_name(scope, params[0].name, [Cls(fn.cls) if by_class else Inst(fn.cls)])
    if fn.node.name in ("__torch_function__", "__torch_dispatch__") and len(params) > 1:
        i.push_name(scope, params[1].name, [_OPERATION])
    if fn.cls is not None and params and lookup.takes_context(i, fn):
        i.push_name(scope, params[0].name, [ExtInst("torch.autograd.function.FunctionCtx")])
    for param in params:
        if param.annotation is not None:
            values = i.annotation(param.annotation, outer)
            i.a.declared[param] = values
            i.a.push(i.a.name_key(scope, param.name, hot=i.hot), values)
        if param.default is not None:
            i.push_name(scope, param.name, i.eval(param.default, outer))
        if fn in i.a.entries and i.hot:
            i.push_name(scope, param.name, i.read(*i.a.name_key(scope, param.name, hot=False)))
    if fn.node.decorators and i.hot:
        decorated(i, fn.node.decorators, frozenset((Func(fn),)), outer)
    if fn.node.returns is not None:
        i.a.push(("ret", fn, i.hot), i.annotation(fn.node.returns, outer))
    if not i.a.returns_value(fn):
        i.a.push(("ret", fn, i.hot), [NOTHING])


def decorated(i: Interp, decorators: list[ir.Expr], values: Values, scope: Scope) -> Values:
    """What the decorated name stands for: the original, and whatever the decorators make of it."""
    out = set(values)
    for decorator in reversed(decorators):
        if isinstance(decorator, (ir.Call, ir.Name, ir.Attribute)):
            target = decorator.func if isinstance(decorator, ir.Call) else decorator
            if isinstance(target, ir.Attribute) and target.attr in ("register", "register_kernel", "register_fake"):
                for base in i.eval(target.value, scope, "receiver"):
                    if isinstance(base, Func):
                        i.a.push(("impls", base.fn), values)
                        break
                else:
                    out |= _apply_decorator(i, decorator, out, scope)
                continue
        out |= _apply_decorator(i, decorator, out, scope)
    return frozenset(out)


def _apply_decorator(i: Interp, decorator: ir.Expr, values: set[Value], scope: Scope) -> set[Value]:
    result: set[Value] = set()
    applied = i.eval(decorator, scope)
    argument = externals.Argument(None, "", frozenset(v for v in values if isinstance(v, (Func, Cls))), decorator)
    for value in applied:
        if isinstance(value, Func):
            i.a.decorators.add(value.fn)
        if isinstance(value, (Func, Cls, Inst)):
            result |= externals.apply(i, value, [argument], None, scope)
    return result


def _expr_stmt(i: Interp, node: ir.ExprStmt, scope: Scope) -> None:
    i.eval(node.value, scope)


def _assign_stmt(i: Interp, node: ir.Assign, scope: Scope) -> None:
    values: Values = EMPTY
    if node.annotation is not None:
        values = i.annotation(node.annotation, scope)
        if scope.kind == "class" and scope.cls is not None and isinstance(node.targets[0], ir.Name):
            i.a.push(("attr", scope.cls, node.targets[0].id), values)
    if node.value is not None:
        values |= i.eval(node.value, scope)
    if node.value is not None or scope.kind != "class":
        for target in node.targets:
            i.store(target, values, scope, node.value)


def _aug_assign(i: Interp, node: ir.AugAssign, scope: Scope) -> None:
    given, held = i.eval(node.value, scope), i.eval(node.target, scope)
    operators.binary(i, node, held, given)
    values = given | held
    i.store(node.target, values, scope, None)


def _return(i: Interp, node: ir.Return, scope: Scope) -> None:
    values = i.eval(node.value, scope) if node.value is not None else frozenset((NOTHING,))
    if i.unit.fn is not None:
        i.a.push(("ret", i.unit.fn, i.hot), values)


def _if(i: Interp, node: ir.If, scope: Scope) -> None:
    i.eval(node.test, scope)
    i.block(node.body, scope)
    i.block(node.orelse, scope)


def _for(i: Interp, node: ir.For, scope: Scope) -> None:
    i.store(node.target, lookup.elements(i, i.eval(node.iter, scope)), scope, None)
    i.block(node.body, scope)
    i.block(node.orelse, scope)


def _with(i: Interp, node: ir.With, scope: Scope) -> None:
    for item in node.items:
        values = i.eval(item.context, scope)
        if item.target is not None:
            i.store(item.target, lookup.entered(i, values), scope, None)
    i.block(node.body, scope)


def _try(i: Interp, node: ir.Try, scope: Scope) -> None:
    i.block(node.body, scope)
    for handler in node.handlers:
        if handler.type is not None:
            i.eval(handler.type, scope, "receiver")
        if handler.name is not None:
            i.store(handler.name, frozenset((ExtInst("builtins.Exception"),)), scope, None)
        i.block(handler.body, scope)
    i.block(node.orelse, scope)
    i.block(node.finalbody, scope)


def _match(i: Interp, node: ir.Match, scope: Scope) -> None:
    values = i.eval(node.subject, scope)
    for case in node.cases:
        for test in case.tests:
            i.eval(test, scope, "receiver")
        for binding in case.bindings:
            i.store(binding, values, scope, None)
        if case.guard is not None:
            i.eval(case.guard, scope)
        i.block(case.body, scope)


def _raise(i: Interp, node: ir.Raise, scope: Scope) -> None:
    for part in (node.exc, node.cause):
        if part is not None:
            i.eval(part, scope)


def _assert(i: Interp, node: ir.Assert, scope: Scope) -> None:
    i.eval(node.test, scope)
    if node.message is not None:
        i.eval(node.message, scope)


def _import(i: Interp, node: ir.Import, scope: Scope) -> None:
    for name, asname in node.names:
        value = lookup.module_value(i.a, name if asname else name.split(".")[0])
        i.push_name(scope, asname or name.split(".")[0], [value])


def _import_from(i: Interp, node: ir.ImportFrom, scope: Scope) -> None:
    source = scope.module.absolute(node.module, node.level)
    for name, asname in node.names:
        if name == "*":
            continue
        values = lookup.attribute(i, lookup.module_value(i.a, source), name)
        i.push_name(scope, asname or name, values or [Ext(f"{source}.{name}")] * i.unit.settled)
        if not values:
            i.unit.starved = True


def _function(i: Interp, node: ir.Function, scope: Scope) -> None:
    info = i.a.project.function_of[node]
    values: Values = frozenset((Func(info),))
    if node.decorators:
        values = decorated(i, node.decorators, values, scope)
    i.push_name(i._binding_scope(scope, node.name), node.name, values)
    for default in node.params:
        if default.default is not None:
            i.eval(default.default, scope)


def _class(i: Interp, node: ir.ClassDef, scope: Scope) -> None:
    info = i.a.project.class_of[node]
    bases: set[Value] = set()
    for base in node.bases:
        bases |= i.eval(base, scope, "receiver")
    i.a.add_base(info, bases)
    given = []
    for keyword in node.keywords:
        passed = i.eval(keyword.value, scope, "receiver")
        if keyword.keyword == "metaclass":
            i.a.push(("meta", info), passed)
        else:
            given.append(externals.Argument(keyword.keyword, keyword.star, passed, keyword.value))
    _created(i, info, given)
    values: Values = frozenset((Cls(info),))
    if node.decorators:
        values = decorated(i, node.decorators, values, scope)
    i.push_name(i._binding_scope(scope, node.name), node.name, values)
    i.block(node.body, info.scope)
    if lookup.is_enum(i.a.outside_bases(i.unit, info)):
        _enum_members(i, node, info)


def _created(i: Interp, info: ClassInfo, given: list[externals.Argument]) -> None:
    # What runs with a new class: `__init_subclass__` of its bases, and the constructors of its metaclass.
    runs = lookup.members(i, info, "__init_subclass__", exact=True, after=info)
    for meta in i.a.metaclasses(i.unit, info):
        i.a.push(("made", meta), [Cls(info)])
        runs |= lookup.members(i, meta, "__init__", exact=True)
    for value in runs:
        if isinstance(value, Func) and value.fn.node.params:
            i.push_name(value.fn.scope, value.fn.node.params[0].name, [Cls(info)])
            externals.bind(i, value.fn, given, skip=True)


def _enum_members(i: Interp, node: ir.ClassDef, info: ClassInfo) -> None:
    # Each member is made with its value, or with the items of a tuple.
    inits = [fn for name in ("__init__", "__new__") for fn in lookup.methods(i, info, name, exact=True)]
    for statement in node.body if inits else ():
        if isinstance(statement, ir.Assign) and statement.value is not None:
            value = statement.value
            items = value.items if isinstance(value, ir.Sequence) else [value]
            arguments = [externals.Argument(None, "", i.eval(e, info.scope), e) for e in items]
            for fn in inits:
                externals.bind(i, fn, arguments, skip=True)


def _delete(i: Interp, node: ir.Delete, scope: Scope) -> None:
    return None


STATEMENTS: dict[type[ir.Stmt], Callable[[Interp, Any, Scope], None]] = {
    ir.ExprStmt: _expr_stmt, ir.Assign: _assign_stmt, ir.AugAssign: _aug_assign,
    ir.Return: _return, ir.If: _if, ir.While: _if, ir.For: _for, ir.With: _with,
    ir.Try: _try, ir.Match: _match, ir.Raise: _raise, ir.Assert: _assert,
    ir.Import: _import, ir.ImportFrom: _import_from, ir.Function: _function,
    ir.ClassDef: _class, ir.Delete: _delete,
}  # fmt: skip
