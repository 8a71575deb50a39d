"""The vendors' attention: PyTorch's kernels one by one, and FlexAttention, compiled."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

Attend = Callable[[Tensor, Tensor, Tensor], Tensor]


def vendors(causal: bool, device: torch.device) -> dict[str, Attend]:
    """By name; whether each takes a problem is found out by calling it."""
    from torch.nn.attention import SDPBackend

    found: dict[str, Attend] = {
        "sdpa flash": partial(_sdpa, SDPBackend.FLASH_ATTENTION, causal),
        "cudnn": partial(_sdpa, SDPBackend.CUDNN_ATTENTION, causal),
        "sdpa efficient": partial(_sdpa, SDPBackend.EFFICIENT_ATTENTION, causal),
    }
    if device.type == "cuda":  # for the CPU it would compile for half a minute
        found["flex"] = partial(_flex, causal)
    return found


def _sdpa(backend: Any, causal: bool, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    from torch.nn.attention import sdpa_kernel

    with sdpa_kernel(backend):
        return F.scaled_dot_product_attention(query, key, value, is_causal=causal)


def _flex(causal: bool, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    mask = _causal_blocks(query.shape[2], str(query.device)) if causal else None
    context: Tensor = _compiled()(query, key, value, block_mask=mask)
    return context


@cache
def _compiled() -> Any:
    from torch.nn.attention.flex_attention import flex_attention

    return torch.compile(flex_attention, dynamic=False)


@cache
def _causal_blocks(length: int, device: str) -> Any:
    from torch.nn.attention.flex_attention import create_block_mask

    return create_block_mask(_not_later, None, None, length, length, device=device)


def _not_later(batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
    return query >= key
