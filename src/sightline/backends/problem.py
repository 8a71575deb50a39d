"""What a backend is given: one attention problem, checked and lowered to plain tensors.

Letters: B batch, H query heads, G key/value heads (G divides H), N queries, M keys, D query/key width,
E value width, R key ranges per query.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

# The fields of a Problem that gradients reach.
GRADIENTS = ("query", "key", "value", "bias", "slopes", "table", "sinks")


@dataclass(slots=True)  # never changed, but frozen dataclasses take three times as long to make
class Problem:
    """One attention problem. Broadcast axes have size 1; a term that is ``None`` is left out.

    Attributes:
        query: [B,H,N,D].
        key: [B,G,M,D].
        value: [B,G,M,E]; ``None`` where only the weights are asked for.
        scale: what q·k is multiplied with.
        softcap: ``softcap * tanh(scaled / softcap)``; ``None`` for none.
        ranges: [1|B, 1|H, N, R, 2] int32, half-open key ranges per query, sorted, disjoint, within
            [0, M]; empty ones have lo >= hi.
        visible: [1|B, 1|H, 1|N, 1|M] bool, False hides; holds besides ``ranges``, not instead of them.
        bias: [1|B, 1|H, 1|N, 1|M] floating, added to the scores; -inf hides.
        slopes: [1|B, H] ALiBi slopes: ``-slope * |i + offset - j|``.
        table: [1|H, 2R+1] relative bias: ``table[h, clip(j - i - offset, -R, R) + R]``.
        offset: [1|B] int64, the position of query 0, for ``slopes`` and ``table``.
        sinks: [H] logits that join the denominator only.
        dropout: the share of weights that is zeroed, the rest scaled by ``1 / (1 - dropout)``.
        seed: [] int64, what the dropout pattern is drawn from.
    """

    query: Tensor
    key: Tensor
    value: Tensor | None
    scale: float
    softcap: float | None = None
    ranges: Tensor | None = None
    visible: Tensor | None = None
    bias: Tensor | None = None
    slopes: Tensor | None = None
    table: Tensor | None = None
    offset: Tensor | None = None
    sinks: Tensor | None = None
    dropout: float = 0.0
    seed: Tensor | None = None

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(B, H, N, M): the shape of the attention matrix."""
        b, h, n, _ = self.query.shape
        return b, h, n, self.key.shape[2]

    @property
    def group(self) -> int:
        """Query heads that share one key/value head, H / G."""
        return self.query.shape[1] // self.key.shape[1]


def empty_context(query: Tensor, value_width: int, dtype: torch.dtype | None = None) -> Tensor:
    """Room for the context [B,H,N,E], laid out like the query.

    Heads that were split off the last axis lie interleaved, [B,N,H,D] in memory; then so does the context,
    and concatenating the heads again copies nothing.
    """
    b, h, n, _ = query.shape
    if query.stride(1) < query.stride(2):
        return query.new_empty((b, n, h, value_width), dtype=dtype).transpose(1, 2)
    return query.new_empty((b, h, n, value_width), dtype=dtype)


def empty_gradient(name: str, like: Tensor, dtype: torch.dtype) -> Tensor:
    """Room for the gradient of a field: that of query, key or value has its heads where the tensor has."""
    if name in ("query", "key", "value"):
        return empty_context(like, like.shape[3], dtype)
    return torch.empty(like.shape, dtype=dtype, device=like.device)
