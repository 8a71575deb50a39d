"""Giving weights a value: the others of their rows share the rest as they did before."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor

from sightline.backends import MatrixBlock, Problem
from sightline.backends.problem import compute_dtype
from sightline.backends.schedule import Place
from sightline.interventions.masking import check_size, hidden
from sightline.interventions.selection import grid

Places = list[int] | None


def set_to(
    problem: Problem, batch: Places, heads: Places, queries: Places, keys: list[int], to: float
) -> tuple[Problem, bool]:
    """The problem in which these keys together get ``to`` of the weight of each of these queries.

    Added to their scores is ln(to / (1 − to)) + lse of the row's other keys − lse of these: both groups keep
    their proportions, and rows sum to 1 as before. A sink counts among the others. Rows without others, and
    those that see none of the keys, stay as they are.

    Returns:
        The problem, and whether any of the queries may look at any of the keys.
    """
    b, h, n, m = problem.shape
    # Nearer to 1 the dtype cannot tell; at 0 what is added is not asked for.
    most = 1 - torch.finfo(compute_dtype(problem)).eps / 2
    added, visible = _shifts(problem, queries, keys, min(max(to, 1e-30), most))
    index = grid((b, h), [batch, heads], added.device)
    seen = bool(visible[index].any())
    if to == 0:
        return hidden(problem, batch, heads, queries, keys), seen
    chosen = torch.zeros(b, h, dtype=torch.bool, device=added.device)
    chosen[index] = True
    added = torch.where(chosen[..., None], added, 0.0)
    rows = grid((n,), [queries], added.device)[0]
    if problem.softcap is None and problem.query.dtype in (torch.float32, torch.float64):
        # One more feature that queries and keys have in common: linear in the sequence.
        ones = problem.query.new_zeros((b, h, n, 1)).index_copy(2, rows, added[..., None] / problem.scale)
        number = problem.key.new_zeros((*problem.key.shape[:2], m, 1))
        number[:, :, keys] = 1.0
        query, key = torch.cat((problem.query, ones), -1), torch.cat((problem.key, number), -1)
        return replace(problem, query=query, key=key), seen
    old = problem.bias
    check_size("set", (b, h, n, m), 4)
    columns = added.new_zeros(m)
    columns[keys] = 1.0
    bias = added.new_zeros((b, h, n, m)).index_copy(2, rows, added[..., None] * columns)
    bias = bias.to(problem.query.dtype)
    return replace(problem, bias=bias if old is None else old + bias), seen


def _shifts(problem: Problem, queries: Places, keys: list[int], to: float) -> tuple[Tensor, Tensor]:
    """([B,H,q] what is added to scores; [B,H,q] bool: whether the query sees any of the keys)."""
    b, h, n, m = problem.shape
    places = list(range(n)) if queries is None else queries
    check_size("set", (b, h, len(places), m), 4)
    whole = slice(0, m)
    rows = [MatrixBlock(problem, Place(slice(0, b), slice(at, at + 1), whole)).masked for at in places]
    scores = torch.cat(rows, 2)
    chosen = torch.zeros(m, dtype=torch.bool, device=scores.device)
    chosen[keys] = True
    visible, own = _sums(scores.masked_fill(~chosen, -math.inf))
    alone, others = _sums(scores.masked_fill(chosen, -math.inf))
    if problem.sinks is not None:
        sink = problem.sinks.to(others).view(1, h, 1)
        others = torch.where(alone, torch.logaddexp(others, sink), sink)
        alone = torch.ones_like(alone)
    moves = visible & alone
    return torch.where(moves, math.log(to / (1 - to)) + others - own, 0.0), visible


def _sums(scores: Tensor) -> tuple[Tensor, Tensor]:
    """([B,H,q] bool: whether there is any score; its lse, or 0 without one)."""
    some = (scores > -math.inf).any(-1)
    return some, scores.masked_fill(~some[..., None], 0.0).logsumexp(-1).where(some, 0.0)
