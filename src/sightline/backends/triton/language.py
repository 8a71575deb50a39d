"""Triton; where it is not installed, a stand-in under which kernels can be imported, but not run."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

triton: Any
tl: Any
try:
    import triton
    import triton.language as tl
except ModuleNotFoundError:
    triton, tl = SimpleNamespace(jit=lambda kernel: kernel), None
