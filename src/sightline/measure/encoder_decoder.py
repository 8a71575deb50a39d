"""Relevance through an encoder and a decoder: self- and cross-attention, each by its own rule."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from sightline.common.check import shown
from sightline.measure.catalogue import catalogued
from sightline.measure.graded import (
    GradedLayer,
    GradedMatrix,
    graded,
    graded_all,
    rows_times,
    through_columns,
    through_rows,
)
from sightline.measure.gradients import RELEVANCE_CAVEAT
from sightline.measure.sources import CHEFER_2021
from sightline.measure.targets import Targets, one_hot, per_target


class EncoderDecoderRelevance(NamedTuple):
    """What :func:`encoder_decoder_relevance` finds: [B,N] for one target, [B,T,N] for several.

    Attributes:
        encoder: of each encoder position, [B,T,M].
        decoder: of each decoder position, [B,T,N].

    Example:
        >>> import sightline.measure, torch
        >>> cross = sightline.AttentionMatrix(*torch.randn(3, 1, 2, 3, 4)), torch.zeros(1, 2, 3, 4)
        >>> sightline.measure.encoder_decoder_relevance([], [(None, cross)], 0).decoder
        tensor([[1., 0., 0.]])
    """

    encoder: Tensor
    decoder: Tensor


@catalogued(
    formula="row t of R_qi, with R_qi ← R_qi + Ā R_qi at self-attention and R_qi ← R_qi + R̄_qqᵀ Ā R̄_ii at "
    "cross-attention, R̄ = I + (R - I) with rows scaled to sum to 1",
    unit="relevance, without a scale",
    source=f"{CHEFER_2021} (its rules for self- and cross-attention)",
    caveat=RELEVANCE_CAVEAT,
)
def encoder_decoder_relevance(
    encoder: Sequence[GradedLayer],
    decoder: Sequence[tuple[GradedLayer | None, GradedLayer]],
    targets: Targets,
    *,
    unverified: bool = False,
) -> EncoderDecoderRelevance:
    """How much each encoder position contributes to an output at a decoder position.

    Also serves cross-attention alone: with an empty encoder and ``None`` for the self-attention of each
    layer, the rule comes down to R_qi ← R_qi + Ā. Co-attention, in which both sides look at each other, is
    not covered.

    Cost: for L decoder layers L (L + 1) / 2 passes over self-attention and up to L more for the targets,
    which keeps memory linear in the lengths; one pass over each cross-attention, two over each encoder layer.

    Args:
        encoder: (matrix, grad_context) of each self-attention over the source; may be empty.
        decoder: for each layer (self-attention, cross-attention), each (matrix, grad_context); ``None`` for a
            layer without self-attention. Traced calls with a ``.gradient`` will do as well.
        targets: decoder positions; negative ones count from the end.

    Returns:
        :class:`EncoderDecoderRelevance`; [B,M] and [B,N] for one target, [B,T,M] and [B,T,N] for several.
        A fully masked row adds nothing.

    Raises:
        ValueError: as :func:`relevance`, and where lengths of encoder, decoder and cross-attention do not
            fit.

    Example:
        >>> import sightline.measure, torch
        >>> query, key, value = torch.randn(1, 2, 3, 4), torch.randn(1, 2, 5, 4), torch.randn(1, 2, 5, 4)
        >>> cross = sightline.AttentionMatrix(query, key, value), torch.randn(1, 2, 3, 4)
        >>> relevance = sightline.measure.encoder_decoder_relevance([], [(None, cross)], -1)
        >>> relevance.encoder.shape, relevance.decoder
        (torch.Size([1, 5]), tensor([[0., 0., 1.]]))
    """
    source = graded_all(encoder, unverified)
    if not isinstance(decoder, Sequence) or not all(isinstance(p, tuple) and len(p) == 2 for p in decoder):
        raise TypeError(
            "decoder: expected (self-attention or None, cross-attention) for each layer, got "
            f"{shown(decoder)}."
        )
    selfs = [None if own is None else graded(own, unverified) for own, _ in decoder]
    crosses = graded_all((cross for _, cross in decoder), unverified)
    _check_lengths(source, [own for own in selfs if own is not None], crosses)
    own_rows = one_hot(crosses[0].matrix, targets)
    crossed = own_rows.new_zeros((len(own_rows), crosses[0].matrix.sizes[3], own_rows.shape[2]))
    # From the last layer down, ``own_rows`` holds row t of the self-attention rules that are still to come.
    for number in range(len(crosses) - 1, -1, -1):
        below = [own for own in selfs[: number + 1] if own is not None]
        crossed = crossed + rows_times(crosses[number], _normalized_columns(below, own_rows))
        own = selfs[number]
        if own is not None:
            own_rows = own_rows + rows_times(own, own_rows)
    return EncoderDecoderRelevance(
        per_target(_normalized_rows(source, crossed), targets), per_target(own_rows, targets)
    )


def _normalized_columns(stack: Sequence[GradedMatrix], columns: Tensor) -> Tensor:
    """R̄ x: R - I with rows scaled to sum to 1 (0 where they are empty), plus I, times x."""
    ones = torch.ones_like(columns[..., :1])
    change = through_columns(stack, torch.cat((columns, ones), dim=-1))
    return columns + change[..., :-1] * _inverse(change[..., -1:])


def _normalized_rows(stack: Sequence[GradedMatrix], rows: Tensor) -> Tensor:
    """x R̄ for row vectors x, held as columns."""
    total = through_columns(stack, torch.ones_like(rows[..., :1]))
    return rows + through_rows(stack, rows * _inverse(total))


def _inverse(total: Tensor) -> Tensor:
    return torch.where(total > 0, 1 / total.masked_fill(total == 0, 1), 0)


def _check_lengths(
    encoder: list[GradedMatrix], selfs: list[GradedMatrix], crosses: list[GradedMatrix]
) -> None:
    if not crosses:
        raise ValueError("decoder: expected at least one layer, got none.")
    b, _, n, m = crosses[0].matrix.sizes
    for name, stack, wanted in (
        ("encoder", encoder, (m, m)),
        ("decoder self-attention", selfs, (n, n)),
        ("cross-attention", crosses, (n, m)),
    ):
        for layer in stack:
            batch, _, queries, keys = layer.matrix.sizes
            if (batch, queries, keys) != (b, *wanted):
                raise ValueError(
                    f"{name}: B={batch}, N={queries}, M={keys}, but the first cross-attention asks "
                    f"for B={b}, N={wanted[0]}, M={wanted[1]}. Take the layers of one run."
                )
