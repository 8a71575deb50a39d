"""The tangent of attention where what is hidden got into a backend's sums."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

from torch import Tensor

from sightline.backends.derivatives.attend import ATTENTION
from sightline.backends.derivatives.blockwise import evaluate
from sightline.backends.problem import Problem, lse_dtype, tensors_in_order
from sightline.backends.seen import may_hide

#: Context, lse and their tangents.
Four: TypeAlias = tuple[Tensor, Tensor, Tensor, Tensor]


def only_seen(problem: Problem, found: Four) -> bool:
    """Whether no NaN of something hidden can have come through."""
    return not may_hide(problem) or not any(bool(one.isnan().any()) for one in found)


def of_seen(problem: Problem, tangents: Mapping[str, Tensor]) -> Four:
    """The same without it, more slowly; a NaN that is seen stays."""
    of = tuple(at for at, slot in enumerate(ATTENTION.inputs) if slot.name in tangents)
    arrays = (*tensors_in_order(problem), None, *(tangents[ATTENTION.inputs[at].name] for at in of))
    context, lse, of_context, of_lse = evaluate(ATTENTION.forward(of), (problem,), arrays)
    dtype, of_rows = problem.query.dtype, lse_dtype(problem.query)
    return context.to(dtype), lse.to(of_rows), of_context.to(dtype), of_lse.to(of_rows)
