"""The committed solver list against the installed libraries, and the names it must and must not match."""

from __future__ import annotations

import pytest
import torch

from audits.static.analysis.unknown_calls import tensor_methods
from audits.static.libraries.solver_list import generate
from audits.static.libraries.solvers import is_matrix_power, is_opaque, is_solver, solver_data


@pytest.mark.parametrize("space", list(solver_data()))
def test_every_installed_name_is_reviewed(space: str) -> None:
    installed = generate()[space]
    known = solver_data()[space]
    new = (set(installed["solvers"]) | set(installed["harmless"])) - set(known["solvers"]) - set(known["harmless"])
    assert not new, f"review these names of {space}, then run python -m audits.static.libraries.solver_list"
    assert set(installed["solvers"]) <= set(known["solvers"])


@pytest.mark.parametrize(
    "name",
    [
        "torch.linalg.solve", "torch.linalg.solve_ex", "torch.linalg.lstsq", "torch.linalg.inv", "torch.inverse",
        "torch.linalg.pinv", "torch.cholesky_solve", "torch.cholesky_inverse", "torch.linalg.ldl_solve",
        "torch.linalg.tensorinv", "torch.linalg.qr", "torch.logdet", "torch.linalg.eig", "torch.Tensor.inverse",
        "?.pinverse", "?.lstsq", "torch.ops.aten.linalg_solve_ex.default", "torch.ops.aten._linalg_solve_ex",
        "torch.ops.aten.inverse", "torch._C._linalg.linalg_inv", "torch._C._VariableFunctions.inverse",
        "torch._VF.cholesky_solve", "numpy.linalg.solve", "numpy.linalg.linalg.inv", "cupy.linalg.solve",
        "jax.numpy.linalg.inv", "scipy.linalg.cho_solve", "scipy.linalg._basic.solve", "scipy.sparse.linalg.spsolve",
        "scipy.sparse.linalg.gmres", "scipy.linalg.lapack.dgesv",
    ],
)  # fmt: skip
def test_solvers(name: str) -> None:
    assert is_solver(name)


@pytest.mark.parametrize(
    "name",
    [
        "torch.linalg.eigh", "torch.linalg.eigvalsh", "torch.linalg.norm", "torch.linalg.svd", "torch.erfinv",
        "torch.matmul", "torch.fft.ifft", "torch.relu", "torch.det_scale", "mylib.linalg.solve", "?.inverse_transform",
        "numpy.invert", "scipy.optimize.minimize", "torch.distributions.transforms.Transform.inv",
        "torch.ops.aten.relu.default",
    ],
)  # fmt: skip
def test_harmless_names(name: str) -> None:
    assert not is_solver(name)


def test_matrix_power_and_operators() -> None:
    assert is_matrix_power("torch.linalg.matrix_power")
    assert is_matrix_power("torch.ops.aten.linalg_matrix_power")
    assert not is_matrix_power("torch.pow")
    assert is_opaque("torch.ops.mine.blur")
    assert is_opaque("torch._C._nn.gelu")
    assert not is_opaque("torch.exp")


def test_the_known_tensor_methods_are_those_of_the_library() -> None:
    here = {n for n in dir(torch.Tensor) if not n.startswith("_")}
    assert here <= tensor_methods(), sorted(here - tensor_methods())
    assert "whiten" not in tensor_methods()
