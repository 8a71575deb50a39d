"""Masks from one key to another: prefixes, lengths, and ranges of the user's own.

Letters: B batch, H heads, N queries, M keys.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sightline.common.check import (
    check_device,
    check_integers,
    fits,
    integer,
    integers_tensor,
    is_eager,
)
from sightline.common.dispatcher import outside, unwrapped
from sightline.masks.mask import Lowered, Mask, Shape
from sightline.positions import kept_ranges, key_ranges
from sightline.positions.align import FARTHEST


@dataclass(eq=False)
class Span(Mask):
    """Keys ``low <= j < high``, as integers or tensors that broadcast to [B,H,N]."""

    low: Tensor | int
    high: Tensor | int
    name: str = "ranges"

    def visible(self, shape: Shape, device: torch.device) -> Tensor:
        low, high = self._bounds(shape, device)
        key = torch.arange(shape[3], device=device)
        return (key >= low[..., None]) & (key < high[..., None])

    def lower(self, shape: Shape, device: torch.device) -> Lowered:
        n, m = shape[2:]
        if self.name == "lengths" and isinstance(self.high, Tensor) and is_eager(self.high):
            _check_lengths(self.high, shape, device)
            kept = None if device.type != "cpu" else kept_ranges.until(_listed(self.high), n, m)
            if kept is not None:
                return Lowered(kept, None)
        low, high = torch.broadcast_tensors(*self._bounds(shape, device))
        return Lowered(key_ranges.one(low, high, m).expand(-1, -1, n, -1, -1), None)

    def _bounds(self, shape: Shape, device: torch.device) -> tuple[Tensor, Tensor]:
        return self._bound("lo", self.low, shape, device), self._bound("hi", self.high, shape, device)

    def _bound(self, side: str, bound: Tensor | int, shape: Shape, device: torch.device) -> Tensor:
        if isinstance(bound, int):
            return torch.full((1, 1, 1), bound, device=device)
        if self.name == "lengths":
            _check_lengths(bound, shape, device)
            return bound[:, None, None]
        check_device(self.name, bound, device)
        if self.name == "prefix":
            if bound.dim() > 1 or bound.numel() not in (1, shape[0]):
                raise ValueError(
                    f"prefix: expected a number or one per batch entry (B={shape[0]}), "
                    f"got shape {list(bound.shape)}."
                )
            return bound.reshape(-1, 1, 1)
        return fits(f"{self.name} {side}", bound, ("B", "H", "N"), shape[:3])


def prefix(n: int | Tensor) -> Mask:
    """Every query sees the first ``n`` keys; with ``|`` the usual way to keep a prompt or sink tokens.

    Args:
        n: an integer, or a [B] integer tensor; 0 shows nothing, more than M shows all.

    Raises:
        ValueError: if ``n`` is negative; TypeError: if it holds no integers.

    Example:
        >>> import sightline, torch
        >>> prefix_lm = sightline.prefix(2) | sightline.causal()
        >>> prefix_lm.visible((1, 1, 3, 3), torch.device("cpu"))[0, 0].int().tolist()
        [[1, 1, 0], [1, 1, 0], [1, 1, 1]]
    """
    if isinstance(n, Tensor):
        check_integers("prefix n", n)
        if is_eager(n) and n.numel() and int(n.min()) < 0:
            raise ValueError(f"prefix n: must be 0 or more, got {int(n.min())}.")
    else:
        n = min(integer("prefix n", n, 0), FARTHEST)
    return Span(0, n, name="prefix")


def lengths(kv_lengths: Tensor | Sequence[int]) -> Mask:
    """Batch entry b has ``kv_lengths[b]`` keys; the rest is padding. 0 is allowed.

    Args:
        kv_lengths: [B] integers from 0 to M.

    Raises:
        TypeError: for lengths that are no integers. ValueError, in the call: if one is negative or larger
            than M, or there is not one for each batch entry.

    Example:
        >>> import sightline, torch
        >>> sightline.lengths([1, 3]).visible((2, 1, 1, 3), torch.device("cpu"))[:, 0, 0].int().tolist()
        [[1, 0, 0], [1, 1, 1]]
    """
    tensor = integers_tensor("lengths", kv_lengths)
    if tensor.dim() != 1:
        raise ValueError(f"lengths: expected one per batch entry, [B], got shape {list(tensor.shape)}.")
    return Span(0, tensor, name="lengths")


def ranges(lo: Tensor | int, hi: Tensor | int) -> Mask:
    """Each query sees the keys lo <= j < hi; what every other mask but ``dense`` comes down to.

    Args:
        lo, hi: integers or integer tensors that broadcast to [B,H,N]; cut to [0, M]; lo >= hi is empty.

    Raises:
        TypeError: for bounds that are no integers; ValueError, in the call: for a shape that does not fit.

    Example:
        >>> import sightline, torch
        >>> left_padded = sightline.ranges(torch.tensor([2, 0]).view(2, 1, 1), 4)
        >>> left_padded.visible((2, 1, 1, 4), torch.device("cpu"))[:, 0, 0].int().tolist()
        [[0, 0, 1, 1], [1, 1, 1, 1]]
    """
    return Span(_edge("ranges lo", lo), _edge("ranges hi", hi))


def _edge(name: str, bound: Tensor | int) -> Tensor | int:
    """A checked bound; one beyond any text is cut, which changes nothing."""
    if isinstance(bound, Tensor):
        check_integers(name, bound)
        return bound
    return max(-FARTHEST, min(integer(name, bound), FARTHEST))


def _listed(lengths: Tensor) -> list[int]:
    """Outside of transforms: inside of them PyTorch 2.6 lists nothing."""
    with outside():
        listed: list[int] = unwrapped(lengths).tolist()
    return listed


def _check_lengths(bound: Tensor, shape: Shape, device: torch.device) -> None:
    check_device("lengths", bound, device)
    if bound.shape != (shape[0],):
        raise ValueError(
            f"lengths: expected one length per batch entry, [B]=[{shape[0]}], got shape {list(bound.shape)}."
        )
    if not is_eager(bound) or not bound.numel():
        return
    given = _listed(bound)
    least, most = min(given), max(given)
    if least < 0:
        raise ValueError(f"lengths: a length must be 0 or more, got {least}.")
    if most > shape[3]:
        raise ValueError(
            f"lengths: a length of {most} goes beyond the M={shape[3]} keys (axis M). "
            "Lengths count keys, not queries."
        )
