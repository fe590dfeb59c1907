"""RNG001: no global random state in the library."""

from __future__ import annotations

import builtins
import re
from collections.abc import Iterable, Iterator

from audits.static.analysis.engine import Unit
from audits.static.analysis.values import Cls, ExtInst, Func, Inst
from audits.static.context import Context
from audits.static.dataflow import usage
from audits.static.dataflow.flow import Place
from audits.static.dataflow.value_origins import Origins
from audits.static.findings import Finding
from audits.static.rules.base import Case, Rule
from audits.static.source import ir
from audits.static.source.project import FunctionInfo
from audits.static.subjects.config_schema import literal_entries, stored

MANUAL = """\
A number that is drawn from global state depends on everything that was drawn before it, anywhere in the process: a
shard can't be regenerated alone, and a resumed run is another run. This rule reports, through aliases, partials,
tables, helpers and callbacks: seeding or reading the global state of torch, NumPy or `random`; torch samplers, in-place
samplers, initialisers, loaders, samplers of indices and splits that are given no generator (or None); the legacy
functions of `numpy.random`; `numpy.random.default_rng`, bit generators, `SeedSequence`, `RandomState` and
`random.Random` without a seed, or with one from the clock, the process, a hash of text or the operating system; `sample`
of torch distributions, which take no generator; `rvs` of SciPy and splits of scikit-learn without `random_state`; a study of
Optuna without a sampler. A parameter that may be None counts as given only where the function answers None first.

Layers whose noise the framework draws itself - Dropout and its functional forms, rrelu - and the default
initialisation inside layer constructors take no generator in torch, and are left alone. A generator that reaches the
call inside an unknown mapping (`**options`) is believed.
"""
_DRAWS = frozenset(
    {"rand", "randn", "randint", "randperm", "normal", "bernoulli", "multinomial", "poisson", "rand_like", "randn_like",
     "randint_like", "binomial", "_standard_gamma", "_sample_dirichlet"}
)  # fmt: skip
_TENSOR_DRAWS = frozenset(
    {"normal_", "uniform_", "random_", "bernoulli_", "exponential_", "geometric_", "cauchy_", "log_normal_", "bernoulli", "multinomial"}
)
_INITS = {
    "normal_": 3, "uniform_": 3, "trunc_normal_": 5, "xavier_uniform_": 2, "xavier_normal_": 2, "kaiming_uniform_": 4,
    "kaiming_normal_": 4, "orthogonal_": 2, "sparse_": 3, "normal": 3, "uniform": 3, "xavier_uniform": 2, "xavier_normal": 2,
    "kaiming_uniform": 4, "kaiming_normal": 4, "orthogonal": 2, "sparse": 3,
}  # fmt: skip
_DATA = {"RandomSampler": 4, "WeightedRandomSampler": 3, "SubsetRandomSampler": 1, "random_split": 2}
_GLOBAL = re.compile(
    r"^torch\.(manual_seed|seed|initial_seed|set_rng_state|get_rng_state|default_generator|"
    r"random\.(manual_seed|seed|initial_seed|set_rng_state|get_rng_state|fork_rng|default_generator)|"
    r"(cuda|mps|xpu)\.(random\.)?(manual_seed|manual_seed_all|seed|seed_all|initial_seed|set_rng_state|set_rng_state_all|get_rng_state|"
    r"get_rng_state_all|default_generators)|_C\.default_generator)$"
    r"|^(lightning|pytorch_lightning|lightning_fabric)\.(.*\.)?seed_everything$|^(transformers|accelerate)\.(.*\.)?set_seed$"
)
_UNSEEDED = re.compile(
    r"^numpy\.random\.(default_rng|SeedSequence|RandomState|PCG64|PCG64DXSM|MT19937|Philox|SFC64|mtrand\.RandomState)$|^random\.Random$|"
    r"^optuna(\.integration\.\w+|\.samplers)?(\.\w+)*\.(TPE|Random|CmaEs|NSGAII|NSGAIII|QMC|GP|BruteForce|BoTorch)Sampler$"
)
_NUMPY_FINE = frozenset({"Generator", "BitGenerator", "bit_generator", "mtrand", "_generator"})
_STDLIB = frozenset(
    {"random", "randint", "randrange", "randbytes", "getrandbits", "choice", "choices", "shuffle", "sample", "uniform", "triangular",
     "betavariate", "expovariate", "gammavariate", "gauss", "lognormvariate", "normalvariate", "vonmisesvariate", "paretovariate",
     "weibullvariate", "binomialvariate", "seed", "getstate", "setstate"}
)  # fmt: skip
_SECRET = frozenset(
    {"random.SystemRandom", "secrets.choice", "secrets.randbelow", "secrets.randbits", "secrets.SystemRandom", "os.urandom",
     "os.getrandom"}
)  # fmt: skip
_ENTROPY = re.compile(
    r"^(time\.(time|time_ns|perf_counter|perf_counter_ns|monotonic|monotonic_ns|process_time|process_time_ns|clock_gettime)|"
    r"os\.(urandom|getpid|getrandom)|builtins\.id|uuid\.uuid[14]|secrets\.\w+|random\.SystemRandom|datetime\.datetime\.(now|utcnow|today)|"
    r"threading\.get_ident)$"
)
_SPLITS = frozenset({"train_test_split", "shuffle", "resample", "ShuffleSplit", "StratifiedShuffleSplit", "GroupShuffleSplit"})
_FOLDS = frozenset({"KFold", "StratifiedKFold", "StratifiedGroupKFold"})
_HOMES = re.compile(r"^torch(\._C(\._VariableFunctions|\._VariableFunctionsClass)?|\._VF|\.ops\.aten|\.random|\._refs|\.functional)?$")
_CONSUMERS = frozenset(
    {"builtins.map", "builtins.filter", "functools.reduce", "torch.vmap", "torch.func.vmap", "itertools.starmap", "numpy.vectorize",
     "builtins.iter", "numpy.fromfunction"}
)  # fmt: skip
_CALLBACKS = frozenset({"default_factory", "factory", "collate_fn", "worker_init_fn", "transform", "target", "key", "initializer"})
_POOLS = frozenset({"map", "submit", "apply_async", "starmap", "imap", "run_in_executor"})
_NO_GENERATOR = frozenset({"gumbel_softmax", "svd_lowrank", "pca_lowrank"})


def check(context: Context) -> Iterable[Finding]:
    """One finding for each use of global state."""
    search = _Search(context)
    for unit in usage.cold_units(context.analysis):
        seen: set[tuple[int, int]] = set()
        for node, message in search.unit(unit):
            if (node.line, node.column) not in seen:
                seen.add((node.line, node.column))
                yield context.finding("RNG001", unit.module, node, message, fn=unit.fn)


class _Search:
    def __init__(self, context: Context) -> None:
        self.analysis = context.analysis
        self.flow = context.flow
        self.origins = Origins(self.flow, stop=_is_decided)
        self.mappings = Origins(self.flow)

    def unit(self, unit: Unit) -> Iterator[tuple[ir.Node, str]]:
        called: set[int] = set()
        quiet = usage.annotation_nodes(unit)
        for call in list(unit.calls):
            called.add(id(call.func))
            if "functools.partial" in usage.called_names(unit, call) and call.args:
                called.add(id(call.args[0].value))
            for name in sorted(self._names(unit, call)):
                message = self._call(unit, call, name)
                if message is not None:
                    yield call, message
            if isinstance(call.func, ir.Attribute) and call.func.attr in ("manual_seed", "seed") and self._entropy(unit, call):
                yield call, "the seed comes from the clock, the process or the operating system"
            yield from self._distribution(unit, call)
            yield from self._handed_over(unit, call)
        for node in usage.own_nodes(unit):
            if isinstance(node, (ir.Name, ir.Attribute)) and id(node) not in called and id(node) not in quiet:
                for name in usage.outside_names(self.analysis, unit, node):
                    if _GLOBAL.match(name) and isinstance(node, ir.Attribute):
                        yield node, f"{name} is the global random state"

    def _behind(self, unit: Unit, func: ir.Expr) -> set[str]:
        # A sampler that was kept in a container, a context or a field.
        if not isinstance(func, (ir.Name, ir.Subscript)) or (isinstance(func, ir.Name) and func.id in dir(builtins)):
            return set()
        found = [p for p in self.origins.of(usage.place(unit, func)) if p.expr is not func and isinstance(p.expr, (ir.Name, ir.Attribute))]
        bound = {f"?.{p.expr.attr}" for p in found if isinstance(p.expr, ir.Attribute) and p.expr.attr in _TENSOR_DRAWS}
        return {n for p in found for n in usage.outside_names(self.analysis, self.flow.unit(p), p.expr)} | bound

    def _names(self, unit: Unit, call: ir.Call) -> set[str]:
        """The outside names that a call may call; a method that only tensors have is theirs on whatever it is called."""
        names = usage.called_names(unit, call) | self._behind(unit, call.func)
        func = call.func
        if isinstance(func, ir.Attribute) and func.attr in _TENSOR_DRAWS and func.attr.endswith("_"):
            own = any(isinstance(c, (Func, Cls, Inst)) for c in unit.calls.get(call, frozenset()))
            if not own and not any(n.startswith("torch.nn.init") for n in names):
                names = {f"?.{func.attr}"}
        return {_without_overload(n) for n in names}

    # -- calls

    def _call(self, unit: Unit, call: ir.Call, name: str) -> str | None:
        home, _, last = name.rpartition(".")
        if _GLOBAL.match(name):
            return f"{name} is the global random state"
        if name in _SECRET:
            return f"{name} can't be seeded"
        if _UNSEEDED.match(name):
            seed = usage.keyword(call, "seed") or usage.keyword(call, "entropy") or usage.keyword(call, "x")
            given = usage.positional(call)
            if name.startswith("optuna."):  # only these two take the seed first
                given = given[:1] if last in ("RandomSampler", "BruteForceSampler") else []
            first = seed or next(iter(given), None)
            starred = any(a.star for a in call.args)
            if (first is None and not starred) or (first is not None and self._none(unit, first)):
                return f"{name} without a seed draws it from the operating system"
            return f"the seed of {name} comes from the clock, the process or the operating system" if self._entropy(unit, call) else None
        if (home == "numpy.random" or home.startswith("numpy.random.")) and last[:1].islower() and last not in _NUMPY_FINE:
            return f"{name} draws from NumPy's global state" if home == "numpy.random" or home.endswith("mtrand") else None
        if home == "random" and last in _STDLIB:
            return f"{name} draws from Python's global state"
        if last == "rvs" and (home == "?" or name.startswith("scipy.stats.")):
            return self._unless(unit, call, "random_state", 99, f"{name} without random_state draws from NumPy's global state")
        if name.startswith("optuna.") and last == "create_study":
            return self._unless(unit, call, "sampler", 99, "a study without a sampler draws its seed from the operating system")
        if name.startswith("sklearn.") and (last in _SPLITS or (last in _FOLDS and self._may_be(unit, call, "shuffle", 1))):
            return self._unless(unit, call, "random_state", 99, f"{name} without random_state draws from NumPy's global state")
        return self._torch(unit, call, name, home, last)

    def _torch(self, unit: Unit, call: ir.Call, name: str, home: str, last: str) -> str | None:
        told = f"{name.removeprefix('?.')} without a generator draws from torch's global state"
        if home in ("?", "torch.Tensor", "torch._C.TensorBase", "torch._C._TensorBase") and last in _TENSOR_DRAWS:
            return self._unless(unit, call, "generator", 99, told)
        if _HOMES.match(home) and last in _DRAWS:
            return self._unless(unit, call, "generator", 99, told)
        if home == "torch.nn.init" and last in _INITS:
            return self._unless(unit, call, "generator", _INITS[last], told)
        if home.startswith("torch.utils.data") and last in _DATA:
            return self._unless(unit, call, "generator", _DATA[last], told)
        if home.startswith("torch.utils.data") and last == "DataLoader":
            if self._may_be(unit, call, "shuffle", 2):
                return self._unless(unit, call, "generator", 99, "a DataLoader that shuffles without a generator draws from global state")
        if home == "torch.quasirandom" and last == "SobolEngine" and usage.keyword(call, "scramble") is not None:
            return self._unless(unit, call, "seed", 2, "a scrambled SobolEngine without a seed draws from global state")
        if last in _NO_GENERATOR and home.startswith("torch"):
            return f"{name} draws from torch's global state and takes no generator"
        return None

    def _may_be(self, unit: Unit, call: ir.Call, name: str, position: int) -> bool:
        """Whether an argument that is false by default may be true."""
        given = self._given(unit, call, name, position)
        values = [usage.constants(self.flow, p) for p in given]
        return any(not v or v - {False, None} for v in values)

    def _given(self, unit: Unit, call: ir.Call, name: str, position: int) -> list[Place]:
        # By keyword, position or a mapping of the call, or else of the partial that it calls.
        plain = usage.positional(call)
        direct = usage.keyword(call, name) or (plain[position] if position < len(plain) else None)
        if direct is not None:
            return [usage.place(unit, direct)]
        out = []
        for arg in call.args:
            for found in self.mappings.of(usage.place(unit, arg.value)) if arg.star == "**" else ():
                entries = literal_entries(found.expr) or []
                out += [found.at(value) for key, _, value in entries if key == name]
        for found in [] if out else usage.behind(self.flow, usage.place(unit, call.func)):
            inner = found.expr
            if isinstance(inner, ir.Call) and inner is not call and "functools.partial" in usage.called_names(self.flow.unit(found), inner):
                value = usage.keyword(inner, name)
                out += [found.at(value)] if value is not None else []
        return out

    def _entropy(self, unit: Unit, call: ir.Call) -> bool:
        """Whether an argument rests on the clock, on the process or on the operating system."""
        return any(self._rests(usage.place(unit, a.value), 4) for a in call.args)

    def _rests(self, start: Place, depth: int) -> bool:
        for place in self.origins.of(start):
            inside = self.flow.unit(place)
            for node in ir.walk(place.expr):
                if isinstance(node, ir.Call):
                    names = usage.called_names(inside, node)
                    unstable = "builtins.hash" in names and not any(isinstance(a.value, ir.Sequence) for a in node.args)
                    if unstable or any(_ENTROPY.match(n) for n in names):
                        return True
                if depth and node is not start.expr and isinstance(node, (ir.Name, ir.Call)) and node is not place.expr:
                    if self._rests(place.at(node), depth - 1):
                        return True
        return False

    def _distribution(self, unit: Unit, call: ir.Call) -> Iterator[tuple[ir.Node, str]]:
        func = call.func
        if isinstance(func, ir.Attribute) and func.attr in ("sample", "rsample", "sample_n"):
            for receiver in unit.receivers.get(func, frozenset()):
                if isinstance(receiver, ExtInst) and receiver.name.startswith("torch.distributions."):
                    yield call, f"{receiver.name}.{func.attr} draws from torch's global state and takes no generator"
        elif isinstance(func, ir.Attribute) and func.attr == "seed":
            for receiver in unit.receivers.get(func, frozenset()):
                if isinstance(receiver, ExtInst) and receiver.name == "torch.Generator":
                    yield call, "Generator.seed draws its seed from the operating system"

    def _handed_over(self, unit: Unit, call: ir.Call) -> Iterator[tuple[ir.Node, str]]:
        # A sampler handed to code outside the packages is called there, without a generator.
        consumed = bool(usage.called_names(unit, call) & _CONSUMERS)
        for arg in call.args:
            if not consumed and arg.keyword not in _CALLBACKS and ir.last_name(call.func) not in _POOLS:
                continue
            for name in usage.outside_names(self.analysis, unit, arg.value):
                bare = ir.Call(arg.line, arg.column, arg.end_line, arg.end_column, arg.value, [])
                message = self._call(unit, bare, name) if not _UNSEEDED.match(name) else None
                if message is not None and "Loader" not in message:
                    yield arg.value, message

    # -- whether a generator is given

    def _unless(self, unit: Unit, call: ir.Call, name: str, position: int, message: str) -> str | None:
        given = usage.keyword(call, name)
        plain = usage.positional(call)
        if given is None and position < len(plain):
            given = plain[position]
        if given is not None:
            return f"{message} (the {name} may be None)" if self._none(unit, given) else None
        for arg in call.args:
            if arg.star == "*" and position < 99:
                return None
            if arg.star == "**":
                return message if self._lacks(unit, arg.value, name) else None
        return None if self._by_partial(unit, call.func, name) else message

    def _lacks(self, unit: Unit, mapping: ir.Expr, name: str) -> bool:
        fn = unit.fn
        if fn is not None and isinstance(mapping, ir.Name) and any(p.kind == "**" and p.name == mapping.id for p in fn.node.params):
            if any(isinstance(n, ir.Constant) and n.value == name for n in ir.walk_own(fn.node.body)):
                return False
            sites = self.flow.call_sites.get(fn, [])
            return any(not _passes(call, name) for call, _, _ in sites)
        found = [literal_entries(p.expr) for p in self.mappings.of(usage.place(unit, mapping))]
        keys = [{k for k, _, _ in entries} for entries in found if entries is not None]
        if not keys or len(keys) != len(found) or any(None in k for k in keys) or self._added(unit, mapping, name):
            return False
        return any(name not in k for k in keys)

    def _added(self, unit: Unit, mapping: ir.Expr, name: str) -> bool:
        # `options["generator"] = g` before the call.
        return any(
            isinstance(t, ir.Subscript)
            and isinstance(t.index, ir.Constant)
            and t.index.value == name
            and ir.dotted(t.value) == ir.dotted(mapping)
            and t.line < mapping.line
            for node in usage.own_nodes(unit)
            for t in stored(node)
        )

    def _by_partial(self, unit: Unit, func: ir.Expr, name: str) -> bool:
        calls = [p for p in usage.behind(self.flow, usage.place(unit, func)) if isinstance(p.expr, ir.Call)]
        if not calls:
            return False
        for place in calls:
            if not isinstance(place.expr, ir.Call) or "functools.partial" not in usage.called_names(self.flow.unit(place), place.expr):
                return False
            given = usage.keyword(place.expr, name)
            if given is None or self._none(self.flow.unit(place), given):
                return False
        return True

    def _none(self, unit: Unit, expr: ir.Expr) -> bool:
        # Whether the value may be None here; a function that tests its parameter has decided what None means.
        if isinstance(expr, (ir.Name, ir.Attribute)) and unit.fn is not None and _decides(unit.fn, expr):
            return False
        return any(isinstance(p.expr, ir.Constant) and p.expr.value is None for p in self.origins.of(usage.place(unit, expr)))


def _is_decided(place: Place) -> bool:
    # A function that tests its parameter has decided what None means.
    expr = place.expr
    if isinstance(expr, ir.IfExp):
        return _tests(expr.test) and not any(isinstance(e, ir.Constant) and e.value is None for e in (expr.body, expr.orelse))
    return isinstance(expr, (ir.Name, ir.Attribute)) and place.fn is not None and _decides(place.fn, expr)


def _passes(call: ir.Call, name: str) -> bool:
    return any(a.keyword == name or a.star == "**" for a in call.args)


def _tests(test: ir.Expr) -> bool:
    return isinstance(test, (ir.Compare, ir.Name, ir.UnaryOp))


def _decides(fn: FunctionInfo, use: ir.Expr) -> bool:
    known = fn.values.get("tested names")
    if not isinstance(known, dict):
        known = fn.values["tested names"] = _tested(fn)
    return any(inside is None or id(use) in inside for inside in known.get(ir.dotted(use) or "", ()))


def _tested(fn: FunctionInfo) -> dict[str, list[set[int] | None]]:
    """The names that a function tests, each with the nodes for which the test decides; None for all."""
    out: dict[str, list[set[int] | None]] = {}
    for node in ir.walk_own(fn.node.body):
        if isinstance(node, (ir.IfExp, ir.Assert, ir.BoolOp)):
            tested = node if isinstance(node, ir.BoolOp) else node.test
            for name in _names_in(tested):
                out.setdefault(name, []).append(None)
        elif isinstance(node, ir.If):
            for name in _names_in(node.test):
                out.setdefault(name, []).append(
                    None if _settles(node, name) else {id(n) for s in (*node.body, *node.orelse) for n in ir.walk(s)}
                )
    return out


def _settles(node: ir.If, name: str) -> bool:
    # A branch that leaves, or that binds the name anew.
    for body in (node.body, node.orelse):
        if body and (isinstance(body[-1], (ir.Raise, ir.Return)) or (isinstance(body[-1], ir.Simple) and body[-1].kind != "pass")):
            return True
        if any(ir.dotted(t) == name for s in body for n in ir.walk(s) for t in stored(n)):
            return True
    return False


def _names_in(expr: ir.Expr) -> set[str]:
    return {ir.dotted(n) or "" for n in ir.walk(expr) if isinstance(n, (ir.Name, ir.Attribute))}


def _without_overload(name: str) -> str:
    # torch.ops.aten.rand.default
    return name.rpartition(".")[0] if name.startswith("torch.ops.") and name.count(".") > 3 else name


def _case(name: str, body: str, *, head: str = "import torch\n", arguments: str = "x", **others: str) -> Case:
    files = {"pkg/__init__.py": "", "pkg/step.py": f"{head}def step({arguments}):\n    {body}\n"}
    files.update({f"pkg/{k}.py": v for k, v in others.items()})
    return Case(name, files)


_NP = "import numpy as np\n"
_SEEDED = "g = torch.Generator().manual_seed(0)\n    "
_INVALID = (
    _case("an unseeded sampler of a search", "import optuna\n    return optuna.create_study(sampler=optuna.samplers.TPESampler())"),
    _case("a random search without a seed", "from optuna.samplers import RandomSampler\n    return RandomSampler(seed=None)"),
    _case("a global seed", "torch.manual_seed(0)\n    return x"),
    _case("a seed of every device", "torch.cuda.manual_seed_all(0)\n    return x"),
    _case("drawn without a generator", "return x + torch.randn(3)"),
    _case("drawn like another", "return x + torch.randn_like(x)"),
    _case("an imported name", "return draw(3)", head="from torch import rand as draw\n"),
    _case("a star import", "return randn(3)", head="from torch import *\n"),
    _case("an in-place sampler", "return torch.empty(3).normal_()"),
    _case("an in-place sampler on an unknown value", "x.uniform_(-1, 1)\n    return x"),
    _case("an initialiser", "init.xavier_uniform_(x, gain=2.0)\n    return x", head="import torch.nn.init as init\n"),
    _case("a partial", "return noise(3)",
          head="import torch\nfrom functools import partial\nnoise = partial(torch.randn, dtype=torch.float64)\n"),
    _case("a table", "return KINDS[x](3)", head="import torch\nKINDS = {'a': torch.rand, 'b': torch.randn}\n"),
    _case("a callback", "return apply(torch.rand, 3)", head="import torch\ndef apply(fn, n):\n    return fn(n)\n"),
    _case("a callback to a library", "return list(map(random.choice, x))", head="import random\n"),
    _case("literal getattr", "return getattr(torch, 'randn')(3)"),
    _case("None as generator", "return torch.randn(3, generator=None)"),
    _case("None by default", "return torch.randn(3, generator=generator)", arguments="x, generator=None"),
    _case("None through a field", "return Noise().draw()", head=(
        "import torch\nclass Noise:\n    def __init__(self, generator=None):\n        self.generator = generator\n"
        "    def draw(self):\n        return torch.randn(3, generator=self.generator)\n")),
    _case("the default generator", "return torch.randn(3, generator=torch.default_generator)"),
    _case("keywords without a generator", "return draw(3, dtype=torch.float64)",
          head="import torch\ndef draw(n, **kw):\n    return torch.randn(n, **kw)\n"),
    _case("in another module", "return x + noise(x)", head="from pkg.noise import noise\n",
          noise="import torch\ndef noise(x):\n    return torch.randn(x.shape)\n"),
    _case("a shuffling loader", "return DataLoader(x, batch_size=3, shuffle=True)", head="from torch.utils.data import DataLoader\n"),
    _case("a random sampler", "return torch.utils.data.RandomSampler(x)"),
    _case("a random split", "return torch.utils.data.random_split(x, [1, 2])"),
    _case("a distribution", "return torch.distributions.Normal(0.0, 1.0).sample((3,))"),
    _case("legacy NumPy", "return np.random.rand(3)", head=_NP),
    _case("a NumPy seed", "np.random.seed(0)\n    return x", head=_NP),
    _case("no seed", "return np.random.default_rng().normal()", head=_NP),
    _case("None as seed", "return np.random.default_rng(seed).normal()", head=_NP, arguments="x, seed=None"),
    _case("no entropy", "return np.random.SeedSequence()", head=_NP),
    _case("Python's functions", "shuffle(x)\n    return x", head="from random import shuffle\n"),
    _case("an unseeded Random", "return random.Random().random()", head="import random\n"),
    _case("a bound sampler", "draw = x.uniform_\n    return draw(0, 1)"),
    _case("a parameter of a layer", "layer = torch.nn.Linear(3, 3)\n    layer.weight.data.normal_(0, 0.02)\n    return layer"),
    _case("a shuffling loader by a mapping", "kw = {'batch_size': 3, 'shuffle': True}\n    return torch.utils.data.DataLoader(x, **kw)"),
    _case("a shuffling loader by dict", "return torch.utils.data.DataLoader(x, **dict(shuffle=True))"),
    _case("a partial of a loader", "return loader(x)", head="import torch\nfrom functools import partial\n"
          "loader = partial(torch.utils.data.DataLoader, shuffle=True)\n"),
    _case("an overload of torch.ops", "return torch.ops.aten.randn.default([3])"),
    _case("a study without a sampler", "import optuna\n    return optuna.create_study(direction='minimize')"),
    _case("a seed from the clock", "return torch.Generator().manual_seed(int(time.time()))", head="import time\nimport torch\n"),
    _case("a seed from the clock in a helper", "return np.random.default_rng(now())", head="import time\nimport numpy as np\n"
          "def now():\n    return time.time_ns() % 1000\n"),
    _case("a seed from a hash of text", "return torch.Generator().manual_seed(hash(x))"),
    _case("a test that decides nothing", "if generator is None:\n        print('none')\n    return torch.randn(3, generator=generator)",
          arguments="x, generator=None"),
    _case("None where there is no seed", "return Noise().draw()", head=(
        "import torch\nclass Noise:\n    def __init__(self, seed=None):\n"
        "        self.g = None if seed is None else torch.Generator().manual_seed(seed)\n    def draw(self):\n"
        "        return torch.randn(3, generator=self.g)\n")),
    _case("a split of scikit-learn", "return train_test_split(x)", head="from sklearn.model_selection import train_test_split\n"),
    _case("a frozen distribution of SciPy", "return stats.norm(0, 1).rvs(3)", head="from scipy import stats\n"),
    _case("SciPy", "return stats.norm.rvs(size=3)", head="from scipy import stats\n"),
)  # fmt: skip
_VALID = (
    _case("a seeded sampler of a search", "import optuna\n    return optuna.samplers.TPESampler(seed=3, n_startup_trials=4)"),
    _case("an explicit generator", _SEEDED + "return torch.randn(3, generator=g)"),
    _case("a generator as parameter", "return torch.rand(3, generator=generator)", arguments="x, generator"),
    _case("a positional generator", "torch.nn.init.normal_(x, 0.0, 1.0, g)\n    return x", arguments="x, g"),
    _case("None that is answered", "if generator is None:\n        generator = torch.Generator().manual_seed(0)\n"
          "    return torch.randn(3, generator=generator)", arguments="x, generator=None"),
    _case("a partial with a generator", "noise = partial(torch.randn, generator=g)\n    return noise(3)",
          head="import torch\nfrom functools import partial\n", arguments="x, g"),
    _case("a table with a generator", "return KINDS[x](3, generator=g)",
          head="import torch\nKINDS = {'a': torch.rand}\n", arguments="x, g"),
    _case("keywords with a generator", "return draw(3, generator=g)", arguments="x, g",
          head="import torch\ndef draw(n, **kw):\n    return torch.randn(n, **kw)\n"),
    _case("a seeded NumPy generator", "return np.random.default_rng(np.random.SeedSequence(1)).normal()", head=_NP),
    _case("methods of a generator", "return rng.normal(0, 1, 3) + rng.random(3) + rng.permutation(3)", arguments="x, rng"),
    _case("a seeded Random", "return random.Random(3).random()", head="import random\n"),
    _case("a loader in order", "return torch.utils.data.DataLoader(x, shuffle=False)"),
    _case("a loader with a generator", "return torch.utils.data.DataLoader(x, shuffle=True, generator=g)", arguments="x, g"),
    _case("an own function called randn", "return randn(3)", head="def randn(n):\n    return n\n"),
    _case("dropout, which takes no generator", "return torch.nn.functional.dropout(x, 0.1)"),
    _case("the density of a distribution", "return torch.distributions.Normal(0.0, 1.0).log_prob(x)"),
    _case("None of a field that is answered", "return Draws().draw()", head=(
        "import torch\nclass Draws:\n    def __init__(self, generator=None):\n        self.generator = generator\n    def draw(self):\n"
        "        if self.generator is None:\n            g = torch.Generator().manual_seed(0)\n        else:\n"
            "            g = self.generator\n"
        "        return torch.randn(3, generator=g)\n")),
    _case("a clock that seeds nothing", "started = time.time()\n    return time.time() - started", head="import time\n"),
    _case("a hash of numbers as seed", "return torch.Generator().manual_seed(hash((3, x)))"),
    _case("a loader by a mapping with a generator", "kw = {'shuffle': True}\n    kw['generator'] = g\n"
          "    return torch.utils.data.DataLoader(x, **kw)", arguments="x, g"),
    _case("a split with a seed", "return train_test_split(x, random_state=3)",
          head="from sklearn.model_selection import train_test_split\n"),
    _case("an own method called normal_", "return Own().normal_()", head="class Own:\n    def normal_(self):\n        return 3\n"),
    _case("constant initialisers", "torch.nn.init.zeros_(x)\n    return x"),
)  # fmt: skip

RULE = Rule(
    code="RNG001",
    title="no global random state",
    table="",
    manual=MANUAL,
    mend="Pass a torch.Generator (or a seeded numpy Generator) down to the call.",
    check=check,
    settings={},
    valid=_VALID,
    invalid=_INVALID,
    limits=(
        _case("a mapping from outside", "return torch.randn(3, **options)", arguments="x, options"),
        _case("a draw inside another library", "return augment(x)", head="from someone import augment\n"),
    ),
)  # fmt: skip
