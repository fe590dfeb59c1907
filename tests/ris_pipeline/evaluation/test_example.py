"""The map of one scene, and which scene is shown."""

from __future__ import annotations

import numpy as np
import torch

from ris_pipeline.arrays import Sources, steering_vector
from ris_pipeline.config import Config
from ris_pipeline.estimators.sensing import Sensing
from ris_pipeline.evaluation.example import example, likelihood_map, typical_scene
from ris_pipeline.shards import Batch, MemoryScenes
from ris_pipeline.simulation import simulate

CONFIG = Config()


def test_the_scene_shown_has_three_sources_and_a_middling_snr():
    k = torch.tensor([1, 3, 3, 3, 5])
    assert typical_scene(k, torch.tensor([5.0, -5.0, 20.0, 7.0, 6.0])) == 3
    assert typical_scene(torch.tensor([1, 2, 2]), torch.tensor([0.0, 9.0, 1.0])) == 2


def test_the_map_is_what_one_source_explains():
    """A point of the map against least squares, snapshot by snapshot, at every elevation."""
    measurements = simulate(CONFIG, 1, torch.Generator().manual_seed(1)).measurements
    gain, azimuth_rad, range_m = likelihood_map(Sensing.of(measurements, CONFIG), CONFIG)
    codes = np.exp(2j * np.pi * measurements.code_index[0].numpy() / 8)
    at = (17, 5)
    explained = []
    for elevation_rad in np.linspace(-CONFIG.scene.elevation_max_rad, CONFIG.scene.elevation_max_rad, 21):
        place = (azimuth_rad[at[0]], torch.tensor(elevation_rad), range_m[at[1]])
        g = (measurements.channel[0].numpy()[None] * codes[:, None, :]) @ steering_vector(CONFIG.array, *place).numpy()
        y = measurements.snapshots[0].numpy()
        residual = [one - column * (np.vdot(column, one) / np.vdot(column, column)) for one, column in zip(y, g, strict=True)]
        explained.append((np.abs(y) ** 2).sum() - (np.abs(residual) ** 2).sum())
    assert gain.shape == (61, 24)
    np.testing.assert_allclose(float(gain[at]), max(explained), rtol=1e-9)


def test_the_map_peaks_at_a_single_source():
    config = CONFIG.replaced(scene={"k_max": 1, "snr_min_db": 20.0, "range_max_m": 2.0})
    simulated = simulate(config, 6, torch.Generator().manual_seed(2))
    scenes = MemoryScenes(Batch(simulated.measurements, simulated.sources, simulated.symbols))
    for index in range(6):
        shown = example(
            scenes, index, config, {"none": Sources.from_position(torch.zeros(6, 1, 3), torch.zeros(6, 1), torch.zeros(6).long())}
        )
        table = np.array(shown["gain_db"])
        assert table.max() == 0.0
        row, column = np.unravel_index(table.argmax(), table.shape)
        true = shown["truth"][0]
        assert abs(shown["azimuth_deg"][row] - true["azimuth_deg"]) <= 3.0
        assert abs(1 / shown["range_m"][column] - 1 / true["range_m"]) <= 0.2
        assert shown["estimates"] == {"none": []}
