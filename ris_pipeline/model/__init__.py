"""The network: physical features, a convolutional trunk on the angle map, its heads, and its weights on disk."""

from ris_pipeline.model.features import Features, PursuitFeatures
from ris_pipeline.model.network import CountHead, HybridModel, Prediction, count_parameters, shrinkage_of, snr_of
from ris_pipeline.model.weights import Checkpoint, load_model, save_model

__all__ = [
    "Checkpoint",
    "CountHead",
    "Features",
    "HybridModel",
    "Prediction",
    "PursuitFeatures",
    "count_parameters",
    "load_model",
    "save_model",
    "shrinkage_of",
    "snr_of",
]
