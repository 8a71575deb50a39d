"""A ring, with PyTorch's autograd told of it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from sightline.backends import with_tensors
from sightline.backends.problem import GRADIENTS
from sightline.backends.softmax import RowSums
from sightline.distributed.ring import Done, Ring, Upstream, backward, forward
from sightline.distributed.sums import lse_of

#: The tensors that gradients reach, in order.
SMOOTH = GRADIENTS


def attend(ring: Ring, smooth: dict[str, Tensor | None]) -> tuple[Tensor, Done]:
    """The context [B,H,N,E] of the own queries, and all that the forward pass has found, without gradients.

    Args:
        ring: a call.
        smooth: by name of ``SMOOTH`` what gradients flow to; the own keys and values among it.
    """
    told: list[Done] = []
    context, _ = _Ring.apply(ring, told, *(smooth[name] for name in SMOOTH))  # type: ignore[no-untyped-call]
    return context, told[0]


class _Ring(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, ring: Ring, told: list[Done], *smooth: Tensor | None) -> tuple[Tensor, Tensor]:
        given = dict(zip(SMOOTH, smooth, strict=True))
        key, value = given["key"], given["value"]
        assert key is not None
        assert value is not None
        done = forward(ring, key, value)
        told.append(done)
        ctx.ring = ring
        of_tiles = [one for sums in done.of_tiles for one in sums]
        ctx.save_for_backward(*smooth, done.context, *done.sums, *of_tiles)
        ctx.set_materialize_grads(False)
        return done.context, lse_of(done.sums)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_context: Tensor | None, grad_lse: Tensor | None) -> tuple[Tensor | None, ...]:
        smooth, rest = ctx.saved_tensors[: len(SMOOTH)], ctx.saved_tensors[len(SMOOTH) :]
        given = dict(zip(SMOOTH, smooth, strict=True))
        context, top, log_sum, *of_tiles = rest
        pairs = zip(of_tiles[::2], of_tiles[1::2], strict=True)
        done = Done(context, RowSums(top, log_sum), [RowSums(*pair) for pair in pairs])
        grad_context = torch.zeros_like(context) if grad_context is None else grad_context
        needed = zip(SMOOTH, ctx.needs_input_grad[2:], strict=True)
        wanted = [name for name, needs in needed if needs]
        # The keys and values of the own problem are those of all processes, which nobody holds.
        terms = {name: one for name, one in given.items() if one is not None and name not in ("key", "value")}
        own = with_tensors(ctx.ring.own, terms)
        upstream = Upstream(done, grad_context, grad_lse)
        found = backward(ctx.ring, own, given["key"], given["value"], upstream, wanted)
        return None, None, *(found[name].to(given[name].dtype) if name in found else None for name in SMOOTH)
