"""T5's relative positions: one trained number per head and bucket of distances."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from sightline.biases import Bias, relative
from sightline.common.check import flag, integer
from sightline.positions.align import Align


class RelativePositions(nn.Module):
    """T5's relative positions: a bias with one trained number for each head and bucket of distances.

    Calling it gives ``weight[bucket(j − i − offset), h]`` for query i and key j. Short distances have a
    bucket each, longer ones share buckets that widen logarithmically, and from ``max_distance`` on the last
    bucket serves all. So the bias is a table [H, 2·max_distance + 1], which the kernels read by distance:
    memory stays linear. One module usually serves all layers.

    Args:
        heads: H.
        buckets: how many. Default: 32.
        max_distance: the distance from which on all share one bucket. Default: 128.
        bidirectional: whether keys ahead have buckets of their own (half of them), as encoders need, or share
            that of distance 0, as in decoders, where a mask hides them. Default: True.

    Raises:
        ValueError: for fewer than one head, a number of buckets that does not divide between the sides, or a
            ``max_distance`` that leaves no distances to share.

    Source: Raffel et al. 2020, "Exploring the limits of transfer learning" (T5).

    Example:
        >>> import torch
        >>> from sightline.nn import RelativePositions, SelfAttention
        >>> layer, positions = SelfAttention(32, heads=4), RelativePositions(4)
        >>> layer(torch.randn(1, 5, 32), bias=positions()).shape
        torch.Size([1, 5, 32])
    """

    def __init__(
        self, heads: int, *, buckets: int = 32, max_distance: int = 128, bidirectional: bool = True
    ) -> None:
        super().__init__()
        sides = 2 if flag("bidirectional", bidirectional) else 1
        heads, buckets = integer("heads", heads, 1), integer("buckets", buckets)
        max_distance = integer("max_distance", max_distance)
        if buckets < 2 * sides or buckets % sides:
            raise ValueError(f"buckets: must be {2 * sides} or more and divisible by {sides}, got {buckets}.")
        if max_distance <= buckets // sides // 2:
            raise ValueError(
                f"max_distance: must be above {buckets // sides // 2}, the distances that have a bucket of "
                f"their own when there are {buckets}; got {max_distance}."
            )
        self.heads, self.buckets, self.max_distance = heads, buckets, max_distance
        self.bidirectional = bidirectional
        self.weight = nn.Parameter(torch.empty(buckets, heads))
        nn.init.normal_(self.weight, std=0.02)

    def forward(self, align: Align = "bottom-right", device: torch.device | None = None) -> Bias:
        """The bias, where the weights lie.

        Args:
            align: where query 0 stands, as for :func:`sightline.causal`.
            device: as :class:`Alibi` has it; not read here.
        """
        reach = self.max_distance
        distances = torch.arange(-reach, reach + 1, device=self.weight.device)  # key minus query
        return relative(self.weight[self.bucket(distances)].T, align)

    def bucket(self, distances: Tensor) -> Tensor:
        """The bucket of each distance j − i."""
        buckets, first = self.buckets, torch.zeros_like(distances)
        if self.bidirectional:
            buckets //= 2
            first = (distances > 0).long() * buckets
            distances = distances.abs()
        else:
            distances = -distances.clamp(max=0)
        exact = buckets // 2
        ratio = math.log(self.max_distance / exact)
        shared = torch.log(distances.clamp(min=exact).float() / exact) / ratio * (buckets - exact)
        wide = (exact + shared.long()).clamp(max=buckets - 1)
        return first + torch.where(distances < exact, distances, wide)
