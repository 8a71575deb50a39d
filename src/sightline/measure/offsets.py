"""Heads that look at a fixed place: the token before, the token after, any other step."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from sightline.measure.catalogue import catalogued
from sightline.measure.diagonal import at_offset
from sightline.measure.rows import counted, visible
from sightline.measure.sources import OLSSON_2022, VOITA_2019
from sightline.measure.subject import subject
from sightline.positions.align import Align


@catalogued(
    formula="w_{i, p_i + offset}, with p_i the position of query i",
    unit="share of weight",
    range=(0, 1),
    source=f"{VOITA_2019} (positional heads)",
    caveat="Only one offset is looked at; a head that looks at two of them reads as half of each.",
)
def offset_score(
    A: Any,
    offset: int,
    *,
    align: Align = "bottom-right",
    per_query: bool = False,
    queries: Tensor | None = None,
    unverified: bool = False,
) -> Tensor:
    """How much of a head's weight lies at one fixed step from the query.

    Args:
        A: AttentionMatrix [B,H,N,M], or a traced call that holds one.
        offset: the step; -1 is the key before, 0 the query's own position.
        align: where query 0 stands, as for :func:`sightline.causal`.
        per_query: [B,H,N] instead of the mean; 0 where there is no such key.
        queries: bool [N] or [B,N], which queries the mean counts.
        unverified: measure a traced call that was not verified, too.

    Returns:
        [B,H], the mean over queries that see any key and have one at that step (which a mask may still
        hide: then they count as 0); NaN where none does. Linear in N.

    Raises:
        TypeError, ValueError: for another ``align`` or ``queries``; UnverifiedError: for an unverified call.

    Example:
        >>> import sightline.measure, torch
        >>> A = sightline.AttentionMatrix(*torch.zeros(2, 1, 1, 3, 2), mask=sightline.causal())
        >>> sightline.measure.offset_score(A, -2)            # one row has such a key, and sees three
        tensor([[0.3333]])
    """
    given = subject(A, unverified)
    found, key = at_offset(given.matrix, offset, align)
    rows = counted(given.matrix, (key >= 0) & (visible(given.matrix).counts > 0), queries)
    return given.result(found, rows, per_query)


@catalogued(
    formula="w_{i, p_i - 1}",
    unit="share of weight",
    range=(0, 1),
    source=OLSSON_2022,
    caveat="In a two-token row, the previous token and the first token are the same: the sink counts here.",
)
def previous_token(
    A: Any,
    *,
    align: Align = "bottom-right",
    per_query: bool = False,
    queries: Tensor | None = None,
    unverified: bool = False,
) -> Tensor:
    """How much a head looks at the token before.

    Args:
        A, align, per_query, queries, unverified: as for :func:`offset_score`.

    Returns:
        [B,H], the mean over queries that have a token before; NaN where none does. A fully masked row
        reads 0.

    Raises:
        as :func:`offset_score`.

    Example:
        >>> import sightline.measure, torch
        >>> A = sightline.AttentionMatrix(*torch.zeros(2, 1, 1, 3, 2), mask=sightline.causal())
        >>> sightline.measure.previous_token(A)              # (1/2 + 1/3) / 2
        tensor([[0.4167]])
    """
    return offset_score(A, -1, align=align, per_query=per_query, queries=queries, unverified=unverified)


@catalogued(
    formula="w_{i, p_i + 1}",
    unit="share of weight",
    range=(0, 1),
    source=f"{VOITA_2019} (positional heads)",
    caveat="It is 0 under a causal mask, whatever the head would like.",
)
def next_token(
    A: Any,
    *,
    align: Align = "bottom-right",
    per_query: bool = False,
    queries: Tensor | None = None,
    unverified: bool = False,
) -> Tensor:
    """How much a head looks at the token after.

    Args:
        A, align, per_query, queries, unverified: as for :func:`offset_score`.

    Returns:
        [B,H], the mean over queries that have a token after; NaN where none does. A fully masked row
        reads 0.

    Raises:
        as :func:`offset_score`.

    Example:
        >>> import sightline.measure, torch
        >>> sightline.measure.next_token(sightline.AttentionMatrix(*torch.zeros(2, 1, 1, 4, 2)))
        tensor([[0.2500]])
    """
    return offset_score(A, 1, align=align, per_query=per_query, queries=queries, unverified=unverified)
