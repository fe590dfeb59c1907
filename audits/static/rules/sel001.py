"""SEL001: the configured primary selects the model that is saved and the value that fit() returns."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from audits.static import ir
from audits.static.algebra import key
from audits.static.findings import Finding
from audits.static.flow import Flow, Place
from audits.static.project import FunctionInfo
from audits.static.reach import entry_functions
from audits.static.rules.base import Case, Context, Rule
from audits.static.values import Cls, Func

MANUAL = """\
Selecting by one quantity, saving by another and reporting a third makes every comparison of runs meaningless. From
`selection.trainer` (fit) on, in its class and in selection helpers that it uses, this rule reads each comparison with
a value named `best…`. The other side must depend on `selection.primary-key`, and lower must win; the best value may
change, and the best checkpoint may be written, only where that comparison (or a name, helper or method that holds it)
is the condition; and fit() must return the best value, alone or as the objective of a result. A checkpoint named
last, latest, epoch or resume may be written at any time. `<=` is accepted like `<`.
"""
_NOT_VALUES = re.compile(r"epoch|step|iter|index|idx|time|path|name|state|weights|model|round|dir|file|validation|metrics", re.I)
_SAVE = re.compile(r"^_?(save|checkpoint|write_checkpoint|store_checkpoint|dump|export)(_|$)|_checkpoint$|^torch_save$", re.I)
_OTHER_SAVE = re.compile(r"last|latest|resume|epoch_|periodic|final|history|metrics|config|log|figure|plot|json|report", re.I)
_HELPERS = re.compile(r"improv|better|best|select|stop|checkpoint|track|monitor|early|primary", re.I)
_RESULT_FIELDS = ("objective", "best_objective", "best_score", "best_val", "best_value", "best", "score", "value")
_OPERATORS = {"operator.lt": "<", "operator.le": "<=", "operator.gt": ">", "operator.ge": ">="}
_FLIP = {"<": ">", ">": "<", "<=": ">=", ">=": "<="}


def check(context: Context) -> Iterable[Finding]:
    """Wrong comparisons, unconditional updates and saves, and wrong returns."""
    roots = entry_functions(context.analysis, context.settings.trainer)
    if not roots:
        text = f"the trainer {context.settings.trainer} does not exist"
        yield context.config_finding("SEL001", "selection.trainer", text)
        return
    selection = _Selection(context, Flow(context.analysis), roots)
    if not selection.sites:
        message = "no comparison with a best value was found, so nothing shows how the model is selected"
        yield context.finding("SEL001", roots[0].module, roots[0].node, message, fn=roots[0])
        return
    for place, message in selection.faults():
        yield context.finding("SEL001", place.module, place.expr, message, fn=place.fn)


class _Selection:
    """The comparisons, updates, saves and returns of one trainer."""

    def __init__(self, context: Context, flow: Flow, roots: list[FunctionInfo]) -> None:
        self.flow = flow
        self.roots = roots
        self.primary = context.settings.primary_key
        home = {r.cls for r in roots if r.cls is not None}
        reached = flow.cold_path(roots)
        self.functions = [
            f for f in reached
            if f in roots or (f.cls is not None and f.cls in home) or f.module in {r.module for r in roots}
            or _HELPERS.search(f.qualname)
        ]  # fmt: skip
        self.above: dict[int, list[ir.Node]] = {}
        for fn in self.functions:
            for statement in fn.node.body:
                self._index(statement, [])
        self.sites = [s for fn in self.functions for s in self._comparisons(fn)]
        self.site_ids = {id(place.expr) for place, _, _ in self.sites}
        self.best_names = {ir.last_name(_base(best.expr)) for _, _, best in self.sites}

    def _index(self, node: ir.Node, above: list[ir.Node]) -> None:
        self.above[id(node)] = above
        if isinstance(node, (ir.Function, ir.ClassDef)):
            return
        for child in ir.children(node):
            self._index(child, [*above, node])

    def _comparisons(self, fn: FunctionInfo) -> Iterator[tuple[Place, Place, Place]]:
        for node in ir.walk_own(fn.node.body):
            if isinstance(node, ir.Compare) and len(node.ops) == 1 and node.ops[0] in _FLIP:
                place = Place(node, fn.module, fn)
                left, right = place.at(node.left), place.at(node.comparators[0])
                if _is_best(right.expr) and not _is_best(left.expr):
                    yield place, left, right
                elif _is_best(left.expr) and not _is_best(right.expr):
                    yield place, right, left
                elif (
                    isinstance(node.left, ir.BinOp) and node.left.op == "-" and _is_zero(node.comparators[0]) and _is_best(node.left.right)
                ):
                    yield place, place.at(node.left.left), place.at(node.left.right)
            elif isinstance(node, ir.Call) and ir.dotted(node.func) in _OPERATORS and len(node.args) == 2:
                place = Place(node, fn.module, fn)
                first, second = place.at(node.args[0].value), place.at(node.args[1].value)
                if _is_best(first.expr) != _is_best(second.expr):
                    yield (place, first, second) if _is_best(second.expr) else (place, second, first)

    def faults(self) -> Iterator[tuple[Place, str]]:
        """Everything that is wrong, where it is wrong."""
        for place, candidate, best in self.sites:
            if not self._lower_wins(place, candidate, best):
                yield place, "the comparison with the best value lets the higher value win; lower is better"
            if not self._is_primary(candidate):
                yield place, f"what is compared with the best value does not depend on {self.primary!r}"
        for fn in self.functions:
            yield from self._updates(fn)
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
            op = sign if best.expr is compare.args[1].value else _FLIP[sign]
        else:
            assert isinstance(compare, ir.Compare)
            op = compare.ops[0] if best.expr is not compare.left else _FLIP[compare.ops[0]]
        if isinstance(candidate.expr, ir.UnaryOp) and candidate.expr.op == "-":
            op = _FLIP[op]
        above = self.above.get(id(compare), [])
        negated = sum(isinstance(a, ir.UnaryOp) and a.op == "not" for a in above) % 2 == 1
        tested = next((a for a in reversed(above) if isinstance(a, ir.If) and _within(compare, a.test)), None)
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
        return isinstance(node, ir.Assign) and any(ir.last_name(t) in self.best_names for t in node.targets)

    # -- the primary

    def _is_primary(self, place: Place) -> bool:
        pending, seen = [place], set[int]()
        while pending and len(seen) < 400:
            current = pending.pop()
            if id(current.expr) in seen:
                continue
            seen.add(id(current.expr))
            if self._mentions(current.expr):
                return True
            for node in self.above.get(id(current.expr), []):
                if isinstance(node, ir.If) and self._mentions(node.test):
                    return True
                if isinstance(node, ir.Match) and self._mentions(node.subject):
                    return True
            pending += self._before(current)
        return False

    def _mentions(self, expr: ir.Node) -> bool:
        return any(
            (isinstance(n, ir.Attribute) and n.attr == self.primary) or (isinstance(n, ir.Name) and n.id == self.primary)
            or (isinstance(n, ir.Constant) and n.value == self.primary)
            for n in ir.walk(expr)
        )  # fmt: skip

    def _before(self, place: Place) -> list[Place]:
        expr = place.expr
        out = self.flow.sources(place)
        if isinstance(expr, ir.Call):
            for callee in self.flow.callees(place):
                if isinstance(callee, Func) and not callee.weak and callee.fn.node.body:
                    tests = [n.test for n in ir.walk_own(callee.fn.node.body) if isinstance(n, (ir.If, ir.IfExp))]
                    subjects = [n.subject for n in ir.walk_own(callee.fn.node.body) if isinstance(n, ir.Match)]
                    out += [Place(t, callee.fn.module, callee.fn) for t in [*tests, *subjects] if self._mentions(t)]
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
            if isinstance(ancestor, ir.If) and not _within(node, ancestor.test):
                if any(_within(node, s) for s in ancestor.orelse) and any(self._stores_best(n) for s in ancestor.body for n in ir.walk(s)):
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
        return any(not self._linked(Place(v, fn.module, fn), 5) and not _starts(v) for v in test.values)

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
                    if any(place_.fn is fn for fn in own for place_, _, _ in self.sites):
                        return True
                if any(self._linked(s, depth - 1) for s in self.flow.sources(inner) if s.fn in self.functions):
                    return True
        return False

    # -- updates and saves

    def _updates(self, fn: FunctionInfo) -> Iterator[tuple[Place, str]]:
        for node in ir.walk_own(fn.node.body):
            if not isinstance(node, ir.Assign) or node.value is None or not self._stores_best(node):
                continue
            value = Place(node.value, fn.module, fn)
            if isinstance(node.value, ir.Call) and ir.last_name(node.value.func) in ("min", "max"):
                if ir.last_name(node.value.func) == "max":
                    yield value, "the best value is updated to the higher one; lower is better"
            elif (
                _initial(node.value)
                or fn.node.name in ("__init__", "resume", "load", "load_state_dict", "restore", "reset")
                or not self._in_loop_or_helper(node, fn)
            ) or (isinstance(node.value, ir.IfExp) and self._linked(Place(node.value.test, fn.module, fn), 5)):
                continue
            elif not self._conditional(node, fn):
                yield value, "the best value is replaced without a comparison that shows an improvement"
            elif not self._is_primary(value):
                yield value, f"the best value is replaced by something that does not depend on {self.primary!r}"

    def _in_loop_or_helper(self, node: ir.Node, fn: FunctionInfo) -> bool:
        return fn not in self.roots or any(isinstance(a, (ir.For, ir.While)) for a in self.above.get(id(node), []))

    def _saves(self) -> Iterator[tuple[Place, str]]:
        saves = []
        for fn in self.functions:
            if _OTHER_SAVE.search(fn.node.name):
                continue
            for node in ir.walk_own(fn.node.body):
                if isinstance(node, ir.Call) and _saving(node):
                    saves.append((node, fn, self._conditional(node, fn)))
        named = [s for s in saves if _says_best(s[0]) or "best" in s[1].node.name.lower()]
        judged = named or ([] if any(c for _, _, c in saves) else [s for s in saves if not _other(s[0])])
        for node, fn, conditional in judged:
            if not conditional:
                yield Place(node, fn.module, fn), "the best checkpoint is written without an improvement"

    # -- the returned value

    def _returns_best(self, place: Place, depth: int) -> bool:
        expr = place.expr
        if isinstance(expr, (ir.Name, ir.Attribute)) and ir.last_name(expr) in self.best_names:
            return True
        if depth == 0:
            return False
        if isinstance(expr, ir.Call):
            if ir.last_name(expr.func) in ("float", "round", "item"):
                inner = expr.args[0].value if expr.args else expr.func
                return self._returns_best(place.at(inner if expr.args else getattr(inner, "value", inner)), depth - 1)
            chosen = [a.value for name in _RESULT_FIELDS for a in expr.args if a.keyword == name][:1]
            own = any(isinstance(c, Func) and not c.weak for c in self.flow.callees(place))
            if chosen and not own:
                return self._returns_best(place.at(chosen[0]), depth - 1)
            if any(isinstance(c, Cls) for c in self.flow.callees(place)) and not own:
                return any(self._returns_best(place.at(a.value), depth - 1) for a in expr.args)
        if isinstance(expr, ir.Dict):
            fields = [v for k, v in zip(expr.keys, expr.values, strict=True)
                      if isinstance(k, ir.Constant) and k.value in _RESULT_FIELDS]  # fmt: skip
            return any(self._returns_best(place.at(v), depth - 1) for v in fields or expr.values)
        if isinstance(expr, ir.Sequence):
            return any(self._returns_best(place.at(i), depth - 1) for i in expr.items)
        sources = [s for s in self.flow.sources(place) if not _initial(s.expr)]
        return bool(sources) and any(self._returns_best(s, depth - 1) for s in sources)


def _base(expr: ir.Expr) -> ir.Expr:
    return _base(expr.left) if isinstance(expr, ir.BinOp) and expr.op in ("-", "+", "*") else expr


def _is_zero(expr: ir.Expr) -> bool:
    return isinstance(expr, ir.Constant) and expr.value == 0 and expr.value is not False


def _starts(expr: ir.Expr) -> bool:
    # Nothing is known yet: `best is None`, `epoch == 0`, `not history`, `isinf(best)`.
    if isinstance(expr, ir.Compare):
        other = expr.comparators[0]
        plain = isinstance(expr.left, (ir.Name, ir.Attribute))
        first = plain and expr.ops[0] in ("==", "is") and isinstance(other, ir.Constant) and other.value in (0, 1, None)
        return first or (expr.ops[0] == "==" and "inf" in key(other))
    if isinstance(expr, ir.UnaryOp):
        return expr.op == "not"
    return (isinstance(expr, ir.Call) and ir.last_name(expr.func) in ("isinf", "isnan")) or "first" in ir.last_name(expr).lower()


def _is_best(expr: ir.Expr) -> bool:
    base = _base(expr)
    if isinstance(base, ir.Subscript) and isinstance(base.index, ir.Constant):
        return "best" in str(base.index.value).lower()
    name = ir.last_name(base)
    return "best" in name.lower() and not _NOT_VALUES.search(name)


def _within(node: ir.Node, root: ir.Node) -> bool:
    return any(n is node for n in ir.walk(root))


def _initial(expr: ir.Expr) -> bool:
    if isinstance(expr, (ir.Constant, ir.UnaryOp)):
        return True
    return "inf" in key(expr) or (isinstance(expr, ir.Call) and ir.last_name(expr.func) == "float" and _initial_text(expr))


def _initial_text(expr: ir.Call) -> bool:
    return bool(expr.args) and isinstance(expr.args[0].value, ir.Constant)


def _words(call: ir.Call) -> str:
    parts = [ir.last_name(call.func)]
    for arg in call.args:
        for node in ir.walk(arg.value):
            if isinstance(node, (ir.Name, ir.Attribute)):
                parts.append(ir.last_name(node))
            elif isinstance(node, ir.Constant) and isinstance(node.value, str):
                parts.append(node.value)
    return " ".join(parts)


def _saving(call: ir.Call) -> bool:
    return bool(_SAVE.search(ir.last_name(call.func))) and not _OTHER_SAVE.search(ir.last_name(call.func))


def _says_best(call: ir.Call) -> bool:
    return bool(re.search(r"best(?!_?(epoch|objective|score|val))", _words(call), re.I)) and not re.search(r"\blast\b|LAST", _words(call))


def _other(call: ir.Call) -> bool:
    return bool(_OTHER_SAVE.search(_words(call)))


_SETTINGS = {"selection": {"trainer": "pkg.train:Trainer.fit", "primary-key": "val_primary"}}


def _case(name: str, loop: str, returned: str = "return self.best", rest: str = "", extra: str = "") -> Case:
    body = "\n".join(f"            {line}" for line in loop.splitlines())
    source = (
        f"import math\nimport torch\n{extra}class Trainer:\n    def __init__(self, config):\n        self.config = config\n"
        f"        self.best = math.inf\n    def primary(self, loss, score):\n"
        f"        return loss if self.config.train.val_primary == 'loss' else score\n"
        f"    def fit(self):\n        for epoch in range(self.config.epochs):\n"
        f"            loss, score = self.validate()\n            objective = self.primary(loss, score)\n{body}\n"
        f"        {returned}\n    def validate(self):\n        return 1.0, 2.0\n"
        f"    def save(self, name):\n        torch.save({{}}, name)\n{rest}"
    )
    return Case(name, {"pkg/__init__.py": "", "pkg/train.py": source})


def _swapped() -> Case:
    good = _case("the two primaries are mixed up", _GOOD)
    return Case(good.name, {p: t.replace("loss if", "score if").replace("else score", "else loss") for p, t in good.files.items()})


_GOOD = "if objective < self.best:\n    self.best = objective\n    self.save('best.pt')"
_TRACKER = (
    "class Tracker:\n    def __init__(self):\n        self.best = math.inf\n    def improved(self, value):\n"
    "        if value OP self.best:\n            self.best = value\n            return True\n        return False\n"
)
RULE = Rule(
    code="SEL001",
    title="the configured primary selects, saves and is returned",
    table="selection",
    manual=MANUAL,
    mend="Compare `objective < best`, save and update best under that condition, and return best.",
    check=check,
    settings=_SETTINGS,
    valid=(
        _case("plain", _GOOD),
        _case("the other way round", _GOOD.replace("objective < self.best", "self.best > objective")),
        _case("a difference", _GOOD.replace("objective < self.best", "objective - self.best < 0")),
        _case("an operator function", "import operator\n" + _GOOD.replace("objective < self.best", "operator.lt(objective, self.best)")),
        _case("the first epoch or better", _GOOD.replace("objective < self.best", "epoch == 0 or objective < self.best")),
        _case("a conditional expression", "better = objective < self.best\nself.best = objective if objective < self.best else self.best\n"
              "if better:\n    self.save('best.pt')"),
        _case("a negated worse", _GOOD.replace("objective < self.best", "not objective >= self.best")),
        _case("a named condition", "improved = objective < self.best\n" + _GOOD.replace("objective < self.best", "improved")),
        _case("an early continue", "if objective >= self.best:\n    continue\nself.best = objective\nself.save('best.pt')"),
        _case("a last checkpoint beside it", _GOOD + "\nself.save('last.pt')"),
        _case("a margin", _GOOD.replace("< self.best", "< self.best - 1e-4")),
        _case("a helper", "if self.improved(objective):\n    self.save('best.pt')", rest=(
            "    def improved(self, value):\n        if value < self.best:\n            self.best = value\n"
            "            return True\n        return False\n")),
        _case("a tracker", "if self.tracker.improved(objective):\n    self.save('best.pt')", "return self.tracker.best",
              rest="    tracker = Tracker()\n", extra=_TRACKER.replace("OP", "<")),
        _case("a result", _GOOD, "return Result(objective=self.best, epochs=3)",
              extra="from dataclasses import dataclass\n@dataclass\nclass Result:\n    objective: float\n    epochs: int\n"),
        _case("min keeps the best", "improved = objective < self.best\nself.best = min(self.best, objective)\n"
              "if improved:\n    self.save('best.pt')"),
        _case("early stopping beside it", _GOOD + "\n    best_epoch = epoch\nif epoch - best_epoch > 3:\n    break"),
    ),
    invalid=(
        _case("higher wins", _GOOD.replace("<", ">")),
        _case("saved in every fifth epoch as well", _GOOD.replace("objective < self.best", "objective < self.best or epoch % 5 == 0")),
        _case("saved where nothing improved", "if objective < self.best:\n    self.best = objective\nelse:\n    self.save('best.pt')"),
        _case("a negated candidate", _GOOD.replace("if objective", "if -objective")),
        _case("higher wins, by a difference", _GOOD.replace("objective < self.best", "objective - self.best > 0")),
        _case("higher wins, the other way round", _GOOD.replace("objective < self.best", "self.best < objective")),
        _case("a negated better", _GOOD.replace("objective < self.best", "not objective < self.best")),
        _case("the loss is compared", _GOOD.replace("objective", "loss")),
        _case("the loss is compared, the objective kept", _GOOD.replace("if objective", "if loss")),
        _case("the loss is kept", _GOOD.replace("= objective", "= loss")),
        _case("saved in every epoch", "if objective < self.best:\n    self.best = objective\nself.save('best.pt')"),
        _case(
            "best replaced in every epoch",
            "improved = objective < self.best\nself.best = objective\nif improved:\n    self.save('best.pt')",
        ),
        _case("the last objective is returned", _GOOD, "return objective"),
        _case("the last loss is returned", _GOOD, "return loss"),
        _case("a result holds the last value", _GOOD, "return Result(objective=objective, epochs=3)",
              extra="from dataclasses import dataclass\n@dataclass\nclass Result:\n    objective: float\n    epochs: int\n"),
        _case("a negated return", _GOOD, "return -self.best"),
        _case("no comparison", "self.save('best.pt')", "return objective"),
        _case("a tracker that keeps the highest", "if self.tracker.improved(objective):\n    self.save('best.pt')",
              "return self.tracker.best", rest="    tracker = Tracker()\n", extra=_TRACKER.replace("OP", ">")),
        _case("a tracker that is given the loss", "if self.tracker.improved(loss):\n    self.save('best.pt')",
              "return self.tracker.best", rest="    tracker = Tracker()\n", extra=_TRACKER.replace("OP", "<")),
        Case("a missing trainer", {"pkg/__init__.py": "", "pkg/train.py": "class Trainer:\n    pass\n"}),
    ),
    limits=(_swapped(),),
)  # fmt: skip
