"""Positions that are added to the input vectors or to the scores."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


def alibi_slopes(heads: int) -> Tensor:
    """[H] float32: the slopes of the paper, ``2^(−8(h+1)/H)`` for H a power of two.

    For another H, those of the next lower power of two and then every other one of twice that.

    Raises:
        ValueError: for fewer than one head.

    Source: Press et al. 2022, "Train short, test long".

    Example:
        >>> from sightline.nn import alibi_slopes
        >>> alibi_slopes(4).tolist()
        [0.25, 0.0625, 0.015625, 0.00390625]
    """
    if heads < 1:
        raise ValueError(f"heads: must be 1 or more, got {heads}.")
    power = 2 ** int(math.log2(heads))
    slopes = [2.0 ** (-8 * (h + 1) / power) for h in range(power)]
    between = [2.0 ** (-4 * (h + 1) / power) for h in range(0, 2 * power, 2)]
    return torch.tensor(slopes + between[: heads - power])


def sinusoidal(length: int, width: int) -> Tensor:
    """[N,C] float32: ``sin(p · 10000^(−2f/C))`` at feature 2f, the cosine at 2f + 1.

    Raises:
        ValueError: for an odd or non-positive width.

    Source: Vaswani et al. 2017, "Attention is all you need".

    Example:
        >>> from sightline.nn import sinusoidal
        >>> sinusoidal(2, 4)[0].tolist()
        [0.0, 1.0, 0.0, 1.0]
    """
    if width < 2 or width % 2:
        raise ValueError(f"width: must be even and 2 or more, got {width}.")
    frequencies = 10000.0 ** -(torch.arange(0, width, 2, dtype=torch.float64) / width)
    angles = torch.arange(length, dtype=torch.float64)[:, None] * frequencies
    return torch.stack((angles.sin(), angles.cos()), dim=-1).flatten(1).float()


class LearnedPositions(nn.Module):
    """One trained vector per position: ``x[b,i] + weight[offset + i]``, initialised N(0, 0.02²).

    Raises:
        ValueError: in the forward, for positions beyond ``length``.

    Example:
        >>> import torch
        >>> from sightline.nn import LearnedPositions
        >>> LearnedPositions(8, 4)(torch.zeros(1, 3, 4)).shape
        torch.Size([1, 3, 4])
    """

    def __init__(self, length: int, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(length, width))
        nn.init.normal_(self.weight, std=0.02)

    def forward(self, x: Tensor, offset: int = 0) -> Tensor:
        """x [B,N,C] with the vectors of positions offset … offset + N − 1 added."""
        end = offset + x.shape[1]
        if offset < 0 or end > self.weight.shape[0]:
            raise ValueError(
                f"x: positions {offset} to {end - 1} (axis N) lie outside the "
                f"{self.weight.shape[0]} learned ones. Shorten the input or make more positions."
            )
        return x + self.weight[offset:end]
