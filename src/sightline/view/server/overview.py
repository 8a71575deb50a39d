"""The coarse levels of one head: sampled at once, exact after one pass over the matrix, which may pause."""

from __future__ import annotations

from threading import Event, Lock

import torch
from torch import Tensor

from sightline.matrix import AttentionMatrix
from sightline.view.pyramid import Region, coarse_level
from sightline.view.server.blocks import blocks
from sightline.view.server.cells import Cells

#: Rows that the pass finishes at a time; what a cancelled pass has to repeat at most.
BAND = 512


class Overview:
    """All levels from ``coarse_level`` up, for one head or the mean or maximum over heads.

    Rows of cells that the exact pass has not reached show one sampled row each, with exact columns.
    """

    def __init__(self, matrix: AttentionMatrix, head: int | str) -> None:
        self.matrix, self.head = matrix, head
        _, _, self.n, self.m = matrix.shape
        self.cell = 1 << coarse_level(self.n, self.m)
        self.cells = Cells(Region(0, self.n, 0, self.m, self.cell))
        self.received = torch.zeros(self.m, dtype=torch.float64)
        self.done = 0
        self._sampled = False
        self._change, self._running = Lock(), Lock()

    @property
    def height(self) -> int:
        """Rows of cells."""
        return self.cells.region.shape[0]

    @property
    def share(self) -> float:
        """How much of the exact pass is done, 0 to 1."""
        return self.done / self.height

    @property
    def exact(self) -> bool:
        """Whether every number is exact."""
        return self.done == self.height

    @property
    def nbytes(self) -> int:
        """Bytes that it holds."""
        return self.cells.nbytes + 8 * self.m

    def sample(self, cancel: Event) -> None:
        """One row of every cell, in the middle of it. Nothing happens the second time."""
        if self._sampled:
            return
        made = Cells(self.cells.region)
        for block in blocks(self.matrix, self.head, slice(self.cell // 2, self.n, self.cell), _ALL, cancel):
            made.take(block, share=float(self.cell))
        if self.n % self.cell and self.n % self.cell <= self.cell // 2:  # the last, cut row of cells
            for block in blocks(self.matrix, self.head, slice(self.n - 1, self.n), _ALL, cancel):
                made.take(block, share=float(self.n % self.cell))
        with self._change:
            if not self._sampled:
                for name in ("total", "count", "most"):
                    getattr(self.cells, name)[self.done :] = getattr(made, name)[self.done :]
                self._sampled = True

    def refine(self, cancel: Event) -> None:
        """The exact pass, from where it stopped.

        Raises:
            StoppedError: after ``cancel`` was set; the rows of cells that are done stay done.
        """
        with self._running:
            while not self.exact:
                band = slice(self.done, min(self.height, self.done + max(1, BAND // self.cell)))
                rows = slice(band.start * self.cell, min(self.n, band.stop * self.cell))
                made = Cells(Region(rows.start, rows.stop, 0, self.m, self.cell))
                received = torch.zeros_like(self.received)
                for block in blocks(self.matrix, self.head, rows, _ALL, cancel):
                    received[block.cols.start : block.cols.stop] += made.take(block)
                with self._change:
                    for name in ("total", "count", "most"):
                        getattr(self.cells, name)[band] = getattr(made, name)
                    self.received += received
                    self.done = band.stop

    def picture(self, region: Region, reduce: str) -> tuple[Tensor, bool]:
        """A part in cells of its own size, and whether it is sampled."""
        with self._change:
            sampled = self.done * self.cell < region.bottom
            return self.cells.coarser(region).picture(reduce), sampled


_ALL = slice(None)
