"""Calls: binding arguments to the packages' own functions, and what outside callables return."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from audits.static.analysis import callbacks, lookup
from audits.static.analysis.engine import Issue
from audits.static.analysis.unknown_calls import is_foreign, may_call_arguments
from audits.static.analysis.values import (
    DATA,
    EMPTY,
    LIMIT,
    NUMBER,
    OUTSIDE,
    POSITIVE,
    TENSOR,
    TEXT,
    UNKNOWN,
    WIDE,
    Cls,
    Const,
    Ext,
    ExtInst,
    Func,
    Inst,
    Loader,
    Mod,
    Named,
    Namespace,
    Overrides,
    SuperOf,
    UnknownValue,
    Value,
    Values,
    bounded,
    callables,
    held,
)
from audits.static.libraries import solvers
from audits.static.source import ir
from audits.static.source.project import ClassInfo, FunctionInfo, Scope, function_of

if TYPE_CHECKING:
    from audits.static.analysis.interp import Interp

_DATA_BUILTINS = frozenset(
    ["len", "isinstance", "issubclass", "int", "float", "bool", "str", "repr", "print", "format", "hash", "id", "abs", "round", "hasattr",
     "callable", "ord", "chr", "bytes", "any", "all", "pow", "divmod", "range", "input", "open", "slice", "complex"]
)  # fmt: skip
_NOT_HOLDING = frozenset({"functools.wraps", "functools.update_wrapper", "typing.TypeVar", "logging.getLogger"})
_SAME = frozenset({"copy.copy", "copy.deepcopy", "typing.cast", "dataclasses.replace", "enum.member", "enum.nonmember"})
# Methods that a class inherits from outside the packages, such as those of nn.Module, and that return the object itself.
_RETURNING_SELF = frozenset(
    ["to", "cuda", "cpu", "xpu", "eval", "train", "float", "double", "half", "bfloat16", "requires_grad_", "apply", "type", "to_empty",
     "share_memory", "share_memory_", "__enter__", "set_submodule"]
)  # fmt: skip
_HOOK = re.compile(r"^_?register_\w*(hook|hooks|parametrization|callback)\w*$|^register_hook$|^(saved_tensors_hooks)$")
_STORING = frozenset({"append", "add", "insert", "extend", "update", "setdefault", "appendleft", "add_module", "set", "put",
                      "register_module", "__setitem__"})  # fmt: skip
_HOLDERS = frozenset({"contextvars.ContextVar", "torch.nn.ModuleDict", "torch.nn.ModuleList", "torch.nn.Sequential"})
_VARIABLES = frozenset({ExtInst("contextvars.ContextVar")})
_ITEMS = ExtInst("operator.itemgetter")
_STORED = frozenset({"torch.load", "torch.jit.load", "torch.hub.load", "torch.export.load"})  # returns anything that was stored
_REFERENCES = frozenset({"weakref.ref", "weakref.WeakMethod", "weakref.ReferenceType"})
_PARAMETRIZED = "torch.nn.utils.parametrizations.orthogonal"  # makes its weights anew in every call; two maps need no solve
_WITHOUT_SOLVE = frozenset({Const("matrix_exp"), Const("householder")})
DYNAMIC = {
    "builtins.exec": "exec", "builtins.eval": "eval", "builtins.compile": "compile", "builtins.__import__": "__import__",
    "operator.attrgetter": "attrgetter", "operator.methodcaller": "methodcaller", "types.FunctionType": "FunctionType",
    "types.CodeType": "CodeType", "types.MethodType": "MethodType", "runpy.run_module": "runpy", "runpy.run_path": "runpy",
    "pickle.loads": "pickle", "pickle.load": "pickle", "marshal.loads": "marshal", "torch.jit.load": "torch.jit.load",
    "torch.hub.load": "torch.hub.load", "torch.utils.cpp_extension.load": "cpp_extension",
    "torch.utils.cpp_extension.load_inline": "cpp_extension",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Argument:
    """One evaluated argument."""

    keyword: str | None
    star: str
    values: Values
    node: ir.Expr


def call(i: Interp, node: ir.Call, scope: Scope) -> Values:
    """Evaluate a call: bind its arguments, and return what it may return."""
    callees = i.eval(node.func, scope, "callee_of_call")
    callees |= {Func(fn, bound=True) for c in callees if isinstance(c, Cls) for fn in lookup.meta_calls(i, c.cls)}
    quiet = {c.name for c in callees if isinstance(c, Ext)} & {"builtins.isinstance", "builtins.issubclass"}
    arguments = []
    for position, arg in enumerate(node.args):
        use = "receiver" if quiet and position == 1 else "value"
        arguments.append(Argument(arg.keyword, arg.star, i.eval(arg.value, scope, use), arg.value))
    i.unit.calls[node] = callees
    callbacks.called_back(i, callees, node)
    if may_call_arguments(callees):
        i.hand_over([v for a in arguments for v in a.values], node)
    if WIDE in callees and not isinstance(node.func, ir.Attribute):
        i.issue(node, "one of too many different values to tell them apart is called", "call what is meant by its name")
    if isinstance(node.func, ir.Attribute):
        _method_effects(i, node, node.func, arguments, scope)
        _unreadable(i, node.func, callees)
    out: set[Value] = set()
    for callee in callees - _read_from(i, node.func, callees):
        out |= apply(i, callee, arguments, node, scope)
    if callees and all(isinstance(c, UnknownValue) for c in callees):
        _call_anything(i, node)
    if isinstance(node.func, ir.Attribute):
        out |= _kept(i, node.func, callees)
    if not out and callees:
        i.unit.starved = True
        return frozenset((UNKNOWN,)) if i.unit.settled else EMPTY
    return bounded(out)


def _read_from(i: Interp, func: ir.Expr, callees: Values) -> Values:
    # A table of functions or objects stands for them, and `table.items()` calls none.
    if not isinstance(func, ir.Attribute) or func.attr not in lookup.CONTAINER_READS | lookup.CHILDREN:
        return EMPTY
    receivers = i.unit.receivers.get(func, EMPTY)
    if func.attr in lookup.CHILDREN and any(isinstance(r, Inst) for r in receivers):
        return callees
    if any(isinstance(r, ExtInst) and r.name in _HOLDERS for r in receivers):
        return frozenset(receivers) | {Ext(f"?.{func.attr}"), UNKNOWN}
    return frozenset(r for r in receivers if isinstance(r, (Func, Inst)))


def _kept(i: Interp, func: ir.Attribute, callees: Values) -> set[Value]:
    # `table.get(k)`, `variable.get()`: a method of something that holds functions may return one of them.
    receivers = i.unit.receivers.get(func, EMPTY)
    if func.attr in lookup.CHILDREN and any(isinstance(r, Inst) for r in receivers):
        children: set[Value] = {c for c in callees if isinstance(c, Inst)}
        return children | {ExtInst("torch.nn.ModuleList")}
    if func.attr in lookup.CONTAINER_READS and all(not isinstance(c, (Func, Named)) for c in callees):
        stored = {v for r in receivers if isinstance(r, Inst) for v in lookup.stored_items(i, r.cls)}
        if stored:
            return stored
    if any(isinstance(c, (Func, Named, Cls, Inst)) for c in callees):
        if func.attr not in lookup.CONTAINER_READS:
            return set()
        return {v for v in receivers if isinstance(v, Func) or (isinstance(v, Inst) and v in callees)}
    if func.attr in _RETURNING_SELF and callees and all(isinstance(c, Ext) for c in callees):
        return {v for v in receivers if isinstance(v, Inst)}
    holders = {v for v in receivers if isinstance(v, ExtInst) and v.name in _HOLDERS}
    if holders and func.attr in lookup.CONTAINER_READS:
        return set(receivers) - _VARIABLES  # of a container of modules, each stands for any
    out: set[Value] = {v for v in receivers if isinstance(v, Ext) and (solvers.is_solver(v.name) or solvers.is_matrix_power(v.name))}
    return out | held(receivers) if func.attr in lookup.CONTAINER_READS else out


def _unreadable(i: Interp, func: ir.Attribute, callees: Values) -> None:
    # What a known class holds under a name that is bound nowhere may be anything.
    if i.hot and callees and not any(isinstance(c, (Func, Named, Overrides, Cls, Inst)) for c in callees):
        cls = lookup.undefined(i, i.unit.receivers.get(func, EMPTY), func.attr)
        if cls is not None:
            i.issue(func, f"{func.attr!r} of {cls.symbol} is called, and nothing in the packages defines it", "define it in the class")


def _call_anything(i: Interp, node: ir.Call) -> None:
    # What an unknown value runs when it is called: any callable object of the packages.
    if not i.unit.settled:
        i.unit.starved = True
        return
    for name in ("__call__", "forward"):
        i.record((Named(name),), node, "callee")


def _method_effects(i: Interp, node: ir.Call, func: ir.Attribute, arguments: list[Argument], scope: Scope) -> None:
    passed = frozenset(v for a in arguments for v in a.values)
    if _HOOK.match(func.attr):
        hooks = frozenset(v for v in passed if isinstance(v, (Func, Inst, Ext)))
        receivers = i.unit.receivers.get(func, EMPTY)
        owners: list[ClassInfo | None] = [r.cls for r in receivers if isinstance(r, Inst)]
        for owner in owners or [None]:
            i.a.push(("hooks", owner), _hook_functions(i, hooks))
    if func.attr in _STORING and passed:
        i.store_into(func.value, passed, scope, node, passed)
        for receiver in i.unit.receivers.get(func, EMPTY):
            if isinstance(receiver, Inst):
                i.a.push(("parts", receiver.cls), {v for v in passed if isinstance(v, (Inst, Func))})
            if func.attr in ("add_module", "register_module"):
                for name in (v.value for v in passed if isinstance(v, Const)):
                    lookup.store_named(i, receiver, name, passed, node)
    if func.attr.startswith("register") or func.attr == "setup_context":
        for receiver in i.unit.receivers.get(func, EMPTY):
            if isinstance(receiver, Func):
                i.a.push(("impls", receiver.fn), {v for v in passed if isinstance(v, (Func, Ext))})
    if func.attr == "__init__":
        for receiver in i.unit.receivers.get(func, EMPTY):
            if isinstance(receiver, SuperOf):
                i.a.push(("parts", receiver.cls), {v for v in passed if isinstance(v, (Inst, Func))})
    if func.attr in ("backward", "step"):
        i.record([h for h in i.read("hooks", None) if isinstance(h, (Func, Ext))], node, "callee")


def _hook_functions(i: Interp, hooks: Values) -> set[Value]:
    out: set[Value] = set()
    for hook in hooks:
        out |= {Func(fn) for fn, _ in lookup.call_targets(i, hook)} if isinstance(hook, Inst) else {hook}
    return out


def apply(i: Interp, callee: Value, arguments: list[Argument], node: ir.Call | None, scope: Scope) -> set[Value] | Values:
    """What calling one value with `arguments` returns."""
    if isinstance(callee, Func):
        bind(i, callee.fn, arguments, skip=callee.bound)
        given = _handed_back(i, callee, arguments)
        return given if given is not None else i.read("ret", callee.fn, i.hot)
    if isinstance(callee, Cls):
        return _construct(i, callee, arguments, node)
    if isinstance(callee, Overrides):
        lookup.call_group(i, ("overrides", callee), lookup.overrides(i, callee))
        return {UNKNOWN} | held(v for a in arguments for v in a.values)
    if isinstance(callee, Inst) and len(lookup.all_targets(i, callee)) > LIMIT:
        i.refer(("targets", callee), node or arguments[0].node)
        lookup.call_group(i, ("targets", callee), lookup.all_targets(i, callee))
        return {UNKNOWN} | held(v for a in arguments for v in a.values)
    if isinstance(callee, Inst):
        out: set[Value] = set()
        for fn, takes in lookup.call_targets(i, callee):
            i.record((Func(fn),), node or arguments[0].node, "callee")
            if takes:
                bind(i, fn, arguments, skip=True)
            out |= i.read("ret", fn, i.hot)
        return out or {UNKNOWN}
    if isinstance(callee, Ext):
        return _outside_call(i, callee.name, arguments, node, scope)
    if isinstance(callee, ExtInst):
        return _outside_instance_call(i, callee, arguments, node)
    if isinstance(callee, UnknownValue):
        return {UNKNOWN} | held(v for a in arguments for v in a.values)
    return set() if isinstance(callee, Const) else {UNKNOWN}


def _handed_back(i: Interp, callee: Func, arguments: list[Argument]) -> Values | None:
    # What a function that returns its own parameter is given here, and not what others give to it: a class decorator that registers
    # what it decorates would otherwise make every class out of each.
    param = i.a.returned_parameter(callee.fn)
    if param is None or any(a.star for a in arguments):
        return None
    names = [p.name for p in callee.fn.positional[1 if callee.bound else 0 :]]
    plain = [a for a in arguments if a.keyword is None]
    if param in names[: len(plain)]:
        return plain[names.index(param)].values
    return next((a.values for a in arguments if a.keyword == param), None)


def bind(i: Interp, fn: FunctionInfo, arguments: list[Argument], *, skip: bool) -> None:
    """Let the arguments flow into the parameters."""
    positional = fn.positional[1 if skip else 0 :]
    by_name = {p.name: p for p in fn.node.params if p.kind in ("pos", "kw")}
    rest = [p for p in fn.node.params if p.kind == "*"]
    extra = [p for p in fn.node.params if p.kind == "**"]
    position = 0
    for argument in arguments:
        targets: list[ir.Param]
        if argument.star == "*":
            targets = positional[position:] + rest
        elif argument.star == "**":
            targets = [*by_name.values(), *extra]
        elif argument.keyword is not None:
            targets = [by_name[argument.keyword]] if argument.keyword in by_name else extra
        else:
            targets = [positional[position]] if position < len(positional) else rest
            position += 1
        for param in targets:
            i.push_name(fn.scope, param.name, argument.values)


def _construct(i: Interp, callee: Cls, arguments: list[Argument], node: ir.Node | None = None) -> set[Value]:
    cls = callee.cls
    if node is not None:
        i.record([Ext(base) for base in i.a.outside_bases(i.unit, cls) if solvers.is_solver(base)], node, "callee")
    made: set[Value] = {Inst(cls, exact=not callee.derived)}
    passed = {v for a in arguments for v in a.values}
    inits = [fn for name in ("__init__", "__new__") for fn in lookup.methods(i, cls, name, exact=not callee.derived)]
    for fn in inits:
        bind(i, fn, arguments, skip=True)
    if not inits:
        fields = _fields(i, cls)
        for position, argument in enumerate(arguments):
            name = argument.keyword or (fields[position] if position < len(fields) and not argument.star else None)
            if name is not None:
                i.a.push(("attr", cls, name), argument.values)
                i.a.push(("uattr", name), argument.values)
        i.a.push(("parts", cls), held(passed) - {v for v in passed if isinstance(v, Ext)})
        if i.a.outside_bases(i.unit, cls):
            made |= {v for v in held(passed) if isinstance(v, (Inst, Func))}
    return made


def _fields(i: Interp, cls: ClassInfo) -> list[str]:
    return positional_fields(i.a.mro(i.unit, cls))


def positional_fields(order: list[ClassInfo]) -> list[str]:
    """The annotated fields that positional arguments of a constructor fill, given the method resolution order."""
    names: list[str] = []
    for owner in reversed(order):
        for statement in owner.node.body:
            if isinstance(statement, ir.Assign) and statement.annotation is not None:
                target = statement.targets[0]
                if isinstance(target, ir.Name) and target.id not in names:
                    names.append(target.id)
    return names


def _outside_instance_call(i: Interp, callee: ExtInst, arguments: list[Argument], node: ir.Call | None) -> set[Value]:
    out: set[Value] = held(v for a in arguments for v in a.values)
    if node is None or callee in DATA:
        return out
    if callee is _ITEMS:
        return {v for a in arguments for v in a.values}
    if (callee is TENSOR or callee is OUTSIDE) and out:
        return out  # a decorator, such as `torch.no_grad()` or `lru_cache(None)`, around a function
    if callee.name in _REFERENCES:
        return set(i.unit.calls.get(node, EMPTY)) - {callee} or {UNKNOWN}
    if callee is lookup.NAMED_TUPLE:
        return _bag(i, lookup.BAG, arguments)
    modules = callee.name.startswith("torch.nn.") or callee.name.endswith("Module")
    if modules:
        i.record([h for h in i.read("hooks", None) if isinstance(h, (Func, Ext))], node, "callee")
    if callee in lookup.ANY_MODULE and not any(isinstance(o, Inst) for o in i.unit.calls.get(node, EMPTY)):
        i.record(lookup.of_any_module(i, "forward"), node, "callee")
    return out | ({TENSOR} if modules else {UNKNOWN})


# -- calls of outside names


def _outside_call(i: Interp, name: str, arguments: list[Argument], node: ir.Call | None, scope: Scope) -> set[Value] | Values:
    values = [a.values for a in arguments]
    passed: set[Value] = {v for vs in values for v in vs}
    short = name.removeprefix("builtins.")
    special = _SPECIAL.get(name)
    if special is not None and node is not None:
        return special(i, arguments, node, scope)
    if node is not None and name.endswith((".__getattribute__", ".__getattr__")) and arguments:
        return _getattr(i, arguments[-2:] if len(arguments) > 1 else arguments, node, scope)
    if name.startswith(("importlib.", "runpy.")):
        return {lookup.module_value(i.a, c.value) for c in passed if isinstance(c, Const)} | {UNKNOWN}
    if name.startswith("builtins.") and short in _DATA_BUILTINS:
        if node is not None and short in ("str", "repr", "format", "print"):
            i.record(lookup.text_methods(i, passed), node, "callee")
        return {TEXT} if short in ("str", "repr", "format") else {NUMBER}
    if name in _REFERENCES:
        return {ExtInst(name)} | passed
    if name == _ITEMS.name:
        return {_ITEMS}
    if name == "collections.namedtuple":
        return {lookup.NAMED_TUPLE}
    if name in lookup.BAGS:
        return _bag(i, ExtInst(name), arguments)
    if name == "builtins.type.__new__" and i.unit.fn is not None and i.unit.fn.cls is not None:
        return i.read("made", i.unit.fn.cls) or {UNKNOWN}
    if name in _NOT_HOLDING or name.startswith("builtins.str."):
        return {OUTSIDE} if not name.startswith("builtins.str.") else {TEXT, UNKNOWN}
    if node is not None and solvers.is_matrix_power(name):
        named = [a.values for a in arguments if a.keyword == "n"] or [a.values for a in arguments if a.keyword is None][-1:]
        i.unit.exponents[node] = EMPTY.union(*named)
    if node is not None and name.rpartition(".")[2] == "kl_divergence":
        i.record([Ext(f"{v.name}.log_prob") for v in passed if isinstance(v, ExtInst) and solvers.is_solver(v.name)], node, "callee")
    if node is not None and name.startswith("unittest.mock.patch"):
        i.unit.patches.append(Issue(node, "monkey-patching: something is replaced at run time"))
    if name == "functools.partial":
        powers = {v for v in values[0] if isinstance(v, Ext) and solvers.is_matrix_power(v.name)} if values else set()
        if powers and all(a.values == {POSITIVE} for a in arguments if a.keyword == "n") and any(a.keyword == "n" for a in arguments):
            passed -= powers
        for callee in values[0] if values else ():
            if isinstance(callee, Func):
                bind(i, callee.fn, arguments[1:], skip=callee.bound)
            elif isinstance(callee, Cls):
                passed |= _construct(i, callee, arguments[1:])
        return (passed - ({UNKNOWN} - (values[0] if values else EMPTY))) or {UNKNOWN}
    if name in callbacks.CALLING:
        return (passed | callbacks.run(i, name, arguments, scope)) or {OUTSIDE}
    if name in _SAME or name.startswith(("builtins.", "itertools.", "operator.")):
        if name == "dataclasses.replace":
            _replace(i, arguments)
            passed = set(*values[:1])
        return passed or {OUTSIDE}
    kept = {Ext(name)} if name == _PARAMETRIZED and not passed & _WITHOUT_SOLVE else set()
    return _returned(name) | held(passed) | kept


def _data_loader(i: Interp, arguments: list[Argument], node: ir.Call, scope: Scope) -> Values:
    # A loader yields what its data set returns. What else it is given, such as a collate function, may run with it.
    out: set[Value] = {ExtInst("torch.utils.data.DataLoader")}
    for number, argument in enumerate(arguments):
        if argument.keyword == "dataset" or (number == 0 and argument.keyword is None):
            out |= {Loader(v) if isinstance(v, Inst) else v for v in held(argument.values)}
        else:
            out |= held(argument.values)
    return frozenset(out)


def _bag(i: Interp, bag: Value, arguments: list[Argument]) -> set[Value]:
    # What is passed by keyword is kept under that name; anything else may be any of its attributes.
    for argument in arguments:
        if argument.keyword is not None:
            i.a.push(("bag", argument.keyword), argument.values)
    return {bag}.union(*(a.values for a in arguments if a.keyword is None))


def _returned(name: str) -> set[Value]:
    last = name.rsplit(".", 1)[-1]
    if name.startswith("?."):
        return {UNKNOWN}
    if last in ("__init__", "__setattr__"):
        return set()
    if last[:1].isupper():
        return {ExtInst(name)}
    if name in _STORED:
        return {UNKNOWN}
    if name.startswith("torch.") and not name.startswith(("torch.utils", "torch.optim", "torch.cuda", "torch.nn.Module")):
        return {TENSOR}
    return {ExtInst(f"{name}()") if is_foreign(name) else OUTSIDE}


def _replace(i: Interp, arguments: list[Argument]) -> None:
    for target in arguments[0].values if arguments else ():
        if isinstance(target, Inst):
            for argument in arguments[1:]:
                if argument.keyword is not None:
                    i.a.push(("attr", target.cls, argument.keyword), argument.values)


def _getattr(i: Interp, arguments: list[Argument], node: ir.Call, scope: Scope) -> Values:
    if len(arguments) < 2 and isinstance(node.func, ir.Attribute):
        owner: Values = i.unit.receivers.get(node.func, EMPTY)
        names = arguments[0].values
    elif len(arguments) < 2:
        return frozenset((UNKNOWN,))
    else:
        owner, names = arguments[0].values, arguments[1].values
    if not names:
        return EMPTY
    literal = [n.value for n in names if isinstance(n, Const)]
    out: set[Value] = set()
    for attr in literal:
        out |= lookup.attributes(i, owner, attr)
    if len(literal) != len(names):
        i.issue(node, "getattr with a computed name", "write the attribute, or look it up in a literal table")
        out.add(UNKNOWN)
    if len(arguments) > 2:
        out |= arguments[2].values
    i.record(out, node, "callee_of_call")
    return frozenset(out)


def _setattr(i: Interp, arguments: list[Argument], node: ir.Call, scope: Scope) -> Values:
    if len(arguments) == 3:
        owner, names, values = (a.values for a in arguments)
        literal = [n.value for n in names if isinstance(n, Const)]
        for receiver in owner:
            for attr in literal:
                lookup.store_named(i, receiver, attr, values, node)
            if len(literal) == len(names):
                continue
            if isinstance(receiver, (Ext, Mod, Cls)) and (UNKNOWN in values or callables(values)):
                i.unit.patches.append(Issue(node, "monkey-patching: an attribute is replaced under a computed name at run time"))
            elif callables(values) or isinstance(receiver, (Ext, Mod, Cls)):
                i.issue(node, "setattr with a computed name", "assign the attribute")
    return frozenset((ExtInst("builtins.None"),))


def _super(i: Interp, arguments: list[Argument], node: ir.Call, scope: Scope) -> Values:
    named = [v.cls for a in arguments[:1] for v in a.values if isinstance(v, Cls)]
    fn = function_of(scope)
    while fn is not None and fn.cls is None:
        fn = fn.enclosing
    if named:
        return frozenset((SuperOf(named[0]),))
    return frozenset((SuperOf(fn.cls),)) if fn is not None and fn.cls is not None else frozenset((UNKNOWN,))


def _vars(i: Interp, arguments: list[Argument], node: ir.Call, scope: Scope) -> Values:
    if not arguments:
        return frozenset((Namespace(Mod(scope.module)),))
    return frozenset(Namespace(v) for v in arguments[0].values)


def _type(i: Interp, arguments: list[Argument], node: ir.Call, scope: Scope) -> Values:
    if len(arguments) == 1:
        found = {Cls(v.cls, derived=not v.exact) for v in arguments[0].values if isinstance(v, Inst)}
        return frozenset(found) or frozenset((ExtInst("builtins.type"),))
    return frozenset(v for a in arguments for v in a.values) | {UNKNOWN}


def _cast(i: Interp, arguments: list[Argument], node: ir.Call, scope: Scope) -> Values:
    if len(arguments) != 2:
        return frozenset((UNKNOWN,))
    wanted = i.annotation(arguments[0].node, scope)
    return wanted | {v for v in arguments[1].values if not isinstance(v, UnknownValue)}


def _import(i: Interp, arguments: list[Argument], node: ir.Call, scope: Scope) -> Values:
    names = {v.value for a in arguments[:1] for v in a.values if isinstance(v, Const)}
    return frozenset(lookup.module_value(i.a, n.split(".")[0]) for n in names) | {UNKNOWN}


def _dataclass_fields(i: Interp, arguments: list[Argument], node: ir.Call, scope: Scope) -> Values:
    owners = [v.cls for a in arguments[:1] for v in a.values if isinstance(v, (Inst, Cls))]
    # A field stands for its name, so that `getattr(self, f.name)` is as good as literal.
    return frozenset(Const(name) for cls in owners for name in _fields(i, cls)) or frozenset((UNKNOWN,))


def _field(i: Interp, arguments: list[Argument], node: ir.Call, scope: Scope) -> Values:
    # What a field holds at first: its default, or what its factory makes.
    out: set[Value] = set(held(v for a in arguments for v in a.values))
    for argument in arguments:
        out |= argument.values if argument.keyword == "default" else set()
        for made in argument.values if argument.keyword in ("default_factory", "factory") else ():
            out |= apply(i, made, [], node, scope) if isinstance(made, (Func, Cls)) else set()
    return frozenset(out) or frozenset((OUTSIDE,))


def _methodcaller(i: Interp, arguments: list[Argument], node: ir.Call, scope: Scope) -> Values:
    names = [v for a in arguments for v in a.values]
    literal = {Ext(f"?.{v.value.rsplit('.', 1)[-1]}") for v in names if isinstance(v, Const)}
    if any(not isinstance(v, Const) for a in arguments[:1] for v in a.values):
        i.issue(node, "a method is called under a computed name", "write the call")
    return frozenset(literal | held(names)) | {UNKNOWN}


_SPECIAL = {
    "operator.methodcaller": _methodcaller, "operator.attrgetter": _methodcaller,
    "torch.utils.data.DataLoader": _data_loader, "torch.utils.data.dataloader.DataLoader": _data_loader,
    "dataclasses.fields": _dataclass_fields, "dataclasses.field": _field, "attrs.field": _field, "attr.ib": _field,
    "builtins.getattr": _getattr, "builtins.setattr": _setattr, "builtins.super": _super, "builtins.vars": _vars,
    "builtins.globals": lambda i, arguments, node, scope: frozenset((Namespace(Mod(scope.module)),)),
    "builtins.locals": lambda i, arguments, node, scope: frozenset((Namespace(Mod(scope.module)),)),
    "builtins.type": _type, "builtins.__import__": _import, "typing.cast": _cast,
}  # fmt: skip
