"""Norms whose deviations are held at their values, which makes them linear."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def reciprocal_std(norm: nn.Module, x: Tensor) -> Tensor:
    """What a norm multiplies each position of x [B,N,C] with, before its gain: [B,N].

    Raises:
        TypeError: for what is neither a layer norm nor an RMS norm.
    """
    exact = x.detach().to(torch.float64 if x.device.type != "mps" else torch.float32)
    eps: float | None = getattr(norm, "eps", None)
    eps = torch.finfo(x.dtype).eps if eps is None else eps
    if isinstance(norm, nn.LayerNorm):
        return (exact.var(-1, correction=0) + eps).rsqrt()
    if isinstance(norm, nn.RMSNorm):
        return (exact.square().mean(-1) + eps).rsqrt()
    raise TypeError(f"{type(norm).__name__} is no LayerNorm or RMSNorm")


def centred(norm: nn.Module, matrix: Tensor) -> Tensor:
    """A matrix [D,C] behind a norm becomes one in front of it, but for what divides by the deviation.

    ``matrix · (gain ∘ (x − mean(x))) = centred · x``, for an RMS norm without the mean; the norm's bias is
    left out.
    """
    gain = norm.weight
    scaled = matrix * double(gain) if isinstance(gain, Tensor) else matrix
    return scaled - scaled.mean(-1, keepdim=True) if isinstance(norm, nn.LayerNorm) else scaled


def double(tensor: Tensor) -> Tensor:
    """The numbers in float64, on the CPU."""
    return tensor.detach().cpu().double()  # in this order: not every device has float64
