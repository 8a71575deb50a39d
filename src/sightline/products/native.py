"""The native core's product of float32 with packed weights."""

from __future__ import annotations

import ctypes
import functools
from typing import Any

import torch
from torch import Tensor

from sightline.core import library as core
from sightline.products.large_pages import move_to_large_pages
from sightline.products.packing import Multiply

_Strides = ctypes.c_int64 * 2


@functools.cache
def why_not(dtype: torch.dtype) -> str | None:
    """Why it cannot multiply this dtype here; ``None`` if it can."""
    if dtype != torch.float32:
        return f"the native core multiplies float32, not {str(dtype).removeprefix('torch.')}"
    return core.available()


def pack(weight: Tensor) -> Multiply:
    """The product with a weight [M,K] that is packed now, for the level of now."""
    if weight.dtype != torch.float32:
        raise ValueError(f"weight: {why_not(weight.dtype)}.")
    level, (columns, depth), lib = core.level(), weight.shape, _library()
    packed = torch.empty(lib.sightline_linear_floats(level, columns, depth))
    strides = _Strides(*weight.stride())
    status = lib.sightline_linear_pack(level, columns, depth, weight.data_ptr(), strides, packed.data_ptr())
    core.check(status, "packing the weights of a linear layer")
    move_to_large_pages([packed])

    def multiply(a: Tensor, bias: Tensor | None) -> Tensor:
        if a.stride(1) != 1:
            a = a.contiguous()
        if bias is not None and bias.stride(0) != 1:
            bias = bias.contiguous()
        product = a.new_empty(len(a), columns)
        status = lib.sightline_linear(
            level, torch.get_num_threads(), len(a), columns, depth, a.data_ptr(), a.stride(0),
            packed.data_ptr(), None if bias is None else bias.data_ptr(), product.data_ptr(), columns,
        )  # fmt: skip
        core.check(status, "linear layer")
        return product

    return multiply


@functools.cache
def _library() -> Any:
    lib = core.library()
    small, size, pointer = ctypes.c_int32, ctypes.c_int64, ctypes.c_void_p
    lib.sightline_linear_floats.restype = size
    lib.sightline_linear_floats.argtypes = [small, size, size]
    lib.sightline_linear_pack.argtypes = [small, size, size, *[pointer] * 3]
    lib.sightline_linear.argtypes = [small, small, *[size] * 3, pointer, size, *[pointer] * 3, size]
    return lib
