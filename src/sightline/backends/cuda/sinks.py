"""Sinks beside a kernel that knows none: they join the denominator after the fact."""

from __future__ import annotations

import torch
from torch import Tensor


def with_sinks(context: Tensor, lse: Tensor, sinks: Tensor | None) -> tuple[Tensor, Tensor]:
    """(context · σ(lse - sink), logaddexp(lse, sink)): context [B,H,N,E], lse [B,H,N], sinks [H]."""
    if sinks is None:
        return context, lse
    sink = sinks.to(lse.dtype)[:, None]
    share = torch.sigmoid(lse - sink).masked_fill(lse == -torch.inf, 0)
    return (context.to(lse.dtype) * share[..., None]).to(context.dtype), torch.logaddexp(lse, sink)


def sink_gradients(sinks: Tensor, context: Tensor, lse: Tensor, grad_context: Tensor) -> Tensor:
    """-Σ weight · δ over batch and queries, δ = Σ_e context · d context: [H].

    Args:
        context, lse: with the sinks' share.
    """
    sink = sinks.to(lse.dtype)[:, None]
    weight = torch.exp(sink - lse).masked_fill(sink == -torch.inf, 0)
    delta = (grad_context.to(lse.dtype) * context.to(lse.dtype)).sum(-1)
    return -(weight * delta).sum((0, 2))
