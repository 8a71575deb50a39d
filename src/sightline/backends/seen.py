"""Sums over the pairs that are seen: what is hidden changes no bit of them, whatever it holds.

A hidden pair has weight 0, and 0 times NaN or infinity is NaN. So products run as they are, and where a
result is not finite though something may be hidden, it is computed once more, carefully.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from sightline.backends.problem import Problem


def may_hide(problem: Problem) -> bool:
    """Whether any pair may be hidden; a bias by position may hold -inf, too."""
    return problem.hides or problem.slopes is not None or problem.table is not None


def finite(tensors: Iterable[Tensor]) -> bool:
    """Whether all numbers are: the sum of any that are not is not finite either."""
    return all(bool(_sum(tensor.detach()).isfinite()) for tensor in tensors)


def _sum(tensor: Tensor) -> Tensor:
    return tensor.sum(dtype=torch.promote_types(tensor.dtype, torch.float32))


def over_seen(
    product: Callable[[Tensor, Tensor], Tensor], factors: Tensor, rows: Tensor, seen: Tensor | None
) -> Tensor:
    """``product(factors, rows)``, in which hidden pairs take no part.

    Args:
        product: a matrix product, in whatever layout.
        factors: one for each pair, 0 where hidden.
        rows: what each is multiplied with.
        seen: bool, as ``factors``; ``None``: there is no need for care.
    """
    if seen is None:
        return product(factors, rows)
    found = product(factors, rows.masked_fill(~rows.isfinite(), 0))

    def meet(pairs: Tensor, entries: Tensor) -> Tensor:
        return product(pairs.to(found.dtype), entries.to(found.dtype)) > 0

    above, below = rows == math.inf, rows == -math.inf
    upwards = meet(factors > 0, above) | meet(factors < 0, below)
    downwards = meet(factors > 0, below) | meet(factors < 0, above)
    nowhere = meet(seen, rows.isnan()) | meet(seen & (factors == 0), above | below)
    for where, number in ((upwards, math.inf), (downwards, -math.inf), (nowhere, math.nan)):
        found = found + torch.zeros_like(found).masked_fill(where, number)
    return found
