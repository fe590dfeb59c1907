"""Generating shards: atomic, resumable, one random stream per shard."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from ris_pipeline.back_projection import with_sample_factor
from ris_pipeline.config import Config, digest
from ris_pipeline.errors import DataError
from ris_pipeline.shards.manifest import GENERATOR_VERSION, MANIFEST_NAME, Manifest, ShardPlan, plan_shards, read_manifest, write_manifest
from ris_pipeline.shards.read import file_sha256, read_header, shard_metadata
from ris_pipeline.simulation import simulate

logger = logging.getLogger(__name__)

_CHUNK_SCENES = 128
"""Scenes simulated at a time: small enough for the processor's cache. Part of what ``GENERATOR_VERSION`` stands for."""

Progress = Callable[[ShardPlan, bool], None]


def generate(
    config: Config,
    directory: Path,
    *,
    first: int = 0,
    last: int | None = None,
    device: torch.device | str = "cpu",
    progress: Progress = lambda plan, written: None,
) -> Manifest | None:
    """Write shards ``first`` to ``last`` (exclusive, in the order train, val, test) of the configured data set.

    Finished shards are kept, half-written ones are redone, and the manifest is written when every shard is there; ``None`` is returned
    while some are missing. A file appears under its final name only when it is complete. ``progress`` is called after each shard with
    its plan and whether it had to be written. The same seeds give the same scenes on the same kind of device.

    Raises:
        DataError: the folder holds shards or a manifest of another configuration, or the range of shards is empty.
    """
    plans = plan_shards(config)
    chosen = plans[first:last]
    if not chosen:
        raise DataError(f"expected a range of shards within 0:{len(plans)}, got {first}:{'' if last is None else last}, which is empty")
    config_sha256 = digest(config.data_part())
    _refuse_foreign(directory, config, plans)
    directory.mkdir(parents=True, exist_ok=True)
    for plan in chosen:
        path = directory / plan.name
        written = not _is_finished(path)
        if written:
            _write_shard(path, plan, config, config_sha256, torch.device(device))
        progress(plan, written)
    if not all(_is_finished(directory / plan.name) for plan in plans):
        return None
    return write_manifest(directory, config, {plan.name: file_sha256(directory / plan.name) for plan in plans})


def shard_tensors(plan: ShardPlan, config: Config, device: torch.device) -> dict[str, Tensor]:
    """Simulate one shard; it depends on nothing but its plan, the configuration and the kind of device."""
    generator = torch.Generator(device=device).manual_seed(plan.stream)
    sizes = [min(_CHUNK_SCENES, plan.scenes - start) for start in range(0, plan.scenes, _CHUNK_SCENES)]
    chunks = [_chunk_tensors(config, size, generator) for size in sizes]
    return {name: torch.cat([chunk[name] for chunk in chunks]) for name in chunks[0]}


def _chunk_tensors(config: Config, count: int, generator: torch.Generator) -> dict[str, Tensor]:
    scenes = simulate(config, count, generator)
    measured = scenes.measurements
    if config.data.store_sample:
        measured = with_sample_factor(measured, config)
    assert measured.snr_db is not None
    assert measured.noise_variance is not None
    truth = scenes.sources
    tensors = {
        "snapshots": measured.snapshots.to(torch.complex64),
        "channel": measured.channel.to(torch.complex64),
        "code_index": measured.code_index,
        "symbols": scenes.symbols.to(torch.complex64),
        "azimuth_rad": truth.azimuth_rad.float(),
        "elevation_rad": truth.elevation_rad.float(),
        "range_m": truth.range_m.float(),
        "power": truth.power.float(),
        "k": truth.k,
        "snr_db": measured.snr_db.float(),
        "noise_variance": measured.noise_variance.float(),
    }
    if measured.sample_factor is not None:
        tensors["sample_factor"] = measured.sample_factor.to(torch.complex64)
    return {name: tensor.cpu().contiguous() for name, tensor in tensors.items()}


def _write_shard(path: Path, plan: ShardPlan, config: Config, config_sha256: str, device: torch.device) -> None:
    temporary = path.with_suffix(".tmp")
    metadata = shard_metadata(config_sha256, GENERATOR_VERSION, plan.split, plan.index)
    save_file(shard_tensors(plan, config, device), temporary, metadata)
    temporary.replace(path)


def _refuse_foreign(directory: Path, config: Config, plans: list[ShardPlan]) -> None:
    """Leave a folder alone that holds other data, before anything is written."""
    if directory.exists() and not directory.is_dir():
        raise DataError(f"expected a folder to write to, got {directory}, which is a file")
    wanted = digest(config.data_part())
    if (directory / MANIFEST_NAME).exists() and read_manifest(directory).config_sha256 != wanted:
        raise DataError(f"{directory} already holds a data set of another configuration; choose another --out")
    for plan in plans:
        path = directory / plan.name
        if _is_finished(path) and read_header(path).metadata != shard_metadata(wanted, GENERATOR_VERSION, plan.split, plan.index):
            raise DataError(f"{path} belongs to another data set; choose another --out")


def _is_finished(path: Path) -> bool:
    """Whether a complete shard is there; one that was cut off is written again."""
    if not path.exists():
        return False
    try:
        read_header(path)
    except DataError as error:
        logger.warning("%s; it is written again", error)
        return False
    return True
