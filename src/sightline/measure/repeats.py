"""Heads that look for the same token again: duplicate-token and induction heads."""

from __future__ import annotations

from typing import NamedTuple, Unpack

import torch
from torch import Tensor

from sightline.common.check import check_device, check_integers, fits
from sightline.matrix import AttentionMatrix, MatrixBlock, part_of
from sightline.measure.catalogue import catalogued
from sightline.measure.sources import OLSSON_2022
from sightline.measure.subject import Measurable, RowOptions, measured_rows
from sightline.positions.align import Align, positions


@catalogued(
    formula="Σ_{j < p_i, t_j = t_{p_i}} w_ij, with t the token ids",
    unit="share of weight",
    range=(0, 1),
    source=OLSSON_2022,
    caveat="Frequent tokens (a full stop, a space) have many twins, which any broad head covers by chance.",
)
def duplicate_token(
    A: Measurable, tokens: Tensor, *, align: Align = "bottom-right", **options: Unpack[RowOptions]
) -> Tensor:
    """How much a head looks back at earlier occurrences of the query's own token, all of them together.

    Returns:
        [B,H], the mean over queries that may see an earlier occurrence; NaN where none does. Per query,
        others read 0.

    Example:
        >>> import sightline.measure, torch
        >>> A = sightline.AttentionMatrix(*torch.zeros(2, 1, 1, 4, 2), mask=sightline.causal())
        >>> sightline.measure.duplicate_token(A, torch.tensor([7, 8, 7, 7]), per_query=True)
        tensor([[[0.0000, 0.0000, 0.3333, 0.5000]]])
    """
    rows = measured_rows(A, **options)
    return rows.result(*repeats(rows.matrix, tokens, align).duplicate)


@catalogued(
    formula="Σ_{j < p_i, t_{j-1} = t_{p_i}} w_ij, with t the token ids",
    unit="share of weight",
    range=(0, 1),
    source=f"{OLSSON_2022} (prefix matching)",
    caveat="A real induction head shows on random tokens that repeat; on plain text, previous-token and "
    "broad heads score as well. It shows where a head looks, not that it copies.",
)
def induction(
    A: Measurable, tokens: Tensor, *, align: Align = "bottom-right", **options: Unpack[RowOptions]
) -> Tensor:
    """How much a head looks at what followed the query's token before: [A][B] ... [A] → [B].

    Returns:
        [B,H], the mean over queries that may see such a key before themselves; NaN where none does. Per
        query, others read 0.

    Example:
        >>> import sightline.measure, torch
        >>> A = sightline.AttentionMatrix(*torch.zeros(2, 1, 1, 4, 2), mask=sightline.causal())
        >>> sightline.measure.induction(A, torch.tensor([7, 8, 9, 7]), per_query=True)
        tensor([[[0.0000, 0.0000, 0.0000, 0.2500]]])
    """
    rows = measured_rows(A, **options)
    return rows.result(*repeats(rows.matrix, tokens, align).induction)


class Matches(NamedTuple):
    """The weight on matching keys, and whether a row may see one, both [B,H,N]."""

    weight: Tensor
    there: Tensor


class Repeats(NamedTuple):
    """Both patterns, from one pass."""

    duplicate: Matches
    induction: Matches


def repeats(
    matrix: AttentionMatrix, tokens: Tensor, align: Align = "bottom-right", without: Tensor | None = None
) -> Repeats:
    """Both patterns in one pass over the matrix, in memory linear in N.

    Args:
        tokens: [M] or [B,M].
        without: bool [1|B,M], keys that never match, whatever their token.
    """
    ids = token_ids(matrix, tokens)
    own, position = _queries(matrix, ids, align)
    usable = torch.ones_like(ids, dtype=torch.bool) if without is None else ~without
    both = Repeats(_no_matches(matrix), _no_matches(matrix))
    for block in matrix.blocks():
        token = part_of(own, 0, block.batch)[:, block.rows, None]
        reached = part_of(position, 0, block.batch)[:, block.rows, None]
        key = torch.arange(block.cols.start, block.cols.stop, device=ids.device)
        earlier = part_of(usable, 0, block.batch)[:, None, block.cols] & (key < reached)
        keys = part_of(ids, 0, block.batch)[:, None]
        _add(both.duplicate, block, earlier & (token == keys[..., block.cols]))
        # The token before each key; key 0 has none.
        before = keys.roll(1, dims=2)[..., block.cols]
        _add(both.induction, block, earlier & (key > 0) & (token == before))
    return both


def _no_matches(matrix: AttentionMatrix) -> Matches:
    weight = torch.zeros_like(matrix.lse)
    return Matches(weight, torch.zeros_like(weight, dtype=torch.bool))


def _add(matches: Matches, block: MatrixBlock, match: Tensor) -> None:
    """The block's rows of one pattern; ``match`` is bool [1|b,n,m]."""
    match = match[:, None]
    matches.weight[block.batch, :, block.rows] = block.weights.masked_fill(~match, 0).sum(-1)
    matches.there[block.batch, :, block.rows] = (match & (block.masked > -torch.inf)).any(-1)


def _queries(matrix: AttentionMatrix, ids: Tensor, align: Align) -> tuple[Tensor, Tensor]:
    """(each query's own token [1|B,N], its position [1|B,N], -1 for one that stands at no key)."""
    b, _, n, m = matrix.sizes
    position = positions(align, b, n, m, matrix.device).long()
    batch = max(ids.shape[0], position.shape[0])
    own = looked_up(ids.expand(batch, m), position.expand(batch, n))
    # A query that stands at no key has no token: nothing lies before position -1.
    return own, position.masked_fill((position < 0) | (position >= m), -1)


def token_ids(matrix: AttentionMatrix, tokens: Tensor) -> Tensor:
    """The checked ids, [1|B,M]."""
    if not isinstance(tokens, Tensor):
        raise TypeError(f"tokens: expected an integer tensor [M] or [B,M], got {type(tokens).__name__}.")
    check_integers("tokens", tokens)
    check_device("tokens", tokens, matrix.device)
    b, _, _, m = matrix.sizes
    if tokens.dim() == 0 or tokens.shape[-1] != m:
        raise ValueError(
            f"tokens: shape {list(tokens.shape)} does not fit [B={b}, M={m}]: give the ids of all keys, "
            "[M] or [B,M]."
        )
    return fits("tokens", tokens, ("B", "M"), (b, m))


def looked_up(ids: Tensor, places: Tensor) -> Tensor:
    """ids[b, places[b, i]], [B,N]; of places out of range the nearest entry, and 0 where there is none."""
    if not ids.shape[1]:
        return ids.new_zeros(places.shape)
    return ids.gather(1, places.clamp(0, ids.shape[1] - 1))
