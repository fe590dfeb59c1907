"""ERR001: no swallowed exception."""

from __future__ import annotations

import itertools
from collections.abc import Iterable

from audits.static.analysis.reach import symbol_at
from audits.static.context import Context
from audits.static.findings import Finding
from audits.static.rules.base import Case, Rule
from audits.static.source import ir

MANUAL = """\
A handler that catches everything, or that catches anything and goes on as if nothing had happened, turns a bug into a
wrong number. This rule reports: `except:`, `except Exception` and `except BaseException` that do not raise; handlers
whose body only passes, continues, returns a stand-in value or assigns one; and `contextlib.suppress` of Exception.
A named exception may be answered with real work, an optional import with a fallback, the end of an iteration and a
missing key or file with their own answer, and the `main` of a command may turn any error into a non-zero exit code. Logging
alone is no answer to `except Exception`.
"""
_BROAD = frozenset({"Exception", "BaseException"})
_TELLING = frozenset({"print", "debug", "info", "warning", "warn", "error", "exception", "critical", "log", "echo"})
_ANSWERED = frozenset(
    {"ImportError", "ModuleNotFoundError", "StopIteration", "KeyError", "FileNotFoundError", "KeyboardInterrupt",
     "AttributeError", "Empty", "BrokenPipeError", "PackageNotFoundError"}
)  # fmt: skip


def check(context: Context) -> Iterable[Finding]:
    """One finding for each handler that swallows."""
    for module in context.project.configured_modules():
        answered: set[int] = set()
        names = _suppressors(module.tree)
        for node in ir.walk(module.tree):
            answered.update(_answered_later(node))
            if isinstance(node, ir.Try):
                for leaving in _leaves(node.finalbody):
                    yield context.finding("ERR001", module, leaving, "leaving a `finally` drops the exception that is on its way")
            elif isinstance(node, ir.Function) and node.name in ("__exit__", "__aexit__"):
                for inner in ir.walk_own(node.body):
                    if isinstance(inner, ir.Return) and isinstance(inner.value, ir.Constant) and inner.value.value is True:
                        yield context.finding("ERR001", module, inner, f"{node.name} returns True, which swallows every exception")
            if isinstance(node, ir.Handler):
                message = _fault(node)
                if id(node) in answered and message is not None and "swallowed" in message:
                    continue
                if message is not None and not _last_frame(node, symbol_at(module, node.line)):
                    yield context.finding("ERR001", module, node, message)
            elif isinstance(node, ir.Call) and ir.dotted(node.func) in names:
                given = {ir.last_name(a.value) for a in node.args}
                if given & _BROAD:
                    yield context.finding("ERR001", module, node, "suppress() swallows every exception")
                elif given - _ANSWERED:
                    yield context.finding("ERR001", module, node, f"suppress() swallows {', '.join(sorted(given))}")


def _suppressors(tree: ir.Module) -> set[str]:
    """The spellings of contextlib.suppress in a module, as its imports bind it."""
    out = set()
    for node in ir.walk(tree):
        if isinstance(node, ir.ImportFrom) and node.module == "contextlib":
            out |= {asname or name for name, asname in node.names if name == "suppress"}
            out |= {"suppress" for name, _ in node.names if name == "*"}
        elif isinstance(node, ir.Import):
            out |= {f"{asname or name}.suppress" for name, asname in node.names if name == "contextlib"}
    return out


def _leaves(body: list[ir.Stmt]) -> list[ir.Stmt]:
    out: list[ir.Stmt] = []
    for statement in body:
        if isinstance(statement, ir.Return) or (isinstance(statement, ir.Simple) and statement.kind in ("break", "continue")):
            out.append(statement)
        elif isinstance(statement, ir.If):
            out += _leaves([*statement.body, *statement.orelse])
        elif isinstance(statement, ir.With):
            out += _leaves(statement.body)
        elif isinstance(statement, (ir.For, ir.While)):
            out += [s for s in _leaves([*statement.body, *statement.orelse]) if isinstance(s, ir.Return)]
    return out


def _answered_later(node: ir.Node) -> set[int]:
    # `except ...: x = None`, and after it `if x is None: raise`: the stand-in is looked at and refused.
    out: set[int] = set()
    body = getattr(node, "body", None)
    if not isinstance(body, list):
        return out
    for statement, following in itertools.pairwise(body):
        if isinstance(statement, ir.Try) and isinstance(following, ir.If) and following.body and isinstance(following.body[-1], ir.Raise):
            tested = {n.id for n in ir.walk(following.test) if isinstance(n, ir.Name)}
            for handler in statement.handlers:
                assigned = {ir.last_name(t) for s in handler.body if isinstance(s, ir.Assign) for t in s.targets}
                if assigned and assigned <= tested:
                    out.add(id(handler))
    return out


def _fault(handler: ir.Handler) -> str | None:
    names = caught(handler)
    if _raises(handler.body):
        return None
    if not names or names & _BROAD:
        return "every exception is caught here and none is raised again"
    if not names - _ANSWERED:
        return None
    told = handler.name is not None and any(
        isinstance(n, ir.Name) and isinstance(handler.name, ir.Name) and n.id == handler.name.id for s in handler.body for n in ir.walk(s)
    )
    if not told and all(_idle(s) for s in handler.body):
        return f"{', '.join(sorted(names))} is swallowed here"
    return None


def _last_frame(handler: ir.Handler, symbol: str) -> bool:
    # The last frame of a command turns any error into an exit code that says so.
    if symbol.rpartition(":")[2] not in ("main", "cli"):
        return False
    returned = [n.value for n in ir.walk_own(handler.body) if isinstance(n, ir.Return)]
    shows = any(isinstance(n, ir.Call) for n in ir.walk_own(handler.body))
    return shows and bool(returned) and not any(v is None or (isinstance(v, ir.Constant) and v.value in (0, None)) for v in returned)


def caught(handler: ir.Handler) -> set[str]:
    """The names of the exceptions that a handler catches; empty for a bare `except:`."""
    kind = handler.type
    if kind is None:
        return set()
    return {ir.last_name(e) for e in (kind.items if isinstance(kind, ir.Sequence) else [kind])}


def _raises(body: list[ir.Stmt]) -> bool:
    for node in ir.walk_own(body):
        if isinstance(node, ir.Raise):
            return True
        if isinstance(node, ir.Call) and ir.dotted(node.func) in ("sys.exit", "os._exit", "pytest.fail"):
            return True
    return False


def _idle(statement: ir.Stmt) -> bool:
    if isinstance(statement, ir.Simple):
        return True
    if isinstance(statement, ir.ExprStmt):
        called = statement.value
        return isinstance(called, ir.Constant) or (isinstance(called, ir.Call) and ir.last_name(called.func) in _TELLING)
    if isinstance(statement, (ir.Assign, ir.Return)):
        return statement.value is None or _stand_in(statement.value)
    return False


def _stand_in(expr: ir.Expr) -> bool:
    if isinstance(expr, ir.UnaryOp):
        return _stand_in(expr.operand)
    if isinstance(expr, ir.Call):
        return ir.last_name(expr.func) in ("zeros", "zeros_like", "float", "tensor", "empty", "ones", "new_zeros")
    if isinstance(expr, (ir.Sequence, ir.Dict)):
        return all(_stand_in(c) for c in ir.children(expr) if isinstance(c, ir.Expr))
    return isinstance(expr, ir.Constant) or ir.last_name(expr) in ("nan", "NaN", "NAN", "inf")


def _case(name: str, handler: str) -> Case:
    source = f"import torch\ndef step(x):\n    try:\n        y = x.work()\n{handler}    return y\n"
    return Case(name, {"pkg/__init__.py": "", "pkg/step.py": source})


RULE = Rule(
    code="ERR001",
    title="no swallowed exception",
    table="",
    manual=MANUAL,
    mend="Catch the exception that is expected, and raise or do what answers it.",
    check=check,
    settings={},
    valid=(
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
    ),
    invalid=(
        _case("bare", "    except:\n        y = 0\n"),
        _case("everything becomes zero", "    except Exception:\n        y = torch.zeros(3)\n"),
        _case("logged only", "    except Exception as e:\n        print(e)\n        y = None\n"),
        _case("in a tuple", "    except (ValueError, Exception):\n        y = x.other()\n"),
        _case("a named one ignored", "    except RuntimeError:\n        pass\n"),
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
    limits=(_case("a stand-in that is computed", "    except RuntimeError:\n        y = x.other\n"),),
)  # fmt: skip
