"""What functions of tensors compute: sums, products, transposes, traces, norms, identities, stacks and decompositions."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from audits.static.subjects.symbolic.symbols import NONE, Ext, Lit, Seq, Value
from audits.static.subjects.symbolic.terms import Atom, Poly, Product, Terms

if TYPE_CHECKING:
    from audits.static.source import ir
    from audits.static.subjects.symbolic.run import Symbolic
    from audits.static.subjects.symbolic.symbols import Frame

_SAME = frozenset(
    ["clone", "detach", "contiguous", "to", "type", "cdouble", "cfloat", "double", "float", "resolve_conj", "resolve_neg",
     "requires_grad", "cpu", "cuda", "astype", "copy", "unsqueeze", "view", "reshape", "expand", "expand_as", "squeeze", "asarray",
     "as_tensor", "tensor", "array", "from_numpy", "ascontiguousarray", "item", "type_as", "real_if_close", "numpy", "half",
     "bfloat16", "view_as", "reshape_as", "broadcast_to", "expand_dims", "atleast_2d", "atleast_3d", "flatten", "ravel",
     "unflatten", "repeat", "tile", "pin_memory", "nan_to_num", "alias", "tolist", "bool", "int", "long", "positive",
     "stop_gradient", "device_put", "asanyarray", "complex64", "complex128", "new_tensor", "scalar_tensor", "repeat_interleave",
     "as_subclass", "float64", "float32", "block_until_ready", "conj_physical_", "lift_fresh", "vmap", "Parameter", "asfarray",
     "matrix", "flat", "retain_grad", "share_memory", "broadcast_tensors", "index_select", "narrow", "select", "take", "gather",
     "result", "wait"]
)  # fmt: skip
VIEWS = frozenset(
    ["view", "reshape", "unsqueeze", "squeeze", "expand", "contiguous", "detach", "flatten", "ravel", "to", "select", "narrow"]
)
_SCALAR_LIKE = frozenset({"trace", "norm", "scalar", "count", "sum", "many"})


@dataclass(slots=True)
class Arguments:
    """A call: `name` without a trailing underscore, what is given in order and by keyword."""

    sym: Symbolic
    name: str
    args: list[Value]
    keywords: dict[str, Value]
    node: ir.Node
    frame: Frame

    @property
    def terms(self) -> Terms:
        """The algebra."""
        return self.sym.terms

    def get(self, place: int, *names: str) -> Value | None:
        """An argument by its place or name."""
        if 0 <= place < len(self.args):
            return self.args[place]
        return next((self.keywords[n] for n in names if n in self.keywords), None)

    def tensor(self, place: int, *names: str) -> Poly | None:
        """An argument as a tensor."""
        found = self.get(place, *names)
        return self.sym.tensor(found) if found is not None else None

    def dims(self, place: int) -> list[int] | None:
        """The axes along which something runs; None where it runs along all."""
        given = self.get(place, "dim", "axis")
        items = given.items if isinstance(given, Seq) else [given]
        out = [_integer(i) for i in items]
        return [o for o in out if o is not None] if given is not None and any(o is not None for o in out) else None


def _integer(value: Value | None) -> int | None:
    found = value.constant if isinstance(value, Poly) else None
    return int(found.real) if isinstance(found, (int, float)) else None


# -- questions


def diagonal_of(value: Value) -> Poly | None:
    """X where a value is a view of the diagonal of X."""
    single = value.single if isinstance(value, Poly) else None
    if single is None or len(single[0]) != 1 or single[0][0][1] != 1:
        return None
    atom = single[0][0][0]
    if atom.kind == "item":
        return diagonal_of(atom.args[0])
    return atom.args[0] if atom.kind == "diagonal" else None


def pieces(value: Poly) -> list[Value] | None:
    """The parts of a stack."""
    single = value.single
    if single is not None and len(single[0]) == 1 and single[0][0][0].kind == "stack" and single[0][0][1] == 1 and single[1] == 1:
        return list(single[0][0][0].args)
    return None


def element(sym: Symbolic, value: Value, place: int) -> Value:
    """Item `place` of something that is taken apart."""
    return indexed(sym, value, sym.terms.number(place)) if isinstance(value, Poly) else value


def arange(value: Poly) -> bool:
    """Whether a value is a range of positions."""
    return any(a.kind == "call" and a.args[0] == "arange" for a in value.atoms())


def same_range(one: Poly, other: Poly) -> bool:
    """Whether two values are the same range of positions, one along rows and one along columns."""
    return one is other and arange(one)


def data(sym: Symbolic, value: Poly, name: str) -> Value | None:
    """An attribute of a tensor that is a tensor again, or something about its shape."""
    terms = sym.terms
    if name in ("mH", "H"):
        return terms.adjoint(value)
    if name in ("T", "mT"):
        return terms.turned(value, transpose=True)
    if name == "real":
        return terms.real(value)
    if name == "imag":
        return terms.imaginary(value)
    if name in ("data", "flat", "grad_fn"):
        return value
    if name == "shape":
        return terms.of("shape", value)
    if name in ("dtype", "device", "ndim", "layout", "names"):
        return Lit((name, value))
    return None


def indexed(sym: Symbolic, base: Poly, index: Value, *, written: bool = False) -> Value:
    """`base[index]` of a tensor; where it is `written`, equal numbers name the diagonal, too."""
    terms = sym.terms
    items = index.items if isinstance(index, Seq) else [index]
    kept = [i for i in items if not _whole(i)]
    parts = pieces(base)
    if parts is not None and kept and isinstance(_integer(items[0]), int):
        at = _integer(items[0])
        if at is not None and -len(parts) <= at < len(parts):
            rest = items[1:]
            return indexed(sym, sym.tensor(parts[at]), Seq(list(rest))) if rest else parts[at]
    if not kept:
        return base
    single = base.single
    if single is not None and len(single[0]) == 1 and single[0][0][0].kind in ("pair", "parts") and _integer(kept[-1]) in (0, 1):
        args = single[0][0][0].args
        both = args if len(args) == 2 else (terms.real(args[0]), terms.imaginary(args[0]))
        return terms.scaled(both[_integer(kept[-1]) or 0], single[1])
    named = written or _integer(kept[-1]) is None
    if len(kept) > 1 and named and isinstance(kept[-1], (Poly, Seq)) and _token(kept[-1]) == _token(kept[-2]):
        return terms.of("diagonal", _plain(terms, base))
    if _diagonal_index(kept[-1]):
        return terms.of("diagonal", _plain(terms, base))
    key = tuple(_token(i) for i in kept)
    if len(key) == 1:
        row = _row_of(base)
        if row is not None and row[1] == key[0] and named:
            return terms.of("diagonal", row[0])
    return terms.distributed(base, lambda rest: _picked(terms, rest, key))


def _row_of(base: Poly) -> tuple[Poly, object] | None:
    # `R[i]`, of which `[i]` is an element of the diagonal.
    single = base.single
    if single is not None and len(single[0]) == 1 and single[0][0][0].kind == "item" and len(single[0][0][0].args[1]) == 1:
        key = single[0][0][0].args[1][0]
        return (single[0][0][0].args[0], key) if isinstance(key, Poly) else None
    return None


def _picked(terms: Terms, rest: Product, key: tuple[object, ...]) -> Poly:
    out: dict[Atom, float] = {}
    for atom, power in rest:
        new = _item(terms, atom, key)
        out[new] = out.get(new, 0) + power
    return terms.product(tuple(sorted(out.items(), key=lambda f: f[0].number)))


def _item(terms: Terms, atom: Atom, key: tuple[object, ...]) -> Atom:
    if atom.kind == "pair":
        return atom
    if atom.kind == "turned":
        base, conjugated, transposed = atom.args
        swapped = (*key[:-2], key[-1], key[-2]) if transposed and len(key) > 1 else key
        inner = _item(terms, base, swapped)
        return terms._turned(inner, conjugated, transposed and len(key) < 2)
    return terms.atom("item", terms.product(((atom, 1),)), key)


def _whole(index: Value) -> bool:
    if index == NONE or (isinstance(index, Lit) and index.value is Ellipsis):
        return True
    return isinstance(index, Lit) and index.value == ("slice", ("lit", None), ("lit", None), ("lit", None))


def _diagonal_index(index: Value) -> bool:
    if isinstance(index, Poly):
        return any(a.kind in ("eye", "diagonal-index") for a in index.atoms())
    if isinstance(index, Lit) and isinstance(index.value, tuple) and index.value and index.value[0] == "slice":
        step = index.value[3]
        constant = step.constant if isinstance(step, Poly) else 0
        return constant is None or abs(constant) > 2
    return False


def _token(value: Value) -> object:
    if isinstance(value, Poly):
        return value
    return ("seq", *(_token(i) for i in value.items)) if isinstance(value, Seq) else value if isinstance(value, (Lit, Ext)) else id(value)


def stored(sym: Symbolic, base: Poly, index: Value, value: Value) -> Value:
    """What a tensor is after `base[index] = value`."""
    terms = sym.terms
    if isinstance(value, Seq) or not isinstance(value, Poly):
        value = sym.tensor(value)
    items = index.items if isinstance(index, Seq) else [index]
    at = _integer(items[0])
    if all(_whole(i) for i in items):
        return value
    if base.constant == 0 and diagonal_of(indexed(sym, sym.terms.of("buffer"), index)) is not None:
        return terms.times(terms.eye, value)
    parts = pieces(base)
    if at is not None and at >= 0 and all(_whole(i) for i in items[1:]) and (parts is not None or base.constant is not None):
        parts = parts if parts is not None else []
        known = [sym.tensor(p) for p in parts] + [terms.zero] * (at + 1 - len(parts))
        known[at] = value
        return terms.of("stack", *known)
    return value if base.constant is not None else base


def mirror(sym: Symbolic, piece: Poly, value: Poly) -> Poly | None:
    """X where `value` is the element of X across the diagonal from `piece`, conjugated or not."""
    for conjugate in (True, False):
        single, other = piece.single, sym.terms.turned(value, conjugate=conjugate).single
        if single is None or other is None or len(single[0]) != 1 or len(other[0]) != 1:
            continue
        one, two = single[0][0][0], other[0][0][0]
        if one.kind == two.kind == "item" and one.args[0] is two.args[0] and len(one.args[1]) > 1:
            if one.args[1][-2:] == two.args[1][:-3:-1] and one.args[1] != two.args[1]:
                return one.args[0]
    return None


# -- building blocks


def _plain(terms: Terms, value: Poly) -> Poly:
    single = value.single
    return terms.product(single[0]) if single is not None else value


def trace(terms: Terms, value: Poly) -> Poly:
    """The trace: linear, real, and that of X X^H is the squared norm of X."""

    def each(rest: Product) -> Poly:
        if not rest:
            return terms.one
        if any(a.kind == "eye" for a, _ in rest):
            others = tuple(f for f in rest if f[0].kind != "eye")
            return each(others) if others else terms.of("count", "rows")
        bare = tuple((a.args[0] if a.kind == "turned" else a, p) for a, p in rest)
        if len(bare) == 1 and bare[0][0].kind == "product" and bare[0][1] == 1:
            left, right = bare[0][0].args
            if right is terms.adjoint(left):
                return terms.power(terms.of("norm", left), 2)
        return terms.of("trace", terms.product(bare))

    return terms.distributed(value, each)


def norm(terms: Terms, value: Poly) -> Poly:
    """The Frobenius norm."""
    single = value.single
    if single is None:
        return terms.of("norm", value)
    scalars, rest = terms.split(single[0], lambda a: a.scalar)
    bare = tuple((a.args[0] if a.kind in ("turned", "abs", "parts") and not isinstance(a.args[0], Poly) else a, p) for a, p in rest)
    if len(rest) == 1 and rest[0][0].kind in ("abs", "parts") and rest[0][1] == 1:
        return terms.scaled(terms.times(scalars, norm(terms, rest[0][0].args[0])), abs(single[1]))
    if not bare:
        return terms.scaled(scalars, abs(single[1]))
    return terms.scaled(terms.times(scalars, terms.of("norm", terms.product(bare))), abs(single[1]))


def matmul(sym: Symbolic, left: Poly, right: Poly) -> Poly:
    """The matrix product, with numbers and scalars before it."""
    terms = sym.terms
    if left.constant is not None or right.constant is not None:
        return terms.times(left, right)
    for one, other in ((left, right), (right, left)):
        if len(one.terms) == 1 and all(a.kind == "eye" or a.scalar for a in one.atoms()) and terms.eye.atoms() <= one.atoms():
            single = one.single
            assert single is not None
            return terms.times(terms.product(tuple(f for f in single[0] if f[0].kind != "eye"), single[1]), other)
    parts = pieces(right)
    weights = pieces(left)
    if parts is not None and weights is not None and len(parts) == len(weights):
        return terms.add(*(terms.times(sym.tensor(a), sym.tensor(b)) for a, b in zip(weights, parts, strict=True)))
    outside: list[Poly] = []
    inside: list[Poly] = []
    for value in (left, right):
        single = value.single
        if single is None:
            inside.append(value)
            continue
        scalars, rest = terms.split(single[0], lambda a: a.scalar or (a.kind == "many" and _scalar(a)))
        outside.append(terms.scaled(scalars, single[1]))
        inside.append(terms.product(rest))
    made = terms.of("product", *inside)
    for factor in outside:
        made = terms.times(factor, made)
    return made


def _scalar(atom: Atom) -> bool:
    return all(a.scalar or (a.kind == "many" and _scalar(a)) for a in atom.args[0].atoms())


def _is_squares(terms: Terms, rest: Product) -> Poly | None:
    # X where a product is |X|^2.
    if len(rest) == 1 and rest[0][1] == 2:
        atom = rest[0][0]
        return atom.args[0] if atom.kind in ("abs", "parts") else terms.product(((atom, 1),))
    if rest and all(p == 2 for _, p in rest):
        return terms.product(tuple((a, 1) for a, _ in rest))
    if len(rest) % 2 == 0 and rest and all(p == 1 for _, p in rest):
        bases = {a for a, _ in rest}
        for some in itertools.combinations(rest, len(rest) // 2):
            half = terms.product(tuple(some))
            other = terms.turned(half, conjugate=True)
            if other.atoms() == bases - half.atoms():
                return half
    return None


def total(sym: Symbolic, value: Poly, dims: list[int] | None, *, mean: bool = False) -> Poly:
    """A sum or mean along some axes, or along all."""
    terms = sym.terms
    everything = dims is None or len(dims) > 1

    def each(rest: Product) -> Poly:
        return _summed(sym, rest, dims, everything, mean)

    return terms.distributed(value, each)


def _summed(sym: Symbolic, rest: Product, dims: list[int] | None, everything: bool, mean: bool) -> Poly:
    terms = sym.terms
    if not rest:
        return terms.one
    stacks = [a for a, p in rest if a.kind == "stack" and p == 1]
    if stacks and (dims == [0] or (dims is None and len(stacks) == len(rest))) and len({len(s.args) for s in stacks}) == 1:
        others = terms.product(tuple(f for f in rest if f[0] not in stacks))
        parts = []
        for row in zip(*(s.args for s in stacks), strict=True):
            part = others
            for one in row:
                part = terms.times(part, one)
            parts.append(part)
        return terms.scaled(terms.add(*parts), 1 / len(parts) if mean else 1.0)
    if any(a.kind == "eye" for a, _ in rest):
        others = terms.product(tuple(f for f in rest if f[0].kind != "eye"))
        return trace(terms, terms.times(others, terms.eye)) if everything else terms.of("diagonal", others)
    if len(rest) == 1 and rest[0][0].kind in ("diagonal", "diagonal-matrix", "values", "singular") and rest[0][1] == 1:
        return trace(terms, rest[0][0].args[0])
    if len(rest) == 1 and rest[0][0].kind == "turned" and rest[0][0].args[0].kind == "diagonal":
        return trace(terms, rest[0][0].args[0].args[0])
    squared = _is_squares(terms, rest)
    if squared is not None and everything and not mean:
        return terms.power(norm(terms, squared), 2)
    whole = terms.product(rest)
    if squared is not None:
        return terms.of("square-sum", squared, tuple(dims or ()))
    if len(rest) == 1 and rest[0][0].kind == "square-sum":
        return terms.power(norm(terms, rest[0][0].args[0]), 2)
    if everything:
        return terms.of("sum", whole)
    return terms.of("over" if dims == [0] else "vector", whole)


def identity(a: Arguments) -> Poly:
    """An identity matrix."""
    return a.terms.eye


def diagonal_matrix(a: Arguments) -> Value | None:
    """A matrix with a given diagonal, or the diagonal of a matrix."""
    value = a.tensor(0, "input", "v")
    if value is None:
        return None
    if a.name == "diag" and any(x.kind in ("product", "turned", "diagonal-matrix", "eye") for x in value.atoms()):
        return a.terms.of("diagonal", _plain(a.terms, value))
    if a.name == "diag" and value.single is not None and all(x.kind in ("given", "field", "call", "item") for x in value.atoms()):
        return a.terms.of("diagonal", _plain(a.terms, value)) if _is_matrix(a, value) else _spread(a.terms, value)
    return _spread(a.terms, value)


def _is_matrix(a: Arguments, value: Poly) -> bool:
    return a.sym.is_covariance(value)


def _spread(terms: Terms, value: Poly) -> Poly:
    def each(rest: Product) -> Poly:
        if not rest:
            return terms.eye
        if len(rest) == 1 and rest[0][0].kind == "diagonal" and rest[0][1] == 1:  # a matrix without what is beside its diagonal
            return terms.times(terms.eye, rest[0][0].args[0])
        if len(rest) == 1 and rest[0][0].kind == "stack":
            return terms.eye
        return terms.of("diagonal-matrix", terms.product(rest))

    return terms.distributed(value, each)


def _fill(a: Arguments) -> Value | None:
    if a.name in ("full", "full_like", "new_full"):
        place = 2 if a.name == "new_full" else 1
        return a.tensor(place, "fill_value")
    return a.terms.one if "ones" in a.name else a.terms.zero


def _same(a: Arguments) -> Value | None:
    value = a.get(0, "input", "a", "x", "data", "object")
    return value if not isinstance(value, Seq) else a.sym.tensor(value)


def _add(a: Arguments) -> Value | None:
    left, right = a.tensor(0, "input", "x1"), a.tensor(1, "other", "x2")
    if left is None or right is None:
        return None
    alpha = a.tensor(2, "alpha") if a.name != "rsub" else None
    if alpha is not None and ("alpha" in a.keywords or a.name in ("add", "sub", "subtract")):
        right = a.terms.times(alpha, right)
    if a.name == "rsub":
        left, right = right, left
    return a.terms.add(left, right) if a.name in ("add", "logaddexp") else a.terms.minus(left, right)


def _multiply(a: Arguments) -> Value | None:
    left, right = a.tensor(0, "input"), a.tensor(1, "other")
    if left is None or right is None:
        return None
    return a.terms.times(left, right) if a.name in ("mul", "multiply") else a.terms.over(left, right)


def _matmul(a: Arguments) -> Value | None:
    parts = a.args
    if a.name in ("multi_dot", "chain_matmul") and parts and isinstance(parts[0], Seq):
        parts = parts[0].items
    if a.name == "tensordot":
        return _tensordot(a)
    given = [a.sym.tensor(p) for p in parts] if a.name in ("multi_dot", "chain_matmul") else [
        t for t in (a.tensor(0, "input"), a.tensor(1, "other", "mat2", "vec")) if t is not None
    ]  # fmt: skip
    if len(given) < 2:
        return None
    out = given[0]
    for part in given[1:]:
        out = matmul(a.sym, out, part)
    return out


def _tensordot(a: Arguments) -> Value | None:
    left, right = a.tensor(0), a.tensor(1)
    if left is None or right is None:
        return None
    if pieces(left) is not None or pieces(right) is not None:
        return total(a.sym, a.terms.times(left, right), [0])
    if _integer(a.get(2, "dims", "axes")) == 2:
        return total(a.sym, a.terms.times(left, right), None)
    return matmul(a.sym, left, right)


def _power(a: Arguments) -> Value | None:
    value, exponent = a.tensor(0), a.tensor(1, "exponent")
    if value is None:
        return None
    fixed = {"sqrt": 0.5, "rsqrt": -0.5, "square": 2.0, "reciprocal": -1.0}.get(a.name)
    known = fixed if fixed is not None else exponent.constant if exponent is not None else None
    if isinstance(known, (int, float)):
        if a.name == "pow" and value.constant is not None and isinstance(value.constant, complex):
            return None
        return a.terms.power(value, known)
    return None


def _lerp(a: Arguments) -> Value | None:
    start, end, weight = a.tensor(0, "input"), a.tensor(1, "end"), a.tensor(2, "weight")
    if start is None or end is None or weight is None:
        return None
    return a.terms.add(a.terms.minus(start, a.terms.times(weight, start)), a.terms.times(weight, end))


def _added_product(a: Arguments) -> Value | None:
    # addmm, addcmul and the like: beta * first + alpha * second (x) third
    first, second, third = a.tensor(0), a.tensor(1), a.tensor(2)
    if first is None or second is None or third is None:
        return None
    beta, alpha = a.keywords.get("beta"), a.keywords.get("alpha") or a.keywords.get("value")
    if a.name == "addcmul":
        made = a.terms.times(second, third)
    elif a.name == "addcdiv":
        made = a.terms.over(second, third)
    elif a.name == "addr":
        made = matmul(a.sym, second, a.terms.turned(third, transpose=True))
    else:
        made = matmul(a.sym, second, third)
    if alpha is not None:
        made = a.terms.times(a.sym.tensor(alpha), made)
    if beta is not None:
        first = a.terms.times(a.sym.tensor(beta), first)
    return a.terms.add(first, made)


def _where(a: Arguments) -> Value | None:
    if len(a.args) < 3:
        return None
    test, yes, no = (a.sym.tensor(v) for v in a.args[:3])
    if a.name == "where" and a.terms.eye.atoms() & test.atoms():
        return _mixed(a.terms, test, yes, no)
    eigenvalues = [{x.kind for x in v.atoms()} & {"values", "singular"} for v in (yes, no)]
    if any(eigenvalues) and not all(eigenvalues):
        return a.terms.of("raised", yes if eigenvalues[0] else no)
    a.sym.observe("choice", a.node, a.frame, (yes, no))
    return a.sym.either([yes, no])


def _mixed(terms: Terms, mask: Poly, yes: Poly, no: Poly) -> Poly:
    return terms.add(terms.times(mask, yes), no, terms.scaled(terms.times(mask, no), -1.0))


def _masked(a: Arguments) -> Value | None:
    value, mask, new = a.tensor(0), a.tensor(1, "mask"), a.tensor(2, "value", "source")
    if value is None or mask is None or new is None:
        return value
    return _mixed(a.terms, mask, new, value) if a.terms.eye.atoms() & mask.atoms() else value


def _stack(a: Arguments) -> Value | None:
    given = a.get(0, "tensors", "arrays")
    if not isinstance(given, Seq):
        return a.sym.tensor(given) if given is not None else None
    parts = [a.sym.tensor(i) for i in given.items]
    if not parts:
        return a.terms.zero
    if given.many:
        return parts[0] if len(parts) == 1 else a.terms.of("joined", *parts)
    dims = a.dims(1)
    if a.name == "stack" and dims not in (None, [0]) and dims is not None:
        if len(parts) == 2 and dims == [-1]:
            return a.terms.of("pair", *parts)
        return a.terms.of("stack", *parts) if dims != [-1] else a.terms.of("columns", *parts)
    if a.name in ("cat", "concat", "concatenate", "hstack", "vstack", "column_stack") and (a.name == "hstack" or dims not in (None, [0])):
        return a.terms.of("beside", *parts)
    return a.terms.of("stack", *parts)


def _total(a: Arguments) -> Value | None:
    value = a.tensor(0, "input", "a")
    if value is None:
        return None
    single = value.single
    dims = a.dims(1)
    if single is not None and len(single[0]) == 1 and single[0][0][0].kind in ("pair", "columns") and dims == [-1]:
        parts = single[0][0][0].args
        return a.terms.scaled(a.terms.add(*parts), single[1] / (len(parts) if "mean" in a.name else 1))
    if any(x.kind == "stack" for x in value.atoms()) and dims is not None and dims[0] != 0 and dims != [-1] and len(dims) == 1:
        dims = [0]  # the axis along which it was stacked
    return total(a.sym, value, dims, mean="mean" in a.name)


def _average(a: Arguments) -> Value | None:
    value, weights = a.tensor(0), a.tensor(2, "weights")
    if value is None:
        return None
    if weights is None:
        return total(a.sym, value, a.dims(1), mean=True)
    return total(a.sym, a.terms.times(value, weights), [0])


def _trace(a: Arguments) -> Value | None:
    value = a.tensor(0, "input", "a")
    if value is None:
        return None
    a.sym.observe("measured", a.node, a.frame, (value,))
    return trace(a.terms, value)


def _diagonal(a: Arguments) -> Value | None:
    value = a.tensor(0, "input", "A", "a")
    return a.terms.of("diagonal", value) if value is not None else None


def _norm(a: Arguments) -> Value | None:
    value = a.tensor(0, "input", "A", "x")
    if value is None:
        return None
    dims = a.dims(2)
    if a.name == "matrix_norm" or dims is None or len(dims) > 1:
        return norm(a.terms, value)
    return a.terms.power(a.terms.of("square-sum", value, tuple(dims)), 0.5)


def _normalized(a: Arguments) -> Value | None:
    value = a.tensor(0, "input")
    return a.terms.over(value, norm(a.terms, value)) if value is not None and _is_flattened(a) else None


def _is_flattened(a: Arguments) -> bool:
    from audits.static.source import ir as tree  # noqa: PLC0415 - only to look at how the argument is spelled

    first = a.node.args[0].value if isinstance(a.node, tree.Call) and a.node.args else None
    return isinstance(first, tree.Call) and tree.last_name(first.func) in ("flatten", "reshape", "view", "ravel")


def _outer(a: Arguments) -> Value | None:
    left, right = a.tensor(0), a.tensor(1, "vec2", "other")
    return matmul(a.sym, left, a.terms.turned(right, transpose=True)) if left is not None and right is not None else None


def _decomposed(a: Arguments) -> Value | None:
    value = a.tensor(0, "A", "a", "input")
    if value is None:
        return None
    a.sym.observe("measured", a.node, a.frame, (value,))
    of = _plain(a.terms, value)
    values = a.terms.of("values", of)
    if a.name in ("eigvalsh", "eigvals"):
        return values
    return Seq([values, a.terms.of("vectors", of)])


def _singular(a: Arguments) -> Value | None:
    value = a.tensor(0, "A", "a", "input")
    if value is None:
        return None
    of = _plain(a.terms, value)
    values = a.terms.of("singular", of)
    if a.name == "svdvals":
        return values
    return Seq([a.terms.of("vectors", of), values, a.terms.of("right", of)])


def _transpose(a: Arguments) -> Value | None:
    value = a.tensor(0, "input", "a")
    if value is None:
        return None
    rest = [_integer(v) for v in a.args[1:]]
    if len(a.args) == 2 and isinstance(a.args[1], Seq):
        rest = [_integer(v) for v in a.args[1].items]
    for name in ("dims", "axes"):
        given = a.keywords.get(name)
        if isinstance(given, Seq):
            rest = [_integer(v) for v in given.items]
    if len(rest) > 2:
        count = len(rest)
        order = [r % count if r is not None else -1 for r in rest]
        if order == list(range(count)):
            return value
        if order != [*range(count - 2), count - 1, count - 2]:
            return a.terms.of("call", "permute", value, tuple(order))
    return a.terms.turned(value, transpose=True)


def _turned(a: Arguments) -> Value | None:
    value = a.tensor(0, "input", "x")
    if value is None:
        return None
    return a.terms.turned(value, conjugate=True, transpose=a.name in ("adjoint", "matrix_transpose_conj"))


def _real(a: Arguments) -> Value | None:
    value = a.tensor(0)
    return None if value is None else a.terms.real(value) if a.name == "real" else a.terms.imaginary(value)


def _complex(a: Arguments) -> Value | None:
    real, imaginary = a.tensor(0, "real"), a.tensor(1, "imag")
    return a.terms.complex(real, imaginary) if real is not None and imaginary is not None else real


def _as_real(a: Arguments) -> Value | None:
    value = a.tensor(0)
    return a.terms.of("parts", value) if value is not None else None


def _as_complex(a: Arguments) -> Value | None:
    value = a.tensor(0)
    single = value.single if value is not None else None
    if single is not None and len(single[0]) == 1 and single[0][0][0].kind in ("pair", "parts"):
        args = single[0][0][0].args
        return a.terms.scaled(a.terms.complex(*args) if len(args) == 2 else args[0], single[1])
    return value


def _absolute(a: Arguments) -> Value | None:
    value = a.tensor(0)
    if value is None:
        return None
    single = value.single
    if value.constant is not None or (
        single is not None and all(x.kind in _SCALAR_LIKE or x.kind in ("values", "diagonal") for x, _ in single[0])
    ):
        return value
    return (
        a.terms.distributed(value, lambda rest: a.terms.of("abs", a.terms.product(rest)))
        if single is not None
        else a.terms.of("abs", value)
    )


def _bounded(a: Arguments) -> Value | None:
    # clamp, maximum and the like leave a scalar what it is; values that are raised are another thing
    value = a.tensor(0)
    if value is None:
        return None
    kinds = {x.kind for x in value.atoms()}
    if len(a.args) > 1 and a.name in ("maximum", "max", "fmax"):
        other = a.tensor(1)
        if other is not None and value.constant is not None:
            value, kinds = other, {x.kind for x in other.atoms()}
    if a.name in ("max", "min") and len(a.args) < 2:
        return None
    if kinds <= _SCALAR_LIKE:
        return value
    if kinds & {"values", "singular"}:
        return a.terms.of("raised", value)
    return a.terms.of("call", "clamp", value) if "given" not in kinds else value


def _triangle(a: Arguments) -> Value | None:
    value = a.tensor(0)
    return a.terms.distributed(value, lambda rest: a.terms.of("triangle", a.terms.product(rest))) if value is not None else None


def _index_added(a: Arguments) -> Value | None:
    value, source = a.tensor(0), a.tensor(3, "source", "src")
    return a.terms.add(value, source) if value is not None and source is not None else value


def _index_put(a: Arguments) -> Value | None:
    value, index, new = a.tensor(0), a.get(1, "indices"), a.get(2, "values")
    if value is None or index is None or new is None:
        return value
    owner = diagonal_of(indexed(a.sym, value, index))
    if owner is not None:
        a.sym.observe("diagonal", a.node, a.frame, (owner, new, 1))
    return value


def _filled_diagonal(a: Arguments) -> Value | None:
    value = a.tensor(0)
    if value is not None and value.constant == 0:
        return a.terms.times(a.terms.eye, a.tensor(1, "fill_value", "src", "val") or a.terms.one)
    if value is not None:
        a.sym.observe("diagonal", a.node, a.frame, (value, a.get(1, "fill_value", "src", "val") or a.terms.one, 1))
    return value


def _copied(a: Arguments) -> Value | None:
    return a.get(1, "src", "other")


def _diagonal_index_of(a: Arguments) -> Value | None:
    return a.terms.of("diagonal-index")


def _triangle_index(a: Arguments) -> Value | None:
    return Seq([a.terms.of("call", a.name, 0), a.terms.of("call", a.name, 1)])


def _strided(a: Arguments) -> Value | None:
    value, size = a.tensor(0), a.get(1, "size", "shape")
    if value is not None and isinstance(size, Seq) and len(size.items) == 1:
        return a.terms.of("diagonal", value)
    return value


def _range(a: Arguments) -> Value | None:
    return a.terms.of("call", "arange", *(v for v in a.args if isinstance(v, Poly)))


def _kronecker(a: Arguments) -> Value | None:
    parts = [a.sym.tensor(p) for p in a.args]
    if all(p.atoms() <= a.terms.eye.atoms() for p in parts) and parts:
        return a.terms.eye
    return None


def _inner(a: Arguments) -> Value | None:
    left, right = a.tensor(0), a.tensor(1)
    if left is None or right is None:
        return None
    if a.name == "vdot":
        left = a.terms.turned(left, conjugate=True)
    return total(a.sym, a.terms.times(left, right), None)


def _negated(a: Arguments) -> Value | None:
    value = a.tensor(0)
    return a.terms.scaled(value, -1.0) if value is not None else None


def _split(a: Arguments) -> Value | None:
    value = a.tensor(0)
    parts = pieces(value) if value is not None else None
    if parts is not None:
        return Seq(parts)
    if value is not None and a.name == "unbind" and value.single is not None:
        atom = next(iter(value.atoms()), None)
        kind = atom.kind if atom is not None else ""
        if atom is not None and kind in ("pair", "parts"):
            return Seq(list(atom.args) if kind == "pair" else [a.terms.real(atom.args[0]), a.terms.imaginary(atom.args[0])])
    return None


def _logical_not(a: Arguments) -> Value | None:
    value = a.tensor(0)
    return a.terms.minus(a.terms.one, value) if value is not None else None


def _math(a: Arguments) -> Value | None:
    value = a.tensor(0)
    known = value.constant if value is not None else None
    if known is not None and not complex(known).imag:
        try:
            return a.terms.number(getattr(math, a.name)(complex(known).real))
        except (ValueError, OverflowError, AttributeError):
            return None
    return None


# -- einsum


def _einsum(a: Arguments) -> Value | None:
    spec = a.args[0] if a.args else None
    if not isinstance(spec, Lit) or not isinstance(spec.value, str):
        return None
    given = [a.sym.tensor(v) for v in a.args[1:]]
    text = spec.value.replace(" ", "").replace("...", "")
    inputs, arrow, out = text.partition("->")
    parts = inputs.split(",")
    if not arrow:
        out = "".join(sorted(c for c in set(inputs) if c.isalpha() and inputs.count(c) == 1))
    if len(parts) != len(given):
        return None
    while len(given) > 2:  # the first two first, kept as wide as the rest needs
        rest = "".join(parts[2:]) + out
        joint = "".join(dict.fromkeys(c for c in parts[0] + parts[1] if c in rest))
        made = _pair(a, parts[0], parts[1], joint, given[0], given[1])
        if made is None:
            return None
        parts, given = [joint, *parts[2:]], [made, *given[2:]]
    return _one(a, parts[0], out, given[0]) if len(given) == 1 else _pair(a, parts[0], parts[1], out, given[0], given[1])


def _one(a: Arguments, letters: str, out: str, value: Poly) -> Poly | None:
    terms = a.terms
    if letters == out:
        return value
    doubled = [c for c in set(letters) if letters.count(c) > 1]
    if doubled:
        return terms.of("diagonal", value) if doubled[0] in out else trace(terms, value)
    if set(out) == set(letters):
        return terms.turned(value, transpose=True) if out == letters[:-2] + letters[:-3:-1] else terms.of("call", "permute", value, out)
    gone = [letters.index(c) for c in letters if c not in out]
    return total(a.sym, value, gone if len(gone) > 1 else [gone[0] if gone[0] == 0 else -1])


def _pair(a: Arguments, one: str, two: str, out: str, left: Poly, right: Poly) -> Poly | None:
    terms = a.terms
    if len(set(one)) < len(one) or len(set(two)) < len(two):
        return None
    summed = (set(one) | set(two)) - set(out)
    if not (set(one) - set(two)) or not (set(two) - set(one)):  # one is spread over the other
        short, long = (one, two) if not (set(one) - set(two)) else (two, one)
        if len(one) == len(two) and one != two and set(one) == set(two):
            if one[:-2] + one[:-3:-1] != two:
                return None
            if summed >= set(one[-2:]):
                return trace(terms, matmul(a.sym, left, right))
            right = terms.turned(right, transpose=True)
            short = long = one
        product = terms.times(left, right)
        if not summed:
            return _one(a, long, out, product)
        vector = len(summed) == 1 and len(short) < len(long) and summed <= set(short)
        if vector and (long.index(next(iter(summed))) > 0 or len(long) == 2):
            return matmul(a.sym, left, right)
        gone = sorted(long.index(c) for c in summed)
        return total(a.sym, product, gone if len(gone) > 1 else [gone[0]] if gone[0] == 0 else [-1])
    rows = [c for c in one if c not in two]
    columns = [c for c in two if c not in one]
    if len(rows) != 1 or len(columns) != 1 or len(summed) > 1:
        return None
    if summed:
        inner = next(iter(summed))
        first = left if one[-1] == inner else terms.turned(left, transpose=True)
        second = right if two[-1] != inner else terms.turned(right, transpose=True)
        first = left if len(one) < 2 else first
    else:
        first, second = left, terms.turned(right, transpose=True)
    made = matmul(a.sym, first, second)
    return made if out.index(rows[0]) < out.index(columns[0]) else terms.turned(made, transpose=True)


FUNCTIONS: dict[str, Callable[[Arguments], Value | None]] = {
    **dict.fromkeys(_SAME, _same),
    **dict.fromkeys(["add", "sub", "subtract", "rsub"], _add),
    **dict.fromkeys(["mul", "multiply", "div", "divide", "true_divide"], _multiply),
    **dict.fromkeys(["matmul", "mm", "bmm", "dot", "multi_dot", "chain_matmul", "tensordot", "mv"], _matmul),
    **dict.fromkeys(["pow", "power", "float_power", "sqrt", "rsqrt", "square", "reciprocal"], _power),
    **dict.fromkeys(["addmm", "baddbmm", "addbmm", "addcmul", "addcdiv", "addr", "addmv"], _added_product),
    **dict.fromkeys(["stack", "cat", "concat", "concatenate", "hstack", "vstack", "dstack", "column_stack"], _stack),
    **dict.fromkeys(["sum", "nansum", "mean", "nanmean"], _total),
    **dict.fromkeys(["eye", "eye_like", "identity"], identity),
    **dict.fromkeys(["diag_embed", "diagflat", "diag"], diagonal_matrix),
    **dict.fromkeys(["full", "full_like", "new_full", "ones", "ones_like", "new_ones", "zeros", "zeros_like", "new_zeros", "empty",
                     "empty_like", "new_empty"], _fill),
    **dict.fromkeys(["norm", "matrix_norm", "vector_norm"], _norm),
    **dict.fromkeys(["outer", "ger"], _outer),
    **dict.fromkeys(["eigh", "eigvalsh", "eig", "eigvals"], _decomposed),
    **dict.fromkeys(["svd", "svdvals"], _singular),
    **dict.fromkeys(["transpose", "swapaxes", "swapdims", "permute", "t", "moveaxis", "movedim", "matrix_transpose"], _transpose),
    **dict.fromkeys(["conj", "conjugate", "conj_physical", "adjoint"], _turned),
    **dict.fromkeys(["real", "imag"], _real),
    **dict.fromkeys(["abs", "absolute"], _absolute),
    **dict.fromkeys(["clamp", "clamp_min", "clamp_max", "clip", "maximum", "max", "min", "fmax"], _bounded),
    **dict.fromkeys(["triu", "tril"], _triangle),
    **dict.fromkeys(["index_add", "scatter_add"], _index_added),
    **dict.fromkeys(["fill_diagonal", "diagonal_scatter"], _filled_diagonal),
    **dict.fromkeys(["diag_indices", "diag_indices_from"], _diagonal_index_of),
    **dict.fromkeys(["triu_indices", "tril_indices", "triu_indices_from", "tril_indices_from"], _triangle_index),
    **dict.fromkeys(["inner", "vdot", "vecdot"], _inner),
    **dict.fromkeys(["neg", "negative"], _negated),
    **dict.fromkeys(["unbind", "split", "chunk", "tensor_split"], _split),
    **dict.fromkeys(["logical_not", "bitwise_not"], _logical_not),
    **dict.fromkeys(["exp", "log", "ldexp", "floor", "ceil"], _math),
    "lerp": _lerp, "where": _where, "masked_fill": _masked, "masked_scatter": _masked, "average": _average, "trace": _trace,
    "diagonal": _diagonal, "normalize": _normalized, "complex": _complex, "view_as_real": _as_real, "view_as_complex": _as_complex,
    "index_put": _index_put, "copyto": _copied, "copy_": _copied, "fill_": _copied, "zero_": _fill, "as_strided": _strided,
    "arange": _range,
    "einsum": _einsum, "kron": _kronecker, "block_diag": _kronecker,
}  # fmt: skip
METHODS = frozenset(FUNCTIONS) | frozenset(f"{n}_" for n in FUNCTIONS) | {"backward", "size", "dim", "copy_", "fill_", "zero_"}
