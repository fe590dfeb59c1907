"""The codebook, and which beams a scene shows."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ris_pipeline.codes import code_phasors, codebook, select_beams
from ris_pipeline.config import ArrayConfig, CodesConfig


def codes_config(**values):
    return CodesConfig(**{"snapshots": 8, "beams_h": 8, "beams_v": 8, **values})


@st.composite
def balanced_codes(draw):
    beams_h, beams_v = draw(st.integers(1, 12)), draw(st.integers(1, 12))
    per_row = draw(st.sampled_from([m for m in range(1, beams_h + 1) if beams_h % m == 0]))
    return CodesConfig(beams_h=beams_h, beams_v=beams_v, snapshots=beams_v * per_row)


@given(
    st.builds(ArrayConfig, n_h=st.integers(1, 7), n_v=st.integers(1, 7)),
    st.builds(
        CodesConfig,
        bits=st.integers(1, 8),
        beams_h=st.integers(1, 6),
        beams_v=st.integers(1, 6),
        snapshots=st.just(1),
        selection=st.just("stride"),
    ),
)
def test_codebook_equals_the_definition_in_exact_arithmetic(array, codes):
    """Phases are summed as fractions and quantised once; at an exact tie either neighbour is right."""
    book = codebook(array, codes)
    levels = 2**codes.bits
    assert book.shape == (codes.beams_h * codes.beams_v, array.n_elements)
    assert book.dtype == torch.uint8
    for jv in range(codes.beams_v):
        for jh in range(codes.beams_h):
            for v in range(array.n_v):
                for h in range(array.n_h):
                    turns = (h - Fraction(array.n_h - 1, 2)) * jh / array.n_h + (v - Fraction(array.n_v - 1, 2)) * jv / array.n_v
                    found = int(book[jv * codes.beams_h + jh, v * array.n_h + h])
                    distance = (levels * turns - found) % levels
                    assert min(distance, levels - distance) <= Fraction(1, 2)
                    assert 0 <= found < levels


@pytest.mark.parametrize("selection", ["balanced", "stride", "random"])
def test_selected_beams_are_distinct_and_in_the_codebook(selection):
    beams = select_beams(codes_config(snapshots=16, selection=selection), 20, torch.Generator().manual_seed(0))
    assert beams.shape == (20, 16)
    assert beams.min() >= 0
    assert beams.max() < 64
    assert all(len(set(row)) == 16 for row in beams.tolist())


@given(balanced_codes())
def test_balanced_selection_uses_every_index_of_both_axes_equally_often(codes):
    beams = select_beams(codes, 1, torch.Generator())[0]
    assert len(set(beams.tolist())) == codes.snapshots
    rows, columns = beams // codes.beams_h, beams % codes.beams_h
    assert torch.bincount(rows, minlength=codes.beams_v).tolist() == [codes.snapshots // codes.beams_v] * codes.beams_v
    if codes.snapshots % codes.beams_h == 0 and codes.beams_v % codes.beams_h == 0:
        assert torch.bincount(columns, minlength=codes.beams_h).tolist() == [codes.snapshots // codes.beams_h] * codes.beams_h


def test_balanced_selection_of_the_default_shows_each_axis_index_twice():
    beams = select_beams(codes_config(snapshots=16), 1, torch.Generator())[0]
    assert torch.bincount(beams // 8, minlength=8).tolist() == [2] * 8
    assert torch.bincount(beams % 8, minlength=8).tolist() == [2] * 8


def test_stride_selection_takes_evenly_spaced_beams():
    assert select_beams(codes_config(snapshots=16, selection="stride"), 1, torch.Generator())[0].tolist() == list(range(0, 64, 4))


def test_each_selection_shows_other_beams():
    shown = {
        selection: tuple(
            sorted(select_beams(codes_config(snapshots=16, selection=selection), 1, torch.Generator().manual_seed(1))[0].tolist())
        )
        for selection in ("balanced", "stride", "random")
    }
    assert len(set(shown.values())) == 3


def test_random_selection_follows_its_generator_and_differs_between_scenes():
    codes = codes_config(snapshots=16, selection="random")
    first, again, other = (select_beams(codes, 6, torch.Generator().manual_seed(seed)) for seed in (5, 5, 6))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert len({tuple(row) for row in first.tolist()}) == 6


def test_random_selection_shows_every_beam_equally_often():
    codes = codes_config(snapshots=16, selection="random")
    counts = torch.bincount(select_beams(codes, 4000, torch.Generator().manual_seed(0)).reshape(-1), minlength=64).double()
    # Each count is binomial with n = 4000 and p = 1/4; five standard deviations.
    assert (counts - 1000.0).abs().max() < 5.0 * (4000 * 0.25 * 0.75) ** 0.5


@pytest.mark.parametrize("selection", ["balanced", "stride"])
def test_fixed_selections_are_the_same_for_all_scenes(selection):
    beams = select_beams(codes_config(snapshots=16, selection=selection), 3, torch.Generator())
    assert torch.equal(beams, beams[:1].expand(3, -1))


@given(st.integers(1, 8), st.sampled_from([torch.complex64, torch.complex128]))
def test_phasors_are_the_roots_of_unity(bits, dtype):
    index = torch.arange(2**bits, dtype=torch.uint8).reshape(1, -1)
    phasors = code_phasors(index, bits, dtype)
    assert phasors.dtype == dtype
    expected = np.exp(2j * np.pi * np.arange(2**bits) / 2**bits)
    np.testing.assert_allclose(phasors[0].numpy(), expected, atol=1e-6 if dtype == torch.complex64 else 1e-14)
    np.testing.assert_allclose(phasors.abs().numpy(), 1.0, atol=1e-6 if dtype == torch.complex64 else 1e-14)


def test_phasors_keep_leading_axes():
    index = torch.randint(0, 8, (2, 3, 4, 5), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    phasors = code_phasors(index, 3)
    assert phasors.shape == index.shape
    assert torch.equal(phasors[1, 2], code_phasors(index[1, 2], 3))
