"""Information matrices without a surface: published values, an independent formula and the order of the bounds."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ris_pipeline.bounds import (
    bound_of,
    diagonal_basis,
    fisher_deterministic,
    fisher_deterministic_expected,
    fisher_stochastic,
    hermitian_basis,
    music_mse,
    sensed,
)

PUBLISHED = json.loads((Path(__file__).parents[2] / "data" / "published.json").read_text(encoding="utf-8"), parse_float=Decimal)


def to_printed_digits(value, printed):
    """Whether a value rounds to a printed one, whose last digit may be off by one unit."""
    unit = Decimal(1).scaleb(printed.as_tuple().exponent)
    return abs(Decimal(float(value)) - printed) <= unit


def line(theta, elements):
    """Half-wavelength line: steering vectors [1, N, K] and their derivatives by the angle [1, N, K, 1]."""
    phase = 1j * np.pi * np.arange(elements)[:, None]
    a = np.exp(phase * np.sin(theta))
    return torch.as_tensor(a)[None], torch.as_tensor(phase * np.cos(theta) * a)[None, ..., None]


def fresnel_line(case):
    """The near-field line of El Korso, phase origin at element 0: derivatives by angle and range."""
    theta, radius, d, wave = (float(case[name]) for name in ("doa_rad", "range_m", "spacing_m", "wavelength_m"))
    n = np.arange(case["elements"])
    linear, quadratic = 2 * np.pi * d / wave * n, np.pi * d**2 / wave * n**2
    a = np.exp(1j * (linear * np.sin(theta) - quadratic * np.cos(theta) ** 2 / radius))
    by_angle = linear * np.cos(theta) + quadratic * np.sin(2 * theta) / radius
    by_range = quadratic * np.cos(theta) ** 2 / radius**2
    derivatives = 1j * np.stack((by_angle, by_range), axis=1) * a[:, None]
    return torch.as_tensor(a)[None, :, None], torch.as_tensor(derivatives)[None, :, None]


def seen_directly(steering, derivatives, snapshots):
    """Atoms and slopes of an identity sensing operator."""
    n = steering.shape[1]
    return sensed(torch.eye(n, dtype=torch.complex128).expand(1, snapshots, n, n), steering, derivatives)


def three_correlated():
    case = PUBLISHED["crb_ula_three_correlated_sources"]
    S = np.array(case["source_covariance_re"], dtype=float) + 1j * np.array(case["source_covariance_im"], dtype=float)
    atoms, slopes = seen_directly(*line(np.linspace(-np.pi / 3, np.pi / 4, 3), case["elements"]), case["snapshots"])
    return case, atoms, slopes, torch.as_tensor(S)[None], torch.tensor([float(case["noise_variance"])], dtype=torch.float64)


def test_deterministic_bound_of_correlated_sources_equals_published_values():
    case, atoms, slopes, S, noise = three_correlated()
    bound = bound_of(fisher_deterministic_expected(atoms, slopes, S, noise), 3)[0].diagonal()
    assert all(map(to_printed_digits, bound, case["deterministic_diag_rad2"]))


def test_stochastic_bound_of_correlated_sources_equals_published_values():
    case, atoms, slopes, S, noise = three_correlated()
    bound = bound_of(fisher_stochastic(atoms, slopes, S, noise, hermitian_basis(3)), 3)[0].diagonal()
    assert all(map(to_printed_digits, bound, case["stochastic_diag_rad2"]))


def test_realised_amplitudes_with_the_same_covariance_give_the_expected_information():
    _, atoms, slopes, S, noise = three_correlated()
    amplitude = torch.zeros(1, 100, 3, dtype=torch.complex128)
    amplitude[:, :3] = 10.0 * torch.linalg.cholesky(S).mT  # sum_l b_l b_l^H = 100 S
    realised = fisher_deterministic(atoms, slopes, amplitude, noise)
    torch.testing.assert_close(realised, fisher_deterministic_expected(atoms, slopes, S, noise), rtol=1e-10, atol=0)


def test_single_source_on_a_line_equals_the_closed_form():
    case = PUBLISHED["crb_ula_single_source"]
    atoms, slopes = seen_directly(*line(np.array([float(case["doa_rad"])]), case["elements"]), case["snapshots"])
    amplitude = torch.full((1, case["snapshots"], 1), float(case["snr_linear"]) ** 0.5, dtype=torch.complex128)
    bound = bound_of(fisher_deterministic(atoms, slopes, amplitude, torch.ones(1, dtype=torch.float64)), 1)
    assert to_printed_digits(bound[0, 0, 0], case["variance_rad2"])


def test_near_field_line_equals_the_closed_form():
    case = PUBLISHED["crb_near_field_ula_fresnel"]
    atoms, slopes = seen_directly(*fresnel_line(case), case["snapshots"])
    S = torch.full((1, 1, 1), float(case["snr_linear"]), dtype=torch.complex128)
    bound = bound_of(fisher_deterministic_expected(atoms, slopes, S, torch.ones(1, dtype=torch.float64)), 2)[0]
    assert to_printed_digits(bound[0, 0], case["variance_doa_rad2"])
    assert to_printed_digits(bound[1, 1], case["variance_range_m2"])
    assert to_printed_digits(bound[0, 1], case["covariance"])
    assert bound[0, 1] == pytest.approx(float(bound[1, 0]), rel=1e-12)


def test_error_of_music_equals_published_values():
    case = PUBLISHED["music_ula_asymptotic_mse"]
    steering, derivatives = line(np.linspace(-np.pi / 3, np.pi / 4, 4), case["elements"])
    S = torch.diag_embed(torch.tensor(case["powers"], dtype=torch.complex128))[None]
    error = music_mse(steering, derivatives[..., 0], S, torch.ones(1, dtype=torch.float64), case["snapshots"])[0]
    assert all(map(to_printed_digits, error, case["diag_rad2"]))


@st.composite
def arrays(draw, *, operators=5, k_min=1):
    """Two scenes of random columns seen through one operator in five snapshots, or through five; a random source covariance."""
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    k, q = draw(st.integers(k_min, 4)), draw(st.integers(1, 2))

    def normal(*shape):
        return torch.randn(shape, generator=generator, dtype=torch.complex128)

    atoms, slopes = normal(2, operators, 12, k).expand(2, 5, 12, k), normal(2, operators, 12, k * q).expand(2, 5, 12, k * q)
    root = normal(2, k, k)
    noise = 10.0 ** draw(st.floats(-2, 1)) * torch.tensor([1.0, 2.0], dtype=torch.float64)
    return atoms, slopes, root @ root.mH + 0.05 * torch.eye(k), noise


@given(arrays())
def test_stochastic_information_equals_slepian_bangs_term_by_term(case):
    """Every derivative of R as a full matrix, its trace by hand."""
    atoms, slopes, S, noise = case
    k, per = atoms.shape[-1], slopes.shape[-1] // atoms.shape[-1]
    basis = hermitian_basis(k)
    G, D, E = atoms.numpy(), slopes.numpy(), basis.numpy()
    changes = []
    for i in range(slopes.shape[-1]):
        half = D[..., i : i + 1] @ (G @ S.numpy()[:, None])[..., i // per, None].conj().swapaxes(-1, -2)
        changes.append(half + half.conj().swapaxes(-1, -2))
    changes += [G @ e @ G.conj().swapaxes(-1, -2) for e in E]
    changes.append(np.broadcast_to(np.eye(12), changes[0].shape))
    R = G @ S.numpy()[:, None] @ G.conj().swapaxes(-1, -2) + noise.numpy()[:, None, None, None] * np.eye(12)
    white = np.linalg.solve(R[None], np.array(changes))
    expected = np.einsum("iblmn,jblnm->bij", white, white).real
    fisher = fisher_stochastic(atoms, slopes, S, noise, basis).numpy()
    assert fisher.shape == (2, k * per + k * k + 1, k * per + k * k + 1)
    np.testing.assert_allclose(fisher, expected, rtol=1e-8, atol=1e-8 * np.abs(expected).max())


def test_a_hermitian_matrix_has_one_expansion():
    generator = torch.Generator().manual_seed(1)
    root = torch.randn(3, 3, generator=generator, dtype=torch.complex128)
    S, basis = root @ root.mH, hermitian_basis(3)
    assert torch.equal(basis, basis.mH)
    tall = torch.view_as_real(basis.flatten(1)).flatten(1)
    x = torch.linalg.lstsq(tall.mT, torch.view_as_real(S.flatten()).reshape(-1, 1)).solution
    assert int(torch.linalg.matrix_rank(tall)) == 9
    torch.testing.assert_close((x[..., None] * basis).sum(dim=0), S)


@given(arrays(operators=1))
def test_with_one_operator_the_stochastic_bound_has_the_closed_form_and_lies_above_the_deterministic_one(case):
    """Stoica and Nehorai (1990): (sigma^2 / 2 L) [Re (D^H P D) * (S G^H R^-1 G S)^T]^-1, never below the deterministic bound."""
    atoms, slopes, S, noise = case
    parameters, per = slopes.shape[-1], slopes.shape[-1] // atoms.shape[-1]
    stochastic = bound_of(fisher_stochastic(atoms, slopes, S, noise, hermitian_basis(S.shape[-1])), parameters)
    G, D = atoms[:, 0].numpy(), slopes[:, 0].numpy()
    off = np.eye(12) - G @ np.linalg.pinv(G)
    R = G @ S.numpy() @ G.conj().swapaxes(-1, -2) + noise.numpy()[:, None, None] * np.eye(12)
    weight = S.numpy() @ G.conj().swapaxes(-1, -2) @ np.linalg.inv(R) @ G @ S.numpy()
    spread = np.kron(weight.swapaxes(-1, -2), np.ones((1, per, per)))
    information = 2 * 5 / noise.numpy()[:, None, None] * ((D.conj().swapaxes(-1, -2) @ off @ D) * spread).real
    np.testing.assert_allclose(stochastic.numpy(), np.linalg.inv(information), rtol=1e-5, atol=1e-6 * float(stochastic.abs().max()))
    deterministic = bound_of(fisher_deterministic_expected(atoms, slopes, S, noise), parameters)
    excess = torch.linalg.eigvalsh(stochastic - deterministic)
    assert bool((excess[:, 0] >= -1e-7 * stochastic.diagonal(dim1=1, dim2=2).amax(dim=1)).all())


@given(arrays())
def test_knowing_that_sources_are_uncorrelated_never_costs(case):
    atoms, slopes, S, noise = case
    powers = torch.diag_embed(S.diagonal(dim1=1, dim2=2))
    k, parameters = S.shape[-1], slopes.shape[-1]
    loose, tight = (
        bound_of(fisher_stochastic(atoms, slopes, powers, noise, basis(k)), parameters) for basis in (hermitian_basis, diagonal_basis)
    )
    excess = torch.linalg.eigvalsh(loose - tight)
    assert bool((excess[:, 0] >= -1e-7 * loose.diagonal(dim1=1, dim2=2).amax(dim=1)).all())


@given(arrays(k_min=2))
def test_another_source_never_lowers_the_deterministic_bound_of_the_others(case):
    atoms, slopes, S, noise = case
    parameters, per = slopes.shape[-1], slopes.shape[-1] // atoms.shape[-1]
    full = bound_of(fisher_deterministic_expected(atoms, slopes, S, noise), parameters)[:, :-per, :-per]
    fewer = fisher_deterministic_expected(atoms[..., :-1], slopes[..., :-per], S[:, :-1, :-1], noise)
    excess = torch.linalg.eigvalsh(full - bound_of(fewer, parameters - per))
    assert bool((excess[:, 0] >= -1e-7 * full.diagonal(dim1=1, dim2=2).amax(dim=1)).all())


@given(arrays(operators=1))
def test_music_never_beats_the_deterministic_bound(case):
    atoms, slopes, S, noise = case
    one = [x[:, :1] for x in (atoms, slopes)]
    bound = bound_of(fisher_deterministic_expected(*(x.expand(2, 5, -1, -1) for x in one), S, noise), slopes.shape[-1])
    error = music_mse(one[0][:, 0], one[1][:, 0], S, noise, 5)
    assert bool((error >= bound.diagonal(dim1=1, dim2=2) * (1 - 1e-7)).all())
