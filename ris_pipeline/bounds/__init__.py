"""What the data allow: Cramer-Rao bounds, the genie, and the detection of the weakest source.

``fisher`` holds the information matrices for any array, as functions of the columns that sources leave in the measurements and
their slopes; ``cramer_rao`` applies them to the surface.
"""

from __future__ import annotations

from ris_pipeline.bounds.cramer_rao import (
    crb_deterministic,
    crb_deterministic_expected,
    crb_static,
    crb_stochastic,
    crb_stochastic_unrestricted,
    position_std,
)
from ris_pipeline.bounds.detection import DetectionBound, detection_bound, genie_ml, genie_stochastic
from ris_pipeline.bounds.fisher import (
    bound_of,
    diagonal_basis,
    fisher_deterministic,
    fisher_deterministic_expected,
    fisher_stochastic,
    hermitian_basis,
    music_mse,
    sensed,
)

__all__ = [
    "DetectionBound",
    "bound_of",
    "crb_deterministic",
    "crb_deterministic_expected",
    "crb_static",
    "crb_stochastic",
    "crb_stochastic_unrestricted",
    "detection_bound",
    "diagonal_basis",
    "fisher_deterministic",
    "fisher_deterministic_expected",
    "fisher_stochastic",
    "genie_ml",
    "genie_stochastic",
    "hermitian_basis",
    "music_mse",
    "position_std",
    "sensed",
]
