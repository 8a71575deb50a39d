"""Whole rows of the matrix by functions that PyTorch can differentiate any number of times."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from sightline.backends.block import MatrixBlock, bias_of, cap
from sightline.backends.problem import Problem
from sightline.backends.schedule import Place


class Rows(NamedTuple):
    """Rows of a small problem, all of their keys.

    Attributes:
        masked: logits, -inf where hidden, [b,H,n,m].
        exponentials: exp(masked - the row's largest), [b,H,n,m].
        total: their sum with the sink's share, [b,H,n]; 1 for a row with nothing to look at.
        lse: [b,H,n]; -inf for such a row.
    """

    masked: Tensor
    exponentials: Tensor
    total: Tensor
    lse: Tensor

    @property
    def seen(self) -> Tensor:
        """Whether each query may look at each key, [b,H,n,m]."""
        return self.masked.detach() != -math.inf

    @property
    def weights(self) -> Tensor:
        """exp(masked - lse), [b,H,n,m]; no derivative reaches a hidden one."""
        return (self.exponentials / self.total[..., None]).masked_fill(~self.seen, 0)

    @property
    def log_weights(self) -> Tensor:
        """masked - lse, [b,H,n,m]; -inf where hidden."""
        lse = self.lse.masked_fill(self.lse.detach() == -math.inf, 0)
        return self.masked - lse[..., None]

    @property
    def entropy(self) -> Tensor:
        """-Σ w ln w, [b,H,n]; 0 · ln 0 counts as 0."""
        weights = self.weights
        return -(weights * self.log_weights.masked_fill(weights.detach() == 0, 0)).sum(-1)


def rows_of(problem: Problem, careful: bool = False) -> Rows:
    """All rows; nothing is written in place, so that any transform can follow.

    Args:
        problem: whose tensors have the dtype that is computed in.
        careful: what is hidden holds NaN. Each pair then has a key of its own, which is 0 where it is hidden:
            a product of matrices would meet the key with a gradient of 0, and 0 times NaN is NaN.
    """
    block = MatrixBlock(problem, _whole(problem))
    masked = _of_seen(problem, block) if careful else block.masked
    return _softmax(problem, masked)


def of_pairs(seen: Tensor, tensor: Tensor, group: int = 1) -> Tensor:
    """[b,G,m,x] -> [b,H,n,m,x]: what each pair meets, 0 where it is hidden."""
    return _where(seen, tensor.repeat_interleave(group, dim=1)[:, :, None])


def _of_seen(problem: Problem, block: MatrixBlock) -> Tensor:
    seen = block.masked.detach() != -math.inf
    query = _where(seen, problem.query[..., None, :])
    scaled = (query * of_pairs(seen, problem.key, problem.group)).sum(-1) * problem.scale
    logits = cap(problem, scaled)
    bias = bias_of(problem, block.place)
    if bias is not None:
        logits = logits + torch.where(seen, bias, 0)
    return logits.masked_fill(~seen, -math.inf)


def _where(seen: Tensor, tensor: Tensor) -> Tensor:
    return torch.where(seen[..., None], tensor, 0)


def _whole(problem: Problem) -> Place:
    b, _, n, m = problem.shape
    return Place(slice(0, b), slice(0, n), slice(0, m))


def _softmax(problem: Problem, masked: Tensor) -> Rows:
    sinks = problem.sinks
    # What is subtracted before exp() cancels, so it is a constant to every derivative.
    known = masked.detach()
    top = known.amax(-1) if known.shape[-1] else known.new_full(known.shape[:-1], -math.inf)
    if sinks is not None:
        top = torch.maximum(top, sinks.detach()[:, None])
    top = top.masked_fill(top == -math.inf, 0)
    exponentials = torch.exp(masked - top[..., None])
    total = exponentials.sum(-1)
    if sinks is not None:
        total = total + torch.exp(sinks[:, None] - top)
    # A row with nothing to look at has a context of 0, and no derivative.
    empty = total == 0
    total = total.masked_fill(empty, 1)
    return Rows(masked, exponentials, total, (top + total.log()).masked_fill(empty, -math.inf))
