"""How far a head looks, along a text or across a picture."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from sightline.matrix import AttentionMatrix
from sightline.measure.catalogue import catalogued
from sightline.measure.rows import counted, visible
from sightline.measure.sources import DOSOVITSKIY_2020
from sightline.measure.subject import subject
from sightline.measure.sweep import View, compute_dtype, sweep
from sightline.positions.align import Align


@catalogued(
    formula="Σ_j w_ij |p_i - j|, with p_i = i + offset the position of query i",
    unit="positions",
    source=DOSOVITSKIY_2020,
    caveat="A mean hides two habits: half near, half on a distant sink reads as middle distance. Take "
    "sink_mass with it.",
)
def attention_distance(
    A: Any,
    *,
    align: Align = "bottom-right",
    per_query: bool = False,
    queries: Tensor | None = None,
    unverified: bool = False,
) -> Tensor:
    """How far a head looks, in positions of a sequence.

    Args:
        A: AttentionMatrix [B,H,N,M], or a traced call that holds one.
        align: where query 0 stands, as for :func:`sightline.causal`; with the default the last query
            stands at the last key. It means nothing for cross-attention.
        per_query: [B,H,N] instead of the mean.
        queries: bool [N] or [B,N], which queries the mean counts.
        unverified: measure a traced call that was not verified, too.

    Returns:
        [B,H], the mean over queries that see a key; NaN where none does. A fully masked row reads 0.
        Weight on a learned sink counts as distance 0.

    Raises:
        TypeError, ValueError: for another ``align`` or ``queries``; UnverifiedError: for an unverified call.

    Example:
        >>> import sightline.measure, torch
        >>> A = sightline.AttentionMatrix(*torch.zeros(2, 1, 1, 3, 2), mask=sightline.causal())
        >>> sightline.measure.attention_distance(A, per_query=True)      # 0, 1/2, 1
        tensor([[[0.0000, 0.5000, 1.0000]]])
    """
    given = subject(A, unverified)
    rows = counted(given.matrix, visible(given.matrix).counts > 0, queries)
    return given.result(given.matrix.distance(align), rows, per_query)


@catalogued(
    formula="Σ_j w_ij ‖c_i - c_j‖₂ / Σ_j w_ij over patches j, with c the patches' centres",
    unit="patches, or pixels with patch=",
    source=DOSOVITSKIY_2020,
    caveat="Patches at the rim have farther to look than those in the middle; compare grids of equal size "
    "only.",
)
def grid_distance(
    A: Any,
    grid: tuple[int, int],
    *,
    special: int = 0,
    patch: float = 1.0,
    per_query: bool = False,
    queries: Tensor | None = None,
    unverified: bool = False,
) -> Tensor:
    """How far a head looks across a picture that was cut into patches, row by row.

    Args:
        A: AttentionMatrix [B,H,N,M] with N = M = special + height · width, or a traced call.
        grid: (height, width) in patches.
        special: how many tokens stand before the patches (class token, registers). They are left out as
            queries and as keys; the weights of the patches are scaled to sum to 1 again.
        patch: the side of a patch; with its size in pixels, distances are in pixels.
        per_query: [B,H,N] instead of the mean; special tokens read 0.
        queries: bool [N] or [B,N], which queries the mean counts.
        unverified: measure a traced call that was not verified, too.

    Returns:
        [B,H], the mean over patches that give weight to a patch; NaN where none does. A fully masked row
        reads 0.

    Raises:
        ValueError: if the grid does not fit the matrix; UnverifiedError: for an unverified call.

    Example:
        >>> import sightline.measure, torch
        >>> A = sightline.AttentionMatrix(*torch.zeros(2, 1, 1, 5, 2))      # a class token, 2 x 2 patches
        >>> sightline.measure.grid_distance(A, (2, 2), special=1)           # (0 + 1 + 1 + √2) / 4
        tensor([[0.8536]])
    """
    given = subject(A, unverified)
    (distance, weight) = sweep(given.matrix, _GridDistance(given.matrix, grid, special))[0]
    rows = counted(given.matrix, weight > 0, queries)
    found = torch.where(weight > 0, distance / weight.masked_fill(weight == 0, 1), 0) * patch
    return given.result(found, rows, per_query)


class _GridDistance:
    """(Σ_j w_ij ‖c_i - c_j‖, Σ_j w_ij) over patches j, both [B,H,N]."""

    def __init__(self, matrix: AttentionMatrix, grid: tuple[int, int], special: int) -> None:
        b, h, n, m = matrix.problem.shape
        height, width = grid
        if n != m or special < 0 or special + height * width != m:
            raise ValueError(
                f"grid: {special} special tokens and {height} x {width} patches make "
                f"{special + height * width} tokens, but the matrix has N={n} queries and M={m} keys. "
                "Give the grid in patches, and special= for class tokens and registers."
            )
        self.special = special
        place = torch.arange(m, device=matrix.device) - special
        self.row = place // max(1, width)
        self.column = place % max(1, width)
        self.dtype = compute_dtype(matrix.problem)
        self.distance = torch.zeros((b, h, n), dtype=self.dtype, device=matrix.device)
        self.weight = torch.zeros_like(self.distance)

    def take(self, view: View) -> None:
        batch, rows, cols = view.block
        cols = slice(max(cols.start, self.special), cols.stop)
        if cols.start >= cols.stop:
            return
        weights = view.weights[..., cols.start - view.block.cols.start :]
        down = self.row[rows, None] - self.row[cols]
        across = self.column[rows, None] - self.column[cols]
        steps = (down**2 + across**2).to(self.dtype).sqrt()
        patches = (torch.arange(rows.start, rows.stop, device=steps.device) >= self.special).to(self.dtype)
        self.distance[batch, :, rows] = (weights * steps).sum(-1) * patches
        self.weight[batch, :, rows] = weights.sum(-1) * patches

    def result(self) -> tuple[Tensor, Tensor]:
        return self.distance, self.weight
