"""What a loss is given: matrices that gradients flow from, and which of their rows count."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Literal, cast, get_args

import torch
from torch import Tensor

from sightline.common import dispatcher
from sightline.common.check import choice
from sightline.matrix import AttentionMatrix
from sightline.measure.rows import counted, visible
from sightline.measure.subject import Layers, Measurable, is_one, matrices, measured

Reduction = Literal["mean", "heads", "none"]


def trained(A: Measurable, name: str = "A") -> AttentionMatrix:
    """The matrix of ``A`` with all four axes, if a loss of it trains something.

    Raises:
        TypeError: for what is and holds no matrix; ValueError: for a detached one while gradients are on, so
            that a loss would be added that does nothing.
    """
    matrix = _matrix(A, name)
    _check_attached([matrix], name)
    return matrix


def standing(A: Measurable, name: str) -> AttentionMatrix:
    """The matrix of ``A`` with all four axes, detached or not."""
    return _matrix(A, name)


def over_layers(A: Layers, reduction: str, loss: Callable[[AttentionMatrix], Tensor]) -> Tensor:
    """The loss of a matrix; of a sequence of them the mean of the losses.

    Raises:
        ValueError: for a reduction other than "mean" of several matrices.
    """
    check_reduction(reduction)
    if is_one(A) or isinstance(A, Tensor) or not isinstance(A, Iterable):
        return loss(trained(cast(Measurable, A)))
    each = matrices(A)
    _check_attached(each, "A")
    if reduction != "mean":
        raise ValueError(
            f'reduction: {reduction!r} is for one matrix, and A holds {len(each)}. Give "mean", or one of '
            "them at a time."
        )
    return torch.stack([loss(matrix) for matrix in each]).mean()


def check_reduction(reduction: str) -> None:
    """Raises for an unknown reduction."""
    choice("reduction", reduction, get_args(Reduction))


def rows_that_see(matrix: AttentionMatrix, queries: Tensor | None, keys: int = 1) -> Tensor:
    """The rows that count: those asked for that see so many keys or more, bool [B,H,N]."""
    return counted(matrix, visible(matrix).counts >= keys, queries)


def reduced(values: Tensor, rows: Tensor, reduction: str) -> Tensor:
    """``values`` [B,H,N] of the rows that count: their mean, that of each head [H], or 0 for the others.

    No derivative reaches the others, and where no row counts the mean is 0.
    """
    values = values.masked_fill(~rows, 0)
    if reduction == "none":
        return values
    axes = (0, 1, 2) if reduction == "mean" else (0, 2)
    return values.sum(axes) / rows.expand(values.shape).sum(axes).clamp(min=1)


def _matrix(A: Measurable, name: str) -> AttentionMatrix:
    try:
        return measured(A).matrix
    except TypeError:
        raise TypeError(
            f"{name}: expected an AttentionMatrix [B,H,N,M], or a call that holds one, got "
            f'{type(A).__name__}. losses.watch and return_matrix="differentiable" give some.'
        ) from None


def _check_attached(each: Iterable[AttentionMatrix], name: str) -> None:
    if not torch.is_grad_enabled() or dispatcher.is_transformed():
        return
    if not any(matrix.requires_grad for matrix in each):
        raise ValueError(
            f"{name}: detached, so that its loss would train nothing. Take it from losses.watch, or make it "
            'with return_matrix="differentiable" or detach=False; for the number alone, use torch.no_grad().'
        )
