"""What a stack of decoder blocks keeps from step to step."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from sightline.common.check import integer, shown
from sightline.nn.key_scores import ScoreKind
from sightline.nn.kv_cache import KVCache


def cached(cache: object) -> DecoderCache:
    """The cache, or an error for what is none."""
    if not isinstance(cache, DecoderCache):
        raise TypeError(f"cache: must be a DecoderCache, as make_cache() gives, got {shown(cache)}.")
    return cache


class DecoderCache:
    """For each block the keys and values of its self-attention, and of the memory that it looks at.

    Both are lists with a :class:`KVCache` for each block: ``self_attention`` grows with each step,
    ``cross_attention`` is filled once.

    Args:
        layers: how many blocks.
        capacity: the most tokens; see :class:`KVCache`. Default: grows.
        scores, window: which scores of keys the self-attention keeps; see :class:`KVCache`. Default: none.

    Raises:
        ValueError: if ``capacity`` is below 1; TypeError: for sizes that are no integers.

    Example:
        >>> import torch
        >>> from sightline.nn import DecoderCache, TransformerDecoder
        >>> decoder, cache = TransformerDecoder(2, 16, heads=2).eval(), DecoderCache(2)
        >>> with torch.no_grad():
        ...     steps = [decoder(torch.randn(1, n, 16), cache=cache) for n in (3, 1)]
        >>> len(cache), steps[1].shape
        (4, torch.Size([1, 1, 16]))
    """

    def __init__(
        self,
        layers: int,
        capacity: int | None = None,
        *,
        scores: ScoreKind | None = None,
        window: int = 32,
    ) -> None:
        layers = integer("layers", layers, 0)
        self.self_attention = [KVCache(capacity, scores=scores, window=window) for _ in range(layers)]
        self.cross_attention = [KVCache() for _ in range(layers)]

    def __len__(self) -> int:
        """M, the length of the longest entry; after an eviction that of the first block."""
        return len(self.self_attention[0]) if self.self_attention else 0

    def __bool__(self) -> bool:
        """True, empty or not."""
        return True

    @property
    def start(self) -> int | Tensor:
        """Where the next token stands: a number, or [B] numbers where entries differ."""
        return self.self_attention[0].start if self.self_attention else 0

    def reorder(self, indices: Tensor | Sequence[int], *, memory: bool = True) -> None:
        """Entry i becomes what entry ``indices[i]`` was; see :meth:`KVCache.reorder`.

        Args:
            indices: [B'] integers from 0 to B - 1.
            memory: whether the memory's keys change places too. Give False where entries change places
                only with others of the same memory, as the beams of one sequence do. Default: True.
        """
        for cache in self.self_attention:
            cache.reorder(indices)
        for cache in self.cross_attention if memory else ():
            if len(cache):
                cache.reorder(indices)

    def truncate(self, n: int | Tensor | Sequence[int]) -> None:
        """Keeps the first ``n`` tokens of each entry; see :meth:`KVCache.truncate`."""
        for cache in self.self_attention:
            cache.truncate(n)
