"""Factored covariances and the one builder, against dense double-precision references written from the definition."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from ris_pipeline.config import Config
from ris_pipeline.covariance import FactoredCovariance, Shrinkage, build_effective_covariance

BATCHES = st.integers(1, 4)
SIZES = st.integers(1, 8)
DTYPES = st.sampled_from([torch.complex64, torch.complex128])
SCALES = st.sampled_from([1e-30, 1e-6, 1.0, 1e5, 1e30])
SEEDS = st.integers(0, 2**32)
TOLERANCE = {torch.complex64: 3e-6, torch.complex128: 1e-12}


def random_covariance(seed, batch, n, rank, dtype=torch.complex128, *, scale=1.0, diagonal=0.0):
    """Gaussian factor of the given scale and a random diagonal part, ``diagonal`` relative to the mean eigenvalue of F F^H."""
    generator = torch.Generator().manual_seed(seed)
    factor = torch.randn((batch, n, rank), generator=generator, dtype=torch.complex128) * scale
    relative = torch.rand(batch, generator=generator, dtype=torch.float64) * diagonal
    # The diagonal of a huge complex64 factor would overflow; it stays within single precision.
    delta = (relative * (scale * rank) * scale).clamp_max(1e30)
    return FactoredCovariance(factor.to(dtype), delta.to(dtype.to_real()))


@st.composite
def covariances(draw, batch=BATCHES, n=SIZES, dtype=DTYPES):
    return random_covariance(
        draw(SEEDS),
        draw(batch),
        draw(n),
        draw(st.integers(1, 10)),
        draw(dtype),
        scale=draw(SCALES),
        diagonal=draw(st.sampled_from([0.0, 0.0, 1.0, 100.0])),
    )


SHRINKAGES = st.none() | st.builds(
    lambda base, limits: Shrinkage(base, min(limits), max(limits)), st.floats(0, 2), st.tuples(st.floats(0, 1), st.floats(0, 1))
)


@st.composite
def builds(draw):
    """Arguments of the builder: a prediction, a sample of the same scenes or none, and all options."""
    batch, n, dtype = draw(st.integers(1, 4)), draw(st.integers(1, 8)), draw(DTYPES)
    one = covariances(batch=st.just(batch), n=st.just(n), dtype=st.just(dtype))
    predicted, sample = draw(one), draw(st.none() | one)
    snr_db = draw(st.lists(st.floats(-30, 40), min_size=batch, max_size=batch))
    options = {
        "beta": draw(st.just(0.0) | st.just(1.0) | st.floats(0, 1)),
        "diagonal_loading": draw(st.just(0.0) | st.floats(0, 10)),
        "shrinkage": draw(SHRINKAGES),
        "snr_db": torch.tensor(snr_db, dtype=torch.float64),
        "target_trace": draw(st.none() | st.floats(1e-3, 1e3)),
    }
    return predicted, sample, options


def dense(covariance):
    """F F^H + delta I in double precision."""
    factor = covariance.factor.detach().to(torch.complex128).numpy()
    identity = np.eye(factor.shape[1])
    return factor @ factor.conj().swapaxes(1, 2) + covariance.diagonal.detach().double().numpy()[:, None, None] * identity


def trace_of(matrices):
    return np.trace(matrices, axis1=1, axis2=2).real


def scaled(matrices, trace):
    return matrices * (trace / trace_of(matrices))[:, None, None]


def reference(predicted, sample, *, beta, diagonal_loading, shrinkage, snr_db, target_trace):
    """Scale each to trace N, blend, load and rescale, shrink, set the trace: dense and one step per line."""
    effective = dense(predicted)
    n = effective.shape[1]
    identity = np.eye(n)
    effective = scaled(effective, n)
    if sample is not None:
        effective = (1.0 - beta) * effective + beta * scaled(dense(sample), n)
    effective = scaled(effective + diagonal_loading * identity, n)
    if shrinkage is not None:
        for b in range(len(effective)):
            alpha = min(max(shrinkage.base * 10.0 ** (-float(snr_db[b]) / 20.0), shrinkage.minimum), shrinkage.maximum)
            effective[b] = (1.0 - alpha) * effective[b] + alpha * np.trace(effective[b]).real / n * identity
    return scaled(effective, n if target_trace is None else target_trace)


@given(builds())
def test_builder_equals_the_dense_reference(arguments):
    predicted, sample, options = arguments
    effective = build_effective_covariance(predicted, sample, **options)
    expected = reference(predicted, sample, **options)
    target = options["target_trace"] or predicted.n
    np.testing.assert_allclose(dense(effective), expected, rtol=0, atol=TOLERANCE[predicted.factor.dtype] * target)


@given(builds())
def test_effective_covariance_is_hermitian_positive_semidefinite_and_of_its_trace(arguments):
    predicted, sample, options = arguments
    effective = build_effective_covariance(predicted, sample, **options)
    target = options["target_trace"] or predicted.n
    tolerance = TOLERANCE[predicted.factor.dtype]
    matrices = effective.dense().to(torch.complex128)
    assert (matrices - matrices.mH).abs().max() <= tolerance * target
    assert torch.linalg.eigvalsh(matrices).min() >= -tolerance * target
    assert (effective.diagonal >= 0).all()
    np.testing.assert_allclose(effective.trace().numpy(), target, rtol=tolerance)
    np.testing.assert_allclose(trace_of(matrices.numpy()), target, rtol=tolerance)


@given(builds())
def test_effective_covariance_keeps_the_precision_of_the_prediction(arguments):
    predicted, sample, options = arguments
    effective = build_effective_covariance(predicted, sample, **options)
    assert effective.factor.dtype == predicted.factor.dtype
    assert effective.diagonal.dtype == predicted.factor.dtype.to_real()


@given(builds())
def test_batch_equals_single(arguments):
    predicted, sample, options = arguments
    together = dense(build_effective_covariance(predicted, sample, **options))
    for b in range(len(together)):
        one = slice(b, b + 1)
        single = build_effective_covariance(
            predicted[one], None if sample is None else sample[one], **{**options, "snr_db": options["snr_db"][one]}
        )
        np.testing.assert_allclose(
            dense(single)[0], together[b], rtol=0, atol=TOLERANCE[predicted.factor.dtype] * np.trace(together[b]).real
        )


@given(covariances(), st.none() | st.floats(1e-3, 1e3))
def test_building_twice_is_building_once(covariance, target_trace):
    once = build_effective_covariance(covariance, target_trace=target_trace)
    twice = build_effective_covariance(once, target_trace=target_trace)
    atol = TOLERANCE[covariance.factor.dtype] * (target_trace or covariance.n)
    np.testing.assert_allclose(dense(twice), dense(once), rtol=0, atol=atol)


@given(covariances(), st.sampled_from([1e-8, 3.0, 1e8]))
def test_the_scale_of_the_prediction_does_not_matter(covariance, gain):
    assume(covariance.factor.abs().max() * gain < 1e36)
    assume(covariance.diagonal.max() * gain**2 < 1e36)
    assume(covariance.factor.dtype == torch.complex128 or (covariance.diagonal == 0).all())
    other = FactoredCovariance(covariance.factor * gain, covariance.diagonal * gain**2)
    expected = dense(build_effective_covariance(covariance))
    np.testing.assert_allclose(
        dense(build_effective_covariance(other)), expected, atol=2 * TOLERANCE[covariance.factor.dtype] * covariance.n
    )


def test_the_scale_of_the_prediction_does_not_matter_at_the_ends_of_double_precision():
    covariance = random_covariance(0, 2, 4, 3)
    expected = dense(build_effective_covariance(covariance))
    for gain in (1e-160, 1e-250, 1e150):
        scaled_covariance = FactoredCovariance.from_factor(covariance.factor * gain)
        np.testing.assert_allclose(dense(build_effective_covariance(scaled_covariance)), expected, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.complex64, torch.complex128])
@pytest.mark.parametrize("beta", [0.0, 0.4])
def test_a_zero_prediction_becomes_the_identity_with_zero_gradient(dtype, beta):
    """The other scene of the batch is not zero, and its gradient must not suffer."""
    factor = torch.zeros(2, 5, 3, dtype=dtype)
    factor[1] = random_covariance(0, 1, 5, 3, dtype).factor[0]
    factor.requires_grad_()
    sample = random_covariance(1, 2, 5, 4, dtype)
    predicted = FactoredCovariance.from_factor(factor)
    effective = build_effective_covariance(
        predicted, sample, beta=beta, diagonal_loading=1e-3, shrinkage=Shrinkage(0.1, 1e-3, 0.3), snr_db=3.0
    )
    truth = build_effective_covariance(random_covariance(2, 2, 5, 2, dtype))
    effective.squared_distance(truth).sum().backward()
    assert (factor.grad[0] == 0).all()
    assert torch.isfinite(torch.view_as_real(factor.grad)).all()
    assert factor.grad[1].abs().max() > 0
    alone = build_effective_covariance(predicted)
    np.testing.assert_array_equal(dense(alone)[0], np.eye(5))


@given(builds())
def test_gradients_are_finite_and_the_sample_never_gets_one(arguments):
    predicted, sample, options = arguments
    factor, diagonal = predicted.factor.requires_grad_(), predicted.diagonal.requires_grad_()
    if sample is not None:
        sample.factor.requires_grad_()
        sample.diagonal.requires_grad_()
    effective = build_effective_covariance(predicted, sample, **options)
    (effective.inner(effective).sum() + effective.quadratic(torch.ones(1, predicted.n, dtype=factor.dtype)).sum()).backward()
    assert torch.isfinite(torch.view_as_real(factor.grad)).all()
    # d(result)/d(delta) is about N/tr R: beyond single precision where the trace is as small as 1e-60.
    if diagonal.dtype == torch.float64 or predicted.trace().min() > 1e-30:
        assert torch.isfinite(diagonal.grad).all()
    if sample is not None:
        assert sample.factor.grad is None
        assert sample.diagonal.grad is None


def test_a_blend_needs_no_gradient_because_of_its_sample():
    sample = random_covariance(0, 2, 4, 3)
    sample.factor.requires_grad_()
    effective = build_effective_covariance(random_covariance(1, 2, 4, 2), sample, beta=0.5)
    assert not effective.factor.requires_grad
    assert not effective.diagonal.requires_grad


@settings(max_examples=6)
@given(SEEDS, st.floats(0, 0.9), st.floats(0, 1))
def test_gradient_of_the_builder_equals_finite_differences(seed, beta, loading):
    predicted, sample = random_covariance(seed, 2, 3, 2, diagonal=1.0), random_covariance(seed + 1, 2, 3, 4)

    def built(factor, diagonal):
        effective = build_effective_covariance(
            FactoredCovariance(factor, diagonal),
            sample,
            beta=beta,
            diagonal_loading=loading,
            shrinkage=Shrinkage(0.1, 0.0, 0.5),
            snr_db=0.0,
        )
        return torch.view_as_real(effective.dense())

    assert torch.autograd.gradcheck(built, (predicted.factor.requires_grad_(), predicted.diagonal.requires_grad_()))


@given(SEEDS)
def test_gradients_are_finite_on_degenerate_spectra(seed):
    """Repeated eigenvalues: orthonormal, repeated and vanishing columns."""
    n = 4
    repeated = random_covariance(seed, 1, n, 1).factor.expand(-1, -1, 3)
    for factor in (torch.eye(n, dtype=torch.complex128)[None], repeated, torch.zeros(1, n, 2, dtype=torch.complex128)):
        leaf = factor.clone().requires_grad_()
        effective = build_effective_covariance(FactoredCovariance.from_factor(leaf), diagonal_loading=1e-3)
        target = build_effective_covariance(random_covariance(seed, 1, n, 2))
        effective.squared_distance(target).sum().backward()
        assert torch.isfinite(torch.view_as_real(leaf.grad)).all()


def test_blending_with_weight_one_gives_the_sample():
    predicted, sample = random_covariance(0, 3, 4, 2), random_covariance(1, 3, 4, 6)
    found = build_effective_covariance(predicted, sample, beta=1.0)
    np.testing.assert_allclose(dense(found), dense(build_effective_covariance(sample)), atol=1e-12)


def test_weight_zero_or_no_sample_leaves_the_prediction_alone():
    predicted, sample = random_covariance(0, 3, 4, 2), random_covariance(1, 3, 4, 6)
    alone = dense(build_effective_covariance(predicted))
    np.testing.assert_array_equal(dense(build_effective_covariance(predicted, sample, beta=0.0)), alone)
    np.testing.assert_array_equal(dense(build_effective_covariance(predicted, None, beta=0.7)), alone)


@pytest.mark.parametrize(
    "option",
    [
        {"beta": 0.3},
        {"diagonal_loading": 1e-3},
        {"shrinkage": Shrinkage(0.1, 0.0, 1.0), "snr_db": 0.0},
        {"target_trace": 1.0},
    ],
    ids=lambda option: next(iter(option)),
)
def test_every_option_changes_the_result(option):
    predicted, sample = random_covariance(0, 2, 4, 2), random_covariance(1, 2, 4, 6)
    plain, changed = build_effective_covariance(predicted, sample), build_effective_covariance(predicted, sample, **option)
    assert np.abs(dense(changed) - dense(plain)).max() > 1e-4


def test_loading_is_relative_to_trace_n_and_small_for_the_default():
    """A loading of 1e-3 moves a rank-one covariance of trace N by about 1e-3 of its trace, not by its size."""
    covariance = FactoredCovariance.from_factor(100.0 * random_covariance(0, 1, 8, 1).factor)
    loaded = build_effective_covariance(covariance, diagonal_loading=1e-3)
    smallest = np.linalg.eigvalsh(dense(loaded)[0])[0]
    assert smallest == pytest.approx(1e-3 / 1.001, rel=1e-9)


def test_a_scalar_snr_is_the_same_snr_for_all_scenes():
    covariance = random_covariance(0, 3, 4, 2)
    shrinkage = Shrinkage(0.1, 0.0, 1.0)
    one = build_effective_covariance(covariance, shrinkage=shrinkage, snr_db=7.3)
    each = build_effective_covariance(covariance, shrinkage=shrinkage, snr_db=torch.full((3,), 7.3, dtype=torch.float64))
    np.testing.assert_allclose(dense(one), dense(each), rtol=0, atol=1e-13)


@given(st.floats(0, 2), st.floats(0, 1), st.floats(0, 1), st.floats(-60, 60))
def test_shrinkage_weight_follows_its_law(base, first, second, snr_db):
    minimum, maximum = sorted((first, second))
    found = Shrinkage(base, minimum, maximum).alpha(torch.tensor([snr_db], dtype=torch.float64)).item()
    assert found == pytest.approx(min(max(base * 10.0 ** (-snr_db / 20.0), minimum), maximum), rel=1e-12, abs=1e-300)


def test_configured_shrinkage_reaches_both_of_its_limits():
    shrinkage = Shrinkage(**Config().covariance.shrinkage.model_dump())
    alpha = shrinkage.alpha(torch.tensor([-60.0, 0.0, 60.0])).tolist()
    assert alpha == pytest.approx([shrinkage.maximum, shrinkage.base, shrinkage.minimum])


BAD_OPTIONS = [
    ({"beta": -0.1}, "beta must be in 0..1, got -0.1"),
    ({"beta": 1.1}, "beta must be in 0..1, got 1.1"),
    ({"beta": math.nan}, "beta must be in 0..1, got nan"),
    ({"diagonal_loading": -1e-3}, "diagonal_loading must be finite and not negative, got -0.001"),
    ({"diagonal_loading": math.nan}, "diagonal_loading must"),
    ({"diagonal_loading": math.inf}, "diagonal_loading must"),
    ({"shrinkage": Shrinkage(0.1, 0.0, 0.3)}, "shrinkage needs snr_db, got None"),
    ({"target_trace": 0.0}, "target_trace must be finite and positive, got 0.0"),
    ({"target_trace": -2.0}, "target_trace must be finite and positive, got -2.0"),
    ({"target_trace": math.nan}, "target_trace must be"),
    ({"target_trace": math.inf}, "target_trace must be"),
    ({"sample": random_covariance(0, 2, 5, 2)}, "sample must have batch and N (2, 4), got (2, 5)"),
    ({"sample": random_covariance(0, 1, 4, 2)}, "sample must have batch and N (2, 4), got (1, 4)"),
]


@pytest.mark.parametrize(("option", "message"), BAD_OPTIONS, ids=lambda value: next(iter(value)) if isinstance(value, dict) else "")
def test_an_option_out_of_range_is_refused(option, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        build_effective_covariance(random_covariance(0, 2, 4, 2), **option)


@pytest.mark.parametrize("limits", [(0.1, 0.0, 1.5), (0.1, -0.5, 0.3), (-0.1, 0.0, 0.3), (0.1, 0.5, 0.3), (math.nan, 0.0, 0.3)])
def test_a_shrinkage_law_that_leaves_0_to_1_is_refused(limits):
    with pytest.raises(ValueError, match=r"(?i)shrinkage"):
        build_effective_covariance(random_covariance(0, 1, 4, 2), shrinkage=Shrinkage(*limits), snr_db=-40.0)


# The type itself.


@given(covariances())
def test_dense_and_trace_equal_the_definition(covariance):
    assume(covariance.factor.dtype == torch.complex128 or 1e-10 < covariance.factor.abs().max() < 1e10)
    expected = dense(covariance)
    size = np.abs(expected).max()
    np.testing.assert_allclose(covariance.dense().numpy(), expected, rtol=0, atol=TOLERANCE[covariance.factor.dtype] * size)
    np.testing.assert_allclose(covariance.trace().numpy(), trace_of(expected), rtol=1e-12)
    assert (covariance.n, covariance.rank) == covariance.factor.shape[1:]


@given(covariances())
def test_gram_is_taken_in_double_precision(covariance):
    factor = covariance.factor.to(torch.complex128).numpy()
    assert covariance.gram().dtype == torch.complex128
    expected = factor.conj().swapaxes(1, 2) @ factor
    np.testing.assert_allclose(covariance.gram().numpy(), expected, rtol=0, atol=1e-13 * np.abs(expected).max())


@given(covariances())
def test_eigenvalues_equal_those_of_the_dense_matrix(covariance):
    found = covariance.eigenvalues()
    expected = np.linalg.eigvalsh(dense(covariance))[:, ::-1]
    assert found.shape == (covariance.factor.shape[0], covariance.n)
    np.testing.assert_allclose(found.numpy(), expected, rtol=0, atol=1e-12 * expected.max())
    assert (found >= 0).all()


@given(SEEDS)
def test_eigenvalues_of_a_rank_deficient_factor_are_not_negative(seed):
    factor = random_covariance(seed, 8, 7, 1).factor @ random_covariance(seed + 1, 8, 1, 6).factor
    values = FactoredCovariance.from_factor(factor).eigenvalues()
    assert (values >= 0).all()
    np.testing.assert_allclose(values[:, 0].numpy(), factor.abs().square().sum(dim=(1, 2)).numpy(), rtol=1e-12)
    assert (values[:, 1:] <= 1e-13 * values[:, :1]).all()


def relative_gap(matrix, k):
    values = np.linalg.eigvalsh(matrix)[::-1]
    return (values[k - 1] - values[k]) / values[0] if k < len(values) else 1.0


@given(covariances(batch=st.just(2)), st.integers(1, 8))
def test_leading_subspace_has_the_projector_of_the_dense_eigenvectors(covariance, k):
    assume(k <= min(covariance.rank, covariance.n))
    matrices = dense(covariance)
    signal = matrices - covariance.diagonal.double().numpy()[:, None, None] * np.eye(covariance.n)
    assume(all(relative_gap(matrix, k) > 1e-3 for matrix in signal))
    assume(all(np.linalg.eigvalsh(matrix)[-k] > 1e-6 * np.trace(matrix).real for matrix in signal))
    basis = covariance.leading_subspace(k).numpy()
    assert basis.shape == (2, covariance.n, k)
    for b in range(2):
        np.testing.assert_allclose(basis[b].conj().T @ basis[b], np.eye(k), atol=1e-8)
        vectors = np.linalg.eigh(matrices[b])[1][:, -k:]
        np.testing.assert_allclose(basis[b] @ basis[b].conj().T, vectors @ vectors.conj().T, atol=1e-8)


def test_leading_subspace_leaves_vanishing_directions_out():
    column = random_covariance(0, 1, 5, 1).factor
    covariance = FactoredCovariance.from_factor(torch.cat((column, (0.3 - 0.7j) * column, 1.7 * column), dim=-1))
    basis = covariance.leading_subspace(3)
    unit = column / column.norm()
    np.testing.assert_allclose((basis @ basis.mH).numpy(), (unit @ unit.mH).numpy(), atol=1e-9)
    assert (basis[..., 1:] == 0).all()
    zero = FactoredCovariance.from_factor(torch.zeros(1, 5, 2, dtype=torch.complex128))
    assert (zero.leading_subspace(2) == 0).all()


def test_leading_subspace_carries_no_gradient():
    factor = random_covariance(0, 1, 5, 2).factor.requires_grad_()
    assert not FactoredCovariance.from_factor(factor).leading_subspace(1).requires_grad


@st.composite
def pairs(draw):
    batch, n, dtype = draw(st.integers(1, 3)), draw(st.integers(1, 8)), draw(DTYPES)
    one = covariances(batch=st.just(batch), n=st.just(n), dtype=st.just(dtype))
    return draw(one), draw(one)


@given(pairs())
def test_inner_product_equals_the_dense_one_and_is_symmetric(pair):
    first, second = pair
    expected = np.einsum("bij,bji->b", dense(first), dense(second)).real
    np.testing.assert_allclose(first.inner(second).numpy(), expected, rtol=1e-11)
    np.testing.assert_allclose(second.inner(first).numpy(), expected, rtol=1e-11)


@given(pairs())
def test_squared_distance_equals_the_dense_frobenius_distance(pair):
    first, second = pair
    expected = np.square(np.abs(dense(first) - dense(second))).sum(axis=(1, 2))
    size = (first.inner(first) + second.inner(second)).numpy()
    found = first.squared_distance(second).numpy()
    assert (found >= 0).all()
    assert (np.abs(found - expected) <= 1e-13 * size).all()


@given(covariances())
def test_distance_to_itself_is_zero(covariance):
    assert (covariance.squared_distance(covariance) == 0).all()


@given(covariances(dtype=st.just(torch.complex64)), SEEDS)
def test_distance_does_not_depend_on_the_choice_of_factor(covariance, seed):
    """F and F Q give the same covariance for a unitary Q; in single precision without care the distance would turn negative."""
    wide = FactoredCovariance(covariance.factor.to(torch.complex128), covariance.diagonal.double())
    q = torch.linalg.qr(random_covariance(seed, 1, covariance.rank, covariance.rank).factor)[0]
    turned = FactoredCovariance(wide.factor @ q, wide.diagonal)
    distance = wide.squared_distance(turned)
    assert (distance >= 0).all()
    assert (distance <= 1e-12 * wide.inner(wide)).all()


@given(covariances(dtype=st.just(torch.complex128)), SEEDS)
def test_quadratic_form_equals_the_dense_one(covariance, seed):
    vectors = random_covariance(seed, 1, 3, covariance.n).factor[0]
    expected = np.einsum("qi,bij,qj->bq", vectors.numpy().conj(), dense(covariance), vectors.numpy()).real
    found = covariance.quadratic(vectors)
    assert (found >= 0).all()
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-10)


def test_a_perfect_prediction_is_at_distance_zero_after_building():
    """What an added loading or a doubled trace would spoil: the builder leaves a covariance of trace N as it is."""
    truth = random_covariance(0, 4, 6, 2, torch.complex64)
    unit = build_effective_covariance(truth)
    again = build_effective_covariance(FactoredCovariance.from_factor(7.0 * truth.factor))
    nmse = unit.squared_distance(again) / unit.inner(unit)
    assert nmse.max() < 1e-12
    np.testing.assert_allclose(dense(unit), scaled(dense(truth), 6), atol=1e-5)


def test_detach_and_selection():
    covariance = random_covariance(0, 3, 4, 2, diagonal=1.0)
    covariance.factor.requires_grad_()
    assert not covariance.detach().factor.requires_grad
    np.testing.assert_array_equal(dense(covariance[1:]), dense(covariance)[1:])
    np.testing.assert_array_equal(dense(covariance[torch.tensor([2, 0])]), dense(covariance)[[2, 0]])


def test_from_factor_has_no_diagonal_part():
    covariance = FactoredCovariance.from_factor(random_covariance(0, 2, 4, 2, torch.complex64).factor)
    assert covariance.diagonal.dtype == torch.float32
    assert (covariance.diagonal == 0).all()
