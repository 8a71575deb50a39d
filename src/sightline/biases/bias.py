"""How what may be looked at is weighed: terms that are added to the capped scores.

Like masks, each says what it means in two ways: ``dense`` is the definition, ``lower`` what the backends
get. Only a tensor that the user gave is ever N x M.

Letters: B batch, H heads, N queries, M keys.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from sightline.common.check import check_device, check_strided, fits

Shape = tuple[int, int, int, int]


class LoweredBias(NamedTuple):
    """A bias for a backend; the fields are those of :class:`sightline.backends.problem.Problem`."""

    bias: Tensor | None = None
    slopes: Tensor | None = None
    table: Tensor | None = None
    offset: Tensor | None = None


class Bias:
    """A term that is added to the scores after scaling and capping.

    ``dense`` is the definition, [B,H,N,M] or what broadcasts to it; ``lower`` the same for the backends,
    linear in N where it can be. Another kind of bias is a class with these two.

    Example:
        >>> import sightline, torch
        >>> bias = sightline.alibi(torch.tensor([0.5, 0.25]), align="top-left")
        >>> bias.dense((1, 2, 1, 3), torch.device("cpu"))[0, :, 0, 2].tolist()
        [-1.0, -0.5]
    """

    def dense(self, shape: Shape, device: torch.device) -> Tensor:
        """The definition: float64, broadcasts to [B,H,N,M]."""
        raise NotImplementedError(f"{type(self).__name__} does not define dense()")

    def lower(self, shape: Shape, device: torch.device) -> LoweredBias:
        """The same term for the backends, linear in N unless the user gave a dense tensor."""
        raise NotImplementedError(f"{type(self).__name__} does not define lower()")


def as_bias(bias: Bias | Tensor) -> Bias:
    """A bias as it is; a floating tensor as a dense one.

    Raises:
        TypeError: for anything else; a bool tensor is a mask.
    """
    if isinstance(bias, Bias):
        return bias
    if not isinstance(bias, Tensor):
        raise TypeError(
            f"bias: expected sightline.alibi(), sightline.relative() or a floating tensor, "
            f"got {type(bias).__name__}."
        )
    if not bias.is_floating_point():
        remedy = "Give a bool tensor as mask=." if bias.dtype == torch.bool else "Use bias.float()."
        raise TypeError(f"bias: expected a floating dtype, got {bias.dtype}. {remedy}")
    check_strided("bias", bias)
    return DenseBias(bias)


@dataclass(eq=False)
class DenseBias(Bias):
    """A floating tensor that broadcasts to [B,H,N,M]; -inf hides."""

    tensor: Tensor

    def dense(self, shape: Shape, device: torch.device) -> Tensor:
        return self._fitted(shape, device).double()

    def lower(self, shape: Shape, device: torch.device) -> LoweredBias:
        return LoweredBias(bias=self._fitted(shape, device))

    def _fitted(self, shape: Shape, device: torch.device) -> Tensor:
        check_device("bias", self.tensor, device)
        return fits("bias", self.tensor, ("B", "H", "N", "M"), shape)
