"""Which values look like covariance matrices, whatever they are called."""

from __future__ import annotations

from audits.static.analysis.values import Func
from audits.static.dataflow.expressions import receiver_or_argument
from audits.static.dataflow.flow import Flow, Place
from audits.static.dataflow.origins import Origins
from audits.static.source import ir
from audits.static.subjects.algebra import Algebra
from audits.static.subjects.covariances import COVARIANCE_WORDS, LETTERS, OTHER_WORDS, words


class Guess:
    """A value counts as a covariance by how it is made, by its name, or by what is done with it."""

    def __init__(self, origins: Origins, builder: str) -> None:
        self.origins = origins
        self.flow: Flow = origins.flow
        self.algebra = Algebra(origins)
        self.builder = builder
        self._known: dict[int, bool] = {}

    def covariance(self, place: Place, depth: int = 6) -> bool:
        """Whether the value looks like a covariance matrix."""
        identity = id(place.expr)
        if identity in self._known:
            return self._known[identity]
        self._known[identity] = False
        result = self._covariance(place, depth)
        if result or depth == 6:
            self._known[identity] = result
        else:
            del self._known[identity]
        return result

    def _covariance(self, place: Place, depth: int) -> bool:
        core = self.algebra.core(place)
        expr = core.expr
        if isinstance(expr, (ir.Name, ir.Attribute)):
            name = ir.last_name(expr)
            found = words(expr)
            if found & OTHER_WORDS or (name.isupper() and len(name) > 1 and "_" not in name):
                return False
            if found & COVARIANCE_WORDS or LETTERS.match(name):
                return True
        product = self.algebra.product(core)
        if product:
            return product == "outer"
        if depth == 0:
            return False
        if isinstance(expr, ir.Call):
            return self._call(core, expr, depth)
        if isinstance(expr, ir.Name):
            return self._measured(core, expr.id) or any(self.covariance(s, depth - 1) for s in self._sources(core))
        if isinstance(expr, ir.BinOp) and expr.op in ("+", "-", "*", "/"):
            sides = [expr.left] if expr.op == "/" else [expr.left, expr.right]
            return any(self.covariance(core.at(s), depth - 1) for s in sides)
        return False

    def _call(self, core: Place, expr: ir.Call, depth: int) -> bool:
        name = ir.last_name(expr.func)
        if name == "dense" or (set(name.lower().split("_")) & COVARIANCE_WORDS and not set(name.lower().split("_")) & OTHER_WORDS):
            return True
        for callee in self.flow.callees(core):
            if isinstance(callee, Func) and not callee.weak:
                if callee.fn.symbol == self.builder:
                    return True
                if any(self.covariance(r, depth - 1) for r in self.flow.returns(callee.fn)):
                    return True
        return self.algebra.adjoint_of(core) is not None and False

    def _sources(self, core: Place) -> list[Place]:
        return self.flow.definitions(core, core.expr.id) if isinstance(core.expr, ir.Name) else []

    def _measured(self, core: Place, name: str) -> bool:
        # Its trace, or eigenvalues, are taken in the same function, and it is no Gram matrix.
        if core.fn is None or any(self.algebra.product(p) == "gram" for p in self.algebra.behind(core)):
            return False
        for node in ir.walk_own(core.fn.node.body):
            if isinstance(node, ir.Call) and ir.last_name(node.func) in ("eigh", "eigvalsh", "trace"):
                inner = self.algebra.core(core.at(receiver_or_argument(node))).expr
                if isinstance(inner, ir.Name) and inner.id == name:
                    return True
        return False
