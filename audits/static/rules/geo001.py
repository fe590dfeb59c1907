"""GEO001: one steering-vector definition."""

from __future__ import annotations

import re
from collections.abc import Iterable

from audits.static.analysis.engine import Unit
from audits.static.analysis.reach import entry_functions
from audits.static.analysis.values import Func
from audits.static.context import Context
from audits.static.dataflow import usage
from audits.static.dataflow.flow import argument
from audits.static.findings import Finding
from audits.static.rules.base import Case, Rule
from audits.static.source import ir
from audits.static.source.project import FunctionInfo
from audits.static.subjects.phasors import Evidence, Phasor, Phasors

MANUAL = """\
Two definitions of the steering vector differ sooner or later: in the array's centre, in the sign of the phase, in the
angle convention, in a factor of the wavelength - and nothing fails, the estimate is only wrong. This rule finds every
complex exponential whose phase is that of a wave over an array: `exp(1j ...)` of torch, NumPy or cmath, `polar`, `rect`,
`e ** (1j ...)`, cosine and sine of one phase; with a distance (`norm`, `cdist`, `hypot`, the root of a sum of squares)
or a direction cosine times pi, a wavelength, positions or an index in it, followed through variables, fields, helpers and
the arguments of a helper that makes the exponential. Only `geometry.steering`, and what it calls, may hold one.

A variant for studies is allowed beside the definition, in its module, under its name with a qualifier (`fresnel_`,
`far_field_`, `planar_`, `plane_wave_`, `paraxial_`, `parabolic_`), as long as no code uses it under a name that hides
which one it is.
DFT matrices and codebooks, random phases, rotary embeddings and carrier offsets have neither wavelength nor direction
nor distance in their phase, and are no steering vectors. A phase that comes from outside as one unnamed number is
not recognised.
"""
_QUALIFIERS = ("fresnel", "far_field", "farfield", "planar", "plane_wave", "paraxial", "parabolic", "second_order")


def check(context: Context) -> Iterable[Finding]:
    """One finding for each function that defines a second one, and for each use of a variant."""
    roots = entry_functions(context.analysis, context.settings.steering)
    if not roots:
        yield context.config_finding("GEO001", "geometry.steering", f"the definition {context.settings.steering} does not exist")
        return
    search = _Search(context, roots)
    for unit in usage.cold_units(context.analysis):
        found = search.definition(unit)
        if found is None:
            continue
        if unit.fn is not None and search.is_variant(unit.fn):
            yield from _uses(context, unit.fn)
        else:
            name = context.settings.steering.rpartition(":")[2]
            yield context.finding("GEO001", unit.module, found, f"a second steering vector is computed here, beside {name}", fn=unit.fn)


def _uses(context: Context, variant: FunctionInfo) -> Iterable[Finding]:
    for unit in usage.cold_units(context.analysis):
        for ref in unit.refs:
            if ref.fn is variant and unit.fn is not variant and ir.last_name(_referred(ref.node)) != variant.node.name:
                message = f"{variant.node.name} is a variant for studies, and it is used here under a name that does not say so"
                yield context.finding("GEO001", unit.module, ref.node, message, fn=unit.fn)


def _makes(fn: FunctionInfo | None) -> bool:
    # A method has its object's state in its phase; it is judged where it stands.
    return fn is not None and (fn.cls is None or "staticmethod" in fn.flags)


def _referred(node: ir.Node) -> ir.Expr:
    return node if isinstance(node, ir.Expr) else ir.Name(1, 1, 1, 1, "")


class _Search:
    def __init__(self, context: Context, roots: list[FunctionInfo]) -> None:
        self.analysis = context.analysis
        self.flow = context.flow
        self.phasors = Phasors(self.flow)
        self.roots = roots
        self.own = set(self.flow.cold_path(roots))
        self.nodes: dict[Unit, list[ir.Node]] = {u: list(usage.own_nodes(u)) for u in usage.cold_units(self.analysis)}
        self.found: dict[Unit, list[tuple[Phasor, Evidence]]] = {}
        for unit, nodes in self.nodes.items():
            if not nodes:
                continue
            place = usage.place(unit, ir.Name(1, 1, 1, 1, ""))
            self.found[unit] = [(p, self._evidence(unit, p)) for p in self.phasors.inside(place, nodes)]
        self.makers = self._makers()

    def _evidence(self, unit: Unit, phasor: Phasor) -> Evidence:
        out = Evidence()
        for phase in phasor.phases:
            found = self.phasors.evidence(usage.place(unit, phase))
            out.merge(found)
            out.params |= found.params
        return out

    def _makers(self) -> dict[FunctionInfo, Evidence]:
        # Functions that make an exponential of what they are given, in up to three layers.
        makers: dict[FunctionInfo, Evidence] = {}
        for unit, found in self.found.items():
            for phasor, evidence in found:
                if _makes(unit.fn) and unit.fn and evidence.params and not evidence.geometric(pair=phasor.pair) and not phasor.pair:
                    makers[unit.fn] = evidence
        for unit, found in self.found.items():
            for phasor, evidence in found:
                if (
                    _makes(unit.fn)
                    and unit.fn
                    and phasor.pair
                    and evidence.params
                    and not evidence.geometric(pair=True)
                    and self._joins(unit)
                ):
                    makers.setdefault(unit.fn, evidence)
        for _ in range(2):
            for unit, nodes in self.nodes.items():
                if unit.fn is None or unit.fn in makers or unit.fn in self.own:
                    continue
                for node in nodes:
                    through = self._through(unit, node, makers) if isinstance(node, ir.Call) else None
                    if through is not None and through.params and not through.geometric(pair=False):
                        makers[unit.fn] = through
        return makers

    def _joins(self, unit: Unit) -> bool:
        return any(isinstance(n, ir.Call) and ir.last_name(n.func) in ("complex", "view_as_complex") for n in self.nodes[unit]) or any(
            isinstance(n, ir.Constant) and isinstance(n.value, complex) for n in self.nodes[unit]
        )

    def _through(self, unit: Unit, call: ir.Call, makers: dict[FunctionInfo, Evidence]) -> Evidence | None:
        """What the phase of an exponential is made of that a call makes through a helper."""
        for callee in unit.calls.get(call, frozenset()):
            if not isinstance(callee, Func) or callee.weak or callee.fn not in makers:
                continue
            out = Evidence()
            out.merge(makers[callee.fn])
            names = [p.name for p in callee.fn.positional][1 if callee.bound else 0 :]
            for name in makers[callee.fn].params:
                given = argument(call, names, name)
                if given is not None:
                    found = self.phasors.evidence(usage.place(unit, given))
                    out.merge(found)
                    out.params |= found.params
            return out
        return None

    def definition(self, unit: Unit) -> ir.Node | None:
        """Where the unit computes a steering vector of its own."""
        if unit.fn in self.own or (unit.fn is not None and unit.fn.enclosing in self.own):
            return None
        for phasor, evidence in self.found.get(unit, []):
            if evidence.geometric(pair=phasor.pair):
                return phasor.node
        for node in self.nodes[unit]:
            if isinstance(node, ir.Call):
                through = self._through(unit, node, self.makers)
                if through is not None and through.geometric(pair=False):
                    return node
        return None

    def is_variant(self, fn: FunctionInfo) -> bool:
        """Whether the function is a named variant beside the definition."""
        for root in self.roots:
            name = fn.node.name.removesuffix(root.node.name).strip("_")
            if fn.module is root.module and fn.node.name.endswith(root.node.name) and re.sub(r"\W", "", name) in _QUALIFIERS:
                return True
        return False


_ARRAYS = (
    "import math\nimport torch\ndef positions(array):\n    return torch.arange(array.n) * array.spacing_m\ndef direction(az, el):\n"
    "    return torch.stack((torch.sin(az) * torch.cos(el), torch.cos(az) * torch.cos(el), torch.sin(el)), dim=-1)\n"
    "def phasor(x):\n    return torch.polar(torch.ones_like(x), x)\ndef steering_vector(array, az, el, r):\n"
    "    d = torch.linalg.norm(r[..., None] * direction(az, el) - positions(array), dim=-1)\n"
    "    return phasor(2 * math.pi / array.wavelength_m * (r - d))\n"
    "def fresnel_steering_vector(array, az, el, r):\n    x = positions(array)\n"
    "    return torch.exp(2j * math.pi / array.wavelength_m * (x * torch.sin(az) - x**2 / (2 * r)))\n"
)


def _case(name: str, body: str, *, arguments: str = "array, az, el, r", head: str = "", arrays: str = _ARRAYS) -> Case:
    source = (
        "import cmath\nimport math\nimport numpy as np\nimport torch\n"
        f"from pkg.arrays import direction, phasor, positions, steering_vector\n{head}def step({arguments}):\n    {body}\n"
    )
    return Case(name, {"pkg/__init__.py": "", "pkg/arrays.py": arrays, "pkg/step.py": source})


_D = "d = torch.linalg.norm(r * direction(az, el) - positions(array), dim=-1)\n    k = 2 * math.pi / array.wavelength_m\n    "
_INVALID = (
    _case("a spherical wave", _D + "return torch.exp(1j * k * (r - d))"),
    _case("its conjugate", _D + "return torch.exp(-1j * k * (r - d))"),
    _case("polar", _D + "return torch.polar(torch.ones_like(d), k * d)"),
    _case("cosine and sine", _D + "return torch.complex(torch.cos(k * d), torch.sin(k * d))"),
    _case("Euler", _D + "phase = k * d\n    return torch.cos(phase) - 1j * torch.sin(phase)"),
    _case("a stack seen as complex", _D + "p = k * d\n    return torch.view_as_complex(torch.stack((torch.cos(p), torch.sin(p)), -1))"),
    _case("NumPy", "x = np.arange(12) * array.spacing_m\n    d = np.sqrt((r * np.sin(az) - x) ** 2 + (r * np.cos(az)) ** 2)\n"
          "    return np.exp(-2j * np.pi / array.wavelength_m * d)"),
    _case("element by element", "return [cmath.exp(-2j * math.pi * math.dist(p, az) / 0.3) for p in el]"),
    _case("a far field", "return torch.exp(1j * math.pi * torch.arange(12) * torch.sin(az))"),
    _case("a Fresnel chirp", "x = positions(array)\n    return torch.exp(-1j * math.pi * x**2 / (array.wavelength_m * r))"),
    _case("e to a power", _D + "return math.e ** (1j * k * d)"),
    _case("the definition's own helper", _D + "return phasor(k * d)"),
    _case("another helper", "return unit(2 * math.pi / array.wavelength_m, torch.linalg.norm(az - el, dim=-1))",
          head="def unit(a, b):\n    return torch.exp(1j * a * b)\n"),
    _case("a phase from a helper", "return torch.exp(1j * phase(array, az))",
          head="def phase(array, az):\n    return 2 * math.pi / array.wavelength_m * positions(array) * torch.sin(az)\n"),
    _case("fields of a class", "return Waves().at(az)", head=(
        "class Waves:\n    def __init__(self, wavelength=0.3):\n        self.k = 2 * math.pi / wavelength\n"
        "    def at(self, distance):\n        return torch.exp(1j * self.k * distance)\n")),
    _case("nameless parameters", "return torch.exp(1j * c * torch.cdist(a, b))", arguments="a, b, c"),
    _case("beside a call of the definition", "a = steering_vector(array, az, el, r)\n"
          "    return a - torch.exp(-2j * math.pi / array.wavelength_m * torch.hypot(az, el))"),
    _case("in the definition's module", "return 1", arrays=_ARRAYS + (
        "def other(array, az, r):\n    return torch.exp(2j * math.pi / array.wavelength_m * torch.linalg.norm(az - positions(array)))\n")),
    Case("a missing definition", {"pkg/__init__.py": "", "pkg/arrays.py": "", "pkg/step.py": "def step(x):\n    return x\n"}),
)  # fmt: skip
_VALID = (
    _case("a call", "return steering_vector(array, az, el, r)"),
    _case("a DFT matrix", "n = torch.arange(8)\n    return torch.exp(-2j * math.pi * torch.outer(n, n) / 8)"),
    _case("a codebook",
          "h = torch.arange(array.n) - (array.n - 1) / 2\n    return phasor(2 * math.pi * torch.arange(8)[:, None] * h / array.n)"),
    _case("a table of phases", "return torch.polar(torch.ones(8), torch.arange(8) * 2 * math.pi / 8)"),
    _case("a random phase", "return torch.exp(2j * math.pi * torch.rand(4))"),
    _case("a rotary embedding", "f = 1.0 / 10000 ** (torch.arange(0, 8, 2) / 8)\n    angles = torch.outer(torch.arange(16), f)\n"
          "    return torch.polar(torch.ones_like(angles), angles)"),
    _case("a carrier offset", "return torch.exp(2j * math.pi * cfo * torch.arange(16))", arguments="cfo"),
    _case("a real exponential of a distance", "return torch.exp(-torch.linalg.norm(az - el) / array.wavelength_m)"),
    _case("a direction", "return torch.stack((torch.sin(az) * torch.cos(el), torch.cos(az) * torch.cos(el), torch.sin(el)))"),
    _case("a derivative of the definition", "a = steering_vector(array, az, el, r)\n    slope = positions(array) * torch.cos(az)\n"
          "    return a * torch.complex(torch.zeros_like(slope), 2 * math.pi / array.wavelength_m * slope)"),
    _case("a variant that nothing uses", "return 1"),
    _case("a variant imported under a short name", "return make(array, az, el, r)",
          head="from pkg.arrays import fresnel_steering_vector as make\n"),
)  # fmt: skip

RULE = Rule(
    code="GEO001",
    title="one steering-vector definition",
    table="geometry",
    manual=MANUAL,
    mend="Call the definition; for another array, give it that array's geometry.",
    check=check,
    settings={"geometry": {"steering": "pkg.arrays:steering_vector"}},
    valid=_VALID,
    invalid=_INVALID,
    limits=(
        _case("a phase from outside", "return torch.exp(1j * value)", arguments="value"),
        _case("a recurrence", "w = [1.0]\n    for _ in range(11):\n        w.append(w[-1] * z)\n    return w", arguments="z"),
    ),
)
