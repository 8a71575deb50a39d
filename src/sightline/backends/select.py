"""Parts of a problem: some batch entries, heads, queries or keys. Nothing is copied where a view will do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any

from torch import Tensor

from sightline.backends.problem import Problem
from sightline.backends.stages import part

# Which axis of each tensor field is the batch's and which the query heads'.
_BATCH = dict.fromkeys(("query", "key", "value", "ranges", "visible", "bias", "slopes", "offset"), 0)
_HEADS = {"query": 1, "ranges": 1, "visible": 1, "bias": 1, "slopes": 1, "table": 0, "sinks": 0}
# Those with an axis of queries or of keys along which they may broadcast.
_ROWS = ("ranges", "visible", "bias")
_COLS = ("visible", "bias")


def tensors(problem: Problem) -> dict[str, Tensor]:
    """The tensor fields that are there, by name."""
    found = {field.name: getattr(problem, field.name) for field in fields(problem)}
    return {name: tensor for name, tensor in found.items() if isinstance(tensor, Tensor)}


def with_tensors(problem: Problem, changed: Mapping[str, Any]) -> Problem:
    """The problem with some of its tensor fields replaced."""
    return replace(problem, **changed)


def select_batch(problem: Problem, index: slice) -> Problem:
    """The problem of some batch entries."""
    found = tensors(problem)
    return with_tensors(problem, {n: part(found[n], axis, index) for n, axis in _BATCH.items() if n in found})


def select_heads(problem: Problem, index: slice) -> Problem:
    """The problem of some query heads, with the key/value heads that they read."""
    found = tensors(problem)
    heads = range(problem.shape[1])[index]
    changed = {n: part(found[n], axis, index) for n, axis in _HEADS.items() if n in found}
    changed |= {n: _key_heads(found[n], heads, problem.group) for n in ("key", "value") if n in found}
    return with_tensors(problem, changed)


def strided(problem: Problem, rows: slice) -> bool:
    """Whether the rows are no problem of their own, as positions count and they are not neighbours."""
    return problem.offset is not None and rows.indices(problem.shape[2])[2] != 1


def select_rows(problem: Problem, rows: slice) -> Problem:
    """The problem of some queries; neighbouring ones, where it has an offset."""
    found = tensors(problem)
    changed = {n: part(found[n], 2, rows) for n in _ROWS if n in found}
    changed["query"] = problem.query[:, :, rows]
    if problem.offset is not None:
        changed["offset"] = problem.offset + rows.indices(problem.shape[2])[0]
    return with_tensors(problem, changed)


def select_cols(problem: Problem, cols: slice) -> Problem:
    """The problem of some neighbouring keys; the lse of its rows is another than in the whole matrix."""
    first, last, _ = cols.indices(problem.shape[3])
    found = tensors(problem)
    changed = {n: part(found[n], 3, cols) for n in _COLS if n in found}
    changed |= {n: found[n][:, :, cols] for n in ("key", "value") if n in found}
    if problem.ranges is not None:
        changed["ranges"] = problem.ranges.clamp(first, max(first, last)) - first
    if problem.offset is not None:
        changed["offset"] = problem.offset - first
    return with_tensors(problem, changed)


def _key_heads(tensor: Tensor, heads: range, group: int) -> Tensor:
    """The key/value heads that the query heads read, so that H / G stays uniform."""
    if not len(heads):
        return tensor[:, :0]
    first, last = heads[0] // group, heads[-1] // group
    whole = heads.step == 1 and heads[0] % group == 0 and len(heads) % group == 0
    if whole or first == last:
        return tensor[:, first : last + 1]
    # The heads straddle groups: a key head for each, which is a copy, linear in M.
    return tensor[:, [head // group for head in heads]]
