"""A picture of any region of the matrix by the native kernels.

The readout pass joins each row's weights by the column of cells that their keys stand in, and rows are joined
here. Memory is one band of rows by the picture's width.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sightline.backends.contract import Cells, PooledRegion
from sightline.backends.native.cells import cell_rows
from sightline.backends.picture import Grid, cell_of
from sightline.backends.problem import Problem

# Numbers of one band, [B,H,rows,width].
_BAND = 1 << 21
_FIELDS = {"max": ("cell_max",), "sum": ("cell_sum",), "mean": ("cell_sum", "cell_seen")}


def pool(problem: Problem, lse: Tensor, region: PooledRegion) -> Tensor:
    """Mean, max or sum of the weights of each cell, [B,H,height,width] float32."""
    b, h, n, m = problem.shape
    top, bottom, _ = region.rows.indices(n)
    left, right, _ = region.cols.indices(m)
    row_cell = cell_of(max(0, bottom - top), region.height, torch.device("cpu"))
    col_cell = cell_of(max(0, right - left), region.width, torch.device("cpu"))
    cells, fields = Cells(col_cell[None], region.width), _FIELDS[region.reduce]
    grid = Grid((b, h, region.height, region.width), fields)
    band = max(64, _BAND // max(1, b * h * region.width) // 64 * 64)
    for first in range(top, bottom, band):
        rows = slice(first, min(bottom, first + band))
        joined = cell_rows(problem, lse[:, :, rows], rows, region.cols, cells, fields)
        grid.join(row_cell[first - top : rows.stop - top], joined)
    return grid.picture(region.reduce)
