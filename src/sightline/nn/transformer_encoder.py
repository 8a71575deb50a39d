"""A stack of blocks in which every position sees every other one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Unpack

from torch import Tensor

from sightline.common.check import kind, shown
from sightline.masks import Mask, window
from sightline.matrix import AttentionMatrix
from sightline.nn.alibi import Alibi
from sightline.nn.relative import RelativePositions
from sightline.nn.stack import Stack
from sightline.nn.transformer_block import BlockOptions


class TransformerEncoder(Stack):
    """Blocks in which every position sees every other one, with a final norm where they are pre-norm.

    Takes and gives [B,N,C], and with ``return_matrices=True`` also a matrix [B,H,N,N] of each block.

    Args:
        layers: how many blocks.
        width: C.
        heads: H.
        positions: :class:`Alibi` or :class:`RelativePositions`, which bias every block. Default: none.
        window: how many keys before and after itself a position sees. Default: all.
        global_every: with a window, every so many blocks one sees without limit: blocks k, 2k, ... (as in
            Gemma 3). Default: none does.
        **block: as for :class:`TransformerBlock`; one ``rotary`` serves all.

    Raises:
        ValueError: for a window or global_every below 1, or the latter alone, and as
            :class:`TransformerBlock`.

    Source: Vaswani et al. 2017, "Attention is all you need".

    Example:
        >>> import sightline, torch
        >>> from sightline.nn import TransformerEncoder
        >>> encoder = TransformerEncoder(2, 16, heads=2)
        >>> x, matrices = encoder(torch.randn(2, 5, 16), mask=sightline.lengths([5, 3]), return_matrices=True)
        >>> x.shape, [A.shape for A in matrices]
        (torch.Size([2, 5, 16]), [torch.Size([2, 2, 5, 5]), torch.Size([2, 2, 5, 5])])
    """

    def __init__(
        self,
        layers: int,
        width: int,
        heads: int,
        *,
        positions: Alibi | RelativePositions | None = None,
        window: int | None = None,
        global_every: int | None = None,
        **block: Unpack[BlockOptions],
    ) -> None:
        super().__init__(
            layers, width, heads, cross_attention=False, positions=positions, window=window,
            global_every=global_every, **block,
        )  # fmt: skip

    def forward(
        self,
        x: Tensor,
        *,
        mask: Mask | Tensor | None = None,
        return_matrices: bool = False,
        behind: Sequence[Callable[[Tensor], Tensor]] = (),
    ) -> Tensor | tuple[Tensor, list[AttentionMatrix]]:
        """x [B,N,C] → [B,N,C]; with ``return_matrices`` also the matrix of each block.

        Args:
            x: [B,N,C].
            mask: what may be looked at besides the window. Default: everything.
            return_matrices: whether to return the attention matrices as well.
            behind: a layer for each block, applied to the block's output. Default: none.

        Raises:
            ValueError: for another number of layers ``behind`` than blocks, and as :class:`TransformerBlock`.
        """
        kind("x", x, Tensor, "a tensor [B,N,C]")
        if behind and not _layers(behind, len(self.blocks)):
            raise ValueError(
                f"behind: expected a layer for each of the {len(self.blocks)} blocks, got {shown(behind)}."
            )
        masks = self.masks(lambda size: None if size is None else window(size, size), mask)
        bias = None if self.positions is None else self.positions(device=x.device)
        matrices: list[AttentionMatrix] = []
        for i, block in enumerate(self.blocks):
            x = block(x, mask=masks[i], bias=bias, return_matrix=return_matrices)
            if return_matrices:
                x, of_block = x
                matrices.append(of_block.self_attention)
            if behind:
                x = behind[i](x)
        x = self.norm(x)
        return (x, matrices) if return_matrices else x


def _layers(behind: Any, count: int) -> bool:
    return isinstance(behind, Sequence) and len(behind) == count and all(map(callable, behind))
