"""Imports under another name are read under their usual one, so that `import torch as t` changes no verdict.

A name is replaced only where nothing can be captured: the alias is bound once in the file, by an import at its top, and the
usual name does not occur in it. The alias stays bound, for other modules and for annotations that are text.
"""

from __future__ import annotations

from collections import Counter

from audits.static.source import ir

_USUAL = {"numpy": "np", "torch.nn.functional": "F"}
"""Where the usual name is not the last part of the module's."""


def use_usual_names(tree: ir.Module) -> None:
    """Rename the uses of import aliases in `tree`, in place."""
    if not any(asname for s in tree.body if isinstance(s, (ir.Import, ir.ImportFrom)) for _, asname in s.names):
        return
    present: dict[str, list[ir.Name]] = {}
    bound: Counter[str] = Counter()
    for node in ir.walk(tree):
        if isinstance(node, ir.Name):
            present.setdefault(node.id, []).append(node)
        else:
            bound.update(_bound(node))
    stored = {name for node in ir.walk(tree) for name in _stored(node)}
    for statement in tree.body:
        if not isinstance(statement, (ir.Import, ir.ImportFrom)):
            continue
        for name, alias in list(statement.names):
            usual = _USUAL.get(name, name.rpartition(".")[2]) if isinstance(statement, ir.Import) else name
            if alias is None or alias == usual or bound[alias] > 1 or alias in stored or usual in present or bound[usual]:
                continue
            statement.names.append((name, usual))
            bound[usual] += 1
            present[usual] = present.pop(alias, [])
            for use in present[usual]:
                use.id = usual


def _bound(node: ir.Node) -> list[str]:
    """Names that a node binds without a `Name` for a target."""
    if isinstance(node, (ir.Import, ir.ImportFrom)):
        return [asname or name.split(".")[0] for name, asname in node.names]
    if isinstance(node, (ir.Function, ir.ClassDef, ir.Param)):
        return [node.name]
    if isinstance(node, ir.Global):
        return list(node.names) * 2
    return []


def _stored(node: ir.Node) -> list[str]:
    """Names that a node assigns or deletes."""
    targets: list[ir.Expr] = []
    if isinstance(node, ir.Assign):
        targets = list(node.targets)
    elif isinstance(node, (ir.AugAssign, ir.For, ir.NamedExpr, ir.Delete, ir.CompFor)):
        targets = [node.target]
    elif isinstance(node, ir.WithItem):
        targets = [] if node.target is None else [node.target]
    elif isinstance(node, ir.Handler) and isinstance(node.name, ir.Expr):
        targets = [node.name]
    elif isinstance(node, ir.Case):
        targets = list(node.bindings)
    return [n.id for t in targets for n in ir.walk(t) if isinstance(n, ir.Name)]
