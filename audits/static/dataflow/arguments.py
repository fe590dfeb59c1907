"""Where a parameter's or a field's value comes from: the calls that pass it, the places that store it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from audits.static.analysis.values import Cls, Inst, Mod, SuperOf
from audits.static.dataflow.backwards import NEAR, Backwards
from audits.static.dataflow.demands import ELEMENT, Answer, Demand, Frame
from audits.static.dataflow.flow import ON_ELEMENTS, Place
from audits.static.dataflow.reaching import Def, Path
from audits.static.source import ir
from audits.static.source.project import ClassInfo, FunctionInfo

_EMPTY = frozenset({"dict", "list", "set", "OrderedDict", "defaultdict", "deque"})


class Arguments(Backwards):
    """Steps from parameters and fields."""

    def _parameter(self, demand: Demand, definition: Def, path: Path) -> Answer:
        fn = demand.place.fn
        assert fn is not None
        param = definition.node
        assert isinstance(param, ir.Param)
        if demand.frame is not None and demand.frame.fn is fn:
            return self._argument(demand, fn, param, path, demand.frame)
        if fn.cls is not None and fn.node.params and fn.node.params[0] is param and "staticmethod" not in fn.flags:
            return self.field(demand, fn.cls, path)
        out: list[Demand] = []
        missing = False
        sites = self.flow.sites(fn)
        for call, unit, bound in sites:
            if self.only is not None and unit.fn is not None and not self.only(unit.fn):
                continue
            caller = Place(call, unit.module, unit.fn)
            answer = self._argument(demand, fn, param, path, Frame(fn, call, caller, None, bound, 1))
            out += answer.demands
            missing = missing or answer.kind != "moved"
        out += self._handed(demand, fn, param, path)
        if "setter" in fn.flags and fn.positional[1:] == [param]:
            out += [self.at(demand, p, path, None) for p in self._set(fn)]
        if not out:
            typed = [v.cls for v in self.values(demand.place) if isinstance(v, Inst)] if path and path[0][0] == "field" else []
            for cls in typed:
                out += self.field(demand, cls, path).demands
        if not out and param.default is not None:
            out.append(self.at(demand, Place(param.default, fn.module, fn.enclosing), path, None))
        if not out:
            return Answer("parameter")
        return Answer("mixed-unknown" if missing else "moved", tuple(out))

    def _handed(self, demand: Demand, fn: FunctionInfo, param: ir.Param, path: Path) -> list[Demand]:
        # `map(fn, values)`: what is handed to `fn` by something outside that runs it.
        if param not in fn.positional:
            return []
        out = []
        for call, unit, index, bound in self.flow.handed(fn):
            number = fn.positional.index(param) - bound
            rest = [a.value for a in call.args[index + 1 :] if a.keyword is None and not a.star]
            name = ir.last_name(call.func)
            inner: Path = path
            if name == "starmap":
                number, inner = 0, (ELEMENT, ("item", number), *path)
            elif name == "reduce":
                inner = (ELEMENT, *path) if number == 1 or len(rest) == 1 else path
                number = 1 - number if len(rest) > 1 else 0
            elif name in ON_ELEMENTS:
                inner = (ELEMENT, *path)
            if self.only is not None and unit.fn is not None and not self.only(unit.fn):
                continue
            if 0 <= number < len(rest):
                out.append(self.at(demand, Place(rest[number], unit.module, unit.fn), inner, None))
            if name == "reduce" and param is fn.positional[0]:
                out += self._returned(replace(demand, path=path), fn, None)
        return out

    def _set(self, fn: FunctionInfo) -> list[Place]:
        # `box.parts = value` runs the setter of a property.
        out = []
        for owner, value in self.flow.stores(fn.node.name):
            holders = [v.cls for v in self.values(value.at(owner)) if isinstance(v, (Inst, SuperOf))]
            if any(fn.cls in (self.analysis.mro_cache.get(c) or [c]) for c in holders):
                out.append(value)
        return out

    def _argument(self, demand: Demand, fn: FunctionInfo, param: ir.Param, path: Path, frame: Frame) -> Answer:
        caller, outer = frame.caller, frame.outer
        positional = fn.positional
        call = frame.call
        if frame.bound and positional and positional[0] is param:
            called = any(isinstance(v, Inst) for v in self.flow.callees(caller))
            if isinstance(call.func, ir.Attribute) and call.func.attr != fn.node.name and not self.classes(caller):
                # `self.head(x)` runs a method of what the attribute holds.
                whole = self.at(demand, caller.at(call.func), path, outer)
                return Answer("moved", (whole,)) if called or fn.cls is None else self.field(demand, fn.cls, path)
            if isinstance(call.func, ir.Attribute) and not self.classes(caller):
                if not any(isinstance(v, (Cls, SuperOf, Mod)) for v in self.flow.receivers(caller.at(call.func))):
                    return Answer("moved", (self.at(demand, caller.at(call.func.value), path, outer),))
            elif not self.classes(caller):
                return Answer("moved", (self.at(demand, caller.at(call.func), path, outer),))
            return self.field(demand, fn.cls, path) if fn.cls is not None else Answer("unknown")
        given = list(self.passed(caller, fn, param, bound=frame.bound, path=path, frame=outer))
        if given:
            out = []
            for place, inner, at in given:
                out.append(self.at(demand, place, inner, at))
            return Answer("moved", tuple(out))
        if param.default is not None:
            return Answer("moved", (self.at(demand, Place(param.default, fn.module, fn.enclosing), path, None),))
        return Answer("unknown")

    def passed(
        self, caller: Place, fn: FunctionInfo, param: ir.Param, *, bound: bool, path: Path = (), frame: Frame | None = None
    ) -> Iterator[tuple[Place, Path, Frame | None]]:
        """What a call passes for a parameter: directly, by `*` and `**`, or bound before by `partial`."""
        call = caller.expr
        assert isinstance(call, ir.Call)
        names = [p.name for p in fn.positional][1 if bound else 0 :]
        early = self.partials(caller, frame) if bound is False or not isinstance(call.func, ir.Attribute) else []
        plain: list[tuple[Place, Path, Frame | None]] = []
        starred: tuple[Place, int] | None = None
        keywords: dict[str, tuple[Place, Path, Frame | None]] = {}
        spread: list[tuple[Place, Frame | None]] = []
        for site, args, at in [*early, (caller, call.args, frame)]:
            for arg in args:
                place = site.at(arg.value)
                if arg.star == "**":
                    spread.append((place, at))
                elif arg.star == "*":
                    starred = (place, len(plain))
                elif arg.keyword is not None:
                    keywords[arg.keyword] = (place, path, at)
                elif starred is None:
                    plain.append((place, path, at))
        if param.kind == "**":
            own = {p.name for p in fn.node.params}
            if path and path[0][0] == "item":
                if path[0][1] in keywords and path[0][1] not in own:
                    place, _, at = keywords[str(path[0][1])]
                    yield place, path[1:], at
                    return
            yield from ((p, path, at) for p, at in spread)
            return
        if param.kind == "*":
            rest = plain[len(names) :]
            if not fn.positional and isinstance(call.func, ir.Attribute) and self._is_method(caller.at(call.func)):
                rest = [(caller.at(call.func.value), path, frame), *rest]  # a decorator's function gets the receiver among its *args
            if path and path[0][0] == "item" and isinstance(path[0][1], int):
                yield from ((p, path[1:], at) for p, _, at in rest[path[0][1] : path[0][1] + 1])
            else:
                yield from ((p, path[1:], at) for p, _, at in rest)
            if starred is not None:
                yield starred[0], path, frame
            return
        if param.name in keywords:
            yield keywords[param.name]
        elif param.name in names and names.index(param.name) < len(plain):
            yield plain[names.index(param.name)]
        elif starred is not None and param.name in names:
            yield starred[0], (("item", names.index(param.name) - starred[1]), *path), frame
        else:
            yield from ((p, (("item", param.name), *path), at) for p, at in spread)

    def _is_method(self, place: Place) -> bool:
        # Whether an attribute is defined as a method of the object that it is taken of.
        made = [r.cls for r in self.flow.receivers(place) if isinstance(r, (Inst, SuperOf))]
        owners = [c for cls in made for c in self.analysis.mro_cache.get(cls) or [cls]]
        found = [c.module.functions.get(f"{c.qualname}.{ir.last_name(place.expr)}") for c in owners]
        return any(fn is not None and "staticmethod" not in fn.flags for fn in found)

    def partials(self, caller: Place, frame: Frame | None) -> list[tuple[Place, list[ir.Arg], Frame | None]]:
        """The arguments that `functools.partial` has bound to what a call runs, each with where they stand."""
        call = caller.expr
        assert isinstance(call, ir.Call)
        out: list[tuple[Place, list[ir.Arg], Frame | None]] = []
        if isinstance(call.func, ir.Call) and ir.last_name(call.func.func) in ("partial", "partialmethod"):
            out.append((caller.at(call.func), call.func.args[1:], frame))
        elif isinstance(call.func, (ir.Name, ir.Attribute)):
            found: list[tuple[Place, list[ir.Arg], Frame | None]] = []

            def visit(demand: Demand, answer: Answer) -> bool:
                expr = demand.expr
                if isinstance(expr, ir.Call) and ir.last_name(expr.func) in ("partial", "partialmethod"):
                    found.append((demand.place, expr.args[1:], demand.frame))
                    return False
                return answer.kind in ("moved", "mixed-unknown") and len(found) < 4

            if id(call) not in self._binding:
                self._binding.add(id(call))  # a function that is handed to itself leads back to this call
                self.walk(Demand(caller.at(call.func), (), frame), visit, NEAR)
                self._binding.discard(id(call))
            out += found[:1]
        return out

    def field(self, demand: Demand, cls: ClassInfo, path: Path) -> Answer:
        """A field of an instance of which only the class is known: anything that is ever stored there."""
        if not path or path[0][0] != "field":
            return Answer("parameter")
        name = str(path[0][1])
        getters = self._getters(cls, name)
        if getters:
            return Answer("moved", tuple(d for g in getters for d in self._returned(replace(demand, path=path[1:]), g, None)))
        rest = path[1:]
        put = self.contents(demand, cls, name, rest)
        found = [p for p in self.flow.field(cls, name) if not (put and empty(p.expr))]
        if not found and not put:
            return Answer("parameter")
        return Answer("moved", (*(self.at(demand, p, rest, None) for p in found), *put))

    def contents(self, demand: Demand, cls: ClassInfo, name: str, rest: Path) -> list[Demand]:
        """What is put into a field that is a container, anywhere, under the key that a path asks for."""
        if not rest or rest[0][0] == "field":
            return []
        put = [p for key, p in self.flow.contents(cls, name) if rest[0] == ELEMENT or key in (None, rest[0][1])]
        return [self.at(demand, p, rest[1:], None) for p in put]


def empty(expr: ir.Expr) -> bool:
    """Whether an expression makes a container with nothing in it."""
    if isinstance(expr, ir.Call):
        if ir.last_name(expr.func) == "field":
            return any(a.keyword == "default_factory" and ir.last_name(a.value) in _EMPTY for a in expr.args)
        return ir.last_name(expr.func) in _EMPTY and (not expr.args or ir.last_name(expr.func) == "defaultdict")
    return (isinstance(expr, ir.Dict) and not expr.keys) or (isinstance(expr, ir.Sequence) and not expr.items)
