"""vmap: a batched axis joins an axis that attention has, so that one call computes all samples.

Samples join the batch where everything that comes out has a batch axis, and the heads where something has
none (sinks, tables): each sample then has heads of its own. Where an input or output has neither (a softcap
that is a tensor), and under dropout, whose pattern counts batch entries and heads, samples are computed one
after another.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from sightline.backends.derivatives import Order, Slot
from sightline.backends.derivatives.order import Arrays

Compute = Callable[..., tuple[Tensor, ...]]


def together(
    order: Order, samples: int, axes: Sequence[int | None], arrays: Arrays, compute: Compute
) -> tuple[Tensor, ...]:
    """The outputs of all samples, each with the samples' axis in front.

    Args:
        order: what is computed.
        samples: how many there are.
        axes: where each array has the samples' axis; ``None`` for one that all samples share.
        arrays: the order's inputs.
        compute: gives the outputs of the order without samples.
    """
    front, batched = _in_front(axes, arrays)
    folding = Folding.of(order, samples, batched, front)
    if folding is None:
        return one_by_one(order, samples, axes, arrays, compute)
    folded = (
        array if array is None else folding.fold(slot, array, is_batched)
        for slot, array, is_batched in zip(order.inputs, front, batched, strict=True)
    )
    shapes = order.shapes(tuple(_at(array, 0, one) for array, one in zip(front, batched, strict=True)))
    outputs = zip(order.outputs, compute(*folded), shapes, strict=True)
    return tuple(folding.unfold(slot, output, shape) for slot, output, shape in outputs)


class Folding(NamedTuple):
    """How samples join an axis.

    Attributes:
        samples: how many there are.
        sizes: of the axes that they join in one sample, by letter: B, or H and G.
        own: names of the slots of which each sample has its own; the others may broadcast.
    """

    samples: int
    sizes: dict[str, int]
    own: frozenset[str]

    @classmethod
    def of(cls, order: Order, samples: int, batched: tuple[bool, ...], arrays: Arrays) -> Folding | None:
        """The folding that fits, or ``None`` if none does."""
        own = [slot for slot, one in zip(order.inputs, batched, strict=True) if one] + list(order.outputs)
        query, key = (_at(array, 0, one) for array, one in zip(arrays[:2], batched[:2], strict=True))
        assert query is not None
        assert key is not None
        for sizes in ({"B": query.shape[0]}, {"H": query.shape[1], "G": key.shape[1]}):
            if all(any(letter in sizes for letter in slot.axes) for slot in own):
                return cls(samples, sizes, frozenset(slot.name for slot in own))
        return None

    def fold(self, slot: Slot, array: Tensor, batched: bool) -> Tensor:
        """An array with the samples in one of its axes; ``batched`` ones have them in front."""
        axis = self._axis(slot)
        if axis is None:
            return array
        letter = slot.axes[axis]
        size = array.shape[axis + batched]
        if slot.name not in self.own and size == 1 and letter in slot.broadcasts:
            return array
        apart = array.movedim(0, axis) if batched else array.unsqueeze(axis)
        whole = list(apart.shape)
        whole[axis : axis + 2] = self.samples, self.sizes[letter]
        folded: Tensor = apart.expand(whole).flatten(axis, axis + 1)
        return folded

    def unfold(self, slot: Slot, output: Tensor, shape: tuple[int, ...]) -> Tensor:
        """An output with the samples in front, each of the shape that it has alone."""
        axis = self._axis(slot)
        assert axis is not None
        sizes = self.samples, self.sizes[slot.axes[axis]]
        apart: Tensor = output.unflatten(axis, sizes).movedim(axis, 0)
        # An axis that broadcasts was spread over the samples' entries: its gradient is their sum.
        return apart if apart.shape[axis + 1] == shape[axis] else apart.sum(axis + 1, keepdim=True)

    def _axis(self, slot: Slot) -> int | None:
        return next((at for at, letter in enumerate(slot.axes) if letter in self.sizes), None)


def one_by_one(
    order: Order, samples: int, axes: Sequence[int | None], arrays: Arrays, compute: Compute
) -> tuple[Tensor, ...]:
    """The same, sample after sample."""
    front, batched = _in_front(axes, arrays)
    each = [
        compute(*(_at(array, sample, one) for array, one in zip(front, batched, strict=True)))
        for sample in range(samples)
    ]
    return tuple(torch.stack(outputs) for outputs in zip(*each, strict=True))


def _in_front(axes: Sequence[int | None], arrays: Arrays) -> tuple[Arrays, tuple[bool, ...]]:
    """The arrays with the samples' axis first, and which of them have one."""
    batched = tuple(array is not None and axis is not None for array, axis in zip(arrays, axes, strict=True))
    front = tuple(
        array.movedim(axis, 0) if array is not None and axis is not None else array
        for array, axis in zip(arrays, axes, strict=True)
    )
    return front, batched


def _at(array: Tensor | None, sample: int, batched: bool) -> Tensor | None:
    """An array as one sample has it."""
    return array[sample] if array is not None and batched else array
