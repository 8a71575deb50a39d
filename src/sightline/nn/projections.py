"""The projections that self- and cross-attention share."""

from __future__ import annotations

from torch import Tensor, nn

from sightline.biases import Bias
from sightline.call.attention import attention
from sightline.common.check import flag, integer, share
from sightline.masks import Mask
from sightline.matrix import AttentionMatrix
from sightline.nn.given import check_rows
from sightline.nn.kv_cache import KVCache
from sightline.nn.linear import Linear


class Projections(nn.Module):
    """Query, key, value and output projections, and attention by head between them.

    ``q = x·Wq``, ``k = memory·Wk``, ``v = memory·Wv``, and ``output = [heads side by side]·Wo``. Weights are
    initialised by Xavier's uniform rule, biases with 0.

    Args:
        width: C, which the heads divide: D = C / H.
        heads: H.
        kv_heads: G, which divides H; ``None`` for H.
        memory_width: width of what keys and values are made from.
        bias: whether the projections add a bias.
        dropout: of the weights, while training.

    Raises:
        ValueError: for heads that do not divide the width, or kv_heads that do not divide the heads.
    """

    def __init__(
        self, width: int, heads: int, *, kv_heads: int | None, memory_width: int, bias: bool, dropout: float
    ) -> None:
        super().__init__()
        width, heads = integer("width", width, 1), integer("heads", heads)
        groups = heads if kv_heads is None else integer("kv_heads", kv_heads)
        memory_width, bias = integer("memory_width", memory_width, 1), flag("bias", bias)
        if heads < 1 or width % heads:
            raise ValueError(
                f"heads: {heads} do not divide the width {width}. D = width / heads must be whole."
            )
        if groups < 1 or heads % groups:
            raise ValueError(f"kv_heads: {groups} (axis G) do not divide heads={heads} (axis H).")
        self.heads, self.kv_heads, self.dropout = heads, groups, share("dropout", dropout)
        self.width, self.memory_width = width, memory_width
        self.head_width = width // heads
        self.query = Linear(width, width, bias=bias)
        self.key = Linear(memory_width, groups * self.head_width, bias=bias)
        self.value = Linear(memory_width, groups * self.head_width, bias=bias)
        self.output = Linear(width, width, bias=bias)
        for layer in (self.query, self.key, self.value, self.output):
            nn.init.xavier_uniform_(layer.weight)
            if bias:
                nn.init.zeros_(layer.bias)

    def queries(self, x: Tensor) -> Tensor:
        """x [B,N,C] → queries [B,H,N,D]."""
        check_rows("x", x, self.width, self.query)
        return self._split(self.query(x), self.heads)

    def keys_and_values(self, memory: Tensor) -> tuple[Tensor, Tensor]:
        """memory [B,M,Cm] → keys and values [B,G,M,D]."""
        check_rows("memory", memory, self.memory_width, self.key)
        return (
            self._split(self.key(memory), self.kv_heads),
            self._split(self.value(memory), self.kv_heads),
        )

    def attend(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        mask: Mask | Tensor | None,
        bias: Bias | Tensor | None,
        return_matrix: bool,
    ) -> Tensor | tuple[Tensor, AttentionMatrix]:
        """Queries [B,H,N,D], keys and values [B,G,M,D] → the output [B,N,C], and the matrix if asked for."""
        dropout = self.dropout if self.training else 0.0
        if not return_matrix:
            return self._join(attention(query, key, value, mask=mask, bias=bias, dropout=dropout))
        context, matrix = attention(
            query, key, value, mask=mask, bias=bias, dropout=dropout, return_matrix=True
        )
        return self._join(context), matrix

    def attend_cached(
        self,
        query: Tensor,
        cache: KVCache,
        mask: Mask | Tensor | None,
        bias: Bias | Tensor | None,
        return_matrix: bool,
    ) -> Tensor | tuple[Tensor, AttentionMatrix]:
        """The same over what a cache holds, whose scores, if it keeps any, take the step in."""
        dropout = self.dropout if self.training else 0.0
        if not return_matrix:
            return self._join(cache.attend(query, mask=mask, bias=bias, dropout=dropout))
        context, matrix = cache.attend(query, mask=mask, bias=bias, dropout=dropout, return_matrix=True)
        return self._join(context), matrix

    def _split(self, x: Tensor, heads: int) -> Tensor:
        """[B,N,H·D] → [B,H,N,D]."""
        by_head: Tensor = x.unflatten(-1, (heads, self.head_width)).transpose(1, 2)
        return by_head

    def _join(self, context: Tensor) -> Tensor:
        """[B,H,N,D] → [B,N,C]."""
        output: Tensor = self.output(context.transpose(1, 2).flatten(2))
        return output
