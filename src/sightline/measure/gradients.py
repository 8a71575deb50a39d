"""Gradient-weighted relevance: attention times its own gradient, multiplied through the layers."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from sightline.measure.catalogue import catalogued
from sightline.measure.graded import GradedLayer, graded_all, through_rows
from sightline.measure.layers import square
from sightline.measure.sources import CHEFER_2021
from sightline.measure.targets import Targets, one_hot, per_target

#: To be shown beside any relevance.
RELEVANCE_CAVEAT = (
    "The gradient is that of one output at one point; what adds up to little may still decide, and "
    "negative evidence is cut off."
)


@catalogued(
    formula="row t of R, with R ← R + Ā R layer by layer from R = I and Ā = mean_h max(0, w ∘ dL/dw)",
    unit="relevance, without a scale",
    source=CHEFER_2021,
    caveat=RELEVANCE_CAVEAT,
)
def relevance(layers: Sequence[GradedLayer], targets: Targets, *, unverified: bool = False) -> Tensor:
    """How much each input position contributes to an output at a target position, by self-attention.

    Cost: one pass over each layer, of which only rows are read that the targets reach; memory is linear in N
    and in the number of targets.

    Args:
        layers: (matrix, grad_context) of each layer, first layer first; see :class:`Layer`. The gradient is
            that of the output in question, such as a class' logit, by ``torch.autograd.grad`` or a hook. Or
            a trace with ``gradients=True``, after the backward pass.
        targets: the rows of R: the class token's position, the last position, or several; negative ones
            count from the end.

    Returns:
        [B,N] for one target, [B,T,N] for several; the target's own entry holds the 1 that R starts with. A
        fully masked row adds nothing.

    Raises:
        ValueError: without layers, for a matrix without a value, a gradient of another shape, layers that
            are not square, targets out of range.

    Example:
        >>> import sightline.measure, torch
        >>> query, key, value = torch.randn(3, 1, 2, 5, 4)
        >>> A = sightline.AttentionMatrix(query, key, value)
        >>> grad_context = torch.zeros(1, 2, 5, 4)
        >>> sightline.measure.relevance([(A, grad_context)], 0)      # without a gradient, the target itself
        tensor([[1., 0., 0., 0., 0.]])
    """
    stack = graded_all(layers, unverified)
    if not stack:
        raise ValueError("layers: expected at least one layer, got none.")
    square([layer.matrix for layer in stack])
    start = one_hot(stack[0].matrix, targets)
    return per_target(start + through_rows(stack, start), targets)
