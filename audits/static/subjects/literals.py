"""Which literal numbers flow into a value (HPO001)."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from audits.static.analysis.values import Inst
from audits.static.dataflow.flow import Place
from audits.static.dataflow.origins import ELEMENT, Answer, Demand, Origins
from audits.static.dataflow.outside import held
from audits.static.findings import Step
from audits.static.source import ir
from audits.static.source.project import ClassInfo, ModuleInfo
from audits.static.subjects.config_schema import destinations

_CONFIGURED = re.compile("config|settings|options", re.I)
_COPIES = frozenset({"replace", "evolve", "_replace", "model_copy", "replaced"})
_ANY = "(.*)"  # a pattern for a text of which nothing is known
_NEUTRAL = (0, 1, -1)
_ENTRIES = {"round": slice(0, 1), "getattr": slice(2, None), "get": slice(1, None), "getenv": slice(1, None),
            "pop": slice(1, None), "setdefault": slice(1, None)}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Literal:
    """A literal number, where it stands, and the way from the value to it."""

    place: Place
    path: tuple[Step, ...]


@dataclass(slots=True)
class LiteralSearch:
    """Follows a value backwards. Configuration ends the search; so do comparisons, keys and plain indices."""

    origins: Origins
    roots: tuple[str, ...]
    classes: Collection[ClassInfo]
    modules: list[ModuleInfo]

    def find(self, place: Place, key: str | None = None, *, named: bool = False) -> list[Literal]:
        """The literals in the data flow of one value; 0 and 1 count only where they are the whole value.

        With a key, of the item of that key in a mapping; `named` leaves out what stands under a key of which nothing is known.
        """
        start = Demand(place, (("item", key),) if key is not None else (), trail=(place.step(),))
        if key is None and numeric(place.expr) is not None:
            return [Literal(place, start.trail)]
        found: list[Literal] = []

        def visit(demand: Demand, answer: Answer) -> bool | Iterable[Demand]:
            if self._configured(demand):
                return False
            number = _number(demand)
            if number is not None:
                if number not in _NEUTRAL:
                    found.append(Literal(demand.place, demand.trail))
                return False
            onward = self._onward(demand, answer)
            unfit = self._under_other_keys(demand, named=named)
            return [d for d in onward if id(d.expr) not in unfit] if unfit else onward

        self.origins.walk(start, visit)
        return found

    def _onward(self, demand: Demand, answer: Answer) -> list[Demand]:
        expr = demand.expr
        following = list(answer.demands)
        if isinstance(expr, (ir.Compare, ir.Lambda)):
            return []
        if isinstance(expr, ir.Subscript) and isinstance(expr.index, ir.Slice):
            bounds = [b for b in (expr.index.lower, expr.index.upper, expr.index.step) if b is not None]
            following += [self.origins.to(demand, b, ()) for b in bounds]
        elif isinstance(expr, ir.Subscript) and following and all(self._lacks(d) for d in following):
            following = [self.origins.to(demand, expr.value, (ELEMENT, *demand.path))]
        elif isinstance(expr, ir.Comprehension) and not demand.path:
            following += [self.origins.to(demand, c.iter, ()) for c in expr.clauses]
        elif isinstance(expr, ir.Call) and answer.kind == "outside":
            name = ir.last_name(expr.func)
            if name in ("parse_args", "parse_known_args"):
                following += self._parsed(demand)
            chosen = _ENTRIES.get(name)
            if chosen is not None:
                following = [self.origins.to(demand, a.value, ()) for a in expr.args[chosen]]
            elif name != "len" and not demand.path:
                following += held(self.origins, demand, expr)
        return following

    def _lacks(self, demand: Demand) -> bool:
        # Then what is taken for the key is none of the table's: in `for k in table`, the analysis takes k for its values.
        return demand.path[:1] != (ELEMENT,) and bool(demand.path) and self.origins.has_item(demand) is False

    def _under_other_keys(self, demand: Demand, *, named: bool) -> set[int]:
        """The values that a mapping of computed keys holds under other keys than the one that is asked for."""
        expr = demand.expr
        if not demand.path or demand.path[0][0] != "item" or not isinstance(demand.path[0][1], str):
            return set()
        pairs: list[tuple[ir.Expr, ir.Expr]] = []
        if isinstance(expr, ir.Comprehension) and expr.value is not None:
            pairs = [(expr.element, expr.value)]
        elif isinstance(expr, ir.Dict):
            pairs = [(k, v) for k, v in zip(expr.keys, expr.values, strict=True) if k is not None]
        elif isinstance(expr, ir.Name):
            stored = self.origins.reaching(demand.place).envs.get(id(expr), {}).get(f"{expr.id}[*]", {})
            for definition in stored:
                node = definition.node
                targets = node.targets if isinstance(node, ir.Assign) and definition.expr is not None else []
                pairs += [(t.index, definition.expr) for t in targets if isinstance(t, ir.Subscript) and definition.expr is not None]
        elif isinstance(expr, ir.Call) and ir.last_name(expr.func) in ("dict", "fromkeys") and expr.args:
            keys = expr.args[0].value
            if isinstance(keys, ir.Call) and ir.last_name(keys.func) == "zip" and keys.args:
                keys = keys.args[0].value
            element = Demand(demand.place.at(keys), (ELEMENT,), demand.frame)
            unfit = not self._fits(self._constant_texts(element), demand.path[0][1], named=named)
            return {id(a.value) for a in expr.args if a.keyword is None} if unfit else set()
        wanted = demand.path[0][1]
        return {id(v) for k, v in pairs if not self._fits(self._text(demand, k), wanted, named=named)}

    def _fits(self, pattern: str, wanted: str, *, named: bool) -> bool:
        return re.fullmatch(pattern, wanted) is not None and not (named and pattern == _ANY)

    def _text(self, demand: Demand, key: ir.Expr) -> str:
        # A pattern for the texts that a computed key may be.
        if isinstance(key, ir.Constant):
            return re.escape(str(key.value))
        if isinstance(key, ir.FString):
            return "".join(self._text(demand, p) for p in key.parts)
        if isinstance(key, ir.BinOp) and key.op == "+":
            return self._text(demand, key.left) + self._text(demand, key.right)
        return self._constant_texts(Demand(demand.place.at(key), (), demand.frame))

    def _constant_texts(self, demand: Demand) -> str:
        found = [value for value, _, _ in self.origins.constants(demand)]
        texts = [re.escape(v) for v in found if isinstance(v, str)]
        return f"({'|'.join(texts)})" if texts and len(texts) == len(found) else _ANY

    def _parsed(self, demand: Demand) -> list[Demand]:
        # The default of an option that the search itself declares.
        module = demand.place.module
        if not demand.path or module not in self.modules:
            return []
        options = [n for n in ir.walk(module.tree) if isinstance(n, ir.Call) and ir.last_name(n.func) in ("add_argument", "set_defaults")]
        wanted = {"default", str(demand.path[0][1])}
        return [
            self.origins.at(demand, Place(a.value, module, None), (), None)
            for n in options if demand.path[0][1] in destinations(n) for a in n.args if a.keyword in wanted
        ]  # fmt: skip

    def _configured(self, demand: Demand) -> bool:
        expr, place = demand.expr, demand.place
        base: ir.Expr = expr
        while isinstance(base, (ir.Attribute, ir.Subscript)):
            if isinstance(base, ir.Attribute) and base.attr in self.roots:
                return True
            base = base.value
        if isinstance(base, ir.Name) and base.id in self.roots:
            return not self._made_here(place.at(base))
        if place.fn is None and isinstance(expr, (ir.Constant, ir.UnaryOp)):
            owners = [c for c in self.origins.analysis.project.classes if c.module is place.module and self._is_class(c)]
            return any(isinstance(s, ir.Assign) and s.value is expr for c in owners for s in c.node.body)
        if not demand.path or not any(isinstance(v, Inst) and self._is_class(v.cls) for v in self.origins.values(place)):
            return False
        # What the search makes of configuration is its own; what makes the configuration is not.
        return place.module not in self.modules or any(fn.module not in self.modules for fn, _ in self.origins.targets(place))

    def _is_class(self, cls: ClassInfo) -> bool:
        return cls in self.classes or bool(_CONFIGURED.search(cls.node.name))

    def _made_here(self, place: Place) -> bool:
        # `config = replace(config, n_train=8_000)` in the search itself.
        if place.fn is None or place.module not in self.modules:
            return False
        assert isinstance(place.expr, ir.Name)
        found = self.origins.reaching(place).envs.get(id(place.expr), {}).get(place.expr.id, {})
        made = [d.expr for d in found if d.kind == "value"]
        return bool(made) and all(
            isinstance(e, ir.Call) and (ir.last_name(e.func) in _COPIES or self.origins.classes(place.at(e))) for e in made
        )


def _number(demand: Demand) -> float | None:
    """The number that is demanded, as a literal, as text or as the value of an enumeration's member."""
    expr = demand.expr
    if any(step not in (("field", "value"), ("field", "real")) for step in demand.path):
        return None
    if isinstance(expr, ir.Constant) and isinstance(expr.value, str):
        text = expr.value.replace("_", "").strip()
        return float(text) if re.fullmatch(r"\d+(\.\d*)?(e\d+)?|\.\d+", text, re.I) else None
    return numeric(expr)


def numeric(expr: ir.Expr) -> float | None:
    """The number that a literal is."""
    if isinstance(expr, ir.UnaryOp) and expr.op in "+-":
        inner = numeric(expr.operand)
        return None if inner is None else (-inner if expr.op == "-" else inner)
    if isinstance(expr, ir.Constant) and isinstance(expr.value, (int, float)) and not isinstance(expr.value, bool):
        return expr.value
    return None
