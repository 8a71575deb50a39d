"""Muon: an optimiser of matrices."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

_STEPS = 5
_A, _B, _C = 3.4445, -4.7750, 2.0315  # Jordan et al. 2024: singular values come to lie between 0.7 and 1.2


class Muon(torch.optim.Optimizer):
    """Momentum whose singular values are all brought near 1 before it is added to a matrix.

    M ← β M + (1 − β) G, O = the orthogonal factor of (1 − β) G + β M,
    W ← (1 − ηλ) W − 0.2 η √max(n, m) O, which changes each number of W by about as much as AdamW would with
    the same rate η, so that one rate serves both.

    PyTorch's own Muon makes the factor in bfloat16 alone, which processors without bfloat16 products emulate:
    40 times slower there. This one computes in the matrix's own dtype, unless it is told another.

    Args:
        parameters: matrices [n,m].
        rate: η.
        momentum: β. Default: 0.95.
        decay: λ. Default: 0.
        dtype: in which the factor is computed. Default: the matrix's own.

    Raises:
        ValueError: for a parameter that is no matrix.

    Sources: Jordan et al. 2024, "Muon: An optimizer for hidden layers in neural networks"; Liu et al. 2025,
    "Muon is scalable for LLM training" (the factor 0.2 √max(n, m)).

    Example:
        >>> import torch
        >>> from sightline.tasks.muon import Muon
        >>> w = torch.nn.Parameter(torch.randn(4, 3))
        >>> optimiser = Muon([w], rate=0.1)
        >>> for _ in range(200):
        ...     optimiser.zero_grad()
        ...     (w - torch.ones(4, 3)).square().sum().backward()
        ...     optimiser.step()
        >>> bool((w - 1).abs().max() < 0.2)
        True
    """

    def __init__(
        self,
        parameters: Iterable[Tensor],
        rate: float,
        momentum: float = 0.95,
        decay: float = 0.0,
        dtype: torch.dtype | None = None,
    ) -> None:
        self.dtype = dtype
        super().__init__(parameters, {"lr": rate, "momentum": momentum, "weight_decay": decay})
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.dim() != 2:
                    raise ValueError(
                        f"parameters: expected matrices [n,m], got shape {list(parameter.shape)}."
                    )

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step; what a closure returns comes back."""
        loss = None if closure is None else torch.enable_grad()(closure)()
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is not None:
                    self._change(weight, weight.grad, group)
        return loss

    def _change(self, weight: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        state, keep = self.state[weight], group["momentum"]
        if not state:
            state["momentum"] = torch.zeros_like(weight)
        momentum = state["momentum"].lerp_(gradient, 1 - keep)
        direction = orthogonal(torch.lerp(gradient, momentum, keep), self.dtype)
        weight.mul_(1 - group["lr"] * group["weight_decay"])
        weight.add_(direction, alpha=-0.2 * group["lr"] * math.sqrt(max(weight.shape)))


def orthogonal(matrix: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """[n,m] with the same singular vectors, and singular values between about 0.7 and 1.2.

    Five steps of an iteration X ← aX + (bXXᵀ + c(XXᵀ)²)X that begins at X / ‖X‖.
    """
    wide = matrix.shape[0] <= matrix.shape[1]
    x = matrix if wide else matrix.T
    x = (x / (x.norm() + torch.finfo(x.dtype).tiny ** 0.5)).to(dtype or x.dtype)
    for _ in range(_STEPS):
        square = x @ x.T
        x = torch.addmm(x, torch.addmm(square, square, square, beta=_B, alpha=_C), x, beta=_A)
    return (x if wide else x.T).to(matrix.dtype)
