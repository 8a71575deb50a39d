"""The numbers that views show of one layer, for tokens or for words, never storing an N x M matrix."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

from sightline.reading.reading import Section
from sightline.reading.tokens import Token

if TYPE_CHECKING:
    from sightline.matrix import AttentionMatrix


@dataclass(frozen=True)
class LayerReadouts:
    """Readouts of the H heads of one layer.

    Attributes:
        entropy: [H,N], nats.
        distance: [H,N], in units of queries and keys.
        received: [H,M], column sums.
        weights: [H,N,K], the K largest weights of each row, descending.
        keys: [H,N,K], where they are; -1 where a row has fewer.
    """

    entropy: Tensor
    distance: Tensor
    received: Tensor
    weights: Tensor
    keys: Tensor


class UnitLayer(Protocol):
    """One layer's attention as views ask for it; units are tokens (TokenLayer) or words (WordLayer)."""

    @property
    def heads(self) -> int:
        """H."""
        ...

    def readouts(self, topk: int) -> LayerReadouts:
        """Every readout in one pass."""
        ...

    def row(self, head: int, query: int) -> Tensor:
        """[M]: the weights of one query."""
        ...

    def column(self, key: int) -> Tensor:
        """[H,N]: the weights that one key gets from every query."""
        ...

    def nearby(self) -> Tensor:
        """[3,H,N]: the weights of the key before each query's own place, of that place, and of the next."""
        ...


@dataclass(frozen=True)
class Units:
    """What a section's queries and keys are, tokens or words, with its layers in the same units."""

    name: str
    queries: tuple[Token, ...]
    keys: tuple[Token, ...]
    layers: tuple[UnitLayer, ...]
    is_self: bool
    is_causal: bool
    unit: str = "token"


@dataclass(frozen=True)
class TokenLayer:
    """One layer by tokens: the AttentionMatrix [1,H,N,M] itself."""

    matrix: AttentionMatrix

    @property
    def heads(self) -> int:
        """H."""
        return int(self.matrix.shape[1])

    def readouts(self, topk: int) -> LayerReadouts:
        """Every readout in one pass."""
        readouts = self.matrix.readouts(
            "received", "entropy", "distance", topk=min(topk, self.matrix.shape[3])
        )
        return LayerReadouts(
            readouts.entropy[0].float(),
            readouts.distance[0].float(),
            readouts.received[0].float(),
            readouts.topk.values[0].float(),
            readouts.topk.indices[0],
        )

    def row(self, head: int, query: int) -> Tensor:
        """[M]: the weights of one query."""
        return part(self.matrix, slice(head, head + 1), slice(query, query + 1), slice(None))[0, 0]

    def column(self, key: int) -> Tensor:
        """[H,N]: the weights that one key gets from every query."""
        return part(self.matrix, slice(None), slice(None), slice(key, key + 1))[..., 0]

    def nearby(self) -> Tensor:
        """[3,H,N]: the weights of the key before each query's own place, of that place, and of the next."""
        weights = torch.zeros(3, self.heads, self.matrix.shape[2])
        weights[1] = self.matrix.diagonal(0)[0]
        if self.matrix.shape[2] > 1:
            weights[0, :, 1:] = self.matrix.diagonal(-1)[0]
            weights[2, :, :-1] = self.matrix.diagonal(1)[0]
        return weights


def by_token(section: Section) -> Units:
    """``section`` in tokens."""
    layers = tuple(TokenLayer(matrix) for matrix in section.layers)
    return Units(section.name, section.queries, section.keys, layers, section.is_self, section.is_causal)


def part(matrix: AttentionMatrix, heads: slice, rows: slice, cols: slice) -> Tensor:
    """Dense weights [heads, rows, cols] of batch entry 0, in float32."""
    return matrix.select(batch=slice(0, 1), heads=heads).part(rows, cols)[0].float()
