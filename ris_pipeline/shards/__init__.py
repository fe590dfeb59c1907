"""Data sets on disk: safetensors shards and the manifest that describes them."""

from ris_pipeline.shards.manifest import Manifest, read_manifest
from ris_pipeline.shards.read import Batch, MappedScenes, MemoryScenes, Scenes, available_scenes, open_split
from ris_pipeline.shards.write import generate

__all__ = ["Batch", "Manifest", "MappedScenes", "MemoryScenes", "Scenes", "available_scenes", "generate", "open_split", "read_manifest"]
