"""Problems of some heads each, as one problem of all heads."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from sightline.backends import Problem
from sightline.matrix import DENSE_LIMIT, AttentionMatrix


def joined(parts: list[tuple[list[int], Problem]]) -> Problem:
    """One problem with the weights and values of all parts, for who reads it: no gradients, no dropout.

    Features are filled up with zeros, which changes no score. What has no common form (caps, ALiBi, tables)
    becomes weights, densely.

    Raises:
        MemoryError: where these would be too large.
    """
    with torch.no_grad():
        problems = [_spelled_out(problem) for _, problem in parts]
        if any(p.softcap is not None for p in problems) and len({p.softcap for p in problems}) > 1:
            problems = [_dense(p) if p.softcap is not None else p for p in problems]
        scale = problems[0].scale
        order = [head for heads, _ in parts for head in heads]
        places = torch.tensor([order.index(head) for head in range(len(order))])

        def together(tensors: list[Tensor], fill: float = 0.0) -> Tensor:
            width = max(tensor.shape[-1] for tensor in tensors)
            padded = [torch.nn.functional.pad(t, (0, width - t.shape[-1]), value=fill) for t in tensors]
            batch = max(tensor.shape[0] for tensor in padded)
            rest = torch.broadcast_shapes(*(tensor.shape[2:] for tensor in padded))
            whole = torch.cat([t.expand(batch, t.shape[1], *rest) for t in padded], 1)
            return whole[:, places.to(whole.device)]

        dtype = problems[0].query.dtype
        return Problem(
            together([(p.query * (p.scale / scale)).to(dtype) for p in problems]),
            together([_for_each(p.key, p).to(dtype) for p in problems]),
            together([_for_each(_value(p), p) for p in problems]),
            scale,
            softcap=problems[0].softcap,
            ranges=_ranges(problems, places),
            visible=_terms([p.visible for p in problems], problems, together, True),
            bias=_terms([p.bias for p in problems], problems, together, 0.0),
            sinks=_sinks(problems, places),
        )


def _value(problem: Problem) -> Tensor:
    assert problem.value is not None
    return problem.value


def _for_each(tensor: Tensor, problem: Problem) -> Tensor:
    """Keys or values once for each query head."""
    return tensor.repeat_interleave(problem.group, 1) if problem.group > 1 else tensor


def _spelled_out(problem: Problem) -> Problem:
    problem = replace(problem, dropout=0.0, seed=None)
    return problem if problem.slopes is None and problem.table is None else _dense(problem)


def _dense(problem: Problem) -> Problem:
    """The same weights, as a bias."""
    size = math.prod(problem.shape) * 4
    if size > DENSE_LIMIT:
        raise MemoryError(
            f"heads of different forms in one matrix {list(problem.shape)} take {size / 1e9:.1f} GB"
        )
    matrix = AttentionMatrix.of_problem(problem)
    weights = matrix.dense()
    missing = (1 - weights.sum(-1, keepdim=True)).clamp(min=0.0)
    logs = weights.log()
    if problem.sinks is not None:
        logs = logs - missing.clamp(min=1e-30).log()
    return replace(
        problem,
        query=problem.query.new_zeros((*problem.query.shape[:3], 1)),
        key=problem.key.new_zeros((*problem.key.shape[:3], 1)),
        softcap=None,
        ranges=None,
        visible=None,
        bias=logs,
        slopes=None,
        table=None,
        offset=None,
        sinks=None if problem.sinks is None else torch.zeros_like(problem.sinks),
    )


def averaged(problem: Problem) -> Problem:
    """The problem in which every query has the mean of all queries' weights."""
    plain = replace(problem, dropout=0.0, seed=None)
    weights = AttentionMatrix.of_problem(plain).received() / problem.shape[2]
    missing = (1 - weights.sum(-1, keepdim=True)).clamp(min=0)
    sinks = None
    logs = weights.log()
    if bool((missing > 1e-6).any()):
        logs, sinks = logs - missing.clamp(min=1e-30).log(), weights.new_zeros(problem.shape[1])
    return replace(
        plain,
        query=problem.query.new_zeros((*problem.query.shape[:3], 1)),
        key=problem.key.new_zeros((*problem.key.shape[:3], 1)),
        softcap=None,
        ranges=None,
        visible=None,
        bias=logs[:, :, None],
        slopes=None,
        table=None,
        offset=None,
        sinks=sinks,
    )


def _ranges(problems: list[Problem], places: Tensor) -> Tensor | None:
    if all(problem.ranges is None for problem in problems):
        return None
    keys, device = problems[0].shape[3], problems[0].query.device
    every = torch.tensor([0, keys], dtype=torch.int32, device=device).expand(1, 1, 1, 1, 2)
    given = [every if problem.ranges is None else problem.ranges for problem in problems]
    batch, rows, count = (max(ranges.shape[axis] for ranges in given) for axis in (0, 2, 3))
    padded = []
    for ranges, problem in zip(given, problems, strict=True):
        wide = torch.nn.functional.pad(ranges, (0, 0, 0, count - ranges.shape[3]), value=keys)
        padded.append(wide.expand(batch, problem.shape[1], rows, count, 2))
    return torch.cat(padded, 1)[:, places.to(device)]


def _terms(
    terms: list[Tensor | None],
    problems: list[Problem],
    together: Callable[[list[Tensor]], Tensor],
    none: float | bool,
) -> Tensor | None:
    """Masks or biases side by side; as small as the largest allows."""
    if all(term is None for term in terms):
        return None
    some = next(term for term in terms if term is not None)
    shape = torch.broadcast_shapes(*((t.shape[0], 1, *t.shape[2:]) for t in terms if t is not None))
    heads = sum(problem.shape[1] for problem in problems)
    size = math.prod(shape) * heads * some.element_size()
    if size > DENSE_LIMIT:
        raise MemoryError(f"biases of different heads, {heads} of {list(shape)}: {size / 1e9:.1f} GB")
    full = [
        (some.new_full((1, 1, 1, 1), none) if term is None else term).expand(
            shape[0], problem.shape[1], *shape[2:]
        )
        for term, problem in zip(terms, problems, strict=True)
    ]
    return together(full)


def _sinks(problems: list[Problem], places: Tensor) -> Tensor | None:
    if all(problem.sinks is None for problem in problems):
        return None
    some = next(problem.sinks for problem in problems if problem.sinks is not None)
    least = torch.finfo(some.dtype).min
    each = [p.sinks if p.sinks is not None else some.new_full((p.shape[1],), least) for p in problems]
    return torch.cat(each)[places.to(some.device)]
