"""What classes of the packages hold, and what runs when they are called, instantiated or handed over."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from audits.static.analysis.engine import Key, Memo
from audits.static.analysis.values import NOTHING, WIDE, Cls, Ext, Func, Inst, Overrides, UnknownValue, Value, Values
from audits.static.source import ir
from audits.static.source.project import ClassInfo, FunctionInfo, ModuleInfo, bound_names

if TYPE_CHECKING:
    from audits.static.analysis.interp import Interp

_CONSTRUCTORS = ("__new__", "__init__", "__post_init__", "__del__")
_OF_TENSORS = ("__torch_function__", "__torch_dispatch__")  # run by every operation on a tensor of the class
_NOT_IMPLICIT = frozenset(
    {*_CONSTRUCTORS, "__call__", "__repr__", "__str__", "__init_subclass__", "__class_getitem__", "__del__", "__getstate__",
     "__setstate__", "__reduce__", "__dir__", "__format__", "__sizeof__"}
)  # fmt: skip
_MODULES = re.compile(r"^torch\.nn\.(modules\.\w+\.)?(Module|Sequential|ModuleList|ModuleDict)$")
_OF_MODULES = frozenset(
    {"add_module", "append", "apply", "bfloat16", "buffers", "children", "clear", "compile", "cpu", "cuda", "double", "eval", "extend",
     "extra_repr", "float", "forward", "get_buffer", "get_extra_state", "get_parameter", "get_submodule", "half", "insert", "ipu",
     "items", "keys", "load_state_dict", "modules", "mtia", "named_buffers", "named_children", "named_modules", "named_parameters",
     "parameters", "pop", "register_backward_hook", "register_buffer", "register_forward_hook", "register_forward_pre_hook",
     "register_full_backward_hook", "register_full_backward_pre_hook", "register_load_state_dict_post_hook",
     "register_load_state_dict_pre_hook", "register_module", "register_parameter", "register_state_dict_post_hook",
     "register_state_dict_pre_hook", "requires_grad_", "set_extra_state", "set_submodule", "share_memory", "state_dict", "to",
     "to_empty", "train", "type", "update", "values", "xpu", "zero_grad"}
)  # fmt: skip
CONTAINER_READS = frozenset({"get", "pop", "values", "items", "keys", "copy", "setdefault", "popleft", "popitem"})
_OF_TUPLES = frozenset({"_replace", "_asdict", "count", "index", "mro"})


def undefined(i: Interp, values: Iterable[Value], name: str) -> ClassInfo | None:
    """A class of `values` where all of them are instances on which nothing that can be read, bases included, defines `name`."""
    kept = [v for v in values if not isinstance(v, UnknownValue) and v is not NOTHING]
    if name.startswith("__") or name in _OF_TUPLES | CONTAINER_READS:
        return None
    classes = [v.cls for v in kept if isinstance(v, Inst) and _lacks(i, v, name)]
    return classes[0] if classes and len(classes) == len(kept) else None


def _lacks(i: Interp, value: Inst, name: str) -> bool:
    if any(members(i, value.cls, n, exact=value.exact) for n in (name, "__getattr__", "__getattribute__")):
        return False
    outside = {b for b in i.a.outside_bases(i.unit, value.cls) if not b.startswith(("typing.", "abc.", "builtins.object"))}
    return all(_MODULES.match(b) for b in outside) and not (outside and name in _OF_MODULES)


def members(i: Interp, cls: ClassInfo, name: str, *, exact: bool, after: ClassInfo | None = None) -> Values:
    """What `name` is on an instance of `cls`: from its classes, its instances and, unless exact, its subclasses."""
    return i.a.member(i.unit, cls, name, exact=exact, after=after)


def overrides(i: Interp, value: Overrides) -> list[FunctionInfo]:
    """The functions behind a method of too many classes."""
    return memo(i, ("overrides", value), value.cls.module, lambda inner: methods(inner, value.cls, value.name))


def all_targets(i: Interp, value: Inst) -> list[FunctionInfo]:
    """The functions that calling an instance runs, for who asks whether they are too many."""
    return memo(i, ("targets", value), value.cls.module, lambda inner: [fn for fn, _ in call_targets(inner, value)])


def call_group(i: Interp, group: Key, functions: list[FunctionInfo]) -> None:
    """Let anything flow into the parameters of functions that are too many to bind arguments to them one by one."""
    if i.a.called_groups.get((group, i.hot)) is not functions:
        i.a.called_groups[group, i.hot] = functions
        for fn in functions:
            for param in fn.positional[1:]:
                i.push_name(fn.scope, param.name, (WIDE,))


def methods(i: Interp, cls: ClassInfo, name: str, *, exact: bool = False) -> list[FunctionInfo]:
    """The functions that `name` may be on an instance of `cls`."""
    return [v.fn for v in members(i, cls, name, exact=exact) if isinstance(v, Func)]


def memo(i: Interp, key: Key, module: ModuleInfo, find: Callable[[Interp], list[FunctionInfo]]) -> list[FunctionInfo]:
    """What `find` finds, looked for once for all units, and again whenever something that it has read grows."""
    i.a.readers.setdefault(key, {})[i.unit] = None
    known = i.a.memos.get(key)
    if known is None:
        known = i.a.memos[key] = Memo(module, None, hot=False, key=key, find=find)
        known.run(i.a)
    return known.found


def constructors(i: Interp, value: Cls) -> list[FunctionInfo]:
    """What runs when a class is called."""
    return memo(i, ("constructors", value), value.cls.module, lambda inner: _of_family(inner, value))


def _of_family(i: Interp, value: Cls) -> list[FunctionInfo]:
    if not value.derived:
        return _constructors(i, value.cls)
    i.read("family", value.cls)
    return [fn for cls in (value.cls, *i.a.below(value.cls)) for fn in _constructors(i, cls)]


def _constructors(i: Interp, cls: ClassInfo) -> list[FunctionInfo]:
    out = [fn for name in (*_CONSTRUCTORS, *_OF_TENSORS) for fn in methods(i, cls, name, exact=True)]
    for base in i.read("bases", cls):
        if isinstance(base, Ext) and base.name.startswith("enum"):
            return []
    out += meta_calls(i, cls)
    for owner in i.a.mro(i.unit, cls):
        for name in _factories(owner):
            out += [v.fn for v in i.read(*i.a.name_key(owner.scope, name, hot=False)) if isinstance(v, Func)]
    return out


def meta_calls(i: Interp, cls: ClassInfo) -> list[FunctionInfo]:
    """What a metaclass runs, with the arguments of the call, where `cls` is called."""
    metas = i.a.metaclasses(i.unit, cls)
    return [fn for meta in metas for fn in methods(i, meta, "__call__", exact=True)]


def _factories(cls: ClassInfo) -> list[str]:
    # The fields whose default a function makes, whenever an instance is made.
    return [
        ir.last_name(s.targets[0])
        for s in cls.node.body
        if isinstance(s, ir.Assign)
        and isinstance(s.value, ir.Call)
        and any(a.keyword in ("default_factory", "factory") for a in s.value.args)
    ]


def text_methods(i: Interp, values: Iterable[Value]) -> list[Value]:
    """What runs when instances become text."""
    found = [fn for v in values if isinstance(v, Inst) for n in ("__str__", "__repr__", "__format__") for fn in methods(i, v.cls, n)]
    return [Func(fn) for fn in found]


def implicit_methods(i: Interp, value: Inst) -> list[FunctionInfo]:
    """What may run where an instance stands: its operators; its call only runs where something calls it."""
    return memo(i, ("implicit", value), value.cls.module, lambda inner: _implicit_methods(inner, value))


def _implicit_methods(i: Interp, value: Inst) -> list[FunctionInfo]:
    i.read("above", value.cls)
    if not value.exact:
        i.read("below", value.cls)
    return [fn for name in _special_names(i, value) for fn in methods(i, value.cls, name, exact=value.exact)]


def _special_names(i: Interp, value: Inst) -> list[str]:
    family = [value.cls] if value.exact else [value.cls, *i.a.below(value.cls)]
    owners = dict.fromkeys(owner for candidate in family for owner in i.a.order(candidate))
    names = {n for owner in owners for n in owner.scope.names if n.startswith("__") and n.endswith("__")}
    return sorted(names - _NOT_IMPLICIT)


def call_targets(i: Interp, value: Inst, seen: tuple[ClassInfo, ...] = ()) -> list[tuple[FunctionInfo, bool]]:
    """The functions that calling an instance runs, each with whether it receives the call's arguments."""
    direct = methods(i, value.cls, "__call__", exact=value.exact)
    forward = methods(i, value.cls, "forward", exact=value.exact) if not direct or is_module(i, value.cls) else []
    out = [(fn, True) for fn in [*direct, *forward]]
    hooks = set(i.read("hooks", value.cls)) | i.read("hooks", None)
    for owner in i.a.mro(i.unit, value.cls):
        hooks |= i.read("hooks", owner)
    out += [(h.fn, False) for h in hooks if isinstance(h, Func)]
    if not direct and not forward and is_module(i, value.cls):
        for child in parts(i, value.cls):
            if isinstance(child, Inst) and child.cls is not value.cls and child.cls not in seen:
                out += [(fn, False) for fn, _ in call_targets(i, child, (*seen, value.cls))]
            elif isinstance(child, Func):
                out.append((child.fn, False))
    return out


def parts(i: Interp, cls: ClassInfo) -> set[Value]:
    """Everything that instances of `cls` hold."""
    out: set[Value] = set()
    for owner in i.a.mro(i.unit, cls):
        out |= i.read("parts", owner)
    return out


def is_enum(outside: Iterable[str]) -> bool:
    """Whether one of the outside bases of a class makes it an enumeration."""
    return any(b.startswith("enum.") for b in outside)


def enum_values(i: Interp, cls: ClassInfo) -> Values:
    """The values of an enumeration's members."""
    names = sorted(n for s in cls.node.body if isinstance(s, ir.Assign) for t in s.targets for n in bound_names(t))
    return frozenset().union(*(i.read(*i.a.name_key(cls.scope, n, hot=False)) for n in names))


def is_module(i: Interp, cls: ClassInfo) -> bool:
    """Whether the class derives from a module of the library."""
    return any(b.startswith("torch.") or b.endswith("Module") for b in i.a.outside_bases(i.unit, cls))


def takes_context(i: Interp, fn: FunctionInfo) -> bool:
    """Whether the first parameter is the context that an autograd function is handed by the library."""
    if fn.cls is None or "staticmethod" not in fn.flags or fn.node.name not in ("forward", "backward", "setup_context", "jvp", "vjp"):
        return False
    separate = fn.node.name == "forward" and bool(methods(i, fn.cls, "setup_context", exact=True))
    return not separate and any(b.startswith("torch.autograd") for b in i.a.outside_bases(i.unit, fn.cls))
