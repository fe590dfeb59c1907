"""SUP001: every suppression names a rule, gives a reason, is needed, and has not expired."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterable

from audits.static.context import Context
from audits.static.findings import Finding
from audits.static.rules.base import Case, Rule
from audits.static.suppress import Suppression

MANUAL = """\
A suppression `# audit: allow[CODE] reason="…" until=YYYY-MM-DD` on the line of a finding, or on the line above it,
takes the finding out of the verdict and keeps it in the report. This rule reports one that names no rule or an unknown
one, gives no reason, allows nothing (any more), or has expired. Without a reason, or after `until`, it allows nothing.
`until` may be left out.
"""


def check(context: Context) -> Iterable[Finding]:
    """Nothing here: what a suppression allowed is known only after every other rule ran (see `review`)."""
    return ()


def review(context: Context, comments: list[Suppression], checked: list[str], today: dt.date) -> Iterable[Finding]:
    """The faults of the suppression comments."""
    from audits.static.rules import all_rules  # noqa: PLC0415 - the registry imports this rule

    for comment in comments:
        for message in _faults(comment, set(all_rules()), set(checked), today):
            text = comment.module.lines[comment.line - 1]
            column = text.find("#", max(text.find("audit") - 4, 0)) + 1
            yield Finding("SUP001", comment.module.relative, comment.line, max(column, 1), message, comment.module.name)


def _faults(comment: Suppression, known: set[str], checked: set[str], today: dt.date) -> Iterable[str]:
    if not comment.codes:
        yield "the suppression names no rule; write allow[CODE]"
    for code in comment.codes:
        if code not in known:
            yield f"the suppression names {code!r}, which is no rule"
        elif code in checked and code not in comment.used:
            yield f"the suppression of {code} allows nothing; remove it"
    if not _says_why(comment.reason):
        yield 'the suppression gives no reason; write reason="…"'
    if comment.expired(today):
        yield f"the suppression expired on {comment.until}, or its date is not YYYY-MM-DD"


def _says_why(reason: str) -> bool:
    return bool(re.search(r"\w", reason)) and not re.fullmatch(r"\W*(todo|fixme|tbd|xxx)\W*", reason, re.IGNORECASE)


def _case(name: str, comment: str, body: str = "exec(x)") -> Case:
    return Case(name, {"pkg/__init__.py": "", "pkg/step.py": f"def step(x):\n    {body}  {comment}\n    return x\n"})


RULE = Rule(
    code="SUP001",
    title="suppressions are justified",
    table="",
    manual=MANUAL,
    mend="Give the suppression a code, a reason and a date, or remove it.",
    check=check,
    settings={"hot-path": {"entry-points": ["pkg.step:step"]}},
    valid=(
        _case("a reason and a date", '# audit: allow[HOT002] reason="reviewed" until=2999-01-01'),
        _case("a reason", '# audit: allow[HOT002] reason="reviewed by hand"'),
        _case("another comment", "# an audit: of sorts", "x = x + 1"),
    ),
    invalid=(
        _case("no reason", "# audit: allow[HOT002]"),
        _case("an empty reason", '# audit: allow[HOT002] reason=""'),
        _case("a reason that says nothing", '# audit: allow[HOT002] reason="TODO"'),
        _case("a reason of signs", '# audit: allow[HOT002] reason="..."'),
        _case("an unknown rule", '# audit: allow[HOT999] reason="reviewed"'),
        _case("no rule", '# audit: allow reason="reviewed"'),
        _case("nothing to allow", '# audit: allow[HOT002] reason="reviewed"', "x = x + 1"),
        _case("expired", '# audit: allow[HOT002] reason="reviewed" until=2001-01-01'),
        _case("not a date", '# audit: allow[HOT002] reason="reviewed" until=soon'),
    ),
)
