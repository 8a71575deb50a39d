"""The coarse levels of one head: sampled at once, exact after one pass over the matrix, which may pause."""

from __future__ import annotations

import math
from collections import deque
from threading import Lock

import torch
from torch import Tensor

from sightline.matrix import AttentionMatrix
from sightline.view.pyramid import Region, coarse_level, top_level
from sightline.view.server.blocks import ROWS, Piece, over_heads, sampling_step
from sightline.view.server.cancel import Cancel
from sightline.view.server.cells import RegionCells

#: Weights that are read for the sampled picture, lse included.
SAMPLE = 1 << 28


class Overview:
    """All levels from ``coarse_level`` up, for one head or the mean or maximum over heads.

    The exact pass goes by bands, rows of cells of the top level; it stops and goes on between any two pieces.
    Bands that it has not reached show sampled rows, with exact columns.

    Args:
        matrix: [1,H,N,M].
    """

    def __init__(self, matrix: AttentionMatrix, head: int | str) -> None:
        self.matrix, self.head = matrix, head
        _, self.h, self.n, self.m = matrix.shape
        coarse, top = coarse_level(self.n, self.m), top_level(self.n, self.m)
        self.cell, self.band = 1 << coarse, 1 << top
        self.bands = -(-self.n // self.band)
        self._pictures = {
            (1 << level, reduce): torch.full(self._region(0, self.bands, 1 << level).shape, math.nan)
            for level in range(coarse, top + 1)
            for reduce in ("mean", "max")
        }
        self.done = 0
        self._made: RegionCells | None = None  # the current band of the pass, and its remaining pieces
        self._left: deque[Piece] = deque()
        self._all = 0
        self._sampled = False
        self._change, self._running = Lock(), Lock()

    @property
    def share(self) -> float:
        """How much of the exact pass is done, 0 to 1."""
        begun = 1 - len(self._left) / self._all if self._left else 0.0
        return (self.done + begun) / self.bands

    @property
    def exact(self) -> bool:
        """Whether every number is exact."""
        return self.done == self.bands

    @property
    def nbytes(self) -> int:
        """Its size in bytes."""
        return sum(picture.nbytes for picture in self._pictures.values())

    def _region(self, first: int, last: int, cell: int) -> Region:
        """The region of some bands, over their whole width."""
        return Region(first * self.band, min(self.n, last * self.band), 0, self.m, cell)

    def sample(self, cancel: Cancel) -> None:
        """Reads a few rows of each band; a second call does nothing.

        Raises:
            StoppedError: after ``cancel`` was set.
        """
        if self._sampled:
            return
        step = min(self.band, sampling_step(self.matrix, slice(None), self.m, SAMPLE, self.cell))
        bands = max(1, ROWS // 4 * step // self.band)  # at a time
        for first in range(0, self.bands, bands):
            last = min(self.bands, first + bands)
            made = RegionCells(self.matrix, self._region(first, last, self.cell), step)
            for piece in made.todo():
                cancel.check()
                made.take(piece)
            with self._change:
                self._show(made, first, max(first, self.done))
        self._sampled = True

    def refine(self, cancel: Cancel) -> None:
        """The exact pass, from where it stopped.

        Raises:
            StoppedError: after ``cancel`` was set; what is done stays done.
        """
        with self._running:
            while not self.exact:
                if self._made is None:
                    self._made = RegionCells(self.matrix, self._region(self.done, self.done + 1, self.cell))
                    todo = self._made.todo()
                    self._all = len(todo)
                    self._left.extend(todo)
                while self._left:
                    cancel.check()
                    self._made.take(self._left[0])
                    self._left.popleft()
                with self._change:
                    self._show(self._made, self.done, self.done)
                    self.done += 1
                self._made = None

    def _show(self, made: RegionCells, first: int, shown: int) -> None:
        """Puts cells, which begin at band ``first``, into the pictures, from band ``shown`` on."""
        for (cell, reduce), picture in self._pictures.items():
            ratio = self.band // cell
            strip = over_heads(made.picture(reduce, cell), self.head)[(shown - first) * ratio :]
            picture[shown * ratio : shown * ratio + len(strip)] = strip

    def picture(self, region: Region, reduce: str) -> tuple[Tensor, bool]:
        """A region at its own cell size, and whether it is sampled."""
        h, w = region.shape
        top, left = region.top // region.cell, region.left // region.cell
        with self._change:
            sampled = self.done * self.band < region.bottom
            return self._pictures[region.cell, reduce][top : top + h, left : left + w].clone(), sampled
