"""A derivative of attention, block by block: each block of rows differentiated on its own, then summed."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from sightline.backends.block import MatrixBlock
from sightline.backends.derivatives.order import Arrays, Function, Order, Slot
from sightline.backends.dropout import kept
from sightline.backends.grouped import grouped_product
from sightline.backends.problem import FIELDS, Problem, compute_dtype, tensors_in_order, with_tensors
from sightline.backends.schedule import Place, schedule
from sightline.backends.select import select_batch, select_cols, select_rows

_ALL = slice(None)


def evaluate(problem: Problem, order: Order, arrays: Arrays) -> tuple[Tensor, ...]:
    """The outputs of a derivative, in float32 or float64.

    Args:
        problem: the problem itself; its tensors are the first of ``arrays``.
        order: which derivative.
        arrays: its inputs, ``None`` for a term that is left out.
    """
    dtype = compute_dtype(problem)
    outputs = tuple(problem.query.new_zeros(shape, dtype=dtype) for shape in order.shapes(arrays))
    for place in schedule(problem):
        derivative = order.function(_attention_of(problem, place))
        found = derivative(*_parts(problem, order, arrays, place, dtype))
        for slot, whole, block in zip(order.outputs, outputs, found, strict=True):
            _cut(slot, whole, place).add_(block)
    return outputs


def _attention_of(problem: Problem, place: Place) -> Function:
    """(context, lse) of a block as a function of its part of the tensors, and of the softcap."""
    pattern = kept(problem, place) if problem.dropout > 0 else None

    def attention(*arrays: Tensor | None) -> tuple[Tensor, Tensor]:
        *tensors, softcap = arrays
        pairs = zip(FIELDS, tensors, strict=True)
        given = {field.name: tensor for field, tensor in pairs if tensor is not None}
        inside = with_tensors(problem, given, softcap=problem.softcap if softcap is None else softcap)
        return _attend(inside, pattern)

    return attention


def _attend(inside: Problem, pattern: Tensor | None) -> tuple[Tensor, Tensor]:
    """(context, lse) of a whole small problem, without writing in place, so that anything can follow it."""
    keys, sinks, value = inside.shape[3], inside.sinks, inside.value
    assert value is not None
    masked = MatrixBlock(inside, Place(_ALL, _ALL, slice(0, keys))).masked
    # What is subtracted before exp() cancels, so it is a constant to every derivative.
    known = masked.detach()
    top = known.amax(-1) if keys else known.new_full(known.shape[:-1], -math.inf)
    if sinks is not None:
        top = torch.maximum(top, sinks.detach()[:, None])
    top = top.masked_fill(top == -math.inf, 0)
    exponentials = torch.exp(masked - top[..., None])
    total = exponentials.sum(-1)
    if sinks is not None:
        total = total + torch.exp(sinks[:, None] - top)
    # A row with nothing to look at has a context of 0, and no derivative.
    empty = total == 0
    total = total.masked_fill(empty, 1)
    lse = (top + total.log()).masked_fill(empty, -math.inf)
    kept_ones = exponentials if pattern is None else exponentials * pattern
    return grouped_product(kept_ones, value) / total[..., None], lse


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
