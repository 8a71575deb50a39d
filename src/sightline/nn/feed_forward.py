"""The feed-forward layer of a Transformer block."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sightline.common.check import choice, flag, integer, kind, shown
from sightline.nn.given import check_projection
from sightline.nn.linear import Linear

Activation = Literal["gelu", "gelu_tanh", "relu", "silu", "swiglu", "geglu"]

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": F.gelu,
    "gelu_tanh": partial(F.gelu, approximate="tanh"),
    "relu": F.relu,
    "silu": F.silu,
    "swiglu": F.silu,
    "geglu": F.gelu,
}
_GATED = ("swiglu", "geglu")


class FeedForward(nn.Module):
    """Two projections with an activation between them, each position by itself.

    ``output = act(x·W₁) · W₂`` for x [..., C]; with "swiglu" or "geglu" a gate multiplies:
    ``output = (act(x·Wg) ⊙ x·W₁) · W₂``.

    Args:
        width: C.
        hidden: the width in between. Default: 4·C.
        activation: "gelu" (exact), "gelu_tanh" (GPT-2's), "relu", "silu", "swiglu" or "geglu". Default:
            "gelu".
        bias: whether the projections add a bias. Default: True.

    Raises:
        ValueError: for an unknown activation, or sizes below 1.

    Sources: Vaswani et al. 2017, "Attention is all you need"; Shazeer 2020, "GLU variants improve
    Transformer".

    Example:
        >>> import torch
        >>> from sightline.nn import FeedForward
        >>> FeedForward(8, activation="swiglu")(torch.randn(1, 3, 8)).shape
        torch.Size([1, 3, 8])
    """

    def __init__(
        self, width: int, hidden: int | None = None, *, activation: Activation = "gelu", bias: bool = True
    ) -> None:
        super().__init__()
        choice("activation", activation, get_args(Activation))
        self.width, bias = integer("width", width, 1), flag("bias", bias)
        inner = 4 * width if hidden is None else integer("hidden", hidden, 1)
        self.activation = activation
        self.gate = Linear(width, inner, bias=bias) if activation in _GATED else None
        self.input = Linear(width, inner, bias=bias)
        self.output = Linear(inner, width, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """x [..., C] → [..., C].

        Raises:
            ValueError: for another C than ``width``; TypeError: for what is no floating tensor.
        """
        kind("x", x, Tensor, "a tensor [..., C]")
        if x.layout not in (torch.strided, torch.jagged):
            raise TypeError(f"x: expected a dense tensor, got layout {x.layout}. Use .to_dense().")
        if not x.is_floating_point() or not x.dim() or x.size(-1) != self.width:
            raise ValueError(f"x: expected floating [..., C={self.width}], got {shown(x)}.")
        check_projection("x", x, self.input)
        act, inner = ACTIVATIONS[self.activation], self.input(x)
        inner = act(inner) if self.gate is None else act(self.gate(x)) * inner
        projected: Tensor = self.output(inner)
        return projected
