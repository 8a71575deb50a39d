"""Some heads of a lazy matrix: a small part of their weights, or a region of it in pieces of bounded work."""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import NamedTuple

from torch import Tensor

from sightline.matrix import AttentionMatrix, Cells

#: Weights of one piece: two cores take 20 to 40 ms for them. Between two pieces a computation can stop.
PIECE = 1 << 25
#: Weights that are read at once, in 50 to 100 ms; where it were more, sampled rows come first.
AT_ONCE = 1 << 26
#: Rows of a piece at least: two threads have their share, and what a call costs besides is little.
ROWS = 256


class Piece(NamedTuple):
    """Rows of some heads that are computed in one go."""

    heads: slice
    rows: slice


def select(matrix: AttentionMatrix, head: int | str) -> AttentionMatrix:
    """One head, or all heads for "mean" and "max": still lazy, [1,H,N,M] with H ≥ 1."""
    heads = slice(None) if isinstance(head, str) else slice(head, head + 1)
    return matrix.select(heads=heads)


def work(matrix: AttentionMatrix, rows: slice, width: int) -> int:
    """Weights that are read for ``width`` keys of some rows, and for the rows' lse, times what each costs."""
    _, h, n, m = matrix.shape
    count = len(range(n)[rows]) * h * width + m * matrix.unknown_lse(rows)
    return matrix.cost_of(rows) * count


def sampling_step(matrix: AttentionMatrix, rows: slice, width: int, limit: int, least: int) -> int:
    """The smallest power of 2 from ``least`` on, so that every so many of the rows are little enough work."""
    first, last, _ = rows.indices(matrix.shape[2])
    step = least
    while step < last - first and work(matrix, slice(first, last, step), width) > limit:
        step *= 2
    return step


def pieces(matrix: AttentionMatrix, rows: slice, width: int) -> list[Piece]:
    """Rows of all heads, of which ``width`` keys are read, in pieces."""
    _, h, n, m = matrix.shape
    chosen = range(n)[rows]
    wide = max(1, m if matrix.unknown_lse(rows) else width)
    height = max(ROWS, PIECE // (wide * h) // ROWS * ROWS)
    heads = max(1, PIECE // (wide * min(height, len(chosen) or 1)))
    return [
        Piece(
            slice(head, min(h, head + heads)),
            slice(part.start, part.stop, part.step),
        )
        for first in range(0, len(chosen), height)
        for part in (chosen[first : first + height],)
        for head in range(0, h, heads)
    ]


def read(
    matrix: AttentionMatrix, piece: Piece, cols: slice, cells: Cells | None, fields: Collection[str]
) -> dict[str, Tensor]:
    """The fields of :meth:`AttentionMatrix.cell_rows` for a piece, computed where the matrix lies."""
    if cells is not None:
        cells = cells._replace(of_key=cells.of_key.to(matrix.device))
    found = matrix.select(heads=piece.heads).cell_rows(piece.rows, cols, cells, fields)
    return {name: tensor.cpu() for name, tensor in found.items()}


def part(matrix: AttentionMatrix, rows: slice, cols: slice) -> Tensor:
    """Weights of a small part of one head, NaN where a query may not look: [n,m], here."""
    block = matrix.block(rows, cols)
    return block.weights[0, 0].masked_fill(block.masked[0, 0] == -math.inf, math.nan).cpu()


def over_heads(values: Tensor, head: int | str) -> Tensor:
    """[H,...] to [...]: the only head, or the mean or maximum over heads; hidden in one counts as 0."""
    if len(values) == 1:
        return values[0]
    if head == "mean":
        return values.nan_to_num(nan=0.0).mean(0).masked_fill(values.isnan().all(0), math.nan)
    most = values.nan_to_num(nan=-1.0).amax(0)
    return most.masked_fill(most < 0, math.nan)
