"""Outside functions that run what they are given on their other arguments."""

from __future__ import annotations

from typing import TYPE_CHECKING

from audits.static.analysis import lookup
from audits.static.analysis.values import Ext, Func, Value, Values, bounded
from audits.static.source import ir
from audits.static.source.project import FunctionInfo

if TYPE_CHECKING:
    from audits.static.analysis.interp import Interp

CALLING = frozenset(
    ["builtins.map", "builtins.filter", "builtins.sorted", "builtins.min", "builtins.max", "functools.reduce", "itertools.starmap",
     "itertools.accumulate", "itertools.groupby", "itertools.takewhile", "itertools.dropwhile", "itertools.filterfalse",
     "heapq.nsmallest", "heapq.nlargest", "torch.utils.checkpoint.checkpoint"]
)  # fmt: skip
# The methods that library classes call on themselves, and that a class of the packages may have of its own.
_CALLED_BACK = {
    "torch.optim.lr_scheduler.": ("get_lr", "_get_closed_form_lr", "_initial_step", "step"),
    "torch.optim.": ("step", "zero_grad", "_init_group", "get_lr", "_get_closed_form_lr"),
    "torch.distributions.": ("sample", "rsample", "log_prob", "expand", "entropy"),
    "torch.utils.data.": ("__getitem__", "__getitems__", "__iter__", "__next__", "__len__"),
}


def called_back(i: Interp, callees: Values, node: ir.Call) -> None:
    """Note the overrides of the packages that a method of a library class calls back: `sched.step()` runs `get_lr`."""
    for callee in callees:
        if not isinstance(callee, Ext) or callee.name.rsplit(".", 1)[-1][:1].isupper():
            continue
        family = next((f for f in _CALLED_BACK if callee.name.startswith(f)), "torch.optim." if callee.name == "?.step" else "")
        if family and (callee.name.count(".") > family.count(".") or callee.name == "?.step"):
            for name in _CALLED_BACK[family]:
                i.record([Func(fn) for fn in i.a.project.methods_named.get(name, ()) if _derives(i, fn, family)], node, "callee")


def _derives(i: Interp, fn: FunctionInfo, family: str) -> bool:
    return fn.cls is not None and any(b.startswith(family) for b in i.a.outside_bases(i.unit, fn.cls))


def run(i: Interp, arguments: list[Values]) -> set[Value]:
    """Let the arguments flow into the parameters of those functions among them; what these return."""
    functions = {v for values in arguments for v in values if isinstance(v, Func)}
    given = bounded(e for values in arguments for e in lookup.elements(i, values - functions)) if functions else frozenset()
    out: set[Value] = set()
    for function in functions:
        for param in function.fn.node.params[1 if function.bound else 0 :]:
            i.push_name(function.fn.scope, param.name, given)
        out |= i.read("ret", function.fn, i.hot)
    return out
