"""Rollout: attention multiplied through the layers, for a few target positions at a time.

Attention flow, the same paper's other proposal, needs a maximum flow over all L·N² edges and is left out.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from sightline.common.check import choice, flag, share
from sightline.matrix import AttentionMatrix
from sightline.measure.catalogue import catalogued
from sightline.measure.layers import square, uncut
from sightline.measure.subject import Layers, matrices
from sightline.measure.targets import Targets, one_hot, per_target

_FUSIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "mean": lambda weights: weights.mean(1),
    "max": lambda weights: weights.amax(1),
    "min": lambda weights: weights.amin(1),
}


@catalogued(
    formula="e_tᵀ Ã_L · … · Ã_1, with Ã = residual · I + (1 - residual) · fused over heads, rows scaled to "
    "sum to 1",
    unit="share",
    range=(0, 1),
    source="Abnar & Zuidema 2020, Quantifying attention flow in Transformers",
    caveat="It knows neither values nor MLPs, and takes the residual stream for one fixed share; deep "
    "models roll out to nearly the same picture for every target.",
)
def rollout(
    A: Layers,
    targets: Targets,
    *,
    residual: float = 0.5,
    fusion: str = "mean",
    normalize: bool = True,
    unverified: bool = False,
) -> Tensor:
    """How much each input position reaches a target position through all layers.

    Vector by lazy matrix, from the last layer to the first: memory is linear in N and in the number of
    targets. Cost: one pass over each layer.

    Args:
        A: AttentionMatrix [B,H,N,N], or a sequence of them, first layer first (a trace of an encoder or a
            decoder's self-attention). They may differ in H.
        targets: which rows of the product: a position, or several; negative ones count from the end.
        residual: share of the residual connection, 0 to 1. Default: one half.
        fusion: "mean", "max" or "min" over heads. Default: "mean".
        normalize: scale each row of the mix to sum to 1, as the paper does. This takes out what learned
            sinks got, and lets a fully masked row pass on what it has; otherwise that weight is lost.

    Returns:
        [B,N] for one target, [B,T,N] for T of them.

    Raises:
        ValueError: unless N = M in every layer and equal lengths; for traced layers whose rows are no
            positions of the whole input (windows, channels); for a residual outside 0 to 1, another
            fusion, targets out of range.

    Example:
        >>> import sightline.measure, torch
        >>> A = sightline.AttentionMatrix(*torch.zeros(2, 1, 2, 3, 4), mask=sightline.causal())
        >>> sightline.measure.rollout([A], 1)                # half from the residual, half spread over two
        tensor([[0.2500, 0.7500, 0.0000]])
    """
    layers = square(matrices(uncut(A), unverified))
    residual, normalize = share("residual", residual), flag("normalize", normalize)
    choice("fusion", fusion, _FUSIONS)
    rows = one_hot(layers[0], targets)
    for matrix in reversed(layers):
        rows = _through(matrix, rows.to(matrix.lse.dtype), residual, _FUSIONS[fusion], normalize)
    return per_target(rows, targets)


def _through(
    matrix: AttentionMatrix,
    rows: Tensor,
    residual: float,
    fuse: Callable[[Tensor], Tensor],
    normalize: bool,
) -> Tensor:
    """x Ã for row vectors x, held as columns [B,N,T]."""
    # The residual's share of each row: all of it where the row sees nothing.
    kept = torch.full_like(rows[..., 0], 1.0 if normalize and residual > 0 else residual)
    passed = torch.zeros(rows.shape, dtype=torch.float64, device=rows.device)
    for block in matrix.blocks():
        fused = fuse(block.weights)
        scale = _scale(fused.sum(-1), residual) if normalize else torch.ones_like(fused[..., 0])
        kept[block.batch, block.rows] = residual * scale
        given = rows[block.batch, block.rows] * ((1 - residual) * scale)[..., None]
        passed[block.batch, block.cols] += fused.transpose(1, 2) @ given
    return (passed + kept[..., None] * rows).to(rows.dtype)


def _scale(total: Tensor, residual: float) -> Tensor:
    """What brings a row of the mix to the sum 1, for rows of the fused matrix that sum to ``total``."""
    whole = residual + (1 - residual) * total
    return torch.where(whole > 0, 1 / whole.masked_fill(whole == 0, 1), 0)
