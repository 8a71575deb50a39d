"""Key ranges in the words of a kernel for sequences of many lengths: pieces, one after another.

A piece is a run of queries of one batch entry, and the keys that they see: no other query sees these. Whole
entries are pieces, and so are what ``lengths`` leaves of them, and ``documents``. In each the queries see all
its keys, or those up to their own, or a window, counted from its bottom right corner.
"""

from __future__ import annotations

from typing import NamedTuple
from weakref import ref

import torch
from torch import Tensor

from sightline.backends.problem import Problem


class Pieces(NamedTuple):
    """A matrix as pieces.

    Attributes:
        queries, keys: which of the B·N rows of all queries, and of the B·M of all keys, stand in pieces;
            ``None`` for all.
        of_queries, of_keys: [S+1] int32, where each piece begins among these.
        most_queries, most_keys: of any piece.
        window: how many keys a query sees before and after its own; -1 for all.
    """

    queries: Tensor | None
    keys: Tensor | None
    of_queries: Tensor
    of_keys: Tensor
    most_queries: int
    most_keys: int
    window: tuple[int, int]


#: The tensor that was asked of last, how, and the answer: it is asked of several times in a call.
_last: tuple[ref[Tensor], tuple[int, ...], Pieces | None] | None = None


def pieces_of(problem: Problem) -> Pieces | None:
    """The pieces of a problem's ranges; ``None`` where they are none.

    Looks at the ranges, so the GPU is waited for.
    """
    (b, _, n, m), ranges = problem.shape, problem.ranges
    if problem.visible is not None or not n or not m:
        return None
    if ranges is None:
        starts = torch.arange(b + 1, dtype=torch.int32, device=problem.query.device)
        return Pieces(None, None, starts * n, starts * m, n, m, (-1, -1))
    if ranges.shape[1] != 1 or ranges.shape[3] != 1:
        return None
    global _last
    asked, known = (b, n, m, 0 if ranges.is_inference() else ranges._version), _last
    if known is not None and known[0]() is ranges and known[1] == asked:
        return known[2]
    answer = _found(ranges[:, 0, :, 0].expand(b, n, 2).long(), m)
    _last = (ref(ranges), asked, answer)
    return answer


def _found(bounds: Tensor, m: int) -> Pieces | None:
    """Pieces of [B,N,2] key ranges."""
    b, n, _ = bounds.shape
    shift = (torch.arange(b, device=bounds.device) * m)[:, None]
    low, high = ((bounds[..., side] + shift).flatten() for side in (0, 1))
    seeing = (low < high).nonzero()[:, 0]
    if not seeing.numel():
        return None
    low, high = low[seeing], high[seeing]
    # A piece begins where a query sees no key of the one before it, or that is of another entry or sees none.
    new = torch.ones_like(low, dtype=torch.bool)
    new[1:] = (low[1:] >= high[:-1]) | (seeing[1:] != seeing[:-1] + 1) | (seeing[1:] % n == 0)
    first = new.nonzero()[:, 0]
    last = torch.cat((first[1:], first.new_full((1,), low.numel()))) - 1
    begin, end = low[first], high[last]
    if bool((begin[1:] < end[:-1]).any()):
        return None  # two pieces see the same key
    window = _window(low, high, new, first, last)
    if window is None:
        return None
    queries, keys = last - first + 1, end - begin
    all_keys = int(keys.sum())
    piece = torch.arange(keys.numel(), device=keys.device).repeat_interleave(keys)
    of_queries, of_keys = (torch.nn.functional.pad(one.cumsum(0), (1, 0)) for one in (queries, keys))
    own = torch.arange(all_keys, device=keys.device) - of_keys[piece] + begin[piece]
    return Pieces(
        None if seeing.numel() == b * n else seeing, None if all_keys == b * m else own,
        of_queries.int(), of_keys.int(), int(queries.max()), int(keys.max()), window,
    )  # fmt: skip


def _window(low: Tensor, high: Tensor, new: Tensor, first: Tensor, last: Tensor) -> tuple[int, int] | None:
    """The one window of all pieces; ``None`` where a query sees something else."""
    piece = new.cumsum(0) - 1
    begin, end = low[first][piece], high[last][piece]
    # Where a query stands among its piece's keys, the last one at the last key.
    place = end - 1 - (last[piece] - torch.arange(low.numel(), device=low.device))
    left, right = place - low, high - 1 - place
    cut_left, cut_right = low > begin, high < end
    before, after = _common(left, cut_left), _common(right, cut_right)
    if before is None or after is None:
        return None
    wanted_low = begin if before < 0 else torch.maximum(begin, place - before)
    wanted_high = end if after < 0 else torch.minimum(end, place + after + 1)
    same = (low == wanted_low).all() & (high == wanted_high).all()
    return (before, after) if bool(same) else None


def _common(width: Tensor, cut: Tensor) -> int | None:
    """How far a window reaches on one side: -1 where it is open; ``None`` for no or several widths."""
    some = width[cut]
    if not some.numel():
        return -1
    least, most = some.aminmax()
    return int(least) if least == most and least >= 0 else None


def seen_share(problem: Problem) -> float:
    """The share of the matrix that key ranges let see."""
    b, h, n, m = problem.shape
    if problem.ranges is None:
        return 1.0
    lengths = (problem.ranges[..., 1] - problem.ranges[..., 0]).clamp(min=0).sum(-1)
    return float(lengths.expand(*lengths.shape[:2], n).double().mean()) / m
