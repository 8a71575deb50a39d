"""Processes that share one sequence, as the rooms below them see them: mostly nobody.

Held for the whole process, not for a thread: autograd runs its passes in threads of its own.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor


class Sharing(Protocol):
    """Knows what of a sequence this process holds, and computes attention with the others."""

    def attention(self, query: Tensor, key: Tensor, value: Tensor, **options: Any) -> Any:
        """What :func:`sightline.attention` gives for this process's part of the sequence."""

    def positions(self, count: int, device: torch.device) -> Tensor:
        """Where its ``count`` rows stand in the whole sequence: [count] int64."""


class Watcher(Protocol):
    """Wants to know of calls of attention on several processes."""

    def shared(self, call: SharedCall) -> None:
        """A call has run. Every process is told of it, and may ask the others for what they hold."""


class SharedCall(NamedTuple):
    """A call of attention on several processes, as one of them saw it.

    Attributes:
        query, key, value: its own, as they were given.
        context: [B,H,n,E], of its own queries.
        matrix: of all processes, without dropout.
        dropout: the share of weights that was dropped.
    """

    query: Tensor
    key: Tensor
    value: Tensor
    context: Tensor
    matrix: Any
    dropout: float


_sharing: list[Sharing] = []
_watchers: list[tuple[int, Watcher]] = []

#: What is entered beside each block, by rooms that have something to arrange in it.
beside: list[Callable[[], AbstractContextManager[None]]] = []


def current() -> Sharing | None:
    """The innermost one, if there is any."""
    return _sharing[-1] if _sharing else None


def anybody() -> bool:
    """Whether there is any."""
    return bool(_sharing)


def attention(query: Tensor, key: Tensor, value: Tensor, **options: Any) -> Any:
    """What the innermost one gives."""
    return _sharing[-1].attention(query, key, value, **options)


def enter(sharing: Sharing) -> None:
    """From now on this one is asked."""
    _sharing.append(sharing)
    if "torch._dynamo" in sys.modules:  # compiled code asks, too: messages have no place in a graph
        for name in _UNCOMPILED:
            if name not in _left_out:
                globals()[name] = torch.compiler.disable(globals()[name])
                _left_out.add(name)


def leave() -> None:
    """The one before is asked again."""
    _sharing.pop()


def watch(watcher: Watcher) -> None:
    """From now on this one is told of calls of this thread."""
    _watchers.append((threading.get_ident(), watcher))


def watch_no_more(watcher: Watcher) -> None:
    """The opposite of :func:`watch`; harmless where it does not watch."""
    _watchers[:] = [one for one in _watchers if one[1] is not watcher]


def watchers() -> tuple[Watcher, ...]:
    """Who is told: nobody of what a backward pass computes again."""
    if not _watchers or torch._C._current_graph_task_id() != -1:
        return ()
    here = threading.get_ident()
    return tuple(watcher for thread, watcher in _watchers if thread == here)


def positions(count: int, device: torch.device) -> Tensor:
    """Where ``count`` rows stand in their sequence: [count] int64; without others 0, 1, 2, …"""
    return _shared_positions(count, device) if _sharing else torch.arange(count, device=device)


def _shared_positions(count: int, device: torch.device) -> Tensor:
    return _sharing[-1].positions(count, device)


_UNCOMPILED = ("attention", "_shared_positions")
_left_out: set[str] = set()
