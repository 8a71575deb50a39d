"""How the operands of weights · value lie: their axes as [heads, queries, keys], though one may be several.

Values that all heads share are multiplied with the weights of all heads at once, [B, H·I, J] · [B, J, E].
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from sightline.tracing.layout import KEY, LEAD, NOTHING, ROW, Axis, Pieces, chained


class ProductGrid(NamedTuple):
    """The axes of a product [P,Q,...] as pieces, and their order as [L,N,...].

    Attributes:
        outer, inner: the pieces of P and of Q.
        lead, queries: which of them, counted through, run over heads and which over queries.
    """

    outer: Pieces
    inner: Pieces
    lead: tuple[int, ...]
    queries: tuple[int, ...]

    @classmethod
    @lru_cache(64)
    def of(cls, pieces: tuple[Pieces, ...], shape: torch.Size) -> ProductGrid | None:
        """The grid of weights [P,Q,M] or [Q,M] with these pieces; ``None`` where they stand otherwise."""
        if len(pieces) != len(shape):
            return None
        if all(axis == NOTHING for one in pieces for _, axis in one):
            return cls.plain(shape)
        outer, inner, keys = pieces if len(pieces) == 3 else ((), *pieces)
        both = outer + inner
        lead = _in_order(both, LEAD)
        queries = _in_order(both, ROW)
        fits = (
            all(axis.role == KEY for _, axis in keys)
            and chained(keys)
            and len(lead) + len(queries) == len(both)
            and all(place >= len(outer) for place in queries)
            and chained([both[place] for place in lead])
            and chained([both[place] for place in queries])
        )
        return cls(outer, inner, lead, queries) if fits else None

    @classmethod
    def plain(cls, shape: torch.Size) -> ProductGrid:
        """The grid of weights [P,Q,M] or [Q,M] as they lie."""
        outer = ((shape[0], Axis(LEAD, 1)),) if len(shape) == 3 else ()
        inner = ((shape[-2], Axis(ROW, 1)),)
        return cls(outer, inner, tuple(range(len(outer))), (len(outer),))

    def rows(self, tensor: Tensor) -> Tensor:
        """[P,Q,X] -> [L,N,X]."""
        if self._simple:
            return tensor if tensor.dim() == 3 else tensor[None]
        sizes = [size for size, _ in self.outer + self.inner]
        return self._flat(tensor.reshape(*sizes, tensor.shape[-1]), 1)

    def value(self, value: Tensor) -> Tensor:
        """[P,M,E] -> [L,M,E]: what several heads share, once for each."""
        if self._simple:
            return value if value.dim() == 3 else value[None]
        both = self.outer + self.inner
        value = value.reshape(*(size for size, _ in self.outer), *(1 for _ in self.inner), *value.shape[-2:])
        shared = [1 if place in self.queries else size for place, (size, _) in enumerate(both)]
        return self._flat(value.expand(*shared, *value.shape[-2:]), 2)[:, 0]

    @property
    def _simple(self) -> bool:
        alone = len(self.outer) == len(self.lead) <= 1
        return alone and self.lead + self.queries == tuple(range(len(self.outer) + len(self.inner)))

    def _flat(self, tensor: Tensor, rest: int) -> Tensor:
        ends = range(tensor.dim() - rest, tensor.dim())
        tensor = tensor.permute(*self.lead, *self.queries, *ends)
        first = math.prod(tensor.shape[: len(self.lead)])
        second = math.prod(tensor.shape[len(self.lead) : tensor.dim() - rest])
        return tensor.reshape(first, second, *tensor.shape[tensor.dim() - rest :])


def _in_order(pieces: Pieces, role: int) -> tuple[int, ...]:
    """The pieces of that role, outermost first."""
    found = [place for place, (_, axis) in enumerate(pieces) if axis.role == role and axis != NOTHING]
    return tuple(sorted(found, key=lambda place: -pieces[place][1].step))
