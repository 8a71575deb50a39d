"""Self- and cross-attention with their projections."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from sightline.biases import Bias
from sightline.call.attention import attention
from sightline.masks import Mask
from sightline.matrix import AttentionMatrix
from sightline.nn.kv_cache import KVCache
from sightline.nn.ragged import check_aligned, hide_padding
from sightline.nn.rotary import Rotary


class CrossAttention(nn.Module):
    """Queries from one sequence, keys and values from another.

    ``context = softmax(mask(q·kᵀ/√D + bias)) · v`` per head, with ``q = x·Wq``, ``k = memory·Wk``,
    ``v = memory·Wv``; the output is the heads side by side, ``· Wo``. Weights are initialised by Xavier's
    uniform rule, biases with 0.

    Args:
        width: C, the width of x and of the output.
        heads: H. D = C / H.
        kv_heads: G, which divides H: grouped queries. Default: H.
        memory_width: width of the memory. Default: C.
        bias: whether the projections add a bias. Default: True.
        dropout: of the weights, while training. Default: 0.

    Raises:
        ValueError: for heads that do not divide the width, or kv_heads that do not divide the heads.

    Sources: Vaswani et al. 2017, "Attention is all you need"; Ainslie et al. 2023, "GQA".

    Example:
        >>> import torch
        >>> from sightline.nn import CrossAttention
        >>> layer = CrossAttention(32, heads=4)
        >>> output, A = layer(torch.randn(1, 3, 32), torch.randn(1, 7, 32), return_matrix=True)
        >>> output.shape, A.shape
        (torch.Size([1, 3, 32]), torch.Size([1, 4, 3, 7]))
    """

    def __init__(
        self,
        width: int,
        heads: int,
        *,
        kv_heads: int | None = None,
        memory_width: int | None = None,
        bias: bool = True,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        groups = heads if kv_heads is None else kv_heads
        if heads < 1 or width % heads:
            raise ValueError(
                f"heads: {heads} do not divide the width {width}. D = width / heads must be whole."
            )
        if groups < 1 or heads % groups:
            raise ValueError(f"kv_heads: {groups} (axis G) do not divide heads={heads} (axis H).")
        self.heads, self.kv_heads, self.dropout = heads, groups, dropout
        self.head_width = width // heads
        memory = width if memory_width is None else memory_width
        self.query = nn.Linear(width, width, bias=bias)
        self.key = nn.Linear(memory, groups * self.head_width, bias=bias)
        self.value = nn.Linear(memory, groups * self.head_width, bias=bias)
        self.output = nn.Linear(width, width, bias=bias)
        for layer in (self.query, self.key, self.value, self.output):
            nn.init.xavier_uniform_(layer.weight)
            if bias:
                nn.init.zeros_(layer.bias)

    def forward(
        self,
        x: Tensor,
        memory: Tensor,
        *,
        mask: Mask | Tensor | None = None,
        bias: Bias | Tensor | None = None,
        cache: KVCache | None = None,
        return_matrix: bool = False,
    ) -> Tensor | tuple[Tensor, AttentionMatrix]:
        """x [B,N,C] looks at memory [B,M,Cm]; a query with nothing to look at has a context of 0.

        Args:
            x: [B,N,C].
            memory: [B,M,Cm].
            mask, bias: as in :func:`sightline.attention`.
            cache: keeps the memory's keys and values: an empty one is filled, a filled one spares projecting
                the same memory again.
            return_matrix: whether to return the :class:`AttentionMatrix` as well.

        Raises:
            ValueError: for a cache that holds another number of keys than the memory has rows.
        """
        query = self._split(self.query(x), self.heads)  # [B,H,N,D]
        key, value = self._of_memory(memory, cache)  # [B,G,M,D]
        return self._attend(query, key, value, mask, bias, return_matrix)

    def _of_memory(self, memory: Tensor, cache: KVCache | None) -> tuple[Tensor, Tensor]:
        if cache is not None and len(cache):
            if len(cache) != memory.shape[1]:
                raise ValueError(
                    f"cache: holds {len(cache)} keys, but the memory has M={memory.shape[1]} rows (axis M). "
                    "Give each memory a cache of its own."
                )
            return cache.key, cache.value
        key = self._split(self.key(memory), self.kv_heads)
        value = self._split(self.value(memory), self.kv_heads)
        return (key, value) if cache is None else cache.append(key, value)

    def _split(self, x: Tensor, heads: int) -> Tensor:
        split: Tensor = x.unflatten(-1, (heads, self.head_width)).transpose(1, 2)  # [B,H,N,D]
        return split

    def _attend(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        mask: Mask | Tensor | None,
        bias: Bias | Tensor | None,
        return_matrix: bool,
    ) -> Tensor | tuple[Tensor, AttentionMatrix]:
        dropout = self.dropout if self.training else 0.0
        if return_matrix:
            context, matrix = attention(
                query, key, value, mask=mask, bias=bias, dropout=dropout, return_matrix=True
            )
            return self._join(context), matrix
        return self._join(attention(query, key, value, mask=mask, bias=bias, dropout=dropout))

    def _join(self, context: Tensor) -> Tensor:
        joined: Tensor = self.output(context.transpose(1, 2).flatten(2))  # [B,H,N,D] → [B,N,C]
        return joined


class SelfAttention(CrossAttention):
    """Queries, keys and values from one sequence; the memory of :class:`CrossAttention` is x itself.

    Args:
        width: C.
        heads: H.
        kv_heads: G, which divides H. Default: H.
        bias: whether the projections add a bias. Default: True.
        dropout: of the weights, while training. Default: 0.
        rotary: turns queries and keys by their positions. Default: none.

    Raises:
        ValueError: as :class:`CrossAttention`.

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
        super().__init__(width, heads, kv_heads=kv_heads, bias=bias, dropout=dropout)
        self.rotary = rotary

    def forward(  # type: ignore[override]
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
                at its own position, and what lies behind its own length is hidden.
            lengths: with a cache, how many rows of each entry count, the others being padding on the right:
                [B] integers. Their outputs mean nothing. Default: all.
            return_matrix: whether to return the :class:`AttentionMatrix` as well.

        Raises:
            ValueError: for lengths without a cache, or a mask or bias aligned to the bottom right where
                entries stand elsewhere: align those with ``align=cache.start``, read before the step.
        """
        if cache is None and lengths is not None:
            raise ValueError(
                "lengths: say what a cache is to keep. Without one, mask=sightline.lengths(...)."
            )
        query = self._split(self.query(x), self.heads)  # [B,H,N,D]
        key = self._split(self.key(x), self.kv_heads)  # [B,G,N,D]
        value = self._split(self.value(x), self.kv_heads)  # [B,G,N,D]
        start = 0 if cache is None else cache.start
        if self.rotary is not None:
            query, key = self.rotary(query, start), self.rotary(key, start)
        if cache is not None:
            check_aligned(mask, bias, cache, query.shape[2], lengths)
            key, value = cache.append(key, value, lengths=lengths)  # [B,G,M,D]
            mask = hide_padding(mask, cache)
        return self._attend(query, key, value, mask, bias, return_matrix)
