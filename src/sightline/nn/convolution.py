"""The Conformer's convolution module: what lies close together in time is mixed within each channel."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sightline.common.check import check_tensor, integer, share, shown
from sightline.nn.given import check_rows
from sightline.nn.linear import Linear


class ConvolutionModule(nn.Module):
    """The Conformer's convolution module: mixes positions that lie close together, each channel by itself.

    ``output = x + dropout(W₂ · silu(norm(d ∗ glu(W₁ · norm(x)))))`` for x [B,N,C]; d is a filter of its own
    for each channel (depthwise). The norm after it is a layer norm, not the paper's batch norm, so that a
    recording's output doesn't depend on the rest of its batch.

    Args:
        width: C.
        kernel: positions that d spans; odd.
        dropout: of what is added, while training. Default: 0.

    Raises:
        ValueError: for a kernel that is even or below 1, or a width below 1.

    Source: Gulati et al. 2020, "Conformer: Convolution-augmented Transformer for speech recognition".

    Example:
        >>> import torch
        >>> from sightline.nn import ConvolutionModule
        >>> ConvolutionModule(16, kernel=5)(torch.randn(2, 9, 16)).shape
        torch.Size([2, 9, 16])
    """

    def __init__(self, width: int, kernel: int, *, dropout: float = 0.0) -> None:
        super().__init__()
        width, kernel = integer("width", width, 1), integer("kernel", kernel)
        if kernel < 1 or kernel % 2 == 0:
            raise ValueError(f"kernel: must be odd and 1 or more, got {kernel}. It has a middle.")
        self.width = width
        self.norm = nn.LayerNorm(width)
        self.input = Linear(width, 2 * width)
        self.depthwise = nn.Conv1d(width, width, kernel, padding=kernel // 2, groups=width)
        self.depthwise_norm = nn.LayerNorm(width)
        self.output = Linear(width, width)
        self.dropout = nn.Dropout(share("dropout", dropout))

    def forward(self, x: Tensor, own: Tensor | None = None) -> Tensor:
        """x [B,N,C] → [B,N,C].

        Args:
            x: [B,N,C].
            own: [B,N], True where a position is not padding, which is 0 to the convolution. Default: all.
        """
        check_tensor("x", x, "[B,N,C]")
        check_rows("x", x, self.width, self.input)
        if own is not None:
            _check_own(own, x)
        y = F.glu(self.input(self.norm(x)), -1)
        if own is not None:
            y = y.masked_fill(~own[..., None], 0)
        y = self.depthwise(y.transpose(1, 2)).transpose(1, 2)
        added: Tensor = self.dropout(self.output(F.silu(self.depthwise_norm(y))))
        return x + added


def _check_own(own: Tensor, x: Tensor) -> None:
    if not isinstance(own, Tensor) or own.dtype != torch.bool or own.shape != x.shape[:2]:
        raise ValueError(f"own: expected a bool tensor {list(x.shape[:2])} [B,N], got {shown(own)}.")
