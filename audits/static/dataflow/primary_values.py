"""Which values of the configured primary mean the score: what the code compares it with, or declares for it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import TypeGuard

from audits.static.source import ir
from audits.static.source.project import Project

LOSS_NAME = re.compile(r"(^|_)(loss(es)?|nll|criterion)(_|$)", re.I)
USUAL = frozenset({"k_loc", "metrics", "kloc"})


def score_values(project: Project, key: str) -> frozenset[str]:
    """The values of `key` that mean the score; the usual ones where the code knows no others.

    What the key is compared with, chosen by, or limited to counts before its default.
    """
    compared, default = set[str](), set[str]()
    for module in project.configured_modules():
        if any(key in line or key.replace("_", "-") in line for line in module.lines):
            for node in ir.walk(module.tree):
                compared.update(_texts(_compared(node, key)))
                default.update(_texts(_default(node, key)))
    found = {v for v in compared if not LOSS_NAME.search(v)}
    if not found:
        return USUAL | {v for v in default if not LOSS_NAME.search(v)}
    return USUAL | found if found & USUAL else frozenset(found)


def is_read(project: Project, key: str) -> bool:
    """Whether any code takes the key from somewhere: as an attribute, an item, a parameter or a field."""
    return any(
        _is_key(node, key)
        or (isinstance(node, ir.Arg) and node.keyword == key)
        or (isinstance(node, ir.Constant) and _names(node.value, key))
        or (isinstance(node, ir.Function) and _takes(node, key))
        for module in project.configured_modules()
        if any(key in line or key.replace("_", "-") in line for line in module.lines)
        for node in ir.walk(module.tree)
    )


def _names(value: object, key: str) -> bool:
    return isinstance(value, str) and key in re.split(r"[^\w]+", value.replace("-", "_"))


def _takes(node: ir.Function, key: str) -> bool:
    return any(p.name == key for p in node.params)


def _is_key(node: ir.Node, key: str) -> bool:
    if isinstance(node, ir.Subscript):
        return isinstance(node.index, ir.Constant) and node.index.value == key
    return isinstance(node, (ir.Name, ir.Attribute)) and ir.last_name(node) == key


def _compared(node: ir.Node, key: str) -> Iterator[ir.Expr]:
    if isinstance(node, ir.Compare) and len(node.ops) == 1:
        sides = (node.left, node.comparators[0])
        for one, other in (sides, sides[::-1]):
            if _is_key(one, key):
                yield other
    elif isinstance(node, ir.Subscript) and _is_key(node.index, key) and isinstance(node.value, ir.Dict):
        yield from (k for k in node.value.keys if k is not None)
    elif isinstance(node, ir.Assign) and node.annotation is not None and any(_is_key(t, key) for t in node.targets):
        if isinstance(node.annotation, ir.Subscript) and ir.last_name(node.annotation.value) == "Literal":
            yield node.annotation.index
    elif isinstance(node, ir.Match) and _is_key(node.subject, key):
        yield from (t for case in node.cases for t in case.tests)
    elif _is_option(node, key):
        yield from (a.value for a in node.args if a.keyword == "choices")


def _default(node: ir.Node, key: str) -> Iterator[ir.Expr]:
    if isinstance(node, ir.Assign) and node.annotation is not None and node.value is not None:
        if any(_is_key(t, key) for t in node.targets):
            yield node.value
    elif _is_option(node, key):
        yield from (a.value for a in node.args if a.keyword == "default")


def _is_option(node: ir.Node, key: str) -> TypeGuard[ir.Call]:
    if not isinstance(node, ir.Call) or ir.last_name(node.func) != "add_argument" or not node.args:
        return False
    first = node.args[0].value
    return isinstance(first, ir.Constant) and str(first.value).lstrip("-").replace("-", "_") == key


def _texts(exprs: Iterable[ir.Expr]) -> Iterator[str]:
    for expr in exprs:
        for item in expr.items if isinstance(expr, ir.Sequence) else [expr]:
            if isinstance(item, ir.Constant) and isinstance(item.value, str) and item.value:
                yield item.value.lower()
            elif isinstance(item, ir.Attribute) and item.attr.isupper():
                yield item.attr.lower()
