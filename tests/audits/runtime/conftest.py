"""One small data set for all saboteurs; each of them patches the running library, never a file."""

from __future__ import annotations

import pytest

from audits.runtime import ops
from audits.runtime.trial import small_config, small_trial


@pytest.fixture(scope="session")
def trial():
    with small_trial(small_config()) as made:
        yield made


@pytest.fixture(scope="session")
def allowed():
    return ops.load_allowed()
