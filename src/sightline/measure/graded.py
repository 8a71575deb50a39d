"""A layer with its gradient: Ā = mean_h max(0, w ∘ dL/dw), which relevance multiplies through the layers.

The gradient of the weights is never stored: dL/dw_ij = dL/dcontext_i · v_j, block by block.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from sightline.common.check import kind
from sightline.matrix import AttentionMatrix, MatrixBlock, grouped_product
from sightline.measure.layers import whole
from sightline.measure.subject import HasMatrix, Measurable, measured


class Layer(NamedTuple):
    """A layer with its gradient; any such pair will do, and a traced call that has a ``.gradient``.

    Attributes:
        matrix: AttentionMatrix [B,H,N,M] that holds its value [B,G,M,E], or a traced call.
        grad_context: dL/dcontext, [B,H,N,E].

    Example:
        >>> import sightline.measure, torch
        >>> A = sightline.AttentionMatrix(*torch.randn(3, 1, 2, 5, 4))
        >>> layer = sightline.measure.Layer(A, grad_context=torch.zeros(1, 2, 5, 4))
        >>> sightline.measure.relevance([layer], 0)
        tensor([[1., 0., 0., 0., 0.]])
    """

    matrix: Measurable
    grad_context: Tensor


class HasGradient(HasMatrix, Protocol):
    """A traced call that holds the gradient of its context."""

    @property
    def gradient(self) -> Tensor | None:
        """dL/dcontext, [B,H,N,E]."""


GradedLayer = tuple[Measurable, Tensor] | HasGradient


class GradedMatrix(NamedTuple):
    """A matrix [B,H,N,M] that holds its value, and dL/dcontext [B,H,N,E], which fits it."""

    matrix: AttentionMatrix
    gradient: Tensor


def graded_all(layers: Iterable[GradedLayer], unverified: bool) -> list[GradedMatrix]:
    """Every layer as a checked pair."""
    kind("layers", layers, Iterable, "a sequence of layers")
    return [graded(layer, unverified) for layer in layers]


def graded(layer: GradedLayer, unverified: bool) -> GradedMatrix:
    """A layer as a checked pair.

    Raises:
        TypeError, ValueError: for anything else, a matrix without a value, a gradient of another shape, a
            traced call whose rows are no positions of the whole input;
        UnverifiedError: for an unverified call.
    """
    A: Measurable
    gradient: Tensor | None
    if isinstance(layer, tuple) and len(layer) == 2:
        A, gradient = layer
    elif not isinstance(layer, tuple) and hasattr(layer, "gradient"):
        A, gradient = layer, layer.gradient
    else:
        raise TypeError(
            f"layers: expected (matrix, grad_context) or a traced call with a gradient, got "
            f"{type(layer).__name__}."
        )
    whole(A)
    matrix = measured(A, unverified).matrix
    value = matrix.value
    if value is None:
        raise ValueError(
            "relevance: this matrix holds no value. Make it with "
            "sightline.AttentionMatrix(query, key, value)."
        )
    return GradedMatrix(matrix, _fitting(gradient, torch.Size([*matrix.sizes[:3], value.shape[3]])))


def _fitting(gradient: Tensor | None, wanted: torch.Size) -> Tensor:
    """The gradient as [B,H,N,E]; it may lack axes of size 1."""
    shape: object = gradient
    if isinstance(gradient, Tensor):
        if gradient.numel() == wanted.numel() and gradient.shape[-1] == wanted[3]:
            return gradient.detach().reshape(wanted)
        shape = list(gradient.shape)
    raise ValueError(
        f"grad_context: expected [B,H,N,E]={list(wanted)}, the context's shape, got {shape}. "
        "Trace with gradients=True and call backward() on the output in question."
    )


def _unwatched() -> None:
    pass


def through_rows(layers: Sequence[GradedMatrix], rows: Tensor) -> Tensor:
    """x R - x for row vectors x, held as columns [B,N,T], with R = (I + Ā_L) … (I + Ā_1)."""
    change = torch.zeros_like(rows)
    for layer in reversed(layers):
        change = change + rows_times(layer, rows + change)
    return change


def through_columns(layers: Sequence[GradedMatrix], columns: Tensor) -> Tensor:
    """R x - x for column vectors x [B,N,T]."""
    change = torch.zeros_like(columns)
    for layer in layers:
        change = change + times_columns(layer, columns + change)
    return change


def rows_times(layer: GradedMatrix, rows: Tensor, watch: Callable[[], object] = _unwatched) -> Tensor:
    """x Ā for row vectors x, held as columns: [B,N,T] -> [B,M,T].

    Args:
        watch: is called before each block of the pass, and may raise to end it.
    """
    matrix, x = layer.matrix, rows.to(layer.matrix.lse.dtype)
    product = x.new_zeros((len(x), matrix.sizes[3], x.shape[2]), dtype=torch.float64)
    for block in matrix.blocks(rows=_reach(x)):
        watch()
        product[block.batch, block.cols] += _relevant(layer, block).mT @ x[block.batch, block.rows]
    return product.to(x.dtype)


def times_columns(layer: GradedMatrix, columns: Tensor, watch: Callable[[], object] = _unwatched) -> Tensor:
    """Ā x: [B,M,T] -> [B,N,T]; ``watch`` as for :func:`rows_times`."""
    matrix, x = layer.matrix, columns.to(layer.matrix.lse.dtype)
    product = x.new_zeros((len(x), matrix.sizes[2], x.shape[2]), dtype=torch.float64)
    for block in matrix.blocks(cols=_reach(x)):
        watch()
        product[block.batch, block.rows] += _relevant(layer, block) @ x[block.batch, block.cols]
    return product.to(x.dtype)


def _relevant(layer: GradedMatrix, block: MatrixBlock) -> Tensor:
    """The block of Ā, [b,n,m]."""
    weights = block.weights
    assert layer.matrix.value is not None
    value = layer.matrix.value[block.batch, :, block.cols].to(weights.dtype)
    gradient = layer.gradient[block.batch, :, block.rows].to(weights.dtype)
    relevance = block.only_seen(weights * grouped_product(gradient, value.mT))
    return relevance.clamp(min=0).mean(1)


def _reach(x: Tensor) -> slice:
    """From the first to the last entry [B,·,T] that is not 0 for all targets: nothing else has a share."""
    places = x.abs().amax((0, 2)).nonzero()[:, 0]
    return slice(int(places[0]), int(places[-1]) + 1) if len(places) else slice(0, 0)
