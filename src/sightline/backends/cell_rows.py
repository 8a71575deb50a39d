"""The weights of a region, row by row, by the cell of their key: natively, or in plain PyTorch where need be.

Cells are the columns of a picture. A caller cuts a large region into bands of rows, to stop between them.
"""

from __future__ import annotations

import math
from collections.abc import Collection

import torch
from torch import Tensor

from sightline.backends import choose, cpu
from sightline.backends.pool import max_along
from sightline.backends.problem import Problem
from sightline.backends.readouts import View, run
from sightline.backends.select import select_cols, select_rows, strided
from sightline.backends.stages import compute_dtype

_CELLS = ("cell_sum", "cell_max", "cell_seen")


def runs_natively(problem: Problem, rows: slice) -> bool:
    """Whether the native kernels read these rows."""
    return choose(problem) == "cpu" and not strided(problem, rows)


def cell_rows(
    problem: Problem,
    lse: Tensor,
    rows: slice,
    cols: slice,
    cells: cpu.Cells | None,
    fields: Collection[str],
) -> dict[str, Tensor]:
    """What some rows give to a region's keys, by name.

    Args:
        lse: [B,H,n], that of the chosen rows.
        cols: a slice of step 1.
        cells: of the m chosen keys, in ascending order, for the cell fields.
        fields: of cell_sum, cell_max (-1 where nothing is visible) and cell_seen, [B,H,n,w]; entropy,
            [B,H,n]; received, [B,H,m].
    """
    everything = problem.ranges is None and problem.visible is None and problem.bias is None
    counted = cells if everything and "cell_seen" in fields else None
    wanted = [field for field in fields if counted is None or field != "cell_seen"]
    if runs_natively(problem, rows):
        found = cpu.readouts(select_cols(select_rows(problem, rows), cols), lse, wanted, cells=cells)
    else:
        of_all = lse.new_empty(problem.query.shape[:3])
        of_all[:, :, rows] = lse
        (found,) = run(problem, of_all, [_CellRows(problem, rows, cols, cells, wanted)], rows, cols)
    if counted is not None:
        sizes = counted.of_key[0].bincount(minlength=counted.size).to(lse.dtype)
        found["cell_seen"] = sizes.expand(*lse.shape, counted.size)
    return found


class _CellRows:
    """The same as a readout in plain PyTorch; outputs count rows and columns from the region's first."""

    def __init__(
        self, problem: Problem, rows: slice, cols: slice, cells: cpu.Cells | None, fields: Collection[str]
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

    def take(self, view: View) -> None:
        batch, rows, cols = view.block
        place = slice(*(-(-(row - self.first) // self.step) for row in (rows.start, rows.stop)))
        at = slice(cols.start - self.left, cols.stop - self.left)
        for field, out in self.out.items():
            if field == "received":
                out[batch, :, at] += view.weights.sum(2)
            elif field == "entropy":
                logs = torch.where(view.weights > 0, view.masked - view.lse[..., None], 0)
                out[batch, :, place] = -(view.weights * logs).sum(3)
            else:
                self._join(out[batch, :, place], field, at, view)

    def _join(self, to: Tensor, field: str, at: slice, view: View) -> None:
        assert self.of_key is not None
        cell, visible = self.of_key[at], view.masked > -math.inf
        if field == "cell_max":
            first, last = int(cell[0]), int(cell[-1]) + 1
            seen = view.weights.masked_fill(~visible, -1)
            part = to[..., first:last]
            part.copy_(torch.maximum(part, max_along(seen, 3, cell - first, last - first)))
        else:
            to.index_add_(3, cell, view.weights if field == "cell_sum" else visible.to(to.dtype))

    def result(self) -> dict[str, Tensor]:
        return self.out
