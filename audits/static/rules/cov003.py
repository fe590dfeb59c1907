"""COV003: the training blend detaches the sample covariance and asks for no loading and no shrinkage."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from audits.static.analysis.reach import entry_functions
from audits.static.context import Context
from audits.static.dataflow.flow import Place
from audits.static.dataflow.origins import Demand
from audits.static.findings import Finding, Step
from audits.static.rules.base import Case, Rule
from audits.static.source import ir
from audits.static.source.project import FunctionInfo
from audits.static.subjects.blends import Blends, Use
from audits.static.subjects.covariances import Covariances

MANUAL = """\
The training step blends prediction and truth with the same sample and weight; the loss then loads and shrinks both.
If the blend does it too, loss(truth, truth) is not zero; if the sample carries gradient, the data are trained. The
training blends are the calls of `covariance.builder` that a hot-path entry point reaches and that pass a sample,
except those whose result goes only to consumers of one covariance (a K-head, MUSIC), which see blend, loading and
shrinkage at once. A training blend must pass a sample that is detached on every way to it (`detach`, `data`, no_grad;
what the builder does itself is not seen at the call and does not count) and neither loading nor shrinkage: no option,
or None or 0 whichever way it came. Other hot calls must detach, or the builder must. No covariance may be loaded or
shrunk by two builder calls in a row. Where a consumer takes two covariances (a loss), both must come from blends with
the same sample and weight and with the same loading and shrinkage, and blended where the head's is; inside it, what
functions of the builder's module add to the diagonal of one they must add to the other. The builder's options are
recognised by name. Without entry points every call of the builder counts as hot.
"""
_LOSS = re.compile(r"loss|nmse|distance|criterion|mse|discrepancy", re.I)
Fault = tuple[Place, str]


def check(context: Context) -> Iterable[Finding]:
    """One finding for each fault of a builder call that training reaches."""
    builder = context.project.find(context.settings.builder)
    if not isinstance(builder, FunctionInfo):
        text = f"the builder {context.settings.builder} does not exist"
        yield context.config_finding("COV003", "covariance.builder", text)
        return
    reaches = context.reaches if context.settings.entry_points else []
    hot = {f for r in reaches for f in r.functions}
    if not context.settings.entry_points:
        hot = {f for f in context.project.functions if not context.offline(f.module)}
    origins = context.origins
    origins.only = lambda fn: fn in hot
    try:
        blends = Blends(origins, Covariances(origins, builder), hot)
        found = list(_Check(context, blends).faults())
    finally:
        origins.only = None
    seen: set[tuple[int, str]] = set()
    for place, message in found:
        if (id(place.expr), message) in seen:
            continue
        seen.add((id(place.expr), message))
        entry, path = "", tuple[Step, ...]()
        for reach in reaches:
            if place.fn is not None and place.fn in reach.functions:
                entry, path = reach.entry_point, reach.path_to(place.fn, place.expr.line)
                break
        yield context.finding("COV003", place.module, place.expr, message, fn=place.fn, entry_point=entry, call_path=path)


class _Check:
    """The faults of the hot calls of the builder."""

    def __init__(self, context: Context, blends: Blends) -> None:
        self.context = context
        self.blends = blends
        self.origins = context.origins
        self.consumers = [
            f for reference in context.settings.consumers for f in entry_functions(context.analysis, reference)
            if f.node.name not in ("__init__", "__post_init__", "__new__") and f in blends.hot
        ]  # fmt: skip

    def faults(self) -> Iterator[Fault]:
        blends = self.blends
        uses = list(blends.uses())
        sampled = [u for u in uses if blends.has_sample(u)]
        heads, losses, lost = self._goals()
        for use in sampled:
            head = any(use.chain[: len(h)] == h for h in heads)
            loss = any(use.chain[: len(c)] == c for c in losses)
            training = loss or not (head or lost)
            yield from self._gradient(use, training=training)
            if training:
                yield from self._options(use)
        for use in uses:
            yield from self._twice(use)
        for fn in self.consumers:
            if self._is_loss(fn):
                yield from self._sides(fn, blended=any(not any(u.chain[: len(c)] == c for c in losses) for u in sampled))

    def _is_loss(self, fn: FunctionInfo) -> bool:
        return len(self.blends.covariances.parameters(fn)) > 1 or bool(_LOSS.search(fn.qualname))

    def _goals(self) -> tuple[set[tuple[int, ...]], set[tuple[int, ...]], bool]:
        # The builder calls, as chains, whose results reach heads and losses, and whether a head's could not be followed:
        # COV002 reports that, and a call that reaches no loss may then be the head's.
        heads: set[tuple[int, ...]] = set()
        losses: set[tuple[int, ...]] = set()
        lost = False
        for fn in self.consumers:
            for param in self.blends.covariances.parameters(fn):
                for demand in self._given(fn, param):
                    found = self.blends.behind(demand)
                    (losses if self._is_loss(fn) else heads).update(use.chain for use in found)
                    lost = lost or not (found or self._is_loss(fn))
        return heads, losses, lost

    def _given(self, fn: FunctionInfo, param: ir.Param) -> Iterator[Demand]:
        for call, unit, bound in self.context.flow.sites(fn):
            if unit.fn is not None and unit.fn in self.blends.hot and unit.module is not self.blends.covariances.home:
                caller = Place(call, unit.module, unit.fn)
                for place, path, frame in self.origins.passed(caller, fn, param, bound=bound):
                    yield Demand(place, path, frame)

    def _gradient(self, use: Use, *, training: bool) -> Iterator[Fault]:
        for demand in self.blends.option(use, self.blends.sample):
            if not self.blends.detached(demand):
                if training:
                    yield use.place, "the training blend passes a sample covariance that is not detached"
                elif not self.blends.builder_detaches():
                    yield use.place, "the hot path passes a sample covariance that is not detached, and the builder does not detach it"

    def _options(self, use: Use) -> Iterator[Fault]:
        for params, what in ((self.blends.loading, "loading"), (self.blends.shrinkage, "shrinkage")):
            if self.blends.asks(use, params):
                yield use.place, f"the training blend asks for {what}; the loss applies it, to prediction and truth alike"

    def _twice(self, use: Use) -> Iterator[Fault]:
        for params, what in ((self.blends.loading, "loaded"), (self.blends.shrinkage, "shrunk")):
            if self.blends.asks(use, params):
                for demand in self.blends.option(use, self.blends.prediction):
                    if any(self.blends.asks(inner, params) for inner in self.blends.behind(demand)):
                        yield use.place, f"a covariance that is already {what} is {what} again"

    def _sides(self, fn: FunctionInfo, *, blended: bool) -> Iterator[Fault]:
        params = self.blends.covariances.parameters(fn)[:2]
        if len(params) < 2:
            return
        yield from self._treatment(fn, params)
        for call, unit, bound in self.context.flow.sites(fn):
            if unit.fn is None or unit.fn not in self.blends.hot or unit.module is self.blends.covariances.home:
                continue
            caller = Place(call, unit.module, unit.fn)
            chains = []
            for param in params:
                passed = self.origins.passed(caller, fn, param, bound=bound)
                chains.append([u for place, path, frame in passed for u in self.blends.behind(Demand(place, path, frame))])
            if not all(chains):
                continue  # COV002 says that one of them is not built at all
            first, second = (self._signature(chain) for chain in chains)
            for what, one, other in zip(("sample", "weight", "loading", "shrinkage"), first, second, strict=True):
                if one != other:
                    got = f"{', '.join(sorted(one)) or 'none'} and {', '.join(sorted(other)) or 'none'}"
                    yield caller, f"the two covariances that {fn.qualname} compares are not built alike: {what} {got}"
                    break
            else:
                if blended and not first[0]:
                    yield caller, f"{fn.qualname} compares covariances without the sample that the hot path blends elsewhere"

    def _treatment(self, fn: FunctionInfo, params: list[ir.Param]) -> Iterator[Fault]:
        treated = self.blends.treated(fn, params)
        for what, place in [i for side in treated for i in side.items()]:
            if not all(what in side for side in treated):
                yield place, f"only one of the two covariances that {fn.qualname} compares is loaded or shrunk by {what}"

    def _signature(self, chain: list[Use]) -> tuple[set[str], set[str], set[str], set[str]]:
        blends = self.blends
        sampled = [u for u in chain if blends.has_sample(u)]

        def keys(uses: list[Use], params: Iterable[ir.Param | None]) -> set[str]:
            return {
                blends.canonical(d) for u in uses for p in params for d in blends.option(u, p)
                if p is blends.beta or not blends.neutral(d)
            }  # fmt: skip

        return keys(sampled, [blends.sample]), keys(sampled, [blends.beta]), keys(chain, blends.loading), keys(chain, blends.shrinkage)


_COV = (
    "import torch\ndef build(predicted, sample=None, *, beta=0.0, diagonal_loading=0.0, shrinkage=None, snr_db=None) -> torch.Tensor:\n"
    "    return predicted if sample is None else (1 - beta) * predicted + beta * sample\n"
)
_SETTINGS = {
    "covariance": {"builder": "pkg.cov:build", "consumers": ["pkg.use:head", "pkg.use:nmse"]},
    "hot-path": {"entry-points": ["pkg.main:step"]},
}
_USE = (
    "def head(covariance):\n    return covariance.sum()\n"
    "def nmse(predicted_cov, true_cov):\n    return (predicted_cov - true_cov).abs().sum()\n"
)
_BLEND = "return build(r, s.detach(), beta=cfg.beta)"
_PREDICTED, _TRUE = "blend(r, batch.sample, cfg)", "blend(batch.truth, batch.sample, cfg)"
_LOSS_CALL = "nmse(build(p, diagonal_loading=cfg.loading, shrinkage=cfg.law), build(t, diagonal_loading=cfg.loading, shrinkage=cfg.law))"


def _method(name: str, options: str) -> Case:
    # The builder is an object that is called, with its options by position.
    case = _case(name, f"return build(r, {options})", extra="from pkg.cov import Builder\nBUILD = Builder()\n")
    cov = _COV.replace("def build(predicted, sample=None, *, ", "class Builder:\n  def __call__(self, predicted, sample=None, ")
    main = re.sub(r"\bbuild\(", "BUILD(", case.files["pkg/main.py"].replace("from pkg.cov import build\n", ""))
    consumers = ["pkg.use:head", "pkg.use:nmse"]
    table = {"covariance": {"builder": "pkg.cov:Builder.__call__", "consumers": consumers}}
    return Case(name, {**case.files, "pkg/cov.py": cov, "pkg/main.py": main}, table)


def _inside(name: str, body: str) -> Case:
    # A loss that treats its covariances with another function of the builder's module.
    case = _case(name, loss="nmse(p, t)")
    helpers = (
        "def reload(r, eps):\n    eye = torch.eye(r.shape[-1])\n    return r + eps * eye\n"
        "def hermitian(r):\n    return (r + r.mH) / 2\ndef power(r):\n    return r.abs().square().sum()\n"
    )
    use = (
        "from pkg.cov import build, hermitian, power, reload\ndef head(covariance):\n    return covariance.sum()\n"
        f"def nmse(predicted_cov, true_cov, eps=0.1):\n    p, t = predicted_cov, true_cov\n    {body}\n"
        "    return (p - t).abs().sum() / power(t)\n"
    )
    return Case(name, {**case.files, "pkg/cov.py": _COV + helpers, "pkg/use.py": use})


def _case(
    name: str, blend: str = _BLEND, *, predicted: str = _PREDICTED, true: str = _TRUE, loss: str = _LOSS_CALL, extra: str = ""
) -> Case:
    source = (
        "from functools import partial\nimport torch\nfrom pkg.cov import build\nfrom pkg.use import head, nmse\n"
        f"def blend(r, s, cfg):\n    {blend}\n"
        "def step(model, batch, cfg):\n    r = model(batch.x)\n"
        "    k = head(build(r, batch.sample.detach(), beta=cfg.beta, diagonal_loading=cfg.loading, shrinkage=cfg.law))\n"
        f"    p = {predicted}\n    t = {true}\n    return {loss} + k\n{extra}"
    )
    return Case(name, {"pkg/__init__.py": "", "pkg/cov.py": _COV, "pkg/use.py": _USE, "pkg/main.py": source})


RULE = Rule(
    code="COV003",
    title="the training blend detaches the sample and asks for no loading and no shrinkage",
    table="covariance",
    manual=MANUAL,
    mend="Call the builder with sample.detach() and beta alone; let the loss load and shrink prediction and truth alike.",
    check=check,
    settings=_SETTINGS,
    valid=(
        _case("plain"),
        _case("detached before", "s = s.detach()\n    return build(r, s, beta=cfg.beta)"),
        _case("detached by a helper", "return build(r, frozen(s), beta=cfg.beta)", extra="def frozen(x):\n    return x.detach()\n"),
        _case("without gradient", "with torch.no_grad():\n        s = s.clone()\n    return build(r, s, beta=cfg.beta)"),
        _case("detached through an alias", "return build(r, freeze(s), beta=cfg.beta)", extra="freeze = torch.Tensor.detach\n"),
        _case("detached in place", "q = s.clone()\n    q.detach_()\n    return build(r, q, beta=cfg.beta)"),
        _case(
            "detached when the block is left",
            "made = []\n    with contextlib.ExitStack() as stack:\n        stack.callback(lambda: made.append(s.detach()))\n"
            "    return build(r, made[0], beta=cfg.beta)",
            extra="import contextlib\n",
        ),
        _case(
            "a context manager of the packages",
            "with quiet():\n        q = s * 1.0\n    return build(r, q, beta=cfg.beta)",
            extra="import contextlib\n@contextlib.contextmanager\ndef quiet():\n    with torch.no_grad():\n        yield\n",
        ),
        _case(
            "computed where the caller has no gradient",
            "with torch.no_grad():\n        q = scaled(s)\n    return build(r, q, beta=cfg.beta)",
            extra="def scaled(x):\n    return x / x.abs().amax()\n",
        ),
        _case(
            "a decorator that detaches",
            "return build(r, twice(s), beta=cfg.beta)",
            extra="def stopped(fn):\n    def inner(*args):\n        return fn(*args).detach()\n    return inner\n"
            "@stopped\ndef twice(x):\n    return 2 * x\n",
        ),
        _case("detached where it has a gradient", "if s.requires_grad:\n        s = s.detach()\n    return build(r, s, beta=cfg.beta)"),
        _case(
            "options that hold no loading",
            "return mix(r, s.detach(), beta=cfg.beta)",
            extra="def mix(r, s, **options):\n    return build(r, s, **{**BASE, **options})\nBASE = {'snr_db': None}\n",
        ),
        _case(
            "options of an object that is called",
            "return Mix(cfg)(r, s.detach())",
            extra="class Mix:\n    def __init__(self, cfg, loading=0.0):\n"
            "        self.options = {'beta': cfg.beta, 'diagonal_loading': loading}\n"
            "    def __call__(self, r, s):\n        return build(r, s, **self.options)\n",
        ),
        _case("explicitly nothing", "none = None\n    return build(r, s.detach(), beta=cfg.beta, diagonal_loading=0.0, shrinkage=none)"),
        _case("options in a dictionary", "options = {'beta': cfg.beta}\n    return build(r, s.detach(), **options)"),
        _case("no sample", "return build(r) if s is None else build(r, s.detach(), beta=cfg.beta)"),
        _case("loaded where nothing is trained", extra="def report(r, s):\n    return build(r, s, beta=0.3, diagonal_loading=1e-3)\n"),
        _case(
            "a helper that others let load",
            "return mix(r, s.detach(), cfg.beta)",
            extra=(
                "def mix(r, s, beta, loading=0.0):\n    return build(r, s, beta=beta, diagonal_loading=loading)\n"
                "def report(r, s):\n    return mix(r, s, 0.3, 1e-3)\n"
            ),
        ),
        _case(
            "a parameter of the weight that has a default",
            "return mix(r, s, cfg)",
            true="mix(batch.truth, batch.sample, cfg, share=1)",
            extra="def mix(r, s, cfg, share=1.0):\n    return build(r, s.detach(), beta=share * cfg.beta)\n",
        ),
        _method("a method as builder", "s.detach(), cfg.beta"),
        _inside("both sides loaded inside the loss", "p, t = (reload(c, eps) for c in (p, t))"),
        _inside("one side hermitised inside the loss", "p = hermitian(p)"),
        _inside("both sides built again inside the loss", "p = build(p, diagonal_loading=eps)\n    t = build(t, diagonal_loading=eps)"),
        _case("a loss without loading", loss="nmse(p, t)"),
    ),
    invalid=(
        _case("gradient", "return build(r, s, beta=cfg.beta)"),
        _case("gradient on one way", "if cfg.frozen:\n        s = s.detach()\n    return build(r, s, beta=cfg.beta)"),
        _case("a function of the library", "return build(r, torch.clone(s), beta=cfg.beta)"),
        _case("an alias without gradient", "with torch.no_grad():\n        q = s\n    return build(r, q, beta=cfg.beta)"),
        _case(
            "gradient switched on again",
            "with torch.no_grad():\n        with torch.enable_grad():\n            q = s * 1.0\n    return build(r, q, beta=cfg.beta)",
        ),
        _case("a helper that is only named so", "return build(r, detach(s), beta=cfg.beta)", extra="def detach(x):\n    return x\n"),
        _case("written into a buffer", "q = torch.zeros_like(s)\n    q.copy_(s)\n    return build(r, q, beta=cfg.beta)"),
        _case("added after the detach", "q = s.detach().clone()\n    q += 0.1 * s\n    return build(r, q, beta=cfg.beta)"),
        _case(
            "one of several samples",
            "q = [s.detach(), s]\n    return build(r, torch.stack(q).mean(0), beta=cfg.beta)",
        ),
        _case(
            "loading bound under the builder's name",
            "return Mix().build(r, s.detach(), beta=cfg.beta)",
            extra="class Mix:\n    def __init__(self):\n        self.build = partial(build, diagonal_loading=1e-3)\n",
        ),
        _case("the wrong one detached", "return build(r.detach(), s, beta=cfg.beta)"),
        _case("loading", "return build(r, s.detach(), beta=cfg.beta, diagonal_loading=cfg.loading)"),
        _case("shrinkage", "return build(r, s.detach(), beta=cfg.beta, shrinkage=cfg.law)"),
        _case("a literal loading", "return build(r, s.detach(), beta=cfg.beta, diagonal_loading=1e-3)"),
        _case(
            "loading in a dictionary", "options = dict(beta=cfg.beta, diagonal_loading=1e-3)\n    return build(r, s.detach(), **options)"
        ),
        _case("loading bound before", "mix = partial(build, diagonal_loading=1e-3)\n    return mix(r, s.detach(), beta=cfg.beta)"),
        _case(
            "loading by a helper's default",
            "return mix(r, s.detach(), cfg.beta)",
            extra="def mix(r, s, beta, loading=1e-3):\n    return build(r, s, beta=beta, diagonal_loading=loading)\n",
        ),
        _case("the truth not blended", true="build(batch.truth)"),
        _case("the truth with another sample", true="blend(batch.truth, batch.other, cfg)"),
        _case("the truth with another weight", true="build(batch.truth, batch.sample.detach(), beta=0.1)"),
        _case(
            "the truth with another weight by a parameter that has a default",
            "return mix(r, s, cfg)",
            true="mix(batch.truth, batch.sample, cfg, share=0.5)",
            extra="def mix(r, s, cfg, share=1.0):\n    return build(r, s.detach(), beta=share * cfg.beta)\n",
        ),
        _case("the truth not loaded", loss="nmse(build(p, diagonal_loading=cfg.loading), t)"),
        _case(
            "shrunk twice",
            predicted="build(blend(r, batch.sample, cfg), shrinkage=cfg.law)",
            true="build(blend(batch.truth, batch.sample, cfg), shrinkage=cfg.law)",
        ),
        _method("loading by position, with a method as builder", "s.detach(), cfg.beta, cfg.loading"),
        _method("gradient, with a method as builder", "s, cfg.beta"),
        _inside("one side loaded inside the loss", "p = reload(p, eps)"),
        _inside("the sides loaded by different amounts inside the loss", "p, t = reload(p, eps), reload(t, 2 * eps)"),
        _inside("one side loaded by a helper of the loss", "fix = lambda c: reload(c, eps)\n    t = fix(t)"),
        _inside("one side built again inside the loss", "p = build(p, diagonal_loading=eps)"),
        _case("nothing blended", predicted="build(r)", true="build(batch.truth)"),
        _case("options that cannot be seen", "return build(r, s.detach(), **cfg.options())"),
    ),
    limits=(_case("a weight that is always zero", "return build(r, s.detach(), beta=0.0)"),),
)
