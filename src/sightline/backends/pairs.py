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
    bias = _bias(problem, rows, keys)
    hidden = (bias == -math.inf) | ~_seen(problem, rows, keys)
    capped = cap(problem, _scores(problem, rows, keys, hidden) * problem.scale)
    return (capped + bias).masked_fill(hidden, -math.inf)


def _scores(problem: Problem, rows: Tensor, keys: Tensor, hidden: Tensor) -> Tensor:
    """A hidden pair meets zeros: NaN times a gradient of 0 would be one."""
    b, h, n = keys.shape
    _, groups, _, d = problem.key.shape
    dtype = compute_dtype(problem)
    chosen = problem.key.gather(2, keys.reshape(b, groups, -1)[..., None].expand(-1, -1, -1, d))
    met = chosen.reshape(b, h, n, d).to(dtype).masked_fill(hidden[..., None], 0)
    return (problem.query[:, :, rows].to(dtype).masked_fill(hidden[..., None], 0) * met).sum(-1)


def _bias(problem: Problem, rows: Tensor, keys: Tensor) -> Tensor:
    dtype = compute_dtype(problem)
    bias = torch.zeros(keys.shape, dtype=dtype, device=keys.device)
    if problem.bias is not None:
        bias = bias + _at(problem.bias, rows, keys).to(dtype)
    if problem.offset is None:
        return bias
    step = keys - (rows + problem.offset[:, None, None])
    if problem.slopes is not None:
        bias = bias - problem.slopes.to(dtype)[..., None] * step.abs()
    if problem.table is not None:
        radius = problem.table.shape[1] // 2
        heads = torch.arange(keys.shape[1], device=keys.device)[:, None]
        table = problem.table.expand(keys.shape[1], -1).to(dtype)
        bias = bias + table[heads, step.clamp(-radius, radius) + radius]
    return bias


def _seen(problem: Problem, rows: Tensor, keys: Tensor) -> Tensor:
    seen = torch.ones_like(keys, dtype=torch.bool)
    if problem.ranges is not None:
        ranges = problem.ranges if problem.ranges.shape[2] == 1 else problem.ranges[:, :, rows]
        seen = ((keys[..., None] >= ranges[..., 0]) & (keys[..., None] < ranges[..., 1])).any(-1)
    if problem.visible is not None:
        seen = seen & _at(problem.visible, rows, keys)
    return seen


def _at(term: Tensor, rows: Tensor, keys: Tensor) -> Tensor:
    """The entries of the pairs in [1|B, 1|H, 1|N, 1|M]: not expanded, as its gradient would be, too."""
    b, h, _ = keys.shape
    batch, head = (torch.arange(size, device=keys.device) for size in (b, h))
    places = (batch[:, None, None], head[:, None], rows, keys)
    return term[
        tuple(torch.zeros_like(at) if size == 1 else at for at, size in zip(places, term.shape, strict=True))
    ]
