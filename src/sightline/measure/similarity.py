"""Heads beside heads, within a layer and between layers."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from sightline.matrix import AttentionMatrix
from sightline.measure.catalogue import catalogued
from sightline.measure.layers import alike
from sightline.measure.rows import counted, visible
from sightline.measure.side_by_side import full_row_blocks, row_entropy
from sightline.measure.sources import CLARK_2019
from sightline.measure.subject import Layers, matrices


@catalogued(
    formula="mean_i JS(w_hi, w_ki), with JS(p, q) = H((p + q) / 2) - (H(p) + H(q)) / 2 and H the entropy",
    unit="nats",
    range=(0, math.log(2)),
    source=f"{CLARK_2019} (distances between heads)",
    caveat="Two heads on the same sink look alike, whatever the rest of their weight does.",
)
def head_divergence(A: Layers, *, queries: Tensor | None = None, unverified: bool = False) -> Tensor:
    """How differently any two heads look, row by row: 0 for equal rows, ln 2 without a common key.

    Cost: one pass over every layer, and T² / 2 sums over each row; memory is a block of rows of all T heads.

    Args:
        A: AttentionMatrix [B,H,N,M], or a sequence of them of the same B, N and M, one per layer (a trace):
            their heads stand one after another, layer by layer.

    Returns:
        [B,T,T] for T heads in all, the mean over queries that see a key in both; NaN where none does. What
        a learned sink takes counts as one more key.

    Raises:
        ValueError: for layers of different lengths.

    Example:
        >>> import sightline.measure, torch
        >>> query = torch.tensor([[[1.0, 0.0]], [[0.0, 1.0]]])[None] * 99       # two heads, one query
        >>> A = sightline.AttentionMatrix(query, torch.eye(2).expand(1, 2, 2, 2))
        >>> sightline.measure.head_divergence(A)                     # no common key: ln 2
        tensor([[[0.0000, 0.6931], [0.6931, 0.0000]]])
    """
    return _pairs(alike(matrices(A, unverified)), queries, _divergences)


@catalogued(
    formula="mean_i cos(w_hi, w_ki) = mean_i Σ_j w_hij w_kij / (‖w_hi‖ ‖w_ki‖)",
    unit="cosine",
    range=(0, 1),
    source="after Kovaleva et al. 2019, Revealing the dark secrets of BERT (cosine between whole attention "
    "maps, before and after fine-tuning; here between heads, row by row)",
    caveat="The largest weights decide: two heads on the same sink read as 1.",
)
def head_similarity(A: Layers, *, queries: Tensor | None = None, unverified: bool = False) -> Tensor:
    """How alike any two heads look: the cosine between their rows.

    Cost: one pass over every layer, and a product of T x M by M x T for each query.

    Args:
        A: AttentionMatrix [B,H,N,M], or a sequence of them of the same B, N and M, one per layer (a trace):
            their heads stand one after another, layer by layer.

    Returns:
        [B,T,T] for T heads in all, the mean over queries that see a key in both; NaN where none does.

    Raises:
        ValueError: for layers of different lengths.

    Example:
        >>> import sightline.measure, torch
        >>> A = sightline.AttentionMatrix(torch.zeros(1, 2, 3, 4), torch.zeros(1, 2, 5, 4))
        >>> sightline.measure.head_similarity(A).allclose(torch.ones(2, 2))
        True
    """
    return _pairs(alike(matrices(A, unverified)), queries, _cosines)


def _pairs(
    matrices: Sequence[AttentionMatrix], queries: Tensor | None, function: Callable[[Tensor], Tensor]
) -> Tensor:
    """The mean of ``function(weights of all heads)`` [b,T,T,n] over the queries that count."""
    rows = torch.cat([counted(m, visible(m).counts > 0, queries) for m in matrices], dim=1)
    b, heads, n = rows.shape
    total = torch.zeros((b, heads, heads), dtype=torch.float64, device=rows.device)
    for place, blocks in full_row_blocks(matrices):
        both = rows[:, :, None, place] & rows[:, None, :, place]
        total += function(torch.cat(blocks, dim=1)).masked_fill(~both, 0).sum(-1, dtype=torch.float64)
    count = (rows[:, :, None] & rows[:, None]).sum(-1)
    return (total / count).to(matrices[0].lse.dtype)


def _divergences(weights: Tensor) -> Tensor:
    """[b,T,n,m] -> Jensen-Shannon divergences [b,T,T,n]."""
    b, heads, n, _ = weights.shape
    entropy = row_entropy(weights)
    divergence = weights.new_zeros((b, heads, heads, n))
    for head in range(heads):
        others = weights[:, head + 1 :]
        mixed = row_entropy((weights[:, head : head + 1] + others) / 2)
        apart = (mixed - (entropy[:, head : head + 1] + entropy[:, head + 1 :]) / 2).clamp(min=0)
        divergence[:, head, head + 1 :] = apart
        divergence[:, head + 1 :, head] = apart
    return divergence


def _cosines(weights: Tensor) -> Tensor:
    """[b,T,n,m] -> cosines [b,T,T,n]."""
    rows = weights.transpose(1, 2)
    length = torch.linalg.vector_norm(rows, dim=-1, keepdim=True)
    unit: Tensor = rows / length.masked_fill(length == 0, 1)
    return (unit @ unit.transpose(-1, -2)).permute(0, 2, 3, 1)
