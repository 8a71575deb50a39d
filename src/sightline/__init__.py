"""Sightline: exact self-attention, fast, linear in memory, and open to be looked into at any length."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sightline._version import __version__
from sightline.align import Align
from sightline.attention import attention
from sightline.backend import backend
from sightline.bias import Bias, alibi, relative
from sightline.info import info
from sightline.mask import Mask, causal, dense, documents, lengths, prefix, ranges, window
from sightline.matrix import AttentionMatrix, Readouts
from sightline.trace import load_trace, trace

if TYPE_CHECKING:
    from sightline.sdpa import sdpa_override as sdpa_override

__all__ = [
    "Align",
    "AttentionMatrix",
    "Bias",
    "Mask",
    "Readouts",
    "__version__",
    "alibi",
    "attention",
    "backend",
    "causal",
    "dense",
    "documents",
    "info",
    "lengths",
    "load_trace",
    "prefix",
    "ranges",
    "relative",
    "sdpa_override",
    "trace",
    "window",
]


def __getattr__(name: str) -> Any:
    # Loaded when it is asked for: it puts itself into PyTorch's registry.
    if name == "sdpa_override":
        from sightline.sdpa import sdpa_override

        return sdpa_override
    raise AttributeError(f"module 'sightline' has no attribute {name!r}")
