"""COV001 to COV003: covariances that are built, taken or blended elsewhere."""

from __future__ import annotations

from tests.audits.mutants.model import Block, Edit, Op, Sink
from tests.audits.mutants.sites import COVARIANCES, LOCALIZE, LOOP, LOSSES, NETWORK, instead

_T = "import torch"
_NP = "import numpy as np\nimport torch"


def _sink(name: str, bad: str, good: str, params: str = "x", imports: str = _T) -> Sink:
    return Sink(name, Op(body=bad), Op(body=good), params=params, imports=imports)


def _numpy(name: str, bad: str, good: str) -> Sink:
    return _sink(name, f"m = x.detach().cpu().numpy()[0]\nreturn {bad}", f"m = x.detach()[0]\nreturn {good}", imports=_NP)


_HERMITE = tuple(
    _sink(f"hermitise: {name}", bad, good)
    for name, bad, good in (
        ("mH", "return 0.5 * (x + x.mH)", "return x @ x.mH"),
        ("conj and transpose", "return (x + x.conj().transpose(-2, -1)) / 2", "return x @ x.conj().transpose(-2, -1)"),
        ("transpose and conj", "return (x + x.transpose(1, 2).conj()) * 0.5", "return x.transpose(1, 2).conj() @ x"),
        ("adjoint", "return (x + x.adjoint()) / 2", "return x.adjoint() @ x"),
        ("mT and conj", "return (x.mT.conj() + x).div(2)", "return (x.mT.conj() @ x).div(2)"),
        ("swapaxes", "return torch.add(x, torch.conj(x).swapaxes(-1, -2)) / 2", "return torch.matmul(x, torch.conj(x).swapaxes(-1, -2)) / 2"),
        ("permute", "other = x.permute(0, 2, 1).conj()\nreturn 0.5 * x + 0.5 * other", "other = x.permute(0, 2, 1).conj()\nreturn other @ x"),
        ("einsum", "return (x + torch.einsum('bij->bji', x).conj()) / 2", "return torch.einsum('bij,bjk->bik', x, x).conj() / 2"),
        ("in place", "y = x.clone()\ny += x.mH\nreturn y / 2", "y = x.clone()\ny @= x.mH\nreturn y / 2"),
        ("add_", "y = x.clone()\nreturn y.add_(x.mH).mul_(0.5)", "y = x.clone()\nreturn y.matmul(x.mH).mul_(0.5)"),
        ("mean of a stack", "return torch.stack((x, x.mH)).mean(dim=0)", "return torch.stack((x, x.abs().to(x.dtype))).mean(dim=0).abs()"),
        ("lerp", "return torch.lerp(x, x.mH.contiguous(), torch.tensor(0.5).to(x.dtype))", "return torch.where(x.abs() > 0, x.mH, 0)"),
        ("upper triangle mirrored", "return x.triu() + x.triu(1).mH", "return x.triu() @ x.triu(1).mH"),
        ("lower triangle mirrored", "low = torch.tril(x, -1)\nreturn torch.tril(x) + low.conj().mT", "low = torch.tril(x, -1)\nreturn torch.tril(x) @ low.conj().mT"),
        ("through a variable", "flipped = x.mH\ntotal = x + flipped\nreturn total * 0.5", "flipped = x.mH\ntotal = x @ flipped\nreturn total * 0.5"),
        ("symmetric real part", "re, im = x.real, x.imag\nreturn torch.complex((re + re.mT) / 2, (im - im.mT) / 2)",
         "re, im = x.real, x.imag\nreturn torch.complex(re @ re.mT, im @ im.mT)"),
    )
)  # fmt: skip
_TRACE = tuple(
    _sink(f"normalise: {name}", bad, good)
    for name, bad, good in (
        ("diagonal and sum", "tr = x.diagonal(dim1=-2, dim2=-1).sum(-1)\nreturn x / tr[:, None, None]", "top = x.abs().amax(dim=(-2, -1))\nreturn top / top.sum()"),
        ("real diagonal", "return x * (x.shape[-1] / x.diagonal(dim1=-2, dim2=-1).real.sum(-1))[:, None, None]", "return x.diagonal(dim1=-2, dim2=-1).real.sum(-1) / x.shape[-1]"),
        ("einsum", "return x / torch.einsum('bii->b', x)[:, None, None]", "return torch.einsum('bij,bji->b', x, x)"),
        ("torch.diagonal", "power = torch.diagonal(x, dim1=1, dim2=2).sum(dim=1)\ny = x.clone()\ny /= power[:, None, None]\nreturn y",
         "power = torch.diagonal(x, dim1=1, dim2=2).abs()\nreturn power / power.amax()"),
        ("vmap of trace", "return x / torch.vmap(torch.trace)(x)[:, None, None]", "return torch.vmap(torch.trace)(x).real.log()"),
        ("div", "tr = x.diagonal(dim1=-2, dim2=-1).sum(-1, keepdim=True)\nreturn x.div(tr[..., None])", "tr = x.diagonal(dim1=-2, dim2=-1).sum(-1, keepdim=True)\nreturn tr.abs().log()"),
        ("reciprocal", "gain = x.diagonal(dim1=-2, dim2=-1).sum(-1).reciprocal()\nreturn x.mul(gain[:, None, None])", "gain = x.diagonal(dim1=-2, dim2=-1).sum(-1).reciprocal()\nreturn gain.abs()"),
        ("eigenvalues", "return x / torch.linalg.eigvalsh(x).sum(-1)[:, None, None]", "values = torch.linalg.eigvalsh(x)\nreturn values / values.amax()"),
        ("masked by an identity", "eye = torch.eye(x.shape[-1])\ntr = (x * eye).sum(dim=(-2, -1))\nreturn x / tr[:, None, None]", "eye = torch.eye(x.shape[-1])\nreturn (x * eye).sum(dim=(-2, -1))"),
        ("a list of matrices", "return torch.stack([m / torch.trace(m) for m in x])", "return torch.stack([torch.trace(m) for m in x])"),
        ("linalg.diagonal", "return x / torch.linalg.diagonal(x).sum(-1)[..., None, None]", "return torch.linalg.diagonal(x).sum(-1).abs()"),
        ("mean of the diagonal", "level = x.diagonal(dim1=-2, dim2=-1).mean(-1)\nreturn x / level[:, None, None]", "level = x.diagonal(dim1=-2, dim2=-1).mean(-1)\nreturn 10 * level.abs().log10()"),
    )
)  # fmt: skip
_BLEND = tuple(
    _sink(f"blend: {name}", bad, good, "x, y")
    for name, bad, good in (
        ("weights", "beta = 0.3\nreturn (1 - beta) * x + beta * y", "beta = 0.3\nreturn (1 - beta) * x.abs().sum().log() + beta * y.abs().sum().log()"),
        ("lerp", "return torch.lerp(x, y, torch.tensor(0.3).to(x.dtype))", "return torch.lerp(x.abs().mean(), y.abs().mean(), 0.3).log()"),
        ("lerp method", "return x.lerp(y, torch.tensor(0.3).to(x.dtype))", "return x.matmul(y)"),
        ("difference", "return x + 0.3 * (y - x)", "return (x @ y - y @ x).abs().sum()"),
        ("in place", "made = x * 0.7\nmade += y * 0.3\nreturn made", "made = x * 0.7\nmade @= y * 0.3\nreturn made"),
        ("add with alpha", "return torch.add(0.7 * x, y, alpha=0.3)", "return torch.matmul(0.7 * x, y)"),
        ("weighted sum", "return sum(w * m for w, m in ((0.7, x), (0.3, y)))", "return sum(w * m.abs().sum().log() for w, m in ((0.7, x), (0.3, y)))"),
        ("mean of a stack", "return torch.stack((x, y)).mean(dim=0)", "return torch.stack((x, y)).abs().amax(dim=0)"),
        ("half the sum", "return (x + y) / 2", "return (x @ y) / 2"),
        ("tensordot", "return torch.tensordot(torch.tensor([0.7, 0.3]).to(x.dtype), torch.stack((x, y)), dims=1)", "return torch.stack((x, y)).abs().sum(dim=0).log()"),
    )
)  # fmt: skip
_LOAD = tuple(
    _sink(f"load: {name}", bad, good)
    for name, bad, good in (
        ("eye", "return x + 1e-3 * torch.eye(x.shape[-1])", "return x @ (1e-3 * torch.eye(x.shape[-1], dtype=x.dtype))"),
        ("eye through variables", "n = x.shape[-1]\nload = 1e-3 * torch.eye(n)\nreturn load + x", "n = x.shape[-1]\nload = 1e-3 * torch.eye(n)\nreturn load.sum() * x.abs().amax()"),
        ("in-place diagonal", "y = x.clone()\ny.diagonal(dim1=-2, dim2=-1).add_(1e-3)\nreturn y", "y = x.clone()\nreturn y.diagonal(dim1=-2, dim2=-1).abs()"),
        ("augmented diagonal", "y = x.clone()\nd = y.diagonal(dim1=-2, dim2=-1)\nd += 1e-3\nreturn y", "y = x.clone()\nd = y.diagonal(dim1=-2, dim2=-1).abs()\nd = d.log()\nreturn d"),
        ("diag_embed", "return x + torch.diag_embed(torch.full(x.shape[:-1], 1e-3))", "return torch.diag_embed(torch.full(x.shape[:-1], 1e-3)).to(x.dtype) @ x"),
        ("index", "y = x.clone()\ni = torch.arange(y.shape[-1])\ny[:, i, i] += 1e-3\nreturn y", "i = torch.arange(x.shape[-1])\nreturn x[:, i, i].abs()"),
        ("diag of ones", "return x + torch.diag(torch.ones(x.shape[-1])) * 1e-3", "return torch.diag(torch.ones(x.shape[-1])).to(x.dtype) @ x"),
        ("diagonal_scatter", "return torch.diagonal_scatter(x, x.diagonal(dim1=-2, dim2=-1) + 1e-3, dim1=-2, dim2=-1)", "return torch.tril(x, -1) @ torch.triu(x, 1)"),
        ("add with alpha", "return torch.add(x, torch.eye(x.shape[-1]), alpha=1e-3)", "return torch.sub(x.abs().sum(), torch.eye(x.shape[-1]).sum(), alpha=1e-3)"),
        ("fill of the diagonal", "y = x[0].clone()\ny.fill_diagonal_(1.0)\nreturn y", "y = torch.zeros(3, 3)\nreturn y + x.abs().sum()"),
        ("eye of ones", "i = torch.ones(x.shape[-1])\neye = i.diag_embed()\nreturn x.add(1e-2 * eye)", "i = torch.ones(x.shape[-1])\nreturn x.abs().sum() * i.sum()"),
        ("relative loading", "n = x.shape[-1]\nlevel = x.diagonal(dim1=-2, dim2=-1).real.mean(-1)\nreturn x + 1e-2 * level[:, None, None] * torch.eye(n)",
         "level = x.diagonal(dim1=-2, dim2=-1).real.mean(-1)\nreturn 10 * torch.log10(level)"),
    )
)  # fmt: skip
_SHRINK = tuple(
    _sink(f"shrink: {name}", bad, good)
    for name, bad, good in (
        ("towards the identity", "n = x.shape[-1]\nreturn 0.9 * x + 0.1 * torch.eye(n)", "n = x.shape[-1]\nreturn 0.9 * x.abs().sum() + 0.1 * n"),
        ("towards the mean power", "n = x.shape[-1]\nmu = x.diagonal(dim1=-2, dim2=-1).sum(-1) / n\nreturn (1 - 0.1) * x + 0.1 * mu[:, None, None] * torch.eye(n)",
         "n = x.shape[-1]\nmu = x.diagonal(dim1=-2, dim2=-1).sum(-1) / n\nreturn (mu.abs() * 0.1).log()"),
        ("lerp", "eye = torch.eye(x.shape[-1]).to(x.dtype).expand_as(x)\nreturn torch.lerp(x, eye, torch.tensor(0.1).to(x.dtype))",
         "eye = torch.eye(x.shape[-1]).to(x.dtype).expand_as(x)\nreturn torch.matmul(x, eye)"),
        ("with an SNR's weight", "alpha = (0.1 * 10 ** (-torch.tensor(3.0) / 20)).clamp(1e-3, 0.3)\nreturn (1 - alpha) * x + alpha * torch.eye(x.shape[-1])",
         "alpha = (0.1 * 10 ** (-torch.tensor(3.0) / 20)).clamp(1e-3, 0.3)\nreturn (1 - alpha) * x.abs().sum()"),
        ("of the eigenvalues", "values, vectors = torch.linalg.eigh(x)\nvalues = 0.9 * values + 0.1 * values.mean(-1, keepdim=True)\nreturn (vectors * values[:, None, :]) @ vectors.mH",
         "values, vectors = torch.linalg.eigh(x)\nreturn (vectors * values[:, None, :]).abs().sum()"),
    )
)  # fmt: skip
_NUMPY = (
    _numpy("hermitise: NumPy", "(m + m.conj().T) / 2", "m @ m.conj().T"),
    _numpy("hermitise: NumPy functions", "0.5 * np.add(m, np.conjugate(np.transpose(m)))", "0.5 * torch.matmul(m, torch.conj(m).mT)"),
    _numpy("normalise: NumPy", "m / np.trace(m)", "torch.trace(m)"),
    _numpy("normalise: np.einsum", "m / np.einsum('ii->', m)", "torch.einsum('ij,ji->', m, m)"),
    _numpy("load: NumPy", "m + 1e-3 * np.eye(len(m))", "m.sum() * len(m)"),
    _numpy("load: np.identity", "np.add(m, 1e-3 * np.identity(m.shape[0]))", "m.abs().sum() + 1e-3"),
)

_PAIRS = tuple(
    instead(f"{s.name}, two", s.file, s.old, s.new, f"{s.args}, {other}", s.scenario)
    for s, other in ((COVARIANCES[0], "truth.dense()"), (COVARIANCES[2], "(2 * factor) @ factor.mH"), (COVARIANCES[1], "factor @ factor.mH"),
                     (COVARIANCES[4], "covariance.factor @ covariance.factor.mH"))
)  # fmt: skip

_COV = "from dataclasses import replace\nimport torch\nfrom ris_pipeline.covariance import FactoredCovariance, build_effective_covariance"


def _unbuilt(name: str, bad: str, good: str) -> Sink:
    return Sink(name, Op(body=bad), Op(body=good), params="given", imports=_COV)


UNBUILT = (
    _unbuilt("from the factor", "return FactoredCovariance.from_factor(given.factor)", "return given.detach()"),
    _unbuilt("scaled", "return FactoredCovariance(given.factor * 2.0, given.diagonal * 4.0)", "made = given.detach()\nreturn made"),
    _unbuilt("replaced", "return replace(given, factor=given.factor * 2.0)", "return given if given is not None else given"),
    _unbuilt("without a diagonal", "return FactoredCovariance(given.factor, torch.zeros_like(given.diagonal))", "return given.detach()"),
    _unbuilt("with a diagonal", "return FactoredCovariance(given.factor, given.diagonal + 1e-3)", "return (given, given.diagonal + 1e-3)[0]"),
    _unbuilt("in one branch", "if given.rank > 0:\n    return FactoredCovariance.from_factor(given.factor)\nreturn given", "if given.rank > 0:\n    return given.detach()\nreturn given"),
    _unbuilt("conditionally", "return FactoredCovariance.from_factor(given.factor) if given.rank else given", "return given.detach() if given.rank else given"),
    _unbuilt("through variables", "parts = (given.factor, given.diagonal)\nmade = FactoredCovariance(*parts)\nreturn made", "made = given\nkept = made\nreturn kept"),
    _unbuilt("the builder beside it", "build_effective_covariance(given)\nreturn FactoredCovariance.from_factor(given.factor)", "kept = given.detach()\nreturn kept"),
    _unbuilt("by keywords", "return FactoredCovariance(diagonal=given.diagonal, factor=given.factor)", "return given"),
)  # fmt: skip

CONSUMERS = (
    instead("count head", NETWORK, "k_logits = self.count_head(effective, features, score, summary)",
            "k_logits = self.count_head(\u00a7, features, score, summary)", "effective", "step"),
    instead("loss, predicted", LOSSES, "            covariance_nmse(effective, target),", "            covariance_nmse(\u00a7, target),", "effective", "step"),
    instead("loss, true", LOSSES, "            covariance_nmse(effective, target),", "            covariance_nmse(effective, \u00a7),", "target", "step"),
    instead("training loss, predicted", LOOP, "            self.blend(prediction.factor, sample),", "            \u00a7,", "self.blend(prediction.factor, sample)", "step"),
    instead("training loss, true", LOOP, "            self.blend(true_factor(self.config.array, batch.sources), sample),", "            \u00a7,",
            "self.blend(true_factor(self.config.array, batch.sources), sample)", "step"),
    instead("MUSIC on the sample", LOCALIZE, "        return music(covariance, k, config)",
            "        return music(\u00a7, k, config)", "covariance", "music"),
    instead("MUSIC on the effective", LOCALIZE, "music(prediction.effective, k, config))", "music(\u00a7, k, config))", "prediction.effective", ""),
)  # fmt: skip

_BLENDED = "None if sample is None else FactoredCovariance.from_factor(sample.detach()),\n            beta=self.config.covariance.beta,"


def _attached(name: str, bad: str, good: str = "return given.detach()") -> Sink:
    return Sink(name, Op(body=bad), Op(body=good), params="given", imports=_T)


ATTACHED = (
    _attached("as it is", "return given"),
    _attached("a copy", "return given.clone()", "return given.clone().detach()"),
    _attached("contiguous", "return given.contiguous()", "return given.detach().contiguous()"),
    _attached("detached and dropped", "given.detach()\nreturn given", "kept = given.detach()\nreturn kept"),
    _attached("scaled", "return given * 1.0", "return given.detach() * 1.0"),
    _attached("in one branch", "if given.is_complex():\n    return given\nreturn given.detach()", "if given.is_complex():\n    return given.detach()\nreturn given.detach().clone()"),
    _attached("in one alternative", "return given if given.is_complex() else given.detach()", "return given.detach() if given.is_complex() else given.detach().clone()"),
    _attached("only its real part", "return torch.complex(given.real.detach(), given.imag)", "return torch.complex(given.detach().real, given.detach().imag)"),
    _attached("with gradient", "return given.requires_grad_()", "return given.detach().resolve_conj()"),
)  # fmt: skip
BLEND_SITES = (
    instead("blend", LOOP, "FactoredCovariance.from_factor(sample.detach()),", "FactoredCovariance.from_factor(\u00a7),", "sample", "step"),
)


def _options(name: str, bad: str, good: str = "") -> Edit:
    return Edit(name, LOOP, _BLENDED, _BLENDED.replace("            beta", f"            {bad}\n            beta"),
                _BLENDED.replace("            beta", f"            {good}\n            beta") if good else _BLENDED + "  # neither loaded nor shrunk", "step")  # fmt: skip


_CALL = (
    "        return build_effective_covariance(\n            FactoredCovariance.from_factor(factor),\n            "
    + _BLENDED
    + "\n        )"
)
OPTIONS = (
    _options("a literal loading", "~diagonal_loading=1e-3,", "~diagonal_loading=0.0,"),
    _options("a configured loading", "~diagonal_loading=self.config.covariance.diagonal_loading,"),
    _options("a loading by mapping", '~**{"diagonal_loading": 1e-3},', '~**{"diagonal_loading": 0.0},'),
    Edit("a shrinkage", LOOP, _BLENDED, _BLENDED + "\n            shrinkage=self.config.covariance.shrinkage,\n~            snr_db=10.0,",
         _BLENDED + "\n            shrinkage=None,\n~            snr_db=10.0,"),
    Edit("a loading by partial", LOOP, _CALL, _CALL.replace("return build_effective_covariance(", "from functools import partial\n        build = partial(build_effective_covariance, diagonal_loading=1e-3)\n~        return build("),
         _CALL.replace("return build_effective_covariance(", "from functools import partial\n        build = partial(build_effective_covariance)\n~        return build("), ""),
    Edit("loaded afterwards", LOOP, _CALL, _CALL.replace("return build", "blended = build") + "\n~        return build_effective_covariance(blended, diagonal_loading=1e-3)",
         _CALL.replace("return build", "blended = build") + "\n~        return blended", "step"),
    Edit("loaded before", LOOP, "            FactoredCovariance.from_factor(factor),\n            " + _BLENDED,
         "~            build_effective_covariance(FactoredCovariance.from_factor(factor), diagonal_loading=1e-2),\n            " + _BLENDED,
         "~            build_effective_covariance(FactoredCovariance.from_factor(factor)),\n            " + _BLENDED, "step"),
)  # fmt: skip

BLOCKS = (
    Block(
        "COV001",
        (*_HERMITE, *_TRACE, *_LOAD, *_SHRINK, *_NUMPY),
        COVARIANCES,
        weight=4,
        names=("covariance", "hermitian", "load_diagonal", "shrink", "blend", "normalise", "trace_of"),
    ),
    Block("COV001", _BLEND, _PAIRS, names=("blend", "mix", "weighted")),
    Block("COV002", UNBUILT, CONSUMERS, names=("build_covariance", "effective_of")),
    Block("COV003", ATTACHED, BLEND_SITES, OPTIONS, names=("detached", "blend_of")),
)
