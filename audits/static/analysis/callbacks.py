"""Outside functions that run what they are given on their other arguments."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from audits.static.analysis import externals, lookup
from audits.static.analysis.values import Ext, Func, Value, Values, bounded
from audits.static.source import ir
from audits.static.source.project import FunctionInfo, Scope

if TYPE_CHECKING:
    from audits.static.analysis.externals import Argument
    from audits.static.analysis.interp import Interp

CALLING = frozenset(
    ["builtins.map", "builtins.filter", "builtins.sorted", "builtins.min", "builtins.max", "functools.reduce", "itertools.starmap",
     "itertools.accumulate", "itertools.groupby", "itertools.takewhile", "itertools.dropwhile", "itertools.filterfalse",
     "heapq.nsmallest", "heapq.nlargest", "torch.utils.checkpoint.checkpoint"]
)  # fmt: skip
_KEYED = frozenset(["sorted", "min", "max", "groupby", "nsmallest", "nlargest"])
_SECOND = {"accumulate": 1}
_OPTIONS = frozenset(["reverse", "default", "use_reentrant", "preserve_rng_state", "context_fn", "determinism_check", "debug"])
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


def run(i: Interp, name: str, arguments: list[Argument], scope: Scope) -> set[Value]:
    """What an outside function returns that calls what it is given on its other arguments, each where it belongs."""
    last = name.rsplit(".", 1)[-1]
    starred = any(a.star for a in arguments)
    plain = [a for a in arguments if a.keyword is None]
    position = None if last in _KEYED else min(_SECOND.get(last, 0), len(plain) - 1)
    called = [a for a in arguments if a.keyword in ("key", "func", "function") or (position is not None and plain and a is plain[position])]
    rest = [a for a in arguments if a not in called and a.keyword not in _OPTIONS]
    if starred:
        called = rest = arguments
    out: set[Value] = set()
    for callee in {v for a in called for v in a.values}:
        if last == "checkpoint":
            handed = rest
        elif starred or last in ("starmap", *_KEYED):
            every = bounded(e for a in rest for e in lookup.elements(i, a.values))
            handed = [replace(a, star="*", keyword=None, values=every) for a in rest[:1]]
        else:
            handed = [replace(a, keyword=None, values=lookup.elements(i, a.values)) for a in rest]
        if last in ("reduce", "accumulate") and handed and not starred:
            start = handed[0].values.union(*(a.values for a in rest[1:]))
            start |= externals.apply(i, callee, [replace(handed[0], values=start), handed[0]], None, scope)
            handed = [replace(handed[0], values=start), handed[0]]
        out |= externals.apply(i, callee, handed, None, scope)
    return out
