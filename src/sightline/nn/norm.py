"""The norms that a block can have."""

from __future__ import annotations

from typing import Literal, get_args

from torch import nn

from sightline.common.check import choice, number

Norm = Literal["layer", "rms"]


def make_norm(norm: Norm, width: int, eps: float) -> nn.Module:
    """A layer norm or RMS norm of the given width.

    Raises:
        ValueError: for an unknown norm, or a negative eps.
    """
    choice("norm", norm, get_args(Norm))
    eps = number("norm_eps", eps, 0)
    return nn.LayerNorm(width, eps=eps) if norm == "layer" else nn.RMSNorm(width, eps=eps)
