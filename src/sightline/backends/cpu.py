"""The cpu backend: the native kernels, forward, backward and readouts, for float32, bfloat16 and float16."""

from __future__ import annotations

import ctypes
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from sightline.backends import native
from sightline.backends.dropout import keeping
from sightline.backends.native import GRADIENTS, PROBLEM, PlanStruct, ProblemStruct, ReadoutsStruct
from sightline.backends.problem import Problem, empty_context, empty_gradient

PATHS = ("blocks", "decode")  # by number, as in the header's sightline_path
# sightline_dtype
DTYPES = {torch.float32: 0, torch.bfloat16: 1, torch.float16: 2}


def why_not(problem: Problem) -> str | None:
    """Why this backend cannot take the problem, or ``None`` if it can."""
    found = obstacle(problem)
    return None if found is None else found[0]


def obstacle(problem: Problem) -> tuple[str, str] | None:
    """Why this backend cannot take the problem, and the remedy; ``None`` if it can."""
    if problem.query.device.type != "cpu":
        return f"the tensors are on {problem.query.device}, and it runs on the CPU", "Use .cpu()"
    if problem.query.dtype not in DTYPES:
        return (
            f"the dtype is {problem.query.dtype}, and it takes float32, bfloat16 and float16",
            "Use .float() where that is precise enough",
        )
    missing = native.available()
    return None if missing is None else (missing.rstrip("."), "sightline.info() says what is there")


def forward(problem: Problem, want_lse: bool = True) -> tuple[Tensor, Tensor | None]:
    """(context [B,H,N,E] in the query's dtype, lse [B,H,N] in float32 where wanted)."""
    assert problem.value is not None
    context = _room(problem.query, problem.value)
    lse = torch.empty(problem.query.shape[:3], dtype=torch.float32) if want_lse else None
    _forward(problem, context, lse)
    return context, lse


def _room(query: Tensor, value: Tensor) -> Tensor:
    """``empty_context``, by the shortest way in the commonest case."""
    if query.shape[3] == value.shape[3] and query.is_contiguous():
        return torch.empty_like(query)
    return empty_context(query, value.shape[3])


def backward(
    problem: Problem,
    context: Tensor,
    lse: Tensor,
    grad_context: Tensor,
    grad_lse: Tensor | None,
    wanted: Collection[str],
) -> dict[str, Tensor]:
    """The wanted ones of the gradients of query, key, value, bias, slopes, table and sinks, by name.

    Those of query, key and value have their dtype and layout, the others are contiguous float32.
    """
    packed, alive = pack(problem)
    context, grad_context, lse = _rows(context), _rows(grad_context), lse.contiguous()
    out = {
        name: empty_gradient(
            name, tensor, tensor.dtype if name in ("query", "key", "value") else torch.float32
        )
        for name, tensor in ((name, getattr(problem, name)) for name in wanted)
    }
    grad_lse = None if grad_lse is None else grad_lse.float().contiguous()

    room = {
        name: _term(out.get(name), axes, alive)
        for name, axes in (("query", 3), ("key", 3), ("value", 3), ("bias", 4))
    }
    addresses = (out[name].data_ptr() if name in out else 0 for name in ("slopes", "table", "sinks"))
    gradients = GRADIENTS.pack(
        *_term(context, 3, alive), lse.data_ptr(), *_term(grad_context, 3, alive),
        0 if grad_lse is None else grad_lse.data_ptr(),
        *room["query"], *room["key"], *room["value"], *room["bias"], *addresses,
    )  # fmt: skip
    status = native.library().sightline_backward(
        native.level(), torch.get_num_threads(), ctypes.addressof(packed), gradients
    )
    native.check(status, "attention backward")
    del alive
    return out


def lse(problem: Problem) -> Tensor:
    """lse [B,H,N], without the weighted sum."""
    out = torch.empty(problem.query.shape[:3], dtype=torch.float32)
    _forward(problem, None, out)
    return out


@dataclass(frozen=True, slots=True)
class Plan:
    """How the native core runs a forward call.

    Attributes:
        level: the instruction-set level.
        path: "blocks" (64 queries of one head at a time) or "decode" (few queries, many keys: each key and
            value is read once for all query heads of its group).
        workers: threads that take part.
        parts: pieces of work that they take one by one.
        products: "float32", or "bfloat16 pairs" where the machine multiplies those; sums are float32.
    """

    level: str
    path: str
    workers: int
    parts: int
    products: str


def plan(problem: Problem) -> Plan:
    """How :func:`forward` would run this problem; the core's own schedule answers."""
    packed, alive = pack(problem)
    struct = PlanStruct()
    status = native.library().sightline_plan(
        native.level(),
        torch.get_num_threads(),
        ctypes.byref(packed),
        int(problem.value is not None),
        ctypes.byref(struct),
    )
    native.check(status, "plan")
    del alive
    return Plan(
        level=native.built_levels()[native.level()],
        path=PATHS[struct.path],
        workers=struct.workers,
        parts=struct.parts,
        products="bfloat16 pairs" if struct.pairs else "float32",
    )


class Cells(NamedTuple):
    """Which of ``size`` cells each key belongs to: of_key [1|B,M], from 0."""

    of_key: Tensor
    size: int


def readouts(
    problem: Problem,
    lse: Tensor,
    fields: Sequence[str],
    k: int = 0,
    position: Tensor | None = None,
    cells: Cells | None = None,
) -> dict[str, Tensor]:
    """Any fields of the header's sightline_readouts in one pass, by name.

    Args:
        fields: of entropy, received, max_weight, max_index, max_score, topk_weights, topk_indices, distance,
            cell_sum, cell_max (-1 where nothing is visible), cell_seen.
        k: for the topk fields.
        position: [1|B] int64, of query 0, for distance.
        cells: for the cell fields.
    """
    b, h, n, m = problem.shape
    of_cells = (b, h, n, 0 if cells is None else cells.size)
    assert cells is None or cells.of_key.shape[1] == m
    shapes: dict[str, tuple[tuple[int, ...], torch.dtype]] = {
        "entropy": ((b, h, n), torch.float32),
        "received": ((b, h, m), torch.float32),
        "max_weight": ((b, h, n), torch.float32),
        "max_index": ((b, h, n), torch.int64),
        "max_score": ((b, h, n), torch.float32),
        "topk_weights": ((b, h, n, k), torch.float32),
        "topk_indices": ((b, h, n, k), torch.int64),
        "distance": ((b, h, n), torch.float32),
        "cell_sum": (of_cells, torch.float32),
        "cell_max": (of_cells, torch.float32),
        "cell_seen": (of_cells, torch.float32),
    }
    out = {field: torch.empty(shapes[field][0], dtype=shapes[field][1]) for field in fields}
    packed, alive = pack(problem)
    position_at, position_stride = _term(position, 1, alive)
    of_key = None if cells is None else cells.of_key.to(torch.int32).contiguous()
    cells_at, cell_stride = _term(of_key, 1, alive)
    struct = ReadoutsStruct(
        k=k,
        position=position_at,
        position_stride=position_stride,
        cells=cells_at,
        cell_stride=cell_stride,
        cell_count=of_cells[3],
        **{field: tensor.data_ptr() for field, tensor in out.items()},
    )
    lse = lse.float().contiguous()
    status = native.library().sightline_readout(
        native.level(),
        torch.get_num_threads(),
        ctypes.byref(packed),
        ctypes.c_void_p(lse.data_ptr()),
        ctypes.byref(struct),
    )
    native.check(status, "readouts")
    del alive
    return out


def max_topk() -> int:
    """The largest k that the native top-k takes."""
    return int(native.library().sightline_max_topk())


def _forward(problem: Problem, context: Tensor | None, lse: Tensor | None) -> None:
    packed, alive = pack(problem)
    status = native.library().sightline_forward(
        native.level(),
        torch.get_num_threads(),
        ctypes.addressof(packed),
        None if context is None else context.data_ptr(),
        _THREE_STRIDES(*(_NO_STRIDES if context is None else context.stride()[:3])),
        None if lse is None else lse.data_ptr(),
    )
    native.check(status, "attention")
    del alive


_THREE_STRIDES = ctypes.c_int64 * 3
_NO_STRIDES = (0, 0, 0)


def pack(problem: Problem) -> tuple[ProblemStruct, list[Tensor]]:
    """The problem as the C struct, and the tensors that must stay alive while it is used.

    Written in one go: a short call would spend as long on ctypes fields one by one as on its attention.
    """
    b, h, n, m = problem.shape
    query, key, value = _rows(problem.query), _rows(problem.key), problem.value
    alive = [query, key]
    values = _ABSENT[3]
    if value is not None:
        value = _rows(value)
        alive.append(value)
        values = (value.data_ptr(), *value.stride()[:3])
    ranges, table = _pairs(problem.ranges), problem.table
    packed = PROBLEM.pack(
        b, h, key.shape[1], n, m, query.shape[3], 0 if value is None else value.shape[3],
        query.data_ptr(), *query.stride()[:3],
        key.data_ptr(), *key.stride()[:3],
        *values,
        DTYPES[query.dtype], problem.scale, problem.softcap or 0.0,
        *_term(ranges, 3, alive), 0 if ranges is None else ranges.shape[3],
        *_term(problem.visible, 4, alive), *_ABSENT[3],
        *_bias(problem.bias, alive),
        *_term(_float(problem.slopes), 2, alive),
        *_term(_float(table), 1, alive), 0 if table is None else table.shape[1] // 2,
        *_term(problem.offset, 1, alive),
        *_term(_float(problem.sinks), 1, alive),
        *_dropout(problem),
    )  # fmt: skip
    return ProblemStruct.from_buffer_copy(packed), alive


_ABSENT = {axes: (0,) * (axes + 1) for axes in range(1, 5)}


def _term(tensor: Tensor | None, axes: int, alive: list[Tensor]) -> tuple[int, ...]:
    """Address, then the strides of the leading axes: 0 along one that broadcasts. Kept alive."""
    if tensor is None:
        return _ABSENT[axes]
    alive.append(tensor)
    pairs = zip(tensor.stride(), tensor.shape[:axes], strict=False)
    return tensor.data_ptr(), *(0 if size == 1 else stride for stride, size in pairs)


def _bias(bias: Tensor | None, alive: list[Tensor]) -> tuple[int, ...]:
    """Address, dtype, strides."""
    if bias is not None and bias.dtype not in DTYPES:
        bias = bias.float()
    address, *strides = _term(bias, 4, alive)
    return address, 0 if bias is None else DTYPES[bias.dtype], *strides


def _dropout(problem: Problem) -> tuple[int, int, float]:
    """Seed, threshold, scale of what is kept."""
    if problem.seed is None or problem.dropout == 0:
        return 0, 0, 0.0
    return int(problem.seed) % 2**64, *keeping(problem.dropout)


def _float(tensor: Tensor | None) -> Tensor | None:
    """A term in contiguous float32."""
    return None if tensor is None else tensor.float().contiguous()


def _pairs(ranges: Tensor | None) -> Tensor | None:
    """The ranges with contiguous (lo, hi) pairs."""
    if ranges is None or (ranges.stride(-1) == 1 and ranges.stride(-2) == 2):
        return ranges
    return ranges.contiguous()


def copied(problem: Problem) -> dict[str, str]:
    """By name, the tensors that :func:`pack` copies, and why, with the remedy."""
    found = {
        name: f"its last axis is not contiguous (stride {tensor.stride(-1)}); lay it out with .contiguous()"
        for name, tensor in (("query", problem.query), ("key", problem.key), ("value", problem.value))
        if tensor is not None and not _has_rows(tensor)
    }
    if problem.bias is not None and problem.bias.dtype not in DTYPES:
        found["bias"] = f"its dtype is {problem.bias.dtype}; give it as float32"
    return found


def _rows(tensor: Tensor) -> Tensor:
    """The tensor with a contiguous last axis, which the kernels read as vectors."""
    return tensor if _has_rows(tensor) else tensor.contiguous()


def _has_rows(tensor: Tensor) -> bool:
    return tensor.stride(-1) == 1 or tensor.shape[-1] == 1
