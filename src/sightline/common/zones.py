"""Named zones in PyTorch's profiler, of no cost where none runs."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch.autograd.profiler import record_function

_NOTHING = nullcontext()
# A private name: where a later PyTorch drops it, there are no zones.
_enabled = getattr(torch.autograd, "_profiler_enabled", lambda: False)


def profiled() -> bool:
    """Whether a profiler runs in this thread."""
    if torch.compiler.is_compiling():  # asked first: the compiler knows this question alone
        return False
    return bool(_enabled())


def zone(name: str) -> AbstractContextManager[object]:
    """A zone ``sightline::name`` around a block, where a profiler runs."""
    return record_function(f"sightline::{name}") if profiled() else _NOTHING
