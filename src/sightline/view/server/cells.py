"""Sums, counts and maxima of the weights in each cell of a region, taken block by block."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import pad

from sightline.view.pyramid import Region
from sightline.view.server.blocks import Weights


class Cells:
    """What the pictures of a region are made from.

    Attributes:
        total, count: [h,w], the sum of the weights of each cell and how many of them are visible.
        most: [h,w], the largest weight.
    """

    def __init__(self, region: Region) -> None:
        self.region = region
        self.total = torch.zeros(region.shape, dtype=torch.float64)
        self.count = torch.zeros(region.shape, dtype=torch.float64)
        self.most = torch.zeros(region.shape, dtype=torch.float32)

    @property
    def nbytes(self) -> int:
        """Bytes that it holds."""
        return self.total.numel() * 20

    def take(self, block: Weights, share: float = 1.0) -> Tensor:
        """Adds a block; ``share`` is for how many rows each of its rows stands. Returns its column sums."""
        cell, left = self.region.cell, self.region.left
        first, last = (block.cols.start - left) // cell, (block.cols.stop - 1 - left) // cell + 1
        margin = ((block.cols.start - left) % cell, last * cell - (block.cols.stop - left))
        received = torch.zeros(len(block.cols), dtype=torch.float64)
        for at, start, stop in self._bands(block.rows):
            weights = block.weights[start:stop]
            summed, most = weights.sum(0, dtype=weights.dtype).double(), weights.amax(0).float()
            received += summed
            if block.visible is None:
                seen = torch.full((len(block.cols),), float(stop - start), dtype=torch.float64)
            else:
                seen = block.visible[start:stop].sum(0, dtype=torch.int32).double()
            self.total[at, first:last] += share * pad(summed, margin).view(-1, cell).sum(1)
            self.count[at, first:last] += share * pad(seen, margin).view(-1, cell).sum(1)
            found = pad(most, margin).view(-1, cell).amax(1)
            self.most[at, first:last] = torch.maximum(self.most[at, first:last], found)
        return received

    def _bands(self, rows: range) -> list[tuple[int, int, int]]:
        """Runs of rows that fall into the same row of cells: that row, and where the run starts and stops."""
        cell, top = self.region.cell, self.region.top
        found, start = [], 0
        while start < len(rows):
            at = (rows[start] - top) // cell
            border = top + (at + 1) * cell
            stop = min(len(rows), start + -(-(border - rows[start]) // rows.step))
            found.append((at, start, stop))
            start = stop
        return found

    def clear(self, band: slice) -> None:
        """Forgets rows of cells, which are then taken anew."""
        for tensor in (self.total, self.count, self.most):
            tensor[band] = 0

    def picture(self, reduce: str) -> Tensor:
        """Mean or maximum of each cell, float32; NaN for a cell in which nothing is visible."""
        found = self.most if reduce == "max" else (self.total / self.count).float()
        return found.masked_fill(self.count == 0, math.nan)

    def coarser(self, region: Region) -> Cells:
        """The cells of a part, in larger cells; both sides must lie on borders of the larger cells."""
        ratio = region.cell // self.region.cell
        made = Cells(region)
        rows = slice((region.top - self.region.top) // self.region.cell, None)
        cols = slice((region.left - self.region.left) // self.region.cell, None)
        h, w = region.shape
        for name in ("total", "count", "most"):
            part = getattr(self, name)[rows, cols][: h * ratio, : w * ratio]
            whole = pad(part, (0, w * ratio - part.shape[1], 0, h * ratio - part.shape[0]))
            grouped = whole.view(h, ratio, w, ratio)
            setattr(made, name, grouped.amax((1, 3)) if name == "most" else grouped.sum((1, 3)))
        return made
