"""The question: which head, which query, which key."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from sightline.attribution.answer import MeanWhy, Why
from sightline.attribution.recorder import ResidualRecorder
from sightline.attribution.sides import Sides
from sightline.attribution.stream import Place, supported
from sightline.attribution.sums import Sums
from sightline.common.check import flag, integer
from sightline.matrix import AttentionMatrix
from sightline.measure.rows import counted
from sightline.measure.subject import measured
from sightline.tracing.calls import Calls

_TOGETHER = 512  # queries at a time


def why(
    trace: Calls,
    recorder: ResidualRecorder,
    layer: int | str,
    head: int,
    query: int | None = None,
    key: int | None = None,
    *,
    batch: int | None = None,
    queries: Tensor | None = None,
    contrast: bool = False,
    unverified: bool = False,
) -> Why | MeanWhy:
    """See :meth:`sightline.tracing.calls.Calls.why`."""
    asked = _Asked(trace, recorder, layer, head, flag("contrast", contrast), unverified)
    if query is None:
        if key is not None:
            raise ValueError("key: was given without a query. Give both, a query, or neither.")
        return asked.mean(batch, queries)
    if queries is not None:
        raise ValueError("queries: choose among all; one query was given already. Leave one of them out.")
    return asked.pair(query, key, 0 if batch is None else batch)


class _Asked:
    """One head of one call."""

    def __init__(
        self,
        trace: Calls,
        recorder: ResidualRecorder,
        layer: int | str,
        head: int,
        contrast: bool,
        unverified: bool,
    ) -> None:
        call = trace[layer]
        self._name, self._recorder, self._contrast = call.name, recorder, contrast
        self._place = _place(recorder, call.name)
        self._matrix = measured(call, unverified).matrix
        self._head = _index("head", head, self._matrix.sizes[1], "H")

    def pair(self, query: int, key: int | None, batch: int) -> Why:
        """Why a query looks at a key; ``None`` for the one that it looks at most."""
        b, _, n, m = self._matrix.sizes
        batch, query = _index("batch", batch, b, "B"), _index("query", query, n, "N")
        of_head, row = self._of_head(batch), slice(query, query + 1)
        if key is None:
            weights = of_head[:, :, row, :].flatten()
            key = int(weights.argmax())
            if not weights[key] > 0:
                raise ValueError(f"query: {query} may look at no key. Choose another one.")
        key = _index("key", key, m, "M")
        col = slice(key, key + 1)
        bias = of_head.scores(row, col, "biased") - of_head.scores(row, col, "capped")
        sums = self._sums(batch)
        sums.add(torch.tensor([query]), torch.tensor([key]))
        return Why(
            name=self._name, head=self._head, **sums.shared(), batch=batch, query=query, key=key,
            bias=float(bias), weight=float(of_head[:, :, row, col]),
        )  # fmt: skip

    def mean(self, batch: int | None, queries: Tensor | None) -> MeanWhy:
        """Why the head looks where it looks most, over queries that see a key."""
        b, _, n, _ = self._matrix.sizes
        every = torch.ones((b, 1, n), dtype=torch.bool, device=self._matrix.device)
        chosen = counted(self._matrix, every, queries)
        entries = range(b) if batch is None else [_index("batch", batch, b, "B")]
        answers = [answer for each in entries for answer in self._mean_of(each, chosen[each, 0])]
        if not answers:
            raise ValueError("queries: none of them sees a key: there is nothing to explain.")
        return sum(answers[1:], answers[0])

    def _mean_of(self, batch: int, chosen: Tensor) -> Iterator[MeanWhy]:
        """The answer for one batch entry, if one of its chosen queries sees a key."""
        weights, keys = (each[0, 0] for each in self._of_head(batch).max())
        rows = (chosen & (weights > 0)).nonzero()[:, 0].cpu()
        if not len(rows):
            return
        keys, sums = keys.cpu(), self._sums(batch)
        for some in rows.split(_TOGETHER):
            sums.add(some, keys[some])
        yield MeanWhy(name=self._name, head=self._head, **sums.shared(), **sums.of_many())

    def _sums(self, batch: int) -> Sums:
        _, _, n, m = self._matrix.sizes
        sides = Sides(self._recorder, self._place, self._head, batch, n, m)
        return Sums(sides, self._of_head(batch), self._contrast, self._recorder.eps)

    def _of_head(self, batch: int) -> AttentionMatrix:
        """[1,1,N,M], lazy."""
        matrix: AttentionMatrix = self._matrix[batch : batch + 1, self._head : self._head + 1]
        return matrix


def _place(recorder: ResidualRecorder, name: str) -> Place:
    if not isinstance(recorder, ResidualRecorder):
        raise ValueError(f"why: what writes to this model's stream is known of {supported()}")
    if recorder.reason is not None:
        raise ValueError(f"why: what was written is not known: {recorder.reason}.")
    if name not in recorder.places:
        known = ", ".join(map(repr, recorder.places))
        raise ValueError(
            f"layer: {name!r} is no attention layer of a stack; these are: {known}. Known are {supported()}"
        )
    return recorder.places[name]


def _index(name: str, value: int, size: int, axis: str) -> int:
    index = integer(name, value)
    if not -size <= index < size:
        raise ValueError(f"{name}: must lie between {-size} and {size - 1} (axis {axis}), got {index}.")
    return index % size
