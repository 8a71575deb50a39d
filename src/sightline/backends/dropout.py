"""The dropout pattern: a counter-based generator, so that any block can be drawn again on its own.

Entry (b,h,i,j) is kept or dropped by a hash of (seed, b, h, i, j) alone: the pattern does not depend on
block sizes, threads, devices or backends, and the backward pass draws the very same one.

Source: Steele, Lea & Flood 2014, "Fast splittable pseudorandom number generators" (the mixing function).
"""

from __future__ import annotations

import torch
from torch import Tensor

from sightline.backends.problem import Problem, compute_dtype
from sightline.backends.schedule import Place

_GAMMA = 0x9E3779B97F4A7C15 - (1 << 64)
_MIX1 = 0xBF58476D1CE4E5B9 - (1 << 64)
_MIX2 = 0x94D049BB133111EB - (1 << 64)
_BITS = 24


def kept(problem: Problem, place: Place) -> Tensor:
    """[b,H,n,m]: 0 where a weight is dropped, 1 / (1 - dropout) where it is kept."""
    assert problem.seed is not None
    device = problem.query.device
    b, h, n, m = problem.shape
    seed, first_row, rows, first_key = problem.seed.unbind() if is_part(problem) else (problem.seed, 0, n, 0)
    batch = torch.arange(b, device=device)[place.batch, None, None]
    row = torch.arange(n, device=device)[place.rows] + first_row
    row = (batch * h + torch.arange(h, device=device)[:, None]) * rows + row
    key = torch.arange(place.cols.start, place.cols.stop, device=device) + first_key
    stream = _mix(seed + (row + 1) * _GAMMA)
    draw = _shift(_mix(stream[..., None] + (key + 1) * _GAMMA), 64 - _BITS)
    threshold, scale = keeping(problem.dropout)
    return (draw < threshold).to(compute_dtype(problem)) * scale


def is_part(problem: Problem) -> bool:
    """Whether the pattern is that of a part of a larger matrix."""
    return problem.seed is not None and problem.seed.dim() > 0


def keeping(dropout: float) -> tuple[int, float]:
    """(what a draw of 24 bits must stay below to be kept, what kept weights are multiplied with)."""
    threshold = round((1 - dropout) * (1 << _BITS))
    # The scale undoes the threshold as rounded, so the mean is exact. Where nothing is kept it has no effect.
    return threshold, (1 << _BITS) / threshold if threshold else 1.0


def _mix(z: Tensor) -> Tensor:
    z = (z ^ _shift(z, 30)) * _MIX1
    z = (z ^ _shift(z, 27)) * _MIX2
    return z ^ _shift(z, 31)


def _shift(z: Tensor, bits: int) -> Tensor:
    """A logical right shift; int64's own keeps the sign."""
    return (z >> bits) & ((1 << (64 - bits)) - 1)
