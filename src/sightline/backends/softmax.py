"""The softmax of whole rows, and the weights that are made again once a row's sum is known."""

from __future__ import annotations

import math
from typing import Literal, NamedTuple, TypeAlias

import torch
from torch import Tensor


class RowSums(NamedTuple):
    """What weights are made with: ``exp((masked - top) - log_sum)``. Added up they are the lse.

    Attributes:
        top: [B,H,N], the largest logit of each row; -inf for a row with nothing to look at.
        log_sum: [B,H,N], ln Σ exp(masked - top); 0 for such a row.
    """

    top: Tensor
    log_sum: Tensor


#: What the weights of rows are made with: their lse [B,H,N], or
Sums: TypeAlias = Tensor | RowSums
#: the same for a block, which may have to make its own: it holds all that its rows may see.
SumsForBlock: TypeAlias = Sums | Literal["own"]


def sums_of(sums: Sums, batch: slice, rows: slice | Tensor) -> Sums:
    """Those of some rows of some batch entries, [b,H,n]."""
    if isinstance(sums, RowSums):
        return RowSums(sums.top[batch, :, rows], sums.log_sum[batch, :, rows])
    return sums[batch, :, rows]


def exponentials(masked: Tensor, sinks: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """(each row's largest logit, exp(masked - it), their sum with the sink's share).

    The first is 0 for a row with nothing to look at, so that exp(-inf - it) is 0.
    """
    top = masked.amax(-1)
    if sinks is not None:
        top = torch.maximum(top, sinks.to(top.dtype)[:, None])
    top = top.masked_fill(top == -math.inf, 0)
    of_keys = torch.exp(masked - top[..., None])
    total = of_keys.sum(-1)
    if sinks is not None:
        total = total + torch.exp(sinks.to(top.dtype)[:, None] - top)
    return top, of_keys, total


def own_sums(masked: Tensor, sinks: Tensor | None) -> RowSums:
    """The sums of rows that are seen whole."""
    top, _, total = exponentials(masked, sinks)
    nothing = total == 0
    return RowSums(top.masked_fill(nothing, -math.inf), total.masked_fill(nothing, 1).log())


def log_weights_of(masked: Tensor, sums: Sums) -> Tensor:
    """masked - lse [b,H,n,m], in the dtype of masked; of a row with nothing to look at, masked.

    What is large is subtracted first: an lse may be more precise than the dtype.
    """
    if not isinstance(sums, RowSums):
        if sums.dtype == masked.dtype:
            return masked - _or_0(sums)[..., None]
        sums = in_two(sums, masked.dtype)
    return (masked - _or_0(sums.top)[..., None]).sub_(sums.log_sum[..., None])


def in_two(lse: Tensor, dtype: torch.dtype) -> RowSums:
    """An lse as what it is in a dtype, and what that leaves of it; 0 for a row with nothing to look at."""
    lse = _or_0(lse)
    large = lse.to(dtype)
    return RowSums(large, (lse - large).to(dtype))


def _or_0(of_rows: Tensor) -> Tensor:
    return of_rows.masked_fill(of_rows == -math.inf, 0)


def weights_of(masked: Tensor, sums: Sums) -> Tensor:
    """exp(masked - lse); 0 where hidden, and throughout a row with nothing to look at."""
    # In place: new memory would take longer than the exponential.
    weights = log_weights_of(masked, sums).exp_()
    # In a row of NaN, what is hidden is 0 as well. Elsewhere exp() has seen to it; other devices than the CPU
    # would take longer to say so.
    of_rows = sums.top if isinstance(sums, RowSums) else sums
    cheap = of_rows.device.type == "cpu" and not torch.compiler.is_compiling()
    if cheap and not of_rows.isnan().any():
        return weights
    return weights.masked_fill(masked == -math.inf, 0)
