"""HOT001: no solver is reachable from a hot-path entry point."""

from __future__ import annotations

from collections.abc import Iterable

from audits.static.context import Context
from audits.static.findings import Finding
from audits.static.rules.base import Case, Rule
from audits.static.subjects.solver_use import solver_refs

MANUAL = """\
A linear solve inside the training step costs cubic time on every batch, breaks on ill-conditioned input and makes
gradients explode. This rule proves that none can run there: starting at each `hot-path.entry-points` function it
follows every reference - calls, methods through typed receivers, overrides, properties, hooks, tables, partials,
decorators, callbacks, autograd functions - and reports each solver that it meets, in torch, NumPy or SciPy spelling,
including operations whose backward solves (qr, det, slogdet, logdet, eig, cholesky). A reference counts as a call.
`eigh` and `eigvalsh` are no solvers. The list of names is data: audits/static/libraries/solvers.json.
"""


def check(context: Context) -> Iterable[Finding]:
    """One finding for each reachable solver, with the shortest path to it."""
    seen: set[tuple[str, int, int]] = set()
    for reached in context.reaches:
        for fn in reached.functions:
            unit = reached.units[fn]
            for ref, message in solver_refs(unit):
                key = (fn.module.relative, ref.node.line, ref.node.column)
                if key in seen:
                    continue
                seen.add(key)
                path = reached.path_to(fn, ref.node.line)
                yield context.finding("HOT001", fn.module, ref.node, message, fn=fn, entry_point=reached.entry_point, call_path=path)


_SETTINGS = {"hot-path": {"entry-points": ["pkg.step:step"]}}
_METHOD = {"hot-path": {"entry-points": ["pkg.step:Trainer.step"]}}


def _case(name: str, source: str, **others: str) -> Case:
    files = {"pkg/__init__.py": "", "pkg/step.py": source}
    files.update({f"pkg/{k}.py": v for k, v in others.items()})
    return Case(name, files)


def _method(name: str, source: str, **others: str) -> Case:
    return Case(name, _case(name, source, **others).files, _METHOD)


_T = "import torch\n"
_SCHEDULER = _T + "class Sched(torch.optim.lr_scheduler.LRScheduler):\n    def get_lr(self):\n        return [torch.linalg.inv(self.a)]\n"
_INVALID = (
    _case("data set behind a loader that the step iterates", _T + "from torch.utils.data import DataLoader, Dataset\n"
          "class Scenes(Dataset):\n    def __getitem__(self, n):\n        return {'x': torch.linalg.inv(torch.eye(n))}\n"
          "LOADER = DataLoader(Scenes())\ndef step(a):\n    for batch in LOADER:\n        a = a + batch['x']\n    return a\n"),
    _case("class out of a registry", _T + "ENTRIES = {}\ndef register(name):\n    def keep(cls):\n"
          "        ENTRIES[name] = cls\n        return cls\n    return keep\n"
          "@register('solved')\nclass Solved:\n    def __call__(self, a):\n        return torch.linalg.inv(a)\n"
          "def step(a, name):\n    return ENTRIES[name]()(a)\n"),
    _case(
        "a module of unknown origin that is declared as one",
        _T + "from torch import nn\nfrom somewhere import load\nclass Net(nn.Module):\n    def encode(self, a):\n"
        "        return torch.linalg.inv(a)\ndef step(a: torch.Tensor):\n    net: nn.Module = load()\n    return net.encode(a)\n",
    ),
    _case(
        "one of more methods than are kept apart",
        _T + "class Base:\n    def run(self, a):\n        return a\n"
        + "".join(f"class C{n}(Base):\n    def run(self, a):\n        return a + {n}\n" for n in range(60))
        + "class Last(Base):\n    def run(self, a):\n        return torch.linalg.inv(a)\n"
        + "def step(a: torch.Tensor, base: Base):\n    return base.run(a)\n",
    ),
    _case(
        "an attribute of one of more objects than are kept apart",
        _T + "".join(f"class C{n}:\n    def run(self, a):\n        return a + {n}\n" for n in range(60))
        + "class Last:\n    def run(self, a):\n        return torch.linalg.inv(a)\n"
        + "ALL = [" + ", ".join(f"C{n}()" for n in range(60)) + ", Last()]\n"
        + "def step(a: torch.Tensor):\n    for one in ALL:\n        a = one.run(a)\n    return a\n",
    ),
    _case("direct", _T + "def step(a, b):\n    return torch.linalg.solve(a, b)\n"),
    _case("alias of the module", "import torch.linalg as la\ndef step(a, b):\n    return la.solve(a, b)\n"),
    _case("from import under another name", "from torch.linalg import inv as f\ndef step(a):\n    return f(a)\n"),
    _case("star import", "from torch.linalg import *\ndef step(a, b):\n    return lstsq(a, b)\n"),
    _case("star import through a module", "from pkg.names import *\ndef step(a, b):\n    return go(a, b)\n",
          names="from torch.linalg import solve as go\n"),
    _case("module-level alias", _T + "_s = torch.linalg.solve\ndef step(a, b):\n    return _s(a, b)\n"),
    _case("re-export chain", "from pkg.facade import go\ndef step(a):\n    return go(a)\n",
          facade="from .deep import go\n", deep="import torch\ndef go(a):\n    return torch.linalg.pinv(a)\n"),
    _case("conditional import", "try:\n    from fast import inv\nexcept ImportError:\n    from torch.linalg import inv\n"
          "def step(a):\n    return inv(a)\n"),
    _case("import inside the function", "def step(a, b):\n    from torch import linalg\n    return linalg.solve(a, b)\n"),
    _case("Tensor method on an unknown receiver", "def step(a):\n    return a.inverse()\n"),
    _case("Tensor method on a typed receiver", _T + "def step(a: torch.Tensor):\n    return a.mH.pinverse()\n"),
    _case("unbound Tensor method", _T + "def step(a):\n    return torch.Tensor.inverse(a)\n"),
    _case("literal getattr", _T + "def step(a, b):\n    return getattr(torch.linalg, 'solve')(a, b)\n"),
    _case("getattr with assembled text", _T + "def step(a):\n    return getattr(torch.linalg, 'in' + 'v')(a)\n"),
    _case("through __dict__", _T + "def step(a, b):\n    return torch.linalg.__dict__['solve'](a, b)\n"),
    _case("operator namespace", _T + "def step(a, b):\n    return torch.ops.aten.linalg_solve_ex.default(a, b)\n"),
    _case("private binding", _T + "def step(a):\n    return torch._C._linalg.linalg_inv(a)\n"),
    _case("backward that solves", _T + "def step(a):\n    q, r = torch.linalg.qr(a)\n    return q\n"),
    _case("log determinant", _T + "def step(a):\n    return a.logdet() if a is not None else torch.logdet(a)\n"),
    _case("negative power", _T + "def step(a):\n    n = -1\n    return torch.linalg.matrix_power(a, n)\n"),
    _case("numpy", "import numpy as np\ndef step(a, b):\n    return np.linalg.solve(a, b)\n"),
    _case("scipy", "from scipy import linalg\ndef step(a, b):\n    return linalg.cho_solve(linalg.cho_factor(a), b)\n"),
    _case("partial", "from functools import partial\n" + _T + "solve = partial(torch.linalg.solve, left=False)\n"
          "def step(a, b):\n    return solve(a, b)\n"),
    _case("table", _T + "KINDS = {'a': torch.exp, 'b': torch.linalg.inv}\ndef step(a, k):\n    return KINDS[k](a)\n"),
    _case("registry decorator", _T + "from pkg.registry import REGISTRY, register\n@register('x')\ndef f(a):\n"
          "    return torch.linalg.inv(a)\ndef step(a):\n    return REGISTRY['x'](a)\n",
          registry="REGISTRY = {}\ndef register(name):\n    def wrap(fn):\n        REGISTRY[name] = fn\n"
          "        return fn\n    return wrap\n"),
    _case("lambda in a list", _T + "STEPS = [lambda a: torch.linalg.inv(a)]\ndef step(a):\n    for s in STEPS:\n"
          "        a = s(a)\n    return a\n"),
    _case("default argument", _T + "def step(a, b, solve=torch.linalg.solve):\n    return solve(a, b)\n"),
    _case("callback", _T + "def apply(fn, a):\n    return fn(a)\ndef step(a):\n    return apply(torch.linalg.inv, a)\n"),
    _case("callback to a library", _T + "def f(a):\n    return torch.linalg.inv(a)\ndef step(a):\n"
          "    return torch.vmap(f)(a)\n"),
    _case("decorator's wrapper", _T + "from pkg.deco import scaled\n@scaled\ndef step(a):\n    return a\n",
          deco="import functools, torch\ndef scaled(fn):\n    @functools.wraps(fn)\n    def wrapper(a):\n"
          "        return torch.linalg.inv(fn(a))\n    return wrapper\n"),
    _case("closure from a factory", _T + "def make(n):\n    def inner(a):\n        return torch.linalg.inv(a)\n"
          "    return inner\nrun = make(3)\ndef step(a):\n    return run(a)\n"),
    _case("nested function", _T + "def step(a):\n    def inner():\n        return torch.linalg.inv(a)\n    return inner()\n"),
    _case("generator", _T + "def rows(a):\n    yield torch.linalg.inv(a)\ndef step(a):\n    return list(rows(a))\n"),
    _case("context manager", _T + "class Scale:\n    def __enter__(self):\n        return torch.linalg.inv(self.a)\n"
          "    def __exit__(self, *e):\n        pass\ndef step(a):\n    with Scale() as s:\n        return s\n"),
    _case("property", _T + "class Box:\n    def __init__(self, a):\n        self.a = a\n    @property\n"
          "    def inv(self):\n        return torch.linalg.inv(self.a)\ndef step(a):\n    return Box(a).inv\n"),
    _case("operator of a class", _T + "class Op:\n    def __matmul__(self, b):\n        return torch.linalg.solve(b, b)\n"
          "def step(a):\n    return Op() @ a\n"),
    _case("module called through __call__", _T + "class Net(torch.nn.Module):\n    def forward(self, a):\n"
          "        return torch.linalg.inv(a)\nnet = Net()\ndef step(a):\n    return net(a)\n"),
    _case("module behind a wrapper", _T + "class Net(torch.nn.Module):\n    def forward(self, a):\n"
          "        return torch.linalg.inv(a)\nnet = torch.compile(torch.nn.Sequential(Net()))\n"
          "def step(a):\n    return net(a)\n"),
    _case("module given without a type", _T + "class Net(torch.nn.Module):\n    def forward(self, a):\n"
          "        return torch.linalg.inv(a)\ndef step(model, a):\n    return model(a)\n"),
    _case("registered hook", _T + "class Net(torch.nn.Module):\n    def __init__(self):\n        super().__init__()\n"
          "        self.layer = torch.nn.Linear(2, 2)\n        self.layer.register_forward_hook(self._hook)\n"
          "    def _hook(self, m, i, o):\n        return torch.linalg.inv(o)\n    def forward(self, a):\n"
          "        return self.layer(a)\nnet = Net()\ndef step(a):\n    return net(a)\n"),
    _case("autograd function's backward", _T + "class F(torch.autograd.Function):\n    @staticmethod\n"
          "    def forward(ctx, a):\n        return a\n    @staticmethod\n    def backward(ctx, g):\n"
          "        return torch.linalg.inv(g)\ndef step(a):\n    return F.apply(a)\n"),
    _method("attribute typed by its constructor", _T + "class Loss:\n    def value(self, a):\n        return torch.linalg.inv(a)\n"
            "class Trainer:\n    def __init__(self):\n        self.loss = Loss()\n    def step(self, a):\n"
            "        return self.loss.value(a)\n"),
    _method("attribute typed by an argument", "from pkg.loss import Loss\nclass Trainer:\n"
            "    def __init__(self, loss: 'Loss'):\n        self.loss = loss\n    def step(self, a):\n"
            "        return self.loss(a)\n", loss=_T + "class Loss(torch.nn.Module):\n    def forward(self, a):\n"
            "        return torch.linalg.inv(a)\n"),
    _method("callback stored by the constructor", _T + "class Trainer:\n    def __init__(self, fn):\n        self.fn = fn\n"
            "    def step(self, a):\n        return self.fn(a)\ndef main():\n    return Trainer(torch.linalg.inv)\n"),
    _method("override in a subclass", _T + "class Trainer:\n    def step(self, a):\n        return self.extra(a)\n"
            "    def extra(self, a):\n        return a\nclass Other(Trainer):\n    def extra(self, a):\n"
            "        return torch.linalg.inv(a)\n"),
    _method("inherited through super", _T + "class Base:\n    def step(self, a):\n        return torch.linalg.inv(a)\n"
            "class Trainer(Base):\n    def step(self, a):\n        return super().step(a)\n"),
    _method("unknown receiver by name", _T + "class Loss:\n    def covariance_term(self, a):\n        return torch.linalg.inv(a)\n"
            "class Trainer:\n    def step(self, a, parts):\n        return parts.covariance_term(a)\n"),
    _case("table read by a method", _T + "KINDS = {'a': torch.linalg.inv}\ndef step(a, k):\n    return KINDS.get(k)(a)\n"),
    _case("context variable", "import contextvars\n" + _T + "V = contextvars.ContextVar('v', default=torch.linalg.inv)\n"
          "def step(a):\n    return V.get()(a)\n"),
    _case("metaclass", _T + "class M(type):\n    def __call__(cls, a):\n        return torch.linalg.inv(a)\n"
          "class K(metaclass=M):\n    pass\ndef step(a):\n    return K(a)\n"),
    _case("method of an enumeration", "import enum\n" + _T + "class E(enum.Enum):\n    A = 1\n    def run(self, a):\n"
          "        return torch.linalg.inv(a)\ndef step(a):\n    return E.A.run(a)\n"),
    _case("methodcaller made before", "import operator\nf = operator.methodcaller('inverse')\ndef step(a):\n    return f(a)\n"),
    _case("negative power through a helper", _T + "def power(a, n):\n    return torch.linalg.matrix_power(a, n)\n"
          "def step(a):\n    return power(a, -1)\n"),
    _case("object handed to map", _T + "class Run:\n    def __call__(self, a):\n        return torch.linalg.inv(a)\n"
          "def step(a):\n    return list(map(Run(), a))\n"),
    _case("object handed to an unknown function", _T + "class Run:\n    def __call__(self, a):\n        return torch.linalg.inv(a)\n"
          "def step(a, each):\n    return each(Run(), a)\n"),
    _case("object called by whom it is given to", _T + "class Run:\n    def __call__(self, a):\n        return torch.linalg.inv(a)\n"
          "def go(fns, a):\n    for fn in fns:\n        a = fn(a)\n    return a\ndef step(a):\n    return go([Run()], a)\n"),
    _case("scheduler that its step calls back", _SCHEDULER + "def step(sched: Sched, a):\n    sched.step()\n    return a\n"),
    _case("scheduler of the library's type", _SCHEDULER + "def step(sched: torch.optim.lr_scheduler.LRScheduler, a):\n"
          "    sched.step()\n    return a\n"),
    _case("scheduler without a type", _SCHEDULER + "def step(sched, a):\n    sched.step()\n    return a\n"),
    _case("optimizer that the packages derive", _T + "class Mine(torch.optim.Optimizer):\n    def step(self, closure=None):\n"
          "        torch.linalg.inv(self.a)\ndef step(opt: torch.optim.Optimizer, a):\n    opt.step()\n    return a\n"),
    _case("operations of a tensor class", _T + "class Mine(torch.Tensor):\n    @classmethod\n"
          "    def __torch_function__(cls, func, types, args=(), kwargs=None):\n        return torch.linalg.inv(args[0])\n"
          "def step(a: torch.Tensor):\n    return a.as_subclass(Mine) + 1\n"),
    _case("condition number in a norm that inverts", _T + "def step(a):\n    return torch.linalg.cond(a, p=1)\n"),
    _case("condition number, the norm by position", _T + "def step(a):\n    return torch.linalg.cond(a, 'fro')\n"),
    _case("orthogonal weights by a Cayley map", _T + "layer = torch.nn.utils.parametrizations.orthogonal(torch.nn.Linear(4, 4), "
          "orthogonal_map='cayley')\ndef step(a):\n    return layer(a)\n"),
    _case("override of a class that its base's class method makes", _T + "class Base:\n    @classmethod\n    def build(cls):\n"
          "        return cls()\n    def run(self, a):\n        return a\nclass Sub(Base):\n    def run(self, a):\n"
          "        return torch.linalg.inv(a)\ndef step(a):\n    return Sub.build().run(a)\n"),
    _case("override of a class that makes another of its kind", _T + "class Base:\n    def again(self):\n        return type(self)()\n"
          "    def run(self, a):\n        return a\nclass Sub(Base):\n    def run(self, a):\n        return torch.linalg.inv(a)\n"
          "def step(a, base: Base):\n    return base.again().run(a)\n"),
    _case("registry that derived classes enter", _T + "KINDS = {}\nclass Base:\n    def __init_subclass__(cls, *, key):\n"
          "        KINDS[key] = cls\n    def run(self, a):\n        return a\nclass Sub(Base, key='sub'):\n    def run(self, a):\n"
          "        return torch.linalg.inv(a)\ndef step(a, key):\n    return KINDS[key]().run(a)\n"),
    _case("registry that a metaclass fills", _T + "class Meta(type):\n    kinds = {}\n    def __new__(mcs, name, bases, body):\n"
          "        made = super().__new__(mcs, name, bases, body)\n        mcs.kinds[name] = made\n        return made\n"
          "class Sub(metaclass=Meta):\n    def run(self, a):\n        return torch.linalg.inv(a)\ndef step(a, key):\n"
          "    return Meta.kinds[key]().run(a)\n"),
    _case("value of an enumeration's member", "import enum\nfrom functools import partial\n" + _T + "def exact(a):\n"
          "    return torch.linalg.inv(a)\nclass Mode(enum.Enum):\n    EXACT = partial(exact)\n    def __call__(self, a):\n"
          "        return self.value(a)\ndef step(a, mode: Mode):\n    return mode(a)\n"),
    _case("item of an enumeration's value", "import enum\n" + _T + "def exact(a):\n    return torch.linalg.inv(a)\n"
          "class Mode(enum.Enum):\n    EXACT = ('exact', exact)\n    def __init__(self, label, run):\n        self.run = run\n"
          "def step(a, mode: Mode):\n    return mode.run(a)\n"),
    _case("setter of a property", _T + "class Box:\n    @property\n    def a(self):\n        return self._a\n    @a.setter\n"
          "    def a(self, value):\n        self._a = torch.linalg.inv(value)\ndef step(a):\n    box = Box()\n    box.a = a\n"
          "    return box.a\n"),
    _case("setting of any attribute", _T + "class Box:\n    def __setattr__(self, name, value):\n"
          "        super().__setattr__(name, torch.linalg.inv(value))\ndef step(a):\n    box = Box()\n    box.a = a\n    return box\n"),
    _case("setting through a descriptor", _T + "class Field:\n    def __set__(self, owner, value):\n"
          "        owner.kept = torch.linalg.inv(value)\nclass Box:\n    a = Field()\ndef step(a):\n    box = Box()\n    box.a = a\n"
          "    return box\n"),
    _case("module inside a wrapper", _T + "class Net(torch.nn.Module):\n    def encode(self, a):\n        return torch.linalg.inv(a)\n"
          "net = torch.nn.DataParallel(Net())\ndef step(a):\n    return net.module.encode(a)\n"),
    _case("alias of a function whose name begins like a constant's", _T + "f = torch.pinverse\ndef step(a):\n    return f(a)\n"),
    _method("distribution that was made before", _T + "class Trainer:\n    def __init__(self, a):\n"
            "        self.prior = torch.distributions.MultivariateNormal(a, torch.eye(2))\n    def step(self, a):\n"
            "        return self.prior.log_prob(a)\n"),
    _case("distribution of a derived class", _T + "class Prior(torch.distributions.MultivariateNormal):\n    pass\ndef step(a):\n"
          "    return Prior(a, a)\n"),
    _case("divergence of two distributions", _T + "from torch.distributions import MultivariateNormal, kl_divergence\n"
          "def step(p: MultivariateNormal, q: MultivariateNormal):\n    return kl_divergence(p, q)\n"),
    _case("registry that derives from a dictionary", _T + "class Registry(dict):\n    def register(self, fn):\n"
          "        self[fn.__name__] = fn\n        return fn\nREGISTRY = Registry()\n@REGISTRY.register\ndef exact(a):\n"
          "    return torch.linalg.inv(a)\ndef step(a, key):\n    return REGISTRY[key](a)\n"),
    _case("list of a derived class", _T + "class Chain(list):\n    def __call__(self, a):\n        for fn in self:\n            a = fn(a)\n"
          "        return a\nchain = Chain()\nchain.append(torch.linalg.inv)\ndef step(a):\n    return chain(a)\n"),
    _case("method of an argument that nobody passes", _T + "def step(a, b=None):\n    return a if b is None else b.inverse() @ a\n"),
    _case("negated absolute exponent", _T + "def step(a, n):\n    return torch.linalg.matrix_power(a, -abs(n))\n"),
    _method("method that a weak reference holds", "import weakref\n" + _T + "class Trainer:\n    def __init__(self):\n"
            "        self.fn = weakref.WeakMethod(self.run)\n    def run(self, a):\n        return torch.linalg.inv(a)\n"
            "    def step(self, a):\n        fn = self.fn()\n        return fn(a)\n"),
    _case("collate function of a loader", _T + "from torch.utils.data import DataLoader\ndef collate(b):\n"
          "    return torch.linalg.inv(b)\nloader = DataLoader([], collate_fn=collate)\ndef step(a):\n"
          "    for b in loader:\n        a = a + b\n    return a\n"),
)  # fmt: skip
_VALID = (
    _case("local variable called solve", "def step(a):\n    solve = a + 1\n    return solve\n"),
    _case("project method called solve", "class Maze:\n    def solve(self):\n        return 1\n"
          "def step(a):\n    maze = Maze()\n    return maze.solve() + a\n"),
    _case("project inverse given as an argument", "class Permutation:\n    def inverse(self):\n        return self\n"
          "def undo(p):\n    return p.inverse()\ndef step(a):\n    return undo(Permutation())\n"),
    _case("own function called inv", "def inv(a):\n    return 1 / a\ndef step(a):\n    return inv(a)\n"),
    _case("configuration key", "CONFIG = {'inv': 1, 'solve': 2}\ndef step(a):\n    return a * CONFIG['inv']\n"),
    _case("words in a docstring", "def step(a):\n    'torch.linalg.solve is not used.'\n    return a\n"),
    _case("eigh is no solver", _T + "def step(a):\n    return torch.linalg.eigh(a)\n"),
    _case("positive power through a helper", _T + "def power(a, n):\n    return torch.linalg.matrix_power(a, n)\n"
          "def step(a):\n    return power(a, 2)\n"),
    _case("positive power", _T + "def step(a):\n    return torch.linalg.matrix_power(a, 3)\n"),
    _case("solver outside the path", _T + "def step(a):\n    return a + 1\ndef offline(a):\n    return torch.linalg.inv(a)\n"),
    _case("solved once, before", _T + "W = torch.linalg.inv(torch.eye(2))\ndef step(a):\n    return W @ a\n"),
    _method("solved in the constructor", _T + "class Trainer:\n    def __init__(self, a):\n        self.w = torch.linalg.inv(a)\n"
            "    def step(self, a):\n        return self.w @ a\n"),
    _case("helper shared with offline code", _T + "def apply(fn, a):\n    return fn(a)\ndef step(a):\n"
          "    return apply(torch.exp, a)\ndef offline(a):\n    return apply(torch.linalg.inv, a)\n"),
    _case("decorator shared with offline code", _T + "def timed(fn):\n    def wrapper(*args):\n        return fn(*args)\n"
          "    return wrapper\n@timed\ndef step(a):\n    return a + 1\n@timed\ndef offline(a):\n    return torch.linalg.inv(a)\n"),
    _case("class beside another in a registry", _T + "ENTRIES = {}\ndef register(name):\n    def keep(cls):\n"
          "        ENTRIES[name] = cls\n        return cls\n    return keep\n"
          "@register('solved')\nclass Solved:\n    def __call__(self, a):\n        return torch.linalg.inv(a)\n"
          "@register('plain')\nclass Plain:\n    def __call__(self, a):\n        return a\n"
          "def step(a):\n    return Plain()(a)\n"),
    _case("data set behind a loader that only offline code iterates", _T + "from torch.utils.data import DataLoader, Dataset\n"
          "class Scenes(Dataset):\n    def __getitem__(self, n):\n        return {'x': torch.linalg.inv(torch.eye(n))}\n"
          "def step(batch):\n    return batch['x']\n"
          "def fit():\n    for batch in DataLoader(Scenes()):\n        step(batch)\n"),
    _case("inverse of another name", _T + "def step(a):\n    return torch.fft.ifft(a) + a.inverse_transform\n"),
    _case("only asked for its type", _T + "class Solver:\n    def __init__(self, a):\n        self.x = torch.linalg.inv(a)\n"
          "def step(a):\n    return 1 if isinstance(a, Solver) else 2\n"),
    _case("only an annotation", _T + "class Solver:\n    def __call__(self, a):\n        return torch.linalg.inv(a)\n"
          "def step(a, s: Solver | None = None):\n    return a + 1\n"),
    _method("object handed to what calls nothing", "import logging, weakref\n" + _T + "LOG = logging.getLogger()\nclass State:\n"
            "    def __init__(self, owner):\n        self.owner = owner\nclass Trainer:\n    def step(self, a):\n"
            "        self.rows = [self]\n        LOG.debug('%s', self)\n        setattr(self, 'seen', id(self))\n"
            "        if isinstance(self, Trainer) and hasattr(self, 'seen'):\n            return State(self), weakref.ref(self)\n"
            "        return type(self), vars(self), getattr(self, 'x', None)\n"
            "    def __call__(self, a):\n        return torch.linalg.inv(a)\n"),
    _case("condition number from singular values", _T + "def step(a):\n    return torch.linalg.cond(a, 2) + torch.linalg.cond(a)\n"),
    _case("class method taken from another derived class", _T + "class Base:\n    @classmethod\n    def build(cls):\n        return cls()\n"
          "    def run(self, a):\n        return a\nclass Sub(Base):\n    def run(self, a):\n        return torch.linalg.inv(a)\n"
          "def step(a):\n    return Base.build().run(a)\ndef offline(a):\n    return Sub.build().run(a)\n"),
    _case("setter of a property that is only read", _T + "class Box:\n    @property\n    def a(self):\n        return self._a\n"
          "    @a.setter\n    def a(self, value):\n        self._a = torch.linalg.inv(value)\ndef step(box: Box):\n    return box.a\n"),
    _method("samples of a distribution that was made before", _T + "class Trainer:\n    def __init__(self, a):\n"
            "        self.prior = torch.distributions.MultivariateNormal(a, torch.eye(2))\n    def step(self, a):\n"
            "        return self.prior.rsample() + a\n"),
    _case("nested function that is never used", _T + "def step(a):\n    def unused():\n        return torch.linalg.inv(a)\n"
          "    return a\n"),
)  # fmt: skip
_LIMITS = (
    _case("a solver inside another library", "from someone import whiten\ndef step(a):\n    return whiten(a)\n"),
    _case("an inverse written out by hand", "def step(a, b, c, d):\n    return d / (a * d - b * c)\n"),
)  # fmt: skip

RULE = Rule(
    code="HOT001",
    title="no solver on the hot path",
    table="hot-path",
    manual=MANUAL,
    mend="Move the solve into an offline module and store its result, or use a factored form that needs none.",
    check=check,
    settings=_SETTINGS,
    valid=_VALID,
    invalid=_INVALID,
    limits=_LIMITS,
)
