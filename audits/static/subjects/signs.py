"""Where the sign of a score is turned between fit() and what a trial returns (HPO002)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from audits.static.analysis.values import Ext
from audits.static.dataflow.expressions import operands_of
from audits.static.dataflow.origins import Answer, Demand, Frame, Origins, is_infinite
from audits.static.dataflow.outside import held
from audits.static.source import ir
from audits.static.source.project import FunctionInfo
from audits.static.subjects.literals import numeric
from audits.static.subjects.trials import Trials

_NEGATIONS = frozenset({"neg", "negative", "neg_", "reciprocal", "reciprocal_", "__neg__", "copysign"})
_PRODUCTS = frozenset(
    ["mul", "mul_", "multiply", "prod", "pow", "power", "div", "div_", "divide", "true_divide", "truediv", "__mul__", "__rmul__"]
)
_DIFFERENCES = frozenset({"sub", "subtract", "__sub__"})
_QUOTIENTS = frozenset({"div", "divide", "true_divide", "truediv"})
_TURNED = frozenset({"rsub", "__rsub__", "__rtruediv__"})  # the receiver is what is subtracted, or divided by
_BEST = re.compile(r"^_?(best|value|score|result|objective|composite)$|best|objective|composite|score$", re.I)
_PART = re.compile(r"loss|nll|acc|rmse|f1|auc|iou|recall|precision|success|rate|epoch|histor", re.I)
_NEAR = 200


class Signs:
    """Questions about the sign with which fit()'s value reaches a trial's."""

    def __init__(self, origins: Origins, trials: Trials) -> None:
        self.origins = origins
        self.trials = trials
        self.training = set(origins.flow.cold_path(trials.fits)).difference(trials.trials)

    def flips(self, trial: FunctionInfo) -> Iterator[Demand]:
        """The expressions that turn the value, from what a trial returns back to the best value that the trainer keeps."""
        found: list[Demand] = []

        def visit(demand: Demand, answer: Answer) -> bool | Iterable[Demand]:
            operand = self._flipped(demand)
            trained = self._trained(demand)
            computes = trained or self._in_training(demand)
            if operand is not None and not self._constant(operand) and (not computes or self._is_best(operand)):
                found.append(demand)
            if trained and isinstance(demand.expr, ir.Attribute):
                return self._in_trainer(demand, answer)
            if isinstance(demand.expr, ir.Call) and answer.kind == "outside":
                return [*answer.demands, *held(self.origins, demand, demand.expr)] if ir.last_name(demand.expr.func) != "fit" else ()
            return answer.kind not in ("parameter", "cycle", "function")

        for place in self.origins.flow.returns(trial):
            self.origins.walk(Demand(place), visit)
        yield from found

    def _in_trainer(self, demand: Demand, answer: Answer) -> Iterable[Demand]:
        # Where the trainer reads what it keeps, the value is the one that it compared.
        moved = [d for d in answer.demands if not (d.place.fn is demand.place.fn and d.path)]
        return moved if answer.kind == "moved" and any(d.frame is not demand.frame for d in moved) else ()

    def _trained(self, demand: Demand) -> bool:
        """Whether an expression stands in fit() or in what it calls."""
        frame: Frame | None = demand.frame
        while frame is not None:
            if frame.fn in self.trials.fits or frame.fn.node.name == "fit":
                return True
            frame = frame.outer
        return demand.place.fn is not None and demand.place.fn in self.trials.fits

    def _in_training(self, demand: Demand) -> bool:
        """Whether the calls around an expression, as far as they are known, start in what fit() runs: there losses are computed."""
        outermost = demand.place.fn
        frame: Frame | None = demand.frame
        while frame is not None:
            outermost, frame = frame.caller.fn, frame.outer
        return outermost in self.training

    def _flipped(self, demand: Demand) -> Demand | None:
        """What an expression turns: negated, subtracted from something else, or divided by."""
        expr = demand.expr
        if isinstance(expr, ir.UnaryOp) and expr.op == "-":
            return _at(demand, expr.operand)
        if isinstance(expr, ir.BinOp):
            return self._operator(demand, expr.op, expr.left, expr.right)
        if not isinstance(expr, ir.Call):
            return None
        name, given = self._called(demand, expr)
        if name in _NEGATIONS:
            return _at(demand, given[0]) if given else None
        if name in _TURNED and len(given) > 1:
            return self._operator(demand, "-", given[1], given[0])
        if (name in _PRODUCTS and len(given) > 1) or name == "prod":
            for i, factor in enumerate(given):
                if self._negative(_at(demand, factor)) and not (i == 0 and name in ("pow", "power")):
                    others = [g for g in given if g is not factor] or given
                    return _at(demand, others[0])
        if len(given) > 1 and (name in _DIFFERENCES or name in _QUOTIENTS):
            return self._operator(demand, "-" if name in _DIFFERENCES else "/", given[0], given[1])
        return None

    def _called(self, demand: Demand, call: ir.Call) -> tuple[str, list[ir.Expr]]:
        """The name of what a call runs, and its operands: those that `partial` has bound, the receiver, the arguments."""
        outside = [c.name.rpartition(".")[2] for c in self.origins.flow.callees(demand.place) if isinstance(c, Ext)]
        early = [a.value for _, args, _ in self.origins.partials(demand.place, demand.frame) for a in args]
        plain = [a.value for a in call.args if a.keyword is None]
        receivers = self.origins.flow.receivers(demand.place.at(call.func))
        library = early or (receivers and all(isinstance(r, Ext) for r in receivers))
        return outside[0] if len(outside) == 1 else ir.last_name(call.func), [*early, *plain] if library else operands_of(call)

    def _operator(self, demand: Demand, op: str, left: ir.Expr, right: ir.Expr) -> Demand | None:
        one, two = _at(demand, left), _at(demand, right)
        if op in ("-", "/") and (self._constant(one) or (self._scored(two) and not self._scored(one))):
            return two
        if op in ("*", "/"):
            for side, other in ((one, two), (two, one)):
                if self._negative(side):
                    return other
        return one if op == "**" and self._negative(two) else None

    def _ends(self, demand: Demand) -> list[tuple[Demand, Answer]]:
        ends: list[tuple[Demand, Answer]] = []

        def visit(found: Demand, answer: Answer) -> bool:
            if answer.kind != "moved" or self.trials.is_fit(found.place):
                ends.append((found, answer))
            return (answer.kind == "moved" or answer.kind.startswith("mixed")) and not self.trials.is_fit(found.place)

        self.origins.walk(demand, visit, _NEAR)
        return ends

    def _constant(self, demand: Demand) -> bool:
        """Whether a value is a number or computed from numbers alone."""
        if numeric(demand.expr) is not None or is_infinite(demand.expr):
            return True
        if isinstance(demand.expr, (ir.BinOp, ir.UnaryOp)):
            return all(self._constant(_at(demand, c)) for c in ir.children(demand.expr) if isinstance(c, ir.Expr))
        if isinstance(demand.expr, ir.Call):
            given = [a.value for a in demand.expr.args]
            plain = ir.last_name(demand.expr.func) in ("float", "int", "tensor", "abs") and bool(given)
            return plain and all(self._constant(_at(demand, g)) for g in given)
        ends = self._ends(demand)
        return bool(ends) and all(numeric(d.expr) is not None or is_infinite(d.expr) for d, _ in ends)

    def _negative(self, demand: Demand) -> bool:
        """Whether a value may be a negative number."""
        if isinstance(demand.expr, ir.Sequence):
            return any(self._negative(_at(demand, i)) for i in demand.expr.items)
        return any((numeric(d.expr) or 0) < 0 for d, _ in self._ends(demand)) or (numeric(demand.expr) or 0) < 0

    def _scored(self, demand: Demand) -> bool:
        """Whether the best value that fit() returned is in a value."""
        found = [False]

        def visit(current: Demand, answer: Answer) -> bool:
            fit = self.trials.is_fit(current.place)
            found[0] = found[0] or (fit and self.trials.is_best(current))
            return not fit and not found[0] and answer.kind not in ("parameter", "cycle", "function")

        self.origins.walk(demand, visit, _NEAR)
        return found[0]

    def _is_best(self, demand: Demand) -> bool:
        """Whether a value in the trainer is called what a trainer calls the score that it has selected by."""
        found = [False]

        def visit(current: Demand, answer: Answer) -> bool:
            expr = current.expr
            name = ir.last_name(expr) if isinstance(expr, (ir.Name, ir.Attribute)) else ""
            found[0] = found[0] or bool(name and _BEST.search(name) and not _PART.search(name))
            return not found[0] and answer.kind == "moved" and not isinstance(expr, ir.Attribute)

        self.origins.walk(demand, visit, _NEAR)
        return found[0]


def _at(demand: Demand, expr: ir.Expr) -> Demand:
    return Demand(demand.place.at(expr), (), demand.frame, (), demand.trail)
