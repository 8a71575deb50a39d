"""Norms whose statistics are held at their values, which makes them linear."""

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


def frozen(norm: nn.Module, x: Tensor, rstd: Tensor) -> Tensor:
    """The norm without its bias, as the linear map that it is at one position.

    ``gain ∘ (x − mean(x)) · rstd``, for an RMS norm without the mean.

    Args:
        norm: the norm.
        x: [n,C], one part of what it was given.
        rstd: [n], from :func:`reciprocal_std` of the whole.
    """
    centred = x - x.mean(-1, keepdim=True) if isinstance(norm, nn.LayerNorm) else x
    scaled = centred * rstd[:, None]
    gain = norm.weight
    return scaled * double(gain) if isinstance(gain, Tensor) else scaled


def double(tensor: Tensor) -> Tensor:
    """The numbers in float64, on the CPU."""
    return tensor.detach().to("cpu", torch.float64)
