"""The audit's composite against the library's, which shares no code with it, and against values by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from audits.runtime.composite import Scene, composite, scenes_of
from ris_pipeline.arrays import Sources
from ris_pipeline.config import SceneConfig, SelectionConfig
from ris_pipeline.metrics import aggregate, score_scenes, selection_score
from ris_pipeline.simulation import draw_sources


def test_a_perfect_estimate_scores_minus_one():
    truth = draw_sources(SceneConfig(), 20, torch.Generator().manual_seed(0))
    assert composite(scenes_of(truth, truth), SelectionConfig()) == pytest.approx(-1.0)


def test_a_missed_source_counts_as_the_clip():
    scene = Scene(np.array([[0.0, 0.0, 1.0]]), np.zeros((0, 3)))
    assert composite([scene], SelectionConfig()) == pytest.approx(1.0 + 3.0 + 3.0 + 3.0)


@pytest.mark.parametrize("seed", range(4))
def test_it_equals_the_library_on_random_estimates(seed):
    generator = torch.Generator().manual_seed(seed)
    truth = draw_sources(SceneConfig(), 40, generator)
    noise = torch.randn(truth.position.shape, generator=generator, dtype=torch.float64) * torch.tensor([0.05, 0.05, 0.4])
    k = torch.randint(0, 6, truth.k.shape, generator=generator)
    estimate = Sources.from_position(
        truth.position + noise, truth.power, torch.where(torch.rand(40, generator=generator) < 0.5, truth.k, k)
    )
    config = SelectionConfig()
    expected = selection_score(aggregate(score_scenes(estimate, truth, config)), config)
    assert composite(scenes_of(truth, estimate), config) == pytest.approx(expected, abs=1e-9)
