"""Attention of a whole small problem by functions that PyTorch can differentiate any number of times."""

from __future__ import annotations

import math
from typing import TypeAlias

import torch
from torch import Tensor

from sightline.backends.block import MatrixBlock, bias_of, cap
from sightline.backends.grouped import grouped_product
from sightline.backends.problem import Problem
from sightline.backends.schedule import Place

Pair: TypeAlias = tuple[Tensor, Tensor]


def attend(problem: Problem, pattern: Tensor | None) -> Pair:
    """(context, lse); nothing is written in place, so that any transform can follow.

    Args:
        problem: whose tensors have the dtype that is computed in.
        pattern: what dropout multiplies the weights with.
    """
    assert problem.value is not None
    exponentials, total, lse = _softmax(problem, _whole(problem).masked)
    applied = exponentials if pattern is None else exponentials * pattern
    return grouped_product(applied, problem.value) / total[..., None], lse


def attend_to_seen(problem: Problem, pattern: Tensor | None) -> Pair:
    """The same where hidden keys or values hold NaN: each pair has its own, which is 0 where it is hidden.

    A product of matrices would meet them with weights and gradients of 0, and 0 times NaN is NaN.
    """
    assert problem.value is not None
    place = _whole(problem).place
    seen = _whole(problem).masked.detach() != -math.inf
    scaled = (_where(seen, problem.query[..., None, :]) * _of_pairs(seen, problem.key, problem)).sum(-1)
    logits = cap(problem, scaled * problem.scale)
    bias = bias_of(problem, place)
    if bias is not None:
        logits = logits + torch.where(seen, bias, 0)
    exponentials, total, lse = _softmax(problem, logits.masked_fill(~seen, -math.inf))
    applied = exponentials if pattern is None else exponentials * pattern
    context = (applied[..., None] * _of_pairs(seen, problem.value, problem)).sum(3)
    return context / total[..., None], lse


def _whole(problem: Problem) -> MatrixBlock:
    b, _, n, m = problem.shape
    return MatrixBlock(problem, Place(slice(0, b), slice(0, n), slice(0, m)))


def _of_pairs(seen: Tensor, tensor: Tensor, problem: Problem) -> Tensor:
    """[b,G,m,x] -> [b,H,n,m,x]."""
    return _where(seen, tensor.repeat_interleave(problem.group, dim=1)[:, :, None])


def _where(seen: Tensor, tensor: Tensor) -> Tensor:
    return torch.where(seen[..., None], tensor, 0)


def _softmax(problem: Problem, masked: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(exp(masked - top), their sum with the sink's share, lse); the sum of an empty row is 1."""
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
    return exponentials, total, (top + total.log()).masked_fill(empty, -math.inf)
