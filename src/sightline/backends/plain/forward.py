"""The forward pass in blocks of full rows, in plain PyTorch.

Memory is linear in N: one block of full rows at a time, cut to the keys that its rows may see. Runs on any
device and dtype; serves double precision and gradient checks.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from sightline.backends.block import MatrixBlock
from sightline.backends.contract import ALL
from sightline.backends.dropout import kept
from sightline.backends.grouped import grouped_product
from sightline.backends.problem import Problem, compute_dtype, empty_context
from sightline.backends.schedule import schedule
from sightline.backends.seen import finite, may_hide, over_seen
from sightline.common.zones import zone


def forward(problem: Problem) -> tuple[Tensor, Tensor]:
    """(context [B,H,N,E] in the query's dtype, lse [B,H,N] in float32 or better)."""
    context, lse = _forward(problem, careful=False)
    if may_hide(problem) and not finite([context]):
        context, lse = _forward(problem, careful=True)
    return context, lse


def _forward(problem: Problem, careful: bool) -> tuple[Tensor, Tensor]:
    """``careful``: hidden values are left out of the sums."""
    assert problem.value is not None
    context = empty_context(problem.query, problem.value.shape[3]).zero_()
    lse = _empty_lse(problem)
    for block in blocks(problem):
        with zone("weights"):
            top, exponentials, total = _exponentials(block)
            lse[block.batch, :, block.rows] = top + total.log()
            if problem.dropout > 0:
                exponentials = exponentials * kept(problem, block.place)
        with zone("context"):
            value = problem.value[block.batch, :, block.cols].to(exponentials.dtype)
            seen = block.stage("masked") != -math.inf if careful else None
            summed = over_seen(grouped_product, exponentials, value, seen) / total[..., None]
            summed = summed.masked_fill(total[..., None] == 0, 0)
            context[block.batch, :, block.rows] = summed.to(context.dtype)
    return context, lse


def row_lse(problem: Problem, rows: slice = ALL) -> Tensor:
    """lse [B,H,n] of some rows, without the weighted sum."""
    lse = _empty_lse(problem)
    for block in blocks(problem, rows):
        with zone("weights"):
            top, _, total = _exponentials(block)
            lse[block.batch, :, block.rows] = top + total.log()
    return lse[:, :, rows]


def blocks(
    problem: Problem, rows: slice = ALL, cols: slice = ALL, lse: Tensor | None = None
) -> Iterator[MatrixBlock]:
    """The blocks of some rows and columns in which something may be seen."""
    for place in schedule(problem, rows, cols):
        if place.cols.start < place.cols.stop:
            yield MatrixBlock(problem, place, lse)


def _exponentials(block: MatrixBlock) -> tuple[Tensor, Tensor, Tensor]:
    """(each row's largest logit, exp(masked - it), their sum with the sink's share)."""
    sinks, masked = block.problem.sinks, block.stage("masked")
    top = masked.amax(-1)
    if sinks is not None:
        top = torch.maximum(top, sinks.to(top.dtype)[:, None])
    # 0 for a row with nothing to look at, so that exp(-inf - top) is 0.
    top = top.masked_fill(top == -math.inf, 0)
    exponentials = torch.exp(masked - top[..., None])
    total = exponentials.sum(-1)
    if sinks is not None:
        total = total + torch.exp(sinks.to(top.dtype)[:, None] - top)
    return top, exponentials, total


def _empty_lse(problem: Problem) -> Tensor:
    """lse of rows that see no key: -inf, or the sink's logit."""
    dtype = compute_dtype(problem)
    lse = torch.full(problem.shape[:3], -math.inf, dtype=dtype, device=problem.query.device)
    return lse if problem.sinks is None else lse.copy_(problem.sinks.to(dtype)[:, None].expand_as(lse))
