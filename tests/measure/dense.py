"""What the tests of measures share: matrices with given weights, and means over rows, in float64."""

from __future__ import annotations

import torch
from hypothesis import assume
from torch import Tensor

import sightline


def of_weights(weights: Tensor, value: Tensor | None = None, **options: object) -> sightline.AttentionMatrix:
    """A matrix with the given weights [B,H,N,M] (rows that sum to 1, or to 0 for a masked row)."""
    b, h, n, m = weights.shape
    query, key = torch.zeros(b, h, n, 2), torch.zeros(b, h, m, 2)
    return sightline.AttentionMatrix(query, key, value, bias=weights.float().log(), **options)


def small(case, entries: int = 2500) -> None:
    """Leaves out problems whose check, pair by pair, would take long."""
    _, _, n, m = case.shape
    assume(n * m <= entries)


def mean_over(values: Tensor, rows: Tensor) -> Tensor:
    """[B,H,N] -> [B,H], one head and batch entry at a time; NaN without a row."""
    b, h, _ = values.shape
    rows = rows.expand(values.shape)
    found = [[values[i, j][rows[i, j]].double().mean() for j in range(h)] for i in range(b)]
    return torch.tensor(found, dtype=torch.float64)


def sees(stages) -> Tensor:
    """[B,H,N] bool: rows that see a key."""
    return (stages.masked > -torch.inf).any(-1)


def some_queries(shape, seed: int) -> Tensor:
    """A [B,N] choice of queries."""
    b, _, n, _ = shape
    return torch.rand(b, n, generator=torch.Generator().manual_seed(seed)) < 0.7


def places(shape) -> Tensor:
    """[N] positions of the queries, the last one at the last key."""
    return torch.arange(shape[2]) + shape[3] - shape[2]
