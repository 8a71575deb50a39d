"""The native kernels: forward, backward, lse and readouts, for float32, bfloat16 and float16."""

from __future__ import annotations

import ctypes
from collections.abc import Collection, Sequence

import torch
from torch import Tensor

from sightline.backends.contract import FUNCTIONS, Cells, OfEntropy, Summand
from sightline.backends.native.pack import pack, rows_of, strides, term
from sightline.backends.native.room import room_for_context, room_for_gradient_of
from sightline.backends.native.structs import (
    FLAT_GRADIENTS,
    GRADIENTS_LAYOUT,
    STRIDED_GRADIENTS,
    STRIDES,
    STRIDES_OF,
    ReadoutsStruct,
)
from sightline.backends.native.zones import watching
from sightline.backends.problem import Problem
from sightline.core import library as core


def forward(problem: Problem, want_lse: bool = True) -> tuple[Tensor, Tensor | None]:
    """(context [B,H,N,E] in the query's dtype, lse [B,H,N] in float64 where wanted)."""
    assert problem.value is not None
    context = room_for_context(problem.query, problem.value.shape[3])
    lse = torch.empty(problem.query.shape[:3], dtype=torch.float64) if want_lse else None
    _forward(problem, context, lse)
    return context, lse


def forward_received(problem: Problem, received: Tensor) -> tuple[Tensor, Tensor]:
    """(context, lse); what each key received is added to ``received``, [B,H,M] or [B,G,M] in float32."""
    assert problem.value is not None
    assert received.dtype == torch.float32
    onto = received if received.stride(-1) == 1 or received.shape[-1] < 2 else received.contiguous()
    context = room_for_context(problem.query, problem.value.shape[3])
    lse = torch.empty(problem.query.shape[:3], dtype=torch.float64)
    packed, alive = pack(problem)
    with watching():
        status = core.library().sightline_forward_received(
            core.level(),
            torch.get_num_threads(),
            ctypes.byref(packed),
            ctypes.c_void_p(context.data_ptr()),
            STRIDES_OF[3].pack(*context.stride()[:3]),
            ctypes.c_void_p(lse.data_ptr()),
            ctypes.c_void_p(onto.data_ptr()),
            STRIDES_OF[2].pack(*onto.stride()[:2]),
            onto.shape[1],
        )
    core.check(status, "attention")
    del alive
    if onto is not received:
        received.copy_(onto)
    return context, lse


def row_lse(problem: Problem) -> Tensor:
    """lse [B,H,N], without the weighted sum."""
    lse = torch.empty(problem.query.shape[:3], dtype=torch.float64)
    _forward(problem, None, lse)
    return lse


def _forward(problem: Problem, context: Tensor | None, lse: Tensor | None) -> None:
    packed, alive = pack(problem)
    with watching():
        status = core.library().sightline_forward(
            core.level(),
            torch.get_num_threads(),
            ctypes.addressof(packed),
            None if context is None else context.data_ptr(),
            STRIDES_OF[3].pack(*((0, 0, 0) if context is None else context.stride()[:3])),
            None if lse is None else lse.data_ptr(),
        )
    core.check(status, "attention")
    del alive


def backward(
    problem: Problem,
    context: Tensor,
    lse: Tensor,
    grad_context: Tensor,
    grad_lse: Tensor | None,
    wanted: Collection[str],
    of_entropy: OfEntropy | None = None,
) -> dict[str, Tensor]:
    """The wanted ones of the gradients of query, key, value, bias, slopes, table and sinks, by name.

    Those of query, key, value and bias have their dtype, the first three their layout as well; the others are
    contiguous float32, and so is that of a bias of another dtype.
    """
    packed, alive = pack(problem)
    context, grad_context, lse = rows_of(context), rows_of(grad_context), lse.double().contiguous()
    gradients = {name: room_for_gradient_of(name, getattr(problem, name)) for name in wanted}
    grad_lse, grad_entropy = _of_rows(problem, lse, grad_lse, of_entropy)
    outputs: list[int] = []
    for name in STRIDED_GRADIENTS:
        outputs += term(gradients.get(name), STRIDES[name], alive)
    layout = GRADIENTS_LAYOUT.pack(
        *term(context, 3, alive),
        lse.data_ptr(),
        *term(grad_context, 3, alive),
        0 if grad_lse is None else grad_lse.data_ptr(),
        0 if grad_entropy is None else grad_entropy.data_ptr(),
        *outputs,
        *(gradients[name].data_ptr() if name in gradients else 0 for name in FLAT_GRADIENTS),
    )
    with watching():
        status = core.library().sightline_backward(
            core.level(), torch.get_num_threads(), ctypes.addressof(packed), layout
        )
    core.check(status, "attention backward")
    del alive
    return gradients


def _of_rows(
    problem: Problem, lse: Tensor, grad_lse: Tensor | None, of_entropy: OfEntropy | None
) -> tuple[Tensor | None, Tensor | None]:
    """The gradients of lse and entropy as the core takes them."""
    if of_entropy is None:
        return None if grad_lse is None else grad_lse.float().contiguous(), None
    entropy, grad = of_entropy
    total: Tensor | float = 1.0
    if problem.sinks is not None:
        total = 1 - torch.exp(problem.sinks.to(lse.dtype)[:, None] - lse).to(entropy.dtype)
    # The entropy's share in delta is the caller's to say; see native/include/sightline.h.
    share = grad * (entropy - total)
    grad_lse = -share if grad_lse is None else grad_lse - share
    return grad_lse.float().contiguous(), grad.float().contiguous()


def readouts(
    problem: Problem,
    lse: Tensor,
    fields: Sequence[str],
    k: int = 0,
    position: Tensor | None = None,
    cells: Cells | None = None,
    summand: Summand | None = None,
    whole: Problem | None = None,
) -> dict[str, Tensor]:
    """Any fields of the header's sightline_readouts in one pass, by name.

    Args:
        fields: of entropy, received, max_weight, max_index, max_score, topk_weights, topk_indices, distance,
            cell_sum, cell_max (-1 where nothing is visible), cell_seen, row_sums, key_sums.
        k: for the topk fields.
        position: [1|B] int64, of query 0, for distance.
        cells: for the cell fields.
        summand: for row_sums and key_sums.
        whole: the same queries with all their keys, whose lse it is, where the problem has only some.
    """
    assert cells is None or cells.of_key.shape[1] == problem.shape[3]
    outputs = {field: _room_for_readout(field, problem, k, cells) for field in fields}
    packed, alive = pack(problem)
    of_all, all_alive = (None, None) if whole is None else pack(whole)
    of_key = None if cells is None else cells.of_key.to(torch.int32).contiguous()
    lse = lse.double().contiguous()
    struct = ReadoutsStruct(
        **{field: tensor.data_ptr() for field, tensor in outputs.items()},
        k=k,
        position=None if position is None else position.data_ptr(),
        position_stride=0 if position is None else strides(position, 1)[0],
        cells=None if of_key is None else of_key.data_ptr(),
        cell_stride=0 if of_key is None else strides(of_key, 1)[0],
        cell_count=0 if cells is None else cells.size,
        function=0 if summand is None else FUNCTIONS.index(summand.function),
        threshold=0.0 if summand is None else summand.threshold,
    )
    with watching():
        status = core.library().sightline_readout(
            core.level(),
            torch.get_num_threads(),
            ctypes.byref(packed),
            None if of_all is None else ctypes.byref(of_all),
            ctypes.c_void_p(lse.data_ptr()),
            ctypes.byref(struct),
        )
    core.check(status, "readouts")
    del alive, all_alive
    return outputs


def _room_for_readout(field: str, problem: Problem, k: int, cells: Cells | None) -> Tensor:
    b, h, n, m = problem.shape
    dtype = torch.int64 if field.endswith(("_index", "_indices")) else torch.float32
    if field in ("received", "key_sums"):
        return torch.empty((b, h, m), dtype=dtype)
    if field.startswith("topk"):
        return torch.empty((b, h, n, k), dtype=dtype)
    if field.startswith("cell"):
        return torch.empty((b, h, n, 0 if cells is None else cells.size), dtype=dtype)
    return torch.empty((b, h, n), dtype=dtype)


def max_topk() -> int:
    """The largest k that the native top-k takes."""
    return int(core.library().sightline_max_topk())
