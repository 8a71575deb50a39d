"""Autocast, as PyTorch's own attention has it."""

from __future__ import annotations

import torch
from torch import Tensor


def autocast(*tensors: Tensor) -> tuple[Tensor, ...]:
    """Under autocast, float32 and half tensors in the dtype that the region asks for, as SDPA has them."""
    first = tensors[0]
    if not isinstance(first, Tensor):
        return tensors
    kind = first.device.type
    available = kind == "cpu" or torch.amp.is_autocast_available(kind)
    if not available or not torch.is_autocast_enabled(kind):
        return tensors
    dtype = torch.get_autocast_dtype(kind)
    return tuple(
        t.to(dtype) if isinstance(t, Tensor) and t.is_floating_point() and t.dtype != torch.float64 else t
        for t in tensors
    )
