"""Whether Triton is there, which PyTorch's compiler for GPUs and our kernels need."""

from __future__ import annotations

import importlib.util
from functools import cache


@cache
def missing() -> str | None:
    """Why Triton is not there; ``None`` if it is."""
    if importlib.util.find_spec("triton") is None:
        return "Triton is not installed"
    return None
