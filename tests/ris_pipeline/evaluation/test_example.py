"""The map of one scene, and which scene is shown."""

from __future__ import annotations

import numpy as np
import torch

from ris_pipeline.arrays import Sources, steering_vector
from ris_pipeline.config import Config
from ris_pipeline.covariance import FactoredCovariance
from ris_pipeline.evaluation.example import angle_range_spectrum, example, typical_scene
from ris_pipeline.shards import Batch, MemoryScenes
from ris_pipeline.simulation import simulate

CONFIG = Config()


def test_the_scene_shown_has_three_sources_and_a_good_but_not_the_best_snr():
    k = torch.tensor([1, 3, 3, 3, 5])
    assert typical_scene(k, torch.tensor([5.0, -5.0, 20.0, 7.0, 6.0])) == 3
    assert typical_scene(torch.tensor([1, 2, 2]), torch.tensor([9.0, 0.0, 8.0])) == 2


def test_the_map_is_the_spectrum_at_the_best_elevation():
    generator = torch.Generator().manual_seed(1)
    factor = torch.randn(2, 144, 3, generator=generator, dtype=torch.complex128)
    covariance = FactoredCovariance(factor, torch.tensor([0.5, 3.0], dtype=torch.float64))
    spectrum, azimuth_rad, range_m = angle_range_spectrum(covariance, CONFIG)
    assert spectrum.shape == (91, 24)
    dense = covariance.dense()[0].numpy()
    for row, column in ((17, 5), (80, 23)):
        power = []
        for elevation_rad in np.linspace(-CONFIG.scene.elevation_max_rad, CONFIG.scene.elevation_max_rad, 21):
            a = steering_vector(CONFIG.array, azimuth_rad[row], torch.tensor(elevation_rad), range_m[column]).numpy()
            power.append(np.vdot(a, dense @ a).real / 144)
        np.testing.assert_allclose(float(spectrum[row, column]), max(power), rtol=1e-9)


def test_the_map_peaks_at_a_single_source():
    config = CONFIG.replaced(scene={"k_max": 1, "snr_min_db": 20.0, "range_max_m": 2.0})
    simulated = simulate(config, 6, torch.Generator().manual_seed(2))
    scenes = MemoryScenes(Batch(simulated.measurements, simulated.sources, simulated.symbols))
    for index in range(6):
        shown = example(
            scenes, index, config, {"none": Sources.from_position(torch.zeros(6, 1, 3), torch.zeros(6, 1), torch.zeros(6).long())}
        )
        table = np.array(shown["spectrum_db"])
        assert table.max() == 0.0
        row, column = np.unravel_index(table.argmax(), table.shape)
        true = shown["truth"][0]
        assert abs(shown["azimuth_deg"][row] - true["azimuth_deg"]) <= 4.0
        assert abs(1 / shown["range_m"][column] - 1 / true["range_m"]) <= 0.35
        assert shown["estimates"] == {"none": []}
