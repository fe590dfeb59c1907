"""Runs code on symbols: what every expression computes, through variables, containers, closures, objects and helpers.

Each function runs once with unknown arguments, and the packages' functions that it calls run inside it with what it passes.
Nothing is decided here: every operation on tensors is handed to `observe`, with its result and what it was made of.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from audits.static.dataflow.demands import field_names
from audits.static.dataflow.flow import Flow
from audits.static.source import ir
from audits.static.source.project import ClassInfo, FunctionInfo, ModuleInfo
from audits.static.subjects.symbolic import calls, expressions, library, statements
from audits.static.subjects.symbolic.relevance import Relevance
from audits.static.subjects.symbolic.symbols import (
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
    Seq,
    Super,
    Value,
    each,
    either,
)
from audits.static.subjects.symbolic.terms import Poly, Terms

if TYPE_CHECKING:
    from collections.abc import Iterable

_NUMBERS = frozenset({"float", "int", "bool"})


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
        self.made: dict[FunctionInfo, Fun] = {}
        self.modules: dict[ModuleInfo, Frame] = {}
        self.classes: dict[ClassInfo, Frame] = {}
        self.instances: dict[ClassInfo, Obj] = {}
        self.memo: dict[tuple[Any, ...], Value] = {}
        self.stack: list[FunctionInfo] = []
        self.left = calls.STEPS

    @staticmethod
    def either(values: list[Value]) -> Value:
        """Any of some values."""
        return either(values)

    @property
    def running(self) -> list[FunctionInfo]:
        """The functions that are being run, the innermost last."""
        return self.stack

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
        self.left = calls.STEPS
        made = self.made.get(fn) or Fun(fn, self.module(fn.module))
        frame = Frame(fn.module, fn, made.frame)
        for number, param in enumerate(fn.node.params):
            bound = number == 0 and fn.cls is not None and "staticmethod" not in fn.flags
            if bound and fn.cls is not None:
                frame.receiver = frame.variables[param.name] = Klass(fn.cls) if "classmethod" in fn.flags else self.instance(fn.cls)
            else:
                frame.variables[param.name] = self.unknown(param, fn)
        self.body(fn, frame)

    def unknown(self, param: ir.Param, fn: FunctionInfo) -> Value:
        """What stands for an argument of which nothing is known but the parameter's name and annotation."""
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
                if isinstance(made, Klass) and not self.outside(made.cls, "Protocol"):
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
        frame = self.modules.get(module)
        if frame is None:
            frame = self.modules[module] = Frame(module)
            left, self.left = self.left, calls.STEPS
            self.block(module.tree.body, frame)
            self.left = left
        return frame

    def instance(self, cls: ClassInfo) -> Obj:
        """What stands for every instance of a class, made by its constructor with unknown arguments."""
        found = self.instances.get(cls)
        if found is None:
            found = self.instances[cls] = Obj(cls, shared=True)
            init = self.method(cls, "__init__")
            if init is not None and init.fn not in self.stack:
                frame = Frame(init.fn.module, init.fn, init.frame, receiver=found)
                for number, param in enumerate(init.fn.node.params):
                    frame.variables[param.name] = self.unknown(param, init.fn) if number else found
                self.body(init.fn, frame)
                for name, held in list(found.attrs.items()):
                    if held == NONE and self._kept(cls, name):
                        found.attrs[name] = Alt((self._state(cls, name), NONE))
        return found

    def body(self, fn: FunctionInfo, frame: Frame) -> Value:
        """Run a function's body; what it returns or yields."""
        self.stack.append(fn)
        self.ran.add(fn)
        try:
            self.block(fn.node.body, frame)
        finally:
            self.stack.pop()
        if frame.yielded or frame.sent:
            return Seq(frame.yielded, many=frame.sent)
        if not frame.returned and self.flow.analysis.returns_value(fn):
            return self.terms.of("call", fn.symbol, *(library.token(v) for v in frame.variables.values() if isinstance(v, Poly)))
        return either(frame.returned)

    # -- classes

    def mro(self, cls: ClassInfo) -> list[ClassInfo]:
        """The class and those that it derives from, in order."""
        return self.flow.analysis.order(cls)

    def outside(self, cls: ClassInfo, name: str) -> bool:
        """Whether the class derives from something that is called so."""
        return any(ir.last_name(b.value if isinstance(b, ir.Subscript) else b) == name for c in self.mro(cls) for b in c.node.bases)

    def body_of(self, cls: ClassInfo) -> Frame:
        """The variables of a class body."""
        frame = self.classes.get(cls)
        if frame is None:
            frame = self.classes[cls] = Frame(cls.module, None, self.module(cls.module))
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
        if isinstance(getter, Fun) and getter.fn not in self.stack:
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
        if getter is not None and getter.fn not in self.stack:
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
                if self.outside(cls, "Enum") and not isinstance(held, Klass):
                    return Obj(cls, {"value": held, "name": Lit(name), "_value_": held})
                return held
        if name == "apply" and self.method(cls, "forward") is not None:
            forward = self.method(cls, "forward")
            assert forward is not None
            return Partial(forward, [self.terms.of("context", cls.symbol)], {})
        return Ext(f"class.{name}")

    def block(self, body: list[ir.Stmt], frame: Frame) -> bool:
        """Run statements; whether the block is left."""
        return statements.block(self, body, frame)

    def store(self, target: ir.Expr, value: Value, frame: Frame, node: ir.Node) -> None:
        """Bind an assignment target."""
        statements.store(self, target, value, frame, node)

    def store_attribute(self, owner: Value, name: str, value: Value, frame: Frame) -> None:
        """Bind an attribute."""
        statements.store_attribute(self, owner, name, value, frame)

    def rebind(self, target: ir.Expr, value: Value, frame: Frame, node: ir.Node) -> None:
        """Bind what a change in place has changed."""
        statements.rebind(self, target, value, frame, node)

    def eval(self, node: ir.Expr, frame: Frame) -> Value:
        """What an expression computes."""
        return expressions.evaluate(self, node, frame)

    def binary(self, op: str, left: Value, right: Value, node: ir.Node, frame: Frame) -> Value:
        """What an operator computes."""
        return expressions.binary(self, op, left, right, node, frame)

    def tensor(self, value: Value) -> Poly:
        """A value as a tensor."""
        return expressions.tensor(self, value)

    def iterated(self, value: Value, node: ir.Node, frame: Frame) -> Seq:
        """What iterating over a value yields."""
        return expressions.iterated(self, value, node, frame)

    def call(self, func: Value, args: list[Value], keywords: dict[str, Value], node: ir.Node, frame: Frame) -> Value:
        """What a call returns."""
        return calls.call(self, func, args, keywords, node, frame)

    def unknown_call(self, name: Any, args: list[Value]) -> Poly:
        """What a call of something unknown returns."""
        return calls.unknown_call(self, name, args)


def _stores_fields(fn: FunctionInfo) -> bool:
    # Whether a method other than the constructor leaves something in its object for the others.
    if fn.cls is None or fn.node.name == "__init__":
        return False
    nodes = (n for n in ir.walk_own(fn.node.body) if isinstance(n, ir.Assign))
    return any(isinstance(t, ir.Attribute) and ir.last_name(t.value) == "self" for n in nodes for t in n.targets)
