"""The cells of a picture of the matrix: which cell a place belongs to, and how rows of cells are joined."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor


class Grid:
    """Sums, numbers of visible weights and largest weights of each cell, those that are wanted.

    Attributes:
        cells: cell_sum and cell_seen [B,H,height,width] as float64, cell_max as float32; -1 where nothing is
            visible.
    """

    def __init__(self, shape: tuple[int, int, int, int], fields: Iterable[str]) -> None:
        self.cells = {
            field: torch.full(shape, -1.0) if field == "cell_max" else torch.zeros(shape, dtype=torch.float64)
            for field in fields
        }

    def join(self, cell: Tensor, rows: Mapping[str, Tensor], heads: slice = slice(None)) -> None:
        """Adds rows [B,h,n,width] to the rows of cells that they stand in, which ascend."""
        first, last = int(cell[0]), int(cell[-1]) + 1
        for field, whole in self.cells.items():
            part = whole[:, heads, first:last]
            if field == "cell_max":
                largest = max_along(rows[field].float(), 2, cell - first, last - first)
                part.copy_(torch.maximum(part, largest))
            else:
                part.index_add_(2, cell - first, rows[field].double())

    def picture(self, reduce: str) -> Tensor:
        """Mean, maximum or sum of each cell, float32; NaN for a wholly hidden one, 0 for its sum."""
        if reduce == "max":
            return self.cells["cell_max"].masked_fill(self.cells["cell_max"] < 0, math.nan)
        if reduce == "sum":
            return self.cells["cell_sum"].float()
        # Nothing divided by nothing is NaN: absent.
        return (self.cells["cell_sum"] / self.cells["cell_seen"]).float()


def cell_of(length: int, cells: int, device: torch.device) -> Tensor:
    """Each place's cell: the r with r·length//cells <= place < (r+1)·length//cells."""
    place = torch.arange(length, device=device)
    return ((place + 1) * cells - 1) // max(1, length)


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
