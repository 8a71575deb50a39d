"""The native core's stages as zones of PyTorch's profiler.

The core calls back where a stage of its work begins and ends, on the thread that called it; what other
threads do meanwhile is not seen. Callbacks are set while a profiler runs, and cost nothing otherwise.
"""

from __future__ import annotations

import ctypes
import functools
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

from torch.autograd.profiler import record_function

from sightline.common.vocabulary import STAGES
from sightline.common.zones import profiled
from sightline.core.library import library

_CALLBACK = ctypes.CFUNCTYPE(None, ctypes.c_int32)
#: Stages from this number on are those of gradients.
_OF_GRADIENT = 16
_NOTHING = nullcontext()


def watching() -> AbstractContextManager[None]:
    """While a profiler runs, a zone for each stage of the calls in this block."""
    return _watching() if profiled() else _NOTHING


@contextmanager
def _watching() -> Iterator[None]:
    enter, leave = _callbacks()
    library().sightline_watch(enter, leave)
    try:
        yield
    finally:
        library().sightline_watch(_CALLBACK(), _CALLBACK())


@functools.cache
def _callbacks() -> tuple[Any, Any]:
    """What the core calls at the beginning and at the end of a stage; zones do not nest."""
    current = threading.local()

    def enter(stage: int) -> None:
        current.zone = record_function(f"sightline::{_name(stage)}")
        current.zone.__enter__()

    def leave(stage: int) -> None:
        current.zone.__exit__(None, None, None)

    return _CALLBACK(enter), _CALLBACK(leave)


@functools.cache
def _name(stage: int) -> str:
    return STAGES[stage] if stage < _OF_GRADIENT else f"grad_{STAGES[stage - _OF_GRADIENT]}"
