"""Rotary positions: queries and keys are turned by an angle that grows with the position."""

from __future__ import annotations

import torch
from torch import Tensor

from sightline.common.check import check_tensor, flag, integer, number
from sightline.common.check import share as check_share
from sightline.nn.fixed import Fixed, rows_at
from sightline.nn.turning import by_formula, turned


class Rotary(Fixed):
    """Turns each pair of features by its position's angle, so that scores depend on distances only.

    ``(x₁, x₂) → (x₁ cos a − x₂ sin a, x₁ sin a + x₂ cos a)`` with ``a = p / scaling · theta^(−2f/D)`` for
    position p and pair f of queries or keys [B,H,N,D]. The angles are float32 or better whatever the model is
    cast to.

    Args:
        width: D, the width of a head; even.
        theta: base of the angles. Default: 10000.
        scaling: positions are divided by it (linear position interpolation). Default: 1.
        interleaved: whether a pair is (2f, 2f+1), as in the paper and GPT-J, or (f, f + D/2), as in Llama
            and GPT-NeoX. Default: False, the halves.
        share: of the pairs, the fastest, that turn at all; what the others hold is compared alike at every
            distance (p-RoPE). Default: 1, all of them.

    Raises:
        ValueError: for an odd or non-positive width, or a theta or scaling that is not positive, or a
            share that does not lie between 0 and 1; TypeError: for what is no number.

    Sources: Su et al. 2021, "RoFormer"; Barbero et al. 2025, "Round and round we go! What makes rotary
    positional encodings useful?" (p-RoPE).

    Example:
        >>> import torch
        >>> from sightline.nn import Rotary
        >>> Rotary(16)(torch.randn(1, 2, 5, 16)).shape
        torch.Size([1, 2, 5, 16])
    """

    frequencies: Tensor

    def __init__(
        self,
        width: int,
        *,
        theta: float = 10000.0,
        scaling: float = 1.0,
        interleaved: bool = False,
        share: float = 1.0,
    ) -> None:
        self.width = integer("width", width)
        if self.width < 2 or self.width % 2:
            raise ValueError(
                f"width: must be even and 2 or more, got {width} (axis D). Features turn in pairs."
            )
        self.theta, self.scaling = number("theta", theta, above=0), number("scaling", scaling, above=0)
        self.interleaved, self.share = flag("interleaved", interleaved), check_share("share", share)
        super().__init__("frequencies")

    def _compute(self) -> Tensor:
        powers = torch.arange(0, self.width, 2, dtype=torch.float64, device="cpu") / self.width
        frequencies = self.theta**-powers / self.scaling
        frequencies[int(self.share * len(frequencies) + 0.5) :] = 0
        return frequencies

    def forward(self, x: Tensor, offset: int | Tensor = 0) -> Tensor:
        """Turns x [B,H,N,D]; row i stands at position offset + i, offset a number or [B] integers.

        Raises:
            ValueError: for another D than ``width``, or offsets that are not one for each entry; TypeError:
                for offsets that are no integers.
        """
        check_tensor("x", x, "[B,H,N,D]")
        if x.shape[-1] != self.width:
            raise ValueError(f"x: D={x.shape[-1]} (axis 3) differs from the rotary width {self.width}.")
        positions = rows_at(offset, x, 2)
        if positions.dim() == 2:
            positions = positions[:, None]  # [B,1,N]
        frequencies = self.numbers(x.device)
        angles = positions[..., None].to(frequencies.dtype) * frequencies
        return turned(x, angles.cos().to(x.dtype), angles.sin().to(x.dtype), self.interleaved)

    def turned(self, x: Tensor, angles: Tensor) -> Tensor:
        """x [...,N,D] with its pairs of features turned by angles [...,N,D/2]."""
        return by_formula(x, angles.cos().to(x.dtype), angles.sin().to(x.dtype), self.interleaved)
