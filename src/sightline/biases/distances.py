"""Biases by distance: computed in the kernel from j - i, never expanded.

Letters: B batch, H heads, N queries, M keys. Query i stands at position i + offset.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sightline.biases.bias import Bias, LoweredBias, Shape
from sightline.common.check import check_device, check_strided, fits
from sightline.positions.align import Align, check_align, offsets, positions


@dataclass(eq=False)
class Alibi(Bias):
    """-slope * |i + offset - j|."""

    slopes: Tensor
    align: Align

    def dense(self, shape: Shape, device: torch.device) -> Tensor:
        slopes = self._fitted(shape, device).double()
        return -slopes[..., None, None] * _steps(shape, self.align, device).abs()

    def lower(self, shape: Shape, device: torch.device) -> LoweredBias:
        b, _, n, m = shape
        slopes = self._fitted(shape, device)
        return LoweredBias(slopes=slopes, offset=offsets(self.align, b, n, m, device))

    def _fitted(self, shape: Shape, device: torch.device) -> Tensor:
        check_device("alibi slopes", self.slopes, device)
        if self.slopes.shape[-1] != shape[1]:
            raise ValueError(
                f"alibi: {self.slopes.shape[-1]} slopes do not fit H={shape[1]} heads (axis H). "
                "Give one slope per query head."
            )
        return fits("alibi slopes", self.slopes, ("B", "H"), shape[:2])


@dataclass(eq=False)
class Relative(Bias):
    """table[h, clip(j - i - offset, -R, R) + R]."""

    table: Tensor
    align: Align

    def dense(self, shape: Shape, device: torch.device) -> Tensor:
        table = self._fitted(shape, device).double()
        radius = table.shape[1] // 2
        index = _steps(shape, self.align, device).clamp(-radius, radius) + radius
        return table[:, index[:, 0]].movedim(0, 1)

    def lower(self, shape: Shape, device: torch.device) -> LoweredBias:
        b, _, n, m = shape
        return LoweredBias(table=self._fitted(shape, device), offset=offsets(self.align, b, n, m, device))

    def _fitted(self, shape: Shape, device: torch.device) -> Tensor:
        check_device("relative table", self.table, device)
        if self.table.shape[0] not in (1, shape[1]):
            raise ValueError(
                f"relative: a table for {self.table.shape[0]} heads does not fit H={shape[1]} (axis H). "
                "Give [H, 2R+1], or [1, 2R+1] for all heads."
            )
        return self.table


def alibi(slopes: Tensor, align: Align = "bottom-right") -> Bias:
    """Attention with linear biases: ``-slope_h * |i + offset - j|`` is added to the scores.

    Computed in the kernel from j - i, never expanded. Gradients reach ``slopes``.

    Args:
        slopes: [H] or [B,H], floating.
        align: where query i stands; see :func:`sightline.causal`.

    Raises:
        TypeError, ValueError: for another dtype or shape.

    Source: Press, Smith & Lewis 2022, "Train short, test long".

    Example:
        >>> import sightline, torch
        >>> bias = sightline.alibi(torch.tensor([0.5]), align="top-left")
        >>> bias.dense((1, 1, 1, 3), torch.device("cpu")).abs().flatten().tolist()
        [0.0, 0.5, 1.0]
    """
    _check_floating("alibi slopes", slopes)
    if slopes.dim() not in (1, 2):
        raise ValueError(f"alibi: slopes must be [H] or [B,H], got shape {list(slopes.shape)}.")
    return Alibi(slopes, check_align("alibi", align))


def relative(table: Tensor, align: Align = "bottom-right") -> Bias:
    """Relative position bias: ``table[h, clip(j - i - offset, -R, R) + R]`` is added to the scores.

    Computed in the kernel from j - i, never expanded. Gradients reach ``table``.

    Args:
        table: [H, 2R+1] (or [1, 2R+1] for all heads), floating; entry R is "the key at my own position".
        align: where query i stands; see :func:`sightline.causal`.

    Raises:
        TypeError, ValueError: for another dtype or shape.

    Source: Raffel et al. 2020, "T5" (biases per relative position), without the buckets.

    Example:
        >>> import sightline, torch
        >>> bias = sightline.relative(torch.tensor([[-1.0, 0.0, 1.0]]), align="top-left")
        >>> bias.dense((1, 1, 2, 3), torch.device("cpu"))[0, 0].tolist()
        [[0.0, 1.0, 1.0], [-1.0, 0.0, 1.0]]
    """
    _check_floating("relative table", table)
    if table.dim() != 2 or table.shape[1] % 2 == 0:
        raise ValueError(f"relative: table must be [H, 2R+1] with an odd width, got {list(table.shape)}.")
    return Relative(table, check_align("relative", align))


def _check_floating(name: str, tensor: Tensor) -> None:
    if not isinstance(tensor, Tensor):
        raise TypeError(f"{name}: expected a floating tensor, got {type(tensor).__name__}.")
    if not tensor.is_floating_point():
        raise TypeError(f"{name}: expected a floating dtype, got {tensor.dtype}. Use .float().")
    check_strided(name, tensor)


def _steps(shape: Shape, align: Align, device: torch.device) -> Tensor:
    """j - i - offset: [1|B, 1, N, M]."""
    b, _, n, m = shape
    return torch.arange(m, device=device) - positions(align, b, n, m, device)[:, None, :, None]
