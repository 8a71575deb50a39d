"""The one door to oneDNN's products, which PyTorch's CPU builds carry behind private names."""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Tensor

from sightline.products.large_pages import move_spans
from sightline.products.packing import Multiply


@functools.cache
def why_not(dtype: torch.dtype) -> str | None:
    """Why it cannot multiply this dtype here; ``None`` if it can. Asked by multiplying something small."""
    if not torch.backends.mkldnn.is_available():
        return "this PyTorch was built without oneDNN"
    a, b = (torch.ones(rows, 16, dtype=dtype) for rows in (4, 8))
    try:
        with torch.no_grad():
            found = multiply(a, b, torch.ones(8, dtype=dtype))
    except (AttributeError, RuntimeError, TypeError) as error:
        return f"oneDNN refuses {str(dtype).removeprefix('torch.')} here: {str(error).partition('. ')[0]}"
    if found.shape != (4, 8) or found.dtype != dtype or not bool((found == 17).all()):
        return "oneDNN multiplies wrongly here"
    return None


def multiply(a: Tensor, b: Tensor, bias: Tensor | None) -> Tensor:
    """a [N,K] · bᵀ [M,K] + bias [M]: [N,M]; autograd does not see it."""
    product: Tensor = torch.ops.mkldnn._linear_pointwise(_dense(a), _dense(b), bias, "none", [], "")
    return product


def why_not_packed(dtype: torch.dtype) -> str | None:
    """Why it cannot multiply this dtype with packed weights; ``None`` if it can."""
    if dtype == torch.float32:
        return "of few rows its float32 is three times as far off as PyTorch's"
    return why_not(dtype)


def pack(weight: Tensor) -> Multiply:
    """The product with a weight [M,K] that is packed now."""
    packed = torch.ops.mkldnn._reorder_linear_weight(_dense(weight))
    move_spans([_span(packed)])

    def product(a: Tensor, bias: Tensor | None) -> Tensor:
        found: Tensor = torch.ops.mkldnn._linear_pointwise(_dense(a), packed, bias, "none", [], "")
        return found

    return product


def _span(packed: Tensor) -> tuple[int, int]:
    """The addresses of a tensor in a layout of oneDNN's; (0, 0) where this PyTorch does not tell."""
    try:
        begin = int(torch.ops.mkldnn.data_ptr(packed))
        return begin, begin + int(torch.ops.mkldnn._nbytes(packed))
    except (AttributeError, RuntimeError):
        return 0, 0


def _dense(operand: Tensor) -> Tensor:
    """Without gaps between rows or columns: oneDNN takes others, and hundreds of times as long."""
    return operand if operand.is_contiguous() or operand.t().is_contiguous() else operand.contiguous()


def operator() -> Any:
    """PyTorch's operator, as modes see it; ``None`` where there is none."""
    try:
        return torch.ops.mkldnn._linear_pointwise.default
    except AttributeError:
        return None
