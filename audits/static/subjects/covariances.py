"""What a covariance is called, and which parameters of a function take one."""

from __future__ import annotations

import re

from audits.static.analysis.engine import Unit
from audits.static.analysis.interp import _Silent
from audits.static.analysis.values import Inst
from audits.static.dataflow.flow import Place
from audits.static.dataflow.origins import Origins
from audits.static.source import ir
from audits.static.source.project import ClassInfo, FunctionInfo

COVARIANCE_WORDS = frozenset({"cov", "covs", "covar", "covariance", "covariances", "scm"})
OTHER_WORDS = frozenset(
    ["loss", "weight", "weights", "beta", "error", "nmse", "term", "terms", "scale", "head", "config", "cfg", "name", "loading",
     "dim", "fisher", "fim", "hess", "hessian", "gram", "crb", "jac", "jacobian", "kernel", "graph", "adjacency", "adj", "info",
     "path", "paths", "factor", "module", "builder", "shape", "trace", "rank", "noise", "prior", "posterior"]
)  # fmt: skip
LETTERS = re.compile(r"^(R|R_?[a-z]\w{0,7}|Rxx|Ryy|r_(samp|sample|eff|pred|hat|blend|true))$")
_MEMBERS = re.compile(r"^(effective|eff|blended|r_eff|r_blend)$", re.I)

KEEPING = frozenset(
    ["detach", "to", "clone", "contiguous", "cpu", "cuda", "double", "float", "cdouble", "cfloat", "type", "type_as",
     "requires_grad_", "resolve_conj", "unsqueeze", "squeeze", "view", "reshape", "expand", "expand_as", "repeat", "index_select",
     "unflatten", "flatten", "half", "bfloat16", "dense", "numpy", "from_numpy", "as_tensor", "asarray", "tensor", "nan_to_num",
     "stack", "cat", "concatenate", "split", "chunk", "unbind", "pin_memory", "mul", "div", "copy", "deepcopy", "data", "real",
     "checkpoint", "narrow", "select", "astype", "repeat_interleave", "broadcast_to", "movedim", "permute", "conj", "gather",
     "take_along_dim", "item", "squeeze_", "alias", "where"]
)  # fmt: skip


def words(expr: ir.Expr | str) -> set[str]:
    """The words of a name, in lower case."""
    name = expr if isinstance(expr, str) else ir.last_name(expr)
    return set(re.split(r"_|\d+", re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()))


def named_covariance(name: str) -> bool:
    """Whether a name says that it holds a covariance matrix."""
    found = words(name)
    return not found & OTHER_WORDS and (bool(found & COVARIANCE_WORDS) or bool(LETTERS.match(name)) or bool(_MEMBERS.match(name)))


def adds_identity(expr: ir.Expr) -> bool:
    """Whether an expression holds an identity matrix."""
    return any(isinstance(n, ir.Call) and ir.last_name(n.func) in ("eye", "eye_like", "identity", "diag_embed") for n in ir.walk(expr))


def source_text(place: Place) -> str:
    """The source of an expression, shortened."""
    expr = place.expr
    line = place.module.lines[expr.line - 1] if 0 < expr.line <= len(place.module.lines) else ""
    text = line[expr.column - 1 : expr.end_column - 1] if expr.line == expr.end_line else line[expr.column - 1 :]
    return text if len(text) <= 60 else text[:57] + "..."


class Covariances:
    """The type that the builder returns, and the parameters that take it."""

    def __init__(self, origins: Origins, builder: FunctionInfo) -> None:
        self.origins = origins
        self.builder = builder
        self.home = builder.module
        self.kinds = self._types(builder.node.returns, builder)
        self._parameters: dict[FunctionInfo, list[ir.Param]] = {}

    def _types(self, annotation: ir.Expr | None, fn: FunctionInfo) -> set[ClassInfo]:
        if annotation is None:
            return set()
        interp = _Silent(self.origins.analysis, Unit(fn.module, fn, hot=False, settled=True))
        return {v.cls for v in interp.annotation(annotation, fn.scope.parent or fn.scope) if isinstance(v, Inst)}

    def typed(self, param: ir.Param, fn: FunctionInfo) -> bool:
        """Whether the annotation is the builder's own return type."""
        return bool(self.kinds & self._types(param.annotation, fn))

    def parameters(self, fn: FunctionInfo) -> list[ir.Param]:
        """The parameters that take a covariance: by the builder's return type, else by name."""
        found = self._parameters.get(fn)
        if found is None:
            params = fn.node.params
            if fn.cls is not None and params and "staticmethod" not in fn.flags:
                params = params[1:]
            found = [p for p in params if self.typed(p, fn)]
            found = found or [p for p in params if named_covariance(p.name)]
            self._parameters[fn] = found
        return found

    def holds(self, origins_place: object) -> bool:
        """Whether an expression is of the builder's return type."""
        return any(isinstance(v, Inst) and v.cls in self.kinds for v in self.origins.values(origins_place))  # type: ignore[arg-type]
