"""Generation, loading and the training step, each against a named rival in the same run."""

from __future__ import annotations

import time
from itertools import count

import numpy as np
import pytest
import torch

from ris_pipeline.back_projection import back_project
from ris_pipeline.codes import code_phasors
from ris_pipeline.model import HybridModel
from ris_pipeline.shards import MemoryScenes, generate, open_split
from ris_pipeline.simulation import simulate
from ris_pipeline.training import Trainer

BYTES_PER_SCENE_LIMIT = 45_000


def seconds_of(function, repeats=3):
    """Smallest wall time of a few calls, for the rival of a benchmark."""
    best = float("inf")
    for _ in range(repeats):
        started = time.perf_counter()
        function()
        best = min(best, time.perf_counter() - started)
    return best


def test_generate_2304_scenes_to_disk(benchmark, data, tmp_path):
    """`ris generate` without its start-up: simulate, back-project, write, checksum."""
    config, _, _ = data
    folders = count()
    manifest = benchmark.pedantic(lambda: generate(config, tmp_path / str(next(folders))), rounds=3)
    scenes = sum(split.scenes for split in manifest.splits.values())
    size = sum(path.stat().st_size for path in (tmp_path / "0").iterdir())
    assert size / scenes <= BYTES_PER_SCENE_LIMIT
    benchmark.extra_info |= {"scenes_per_second": scenes / benchmark.stats["median"], "bytes_per_scene": size / scenes}


def test_back_project_128_scenes_against_one_pseudo_inverse_per_snapshot(benchmark, data):
    """One Cholesky factorisation per scene against numpy.linalg.pinv of every snapshot's operator."""
    config, _, _ = data
    scenes = simulate(config, 128, torch.Generator().manual_seed(0)).measurements
    codes = code_phasors(scenes.code_index, config.codes.bits, torch.complex128)
    fields = benchmark(back_project, scenes.snapshots, scenes.channel, codes, 0.0)
    channel, few = scenes.channel.numpy(), 4

    def rival():
        return [
            [np.linalg.pinv(channel[b] * codes[b, n].numpy()) @ scenes.snapshots[b, n].numpy() for n in range(codes.shape[1])]
            for b in range(few)
        ]

    assert np.allclose(np.array(rival()), fields[:few].numpy(), atol=1e-8)
    benchmark.extra_info["times_faster_than_pinv"] = seconds_of(rival, 1) * 128 / few / benchmark.stats["median"]


@pytest.mark.parametrize("storage", ["mmap", "memory"])
def test_load_random_batches_of_128(benchmark, data, storage):
    """A shuffled batch from memory maps or memory, against reading the whole shard file for it."""
    _, directory, manifest = data
    scenes = open_split(directory, manifest, "train", storage=storage)
    generator = torch.Generator().manual_seed(0)
    batch = benchmark(lambda: scenes.batch(torch.randint(len(scenes), (128,), generator=generator)))
    assert len(batch) == 128
    shard = sorted(directory.glob("train-*"))[0]
    benchmark.extra_info["times_faster_than_reading_a_shard"] = seconds_of(shard.read_bytes) / benchmark.stats["median"]
    benchmark.extra_info["scenes_per_second"] = 128 / benchmark.stats["median"]


def test_training_step_batch_128_cpu(benchmark, data, batch):
    """Forward, loss, backward and update, against the network's forward pass alone."""
    config, _, _ = data
    trainer = Trainer(config.replaced(train={"device": "cpu"}), MemoryScenes(batch), MemoryScenes(batch))
    before = [parameter.detach().clone() for parameter in trainer.model.parameters()]
    report = benchmark(trainer.train_step, batch)
    assert bool(report.finite.all())
    assert all(not torch.equal(old, new) for old, new in zip(before, trainer.model.parameters(), strict=True))
    with torch.no_grad():
        forward = seconds_of(lambda: trainer.model(batch.measurements))
    benchmark.extra_info |= {
        "samples_per_second": 128 / benchmark.stats["median"],
        "times_slower_than_forward": benchmark.stats["median"] / forward,
    }


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device on this machine")
@pytest.mark.parametrize("size", [128, 1024])
def test_training_step_cuda(benchmark, data, batch, size):
    """The training step on a CUDA device, timed with CUDA events."""
    config, _, _ = data
    index = torch.arange(size) % len(batch)
    scenes = MemoryScenes(batch.to(torch.device("cuda")))
    trainer = Trainer(config.replaced(train={"device": "cuda"}), scenes, scenes)
    large = scenes.batch(index)
    start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    for _ in range(5):
        trainer.train_step(large)
    start.record()
    for _ in range(20):
        report = trainer.train_step(large)
    end.record()
    torch.cuda.synchronize()
    assert bool(report.finite.all())
    benchmark.extra_info |= {"milliseconds": start.elapsed_time(end) / 20, "samples_per_second": size * 20e3 / start.elapsed_time(end)}
    benchmark(lambda: (trainer.train_step(large), torch.cuda.synchronize()))


def test_network_inference_batch_128(benchmark, data, batch):
    """`network` without scoring: what validation does in every epoch."""
    config, _, _ = data
    model = HybridModel(config).eval()
    with torch.no_grad():
        prediction = benchmark(model, batch.measurements)
    assert bool(torch.isfinite(prediction.k_logits).all())
    benchmark.extra_info["scenes_per_second"] = 128 / benchmark.stats["median"]
