"""From what the caller gave to what a backend gets: every check, then masks and biases lowered."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from sightline.backends import Problem
from sightline.biases import Bias, LoweredBias, as_bias
from sightline.lowering import learned
from sightline.lowering.checks import (
    check_has_numbers,
    check_shapes,
    check_tensors,
    checked_dropout,
    checked_sinks,
    finite,
    positive,
)
from sightline.masks import Lowered, Mask, as_mask


def lower(
    query: Tensor,
    key: Tensor,
    value: Tensor | None,
    *,
    mask: Mask | Tensor | None = None,
    bias: Bias | Tensor | None = None,
    scale: float | Tensor | None = None,
    softcap: float | Tensor | None = None,
    sinks: Tensor | None = None,
    dropout: float = 0.0,
) -> Problem:
    """The checked and lowered problem; see :func:`sightline.attention` for the arguments and errors."""
    check_tensors(query, key, value)
    check_shapes(query, key, value)
    shape = (*query.shape[:3], key.shape[2])
    seen = Lowered(None, None) if mask is None else as_mask(mask).lower(shape, query.device)
    weighed = LoweredBias() if bias is None else as_bias(bias).lower(shape, query.device)
    dropout = checked_dropout(dropout)
    if isinstance(scale, Tensor):
        check_has_numbers("scale", scale, query)
        query, scale = learned.scaled(query, scale)
    if isinstance(softcap, Tensor):
        check_has_numbers("softcap", softcap, query)
        softcap = learned.capped(softcap)
    elif softcap is not None:
        softcap = positive("softcap", softcap)
    return Problem(
        query,
        key,
        value,
        scale=1 / math.sqrt(query.shape[3]) if scale is None else finite("scale", scale),
        softcap=softcap,
        ranges=seen.ranges,
        visible=seen.visible,
        bias=weighed.bias,
        slopes=weighed.slopes,
        table=weighed.table,
        offset=weighed.offset,
        sinks=None if sinks is None else checked_sinks(sinks, query),
        dropout=dropout,
        # Drawn from PyTorch's generator, so torch.manual_seed decides.
        seed=torch.randint(2**62, (), device=query.device) if dropout > 0 else None,
    )
