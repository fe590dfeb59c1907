"""Metrics against brute force over all assignments, and the laws that a selection metric must obey."""

from __future__ import annotations

import itertools
import math
from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment

from ris_pipeline.arrays import Sources
from ris_pipeline.config import Config, SelectionConfig
from ris_pipeline.errors import IncompleteError
from ris_pipeline.metrics import (
    Metrics,
    SceneScores,
    aggregate,
    assign,
    best_permutation,
    permutations,
    score_scenes,
    selection_score,
)

DEFAULT = SelectionConfig()
OTHER = SelectionConfig(
    azimuth_norm_deg=4.0, elevation_norm_deg=2.0, range_norm_m=0.5, azimuth_clip_deg=9.0, elevation_clip_deg=7.0, range_clip_m=2.0,
    azimuth_success_deg=2.0, elevation_success_deg=1.0, range_success_m=0.25,
)  # fmt: skip
CONFIGS = st.sampled_from([DEFAULT, OTHER])
NAMES = ("azimuth", "elevation", "range")


def constants(config):
    return tuple(
        np.array([getattr(config, f"{name}_{kind}_{'m' if name == 'range' else 'deg'}") for name in NAMES])
        for kind in ("norm", "clip", "success")
    )


def sources_of(scenes, slots, fill=0.0):
    """Sources from lists of (azimuth_deg, elevation_deg, range_m); ``fill`` stands in the empty slots."""
    position = torch.full((len(scenes), slots, 3), fill, dtype=torch.float64)
    for b, scene in enumerate(scenes):
        for j, (azimuth_deg, elevation_deg, range_m) in enumerate(scene):
            position[b, j] = torch.tensor([math.radians(azimuth_deg), math.radians(elevation_deg), range_m], dtype=torch.float64)
    k = torch.tensor([len(scene) for scene in scenes])
    return Sources(*position.unbind(dim=-1), torch.ones(len(scenes), slots, dtype=torch.float64), k)


def random_scene(rng, k):
    return [tuple(value) for value in rng.uniform([-60, -30, 0.5], [60, 30, 10], size=(k, 3))]


@st.composite
def scene_pairs(draw, scenes=4):
    """Truth and estimate of several scenes; estimates are partly near the truth, partly anywhere."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    truth = [random_scene(rng, int(rng.integers(1, 5))) for _ in range(scenes)]
    estimate = []
    for scene in truth:
        near = [tuple(np.array(source) + rng.normal(size=3) * [2.0, 2.0, 0.3] * draw(st.sampled_from([0.1, 1.0, 5.0]))) for source in scene]
        kept = [source for source in near if rng.uniform() < 0.8]
        found = [*kept, *random_scene(rng, int(rng.integers(0, 3)))][:5]
        rng.shuffle(found)
        estimate.append([tuple(source) for source in found])
    return truth, estimate


def brute_force_scene(true, estimated, config):
    """Best assignment by trying every injection of the smaller set into the larger one."""
    norm, clip, success = constants(config)
    pairs_in_order = min(len(true), len(estimated))
    best = None
    for rows in itertools.combinations(range(len(true)), pairs_in_order):
        for columns in itertools.permutations(range(len(estimated)), pairs_in_order):
            errors = [np.abs(np.array(true[i]) - np.array(estimated[j])) for i, j in zip(rows, columns, strict=True)]
            cost = sum(((error / norm) ** 2).sum() for error in errors)
            if best is None or cost < best[0]:
                best = (cost, dict(zip(rows, errors, strict=True)))
    matched = best[1]
    clipped = np.array([np.minimum(matched[i], clip) if i in matched else clip for i in range(len(true))])
    located = sum(bool((error <= success).all()) for error in matched.values())
    return clipped, matched, located


def brute_force_ospa(first, second, config):
    """Schuhmacher, Vo, Vo 2008: order 2, cut-off the largest clip in units of its norm."""
    norm, clip, _ = constants(config)
    cutoff = (clip / norm).max()
    small, large = sorted((first, second), key=len)
    if not large:
        return 0.0
    cheapest = math.inf
    for columns in itertools.permutations(range(len(large)), len(small)):
        squared = [(((np.array(s) - np.array(large[j])) / norm) ** 2).sum() for s, j in zip(small, columns, strict=True)]
        cheapest = min(cheapest, sum(min(value, cutoff**2) for value in squared))
    return math.sqrt((cheapest + cutoff**2 * (len(large) - len(small))) / len(large))


@given(scene_pairs(), CONFIGS)
def test_scene_scores_equal_brute_force(pair, config):
    truth, estimate = pair
    scores = score_scenes(sources_of(estimate, 5), sources_of(truth, 4), config)
    for b in range(len(truth)):
        clipped, matched, located = brute_force_scene(truth[b], estimate[b], config)
        np.testing.assert_allclose(scores.clipped_error[b, : len(truth[b])].numpy(), clipped, atol=1e-9)
        assert (scores.clipped_error[b, len(truth[b]) :] == 0).all()
        for i in range(5):
            expected = matched.get(i, np.full(3, np.nan))
            np.testing.assert_allclose(scores.matched_error[b, i].numpy(), expected, atol=1e-9)
        assert scores.located[b] == located
        assert scores.success[b] == (located == len(truth[b]) == len(estimate[b]))
        assert scores.ospa[b].item() == pytest.approx(brute_force_ospa(truth[b], estimate[b], config), abs=1e-9)


@given(scene_pairs(scenes=5), CONFIGS)
def test_metrics_equal_brute_force(pair, config):
    truth, estimate = pair
    metrics = aggregate(score_scenes(sources_of(estimate, 5), sources_of(truth, 5), config))
    parts = [brute_force_scene(t, e, config) for t, e in zip(truth, estimate, strict=True)]
    k, k_hat = np.array([len(t) for t in truth]), np.array([len(e) for e in estimate])
    rmse = np.sqrt((np.concatenate([part[0] for part in parts]) ** 2).mean(axis=0))
    assert (metrics.azimuth_rmse_deg, metrics.elevation_rmse_deg, metrics.range_rmse_m) == pytest.approx(tuple(rmse))
    assert metrics.k_acc == pytest.approx((k_hat == k).mean())
    assert metrics.k_under == pytest.approx((k_hat < k).mean())
    assert metrics.k_over == pytest.approx((k_hat > k).mean())
    located = np.array([part[2] for part in parts])
    assert metrics.success_rate == pytest.approx(((located == k) & (k == k_hat)).mean())
    assert metrics.source_success_rate == pytest.approx(located.sum() / np.maximum(k, k_hat).sum())
    assert metrics.ospa == pytest.approx(np.mean([brute_force_ospa(t, e, config) for t, e in zip(truth, estimate, strict=True)]))
    errors = [error for part in parts for error in part[1].values()]
    assume(errors)
    medians = (metrics.azimuth_median_deg, metrics.elevation_median_deg, metrics.range_median_m)
    for axis in range(3):  # of an even number of values, any value between the middle two is a median
        values = np.array(errors)[:, axis]
        low, high = (np.percentile(values, 50, method=method) for method in ("lower", "higher"))
        assert low - 1e-9 <= medians[axis] <= high + 1e-9


@given(scene_pairs(), st.randoms(use_true_random=False))
def test_the_order_of_sources_does_not_matter(pair, random):
    truth, estimate = pair
    turned = [random.sample(scene, len(scene)) for scene in truth], [random.sample(scene, len(scene)) for scene in estimate]
    first = aggregate(score_scenes(sources_of(estimate, 5), sources_of(truth, 5), DEFAULT))
    other = aggregate(score_scenes(sources_of(turned[1], 5), sources_of(turned[0], 5), DEFAULT))
    assert first.as_dict() == pytest.approx(other.as_dict(), nan_ok=True)


@given(scene_pairs())
def test_empty_slots_and_their_number_do_not_matter(pair):
    truth, estimate = pair
    first = aggregate(score_scenes(sources_of(estimate, 5), sources_of(truth, 4), DEFAULT))
    other = aggregate(score_scenes(sources_of(estimate, 6, fill=0.7), sources_of(truth, 5, fill=-0.3), DEFAULT))
    assert first.as_dict() == pytest.approx(other.as_dict(), nan_ok=True)


@given(scene_pairs(), CONFIGS)
def test_a_perfect_estimate_has_score_minus_one(pair, config):
    truth = pair[0]
    metrics = aggregate(score_scenes(sources_of([scene[::-1] for scene in truth], 5), sources_of(truth, 5), config))
    assert selection_score(metrics, config) == pytest.approx(-1.0, abs=1e-9)
    assert (metrics.k_acc, metrics.success_rate, metrics.source_success_rate) == (1.0, 1.0, 1.0)
    assert metrics.ospa == pytest.approx(0.0, abs=1e-9)


@given(scene_pairs(), CONFIGS)
def test_no_estimate_at_all_costs_every_clip(pair, config):
    """The worst score is bounded and known: a missed source counts as the clip, never as nothing."""
    truth = pair[0]
    metrics = aggregate(score_scenes(sources_of([[] for _ in truth], 5), sources_of(truth, 5), config))
    norm, clip, _ = constants(config)
    assert (metrics.azimuth_rmse_deg, metrics.elevation_rmse_deg, metrics.range_rmse_m) == pytest.approx(tuple(clip))
    assert (metrics.k_acc, metrics.k_under, metrics.k_over) == (0.0, 1.0, 0.0)
    assert (metrics.success_rate, metrics.source_success_rate) == (0.0, 0.0)
    assert metrics.ospa == pytest.approx((clip / norm).max())
    assert selection_score(metrics, config) == pytest.approx(1.0 + (clip / norm).sum())
    assert math.isnan(metrics.azimuth_median_deg)


def test_clips_of_the_design_are_15_degrees_and_3_metres():
    far = aggregate(score_scenes(sources_of([[(60.0, 30.0, 10.0)]], 1), sources_of([[(-60.0, -30.0, 0.5)]], 1), DEFAULT))
    assert (far.azimuth_rmse_deg, far.elevation_rmse_deg, far.range_rmse_m) == pytest.approx((15.0, 15.0, 3.0))
    assert (far.azimuth_median_deg, far.elevation_median_deg, far.range_median_m) == pytest.approx((120.0, 60.0, 9.5))


@given(st.lists(st.floats(0, 50), min_size=2, max_size=2), st.integers(0, 2), CONFIGS)
def test_metrics_never_improve_when_an_error_grows(sizes, axis, config):
    small, large = sorted(sizes)
    truth = [[(0.0, 0.0, 5.0)]]
    scored = []
    for size in (small, large):
        offset = np.zeros(3)
        offset[axis] = size
        scored.append(aggregate(score_scenes(sources_of([[tuple(np.array(truth[0][0]) + offset)]], 2), sources_of(truth, 2), config)))
    first, second = scored
    assert first.azimuth_rmse_deg <= second.azimuth_rmse_deg
    assert first.elevation_rmse_deg <= second.elevation_rmse_deg
    assert first.range_rmse_m <= second.range_rmse_m
    assert first.success_rate >= second.success_rate
    assert first.source_success_rate >= second.source_success_rate
    assert first.ospa <= second.ospa
    assert selection_score(first, config) <= selection_score(second, config)


@given(scene_pairs())
def test_dropping_a_source_of_a_perfect_estimate_is_worse(pair):
    truth = pair[0]
    assume(len(truth[0]) > 1)
    missing = [truth[0][:-1], *truth[1:]]
    metrics = aggregate(score_scenes(sources_of(missing, 5), sources_of(truth, 5), DEFAULT))
    assert selection_score(metrics, DEFAULT) > -1.0
    assert metrics.k_under == pytest.approx(1 / len(truth))
    assert metrics.azimuth_rmse_deg == pytest.approx(15.0 / math.sqrt(sum(len(scene) for scene in truth)))
    assert metrics.source_success_rate < 1.0


@given(scene_pairs())
def test_a_false_alarm_is_not_free(pair):
    truth = pair[0]
    extra = [[*truth[0], (0.0, 0.0, 5.0)], *truth[1:]]
    metrics = aggregate(score_scenes(sources_of(extra, 5), sources_of(truth, 4), DEFAULT))
    total = sum(len(scene) for scene in truth)
    assert metrics.source_success_rate == pytest.approx(total / (total + 1))
    assert metrics.k_over == pytest.approx(1 / len(truth))
    assert metrics.success_rate == pytest.approx(1 - 1 / len(truth))
    assert metrics.ospa > 0.0
    assert selection_score(metrics, DEFAULT) > -1.0


@pytest.mark.parametrize(("axis", "limit"), [(0, 3.0), (1, 3.0), (2, 0.5)])
def test_success_ends_at_its_limit_on_every_axis(axis, limit):
    truth = [[(10.0, -5.0, 4.0)]]
    for size, expected in ((limit - 1e-6, 1.0), (limit + 1e-6, 0.0)):
        offset = np.zeros(3)
        offset[axis] = -size
        metrics = aggregate(score_scenes(sources_of([[tuple(np.array(truth[0][0]) + offset)]], 1), sources_of(truth, 1), DEFAULT))
        assert metrics.success_rate == expected
        assert metrics.source_success_rate == expected


def test_success_of_a_scene_needs_every_source_and_the_right_count():
    truth = [[(0.0, 0.0, 2.0), (30.0, 0.0, 2.0)]] * 3
    estimate = [
        [(0.0, 0.0, 2.0), (30.0, 0.0, 2.4)],
        [(0.0, 0.0, 2.0), (34.0, 0.0, 2.0)],
        [(0.0, 0.0, 2.0), (30.0, 0.0, 2.0), (-30.0, 0.0, 2.0)],
    ]
    scores = score_scenes(sources_of(estimate, 3), sources_of(truth, 2), DEFAULT)
    assert scores.success.tolist() == [True, False, False]
    assert scores.located.tolist() == [2, 1, 2]


VALUES = st.floats(0, 1e3)
METRICS = st.builds(Metrics, **{field.name: VALUES for field in fields(Metrics)})


@given(METRICS, CONFIGS)
def test_selection_score_is_the_composite_of_the_design(metrics, config):
    expected = (
        (1 - metrics.k_acc)
        + metrics.azimuth_rmse_deg / config.azimuth_norm_deg
        + metrics.elevation_rmse_deg / config.elevation_norm_deg
        + metrics.range_rmse_m / config.range_norm_m
        - metrics.success_rate
    )
    assert selection_score(metrics, config) == pytest.approx(expected)


def test_default_norms_are_5_degrees_and_1_metre():
    values = dict.fromkeys((field.name for field in fields(Metrics)), 0.0)
    metrics = Metrics(
        **values | {"k_acc": 0.25, "azimuth_rmse_deg": 5.0, "elevation_rmse_deg": 10.0, "range_rmse_m": 3.0, "success_rate": 0.5}
    )
    assert selection_score(metrics, Config().metrics) == pytest.approx(0.75 + 1.0 + 2.0 + 3.0 - 0.5)


@pytest.mark.parametrize("name", ["k_acc", "azimuth_rmse_deg", "elevation_rmse_deg", "range_rmse_m", "success_rate"])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_metric_that_is_not_finite_is_an_error_and_never_a_score(name, value):
    metrics = replace(Metrics(**dict.fromkeys((field.name for field in fields(Metrics)), 0.5)), **{name: value})
    with pytest.raises(IncompleteError, match="the composite score could not be computed from Metrics"):
        selection_score(metrics, DEFAULT)


def test_medians_do_not_enter_the_score():
    """They are NaN where nothing was matched, which is no reason to fail."""
    metrics = Metrics(**dict.fromkeys((field.name for field in fields(Metrics)), 0.5))
    missing = replace(metrics, azimuth_median_deg=math.nan, elevation_median_deg=math.nan, range_median_m=math.nan)
    assert selection_score(missing, DEFAULT) == selection_score(metrics, DEFAULT)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_an_estimate_that_is_not_finite_is_an_error(value):
    with pytest.raises(IncompleteError, match="a metric could not be computed: an estimated position is not finite"):
        score_scenes(sources_of([[(value, 0.0, 1.0)]], 1), sources_of([[(0.0, 0.0, 1.0)]], 1), DEFAULT)


def test_no_scenes_and_no_sources_are_errors():
    scores = score_scenes(sources_of([[], []], 2), sources_of([[], []], 2), DEFAULT)
    with pytest.raises(IncompleteError, match="metrics could not be computed from 2 scenes with 0 sources"):
        aggregate(scores)
    with pytest.raises(IncompleteError, match="metrics could not be computed from 0 scenes with 0 sources"):
        aggregate(scores[:0])


@given(scene_pairs(scenes=5), st.integers(1, 4))
def test_metrics_of_joined_batches_are_those_of_the_whole(pair, cut):
    truth, estimate = sources_of(pair[0], 5), sources_of(pair[1], 5)
    whole = score_scenes(estimate, truth, DEFAULT)
    parts = [score_scenes(estimate[piece], truth[piece], DEFAULT) for piece in (slice(0, cut), slice(cut, None))]
    joined = SceneScores.cat(parts)
    assert len(joined) == len(whole) == 5
    assert aggregate(joined).as_dict() == pytest.approx(aggregate(whole).as_dict(), nan_ok=True)
    assert aggregate(whole[:cut]).as_dict() == pytest.approx(aggregate(parts[0]).as_dict(), nan_ok=True)


@given(scene_pairs(), CONFIGS)
def test_ospa_is_symmetric_and_at_most_its_cut_off(pair, config):
    truth, estimate = sources_of(pair[0], 5), sources_of(pair[1], 5)
    there, back = score_scenes(estimate, truth, config).ospa, score_scenes(truth, estimate, config).ospa
    np.testing.assert_allclose(there.numpy(), back.numpy(), atol=1e-9)
    norm, clip, _ = constants(config)
    assert (there <= (clip / norm).max() + 1e-9).all()


@given(st.integers(0, 2**32))
def test_ospa_obeys_the_triangle_inequality(seed):
    rng = np.random.default_rng(seed)
    a, b, c = (sources_of([random_scene(rng, int(rng.integers(0, 4))) for _ in range(6)], 4) for _ in range(3))
    ospa = [score_scenes(first, second, DEFAULT).ospa for first, second in ((a, b), (b, c), (a, c))]
    assert (ospa[2] <= ospa[0] + ospa[1] + 1e-9).all()


@given(st.integers(1, 6), st.integers(0, 2**32))
def test_best_permutation_is_the_optimal_assignment(k, seed):
    cost = np.random.default_rng(seed).uniform(size=(3, k, k))
    found = best_permutation(torch.from_numpy(cost)).numpy()
    for b in range(3):
        assert sorted(found[b]) == list(range(k))
        rows, columns = linear_sum_assignment(cost[b])
        assert cost[b][rows, found[b]].sum() == pytest.approx(cost[b][rows, columns].sum())


@given(st.integers(1, 5), st.integers(0, 2**32), st.sampled_from([0.0, 1e-9, 1.0, 1e6]))
def test_assignment_pairs_as_many_as_there_can_be_at_the_lowest_cost(k, seed, scale):
    rng = np.random.default_rng(seed)
    cost, rows, columns = rng.uniform(size=(k, k)) * scale, rng.uniform(size=k) < 0.6, rng.uniform(size=k) < 0.6
    found = assign(torch.from_numpy(cost)[None], torch.from_numpy(rows)[None], torch.from_numpy(columns)[None])[0].numpy()
    pairs = [(i, j) for i, j in enumerate(found) if rows[i] and columns[j]]
    assert sorted(found) == list(range(k))
    assert len(pairs) == min(rows.sum(), columns.sum())
    if len(pairs) == 0:
        return
    best = linear_sum_assignment(cost[rows][:, columns])
    assert sum(cost[i, j] for i, j in pairs) == pytest.approx(cost[rows][:, columns][best].sum())


@pytest.mark.parametrize("k", [1, 3, 5])
def test_permutations_lists_every_order_once(k):
    assert sorted(map(tuple, permutations(k).tolist())) == sorted(itertools.permutations(range(k)))


def test_single_precision_estimates_are_scored_in_double_precision():
    truth = sources_of([[(30.0, 10.0, 4.0)]], 1)
    scores = score_scenes(truth.to(torch.float32), truth.to(torch.float32), DEFAULT)
    assert scores.clipped_error.dtype == torch.float64
    assert (scores.clipped_error == 0).all()
