"""Codebook of the surface: 3-bit separable DFT beams, and which of them a scene shows.

Axes: L snapshots, N elements. A code is stored as the phase index of each element; c = exp(2 pi j index / 2**bits).
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Complex, Int, UInt8
from torch import Tensor

from ris_pipeline.config import ArrayConfig, CodesConfig


def codebook(array: ArrayConfig, codes: CodesConfig) -> UInt8[Tensor, "beams N"]:
    """Phase indices of all beams, beam = jv beams_h + jh.

    phase(jv, jh; v, h) = 2 pi [(h - (n_h-1)/2) jh/n_h + (v - (n_v-1)/2) jv/n_v]; the sum is quantised once.
    """
    levels = 2**codes.bits
    h = torch.arange(array.n_h, dtype=torch.float64) - (array.n_h - 1) / 2
    v = torch.arange(array.n_v, dtype=torch.float64) - (array.n_v - 1) / 2
    turns_h = torch.arange(codes.beams_h, dtype=torch.float64)[:, None] * h / array.n_h
    turns_v = torch.arange(codes.beams_v, dtype=torch.float64)[:, None] * v / array.n_v
    turns = turns_v[:, None, :, None] + turns_h[None, :, None, :]
    index = torch.round(levels * turns).remainder(levels)
    return index.reshape(codes.beams_v * codes.beams_h, array.n_elements).to(torch.uint8)


def select_beams(codes: CodesConfig, count: int, generator: torch.Generator) -> Int[Tensor, "B L"]:
    """Beams that the L snapshots of each of ``count`` scenes show.

    ``balanced`` takes beams jv beams_h + (jv + i beams_h/m) mod beams_h for i = 0..m-1, m = L/beams_v, so that every index of both axes
    is used equally often; ``stride`` takes every (beams/L)-th beam; both are the same for all scenes. ``random`` draws beams without
    replacement for each scene.
    """
    total = codes.beams_h * codes.beams_v
    if codes.selection == "random":
        order = torch.rand(count, total, generator=generator, device=generator.device)
        return order.argsort(dim=1)[:, : codes.snapshots].cpu()
    if codes.selection == "stride":
        beams = torch.arange(codes.snapshots) * (total // codes.snapshots)
    else:
        per_row = codes.snapshots // codes.beams_v
        rows = torch.arange(codes.beams_v).repeat_interleave(per_row)
        shifts = torch.arange(per_row).repeat(codes.beams_v) * (codes.beams_h // per_row)
        beams = rows * codes.beams_h + (rows + shifts) % codes.beams_h
    return beams.expand(count, -1)


def code_phasors(code_index: UInt8[Tensor, "*B L N"], bits: int, dtype: torch.dtype = torch.complex64) -> Complex[Tensor, "*B L N"]:
    """Unit-modulus codes c = exp(2 pi j index / 2**bits)."""
    levels = 2**bits
    angle_rad = torch.arange(levels, dtype=torch.float64, device=code_index.device) * (2.0 * math.pi / levels)
    table = torch.polar(torch.ones_like(angle_rad), angle_rad).to(dtype)
    return table[code_index.long()]
