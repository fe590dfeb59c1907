"""Description lengths on residuals: against explicit likelihoods, and on data that follow the model."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ris_pipeline.estimators.description_length import aic_from_residuals, mdl_from_residuals

L, M = 16, 16
CRITERIA = {"mdl": mdl_from_residuals, "aic": aic_from_residuals}


@st.composite
def residuals(draw):
    """Falling residuals of six hypotheses and a noise variance."""
    falls = draw(st.lists(st.floats(0.0, 500.0), min_size=5, max_size=5))
    last = draw(st.floats(20.0, 300.0))
    rss = np.cumsum([last, *falls[::-1]])[::-1]
    return torch.tensor(rss[None].copy(), dtype=torch.float64), draw(st.floats(0.2, 5.0))


def by_hand(name, rss, noise, k):
    """Twice the description length of hypothesis k, with the Gaussian density of 2 L M real numbers written out."""
    if noise is None:
        variance = rss / (2 * L * M)
        deviance = 2 * L * M * np.log(2 * np.pi * variance) + rss / variance
    else:
        deviance = 2 * L * M * np.log(np.pi * noise) + rss / (noise / 2)
    if name == "aic":
        return deviance + 2 * k * (2 * L + 3)
    return deviance + 2 * L * k * np.log(M) + 3 * k * np.log(L * M)


@given(residuals(), st.booleans())
@pytest.mark.parametrize("name", CRITERIA)
def test_the_count_minimises_the_criterion(name, case, known):
    rss, noise = case
    score = np.array([by_hand(name, float(value), noise if known else None, k) for k, value in enumerate(rss[0])])
    given_noise = torch.tensor([noise], dtype=torch.float64) if known else None
    chosen = int(CRITERIA[name](rss, given_noise, L, M))
    assert score[chosen] <= score.min() + 1e-6


@given(residuals(), st.floats(1e-12, 1e12), st.booleans())
@pytest.mark.parametrize("name", CRITERIA)
def test_the_scale_of_the_data_does_not_matter(name, case, scale, known):
    rss, noise = case
    variance = torch.tensor([noise], dtype=torch.float64) if known else None
    scaled = None if variance is None else variance * scale
    one, other = CRITERIA[name](rss, variance, L, M), CRITERIA[name](rss * scale, scaled, L, M)
    rival = [by_hand(name, float(rss[0, int(k)]), noise if known else None, int(k)) for k in (one, other)]
    assert rival[0] == pytest.approx(rival[1], abs=1e-6)


def test_mdl_counts_right_where_the_sources_are_strong_and_known():
    """Random columns, one amplitude per snapshot: the true atoms enter one after the other, then atoms that are not there."""
    generator = torch.Generator().manual_seed(1)

    def normal(*shape):
        return torch.randn(shape, generator=generator, dtype=torch.complex128)

    k = torch.arange(200) % 5
    atoms, amplitude = normal(200, L, M, 6), normal(200, L, 6) * (torch.arange(6) < k[:, None])[:, None]
    noise = torch.full((200,), 0.5, dtype=torch.float64)
    data = (atoms @ amplitude[..., None])[..., 0] + normal(200, L, M) * 0.5**0.5
    rss = [data.abs().square().sum(dim=(1, 2))]
    for size in range(1, 6):
        Q = torch.linalg.qr(atoms[..., :size]).Q
        rss.append((data[..., None] - Q @ (Q.mH @ data[..., None])).abs().square().sum(dim=(1, 2, 3)))
    table = torch.stack(rss, dim=1)
    for variance in (noise, None):
        assert bool((mdl_from_residuals(table, variance, L, M) == k).all())


@pytest.mark.parametrize("noise", [None, 1.0])
@pytest.mark.parametrize("name", CRITERIA)
def test_silence_has_no_sources(name, noise):
    variance = None if noise is None else torch.tensor([noise], dtype=torch.float64)
    assert CRITERIA[name](torch.zeros(1, 6, dtype=torch.float64), variance, L, M).tolist() == [0]
