"""Changes that are masks and biases: what is hidden, what weighs more or less. Linear where they can be."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import groupby

import torch
from torch import Tensor

from sightline.backends import Problem
from sightline.interventions.selection import grid
from sightline.matrix import DENSE_LIMIT
from sightline.positions import key_ranges

#: Key ranges per query that keys may be left out with; more become a mask.
_RUNS = 16

Places = list[int] | None


def hidden(problem: Problem, batch: Places, heads: Places, queries: Places, keys: Places) -> Problem:
    """The problem in which these queries do not see these keys; ``None`` for all."""
    m = problem.shape[3]
    runs = [] if keys is None else _others(keys, m)
    if len(runs) > _RUNS:
        assert keys is not None
        return _masked(problem, batch, heads, queries, keys)
    sizes = _sizes(problem, batch, heads, queries)
    count = max(1, len(runs))
    device = problem.query.device
    seen = torch.tensor(runs or [(m, m)], dtype=torch.int32, device=device)
    if (batch, heads, queries) == (None, None, None):
        ranges = seen.expand(1, 1, 1, count, 2)
    else:
        everything = torch.tensor([(0, m)] + [(m, m)] * (count - 1), dtype=torch.int32, device=device)
        ranges = everything.expand(*sizes, count, 2).clone()
        ranges[grid(sizes, [batch, heads, queries], device)] = seen
    if problem.ranges is not None:
        ranges = key_ranges.intersect(problem.ranges, ranges)
    return replace(problem, ranges=ranges.contiguous())


def _sizes(problem: Problem, *chosen: Places) -> tuple[int, ...]:
    """The size of each axis in what tells these places from others: 1 where all of them are meant."""
    return tuple(1 if one is None else size for one, size in zip(chosen, problem.shape, strict=False))


def _others(keys: list[int], count: int) -> list[tuple[int, int]]:
    """The runs of keys that are not among these."""
    hides = set(keys)
    left = [key for key in range(count) if key not in hides]
    runs = []
    for _, run in groupby(enumerate(left), lambda pair: pair[1] - pair[0]):
        places = [key for _, key in run]
        runs.append((places[0], places[-1] + 1))
    return runs


def _masked(problem: Problem, batch: Places, heads: Places, queries: Places, keys: list[int]) -> Problem:
    """The same with a bool mask, of the size that it needs."""
    m, sizes = problem.shape[3], _sizes(problem, batch, heads, queries)
    shapes = [(*sizes, m)] + ([] if problem.visible is None else [tuple(problem.visible.shape)])
    check_size("block", torch.broadcast_shapes(*shapes), 1)
    device = problem.query.device
    visible = torch.ones(*sizes, m, dtype=torch.bool, device=device)
    visible[grid((*sizes, m), [batch, heads, queries, keys], device)] = False
    return replace(problem, visible=visible if problem.visible is None else problem.visible & visible)


def weighed(
    problem: Problem, batch: Places, heads: Places, queries: Places, keys: Places, by: float
) -> Problem:
    """The problem in which these weights are multiplied with a number, and their rows sum to 1 again."""
    if keys is None and problem.sinks is None:
        return problem  # whole rows: they sum to 1 again
    b, h, n, m = problem.shape
    chosen = (batch, heads, queries, keys)
    sizes = _sizes(problem, *chosen)
    old = problem.bias
    size = math.prod(sizes if old is None else torch.broadcast_shapes(old.shape, sizes))
    linear = max(b * h * (n + m), 0 if old is None else old.numel())
    if size > linear and problem.softcap is None and problem.query.dtype in (torch.float32, torch.float64):
        return _by_a_column(problem, chosen, math.log(by))
    check_size("scale", sizes if old is None else torch.broadcast_shapes(old.shape, sizes), 4)
    added = torch.zeros(sizes, dtype=problem.query.dtype, device=problem.query.device)
    added[grid(sizes, list(chosen), added.device)] = math.log(by)
    return replace(problem, bias=added if old is None else old + added)


def _by_a_column(problem: Problem, chosen: tuple[Places, ...], added: float) -> Problem:
    """``added`` for pairs of some queries and some keys, as one more feature that they have in common."""
    batch, heads, queries, keys = chosen
    b, h, n, m = problem.shape
    query, key = problem.query, problem.key
    ones = query.new_zeros((b, h, n, 1))
    ones[grid((b, h, n), [batch, heads, queries], query.device)] = 1.0
    number = key.new_zeros((*key.shape[:2], m, 1))
    number[grid(number.shape[:3], [None, None, keys], key.device)] = added / problem.scale
    return replace(problem, query=torch.cat((query, ones), -1), key=torch.cat((key, number), -1))


def check_size(change: str, shape: tuple[int, ...], width: int) -> None:
    """Raises MemoryError where a mask or bias of this shape would be too large."""
    size = math.prod(shape) * width
    if size > DENSE_LIMIT:
        raise MemoryError(
            f"{change}: this choice of queries and keys needs a mask of {list(shape)}, {size / 1e9:.1f} GB. "
            "Choose all queries, all keys, or fewer runs of neighbouring keys."
        )


def uniform(problem: Problem) -> Problem:
    """The problem in which all keys that a query sees weigh the same."""
    bias = problem.bias
    if bias is not None:
        bias = torch.zeros_like(bias, requires_grad=False).masked_fill(bias.detach() == -math.inf, -math.inf)
        if bool((bias == 0).all()):
            bias = None
    return replace(
        problem,
        query=problem.query.new_zeros((*problem.query.shape[:3], 1)),
        key=problem.key.new_zeros((*problem.key.shape[:3], 1)),
        softcap=None,
        bias=bias,
        slopes=None,
        table=None,
        offset=None,
        sinks=None,
    )


def of_weights(problem: Problem, weights: Tensor) -> Problem:
    """The problem whose weights [B,H,N,M] are given; what a row lacks of 1 has gone to a sink."""
    numbers = weights.to(torch.promote_types(weights.dtype, torch.float32))
    total = numbers.sum(-1, keepdim=True)
    missing = 1 - total
    tiny = torch.finfo(numbers.dtype).tiny
    logs = torch.where(numbers > 0, numbers.clamp(min=tiny).log(), -math.inf)
    sinks = None
    if bool((missing > 1e-5).any()):
        # Relative to what is missing, the sink's logarithm is 0; rows that lack nothing see it far away.
        logs = logs - missing.clamp(min=1e-30).log()
        sinks = logs.new_zeros(problem.shape[1])
    plain = uniform(replace(problem, bias=None))
    return replace(plain, ranges=None, visible=None, bias=logs, sinks=sinks)
