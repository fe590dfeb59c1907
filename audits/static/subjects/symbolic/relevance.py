"""Which functions can take part in building a covariance, so that the others need not be run."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from audits.static.analysis.engine import Analysis
from audits.static.source import ir
from audits.static.source.project import FunctionInfo

NEAR = 3
"""How many calls away from a matrix operation a function still counts."""
SMALL = 50
"""A function of fewer nodes is run whatever it does."""

_MARKS = frozenset(
    ["mH", "H", "T", "mT", "adjoint", "conj", "conjugate", "conj_physical", "transpose", "permute", "swapaxes", "swapdims", "movedim",
     "moveaxis", "matrix_transpose", "trace", "diagonal", "diag", "diag_embed", "diagflat", "eye", "identity", "eigh", "eigvalsh",
     "svd", "svdvals", "lerp", "lerp_", "triu", "tril", "fill_diagonal_", "fill_diagonal", "diagonal_scatter", "diag_indices",
     "einsum", "index_put_", "as_strided", "eigvals", "eig", "t", "tensordot", "cat", "concat", "concatenate", "hstack"]
)  # fmt: skip


class Relevance:
    """How far each function is from an operation on matrices, counted in calls."""

    def __init__(self, analysis: Analysis, speaks: Callable[[str], bool]) -> None:
        self.analysis = analysis
        self._speaks = speaks
        self._sizes: dict[FunctionInfo, int] = {}
        self._marks = set(_MARKS)
        self._name_marks()
        self._distance = self._distances()

    def _name_marks(self) -> None:
        # Names of imports, of variables at the top of a module and of fields that hold such an operation or its result.
        project = self.analysis.project
        bodies = [m.tree.body for m in project.modules.values()] + [f.node.body for f in project.functions]
        for _ in range(2):
            for body in bodies:
                for node in ir.walk_own(body):
                    if isinstance(node, ir.ImportFrom):
                        self._marks.update(asname for name, asname in node.names if asname is not None and name in self._marks)
                    elif isinstance(node, ir.Assign) and node.value is not None:
                        names = [t.attr for t in node.targets if isinstance(t, ir.Attribute)]
                        if names and self._has_mark([ir.ExprStmt(node.line, 1, node.line, 1, node.value)]):
                            self._marks.update(names)
            for module in project.modules.values():
                for statement in module.tree.body:
                    if isinstance(statement, ir.Assign) and statement.value is not None and self._has_mark([statement]):
                        self._marks.update(t.id for t in statement.targets if isinstance(t, ir.Name))

    def _distances(self) -> dict[FunctionInfo, int]:
        callers: dict[FunctionInfo, set[FunctionInfo]] = {}
        for fn in self.analysis.project.functions:
            for ref in self.analysis.cold[fn].refs:
                for target in self.analysis.targets(ref) if not (ref.method or ref.group) else ():
                    callers.setdefault(target, set()).add(fn)
            if fn.enclosing is not None:
                callers.setdefault(fn, set()).add(fn.enclosing)
        out = {fn: 0 for fn in self.analysis.project.functions if self._marked(fn)}
        queue = deque(out)
        while queue:
            fn = queue.popleft()
            for caller in callers.get(fn, ()):
                if caller not in out:
                    out[caller] = out[fn] + (0 if fn.enclosing is caller else 1)
                    queue.append(caller)
        return out

    def _marked(self, fn: FunctionInfo) -> bool:
        if any(self._speaks(p.name) for p in fn.node.params):
            return True
        return self._has_mark(fn.node.body)

    def _has_mark(self, body: list[ir.Stmt]) -> bool:
        for node in ir.walk_own(body):
            if isinstance(node, ir.Attribute):
                if node.attr in self._marks or self._speaks(node.attr):
                    return True
            elif isinstance(node, ir.Name):
                if node.id in self._marks or self._speaks(node.id):
                    return True
            elif isinstance(node, ir.Constant):
                if isinstance(node.value, str) and (node.value in self._marks or "->" in node.value or self._speaks(node.value)):
                    return True
            elif isinstance(node, ir.Sequence) and len(node.items) > 1:
                names = [i.id for i in node.items if isinstance(i, ir.Name)]
                if len(names) != len(set(names)):  # `R[i, i]`
                    return True
        return False

    def near(self, fn: FunctionInfo) -> bool:
        """Whether a function does something with matrices, or calls one that does."""
        return self._distance.get(fn, NEAR + 1) <= NEAR

    def small(self, fn: FunctionInfo) -> bool:
        """Whether running a function costs next to nothing."""
        size = self._sizes.get(fn)
        if size is None:
            size = self._sizes[fn] = sum(1 for _ in ir.walk_own(fn.node.body))
        return size <= SMALL
