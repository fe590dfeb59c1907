"""Runs functions over units instead of numbers, in order, with branches joined and helpers run for what they are given."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from audits.static.analysis.engine import Unit
from audits.static.analysis.values import Func, Inst, Mod
from audits.static.dataflow import usage
from audits.static.dataflow.flow import Flow
from audits.static.source import ir
from audits.static.source.project import ClassInfo, FunctionInfo, ModuleInfo, lookup_scope
from audits.static.subjects import unitcalls, units
from audits.static.subjects.units import DB, DEG, LINEAR, NOTHING, RAD, Value

Env = dict[str, Value]
_DEPTH = 5
_CONVERSIONS = frozenset({"rad", "deg", "radians", "degrees", "conv", "conversion", "factor", "scale", "unit", "units"})


@dataclass
class Frame:
    """One run of a unit: its code, its variables and what it has returned so far."""

    unit: Unit
    env: Env
    depth: int
    returned: list[Value] = field(default_factory=list)


class UnitFlow:
    """All units of a project; `problems` fills while they run."""

    def __init__(self, flow: Flow) -> None:
        self.analysis = flow.analysis
        self.flow = flow
        self.problems: dict[tuple[int, str], tuple[Unit, ir.Node, str]] = {}
        self.fields: dict[tuple[ClassInfo, str], Value] = {}
        self.module_env: dict[ModuleInfo, Env] = {m: {} for m in self.analysis.modules}
        self.envs: dict[FunctionInfo, Env] = {}
        self._memo: dict[tuple[FunctionInfo, object], Value] = {}
        self._running: set[FunctionInfo] = set()

    def run(self) -> None:
        """Run everything twice: the second time with what the fields were given in the first."""
        for _ in range(2):
            self._memo.clear()
            self.problems.clear()
            for module, unit in self.analysis.modules.items():
                self.block(unit.module.tree.body, Frame(unit, self.module_env[module], 0))
            for fn in self.analysis.cold:
                self.invoke(fn, {}, 0)

    def report(self, frame: Frame, node: ir.Node, message: str) -> None:
        """Note a mixture of units."""
        self.problems.setdefault((id(node), message), (frame.unit, node, message))

    # -- functions

    def invoke(self, fn: FunctionInfo, given: Env, depth: int) -> Value:
        """Run a function for arguments in known units, and return what it returns."""
        given = {n: v for n, v in given.items() if v.units or v.items or v.entries}
        key = (fn, frozenset((n, v.units) for n, v in given.items()))
        if key in self._memo:
            return self._memo[key]
        if fn in self._running or depth > _DEPTH:
            return NOTHING
        self._memo[key] = NOTHING
        self._running.add(fn)
        frame = Frame(self.analysis.cold[fn], {}, depth)
        for param in fn.node.params:
            value = given.get(param.name, NOTHING)
            if param.default is not None:
                default = self.eval(param.default, frame)
                self.meets(frame, param.default, default, param.name)
                value = value if param.name in given else Value(default.units, full_width=default.full_width)
            frame.env[param.name] = self._under_name(param.name, value)
        self.block(fn.node.body, frame)
        if not given:
            self.envs[fn] = frame.env
        self._running.discard(fn)
        out = units.joined(frame.returned) if frame.returned else NOTHING
        said = units.returned_unit(fn.node.name)
        if said is not None:
            out = Value(units.of(said).units, out.number, out.items, out.entries)
        self._memo[key] = out
        return out

    def _under_name(self, name: str, value: Value) -> Value:
        said = units.named_unit(name)
        return Value(units.of(said).units, value.number, value.items, value.entries) if said is not None else value

    def meets(self, frame: Frame, node: ir.Node, value: Value, name: str, what: str = "") -> None:
        """Report a value that stands under a name of another unit."""
        said = units.named_unit(name)
        if said is None:
            return
        for unit in sorted(value.said()):
            if units.clash(unit, said):
                self.report(frame, node, f"{what or name} is in {said}, and a value in {unit} is given to it")

    # -- statements

    def block(self, body: list[ir.Stmt], frame: Frame) -> bool:
        """Run statements; whether the end is reached."""
        for statement in body:
            handler = _STATEMENTS.get(type(statement))
            if handler is not None and handler(self, statement, frame) is False:
                return False
        return True

    def _expr(self, node: ir.ExprStmt, frame: Frame) -> None:
        self.eval(node.value, frame)

    def _assign(self, node: ir.Assign, frame: Frame) -> None:
        if node.value is None:
            return
        value = self.eval(node.value, frame)
        for target in node.targets:
            self.store(target, value, frame, node.value)

    def _augmented(self, node: ir.AugAssign, frame: Frame) -> None:
        made = ir.BinOp(node.line, node.column, node.end_line, node.end_column, node.target, node.op, node.value)
        self.store(node.target, self.eval(made, frame), frame, node.value)

    def _return(self, node: ir.Return, frame: Frame) -> bool:
        if node.value is not None:
            value = self.eval(node.value, frame)
            frame.returned.append(value)
            fn = frame.unit.fn
            said = units.returned_unit(fn.node.name) if fn is not None else None
            for unit in sorted(value.said()):
                if said is not None and units.clash(unit, said) and fn is not None:
                    self.report(frame, node.value, f"{fn.node.name} says {said}, and a value in {unit} is returned")
        return False

    def _leave(self, node: ir.Raise, frame: Frame) -> bool:
        for part in (node.exc, node.cause):
            if part is not None:
                self.eval(part, frame)
        return False

    def _assert(self, node: ir.Assert, frame: Frame) -> None:
        self.eval(node.test, frame)

    def _if(self, node: ir.If, frame: Frame) -> bool:
        self.eval(node.test, frame)
        return self._branches(frame, [node.body, node.orelse])

    def _branches(self, frame: Frame, bodies: list[list[ir.Stmt]]) -> bool:
        before, after = dict(frame.env), []
        for body in bodies:
            frame.env.clear()
            frame.env.update(before)
            if self.block(body, frame):
                after.append(dict(frame.env))
        frame.env.clear()
        frame.env.update(_merged(after) if after else before)
        return bool(after)

    def _for(self, node: ir.For, frame: Frame) -> None:
        self.iterate(node.target, node.iter, frame)
        self._branches(frame, [node.body, []])
        self._branches(frame, [node.body, []])
        self.block(node.orelse, frame)

    def iterate(self, target: ir.Expr, source: ir.Expr, frame: Frame) -> None:
        """Bind the target of a loop to the elements of what it runs over."""
        called = ir.last_name(source.func) if isinstance(source, ir.Call) else ""
        if isinstance(source, ir.Call) and isinstance(target, ir.Sequence) and called in ("zip", "enumerate"):
            parts = usage.positional(source)
            targets = target.items[1:] if called == "enumerate" else target.items
            for each, part in zip(targets, parts, strict=False):
                self.store(each, units.element(self.eval(part, frame)), frame, part)
            return
        self.store(target, units.element(self.eval(source, frame)), frame, source)

    def _while(self, node: ir.While, frame: Frame) -> None:
        self.eval(node.test, frame)
        self._branches(frame, [node.body, []])
        self._branches(frame, [node.body, []])
        self.block(node.orelse, frame)

    def _with(self, node: ir.With, frame: Frame) -> bool:
        for item in node.items:
            value = self.eval(item.context, frame)
            if item.target is not None:
                self.store(item.target, value, frame, item.context)
        return self.block(node.body, frame)

    def _try(self, node: ir.Try, frame: Frame) -> bool:
        bodies = [[*node.body, *node.orelse], *(h.body for h in node.handlers)]
        reached = self._branches(frame, bodies)
        return self.block(node.finalbody, frame) and reached

    def _match(self, node: ir.Match, frame: Frame) -> None:
        value = self.eval(node.subject, frame)
        for case in node.cases:
            for binding in case.bindings:
                self.store(binding, value, frame, node.subject)
        self._branches(frame, [*(c.body for c in node.cases), []])

    def _class(self, node: ir.ClassDef, frame: Frame) -> None:
        inner = Frame(frame.unit, dict(frame.env), frame.depth)
        self.block(node.body, inner)
        info = self.analysis.project.class_of[node]
        for name in info.scope.names:
            if name in inner.env and inner.env[name].units:
                self._keep(info, name, inner.env[name])

    # -- stores

    def store(self, target: ir.Expr, value: Value, frame: Frame, source: ir.Expr) -> None:
        """Bind an assignment target; a name that says another unit is a problem."""
        if isinstance(target, ir.Name):
            self.meets(frame, source, value, target.id)
            frame.env[target.id] = self._under_name(target.id, value)
        elif isinstance(target, ir.Attribute):
            self.meets(frame, source, value, target.attr)
            owners = usage.name_values(self.analysis, frame.unit, target.value.id) if isinstance(target.value, ir.Name) else ()
            for receiver in owners:
                if isinstance(receiver, Inst) and value.units:
                    self._keep(receiver.cls, target.attr, value)
        elif isinstance(target, ir.Subscript):
            if isinstance(target.index, ir.Constant) and isinstance(target.index.value, str):
                self.meets(frame, source, value, target.index.value)
                if isinstance(target.value, ir.Name) and target.value.id in frame.env:
                    before = frame.env[target.value.id]
                    kept = tuple((k, v) for k, v in before.entries or () if k != target.index.value)
                    frame.env[target.value.id] = Value(before.units, entries=(*kept, (target.index.value, value)))
            elif isinstance(target.value, (ir.Name, ir.Attribute)):
                self.meets(frame, source, value, ir.last_name(target.value))
        elif isinstance(target, ir.Starred):
            self.store(target.value, value, frame, source)
        elif isinstance(target, ir.Sequence):
            sources = (
                source.items if isinstance(source, ir.Sequence) and len(source.items) == len(target.items) else [source] * len(target.items)
            )
            known = value.items if value.items is not None and len(value.items) == len(target.items) else None
            for i, item in enumerate(target.items):
                self.store(item, known[i] if known is not None else units.element(value), frame, sources[i])

    def _keep(self, cls: ClassInfo, name: str, value: Value) -> None:
        before = self.fields.get((cls, name))
        self.fields[cls, name] = Value(value.units | (before.units if before is not None else frozenset()))

    # -- expressions

    def eval(self, expr: ir.Expr, frame: Frame) -> Value:
        """The unit of an expression."""
        handler = _EXPRESSIONS.get(type(expr))
        if handler is not None:
            out: Value = handler(self, expr, frame)
            return out
        for child in ir.children(expr):
            if isinstance(child, ir.Expr):
                self.eval(child, frame)
        return NOTHING

    def _constant(self, node: ir.Constant, frame: Frame) -> Value:
        number = isinstance(node.value, (int, float)) and not isinstance(node.value, bool)
        return Value(number=float(node.value)) if number and isinstance(node.value, (int, float)) and abs(node.value) < 1e300 else NOTHING

    def _name(self, node: ir.Name, frame: Frame) -> Value:
        value = self._variable(node, frame)
        said = units.named_unit(node.id)
        if said is not None:
            return Value(units.of(said).units, value.number, value.items, value.entries)
        return value if value.units or value.number is not None or value.items else self._implied(node.id, value)

    def _implied(self, name: str, value: Value) -> Value:
        implied = units.of(units.implied_unit(name), implied=True)
        return implied if implied.units else value

    def _variable(self, node: ir.Name, frame: Frame) -> Value:
        if node.id in frame.env:
            return frame.env[node.id]
        found = lookup_scope(usage.scope_of(frame.unit), node.id)
        if found is None:
            return NOTHING
        if found.function is not None and found.kind == "function":
            return self.envs.get(found.function, {}).get(node.id, NOTHING)
        env = self.module_env.get(found.module, {})
        if node.id in env:
            return env[node.id]
        places = self.flow.module_name(found.module, node.id) if found.kind == "module" else []
        return self.module_env.get(places[0].module, {}).get(node.id, NOTHING) if places else NOTHING

    def _attribute(self, node: ir.Attribute, frame: Frame) -> Value:
        base = self.eval(node.value, frame)
        said = units.named_unit(node.attr)
        if said is not None:
            return units.of(said)
        if node.attr in ("pi", "tau"):
            return Value(number=3.141592653589793 if node.attr == "pi" else 6.283185307179586)
        if node.attr in ("T", "mT", "real", "data", "values", "flat"):
            return base
        out: list[Value] = []
        for receiver in frame.unit.receivers.get(node, frozenset()):
            if isinstance(receiver, Inst):
                out += self._field(receiver.cls, node.attr, frame)
            elif isinstance(receiver, Mod):
                out.append(self.module_env.get(receiver.module, {}).get(node.attr, NOTHING))
        return self._implied(node.attr, units.joined(out) if out else NOTHING)

    def _field(self, cls: ClassInfo, name: str, frame: Frame) -> list[Value]:
        for owner in self.analysis.mro_cache.get(cls) or [cls]:
            getter = owner.module.functions.get(f"{owner.qualname}.{name}")
            if getter is not None and "property" in getter.flags:
                return [self.invoke(getter, {}, frame.depth + 1)]
            if (owner, name) in self.fields:
                return [self.fields[owner, name]]
        return []

    def _unary(self, node: ir.UnaryOp, frame: Frame) -> Value:
        value = self.eval(node.operand, frame)
        return units.converted(value, -1.0) if node.op == "-" else value if node.op == "+" else NOTHING

    def _either(self, node: ir.IfExp | ir.BoolOp, frame: Frame) -> Value:
        if isinstance(node, ir.IfExp):
            self.eval(node.test, frame)
            return units.joined([self.eval(node.body, frame), self.eval(node.orelse, frame)])
        return units.joined([self.eval(v, frame) for v in node.values])

    def _compare(self, node: ir.Compare, frame: Frame) -> Value:
        sides = [node.left, *node.comparators]
        values = [self.eval(s, frame) for s in sides]
        if not set(node.ops) & {"in", "not in", "is", "is not"}:
            for first, second in itertools.pairwise(values):
                self.same(frame, node, first, second, "compared")
        return NOTHING

    def same(self, frame: Frame, node: ir.Node, first: Value, second: Value, done: str) -> None:
        """Report two values in different units that are added, compared or chosen between."""
        for a in sorted(first.said()):
            for b in sorted(second.said()):
                if units.clash(a, b):
                    self.report(frame, node, f"a value in {a} is {done} with one in {b}")

    def _subscript(self, node: ir.Subscript, frame: Frame) -> Value:
        base = self.eval(node.value, frame)
        if not isinstance(node.index, ir.Constant):
            self.eval(node.index, frame)
            return base if isinstance(node.index, ir.Slice) else Value(base.units, full_width=base.full_width)
        key = node.index.value
        if isinstance(key, str):
            said = units.named_unit(key)
            entry = dict(base.entries).get(key) if base.entries is not None else None
            return units.of(said) if said is not None else entry if entry is not None else self._implied(key, NOTHING)
        if isinstance(key, int) and base.items is not None and -len(base.items) <= key < len(base.items):
            return base.items[key]
        return Value(base.units, full_width=base.full_width)

    def _sequence(self, node: ir.Sequence, frame: Frame) -> Value:
        items = tuple(self.eval(i, frame) for i in node.items)
        with_units = [i.units for i in items if i.units]
        agreed = with_units[0] if with_units and all(u == with_units[0] for u in with_units) else frozenset()
        return Value(agreed, items=items)

    def _dict(self, node: ir.Dict, frame: Frame) -> Value:
        entries: list[tuple[str, Value]] = []
        for key, item in zip(node.keys, node.values, strict=True):
            value = self.eval(item, frame)
            if isinstance(key, ir.Constant) and isinstance(key.value, str):
                self.meets(frame, item, value, key.value)
                entries.append((key.value, self._under_name(key.value, value)))
        return Value(entries=tuple(entries))

    def _comprehension(self, node: ir.Comprehension, frame: Frame) -> Value:
        before = dict(frame.env)
        for clause in node.clauses:
            self.iterate(clause.target, clause.iter, frame)
            for test in clause.ifs:
                self.eval(test, frame)
        value = self.eval(node.element, frame)
        if node.value is not None:
            value = self.eval(node.value, frame)
        frame.env.clear()
        frame.env.update(before)
        return Value(value.units)

    def _bound(self, node: ir.NamedExpr, frame: Frame) -> Value:
        value = self.eval(node.value, frame)
        self.store(node.target, value, frame, node.value)
        return value

    def _inner(self, node: ir.Await | ir.Starred, frame: Frame) -> Value:
        return self.eval(node.value, frame)

    def _yield(self, node: ir.Yield, frame: Frame) -> Value:
        if node.value is not None:
            frame.returned.append(self.eval(node.value, frame))
        return NOTHING

    def _lambda(self, node: ir.Lambda, frame: Frame) -> Value:
        return NOTHING

    def _binop(self, node: ir.BinOp, frame: Frame) -> Value:
        left, right = self.eval(node.left, frame), self.eval(node.right, frame)
        return unitcalls.arithmetic(self, frame, node, left, right)

    def _call(self, node: ir.Call, frame: Frame) -> Value:
        return unitcalls.call(self, frame, node)

    def is_conversion(self, expr: ir.Expr) -> bool:
        """Whether a factor of unknown value may be one that converts units, by its name."""
        names = [ir.last_name(n).lower() for n in ir.walk(expr) if isinstance(n, (ir.Name, ir.Attribute))]
        return any(set(n.split("_")) & _CONVERSIONS or "2" in n for n in names)

    def functions(self, frame: Frame, expr: ir.Expr) -> list[FunctionInfo]:
        """The packages' own functions that an expression may be."""
        if isinstance(expr, ir.Lambda):
            return [self.analysis.project.function_of[expr.function]]
        if isinstance(expr, ir.Name):
            return [v.fn for v in usage.name_values(self.analysis, frame.unit, expr.id) if isinstance(v, Func) and not v.weak]
        return []


def _merged(envs: list[Env]) -> Env:
    out = dict(envs[0])
    for env in envs[1:]:
        for name, value in env.items():
            out[name] = units.joined([out[name], value]) if name in out and out[name] != value else value
    return out


_Handler = Callable[..., Any]
_STATEMENTS: dict[type[ir.Stmt], _Handler] = {
    ir.ExprStmt: UnitFlow._expr, ir.Assign: UnitFlow._assign, ir.AugAssign: UnitFlow._augmented, ir.Return: UnitFlow._return,
    ir.Raise: UnitFlow._leave, ir.Assert: UnitFlow._assert, ir.If: UnitFlow._if, ir.For: UnitFlow._for, ir.While: UnitFlow._while,
    ir.With: UnitFlow._with, ir.Try: UnitFlow._try, ir.Match: UnitFlow._match, ir.ClassDef: UnitFlow._class,
}  # fmt: skip
_EXPRESSIONS: dict[type[ir.Expr], _Handler] = {
    ir.Constant: UnitFlow._constant, ir.Name: UnitFlow._name, ir.Attribute: UnitFlow._attribute, ir.UnaryOp: UnitFlow._unary,
    ir.IfExp: UnitFlow._either, ir.BoolOp: UnitFlow._either, ir.Compare: UnitFlow._compare, ir.Subscript: UnitFlow._subscript,
    ir.Sequence: UnitFlow._sequence, ir.Dict: UnitFlow._dict, ir.Comprehension: UnitFlow._comprehension, ir.NamedExpr: UnitFlow._bound,
    ir.Await: UnitFlow._inner, ir.Starred: UnitFlow._inner, ir.Yield: UnitFlow._yield, ir.Lambda: UnitFlow._lambda,
    ir.BinOp: UnitFlow._binop, ir.Call: UnitFlow._call,
}  # fmt: skip

__all__ = ["DB", "DEG", "LINEAR", "RAD", "Frame", "UnitFlow"]
