"""Sums of a function of weights and scores over the keys or the queries, in plain PyTorch."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from sightline.backends.block import MatrixBlock, numbers
from sightline.backends.contract import Function, Over, Summand
from sightline.backends.plain.forward import blocks
from sightline.backends.problem import Problem, compute_dtype


def summed(problem: Problem, lse: Tensor, summand: Summand, over: Over) -> Tensor:
    """Σ over each row's visible keys, [B,H,N], or over each key's queries, [B,H,M]."""
    b, h, n, m = problem.shape
    sums = torch.zeros((b, h, n if over == "keys" else m), dtype=torch.float64, device=lse.device)
    for block in blocks(problem, lse=lse):
        batch, rows, cols = block.place
        pairs = _RULES[summand.function](block, summand.threshold).masked_fill(block.masked == -math.inf, 0)
        if over == "keys":
            sums[batch, :, rows] = pairs.sum(-1).to(sums.dtype)
        else:
            sums[batch, :, cols] += pairs.sum(-2)
    return sums.to(compute_dtype(problem))


def _distance(block: MatrixBlock) -> Tensor:
    i, j = numbers(block.problem, block.place)
    return (i - j).abs()


_RULES: dict[Function, Callable[[MatrixBlock, float], Tensor]] = {
    "weight": lambda block, _: block.weights,
    "weight_squared": lambda block, _: block.weights**2,
    "score": lambda block, _: block.masked,
    "weight_times_score": lambda block, _: block.weights * block.masked,
    "weight_times_distance": lambda block, _: block.weights * _distance(block),
    "weight_above": lambda block, threshold: (block.weights > threshold).to(block.weights.dtype),
}
