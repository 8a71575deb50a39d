"""Transformer blocks on top of each other: an encoder, where all see all, and a decoder, which looks back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, Unpack

from torch import Tensor, nn

from sightline.masks import Mask, as_mask, causal, window
from sightline.matrix import AttentionMatrix
from sightline.nn.alibi import Alibi
from sightline.nn.decoder_cache import DecoderCache
from sightline.nn.relative import RelativePositions
from sightline.nn.transformer_block import BlockMatrices, BlockOptions, TransformerBlock, make_norm


class DecoderMatrices(NamedTuple):
    """The attention matrices of a decoder, one for each block; no cross-attention, an empty list."""

    self_attention: list[AttentionMatrix]
    cross_attention: list[AttentionMatrix]


class _Stack(nn.Module):
    """Blocks, what biases them all, and the norm behind pre-norm blocks."""

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
        if window is not None and window < 1:
            raise ValueError(f"window: must be 1 or more keys, got {window}. None shows all.")
        self.window, self.positions = window, positions
        self.blocks = nn.ModuleList(
            TransformerBlock(width, heads, cross_attention=cross_attention, **block) for _ in range(layers)
        )
        self.norm = (
            make_norm(block.get("norm", "layer"), width, block.get("norm_eps", 1e-5))
            if block.get("norm_first", True)
            else nn.Identity()
        )


class TransformerEncoder(_Stack):
    """Blocks in which every position sees every other one, with a final norm where they are pre-norm.

    Args:
        layers: how many blocks.
        width: C.
        heads: H.
        positions: :class:`Alibi` or :class:`RelativePositions`, which bias every block. Default: none.
        window: how many keys before and after itself a position sees. Default: all.
        **block: as for :class:`TransformerBlock`; one ``rotary`` serves all.

    Raises:
        ValueError: for a window below 1, and as :class:`TransformerBlock`.

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
        **block: Unpack[BlockOptions],
    ) -> None:
        super().__init__(
            layers, width, heads, cross_attention=False, positions=positions, window=window, **block
        )

    def forward(
        self,
        x: Tensor,
        *,
        mask: Mask | Tensor | None = None,
        return_matrices: bool = False,
        behind: Sequence[Callable[[Tensor], Tensor]] = (),
    ) -> Tensor | tuple[Tensor, list[AttentionMatrix]]:
        """x [B,N,C] → [B,N,C]; with ``return_matrices`` also the matrix of each block.

        ``behind`` gives a layer for each block, which takes what the block gives.
        """
        if self.window is not None:
            mask = _both(window(self.window, self.window), mask)
        bias = None if self.positions is None else self.positions()
        matrices: list[AttentionMatrix] = []
        for at, block in enumerate(self.blocks):
            x = block(x, mask=mask, bias=bias, return_matrix=return_matrices)
            if return_matrices:
                x, found = x
                matrices.append(found.self_attention)
            if behind:
                x = behind[at](x)
        x = self.norm(x)
        return (x, matrices) if return_matrices else x


class TransformerDecoder(_Stack):
    """Blocks in which each position sees itself and those before it, and a memory if there is one.

    Args:
        layers: how many blocks.
        width: C.
        heads: H.
        cross_attention: whether positions also look at a memory. Default: False.
        positions: :class:`Alibi` or :class:`RelativePositions`, which bias every block. Default: none.
        window: how many keys a position sees, itself included. Default: all before it.
        **block: as for :class:`TransformerBlock`; one ``rotary`` serves all.

    Raises:
        ValueError: for a window below 1, and as :class:`TransformerBlock`.

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
        **block: Unpack[BlockOptions],
    ) -> None:
        super().__init__(
            layers, width, heads, cross_attention=cross_attention, positions=positions, window=window, **block
        )

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
            ValueError: as :class:`TransformerBlock`.
        """
        start = 0 if cache is None else cache.start
        back = causal(start) if self.window is None else window(self.window - 1, 0, start)
        mask = _both(back, mask)
        bias = None if self.positions is None else self.positions(start)
        found: list[BlockMatrices] = []
        for i, block in enumerate(self.blocks):
            x = block(
                x, memory, mask=mask, bias=bias, memory_mask=memory_mask, lengths=lengths,
                cache=None if cache is None else cache.self_attention[i],
                memory_cache=None if cache is None or memory is None else cache.cross_attention[i],
                return_matrix=return_matrices,
            )  # fmt: skip
            if return_matrices:
                x, matrices = x
                found.append(matrices)
        x = self.norm(x)
        if not return_matrices:
            return x
        crossed = [m.cross_attention for m in found if m.cross_attention is not None]
        return x, DecoderMatrices([m.self_attention for m in found], crossed)


def _both(mask: Mask, other: Mask | Tensor | None) -> Mask:
    return mask if other is None else mask & as_mask(other)
