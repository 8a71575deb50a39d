"""Errors against float64, as multiples of PyTorch SDPA's own in the same dtype."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F

import sightline


def rows() -> Iterator[dict[str, Any]]:
    """Signed normal inputs, plain and with logits scaled by 20."""
    for n in (1024, 4096, 16384):
        for stretch in (1, 20):
            for causal in (False, True):
                torch.manual_seed(0)
                query, key, value = (torch.randn(1, 2, n, 64) for _ in range(3))
                query = query * stretch
                wanted = F.scaled_dot_product_attention(
                    query.double(), key.double(), value.double(), is_causal=causal
                )
                mask = sightline.causal() if causal else None
                ours = sightline.attention(query, key, value, mask=mask).double() - wanted
                theirs = F.scaled_dot_product_attention(query, key, value, is_causal=causal).double() - wanted
                yield {
                    "case": f"(1,2,{n},64) {'causal' if causal else 'full'}, logits × {stretch}",
                    "largest error": ours.abs().max().item(),
                    "times sdpa's largest": (ours.abs().max() / theirs.abs().max()).item(),
                    "times sdpa's rms": (ours.norm() / theirs.norm()).item(),
                }
