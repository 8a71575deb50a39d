"""A stack of blocks in which each position sees itself and those before it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Unpack

from torch import Tensor

from sightline.common.check import kind
from sightline.masks import Mask, causal, window
from sightline.matrix import AttentionMatrix
from sightline.nn.alibi import Alibi
from sightline.nn.decoder_cache import DecoderCache, cached
from sightline.nn.relative import RelativePositions
from sightline.nn.stack import Stack
from sightline.nn.transformer_block import BlockMatrices, BlockOptions


class DecoderMatrices(NamedTuple):
    """The attention matrices of a decoder, one for each block.

    Attributes:
        self_attention: [B,H,N,N], or [B,H,N,M] with a cache.
        cross_attention: [B,H,N,M] over the memory; an empty list where there is none.

    Example:
        >>> import torch
        >>> from sightline.nn import TransformerDecoder
        >>> _, matrices = TransformerDecoder(3, 16, heads=2)(torch.randn(1, 5, 16), return_matrices=True)
        >>> len(matrices.self_attention), matrices.cross_attention
        (3, [])
    """

    self_attention: list[AttentionMatrix]
    cross_attention: list[AttentionMatrix]

    @classmethod
    def of_blocks(cls, blocks: Sequence[BlockMatrices]) -> DecoderMatrices:
        """Those of its blocks, by kind."""
        crossed = [block.cross_attention for block in blocks if block.cross_attention is not None]
        return cls([block.self_attention for block in blocks], crossed)


class TransformerDecoder(Stack):
    """Blocks in which each position sees itself and those before it, and a memory if there is one.

    Takes x [B,N,C] and a memory [B,M,Cm], gives [B,N,C], and with ``return_matrices=True`` also the
    :class:`DecoderMatrices`. A final norm follows pre-norm blocks.

    Args:
        layers: how many blocks.
        width: C.
        heads: H.
        cross_attention: whether positions also look at a memory. Default: False.
        positions: :class:`Alibi` or :class:`RelativePositions`, which bias every block. Default: none.
        window: how many keys a position sees, itself included. Default: all before it.
        global_every: with a window, every so many blocks one sees without limit: blocks k, 2k, ... (as in
            Gemma 3). Default: none does.
        **block: as for :class:`TransformerBlock`; one ``rotary`` serves all.

    Raises:
        ValueError: for a window or global_every below 1, or the latter alone, and as
            :class:`TransformerBlock`.

    Sources: Vaswani et al. 2017, "Attention is all you need"; Radford et al. 2019, "Language models are
    unsupervised multitask learners".

    Example:
        >>> import torch
        >>> from sightline.nn import Rotary, TransformerDecoder
        >>> decoder = TransformerDecoder(2, 16, heads=2, cross_attention=True, rotary=Rotary(8))
        >>> x, matrices = decoder(torch.randn(1, 4, 16), torch.randn(1, 7, 16), return_matrices=True)
        >>> x.shape, matrices.cross_attention[0].shape
        (torch.Size([1, 4, 16]), torch.Size([1, 2, 4, 7]))
    """

    def __init__(
        self,
        layers: int,
        width: int,
        heads: int,
        *,
        cross_attention: bool = False,
        positions: Alibi | RelativePositions | None = None,
        window: int | None = None,
        global_every: int | None = None,
        **block: Unpack[BlockOptions],
    ) -> None:
        super().__init__(
            layers, width, heads, cross_attention=cross_attention, positions=positions, window=window,
            global_every=global_every, **block,
        )  # fmt: skip

    def forward(
        self,
        x: Tensor,
        memory: Tensor | None = None,
        *,
        mask: Mask | Tensor | None = None,
        memory_mask: Mask | Tensor | None = None,
        cache: DecoderCache | None = None,
        lengths: Tensor | Sequence[int] | None = None,
        return_matrices: bool = False,
    ) -> Tensor | tuple[Tensor, DecoderMatrices]:
        """x [B,N,C] → [B,N,C]; with ``return_matrices`` also the :class:`DecoderMatrices`.

        Args:
            x: [B,N,C].
            memory: [B,M,Cm], for the cross-attention.
            mask: what may be looked at besides being causal, packed documents for instance.
            memory_mask: which rows of the memory may be looked at.
            cache: keys and values of the steps before; entries may differ in length.
            lengths: with a cache, how many rows of each entry count, padded on the right.
            return_matrices: whether to return the matrices as well.

        Raises:
            ValueError: for a cache of another number of blocks, and as :class:`TransformerBlock`.
        """
        if cache is not None and len(cached(cache).self_attention) != len(self.blocks):
            raise ValueError(
                f"cache: is for {len(cache.self_attention)} blocks, but this decoder has "
                f"{len(self.blocks)}. Make one of as many layers."
            )
        kind("x", x, Tensor, "a tensor [B,N,C]")
        start = 0 if cache is None else cache.start
        masks = self.masks(lambda size: causal(start) if size is None else window(size - 1, 0, start), mask)
        bias = None if self.positions is None else self.positions(start, device=x.device)
        of_blocks: list[BlockMatrices] = []
        for i, block in enumerate(self.blocks):
            x = block(
                x, memory, mask=masks[i], bias=bias, memory_mask=memory_mask, lengths=lengths,
                cache=None if cache is None else cache.self_attention[i],
                memory_cache=None if cache is None or memory is None else cache.cross_attention[i],
                return_matrix=return_matrices,
            )  # fmt: skip
            if return_matrices:
                x, of_block = x
                of_blocks.append(of_block)
        x = self.norm(x)
        return (x, DecoderMatrices.of_blocks(of_blocks)) if return_matrices else x
