"""Laws of the loss terms, each against an independent reference."""

from __future__ import annotations

import dataclasses
import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ris_pipeline import losses
from ris_pipeline.arrays import Sources
from ris_pipeline.covariance import FactoredCovariance, build_effective_covariance
from ris_pipeline.losses import (
    TERMS,
    count_loss,
    covariance_nmse,
    match_slots,
    position_loss,
    score_loss,
    steering_loss,
    term_weights,
    training_loss,
)
from ris_pipeline.model.network import Prediction, snr_of
from ris_pipeline.simulation import draw_sources, true_factor
from ris_pipeline.training import Trainer

SEEDS = st.integers(0, 2**31)


def rng(seed):
    return torch.Generator().manual_seed(seed)


def sources_of(config, seed, count=4):
    return draw_sources(config.scene, count, rng(seed)).to(torch.float32)


def positions(config, seed, count=4):
    """Random positions in the domain, one per slot."""
    scene, u = config.scene, torch.rand(count, config.scene.k_max, 3, generator=rng(seed))
    low = torch.tensor((-scene.azimuth_max_rad, -scene.elevation_max_rad, scene.range_min_m))
    high = torch.tensor((scene.azimuth_max_rad, scene.elevation_max_rad, scene.range_max_m))
    return low + (high - low) * u


def prediction_of(config, seed, count=4, scale=1.0):
    """A random prediction of any quality."""
    g, k, n = rng(seed), config.scene.k_max, config.array.n_elements
    factor = torch.randn(count, n, k, dtype=torch.complex64, generator=g)
    model = config.model
    return Prediction(
        factor=factor,
        k_logits=scale * torch.randn(count, k, generator=g),
        position=positions(config, seed + 1, count),
        power=torch.rand(count, k, generator=g),
        score=torch.randn(count, k, generator=g),
        score_map=scale * torch.randn(count, model.grid_azimuth, model.grid_elevation, generator=g),
        effective=build_effective_covariance(FactoredCovariance.from_factor(factor)),
    )


def loss_of(config, prediction, sources, snr_db=None):
    snr_db = torch.full((len(sources.k),), 10.0) if snr_db is None else snr_db
    truth = true_factor(config.array, sources)
    pair = [build_effective_covariance(FactoredCovariance.from_factor(factor)) for factor in (prediction.factor, truth)]
    return training_loss(prediction, *pair, sources, snr_db, config)


# All terms.


@settings(max_examples=15)
@given(seed=SEEDS, scale=st.floats(0.0, 30.0), snr=st.floats(-20.0, 40.0))
def test_no_term_is_ever_negative(tiny_config, seed, scale, snr):
    terms = loss_of(tiny_config, prediction_of(tiny_config, seed, scale=scale), sources_of(tiny_config, seed), torch.full((4,), snr))
    assert torch.isfinite(terms.values).all()
    assert (terms.values >= 0.0).all(), dict(zip(TERMS, terms.values.tolist(), strict=True))
    assert terms.total >= 0.0


def test_terms_and_weights_have_one_order(tiny_config):
    assert TERMS == ("covariance", "k", "position", "score", "steering")
    config = tiny_config.replaced(loss={name: 0.5 + index for index, name in enumerate(TERMS)})
    assert term_weights(config.loss, torch.zeros(())).tolist() == [0.5, 1.5, 2.5, 3.5, 4.5]
    weights = {name for name in type(config.loss).model_fields if name != "under_cost"}
    assert weights == set(TERMS)


def test_each_value_is_the_term_of_its_name(tiny_config):
    prediction, sources = prediction_of(tiny_config, 0), sources_of(tiny_config, 0)
    slot = match_slots(prediction.position, sources, tiny_config)
    values = dict(zip(TERMS, loss_of(tiny_config, prediction, sources).values.tolist(), strict=True))
    assert values["k"] == pytest.approx(float(count_loss(prediction.k_logits, sources.k, tiny_config.loss.under_cost)))
    assert values["position"] == pytest.approx(float(position_loss(prediction.position, sources, slot, tiny_config)))
    assert values["score"] == pytest.approx(float(score_loss(prediction.score_map, sources, tiny_config)))
    assert values["steering"] == pytest.approx(float(steering_loss(prediction.position, sources, slot, tiny_config)))
    assert len(set(values.values())) == 5


def test_the_total_is_the_weighted_sum(tiny_config):
    config = tiny_config.replaced(loss={"covariance": 0.25, "k": 2.0, "position": 0.5, "score": 4.0, "steering": 8.0})
    terms = loss_of(config, prediction_of(config, 1), sources_of(config, 1))
    expected = np.dot([0.25, 2.0, 0.5, 4.0, 8.0], terms.values.double().numpy())
    assert float(terms.total) == pytest.approx(expected, rel=1e-5)


INPUT_OF = {
    "covariance": ("factor",), "k": ("k_logits",), "position": ("position",), "score": ("score_map",), "steering": ("position",),
}  # fmt: skip


def leaves(prediction):
    names = ("factor", "k_logits", "position", "score_map")
    grown = {name: getattr(prediction, name).clone().requires_grad_(True) for name in names}
    return dataclasses.replace(prediction, **grown), grown


@pytest.mark.parametrize("term", TERMS)
def test_a_weight_switches_its_own_term_and_no_other(tiny_config, term):
    """With one weight only, exactly that term's input has a gradient; without it, the total is the same whatever the term is."""
    prediction, grown = leaves(prediction_of(tiny_config, 2))
    alone = tiny_config.replaced(loss={name: float(name == term) for name in TERMS})
    loss_of(alone, prediction, sources_of(tiny_config, 2)).total.backward()
    moving = {name for name, leaf in grown.items() if leaf.grad is not None and bool((leaf.grad != 0).any())}
    assert moving == set(INPUT_OF[term])
    off = tiny_config.replaced(loss={term: 0.0})
    terms = loss_of(off, prediction_of(tiny_config, 2), sources_of(tiny_config, 2))
    weights = term_weights(off.loss, terms.values).tolist()
    rest = [value * weight for name, value, weight in zip(TERMS, terms.values.tolist(), weights, strict=True) if name != term]
    assert float(terms.total) == pytest.approx(sum(rest), rel=1e-5)


# Covariance.


@pytest.mark.parametrize("beta", [0.0, 0.3, 0.999])
@pytest.mark.parametrize("loading", [0.0, 1e-3, 1.0])
@pytest.mark.parametrize("shrinkage", [None, {"base": 0.1}, {"base": 3.0, "minimum": 0.2, "maximum": 0.9}])
def test_a_perfect_prediction_costs_nothing_whatever_the_preprocessing(tiny_config, few, tiny_batch, beta, loading, shrinkage):
    """Through the training step's own loss: scaled, permuted columns of the true factor, blended with the stored sample."""
    config = tiny_config.replaced(covariance={"beta": beta, "diagonal_loading": loading, "shrinkage": shrinkage})
    trainer = Trainer(config, *few)
    prediction = trainer.model(tiny_batch.measurements)
    truth = true_factor(config.array, tiny_batch.sources)
    exact = trainer.loss(dataclasses.replace(prediction, factor=7.0 * truth.flip(-1)), tiny_batch)
    assert float(exact.values[0].detach()) < 1e-6
    wrong = trainer.loss(dataclasses.replace(prediction, factor=truth.roll(1, dims=0)), tiny_batch)
    assert float(wrong.values[0].detach()) > 1e-4 * (1.0 - beta) ** 2 / (1.0 + loading) ** 2


@pytest.mark.parametrize("beta", [0.0, 0.4])
def test_the_nmse_equals_a_dense_reference(tiny_config, few, tiny_batch, beta):
    """Every step written out on N x N matrices in double precision."""
    options = {"beta": beta, "diagonal_loading": 0.05, "shrinkage": {"base": 0.5, "minimum": 0.01, "maximum": 0.4}}
    config = tiny_config.replaced(covariance=options)
    trainer = Trainer(config, *few)
    prediction = trainer.model(tiny_batch.measurements)
    snr_db = snr_of(tiny_batch.measurements).double().numpy()
    n, identity = 24, np.eye(24)

    def unit(factor):
        dense = factor @ np.conj(np.swapaxes(factor, 1, 2))
        return n * dense / np.trace(dense, axis1=1, axis2=2).real[:, None, None]

    def effective(factor):
        wide = factor.detach().to(torch.complex128).numpy()
        sample = tiny_batch.measurements.sample_factor.to(torch.complex128).numpy()
        blended = (1 - beta) * unit(wide) + beta * unit(sample)
        loaded = (blended + 0.05 * identity) / 1.05
        alpha = np.clip(0.5 * 10 ** (-snr_db / 20), 0.01, 0.4)[:, None, None]
        return (1 - alpha) * loaded + alpha * identity

    predicted, truth = effective(prediction.factor), effective(true_factor(config.array, tiny_batch.sources))
    expected = np.mean(np.sum(np.abs(predicted - truth) ** 2, axis=(1, 2)) / np.sum(np.abs(truth) ** 2, axis=(1, 2)))
    assert float(trainer.loss(prediction, tiny_batch).values[0].detach()) == pytest.approx(expected, rel=1e-4)


@settings(max_examples=15)
@given(seed=SEEDS)
def test_the_nmse_is_zero_at_the_truth_and_positive_elsewhere(tiny_config, seed):
    factor = torch.randn(3, 24, 3, dtype=torch.complex64, generator=rng(seed))
    one = build_effective_covariance(FactoredCovariance.from_factor(factor))
    two = build_effective_covariance(FactoredCovariance.from_factor(factor.roll(1, dims=0)))
    assert float(covariance_nmse(one, one)) == 0.0
    assert float(covariance_nmse(one, two)) > 0.1


# Count.


@settings(max_examples=30)
@given(seed=SEEDS, under_cost=st.floats(1.0, 5.0), scale=st.floats(0.1, 20.0))
def test_the_count_loss_equals_brute_force(seed, under_cost, scale):
    logits = scale * torch.randn(6, 5, generator=rng(seed))
    k = torch.randint(1, 6, (6,), generator=rng(seed + 1))
    total = 0.0
    for row, count in zip(logits.double().numpy(), k.tolist(), strict=True):
        probability = np.exp(row - row.max()) / np.exp(row - row.max()).sum()
        total += -math.log(probability[count - 1]) - (under_cost - 1.0) * math.log(min(1.0, probability[count - 1 :].sum()))
    assert float(count_loss(logits, k, under_cost)) == pytest.approx(total / 6, rel=1e-4, abs=1e-5)


@pytest.mark.parametrize("k", [2, 3, 4])
def test_undercounting_costs_more_than_overcounting(k):
    low, high = torch.zeros(1, 5), torch.zeros(1, 5)
    low[0, k - 2] = high[0, k] = 3.0
    truth = torch.tensor([k])
    assert float(count_loss(low, truth, 1.25)) > float(count_loss(high, truth, 1.25)) + 0.05
    assert float(count_loss(low, truth, 1.0)) == pytest.approx(float(count_loss(high, truth, 1.0)))
    gap = [float(count_loss(low, truth, cost) - count_loss(high, truth, cost)) for cost in (1.1, 1.5, 2.0)]
    assert gap[0] < gap[1] < gap[2]


def test_a_certain_right_count_costs_nothing_and_gradients_stay_finite():
    logits = torch.full((1, 5), -100.0)
    logits[0, 2] = 100.0
    logits.requires_grad_(True)
    loss = count_loss(logits, torch.tensor([3]), 2.0)
    loss.backward()
    assert float(loss.detach()) == pytest.approx(0.0, abs=1e-6)
    assert torch.isfinite(logits.grad).all()
    wrong = logits.detach().roll(-1, dims=1).requires_grad_(True)
    count_loss(wrong, torch.tensor([3]), 2.0).backward()
    assert torch.isfinite(wrong.grad).all()
    assert wrong.grad[0, 2] < 0.0


# Positions.


def terms_of_position(config, position, sources):
    slot = match_slots(position, sources, config)
    return torch.stack((position_loss(position, sources, slot, config), steering_loss(position, sources, slot, config)))


def reordered(sources, order):
    """The sources of every scene in another order; ``order`` keeps empty slots last."""
    fields = ("azimuth_rad", "elevation_rad", "range_m", "power")
    return Sources(*(getattr(sources, name).gather(1, order) for name in fields), sources.k)


@settings(max_examples=20)
@given(seed=SEEDS, shuffle=st.permutations(range(3)))
def test_the_order_of_slots_and_of_sources_does_not_matter(tiny_config, seed, shuffle):
    sources, position = sources_of(tiny_config, seed), positions(tiny_config, seed)
    expected = terms_of_position(tiny_config, position, sources)
    torch.testing.assert_close(terms_of_position(tiny_config, position[:, list(shuffle)], sources), expected)
    order = torch.arange(3).repeat(4, 1)
    for row, k in zip(order, sources.k.tolist(), strict=True):
        row[:k] = row[:k].flip(0)
    torch.testing.assert_close(terms_of_position(tiny_config, position, reordered(sources, order)), expected)


@settings(max_examples=20)
@given(seed=SEEDS, shuffle=st.permutations(range(3)))
def test_both_position_terms_vanish_at_the_truth_wherever_the_empty_slots_point(tiny_config, seed, shuffle):
    sources = sources_of(tiny_config, seed)
    position = torch.where(sources.mask[..., None], sources.position, positions(tiny_config, seed))[:, list(shuffle)]
    assert terms_of_position(tiny_config, position, sources).abs().max() < 1e-6


@settings(max_examples=20)
@given(seed=SEEDS)
def test_the_position_loss_is_that_of_the_cheapest_assignment(tiny_config, seed):
    """Every assignment of slots to sources is tried; errors in units of 5 degrees, 5 degrees and 1 metre."""
    sources, position = sources_of(tiny_config, seed), positions(tiny_config, seed)
    total, count = 0.0, 0
    for scene in range(4):
        k = int(sources.k[scene])
        true, slots = sources.position[scene, :k].double().numpy(), position[scene].double().numpy()
        candidates = []
        for order in itertools.permutations(range(3), k):
            error = (slots[list(order)] - true) * np.array([180 / np.pi / 5, 180 / np.pi / 5, 1.0])
            candidates.append(((error**2).sum(), np.log1p(error**2 / 2).mean(axis=1).sum()))
        total += min(candidates)[1]
        count += k
    slot = match_slots(position, sources, tiny_config)
    assert float(position_loss(position, sources, slot, tiny_config)) == pytest.approx(total / count, rel=1e-4)


@settings(max_examples=20)
@given(seed=SEEDS)
def test_every_coordinate_of_every_source_has_a_gradient_over_the_whole_domain(tiny_config, seed):
    """Near and far, at the edges too: no clamp hides an error."""
    sources, position = sources_of(tiny_config, seed, 8), positions(tiny_config, seed + 1, 8).requires_grad_(True)
    slot = match_slots(position, sources, tiny_config)
    position_loss(position, sources, slot, tiny_config).backward()
    gradient = position.grad.take_along_dim(slot[..., None], dim=1)[sources.mask]
    assert torch.isfinite(position.grad).all()
    assert (gradient != 0.0).all()
    error = (position.detach().take_along_dim(slot[..., None], dim=1) - sources.position)[sources.mask]
    assert torch.equal(gradient.sign(), error.sign())


@pytest.mark.parametrize("range_m", [0.5, 0.55, 3.0, 9.9, 10.0])
def test_the_range_at_the_edge_of_the_domain_still_has_a_gradient(tiny_config, range_m):
    one = torch.ones(1, dtype=torch.int64)
    truth = Sources.from_position(torch.tensor([[[0.2, 0.1, range_m], [0, 0, 0], [0, 0, 0]]]), torch.ones(1, 3), one)
    guess = torch.tensor([[[0.2, 0.1, range_m * 1.1], [0.9, 0.4, 5.0], [-0.9, -0.4, 5.0]]], requires_grad=True)
    slot = match_slots(guess, truth, tiny_config)
    for loss in (position_loss, steering_loss):
        (gradient,) = torch.autograd.grad(loss(guess, truth, slot, tiny_config), guess)
        assert gradient[0, 0, 2] > 0.0


@settings(max_examples=20)
@given(seed=SEEDS)
def test_the_steering_loss_is_one_minus_the_squared_correlation(tiny_config, seed):
    """Spherical waves written out: exp(j 2 pi (r - |p - p_n|) / lambda)."""
    array, sources, position = tiny_config.array, sources_of(tiny_config, seed), positions(tiny_config, seed)
    slot = match_slots(position, sources, tiny_config)
    h, v = np.meshgrid(np.arange(array.n_h), np.arange(array.n_v))
    x, z = (h.ravel() - (array.n_h - 1) / 2) * array.spacing_m, (v.ravel() - (array.n_v - 1) / 2) * array.spacing_m

    def wave(azimuth, elevation, r):
        p = r * np.array([np.sin(azimuth) * np.cos(elevation), np.cos(azimuth) * np.cos(elevation), np.sin(elevation)])
        return np.exp(2j * np.pi / array.wavelength_m * (r - np.sqrt((p[0] - x) ** 2 + p[1] ** 2 + (p[2] - z) ** 2)))

    total = 0.0
    for scene in range(4):
        for source in range(int(sources.k[scene])):
            true = wave(*sources.position[scene, source].double().tolist())
            found = wave(*position[scene, slot[scene, source]].double().tolist())
            total += 1.0 - abs(np.vdot(true, found)) ** 2 / 24**2
    value = float(steering_loss(position, sources, slot, tiny_config))
    assert value == pytest.approx(total / int(sources.k.sum()), rel=1e-3, abs=1e-5)


# Score map.


@settings(max_examples=15)
@given(seed=SEEDS, scale=st.floats(0.1, 10.0))
def test_the_score_loss_equals_a_slow_reference(tiny_config, seed, scale):
    sources = sources_of(tiny_config, seed)
    logits = scale * torch.randn(4, 12, 8, generator=rng(seed))
    total = 0.0
    for scene in range(4):
        closeness, holds = np.zeros((12, 8)), np.zeros((12, 8), dtype=bool)
        for source in range(int(sources.k[scene])):
            a = (float(sources.azimuth_rad[scene, source]) + np.pi / 3) / (2 * np.pi / 3) * 12
            e = (float(sources.elevation_rad[scene, source]) + np.pi / 6) / (np.pi / 3) * 8
            holds[min(11, int(a)), min(7, int(e))] = True
            for i, j in itertools.product(range(12), range(8)):
                squared = (i + 0.5 - a) ** 2 + (j + 0.5 - e) ** 2
                closeness[i, j] = max(closeness[i, j], math.exp(-squared / (2 * 0.7**2)))
        logit = logits[scene].double().numpy()
        on, log_on, log_off = 1.0 / (1.0 + np.exp(-logit)), -np.logaddexp(0.0, -logit), -np.logaddexp(0.0, logit)
        hit, miss = -((1 - on) ** 2) * log_on, -((1 - closeness) ** 4) * on**2 * log_off
        total += np.where(holds, hit, miss).sum()
    assert float(score_loss(logits, sources, tiny_config)) == pytest.approx(total / int(sources.k.sum()), rel=1e-3)


def test_a_map_that_is_sure_of_the_right_cells_costs_almost_nothing(tiny_config):
    sources = sources_of(tiny_config, 3)
    on = torch.full((4, 12, 8), -20.0)
    for scene in range(4):
        for source in range(int(sources.k[scene])):
            a = int((float(sources.azimuth_rad[scene, source]) / (math.pi / 3) + 1) * 6)
            e = int((float(sources.elevation_rad[scene, source]) / (math.pi / 6) + 1) * 4)
            on[scene, a, e] = 20.0
    assert float(score_loss(on, sources, tiny_config)) < 1e-6
    assert float(score_loss(-on, sources, tiny_config)) > 10.0


@pytest.mark.parametrize("edge", [-1.0, 1.0])
def test_sources_on_the_edge_of_the_field_of_view_have_a_cell(tiny_config, edge):
    scene = tiny_config.scene
    corner = torch.tensor([[[edge * scene.azimuth_max_rad, edge * scene.elevation_max_rad, 5.0], [0, 0, 0], [0, 0, 0]]])
    sources = Sources.from_position(corner, torch.ones(1, 3), torch.tensor([1]))
    logits = torch.zeros(1, 12, 8, requires_grad=True)
    score_loss(logits, sources, tiny_config).backward()
    pulled_up = (logits.grad < 0).nonzero().tolist()
    assert pulled_up == [[0, 0, 0] if edge < 0 else [0, 11, 7]]


# Degenerate input.


@pytest.mark.parametrize("case", ["identical slots", "at the truth", "zero power", "one dead slot", "huge logits"])
def test_gradients_are_finite_on_degenerate_input(tiny_config, case):
    sources = sources_of(tiny_config, 5)
    prediction = prediction_of(tiny_config, 5)
    truth = true_factor(tiny_config.array, sources)
    changed = {
        "identical slots": {
            "position": prediction.position[:, :1].expand(-1, 3, -1),
            "factor": prediction.factor[..., :1].expand(-1, -1, 3),
        },
        "at the truth": {"position": sources.position.clamp_min(-2.0) + 1.0 * (~sources.mask)[..., None], "factor": truth},
        "zero power": {"factor": torch.zeros_like(prediction.factor)},
        "one dead slot": {"factor": prediction.factor * torch.tensor([1.0, 1.0, 0.0])},
        "huge logits": {"k_logits": prediction.k_logits * 1e6, "score_map": prediction.score_map * 1e4},
    }[case]
    prediction, grown = leaves(dataclasses.replace(prediction, **changed))
    terms = loss_of(tiny_config, prediction, sources)
    terms.total.backward()
    assert torch.isfinite(terms.values).all()
    assert all(torch.isfinite(torch.view_as_real(g) if g.is_complex() else g).all() for g in (leaf.grad for leaf in grown.values()))


def test_the_loss_does_not_depend_on_the_size_of_the_batch(tiny_config):
    """A scene that is there twice counts like one that is there once."""
    prediction, sources = prediction_of(tiny_config, 6), sources_of(tiny_config, 6)

    def twice(value):
        return torch.cat((value, value))

    effective = FactoredCovariance(twice(prediction.effective.factor), twice(prediction.effective.diagonal))
    names = ("factor", "k_logits", "position", "power", "score", "score_map")
    doubled = dataclasses.replace(prediction, effective=effective, **{name: twice(getattr(prediction, name)) for name in names})
    both = Sources(*(twice(getattr(sources, f.name)) for f in dataclasses.fields(Sources)))
    torch.testing.assert_close(loss_of(tiny_config, doubled, both).values, loss_of(tiny_config, prediction, sources).values)


def test_shrinkage_and_loading_reach_both_sides_alike(tiny_config, monkeypatch):
    """The two calls of the builder inside the loss get the same options."""
    calls, real = [], losses.build_effective_covariance

    def watched(covariance, **options):
        calls.append(options)
        return real(covariance, **options)

    monkeypatch.setattr(losses, "build_effective_covariance", watched)
    prediction, sources, snr_db = prediction_of(tiny_config, 7), sources_of(tiny_config, 7), torch.linspace(-5, 20, 4)
    loss_of(tiny_config, prediction, sources, snr_db)
    predicted, target = calls
    assert predicted.keys() == target.keys() == {"diagonal_loading", "shrinkage", "snr_db"}
    assert predicted["diagonal_loading"] == target["diagonal_loading"] == tiny_config.covariance.diagonal_loading
    assert predicted["shrinkage"] == target["shrinkage"] is not None
    assert predicted["snr_db"] is target["snr_db"] is snr_db
