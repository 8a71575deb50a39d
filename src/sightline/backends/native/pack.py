"""A problem as the native core takes it: addresses and strides, and the tensors that keep them valid."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from sightline.backends.dropout import keeping
from sightline.backends.native.structs import HEAD, NUMBERS, NUMBERS_AT, PLACES, TERM, ProblemStruct
from sightline.backends.problem import Problem

#: The header's sightline_dtype.
DTYPES = {torch.float32: 0, torch.bfloat16: 1, torch.float16: 2}


def pack(problem: Problem) -> tuple[ProblemStruct, list[Tensor]]:
    """The problem as the C structure, and the tensors that must stay alive while it is used."""
    b, h, n, m = problem.shape
    value, ranges, table, bias = problem.value, problem.ranges, problem.table, problem.bias
    packed, alive = ProblemStruct(), []
    HEAD.pack_into(
        packed, 0, b, h, problem.key.shape[1], n, m, problem.query.shape[3],
        0 if value is None else value.shape[3],
        0 if ranges is None else ranges.shape[3],
        0 if table is None else table.shape[1] // 2,
    )  # fmt: skip
    for name, read, place, axes, layout in _TERMS:
        tensor = getattr(problem, name)
        if tensor is None:
            continue
        if read is not None:
            tensor = read(tensor)
        alive.append(tensor)
        layout.pack_into(packed, place, tensor.data_ptr(), *strides(tensor, axes))
        if name == "bias":
            bias = tensor
    NUMBERS.pack_into(
        packed, NUMBERS_AT, problem.scale, problem.softcap or 0.0, DTYPES[problem.query.dtype],
        0 if bias is None else DTYPES[bias.dtype], *_dropout(problem),
    )  # fmt: skip
    return packed, alive


def strides(tensor: Tensor, axes: int) -> tuple[int, ...]:
    """The strides of the leading axes: 0 along one that broadcasts."""
    given = tensor.stride()[:axes]
    shape = tensor.shape
    if 1 not in shape[:axes]:
        return given
    return tuple(0 if size == 1 else stride for stride, size in zip(given, shape, strict=False))


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


# What a term is brought into before its address is taken.
_READ: dict[str, Callable[[Tensor], Tensor]] = {
    **dict.fromkeys(("query", "key", "value"), rows_of),
    **dict.fromkeys(("slopes", "table", "sinks"), _float),
    "ranges": _pairs,
    "bias": _bias,
}
_TERMS = tuple((name, _READ.get(name), place, axes, TERM[axes]) for name, (place, axes) in PLACES.items())
