"""The packings that there are, and a layer's weight by one of them, which follows the weight."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from sightline.products import native, onednn
from sightline.products.packing import Multiply, Packing

#: By name.
PACKINGS: Mapping[str, Packing] = MappingProxyType(
    {
        "native": Packing(native.why_not, native.pack),
        "onednn": Packing(onednn.why_not_packed, onednn.pack),
    }
)


class PackedWeight:
    """A layer's weight, packed at its first product and again once it was changed.

    What is followed are changes that PyTorch counts (by optimizers, ``load_state_dict``, ``copy_``) and a new
    ``.data``. It does not count what is written through ``.data``: :meth:`forget` then.

    Copies and pickles begin with nothing.
    """

    def __init__(self) -> None:
        self._packed: tuple[object, Tensor, Multiply] | None = None

    def product(self, name: str, a: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """a [N,K] · weightᵀ [M,K] + bias [M]: [N,M], by the packing of that name."""
        now = (name, weight.data_ptr(), weight._version, weight.dtype, weight.shape, weight.stride())
        packed = self._packed
        if packed is None or packed[0] != now:
            # Its memory is kept, so that no other weight can come to lie where it lay.
            packed = self._packed = (now, weight.detach(), PACKINGS[name].pack(weight.detach()))
        return packed[2](a, bias)

    def forget(self) -> None:
        """Packs anew at the next product."""
        self._packed = None

    def __reduce__(self) -> tuple[Any, ...]:
        return PackedWeight, ()


class Packable:
    """A layer that multiplies with its packed weight where it is given one."""

    packed: PackedWeight | None = None


def can_be_followed(weight: Tensor) -> bool:
    """Whether PyTorch counts a tensor's changes: not those of tensors made in inference mode."""
    return not torch.is_inference(weight)
