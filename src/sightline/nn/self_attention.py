"""Self-attention with its projections."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, overload

from torch import Tensor

from sightline.biases import Bias
from sightline.common.check import kind
from sightline.masks import Mask
from sightline.matrix import AttentionMatrix
from sightline.nn.given import check_rows
from sightline.nn.kv_cache import KVCache
from sightline.nn.projections import Projections
from sightline.nn.ragged import check_aligned
from sightline.nn.rotary import Rotary


class SelfAttention(Projections):
    """Attention whose queries, keys and values come from one sequence.

    ``context = softmax(mask(q·kᵀ/√D + bias)) · v`` per head, with ``q = x·Wq``, ``k = x·Wk``, ``v = x·Wv``;
    the output is the heads side by side, ``· Wo``. Weights are initialised by Xavier's uniform rule, biases
    with 0. x and the output are [B,N,C].

    Args:
        width: C, the width of x and of the output.
        heads: H. D = C / H.
        kv_heads: G, which divides H: grouped queries. Default: H.
        bias: whether the projections add a bias. Default: True.
        dropout: of the weights, while training. Default: 0.
        rotary: turns queries and keys by their positions. Default: none.

    Raises:
        ValueError: for heads that do not divide the width, kv_heads that do not divide the heads, or a rotary
            of another width than a head's.

    Sources: Vaswani et al. 2017, "Attention is all you need"; Ainslie et al. 2023, "GQA".

    Example:
        >>> import sightline, torch
        >>> from sightline.nn import Rotary, SelfAttention
        >>> layer = SelfAttention(32, heads=4, kv_heads=2, rotary=Rotary(8))
        >>> output, A = layer(torch.randn(1, 5, 32), mask=sightline.causal(), return_matrix=True)
        >>> output.shape, A.shape
        (torch.Size([1, 5, 32]), torch.Size([1, 4, 5, 5]))
    """

    def __init__(
        self,
        width: int,
        heads: int,
        *,
        kv_heads: int | None = None,
        bias: bool = True,
        dropout: float = 0.0,
        rotary: Rotary | None = None,
    ) -> None:
        super().__init__(width, heads, kv_heads=kv_heads, memory_width=width, bias=bias, dropout=dropout)
        if rotary is not None:
            kind("rotary", rotary, Rotary, "a Rotary")
            if rotary.width != self.head_width:
                raise ValueError(
                    f"rotary: its width {rotary.width} differs from that of a head, D={self.head_width}."
                )
        self.rotary = rotary

    @overload
    def forward(
        self,
        x: Tensor,
        *,
        mask: Mask | Tensor | None = None,
        bias: Bias | Tensor | None = None,
        cache: KVCache | None = None,
        lengths: Tensor | Sequence[int] | None = None,
        return_matrix: Literal[False] = False,
    ) -> Tensor: ...

    @overload
    def forward(
        self,
        x: Tensor,
        *,
        mask: Mask | Tensor | None = None,
        bias: Bias | Tensor | None = None,
        cache: KVCache | None = None,
        lengths: Tensor | Sequence[int] | None = None,
        return_matrix: Literal[True],
    ) -> tuple[Tensor, AttentionMatrix]: ...

    def forward(
        self,
        x: Tensor,
        *,
        mask: Mask | Tensor | None = None,
        bias: Bias | Tensor | None = None,
        cache: KVCache | None = None,
        lengths: Tensor | Sequence[int] | None = None,
        return_matrix: bool = False,
    ) -> Tensor | tuple[Tensor, AttentionMatrix]:
        """x [B,N,C] looks at itself and at what the cache holds; the new keys join the cache.

        Args:
            x: [B,N,C].
            mask, bias: as in :func:`sightline.attention`.
            cache: keys and values of the steps before. Its entries may have different lengths: each goes on
                at its own position, and what lies past its own length is hidden.
            lengths: with a cache, how many rows of each entry count, the others being padding on the right:
                [B] integers. Their outputs mean nothing. Default: all.
            return_matrix: whether to return the :class:`AttentionMatrix` as well.

        Raises:
            ValueError: for lengths without a cache, or a mask or bias aligned to the bottom right where
                entries stand elsewhere: align those with ``align=cache.start``, read before the step.
        """
        check_rows("x", x, self.width, self.query)
        if cache is not None:
            kind("cache", cache, KVCache, "a KVCache")
        if cache is None and lengths is not None:
            raise ValueError(
                "lengths: say what a cache is to keep. Without one, mask=sightline.lengths(...)."
            )
        query = self.queries(x)  # [B,H,N,D]
        key, value = self.keys_and_values(x)  # [B,G,N,D]
        if self.rotary is not None:
            start = 0 if cache is None else cache.start
            query, key = self.rotary(query, start), self.rotary(key, start)
        if cache is not None:
            check_aligned(mask, bias, cache, query.shape[2], lengths)
            cache.append(key, value, lengths=lengths)
            return self.attend_cached(query, cache, mask, bias, return_matrix)
        return self.attend(query, key, value, mask, bias, return_matrix)

    if TYPE_CHECKING:  # nn.Module's own call takes and returns Any
        __call__ = forward
