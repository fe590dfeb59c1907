"""The configuration tree: closed, frozen, validated as a whole, and written and read back without loss."""

from __future__ import annotations

import math
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from ris_pipeline.config import DATA_SECTIONS, Config, build_config, digest, keys, load_config, merge, read_toml, to_toml
from ris_pipeline.errors import ConfigError

UPDATES = st.fixed_dictionaries(
    {},
    optional={
        "array": st.fixed_dictionaries({"n_h": st.integers(1, 40), "spacing_m": st.floats(1e-6, 1e3)}),
        "scene": st.fixed_dictionaries(
            {
                "symbols": st.sampled_from(["gaussian", "static"]),
                "power_control": st.floats(0, 1),
                "snr_min_db": st.floats(-300, -5),
            }
        ),
        "codes": st.fixed_dictionaries({"selection": st.sampled_from(["balanced", "stride", "random"]), "bits": st.integers(1, 8)}),
        "data": st.fixed_dictionaries({"seed": st.integers(0, 2**63), "store_sample": st.booleans()}),
        "covariance": st.fixed_dictionaries({"beta": st.floats(0, 1), "shrinkage": st.fixed_dictionaries({"base": st.floats(0, 10)})}),
        "train": st.fixed_dictionaries({"device": st.text(), "val_primary": st.sampled_from(["loss", "k_loc", "metrics"])}),
        "evaluate": st.fixed_dictionaries({"scenes": st.none() | st.integers(1, 10**9)}),
        "hpo": st.fixed_dictionaries({"study_name": st.text(min_size=1)}),
    },
)


def written(folder: Path, name: str, text: str) -> Path:
    file = folder / name
    file.write_text(text, encoding="utf-8")
    return file


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("config")


@given(UPDATES)
def test_toml_round_trip_is_the_identity(folder, updates):
    config = build_config(updates)
    file = written(folder, "round_trip.toml", to_toml(config.model_dump(mode="json"), comment="first line\nsecond line"))
    assert load_config([file]) == config


def test_toml_round_trip_keeps_a_shrinkage_that_is_switched_off(tmp_path):
    config = Config().replaced(covariance={"shrinkage": None})
    assert load_config([written(tmp_path, "off.toml", to_toml(config.model_dump(mode="json")))]) == config


def test_toml_comment_is_a_comment(tmp_path):
    text = to_toml({"train": {"epochs": 3}}, comment="found by a search\nobjective 0.5")
    assert text.startswith("# found by a search\n# objective 0.5\n")
    assert load_config([written(tmp_path, "c.toml", text)]).train.epochs == 3


def test_partial_toml_keeps_the_other_values(tmp_path):
    config = load_config([written(tmp_path, "p.toml", to_toml({"covariance": {"beta": 0.7}}))])
    assert config == Config().replaced(covariance={"beta": 0.7})


def test_command_line_beats_files_beat_base_beats_defaults(tmp_path):
    base = {"train": {"epochs": 11, "batch_size": 12, "patience": 13}}
    first = written(tmp_path, "first.toml", "[train]\nbatch_size = 21\npatience = 22\nlog_every = 23\n")
    second = written(tmp_path, "second.toml", "[train]\npatience = 31\nlog_every = 32\n")
    train = load_config([first, second], [("train.log_every", "41")], base).train
    assert (train.epochs, train.batch_size, train.patience, train.log_every) == (11, 21, 31, 41)
    assert train.learning_rate == Config().train.learning_rate


def test_later_override_wins():
    assert load_config(overrides=[("train.epochs", "3"), ("train.epochs", "4")]).train.epochs == 4


def test_overrides_reach_every_type_and_depth():
    config = load_config(
        overrides=[
            ("covariance.shrinkage.base", "0.25"),
            ("data.store_sample", "false"),
            ("codes.selection", "random"),
            ("data.n_train", "123"),
            ("train.device", "cpu"),
        ]
    )
    assert config.covariance.shrinkage.base == 0.25
    assert config.data.store_sample is False
    assert (config.codes.selection, config.data.n_train, config.train.device) == ("random", 123, "cpu")


def test_null_switches_off():
    config = load_config(overrides=[("covariance.shrinkage", "null")])
    assert config.covariance.shrinkage is None


def test_override_below_a_switched_off_table_switches_it_on(tmp_path):
    base = {"covariance": {"shrinkage": None}}
    assert load_config(overrides=[("covariance.shrinkage.base", "0.2")], base=base).covariance.shrinkage.base == 0.2


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"trian": {}}, "unknown configuration key 'trian' in here; did you mean 'train'?"),
        ({"train": {"epoch": 3}}, "unknown configuration key 'train.epoch' in here; did you mean 'train.epochs'?"),
        ({"train": {"beta": 3}}, "unknown configuration key 'train.beta' in here; did you mean 'covariance.beta'?"),
        (
            {"covariance": {"shrinkage": {"bases": 1}}},
            "unknown configuration key 'covariance.shrinkage.bases' in here; did you mean 'covariance.shrinkage.base'?",
        ),
        ({"zzzzzzzz": 1}, "unknown configuration key 'zzzzzzzz' in here"),
        ({"covariance": {"beta": 1.5}}, "configuration covariance.beta in here: input should be less than or equal to 1, got 1.5"),
        ({"array": {"n_h": 0}}, "configuration array.n_h in here: input should be greater than 0, got 0"),
        (
            {"array": {"n_h": 2.5}},
            "configuration array.n_h in here: input should be a valid integer, got a number with a fractional part, got 2.5",
        ),
        ({"array": {"spacing_m": math.inf}}, "configuration array.spacing_m in here: input should be a finite number, got inf"),
        ({"array": {"spacing_m": math.nan}}, "configuration array.spacing_m in here: input should be a finite number, got nan"),
        ({"scene": {"azimuth_max_deg": 90}}, "configuration scene.azimuth_max_deg in here: input should be less than 90, got 90"),
        (
            {"scene": {"symbols": "pilot"}},
            "configuration scene.symbols in here: input should be 'gaussian' or 'static', got 'pilot'",
        ),
        (
            {"train": {"epochs": "many"}},
            "configuration train.epochs in here: input should be a valid integer, unable to parse string as an integer, got 'many'",
        ),
        ({"train": {"device": "x" * 200}}, None),
        ({"hpo": {"study_name": ""}}, "configuration hpo.study_name in here: string should have at least 1 character, got ''"),
    ],
)
def test_a_bad_value_is_one_sentence_that_says_what_where_and_got(values, sentence):
    if sentence is None:
        assert build_config(values).train.device == "x" * 200
        return
    with pytest.raises(ConfigError) as raised:
        build_config(values, "here")
    assert str(raised.value) == sentence
    assert raised.value.__suppress_context__


def test_a_long_bad_value_is_shortened():
    with pytest.raises(ConfigError, match=r"got 'x{76}\.\.\.$"):
        build_config({"train": {"epochs": "x" * 500}})


@pytest.mark.parametrize(
    ("section", "values", "part"),
    [
        ("scene", {"k_min": 3, "k_max": 2}, "k_min = 3 is above k_max = 2"),
        ("scene", {"range_min_m": 11.0}, "range_min_m = 11.0 is above range_max_m = 10.0"),
        ("scene", {"snr_max_db": -6.0}, "snr_min_db = -5.0 is above snr_max_db = -6.0"),
        ("channel", {"rician_min": 11.0}, "rician_min = 11.0 is above rician_max = 10.0"),
        ("covariance", {"shrinkage": {"minimum": 0.5}}, "minimum = 0.5 is above maximum = 0.3"),
        ("codes", {"snapshots": 65, "selection": "random"}, "snapshots = 65 is above the 64 beams of the codebook"),
        (
            "codes",
            {"snapshots": 12},
            "balanced selection needs snapshots to be a multiple m of beams_v with m dividing beams_h, got snapshots = 12",
        ),
        (
            "codes",
            {"snapshots": 24},
            "balanced selection needs snapshots to be a multiple m of beams_v with m dividing beams_h, got snapshots = 24",
        ),
        (
            "codes",
            {"snapshots": 4},
            "balanced selection needs snapshots to be a multiple m of beams_v with m dividing beams_h, got snapshots = 4",
        ),
    ],
)
def test_limits_that_contradict_each_other_are_refused(section, values, part):
    with pytest.raises(ConfigError, match=re.escape(part)) as raised:
        build_config({section: values}, "the file x.toml")
    assert str(raised.value).startswith(f"configuration {section}")
    assert "in the file x.toml: " in str(raised.value)


@pytest.mark.parametrize(
    ("section", "values"),
    [
        ("scene", {"k_min": 5}),
        ("scene", {"range_min_m": 10.0}),
        ("scene", {"snr_min_db": 20.0}),
        ("channel", {"rician_min": 10.0}),
        ("codes", {"snapshots": 8}),
        ("codes", {"snapshots": 64}),
        ("codes", {"snapshots": 12, "selection": "stride"}),
    ],
)
def test_limits_may_touch(section, values):
    build_config({section: values})


def test_a_bad_file_is_named_even_where_the_next_one_mends_it(tmp_path):
    bad = written(tmp_path, "bad.toml", "[scene]\nk_min = 9\n")
    good = written(tmp_path, "good.toml", "[scene]\nk_max = 9\n")
    with pytest.raises(ConfigError, match=r"in .*bad\.toml: k_min = 9 is above k_max = 5"):
        load_config([bad, good])


def test_a_bad_override_names_the_command_line():
    with pytest.raises(ConfigError) as raised:
        load_config(overrides=[("train.epochs", "-1")])
    assert str(raised.value) == "configuration train.epochs in the command line: input should be greater than 0, got '-1'"


def test_an_unknown_override_names_the_nearest_key():
    with pytest.raises(ConfigError) as raised:
        load_config(overrides=[("covariance.betta", "0.1")])
    assert str(raised.value) == "unknown configuration key 'covariance.betta' in the command line; did you mean 'covariance.beta'?"


def test_a_value_in_place_of_a_table_is_refused():
    with pytest.raises(ConfigError, match=r"configuration train in the command line: input should be .*, got 'fast'"):
        load_config(overrides=[("train", "fast")])


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ConfigError) as raised:
        load_config([tmp_path / "none.toml"])
    assert str(raised.value) == f"cannot read the configuration file {tmp_path / 'none.toml'}: No such file or directory"


def test_a_folder_is_not_a_configuration_file(tmp_path):
    with pytest.raises(ConfigError, match=f"cannot read the configuration file {re.escape(str(tmp_path))}: Is a directory"):
        read_toml(tmp_path)


@pytest.mark.parametrize("content", [b"[train\nepochs = 3", b"\xff\xfe\x00\x01"], ids=["not TOML", "not UTF-8"])
def test_a_file_that_is_not_toml_is_named(tmp_path, content):
    file = tmp_path / "broken.toml"
    file.write_bytes(content)
    with pytest.raises(ConfigError, match=rf"^{re.escape(str(file))} is not a TOML file: "):
        load_config([file])


@pytest.mark.parametrize("key", ["train", "train.epochs", "covariance.shrinkage.base"])
def test_configuration_is_frozen(key):
    *path, leaf = key.split(".")
    section = Config()
    for name in path:
        section = getattr(section, name)
    with pytest.raises(ValidationError, match="frozen"):
        setattr(section, leaf, getattr(section, leaf))


def test_replaced_changes_only_what_was_named():
    config = Config()
    changed = config.replaced(train={"epochs": 3}, covariance={"beta": 0.5})
    assert (changed.train.epochs, changed.covariance.beta) == (3, 0.5)
    assert changed.replaced(train={"epochs": 30}, covariance={"beta": 0.3}) == config == Config()


def test_replaced_validates_again():
    with pytest.raises(ConfigError, match=r"k_min = 9 is above k_max = 5"):
        Config().replaced(scene={"k_min": 9})
    with pytest.raises(ConfigError, match=r"unknown configuration key 'train.epoch'"):
        Config().replaced(train={"epoch": 3})


@given(UPDATES)
def test_data_part_identifies_the_data(updates):
    """The hash over the data sections changes exactly where one of these sections changes."""
    config = build_config(updates)
    same_data = all(getattr(config, name) == getattr(Config(), name) for name in DATA_SECTIONS)
    assert (config.sha256(*DATA_SECTIONS) == Config().sha256(*DATA_SECTIONS)) == same_data
    assert digest(config.data_part()) == config.sha256(*DATA_SECTIONS)


@pytest.mark.parametrize("key", [key for key in keys() if key.split(".")[0] in DATA_SECTIONS])
def test_data_hash_is_sensitive_to_every_key_of_the_data(key):
    different = {
        "codes.selection": "random",
        "codes.snapshots": 32,
        "codes.beams_h": 16,
        "codes.beams_v": 4,
        "scene.symbols": "static",
        "scene.k_min": 2,
        "scene.k_max": 6,
        "scene.power_control": 0.5,
        "data.store_sample": False,
        "data.seed": 1,
    }
    section, leaf = key.split(".")
    value = different.get(key)
    if value is None:
        old = getattr(getattr(Config(), section), leaf)
        value = old * 2 if isinstance(old, int) else old * 1.01
    assert Config().replaced(**{section: {leaf: value}}).sha256(*DATA_SECTIONS) != Config().sha256(*DATA_SECTIONS)


def test_data_hash_does_not_depend_on_the_order_of_keys():
    assert digest({"a": 1, "b": {"c": 2, "d": 3}}) == digest({"b": {"d": 3, "c": 2}, "a": 1})


def test_data_part_holds_exactly_the_data_sections():
    assert set(Config().data_part()) == set(DATA_SECTIONS) == {"array", "scene", "channel", "codes", "back_projection", "data"}


def test_whole_hash_sees_every_section():
    for section in Config.model_fields:
        reduced = Config().model_dump(mode="json", exclude={section})
        assert digest(reduced) != Config().sha256()
    assert Config().replaced(train={"epochs": 3}).sha256() != Config().sha256()


def test_merge_changes_neither_argument():
    base, update = {"a": {"b": 1, "c": 2}}, {"a": {"b": 3}, "d": 4}
    assert merge(base, update) == {"a": {"b": 3, "c": 2}, "d": 4}
    assert (base, update) == ({"a": {"b": 1, "c": 2}}, {"a": {"b": 3}, "d": 4})


def test_keys_lists_every_leaf_of_the_tree():
    def leaves(values, prefix=""):
        for name, value in values.items():
            yield from leaves(value, f"{prefix}{name}.") if isinstance(value, dict) else [prefix + name]

    assert set(keys()) == set(leaves(Config().model_dump()))


def test_angles_are_converted_once():
    config = Config()
    assert config.scene.azimuth_max_rad == pytest.approx(math.pi / 3)
    assert config.scene.elevation_max_rad == pytest.approx(math.pi / 6)
    assert config.channel.angle_max_rad == pytest.approx(math.pi / 3)


def test_defaults_are_those_of_the_design():
    config = Config()
    assert (config.array.n_h, config.array.n_v, config.array.n_elements, config.array.bs_antennas) == (12, 12, 144, 16)
    assert (config.array.spacing_m, config.array.wavelength_m) == (0.15, 0.3)
    assert (config.scene.k_min, config.scene.k_max, config.codes.snapshots, config.codes.bits) == (1, 5, 16, 3)
    assert (config.data.n_train, config.data.n_val, config.data.n_test) == (100_000, 10_000, 10_000)
    assert (config.train.val_primary, config.hpo.subset_fraction, config.back_projection.ridge) == ("k_loc", 0.1, 1e-3)
    assert (config.codes.selection, config.scene.symbols, config.scene.power_control) == ("balanced", "gaussian", 0.0)
