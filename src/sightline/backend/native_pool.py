"""A picture of any region of the matrix by the native kernels; pool.py says what its cells are.

The readout pass joins each row's weights by the column of cells that their keys stand in, and rows are joined
here. Memory is one band of rows by the picture's width.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from sightline.backend import cpu
from sightline.backend.pool import cell_of, max_along
from sightline.backend.problem import Problem
from sightline.backend.select import select_cols, select_rows

# Numbers of one band, [B,H,rows,width].
_BAND = 1 << 21


def native_pool(
    problem: Problem, lse: Tensor, height: int, width: int, rows: slice, cols: slice, reduce: str
) -> Tensor:
    """Mean, max or sum of the weights of each cell, [B,H,height,width] float32; slices have step 1."""
    b, h, n, m = problem.shape
    lse = lse[:, :, rows]
    top, bottom, _ = rows.indices(n)
    left, right, _ = cols.indices(m)
    row_cell = cell_of(max(0, bottom - top), height, torch.device("cpu"))
    col_cell = cell_of(max(0, right - left), width, torch.device("cpu"))
    region, cells = select_cols(select_rows(problem, rows), cols), cpu.Cells(col_cell[None], width)
    everything = problem.ranges is None and problem.visible is None and problem.bias is None
    fields = ["cell_max" if reduce == "max" else "cell_sum"]
    if reduce == "mean" and not everything:
        fields.append("cell_seen")
    joined = {name: _start(name, b, h, height, width) for name in fields}
    band = max(64, _BAND // max(1, b * h * width) // 64 * 64)
    for first in range(0, len(row_cell), band):
        chosen = slice(first, first + band)
        found = cpu.readouts(select_rows(region, chosen), lse[:, :, chosen], fields, cells=cells)
        for name in fields:
            _join(joined[name], row_cell[chosen], found[name], name)
    return _finish(
        joined, reduce, row_cell.bincount(minlength=height)[:, None] * col_cell.bincount(minlength=width)
    )


def _start(name: str, *shape: int) -> Tensor:
    return torch.full(shape, -1.0) if name == "cell_max" else torch.zeros(shape, dtype=torch.float64)


def _join(total: Tensor, cell: Tensor, rows: Tensor, name: str) -> None:
    """Rows [B,H,n,width] into the cells [B,H,height,width] that they stand in, which ascend."""
    first, last = int(cell[0]), int(cell[-1]) + 1
    part = total[:, :, first:last]
    if name == "cell_max":
        part.copy_(torch.maximum(part, max_along(rows, 2, cell - first, last - first)))
    else:
        part.index_add_(2, cell - first, rows.double())


def _finish(joined: dict[str, Tensor], reduce: str, entries: Tensor) -> Tensor:
    """The picture; ``entries`` [height,width] are what a cell has where nothing is hidden."""
    if reduce == "max":
        return joined["cell_max"].masked_fill(joined["cell_max"] < 0, math.nan)
    if reduce == "sum":
        return joined["cell_sum"].float()
    # Nothing divided by nothing is NaN: absent.
    return (joined["cell_sum"] / joined.get("cell_seen", entries)).float()
