"""Copying: tokens of the source as an answer beside those of the vocabulary."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from sightline.nn.linear import Linear

_TINY = 1e-9


class CopyHead(nn.Module):
    """Mixes what the decoder would write by itself with tokens of the source.

    p = g · softmax(logits) + (1 − g) · Σⱼ wⱼ · onehot(sourceⱼ), where w = softmax(qkᵀ/√C) is one head of
    cross-attention and the gate g = σ(linear(state, context)). So names and numbers that never occurred
    in training can still be written.

    Args:
        width: C, of the model.

    Source: See et al. 2017, "Get to the point: summarization with pointer-generator networks".
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.query = Linear(width, width)
        self.key = Linear(width, width)
        self.gate = Linear(2 * width, 1)

    def weights(self, states: Tensor, memory: Tensor, lengths: Tensor | None) -> Tensor:
        """states [B,N,C], memory [B,M,C] → w [B,N,M], which the mixture needs whole; rows sum to 1."""
        scores = self.query(states) @ self.key(memory).transpose(1, 2) / math.sqrt(states.shape[-1])
        if lengths is not None:
            outside = torch.arange(memory.shape[1], device=memory.device) >= lengths[:, None]
            scores = scores.masked_fill(outside[:, None], -torch.inf)
        weights: Tensor = scores.float().softmax(-1)
        return weights

    def forward(
        self,
        logits: Tensor,
        states: Tensor,
        memory: Tensor,
        source: Tensor,
        lengths: Tensor | None,
        wanted: Tensor | None = None,
    ) -> Tensor:
        """logits [B,N,V] → ln p [B,N,V].

        Args:
            logits: of all places, or [R,V] of those that are ``wanted``, as the result then is.
            states: [B,N,C] of the decoder.
            memory: [B,M,C], the source's states.
            source: [B,M] token ids.
            lengths: [B], how many of them count. Default: all.
            wanted: [B,N], True at R places. Default: all.
        """
        weights = self.weights(states, memory, lengths)
        context = weights.to(memory.dtype) @ memory
        places = source.long()[:, None].expand(weights.shape)
        if wanted is not None:
            states, context, weights, places = (t[wanted] for t in (states, context, weights, places))
        gate = self.gate(torch.cat((states, context), -1)).float().sigmoid()
        mixed = (logits.float().softmax(-1) * gate).scatter_add(-1, places, weights * (1 - gate))
        log_p: Tensor = (mixed + _TINY).log()
        return log_p
