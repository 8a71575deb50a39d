"""The matrix block by block, and rows of it by cells: what measures and pictures are made from."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import cast, get_args

import torch
from torch import Tensor

from sightline.backends import MatrixBlock, choose
from sightline.backends.contract import Cells, PooledRegion, Reduction
from sightline.backends.pairs import pair_logits
from sightline.backends.problem import compute_dtype
from sightline.backends.schedule import Place, schedule
from sightline.common.check import choice, integer
from sightline.matrix.core import MatrixCore
from sightline.matrix.indexing import ALL, as_slice, covering


class Blocks(MatrixCore):
    """Passes over the matrix that hold a block at a time; all of four axes, [B,H,N,M]."""

    def blocks(self, rows: slice = ALL, cols: slice = ALL) -> Iterator[MatrixBlock]:
        """Blocks of full rows that cover the matrix, or some rows and columns, cut to what a row may see.

        Each row stands in one block. A block has ``.batch``, ``.rows`` and ``.cols``, slices of the whole
        matrix, and computes ``.weights``, ``.masked``, ``.scaled``, ``.visible`` [b,H,n,m] and ``.lse``
        [b,H,n] when they are first asked for, in float32 or better. Blocks without visible keys are left out.

        Args:
            rows: a slice, with any step.
            cols: a slice of step 1.

        Example:
            >>> import sightline, torch
            >>> A = sightline.AttentionMatrix(*torch.randn(2, 1, 2, 10, 4), mask=sightline.causal())
            >>> squares = torch.zeros(1, 2, 10)
            >>> for block in A.blocks():
            ...     squares[block.batch, :, block.rows] = (block.weights**2).sum(-1)
            >>> bool((squares < 1.001).all())
            True
        """
        yield from self._blocks_of(rows, cols)

    def _blocks_of(self, rows: slice, cols: slice, entries: int | None = None) -> Iterator[MatrixBlock]:
        """The same in blocks of at most so many entries, where that is said."""
        self._unchanged()
        _, _, n, m = self.sizes
        chosen, cover = as_slice(rows, n, "N"), covering(as_slice(cols, m, "M"), m)
        for place in schedule(self._problem, chosen, cover, entries):
            if place.cols.start < place.cols.stop:
                yield MatrixBlock(self._problem, place, lambda: self._sums_for(chosen, cover))

    def block(self, rows: slice = ALL, cols: slice = ALL) -> MatrixBlock:
        """Some rows and columns as one block, however large; ``cols`` has a step of 1. See :meth:`blocks`."""
        self._unchanged()
        _, _, n, m = self.sizes
        chosen, cover = as_slice(rows, n, "N"), covering(as_slice(cols, m, "M"), m)
        return MatrixBlock(self._problem, Place(ALL, chosen, cover), lambda: self._sums_for(chosen, cover))

    def part(self, rows: slice = ALL, cols: slice = ALL) -> Tensor:
        """The weights of some rows and columns, [B,H,n,m] in float32 or better, whatever their size."""
        b, h, n, m = self.sizes
        rows, cols = as_slice(rows, n, "N"), as_slice(cols, m, "M")
        row_range, col_range = range(n)[rows], range(m)[cols]
        shape = b, h, len(row_range), len(col_range)
        weights = torch.zeros(shape, dtype=compute_dtype(self._problem), device=self.device)
        if 0 in shape:
            return weights
        for block in self.blocks(rows, cols):
            top = (block.rows.start - row_range.start) // row_range.step
            # The first wanted column within the block's.
            skip = (col_range.start - block.cols.start) % col_range.step
            left = (block.cols.start + skip - col_range.start) // col_range.step
            chosen = block.weights[..., skip :: col_range.step]
            weights[block.batch, :, top : top + chosen.shape[2], left : left + chosen.shape[3]] = chosen
        return weights

    def seen_columns(self, rows: slice) -> slice:
        """The columns that some of the rows may see, as one slice; an empty one where there are none."""
        places = [place.cols for place in schedule(self._problem, as_slice(rows, self.sizes[2], "N"))]
        seen = [cols for cols in places if cols.start < cols.stop]
        if not seen:
            return slice(0, 0, 1)
        return slice(min(cols.start for cols in seen), max(cols.stop for cols in seen), 1)

    def visible_pairs(self, keys: Tensor) -> Tensor:
        """Whether each row may see one key: indices that broadcast to [B,H,N], -1 for none; bool [B,H,N]."""
        b, h, n, _ = self.sizes
        wanted = keys.expand(b, h, n)
        if 0 in self.sizes:
            return torch.zeros((b, h, n), dtype=torch.bool, device=self.device)
        masked = pair_logits(self._problem, torch.arange(n, device=self.device), wanted.clamp(min=0))
        return (masked > -torch.inf) & (wanted >= 0)

    @property
    def only_ranges(self) -> bool:
        """Whether key ranges alone say who may see whom: no dense mask, and no bias that hides."""
        problem = self._problem
        return problem.visible is None and (problem.bias is None or bool((problem.bias > -torch.inf).all()))

    def cell_rows(
        self, rows: slice, cols: slice, cells: Cells | None, fields: Collection[str]
    ) -> dict[str, Tensor]:
        """What some rows give to a region's keys, joined by cells of keys, by name.

        A caller cuts a large region into bands of rows, to stop between them.

        Args:
            rows: a slice, with any step.
            cols: a slice of step 1.
            cells: which cell each of the m chosen keys belongs to, in ascending order; for the cell fields.
            fields: of "cell_sum", "cell_max" (-1 where nothing is visible) and "cell_seen" (how many weights
                are visible), [B,H,n,w]; "entropy" of the row within the region, [B,H,n]; "received", [B,H,m].
        """
        self._unchanged()
        _, _, n, m = self.sizes
        rows, cols = as_slice(rows, n, "N"), as_slice(cols, m, "M")
        backend = choose(self._problem, self._work("cells", rows))
        return backend.cells(self._problem, self._lse_of(rows), rows, cols, cells, fields)

    def cost_of(self, rows: slice) -> int:
        """How many times as long a weight of :meth:`cell_rows` takes as by the fastest backend, roughly."""
        return choose(self._problem, self._work("cells", rows)).cost

    def pool(
        self,
        height: int,
        width: int,
        rows: slice | int | None = None,
        cols: slice | int | None = None,
        reduce: str = "mean",
    ) -> Tensor:
        """An exact picture of any region: [B,H,height,width], float32 or better.

        Cell r covers rows r·n//height to (r+1)·n//height, and columns alike. Mean and max run over visible
        cells; a wholly masked cell is NaN (0 for a sum). A mean hides single spikes; a max shows them.

        Args:
            height, width: cells; more than rows or columns leaves some cells empty (NaN, or 0 for a sum).
            rows, cols: the region, slices of step 1, or an integer for a single one; all by default.
            reduce: "mean", "max" or "sum".

        Raises:
            ValueError: for sizes below 1, another reduction, or a step; TypeError for what is no integer.
        """
        _, _, n, m = self.sizes
        height, width = integer("pool height", height, 1), integer("pool width", width, 1)
        choice("pool reduce", reduce, get_args(Reduction))
        row_slice = as_slice(ALL if rows is None else rows, n, "N")
        col_slice = as_slice(ALL if cols is None else cols, m, "M")
        if row_slice.step != 1 or col_slice.step != 1:
            raise ValueError("pool: rows and cols are slices of step 1.")
        self._unchanged()
        region = PooledRegion(row_slice, col_slice, height, width, cast(Reduction, reduce))
        backend = choose(self._problem, self._work("pool"))
        return self._squeeze(backend.pool(self._problem, self._lse_right_for(row_slice), region))
