"""Data flow read backwards: where a value comes from, through variables, arguments, fields and returns."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from audits.static.analysis import lookup
from audits.static.analysis.engine import Analysis, Key, Unit
from audits.static.analysis.interp import Interp, _Silent
from audits.static.analysis.values import Cls, Func, Inst, Mod, SuperOf, Values
from audits.static.findings import Step
from audits.static.source import ir
from audits.static.source.project import ClassInfo, FunctionInfo, ModuleInfo, Scope, lookup_scope

_FILLING = frozenset({"append", "extend", "add", "insert", "update", "setdefault"})

# What runs its argument on the arguments that follow: on elements of them, or on themselves.
ON_ELEMENTS = frozenset({"map", "imap", "starmap", "filter", "reduce"})
RUNNING = ON_ELEMENTS | {"submit", "checkpoint", "run_in_executor", "to_thread", "apply_async"}

_INVOKING = frozenset({"__call__", "__wrapped__", "func", "apply", "forward", "run", "call", "submit", "remote", "delay", "invoke"})


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
        self._handed: dict[FunctionInfo, list[tuple[ir.Call, Unit, int, bool]]] | None = None
        self._replacements: dict[FunctionInfo, frozenset[FunctionInfo]] = {}
        self._outer_puts: dict[tuple[Scope, str], list[tuple[object, Place, bool]]] | None = None
        self._stores: dict[str, list[tuple[ir.Expr, Place]]] | None = None
        self._instance_calls: dict[Inst, list[tuple[ir.Call, Unit]]] = {}
        self._called_on: dict[FunctionInfo, list[tuple[ir.Call, Unit, bool]]] | None = None
        for unit in [*analysis.modules.values(), *analysis.cold.values()]:
            for call in unit.calls:
                for callee in self._called(unit, call):
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

    def handed(self, fn: FunctionInfo) -> list[tuple[ir.Call, Unit, int, bool]]:
        """The calls that hand `fn` to something that runs it on their other arguments: the argument's position, and whether it is bound."""
        if self._handed is None:
            self._handed = {}
            for unit in [*self.analysis.modules.values(), *self.analysis.cold.values()]:
                interp = _Silent(self.analysis, Unit(unit.module, unit.fn, hot=False, settled=True))
                scope = unit.fn.scope if unit.fn is not None else unit.module.scope
                for call in [c for c in unit.calls if ir.last_name(c.func) in RUNNING]:
                    for i, arg in enumerate(call.args):
                        known = isinstance(arg.value, (ir.Name, ir.Attribute, ir.Lambda)) and arg.keyword is None
                        for value in interp.eval(arg.value, scope) if known else ():
                            if isinstance(value, Func):
                                self._handed.setdefault(value.fn, []).append((call, unit, i, value.bound))
        return self._handed.get(fn, [])

    def unit(self, place: Place) -> Unit:
        """The analysed unit around a place."""
        return self.analysis.cold[place.fn] if place.fn is not None else self.analysis.modules[place.module]

    def callees(self, place: Place) -> Values:
        """What a call may call."""
        return self._called(self.unit(place), place.expr) if isinstance(place.expr, ir.Call) else frozenset()

    def _called(self, unit: Unit, call: ir.Call) -> Values:
        callees = unit.calls.get(call, frozenset())
        if isinstance(call.func, ir.Attribute) and call.func.attr not in _INVOKING:
            # A name that holds functions stands for them, but `table.pop(key)` runs none of them.
            reads = call.func.attr in lookup.CONTAINER_READS
            held = {r for r in unit.receivers.get(call.func, ()) if isinstance(r, (Func, Inst) if reads else Func)}
            callees = callees - held if held else callees
        if len(callees) < 2:
            return callees
        for callee in [c for c in callees if isinstance(c, Func) and c.fn.node.decorators]:
            inner = {c for c in callees if isinstance(c, Func) and c.fn in self.replacements(callee.fn)}
            if inner and not any(_passes_on(c.fn, callee.fn) for c in inner if isinstance(c, Func)):
                callees = callees - inner - {callee} | {Func(c.fn, bound=callee.bound) for c in inner}
        return callees

    def replacements(self, fn: FunctionInfo) -> frozenset[FunctionInfo]:
        """The functions that decorators of the packages put in the place of `fn`; none where it stays what its name means."""
        if fn not in self._replacements:
            interp = _Silent(self.analysis, Unit(fn.module, None, hot=False, settled=True))
            current: set[FunctionInfo] = {fn}
            for decorator in reversed(fn.node.decorators):
                applied = interp.eval(decorator, fn.scope.parent or fn.scope)
                made = {v for d in applied if isinstance(d, Func) for v in self.analysis.peek(("ret", d.fn, False))}
                if made and all(isinstance(d, Func) for d in applied) and all(isinstance(v, Func) for v in made):
                    current = {v.fn for v in made if isinstance(v, Func)}
            self._replacements[fn] = frozenset(current) if fn not in current else frozenset()
        return self._replacements[fn]

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
            if place.fn is not None:  # a variable of a comprehension may have the name as well
                out += [place.at(e) for e in self._in(place.fn, place.fn.node.body).get(name, [])]
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
            for unit in [*self.analysis.modules.values(), *self.analysis.cold.values()]:
                owner = _method_class(unit.fn) if unit.fn is not None else None
                for node in ir.walk_own(unit.fn.node.body if unit.fn is not None else unit.module.tree.body):
                    for field, key, value, spread in _puts(node):
                        if not isinstance(field, ir.Attribute) or spread:
                            continue
                        owners = {r.cls for r in unit.receivers.get(field, ()) if isinstance(r, Cls)}
                        owners |= {owner} if owner is not None and ir.last_name(field.value) == "self" else set()
                        for holder in owners:
                            self._contents.setdefault((holder, field.attr), []).append((key, Place(value, unit.module, unit.fn)))
        order = self.analysis.mro_cache.get(cls) or [cls]
        return [p for owner in order for p in self._contents.get((owner, name), [])]

    def stores(self, name: str) -> list[tuple[ir.Expr, Place]]:
        """Every assignment to an attribute of this name: the object whose attribute it is, and the value."""
        if self._stores is None:
            self._stores = {}
            for unit in [*self.analysis.modules.values(), *self.analysis.cold.values()]:
                for node in ir.walk_own(unit.fn.node.body if unit.fn is not None else unit.module.tree.body):
                    if isinstance(node, ir.Assign) and node.value is not None:
                        for item, value in [p for t in node.targets for p in pairs_of(t, node.value)]:
                            if isinstance(item, ir.Attribute):
                                self._stores.setdefault(item.attr, []).append((item.value, Place(value, unit.module, unit.fn)))
        return self._stores.get(name, [])

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

    def outer_puts(self, scope: Scope, name: str) -> list[tuple[object, Place, bool]]:
        """What functions put into a container that they find in the scope around them, or that their module imports."""
        if self._outer_puts is None:
            self._outer_puts = {}
            for unit in [*self.analysis.modules.values(), *self.analysis.cold.values()]:
                for node in ir.walk_own(unit.fn.node.body if unit.fn is not None else unit.module.tree.body):
                    for base, key, value, spread in _puts(node):
                        for found in self._containers(unit, base):
                            self._outer_puts.setdefault(found, []).append((key, Place(value, unit.module, unit.fn), spread))
        return self._outer_puts.get(self.home(scope, name), [])

    def _containers(self, unit: Unit, base: ir.Expr) -> list[tuple[Scope, str]]:
        if isinstance(base, ir.Name):
            scope = unit.fn.scope if unit.fn is not None else unit.module.scope
            found = lookup_scope(scope, base.id)
            return [self.home(found, base.id)] if found is not None and (found is not scope or found.kind == "module") else []
        receivers = unit.receivers.get(base, ()) if isinstance(base, ir.Attribute) else ()
        return [self.home(r.module.scope, ir.last_name(base)) for r in receivers if isinstance(r, Mod)]

    def home(self, scope: Scope, name: str) -> tuple[Scope, str]:
        """The scope that binds a name first: that of the module that it is imported from."""
        for _ in range(8):
            if scope.kind != "module":
                break
            source = next(((o, m) for o, bound, m in self._imports(scope.module) if bound == name), None)
            if source is None:
                break
            name, scope = source[0], source[1].scope
        return scope, name

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
                            if isinstance(item, ir.Attribute) and ir.last_name(item.value) in ("self", "cls", owner.node.name):
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


def _puts(node: ir.Node) -> Iterator[tuple[ir.Expr, object, ir.Expr, bool]]:
    """What a node puts into a container: the container, the key where it is a literal, the value, and whether that holds the values."""
    if isinstance(node, ir.Assign) and node.value is not None:
        for target in node.targets:
            if isinstance(target, ir.Subscript):
                yield target.value, target.index.value if isinstance(target.index, ir.Constant) else None, node.value, False
    elif isinstance(node, ir.Call) and isinstance(node.func, ir.Attribute):
        plain = [a.value for a in node.args if a.keyword is None and not a.star]
        owner, name = node.func.value, node.func.attr
        if name in ("append", "add", "appendleft", "put") and plain:
            yield owner, None, plain[0], False
        elif name == "insert" and len(plain) == 2:
            yield owner, None, plain[1], False
        elif name in ("setdefault", "__setitem__") and len(plain) == 2:
            yield owner, plain[0].value if isinstance(plain[0], ir.Constant) else None, plain[1], False
        elif name == "extend" and plain:
            yield owner, None, plain[0], True
        elif name == "update":
            yield from ((owner, a.keyword, a.value, a.keyword is None) for a in node.args if not a.star)


def _passes_on(inner: FunctionInfo, fn: FunctionInfo) -> bool:
    # `def inner(*args, **kwargs)`: what it is called with is meant for `fn`.
    named = [p for p in inner.node.params if p.kind not in ("*", "**")]
    return len(named) < len(inner.node.params) and len(named) <= (fn.cls is not None)


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
            pairs = loop_pairs(node.target, node.iter) or pairs_of(node.target, node.iter)
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


def loop_pairs(target: ir.Expr, iterated: ir.Expr) -> list[tuple[ir.Expr, ir.Expr]]:
    """What a loop that takes apart the rows of a display binds; nothing where it does not."""
    if not isinstance(target, ir.Sequence) or not isinstance(iterated, ir.Sequence):
        return []
    return [p for row in iterated.items for p in pairs_of(target, row.value if isinstance(row, ir.Starred) else row)]
