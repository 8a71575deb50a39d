"""The norms that a block can have."""

from __future__ import annotations

from typing import Literal, get_args

from torch import nn

Norm = Literal["layer", "rms"]


def make_norm(norm: Norm, width: int, eps: float) -> nn.Module:
    """A layer norm or RMS norm of the given width.

    Raises:
        ValueError: for an unknown norm.
    """
    if norm not in get_args(Norm):
        raise ValueError(f"norm: there is no {norm!r}; known: {', '.join(get_args(Norm))}.")
    return nn.LayerNorm(width, eps=eps) if norm == "layer" else nn.RMSNorm(width, eps=eps)
