"""Attention sinks: the keys, and the learned logits, that take the weight nobody else needs."""

from __future__ import annotations

from typing import Unpack

import torch
from torch import Tensor

from sightline.common.check import share
from sightline.matrix import AttentionMatrix
from sightline.measure.catalogue import catalogued
from sightline.measure.keys import Keys, chosen, mass
from sightline.measure.rows import counted, head_mean, visible
from sightline.measure.sources import GU_2024, XIAO_2023
from sightline.measure.subject import Layers, Measurable, RowOptions, matrices, measured_rows


@catalogued(
    formula="Σ_{j in keys} w_ij",
    unit="share of weight",
    range=(0, 1),
    source=f"{XIAO_2023}; {GU_2024}",
    caveat="A sink mostly parks weight: values there tend to be small, so a large share need not mean a "
    "large contribution. Look at weighted_norms.",
)
def sink_mass(A: Measurable, keys: Keys = 1, **options: Unpack[RowOptions]) -> Tensor:
    """The share of a head's weight that lies on its sinks, by default the first key.

    Learned sinks are not included: :func:`learned_sink_mass`.

    Example:
        >>> import sightline.measure, torch
        >>> A = sightline.AttentionMatrix(*torch.zeros(2, 1, 1, 4, 2), mask=sightline.causal())
        >>> sightline.measure.sink_mass(A, per_query=True)       # 1, 1/2, 1/3, 1/4
        tensor([[[1.0000, 0.5000, 0.3333, 0.2500]]])
    """
    rows = measured_rows(A, **options)
    return rows.result(mass(rows.matrix, chosen(rows.matrix, keys)))


@catalogued(
    formula="exp(sink_h - lse_i) = 1 - Σ_j w_ij",
    unit="share of weight",
    range=(0, 1),
    source=XIAO_2023,
    caveat="Weight on a learned sink reaches no value at all: the head writes less, it looks nowhere else.",
)
def learned_sink_mass(A: Measurable, **options: Unpack[RowOptions]) -> Tensor:
    """The share of the softmax that a head's learned sink takes; 0 for a model without.

    Returns:
        [B,H], the mean over queries that see any key; NaN where none does. Per query, a fully masked row
        of a head with a sink reads 1.

    Example:
        >>> import sightline.measure, torch
        >>> A = sightline.AttentionMatrix(*torch.zeros(2, 1, 1, 3, 2), sinks=torch.zeros(1))
        >>> sightline.measure.learned_sink_mass(A)               # three keys and the sink, all equal
        tensor([[0.2500]])
    """
    rows = measured_rows(A, **options)
    return rows.result(learned(rows.matrix))


@catalogued(
    formula="share of heads h with mean_i Σ_{j in keys} w_hij > threshold",
    unit="share of heads",
    range=(0, 1),
    source=f"{GU_2024} (at 0.3 and one key, their measure of the first position)",
    caveat="It depends on the threshold and on the length: compare at equal N only.",
)
def sink_rate(
    A: Layers,
    threshold: float = 0.3,
    keys: Keys = 1,
    *,
    queries: Tensor | None = None,
    unverified: bool = False,
) -> Tensor:
    """How many of a model's heads have a sink.

    Args:
        A: AttentionMatrix [B,H,N,M], or a sequence of them, one per layer (a trace).
        threshold: mean share of weight above which a head counts. Default: 0.3.

    Returns:
        [B], over all heads of all layers; heads without a row to count are left out, NaN if all are. Fully
        masked rows do not count.

    Raises:
        ValueError: for no layers.

    Example:
        >>> import sightline.measure, torch
        >>> A = sightline.AttentionMatrix(*torch.zeros(2, 1, 1, 4, 2), mask=sightline.causal())
        >>> sightline.measure.sink_rate([A, A])
        tensor([1.])
    """
    threshold = share("threshold", threshold)
    shares = []
    for matrix in matrices(A, unverified):
        rows = counted(matrix, visible(matrix).counts > 0, queries)
        shares.append(head_mean(mass(matrix, chosen(matrix, keys)), rows))
    heads = torch.cat(shares, dim=1)
    there = ~heads.isnan()
    return (heads > threshold).sum(1).to(heads.dtype) / there.sum(1)


def learned(matrix: AttentionMatrix) -> Tensor:
    """exp(sink - lse) [B,H,N], 0 without sinks."""
    sinks = matrix.problem.sinks
    if sinks is None:
        return torch.zeros_like(matrix.lse)
    lse = matrix.exact_lse
    return torch.exp(sinks.to(lse.dtype)[:, None] - lse).to(matrix.lse.dtype)
