"""A picture of a matrix, from the tiles of several processes."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from sightline.backends.contract import Cells
from sightline.distributed.matrix.core import Piece

_BAND = 4096  # rows whose cells are held at a time

#: What of each cell a picture needs: sums, largest weights (-1 where nothing is visible), how many are seen.
_FIELDS: dict[str, tuple[str, ...]] = {
    "sum": ("cell_sum",),
    "max": ("cell_max",),
    "mean": ("cell_sum", "cell_seen"),
}


class Picture:
    """What this process's rows give to the cells of a picture, and all processes' together.

    Args:
        shape: of the picture, [B,H,height,width].
        rows, cols: of the whole matrix, slices of step 1.
        reduce: "sum", "max" or "mean".
        device: of the matrix.
    """

    def __init__(
        self, shape: tuple[int, ...], rows: slice, cols: slice, reduce: str, device: torch.device
    ) -> None:
        self._rows, self._cols = rows, cols
        self._height, self._width = shape[2:]
        self._names = _FIELDS[reduce]
        fills = [-1.0 if name == "cell_max" else 0.0 for name in self._names]
        #: [F,B,H,height,width], what the picture is made of.
        self.fields = torch.stack(
            [torch.full(shape, fill, dtype=torch.float64, device=device) for fill in fills]
        )

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
        found = piece.matrix.cell_rows(rows, cols, cells, self._names)
        factor = piece.share[:, :, rows, None]
        for name, field in zip(self._names, self.fields, strict=True):
            total = field[:, :, cell]
            if name == "cell_max":
                top = (found[name] * factor).masked_fill(found[name] < 0, -1.0).amax(2)
                total.copy_(torch.maximum(total, top))
            elif name == "cell_seen":
                total += found[name].sum(2, dtype=torch.float64)
            else:
                total += (found[name] * factor).sum(2)

    def shown(self, of_all: Tensor) -> Tensor:
        """The picture [B,H,height,width], of the fields of each process [P,F,B,H,height,width].

        NaN where nothing is visible, but for sums.
        """
        if self._names == ("cell_max",):
            largest = of_all[:, 0].amax(0)
            return largest.masked_fill(largest < 0, math.nan)
        fields: Tensor = of_all.sum(0)
        return fields[0] / fields[1] if len(fields) > 1 else fields[0]
