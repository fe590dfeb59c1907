"""Estimators of source count and positions."""

from __future__ import annotations

from ris_pipeline.estimators.beamformers import bartlett, mvdr
from ris_pipeline.estimators.counting import (
    aic,
    aic_scores,
    count_from_residuals,
    eigenvalue_count,
    mdl,
    mdl_scores,
    noise_variance_from_residuals,
)
from ris_pipeline.estimators.derivatives import steering_jacobian
from ris_pipeline.estimators.likelihood import (
    MaximumLikelihood,
    Refined,
    estimate_noise_variance,
    least_squares_powers,
    maximum_likelihood,
    refine,
)
from ris_pipeline.estimators.modified_music import modified_music
from ris_pipeline.estimators.music import music, music_angles_first, null_spectrum
from ris_pipeline.estimators.omp import omp
from ris_pipeline.estimators.spectrum import SearchGrid, bartlett_spectrum, find_peaks, grid_of

__all__ = [
    "MaximumLikelihood",
    "Refined",
    "SearchGrid",
    "aic",
    "aic_scores",
    "bartlett",
    "bartlett_spectrum",
    "count_from_residuals",
    "eigenvalue_count",
    "estimate_noise_variance",
    "find_peaks",
    "grid_of",
    "least_squares_powers",
    "maximum_likelihood",
    "mdl",
    "mdl_scores",
    "modified_music",
    "music",
    "music_angles_first",
    "mvdr",
    "noise_variance_from_residuals",
    "null_spectrum",
    "omp",
    "refine",
    "steering_jacobian",
]
