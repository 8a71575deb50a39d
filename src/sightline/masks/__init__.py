"""What may be looked at: a set of (query, key) pairs, which lowers to ranges of keys."""

from sightline.masks.bands import Window, causal, window
from sightline.masks.mask import Both, Either, Lowered, Mask, as_mask, dense
from sightline.masks.packed import documents
from sightline.masks.spans import Span, lengths, prefix, ranges

__all__ = [
    "Both",
    "Either",
    "Lowered",
    "Mask",
    "Span",
    "Window",
    "as_mask",
    "causal",
    "dense",
    "documents",
    "lengths",
    "prefix",
    "ranges",
    "window",
]
