"""Where a value comes from, one step at a time, in the context of the calls on the way.

A demand asks for a part of an expression (`.effective` of a call, item 1 of a tuple) inside a chain of calls. A step
answers with the demands it rests on; a rule decides where to stop. Entering a function through a call binds its
parameters to that call's arguments; a demand that starts inside a function goes out to every call site.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from audits.static.analysis.values import Cls, Func, Inst, Mod, SuperOf
from audits.static.dataflow import outside
from audits.static.dataflow.arguments import empty
from audits.static.dataflow.backwards import NEAR, PATH
from audits.static.dataflow.demands import ELEMENT, Answer, Bound, Demand, Frame, field_names, is_infinite
from audits.static.dataflow.flow import Place
from audits.static.dataflow.reaching import ENTERED, Guard
from audits.static.dataflow.variables import Variables
from audits.static.source import ir
from audits.static.source.project import ClassInfo, FunctionInfo


class Origins(Variables):
    """Steps backwards over a finished analysis."""

    def step(self, demand: Demand) -> Answer:
        """What the demanded value rests on."""
        handler = _STEPS.get(type(demand.expr))
        if handler is None or len(demand.path) > PATH:
            return Answer("unknown")
        return handler(self, demand, demand.expr)

    def _attribute(self, demand: Demand, expr: ir.Attribute) -> Answer:
        receivers = self.flow.receivers(demand.place) or self.values(demand.place.at(expr.value))
        for receiver in receivers:
            if isinstance(receiver, Mod):
                return self._module_level(demand, receiver.module, expr.attr, demand.path)
        getters = [g for r in receivers if isinstance(r, (Inst, SuperOf)) for g in self._getters(r.cls, expr.attr)]
        if getters:
            return Answer("moved", tuple(d for g in getters for d in self.got(demand, g, expr.value, demand.path)))
        if any(isinstance(r, Cls) for r in receivers) and not any(isinstance(r, Inst) for r in receivers):
            found = [p for r in receivers if isinstance(r, Cls) for p in self.flow.field(r.cls, expr.attr)]
            if found:
                return Answer("moved", tuple(self.at(demand, p, demand.path, None) for p in found))
        return Answer("moved", (self.to(demand, expr.value, (("field", expr.attr), *demand.path)),))

    def _subscript(self, demand: Demand, expr: ir.Subscript) -> Answer:
        index = expr.index
        operated = self._operated(demand, expr)
        if operated is not None and not self._is_container(demand, expr.value):
            return operated
        if isinstance(index, ir.Slice):
            return Answer("moved", (self.to(demand, expr.value, demand.path),))
        if isinstance(index, ir.Constant):
            return Answer("moved", (self.to(demand, expr.value, (("item", index.value), *demand.path)),))
        if isinstance(index, ir.UnaryOp) and isinstance(index.operand, ir.Constant) and isinstance(index.operand.value, int):
            return Answer("moved", (self.to(demand, expr.value, (("item", -index.operand.value), *demand.path)),))
        chosen = self.chosen(demand, expr)
        if chosen is not None:
            return Answer("moved", tuple(chosen))
        deeper = demand.path if demand.path[:2] == (ELEMENT, ELEMENT) else (ELEMENT, *demand.path)
        return Answer("moved", (self.to(demand, expr.value, deeper),))

    def _is_container(self, demand: Demand, expr: ir.Expr) -> bool:
        # A list of objects is told from an object that can be indexed by where it was made.
        made: list[bool] = []

        def visit(found: Demand, answer: Answer) -> bool:
            if answer.kind != "moved" or found.path:
                made.append(isinstance(found.expr, (ir.Sequence, ir.Dict, ir.Comprehension)) or empty(found.expr))
            return answer.kind == "moved" and not found.path

        return self.walk(self.to(demand, expr, ()), visit, NEAR) and bool(made) and all(made)

    def chosen(self, demand: Demand, expr: ir.Subscript) -> list[Demand] | None:
        """For `table[key]` of a display, or `values[a if test else b]`: each entry under its key's condition."""
        if id(expr) in self._asked or len(self._asked) > 4:
            return None
        self._asked.add(id(expr))
        try:
            return self._entries(demand, expr)
        finally:
            self._asked.discard(id(expr))

    def _entries(self, demand: Demand, expr: ir.Subscript) -> list[Demand] | None:
        if isinstance(expr.index, ir.IfExp):
            out = []
            for branch, polarity in ((expr.index.body, True), (expr.index.orelse, False)):
                if not isinstance(branch, ir.Constant):
                    return None
                guard = Guard("if", expr.index.test, polarity)
                out.append(self.to(demand, expr.value, (("item", branch.value), *demand.path), (guard,)))
            return out
        keys = self.constants(replace(demand, place=demand.place.at(expr.index), path=()))
        if not keys or self._is_set_elsewhere(demand, expr.index):
            shown = self._display(demand, expr)  # what a field or an entry of a configuration starts as is not its only value
            if shown is not None or not keys:
                return shown
        return [
            replace(self.to(demand, expr.value, (("item", key), *demand.path)), guards=demand.guards + guards) for key, guards, _ in keys
        ]

    def _is_set_elsewhere(self, demand: Demand, index: ir.Expr) -> bool:
        # Whether a key is read from a field, or from an entry under a name.
        found: list[bool] = []

        def visit(current: Demand, answer: Answer) -> bool:
            inner = current.expr
            named = isinstance(inner, ir.Subscript) and isinstance(inner.index, ir.Constant) and isinstance(inner.index.value, str)
            found.append(named or isinstance(inner, ir.Attribute))
            return answer.kind == "moved" and not found[-1] and not current.path

        self.walk(Demand(demand.place.at(index), (), demand.frame), visit, NEAR)
        return any(found)

    def _display(self, demand: Demand, expr: ir.Subscript) -> list[Demand] | None:
        tables: list[Demand] = []

        def visit(found: Demand, answer: Answer) -> bool:
            if isinstance(found.expr, ir.Dict) and not found.path:
                tables.append(found)
                return False
            return answer.kind == "moved" and len(tables) < 4

        self.walk(Demand(demand.place.at(expr.value), (), demand.frame), visit, NEAR)
        if not tables:
            return None
        out = []
        for table in tables:
            display = table.expr
            assert isinstance(display, ir.Dict)
            for key, value in zip(display.keys, display.values, strict=True):
                chosen = key.value if isinstance(key, ir.Constant) else ir.dotted(key) if key is not None else None
                bound = Bound(Guard("case", expr.index, key=(chosen,)), demand.place, demand.frame)
                out.append(self.at(demand, table.place.at(value), demand.path, table.frame, (bound,)))
        return out or None  # a table that starts empty holds what is put into it

    def _call(self, demand: Demand, expr: ir.Call) -> Answer:
        place, path = demand.place, demand.path
        targets = self.targets(place)
        out: list[Demand] = []
        operator = isinstance(expr.func, ir.Attribute) and expr.func.attr.startswith("__")  # chosen by its object, not by a table
        named = isinstance(expr.func, ir.Name) and any(fn.node.name == expr.func.id for fn, _ in targets)
        variable = not isinstance(expr.func, ir.Attribute) and not named
        # Called by a name for an element of a list of functions, which the analysis does not tell from a function.
        element = isinstance(expr.func, (ir.Name, ir.Subscript)) and not targets and not self.classes(place)
        several = not operator and (len(targets) > 1 or element or (variable and bool(targets)))
        chosen, every = self._chosen_functions(demand, expr) if several else ({}, False)
        known = {fn for fn, _ in targets}
        replaced = {fn for fn in chosen if fn.node.decorators and self.flow.replacements(fn) & known}
        given = [(fn, False) for fn in chosen if fn not in known | replaced]  # `table.get(key, default)()`
        for fn, bound in [*targets, *given]:
            if every and fn not in chosen:
                continue  # another item of the same tuple, say
            frame = self.enter(fn, expr, place, demand.frame, bound)
            if frame is not None:
                out += self._returned(replace(demand, guards=demand.guards + chosen.get(fn, ())), fn, frame)
            elif self._turns_back(fn, demand.frame):
                return Answer("cycle")
        classes = self.classes(place)
        for cls in classes:
            inner = self._inner_values(demand, expr, cls) if path and path[0][0] in ("elem", "enter") else []
            if inner:
                out += inner
                continue
            rest = path[1:] if path and path[0] == ENTERED else path  # a context manager gives itself, as far as is known
            if not rest or rest[0][0] == "elem":
                return Answer("construct", self._parts(demand, expr))
            out += self._constructed(replace(demand, path=rest), expr, cls)
        if out:
            return Answer("moved", tuple(out))
        if targets or classes:
            return Answer("unknown", self._parts(demand, expr))
        return self._outside(demand, expr)

    def returned(self, demand: Demand, function: ir.Expr) -> list[Demand]:
        """What the functions that an expression stands for return."""
        return [d for fn in self.functions(demand.place.at(function)) for d in self._returned(demand, fn, None)]

    def _inner_values(self, demand: Demand, call: ir.Call, cls: ClassInfo) -> list[Demand]:
        # What iterating over a new object of the packages yields, or entering it in `with` gives.
        order = self.analysis.mro_cache.get(cls) or [cls]
        rest = demand.path[1:]
        names = (("__iter__", demand.path), ("__next__", rest), ("__getitem__", rest))
        for name, path in names if demand.path[0] != ENTERED else (("__enter__", rest), ("__aenter__", rest)):
            for owner in order:
                fn = owner.module.functions.get(f"{owner.qualname}.{name}")
                found = self.got(demand, fn, call, path) if fn is not None else []
                if found:
                    return found
        return []

    def _chosen_functions(self, demand: Demand, expr: ir.Call) -> tuple[dict[FunctionInfo, tuple[Bound, ...]], bool]:
        # `table[key](...)`: the condition under which each function of the table is the one that is called, and whether those are all.
        out: dict[FunctionInfo, tuple[Bound, ...]] = {}
        every = [True]

        def visit(found: Demand, answer: Answer) -> bool:
            if isinstance(found.expr, ir.Lambda):
                functions = [self.analysis.project.function_of.get(found.expr.function)]
            else:
                functions = [v.fn for v in self.values(found.place) if isinstance(v, Func)] if answer.kind == "function" else []
            out.update({fn: found.guards for fn in functions if fn is not None})
            every.append((answer.kind == "moved" and bool(answer.demands)) or (len(functions) == 1 and functions[0] is not None))
            return answer.kind == "moved" and len(out) < 20

        if id(expr) in self._choosing:
            return out, False
        self._choosing.add(id(expr))
        finished = self.walk(Demand(demand.place.at(expr.func), (), demand.frame), visit, NEAR)
        self._choosing.discard(id(expr))
        return out, finished and all(every) and 0 < len(out) < 20

    def _constructed(self, demand: Demand, call: ir.Call, cls: ClassInfo) -> list[Demand]:
        name, rest = demand.path[0][1], demand.path[1:]
        getters = self._getters(cls, str(name))
        if getters:
            return [d for g in getters for d in self.got(demand, g, call, rest)]
        order = self.analysis.mro_cache.get(cls) or [cls]
        for owner in order:
            init = owner.module.functions.get(f"{owner.qualname}.__init__")
            if init is not None:
                frame = self.enter(init, call, demand.place, demand.frame, bound=True)
                stored = self._stored_by(init, str(name))
                if frame is not None and stored:
                    put = self.contents(demand, cls, str(name), rest)
                    return [*put, *(self.at(demand, p, rest, frame) for p in stored if not (put and empty(p.expr)))]
                break
        fields = [f for owner in reversed(order) for f in field_names(owner)]
        if isinstance(name, int) and name < len(fields):
            name = fields[name]
        for arg in call.args:
            if arg.keyword == name:
                return [self.to(demand, arg.value, rest)]
            if arg.star == "**":
                return [self.to(demand, arg.value, (("item", name), *rest))]
        plain = [a for a in call.args if a.keyword is None]
        if name in fields and fields.index(str(name)) < len(plain) and not any(a.star for a in plain):
            return [self.to(demand, plain[fields.index(str(name))].value, rest)]
        if name in fields and plain and plain[0].star == "*":
            return [self.to(demand, plain[0].value, (("item", fields.index(str(name))), *rest))]
        return [d for stored in self.field(demand, cls, (("field", name), *rest)).demands for d in self._into(stored, call, order)]

    def _into(self, stored: Demand, call: ir.Call, order: list[ClassInfo]) -> list[Demand]:
        # What a method stores in a field, where it runs on the object that `call` makes and not on another one of its class.
        fn = stored.place.fn
        if fn is None or fn.cls not in order or stored.frame is not None:
            return [stored]
        frames: list[Frame | None] = []
        others = False
        for site, unit, bound in self.flow.sites(fn):
            caller = Place(site, unit.module, unit.fn)
            made = self._makers(caller.at(site.func.value)) if bound and isinstance(site.func, ir.Attribute) else None
            if made is not None and id(call) not in made:
                others = True
            else:
                frames.append(self.enter(fn, site, caller, None, bound))
        return [replace(stored, frame=frame) for frame in frames] if others else [stored]

    def _makers(self, receiver: Place) -> set[int] | None:
        # The calls that make an object; None where it may come from somewhere else.
        made: set[int] = set()
        whole = True

        def visit(found: Demand, answer: Answer) -> bool:
            nonlocal whole
            if answer.kind == "construct" and not found.path:
                made.add(id(found.expr))
            elif answer.kind != "moved":
                whole = False
            return answer.kind == "moved" and whole

        finished = id(receiver.expr) not in self._asked
        if finished:
            self._asked.add(id(receiver.expr))
            finished = self.walk(Demand(receiver), visit, NEAR)
            self._asked.discard(id(receiver.expr))
        return made if finished and whole and made else None

    def _stored_by(self, init: FunctionInfo, name: str) -> list[Place]:
        own = init.node.params[0].name if init.node.params else "self"
        return [
            Place(node.value, init.module, init)
            for node in ir.walk_own(init.node.body)
            if isinstance(node, ir.Assign) and node.value is not None
            for target in node.targets
            if isinstance(target, ir.Attribute) and target.attr == name and ir.last_name(target.value) == own
        ]

    def _parts(self, demand: Demand, expr: ir.Call) -> tuple[Demand, ...]:
        parts = [self.to(demand, a.value, ()) for a in expr.args]
        if isinstance(expr.func, ir.Attribute):
            parts.insert(0, self.to(demand, expr.func.value, ()))
        return tuple(parts)

    def _outside(self, demand: Demand, expr: ir.Call) -> Answer:
        moved = outside.through(self, demand, expr)
        return Answer("moved", tuple(moved)) if moved else Answer("outside", self._parts(demand, expr))

    def _constant(self, demand: Demand, expr: ir.Constant) -> Answer:
        return Answer("constant" if not demand.path else "unknown")

    def _sequence(self, demand: Demand, expr: ir.Sequence) -> Answer:
        if not demand.path:
            return Answer("composite", tuple(self.to(demand, i, ()) for i in expr.items))
        (kind, key), rest = demand.path[0], demand.path[1:]
        plain = not any(isinstance(i, ir.Starred) for i in expr.items)
        if kind == "item" and isinstance(key, int) and plain:
            there = -len(expr.items) <= key < len(expr.items)
            return Answer("moved", (self.to(demand, expr.items[key], rest),)) if there else Answer("unknown")
        return Answer("moved", tuple(
            self.to(demand, i.value, demand.path) if isinstance(i, ir.Starred) else self.to(demand, i, rest) for i in expr.items
        ))  # fmt: skip

    def _dict(self, demand: Demand, expr: ir.Dict) -> Answer:
        pairs = list(zip(expr.keys, expr.values, strict=True))
        if not demand.path:
            return Answer("composite", tuple(self.to(demand, v, ()) for _, v in pairs))
        (kind, wanted), rest = demand.path[0], demand.path[1:]
        if kind in ("item", "field"):
            out: list[Demand] = []
            for key, value in reversed(pairs):
                if key is None:
                    spread = self.to(demand, value, demand.path, (Guard("default", value),))
                    if self.has_item(spread) is not False:
                        out.append(spread)
                elif isinstance(key, ir.Constant) and key.value == wanted:
                    missing = tuple(Guard("default", v, polarity=False) for k, v in pairs if k is None) if out else ()
                    return Answer("moved", (*out, self.to(demand, value, rest, missing)))
                elif not isinstance(key, ir.Constant):
                    out.append(self.to(demand, value, rest))
            if len(out) == 1:
                out = [replace(out[0], guards=demand.guards)]  # nothing else can be meant
            return Answer("moved", tuple(out)) if out else Answer("unknown")
        return Answer("moved", tuple(self.to(demand, v, demand.path if k is None else rest) for k, v in pairs))

    def _ifexp(self, demand: Demand, expr: ir.IfExp) -> Answer:
        body = self.to(demand, expr.body, demand.path, (Guard("if", expr.test),))
        return Answer("moved", (body, self.to(demand, expr.orelse, demand.path, (Guard("if", expr.test, polarity=False),))))

    def _boolop(self, demand: Demand, expr: ir.BoolOp) -> Answer:
        out = []
        for i, value in enumerate(expr.values):
            guards = tuple(Guard("or" if expr.op == "or" else "if", v) for v in expr.values[:i])
            out.append(self.to(demand, value, demand.path, guards))
        return Answer("moved", tuple(out if expr.op == "or" else out[-1:]))

    def _operated(self, demand: Demand, expr: ir.Expr) -> Answer | None:
        # An operator of one of the packages' own classes is a call of its method; a display is none of them, whatever it holds.
        if isinstance(expr, ir.Subscript) and isinstance(expr.value, (ir.Sequence, ir.Dict, ir.Comprehension)):
            return None
        calls = self.flow.unit(demand.place).calls
        made = [c for c in self.analysis.operations.get(expr, {}).values() if c in calls]
        answers = [self._call(replace(demand, place=demand.place.at(c)), c) for c in made]
        found = tuple(d for a in answers if a.kind == "moved" for d in a.demands)
        return Answer("moved", found) if found else None

    def _binop(self, demand: Demand, expr: ir.BinOp) -> Answer:
        operated = self._operated(demand, expr)
        if operated is not None:
            return operated
        if expr.op == "|" and demand.path:
            sides = [self.to(demand, e, demand.path) for e in (expr.right, expr.left)]
            held = [self.has_item(d) if demand.path[0][0] == "item" else None for d in sides]
            kept = [d for d, has in zip(sides, held, strict=True) if has is not False] if held[0] is not True else sides[:1]
            return Answer("moved", tuple(kept)) if kept else Answer("unknown")
        repeated = [e for e in (expr.left, expr.right) if isinstance(e, ir.Sequence)] if expr.op == "*" and demand.path else []
        if repeated:
            return Answer("moved", tuple(self.to(demand, e, (ELEMENT, *demand.path[1:])) for e in repeated))
        if expr.op == "+" and demand.path:
            return Answer("moved", (self.to(demand, expr.left, demand.path), self.to(demand, expr.right, demand.path)))
        return Answer("arithmetic", (self.to(demand, expr.left, ()), self.to(demand, expr.right, ())))

    def _inner(self, demand: Demand, expr: ir.NamedExpr | ir.Await | ir.Starred) -> Answer:
        return Answer("moved", (self.to(demand, expr.value, demand.path),))

    def _comprehension(self, demand: Demand, expr: ir.Comprehension) -> Answer:
        if not demand.path:
            return Answer("composite", (self.to(demand, expr.value or expr.element, ()),))
        copied = _copied(expr)
        if copied is not None and demand.path[0][0] in ("item", "field"):
            return Answer("moved", (self.to(demand, copied, demand.path),))
        kept = tuple(Guard("if", test) for clause in expr.clauses for test in clause.ifs)
        return Answer("moved", (self.to(demand, expr.value or expr.element, demand.path[1:], kept),))

    def _unary(self, demand: Demand, expr: ir.UnaryOp) -> Answer:
        if isinstance(expr.operand, ir.Constant) and not demand.path:
            return Answer("constant")
        return Answer("arithmetic", (self.to(demand, expr.operand, ()),))

    def _compare(self, demand: Demand, expr: ir.Compare) -> Answer:
        return Answer("arithmetic", tuple(self.to(demand, e, ()) for e in (expr.left, *expr.comparators)))

    def _lambda(self, demand: Demand, expr: ir.Lambda) -> Answer:
        return Answer("function")


def _copied(expr: ir.Comprehension) -> ir.Expr | None:
    # X of `{k: v for k, v in X.items()}`: each key keeps its value.
    if expr.value is None or len(expr.clauses) != 1:
        return None
    target, source = expr.clauses[0].target, expr.clauses[0].iter
    if not (isinstance(source, ir.Call) and isinstance(source.func, ir.Attribute) and source.func.attr == "items" and not source.args):
        return None
    names = [i.id for i in target.items if isinstance(i, ir.Name)] if isinstance(target, ir.Sequence) else []
    kept = [e.id for e in (expr.element, expr.value) if isinstance(e, ir.Name)]
    return source.func.value if len(names) == 2 and names == kept else None


_STEPS: dict[type[ir.Expr], Callable[..., Answer]] = {
    ir.Name: Origins._name, ir.Attribute: Origins._attribute, ir.Subscript: Origins._subscript, ir.Call: Origins._call,
    ir.Constant: Origins._constant, ir.Sequence: Origins._sequence, ir.Dict: Origins._dict, ir.IfExp: Origins._ifexp,
    ir.BoolOp: Origins._boolop, ir.BinOp: Origins._binop, ir.NamedExpr: Origins._inner, ir.Await: Origins._inner,
    ir.Starred: Origins._inner, ir.Comprehension: Origins._comprehension, ir.UnaryOp: Origins._unary,
    ir.Compare: Origins._compare, ir.Lambda: Origins._lambda,
}  # fmt: skip

__all__ = ["ELEMENT", "Answer", "Bound", "Demand", "Frame", "Origins", "field_names", "is_infinite"]
