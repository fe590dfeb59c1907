"""The ``ris`` command."""

from ris_pipeline.cli.main import main

__all__ = ["main"]
