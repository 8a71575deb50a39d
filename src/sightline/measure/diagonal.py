"""How close to the diagonal a head stays."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from sightline.matrix import AttentionMatrix
from sightline.measure.catalogue import catalogued
from sightline.measure.keys import at
from sightline.measure.rows import counted, visible
from sightline.measure.sources import CLARK_2019
from sightline.measure.subject import subject
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
def diagonality(
    A: Any,
    *,
    align: Align = "bottom-right",
    per_query: bool = False,
    queries: Tensor | None = None,
    unverified: bool = False,
) -> Tensor:
    """How close a head's weight lies to the diagonal: 1 on it, 0 as far away as can be.

    Args:
        A: AttentionMatrix [B,H,N,M], or a traced call that holds one.
        align: where query 0 stands, as for :func:`sightline.causal`.
        per_query: [B,H,N], the rows' centrality, instead of its mean.
        queries: bool [N] or [B,N], which queries the mean counts.
        unverified: measure a traced call that was not verified, too.

    Returns:
        [B,H], the mean over queries that see a key; NaN where none does. A row that sees its own position
        only reads 1, a fully masked one 0.

    Raises:
        TypeError, ValueError: for another ``align`` or ``queries``; UnverifiedError: for an unverified call.

    Example:
        >>> import sightline.measure, torch
        >>> A = sightline.AttentionMatrix(*torch.zeros(2, 1, 1, 3, 2))
        >>> sightline.measure.diagonality(A, per_query=True)     # mean distances 1, 2/3, 1 of 2, 1, 2
        tensor([[[0.5000, 0.3333, 0.5000]]])
    """
    given = subject(A, unverified)
    matrix = given.matrix
    b, _, n, m = matrix.problem.shape
    seen = visible(matrix)
    position = positions(align, b, n, m, matrix.device)[:, None]
    farthest = torch.maximum((position - seen.first).abs(), (position - seen.last).abs())
    distance = matrix.distance(align)
    found = 1 - distance / farthest.clamp(min=1).to(distance.dtype)
    found = torch.where(seen.counts > 0, found, 0)
    return given.result(found, counted(matrix, seen.counts > 0, queries), per_query)


@catalogued(
    formula="Σ_{|p_i - j| ≤ radius} w_ij",
    unit="share of weight",
    range=(0, 1),
    source=f"{CLARK_2019} (attention to nearby tokens)",
    caveat="Short rows are local whatever they do: near the start of a causal text every key is near.",
)
def local_mass(
    A: Any,
    radius: int = 5,
    *,
    align: Align = "bottom-right",
    per_query: bool = False,
    queries: Tensor | None = None,
    unverified: bool = False,
) -> Tensor:
    """The share of a head's weight within some positions of the query.

    Args:
        A: AttentionMatrix [B,H,N,M], or a traced call that holds one.
        radius: how many positions to either side; the query's own position counts.
        align: where query 0 stands, as for :func:`sightline.causal`.
        per_query: [B,H,N] instead of the mean.
        queries: bool [N] or [B,N], which queries the mean counts.
        unverified: measure a traced call that was not verified, too.

    Returns:
        [B,H], the mean over queries that see a key; NaN where none does. A fully masked row reads 0.

    Raises:
        ValueError: for a negative radius; otherwise as :func:`diagonality`.

    Example:
        >>> import sightline.measure, torch
        >>> A = sightline.AttentionMatrix(*torch.zeros(2, 1, 1, 10, 2))
        >>> sightline.measure.local_mass(A, radius=1, per_query=True)[0, 0, :3]
        tensor([0.2000, 0.3000, 0.3000])
    """
    if radius < 0:
        raise ValueError(f"radius: must be 0 or more, got {radius}.")
    given = subject(A, unverified)
    rows = counted(given.matrix, visible(given.matrix).counts > 0, queries)
    return given.result(near(given.matrix, radius, align), rows, per_query)


def near(matrix: AttentionMatrix, radius: int, align: Align) -> Tensor:
    """The weight within ``radius`` of each query's position, [B,H,N]: 2·radius + 1 keys a row, no pass."""
    total = torch.zeros_like(matrix.lse)
    for offset in range(-radius, radius + 1):
        total = total + at_offset(matrix, offset, align)[0]
    return total


def at_offset(matrix: AttentionMatrix, offset: int, align: Align) -> tuple[Tensor, Tensor]:
    """(w[i, p_i + offset] [B,H,N], the key p_i + offset [1|B,1,N], -1 where there is none)."""
    b, _, n, m = matrix.problem.shape
    key = positions(align, b, n, m, matrix.device)[:, None].long() + offset
    key = key.masked_fill((key < 0) | (key >= m), -1)
    return at(matrix, key), key
