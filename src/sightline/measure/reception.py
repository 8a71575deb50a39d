"""What keys receive."""

from __future__ import annotations

import torch
from torch import Tensor

from sightline.common.check import flag
from sightline.measure.catalogue import catalogued
from sightline.measure.rows import counted, viewers
from sightline.measure.subject import Measurable, measured


@catalogued(
    formula="Σ_i w_ij; normalized: divided by the number of queries that may see key j",
    unit="weight (normalized: share)",
    source="Kim et al. 2022, Learned token pruning for Transformers; "
    "Zhang et al. 2023, H2O: heavy-hitter oracle for efficient generative inference",
    caveat="Under a causal mask early keys are seen by more queries and collect more; normalized evens "
    "that out.",
)
def received(
    A: Measurable, *, normalized: bool = False, queries: Tensor | None = None, unverified: bool = False
) -> Tensor:
    """How much weight each key gets from all queries together.

    Args:
        normalized: the mean over the queries that may see the key, 0 to 1, instead of the sum. Default: the
            sum.

    Returns:
        [B,H,M]; 0 for a key that nobody may see. Fully masked rows give nothing.

    Example:
        >>> import sightline.measure, torch
        >>> A = sightline.AttentionMatrix(*torch.zeros(2, 1, 1, 2, 4), mask=sightline.causal())
        >>> sightline.measure.received(A), sightline.measure.received(A, normalized=True)
        (tensor([[[1.5000, 0.5000]]]), tensor([[[0.7500, 0.5000]]]))
    """
    normalized, one = flag("normalized", normalized), measured(A, unverified)
    matrix = one.matrix
    if queries is None:
        weight = matrix.received()
    else:
        everyone = torch.ones((1, 1, matrix.sizes[2]), dtype=torch.bool, device=matrix.device)
        giving = counted(matrix, everyone, queries)
        weight = (matrix.T @ giving[..., None].to(matrix.lse.dtype))[..., 0]
    if normalized:
        weight = weight / viewers(matrix, queries).clamp(min=1)
    return one.shaped(weight)
