"""The abstract interpreter: runs one unit, reading and extending cells and noting every reference on the way."""

from __future__ import annotations

import builtins
from collections.abc import Callable, Collection, Iterable
from typing import Any

from audits.static.analysis import externals, lookup, operators, statements
from audits.static.analysis.engine import Analysis, Issue, Key, Ref, Unit
from audits.static.analysis.values import (
    EMPTY,
    LIMIT,
    NEGATIVE,
    NOTHING,
    NUMBER,
    POSITIVE,
    TENSOR,
    TEXT,
    UNKNOWN,
    WIDE,
    Cls,
    Const,
    Ext,
    ExtInst,
    Func,
    Inst,
    Loader,
    Mod,
    Named,
    Namespace,
    Overrides,
    SuperOf,
    Value,
    Values,
    bounded,
    callables,
)
from audits.static.source import ir
from audits.static.source.project import FunctionInfo, Scope, bound_names, function_of, lookup_scope

_BUILTINS = frozenset(dir(builtins))
_OPPOSITE: dict[Value, Value] = {POSITIVE: NEGATIVE, NEGATIVE: POSITIVE}
_MODULE_NAMES = frozenset({"__file__", "__name__", "__doc__", "__builtins__", "__class__", "__debug__", "__annotations__"})
_UNINFORMATIVE = frozenset(
    {"typing.Any", "builtins.object", "typing.Callable", "collections.abc.Callable", "typing.Protocol", "typing.Self",
     "builtins.dict", "builtins.list", "builtins.tuple", "builtins.set", "typing_extensions.Protocol"}
)  # fmt: skip


class Interp:
    """One run over one unit."""

    def __init__(self, analysis: Analysis, unit: Unit) -> None:
        self.a = analysis
        self.unit = unit
        self.hot = unit.hot
        self.noted: set[Value] = set()
        self.handed: set[Value] = set()
        self.referred: set[FunctionInfo] = set()

    def run(self) -> None:
        """Interpret one part of a unit; what it found replaces what an earlier run found."""
        unit = self.unit
        unit.refs, unit.issues, unit.patches, unit.starved = [], [], [], False
        if unit.fn is not None and unit.enters:
            statements.enter(self, unit.fn)
        self.block(unit.body, unit.fn.scope if unit.fn is not None else unit.module.scope)

    # -- cells

    def read(self, *key: Any) -> set[Value]:
        """The values of a cell; the unit runs again when they grow."""
        return self.a.read(self.unit, key)

    def push_name(self, scope: Scope, name: str, values: Collection[Value], hot: bool | None = None) -> None:
        """Extend the cell of a name."""
        key = self.a.name_key(scope, name, hot=self.hot if hot is None else hot)
        self.a.push(key, values)
        if TEXT in values:
            self.a.push(("text", *key), (TEXT,))  # some text that is given, not only said by an annotation

    def or_unknown(self, values: Values) -> Values:
        """`values`; nothing becomes unknown once the unit has settled, and until then means 'not known yet'."""
        if values:
            return values
        self.unit.starved = True
        return frozenset((UNKNOWN,)) if self.unit.settled else EMPTY

    # -- references

    def record(self, values: Iterable[Value], node: ir.Node, use: str, call: ir.Call | None = None) -> None:
        """Note what an evaluated expression refers to; `use` is value, callee or receiver."""
        for value in values:
            if isinstance(value, Loader):
                value = value.of
            if isinstance(value, Func):
                if value.fn in self.referred:
                    continue
                self._ref(value.fn, node)
                for impl in self.read("impls", value.fn):
                    if isinstance(impl, Func):
                        self._ref(impl.fn, node)
            elif use == "receiver":
                continue
            elif isinstance(value, Ext):
                if self.hot:
                    self.unit.refs.append(Ref(None, value.name, node, call))
            elif value in self.noted:
                continue
            elif isinstance(value, Named):
                self.noted.add(value)
                self.unit.refs.append(Ref(None, "", node, method=value.name))
                if self.hot:
                    self.a.ensure_hot_name(value.name)
            elif isinstance(value, Cls):
                self.noted.add(value)
                functions = lookup.constructors(self, value)
                if len(functions) > LIMIT:
                    self.refer(("constructors", value), node)
                    continue
                for fn in functions:
                    self._ref(fn, node)
            elif isinstance(value, Inst) and use == "value":
                self.noted.add(value)
                functions = lookup.implicit_methods(self, value)
                if len(functions) > LIMIT:
                    self.refer(("implicit", value), node)
                    continue
                for fn in functions:
                    self._ref(fn, node)
            elif isinstance(value, Overrides):
                self.noted.add(value)
                lookup.overrides(self, value)
                self.refer(("overrides", value), node)

    def hand_over(self, values: Iterable[Value], node: ir.Node) -> None:
        """Note the calls of instances that are handed to something that may call them."""
        for value in values:
            if isinstance(value, Inst) and value not in self.handed:
                self.handed.add(value)
                functions = lookup.all_targets(self, value)
                if len(functions) > LIMIT:
                    self.refer(("targets", value), node)
                    continue
                for fn in functions:
                    self._ref(fn, node)

    def refer(self, group: Key, node: ir.Node) -> None:
        """Note a reference to a group of functions, too many to be noted one by one in every place."""
        self.unit.refs.append(Ref(None, "", node, group=group))
        if self.hot:
            self.a.ensure_hot_group(group)

    def _ref(self, fn: FunctionInfo, node: ir.Node) -> None:
        if fn in self.referred:
            return
        self.referred.add(fn)
        self.unit.refs.append(Ref(fn, "", node))
        if self.hot:
            self.a.ensure_hot(fn)

    def issue(self, node: ir.Node, message: str, hint: str = "") -> None:
        """Note something that the analysis can't see through."""
        self.unit.issues.append(Issue(node, message, hint))

    # -- functions

    def annotation(self, expr: ir.Expr, scope: Scope, depth: int = 4) -> Values:
        """The instances that an annotation allows; empty where it says nothing."""
        if isinstance(expr, ir.Constant):
            if not isinstance(expr.value, str):
                return EMPTY
            parsed = _parsed(expr.value, expr)
            return self.annotation(parsed, scope, depth - 1) if parsed is not None else EMPTY
        silent = _Silent(self.a, self.unit)
        out: set[Value] = set()
        for value in silent.eval(expr, scope, "receiver"):
            if isinstance(value, Cls):
                if not any(b.endswith("Protocol") for b in self.a.outside_bases(self.unit, value.cls)):
                    out.add(Inst(value.cls))
            elif isinstance(value, Ext) and value.name not in _UNINFORMATIVE:
                out.add(ExtInst(value.name))
            elif isinstance(value, Const):
                parsed = _parsed(value.value, expr)
                if parsed is not None and depth > 0 and not isinstance(parsed, ir.Constant):
                    out |= self.annotation(parsed, scope, depth - 1)
        self.unit.starved = self.unit.starved or silent.unit.starved
        return frozenset(out)

    # -- statements

    def block(self, body: list[ir.Stmt], scope: Scope) -> None:
        """Interpret statements."""
        for statement in body:
            handler = statements.STATEMENTS.get(type(statement))
            if handler is not None:
                handler(self, statement, scope)

    # -- stores

    def _binding_scope(self, scope: Scope, name: str) -> Scope:
        if name in scope.outer:
            return lookup_scope(scope, name) or scope
        return scope

    def store(self, target: ir.Expr, values: Values, scope: Scope, source: ir.Expr | None) -> None:
        """Bind an assignment target."""
        if isinstance(target, ir.Name):
            self.push_name(self._binding_scope(scope, target.id), target.id, values)
        elif isinstance(target, ir.Attribute):
            lookup.store_attribute(self, self.eval(target.value, scope, "receiver"), target, values)
        elif isinstance(target, ir.Subscript):
            keys = self.eval(target.index, scope)
            self.store_into(target.value, values | {k for k in keys if isinstance(k, Const)}, scope, target, keys)
            written = (source, values) if source is not None else (target, values)
            owners = self.eval(target.value, scope, "receiver")
            operators.give(self, target, target.value, owners, ("__setitem__",), (target.index, keys), written)
        elif isinstance(target, ir.Starred):
            self.store(target.value, values, scope, None)
        elif isinstance(target, ir.Sequence):
            self._unpack(target, values, scope, source)

    def _unpack(self, target: ir.Sequence, values: Values, scope: Scope, source: ir.Expr | None) -> None:
        pairwise = (
            isinstance(source, ir.Sequence)
            and len(source.items) == len(target.items)
            and not any(isinstance(i, ir.Starred) for i in [*source.items, *target.items])
        )
        for i, item in enumerate(target.items):
            if pairwise and isinstance(source, ir.Sequence):
                self.store(item, _Silent(self.a, self.unit).eval(source.items[i], scope), scope, source.items[i])
            else:
                self.store(item, lookup.elements(self, values), scope, None)

    def store_into(self, base: ir.Expr, values: Values, scope: Scope, node: ir.Node, keys: Values = EMPTY) -> None:
        """Put `values` into the container that `base` denotes."""
        if isinstance(base, ir.Name):
            found = lookup_scope(scope, base.id)
            if found is not None:
                self.push_name(found, base.id, values)
        elif isinstance(base, ir.Attribute):
            lookup.store_attribute(self, self.eval(base.value, scope, "receiver"), base, values, item=True)
        elif isinstance(base, ir.Subscript):
            self.store_into(base.value, values, scope, node)
        for owner in self.eval(base, scope, "receiver"):
            lookup.store_item(self, owner, keys, values, node)

    # -- expressions

    def eval(self, expr: ir.Expr, scope: Scope, use: str = "value") -> Values:
        """What `expr` may stand for."""
        handler = _EXPRESSIONS.get(type(expr))
        return handler(self, expr, scope, use) if handler is not None else EMPTY

    def _name(self, node: ir.Name, scope: Scope, use: str) -> Values:
        found = lookup_scope(scope, node.id)
        values = self._undefined(node, scope) if found is None else self._variable(node, found)
        self.record(values, node, use)
        return values

    def _variable(self, node: ir.Name, found: Scope) -> Values:
        owner = function_of(found)
        if found.kind in ("module", "class") or owner is None or owner is self.unit.fn or not self.hot:
            values = frozenset(self.read(*self.a.name_key(found, node.id, hot=self.hot)))
        else:
            self.read("hot", owner)
            values = frozenset(self.read(*self.a.name_key(found, node.id, hot=True)))
            if owner not in self.a.hot or owner not in self.a.decorators:
                values |= self.read(*self.a.name_key(found, node.id, hot=False))
        if TEXT in values and self._only_said(node, found, values):
            values -= {TEXT}
        if (WIDE in values or (UNKNOWN in values and len(values) > 1)) and owner is not None:
            for param in owner.node.params:
                if param.name == node.id and self.a.declared.get(param):
                    values = values - {UNKNOWN, WIDE} | self.a.declared[param]
        if not values and node.id in _MODULE_NAMES | {"__path__", "__all__", "__spec__", "__package__"}:
            return frozenset((TEXT,))
        return self.or_unknown(values)

    def _only_said(self, node: ir.Name, found: Scope, values: Values) -> bool:
        # That a parameter is some text is said by its annotation only, and literals are passed, or what is passed is not known yet.
        if values & {UNKNOWN, WIDE} or (self.unit.settled and not any(isinstance(v, Const) for v in values)):
            return False
        return not any(self.read("text", *self.a.name_key(found, node.id, hot=hot)) for hot in {self.hot, False})

    def _undefined(self, node: ir.Name, scope: Scope) -> Values:
        values, outside = lookup.from_stars(self, scope.module, node.id)
        if values:
            return values
        if node.id in _BUILTINS:
            return frozenset((Ext(f"builtins.{node.id}"),))
        if outside:
            return frozenset(Ext(f"{m}.{node.id}") for m in outside)
        if node.id not in _MODULE_NAMES:
            self.issue(node, f"the name {node.id!r} is bound nowhere in this module")
        return frozenset((UNKNOWN,))

    def _attribute(self, node: ir.Attribute, scope: Scope, use: str) -> Values:
        receivers = self.eval(node.value, scope, "receiver")
        self.unit.receivers[node] = receivers
        values = lookup.attributes(self, receivers, node.attr)
        self.record(values, node, use)
        if use == "callee_of_call":
            return values
        # A method taken from the class is a function; taken from an instance it has been noted and is a value like another.
        unbound = {v for v in values if isinstance(v, Ext)} if Ext("torch.Tensor") in receivers else EMPTY
        return lookup.as_value(values) | unbound

    def _call(self, node: ir.Call, scope: Scope, use: str) -> Values:
        values = externals.call(self, node, scope)
        if use == "value":
            self.record([v for v in values if isinstance(v, Inst)], node, use)
        return values

    def _constant(self, node: ir.Constant, scope: Scope, use: str) -> Values:
        if isinstance(node.value, str):
            usable = len(node.value) < 80 and node.value.replace(".", "").replace("_", "a").isalnum()
            return frozenset((Const(node.value),)) if usable else frozenset((TEXT,))
        if isinstance(node.value, int) and not isinstance(node.value, bool):
            return frozenset((POSITIVE,))
        return frozenset((NOTHING,)) if node.value is None else frozenset((NUMBER,))

    def _fstring(self, node: ir.FString, scope: Scope, use: str) -> Values:
        texts: list[str] | None = [""]
        for part in node.parts:
            values = self.eval(part, scope)
            self.record(lookup.text_methods(self, values), node, "callee")
            consts = [v.value for v in values if isinstance(v, Const)]
            if isinstance(part, ir.Constant):
                consts = [str(part.value)]
            if texts is not None and consts and len(consts) * len(texts) <= 64 and len(consts) == max(len(values), 1):
                texts = [t + c for t in texts for c in consts]
            else:
                texts = None
        return frozenset(Const(t) for t in texts) if texts is not None else frozenset((TEXT, UNKNOWN))

    def _binop(self, node: ir.BinOp, scope: Scope, use: str) -> Values:
        left, right = self.eval(node.left, scope), self.eval(node.right, scope)
        if node.op == "+":
            texts = [(a, b) for a in left if isinstance(a, Const) for b in right if isinstance(b, Const)]
            if texts and len(texts) == len(left) * len(right) <= 64:
                return frozenset(Const(a.value + b.value) for a, b in texts)
        operators.binary(self, node, left, right)
        out = lookup.operator_results(self, left | right)
        if {POSITIVE, NEGATIVE} & (left | right):
            left, right = (frozenset(NUMBER if v in _OPPOSITE else v for v in side) for side in (left, right))
        if node.op in ("|", "+", "*"):
            out |= {v for v in left | right if isinstance(v, (Cls, Ext, Func, Inst, Const))}
        if TENSOR in left or TENSOR in right:
            out |= {TENSOR}
        if UNKNOWN in left or UNKNOWN in right:
            out |= {UNKNOWN}
        return out or frozenset(v for v in left | right if isinstance(v, ExtInst))

    def _unary(self, node: ir.UnaryOp, scope: Scope, use: str) -> Values:
        values = self.eval(node.operand, scope)
        if node.op == "not":
            return frozenset((NUMBER,))
        if node.op == "-":
            values = frozenset(_OPPOSITE.get(v, v) for v in values)
        return values - callables(values)

    def _boolop(self, node: ir.BoolOp, scope: Scope, use: str) -> Values:
        return EMPTY.union(*(self.eval(v, scope, use) for v in node.values))

    def _compare(self, node: ir.Compare, scope: Scope, use: str) -> Values:
        use = "receiver" if set(node.ops) <= {"is", "is not"} else "value"
        operators.compared(self, node, [self.eval(part, scope, use) for part in (node.left, *node.comparators)])
        return frozenset((NUMBER,))

    def _subscript(self, node: ir.Subscript, scope: Scope, use: str) -> Values:
        base = self.eval(node.value, scope, "receiver")
        index = self.eval(node.index, scope, "receiver" if any(isinstance(b, Ext) for b in base) else "value")
        operators.give(self, node, node.value, base, ("__getitem__",), (node.index, index))
        values = lookup.items(self, base, index, node)
        self.record(values, node, use)
        return values

    def _slice(self, node: ir.Slice, scope: Scope, use: str) -> Values:
        for part in (node.lower, node.upper, node.step):
            if part is not None:
                self.eval(part, scope)
        return frozenset((NUMBER,))

    def _sequence(self, node: ir.Sequence, scope: Scope, use: str) -> Values:
        return bounded(v for i in node.items for v in self.eval(i, scope, use))

    def _starred(self, node: ir.Starred, scope: Scope, use: str) -> Values:
        return lookup.elements(self, self.eval(node.value, scope, use))

    def _dict(self, node: ir.Dict, scope: Scope, use: str) -> Values:
        keys = bounded(v for k in node.keys if k is not None for v in self.eval(k, scope))
        return bounded(v for item in node.values for v in self.eval(item, scope, use)) | keys

    def _ifexp(self, node: ir.IfExp, scope: Scope, use: str) -> Values:
        self.eval(node.test, scope)
        return self.eval(node.body, scope, use) | self.eval(node.orelse, scope, use)

    def _comprehension(self, node: ir.Comprehension, scope: Scope, use: str) -> Values:
        inner = self.a.project.scope_of.get(node)
        if inner is None:
            return frozenset((UNKNOWN,))
        for clause in node.clauses:
            values = lookup.elements(self, self.eval(clause.iter, inner))
            for name in bound_names(clause.target):
                self.push_name(inner, name, values)
            for test in clause.ifs:
                self.eval(test, inner)
        out = self.eval(node.element, inner)
        return out | self.eval(node.value, inner) if node.value is not None else out

    def _lambda(self, node: ir.Lambda, scope: Scope, use: str) -> Values:
        info = self.a.project.function_of.get(node.function)
        if info is None:
            return frozenset((UNKNOWN,))
        values = frozenset((Func(info),))
        self.record(values, node, use)
        return values

    def _await(self, node: ir.Await, scope: Scope, use: str) -> Values:
        return self.eval(node.value, scope, use)

    def _yield(self, node: ir.Yield, scope: Scope, use: str) -> Values:
        values = self.eval(node.value, scope) if node.value is not None else EMPTY
        if self.unit.fn is not None:
            self.a.push(("ret", self.unit.fn, self.hot), lookup.elements(self, values) if node.delegate else values)
        return frozenset((UNKNOWN,))

    def _named(self, node: ir.NamedExpr, scope: Scope, use: str) -> Values:
        values = self.eval(node.value, scope, use)
        inner = scope
        while inner.kind == "comprehension" and inner.parent is not None:
            inner = inner.parent
        self.store(node.target, values, inner, node.value)
        return values


class _Silent(Interp):
    """Evaluates without noting references: annotations are not calls."""

    def record(self, values: Iterable[Value], node: ir.Node, use: str, call: ir.Call | None = None) -> None:
        return None

    def issue(self, node: ir.Node, message: str, hint: str = "") -> None:
        return None


def _parsed(text: str, like: ir.Node) -> ir.Expr | None:
    from audits.static.source.lower import lower_expression  # noqa: PLC0415 - LibCST is slow to import

    return lower_expression(text, like)


_Handler = Callable[..., Any]
_EXPRESSIONS: dict[type[ir.Expr], _Handler] = {
    ir.Name: Interp._name, ir.Attribute: Interp._attribute, ir.Call: Interp._call, ir.Constant: Interp._constant,
    ir.FString: Interp._fstring, ir.BinOp: Interp._binop, ir.UnaryOp: Interp._unary, ir.BoolOp: Interp._boolop,
    ir.Compare: Interp._compare, ir.Subscript: Interp._subscript, ir.Slice: Interp._slice,
    ir.Sequence: Interp._sequence, ir.Starred: Interp._starred, ir.Dict: Interp._dict, ir.IfExp: Interp._ifexp,
    ir.Comprehension: Interp._comprehension, ir.Lambda: Interp._lambda, ir.Await: Interp._await,
    ir.Yield: Interp._yield, ir.NamedExpr: Interp._named,
}  # fmt: skip

__all__ = ["Interp", "Mod", "Namespace", "SuperOf"]
