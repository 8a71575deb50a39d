"""What a packed weight is for: the product of any rows with it."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor

#: (a [N,K], bias [M] or None) -> a · weightᵀ + bias [N,M]; autograd does not see it.
Multiply: TypeAlias = Callable[[Tensor, Tensor | None], Tensor]


class Packing(NamedTuple):
    """One way to lay out weights for many products, none of which then has to.

    Attributes:
        why_not: why it cannot take a dtype on this machine; ``None`` if it can.
        pack: weight [M,K], with any strides -> the product with what it holds now.
    """

    why_not: Callable[[torch.dtype], str | None]
    pack: Callable[[Tensor], Multiply]
