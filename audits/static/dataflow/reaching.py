"""Which definitions of a name reach each of its uses, and under which conditions: one function or module at a time.

Statements are read in order; branches are joined, loops are read twice. Attributes and items of a name with a constant
key (`self.best`, `values["loss"]`) count as names of their own, so that what was stored last is what is read.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from audits.static.source import ir

Path = tuple[tuple[str, object], ...]  # ("field", name), ("item", key), ("elem", None) or ENTERED, outermost first
ENTERED = ("enter", None)  # what `with` binds to its target


@dataclass(frozen=True, slots=True)
class Guard:
    """A condition of an alternative: `test` was true or false (`if`), failed (`except`), or chose `key` (`case`)."""

    kind: str
    test: ir.Node
    polarity: bool = True
    key: object = None


Guards = tuple[Guard, ...]


@dataclass(eq=False, slots=True)
class Def:
    """One binding: `expr` taken apart along `path`; `kind` is value, param, function, import or base (the name's own value)."""

    kind: str
    expr: ir.Expr | None = None
    path: Path = ()
    name: str = ""
    node: ir.Node | None = None
    weak: bool = False


Alternatives = dict[Def, Guards]
Env = dict[str, Alternatives]


def step_text(step: tuple[str, object]) -> str:
    """One step of a path as it is written: `.name`, `['key']`, `[*]` or `.__enter__()`."""
    kind, value = step
    return f".{value}" if kind == "field" else f"[{value!r}]" if kind == "item" else "[*]" if kind == "elem" else ".__enter__()"


def access(expr: ir.Expr) -> tuple[str, Path] | None:
    """A name with the attributes and items taken of it, or None where the expression is anything else."""
    steps: list[tuple[str, object]] = []
    while not isinstance(expr, ir.Name):
        if isinstance(expr, ir.Attribute):
            steps.append(("field", expr.attr))
            expr = expr.value
        elif isinstance(expr, ir.Subscript):
            constant = isinstance(expr.index, ir.Constant)
            steps.append(("item", expr.index.value) if isinstance(expr.index, ir.Constant) and constant else ("elem", None))
            expr = expr.value
        else:
            return None
    return expr.id, tuple(reversed(steps))


@dataclass(eq=False, slots=True)
class Reaching:
    """The result for one body: the environment at each expression, and the conditions of each statement."""

    body: list[ir.Stmt]
    params: list[ir.Param] = field(default_factory=list)
    envs: dict[int, Env] = field(default_factory=dict)
    guards: dict[int, Guards] = field(default_factory=dict)
    every: dict[str, list[Def]] = field(default_factory=dict)
    last: Env = field(default_factory=dict)
    _exits: list[list[Env]] = field(default_factory=list)
    _defs: dict[tuple[object, ...], Def] = field(default_factory=dict)

    def run(self) -> Reaching:
        """Read the body."""
        start: Env = {p.name: {self._def("param", name=p.name, node=p): ()} for p in self.params}
        end = self._block(self.body, start, ())
        self.last = end if end is not None else {}
        return self

    def _def(self, kind: str, expr: ir.Expr | None = None, path: Path = (), name: str = "", node: ir.Node | None = None,
             weak: bool = False) -> Def:  # fmt: skip
        # A loop's body is read twice: the same binding stays one definition.
        key = (kind, id(expr), path, name, id(node))
        found = self._defs.get(key)
        if found is None:
            found = self._defs[key] = Def(kind, expr, path, name, node, weak)
            self.every.setdefault(name, []).append(found)
        return found

    # -- statements

    def _block(self, body: Iterable[ir.Stmt], env: Env | None, guards: Guards) -> Env | None:
        """The environment after `body`, or None where it is always left."""
        for statement in body:
            if env is None:
                return None
            self.guards[id(statement)] = guards
            env, guards = self._statement(statement, env, guards)
        return env

    def _statement(self, node: ir.Stmt, env: Env, guards: Guards) -> tuple[Env | None, Guards]:
        if isinstance(node, ir.If):
            return self._if(node, env, guards)
        if isinstance(node, (ir.For, ir.While)):
            return self._loop(node, env, guards), guards
        if isinstance(node, ir.Try):
            return self._try(node, env, guards), guards
        if isinstance(node, ir.With):
            return self._with(node, env, guards), guards
        if isinstance(node, ir.Match):
            return self._match(node, env, guards)
        if isinstance(node, (ir.Return, ir.Raise)):
            for part in ir.children(node):
                env = self._expr(part, env)
            return None, guards
        if isinstance(node, ir.Simple):
            if node.kind in ("continue", "break"):
                if self._exits:
                    self._exits[-1].append(env)
                return None, guards
            return env, guards
        return self._plain(node, env), guards

    def _plain(self, node: ir.Stmt, env: Env) -> Env:
        if isinstance(node, (ir.Function, ir.ClassDef)):
            return self._bind(env, node.name, self._def("function", name=node.name, node=node))
        if isinstance(node, (ir.Import, ir.ImportFrom)):
            for name, asname in node.names:
                bound = asname or name.split(".", maxsplit=1)[0]
                env = self._bind(env, bound, self._def("import", name=bound, node=node))
            return env
        if isinstance(node, ir.Assign):
            if node.value is None:
                return env
            env = self._expr(node.value, env)
            for target in node.targets:
                env = self._target(target, node.value, (), env, node)
            return env
        if isinstance(node, ir.AugAssign):
            env = self._expr(node.target, self._expr(node.value, env))
            place = (node.line, node.column, node.end_line, node.end_column)
            made = self._made(node, lambda: ir.BinOp(*place, node.target, node.op, node.value))
            self.envs[id(made)] = env
            return self._target(node.target, made, (), env, node)
        for part in ir.children(node):
            env = self._expr(part, env)
        return env

    def _made(self, node: ir.Node, make: Any, name: str = "") -> ir.Expr:
        key = ("made", id(node), name)
        found = self._defs.get(key)
        if found is None:
            found = self._defs[key] = Def("made", make())
        assert found.expr is not None
        return found.expr

    def _if(self, node: ir.If, env: Env, guards: Guards) -> tuple[Env | None, Guards]:
        env = self._expr(node.test, env)
        yes, no = Guard("if", node.test), Guard("if", node.test, polarity=False)
        body = self._block(node.body, env, (*guards, yes))
        orelse = self._block(node.orelse, env, (*guards, no))
        if body is None and orelse is not None:
            return orelse, (*guards, no)
        if orelse is None and body is not None:
            return body, (*guards, yes)
        return self._join(node, [(body, (yes,)), (orelse, (no,))]), guards

    def _loop(self, node: ir.For | ir.While, env: Env, guards: Guards) -> Env | None:
        env = self._expr(node.iter if isinstance(node, ir.For) else node.test, env)
        head: Env = env
        left: Env | None = None
        for _ in range(2):
            inner = head
            if isinstance(node, ir.For):
                inner = self._target(node.target, node.iter, (("elem", None),), head, node)
            else:
                inner = self._expr(node.test, head)
            self._exits.append([])
            end = self._block(node.body, inner, guards)
            after: list[tuple[Env | None, Guards]] = [(end, ()), *((e, ()) for e in self._exits.pop())]
            head = self._join(node, [(head, ()), *after]) or head
            left = self._join(node.iter if isinstance(node, ir.For) else node.test, after)
        return self._block(node.orelse, left if left is not None and _runs(node) else head, guards)

    def _try(self, node: ir.Try, env: Env, guards: Guards) -> Env | None:
        body = self._block(node.body, env, guards)
        before = self._join(node, [(env, ()), (self._anywhere(node.body, env), ()), (body, ())]) or env
        ends: list[tuple[Env | None, Guards]] = [(self._block(node.orelse, body, guards), ())]
        for handler in node.handlers:
            failed = Guard("except", handler)
            inside = before
            if isinstance(handler.name, ir.Name):
                inside = self._bind(inside, handler.name.id, self._def("except", name=handler.name.id, node=handler))
            ends.append((self._block(handler.body, inside, (*guards, failed)), (failed,)))
        end = self._join(node.handlers[-1] if node.handlers else node, ends)
        return self._block(node.finalbody, end, guards) if node.finalbody else end

    def _anywhere(self, body: list[ir.Stmt], env: Env) -> Env:
        # A handler may run after any part of the body.
        out = env
        for node in ir.walk_own(body):
            if isinstance(node, ir.Assign) and node.value is not None:
                reached = out
                for target in node.targets:
                    reached = self._target(target, node.value, (), reached, node)
                out = self._join(node, [(out, ()), (reached, ())]) or out
        return out

    def _with(self, node: ir.With, env: Env, guards: Guards) -> Env | None:
        suppressed = None
        for item in node.items:
            env = self._expr(item.context, env)
            if item.target is not None:
                env = self._target(item.target, item.context, (ENTERED,), env, item)
            if isinstance(item.context, ir.Call) and ir.last_name(item.context.func) == "suppress":
                suppressed = Guard("except", node)
        after = self._block(node.body, env, guards)
        if suppressed is not None:
            failed = self._join(node.items[0], [(env, ()), (self._anywhere(node.body, env), ())])
            return self._join(node, [(after, ()), (failed, (suppressed,))])
        return after

    def _match(self, node: ir.Match, env: Env, guards: Guards) -> tuple[Env | None, Guards]:
        env = self._expr(node.subject, env)
        ends: list[tuple[Env | None, Guards]] = []
        earlier: Guards = ()
        total = False
        for case in node.cases:
            keys = tuple(t.value if isinstance(t, ir.Constant) else ir.dotted(t) for t in case.tests)
            chosen = Guard("case", node.subject, key=keys)
            inner = env
            for test in case.tests:
                inner = self._expr(test, inner)
            for binding in case.bindings:
                inner = self._target(binding, node.subject, (), inner, case)
            if case.guard is not None:
                inner = self._expr(case.guard, inner)
            own = (*earlier, chosen) if keys else earlier
            ends.append((self._block(case.body, inner, (*guards, *own)), own))
            if keys:
                earlier = (*earlier, Guard("case", node.subject, polarity=False, key=keys))
            elif case.guard is None:
                total = True
        if not total:
            ends.append((env, earlier))
        standing = [(e, g) for e, g in ends if e is not None]
        if len(standing) == 1:
            return standing[0][0], (*guards, *standing[0][1])
        return self._join(node, ends), guards

    # -- joins

    def _join(self, node: ir.Node, branches: list[tuple[Env | None, Guards]]) -> Env | None:
        """The environments of branches together; what only some of them hold is conditional on those."""
        alive = [(e, g) for e, g in branches if e is not None]
        if len(alive) < 2:
            return alive[0][0] if alive else None
        if all(e is alive[0][0] for e, _ in alive):
            return alive[0][0]
        out: Env = {}
        names: dict[str, None] = {}
        for env, _ in alive:
            names.update(dict.fromkeys(env))
        for name in names:
            held = [(env.get(name), guards) for env, guards in alive]
            if all(h is held[0][0] for h, _ in held) and held[0][0] is not None:
                out[name] = held[0][0]
                continue
            pseudo = "." in name or "[" in name
            merged: Alternatives = {}
            counts: dict[Def, int] = {}
            for alternatives, guards in held:
                if alternatives is None:
                    alternatives = {BASE: ()} if pseudo else {}
                for definition, own in alternatives.items():
                    counts[definition] = counts.get(definition, 0) + 1
                    if definition in merged:
                        merged[definition] = tuple(g for g in merged[definition] if g in own)
                    else:
                        merged[definition] = (*own, *(g for g in guards if g not in own))
            for definition in merged:
                if counts[definition] == len(alive):
                    shared = [h[definition] for h, _ in held if h is not None and definition in h]
                    merged[definition] = tuple(g for g in shared[0] if all(g in s for s in shared)) if shared else ()
            out[name] = merged if len(merged) <= APART or pseudo else self._gathered(node, name, merged)
        return out

    def _gathered(self, node: ir.Node, name: str, merged: Alternatives) -> Alternatives:
        # Many definitions become one, a name of its own that stands for them: else each of n loops would list all before it.
        place = (node.line, node.column, node.end_line, node.end_column)
        made = self._made(node, lambda: ir.Name(*place, name), name)
        known = self.envs.get(id(made), {}).get(name, {})
        definition = self._def("value", made, name=name, node=node)
        self.envs[id(made)] = {name: {**known, **{d: g for d, g in merged.items() if d is not definition}}}
        return {definition: ()}

    # -- bindings

    def _target(self, target: ir.Expr, value: ir.Expr, path: Path, env: Env, node: ir.Node) -> Env:
        if isinstance(target, ir.Starred):
            return self._target(target.value, value, path, env, node)
        if isinstance(target, ir.Sequence):
            plain = isinstance(value, ir.Sequence) and not any(isinstance(i, ir.Starred) for i in [*value.items, *target.items])
            pairwise = plain and not path and isinstance(value, ir.Sequence) and len(value.items) == len(target.items)
            for i, item in enumerate(target.items):
                if pairwise and isinstance(value, ir.Sequence):
                    env = self._target(item, value.items[i], (), env, node)
                else:
                    env = self._target(item, value, (*path, ("item", i)), env, node)
            return env
        found = access(target)
        if found is None:
            return env
        base, steps = found
        if isinstance(target, (ir.Attribute, ir.Subscript)):
            env = self._expr(target, env)
        name = base + "".join(step_text(s) for s in steps)
        weak = any(s[0] == "elem" for s in steps)
        return self._bind(env, name, self._def("value", value, path, name, node, weak))

    def _bind(self, env: Env, name: str, definition: Def, guards: Guards = ()) -> Env:
        out = {k: v for k, v in env.items() if not (k.startswith(name) and k[len(name) : len(name) + 1] in (".", "["))}
        if definition.weak:
            out[name] = {**out.get(name, {}), definition: guards}
        else:
            out[name] = {definition: ()}
        return out

    # -- expressions

    def _expr(self, node: ir.Node, env: Env) -> Env:
        """Note the environment of every part of an expression."""
        self.envs[id(node)] = env
        if isinstance(node, ir.NamedExpr):
            env = self._expr(node.value, env)
            return self._target(node.target, node.value, (), env, node)
        if isinstance(node, ir.Comprehension):
            inner = env
            for clause in node.clauses:
                inner = self._expr(clause.iter, inner)
                inner = self._target(clause.target, clause.iter, (("elem", None),), inner, clause)
                for test in clause.ifs:
                    inner = self._expr(test, inner)
            for part in (node.element, node.value):
                if part is not None:
                    self._expr(part, inner)
            return env
        if isinstance(node, ir.Lambda):
            return env
        for child in ir.children(node):
            env = self._expr(child, env)
        if isinstance(node, ir.Call):
            env = self._stores(node, env)
        return env

    def _stores(self, node: ir.Call, env: Env) -> Env:
        # `x.append(v)`, `d.update(k=v)`, `d.setdefault("k", v)`, `setattr(x, "k", v)`.
        name = ir.last_name(node.func)
        plain = [a.value for a in node.args if a.keyword is None and not a.star]
        for written in [access(a.value) for a in node.args if a.keyword == "out"]:
            env = self._write(written, node, env, whole=True) if written is not None else env
        if name in ("setattr", "__setattr__") and len(plain) >= 2:
            owner = access(plain[0]) if len(plain) == 3 else access(getattr(node.func, "value", node.func))
            key = plain[-2]
            if owner is not None and isinstance(key, ir.Constant):
                return self._store(owner, ("field", key.value), plain[-1], env, node, weak=False)
            return env
        if not isinstance(node.func, ir.Attribute):
            return env
        base = node.func.value
        while isinstance(base, ir.Call) and isinstance(base.func, ir.Attribute) and base.func.attr.endswith("_"):
            base = base.func.value  # `x.zero_().add_(y)` writes into x
        owner = access(base)
        if owner is None:
            return env
        if name.endswith("_") and not name.startswith("_"):
            return self._write(owner, node, env, whole=name in _REPLACING)
        if name in ("append", "add", "appendleft", "put") and plain:
            return self._store(owner, ("elem", None), plain[-1], env, node, weak=True)
        if name in ("extend", "insert") and plain:
            return self._store(owner, ("elem", None), plain[-1], env, node, weak=True, spread=name == "extend")
        if name == "setdefault" and len(plain) == 2 and isinstance(plain[0], ir.Constant):
            return self._store(owner, ("item", plain[0].value), plain[1], env, node, weak=True)
        if name == "update":
            for arg in node.args:
                if arg.keyword is not None:
                    env = self._store(owner, ("item", arg.keyword), arg.value, env, node, weak=False)
                elif isinstance(arg.value, ir.Dict):
                    for name_of, value in zip(arg.value.keys, arg.value.values, strict=True):
                        if isinstance(name_of, ir.Constant):
                            env = self._store(owner, ("item", name_of.value), value, env, node, weak=False)
                else:
                    env = self._store(owner, ("elem", None), arg.value, env, node, weak=True, spread=True)
        return env

    def _write(self, owner: tuple[str, Path], node: ir.Call, env: Env, *, whole: bool) -> Env:
        """`x.mul_(y)` and `f(y, out=x)`: what x holds is noted beside what it is bound to."""
        name = owner[0] + "".join(step_text(s) for s in owner[1]) + IN_PLACE
        if not whole and name not in env:
            env = {**env, name: {BASE: ()}}
        return self._bind(env, name, self._def("value", node, (), name, node, weak=not whole))

    def _store(self, owner: tuple[str, Path], step: tuple[str, object], value: ir.Expr, env: Env, node: ir.Node, *, weak: bool,
               spread: bool = False) -> Env:  # fmt: skip
        name = owner[0] + "".join(step_text(s) for s in (*owner[1], step))
        definition = self._def("value", value, (("elem", None),) if spread else (), name, node, weak)
        if weak and name not in env:
            env = {**env, name: {BASE: ()}}
        guards = (Guard("default", node),) if isinstance(node, ir.Call) and ir.last_name(node.func) == "setdefault" else ()
        return self._bind(env, name, definition, guards)


def _runs(node: ir.For | ir.While) -> bool:
    """Whether the body of a loop surely runs."""
    if isinstance(node, ir.While):
        return isinstance(node.test, ir.Constant) and bool(node.test.value)
    source = node.iter
    if isinstance(source, ir.Call) and ir.last_name(source.func) == "range" and len(source.args) == 1:
        count = source.args[0].value
        return isinstance(count, ir.Constant) and isinstance(count.value, int) and count.value > 0
    return isinstance(source, ir.Sequence) and any(not isinstance(i, ir.Starred) for i in source.items)


BASE = Def("base")
IN_PLACE = ".~"  # after a name: the calls that have written into what it holds
_REPLACING = frozenset({"copy_", "detach_", "zero_", "fill_", "set_"})
APART = 8  # how many definitions of a name are listed one by one
