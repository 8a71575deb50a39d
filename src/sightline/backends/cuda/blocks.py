"""Which blocks of 128 queries and 128 keys are seen, and which of them wholly: from key ranges.

Beside the ranges stands a number for each block, and nothing for each pair.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

from sightline.backends.problem import Problem

SIZE = 128


class Blocks(NamedTuple):
    """Of each block, [1|B, 1|H, blocks of queries, blocks of keys] bool.

    Attributes:
        part: some pairs are seen, and perhaps not all: each has to be looked at.
        whole: all are. A block that is cut off at the end never is, as in PyTorch.
    """

    part: Tensor
    whole: Tensor


def blocks_of(problem: Problem) -> Blocks | None:
    """The blocks of a mask; ``None`` where there is no mask."""
    found = None
    if problem.ranges is not None:
        found = _of_ranges(problem.ranges, *problem.shape[2:])
    if problem.visible is not None:
        some, whole = _of_dense(problem.visible, *problem.shape[2:])
        found = (some, whole) if found is None else (found[0] & some, found[1] & whole)
    return None if found is None else Blocks(found[0] ^ found[1], found[1])


def _of_ranges(ranges: Tensor, n: int, m: int) -> tuple[Tensor, Tensor]:
    """(seen at all, seen wholly). Ranges that meet within a block leave it to be looked at."""
    b, h, _, r, _ = ranges.shape
    low, high = (
        pad(ranges.select(4, side).expand(b, h, n, r), (0, 0, 0, -n % SIZE))
        .unflatten(2, (-1, SIZE))
        .flatten(3)
        for side in (0, 1)
    )  # rows that were added see nothing
    blocks, seen = -(-m // SIZE), low < high
    touched = _counted(low // SIZE, (high + SIZE - 1) // SIZE, seen, blocks)
    filled = _counted((low + SIZE - 1) // SIZE, high // SIZE, seen, blocks)
    return touched > 0, filled == SIZE


def _counted(first: Tensor, last: Tensor, seen: Tensor, blocks: int) -> Tensor:
    """How many of the ranges [first, last) have each block."""
    valid = (seen & (first < last)).int()
    edges = valid.new_zeros((*first.shape[:3], blocks + 1))
    edges.scatter_add_(3, first.clamp(max=blocks).long(), valid)
    edges.scatter_add_(3, last.clamp(max=blocks).long(), -valid)
    return edges.cumsum(3).narrow(3, 0, blocks)


def _of_dense(visible: Tensor, n: int, m: int) -> tuple[Tensor, Tensor]:
    """The same of a dense mask, whose axes may broadcast."""
    some, whole = visible, visible
    for axis, length in ((2, n), (3, m)):
        blocks = -(-length // SIZE)
        if visible.shape[axis] == 1:
            full = torch.arange(1, blocks + 1, device=visible.device) * SIZE <= length
            along = full.view((1, 1, -1, 1) if axis == 2 else (1, 1, 1, -1))
            shape = [blocks if at == axis else -1 for at in range(4)]
            some, whole = some.expand(shape), whole & along
        else:
            some, whole = (_cut(one, axis) for one in (some, whole))
            some, whole = some.any(axis + 1), whole.all(axis + 1)
    return some, whole


def _cut(mask: Tensor, axis: int) -> Tensor:
    """An axis cut into blocks; the last is filled up with what is not seen."""
    missing = -mask.shape[axis] % SIZE
    padding = (0, 0, 0, missing) if axis == 2 else (0, missing)
    cut: Tensor = pad(mask, padding).unflatten(axis, (-1, SIZE))
    return cut
