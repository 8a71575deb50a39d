"""A picture of a matrix, from the tiles of several processes."""

from __future__ import annotations

import torch

from sightline.backends.contract import Cells
from sightline.distributed.matrix.core import Piece

_BAND = 4096  # rows whose cells are held at a time


class Picture:
    """What this process's rows give to the cells of a picture: sums, largest weights, how many are seen."""

    def __init__(self, shape: tuple[int, ...], rows: slice, cols: slice, device: torch.device) -> None:
        self._rows, self._cols = rows, cols
        self._height, self._width = shape[2:]
        empty = torch.zeros(shape, dtype=torch.float64, device=device)
        #: Sums, largest weights, and how many are visible, of each cell.
        self.fields = empty, empty - 1, empty.clone()

    def add(self, piece: Piece) -> None:
        """Adds a tile's."""
        tile, n = piece.tile, self._rows.stop - self._rows.start
        low, high = max(tile.keys.first, self._cols.start), min(tile.keys.last, self._cols.stop)
        if low >= high:
            return
        cols = slice(low - tile.keys.first, high - tile.keys.first)
        cells = self._cells(low, high, piece.matrix.device)
        for cell in range(self._height):
            first = self._rows.start + cell * n // self._height
            last = self._rows.start + (cell + 1) * n // self._height
            first, last = (
                max(first, tile.first) - tile.first,
                min(last, tile.first + piece.matrix.sizes[2]) - tile.first,
            )
            for start in range(first, last, _BAND):
                self._add_rows(cell, piece, slice(start, min(last, start + _BAND)), cols, cells)

    def _cells(self, low: int, high: int, device: torch.device) -> Cells:
        """Which cell each of some keys belongs to."""
        m = self._cols.stop - self._cols.start
        ends = torch.arange(1, self._width + 1, device=device) * m // self._width
        keys = torch.arange(low, high, device=device) - self._cols.start
        return Cells(torch.searchsorted(ends, keys, right=True)[None], self._width)

    def _add_rows(self, cell: int, piece: Piece, rows: slice, cols: slice, cells: Cells) -> None:
        found = piece.matrix.cell_rows(rows, cols, cells, ("cell_sum", "cell_max", "cell_seen"))
        factor = piece.share[:, :, rows, None]
        total, largest, seen = (one[:, :, cell] for one in self.fields)
        total += (found["cell_sum"] * factor).sum(2)
        top = (found["cell_max"] * factor).masked_fill(found["cell_seen"] == 0, -1.0).amax(2)
        largest.copy_(torch.maximum(largest, top))
        seen += found["cell_seen"].sum(2, dtype=torch.float64)
