"""What a unit uses: its own nodes, the outside names behind an expression, and what a call passes."""

from __future__ import annotations

import builtins
from collections.abc import Collection, Iterable, Iterator

from audits.static.analysis.engine import Analysis, Unit
from audits.static.analysis.values import Ext, ExtInst, Values
from audits.static.dataflow.flow import Flow, Place, loop_pairs, pairs_of
from audits.static.source import ir
from audits.static.source.project import FunctionInfo, Scope, lookup_scope

_BUILTINS = frozenset(dir(builtins))
_DEPTH = 6


def own_nodes(unit: Unit) -> Iterator[ir.Node]:
    """Everything that runs with the unit: class bodies included, nested functions and annotations not."""
    if not unit.nodes:
        unit.nodes = tuple(_own_nodes(unit))
    return iter(unit.nodes)


def _own_nodes(unit: Unit) -> Iterator[ir.Node]:
    if unit.fn is None:
        yield from _body(unit.module.tree.body)
    else:
        for param in unit.fn.node.params:
            if param.default is not None:
                yield from ir.walk_own([ir.Return(param.line, param.column, param.end_line, param.end_column, param.default)])
        yield from _body(unit.fn.node.body)


def _body(body: list[ir.Stmt]) -> Iterator[ir.Node]:
    for node in ir.walk_own(body):
        yield node
        if isinstance(node, (ir.ClassDef, ir.Function)):
            # What stands around a definition runs where the definition stands.
            for outer in [*node.decorators, *(node.bases if isinstance(node, ir.ClassDef) else [])]:
                yield from ir.walk_own([ir.Return(outer.line, outer.column, outer.end_line, outer.end_column, outer)])
        if isinstance(node, ir.ClassDef):
            yield from _body(node.body)


def annotation_nodes(unit: Unit) -> set[int]:
    """The identities of the nodes inside annotations of the unit's assignments."""
    return {
        id(n) for node in own_nodes(unit) if isinstance(node, ir.Assign) and node.annotation is not None for n in ir.walk(node.annotation)
    }


def scope_of(unit: Unit) -> Scope:
    """The scope in which the unit's code looks names up."""
    return unit.fn.scope if unit.fn is not None else unit.module.scope


def name_values(analysis: Analysis, unit: Unit, name: str) -> Values:
    """What a plain name may stand for."""
    found = lookup_scope(scope_of(unit), name)
    if found is not None:
        return analysis.peek(analysis.name_key(found, name, hot=unit.hot)) or analysis.peek(analysis.name_key(found, name, hot=False))
    if name in _BUILTINS:
        return frozenset((Ext(f"builtins.{name}"),))
    outside = [m for m in unit.module.scope.stars if m not in analysis.project.modules]
    return frozenset(Ext(f"{m}.{name}") for m in outside)


def outside_names(analysis: Analysis, unit: Unit, expr: ir.Expr) -> set[str]:
    """The outside functions and classes that a name or an attribute may be."""
    if isinstance(expr, ir.Name):
        return {v.name for v in name_values(analysis, unit, expr.id) if isinstance(v, Ext)}
    if isinstance(expr, ir.Attribute):
        out: set[str] = set()
        for receiver in unit.receivers.get(expr, frozenset()):
            if isinstance(receiver, Ext):
                out.add(f"{receiver.name}.{expr.attr}")
            elif isinstance(receiver, ExtInst) and receiver.name == "torch.Tensor":
                out.add(f"torch.Tensor.{expr.attr}")
        return out
    return set()


def called_names(unit: Unit, call: ir.Call) -> set[str]:
    """The outside names that a call may call."""
    return {v.name for v in unit.calls.get(call, frozenset()) if isinstance(v, Ext)}


def cold_units(analysis: Analysis) -> list[Unit]:
    """Every module and function once."""
    return [*analysis.modules.values(), *analysis.cold.values()]


def place(unit: Unit, expr: ir.Expr) -> Place:
    """An expression as a place of a data flow."""
    return Place(expr, unit.module, unit.fn)


def keyword(call: ir.Call, name: str) -> ir.Expr | None:
    """The value of a keyword argument."""
    return next((a.value for a in call.args if a.keyword == name), None)


def positional(call: ir.Call) -> list[ir.Expr]:
    """The positional arguments before the first starred one."""
    out: list[ir.Expr] = []
    for arg in call.args:
        if arg.star:
            break
        if arg.keyword is None:
            out.append(arg.value)
    return out


def behind(flow: Flow, start: Place, depth: int = _DEPTH, within: Collection[FunctionInfo] | None = None) -> Iterator[Place]:
    """The expressions that a value may come from: the value itself where it is no name, field or call of the packages.

    Where `within` is given, only code of those functions, and of modules, is followed.
    """
    seen: set[int] = set()
    stack = [(start, depth)]
    while stack:
        current, left = stack.pop()
        if id(current.expr) in seen:
            continue
        seen.add(id(current.expr))
        expr = current.expr
        if isinstance(expr, ir.IfExp):
            stack += [(current.at(expr.body), left), (current.at(expr.orelse), left)]
            continue
        if isinstance(expr, ir.NamedExpr):
            stack.append((current.at(expr.value), left))
            continue
        sources = flow.sources(current) if left and isinstance(expr, (ir.Name, ir.Attribute, ir.Call)) else []
        if not sources or isinstance(expr, ir.Call):
            yield current
        stack += [(s, left - 1) for s in sources if within is None or s.fn is None or s.fn in within]


class Bindings:
    """What names are bound to, without what is only put into them: `x = v`, `for x in v` (an element) and arguments."""

    def __init__(self, flow: Flow) -> None:
        self.flow = flow
        self._index: dict[object, dict[str, list[tuple[ir.Expr, bool]]]] = {}

    def of(self, start: Place, name: str) -> list[tuple[Place, bool]]:
        """The expressions that a name may be bound to, each with whether it is bound to an element of it."""
        found = lookup_scope(start.fn.scope if start.fn is not None else start.module.scope, name)
        fn = found.function if found is not None and found.kind == "function" else start.fn if found is None else None
        if fn is not None:
            own = [(Place(e, fn.module, fn), element) for e, element in self._in(fn, fn.node.body).get(name, [])]
            return own + [(p, False) for p in self.flow.arguments(fn, name)] if found is not None else own
        module = found.module if found is not None else start.module
        own = [(Place(e, module, None), element) for e, element in self._in(module, module.tree.body).get(name, [])]
        if start.fn is not None:  # a variable of a comprehension may have the name as well
            own += [(start.at(e), element) for e, element in self._in(start.fn, start.fn.node.body).get(name, [])]
        return own or [(p, False) for p in self.flow.module_name(module, name)]

    def _in(self, owner: object, body: list[ir.Stmt]) -> dict[str, list[tuple[ir.Expr, bool]]]:
        if owner not in self._index:
            index: dict[str, list[tuple[ir.Expr, bool]]] = {}
            for node in _body(body):
                for name, value, element in _bound(node):
                    index.setdefault(name, []).append((value, element))
            self._index[owner] = index
        return self._index[owner]


def _bound(node: ir.Node) -> Iterator[tuple[str, ir.Expr, bool]]:
    pairs: list[tuple[ir.Expr, ir.Expr]] = []
    rows: list[tuple[ir.Expr, ir.Expr]] = []
    if isinstance(node, ir.Assign) and node.value is not None:
        pairs = [p for t in node.targets for p in pairs_of(t, node.value)]
    elif isinstance(node, ir.NamedExpr):
        pairs = [(node.target, node.value)]
    elif isinstance(node, ir.WithItem) and node.target is not None:
        pairs = pairs_of(node.target, node.context)
    elif isinstance(node, (ir.For, ir.CompFor)):
        rows = loop_pairs(node.target, node.iter)
        pairs = rows or pairs_of(node.target, node.iter)
    elif isinstance(node, ir.Match):
        pairs = [(b, node.subject) for c in node.cases for b in c.bindings]
    for target, value in pairs:
        if isinstance(target, ir.Name):
            yield target.id, value, isinstance(node, (ir.For, ir.CompFor)) and not rows


def constants(flow: Flow, start: Place) -> set[object]:
    """The literal values that an expression may have."""
    return {p.expr.value for p in behind(flow, start) if isinstance(p.expr, ir.Constant) and _hashable(p.expr.value)}


def _hashable(value: object) -> bool:
    return value is None or isinstance(value, (str, int, float, bool, complex, bytes))


def texts(flow: Flow, start: Place, depth: int = 4) -> set[str]:
    """The strings that an expression may be; joined literals are joined, loop variables take each item."""
    out: set[str] = set()
    for found in behind(flow, start):
        expr = found.expr
        if isinstance(expr, ir.Constant) and isinstance(expr.value, str):
            out.add(expr.value)
        elif isinstance(expr, ir.BinOp) and expr.op == "+" and depth:
            left, right = texts(flow, found.at(expr.left), depth - 1), texts(flow, found.at(expr.right), depth - 1)
            out |= {a + b for a in left for b in right if len(left) * len(right) <= 64}
        elif isinstance(expr, ir.FString) and depth:
            parts: list[Iterable[str]] = [texts(flow, found.at(p), depth - 1) for p in expr.parts]
            joined = [""]
            for part in parts:
                joined = [a + b for a in joined for b in part][:64]
            out.update(joined)
        elif depth:
            for item in _items(flow, found, expr):
                out |= texts(flow, item, depth - 1)
    return out


def _items(flow: Flow, found: Place, expr: ir.Expr) -> Iterator[Place]:
    # A display stands for what a loop over it yields, a subscript for the entries that it may choose.
    if isinstance(expr, ir.Sequence):
        yield from (found.at(i) for i in expr.items)
    elif isinstance(expr, ir.Dict):
        yield from (found.at(k) for k in expr.keys if k is not None)
    elif isinstance(expr, ir.Call) and isinstance(expr.func, ir.Attribute) and expr.func.attr == "values":
        for table in behind(flow, found.at(expr.func.value)):
            yield from (table.at(v) for v in (table.expr.values if isinstance(table.expr, ir.Dict) else ()))
    elif isinstance(expr, ir.Subscript):
        key = expr.index.value if isinstance(expr.index, ir.Constant) else None
        called = expr.value.func if isinstance(expr.value, ir.Call) else None
        pairs = isinstance(called, ir.Attribute) and called.attr == "items"
        base = called.value if pairs and isinstance(called, ir.Attribute) else expr.value
        for table in behind(flow, found.at(base)):
            if isinstance(table.expr, ir.Dict) and pairs:
                yield from (table.at(e) for e in (table.expr.keys if key == 0 else table.expr.values) if e is not None)
            elif isinstance(table.expr, ir.Dict):
                entries = zip(table.expr.keys, table.expr.values, strict=True)
                yield from (table.at(v) for k, v in entries if key is None or not isinstance(k, ir.Constant) or k.value == key)
            else:
                yield from (table.at(i) for i in _column(table.expr, key))


def _column(expr: ir.Expr, key: object) -> list[ir.Expr]:
    # An item of a sequence, or what unpacking each of its items binds.
    if not isinstance(expr, ir.Sequence) or not isinstance(key, int):
        return [expr]
    rows = [i.items for i in expr.items if isinstance(i, ir.Sequence)]
    if rows and len(rows) == len(expr.items):
        return [r[key] for r in rows if -len(r) <= key < len(r)]
    return [expr.items[key]] if -len(expr.items) <= key < len(expr.items) else expr.items
