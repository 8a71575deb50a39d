"""Which keys each row may see, which rows a mean counts, and where queries stand."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from sightline.common.check import check_device, fits
from sightline.matrix import AttentionMatrix


class Visible(NamedTuple):
    """What each row may see, all [B,H,N] int64.

    Attributes:
        counts: how many keys.
        first, last: the outermost of them; -1 where there is none.
    """

    counts: Tensor
    first: Tensor
    last: Tensor


def visible(matrix: AttentionMatrix) -> Visible:
    """What each row may see: linear in N, without a look at the scores.

    A mask or bias given as a dense tensor is read once, block by block.
    """
    b, h, n, m = matrix.sizes
    ranges = matrix.problem.ranges
    if matrix.only_ranges:
        if ranges is None:
            ranges = torch.tensor([0, m], device=matrix.device).expand(1, 1, n, 1, 2)
        low, high = ranges[..., 0].long(), ranges[..., 1].long()
        size = (high - low).clamp(min=0)
        first = low.masked_fill(size == 0, m).amin(-1)
        last = (high - 1).masked_fill(size == 0, -1).amax(-1)
        each = size.sum(-1), first.masked_fill(first == m, -1), last
        return Visible(*(values.expand(b, h, n) for values in each))
    counts = torch.zeros((b, h, n), dtype=torch.int64, device=matrix.device)
    first, last = torch.full_like(counts, -1), torch.full_like(counts, -1)
    for block in matrix.blocks():
        seen, rows = block.visible, (block.batch, slice(None), block.rows)
        key = torch.arange(block.cols.start, block.cols.stop, device=matrix.device)
        counts[rows] = seen.sum(-1)
        first[rows] = torch.where(seen, key, m).amin(-1).masked_fill(~seen.any(-1), -1)
        last[rows] = torch.where(seen, key, -1).amax(-1)
    return Visible(counts, first, last)


def viewers(matrix: AttentionMatrix, queries: Tensor | None = None) -> Tensor:
    """How many of the queries may see each key: [B,H,M] int64. ``queries`` as for :func:`counted`."""
    b, h, n, m = matrix.sizes
    asked = torch.ones((1, 1, n), dtype=torch.bool, device=matrix.device)
    if queries is not None:
        asked = _per_query(matrix, queries)
    if not matrix.only_ranges:
        counts = torch.zeros((b, h, m), dtype=torch.int64, device=matrix.device)
        asked = asked.expand(b, 1, n)
        for block in matrix.blocks():
            seen = block.visible & asked[block.batch, :, block.rows, None]
            counts[block.batch, :, block.cols] += seen.sum(-2)
        return counts
    ranges = matrix.problem.ranges
    if ranges is None:
        return asked.sum(-1, keepdim=True).expand(b, h, m)
    # One step up where a range begins and one down where it ends; their running sum counts the viewers.
    shape = [max(ranges.shape[0], asked.shape[0]), ranges.shape[1], n, ranges.shape[3]]
    held = (asked[..., None] & (ranges[..., 0] < ranges[..., 1])).long().expand(shape).flatten(2)
    low, high = (ranges[..., side].long().expand(shape).flatten(2) for side in (0, 1))
    steps = torch.zeros((*shape[:2], m + 1), dtype=torch.int64, device=matrix.device)
    steps.scatter_add_(2, low, held).scatter_add_(2, high, -held)
    return steps.cumsum(-1)[..., :m].expand(b, h, m)


def counted(matrix: AttentionMatrix, rows: Tensor, queries: Tensor | None) -> Tensor:
    """``rows`` [B,H,N] (bool), of them only the ``queries`` that were asked for: bool [N] or [B,N].

    Raises:
        TypeError: unless ``queries`` is a bool tensor; ValueError: for another shape.
    """
    return rows if queries is None else rows & _per_query(matrix, queries)


def _per_query(matrix: AttentionMatrix, queries: Tensor) -> Tensor:
    """[1|B,1,N] bool."""
    if not isinstance(queries, Tensor) or queries.dtype != torch.bool:
        kind = queries.dtype if isinstance(queries, Tensor) else type(queries).__name__
        raise TypeError(f"queries: expected a bool tensor [N] or [B,N], True = counts, got {kind}.")
    check_device("queries", queries, matrix.device)
    b, _, n, _ = matrix.sizes
    if queries.dim() == 0 or queries.shape[-1] != n:
        raise ValueError(
            f"queries: shape {list(queries.shape)} does not fit [B={b}, N={n}]: give [N] or [B,N]."
        )
    return fits("queries", queries, ("B", "N"), (b, n))[:, None]


def head_mean(values: Tensor, rows: Tensor) -> Tensor:
    """The mean of ``values`` [B,H,N] over the rows that count: [B,H]; NaN where none does."""
    total = values.double().masked_fill(~rows, 0).sum(-1)
    return (total / rows.sum(-1)).to(values.dtype)
