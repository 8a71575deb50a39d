"""Sums, counts and maxima of the weights in each cell of a region, taken piece by piece, for each head."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import pad

from sightline.matrix import AttentionMatrix, Cells, Grid
from sightline.view.pyramid import Region
from sightline.view.server.blocks import Piece, pieces, read

_FIELDS = ("cell_sum", "cell_max", "cell_seen")


class RegionCells:
    """What the pictures of a region are made from, [H,h,w].

    Args:
        matrix: [1,H,N,M].
        step: one in so many rows is read, in the middle of them; a power of 2, and 1 for all. Rows of cells
            that stand for less show the nearest.
    """

    def __init__(self, matrix: AttentionMatrix, region: Region, step: int = 1) -> None:
        self.matrix, self.region, self.step = matrix, region, step
        h, w = region.shape
        self.grid = Grid((1, matrix.shape[1], h, w), _FIELDS)
        self._cells = Cells((torch.arange(region.right - region.left) // region.cell)[None], w)
        self._repeat = max(1, step // region.cell)

    def todo(self) -> list[Piece]:
        """The pieces that are to be taken."""
        region, step = self.region, self.step
        width = region.right - region.left
        rows = slice(region.top + step // 2, region.bottom, step)
        todo = pieces(self.matrix, rows, width)
        if (region.bottom - region.top - 1) % step < step // 2:  # the last rows have no middle
            todo += pieces(self.matrix, slice(region.bottom - 1, region.bottom), width)
        return todo

    def take(self, piece: Piece) -> None:
        """Adds a piece."""
        cols = slice(self.region.left, self.region.right)
        rows_of_cells = read(self.matrix, piece, cols, self._cells, _FIELDS)
        cell, rows = self._cell_of(piece.rows)
        if rows is not None:
            rows_of_cells = {name: tensor[:, :, rows] for name, tensor in rows_of_cells.items()}
        self.grid.join(cell, rows_of_cells, piece.heads)

    def _cell_of(self, rows: slice) -> tuple[Tensor, Tensor | None]:
        """The rows of cells that the rows stand for, and which row each of them shows."""
        group = (torch.arange(*rows.indices(self.region.bottom)) - self.region.top) // self.step
        if self._repeat == 1:
            return group * self.step // self.region.cell, None
        cell = (group[:, None] * self._repeat + torch.arange(self._repeat)).flatten()
        kept = cell < self.region.shape[0]
        return cell[kept], torch.arange(len(group)).repeat_interleave(self._repeat)[kept]

    def picture(self, reduce: str, cell: int | None = None) -> Tensor:
        """Mean or maximum of each cell [H,h,w], float32; NaN for a cell in which nothing is visible.

        Args:
            cell: the side of a larger cell; the region then begins on a border of these.
        """
        if cell is None or cell == self.region.cell:
            return self.grid.picture(reduce)[0]
        h, w = self.region.shape
        ratio = cell // self.region.cell
        made = Grid((1, 0, 0, 0), ())
        for field, fine in self.grid.cells.items():
            whole = pad(fine, (0, -w % ratio, 0, -h % ratio), value=-1.0 if field == "cell_max" else 0.0)
            grouped = whole.unflatten(3, (-1, ratio)).unflatten(2, (-1, ratio))
            made.cells[field] = grouped.amax((3, 5)) if field == "cell_max" else grouped.sum((3, 5))
        return made.picture(reduce)[0]
