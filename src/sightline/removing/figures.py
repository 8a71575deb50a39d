"""Intervals and rank correlations."""

from __future__ import annotations

import torch
from torch import Tensor

_DRAWS = 2000


def intervals(changes: Tensor, level: float = 0.95, seed: int = 0) -> Tensor | None:
    """Bootstrap intervals of the mean over texts: from [T,...] to [...,2]; ``None`` for fewer than two texts.

    Texts are drawn with replacement, and the ends are percentiles of the means: two-sided, nothing is
    assumed about their distribution.

    Source: Efron & Tibshirani 1993, "An introduction to the bootstrap", chapter 13.
    """
    texts = changes.shape[0]
    if texts < 2:
        return None
    generator = torch.Generator().manual_seed(seed)
    flat = changes.reshape(texts, -1)
    draws = torch.randint(texts, (_DRAWS, texts), generator=generator)
    counts = torch.zeros(_DRAWS, texts, dtype=torch.float64)
    counts.scatter_add_(1, draws, torch.ones_like(draws, dtype=torch.float64))
    means = counts @ flat / texts  # NaN of one text makes the whole NaN, which then says so
    tail = (1 - level) / 2
    ends = means.quantile(torch.tensor([tail, 1 - tail], dtype=torch.float64), dim=0)
    return ends.T.reshape(*changes.shape[1:], 2)


def rank_correlation(left: Tensor, right: Tensor) -> float | None:
    """Spearman's rank correlation of what is finite in both; ties have the mean of their ranks.

    ``None`` for fewer than three pairs, or where one side is all the same.

    Source: Spearman 1904, "The proof and measurement of association between two things".
    """
    left, right = left.flatten().double(), right.flatten().double()
    both = left.isfinite() & right.isfinite()
    if int(both.sum()) < 3:
        return None
    one, two = (_ranks(side[both]) for side in (left, right))
    one, two = one - one.mean(), two - two.mean()
    size = float(one.norm() * two.norm())
    return float(one @ two) / size if size else None


def _ranks(values: Tensor) -> Tensor:
    _, inverse, counts = values.unique(return_inverse=True, return_counts=True)
    last = counts.cumsum(0).double()
    ranks: Tensor = (last - (counts - 1) / 2)[inverse]
    return ranks
