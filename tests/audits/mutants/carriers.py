"""Ways to reach an operation. Each defines a function ``$n`` of ``$x`` that returns the operation's value.

``$f`` names the operation as a function, ``$call`` is its call, in place where it is one expression; ``$mod`` and ``$attr`` are the
module that holds it and its name there. ``$p``, ``$q`` and ``$r`` are fresh names, ``$P`` and ``$Q`` fresh class names.
A line that starts with ``~`` is watched when the mutant runs: it is the one that performs the violation.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Carrier:
    """A template. ``files`` are templates of further modules; ``tensor`` carriers need one tensor and return one."""

    name: str
    text: str
    imports: str = ""
    files: tuple[tuple[str, str], ...] = ()
    tensor: bool = False

    @property
    def by_module(self) -> bool:
        """Whether the operation must be an attribute of a module."""
        return any("$mod" in text for text in (self.text, self.imports, *(t for _, t in self.files)))

    def takes(self, operation: str, operands: str) -> bool:
        """Whether the operation, a reference or a body, fits."""
        method = operation.startswith("torch.Tensor.") and self.by_module
        return not method and (not self.tensor or "," not in operands)


_TEXTS = {
    "direct": "def $n($x):\n~    return $call",
    "alias": "$p = $f\ndef $n($x):\n~    return $p($x)",
    "alias of an alias": "$p = $f\n$q = $p\ndef $n($x):\n~    return $q($x)",
    "local alias": "def $n($x):\n    $p = $f\n~    return $p($x)",
    "lambda": "$p = lambda $x: $call\ndef $n($x):\n~    return $p($x)",
    "table": "$p = {'plain': lambda *parts: parts[0], 'full': $f}\ndef $n($x, kind='full'):\n~    return $p[kind]($x)",
    "table by get": "$p = dict(plain=max, full=$f)\ndef $n($x, kind='full'):\n~    return $p.get(kind, max)($x)",
    "table that is filled": "$p = {}\n$p['full'] = $f\ndef $n($x):\n    fn = $p['full']\n~    return fn($x)",
    "list of steps": "$p = [$f]\ndef $n($x):\n    out = None\n    for fn in $p:\n~        out = fn($x)\n    return out",
    "tuple index": "def $n($x):\n~    return (max, $f)[1]($x)",
    "conditional expression": "def $n($x, fast=False):\n~    return (max if fast else $f)($x)",
    "boolean": "$p = None\ndef $n($x):\n~    return ($p or $f)($x)",
    "walrus": "def $n($x):\n    if (fn := $f) is not None:\n~        return fn($x)\n    return None",
    "match": (
        "def $n($x, kind='full'):\n    match kind:\n        case 'plain':\n            return None\n        case _:\n~            return $call"
    ),
    "decorator": (
        "def $p(fn):\n    @functools.wraps(fn)\n    def wrapper($x):\n        fn($x)\n~        return $call\n    return wrapper\n"
        "@$p\ndef $n($x):\n    return None"
    ),
    "registry": "$p = {}\ndef $q(name):\n    def keep(fn):\n        $p[name] = fn\n        return fn\n    return keep\n"
                "@$q('full')\ndef $r($x):\n~    return $call\ndef $n($x):\n    return $p['full']($x)",
    "property": (
        "class $P:\n    def __init__(self, $x):\n        self.parts = ($x,)\n    @property\n    def value(self):\n~        return $f(*self.parts)\n"
        "def $n($x):\n    return $P($x).value"
    ),
    "cached property": (
        "class $P:\n    def __init__(self, $x):\n        self.parts = ($x,)\n    @functools.cached_property\n    def value(self):\n"
        "~        return $f(*self.parts)\ndef $n($x):\n    made = $P($x)\n    return made.value"
    ),
    "method": "class $P:\n    def run(self, $x):\n~        return $call\ndef $n($x):\n    return $P().run($x)",
    "static method": "class $P:\n    @staticmethod\n    def run($x):\n~        return $call\ndef $n($x):\n    return $P.run($x)",
    "class method": "class $P:\n    @classmethod\n    def run(cls, $x):\n~        return $call\ndef $n($x):\n    return $P.run($x)",
    "class attribute": "class $P:\n    run = staticmethod($f)\ndef $n($x):\n~    return $P.run($x)",
    "instance attribute": "class $P:\n    def __init__(self, fn):\n        self.fn = fn\n    def go(self, $x):\n~        return self.fn($x)\n"
                          "$p = $P($f)\ndef $n($x):\n    return $p.go($x)",
    "override": "class $P:\n    def run(self, $x):\n        return None\nclass $Q($P):\n    def run(self, $x):\n~        return $call\n"
                "def $p() -> $P:\n    return $Q()\ndef $n($x):\n    return $p().run($x)",
    "template method": "class $P:\n    def run(self, $x):\n        return self.part($x)\n    def part(self, $x):\n        raise NotImplementedError\n"
                       "class $Q($P):\n    def part(self, $x):\n~        return $call\n$p = $Q()\ndef $n($x):\n    return $p.run($x)",
    "super": "class $P:\n    def run(self, $x):\n~        return $call\nclass $Q($P):\n    def run(self, $x):\n        return super().run($x)\n"
             "def $n($x):\n    return $Q().run($x)",
    "mixin": "class $P:\n    def part(self, $x):\n~        return $call\nclass $Q:\n    def run(self, $x):\n        return self.part($x)\n"
             "class $R($Q, $P):\n    pass\ndef $n($x):\n    return $R().run($x)",
    "call of an object": "class $P:\n    def __call__(self, $x):\n~        return $call\n$p = $P()\ndef $n($x):\n    return $p($x)",
    "operator": "class $P:\n    def __matmul__(self, parts):\n~        return $f(*parts)\ndef $n($x):\n    return $P() @ ($x,)",
    "item": "class $P:\n    def __getitem__(self, parts):\n~        return $f(*parts)\n$p = $P()\ndef $n($x):\n    return $p[($x,)]",
    "iterator": "class $P:\n    def __init__(self, $x):\n        self.parts = ($x,)\n    def __iter__(self):\n~        yield $f(*self.parts)\n"
                "def $n($x):\n    for value in $P($x):\n        return value\n    return None",
    "generator": "def $p($x):\n~    yield $call\ndef $n($x):\n    return next($p($x))",
    "delegated generator": "def $p($x):\n~    yield $call\ndef $q($x):\n    yield from $p($x)\ndef $n($x):\n    return list($q($x))[0]",
    "context manager": (
        "class $P:\n    def __init__(self, $x):\n        self.parts = ($x,)\n    def __enter__(self):\n~        return $f(*self.parts)\n"
        "    def __exit__(self, *error):\n        return None\ndef $n($x):\n    with $P($x) as value:\n        return value"
    ),
    "context generator": "@contextlib.contextmanager\ndef $p($x):\n~    yield $call\ndef $n($x):\n    with $p($x) as value:\n        return value",
    "comprehension": "def $n($x):\n~    return [$call for _ in range(1)][0]",
    "dictionary comprehension": "def $n($x):\n    made = {name: fn($x) for name, fn in {'full': $f}.items()}\n~    return made['full']",
    "generator expression": "def $n($x):\n~    return next($call for _ in range(1))",
    "nested function": "def $n($x):\n    def inner():\n~        return $call\n    return inner()",
    "closure": "def $p(fn):\n    def inner($x):\n~        return fn($x)\n    return inner\n$q = $p($f)\ndef $n($x):\n    return $q($x)",
    "factory": "def $p(power=1):\n    def inner($x):\n~        return $call\n    return inner\ndef $n($x):\n    return $p()($x)",
    "default argument": "def $p($x, fn=$f):\n~    return fn($x)\ndef $n($x):\n    return $p($x)",
    "keyword-only default": "def $n($x, *, fn=$f):\n~    return fn($x)",
    "callback": "def $p(fn, *parts):\n~    return fn(*parts)\ndef $n($x):\n    return $p($f, $x)",
    "keyword callback": "def $p(*parts, using):\n~    return using(*parts)\ndef $n($x):\n    return $p($x, using=$f)",
    "keyword mapping": "def $p(parts, fn):\n~    return fn(*parts)\ndef $n($x):\n    return $p(**{'parts': ($x,), 'fn': $f})",
    "map": "def $n($x):\n~    return next(map(lambda parts: $f(*parts), [($x,)]))",
    "late binding": "$p = None\ndef $q():\n    global $p\n    $p = $f\n$q()\ndef $n($x):\n~    return $p($x)",
    "assigned in a branch": "import sys\nif sys.version_info >= (3, 8):\n    $p = $f\nelse:\n    $p = max\ndef $n($x):\n~    return $p($x)",
    "descriptor": "class $P:\n    def __get__(self, instance, owner):\n        return $f\nclass $Q:\n    run = $P()\ndef $n($x):\n~    return $Q().run($x)",
    "subclass registry": "$p = []\nclass $P:\n    def __init_subclass__(cls, **rest):\n        $p.append(cls)\nclass $Q($P):\n"
                         "    def run(self, $x):\n~        return $call\ndef $n($x):\n    return $p[0]().run($x)",
    "metaclass": "class $P(type):\n    def __call__(cls, $x):\n~        return $call\nclass $Q(metaclass=$P):\n    pass\ndef $n($x):\n    return $Q($x)",
    "delegation": "class $P:\n    def run(self, $x):\n~        return $call\nclass $Q:\n    def __init__(self):\n        self.inner = $P()\n"
                  "    def go(self, $x):\n        return self.inner.run($x)\ndef $n($x):\n    return $Q().go($x)",
    "bound method as a value": "class $P:\n    def run(self, $x):\n~        return $call\n$p = $P().run\ndef $n($x):\n    return $p($x)",
    "try and finally": "def $n($x):\n    out = None\n    try:\n~        out = $call\n    finally:\n        pass\n    return out",
    "while": "def $n($x):\n    out, left = None, 1\n    while left:\n~        out = $call\n        left -= 1\n    return out",
    "unpacked": "$p, $q = max, $f\ndef $n($x):\n~    return $q($x)",
    "starred": "$p, *$q = [max, $f]\ndef $n($x):\n~    return $q[0]($x)",
    "assertion": "def $n($x):\n    made = []\n~    assert made.append($call) is None\n    return made[0]",
    "built by a class method": "class $P:\n    @classmethod\n    def make(cls):\n        return cls()\n    def run(self, $x):\n        return None\n"
                               "class $Q($P):\n    def run(self, $x):\n~        return $call\ndef $n($x):\n    return $Q.make().run($x)",
    "another of its kind": "class $P:\n    def again(self):\n        return type(self)()\n    def run(self, $x):\n        return None\n"
                           "class $Q($P):\n    def run(self, $x):\n~        return $call\ndef $n($x):\n    return $Q().again().run($x)",
    "keyword subclass registry": "$p = {}\nclass $P:\n    def __init_subclass__(cls, *, key):\n        $p[key] = cls\nclass $Q($P, key='full'):\n"
                                 "    def run(self, $x):\n~        return $call\ndef $n($x):\n    return $p['full']().run($x)",
    "property setter": "class $P:\n    @property\n    def parts(self):\n        return self.made\n    @parts.setter\n    def parts(self, parts):\n"
                       "~        self.made = $f(*parts)\ndef $n($x):\n    box = $P()\n    box.parts = ($x,)\n    return box.parts",
    "derived dictionary": "class $P(dict):\n    def keep(self, fn):\n        self['full'] = fn\n        return fn\n$p = $P()\n@$p.keep\n"
                          "def $q($x):\n~    return $call\ndef $n($x):\n    return $p['full']($x)",
    "rows of numbers and functions": "$p = [(0.5, $f)]\ndef $n($x):\n    out = None\n    for weight, fn in $p:\n~        out = fn($x)\n    return out",
    "recursion": "def $n($x, left=2):\n    if left:\n        return $n($x, left=left - 1)\n~    return $call",
}  # fmt: skip

_MORE = (
    Carrier("from import", "def $n($x):\n~    return $p($x)", "from $mod import $attr as $p"),
    Carrier("module alias", "def $n($x):\n~    return $p.$attr($x)", "import $mod as $p"),
    Carrier("import inside", "def $n($x):\n    from $mod import $attr as $p\n~    return $p($x)"),
    Carrier("optional import", "try:\n    from functools import fastest_$p as $p\nexcept ImportError:\n    from $mod import $attr as $p\n"
            "def $n($x):\n~    return $p($x)"),
    Carrier("conditional import", "import sys\nif sys.platform != 'amiga':\n    from $mod import $attr as $p\nelse:\n    $p = max\n"
            "def $n($x):\n~    return $p($x)"),
    Carrier("star import", "def $n($x):\n~    return $p($x)", "from $own import *", (("", "from $mod import $attr as $p\n"),)),
    Carrier("re-export", "def $n($x):\n~    return $p($x)", "from $own import $p",
            (("/__init__", "from $own.deep import $p\n"), ("/deep", "from $mod import $attr as $p\n"))),
    Carrier("relative re-export", "def $n($x):\n~    return $q.$p($x)", "import $own as $q",
            (("/__init__", "from .deep.inner import $p\n__all__ = ['$p']\n"), ("/deep/__init__", ""),
             ("/deep/inner", "from $mod import $attr as $p\n"))),
    Carrier("star through a package", "def $n($x):\n~    return $p($x)", "from $own import *",
            (("/__init__", "from .deep import *\n"), ("/deep", "__all__ = ['$p']\nfrom $mod import $attr as $p\n"))),
    Carrier("literal getattr", "def $n($x):\n~    return getattr($p, '$attr')($x)", "import $mod as $p"),
    Carrier("constant getattr", "$q = '$attr'\ndef $n($x):\n    fn = getattr($p, $q)\n~    return fn($x)", "import $mod as $p"),
    Carrier("module in a table", "$q = {'full': $p}\ndef $n($x):\n~    return $q['full'].$attr($x)", "import $mod as $p"),
    Carrier("module as an argument", "def $q(library, $x):\n~    return library.$attr($x)\ndef $n($x):\n    return $q($p, $x)", "import $mod as $p"),
    Carrier("module attribute function", "def $n($x):\n~    return $q.$p($x)", "import $own as $q",
            (("", "def __getattr__(name):\n    if name == '$p':\n        from $mod import $attr\n        return $attr\n"
              "    raise AttributeError(name)\n"),)),
    Carrier("partial", "$p = functools.partial($f)\ndef $n($x):\n~    return $p($x)", "import functools"),
    Carrier("partial in place", "def $n($x):\n    bound = functools.partial($f, $x)\n~    return bound()", "import functools"),
    Carrier("partial method", "class $P:\n    def part(self, fn, $x):\n~        return fn($x)\n    run = functools.partialmethod(part, $f)\n"
            "def $n($x):\n    return $P().run($x)", "import functools"),
    Carrier("reduce", "def $n($x):\n~    return functools.reduce(lambda parts, fn: fn(*parts), [$f], ($x,))", "import functools"),
    Carrier("cache", "@functools.lru_cache(maxsize=2)\ndef $p($x):\n~    return $call\ndef $n($x):\n    return $p($x)", "import functools"),
    Carrier("single dispatch", "@functools.singledispatch\ndef $p($x):\n~    return $call\ndef $n($x):\n    return $p($x)", "import functools"),
    Carrier("data class field", "@dataclasses.dataclass\nclass $P:\n    fn: object = $f\n$p = $P()\ndef $n($x):\n~    return $p.fn($x)",
            "import dataclasses"),
    Carrier("default factory", "@dataclasses.dataclass\nclass $P:\n    fns: list = dataclasses.field(default_factory=lambda: [$f])\n"
            "def $n($x):\n~    return $P().fns[0]($x)", "import dataclasses"),
    Carrier("named tuple", "class $P(typing.NamedTuple):\n    name: str\n    fn: object\n$p = $P('full', $f)\ndef $n($x):\n~    return $p.fn($x)",
            "import typing"),
    Carrier("namespace", "$p = types.SimpleNamespace(run=$f)\ndef $n($x):\n~    return $p.run($x)", "import types"),
    Carrier("enumeration", "class $P(enum.Enum):\n    FULL = 'full'\n    def run(self, $x):\n~        return $call\ndef $n($x):\n    return $P.FULL.run($x)",
            "import enum"),
    Carrier("value of an enumeration", "def $q($x):\n~    return $call\nclass $P(enum.Enum):\n    FULL = ($q,)\n    def run(self, $x):\n"
            "        return self.value[0]($x)\ndef $n($x):\n    return $P.FULL.run($x)", "import enum"),
    Carrier("context variable", "$p = contextvars.ContextVar('$p', default=$f)\ndef $n($x):\n~    return $p.get()($x)", "import contextvars"),
    Carrier("protocol", "class $P(typing.Protocol):\n    def run(self, $x): ...\nclass $Q:\n    def run(self, $x):\n~        return $call\n"
            "def $p(worker: $P, $x):\n    return worker.run($x)\ndef $n($x):\n    return $p($Q(), $x)", "import typing"),
    Carrier("abstract base", "class $P(abc.ABC):\n    @abc.abstractmethod\n    def run(self, $x):\n        ...\nclass $Q($P):\n"
            "    def run(self, $x):\n~        return $call\n$p: $P = $Q()\ndef $n($x):\n    return $p.run($x)", "import abc"),
    Carrier("coroutine", "async def $p($x):\n~    return $call\ndef $n($x):\n    return asyncio.run($p($x))", "import asyncio"),
    Carrier("item getter", "def $n($x):\n    fn = operator.itemgetter(1)((max, $f))\n~    return fn($x)", "import operator"),
    Carrier("sorted by key", "def $n($x):\n    made = []\n~    sorted([($x,)], key=lambda parts: made.append($f(*parts)) or 0)\n    return made[0]"),
    Carrier("exit stack", "def $n($x):\n    made = []\n    with contextlib.ExitStack() as stack:\n~        stack.callback(lambda: made.append($call))\n"
            "    return made[0]", "import contextlib"),
    Carrier("module forward", "class $P(torch.nn.Module):\n    def forward(self, $x):\n~        return $call\n$p = $P()\ndef $n($x):\n    return $p($x)",
            "import torch", tensor=True),
    Carrier("sequential", "class $P(torch.nn.Module):\n    def forward(self, $x):\n~        return $call\n$p = torch.nn.Sequential(torch.nn.Identity(), $P())\n"
            "def $n($x):\n    return $p($x)", "import torch", tensor=True),
    Carrier("module list", "class $P(torch.nn.Module):\n    def forward(self, $x):\n~        return $call\n$p = torch.nn.ModuleList([$P()])\n"
            "def $n($x):\n    out = None\n    for layer in $p:\n        out = layer($x)\n    return out", "import torch", tensor=True),
    Carrier("submodule", "class $P(torch.nn.Module):\n    def forward(self, $x):\n~        return $call\nclass $Q(torch.nn.Module):\n    def __init__(self):\n"
            "        super().__init__()\n        self.layers = torch.nn.ModuleDict({'full': $P()})\n    def forward(self, $x):\n"
            "        return self.layers['full']($x)\n$p = $Q()\ndef $n($x):\n    return $p($x)", "import torch", tensor=True),
    Carrier("forward hook", "def $q(module, inputs, output):\n~    return $f(*inputs)\n$p = torch.nn.Identity()\n$p.register_forward_hook($q)\n"
            "def $n($x):\n    return $p($x)", "import torch", tensor=True),
    Carrier("forward pre-hook", "def $q(module, inputs):\n~    return ($f(*inputs),)\n$p = torch.nn.Identity()\n$p.register_forward_pre_hook($q)\n"
            "def $n($x):\n    return $p($x)", "import torch", tensor=True),
    Carrier("tensor hook", "def $q($x):\n~    $call\ndef $n($x):\n    with torch.enable_grad():\n        leaf = $x.detach().clone().requires_grad_()\n"
            "        leaf.register_hook($q)\n        leaf.sum().backward()\n    return leaf.grad", "import torch", tensor=True),
    Carrier("autograd forward", "class $P(torch.autograd.Function):\n    @staticmethod\n    def forward(ctx, $x):\n~        return $call\n    @staticmethod\n"
            "    def backward(ctx, grad):\n        return grad\ndef $n($x):\n    return $P.apply($x)", "import torch", tensor=True),
    Carrier("autograd backward", "class $P(torch.autograd.Function):\n    @staticmethod\n    def forward(ctx, $x):\n        return $x.clone()\n    @staticmethod\n"
            "    def backward(ctx, $x):\n~        $call\n        return $x\ndef $n($x):\n    with torch.enable_grad():\n"
            "        leaf = $x.detach().clone().requires_grad_()\n        $P.apply(leaf).sum().backward()\n    return leaf.grad",
            "import torch", tensor=True),
    Carrier("checkpointed", "def $p($x):\n~    return $call\ndef $n($x):\n    return checkpoint($p, $x, use_reentrant=False)",
            "from torch.utils.checkpoint import checkpoint", tensor=True),
    Carrier("collate function", "def $p(rows):\n~    return [$f(row) for row in rows][0]\ndef $n($x):\n"
            "    return next(iter(torch.utils.data.DataLoader([$x], collate_fn=$p)))", "import torch.utils.data", tensor=True),
)  # fmt: skip

_NEEDS = {"functools.": "import functools", "contextlib.": "import contextlib"}


def _plain(name: str, text: str) -> Carrier:
    return Carrier(name, text, "\n".join(line for word, line in _NEEDS.items() if word in text))


CARRIERS = {c.name: c for c in (*(_plain(n, t) for n, t in _TEXTS.items()), *_MORE)}
TENSOR = tuple(CARRIERS)
"""Every carrier: for operations on one tensor that give a tensor."""
