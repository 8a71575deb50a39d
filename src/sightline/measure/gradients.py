"""Gradient-weighted relevance: attention times its own gradient, multiplied through the layers.

The gradient of the weights is never stored: dL/dw_ij = dL/dcontext_i · v_j, block by block.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from sightline.backends.readouts import Readout
from sightline.matrix import AttentionMatrix
from sightline.measure.catalogue import catalogued
from sightline.measure.rolling import Targets, one_hot, per_target, square
from sightline.measure.sources import CHEFER_2021
from sightline.measure.subject import subject
from sightline.measure.sweep import View, product, sweep

_CAVEAT = (
    "The gradient is that of one output at one point; what adds up to little may still decide, and "
    "negative evidence is cut off."
)


class Layer(NamedTuple):
    """A layer with its gradient; any such pair will do, and a traced call that has a ``.gradient``.

    Attributes:
        matrix: AttentionMatrix [B,H,N,M] that holds its value [B,G,M,E], or a traced call.
        grad_context: dL/dcontext, [B,H,N,E].
    """

    matrix: Any
    grad_context: Tensor


class EncoderDecoderRelevance(NamedTuple):
    """What :func:`encoder_decoder_relevance` finds: [B,N] for one target, [B,T,N] for several.

    Attributes:
        encoder: of each encoder position, [B,T,M].
        decoder: of each decoder position, [B,T,N].
    """

    encoder: Tensor
    decoder: Tensor


@catalogued(
    formula="row t of R, with R ← R + Ā R layer by layer from R = I and Ā = mean_h max(0, w ∘ dL/dw)",
    unit="relevance, without a scale",
    source=CHEFER_2021,
    caveat=_CAVEAT,
)
def relevance(layers: Sequence[Any], targets: Targets, *, unverified: bool = False) -> Tensor:
    """How much each input position contributes to an output at a target position, by self-attention.

    Args:
        layers: (matrix, grad_context) of each layer, first layer first; see :class:`Layer`. The gradient is
            that of the output in question, such as a class' logit, by ``torch.autograd.grad`` or a hook. Or
            a trace with ``gradients=True``, after the backward pass.
        targets: the rows of R: the class token's position, the last position, or several; negative ones
            count from the end.
        unverified: measure traced calls that were not verified, too.

    Returns:
        [B,N] for one target, [B,T,N] for several; the target's own entry holds the 1 that R starts with. A
        fully masked row adds nothing.

    Raises:
        ValueError: without layers, for a matrix without a value, a gradient of another shape, layers that
        are not square, targets out of range; UnverifiedError: for an unverified call.

    Cost: one pass over each layer, of which only rows are read that the targets reach; memory is linear in N
    and in the number of targets.

    Example:
        >>> import sightline.measure, torch
        >>> query, key, value = torch.randn(3, 1, 2, 5, 4)
        >>> A = sightline.AttentionMatrix(query, key, value)
        >>> grad_context = torch.zeros(1, 2, 5, 4)
        >>> sightline.measure.relevance([(A, grad_context)], 0)      # without a gradient, the target itself
        tensor([[1., 0., 0., 0., 0.]])
    """
    stack = _stack(layers, unverified)
    if not stack:
        raise ValueError("layers: expected at least one layer, got none.")
    square([layer.matrix for layer in stack])
    start = one_hot(stack[0].matrix, targets)
    return per_target(start + _through_rows(stack, start), targets)


@catalogued(
    formula="row t of R_qi, with R_qi ← R_qi + Ā R_qi at self-attention and R_qi ← R_qi + R̄_qqᵀ Ā R̄_ii at "
    "cross-attention, R̄ = I + (R - I) with rows scaled to sum to 1",
    unit="relevance, without a scale",
    source=f"{CHEFER_2021} (its rules for self- and cross-attention)",
    caveat=_CAVEAT,
)
def encoder_decoder_relevance(
    encoder: Sequence[Any],
    decoder: Sequence[tuple[Any, Any]],
    targets: Targets,
    *,
    unverified: bool = False,
) -> EncoderDecoderRelevance:
    """How much each encoder position contributes to an output at a decoder position.

    Also serves cross-attention alone: with an empty encoder and ``None`` for the self-attention of each
    layer, the rule comes down to R_qi ← R_qi + Ā. Co-attention, in which both sides look at each other, is
    not covered.

    Args:
        encoder: (matrix, grad_context) of each self-attention over the source; may be empty.
        decoder: for each layer (self-attention, cross-attention), each (matrix, grad_context); ``None`` for a
            layer without self-attention. Traced calls with a ``.gradient`` will do as well.
        targets: decoder positions; negative ones count from the end.
        unverified: measure traced calls that were not verified, too.

    Returns:
        :class:`EncoderDecoderRelevance`; [B,M] and [B,N] for one target, [B,T,M] and [B,T,N] for several.

    Raises:
        as :func:`relevance`; ValueError where lengths of encoder, decoder and cross-attention do not fit.

    Cost: for L decoder layers L (L + 1) / 2 passes over self-attention and up to L more for the targets,
    which keeps memory linear in the lengths; one pass over each cross-attention, two over each encoder layer.

    Example:
        >>> import sightline.measure, torch
        >>> query, key, value = torch.randn(1, 2, 3, 4), torch.randn(1, 2, 5, 4), torch.randn(1, 2, 5, 4)
        >>> cross = sightline.AttentionMatrix(query, key, value), torch.randn(1, 2, 3, 4)
        >>> found = sightline.measure.encoder_decoder_relevance([], [(None, cross)], -1)
        >>> found.encoder.shape, found.decoder
        (torch.Size([1, 5]), tensor([[0., 0., 1.]]))
    """
    source = _stack(encoder, unverified)
    selfs = [None if own is None else _layer(own, unverified) for own, _ in decoder]
    crosses = _stack([cross for _, cross in decoder], unverified)
    _check_lengths(source, [own for own in selfs if own is not None], crosses)
    row = one_hot(crosses[0].matrix, targets)
    m = crosses[0].matrix.problem.shape[3]
    found = torch.zeros((row.shape[0], m, row.shape[2]), dtype=row.dtype, device=row.device)
    # From the last layer down, ``row`` holds row t of the self-attention rules that are still to come.
    for number in range(len(crosses) - 1, -1, -1):
        below = [own for own in selfs[: number + 1] if own is not None]
        found = found + _left(crosses[number], _normalized_columns(below, row))
        own = selfs[number]
        if own is not None:
            row = row + _left(own, row)
    return EncoderDecoderRelevance(
        per_target(_normalized_rows(source, found), targets), per_target(row, targets)
    )


class _Graded(NamedTuple):
    matrix: AttentionMatrix
    grad: Tensor


def _stack(layers: Sequence[Any], unverified: bool) -> list[_Graded]:
    return [_layer(layer, unverified) for layer in layers]


def _layer(layer: Any, unverified: bool) -> _Graded:
    if not isinstance(layer, tuple) and hasattr(layer, "gradient"):
        layer = (layer, layer.gradient)
    if not isinstance(layer, tuple) or len(layer) != 2:
        raise TypeError(
            f"layers: expected (matrix, grad_context) or a traced call with a gradient, got "
            f"{type(layer).__name__}."
        )
    matrix = subject(layer[0], unverified).matrix
    value = matrix.problem.value
    if value is None:
        raise ValueError(
            "relevance: this matrix holds no value. Make it with "
            "sightline.AttentionMatrix(query, key, value)."
        )
    wanted = [*matrix.problem.shape[:3], value.shape[3]]
    grad = layer[1]
    if (
        not isinstance(grad, Tensor)
        or grad.numel() != torch.Size(wanted).numel()
        or grad.shape[-1] != wanted[3]
    ):
        shape = list(grad.shape) if isinstance(grad, Tensor) else grad
        raise ValueError(
            f"grad_context: expected [B,H,N,E]={wanted}, the context's shape, got {shape}. "
            "Trace with gradients=True and call backward() on the output in question."
        )
    return _Graded(matrix, grad.detach().reshape(wanted))


def _through_rows(stack: Sequence[_Graded], rows: Tensor) -> Tensor:
    """x R - x for row vectors x, held as columns [B,N,T], with R = (I + Ā_L) … (I + Ā_1)."""
    change = torch.zeros_like(rows)
    for layer in reversed(stack):
        change = change + _left(layer, rows + change)
    return change


def _through_columns(stack: Sequence[_Graded], columns: Tensor) -> Tensor:
    """R x - x for column vectors x [B,N,T]."""
    change = torch.zeros_like(columns)
    for layer in stack:
        change = change + _right(layer, columns + change)
    return change


def _normalized_columns(stack: Sequence[_Graded], columns: Tensor) -> Tensor:
    """R̄ x: R - I with rows scaled to sum to 1 (0 where they are empty), plus I, times x."""
    ones = torch.ones_like(columns[..., :1])
    change = _through_columns(stack, torch.cat((columns, ones), dim=-1))
    return columns + change[..., :-1] * _inverse(change[..., -1:])


def _normalized_rows(stack: Sequence[_Graded], rows: Tensor) -> Tensor:
    """x R̄ for row vectors x, held as columns."""
    total = _through_columns(stack, torch.ones_like(rows[..., :1]))
    return rows + _through_rows(stack, rows * _inverse(total))


def _inverse(total: Tensor) -> Tensor:
    return torch.where(total > 0, 1 / total.masked_fill(total == 0, 1), 0)


def _left(layer: _Graded, rows: Tensor) -> Tensor:
    """x Ā for row vectors x, held as columns: [B,N,T] -> [B,M,T]."""
    return relevance_step(layer, rows, True)


def _right(layer: _Graded, columns: Tensor) -> Tensor:
    """Ā x: [B,M,T] -> [B,N,T]."""
    return relevance_step(layer, columns, False)


def relevance_step(layer: tuple[Any, Tensor], x: Tensor, transposed: bool, *beside: Readout) -> Tensor:
    """Ā x of one layer (matrix, grad_context), or Āᵀ x, with Ā = mean_h max(0, w ∘ dL/dw).

    What :func:`relevance` is made of, for those who watch its progress: readouts ``beside`` see every block
    of the same pass, and may raise to end it.

    Args:
        x: [B,M,T], or [B,N,T] where ``transposed``.

    Returns:
        [B,N,T], or [B,M,T].
    """
    graded, reach = _layer(layer, True), _reach(x)
    rows, cols = (reach, None) if transposed else (None, reach)
    found: Tensor = sweep(graded.matrix, _Product(graded, x, transposed), *beside, rows=rows, cols=cols)[0]
    return found


def _reach(x: Tensor) -> slice:
    """From the first to the last entry [B,·,T] that is not 0 for all targets: nothing else has a share."""
    places = x.abs().amax((0, 2)).nonzero()[:, 0]
    return slice(int(places[0]), int(places[-1]) + 1) if len(places) else slice(0, 0)


class _Product:
    """Ā, or its transpose, times x."""

    def __init__(self, layer: _Graded, x: Tensor, transposed: bool) -> None:
        self.problem, self.grad = layer.matrix.problem, layer.grad
        b, _, n, m = self.problem.shape
        self.transposed = transposed
        self.x = x.to(layer.matrix.lse.dtype)
        self.out = torch.zeros((b, m if transposed else n, x.shape[2]), dtype=torch.float64, device=x.device)

    def take(self, view: View) -> None:
        batch, rows, cols = view.block
        weights = view.weights
        assert self.problem.value is not None
        value = self.problem.value[batch, :, cols].to(weights.dtype)
        grad = product(self.problem, self.grad[batch, :, rows].to(weights.dtype), value.transpose(-1, -2))
        relevant = (weights * grad).clamp(min=0).mean(1)
        if self.transposed:
            self.out[batch, cols] += relevant.transpose(1, 2) @ self.x[batch, rows]
        else:
            self.out[batch, rows] += relevant @ self.x[batch, cols]

    def result(self) -> Tensor:
        return self.out.to(self.x.dtype)


def _check_lengths(encoder: list[_Graded], selfs: list[_Graded], crosses: list[_Graded]) -> None:
    if not crosses:
        raise ValueError("decoder: expected at least one layer, got none.")
    b, _, n, m = crosses[0].matrix.problem.shape
    for name, stack, wanted in (
        ("encoder", encoder, (m, m)),
        ("decoder self-attention", selfs, (n, n)),
        ("cross-attention", crosses, (n, m)),
    ):
        for layer in stack:
            shape = layer.matrix.problem.shape
            if (shape[0], shape[2], shape[3]) != (b, *wanted):
                raise ValueError(
                    f"{name}: B={shape[0]}, N={shape[2]}, M={shape[3]}, but the first cross-attention asks "
                    f"for B={b}, N={wanted[0]}, M={wanted[1]}. Take the layers of one run."
                )
