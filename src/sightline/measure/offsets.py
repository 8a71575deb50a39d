"""Heads that look at a fixed place: the token before, the token after, any other step."""

from __future__ import annotations

from typing import Unpack

from torch import Tensor

from sightline.common.check import integer
from sightline.measure.catalogue import catalogued
from sightline.measure.diagonal import at_offset
from sightline.measure.rows import visible
from sightline.measure.sources import OLSSON_2022, VOITA_2019
from sightline.measure.subject import Measurable, RowOptions, measured_rows
from sightline.positions.align import Align


@catalogued(
    formula="w_{i, p_i + offset}, with p_i the position of query i",
    unit="share of weight",
    range=(0, 1),
    source=f"{VOITA_2019} (positional heads)",
    caveat="Only one offset is looked at; a head that looks at two of them reads as half of each.",
)
def offset_score(
    A: Measurable, offset: int, *, align: Align = "bottom-right", **options: Unpack[RowOptions]
) -> Tensor:
    """How much of a head's weight lies at one fixed step from the query.

    Args:
        offset: the step; -1 is the key before, 0 the query's own position.

    Returns:
        [B,H], the mean over queries that see any key and have one at that step (which a mask may still
        hide: then they count as 0); NaN where none does. Per query, 0 where there is no such key. Linear
        in N.

    Example:
        >>> import sightline.measure, torch
        >>> A = sightline.AttentionMatrix(*torch.zeros(2, 1, 1, 3, 2), mask=sightline.causal())
        >>> sightline.measure.offset_score(A, -2)            # one row has such a key, and sees three
        tensor([[0.3333]])
    """
    rows = measured_rows(A, **options)
    weight, key = at_offset(rows.matrix, integer("offset", offset), align)
    return rows.result(weight, (key >= 0) & (visible(rows.matrix).counts > 0))


@catalogued(
    formula="w_{i, p_i - 1}",
    unit="share of weight",
    range=(0, 1),
    source=OLSSON_2022,
    caveat="In a two-token row, the previous token and the first token are the same: the sink counts here.",
)
def previous_token(A: Measurable, *, align: Align = "bottom-right", **options: Unpack[RowOptions]) -> Tensor:
    """How much a head looks at the token before.

    Returns:
        [B,H], the mean over queries that have a token before; NaN where none does. A fully masked row
        reads 0.

    Example:
        >>> import sightline.measure, torch
        >>> A = sightline.AttentionMatrix(*torch.zeros(2, 1, 1, 3, 2), mask=sightline.causal())
        >>> sightline.measure.previous_token(A)              # (1/2 + 1/3) / 2
        tensor([[0.4167]])
    """
    return offset_score(A, -1, align=align, **options)


@catalogued(
    formula="w_{i, p_i + 1}",
    unit="share of weight",
    range=(0, 1),
    source=f"{VOITA_2019} (positional heads)",
    caveat="It is 0 under a causal mask, whatever the head would like.",
)
def next_token(A: Measurable, *, align: Align = "bottom-right", **options: Unpack[RowOptions]) -> Tensor:
    """How much a head looks at the token after.

    Returns:
        [B,H], the mean over queries that have a token after; NaN where none does. A fully masked row
        reads 0.

    Example:
        >>> import sightline.measure, torch
        >>> sightline.measure.next_token(sightline.AttentionMatrix(*torch.zeros(2, 1, 1, 4, 2)))
        tensor([[0.2500]])
    """
    return offset_score(A, 1, align=align, **options)
