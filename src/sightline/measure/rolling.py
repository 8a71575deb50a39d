"""Rollout: attention multiplied through the layers, for a few target positions at a time.

Attention flow, the same paper's other proposal, needs a maximum flow over all L·N² edges and is left out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from sightline.common.check import check_device, check_integers
from sightline.matrix import AttentionMatrix
from sightline.measure.catalogue import catalogued
from sightline.measure.subject import layers
from sightline.measure.sweep import View, compute_dtype, sweep

_FUSIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "mean": lambda weights: weights.mean(1),
    "max": lambda weights: weights.amax(1),
    "min": lambda weights: weights.amin(1),
}

Targets = int | Sequence[int] | Tensor


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
    A: Any,
    targets: Targets,
    *,
    residual: float = 0.5,
    fusion: str = "mean",
    normalize: bool = True,
    unverified: bool = False,
) -> Tensor:
    """How much each input position reaches a target position through all layers.

    Vector by lazy matrix, from the last layer to the first: memory is linear in N and in the number of
    targets.

    Args:
        A: AttentionMatrix [B,H,N,N], or a sequence of them, first layer first (a trace of an encoder or a
            decoder's self-attention). They may differ in H.
        targets: which rows of the product: a position, or several; negative ones count from the end.
        residual: share of the residual connection, 0 to 1.
        fusion: "mean", "max" or "min" over heads.
        normalize: scale each row of the mix to sum to 1, as the paper does. This takes out what learned
            sinks got, and lets a fully masked row pass on what it has; otherwise that weight is lost.
        unverified: measure traced calls that were not verified, too.

    Returns:
        [B,N] for one target, [B,T,N] for T of them.

    Raises:
        ValueError: unless N = M in every layer and equal lengths; for a residual outside 0 to 1, another
        fusion, targets out of range. UnverifiedError: for an unverified call.

    Cost: one pass over each layer.

    Example:
        >>> import sightline.measure, torch
        >>> A = sightline.AttentionMatrix(*torch.zeros(2, 1, 2, 3, 4), mask=sightline.causal())
        >>> sightline.measure.rollout([A], 1)                # half from the residual, half spread over two
        tensor([[0.2500, 0.7500, 0.0000]])
    """
    matrices = square(layers(A, unverified))
    if not 0 <= residual <= 1:
        raise ValueError(f"residual: must lie between 0 and 1, got {residual}.")
    if fusion not in _FUSIONS:
        raise ValueError(f"fusion: must be one of {', '.join(_FUSIONS)}, got {fusion!r}.")
    rows = one_hot(matrices[0], targets)
    for matrix in reversed(matrices):
        (rows,) = sweep(matrix, _Step(matrix, rows, residual, _FUSIONS[fusion], normalize))
    return per_target(rows, targets)


def one_hot(matrix: AttentionMatrix, targets: Targets) -> Tensor:
    """[B,N,T]: a 1 at each target."""
    b, _, n, _ = matrix.problem.shape
    given = torch.as_tensor(targets, device=None if isinstance(targets, Tensor) else matrix.device)
    check_integers("targets", given)
    check_device("targets", given, matrix.device)
    if given.dim() > 1 or not given.numel():
        raise ValueError(f"targets: expected a position or several [T], got shape {list(given.shape)}.")
    if not -n <= int(given.min()) <= int(given.max()) < n:
        raise ValueError(
            f"targets: positions from {int(given.min())} to {int(given.max())} do not fit N={n} (axis N)."
        )
    hot = torch.nn.functional.one_hot(given.reshape(-1).long() % n, n)
    return hot.T.to(compute_dtype(matrix.problem)).expand(b, n, -1)


def per_target(rows: Tensor, targets: Targets) -> Tensor:
    """[B,N,T] -> [B,T,N], or [B,N] where one target was given as a number."""
    single = isinstance(targets, int) or (isinstance(targets, Tensor) and targets.dim() == 0)
    return rows[..., 0] if single else rows.transpose(1, 2).contiguous()


def square(matrices: list[AttentionMatrix]) -> list[AttentionMatrix]:
    """The layers, if each is self-attention over one and the same sequence."""
    b, _, length, _ = matrices[0].problem.shape
    for number, matrix in enumerate(matrices):
        other, _, n, m = matrix.problem.shape
        if n != m:
            raise ValueError(
                f"layers: layer {number} has N={n} queries and M={m} keys; layers can only be multiplied "
                "where N = M. Leave cross-attention out; stitch the steps of a generation into whole "
                "matrices."
            )
        if (other, n) != (b, length):
            raise ValueError(
                f"layers: layer {number} has B={other}, N={n}, but layer 0 has B={b}, N={length}. Take "
                "layers of one sequence."
            )
    return matrices


class _Step:
    """x Ã for row vectors x, held as columns [B,N,T]."""

    def __init__(
        self,
        matrix: AttentionMatrix,
        rows: Tensor,
        residual: float,
        fuse: Callable[[Tensor], Tensor],
        normalize: bool,
    ) -> None:
        self.rows = rows.to(matrix.lse.dtype)
        self.residual, self.fuse, self.normalize = residual, fuse, normalize
        # The residual's share of each row: all of it where the row sees nothing.
        share = 1.0 if normalize and residual > 0 else residual
        self.kept = torch.full(rows.shape[:2], share, dtype=self.rows.dtype, device=matrix.device)
        self.out = torch.zeros(rows.shape, dtype=torch.float64, device=matrix.device)

    def take(self, view: View) -> None:
        batch, rows, cols = view.block
        fused = self.fuse(view.weights)
        scale = self._scale(fused.sum(-1))
        self.kept[batch, rows] = self.residual * scale
        given = self.rows[batch, rows] * ((1 - self.residual) * scale)[..., None]
        self.out[batch, cols] += fused.transpose(1, 2) @ given

    def _scale(self, total: Tensor) -> Tensor:
        """What brings a row of the mix to the sum 1, for rows of the fused matrix that sum to ``total``."""
        whole = self.residual + (1 - self.residual) * total
        if not self.normalize:
            return torch.ones_like(whole)
        return torch.where(whole > 0, 1 / whole.masked_fill(whole == 0, 1), 0)

    def result(self) -> Tensor:
        return (self.out + self.kept[..., None] * self.rows).to(self.rows.dtype)
