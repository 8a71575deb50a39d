"""The commonest call by the shortest way: key ranges at most, and nobody who listens or takes part.

The attention of a short sequence takes 15 µs, its gradients 40; all that the general way checks, lowers and
asks for takes twice as long. What this way does not know, or what is wrong with what it was given, is for the
general way to do and to say.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from sightline.backends import asked_first
from sightline.backends.problem import Bare, numbers_in_order, tensors_in_order
from sightline.call import operator
from sightline.call.run import gradients
from sightline.common import dispatcher
from sightline.masks import Mask, Span, Window

_OF_RANGES_ALONE = (Window, Span)


def attend(
    query: Tensor, key: Tensor, value: Tensor, mask: Mask | Tensor | None, scale: float | Tensor | None
) -> Tensor | None:
    """The context of a call without bias, softcap, sinks and dropout; ``None``: go the general way."""
    tensors = (query, key, value)
    if not dispatcher.is_quiet() or not dispatcher.are_plain(tensors):
        return None
    if torch.is_autocast_enabled("cpu") or not _fit(query, key, value):
        return None
    if scale is None:
        scale = 1 / math.sqrt(query.shape[3])
    elif type(scale) is not float or not math.isfinite(scale):
        return None
    ranges = None
    if mask is not None:
        if not isinstance(mask, _OF_RANGES_ALONE):
            return None
        ranges = mask.lower((*query.shape[:3], key.shape[2]), query.device).ranges
    recorded = dispatcher.are_recorded(tensors)
    bare = Bare(query, key, value, ranges, scale)
    found = asked_first().forward_bare(bare, want_lse=recorded)
    if found is None:
        return None
    if not recorded:
        return found[0]
    context: Tensor = _Recorded.apply(query, key, value, bare, found)  # type: ignore[no-untyped-call]
    return context


def _fit(query: Tensor, key: Tensor, value: Tensor) -> bool:
    """Whether dtypes and shapes belong together."""
    if query is None or key is None or value is None:
        return False
    if not (query.dtype is key.dtype is value.dtype and query.dim() == key.dim() == value.dim() == 4):
        return False
    b, h, _, d = query.shape
    kb, g, m, kd = key.shape
    vb, vg, vm, _ = value.shape
    return b == kb == vb and g == vg and m == vm and d == kd and d > 0 and g > 0 and h % g == 0


class _Recorded(torch.autograd.Function):
    """What was computed, autograd told of it."""

    @staticmethod
    def forward(
        ctx: Any, query: Tensor, key: Tensor, value: Tensor, bare: Bare, found: tuple[Tensor, Tensor]
    ) -> Tensor:
        ctx.scale = bare.scale
        ctx.save_for_backward(*found, query, key, value, bare.ranges)
        ctx.set_materialize_grads(False)
        return found[0]

    @staticmethod
    def backward(ctx: Any, grad_context: Tensor | None) -> tuple[Tensor | None, ...]:
        wanted = ctx.needs_input_grad[:3]
        found = None if grad_context is None else _gradients(ctx, grad_context, wanted)
        return *(found or (None,) * 3), None, None


def _gradients(ctx: Any, grad_context: Tensor, wanted: tuple[bool, ...]) -> list[Tensor | None]:
    """Those of query, key and value."""
    context, lse, query, key, value, ranges = ctx.saved_tensors
    bare = Bare(query, key, value, ranges, ctx.scale)
    tensors = (grad_context, context, lse, query, key, value, ranges)
    if operator.skips_dispatcher(tensors) and not dispatcher.are_recorded(tensors):
        found = asked_first().backward_bare(bare, context, lse, grad_context, wanted)
        if found is not None:
            return found
    problem = bare.problem()
    others = (False,) * (len(operator.SMOOTH) - len(wanted))
    given = (grad_context, None, context, lse)
    return gradients((*wanted, *others), given, tensors_in_order(problem), numbers_in_order(problem))[:3]
