"""A picture of any region of the matrix by the native kernels; pool.py says what its cells are.

The readout pass joins each row's weights by the column of cells that their keys stand in, and rows are joined
here. Memory is one band of rows by the picture's width.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sightline.backends import cpu
from sightline.backends.cell_rows import cell_rows
from sightline.backends.grid import Grid
from sightline.backends.pool import cell_of
from sightline.backends.problem import Problem

# Numbers of one band, [B,H,rows,width].
_BAND = 1 << 21
_FIELDS = {"max": ["cell_max"], "sum": ["cell_sum"], "mean": ["cell_sum", "cell_seen"]}


def native_pool(
    problem: Problem, lse: Tensor, height: int, width: int, rows: slice, cols: slice, reduce: str
) -> Tensor:
    """Mean, max or sum of the weights of each cell, [B,H,height,width] float32; slices have step 1."""
    b, h, n, m = problem.shape
    top, bottom, _ = rows.indices(n)
    left, right, _ = cols.indices(m)
    row_cell = cell_of(max(0, bottom - top), height, torch.device("cpu"))
    col_cell = cell_of(max(0, right - left), width, torch.device("cpu"))
    cells, grid = cpu.Cells(col_cell[None], width), Grid((b, h, height, width), _FIELDS[reduce])
    band = max(64, _BAND // max(1, b * h * width) // 64 * 64)
    for first in range(top, bottom, band):
        chosen = slice(first, min(bottom, first + band))
        found = cell_rows(problem, lse[:, :, chosen], chosen, cols, cells, _FIELDS[reduce])
        grid.join(row_cell[chosen.start - top : chosen.stop - top], found)
    return grid.picture(reduce)
