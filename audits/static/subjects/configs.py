"""What configuration is in a package: its classes, dictionaries, modules and parsers, and the expressions that hold one."""

from __future__ import annotations

import re
from functools import cached_property

from audits.static.analysis.engine import Unit
from audits.static.analysis.interp import Interp
from audits.static.analysis.values import NOTHING, OUTSIDE, Cls, Inst, Mod, UnknownValue, Values
from audits.static.context import Context
from audits.static.dataflow import usage
from audits.static.dataflow.flow import Place
from audits.static.dataflow.value_origins import Origins
from audits.static.source import ir
from audits.static.source.project import ClassInfo, FunctionInfo, ModuleInfo, Scope, lookup_scope
from audits.static.subjects.config_schema import (
    BUILDING,
    Schema,
    constants_of,
    destinations,
    holds_container,
    is_key,
    is_validator,
    says_nothing,
    stored,
)

_NAMED = re.compile(r"(config|cfg|settings|hparams|hyperparameters)$", re.I)
_ROOT_NAMED = re.compile(r"config|cfg|settings|options|hparams|params|args", re.I)
_DECLARING_BASES = re.compile(r"(BaseModel|BaseSettings|NamedTuple|TypedDict|Struct|RootModel)$")
_DECLARING_DECORATORS = frozenset({"dataclass", "define", "frozen", "mutable", "attrs", "s", "attr"})
_PLAIN_BASES = re.compile(r"^(builtins\.(object|dict)|abc\.ABC|typing(_extensions)?\..*|pydantic(_settings)?\..*|msgspec\..*)$")
_DUMPS = frozenset({"asdict", "model_dump", "dict", "_asdict", "to_dict", "vars", "astuple", "to_container", "todict", "as_dict"})
_COPIES = frozenset({"model_copy", "copy", "deepcopy", "replace", "_replace", "evolve", "model_construct"})


class Configs:
    """The configuration of a project."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self.analysis = context.analysis
        self.flow = context.flow
        self.roots = frozenset(context.settings.config_roots)
        self.of_class: dict[ClassInfo, Schema] = {}
        self.of_module: dict[ModuleInfo, Schema] = {}
        self._dicts: dict[int, Schema] = {}
        self._parsers: dict[ModuleInfo, Schema] = {}
        self.root_classes: set[ClassInfo] = set()
        self.bindings = usage.Bindings(self.flow)
        self.origins = Origins(self.flow)
        self._declared: dict[tuple[int, FunctionInfo | None], set[Schema] | None] = {}
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
                    schema.nested[name] = held

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

    # -- modules, dictionaries and parsers

    def _module_schema(self, module: ModuleInfo) -> Schema:
        if module not in self.of_module:
            schema = Schema(module.name, module, keys=constants_of(module), members=set(module.scope.names))
            schema.closed = not module.scope.stars and "__getattr__" not in module.scope.names
            schema.members |= {n.rsplit(".", 1)[-1] for n in self.context.project.modules if n.startswith(module.name + ".")}
            self.of_module[module] = schema
        return self.of_module[module]

    def _dict_schema(self, place: Place, expr: ir.Dict) -> Schema | None:
        if id(expr) not in self._dicts:
            keys = [k for k in expr.keys if isinstance(k, ir.Constant) and isinstance(k.value, str)]
            schema = Schema("the dictionary", place.module, mapping=True, keys={str(k.value): k for k in keys})
            schema.closed = len(keys) == len(expr.keys) and bool(keys)
            self._dicts[id(expr)] = schema
            for key, value in zip(expr.keys, expr.values, strict=True):
                if isinstance(key, ir.Constant) and isinstance(value, ir.Dict):
                    inner = self._dict_schema(place, value)
                    if inner is not None:
                        schema.nested[str(key.value)] = {inner}
        return self._dicts[id(expr)]

    def _parser_schema(self, module: ModuleInfo) -> Schema:
        if module not in self._parsers:
            schema = Schema("the parsed arguments", module)
            for node in ir.walk(module.tree):
                if isinstance(node, ir.Call) and ir.last_name(node.func) in ("add_argument", "set_defaults"):
                    for name in destinations(node):
                        schema.keys.setdefault(name, node)
            schema.closed = bool(schema.keys) and not any(
                ir.last_name(n.func) == "add_subparsers" for n in ir.walk(module.tree) if isinstance(n, ir.Call)
            )
            self._parsers[module] = schema
        return self._parsers[module]

    @cached_property
    def dictionaries(self) -> list[Schema]:
        """The schemas of the dictionaries and parsers that root names are bound to."""
        for unit in usage.cold_units(self.analysis):
            for node in usage.own_nodes(unit):
                if isinstance(node, ir.Name) and node.id in self.roots:
                    self.schemas(unit, node)
        return [*self._dicts.values(), *self._parsers.values()]

    # -- expressions

    def schemas(self, unit: Unit, expr: ir.Expr, values: Values | None = None) -> set[Schema]:
        """The configuration that an expression may hold; empty where it holds something else."""
        declared = self.declared(unit, expr)
        if declared is not None:
            return declared
        if values is None:
            values = self.values(unit, expr)
        found = {self.of_class[v.cls] for v in values if isinstance(v, Inst) and v.cls in self.of_class}
        found |= {self.of_module[v.module] for v in values if isinstance(v, Mod) and v.module in self.of_module}
        if found or any(isinstance(v, (Inst, Mod)) for v in values):
            return found
        if isinstance(expr, ir.Name) and expr.id in self.roots:
            return self._root(unit, expr, values)
        if isinstance(expr, ir.Attribute) and expr.attr in self.roots and all(says_nothing(v) for v in values):
            return {self.of_class[c] for c in self.root_classes}
        return set()

    def certain(self, unit: Unit, expr: ir.Expr) -> set[Schema]:
        """The configuration that an expression holds; empty where it may as well hold something else."""
        declared = self.declared(unit, expr)
        if declared is not None:
            return declared
        values = self.values(unit, expr)
        others = [v for v in values if isinstance(v, UnknownValue) or (isinstance(v, Inst) and v.cls not in self.of_class)]
        known = [v for v in values if v not in others and v != NOTHING]
        if known and others and not self.rooted(expr):
            return set()
        return self.schemas(unit, expr) if not any(isinstance(v, Inst) for v in others) else set()

    def declared(self, unit: Unit, expr: ir.Expr, depth: int = 8) -> set[Schema] | None:
        """The configuration that an expression holds by its declaration; None where no declaration says."""
        key = (id(expr), unit.fn)
        if key not in self._declared:
            self._declared[key] = None
            self._declared[key] = self._declaration(unit, expr, depth) if depth else None
        return self._declared[key]

    def _declaration(self, unit: Unit, expr: ir.Expr, depth: int) -> set[Schema] | None:
        if isinstance(expr, ir.Name):
            return self._declared_name(unit, expr, depth)
        if isinstance(expr, ir.NamedExpr):
            return self.declared(unit, expr.value, depth - 1)
        if isinstance(expr, ir.Attribute):
            base = self.family(self.schemas(unit, expr.value))
            if any(expr.attr in s.keys for s in base):
                return {n for s in base for n in s.nested.get(expr.attr, ())}
            out: set[Schema] = set()
            for receiver in unit.receivers.get(expr, frozenset()):
                if isinstance(receiver, Inst) and receiver.cls not in self.of_class:
                    for place in self.flow.field(receiver.cls, expr.attr):
                        out |= self.declared(self.flow.unit(place), place.expr, depth - 1) or set()
            return out or None
        if isinstance(expr, ir.Subscript) and isinstance(expr.index, ir.Constant):
            bases = [b for b in self.schemas(unit, expr.value) if b.mapping]
            return {s for b in bases for s in b.nested.get(str(expr.index.value), ())} if bases else None
        if isinstance(expr, ir.Call) and ir.last_name(expr.func) in _COPIES:
            sources = [expr.func.value] if isinstance(expr.func, ir.Attribute) else []
            sources += [a.value for a in expr.args[:1]]
            return next((s for source in sources if (s := self.schemas(unit, source))), None)
        if isinstance(expr, ir.Call):
            made = {c.cls for c in unit.calls.get(expr, frozenset()) if isinstance(c, Cls)}
            if made:
                return {self.of_class[c] for c in made} if all(c in self.of_class for c in made) else None
            return self._by_origin(unit, expr, depth)
        return None

    def _by_origin(self, unit: Unit, expr: ir.Expr, depth: int) -> set[Schema] | None:
        found = [p for p in self.origins.of(usage.place(unit, expr)) if p.expr is not expr]
        each = [self.declared(self.flow.unit(p), p.expr, depth - 4) if depth > 4 else None for p in found]
        known = [e for e in each if e]
        return {s for e in known for s in e} if known and len(known) == len(found) else None

    def _declared_name(self, unit: Unit, expr: ir.Name, depth: int) -> set[Schema] | None:
        scope = lookup_scope(usage.scope_of(unit), expr.id)
        fn = scope.function if scope is not None and scope.kind == "function" else None
        for param in fn.node.params if fn is not None else ():
            if param.name == expr.id and param.annotation is not None and fn is not None:
                classes = self._annotated_classes(self.flow.unit(Place(expr, fn.module, fn)), param.annotation, fn.scope.parent or fn.scope)
                return {self.of_class[c] for c in classes if c in self.of_class} if classes else None
        if expr.id in self.roots and (root := self._root(unit, expr, frozenset((OUTSIDE,)))):
            return root
        found = self.bindings.of(usage.place(unit, expr), expr.id)
        own = [p for p, element in found if not element]
        if not own or len(own) != len(found) or any(p.fn is not fn for p in own):
            return None
        each = [self.declared(self.flow.unit(p), p.expr, depth - 1) for p in own]
        return {s for e in each for s in e or ()} if all(e is not None for e in each) else None

    def _root(self, unit: Unit, expr: ir.Name, values: Values) -> set[Schema]:
        out: set[Schema] = set()
        unknown = False
        for place, _ in self.bindings.of(usage.place(unit, expr), expr.id):
            if isinstance(place.expr, ir.Dict):
                schema = self._dict_schema(place, place.expr)
                out |= {schema} if schema is not None else set()
            elif isinstance(place.expr, ir.Call) and ir.last_name(place.expr.func) in ("parse_args", "parse_known_args"):
                out.add(self._parser_schema(place.module))
            else:
                unknown = True
        if not out and not unknown and all(says_nothing(v) for v in values):
            return {self.of_class[c] for c in self.root_classes} or {s for s in self.of_class.values() if s.cls is not None and s.nested}
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

    def rooted(self, expr: ir.Expr) -> bool:
        """Whether a chain of attributes and items starts at a root name."""
        while isinstance(expr, (ir.Attribute, ir.Subscript)):
            if isinstance(expr, ir.Attribute) and expr.attr in self.roots:
                return True
            expr = expr.value
        return isinstance(expr, ir.Name) and expr.id in self.roots

    def dumped(self, unit: Unit, expr: ir.Expr, depth: int = 4) -> set[Schema]:
        """The configuration whose dictionary form an expression is: `vars(c)`, `c.__dict__`, `asdict(c)`, `c.model_dump()`."""
        if isinstance(expr, ir.Attribute) and expr.attr == "__dict__":
            return self.schemas(unit, expr.value)
        if isinstance(expr, ir.Call):
            name = ir.last_name(expr.func)
            if name in _DUMPS or name == "copy":
                source = expr.args[0].value if expr.args else expr.func.value if isinstance(expr.func, ir.Attribute) else None
                if source is not None:
                    return self.schemas(unit, source) or (self.dumped(unit, source, depth - 1) if depth else set())
        if isinstance(expr, ir.Name) and depth:
            out: set[Schema] = set()
            for place, element in self.bindings.of(usage.place(unit, expr), expr.id)[:6]:
                if not element and not (isinstance(place.expr, ir.Name) and place.expr.id == expr.id and place.fn is unit.fn):
                    out |= self.dumped(self.flow.unit(place), place.expr, depth - 1)
            return out
        return set()

    def family(self, schemas: set[Schema]) -> set[Schema]:
        """The schemas with those of their subclasses, which an instance may be of."""
        out = set(schemas)
        for schema in schemas:
            if schema.cls is not None:
                out |= {self.of_class[c] for c in self.analysis.below(schema.cls) if c in self.of_class}
        return out

    def builds(self, fn: FunctionInfo | None) -> bool:
        """Whether the function is part of making a configuration: a constructor or a validator of its class."""
        if fn is None or fn.cls is None or fn.cls not in self.of_class:
            return False
        return fn.node.name in BUILDING or is_validator(fn)


def configs_of(context: Context) -> Configs:
    """The configuration of the project, found once for all rules."""
    if "configs" not in context.shared:
        context.shared["configs"] = Configs(context)
    found: Configs = context.shared["configs"]
    return found
