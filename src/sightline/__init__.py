"""Sightline: exact self-attention, fast, linear in memory, and open to be looked into at any length."""

from sightline._version import __version__
from sightline.align import Align
from sightline.attention import attention
from sightline.backend import backend
from sightline.bias import Bias, alibi, relative
from sightline.info import info
from sightline.mask import Mask, causal, dense, documents, lengths, prefix, ranges, window
from sightline.matrix import AttentionMatrix, Readouts
from sightline.trace import load_trace, trace

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
    "trace",
    "window",
]
