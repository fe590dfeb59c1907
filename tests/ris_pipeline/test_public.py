"""What the package promises to others: its names, its version, and what the audits are told to prove."""

from __future__ import annotations

import importlib
import tomllib
from importlib.metadata import entry_points, version
from pathlib import Path

import pytest

import ris_pipeline

ROOT = Path(ris_pipeline.__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
AUDITS = PROJECT["tool"]["audits"]


def resolve(reference):
    """The object behind ``module:qualified.name``."""
    module, _, name = reference.partition(":")
    found = importlib.import_module(module)
    for part in name.split(".") if name else ():
        found = getattr(found, part)
    return found


def test_the_public_names_are_these():
    assert ris_pipeline.__all__ == [
        "Config",
        "FactoredCovariance",
        "FitResult",
        "HybridModel",
        "Measurements",
        "Sources",
        "Trainer",
        "build_effective_covariance",
        "evaluate",
        "generate",
        "load_config",
        "load_model",
        "localize",
        "simulate",
        "steering_vector",
    ]


@pytest.mark.parametrize("name", ris_pipeline.__all__)
def test_every_public_name_is_there_and_documented(name):
    assert getattr(ris_pipeline, name).__doc__


def test_the_version_is_that_of_the_project():
    assert ris_pipeline.__version__ == PROJECT["project"]["version"] == version("ris-pipeline")


def test_the_commands_are_installed():
    scripts = {point.name: point for point in entry_points(group="console_scripts") if point.name in ("ris", "ris-audit")}
    assert {name: point.value for name, point in scripts.items()} == PROJECT["project"]["scripts"]
    assert all(callable(point.load()) for point in scripts.values())


def test_the_hot_path_covers_forward_loss_backward_and_step():
    assert AUDITS["hot-path"]["entry-points"] == [
        "ris_pipeline.training.loop:Trainer.train_step",
        "ris_pipeline.model.network:HybridModel.forward",
        "ris_pipeline.losses:training_loss",
    ]
    assert AUDITS["hot-path"]["offline-modules"] == ["ris_pipeline.back_projection"]


def test_the_consumers_of_a_covariance_are_these():
    assert AUDITS["covariance"]["consumers"] == [
        "ris_pipeline.model.network:CountHead.forward",
        "ris_pipeline.losses:covariance_nmse",
        "ris_pipeline.losses:training_loss",
        "ris_pipeline.estimators.beamformers:bartlett",
        "ris_pipeline.estimators.beamformers:mvdr",
        "ris_pipeline.estimators.modified_music:modified_music",
        "ris_pipeline.estimators.music:music",
        "ris_pipeline.estimators.music:music_angles_first",
        "ris_pipeline.evaluation.localize:localize",
    ]


def test_everything_the_audits_are_told_to_prove_exists():
    references = [
        *AUDITS["packages"],
        *AUDITS["hot-path"]["entry-points"],
        *AUDITS["hot-path"]["offline-modules"],
        AUDITS["covariance"]["builder"],
        *AUDITS["covariance"]["consumers"],
        AUDITS["geometry"]["steering"],
        *AUDITS["hpo"]["modules"],
        AUDITS["hpo"]["objective"],
        AUDITS["selection"]["trainer"],
    ]
    found = [resolve(reference) for reference in references]
    assert all(callable(thing) or hasattr(thing, "__path__") or hasattr(thing, "__file__") for thing in found)
    assert AUDITS["selection"]["primary-key"] in type(ris_pipeline.Config().train).model_fields
