"""Parts of a problem: some batch entries, heads, queries or keys. Nothing is copied where a view will do."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from sightline.backends.problem import FIELDS, Problem, tensors_in_order, with_tensors


def part(tensor: Tensor, axis: int, index: slice) -> Tensor:
    """``index`` along ``axis``, unless that axis broadcasts."""
    return tensor if tensor.shape[axis] == 1 else tensor[(slice(None),) * axis + (index,)]


def along(problem: Problem, letter: str, index: slice | list[int]) -> dict[str, Tensor]:
    """By name, ``index`` of every tensor that has an axis of that letter; one that broadcasts stays whole."""
    chosen = {}
    for field, tensor in zip(FIELDS, tensors_in_order(problem), strict=True):
        if tensor is None or letter not in field.axes:
            continue
        axis = field.axes.index(letter)
        whole = letter in field.broadcasts and tensor.shape[axis] == 1
        chosen[field.name] = tensor if whole else tensor[(slice(None),) * axis + (index,)]
    return chosen


def select_batch(problem: Problem, index: slice | list[int]) -> Problem:
    """The problem of some batch entries."""
    return with_tensors(problem, along(problem, "B", index))


def select_heads(problem: Problem, index: slice | list[int]) -> Problem:
    """The problem of some query heads, with the key/value heads that they read."""
    heads = range(problem.shape[1])[index] if isinstance(index, slice) else index
    changed = along(problem, "H", index)
    for field, tensor in zip(FIELDS, tensors_in_order(problem), strict=True):
        if tensor is not None and "G" in field.axes:
            changed[field.name] = _key_heads(tensor, heads, problem.group)
    return with_tensors(problem, changed)


def strided(problem: Problem, rows: slice) -> bool:
    """Whether the rows are no problem of their own, as positions count and they are not neighbours."""
    return problem.offset is not None and rows.indices(problem.shape[2])[2] != 1


def select_rows(problem: Problem, rows: slice) -> Problem:
    """The problem of some queries; neighbouring ones, where it has an offset."""
    changed = along(problem, "N", rows)
    if problem.offset is not None:
        changed["offset"] = problem.offset + rows.indices(problem.shape[2])[0]
    return with_tensors(problem, changed)


def select_cols(problem: Problem, cols: slice) -> Problem:
    """The problem of some neighbouring keys; the lse of its rows is another than in the whole matrix."""
    first, last, _ = cols.indices(problem.shape[3])
    changed = along(problem, "M", cols)
    if problem.ranges is not None:
        changed["ranges"] = problem.ranges.clamp(first, max(first, last)) - first
    if problem.offset is not None:
        changed["offset"] = problem.offset - first
    return with_tensors(problem, changed)


def _key_heads(tensor: Tensor, heads: Sequence[int], group: int) -> Tensor:
    """The key/value heads that the query heads read, so that H / G stays uniform."""
    if not len(heads):
        return tensor[:, :0]
    if isinstance(heads, range):
        first, last = heads[0] // group, heads[-1] // group
        whole = heads.step == 1 and heads[0] % group == 0 and len(heads) % group == 0
        if whole or first == last:
            return tensor[:, first : last + 1]
    # The heads straddle groups: a key head for each, which is a copy, linear in M.
    return tensor[:, [head // group for head in heads]]
