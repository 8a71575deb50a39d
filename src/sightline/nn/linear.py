"""A linear layer whose products are made in the fastest way."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.modules.linear import NonDynamicallyQuantizableLinear

from sightline.products import Packable, linear


class Linear(torch.nn.Linear, Packable):
    """``x · weightᵀ + bias``: PyTorch's layer, multiplied in the way that is fastest on this machine.

    x is [..., C] and the output [..., F]. Parameters, initial weights and ``state_dict`` are those of
    ``torch.nn.Linear``, and results equal its own to rounding. Which way is fastest was measured, see
    :func:`sightline.product`.

    Args:
        in_features: C.
        out_features: F.
        bias: whether a bias is added. Default: True.
        device, dtype: of the parameters.

    Raises:
        RuntimeError: in the forward, for an x of another width or dtype, as PyTorch's layer.

    Example:
        >>> import torch
        >>> from sightline.nn import Linear
        >>> Linear(8, 4)(torch.randn(2, 3, 8)).shape
        torch.Size([2, 3, 4])
    """

    def forward(self, input: Tensor) -> Tensor:
        """input [..., C] → [..., F]."""
        return linear(input, self.weight, self.bias, self.packed)


class OutputLinear(Linear, NonDynamicallyQuantizableLinear):
    """The same where ``torch.nn.MultiheadAttention`` has a class of its own."""
