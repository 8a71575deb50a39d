"""The native core's product of float32, with weights that are packed for it."""

from __future__ import annotations

import ctypes
import functools
import threading
from typing import Any

import torch
from torch import Tensor

from sightline.common.zones import zone
from sightline.core import library as core
from sightline.products.large_pages import move_to_large_pages
from sightline.products.packing import Multiply

_Strides = ctypes.c_int64 * 2
#: Bytes in which weights are packed for one product that a thread keeps for the next: new memory would take
#: a fifth of the time of a product with 1,024 rows.
_KEPT = 64 << 20
_kept = threading.local()


@functools.cache
def why_not(dtype: torch.dtype) -> str | None:
    """Why it cannot multiply this dtype here; ``None`` if it can."""
    if dtype != torch.float32:
        return f"the native core multiplies float32, not {str(dtype).removeprefix('torch.')}"
    return core.available()


def multiply(a: Tensor, b: Tensor, bias: Tensor | None) -> Tensor:
    """a [N,K] · bᵀ [M,K] + bias [M]: [N,M], any strides; b is packed for this product alone."""
    level, columns = core.level(), len(b)
    packed = _scratch(_library().sightline_linear_floats(level, columns, b.shape[1]))
    _pack(level, b, packed)
    return _product(level, a, packed, columns, bias)


def pack(weight: Tensor) -> Multiply:
    """The product with a weight [M,K] that is packed now, for the level of now."""
    if weight.dtype != torch.float32:
        raise ValueError(f"weight: {why_not(weight.dtype)}.")
    level, columns = core.level(), len(weight)
    packed = torch.empty(_library().sightline_linear_floats(level, columns, weight.shape[1]))
    _pack(level, weight, packed)
    move_to_large_pages([packed])

    def product(a: Tensor, bias: Tensor | None) -> Tensor:
        return _product(level, a, packed, columns, bias)

    return product


def _scratch(floats: int) -> Tensor:
    """Memory of this thread, for one product."""
    kept: Tensor | None = getattr(_kept, "memory", None)
    if kept is not None and kept.numel() >= floats:
        return kept
    memory = torch.empty(floats)
    if memory.nbytes <= _KEPT:
        move_to_large_pages([memory])
        _kept.memory = memory
    return memory


def _pack(level: int, weight: Tensor, packed: Tensor) -> None:
    columns, depth = weight.shape
    status = _library().sightline_linear_pack(
        level, torch.get_num_threads(), columns, depth, weight.data_ptr(), _Strides(*weight.stride()),
        packed.data_ptr(),
    )  # fmt: skip
    core.check(status, "packing the weights of a linear layer")


def _product(level: int, a: Tensor, packed: Tensor, columns: int, bias: Tensor | None) -> Tensor:
    if bias is not None and bias.stride(0) != 1:
        bias = bias.contiguous()
    rows, depth = a.shape
    product = a.new_empty(rows, columns)
    with zone("linear"):
        status = _library().sightline_linear(
            level, torch.get_num_threads(), rows, columns, depth, a.data_ptr(), _Strides(*a.stride()),
            packed.data_ptr(), None if bias is None else bias.data_ptr(), product.data_ptr(), columns,
        )  # fmt: skip
    core.check(status, "linear layer")
    return product


@functools.cache
def _library() -> Any:
    lib = core.library()
    small, size, pointer = ctypes.c_int32, ctypes.c_int64, ctypes.c_void_p
    lib.sightline_linear_floats.restype = size
    lib.sightline_linear_floats.argtypes = [small, size, size]
    lib.sightline_linear_pack.argtypes = [small, small, size, size, *[pointer] * 3]
    lib.sightline_linear.argtypes = [small, small, *[size] * 3, *[pointer] * 5, size]
    return lib
