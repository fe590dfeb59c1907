"""How a trainer selects: comparisons with a best value, what is stored, saved and returned."""

from __future__ import annotations

import re
from collections.abc import Iterator

from audits.static.analysis.values import Cls, Func, Inst
from audits.static.dataflow.expressions import key, without_neutral
from audits.static.dataflow.flow import Flow, Place, pairs_of
from audits.static.dataflow.origins import Answer, Demand, Origins, field_names, is_infinite
from audits.static.source import ir
from audits.static.source.project import FunctionInfo
from audits.static.subjects.primary import LOSS, SCORE, Leaf, Primary, hides_nan
from audits.static.subjects.selection_names import (
    FLIP,
    OTHER_FILES,
    base_of,
    is_initial,
    is_number,
    is_other,
    is_saving,
    is_zero,
    kept_values,
    named_best,
    root_name,
    says_best,
    starts_anew,
    within,
)

_HELPERS = re.compile(r"improv|better|best|select|stop|checkpoint|track|monitor|early|primary", re.I)
RESULT_FIELDS = ("objective", "best_objective", "best_score", "best_val", "best_value", "best", "score", "value")
_OPERATORS = {"operator.lt": "<", "operator.le": "<=", "operator.gt": ">", "operator.ge": ">="}


class Selection:
    """The comparisons, updates, saves and returns of one trainer."""

    def __init__(self, origins: Origins, primary: str, roots: list[FunctionInfo]) -> None:
        self.origins = origins
        self.flow: Flow = origins.flow
        self.roots = roots
        self.primary = primary
        self.quantities = Primary(origins, primary)
        home = {r.cls for r in roots if r.cls is not None}
        reached = self.flow.cold_path(roots)
        self.functions = [
            f for f in reached
            if f in roots or (f.cls is not None and f.cls in home) or f.module in {r.module for r in roots}
            or _HELPERS.search(f.qualname)
        ]  # fmt: skip
        self.above: dict[int, list[ir.Node]] = {}
        for fn in self.functions:
            for statement in fn.node.body:
                self._index(statement, [])
        self.kept = {k for fn in self.functions for k in kept_values(fn)}
        self.sites = [s for fn in self.functions for s in self._comparisons(fn)]
        self.site_ids = {id(place.expr) for place, _, _ in self.sites}
        self.best_names = {root_name(base_of(best.expr)) for _, _, best in self.sites} - {"self", ""}

    def _index(self, node: ir.Node, above: list[ir.Node]) -> None:
        self.above[id(node)] = above
        if isinstance(node, (ir.Function, ir.ClassDef)):
            return
        for child in ir.children(node):
            self._index(child, [*above, node])

    def _comparisons(self, fn: FunctionInfo) -> Iterator[tuple[Place, Place, Place]]:
        for node in ir.walk_own(fn.node.body):
            if isinstance(node, ir.Compare) and len(node.ops) == 1 and node.ops[0] in FLIP:
                place = Place(node, fn.module, fn)
                left, right = place.at(node.left), place.at(node.comparators[0])
                if is_infinite(node.left) or is_infinite(node.comparators[0]):
                    continue  # whether there is a best value at all
                if self._is_best(right.expr) and not self._is_best(left.expr):
                    yield place, left, right
                elif self._is_best(left.expr) and not self._is_best(right.expr):
                    yield place, right, left
                elif (
                    isinstance(node.left, ir.BinOp)
                    and node.left.op == "-"
                    and is_zero(node.comparators[0])
                    and self._is_best(node.left.right)
                ):
                    yield place, place.at(node.left.left), place.at(node.left.right)
            elif isinstance(node, ir.Call) and ir.dotted(node.func) in _OPERATORS and len(node.args) == 2:
                place = Place(node, fn.module, fn)
                first, second = place.at(node.args[0].value), place.at(node.args[1].value)
                if self._is_best(first.expr) != self._is_best(second.expr):
                    yield (place, first, second) if self._is_best(second.expr) else (place, second, first)

    def faults(self) -> Iterator[tuple[Place, str]]:
        """Everything that is wrong, where it is wrong."""
        for place, candidate, best in self.sites:
            if not self._lower_wins(place, candidate, best):
                yield place, "the comparison with the best value lets the higher value win; lower is better"
            fault = self.primary_fault(candidate)
            if fault is not None:
                yield place, f"what is compared with the best value {fault}"
        for fn in self.functions:
            yield from self._updates(fn)
        for fn in self._beginnings():
            yield from self._starts(fn)
        yield from self._saves()
        for root in self.roots:
            for returned in self.flow.returns(root):
                if not self._returns_best(returned, 6):
                    yield returned, "fit() returns something else than the best value that selected the model"

    # -- direction

    def _lower_wins(self, place: Place, candidate: Place, best: Place) -> bool:
        compare = place.expr
        if isinstance(compare, ir.Call):
            sign = _OPERATORS[ir.dotted(compare.func) or ""]
            op = sign if best.expr is compare.args[1].value else FLIP[sign]
        else:
            assert isinstance(compare, ir.Compare)
            op = compare.ops[0] if best.expr is not compare.left else FLIP[compare.ops[0]]
        if isinstance(candidate.expr, ir.UnaryOp) and candidate.expr.op == "-":
            op = FLIP[op]
        above = self.above.get(id(compare), [])
        negated = sum(isinstance(a, ir.UnaryOp) and a.op == "not" for a in above) % 2 == 1
        tested = next((a for a in reversed(above) if isinstance(a, ir.If) and within(compare, a.test)), None)
        if tested is not None and self._acts_otherwise(tested):
            negated = not negated
        return (op in ("<", "<=")) != negated

    def _acts_otherwise(self, node: ir.If) -> bool:
        body = any(self._stores_best(n) for s in node.body for n in ir.walk(s))
        orelse = any(self._stores_best(n) for s in node.orelse for n in ir.walk(s))
        if body or not node.body:
            return False
        last = node.body[-1]
        leaves = isinstance(last, ir.Simple) and last.kind in ("continue", "break")
        false = isinstance(last, ir.Return) and isinstance(last.value, ir.Constant) and last.value.value in (False, None)
        return orelse or leaves or false

    def _stores_best(self, node: ir.Node) -> bool:
        targets = node.targets if isinstance(node, ir.Assign) else []
        flat = [i for t in targets for i in (t.items if isinstance(t, ir.Sequence) else [t])]
        return any(root_name(t) in self.best_names and (not isinstance(t, ir.Subscript) or self._is_best(t)) for t in flat)

    # -- the primary

    def _is_best(self, expr: ir.Expr) -> bool:
        return named_best(expr) or key(base_of(expr)) in self.kept

    def primary_fault(self, place: Place) -> str | None:
        """Why a value is not the configured primary, or None where it is."""
        leaves = self.quantities.leaves(Demand(place))
        if any(leaf.flipped and leaf.what in ("score", "loss") for leaf in leaves):
            return "has its sign turned round; the score and the loss are both lower where the model is better"
        if any(leaf.what == "score" and self.quantities.possible(leaf, LOSS) for leaf in leaves):
            return f"does not depend on {self.primary!r}: it is the score where the loss is configured"
        if any(self._plain_loss(leaf) for leaf in leaves):
            return f"does not depend on {self.primary!r}: it is the loss where the score is configured"
        if self.quantities.decided(leaves) or any(leaf.what == "loss" for leaf in leaves) or self._mentions_primary(place):
            return None
        return f"does not depend on {self.primary!r}"

    def _plain_loss(self, leaf: Leaf) -> bool:
        return (
            leaf.what == "loss"
            and self.quantities.possible(leaf, SCORE)
            and (self.quantities.chosen(leaf) or not self.quantities.open(leaf))
        )

    def fallbacks(self, start: Demand) -> Iterator[tuple[Leaf, str]]:
        """The alternatives of a value that stand in for a metric that could not be computed."""
        leaves = self.quantities.leaves(start)
        for leaf in leaves:
            if not self.quantities.possible(leaf, SCORE):
                continue
            standing_in = self.quantities.open(leaf)
            if leaf.what == "lost":
                yield leaf, "this value has more origins than can be followed; nothing shows that the loss never stands in for the score"
            if leaf.what == "loss" and standing_in:
                yield leaf, "the loss stands in for the score where the score is configured"
            elif leaf.hidden and leaf.hidden != "a constant":
                yield leaf, f"the score is computed with {leaf.hidden}"
            elif leaf.hidden and standing_in and any(other.what in ("score", "unknown") for other in leaves if other is not leaf):
                yield leaf, "a constant stands in for the score where the score could not be computed"
            elif standing_in and any(b.guard.kind == "default" and hides_nan(b.guard.test) for b in leaf.demand.guards):
                yield leaf, "what is not a number is replaced and then compared like a score"

    def starts(self) -> Iterator[Demand]:
        """What is compared, kept and returned."""
        for _, candidate, _ in self.sites:
            yield Demand(candidate)
        for fn in self.functions:
            yield from (Demand(value) for _, value in self._stored(fn))
        for root in self.roots:
            for node in ir.walk_own(root.node.body):
                if isinstance(node, ir.Return) and node.value is not None:
                    place = Place(node.value, root.module, root)
                    yield Demand(place, self._result_path(place), None, self.origins.statement_guards(place, node, None))

    def _result_path(self, place: Place) -> tuple[tuple[str, object], ...]:
        names: list[str] = []
        for value in self.origins.values(place):
            if isinstance(value, Inst):
                names += field_names(value.cls) + [n.attr for f in value.cls.module.functions.values() if f.cls is value.cls
                                                   for n in ir.walk_own(f.node.body) if isinstance(n, ir.Attribute)]  # fmt: skip
        if isinstance(place.expr, ir.Dict):
            keys = [k.value for k in place.expr.keys if isinstance(k, ir.Constant)]
            return next(((("item", n),) for n in RESULT_FIELDS if n in keys), ())
        if isinstance(place.expr, ir.Sequence):
            return (("item", 0),)
        return next(((("field", n),) for n in RESULT_FIELDS if n in names), ())

    def _mentions_primary(self, place: Place) -> bool:
        pending, seen = [place], set[int]()
        while pending and len(seen) < 400:
            current = pending.pop()
            if id(current.expr) in seen:
                continue
            seen.add(id(current.expr))
            if self.quantities.mentioned(current.expr):
                return True
            pending += self._before(current)
        return False

    def _before(self, place: Place) -> list[Place]:
        expr = place.expr
        out = self.flow.sources(place)
        if isinstance(expr, ir.Call):
            if not out:
                out = [place.at(a.value) for a in expr.args]
                out += [place.at(expr.func.value)] if isinstance(expr.func, ir.Attribute) else []
        elif isinstance(expr, (ir.Attribute, ir.Subscript)):
            if not out:
                out = [place.at(expr.value)]
                out += [place.at(expr.index)] if isinstance(expr, ir.Subscript) else []
        elif isinstance(expr, (ir.BinOp, ir.UnaryOp, ir.BoolOp, ir.IfExp, ir.Compare, ir.NamedExpr)):
            out = [place.at(c) for c in ir.children(expr) if isinstance(c, ir.Expr)]
        return out

    # -- conditions

    def _conditional(self, node: ir.Node, fn: FunctionInfo, depth: int = 4) -> bool:
        """Whether `node` runs only after an improvement."""
        above = self.above.get(id(node), [])
        for ancestor in above:
            if isinstance(ancestor, ir.If) and not within(node, ancestor.test):
                if any(within(node, s) for s in ancestor.orelse) and any(self._stores_best(n) for s in ancestor.body for n in ir.walk(s)):
                    continue  # the branch for what is no improvement
                if not self._loosened(ancestor.test, fn) and self._linked(Place(ancestor.test, fn.module, fn), 5):
                    return True
            if isinstance(ancestor, ir.IfExp) and self._linked(Place(ancestor.test, fn.module, fn), 5):
                return True
        if self._after_exit(node, fn, above):
            return True
        callers = [
            (call, unit.fn) for call, unit, _ in self.flow.call_sites.get(fn, [])
            if unit.fn is not None and unit.fn in self.functions and unit.fn is not fn
        ]  # fmt: skip
        return (
            bool(callers)
            and depth > 0
            and fn not in self.roots
            and all(self._conditional(call, caller, depth - 1) for call, caller in callers)
        )

    def _loosened(self, test: ir.Expr, fn: FunctionInfo) -> bool:
        # `improved or epoch % 5 == 0` is no condition of an improvement; `first epoch or improved` is.
        if not isinstance(test, ir.BoolOp) or test.op != "or":
            return False
        return any(not self._linked(Place(v, fn.module, fn), 5) and not starts_anew(v) for v in test.values)

    def _after_exit(self, node: ir.Node, fn: FunctionInfo, above: list[ir.Node]) -> bool:
        blocks = [fn.node.body] + [b for a in above for b in (getattr(a, "body", None),) if isinstance(b, list)]
        for block in blocks:
            for statement in block:
                if any(n is node for n in ir.walk(statement)):
                    break
                if isinstance(statement, ir.If) and statement.body and not statement.orelse:
                    leaves = isinstance(statement.body[-1], ir.Return) or (
                        isinstance(statement.body[-1], ir.Simple) and statement.body[-1].kind in ("continue", "break")
                    )
                    if leaves and self._linked(Place(statement.test, fn.module, fn), 5):
                        return True
        return False

    def _linked(self, place: Place, depth: int) -> bool:
        for node in ir.walk(place.expr):
            if id(node) in self.site_ids:
                return True
            if isinstance(node, (ir.Name, ir.Attribute, ir.Call)) and depth:
                inner = place.at(node)
                if isinstance(node, ir.Call):
                    own = [c.fn for c in self.flow.callees(inner) if isinstance(c, Func) and not c.weak]
                    if any(place_.fn is fn and self._answers(fn) for fn in own for place_, _, _ in self.sites):
                        return True
                if any(self._linked(s, depth - 1) for s in self.flow.sources(inner) if s.fn in self.functions):
                    return True
        return False

    def _answers(self, fn: FunctionInfo) -> bool:
        # Whether what a helper returns tells an improvement: it says True only under its comparison.
        for node in ir.walk_own(fn.node.body):
            if isinstance(node, ir.Return) and isinstance(node.value, ir.Constant) and node.value.value is True:
                if not self._conditional(node, fn, 0):
                    return False
        return True

    # -- updates and saves

    def _stored(self, fn: FunctionInfo) -> Iterator[tuple[ir.Assign, Place]]:
        """What `fn` stores as the best value."""
        for node in ir.walk_own(fn.node.body):
            if not isinstance(node, ir.Assign) or node.value is None or not self._stores_best(node):
                continue
            for target in node.targets:
                for item, value in pairs_of(target, node.value):
                    if root_name(item) in self.best_names and (not isinstance(item, ir.Subscript) or self._is_best(item)):
                        yield node, Place(self._entry(item, value), fn.module, fn)

    def _entry(self, target: ir.Expr, value: ir.Expr) -> ir.Expr:
        # Of `best = {"score": current, "epoch": epoch}` the entry that is compared.
        compared = [best.expr for _, _, best in self.sites if isinstance(best.expr, ir.Subscript)]
        wanted = [c.index for c in compared if key(c.value) == key(target)]
        if isinstance(value, ir.Dict):
            for name, entry in zip(value.keys, value.values, strict=True):
                if name is not None and any(key(name) == key(w) for w in wanted):
                    return entry
        return value

    def _beginnings(self) -> list[FunctionInfo]:
        owners = {f.cls for f in self.functions if f.cls is not None}
        made = [f for c in owners for f in c.module.functions.values() if f.cls is c and f.node.name in ("__init__", "reset")]
        return list(dict.fromkeys([*self.roots, *sorted(made, key=lambda f: f.symbol)]))

    def _starts(self, fn: FunctionInfo) -> Iterator[tuple[Place, str]]:
        for node, value in self._stored(fn):
            if (fn not in self.roots or not self._in_loop_or_helper(node, fn)) and is_number(value.expr):
                yield value, "the best value starts from a number, which a higher objective never replaces; it must start from infinity"

    def _updates(self, fn: FunctionInfo) -> Iterator[tuple[Place, str]]:
        for node, value in self._stored(fn):
            expr = value.expr
            if isinstance(expr, ir.Call) and ir.last_name(expr.func) in ("min", "max"):
                if ir.last_name(expr.func) == "max":
                    yield value, "the best value is updated to the higher one; lower is better"
            elif (
                is_initial(expr)
                or fn.node.name in ("__init__", "resume", "load", "load_state_dict", "restore", "reset")
                or not self._in_loop_or_helper(node, fn)
            ) or (isinstance(expr, ir.IfExp) and self._linked(Place(expr.test, fn.module, fn), 5)):
                continue
            elif not self._conditional(node, fn):
                yield value, "the best value is replaced without a comparison that shows an improvement"
            elif (fault := self.primary_fault(value)) is not None:
                yield value, f"the best value is replaced by something that {fault}"

    def _in_loop_or_helper(self, node: ir.Node, fn: FunctionInfo) -> bool:
        return fn not in self.roots or any(isinstance(a, (ir.For, ir.While)) for a in self.above.get(id(node), []))

    def _saves(self) -> Iterator[tuple[Place, str]]:
        saves = []
        for fn in self.functions:
            if OTHER_FILES.search(fn.node.name):
                continue
            for node in ir.walk_own(fn.node.body):
                if isinstance(node, ir.Call) and is_saving(node):
                    saves.append((node, fn, self._conditional(node, fn)))
        named = [s for s in saves if says_best(s[0]) or "best" in s[1].node.name.lower()]
        judged = named or ([] if any(c for _, _, c in saves) else [s for s in saves if not is_other(s[0])])
        for node, fn, conditional in judged:
            if not conditional:
                yield Place(node, fn.module, fn), "the best checkpoint is written without an improvement"

    # -- the returned value

    def _returns_best(self, place: Place, depth: int) -> bool:
        expr = place.expr
        if isinstance(expr, (ir.Name, ir.Attribute)) and ir.last_name(expr) in self.best_names:
            return True
        if isinstance(expr, ir.Subscript) and self._is_best(expr):
            return True
        if depth == 0:
            return False
        if isinstance(expr, ir.Call):
            if ir.last_name(expr.func) in ("float", "round", "item"):
                inner = expr.args[0].value if expr.args else expr.func
                return self._returns_best(place.at(inner if expr.args else getattr(inner, "value", inner)), depth - 1)
            chosen = [a.value for name in RESULT_FIELDS for a in expr.args if a.keyword == name][:1]
            own = any(isinstance(c, Func) and not c.weak for c in self.flow.callees(place))
            if chosen and not own:
                return self._returns_best(place.at(chosen[0]), depth - 1)
            if any(isinstance(c, Cls) for c in self.flow.callees(place)) and not own:
                return any(self._returns_best(place.at(a.value), depth - 1) for a in expr.args)
        if isinstance(expr, ir.Dict):
            fields = [v for k, v in zip(expr.keys, expr.values, strict=True)
                      if isinstance(k, ir.Constant) and k.value in RESULT_FIELDS]  # fmt: skip
            return any(self._returns_best(place.at(v), depth - 1) for v in fields or expr.values)
        if isinstance(expr, ir.Sequence):
            return any(self._returns_best(place.at(i), depth - 1) for i in expr.items)
        sources = [s for s in self.flow.sources(place) if not is_initial(s.expr)]
        return any(self._returns_best(s, depth - 1) for s in sources) or self._comes_from_best(place)

    def _comes_from_best(self, place: Place) -> bool:
        found: list[Demand] = []

        def visit(demand: Demand, answer: Answer) -> bool | list[Demand]:
            expr = demand.expr
            field = demand.path[0][1] if demand.path and demand.path[0][0] == "field" else None
            if field in self.best_names or (
                not demand.path and isinstance(expr, (ir.Name, ir.Attribute)) and ir.last_name(expr) in self.best_names
            ):
                found.append(demand)
                return False
            plain = without_neutral(expr)
            if plain is not expr:
                return [self.origins.to(demand, plain, demand.path)]
            return answer.kind == "moved"

        self.origins.walk(Demand(place), visit, 400)
        return bool(found)
