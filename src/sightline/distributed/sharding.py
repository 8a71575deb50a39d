"""Tensors cut into the parts of processes, and put together again."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from sightline.common import several
from sightline.common.check import integer, kind
from sightline.distributed.agreement import agreed, of_text
from sightline.distributed.layout import Layout, layout_of, lengths_of
from sightline.distributed.link import Link, Receipt
from sightline.distributed.session import Session

_TIMEOUT = 300.0  # seconds, outside of a block


def shard(tensor: Tensor, dim: int) -> Tensor:
    """This process's part of a tensor that all processes hold, along the axis of the sequence.

    Inside of :func:`context_parallel` its group and order count; outside all processes have a part, one
    after another. The first get one row more where the length does not divide. Sends nothing.

    Args:
        tensor: the whole, [B,N,C] or of any other shape.
        dim: the axis of the sequence; from the end if negative.

    Returns:
        The part, a copy of its own in "zigzag" order, otherwise a view.

    Raises:
        IndexError: for an axis that there is not; RuntimeError: where torch.distributed was not started.

    Example:
        >>> import torch
        >>> from sightline import distributed
        >>> torch.distributed.init_process_group(
        ...     "gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
        >>> distributed.shard(torch.arange(5), 0)
        tensor([0, 1, 2, 3, 4])
        >>> torch.distributed.destroy_process_group()
    """
    kind("tensor", tensor, Tensor, "a tensor that all processes hold")
    axis, session = _axis(tensor, dim), joined()
    count = session.link.count
    layout = layout_of(lengths_of(tensor.shape[axis], count, session.order), session.order)
    return layout.own(tensor, axis, session.link.rank)


def unshard(tensor: Tensor, dim: int) -> Tensor:
    """The whole tensor, in every process, of the parts that they hold; the opposite of :func:`shard`.

    All processes call it together. Gradients: each process is taken to compute the same from the whole, and
    its part gets the gradient of its own rows.

    Args:
        tensor: this process's part, [B,n,C] or of any other shape. In the order "contiguous" the parts may
            have any lengths.
        dim: the axis of the sequence; from the end if negative.

    Raises:
        IndexError: for an axis that there is not; ValueError: for parts that do not fit together;
            ProcessError: where another process has ended, hangs or failed.

    Example:
        >>> import torch
        >>> from sightline import distributed
        >>> torch.distributed.init_process_group(
        ...     "gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
        >>> distributed.unshard(distributed.shard(torch.arange(5), 0), 0)
        tensor([0, 1, 2, 3, 4])
        >>> torch.distributed.destroy_process_group()
    """
    kind("tensor", tensor, Tensor, "this process's part of a tensor")
    axis, session = _axis(tensor, dim), joined()
    rest = [size for at, size in enumerate(tensor.shape) if at != axis]
    same = {
        f"tensor: dtype (here {tensor.dtype})": of_text(str(tensor.dtype)),
        f"tensor: shape (here {list(tensor.shape)}) besides axis {axis}": of_text(str((axis, rest))),
    }
    every = agreed(session.link, "unshard", same, [tensor.shape[axis]])
    layout = layout_of([own for (own,) in every], session.order)
    whole: Tensor = _Whole.apply(tensor, axis, session.link, layout)  # type: ignore[no-untyped-call]
    return whole


def gathered(tensor: Tensor, axis: int, link: Link, layout: Layout) -> Tensor:
    """The whole tensor of the parts that all processes hold."""
    moved = tensor.detach().movedim(axis, 0).contiguous()
    rest = moved.shape[1:]
    others = [rank for rank in range(link.count) if rank != link.rank]
    into = {rank: Receipt(layout.count(rank) * rest.numel(), tensor.dtype) for rank in others}
    flight = link.exchange(dict.fromkeys(others, moved.reshape(-1)), into, "the parts of a tensor")
    whole = moved.new_empty((layout.length, *rest))
    parts = flight.wait() | {link.rank: moved}
    for rank, part in parts.items():
        rows = part.to(tensor.device).reshape(-1, *rest)
        for one in layout.segments[rank]:
            whole[one.first : one.last] = rows[one.rows]
    return whole.movedim(0, axis)


class _Whole(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, tensor: Tensor, axis: int, link: Link, layout: Layout) -> Tensor:
        ctx.own = axis, link.rank, layout
        return gathered(tensor, axis, link, layout)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        axis, rank, layout = ctx.own
        return layout.own(grad, axis, rank), None, None, None


def joined() -> Session:
    """The block that this process is in; outside of one that of all processes."""
    current = several.current()
    return current if isinstance(current, Session) else Session(Link(None, _TIMEOUT), "contiguous")


def _axis(tensor: Tensor, dim: int) -> int:
    axis = integer("dim", dim)
    if not -tensor.dim() <= axis < tensor.dim():
        raise IndexError(f"dim: {axis} is out of range for a tensor of {tensor.dim()} axes.")
    return axis % tensor.dim()
