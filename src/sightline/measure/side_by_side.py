"""Rows of several matrices side by side, a block at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from sightline.matrix import BLOCK_ENTRIES, AttentionMatrix

# Rows whose columns are looked up together.
_GROUP = 64


def row_blocks(matrices: Sequence[AttentionMatrix], cut: bool = True) -> Iterator[tuple[slice, list[Tensor]]]:
    """Some rows at a time, of several matrices with the same B, N and M: weights [B,H,n,m] of each.

    The weights are float32 or better, whatever the matrices' dtype; all of them together stay within one
    block's size.

    Args:
        cut: leave out the columns that none of these rows sees in any of the matrices; else m is M.
    """
    b, _, n, m = matrices[0].sizes
    heads = max(1, b * sum(matrix.sizes[1] for matrix in matrices))
    group = max(_GROUP, BLOCK_ENTRIES // max(1, heads * m))
    for start in range(0, n, group):
        stop = min(n, start + group)
        cols = _seen_columns(matrices, slice(start, stop)) if cut else slice(0, m)
        height = max(1, BLOCK_ENTRIES // max(1, heads * (cols.stop - cols.start)))
        for first in range(start, stop, height):
            rows = slice(first, min(stop, first + height))
            yield rows, [matrix.part(rows, cols) for matrix in matrices]


def _seen_columns(matrices: Sequence[AttentionMatrix], rows: slice) -> slice:
    """The columns that some of the rows may see in one of the matrices."""
    spans = [matrix.seen_columns(rows) for matrix in matrices]
    seen = [cols for cols in spans if cols.start < cols.stop]
    if not seen:
        return slice(0, 0)
    return slice(min(cols.start for cols in seen), max(cols.stop for cols in seen))


def full_row_blocks(matrices: Sequence[AttentionMatrix]) -> Iterator[tuple[slice, list[Tensor]]]:
    """As :func:`row_blocks`, with what learned sinks take as one more key, so that all rows sum to 1."""
    sinks = any(matrix.problem.sinks is not None for matrix in matrices)
    for rows, blocks in row_blocks(matrices):
        if sinks:
            blocks = [_with_sink(matrix, part) for matrix, part in zip(matrices, blocks, strict=True)]
        yield rows, blocks


def row_entropy(weights: Tensor) -> Tensor:
    """-Σ w ln w along the last axis."""
    return -torch.xlogy(weights, weights).sum(-1)


def _with_sink(matrix: AttentionMatrix, weights: Tensor) -> Tensor:
    taken = weights.new_zeros(weights.shape[:-1])
    if matrix.problem.sinks is not None:
        taken = (1 - weights.sum(-1)).clamp(min=0)
    return torch.cat((weights, taken[..., None]), dim=-1)
