"""The mel scale: triangles over the spectrum, and the effect of another length of the vocal tract."""

from __future__ import annotations

import torch
from torch import Tensor


def to_mel(hertz: Tensor) -> Tensor:
    """``2595 · log₁₀(1 + f / 700)`` (O'Shaughnessy 1987)."""
    return 2595 * torch.log10(1 + hertz / 700)


def from_mel(mel: Tensor) -> Tensor:
    """The inverse of :func:`to_mel`."""
    return 700 * (10 ** (mel / 2595) - 1)


def edges(low: float, high: float, bins: int) -> Tensor:
    """[bins + 2] frequencies in Hz, evenly spaced in mel; bin b goes from b to b + 2, its peak is b + 1."""
    ends = to_mel(torch.tensor([low, high], dtype=torch.float64))
    return from_mel(torch.linspace(float(ends[0]), float(ends[1]), bins + 2, dtype=torch.float64))


def triangles(corners: Tensor, size: int, rate: int) -> Tensor:
    """[size // 2 + 1, bins] triangles of height 1 between ``corners`` over the bins of an FFT."""
    frequencies = torch.arange(size // 2 + 1, dtype=torch.float64)[:, None] * rate / size
    left, centre, right = corners[:-2], corners[1:-1], corners[2:]
    rising, falling = (frequencies - left) / (centre - left), (right - frequencies) / (right - centre)
    return torch.minimum(rising, falling).clamp(min=0)


def warping(factor: float, low: float, high: float, bins: int) -> Tensor:
    """[bins, bins]: log-mel energies of a voice whose frequencies are ``factor`` times as low.

    Bin b of the result is read at ``factor`` times its frequency, between the two bins nearest to it.

    Source: Jaitly & Hinton 2013, "Vocal tract length perturbation (VTLP) improves speech recognition".
    """
    centres = edges(low, high, bins)[1:-1]
    places = to_mel(centres)
    at = (to_mel(centres * factor) - places[0]) / (places[1] - places[0]) if bins > 1 else places * 0
    at = at.clamp(0, bins - 1)
    below = at.floor().long().clamp(max=max(0, bins - 2))
    share = at - below
    rows, weights = torch.arange(bins), torch.zeros(bins, bins, dtype=torch.float64)
    weights[rows, below] += 1 - share
    weights[rows, (below + 1).clamp(max=bins - 1)] += share
    return weights
