"""A layer's product and its gradients, each by a given way; autograd sees none of it."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from sightline.products.ways import WAYS


def product(way: str, rows: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """rows [N,C] · weightᵀ [F,C] + bias [F]: [N,F], no view, so that it may be written to."""
    return WAYS[way].multiply(rows, weight, bias)


def gradients(
    ways: Sequence[str], wanted: Sequence[bool], grad: Tensor, rows: Tensor, weight: Tensor
) -> list[Tensor | None]:
    """The wanted ones of the gradients of rows, weight and bias, given that of the product [N,F].

    Args:
        ways: of the product itself, of rows and of the weight.
        wanted: of rows, weight and bias.
    """
    found: list[Tensor | None] = [None, None, None]
    if wanted[0]:
        found[0] = WAYS[ways[1]].multiply(grad, weight.t(), None)
    if wanted[1]:
        found[1] = WAYS[ways[2]].multiply(grad.t(), rows.t(), None)
    if wanted[2]:
        found[2] = grad.sum(0)
    return found
