"""An exact picture of any region of the matrix at any size.

Cell (r, c) covers rows r·n//height to (r+1)·n//height and the columns alike, so cells tile the region
without overlap. Rows of cells are cut at block borders and put together again, so memory is one block.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from sightline.backends.problem import Problem
from sightline.backends.readouts import View
from sightline.backends.stages import compute_dtype


class Pool:
    """Mean, max or sum of the weights of each cell: [B,H,height,width].

    Mean and max run over visible cells; a wholly masked cell is NaN (0 for a sum).
    """

    def __init__(
        self, problem: Problem, height: int, width: int, rows: slice, cols: slice, reduce: str
    ) -> None:
        b, h, n, m = problem.shape
        self.reduce = reduce
        self.top, bottom, _ = rows.indices(n)
        self.left, right, _ = cols.indices(m)
        device = problem.query.device
        self.row_cell = cell_of(max(0, bottom - self.top), height, device)
        self.col_cell = cell_of(max(0, right - self.left), width, device)
        start = -math.inf if reduce == "max" else 0.0
        dtype = compute_dtype(problem) if reduce == "max" else torch.float64
        self.total = torch.full((b, h, height, width), start, dtype=dtype, device=device)
        self.seen = torch.zeros((b, h, height, width), dtype=torch.int64, device=device)
        self.dtype = compute_dtype(problem)
        self.all_visible = problem.ranges is None and problem.visible is None and problem.bias is None

    def take(self, view: View) -> None:
        batch, rows, cols = view.block
        row = self.row_cell[rows.start - self.top : rows.stop - self.top]
        col = self.col_cell[cols.start - self.left : cols.stop - self.left]
        first, last = int(row[0]), int(row[-1]) + 1
        left, right = int(col[0]), int(col[-1]) + 1
        shape = (last - first, right - left)
        cells = (batch, slice(None), slice(first, last), slice(left, right))
        weights = view.weights
        if self.all_visible:
            rows_in, cols_in = (row - first).bincount(), (col - left).bincount()
            self.seen[cells] += rows_in[:, None] * cols_in
        else:
            visible = view.masked > -math.inf
            self.seen[cells] += _sum_cells(visible.to(torch.int32), row - first, col - left, shape)
            weights = weights.masked_fill(~visible, -math.inf) if self.reduce == "max" else weights
        if self.reduce == "max":
            found = _max_cells(weights, row - first, col - left, shape)
            self.total[cells] = torch.maximum(self.total[cells], found)
        else:
            self.total[cells] += _sum_cells(weights, row - first, col - left, shape)

    def result(self) -> Tensor:
        if self.reduce == "sum":
            return self.total.to(self.dtype)
        mean = self.total if self.reduce == "max" else self.total / self.seen
        return mean.masked_fill(self.seen == 0, math.nan).to(self.dtype)


def cell_of(length: int, cells: int, device: torch.device) -> Tensor:
    """Each place's cell: the r with r·length//cells <= place < (r+1)·length//cells."""
    place = torch.arange(length, device=device)
    return ((place + 1) * cells - 1) // max(1, length)


def _sum_cells(x: Tensor, row: Tensor, col: Tensor, shape: tuple[int, int]) -> Tensor:
    """[b,h,n,m] -> [b,h,*shape]: sums along rows first, in order, then along columns."""
    along_rows = x.new_zeros((*x.shape[:2], shape[0], x.shape[3])).index_add_(2, row, x)
    return x.new_zeros((*x.shape[:2], *shape)).index_add_(3, col, along_rows)


def _max_cells(x: Tensor, row: Tensor, col: Tensor, shape: tuple[int, int]) -> Tensor:
    return max_along(max_along(x, 2, row, shape[0]), 3, col, shape[1])


def max_along(x: Tensor, axis: int, cell: Tensor, cells: int) -> Tensor:
    """The largest entry of each cell along an axis; -inf for a cell without any. ``cell`` ascends."""
    borders = torch.searchsorted(cell, torch.arange(cells + 1, device=x.device))
    first, size = borders[:-1], borders.diff()
    step = torch.arange(max(1, int(size.max())), device=x.device)
    # Short cells read their last entry again, which changes no maximum.
    place = (first[:, None] + torch.minimum(step, (size - 1).clamp(min=0)[:, None])).clamp(max=len(cell) - 1)
    shape = (*x.shape[:axis], *place.shape, *x.shape[axis + 1 :])
    chosen = x.index_select(axis, place.flatten()).reshape(shape).amax(axis + 1)
    empty = (size == 0).reshape([-1 if a == axis else 1 for a in range(4)])
    return chosen.masked_fill(empty, -math.inf)
