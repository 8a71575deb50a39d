"""Tiles: the queries of a segment against keys of a segment, each a problem of its own.

A process's rows against the keys of one process are up to four tiles, cut to the queries and keys between
which something may be seen. A tile's matrix is a matrix by itself: the whole one's weights are its weights,
times one number for each row (``sums.py``).

Letters: B batch, G key/value heads, N own queries, M keys of the whole sequence.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from sightline.backends import Problem, with_tensors
from sightline.backends.problem import compute_dtype
from sightline.backends.select import along, select_cols
from sightline.distributed.layout import Layout, Segment


class Span(NamedTuple):
    """Keys first to last of the whole sequence, half-open; none where last <= first."""

    first: int
    last: int

    @property
    def size(self) -> int:
        """How many."""
        return max(0, self.last - self.first)

    def within(self, other: Span) -> Span:
        """What of it lies in another."""
        return Span(max(self.first, other.first), min(self.last, other.last))


class Tile(NamedTuple):
    """A tile.

    Attributes:
        rows: of the process's own queries.
        first: where the first of them stands in the whole sequence.
        keys: of the whole sequence.
        at: the keys among those that came from their process.
    """

    rows: slice
    first: int
    keys: Span
    at: slice


class Part(NamedTuple):
    """Keys and values of one process that this one needs, [B,G,m,D] and [B,G,m,E], and where they stand."""

    spans: tuple[Span, ...]
    key: Tensor
    value: Tensor | None


def needed_keys(own: Problem, segments: Sequence[Segment]) -> list[Span]:
    """Of each segment of keys, the least span that holds all that some of the queries may see."""
    seen = _seen_keys(own)
    spans = []
    for one in segments:
        there = seen[one.first : one.last].nonzero()
        if len(there):
            spans.append(Span(one.first + int(there[0]), one.first + int(there[-1]) + 1))
        else:
            spans.append(Span(one.first, one.first))
    return spans


def _seen_keys(own: Problem) -> Tensor:
    """Whether any of the queries may see each key: [M] bool."""
    b, h, n, m = own.shape
    seen = torch.full((m,), bool(b and h and n), device=own.query.device)
    if own.ranges is not None and seen.any():
        low, high = own.ranges.reshape(-1, 2).unbind(-1)
        there = low < high
        ends = torch.zeros(m + 1, dtype=torch.int64, device=seen.device)
        ones = torch.ones(int(there.sum()), dtype=torch.int64, device=seen.device)
        ends.index_add_(0, low[there].long(), ones).index_add_(0, high[there].long(), -ones)
        seen &= ends.cumsum(0)[:-1] > 0
    if own.visible is not None:
        seen &= own.visible.flatten(0, 2).any(0) if own.visible.numel() else False
    return seen


def tiles(own: Problem, segments: Sequence[Segment], spans: Sequence[Span]) -> Iterator[Tile]:
    """The tiles of the own queries and some spans of keys in which something may be seen.

    Args:
        own: the process's queries; its ranges count in the whole sequence.
        segments: of the queries.
        spans: of keys, which lie side by side in the part that has come.
    """
    start = 0
    for span in spans:
        for segment in segments:
            for rows in _rows_that_see(own, segment.rows, span):
                at = slice(start, start + span.size)
                yield Tile(rows, segment.first + rows.start - segment.local, span, at)
        start += span.size


def _rows_that_see(own: Problem, rows: slice, span: Span) -> Iterator[slice]:
    """The least slice of the rows that holds all which may see a key of the span, if there are any."""
    if not span.size or not own.shape[0] or not own.shape[1]:
        return
    if own.ranges is None or own.ranges.shape[2] == 1:
        yield rows
        return
    ranges = own.ranges[:, :, rows]
    low, high = ranges[..., 0].clamp(min=span.first), ranges[..., 1].clamp(max=span.last)
    there = (low < high).any(-1).flatten(0, 1).any(0).nonzero()
    if len(there):
        yield slice(rows.start + int(there[0]), rows.start + int(there[-1]) + 1)


def problem_of_tile(own: Problem, tile: Tile, part: Part, queries: int) -> Problem:
    """The problem of a tile, without sinks, computed in float32 or better.

    Args:
        own: the process's queries against all keys, which it does not hold.
        tile: of it.
        part: the keys.
        queries: of the whole sequence.
    """
    dtype = compute_dtype(own)
    some = with_tensors(own, along(own, "N", tile.rows))
    chosen = select_cols(some, slice(*tile.keys))
    changed: dict[str, Any] = {"query": chosen.query.to(dtype), "key": part.key[:, :, tile.at].to(dtype)}
    if part.value is not None:
        changed["value"] = part.value[:, :, tile.at].to(dtype)
    if chosen.offset is not None:
        changed["offset"] = chosen.offset + tile.first
    if chosen.seed is not None:
        place = chosen.seed.new_tensor([tile.first, queries, tile.keys.first])
        changed["seed"] = torch.cat([chosen.seed.reshape(1), place])
    return replace(chosen, **{"sinks": None, "value": None, **changed})


def spans_of(layout: Layout, rank: int, table: Sequence[Span]) -> tuple[Span, ...]:
    """Of a process's segments, what another needs: its entries of that one's table of all segments."""
    before = sum(len(of_rank) for of_rank in layout.segments[:rank])
    return tuple(table[before : before + len(layout.segments[rank])])
