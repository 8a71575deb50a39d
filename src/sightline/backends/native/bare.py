"""Attention of nothing else than key ranges by the shortest way: no Problem, no ctypes structure.

That of a short sequence takes 15 µs; what the general way packs and asks for takes twice as long.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from sightline.backends.native.pack import DTYPES, rows_of, strides
from sightline.backends.native.room import room_for_context, room_for_gradient
from sightline.backends.native.structs import BARE, GRADIENTS_LAYOUT, STRIDES_OF
from sightline.backends.problem import Bare
from sightline.core import library as core

#: Address and three strides of what is left out.
_NOTHING = (0, 0, 0, 0)
#: Those of a bias, slopes, a table and sinks, which there are none of.
_NO_OTHERS = (0,) * 8


def forward(bare: Bare, want_lse: bool) -> tuple[Tensor, Tensor | None] | None:
    """(context [B,H,N,E], lse [B,H,N] where wanted); ``None`` where a tensor has to be copied first."""
    packed = _pack(bare)
    if packed is None:
        return None
    query = bare.query
    context = room_for_context(query, bare.value.shape[3])
    lse = torch.empty(query.shape[:3], dtype=torch.float64) if want_lse else None
    status = core.library().sightline_forward(
        core.level(),
        torch.get_num_threads(),
        packed,
        context.data_ptr(),
        STRIDES_OF[3].pack(*context.stride()[:3]),
        None if lse is None else lse.data_ptr(),
    )
    core.check(status, "attention")
    return context, lse


def backward(
    bare: Bare, context: Tensor, lse: Tensor, grad_context: Tensor, wanted: Sequence[bool]
) -> list[Tensor | None] | None:
    """The wanted gradients of query, key and value; ``None`` where a tensor has to be copied first."""
    packed = _pack(bare)
    if packed is None or context.stride()[3] != 1 or not lse.is_contiguous():
        return None
    grad_context = rows_of(grad_context)
    gradients: list[Tensor | None] = []
    outputs: list[int] = []
    for like, want in zip(bare[:3], wanted, strict=True):
        gradient = room_for_gradient(like) if want else None
        gradients.append(gradient)
        outputs += _NOTHING if gradient is None else (gradient.data_ptr(), *gradient.stride()[:3])
    layout = GRADIENTS_LAYOUT.pack(
        context.data_ptr(), *context.stride()[:3], lse.data_ptr(),
        grad_context.data_ptr(), *grad_context.stride()[:3], 0, 0, *outputs, *_NO_OTHERS,
    )  # fmt: skip
    status = core.library().sightline_backward(core.level(), torch.get_num_threads(), packed, layout)
    core.check(status, "attention backward")
    return gradients


def _pack(bare: Bare) -> bytes | None:
    """The C structure of a problem; ``None`` where a tensor has to be copied first."""
    query, key, value, ranges, scale = bare
    of_query, of_key, of_value = query.stride(), key.stride(), value.stride()
    if not of_query[3] == of_key[3] == of_value[3] == 1:
        return None
    of_ranges: tuple[int, ...] = _NOTHING
    slots = 0
    if ranges is not None:
        if ranges.stride()[3:] != (2, 1):
            return None
        of_ranges, slots = (ranges.data_ptr(), *strides(ranges, 3)), ranges.shape[3]
    (b, h, n, d), (_, g, m, _) = query.shape, key.shape
    return BARE.pack(
        b, h, g, n, m, d, value.shape[3], slots, 0,
        query.data_ptr(), *of_query[:3], key.data_ptr(), *of_key[:3], value.data_ptr(), *of_value[:3],
        *of_ranges, scale, 0.0, DTYPES[query.dtype], 0, 0, 0, 0.0,
    )  # fmt: skip
