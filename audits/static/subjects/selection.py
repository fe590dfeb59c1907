"""How a trainer selects: what is kept, under which comparison it is replaced and the model is saved, and what is returned."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import pairwise

from audits.static.analysis.values import Inst
from audits.static.dataflow.flow import Flow, Place
from audits.static.dataflow.origins import Answer, Bound, Demand, Origins, field_names, is_infinite
from audits.static.dataflow.reaching import Guard, Path
from audits.static.source import ir
from audits.static.source.project import FunctionInfo
from audits.static.subjects.improvement import GOOD, OPEN, Cases, Extreme, Improvements, Site, together
from audits.static.subjects.kept import Part, Parts, Store, taken
from audits.static.subjects.primary import LOSS, SCORE, Leaf, Primary, hides_nan
from audits.static.subjects.selection_names import (
    HELPERS,
    OTHER_FILES,
    RESTORING,
    is_initial,
    is_never_beaten,
    is_saver,
    is_saving,
    named_best,
    says_best,
    says_other,
    words_of,
)

RESULT_FIELDS = ("objective", "best_objective", "best_score", "best_val", "best_value", "best_metric", "best", "score", "value")
_CHOICES = frozenset({"min", "max", "minimum", "maximum", "fmin", "fmax"})
_CALLERS = 4


@dataclass(frozen=True, eq=False, slots=True)
class Event:
    """Something that saves the model: a call, or a store of its state."""

    node: ir.Node
    fn: FunctionInfo
    words: str

    @property
    def place(self) -> Place:
        """Where it stands."""
        expr = self.node if isinstance(self.node, ir.Expr) else getattr(self.node, "value", None)
        assert isinstance(expr, ir.Expr)
        return Place(expr, self.fn.module, self.fn)


class _Conditions(Improvements):
    """Improvements that know the statements around a store."""

    def __init__(self, origins: Origins, parts: Parts, selection: Selection) -> None:
        super().__init__(origins, parts, selection.situation)
        self._selection = selection

    def conditions(self, store: Store, frame: object) -> list[Bound]:
        bounds = self._selection.conditions(store.node, store.fn)
        return [*bounds, *(b for _, further in self._selection.alternatives(store) for b in further)]


class Selection:
    """What one trainer keeps, saves and returns."""

    def __init__(self, origins: Origins, primary: str, roots: list[FunctionInfo]) -> None:
        self.origins = origins
        self.flow: Flow = origins.flow
        self.roots = roots
        self.primary = primary
        self.quantities = Primary(origins, primary)
        made = [
            f for r in roots if r.cls is not None for f in r.cls.module.functions.values()
            if f.cls is r.cls and f.node.name == "__init__"
        ]  # fmt: skip
        self.functions = list(self.flow.cold_path([*roots, *made]))  # what a constructor registers may run as well
        owners = {f.cls for f in self.functions if f.cls is not None}
        self.functions += [
            f for c in sorted(owners, key=lambda c: c.symbol) for f in c.module.functions.values()
            if f.cls is c and RESTORING.search(f.node.name) and f not in self.functions
        ]  # fmt: skip
        self._above: dict[int, list[ir.Node]] = {}
        self._indexed: set[FunctionInfo] = set()
        self._situations: dict[int, Cases] = {}
        self.parts = Parts(origins, self.functions)
        self.tests = _Conditions(origins, self.parts, self)
        self.events = [*self._saves(), *self._snapshots()]
        self.returned = [(p, self._outcome(d)) for p, d in self._results()]
        self.judged = [(e, self.situation(e.node, e.fn)) for e in self._judged()]
        self._stored: dict[int, tuple[Store, Path]] = {}
        self._keep([p for _, (hits, _) in self.returned for p in hits if isinstance(p, Part)])
        if not self.tests.sites and not self.extremes:
            self._by_name()
        self._keep([p for s in self.sites for p in self._kept_parts(s)])

    @property
    def sites(self) -> list[Site]:
        """The comparisons with a kept value."""
        return list(self.tests.sites.values())

    @property
    def extremes(self) -> list[Extreme]:
        """What is returned as the lowest of many."""
        return [h for _, (hits, _) in self.returned for h in hits if isinstance(h, Extreme)]

    def _kept_parts(self, site: Site) -> list[Part]:
        known = [p for p in self.parts.read(site.kept) if self.tests.kept_part(p)]
        return known or (list(self.parts.parts(site.kept)) if named_best(site.kept.expr) else [])

    def _by_name(self) -> None:
        # Nothing that is saved or returned leads to a comparison: those with a value that is called the best.
        home = {r.cls for r in self.roots if r.cls is not None}
        modules = {r.module for r in self.roots}
        for fn in self.functions:
            if fn.cls in home or fn.module in modules or HELPERS.search(fn.qualname):
                for node in ir.walk_own(fn.node.body):
                    if isinstance(node, (ir.Compare, ir.Call)) and any(named_best(c) for c in _operands(node)):
                        self.tests.cases(Demand(Place(node, fn.module, fn)), want=True)

    def _keep(self, parts: Iterable[Part]) -> None:
        for part in parts:
            for store, path in self.parts.stores(part):
                if id(store.value) not in self._stored:
                    self._stored[id(store.value)] = (store, path)
                    if self._in_epoch(store.node, store.fn):
                        self.situation(store.node, store.fn)

    # -- where a statement stands

    def _ancestors(self, node: ir.Node, fn: FunctionInfo) -> list[ir.Node]:
        if fn not in self._indexed:
            self._indexed.add(fn)
            stack: list[tuple[ir.Node, list[ir.Node]]] = [(s, []) for s in fn.node.body]
            while stack:
                current, above = stack.pop()
                self._above[id(current)] = above
                if not isinstance(current, (ir.Function, ir.ClassDef)):
                    stack += [(c, [*above, current]) for c in ir.children(current)]
        return self._above.get(id(node), [])

    def conditions(self, node: ir.Node, fn: FunctionInfo) -> list[Bound]:
        """The conditions of a node in its function: those of its statement, and those inside the statement's expression."""
        above = [*self._ancestors(node, fn), node]
        place = Place(ir.Name(1, 1, 1, 1, ""), fn.module, fn)
        statement = next((a for a in reversed(above) if isinstance(a, ir.Stmt)), node)
        guards = list(self.origins.reaching(place).guards.get(id(statement), ()))
        for outer, inner in pairwise(above):
            if isinstance(outer, ir.IfExp) and inner is not outer.test:
                guards.append(Guard("if", outer.test, inner is outer.body))
            elif isinstance(outer, ir.BoolOp):
                before = outer.values[: next((i for i, v in enumerate(outer.values) if v is inner), 0)]
                guards += [Guard("if", v, outer.op == "and") for v in before]
            elif isinstance(outer, ir.While) and inner is not outer.test:
                guards.append(Guard("if", outer.test))
        return [Bound(g, place, None) for g in guards]

    def situation(self, node: ir.Node, fn: FunctionInfo, depth: int = _CALLERS) -> Cases:
        """The cases in which a node runs, by its own conditions and by those of every call of its function."""
        if id(node) in self._situations:
            return self._situations[id(node)]
        self._situations[id(node)] = OPEN
        own = together([*(self.tests.holds(b, 0) for b in self.conditions(node, fn)), OPEN])
        callers = [] if fn in self.roots or depth == 0 or own <= GOOD else self._callers(fn)
        if callers:
            outer = frozenset().union(*(self.situation(call, caller, depth - 1) for call, caller in callers))
            own = together([own, outer])
        if depth == _CALLERS:
            self._situations[id(node)] = own
        else:
            del self._situations[id(node)]
        return own

    def _callers(self, fn: FunctionInfo) -> list[tuple[ir.Call, FunctionInfo]]:
        known = set(self.functions)
        return [(call, unit.fn) for call, unit, _ in self.flow.sites(fn) if unit.fn in known and unit.fn is not fn and unit.fn is not None]

    def _in_epoch(self, node: ir.Node, fn: FunctionInfo, depth: int = _CALLERS) -> bool:
        """Whether a node runs in the loop over the epochs, and not where a run starts or is taken up again."""
        if RESTORING.search(fn.node.name):
            return False
        if any(isinstance(a, (ir.For, ir.While)) for a in self._ancestors(node, fn)):
            return True
        if fn in self.roots or depth == 0:
            return depth == 0
        callers = self._callers(fn)
        return not callers or any(self._in_epoch(call, caller, depth - 1) for call, caller in callers)

    # -- what saves

    def _saves(self) -> Iterator[Event]:
        pending = [(n, f) for f in self.functions for n in ir.walk_own(f.node.body) if isinstance(n, ir.Call) and is_saving(n)]
        seen: set[int] = set()
        while pending:
            node, fn = pending.pop(0)
            if id(node) in seen or (is_saver(fn.node.name) and OTHER_FILES.search(fn.node.name)):
                continue
            seen.add(id(node))
            callers = self._callers(fn)
            if self._is_told(node, fn) and callers and fn not in self.roots:
                pending += callers
                continue
            words = f"{words_of(node)} {self._texts(node, fn)}"
            yield Event(node, fn, f"{words} {fn.node.name}" if "best" in fn.node.name.lower() else words)

    def _is_told(self, node: ir.Call, fn: FunctionInfo) -> bool:
        # Whether the callers say where to: by a parameter, whatever the function's own name says.
        own = {p.name for p in fn.node.params[1 if fn.cls is not None else 0 :]}
        told = [n for a in node.args for n in ir.walk(a.value) if isinstance(n, ir.Name) and n.id in own and not _is_model(n.id)]
        return bool(told) and not says_best(words_of(node)) and not says_other(words_of(node))

    def _texts(self, node: ir.Call, fn: FunctionInfo) -> str:
        """The texts that a call's arguments may hold, however they come there."""
        found: list[str] = []

        def visit(demand: Demand, answer: Answer) -> bool:
            if isinstance(demand.expr, ir.Constant) and isinstance(demand.expr.value, str):
                found.append(demand.expr.value)
            return answer.kind in ("moved", "arithmetic", "outside")

        for arg in node.args:
            if isinstance(arg.value, (ir.Name, ir.Attribute, ir.BinOp, ir.Call)) and not any(
                isinstance(n, ir.Attribute) and n.attr == "state_dict" for n in ir.walk(arg.value)
            ):
                self.origins.walk(Demand(Place(arg.value, fn.module, fn)), visit, 60)
        return " ".join(found)

    def _snapshots(self) -> Iterator[Event]:
        """The model's state kept in memory: what is loaded back after the epochs, or is called the best."""
        loaded: dict[int, Store] = {}
        for fn in self.functions:
            for node in ir.walk_own(fn.node.body):
                loads = isinstance(node, ir.Call) and ir.last_name(node.func) == "load_state_dict" and bool(node.args)
                if loads and isinstance(node, ir.Call) and not self._in_epoch(node, fn):
                    loaded.update({id(s.value): s for s in self._filling(Demand(Place(node.args[0].value, fn.module, fn)))})
        for store in loaded.values():
            yield Event(store.node, store.fn, "best")

    def _filling(self, demand: Demand) -> list[Store]:
        # The stores on a value's way that hang on an improvement; else the nearest ones.
        found = [[s for p in parts for s, _ in self.parts.stores(p) if not is_initial(s.value) and self._in_epoch(s.node, s.fn)]
                 for parts in self.parts.ways(demand)]  # fmt: skip
        found = [stores for stores in found if stores and not any(isinstance(s.value, (ir.Dict, ir.Sequence)) for s in stores)]
        good = [stores for stores in found if all(self.situation(s.node, s.fn) <= GOOD for s in stores)]
        return (good or found or [[]])[0]

    def _judged(self) -> list[Event]:
        """The events that save the best model."""
        named = [e for e in self.events if says_best(e.words)]
        rest = [e for e in self.events if e not in named and not says_other(e.words)]
        in_loop = [e for e in rest if self._in_epoch(e.node, e.fn)]
        guarded = [e for e in in_loop if "open" not in self.situation(e.node, e.fn) or len(self.situation(e.node, e.fn)) > 1]
        return named + (guarded or ([] if named else in_loop))

    # -- what is returned

    def _results(self) -> Iterator[tuple[Place, Demand]]:
        for root in self.roots:
            for node in ir.walk_own(root.node.body):
                if isinstance(node, ir.Return) and node.value is not None and not _is_none(node.value):
                    place = Place(node.value, root.module, root)
                    yield place, Demand(place, self._result_path(place), None, self.origins.statement_guards(place, node, None))

    def _result_path(self, place: Place) -> Path:
        names: list[str] = []
        for value in self.origins.values(place):
            if isinstance(value, Inst):
                names += field_names(value.cls) + [n.attr for f in value.cls.module.functions.values() if f.cls is value.cls
                                                   for n in ir.walk_own(f.node.body) if isinstance(n, ir.Attribute)]  # fmt: skip
        return next(((("field", n),) for n in RESULT_FIELDS if n in names), ())

    def _outcome(self, start: Demand, depth: int = 3) -> tuple[list[Part | Extreme], list[Demand]]:
        """The kept values that a result is, and whatever else it may be."""
        hits: list[Part | Extreme] = []
        others: list[Demand] = []

        def visit(demand: Demand, answer: Answer) -> bool | Iterable[Demand]:
            named = not demand.path and named_best(demand.expr)
            kept = [p for p in self.parts.parts(demand) if self.tests.kept_part(p) or (named and self._updated(p))]
            part = next(iter(kept), None)
            if part is not None:
                hits.append(part)
                return False
            extreme = self.tests.extreme(demand) if isinstance(demand.expr, (ir.Call, ir.Subscript, ir.Name, ir.Attribute)) else None
            if extreme is not None and extreme.exact:
                hits.append(extreme)
                return False
            if is_infinite(demand.expr) or _is_none(demand.expr):
                return False
            if answer.kind in ("composite", "construct") and not demand.path and depth:
                found = [self._outcome(d, depth - 1) for d in self._components(demand, answer)]
                chosen = [f for f in found if f[0]] or found
                for inner, rest in chosen:
                    hits.extend(inner)
                    others.extend(rest if not inner else [])
                return False
            following = self.parts.onward(demand, answer)
            if following is False and answer.kind != "cycle" and not (demand.path and not ir.children(demand.expr)):
                others.append(demand)
            return following

        self.origins.walk(start, visit, 400)
        return hits, others

    def _updated(self, part: Part) -> bool:
        return any(not is_initial(s.value) and self._in_epoch(s.node, s.fn) for s, _ in self.parts.stores(part))

    def _components(self, demand: Demand, answer: Answer) -> list[Demand]:
        expr = demand.expr
        pairs = list(zip(expr.keys, expr.values, strict=True)) if isinstance(expr, ir.Dict) else []
        if isinstance(expr, ir.Call):
            pairs = [(ir.Constant(1, 1, 1, 1, a.keyword), a.value) for a in expr.args if a.keyword]
        named = [taken(demand, v, ()) for n in RESULT_FIELDS for k, v in pairs if isinstance(k, ir.Constant) and k.value == n]
        return named[:1] or list(answer.demands)

    # -- faults

    def faults(self) -> Iterator[tuple[Place, str]]:
        """Everything that is wrong, where it is wrong."""
        for site in self.sites:
            fault = self.primary_fault(site.candidate)
            if fault is not None:
                yield site.place, f"what is compared with the best value {fault}"
            yield from self._never_updated(site)
        for extreme in self.extremes:
            yield from self._extreme_faults(extreme)
        for store, path in list(self._stored.values()):
            yield from self._update_faults(store, path)
        yield from self._save_faults()
        yield from self._return_faults()

    def _never_updated(self, site: Site) -> Iterator[tuple[Place, str]]:
        stores = [s for p in self.parts.read(site.kept) for s, _ in self.parts.stores(p)]
        if stores and self.tests.extreme(site.kept) is None and all(is_initial(s.value) for s in stores):
            yield site.place, "the best value is never replaced, so every epoch counts as an improvement"

    def _extreme_faults(self, extreme: Extreme) -> Iterator[tuple[Place, str]]:
        if not extreme.lowest:
            yield extreme.place, "the highest value is taken as the best one; lower is better"
        if extreme.path is None:
            yield extreme.place, "what the model is selected by cannot be followed"
        elif (fault := self.primary_fault(extreme.values)) is not None:
            yield extreme.place, f"what selects the model {fault}"

    def alternatives(self, store: Store) -> list[tuple[ir.Expr, list[Bound]]]:
        """The values that a store may store, each with its conditions inside the expression."""
        place = Place(store.value, store.fn.module, store.fn)
        out: list[tuple[ir.Expr, list[Bound]]] = []
        pending: list[tuple[ir.Expr, list[Bound]]] = [(store.value, [])]
        while pending:
            expr, bounds = pending.pop()
            if isinstance(expr, ir.IfExp):
                pending.append((expr.body, [*bounds, Bound(Guard("if", expr.test), place, None)]))
                pending.append((expr.orelse, [*bounds, Bound(Guard("if", expr.test, polarity=False), place, None)]))
            else:
                out.append((expr, bounds))
        return out

    def _update_faults(self, store: Store, path: Path) -> Iterator[tuple[Place, str]]:
        outside = not self._in_epoch(store.node, store.fn)
        for expr, bounds in self.alternatives(store):
            place = Place(expr, store.fn.module, store.fn)
            demand = Demand(place, path)
            if isinstance(expr, ir.Call) and ir.last_name(expr.func) in _CHOICES and len(expr.args) == 2:
                yield from self._choice_faults(place, expr, store)
                continue
            if is_initial(expr) or outside:
                if outside and is_never_beaten(expr) and not any(not self.tests.holds(b, 0) for b in bounds):
                    message = "the best value starts from a number, which a higher objective never replaces; it must start from infinity"
                    yield place, message
                continue
            if any(id(s) == id(store) or s.part == store.part for p in self.parts.read(demand) for s, _ in self.parts.stores(p)
                   if isinstance(expr, (ir.Name, ir.Attribute, ir.Subscript)) and p.root is store.part.root):  # fmt: skip
                continue  # it stays what it was
            cases = together([self.situation(store.node, store.fn), *(self.tests.holds(b, 0) for b in bounds)])
            if "worse" in cases:
                yield place, "the best value is replaced where the value is higher; lower is better"
            elif not cases <= GOOD:
                yield place, "the best value is replaced without a comparison that shows an improvement"
            elif (fault := self.primary_fault(demand)) is not None:
                yield place, f"the best value is replaced by something that {fault}"

    def _choice_faults(self, place: Place, expr: ir.Call, store: Store) -> Iterator[tuple[Place, str]]:
        if ir.last_name(expr.func) in ("max", "maximum", "fmax"):
            yield place, "the best value is updated to the higher one; lower is better"
        for arg in expr.args:
            candidate = Demand(place.at(arg.value))
            kept = any(s.part == store.part for p in self.parts.read(candidate) for s, _ in self.parts.stores(p))
            if not kept and (fault := self.primary_fault(candidate)) is not None:
                yield place, f"the best value is replaced by something that {fault}"

    def _save_faults(self) -> Iterator[tuple[Place, str]]:
        for event, cases in self.judged:
            if cases <= GOOD:
                continue
            if not self._in_epoch(event.node, event.fn):
                if not self._restored(event):
                    yield event.place, "the best checkpoint is written after the epochs, with the weights of the last one"
            elif "worse" in cases:
                yield event.place, "the best checkpoint is written where the value is higher; lower is better"
            else:
                yield event.place, "the best checkpoint is written without an improvement"
        if self.events and not self.judged:
            yield self.events[0].place, "the model is saved, but not where it improves"

    def _restored(self, event: Event) -> bool:
        # After the epochs the best weights are loaded, then saved; or what is saved is what was kept.
        loads = [n for n in ir.walk_own(event.fn.node.body) if isinstance(n, ir.Call) and ir.last_name(n.func) == "load_state_dict"]
        if any(n.line <= event.node.line for n in loads):
            return True
        args = [a.value for a in event.node.args] if isinstance(event.node, ir.Call) else []
        names = [n for a in args for n in ir.walk(a) if isinstance(n, (ir.Name, ir.Attribute))]
        return any(self._kept_under(Demand(Place(n, event.fn.module, event.fn))) for n in names)

    def _kept_under(self, demand: Demand) -> bool:
        # Whether a value is only ever replaced where the model improves.
        stores = [s for p in self.parts.read(demand) for s, _ in self.parts.stores(p) if not is_initial(s.value)]
        return bool(stores) and all(self._in_epoch(s.node, s.fn) and self.situation(s.node, s.fn) <= GOOD for s in stores)

    def _return_faults(self) -> Iterator[tuple[Place, str]]:
        for root in [] if self.returned else self.roots:
            here = next((n for n in ir.walk_own(root.node.body) if isinstance(n, ir.Expr)), None)
            if here is not None:
                yield Place(here, root.module, root), "fit() returns nothing, where the best value that selected the model belongs"
        for place, (hits, others) in self.returned:
            if not hits or others:
                yield place, "fit() returns something else than the best value that selected the model"

    # -- the primary

    def primary_fault(self, demand: Demand) -> str | None:
        """Why a value is not the configured primary, or None where it is."""
        leaves = self.quantities.leaves(replace(demand, guards=()))
        if any(leaf.what == "lost" for leaf in leaves):
            return f"has more origins than can be followed; nothing shows that it depends on {self.primary!r}"
        if any(leaf.flipped and leaf.what in ("score", "loss", "unknown") for leaf in leaves):
            return "has its sign turned round; the score and the loss are both lower where the model is better"
        if any(leaf.what == "score" and self.quantities.possible(leaf, LOSS) for leaf in leaves):
            return f"does not depend on {self.primary!r}: it is the score where the loss is configured"
        if any(self._plain_loss(leaf) for leaf in leaves):
            return f"does not depend on {self.primary!r}: it is the loss where the score is configured"
        if self.quantities.decided(leaves) or any(leaf.what == "loss" for leaf in leaves) or self._mentions_primary(demand):
            return None
        return f"does not depend on {self.primary!r}"

    def _plain_loss(self, leaf: Leaf) -> bool:
        return (
            leaf.what == "loss"
            and self.quantities.possible(leaf, SCORE)
            and (self.quantities.chosen(leaf) or not self.quantities.open(leaf))
        )

    def fallbacks(self, start: Demand) -> Iterator[tuple[Leaf, str]]:
        """The alternatives of a value that stand in for a metric that could not be computed."""
        leaves = self.quantities.leaves(start)
        for leaf in leaves:
            if not self.quantities.possible(leaf, SCORE):
                continue
            standing_in = self.quantities.open(leaf)
            if leaf.what == "lost":
                yield leaf, "this value has more origins than can be followed; nothing shows that the loss never stands in for the score"
            elif leaf.what == "loss" and standing_in:
                yield leaf, "the loss stands in for the score where the score is configured"
            elif leaf.hidden and leaf.hidden != "a constant":
                yield leaf, f"the score is computed with {leaf.hidden}"
            elif leaf.hidden and standing_in and any(other.what in ("score", "unknown") for other in leaves if other is not leaf):
                yield leaf, "a constant stands in for the score where the score could not be computed"
            elif standing_in and any(b.guard.kind == "default" and hides_nan(b.guard.test) for b in leaf.demand.guards):
                yield leaf, "what is not a number is replaced and then compared like a score"

    def starts(self) -> Iterator[Demand]:
        """What is compared, kept and returned."""
        for site in self.sites:
            yield replace(site.candidate, guards=())
        for extreme in self.extremes:
            yield replace(extreme.values, guards=())
        for store, path in self._stored.values():
            if not is_initial(store.value):
                yield Demand(Place(store.value, store.fn.module, store.fn), path)
        yield from (d for _, d in self._results())

    def _mentions_primary(self, start: Demand) -> bool:
        found: list[bool] = []

        def visit(demand: Demand, answer: Answer) -> bool:
            found.append(any(self.quantities.read_in(node) for node in (demand.expr, *(b.guard.test for b in demand.guards))))
            return not found[-1]

        self.origins.walk(start, visit, 400)
        return any(found)


def _is_none(expr: ir.Expr) -> bool:
    return isinstance(expr, ir.Constant) and expr.value is None


def _operands(node: ir.Compare | ir.Call) -> list[ir.Expr]:
    return [node.left, *node.comparators] if isinstance(node, ir.Compare) else [a.value for a in node.args]


def _is_model(name: str) -> bool:
    words = ("model", "net", "state", "module", "optim", "engine", "trainer", "runner", "config", "cfg")
    return any(word in name.lower() for word in words)
