"""Supervision by given alignments: heads that are to look where somebody says."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, get_args

import torch
from torch import Tensor

from sightline.backends.pairs import pair_logits
from sightline.backends.problem import compute_dtype
from sightline.backends.row_sums import settled
from sightline.backends.softmax import RowSums
from sightline.common.check import check_device, check_tensor, choice, integers_tensor
from sightline.losses.given import check_reduction, reduced, trained
from sightline.matrix import AttentionMatrix
from sightline.measure.subject import Measurable

Kind = Literal["cross_entropy", "mass"]


def alignment(
    A: Measurable,
    pairs: Tensor | Sequence[Sequence[int]],
    shares: Tensor | None = None,
    *,
    kind: str = "cross_entropy",
    reduction: str = "mean",
) -> Tensor:
    """Pulls the weights of heads towards given pairs of queries and keys.

    Of each query i that has pairs, with their shares g: ``−Σⱼ gᵢⱼ ln wᵢⱼ / Σⱼ gᵢⱼ``, or with ``kind="mass"``
    ``−ln Σⱼ gᵢⱼ wᵢⱼ``, which is content with any of the keys. Exact where weights are too small for their
    dtype. Memory is linear in the sequences and in the pairs; queries without pairs are free.

    Args:
        A: AttentionMatrix [B,H,N,M], or a call that holds one. ``A[:, [3]]`` has one head of it, which is
            what the papers supervise.
        pairs: [P,2] integers (query, key), the same for every batch entry, or [P,3] (entry, query, key). A
            pair that is given twice counts twice.
        shares: [P] numbers above 0, how much of a query belongs to each of its keys. Default: equal shares.
        kind: "cross_entropy" or "mass". Default: "cross_entropy".
        reduction: "mean" over heads and queries that have pairs, "heads" [H], or "none" [B,H,N] with 0 for
            the others.

    Returns:
        The loss, float32 or better; 0 where there are no pairs.

    Raises:
        ValueError: for pairs outside of the matrix or hidden by its mask, shares that are not above 0, a
            detached matrix while gradients are on; TypeError: for other dtypes, or what is no matrix.

    Sources: Liu et al. 2016, "Neural machine translation with supervised attention"; Garg et al. 2019,
    "Jointly learning to align and translate with Transformer models" (one head, cross-entropy).

    Example:
        >>> import sightline, torch
        >>> query, key = torch.randn(2, 1, 2, 4, 8).requires_grad_()
        >>> A = sightline.AttentionMatrix(query, key, detach=False)
        >>> reverse = [(0, 3), (1, 2), (2, 1), (3, 0)]
        >>> sightline.losses.alignment(A[:, [0]], reverse).requires_grad
        True
    """
    choice("kind", kind, get_args(Kind))
    check_reduction(reduction)
    matrix = trained(A)
    given = _packed(matrix, _checked(matrix, pairs), _shares(matrix, shares, len(pairs)))
    logs = _log_weights(matrix, given)  # [B,H,n,K]
    there = given.keys >= 0
    _check_seen(given, logs.detach().isneginf() & there[:, None])
    if kind == "mass":
        # A pair that is no pair has share 0; where a query has none at all, any number will do.
        most = given.shares.log().masked_fill(~there & there.any(-1, keepdim=True), -math.inf)
        values = -(logs + most[:, None]).logsumexp(-1)
    else:
        total = (given.shares * there).sum(-1, keepdim=True).masked_fill(~there.any(-1, keepdim=True), 1)
        values = -(logs * (given.shares * there / total)[:, None]).sum(-1)
    return _of_rows(matrix, given.rows, values, there.any(-1), reduction)


class _Pairs(NamedTuple):
    """Pairs by query: rows [n] that have some in any batch entry, and for each its keys, [B,n,K].

    Where there are fewer, a key is -1 and its share 1.
    """

    rows: Tensor
    keys: Tensor
    shares: Tensor


def _checked(matrix: AttentionMatrix, pairs: Any) -> Tensor:
    """The pairs as [P,3]."""
    b, _, n, m = matrix.sizes
    given = integers_tensor("pairs", pairs, "[P,2] or [P,3]", matrix.device)
    check_device("pairs", given, matrix.device)
    if not given.numel():
        return given.new_zeros((0, 3)).long()
    if given.dim() != 2 or given.shape[1] not in (2, 3):
        raise ValueError(
            f"pairs: expected [P,2] (query, key) or [P,3] (entry, query, key), got {list(given.shape)}."
        )
    if given.shape[1] == 2:
        entries = torch.arange(b, device=matrix.device).repeat_interleave(len(given))
        given = torch.cat((entries[:, None], given.long().repeat(b, 1)), 1)
    for place, (axis, size) in enumerate((("B", b), ("N", n), ("M", m))):
        low, high = int(given[:, place].min()), int(given[:, place].max())
        if low < 0 or high >= size:
            what = ("batch entries", "queries", "keys")[place]
            raise ValueError(f"pairs: {what} from {low} to {high} do not fit {axis}={size} (axis {axis}).")
    return given.long()


def _shares(matrix: AttentionMatrix, shares: Any, count: int) -> Tensor:
    """[P], in what the weights are computed in."""
    dtype = compute_dtype(matrix.problem)
    if shares is None:
        return torch.ones(count, dtype=dtype, device=matrix.device)
    check_tensor("shares", shares, "[P]")
    check_device("shares", shares, matrix.device)
    if len(shares) != count:
        raise ValueError(f"shares: {len(shares)} of them for {count} pairs (axis P). Give one for each.")
    if not bool(((shares > 0) & shares.isfinite()).all()):
        raise ValueError("shares: must be finite and above 0. Leave out pairs that have none.")
    kept: Tensor = shares.to(dtype)
    return kept


def _packed(matrix: AttentionMatrix, pairs: Tensor, shares: Tensor) -> _Pairs:
    b, _, n, _ = matrix.sizes
    if len(shares) != len(pairs):
        shares = shares.repeat(b)  # pairs of every batch entry
    rows, local = pairs[:, 1].unique(return_inverse=True)
    places = pairs[:, 0] * len(rows) + local
    order = places.argsort(stable=True)
    places, keys, shares = places[order], pairs[order, 2], shares[order]
    counts = torch.bincount(places, minlength=b * len(rows))
    slots = torch.arange(len(places), device=places.device) - (counts.cumsum(0) - counts)[places]
    width = int(counts.max()) if len(rows) else 0
    packed = keys.new_full((b * len(rows), width), -1).index_put((places, slots), keys)
    held = shares.new_ones((b * len(rows), width)).index_put((places, slots), shares)
    return _Pairs(rows, packed.view(b, len(rows), width), held.view(b, len(rows), width))


def _log_weights(matrix: AttentionMatrix, given: _Pairs) -> Tensor:
    """The logarithms of the pairs' weights, 0 where there is no pair: [B,H,n,K]."""
    b, h, _, _ = matrix.sizes
    sums = settled(matrix.problem, matrix.exact_lse)
    logs = []
    for keys in given.keys.unbind(-1):
        logits = pair_logits(matrix.problem, given.rows, keys.clamp(min=0)[:, None].expand(b, h, -1))
        if isinstance(sums, RowSums):
            found = (logits - sums.top[:, :, given.rows]) - sums.log_sum[:, :, given.rows]
        else:
            found = (logits - sums[:, :, given.rows]).to(logits.dtype)
        logs.append(found.masked_fill((keys < 0)[:, None], 0))
    return torch.stack(logs, -1) if logs else given.shares.new_zeros((b, h, 0, 0))


def _check_seen(given: _Pairs, hidden: Tensor) -> None:
    if not hidden.any():
        return
    entry, head, row, slot = hidden.nonzero()[0].tolist()
    query, key = int(given.rows[row]), int(given.keys[entry, row, slot])
    raise ValueError(
        f"pairs: query {query} may not see key {key} (entry {entry}, head {head}): the mask hides it, and no "
        "training would change that. Leave the pair out."
    )


def _of_rows(matrix: AttentionMatrix, rows: Tensor, values: Tensor, has: Tensor, reduction: str) -> Tensor:
    """The loss of ``values`` [B,H,n] of some rows, of which those count that have pairs, bool [B,n]."""
    found = reduced(values, has[:, None].expand(values.shape), reduction)
    if reduction != "none":
        return found
    return found.new_zeros(matrix.sizes[:3]).index_copy(2, rows, found)
