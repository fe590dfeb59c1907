"""Data flow read backwards: where a value comes from, through variables, arguments, fields and returns."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from audits.static.analysis import lookup
from audits.static.analysis.engine import Analysis, Key, Unit
from audits.static.analysis.interp import Interp
from audits.static.analysis.values import Cls, Func, Inst, Mod, SuperOf, Values
from audits.static.findings import Step
from audits.static.source import ir
from audits.static.source.project import ClassInfo, FunctionInfo, ModuleInfo, Scope, lookup_scope

_APPENDING = frozenset({"append", "add", "appendleft", "put"})
_FILLING = frozenset({"append", "extend", "add", "insert", "update", "setdefault"})


@dataclass(frozen=True, slots=True)
class Place:
    """An expression and the code around it."""

    expr: ir.Expr
    module: ModuleInfo
    fn: FunctionInfo | None

    def step(self) -> Step:
        """This place as a step of a path."""
        symbol = self.fn.symbol if self.fn is not None else self.module.name
        return Step(symbol, self.module.relative, self.expr.line)

    def at(self, expr: ir.Expr) -> Place:
        """Another expression in the same code."""
        return Place(expr, self.module, self.fn)


class Flow:
    """Indexes of definitions, call sites and field values over a finished analysis."""

    def __init__(self, analysis: Analysis) -> None:
        self.analysis = analysis
        self._definitions: dict[object, dict[str, list[ir.Expr]]] = {}
        self._imports_of: dict[ModuleInfo, list[tuple[str, str, ModuleInfo]]] = {}
        self._found_imports: dict[tuple[ModuleInfo, str], list[Place]] = {}
        self.call_sites: dict[FunctionInfo, list[tuple[ir.Call, Unit, bool]]] = {}
        self.constructions: dict[ClassInfo, list[tuple[ir.Call, Unit]]] = {}
        self._fields: dict[tuple[ClassInfo, str], list[Place]] | None = None
        self._contents: dict[tuple[ClassInfo, str], list[tuple[object, Place]]] | None = None
        self._outer: dict[tuple[Scope, str], list[Place]] | None = None
        self._put: dict[tuple[Scope, str], list[Place]] | None = None
        self._instance_calls: dict[Inst, list[tuple[ir.Call, Unit]]] = {}
        self._called_on: dict[FunctionInfo, list[tuple[ir.Call, Unit, bool]]] | None = None
        for unit in [*analysis.modules.values(), *analysis.cold.values()]:
            for call, callees in unit.calls.items():
                for callee in callees:
                    if isinstance(callee, Func) and not callee.weak:
                        self.call_sites.setdefault(callee.fn, []).append((call, unit, callee.bound))
                    elif isinstance(callee, Cls):
                        self.constructions.setdefault(callee.cls, []).append((call, unit))
                    elif isinstance(callee, Inst):
                        self._instance_calls.setdefault(callee, []).append((call, unit))

    # -- lookups

    def sites(self, fn: FunctionInfo) -> list[tuple[ir.Call, Unit, bool]]:
        """Every call that runs `fn`: by name, through an object that is called, or by constructing its class."""
        if self._called_on is None:
            self._called_on = {}
            for value, calls in self._instance_calls.items():
                for call, unit in calls:
                    interp = Interp(self.analysis, Unit(unit.module, unit.fn, hot=False, settled=True))
                    for target, takes in lookup.call_targets(interp, value):
                        if takes:
                            self._called_on.setdefault(target, []).append((call, unit, True))
        out = [*self.call_sites.get(fn, []), *self._called_on.get(fn, [])]
        if fn.cls is not None and fn.node.name in ("__init__", "__new__"):
            out += [(c, u, True) for c, u in self.constructions.get(fn.cls, [])]
        return out

    def unit(self, place: Place) -> Unit:
        """The analysed unit around a place."""
        return self.analysis.cold[place.fn] if place.fn is not None else self.analysis.modules[place.module]

    def callees(self, place: Place) -> Values:
        """What a call may call."""
        return self.unit(place).calls.get(place.expr, frozenset()) if isinstance(place.expr, ir.Call) else frozenset()

    def receivers(self, place: Place) -> Values:
        """What an attribute may be taken of."""
        return self.unit(place).receivers.get(place.expr, frozenset())

    def definitions(self, place: Place, name: str) -> list[Place]:
        """The expressions that a name in this place may be bound to; parameters lead to their call sites."""
        scope: Scope = place.fn.scope if place.fn is not None else place.module.scope
        found = lookup_scope(scope, name)
        fn = found.function if found is not None else None
        if found is None or found.kind == "class":
            body = found.cls.node.body if found is not None and found.cls is not None else []
            if place.fn is not None and found is None:
                here = [place.at(e) for e in self._in(place.fn, place.fn.node.body).get(name, [])]
                return here or self._imported(place.module, name)
            return [Place(e, place.module, None) for e in self._in(found, body).get(name, [])]
        if fn is None:
            out = [Place(e, found.module, None) for e in self._in(found.module, found.module.tree.body).get(name, [])]
            out += self.outer_writes(found, name)
            return out or self._imported(place.module, name)
        out = [Place(e, fn.module, fn) for e in self._in(fn, fn.node.body).get(name, [])]
        return out + self.arguments(fn, name)

    def _imported(self, module: ModuleInfo, name: str) -> list[Place]:
        key = (module, name)
        if key not in self._found_imports:
            self._found_imports[key] = []  # modules may import a name from one another in a circle
            self._found_imports[key] = self._find_import(module, name)
        return self._found_imports[key]

    def _find_import(self, module: ModuleInfo, name: str) -> list[Place]:
        for original, bound, source in self._imports(module):
            if original == "*" and name in source.scope.names:
                return self.module_name(source, name)
            if bound == name:
                return self.module_name(source, original)
        return []

    def _imports(self, module: ModuleInfo) -> list[tuple[str, str, ModuleInfo]]:
        if module not in self._imports_of:
            found = []
            for node in ir.walk_own(module.tree.body):
                if isinstance(node, ir.ImportFrom):
                    source = self.analysis.project.modules.get(module.absolute(node.module, node.level))
                    if source is not None and source is not module:
                        found += [(original, asname or original, source) for original, asname in node.names]
            self._imports_of[module] = found
        return self._imports_of[module]

    def module_name(self, module: ModuleInfo, name: str) -> list[Place]:
        """The values of a module-level name."""
        found = [Place(e, module, None) for e in self._in(module, module.tree.body).get(name, [])]
        return found or self._imported(module, name)

    def arguments(self, fn: FunctionInfo, name: str) -> list[Place]:
        """What the call sites pass for a parameter, and its default."""
        out: list[Place] = []
        positional = [p.name for p in fn.positional]
        for param in fn.node.params:
            if param.name == name and param.default is not None:
                out.append(Place(param.default, fn.module, fn.enclosing))
        sites = [(c, u, b) for c, u, b in self.call_sites.get(fn, [])]
        if fn.cls is not None and fn.node.name in ("__init__", "__new__"):
            sites += [(c, u, True) for c, u in self.constructions.get(fn.cls, [])]
        for call, unit, bound in sites:
            value = argument(call, positional[1 if bound else 0 :], name)
            if value is not None:
                out.append(Place(value, unit.module, unit.fn))
        return out

    def returns(self, fn: FunctionInfo) -> list[Place]:
        """The values that a function returns or yields."""
        found = [n.value for n in ir.walk_own(fn.node.body) if isinstance(n, (ir.Return, ir.Yield)) and n.value is not None]
        return [Place(e, fn.module, fn) for e in found]

    def field(self, cls: ClassInfo, name: str) -> list[Place]:
        """What a field of a class's instances may hold."""
        if self._fields is None:
            self._fields = self._index_fields()
        order = self.analysis.mro_cache.get(cls) or [cls]
        return [p for owner in order for p in self._fields.get((owner, name), [])]

    def contents(self, cls: ClassInfo, name: str) -> list[tuple[object, Place]]:
        """What is put into a field that is a container: its key where it is a literal, and the value."""
        if self._contents is None:
            self._contents = {}
            for fn in self.analysis.project.functions:
                owner = _method_class(fn)
                for node in ir.walk_own(fn.node.body) if owner is not None else ():
                    for field, key, value in _puts(node):
                        if ir.last_name(field.value) == "self" and owner is not None:
                            self._contents.setdefault((owner, field.attr), []).append((key, Place(value, fn.module, fn)))
        order = self.analysis.mro_cache.get(cls) or [cls]
        return [p for owner in order for p in self._contents.get((owner, name), [])]

    def outer_writes(self, scope: Scope, name: str) -> list[Place]:
        """What functions that declare a name global or nonlocal bind it to."""
        if self._outer is None:
            self._outer = {}
            for fn in self.analysis.project.functions:
                for declared in fn.scope.outer:
                    owner = lookup_scope(fn.scope, declared)
                    bound = self._in(fn, fn.node.body).get(declared, [])
                    if owner is not None and bound:
                        self._outer.setdefault((owner, declared), []).extend(Place(e, fn.module, fn) for e in bound)
        return self._outer.get((scope, name), [])

    def outer_contents(self, scope: Scope, name: str) -> list[Place]:
        """What nested functions put into a container that a function around them owns."""
        if self._put is None:
            self._put = {}
            for fn in self.analysis.project.functions:
                for node in ir.walk_own(fn.node.body) if fn.enclosing is not None else ():
                    if isinstance(node, ir.Call) and isinstance(node.func, ir.Attribute) and node.func.attr in _APPENDING and node.args:
                        filled = node.func.value
                        owner = lookup_scope(fn.scope, filled.id) if isinstance(filled, ir.Name) else None
                        if owner is not None and owner is not fn.scope and isinstance(filled, ir.Name):
                            self._put.setdefault((owner, filled.id), []).append(Place(node.args[0].value, fn.module, fn))
        return self._put.get((scope, name), [])

    def _index_fields(self) -> dict[tuple[ClassInfo, str], list[Place]]:
        out: dict[tuple[ClassInfo, str], list[Place]] = {}
        for fn in self.analysis.project.functions:
            owner = _method_class(fn)
            if owner is None:
                continue
            for node in ir.walk_own(fn.node.body):
                if isinstance(node, (ir.Assign, ir.AugAssign)) and node.value is not None:
                    for target in node.targets if isinstance(node, ir.Assign) else [node.target]:
                        for item, value in pairs_of(target, node.value):
                            if isinstance(item, ir.Attribute) and ir.last_name(item.value) == "self":
                                out.setdefault((owner, item.attr), []).append(Place(value, fn.module, fn))
                elif isinstance(node, ir.Call) and ir.last_name(node.func) in ("setattr", "__setattr__"):
                    plain = [a.value for a in node.args]
                    text = plain[-2] if len(plain) > 1 else None
                    if isinstance(text, ir.Constant) and (ir.last_name(plain[0]) == "self" or plain[0] is text):
                        out.setdefault((owner, str(text.value)), []).append(Place(plain[-1], fn.module, fn))
        for module in self.analysis.project.modules.values():
            # `Limits.train = 8_000` beside the class.
            for node in module.tree.body:
                for target in node.targets if isinstance(node, ir.Assign) and node.value is not None else ():
                    owner = module.classes.get(ir.last_name(target.value)) if isinstance(target, ir.Attribute) else None
                    if owner is not None and isinstance(node, ir.Assign) and node.value is not None:
                        out.setdefault((owner, ir.last_name(target)), []).append(Place(node.value, module, None))
        for cls in self.analysis.project.classes:
            fields = []
            for statement in cls.node.body:
                if isinstance(statement, ir.Assign) and isinstance(statement.targets[0], ir.Name):
                    name = statement.targets[0].id
                    fields.append(name)
                    if statement.value is not None:
                        out.setdefault((cls, name), []).append(Place(statement.value, cls.module, None))
            for call, unit in self.constructions.get(cls, []):
                for name in fields:
                    passed = argument(call, fields, name)
                    if passed is not None:
                        out.setdefault((cls, name), []).append(Place(passed, unit.module, unit.fn))
        return out

    def _in(self, owner: object, body: list[ir.Stmt]) -> dict[str, list[ir.Expr]]:
        if owner not in self._definitions:
            index: dict[str, list[ir.Expr]] = {}
            for name, value in bindings(body):
                index.setdefault(name, []).append(value)
            self._definitions[owner] = index
        return self._definitions[owner]

    # -- one step back

    def sources(self, place: Place) -> list[Place]:
        """Where the value of a name, an attribute or a call of the packages' own code comes from."""
        expr = place.expr
        if isinstance(expr, ir.Name):
            return self.definitions(place, expr.id)
        if isinstance(expr, ir.Attribute):
            out: list[Place] = []
            for receiver in self.receivers(place):
                if isinstance(receiver, Mod):
                    out += self.module_name(receiver.module, expr.attr)
                elif isinstance(receiver, (Inst, Cls, SuperOf)):
                    out += self.field(receiver.cls, expr.attr)
                    getter = receiver.cls.module.functions.get(f"{receiver.cls.qualname}.{expr.attr}")
                    if getter is not None and "property" in getter.flags:
                        out += self.returns(getter)
            return out
        if isinstance(expr, ir.Call):
            return [r for c in self.callees(place) if isinstance(c, Func) and not c.weak for r in self.returns(c.fn)]
        return []

    def cold_path(self, roots: Iterable[FunctionInfo]) -> dict[FunctionInfo, tuple[Step, ...]]:
        """Every function that `roots` reach in any context, with the shortest path to it."""
        paths: dict[FunctionInfo, tuple[Step, ...]] = dict.fromkeys(roots, ())
        queue = deque(paths)
        followed: set[tuple[str, Key]] = set()
        while queue:
            fn = queue.popleft()
            for ref in self.analysis.cold[fn].refs:
                if ref.method or ref.group:
                    if (ref.method, ref.group) in followed:
                        continue
                    followed.add((ref.method, ref.group))
                for target in self.analysis.targets(ref):
                    if target not in paths and target in self.analysis.cold:
                        paths[target] = (*paths[fn], Step(fn.symbol, fn.module.relative, ref.node.line))
                        queue.append(target)
        return paths


def _puts(node: ir.Node) -> Iterator[tuple[ir.Attribute, object, ir.Expr]]:
    if isinstance(node, ir.Assign) and node.value is not None:
        for target in node.targets:
            if isinstance(target, ir.Subscript) and isinstance(target.value, ir.Attribute):
                yield target.value, getattr(target.index, "value", None) if isinstance(target.index, ir.Constant) else None, node.value
    elif isinstance(node, ir.Call) and isinstance(node.func, ir.Attribute) and isinstance(node.func.value, ir.Attribute):
        if node.func.attr in ("append", "add", "appendleft") and node.args:
            yield node.func.value, None, node.args[0].value


def _method_class(fn: FunctionInfo) -> ClassInfo | None:
    current: FunctionInfo | None = fn
    while current is not None and current.cls is None:
        current = current.enclosing
    return current.cls if current is not None else None


def argument(call: ir.Call, positional: list[str], name: str) -> ir.Expr | None:
    """What a call passes for the parameter `name`."""
    for arg in call.args:
        if arg.keyword == name:
            return arg.value
    plain = [a.value for a in call.args if a.keyword is None and not a.star]
    if name in positional and positional.index(name) < len(plain):
        return plain[positional.index(name)]
    return None


def bindings(body: list[ir.Stmt]) -> Iterator[tuple[str, ir.Expr]]:
    """Every name that the statements bind, with the expression that it is bound to."""
    for node in ir.walk_own(body):
        pairs: list[tuple[ir.Expr, ir.Expr]] = []
        if isinstance(node, ir.Assign) and node.value is not None:
            pairs = [p for t in node.targets for p in pairs_of(t, node.value)]
        elif isinstance(node, (ir.AugAssign, ir.NamedExpr)):
            pairs = [(node.target, node.value)]
        elif isinstance(node, (ir.For, ir.CompFor)):
            pairs = pairs_of(node.target, node.iter)
        elif isinstance(node, ir.WithItem) and node.target is not None:
            pairs = pairs_of(node.target, node.context)
        elif isinstance(node, ir.Call) and isinstance(node.func, ir.Attribute) and node.func.attr in _FILLING:
            pairs = [(node.func.value, a.value) for a in node.args]
        for target, value in pairs:
            while isinstance(target, ir.Subscript):
                target = target.value
            if isinstance(target, ir.Name):
                yield target.id, value


def pairs_of(target: ir.Expr, value: ir.Expr) -> list[tuple[ir.Expr, ir.Expr]]:
    """An assignment taken apart: each target with what it is bound to."""
    if not isinstance(target, ir.Sequence):
        return [(target, value)]
    if isinstance(value, ir.Sequence) and len(value.items) == len(target.items):
        return [p for t, v in zip(target.items, value.items, strict=True) for p in pairs_of(t, v)]
    return [p for i, t in enumerate(target.items) for p in pairs_of(t, ir.Subscript(
        value.line, value.column, value.end_line, value.end_column, value,
        ir.Constant(value.line, value.column, value.end_line, value.end_column, i),
    ))]  # fmt: skip
