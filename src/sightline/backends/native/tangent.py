"""The forward pass and its tangent by the native kernels, in one sweep over the keys."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping

import torch
from torch import Tensor

from sightline.backends.contract import Obstacle, Work
from sightline.backends.derivatives.tangent import Four, of_seen, only_seen
from sightline.backends.native.pack import pack, rows_of, term
from sightline.backends.native.structs import TangentsStruct
from sightline.backends.native.zones import watching
from sightline.backends.problem import Problem, empty_context
from sightline.core import library as core

_MOVED = ("query", "key", "value")


def why_not(problem: Problem, work: Work) -> Obstacle | None:
    """It takes tangents of query, key and value, and no dropout."""
    others = [name for name in work.moved if name not in _MOVED]
    if others:
        return Obstacle(
            f"tangents of {' and '.join(others)} are given, and it takes those of {', '.join(_MOVED)}"
        )
    return Obstacle("its tangents know no dropout") if problem.dropout > 0 else None


def tangent(problem: Problem, tangents: Mapping[str, Tensor]) -> Four:
    """(context, lse, their tangents); the lse and its tangent in float64."""
    found = _tangent(problem, tangents)
    return found if only_seen(problem, found) else of_seen(problem, tangents)


def _tangent(problem: Problem, tangents: Mapping[str, Tensor]) -> Four:
    assert problem.value is not None
    packed, alive = pack(problem)
    contexts = [empty_context(problem.query, problem.value.shape[3]) for _ in range(2)]
    rows = problem.query.shape[:3]
    lses = torch.empty(rows, dtype=torch.float64), torch.empty(rows, dtype=torch.float32)
    layout = TangentsStruct()
    for name in _MOVED:
        moved = tangents.get(name)
        _point(layout, name, None if moved is None else rows_of(moved), alive)
    for name, context, lse in zip(("", "tangent_"), contexts, lses, strict=True):
        _point(layout, f"{name}context", context, alive)
        setattr(layout, f"{name}lse", lse.data_ptr())
    with watching():
        status = core.library().sightline_tangent(
            core.level(), torch.get_num_threads(), ctypes.byref(packed), ctypes.byref(layout)
        )
    core.check(status, "attention tangent")
    del alive
    return contexts[0], lses[0], contexts[1], lses[1].double()


def _point(layout: TangentsStruct, name: str, tensor: Tensor | None, alive: list[Tensor]) -> None:
    """Address and strides of a tensor, into the structure."""
    address, *strides = term(tensor, 3, alive)
    setattr(layout, name, address)
    getattr(layout, f"{name}_stride")[:] = strides
