"""What an attribute, an item or an element of an abstract value may be."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

from audits.static.analysis.classes import (
    CONTAINER_READS,
    all_targets,
    call_group,
    call_targets,
    constructors,
    enum_values,
    implicit_methods,
    is_enum,
    is_module,
    members,
    memo,
    meta_calls,
    methods,
    overrides,
    parts,
    takes_context,
    text_methods,
    undefined,
)
from audits.static.analysis.engine import Analysis, Issue
from audits.static.analysis.unknown_calls import known_methods
from audits.static.analysis.values import (
    EMPTY,
    LIMIT,
    NOTHING,
    NUMBER,
    OUTSIDE,
    TENSOR,
    TEXT,
    UNKNOWN,
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
    callables,
    held,
)
from audits.static.libraries.solvers import is_solver
from audits.static.source import ir
from audits.static.source.project import ClassInfo, FunctionInfo, ModuleInfo

if TYPE_CHECKING:
    from audits.static.analysis.interp import Interp

_AUTOGRAD = ("forward", "backward", "setup_context", "jvp", "vmap")
_DATA = re.compile(
    r"^(torch|numpy)\.(b?float\d*|float8_\w+|complex\d+|c(float|double|half)|u?int\d*|bool_?|long|half|double|short|strided|dtype|"
    r"sparse_(coo|cs[rc]|bs[rc])|pi|e|inf|nan|newaxis)$|"
    r"^math\.(pi|e|tau|inf|nan)$|.*\.(shape|dtype|device|ndim)$"
)
ANY_MODULE = frozenset({ExtInst("torch.nn.Module"), ExtInst("torch.nn.modules.module.Module")})
_CONTAINERS = frozenset({"dict", "list", "UserDict", "UserList", "OrderedDict", "defaultdict", "deque", "Dict", "List", "ChainMap"})
_WRAPPED = frozenset({"module", "_orig_mod"})  # what a wrapper of the library calls the module that it holds
_APART = 8  # the classes below one that its class methods tell apart
NAMED_TUPLE = ExtInst("collections.namedtuple")
BAG = ExtInst("types.SimpleNamespace")
BAGS = frozenset({BAG.name, "threading.local"})  # objects without a class that say what they hold
CHILDREN = frozenset({"children", "modules", "named_children", "named_modules", "_modules", "get_submodule"})


# -- attributes


def attributes(i: Interp, receivers: Iterable[Value], name: str) -> Values:
    """Attribute `name` of any of the receivers."""
    receivers = frozenset(receivers)
    bags = {r for r in receivers if isinstance(r, ExtInst) and r.name in BAGS}
    if bags and not name.startswith("_"):
        return _of_bag(i, receivers - bags, name)
    out: set[Value] = set()
    vague: list[Value] = []
    for receiver in receivers:
        if receiver is UNKNOWN or receiver in ANY_MODULE or (receiver is NOTHING and len(receivers) == 1 and i.hot):
            vague.append(receiver)
        else:
            out |= attribute(i, receiver, name)
    if not any(isinstance(v, (Func, Cls, Inst, Mod)) for v in out):  # beside what is known, what may be anything adds nothing
        for receiver in vague:
            out |= attribute(i, receiver, name) if receiver is not NOTHING else _of_none(i, name)
            out |= of_any_module(i, name) if receiver in ANY_MODULE and name != "forward" else EMPTY
    return i.or_unknown(frozenset(out))


def _of_none(i: Interp, name: str) -> Values:
    # An argument that is None unless somebody passes it, and whom nobody that can be read passes.
    return _by_name(i, name) if i.unit.settled else EMPTY


def _of_bag(i: Interp, others: Values, name: str) -> Values:
    kept = i.read("bag", name) | i.read("uattr", name)
    if name in known_methods():  # of a list of such objects, or of a tensor among what they hold
        return frozenset(kept) | {Ext(f"?.{name}")} | {v for v in others if isinstance(v, Ext) and is_solver(v.name)}
    return i.or_unknown(others | kept)


def as_value(values: Values) -> Values:
    """What an attribute stands for once it has been noted: a member of an outside object is an outside object."""
    out: set[Value] = set()
    for value in values:
        if isinstance(value, Ext) and value.name.startswith("torch.Tensor."):
            out.add(TENSOR)
        elif isinstance(value, Ext) and (value.name.startswith("?.") or _DATA.match(value.name)):
            out.add(OUTSIDE)
        elif not isinstance(value, (Named, Overrides)):
            out.add(value)
    return frozenset(out - {OUTSIDE} if UNKNOWN in out else out)


def attribute(i: Interp, value: Value, name: str) -> Values:
    """Attribute `name` of `value`; empty where nothing is known yet."""
    if name == "__dict__":
        return frozenset((Namespace(value),))
    if name == "__class__" and isinstance(value, Inst):
        return frozenset((Cls(value.cls, derived=not value.exact),))
    if isinstance(value, Mod):
        return module_attribute(i, value.module, name)
    if isinstance(value, Inst):
        return _instance_attribute(i, value, name)
    if isinstance(value, Cls):
        return _class_attribute(i, value, name)
    if isinstance(value, SuperOf):
        return _super_attribute(i, value, name)
    if isinstance(value, Loader):
        return frozenset((value.of,)) if name == "dataset" else frozenset((Ext(f"?.{name}"),))
    if isinstance(value, Func):
        kept = ("register", "__name__", "__doc__", "__module__", "__qualname__")
        return frozenset((TEXT,)) if name in kept else frozenset((value,)) | i.read("fattr", value.fn, name)
    if isinstance(value, Ext):
        found = _outside(i.a, value.name, name)
        # A function has no members to speak of: the receiver is something that holds it.
        keeps = is_solver(value.name) and not name.startswith("__") and "torch.ops" not in value.name
        return frozenset((found, value)) if keeps else frozenset((found,))
    if isinstance(value, ExtInst):
        return _outside_instance(i, value, name)
    if isinstance(value, UnknownValue):
        return _by_name(i, name)
    if isinstance(value, Const):
        if name == "name":
            return frozenset((value,))
        return frozenset((Ext(f"builtins.str.{name}"),)) if hasattr(str, name) else EMPTY
    return EMPTY


def _outside(a: Analysis, base: str, name: str) -> Value:
    if base.startswith("torch.Tensor."):
        base = "torch.Tensor"
    if base.startswith("?.") or base.count(".") > (1 if base.startswith("builtins.") else 5):
        return Ext(f"?.{name}")
    full = f"{base}.{name}"
    module = a.project.modules.get(full)
    return Mod(module) if module is not None else Ext(full)


def _outside_instance(i: Interp, value: ExtInst, name: str) -> Values:
    if value.name == "builtins.None":
        return EMPTY
    if value.name.endswith("()"):
        return frozenset((Ext(f"?.{name}"),))
    known = value.name == "torch.Tensor" or value.name.startswith(("torch.nn", "torch.optim")) or is_solver(value.name)
    if not known:
        # Nothing is known of the members of other outside classes but their names.
        return frozenset((Ext(f"?.{name}"),))
    return frozenset((Ext(f"{value.name}.{name}"),))


def of_any_module(i: Interp, name: str) -> Values:
    """What `name` is on `model: nn.Module`, which may be any module of the packages; found once nothing better turns up."""
    if not i.unit.settled:
        i.unit.starved = True
        return EMPTY
    found = memo(i, ("of modules", name), i.unit.module, lambda inner: _of_modules(inner, name))
    if len(found) > LIMIT:
        return frozenset((Named(name),))
    return frozenset(Func(fn, bound=True) for fn in found)


def _of_modules(i: Interp, name: str) -> list[FunctionInfo]:
    return [fn for fn in i.a.project.methods_named.get(name, ()) if fn.cls is not None and is_module(i, fn.cls)]


def _by_name(i: Interp, name: str) -> Values:
    out: set[Value] = {Ext(f"?.{name}")}
    if name in i.a.project.methods_named:
        out.add(Named(name))
    out |= held(i.read("uattr", name)) if not name.startswith("__") else set()
    return frozenset(out | {UNKNOWN})


def _bind(i: Interp, found: Values, *, bound: bool) -> Values:
    out: set[Value] = set()
    for value in found:
        if not isinstance(value, Func) or value.fn.cls is None:
            out.add(value)
        elif "setter" in value.fn.flags or "deleter" in value.fn.flags:
            continue  # reading runs the getter only
        elif "property" in value.fn.flags and bound:
            i.record((value,), value.fn.node if i.unit.fn is None else i.unit.fn.node, "callee")
            out |= i.read("ret", value.fn, i.hot)
        else:
            out.add(Func(value.fn, bound=(bound or "classmethod" in value.fn.flags) and "staticmethod" not in value.fn.flags))
    return frozenset(out)


def _given(i: Interp, found: Values, receiver: Inst | Cls, name: str) -> Values:
    # A descriptor stands for what its getter gives.
    if "__get__" not in i.a.project.methods_named:
        return found
    out: set[Value] = set()
    for value in found:
        getters = methods(i, value.cls, "__get__", exact=value.exact) if isinstance(value, Inst) else []
        for fn in getters:
            i.record((Func(fn, bound=True),), i.unit.fn.node if i.unit.fn else fn.node, "callee")
            given: tuple[Value, Value] = (receiver, Cls(receiver.cls)) if isinstance(receiver, Inst) else (NOTHING, receiver)
            for param, one in zip(fn.positional[1:], given, strict=False):
                i.push_name(fn.scope, param.name, [one])
            out |= i.read("ret", fn, i.hot)
        for fn in methods(i, value.cls, "__set_name__", exact=value.exact) if isinstance(value, Inst) and getters else ():
            i.record((Func(fn, bound=True),), i.unit.fn.node if i.unit.fn else fn.node, "callee")
            for param in fn.positional[2:3]:
                i.push_name(fn.scope, param.name, [Const(name)])
        out |= {value} if not getters else set()
    return frozenset(out)


def _own_class(i: Interp, found: Values, receiver: Inst | Cls) -> None:
    # A class method runs with the class that it is taken from; of many classes, only their common base is told.
    for value in found:
        if isinstance(value, Func) and value.fn.cls is not None and "classmethod" in value.fn.flags and value.fn.node.params:
            derived = receiver.derived if isinstance(receiver, Cls) else not receiver.exact
            cls = Cls(receiver.cls, derived=derived)
            if receiver.cls is not value.fn.cls and len(i.a.below(value.fn.cls)) > _APART:
                cls = Cls(value.fn.cls, derived=True)
            i.push_name(value.fn.scope, value.fn.node.params[0].name, [cls])


def _instance_attribute(i: Interp, value: Inst, name: str) -> Values:
    found = members(i, value.cls, name, exact=value.exact)
    if len(found) > LIMIT:
        apart = frozenset(v for v in found if not isinstance(v, Func) or "property" in v.fn.flags)
        return _bind(i, apart, bound=True) | frozenset((Overrides(value.cls, name),))
    if found:
        _own_class(i, found, value)
        out = _bind(i, _given(i, found, value, name), bound=True)
        # A field that is declared with an outside type may hold one of the packages' own; both are kept.
        return out or EMPTY
    outside = i.a.outside_bases(i.unit, value.cls)
    if name in ("value", "_value_") and is_enum(outside):
        return enum_values(i, value.cls)
    if name in _WRAPPED and is_module(i, value.cls):
        return frozenset((value,))
    if name in CHILDREN and outside:
        children: set[Value] = {Ext(f"{b}.{name}") for b in outside}
        return frozenset(children | parts(i, value.cls))
    getters = [v for v in members(i, value.cls, "__getattr__", exact=value.exact) if isinstance(v, Func)]
    if getters:
        i.record(getters, i.unit.fn.node if i.unit.fn else getters[0].fn.node, "callee")
        answers: set[Value] = {UNKNOWN, Ext(f"?.{name}")}
        return frozenset(answers.union(*(i.read("ret", g.fn, i.hot) for g in getters)))
    real = {b for b in outside if not b.startswith(("typing.", "abc.", "enum.", "builtins.object"))}
    if real:
        return frozenset(Ext(f"{b}.{name}") for b in real)
    if name in CONTAINER_READS:
        return frozenset((value,))
    return _by_name(i, name) if i.unit.settled else EMPTY


def _class_attribute(i: Interp, value: Cls, name: str) -> Values:
    found = members(i, value.cls, name, exact=False)
    if found:
        _own_class(i, found, value)
        members_of_enum = is_enum(i.a.outside_bases(i.unit, value.cls))
        plain = members_of_enum and any(not isinstance(v, Func) for v in found)
        return _bind(i, _given(i, found, value, name), bound=False) | (frozenset((Inst(value.cls, exact=True),)) if plain else EMPTY)
    for owner in i.a.mro(i.unit, value.cls):
        for meta in i.read("meta", owner):
            of_meta = members(i, meta.cls, name, exact=True) if isinstance(meta, Cls) else EMPTY
            if of_meta:
                return _bind(i, of_meta, bound=True)
    if name == "apply":
        out = [Func(fn, bound=True) for step in _AUTOGRAD for fn in methods(i, value.cls, step)]
        if out:
            return frozenset(out)
    if name == "__subclasses__":
        i.read("family", value.cls)
        return frozenset((Cls(value.cls, derived=True),)) if i.a.below(value.cls) else EMPTY
    outside = i.a.outside_bases(i.unit, value.cls)
    if is_enum(outside):
        return enum_values(i, value.cls) if name in ("value", "_value_") else frozenset((Inst(value.cls, exact=True),))
    return frozenset(Ext(f"{b}.{name}") for b in outside if not b.startswith(("typing.", "abc.")))


def _super_attribute(i: Interp, value: SuperOf, name: str) -> Values:
    found = members(i, value.cls, name, exact=False, after=value.cls)
    if found:
        _own_class(i, found, Cls(value.cls, derived=True))
        return _bind(i, found, bound=True)
    if name == "__call__":
        forward = members(i, value.cls, "forward", exact=False)
        if forward:
            return _bind(i, forward, bound=True)
    outside = i.a.outside_bases(i.unit, value.cls)
    return frozenset(Ext(f"{b}.{name}") for b in outside) or frozenset((Ext(f"builtins.object.{name}"),))


# -- modules


def module_value(a: Analysis, dotted: str) -> Value:
    """The module that an import of `dotted` yields."""
    module = a.project.modules.get(dotted)
    return Mod(module) if module is not None else Ext(dotted)


def module_attribute(i: Interp, module: ModuleInfo, name: str) -> Values:
    """A name of a module, through re-exports, star imports, submodules and a module-level `__getattr__`."""
    out: set[Value] = set()
    if name in module.scope.names:
        out |= i.read(*i.a.name_key(module.scope, name, hot=False))
    submodule = i.a.project.modules.get(f"{module.name}.{name}")
    if submodule is not None:
        out.add(Mod(submodule))
    if out or name in module.scope.names:
        return frozenset(out)
    values, outside = from_stars(i, module, name)
    if values or outside:
        found: set[Value] = {Ext(f"{m}.{name}") for m in outside}
        return values or frozenset(found)
    if "__getattr__" in module.functions:
        getter = module.functions["__getattr__"]
        i.record((Func(getter),), i.unit.fn.node if i.unit.fn else getter.node, "callee")
        answers: set[Value] = {UNKNOWN, Ext(f"?.{name}")}
        return frozenset(answers | i.read("ret", getter, i.hot))
    return EMPTY


def from_stars(i: Interp, module: ModuleInfo, name: str, seen: tuple[ModuleInfo, ...] = ()) -> tuple[Values, list[str]]:
    """What star imports bring in under `name`: values from the packages, and outside modules that may have it."""
    outside: list[str] = []
    for source in module.scope.stars:
        origin = i.a.project.modules.get(source)
        if origin is None:
            outside.append(source)
        elif origin not in seen:
            if name in origin.scope.names:
                return frozenset(i.read(*i.a.name_key(origin.scope, name, hot=False))), []
            values, more = from_stars(i, origin, name, (*seen, module))
            if values:
                return values, []
            outside += more
    return EMPTY, outside


# -- items and elements


def items(i: Interp, base: Values, index: Values, node: ir.Subscript) -> Values:
    """`base[index]`; a container stands for its elements, so mostly the base itself."""
    out: set[Value] = set()
    for value in base:
        if isinstance(value, Namespace):
            out |= _namespace_items(i, value, index, node)
        elif isinstance(value, Ext) and value.name == "sys.modules":
            i.issue(node, "sys.modules is read", "import the module by name")
            out |= {module_value(i.a, k.value) for k in index if isinstance(k, Const)}
        elif isinstance(value, Ext) and value.name.startswith("jaxtyping."):
            out |= {Ext("torch.Tensor") if v == Ext("torch.Tensor") else v for v in index if isinstance(v, (Ext, Cls))}
        elif isinstance(value, Ext) and _is_type_constructor(value.name):
            callable_type = value.name.endswith(".Callable")
            out |= {value} if callable_type else {v for v in index if not isinstance(v, (Const, ExtInst))}
            out |= {v for v in index if isinstance(v, Const)} if not value.name.endswith("Literal") else set()
        elif isinstance(value, Const) and isinstance(node.index, ir.Slice) and _cuts_text(node):
            out |= {TEXT, UNKNOWN}
        elif isinstance(value, Cls):
            i.record([Func(g) for g in methods(i, value.cls, "__class_getitem__")], node, "callee")
            out.add(value)
        elif isinstance(value, Inst):
            getters = methods(i, value.cls, "__getitem__", exact=value.exact)
            i.record([Func(g) for g in getters], node, "callee")
            out |= frozenset((value,)).union(*(i.read("ret", g, i.hot) for g in getters)) | stored_items(i, value.cls)
        else:
            out.add(value)
    return i.or_unknown(frozenset(out))


def _cuts_text(node: ir.Subscript) -> bool:
    # A slice of a list of names keeps the names; a slice of a name, or one with a step, does not.
    return isinstance(node.value, (ir.Constant, ir.FString, ir.BinOp)) or (isinstance(node.index, ir.Slice) and node.index.step is not None)


def _is_type_constructor(name: str) -> bool:
    root, _, last = name.partition(".")
    return root in ("typing", "typing_extensions", "collections", "builtins", "types") and last != "Any"


def _namespace_items(i: Interp, value: Namespace, index: Values, node: ir.Subscript) -> Values:
    names = [k.value for k in index if isinstance(k, Const)]
    if not names or len(names) != len(index):
        i.issue(node, "a namespace is indexed with a computed name", "name the attribute literally")
    return EMPTY.union(*(attribute(i, value.of, n) for n in names)) or frozenset((UNKNOWN,))


def stored_items(i: Interp, cls: ClassInfo) -> set[Value]:
    """What is put under keys of instances of a class that derives from a container."""
    bases = i.a.outside_bases(i.unit, cls)
    if not any(b.rsplit(".", 1)[-1] in _CONTAINERS for b in bases):
        return set()
    data = members(i, cls, "data", exact=False) if any(".User" in b for b in bases) else EMPTY
    return set(data).union(*(i.read("items", owner) for owner in i.a.mro(i.unit, cls)))


def elements(i: Interp, values: Values) -> Values:
    """What iterating over any of `values` yields."""
    out: set[Value] = {v for v in values if not isinstance(v, Loader)}
    for value in values:
        value = value.of if isinstance(value, Loader) else value
        if isinstance(value, Inst):
            for name in ("__iter__", "__next__", "__getitem__"):
                for fn in methods(i, value.cls, name, exact=value.exact):
                    out |= i.read("ret", fn, i.hot)
    return frozenset(out)


def entered(i: Interp, values: Values) -> Values:
    """What `with value as x` binds to x."""
    out: set[Value] = set(values)
    for value in values:
        if isinstance(value, Inst):
            for fn in methods(i, value.cls, "__enter__", exact=value.exact):
                out |= i.read("ret", fn, i.hot)
    return frozenset(out)


def operator_results(i: Interp, operands: Values) -> Values:
    """What operators of the packages' own classes return."""
    out: set[Value] = set()
    for value in operands:
        if isinstance(value, Inst) and len(implicit_methods(i, value)) > LIMIT:
            out.add(UNKNOWN)
        elif isinstance(value, Inst):
            for fn in implicit_methods(i, value):
                if fn.node.name.startswith("__"):
                    out |= i.read("ret", fn, i.hot)
    return frozenset(out)


# -- stores


def store_attribute(i: Interp, receivers: Values, node: ir.Attribute, values: Values, *, item: bool = False) -> None:
    """`receiver.attr = values`, or putting `values` into the container `receiver.attr`."""
    for receiver in receivers:
        store_named(i, receiver, node.attr, values, node, item=item)


def store_named(i: Interp, receiver: Value, name: str, values: Values, node: ir.Node, *, item: bool = False) -> None:
    """Bind attribute `name` of one receiver."""
    new = callables(values)
    if isinstance(receiver, Inst):
        _run_setters(i, receiver, name, values, node)
    if isinstance(receiver, (Inst, Cls, SuperOf)):
        i.a.push(("attr", receiver.cls, name), values)
        i.a.push(("parts", receiver.cls), {v for v in values if isinstance(v, (Inst, Func))})
    elif isinstance(receiver, Mod):
        receiver.module.scope.names.add(name)
        i.push_name(receiver.module.scope, name, values)
    elif isinstance(receiver, Func):
        i.a.push(("fattr", receiver.fn, name), values)
    if isinstance(receiver, (Inst, Cls, UnknownValue, ExtInst)):
        i.a.push(("uattr", name), values)
    if isinstance(receiver, ExtInst) and receiver.name.startswith("torch.nn."):
        # A module of the library that holds one of the packages' own, or runs a function in place of its own.
        run = {Func(fn) for v in new_modules(i, values) for fn, _ in call_targets(i, v)}
        i.a.push(("hooks", None), run | (new if name == "forward" or name.endswith("_hooks") else set()))
    elif isinstance(receiver, (Inst, SuperOf)) and name.endswith("_hooks"):
        i.a.push(("hooks", receiver.cls), new)
    if new and not item and isinstance(receiver, (Ext, Mod, Cls)) and not (isinstance(receiver, Cls) and _builds(i, receiver.cls)):
        what = {Ext: "module or class", Mod: "module", Cls: "class"}[type(receiver)]
        i.unit.patches.append(Issue(node, f"monkey-patching: attribute {name!r} of a {what} is replaced at run time"))


def _builds(i: Interp, cls: ClassInfo) -> bool:
    # A class's own methods, those of its bases and metaclasses, and decorators of classes are where the class is made.
    fn = i.unit.fn
    if fn is None:
        return False
    return fn in i.a.decorators or fn.cls in i.a.mro(i.unit, cls) or fn.cls in i.a.metaclasses(i.unit, cls)


def _run_setters(i: Interp, receiver: Inst, name: str, values: Values, node: ir.Node) -> None:
    known = i.a.project.methods_named
    found: list[tuple[FunctionInfo, int]] = []  # each with the position of the value among its parameters
    if any("setter" in fn.flags for fn in known.get(name, ())):
        found += [(fn, 1) for fn in methods(i, receiver.cls, name, exact=receiver.exact) if "setter" in fn.flags]
    if "__setattr__" in known:
        found += [(fn, 2) for fn in methods(i, receiver.cls, "__setattr__", exact=receiver.exact)]
    if "__set__" in known:
        descriptors = [v for v in members(i, receiver.cls, name, exact=receiver.exact) if isinstance(v, Inst)]
        found += [(fn, 2) for v in descriptors for fn in methods(i, v.cls, "__set__", exact=v.exact)]
    for fn, position in found:
        i.record((Func(fn, bound=True),), node, "callee")
        for param in fn.positional[position : position + 1]:
            i.push_name(fn.scope, param.name, values)


def new_modules(i: Interp, values: Values) -> list[Inst]:
    """The instances among `values` that are modules of the packages."""
    return [v for v in values if isinstance(v, Inst) and is_module(i, v.cls)]


def store_item(i: Interp, owner: Value, keys: Values, values: Values, node: ir.Node) -> None:
    """`owner[key] = values` where that writes a namespace."""
    if isinstance(owner, (Inst, SuperOf)):
        i.a.push(("items", owner.cls), values)
    elif isinstance(owner, Namespace):
        names = [k.value for k in keys if isinstance(k, Const)]
        for name in names:
            store_named(i, owner.of, name, values, node)
        if not names and callables(values):
            i.unit.patches.append(Issue(node, "monkey-patching: a namespace is written under a computed name"))
    elif isinstance(owner, Ext) and owner.name == "sys.modules":
        i.unit.patches.append(Issue(node, "monkey-patching: sys.modules is written"))


__all__ = [
    "CONTAINER_READS", "NUMBER", "all_targets", "attribute", "attributes", "call_group", "call_targets", "constructors", "elements",
    "entered", "enum_values", "implicit_methods", "is_enum", "items", "members", "meta_calls", "methods", "overrides", "parts",
    "stored_items", "takes_context", "text_methods", "undefined",
]  # fmt: skip
