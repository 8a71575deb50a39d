"""The cells of a picture [B,H,height,width], joined from rows of cells."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from sightline.backends.pool import max_along


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
                found = max_along(rows[field].float(), 2, cell - first, last - first)
                part.copy_(torch.maximum(part, found))
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
