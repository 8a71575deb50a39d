"""Pairs of features turned by angles, the step of rotary positions that takes time.

By the formula each product is a tensor of its own, and autograd keeps the operands of all four. Where nobody
else takes part in a call, the result is written at once, laid out as what it is made of, and its gradient is
the same turn backwards. In bfloat16 a rounding less is made.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from sightline.common import dispatcher


def turned(x: Tensor, cos: Tensor, sin: Tensor, interleaved: bool) -> Tensor:
    """x [B,H,N,D] with its pairs turned by angles with such cosines and sines, which fit [B,H,N,D/2].

    ``(x₁, x₂) → (x₁ cos − x₂ sin, x₁ sin + x₂ cos)``; interleaved: a pair is (2f, 2f+1), else (f, f + D/2).
    """
    if not dispatcher.is_quiet() or not dispatcher.are_plain((x, cos, sin)):
        return by_formula(x, cos, sin, interleaved)
    if not dispatcher.are_recorded((x,)):
        return _at_once(x, cos, sin, interleaved)
    found: Tensor = _Turned.apply(x, cos, sin, interleaved)  # type: ignore[no-untyped-call]
    return found


def by_formula(x: Tensor, cos: Tensor, sin: Tensor, interleaved: bool) -> Tensor:
    """The same, as everybody who takes part in a call can follow it."""
    first, second = _pairs(x, interleaved)
    halves = (first * cos - second * sin, first * sin + second * cos)
    if not interleaved:
        return torch.cat(halves, dim=-1)
    pairs = torch.stack(halves, dim=-1)
    return pairs.reshape(*pairs.shape[:-2], 2 * pairs.shape[-2])  # batched gradients know no flatten


def _at_once(x: Tensor, cos: Tensor, sin: Tensor, interleaved: bool) -> Tensor:
    found = torch.empty_like(x)
    first, second = _pairs(x, interleaved)
    onto_first, onto_second = _pairs(found, interleaved)
    torch.mul(first, cos, out=onto_first).addcmul_(second, sin, value=-1)
    torch.mul(first, sin, out=onto_second).addcmul_(second, cos)
    return found


def _pairs(x: Tensor, interleaved: bool) -> tuple[Tensor, Tensor]:
    """The first and the second feature of each pair: views."""
    if interleaved:
        return x[..., 0::2], x[..., 1::2]
    first, second = x.chunk(2, dim=-1)
    return first, second


class _Turned(torch.autograd.Function):
    """The turn with the rule for its gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, cos: Tensor, sin: Tensor, interleaved: bool) -> Tensor:
        ctx.save_for_backward(cos, sin)
        ctx.interleaved = interleaved
        return _at_once(x, cos, sin, interleaved)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        cos, sin = ctx.saved_tensors
        return turned(grad, cos, -sin, ctx.interleaved), None, None, None
