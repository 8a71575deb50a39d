"""The definition: self-attention in float64, in plain PyTorch, with the whole N x N matrix.

This file is the judge. Every backend, every mask and bias in its lowered form, and every readout must
equal what is computed here. It is slow and needs memory for N x M weights per head; use
:func:`sightline.attention` for work.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from sightline.biases import Bias, as_bias
from sightline.masks import Mask, as_mask


class Stages(NamedTuple):
    """Every stage of attention, float64; all [B,H,N,M] but ``context`` [B,H,N,E] and ``lse`` [B,H,N]."""

    scores: Tensor
    scaled: Tensor
    capped: Tensor
    biased: Tensor
    masked: Tensor
    weights: Tensor
    context: Tensor
    lse: Tensor


def attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    mask: Mask | Tensor | None = None,
    bias: Bias | Tensor | None = None,
    scale: float | None = None,
    softcap: float | None = None,
    sinks: Tensor | None = None,
    kept: Tensor | None = None,
) -> Stages:
    """Attention by its formula, stage by stage, in float64.

    ``scores = q·k``, ``scaled = scale · scores``, ``capped = softcap · tanh(scaled / softcap)``,
    ``biased = capped + bias``, ``masked = -inf`` where the query may not look,
    ``weights = exp(masked - lse)`` with ``lse = ln(Σ exp(masked) + exp(sink))``,
    ``context = weights · value``. A pair whose logit is -inf is hidden: whatever its key, value and bias hold
    changes nothing behind ``biased``. A NaN that is seen makes its row NaN.

    Args:
        query: [B,H,N,D].
        key: [B,G,M,D]; query head h reads key/value head h // (H / G).
        value: [B,G,M,E].
        mask, bias, scale, softcap, sinks: as in :func:`sightline.attention`.
        kept: [B,H,N,M], what the weights are multiplied with before the weighted sum (a dropout pattern).

    Returns:
        The stages. A row with nothing to look at has weights 0, context 0 and lse -inf (or its sink).

    Source: Vaswani et al. 2017, "Attention is all you need".

    Example:
        >>> import sightline, torch
        >>> from sightline import reference
        >>> q, k, v = torch.randn(3, 1, 2, 5, 4)
        >>> stages = reference.attention(q, k, v, mask=sightline.causal())
        >>> bool(torch.allclose(stages.weights.sum(-1), torch.ones(1, 2, 5, dtype=torch.float64)))
        True
    """
    group = query.shape[1] // key.shape[1]
    query, key, value = query.double(), *(x.double().repeat_interleave(group, dim=1) for x in (key, value))
    b, h, n, m = shape = (*query.shape[:3], key.shape[2])
    added = None if bias is None else as_bias(bias).dense(shape, query.device)
    hidden = torch.zeros(shape, dtype=torch.bool, device=query.device)
    if mask is not None:
        hidden = hidden | ~as_mask(mask).visible(shape, query.device)
    if added is not None:
        hidden = hidden | (added == -math.inf)

    def logits(scores: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        scaled = scores * (1 / math.sqrt(query.shape[-1]) if scale is None else scale)
        capped = scaled if softcap is None else softcap * torch.tanh(scaled / softcap)
        return scaled, capped, capped if added is None else capped + added

    scores = query @ key.transpose(-1, -2)
    seen = ~hidden & (logits(scores.detach())[-1] != -math.inf)
    scores = _scores_seen(query, key, scores, seen)
    scaled, capped, biased = logits(scores)
    masked = biased.masked_fill(~seen, -math.inf)

    joined = masked
    if sinks is not None:
        joined = torch.cat((masked, sinks.double()[:, None, None].expand(b, h, n, 1)), dim=-1)
    # A row with nothing to look at has lse -inf and weights 0, where a softmax has NaN; a hidden pair has
    # weight 0 in a row of NaN, too. A row that sees an infinite logit is one: no softmax has a value there.
    nothing = (joined == -math.inf).all(-1)
    joined = joined.masked_fill(nothing[..., None], 0)
    lse = joined.logsumexp(-1) if joined.shape[-1] else masked.new_zeros((b, h, n))
    lse = lse.masked_fill(nothing, -math.inf).masked_fill(lse == math.inf, math.nan)
    weights = joined.softmax(-1)[..., :m].masked_fill(~seen, 0)
    context = seen_product(weights if kept is None else weights * kept.double(), value, seen)
    return Stages(scores, scaled, capped, biased, masked, weights, context, lse)


def seen_product(left: Tensor, right: Tensor, seen: Tensor) -> Tensor:
    """Σ_j left[i,j] · right[j,x] over the j that i sees; a hidden one changes nothing, whatever it holds.

    Args:
        left: [...,I,J], 0 where hidden.
        right: [...,J,X].
        seen: [...,I,J], bool.
    """
    if left.isfinite().all() and right.isfinite().all():
        return left @ right
    # 0 · NaN is NaN, in the product and in its gradients: what is hidden is taken out before.
    chosen = right.unsqueeze(-3).where(seen[..., None], 0)
    return (left[..., None] * chosen).sum(-2)


def _scores_seen(query: Tensor, key: Tensor, scores: Tensor, seen: Tensor) -> Tensor:
    """The scores, whose gradients come from the pairs that are seen."""
    if query.isfinite().all() and key.isfinite().all():
        return scores
    of_pairs = query.unsqueeze(-2).where(seen[..., None], 0) * key.unsqueeze(-3).where(seen[..., None], 0)
    return of_pairs.sum(-1).where(seen, scores.detach())
