"""Generates the solver list from the installed torch, NumPy and SciPy: `python -m audits.static.libraries.solver_list`.

Every public function of the linear-algebra namespaces, and every torch operator whose name looks like one, is either
a solver or reviewed as harmless; a name of a new release that is neither makes the comparing test fail.
"""

from __future__ import annotations

import importlib
import json
import re
from pathlib import Path

from audits.static.libraries.solvers import base_name

TORCH = frozenset(
    [
        "solve",
        "solve_triangular",
        "triangular_solve",
        "inv",
        "inverse",
        "pinv",
        "pinverse",
        "lstsq",
        "cholesky",
        "cholesky_solve",
        "cholesky_inverse",
        "lu",
        "lu_solve",
        "lu_factor",
        "lu_with_info",
        "ldl_solve",
        "ldl_factor",
        "tensorsolve",
        "tensorinv",
        "qr",
        "det",
        "slogdet",
        "logdet",
        "eig",
        "eigvals",
        "spsolve",
        "spsolve_triangular",
    ]
)
NUMPY = frozenset(["solve", "inv", "pinv", "lstsq", "tensorsolve", "tensorinv", "cholesky", "qr", "det", "slogdet", "eig", "eigvals"])
SCIPY = NUMPY | frozenset(
    [
        "solve_banded",
        "solveh_banded",
        "solve_circulant",
        "solve_toeplitz",
        "solve_triangular",
        "solve_sylvester",
        "solve_lyapunov",
        "solve_continuous_are",
        "solve_discrete_are",
        "solve_continuous_lyapunov",
        "solve_discrete_lyapunov",
        "pinvh",
        "cho_factor",
        "cho_solve",
        "cho_solve_banded",
        "cholesky_banded",
        "lu",
        "lu_factor",
        "lu_solve",
        "ldl",
        "qr_insert",
        "qr_delete",
        "qr_update",
        "qr_multiply",
        "rq",
        "spsolve",
        "spsolve_triangular",
        "factorized",
        "splu",
        "spilu",
        "spbandwidth_solve",
        "cg",
        "cgs",
        "bicg",
        "bicgstab",
        "gmres",
        "lgmres",
        "minres",
        "qmr",
        "gcrotmk",
        "tfqmr",
        "lsqr",
        "lsmr",
        "expm_cond",
        "null_space_solve",
    ]
)
OTHER = (
    "numpy.polyfit", "numpy.polynomial.polynomial.polyfit", "scipy.optimize.nnls", "scipy.optimize.lsq_linear",
    "torch.distributions.MultivariateNormal", "torch.distributions.LowRankMultivariateNormal",
    "torch.distributions.Wishart", "torch.distributions.multivariate_normal.MultivariateNormal",
    "torch.distributions.lowrank_multivariate_normal.LowRankMultivariateNormal",
    "scipy.stats.multivariate_normal", "torch.lobpcg", "torch.nn.init.orthogonal_", "torch.nn.utils.parametrizations.orthogonal",
)  # fmt: skip
_LOOKS = re.compile(r"(solve|inv|lstsq|cholesky|(^|_)(qr|det|eig\w*|lu|ldl\w*|logdet|slogdet)(_|$)|matrix_power)")


def generate() -> dict[str, dict[str, list[str]]]:
    """The list for the libraries that are installed."""
    torch = importlib.import_module("torch")
    aten = {n.removeprefix("aten::").split(".")[0] for n in torch._C._dispatch_get_all_op_names() if n.startswith("aten::")}
    spaces = {
        "torch": {n for n in dir(torch) if _LOOKS.search(n)},
        "torch.linalg": _public("torch.linalg"),
        "torch.Tensor": {n for n in dir(torch.Tensor) if _LOOKS.search(n)},
        "torch._C._linalg": {n for n in dir(torch._C._linalg) if n.startswith(("linalg", "_linalg"))},
        "aten": {n for n in aten if _LOOKS.search(n) or n.startswith("linalg_")},
        "numpy.linalg": _public("numpy.linalg"),
        "scipy.linalg": _public("scipy.linalg"),
        "scipy.sparse.linalg": _public("scipy.sparse.linalg"),
    }
    out = {}
    for space, names in spaces.items():
        bases = SCIPY if space.startswith("scipy") else NUMPY if space.startswith("numpy") else TORCH
        solvers = {n for n in names if (n if space.startswith("scipy") else base_name(n)) in bases}
        if space == "aten":
            solvers |= {base_name(n) for n in solvers}
        out[space] = {"solvers": sorted(solvers), "harmless": sorted(names - solvers)}
    out["other"] = {"solvers": sorted(OTHER), "harmless": []}
    return out


def _public(module: str) -> set[str]:
    loaded = importlib.import_module(module)
    return {n for n in dir(loaded) if not n.startswith("_") and callable(getattr(loaded, n)) and n[0].islower()}


def main() -> None:
    """Write `solvers.json`."""
    path = Path(__file__).with_name("solvers.json")
    path.write_text(json.dumps(generate(), indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
