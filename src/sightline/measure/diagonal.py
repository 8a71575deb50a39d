"""How close to the diagonal a head stays."""

from __future__ import annotations

from typing import Unpack

import torch
from torch import Tensor

from sightline.common.check import integer
from sightline.matrix import AttentionMatrix
from sightline.measure.catalogue import catalogued
from sightline.measure.keys import at
from sightline.measure.rows import visible
from sightline.measure.sources import CLARK_2019
from sightline.measure.subject import Measurable, RowOptions, measured_rows
from sightline.positions.align import Align, positions


@catalogued(
    formula="1 - Σ_j w_ij |p_i - j| / max_j |p_i - j|, the maximum over keys that query i may see",
    unit="share",
    range=(0, 1),
    source="after Zhang et al. 2021, On the usefulness of self-attention for automatic speech recognition "
    "with Transformers (the maximum over visible keys is ours)",
    caveat="Equal weights already read about one half or more, and it falls with every far outlier: "
    "compare heads of one length, not with 0.",
)
def diagonality(A: Measurable, *, align: Align = "bottom-right", **options: Unpack[RowOptions]) -> Tensor:
    """How close a head's weight lies to the diagonal: 1 on it, 0 as far away as can be.

    Returns:
        [B,H], the mean over queries that see a key; NaN where none does. A row that sees its own position
        only reads 1, a fully masked one 0.

    Example:
        >>> import sightline.measure, torch
        >>> A = sightline.AttentionMatrix(*torch.zeros(2, 1, 1, 3, 2))
        >>> sightline.measure.diagonality(A, per_query=True)     # mean distances 1, 2/3, 1 of 2, 1, 2
        tensor([[[0.5000, 0.3333, 0.5000]]])
    """
    rows = measured_rows(A, **options)
    b, _, n, m = rows.matrix.sizes
    seen = visible(rows.matrix)
    position = positions(align, b, n, m, rows.matrix.device)[:, None]
    farthest = torch.maximum((position - seen.first).abs(), (position - seen.last).abs())
    distance = rows.matrix.distance(align)
    centrality = 1 - distance / farthest.clamp(min=1).to(distance.dtype)
    possible = seen.counts > 0
    return rows.result(torch.where(possible, centrality, 0), possible)


@catalogued(
    formula="Σ_{|p_i - j| ≤ radius} w_ij",
    unit="share of weight",
    range=(0, 1),
    source=f"{CLARK_2019} (attention to nearby tokens)",
    caveat="Short rows are local whatever they do: near the start of a causal text every key is near.",
)
def local_mass(
    A: Measurable, radius: int = 5, *, align: Align = "bottom-right", **options: Unpack[RowOptions]
) -> Tensor:
    """The share of a head's weight within some positions of the query.

    Args:
        radius: how many positions to either side; the query's own position counts. Default: 5.

    Raises:
        ValueError: for a negative radius.

    Example:
        >>> import sightline.measure, torch
        >>> A = sightline.AttentionMatrix(*torch.zeros(2, 1, 1, 10, 2))
        >>> sightline.measure.local_mass(A, radius=1, per_query=True)[0, 0, :3]
        tensor([0.2000, 0.3000, 0.3000])
    """
    radius = integer("radius", radius, 0)
    rows = measured_rows(A, **options)
    return rows.result(near(rows.matrix, radius, align))


def near(matrix: AttentionMatrix, radius: int, align: Align) -> Tensor:
    """The weight within ``radius`` of each query's position, [B,H,N]: 2·radius + 1 keys a row, no pass."""
    total = torch.zeros_like(matrix.lse)
    b, _, n, m = matrix.sizes
    position = positions(align, b, n, m, matrix.device)
    # Steps that lead from no query to any key need no look.
    first, last = (int(position.min()), int(position.max())) if position.numel() else (0, 0)
    for offset in range(max(-radius, -last), min(radius, m - 1 - first) + 1):
        total = total + at_offset(matrix, offset, align)[0]
    return total


def at_offset(matrix: AttentionMatrix, offset: int, align: Align) -> tuple[Tensor, Tensor]:
    """(w[i, p_i + offset] [B,H,N], the key p_i + offset [1|B,1,N], -1 where there is none)."""
    b, _, n, m = matrix.sizes
    key = positions(align, b, n, m, matrix.device)[:, None].long() + offset
    key = key.masked_fill((key < 0) | (key >= m), -1)
    return at(matrix, key), key
