"""What stacks of Transformer blocks have in common."""

from __future__ import annotations

from typing import Unpack

from torch import Tensor, nn

from sightline.common.check import integer, kind
from sightline.masks import Mask, as_mask
from sightline.nn.alibi import Alibi
from sightline.nn.norm import make_norm
from sightline.nn.relative import RelativePositions
from sightline.nn.transformer_block import BlockOptions, TransformerBlock


class Stack(nn.Module):
    """Blocks, what biases them all, and the norm that follows pre-norm blocks.

    Raises:
        ValueError: for a window below 1, and as :class:`TransformerBlock`.
    """

    def __init__(
        self,
        layers: int,
        width: int,
        heads: int,
        *,
        cross_attention: bool,
        positions: Alibi | RelativePositions | None,
        window: int | None,
        **block: Unpack[BlockOptions],
    ) -> None:
        super().__init__()
        layers, width = integer("layers", layers, 0), integer("width", width, 1)
        if window is not None:
            window = integer("window", window, 1, remedy="None shows everything.")
        if positions is not None:
            kind("positions", positions, (Alibi, RelativePositions), "an Alibi or RelativePositions")
        self.window, self.positions = window, positions
        self.blocks = nn.ModuleList(
            TransformerBlock(width, heads, cross_attention=cross_attention, **block) for _ in range(layers)
        )
        self.norm = (
            make_norm(block.get("norm", "layer"), width, block.get("norm_eps", 1e-5))
            if block.get("norm_first", True)
            else nn.Identity()
        )


def both(mask: Mask, other: Mask | Tensor | None) -> Mask:
    """What both masks allow."""
    return mask if other is None else mask & as_mask(other)
