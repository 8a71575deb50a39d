"""The sums of rows by the arithmetic of blocks, and where they stand in for an lse.

Two kernels that add products up in another order give logits that differ by an ulp or two. Far from 0 that is
much: the ulp of -10000, a common way to hide a key, is 1e-3, and weights would differ by as much from those
that a native lse was summed of. Of -1e30 not even float64 holds what was summed beside it.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from sightline.backends.block import MatrixBlock
from sightline.backends.contract import ALL
from sightline.backends.problem import Problem, compute_dtype
from sightline.backends.schedule import schedule
from sightline.backends.softmax import RowSums, Sums, SumsForBlock, own_sums
from sightline.common.dispatcher import is_transformed
from sightline.common.zones import zone

#: An ulp of float32 is 4e-6 there.
_FAR = 32


def row_sums(problem: Problem, rows: slice = ALL) -> RowSums:
    """Those of some rows, [B,H,N] in float32 or better; the others are as rows that see no key."""
    dtype, device = compute_dtype(problem), problem.query.device
    top = torch.full(problem.shape[:3], -math.inf, dtype=dtype, device=device)
    if problem.sinks is not None:
        top.copy_(problem.sinks.to(dtype)[:, None].expand_as(top))
    log_sum = torch.zeros_like(top)
    for place in schedule(problem, rows):
        if place.cols.start == place.cols.stop:
            continue
        masked = MatrixBlock(problem, place).stage("masked")
        with zone("weights"):
            own = own_sums(masked, problem.sinks)
            top[place.batch, :, place.rows], log_sum[place.batch, :, place.rows] = own
    return RowSums(top, log_sum)


def settled(problem: Problem, lse: Tensor, rows: slice = ALL) -> Sums:
    """What weights of some rows are made with: the lse, or the sums of blocks where it is far from 0."""
    return _sums_beside(problem, lse, rows) if _far(lse, rows) else lse


def settled_for_blocks(problem: Problem, lse: Tensor, rows: slice, cols: slice) -> SumsForBlock:
    """The same for blocks of the schedule, which hold all that their rows may see if ``cols`` are all."""
    if not _far(lse, rows):
        return lse
    whole = len(range(problem.shape[3])[cols]) == problem.shape[3]
    return "own" if whole else _sums_beside(problem, lse, rows)


def _sums_beside(problem: Problem, lse: Tensor, rows: slice) -> RowSums:
    """The sums of blocks; they have the derivatives of the lse, which are there without the blocks'."""
    if is_transformed() or not lse.requires_grad:
        return row_sums(problem, rows)
    with torch.no_grad():
        top, log_sum = row_sums(problem, rows)
    return RowSums(
        top, log_sum + (lse - lse.detach()).masked_fill(lse.detach() == -math.inf, 0).to(top.dtype)
    )


def _far(lse: Tensor, rows: slice) -> bool:
    size = lse.detach()[:, :, rows].abs()
    return bool(((size > _FAR) & (size < math.inf)).any())
