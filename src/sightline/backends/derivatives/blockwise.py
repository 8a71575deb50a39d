"""A derivative, block by block: each block of rows differentiated on its own, then summed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from sightline.backends.derivatives.order import PROBLEM, SOFTCAP, Arrays, Function, Order, Part, Slot
from sightline.backends.problem import FIELDS, Problem, compute_dtype, tensors_in_order, with_tensors
from sightline.backends.schedule import BLOCK_ENTRIES, Place, schedule_together
from sightline.backends.seen import may_hide
from sightline.backends.select import select_batch, select_cols, select_rows

_ALL = slice(None)


def evaluate(order: Order, problems: tuple[Problem, ...], arrays: Arrays) -> tuple[Tensor, ...]:
    """The outputs of a derivative, in float32 or float64.

    Args:
        order: which derivative.
        problems: what it is a function of; their tensors are the first of ``arrays``.
        arrays: its inputs, ``None`` for a term that is left out.
    """
    found = _sum(order, problems, arrays, schedule_together(problems), careful=False)
    hides = any(map(may_hide, problems))
    if hides and any(bool(output.isnan().any()) for output in found):
        found = _sum(order, problems, arrays, _few_rows(problems), careful=True)
    return found


def _sum(
    order: Order, problems: tuple[Problem, ...], arrays: Arrays, places: Iterable[Place], careful: bool
) -> tuple[Tensor, ...]:
    dtype = max(map(compute_dtype, problems), key=lambda one: one.itemsize)
    query = problems[0].query
    outputs = tuple(query.new_zeros(shape, dtype=dtype) for shape in order.shapes(arrays))
    for place in places:
        derivative = order.function(_of_block(order, problems, place, careful))
        found = derivative(*_parts(order, problems, arrays, place, dtype))
        for slot, whole, block in zip(order.outputs, outputs, found, strict=True):
            _cut(slot, whole, place).add_(block)
    return outputs


def _few_rows(problems: tuple[Problem, ...]) -> Iterator[Place]:
    """So few rows at a time that each of their pairs may have a key and a value of its own."""
    widths = [one.shape[3] for each in problems for one in (each.query, each.value) if one is not None]
    b, h, _, _ = problems[0].shape
    for batch, rows, cols in schedule_together(problems):
        of_row = len(range(b)[batch]) * h * (cols.stop - cols.start) * max(widths)
        height = max(1, BLOCK_ENTRIES // max(1, of_row))
        for start in range(rows.start, rows.stop, height):
            yield Place(batch, slice(start, min(rows.stop, start + height), 1), cols)


def _of_block(order: Order, problems: tuple[Problem, ...], place: Place, careful: bool) -> Function:
    """The base's outputs of a block as a function of its part of the inputs."""
    base, count = order.base, len(PROBLEM)

    def outputs(*arrays: Tensor | None) -> tuple[Tensor, ...]:
        inside = []
        for at, problem in enumerate(problems):
            own = arrays[at * count : (at + 1) * count]
            pairs = zip(FIELDS, own[:SOFTCAP], strict=True)
            given = {field.name: tensor for field, tensor in pairs if tensor is not None}
            softcap = problem.softcap if own[SOFTCAP] is None else own[SOFTCAP]
            inside.append(with_tensors(problem, given, softcap=softcap))
        return base.rule(Part(tuple(inside), arrays[len(problems) * count :], problems, place, careful))

    return outputs


def _parts(
    order: Order, problems: tuple[Problem, ...], arrays: Arrays, place: Place, dtype: torch.dtype
) -> Arrays:
    """The block's part of every input, what derivatives reach in the dtype that is computed in."""
    cut: list[Tensor | None] = []
    for problem in problems:
        inside = select_cols(select_rows(select_batch(problem, place.batch), place.rows), place.cols)
        cut += [*tensors_in_order(inside), arrays[len(cut) + SOFTCAP]]
    others = zip(order.inputs[len(cut) :], arrays[len(cut) :], strict=True)
    cut += [None if array is None else _cut(slot, array, place) for slot, array in others]
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
