"""Training: one loop, its optimizer, and its checkpoints."""

from ris_pipeline.training.loop import EpochReport, FitResult, Trainer, Validation

__all__ = ["EpochReport", "FitResult", "Trainer", "Validation"]
