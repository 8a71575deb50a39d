"""Outputs of projections: which axes of a tensor are features that a layer has learnt.

A softmax over them, or one row of weights for each of them, multiplied with values, has the form of
attention; but nothing was asked of the keys: the queries, or the keys, are the layer's weights. A query that
is learnt and meets keys in a product of its own is another matter, and so is one score for each place.
"""

from __future__ import annotations

from torch import Tensor

from sightline.tracing.layout import NOTHING, ROW, Axis, Placement, all_of
from sightline.tracing.storage import ByStorage

#: Projections that are remembered at a time.
_REMEMBERED = 32


class Features:
    """Which axes of which tensors are the features of a projection."""

    def __init__(self) -> None:
        self._of: ByStorage[Placement] = ByStorage(_REMEMBERED)

    def clear(self) -> None:
        """Forgets everything."""
        self._of.clear()

    def projected(self, out: Tensor, axis: int) -> None:
        """``out`` came of a projection; its features lie along ``axis``."""
        axes = [NOTHING] * out.dim()
        axes[axis] = Axis(ROW, 1)
        self._of.set(out, Placement.of(out, tuple(axes)))

    def derived(self, source: Tensor, out: Tensor) -> None:
        """``out`` was computed from ``source``, element by element."""
        known = self._of.get(source)
        if known is not None and source.shape == out.shape:
            axes = known.axes_anywhere(source)
            if axes is not None:
                self._of.set(out, Placement.of(out, axes))

    def axes_of(self, tensor: Tensor) -> list[int]:
        """The axes that run over features."""
        known = self._of.get(tensor)
        axes = None if known is None else known.axes_anywhere(tensor)
        return [] if axes is None else all_of(axes, ROW)
