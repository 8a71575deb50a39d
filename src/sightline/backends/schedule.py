"""How the N x M matrix is cut into blocks: blocks of full rows, cut to the keys that a row may see.

Letters: B batch, H heads, N queries, M keys; a block has b x H x n x m entries.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from sightline.backends.problem import Problem
from sightline.backends.select import part

# Entries of one block: 8 MB in float32. A handful of such blocks is alive at a time.
BLOCK_ENTRIES = 1 << 21
# Rows whose ranges are looked at together.
_GRANULE = 64


class Place(NamedTuple):
    """A part of the matrix: some batch entries, all heads, some rows, some columns."""

    batch: slice
    rows: slice
    cols: slice


class Numbered(NamedTuple):
    """All of a problem that was cut out of a larger one, in which its queries and keys have other numbers.

    For compiled code, which would be made anew for every number in a slice.

    Attributes:
        queries, keys: what numbers they have in the whole matrix, [n,1] and [m] int64.
    """

    queries: Tensor
    keys: Tensor
    batch: slice = slice(None)
    rows: slice = slice(None)
    cols: slice = slice(None)


def schedule(
    problem: Problem, rows: slice | None = None, cols: slice | None = None, entries: int | None = None
) -> Iterator[Place]:
    """Blocks of full rows that cover the matrix (or a part of it), cut to the keys that a row may see.

    Each row stands in one block only. Where its rows see no key at all, its columns are empty. No block of
    several rows has more than ``entries``; BLOCK_ENTRIES by default.
    """
    entries = BLOCK_ENTRIES if entries is None else entries
    b, h, n, m = problem.shape
    first, last, step = (rows or slice(None)).indices(n)
    low, high, _ = (cols or slice(None)).indices(m)
    for start, stop, lo, hi in _row_blocks(problem, range(first, last, step), low, high, entries):
        samples = max(1, entries // max(1, h * (stop - start) // step * (hi - lo)))
        for begin in range(0, b, samples):
            yield Place(slice(begin, min(b, begin + samples)), slice(start, stop, step), slice(lo, hi))


def schedule_together(problems: Sequence[Problem]) -> Iterator[Place]:
    """Blocks of full rows of several problems of one shape, cut to the keys that a row may see in any."""
    first, *others = problems
    if not others:
        yield from schedule(first)
        return
    for batch, rows, cols in schedule(first):
        hulls = [cols, *(_hull(problem, rows) for problem in others)]
        seen = [one for one in hulls if one.start < one.stop] or [cols]
        wide = slice(min(one.start for one in seen), max(one.stop for one in seen))
        area = len(range(first.shape[0])[batch]) * first.shape[1] * (wide.stop - wide.start)
        height = max(1, BLOCK_ENTRIES // max(1, area))
        for start in range(rows.start, rows.stop, height):
            yield Place(batch, slice(start, min(rows.stop, start + height), 1), wide)


def _hull(problem: Problem, rows: slice) -> slice:
    """The columns that some of the rows may see."""
    seen = [
        one
        for one in _granules(problem, range(rows.start, rows.stop), 0, problem.shape[3])
        if one.lo < one.hi
    ]
    return slice(min(one.lo for one in seen), max(one.hi for one in seen)) if seen else slice(0, 0)


class _Rows(NamedTuple):
    """Rows start to stop, and the columns lo to hi that any of them may see."""

    start: int
    stop: int
    lo: int
    hi: int

    def joined(self, other: _Rows) -> _Rows:
        if self.lo >= self.hi or other.lo >= other.hi:
            seen = other if self.lo >= self.hi else self
            return _Rows(self.start, other.stop, seen.lo, seen.hi)
        return _Rows(self.start, other.stop, min(self.lo, other.lo), max(self.hi, other.hi))

    def area(self) -> int:
        return (self.stop - self.start) * (self.hi - self.lo)


def _row_blocks(problem: Problem, rows: range, low: int, high: int, entries: int) -> Iterator[_Rows]:
    """Neighbouring granules joined while the block stays small and little outside their hulls is added."""
    heads = max(1, problem.shape[1])
    pending: _Rows | None = None
    for granule in _granules(problem, rows, low, high):
        if pending is None:
            pending = granule
            continue
        joined = pending.joined(granule)
        area = heads * joined.area() // rows.step
        lean = joined.area() <= 1.25 * (pending.area() + granule.area()) or area <= entries // 8
        if area <= entries and lean:
            pending = joined
        else:
            yield from _cut(pending, rows.step, heads, entries)
            pending = granule
    if pending is not None:
        yield from _cut(pending, rows.step, heads, entries)


def _cut(block: _Rows, step: int, heads: int, entries: int) -> Iterator[_Rows]:
    """The block in pieces of at most so many entries."""
    height = max(1, entries // max(1, heads * (block.hi - block.lo))) * step
    for start in range(block.start, block.stop, height):
        yield _Rows(start, min(block.stop, start + height), block.lo, block.hi)


def _granules(problem: Problem, rows: range, low: int, high: int) -> list[_Rows]:
    """Every 64 rows, with the columns that any of them may see; one look at the ranges for all of them."""
    height = _GRANULE * rows.step
    starts = range(rows.start, rows.stop, height)
    if problem.ranges is None or high <= low or not len(starts):
        return [_Rows(s, min(rows.stop, s + height), low, max(low, high)) for s in starts]
    ranges = part(problem.ranges, 2, slice(rows.start, rows.stop))
    lows, highs = ranges[..., 0], ranges[..., 1]
    empty = lows >= highs
    lows = lows.masked_fill(empty, high).amin(dim=(0, 1, 3))
    highs = highs.masked_fill(empty, low).amax(dim=(0, 1, 3))
    if lows.shape[0] == 1:
        lows, highs = lows.expand(len(rows) * rows.step), highs.expand(len(rows) * rows.step)
    hulls = zip(_per_granule(lows, height, high), _per_granule(-highs, height, -low), strict=True)
    granules = []
    for start, (lo, negative_hi) in zip(starts, hulls, strict=True):
        lo, hi = max(low, lo), min(high, -negative_hi)
        granules.append(_Rows(start, min(rows.stop, start + height), *((lo, hi) if lo < hi else (low, low))))
    return granules


def _per_granule(bound: Tensor, height: int, fill: int) -> list[int]:
    """The least bound of each granule."""
    if len(bound) <= height:
        return [int(bound.amin())]
    padded = torch.nn.functional.pad(bound, (0, -len(bound) % height), value=fill)
    least: list[int] = padded.reshape(-1, height).amin(-1).tolist()
    return least
