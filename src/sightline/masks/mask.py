"""Who may look at whom: masks as sets of (query, key) pairs, and how they combine.

Each mask says what it shows in two ways. ``visible`` is the definition, N x M, read by the reference.
``lower`` is what the backends get: for each query one or a few ranges of keys, linear in N, and a boolean
tensor only where the user gave one. Both must agree; the tests hold them against each other.

Letters: B batch, H heads, N queries, M keys, R ranges. Query i stands at position i + offset.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from sightline.common.check import check_device, check_strided, fits, is_eager
from sightline.positions import key_ranges

Shape = tuple[int, int, int, int]


class Lowered(NamedTuple):
    """A mask for a backend: a key is seen if it lies in one of ``ranges`` and ``visible`` is True.

    Attributes:
        ranges: [1|B, 1|H, N, R, 2] int32, or ``None`` for no limit.
        visible: bool, 4-D, broadcasts to [B,H,N,M], or ``None`` for no limit.
    """

    ranges: Tensor | None
    visible: Tensor | None


class Mask:
    """A set of (query, key) pairs that may be looked at; masks combine with ``&`` and ``|``.

    ``visible`` is the definition, [B,H,N,M] or what broadcasts to it; ``lower`` the same for the backends,
    as key ranges where it can be. Another kind of mask is a class with these two.

    Example:
        >>> import sightline, torch
        >>> mask = sightline.causal() & (sightline.window(1, 0) | sightline.prefix(1))
        >>> mask.visible((1, 1, 4, 4), torch.device("cpu"))[0, 0, 3].int().tolist()
        [1, 0, 1, 1]
    """

    def visible(self, shape: Shape, device: torch.device) -> Tensor:
        """The definition: a bool tensor that broadcasts to [B,H,N,M], True where the query may look."""
        raise NotImplementedError(f"{type(self).__name__} does not define visible()")

    def lower(self, shape: Shape, device: torch.device) -> Lowered:
        """The same set for the backends, linear in N unless the user gave a dense tensor."""
        raise NotImplementedError(f"{type(self).__name__} does not define lower()")

    def __and__(self, other: Mask | Tensor) -> Mask:
        return Both(self, as_mask(other))

    def __or__(self, other: Mask | Tensor) -> Mask:
        return Either(self, as_mask(other))

    __rand__ = __and__
    __ror__ = __or__


def as_mask(mask: Mask | Tensor) -> Mask:
    """A mask as it is; a bool tensor as ``dense``.

    Raises:
        TypeError: for anything else; a float tensor is a bias.
    """
    if isinstance(mask, Mask):
        return mask
    if isinstance(mask, Tensor):
        return dense(mask)
    raise TypeError(
        f"mask: expected a sightline mask or a bool tensor, got {type(mask).__name__}. "
        "Make one with sightline.causal(), window(), prefix(), lengths(), documents() or dense()."
    )


def dense(tensor: Tensor) -> Mask:
    """Any mask at all, as a bool tensor that broadcasts to [B,H,N,M]; True = may look.

    Raises:
        TypeError: if the tensor is not bool, or sparse or nested; a float tensor is a bias.

    Example:
        >>> import sightline, torch
        >>> mask = sightline.dense(torch.eye(3, dtype=torch.bool)) | sightline.prefix(1)
    """
    if not isinstance(tensor, Tensor):
        raise TypeError(f"mask: expected a bool tensor, got {type(tensor).__name__}.")
    if tensor.dtype != torch.bool:
        remedy = "Give a floating tensor as bias=." if tensor.is_floating_point() else "Use tensor.bool()."
        raise TypeError(f"mask: expected torch.bool (True = may look), got {tensor.dtype}. {remedy}")
    check_strided("mask", tensor)
    return Dense(tensor)


@dataclass(eq=False)
class Dense(Mask):
    """A bool tensor that broadcasts to [B,H,N,M], True where the query may look."""

    tensor: Tensor

    def visible(self, shape: Shape, device: torch.device) -> Tensor:
        check_device("mask", self.tensor, device)
        return fits("mask", self.tensor, ("B", "H", "N", "M"), shape)

    def lower(self, shape: Shape, device: torch.device) -> Lowered:
        seen = self.visible(shape, device)
        if seen.shape[2] == 1 and shape[3] > 0 and is_eager(seen):
            # One row for every query, as key padding is: a few runs of keys, nearly always one.
            runs = key_ranges.from_row(seen.expand(-1, -1, -1, shape[3])[:, :, 0], limit=4)
            if runs is not None:
                return Lowered(runs[:, :, None].expand(-1, -1, shape[2], -1, -1), None)
        return Lowered(None, seen)


@dataclass(eq=False)
class Both(Mask):
    """Intersection: what both masks show."""

    left: Mask
    right: Mask

    def visible(self, shape: Shape, device: torch.device) -> Tensor:
        return self.left.visible(shape, device) & self.right.visible(shape, device)

    def lower(self, shape: Shape, device: torch.device) -> Lowered:
        left, right = self.left.lower(shape, device), self.right.lower(shape, device)
        return Lowered(
            _optional(key_ranges.intersect, left.ranges, right.ranges),
            _optional(torch.logical_and, left.visible, right.visible),
        )


@dataclass(eq=False)
class Either(Mask):
    """Union: what either mask shows."""

    left: Mask
    right: Mask

    def visible(self, shape: Shape, device: torch.device) -> Tensor:
        return self.left.visible(shape, device) | self.right.visible(shape, device)

    def lower(self, shape: Shape, device: torch.device) -> Lowered:
        left, right = self.left.lower(shape, device), self.right.lower(shape, device)
        if left.ranges is not None and right.ranges is not None and left.visible is right.visible is None:
            return Lowered(key_ranges.unite(left.ranges, right.ranges), None)
        # A dense tensor takes part, so the union is as large as what the user gave.
        return Lowered(None, _dense_of(left, shape[3]) | _dense_of(right, shape[3]))


def _optional(
    join: Callable[[Tensor, Tensor], Tensor], left: Tensor | None, right: Tensor | None
) -> Tensor | None:
    """``join(left, right)``, where ``None`` stands for no limit."""
    if left is None:
        return right
    return left if right is None else join(left, right)


def _dense_of(lowered: Lowered, keys: int) -> Tensor:
    seen = None if lowered.ranges is None else key_ranges.contains(lowered.ranges, slice(0, keys))
    both = _optional(torch.logical_and, seen, lowered.visible)
    if both is None:
        raise ValueError("mask: a mask with neither ranges nor a tensor cannot be lowered.")
    return both
