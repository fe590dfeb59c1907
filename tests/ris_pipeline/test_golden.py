"""Golden values from an independent implementation: steering vectors, codebook, effective covariances.

``tests/data/golden.json`` states its conventions. The code must meet the numbers; they are never regenerated from it.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from ris_pipeline.arrays import steering_vector
from ris_pipeline.codes import code_phasors, codebook, select_beams
from ris_pipeline.config import ArrayConfig, CodesConfig, Config
from ris_pipeline.covariance import FactoredCovariance, Shrinkage, build_effective_covariance
from ris_pipeline.simulation import clean_snapshots

DATA = Path(__file__).parents[1] / "data"
GOLDEN = json.loads((DATA / "golden.json").read_text(encoding="utf-8"))


def complex_array(value):
    return np.asarray(value["re"]) + 1j * np.asarray(value["im"])


@pytest.mark.parametrize("case", GOLDEN["steering"], ids=lambda case: f"{case['n_h']}x{case['n_v']} at {case['range_m']:.3g} m")
def test_steering_vector_equals_golden_value(case):
    array = ArrayConfig(n_h=case["n_h"], n_v=case["n_v"], spacing_m=case["spacing_m"], wavelength_m=case["wavelength_m"])
    coordinates = (torch.tensor(case[name], dtype=torch.float64) for name in ("azimuth_rad", "elevation_rad", "range_m"))
    np.testing.assert_allclose(steering_vector(array, *coordinates).numpy(), complex_array(case["value"]), rtol=0, atol=1e-9)


def test_golden_steering_tells_rows_from_columns():
    assert any(case["n_h"] != case["n_v"] for case in GOLDEN["steering"])


def golden_codebook():
    golden = GOLDEN["codebook"]
    array = ArrayConfig(n_h=golden["n_h"], n_v=golden["n_v"])
    codes = CodesConfig(bits=golden["bits"], beams_h=golden["beams_h"], beams_v=golden["beams_v"], snapshots=16)
    return golden, codebook(array, codes), codes


def test_codebook_beams_equal_golden_values():
    golden, book, _ = golden_codebook()
    assert book[9].tolist() == golden["beam_9"]
    assert book[62].tolist() == golden["beam_62"]


def test_codebook_index_sums_equal_golden_values():
    golden, book, _ = golden_codebook()
    assert book.long().sum(dim=1).tolist() == golden["index_sums"]


def test_balanced_beams_equal_golden_values():
    golden, _, codes = golden_codebook()
    assert select_beams(codes, 1, torch.Generator())[0].tolist() == golden["balanced_beams"]


def test_codes_of_the_golden_scenes_are_the_balanced_beams():
    _, book, codes = golden_codebook()
    with np.load(DATA / "crb_cases.npz") as cases:
        assert torch.equal(book[select_beams(codes, 1, torch.Generator())[0]], torch.from_numpy(cases["case0_code_index"]))


@pytest.mark.parametrize("case", GOLDEN["effective_covariance"], ids=lambda c: f"beta {c['beta']}, loading {c['diagonal_loading']}")
def test_effective_covariance_equals_golden_value(case):
    alpha = case["shrinkage"]
    predicted, sample = (
        FactoredCovariance.from_factor(torch.from_numpy(complex_array(case[name]))[None]) for name in ("predicted_factor", "sample_factor")
    )
    effective = build_effective_covariance(
        predicted,
        sample,
        beta=case["beta"],
        diagonal_loading=case["diagonal_loading"],
        shrinkage=Shrinkage(base=alpha, minimum=alpha, maximum=alpha) if alpha else None,
        snr_db=0.0,
    )
    np.testing.assert_allclose(effective.dense()[0].numpy(), complex_array(case["value"]), rtol=0, atol=1e-10)


@pytest.mark.parametrize("index", range(6))
def test_stored_snr_of_the_golden_scenes_is_the_realised_one(index):
    """The independent scenes and this package agree on steering, codes, channel, symbols, powers and noise at once."""
    with np.load(DATA / "crb_cases.npz") as cases:
        scene = {name.split("_", 1)[1]: torch.from_numpy(cases[name])[None] for name in cases.files if name.startswith(f"case{index}_")}
    azimuth_rad, elevation_rad, range_m = scene["position"].unbind(dim=-1)
    steering = steering_vector(Config().array, azimuth_rad, elevation_rad, range_m).transpose(1, 2)
    factor = steering * scene["power"].sqrt()[:, None, :]
    codes = code_phasors(scene["code_index"], 3, torch.complex128)
    clean = clean_snapshots(scene["channel"], codes, factor, scene["symbols"].transpose(1, 2))
    snr_db = 10.0 * torch.log10(clean.abs().square().mean() / scene["noise_variance"])
    assert snr_db.item() == pytest.approx(scene["snr_db"].item(), abs=1e-9)
