"""Heads instead of keys: each process gets some heads of all rows, computes them alone, and gives rows back.

Where a ring sends keys and values to all who may see them, this sends each head of a row to one process. When
it is done :func:`cheaper` says.

Letters: B batch, K heads, N rows of the whole, n own rows.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from sightline.backends import Problem, with_tensors
from sightline.backends.select import select_heads
from sightline.call.run import run
from sightline.distributed.layout import Layout
from sightline.distributed.link import Link, Receipt
from sightline.distributed.ring import Ring


def possible(ring: Ring) -> bool:
    """Whether heads can be given away: key heads divide, and nothing is said of single rows and columns."""
    own, count = ring.own, ring.link.count
    divides = own.key.shape[1] % count == 0 and own.key.shape[1] > 0
    return divides and count > 1 and own.dropout == 0 and own.visible is None and own.bias is None


def cheaper(ring: Ring) -> bool:
    """Whether heads take less than half of the ring's bytes, for the process that receives most.

    A ring's messages travel while processes compute; those of heads are waited for, so they must be fewer.
    """
    return possible(ring) and 2 * _most_for_heads(ring) < _most_for_ring(ring)


def _most_for_ring(ring: Ring) -> int:
    """Numbers that the process receives which receives most."""
    each = ring.own.key.shape[0] * ring.own.key.shape[1] * sum(ring.widths)
    return max(
        each
        * sum(
            span.size
            for other in range(ring.link.count)
            if other != rank
            for span in ring.needed(rank, other)
        )
        for rank in range(ring.link.count)
    )


def _most_for_heads(ring: Ring) -> int:
    b, h, n, m = *ring.own.shape[:2], ring.queries.length, ring.keys.length
    g, count, (d, e) = ring.own.key.shape[1], ring.link.count, ring.widths
    most = 0
    for rank in range(count):
        mine, my_keys = ring.queries.count(rank), ring.keys.count(rank)
        there = (n - mine) * h // count * d + (m - my_keys) * g // count * (d + e)
        most = max(most, b * (there + mine * (h - h // count) * e))
    return most


def attend(ring: Ring, whole: Problem, rows: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """(context [B,H,n,E], lse [B,H,n]) of the own rows; gradients go the way back.

    Args:
        ring: the call.
        whole: its problem for all rows, without numbers in query, key and value.
        rows: the own rows of these, by name.
    """
    link = ring.link
    layouts = {"query": ring.queries, "key": ring.keys, "value": ring.keys}
    own_heads = {
        name: _ToHeads.apply(one, link, layouts[name])  # type: ignore[no-untyped-call]
        for name, one in rows.items()
    }
    heads = whole.shape[1] // link.count
    mine = select_heads(whole, slice(link.rank * heads, (link.rank + 1) * heads))
    context, lse = run(with_tensors(mine, own_heads))
    assert lse is not None
    own: Tensor = _ToRows.apply(context, link, ring.queries)  # type: ignore[no-untyped-call]
    return own, to_rows(lse.detach()[..., None], link, ring.queries)[..., 0]


def to_heads(rows: Tensor, link: Link, layout: Layout) -> Tensor:
    """[B,K,n,w], the own rows of all heads, → [B,K/P,N,w], all rows of the own heads."""
    b, k, _, width = rows.shape
    each = k // link.count
    out = {rank: rows[:, rank * each : (rank + 1) * each] for rank in range(link.count)}
    sizes = {rank: b * each * layout.count(rank) * width for rank in range(link.count)}
    whole = rows.new_empty((b, each, layout.length, width))
    for rank, came in _exchanged(out, sizes, link).items():
        part = came.view(b, each, layout.count(rank), width)
        for one in layout.segments[rank]:
            whole[:, :, one.first : one.last] = part[:, :, one.rows]
    return whole


def to_rows(heads: Tensor, link: Link, layout: Layout) -> Tensor:
    """[B,K/P,N,w], all rows of the own heads, → [B,K,n,w], the own rows of all heads."""
    b, each, _, width = heads.shape
    own = layout.count(link.rank)
    out = {rank: layout.own(heads, 2, rank) for rank in range(link.count)}
    found = _exchanged(out, dict.fromkeys(range(link.count), b * each * own * width), link)
    return torch.cat([found[rank].view(b, each, own, width) for rank in range(link.count)], 1)


def _exchanged(out: dict[int, Tensor], sizes: dict[int, int], link: Link) -> dict[int, Tensor]:
    """Sends each process its part, and receives parts of known sizes; flat, the own one among them."""
    own = out.pop(link.rank)
    into = {rank: Receipt(size, own.dtype) for rank, size in sizes.items() if rank != link.rank}
    sent = {rank: one.detach().reshape(-1) for rank, one in out.items()}
    found = link.exchange(sent, into, "heads of other rows").wait()
    empty = own.new_empty(0)
    return {rank: found.get(rank, empty).to(own.device) for rank in into} | {link.rank: own.reshape(-1)}


class _ToHeads(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor, link: Link, layout: Layout) -> Tensor:
        ctx.how = link, layout
        return to_heads(rows.detach(), link, layout)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        return _ToRows.apply(grad, *ctx.how), None, None  # type: ignore[no-untyped-call]


class _ToRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, heads: Tensor, link: Link, layout: Layout) -> Tensor:
        ctx.how = link, layout
        return to_rows(heads.detach(), link, layout)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        return _ToHeads.apply(grad, *ctx.how), None, None  # type: ignore[no-untyped-call]
