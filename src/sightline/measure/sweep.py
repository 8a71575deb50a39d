"""One pass over the matrix, block by block: the only place in this package that knows how blocks are cut.

A sweep is an object that takes one block of full rows after another; memory is one block and its output.

Letters: B batch, H heads, N queries, M keys; a block has b x H x n x m entries.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from sightline.backends.problem import Problem
from sightline.backends.readouts import Part, Readout, View, run
from sightline.backends.stages import (
    BLOCK_ENTRIES,
    Block,
    compute_dtype,
    hidden_of,
    logits,
    pair_logits,
    part,
    product,
    schedule,
)
from sightline.matrix import AttentionMatrix

# Rows whose columns are looked up together.
_GROUP = 64


def sweep(
    matrix: AttentionMatrix, *readouts: Readout, rows: slice | None = None, cols: slice | None = None
) -> list[Any]:
    """The results of several sweeps from one pass over the matrix [B,H,N,M], or some rows or columns."""
    return run(matrix.problem, matrix.lse, readouts, rows, cols)


def row_blocks(matrices: Sequence[AttentionMatrix], cut: bool = True) -> Iterator[tuple[slice, list[Tensor]]]:
    """Some rows at a time, of several matrices with the same B, N and M: weights [B,H,n,m] of each.

    The weights are float32 or better, whatever the matrices' dtype; all of them together stay within one
    block's size.

    Args:
        cut: leave out the columns that none of these rows sees in any of the matrices; else m is M.
    """
    b, _, n, m = matrices[0].problem.shape
    heads = max(1, b * sum(matrix.problem.shape[1] for matrix in matrices))
    group = max(_GROUP, BLOCK_ENTRIES // max(1, heads * m))
    for start in range(0, n, group):
        stop = min(n, start + group)
        cols = _seen_columns(matrices, slice(start, stop, 1)) if cut else slice(0, m, 1)
        height = max(1, BLOCK_ENTRIES // max(1, heads * (cols.stop - cols.start)))
        for first in range(start, stop, height):
            rows = slice(first, min(stop, first + height), 1)
            yield rows, [_part(matrix, rows, cols) for matrix in matrices]


def _seen_columns(matrices: Sequence[AttentionMatrix], rows: slice) -> slice:
    """The columns that some of the rows may see in one of the matrices."""
    blocks = [block.cols for matrix in matrices for block in schedule(matrix.problem, rows)]
    seen = [cols for cols in blocks if cols.start < cols.stop]
    if not seen:
        return slice(0, 0, 1)
    return slice(min(cols.start for cols in seen), max(cols.stop for cols in seen), 1)


def _part(matrix: AttentionMatrix, rows: slice, cols: slice) -> Tensor:
    """The weights [B,H,n,m] of some rows and columns, float32 or better."""
    problem = matrix.problem
    (found,) = run(problem, matrix.lse, [Part(problem, rows, cols)], rows, cols)
    weights: Tensor = found
    return weights


def scaled_blocks(matrix: AttentionMatrix) -> Iterator[tuple[Block, Tensor, Tensor]]:
    """(block, scaled scores, whether they are visible) of every block that has a visible entry."""
    for block, seen in seen_blocks(matrix):
        yield block, logits(matrix.problem, block, "scaled"), seen


def seen_blocks(matrix: AttentionMatrix) -> Iterator[tuple[Block, Tensor]]:
    """(block, bool [b,H,n,m]): who may see whom, without a look at the scores."""
    problem = matrix.problem
    _, h, _, _ = problem.shape
    for block in schedule(problem):
        b, n, m = (one.stop - one.start for one in block)
        if m <= 0:
            continue
        hidden = hidden_of(problem, block)
        seen = torch.ones((), dtype=torch.bool, device=matrix.device) if hidden is None else ~hidden
        if problem.bias is not None:
            bias = part(part(part(problem.bias, 0, block.batch), 2, block.rows), 3, block.cols)
            seen = seen & (bias > -torch.inf)
        yield block, seen.expand(b, h, n, m)


def sees(matrix: AttentionMatrix, keys: Tensor) -> Tensor:
    """Whether each row may see one key: indices [1|B,1,N] or [B,H,N], -1 for none -> bool [B,H,N]."""
    problem = matrix.problem
    b, h, n, _ = problem.shape
    wanted = keys.expand(b, h, n)
    if not matrix.numel():
        return torch.zeros((b, h, n), dtype=torch.bool, device=matrix.device)
    found = pair_logits(problem, torch.arange(n, device=matrix.device), wanted.clamp(min=0))
    return (found > -torch.inf) & (wanted >= 0)


def only_ranges(matrix: AttentionMatrix) -> bool:
    """Whether key ranges alone say who may see whom: no dense mask, and no bias that hides."""
    problem = matrix.problem
    return problem.visible is None and (problem.bias is None or bool((problem.bias > -torch.inf).all()))


__all__ = [
    "Block",
    "Problem",
    "View",
    "compute_dtype",
    "only_ranges",
    "part",
    "product",
    "row_blocks",
    "scaled_blocks",
    "seen_blocks",
    "sees",
    "sweep",
]
