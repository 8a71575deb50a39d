"""The cpu backend: the native kernels, forward, backward and readouts, for float32, bfloat16 and float16."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Collection, Sequence

import torch
from torch import Tensor

from sightline.backend import native
from sightline.backend.dropout import keeping
from sightline.backend.native import GradientsStruct, ProblemStruct, ReadoutsStruct
from sightline.backend.problem import Problem, empty_context, empty_gradient

# sightline_dtype
DTYPES = {torch.float32: 0, torch.bfloat16: 1, torch.float16: 2}
READOUTS = ("entropy", "received", "max", "max_score", "topk")


def why_not(problem: Problem) -> str | None:
    """Why this backend cannot take the problem, or ``None`` if it can."""
    if problem.query.device.type != "cpu":
        return f"the tensors are on {problem.query.device}, and it runs on the CPU"
    if problem.query.dtype not in DTYPES:
        return f"the dtype is {problem.query.dtype}, and it takes float32, bfloat16 and float16"
    missing = native.available()
    return None if missing is None else f"{missing}"


def forward(problem: Problem) -> tuple[Tensor, Tensor]:
    """(context [B,H,N,E] in the query's dtype, lse [B,H,N] in float32)."""
    assert problem.value is not None
    b, h, n, _ = problem.shape
    context = empty_context(problem.query, problem.value.shape[3])
    lse = torch.empty((b, h, n), dtype=torch.float32)
    _forward(problem, context, lse)
    return context, lse


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
    struct = GradientsStruct(
        context=context.data_ptr(), context_stride=_strides(context, 3),
        lse=lse.data_ptr(),
        grad_context=grad_context.data_ptr(), grad_context_stride=_strides(grad_context, 3),
        **{name: gradient.data_ptr() for name, gradient in out.items()},
        **{f"{name}_stride": _strides(out[name], 4 if name == "bias" else 3)
           for name in ("query", "key", "value", "bias") if name in out},
    )  # fmt: skip
    if grad_lse is not None:
        grad_lse = grad_lse.float().contiguous()
        struct.grad_lse = grad_lse.data_ptr()
    status = native.library().sightline_backward(
        native.level(), torch.get_num_threads(), ctypes.byref(packed), ctypes.byref(struct)
    )
    native.check(status, "attention backward")
    del alive
    return out


def lse(problem: Problem) -> Tensor:
    """lse [B,H,N], without the weighted sum."""
    b, h, n, _ = problem.shape
    out = torch.empty((b, h, n), dtype=torch.float32)
    _forward(problem, None, out)
    return out


def readouts(problem: Problem, lse: Tensor, names: Sequence[str], k: int = 0) -> dict[str, Tensor]:
    """Any of ``READOUTS`` in one pass; "max" and "topk" come as two tensors each.

    Returns:
        By name: entropy, received, max_weight, max_index, max_score, topk_weights, topk_indices.
    """
    b, h, n, m = problem.shape
    shapes: dict[str, tuple[tuple[int, ...], torch.dtype]] = {
        "entropy": ((b, h, n), torch.float32),
        "received": ((b, h, m), torch.float32),
        "max_weight": ((b, h, n), torch.float32),
        "max_index": ((b, h, n), torch.int64),
        "max_score": ((b, h, n), torch.float32),
        "topk_weights": ((b, h, n, k), torch.float32),
        "topk_indices": ((b, h, n, k), torch.int64),
    }
    parts = {"max": ("max_weight", "max_index"), "topk": ("topk_weights", "topk_indices")}
    wanted = [field for name in names for field in parts.get(name, (name,))]
    out = {field: torch.empty(shapes[field][0], dtype=shapes[field][1]) for field in wanted}
    struct = ReadoutsStruct(k=k, **{field: tensor.data_ptr() for field, tensor in out.items()})
    packed, alive = pack(problem)
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


def _forward(problem: Problem, context: Tensor | None, lse: Tensor) -> None:
    packed, alive = pack(problem)
    strides = (ctypes.c_int64 * 3)(*(context.stride()[:3] if context is not None else (0, 0, 0)))
    status = native.library().sightline_forward(
        native.level(),
        torch.get_num_threads(),
        ctypes.byref(packed),
        ctypes.c_void_p(context.data_ptr() if context is not None else None),
        strides,
        ctypes.c_void_p(lse.data_ptr()),
    )
    native.check(status, "attention")
    del alive


def pack(problem: Problem) -> tuple[ProblemStruct, list[Tensor]]:
    """The problem as the C struct, and the tensors that must stay alive while it is used."""
    b, h, n, m = problem.shape
    alive: list[Tensor] = []

    def keep(tensor: Tensor) -> Tensor:
        alive.append(tensor)
        return tensor

    query = keep(_rows(problem.query))
    key = keep(_rows(problem.key))
    struct = ProblemStruct(
        batch=b, heads=h, kv_heads=key.shape[1], queries=n, keys=m, width=query.shape[3],
        query=query.data_ptr(), query_stride=_strides(query, 3),
        key=key.data_ptr(), key_stride=_strides(key, 3), dtype=DTYPES[query.dtype],
        scale=problem.scale, softcap=problem.softcap or 0.0,
    )  # fmt: skip
    if problem.value is not None:
        value = keep(_rows(problem.value))
        struct.value, struct.value_stride = value.data_ptr(), _strides(value, 3)
        struct.value_width = value.shape[3]
    if problem.ranges is not None:
        ranges = problem.ranges
        if ranges.stride(-1) != 1 or ranges.stride(-2) != 2:
            ranges = ranges.contiguous()
        keep(ranges)
        struct.ranges, struct.range_count = ranges.data_ptr(), ranges.shape[3]
        struct.range_stride = _strides(ranges, 3)
    if problem.visible is not None:
        visible = keep(problem.visible)
        struct.visible, struct.visible_stride = visible.data_ptr(), _strides(visible, 4)
    _pack_bias(problem, struct, keep)
    if problem.seed is not None and problem.dropout > 0:
        struct.seed = int(problem.seed)
        struct.keep_threshold, struct.keep_scale = keeping(problem.dropout)
    return struct, alive


def _pack_bias(problem: Problem, struct: ProblemStruct, keep: Callable[[Tensor], Tensor]) -> None:
    if problem.bias is not None:
        known = problem.bias.dtype in DTYPES
        bias = keep(problem.bias if known else problem.bias.float())
        struct.bias_dtype = DTYPES[bias.dtype]
        struct.bias, struct.bias_stride = bias.data_ptr(), _strides(bias, 4)
    if problem.slopes is not None:
        slopes = keep(problem.slopes.float().contiguous())
        struct.slopes, struct.slope_stride = slopes.data_ptr(), _strides(slopes, 2)
    if problem.table is not None:
        table = keep(problem.table.float().contiguous())
        struct.table, struct.radius = table.data_ptr(), table.shape[1] // 2
        struct.table_stride = 0 if table.shape[0] == 1 else table.stride(0)
    if problem.offset is not None:
        offset = keep(problem.offset)
        struct.offset = offset.data_ptr()
        struct.offset_stride = 0 if offset.shape[0] == 1 else offset.stride(0)
    if problem.sinks is not None:
        sinks = keep(problem.sinks.float())
        struct.sinks, struct.sink_stride = sinks.data_ptr(), sinks.stride(0)


def _rows(tensor: Tensor) -> Tensor:
    """The tensor with a contiguous last axis, which the kernels read as vectors."""
    return tensor if tensor.stride(-1) == 1 or tensor.shape[-1] == 1 else tensor.contiguous()


def _strides(tensor: Tensor, axes: int) -> ctypes.Array[ctypes.c_int64]:
    """Strides of the leading axes; 0 along an axis that broadcasts."""
    pairs = zip(tensor.stride()[:axes], tensor.shape[:axes], strict=True)
    return (ctypes.c_int64 * axes)(*(0 if size == 1 else stride for stride, size in pairs))
