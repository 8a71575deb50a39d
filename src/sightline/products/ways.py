"""The ways to multiply: ``a [N,K] · bᵀ [M,K] + bias [M]``, in the dtype of ``a``, rounded once.

Operands may be transposed views. Autograd sees none of this.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from sightline.common import dispatcher
from sightline.products import native, onednn

#: What may be multiplied otherwise than by PyTorch.
DTYPES = (torch.float32, torch.bfloat16, torch.float16)

#: Bytes of an operand that are converted together. What fits into the caches is read from there at once; new
#: memory for all of a large matrix would take ten times as long as its product with a few rows.
CONVERTED, CONVERTED_FOR_FEW = 1 << 24, 1 << 22
_FEW = 64  # rows


class Way(NamedTuple):
    """One way.

    Attributes:
        title: what it is, in a few words.
        why_not: why it cannot take a dtype on this machine; ``None`` if it can.
        multiply: (a, b, bias) -> the product.
        for_few: whether it may pay for few rows; not if it lays the weights out anew for each product.
    """

    title: str
    why_not: Callable[[torch.dtype], str | None]
    multiply: Callable[[Tensor, Tensor, Tensor | None], Tensor]
    for_few: bool = True


def _by_pytorch(a: Tensor, b: Tensor, bias: Tensor | None) -> Tensor:
    # Without a bias, what PyTorch's own gradients of a linear layer do.
    return torch.mm(a, b.t()) if bias is None else F.linear(a, b, bias)


def _by_native_core(a: Tensor, b: Tensor, bias: Tensor | None) -> Tensor:
    # Batched gradients get here, and modes that count PyTorch's operators.
    if not dispatcher.are_readable((a, b, bias)):
        return _by_pytorch(a, b, bias)
    return native.multiply(a, b, bias)


def _in_float32(a: Tensor, b: Tensor, bias: Tensor | None) -> Tensor:
    height, width = a.shape[0], b.shape[0]
    few = height <= _FEW
    parts = list(_parts(a, CONVERTED)), list(_parts(b, CONVERTED_FOR_FEW if few else CONVERTED))
    if len(parts[0]) == len(parts[1]) == 1:
        return _multiplied_in_float32(a.float(), b, bias).to(a.dtype)
    product = a.new_empty(height, width)
    for rows in parts[0]:
        converted = a[rows].float()
        for cols in parts[1]:
            of_cols = None if bias is None else bias[cols]
            product[rows, cols] = _multiplied_in_float32(converted, b[cols], of_cols)
    return product


def _multiplied_in_float32(a: Tensor, b: Tensor, bias: Tensor | None) -> Tensor:
    b = b.float()
    return torch.mm(a, b.t()) if bias is None else torch.addmm(bias.float(), a, b.t())


def _parts(operand: Tensor, converted: int) -> list[slice]:
    """Rows of an operand that are converted together."""
    height = max(1, converted // (4 * max(1, operand.shape[1])))
    return [slice(first, first + height) for first in range(0, max(1, operand.shape[0]), height)]


#: By name; the first serves where nothing is known.
WAYS: Mapping[str, Way] = MappingProxyType(
    {
        "pytorch": Way("PyTorch's own", lambda dtype: None, _by_pytorch),
        "onednn": Way("oneDNN's inner product", onednn.why_not, onednn.multiply),
        "native": Way("the native core's product", native.why_not, _by_native_core, for_few=False),
        "float32": Way(
            "converted to float32 and back",
            lambda dtype: "it is float32 already" if dtype == torch.float32 else None,
            _in_float32,
        ),
    }
)
