"""Weights on disk: what is saved comes back, and nothing else is let in."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from ris_pipeline.errors import CheckpointError, ConfigError
from ris_pipeline.model import HybridModel, load_model, save_model
from ris_pipeline.model.weights import ARCHITECTURE, load_tensors, save_tensors


@pytest.fixture
def saved(tiny_config, tmp_path):
    model = HybridModel(tiny_config, torch.Generator().manual_seed(9)).eval()
    save_model(tmp_path / "best.safetensors", model, tiny_config, {"objective": 1.25, "note": "ein Ton — né"})
    return tmp_path / "best.safetensors", model


def test_weights_configuration_and_record_come_back(saved, tiny_config, tiny_batch):
    path, model = saved
    loaded = load_model(path)
    assert loaded.config == tiny_config
    assert (loaded.record["objective"], loaded.record["note"], loaded.path) == (1.25, "ein Ton — né", path)
    assert not loaded.model.training
    one, two = model.state_dict(), loaded.model.state_dict()
    assert one.keys() == two.keys()
    assert all(torch.equal(one[name], two[name]) for name in one)
    with torch.no_grad():
        assert torch.equal(model(tiny_batch.measurements).k_logits, loaded.model(tiny_batch.measurements).k_logits)


def test_a_run_folder_stands_for_its_best_weights(saved):
    path, _ = saved
    assert load_model(path.parent).path == path


def test_the_record_is_readable_beside_the_weights_and_nothing_else_is_left(saved):
    path, _ = saved
    assert sorted(entry.name for entry in path.parent.iterdir()) == ["best.json", "best.safetensors"]
    record = json.loads((path.parent / "best.json").read_text(encoding="utf-8"))
    assert (record["architecture"], record["objective"]) == (ARCHITECTURE, 1.25)


def test_the_weights_of_the_package_are_there(tiny_config):
    checkpoint = load_model(Path("default"))
    assert math.isfinite(checkpoint.record["objective"])
    assert checkpoint.record["val_primary"] == "k_loc"
    assert checkpoint.config.data_part() | {"data": None} == type(tiny_config)().data_part() | {"data": None}


def tamper(path, change):
    tensors, record = load_tensors(path)
    change(tensors, record)
    save_tensors(path, tensors, record)


def test_weights_of_another_architecture_are_refused(saved):
    path, _ = saved
    tamper(path, lambda tensors, record: record.update(architecture="hybrid-0"))
    with pytest.raises(CheckpointError, match=r"best\.safetensors has architecture 'hybrid-0', expected 'hybrid-2'$"):
        load_model(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("score_head.bias"), r"is of another architecture: expected score_head\.bias of shape \(1,\), got None$"),
        (lambda t: t.update(extra=torch.zeros(2)), r"is of another architecture: expected extra of shape None, got \(2,\)$"),
        (
            lambda t: t.update({"score_head.bias": torch.zeros(2)}),
            r"is of another architecture: expected score_head\.bias of shape \(1,\), got \(2,\)$",
        ),
        (lambda t: t["score_head.weight"].fill_(math.nan), r"is damaged: score_head\.weight is not finite$"),
        (lambda t: t["score_head.weight"].view(-1)[3:4].fill_(math.inf), r"is damaged: score_head\.weight is not finite$"),
    ],
)
def test_every_name_shape_and_value_must_agree(saved, change, message):
    path, _ = saved
    tamper(path, lambda tensors, record: change(tensors))
    with pytest.raises(CheckpointError, match=message):
        load_model(path)


@pytest.mark.parametrize("keep", [0, 4, 100, -1])
def test_truncated_weights_are_refused(saved, keep):
    path, _ = saved
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(CheckpointError, match=r"best\.safetensors is damaged or not a safetensors file: "):
        load_model(path)


def test_foreign_files_are_refused(tmp_path):
    save_file({"weights": torch.zeros(3)}, tmp_path / "a.safetensors")
    with pytest.raises(CheckpointError, match=r"a\.safetensors is not a checkpoint of this program: it carries no record$"):
        load_model(tmp_path / "a.safetensors")
    save_file({"weights": torch.zeros(3)}, tmp_path / "b.safetensors", {"record": "not JSON"})
    with pytest.raises(CheckpointError, match=r"b\.safetensors is not a checkpoint of this program: it carries no record$"):
        load_model(tmp_path / "b.safetensors")
    save_file({"weights": torch.zeros(3)}, tmp_path / "c.safetensors", {"record": "[]"})
    with pytest.raises(CheckpointError, match=r"c\.safetensors is not a checkpoint of this program: it carries no record$"):
        load_model(tmp_path / "c.safetensors")
    torch.save({"weights": torch.zeros(3)}, tmp_path / "d.pt")
    with pytest.raises(CheckpointError, match=r"d\.pt is damaged or not a safetensors file: "):
        load_model(tmp_path / "d.pt")


def test_missing_weights_are_refused(tmp_path):
    with pytest.raises(CheckpointError, match=r"^expected a checkpoint, got .*best\.safetensors, which is not a file$"):
        load_model(tmp_path)
    with pytest.raises(CheckpointError, match=r"^expected a checkpoint, got .*nothing, which is not a file$"):
        load_model(tmp_path / "nothing")


def test_a_record_with_an_unknown_key_is_refused(saved):
    path, _ = saved
    tamper(path, lambda tensors, record: record["config"]["model"].update(chanels=8))
    with pytest.raises(
        ConfigError, match=r"unknown configuration key 'model\.chanels' in .*best\.safetensors; did you mean 'model\.channels'\?$"
    ):
        load_model(path)


# Another configuration.


def test_the_covariance_options_are_those_asked_for_and_the_rest_stays_as_trained(saved, tiny_config):
    checkpoint = load_model(saved[0])
    wanted = tiny_config.replaced(covariance={"beta": 0.55}, train={"seed": 7})
    model = checkpoint.network_for(wanted, "the test")
    assert model.config.covariance == wanted.covariance
    assert model.config.train.seed == 0
    assert not model.training
    assert all(torch.equal(t, checkpoint.model.state_dict()[n]) for n, t in model.state_dict().items())
    assert checkpoint.model.config.covariance.beta == 0.3


@pytest.mark.parametrize(
    ("section", "key", "value"), [("array", "n_h", 8), ("array", "bs_antennas", 4), ("codes", "bits", 2), ("scene", "k_max", 2)]
)
def test_weights_of_another_physics_are_refused_by_name(saved, tiny_config, section, key, value):
    checkpoint = load_model(saved[0])
    old = getattr(getattr(tiny_config, section), key)
    with pytest.raises(
        CheckpointError, match=rf"is of another architecture: it was trained with {section}\.{key} = {old}, here has {value}$"
    ):
        checkpoint.network_for(tiny_config.replaced(**{section: {key: value}}), "here")
