"""Which literal numbers flow into a value (HPO001)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from audits.static.analysis.values import Cls, Ext, Func, Inst, Mod
from audits.static.dataflow.flow import Flow, Place, argument
from audits.static.findings import Step
from audits.static.source import ir
from audits.static.source.project import FunctionInfo

_CONFIGURED = ("config", "settings", "manifest", "options")
_NEUTRAL = (0, 1, -1)
_MAX_DEPTH = 40


@dataclass(frozen=True, slots=True)
class Literal:
    """A literal number, where it stands, and the way from the value to it."""

    place: Place
    path: tuple[Step, ...]


@dataclass(slots=True)
class LiteralSearch:
    """Follows a value backwards. Configuration ends the search; so do comparisons, keys and plain indices."""

    flow: Flow
    roots: tuple[str, ...]
    callers: set[FunctionInfo]
    seen: set[tuple[int, int]] = field(default_factory=set)
    inside: list[tuple[FunctionInfo, ir.Call, Place]] = field(default_factory=list)

    def find(self, place: Place) -> list[Literal]:
        """The literals in the data flow of one value; 0 and 1 count only where they are the whole value."""
        if numeric(place.expr) is not None:
            return [Literal(place, (place.step(),))]
        return list(self._search(place, (place.step(),)))

    def _search(self, place: Place, path: tuple[Step, ...]) -> Iterator[Literal]:
        expr = place.expr
        key = (id(expr), id(self.inside[-1][1]) if self.inside else 0)
        if key in self.seen or len(path) > _MAX_DEPTH:
            return
        self.seen.add(key)
        number = numeric(expr)
        if number is not None:
            if number not in _NEUTRAL:
                yield Literal(place, path)
            return
        if isinstance(expr, ir.Name):
            yield from self._name(place, expr, path)
        elif isinstance(expr, ir.Attribute):
            yield from self._attribute(place, expr, path)
        elif isinstance(expr, ir.Call):
            yield from self._call(place, expr, path)
        elif isinstance(expr, ir.Subscript):
            yield from self._subscript(place, expr, path)
        else:
            for part in _operands(expr):
                yield from self._search(place.at(part), path)

    def _onward(self, places: list[Place], path: tuple[Step, ...]) -> Iterator[Literal]:
        for place in places:
            step = place.step()
            yield from self._search(place, path if path and path[-1] == step else (*path, step))

    def _name(self, place: Place, expr: ir.Name, path: tuple[Step, ...]) -> Iterator[Literal]:
        if expr.id in self.roots:
            return
        # Inside a helper that was entered through a call, a parameter is that call's argument and no other's.
        if self.inside and place.fn is self.inside[-1][0]:
            fn, call, caller = self.inside[-1]
            names = [p.name for p in fn.node.params]
            if expr.id in names:
                own = [p for p in self.flow.definitions(place, expr.id) if p.fn is fn and p.expr.line >= fn.node.line]
                yield from self._argument(fn, call, caller, expr.id, path)
                yield from self._onward([p for p in own if any(p.expr is n for n in ir.walk(fn.node))], path)
                return
        # An argument from code that no trial runs says nothing about trials.
        found = self.flow.definitions(place, expr.id)
        yield from self._onward([p for p in found if p.fn is None or p.fn is place.fn or p.fn in self.callers], path)

    def _argument(self, fn: FunctionInfo, call: ir.Call, caller: Place, name: str, path: tuple[Step, ...]) -> Iterator[Literal]:
        positional = [p.name for p in fn.positional]
        bound = any(isinstance(c, Func) and c.fn is fn and c.bound for c in self.flow.callees(caller))
        value = argument(call, positional[1 if bound else 0 :], name)
        top = self.inside.pop()
        if value is not None:
            yield from self._onward([caller.at(value)], path)
        elif not any(a.star for a in call.args):
            defaults = [p.default for p in fn.node.params if p.name == name and p.default is not None]
            yield from self._onward([Place(d, fn.module, fn) for d in defaults], path)
        else:
            yield from self._onward([caller.at(a.value) for a in call.args if a.star], path)
        self.inside.append(top)

    def _attribute(self, place: Place, expr: ir.Attribute, path: tuple[Step, ...]) -> Iterator[Literal]:
        if self._configured(expr):
            return
        receivers = self.flow.receivers(place)
        followed = [
            r for r in receivers
            if isinstance(r, Mod)
            or (isinstance(r, (Inst, Cls)) and not any(w in r.cls.node.name.lower() for w in _CONFIGURED))
        ]  # fmt: skip
        if followed:
            found = self.flow.sources(place)
            yield from self._onward([p for p in found if p.fn is None or p.fn in self.callers], path)
        member = expr.attr == "value" and isinstance(expr.value, ir.Attribute)
        if member or not any(isinstance(r, (Inst, Mod, Cls)) for r in receivers):
            yield from self._search(place.at(expr.value), path)

    def _configured(self, expr: ir.Expr) -> bool:
        while isinstance(expr, (ir.Attribute, ir.Subscript)):
            if isinstance(expr, ir.Attribute) and expr.attr in self.roots:
                return True
            expr = expr.value
        return isinstance(expr, ir.Name) and expr.id in self.roots

    def _subscript(self, place: Place, expr: ir.Subscript, path: tuple[Step, ...]) -> Iterator[Literal]:
        if isinstance(expr.index, ir.Slice):
            bounds = [b for b in (expr.index.lower, expr.index.upper) if b is not None]
            for part in [*bounds, expr.value]:
                yield from self._search(place.at(part), path)
            return
        chosen = self._choose(place, expr)
        yield from self._onward(chosen if chosen is not None else [place.at(expr.value)], path)

    def _choose(self, place: Place, expr: ir.Subscript) -> list[Place] | None:
        # Element i of a function's tuple, or key k of a dictionary, where it can be told apart.
        if not isinstance(expr.index, ir.Constant):
            return None
        wanted = expr.index.value
        direct = [place.at(expr.value)]
        if isinstance(expr.value, (ir.Name, ir.Attribute)):
            direct = self.flow.sources(place.at(expr.value))
        if isinstance(expr.value, ir.Call) and self.flow.sources(direct[0]):
            return None if not self._tuple_returns(direct[0], wanted) else self._tuple_returns(direct[0], wanted)
        out: list[Place] = []
        for candidate in direct:
            value = candidate.expr
            if isinstance(value, ir.Dict):
                keys = [k.value if isinstance(k, ir.Constant) else None for k in value.keys]
                if wanted in keys:
                    out.append(candidate.at(value.values[keys.index(wanted)]))
                    continue
                return None
            if (
                isinstance(value, ir.Sequence)
                and len(direct) == 1
                and isinstance(wanted, int)
                and -len(value.items) <= wanted < len(value.items)
            ):
                out.append(candidate.at(value.items[wanted]))
                continue
            return None
        return out or None

    def _tuple_returns(self, place: Place, wanted: object) -> list[Place] | None:
        out = []
        for returned in self.flow.sources(place):
            value = returned.expr
            if not (isinstance(value, ir.Sequence) and isinstance(wanted, int) and wanted < len(value.items)):
                return None
            out.append(returned.at(value.items[wanted]))
        return out or None

    def _call(self, place: Place, expr: ir.Call, path: tuple[Step, ...]) -> Iterator[Literal]:
        callees = self.flow.callees(place)
        own = [c.fn for c in callees if isinstance(c, Func) and not c.weak]
        for fn in own:
            if len(self.inside) < 12 and all(fn is not f for f, _, _ in self.inside):
                self.inside.append((fn, expr, place))
                yield from self._onward(self.flow.returns(fn), path)
                self.inside.pop()
        if own:
            return
        names = {c.name.rpartition(".")[2] for c in callees if isinstance(c, Ext)} or {ir.last_name(expr.func)}
        arguments = [a.value for a in expr.args]
        if "round" in names or names & {"getattr", "get", "getenv", "pop", "setdefault"}:
            arguments = arguments[:1] if "round" in names else arguments[1:]
            arguments = arguments[1:] if "getattr" in names else arguments
        for value in arguments:
            text = value.value if isinstance(value, ir.Constant) else None
            if isinstance(text, str) and names & {"int", "float", "get", "getenv"} and _numeric_text(text):
                yield Literal(place.at(value), path)
            else:
                yield from self._search(place.at(value), path)
        if isinstance(expr.func, ir.Attribute) and not self._configured(expr.func):
            yield from self._search(place.at(expr.func.value), path)


def _operands(expr: ir.Expr) -> list[ir.Expr]:
    if isinstance(expr, (ir.Compare, ir.Lambda)):
        return []
    if isinstance(expr, ir.IfExp):
        return [expr.body, expr.orelse]
    if isinstance(expr, ir.Comprehension):
        return [p for p in (expr.element, expr.value, *(c.iter for c in expr.clauses)) if p is not None]
    return [c for c in ir.children(expr) if isinstance(c, ir.Expr)]


def numeric(expr: ir.Expr) -> float | None:
    """The number that a literal is."""
    if isinstance(expr, ir.UnaryOp) and expr.op in "+-":
        inner = numeric(expr.operand)
        return None if inner is None else (-inner if expr.op == "-" else inner)
    if isinstance(expr, ir.Constant) and isinstance(expr.value, (int, float)) and not isinstance(expr.value, bool):
        return expr.value
    return None


def _numeric_text(text: str) -> bool:
    return text.replace("_", "").replace(".", "").strip().isdigit()
