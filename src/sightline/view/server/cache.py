"""Computed results, kept up to a number of bytes; the least recently used go first."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from threading import Lock
from typing import Any


class Cache:
    """A least-recently-used cache, bounded in bytes. An entry larger than the bound is not kept."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.used = 0
        self._entries: OrderedDict[Hashable, tuple[Any, int]] = OrderedDict()
        self._lock = Lock()

    def get(self, key: Hashable) -> Any:
        """What is kept under ``key``, or ``None``."""
        with self._lock:
            if key not in self._entries:
                return None
            self._entries.move_to_end(key)
            return self._entries[key][0]

    def put(self, key: Hashable, value: Any, size: int) -> None:
        """Keeps ``value``, which holds ``size`` bytes, and drops the oldest entries that no longer fit."""
        with self._lock:
            self._put(key, value, size)

    def get_or_make(self, key: Hashable, make: Callable[[], Any]) -> Any:
        """What is kept under ``key``; else what ``make`` gives, an object with ``nbytes``."""
        with self._lock:
            if key in self._entries:
                self._entries.move_to_end(key)
                return self._entries[key][0]
            made = make()
            self._put(key, made, made.nbytes)
            return made

    def _put(self, key: Hashable, value: Any, size: int) -> None:
        if key in self._entries:
            self.used -= self._entries.pop(key)[1]
        if size > self.limit:
            return
        self._entries[key] = (value, size)
        self.used += size
        while self.used > self.limit:
            _, (_, gone) = self._entries.popitem(last=False)
            self.used -= gone

    def __len__(self) -> int:
        return len(self._entries)
