"""Arithmetic on key ranges: [b, h, N, R, 2] int32 tensors of half-open [lo, hi), sorted and disjoint.

Linear in N. Empty ranges are kept as (M, M) or any lo >= hi, so shapes do not depend on values.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sightline.common.check import is_eager


def one(low: Tensor, high: Tensor, keys: int) -> Tensor:
    """One range per query from [b,h,N] bounds, cut to [0, keys]."""
    return torch.stack((low.clamp(0, keys), high.clamp(0, keys)), dim=-1).int()[..., None, :]


def band(position: Tensor, left: int | None, right: int | None, keys: int) -> Tensor:
    """One range per query: from ``left`` before to ``right`` after its position, ``None`` for no end."""
    low = torch.zeros_like(position) if left is None else position - left
    high = torch.full_like(position, keys) if right is None else position + (right + 1)
    return one(low, high, keys)


def contains(ranges: Tensor, cols: slice | Tensor) -> Tensor:
    """[b,h,n,m] bool: whether key j of ``cols``, a slice or the keys' numbers, lies in a range of the row."""
    if isinstance(cols, slice):
        cols = torch.arange(cols.start, cols.stop, device=ranges.device, dtype=ranges.dtype)
    key = cols.to(ranges.dtype)
    low, high = ranges[..., 0, None], ranges[..., 1, None]
    seen = (key >= low[..., 0, :]) & (key < high[..., 0, :])
    for r in range(1, ranges.shape[3]):
        seen = seen | ((key >= low[..., r, :]) & (key < high[..., r, :]))
    return seen


def intersect(left: Tensor, right: Tensor) -> Tensor:
    """What lies in a range of both."""
    low = torch.maximum(left[..., :, None, 0], right[..., None, :, 0])
    high = torch.minimum(left[..., :, None, 1], right[..., None, :, 1])
    both = torch.stack((low, high), dim=-1).flatten(-3, -2)
    if left.shape[3] == 1 or right.shape[3] == 1:
        return both
    # Of the R1 * R2 pairs at most R1 + R2 - 1 can be non-empty.
    return _compact(both, left.shape[3] + right.shape[3] - 1)


def unite(left: Tensor, right: Tensor) -> Tensor:
    """What lies in a range of either, overlapping and touching ranges merged."""
    shape = [max(sizes) for sizes in zip(left.shape[:3], right.shape[:3], strict=True)]
    both = torch.cat([side.expand(*shape, *side.shape[3:]) for side in (left, right)], dim=3)
    both = _compact(both, both.shape[3])
    low, high = both[..., 0].unbind(-1), both[..., 1].unbind(-1)
    merged = []
    current_low, current_high = low[0], high[0]
    for next_low, next_high in zip(low[1:], high[1:], strict=True):
        joined = (next_low <= current_high) & (next_low < next_high)
        empty = next_low >= next_high
        stays = joined | empty
        merged.append(torch.stack((current_low, torch.where(stays, current_low, current_high)), dim=-1))
        current_low = torch.where(stays, current_low, next_low)
        joined_high = torch.where(empty, current_high, torch.maximum(current_high, next_high))
        current_high = torch.where(stays, joined_high, next_high)
    merged.append(torch.stack((current_low, current_high), dim=-1))
    return _trim(_compact(torch.stack(merged, dim=3), len(merged)))


def from_row(seen: Tensor, limit: int) -> Tensor | None:
    """The runs of True in [b,h,M] as [b,h,R,2] ranges, or ``None`` where there are more than ``limit``."""
    b, h, keys = seen.shape
    # One look at the tensor; the rest is arithmetic on a few numbers, which tensors would make slow.
    turns = (seen[..., 1:] != seen[..., :-1]).flatten(0, 1).nonzero()
    if turns.shape[0] > 2 * limit * b * h:
        return None
    edges: list[list[int]] = [[0] if first else [] for first in seen[..., 0].flatten().tolist()]
    for row, key in turns.tolist():
        edges[row].append(key + 1)
    for row_edges in edges:
        if len(row_edges) % 2:
            row_edges.append(keys)
    count = max(1, max((len(row) for row in edges), default=0) // 2)
    if count > limit:
        return None
    padded = [row + [keys] * (2 * count - len(row)) for row in edges]
    return torch.tensor(padded, dtype=torch.int32, device=seen.device).reshape(b, h, count, 2)


def _compact(ranges: Tensor, count: int) -> Tensor:
    """Non-empty ranges first, in order; the first ``count`` of them."""
    if ranges.shape[3] == 1:
        return ranges
    last = torch.iinfo(ranges.dtype).max
    start = torch.where(ranges[..., 0] < ranges[..., 1], ranges[..., 0], last)
    order = start.argsort(dim=-1, stable=True)[..., :count, None].expand(*ranges.shape[:3], count, 2)
    return ranges.gather(3, order)


def _trim(ranges: Tensor) -> Tensor:
    """Leaves out the trailing ranges that are empty in every row, where values may be looked at."""
    if not is_eager(ranges) or not ranges.numel():
        return ranges
    used = (ranges[..., 0] < ranges[..., 1]).sum(-1).max()
    return ranges[:, :, :, : max(1, int(used))]
