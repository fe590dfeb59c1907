"""Which outside names solve a linear system.

The names are data in `solvers.json`, compared with the installed
libraries by a test; `python -m audits.static.libraries.solver_list` writes the file anew after a review.
"""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path

_LIKE_NUMPY = {"cupy": "numpy", "jax.numpy": "numpy", "autograd.numpy": "numpy", "jax.scipy": "scipy", "cupyx.scipy": "scipy"}
_TORCH_HOMES = re.compile(
    r"^torch(\.linalg|\._C(\._linalg|\._VariableFunctions|\.TensorBase|\._TensorBase|\._VariableFunctionsClass)?|\._VF|"
    r"\._linalg_utils|\._refs(\.linalg)?|\.functional|\.sparse|\._tensor\.Tensor|\.Tensor|\.masked)?$"
)
_OPS = re.compile(r"^torch\.(ops\.(aten|prims|_c10d_functional)|_ops\.ops\.aten)\.(\w+)")
_LAPACK = re.compile(r"(gesv|posv|sysv|hesv|gbsv|gtsv|ptsv|pbsv|getri|potri|potrs|getrs|trtrs|trtri|gels|trsm|getrf|potrf)")
MATRIX_POWER = "matrix_power"
_SOLVING_MEMBERS = frozenset({"log_prob", "precision_matrix"})  # of a normal or Wishart distribution, once it is made
_HIDING = frozenset({"importlib", "operator.attrgetter", "operator.methodcaller", "builtins.exec", "builtins.eval", "builtins.__import__"})


@cache
def solver_data() -> dict[str, dict[str, list[str]]]:
    """The committed list: for each namespace its solvers and its reviewed names that solve nothing."""
    text = Path(__file__).with_name("solvers.json").read_text(encoding="utf-8")
    data: dict[str, dict[str, list[str]]] = json.loads(text)
    return data


@cache
def _names(namespace: str) -> frozenset[str]:
    return frozenset(solver_data()[namespace]["solvers"])


def base_name(name: str) -> str:
    """`_linalg_solve_ex` and its like as the public name, `solve`."""
    name = name.lstrip("_").removeprefix("linalg_")
    for suffix in ("_backward", "_helper", "_out", "_ex", "_"):
        name = name.removesuffix(suffix)
    return name


def _canonical(name: str) -> str:
    for other, like in _LIKE_NUMPY.items():
        if name.startswith(other + "."):
            return like + name[len(other) :]
    return name


@cache
def is_solver(name: str) -> bool:
    """Whether the dotted outside name solves a system, or is an operation whose backward does."""
    name = _canonical(name)
    home, _, last = name.rpartition(".")
    if name in _names("other"):
        return True
    if home in _names("other"):
        return last in _SOLVING_MEMBERS
    if home == "?":
        return last in _names("torch.Tensor")
    operator = _OPS.match(name)
    if operator is not None:
        return base_name(operator.group(3)) in _names("aten")
    if name.startswith("torch."):
        return bool(_TORCH_HOMES.match(home)) and base_name(last) in _names("aten") | _names("torch.linalg")
    if name.startswith("numpy."):
        return "linalg" in home and base_name(last) in _names("numpy.linalg")
    if name.startswith("scipy."):
        if ".lapack" in home or ".blas" in home:
            return bool(_LAPACK.search(last))
        return "linalg" in home and (last in _names("scipy.linalg") or last in _names("scipy.sparse.linalg"))
    return False


@cache
def is_matrix_power(name: str) -> bool:
    """Whether the name is a matrix power, which inverts when the exponent is negative."""
    name = _canonical(name)
    operator = _OPS.match(name)
    last = operator.group(3) if operator is not None else name.rpartition(".")[2]
    return base_name(last) == MATRIX_POWER and (name.startswith(("torch.", "numpy.", "?.")))


def is_opaque(name: str) -> bool:
    """Whether the name is an operator that no list can describe: `torch.ops.*` or `torch._C.*`."""
    return name.startswith(("torch.ops.", "torch._C.", "torch._ops.", "torch._VF."))


@cache
def matters(name: str) -> bool:
    """Whether an outside function has to be followed wherever it is stored."""
    if is_solver(name) or is_matrix_power(name) or is_opaque(name):
        return True
    return name in _HIDING or name.startswith("importlib.")
