"""Products with the attention matrix, by the native kernels of attention itself.

``A @ x`` is attention with x for values; ``Aᵀ @ x`` is the gradient that x, as the context's, sends to the
values. Both run in float32, queries and keys converted: values of a half dtype would be a rounded x. What has
to be converted or repeated for that is so for a few heads at a time.

Letters: B batch, H heads, G key/value heads, N queries, M keys, F columns of x.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import torch
from torch import Tensor

from sightline.backends.native import kernels
from sightline.backends.problem import Problem
from sightline.backends.select import part, select_batch, select_heads

#: Bytes of queries and keys that are converted or repeated at a time (at least one group of heads).
CONVERTED = 1 << 26
#: Columns of x that one pass takes; the sums of more leave the caches.
COLUMNS = 512


def product(problem: Problem, x: Tensor) -> Tensor:
    """The matrix times x [B|1, H|1, M, F]: [B,H,N,F] float32."""

    def attend(piece: Problem, _: tuple[slice, slice], values: Tensor) -> Tensor:
        values = values.expand(*piece.key.shape[:3], -1)
        return kernels.forward(replace(piece, value=values), want_lse=False)[0]

    # Heads of a group share values, unless x has some for each.
    return _by_pieces(problem, x, x.shape[1] > 1, problem.shape[2], attend)


def transposed_product(problem: Problem, lse: Tensor, x: Tensor) -> Tensor:
    """The transposed matrix times x [B|1, H|1, N, F]: [B,H,M,F] float32, given the rows' lse [B,H,N]."""

    def sum_queries(piece: Problem, place: tuple[slice, slice], upstream: Tensor) -> Tensor:
        upstream = upstream.expand(*piece.query.shape[:3], -1)
        # Their gradient needs neither the values nor the context: any will do.
        values = torch.zeros(upstream.shape[3]).expand(*piece.key.shape[:3], -1)
        problem_of_piece = replace(piece, value=values)
        gradients = kernels.backward(problem_of_piece, upstream, lse[place], upstream, None, ("value",))
        return gradients["value"]

    # Values that heads share would have the sum of their gradients.
    return _by_pieces(problem, x, True, problem.shape[3], sum_queries)


def _by_pieces(
    problem: Problem,
    x: Tensor,
    per_head: bool,
    length: int,
    compute: Callable[[Problem, tuple[slice, slice], Tensor], Tensor],
) -> Tensor:
    """[B,H,length,F], computed for some heads and some columns of x at a time."""
    out = torch.empty((*problem.shape[:2], length, x.shape[3]))
    for place in _places(problem, per_head):
        piece = _float32(select_heads(select_batch(problem, place[0]), place[1]), per_head)
        mine = part(part(x, 0, place[0]), 1, place[1])
        for first in range(0, x.shape[3], COLUMNS):
            columns = slice(first, first + COLUMNS)
            out[place][..., columns] = compute(piece, place, mine[..., columns].float())
    return out


def _places(problem: Problem, per_head: bool) -> Iterator[tuple[slice, slice]]:
    """Batch entries and heads, whole groups of them, whose queries and keys are converted together."""
    b, h, n, m = problem.shape
    group, width = problem.group, problem.query.shape[3]
    as_they_are = problem.query.dtype == torch.float32 and (group == 1 or not per_head)
    bytes_of_group = 4 * width * (group * n + (group if per_head else 1) * m)
    groups = max(1, CONVERTED // max(1, bytes_of_group))
    if as_they_are or b * h <= groups * group:
        yield slice(None), slice(None)
        return
    for entry in range(b):
        for first in range(0, h, groups * group):
            yield slice(entry, entry + 1), slice(first, min(h, first + groups * group))


def _float32(problem: Problem, per_head: bool) -> Problem:
    """The problem with float32 queries and keys, of which each query head has its own if asked for."""
    key, group = problem.key.float(), problem.group
    if per_head and group > 1:
        b, g, m, d = key.shape
        key = key[:, :, None].expand(b, g, group, m, d).reshape(b, g * group, m, d)
    return replace(problem, query=problem.query.float(), key=key, value=None)
