"""How concentrated rows are: entropy, and its collapse."""

from __future__ import annotations

from typing import Unpack

import torch
from torch import Tensor

from sightline.common.check import flag
from sightline.common.check import share as share_of_one
from sightline.matrix import AttentionMatrix
from sightline.measure.catalogue import catalogued
from sightline.measure.rows import visible
from sightline.measure.sources import ZHAI_2023
from sightline.measure.subject import Measurable, RowOptions, measured_rows


@catalogued(
    formula="-Σ_j w_ij ln w_ij; normalized: divided by ln(number of keys that query i may see)",
    unit="nats",
    source=ZHAI_2023,
    caveat="A low entropy says that a head is selective, not that what it selects matters to the output.",
)
def entropy(A: Measurable, *, normalized: bool = False, **options: Unpack[RowOptions]) -> Tensor:
    """How widely a head spreads its weight: 0 for one key, ln m for m equal ones.

    Under sinks the weights do not sum to 1 and are not rescaled.

    Args:
        normalized: divide by the entropy of equal weights, so that lengths compare: 0 to 1 (with sinks,
            up to 1.07 for rows with two visible keys). Rows with fewer than two read 0 and do not count.

    Example:
        >>> import sightline.measure, torch
        >>> A = sightline.AttentionMatrix(torch.zeros(1, 1, 3, 4), torch.zeros(1, 1, 8, 4))
        >>> sightline.measure.entropy(A)                     # eight equal weights: ln 8
        tensor([[2.0794]])
        >>> sightline.measure.entropy(A, normalized=True, per_query=True).allclose(torch.ones(3))
        True
    """
    rows = measured_rows(A, **options)
    if not flag("normalized", normalized):
        return rows.result(rows.matrix.entropy())
    return rows.result(*_normalized(rows.matrix))


@catalogued(
    formula="share of queries whose normalized entropy is below the threshold",
    unit="share of queries",
    range=(0, 1),
    source=ZHAI_2023,
    caveat="The paper follows entropy over training and gives no threshold: a head that copies one token "
    "on purpose looks collapsed, too. Watch the trend.",
)
def entropy_collapse(
    A: Measurable, threshold: float = 0.05, *, queries: Tensor | None = None, unverified: bool = False
) -> Tensor:
    """How much of a head has collapsed onto single keys.

    Args:
        threshold: normalized entropy below which a row counts as collapsed. The default is ours.

    Returns:
        [B,H], over queries that see two keys or more; NaN where none does.

    Raises:
        ValueError: for a threshold outside 0 to 1.

    Example:
        >>> import sightline.measure, torch
        >>> query, key = torch.eye(4).expand(2, 1, 1, 4, 4)
        >>> sightline.measure.entropy_collapse(sightline.AttentionMatrix(query, key, scale=50.0))
        tensor([[1.]])
    """
    threshold = share_of_one("threshold", threshold)
    rows = measured_rows(A, queries=queries, unverified=unverified)
    share, possible = _normalized(rows.matrix)
    return rows.result((share < threshold).to(share.dtype), possible)


def _normalized(matrix: AttentionMatrix) -> tuple[Tensor, Tensor]:
    """(entropy as a share of the largest possible, the rows where that is above 0), both [B,H,N]."""
    entropy = matrix.entropy()
    counts = visible(matrix).counts
    share = entropy / counts.clamp(min=2).to(entropy.dtype).log()
    return torch.where(counts > 1, share, 0), counts > 1
