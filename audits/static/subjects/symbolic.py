"""Runs code on symbols: what every expression computes, through variables, containers, closures, objects and helpers.

Each function runs once with unknown arguments, and the packages' functions that it calls run inside it with what it passes.
Nothing is decided here: every operation on tensors is handed to `observe`, with its result and what it was made of.
"""

from __future__ import annotations

import builtins
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from audits.static.analysis.values import Func as KnownFunc
from audits.static.analysis.values import Inst
from audits.static.dataflow.demands import field_names
from audits.static.dataflow.flow import Flow, Place
from audits.static.source import ir
from audits.static.source.project import ClassInfo, FunctionInfo, ModuleInfo, bound_names
from audits.static.subjects import library
from audits.static.subjects.relevance import Relevance
from audits.static.subjects.symbols import (
    ALTERNATIVES,
    NONE,
    Alt,
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
    Record,
    Seq,
    Super,
    Taker,
    Value,
    each,
    either,
)
from audits.static.subjects.terms import Poly, Terms

if TYPE_CHECKING:
    from collections.abc import Iterable

_BUILTINS = frozenset(dir(builtins))
_DEPTH = 10
_STEPS = 100
_UNROLLED = 8
_OPERATORS = {"+": "add", "-": "sub", "*": "mul", "/": "div", "@": "matmul", "**": "pow", "//": "floordiv", "%": "mod"}
_SPECIAL = {"+": "add", "-": "sub", "*": "mul", "/": "truediv", "@": "matmul", "**": "pow", "|": "or", ">>": "rshift", "<<": "lshift",
            "&": "and", "^": "xor", "//": "floordiv", "%": "mod"}  # fmt: skip
_PLAIN_DECORATORS = ("torch.", "functools.", "typing.", "builtins.", "abc.", "contextlib.", "numba.", "jaxtyping.", "dataclasses.")
_OF_MATRICES = frozenset({"turned", "product", "trace", "eye", "diagonal", "diagonal-matrix", "stack", "vectors"})
_NUMBERS = frozenset({"float", "int", "bool"})
_ARRAYS = frozenset({"xp", "np", "jnp", "torch", "th", "tnp", "backend", "lib", "ops", "anp", "cp", "xnp"})


class Symbolic:
    """One run over a project."""

    def __init__(
        self,
        flow: Flow,
        observe: Callable[..., None],
        name: Callable[[str, Value], Value],
        opaque: Callable[[FunctionInfo], bool],
        relevance: Relevance,
        home: ModuleInfo,
    ) -> None:
        self.flow = flow
        self.project = flow.analysis.project
        self.terms = Terms()
        self.observe = observe
        self.name = name
        self.opaque = opaque
        self.relevance = relevance
        self.home = home
        self.is_covariance: Callable[[Poly], bool] = lambda value: False
        self.ran: set[FunctionInfo] = set()
        self._made: dict[FunctionInfo, Fun] = {}
        self._modules: dict[ModuleInfo, Frame] = {}
        self._classes: dict[ClassInfo, Frame] = {}
        self._instances: dict[ClassInfo, Obj] = {}
        self._memo: dict[tuple[Any, ...], Value] = {}
        self._stack: list[FunctionInfo] = []
        self._left = _STEPS

    @staticmethod
    def either(values: list[Value]) -> Value:
        """Any of some values."""
        return either(values)

    @property
    def running(self) -> list[FunctionInfo]:
        """The functions that are being run, the innermost last."""
        return self._stack

    # -- roots

    def run(self, modules: Iterable[ModuleInfo]) -> None:
        """Run every module and function, each with arguments of which nothing is known."""
        wanted = dict.fromkeys(modules)
        for module in wanted:
            self.module(module)
        for fn in sorted(self.project.functions, key=lambda f: not _stores_fields(f)):
            if fn.module in wanted and (fn.enclosing is None or fn not in self.ran) and self.relevance.near(fn):
                self.root(fn)

    def root(self, fn: FunctionInfo) -> None:
        """Run one function."""
        self._left = _STEPS
        made = self._made.get(fn) or Fun(fn, self.module(fn.module))
        frame = Frame(fn.module, fn, made.frame)
        for number, param in enumerate(fn.node.params):
            bound = number == 0 and fn.cls is not None and "staticmethod" not in fn.flags
            if bound and fn.cls is not None:
                frame.receiver = frame.variables[param.name] = Klass(fn.cls) if "classmethod" in fn.flags else self.instance(fn.cls)
            else:
                frame.variables[param.name] = self._unknown(param, fn)
        self._body(fn, frame)

    def _unknown(self, param: ir.Param, fn: FunctionInfo) -> Value:
        of = param.annotation
        if param.kind == "**":
            return Map()
        if isinstance(of, ir.BinOp):  # X | None
            of = of.left
        if isinstance(of, ir.Constant) and isinstance(of.value, str) and of.value.isidentifier():
            of = ir.Name(of.line, of.column, of.end_line, of.end_column, of.value)
        if isinstance(of, ir.Name) and of.id in _NUMBERS:
            number = self.terms.of("scalar", fn.symbol, param.name)
            usual = self.eval(param.default, self.module(fn.module)) if param.default is not None else NONE
            return Alt((number, usual)) if isinstance(usual, Poly) and usual.constant else number
        if isinstance(of, (ir.Name, ir.Attribute)):
            for made in each(self.eval(of, self.module(fn.module))):
                if isinstance(made, Klass) and not self._outside(made.cls, "Protocol"):
                    return self.instance(made.cls)
        value: Value = self.terms.of("given", fn.symbol, param.name)
        self.name(param.name, value)
        if param.default is not None and param.kind not in ("*", "**"):
            usual = self.eval(param.default, self.module(fn.module))
            if isinstance(usual, (Fun, Partial, Ext)) or (isinstance(usual, Poly) and usual.constant is not None):
                return Alt((value, usual))
        return Seq([value], many=True) if param.kind == "*" else value

    def module(self, module: ModuleInfo) -> Frame:
        """The variables of a module, after it has run."""
        frame = self._modules.get(module)
        if frame is None:
            frame = self._modules[module] = Frame(module)
            left, self._left = self._left, _STEPS
            self.block(module.tree.body, frame)
            self._left = left
        return frame

    def instance(self, cls: ClassInfo) -> Obj:
        """What stands for every instance of a class, made by its constructor with unknown arguments."""
        found = self._instances.get(cls)
        if found is None:
            found = self._instances[cls] = Obj(cls, shared=True)
            init = self.method(cls, "__init__")
            if init is not None and init.fn not in self._stack:
                frame = Frame(init.fn.module, init.fn, init.frame, receiver=found)
                for number, param in enumerate(init.fn.node.params):
                    frame.variables[param.name] = self._unknown(param, init.fn) if number else found
                self._body(init.fn, frame)
                for name, held in list(found.attrs.items()):
                    if held == NONE and self._kept(cls, name):
                        found.attrs[name] = Alt((self._state(cls, name), NONE))
        return found

    def _body(self, fn: FunctionInfo, frame: Frame) -> Value:
        self._stack.append(fn)
        self.ran.add(fn)
        try:
            self.block(fn.node.body, frame)
        finally:
            self._stack.pop()
        if frame.yielded or frame.sent:
            return Seq(frame.yielded, many=frame.sent)
        if not frame.returned and self.flow.analysis.returns_value(fn):
            return self.terms.of("call", fn.symbol, *(library.token(v) for v in frame.variables.values() if isinstance(v, Poly)))
        return either(frame.returned)

    # -- classes

    def mro(self, cls: ClassInfo) -> list[ClassInfo]:
        """The class and those that it derives from, in order."""
        return self.flow.analysis.order(cls)

    def _outside(self, cls: ClassInfo, name: str) -> bool:
        return any(ir.last_name(b.value if isinstance(b, ir.Subscript) else b) == name for c in self.mro(cls) for b in c.node.bases)

    def body_of(self, cls: ClassInfo) -> Frame:
        """The variables of a class body."""
        frame = self._classes.get(cls)
        if frame is None:
            frame = self._classes[cls] = Frame(cls.module, None, self.module(cls.module))
            self.block(cls.node.body, frame)
        return frame

    def method(self, cls: ClassInfo, name: str, after: ClassInfo | None = None) -> Fun | None:
        """A method of a class or of one above it."""
        order = self.mro(cls)
        for owner in order[order.index(after) + 1 :] if after in order else order:
            fn = owner.module.functions.get(f"{owner.qualname}.{name}")
            if fn is not None:
                held = self.body_of(owner).variables.get(name)
                return held if isinstance(held, Fun) else Fun(fn, self.module(owner.module))
        return None

    def attribute(self, value: Value, name: str, node: ir.Node, frame: Frame) -> Value:
        """`value.name`."""
        if isinstance(value, Alt):
            return either([self.attribute(v, name, node, frame) for v in value.options])
        if isinstance(value, Obj):
            return self._of_object(value, name, node, frame)
        if isinstance(value, Klass):
            return self._of_class(value.cls, name, value, node)
        if isinstance(value, Super):
            cls = value.receiver.cls if isinstance(value.receiver, (Obj, Klass)) else value.cls
            found = self.method(cls, name, after=value.cls)
            return Fun(found.fn, found.frame, value.receiver) if found is not None else Ext(f"super.{name}")
        if isinstance(value, Mod):
            return self.of_module(value.module, name)
        if isinstance(value, Ext):
            module = self.project.modules.get(f"{value.name}.{name}")
            return Mod(module) if module is not None else Ext(f"{value.name}.{name}")
        if isinstance(value, Map) and name in value.items and name not in ("items", "keys", "values", "get", "pop", "update"):
            return value.items[name]
        if isinstance(value, Poly):
            known = library.data(self, value, name)
            if known is None:
                known = Method(value, name) if name in library.METHODS or name.endswith("_") else self.terms.of("field", value, name)
            return known
        if isinstance(value, Partial) and name in ("func", "args", "keywords"):
            return {"func": value.func, "args": Seq(value.args), "keywords": Map({**value.keywords})}[name]
        return Method(value, name)

    def of_module(self, module: ModuleInfo, name: str) -> Value:
        """A name of a module."""
        found = self.module(module).variables.get(name)
        if found is not None:
            return found
        inner = self.project.modules.get(f"{module.name}.{name}")
        if inner is not None:
            return Mod(inner)
        for star in module.scope.stars:
            source = self.project.modules.get(star)
            if source is not None and source is not module and name in source.scope.names:
                return self.of_module(source, name)
        getter = self.module(module).variables.get("__getattr__")
        if isinstance(getter, Fun) and getter.fn not in self._stack:
            return self.call(getter, [Lit(name)], {}, module.tree, self.module(module))
        return Ext(f"{module.name}.{name}")

    def _of_object(self, value: Obj, name: str, node: ir.Node, frame: Frame) -> Value:
        if name in value.attrs:
            own = value.attrs[name]
            empty = isinstance(own, Poly) and own.constant == 0 and self._kept(value.cls, name)
            return self._state(value.cls, name) if empty else own
        if name == "__class__":
            return Klass(value.cls)
        if name == "__dict__":
            return Map({**value.attrs})
        for owner in self.mro(value.cls):
            held = self.body_of(owner).variables.get(name)
            if isinstance(held, Fun) and held.fn.cls is not None:
                if held.fn.flags & {"property", "cached_property"}:
                    return self.call(Fun(held.fn, held.frame, value), [], {}, node, frame)
                if "staticmethod" in held.fn.flags:
                    return held
                return Fun(held.fn, held.frame, Klass(value.cls) if "classmethod" in held.fn.flags else value)
            if isinstance(held, Partial) and held.method:
                return Partial(held.func, [value, *held.args], held.keywords)
            if held is not None:
                if isinstance(held, Fun) and held.receiver is None and held.fn.node.name != "<lambda>":
                    return Fun(held.fn, held.frame, value)  # what a decorator made of a method
                getter = self.method(held.cls, "__get__") if isinstance(held, Obj) else None
                if getter is not None:
                    return self.call(Fun(getter.fn, getter.frame, held), [value, Klass(value.cls)], {}, node, frame)
                return held
        getter = self.method(value.cls, "__getattr__")
        if getter is not None and getter.fn not in self._stack:
            return self.call(Fun(getter.fn, getter.frame, value), [Lit(name)], {}, node, frame)
        outside = [b for c in self.mro(value.cls) for b in c.node.bases if ir.last_name(b) in ("Module", "dict", "list", "UserDict")]
        known = self.flow.field(value.cls, name)
        annotated = any(name in field_names(c) for c in self.mro(value.cls))
        if outside and not known and not annotated:
            return Method(value, name)
        made = self.terms.of("field", value.cls.symbol if value.shared else id(value), name)
        self.name(name, made)
        return made

    def _state(self, cls: ClassInfo, name: str) -> Poly:
        # What a field that starts at nothing holds later.
        state = self.terms.of("field", cls.symbol, name)
        self.name(name, state)
        return state

    def _kept(self, cls: ClassInfo, name: str) -> bool:
        return any(p.fn is not None and p.fn.node.name != "__init__" for p in self.flow.field(cls, name))

    def _of_class(self, cls: ClassInfo, name: str, receiver: Value, node: ir.Node) -> Value:
        for owner in self.mro(cls):
            held = self.body_of(owner).variables.get(name)
            if isinstance(held, Fun):
                return Fun(held.fn, held.frame, receiver) if "classmethod" in held.fn.flags else held
            if held is not None:
                if self._outside(cls, "Enum") and not isinstance(held, Klass):
                    return Obj(cls, {"value": held, "name": Lit(name), "_value_": held})
                return held
        if name == "apply" and self.method(cls, "forward") is not None:
            forward = self.method(cls, "forward")
            assert forward is not None
            return Partial(forward, [self.terms.of("context", cls.symbol)], {})
        return Ext(f"class.{name}")

    # -- statements: each tells whether the block is left

    def block(self, body: list[ir.Stmt], frame: Frame) -> bool:
        """Run statements."""
        for statement in body:
            handler = _STATEMENTS.get(type(statement))
            if handler is not None and handler(self, statement, frame):
                return True
        return False

    def _assign(self, node: ir.Assign, frame: Frame) -> bool:
        if node.value is not None:
            value = self.eval(node.value, frame)
            for target in node.targets:
                self.store(target, value, frame, node)
                if isinstance(target, ir.Name):
                    self._aliased(target.id, node.value, frame)
        return False

    def _aliased(self, name: str, source: ir.Expr, frame: Frame) -> None:
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

    def _augmented(self, node: ir.AugAssign, frame: Frame) -> bool:
        before, value = self.eval(node.target, frame), self.eval(node.value, frame)
        if node.op in ("+", "-"):
            held = [before]
            if isinstance(node.target, ir.Subscript):
                index = self.eval(node.target.index, frame)
                bases = [b for b in each(self.eval(node.target.value, frame)) if isinstance(b, Poly)]
                held += [library.indexed(self, b, index, written=True) for b in bases]
            for piece in dict.fromkeys(held):
                self._written_diagonal(node.target, piece, value, node, frame, sign=-1 if node.op == "-" else 1)
        if node.op == "+" and isinstance(before, Seq):
            before.items.extend(v for e in each(value) for v in (e.items if isinstance(e, Seq) else [e]))
            return False
        self.rebind(node.target, self.binary(node.op, before, value, node, frame), frame, node)
        return False

    def _written_diagonal(self, target: ir.Expr, before: Value, value: Value, node: ir.Node, frame: Frame, sign: int = 1) -> None:
        for held in each(before):
            found = library.diagonal_of(held) if isinstance(held, Poly) else None
            if found is not None:
                self.observe("diagonal", node, frame, (found, value, sign))

    def store(self, target: ir.Expr, value: Value, frame: Frame, node: ir.Node) -> None:
        """Bind a target."""
        if isinstance(target, ir.Name):
            self._owner(target.id, frame, declared=True).variables[target.id] = self.name(target.id, value)
        elif isinstance(target, ir.Sequence):
            self._unpack(target, value, frame, node)
        elif isinstance(target, ir.Starred):
            self.store(target.value, value, frame, node)
        elif isinstance(target, ir.Attribute):
            value = self.name(target.attr, value)
            for owner in each(self.eval(target.value, frame)):
                self.store_attribute(owner, target.attr, value, frame)
        elif isinstance(target, ir.Subscript):
            self._store_item(target, value, frame, node)

    def store_attribute(self, owner: Value, name: str, value: Value, frame: Frame) -> None:
        """Set an attribute."""
        if isinstance(owner, Obj):
            old = owner.attrs.get(name)
            soft = old is not None and (owner.shared or frame.branches or frame.loops)
            owner.attrs[name] = either([value, old]) if soft and old is not None else value
        elif isinstance(owner, Klass):
            self.body_of(owner.cls).variables[name] = value
        elif isinstance(owner, Mod):
            self.module(owner.module).variables[name] = value
        elif isinstance(owner, Map):
            owner.items[name] = value

    def _unpack(self, target: ir.Sequence, value: Value, frame: Frame, node: ir.Node) -> None:
        options = [self.iterated(v, node, frame) for v in each(value)]
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
                    held.append(library.element(self, option.items[-1], i))
                    continue
                at = i if starred is None or i < starred else len(option.items) - (count - i)
                if 0 <= at < len(option.items):
                    held.append(option.items[at])
                elif option.items:
                    held.append(library.element(self, option.items[-1], i))
            self.store(item, either(held), frame, node)

    def _store_item(self, target: ir.Subscript, value: Value, frame: Frame, node: ir.Node) -> None:
        index = self.eval(target.index, frame)
        for base in each(self.eval(target.value, frame)):
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
                setter = self.method(base.cls, "__setitem__")
                if setter is not None:
                    self.call(Fun(setter.fn, setter.frame, base), [index, value], {}, node, frame)
            elif isinstance(base, Poly):
                if not isinstance(node, ir.AugAssign):
                    piece = library.indexed(self, base, index, written=True)
                    self._written_diagonal(target, piece, value, node, frame)
                    self._mirrored(piece, value, node, frame)
                self.rebind(target.value, library.stored(self, base, index, value), frame, node)

    def _mirrored(self, piece: Value, value: Value, node: ir.Node, frame: Frame) -> None:
        # `R[i, j] = R[j, i].conj()`
        for held in each(value):
            if isinstance(held, Poly) and isinstance(piece, Poly):
                base = library.mirror(self, piece, held)
                if base is not None:
                    self.observe("mirror", node, frame, (base,))

    def rebind(self, target: ir.Expr, value: Value, frame: Frame, node: ir.Node) -> None:
        """Put a changed tensor where it was: into a name, wherever that is bound, a field or an item."""
        if isinstance(target, ir.Name):
            owner = self._owner(target.id, frame)
            for alias in {target.id, *(n for g in owner.aliases if target.id in g for n in g)}:
                owner.variables[alias] = value
                owner.changed.add(alias)
            self.name(target.id, value)
        elif isinstance(target, (ir.Attribute, ir.Subscript)):
            if isinstance(target, ir.Attribute) and target.attr in ("real", "imag", "data", "mT", "T", "mH"):
                return
            self.store(target, value, frame, ir.AugAssign(node.line, node.column, node.end_line, node.end_column, target, "=", target))

    def _owner(self, name: str, frame: Frame, *, declared: bool = False) -> Frame:
        # The frame that holds a name; a plain assignment binds it here, unless it is declared global or nonlocal.
        outer = frame.fn.scope.outer.get(name) if frame.fn is not None else None
        if outer is False:
            return self.module(frame.module)
        if declared and outer is None:
            return frame
        current: Frame | None = frame.parent if outer else frame
        while current is not None:
            if name in current.variables:
                return current
            current = current.parent
        return frame

    def _branches(self, bodies: list[list[ir.Stmt]], frame: Frame, *, open_end: bool = True) -> bool:
        # Each body from the same start; what is bound afterwards is bound by any of them.
        start = frame.variables
        ends: list[dict[str, Value]] = [dict(start)] if open_end else []
        frame.branches += 1
        for body in bodies:
            frame.variables = dict(start)
            if not self.block(body, frame):
                ends.append(frame.variables)
        frame.branches -= 1
        if not ends:
            frame.variables = start
            return True
        start.clear()
        start.update(self._joined(ends))
        frame.variables = start
        return False

    def _joined(self, ends: list[dict[str, Value]]) -> dict[str, Value]:
        out = dict(ends[0])
        for end in ends[1:]:
            for name, value in end.items():
                if name not in out:
                    out[name] = value
                elif out[name] is not value:
                    out[name] = either([out[name], value])
        return out

    def _if(self, node: ir.If, frame: Frame) -> bool:
        test = self.eval(node.test, frame)
        if isinstance(test, Lit) and isinstance(test.value, bool):
            return self.block(node.body if test.value else node.orelse, frame)
        return self._branches([node.body, node.orelse], frame, open_end=False)

    def _for(self, node: ir.For, frame: Frame) -> bool:
        found = [self.iterated(v, node.iter, frame) for v in each(self.eval(node.iter, frame))]
        if len(found) == 1 and not found[0].many and len(found[0].items) <= _UNROLLED:
            for item in found[0].items:
                self.store(node.target, item, frame, node)
                if self.block(node.body, frame):
                    break
        else:
            frame.loops += 1
            for _ in range(2 if frame.loops == 1 else 1):  # what one round leaves is what the next one finds
                for item in dict.fromkeys(i for f in found for i in f.items[:ALTERNATIVES]) if found else ():
                    start = dict(frame.variables)
                    self.store(node.target, item, frame, node)
                    self.block(node.body, frame)
                    merged = self._joined([frame.variables, start])
                    frame.variables.clear()
                    frame.variables.update(merged)
            frame.loops -= 1
        self.block(node.orelse, frame)
        return False

    def _while(self, node: ir.While, frame: Frame) -> bool:
        self.eval(node.test, frame)
        frame.loops += 1
        for _ in range(2 if frame.loops == 1 else 1):
            self._branches([node.body], frame)
        frame.loops -= 1
        return False

    def _try(self, node: ir.Try, frame: Frame) -> bool:
        before = dict(frame.variables)
        left = self.block([*node.body, *node.orelse], frame)
        after = dict(frame.variables)
        frame.variables.clear()
        frame.variables.update(self._joined([after, before]))
        if node.handlers:
            bodies = [h.body for h in node.handlers]
            for handler in node.handlers:
                if isinstance(handler.name, ir.Name):
                    frame.variables[handler.name.id] = NONE
            ended = self._branches(bodies, frame, open_end=False)
            if not left:
                merged = self._joined([after, frame.variables]) if not ended else after
                frame.variables.clear()
                frame.variables.update(merged)
            left = left and ended
        elif not left:
            frame.variables.clear()
            frame.variables.update(after)
        return self.block(node.finalbody, frame) or left

    def _with(self, node: ir.With, frame: Frame) -> bool:
        for item in node.items:
            value = self.eval(item.context, frame)
            entered: list[Value] = []
            for option in each(value):
                if isinstance(option, Obj):
                    enter = self.method(option.cls, "__enter__")
                    entered.append(self.call(Fun(enter.fn, enter.frame, option), [], {}, node, frame) if enter is not None else option)
                else:
                    entered.append(option.items[0] if isinstance(option, Seq) and option.items else option)
            if item.target is not None:
                self.store(item.target, either(entered), frame, node)
        return self.block(node.body, frame)

    def _match(self, node: ir.Match, frame: Frame) -> bool:
        subject = self.eval(node.subject, frame)
        bodies: list[list[ir.Stmt]] = []
        total = False
        for case in node.cases:
            tests = [self.eval(t, frame) for t in case.tests]
            for binding in case.bindings:
                for name in bound_names(binding):
                    frame.variables[name] = subject
            if case.guard is not None:
                self.eval(case.guard, frame)
            elif not case.tests:
                total = True
            if isinstance(subject, Lit) and tests and all(isinstance(t, Lit) for t in tests) and not case.guard:
                if subject in tests:
                    return self.block(case.body, frame)
                continue
            bodies.append(case.body)
        return self._branches(bodies, frame, open_end=not total)

    def _return(self, node: ir.Return, frame: Frame) -> bool:
        frame.returned.append(self.eval(node.value, frame) if node.value is not None else NONE)
        return True

    def _raise(self, node: ir.Raise, frame: Frame) -> bool:
        return True

    def _assert(self, node: ir.Assert, frame: Frame) -> bool:
        self.eval(node.test, frame)
        return False

    def _simple(self, node: ir.Simple, frame: Frame) -> bool:
        return node.kind in ("break", "continue")

    def _expression(self, node: ir.ExprStmt, frame: Frame) -> bool:
        self.eval(node.value, frame)
        return False

    def _function(self, node: ir.Function, frame: Frame) -> bool:
        fn = self.project.function_of.get(node)
        if fn is not None:
            parent = frame if frame.fn is not None else self.module(frame.module)
            value: Value = Fun(fn, parent)
            self._made[fn] = Fun(fn, parent)
            for decorator in reversed(node.decorators):
                value = self._decorated(decorator, value, frame)
            frame.variables[node.name] = value
        return False

    def _decorated(self, decorator: ir.Expr, value: Value, frame: Frame) -> Value:
        wrapper = self.eval(decorator, frame)
        if isinstance(wrapper, Method) and isinstance(wrapper.receiver, Map) and isinstance(value, Fun):
            return value
        if isinstance(wrapper, (Fun, Obj, Partial, Klass)):
            made = self.call(wrapper, [value], {}, decorator, frame)
            return made if isinstance(made, (Fun, Obj, Partial)) else value
        return value

    def _class(self, node: ir.ClassDef, frame: Frame) -> bool:
        cls = self.project.class_of.get(node)
        if cls is not None:
            frame.variables[node.name] = Klass(cls)
            if frame.fn is not None and cls not in self._classes:
                body = self._classes[cls] = Frame(cls.module, None, frame)
                self.block(node.body, body)
            for decorator in node.decorators:
                wrapper = self.eval(decorator, frame)
                if isinstance(wrapper, (Fun, Obj, Partial)):
                    self.call(wrapper, [Klass(cls)], {}, decorator, frame)
            told = self.method(cls, "__init_subclass__", after=cls)
            if told is not None:
                keywords = {a.keyword: self.eval(a.value, frame) for a in node.keywords if a.keyword and a.keyword != "metaclass"}
                self.call(Fun(told.fn, told.frame, Klass(cls)), [], keywords, node, frame)
        return False

    def _import(self, node: ir.Import, frame: Frame) -> bool:
        for name, asname in node.names:
            bound = name if asname else name.split(".", maxsplit=1)[0]
            module = self.project.modules.get(bound)
            frame.variables[asname or bound] = Mod(module) if module is not None else Ext(bound)
        return False

    def _import_from(self, node: ir.ImportFrom, frame: Frame) -> bool:
        source = frame.module.absolute(node.module, node.level)
        module = self.project.modules.get(source)
        for name, asname in node.names:
            if name == "*":
                if module is not None and module is not frame.module:
                    frame.variables.update({k: v for k, v in self.module(module).variables.items() if not k.startswith("_")})
                continue
            value = self.of_module(module, name) if module is not None else None
            inner = self.project.modules.get(f"{source}.{name}")
            frame.variables[asname or name] = value if value is not None else Mod(inner) if inner is not None else Ext(f"{source}.{name}")
        return False

    # -- expressions

    def eval(self, node: ir.Expr, frame: Frame) -> Value:
        """What an expression computes."""
        self._left -= 1
        handler = _EXPRESSIONS.get(type(node))
        return handler(self, node, frame) if handler is not None else NONE

    def _name(self, node: ir.Name, frame: Frame) -> Value:
        current: Frame | None = frame
        while current is not None:
            found = current.variables.get(node.id)
            if found is not None:
                return found
            current = current.parent
        if frame.module in self._modules:
            found = self._modules[frame.module].variables.get(node.id)
            if found is not None:
                return found
            if node.id in frame.module.scope.names or frame.module.scope.stars:
                held = self.of_module(frame.module, node.id) if frame.module.scope.stars else None
                if held is not None and not isinstance(held, Ext):
                    return held
        if node.id in _BUILTINS:
            return Ext(f"builtins.{node.id}")
        made = self.terms.of("name", frame.module.name, node.id)
        self.name(node.id, made)
        return made

    def _attribute(self, node: ir.Attribute, frame: Frame) -> Value:
        receiver = self.eval(node.value, frame)
        if isinstance(receiver, Poly) and ir.last_name(node.value) in _ARRAYS and library.data(self, receiver, node.attr) is None:
            return Ext(f"torch.{node.attr}")
        value = self.attribute(receiver, node.attr, node, frame)
        if (
            isinstance(value, Poly)
            and isinstance(receiver, Poly)
            and node.attr not in library.METHODS
            and library.field_of(value) is not None
        ):
            # Of an object of which nothing is known: a field, unless it is called.
            typed = [r for r in self.flow.unit(Place(node, frame.module, frame.fn)).receivers.get(node, ()) if isinstance(r, Inst)]
            held = [self.attribute(self.instance(r.cls), node.attr, node, frame) for r in typed[:ALTERNATIVES]]
            value = either(held) if held else value
        self.name(node.attr, value)
        return value

    def _constant(self, node: ir.Constant, frame: Frame) -> Value:
        if isinstance(node.value, (int, float, complex)) and not isinstance(node.value, bool):
            return self.terms.number(node.value)
        return Lit(node.value)

    def _fstring(self, node: ir.FString, frame: Frame) -> Value:
        texts = [self.eval(p, frame) for p in node.parts]
        if all(isinstance(t, Lit) and isinstance(t.value, str) for t in texts):
            return Lit("".join(str(t.value) for t in texts if isinstance(t, Lit)))
        return Lit(object())

    def _binop(self, node: ir.BinOp, frame: Frame) -> Value:
        return self.binary(node.op, self.eval(node.left, frame), self.eval(node.right, frame), node, frame)

    def binary(self, op: str, left: Value, right: Value, node: ir.Node, frame: Frame) -> Value:
        """A binary operation on every pair of alternatives."""
        out = [self._operated(op, a, b, node, frame) for a in each(left) for b in each(right)]
        return out[0] if len(out) == 1 else either(out)

    def _operated(self, op: str, left: Value, right: Value, node: ir.Node, frame: Frame) -> Value:
        special = _SPECIAL.get(op)
        for owner, other, prefix in ((left, right, ""), (right, left, "r")):
            found = self.method(owner.cls, f"__{prefix}{special}__") if isinstance(owner, Obj) else None
            if found is not None:
                return self.call(Fun(found.fn, found.frame, owner), [other], {}, node, frame)
        if op == "|" and isinstance(left, Map) and isinstance(right, Map):
            return Map({**left.items, **right.items}, left.rest + right.rest)
        if op == "+" and isinstance(left, Seq) and isinstance(right, Seq):
            return Seq(left.items + right.items, left.many or right.many)
        if op == "+" and isinstance(left, Lit) and isinstance(right, Lit) and isinstance(left.value, str) and isinstance(right.value, str):
            return Lit(left.value + right.value)
        if op == "*" and isinstance(left, Seq):
            times = library.number_of(right)
            return Seq(left.items * times, left.many) if isinstance(times, int) and 0 < times < _UNROLLED else left
        name = _OPERATORS.get(op)
        if name is None:
            return self.tensor(left) if isinstance(left, Poly) else NONE
        return library.call(self, name, [left, right], {}, node, frame)

    def tensor(self, value: Value) -> Poly:
        """A value as a tensor; anything else is a tensor of which nothing is known."""
        if isinstance(value, Poly):
            return value
        if isinstance(value, Lit) and isinstance(value.value, bool):
            return self.terms.number(float(value.value))
        if isinstance(value, Alt):
            return next((v for v in value.options if isinstance(v, Poly)), self.terms.of("other", id(value)))
        if isinstance(value, Seq) and value.items and not value.many:
            return self.terms.of("stack", *(self.tensor(i) for i in value.items))
        if isinstance(value, Seq) and value.items:
            return self.tensor(value.items[0])
        return self.terms.of("other", value.value if isinstance(value, Lit) else id(value))

    def _unary(self, node: ir.UnaryOp, frame: Frame) -> Value:
        value = self.eval(node.operand, frame)
        out: list[Value] = []
        for option in each(value):
            negative = self.method(option.cls, "__neg__") if isinstance(option, Obj) and node.op == "-" else None
            if negative is not None:
                out.append(self.call(Fun(negative.fn, negative.frame, option), [], {}, node, frame))
            elif node.op == "-" and isinstance(option, Poly):
                out.append(self.terms.scaled(option, -1.0))
            elif node.op == "~" and isinstance(option, Poly):
                out.append(self.terms.minus(self.terms.one, option))
            elif node.op == "not":
                out.append(Lit(not option.value) if isinstance(option, Lit) and isinstance(option.value, bool) else Lit(object()))
            else:
                out.append(option)
        return either(out)

    def _boolop(self, node: ir.BoolOp, frame: Frame) -> Value:
        return either([self.eval(v, frame) for v in node.values])

    def _compare(self, node: ir.Compare, frame: Frame) -> Value:
        left = self.eval(node.left, frame)
        rights = [self.eval(c, frame) for c in node.comparators]
        if len(rights) == 1:
            return library.compared(self, node.ops[0], left, rights[0])
        return Lit(object())

    def _subscript(self, node: ir.Subscript, frame: Frame) -> Value:
        base, index = self.eval(node.value, frame), self.eval(node.index, frame)
        out: list[Value] = []
        for option in each(base):
            if isinstance(option, Obj):
                getter = self.method(option.cls, "__getitem__")
                if getter is not None:
                    out.append(self.call(Fun(getter.fn, getter.frame, option), [index], {}, node, frame))
                    continue
                option = self.iterated(option, node, frame)
            out.append(library.item(self, option, index))
        value = either(out)
        if isinstance(index, Lit) and isinstance(index.value, str):
            self.name(index.value, value)
        return value

    def _slice(self, node: ir.Slice, frame: Frame) -> Value:
        parts = [self.eval(p, frame) if p is not None else NONE for p in (node.lower, node.upper, node.step)]
        return Lit(("slice", *(library.token(p) for p in parts)))

    def _sequence(self, node: ir.Sequence, frame: Frame) -> Value:
        out = Seq([])
        for item in node.items:
            if isinstance(item, ir.Starred):
                for option in each(self.eval(item.value, frame)):
                    spread = self.iterated(option, node, frame)
                    out.items += spread.items
                    out.many = out.many or spread.many
                    break
            else:
                out.items.append(self.eval(item, frame))
        return out

    def _dict(self, node: ir.Dict, frame: Frame) -> Value:
        out = Map()
        for key, value in zip(node.keys, node.values, strict=True):
            held = self.eval(value, frame)
            if key is None:
                for option in each(held):
                    if isinstance(option, Map):
                        out.items.update(option.items)
                        out.rest += option.rest
            else:
                library.put(out, self.eval(key, frame), held)
        return out

    def _ifexp(self, node: ir.IfExp, frame: Frame) -> Value:
        test = self.eval(node.test, frame)
        if isinstance(test, Lit) and isinstance(test.value, bool):
            return self.eval(node.body if test.value else node.orelse, frame)
        return either([self.eval(node.body, frame), self.eval(node.orelse, frame)])

    def _comprehension(self, node: ir.Comprehension, frame: Frame) -> Value:
        inner = Frame(frame.module, frame.fn, frame, receiver=frame.receiver, branches=frame.branches, loops=frame.loops)
        made: list[tuple[Value, Value | None]] = []
        many = self._clauses(node, 0, inner, made)
        if node.value is not None:
            out = Map()
            for key, value in made:
                library.put(out, key, value if value is not None else NONE, soft=many)
            return out
        return Seq([m for m, _ in made], many)

    def _clauses(self, node: ir.Comprehension, number: int, frame: Frame, made: list[tuple[Value, Value | None]]) -> bool:
        if number == len(node.clauses):
            made.append((self.eval(node.element, frame), self.eval(node.value, frame) if node.value is not None else None))
            return False
        clause = node.clauses[number]
        many = False
        for option in each(self.eval(clause.iter, frame)):
            found = self.iterated(option, clause.iter, frame)
            many = many or found.many or len(found.items) > _UNROLLED
            for item in found.items[:_UNROLLED]:
                self.store(clause.target, item, frame, node)
                tests = [self.eval(t, frame) for t in clause.ifs]
                if not any(isinstance(t, Lit) and t.value is False for t in tests):
                    many = self._clauses(node, number + 1, frame, made) or many
        return many

    def iterated(self, value: Value, node: ir.Node, frame: Frame) -> Seq:
        """What iterating over a value yields."""
        if isinstance(value, Seq):
            return Seq(value.items[value.position :], value.many) if value.position else value
        if isinstance(value, Map):
            if isinstance(value, Record):
                return Seq(list(value.items.values()))
            return Seq([Lit(k) for k in value.items] or [Lit(object())], many=bool(value.rest) or not value.items)
        if isinstance(value, Alt):
            return self.iterated(value.options[0], node, frame)
        if isinstance(value, Obj):
            for name in ("__iter__", "__next__", "__getitem__"):
                found = self.method(value.cls, name)
                if found is not None:
                    given: list[Value] = [self.terms.of("loop", id(node))] if name == "__getitem__" else []
                    made = self.call(Fun(found.fn, found.frame, value), given, {}, node, frame)
                    if name == "__iter__" and not (isinstance(made, Obj) and made.cls is value.cls):
                        return self.iterated(made, node, frame)
                    if name != "__iter__":
                        return Seq([made], many=True)
            names = [n for c in reversed(self.mro(value.cls)) for n in field_names(c)]
            return Seq([self.attribute(value, n, node, frame) for n in names] or [self.terms.of("other", id(value))], many=not names)
        return library.elements(self, value, node)

    def _named(self, node: ir.NamedExpr, frame: Frame) -> Value:
        value = self.eval(node.value, frame)
        target = frame
        while target.parent is not None and target.parent.fn is target.fn:
            target = target.parent
        self.store(node.target, value, target, node)
        return value

    def _inner(self, node: ir.Await | ir.Starred, frame: Frame) -> Value:
        return self.eval(node.value, frame)

    def _yield(self, node: ir.Yield, frame: Frame) -> Value:
        value = self.eval(node.value, frame) if node.value is not None else NONE
        owner: Frame = frame
        while owner.parent is not None and owner.parent.fn is owner.fn:
            owner = owner.parent
        owner.sent = owner.sent or bool(frame.loops)
        if node.delegate:
            for option in each(value):
                spread = self.iterated(option, node, frame)
                owner.yielded += spread.items
                owner.sent = owner.sent or spread.many
            return NONE
        owner.yielded.append(value)
        return self.terms.of("sent", id(node))

    def _lambda(self, node: ir.Lambda, frame: Frame) -> Value:
        fn = self.project.function_of.get(node.function)
        if fn is None:
            return NONE
        self._made[fn] = Fun(fn, frame)
        return Fun(fn, frame)

    # -- calls

    def _call(self, node: ir.Call, frame: Frame) -> Value:
        func = self.eval(node.func, frame)
        if isinstance(func, Ext) and func.name == "builtins.super":
            current: Frame | None = frame
            while current is not None and (current.fn is None or current.fn.cls is None):
                current = current.parent
            return Super(current.fn.cls, current.receiver) if current is not None and current.fn is not None and current.fn.cls else NONE
        args: list[Value] = []
        keywords: dict[str, Value] = {}
        for arg in node.args:
            value = self.eval(arg.value, frame)
            if arg.star == "*":
                args += self.iterated(each(value)[0], node, frame).items
            elif arg.star == "**":
                for option in each(value):
                    if isinstance(option, Map):
                        keywords.update({str(k): v for k, v in option.items.items()})
            elif arg.keyword is not None:
                keywords[arg.keyword] = value
            else:
                args.append(value)
        out = [self.call(option, args, keywords, node, frame) for option in each(func)]
        value = either(out)
        name = ir.last_name(node.func)
        if isinstance(func, (Fun, Method, Poly)) or (isinstance(func, Ext) and name in ("cov", "dense")):
            self.name(f"{name}()", value)
        self._changed_in_place(node, func, args, keywords, value, frame)
        return value

    def _changed_in_place(
        self, node: ir.Call, func: Value, args: list[Value], keywords: dict[str, Value], value: Value, frame: Frame
    ) -> None:
        name = ir.last_name(node.func)
        out = next((a.value for a in node.args if a.keyword == "out"), None)
        if out is not None:
            for item in out.items[:1] if isinstance(out, ir.Sequence) else [out]:
                self.rebind(item, value, frame, node)
        elif isinstance(func, Method) and name.endswith("_") and not name.endswith("__") and isinstance(func.receiver, Poly):
            if isinstance(node.func, ir.Attribute):
                self._written(node.func.value, func.receiver, name, args, keywords, value, node, frame)
        elif isinstance(func, Alt) and name.endswith("_") and isinstance(node.func, ir.Attribute):
            for option in func.options:
                if isinstance(option, Method) and isinstance(option.receiver, Poly):
                    self._written(node.func.value, option.receiver, name, args, keywords, value, node, frame)
        elif isinstance(func, Ext) and name in ("add_", "mul_", "div_", "sub_", "copyto") and node.args:
            self.rebind(node.args[0].value, value, frame, node)

    def _written(self, target: ir.Expr, before: Poly, name: str, args: list[Value], keywords: dict[str, Value], value: Value, node: ir.Node,
                 frame: Frame) -> None:  # fmt: skip
        found = library.diagonal_of(before)
        if found is not None and found.constant == 0 and isinstance(target, ir.Call) and isinstance(target.func, ir.Attribute):
            self.rebind(target.func.value, self.terms.times(self.terms.eye, self.tensor(args[0] if args else value)), frame, node)
            return
        if found is not None and name != "zero_":
            given = args[0] if args else next(iter(keywords.values()), self.terms.one)
            self.observe("diagonal", node, frame, (found, given, -1 if name.startswith("sub") else 1))
            return
        while isinstance(target, ir.Call) and isinstance(target.func, ir.Attribute):  # of a chain, or of a view
            if ir.last_name(target.func) not in library.VIEWS and not ir.last_name(target.func).endswith("_"):
                return
            target = target.func.value
        if isinstance(target, ir.Subscript):
            base = self.eval(target.value, frame)
            if isinstance(base, Poly):
                self.rebind(target.value, library.stored(self, base, self.eval(target.index, frame), value), frame, node)
                return
        if isinstance(target, (ir.Name, ir.Attribute, ir.Subscript)):
            self.rebind(target, value, frame, node)

    def call(self, func: Value, args: list[Value], keywords: dict[str, Value], node: ir.Node, frame: Frame) -> Value:
        """What a call returns."""
        if isinstance(func, Fun):
            return self._inline(func, args, keywords, node, frame)
        if isinstance(func, Partial):
            return self.call(func.func, [*func.args, *args], {**func.keywords, **keywords}, node, frame)
        if isinstance(func, Klass):
            return self._constructed(func.cls, args, keywords, node, frame)
        if isinstance(func, Obj):
            for name in ("__call__", "forward"):
                found = self.method(func.cls, name)
                if found is not None:
                    return self._hooked(func, Fun(found.fn, found.frame, func), args, keywords, node, frame)
            return self._opaque(func, args, node, frame)
        if isinstance(func, Alt):
            return either([self.call(f, args, keywords, node, frame) for f in func.options])
        if isinstance(func, Taker):
            return library.taken(self, func, args, node, frame)
        if isinstance(func, Ext):
            return library.call(self, func.name, args, keywords, node, frame)
        if isinstance(func, Method):
            return self._method(func, args, keywords, node, frame)
        field = library.field_of(func) if isinstance(func, Poly) else None
        if field is not None:
            return self._method(Method(*field), args, keywords, node, frame)
        return self._opaque(func, args, node, frame)

    def _hooked(self, owner: Obj, run: Fun, args: list[Value], keywords: dict[str, Value], node: ir.Node, frame: Frame) -> Value:
        hooks = owner.attrs.get("_hooks")
        for hook in hooks.items if isinstance(hooks, Seq) and args else ():
            if isinstance(hook, Partial) and hook.args[1] == Lit(True):
                args = [self.call(hook, args[:1], {}, node, frame), *args[1:]]
        value = self.call(run, args, keywords, node, frame)
        for hook in hooks.items if isinstance(hooks, Seq) else ():
            if isinstance(hook, Partial) and hook.args[1] == Lit(False):
                value = self.call(hook, [value], {}, node, frame)
        return value

    def _method(self, func: Method, args: list[Value], keywords: dict[str, Value], node: ir.Node, frame: Frame) -> Value:
        if isinstance(func.receiver, Poly) and func.name not in library.METHODS:
            known = self._analysed(node, args, keywords, frame)
            return known if known is not None else library.call(self, f"torch.{func.name}", [func.receiver, *args], keywords, node, frame)
        return library.method(self, func.receiver, func.name, args, keywords, node, frame)

    def _analysed(self, node: ir.Node, args: list[Value], keywords: dict[str, Value], frame: Frame) -> Value | None:
        # What the analysis knows to be called.
        if not isinstance(node, ir.Call):
            return None
        found: list[Value] = []
        for callee in self.flow.callees(Place(node, frame.module, frame.fn)):
            if isinstance(callee, KnownFunc) and not callee.weak:
                made = self._made.get(callee.fn) or Fun(callee.fn, self.module(callee.fn.module))
                bound = self.instance(callee.fn.cls) if callee.bound and callee.fn.cls is not None else None
                found.append(self.call(Fun(made.fn, made.frame, bound), args, keywords, node, frame))
            elif isinstance(callee, Inst):
                found.append(self.call(self.instance(callee.cls), args, keywords, node, frame))
            if len(found) >= ALTERNATIVES:
                break
        return either(found) if found else None

    def _opaque(self, func: Value, args: list[Value], node: ir.Node, frame: Frame) -> Value:
        known = self._analysed(node, args, {}, frame) if not isinstance(func, (Obj, Lit)) else None
        return known if known is not None else self.unknown_call(library.token(func), args)

    def unknown_call(self, name: Any, args: list[Value]) -> Poly:
        """A result of which nothing is known but what it was made from."""
        return self.terms.of("call", name, *(library.token(a) for a in args))

    def _inline(self, func: Fun, args: list[Value], keywords: dict[str, Value], node: ir.Node, frame: Frame) -> Value:
        fn = func.fn
        given = [func.receiver, *args] if func.receiver is not None else list(args)
        if self.opaque(fn):
            built = self.unknown_call(fn.symbol, [*given, *keywords.values()])
            self.name("covariance()", built)
            return built
        if not (self.relevance.near(fn) or self.relevance.small(fn) or any(map(_interesting, [*given, *keywords.values()]))):
            return self.unknown_call(fn.symbol, [*given, *keywords.values()])
        if len(self._stack) >= _DEPTH or self._stack.count(fn) > 3 or (self._left <= 0 and len(self._stack) > 1):
            return self.unknown_call(fn.symbol, [*given, *keywords.values()])
        key = (fn, id(func.frame), *(library.token(g) for g in given), *((k, library.token(v)) for k, v in keywords.items()))
        simple = func.frame.fn is None and all(map(_unchanging, [*given, *keywords.values()]))
        if simple and key in self._memo:
            return self._memo[key]
        if len(self._stack) <= 1:
            self._left = _STEPS  # each call of the function that is run has its own share
        inner = Frame(fn.module, fn, func.frame, receiver=func.receiver)
        inner.branches = inner.loops = 0
        self._bind(fn, inner, given, keywords)
        if fn.cls is not None and inner.receiver is None and given:
            inner.receiver = given[0]
        value = self._body(fn, inner)
        if fn.module is self.home and frame.module is not self.home:
            value = either([self._sealed(v) for v in each(value)])
        if simple:
            self._memo[key] = value
        if inner.changed and isinstance(node, ir.Call):
            self._handed_back(fn, inner, func, node, frame)
        return value

    def _sealed(self, value: Value) -> Value:
        # What the builder's module has built is whole for everyone else.
        return self.terms.of("sealed", value) if isinstance(value, Poly) and len(value.terms) > 1 else value

    def _handed_back(self, fn: FunctionInfo, inner: Frame, func: Fun, node: ir.Call, frame: Frame) -> None:
        # A tensor that the function changed in place has changed for its caller, too.
        names = [p.name for p in fn.positional][1 if func.receiver is not None else 0 :]
        plain = [a.value for a in node.args if a.keyword is None and not a.star]
        given = {**dict(zip(names, plain, strict=False)), **{a.keyword: a.value for a in node.args if a.keyword}}
        for name, expr in given.items():
            if name in inner.changed and isinstance(expr, (ir.Name, ir.Attribute)) and isinstance(inner.variables.get(str(name)), Poly):
                self.rebind(expr, inner.variables[str(name)], frame, node)

    def _bind(self, fn: FunctionInfo, inner: Frame, given: list[Value], keywords: dict[str, Value]) -> None:
        left = dict(keywords)
        place = 0
        for param in fn.node.params:
            if param.kind == "*":
                inner.variables[param.name] = Seq(given[place:])
                place = len(given)
                continue
            if param.kind == "**":
                inner.variables[param.name] = Map({**left})
                continue
            if param.kind == "pos" and place < len(given):
                value = given[place]
                place += 1
            elif param.name in left:
                value = left.pop(param.name)
            elif param.default is not None:
                value = self.eval(param.default, inner.parent or inner)
            else:
                value = self._unknown(param, fn)
            inner.variables[param.name] = self.name(param.name, value)

    def _constructed(self, cls: ClassInfo, args: list[Value], keywords: dict[str, Value], node: ir.Node, frame: Frame) -> Value:
        made = Obj(cls)
        for owner in self.mro(cls):
            meta = next((a.value for a in owner.node.keywords if a.keyword == "metaclass"), None)
            held = self.eval(meta, self.module(owner.module)) if meta is not None else NONE
            caller = self.method(held.cls, "__call__") if isinstance(held, Klass) else None
            if caller is not None and caller.fn not in self._stack:
                return self.call(Fun(caller.fn, caller.frame, Klass(cls)), args, keywords, node, frame)
        init = self.method(cls, "__init__")
        if (self._left <= 0 and len(self._stack) > 1) or len(self._stack) >= _DEPTH:
            return made
        if init is not None:
            self.call(Fun(init.fn, init.frame, made), args, keywords, node, frame)
            return made
        names = list(dict.fromkeys(n for c in reversed(self.mro(cls)) for n in field_names(c)))
        given = {**dict(zip(names, args, strict=False)), **keywords}
        for name in names:
            value = given.get(name)
            if value is None:
                value = next((self.body_of(c).variables[name] for c in self.mro(cls) if name in self.body_of(c).variables), None)
                if isinstance(value, Partial) and value.func == Ext("dataclasses.field"):
                    factory = value.keywords.get("default_factory")
                    usual = value.keywords.get("default", NONE)
                    value = self.call(factory, [], {}, node, frame) if factory is not None else usual
            if value is not None:
                made.attrs[name] = self.name(name, value)
        for name, value in keywords.items():
            made.attrs.setdefault(name, value)
        if self._outside(cls, "Enum") and args:
            made.attrs["value"] = args[0]
        after = self.method(cls, "__post_init__")
        if after is not None:
            self.call(Fun(after.fn, after.frame, made), [], {}, node, frame)
        return made


def _unchanging(value: Value) -> bool:
    # Whether a call with this argument gives the same each time.
    if isinstance(value, (Alt, Seq)):
        return all(map(_unchanging, value.options if isinstance(value, Alt) else value.items)) and not getattr(value, "position", 0)
    return isinstance(value, (Poly, Lit, Ext, Klass)) or (isinstance(value, Obj) and value.shared)


def _interesting(value: Value) -> bool:
    # Whether a function that does nothing with matrices itself may do something with this argument.
    if isinstance(value, Poly):
        return any(a.kind in _OF_MATRICES for a in value.atoms())
    if isinstance(value, Alt):
        return any(map(_interesting, value.options))
    if isinstance(value, Seq):
        return any(map(_interesting, value.items[:ALTERNATIVES]))
    return isinstance(value, (Fun, Partial, Taker, Ext))


def _stores_fields(fn: FunctionInfo) -> bool:
    # Whether a method other than the constructor leaves something in its object for the others.
    if fn.cls is None or fn.node.name == "__init__":
        return False
    nodes = (n for n in ir.walk_own(fn.node.body) if isinstance(n, ir.Assign))
    return any(isinstance(t, ir.Attribute) and ir.last_name(t.value) == "self" for n in nodes for t in n.targets)


_STATEMENTS: dict[type[ir.Stmt], Any] = {
    ir.Assign: Symbolic._assign, ir.AugAssign: Symbolic._augmented, ir.If: Symbolic._if, ir.For: Symbolic._for,
    ir.While: Symbolic._while, ir.Try: Symbolic._try, ir.With: Symbolic._with, ir.Match: Symbolic._match, ir.Return: Symbolic._return,
    ir.Raise: Symbolic._raise, ir.Assert: Symbolic._assert, ir.Simple: Symbolic._simple, ir.ExprStmt: Symbolic._expression,
    ir.Function: Symbolic._function,
    ir.ClassDef: Symbolic._class, ir.Import: Symbolic._import, ir.ImportFrom: Symbolic._import_from,
}  # fmt: skip
_EXPRESSIONS: dict[type[ir.Expr], Any] = {
    ir.Name: Symbolic._name, ir.Attribute: Symbolic._attribute, ir.Constant: Symbolic._constant, ir.FString: Symbolic._fstring,
    ir.BinOp: Symbolic._binop, ir.UnaryOp: Symbolic._unary, ir.BoolOp: Symbolic._boolop, ir.Compare: Symbolic._compare,
    ir.Subscript: Symbolic._subscript, ir.Slice: Symbolic._slice, ir.Sequence: Symbolic._sequence, ir.Dict: Symbolic._dict,
    ir.IfExp: Symbolic._ifexp, ir.Comprehension: Symbolic._comprehension, ir.NamedExpr: Symbolic._named, ir.Await: Symbolic._inner,
    ir.Starred: Symbolic._inner, ir.Yield: Symbolic._yield, ir.Lambda: Symbolic._lambda, ir.Call: Symbolic._call,
}  # fmt: skip
