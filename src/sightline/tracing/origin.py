"""Whether queries and keys come from the same sequence: self- or cross-attention.

A projection's output comes from what went into it, and so does everything that is computed from it, element
by element, joined, or written into a cache. Attention itself breaks the line. Queries and keys with an origin
in common look at themselves.
"""

from __future__ import annotations

import re
from itertools import count

from torch import Tensor

from sightline.tracing.caught import CaughtCall
from sightline.tracing.storage import ByStorage, is_plain

_CROSS = re.compile(r"cross|encoder_attn|encdec|multihead_attn", re.IGNORECASE)

#: Origins that are remembered of a tensor, the latest.
_DEPTH = 4


class Origins:
    """Where tensors come from, as numbers of tensors that went into projections."""

    def __init__(self) -> None:
        self._of: ByStorage[tuple[int, ...]] = ByStorage(512)
        self._number = count()

    def clear(self) -> None:
        """Forgets everything."""
        self._of.clear()

    def get(self, tensor: Tensor) -> tuple[int, ...]:
        """The tensor's origins, latest first; () if nothing is known."""
        return (self._of.get(tensor) or ()) if is_plain(tensor) else ()

    def at(self, place: int) -> tuple[int, ...]:
        """The same of the storage with this address."""
        return self._of.at(place) or ()

    def projected(self, source: Tensor, out: Tensor) -> None:
        """``out`` is a projection of ``source``, which thereby is an origin."""
        if not (is_plain(source) and is_plain(out)):
            return
        known = self._of.get(source)
        if known is None:
            known = (next(self._number),)
            self._of.set(source, known)
        self._of.set(out, known)

    def derived(self, tensors: list[Tensor], out: Tensor) -> None:
        """``out`` was computed from ``tensors``, element by element: the first with an origin counts."""
        size = out.numel()
        for tensor in tensors:
            if 2 * tensor.numel() >= size:
                known = self._of.get(tensor)
                if known is not None:
                    self._of.set(out, known)
                    return
        for tensor in tensors:
            if tensor.numel() == size and tensor.is_floating_point():
                self.fresh(tensor)
                self._of.set(out, self._of.get(tensor) or ())
                return

    def joined(self, tensors: list[Tensor], out: Tensor) -> None:
        """``out`` holds all of ``tensors``."""
        self._set(out, {number for tensor in tensors for number in self.get(tensor)})

    def written(self, tensor: Tensor, sources: list[Tensor]) -> None:
        """``sources`` were written into a part of ``tensor``: a cache."""
        numbers = set(self.get(tensor))
        for source in sources:
            numbers.update(self.get(source))
        self._set(tensor, numbers)

    def fresh(self, out: Tensor) -> None:
        """``out`` starts a line of its own: a new sequence."""
        if is_plain(out):
            self._of.set(out, (next(self._number),))

    def _set(self, out: Tensor, numbers: set[int]) -> None:
        if numbers and is_plain(out):
            self._of.set(out, tuple(sorted(numbers, reverse=True)[:_DEPTH]))


def kind_of(caught: CaughtCall, name: str, origins: Origins) -> str:
    """Self- or cross-attention, by what the call says itself, its tensors' origins, or its module's name."""
    if caught.cross is not None:
        return "cross" if caught.cross else "self"
    query, key = (
        map(origins.at, caught.made_of) if caught.made_of else map(origins.get, (caught.query, caught.key))
    )
    if query and key:
        return "self" if set(query) & set(key) else "cross"
    if _CROSS.search(name):
        return "cross"
    queries, keys = caught.query.shape[2], caught.key.shape[2]
    return "self" if queries == keys or caught.causal or queries == 1 else "cross"
