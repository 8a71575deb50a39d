"""Processes that share one sequence, as the rooms below them see them: mostly nobody.

Held for the whole process, not for a thread: autograd runs its passes in threads of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Protocol

import torch
from torch import Tensor


class Sharing(Protocol):
    """Knows what of a sequence this process holds, and computes attention with the others."""

    def attention(self, query: Tensor, key: Tensor, value: Tensor, **options: Any) -> Any:
        """What :func:`sightline.attention` gives for this process's part of the sequence."""

    def positions(self, count: int, device: torch.device) -> Tensor:
        """Where its ``count`` rows stand in the whole sequence: [count] int64."""


_sharing: list[Sharing] = []

#: What is entered beside each block, by rooms that have something to arrange in it.
beside: list[Callable[[], AbstractContextManager[None]]] = []


def current() -> Sharing | None:
    """The innermost one, if there is any."""
    return _sharing[-1] if _sharing else None


def enter(sharing: Sharing) -> None:
    """From now on this one is asked."""
    _sharing.append(sharing)


def leave() -> None:
    """The one before is asked again."""
    _sharing.pop()


def positions(count: int, device: torch.device) -> Tensor:
    """Where ``count`` rows stand in their sequence: [count] int64; without others 0, 1, 2, …"""
    sharing = current()
    return torch.arange(count, device=device) if sharing is None else sharing.positions(count, device)
