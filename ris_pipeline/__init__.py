"""Count and localize near-field sources behind a reconfigurable intelligent surface."""

from ris_pipeline.arrays import Sources, steering_vector
from ris_pipeline.config import Config, load_config
from ris_pipeline.covariance import FactoredCovariance, build_effective_covariance
from ris_pipeline.evaluation.evaluate import evaluate
from ris_pipeline.evaluation.localize import localize
from ris_pipeline.model import HybridModel, load_model
from ris_pipeline.shards import generate
from ris_pipeline.simulation import Measurements, simulate
from ris_pipeline.training import FitResult, Trainer

__version__ = "0.1.0"

__all__ = [
    "Config",
    "FactoredCovariance",
    "FitResult",
    "HybridModel",
    "Measurements",
    "Sources",
    "Trainer",
    "build_effective_covariance",
    "evaluate",
    "generate",
    "load_config",
    "load_model",
    "localize",
    "simulate",
    "steering_vector",
]
