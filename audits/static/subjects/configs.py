"""The expressions that hold configuration, under whatever name and in whatever container."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cached_property

from audits.static.analysis.engine import Unit
from audits.static.analysis.values import NOTHING, Cls, Ext, ExtInst, Func, Inst, Mod, UnknownValue, Values
from audits.static.context import Context
from audits.static.dataflow import usage
from audits.static.dataflow.flow import Place
from audits.static.source import ir
from audits.static.source.project import FunctionInfo, lookup_scope
from audits.static.subjects.config_kinds import Kinds
from audits.static.subjects.config_schema import (
    BUILDING,
    Schema,
    container_of,
    is_validator,
    levels_of,
    literal_entries,
    says_nothing,
    stored,
)
from audits.static.subjects.config_tables import Tables

_DUMPS = frozenset({"asdict", "model_dump", "dict", "_asdict", "to_dict", "vars", "astuple", "to_container", "todict", "as_dict"})
_COPIES = frozenset({"model_copy", "copy", "deepcopy", "replace", "_replace", "evolve", "model_construct"})
_SAME_ELEMENTS = frozenset({"list", "tuple", "sorted", "reversed", "iter", "set", "frozenset", "deque"})
_ENTRIES = frozenset({"get", "pop", "popleft", "setdefault"})
_LOADS = re.compile(r"load|read|open|parse")
PARSED = frozenset({"parse_args", "parse_known_args", "parse_intermixed_args"})


class Configs(Kinds):
    """The configuration of a project, by expression."""

    def __init__(self, context: Context) -> None:
        self._declared: dict[tuple[int, FunctionInfo | None], set[Schema] | None] = {}
        self._written: dict[tuple[int, FunctionInfo | None], set[Schema]] = {}
        super().__init__(context)
        self.tables = Tables(self.flow)

    @cached_property
    def empty(self) -> bool:
        """Whether nothing in the project is, or is called like, configuration."""
        named = any(key[0] in ("name", "attr") and key[2] in self.roots for key in self.analysis.cells)
        params = any(p.name in self.roots for fn in self.context.project.functions for p in fn.node.params)
        return not (self.of_class or self.of_module or named or params)

    @cached_property
    def dictionaries(self) -> list[Schema]:
        """The schemas of the dictionaries, namespaces and parsers that root names are bound to."""
        for unit in usage.cold_units(self.analysis):
            for node in usage.own_nodes(unit):
                if isinstance(node, ir.Name) and node.id in self.roots:
                    self.schemas(unit, node)
        return [*self._literals.values(), *self._parsers.values()]

    # -- what an expression holds

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
        if isinstance(expr, ir.Attribute) and expr.attr in self.roots - self.option_names and all(says_nothing(v) for v in values):
            return {self.of_class[c] for c in self.root_classes} or {self.open}
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

    def sections(self, unit: Unit, expr: ir.Expr) -> set[Schema]:
        """The configuration that an expression holds, or that one of several ways to it brings; no containers of it."""
        return self._possible(unit, expr, 4)

    def _possible(self, unit: Unit, expr: ir.Expr, depth: int) -> set[Schema]:
        found = {s for s in self.certain(unit, expr) if s.elements is None}
        if found or not depth or self.declared(unit, expr) is not None:
            return found
        start = usage.place(unit, expr)
        if isinstance(expr, ir.Name):
            bound = self.bindings.of(start, expr.id)
            places = [p for p, element in bound if not element] + [i for p, element in bound if element for i in _listed(p)]
        elif isinstance(expr, ir.Attribute):
            owners = {r.cls for r in unit.receivers.get(expr, frozenset()) if isinstance(r, Inst) and r.cls not in self.of_class}
            places = [p for c in owners for p in self.flow.field(c, expr.attr)]
        elif isinstance(expr, (ir.IfExp, ir.BoolOp)):
            places = [start.at(e) for e in ((expr.body, expr.orelse) if isinstance(expr, ir.IfExp) else expr.values)]
        elif isinstance(expr, ir.Call) and ir.last_name(expr.func) == "getattr" and len(usage.positional(expr)) == 2:
            return self._any_key(self._possible(unit, expr.args[0].value, depth - 1))
        else:
            return set()
        return {s for p in places if p.expr is not expr for s in self._possible(self.flow.unit(p), p.expr, depth - 1)}

    def _any_key(self, schemas: set[Schema]) -> set[Schema]:
        return {n for s in schemas for held in s.nested.values() for n in held if n.elements is None} | {s for s in schemas if s.open}

    def declared(self, unit: Unit, expr: ir.Expr, depth: int = 8) -> set[Schema] | None:
        """The configuration that an expression holds by its declaration; None where no declaration says."""
        key = (id(expr), unit.fn)
        if key not in self._declared:
            if not depth:
                return None
            self._declared[key] = None
            self._declared[key] = self._declaration(unit, expr, depth)
        return self._declared[key]

    def _declaration(self, unit: Unit, expr: ir.Expr, depth: int) -> set[Schema] | None:
        if isinstance(expr, ir.Name):
            return self._declared_name(unit, expr, depth)
        if isinstance(expr, (ir.NamedExpr, ir.Await)):
            return self.declared(unit, expr.value, depth - 1)
        if isinstance(expr, ir.IfExp):
            return self._any_of([usage.place(unit, e) for e in (expr.body, expr.orelse)], depth)
        if isinstance(expr, ir.BoolOp):
            return self._any_of([usage.place(unit, e) for e in (expr.values if expr.op == "or" else expr.values[-1:])], depth)
        if isinstance(expr, ir.Attribute):
            return self._declared_field(unit, expr, depth)
        if isinstance(expr, ir.Subscript):
            return self._declared_item(unit, expr, depth)
        if isinstance(expr, ir.Call):
            return self._declared_call(unit, expr, depth)
        return self._held(unit, expr, expr) if is_display(expr) else None

    def _held(self, unit: Unit, display: ir.Expr, named: ir.Expr) -> set[Schema]:
        """The container that a display makes, of the configuration that it or what it is bound to may hold."""
        parts = display.items if isinstance(display, ir.Sequence) else display.values if isinstance(display, ir.Dict) else []
        if isinstance(display, ir.Comprehension):
            parts = [display.value or display.element]
        places = [usage.place(unit, p.value if isinstance(p, ir.Starred) else p) for p in parts]
        nested = isinstance(display, ir.Call) and bool(usage.positional(display))  # defaultdict(list)
        if isinstance(named, ir.Name) and named is not display:
            stored_here = [p for p in self.flow.definitions(usage.place(unit, named), named.id) if p.expr is not display]
            nested = nested or any(is_display(p.expr) for p in stored_here)
            places += [p for p in stored_here if not is_display(p.expr)]
        each = [self.schemas(self.flow.unit(p), p.expr) for p in places if not _is_absent(p.expr) and not _is_text(p.expr)]
        found = {s for e in each for s in e}
        if isinstance(named, ir.Attribute) or not places:
            found |= {self.of_class[v.cls] for v in self.values(unit, named) if isinstance(v, Inst) and v.cls in self.of_class}
        mixed = any(not e for e in each)
        if not found or mixed:
            return set()
        return {s if s.elements is not None else container_of(self.open, "values", {s}, 1 + nested) for s in found}

    def _any_of(self, places: list[Place], depth: int) -> set[Schema] | None:
        # All alternatives must be declared; None and an empty dictionary are no alternative.
        places = [p for p in places if not _is_absent(p.expr)]
        each = [self.declared(self.flow.unit(p), p.expr, depth - 1) for p in places]
        return {s for e in each for s in e or ()} if each and all(e is not None for e in each) else None

    def _declared_name(self, unit: Unit, expr: ir.Name, depth: int) -> set[Schema] | None:
        scope = lookup_scope(usage.scope_of(unit), expr.id)
        fn = scope.function if scope is not None and scope.kind == "function" else None
        for param in fn.node.params if fn is not None else ():
            if param.name == expr.id and param.annotation is not None and fn is not None:
                classes = self._annotated_classes(self.flow.unit(Place(expr, fn.module, fn)), param.annotation, fn.scope.parent or fn.scope)
                if not classes and any(_is_atom(v) for v in self.analysis.declared.get(param, ())):
                    return set()
                if classes:
                    held = {self.of_class[c] for c in classes if c in self.of_class}
                    levels = levels_of(param.annotation) + int(param.kind in ("*", "**"))
                    return {container_of(self.open, param.name, held, levels)} if levels and held else held
        if expr.id in self.roots and (root := self._root(unit, expr, self.values(unit, expr))):
            return root
        bound = self.bindings.of(usage.place(unit, expr), expr.id)
        found = [b for b in bound if not _is_absent(b[0].expr)] or [b for b in bound if is_display(b[0].expr)]
        each = [self._each(p, depth) if element else self._bound(p, unit, expr, depth - 1) for p, element in found]
        return {s for e in each for s in e or ()} if each and all(e is not None for e in each) else None

    def _bound(self, place: Place, unit: Unit, name: ir.Expr, depth: int) -> set[Schema] | None:
        if is_display(place.expr):
            return self._held(self.flow.unit(place), place.expr, place.expr) or self._held(unit, place.expr, name)
        return self.declared(self.flow.unit(place), place.expr, depth)

    def _each(self, place: Place, depth: int) -> set[Schema] | None:
        """What a loop over an expression yields; a subscript of it is one part of what is unpacked."""
        expr = place.expr
        path: list[int] = []
        while isinstance(expr, ir.Subscript) and isinstance(expr.index, ir.Constant) and isinstance(expr.index.value, int):
            path.insert(0, expr.index.value)
            expr = expr.value
        while path and isinstance(expr, ir.Call):
            if isinstance(expr.func, ir.Name) and expr.func.id in _SAME_ELEMENTS and expr.args:
                expr = expr.args[0].value
                continue
            part, name, given = path.pop(0), ir.last_name(expr.func), usage.positional(expr)
            if name == "items" and isinstance(expr.func, ir.Attribute):
                return self._elements(place.at(expr.func.value), depth) if part == 1 and not path else set()
            if name == "enumerate" and given:
                if part == 0:
                    return set()
                expr = given[0]
            elif name == "zip" and part < len(given):
                expr = given[part]
            else:
                return None
        return self._elements(place.at(expr), depth) if not path else None

    def _elements(self, place: Place, depth: int) -> set[Schema] | None:
        held = self.declared(self.flow.unit(place), place.expr, depth - 1)
        if held is None:
            return None
        # A generator stands for what it yields.
        return {
            e for s in held for e in (s.elements if s.elements is not None else () if (s.mapping or s.is_tuple) and not s.open else {s})
        }

    def _declared_field(self, unit: Unit, expr: ir.Attribute, depth: int) -> set[Schema] | None:
        base = self.family(self.schemas(unit, expr.value))
        if any(expr.attr in s.keys for s in base):
            return {n for s in base for n in s.nested.get(expr.attr, ())}
        if self.open in base and not expr.attr.startswith("__"):
            return {self.open}
        places = [
            p
            for receiver in unit.receivers.get(expr, frozenset())
            if isinstance(receiver, Inst) and receiver.cls not in self.of_class
            for p in self.flow.field(receiver.cls, expr.attr)
        ]
        out: set[Schema] = set()
        for place in places:
            out |= self._bound(place, unit, expr, depth - 1) or set()
        if not out and expr.attr in self.roots and places:
            out = set().union(*(self._written_down(p) for p in places))
            calls = [p for p in places if not _is_absent(p.expr)]
            if not out and calls and all(isinstance(p.expr, (ir.Call, ir.Dict)) and self._foreign(p) for p in calls):
                out = {self.open}
        return out or None

    def _declared_item(self, unit: Unit, expr: ir.Subscript, depth: int) -> set[Schema] | None:
        if isinstance(expr.index, ir.Slice):
            return self.declared(unit, expr.value, depth - 1)
        index = expr.index.value if isinstance(expr.index, ir.Constant) else None
        if index == 0 and isinstance(expr.value, ir.Call) and ir.last_name(expr.value.func) == "parse_known_args":
            return {self._parser_schema(usage.place(unit, expr.value))}
        entries = self._entries(unit, expr.value, index) if isinstance(index, str) else []
        if entries:
            return self._any_of(entries, depth) or set()
        bases = self.schemas(unit, expr.value)
        if index in self.roots and not bases:
            return self._written_down(usage.place(unit, expr)) or None  # state["config"]
        if any(s.elements is not None or s.open for s in bases):
            return {e for s in bases for e in ({s} if s.open else s.elements or ())}
        if index is None:
            return None
        bases = {b for b in bases if b.mapping}
        return {s for b in bases for s in b.nested.get(str(index), ())} if bases else None

    def _entries(self, unit: Unit, base: ir.Expr, key: str) -> list[Place]:
        """What is put under a key of a dictionary that the function itself writes down."""
        if not isinstance(base, ir.Name) or base.id in self.roots:
            return []
        bound = [p for p, element in self.bindings.of(usage.place(unit, base), base.id) if not element]
        if not bound or any(p.fn is not unit.fn or not isinstance(p.expr, ir.Dict) for p in bound):
            return []
        found = [p.at(v) for p in bound for name, _, v in literal_entries(p.expr) or () if name == key]
        for node in usage.own_nodes(unit):
            for target in stored(node) if isinstance(node, ir.Assign) and node.value is not None else ():
                if isinstance(target, ir.Subscript) and ir.dotted(target.value) == base.id:
                    same = isinstance(target.index, ir.Constant) and target.index.value == key
                    value = node.value if same and isinstance(node, ir.Assign) else None
                    found += [usage.place(unit, value)] if value is not None else []
        return found

    def _declared_call(self, unit: Unit, expr: ir.Call, depth: int) -> set[Schema] | None:
        name, given = ir.last_name(expr.func), usage.positional(expr)
        owner = expr.func.value if isinstance(expr.func, ir.Attribute) else None
        if name in _COPIES:
            sources = [*([owner] if owner is not None else []), *given[:1]]
            return next((s for source in sources if (s := self.schemas(unit, source))), None)
        if name in _DUMPS and any(self.schemas(unit, e) for e in ([owner] if owner is not None else given)):
            return set()  # its dictionary form, see `dumped`
        made = {c.cls for c in unit.calls.get(expr, frozenset()) if isinstance(c, Cls)}
        if made:
            return {self.of_class[c] for c in made} if all(c in self.of_class for c in made) else None
        if owner is not None and name in ("values", *_ENTRIES):
            held = self.schemas(unit, owner)
            if not held and self.declared(unit, owner) is not None:
                return set()  # a part of what is no configuration
            if name == "values" and any(s.elements is not None for s in held):
                return held
            if name in _ENTRIES and given and any(s.open for s in held):
                return {self.open}
            if name in _ENTRIES and any(s.elements is not None for s in held):
                if any(not _is_absent(g) and not self.schemas(unit, g) for g in given[1:]):
                    return set()  # it may as well be the default
                return {e for s in held for e in s.elements or ()}
        elif owner is None and name in _SAME_ELEMENTS and given:
            held = self.declared(unit, given[0], depth - 1) or set()
            return held if any(s.elements is not None for s in held) else None
        elif owner is None and name in ("next", "min", "max") and given:
            return self._elements(usage.place(unit, given[0]), depth) or None
        return self._by_origin(unit, expr, depth)

    def _by_origin(self, unit: Unit, expr: ir.Expr, depth: int) -> set[Schema] | None:
        found = [p for p in self.origins.of(usage.place(unit, expr)) if p.expr is not expr]
        each = [self.declared(self.flow.unit(p), p.expr, depth - 4) if depth > 4 else None for p in found]
        known = [e for e in each if e]
        return {s for e in known for s in e} if known and len(known) == len(found) else None

    # -- root names

    def _root(self, unit: Unit, expr: ir.Name, values: Values) -> set[Schema]:
        out: set[Schema] = set()
        unknown = False
        for place, element in self.bindings.of(usage.place(unit, expr), expr.id):
            found = self._written_down(place) if not element else set()
            out |= found
            unknown = unknown or (not found and not _is_absent(place.expr))
        if not out and not unknown and all(says_nothing(v) for v in values):
            out = {self.of_class[c] for c in self.root_classes} or {s for s in self.of_class.values() if s.cls is not None and s.nested}
        return out or ({self.open} if self._anything(unit, expr) else set())

    def _foreign(self, place: Place) -> bool:
        """Whether what a call makes comes from outside the packages, and is no text, number or path."""
        values = self.values(self.flow.unit(place), place.expr) | self._made_values(place)
        return all(isinstance(v, (UnknownValue, ExtInst)) and not _is_plain(v) for v in values)

    def _written_down(self, start: Place) -> set[Schema]:
        # A literal, or what a parser returns, directly, from a helper, or below what is laid over it.
        key = (id(start.expr), start.fn)
        if key not in self._written:
            self._written[key] = set()
            self._written[key] = self._of_tables(start)
        return self._written[key]

    def _of_tables(self, start: Place) -> set[Schema]:
        found, extended = ([start], []) if _is_whole(start.expr) else self.tables.tables(start)
        out: set[Schema] = set()
        for place in found:
            expr = place.expr
            if isinstance(expr, ir.Subscript) and ir.last_name(getattr(expr.value, "func", expr)) == "parse_known_args":
                place = place.at(expr.value)
            if isinstance(place.expr, ir.Call) and ir.last_name(place.expr.func) in PARSED:
                out.add(self._parser_schema(place))
            elif (schema := self.literal(place)) is not None:
                out.update(() if _is_absent(place.expr) and len(found) > 1 else (schema,))
            elif not self._lays_over(place):
                return set()
        if len({s.mapping for s in out}) > 1:
            return set()
        return out | {s for p in extended if out and (s := self._laid(p)) is not None}

    def filled(self, schemas: set[Schema], key: str) -> bool:
        """Whether the packages put a key into a dictionary of one of the schemas, beside what is written down."""
        return any(
            schemas & ({self.literal(made) for made in self.tables.of(p)} | self.schemas(self.flow.unit(p), p.expr))
            for p in self._filled.get(key, ())
        )

    @cached_property
    def _filled(self) -> dict[str, list[Place]]:
        out: dict[str, list[Place]] = {}
        for unit in usage.cold_units(self.analysis):
            for node in usage.own_nodes(unit):
                for base, key in _put(node):
                    out.setdefault(key, []).append(usage.place(unit, base))
        return out

    def _lays_over(self, place: Place) -> bool:
        """Whether a value that is laid over a table adds no key of its own: the content of a file, what a caller hands over."""
        if isinstance(place.expr, ir.Call):
            return bool(_LOADS.search(ir.last_name(place.expr.func))) and self._foreign(place)
        params = place.fn.node.params if place.fn is not None else []
        return _is_absent(place.expr) or (isinstance(place.expr, ir.Name) and any(p.name == place.expr.id for p in params))

    def _laid(self, place: Place) -> Schema | None:
        # `{**D, "key": ...}` declares its key beside those of D.
        schema = self.literal(place)
        if schema is not None and isinstance(place.expr, ir.Dict):
            schema.closed = all(k is None or isinstance(k, ir.Constant) for k in place.expr.keys)
        return schema

    def _anything(self, unit: Unit, expr: ir.Name) -> bool:
        """Whether a root name holds something of which nothing but that name is known: a file's content, a namespace, a parameter."""
        scope = lookup_scope(usage.scope_of(unit), expr.id)
        if scope is None or any(isinstance(v, (Inst, Mod, Ext, Cls, Func)) for v in self.values(unit, expr)):
            return False
        params = scope.function.node.params if scope.function is not None else []
        if any(_is_plain(v) for p in params if p.name == expr.id for v in self.analysis.declared.get(p, ())):
            return False
        bound = [p for p, _ in self.bindings.of(usage.place(unit, expr), expr.id)]
        return not any(_is_value(p.expr) or any(_is_plain(v) for v in self._made_values(p)) for p in bound)

    def _made_values(self, place: Place) -> Values:
        # What is put into a container is taken for its value as well, so that only a call says what it makes.
        calls = self.flow.unit(place).calls.get(place.expr, frozenset()) if isinstance(place.expr, ir.Call) else frozenset()
        return frozenset(ExtInst(c.name) for c in calls if isinstance(c, Ext))

    def rooted(self, expr: ir.Expr) -> bool:
        """Whether a chain of attributes and items starts at a root name."""
        while isinstance(expr, (ir.Attribute, ir.Subscript)):
            if isinstance(expr, ir.Attribute) and expr.attr in self.roots:
                return True
            expr = expr.value
        return isinstance(expr, ir.Name) and expr.id in self.roots

    # -- dictionary forms

    def dumped(self, unit: Unit, expr: ir.Expr, depth: int = 4) -> set[Schema]:
        """The configuration whose dictionary form an expression is: `vars(c)`, `c.__dict__`, `asdict(c)`, `c.model_dump()`."""
        if isinstance(expr, ir.Attribute) and expr.attr == "__dict__":
            return self.schemas(unit, expr.value)
        if isinstance(expr, ir.Subscript) and isinstance(expr.index, ir.Constant) and depth:
            return {n for s in self.dumped(unit, expr.value, depth - 1) for n in s.nested.get(str(expr.index.value), ())}
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

    # -- classes

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


def _is_whole(expr: ir.Expr) -> bool:
    # A dictionary that is written down in one place, or a call that parses arguments.
    called = expr.value if isinstance(expr, ir.Subscript) else expr
    whole = isinstance(expr, ir.Dict) and None not in expr.keys
    return whole or (isinstance(called, ir.Call) and ir.last_name(called.func) in PARSED)


def is_display(expr: ir.Expr) -> bool:
    """Whether an expression makes a list, a dictionary or a set."""
    if isinstance(expr, ir.Call) and isinstance(expr.func, ir.Name):
        if expr.func.id == "defaultdict":
            return True
        return expr.func.id in ("list", "dict", "set", "deque", "OrderedDict") and not usage.positional(expr)
    return isinstance(expr, (ir.Sequence, ir.Comprehension, ir.Dict))


def _put(node: ir.Node) -> Iterator[tuple[ir.Expr, str]]:
    # `d["key"] = v`, `d.update(key=v)`, `d.update({"key": v})`
    for target in stored(node):
        if isinstance(target, ir.Subscript) and isinstance(target.index, ir.Constant) and isinstance(target.index.value, str):
            yield target.value, target.index.value
    if isinstance(node, ir.Call) and isinstance(node.func, ir.Attribute) and node.func.attr == "update":
        for arg in node.args:
            names = [arg.keyword] if arg.keyword else [name for name, _, _ in literal_entries(arg.value) or ()]
            yield from ((node.func.value, name) for name in names if name is not None)


def _is_text(expr: ir.Expr) -> bool:
    return isinstance(expr, ir.Constant) and isinstance(expr.value, str)


def _listed(place: Place) -> list[Place]:
    # What a loop over a display binds, whole or unpacked.
    expr = place.expr
    if isinstance(expr, ir.Subscript) and isinstance(expr.value, ir.Sequence) and isinstance(expr.index, ir.Constant):
        rows = [r.items for r in expr.value.items if isinstance(r, ir.Sequence)]
        index = expr.index.value
        return [place.at(r[index]) for r in rows if isinstance(index, int) and index < len(r)]
    return [place.at(i) for i in expr.items] if isinstance(expr, ir.Sequence) else []


def _is_absent(expr: ir.Expr) -> bool:
    return (isinstance(expr, ir.Constant) and expr.value is None) or (isinstance(expr, ir.Dict) and not expr.keys)


def _is_value(expr: ir.Expr) -> bool:
    if isinstance(expr, ir.BinOp):
        return expr.op != "|"
    return isinstance(expr, (ir.FString, ir.Compare, ir.Sequence)) or (isinstance(expr, ir.Constant) and expr.value is not None)


def _is_plain(value: object) -> bool:
    # Text, a number, a path: no configuration, whatever it is called.
    if not isinstance(value, ExtInst) or value == NOTHING or value.name == "builtins.dict":
        return False
    return value.name.startswith(("builtins.", "pathlib.", "torch.", "os."))


def _is_atom(value: object) -> bool:
    # What is no container either.
    return _is_plain(value) and not re.search(r"^builtins\.(list|tuple|set|frozenset|object|iter|type)", getattr(value, "name", ""))


def configs_of(context: Context) -> Configs:
    """The configuration of the project, found once for all rules."""
    if "configs" not in context.shared:
        context.shared["configs"] = Configs(context)
    found: Configs = context.shared["configs"]
    return found
