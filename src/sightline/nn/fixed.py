"""Numbers that a formula gives, kept exact while the model around them is cast, moved and loaded."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self

import torch
from torch import Tensor, nn

from sightline.common import several
from sightline.common.check import check_integers, integer


class Fixed(nn.Module):
    """A module with one buffer that is computed, not trained: never saved, float32 or better.

    ``model.bfloat16()`` rounds buffers as well as weights, and a frequency with 8 bits turns position 1000 by
    radians too little or too much. So the buffer is computed anew whenever the model is cast or moved. It is
    also when a model that was built without memory, on "meta", gets its weights: none of them are for it.
    """

    def __init__(self, name: str) -> None:
        super().__init__()
        self._name = name
        self.register_buffer(name, self._made(default_device(), torch.float32), persistent=False)

    def _compute(self) -> Tensor:
        """The numbers in float64, on the CPU."""
        raise NotImplementedError(f"{type(self).__name__} does not define _compute()")

    def numbers(self, device: torch.device) -> Tensor:
        """The buffer, where it is needed."""
        held: Tensor = getattr(self, self._name)
        if held.device == device:
            return held
        made = self._made(device, held.dtype)
        if not made.is_meta:
            setattr(self, self._name, made)
        return made

    def _made(self, device: torch.device, dtype: torch.dtype) -> Tensor:
        return self._compute().to(device, torch.float64 if dtype == torch.float64 else torch.float32)

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> Self:
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        cast = getattr(self, self._name)
        setattr(self, self._name, self._made(cast.device, cast.dtype))
        return self

    def _load_from_state_dict(self, *arguments: Any) -> None:
        super()._load_from_state_dict(*arguments)
        held = getattr(self, self._name)
        if held.is_meta:
            setattr(self, self._name, self._made(default_device(), held.dtype))


def default_device() -> torch.device:
    """Where new tensors go; ``torch.get_default_device`` of PyTorch 2.6 misses ``with torch.device(...)``."""
    return torch.empty(0).device


def rows_at(start: int | Tensor, x: Tensor, axis: int) -> Tensor:
    """The positions of the rows of x [B,...], which lie along an axis, from ``start``: [N], or [B,N].

    Where several processes share a sequence, they are those of the rows that this one holds.

    Raises:
        TypeError: for a start that is neither an integer nor a tensor of integers; ValueError: for a tensor
            of another length than B.
    """
    steps = several.positions(x.shape[axis], x.device)
    if not isinstance(start, Tensor):
        return steps + integer("offset", start)
    check_integers("offset", start)
    if start.is_meta and not x.is_meta:
        raise ValueError(f"offset: on meta, where there are no numbers. Give it on {x.device}.")
    if start.dim() == 0:
        return steps + start.to(x.device)
    if start.dim() != 1 or start.shape[0] not in (1, x.shape[0]):
        raise ValueError(
            f"offset: shape {list(start.shape)} does not fit the batch B={x.shape[0]} (axis B). Give [B] "
            "integers, or one."
        )
    return start.to(x.device)[:, None] + steps
