"""The operations that build a covariance: hermitise, normalise, blend, load and shrink."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

from audits.static.dataflow.expressions import key, operand, operands_of, receiver_or_argument
from audits.static.dataflow.flow import Place
from audits.static.dataflow.origins import Origins
from audits.static.source import ir
from audits.static.source.project import FunctionInfo, ModuleInfo
from audits.static.subjects.covariance_guess import Guess
from audits.static.subjects.covariances import words


class Building(Guess):
    """Which node performs a building operation; `offline` modules may load the systems that they solve."""

    def __init__(self, origins: Origins, builder: str, offline: Callable[[ModuleInfo], bool]) -> None:
        super().__init__(origins, builder)
        self.offline = offline
        self._halves: dict[FunctionInfo | ModuleInfo, set[int]] = {}

    def operation(self, node: ir.Node, module: ModuleInfo, fn: FunctionInfo | None) -> str | None:
        """What a node does that only the builder may do, in words."""
        if isinstance(node, ir.AugAssign):
            return self._in_place(node, module, fn)
        if isinstance(node, ir.Assign) and node.value is not None:
            return self._diagonal_assignment(node, module, fn) or self._mirrored(node, module, fn)
        if not isinstance(node, (ir.BinOp, ir.Call)):
            return None
        place = Place(node, module, fn)
        for left, right in self.algebra.summands(node):
            chosen = isinstance(node, ir.Call) and ir.last_name(node.func) == "where"
            halved = chosen or (isinstance(node, ir.Call) and ir.last_name(node.func) in ("mean", "average", "sum", "einsum"))
            halved = halved or (_halved(left) and _halved(right)) or id(node) in self._scaled_nodes(place)
            what = self._sum(place.at(left), place.at(right), module, halved)
            if chosen and what == "two covariances are blended":
                continue
            if what is not None:
                return what
        if not self.offline(module) and (loaded := self._reloaded(place)) is not None:
            return loaded
        found = self._normalise(place) or self._lerp(place) or self._diagonal_call(place, module) or self._products(place, module)
        return found or self._retreat(place)

    def _retreat(self, place: Place) -> str | None:
        # `P - w (P - S)` is a blend, and a hermitisation where S is the adjoint of P.
        expr = place.expr
        if isinstance(expr, ir.BinOp) and expr.op == "-":
            start, step = expr.left, expr.right
        elif isinstance(expr, ir.Call) and ir.last_name(expr.func) in ("sub", "subtract", "sub_") and len(operands_of(expr)) == 2:
            start, step = operands_of(expr)
        else:
            return None
        for candidate in [place.at(step), *self.algebra.behind(place.at(step))]:
            for inner in ir.walk(candidate.expr):
                if isinstance(inner, ir.BinOp) and inner.op == "-" and inner is not expr and key(inner.left) == key(start):
                    adjoint = self.algebra.adjoint_of(candidate.at(inner.right))
                    if adjoint is not None and self._same(adjoint, place.at(start)):
                        return "a matrix is hermitised"
                    if self.covariance(place.at(start)) and self.covariance(candidate.at(inner.right)) and inner is not candidate.expr:
                        return "two covariances are blended"
        return None

    def _mirrored(self, node: ir.Assign, module: ModuleInfo, fn: FunctionInfo | None) -> str | None:
        # `R[i, j] = R[j, i].conj()`
        value = node.value
        inner = operand(value, frozenset({"conj", "conjugate"})) if value is not None else None
        for target in node.targets:
            if isinstance(target, ir.Subscript) and isinstance(inner, ir.Subscript) and key(target.value) == key(inner.value):
                one = [key(i) for i in target.index.items] if isinstance(target.index, ir.Sequence) else []
                other = [key(i) for i in inner.index.items] if isinstance(inner.index, ir.Sequence) else []
                if len(one) > 1 and one[-2:] == other[:-3:-1] and one != other and self.covariance(Place(target.value, module, fn)):
                    return "a covariance is mirrored"
        return None

    def _reloaded(self, place: Place) -> str | None:
        # V diag(w + x) V^H of an eigendecomposition.
        expr = place.expr
        if not (isinstance(expr, ir.BinOp) and expr.op == "@"):
            return None
        vectors = self.algebra.adjoint_of(place.at(expr.right))
        if vectors is None or not isinstance(vectors.expr, ir.Name):
            return None
        source = self._decomposed(vectors, 1)
        for node in ir.walk(expr.left) if source is not None else ():
            changed = isinstance(node, ir.BinOp) and node.op == "+" and [node.left, node.right]
            if isinstance(node, ir.Call) and ir.last_name(node.func) in ("add", "clamp", "clamp_min", "maximum"):
                changed = operands_of(node)
            for part in changed or []:
                if isinstance(part, ir.Name) and source is not None and self._decomposed(place.at(part), 0) is source:
                    return "a covariance's eigenvalues are loaded"
        return None

    def _decomposed(self, place: Place, item: int) -> ir.Expr | None:
        # The matrix whose eigenvalues (item 0) or eigenvectors (item 1) a name holds.
        if not isinstance(place.expr, ir.Name):
            return None
        found = self.origins.reaching(place).envs.get(id(place.expr), {}).get(place.expr.id, {})
        for definition in found:
            value = definition.expr
            if definition.path == (("item", item),) and isinstance(value, ir.Call) and ir.last_name(value.func) == "eigh":
                return value
        return None

    def _products(self, place: Place, module: ModuleInfo) -> str | None:
        expr = place.expr
        name = ir.last_name(expr.func) if isinstance(expr, ir.Call) else ""
        if self.algebra.product(place) == "outer":
            factor = place
            if isinstance(expr, ir.BinOp):
                factor = place.at(expr.left)
            elif isinstance(expr, ir.Call) and name != "einsum":
                factor = place.at(operands_of(expr)[0])
            if self.algebra.normalised_factor(factor):
                return "a factor is scaled so that its covariance has a fixed trace"
        if isinstance(expr, ir.Call) and name in ("addmm", "baddbmm", "addbmm") and len(operands_of(expr)) >= 3:
            first = place.at(operands_of(expr)[0])
            if self.algebra.is_eye(first) and not _noise(first) and not self.offline(module):
                return "a covariance is loaded or shrunk towards the identity"
        if isinstance(expr, ir.Call) and name == "average" and expr.args and isinstance(expr.args[0].value, ir.Sequence):
            items = expr.args[0].value.items
            if len(items) > 1 and all(self.covariance(place.at(i)) for i in items):
                return "two covariances are blended"
        if isinstance(expr, ir.Call) and name in ("cat", "concat", "concatenate", "hstack") and expr.args:
            items = expr.args[0].value.items if isinstance(expr.args[0].value, ir.Sequence) else []
            weights = [w for i in items for w in self._root_weights(place.at(i))]
            if any(self._complement(a, b) for a, b in itertools.permutations(weights, 2)):
                return "two factors are blended"
        if isinstance(expr, ir.BinOp) and expr.op == "-" and _negates(expr.right) and not self.offline(module):
            if self.algebra.is_eye(place.at(expr.right)) and self.covariance(place.at(expr.left)):
                return "a covariance is loaded or shrunk towards the identity"
        return None

    def _root_weights(self, place: Place) -> list[Place]:
        # `sqrt(w)` of `sqrt(w) * factor`.
        expr = place.expr
        if not (isinstance(expr, ir.BinOp) and expr.op == "*"):
            return [w for s in self.algebra.behind(place) for w in self._root_weights(s)] if isinstance(expr, ir.Name) else []
        out: list[Place] = []
        for side in (expr.left, expr.right):
            inner = _unviewed(place.at(side)).expr
            if isinstance(inner, ir.Call) and ir.last_name(inner.func) == "sqrt":
                out.append(place.at(receiver_or_argument(inner)))
            elif isinstance(inner, ir.BinOp) and inner.op == "**":
                out.append(place.at(inner.left))
        return out

    def _scaled_nodes(self, place: Place) -> set[int]:
        # The expressions of this body that are multiplied or divided by a literal, directly or under a name.
        owner = place.fn if place.fn is not None else place.module
        if owner not in self._halves:
            body = place.fn.node.body if place.fn is not None else place.module.tree.body
            found: set[int] = set()
            for node in ir.walk_own(body):
                if isinstance(node, ir.BinOp) and node.op in ("*", "/"):
                    for side, other in ((node.left, node.right), (node.right, node.left)):
                        if isinstance(other, ir.Constant):
                            found.add(id(side))
                            found.update(id(p.expr) for p in self.algebra.behind(place.at(side)))
                elif isinstance(node, ir.Call) and ir.last_name(node.func) in ("mul", "div", "mul_", "div_", "multiply", "divide"):
                    found.update(id(o) for o in operands_of(node))
            self._halves[owner] = found
        return self._halves[owner]

    def _sum(self, left: Place, right: Place, module: ModuleInfo, halved: bool = False) -> str | None:
        for one, other in (p for a, b in self._pairs(left, right) for p in ((a, b), (b, a))):
            adjoint = self.algebra.adjoint_of(other)
            if adjoint is not None and self._same(adjoint, one) and not self._excluded(one):
                # Without the half it may be a derivative, 2 Re of something, unless it is a covariance.
                if halved or self.covariance(one):
                    return "a matrix is hermitised"
            transposed = self.algebra.transpose_of(other)
            if transposed is not None and self._same(transposed, one) and self.covariance(one):
                return "a covariance is symmetrised"
        for one, other in ((left, right), (right, left)):
            if self.algebra.is_eye(other) and not self.algebra.is_eye(one) and self.covariance(self._scaled(one)[1]):
                if not self.offline(module) and not _noise(other):
                    return "a covariance is loaded or shrunk towards the identity"
        return self._blend(left, right, halved)

    def _pairs(self, left: Place, right: Place) -> Iterator[tuple[Place, Place]]:
        """The two places, and what calls pass for them where both are parameters."""
        yield left, right
        one, other = self.algebra.core(left), self.algebra.core(right)
        fn = left.fn
        if fn is None or not isinstance(one.expr, ir.Name) or not isinstance(other.expr, ir.Name) or one.expr.id == other.expr.id:
            return
        params = {p.name: p for p in fn.node.params}
        if one.expr.id in params and other.expr.id in params:
            for call, unit, bound in self.flow.sites(fn):
                caller = Place(call, unit.module, unit.fn)
                given = [next(self.origins.passed(caller, fn, params[n], bound=bound), None) for n in (one.expr.id, other.expr.id)]
                if given[0] is not None and given[1] is not None:
                    yield given[0][0], given[1][0]

    def _same(self, one: Place, other: Place) -> bool:
        cores = {key(self.algebra.core(p).expr) for p in [other, *self.algebra.behind(self.algebra.core(other))]}
        return key(self.algebra.core(one).expr) in cores

    def _excluded(self, place: Place) -> bool:
        core = self.algebra.core(place)
        if any(self.algebra.product(p) == "gram" for p in [core, *self.algebra.behind(core)]):
            return True
        return bool(words(core.expr) & {"fisher", "fim", "hess", "hessian", "gram", "jac", "kernel", "weight"})

    def _blend(self, left: Place, right: Place, halved: bool = False) -> str | None:
        message = "two covariances are blended"
        (a, one), (b, other) = self._scaled(left), self._scaled(right)
        if halved and self.covariance(left) and self.covariance(right) and key(left.expr) != key(right.expr):
            return message
        if a is not None and b is not None:
            for (a1, x), (b1, y) in itertools.product([(a, one), (one, a)], [(b, other), (other, b)]):
                if (self._complement(a1, b1) or self._complement(b1, a1)) and (self.covariance(x) or self.covariance(y)):
                    return message
        if a is not None and b is not None and self.covariance(one) and self.covariance(other):
            return message
        for start, step in ((left, other if b is not None else None), (right, one if a is not None else None)):
            if step is not None and isinstance(step.expr, ir.BinOp) and step.expr.op == "-":
                if key(step.expr.right) == key(start.expr) and self.covariance(start):
                    return message
        return None

    def _scaled(self, place: Place) -> tuple[Place | None, Place]:
        expr = place.expr
        if isinstance(expr, ir.Name):
            products = [p for p in self.algebra.behind(place) if isinstance(p.expr, ir.BinOp) and p.expr.op == "*"]
            if len(products) == 1 and len(self.algebra.behind(place)) == 1:
                return self._scaled(products[0])
        operands: list[ir.Expr] = []
        if isinstance(expr, ir.BinOp) and expr.op == "@" and isinstance(expr.left, ir.BinOp) and expr.left.op == "*":
            return place.at(expr.left.left), place
        if isinstance(expr, ir.BinOp) and expr.op == "*":
            operands = [expr.left, expr.right]
        elif isinstance(expr, ir.Call) and ir.last_name(expr.func) in ("mul", "multiply", "mul_"):
            operands = operands_of(expr)
        if len(operands) != 2:
            return None, place
        first, second = place.at(operands[0]), place.at(operands[1])
        return (second, first) if self.covariance(first) else (first, second)

    def _complement(self, one: Place, other: Place) -> bool:
        candidates = [one, *self.algebra.behind(_unviewed(one))]
        for candidate in candidates:
            expr = _unviewed(candidate).expr
            if isinstance(expr, ir.BinOp) and expr.op == "-" and isinstance(expr.left, ir.Constant) and expr.left.value in (1, 1.0):
                if key(_unviewed(candidate.at(expr.right)).expr) == key(_unviewed(other).expr):
                    return True
        return False

    def _lerp(self, place: Place) -> str | None:
        expr = place.expr
        if isinstance(expr, ir.Call) and ir.last_name(expr.func) in ("lerp", "lerp_"):
            operands = [place.at(o) for o in operands_of(expr)][:2]
            if any(self.covariance(o) for o in operands):
                return "two covariances are blended"
            adjoint = self.algebra.adjoint_of(operands[-1])
            if adjoint is not None and self._same(adjoint, operands[0]):
                return "a matrix is hermitised"
        return None

    def _normalise(self, place: Place) -> str | None:
        expr = place.expr
        name = ir.last_name(expr.func) if isinstance(expr, ir.Call) else ""
        divides = name in ("div", "div_", "divide", "true_divide", "divide_")
        times = name in ("mul", "mul_", "multiply")
        if isinstance(expr, ir.Call) and (divides or times):
            operands = operands_of(expr)
        elif isinstance(expr, ir.BinOp) and expr.op in ("/", "*"):
            operands, divides, times = [expr.left, expr.right], expr.op == "/", expr.op == "*"
        else:
            return None
        if len(operands) < 2:
            return None
        first, second = place.at(operands[0]), place.at(operands[1])
        if divides and self.algebra.product(first) == "outer":
            factor = place.at(getattr(first.expr, "left", first.expr))
            normed = self.algebra.norm_of(second)
            if normed is not None and self._same(normed, factor):
                return "a matrix is normalised by a trace"
        if divides:
            normed = self.algebra.norm_of(second)
            if normed is not None and self._same(normed, first) and self.covariance(first):
                return "a covariance is normalised"
        pairs = [(a, self.algebra.trace_of(b)) for a, b in self._pairs(first, second)] if divides else []
        pairs += [(first, self.algebra.over_trace(second)), (second, self.algebra.over_trace(first))] if times else []
        return next((self._normalised(m, t) for m, t in pairs if t is not None and self._normalised(m, t)), None)

    def _normalised(self, matrix: Place, traced: Place) -> str | None:
        inside = [matrix, self._scaled(matrix)[1]]
        if any(self._same(traced, m) for m in inside) or any(self.covariance(m) for m in inside):
            return "a matrix is normalised by a trace"
        return None

    # -- in place

    def _in_place(self, node: ir.AugAssign, module: ModuleInfo, fn: FunctionInfo | None) -> str | None:
        target, value = Place(node.target, module, fn), Place(node.value, module, fn)
        if node.op == "+":
            owner = self._diagonal_owner(target)
            if owner is not None and self.covariance(owner) and not self.offline(module):
                return "a covariance's diagonal is loaded in place"
            before = [p for p in self.algebra.behind(target) if p.expr is not node.value]
            if len(before) == 1 and isinstance(node.target, ir.Name):
                return self._sum(target, value, module) or self._sum(before[0], value, module)
            return self._sum(target, value, module)
        if node.op == "-" and _negates(node.value) and not self.offline(module):
            if self.algebra.is_eye(value) and self.covariance(target):
                return "a covariance is loaded or shrunk towards the identity"
        normed = self.algebra.norm_of(value) if node.op == "/" else None
        if normed is not None and self._same(normed, target) and self.covariance(target):
            return "a covariance is normalised"
        traced = self.algebra.trace_of(value) if node.op == "/" else None
        traced = self.algebra.over_trace(value) if node.op == "*" else traced
        return self._normalised(target, traced) if traced is not None else None

    def _diagonal_assignment(self, node: ir.Assign, module: ModuleInfo, fn: FunctionInfo | None) -> str | None:
        for target in node.targets:
            if isinstance(target, ir.Subscript) and not self.offline(module):
                owner = self._diagonal_owner(Place(target, module, fn))
                if owner is not None and self.covariance(owner):
                    return "a covariance's diagonal is written"
        return None

    def _diagonal_owner(self, place: Place) -> Place | None:
        expr = place.expr
        found = operand(expr, frozenset({"diagonal"}))
        if found is not None:
            return place.at(found)
        if isinstance(expr, ir.Subscript):
            index = expr.index
            if isinstance(index, ir.Slice) and index.step is not None:
                flat = operand(expr.value, frozenset({"view", "flatten", "ravel", "reshape"}))
                if flat is not None or (isinstance(expr.value, ir.Attribute) and expr.value.attr == "flat"):
                    return place.at(flat if flat is not None else expr.value.value)  # type: ignore[attr-defined]
            if isinstance(index, ir.Sequence):
                names = [key(i) for i in index.items if isinstance(i, (ir.Name, ir.Call))]
                if len(names) != len(set(names)):
                    return place.at(expr.value)
            called = [p.expr for p in [place.at(index), *self.algebra.behind(place.at(index))]]
            if any(isinstance(c, ir.Call) and ir.last_name(c.func).startswith("diag_indices") for c in called):
                return place.at(expr.value)
            inner = self._diagonal_owner(place.at(expr.value))
            if inner is not None:
                return inner
        return next((o for s in self.algebra.behind(place) if (o := self._diagonal_owner(s)) is not None), None)

    def _diagonal_call(self, place: Place, module: ModuleInfo) -> str | None:
        expr = place.expr
        if not isinstance(expr, ir.Call) or self.offline(module):
            return None
        name = ir.last_name(expr.func)
        owner: Place | None = None
        if name in ("fill_diagonal_", "fill_diagonal", "diagonal_scatter"):
            owner = place.at(receiver_or_argument(expr))
        elif name in ("add_", "copy_", "fill_") and isinstance(expr.func, ir.Attribute):
            owner = self._diagonal_owner(place.at(expr.func.value))
        return "a covariance's diagonal is loaded in place" if owner is not None and self.covariance(owner) else None


def _halved(expr: ir.Expr) -> bool:
    if isinstance(expr, ir.BinOp) and expr.op in ("*", "/"):
        return isinstance(expr.left, ir.Constant) or isinstance(expr.right, ir.Constant)
    return (isinstance(expr, ir.Call) and ir.last_name(expr.func) in ("triu", "tril")) or (
        isinstance(expr, ir.Attribute) and isinstance(expr.value, ir.Call) and _halved(expr.value)
    )


def _negates(expr: ir.Expr) -> bool:
    return any(isinstance(n, ir.UnaryOp) and n.op == "-" for n in ir.walk(expr))


def _unviewed(place: Place) -> Place:
    expr = place.expr
    while True:
        if isinstance(expr, ir.Subscript):
            expr = expr.value
        elif isinstance(expr, ir.Call) and ir.last_name(expr.func) in ("view", "reshape", "unsqueeze", "to"):
            expr = receiver_or_argument(expr)
        else:
            return place.at(expr)


def _noise(place: Place) -> bool:
    return any("noise" in ir.last_name(n) for n in ir.walk(place.expr) if isinstance(n, (ir.Name, ir.Attribute)))
