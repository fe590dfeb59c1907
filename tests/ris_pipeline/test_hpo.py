"""The search: sizes from the manifest, the value that training selected, the study's direction, and what a user gets out of it."""

from __future__ import annotations

import logging
import shutil
from dataclasses import dataclass

import optuna
import pytest

from ris_pipeline import hpo
from ris_pipeline.config import load_config
from ris_pipeline.errors import ConfigError, DataError, DivergedError, IncompleteError
from ris_pipeline.hpo import FINISHED, run_study, subset_sizes, suggest
from ris_pipeline.metrics import Metrics
from ris_pipeline.shards import generate
from ris_pipeline.training import EpochReport, FitResult, Trainer

STATE = optuna.trial.TrialState


@pytest.fixture(autouse=True)
def quiet():
    """Optuna's own log goes nowhere."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    yield
    optuna.logging.set_verbosity(before)


def study_in(folder, name="ris"):
    return optuna.load_study(study_name=name, storage=f"sqlite:///{folder / 'study.db'}")


@dataclass(frozen=True)
class Fitted:
    """What one trial really trained with, and what its training returned."""

    config: object
    n_train: int
    n_val: int
    result: FitResult


@dataclass(frozen=True)
class Search:
    """A finished study of real trials."""

    folder: object
    base: object
    sha256_before: str
    result: object
    fitted: list
    study: optuna.Study


@pytest.fixture(scope="module")
def searched(tiny_config, tiny_data, tiny_manifest, tmp_path_factory):
    """Two real trials on a quarter of the tiny data, from a base configuration that selects by the loss."""
    fitted = []

    class Watched(Trainer):
        def fit(self):
            result = super().fit()
            fitted.append(Fitted(self.config, len(self.train), len(self.val), result))
            return result

    folder = tmp_path_factory.mktemp("hpo")
    base = tiny_config.replaced(train={"val_primary": "loss", "patience": 1}, hpo={"epochs": 2})
    before = base.sha256()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hpo, "Trainer", Watched)
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        result = run_study(base, tiny_data, tiny_manifest, folder)
    return Search(folder, base, before, result, fitted, study_in(folder))


# A real study.


def test_sizes_are_the_fraction_of_the_manifest_and_are_what_a_trial_trains_on(searched, tiny_manifest):
    expected = tuple(round(0.25 * tiny_manifest.splits[split].scenes) for split in ("train", "val"))
    assert expected == (64, 16)
    assert [(trial.n_train, trial.n_val) for trial in searched.fitted] == [expected] * 2
    assert [(t.user_attrs["n_train"], t.user_attrs["n_val"]) for t in searched.study.trials] == [expected] * 2


def test_the_value_of_a_trial_is_the_objective_that_fit_returned(searched):
    assert [trial.value for trial in searched.study.trials] == [trial.result.objective for trial in searched.fitted]
    assert [trial.user_attrs["metrics"] for trial in searched.study.trials] == [t.result.metrics.as_dict() for t in searched.fitted]


def test_the_study_minimizes_and_returns_its_lowest_trial(searched):
    assert searched.study.direction == optuna.study.StudyDirection.MINIMIZE
    values = [trial.result.objective for trial in searched.fitted]
    assert values[0] != values[1]
    assert searched.result.objective == min(values)
    assert searched.result.trial == values.index(min(values))
    assert searched.result.finished == 2


def test_trials_select_by_the_metric_whatever_the_base_configuration_says(searched):
    assert searched.base.train.val_primary == "loss"
    assert [trial.config.train.val_primary for trial in searched.fitted] == ["k_loc"] * 2
    assert [trial.result.val_primary for trial in searched.fitted] == ["k_loc"] * 2
    assert all(trial.result.objective != entry["val_loss"] for trial in searched.fitted for entry in trial.result.history)


def test_trials_change_nothing_in_the_base_configuration(searched):
    assert searched.base.sha256() == searched.sha256_before
    assert all(trial.config is not searched.base for trial in searched.fitted)


def test_trials_differ_from_the_base_in_what_is_searched_and_in_nothing_else(searched):
    changed = {"train.epochs", "train.patience", "train.val_primary", *searched.study.best_params}
    base = searched.base.model_dump(mode="json")
    for trial in searched.fitted:
        for section, values in trial.config.model_dump(mode="json").items():
            for key, value in values.items():
                assert value == base[section][key] or f"{section}.{key}" in changed, f"{section}.{key}"
        assert (trial.config.train.epochs, trial.config.train.patience) == (2, 2)


def test_every_searched_parameter_reaches_the_trial(searched):
    for trial, fitted in zip(searched.study.trials, searched.fitted, strict=True):
        assert len(trial.params) == 11
        for key, value in trial.params.items():
            section, name = key.split(".")
            assert getattr(getattr(fitted.config, section), name) == value, key


def test_the_pruner_gets_the_objective_of_every_epoch(searched):
    for trial, fitted in zip(searched.study.trials, searched.fitted, strict=True):
        assert trial.intermediate_values == {entry["epoch"]: entry["objective"] for entry in fitted.result.history}
        assert len(trial.intermediate_values) == 2


def test_best_toml_reproduces_the_best_trial(searched):
    """Loaded over the base configuration, every searched key has the value of the best trial."""
    assert searched.result.best_toml == searched.folder / "best.toml"
    loaded = load_config([searched.result.best_toml], base=searched.base.model_dump(mode="json"))
    best = searched.fitted[searched.result.trial].config
    assert loaded.replaced(train={"epochs": 2, "patience": 2, "val_primary": "k_loc"}) == best
    assert loaded.train.learning_rate == searched.study.best_params["train.learning_rate"] != searched.base.train.learning_rate
    text = searched.result.best_toml.read_text(encoding="utf-8")
    assert text.startswith(f"# trial {searched.result.trial} of study 'ris': objective {searched.result.objective:.6f} of 2 completed")
    assert not list(searched.folder.glob("*.tmp"))


# Trials that are written down beforehand.


class Script:
    """Stands in for the trainer: each trial takes the next line, a list of objectives per epoch or an exception."""

    def __init__(self, lines):
        self.lines, self.runs = list(lines), []

    def __call__(self, config, train, val, on_epoch):
        self.runs.append(config)
        line = self.lines[len(self.runs) - 1]
        script = self

        class Planned:
            def fit(self):
                return script.fit(line, on_epoch)

        return Planned()

    @staticmethod
    def fit(line, on_epoch):
        if isinstance(line, Exception):
            raise line
        for epoch, objective in enumerate(line):
            on_epoch(EpochReport(epoch, epoch, 1e-3, {}, 1.0, {}, objective, min(line[: epoch + 1]), True, {}, 1.0))
        metrics = Metrics(*(0.5,) * 12)
        return FitResult(min(line), "k_loc", 0, len(line), metrics, [], None)


@pytest.fixture
def planned(tiny_config, tiny_data, tiny_manifest, tmp_path, monkeypatch):
    """Run a study on a script; returns its result, or raises what it raises."""

    def run(lines, *, trials=None, manifest=tiny_manifest, directory=tiny_data, **options):
        script = Script(lines)
        monkeypatch.setattr(hpo, "Trainer", script)
        config = tiny_config.replaced(hpo={"trials": len(lines) if trials is None else trials})
        return script, run_study(config, directory, manifest, tmp_path, **options)

    return run


def test_a_trial_that_diverges_is_recorded_with_its_reason_and_the_study_goes_on(planned, tmp_path):
    seen = []
    _, result = planned([DivergedError("position", 7), [0.8]], on_trial=lambda trial: seen.append((trial.number, trial.state)))
    first, second = study_in(tmp_path).trials
    assert (first.state, second.state) == (STATE.FAIL, STATE.COMPLETE)
    assert first.user_attrs["reason"] == "training diverged: position is not finite at optimizer step 7"
    assert first.value is None
    assert (result.objective, result.trial, result.finished) == (0.8, 1, 2)
    assert seen == [(0, STATE.FAIL), (1, STATE.COMPLETE)]


def test_a_metric_that_cannot_be_computed_fails_its_trial_with_the_reason(planned, tmp_path):
    planned([[0.9], IncompleteError("the composite score could not be computed")])
    trial = study_in(tmp_path).trials[1]
    assert (trial.state, trial.value) == (STATE.FAIL, None)
    assert trial.user_attrs["reason"] == "the composite score could not be computed"


def test_a_study_without_a_completed_trial_says_why_and_writes_nothing(planned, tmp_path):
    with pytest.raises(IncompleteError, match=r"^no trial could be completed: trial 0: training diverged: k is .*; trial 1: .*gradient"):
        planned([DivergedError("k", 1), DivergedError("gradient", 2)])
    assert not (tmp_path / "best.toml").exists()


def test_an_unforeseen_error_is_not_taken_for_a_failed_trial(planned):
    with pytest.raises(ZeroDivisionError):
        planned([ZeroDivisionError("a bug"), [0.5]])


def test_a_bad_trial_is_pruned_on_what_it_reported(planned, tmp_path):
    good = [[0.5, 0.4, 0.3, 0.2]] * 4
    _, result = planned([*good, [9.0, 9.0, 9.0, 9.0]])
    trial = study_in(tmp_path).trials[4]
    assert trial.state == STATE.PRUNED
    assert max(trial.intermediate_values) == 2
    assert result.trial == 0


def test_a_resumed_study_runs_only_the_missing_trials(planned, tmp_path):
    script, result = planned([[0.9], DivergedError("k", 1)])
    assert len(script.runs) == 2
    script, result = planned([[0.7]], trials=3)
    assert (len(script.runs), result.objective, result.trial, result.finished) == (1, 0.7, 2, 3)
    script, again = planned([], trials=3)
    assert script.runs == []
    assert again == result
    assert all(trial.state in FINISHED for trial in study_in(tmp_path).trials)


def test_a_study_of_other_data_is_refused_and_left_alone(planned, tiny_config, tmp_path):
    planned([[0.9]])
    before = (tmp_path / "best.toml").read_bytes()
    other = generate(tiny_config.replaced(data={"seed": 5}), tmp_path / "other")
    with pytest.raises(DataError, match=r"^study 'ris' was run on other data; choose another --out, --storage or --hpo.study_name$"):
        planned([[0.1]], trials=2, manifest=other, directory=tmp_path / "other")
    assert len(study_in(tmp_path).trials) == 1
    assert (tmp_path / "best.toml").read_bytes() == before


@pytest.mark.parametrize("storage", ["nonsense://x", "sqlite:////no/such/folder/study.db", "not a url"])
def test_a_storage_that_cannot_be_used_is_one_sentence(planned, storage):
    with pytest.raises(ConfigError) as caught:
        planned([[0.9]], storage=storage)
    assert str(caught.value).startswith(f"cannot use {storage!r} as the study's storage: ")
    assert "\n" not in str(caught.value)


def test_another_storage_is_used_where_it_is_given(planned, tmp_path):
    planned([[0.9]], storage=f"sqlite:///{tmp_path / 'elsewhere.db'}")
    assert not (tmp_path / "study.db").exists()
    assert len(optuna.load_study(study_name="ris", storage=f"sqlite:///{tmp_path / 'elsewhere.db'}").trials) == 1


# Sizes.


@pytest.mark.parametrize(("fraction", "expected"), [(0.1, (26, 6)), (0.5, (128, 32)), (1.0, (256, 64))])
def test_subsets_scale_with_the_manifest(tiny_config, tiny_data, tiny_manifest, caplog, fraction, expected):
    config = tiny_config.replaced(hpo={"subset_fraction": fraction})
    with caplog.at_level(logging.WARNING, logger="ris_pipeline"):
        assert subset_sizes(config, tiny_data, tiny_manifest) == expected
    assert caplog.records == []


def test_subsets_follow_the_manifest_and_not_the_configuration(tiny_config, tiny_data, tiny_manifest):
    """The base configuration's own sizes are those of another data set."""
    config = tiny_config.replaced(data={"n_train": 100_000, "n_val": 10_000}, hpo={"subset_fraction": 0.5})
    assert subset_sizes(config, tiny_data, tiny_manifest) == (128, 32)


@pytest.fixture
def half(tiny_data, tmp_path):
    """The tiny data without the second of two training shards."""
    folder = shutil.copytree(tiny_data, tmp_path / "half")
    (folder / "train-00001.safetensors").unlink()
    return folder


def test_fewer_than_nine_tenths_of_the_expected_scenes_are_reported(tiny_config, half, tiny_manifest, caplog):
    config = tiny_config.replaced(hpo={"subset_fraction": 1.0})
    with caplog.at_level(logging.WARNING, logger="ris_pipeline"):
        assert subset_sizes(config, half, tiny_manifest) == (128, 64)
    assert [record.getMessage() for record in caplog.records] == ["expected 256 train scenes, the shards hold only 128"]


@pytest.mark.parametrize(("fraction", "reported"), [(0.55, False), (0.6, True)])
def test_nine_tenths_are_enough(tiny_config, half, tiny_manifest, caplog, fraction, reported):
    """128 of 141 are 91 %, 128 of 154 are 83 %."""
    with caplog.at_level(logging.WARNING, logger="ris_pipeline"):
        subset_sizes(tiny_config.replaced(hpo={"subset_fraction": fraction}), half, tiny_manifest)
    assert bool(caplog.records) is reported


def test_a_damaged_shard_is_found_before_there_is_a_study(tiny_config, half, tiny_manifest, tmp_path):
    path = half / "val-00000.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DataError, match=r"val-00000\.safetensors is truncated"):
        run_study(tiny_config, half, tiny_manifest, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_no_scenes_at_all_are_an_error_before_anything_is_written(tiny_config, half, tiny_manifest, tmp_path):
    (half / "train-00000.safetensors").unlink()
    expected = r"^expected 64 train scenes in .*half \(hpo\.subset_fraction of the manifest's 256\), got 0 of the 0 that its shards hold$"
    with pytest.raises(DataError, match=expected):
        run_study(tiny_config, half, tiny_manifest, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_subset_that_rounds_to_nothing_is_an_error(tiny_config, tiny_data, tiny_manifest):
    with pytest.raises(DataError, match=r"^expected 0 val scenes .* got 0 of the 64 that its shards hold$"):
        subset_sizes(tiny_config.replaced(hpo={"subset_fraction": 0.005}), tiny_data, tiny_manifest)


# The searched space.


def test_every_draw_is_a_valid_configuration_of_declared_keys(tiny_config):
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=3))
    drawn = [suggest(study.ask()) for _ in range(20)]
    base = tiny_config.model_dump(mode="json")
    for values in drawn:
        config = tiny_config.replaced(**values).model_dump(mode="json")
        assert all(config[section][key] == value for section, keys in values.items() for key, value in keys.items())
    for section, keys in drawn[0].items():
        for key in keys:
            assert len({str(values[section][key]) for values in drawn}) > 1, f"{section}.{key} is never varied"
            assert key in base[section]


def test_a_resumed_study_does_not_repeat_its_draws(planned, tmp_path):
    planned([[0.9], [0.8]])
    planned([[0.7], [0.6]], trials=4)
    draws = [trial.params["train.learning_rate"] for trial in study_in(tmp_path).trials]
    assert len(set(draws)) == len(draws) == 4


def test_an_interrupted_trial_is_run_again(planned, tmp_path, monkeypatch):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(hpo, "suggest", interrupt)
        with pytest.raises(KeyboardInterrupt):
            planned([[0.5]])
    assert [trial.state for trial in study_in(tmp_path).trials] == [STATE.FAIL]
    script, result = planned([[0.5], [0.4]], trials=2)
    assert (len(script.runs), result.finished, result.objective) == (2, 2, 0.4)


def test_a_study_with_other_settings_is_refused(planned, tiny_config, tiny_data, tiny_manifest, tmp_path):
    planned([[0.9]])
    longer = tiny_config.replaced(hpo={"trials": 2, "epochs": tiny_config.hpo.epochs + 1})
    with pytest.raises(DataError, match=r"^study 'ris' was run on other settings; choose another --out"):
        run_study(longer, tiny_data, tiny_manifest, tmp_path)
    assert len(study_in(tmp_path).trials) == 1
