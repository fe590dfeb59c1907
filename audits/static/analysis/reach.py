"""Which code an entry point reaches, and by which path."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

from audits.static.analysis import lookup
from audits.static.analysis.engine import Analysis, Key, Unit
from audits.static.analysis.interp import Interp
from audits.static.analysis.values import Cls, Func, Inst, Value, Values
from audits.static.findings import Step
from audits.static.source import ir
from audits.static.source.project import ClassInfo, FunctionInfo, ModuleInfo


@dataclass(frozen=True, slots=True)
class Reach:
    """Everything that one entry point reaches; `via` holds, for each function, who refers to it and where."""

    entry_point: str
    roots: tuple[FunctionInfo, ...]
    functions: tuple[FunctionInfo, ...]
    via: dict[FunctionInfo, tuple[FunctionInfo, int]]
    units: dict[FunctionInfo, Unit]

    def path_to(self, fn: FunctionInfo, line: int) -> tuple[Step, ...]:
        """From the entry point to a line of `fn`."""
        steps = [Step(fn.symbol, fn.module.relative, line)]
        while fn in self.via:
            fn, line = self.via[fn]
            steps.append(Step(fn.symbol, fn.module.relative, line))
        return tuple(reversed(steps))

    @property
    def call_sites(self) -> int:
        """How many calls were looked at."""
        return sum(len(self.units[fn].calls) for fn in self.functions)


def resolve(analysis: Analysis, reference: str) -> Values:
    """What `module:qualname` stands for, through re-exports, aliases and inheritance; empty where nothing does."""
    module_name, _, qualname = reference.partition(":")
    module = analysis.project.modules.get(module_name)
    if module is None:
        return frozenset()
    direct = analysis.project.find(reference)
    if isinstance(direct, FunctionInfo):
        return frozenset((Func(direct),))
    interp = Interp(analysis, Unit(module, None, hot=False))
    first, *rest = [p for p in qualname.split(".") if p != "<locals>"]
    values: Values = lookup.module_attribute(interp, module, first)
    for name in rest:
        found: set[Value] = set()
        for value in values:
            if isinstance(value, (Cls, Inst)):
                found |= lookup.attribute(interp, value, name)
        values = frozenset(v for v in found if isinstance(v, (Func, Cls, Inst)))
    return values


def entry_functions(analysis: Analysis, reference: str) -> list[FunctionInfo]:
    """The functions that an entry point names: a function, or a class or object by what calling it runs."""
    out: list[FunctionInfo] = []
    module = analysis.project.modules.get(reference.partition(":")[0])
    if module is None:
        return out
    interp = Interp(analysis, Unit(module, None, hot=False))
    for value in resolve(analysis, reference):
        if isinstance(value, Func):
            out.append(value.fn)
            if is_empty(value.fn) and value.fn.cls is not None:
                for sub in analysis.below(value.fn.cls):
                    out += lookup.methods(interp, sub, value.fn.node.name, exact=True)
        elif isinstance(value, Inst):
            out += [fn for fn, _ in lookup.call_targets(interp, value)]
        elif isinstance(value, Cls):
            out += lookup.constructors(interp, value)
            out += [fn for fn, _ in lookup.call_targets(interp, Inst(value.cls))]
    return list(dict.fromkeys(out))


def is_empty(fn: FunctionInfo) -> bool:
    """Whether the body does nothing: a docstring, `pass`, `...` or an unconditional NotImplementedError."""
    for statement in fn.node.body:
        if isinstance(statement, ir.Simple):
            continue
        if isinstance(statement, ir.ExprStmt) and isinstance(statement.value, ir.Constant):
            continue
        if isinstance(statement, ir.Raise) and statement.exc is not None:
            target = statement.exc.func if isinstance(statement.exc, ir.Call) else statement.exc
            if ir.last_name(target) == "NotImplementedError":
                continue
        if isinstance(statement, ir.Return) and (statement.value is None or _is_none(statement.value)):
            continue
        return False
    return True


def _is_none(expr: ir.Expr) -> bool:
    return isinstance(expr, ir.Constant) and expr.value in (None, ...)


def reach(analysis: Analysis, entry_point: str, roots: Iterable[FunctionInfo]) -> Reach:
    """Breadth first, so that every path is a shortest one."""
    units = analysis.hot
    followed: set[tuple[str, Key]] = set()
    order = [r for r in roots if r in units]
    starts = tuple(order)
    via: dict[FunctionInfo, tuple[FunctionInfo, int]] = {}
    seen = set(order)
    queue = deque(order)
    while queue:
        fn = queue.popleft()
        for ref in sorted(units[fn].refs, key=lambda r: (r.node.line, r.node.column)):
            if ref.method or ref.group:
                if (ref.method, ref.group) in followed:
                    continue
                followed.add((ref.method, ref.group))
            for target in analysis.targets(ref):
                if target not in seen and target in units:
                    seen.add(target)
                    via[target] = (fn, ref.node.line)
                    order.append(target)
                    queue.append(target)
    return Reach(entry_point, starts, tuple(order), via, units)


def symbol_at(module: ModuleInfo, line: int) -> str:
    """The function or class around a line, as `module:qualname`, or the module's name."""
    if module.spans is None:
        places: list[tuple[str, FunctionInfo | ClassInfo]] = [*module.functions.items(), *module.classes.items()]
        module.spans = [(info.node.line, max((n.end_line for n in ir.walk(info.node)), default=info.node.line), q) for q, info in places]
    around = [(first, qualname) for first, last, qualname in module.spans if first <= line <= last]
    return f"{module.name}:{max(around, key=lambda a: a[0])[1]}" if around else module.name
