"""Logits of single pairs: one key for each query, without the block around it."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from sightline.backends.block import cap
from sightline.backends.problem import Problem, compute_dtype


def pair_logits(problem: Problem, rows: Tensor, keys: Tensor) -> Tensor:
    """The masked logit of one key per query: ``rows`` [n], ``keys`` [B,H,n] -> [B,H,n]."""
    b, h, n = keys.shape
    dtype = compute_dtype(problem)
    key_heads = keys.reshape(b, problem.key.shape[1], -1)[..., None].expand(-1, -1, -1, problem.key.shape[3])
    chosen = problem.key.gather(2, key_heads).reshape(b, h, n, -1).to(dtype)
    scaled = (problem.query[:, :, rows].to(dtype) * chosen).sum(-1) * problem.scale
    biased = cap(problem, scaled)
    entry = (
        torch.arange(b, device=keys.device)[:, None, None],
        torch.arange(h, device=keys.device)[:, None],
        rows,
        keys,
    )
    if problem.bias is not None:
        biased = biased + problem.bias.expand(problem.shape)[entry].to(dtype)
    if problem.offset is not None:
        step = keys - (rows + problem.offset[:, None, None])
        if problem.slopes is not None:
            biased = biased - problem.slopes.to(dtype)[..., None] * step.abs()
        if problem.table is not None:
            radius = problem.table.shape[1] // 2
            table = problem.table.expand(h, -1).to(dtype)
            biased = biased + table[entry[1], step.clamp(-radius, radius) + radius]
    return biased.masked_fill(~_pairs_seen(problem, rows, keys, entry), -math.inf)


def _pairs_seen(problem: Problem, rows: Tensor, keys: Tensor, entry: tuple[Tensor, ...]) -> Tensor:
    seen = torch.ones_like(keys, dtype=torch.bool)
    if problem.ranges is not None:
        ranges = problem.ranges if problem.ranges.shape[2] == 1 else problem.ranges[:, :, rows]
        inside = (keys[..., None] >= ranges[..., 0]) & (keys[..., None] < ranges[..., 1])
        seen = seen & inside.any(-1)
    if problem.visible is not None:
        seen = seen & problem.visible.expand(problem.shape)[entry]
    return seen
