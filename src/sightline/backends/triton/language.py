"""Triton; where it is not installed, a stand-in under which kernels can be imported, but not run."""

from __future__ import annotations

from importlib import import_module
from types import SimpleNamespace
from typing import Any

triton: Any
tl: Any
try:
    triton, tl = import_module("triton"), import_module("triton.language")
except ModuleNotFoundError:
    triton, tl = SimpleNamespace(jit=lambda kernel: kernel), None
