"""Compiled functions run as they were written while a trace is open: compiled code shows no operations."""

from __future__ import annotations

import threading
from typing import Any

import torch

_lock = threading.Lock()
_open = 0
_stance: Any = None


def run_uncompiled() -> None:
    """Compiled functions run as they were written, in all threads, until the last trace is closed."""
    global _open, _stance
    with _lock:
        _open += 1
        if _open == 1:
            _stance = torch.compiler.set_stance("force_eager")
            _stance.__enter__()


def compile_again() -> None:
    """The opposite of :func:`run_uncompiled`."""
    global _open, _stance
    with _lock:
        _open -= 1
        if _open == 0:
            stance, _stance = _stance, None
            stance.__exit__(None, None, None)
