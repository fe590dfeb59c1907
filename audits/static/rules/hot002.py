"""HOT002: nothing on the hot path is beyond proof."""

from __future__ import annotations

from collections.abc import Iterable

from audits.static.analysis.engine import Issue, Unit
from audits.static.analysis.externals import DYNAMIC
from audits.static.analysis.reach import Reach
from audits.static.analysis.unknown_calls import unknown_calls
from audits.static.context import Context
from audits.static.findings import Finding
from audits.static.libraries import solvers
from audits.static.rules.base import Case, Rule
from audits.static.source import ir
from audits.static.source.project import ModuleInfo
from audits.static.subjects.called_values import told_apart
from audits.static.subjects.solver_use import CONDITIONS, condition_norm, exponent_of, exponent_sign, is_offset

MANUAL = """\
A proof is worth what it can see. On the hot path this rule reports what reading code can't see through: exec, eval,
importlib, getattr and setattr with computed names, attrgetter and methodcaller, monkey-patching (anywhere in the
packages, because it changes code elsewhere), `torch.ops` and `torch._C` operators, names that are bound nowhere,
calls of what a class keeps under a name that nothing in the packages defines, calls of a value that nothing identifies
(a parameter that nobody passes, a plugin, an entry of a configuration), and calls into a library that is not known.
The proof of an entry point that meets one is `unresolved`, never `proved`.
"""


def check(context: Context) -> Iterable[Finding]:
    """One finding for each opaque place."""
    seen: set[tuple[str, int, int]] = set()
    for reached in context.reaches:
        for fn in reached.functions:
            for issue in opaque(context, reached.units[fn]):
                key = (fn.module.relative, issue.node.line, issue.node.column)
                if key not in seen:
                    seen.add(key)
                    path = reached.path_to(fn, issue.node.line)
                    yield context.finding(
                        "HOT002", fn.module, issue.node, issue.message,
                        fn=fn, entry_point=reached.entry_point, call_path=path,
                    )  # fmt: skip
    for module, issue in patches(context):
        key = (module.relative, issue.node.line, issue.node.column)
        if key not in seen:
            seen.add(key)
            entry = context.settings.entry_points[0]
            yield context.finding("HOT002", module, issue.node, issue.message, entry_point=entry)


def patches(context: Context) -> list[tuple[ModuleInfo, Issue]]:
    """Monkey-patching, wherever it happens."""
    return [(u.module, issue) for u in context.analysis.all_units() for issue in u.patches]


def count(context: Context, reached: Reach) -> int:
    """How many opaque places this entry point meets."""
    places = {
        (fn.module.relative, issue.node.line, issue.node.column) for fn in reached.functions for issue in opaque(context, reached.units[fn])
    }
    places |= {(m.relative, issue.node.line, issue.node.column) for m, issue in patches(context)}
    return len(places)


def opaque(context: Context, unit: Unit) -> Iterable[Issue]:
    """The opaque places of one unit."""
    yield from unit.issues
    yield from (issue for issue in unknown_calls(unit) if not told_apart(context, unit, issue.node))
    for ref in unit.refs:
        name = ref.ext
        if name in DYNAMIC:
            yield Issue(ref.node, f"{DYNAMIC[name]} on the hot path hides what runs")
        elif name.startswith("importlib.") or name == "importlib":
            yield Issue(ref.node, "importlib on the hot path hides what runs")
        elif name.startswith(("ctypes.", "cffi.")):
            yield Issue(ref.node, f"{name} on the hot path runs code that is no Python")
        elif name and context.project.is_local(name):
            yield Issue(ref.node, f"{name} is code of this repository that `packages` does not name")
        elif solvers.is_opaque(name) and not solvers.is_solver(name):
            yield Issue(ref.node, f"{name} is an operator without a description that could be checked")
        elif name in CONDITIONS and condition_norm(unit, ref.node) == "unknown":
            yield Issue(ref.node, f"{name} in a norm that is not a literal may invert")
        elif solvers.is_matrix_power(name):
            call = next((c for c in unit.calls if c.func is ref.node), None)
            if call is None and _is_named(unit, ref.node):
                continue  # it is judged where the name is called
            exponent = exponent_of(call) if call is not None else None
            if call is None or exponent is None or (exponent_sign(unit, call) == 0 and not is_offset(exponent)):
                yield Issue(ref.node, f"{name.removeprefix('?.')} with an exponent that is not a literal may invert")


def _is_named(unit: Unit, node: ir.Node) -> bool:
    body = unit.fn.node.body if unit.fn is not None else unit.module.tree.body
    return any(isinstance(n, ir.Assign) and n.value is node and isinstance(n.targets[0], ir.Name) for n in ir.walk_own(body))


_SETTINGS = {"hot-path": {"entry-points": ["pkg.step:step"]}}


def _case(name: str, source: str, **others: str) -> Case:
    files = {"pkg/__init__.py": "", "pkg/step.py": source}
    files.update({f"pkg/{k}.py": v for k, v in others.items()})
    return Case(name, files)


def _model(forward: str, init: str = "pass") -> str:
    return (
        "import torch\nclass Head(torch.nn.Module):\n    def forward(self, x):\n        return x\nclass Model(torch.nn.Module):\n"
        f"    def __init__(self):\n        super().__init__()\n        self.kept = []\n        {init}\n"
        f"    def forward(self, x):\n        {forward}\nmodel = Model()\ndef step(x):\n    return model(x)\n"
    )


def _method(name: str, init: str, body: str) -> Case:
    source = f"class Trainer:\n    def __init__(self, cbs):\n        {init}\n    def run(self, x):\n        {body}\n"
    return Case(name, {"pkg/__init__.py": "", "pkg/step.py": source}, {"hot-path": {"entry-points": ["pkg.step:Trainer.run"]}})


RULE = Rule(
    code="HOT002",
    title="nothing on the hot path is beyond proof",
    table="hot-path",
    manual=MANUAL,
    mend="Write the call literally, or look it up in a table of functions that is spelled out in the module.",
    check=check,
    settings=_SETTINGS,
    valid=(
        _case("what a module inherits", _model("self.train()\n        return next(self.parameters())")),
        _case("a module that is added by name", _model("return self.head(x)", init="self.add_module('head', Head())")),
        _case(
            "what a mixin uses of its subclass's other base",
            "class Runs:\n    def run(self, x):\n        return self.part(x)\nclass Has:\n    def part(self, x):\n        return x\n"
            "class Both(Runs, Has):\n    pass\ndef step(x):\n    return Both().run(x)\n",
        ),
        _case(
            "what an autograd function keeps in its context",
            "import torch\nclass Double(torch.autograd.Function):\n    @staticmethod\n    def forward(ctx, x):\n"
            "        ctx.save_for_backward(x)\n        return 2 * x\n    @staticmethod\n    def backward(ctx, g):\n"
            "        (x,) = ctx.saved_tensors\n        return 2 * g if ctx.needs_input_grad[0] else x\n"
            "def step(x):\n    return Double.apply(x)\n",
        ),
        _case("getattr with a literal name", "import torch\ndef step(x):\n    return getattr(torch, 'exp')(x)\n"),
        _case(
            "getattr over literal names",
            "import torch\nNAMES = ('exp', 'log')\ndef step(x):\n"
            "    for name in NAMES:\n        x = getattr(torch, name)(x)\n    return x\n",
        ),
        _case(
            "getattr with a name that every caller spells out",
            "class Log:\n    def on_start(self, x):\n        return x\n    def on_end(self, x):\n        return x\nLOGS = [Log()]\n"
            "def emit(event: str, x):\n    for log in LOGS:\n        getattr(log, f'on_{event}')(x)\n"
            "def step(x):\n    emit('start', x)\n    emit('end', x)\n    return x\n",
        ),
        _case("eval outside the hot path", "def step(x):\n    return x\ndef tool(text):\n    return eval(text)\n"),
        _case("model.eval is not eval", "def step(model, x):\n    model.eval()\n    return x\n"),
        _case(
            "a flag of a library is set",
            "import torch\ntorch.backends.cudnn.benchmark = True\ndef step(x):\n    return x + 1\n",
        ),
        _case(
            "getattr over the fields of a dataclass",
            "from dataclasses import dataclass, fields\n@dataclass\nclass Box:\n    a: int\n    b: int\n"
            "def step(x: Box):\n    return [getattr(x, f.name) for f in fields(x)]\n",
        ),
        _case(
            "steps of an optimizer and a scheduler",
            "import torch\ndef step(x, opt: torch.optim.Optimizer, sched: torch.optim.lr_scheduler.LRScheduler, net: torch.nn.Linear):\n"
            "    opt.zero_grad()\n    net(x).sum().backward()\n    torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)\n"
            "    opt.step()\n    sched.step()\n    return net(x).detach()\n",
        ),
        _case(
            "callbacks that somebody passes",
            "def step(x, callbacks):\n    for cb in callbacks:\n        x = cb(x)\n    return x\n"
            "def double(x):\n    return 2 * x\ndef main(x):\n    return step(x, [double])\n",
        ),
        _case(
            "a function beside numbers in rows",
            "import torch\nclass Loss:\n    def __init__(self, cfg):\n        self.terms = [(cfg.a, torch.exp), (cfg.b, torch.log)]\n"
            "    def run(self, x):\n        return sum(weight * term(x) for weight, term in self.terms)\n"
            "def step(x, loss: Loss):\n    return loss.run(x)\n",
        ),
        _case("an alias of a torch function", "import torch\nf = torch.exp\ndef step(x):\n    return f(x)\n"),
        _case(
            "modules of the library by name",
            "import torch\nclass Net(torch.nn.Module):\n    def __init__(self):\n        super().__init__()\n"
            "        self.heads = torch.nn.ModuleDict({'a': torch.nn.Linear(2, 2)})\n    def forward(self, x):\n"
            "        return {k: head(x) for k, head in self.heads.items()}\nnet = Net()\ndef step(x):\n    return net(x)\n",
        ),
        _case(
            "a context variable",
            "import contextvars\nV = contextvars.ContextVar('v')\ndef double(x):\n    return 2 * x\ndef use():\n    V.set(double)\n"
            "def step(x):\n    return V.get()(x)\n",
        ),
        _case(
            "an operation that the library hands over",
            "import torch\nclass Mine(torch.Tensor):\n    @classmethod\n"
            "    def __torch_function__(cls, func, types, args=(), kwargs=None):\n        return func(*args, **(kwargs or {}))\n"
            "def step(x: torch.Tensor):\n    return x.as_subclass(Mine) + 1\n",
        ),
        _case(
            "a named tuple of functions",
            "from collections import namedtuple\nimport torch\nOps = namedtuple('Ops', 'there back')\n"
            "OPS = Ops(there=torch.exp, back=torch.log)\ndef step(x):\n    return OPS.back(OPS.there(x))\n",
        ),
        _case(
            "a function behind a decorator with arguments",
            "import functools\nimport torch\ndef double(x):\n    return 2 * x\nkept = functools.lru_cache(None)(double)\n"
            "quiet = torch.no_grad()(double)\ndef step(x):\n    return kept(x) + quiet(x)\n",
        ),
        _case(
            "the children of a module",
            _model("for child in self.children():\n            x = child(x)\n        return x", init="self.layer = torch.nn.ReLU()"),
        ),
        _case("a tensor that nobody passes", "def step(x, mask=None):\n    return x if mask is None else x * mask / mask.sum()\n"),
        _case(
            "a class decorator that adds a method",
            "def scaled(cls):\n    def scale(self, x):\n        return 2 * x\n    cls.scale = scale\n    return cls\n@scaled\nclass Box:\n"
            "    def run(self, x):\n        return self.scale(x)\ndef step(x):\n    return Box().run(x)\n",
        ),
        _case("an even power", "import torch\ndef step(x):\n    return torch.linalg.matrix_power(x, 2)\n"),
    ),
    invalid=(
        _case("a method that nothing defines", _model("return self.magic(x)")),
        _case("a module kept under a computed name", _model("return self.head0(x)", init="setattr(self, f'head{len(self.kept)}', Head())")),
        _case(
            "what a plain object keeps in its dictionary",
            "class Box:\n    def __init__(self, **parts):\n        self.__dict__.update(parts)\n"
            "    def run(self, x):\n        return self.fn(x)\n"
            "box = Box(fn=len)\ndef step(x):\n    return box.run(x)\n",
        ),
        _case("exec", "def step(x):\n    exec('y = 1')\n    return x\n"),
        _case("eval", "def step(x):\n    return eval('x + 1')\n"),
        _case("importlib", "import importlib\ndef step(x):\n    return importlib.import_module('json').dumps(x)\n"),
        _case("__import__", "def step(x):\n    return __import__('json').dumps(x)\n"),
        _case("computed getattr", "import torch\ndef step(x, name):\n    return getattr(torch, name)(x)\n"),
        _case(
            "getattr with a name that one caller computes",
            "class Log:\n    def on_start(self, x):\n        return x\nLOGS = [Log()]\n"
            "def emit(event: str, x):\n    for log in LOGS:\n        getattr(log, event)(x)\n"
            "def step(x):\n    emit('on_start', x)\n    emit('_'.join(x.names), x)\n    return x\n",
        ),
        _case("computed getattr from text", "import torch\ndef step(x, i):\n    return getattr(torch, f'f{i}')(x)\n"),
        _case("methodcaller", "from operator import methodcaller\ndef step(x):\n    return methodcaller('exp')(x)\n"),
        _case("attrgetter", "import operator\ndef step(x):\n    return operator.attrgetter('mH')(x)\n"),
        _case("an operator namespace", "import torch\ndef step(x):\n    return torch.ops.mine.blur(x)\n"),
        _case("a private operator", "import torch\ndef step(x):\n    return torch._C._nn.gelu(x)\n"),
        _case(
            "a patched library function",
            "import torch\nfrom pkg import patch\ndef step(x):\n    return torch.matmul(x, x)\n",
            patch="import torch\ndef other(a, b):\n    return a\ntorch.matmul = other\n",
        ),
        _case(
            "setattr on a module",
            "import torch\ndef other(a, b):\n    return a\nsetattr(torch, 'matmul', other)\ndef step(x):\n    return torch.matmul(x, x)\n",
        ),
        _case(
            "a patched class",
            "class Model:\n    def run(self, x):\n        return x\n"
            "def other(self, x):\n    return x\nModel.run = other\ndef step(x):\n    return Model().run(x)\n",
        ),
        _case(
            "setattr with a computed name elsewhere",
            "import torch\ndef step(x):\n    return torch.relu(x)\ndef install(names, fn):\n    for name in names:\n"
            "        setattr(torch, name, fn)\n",
        ),
        _case(
            "an unknown function beside numbers in rows",
            "import torch\nclass Loss:\n    def __init__(self, cfg, more):\n        self.terms = [(cfg.a, torch.exp), (cfg.b, more)]\n"
            "    def run(self, x):\n        return sum(weight * term(x) for weight, term in self.terms)\n"
            "def step(x, loss: Loss):\n    return loss.run(x)\n",
        ),
        _case("compiled code", "import ctypes\nLIB = ctypes.CDLL('x.so')\ndef step(x):\n    return ctypes.CDLL('y.so')\n"),
        _case("what was stored in a file", "import torch\ndef step(x, path):\n    return torch.load(path, weights_only=False)(x)\n"),
        _case("a namespace with a computed key", "import torch\ndef step(x, n):\n    return vars(torch)[n](x)\n"),
        _case("a condition number in an unknown norm", "import torch\ndef step(x, p):\n    return torch.linalg.cond(x, p)\n"),
        _case("a name bound nowhere", "def step(x):\n    return mystery(x)\n"),
        _case("an unknown exponent", "import torch\ndef step(x, n):\n    return torch.matrix_power(x, n)\n"),
        Case(
            "a module beside the packages",
            {
                "pkg/__init__.py": "",
                "helper.py": "def go(a):\n    return a\n",
                "pkg/step.py": "from helper import go\ndef step(a):\n    return go(a)\n",
            },
        ),
        _case("code of a library that nobody described", "from somewhere import extension\ndef step(x):\n    return extension.run(x)\n"),
        _case("what such a library made", "import mylib\nobj = mylib.make()\ndef step(x):\n    return obj.run(x) + obj(x)\n"),
        _case("an object of such a library", "import mylib\ndef step(x, obj: mylib.Thing):\n    return obj.mean(x)\n"),
        _case("a parameter that nobody passes", "def step(x, weird):\n    return weird(x)\n"),
        _case("a method of a parameter that nobody passes", "def step(x, weird):\n    return weird.whiten(x)\n"),
        _method("callbacks that nobody passes", "self.cbs = cbs", "for cb in self.cbs:\n            x = cb(x)\n        return x"),
        _method("an entry of a configuration", "self.solver = cbs.solver", "return self.solver(x)"),
        _case(
            "plugins",
            "from importlib.metadata import entry_points\nPLUGINS = [e.load() for e in entry_points(group='p')]\n"
            "def step(x):\n    for run in PLUGINS:\n        x = run(x)\n    return x\n",
        ),
    ),
)
