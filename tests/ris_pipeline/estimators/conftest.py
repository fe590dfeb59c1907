"""A small surface with different numbers of rows and columns, on which brute force is affordable."""

from __future__ import annotations

import pytest
import torch

from ris_pipeline.config import Config
from ris_pipeline.simulation import simulate


@pytest.fixture(scope="session")
def small():
    """8 x 6 elements, 8 antennas, 8 snapshots, up to 3 sources, a coarse grid."""
    return Config().replaced(
        array={"n_h": 8, "n_v": 6, "bs_antennas": 8},
        scene={"k_max": 3},
        codes={"snapshots": 8},
        estimate={"grid_azimuth_deg": 5.0, "grid_elevation_deg": 5.0, "grid_range": 5, "refine_steps": 25},
    )


@pytest.fixture(scope="session")
def scenes(small):
    """Twelve noisy scenes of the small surface."""
    return simulate(small, 12, torch.Generator().manual_seed(4))
