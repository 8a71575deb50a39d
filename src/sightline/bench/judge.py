"""Whether a peer computes what it should: its result against float64, before it is timed."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

import torch
from torch import Tensor

from sightline.bench.case import Case, inputs

# The largest error of any row, as a share of that row's norm. A mask read the wrong way round is off by 1.
TOLERANCE = {"float32": 1e-3, "bfloat16": 6e-2, "float16": 1e-2}
_ROWS = 512  # of a long sequence only so many rows are compared


def rows_of(case: Case) -> Tensor:
    """The query rows that are compared: all of them, or evenly spaced ones, first and last among them."""
    if case.direction == "backward" or case.queries <= _ROWS:
        return torch.arange(case.queries)
    return torch.linspace(0, case.queries - 1, _ROWS).long()


def verdict(case: Case, found: Sequence[Tensor]) -> str:
    """ "" if the result is right, otherwise what is wrong with it."""
    wanted = expected(case)
    if len(found) != len(wanted):
        return f"gave {len(found)} tensors, expected {len(wanted)}"
    names = ("context",) if case.direction == "forward" else ("d query", "d key", "d value", "d bias")
    for name, ours, right in zip(names, found, wanted, strict=False):
        problem = _compare(case, ours, right)
        if problem:
            return f"{name}: {problem}"
    return ""


def _compare(case: Case, found: Tensor, right: Tensor) -> str:
    if found.shape != right.shape:
        return f"shape {list(found.shape)}, expected {list(right.shape)}"
    error = row_error(found, right)
    if not math.isfinite(error):
        return "not finite"
    return "" if error <= TOLERANCE[case.dtype] else f"off by {error:.2g} of a row's norm"


def row_error(found: Tensor, right: Tensor) -> float:
    """The largest error of a row over its norm (or over the typical row's, if that is larger)."""
    norms = right.norm(dim=-1)
    typical = norms.square().mean().sqrt()
    return float(((found.double() - right).norm(dim=-1) / norms.clamp_min(typical)).max())


@functools.lru_cache(maxsize=2)
def expected(case: Case) -> list[Tensor]:
    """What float64 gives: the context's compared rows, or the gradients."""
    given = inputs(case)
    query, key, value = (t.double() for t in given[:3])
    rows = rows_of(case)
    bias = None if given.bias is None else given.bias.double()
    seen = case.pattern.dense(case.batch, case.queries, case.length, rows)
    if case.direction == "forward":
        return [_context(query[:, :, rows], key, value, seen, None if bias is None else bias[:, :, rows])]
    leaves = [query, key, value] + ([bias] if bias is not None and case.bias == "learned" else [])
    for leaf in leaves:
        leaf.requires_grad_()
    context = _context(query, key, value, seen, bias)
    return list(torch.autograd.grad(context, leaves, given.grad.double()))


def _context(query: Tensor, key: Tensor, value: Tensor, seen: Tensor, bias: Tensor | None) -> Tensor:
    group = query.shape[1] // key.shape[1]
    key, value = key.repeat_interleave(group, 1), value.repeat_interleave(group, 1)
    scores = query @ key.mT / math.sqrt(query.shape[-1])
    if bias is not None:
        scores = scores + bias
    return scores.masked_fill(~seen, -math.inf).softmax(-1) @ value
