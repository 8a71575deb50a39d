"""An exact picture of any region of the matrix at any size, in plain PyTorch.

Rows of cells are cut at block borders and put together again, so memory is one block.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from sightline.backends.block import MatrixBlock
from sightline.backends.contract import PooledRegion
from sightline.backends.picture import cell_of, max_along
from sightline.backends.plain.readouts import run
from sightline.backends.problem import Problem, compute_dtype
from sightline.backends.seen import may_hide


def pool(problem: Problem, lse: Tensor, region: PooledRegion) -> Tensor:
    """The picture of a region, [B,H,height,width]."""
    (picture,) = run(problem, lse, [Pool(problem, region)], region.rows, region.cols)
    tensor: Tensor = picture
    return tensor


class Pool:
    """Mean, max or sum of the weights of each cell: [B,H,height,width].

    Mean and max run over visible cells; a wholly masked cell is NaN (0 for a sum).
    """

    def __init__(self, problem: Problem, region: PooledRegion) -> None:
        b, h, n, m = problem.shape
        height, width, self.reduce = region.height, region.width, region.reduce
        self.top, bottom, _ = region.rows.indices(n)
        self.left, right, _ = region.cols.indices(m)
        device = problem.query.device
        self.row_cell = cell_of(max(0, bottom - self.top), height, device)
        self.col_cell = cell_of(max(0, right - self.left), width, device)
        start = -math.inf if self.reduce == "max" else 0.0
        dtype = compute_dtype(problem) if self.reduce == "max" else torch.float64
        self.total = torch.full((b, h, height, width), start, dtype=dtype, device=device)
        self.seen = torch.zeros((b, h, height, width), dtype=torch.int64, device=device)
        self.dtype = compute_dtype(problem)
        self.all_visible = not may_hide(problem)

    def take(self, block: MatrixBlock) -> None:
        batch, rows, cols = block.place
        row = self.row_cell[rows.start - self.top : rows.stop - self.top]
        col = self.col_cell[cols.start - self.left : cols.stop - self.left]
        first, last = int(row[0]), int(row[-1]) + 1
        left, right = int(col[0]), int(col[-1]) + 1
        shape = (last - first, right - left)
        cells = (batch, slice(None), slice(first, last), slice(left, right))
        weights = block.weights
        if self.all_visible:
            rows_in, cols_in = (row - first).bincount(), (col - left).bincount()
            self.seen[cells] += rows_in[:, None] * cols_in
        else:
            visible = block.masked != -math.inf
            self.seen[cells] += _sum_cells(visible.to(torch.int32), row - first, col - left, shape)
            weights = weights.masked_fill(~visible, -math.inf) if self.reduce == "max" else weights
        if self.reduce == "max":
            largest = _max_cells(weights, row - first, col - left, shape)
            self.total[cells] = torch.maximum(self.total[cells], largest)
        else:
            self.total[cells] += _sum_cells(weights, row - first, col - left, shape)

    def result(self) -> Tensor:
        if self.reduce == "sum":
            return self.total.to(self.dtype)
        mean = self.total if self.reduce == "max" else self.total / self.seen
        return mean.masked_fill(self.seen == 0, math.nan).to(self.dtype)


def _sum_cells(x: Tensor, row: Tensor, col: Tensor, shape: tuple[int, int]) -> Tensor:
    """[b,h,n,m] -> [b,h,*shape]: sums along rows first, in order, then along columns."""
    along_rows = x.new_zeros((*x.shape[:2], shape[0], x.shape[3])).index_add_(2, row, x)
    return x.new_zeros((*x.shape[:2], *shape)).index_add_(3, col, along_rows)


def _max_cells(x: Tensor, row: Tensor, col: Tensor, shape: tuple[int, int]) -> Tensor:
    return max_along(max_along(x, 2, row, shape[0]), 3, col, shape[1])
