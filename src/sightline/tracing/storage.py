"""Identity of memory: which storage a tensor lies in, without keeping it alive.

A weak reference keeps the storage's address from being used again, so an address stands for one storage as
long as the reference is held.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef

Value = TypeVar("Value")

_PLAIN = frozenset((Tensor, torch.nn.Parameter, torch.nn.Buffer))
_STRIDED = torch.strided


def is_plain(value: object) -> bool:
    """Whether this is a tensor with memory of its own: no subclass, not nested, not sparse, not fake."""
    return type(value) in _PLAIN and value.layout is _STRIDED and not value.is_nested  # type: ignore[attr-defined]


def address(tensor: Tensor) -> int:
    """The address of the tensor's storage."""
    return tensor.untyped_storage()._cdata  # type: ignore[no-any-return]


class ByStorage(Generic[Value]):
    """A dictionary from storages to values; entries go when their storage does, or when they are too many."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._entries: dict[int, tuple[StorageWeakRef, Value]] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, tensor: Tensor) -> Value | None:
        """The value of the storage that the tensor lies in."""
        if not self._entries:
            return None
        return self.at(address(tensor))

    def at(self, place: int) -> Value | None:
        """The value of the storage with this address."""
        entry = self._entries.get(place)
        return None if entry is None else entry[1]

    def set(self, tensor: Tensor, value: Value) -> None:
        """Remembers a value for the storage that the tensor lies in."""
        if len(self._entries) >= self._limit:
            self._make_room()
        storage = tensor.untyped_storage()
        key = storage._cdata
        known = self._entries.pop(key, None)
        self._entries[key] = (StorageWeakRef(storage) if known is None else known[0], value)

    def drop(self, tensor: Tensor) -> None:
        """Forgets the storage that the tensor lies in."""
        if self._entries:
            self._entries.pop(address(tensor), None)

    def change(self, change: Callable[[Value], Value]) -> None:
        """Makes other values of all that there are."""
        for key, (storage, value) in self._entries.items():
            self._entries[key] = (storage, change(value))

    def clear(self) -> None:
        """Forgets everything."""
        self._entries.clear()

    def prune(self) -> None:
        """Forgets the storages that are gone."""
        self._entries = {key: entry for key, entry in self._entries.items() if not entry[0].expired()}

    def _make_room(self) -> None:
        """Leaves out what is gone, and the older half where that is not enough."""
        self.prune()
        surplus = len(self._entries) - self._limit // 2
        for key in list(self._entries)[: max(0, surplus)]:
            del self._entries[key]
