"""Named readouts by the native kernels: what each of them asks of the one pass, and is made of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from sightline.backends import cpu
from sightline.backends.problem import Problem
from sightline.backends.readouts import Values
from sightline.positions.align import Align, offsets

# The fields of the pass that a readout consists of, where that is not one of its own name.
_FIELDS = {
    "max": ("max_weight", "max_index"),
    "topk": ("topk_weights", "topk_indices"),
    "mass": ("cell_sum",),
}


def native_readouts(problem: Problem, lse: Tensor, wanted: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Any named readouts in one pass, each with the options of its class in readouts.py."""
    fields = [field for name in wanted for field in _FIELDS.get(name, (name,))]
    options: dict[str, Any] = {}
    if "topk" in wanted:
        options["k"] = wanted["topk"]["k"]
    if "distance" in wanted:
        options["position"] = _position(problem, **wanted["distance"])
    if "mass" in wanted:
        options["cells"] = _cells(**wanted["mass"])
    found = cpu.readouts(problem, lse, fields, **options)
    return {name: _joined([found[field] for field in _FIELDS.get(name, (name,))]) for name in wanted}


def _position(problem: Problem, align: Align = "bottom-right") -> Tensor:
    b, _, n, m = problem.shape
    return offsets(align, b, n, m, problem.query.device)


def _cells(segments: Tensor) -> cpu.Cells:
    count = int(segments.max()) + 1 if segments.numel() else 0
    return cpu.Cells(segments if segments.dim() == 2 else segments[None], count)


def _joined(parts: list[Tensor]) -> Any:
    return Values(*parts) if len(parts) == 2 else parts[0]
