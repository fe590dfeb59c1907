"""HOT004: the proof is not empty."""

from __future__ import annotations

from collections.abc import Iterable

from audits.static.analysis.reach import is_empty
from audits.static.context import Context
from audits.static.findings import Finding
from audits.static.rules.base import Case, Rule

MANUAL = """\
A proof about an entry point that was renamed, or whose body is empty, says nothing and looks the same as a real one.
Every `hot-path.entry-points` function must exist and reach code, and every module of `hot-path.offline-modules`, which
may solve, must exist and stay out of reach of every entry point.
"""


def check(context: Context) -> Iterable[Finding]:
    """Missing or empty entry points, missing or reachable offline modules."""
    for reached in context.reaches:
        if not reached.roots:
            yield context.config_finding(
                "HOT004", "hot-path.entry-points",
                f"the entry point {reached.entry_point} does not exist, so nothing is proved about it",
                entry_point=reached.entry_point,
            )  # fmt: skip
        elif all(is_empty(fn) for fn in reached.functions):
            root = reached.roots[0]
            message = f"the entry point {reached.entry_point} has an empty body and reaches no code"
            yield context.finding("HOT004", root.module, root.node, message, fn=root, entry_point=reached.entry_point)
    yield from _offline(context)


def _offline(context: Context) -> Iterable[Finding]:
    names = context.project.modules
    for module in context.settings.offline_modules:
        if not any(n == module or n.startswith(module + ".") for n in names):
            message = f"the offline module {module} does not exist"
            yield context.config_finding("HOT004", "hot-path.offline-modules", message)
    for reached in context.reaches:
        for root in reached.roots:
            if context.offline(root.module):
                message = f"the entry point {reached.entry_point} is itself in an offline module"
                entry = reached.entry_point
                yield context.finding("HOT004", root.module, root.node, message, fn=root, entry_point=entry)
        for fn in reached.functions:
            if context.offline(fn.module) and fn in reached.via:
                caller, line = reached.via[fn]
                if context.offline(caller.module):
                    continue
                node = next(r.node for r in reached.units[caller].refs if fn in context.analysis.targets(r) and r.node.line == line)
                message = f"{fn.symbol} belongs to an offline module, and the hot path refers to it"
                path = reached.path_to(fn, fn.node.line)
                yield context.finding(
                    "HOT004", caller.module, node, message,
                    fn=caller, entry_point=reached.entry_point, call_path=path,
                )  # fmt: skip


_SETTINGS = {"hot-path": {"entry-points": ["pkg.step:step"], "offline-modules": ["pkg.offline"]}}
_OFFLINE = "def project(x):\n    return x\n"


def _case(name: str, source: str, offline: str | None = _OFFLINE, **settings: object) -> Case:
    files = {"pkg/__init__.py": "", "pkg/step.py": source}
    if offline is not None:
        files["pkg/offline.py"] = offline
    return Case(name, files, settings)


RULE = Rule(
    code="HOT004",
    title="the hot-path proof is not empty",
    table="hot-path",
    manual=MANUAL,
    mend="Name the entry point as `module:qualname`, or move the offline call out of the hot path.",
    check=check,
    settings=_SETTINGS,
    valid=(
        _case("an entry point with code", "def step(x):\n    return x + 1\n"),
        _case("an offline module used elsewhere", "from pkg import offline\ndef step(x):\n    return x + 1\n"
              "def write(x):\n    return offline.project(x)\n"),
        Case("a re-exported entry point", {
            "pkg/__init__.py": "from pkg.inner import step\n", "pkg/inner.py": "def step(x):\n    return x + 1\n",
            "pkg/offline.py": _OFFLINE,
        }, {"hot-path": {"entry-points": ["pkg:step"], "offline-modules": ["pkg.offline"]}}),
    ),
    invalid=(
        _case("a missing function", "def other(x):\n    return x\n"),
        _case("a missing module", "def step(x):\n    return x + 1\n", _OFFLINE,
              **{"hot-path": {"entry-points": ["pkg.stop:step"]}}),
        _case("an empty body", "def step(x):\n    pass\n"),
        _case("a docstring only", "def step(x):\n    'Does nothing.'\n    raise NotImplementedError\n"),
        _case("a missing offline module", "def step(x):\n    return x + 1\n", None),
        _case("a call into an offline module", "from pkg.offline import project\ndef step(x):\n    return project(x)\n"),
        _case("a reference into an offline module",
              "from pkg import offline\nTABLE = {'p': offline.project}\ndef step(x):\n    return TABLE['p'](x)\n"),
    ),
)  # fmt: skip
