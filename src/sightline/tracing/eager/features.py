"""Outputs of projections: which axes of a tensor are features that a layer has learnt.

A softmax over them, or one row of weights for each of them, multiplied with values, has the form of
attention; but nothing was asked of the keys: the queries, or the keys, are the layer's weights. A query that
is learnt and meets keys in a product of its own is another matter, and so is one score for each place.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sightline.tracing.layout import NOTHING, ROW, Axis, Placement, all_of
from sightline.tracing.storage import ByStorage

#: Projections that are remembered at a time.
_REMEMBERED = 32


class Features:
    """Which axes of which tensors are the features of a projection."""

    def __init__(self) -> None:
        #: Sizes, strides and the axis of features; little, since every layer is noted.
        self._of: ByStorage[tuple[torch.Size, tuple[int, ...], int]] = ByStorage(_REMEMBERED)

    def clear(self) -> None:
        """Forgets everything."""
        self._of.clear()

    def projected(self, out: Tensor, axis: int) -> None:
        """``out`` came of a projection; its features lie along ``axis``."""
        self._of.set(out, (out.shape, out.stride(), axis))

    def derived(self, source: Tensor, out: Tensor) -> None:
        """``out`` was computed from ``source``, element by element."""
        if self._of.get(source) is not None and source.shape == out.shape:
            along = self.axes_of(source)
            if len(along) == 1:
                self.projected(out, along[0])

    def axes_of(self, tensor: Tensor) -> list[int]:
        """The axes that run over features."""
        known = self._of.get(tensor)
        if known is None:
            return []
        sizes, strides, axis = known
        named = tuple(Axis(ROW, 1) if d == axis % len(sizes) else NOTHING for d in range(len(sizes)))
        axes = Placement(tuple(sizes), strides, 0, named).axes_anywhere(tensor)
        return [] if axes is None else all_of(axes, ROW)
