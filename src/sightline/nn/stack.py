"""What stacks of Transformer blocks have in common."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Unpack

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
        ValueError: for a window or global_every below 1, or the latter alone, and as
            :class:`TransformerBlock`.
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
        global_every: int | None,
        **block: Unpack[BlockOptions],
    ) -> None:
        super().__init__()
        layers, width = integer("layers", layers, 0), integer("width", width, 1)
        if window is not None:
            window = integer("window", window, 1, remedy="None shows everything.")
        if positions is not None:
            kind("positions", positions, (Alibi, RelativePositions), "an Alibi or RelativePositions")
        if global_every is not None:
            global_every = integer("global_every", global_every, 1, remedy="None limits every block.")
            if window is None:
                raise ValueError(f"global_every: {global_every} without a window. Give one, or leave it out.")
        self.window, self.global_every, self.positions = window, global_every, positions
        self.blocks = nn.ModuleList(
            TransformerBlock(width, heads, cross_attention=cross_attention, **block) for _ in range(layers)
        )
        self.norm = (
            make_norm(block.get("norm", "layer"), width, block.get("norm_eps", 1e-5))
            if block.get("norm_first", True)
            else nn.Identity()
        )

    def masks(self, window: Callable[[int | None], Mask | None], mask: Mask | Tensor | None) -> list[Any]:
        """The mask of each block; those of one window share theirs.

        Args:
            window: makes what a block of so many keys sees; None is all.
            mask: what may be looked at besides.
        """
        local, everywhere = (_both(window(size), mask) for size in (self.window, None))
        every = self.global_every or len(self.blocks) + 1
        return [local if (at + 1) % every else everywhere for at in range(len(self.blocks))]


def _both(mask: Mask | None, other: Mask | Tensor | None) -> Mask | Tensor | None:
    if mask is None or other is None:
        return other if mask is None else mask
    return mask & as_mask(other)
