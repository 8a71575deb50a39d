"""Dynamic time warping: the cheapest monotonic path through a table of costs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor

from sightline.common.check import check_tensor, shown

#: Bytes past which the table of steps is refused: one byte per token and frame.
STEPS_LIMIT = 1 << 30

_DIAGONAL, _DOWN, _RIGHT = 0, 1, 2


class Path(NamedTuple):
    """A monotonic path: step by step a token and a frame, both [P] int64, and what it costs in all.

    Example:
        >>> import sightline.measure, torch
        >>> sightline.measure.dtw(torch.zeros(2, 2)).tokens.tolist()
        [0, 1]
    """

    tokens: Tensor
    frames: Tensor
    cost: float


def dtw(costs: Tensor | Iterable[Tensor]) -> Path:
    """The cheapest monotonic path from the first cell of a table to the last.

    ``D_ij = c_ij + min(D_{i-1,j-1}, D_{i-1,j}, D_{i,j-1})``: each step goes one row on, one column on, or
    both. Of equal costs the diagonal wins, then the row.

    Args:
        costs: [N,M], finite, or blocks of its rows one after another. Time is N·M; of the table, only one
            byte per cell is kept.

    Returns:
        A :class:`Path` from (0, 0) to (N - 1, M - 1).

    Raises:
        ValueError: for an empty table or costs that are not finite; MemoryError: for more than 2^30 cells.

    Source: Sakoe & Chiba 1978, Dynamic programming algorithm optimization for spoken word recognition;
    Giorgino 2009, Computing and visualizing dynamic time warping alignments in R.

    Example:
        >>> import sightline.measure, torch
        >>> path = sightline.measure.dtw(torch.tensor([[0.0, 0.0, 9.0], [9.0, 9.0, 0.0]]))
        >>> path.tokens.tolist(), path.frames.tolist(), path.cost
        ([0, 0, 1], [0, 1, 2], 0.0)
    """
    steps: list[Tensor] = []
    reached: Tensor | None = None
    size, widths = 0, set[int]()
    if not isinstance(costs, (Tensor, Iterable)) or isinstance(costs, (str, bytes)):
        raise TypeError(f"costs: expected a tensor [N,M], or blocks of its rows, got {shown(costs)}.")
    for block in [costs] if isinstance(costs, Tensor) else costs:
        check_tensor("costs", block, "[N,M]", floating=False)
        if block.is_complex() or block.is_quantized or block.is_meta:
            raise TypeError(f"costs: expected real numbers, got {block.dtype} on {block.device}.")
        if widths and block.shape[1] not in widths:
            raise ValueError(f"costs: blocks of {widths.pop()} and {block.shape[1]} columns make no table.")
        widths.add(block.shape[1])
        if not bool(torch.isfinite(block).all()):
            raise ValueError("dtw: costs must be finite.")
        size += block.numel()
        if size > STEPS_LIMIT:
            raise MemoryError(
                f"dtw: the table has more than {STEPS_LIMIT:,} cells. Align a segment at a time."
            )
        for row in block.double().cpu():
            reached, step = _next_row(reached, row)
            steps.append(step)
    if reached is None or not len(reached):
        raise ValueError("dtw: the table is empty; it needs a row and a column at least.")
    tokens, frames = _way_back(torch.stack(steps))
    return Path(torch.tensor(tokens), torch.tensor(frames), float(reached[-1]))


def _next_row(above: Tensor | None, cost: Tensor) -> tuple[Tensor, Tensor]:
    """(the cheapest cost to each cell of a row, by which step it was reached).

    Going right along a row, D_j - C_j = min(D_{j-1} - C_{j-1}, B_j - C_{j-1}), with C the running sum of the
    costs and B_j the cheaper of the two cells above: a running minimum.
    """
    if above is None:
        step = torch.full(cost.shape, _RIGHT, dtype=torch.uint8)
        return cost.cumsum(0), step
    diagonal = torch.cat((above.new_full((1,), torch.inf), above[:-1]))
    step = torch.where(diagonal <= above, _DIAGONAL, _DOWN).to(torch.uint8)
    total = cost.cumsum(0)
    entered = torch.minimum(diagonal, above) - (total - cost)
    least, where = entered.cummin(0)
    # cummin names the last of equal minima: a tie enters from above.
    step = torch.where(where == torch.arange(len(cost)), step, _RIGHT)
    return least + total, step


def _way_back(steps: Tensor) -> tuple[list[int], list[int]]:
    """The path back from the last cell, turned round."""
    i, j = steps.shape[0] - 1, steps.shape[1] - 1
    tokens, frames = [i], [j]
    table = steps.numpy()
    while i or j:
        step = _RIGHT if i == 0 else _DOWN if j == 0 else int(table[i, j])
        i -= step != _RIGHT
        j -= step != _DOWN
        tokens.append(i)
        frames.append(j)
    return tokens[::-1], frames[::-1]
