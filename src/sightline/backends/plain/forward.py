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
from sightline.backends.problem import Problem, empty_context, lse_dtype
from sightline.backends.row_sums import row_sums, settled_for_blocks
from sightline.backends.schedule import schedule
from sightline.backends.seen import finite, may_hide, over_seen
from sightline.backends.softmax import exponentials
from sightline.common.zones import zone


def forward(problem: Problem) -> tuple[Tensor, Tensor]:
    """(context [B,H,N,E] in the query's dtype, lse [B,H,N])."""
    context, lse = _forward(problem, careful=False)
    if may_hide(problem) and not finite([context]):
        context, lse = _forward(problem, careful=True)
    return context, lse


def _forward(problem: Problem, careful: bool) -> tuple[Tensor, Tensor]:
    """``careful``: hidden values are left out of the sums."""
    assert problem.value is not None
    context = empty_context(problem.query, problem.value.shape[3]).zero_()
    lse = torch.full(problem.shape[:3], -math.inf, dtype=lse_dtype(problem.query), device=context.device)
    if problem.sinks is not None:  # of rows that see no key
        lse.copy_(problem.sinks.to(lse.dtype)[:, None].expand_as(lse))
    for block in blocks(problem):
        with zone("weights"):
            top, of_keys, total = exponentials(block.stage("masked"), problem.sinks)
            lse[block.batch, :, block.rows] = top.to(lse.dtype) + total.to(lse.dtype).log()
            if problem.dropout > 0:
                of_keys = of_keys * kept(problem, block.place)
        with zone("context"):
            value = problem.value[block.batch, :, block.cols].to(of_keys.dtype)
            seen = block.stage("masked") != -math.inf if careful else None
            summed = over_seen(grouped_product, of_keys, value, seen) / total[..., None]
            summed = summed.masked_fill(total[..., None] == 0, 0)
            context[block.batch, :, block.rows] = summed.to(context.dtype)
    return context, lse


def row_lse(problem: Problem, rows: slice = ALL) -> Tensor:
    """lse [B,H,n] of some rows, without the weighted sum."""
    top, log_sum = row_sums(problem, rows)
    dtype = lse_dtype(problem.query)
    return (top.to(dtype) + log_sum.to(dtype))[:, :, rows]


def blocks(
    problem: Problem, rows: slice = ALL, cols: slice = ALL, lse: Tensor | None = None
) -> Iterator[MatrixBlock]:
    """The blocks of some rows and columns in which something may be seen, for their weights with the lse."""
    sums = None if lse is None else settled_for_blocks(problem, lse, rows, cols)
    for place in schedule(problem, rows, cols):
        if place.cols.start < place.cols.stop:
            yield MatrixBlock(problem, place, sums)
