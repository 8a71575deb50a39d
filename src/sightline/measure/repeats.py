"""Heads that look for the same token again: duplicate-token and induction heads."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from sightline.common.check import check_device, check_integers, fits
from sightline.matrix import AttentionMatrix
from sightline.measure.catalogue import catalogued
from sightline.measure.rows import counted
from sightline.measure.sources import OLSSON_2022
from sightline.measure.subject import subject
from sightline.measure.sweep import View, compute_dtype, part, sweep
from sightline.positions.align import Align, positions


@catalogued(
    formula="Σ_{j < p_i, t_j = t_{p_i}} w_ij, with t the token ids",
    unit="share of weight",
    range=(0, 1),
    source=OLSSON_2022,
    caveat="Frequent tokens (a full stop, a space) have many twins, which any broad head covers by chance.",
)
def duplicate_token(
    A: Any,
    tokens: Tensor,
    *,
    align: Align = "bottom-right",
    per_query: bool = False,
    queries: Tensor | None = None,
    unverified: bool = False,
) -> Tensor:
    """How much a head looks back at earlier occurrences of the query's own token, all of them together.

    Args:
        A: AttentionMatrix [B,H,N,M] of self-attention, or a traced call that holds one.
        tokens: [M] or [B,M] token ids of the keys; query i's own token is the one at its position.
        align: where query 0 stands, as for :func:`sightline.causal`.
        per_query: [B,H,N] instead of the mean.
        queries: bool [N] or [B,N], which queries the mean counts; leave padding out here.
        unverified: measure a traced call that was not verified, too.

    Returns:
        [B,H], the mean over queries that may see an earlier occurrence; NaN where none does. Per query,
        others read 0.

    Raises:
        TypeError, ValueError: for tokens that do not fit; UnverifiedError: for an unverified call.

    Example:
        >>> import sightline.measure, torch
        >>> A = sightline.AttentionMatrix(*torch.zeros(2, 1, 1, 4, 2), mask=sightline.causal())
        >>> sightline.measure.duplicate_token(A, torch.tensor([7, 8, 7, 7]), per_query=True)
        tensor([[[0.0000, 0.0000, 0.3333, 0.5000]]])
    """
    given = subject(A, unverified)
    found, there = repeats(given.matrix, tokens, align).duplicate
    return given.result(found, counted(given.matrix, there, queries), per_query)


@catalogued(
    formula="Σ_{j < p_i, t_{j-1} = t_{p_i}} w_ij, with t the token ids",
    unit="share of weight",
    range=(0, 1),
    source=f"{OLSSON_2022} (prefix matching)",
    caveat="A real induction head shows on random tokens that repeat; on plain text, previous-token and "
    "broad heads score as well. It shows where a head looks, not that it copies.",
)
def induction(
    A: Any,
    tokens: Tensor,
    *,
    align: Align = "bottom-right",
    per_query: bool = False,
    queries: Tensor | None = None,
    unverified: bool = False,
) -> Tensor:
    """How much a head looks at what followed the query's token before: [A][B] ... [A] → [B].

    Args:
        A, tokens, align, per_query, queries, unverified: as for :func:`duplicate_token`.

    Returns:
        [B,H], the mean over queries that may see such a key before themselves; NaN where none does. Per
        query, others read 0.

    Raises:
        as :func:`duplicate_token`.

    Example:
        >>> import sightline.measure, torch
        >>> A = sightline.AttentionMatrix(*torch.zeros(2, 1, 1, 4, 2), mask=sightline.causal())
        >>> sightline.measure.induction(A, torch.tensor([7, 8, 9, 7]), per_query=True)
        tensor([[[0.0000, 0.0000, 0.0000, 0.2500]]])
    """
    given = subject(A, unverified)
    found, there = repeats(given.matrix, tokens, align).induction
    return given.result(found, counted(given.matrix, there, queries), per_query)


class Found(NamedTuple):
    """The weight on matching keys, and whether a row may see one, both [B,H,N]."""

    weight: Tensor
    there: Tensor


class Repeats(NamedTuple):
    """Both patterns, from one pass."""

    duplicate: Found
    induction: Found


def repeats(
    matrix: AttentionMatrix, tokens: Tensor, align: Align = "bottom-right", without: Tensor | None = None
) -> Repeats:
    """Both patterns in one pass over the matrix, in memory linear in N.

    Args:
        tokens: [M] or [B,M].
        without: bool [1|B,M], keys that are no match whatever their token.
    """
    found: Repeats = sweep(matrix, _Repeats(matrix, token_ids(matrix, tokens), align, without))[0]
    return found


def token_ids(matrix: AttentionMatrix, tokens: Tensor) -> Tensor:
    """The checked ids, [1|B,M]."""
    if not isinstance(tokens, Tensor):
        raise TypeError(f"tokens: expected an integer tensor [M] or [B,M], got {type(tokens).__name__}.")
    check_integers("tokens", tokens)
    check_device("tokens", tokens, matrix.device)
    b, _, _, m = matrix.problem.shape
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


class _Repeats:
    def __init__(self, matrix: AttentionMatrix, tokens: Tensor, align: Align, without: Tensor | None) -> None:
        b, h, n, m = matrix.problem.shape
        self.position = positions(align, b, n, m, matrix.device).long()
        inside = (self.position >= 0) & (self.position < m)
        batch = max(tokens.shape[0], self.position.shape[0])
        self.key = tokens
        self.query = looked_up(tokens.expand(batch, m), self.position.expand(batch, n))
        # A query that stands at no key has no token: nothing lies before position -1.
        self.position = self.position.masked_fill(~inside, -1)
        self.usable = torch.ones((1, m), dtype=torch.bool, device=matrix.device)
        if without is not None:
            self.usable = ~without
        dtype = compute_dtype(matrix.problem)

        def empty() -> Found:
            weight = torch.zeros((b, h, n), dtype=dtype, device=matrix.device)
            return Found(weight, torch.zeros_like(weight, dtype=torch.bool))

        self.found = Repeats(empty(), empty())

    def take(self, view: View) -> None:
        batch, rows, cols = view.block
        query = part(self.query, 0, batch)[:, rows, None]
        position = part(self.position, 0, batch)[:, rows, None]
        place = torch.arange(cols.start, cols.stop, device=query.device)
        usable = part(self.usable, 0, batch)[:, None, cols] & (place < position)
        ids = part(self.key, 0, batch)
        self._add(self.found.duplicate, view, usable & (query == ids[:, None, cols]))
        # The token before each key; key 0 has none.
        before = ids.roll(1, dims=1)[:, None, cols]
        self._add(self.found.induction, view, usable & (place > 0) & (query == before))

    def _add(self, found: Found, view: View, match: Tensor) -> None:
        batch, rows, _ = view.block
        match = match[:, None]
        found.weight[batch, :, rows] = view.weights.masked_fill(~match, 0).sum(-1)
        found.there[batch, :, rows] = (match & (view.masked > -torch.inf)).any(-1)

    def result(self) -> Repeats:
        return self.found
