"""The sums of rows, put together from those of their tiles.

A tile's softmax has a sum of its own for each row. In the whole matrix its weights are its own, times
``exp(own - whole)``, where both are logarithms of sums.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from sightline.backends import Problem
from sightline.backends.problem import lse_dtype
from sightline.backends.row_sums import row_sums
from sightline.backends.softmax import RowSums

#: A float64 next to it is 1e-11 away; farther out an lse loses what was summed beside its largest logit.
_VERY_FAR = 1e5


def sums_of_tile(problem: Problem, lse: Tensor) -> RowSums:
    """Those of a tile, [B,H,n] in float64 where the device has it."""
    if bool(((lse.abs() > _VERY_FAR) & lse.isfinite()).any()):
        top, log_sum = row_sums(problem)
        return RowSums(top.to(lse.dtype), log_sum.to(lse.dtype))
    return RowSums(lse, torch.zeros_like(lse))


def no_sums(own: Problem) -> RowSums:
    """Those of rows that have seen no key yet; with a sink, the sink's."""
    top = torch.full(own.shape[:3], -math.inf, dtype=lse_dtype(own.query), device=own.query.device)
    if own.sinks is not None:
        top.copy_(own.sinks.detach().to(top.dtype)[:, None].expand_as(top))
    return RowSums(top, torch.zeros_like(top))


def joined(left: RowSums, right: RowSums) -> RowSums:
    """The sums of two sets of keys together."""
    top = torch.maximum(left.top, right.top)
    at = _or_0(top)
    total = torch.exp(left.top - at + left.log_sum) + torch.exp(right.top - at + right.log_sum)
    return RowSums(top, total.log().masked_fill(top == -math.inf, 0))


def share(part: RowSums, whole: RowSums) -> Tensor:
    """What a part's weights are multiplied with in the whole, [B,H,n]; 0 where a row sees nothing of it."""
    factor = torch.exp((part.top - _or_0(whole.top)) + (part.log_sum - whole.log_sum))
    return factor.masked_fill(part.top == -math.inf, 0)


def rows_of(sums: RowSums, rows: slice) -> RowSums:
    """Those of some rows."""
    return RowSums(sums.top[:, :, rows], sums.log_sum[:, :, rows])


def lse_of(sums: RowSums) -> Tensor:
    """ln Σ exp of each row."""
    return sums.top + sums.log_sum


def _or_0(top: Tensor) -> Tensor:
    return top.masked_fill(top == -math.inf, 0)
