"""Where a dictionary was written down, through what copies it and what lays other values over it."""

from __future__ import annotations

from audits.static.analysis.values import Func, Mod
from audits.static.dataflow import usage
from audits.static.dataflow.flow import Flow, Place
from audits.static.dataflow.value_origins import Origin, Origins
from audits.static.source import ir

_COPYING = frozenset(
    {"copy", "deepcopy", "dict", "OrderedDict", "MappingProxyType", "ChainMap", "merge", "create", "loads", "dumps", "vars",
     "Box", "ConfigDict", "DictConfig", "EasyDict", "Munch", "AttrDict", "DotMap"}
)  # fmt: skip


class Tables(Origins):
    """Origins that go on behind `deepcopy(D)`, `dict(D)`, `{**D, ...}`, `D | more`, and `{k: ... for k in D}`."""

    def __init__(self, flow: Flow) -> None:
        super().__init__(flow)
        self._extended: list[Place] = []

    def tables(self, place: Place) -> tuple[list[Place], list[Place]]:
        """What the value at a place was made from, and the dictionaries that lay their own entries over that."""
        before, self._extended = self._extended, []
        try:
            return self.of(place), self._extended
        finally:
            self._extended = before

    def _step(self, origin: Origin, depth: int) -> list[Origin]:
        found = super()._step(origin, depth) or [self._at(origin, e) for e in self._copied(origin.place)]
        return found or [Origin(p, None) for p in self._of_module(origin.place)]

    def _of_module(self, place: Place) -> list[Place]:
        # settings.DEFAULTS
        if not isinstance(place.expr, ir.Attribute):
            return []
        modules = [r.module for r in self.unit(place).receivers.get(place.expr, frozenset()) if isinstance(r, Mod)]
        return [p for m in modules for p in self.flow.module_name(m, place.expr.attr)]

    def _copied(self, place: Place) -> list[ir.Expr]:
        expr = place.expr
        if isinstance(expr, ir.BinOp) and expr.op == "|":
            return [expr.left, expr.right]
        if isinstance(expr, ir.Dict):
            spread = [v for k, v in zip(expr.keys, expr.values, strict=True) if k is None]
            if spread and len(spread) < len(expr.keys):
                self._extended.append(place)
            return spread
        if isinstance(expr, ir.Comprehension):
            return _keys_of(expr)
        if isinstance(expr, ir.Call) and not any(isinstance(c, Func) for c in self.unit(place).calls.get(expr, frozenset())):
            return self._of_copy(expr)
        return []

    def _of_copy(self, call: ir.Call) -> list[ir.Expr]:
        given = usage.positional(call)
        if ir.last_name(call.func) not in _COPYING:
            return []
        if not given:
            return [call.func.value] if isinstance(call.func, ir.Attribute) and call.func.attr == "copy" else []
        return given if not any(a.keyword for a in call.args) else []


def _keys_of(made: ir.Comprehension) -> list[ir.Expr]:
    # `{k: ... for k in D}` and `{k: ... for k, v in D.items()}` have the keys of D.
    if made.value is None or len(made.clauses) != 1:
        return []
    loop = made.clauses[0]
    first = loop.target.items[0] if isinstance(loop.target, ir.Sequence) and loop.target.items else loop.target
    if not isinstance(first, ir.Name) or not isinstance(made.element, ir.Name) or first.id != made.element.id:
        return []
    source = loop.iter
    if isinstance(source, ir.Call) and isinstance(source.func, ir.Attribute) and source.func.attr in ("items", "keys"):
        return [source.func.value]
    return [source] if first is loop.target else []
