"""GEO001: one steering-vector definition."""

from __future__ import annotations

import re
from collections.abc import Iterable

from audits.static.analysis.reach import entry_functions
from audits.static.context import Context
from audits.static.dataflow import usage
from audits.static.findings import Finding
from audits.static.rules.base import Case, Rule
from audits.static.source import ir
from audits.static.source.project import FunctionInfo
from audits.static.subjects.phasors import Waves

MANUAL = """\
Two definitions of the steering vector differ sooner or later: in the array's centre, in the sign of the phase, in the
angle convention, in a factor of the wavelength - and nothing fails, the estimate is only wrong. This rule finds every
complex exponential whose phase is that of a wave over an array: `exp(1j ...)` of torch, NumPy or cmath, `polar`, `rect`,
`e ** (1j ...)`, cosine and sine of one phase; with a distance (`norm`, `cdist`, `hypot`, the root of a sum of squares)
or a direction cosine (by arithmetic or by name, as `u` is) times pi, a wavelength, positions or an index in it.
Every function is run over what its values are made of, in order and again for what its callers pass: variables, containers,
fields, methods, modules, decorators, partials and tables of functions are followed, and a helper that makes an exponential of
anything is no definition, but the call that passes it such
a phase is one. Only `geometry.steering`, and what it calls, may hold one.

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
    own = set(context.flow.cold_path(roots))
    waves = Waves(context.flow, roots)
    waves.run()
    # An exponential that is one wherever its function is called from is that function's; else it is the call's that makes it one.
    known = {chain for chains in waves.chains.values() for chain in chains}
    for unit, chains in waves.chains.items():
        if unit.fn in own or (unit.fn is not None and unit.fn.enclosing in own):
            continue
        found = [c[0] for c in chains if not any(c[i:] in known for i in range(1, len(c)))]
        if not found:
            continue
        if unit.fn is not None and _is_variant(unit.fn, roots):
            yield from _uses(context, unit.fn)
        else:
            name = context.settings.steering.rpartition(":")[2]
            node = min(found, key=lambda n: (n.line, n.column))
            yield context.finding("GEO001", unit.module, node, f"a second steering vector is computed here, beside {name}", fn=unit.fn)


def _uses(context: Context, variant: FunctionInfo) -> Iterable[Finding]:
    for unit in usage.cold_units(context.analysis):
        for ref in unit.refs:
            if ref.fn is variant and unit.fn is not variant and ir.last_name(_referred(ref.node)) != variant.node.name:
                message = f"{variant.node.name} is a variant for studies, and it is used here under a name that does not say so"
                yield context.finding("GEO001", unit.module, ref.node, message, fn=unit.fn)


def _referred(node: ir.Node) -> ir.Expr:
    return node if isinstance(node, ir.Expr) else ir.Name(1, 1, 1, 1, "")


def _is_variant(fn: FunctionInfo, roots: list[FunctionInfo]) -> bool:
    """Whether the function is a named variant beside the definition."""
    for root in roots:
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
    _case("half a wavelength over direction cosines", "return np.exp(1j * np.pi * np.outer(np.arange(8), u))", arguments="u"),
    _case("half a wavelength, element by element of a grid",
          "u = torch.linspace(-1, 1, 91)\n    return torch.exp(1j * math.pi * (torch.arange(8) - 3.5)[:, None] * u)", arguments=""),
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
    _case("another helper's method", "return Turn(-1).by(2 * math.pi / array.wavelength_m * az)",
          head="class Turn:\n    def __init__(self, sign):\n        self.sign = sign\n    def by(self, x):\n"
          "        return torch.exp(1j * self.sign * x)\n"),
    _case("a module that is called", "return Turn()(torch.cdist(az, el))",
          head="class Turn(torch.nn.Module):\n    def forward(self, x):\n        return torch.polar(torch.ones_like(x), x)\n"),
    _case("a decorated phase", "return phase(az, el)", head=(
        "def turned(f):\n    def inner(*a):\n        return torch.exp(1j * f(*a))\n    return inner\n"
        "@turned\ndef phase(a, b):\n    return torch.cdist(a, b)\n")),
    _case("a helper with some of its arguments", "return functools.partial(turn, 2 * math.pi / array.wavelength_m)(el)",
          head="import functools\ndef turn(k, x):\n    return torch.exp(1j * k * x)\n"),
    _case("an imaginary unit from elsewhere", "return np.exp(J * 2 * np.pi / array.wavelength_m * el)", head="J = cmath.sqrt(-1)\n"),
    _case("exp under another name", "return cexp(2j * math.pi / array.wavelength_m * el)", head="cexp = np.exp\n"),
    _case("in place", "p = torch.mul(el, 2 * math.pi)\n    p.div_(array.wavelength_m)\n    return torch.exp(torch.mul(p, 1j))"),
    _case("a table of phasors", "return TABLE[(256 * el / array.wavelength_m).long() % 256]",
          head="TABLE = torch.exp(2j * math.pi * torch.arange(256) / 256)\n"),
    _case("a cosine and a sine from helpers", "p = el * torch.cdist(az, az)\n    return torch.complex(re(p), im(p))",
          head="def re(x):\n    return torch.cos(x)\ndef im(x):\n    return torch.sin(x)\n"),
    _case("a grid of angles",
          "return torch.exp(1j * math.pi * torch.outer(torch.arange(8), torch.sin(torch.linspace(-math.pi / 2, math.pi / 2, 91))))"),
    _case("positions on directions", "return torch.exp(1j * el * torch.einsum('nd,kd->kn', positions(array), az))",
          head="def positions(array):\n    return array.xyz * torch.sin(array.tilt)\n"),
    _case("a sum of squares by reduce", "return cmath.exp(1j * r * functools.reduce(lambda s, v: s + v * v, el, 0.0) ** 0.5)",
          head="import functools\n"),
    Case("a missing definition", {"pkg/__init__.py": "", "pkg/arrays.py": "", "pkg/step.py": "def step(x):\n    return x\n"}),
)  # fmt: skip
_VALID = (
    _case("a call", "return steering_vector(array, az, el, r)"),
    _case("a DFT matrix", "n = torch.arange(8)\n    return torch.exp(-2j * math.pi * torch.outer(n, n) / 8)"),
    _case("a codebook",
          "h = torch.arange(array.n) - (array.n - 1) / 2\n    return phasor(2 * math.pi * torch.arange(8)[:, None] * h / array.n)"),
    _case("frequencies called u", "x = np.arange(8)\n    return np.exp(-2j * np.pi * (np.outer(x, u) / 8 + 0.5))", arguments="u"),
    _case("a Zadoff-Chu sequence of root u",
          "n = torch.arange(63)\n    return torch.exp(-1j * math.pi * u * n * (n + 1) / 63)", arguments="u"),
    _case("alternating signs", "u = torch.arange(8)\n    return torch.exp(1j * math.pi * u)"),
    _case("a table of phases", "return torch.polar(torch.ones(8), torch.arange(8) * 2 * math.pi / 8)"),
    _case("a random phase", "return torch.exp(2j * math.pi * torch.rand(4))"),
    _case("a rotary embedding", "f = 1.0 / 10000 ** (torch.arange(0, 8, 2) / 8)\n    angles = torch.outer(torch.arange(16), f)\n"
          "    return torch.polar(torch.ones_like(angles), angles)"),
    _case("a carrier offset", "return torch.exp(2j * math.pi * cfo * torch.arange(16))", arguments="cfo"),
    _case("a real exponential of a distance", "return torch.exp(-torch.linalg.norm(az - el) / array.wavelength_m)"),
    _case("a direction", "return torch.stack((torch.sin(az) * torch.cos(el), torch.cos(az) * torch.cos(el), torch.sin(el)))"),
    _case("a derivative of the definition", "a = steering_vector(array, az, el, r)\n    slope = positions(array) * torch.cos(az)\n"
          "    return a * torch.complex(torch.zeros_like(slope), 2 * math.pi / array.wavelength_m * slope)"),
    _case("a mixer",
          "t = torch.arange(len(x)) / fs\n    return x * torch.exp(-2j * math.pi * carrier_hz * t)", arguments="x, carrier_hz, fs"),
    _case("a fading tap",
          "alpha = 2 * math.pi * torch.rand(9)\n    return torch.exp(2j * math.pi * fd * t * torch.cos(alpha))", arguments="fd, t"),
    _case("the phase of the definition", "return torch.exp(-1j * torch.angle(steering_vector(array, az, el, r)))"),
    _case("learned phases", "return torch.polar(torch.ones(3), net(positions(array) / array.wavelength_m))",
          arguments="array", head="net = torch.nn.Linear(3, 3)\n"),
    _case("features of a distance",
          "p = torch.cdist(az, el)[..., None] * 2.0 ** torch.arange(4)\n    return torch.cat([p.sin(), p.cos()], -1)"),
    _case("a helper for other phases", "return Turn(-1).by(torch.arange(8) * 2 * math.pi / 8)",
          head="class Turn:\n    def __init__(self, sign):\n        self.sign = sign\n    def by(self, x):\n"
          "        return torch.exp(1j * self.sign * x)\n"),
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
