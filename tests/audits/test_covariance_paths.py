"""PATH001 to PATH008: every saboteur of a covariance path is caught, on the path where it acts, and the clean tree passes."""

from __future__ import annotations

import json

import pytest
import torch

import ris_pipeline.evaluation.localize as localization
from audits import covariance_paths
from audits.runtime import path_audit
from audits.runtime.watched import CASES, Case
from ris_pipeline import losses
from ris_pipeline.arrays import Sources
from ris_pipeline.config import Config
from ris_pipeline.covariance import FactoredCovariance, build_effective_covariance
from ris_pipeline.model import HybridModel, network, save_model
from ris_pipeline.shards import generate
from ris_pipeline.training import Trainer

CONFIGURED = Case("as configured")
HYBRID = CASES[0]
NO_SAMPLE = Case("no sample", sample=False)


@pytest.fixture(scope="module")
def trial():
    with path_audit._trial(None, None) as made:
        yield made


@pytest.fixture
def failures(trial, monkeypatch):
    """Run one case, and say which paths failed which checks."""

    def run(case=CONFIGURED):
        monkeypatch.setattr(path_audit, "CASES", (case,))
        report = path_audit.audit(trial)
        return {(result.code, result.subject.partition(" (")[0]) for result in report.failures}

    return run


def scaled(covariance, factor):
    return FactoredCovariance(covariance.factor * factor**0.5, covariance.diagonal * factor)


def test_the_clean_tree_passes(tmp_path, capsys):
    assert covariance_paths.main([f"--format=json={tmp_path / 'paths.json'}", "--format=text"]) == 0
    text = capsys.readouterr().out
    assert "MUSIC, localize hybrid" in text
    assert "trace error" in text
    report = json.loads((tmp_path / "paths.json").read_text())
    assert report["passed"]
    assert {result["code"] for result in report["results"]} == {f"PATH00{i}" for i in range(1, 9)}
    assert len(report["details"]) == sum(8 + 2 * case.hybrid for case in CASES)
    assert min(report["facts"]["scenes with K = 1..K_max"]) >= 1
    lowest, highest = report["facts"]["snr_db (lowest, highest)"]
    assert lowest < 5.0
    assert highest > 15.0


def test_data_and_weights_of_a_folder_are_used(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(path_audit, "CASES", (CONFIGURED, NO_SAMPLE))
    config = Config().replaced(data={"n_train": 2, "n_val": 12, "n_test": 2})
    generate(config, tmp_path / "data")
    save_model(tmp_path / "weights.safetensors", HybridModel(config), config, {})
    arguments = ["--data", str(tmp_path / "data"), "--weights", str(tmp_path / "weights.safetensors"), "--format=json"]
    assert covariance_paths.main(arguments) == 0
    assert json.loads(capsys.readouterr().out)["facts"]["scenes"] <= 12


def test_a_folder_without_samples_is_watched_too(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(path_audit, "CASES", (CONFIGURED, NO_SAMPLE))
    generate(Config().replaced(data={"n_train": 2, "n_val": 8, "n_test": 2, "store_sample": False}), tmp_path)
    assert covariance_paths.main(["--data", str(tmp_path), "--format=json"]) == 0
    assert {row["case"] for row in json.loads(capsys.readouterr().out)["details"]} == {"no sample"}


def test_weights_of_another_surface_are_refused(tmp_path, capsys):
    small = Config().replaced(array={"n_h": 8}, data={"n_train": 2, "n_val": 2, "n_test": 2})
    generate(Config().replaced(data={"n_train": 2, "n_val": 2, "n_test": 2}), tmp_path / "data")
    save_model(tmp_path / "weights.safetensors", HybridModel(small), small, {})
    arguments = ["--data", str(tmp_path / "data"), "--weights", str(tmp_path / "weights.safetensors")]
    assert covariance_paths.main(arguments) == 2
    assert "was trained with array" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["--data", "nowhere"], ["--weights", "nowhere.safetensors"]])
def test_missing_input_is_one_sentence(arguments, capsys):
    assert covariance_paths.main(arguments) == 2
    message = capsys.readouterr().err
    assert message.startswith("python -m audits.covariance_paths: ")
    assert message.count("\n") == 1


def test_shrinkage_twice_in_the_network_is_caught(failures, monkeypatch):
    clean = network.build_effective_covariance
    monkeypatch.setattr(
        network,
        "build_effective_covariance",
        lambda predicted, sample=None, **options: clean(
            clean(predicted, sample, **options), shrinkage=options["shrinkage"], snr_db=options["snr_db"]
        ),
    )
    found = failures(HYBRID)
    for path in ("K-head, training", "K-head, localize network", "eigenvalue rule, localize network", "MUSIC, localize hybrid"):
        assert ("PATH005", path) in found
    assert ("PATH006", "loss, prediction against K-head, training") in found
    assert ("PATH005", "loss, prediction") not in found


def test_a_trace_of_2n_is_caught(failures, monkeypatch):
    clean = network.build_effective_covariance
    monkeypatch.setattr(network, "build_effective_covariance", lambda *args, **options: scaled(clean(*args, **options), 2.0))
    assert {("PATH003", "K-head, training"), ("PATH003", "K-head, localize network")} <= failures()


def test_an_unnormalised_target_is_caught(failures, monkeypatch):
    clean = losses.covariance_nmse
    monkeypatch.setattr(losses, "covariance_nmse", lambda predicted, truth: clean(predicted, scaled(truth, 0.5)))
    assert ("PATH003", "loss, target") in failures()


def test_a_target_that_was_never_built_is_caught(failures, monkeypatch):
    clean = losses.build_effective_covariance
    built = []

    def skip_the_second(covariance, *args, **options):
        built.append(1)
        return clean(covariance, *args, **options) if len(built) % 2 else FactoredCovariance(covariance.factor * 1.5, covariance.diagonal)

    monkeypatch.setattr(losses, "build_effective_covariance", skip_the_second)
    found = failures()
    assert {("PATH003", "loss, target"), ("PATH005", "loss, target"), ("PATH008", "loss, target")} <= found
    assert ("PATH005", "loss, prediction") not in found


def test_a_target_that_is_not_shrunk_is_caught(failures, monkeypatch):
    clean = losses.build_effective_covariance

    def without_shrinkage_for_the_truth(covariance, **options):
        needs = covariance.factor.requires_grad
        return clean(covariance, **(options if needs else {**options, "shrinkage": None}))

    monkeypatch.setattr(losses, "build_effective_covariance", without_shrinkage_for_the_truth)
    found = failures()
    assert ("PATH005", "loss, target") in found
    assert ("PATH006", "loss, target against training blend, truth, loaded and shrunk") in found


def test_r_r_h_for_the_k_head_is_caught(failures, monkeypatch):
    clean = network.CountHead.forward
    monkeypatch.setattr(
        network.CountHead,
        "forward",
        lambda self, covariance, *rest: clean(self, FactoredCovariance.from_factor(covariance.dense()), *rest),
    )
    found = failures()
    assert {("PATH003", "K-head, training"), ("PATH005", "K-head, training"), ("PATH008", "K-head, training")} <= found


def test_music_fed_the_bare_sample_is_caught(failures, monkeypatch):
    def bare(measurements, config):
        return FactoredCovariance.from_factor(measurements.sample_factor)

    monkeypatch.setattr(localization, "sample_covariance", bare)
    assert {(code, "MUSIC, localize music") for code in ("PATH003", "PATH005", "PATH008")} <= failures()


def test_music_that_is_not_called_is_a_failure(failures, monkeypatch):
    def own(covariance, k, config):
        zero = torch.zeros(len(k), config.scene.k_max, 3)
        return Sources.from_position(zero, zero[..., 0], k)

    monkeypatch.setattr(localization, "music", own)
    assert ("PATH001", "MUSIC, localize music") in failures()


def test_half_of_the_scenes_is_not_enough(failures, monkeypatch):
    clean = localization.music

    def half(covariance, k, config):
        some = clean(covariance[: len(k) // 2], k[: len(k) // 2], config)
        index = torch.arange(len(k)) % (len(k) // 2)
        return some[index]

    monkeypatch.setattr(localization, "music", half)
    assert ("PATH001", "MUSIC, localize music") in failures()


def test_an_object_that_is_no_covariance_is_caught(failures, monkeypatch):
    class Dense:
        def __init__(self, covariance):
            self.covariance = covariance
            self.n = covariance.n

        def eigenvalues(self):
            return self.covariance.eigenvalues()

    clean = network.CountHead.forward.__wrapped__
    monkeypatch.setattr(network.CountHead, "forward", lambda self, covariance, *rest: clean(self, Dense(covariance), *rest))
    assert ("PATH001", "K-head, training") in failures()


def test_a_detached_prediction_is_caught(failures, monkeypatch):
    clean = Trainer.blend
    monkeypatch.setattr(Trainer, "blend", lambda self, factor, sample: clean(self, factor.detach(), sample))
    found = failures()
    assert {("PATH007", "training blend, prediction"), ("PATH007", "loss, prediction")} <= found


def test_a_gradient_through_the_sample_is_caught(failures, monkeypatch):
    monkeypatch.setattr(FactoredCovariance, "detach", lambda self: self)
    assert ("PATH007", "sample factor") in failures()


def test_a_target_with_gradient_is_caught(failures, monkeypatch):
    clean = Trainer.blend

    def attached(self, factor, sample):
        return clean(self, factor if factor.requires_grad else factor.clone().requires_grad_(), sample)

    monkeypatch.setattr(Trainer, "blend", attached)
    assert {("PATH007", "loss, target"), ("PATH007", "training blend, truth")} <= failures()


def test_a_blend_that_inference_skips_is_caught(failures, monkeypatch):
    clean = HybridModel._effective

    def effective(self, factor, measurements):
        if self.training:
            return clean(self, factor, measurements)
        bare = type(measurements)(**{**vars(measurements), "sample_factor": None})
        return clean(self, factor, bare)

    monkeypatch.setattr(HybridModel, "_effective", effective)
    found = failures()
    assert ("PATH005", "K-head, localize network") in found
    assert ("PATH006", "K-head, localize network against K-head, training") in found
    assert ("PATH005", "K-head, training") not in found


def test_another_weight_in_the_training_blend_is_caught(failures, monkeypatch):
    def blend(self, factor, sample):
        covariances = (FactoredCovariance.from_factor(factor), FactoredCovariance.from_factor(sample))
        return build_effective_covariance(*covariances, beta=0.31)

    monkeypatch.setattr(Trainer, "blend", blend)
    found = failures()
    assert {("PATH005", "training blend, prediction"), ("PATH005", "training blend, truth"), ("PATH005", "loss, target")} <= found


def test_a_wrong_snr_is_caught(failures, monkeypatch):
    clean = network.snr_of
    monkeypatch.setattr(network, "snr_of", lambda measurements: clean(measurements) + 1.0)
    assert ("PATH005", "K-head, training") in failures()


def test_a_wrong_steering_vector_in_the_target_is_caught(failures, monkeypatch):
    from ris_pipeline.training import loop

    clean = loop.true_factor
    monkeypatch.setattr(loop, "true_factor", lambda array, sources: clean(array, sources).conj().resolve_conj())
    assert ("PATH005", "training blend, truth") in failures()


def test_a_stand_in_for_a_missing_sample_is_caught(failures, monkeypatch):
    clean = Trainer.blend

    def blend(self, factor, sample):
        return clean(self, factor, factor.detach().new_ones(factor.shape) if sample is None else sample)

    monkeypatch.setattr(Trainer, "blend", blend)
    assert ("PATH005", "training blend, prediction") in failures(NO_SAMPLE)


def test_values_that_are_not_finite_are_caught(failures, monkeypatch):
    clean = losses.covariance_nmse

    def spoiled(predicted, truth):
        return clean(predicted, FactoredCovariance(truth.factor, truth.diagonal * float("nan")))

    monkeypatch.setattr(losses, "covariance_nmse", spoiled)
    assert ("PATH002", "loss, target") in failures()


def test_a_negative_eigenvalue_is_caught(failures, monkeypatch):
    clean = localization.music
    monkeypatch.setattr(
        localization,
        "music",
        lambda covariance, k, config: clean(FactoredCovariance(covariance.factor, covariance.diagonal - 1.0), k, config),
    )
    assert ("PATH004", "MUSIC, localize music") in failures()


def test_a_complex_diagonal_is_not_hermitian(trial):
    watched = path_audit.watch(CONFIGURED, trial.trainer(), path_audit.pick(trial))
    (seen,) = [item for item in path_audit.look(watched) if item.path.name == "loss, target"]
    matrix = seen.matrix.copy()
    matrix[:, 0, 0] += 1j
    skew = type(seen)(watched, seen.path, seen.received, matrix, "")
    assert "PATH002" in {result.code for result in path_audit.judge(skew, path_audit.measure(skew))}


def test_nothing_observed_fails_everything(failures, monkeypatch):
    monkeypatch.setattr(path_audit, "watch", _unwatched)
    found = failures()
    assert ("PATH001", "loss, target") in found
    assert ("PATH006", "all paths") in found
    assert ("PATH007", "loss, prediction") in found


def _unwatched(case, trainer, batch):
    from audits.runtime.observe import Observer
    from audits.runtime.watched import TARGETS, Watched

    return Watched(case, trainer.config, batch, Observer(TARGETS), {name: Observer(TARGETS) for name in ("network", "music")}, None)
