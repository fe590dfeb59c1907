"""Laws of the network: what it reads, what it does not, and what it gives back."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch

from ris_pipeline.covariance import FactoredCovariance, build_effective_covariance
from ris_pipeline.model import HybridModel, count_parameters, shrinkage_of, snr_of
from ris_pipeline.simulation import source_steering
from ris_pipeline.training import Trainer

OUTPUTS = ("factor", "k_logits", "position", "power", "score", "score_map")


@pytest.fixture(scope="module")
def model(tiny_config):
    return HybridModel(tiny_config).eval()


@torch.no_grad()
def predicted(model, measurements):
    return model(measurements)


def distance(one, two):
    """Largest change of the score map and of the logits."""
    return min(float((getattr(one, name) - getattr(two, name)).abs().max()) for name in ("score_map", "k_logits"))


def assert_same(one, two, tolerance=1e-3):
    for name in OUTPUTS:
        torch.testing.assert_close(getattr(one, name), getattr(two, name), rtol=tolerance, atol=tolerance)


# What it does not depend on.


def test_a_scene_alone_gives_what_it_gives_in_a_batch(model, tiny_batch):
    together = predicted(model, tiny_batch.measurements)
    for scene in range(len(tiny_batch)):
        alone = predicted(model, tiny_batch.measurements[scene : scene + 1])
        for name in OUTPUTS:
            expected = getattr(together, name)[scene : scene + 1]
            torch.testing.assert_close(getattr(alone, name), expected, rtol=1e-3, atol=1e-3)
        torch.testing.assert_close(alone.effective.dense(), together.effective.dense()[scene : scene + 1], rtol=1e-3, atol=1e-3)


def changed(measurements, **values):
    return dataclasses.replace(measurements, **values)


@pytest.mark.parametrize("phase", [0.7, math.pi, -2.0])
def test_a_global_phase_changes_nothing(model, tiny_batch, phase):
    m, turn = tiny_batch.measurements, torch.polar(torch.tensor(1.0), torch.tensor(phase))
    assert_same(predicted(model, changed(m, snapshots=m.snapshots * turn, sample_factor=m.sample_factor * turn)), predicted(model, m))


@pytest.mark.parametrize("scale", [1e-12, 1e-3, 1e3, 1e12])
def test_the_scale_of_the_data_changes_nothing(model, tiny_batch, scale):
    """Snapshots, noise and back-projection in other units, down to where single precision squares would vanish."""
    m = tiny_batch.measurements
    other = changed(
        m, snapshots=m.snapshots * scale, sample_factor=m.sample_factor * scale, noise_variance=m.noise_variance.double() * scale**2
    )
    assert_same(predicted(model, other), predicted(model, m))


def test_the_order_of_snapshots_with_their_codes_changes_nothing(model, tiny_batch):
    m, order = tiny_batch.measurements, torch.tensor([3, 0, 7, 1, 6, 2, 5, 4])
    other = changed(m, snapshots=m.snapshots[:, order], code_index=m.code_index[:, order], sample_factor=m.sample_factor[:, :, order])
    assert_same(predicted(model, other), predicted(model, m))


def test_prediction_changes_no_measurement(model, tiny_batch):
    m = tiny_batch.measurements
    before = {f.name: getattr(m, f.name).clone() for f in dataclasses.fields(m)}
    predicted(model, m)
    assert all(torch.equal(getattr(m, name), value) for name, value in before.items())


# What it depends on.


def test_codes_belong_to_their_snapshots(model, tiny_batch):
    """Shuffling the codes against the snapshots must change the answer: pooled apart they would say the same."""
    m = tiny_batch.measurements
    shuffled = changed(m, code_index=m.code_index.roll(1, dims=1))
    assert distance(predicted(model, shuffled), predicted(model, m)) > 1e-2


@pytest.mark.parametrize("name", ["snapshots", "channel", "code_index", "sample_factor", "noise_variance"])
def test_every_input_changes_the_answer(model, tiny_batch, name):
    """Each input in turn is that of another scene."""
    m = tiny_batch.measurements
    other = predicted(model, changed(m, **{name: getattr(m, name).roll(1, dims=0)}))
    reference = predicted(model, m)
    logits = (other.k_logits - reference.k_logits).abs().amax(dim=1)
    assert (logits > 1e-5).float().mean() > (0.8 if name != "code_index" else -1.0)
    if name in ("snapshots", "channel"):
        assert distance(other, reference) > 1e-2
    elif name == "sample_factor":
        assert distance(other, reference) > 1e-3


def test_the_channel_of_every_element_matters(model, tiny_batch):
    """Not only its product with one code: the phase of each column changes the score map."""
    m, reference = tiny_batch.measurements, predicted(model, tiny_batch.measurements)
    for element in (0, 11, 23):
        channel = m.channel.clone()
        channel[:, :, element] *= -1.0
        assert (predicted(model, changed(m, channel=channel)).score_map - reference.score_map).abs().max() > 1e-4


def test_the_weight_of_the_blend_reaches_the_count(tiny_config, tiny_batch):
    logits = [
        predicted(HybridModel(tiny_config.replaced(covariance={"beta": beta})).eval(), tiny_batch.measurements).k_logits
        for beta in (0.0, 0.3, 0.6)
    ]
    assert (logits[0] - logits[1]).abs().max() > 1e-4
    assert (logits[1] - logits[2]).abs().max() > 1e-4


# Missing inputs.


@pytest.mark.parametrize("missing", ["sample_factor", "noise_variance"])
def test_a_missing_input_is_no_obstacle(model, tiny_batch, missing):
    prediction = predicted(model, changed(tiny_batch.measurements, **{missing: None}))
    assert all(torch.isfinite(torch.view_as_real(v) if v.is_complex() else v).all() for v in (getattr(prediction, n) for n in OUTPUTS))


def test_without_a_sample_the_prediction_stands_alone(tiny_config, model, tiny_batch):
    prediction = predicted(model, changed(tiny_batch.measurements, sample_factor=None))
    options = tiny_config.covariance
    expected = build_effective_covariance(
        FactoredCovariance.from_factor(prediction.factor),
        diagonal_loading=options.diagonal_loading,
        shrinkage=shrinkage_of(options),
        snr_db=snr_of(tiny_batch.measurements),
    )
    torch.testing.assert_close(prediction.effective.dense(), expected.dense(), rtol=1e-4, atol=1e-4)


# What it gives back.


def test_the_count_head_sees_the_built_covariance(tiny_config, tiny_batch):
    """The very object of the prediction: of trace N, blended, loaded and shrunk once, as configured."""
    model, seen = HybridModel(tiny_config).eval(), []
    model.count_head.register_forward_pre_hook(lambda module, arguments: seen.append(arguments[0]))
    prediction = predicted(model, tiny_batch.measurements)
    assert len(seen) == 1
    assert seen[0] is prediction.effective
    torch.testing.assert_close(seen[0].trace(), torch.full((12,), 24.0, dtype=torch.float64), rtol=1e-5, atol=1e-4)
    options = tiny_config.covariance
    expected = build_effective_covariance(
        FactoredCovariance.from_factor(prediction.factor),
        FactoredCovariance.from_factor(tiny_batch.measurements.sample_factor),
        beta=options.beta,
        diagonal_loading=options.diagonal_loading,
        shrinkage=shrinkage_of(options),
        snr_db=snr_of(tiny_batch.measurements),
    )
    torch.testing.assert_close(seen[0].dense(), expected.dense(), rtol=1e-3, atol=1e-3)


def test_the_factor_is_the_physics_of_the_slots(tiny_config, model, tiny_batch):
    """Its columns are steering vectors of the predicted positions, weighted by the roots of the powers."""
    prediction = predicted(model, tiny_batch.measurements)
    sources = model.sources(prediction, torch.full((12,), 3))
    raw = dataclasses.replace(sources, azimuth_rad=prediction.position[..., 0], elevation_rad=prediction.position[..., 1])
    expected = source_steering(tiny_config.array, raw) * prediction.power.sqrt()[:, None, :]
    torch.testing.assert_close(prediction.factor, expected, rtol=1e-3, atol=1e-3)
    assert prediction.factor.shape == (12, 24, 3)


def test_slots_lie_on_the_domain_and_are_ordered_by_score(tiny_config, tiny_batch):
    """Also with large weights: angles within a cell of the field of view, ranges inside it."""
    model, scene = HybridModel(tiny_config).eval(), tiny_config.scene
    with torch.no_grad():
        model.position_head.weight.mul_(100.0)
    prediction = predicted(model, tiny_batch.measurements)
    cell = torch.tensor((2 * scene.azimuth_max_rad / 12, 2 * scene.elevation_max_rad / 8))
    limit = torch.tensor((scene.azimuth_max_rad, scene.elevation_max_rad)) + cell / 2
    assert (prediction.position[..., :2].abs() <= limit + 1e-5).all()
    assert (prediction.position[..., 2] >= scene.range_min_m * (1 - 1e-5)).all()
    assert (prediction.position[..., 2] <= scene.range_max_m * (1 + 1e-5)).all()
    sources = model.sources(prediction, torch.full((12,), 3))
    assert (sources.azimuth_rad.abs() <= scene.azimuth_max_rad + 1e-6).all()
    assert (sources.elevation_rad.abs() <= scene.elevation_max_rad + 1e-6).all()


def test_every_range_of_the_domain_can_be_said_and_has_a_gradient(tiny_config, tiny_batch):
    """The regression's third channel goes from one end to the other; the gradient vanishes nowhere in between."""
    model, scene = HybridModel(tiny_config), tiny_config.scene
    seen = []
    for bias in (-9.0, -4.0, 0.0, 4.0, 9.0):
        with torch.no_grad():
            model.position_head.bias[2] = bias
        prediction = model(tiny_batch.measurements)
        (gradient,) = torch.autograd.grad(prediction.position[..., 2].sum(), model.position_head.bias)
        assert gradient[2] > 1e-5
        seen.append(float(prediction.position[..., 2].detach().mean()))
    assert seen == sorted(seen)
    assert seen[0] < scene.range_min_m * 1.01
    assert seen[-1] > scene.range_max_m * 0.99


def test_only_known_slots_become_sources_and_their_powers_sum_to_one(model, tiny_batch):
    prediction, k = predicted(model, tiny_batch.measurements), torch.arange(12) % 3 + 1
    sources = model.sources(prediction, k)
    assert torch.equal(sources.k, k)
    assert (sources.position[~sources.mask] == 0).all()
    assert (sources.power[~sources.mask] == 0).all()
    torch.testing.assert_close(sources.power.sum(dim=1), torch.ones(12))


# Gradients.


def test_no_gradient_reaches_the_measurements(tiny_config, few, tiny_batch):
    trainer, m = Trainer(tiny_config, *few), tiny_batch.measurements
    watched = {name: getattr(m, name).clone().requires_grad_(True) for name in ("sample_factor", "snapshots", "channel")}
    batch = dataclasses.replace(tiny_batch, measurements=changed(m, **watched))
    trainer.loss(trainer.model(batch.measurements), batch).total.backward()
    assert all(value.grad is None or not (value.grad != 0).any() for value in (watched["sample_factor"],))
    assert any(parameter.grad is not None for parameter in trainer.model.parameters())


def test_every_parameter_gets_a_finite_gradient(tiny_config, few, tiny_batch):
    trainer = Trainer(tiny_config, *few)
    trainer.loss(trainer.model(tiny_batch.measurements), tiny_batch).total.backward()
    gradients = {name: parameter.grad for name, parameter in trainer.model.named_parameters()}
    assert [name for name, gradient in gradients.items() if gradient is None] == []
    assert [name for name, gradient in gradients.items() if not torch.isfinite(gradient).all()] == []
    assert [name for name, gradient in gradients.items() if not (gradient != 0).any()] == []


@pytest.mark.parametrize("bias", [-300.0, 300.0])
def test_gradients_stay_finite_when_every_slot_has_vanished(tiny_config, few, tiny_batch, bias):
    """Powers of zero, or of all cells alike."""
    trainer = Trainer(tiny_config, *few)
    with torch.no_grad():
        trainer.model.score_head.bias.fill_(bias)
    trainer.loss(trainer.model(tiny_batch.measurements), tiny_batch).total.backward()
    bad = [name for name, parameter in trainer.model.named_parameters() if not torch.isfinite(parameter.grad).all()]
    assert bad == []


# Construction.


def state(model):
    return model.state_dict()


def test_initial_weights_depend_on_the_generator_alone(tiny_config):
    def built(seed, noise):
        torch.manual_seed(noise)
        before = torch.get_rng_state()
        model = HybridModel(tiny_config, torch.Generator().manual_seed(seed))
        return state(model), torch.equal(before, torch.get_rng_state())

    (one, _), (same, _), (other, _) = built(3, 0), built(3, 1), built(4, 0)
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert any(not torch.equal(one[name], other[name]) for name in one)


def test_without_a_generator_the_seed_of_the_configuration_decides(tiny_config):
    one, two = state(HybridModel(tiny_config)), state(HybridModel(tiny_config, torch.Generator().manual_seed(0)))
    assert all(torch.equal(one[name], two[name]) for name in one)
    other = state(HybridModel(tiny_config.replaced(train={"seed": 1})))
    assert any(not torch.equal(one[name], other[name]) for name in one)


def test_the_state_holds_learned_numbers_only(model):
    assert state(model).keys() == dict(model.named_parameters()).keys()
    assert count_parameters(model) == sum(parameter.numel() for parameter in model.parameters()) > 10_000
