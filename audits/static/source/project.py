"""The project model: modules on disk, their scopes, functions and classes. Nothing is imported or run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from audits.static.source import ir
from audits.static.source.cache import Cache, facts_key, load_facts
from audits.static.source.sources import SourceFile, is_beside, read_sources


@dataclass(eq=False, slots=True)
class Scope:
    """One lexical scope; `kind` is module, class, function or comprehension."""

    kind: str
    module: ModuleInfo
    parent: Scope | None
    function: FunctionInfo | None = None
    cls: ClassInfo | None = None
    names: set[str] = field(default_factory=set)
    stars: list[str] = field(default_factory=list)
    outer: dict[str, bool] = field(default_factory=dict)  # name -> True for nonlocal, False for global


@dataclass(eq=False, slots=True)
class FunctionInfo:
    """A function, method or lambda of the analysed packages."""

    node: ir.Function
    module: ModuleInfo
    qualname: str
    scope: Scope
    cls: ClassInfo | None
    enclosing: FunctionInfo | None
    flags: frozenset[str]
    values: dict[object, object] = field(default_factory=dict)  # its abstract values, each made once

    @property
    def symbol(self) -> str:
        """`module:qualname`, the spelling of entry points."""
        return f"{self.module.name}:{self.qualname}"

    @property
    def positional(self) -> list[ir.Param]:
        """The parameters that positional arguments fill, `self` included."""
        return [p for p in self.node.params if p.kind == "pos"]


@dataclass(eq=False, slots=True)
class ClassInfo:
    """A class of the analysed packages."""

    node: ir.ClassDef
    module: ModuleInfo
    qualname: str
    scope: Scope
    outer: Scope
    values: dict[object, object] = field(default_factory=dict)

    @property
    def symbol(self) -> str:
        """`module:qualname`."""
        return f"{self.module.name}:{self.qualname}"


@dataclass(eq=False, slots=True)
class ModuleInfo:
    """One file."""

    name: str
    path: Path
    relative: str
    is_package: bool
    tree: ir.Module
    lines: list[str]
    scope: Scope = field(init=False)
    functions: dict[str, FunctionInfo] = field(default_factory=dict)
    classes: dict[str, ClassInfo] = field(default_factory=dict)
    values: dict[object, object] = field(default_factory=dict)
    spans: list[tuple[int, int, str]] | None = None  # the lines of each function and class, once someone asks

    def absolute(self, module: str, level: int) -> str:
        """The dotted name that `from <dots><module> import …` in this file refers to."""
        if level == 0:
            return module
        parts = self.name.split(".")
        keep = len(parts) - level + (1 if self.is_package else 0)
        base = ".".join(parts[: max(keep, 0)])
        return f"{base}.{module}" if base and module else base or module


class Project:
    """Every module of the configured packages."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.modules: dict[str, ModuleInfo] = {}
        self.functions: list[FunctionInfo] = []
        self.classes: list[ClassInfo] = []
        self.function_of: dict[ir.Function, FunctionInfo] = {}
        self.class_of: dict[ir.ClassDef, ClassInfo] = {}
        self.scope_of: dict[ir.Comprehension, Scope] = {}
        self.methods_named: dict[str, list[FunctionInfo]] = {}
        self.asked: dict[str, bool] = {}  # which outside names were looked for beside the packages, and whether they were there

    @classmethod
    def load(cls, root: Path, packages: Iterable[str]) -> Project:
        """Read and bind every module.

        Raises:
            AuditInputError: a package is not there, or a file is not valid Python.
        """
        return cls.build(root, read_sources(root, packages))

    @classmethod
    def build(cls, root: Path, files: Iterable[SourceFile], cache: Cache | None = None) -> Project:
        """Bind modules that have been read, with facts from the cache where it has them.

        Raises:
            AuditInputError: a file is not valid Python.
        """
        project = cls(root)
        for file in files:
            tree, lines = facts(file, cache)
            module = ModuleInfo(file.name, file.path, file.relative, file.is_package, tree, lines)
            Binder(project, module).bind()
            project.modules[file.name] = module
        return project

    def is_local(self, name: str) -> bool:
        """Whether an outside dotted name belongs to code beside the packages, which nobody asked to analyse."""
        top = name.split(".", maxsplit=1)[0]
        if top not in self.asked:
            self.asked[top] = is_beside(self.root, top)
        return self.asked[top]

    def find(self, reference: str) -> FunctionInfo | ClassInfo | None:
        """The function or class that `module:qualname` names directly, or None."""
        module_name, _, qualname = reference.partition(":")
        module = self.modules.get(module_name)
        if module is None:
            return None
        return module.functions.get(qualname) or module.classes.get(qualname)

    def in_modules(self, prefixes: Iterable[str]) -> list[ModuleInfo]:
        """The modules that `prefixes` name, with everything below them."""
        wanted = tuple(prefixes)
        return [m for n, m in sorted(self.modules.items()) if any(n == p or n.startswith(p + ".") for p in wanted)]

    def configured_modules(self) -> list[ModuleInfo]:
        """The modules of the configured packages, by name."""
        return [m for _, m in sorted(self.modules.items())]


def facts(file: SourceFile, cache: Cache | None) -> tuple[ir.Module, list[str]]:
    """A file's tree and lines, from the cache where it has them.

    Raises:
        AuditInputError: the file is not valid Python.
    """
    stored = cache.load(facts_key(file.sha256)) if cache is not None else None
    known = load_facts(stored) if stored is not None else None
    if isinstance(known, tuple):
        return known
    from audits.static.source.lower import lower_source  # noqa: PLC0415 - LibCST is slow to import

    return lower_source(file.content, file.relative)


_PROPERTY_DECORATORS = {"property", "cached_property", "setter", "deleter", "getter", "lazy_property"}


class Binder:
    """Finds the scopes of one module and the names that each binds."""

    def __init__(self, project: Project, module: ModuleInfo) -> None:
        self._project = project
        self._module = module

    def bind(self) -> None:
        """Fill in the module's scope, functions and classes."""
        scope = Scope("module", self._module, None)
        self._module.scope = scope
        scope.names.update(("__name__", "__file__", "__doc__", "__all__", "__path__", "__spec__", "__package__"))
        self._body(self._module.tree.body, scope, "")

    def _body(self, body: Iterable[ir.Node], scope: Scope, prefix: str) -> None:
        for node in body:
            self._visit(node, scope, prefix)

    def _visit(self, node: ir.Node, scope: Scope, prefix: str) -> None:
        if isinstance(node, ir.Function):
            self._function(node, scope, prefix)
        elif isinstance(node, ir.ClassDef):
            self._class(node, scope, prefix)
        elif isinstance(node, ir.Lambda):
            self._function(node.function, scope, prefix)
        elif isinstance(node, ir.Comprehension):
            self._comprehension(node, scope, prefix)
        else:
            self._names(node, scope)
            for child in ir.children(node):
                self._visit(child, scope, prefix)

    def _names(self, node: ir.Node, scope: Scope) -> None:
        if isinstance(node, ir.Import):
            scope.names.update(asname or name.split(".")[0] for name, asname in node.names)
        elif isinstance(node, ir.ImportFrom):
            for name, asname in node.names:
                if name == "*":
                    scope.stars.append(self._module.absolute(node.module, node.level))
                else:
                    scope.names.add(asname or name)
        elif isinstance(node, ir.Global):
            scope.outer.update(dict.fromkeys(node.names, node.nonlocal_))
            if not node.nonlocal_:
                self._module.scope.names.update(node.names)
        else:
            scope_for = _named_scope(scope) if isinstance(node, ir.NamedExpr) else scope
            for target in targets(node):
                scope_for.names.update(bound_names(target))

    def _function(self, node: ir.Function, scope: Scope, prefix: str) -> None:
        qualname = f"{prefix}{node.name}"
        info = FunctionInfo(
            node=node, module=self._module, qualname=qualname, scope=Scope("function", self._module, scope),
            cls=scope.cls if scope.kind == "class" else None, enclosing=_function_of(scope),
            flags=_flags(node),
        )  # fmt: skip
        info.scope.function = info
        info.scope.names.update(p.name for p in node.params)
        if node.name != "<lambda>":
            scope.names.add(node.name)
            self._module.functions.setdefault(qualname, info)
            if info.cls is not None:
                self._project.methods_named.setdefault(node.name, []).append(info)
        self._project.functions.append(info)
        self._project.function_of[node] = info
        for outside in [*node.decorators, *(p.default for p in node.params), *(p.annotation for p in node.params)]:
            if outside is not None:
                self._visit(outside, scope, prefix)
        self._body(node.body, info.scope, f"{qualname}.<locals>.")

    def _class(self, node: ir.ClassDef, scope: Scope, prefix: str) -> None:
        qualname = f"{prefix}{node.name}"
        inner = Scope("class", self._module, scope)
        info = ClassInfo(node, self._module, qualname, inner, scope)
        inner.cls = info
        scope.names.add(node.name)
        self._module.classes.setdefault(qualname, info)
        self._project.classes.append(info)
        self._project.class_of[node] = info
        for outside in [*node.bases, *(k.value for k in node.keywords), *node.decorators]:
            self._visit(outside, scope, prefix)
        self._body(node.body, inner, f"{qualname}.")

    def _comprehension(self, node: ir.Comprehension, scope: Scope, prefix: str) -> None:
        inner = Scope("comprehension", self._module, scope)
        self._project.scope_of[node] = inner
        for clause in node.clauses:
            inner.names.update(bound_names(clause.target))
            self._body([clause.iter, *clause.ifs], inner, prefix)
        self._visit(node.element, inner, prefix)
        if node.value is not None:
            self._visit(node.value, inner, prefix)


def _named_scope(scope: Scope) -> Scope:
    while scope.kind == "comprehension" and scope.parent is not None:
        scope = scope.parent
    return scope


def _function_of(scope: Scope | None) -> FunctionInfo | None:
    while scope is not None:
        if scope.function is not None:
            return scope.function
        scope = scope.parent
    return None


def function_of(scope: Scope) -> FunctionInfo | None:
    """The innermost function around `scope`."""
    return _function_of(scope)


def _flags(node: ir.Function) -> frozenset[str]:
    flags = set()
    for decorator in node.decorators:
        target = decorator.func if isinstance(decorator, ir.Call) else decorator
        name = ir.last_name(target)
        if name in _PROPERTY_DECORATORS:
            flags.add("property")
            flags.update({name} & {"setter", "deleter"})
        elif name in ("staticmethod", "classmethod"):
            flags.add(name)
    return frozenset(flags)


def targets(node: ir.Node) -> Iterator[ir.Expr]:
    """What a node assigns to."""
    if isinstance(node, ir.Assign):
        yield from node.targets
    elif isinstance(node, (ir.AugAssign, ir.For, ir.NamedExpr, ir.Delete)):
        yield node.target
    elif isinstance(node, ir.WithItem):
        yield from () if node.target is None else (node.target,)
    elif isinstance(node, ir.Handler) and node.name is not None:
        yield node.name
    elif isinstance(node, ir.Case):
        yield from node.bindings


def bound_names(target: ir.Expr) -> Iterator[str]:
    """The plain names that an assignment target binds."""
    if isinstance(target, ir.Name):
        yield target.id
    elif isinstance(target, ir.Starred):
        yield from bound_names(target.value)
    elif isinstance(target, ir.Sequence):
        for item in target.items:
            yield from bound_names(item)


def lookup_scope(scope: Scope, name: str) -> Scope | None:
    """The scope whose binding of `name` an expression in `scope` sees, or None."""
    current: Scope | None = scope
    start = True
    while current is not None:
        if name in current.outer:
            if not current.outer[name]:
                return current.module.scope
        elif name in current.names and (start or current.kind != "class"):
            return current
        start = start and current.kind == "comprehension"
        current = current.parent
    return None
