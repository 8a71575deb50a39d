"""Two inputs, or two models: where their heads look differently."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sightline.matrix import AttentionMatrix
from sightline.measure.catalogue import catalogued
from sightline.measure.rows import counted, head_mean, visible
from sightline.measure.similarity import row_entropy, with_sink
from sightline.measure.sources import JAIN_2019, ZHAI_2023
from sightline.measure.subject import Subject, is_one, layers, subject
from sightline.measure.sweep import row_blocks


@catalogued(
    formula="mean_i ½ Σ_j |w_ij - w'_ij|",
    unit="share of weight",
    range=(0, 1),
    source=f"{JAIN_2019} (there between outputs)",
    caveat="Outputs may agree where attention differs, and differ where it agrees.",
)
def total_variation(
    left: Any, right: Any, *, queries: Tensor | None = None, unverified: bool = False
) -> Tensor:
    """How much weight lies elsewhere, head by head, between two matrices of the same shape.

    Args:
        left, right: AttentionMatrix [B,H,N,M], or traced calls.
        queries: bool [N] or [B,N], which queries the mean counts.
        unverified: measure traced calls that were not verified, too.

    Returns:
        [B,H], the mean over queries that see a key in both; NaN where none does. What a learned sink takes
        counts as one more key.

    Raises:
        ValueError: for different shapes; UnverifiedError: for an unverified call.

    Example:
        >>> import sightline.measure, torch
        >>> left = sightline.AttentionMatrix(torch.zeros(1, 1, 1, 2), torch.zeros(1, 1, 4, 2))
        >>> right = sightline.AttentionMatrix(left.problem.query, left.problem.key, mask=sightline.prefix(2))
        >>> sightline.measure.total_variation(left, right)
        tensor([[0.5000]])
    """
    return _rowwise(left, right, queries, unverified, [_variation])[0]


@catalogued(
    formula="mean_i H((w_i + w'_i) / 2) - (H(w_i) + H(w'_i)) / 2, with H the entropy",
    unit="nats",
    range=(0, math.log(2)),
    source=f"{JAIN_2019} (Jensen-Shannon divergence between attentions)",
    caveat="Outputs may agree where attention differs, and differ where it agrees.",
)
def jensen_shannon(
    left: Any, right: Any, *, queries: Tensor | None = None, unverified: bool = False
) -> Tensor:
    """How differently two matrices of the same shape look, head by head: 0 for the same rows, at most ln 2.

    Args:
        left, right, queries, unverified: as for :func:`total_variation`.

    Returns:
        [B,H], as :func:`total_variation`.

    Raises:
        as :func:`total_variation`.

    Example:
        >>> import sightline.measure, torch
        >>> A = sightline.AttentionMatrix(*torch.zeros(2, 1, 1, 4, 2))
        >>> sightline.measure.jensen_shannon(A, A)
        tensor([[0.]])
    """
    return _rowwise(left, right, queries, unverified, [_divergence])[0]


@catalogued(
    formula="mean_i H(w'_i) - H(w_i), with H the entropy; positive where the second is broader",
    unit="nats",
    range=(-math.inf, math.inf),
    source=ZHAI_2023,
    caveat="0 does not mean that they look at the same keys, only at as many.",
)
def entropy_difference(
    left: Any, right: Any, *, queries: Tensor | None = None, unverified: bool = False
) -> Tensor:
    """How much broader the second matrix looks than the first, head by head.

    Args:
        left, right, queries, unverified: as for :func:`total_variation`.

    Returns:
        [B,H], as :func:`total_variation`; entropies under sinks are not rescaled.

    Raises:
        as :func:`total_variation`.

    Example:
        >>> import sightline.measure, torch
        >>> left = sightline.AttentionMatrix(torch.zeros(1, 1, 1, 2), torch.zeros(1, 1, 4, 2))
        >>> right = sightline.AttentionMatrix(left.problem.query, left.problem.key, mask=sightline.prefix(2))
        >>> sightline.measure.entropy_difference(left, right)        # ln 2 - ln 4
        tensor([[-0.6931]])
    """
    one, other = _same_shape(left, right, unverified)
    rows = _both(one.matrix, other.matrix, queries)
    return one.shaped(head_mean(other.matrix.entropy() - one.matrix.entropy(), rows))


@catalogued(
    formula="mean_i |T_i ∩ T'_i| / max(|T_i|, |T'_i|), with T_i the keys of the k largest weights of row i",
    unit="share of keys",
    range=(0, 1),
    source="Fagin et al. 2003, Comparing top k lists",
    caveat="Keys with nearly equal weights change places by rounding alone; a broad head overlaps little "
    "with itself.",
)
def topk_overlap(
    left: Any, right: Any, k: int = 8, *, queries: Tensor | None = None, unverified: bool = False
) -> Tensor:
    """How many of the keys that a row weighs most are the same in both matrices.

    Args:
        left, right, queries, unverified: as for :func:`total_variation`.
        k: how many keys, at most M; rows that see fewer compare those.

    Returns:
        [B,H], as :func:`total_variation`.

    Raises:
        ValueError: unless 1 <= k <= M; otherwise as :func:`total_variation`.

    Example:
        >>> import sightline.measure, torch
        >>> A = sightline.AttentionMatrix(*torch.randn(2, 1, 1, 20, 4))
        >>> sightline.measure.topk_overlap(A, A, k=3)
        tensor([[1.]])
    """
    one, other = _same_shape(left, right, unverified)
    mine, theirs = (each.matrix.topk(k).indices for each in (one, other))
    shared = ((mine[..., None] == theirs[..., None, :]) & (mine[..., None] >= 0)).any(-1).sum(-1)
    most = torch.maximum((mine >= 0).sum(-1), (theirs >= 0).sum(-1))
    found = shared.to(one.matrix.lse.dtype) / most.clamp(min=1)
    return one.shaped(head_mean(found, _both(one.matrix, other.matrix, queries)))


@dataclass(frozen=True)
class Comparison:
    """What :func:`compare` finds, each [B,H]; for layers [L,B,H]. See the functions of the same names."""

    total_variation: Tensor
    jensen_shannon: Tensor
    entropy_difference: Tensor
    topk_overlap: Tensor


def compare(
    left: Any, right: Any, k: int = 8, *, queries: Tensor | None = None, unverified: bool = False
) -> Comparison:
    """Total variation, Jensen-Shannon divergence, entropy difference and top-k overlap, head by head.

    Args:
        left, right: two AttentionMatrix [B,H,N,M], or two sequences of them, one per layer (two traces).
        k, queries, unverified: as for :func:`topk_overlap`; k is cut to M.

    Returns:
        A :class:`Comparison`, [B,H] each; for sequences [L,B,H].

    Raises:
        ValueError: for different lengths, shapes or numbers of layers, or layers with different numbers of
        heads; UnverifiedError: for an unverified call.

    Example:
        >>> import sightline.measure, torch
        >>> A = sightline.AttentionMatrix(*torch.randn(2, 1, 2, 20, 4))
        >>> sightline.measure.compare([A, A], [A, A]).total_variation.shape
        torch.Size([2, 1, 2])
    """
    if is_one(left) and is_one(right):
        return _compare_one(left, right, k, queries, unverified)
    lefts, rights = layers(left, unverified), layers(right, unverified)
    if len(lefts) != len(rights):
        raise ValueError(
            f"compare: {len(lefts)} layers on the left, {len(rights)} on the right. Choose the layers that "
            "belong together, such as left[:n] and right[:n]."
        )
    found = [_compare_one(a, b, k, queries, unverified) for a, b in zip(lefts, rights, strict=True)]
    if len({one.total_variation.shape for one in found}) > 1:
        raise ValueError("compare: layers differ in heads or batch; compare them one by one.")
    names = Comparison.__dataclass_fields__
    return Comparison(**{name: torch.stack([getattr(one, name) for one in found]) for name in names})


def _compare_one(left: Any, right: Any, k: int, queries: Tensor | None, unverified: bool) -> Comparison:
    variation, divergence = _rowwise(left, right, queries, unverified, [_variation, _divergence])
    broader = entropy_difference(left, right, queries=queries, unverified=unverified)
    most = min(k, subject(left, unverified).matrix.problem.shape[3])
    overlap = topk_overlap(left, right, most, queries=queries, unverified=unverified)
    return Comparison(variation, divergence, broader, overlap)


def _rowwise(
    left: Any,
    right: Any,
    queries: Tensor | None,
    unverified: bool,
    functions: list[Callable[[Tensor, Tensor], Tensor]],
) -> list[Tensor]:
    """The means of functions of two rows; both matrices are swept once, side by side."""
    one, other = _same_shape(left, right, unverified)
    rows = _both(one.matrix, other.matrix, queries)
    values = [torch.zeros_like(one.matrix.lse) for _ in functions]
    sinks = one.matrix.problem.sinks is not None or other.matrix.problem.sinks is not None
    for place, (mine, theirs) in row_blocks([one.matrix, other.matrix]):
        if sinks:
            mine, theirs = with_sink(one.matrix, mine), with_sink(other.matrix, theirs)
            most = max(mine.shape[-1], theirs.shape[-1])
            mine, theirs = (
                torch.nn.functional.pad(each, (0, most - each.shape[-1])) for each in (mine, theirs)
            )
        for value, function in zip(values, functions, strict=True):
            value[:, :, place] = function(mine, theirs)
    return [one.shaped(head_mean(value, rows)) for value in values]


def _variation(left: Tensor, right: Tensor) -> Tensor:
    return (left - right).abs().sum(-1) / 2


def _divergence(left: Tensor, right: Tensor) -> Tensor:
    mixed = row_entropy((left + right) / 2)
    return (mixed - (row_entropy(left) + row_entropy(right)) / 2).clamp(min=0)


def _both(left: AttentionMatrix, right: AttentionMatrix, queries: Tensor | None) -> Tensor:
    """The rows that see a key in both, [B,H,N]."""
    return counted(left, (visible(left).counts > 0) & (visible(right).counts > 0), queries)


def _same_shape(left: Any, right: Any, unverified: bool) -> tuple[Subject, Subject]:
    one, other = subject(left, unverified), subject(right, unverified)
    mine, theirs = one.matrix.problem.shape, other.matrix.problem.shape
    if mine[2:] != theirs[2:]:
        raise ValueError(
            f"compare: N={mine[2]}, M={mine[3]} on the left, N={theirs[2]}, M={theirs[3]} on the right. "
            "Rows of different lengths have no common keys: cut or pad both inputs to the same tokens, merge "
            "them to the same words (merge_words), or compare numbers per head, such as "
            "entropy(normalized=True)."
        )
    if mine[:2] != theirs[:2]:
        raise ValueError(
            f"compare: B={mine[0]}, H={mine[1]} on the left, B={theirs[0]}, H={theirs[1]} on the right. "
            "Choose batches and heads that belong together, such as A[:, 2:3]."
        )
    if one.matrix.device != other.matrix.device:
        raise ValueError(
            f"compare: {one.matrix.device} and {other.matrix.device}; move one with .to(device)."
        )
    return one, other
