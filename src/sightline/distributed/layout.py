"""Which positions of a sequence each process holds."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor

from sightline.common.check import choice

Order = Literal["contiguous", "zigzag"]


class Segment(NamedTuple):
    """Positions first to last that lie side by side in one process.

    Attributes:
        first, last: half-open, in the whole sequence.
        local: the row of the process that holds the first.
    """

    first: int
    last: int
    local: int

    @property
    def rows(self) -> slice:
        """The rows of the process."""
        return slice(self.local, self.local + self.last - self.first)


class Layout(NamedTuple):
    """Who holds what: for each process its segments, in the order of its rows.

    Attributes:
        segments: of each process; none is empty.
        length: of the whole sequence.
    """

    segments: tuple[tuple[Segment, ...], ...]
    length: int

    def count(self, rank: int) -> int:
        """How many rows a process holds."""
        return sum(one.last - one.first for one in self.segments[rank])

    def positions(self, rank: int, device: torch.device) -> Tensor:
        """Where the rows of a process stand in the whole: [n] int64."""
        spans = [torch.arange(one.first, one.last, device=device) for one in self.segments[rank]]
        return torch.cat(spans) if spans else torch.arange(0, device=device)

    def own(self, tensor: Tensor, axis: int, rank: int) -> Tensor:
        """The rows of a process, out of the whole; a view where they are one segment."""
        spans = [tensor.narrow(axis, one.first, one.last - one.first) for one in self.segments[rank]]
        if len(spans) == 1:
            return spans[0]
        return torch.cat(spans, axis) if spans else tensor.narrow(axis, 0, 0)


def check_order(order: str) -> None:
    """Raises for an order that there is not."""
    choice("order", order, get_args(Order))


def lengths_of(length: int, count: int, order: Order) -> list[int]:
    """How many rows each of ``count`` processes gets of a sequence, as equal as can be."""
    if order == "contiguous":
        return _even(length, count)
    pieces = _even(length, 2 * count)
    return [pieces[rank] + pieces[2 * count - 1 - rank] for rank in range(count)]


def layout_of(lengths: Sequence[int], order: Order) -> Layout:
    """The layout in which the processes hold so many rows.

    In "zigzag" order the sequence is cut into twice as many pieces as there are processes P, and process r
    holds pieces r and 2P - 1 - r: early queries, which see few keys under a causal mask, beside late ones.

    Raises:
        ValueError: for lengths that are not those of the zigzag order.
    """
    if order == "contiguous":
        ends = list(accumulate(lengths))
        spans = [[(end - own, end)] for own, end in zip(lengths, ends, strict=True)]
        return _made(spans, sum(lengths))
    count, length = len(lengths), sum(lengths)
    if list(lengths) != lengths_of(length, count, order):
        raise ValueError(
            f"order: in zigzag order {count} processes hold {lengths_of(length, count, order)} of N={length} "
            f"rows (axis N), but they have {list(lengths)}. Cut with sightline.distributed.shard(), or use "
            'order="contiguous", which takes any lengths.'
        )
    ends = list(accumulate(_even(length, 2 * count)))
    pieces = list(zip([0, *ends], ends, strict=False))
    return _made([[pieces[rank], pieces[-1 - rank]] for rank in range(count)], length)


def _even(length: int, count: int) -> list[int]:
    return [length // count + (at < length % count) for at in range(count)]


def _made(spans: list[list[tuple[int, int]]], length: int) -> Layout:
    segments = []
    for of_rank in spans:
        local, own = 0, []
        for first, last in of_rank:
            if first < last:
                own.append(Segment(first, last, local))
                local += last - first
        segments.append(tuple(own))
    return Layout(tuple(segments), length)
