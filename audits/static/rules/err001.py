"""ERR001: no swallowed exception."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from audits.static.analysis.engine import Unit
from audits.static.analysis.values import ExtInst
from audits.static.context import Context
from audits.static.dataflow import usage
from audits.static.findings import Finding
from audits.static.rules.base import Case, Rule
from audits.static.source import ir
from audits.static.subjects.handlers import ANSWERED, BROAD, Around, Handlers

MANUAL = """\
A handler that catches everything, or that catches anything and goes on as if nothing had happened, turns a bug into a
wrong number. This rule reports: `except:`, `except Exception` and `except BaseException`, under any alias, that may end
otherwise than by raising; handlers that only pass, tell, count, continue, or make up a value (a constant, a name that was there
before or a part of it, zeros, a helper that returns those); `contextlib.suppress`; an `__exit__` that may return true; leaving a `finally`;
`gather(return_exceptions=True)` whose results nobody looks at, `optimize(catch=...)`, and work given to a pool whose
results nobody asks for.

A named exception may be answered with real work, another reading of the same text, or by handing it on: raised after
a retry, put into a future or a queue, returned. An optional import may have a fallback, the end of an iteration, a missing file
and a missing key or attribute their own answer, as long as the `try` holds little else; a failure of the outside world
(`OSError`) may be reported and passed over; and the `main` of a command may turn any error into a non-zero exit code. Logging alone
is no answer to `except Exception`.
"""
_POOLS = re.compile(r"^(concurrent\.futures|multiprocessing|joblib|torch\.multiprocessing|asyncio)\b")
_GATHER = re.compile(r"\bgather$")
_CAUGHT_BY = frozenset({"optimize"})


def check(context: Context) -> Iterable[Finding]:
    """One finding for each place that swallows."""
    search = _Search(context)
    configured = set(context.project.configured_modules())
    for unit in usage.cold_units(context.analysis):
        if unit.module not in configured:
            continue
        for node, message in search.unit(unit):
            yield context.finding("ERR001", unit.module, node, message, fn=unit.fn)


class _Search:
    def __init__(self, context: Context) -> None:
        self.handlers = Handlers(context.flow)

    def unit(self, unit: Unit) -> Iterator[tuple[ir.Node, str]]:
        body = unit.fn.node.body if unit.fn is not None else unit.module.tree.body
        yield from self._block(unit, body, Around(None, [], []))
        if unit.fn is not None and unit.fn.node.name in ("__exit__", "__aexit__"):
            yield from self._exit(unit, unit.fn.node)
        for node in usage.own_nodes(unit):
            if isinstance(node, ir.Call):
                yield from self._call(unit, node)
            elif isinstance(node, ir.ExprStmt) and isinstance(node.value, ir.Call) and self._pooled(unit, node.value, ("submit", "map")):
                yield node.value, "nobody asks for the result of this work, so that its exception is dropped"
        yield from self._unasked(unit, body)

    # -- blocks

    def _block(self, unit: Unit, body: list[ir.Stmt], around: Around) -> Iterator[tuple[ir.Node, str]]:
        for number, statement in enumerate(body):
            following = [*body[number + 1 :], *around.following]
            here = Around(around.loop, following, around.after_loop)
            if isinstance(statement, ir.Try):
                yield from self._try(unit, statement, body[number + 1 : number + 2], here)
            if isinstance(statement, (ir.For, ir.While)):
                yield from self._block(unit, statement.body, Around(statement, following, following))
                yield from self._block(unit, statement.orelse, here)
            elif isinstance(statement, (ir.If, ir.Try)):
                yield from self._block(unit, statement.body, here)
                yield from self._block(unit, statement.orelse, here)
            elif isinstance(statement, ir.With):
                yield from self._block(unit, statement.body, here)
            elif isinstance(statement, ir.ClassDef):
                yield from self._block(unit, statement.body, Around(None, [], []))
            elif isinstance(statement, ir.Match):
                for case in statement.cases:
                    yield from self._block(unit, case.body, here)

    def _try(self, unit: Unit, statement: ir.Try, after: list[ir.Stmt], around: Around) -> Iterator[tuple[ir.Node, str]]:
        for leaving in _leaves(statement.finalbody):
            yield leaving, "leaving a `finally` drops the exception that is on its way"
        for handler in statement.handlers:
            yield from self._block(unit, handler.body, around)
            names = self.handlers.caught(unit, [handler.type] if handler.type is not None else [])
            if not names or names & BROAD:
                if self.handlers.swallows_all(unit, handler, around) and not _last_frame(handler, unit):
                    yield handler, "every exception is caught here and none is raised again"
            elif self.handlers.swallows_named(unit, statement, handler, names, around):
                if not _refused(handler, after) and not _last_frame(handler, unit):
                    yield handler, f"{', '.join(sorted(names))} is swallowed here"
        yield from self._block(unit, statement.finalbody, around)

    # -- context managers

    def _exit(self, unit: Unit, node: ir.Function) -> Iterator[tuple[ir.Node, str]]:
        for inner in ir.walk_own(node.body):
            if isinstance(inner, ir.Return) and inner.value is not None and self._may_be_true(unit, inner.value):
                yield inner, f"{node.name} may return true, which swallows the exception"

    def _may_be_true(self, unit: Unit, expr: ir.Expr) -> bool:
        if isinstance(expr, ir.Constant):
            return bool(expr.value)
        if isinstance(expr, ir.BoolOp):
            return self._may_be_true(unit, expr.values[-1]) if expr.op == "and" else any(self._may_be_true(unit, v) for v in expr.values)
        if isinstance(expr, ir.IfExp):
            return self._may_be_true(unit, expr.body) or self._may_be_true(unit, expr.orelse)
        if isinstance(expr, ir.Call):  # another manager's answer is judged there
            asked = ir.last_name(expr.func) in ("issubclass", "isinstance", "bool", "any", "all")
            return asked and not self._narrow(unit, [a.value for a in expr.args[1:]])
        if isinstance(expr, ir.Compare):
            return not self._narrow(unit, expr.comparators)
        return True

    def _narrow(self, unit: Unit, kinds: list[ir.Expr]) -> bool:
        names = self.handlers.caught(unit, kinds)
        return bool(names) and not names - ANSWERED

    # -- calls

    def _call(self, unit: Unit, call: ir.Call) -> Iterator[tuple[ir.Node, str]]:
        names = usage.called_names(unit, call)
        given = [a.value for a in call.args if a.keyword is None]
        if "functools.partial" in names and given:
            names = names | usage.outside_names(self.handlers.flow.analysis, unit, given[0])
            given = given[1:]
        if "contextlib.suppress" in names and given:
            kinds = self.handlers.caught(unit, given)
            if kinds & BROAD:
                yield call, "suppress() swallows every exception"
            elif kinds - ANSWERED:
                yield call, f"suppress() swallows {', '.join(sorted(kinds))}"
        caught = usage.keyword(call, "catch")
        if caught is not None and ir.last_name(call.func) in _CAUGHT_BY and self.handlers.caught(unit, [caught]) & BROAD:
            yield call, "the search goes on after any exception of a trial"
        kept = usage.keyword(call, "return_exceptions")
        if isinstance(kept, ir.Constant) and kept.value is True and _GATHER.search(ir.last_name(call.func)) and not _looks(unit):
            yield call, "exceptions become results here, and nobody looks for them"

    # -- pools

    def _pooled(self, unit: Unit, call: ir.Call, methods: tuple[str, ...]) -> bool:
        if not isinstance(call.func, ir.Attribute) or call.func.attr not in methods:
            return False
        receivers = unit.receivers.get(call.func, frozenset())
        return any(isinstance(r, ExtInst) and _POOLS.match(r.name) for r in receivers)

    def _unasked(self, unit: Unit, body: list[ir.Stmt]) -> Iterator[tuple[ir.Node, str]]:
        # Futures that are bound to a name and are at most waited for.
        for node in usage.own_nodes(unit):
            if not isinstance(node, ir.Assign) or node.value is None or not isinstance(node.targets[0], ir.Name):
                continue
            value = node.value.element if isinstance(node.value, ir.Comprehension) else node.value
            if isinstance(value, ir.Call) and self._pooled(unit, value, ("submit",)) and _only_waited(body, node.targets[0]):
                yield value, "nobody asks for the result of this work, so that its exception is dropped"


def _only_waited(body: list[ir.Stmt], target: ir.Name) -> bool:
    nodes = [n for s in body for n in ir.walk(s)]
    waited = {id(a.value) for n in nodes if isinstance(n, ir.Call) and ir.last_name(n.func) in ("wait", "len") for a in n.args}
    return all(n is target or id(n) in waited for n in nodes if isinstance(n, ir.Name) and n.id == target.id)


def _looks(unit: Unit) -> bool:
    # Whether the function asks what the results are.
    names = {ir.last_name(n.func) for n in usage.own_nodes(unit) if isinstance(n, ir.Call)}
    return "isinstance" in names or any(isinstance(n, (ir.Raise, ir.Match)) for n in usage.own_nodes(unit))


def _leaves(body: list[ir.Stmt]) -> list[ir.Stmt]:
    out: list[ir.Stmt] = []
    for statement in body:
        if isinstance(statement, ir.Return) or (isinstance(statement, ir.Simple) and statement.kind in ("break", "continue")):
            out.append(statement)
        elif isinstance(statement, ir.If):
            out += _leaves([*statement.body, *statement.orelse])
        elif isinstance(statement, ir.With):
            out += _leaves(statement.body)
        elif isinstance(statement, ir.Try):
            inner = [s for h in statement.handlers for s in h.body]
            out += _leaves([*statement.body, *statement.orelse, *inner])
        elif isinstance(statement, (ir.For, ir.While)):
            out += [s for s in _leaves([*statement.body, *statement.orelse]) if isinstance(s, ir.Return)]
    return out


def _refused(handler: ir.Handler, after: list[ir.Stmt]) -> bool:
    # `except ...: x = None`, and after it `if x is None: raise`: the stand-in is looked at and refused.
    if not after or not isinstance(after[0], ir.If) or not after[0].body or not isinstance(after[0].body[-1], ir.Raise):
        return False
    tested = {n.id for n in ir.walk(after[0].test) if isinstance(n, ir.Name)}
    assigned = {ir.last_name(t) for s in handler.body if isinstance(s, ir.Assign) for t in s.targets}
    return bool(assigned) and assigned <= tested


def _last_frame(handler: ir.Handler, unit: Unit) -> bool:
    # The last frame of a command turns any error into an exit code that says so.
    if unit.fn is None or unit.fn.node.name not in ("main", "cli"):
        return False
    returned = [n.value for n in ir.walk_own(handler.body) if isinstance(n, ir.Return)]
    shows = any(isinstance(n, ir.Call) for n in ir.walk_own(handler.body))
    return shows and bool(returned) and not any(v is None or (isinstance(v, ir.Constant) and v.value in (0, None)) for v in returned)


def _case(name: str, handler: str) -> Case:
    source = f"import torch\ndef step(x):\n    try:\n        y = x.work()\n{handler}    return y\n"
    return Case(name, {"pkg/__init__.py": "", "pkg/step.py": source})


def _module(name: str, source: str) -> Case:
    return Case(name, {"pkg/__init__.py": "", "pkg/step.py": source})


_POOL = "from concurrent.futures import ThreadPoolExecutor, wait\n"
_ANSWERED_CASES = (
    _module("another reading of a text", "def step(x):\n    for kind in (int, float):\n        try:\n            return kind(x)\n"
            "        except ValueError:\n            continue\n    return x\n"),
    _module("tried again, and raised in the end", "def step(x):\n    for left in (2, 1, 0):\n        try:\n            return x.work()\n"
            "        except Exception:\n            if not left:\n                raise\n"),
    _module("raised after the loop", "def step(x):\n    for _ in range(3):\n        try:\n            return x.work()\n"
            "        except OSError as error:\n            last = error\n    raise last\n"),
    _module("collected and raised together", "def step(xs):\n    failed = []\n    for x in xs:\n        try:\n            x.work()\n"
            "        except ValueError as error:\n            failed.append(error)\n    if failed:\n"
            "        raise ExceptionGroup('x', failed)\n"),
    _module("a helper that raises", "def die(error):\n    raise SystemExit(str(error))\ndef step(x):\n    try:\n        return x.work()\n"
            "    except Exception as error:\n        die(error)\n"),
    _module("put into a future", "def step(x, future):\n    try:\n        future.set_result(x.work())\n"
            "    except BaseException as error:\n        future.set_exception(error)\n"),
    _module("a question", "def step(x):\n    try:\n        x.check()\n    except RuntimeError:\n        return False\n    return True\n"),
    _case("a failure of the outside world that is told", "    except OSError as error:\n        print(error)\n        y = None\n"),
    _module("an exit of another manager", "class Both:\n    def __exit__(self, *error):\n        return self.inner.__exit__(*error)\n"),
    _module("results that are asked for", _POOL + "def step(xs):\n    with ThreadPoolExecutor() as pool:\n"
            "        done = [pool.submit(x.work) for x in xs]\n    return [d.result() for d in done]\n"),
)  # fmt: skip
_SWALLOWED_CASES = (
    _module("exceptions under a name of their own", "EXPECTED = (RuntimeError, ValueError)\ndef step(x):\n    try:\n"
            "        return x.work()\n"
            "    except EXPECTED:\n        return x\n"),
    _module("a helper that only tells", "def note(error):\n    print('ignored', error)\ndef step(x):\n    try:\n        return x.work()\n"
            "    except RuntimeError as error:\n        note(error)\n"),
    _module("a helper that makes up a value", "def nothing(n):\n    return [0.0] * n\ndef step(x):\n    try:\n        return x.work()\n"
            "    except RuntimeError:\n        return nothing(3)\n"),
    _case("counted", "    except RuntimeError:\n        x.failures += 1\n        y = None\n"),
    _case("told, and a stand-in", "    except RuntimeError as error:\n        print(error)\n        y = torch.zeros(3)\n"),
    _case("tidied up, and a stand-in", "    except RuntimeError:\n        x.clear()\n        y = 0.0\n"),
    _case("raised in one branch only", "    except Exception as error:\n        if x:\n            raise\n        return None\n"),
    _case("an exit that says all is well", "    except Exception:\n        import sys\n        sys.exit(0)\n"),
    _module("kept where nobody looks", "def step(xs):\n    failed = []\n    for x in xs:\n        try:\n            x.work()\n"
            "        except ValueError as error:\n            failed.append(error)\n    return xs\n"),
    _module("a missing attribute around real work", "def term(x):\n    return x.sum()\ndef step(x):\n    try:\n        return term(x)\n"
            "    except AttributeError:\n        return 0.0\n"),
    _module("an exit that may return true", "class Quiet:\n    def __exit__(self, kind, value, trace):\n        return kind is not None\n"),
    _module("work that nobody asks for", _POOL + "def step(xs):\n    with ThreadPoolExecutor() as pool:\n        for x in xs:\n"
            "            pool.submit(x.work)\n"),
    _module("work that is only waited for", _POOL + "def step(xs):\n    pool = ThreadPoolExecutor()\n"
            "    done = [pool.submit(x.work) for x in xs]\n    wait(done)\n"),
    _module("a search that goes on", "def step(study, fn):\n    study.optimize(fn, catch=(Exception,))\n"),
    _module("gathered", "import asyncio\nasync def step(xs):\n    return await asyncio.gather(*xs, return_exceptions=True)\n"),
)  # fmt: skip

RULE = Rule(
    code="ERR001",
    title="no swallowed exception",
    table="",
    manual=MANUAL,
    mend="Catch the exception that is expected, and raise or do what answers it.",
    check=check,
    settings={},
    valid=(
        *_ANSWERED_CASES,
        _case("raised again", "    except Exception as e:\n        print(e)\n        raise\n"),
        _case("raised as another", "    except ValueError as e:\n        raise RuntimeError('bad') from e\n"),
        _case("answered with work", "    except ValueError:\n        y = x.other_work()\n"),
        _case("an optional import", "    except ImportError:\n        y = None\n"),
        Case("the last frame of a command", {"pkg/__init__.py": "", "pkg/step.py": (
            "import traceback\ndef main(argv):\n    try:\n        return argv.run()\n    except Exception:\n"
            "        traceback.print_exc()\n        return 3\n")}),
        Case("a stand-in that is refused right after", {"pkg/__init__.py": "", "pkg/step.py": (
            "def step(x):\n    try:\n        y = x.work()\n    except ValueError:\n        y = None\n"
            "    if y is None:\n        raise TypeError('bad')\n    return y\n")}),
        _case("a missing key", "    except KeyError:\n        y = 0\n"),
        _module("another item of the same rows",
                "def step(rows, i):\n    try:\n        return rows[i]\n    except IndexError:\n        return rows[-1]\n"),
    ),
    invalid=(
        *_SWALLOWED_CASES,
        _case("bare", "    except:\n        y = 0\n"),
        _case("everything becomes zero", "    except Exception:\n        y = torch.zeros(3)\n"),
        _case("logged only", "    except Exception as e:\n        print(e)\n        y = None\n"),
        _case("in a tuple", "    except (ValueError, Exception):\n        y = x.other()\n"),
        _case("a named one ignored", "    except RuntimeError:\n        pass\n"),
        _case("a stand-in that was there before", "    except RuntimeError:\n        y = x.other\n"),
        _module("a part of what was there before", "def step(grid, k):\n    try:\n        return grid[grid.peaks(k)]\n"
                "    except RuntimeError:\n        return grid[:k]\n"),
        _case("a stand-in value", "    except torch.linalg.LinAlgError:\n        return 0.0\n"),
        _case("a named one that is only told", "    except RuntimeError:\n        print('failed')\n        y = float('nan')\n"),
        _case("a finally that returns", "    finally:\n        return 1\n"),
        Case("suppress under another name", {"pkg/__init__.py": "", "pkg/step.py": (
            "from contextlib import suppress as quiet\ndef step(x):\n    with quiet(RuntimeError):\n        x.work()\n")}),
        Case("an exit that returns True", {"pkg/__init__.py": "", "pkg/step.py": (
            "class Quiet:\n    def __exit__(self, *error):\n        return True\n")}),
        Case("suppress", {"pkg/__init__.py": "", "pkg/step.py": (
            "import contextlib\ndef step(x):\n    with contextlib.suppress(Exception):\n        x.work()\n")}),
    ),
)  # fmt: skip
