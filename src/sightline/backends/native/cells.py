"""The weights of a region, row by row, by the cell of their key, from the native readout pass."""

from __future__ import annotations

from collections.abc import Collection

from torch import Tensor

from sightline.backends.contract import Cells
from sightline.backends.native import kernels
from sightline.backends.problem import Problem, compute_dtype
from sightline.backends.select import select_cols, select_rows


def cell_rows(
    problem: Problem, lse: Tensor, rows: slice, cols: slice, cells: Cells | None, fields: Collection[str]
) -> dict[str, Tensor]:
    """What some rows give to a region's keys, by name; see :meth:`Backend.cells`."""
    # Where nothing is hidden, how many keys a cell has says how many are seen in it.
    counted = cells if not problem.hides and "cell_seen" in fields else None
    wanted = [field for field in fields if counted is None or field != "cell_seen"]
    whole = select_rows(problem, rows)
    region = select_cols(whole, cols)
    cut = region.shape[3] < whole.shape[3]
    by_name = kernels.readouts(region, lse, wanted, cells=cells, whole=whole if cut else None)
    if counted is not None:
        sizes = counted.of_key[0].bincount(minlength=counted.size).to(compute_dtype(problem))
        by_name["cell_seen"] = sizes.expand(*lse.shape, counted.size)
    return by_name
