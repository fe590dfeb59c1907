"""Calls of the standard library that hand a value on: copies, containers, iteration, `getattr` and `replace`."""

from __future__ import annotations

from dataclasses import replace
from string import ascii_uppercase
from typing import TYPE_CHECKING

from audits.static.dataflow.flow import ON_ELEMENTS, RUNNING
from audits.static.dataflow.reaching import ENTERED, Guard
from audits.static.source import ir

if TYPE_CHECKING:
    from audits.static.dataflow.origins import Answer, Demand, Origins

_COPIES = frozenset({"copy", "deepcopy", "list", "tuple", "sorted", "reversed", "iter", "set", "frozenset", "aiter"})
_AS_MAPPING = frozenset({"asdict", "vars", "dict", "_asdict", "model_dump", "__dict__", "astuple"})
_FROM_MAPPING = frozenset({"SimpleNamespace", "Namespace", "DictConfig", "edict", "AttrDict"})
_ELEMENT = ("elem", None)


def through(origins: Origins, demand: Demand, expr: ir.Call) -> list[Demand]:
    """The demands that an outside call hands on, or none where it makes something new."""
    for known in (_running, _holding, _wrapping):
        made = known(origins, demand, expr)
        if made is not None:
            return made
    name = ir.last_name(expr.func)
    path = demand.path
    plain = [a.value for a in expr.args if a.keyword is None and not a.star]
    keywords = {a.keyword: a.value for a in expr.args if a.keyword is not None}
    spread = [a.value for a in expr.args if a.star == "**"]
    method = expr.func.value if isinstance(expr.func, ir.Attribute) else None

    def to(value: ir.Expr, inner: tuple[tuple[str, object], ...], *guards: Guard) -> Demand:
        return origins.to(demand, value, inner, guards)

    if name == "getattr" and len(plain) >= 2:
        text = plain[1]
        field = ("field", text.value) if isinstance(text, ir.Constant) else _ELEMENT
        fallback = [to(plain[2], path, Guard("default", expr))] if len(plain) > 2 else []
        return [to(plain[0], (field, *path)), *fallback]
    if name in ("get", "pop", "setdefault") and method is not None and plain:
        default = plain[1] if len(plain) > 1 else keywords.get("default")
        key = plain[0]
        if isinstance(key, ir.Constant):
            entry = to(method, (("item", key.value), *path))
            inner = [entry] if default is None or origins.has_item(entry) is not False else []
        else:
            subscript = ir.Subscript(expr.line, expr.column, expr.end_line, expr.end_column, method, key)
            origins.reaching(demand.place).envs[id(subscript)] = origins.reaching(demand.place).envs.get(id(expr), {})
            chosen = origins.chosen(demand, subscript)
            inner = chosen if chosen is not None else [to(method, (_ELEMENT, *path))]
            origins.made.append(subscript)
        return inner + ([to(default, path, Guard("default", expr))] if default is not None else [])
    if name == "replace" and plain and method is not None and ir.last_name(method) not in ("dataclasses", "copy", "attrs"):
        return []
    if name in ("replace", "evolve", "_replace") and (plain or method is not None):
        base = plain[0] if plain else method
        assert base is not None
        if path and path[0][0] == "field":
            if path[0][1] in keywords:
                return [to(keywords[str(path[0][1])], path[1:])]
            given = [to(s, (("item", path[0][1]), *path[1:])) for s in spread]
            return given if any(origins.has_item(g) for g in given) else [to(base, path), *given]
        return []
    if name == "cast" and len(plain) == 2:
        return [to(plain[1], path)]
    if name in ("copy", "deepcopy", "__copy__", "__deepcopy__", "model_copy") and not plain and method is not None:
        return [to(method, path)] if path or name == "model_copy" else []
    if name in _COPIES and plain:
        return [to(plain[0], path)]
    if name in _AS_MAPPING and path:
        if name == "dict" and path[0][0] == "item" and path[0][1] in keywords:
            return [to(keywords[str(path[0][1])], path[1:])]
        base = plain[0] if plain else method
        wanted = ("field", path[0][1]) if path[0][0] == "item" and name not in ("dict",) else path[0]
        return [to(v, (wanted, *path[1:])) for v in ([base] if base is not None and not (name == "dict" and not plain) else [])] + [
            to(s, path) for s in spread
        ]
    if name in _FROM_MAPPING and path and path[0][0] == "field":
        if path[0][1] in keywords:
            return [to(keywords[str(path[0][1])], path[1:])]
        return [to(v, (("item", path[0][1]), *path[1:])) for v in [*spread, *plain]]
    if name == "enumerate" and plain and len(path) > 1 and path[1][0] == "item":
        return [to(plain[0], (_ELEMENT, *path[2:]))] if path[1][1] == 1 else []
    if name in ("zip", "product") and len(path) > 1 and path[1][0] == "item" and isinstance(path[1][1], int):
        return [to(plain[path[1][1]], (_ELEMENT, *path[2:]))] if path[1][1] < len(plain) else []
    if name == "next" and plain:
        fallback = [to(plain[1], path, Guard("default", expr))] if len(plain) > 1 else []
        return [to(plain[0], (_ELEMENT, *path)), *fallback]
    if name in ("values", "popleft", "pop", "__getitem__") and method is not None:
        return [to(method, path if name == "values" else (_ELEMENT, *path))]
    if name == "items" and method is not None and len(path) > 1 and path[1] == ("item", 1):
        return [to(method, (_ELEMENT, *path[2:]))]
    if name == "map" and len(plain) >= 2 and path:
        return _mapped(origins, demand, expr, plain)
    if name in ("chain", "from_iterable"):
        return [to(p, path if name == "chain" else (_ELEMENT, *path)) for p in plain]
    return []


def held(origins: Origins, demand: Demand, expr: ir.Call) -> list[Demand]:
    """What an outside call may take its value from beside its arguments themselves: what they hold, and what they return when called."""
    out: list[Demand] = []
    for arg in expr.args:
        place = demand.place.at(arg.value)
        if isinstance(arg.value, (ir.Name, ir.Attribute)) and arg.keyword is None:
            out.append(origins.to(demand, arg.value, (_ELEMENT,)))
        if arg.keyword is None and ir.last_name(expr.func) not in ("filter", "filterfalse", "takewhile", "dropwhile"):
            for fn in origins.functions(place):
                out += [origins.at(demand, r, (), None) for r in origins.flow.returns(fn)]
    return out


def _running(origins: Origins, demand: Demand, expr: ir.Call) -> list[Demand] | None:
    """What the functions return that a call runs: `reduce(f, xs)`, `pool.submit(f, x).result()`, `asyncio.run(f(x))`; None for others."""
    name, path = ir.last_name(expr.func), demand.path
    plain = [a.value for a in expr.args if a.keyword is None and not a.star]
    method = expr.func.value if isinstance(expr.func, ir.Attribute) else None
    if name in RUNNING - ON_ELEMENTS or name == "reduce":
        run = next((a for a in plain if isinstance(a, (ir.Name, ir.Attribute, ir.Lambda)) and origins.returned(demand, a)), None)
        may_be_empty = name == "reduce" and len(plain) > 2 and not (isinstance(plain[1], ir.Sequence) and plain[1].items)
        started = [origins.to(demand, plain[2], path)] if may_be_empty else []
        return [*(origins.returned(demand, run) if run is not None else []), *started]
    if name == "result" and method is not None:
        return [origins.to(demand, method, path)]
    if name == "run_until_complete" or (name == "run" and method is not None and ir.last_name(method) in ("asyncio", "anyio", "loop")):
        return [origins.to(demand, v, path) for v in plain[:1]]
    return None


def _holding(origins: Origins, demand: Demand, expr: ir.Call) -> list[Demand] | None:
    """What is in the object that a call makes: a record, or mappings in a chain; None for others."""
    name, path = ir.last_name(expr.func), demand.path
    plain = [a.value for a in expr.args if a.keyword is None and not a.star]
    if name == "ChainMap" and path and path[0][0] == "item":
        wanted = [origins.to(demand, p, path, (Guard("default", expr),) if i else ()) for i, p in enumerate(plain)]
        return [d for d in wanted if origins.has_item(d) is not False]
    if name == "fromkeys" and path and isinstance(expr.func, ir.Attribute):
        return [origins.to(demand, p, path[1:]) for p in plain[1:2]]
    if not path or path[0][0] not in ("field", "item") or name[:1] not in ascii_uppercase + "_":
        return None
    fields = _record(origins, demand, expr)
    if not fields:
        return None
    key = path[0][1]
    index = fields.index(str(key)) if key in fields else key
    if not isinstance(index, int) or not 0 <= index < len(fields):
        return []
    given = [a.value for a in expr.args if a.keyword == fields[index]] or plain[index : index + 1]
    return [origins.to(demand, v, path[1:]) for v in given]


def _wrapping(origins: Origins, demand: Demand, expr: ir.Call) -> list[Demand] | None:
    """What is inside a loader, or what a context manager of the standard library gives; None for others."""
    name, path = ir.last_name(expr.func), demand.path
    plain = [a.value for a in expr.args if a.keyword is None and not a.star]
    if name in ("DataLoader", "Subset") and plain and path[:1] == (("field", "dataset"),):
        return [origins.to(demand, plain[0], path[1:])]
    if name == "enter_context" and plain:
        return [origins.to(demand, plain[0], (ENTERED, *path))]
    if name in ("nullcontext", "closing", "aclosing") and plain and path[:1] == (ENTERED,):
        return [origins.to(demand, plain[0], path[1:])]
    return None


def _record(origins: Origins, demand: Demand, expr: ir.Call) -> list[str]:
    # The fields of `Pair = namedtuple("Pair", "a b")`, in order, where a call makes such a record.
    found: list[list[str]] = []

    def visit(current: Demand, answer: Answer) -> bool:
        made = current.expr
        if isinstance(made, ir.Call) and ir.last_name(made.func) in ("namedtuple", "NamedTuple", "make_dataclass") and len(made.args) > 1:
            fields = made.args[1].value
            if isinstance(fields, ir.Constant):
                found.append(str(fields.value).replace(",", " ").split())
            elif isinstance(fields, ir.Sequence):
                names = [i.items[0] if isinstance(i, ir.Sequence) and i.items else i for i in fields.items]
                found.append([str(n.value) if isinstance(n, ir.Constant) else "" for n in names])
            return False
        return answer.kind == "moved" and not found

    if isinstance(expr.func, (ir.Name, ir.Attribute)):
        origins.walk(origins.to(demand, expr.func, ()), visit, 20)
    return found[0] if found else []


def _mapped(origins: Origins, demand: Demand, expr: ir.Call, plain: list[ir.Expr]) -> list[Demand]:
    # `map(f, xs)`: what f returns for an element.
    place = (expr.line, expr.column, expr.end_line, expr.end_column)
    elements = [ir.Call(*place, ir.Name(*place, "next"), [ir.Arg(*place, p)]) for p in plain[1:]]
    made = ir.Call(*place, plain[0], [ir.Arg(*place, e) for e in elements])
    reaching = origins.reaching(demand.place)
    env = reaching.envs.get(id(expr), {})
    for node in [made, *elements]:
        reaching.envs[id(node)] = env
    origins.made.append(made)
    values = origins.values(demand.place.at(plain[0]))
    origins.flow.unit(demand.place).calls[made] = values
    return [replace(origins.to(demand, made, demand.path[1:]))]
