"""The weights of a region, row by row, by the cell of their key, in plain PyTorch."""

from __future__ import annotations

import math
from collections.abc import Collection

import torch
from torch import Tensor

from sightline.backends.block import MatrixBlock
from sightline.backends.contract import Cells
from sightline.backends.picture import max_along
from sightline.backends.plain.readouts import run
from sightline.backends.problem import Problem, compute_dtype

_CELLS = ("cell_sum", "cell_max", "cell_seen")


def cell_rows(
    problem: Problem, lse: Tensor, rows: slice, cols: slice, cells: Cells | None, fields: Collection[str]
) -> dict[str, Tensor]:
    """What some rows give to a region's keys, by name; see :meth:`Backend.cells`."""
    of_all = lse.new_empty(problem.shape[:3])
    of_all[:, :, rows] = lse
    (by_name,) = run(problem, of_all, [_CellRows(problem, rows, cols, cells, fields)], rows, cols)
    fields_of_rows: dict[str, Tensor] = by_name
    return fields_of_rows


class _CellRows:
    """The same as a readout; outputs count rows and columns from the region's first."""

    def __init__(
        self, problem: Problem, rows: slice, cols: slice, cells: Cells | None, fields: Collection[str]
    ) -> None:
        b, h, n, m = problem.shape
        self.first, last, self.step = rows.indices(n)
        self.left, right, _ = cols.indices(m)
        self.of_key = None if cells is None else cells.of_key[0]
        seen = b, h, len(range(self.first, last, self.step))
        shapes = {
            "entropy": seen,
            "received": (b, h, max(0, right - self.left)),
            **dict.fromkeys(_CELLS, (*seen, 0 if cells is None else cells.size)),
        }
        self.out = {
            field: torch.full(
                shapes[field],
                -1.0 if field == "cell_max" else 0.0,
                dtype=compute_dtype(problem),
                device=problem.query.device,
            )
            for field in fields
        }

    def take(self, block: MatrixBlock) -> None:
        batch, rows, cols = block.place
        place = slice(*(-(-(row - self.first) // self.step) for row in (rows.start, rows.stop)))
        at = slice(cols.start - self.left, cols.stop - self.left)
        for field, out in self.out.items():
            if field == "received":
                out[batch, :, at] += block.weights.sum(2)
            elif field == "entropy":
                logs = torch.where(block.weights > 0, block.log_weights, 0)
                out[batch, :, place] = -(block.weights * logs).sum(3)
            else:
                self._join(out[batch, :, place], field, at, block)

    def _join(self, to: Tensor, field: str, at: slice, block: MatrixBlock) -> None:
        assert self.of_key is not None
        cell, visible = self.of_key[at], block.masked != -math.inf
        if field == "cell_max":
            first, last = int(cell[0]), int(cell[-1]) + 1
            seen = block.weights.masked_fill(~visible, -1)
            part = to[..., first:last]
            part.copy_(torch.maximum(part, max_along(seen, 3, cell - first, last - first)))
        else:
            to.index_add_(3, cell, block.weights if field == "cell_sum" else visible.to(to.dtype))

    def result(self) -> dict[str, Tensor]:
        return self.out
