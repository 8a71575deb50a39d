"""A trace never lies: the weights that it shows are those that made the model's own context.

For some rows of every call, weights · value is computed from what was kept and compared with what the model
computed.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from sightline.backends import MatrixBlock, Problem
from sightline.backends.grouped import grouped_product
from sightline.backends.schedule import Place

_ROWS = 4
#: Rows at a time, where all of them are compared.
_TOGETHER = 64
_ALL = slice(None)
#: Rounding steps of the dtype by which a score, and with it a weight, may differ; of half precision, where a
#: model adds up in float32, fewer.
_STEPS = 16
_STEPS_OF_HALF = 2


def sampled_rows(queries: int) -> slice:
    """A few rows, the first and nearly the last among them, evenly apart."""
    return slice(0, queries, max(1, (queries - 1) // (_ROWS - 1)))


def doubt(
    problem: Problem,
    context: Tensor | None,
    compare: Callable[[Tensor, slice], tuple[Tensor, Tensor]] | None = None,
    eps: float = 0.0,
    thorough: bool = False,
) -> str | None:
    """Why the problem does not explain what the model computed; ``None`` if it does.

    Args:
        problem: what was kept.
        context: [B,H,N,E], the model's own.
        compare: instead: from the recomputed context of some rows to (recomputed, real) rows of what the
            model made of it.
        eps: the coarsest rounding in what the model computed, if coarser than that of the query's dtype.
        thorough: whether all rows are compared, instead of some.
    """
    queries = problem.shape[2]
    if 0 in problem.shape:
        return None
    some = [sampled_rows(queries)]
    if thorough:
        some = [slice(start, start + _TOGETHER) for start in range(0, queries, _TOGETHER)]
    reasons = (_doubt(problem, rows, context, compare, eps) for rows in some)
    return next((reason for reason in reasons if reason is not None), None)


def _doubt(
    problem: Problem,
    rows: slice,
    context: Tensor | None,
    compare: Callable[[Tensor, slice], tuple[Tensor, Tensor]] | None,
    eps: float,
) -> str | None:
    mine, seen, largest = _context(problem, rows)
    if compare is not None:
        mine, real = compare(mine, rows)
    else:
        assert context is not None
        real = context[:, :, rows].to(mine.dtype)
    if mine.shape != real.shape:
        return f"the context has shape {list(real.shape)}, weights·value has {list(mine.shape)}"
    coarsest = max(eps, torch.finfo(problem.query.dtype).eps)
    return _compared(*_difference(mine, real, seen), largest, coarsest)


def shared_doubt(matrix: Any, context: Tensor) -> str | None:
    """The same of a matrix on several processes and the context of own rows; all processes ask together."""
    rows = list(range(context.shape[2]))[sampled_rows(context.shape[2])]
    mine = matrix.sampled_contexts(rows)
    if not mine.numel():
        return None
    lse = matrix.lse[:, :, rows]
    largest = _largest(torch.where(lse.isfinite(), lse, 0.0))
    worst, size = _difference(mine, context[:, :, rows].to(mine.dtype), None)
    return _compared(worst, size, largest, torch.finfo(context.dtype).eps)


def _compared(worst: float, size: float, largest: float, coarsest: float) -> str | None:
    """What is said of a difference, next to the size of numbers, the largest score and a rounding."""
    steps = (_STEPS_OF_HALF if coarsest > 1e-5 else _STEPS) * (4 + min(largest, 1e4))
    allowed = steps * coarsest * size
    if worst <= allowed:
        return None
    return f"weights·value differs from the model's context by {worst:.3g} (rounding explains {allowed:.1g})"


def _difference(mine: Tensor, real: Tensor, seen: Tensor | None) -> tuple[float, float]:
    """The largest difference, and the largest entry, of rows that see a key."""
    difference = mine - real
    worst = _largest(difference)
    if seen is not None or math.isnan(worst):
        # Rows that see nothing are 0 here; models give them the mean of all values, or NaN.
        shown = torch.ones_like(mine, dtype=torch.bool) if seen is None else _rows_of(seen, mine)
        shown = shown & ~(mine.isnan() & real.isnan())
        worst = _largest(torch.where(shown, difference, 0.0))
        mine = torch.where(shown, mine, 0.0)
    return worst, _largest(mine)


def _largest(tensor: Tensor) -> float:
    """The largest magnitude; NaN if there is one."""
    return float(torch.linalg.vector_norm(tensor, math.inf))


def _rows_of(seen: Tensor, like: Tensor) -> Tensor:
    return seen.any(1)[:, :, None] if like.dim() == 3 else seen[..., None]


def _context(problem: Problem, rows: slice) -> tuple[Tensor, Tensor | None, float]:
    """weights · value [B,H,n,E] of some rows, which of them see a key, [B,H,n], and the largest score.

    The second is ``None`` if all of them do.
    """
    assert problem.value is not None
    masked = MatrixBlock(problem, Place(_ALL, rows, slice(0, problem.shape[3]))).masked
    top = masked.amax(-1)
    largest = _largest(top)
    seen = None
    if not math.isfinite(largest):
        seen = top != -math.inf
        largest = _largest(torch.where(seen & ~top.isnan(), top, 0.0))
    if problem.sinks is not None:
        sinks = problem.sinks.to(masked.dtype)[None, :, None, None].expand(*masked.shape[:3], 1)
        masked = torch.cat((masked, sinks), -1)
    weights = masked.softmax(-1)[..., : problem.shape[3]]
    if seen is not None:
        weights = weights.masked_fill(~seen[..., None], 0)
    return grouped_product(weights, problem.value.to(weights.dtype)), seen, largest
