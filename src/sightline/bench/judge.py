"""Whether a peer computes the right thing: its result is compared with float64 before it is timed."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

import torch
from torch import Tensor

from sightline.bench.case import Case, inputs

# The largest error of any row, as a share of that row's norm. A misread mask is off by about 1.
TOLERANCE = {"float32": 1e-3, "bfloat16": 6e-2, "float16": 1e-2}
_ROWS = 512  # the most rows of a long sequence that are compared


def rows_of(case: Case) -> Tensor:
    """The query rows that are compared: all, or evenly spaced ones that include the first and the last."""
    if case.direction == "backward" or case.queries <= _ROWS:
        return torch.arange(case.queries)
    return torch.linspace(0, case.queries - 1, _ROWS).long()


def verdict(case: Case, outputs: Sequence[Tensor]) -> str:
    """ "" if the outputs are right, otherwise what is wrong with them."""
    wanted = expected(case)
    if len(outputs) != len(wanted):
        return f"gave {len(outputs)} tensors, expected {len(wanted)}"
    names = ("context",) if case.direction == "forward" else ("d query", "d key", "d value", "d bias")
    for name, ours, right in zip(names, outputs, wanted, strict=False):
        problem = _compare(case, ours, right)
        if problem:
            return f"{name}: {problem}"
    return ""


def _compare(case: Case, output: Tensor, right: Tensor) -> str:
    if output.shape != right.shape:
        return f"shape {list(output.shape)}, expected {list(right.shape)}"
    error = row_error(output, right)
    if not math.isfinite(error):
        return "not finite"
    return "" if error <= TOLERANCE[case.dtype] else f"off by {error:.2g} of a row's norm"


def row_error(output: Tensor, right: Tensor) -> float:
    """The largest error of a row, divided by its norm (or by the typical row's, if that is larger)."""
    norms = right.norm(dim=-1)
    typical = norms.square().mean().sqrt()
    return float(((output.double() - right).norm(dim=-1) / norms.clamp_min(typical)).max())


@functools.lru_cache(maxsize=2)
def expected(case: Case) -> list[Tensor]:
    """The result in float64: the compared rows of the context, or the gradients."""
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
