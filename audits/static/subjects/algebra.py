"""Recognises matrix operations in any spelling: conjugate transposes, traces, identities, scalings, products."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from audits.static.analysis.values import Func
from audits.static.dataflow.expressions import (
    along_one_axis,
    is_scalar,
    key,
    operand,
    operands_of,
    receiver_or_argument,
    repeats_index,
    repeats_letter,
    swapped_by_einsum,
    unwrapped,
)
from audits.static.dataflow.flow import Flow, Place
from audits.static.dataflow.origins import Origins
from audits.static.source import ir

_TRANSPARENT = frozenset(
    [
        "clone",
        "detach",
        "contiguous",
        "to",
        "type",
        "cdouble",
        "cfloat",
        "double",
        "float",
        "resolve_conj",
        "real",
        "requires_grad_",
        "cpu",
        "cuda",
        "astype",
        "copy",
        "unsqueeze",
        "view",
        "reshape",
        "expand",
        "expand_as",
        "squeeze",
        "clamp",
        "clamp_min",
        "clamp_",
        "abs",
        "mean",
        "sum",
        "asarray",
        "as_tensor",
        "tensor",
        "array",
        "ascontiguousarray",
        "item",
        "maximum",
        "max",
        "type_as",
        "real_if_close",
    ]
)
_TRANSPOSES = frozenset(["transpose", "swapaxes", "swapdims", "permute", "t", "mT", "T", "moveaxis", "movedim"])
_CONJUGATES = frozenset(["conj", "conjugate", "conj_physical"])
_EYES = frozenset(["eye", "identity", "eye_like"])
_DIAGONALS = frozenset(["diag_embed", "diag", "diagflat"])
_FILLS = frozenset(["full", "ones", "full_like", "ones_like", "new_full", "new_ones", "expand"])
_DEPTH = 8


class Algebra:
    """Questions about what an expression computes; names are followed to their definitions, helpers to their returns."""

    def __init__(self, origins: Origins) -> None:
        self.origins = origins
        self.flow: Flow = origins.flow

    def behind(self, place: Place) -> list[Place]:
        """What a name is bound to where it stands, in its own function or module."""
        expr = place.expr
        if isinstance(expr, ir.Name):
            if place.fn is not None:
                reached = self.origins.reaching(place).envs.get(id(expr), {}).get(expr.id)
                if reached and not any(d.path for d in reached):
                    return [place.at(d.expr) for d in reached if d.expr is not None][:4]
            found = self.flow.definitions(place, expr.id)
            return [p for p in found if p.fn is place.fn or p.fn is None][:4]
        return []

    def helper(self, place: Place) -> list[tuple[Place, dict[str, Place]]]:
        """For a call of the packages' own function: its returns, with its parameters' arguments."""
        out: list[tuple[Place, dict[str, Place]]] = []
        expr = place.expr
        if isinstance(expr, ir.Call):
            for callee in self.flow.callees(place):
                if isinstance(callee, Func) and not callee.weak:
                    names = [p.name for p in callee.fn.positional][1 if callee.bound else 0 :]
                    plain = [a.value for a in expr.args if a.keyword is None]
                    given = {n: place.at(v) for n, v in zip(names, plain, strict=False)}
                    given.update({a.keyword: place.at(a.value) for a in expr.args if a.keyword})
                    out += [(r, given) for r in self.flow.returns(callee.fn)]
        return out

    # -- shapes of expressions

    def core(self, place: Place) -> Place:
        """The expression without scalar factors, type changes and reshapes."""
        for _ in range(20):
            expr = place.expr
            if isinstance(expr, ir.BinOp) and expr.op in ("*", "/"):
                if is_scalar(expr.right):
                    place = place.at(expr.left)
                    continue
                if expr.op == "*" and is_scalar(expr.left):
                    place = place.at(expr.right)
                    continue
            inner = operand(expr, _TRANSPARENT | {"triu", "tril"})
            if inner is None and isinstance(expr, ir.Subscript):
                inner = expr.value
            if inner is None:
                return place
            place = place.at(inner)
        return place

    def adjoint_of(self, place: Place, depth: int = _DEPTH) -> Place | None:
        """X where the expression is the conjugate transpose of X."""
        expr = self.core(place).expr
        place = place.at(expr)
        if isinstance(expr, ir.Attribute) and expr.attr in ("mH", "H"):
            return self.core(place.at(expr.value))
        inner = operand(expr, frozenset({"adjoint"}))
        if inner is not None:
            return self.core(place.at(inner))
        for outer, other in ((_TRANSPOSES, _CONJUGATES), (_CONJUGATES, _TRANSPOSES)):
            first = operand(expr, outer) or (swapped_by_einsum(expr) if outer is _TRANSPOSES else None)
            if first is not None:
                for candidate in [self.core(place.at(first)), *self.behind(self.core(place.at(first)))]:
                    second = operand(candidate.expr, other) or (swapped_by_einsum(candidate.expr) if other is _TRANSPOSES else None)
                    if second is not None:
                        return self.core(candidate.at(second))
        if depth:
            for source in self.behind(place):
                found = self.adjoint_of(source, depth - 1)
                if found is not None:
                    return found
            for returned, given in self.helper(place):
                found = self.adjoint_of(returned, depth - 1)
                if found is not None and isinstance(found.expr, ir.Name) and found.expr.id in given:
                    return self.core(given[found.expr.id])
        return None

    def transpose_of(self, place: Place, depth: int = _DEPTH) -> Place | None:
        """X where the expression is X transposed, without conjugation."""
        place = self.core(place)
        inner = operand(place.expr, _TRANSPOSES)
        if inner is not None:
            return self.core(place.at(inner))
        return next((f for s in self.behind(place) if depth and (f := self.transpose_of(s, depth - 1)) is not None), None)

    def trace_of(self, place: Place, depth: int = _DEPTH) -> Place | None:
        """X where the expression is the trace of X, up to scalar factors, clamps and reshapes."""
        for part in self._factors(place):
            expr = part.expr
            if isinstance(expr, ir.Call):
                name = ir.last_name(expr.func)
                if name == "trace":
                    return self.core(part.at(receiver_or_argument(expr)))
                if isinstance(expr.func, ir.Call) and any(ir.last_name(a.value) == "trace" for a in expr.func.args) and expr.args:
                    return self.core(part.at(expr.args[0].value))
                if name == "sum" and expr.args and isinstance(expr.args[0].value, ir.Comprehension):
                    element = expr.args[0].value.element
                    if isinstance(element, ir.Subscript) and repeats_index(element.index):
                        return self.core(part.at(element.value))
                if name == "einsum" and len(expr.args) == 2 and repeats_letter(expr.args[0].value):
                    return self.core(part.at(expr.args[1].value))
                if name in ("sum", "nansum"):
                    masked = part.at(unwrapped(receiver_or_argument(expr)))
                    if isinstance(masked.expr, ir.BinOp) and masked.expr.op == "*":
                        for side, other in ((masked.expr.left, masked.expr.right), (masked.expr.right, masked.expr.left)):
                            if self.is_eye(part.at(side)):
                                return self.core(part.at(other))
                if name in ("sum", "mean", "nansum"):
                    summed = part.at(unwrapped(receiver_or_argument(expr)))
                    for candidate in [summed, *self.behind(summed)]:
                        listed = unwrapped(candidate.expr)
                        if isinstance(listed, ir.Subscript) and ir.last_name(getattr(listed.value, "func", listed)) == "eigh":
                            listed = listed.value
                        diagonal = operand(listed, frozenset({"diagonal", "diag", "eigvalsh", "eigh", "svdvals"}))
                        if diagonal is not None:
                            return self.core(candidate.at(diagonal))
            inner = operand(expr, _TRANSPARENT)
            if inner is None and isinstance(expr, ir.Subscript):
                inner = expr.value
            nested = [part.at(inner)] if inner is not None else []
            if depth:
                for source in [*nested, *self.behind(part)]:
                    found = self.trace_of(source, depth - 1)
                    if found is not None:
                        return found
                for returned, given in self.helper(part):
                    found = self.trace_of(returned, depth - 1)
                    if found is not None and isinstance(found.expr, ir.Name) and found.expr.id in given:
                        return self.core(given[found.expr.id])
        return None

    def _factors(self, place: Place) -> list[Place]:
        # The parts of a denominator: tr/N, tr + eps, max(tr, eps).
        expr = place.expr
        if isinstance(expr, ir.BinOp) and expr.op in ("/", "*", "+"):
            left = self._factors(place.at(expr.left))
            return left + (self._factors(place.at(expr.right)) if expr.op != "/" else [])
        return [place]

    def over_trace(self, place: Place, depth: int = 4) -> Place | None:
        """X where the expression is a scalar divided by the trace of X."""
        place = place.at(unwrapped(place.expr))
        expr = place.expr
        if isinstance(expr, ir.BinOp) and expr.op == "/":
            return self.trace_of(place.at(expr.right))
        if isinstance(expr, ir.Call) and ir.last_name(expr.func) == "reciprocal":
            return self.trace_of(place.at(receiver_or_argument(expr)))
        if isinstance(expr, ir.BinOp) and expr.op == "**" and isinstance(expr.right, ir.UnaryOp) and expr.right.op == "-":
            return self.trace_of(place.at(expr.left))
        inner = operand(expr, _TRANSPARENT)
        if inner is None and isinstance(expr, ir.Subscript):
            inner = expr.value
        sources = [place.at(inner)] if inner is not None else self.behind(place)
        return next((f for s in sources if depth and (f := self.over_trace(s, depth - 1)) is not None), None)

    def norm_of(self, place: Place, depth: int = 5) -> Place | None:
        """X where the expression is the Frobenius norm of X, its square, or one over it."""
        expr = unwrapped(place.expr)
        place = place.at(expr)
        if isinstance(expr, ir.Call):
            name = ir.last_name(expr.func)
            if name in ("norm", "matrix_norm", "vector_norm") and not along_one_axis(expr):
                return self.core(place.at(receiver_or_argument(expr)))
            if name == "sum" and not along_one_axis(expr):
                return self._squared(place.at(receiver_or_argument(expr)))
            if name in ("sqrt", "rsqrt", "square", "pow", "reciprocal", *_TRANSPARENT):
                return self.norm_of(place.at(receiver_or_argument(expr)), depth - 1) if depth else None
        if isinstance(expr, ir.BinOp) and expr.op == "**":
            return self.norm_of(place.at(expr.left), depth - 1) if depth else None
        if isinstance(expr, ir.Subscript):
            return self.norm_of(place.at(expr.value), depth)
        return next((f for s in self.behind(place) if depth and (f := self.norm_of(s, depth - 1)) is not None), None)

    def _squared(self, place: Place) -> Place | None:
        expr = place.expr
        if isinstance(expr, ir.Call) and ir.last_name(expr.func) in ("square", "pow"):
            return self._absolute(place.at(receiver_or_argument(expr)))
        if isinstance(expr, ir.BinOp) and expr.op == "**":
            return self._absolute(place.at(expr.left))
        return None

    def _absolute(self, place: Place) -> Place:
        inner = operand(place.expr, frozenset({"abs", "absolute"}))
        return self.core(place.at(inner) if inner is not None else place)

    def normalised_factor(self, place: Place, depth: int = 3) -> bool:
        """Whether the expression is X over its own Frobenius norm."""
        expr = place.expr
        if isinstance(expr, ir.BinOp) and expr.op in ("/", "*"):
            for value, norm in ((expr.left, expr.right), (expr.right, expr.left)):
                found = self.norm_of(place.at(norm))
                if found is not None and key(found.expr) == key(self.core(place.at(value)).expr):
                    return True
                if expr.op == "/":
                    break
        if isinstance(expr, ir.Call) and ir.last_name(expr.func) == "normalize" and expr.args:
            return ir.last_name(getattr(expr.args[0].value, "func", expr)) in ("flatten", "reshape", "view")
        inner = operand(expr, _TRANSPARENT | {"view_as"})
        sources = [place.at(inner)] if inner is not None else self.behind(place)
        return depth > 0 and any(self.normalised_factor(s, depth - 1) for s in sources)

    def is_eye(self, place: Place, depth: int = 5) -> bool:
        """Whether the expression is a scaled identity."""
        place = place.at(unwrapped(place.expr))
        expr = place.expr
        if isinstance(expr, ir.BinOp) and expr.op in ("*", "/"):
            return self.is_eye(place.at(expr.left), depth) or (expr.op == "*" and self.is_eye(place.at(expr.right), depth))
        if isinstance(expr, ir.Call):
            name = ir.last_name(expr.func)
            if name in _EYES:
                return True
            if name in _DIAGONALS:
                filled = receiver_or_argument(expr)
                made = any(isinstance(n, ir.Call) and ir.last_name(n.func) in _FILLS for n in ir.walk(filled))
                return made or any(isinstance(n, ir.Sequence) for n in ir.walk(filled))
            if name == "einsum" and len(expr.args) > 1:
                return any(self.is_eye(place.at(a.value), depth - 1) for a in expr.args[1:]) and depth > 0
            if name in ("mul", "multiply"):
                parts = [a.value for a in expr.args]
                parts += [expr.func.value] if isinstance(expr.func, ir.Attribute) else []
                return any(self.is_eye(place.at(p), depth) for p in parts)
        inner = operand(expr, _TRANSPARENT)
        if inner is None and isinstance(expr, ir.Subscript):
            inner = expr.value
        sources = [place.at(inner)] if inner is not None else self.behind(place) + [r for r, _ in self.helper(place)]
        return depth > 0 and any(self.is_eye(s, depth - 1) for s in sources)

    def product(self, place: Place) -> str:
        """`outer` for X X^H, `gram` for X^H X, otherwise empty."""
        expr = place.expr
        if isinstance(expr, ir.BinOp) and expr.op == "@":
            left, right = place.at(expr.left), place.at(expr.right)
        elif isinstance(expr, ir.Call) and ir.last_name(expr.func) in ("matmul", "bmm", "mm", "dot"):
            operands = operands_of(expr)
            if len(operands) < 2:
                return ""
            left, right = place.at(operands[0]), place.at(operands[1])
        elif isinstance(expr, ir.Call) and ir.last_name(expr.func) == "einsum" and len(expr.args) == 3:
            return self._einsum(place, expr)
        elif isinstance(expr, ir.Call) and ir.last_name(expr.func) in ("outer", "ger") and len(operands_of(expr)) == 2:
            first, second = operands_of(expr)
            conjugated = operand(second, _CONJUGATES)
            return "outer" if conjugated is not None and key(conjugated) == key(first) else ""
        else:
            return ""
        adjoint = self.adjoint_of(right)
        if adjoint is not None and key(adjoint.expr) == key(self.core(left).expr):
            return "outer"
        adjoint = self.adjoint_of(left)
        if adjoint is not None and key(adjoint.expr) == key(self.core(right).expr):
            return "gram"
        return ""

    def _einsum(self, place: Place, expr: ir.Call) -> str:
        spec = expr.args[0].value
        text = str(spec.value).replace(" ", "") if isinstance(spec, ir.Constant) else ""
        if "->" not in text or "," not in text:
            return ""
        inputs, out = text.split("->")
        first, second = inputs.split(",")[:2]
        one, two = self.core(place.at(expr.args[1].value)), self.core(place.at(expr.args[2].value))
        conjugated = [operand(o.expr, _CONJUGATES) for o in (one, two)]
        keys = {key(self.core(place.at(c)).expr if c is not None else o.expr) for c, o in zip(conjugated, (one, two), strict=True)}
        if len(keys) != 1 or sum(c is not None for c in conjugated) != 1 or not first or not second:
            return ""
        summed = (set(first) & set(second)) - set(out)
        return "outer" if not summed or (first[-1] in summed and second[-1] in summed) else "gram"

    def summands(self, expr: ir.Expr) -> Iterator[tuple[ir.Expr, ir.Expr]]:
        """The two sides of an addition, however it is spelled."""
        if isinstance(expr, ir.BinOp) and expr.op == "+":
            yield expr.left, expr.right
            if isinstance(expr.left, ir.BinOp) and expr.left.op == "+":
                yield expr.left.left, expr.right
                yield expr.left.right, expr.right
        elif isinstance(expr, ir.Call) and ir.last_name(expr.func) in ("add", "add_", "__add__"):
            operands = operands_of(expr)
            if len(operands) >= 2:
                alpha = next((a.value for a in expr.args if a.keyword == "alpha"), None)
                right = operands[1]
                if alpha is not None:
                    right = ir.BinOp(expr.line, expr.column, expr.end_line, expr.end_column, alpha, "*", right)
                    self.origins.made.append(right)
                yield operands[0], right
        elif isinstance(expr, ir.Call) and ir.last_name(expr.func) in ("sum", "where", "mean", "average", "nansum", "einsum"):
            for items in self._stacked(expr):
                yield from itertools.pairwise(items)
            if ir.last_name(expr.func) == "where" and len(expr.args) == 3:
                yield expr.args[1].value, expr.args[2].value

    def _stacked(self, expr: ir.Call) -> Iterator[list[ir.Expr]]:
        # The items that a sum or mean runs over: of a display, of `stack`, of `weight * item for ... in zip(...)`.
        pending = [a.value for a in expr.args]
        pending += [expr.func.value] if isinstance(expr.func, ir.Attribute) else []
        while pending:
            part = pending.pop()
            if isinstance(part, ir.Sequence) and len(part.items) > 1:
                yield part.items
            elif isinstance(part, ir.Call) and ir.last_name(part.func) in ("stack", "array", "asarray", "tensor", "zip"):
                pending += [a.value for a in part.args if a.keyword is None]
            elif isinstance(part, ir.BinOp) and part.op == "*":
                pending += [part.left, part.right]
            elif isinstance(part, ir.Comprehension):
                pending += [c.iter for c in part.clauses]
