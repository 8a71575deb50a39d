"""Indices of a matrix [B,H,N,M]: integers, slices and ..., brought into one form."""

from __future__ import annotations

from collections.abc import Sequence
from types import EllipsisType
from typing import Any

from torch import Tensor

ALL = slice(None)


def one_per_axis(index: Any, shape: Sequence[int], dropped: tuple[bool, bool]) -> list[int | slice]:
    """One index for each of [B,H,N,M].

    Args:
        index: what stood in the brackets.
        shape: the matrix's shape, without the axes that are ``dropped``.
        dropped: whether the batch and the head axis were taken away by an integer before.

    Raises:
        TypeError: for anything but integers, slices and ...; IndexError: for too many of them.
    """
    given = list(index) if isinstance(index, tuple) else [index]
    for one in given:
        if isinstance(one, bool) or not (isinstance(one, (slice, EllipsisType)) or _is_int(one)):
            raise TypeError(
                f"index: takes integers, slices and ..., got {type(one).__name__}. "
                "For one key per query call A.gather(indices); for anything else A.dense()[...]."
            )
    dots = [place for place, one in enumerate(given) if one is Ellipsis]
    if len(dots) > 1 or len(given) - len(dots) > len(shape):
        raise IndexError(f"index: too many indices ({len(given)}) for shape {list(shape)}.")
    at = dots[0] if dots else len(given)
    fill = [ALL] * (len(shape) - len(given) + len(dots))
    full = [one if isinstance(one, slice) else int(one) for one in (*given[:at], *fill, *given[at + 1 :])]
    remaining = iter(full)
    return [ALL if gone else next(remaining) for gone in (*dropped, False, False)]


def as_slice(index: int | slice, length: int, axis: str) -> slice:
    """A slice with all its parts; an integer becomes a slice of one.

    Raises:
        IndexError: for an integer out of range; ValueError: for a step below 1.
    """
    if isinstance(index, slice):
        if index.step is not None and index.step < 1:
            raise ValueError(
                f"index: a slice along axis {axis} must have a step of 1 or more, got {index.step}."
            )
        start, stop, step = index.indices(length)
        return slice(start, max(start, stop), step)
    if not -length <= index < length:
        raise IndexError(f"index: {index} is out of range for axis {axis} with {length} entries.")
    index %= length
    return slice(index, index + 1, 1)


def covering(cols: slice, keys: int) -> slice:
    """The columns that hold ``cols``, without a step."""
    start, stop, _ = cols.indices(keys)
    return slice(start, max(start, stop))


def _is_int(index: Any) -> bool:
    return hasattr(index, "__index__") and not isinstance(index, Tensor)
