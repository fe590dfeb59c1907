"""What is known of one kind of configuration, and what building and writing look like in code."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from audits.static.analysis.values import NOTHING, UnknownValue
from audits.static.dataflow import usage
from audits.static.source import ir
from audits.static.source.project import ClassInfo, FunctionInfo, ModuleInfo

_API = re.compile(
    r"^(__\w+__|model_\w+|_asdict|_replace|_fields|_field_defaults|_make|dict|json|copy|construct|parse_obj|parse_raw|parse_file|schema|"
    r"schema_json|from_orm|update_forward_refs|validate|fields)$"
)
_MAPPING_API = frozenset({"keys", "values", "items", "get", "pop", "update", "setdefault", "copy", "clear", "popitem", "fromkeys"})
_TUPLE_API = frozenset({"count", "index"})
_MUTABLE = frozenset(
    {"list", "dict", "set", "List", "Dict", "Set", "MutableMapping", "MutableSequence", "defaultdict", "OrderedDict", "deque"}
)
_CONTAINERS = _MUTABLE | {
    "Mapping", "Sequence", "Iterable", "Iterator", "Collection", "tuple", "Tuple", "frozenset", "FrozenSet",
}  # fmt: skip
_LITERALS = frozenset(
    {"dict", "SimpleNamespace", "Namespace", "OrderedDict", "EasyDict", "AttrDict", "Munch", "Box", "DotMap", "DictConfig", "ConfigDict"}
)
BUILDING = frozenset(
    {
        "__init__",
        "__new__",
        "__post_init__",
        "__attrs_post_init__",
        "__attrs_pre_init__",
        "model_post_init",
        "__setstate__",
        "__init_subclass__",
    }
)
_VALIDATORS = frozenset({"model_validator", "field_validator", "validator", "root_validator", "field_serializer", "model_serializer"})


@dataclass(eq=False)
class Schema:
    """One kind of configuration: its keys, the members beside them, and what each key holds."""

    name: str
    module: ModuleInfo
    cls: ClassInfo | None = None
    keys: dict[str, ir.Node] = field(default_factory=dict)
    members: set[str] = field(default_factory=set)
    nested: dict[str, set[Schema]] = field(default_factory=dict)
    closed: bool = True
    mapping: bool = False
    container_keys: set[str] = field(default_factory=set)
    several: dict[str, int] = field(default_factory=dict)  # keys that hold containers, and how many inside one another
    is_tuple: bool = False
    elements: frozenset[Schema] | None = None  # of a list or a dictionary of configurations
    open: bool = False  # of which nothing but the name is known

    def has(self, name: str) -> bool:
        """Whether reading `name` is reading something declared."""
        if not self.closed or name in self.keys or name in self.members:
            return True
        if self.mapping:
            return name in _MAPPING_API
        return bool(_API.match(name)) or (self.is_tuple and name in _TUPLE_API)


def container_of(owner: Schema, key: str, elements: set[Schema], levels: int = 1) -> Schema:
    """What a key holds whose value is a list, a dictionary or a set of configurations, or of such containers."""
    for _ in range(levels - 1):
        elements = {container_of(owner, key, elements)}
    return Schema(f"{owner.name}.{key}", owner.module, closed=False, elements=frozenset(elements))


def literal_entries(expr: ir.Expr) -> list[tuple[str | None, ir.Node, ir.Expr]] | None:
    """The entries of a dictionary or namespace that is written down; the name is None where it is not literal."""
    if isinstance(expr, ir.Dict):
        return [
            (k.value if isinstance(k, ir.Constant) and isinstance(k.value, str) else None, k or v, v)
            for k, v in zip(expr.keys, expr.values, strict=True)
        ]
    if not isinstance(expr, ir.Call) or ir.last_name(expr.func) not in _LITERALS:
        return None
    out: list[tuple[str | None, ir.Node, ir.Expr]] = []
    for arg in expr.args:
        inner = literal_entries(arg.value) if arg.keyword is None else None
        out += inner if inner is not None else [(arg.keyword, arg, arg.value)]
    return out


def is_validator(fn: FunctionInfo) -> bool:
    """Whether a decorator makes the method run when an instance is validated."""
    return any(ir.last_name(d.func if isinstance(d, ir.Call) else d) in _VALIDATORS or _attrs_validator(d) for d in fn.node.decorators)


def _attrs_validator(decorator: ir.Expr) -> bool:
    return isinstance(decorator, ir.Attribute) and decorator.attr in ("validator", "default")


def stored(node: ir.Node) -> Iterator[ir.Expr]:
    """The targets that a node writes, sequences taken apart."""
    targets: list[ir.Expr] = []
    if isinstance(node, ir.Assign):
        targets = list(node.targets) if node.value is not None else []
    elif isinstance(node, (ir.AugAssign, ir.For, ir.Delete, ir.CompFor)):
        targets = [node.target]
    elif isinstance(node, ir.WithItem):
        targets = [node.target] if node.target is not None else []
    while targets:
        target = targets.pop()
        if isinstance(target, ir.Sequence):
            targets += target.items
        elif isinstance(target, ir.Starred):
            targets.append(target.value)
        else:
            yield target


def says_nothing(value: object) -> bool:
    """Whether an abstract value says nothing about what it stands for."""
    return isinstance(value, UnknownValue) or value == NOTHING


def is_key(name: str, statement: ir.Assign) -> bool:
    """Whether an assignment in a class body declares a key."""
    if name.startswith("_") or name in ("model_config", "Config", "Meta"):
        return False
    annotation = statement.annotation
    head = annotation.value if isinstance(annotation, ir.Subscript) else annotation
    return head is None or ir.last_name(head) not in ("ClassVar", "KW_ONLY", "InitVar", "TypeAlias")


def is_container(annotation: ir.Expr, kinds: frozenset[str] = _CONTAINERS) -> bool:
    """Whether an annotation is a list, a dictionary or the like, or that or None."""
    if isinstance(annotation, ir.BinOp):
        return is_container(annotation.left, kinds) or is_container(annotation.right, kinds)
    head = annotation.value if isinstance(annotation, ir.Subscript) else annotation
    if ir.last_name(head) in ("Optional", "Annotated") and isinstance(annotation, ir.Subscript):
        inner = annotation.index
        return is_container(inner.items[0] if isinstance(inner, ir.Sequence) and inner.items else inner, kinds)
    return ir.last_name(head) in kinds


def levels_of(annotation: ir.Expr | None) -> int:
    """How many containers stand inside one another in an annotation."""
    if annotation is None or not is_container(annotation):
        return 0
    if isinstance(annotation, ir.BinOp):
        return max(levels_of(annotation.left), levels_of(annotation.right))
    if not isinstance(annotation, ir.Subscript):
        return 1
    inner = annotation.index
    parts = inner.items if isinstance(inner, ir.Sequence) else [inner]
    wrapped = ir.last_name(annotation.value) in ("Optional", "Annotated")
    return levels_of(parts[0]) if wrapped else 1 + max((levels_of(p) for p in parts), default=0)


def holds_container(statement: ir.Assign) -> bool:
    """Whether a declared key holds a list, a dictionary or a set, which can change in place."""
    annotation, value = statement.annotation, statement.value
    if annotation is not None and is_container(annotation, _MUTABLE):
        return True
    return isinstance(value, ir.Dict) or (isinstance(value, ir.Sequence) and value.kind in ("list", "set"))


def constants_of(module: ModuleInfo) -> dict[str, ir.Node]:
    """The constants of a module, by name, with their first target."""
    out: dict[str, ir.Node] = {}
    for statement in module.tree.body:
        if isinstance(statement, ir.Assign) and statement.value is not None:
            for target in statement.targets:
                if isinstance(target, ir.Name) and target.id.isupper() and not target.id.startswith("_"):
                    out[target.id] = target
    return out


def destinations(call: ir.Call) -> list[str]:
    """The attributes that `add_argument`, `add_subparsers` or `set_defaults` declares on a namespace."""
    called = ir.last_name(call.func)
    if called == "set_defaults":
        return [a.keyword for a in call.args if a.keyword]
    if called not in ("add_argument", "add_subparsers"):
        return []
    given = usage.keyword(call, "dest")
    if isinstance(given, ir.Constant):
        return [str(given.value)]
    flags = [str(a.value) for a in usage.positional(call) if isinstance(a, ir.Constant) and isinstance(a.value, str)]
    long = [f for f in flags if f.startswith("--")] or flags
    return [long[0].lstrip("-").replace("-", "_")] if long else []
