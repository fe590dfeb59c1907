"""The exception tree: exit codes, sentences, and the nearest known name."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ris_pipeline.errors import (
    CheckpointError,
    ConfigError,
    DataError,
    DivergedError,
    IncompleteError,
    RisError,
    UserError,
    nearest_name,
)


@pytest.mark.parametrize("error", [UserError, ConfigError, DataError, CheckpointError])
def test_mistakes_of_the_user_exit_with_2(error):
    assert issubclass(error, UserError)
    assert error("what went wrong").exit_code == 2


@pytest.mark.parametrize("error", [IncompleteError("stopped"), DivergedError("loss/k", 7)])
def test_incomplete_work_exits_with_3(error):
    assert not isinstance(error, UserError)
    assert isinstance(error, IncompleteError)
    assert error.exit_code == 3


@pytest.mark.parametrize("error", [UserError, IncompleteError])
def test_every_error_is_caught_as_the_base(error):
    assert issubclass(error, RisError)


def test_divergence_names_term_and_step():
    error = DivergedError("loss/position", 120)
    assert str(error) == "training diverged: loss/position is not finite at optimizer step 120"
    assert (error.term, error.step) == ("loss/position", 120)


def test_a_typing_error_gets_the_nearest_name():
    assert nearest_name("covarance.beta", ["covariance.beta", "train.epochs"]) == "; did you mean 'covariance.beta'?"


def test_a_far_name_gets_no_suggestion():
    assert nearest_name("zzzzzz", ["covariance.beta", "train.epochs"]) == ""


def test_no_known_names_gives_no_suggestion():
    assert nearest_name("beta", []) == ""


@given(st.lists(st.text(alphabet="abcdefgh_", min_size=3, max_size=12), min_size=1, unique=True), st.data())
def test_a_known_name_is_nearest_to_itself(known, data):
    name = data.draw(st.sampled_from(known))
    assert nearest_name(name, iter(known)) == f"; did you mean {name!r}?"
