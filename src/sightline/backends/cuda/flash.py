"""FlashAttention by ``torch.nn.attention.varlen.varlen_attn``: FA2, or what PyTorch's registry has active.

The gradients of a context whose sinks were added afterwards are the kernel's own, given that context and its
lse: both make each weight, and δ, what they are.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from sightline.backends.contract import Obstacle
from sightline.backends.cuda.kernel import (
    HALVES,
    WIDEST,
    dtype_obstacle,
    expect,
    size_obstacle,
    terms_obstacle,
)
from sightline.backends.cuda.pieces import Pieces, pieces_of, seen_share
from sightline.backends.problem import Problem, lse_dtype


class Flash:
    """Halves, whose masks are full, causal or a window within pieces that follow one another."""

    name = "flash"

    def why_not(self, problem: Problem) -> Obstacle | None:
        """Lengths and documents are pieces."""
        width, value = problem.query.shape[3], problem.value
        wrong = dtype_obstacle(problem, HALVES)
        if wrong is not None:
            return wrong
        if value is None or value.shape[3] != width or width % 8 or width > WIDEST:
            return Obstacle(
                f"heads are {width} wide, and it takes multiples of 8 up to {WIDEST}, values alike"
            )
        if varlen_attention() is None:
            return Obstacle("this PyTorch has no varlen_attn with an lse", "PyTorch 2.10 or newer has it")
        wrong = terms_obstacle(problem)
        if wrong is not None:
            return wrong
        pieces = pieces_of(problem)
        if pieces is None:
            return Obstacle("the mask is neither full, causal nor a window, within pieces that are apart")
        return size_obstacle(len(pieces.of_queries) - 1, problem.shape[1])

    def computed(self, problem: Problem) -> float:
        """What is seen, but for the tiles at its edges."""
        return seen_share(problem)

    def forward(self, problem: Problem) -> tuple[Tensor, Tensor]:
        """Every piece is a sequence of its own; a query outside of all sees nothing."""
        (b, _, n, _), pieces = problem.shape, pieces_of(problem)
        assert pieces is not None
        context, lse = _attended(problem, pieces)
        context = _unpacked(context, pieces.queries, b, n, 0.0)
        by_row = _unpacked(lse.transpose(0, 1), pieces.queries, b, n, -torch.inf)
        return context.transpose(1, 2), by_row.transpose(1, 2).to(lse_dtype(problem.query))

    def backward(
        self, problem: Problem, context: Tensor, lse: Tensor, grad_context: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """By the operator that autograd calls."""
        assert problem.value is not None
        b, _, n, m = problem.shape
        pieces, dtype = pieces_of(problem), problem.query.dtype
        assert pieces is not None
        assert varlen_attention() is not None  # which brings the operator
        of_rows = lse.float().transpose(1, 2).flatten(0, 1)
        if pieces.queries is not None:
            of_rows = of_rows[pieces.queries]
        found = torch.ops.torch_attn._varlen_attn_backward(
            _packed(grad_context.to(dtype), pieces.queries), _packed(problem.query, pieces.queries),
            _packed(problem.key, pieces.keys), _packed(problem.value, pieces.keys),
            _packed(context.to(dtype), pieces.queries), of_rows.transpose(0, 1).contiguous(),
            pieces.of_queries, pieces.of_keys, pieces.most_queries, pieces.most_keys,
            pieces.window == (-1, 0), torch.zeros(2, dtype=torch.uint64, device=context.device),
            float(problem.scale), list(pieces.window),
        )  # fmt: skip
        places = ((pieces.queries, n), (pieces.keys, m), (pieces.keys, m))
        query, key, value = (
            _unpacked(one, rows, b, length, 0.0).transpose(1, 2)
            for one, (rows, length) in zip(found, places, strict=True)
        )
        return query, key, value


def varlen_attention() -> Any:
    """PyTorch's varlen_attn; ``None`` where it is not there or gives no lse."""
    try:
        from torch.nn.attention import varlen
    except ImportError:
        return None
    return varlen.varlen_attn if hasattr(varlen, "AuxRequest") else None


def _attended(problem: Problem, pieces: Pieces) -> tuple[Tensor, Tensor]:
    """(context [T,H,E], lse [H,T]) of the T queries in pieces.

    Of one query FlashAttention 2 makes as many as share a key head, and of several pieces it then gives the
    lse in another order: so that is done here.
    """
    assert problem.value is not None
    attend, group = varlen_attention(), problem.group
    assert attend is not None
    from torch.nn.attention.varlen import AuxRequest

    alone = pieces.most_queries == 1 and group > 1
    each = group if alone else 1
    query = _packed(problem.query, pieces.queries)
    query = _ungrouped(query, group) if alone else query
    context, lse = attend(
        query, _packed(problem.key, pieces.keys), _packed(problem.value, pieces.keys),
        pieces.of_queries * each, pieces.of_keys, pieces.most_queries * each, pieces.most_keys,
        return_aux=AuxRequest(lse=True), scale=float(problem.scale), window_size=pieces.window,
        enable_gqa=group > 1 and not alone,
    )  # fmt: skip
    expect("flash", lse, (problem.shape[1] // each, query.shape[0]))
    if not alone:
        return context, lse
    return _grouped(context, group), _grouped(lse.transpose(0, 1), group).transpose(0, 1)


def _ungrouped(packed: Tensor, group: int) -> Tensor:
    """[T,H,D] → [T·group,G,D]: the heads of a key head as queries, one after another."""
    as_queries: Tensor = packed.unflatten(1, (-1, group)).transpose(1, 2).flatten(0, 1)
    return as_queries


def _grouped(packed: Tensor, group: int) -> Tensor:
    """The inverse: [T·group,G,...] → [T,H,...]."""
    as_heads: Tensor = packed.unflatten(0, (-1, group)).transpose(1, 2).flatten(1, 2)
    return as_heads


def _packed(tensor: Tensor, rows: Tensor | None) -> Tensor:
    """[B,H,N,D] → [B·N,H,D], or the chosen rows of it."""
    whole = tensor.transpose(1, 2).flatten(0, 1)
    return whole if rows is None else whole[rows]


def _unpacked(packed: Tensor, rows: Tensor | None, batch: int, length: int, elsewhere: float) -> Tensor:
    """[rows, ...] → [B,N,...], with the same number in all other rows."""
    if rows is not None:
        room = packed.new_full((batch * length, *packed.shape[1:]), elsewhere)
        packed = room.index_copy(0, rows, packed)
    by_entry: Tensor = packed.unflatten(0, (batch, length))
    return by_entry
