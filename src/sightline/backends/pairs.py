"""Logits of single pairs: one key for each query, without the block around it.

The stages are those of ``block.py``, read at single places instead of over a block.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from sightline.backends.block import cap
from sightline.backends.problem import Problem, compute_dtype


def pair_logits(problem: Problem, rows: Tensor, keys: Tensor) -> Tensor:
    """The masked logit of one key per query: ``rows`` [n], ``keys`` [B,H,n] -> [B,H,n]."""
    capped = cap(problem, _scores(problem, rows, keys) * problem.scale)
    bias = _bias(problem, rows, keys, capped)
    hidden = (bias == -math.inf) | ~_seen(problem, rows, keys)
    return (capped + bias).masked_fill(hidden, -math.inf)


def _scores(problem: Problem, rows: Tensor, keys: Tensor) -> Tensor:
    b, h, n = keys.shape
    _, groups, _, d = problem.key.shape
    dtype = compute_dtype(problem)
    chosen = problem.key.gather(2, keys.reshape(b, groups, -1)[..., None].expand(-1, -1, -1, d))
    return (problem.query[:, :, rows].to(dtype) * chosen.reshape(b, h, n, d).to(dtype)).sum(-1)


def _bias(problem: Problem, rows: Tensor, keys: Tensor, capped: Tensor) -> Tensor:
    bias, dtype = torch.zeros_like(capped), capped.dtype
    if problem.bias is not None:
        bias = bias + problem.bias.expand(problem.shape)[_places(rows, keys)].to(dtype)
    if problem.offset is None:
        return bias
    step = keys - (rows + problem.offset[:, None, None])
    if problem.slopes is not None:
        bias = bias - problem.slopes.to(dtype)[..., None] * step.abs()
    if problem.table is not None:
        radius = problem.table.shape[1] // 2
        _, head, _, _ = _places(rows, keys)
        table = problem.table.expand(keys.shape[1], -1).to(dtype)
        bias = bias + table[head, step.clamp(-radius, radius) + radius]
    return bias


def _seen(problem: Problem, rows: Tensor, keys: Tensor) -> Tensor:
    seen = torch.ones_like(keys, dtype=torch.bool)
    if problem.ranges is not None:
        ranges = problem.ranges if problem.ranges.shape[2] == 1 else problem.ranges[:, :, rows]
        seen = ((keys[..., None] >= ranges[..., 0]) & (keys[..., None] < ranges[..., 1])).any(-1)
    if problem.visible is not None:
        seen = seen & problem.visible.expand(problem.shape)[_places(rows, keys)]
    return seen


def _places(rows: Tensor, keys: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Where the pairs stand in [B,H,N,M], as an index."""
    b, h, _ = keys.shape
    batch, head = (torch.arange(size, device=keys.device) for size in (b, h))
    return batch[:, None, None], head[:, None], rows, keys
