"""The two sides of a score: queries and keys of one head, each a sum of parts."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from sightline.attribution.recorder import ResidualRecorder
from sightline.attribution.stream import Place
from sightline.attribution.writes import Parts, Writes, projection
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
        parts = Writes(self._recorder, self._batch, rows).before(self._place)
        return self._projected(parts, "query", rows + self._earlier)

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
        return self._projected(self._looked_at(cols), "key", cols)

    def _looked_at(self, cols: Tensor) -> Parts:
        stream = self._place.stream
        if self._place.kind == "self":
            return Writes(self._recorder, self._batch, cols - self._earlier).before(self._place)
        if stream.memory is None:
            kept = self._recorder.kept(self._place.attention.key, "given")[self._batch]
            return {"memory": kept[cols.to(kept.device)].to("cpu", torch.float64)}
        return Writes(self._recorder, self._batch, cols).memory(stream.memory)

    def _projected(self, parts: Parts, which: str, positions: Tensor) -> Side:
        attention = self._place.attention
        weight, bias = projection(attention, which, self._head)
        made = {name: part @ weight.T for name, part in parts.items()}
        if bias is not None:
            made["projection bias"] = bias.expand(len(positions), -1)
        vectors = torch.stack(list(made.values()))
        if isinstance(attention, SelfAttention) and attention.rotary is not None:
            vectors = _turned(attention.rotary, vectors, positions)
        return Side(tuple(made), vectors)


def _turned(rotary: Rotary, vectors: Tensor, positions: Tensor) -> Tensor:
    """[P,n,D] turned by their positions [n]."""
    rows = vectors.transpose(0, 1)[:, :, None]  # positions are the batch: [n,P,1,D]
    turned: Tensor = rotary(rows.to(rotary.frequencies.device), positions.to(rotary.frequencies.device))
    return turned[:, :, 0].transpose(0, 1).cpu()
