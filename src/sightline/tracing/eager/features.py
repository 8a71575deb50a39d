"""Outputs of projections: which axes of a tensor are features that a layer has learnt.

A softmax over them, or one row of weights for each of them, multiplied with values, has the form of
attention; but nothing was asked of the keys: the queries, or the keys, are the layer's weights. A query that
is learnt and meets keys in a product of its own is another matter, and so is one score for each place.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from sightline.tracing.layout import NOTHING, ROW, Axis, Placement, all_of
from sightline.tracing.storage import ByStorage

#: Projections that are remembered at a time.
_REMEMBERED = 32
#: Operations element by element that are looked through; between two projections there are few.
_STEPS = 32


class Learnt(NamedTuple):
    """How features lie in a storage; little, since every layer is noted, and read only where it matters.

    Attributes:
        sizes: of the tensor that was noted.
        strides: its strides.
        axis: the axis that runs over features; ``None`` where ``source`` says it.
        source: what the tensor was computed from, element by element, and the view of it that was taken.
        steps: how many such sources there are behind it.
    """

    sizes: torch.Size
    strides: tuple[int, ...]
    axis: int | None
    source: tuple[Learnt, torch.Size, tuple[int, ...]] | None = None
    steps: int = 0


class Features:
    """Which axes of which tensors are the features of a projection."""

    def __init__(self) -> None:
        self._of: ByStorage[Learnt] = ByStorage(_REMEMBERED)

    def clear(self) -> None:
        """Forgets everything."""
        self._of.clear()

    def projected(self, out: Tensor, axis: int) -> None:
        """``out`` came of a projection; its features lie along ``axis``."""
        self._of.set(out, Learnt(out.shape, out.stride(), axis))

    def derived(self, source: Tensor, out: Tensor) -> None:
        """``out`` was computed from ``source``, element by element."""
        known = self._of.get(source)
        if known is None:
            return
        sizes, strides = source.shape, source.stride()
        if sizes != out.shape:
            return
        if known.sizes == sizes and known.strides == strides:
            self._of.set(out, known._replace(strides=out.stride()))
        elif known.steps < _STEPS:
            behind = (known, sizes, strides)
            self._of.set(out, Learnt(sizes, out.stride(), None, behind, known.steps + 1))

    def axes_of(self, tensor: Tensor) -> list[int]:
        """The axes that run over features."""
        known = self._of.get(tensor)
        return [] if known is None else _axes(known, tensor.shape, tensor.stride())


def _axes(known: Learnt, sizes: torch.Size, strides: tuple[int, ...]) -> list[int]:
    """The axes of another view of the storage that run over features."""
    axis = known.axis
    if known.source is not None:
        before = _axes(*known.source)
        axis = before[0] if len(before) == 1 else None
    if axis is None:
        return []
    axis %= len(known.sizes)
    if sizes == known.sizes and strides == known.strides:
        return [axis]
    named = tuple(Axis(ROW, 1) if d == axis else NOTHING for d in range(len(known.sizes)))
    axes = Placement(tuple(known.sizes), known.strides, 0, named).axes_along(sizes, strides)
    return [] if axes is None else all_of(axes, ROW)
