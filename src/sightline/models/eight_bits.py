"""Weights of 8 bits: whole numbers from -127 to 127, times one scale for each row of a matrix.

A scale has 17 binary digits, so that its products with whole numbers of 7 are float32 numbers without
rounding: weights that lie on such a grid can be told from others, and written and read again as they are.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

SCALES = ":scales"
"""What the scales of a tensor are called behind its own name; no parameter has a colon in its own."""

_MOST = 127


class EightBits(NamedTuple):
    """A tensor's rows as whole numbers and scales.

    Attributes:
        numbers: int8, in the tensor's shape.
        scales: float32 [rows]; 0 for a row of zeros.
    """

    numbers: Tensor
    scales: Tensor

    def tensor(self) -> Tensor:
        """The float32 tensor that this stands for: numbers · scales."""
        shape = [-1, *[1] * (self.numbers.dim() - 1)]
        return self.numbers.float() * self.scales.view(shape)


def eight_bits(tensor: Tensor) -> EightBits:
    """The nearest numbers on the grid of each row: s = max|w| / 127, cut to 17 digits, and round(w / s).

    Numbers that lie on such a grid come back exactly. A row is zeros where s would be below 2⁻¹²⁶.

    Args:
        tensor: of two axes or more; the first runs over the rows.
    """
    rows = tensor.detach().float().flatten(1)
    # Cut, not rounded: the largest number of a row is 127 always, by which its scale is found again.
    scales = _cut(rows.abs().amax(1) / _MOST)
    steps = torch.where(scales > 0, scales, torch.ones_like(scales))
    numbers = (rows / steps[:, None]).round().clamp(-_MOST, _MOST).to(torch.int8)
    return EightBits(numbers.view(tensor.shape), scales)


def on_grid(tensor: Tensor) -> EightBits | None:
    """A tensor as 8 bits where that is exact; ``None`` where it is not, or has less than two axes."""
    if tensor.dim() < 2 or not tensor.numel():
        return None
    found = eight_bits(tensor)
    return found if torch.equal(found.tensor(), tensor.float()) else None


def _cut(scales: Tensor) -> Tensor:
    """Float32 numbers without their last 7 digits; 0 for those that have fewer than 24."""
    cut = (scales.contiguous().view(torch.int32) & ~0x7F).view(torch.float32)
    return torch.where(scales >= torch.finfo(torch.float32).tiny, cut, torch.zeros_like(cut))
