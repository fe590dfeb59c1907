"""What configuration is in a package: its classes, modules of constants, literal dictionaries and namespaces, and parsers."""

from __future__ import annotations

import re
from functools import cached_property

from audits.static.analysis.engine import Unit
from audits.static.analysis.interp import Interp
from audits.static.analysis.values import OUTSIDE, Cls, Inst, Mod, UnknownValue, Values
from audits.static.context import Context
from audits.static.dataflow import usage
from audits.static.dataflow.flow import Place
from audits.static.dataflow.value_origins import Origins
from audits.static.source import ir
from audits.static.source.project import ClassInfo, ModuleInfo, Scope
from audits.static.subjects.config_schema import (
    Schema,
    constants_of,
    container_of,
    destinations,
    holds_container,
    is_key,
    levels_of,
    literal_entries,
    stored,
)

_NAMED = re.compile(r"(config|cfg|settings|hparams|hyperparameters)$", re.I)
_ROOT_NAMED = re.compile(r"config|cfg|settings|options|hparams|params|args", re.I)
_DECLARING_BASES = re.compile(r"(BaseModel|BaseSettings|NamedTuple|TypedDict|Struct|RootModel)$")
_DECLARING_DECORATORS = frozenset({"dataclass", "define", "frozen", "mutable", "attrs", "s", "attr"})
_PLAIN_BASES = re.compile(r"^(builtins\.(object|dict)|abc\.ABC|typing(_extensions)?\..*|pydantic(_settings)?\..*|msgspec\..*)$")


class Kinds:
    """The kinds of configuration of a project, found once."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self.analysis = context.analysis
        self.flow = context.flow
        self.roots = frozenset(context.settings.config_roots)
        self.of_class: dict[ClassInfo, Schema] = {}
        self.of_module: dict[ModuleInfo, Schema] = {}
        self._literals: dict[int, Schema] = {}
        self._parsers: dict[frozenset[ModuleInfo], Schema] = {}
        self.root_classes: set[ClassInfo] = set()
        self.bindings = usage.Bindings(self.flow)
        self.origins = Origins(self.flow)
        self.open = Schema("configuration", next(iter(self.analysis.modules)), closed=False, mapping=True, open=True)
        self._find_classes()

    @cached_property
    def empty(self) -> bool:
        """Whether nothing in the project is, or is called like, configuration."""
        named = any(key[0] in ("name", "attr") and key[2] in self.roots for key in self.analysis.cells)
        params = any(p.name in self.roots for fn in self.context.project.functions for p in fn.node.params)
        return not (self.of_class or self.of_module or named or params)

    # -- classes

    def _find_classes(self) -> None:
        found: list[ClassInfo] = []
        for fn in self.context.project.functions:
            for param in fn.node.params:
                if param.name in self.roots and param.annotation is not None:
                    self.root_classes |= self._annotated_classes(self.analysis.cold[fn], param.annotation, fn.scope.parent or fn.scope)
        annotated = bool(self.root_classes)
        for key, values in list(self.analysis.cells.items()):
            if key[0] in ("name", "attr") and key[2] in self.roots:
                self.root_classes |= {v.cls for v in values if isinstance(v, Inst) and not annotated}
                for value in values:
                    if isinstance(value, Mod) and constants_of(value.module):
                        self._module_schema(value.module)
        self.root_classes = {c for c in self.root_classes if self._may_declare(c, rooted=True)}
        found += self.root_classes
        found += [c for c in self.context.project.classes if _NAMED.search(c.node.name) and self._may_declare(c, rooted=False)]
        while found:
            cls = found.pop()
            if cls in self.of_class:
                continue
            self.of_class[cls] = self._class_schema(cls)
            for name in self.of_class[cls].keys:
                found += [c for c in self._held_classes(cls, name) if self._may_declare(c, rooted=True)]
            found += [c for c in self.analysis.below(cls) if c not in self.of_class]
        for cls, schema in self.of_class.items():
            for name in schema.keys:
                held = {self.of_class[c] for c in self._held_classes(cls, name) if c in self.of_class}
                if held:
                    levels = schema.several.get(name, 0)
                    schema.nested[name] = {container_of(schema, name, held, levels)} if levels else held

    def _held_classes(self, cls: ClassInfo, name: str) -> list[ClassInfo]:
        # By annotation and by what a default makes; what flows into a field elsewhere says less than its declaration.
        out: set[ClassInfo] = set()
        for owner in self.order(cls):
            unit = self.analysis.modules[owner.module]
            for statement in owner.node.body:
                if isinstance(statement, ir.Assign) and ir.last_name(statement.targets[0]) == name:
                    if statement.annotation is not None:
                        out |= self._annotated_classes(unit, statement.annotation, owner.scope)
                    if statement.value is not None:
                        out |= self._made(unit, statement.value)
            for fn in (f for f in owner.module.functions.values() if f.cls is owner and f.node.name == "__init__"):
                for node in ir.walk_own(fn.node.body):
                    if isinstance(node, ir.Assign) and any(isinstance(t, ir.Attribute) and t.attr == name for t in node.targets):
                        out |= self._made(self.analysis.cold[fn], node.value) if node.value is not None else set()
        return sorted(out, key=lambda c: c.symbol)

    def _annotated_classes(self, unit: Unit, annotation: ir.Expr, scope: Scope) -> set[ClassInfo]:
        interp = Interp(self.analysis, Unit(unit.module, unit.fn, hot=False, settled=True))
        return {v.cls for v in interp.annotation(annotation, scope) if isinstance(v, Inst)}

    def _made(self, unit: Unit, expr: ir.Expr) -> set[ClassInfo]:
        # The classes whose constructor an expression calls or names as factory.
        out: set[ClassInfo] = set()
        for node in ir.walk(expr):
            if isinstance(node, (ir.Name, ir.Attribute)):
                out |= {v.cls for v in self.values(unit, node) if isinstance(v, Cls)}
        return out

    def order(self, cls: ClassInfo) -> list[ClassInfo]:
        """The class and what it inherits from, within the packages."""
        return self.analysis.mro_cache.get(cls) or self.analysis.mro(self.analysis.modules[cls.module], cls)

    def _outside(self, cls: ClassInfo) -> set[str]:
        return self.analysis.outside_bases(self.analysis.modules[cls.module], cls)

    def _declares(self, cls: ClassInfo) -> bool:
        bases = {b.rsplit(".", 1)[-1] for b in self._outside(cls)}
        if any(_DECLARING_BASES.search(b) for b in bases):
            return True
        return any(
            ir.last_name(d.func if isinstance(d, ir.Call) else d) in _DECLARING_DECORATORS
            for o in self.order(cls)
            for d in o.node.decorators
        )

    def _may_declare(self, cls: ClassInfo, *, rooted: bool) -> bool:
        if any(b.startswith("enum.") for b in self._outside(cls)):
            return False
        if self._declares(cls):
            return True
        fields = any(isinstance(s, ir.Assign) for s in cls.node.body)
        return bool(rooted and _ROOT_NAMED.search(cls.node.name)) or (fields and bool(_NAMED.search(cls.node.name)))

    def _class_schema(self, cls: ClassInfo) -> Schema:
        outside = self._outside(cls)
        mapping = any(b.endswith("TypedDict") for b in outside)
        schema = Schema(cls.node.name, cls.module, cls, mapping=mapping, is_tuple=any(b.endswith("NamedTuple") for b in outside))
        schema.closed = all(_PLAIN_BASES.match(b) for b in outside)
        declaring = self._declares(cls)
        for owner in reversed(self.order(cls)):
            schema.members |= owner.scope.names
            for statement in owner.node.body:
                if isinstance(statement, ir.Assign) and isinstance(statement.targets[0], ir.Name):
                    name = statement.targets[0].id
                    if (statement.annotation is not None or not declaring) and is_key(name, statement):
                        schema.keys[name] = statement.targets[0]
                        if holds_container(statement):
                            schema.container_keys.add(name)
                        levels = levels_of(statement.annotation) or int(name in schema.container_keys)
                        if levels:
                            schema.several[name] = levels
            self._assigned_on_self(owner, schema, declare=not declaring)
        if any(n in schema.members for n in ("__getattr__", "__getattribute__")):
            schema.closed = False
        return schema

    def _assigned_on_self(self, owner: ClassInfo, schema: Schema, *, declare: bool) -> None:
        for name, fn in owner.module.functions.items():
            if fn.cls is not owner or name.count(".") != owner.qualname.count(".") + 1 or not fn.node.params:
                continue
            first = fn.node.params[0].name
            for node in ir.walk_own(fn.node.body):
                for target in stored(node):
                    if isinstance(target, ir.Attribute) and isinstance(target.value, ir.Name) and target.value.id == first:
                        schema.members.add(target.attr)
                        if declare and fn.node.name == "__init__" and not target.attr.startswith("_"):
                            schema.keys.setdefault(target.attr, target)

    # -- modules, literals and parsers

    def _module_schema(self, module: ModuleInfo) -> Schema:
        if module not in self.of_module:
            schema = Schema(module.name, module, keys=constants_of(module), members=set(module.scope.names))
            schema.closed = not module.scope.stars and "__getattr__" not in module.scope.names
            schema.members |= {n.rsplit(".", 1)[-1] for n in self.context.project.modules if n.startswith(module.name + ".")}
            self.of_module[module] = schema
        return self.of_module[module]

    def literal(self, place: Place) -> Schema | None:
        """The schema of a dictionary or namespace that is written down, such as `{...}`, `dict(a=1)` or `SimpleNamespace(a=1)`."""
        expr = place.expr
        if id(expr) not in self._literals:
            entries = literal_entries(expr)
            if entries is None:
                return None
            named = isinstance(expr, ir.Call) and ir.last_name(expr.func) in ("SimpleNamespace", "Namespace")
            known = {name: (node, value) for name, node, value in entries if name is not None}
            schema = Schema("the namespace" if named else "the dictionary", place.module, mapping=not named)
            schema.keys = {name: node for name, (node, _) in known.items()}
            schema.closed = bool(known) and len(known) == len(entries)
            self._literals[id(expr)] = schema
            for name, (_, value) in known.items():
                inner = self._written_down(place.at(value))
                if inner:
                    schema.nested[name] = inner
        return self._literals[id(expr)]

    def _written_down(self, start: Place) -> set[Schema]:
        inner = self.literal(start)
        return set() if inner is None else {inner}

    def _parser_schema(self, call: Place) -> Schema:
        """What `parser.parse_args()` returns: the arguments of the parser's own module, and those that helpers add to a parser."""
        modules = {call.module}
        if isinstance(call.expr, ir.Call) and isinstance(call.expr.func, ir.Attribute):
            modules |= {p.module for p in self.origins.of(call.at(call.expr.func.value))}
        key = frozenset(modules)
        if key not in self._parsers:
            self._parsers[key] = schema = Schema("the parsed arguments", call.module)
            calls = [n for m in modules for n in ir.walk(m.tree) if isinstance(n, ir.Call)]
            calls += [n for m, n in self._added_by_helpers if m not in modules]
            for node in calls:
                names = destinations(node)
                for name in names:
                    schema.keys.setdefault(name, node)
                schema.closed = schema.closed and (bool(names) or ir.last_name(node.func) != "add_argument")
            schema.closed = schema.closed and bool(schema.keys)
        return self._parsers[key]

    @cached_property
    def option_names(self) -> frozenset[str]:
        """What the options of command lines are called: `args.config` is the path of a file."""
        calls = [c for u in usage.cold_units(self.analysis) for c in u.calls if ir.last_name(c.func) == "add_argument"]
        return frozenset(name for c in calls for name in destinations(c))

    @cached_property
    def _added_by_helpers(self) -> list[tuple[ModuleInfo, ir.Call]]:
        # `def add_options(parser): parser.add_argument(...)` may serve any parser.
        out = []
        for fn in self.context.project.functions:
            params = {p.name for p in fn.node.params}
            for node in ir.walk_own(fn.node.body):
                if isinstance(node, ir.Call) and ir.last_name(node.func) in ("add_argument", "set_defaults"):
                    owner = node.func.value if isinstance(node.func, ir.Attribute) else None
                    if isinstance(owner, ir.Name) and owner.id in params:
                        out.append((fn.module, node))
        return out

    def values(self, unit: Unit, expr: ir.Expr) -> Values:
        """What a name, an attribute or a call may stand for, from the finished analysis."""
        if isinstance(expr, ir.Name):
            return usage.name_values(self.analysis, unit, expr.id)
        if isinstance(expr, ir.Attribute):
            out: set[object] = set()
            for receiver in unit.receivers.get(expr, frozenset()):
                if isinstance(receiver, (Inst, Cls)):
                    for owner in self.order(receiver.cls):
                        getter = owner.module.functions.get(f"{owner.qualname}.{expr.attr}")
                        if getter is not None and isinstance(receiver, Inst) and "property" in getter.flags:
                            out |= self.analysis.peek(("ret", getter, False))
                            break
                        out |= self.analysis.peek(("attr", owner, expr.attr)) | self.analysis.peek(("name", owner.scope, expr.attr, False))
                elif isinstance(receiver, Mod):
                    out |= self.analysis.peek(("name", receiver.module.scope, expr.attr, False))
                else:
                    out.add(receiver if isinstance(receiver, UnknownValue) else OUTSIDE)
            return frozenset(out)  # type: ignore[arg-type]
        if isinstance(expr, ir.Call):
            found: set[object] = set()
            for callee in unit.calls.get(expr, frozenset()):
                if isinstance(callee, Cls):
                    found.add(Inst(callee.cls, exact=True))
                elif getattr(callee, "fn", None) is not None and not getattr(callee, "weak", False):
                    found |= self.analysis.peek(("ret", callee.fn, False))  # type: ignore[union-attr]
                elif getattr(callee, "name", "") in ("copy.deepcopy", "copy.copy", "dataclasses.replace", "attrs.evolve") and expr.args:
                    found |= self.values(unit, expr.args[0].value)
            return frozenset(found)  # type: ignore[arg-type]
        if isinstance(expr, ir.Subscript):
            # A container stands for its elements, unless it is itself the configuration.
            own = {c for c, s in self.of_class.items() if s.mapping or s.is_tuple}
            return frozenset(v for v in self.values(unit, expr.value) if not (isinstance(v, Inst) and v.cls in own))
        return frozenset()
