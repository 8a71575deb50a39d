"""Positions that are added to the input vectors."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sightline.common import several
from sightline.common.check import check_tensor, flag, integer, is_eager
from sightline.nn.fixed import Fixed, default_device, rows_at
from sightline.nn.given import check_rows


def sinusoidal(length: int, width: int) -> Tensor:
    """The sinusoids of the paper, one row for each position.

    ``sin(p · 10000^(−2f/C))`` for position p at feature 2f, the cosine of the same angle at 2f + 1.

    Args:
        length: N, how many positions.
        width: C; even.

    Returns:
        [N,C] float32.

    Raises:
        ValueError: for an odd or non-positive width, or a negative length; TypeError: for one that is no
            integer.

    Source: Vaswani et al. 2017, "Attention is all you need".

    Example:
        >>> from sightline.nn import sinusoidal
        >>> sinusoidal(2, 4)[0].tolist()
        [0.0, 1.0, 0.0, 1.0]
    """
    rows = torch.arange(integer("length", length, 0), dtype=torch.float64, device="cpu")
    angles = rows[:, None] * _frequencies(_even(width))
    return _waves(angles, interleaved=True).to(default_device(), torch.float32)


class SinusoidalPositions(Fixed):
    """Adds the paper's sinusoids to its input, at any position; nothing is trained.

    ``x[b,i,2f] + sin(p · 10000^(−2f/C))`` with ``p = offset + i`` for x [B,N,C], and the cosine of the same
    angle at 2f + 1; see :func:`sinusoidal`.

    Args:
        width: C; even.
        interleaved: whether sine and cosine of a frequency lie next to each other, as in the paper, or all
            sines before all cosines, as in Marian. Default: True.

    Raises:
        ValueError: for an odd or non-positive width.

    Source: Vaswani et al. 2017, "Attention is all you need".

    Example:
        >>> import torch
        >>> from sightline.nn import SinusoidalPositions
        >>> SinusoidalPositions(4)(torch.zeros(1, 1, 4)).tolist()
        [[[0.0, 1.0, 0.0, 1.0]]]
    """

    frequencies: Tensor

    def __init__(self, width: int, *, interleaved: bool = True) -> None:
        self.width, self.interleaved = _even(width), flag("interleaved", interleaved)
        super().__init__("frequencies")

    def _compute(self) -> Tensor:
        return _frequencies(self.width)

    def forward(self, x: Tensor, offset: int | Tensor = 0) -> Tensor:
        """x [B,N,C] with the vectors of positions offset + i added; offset is a number or [B] integers."""
        check_tensor("x", x, "[B,N,C]")
        check_rows("x", x, self.width)
        positions, frequencies = rows_at(offset, x, 1), self.numbers(x.device)
        angles = positions[..., None].to(frequencies.dtype) * frequencies
        return x + _waves(angles, self.interleaved).to(x.dtype)


class LearnedPositions(nn.Module):
    """Adds one trained vector per position to its input.

    ``x[b,i] + weight[offset + i]`` for x [B,N,C]; the weight is initialised N(0, 0.02²).

    Args:
        length: how many positions there are.
        width: C.

    Raises:
        ValueError: for sizes below 1; in the forward, for positions beyond ``length``.

    Source: Gehring et al. 2017, "Convolutional sequence to sequence learning".

    Example:
        >>> import torch
        >>> from sightline.nn import LearnedPositions
        >>> LearnedPositions(8, 4)(torch.zeros(1, 3, 4)).shape
        torch.Size([1, 3, 4])
    """

    def __init__(self, length: int, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(integer("length", length, 1), integer("width", width, 1)))
        nn.init.normal_(self.weight, std=0.02)

    def forward(self, x: Tensor, offset: int | Tensor = 0) -> Tensor:
        """x [B,N,C] with the vectors of positions offset + i added; offset is a number or [B] integers."""
        check_tensor("x", x, "[B,N,C]")
        check_rows("x", x, self.weight.shape[1])
        if x.device != self.weight.device:
            raise ValueError(
                f"x: on {x.device}, but the weights are on {self.weight.device}. Move one with .to()."
            )
        rows = rows_at(offset, x, 1)
        self._check(offset, rows)
        return x + self.weight[rows]

    def _check(self, offset: int | Tensor, rows: Tensor) -> None:
        if isinstance(offset, int) and not several.anybody():
            first, last = offset, offset + rows.shape[-1] - 1
        elif is_eager(rows) and rows.numel():
            first, last = int(rows.min()), int(rows.max())
        else:
            return
        if first < 0 or last >= self.weight.shape[0]:
            raise ValueError(
                f"x: positions {first} to {last} (axis N) lie outside the "
                f"{self.weight.shape[0]} learned ones. Shorten the input or make more positions."
            )


def _even(width: int) -> int:
    width = integer("width", width)
    if width < 2 or width % 2:
        raise ValueError(f"width: must be even and 2 or more, got {width}.")
    return width


def _frequencies(width: int) -> Tensor:
    powers = torch.arange(0, width, 2, dtype=torch.float64, device="cpu") / width
    return torch.tensor(10000.0, dtype=torch.float64, device="cpu") ** -powers


def _waves(angles: Tensor, interleaved: bool) -> Tensor:
    sine, cosine = angles.sin(), angles.cos()
    if interleaved:
        return torch.stack((sine, cosine), dim=-1).flatten(-2)
    return torch.cat((sine, cosine), dim=-1)
