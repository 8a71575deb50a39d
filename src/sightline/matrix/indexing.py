"""What stands in the brackets of a matrix, brought into one form: one entry for each axis, and new axes."""

from __future__ import annotations

from collections.abc import Sequence
from types import EllipsisType
from typing import Any

import torch
from torch import Tensor

from sightline.common.check import shown

ALL = slice(None)
#: An entry for one axis: an integer takes it away, a tensor of integers chooses along it.
Entry = int | slice | Tensor

_INTEGERS = (torch.int64, torch.int32, torch.int16, torch.int8)


def is_basic(index: tuple[Any, ...]) -> bool:
    """Whether there are only integers, slices and ``...``."""
    return all(type(one) in (int, slice, EllipsisType) for one in index)


def one_per_axis(
    index: tuple[Any, ...], shape: Sequence[int], dropped: tuple[bool, bool]
) -> list[int | slice]:
    """One entry for each of [B,H,N,M].

    Args:
        index: integers, slices and ``...``.
        shape: the matrix's shape, without the axes that are ``dropped``.
        dropped: whether the batch and the head axis were taken away by an integer before.

    Raises:
        IndexError: for too many of them.
    """
    remaining = iter(_without_dots(index, len(index) - index.count(Ellipsis), shape))
    return [ALL if gone else next(remaining) for gone in (*dropped, False, False)]


def entries(index: tuple[Any, ...], shape: Sequence[int], device: torch.device) -> list[Entry | None] | None:
    """The entries for all axes, ``None`` for each new axis; masks as the places that they let through.

    Returns:
        The entries, integers counted from 0, within the axes; ``None`` where a single True or False is among
        them, which chooses along no axis.

    Raises:
        TypeError, IndexError: as for a tensor.
    """
    if len(index) == 1 and isinstance(index[0], list) and not all(_is_place(one) for one in index[0]):
        raise TypeError("index: a list holds integers or bools. Use a tuple or a tensor for anything else.")
    given = [_read(one, device) for one in index]
    if any(isinstance(one, Tensor) and one.dtype == torch.bool and one.dim() == 0 for one in given):
        return None
    taken = sum(map(_axes_of, given))
    found: list[Entry | None] = []
    axis = 0
    for one in _without_dots(given, taken, shape):
        if isinstance(one, Tensor) and one.dtype == torch.bool:
            _check_mask(one, shape, axis)
            found += one.nonzero(as_tuple=True)
        else:
            found.append(None if one is None else _within(one, shape[axis], f"axis {axis}"))
        axis += _axes_of(one)
    return found


def as_slice(index: int | slice, length: int, axis: str) -> slice:
    """A slice with all its parts; an integer becomes a slice of one.

    Raises:
        TypeError: for anything else; IndexError: for an integer out of range; ValueError: for a step below 1.
    """
    if isinstance(index, slice):
        if index.step is not None and index.step < 1:
            raise ValueError(
                f"index: a slice along axis {axis} must have a step of 1 or more, got {index.step}."
            )
        start, stop, step = index.indices(length)
        return slice(start, max(start, stop), step)
    if type(index) is not int and (isinstance(index, bool) or not _is_int(index)):
        raise TypeError(f"index: along axis {axis} a slice or an integer is expected, got {shown(index)}.")
    place = int(index)
    if not -length <= place < length:
        raise IndexError(f"index: {place} is out of range for axis {axis} with {length} entries.")
    place %= length
    return slice(place, place + 1, 1)


def covering(cols: slice, keys: int) -> slice:
    """The columns that hold ``cols``, without a step."""
    start, stop, _ = cols.indices(keys)
    return slice(start, max(start, stop))


def runs(places: Tensor, gap: int = 16) -> tuple[list[slice], Tensor]:
    """Slices that cover some places of an axis, and where in these, one after another, each place then is.

    Args:
        places: integers from 0, in any order and shape.
        gap: how many places that nobody asked for a slice may have in between.
    """
    wanted = places.unique()
    cuts = (wanted.diff() > gap).nonzero().flatten() + 1
    pieces = [piece for piece in wanted.tensor_split(cuts.cpu()) if len(piece)]
    slices = [slice(int(piece[0]), int(piece[-1]) + 1, 1) for piece in pieces] or [slice(0, 0, 1)]
    covered = torch.cat([torch.arange(s.start, s.stop, device=places.device) for s in slices])
    return slices, torch.searchsorted(covered, places)


def _without_dots(given: Sequence[Any], taken: int, shape: Sequence[int]) -> list[Any]:
    """The entries with ``...``, or nothing at the end, as whole axes."""
    dots = [place for place, one in enumerate(given) if one is Ellipsis]
    if len(dots) > 1 or taken > len(shape):
        raise IndexError(f"index: too many indices ({taken}) for shape {list(shape)}.")
    at = dots[0] if dots else len(given)
    return [*given[:at], *[ALL] * (len(shape) - taken), *given[at + 1 :]]


def _read(one: Any, device: torch.device) -> Any:
    """``None``, ``...``, a slice, an int, or a tensor of integers or bools."""
    if one is None or isinstance(one, (slice, EllipsisType)):
        return one
    if not isinstance(one, (bool, Tensor)) and _is_int(one):
        return int(one)
    try:
        tensor = torch.as_tensor(one, device=device)
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(
            "index: takes integers, slices, ..., None, and lists, arrays and tensors of integers or bools, "
            f"got {shown(one)}."
        ) from error
    if isinstance(one, (list, tuple)) and not tensor.numel():
        tensor = tensor.long()
    if tensor.dtype in (torch.bool, torch.uint8):
        return tensor.bool()
    if tensor.dtype not in _INTEGERS:
        raise IndexError(f"index: tensors used as indices must hold integers or bools, got {tensor.dtype}.")
    return int(tensor) if tensor.dim() == 0 else tensor.long()


def _axes_of(one: Any) -> int:
    """How many axes of the matrix an entry speaks of."""
    if one is None or one is Ellipsis:
        return 0
    return one.dim() if isinstance(one, Tensor) and one.dtype == torch.bool else 1


def _within(one: Entry, length: int, axis: str) -> Entry:
    if isinstance(one, slice):
        return as_slice(one, length, axis)
    if isinstance(one, int):
        return int(as_slice(one, length, axis).start)
    if one.numel() and not (-length <= int(one.min()) and int(one.max()) < length):
        raise IndexError(
            f"index: {int(one.min())} to {int(one.max())} is out of range for {axis} with {length} entries."
        )
    return one % length if length else one


def _check_mask(mask: Tensor, shape: Sequence[int], axis: int) -> None:
    meant = list(shape[axis : axis + mask.dim()])
    if list(mask.shape) != meant:
        raise IndexError(
            f"index: the mask has shape {list(mask.shape)}, but the axes from {axis} on have {meant}."
        )


def _is_place(one: Any) -> bool:
    return isinstance(one, bool) or _is_int(one)


def _is_int(index: Any) -> bool:
    if isinstance(index, Tensor) or getattr(index, "ndim", 0) > 0:
        return False
    return hasattr(index, "__index__") and type(index).__name__ not in ("bool_", "bool")
