"""HOT003: nothing on the hot path leaves the device graph."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from audits.static.analysis.engine import Unit
from audits.static.analysis.values import Cls, ExtInst, Inst
from audits.static.context import Context
from audits.static.dataflow import usage
from audits.static.dataflow.flow import Flow
from audits.static.dataflow.value_origins import Origins
from audits.static.findings import Finding
from audits.static.rules.base import Case, Rule
from audits.static.source import ir
from audits.static.subjects.tensors import Tensors, operands

MANUAL = """\
A value that is read on the host makes the training step wait for the device, and a value that comes back from NumPy
has lost its gradient. Starting at each `hot-path.entry-points` function, along everything that HOT001 follows, this
rule reports: `.item()`, `.tolist()`, `.numpy()`, `.cpu()`, `.__array__()` and `.to("cpu")`, bound or unbound, on
anything that may be a tensor; calls of NumPy, SciPy, pandas and scikit-learn; prints; waiting for the device; and what
reads the value of a certain tensor: `float()`, `int()`, `bool()`, `complex()`, `str()`, `range()`, `math.*`, `max()` and
its like over its elements, `torch.equal`, formatting and logging it, and a branch, a comprehension's condition, a search
or an assertion that depends on it.

Certain are tensors by annotation, by the torch function that makes them, or by what only tensors can do
(`loss.backward()`), and what is taken from lists and tables of them. A parameter of which nothing is known is no
certain tensor. Names such as `np.pi` and dtypes are constants; shapes, sizes, dtypes and devices are known to the
host. NumPy at import time and in constructors is not on the path. Operations whose result has a data-dependent shape
(`nonzero`, boolean masks) also wait; they stay in the graph and are left to the run-time audit.
"""
_LEAVING = frozenset({"item", "tolist", "numpy", "cpu", "__array__", "__float__", "__int__", "__bool__", "__index__", "__dlpack__"})
_TENSOR_HOMES = frozenset({"?", "torch.Tensor", "torch._C.TensorBase", "torch.nn.Parameter", "torch.nn.parameter.Parameter"})
_LIBRARIES = ("numpy.", "scipy.", "pandas.", "sklearn.", "matplotlib.", "cv2.", "numba.")
_PRINTS = frozenset(
    {"builtins.print", "pprint.pprint", "pprint.pp", "rich.print", "sys.stdout.write", "sys.stderr.write", "tqdm.tqdm.write", "click.echo",
     "sys.__stdout__.write", "sys.stdout.flush"}
)  # fmt: skip
_READERS = frozenset({"float", "int", "bool", "complex", "str", "repr", "format", "range", "hash", "round"})
_COMPARING = frozenset({"max", "min", "sorted", "any", "all"})  # of the elements of what they are given
_WAITING = frozenset({"equal", "allclose", "is_nonzero"})
_HOST_READERS = ("math.", "cmath.", "statistics.", "operator.index", "operator.truth", "operator.not_")
_MAPPING = frozenset({"builtins.map", "builtins.filter"})
_LOGS = frozenset(
    {"debug", "info", "warning", "warn", "error", "exception", "critical", "log", "add_scalar", "add_scalars", "format", "write"}
)


def check(context: Context) -> Iterable[Finding]:
    """One finding for each place that leaves the graph, with the shortest path to it."""
    seen: set[tuple[str, int, int]] = set()
    flow = context.flow
    search = _Search(context, flow)
    for reached in context.reaches:
        for fn in reached.functions:
            for node, message in search.unit(reached.units[fn]):
                key = (fn.module.relative, node.line, node.column)
                if key not in seen:
                    seen.add(key)
                    path = reached.path_to(fn, node.line)
                    yield context.finding("HOT003", fn.module, node, message, fn=fn, entry_point=reached.entry_point, call_path=path)


class _Search:
    def __init__(self, context: Context, flow: Flow) -> None:
        self.context = context
        self.flow = flow
        self.origins = Origins(flow, units=context.analysis.hot)
        self.tensors = Tensors(flow, context.analysis.hot)
        self.fields = {
            ir.last_name(s.targets[0])
            for cls in context.project.classes
            for s in cls.node.body
            if isinstance(s, ir.Assign)
        }  # fmt: skip

    def unit(self, unit: Unit) -> Iterator[tuple[ir.Node, str]]:
        if unit.fn is None:
            return
        defaults = {id(n) for p in unit.fn.node.params if p.default is not None for n in ir.walk(p.default) if n is not p.default}
        calls = {id(c.func) for c in unit.calls}
        for ref in unit.refs:
            if ref.ext and id(ref.node) not in defaults:
                message = self._reference(unit, ref.ext, ref.node, called=id(ref.node) in calls)
                if message is not None:
                    yield ref.node, message
        for call in unit.calls:
            if id(call) not in defaults:
                yield from self._call(unit, call)
        for node in ir.walk_own(unit.fn.node.body):
            yield from self._node(unit, node)

    # -- references

    def _reference(self, unit: Unit, name: str, node: ir.Node, *, called: bool) -> str | None:
        home, _, last = name.rpartition(".")
        if last in _LEAVING and (home in _TENSOR_HOMES or (last == "cpu" and home.startswith("torch.nn."))):
            if home == "?" and not called and last in self.fields:
                return None  # an attribute of that name is declared; nothing says that this one is a method
            return f".{last}() leaves the device, and it is on the hot path"
        if name in _PRINTS:
            return f"{name.removeprefix('builtins.')} on the hot path writes from the host"
        if name.startswith(_LIBRARIES) and called and not last.endswith(("Error", "Warning", "Exception")):
            return f"{name} runs on the host, and it is on the hot path"
        if name.startswith(_LIBRARIES) and not called and self._handed_over(unit, node):
            return f"{name} runs on the host, and it is handed over on the hot path"
        if last == "synchronize" and name.startswith("torch."):
            return f"{name} makes the host wait, and it is on the hot path"
        if name == "torch.save":
            return "torch.save on the hot path writes tensors to disk"
        return None

    def _handed_over(self, unit: Unit, node: ir.Node) -> bool:
        if not isinstance(node, (ir.Name, ir.Attribute)):
            return False
        return any(a.value is node for c in unit.calls for a in c.args) and ir.last_name(node)[:1].islower() and not _is_data(node)

    # -- calls

    def _call(self, unit: Unit, call: ir.Call) -> Iterator[tuple[ir.Node, str]]:
        names = usage.called_names(unit, call)
        func = call.func
        attr = func.attr if isinstance(func, ir.Attribute) else ""
        if "operator.methodcaller" in names or "operator.attrgetter" in names:
            for arg in call.args[:1]:
                if usage.texts(self.flow, usage.place(unit, arg.value)) & _LEAVING:
                    yield call, "a method that leaves the device is called by name on the hot path"
        moves = {n for n in names if n.rpartition(".")[2] in ("to", "as_tensor", "asarray", "tensor", "_to_copy")}
        if moves and any(n.startswith(("?.", "torch.")) for n in moves) and self._to_host(unit, call, moves):
            yield call, "a tensor is moved to the CPU on the hot path"
        yield from self._certain_values(unit, call, names, attr)
        receivers = unit.receivers.get(func, frozenset())
        for receiver in receivers:
            if isinstance(receiver, ExtInst) and receiver.name.startswith("rich.") and attr in ("print", "log"):
                yield call, f"{receiver.name}.{attr} on the hot path writes from the host"
            if isinstance(receiver, ExtInst) and receiver.name.startswith(_LIBRARIES) and len(receivers) == 1:
                yield call, f"{receiver.name.removesuffix('()')}.{attr} runs on the host, and it is on the hot path"

    def _certain_values(self, unit: Unit, call: ir.Call, names: set[str], attr: str) -> Iterator[tuple[ir.Node, str]]:
        readers = {n for n in names if (n.startswith("builtins.") and n[9:] in _READERS) or n.startswith(_HOST_READERS)}
        comparing = {n for n in names if n.startswith("builtins.") and n[9:] in _COMPARING}
        if comparing == names and len(names) == len(unit.calls[call]):  # `max` beside other functions is what a table falls back to
            readers |= comparing
        readers |= {n for n in names if n.startswith("torch.") and n.rpartition(".")[2] in _WAITING}
        if attr in _WAITING and isinstance(call.func, ir.Attribute) and self.tensors.certain(usage.place(unit, call.func.value)):
            yield call, f".{attr}() reads the value of a tensor, and it is on the hot path"
            return
        mapped = call.args[0].value if names & _MAPPING and call.args else None
        if isinstance(mapped, (ir.Name, ir.Attribute)):
            readers |= {n for n in usage.outside_names(self.context.analysis, unit, mapped) if _reads(n)}
        receivers = unit.receivers.get(call.func, frozenset())
        texts = attr in _LOGS and not any(isinstance(r, (Inst, Cls)) for r in receivers) and not any(n.startswith("torch") for n in names)
        texts = texts and isinstance(call.func, ir.Attribute) and not self.tensors.certain(usage.place(unit, call.func.value))
        if not readers and not texts:
            return
        told = next(iter(sorted(readers)), f".{attr}").removeprefix("builtins.")
        elements = any(n.removeprefix("builtins.") in _COMPARING or n.startswith("statistics.") for n in readers) or mapped is not None
        if usage.keyword(call, "key") is not None:
            return  # what the key makes of the elements is compared
        for arg in [p for a in call.args for p in _shown(a.value, texts=texts)]:
            read = usage.place(unit, arg)
            if not isinstance(arg, ir.FString) and (self.tensors.certain(read) or (elements and self.tensors.holds(read))):
                yield call, f"{told}() reads the value of a tensor, and it is on the hot path"
                return

    def _to_host(self, unit: Unit, call: ir.Call, names: set[str]) -> bool:
        given = usage.keyword(call, "device")
        if not all(n.endswith(".to") for n in names):
            first = call.args[0].value if call.args else None
            if given is None or first is None or not self.tensors.certain(usage.place(unit, first)):
                return False
            return self._host(unit, given)
        candidates = [given] if given is not None else usage.positional(call)[:2]
        return any(self._host(unit, c) for c in candidates) or self._by_partial(unit, call)

    def _by_partial(self, unit: Unit, call: ir.Call) -> bool:
        for found in usage.behind(self.flow, usage.place(unit, call.func)):
            if isinstance(found.expr, ir.Call) and "functools.partial" in usage.called_names(self.flow.unit(found), found.expr):
                device = usage.keyword(found.expr, "device")
                if device is not None and self._host(self.flow.unit(found), device):
                    return True
        return False

    def _host(self, unit: Unit, device: ir.Expr) -> bool:
        for found in self.origins.of(usage.place(unit, device)):
            expr = found.expr
            if found.fn is not None and found.fn not in self.context.analysis.hot:
                continue
            if isinstance(expr, ir.Call) and ir.last_name(expr.func) == "device" and expr.args:
                if self._host(self.flow.unit(found), expr.args[0].value):
                    return True
            elif isinstance(expr, ir.Constant) and isinstance(expr.value, str) and expr.value.split(":")[0] == "cpu":
                return True
        return False

    # -- statements and expressions

    def _node(self, unit: Unit, node: ir.Node) -> Iterator[tuple[ir.Node, str]]:
        if isinstance(node, (ir.If, ir.While, ir.IfExp, ir.Assert)):
            for part in operands(self.flow, usage.place(unit, node.test)):
                if self.tensors.certain(part):
                    yield part.expr, "a branch reads the value of a tensor, and it is on the hot path"
                    return
        elif isinstance(node, (ir.CompFor, ir.Case)):
            tests = node.ifs if isinstance(node, ir.CompFor) else [node.guard] if node.guard is not None else []
            for part in [p for test in tests for p in operands(self.flow, usage.place(unit, test))]:
                if self.tensors.certain(part):
                    yield part.expr, "a condition reads the value of a tensor, and it is on the hot path"
                    return
        elif isinstance(node, ir.Compare) and set(node.ops) & {"in", "not in"}:
            if self.tensors.certain(usage.place(unit, node.comparators[-1])):
                yield node, "a search reads the values of a tensor, and it is on the hot path"
        elif isinstance(node, ir.FString):
            for text in node.parts:
                if self.tensors.certain(usage.place(unit, text)):
                    yield node, "formatting reads the value of a tensor, and it is on the hot path"
                    return
        elif isinstance(node, ir.BinOp) and node.op == "%" and isinstance(node.left, (ir.Constant, ir.FString)):
            items = node.right.items if isinstance(node.right, ir.Sequence) else [node.right]
            text_left = isinstance(node.left, ir.FString) or isinstance(node.left.value, str)
            if text_left and any(self.tensors.certain(usage.place(unit, i)) for i in items):
                yield node, "formatting reads the value of a tensor, and it is on the hot path"


def _reads(name: str) -> bool:
    return (name.startswith("builtins.") and name[9:] in _READERS) or name.startswith(_HOST_READERS)


def _shown(expr: ir.Expr, *, texts: bool) -> list[ir.Expr]:
    # What a log shows of what it is given: the items of a display too.
    if not texts or not isinstance(expr, (ir.Sequence, ir.Dict)):
        return [expr]
    return [p for e in (expr.items if isinstance(expr, ir.Sequence) else expr.values) for p in _shown(e, texts=texts)]


def _is_data(node: ir.Expr) -> bool:
    name = ir.last_name(node)
    return name.startswith(("float", "int", "uint", "complex", "bool")) or name in ("pi", "e", "inf", "nan", "newaxis")


_SETTINGS = {"hot-path": {"entry-points": ["pkg.step:step"]}}


def _case(name: str, body: str, *, head: str = "import torch\n", arguments: str = "x", **others: str) -> Case:
    files = {"pkg/__init__.py": "", "pkg/step.py": f"{head}def step({arguments}):\n    {body}\n"}
    files.update({f"pkg/{k}.py": v for k, v in others.items()})
    return Case(name, files)


_NP = "import numpy as np\nimport torch\n"
_INVALID = (
    _case("item", "return x.sum().item()"),
    _case("cpu", "return x.detach().cpu()"),
    _case("numpy", "return x.detach().numpy()"),
    _case("tolist in a comprehension", "return [v.tolist() for v in x]"),
    _case("an unbound method", "return list(map(torch.Tensor.item, x))"),
    _case("a bound method under another name", "read = x.item\n    return read()"),
    _case("literal getattr", "return getattr(x, 'item')()"),
    _case("methodcaller", "return read(x)", head="from operator import methodcaller\nread = methodcaller('cpu')\n"),
    _case("a table", "return KINDS['a'](x)", head="import torch\nKINDS = {'a': torch.Tensor.tolist}\n"),
    _case("a partial", "return move(x)",
          head="import torch\nfrom functools import partial\nmove = partial(torch.Tensor.to, device='cpu')\n"),
    _case("to the CPU", "return x.to('cpu', non_blocking=True)"),
    _case("to the CPU as a device", "host = torch.device('cpu')\n    return x.to(device=host)"),
    _case("float of a certain tensor", "return float(torch.mean(x))"),
    _case("float of an annotated tensor", "return float(x)", arguments="x: torch.Tensor"),
    _case("float of what is differentiated", "loss = model(x)\n    loss.backward()\n    return float(loss)", arguments="model, x"),
    _case("int of an index", "return int(x.argmax())"),
    _case("a field that holds a tensor", "return float(measure(x).total)", head=(
        "import torch\nfrom dataclasses import dataclass\n@dataclass\nclass Terms:\n    total: torch.Tensor\n"
        "def measure(x):\n    return Terms(torch.mean(x))\n")),
    _case("a returned tensor", "return float(loss(x))", head="import torch\ndef loss(x):\n    return torch.mean(x)\n"),
    _case("math", "return math.sqrt(torch.sum(x))", head="import math\nimport torch\n"),
    _case("NumPy", "return np.mean(x)", head=_NP),
    _case("NumPy's asarray", "return torch.from_numpy(np.asarray(x))", head=_NP),
    _case("NumPy as default argument", "return lift(x)", head=_NP, arguments="x, lift=np.asarray"),
    _case("SciPy", "return linear_sum_assignment(x)", head="from scipy.optimize import linear_sum_assignment\n"),
    _case("print", "print(x)\n    return x"),
    _case("print in a decorator", "return work(x)", head=(
        "def shown(fn):\n    def inner(*args):\n        out = fn(*args)\n        print(out)\n        return out\n    return inner\n"
        "@shown\ndef work(x):\n    return x\n")),
    _case("a hook", "return net(x)", head=(
        "import torch\nclass Net(torch.nn.Module):\n    def __init__(self):\n        super().__init__()\n"
        "        self.layer = torch.nn.Linear(2, 2)\n        self.layer.register_forward_hook(self.look)\n"
        "    def look(self, module, given, out):\n        self.seen = out.mean().item()\n"
        "    def forward(self, x):\n        return self.layer(x)\nnet = Net()\n")),
    _case("a method that a descriptor gives", "return Box().read(x)", head=(
        "def read(x):\n    return x.numpy(force=True)\nclass Reading:\n    def __get__(self, instance, owner):\n        return read\n"
        "class Box:\n    read = Reading()\n")),
    _case("in another module", "return lift(x)", head="from pkg.lift import lift\n", lift="def lift(v):\n    return v.item()\n"),
    _case("a callback", "return apply(lambda v: v.item(), x)", head="def apply(fn, v):\n    return fn(v)\n"),
    _case("a property", "return Box(x).value", head=(
        "class Box:\n    def __init__(self, x):\n        self.x = x\n    @property\n    def value(self):\n        return self.x.item()\n")),
    _case("a formatted tensor", "mean = torch.mean(x)\n    return f'{mean:.3f}'"),
    _case("a logged tensor", "mean = torch.mean(x)\n    log.info('%s', mean)\n    return x",
          head="import logging\nimport torch\nlog = logging.getLogger(__name__)\n"),
    _case("a branch", "if torch.isnan(x).any():\n        return x\n    return x + 1"),
    _case("an assertion", "assert torch.isfinite(x).all()\n    return x"),
    _case("a value of a table of tensors", "return {k: float(v) for k, v in {'a': torch.exp(x)}.items()}"),
    _case("a method of an array", "return a.mean()", head="import numpy as np\n", arguments="x, a: np.ndarray"),
    _case("a module that moves", "net.cpu()\n    return net(x)", arguments="x, net: torch.nn.Module"),
    _case("a comprehension's condition", "return [v for v in x if v.sum() > 0]", arguments="x: list[torch.Tensor]"),
    _case("the largest of a list", "return max([v.mean() for v in x])", arguments="x: list[torch.Tensor]"),
    _case("any element", "return x if any(x > 0) else -x", arguments="x: torch.Tensor"),
    _case("a search", "return 3 in x", arguments="x: torch.Tensor"),
    _case("a test of equality", "return x if torch.equal(x, y) else y", arguments="x, y"),
    _case("a method that tests equality", "return x.allclose(y)", arguments="x: torch.Tensor, y"),
    _case("a reader that is mapped", "return list(map(float, x))", arguments="x: torch.Tensor"),
    _case("an index of the host", "return operator.index(x.argmax())", head="import operator\nimport torch\n", arguments="x: torch.Tensor"),
    _case("a logged table", "log.info('%s', {'mean': torch.mean(x)})\n    return x",
          head="import logging\nimport torch\nlog = logging.getLogger(__name__)\n"),
    _case("a wait for the device", "torch.cuda.synchronize()\n    return x"),
    _case("an object of a library", "return pd.Series([1.0])", head="import pandas as pd\n"),
    _case("an entry of an annotated table", "return float(batch['r'].amax())", arguments="batch: dict[str, torch.Tensor]"),
    _case("elements of an annotated table's entry", "return [int(v) for v in batch['n']]", arguments="batch: dict[str, torch.Tensor]"),
    _case("a nested annotated container", "return [float(rows[-1].get('r')) for rows in sets]",
          head="import torch\nRow = dict[str, torch.Tensor]\n", arguments="sets: list[list[Row]]"),
    _case("an accumulator", "total = 0.0\n    for v in x:\n        total = total + v.mean()\n    return float(total)",
          arguments="x: torch.Tensor"),
    _case("an alias of the type", "return float(x)", head="import torch\nArray = torch.Tensor\n", arguments="x: Array"),
    _case("a parameter of a module", "return net(x)", head=(
        "import torch\nclass Net(torch.nn.Module):\n    def __init__(self):\n        super().__init__()\n"
        "        self.rate = torch.nn.Parameter(torch.ones(()))\n    def forward(self, x):\n        return x / float(self.rate)\n"
        "net = Net()\n")),
    _case("a buffer of a module", "return net(x)", head=(
        "import torch\nclass Net(torch.nn.Module):\n    def __init__(self):\n        super().__init__()\n"
        "        self.register_buffer('seen', torch.zeros(()))\n    def forward(self, x):\n        return x if self.seen > 3 else -x\n"
        "net = Net()\n")),
)  # fmt: skip
_VALID = (
    _case("arithmetic", "return torch.where(torch.isfinite(x).all(), x, 0.0)"),
    _case("constants of NumPy", "return x * np.pi", head=_NP),
    _case("NumPy at import time", "return W @ x", head=_NP + "W = torch.from_numpy(np.eye(3))\n"),
    _case("NumPy in a default value", "return x * w", head=_NP, arguments="x, w=np.sqrt(2.0)"),
    _case("math of numbers", "return x * math.sqrt(2.0 * math.pi)", head="import math\n"),
    _case("a container of tensors is no tensor",
          "return [str(k) for k in batch] if batch and rows[1:] else float(pair[1])",
          arguments="batch: dict[str, torch.Tensor], rows: list[torch.Tensor], pair: tuple[torch.Tensor, float]"),
    _case("float of a setting", "return x * float(cfg.rate)", arguments="x, cfg"),
    _case("a size", "return x / float(x.size(0)) + int(x.shape[0])", arguments="x: torch.Tensor"),
    _case("a branch on a shape", "y = torch.exp(x)\n    return y if y.shape[0] > 3 and y.dim() == 2 else x"),
    _case("a branch on None", "y = None if x is None else torch.exp(x)\n    if y is None:\n        return x\n    return y"),
    _case("another precision", "return x.to(torch.float32).float()"),
    _case("another device", "return x.to(y.device) + x.to('cuda')", arguments="x, y"),
    _case("outside the path", "return x", head="def offline(x):\n    print(x.item())\n    return x.cpu().numpy()\n"),
    _case("methods of an own class", "return Box().item()", head="class Box:\n    def item(self):\n        return 1\n"),
    _case("an own function called print", "return print(x)", head="def print(x):\n    return x\n"),
    _case("a declared field called item", "return b.item", head="class Box:\n    item: int = 3\n", arguments="b"),
    _case("a size that a tensor is reshaped to", "b, n = x.shape\n    y = torch.exp(x)\n    return y.reshape(n, b), f'{n}'"),
    _case("a number of a loop", "return [v for i, v in enumerate(x) if i > 2]", arguments="x: torch.Tensor"),
    _case("a test of a number", "return x if math.isfinite(c) else -x", head="import math\n", arguments="x, c"),
    _case("a table that falls back to max", "return {'a': torch.amax}.get(k, max)(x)", arguments="x: torch.Tensor, k"),
    _case("the largest of sizes", "return x / max(v.shape[0] for v in x)", arguments="x: list[torch.Tensor]"),
    _case("a counter beside a tensor", "n, total = 0, 0.0\n    for v in x:\n        n += 1\n        total = total + v\n"
          "    return total if n > 3 else -total", arguments="x: torch.Tensor"),
    _case("a key of a table of tensors", "return {str(k): v.mean() for k, v in {'a': torch.exp(x)}.items()}"),
    _case("the sizes of a table's tensors", "t = {'a': torch.exp(x)}\n    for v in t.values():\n        if v.size(0) > 3:\n"
          "            return v\n    return x"),
    _case("a number beside tensors in a table", "t = {'n': 0, 'x': torch.exp(x)}\n    t['n'] += 1\n    return x if t['n'] > 3 else -x"),
    _case("a list that may be empty", "return torch.stack(x) if x else None", arguments="x: list[torch.Tensor]"),
    _case("a message without tensors", "log.debug('step %d', 3)\n    return x", head="import logging\nlog = logging.getLogger(__name__)\n"),
)  # fmt: skip

RULE = Rule(
    code="HOT003",
    title="nothing on the hot path leaves the device graph",
    table="hot-path",
    manual=MANUAL,
    mend="Keep the value as a tensor and read it outside the step, every few steps.",
    check=check,
    settings=_SETTINGS,
    valid=_VALID,
    invalid=_INVALID,
    limits=(
        _case("float of a parameter of which nothing is known", "return float(x)"),
        _case("a result of unknown shape", "return torch.nonzero(x)"),
        _case("a transfer inside another library", "return plot(x)", head="from someone import plot\n"),
    ),
)  # fmt: skip
