"""How concentrated rows are: entropy, and its collapse."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from sightline.measure.catalogue import catalogued
from sightline.measure.rows import counted, visible
from sightline.measure.sources import ZHAI_2023
from sightline.measure.subject import subject


@catalogued(
    formula="-Σ_j w_ij ln w_ij; normalized: divided by ln(number of keys that query i may see)",
    unit="nats",
    source=ZHAI_2023,
    caveat="A low entropy says that a head is selective, not that what it selects matters to the output.",
)
def entropy(
    A: Any,
    *,
    normalized: bool = False,
    per_query: bool = False,
    queries: Tensor | None = None,
    unverified: bool = False,
) -> Tensor:
    """How widely a head spreads its weight: 0 for one key, ln m for m equal ones.

    Under sinks the weights do not sum to 1 and are not rescaled.

    Args:
        A: AttentionMatrix [B,H,N,M], or a traced call that holds one.
        normalized: divide by the entropy of equal weights, so that lengths compare: 0 to 1 (with sinks,
            up to 1.07 for rows with two visible keys). Rows with fewer than two read 0 and do not count.
        per_query: [B,H,N], one number per query, instead of their mean.
        queries: bool [N] or [B,N], which queries the mean counts; leave padding out here.
        unverified: measure a traced call that was not verified, too.

    Returns:
        [B,H], the mean over queries that see a key; NaN where none does. A fully masked row reads 0.

    Raises:
        TypeError, ValueError: for anything but a matrix, another shape or dtype of ``queries``;
        UnverifiedError: for an unverified call.

    Example:
        >>> import sightline.measure, torch
        >>> A = sightline.AttentionMatrix(torch.zeros(1, 1, 3, 4), torch.zeros(1, 1, 8, 4))
        >>> sightline.measure.entropy(A)                     # eight equal weights: ln 8
        tensor([[2.0794]])
        >>> sightline.measure.entropy(A, normalized=True, per_query=True).allclose(torch.ones(3))
        True
    """
    given = subject(A, unverified)
    found, rows = _rows_entropy(given.matrix, normalized)
    return given.result(found, counted(given.matrix, rows, queries), per_query)


@catalogued(
    formula="share of queries whose normalized entropy is below the threshold",
    unit="share of queries",
    range=(0, 1),
    source=ZHAI_2023,
    caveat="The paper follows entropy over training and gives no threshold: a head that copies one token "
    "on purpose looks collapsed, too. Watch the trend.",
)
def entropy_collapse(
    A: Any, threshold: float = 0.05, *, queries: Tensor | None = None, unverified: bool = False
) -> Tensor:
    """How much of a head has collapsed onto single keys.

    Args:
        A: AttentionMatrix [B,H,N,M], or a traced call that holds one.
        threshold: normalized entropy below which a row counts as collapsed. The default is ours.
        queries, unverified: as for :func:`entropy`.

    Returns:
        [B,H], over queries that see two keys or more; NaN where none does.

    Raises:
        ValueError: for a threshold outside 0 to 1; otherwise as :func:`entropy`.

    Example:
        >>> import sightline.measure, torch
        >>> query, key = torch.eye(4).expand(2, 1, 1, 4, 4)
        >>> sightline.measure.entropy_collapse(sightline.AttentionMatrix(query, key, scale=50.0))
        tensor([[1.]])
    """
    if not 0 <= threshold <= 1:
        raise ValueError(f"threshold: must lie between 0 and 1, got {threshold}.")
    given = subject(A, unverified)
    found, rows = _rows_entropy(given.matrix, normalized=True)
    return given.result((found < threshold).to(found.dtype), counted(given.matrix, rows, queries), False)


def _rows_entropy(matrix: Any, normalized: bool) -> tuple[Tensor, Tensor]:
    """(entropy [B,H,N], the rows that have one)."""
    found: Tensor = matrix.entropy()
    counts = visible(matrix).counts
    if not normalized:
        return found, counts > 0
    found = found / counts.clamp(min=2).to(found.dtype).log()
    return torch.where(counts > 1, found, 0), counts > 1
