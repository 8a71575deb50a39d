"""What a change is about: heads, entries of the batch, queries and keys, as indices."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from sightline.common.check import integer, shown

#: An index, a list of indices, a range, a slice, a tensor of indices; ``None`` for all.
Indices = int | slice | range | Iterable[int] | Tensor | None


class Selection:
    """Indices along one axis, of whose size nothing is known before the model runs.

    Args:
        name: the argument's name.
        given: what was given for it.
    """

    def __init__(self, name: str, given: Any) -> None:
        self.name = name
        self._slice: slice | None = None
        self._places: list[int] | None = None
        #: Which of the indices were met by a call.
        self.met: set[int] = set()
        if isinstance(given, slice):
            self._slice = given
        elif given is not None:
            self._places = _places(name, given)

    def __repr__(self) -> str:
        if self.whole:
            return "all"
        return str(self._places) if self._slice is None else str(self._slice)

    @property
    def whole(self) -> bool:
        """Whether everything is meant."""
        return self._slice is None and self._places is None

    def within(self, size: int) -> list[int] | None:
        """The indices of an axis of that size, each of which has to be there; ``None`` for all of them.

        Raises:
            ValueError: for an index that is not.
        """
        if self.whole:
            return None
        if self._slice is not None:
            return list(range(size)[self._slice])
        assert self._places is not None
        for place in self._places:
            if not -size <= place < size:
                raise ValueError(
                    f"{self.name}: {place} is out of range: there are {size}, 0 to {size - 1} "
                    f"(or -{size} to -1)."
                )
        return sorted({place % size for place in self._places})

    def met_by(self, start: int, count: int) -> tuple[list[int] | None, list[int]]:
        """Which of ``count`` positions from ``start`` on are meant, and where they stand in what was given.

        Positions count from the first of the whole sequence, negative ones from the end of what there is by
        then. The first is ``None`` for all of them.
        """
        if self.whole:
            return None, list(range(count))
        end = start + count
        if self._slice is not None:
            chosen = range(end)[self._slice]
            here = [place - start for place in chosen if place >= start]
            return here, list(range(len(here)))
        assert self._places is not None
        here, given = [], []
        for order, place in enumerate(self._places):
            at = place + end if place < 0 else place
            if start <= at < end:
                self.met.add(place)
                here.append(at - start)
                given.append(order)
        return here, given

    @property
    def unmet(self) -> list[int]:
        """The indices that no call had."""
        return [place for place in self._places or () if place not in self.met]


def _places(name: str, given: Any) -> list[int]:
    if isinstance(given, Tensor) and given.dim() == 1:
        if given.dtype == torch.bool or given.is_floating_point():
            raise TypeError(f"{name}: takes integer indices, got a tensor of {given.dtype}.")
        given = given.tolist()
    if isinstance(given, (str, bytes, dict)):
        raise TypeError(f"{name}: takes an index, a list of indices, a slice or None, got {shown(given)}.")
    if isinstance(given, Iterable) and not (isinstance(given, Tensor) and given.dim() == 0):
        places = [integer(name, one) for one in given]
        if not places:
            raise ValueError(f"{name}: an empty list changes nothing; None means all of them.")
        return places
    return [integer(name, given)]


def grid(shape: tuple[int, ...], chosen: list[list[int] | None], device: torch.device) -> tuple[Any, ...]:
    """An index of the first axes of a tensor of this shape: where each is one of those chosen."""
    count = len(chosen)
    index = []
    for axis, places in enumerate(chosen):
        if places is None:
            at = torch.arange(shape[axis], device=device)
        else:
            at = torch.tensor(places, device=device, dtype=torch.int64)
        index.append(at.view(*(-1 if a == axis else 1 for a in range(count))))
    return tuple(index)
