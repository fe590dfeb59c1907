"""COV001: no second covariance builder."""

from __future__ import annotations

from collections.abc import Iterable

from audits.static.context import Context
from audits.static.findings import Finding
from audits.static.rules.base import Case, Rule
from audits.static.source.project import FunctionInfo
from audits.static.subjects.building import Building

MANUAL = """\
Every consumer must see the same covariance, so one function builds it. The rule runs the code on symbols: every function
with arguments of which nothing is known, and what it calls inside it with what it passes, through variables, containers,
closures, generators, objects and in-place changes. Outside the module of `covariance.builder` it then finds every
operation whose result is built, whatever its operands were called or came through:
hermitising (half the sum with the conjugate transpose), normalising by a trace, blending two covariances, loading or
shrinking towards the identity. F F^H alone is not building, nor is a Gram matrix F^H F, eigh, or a sum of losses.
A value counts as a covariance when it is X X^H, comes from the builder, `.dense()` or `cov()`, is named like one
anywhere on its way, or has its trace or eigenvalues taken. Offline modules may load the systems they solve.
Adding noise (`noise_variance * eye`) to a modelled covariance is physics, not loading.
"""


def check(context: Context) -> Iterable[Finding]:
    """One finding for each building operation."""
    builder = context.project.find(context.settings.builder)
    if builder is None:
        text = f"the builder {context.settings.builder} does not exist"
        yield context.config_finding("COV001", "covariance.builder", text)
        return
    if not isinstance(builder, FunctionInfo):
        return
    seen: set[tuple[str, int]] = set()
    for module, fn, node, what in Building(context.flow, builder, context.offline).found(context.project.configured_modules()):
        if (module.relative, node.line) not in seen:
            seen.add((module.relative, node.line))
            message = f"{what} outside {context.settings.builder}, the one covariance builder"
            yield context.finding("COV001", module, node, message, fn=fn)


_SETTINGS = {
    "covariance": {"builder": "pkg.cov:build"},
    "hot-path": {"entry-points": ["pkg.step:step"], "offline-modules": ["pkg.offline"]},
}
_BUILD = "import torch\ndef build(a, b=None):\n    r = a @ a.mH\n    return 0.5 * (r + r.mH) / torch.trace(r)\n"


def _case(name: str, body: str, *, head: str = "", arguments: str = "R", module: str = "step") -> Case:
    source = f"import numpy as np\nimport torch\nfrom pkg.cov import build\n{head}def step({arguments}):\n    {body}\n"
    files = {"pkg/__init__.py": "", "pkg/cov.py": _BUILD, "pkg/offline.py": "", "pkg/step.py": "def step(x):\n    return x\n"}
    return Case(name, {**files, f"pkg/{module}.py": source})


_HERMITE = {
    "mH": "0.5 * (R + R.mH)", "adjoint": "(R + R.adjoint()) / 2", "torch.adjoint": "(torch.adjoint(R) + R) / 2",
    "conj transpose": "0.5 * (R + R.conj().transpose(-2, -1))", "transpose conj": "0.5 * R + 0.5 * R.transpose(-1, -2).conj()",
    "conj T": "(R + R.conj().T) / 2", "numpy": "(R + np.conj(R.T)) / 2", "numpy swapaxes": "(R + np.conj(np.swapaxes(R, -1, -2))) / 2",
    "permute": "(R + R.permute(0, 2, 1).conj()) / 2", "H": "(R + R.H) / 2", "add": "torch.add(R, R.mH) / 2",
    "triangles": "torch.triu(R) + torch.triu(R, 1).mH", "lerp": "torch.lerp(R, R.mH, 0.5)",
    "stack": "torch.stack([R, R.mH]).mean(0)",
}  # fmt: skip
_TRACES = {
    "trace": "R / torch.trace(R)", "diagonal sum": "R / R.diagonal(dim1=-2, dim2=-1).sum(-1)[..., None, None].real",
    "einsum": "R / torch.einsum('...ii->...', R)[..., None, None]", "scaled": "144 * R / torch.trace(R).real",
    "numpy": "R / np.trace(R)", "product": "R * (144 / torch.trace(R))", "div": "R.div(torch.trace(R))",
    "clamped": "R / torch.trace(R).real.clamp_min(1e-9)", "eigenvalues": "R / torch.linalg.eigvalsh(R).sum(-1)",
}  # fmt: skip
_INVALID = (
    *(_case(f"hermitised by {n}", f"return {e}") for n, e in _HERMITE.items()),
    _case("hermitised through a variable", "h = R.mH\n    return 0.5 * (R + h)"),
    _case("hermitised through a helper", "return (R + ct(R)) / 2", head="def ct(x):\n    return x.conj().mT\n"),
    _case("hermitised in a helper", "return herm(R)", head="def herm(x):\n    return 0.5 * (x + x.mH)\n"),
    _case("hermitised in place", "R += R.mH.clone()\n    return R / 2"),
    _case("a renamed matrix", "return 0.5 * (matrix + matrix.mH)", arguments="matrix"),
    *(_case(f"normalised by {n}", f"return {e}") for n, e in _TRACES.items()),
    _case("normalised through variables", "tr = torch.trace(x)\n    s = 144 / tr\n    return x * s", arguments="x"),
    _case("normalised through a helper", "return x / tr(x)", head="def tr(m):\n    return m.diagonal().sum()\n", arguments="x"),
    _case("normalised in place", "R /= torch.trace(R)\n    return R"),
    _case("blended", "return (1 - b) * R_pred + b * R_samp", arguments="R_pred, R_samp, b"),
    _case("blended the other way", "return cov * b + other * (1.0 - b)", arguments="cov, other, b"),
    _case("blended by lerp", "return torch.lerp(R_pred, R_samp, b)", arguments="R_pred, R_samp, b"),
    _case("blended by difference", "return R_pred + b * (R_samp - R_pred)", arguments="R_pred, R_samp, b"),
    _case("blended products", "p = f @ f.mH\n    q = g @ g.mH\n    a = 1 - b\n    return a * p + b * q", arguments="f, g, b"),
    _case("blended in a helper", "return mix(f @ f.mH, g @ g.mH, 0.3)", arguments="f, g",
          head="def mix(x, y, w):\n    return (1 - w) * x + w * y\n"),
    _case("loaded", "return R + 1e-3 * torch.eye(4)"),
    _case("loaded product", "x = f @ f.conj().mT\n    return x + eps * torch.eye(4)", arguments="f, eps"),
    _case("loaded through a variable", "eye = torch.eye(4)\n    ridge = eps * eye\n    return build(a) + ridge", arguments="a, eps"),
    _case("loaded by diag_embed", "return cov + torch.diag_embed(torch.full((4,), 1e-3))", arguments="cov"),
    _case("loaded in place", "R.diagonal(dim1=-2, dim2=-1).add_(1e-3)\n    return R"),
    _case("loaded on the diagonal", "i = torch.arange(4)\n    R[..., i, i] += 1e-3\n    return R"),
    _case("loaded by fill_diagonal_", "R.fill_diagonal_(1.0)\n    return R"),
    _case("loaded by NumPy", "R[np.diag_indices(4)] += 1e-3\n    return R"),
    _case("shrunk", "return (1 - a) * R + a * torch.trace(R) / 4 * torch.eye(4)", arguments="R, a"),
    _case("a factor of fixed norm", "f = f / torch.linalg.norm(f)\n    return f @ f.mH", arguments="f"),
    _case("a factor over its power", "f = f * f.abs().pow(2).sum().rsqrt()\n    return f @ f.mH", arguments="f"),
    _case("a product over its factor's power", "return (f @ f.mH) / f.abs().square().sum()", arguments="f"),
    _case("normalised by a scale of views", "g = 4 / R.diagonal(dim1=-2, dim2=-1).sum(-1)\n    return R * g[:, None, None]"),
    _case("normalised by eigenvalues of eigh", "w, v = torch.linalg.eigh(R)\n    return R / w.sum()"),
    _case("blended factors", "return torch.cat(((1 - b) ** 0.5 * f, b ** 0.5 * s), dim=-1)", arguments="f, s, b"),
    _case("averaged", "return (R_pred + R_samp) / 2", arguments="R_pred, R_samp"),
    _case("averaged in place", "out = R_pred * (1 - b)\n    out += R_samp * b\n    return out", arguments="R_pred, R_samp, b"),
    _case("a running average", "return 0.9 * cov + 0.1 * x @ x.mH", arguments="cov, x"),
    _case("loaded by addmm", "return torch.addmm(eps * torch.eye(4), f, f.mH)", arguments="f, eps"),
    _case("loaded eigenvalues", "w, v = torch.linalg.eigh(R)\n    return (v * (w + eps)) @ v.mH", arguments="R, eps"),
    _case("hermitised by taking half the skew part away", "return R - 0.5 * (R - R.mH)"),
    _case("hermitised in a helper of two", "return half(R, R.mH)", head="def half(a, b):\n    return (a + b) / 2\n"),
    _case("mirrored by loops", "for i in range(4):\n        for j in range(i):\n            R[i, j] = R[j, i].conj()\n    return R"),
    _case("normalised by its norm", "return R / torch.linalg.matrix_norm(R)"),
    _case("normalised in a helper of two", "return scaled(x, torch.trace(x))", head="def scaled(m, p):\n    return m / p\n", arguments="x"),
    _case("blended by stepping back", "return R_pred - b * (R_pred - R_samp)", arguments="R_pred, R_samp, b"),
    _case("loaded by a stride", "R.view(-1)[::5] += eps\n    return R", arguments="R, eps"),
    _case("a mask on the elements off the diagonal", "return R * (1 - a * (1 - torch.eye(4)))", arguments="R, a"),
    _case("elementwise with explicit loops", "for i in range(4):\n        R[i][i] = R[i][i] + 1\n    return R"),
    _case("from a generator", "it = parts(x)\n    a = next(it)\n    return (a + next(it)) / 2", arguments="x",
          head="def parts(m):\n    yield m\n    yield m.mH\n"),
    _case("in a fold", "return functools.reduce(operator.add, (x, x.mH)) / 2", head="import functools, operator\n", arguments="x"),
    _case("from a table of functions", "return T['half'](x + T['flip'](x))", arguments="x",
          head="T = {'flip': lambda m: m.conj().mT, 'half': lambda m: m / 2}\n"),
    _case("by a factory of closures", "return mean(0.5)(x, x.mH)", arguments="x",
          head="def mean(w):\n    def of(a, b):\n        return w * a + (1 - w) * b\n    return of\n"),
    _case("in the properties of an object", "return P(x, x.mH).middle", arguments="x",
          head="from dataclasses import dataclass\n@dataclass\nclass P:\n    a: object\n    b: object\n"
               "    @property\n    def middle(self):\n        return (self.a + self.b) / 2\n"),
    _case("through operators of a class", "return ((M(x) + M(x.mH)) / 2).t", arguments="x",
          head="class M:\n    def __init__(self, t):\n        self.t = t\n    def __add__(self, o):\n        return M(self.t + o.t)\n"
               "    def __truediv__(self, k):\n        return M(self.t / k)\n"),
    _case("in steps in place", "out = torch.empty_like(x)\n    torch.add(x, x.mH, out=out)\n    out.div_(2)\n    return out",
          arguments="x"),
    _case("through another name of the tensor", "out = x.clone()\n    view = out\n    view += x.mH\n    return out / 2", arguments="x"),
    _case("in place in a helper", "fix(x)\n    return x", arguments="x", head="def fix(m):\n    m.add_(m.mH.clone())\n    m.mul_(0.5)\n"),
    _case("in a buffer of two", "b = torch.zeros(2, 4, 4)\n    b[0] = x\n    b[1] = x.mH\n    return b.mean(0)", arguments="x"),
    _case("in real and imaginary part", "a = (x.real + x.real.mT) / 2\n    return torch.complex(a, (x.imag - x.imag.mT) / 2)",
          arguments="x"),
    _case("blended by einsum", "return torch.einsum('k,kij->ij', w, torch.stack((R_pred, R_samp)))", arguments="R_pred, R_samp, w"),
    _case("blended from a list", "return sum(w * m for w, m in zip((1 - b, b), (R_pred, R_samp)))", arguments="R_pred, R_samp, b"),
    _case("averaged over time by an object", "return Mean()(x)", arguments="x",
          head="class Mean:\n    def __init__(self):\n        self.r = None\n    def __call__(self, x):\n"
               "        new = x @ x.mH / x.shape[-1]\n"
               "        self.r = new if self.r is None else 0.9 * self.r + 0.1 * new\n        return self.r\n"),
    _case("loaded by a comparison of positions", "i = torch.arange(4)\n    return R + eps * (i[:, None] == i[None, :])",
          arguments="R, eps"),
    _case("loaded where an identity is true", "return torch.where(torch.eye(4).bool(), R + eps, R)", arguments="R, eps"),
    _case("loaded by a filled buffer", "m = torch.zeros_like(R)\n    m.fill_diagonal_(eps)\n    return R + m", arguments="R, eps"),
    _case("loaded by index_add", "return R.index_add(0, torch.arange(4), eps * torch.eye(4))", arguments="R, eps"),
    _case("normalised by a decorator", "return gram(f)", arguments="f",
          head="def unit(fn):\n    def inner(f):\n        r = fn(f)\n        return r / r.diagonal(dim1=-2, dim2=-1).sum()\n"
               "    return inner\n"
               "@unit\ndef gram(f):\n    return f @ f.mH\n"),
    Case("a missing builder", {"pkg/__init__.py": "", "pkg/step.py": "def step(x):\n    return x\n", "pkg/offline.py": ""}),
)  # fmt: skip
_VALID = (
    _case("a product with its own adjoint", "return f @ f.mH", arguments="f"),
    _case("a Gram matrix", "g = f.mH @ f\n    return torch.linalg.eigh(g)", arguments="f"),
    _case("eigh of the built one", "return torch.linalg.eigh(build(f))", arguments="f"),
    _case("a vector of unit length", "a = a / a.norm(dim=-1)\n    return a @ a.mH", arguments="a"),
    _case("a projector", "return torch.eye(4) - f @ f.mH", arguments="f"),
    _case("two losses", "return (1 - b) * first_loss + b * second_loss", arguments="first_loss, second_loss, b"),
    _case("an average of parameters", "return decay * old + (1 - decay) * new", arguments="old, new, decay"),
    _case("a learning rate", "return start + (end - start) * t", arguments="start, end, t"),
    _case("an identity alone", "return torch.eye(4) * 2.0"),
    _case("an identity plus a vector", "return torch.eye(4) + x", arguments="x"),
    _case("the mean power", "return torch.trace(R).real / 144"),
    _case("a derivative of a product", "half = d @ g.mH\n    return half + half.mH", arguments="d, g"),
    _case("two covariances side by side", "return torch.stack([R_pred, R_samp])", arguments="R_pred, R_samp"),
    _case("a clamped variable at the top of a module stacked", "return m",
          head="import torch\nx = torch.rand(3)\nx = x.clamp(0, 1)\nm = torch.stack((x, x)).mean(0)\n"),
    _case("a difference of covariances", "return (R_pred - R_samp).abs().sum()", arguments="R_pred, R_samp"),
    _case("an adjoint alone", "return R.mH @ R"),
    _case("a sum of two different matrices", "return a + b.mH", arguments="a, b"),
    _case("a Fisher matrix", "return 0.5 * (fisher + fisher.mT)", arguments="fisher"),
    _case("a quadratic form over the trace", "return (a.conj() * (f @ a)).sum() / torch.trace(f)", arguments="a, f"),
    _case("noise of the model", "return f @ f.mH + noise_variance * torch.eye(4)", arguments="f, noise_variance"),
    _case("a ridge in an offline module", "return h @ h.mH + rho * torch.eye(4)", arguments="h, rho", module="offline"),
    _case("two parts of a generator multiplied", "it = parts(x)\n    a = next(it)\n    return (a @ next(it)) / 2", arguments="x",
          head="def parts(m):\n    yield m\n    yield m.mH\n"),
    _case("a mean of two things in a fold", "return functools.reduce(operator.add, (x, y)) / 2", head="import functools, operator\n",
          arguments="x, y"),
    _case("snapshots of unit mean power", "y = y / y.abs().square().mean().sqrt()\n    return y @ y.mH", arguments="y"),
    _case("a relative error", "return (R_pred - R_samp) / torch.trace(R_samp)", arguments="R_pred, R_samp"),
    _case("eigenvalues as shares", "w = torch.linalg.eigvalsh(R)\n    return w / w.sum()"),
    _case("similarities without themselves", "s = z @ z.mH\n    return s.masked_fill(torch.eye(4).bool(), float('-inf'))", arguments="z"),
    _case("a real part", "g = a @ b.mH\n    return (g + g.conj()) / 2", arguments="a, b"),
    _case("sources of known powers", "return p * torch.outer(a, a.conj()) + q * torch.outer(b, b.conj())", arguments="a, b, p, q"),
    _case("a mean over covariances", "return torch.stack([x @ x.mH for x in xs]).mean(0)", arguments="xs"),
    _case("moments of an optimiser", "m.lerp_(g, 0.1)\n    v.mul_(0.9).addcmul_(g, g.conj(), value=0.1)\n    return m",
          arguments="m, v, g"),
    _case("a running mean of a loss", "return Mean()(loss)", arguments="loss",
          head="class Mean:\n    def __init__(self):\n        self.r = None\n    def __call__(self, x):\n"
               "        self.r = x if self.r is None else 0.9 * self.r + 0.1 * x\n        return self.r\n"),
    _case("weights of covariance losses", "return (1 - b) * covariance_loss + b * k_loss", arguments="covariance_loss, k_loss, b"),
)  # fmt: skip
_LIMITS = (
    _case("a gradient that is loaded in a backward", "return P.apply(x)", arguments="x",
          head="class P(torch.autograd.Function):\n    @staticmethod\n    def forward(ctx, x):\n        return x.clone()\n"
               "    @staticmethod\n    def backward(ctx, x):\n        return x + 1e-3 * torch.eye(4)\n"),
    _case("a factor scaled by its norm, its product elsewhere", "return f / f.abs().square().sum().sqrt()", arguments="f"),
)  # fmt: skip

RULE = Rule(
    code="COV001",
    title="one covariance builder",
    table="covariance",
    manual=MANUAL,
    mend="Call the builder with the option that does this, or move the operation into it.",
    check=check,
    settings=_SETTINGS,
    valid=_VALID,
    invalid=_INVALID,
    limits=_LIMITS,
)
