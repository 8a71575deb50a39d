"""Who is told of each call of attention, above autograd: of each thread its own, and mostly nobody."""

from __future__ import annotations

import threading
from typing import Protocol

import torch

from sightline.matrix import AttentionMatrix


class Listener(Protocol):
    """Is told of calls.

    Attributes:
        follows: whether gradients are to flow from the matrices that it is given.
    """

    follows: bool

    def told(self, matrix: AttentionMatrix) -> None:
        """A call has run, and this is its matrix [B,H,N,M], without dropout."""


class _Listeners(threading.local):
    def __init__(self) -> None:
        self.all: list[Listener] = []


_listeners = _Listeners()


def listen(listener: Listener) -> None:
    """Tells the listener of every call of this thread."""
    _listeners.all.append(listener)


def stop_listening(listener: Listener) -> None:
    """The opposite of :func:`listen`, from the same thread; harmless where it does not listen."""
    for place, one in enumerate(_listeners.all):
        if one is listener:
            del _listeners.all[place]
            return


def anybody() -> bool:
    """Whether anybody is to be told: not of compiled code, nor of what a backward pass computes again."""
    if torch.compiler.is_compiling() or not _listeners.all:
        return False
    return bool(torch._C._current_graph_task_id() == -1)


def anybody_follows() -> bool:
    """Whether somebody wants gradients to flow from the matrix."""
    return any(listener.follows for listener in _listeners.all)


def tell(matrix: AttentionMatrix) -> None:
    """Tells everybody of a call."""
    for listener in list(_listeners.all):
        listener.told(matrix)
