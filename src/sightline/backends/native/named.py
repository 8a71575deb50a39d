"""Named readouts by the native kernels: what each of them asks of the one pass, and is made of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from sightline.backends.contract import Answer, Cells, Request, Values
from sightline.backends.native import kernels
from sightline.backends.problem import Problem
from sightline.positions.align import offsets

# The fields of the pass that a readout consists of, where that is not one of its own name.
_FIELDS = {
    "max": ("max_weight", "max_index"),
    "topk": ("topk_weights", "topk_indices"),
    "mass": ("cell_sum",),
}


def named(problem: Problem, lse: Tensor, requests: Sequence[Request]) -> dict[str, Answer]:
    """Several readouts by name, from one pass."""
    fields = [field for request in requests for field in _fields(request)]
    options: dict[str, Any] = {}
    for request in requests:
        options |= _options(problem, request)
    columns = kernels.readouts(problem, lse, fields, **options)
    return {request.name: _joined([columns[field] for field in _fields(request)]) for request in requests}


def _fields(request: Request) -> tuple[str, ...]:
    return _FIELDS.get(request.name, (request.name,))


def _options(problem: Problem, request: Request) -> dict[str, Any]:
    """What the pass needs to know for a readout."""
    if request.name == "topk":
        return {"k": request.k}
    if request.name == "distance":
        b, _, n, m = problem.shape
        return {"position": offsets(request.align, b, n, m, problem.query.device)}
    if request.name == "mass":
        segments = request.segments
        assert segments is not None
        count = int(segments.max()) + 1 if segments.numel() else 0
        return {"cells": Cells(segments if segments.dim() == 2 else segments[None], count)}
    return {}


def _joined(parts: list[Tensor]) -> Answer:
    return Values(*parts) if len(parts) == 2 else parts[0]
