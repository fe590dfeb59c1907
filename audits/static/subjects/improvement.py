"""What a condition says of a candidate and a kept value: that it is better, that it is worse, that nothing is kept yet, or nothing.

A condition is followed through names, fields, helpers, operators chosen from a table, and formulas; it holds in one or more cases.
A statement runs only after an improvement where its conditions leave no other case than `improved` and `anew`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from audits.static.dataflow.backwards import NEAR
from audits.static.dataflow.expressions import key
from audits.static.dataflow.flow import Place
from audits.static.dataflow.origins import ELEMENT, Answer, Bound, Demand, Origins, is_infinite
from audits.static.dataflow.reaching import Path, access
from audits.static.source import ir
from audits.static.source.project import FunctionInfo
from audits.static.subjects.kept import Part, Parts, Store, is_reversed, taken
from audits.static.subjects.selection_names import COUNTERS, is_initial, named_best, starts_anew

Cases = frozenset[str]
IMPROVED, WORSE, ANEW, OPEN = (frozenset([c]) for c in ("improved", "worse", "anew", "open"))
NEVER: Cases = frozenset()
GOOD = IMPROVED | ANEW
_ORDER = {"lt": "<", "le": "<=", "gt": ">", "ge": ">=", "less": "<", "less_equal": "<=", "greater": ">", "greater_equal": ">=",
          "__lt__": "<", "__le__": "<=", "__gt__": ">", "__ge__": ">="}  # fmt: skip
_LOWEST = frozenset({"min", "amin", "nanmin", "argmin", "nanargmin", "idxmin", "nsmallest", "minimum", "fmin"})
_HIGHEST = frozenset({"max", "amax", "nanmax", "argmax", "nanargmax", "idxmax", "nlargest", "maximum", "fmax"})
_CHOICES = frozenset({"min", "max", "minimum", "maximum", "fmin", "fmax"})
_MARGIN = re.compile(r"delta|eps|tol|margin|thresh|slack|min_change|rel", re.I)
_LIBRARIES = frozenset({"np", "numpy", "torch", "heapq", "jnp", "builtins"})
_SHORT = ("first", "initial", "start")
_DEPTH = 12


@dataclass(frozen=True, eq=False, slots=True)
class Site:
    """One comparison of a candidate with a kept value; `lower` is whether it is true for the lower candidate."""

    place: Place
    candidate: Demand
    kept: Demand
    lower: bool


@dataclass(frozen=True, eq=False, slots=True)
class Extreme:
    """The lowest or highest of many: of what, by which part of it, and where it is taken."""

    place: Place
    lowest: bool
    values: Demand
    path: Path | None  # the compared part of an element; None where that is not known
    exact: bool = True  # whether what is taken is what was compared, and not its place or another part of it


class Improvements:
    """Answers about conditions."""

    def __init__(self, origins: Origins, parts: Parts, situations: Callable[[ir.Node, FunctionInfo], Cases]) -> None:
        self.origins = origins
        self.parts = parts
        self.situation = situations
        self.sites: dict[tuple[int, int], Site] = {}
        self._chosen: dict[object, Extreme | None] = {}
        self._kept: dict[Part, bool] = {}
        self._cases: dict[object, Cases] = {}
        self._asking: set[object] = set()
        self._target: Part | None = None
        self._found: list[bool] = []

    # -- what is kept

    def kept_part(self, part: Part) -> bool:
        """Whether a part is replaced under a comparison with itself."""
        if part not in self._kept:
            self._kept[part] = False
            self._kept[part] = any(self._keeps(store, part) for store, _ in self.parts.stores(part))
        return self._kept[part]

    def _keeps(self, store: Store, part: Part) -> bool:
        if any(self._choice(store, part)):
            return True
        before = self._target, self._found
        self._target, self._found = part, []
        try:
            for bound in self.conditions(store, None):
                self.holds(bound, 0)
            return bool(self._found)
        finally:
            self._target, self._found = before

    def conditions(self, store: Store, frame: object) -> list[Bound]:
        """The conditions of a store, in its own function."""
        raise NotImplementedError

    def _choice(self, store: Store, part: Part) -> Iterable[bool]:
        # best = min(best, value)
        value = store.value
        if isinstance(value, ir.Call) and ir.last_name(value.func) in _CHOICES:
            plain = [a.value for a in value.args if a.keyword is None]
            yield len(plain) == 2 and sum(self._reaches(Demand(Place(p, store.fn.module, store.fn)), part) for p in plain) == 1

    def _reaches(self, demand: Demand, part: Part) -> bool:
        wanted = {id(s) for s, _ in self.parts.stores(part)}
        return any(id(s) in wanted for p in self.parts.read(demand) for s, _ in self.parts.stores(p))

    def is_kept(self, demand: Demand) -> bool:
        """Whether a value is a kept one."""
        if self._target is not None:
            return self._reaches(demand, self._target)
        if isinstance(demand.expr, (ir.Name, ir.Attribute, ir.Subscript)) and not demand.path and named_best(demand.expr):
            return True
        return any(self.kept_part(p) for p in self.parts.read(demand)) or self.extreme(demand) is not None

    # -- cases

    def holds(self, bound: Bound, depth: int) -> Cases:
        """The cases in which a condition of an alternative holds."""
        guard = bound.guard
        if not isinstance(guard.test, ir.Expr) or guard.kind not in ("if", "case"):
            return OPEN
        demand = Demand(bound.place.at(guard.test), (), bound.frame)
        if guard.kind == "case":
            keys = guard.key if isinstance(guard.key, tuple) else (guard.key,)
            if set(keys) <= {True, False} and len(keys) == 1:
                return self.cases(demand, keys[0] is guard.polarity, depth + 1)
            known = {value for value, _, _ in self.origins.constants(demand)}
            return NEVER if known and not any((k in keys) == guard.polarity for k in known) else OPEN
        return self.cases(demand, guard.polarity, depth + 1)

    def cases(self, demand: Demand, want: bool, depth: int = 0) -> Cases:
        """The cases in which a condition is true, or false."""
        asked = (demand.key, want, self._target)
        if asked in self._cases:
            return self._cases[asked]
        if asked in self._asking or depth > _DEPTH:
            return OPEN
        self._asking.add(asked)
        try:
            found = self._of(demand, want, depth)
        finally:
            self._asking.discard(asked)
        if not self._asking and self._target is None:
            self._cases[asked] = found
        return found

    def _of(self, demand: Demand, want: bool, depth: int) -> Cases:
        expr = demand.expr
        if isinstance(expr, ir.Constant) and not demand.path:
            return OPEN if bool(expr.value) == want else NEVER
        if demand.path and isinstance(expr, (ir.Sequence, ir.Dict)) and not ir.children(expr):
            return NEVER  # an item of an empty collection
        if isinstance(expr, ir.UnaryOp) and expr.op in ("not", "~"):
            return self.cases(taken(demand, expr.operand, ()), not want, depth + 1)
        if isinstance(expr, ir.BoolOp) or (isinstance(expr, ir.BinOp) and expr.op in ("&", "|")):
            values = expr.values if isinstance(expr, ir.BoolOp) else [expr.left, expr.right]
            every = [self.cases(taken(demand, v, ()), want, depth + 1) for v in values]
            return together(every) if (expr.op in ("and", "&")) == want else frozenset().union(*every)
        if isinstance(expr, ir.Compare):
            operands = [expr.left, *expr.comparators]
            every = [self._compared(demand, expr, operands[i], op, operands[i + 1], want, depth) for i, op in enumerate(expr.ops)]
            return together(every) if want else frozenset().union(*every)
        if isinstance(expr, ir.Call):
            found = self._called(demand, expr, want, depth)
            if found is not None:
                return found
        if want and self._starts(demand, expr):
            return ANEW
        return self._behind(demand, want, depth)

    def _behind(self, demand: Demand, want: bool, depth: int) -> Cases:
        answer = self.origins.step(demand)
        following = self.parts.onward(demand, answer)
        demands = answer.demands if following is True else following or ()
        out: Cases = OPEN if not demands or answer.kind.startswith("mixed") else NEVER
        for inner in demands:
            further = [b for b in inner.guards if b not in demand.guards]
            every = [self.cases(replace(inner, guards=()), want, depth + 1), *(self.holds(b, depth + 1) for b in further)]
            if isinstance(inner.expr, ir.Constant):
                every += [self.situation(s.node, s.fn) for s in self._stored_at(demand, inner)]
            out |= together(every)
        return out

    def _stored_at(self, demand: Demand, inner: Demand) -> list[Store]:
        # `self.improved = True` under a comparison, read as a field elsewhere.
        found = [s for p in self.parts.parts(demand) if p.root is None for s, _ in self.parts.stores(p)]
        return [s for s in found if s.value is inner.expr]

    def _starts(self, demand: Demand, expr: ir.Expr) -> bool:
        return isinstance(expr, (ir.Name, ir.Attribute)) and any(w in ir.last_name(expr).lower() for w in _SHORT) and starts_anew(expr)

    # -- comparisons

    def _compared(self, demand: Demand, expr: ir.Expr, left: ir.Expr, op: str, right: ir.Expr, want: bool, depth: int) -> Cases:
        one, other = taken(demand, left, ()), taken(demand, right, ())
        if op in ("<", "<=", ">", ">="):
            return self._ordered(demand.place.at(expr), one, op, other, want)
        if op in ("in", "not in"):
            return OPEN
        equal = want == (op in ("==", "is"))
        for a, b in ((one, other), (other, one)):
            if isinstance(b.expr, ir.Constant):
                if isinstance(b.expr.value, bool):
                    return self.cases(a, equal == b.expr.value, depth + 1)
                if b.expr.value is None or (b.expr.value in (0, 1) and starts_anew(_equal(expr, left, right))):
                    anew = b.expr.value is not None or self._target is not None or self.is_kept(a) or self._empty(a)
                    return ANEW if equal and anew else OPEN
                known = {value for value, _, _ in self.origins.constants(a)}
                if known and not any((k == b.expr.value) == equal for k in known):
                    return NEVER
            if is_infinite(b.expr):
                return ANEW if equal and self.is_kept(a) else OPEN
            found = self._same(a, b, equal)
            if found is not None:
                self._saw(demand)
                return found
        return OPEN

    def _empty(self, demand: Demand) -> bool:
        # What starts as None and holds a snapshot once something was kept.
        stores = [s for p in self.parts.read(demand) for s, _ in self.parts.stores(p)]
        real = [s for s in stores if not is_initial(s.value)]
        return bool(real) and all(self.situation(s.node, s.fn) <= GOOD for s in real)

    def _same(self, demand: Demand, other: Demand, equal: bool) -> Cases | None:
        expr = demand.expr
        if isinstance(expr, ir.Call) and ir.last_name(expr.func) in _CHOICES and len(expr.args) == 2:
            sides = [taken(demand, a.value, ()) for a in expr.args]
            kept = [self.is_kept(s) for s in sides]
            if kept[0] != kept[1]:
                self._note(demand.place, sides[kept[0]], sides[kept[1]], ir.last_name(expr.func) in _LOWEST)
                lowest = ir.last_name(expr.func) in _LOWEST
                better = lowest != self.is_kept(other)  # min(new, best) == new, max(new, best) == best
                return (IMPROVED if better else WORSE) if equal else (WORSE if better else IMPROVED)
        if self._target is not None:
            return None
        found = self.extreme(demand)
        if found is not None:
            return (IMPROVED if found.lowest else WORSE) if equal else OPEN
        if equal and isinstance(expr, (ir.Name, ir.Attribute, ir.Subscript)) and self._marks(demand):
            return IMPROVED
        return None

    def _marks(self, demand: Demand) -> bool:
        # The best epoch: stored only after an improvement.
        stores = [s for p in self.parts.read(demand) for s, _ in self.parts.stores(p) if not is_initial(s.value)]
        return bool(stores) and all(self.situation(s.node, s.fn) <= GOOD for s in stores)

    def _saw(self, demand: Demand) -> None:
        if self._target is not None:
            self._found.append(True)

    def _ordered(self, place: Place, one: Demand, op: str, other: Demand, want: bool) -> Cases:
        terms = [*self._terms(one, 1, 0), *((-sign, d, kept) for sign, d, kept in self._terms(other, 1, 0))]
        kept = [(sign, d) for sign, d, best in terms if best]
        rest = [(sign, d) for sign, d, best in terms if not best]
        if not kept or not rest or sum(s for s, _ in kept) == 0 or any(self._counts(d) for _, d in rest):
            return OPEN
        if any(is_infinite(d.expr) for _, d in rest):
            return ANEW if want else OPEN
        side = 1 if sum(s for s, _ in kept) > 0 else -1
        plain = [(s, d) for s, d in rest if not self._margin(d)] or rest
        sign, candidate = next(((s, d) for s, d in plain if s == -side), plain[0])
        lower = (op in ("<", "<=")) == (side < 0)
        lower = lower if sign == -side else not lower
        source = self.extreme(kept[0][1])
        if source is not None and not source.lowest:
            if lower:
                return OPEN  # below the highest: that says little
            return WORSE if want else IMPROVED
        self._note(place, candidate, kept[0][1], lower)
        return (IMPROVED if lower else WORSE) if want else (WORSE if lower else IMPROVED)

    def _note(self, place: Place, candidate: Demand, kept: Demand, lower: bool) -> None:
        if self._target is not None:
            self._found.append(True)
        else:
            self.sites.setdefault((id(place.expr), id(candidate.frame)), Site(place, candidate, kept, lower))

    def _counts(self, demand: Demand) -> bool:
        # `epoch - best_epoch > patience` compares no values.
        found: list[bool] = []

        def visit(current: Demand, answer: Answer) -> bool:
            expr = current.expr
            counter = isinstance(expr, ir.Call) and ir.last_name(expr.func) in ("range", "trange", "count", "enumerate")
            found.append(counter and answer.kind != "moved")
            return answer.kind == "moved"

        name = ir.last_name(demand.expr)
        return bool(COUNTERS.search(name)) or (self.origins.walk(demand, visit, 30) and any(found))

    def _margin(self, demand: Demand) -> bool:
        expr = demand.expr
        if isinstance(expr, (ir.Name, ir.Attribute)) and _MARGIN.search(ir.last_name(expr)):
            return True
        known = self.origins.constants(demand)
        return bool(known) and all(isinstance(v, (int, float)) for v, _, _ in known)

    def _terms(self, demand: Demand, sign: int, depth: int) -> list[tuple[int, Demand, bool]]:
        expr = demand.expr
        if isinstance(expr, ir.UnaryOp) and expr.op in ("-", "+"):
            return self._terms(taken(demand, expr.operand, ()), -sign if expr.op == "-" else sign, depth)
        if isinstance(expr, ir.Constant):
            return []
        if isinstance(expr, ir.BinOp) and expr.op in ("+", "-"):
            left = self._terms(taken(demand, expr.left, ()), sign, depth)
            return left + self._terms(taken(demand, expr.right, ()), -sign if expr.op == "-" else sign, depth)
        if isinstance(expr, ir.BinOp) and expr.op in ("*", "/"):
            return self._scaled(demand, expr, sign, depth)
        if self.is_kept(demand):
            return [(sign, demand, True)]
        if depth < 4 and not isinstance(expr, ir.Compare):
            answer = self.origins.step(demand)
            following = self.parts.onward(demand, answer)
            demands = list(answer.demands if following is True else following or ())
            if len(demands) == 1 and answer.kind != "mixed":
                inner = self._terms(demands[0], sign, depth + 1)
                if any(best for _, _, best in inner) or (len(inner) == 1 and inner[0][0] != sign and _is_formula(demands[0].expr)):
                    return inner
        return [(sign, demand, False)]

    def _scaled(self, demand: Demand, expr: ir.BinOp, sign: int, depth: int) -> list[tuple[int, Demand, bool]]:
        for factor, rest in ((expr.left, expr.right), (expr.right, expr.left)):
            value = _number(factor)
            known = [value] if value is not None else self._possible(taken(demand, factor, ()))
            numbers = [v for v in known if isinstance(v, (int, float))]
            if numbers and len({v < 0 for v in numbers}) > 1:
                return [(0, demand, True)]  # its sign is not known
            if numbers:
                return self._terms(taken(demand, rest, ()), -sign if numbers[0] < 0 else sign, depth)
        for factor in (expr.left, expr.right):
            inner = self._terms(taken(demand, factor, ()), sign, depth + 1)
            if any(best for _, _, best in inner):
                return [t for t in inner if t[2]]
        return [(sign, demand, False)]

    def _possible(self, demand: Demand) -> list[object]:
        # The numbers that a value may be, without those that a mode given elsewhere rules out; none where it may be anything else.
        found: list[object] = []

        def visit(current: Demand, answer: Answer) -> bool:
            if any(self.holds(b, 1) == NEVER for b in current.guards):
                return False
            if answer.kind != "moved":
                found.append(_number(current.expr))
            return answer.kind == "moved"

        finished = self.origins.walk(demand, visit, NEAR)
        return found if finished and None not in found else []

    # -- calls

    def _called(self, demand: Demand, expr: ir.Call, want: bool, depth: int) -> Cases | None:
        name = ir.last_name(expr.func)
        plain = [a.value for a in expr.args if a.keyword is None and not a.star]
        if self.origins.targets(demand.place):
            return None
        if name in ("isinf", "isnan", "isfinite") and plain:
            return ANEW if want == (name != "isfinite") and self.is_kept(taken(demand, plain[0], ())) else OPEN
        if name in ("any", "all") and not plain and isinstance(expr.func, ir.Attribute):
            return self.cases(taken(demand, expr.func.value, ()), want, depth + 1)
        signs = {_ORDER[name]} if name in _ORDER else self._operators(demand, expr.func) if len(plain) == 2 else set()
        if signs and name in _ORDER and len(plain) == 1 and isinstance(expr.func, ir.Attribute):
            plain = [expr.func.value, plain[0]]
        if not signs or len(plain) != 2:
            return None
        one, other = (taken(demand, p, ()) for p in plain)
        return frozenset().union(*(self._ordered(demand.place, one, sign, other, want) for sign in sorted(signs)))

    def _operators(self, demand: Demand, func: ir.Expr) -> set[str]:
        # `self.op(value, best)`, where the operator is chosen by a mode.
        out: set[str] = set()
        whole = [True]

        def visit(current: Demand, answer: Answer) -> bool:
            if any(self.holds(b, 1) == NEVER for b in current.guards):
                return False
            if answer.kind in ("moved", "mixed"):
                return True
            name = ir.last_name(current.expr)
            if name in _ORDER and not current.path:
                out.add(_ORDER[name])
            elif current.path and current.path[-1][0] == "field" and current.path[-1][1] in _ORDER:
                out.add(_ORDER[str(current.path[-1][1])])
            return False

        self.origins.walk(taken(demand, func, ()), visit, NEAR)
        return out if whole else set()

    # -- the lowest of many

    def extreme(self, demand: Demand) -> Extreme | None:
        """The minimum or maximum over a collection that a value is, or None."""
        found: list[Extreme] = []

        def visit(current: Demand, answer: Answer) -> bool | Iterable[Demand]:
            one = self._extreme(current)
            if one is not None:
                found.append(one)
                return False
            return [] if isinstance(current.expr, ir.Name) and len(current.path) > 3 else self.parts.onward(current, answer)

        if demand.key in self._chosen:
            return self._chosen[demand.key]
        self._chosen[demand.key] = None  # `x = values[x]` leads back to itself
        self.origins.walk(demand, visit, 40)
        self._chosen[demand.key] = found[0] if found and all(f.lowest == found[0].lowest for f in found) else None
        return self._chosen[demand.key]

    def _extreme(self, demand: Demand) -> Extreme | None:
        expr, path = demand.expr, demand.path
        if isinstance(expr, ir.Subscript) and not isinstance(expr.index, (ir.Constant, ir.Slice)):
            index = self.extreme(taken(demand, expr.index, ())) if not isinstance(expr.index, ir.Sequence) else None
            if index is not None:
                return Extreme(index.place, index.lowest, taken(demand, expr.value, (ELEMENT, *path)), path)
            return None
        if path and path[0] == ("item", 0) and isinstance(expr, (ir.Name, ir.Attribute)):
            return self._first(demand, key(expr), path[1:])
        if not isinstance(expr, ir.Call) or self.origins.targets(demand.place):
            return None
        name = ir.last_name(expr.func)
        plain = [a.value for a in expr.args if a.keyword is None and not a.star]
        method = isinstance(expr.func, ir.Attribute) and ir.last_name(expr.func.value) not in _LIBRARIES
        if name == "sorted" and plain and path and path[0] in (("item", 0), ("item", -1)):
            lowest = (path[0][1] == 0) != is_reversed(expr)
            return self._made(demand, expr, plain[0], lowest, path[1:])
        if name in ("nsmallest", "nlargest") and len(plain) == 2 and path and path[0] == ("item", 0):
            return self._made(demand, expr, plain[1], name == "nsmallest", path[1:])
        if name not in _LOWEST | _HIGHEST or name in ("nsmallest", "nlargest"):
            return None
        values = expr.func.value if method and isinstance(expr.func, ir.Attribute) else plain[0] if len(plain) == 1 else None
        if values is None or (method and plain and not isinstance(plain[0], ir.Constant)):
            return None
        return self._made(demand, expr, values, name in _LOWEST, path, index="arg" in name or "idx" in name)

    def _first(self, demand: Demand, text: str, path: Path) -> Extreme | None:
        # The root of a heap, or the first of a list that was sorted in place.
        pushed = self.parts.pushed.get(text)
        if pushed:
            inner = path if path else (("item", 0),) if isinstance(pushed[0].expr, ir.Sequence) else ()
            return Extreme(demand.place, True, Demand(pushed[0], inner), inner, inner == path)
        order = self.parts.sorted.get(text)
        if order is None or not isinstance(order.expr, ir.Call):
            return None
        made = self._made(demand, order.expr, demand.expr, not is_reversed(order.expr), path)
        return replace(made, place=order)

    def _made(self, demand: Demand, call: ir.Call, values: ir.Expr, lowest: bool, path: Path, *, index: bool = False) -> Extreme:
        ordering = next((a.value for a in call.args if a.keyword == "key"), None)
        compared: Path | None = path
        if ordering is not None:
            compared, turned, table = self._by(demand, ordering)
            lowest = lowest != turned
            if table is not None:  # min(scores, key=scores.get)
                return Extreme(demand.place, lowest, taken(demand, table, (ELEMENT,)), (), exact=False)
        elif not path and not index and isinstance(values, ir.Comprehension) and isinstance(values.element, ir.Sequence):
            compared = (("item", 0),)
        inner = compared if compared is not None else path
        return Extreme(demand.place, lowest, taken(demand, values, (ELEMENT, *inner)), compared, not index and compared == path)

    def _by(self, demand: Demand, ordering: ir.Expr) -> tuple[Path | None, bool, ir.Expr | None]:
        if isinstance(ordering, ir.Attribute) and ordering.attr in ("get", "__getitem__"):
            return (), False, ordering.value
        if isinstance(ordering, ir.Call) and ordering.args and isinstance(ordering.args[0].value, ir.Constant):
            kind = "item" if ir.last_name(ordering.func) == "itemgetter" else "field"
            return ((kind, ordering.args[0].value.value),), False, None
        body, param = None, ""
        if isinstance(ordering, ir.Lambda) and len(ordering.function.params) == 1:
            returned = [n for n in ir.walk_own(ordering.function.body) if isinstance(n, ir.Return)]
            body, param = returned[0].value if returned else None, ordering.function.params[0].name
        turned = False
        while isinstance(body, ir.UnaryOp) and body.op == "-":
            body, turned = body.operand, not turned
        if isinstance(body, ir.Subscript) and isinstance(body.index, ir.Name) and body.index.id == param:
            return (), turned, body.value
        found = access(body) if body is not None else None
        return (found[1] if found is not None and found[0] == param else None), turned, None


def together(every: Iterable[Cases]) -> Cases:
    """The cases in which several conditions hold at once: the one that says most."""
    sets = list(every)
    if any(not s for s in sets):
        return NEVER
    for wanted in (lambda s: s <= GOOD, lambda s: "worse" in s and "open" not in s, lambda s: "worse" in s, lambda s: "improved" in s):
        chosen = [s for s in sets if wanted(s)]
        if chosen:
            return min(chosen, key=len)
    return OPEN


def _is_formula(expr: ir.Expr) -> bool:
    return isinstance(expr, (ir.UnaryOp, ir.BinOp))


def _number(expr: ir.Expr) -> float | None:
    sign = -1 if isinstance(expr, ir.UnaryOp) and expr.op == "-" else 1
    inner = expr.operand if isinstance(expr, ir.UnaryOp) else expr
    return sign * inner.value if isinstance(inner, ir.Constant) and isinstance(inner.value, (int, float)) else None


def _equal(expr: ir.Expr, left: ir.Expr, right: ir.Expr) -> ir.Expr:
    return ir.Compare(expr.line, expr.column, expr.end_line, expr.end_column, left, ["=="], [right])
