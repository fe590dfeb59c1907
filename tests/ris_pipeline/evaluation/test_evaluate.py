"""The evaluation document: its schema, and every figure against a recomputation that shares no code with it."""

from __future__ import annotations

import itertools
import json
import math

import numpy as np
import pytest
import torch

from ris_pipeline.bounds import crb_deterministic, detection_bound, genie_ml, genie_stochastic
from ris_pipeline.errors import IncompleteError
from ris_pipeline.evaluation.counts import RULES
from ris_pipeline.evaluation.evaluate import crb_std, evaluate
from ris_pipeline.evaluation.localize import METHODS, localize
from ris_pipeline.shards import Batch, MemoryScenes

GENIES = {"genie_ml": genie_ml, "genie_stochastic": genie_stochastic}
FIGURES = {
    "k_acc", "k_under", "k_over", "azimuth_rmse_deg", "elevation_rmse_deg", "range_rmse_m", "azimuth_median_deg",
    "elevation_median_deg", "range_median_m", "success_rate", "source_success_rate", "ospa", "median_error_over_crb",
    "median_azimuth_error_over_crb", "median_elevation_error_over_crb", "median_range_error_over_crb",
}  # fmt: skip
CLIP, NORM, LIMIT = np.array([15.0, 15.0, 3.0]), np.array([5.0, 5.0, 1.0]), np.array([3.0, 3.0, 0.5])


def everything(scenes):
    return scenes.batch(torch.arange(len(scenes)))


def position(sources, scene):
    count = int(sources.k[scene])
    table = sources.position[scene, :count].double().numpy().copy()
    table[:, :2] = np.degrees(table[:, :2])
    return table


def matched(true, found):
    """Pairs of the cheapest assignment, by trying every one."""
    few, many = sorted((len(true), len(found)))
    best, pairs = math.inf, []
    for chosen in itertools.permutations(range(many), few):
        candidate = list(zip(range(few), chosen, strict=True)) if len(true) == few else list(zip(chosen, range(few), strict=True))
        cost = sum((((true[i] - found[j]) / NORM) ** 2).sum() for i, j in candidate)
        if cost < best:
            best, pairs = cost, candidate
    return pairs


def by_hand(estimate, truth, std):
    """Every metric, scene by scene, in plain numpy."""
    squared, errors, ratios, located, slots, success, hats = np.zeros(3), [], [], 0, 0, [], []
    for scene in range(len(truth.k)):
        true, found = position(truth, scene), position(estimate, scene)
        pairs = matched(true, found)
        near = 0
        clipped = np.tile(CLIP, (len(true), 1))
        for i, j in pairs:
            error = np.abs(true[i] - found[j])
            clipped[i] = np.minimum(error, CLIP)
            errors.append(error)
            ratios.append(error / std[scene, i])
            near += bool((error <= LIMIT).all())
        squared += (clipped**2).sum(axis=0)
        located += near
        slots += max(len(true), len(found))
        success.append(len(true) == len(found) == near)
        hats.append(np.sign(len(found) - len(true)))
    rmse = np.sqrt(squared / int(truth.k.sum()))
    lower_median = [float(torch.tensor(np.array(errors))[:, axis].median()) for axis in range(3)]
    lower_median_ratio = [float(torch.tensor(np.array(ratios))[:, axis].nanmedian()) for axis in range(3)]
    hats = np.array(hats)
    return {
        "k_acc": (hats == 0).mean(),
        "k_under": (hats < 0).mean(),
        "k_over": (hats > 0).mean(),
        "azimuth_rmse_deg": rmse[0],
        "elevation_rmse_deg": rmse[1],
        "range_rmse_m": rmse[2],
        "azimuth_median_deg": lower_median[0],
        "elevation_median_deg": lower_median[1],
        "range_median_m": lower_median[2],
        "success_rate": np.mean(success),
        "source_success_rate": located / slots,
        "median_error_over_crb": float(torch.tensor(np.array(ratios)).flatten().nanmedian()),
        "median_azimuth_error_over_crb": lower_median_ratio[0],
        "median_elevation_error_over_crb": lower_median_ratio[1],
        "median_range_error_over_crb": lower_median_ratio[2],
    }


def test_the_document_has_the_schema_of_the_design(tiny_document):
    assert tiny_document.keys() == {"schema_version", "scenes", "methods", "bounds", "counting", "bins", "by_k", "example"}
    assert (tiny_document["schema_version"], tiny_document["scenes"]) == (1, 40)
    assert tuple(tiny_document["methods"]) == METHODS
    assert tiny_document["bounds"].keys() == {"genie_ml", "genie_stochastic", "detection"}
    for figures in (*tiny_document["methods"].values(), *(tiny_document["bounds"][name] for name in GENIES)):
        assert figures.keys() == FIGURES | {"scenes", "scenes_per_second", "ci95", "k_confusion"}
        assert figures["scenes"] == 40
        assert figures["ci95"].keys() == FIGURES | {"scenes_per_second"}
        for name in figures["ci95"]:
            low, high = figures["ci95"][name]
            assert low <= high
        assert figures["k_acc"] + figures["k_under"] + figures["k_over"] == pytest.approx(1.0)
        assert figures["scenes_per_second"] > 0
    assert json.loads(json.dumps(tiny_document, allow_nan=False)) == tiny_document


@pytest.mark.parametrize("method", METHODS)
def test_figures_equal_a_recomputation_by_hand(tiny_document, tiny_test, tiny_run, method):
    batch, config = everything(tiny_test), tiny_run.config
    parts = [tiny_test.batch(index) for index in torch.arange(40).split(config.evaluate.batch_size)]
    found = [localize(part.measurements, config, method, tiny_run.trainer.model).sources for part in parts]
    columns = [torch.cat([getattr(part, name) for part in found]) for name in ("azimuth_rad", "elevation_rad", "range_m", "power", "k")]
    expected = by_hand(type(found[0])(*columns), batch.sources, crb_std(batch, config).numpy())
    figures = tiny_document["methods"][method]
    assert {name: figures[name] for name in expected} == pytest.approx(expected, rel=1e-5, abs=1e-6)


@pytest.mark.parametrize("name", ["genie_ml", "genie_stochastic"])
def test_the_genies_are_scored_like_a_method_and_always_count_right(tiny_document, tiny_test, tiny_run, name):
    batch, config = everything(tiny_test), tiny_run.config
    genie = tiny_document["bounds"][name]
    assert (genie["k_acc"], genie["ci95"]["k_acc"]) == (1.0, [1.0, 1.0])
    expected = by_hand(GENIES[name](batch.measurements, batch.sources, config), batch.sources, crb_std(batch, config).numpy())
    assert genie["azimuth_rmse_deg"] == pytest.approx(expected["azimuth_rmse_deg"], rel=1e-3)
    assert genie["azimuth_rmse_deg"] <= min(figures["azimuth_rmse_deg"] for figures in tiny_document["methods"].values())


def test_the_detection_bound_is_the_mean_over_scenes_and_searching_costs(tiny_document, tiny_test, tiny_run):
    batch, detection = everything(tiny_test), tiny_document["bounds"]["detection"]
    known = detection_bound(batch.measurements, batch.sources, tiny_run.config, false_alarm=0.01).correct.mean()
    assert detection["k_acc_known_positions"] == pytest.approx(float(known), abs=1e-6)
    assert 0.0 <= detection["k_acc"] <= detection["k_acc_known_positions"] <= 1.0
    assert detection["false_alarm"] == 0.01


def test_intervals_hold_their_figure_and_shrink_with_more_scenes(tiny_document, tiny_test, tiny_run):
    few = evaluate(MemoryScenes(tiny_test.batch(torch.arange(10))), tiny_run.config, ["network"], tiny_run.trainer.model)
    width = {}
    for count, document in ((40, tiny_document), (10, few)):
        low, high = document["methods"]["network"]["ci95"]["k_acc"]
        assert low <= document["methods"]["network"]["k_acc"] <= high
        width[count] = high - low
    assert 0.0 < width[40] < width[10]


# Counting.


def test_confusions_add_up_to_the_figures(tiny_document, tiny_test):
    truth = everything(tiny_test).sources.k
    tables = [*tiny_document["methods"].values(), tiny_document["bounds"]["genie_ml"], *tiny_document["counting"].values()]
    for figures in tables:
        table = figures["k_confusion"]
        scenes = np.array(table["scenes"])
        assert (table["k"], table["k_hat"]) == ([1, 2, 3], [0, 1, 2, 3])
        assert scenes.sum(axis=1).tolist() == [int((truth == k).sum()) for k in (1, 2, 3)]
        k, k_hat = np.array(table["k"])[:, None], np.array(table["k_hat"])
        for name, kept in (("k_acc", k == k_hat), ("k_under", k_hat < k), ("k_over", k_hat > k)):
            assert figures[name] == pytest.approx((scenes * kept).sum() / 40)
            low, high = figures["ci95"][name]
            assert low <= figures[name] <= high


def test_rules_that_methods_use_count_as_the_methods_do(tiny_document):
    counting, methods = tiny_document["counting"], tiny_document["methods"]
    assert tuple(counting) == tuple(RULES)
    for rule, method in (("stochastic_likelihood", "ml"), ("k_head_gated", "network"), ("eigenvalue", "music")):
        assert counting[rule]["k_confusion"] == methods[method]["k_confusion"], rule


def test_rules_without_their_method_are_left_out(tiny_test, tiny_run):
    config = tiny_run.config.replaced(evaluate={"bootstrap": 1})
    document = evaluate(MemoryScenes(tiny_test.batch(torch.arange(4))), config, ["music"])
    assert set(document["counting"]) == {rule for rule in RULES if rule == "eigenvalue" or rule.endswith("_covariance")}


# The example.


def test_the_example_is_a_scene_with_its_truth_and_its_estimates(tiny_document, tiny_test, tiny_run):
    shown = tiny_document["example"]
    batch = tiny_test.batch(torch.tensor([shown["scene"]]))
    assert shown["snr_db"] == pytest.approx(float(batch.measurements.snr_db), abs=0.01)
    listed = np.array([list(source.values()) for source in shown["truth"]])
    np.testing.assert_allclose(listed, position(batch.sources, 0), rtol=1e-5)
    assert tuple(shown["estimates"]) == METHODS
    found = localize(batch.measurements, tiny_run.config, "ml").sources
    listed = np.array([list(source.values()) for source in shown["estimates"]["ml"]]).reshape(-1, 3)
    np.testing.assert_allclose(listed, position(found, 0), rtol=1e-3)


# Bins.


def test_bins_cover_every_scene_once_per_method(tiny_document):
    for method in (*METHODS, *GENIES, "crb"):
        entries = [entry for entry in tiny_document["bins"] if entry["method"] == method]
        over_all = [entry for entry in entries if entry["k"] is None]
        assert sum(entry["scenes"] for entry in over_all) == 40
        assert sum(entry["scenes"] for entry in entries if entry["k"] is not None) == 40
        edges = [entry["snr_db"] for entry in over_all]
        assert edges[0][0] == -5.0
        assert edges[-1][1] == 20.0
        assert all(high == low for (_, high), (low, _) in itertools.pairwise(edges))
        for entry in over_all:
            parts = [e["scenes"] for e in entries if e["k"] is not None and e["snr_db"] == entry["snr_db"]]
            assert sum(parts) == entry["scenes"]


def test_figures_by_k_are_those_of_the_scenes_with_that_k(tiny_document, tiny_test, tiny_run):
    truth = everything(tiny_test).sources.k
    entries = {(entry["k"], entry["method"]): entry for entry in tiny_document["by_k"]}
    assert entries.keys() == set(itertools.product((1, 2, 3), (*METHODS, *GENIES, "crb", "detection")))
    scenes = MemoryScenes(tiny_test.batch((truth == 2).nonzero()[:, 0]))
    config = tiny_run.config.replaced(evaluate={"bootstrap": 1})
    alone = evaluate(scenes, config, ["network"], tiny_run.trainer.model)
    for name in ("k_acc", "azimuth_rmse_deg", "success_rate", "ospa"):
        assert entries[2, "network"][name] == pytest.approx(alone["methods"]["network"][name], rel=1e-4), name
    assert entries[2, "detection"]["k_acc"] == pytest.approx(alone["bounds"]["detection"]["k_acc"])


def test_the_ceiling_of_the_count_stands_in_every_bin(tiny_document):
    """Their mean over scenes is the ceiling of all."""
    for key in ("k_acc", "k_acc_known_positions"):
        entries = [entry for entry in tiny_document["bins"] if entry["method"] == "detection" and entry["k"] is not None]
        mean = sum(entry["scenes"] * entry[key] for entry in entries) / 40
        assert mean == pytest.approx(tiny_document["bounds"]["detection"][key], abs=1e-9)
    assert len({entry["k_acc"] for entry in entries}) > 1


def test_bins_are_the_figures_of_their_scenes(tiny_document, tiny_test, tiny_run):
    """A bin equals the evaluation of its scenes alone."""
    batch = everything(tiny_test)
    entry = next(e for e in tiny_document["bins"] if e["method"] == "network" and e["k"] is None and e["snr_db"] == [5.0, 10.0])
    inside = ((batch.measurements.snr_db >= 5.0) & (batch.measurements.snr_db < 10.0)).nonzero()[:, 0]
    assert len(inside) == entry["scenes"] > 0
    alone = evaluate(MemoryScenes(tiny_test.batch(inside)), tiny_run.config, ["network"], tiny_run.trainer.model)["methods"]["network"]
    for name in ("k_acc", "azimuth_rmse_deg", "range_rmse_m", "source_success_rate", "median_error_over_crb"):
        assert entry[name] == pytest.approx(alone[name], rel=1e-4), name


def test_the_bound_of_a_bin_is_in_the_units_of_the_figures(tiny_document, tiny_test, tiny_run):
    batch = everything(tiny_test)
    bound = crb_deterministic(batch.measurements, batch.sources, batch.symbols, tiny_run.config)
    variance = bound.diagonal(dim1=-2, dim2=-1).unflatten(-1, (-1, 3)).numpy()
    inside = ((batch.measurements.snr_db >= 5.0) & (batch.measurements.snr_db < 10.0)).numpy()
    mask = batch.sources.mask.numpy() & inside[:, None]
    std_deg = np.minimum(np.degrees(np.sqrt(variance[..., 0][mask])), 15.0)
    entry = next(e for e in tiny_document["bins"] if e["method"] == "crb" and e["k"] is None and e["snr_db"] == [5.0, 10.0])
    assert entry["azimuth_rmse_deg"] == pytest.approx(float(np.sqrt((std_deg**2).mean())), rel=1e-4)


def test_methods_that_search_may_be_given_fewer_scenes(tiny_test, tiny_run, tiny_document):
    """Each method states how many scenes it was scored on, in total and per bin; the other methods keep all of theirs."""
    config = tiny_run.config.replaced(evaluate={"search_scenes": 10})
    document = evaluate(tiny_test, config, ["ml", "network"], tiny_run.trainer.model)
    assert {name: figures["scenes"] for name, figures in document["methods"].items()} == {"ml": 10, "network": 40}
    alone = evaluate(MemoryScenes(tiny_test.batch(torch.arange(10))), tiny_run.config, ["ml"])
    for name in ("k_acc", "azimuth_rmse_deg", "median_error_over_crb"):
        assert document["methods"]["ml"][name] == pytest.approx(alone["methods"]["ml"][name], rel=1e-6)
        assert document["methods"]["network"][name] == pytest.approx(tiny_document["methods"]["network"][name], rel=1e-6)
    assert document["counting"]["penalised_likelihood"]["scenes"] == 10
    assert document["counting"]["mdl_sample_covariance"]["scenes"] == 40
    counted = {
        name: sum(entry["scenes"] for entry in document["bins"] if entry["method"] == name and entry["k"] is None)
        for name in ("ml", "network", "genie_ml", "crb")
    }
    assert counted == {"ml": 10, "network": 40, "genie_ml": 40, "crb": 40}


# Truth.


class Recording:
    """Scenes whose labels can be exchanged."""

    def __init__(self, scenes, order):
        self.scenes, self.order = scenes, order

    def __len__(self):
        return len(self.scenes)

    def batch(self, index):
        own, other = self.scenes.batch(index), self.scenes.batch(self.order[index])
        return Batch(own.measurements, other.sources, other.symbols)


@pytest.mark.parametrize("method", METHODS)
def test_estimates_do_not_change_with_the_labels(tiny_test, tiny_run, monkeypatch, method):
    """The labels of other scenes: figures get worse, estimates stay, bit for bit."""
    from ris_pipeline.evaluation import evaluate as module

    found = []

    def watched(*arguments):
        estimates = localize(*arguments)
        found.append(estimates.sources.position)
        return estimates

    monkeypatch.setattr(module, "localize", watched)
    config = tiny_run.config.replaced(evaluate={"bootstrap": 1})
    scenes = MemoryScenes(tiny_test.batch(torch.arange(12)))
    orders = (torch.arange(12), torch.arange(12).flip(0))
    documents = [evaluate(Recording(scenes, order), config, [method], tiny_run.trainer.model) for order in orders]
    half = len(found) // 2
    assert half > 0
    assert all(torch.equal(one, two) for one, two in zip(found[:half], found[half:], strict=True))
    assert documents[0]["methods"][method]["ospa"] != documents[1]["methods"][method]["ospa"]


def test_an_evaluation_is_reproducible_but_for_its_speed(tiny_test, tiny_run, tiny_document):
    again = evaluate(tiny_test, tiny_run.config, ["network"], tiny_run.trainer.model)["methods"]["network"]
    before = tiny_document["methods"]["network"]
    assert {k: v for k, v in again.items() if k not in ("scenes_per_second", "ci95")} == {
        k: v for k, v in before.items() if k not in ("scenes_per_second", "ci95")
    }
    assert {k: v for k, v in again["ci95"].items() if k != "scenes_per_second"} == {
        k: v for k, v in before["ci95"].items() if k != "scenes_per_second"
    }


def test_progress_reaches_the_end_for_every_method_and_bound(tiny_test, tiny_run):
    last = {}
    config = tiny_run.config.replaced(evaluate={"bootstrap": 1})
    evaluate(tiny_test, config, ["network", "music"], tiny_run.trainer.model, lambda name, done: last.update({name: done}))
    assert last == dict.fromkeys(("network", "music", *GENIES, "bounds", "counting"), 40)


def test_estimates_that_are_not_finite_are_an_error_and_no_figure(tiny_test, tiny_run, monkeypatch):
    from ris_pipeline.evaluation import evaluate as module

    def broken(*arguments):
        estimates = localize(*arguments)
        estimates.sources.range_m[:] = math.nan
        return estimates

    monkeypatch.setattr(module, "localize", broken)
    with pytest.raises(IncompleteError, match="an estimated position is not finite"):
        evaluate(tiny_test, tiny_run.config, ["network"], tiny_run.trainer.model)
