"""RUN016 and RUN017: a solver without a name and a second covariance are found by their values; products and copies are not."""

from __future__ import annotations

import pytest
import torch

from audits.runtime import inverse
from audits.runtime.observe import code_of
from audits.runtime.tensors import Recorder, has_matrix, matrices, square
from ris_pipeline.covariance import FactoredCovariance, build_effective_covariance

N = 6


def recorded(work):
    with Recorder(has_matrix, code_of(build_effective_covariance)) as recorder:
        work()
    return recorder


@pytest.fixture
def system():
    generator = torch.Generator().manual_seed(0)
    a = torch.randn(2, N, N, dtype=torch.complex128, generator=generator)
    y = torch.randn(2, N, 3, dtype=torch.complex128, generator=generator)
    return a @ a.mH + torch.eye(N), y


def solver(results):
    return [result for result in results if not result.passed]


def gauss_jordan(r):
    work = torch.cat((r, torch.eye(N, dtype=r.dtype).expand_as(r)), dim=-1)
    for i in range(N):
        row = work[:, i] / work[:, i, i, None]
        work = work - work[:, :, i, None] * row[:, None, :]
        work = torch.cat((work[:, :i], row[:, None, :], work[:, i + 1 :]), dim=1)
    return work[:, :, N:].clone()


def newton_schulz(r):
    x = r.mH / r.abs().sum(dim=-1).amax(dim=-1)[:, None, None] ** 2
    for _ in range(40):
        x = 2.0 * x - x @ r @ x
    return x


def numpy_inverse(r):
    # What comes back is first seen as the input of the next operator.
    inverted = torch.from_numpy(__import__("numpy").linalg.inv(r.numpy()))
    return inverted + 0.0


@pytest.mark.parametrize("invert", [gauss_jordan, newton_schulz, numpy_inverse, lambda r: 3.0 * torch.linalg.inv(r)])
def test_an_inverse_is_found_however_it_was_made(system, invert):
    r, _ = system
    found = solver(inverse.check_inverse(recorded(lambda: invert(r + 0.0))))
    assert found
    assert "somebody solves" in found[0].message


@pytest.mark.parametrize("transposed", [False, True])
def test_a_solution_is_found_in_either_layout(system, transposed):
    r, y = system

    def work():
        right = y * 2.0
        x = torch.linalg.solve(r + 0.0, right)
        return (x.mT.contiguous() if transposed else x) * 1.0

    assert solver(inverse.check_inverse(recorded(work)))


def test_products_copies_and_scalings_are_no_solution(system):
    r, y = system

    def work():
        product = (r + 0.0) @ y
        copy = y.mT.contiguous() * 5.0
        return product, copy, y.conj() + 0.0

    (result,) = inverse.check_inverse(recorded(work))
    assert result.passed


def test_unitary_matrices_and_multiples_of_identity_are_no_systems(system):
    r, y = system
    q = torch.linalg.qr(r).Q

    def work():
        back = q.mH @ (q @ (y + 0.0))
        return back, (2.0 * torch.eye(N, dtype=y.dtype)) @ y

    recorder = recorded(work)
    assert not list(square(matrices(recorder.seen)))


def test_nothing_is_proved_without_a_system():
    (result,) = inverse.check_inverse(recorded(lambda: torch.ones(3) + 1.0))
    assert not result.passed


def built(factor):
    return build_effective_covariance(FactoredCovariance.from_factor(factor))


def test_the_builder_alone_is_no_twin(system):
    _, y = system
    (result,) = inverse.check_twin(recorded(lambda: built(y).factor * 2.0), N)
    assert result.passed


def test_a_dense_covariance_made_elsewhere_is_a_twin(system):
    r, y = system

    def work():
        built(y)
        return r * (N / r.diagonal(dim1=1, dim2=2).real.sum(dim=1))[:, None, None]

    found = solver(inverse.check_twin(recorded(work), N))
    assert found
    assert "a covariance of trace N" in found[0].message


def test_a_factor_normalised_elsewhere_is_a_twin(system):
    _, y = system

    def work():
        built(y)
        return y * (N / y.abs().square().sum(dim=(1, 2))).sqrt()[:, None, None]

    found = solver(inverse.check_twin(recorded(work), N))
    assert found
    assert "a factor of trace N" in found[0].message


def test_nothing_is_proved_where_the_builder_was_not_seen(system):
    r, _ = system
    (result,) = inverse.check_twin(recorded(lambda: r + 1.0), N)
    assert not result.passed


def test_recording_changes_nothing_of_a_conjugated_product(system):
    r, _ = system
    plain = r - r.mH @ r.conj()
    values = []
    recorded(lambda: values.append(r - r.mH @ r.conj()))
    assert torch.equal(values[0], plain)
