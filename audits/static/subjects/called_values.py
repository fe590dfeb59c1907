"""What a call calls, where the analysis has mixed it with what stands beside it in the same rows."""

from __future__ import annotations

from audits.static.analysis.engine import Unit
from audits.static.analysis.unknown_calls import is_foreign
from audits.static.analysis.values import DATA, OUTSIDE, Const, Ext, ExtInst, UnknownValue, Value
from audits.static.context import Context
from audits.static.dataflow import usage
from audits.static.dataflow.origins import Answer, Demand
from audits.static.source import ir

_NEAR = 400


def told_apart(context: Context, unit: Unit, func: ir.Node) -> bool:
    """Whether the call of `func`, of which something is known and something is not, calls only what is known.

    In `for weight, term in self.terms: term(x)` a container stands for its elements, so `term` may be any weight too.
    """
    call = next((c for c in unit.calls if c.func is func), None)
    if call is None or not isinstance(func, (ir.Name, ir.Subscript, ir.Attribute, ir.Call)):
        return False
    callees = unit.calls[call]
    if not any(_is_known(c) for c in callees - DATA) or any(isinstance(c, (Ext, ExtInst)) and is_foreign(c.name) for c in callees):
        return False
    found = unresolved = False

    def visit(demand: Demand, answer: Answer) -> bool:
        nonlocal found, unresolved
        values = context.origins.values(demand.place) if not demand.path and demand.expr is not func else frozenset()
        called = {v for v in values if not isinstance(v, Const) and v not in DATA}  # keys stand beside what they lead to
        if answer.kind == "function" or (called and all(_is_known(v) for v in called)):
            found = True
            return False
        unresolved = unresolved or answer.kind != "moved" or not answer.demands
        return not unresolved

    finished = context.origins.walk(Demand(usage.place(unit, func)), visit, _NEAR)
    return finished and found and not unresolved


def _is_known(value: Value) -> bool:
    by_name = isinstance(value, Ext) and value.name.startswith("?.")
    return not (by_name or isinstance(value, UnknownValue) or value is OUTSIDE)
