"""Masks along the diagonal: which keys a query sees around its own position.

Letters: B batch, H heads, N queries, M keys. Query i stands at position i + offset.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sightline.common.check import integer
from sightline.masks.mask import Lowered, Mask, Shape
from sightline.positions import kept_ranges, key_ranges
from sightline.positions.align import FARTHEST, Align, check_align, first_position, positions


@dataclass(eq=False)
class Window(Mask):
    """Keys from ``left`` before to ``right`` after the query's position; ``None`` leaves a side open."""

    left: int | None
    right: int | None
    align: Align

    def visible(self, shape: Shape, device: torch.device) -> Tensor:
        position, key = _grid(shape, self.align, device)
        seen = torch.ones_like(position == key)
        if self.left is not None:
            seen = seen & (key >= position - self.left)
        if self.right is not None:
            seen = seen & (key <= position + self.right)
        return seen

    def lower(self, shape: Shape, device: torch.device) -> Lowered:
        b, _, n, m = shape
        if not isinstance(self.align, Tensor) and device.type == "cpu":
            kept = kept_ranges.band(self.left, self.right, first_position(self.align, n, m), n, m)
            if kept is not None:
                return Lowered(kept, None)
        position = positions(self.align, b, n, m, device)[:, None]
        return Lowered(key_ranges.band(position, self.left, self.right, m), None)


def causal(align: Align = "bottom-right") -> Mask:
    """Each query sees the keys up to its own position: j <= i + offset.

    Args:
        align: ``"bottom-right"`` (offset = M - N: the last query sees the last key, as KV caches need),
            ``"top-left"`` (offset = 0, PyTorch's reading), an integer offset, or a [B] integer tensor of
            offsets (a static cache with its own fill per batch entry).

    Raises:
        ValueError, TypeError: for an align that is none of these.

    Example:
        >>> import sightline, torch
        >>> sightline.causal().visible((1, 1, 2, 3), torch.device("cpu"))[0, 0].int().tolist()
        [[1, 1, 0], [1, 1, 1]]
    """
    return Window(None, 0, check_align("causal", align))


def window(left: int | None, right: int | None, align: Align = "bottom-right") -> Mask:
    """Each query sees a band of keys: i + offset - left <= j <= i + offset + right.

    Args:
        left: how many keys before the query's position, or ``None`` for all.
        right: how many keys after it, or ``None`` for all.
        align: see :func:`causal`.

    Raises:
        ValueError: for a negative ``left`` or ``right``; TypeError: for one that is no integer.

    Source: Beltagy, Peters & Cohan 2020, "Longformer" (sliding window).

    Example:
        >>> import sightline, torch
        >>> sightline.window(1, 0).visible((1, 1, 3, 3), torch.device("cpu"))[0, 0].int().tolist()
        [[1, 0, 0], [1, 1, 0], [0, 1, 1]]
    """
    return Window(_side("left", left), _side("right", right), check_align("window", align))


def _side(name: str, size: int | None) -> int | None:
    """How far a window reaches to one side; what is farther than any text is long is open."""
    if size is None:
        return None
    reach = integer(f"window {name}", size, 0, remedy="None leaves that side open.")
    return reach if reach < FARTHEST else None


def _grid(shape: Shape, align: Align, device: torch.device) -> tuple[Tensor, Tensor]:
    """Positions of the queries [1|B,1,N,1] and of the keys [M]."""
    b, _, n, m = shape
    return positions(align, b, n, m, device)[:, None, :, None], torch.arange(m, device=device)
