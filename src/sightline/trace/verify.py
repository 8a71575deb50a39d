"""A trace never lies: the weights that it shows are those that made the model's own context.

For some rows of every call, weights · value is computed from what was kept and compared with what the model
computed.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from sightline.backend.problem import Problem
from sightline.backend.stages import Block, compute_dtype, logits, product

_ROWS = 4
_ALL = slice(None)
#: Rounding steps of the dtype by which a score, and with it a weight, may differ.
_STEPS = 16


def sampled_rows(queries: int) -> slice:
    """A few rows, the first and nearly the last among them, evenly apart."""
    return slice(0, queries, max(1, (queries - 1) // (_ROWS - 1)))


def doubt(
    problem: Problem,
    context: Tensor | None,
    compare: Callable[[Tensor, slice], tuple[Tensor, Tensor]] | None = None,
    eps: float = 0.0,
) -> str | None:
    """Why the problem does not explain what the model computed; ``None`` if it does.

    Args:
        problem: what was kept.
        context: [B,H,N,E], the model's own.
        compare: instead: from the recomputed context of some rows to (recomputed, real) rows of what the
            model made of it.
        eps: the coarsest rounding in what the model computed, if coarser than that of the query's dtype.
    """
    queries = problem.shape[2]
    if 0 in problem.shape:
        return None
    rows = sampled_rows(queries)
    mine, seen, largest = _context(problem, rows)
    if compare is not None:
        mine, real = compare(mine, rows)
    else:
        assert context is not None
        real = context[:, :, rows].to(mine.dtype)
    if mine.shape != real.shape:
        return f"the context has shape {list(real.shape)}, weights·value has {list(mine.shape)}"
    # Rows that see nothing are 0 here; models give them the mean of all values, or NaN.
    shown = seen.any(1)[:, :, None] if mine.dim() == 3 else seen[..., None]
    shown = shown & ~(mine.isnan() & real.isnan())
    difference = torch.where(shown, (mine - real).abs(), 0.0)
    size = float(torch.where(shown, mine.abs(), 0.0).max())
    if problem.value is not None and mine.dim() == 4:
        size = max(size, float(_sampled_size(problem.value)))
    eps = max(eps, torch.finfo(problem.query.dtype).eps)
    allowed = _STEPS * eps * (4 + min(largest, 1e4)) * max(size, 1e-30)
    worst = float(difference.max())
    if worst <= allowed:
        return None
    return f"weights·value differs from the model's context by {worst:.3g} (rounding explains {allowed:.1g})"


def _context(problem: Problem, rows: slice) -> tuple[Tensor, Tensor, float]:
    """weights · value [B,H,n,E] of some rows, which of them see a key [B,H,n], and the largest score."""
    assert problem.value is not None
    masked = logits(problem, Block(_ALL, rows, slice(0, problem.shape[3])))
    top = masked.amax(-1)
    seen = top > -math.inf
    largest = float(torch.where(seen, top.abs(), 0.0).max())
    if problem.sinks is not None:
        sinks = problem.sinks.to(masked.dtype)[None, :, None, None].expand(*masked.shape[:3], 1)
        masked = torch.cat((masked, sinks), -1)
    weights = masked.softmax(-1)[..., : problem.shape[3]]
    if not bool(seen.all()):
        weights = weights.masked_fill(~seen[..., None], 0)
    value = problem.value.to(compute_dtype(problem))
    return product(problem, weights, value), seen, largest


def _sampled_size(value: Tensor) -> Tensor:
    largest = value[:, :, :: max(1, value.shape[2] // 16)].abs().max()
    return largest if bool(largest.isfinite()) else largest.new_zeros(())
