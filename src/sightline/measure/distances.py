"""How far a head looks, along a text or across a picture."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Unpack

import torch
from torch import Tensor

from sightline.common.check import integer, number, shown
from sightline.matrix import AttentionMatrix
from sightline.measure.catalogue import catalogued
from sightline.measure.sources import DOSOVITSKIY_2020
from sightline.measure.subject import Measurable, RowOptions, measured_rows
from sightline.positions.align import Align


@catalogued(
    formula="Σ_j w_ij |p_i - j|, with p_i = i + offset the position of query i",
    unit="positions",
    source=DOSOVITSKIY_2020,
    caveat="A mean hides two habits: half near, half on a distant sink reads as middle distance. Take "
    "sink_mass with it.",
)
def attention_distance(
    A: Measurable, *, align: Align = "bottom-right", **options: Unpack[RowOptions]
) -> Tensor:
    """How far a head looks, in positions of a sequence.

    It means nothing for cross-attention.

    Returns:
        [B,H], the mean over queries that see a key; NaN where none does. A fully masked row reads 0.
        Weight on a learned sink counts as distance 0.

    Example:
        >>> import sightline.measure, torch
        >>> A = sightline.AttentionMatrix(*torch.zeros(2, 1, 1, 3, 2), mask=sightline.causal())
        >>> sightline.measure.attention_distance(A, per_query=True)      # 0, 1/2, 1
        tensor([[[0.0000, 0.5000, 1.0000]]])
    """
    rows = measured_rows(A, **options)
    return rows.result(rows.matrix.distance(align))


@catalogued(
    formula="Σ_j w_ij ‖c_i - c_j‖₂ / Σ_j w_ij over patches j, with c the patches' centres",
    unit="patches, or pixels with patch=",
    source=DOSOVITSKIY_2020,
    caveat="Patches at the rim have farther to look than those in the middle; compare grids of equal size "
    "only.",
)
def grid_distance(
    A: Measurable,
    grid: tuple[int, int],
    *,
    special: int = 0,
    patch: float = 1.0,
    **options: Unpack[RowOptions],
) -> Tensor:
    """How far a head looks across a picture that was cut into patches, row by row.

    Args:
        A: AttentionMatrix [B,H,N,M] with N = M = special + height · width, or a traced call that holds one.
        grid: (height, width) in patches.
        special: how many tokens stand before the patches (class token, registers). They are left out as
            queries and as keys; the weights of the patches are scaled to sum to 1 again. Default: none.
        patch: the side of a patch; with its size in pixels, distances are in pixels. Default: 1.

    Returns:
        [B,H], the mean over patches that give weight to a patch; NaN where none does. A fully masked row
        reads 0, and so do special tokens.

    Raises:
        ValueError: if the grid does not fit the matrix.

    Example:
        >>> import sightline.measure, torch
        >>> A = sightline.AttentionMatrix(*torch.zeros(2, 1, 1, 5, 2))      # a class token, 2 x 2 patches
        >>> sightline.measure.grid_distance(A, (2, 2), special=1)           # (0 + 1 + 1 + √2) / 4
        tensor([[0.8536]])
    """
    patch = number("patch", patch, above=0)
    rows = measured_rows(A, **options)
    distance, weight = _grid_distance(rows.matrix, grid, special)
    mean = torch.where(weight > 0, distance / weight.masked_fill(weight == 0, 1), 0) * patch
    return rows.result(mean, weight > 0)


def _grid_distance(matrix: AttentionMatrix, grid: tuple[int, int], special: int) -> tuple[Tensor, Tensor]:
    """(Σ_j w_ij ‖c_i - c_j‖, Σ_j w_ij) over patches j, both [B,H,N]; 0 for special tokens."""
    row, column = _patches(matrix, grid, special)
    distance, weight = torch.zeros_like(matrix.lse), torch.zeros_like(matrix.lse)
    for block in matrix.blocks(slice(special, None), slice(special, None)):
        down = row[block.rows, None] - row[block.cols]
        across = column[block.rows, None] - column[block.cols]
        steps = (down**2 + across**2).to(distance.dtype).sqrt()
        distance[block.batch, :, block.rows] = (block.weights * steps).sum(-1)
        weight[block.batch, :, block.rows] = block.weights.sum(-1)
    return distance, weight


def _patches(matrix: AttentionMatrix, grid: tuple[int, int], special: int) -> tuple[Tensor, Tensor]:
    """The row and the column of each token's patch, [N] each; of special tokens they mean nothing."""
    _, _, n, m = matrix.sizes
    if not isinstance(grid, Sequence) or len(grid) != 2:
        raise TypeError(f"grid: must be (height, width) in patches, got {shown(grid)}.")
    height, width = (integer("grid", side, 0) for side in grid)
    special = integer("special", special, 0)
    if n != m or special + height * width != m:
        raise ValueError(
            f"grid: {special} special tokens and {height} x {width} patches make "
            f"{special + height * width} tokens, but the matrix has N={n} queries and M={m} keys. "
            "Give the grid in patches, and special= for class tokens and registers."
        )
    place = torch.arange(m, device=matrix.device) - special
    return place // max(1, width), place % max(1, width)
