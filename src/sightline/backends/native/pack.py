"""A problem as the native core takes it: addresses and strides, and the tensors that keep them valid."""

from __future__ import annotations

from collections.abc import Callable
from operator import attrgetter

import torch
from torch import Tensor

from sightline.backends.dropout import keeping
from sightline.backends.native.structs import HEAD, NUMBERS, NUMBERS_AT, PLACES, TERM, ProblemStruct
from sightline.backends.problem import Problem

#: The header's sightline_dtype.
DTYPES = {torch.float32: 0, torch.bfloat16: 1, torch.float16: 2}

_NOTHING: tuple[int, ...] = (0, 0, 0, 0)


def pack(problem: Problem) -> tuple[ProblemStruct, list[Tensor]]:
    """The problem as the C structure, and the tensors that must stay alive while it is used."""
    query, key, value = rows_of(problem.query), rows_of(problem.key), problem.value
    b, h, n, d = query.shape
    _, g, m, _ = key.shape
    packed, alive = ProblemStruct(), [query, key]
    e, of_value = 0, _NOTHING
    if value is not None:
        value = rows_of(value)
        alive.append(value)
        e, of_value = value.shape[3], (value.data_ptr(), *value.stride()[:3])
    ranges, table = problem.ranges, problem.table
    HEAD.pack_into(
        packed, 0, b, h, g, n, m, d, e,
        0 if ranges is None else ranges.shape[3],
        0 if table is None else table.shape[1] // 2,
        query.data_ptr(), *query.stride()[:3], key.data_ptr(), *key.stride()[:3], *of_value,
    )  # fmt: skip
    for (name, place, axes), tensor in zip(_PLACES, _optional(problem), strict=True):
        if tensor is not None:
            tensor = _READ.get(name, _as_it_is)(tensor)
            alive.append(tensor)
            TERM[axes].pack_into(packed, place, tensor.data_ptr(), *strides(tensor, axes))
    NUMBERS.pack_into(
        packed, NUMBERS_AT, problem.scale, problem.softcap or 0.0, DTYPES[query.dtype],
        0 if problem.bias is None else DTYPES.get(problem.bias.dtype, 0), *_dropout(problem),
    )  # fmt: skip
    return packed, alive


def strides(tensor: Tensor, axes: int) -> tuple[int, ...]:
    """The strides of the leading axes: 0 along one that broadcasts."""
    pairs = zip(tensor.stride()[:axes], tensor.shape, strict=False)
    return tuple([0 if size == 1 else stride for stride, size in pairs])


def term(tensor: Tensor | None, axes: int, alive: list[Tensor]) -> tuple[int, ...]:
    """Address, then the strides of the leading axes; zeros for none. Kept alive."""
    if tensor is None:
        return (0,) * (axes + 1)
    alive.append(tensor)
    return tensor.data_ptr(), *strides(tensor, axes)


def rows_of(tensor: Tensor) -> Tensor:
    """The tensor with a contiguous last axis, which the kernels read as vectors."""
    return tensor if _has_rows(tensor) else tensor.contiguous()


def copied(problem: Problem) -> dict[str, str]:
    """By name, the tensors that :func:`pack` copies, and why, with the remedy."""
    copies = {
        name: f"its last axis is not contiguous (stride {tensor.stride(-1)}); lay it out with .contiguous()"
        for name, tensor in (("query", problem.query), ("key", problem.key), ("value", problem.value))
        if tensor is not None and not _has_rows(tensor)
    }
    if problem.bias is not None and problem.bias.dtype not in DTYPES:
        copies["bias"] = f"its dtype is {problem.bias.dtype}; give it as float32"
    return copies


def _has_rows(tensor: Tensor) -> bool:
    return tensor.stride(-1) == 1 or tensor.shape[-1] == 1


def _dropout(problem: Problem) -> tuple[int, int, float]:
    """Seed, threshold, scale of what is kept."""
    if problem.seed is None or problem.dropout == 0:
        return 0, 0, 0.0
    return int(problem.seed) % 2**64, *keeping(problem.dropout)


def _float(tensor: Tensor) -> Tensor:
    """A term in contiguous float32."""
    return tensor.float().contiguous()


def _pairs(ranges: Tensor) -> Tensor:
    """The ranges with contiguous (lo, hi) pairs."""
    return ranges if ranges.stride(-1) == 1 and ranges.stride(-2) == 2 else ranges.contiguous()


def _bias(bias: Tensor) -> Tensor:
    return bias if bias.dtype in DTYPES else bias.float()


def _as_it_is(tensor: Tensor) -> Tensor:
    return tensor


# What a term is brought into before its address is taken.
_READ: dict[str, Callable[[Tensor], Tensor]] = {
    **dict.fromkeys(("slopes", "table", "sinks"), _float),
    "ranges": _pairs,
    "bias": _bias,
}
_PLACES = tuple((name, place, axes) for name, (place, axes) in PLACES.items())
_optional = attrgetter(*PLACES)
