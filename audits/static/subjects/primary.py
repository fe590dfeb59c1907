"""Which quantity a value is under each setting of the configured primary: the loss, or the composite score.

A value's alternatives carry their conditions. Each condition is decided for `primary == "loss"` and for
the values that mean the score (`primary_values`) as far as it depends on the primary alone; what remains open is a fallback.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from audits.static.dataflow.backwards import NEAR
from audits.static.dataflow.flow import Place
from audits.static.dataflow.origins import Answer, Bound, Demand, Origins, is_infinite
from audits.static.dataflow.primary_values import LOSS_NAME
from audits.static.dataflow.reaching import Guard
from audits.static.source import ir

LOSS, SCORE = "loss", "score"
_SCORE = re.compile(r"(^|_)(scores?|composite|metrics|k_?loc|selection_score)(_|$)", re.I)
# What is better where there is more of it; a bare `acc` may be an accumulator.
_GAIN = re.compile(r"(^|_)(accuracy|recall|f1|auc|auroc|iou|(hit|success|detection)_rate)$|[a-z0-9]_acc$", re.I)
_SAME = frozenset({"float", "round", "item", "tensor", "as_tensor", "float64", "float32", "abs", "fabs", "cast", "mean", "cpu", "detach",
                   "sum", "fsum", "fmean", "median", "average"})  # fmt: skip
_CHOICES = frozenset({"min", "max", "minimum", "maximum", "fmin", "fmax"})
_HIDING = frozenset({"nan_to_num", "nanmean", "nansum", "nan_to_num_"})
_TESTS = frozenset({"bool", "tensor", "as_tensor", "asarray", "array", "full_like"})
_NEGATIONS = frozenset({"neg", "negative"})
_LIBRARIES = ("math", "np", "numpy", "torch", "statistics", "operator")
_OPEN = frozenset({"or", "default", "except"})


@dataclass(frozen=True)
class Leaf:
    """One thing that a value may be: `what` is loss, score, constant, worst (infinite) or unknown."""

    what: str
    demand: Demand
    hidden: str = ""
    flipped: bool = False
    shown: Place | None = None

    @property
    def place(self) -> Place:
        """Where a reader sees it: where it is called a loss or a score, else where it ends."""
        return self.shown or self.demand.place


class _Way:
    """What the way to each demand has told: names, the places where they stand, and signs."""

    def __init__(self) -> None:
        self.names: dict[object, str] = {}
        self.homes: dict[object, Place] = {}
        self.signs: dict[object, bool] = {}  # whether more of it is less of what is asked for
        self.helpers: set[object] = set()  # what only a helper's name speaks for
        # Parts of a formula, with its conditions: more of one may well be better, which turns no score round.
        self.terms: dict[object, frozenset[Bound]] = {}
        self.divisors: set[object] = set()

    def named(self, demand: Demand, own: str) -> tuple[str, Place | None]:
        """What a demand is called, by itself or before, and where it was called so before."""
        if own:
            self.homes.setdefault(demand.key, demand.place)
        return own or self.names.get(demand.key, ""), None if own else self.homes.get(demand.key)

    def onward(self, demand: Demand, following: Iterable[Demand], what: str, *, formula: bool = False) -> None:
        """Pass on what is known of a demand to those that follow."""
        for inner in following:
            self.names[inner.key] = what
            if demand.key in self.homes:
                self.homes.setdefault(inner.key, self.homes[demand.key])
            if formula or demand.key in self.terms:
                self.terms[inner.key] = frozenset(demand.guards) if formula else self.terms[demand.key]
            expr = demand.expr
            if demand.key in self.divisors or (isinstance(expr, ir.BinOp) and expr.op in ("/", "//") and inner.expr is expr.right):
                self.divisors.add(inner.key)
            turns = inner.key not in self.terms and _turns(demand.expr, inner.expr)
            self.signs[inner.key] = self.signs.get(demand.key, False) != turns


class Primary:
    """Questions about values with respect to one configuration key."""

    def __init__(self, origins: Origins, name: str) -> None:
        self.origins = origins
        self.name = name
        self.scores = origins.score_values(name)
        self._deciding: set[int] = set()
        self._nested: list[None] = []
        self._held: dict[tuple[Bound, str], bool | None] = {}
        self._told: dict[Bound, frozenset[str]] = {}
        self._added: frozenset[str] | None = None

    # -- alternatives

    def leaves(self, start: Demand) -> list[Leaf]:
        """The alternatives of a value."""
        out: list[Leaf] = []
        way = _Way()
        started: set[int] = set()

        def visit(demand: Demand, answer: Answer) -> bool | Iterable[Demand]:
            own = _part_quantity(demand) or _quantity(demand.expr)
            what, home = way.named(demand, own)
            helped = not own and demand.key in way.helpers
            flipped = way.signs.get(demand.key, False)
            expr = demand.expr
            if is_infinite(expr):
                out.append(Leaf("worst", demand))
                return False
            following = self._following(demand, answer)
            started.update(self._started(demand, answer))
            if _is_gain(demand) and demand.key not in way.terms and not self._nested:
                out.append(Leaf("score", demand, flipped=not flipped))
                return False
            turned = [d for d in following if not what and _turns(expr, d.expr) and self._picks(d.expr)]
            if turned:
                out.append(Leaf("score", turned[0], flipped=not flipped))
                return False
            if answer.kind == "arithmetic" and what and not own and (known := self._known(following)):
                turns = len(following) == 1 and _turns(expr, following[0].expr)
                out.extend(replace(leaf, flipped=leaf.flipped != (flipped != turns)) for leaf in known)
                return False
            if following and (answer.kind != "arithmetic" or not what):
                way.onward(demand, following, what, formula=answer.kind == "arithmetic" and len(following) > 1)
                if helped or (own and isinstance(expr, ir.Call) and answer.kind == "moved"):
                    way.helpers.update(inner.key for inner in following)
                return following
            if answer.kind.startswith("mixed"):
                way.onward(demand, answer.demands, what)
                return True
            if answer.kind == "cycle":
                return False
            hidden = hides(self.origins, demand) or self._replaced(demand) if answer.kind == "arithmetic" else ""
            if answer.kind == "constant":
                none = isinstance(expr, ir.Constant) and not isinstance(expr.value, (int, float))
                since = [b for b in demand.guards if b not in way.terms.get(demand.key, ())]
                factor = demand.key in way.terms and not _zero(expr) and not any(b.guard.kind in _OPEN for b in since)
                if not none and not factor and demand.key not in way.divisors:
                    out.append(Leaf(what or "constant", demand, "a constant" if demand.guards else "", flipped, home))
            else:
                lost = helped and answer.kind in ("unknown", "parameter", "function")
                out.append(Leaf("unknown" if lost else what or "unknown", demand, hidden, flipped, home))
            return False

        if not self.origins.walk(start, visit, apart=self._reduced):
            out.append(Leaf("lost", start))
        return [leaf for leaf in out if id(leaf.demand.expr) not in started]

    def _started(self, demand: Demand, answer: Answer) -> Iterator[int]:
        """The numbers that a sum or a count starts from, where a variable or field is one."""
        numbers = [d for d in answer.demands if _is_number(d.expr)] if answer.kind == "moved" else []
        if not numbers:
            return
        expr = demand.expr
        field = next((str(v) for kind, v in demand.path[:1] if kind == "field"), expr.attr if isinstance(expr, ir.Attribute) else "")
        if field and field in self._counted():
            yield from (id(d.expr) for d in numbers)
        for other in answer.demands:
            if isinstance(other.expr, ir.BinOp) and other.expr.op in ("+", "-"):
                before = self.origins.step(self._part(other, other.expr.left))
                if any(d.expr is other.expr for d in before.demands):
                    yield from (id(d.expr) for d in numbers)

    def _counted(self) -> frozenset[str]:
        # The fields that are added to.
        if self._added is None:
            nodes = (n for m in self.origins.analysis.project.modules.values() for n in ir.walk(m.tree) if isinstance(n, ir.AugAssign))
            self._added = frozenset(n.target.attr for n in nodes if isinstance(n.target, ir.Attribute) and n.op in ("+", "-"))
        return self._added

    def _replaced(self, formula: Demand) -> str:
        """How a number comes in for a metric of a formula, before the formula is reached; nothing where none does."""
        products = [n for n in ir.walk(formula.expr) if isinstance(n, ir.BinOp) and n.op == "*"]
        factors = [f for p in products if not _is_number(p.left) and not _is_number(p.right) for f in (p.left, p.right)]
        weights = {id(f) for f in factors if isinstance(f, (ir.Name, ir.Attribute))}  # a term may be switched off
        for node in ir.walk(formula.expr):
            read = isinstance(node, (ir.Subscript, ir.Attribute, ir.Name)) and id(node) not in weights
            if read and isinstance(node, ir.Expr) and self._stands_in(self._part(formula, node)):
                return "a constant in place of a metric"
        return ""

    def _stands_in(self, metric: Demand) -> bool:
        numbers: list[Demand] = []
        others: list[Demand] = []
        started: set[int] = set()

        def visit(demand: Demand, answer: Answer) -> bool:
            started.update(self._started(demand, answer))
            if answer.kind == "constant":
                numbers.extend([demand] if _number(demand.expr) else [])
            elif answer.kind != "moved" and not is_infinite(demand.expr):
                others.append(demand)
            return answer.kind == "moved"

        if not self.origins.walk(metric, visit, NEAR) or not others:
            return False
        return any(self._unasked(d) for d in numbers if id(d.expr) not in started)

    def _unasked(self, number: Demand) -> bool:
        # Taken on a condition that is not the primary's: any number where something failed or is missing, zero on any other.
        hanging = {b.guard.kind for b in number.guards if self.holds(b, SCORE) is None}
        return bool(hanging & _OPEN) or (_zero(number.expr) and "if" in hanging)

    def _reduced(self, guards: tuple[Bound, ...]) -> tuple[tuple[Bound, ...], object]:
        """One condition for each thing that is asked about conditions, and the things that they tell."""
        kept: list[Bound] = []
        told: frozenset[str] = frozenset()
        for bound in guards:
            tells = self._tells(bound)
            if not tells <= told:
                kept.append(bound)
                told |= tells
        return tuple(kept), told

    def _tells(self, bound: Bound) -> frozenset[str]:
        found = self._told.get(bound)
        if found is None:
            loss, score = self.holds(bound, LOSS), self.holds(bound, SCORE)
            test = bound.guard.test
            tells = {f"loss {loss}", f"score {score}"}
            tells |= {"nan"} if bound.guard.kind == "default" and hides_nan(test) else set()
            tells |= {f"chosen {what}" for what in (LOSS, "score", "") if _choosing(test, what)}
            found = frozenset(tells)
            if not self._deciding:
                self._told[bound] = found
        return found

    def _picks(self, expr: ir.Expr) -> bool:
        # `record[config.primary]`
        return isinstance(expr, ir.Subscript) and self.mentioned(expr.index)

    def _known(self, parts: Sequence[Demand]) -> list[Leaf]:
        # What a formula is made of says more than the name of the helper that it stands in.
        if len(self._nested) > 3:
            return []
        self._nested.append(None)
        try:
            # Metrics of which more is better stand in a composite with a minus; that turns no score round.
            found = [replace(leaf, flipped=leaf.flipped and len(parts) == 1) for part in parts for leaf in self.leaves(part)]
        finally:
            self._nested.pop()
        return found if {LOSS, "score"} & {leaf.what for leaf in found} else []

    def _following(self, demand: Demand, answer: Answer) -> tuple[Demand, ...] | list[Demand]:
        expr = demand.expr
        if answer.kind == "arithmetic":
            return [d for d in answer.demands if not _is_number(d.expr)] or answer.demands
        if answer.kind == "moved":
            return answer.demands
        if isinstance(expr, ir.Call) and answer.kind == "outside":
            name = ir.last_name(expr.func)
            library = isinstance(expr.func, ir.Attribute) and ir.last_name(expr.func.value) in _LIBRARIES
            parts = [d for d in answer.demands if not (library and isinstance(expr.func, ir.Attribute) and d.expr is expr.func.value)]
            if name in _SAME | _NEGATIONS:
                return parts[:1]
            if name in _CHOICES:
                return [self._under(demand, p.expr, Guard("or", expr)) for p in parts]
            if name == "where" and len(expr.args) == 3:
                return [self._under(demand, expr.args[i].value, Guard("if", expr.args[0].value, i == 1)) for i in (1, 2)]
            if name in _HIDING:
                return [self._under(demand, p.expr, Guard("default", expr)) for p in parts[:1]]
        return ()

    def _under(self, demand: Demand, expr: ir.Expr, guard: Guard) -> Demand:
        bound = Bound(guard, demand.place, demand.frame)
        return Demand(demand.place.at(expr), (), demand.frame, (*demand.guards, bound), demand.trail)

    def possible(self, leaf: Leaf, value: str) -> bool:
        """Whether an alternative can be taken when the primary is `value`."""
        return all(self.holds(b, value) is not False for b in leaf.demand.guards)

    def open(self, leaf: Leaf) -> bool:
        """Whether an alternative hangs on more than the primary where the score is configured."""
        return any(self.holds(b, SCORE) is None for b in leaf.demand.guards)

    def chosen(self, leaf: Leaf) -> bool:
        """Whether an alternative stands in `min` or `max`, or is taken because it is smaller, whatever is configured."""
        return any(_choosing(b.guard.test, leaf.what) for b in leaf.demand.guards)

    def decided(self, leaves: list[Leaf]) -> bool:
        """Whether the primary has a say at all."""
        return any(self.holds(b, v) is not None for leaf in leaves for b in leaf.demand.guards for v in (LOSS, SCORE))

    # -- conditions

    def holds(self, bound: Bound, value: str) -> bool | None:
        """Whether a condition holds when the primary is `value`; None where that does not decide it."""
        known = (bound, value)
        if known in self._held:
            return self._held[known]
        alone = not self._deciding  # inside another question it may be cut short
        found = self._holds(bound, value)
        if alone:
            self._held[known] = found
        return found

    def _holds(self, bound: Bound, value: str) -> bool | None:
        guard = bound.guard
        if guard.kind in _OPEN or not isinstance(guard.test, ir.Expr) or id(guard.test) in self._deciding or len(self._deciding) > 6:
            return None
        self._deciding.add(id(guard.test))
        try:
            if guard.kind == "case":
                keys = guard.key if isinstance(guard.key, tuple) else (guard.key,)
                found = self._equal(Demand(bound.place.at(guard.test), (), bound.frame), keys, value)
            else:
                found = self._decide(Demand(bound.place.at(guard.test), (), bound.frame), value)
        finally:
            self._deciding.discard(id(guard.test))
        return found if found is None or guard.polarity else not found

    def _decide(self, demand: Demand, value: str) -> bool | None:
        expr = demand.expr
        if isinstance(expr, ir.UnaryOp) and expr.op == "not":
            inner = self._decide(self._part(demand, expr.operand), value)
            return None if inner is None else not inner
        if isinstance(expr, ir.BoolOp):
            parts = [self._decide(self._part(demand, v), value) for v in expr.values]
            ends = expr.op == "or"
            if ends in parts:
                return ends
            return None if None in parts else not ends
        if isinstance(expr, ir.Compare) and len(expr.ops) == 1:
            return self._compare(demand, expr, value)
        if isinstance(expr, ir.Constant):
            return bool(expr.value)
        if isinstance(expr, ir.Call) and ir.last_name(expr.func) in _TESTS and expr.args and not self.origins.targets(demand.place):
            return self._decide(self._part(demand, expr.args[0].value), value)
        if isinstance(expr, (ir.Name, ir.Attribute, ir.Call, ir.NamedExpr)):
            return self._named(demand, value)
        return None

    def _part(self, demand: Demand, expr: ir.Expr) -> Demand:
        return Demand(demand.place.at(expr), (), demand.frame)

    def _named(self, demand: Demand, value: str) -> bool | None:
        found: list[bool | None] = []

        def visit(current: Demand, answer: Answer) -> bool:
            if isinstance(current.expr, (ir.Compare, ir.UnaryOp, ir.Constant)) and not current.path:
                if all(self.holds(b, value) is not False for b in current.guards):
                    found.append(self._decide(current, value))
                return False
            if answer.kind != "moved":
                found.append(None)
            return answer.kind == "moved"

        finished = self.origins.walk(demand, visit, 200)
        return found[0] if finished and found and all(f is found[0] for f in found) else None

    def _compare(self, demand: Demand, expr: ir.Compare, value: str) -> bool | None:
        op, other = expr.ops[0], expr.comparators[0]
        if op in ("==", "!=", "is", "is not"):
            for one, two in ((expr.left, other), (other, expr.left)):
                keys = self._constants(self._part(demand, two))
                if keys:
                    found = self._equal(self._part(demand, one), keys, value)
                    if found is not None:
                        return found == (op in ("==", "is"))
        if op in ("in", "not in"):
            keys = self._members(self._part(demand, other))
            if keys:
                found = self._equal(self._part(demand, expr.left), keys, value)
                return None if found is None else found == (op == "in")
        if op in ("in", "not in") and isinstance(other, ir.Constant) and isinstance(other.value, str):
            return None
        return None

    def _constants(self, demand: Demand) -> tuple[object, ...]:
        expr = demand.expr
        if isinstance(expr, ir.Constant):
            return (expr.value,)
        found = tuple(k for k, _, _ in self.origins.constants(demand))
        if found:
            return found
        return (expr.attr,) if isinstance(expr, ir.Attribute) and expr.attr.isupper() else ()

    def _members(self, demand: Demand) -> tuple[object, ...]:
        out: list[object] = []

        def visit(current: Demand, answer: Answer) -> bool:
            if isinstance(current.expr, ir.Sequence) and not current.path:
                out.extend(k for i in current.expr.items for k in self._constants(self._part(current, i)))
                return False
            return answer.kind == "moved"

        return tuple(out) if self.origins.walk(demand, visit, 100) else ()

    def _equal(self, demand: Demand, keys: Iterable[object], value: str) -> bool | None:
        """Whether the demanded name is one of `keys` when the primary is `value`."""
        verdicts: list[bool | None] = []
        wanted = {_plain(k) for k in keys}
        reached = [False]

        def visit(current: Demand, answer: Answer) -> bool:
            if any(self.holds(b, value) is False for b in current.guards):
                return False
            if self.is_primary(current):
                reached[0] = True
                verdicts.append(bool(wanted & self.scores) if value == SCORE else any(LOSS_NAME.search(w) for w in wanted))
                return False
            if isinstance(current.expr, ir.Constant) and not current.path:
                verdicts.append(_plain(current.expr.value) in wanted)
                return False
            if isinstance(current.expr, ir.Call) and ir.last_name(current.expr.func) in ("str", "lower", "strip", "Primary", "casefold"):
                return True
            if answer.kind != "moved":
                verdicts.append(None)
            return answer.kind == "moved"

        finished = self.origins.walk(demand, visit, 200)
        if not finished or not reached[0] or not verdicts:
            return None
        return verdicts[0] if all(v is verdicts[0] for v in verdicts) else None

    def is_primary(self, demand: Demand) -> bool:
        """Whether an expression reads the key itself."""
        expr = demand.expr
        if demand.path and demand.path[0][1] == self.name:
            return True
        if isinstance(expr, ir.Attribute):
            return expr.attr == self.name and not demand.path
        if isinstance(expr, ir.Subscript):
            return isinstance(expr.index, ir.Constant) and expr.index.value == self.name and not demand.path
        return isinstance(expr, ir.Name) and expr.id == self.name and not demand.path

    def read_in(self, expr: ir.Node) -> bool:
        """Whether the key is read anywhere in an expression; that it is set there says nothing."""
        return any(
            (isinstance(n, ir.Attribute) and n.attr == self.name) or (isinstance(n, ir.Name) and n.id == self.name)
            or (isinstance(n, ir.Subscript) and isinstance(n.index, ir.Constant) and n.index.value == self.name)
            or (isinstance(n, ir.Call) and any(isinstance(a.value, ir.Constant) and a.value.value == self.name for a in n.args))
            for n in ir.walk(expr)
        )  # fmt: skip

    def mentioned(self, expr: ir.Node) -> bool:
        """Whether the key's name stands anywhere in an expression."""
        return any(
            (isinstance(n, ir.Attribute) and n.attr == self.name) or (isinstance(n, ir.Name) and n.id == self.name)
            or (isinstance(n, ir.Constant) and n.value == self.name)
            for n in ir.walk(expr)
        )  # fmt: skip


def hides(origins: Origins, demand: Demand, depth: int = 3) -> str:
    """How a formula goes on without one of its metrics, or nothing where it does not."""
    for node in ir.walk(demand.expr):
        if isinstance(node, ir.Call):
            name = ir.last_name(node.func)
            default = {"get": 1, "pop": 1, "getattr": 2}.get(name)
            if default is not None and len(node.args) > default and _number(node.args[default].value):
                return "a default in place of a metric"
            if name in _HIDING:
                return f"{name} in place of a metric"
        if isinstance(node, ir.IfExp) and (_zero(node.body) or _zero(node.orelse)):
            return "zero in place of a metric"
        if isinstance(node, ir.BoolOp) and node.op == "or" and _zero(node.values[-1]):
            return "zero in place of a metric"
        if depth and isinstance(node, ir.Name) and node is not demand.expr:
            answer = origins.step(Demand(demand.place.at(node), (), demand.frame))
            for inner in answer.demands:
                if inner.place.fn is demand.place.fn and (found := hides(origins, inner, depth - 1)):
                    return found
                if _zero(inner.expr) and len(answer.demands) > 1 and any(b.guard.kind in ("except", "if") for b in inner.guards):
                    return "zero in place of a metric"
    return ""


def _choosing(test: ir.Node, what: str) -> bool:
    """Whether a condition takes something by its size: in `min` or `max`, or by comparing the quantity `what`."""
    if isinstance(test, ir.Call):
        return ir.last_name(test.func) in _CHOICES
    ordered = isinstance(test, ir.Compare) and set(test.ops) <= {"<", "<=", ">", ">="}
    return ordered and isinstance(test, ir.Compare) and any(what == _quantity(side) for side in (test.left, *test.comparators))


def hides_nan(node: ir.Node) -> bool:
    """Whether a call replaces what is not a number."""
    return isinstance(node, ir.Call) and ir.last_name(node.func).startswith("nan")


def _turns(expr: ir.Expr, inner: ir.Expr) -> bool:
    """Whether `-inner` or `other - inner` is what is computed."""
    if isinstance(expr, ir.UnaryOp):
        return expr.op == "-"
    if isinstance(expr, ir.Call):
        return ir.last_name(expr.func) in _NEGATIONS
    if not isinstance(expr, ir.BinOp):
        return False
    if expr.op in ("*", "/"):
        other = expr.left if expr.right is inner else expr.right
        return isinstance(other, ir.UnaryOp) and other.op == "-"
    return expr.op == "-" and expr.right is inner and isinstance(expr.left, (ir.Constant, ir.UnaryOp))


def _number(expr: ir.Expr) -> bool:
    return isinstance(expr, ir.Constant) and isinstance(expr.value, (int, float)) and not isinstance(expr.value, bool)


def _zero(expr: ir.Expr) -> bool:
    return isinstance(expr, ir.Constant) and expr.value in (0, 0.0) and expr.value is not False


def _plain(key: object) -> str:
    return str(key).rpartition(".")[2].lower()


def _is_number(expr: ir.Expr) -> bool:
    return isinstance(expr.operand if isinstance(expr, ir.UnaryOp) else expr, ir.Constant)


def _part_quantity(demand: Demand) -> str:
    # `self.logged["val_loss"]`: the part that is asked for has a name of its own.
    named = [str(value) for kind, value in demand.path if kind != "elem" and isinstance(value, str)]
    return _called(named[-1:])


def _is_gain(demand: Demand) -> bool:
    """Whether what is asked for is called something that is better where there is more of it."""
    expr = demand.expr
    if demand.path:
        name = demand.path[-1][1]
    elif isinstance(expr, ir.Subscript) and isinstance(expr.index, ir.Constant):
        name = expr.index.value
    else:
        name = ir.last_name(expr) if isinstance(expr, (ir.Name, ir.Attribute)) else ""
    return isinstance(name, str) and _GAIN.search(name) is not None


def _quantity(expr: ir.Expr) -> str:
    names: list[str] = []
    if isinstance(expr, (ir.Name, ir.Attribute)):
        names = [ir.last_name(expr)]
    elif isinstance(expr, ir.Call):
        names = [ir.last_name(expr.func)]
    elif isinstance(expr, ir.Subscript) and isinstance(expr.index, ir.Constant):
        names = [str(expr.index.value)]
    return _called(names)


def _called(names: list[str]) -> str:
    for name in names:
        if LOSS_NAME.search(name):
            return "loss"
        if _SCORE.search(name) and not name.lower().startswith("best"):
            return "score"
    return ""
