"""Where a name's value comes from: its reaching definitions, enclosing functions, modules and imports."""

from __future__ import annotations

from dataclasses import replace

from audits.static.analysis.values import Cls, Func, Mod
from audits.static.dataflow.arguments import Arguments
from audits.static.dataflow.demands import ELEMENT, Answer, Bound, Demand
from audits.static.dataflow.flow import Place
from audits.static.dataflow.reaching import BASE, Alternatives, Def, Guard, Path, step_text
from audits.static.source import ir
from audits.static.source.project import ModuleInfo, lookup_scope


class Variables(Arguments):
    """Steps from names."""

    def _name(self, demand: Demand, expr: ir.Name) -> Answer:
        reaching = self.reaching(demand.place)
        env = reaching.envs.get(id(expr))
        name, path = expr.id, demand.path
        if env is not None:
            stored = self._stored(demand, env, name, path)
            if stored is not None:
                return stored
            found = env.get(name)
            if found is not None:
                return self._with_outer(demand, self._alternatives(demand, found, path, name), expr)
        return self._with_outer(demand, self._free(demand, expr), expr)

    def _with_outer(self, demand: Demand, answer: Answer, expr: ir.Name) -> Answer:
        # What functions that declare the name global or nonlocal may have bound it to meanwhile.
        scope = demand.place.fn.scope if demand.place.fn is not None else demand.place.module.scope
        found = lookup_scope(scope, expr.id)
        places = self.flow.outer_writes(found, expr.id) if found is not None else []
        places = [p for p in places if p.fn is not demand.place.fn]
        put = self.flow.outer_contents(found, expr.id) if found is not None and demand.path and demand.path[0][0] != "field" else []
        if not places and not put:
            return answer
        moved = tuple(self.at(demand, p, demand.path, None) for p in places)
        moved += tuple(self.at(demand, p, demand.path[1:], demand.frame) for p in put)
        return Answer("moved" if answer.kind in ("moved", "outside", "unknown") else answer.kind, answer.demands + moved)

    def _stored(self, demand: Demand, env: dict[str, Alternatives], base: str, path: Path) -> Answer | None:
        # What was stored under an attribute or a key of this name, the longest first.
        text, keys = base, []
        for step in path:
            text += step_text(step)
            keys.append(text)
        for length in range(len(keys), 0, -1):
            found = env.get(keys[length - 1])
            if found is not None:
                return self._alternatives(demand, found, path[length:], base, path)
        if path and path[0][0] in ("elem", "item"):
            starred = env.get(f"{base}[*]")
            if starred is not None:
                answer = self._alternatives(demand, starred, path[1:], base, path)
                whole = env.get(base)
                own = self._alternatives(demand, whole, path, base).demands if whole is not None else ()
                return Answer("moved", answer.demands + own)
            if path[0] == ELEMENT:
                inside = [k for k in env if k.startswith(f"{base}[") and k.count("[") == base.count("[") + 1 and k.endswith("]")]
                parts = tuple(d for k in inside for d in self._alternatives(demand, env[k], path[1:], base, path).demands)
                whole = env.get(base)
                own = self._alternatives(demand, whole, path, base).demands if whole is not None else ()
                return Answer("moved", parts + own) if parts else None
        return None

    def _alternatives(self, demand: Demand, found: Alternatives, path: Path, base: str, full: Path | None = None) -> Answer:
        out: list[Demand] = []
        kinds: set[str] = set()
        for definition, guards in found.items():
            if len(found) > 1 and any(_says_none(g, base, definition) for g in guards):
                continue
            bound = tuple(Bound(g, demand.place, demand.frame) for g in guards)
            if definition is BASE:
                whole = self.reaching(demand.place).envs[id(demand.expr)].get(base)
                narrowed = replace(demand, guards=demand.guards + bound)
                if whole is not None:
                    out += self._alternatives(narrowed, whole, full or path, base).demands
                continue
            if definition.kind == "value" and definition.expr is not None:
                place = demand.place.at(definition.expr)
                out.append(self.at(demand, place, definition.path + path, demand.frame, bound))
            elif definition.kind == "param":
                answer = self._parameter(replace(demand, guards=demand.guards + bound), definition, path)
                out += answer.demands
                kinds.add(answer.kind)
            elif definition.kind == "import":
                answer = self._module_level(demand, demand.place.module, definition.name, path)
                out += answer.demands
                kinds.add(answer.kind)
            else:
                kinds.add("function" if definition.kind == "function" else "unknown")
        kinds.discard("moved")
        if out and not kinds:
            return Answer("moved", tuple(out))
        if out:
            # Some alternatives end here: they are kept as what they are beside the others.
            return Answer("mixed-" + sorted(kinds)[-1], tuple(out))
        return Answer(sorted(kinds)[-1] if kinds else "unknown")

    def _free(self, demand: Demand, expr: ir.Name) -> Answer:
        scope = demand.place.fn.scope if demand.place.fn is not None else demand.place.module.scope
        found = lookup_scope(scope, expr.id)
        owner = found.function if found is not None else None
        if owner is not None and found is not None and found.kind == "function":
            # A variable of an enclosing function: any of its bindings.
            place = Place(expr, owner.module, owner)
            frame = demand.frame
            while frame is not None and frame.fn is not owner:
                frame = frame.outer
            reaching = self.reaching(place)
            defs: Alternatives = {d: () for d in reaching.every.get(expr.id, []) if d.kind != "made"}
            stored = [d for name, ds in reaching.every.items() for d in ds if demand.path and name == expr.id + step_text(demand.path[0])]
            moved = replace(demand, place=place, frame=frame)
            out = [self.at(moved, place.at(d.expr), d.path + demand.path[1:], frame) for d in stored if d.expr is not None]
            answer = self._alternatives(moved, defs, demand.path, expr.id) if defs else Answer("unknown")
            return Answer(answer.kind, answer.demands + tuple(out))
        return self._module_level(demand, demand.place.module, expr.id, demand.path)

    def _module_level(self, demand: Demand, module: ModuleInfo, name: str, path: Path) -> Answer:
        found = self.flow.module_name(module, name)
        if found:
            return Answer("moved", tuple(self.at(demand, p, path, None) for p in found))
        values = self.values(demand.place)
        if any(isinstance(v, (Func, Cls, Mod)) for v in values):
            return Answer("function")
        return Answer("outside")


def _says_none(guard: Guard, name: str, definition: Def) -> bool:
    # Where `name is None` holds, the value that was tested is no value that could flow on.
    test = guard.test
    if definition.node is not None and (definition.node.line, definition.node.column) > (test.line, test.column):
        return False
    if guard.kind != "if" or not isinstance(test, ir.Compare) or len(test.ops) != 1 or ir.dotted(test.left) != name:
        return False
    none = isinstance(test.comparators[0], ir.Constant) and test.comparators[0].value is None
    return none and guard.polarity == (test.ops[0] in ("is", "=="))
