"""Runs functions over units instead of numbers, in order, with branches joined and helpers run for what they are given."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from audits.static.analysis.engine import Unit
from audits.static.analysis.values import Cls, Ext, Func, Inst, Mod
from audits.static.dataflow import usage
from audits.static.dataflow.flow import Flow
from audits.static.source import ir
from audits.static.source.project import ClassInfo, FunctionInfo, ModuleInfo, Scope, lookup_scope
from audits.static.subjects import unitcalls, units
from audits.static.subjects.units import DB, DEG, LINEAR, NOTHING, RAD, Value, shallow

Env = dict[str, Value]
_DEPTH = 8
_SHALLOW = 1
_CONTEXTS = 8
_NUMBERS = {"pi": math.pi, "e": math.e, "tau": math.tau, "degree": math.pi / 180}
_UNITLESS = ("T", "mT", "H", "mH", "real", "imag", "data", "value", "values", "flat")
_CONVERSIONS = frozenset({"rad", "deg", "radians", "degrees", "conv", "conversion", "factor", "scale", "unit", "units"})


@dataclass
class Frame:
    """One run of a unit: its code, its variables and what it has returned so far."""

    unit: Unit
    env: Env
    depth: int
    returned: list[Value] = field(default_factory=list)
    context: object = None  # what tells this run from others of the same code
    found: set[tuple[ir.Node, ...]] = field(default_factory=set)  # what was found while it ran, each with the calls that led there
    noted: set[object] = field(default_factory=set)


class UnitFlow:
    """All units of a project; `problems` fills while they run."""

    index = NOTHING  # what counts the elements of something

    def __init__(self, flow: Flow) -> None:
        self.analysis = flow.analysis
        self.flow = flow
        self._statements: dict[type, Callable[..., Any]] = {kind: getattr(self, name) for kind, name in _STATEMENTS.items()}
        self._expressions: dict[type, Callable[..., Any]] = {kind: getattr(self, name) for kind, name in _EXPRESSIONS.items()}
        self.problems: dict[tuple[int, str], tuple[Unit, ir.Node, str]] = {}
        # What fields were given, for each run of the code that gives it.
        self.fields: dict[tuple[ClassInfo, str], dict[object, Value]] = {}
        self.made: dict[ClassInfo, dict[Value, None]] = {}
        self.module_env: dict[ModuleInfo, Env] = {m: {} for m in self.analysis.modules}
        self.envs: dict[FunctionInfo, Env] = {}
        self.calling: list[ir.Node] = []
        self.chains: dict[Unit, set[tuple[ir.Node, ...]]] = {}
        self._memo: dict[tuple[FunctionInfo, object], tuple[Value, Value, frozenset[tuple[ir.Node, ...]]]] = {}
        self._running: set[FunctionInfo] = set()
        self._outer: dict[tuple[Scope | None, str], Value] = {}  # what functions bind names to that are not theirs
        self._globals: dict[tuple[Scope, str], Value] = {}
        self._renamed: dict[ModuleInfo, dict[str, str]] = {}

    def run(self) -> None:
        """Run everything twice: the second time with what the fields were given in the first."""
        for self.deepest in (_SHALLOW, _DEPTH):
            self._memo.clear()
            self.problems.clear()
            for module, unit in self.analysis.modules.items():
                frame = Frame(unit, self.module_env[module], 0)
                self.block(unit.module.tree.body, frame)
                self.finish(frame)
                self.chains.setdefault(unit, set()).update(frame.found)
            for fn, unit in self.analysis.cold.items():
                top = Frame(unit, {}, -1)
                self.run_on(fn, {}, top)
                self.chains.setdefault(unit, set()).update(chain[1:] for chain in top.found)
            for cls, values in self.made.items():
                self._run_methods(cls, list(values)[:_CONTEXTS])

    def _run_methods(self, cls: ClassInfo, objects: list[Value]) -> None:
        # Every method for each object that is made anywhere, since one class may serve several units.
        for owner in self.analysis.mro_cache.get(cls) or [cls]:
            for fn in self.analysis.cold:
                if fn.cls is owner and fn.positional and fn.node.name != "__init__" and "staticmethod" not in fn.flags:
                    for value in objects:
                        self.run_on(fn, {fn.positional[0].name: value}, Frame(self.analysis.cold[fn], {}, 0))

    def report(self, frame: Frame, node: ir.Node, message: str) -> None:
        """Note a mixture of units."""
        self.problems.setdefault((id(node), message), (frame.unit, node, message))

    # -- functions

    def finish(self, frame: Frame) -> None:
        """The end of a run."""

    def telling(self, value: Value) -> Value:
        """A value without what would tell a helper nothing."""
        return units.telling(value)

    def constructed(self, cls: ClassInfo, made: Value) -> Value:
        """What is known of a new object."""
        kept = units.telling(made)
        if kept.entries:
            self.made.setdefault(cls, {})[kept] = None
        return made

    def run_on(self, fn: FunctionInfo, given: Env, caller: Frame) -> tuple[Value, Value]:
        """What a function returns for arguments in known units, and what its first argument is then."""
        given = {n: v for n, v in ((n, self.telling(v)) for n, v in given.items()) if v.known and v != self.under_name(n, NOTHING)}
        key = (fn, frozenset(given.items()))
        first = fn.positional[0].name if fn.positional else ""
        if key not in self._memo:
            self._memo[key] = NOTHING, given.get(first, NOTHING), frozenset()
            if fn not in self._running and caller.depth < self.deepest:
                self._running.add(fn)
                self._memo[key] = self._run(fn, given, Frame(self.analysis.cold[fn], {}, caller.depth + 1, context=key[1]))
                self._running.discard(fn)
            else:
                del self._memo[key]
                return NOTHING, given.get(first, NOTHING)
        out, after, found = self._memo[key]
        caller.found.update((self.calling[-1] if self.calling else fn.node, *chain) for chain in found if len(chain) < _DEPTH)
        return out, after

    def _run(self, fn: FunctionInfo, given: Env, frame: Frame) -> tuple[Value, Value, frozenset[tuple[ir.Node, ...]]]:
        first = fn.positional[0].name if fn.positional else ""
        for param in fn.node.params:
            value = given.get(param.name, NOTHING)
            if param.default is not None:
                default = self.eval(param.default, frame)
                self.meets(frame, param.default, default, param.name)
                value = value if param.name in given else replace(default, number=None)
            frame.env[param.name] = self.under_name(param.name, value)
        if fn.cls is not None and "staticmethod" not in fn.flags and first and first not in given:
            frame.env[first] = Value(entries=())
        self.block(fn.node.body, frame)
        if not given:
            self.envs[fn] = frame.env
        self.finish(frame)
        out = units.joined(frame.returned)
        said = units.returned_unit(fn.node.name)
        if said is not None:
            out = units.under_unit(out, said)
        return shallow(out), shallow(frame.env.get(first, NOTHING)), frozenset(frame.found)

    def under_name(self, name: str, value: Value) -> Value:
        """A value that stands under a name."""
        said = units.named_unit(name)
        return units.under_unit(value, said) if said is not None else value

    def meets(self, frame: Frame, node: ir.Node, value: Value, name: str, what: str = "") -> None:
        """Report a value that stands under a name of another unit."""
        said, implied = units.named_unit(name), units.implied_unit(name)
        if said is not None:
            for unit in sorted(value.said() if said != DB else value.plain):
                if units.clash(unit, said):
                    self.report(frame, node, f"{what or name} is in {said}, and a value in {unit} is given to it")
        elif implied is not None and DB in value.said():
            self.report(frame, node, f"{what or name} is {implied}, and a value in dB is given to it")
        if LINEAR in (said, implied) and value.over_level:
            self.report(frame, node, f"{what or name} is {LINEAR}, and what is given to it was divided by a value in dB")

    # -- statements

    def block(self, body: list[ir.Stmt], frame: Frame) -> bool:
        """Run statements; whether the end is reached."""
        for statement in body:
            handler = self._statements.get(type(statement))
            if handler is not None and handler(statement, frame) is False:
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
        self.iterate(node.target, node.iter, frame)
        self._branches(frame, [node.body, []])
        self.block(node.orelse, frame)

    def iterate(self, target: ir.Expr, source: ir.Expr, frame: Frame) -> None:
        """Bind the target of a loop to the elements of what it runs over."""
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
        inner = Frame(frame.unit, dict(frame.env), frame.depth, context="class")
        self.block(node.body, inner)
        info = self.analysis.project.class_of[node]
        for name in info.scope.names:
            if name in inner.env and inner.env[name].known:
                self.keep(info, name, inner.env[name], inner.context)

    # -- stores

    def store(self, target: ir.Expr, value: Value, frame: Frame, source: ir.Expr) -> None:
        """Bind an assignment target; a name that says another unit is a problem."""
        if isinstance(target, ir.Name):
            self.meets(frame, source, value, target.id)
            frame.env[target.id] = self.under_name(target.id, value)
            if frame.unit.fn is not None and target.id in frame.unit.fn.scope.outer and value.known:
                owner = lookup_scope(frame.unit.fn.scope, target.id)
                before = self._outer.get((owner, target.id), NOTHING)
                self._outer[owner, target.id] = units.joined([before, value]) if before.known else value
        elif isinstance(target, ir.Attribute):
            self.meets(frame, source, value, target.attr)
            self.rebind(target, self.under_name(target.attr, value), frame)
        elif isinstance(target, ir.Subscript):
            self._store_item(target, value, frame, source)
        elif isinstance(target, ir.Starred):
            self.store(target.value, value, frame, source)
        elif isinstance(target, ir.Sequence):
            sources = (
                source.items if isinstance(source, ir.Sequence) and len(source.items) == len(target.items) else [source] * len(target.items)
            )
            known = value.items if value.items is not None and len(value.items) == len(target.items) else None
            for i, item in enumerate(target.items):
                self.store(item, known[i] if known is not None else units.element(value), frame, sources[i])

    def _store_item(self, target: ir.Subscript, value: Value, frame: Frame, source: ir.Expr) -> None:
        key, name = target.index, ir.last_name(target.value)
        if isinstance(key, ir.Constant) and isinstance(key.value, str):
            self.meets(frame, source, value, key.value)
            self.rebind(target.value, self.eval(target.value, frame).having(key.value, self.under_name(key.value, value)), frame)
            return
        if isinstance(target.value, (ir.Name, ir.Attribute)):
            self.meets(frame, source, value, name)
        whole = not isinstance(key, ir.Sequence) or not any(isinstance(i, ir.Constant) and isinstance(i.value, int) for i in key.items)
        if value.known and whole and units.named_unit(name) is None:
            before = self.eval(target.value, frame)
            if before.entries is not None:
                self.rebind(target.value, before.having("*", units.joined([value, *(v for k, v in before.entries if k == "*")])), frame)
            else:
                self.put(target.value, before, value, frame)

    def put(self, target: ir.Expr, before: Value, value: Value, frame: Frame) -> None:
        """Put an element into a container."""
        each = units.joined([value, *([before.each] if before.each is not None else [])])
        self.rebind(target, Value(before.units | value.units, each=shallow(each)), frame)

    def rebind(self, target: ir.Expr, value: Value, frame: Frame) -> None:
        """Let a variable or a field hold a value."""
        if isinstance(target, ir.Name):
            if target.id in frame.env or target.id in usage.scope_of(frame.unit).names:
                frame.env[target.id] = value
        elif isinstance(target, ir.Attribute):
            owner = self.eval(target.value, frame) if isinstance(target.value, (ir.Name, ir.Attribute)) else NOTHING
            if owner.entries is not None:
                self.rebind(target.value, owner.having(target.attr, value), frame)
            if isinstance(target.value, ir.Name) and value.known:
                for receiver in usage.name_values(self.analysis, frame.unit, target.value.id):
                    if isinstance(receiver, Inst):
                        self.keep(receiver.cls, target.attr, value, frame.context)

    def keep(self, cls: ClassInfo, name: str, value: Value, context: object) -> None:
        """Note what a field is given."""
        held = self.fields.setdefault((cls, name), {})
        before = held.get(context)
        held[context] = shallow(value if before is None else units.joined([before, value]))

    # -- expressions

    def eval(self, expr: ir.Expr, frame: Frame) -> Value:
        """The unit of an expression."""
        handler = self._expressions.get(type(expr))
        if handler is not None:
            out: Value = handler(expr, frame)
            return out
        for child in ir.children(expr):
            if isinstance(child, ir.Expr):
                self.eval(child, frame)
        return NOTHING

    def _constant(self, node: ir.Constant, frame: Frame) -> Value:
        if isinstance(node.value, complex):
            return Value(imaginary=True)
        number = isinstance(node.value, (int, float)) and not isinstance(node.value, bool)
        return Value(number=float(node.value)) if number and isinstance(node.value, (int, float)) and abs(node.value) < 1e300 else NOTHING

    def _name(self, node: ir.Name, frame: Frame) -> Value:
        value = self._variable(node, frame)
        said = units.named_unit(node.id)
        if said is not None:
            return units.under_unit(value, said)
        return value if value.known or value.imaginary else self._implied(node.id, value)

    def _implied(self, name: str, value: Value) -> Value:
        implied = units.of(units.implied_unit(name), implied=True)
        return implied if implied.units else value

    def _variable(self, node: ir.Name, frame: Frame) -> Value:
        if node.id in frame.env:
            return frame.env[node.id]
        found = lookup_scope(usage.scope_of(frame.unit), node.id)
        if found is None:
            return self._global(node, frame)
        if (found, node.id) in self._outer:
            return self._outer[found, node.id]
        if found.function is not None and found.kind == "function":
            return self.envs.get(found.function, {}).get(node.id, NOTHING)
        env = self.module_env.get(found.module, {})
        if node.id in env:
            return env[node.id]
        places = self.flow.module_name(found.module, node.id) if found.kind == "module" else []
        imported = self.module_env.get(places[0].module, {}) if places else {}
        original = node.id if node.id in imported else self._originals(found.module).get(node.id, node.id)
        said = units.named_unit(original)
        if original in imported:
            return units.under_unit(imported[original], said) if said is not None else imported[original]
        return self._global(node, frame)

    def _originals(self, module: ModuleInfo) -> dict[str, str]:
        # What was imported under another name.
        if module not in self._renamed:
            nodes = [n for n in ir.walk_own(module.tree.body) if isinstance(n, ir.ImportFrom)]
            self._renamed[module] = {asname: name for n in nodes for name, asname in n.names if asname is not None}
        return self._renamed[module]

    def _global(self, node: ir.Name, frame: Frame) -> Value:
        # An imported number, or a function that is passed on.
        key = (usage.scope_of(frame.unit), node.id)
        if key not in self._globals:
            self._globals[key] = self._imported(node, frame)
        return self._globals[key]

    def _imported(self, node: ir.Name, frame: Frame) -> Value:
        found = usage.name_values(self.analysis, frame.unit, node.id)
        numbers = {_NUMBERS.get(v.name.rpartition(".")[2]) if isinstance(v, Ext) and v.name.count(".") else None for v in found}
        if len(numbers) == 1 and None not in numbers:
            return Value(number=numbers.pop())
        functions = frozenset(v for v in found if isinstance(v, (Ext, Func)) and not getattr(v, "weak", False))
        return Value(functions=functions) if len(functions) == len(found) else NOTHING

    def _attribute(self, node: ir.Attribute, frame: Frame) -> Value:
        return self.attribute(node, self.eval(node.value, frame), frame)

    def attribute(self, node: ir.Attribute, base: Value, frame: Frame) -> Value:
        """The unit of an attribute of a value."""
        said = units.named_unit(node.attr)
        if node.attr in ("radians", "degrees") and usage.outside_names(self.analysis, frame.unit, node):
            said = None  # the functions of math and NumPy
        entry = base.entry(node.attr) if base.entries is not None and node.attr in dict(base.entries) else None
        if said is not None:
            return units.under_unit(entry if entry is not None else NOTHING, said)
        if entry is not None and entry.known:
            return entry
        if node.attr in ("pi", "tau"):
            return Value(number=_NUMBERS[node.attr])
        if node.attr in _UNITLESS and base.known and base.entries is None:
            return base
        out: list[Value] = []
        for receiver in frame.unit.receivers.get(node, frozenset()):
            if isinstance(receiver, (Inst, Cls)):
                out += self._field(receiver.cls, node.attr, base, frame)
            elif isinstance(receiver, Mod):
                out.append(self.module_env.get(receiver.module, {}).get(node.attr, NOTHING))
        found = self._implied(node.attr, units.joined(out) if out else NOTHING)
        outside = usage.outside_names(self.analysis, frame.unit, node) if not found.known else set()
        if node.attr == "e" and outside & {"math.e", "numpy.e", "torch.e"}:
            return Value(number=math.e)
        return Value(functions=frozenset(Ext(n) for n in outside)) if outside else found

    def _field(self, cls: ClassInfo, name: str, base: Value, frame: Frame) -> list[Value]:
        for owner in self.analysis.mro_cache.get(cls) or [cls]:
            getter = owner.module.functions.get(f"{owner.qualname}.{name}")
            if getter is not None and ("property" in getter.flags or "cached_property" in getter.flags):
                given = {getter.positional[0].name: base} if getter.positional and base.entries is not None else {}
                return [self.run_on(getter, given, frame)[0]]
            if getter is not None:
                return [Value(functions=frozenset((Func(getter, bound=True),)))]
            if (owner, name) in self.fields:
                held = list(dict.fromkeys(self.fields[owner, name].values()))
                # One class may serve several units; which one this object has is then unknown.
                if any(units.clash(a, b) for v, w in itertools.combinations(held, 2) for a in v.plain for b in w.plain):
                    return []
                return [self.one_of(held)]
        return []

    def one_of(self, held: list[Value]) -> Value:
        """A field that was given these."""
        return units.joined(held)

    def _unary(self, node: ir.UnaryOp, frame: Frame) -> Value:
        value = self.eval(node.operand, frame)
        if node.op == "-":
            return units.converted(value, -1.0)
        return value if node.op == "+" else NOTHING

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
        if len(first.plain) > 1 and len(second.plain) > 1 and first.plain & second.plain:
            return  # of one loop over values in different units
        weighed = first.scaled or second.scaled or abs(first.scale) != 1.0 or abs(second.scale) != 1.0
        for a in sorted(first.plain):
            for b in sorted(second.plain):
                if not units.clash(a, b) or (weighed and units.dimension(a) != units.dimension(b)):
                    continue
                # What only implies that it is linear may not meet what says dB.
                names = {a for v in (first, second) for a in v.said()}
                if (a in first.said() and b in second.said()) or ({a, b} == {DB, LINEAR} and DB in names):
                    self.report(frame, node, f"a value in {a} is {done} with one in {b}")

    def _subscript(self, node: ir.Subscript, frame: Frame) -> Value:
        base = self.eval(node.value, frame)
        if not isinstance(node.index, ir.Constant):
            keys = self.eval(node.index, frame)
            return self.part(frame, node, base, keys)
        key = node.index.value
        if isinstance(key, str):
            said = units.named_unit(key)
            entry = base.entry(key)
            if said is not None:
                return units.under_unit(entry if entry is not None else NOTHING, said)
            return entry if entry is not None else Value(base.units) if base.units else self._implied(key, NOTHING)
        if isinstance(key, int) and base.items is not None and base.axis == 0 and -len(base.items) <= key < len(base.items):
            return base.items[key]
        return self.part(frame, node, base, NOTHING)

    def part(self, frame: Frame, node: ir.Subscript, base: Value, keys: Value) -> Value:
        """What an index that is no text takes out of a value."""
        index = node.index
        if base.entries is not None and not base.units:
            return base.entry(None) or NOTHING
        if base.items is not None and isinstance(index, ir.Sequence) and len(index.items) > 1:
            chosen = index.items[-1 if base.axis else 0]
            if isinstance(chosen, ir.Constant) and isinstance(chosen.value, int) and abs(chosen.value) < len(base.items):
                return base.items[chosen.value]
            return base if base.axis and not isinstance(chosen, ir.Slice) else Value(base.units)
        if isinstance(index, ir.Slice) or base.axis:
            return base if base.axis or base.items is None else replace(base, items=None, each=units.element(base))
        out = units.element(base)
        return out if out != NOTHING or base == NOTHING else replace(base, number=None)

    def _sequence(self, node: ir.Sequence, frame: Frame) -> Value:
        items = [self.eval(i, frame) for i in node.items]
        with_units = [i.units for i in items if i.units]
        agreed = with_units[0] if with_units and all(u == with_units[0] for u in with_units) else frozenset()
        if any(isinstance(i, ir.Starred) for i in node.items):
            flat = [
                v for n, i in zip(node.items, items, strict=True) for v in ((i.items or (NOTHING,)) if isinstance(n, ir.Starred) else (i,))
            ]
            known = not any(isinstance(n, ir.Starred) and i.items is None for n, i in zip(node.items, items, strict=True))
            return Value(agreed, items=tuple(flat)) if known else replace(units.holding(items), units=agreed)
        return Value(agreed, items=tuple(items))

    def _dict(self, node: ir.Dict, frame: Frame) -> Value:
        out = Value(entries=())
        for key, item in zip(node.keys, node.values, strict=True):
            value = self.eval(item, frame)
            if key is None:
                for name, entry in value.entries or ():
                    out = out.having(name, entry)
            elif isinstance(key, ir.Constant) and isinstance(key.value, str):
                self.meets(frame, item, value, key.value)
                out = out.having(key.value, self.under_name(key.value, value))
            else:
                self.eval(key, frame)
                rest = [v for k, v in out.entries or () if k == "*"]
                out = out.having("*", units.joined([*rest, value]))
        return out

    def _comprehension(self, node: ir.Comprehension, frame: Frame) -> Value:
        before = dict(frame.env)
        for clause in node.clauses:
            self.iterate(clause.target, clause.iter, frame)
            for test in clause.ifs:
                self.eval(test, frame)
        value = self.eval(node.element, frame)
        if node.value is not None:
            value = Value(entries=(("*", self.eval(node.value, frame)),))
        frame.env.clear()
        frame.env.update(before)
        return value if node.value is not None else units.holding([value])

    def _bound(self, node: ir.NamedExpr, frame: Frame) -> Value:
        value = self.eval(node.value, frame)
        self.store(node.target, value, frame, node.value)
        return value

    def _text(self, node: ir.FString, frame: Frame) -> Value:
        for part in node.parts:
            self.eval(part, frame)
        return NOTHING

    def _inner(self, node: ir.Await | ir.Starred, frame: Frame) -> Value:
        return self.eval(node.value, frame)

    def _yield(self, node: ir.Yield, frame: Frame) -> Value:
        if node.value is not None:
            value = self.eval(node.value, frame)
            frame.returned.append(value if node.delegate else units.holding([value]))
        return NOTHING

    def _lambda(self, node: ir.Lambda, frame: Frame) -> Value:
        return Value(functions=frozenset((Func(self.analysis.project.function_of[node.function]),)))

    def _binop(self, node: ir.BinOp, frame: Frame) -> Value:
        left, right = self.eval(node.left, frame), self.eval(node.right, frame)
        return self.arithmetic(frame, node, left, right)

    def arithmetic(self, frame: Frame, node: ir.BinOp, left: Value, right: Value) -> Value:
        """The unit of a binary operation."""
        return unitcalls.arithmetic(self, frame, node, left, right)

    def operation(self, frame: Frame, node: ir.Call, name: str, values: list[Value], named: dict[str, Value]) -> Value:
        """What a function of numbers does to the units of its operands."""
        return unitcalls.operation(self, frame, node, name, values, named)

    def _call(self, node: ir.Call, frame: Frame) -> Value:
        self.calling.append(node)
        out = unitcalls.call(self, frame, node)
        self.calling.pop()
        return out

    def is_conversion(self, expr: ir.Expr) -> bool:
        """Whether a factor of unknown value may be one that converts units, by its name."""
        names = [ir.last_name(n).lower() for n in ir.walk(expr) if isinstance(n, (ir.Name, ir.Attribute))]
        return any(set(n.split("_")) & _CONVERSIONS or "2" in n for n in names)


def _merged(envs: list[Env]) -> Env:
    out = dict(envs[0])
    for env in envs[1:]:
        for name, value in env.items():
            out[name] = units.joined([out[name], value]) if name in out and out[name] != value else value
    return out


_STATEMENTS: dict[type[ir.Stmt], str] = {
    ir.ExprStmt: "_expr", ir.Assign: "_assign", ir.AugAssign: "_augmented", ir.Return: "_return",
    ir.Raise: "_leave", ir.Assert: "_assert", ir.If: "_if", ir.For: "_for", ir.While: "_while",
    ir.With: "_with", ir.Try: "_try", ir.Match: "_match", ir.ClassDef: "_class",
}  # fmt: skip
_EXPRESSIONS: dict[type[ir.Expr], str] = {
    ir.Constant: "_constant", ir.Name: "_name", ir.Attribute: "_attribute", ir.UnaryOp: "_unary",
    ir.IfExp: "_either", ir.BoolOp: "_either", ir.Compare: "_compare", ir.Subscript: "_subscript",
    ir.Sequence: "_sequence", ir.Dict: "_dict", ir.Comprehension: "_comprehension", ir.NamedExpr: "_bound",
    ir.Await: "_inner", ir.Starred: "_inner", ir.Yield: "_yield", ir.Lambda: "_lambda",
    ir.BinOp: "_binop", ir.Call: "_call", ir.FString: "_text",
}  # fmt: skip

__all__ = ["DB", "DEG", "LINEAR", "RAD", "Frame", "UnitFlow"]
