"""ALiBi: a slope for each head, which weighs keys by their distance."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from sightline.biases import Bias
from sightline.biases import alibi as alibi_bias
from sightline.common.check import integer
from sightline.nn.fixed import Fixed
from sightline.positions.align import Align


def alibi_slopes(heads: int) -> Tensor:
    """The slopes of the paper, one for each head.

    ``slope_h = 2^(−8(h+1)/H)`` for H a power of two; for another H those of the next lower power of two,
    and then every other one of twice that.

    Args:
        heads: H.

    Returns:
        [H] float32.

    Raises:
        ValueError: for fewer than one head; TypeError: for heads that are no integer.

    Source: Press et al. 2022, "Train short, test long".

    Example:
        >>> from sightline.nn import alibi_slopes
        >>> alibi_slopes(4).tolist()
        [0.25, 0.0625, 0.015625, 0.00390625]
    """
    return torch.tensor(_slopes(integer("heads", heads, 1)), dtype=torch.float32)


class Alibi(Fixed):
    """ALiBi: a bias that weighs keys by their distance, with the paper's slope for each head.

    Calling it gives ``−slope_h · |i + offset − j|`` for query i and key j, a :class:`sightline.Bias` that is
    never expanded to [B,H,N,M]. The slopes, :func:`alibi_slopes`, are [H], float32 or better.

    Args:
        heads: H.

    Raises:
        ValueError: for fewer than one head; TypeError: for heads that are no integer.

    Source: Press et al. 2022, "Train short, test long".

    Example:
        >>> import torch
        >>> from sightline.nn import Alibi, SelfAttention
        >>> layer, positions = SelfAttention(32, heads=4), Alibi(4)
        >>> layer(torch.randn(1, 5, 32), bias=positions()).shape
        torch.Size([1, 5, 32])
    """

    slopes: Tensor

    def __init__(self, heads: int) -> None:
        self.heads = integer("heads", heads, 1)
        super().__init__("slopes")

    def _compute(self) -> Tensor:
        return torch.tensor(_slopes(self.heads), dtype=torch.float64, device="cpu")

    def forward(self, align: Align = "bottom-right", device: torch.device | None = None) -> Bias:
        """The bias.

        Args:
            align: where query 0 stands, as for :func:`sightline.causal`.
            device: where the queries lie. Default: where the slopes lie.
        """
        return alibi_bias(self.slopes if device is None else self.numbers(device), align)


def _slopes(heads: int) -> list[float]:
    power = 2 ** int(math.log2(heads))
    slopes = [2.0 ** (-8 * (h + 1) / power) for h in range(power)]
    between = [2.0 ** (-4 * (h + 1) / power) for h in range(0, 2 * power, 2)]
    return slopes + between[: heads - power]
