"""What a handler of exceptions does with what it caught: raise it, answer it, hand it on, or go on as if nothing had happened."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from audits.static.analysis.engine import Unit
from audits.static.analysis.values import Cls, Func
from audits.static.dataflow import usage
from audits.static.dataflow.flow import Flow
from audits.static.source import ir
from audits.static.source.project import FunctionInfo

BROAD = frozenset({"Exception", "BaseException"})
ANSWERED = frozenset(
    {"ImportError", "ModuleNotFoundError", "StopIteration", "StopAsyncIteration", "KeyError", "FileNotFoundError", "KeyboardInterrupt",
     "AttributeError", "Empty", "Full", "BrokenPipeError", "PackageNotFoundError", "GeneratorExit", "CancelledError", "FileExistsError",
     "ProcessLookupError"}
)  # fmt: skip
_OUTSIDE_WORLD = frozenset(
    {"OSError", "IOError", "PermissionError", "ConnectionError", "ConnectionResetError", "ConnectionRefusedError", "TimeoutError",
     "NotADirectoryError", "IsADirectoryError", "InterruptedError", "HTTPError", "URLError", "error", "UnicodeDecodeError"}
)  # fmt: skip
_TELLING = frozenset(
    {"print", "debug", "info", "warning", "warn", "error", "exception", "critical", "log", "echo", "secho", "print_exc", "print_exception",
     "write", "flush", "log_exception", "capture_exception", "add_scalar", "sleep", "write_line", "inc", "increment", "add_note"}
)  # fmt: skip
_MADE_UP = frozenset(
    {"zeros", "zeros_like", "empty", "empty_like", "ones", "ones_like", "new_zeros", "new_ones", "new_empty", "full", "full_like",
     "new_full", "nan_to_num", "eye", "clone", "detach", "copy"}
)  # fmt: skip
_BOXES = frozenset({"float", "tensor", "as_tensor", "array", "asarray", "new_tensor", "int", "dict", "list", "set", "tuple", "bool", "str"})
_LEAVING = frozenset({"sys.exit", "os._exit", "exit", "quit", "os.abort"})
_RAISING = frozenset({"pytest.fail", "pytest.skip", "six.reraise", "reraise", "raise_from", "six.raise_from", "os.abort"})
_DELIVERING = frozenset({"set_exception", "put", "put_nowait", "send", "send_bytes", "throw"})
_CONVERSIONS = frozenset(
    {"int", "float", "complex", "Decimal", "Fraction", "literal_eval", "loads", "fromisoformat", "strptime", "UUID", "ip_address",
     "strip", "lower", "split", "replace", "str", "len", "repr", "bool"}
)  # fmt: skip
_SEARCHES = frozenset({"index", "remove", "relative_to", "getattr", "next"})
_PARSE_ERRORS = frozenset(
    {"ValueError", "TypeError", "SyntaxError", "JSONDecodeError", "OverflowError", "InvalidOperation", "IndexError", "KeyError"}
)
_TRIVIAL = frozenset(
    {"get", "pop", "getattr", "hasattr", "isinstance", "len", "str", "int", "float", "bool", "repr", "lower", "upper", "strip", "split",
     "keys", "values", "items", "format", "print", "sorted", "list", "dict", "tuple", "set", "join", "index", "type", "vars", "super",
     "append", "Path"}
)  # fmt: skip
_PARSER_ERROR = re.compile(r"(^|\.|_)(parser|ap|ctx|context)\.(error|fail|abort)$")
_COLLECTING = frozenset({"append", "add", "appendleft"})
_DEPTH = 3


@dataclass(frozen=True, slots=True)
class Around:
    """What stands around a `try`: the loop that repeats it, what follows it, and what follows that loop."""

    loop: ir.Stmt | None
    following: list[ir.Stmt]
    after_loop: list[ir.Stmt]


class Handlers:
    """Answers about the handlers of a project."""

    def __init__(self, flow: Flow) -> None:
        self.flow = flow

    # -- what is caught

    def caught(self, unit: Unit, kinds: Iterable[ir.Expr], depth: int = 4) -> set[str]:
        """The names of the exceptions that expressions stand for, through aliases and tuples."""
        out: set[str] = set()
        for kind in kinds:
            if isinstance(kind, ir.Sequence):
                out |= self.caught(unit, kind.items, depth)
            elif isinstance(kind, ir.Starred):
                out |= self.caught(unit, [kind.value], depth)
            elif isinstance(kind, ir.BinOp):
                out |= self.caught(unit, [kind.left, kind.right], depth)
            else:
                behind = [p for p in self.flow.sources(usage.place(unit, kind)) if p.expr is not kind] if depth else []
                parts = [(self.flow.unit(p), p.expr) for p in behind if isinstance(p.expr, (ir.Name, ir.Attribute, ir.Sequence, ir.BinOp))]
                out |= {n for inside, e in parts for n in self.caught(inside, [e], depth - 1)} or {ir.last_name(kind)}
        return out

    # -- how a block ends

    def ends(self, unit: Unit, body: list[ir.Stmt], depth: int = _DEPTH) -> set[str]:
        """How a block may end: raise, return, break, continue, or fall out of its end."""
        out: set[str] = set()
        for statement in body:
            ends = self._ends(unit, statement, depth)
            out |= ends - {"fall"}
            if "fall" not in ends:
                return out
        return out | {"fall"}

    def _ends(self, unit: Unit, statement: ir.Stmt, depth: int) -> set[str]:
        if isinstance(statement, ir.Raise):
            return {"raise"}
        if isinstance(statement, ir.Return):
            return {"raise"} if statement.value is not None and self._never_returns(unit, statement.value, depth) else {"return"}
        if isinstance(statement, ir.Simple) and statement.kind in ("break", "continue"):
            return {statement.kind}
        if isinstance(statement, ir.ExprStmt):
            return {"raise"} if self._never_returns(unit, statement.value, depth) else {"fall"}
        if isinstance(statement, ir.If):
            return self.ends(unit, statement.body, depth) | self.ends(unit, statement.orelse, depth)
        if isinstance(statement, ir.With):
            return self.ends(unit, statement.body, depth)
        if isinstance(statement, ir.Try):
            last = self.ends(unit, statement.finalbody, depth)
            whole = self.ends(unit, [*statement.body, *statement.orelse], depth)
            inner = whole.union(*(self.ends(unit, h.body, depth) for h in statement.handlers))
            return (inner | (last - {"fall"})) if "fall" in last else last
        if isinstance(statement, (ir.For, ir.While)):
            inner = self.ends(unit, statement.body, depth) & {"raise", "return"}
            return inner | self.ends(unit, statement.orelse, depth)
        if isinstance(statement, ir.Match):
            return {"fall"}.union(*(self.ends(unit, c.body, depth) for c in statement.cases))
        return {"fall"}

    def _never_returns(self, unit: Unit, expr: ir.Expr, depth: int) -> bool:
        if not isinstance(expr, ir.Call):
            return False
        name = ir.dotted(expr.func) or ""
        if name in _LEAVING:
            first = expr.args[0].value if expr.args else None
            return first is not None and not (isinstance(first, ir.Constant) and first.value in (0, None))
        if name in _RAISING or _PARSER_ERROR.search(name):
            return True
        found = [c.fn for c in unit.calls.get(expr, frozenset()) if isinstance(c, Func)]
        return bool(found) and depth > 0 and all(self._always_raises(fn, depth - 1) for fn in found)

    def _always_raises(self, fn: FunctionInfo, depth: int) -> bool:
        return self.ends(self.flow.analysis.cold[fn], fn.node.body, depth) == {"raise"}

    # -- what goes on as if nothing had happened

    def idle(self, unit: Unit, body: list[ir.Stmt], depth: int = _DEPTH) -> bool:
        """Whether a block only passes, tells, counts or makes up a value."""
        return all(self._idle(unit, s, depth) for s in body)

    def _idle(self, unit: Unit, statement: ir.Stmt, depth: int) -> bool:
        if isinstance(statement, (ir.Simple, ir.Delete, ir.Import, ir.ImportFrom)):
            return True
        if isinstance(statement, ir.ExprStmt):
            return (
                isinstance(statement.value, ir.Constant)
                or self.tells(unit, statement.value, depth)
                or self._collected(unit, statement.value)
            )
        if isinstance(statement, ir.AugAssign):
            return isinstance(statement.value, ir.Constant)
        if isinstance(statement, (ir.Assign, ir.Return)):
            return statement.value is None or self.made_up(unit, statement.value, depth)
        if isinstance(statement, ir.If):
            return self.idle(unit, [*statement.body, *statement.orelse], depth)
        if isinstance(statement, ir.With):
            return self.idle(unit, statement.body, depth)
        return isinstance(statement, ir.Global)

    def tells(self, unit: Unit, expr: ir.Expr, depth: int = _DEPTH) -> bool:
        """Whether a call only tells somebody, itself or through a helper of the packages."""
        if not isinstance(expr, ir.Call):
            return False
        if ir.last_name(expr.func) in _TELLING:
            return True
        found = [c.fn for c in unit.calls.get(expr, frozenset()) if isinstance(c, Func)]
        return bool(found) and depth > 0 and all(self.idle(self.flow.analysis.cold[f], f.node.body, depth - 1) for f in found)

    def _collected(self, unit: Unit, expr: ir.Expr) -> bool:
        if not isinstance(expr, ir.Call) or not isinstance(expr.func, ir.Attribute) or expr.func.attr not in _COLLECTING:
            return False
        return all(self.made_up(unit, a.value) for a in expr.args)

    def made_up(self, unit: Unit, expr: ir.Expr, depth: int = _DEPTH) -> bool:
        """Whether a value was made up or was there before: no work has answered the exception."""
        if isinstance(expr, (ir.Constant, ir.Name, ir.FString)):
            return True
        if isinstance(expr, ir.Attribute):
            return ir.dotted(expr) is not None
        if isinstance(expr, ir.UnaryOp):
            return self.made_up(unit, expr.operand, depth)
        if isinstance(expr, ir.Subscript):  # a part of what was there before
            return self.made_up(unit, expr.value, depth) and not any(_works(n) for n in ir.walk(expr.index))
        if isinstance(expr, ir.IfExp):
            return self.made_up(unit, expr.body, depth) and self.made_up(unit, expr.orelse, depth)
        if isinstance(expr, (ir.BoolOp, ir.Sequence)):
            return all(self.made_up(unit, e, depth) for e in (expr.values if isinstance(expr, ir.BoolOp) else expr.items))
        if isinstance(expr, ir.Dict):
            return all(self.made_up(unit, e, depth) for e in expr.values)
        if isinstance(expr, ir.BinOp):
            sides = (expr.left, expr.right)
            fixed = any(isinstance(e, (ir.Constant, ir.Sequence)) for e in sides) and all(self.made_up(unit, e, depth) for e in sides)
            return fixed or any(isinstance(e, ir.Constant) and e.value in (0, 0.0) for e in sides)
        return isinstance(expr, ir.Call) and self._made_up_call(unit, expr, depth)

    def _made_up_call(self, unit: Unit, expr: ir.Call, depth: int) -> bool:
        name = ir.last_name(expr.func)
        if name in _MADE_UP:
            return True
        callees = unit.calls.get(expr, frozenset())
        found = [c.fn for c in callees if isinstance(c, Func)]
        if found:
            return depth > 0 and all(self._makes_up(f, depth - 1) for f in found)
        if name in _BOXES or any(isinstance(c, Cls) for c in callees):
            return all(not isinstance(a.value, (ir.Name, ir.Attribute)) and self.made_up(unit, a.value, depth) for a in expr.args)
        return False

    def _makes_up(self, fn: FunctionInfo, depth: int) -> bool:
        return self.idle(self.flow.analysis.cold[fn], fn.node.body, depth)

    # -- what is handed on

    def handed_on(self, unit: Unit, handler: ir.Handler) -> bool:
        """Whether the exception reaches somebody who is not only told of it."""
        if not isinstance(handler.name, ir.Name):
            return False
        name = handler.name.id
        return any(self._hands_on(unit, handler, statement, name) for statement in handler.body)

    def collects(self, unit: Unit, handler: ir.Handler) -> bool:
        """Whether what failed is put into something that is looked at later."""
        calls = [s.value for s in handler.body if isinstance(s, ir.ExprStmt) and isinstance(s.value, ir.Call)]
        return any(
            isinstance(c.func, ir.Attribute) and c.func.attr in _COLLECTING and self._read_elsewhere(unit, handler, c.func.value)
            for c in calls
        )

    def _hands_on(self, unit: Unit, handler: ir.Handler, statement: ir.Stmt, name: str) -> bool:
        if isinstance(statement, ir.ExprStmt):
            call = statement.value
            collected = isinstance(call, ir.Call) and isinstance(call.func, ir.Attribute) and call.func.attr in _COLLECTING
            return isinstance(call, ir.Call) and _mentions(call, name) and not collected and not self.tells(unit, call)
        if isinstance(statement, ir.Assign):
            if statement.value is None or not _mentions(statement.value, name):
                return False
            return any(self._read_elsewhere(unit, handler, t) for t in statement.targets)
        if isinstance(statement, ir.If):
            inner = [*statement.body, *statement.orelse]
            return _mentions(statement.test, name) or any(self._hands_on(unit, handler, s, name) for s in inner)
        return isinstance(statement, ir.Return) and statement.value is not None and _mentions(statement.value, name)

    def _read_elsewhere(self, unit: Unit, handler: ir.Handler, target: ir.Expr) -> bool:
        while isinstance(target, ir.Subscript):
            target = target.value
        if not isinstance(target, ir.Name):
            return True
        inside = {id(n) for s in handler.body for n in ir.walk(s)}
        if unit.fn is None or any(p.name == target.id for p in unit.fn.node.params) or unit.fn.scope.outer.get(target.id):
            return True
        stores = {id(t) for n in ir.walk_own(unit.fn.node.body) for t in getattr(n, "targets", ())}
        loads = (n for s in unit.fn.node.body for n in ir.walk(s) if isinstance(n, ir.Name) and n.id == target.id)
        return any(id(n) not in inside and id(n) not in stores for n in loads)

    def raised_later(self, unit: Unit, handler: ir.Handler, following: list[ir.Stmt]) -> bool:
        """Whether what the handler kept the exception in is raised after it."""
        if not isinstance(handler.name, ir.Name):
            return False
        kept = {handler.name.id}
        for node in (n for s in handler.body for n in ir.walk(s)):
            if isinstance(node, ir.Assign) and node.value is not None and _mentions(node.value, handler.name.id):
                kept |= {ir.last_name(t) for t in node.targets}
            elif isinstance(node, ir.Call) and isinstance(node.func, ir.Attribute) and node.func.attr in ("append", "add"):
                if any(_mentions(a.value, handler.name.id) for a in node.args):
                    kept.add(ir.last_name(node.func.value))
        kept.discard("")
        raised = (n for s in following for n in ir.walk(s) if isinstance(n, ir.Raise) and n.exc is not None)
        return any(isinstance(m, (ir.Name, ir.Attribute)) and ir.last_name(m) in kept for r in raised for m in ir.walk(r))

    def delivers(self, handler: ir.Handler) -> bool:
        """Whether the exception is put where its receiver will raise it: a future, a queue, a pipe."""
        if not isinstance(handler.name, ir.Name):
            return False
        calls = (n for s in handler.body for n in ir.walk(s) if isinstance(n, ir.Call) and isinstance(n.func, ir.Attribute))
        return any(ir.last_name(c.func) in _DELIVERING and any(_mentions(a.value, handler.name.id) for a in c.args) for c in calls)

    # -- the answer as a whole

    def swallows_all(self, unit: Unit, handler: ir.Handler, around: Around) -> bool:
        """Whether a handler of everything lets the program go on."""
        ends = self.ends(unit, handler.body)
        if ends == {"raise"} or self.delivers(handler) or self.raised_later(unit, handler, around.following):
            return False
        return not (around.loop is not None and "raise" in ends and not ends & {"return", "break"})  # tried again, and in the end raised

    def swallows_named(self, unit: Unit, statement: ir.Try, handler: ir.Handler, names: set[str], around: Around) -> bool:
        """Whether a handler of named exceptions goes on as if nothing had happened."""
        if "raise" in self.ends(unit, handler.body):
            return False
        if not self.idle(unit, handler.body):
            return bool(names - ANSWERED - _OUTSIDE_WORLD) and self._hollow(unit, statement, handler)
        if self.handed_on(unit, handler) or self.collects(unit, handler) or self.raised_later(unit, handler, around.following):
            return False
        if not names - ANSWERED:
            return self._wide(unit, statement, names)
        if (
            self._told_only(unit, statement, handler, names)
            or self._question(unit, handler)
            or _another_part(statement, handler, names)
            or self._asked(unit, statement, handler, names)
        ):
            return False
        return not self._tries_again(unit, statement, handler, around)

    def _hollow(self, unit: Unit, statement: ir.Try, handler: ir.Handler) -> bool:
        # Something is tidied up, and a number or nothing stands in for the result.
        simple = all(isinstance(s, (ir.ExprStmt, ir.Assign, ir.Return, ir.Simple)) for s in handler.body)
        if not simple or self.handed_on(unit, handler) or self.collects(unit, handler):
            return False
        made = _values(handler)
        calls = [s.value for s in handler.body if isinstance(s, ir.ExprStmt) and isinstance(s.value, ir.Call)]
        if any(isinstance(c, (Func, Cls)) for call in calls for c in unit.calls.get(call, frozenset())):
            return False
        return bool(made) and all(self._stands_in(unit, statement, v) for v in made)

    def _stands_in(self, unit: Unit, statement: ir.Try, expr: ir.Expr) -> bool:
        if isinstance(expr, ir.Constant):
            number = (
                isinstance(expr.value, (int, float))
                and not isinstance(expr.value, bool)
                and not (type(expr.value) is int and expr.value > 0)
            )
            return number or (expr.value is None and self._returns_value(statement))
        if isinstance(expr, ir.UnaryOp):
            return self._stands_in(unit, statement, expr.operand)
        if isinstance(expr, (ir.Dict, ir.Sequence)):
            return not (expr.keys if isinstance(expr, ir.Dict) else expr.items)
        return ir.last_name(expr) in ("nan", "inf") or (isinstance(expr, ir.Call) and self.made_up(unit, expr))

    def _told_only(self, unit: Unit, statement: ir.Try, handler: ir.Handler, names: set[str]) -> bool:
        # Somebody is told what happened: an exit code says so, nothing stands in for a result, or the outside world failed.
        tells = [n for s in handler.body for n in ir.walk(s) if isinstance(n, ir.Call) and self.tells(unit, n)]
        made = _values(handler)
        codes = [isinstance(v, ir.Constant) and type(v.value) is int and v.value > 0 for v in made]
        if tells and codes and all(codes):
            return True
        if not isinstance(handler.name, ir.Name):
            return False
        lost = self._returns_value(statement) and "fall" in self.ends(unit, handler.body)
        return any(_mentions(c, handler.name.id) for c in tells) and (not (made or lost) or not names - _OUTSIDE_WORLD - ANSWERED)

    def _returns_value(self, statement: ir.Try) -> bool:
        return any(isinstance(n, ir.Return) and n.value is not None for n in ir.walk_own([*statement.body, *statement.orelse]))

    def _question(self, unit: Unit, handler: ir.Handler) -> bool:
        # `try: check(x) except E: return False`, and True where nothing was raised.
        if unit.fn is None or not self.ends(unit, handler.body) <= {"return"}:
            return False
        answers = _values(handler)
        inside = {id(v) for v in answers}
        others = [n.value for n in ir.walk_own(unit.fn.node.body) if isinstance(n, ir.Return) and id(n.value) not in inside]
        return bool(answers and others) and all(isinstance(v, ir.Constant) and type(v.value) is bool for v in (*answers, *others))

    def _asked(self, unit: Unit, statement: ir.Try, handler: ir.Handler, names: set[str]) -> bool:
        # A conversion that may fail is a question, and another reading of the same text its answer.
        calls = [n for s in statement.body for n in ir.walk(s) if isinstance(n, ir.Call)]
        called = {n.rpartition(".")[2] for c in calls for n in (usage.called_names(unit, c) or {ir.last_name(c.func)})}
        if not calls or names - _PARSE_ERRORS - ANSWERED or called - _CONVERSIONS - _SEARCHES - _TRIVIAL:
            return False
        made = _values(handler)
        constant = [v for v in made if isinstance(v, ir.Constant) or (isinstance(v, ir.Call) and self.made_up(unit, v))]
        return bool(called & _SEARCHES) or (not constant and bool(called & _CONVERSIONS))

    def _tries_again(self, unit: Unit, statement: ir.Try, handler: ir.Handler, around: Around) -> bool:
        # `for _ in range(n): try: return f() except E: sleep()` with a raise after the loop, or without an end.
        leaves = self.ends(unit, [*statement.body, *statement.orelse]) & {"return", "break"}
        if around.loop is None or not leaves or self.ends(unit, handler.body) & {"return", "break"}:
            return False
        endless = isinstance(around.loop, ir.While) and isinstance(around.loop.test, ir.Constant) and bool(around.loop.test.value)
        orelse = getattr(around.loop, "orelse", [])
        return endless or "raise" in self.ends(unit, [*orelse, *around.after_loop[:1]])

    def _wide(self, unit: Unit, statement: ir.Try, names: set[str]) -> bool:
        # A missing key or attribute of the one thing that is asked for has its own answer; a bug in all the work done meanwhile has not.
        if not names & {"AttributeError", "KeyError"}:
            return False
        calls = [n for s in statement.body for n in ir.walk(s) if isinstance(n, ir.Call) and ir.last_name(n.func) not in _TRIVIAL]
        own = [c for c in calls if any(isinstance(v, (Func, Cls)) for v in unit.calls.get(c, frozenset()))]
        asking = [c for c in calls if c.args]
        return len(asking) > 1 or len(calls) > 3 or len(own) > (0 if "AttributeError" in names else 1)


def _values(handler: ir.Handler) -> list[ir.Expr]:
    # What a handler returns or binds.
    nodes = (n for s in handler.body for n in ir.walk(s) if isinstance(n, (ir.Assign, ir.Return)))
    return [n.value for n in nodes if n.value is not None]


def _another_part(statement: ir.Try, handler: ir.Handler, names: set[str]) -> bool:
    # `try: x = rows[i] except IndexError: x = rows[-1]`: what is not there is answered with what is, and no work has failed.
    made = _values(handler)
    if names - {"IndexError"} - ANSWERED or not made or not all(isinstance(v, ir.Subscript) for v in made):
        return False
    return not any(_works(n) for s in statement.body for n in ir.walk(s))


def _works(node: ir.Node) -> bool:
    return isinstance(node, ir.Comprehension) or (isinstance(node, ir.Call) and ir.last_name(node.func) not in _TRIVIAL)


def _mentions(node: ir.Node, name: str) -> bool:
    return any(isinstance(n, ir.Name) and n.id == name for n in ir.walk(node))
