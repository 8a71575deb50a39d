"""A derivative of attention, block by block: each block of rows differentiated on its own, then summed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import torch
from torch import Tensor

from sightline.backends.derivatives.attend import Pair, attend, attend_to_seen
from sightline.backends.derivatives.order import Arrays, Function, Order, Slot
from sightline.backends.dropout import kept
from sightline.backends.problem import FIELDS, Problem, compute_dtype, tensors_in_order, with_tensors
from sightline.backends.schedule import BLOCK_ENTRIES, Place, schedule
from sightline.backends.seen import may_hide
from sightline.backends.select import select_batch, select_cols, select_rows

_ALL = slice(None)


def evaluate(problem: Problem, order: Order, arrays: Arrays) -> tuple[Tensor, ...]:
    """The outputs of a derivative, in float32 or float64.

    Args:
        problem: the problem itself; its tensors are the first of ``arrays``.
        order: which derivative.
        arrays: its inputs, ``None`` for a term that is left out.
    """
    found = _sum(problem, order, arrays, schedule(problem), attend)
    if may_hide(problem) and any(bool(output.isnan().any()) for output in found):
        found = _sum(problem, order, arrays, _few_rows(problem), attend_to_seen)
    return found


def _sum(
    problem: Problem, order: Order, arrays: Arrays, places: Iterable[Place], rule: Callable[..., Pair]
) -> tuple[Tensor, ...]:
    dtype = compute_dtype(problem)
    outputs = tuple(problem.query.new_zeros(shape, dtype=dtype) for shape in order.shapes(arrays))
    for place in places:
        derivative = order.function(_attention_of(problem, place, rule))
        found = derivative(*_parts(problem, order, arrays, place, dtype))
        for slot, whole, block in zip(order.outputs, outputs, found, strict=True):
            _cut(slot, whole, place).add_(block)
    return outputs


def _few_rows(problem: Problem) -> Iterator[Place]:
    """So few rows at a time that each of their pairs may have a key and a value of its own."""
    widest = max(problem.query.shape[3], 0 if problem.value is None else problem.value.shape[3])
    for batch, rows, cols in schedule(problem):
        of_row = len(range(problem.shape[0])[batch]) * problem.shape[1] * (cols.stop - cols.start) * widest
        height = max(1, BLOCK_ENTRIES // max(1, of_row))
        for start in range(rows.start, rows.stop, height):
            yield Place(batch, slice(start, min(rows.stop, start + height), 1), cols)


def _attention_of(problem: Problem, place: Place, rule: Callable[..., Pair]) -> Function:
    """(context, lse) of a block as a function of its part of the tensors, and of the softcap."""
    pattern = kept(problem, place) if problem.dropout > 0 else None

    def attention(*arrays: Tensor | None) -> Pair:
        *tensors, softcap = arrays
        pairs = zip(FIELDS, tensors, strict=True)
        given = {field.name: tensor for field, tensor in pairs if tensor is not None}
        inside = with_tensors(problem, given, softcap=problem.softcap if softcap is None else softcap)
        return rule(inside, pattern)

    return attention


def _parts(problem: Problem, order: Order, arrays: Arrays, place: Place, dtype: torch.dtype) -> Arrays:
    """The block's part of every input, what derivatives reach in the dtype that is computed in."""
    inside = select_cols(select_rows(select_batch(problem, place.batch), place.rows), place.cols)
    own = tensors_in_order(inside)
    others = zip(order.inputs[len(own) :], arrays[len(own) :], strict=True)
    cut = (*own, *(None if array is None else _cut(slot, array, place) for slot, array in others))
    # Contiguous, as a dual tensor cannot be made of one whose entries share memory (an expanded one).
    return tuple(
        part.to(dtype).contiguous() if part is not None and slot.smooth else part
        for slot, part in zip(order.inputs, cut, strict=True)
    )


def _cut(slot: Slot, array: Tensor, place: Place) -> Tensor:
    """The block's part of a tensor; an axis that broadcasts stays whole."""
    of_letter = {"B": place.batch, "N": place.rows, "M": place.cols}
    index = tuple(
        _ALL if letter in slot.broadcasts and size == 1 else of_letter.get(letter, _ALL)
        for letter, size in zip(slot.axes, array.shape, strict=True)
    )
    return array[index]
