"""A region of the matrix and its cells, as a user asks for them."""

from __future__ import annotations

from typing import cast, get_args

from sightline.backends.contract import PooledRegion, Reduction
from sightline.common.check import choice, integer
from sightline.matrix.indexing import ALL, as_slice


def pooled_region(
    n: int,
    m: int,
    height: int,
    width: int,
    rows: slice | int | None,
    cols: slice | int | None,
    reduce: str,
) -> PooledRegion:
    """A region of ``n`` queries and ``m`` keys, in ``height`` by ``width`` cells.

    Raises:
        ValueError: for sizes below 1, another reduction, or a step; TypeError for what is no integer.
    """
    height, width = integer("pool height", height, 1), integer("pool width", width, 1)
    choice("pool reduce", reduce, get_args(Reduction))
    row_slice = as_slice(ALL if rows is None else rows, n, "N")
    col_slice = as_slice(ALL if cols is None else cols, m, "M")
    if row_slice.step != 1 or col_slice.step != 1:
        raise ValueError("pool: rows and cols are slices of step 1.")
    return PooledRegion(row_slice, col_slice, height, width, cast(Reduction, reduce))
