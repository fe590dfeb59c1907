"""Outside functions that run what they are given on their other arguments."""

from __future__ import annotations

from typing import TYPE_CHECKING

from audits.static import lookup
from audits.static.values import Func, Value, Values, bounded

if TYPE_CHECKING:
    from audits.static.interp import Interp

CALLING = frozenset(
    ["builtins.map", "builtins.filter", "builtins.sorted", "builtins.min", "builtins.max", "functools.reduce", "itertools.starmap",
     "itertools.accumulate", "itertools.groupby", "itertools.takewhile", "itertools.dropwhile", "itertools.filterfalse",
     "heapq.nsmallest", "heapq.nlargest", "torch.utils.checkpoint.checkpoint"]
)  # fmt: skip


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
