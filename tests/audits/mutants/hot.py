"""HOT001 to HOT004: solvers, opaque code, host reads and empty proofs on the training step's way."""

from __future__ import annotations

from tests.audits.mutants.carriers import TENSOR
from tests.audits.mutants.model import Block, Edit, Op, Sink
from tests.audits.mutants.sites import HOT_PATH

_SPD = "m = 3.0 * torch.eye(3, dtype=torch.float64) + 0.01 * torch.tanh(x.detach().double().abs().mean())"
_PAIR = _SPD + "\nb = torch.ones(3, 1, dtype=torch.float64)"
_ARRAY = "m = (3.0 * torch.eye(3, dtype=torch.float64) + 0.01 * torch.tanh(x.detach().double().abs().mean())).numpy()"


def _call(ref: str, operands: str, good: str, prelude: str, imports: str = "import torch") -> Sink:
    return Sink(ref, Op(ref=ref, operands=operands), Op(ref=good, operands=operands), prelude=prelude, imports=imports)


def _body(name: str, bad: str, good: str, imports: str = "import torch", prelude: str = _SPD, params: str = "m") -> Sink:
    return Sink(name, Op(body=bad, operands=params), Op(body=good, operands=params), prelude=prelude, imports=imports)


_UNARY = (
    "torch.linalg.inv", "torch.linalg.inv_ex", "torch.linalg.pinv", "torch.linalg.cholesky", "torch.linalg.cholesky_ex", "torch.linalg.qr",
    "torch.linalg.det", "torch.linalg.slogdet", "torch.linalg.eig", "torch.linalg.eigvals", "torch.linalg.lu", "torch.linalg.lu_factor",
    "torch.linalg.ldl_factor", "torch.inverse", "torch.pinverse", "torch.det", "torch.logdet", "torch.slogdet", "torch.qr", "torch.cholesky",
    "torch.cholesky_inverse", "torch.Tensor.inverse", "torch.Tensor.pinverse", "torch.Tensor.det", "torch.Tensor.logdet", "torch.Tensor.qr",
    "torch.linalg.lu_factor_ex",
)  # fmt: skip
_BINARY = (
    "torch.linalg.solve", "torch.linalg.solve_ex", "torch.linalg.lstsq", "torch.cholesky_solve", "torch.linalg.tensorsolve",
    "torch.triangular_solve",
)  # fmt: skip
_HARMLESS = ("torch.linalg.eigvalsh", "torch.linalg.matrix_exp", "torch.abs", "torch.tanh", "torch.trace", "torch.linalg.svdvals")
_HARMLESS_PAIR = ("torch.matmul", "torch.mm", "torch.linalg.matmul", "torch.cartesian_prod")

SOLVERS = (
    *(_call(ref, "m", _HARMLESS[i % len(_HARMLESS)], _SPD) for i, ref in enumerate(_UNARY)
      if ref not in ("torch.qr", "torch.cholesky")),
    *(_call(ref, "m, b" if ref != "torch.cholesky_solve" else "b, m",
            _HARMLESS_PAIR[i % 3] if ref != "torch.cholesky_solve" else "torch.add", _PAIR) for i, ref in enumerate(_BINARY)
      if ref not in ("torch.triangular_solve", "torch.linalg.tensorsolve")),
    *(_body(f"Tensor.{name}", f"return m.{name}()", f"return m.{good}()")
      for name, good in (("inverse", "exp"), ("pinverse", "tril"), ("det", "trace"), ("logdet", "log1p"), ("slogdet", "cos"), ("qr", "svd"),
                         ("cholesky", "sinh"), ("cholesky_inverse", "square"))),
    _body("a solve of its own operands", "return torch.linalg.solve(m, torch.ones_like(m))", "return torch.matmul(m, torch.ones_like(m))"),
    _body("a triangular solve", "return torch.linalg.solve_triangular(m.tril(), m, upper=False)", "return m.tril() @ m"),
    _body("a solve by factors", "lower, pivots = torch.linalg.lu_factor(m)\nreturn torch.linalg.lu_solve(lower, pivots, m)",
          "values, vectors = torch.linalg.eigh(m)\nreturn vectors @ m"),
    _body("a solve by LDL factors", "lower, pivots = torch.linalg.ldl_factor(m)\nreturn torch.linalg.ldl_solve(lower, pivots, m)",
          "lower = m.tril()\nreturn lower @ m"),
    _body("a negative power", "return torch.linalg.matrix_power(m, -1)", "return torch.linalg.matrix_power(m, 2)"),
    _body("a negative power of a variable", "power = -2\nreturn torch.matrix_power(m, power)", "power = 2\nreturn torch.matrix_power(m, power)"),
    _body("a negative power by method", "return m.matrix_power(-1)", "return m.matrix_power(3)"),
    _body("tensorinv", "return torch.linalg.tensorinv(m, ind=1)", "return torch.linalg.norm(m)"),
    _body("tensorsolve", "return torch.linalg.tensorsolve(m, m[0])", "return torch.tensordot(m, m, dims=1)"),
    _body("a batched solve", "return torch.vmap(torch.linalg.inv)(m[None])[0]", "return torch.vmap(torch.tril)(m[None])[0]"),
    _body("an operator of aten", "return torch.ops.aten.linalg_inv_ex.default(m)[0]", "return m.mT.contiguous()"),
    _body("a private binding", "return torch._C._linalg.linalg_inv(m)", "return m.sigmoid()"),
    _body("an out argument", "made = torch.empty_like(m)\ntorch.linalg.inv(m, out=made)\nreturn made",
          "made = torch.empty_like(m)\ntorch.exp(m, out=made)\nreturn made"),
    _body("a Jacobian of an inverse", "return torch.func.jacrev(torch.linalg.inv)(m)", "return torch.func.jacrev(torch.sin)(m)"),
    _body("whitening by Cholesky", "lower = torch.linalg.cholesky(m)\nreturn lower.mT", "lower = m.tril(-1)\nreturn lower.mT"),
    _body("a Gaussian's log density", "return 0.5 * (m.logdet() + m.square().sum())", "return 0.5 * (m.sum().log() + m.square().sum())"),
    *(_body(f"NumPy's {name}", f"return torch.from_numpy(np.asarray(np.linalg.{call}))", "return torch.cumsum(m, 0)",
            "import numpy as np\nimport torch")
      for name, call in (("inv", "inv(m.numpy())"), ("solve", "solve(m.numpy(), m.numpy())"), ("pinv", "pinv(m.numpy())"),
                         ("det", "det(m.numpy())"), ("lstsq", "lstsq(m.numpy(), m.numpy(), rcond=None)[0]"))),
    _body("NumPy through the module", "return torch.from_numpy(la.inv(m.numpy()))", "return m.roll(1)",
          "import torch\nfrom numpy import linalg as la"),
    *(_body(f"SciPy's {name}", f"return torch.from_numpy(np.asarray(scipy.linalg.{call}))", "return m.flip(0)",
            "import numpy as np\nimport scipy.linalg\nimport torch")
      for name, call in (("solve", "solve(m.numpy(), m.numpy())"), ("inv", "inv(m.numpy())"),
                         ("cho_solve", "cho_solve(scipy.linalg.cho_factor(m.numpy()), m.numpy())"),
                         ("lu_factor", "lu_factor(m.numpy())[0]"))),
    _body("SciPy's sparse solver", "return torch.from_numpy(spsolve(csc_matrix(m.numpy()), m.numpy()[0]))", "return m.cumprod(0)",
          "import torch\nfrom scipy.sparse import csc_matrix\nfrom scipy.sparse.linalg import spsolve"),
)  # fmt: skip

_SOLVER_NAMES = ("solve", "inv", "lstsq", "inverse", "pinv", "cholesky", "lu_solve", "solve_triangular", "det_terms", "qr_part")

_LOCAL = (
    Sink("a project's own solver", Op(body="return torch.linalg.solve(x, x)", operands="m"),
         Op(body="class Maze:\n    def solve(self, way):\n        return way.abs()\n    def inverse(self):\n        return self\n"
                 "return Maze().inverse().solve(x)", operands="m"), prelude=_SPD, imports="import torch"),
)  # fmt: skip

_T = "import torch"


def _opaque(name: str, bad: str, good: str, imports: str = _T) -> Sink:
    return Sink(name, Op(body=bad), Op(body=good), imports=imports)


OPAQUE = (
    _opaque("exec", "scope = {'x': x}\nexec('y = x.abs()', scope)\nreturn scope['y']", "scope = {'x': x}\nreturn scope['x'].abs()"),
    _opaque("eval", "return eval('x.abs()', {'x': x})", "class Part:\n    def eval(self, y):\n        return y.abs()\nreturn Part().eval(x)"),
    _opaque("eval of a name", "work = eval\nreturn work('abs')(x)", "work = abs\nreturn work(x)"),
    _opaque("builtins.eval", "return builtins.eval('abs')(x)", "return builtins.abs(x)", "import builtins\nimport torch"),
    _opaque("compile and exec", "scope = {}\nexec(compile('def go(y): return y + 1', 'made', 'exec'), scope)\nreturn scope['go'](x)",
            "scope = {'go': torch.abs}\nreturn scope['go'](x)"),
    _opaque("importlib", "return importlib.import_module('torch').abs(x)", "return torch.abs(x)", "import importlib\nimport torch"),
    _opaque("import_module by name", "return import_module('torch').abs(x)", "return torch.abs(x)", "import torch\nfrom importlib import import_module"),
    _opaque("__import__", "return __import__('torch').abs(x)", "return torch.abs(x)"),
    _opaque("getattr with a joined name", "name = ''.join(chr(c) for c in (97, 98, 115))\nreturn getattr(torch, name)(x)",
            "name = 'abs'\nreturn getattr(torch, name)(x)"),
    _opaque("getattr with an argument", "def pick(name):\n    return getattr(torch, name)(x)\nreturn pick(f'{x.dtype}'[:0] + str(len('')).replace('0', 'abs'))",
            "def pick(name='abs'):\n    return {'abs': torch.abs, 'exp': torch.exp}[name](x)\nreturn pick()"),
    _opaque("getattr with a name from the environment", "return getattr(torch, os.environ.get('KERNEL', 'abs'))(x)",
            "return {'abs': torch.abs}.get(os.environ.get('KERNEL', 'abs'), torch.abs)(x)", "import os\nimport torch"),
    _opaque("getattr of a method", "name = str(x.dtype).replace('torch.', '')[:0] + 'abs'\nreturn getattr(x, name)()", "return getattr(x, 'abs')()"),
    _opaque("getattr with a shifted name", "return getattr(torch, 'SBA'.lower()[::-1])(x)", "return getattr(torch, 'abs')(x)"),
    _opaque("attrgetter", "return operator.attrgetter('real')(x)", "return operator.itemgetter(0)([x])", "import operator\nimport torch"),
    _opaque("attrgetter of a variable", "name = str(x.ndim).replace(str(x.ndim), 'real')\nreturn operator.attrgetter(name)(x)",
            "name = str(x.ndim)\nreturn {name: x}[name]", "import operator\nimport torch"),
    _opaque("methodcaller", "return operator.methodcaller('abs')(x)", "return operator.abs(x)", "import operator\nimport torch"),
    _opaque("methodcaller by name", "return methodcaller('abs')(x)", "return neg(x)", "import torch\nfrom operator import methodcaller, neg"),
    _opaque("vars of a module", "name = f'a{\"bs\"}'[:3]\nreturn vars(torch)[name](x)", "names = {'abs': torch.abs}\nreturn names['abs'](x)"),
    _opaque("__dict__ of a module", "name = 'sba'[::-1]\nreturn torch.__dict__[name](x)", "table = {'abs': torch.abs}\nreturn table['abs'](x)"),
    _opaque("globals", "name = 'hcrot'[::-1]\nreturn globals()[name].abs(x)", "table = {'torch': torch}\nreturn table['torch'].abs(x)"),
    _opaque("an operator namespace", "return torch.ops.aten.abs.default(x)", "return torch.absolute(x)"),
    _opaque("an operator packet", "packet = torch.ops.aten.abs\nreturn packet(x)", "packet = torch.abs\nreturn packet(x)"),
    _opaque("a private binding", "return torch._C._VariableFunctions.abs(x)", "return torch.abs(x)"),
    _opaque("a patched torch function", "torch.fliplr = torch.abs\nreturn torch.fliplr(x)", "flipped = torch.abs\nreturn flipped(x)"),
    _opaque("setattr on torch", "setattr(torch, 'flipud', torch.abs)\nreturn torch.flipud(x)",
            "class Box:\n    pass\nbox = Box()\nbox.flip = x.abs()\nreturn box.flip"),
    _opaque("a patched Tensor method", "torch.Tensor.planted = torch.abs\nreturn x.planted()", "planted = torch.abs\nreturn planted(x)"),
    _opaque("a patched functional", "F.tanhshrink = torch.abs\nreturn F.tanhshrink(x)", "return F.softplus(x.abs())",
            "import torch\nimport torch.nn.functional as F"),
    _opaque("__getattribute__", "return x.__getattribute__('sba'[::-1])()", "return x.abs()"),
    _opaque("object.__getattribute__", "return object.__getattribute__(torch, 'sba'[::-1])(x)", "return torch.abs(x)"),
    _opaque("sys.modules", "return sys.modules['hcrot'[::-1]].abs(x)", "return torch.abs(x) * len(sys.argv)", "import sys\nimport torch"),
    _opaque("a function from a code object", "code = compile('x + 1', 'made', 'eval')\nreturn types.FunctionType(code, {'x': x})()",
            "made = types.SimpleNamespace(x=x)\nreturn made.x + 1", "import types\nimport torch"),
    _opaque("a patch by mock", "with mock.patch('torch.fliplr', torch.abs):\n    y = torch.fliplr(x)\nreturn y",
            "with torch.no_grad():\n    y = torch.abs(x)\nreturn y", "import torch\nfrom unittest import mock"),
    _opaque("a solver behind methodcaller", "return operator.methodcaller('inverse')(torch.eye(2))",
            "return operator.methodcaller_like(x) if hasattr(operator, 'methodcaller_like') else x.abs()", "import operator\nimport torch"),
)  # fmt: skip

HOST = tuple(
    Sink(name, Op(body=bad), Op(body=good), imports=imports)
    for name, bad, good, imports in (
        ("item", "return x.detach().real.sum().item()", "return x.detach().real.sum()", _T),
        ("item of one element", "first = x.detach().flatten()[0]\nreturn first.item()", "first = x.detach().flatten()[0]\nreturn first.abs()", _T),
        ("unbound item", "return torch.Tensor.item(x.detach().real.sum())", "return torch.Tensor.abs(x.detach().real.sum())", _T),
        ("tolist", "return x.detach().flatten().tolist()", "return x.detach().flatten().unbind()", _T),
        ("cpu", "return x.cpu()", "return x.clone()", _T),
        ("detached cpu", "return x.detach().clone().cpu().sum()", "return x.detach().clone().contiguous().sum()", _T),
        ("to('cpu')", "return x.to('cpu')", "return x.to(x.device)", _T),
        ("to a CPU device", "return x.to(torch.device('cpu'))", "return x.to(torch.float64)", _T),
        ("numpy", "return x.detach().resolve_conj().numpy()", "return x.detach().resolve_conj()", _T),
        ("forced numpy", "return x.numpy(force=True)", "return x.contiguous()", _T),
        ("numpy of the data", "data = x.detach().cpu()\nreturn data.numpy().sum()", "data = x.detach()\nreturn data.sum()", _T),
        ("np.asarray", "return np.asarray(x.detach())", "return torch.asarray(x.detach())", "import numpy as np\nimport torch"),
        ("np.mean", "return np.mean(np.array(x.detach()))", "return torch.mean(x.detach().real)", "import numpy as np\nimport torch"),
        ("np.linalg.norm", "return np.linalg.norm(x.detach())", "return torch.linalg.norm(x.detach())", "import numpy as np\nimport torch"),
        ("from numpy", "return torch.from_numpy(np.ones(3))", "return torch.ones(3)", "import numpy as np\nimport torch"),
        ("np.exp by name", "return exp(1.0) * x", "return torch.exp(torch.zeros(())) * x", "import torch\nfrom numpy import exp"),
        ("scipy.special", "return scipy.special.expit(x.detach().real.abs())", "return torch.special.expit(x.detach().real.abs())",
         "import scipy.special\nimport torch"),
        ("scipy.optimize", "return linear_sum_assignment(np.eye(3))", "return torch.eye(3).argmin(dim=0)",
         "import numpy as np\nimport torch\nfrom scipy.optimize import linear_sum_assignment"),
        ("print", "print('step', x.shape)\nreturn x", "names = ['step', x.shape]\nreturn x * len(names)", _T),
        ("print in a branch", "if x.ndim >= 0:\n    print(x.shape)\nreturn x", "if x.ndim >= 0:\n    x = x + 1\nreturn x", _T),
        ("float()", "return float(x.detach().real.sum())", "return x.detach().real.sum().float()", _T),
        ("int()", "return int(x.detach().real.sum() * 0)", "return (x.detach().real.sum() * 0).int()", _T),
    )
)  # fmt: skip

_OFFLINE = tuple(
    Sink(name, Op(ref=f"ris_pipeline.back_projection.{name}", operands=operands), Op(ref=good, operands=operands),
         imports="import torch\nimport ris_pipeline.back_projection\nimport ris_pipeline.codes", params="given, config")
    for name, operands, good in (
        ("sample_factor", "given, config", "ris_pipeline.codes.describe_planted"),
    )
)  # fmt: skip

STEP = "    def train_step(self, batch: Batch) -> StepReport:\n"
_LOOP = "ris_pipeline/training/loop.py"
_HEAD = '        """One optimizer step on one batch: forward, loss, backward, clipping, guarded update. Nothing leaves the device."""\n'
_FORWARD = '        """Predict B scenes from snapshots, channel, codes and, where stored, the sample factor; the scale of the data does not matter."""\n'
_NET = "ris_pipeline/model/network.py"
_LOSS = "ris_pipeline/losses.py"
_TABLE = "pyproject.toml"
_ENTRY = '  "ris_pipeline.training.loop:Trainer.train_step",\n'
_MODULES = 'offline-modules = ["ris_pipeline.back_projection"]'

EMPTY_PROOFS = (
    Edit("a renamed entry point", _LOOP, STEP, "    def training_step(self, batch: Batch) -> StepReport:\n",
         STEP.replace("self, batch", "self,  batch")),
    Edit("a renamed class", _NET, "class HybridModel(nn.Module):\n", "class Hybrid(nn.Module):\n", "class HybridModel(nn.Module):  # the network\n"),
    Edit("a renamed function", _LOSS, "def training_loss(\n", "def step_loss(\n", "def training_loss(  # of a batch\n"),
    Edit("an entry point of a missing module", _TABLE, _ENTRY, _ENTRY.replace("training.loop", "training.step"), _ENTRY + '  "ris_pipeline.losses:position_loss",\n'),
    Edit("an entry point of a missing method", _TABLE, _ENTRY, _ENTRY.replace("train_step", "step"), _ENTRY + '  "ris_pipeline.training.loop:Trainer.blend",\n'),
    Edit("an entry point of a missing class", _TABLE, _ENTRY, _ENTRY.replace("Trainer", "Trainers"), _ENTRY + '  "ris_pipeline.training.loop:Trainer.loss",\n'),
    Edit("a second, missing entry point", _TABLE, _ENTRY, _ENTRY + '  "ris_pipeline.losses:train_loss",\n', _ENTRY + '  "ris_pipeline.losses:count_loss",\n'),
    Edit("an entry point in a missing package", _TABLE, _ENTRY, _ENTRY.replace("ris_pipeline", "pipeline"), _ENTRY + '  "ris_pipeline.losses:score_loss",\n'),
    Edit("a missing offline module", _TABLE, _MODULES, 'offline-modules = ["ris_pipeline.backprojection"]', _MODULES.replace("]", ', "ris_pipeline.bounds"]')),
    Edit("an offline module that moved", _TABLE, _MODULES, 'offline-modules = ["ris_pipeline.shards.back_projection"]',
         _MODULES.replace("]", ', "ris_pipeline.shards.write"]')),
    Edit("one of two offline modules is missing", _TABLE, _MODULES, _MODULES.replace("]", ', "ris_pipeline.bound"]'),
         _MODULES.replace("]", ', "ris_pipeline.report"]')),
    Edit("a reachable module is declared offline", _TABLE, _MODULES, _MODULES.replace("]", ', "ris_pipeline.metrics"]'),
         _MODULES.replace("]", ', "ris_pipeline.evaluation.tune"]')),
    Edit("a reachable package is declared offline", _TABLE, _MODULES, _MODULES.replace("]", ', "ris_pipeline.model"]'),
         _MODULES.replace("]", ', "ris_pipeline.cli"]')),
    Edit("a body of nothing", _LOOP, STEP + _HEAD, STEP + _HEAD + "        raise NotImplementedError\n\n    def other_step(self, batch: Batch) -> StepReport:\n",
         STEP + _HEAD + "        assert batch is not None\n"),
    Edit("a body of pass", _LOOP, STEP + _HEAD, STEP + "        pass\n\n    def other_step(self, batch: Batch) -> StepReport:\n" + _HEAD,
         STEP + _HEAD + "        pass\n"),
    Edit("a body of dots", _NET, _FORWARD, _FORWARD + "        ...\n\n    def run(self, measurements: Measurements) -> Prediction:\n",
         _FORWARD + "        ...\n"),
    Edit("a body of return None", _NET, _FORWARD, _FORWARD + "        return None\n\n    def run(self, measurements: Measurements) -> Prediction:\n",
         _FORWARD + "        assert measurements is not None\n"),
    Edit("an entry point that was made a value", _LOSS, "def covariance_nmse(", "training_loss = None\n\n\ndef covariance_nmse(",
         "training_terms = None\n\n\ndef covariance_nmse("),
)  # fmt: skip

_REACHED = (
    Sink("sample_factor", Op(body="return ris_pipeline.back_projection.sample_factor(given, config)"),
         Op(body="return given.channel.abs() * config.scene.range_max_m"), params="given, config", imports="import ris_pipeline.back_projection"),
    Sink("with_sample_factor", Op(body="return with_sample_factor(given, config).sample_factor"),
         Op(body="return given.snapshots.abs() * config.scene.range_max_m"), params="given, config",
         imports="from ris_pipeline.back_projection import with_sample_factor"),
    Sink("back_project", Op(body="return bp.back_project(given.snapshots, given.channel, given.snapshots.mT, config.back_projection.ridge)\n"
                                 "# the shapes are those of a call"[:-len("\n# the shapes are those of a call")]),
         Op(body="return given.snapshots.mean() * config.back_projection.ridge"), params="given, config",
         imports="from ris_pipeline import back_projection as bp"),
)  # fmt: skip

BLOCKS = (
    Block("HOT001", (*SOLVERS, *_LOCAL), HOT_PATH, carriers=TENSOR, evidence="solver", names=_SOLVER_NAMES),
    Block("HOT002", OPAQUE, HOT_PATH, names=("eval", "exec_plan", "import_module", "getattr_of", "compile")),
    Block("HOT003", HOST, HOT_PATH, names=("item", "cpu", "numpy", "to_list", "print_shape")),
    Block("HOT004", edits=EMPTY_PROOFS),
)
