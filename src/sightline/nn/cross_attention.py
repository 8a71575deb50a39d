"""Cross-attention with its projections."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, overload

from torch import Tensor

from sightline.biases import Bias
from sightline.common.check import kind
from sightline.masks import Mask
from sightline.matrix import AttentionMatrix
from sightline.nn.given import check_rows
from sightline.nn.kv_cache import KVCache
from sightline.nn.projections import Projections


class CrossAttention(Projections):
    """Attention whose queries come from one sequence, and its keys and values from another.

    ``context = softmax(mask(q·kᵀ/√D + bias)) · v`` per head, with ``q = x·Wq``, ``k = memory·Wk``,
    ``v = memory·Wv``; the output is the heads side by side, ``· Wo``. Weights are initialised by Xavier's
    uniform rule, biases with 0. x is [B,N,C], the memory [B,M,Cm], the output [B,N,C].

    Args:
        width: C, the width of x and of the output.
        heads: H. D = C / H.
        kv_heads: G, which divides H: grouped queries. Default: H.
        memory_width: Cm, the width of the memory. Default: C.
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
        memory = width if memory_width is None else memory_width
        super().__init__(width, heads, kv_heads=kv_heads, memory_width=memory, bias=bias, dropout=dropout)

    @overload
    def forward(
        self,
        x: Tensor,
        memory: Tensor,
        *,
        mask: Mask | Tensor | None = None,
        bias: Bias | Tensor | None = None,
        cache: KVCache | None = None,
        return_matrix: Literal[False] = False,
    ) -> Tensor: ...

    @overload
    def forward(
        self,
        x: Tensor,
        memory: Tensor,
        *,
        mask: Mask | Tensor | None = None,
        bias: Bias | Tensor | None = None,
        cache: KVCache | None = None,
        return_matrix: Literal[True],
    ) -> tuple[Tensor, AttentionMatrix]: ...

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
        query = self.queries(x)  # [B,H,N,D]
        key, value = self._cached(memory, cache)  # [B,G,M,D]
        return self.attend(query, key, value, mask, bias, return_matrix)

    if TYPE_CHECKING:  # nn.Module's own call takes and returns Any
        __call__ = forward

    def _cached(self, memory: Tensor, cache: KVCache | None) -> tuple[Tensor, Tensor]:
        """The memory's keys and values, projected once where there is a cache."""
        if cache is None:
            return self.keys_and_values(memory)
        kind("cache", cache, KVCache, "a KVCache")
        check_rows("memory", memory, self.memory_width, self.key)
        if not len(cache):
            return cache.append(*self.keys_and_values(memory))
        if len(cache) != memory.shape[1]:
            raise ValueError(
                f"cache: holds {len(cache)} keys, but the memory has M={memory.shape[1]} rows (axis M). "
                "Give each memory a cache of its own."
            )
        return cache.key, cache.value
