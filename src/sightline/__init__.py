"""Sightline: exact self-attention, fast, linear in memory, and open to be looked into at any length."""

from sightline._version import __version__
from sightline.align import Align
from sightline.attention import attention
from sightline.backend import backend
from sightline.bias import Bias, alibi, relative
from sightline.explain import Explanation, explain
from sightline.info import info
from sightline.mask import Mask, causal, dense, documents, lengths, prefix, ranges, window
from sightline.matrix import AttentionMatrix, Readouts

__all__ = [
    "Align",
    "AttentionMatrix",
    "Bias",
    "Explanation",
    "Mask",
    "Readouts",
    "__version__",
    "alibi",
    "attention",
    "backend",
    "causal",
    "dense",
    "documents",
    "explain",
    "info",
    "lengths",
    "prefix",
    "ranges",
    "relative",
    "window",
]
