"""HPO002: the study minimises, says why, and nothing flips the score's sign."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from audits.static.analysis.reach import entry_functions
from audits.static.analysis.values import Ext, Func
from audits.static.context import Context
from audits.static.dataflow.expressions import key
from audits.static.dataflow.flow import Flow, Place
from audits.static.findings import Finding, Step
from audits.static.rules.base import Case, Rule
from audits.static.source import ir
from audits.static.source.project import FunctionInfo, ModuleInfo

MANUAL = """\
The score is lower-is-better. A study that maximises it, or leaves the direction to a default, or an objective that
returns `-score` looks for the worst model. Every Optuna `create_study` must pass direction="minimize" (a literal, or
a name bound to nothing else), and a comment on that line or directly above it must say why. `directions`, "maximize"
and a direction from configuration are findings. From the trial function's return backwards, through variables and
helpers, the rule reports negation, subtraction from a constant, division of a constant, multiplication by a negative
number and their function spellings. It stops at fields and calls that compute the score: `(1 - k_acc)` is its formula.
"""
_NEGATIONS = frozenset({"neg", "negative", "neg_", "reciprocal", "rsub", "__neg__", "copysign"})
_SCORES = frozenset({"objective", "best_objective", "best_score", "best_val", "best_value", "best", "value", "score", "result"})


def check(context: Context) -> Iterable[Finding]:
    """Studies without a reasoned direction, and sign flips."""
    flow = context.flow
    studies = 0
    for unit in [*context.analysis.modules.values(), *context.analysis.cold.values()]:
        for call in unit.calls:
            if _creates_study(unit.calls[call], call):
                studies += 1
                place = Place(call, unit.module, unit.fn)
                for node, message in _direction_faults(flow, place, call):
                    yield context.finding("HPO002", node.module, node.expr, message, fn=node.fn)
    if not studies:
        yield context.config_finding("HPO002", "hpo.modules", "no study is created anywhere, so no direction is stated")
    roots = entry_functions(context.analysis, context.settings.objective)
    if not roots:
        text = f"the objective {context.settings.objective} does not exist"
        yield context.config_finding("HPO002", "hpo.objective", text)
    seen: set[int] = set()
    for root in trial_functions(context, roots):
        for flip, path in _flips(flow, context, root):
            if id(flip.expr) not in seen:
                seen.add(id(flip.expr))
                message = "the sign of the score is flipped between fit() and the objective's return"
                entry = context.settings.objective
                yield context.finding("HPO002", flip.module, flip.expr, message, fn=flip.fn, entry_point=entry, call_path=path)


def trial_functions(context: Context, roots: Iterable[FunctionInfo]) -> list[FunctionInfo]:
    """The objective, and the functions inside it: a function that encloses the trial function counts as well."""
    roots = list(roots)
    inner = [f for f in context.project.functions if any(_encloses(r, f) for r in roots)]
    return [*roots, *inner]


def _encloses(outer: FunctionInfo, fn: FunctionInfo) -> bool:
    current = fn.enclosing
    while current is not None and current is not outer:
        current = current.enclosing
    return current is not None


def _creates_study(callees: Iterable[object], call: ir.Call) -> bool:
    if ir.last_name(call.func) not in ("create_study", "Study"):
        return any(isinstance(c, Ext) and c.name.endswith(".create_study") for c in callees)
    return ir.last_name(call.func) == "create_study" and not any(isinstance(c, Func) and not c.weak for c in callees)


def _direction_faults(flow: Flow, place: Place, call: ir.Call) -> Iterator[tuple[Place, str]]:
    directions = _keyword(flow, place, call, "directions")
    if directions is not None:
        yield directions, "the study has several directions; it must have one, 'minimize'"
        return
    direction = _keyword(flow, place, call, "direction")
    if direction is None:
        yield place, "the study states no direction; pass direction='minimize' with its reason"
        return
    values = _texts(flow, direction)
    if values != {"minimize"}:
        got = ", ".join(sorted(repr(v) for v in values if v)) or "a value that is not a literal"
        yield direction, f"the study's direction must be 'minimize', got {got}"
        return
    places = [direction, *(flow.sources(direction) if isinstance(direction.expr, ir.Name) else [])]
    if not any(_has_reason(p) for p in places):
        yield direction, "direction='minimize' stands without its reason on the same line or in the comment directly above"


def _keyword(flow: Flow, place: Place, call: ir.Call, name: str) -> Place | None:
    for arg in call.args:
        if arg.keyword == name:
            return place.at(arg.value)
        if arg.star == "**":
            mappings = [place.at(arg.value), *flow.sources(place.at(arg.value))]
            for mapping in mappings:
                found = _item(mapping, name)
                if found is not None:
                    return found
    return None


def _item(mapping: Place, name: str) -> Place | None:
    expr = mapping.expr
    if isinstance(expr, ir.Dict):
        for text, value in zip(expr.keys, expr.values, strict=True):
            if isinstance(text, ir.Constant) and text.value == name:
                return mapping.at(value)
    if isinstance(expr, ir.Call) and ir.last_name(expr.func) == "dict":
        return next((mapping.at(a.value) for a in expr.args if a.keyword == name), None)
    return None


def _texts(flow: Flow, place: Place, depth: int = 5) -> set[str]:
    expr = place.expr
    if isinstance(expr, ir.Constant):
        return {str(expr.value)}
    if isinstance(expr, ir.Attribute) and expr.attr in ("MINIMIZE", "MAXIMIZE"):
        return {expr.attr.lower()}
    if isinstance(expr, ir.Attribute) and expr.attr in ("name", "value") and isinstance(expr.value, ir.Attribute):
        return _texts(flow, place.at(expr.value), depth - 1)
    if isinstance(expr, ir.Call) and isinstance(expr.func, ir.Attribute) and expr.func.attr == "lower":
        return _texts(flow, place.at(expr.func.value), depth - 1)
    if isinstance(expr, ir.IfExp):
        return _texts(flow, place.at(expr.body), depth) | _texts(flow, place.at(expr.orelse), depth)
    sources = flow.sources(place) if depth else []
    return set().union(*(_texts(flow, s, depth - 1) for s in sources)) if sources else {""}


def _has_reason(place: Place) -> bool:
    comments = place.module.tree.comments
    line = place.expr.line
    texts = [comments.get(line, "")]
    above = line - 1
    while above in comments and place.module.lines[above - 1].lstrip().startswith("#"):
        texts.append(comments[above])
        above -= 1
    return any(_is_reason(t) for t in texts)


def _is_reason(comment: str) -> bool:
    text = re.sub(r"\b(noqa|type: ignore|pragma|fmt|mypy|pylint|audit)\b.*", "", comment.lstrip("#! "))
    return len(re.findall(r"[^\W\d_]{2,}", text)) >= 2


# -- sign flips


def _flips(flow: Flow, context: Context, root: FunctionInfo) -> Iterator[tuple[Place, tuple[Step, ...]]]:
    modules = context.project.in_modules(context.settings.hpo_modules)
    pending: list[tuple[Place, tuple[Step, ...]]] = [(r, (r.step(),)) for r in flow.returns(root)]
    seen: set[int] = set()
    while pending:
        place, path = pending.pop()
        if id(place.expr) in seen or len(path) > 30:
            continue
        seen.add(id(place.expr))
        for changed in _changed_in_place(flow, place):
            if id(changed.expr) not in seen:
                seen.add(id(changed.expr))
                yield changed, path
        operand = _flipped(flow, place)
        if operand is not None and not _constant(flow, operand) and (place.fn is root or _scalar(flow, operand, modules)):
            yield place, path
        for following in _upstream(flow, place, modules, context):
            pending.append((following, path if following.step() == path[-1] else (*path, following.step())))


def _changed_in_place(flow: Flow, place: Place) -> Iterator[Place]:
    # `value *= -1`, or `value -= score` where value was a constant; `result.field = -result.field`.
    if place.fn is None or not isinstance(place.expr, (ir.Name, ir.Attribute)):
        return
    body = list(ir.walk_own(place.fn.node.body))
    for node in body:
        if isinstance(node, ir.AugAssign) and key(node.target) == key(place.expr):
            value = place.at(node.value)
            if node.op in ("*", "/") and _negative(flow, value):
                yield value
            elif node.op == "-" and not _constant(flow, value) and isinstance(place.expr, ir.Name):
                starts = [n.value for n in body if isinstance(n, ir.Assign) and any(key(t) == key(place.expr) for t in n.targets)]
                if starts and all(s is not None and _constant(flow, place.at(s)) for s in starts):
                    yield value
        elif isinstance(node, ir.Assign) and node.value is not None and isinstance(place.expr, ir.Attribute):
            if any(key(t) == key(place.expr) for t in node.targets):
                flipped = _flipped(flow, place.at(node.value))
                if flipped is not None and not _constant(flow, flipped):
                    yield place.at(node.value)


def _flipped(flow: Flow, place: Place) -> Place | None:
    expr = place.expr
    if isinstance(expr, ir.UnaryOp) and expr.op == "-":
        return place.at(expr.operand)
    if isinstance(expr, ir.BinOp):
        if expr.op in ("-", "/") and _constant(flow, place.at(expr.left)):
            return place.at(expr.right)
        if expr.op in ("*", "/"):
            for side, other in ((expr.left, expr.right), (expr.right, expr.left)):
                if _negative(flow, place.at(side)):
                    return place.at(other)
        if expr.op == "**" and _negative(flow, place.at(expr.right)):
            return place.at(expr.left)
    if isinstance(expr, ir.Call):
        name = ir.last_name(expr.func)
        plain = [a.value for a in expr.args]
        if name == "map" and len(plain) > 1 and ir.last_name(plain[0]) in _NEGATIONS:
            return place.at(plain[1])
        if name in _NEGATIONS:
            return place.at(plain[0]) if plain else place.at(expr.func)
        if name in ("mul", "multiply", "prod", "pow") and any(_negative(flow, place.at(a)) for a in plain):
            return place.at(plain[0])
        if name in ("sub", "subtract") and plain and _constant(flow, place.at(plain[0])):
            return place.at(plain[-1])
    return None


def _constant(flow: Flow, place: Place) -> bool:
    expr = place.expr
    if isinstance(expr, ir.UnaryOp):
        return _constant(flow, place.at(expr.operand))
    if isinstance(expr, ir.Call) and ir.last_name(expr.func) == "float":
        return all(_constant(flow, place.at(a.value)) for a in expr.args)
    if isinstance(expr, ir.Attribute) and ir.dotted(expr) in ("math.inf", "torch.inf", "np.inf", "numpy.inf"):
        return True
    if isinstance(expr, ir.Name):
        sources = flow.sources(place)
        return bool(sources) and all(isinstance(s.expr, (ir.Constant, ir.UnaryOp)) and _constant(flow, s) for s in sources)
    return isinstance(expr, ir.Constant)


def _negative(flow: Flow, place: Place) -> bool:
    expr = place.expr
    if isinstance(expr, ir.Sequence):
        return any(_negative(flow, place.at(i)) for i in expr.items)
    if isinstance(expr, ir.UnaryOp) and expr.op == "-":
        return _constant(flow, place.at(expr.operand))
    if isinstance(expr, ir.Name):
        return any(_negative(flow, s) for s in flow.sources(place))
    if isinstance(expr, ir.Subscript):
        tables = [place.at(expr.value), *flow.sources(place.at(expr.value))]
        parts = [(t, c) for t in tables if isinstance(t.expr, (ir.Sequence, ir.Dict)) for c in ir.children(t.expr)]
        return any(isinstance(c, ir.UnaryOp) and _negative(flow, t.at(c)) for t, c in parts)
    return False


def _scalar(flow: Flow, operand: Place, modules: list[ModuleInfo]) -> bool:
    if operand.module in modules or not isinstance(operand.expr, (ir.Attribute, ir.Subscript)):
        return True
    return isinstance(operand.expr, ir.Attribute) and operand.expr.attr in _SCORES


def _upstream(flow: Flow, place: Place, modules: list[ModuleInfo], context: Context) -> list[Place]:
    expr = place.expr
    if isinstance(expr, ir.Call):
        own = [c.fn for c in flow.callees(place) if isinstance(c, Func) and not c.weak]
        arguments = [place.at(a.value) for a in expr.args]
        if own:
            inside = [r for fn in own if fn.module in modules for r in flow.returns(fn)]
            outside = [f for f in own if f.module not in modules and _passes_score(flow, arguments, f, context)]
            return inside + [r for fn in outside for r in flow.returns(fn)] + (arguments if inside or outside else [])
        receiver = [place.at(expr.func.value)] if isinstance(expr.func, ir.Attribute) else []
        return arguments + receiver if ir.last_name(expr.func) != "fit" else []
    if isinstance(expr, ir.Name):
        return [s for s in flow.sources(place) if s.fn is place.fn or place.fn is None or s.module in modules]
    if isinstance(expr, ir.Attribute):
        return [s for s in flow.sources(place) if s.module in modules]
    if isinstance(expr, (ir.BinOp, ir.UnaryOp, ir.BoolOp, ir.Sequence, ir.NamedExpr, ir.Await)):
        return [place.at(c) for c in ir.children(expr) if isinstance(c, ir.Expr)]
    if isinstance(expr, ir.IfExp):
        return [place.at(expr.body), place.at(expr.orelse)]
    if isinstance(expr, ir.Dict):
        return [place.at(v) for v in expr.values]
    if isinstance(expr, ir.Comprehension):
        return [place.at(expr.value or expr.element), *(place.at(c.iter) for c in expr.clauses)]
    return [place.at(expr.value)] if isinstance(expr, ir.Subscript) else []


def _passes_score(flow: Flow, arguments: list[Place], fn: FunctionInfo, context: Context) -> bool:
    # A helper outside the search is looked into when it is handed the score itself.
    if fn.symbol == context.settings.trainer or fn.node.name == "fit":
        return False
    for argument in arguments:
        expr = argument.expr
        if isinstance(expr, ir.Attribute) and expr.attr in _SCORES:
            return True
        if isinstance(expr, ir.Call) and ir.last_name(expr.func) == "fit":
            return True
        if isinstance(expr, ir.Name):
            for source in flow.sources(argument):
                value = source.expr
                if isinstance(value, ir.Call) and ir.last_name(value.func) == "fit":
                    return True
                if isinstance(value, ir.Attribute) and value.attr in _SCORES:
                    return True
    return False


_SETTINGS = {"hpo": {"modules": ["pkg.hpo"], "size-arguments": ["n_train"], "objective": "pkg.hpo:objective"}}
_STUDY = "def main():\n    return optuna.create_study(direction='minimize')  # the score is lower-is-better\n"


def _case(name: str, returned: str = "return trainer.fit().objective", study: str = _STUDY, **others: str) -> Case:
    head = "import optuna\nfrom pkg.tools import Trainer, helper\n"
    source = f"{head}def objective(trial):\n    trainer = Trainer()\n    {returned}\n{study}"
    tools = "class Trainer:\n    def fit(self):\n        return 1.0\ndef helper(x):\n    return float(x)\n"
    files = {"pkg/__init__.py": "", "pkg/hpo.py": source, "pkg/tools.py": tools}
    files.update({f"pkg/{k}.py": v for k, v in others.items()})
    return Case(name, files)


def _study(name: str, arguments: str, before: str = "") -> Case:
    return _case(name, study=f"{before}def main():\n    return optuna.create_study({arguments})\n")


_FLIPPING = "class Trainer:\n    def fit(self):\n        return 1.0\ndef helper(x):\n    return -x\n"
RULE = Rule(
    code="HPO002",
    title="the study minimises, with its reason, and nothing flips the score",
    table="hpo",
    manual=MANUAL,
    mend="Pass direction='minimize'  # <why lower is better>, and return fit()'s objective unchanged.",
    check=check,
    settings=_SETTINGS,
    valid=(
        _case("a reason on the line"),
        _study("a reason above", "\n        # the composite score is lower-is-better\n        direction='minimize',\n    "),
        _study("a named direction", "direction=DIRECTION", "DIRECTION = 'minimize'  # lower scores are better\n"),
        _study("the enumeration", "direction=optuna.study.StudyDirection.MINIMIZE  # lower is better\n    "),
        _case("a penalty for a failed trial", "return float('inf') if trial is None else trainer.fit()"),
        _case("another negation", "trial.report(-1.0, 0)\n    gain = -trainer.size\n    return trainer.fit()"),
        _case(
            "the score's own formula",
            "return helper(trainer.fit())",
            tools=(
                "class Trainer:\n    def fit(self):\n        return (1 - self.k_acc) + self.rmse - self.success\n"
                "def helper(x):\n    return float(x)\n"
            ),
        ),
    ),
    invalid=(
        _study("no direction", ""),
        _study("maximize", "direction='maximize'  # the score is better when higher\n    "),
        _study("no reason", "direction='minimize'"),
        _study("a comment that is no reason", "direction='minimize'  # noqa: E501\n    "),
        _study(
            "a reason two lines above", "\n        # lower is better here\n        study_name='x',\n        direction='minimize',\n    "
        ),
        _study("several directions", "directions=['minimize', 'maximize']  # both of them matter\n    "),
        _study("from configuration", "direction=cfg.hpo.direction  # lower is better\n    ", "cfg = load()\n"),
        _study("a named maximize", "direction=DIRECTION  # lower is better\n    ", "DIRECTION = 'maximize'\n"),
        _study("the enumeration's other member", "direction=optuna.study.StudyDirection.MAXIMIZE  # lower is better\n    "),
        _study("through a dictionary", "**OPTIONS", "OPTIONS = {'direction': 'maximize'}  # lower is better\n"),
        _case("no study at all", study=""),
        _case("negated", "return -trainer.fit()"),
        _case("negated variable", "score = trainer.fit()\n    value = -score\n    return value"),
        _case("subtracted from one", "return 1 - trainer.fit()"),
        _case("negated in place", "value = trainer.fit()\n    value *= -1\n    return value"),
        _case("taken from nothing", "value = 0.0\n    value -= trainer.fit()\n    return value"),
        _case("a sign from a table", "signs = {'up': -1}\n    return signs['up'] * trainer.fit()"),
        _case("a negated field", "result = trainer.fit()\n    result.objective = -result.objective\n    return result.objective"),
        _case("negated in a dictionary", "out = {'v': -trainer.fit()}\n    return out['v']"),
        _case("negated by map", "import operator\n    return next(map(operator.neg, [trainer.fit()]))"),
        _case("negated in a generator", "return next(-x for x in [trainer.fit()])"),
        _case("a product with minus one", "import math\n    return math.prod([trainer.fit(), -1])"),
        _case("inverted", "return 1.0 / trainer.fit()"),
        _case("times minus one", "return trainer.fit() * -1"),
        _case("times a negative constant", "sign = -1.0\n    return sign * trainer.fit()"),
        _case("operator.neg", "import operator\n    return operator.neg(trainer.fit())"),
        _case("negated in a helper elsewhere", "return helper(trainer.fit())", tools=_FLIPPING),
        _case("negated in a local helper", "return flip(trainer.fit())", study=_STUDY + "def flip(x):\n    return -x\n"),
        _case("negated in the enclosed trial", "def inner(trial):\n        return -trainer.fit()\n    return inner"),
        Case("a missing objective", {"pkg/__init__.py": "", "pkg/hpo.py": "import optuna\n" + _STUDY}),
    ),
    limits=(_case("a flip by subtraction of a variable", "top = trainer.top\n    return top - trainer.fit()"),),
)
