"""The two sides of a score: queries and keys of one head, each a sum of parts."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from sightline.attribution.frozen import double
from sightline.attribution.recorder import ResidualRecorder
from sightline.attribution.stream import Place
from sightline.attribution.walk import Parts, Walk, weight_of
from sightline.nn.rotary import Rotary
from sightline.nn.self_attention import SelfAttention


class Side(NamedTuple):
    """Queries or keys at some positions.

    Attributes:
        names: of the parts, P.
        vectors: [P,n,D] float64; their sum over parts is what the head computes with.
    """

    names: tuple[str, ...]
    vectors: Tensor


class Sides:
    """Queries and keys of one head, in parts, as they were when the model ran.

    Args:
        recorder: what was recorded.
        place: the attention layer.
        head: which head.
        batch: which batch entry.
        queries, keys: N and M of its matrix.

    Raises:
        ValueError: where the recording does not fit the matrix.
    """

    def __init__(
        self, recorder: ResidualRecorder, place: Place, head: int, batch: int, queries: int, keys: int
    ) -> None:
        self._recorder, self._place, self._head, self._batch = recorder, place, head, batch
        own = recorder.kept(place.attention.output, "given").shape[1]
        if own != queries:
            raise ValueError(
                f"why: {own} positions went through this layer in this block, but the matrix of this call "
                f"has N={queries} queries (axis N): the model ran several times. Trace each run by itself."
            )
        #: Keys that were there before the block, in a cache.
        self._earlier = keys - queries if place.kind == "self" else 0

    def queries(self, rows: Tensor) -> Side:
        """The head's queries at positions [n]."""
        weight, bias = self._projection("query")
        parts = Walk(self._recorder, self._batch, rows, weight).before(self._place)
        return self._side(parts, bias, rows + self._earlier)

    def keys(self, cols: Tensor) -> Side:
        """The head's keys at positions [n].

        Raises:
            ValueError: for keys that were written before the block.
        """
        if cols.numel() and int(cols.min()) < self._earlier:
            raise ValueError(
                f"key: {int(cols.min())} lay in the cache before this block, which has recorded keys from "
                f"{self._earlier} on. Open the trace before the cache is filled."
            )
        weight, bias = self._projection("key")
        walk = Walk(self._recorder, self._batch, cols - self._earlier, weight)
        stream = self._place.stream
        if self._place.kind == "self":
            parts = walk.before(self._place)
        elif stream.memory is not None:
            parts = walk.end(stream.memory)
        else:
            kept = self._recorder.kept(self._place.attention.key, "given")[self._batch]
            parts = {"memory": double(kept[cols.to(kept.device)]) @ weight.T}
        return self._side(parts, bias, cols)

    def _projection(self, which: str) -> tuple[Tensor, Tensor | None]:
        """Weight [D,C] and bias [D] that make the head's queries or keys."""
        attention = self._place.attention
        layer = attention.query if which == "query" else attention.key
        group = self._head if which == "query" else self._head * attention.kv_heads // attention.heads
        rows = slice(group * attention.head_width, (group + 1) * attention.head_width)
        weight = weight_of(layer)[rows]
        return weight, None if layer.bias is None else double(layer.bias)[rows]

    def _side(self, parts: Parts, bias: Tensor | None, positions: Tensor) -> Side:
        attention = self._place.attention
        if bias is not None:
            parts = parts | {"projection bias": bias.expand(len(positions), -1)}
        vectors = torch.stack(list(parts.values()))
        if isinstance(attention, SelfAttention) and attention.rotary is not None:
            vectors = _turned(attention.rotary, vectors, positions)
        return Side(tuple(parts), vectors)


def _turned(rotary: Rotary, vectors: Tensor, positions: Tensor) -> Tensor:
    """[P,n,D] turned by their positions [n], by the angles that the model has."""
    frequencies = rotary.frequencies.cpu()
    return rotary.turned(vectors, positions[:, None].to(frequencies.dtype) * frequencies)
