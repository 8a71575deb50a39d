"""Numbers that a formula gives, kept exact while the model around them is cast and moved."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self

import torch
from torch import Tensor, nn


class Fixed(nn.Module):
    """A module with one buffer that is computed, not trained: never saved, float32 or better.

    ``model.bfloat16()`` rounds buffers as well as weights, and a frequency with 8 bits turns position 1000 by
    radians too little or too much. So the buffer is computed anew whenever the model is cast or moved.
    """

    def __init__(self, name: str) -> None:
        super().__init__()
        self._name = name
        self.register_buffer(name, self._compute().float(), persistent=False)

    def _compute(self) -> Tensor:
        """The numbers in float64, on the CPU."""
        raise NotImplementedError(f"{type(self).__name__} does not define _compute()")

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> Self:
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        cast = getattr(self, self._name)
        if not cast.is_meta:
            dtype = torch.float64 if cast.dtype == torch.float64 else torch.float32
            setattr(self, self._name, self._compute().to(cast.device, dtype))
        return self


def rows_at(start: int | Tensor, count: int, device: torch.device) -> Tensor:
    """The positions of ``count`` rows from ``start``: [N], or [B,N] for [B] starts."""
    steps = torch.arange(count, device=device)
    if isinstance(start, Tensor):
        return start.to(device)[:, None] + steps
    return steps + start
