"""How much each key of a lazy attention matrix matters to its queries, [B,G,M]: what cache eviction goes by.

Nothing is dense: what these need of an :class:`AttentionMatrix` is read off it, or computed block by block.
Scores of the query heads that share a key/value head are averaged. They have the form that presses of kvpress
return from ``score()``.

Letters: B batch, H query heads, G key/value heads, N queries, M keys, E value width.
"""

from __future__ import annotations

import math
from typing import Literal, get_args

import torch
from torch import Tensor

from sightline.backends import MatrixBlock
from sightline.call.received import over_groups
from sightline.common.check import check_tensor, choice, integer, kind
from sightline.matrix import AttentionMatrix

Pool = Literal["mean", "max"]


def received(A: AttentionMatrix, kv_heads: int | None = None) -> Tensor:
    """What each key received: Σᵢ w[b,h,i,j], the mean over the heads that share it (H2O).

    Args:
        A: the matrix, [B,H,N,M].
        kv_heads: G, which divides H. Default: as the matrix's keys have it.

    Returns:
        [B,G,M], float32 or better.

    Raises:
        TypeError: for what is no AttentionMatrix; ValueError: for one without batch or heads.

    Source: Zhang et al. 2023, "H2O: Heavy-hitter oracle for efficient generative inference of large language
    models".

    Example:
        >>> import sightline, torch
        >>> from sightline.nn import scores
        >>> A = sightline.AttentionMatrix(torch.randn(1, 4, 6, 8), torch.randn(1, 2, 6, 8))
        >>> scores.received(A).shape
        torch.Size([1, 2, 6])
    """
    _whole(A)
    return _averaged(A, A.received(), kv_heads)


def last(A: AttentionMatrix, kv_heads: int | None = None) -> Tensor:
    """The weights of the last query: w[b,h,N−1,j], the mean over the heads that share a key (TOVA).

    The paper averages over all heads: ``scores.last(A).mean(1, keepdim=True)``.

    Args:
        A: the matrix, [B,H,N,M] with one query or more.
        kv_heads: as for :func:`received`.

    Returns:
        [B,G,M], float32 or better.

    Raises:
        TypeError, ValueError: as :func:`received`.

    Source: Oren et al. 2024, "Transformers are multi-state RNNs".

    Example:
        >>> import sightline, torch
        >>> from sightline.nn import scores
        >>> A = sightline.AttentionMatrix(*torch.randn(2, 1, 2, 6, 8))
        >>> bool(torch.isclose(scores.last(A).sum(-1), torch.ones(1, 2)).all())
        True
    """
    return _averaged(A, _of_last(A, 1), kv_heads)


def window(A: AttentionMatrix, size: int = 32, kv_heads: int | None = None) -> Tensor:
    """The mean weights of the last queries, and infinity for their own keys, which so stay (SnapKV).

    ``Σᵢ w[b,h,i,j] / size`` over the last ``size`` queries i, for the keys before them; smooth it with
    :func:`pooled`.

    Args:
        A: the matrix, [B,H,N,M], whose last queries belong to its last keys.
        size: how many queries; all where there are fewer. Default: 32.
        kv_heads: as for :func:`received`.

    Returns:
        [B,G,M], float32 or better.

    Raises:
        ValueError: for a size below 1; TypeError, ValueError: as :func:`received`.

    Source: Li et al. 2024, "SnapKV: LLM knows what you are looking for before generation".

    Example:
        >>> import sightline, torch
        >>> from sightline.nn import scores
        >>> A = sightline.AttentionMatrix(*torch.randn(2, 1, 2, 6, 8), mask=sightline.causal())
        >>> scores.window(A, 2).isinf()[0, 0].tolist()
        [False, False, False, False, True, True]
    """
    size = integer("size", size, 1)
    found = _averaged(A, _of_last(A, size), kv_heads)
    size = min(size, A.shape[2])
    found = found / max(1, size)
    found[..., max(0, found.shape[2] - size) :] = math.inf
    return found


def influence(A: AttentionMatrix, kv_heads: int | None = None) -> Tensor:
    """How far the contexts would move if a key were left out: Σᵢ (p/(1−p))² ‖vⱼ − oᵢ‖².

    p is the weight of key j in row i and oᵢ the row's context. Without key j the context is
    (oᵢ − p·vⱼ)/(1−p), so that each term is the squared distance that it moves, exactly. A row's largest
    weight may be so close to 1 that 1−p means nothing: its term is computed from the context that the row has
    without it, which is 0 where it sees no other key.

    Computed in float64, block by block.

    Args:
        A: a matrix [B,H,N,M] that has its values, as ``return_matrix=True`` gives it.
        kv_heads: as for :func:`received`.

    Returns:
        [B,G,M], float32 or better.

    Raises:
        ValueError: for a matrix without values; TypeError, ValueError: as :func:`received`.

    Example:
        >>> import sightline, torch
        >>> from sightline.nn import scores
        >>> q, k, v = torch.randn(3, 1, 2, 6, 8)
        >>> _, A = sightline.attention(q, k, v, mask=sightline.causal(), return_matrix=True)
        >>> scores.influence(A).shape
        torch.Size([1, 2, 6])
    """
    _whole(A)
    value = A.problem.value
    if value is None:
        raise ValueError("A: has no values. Get it from attention(..., return_matrix=True).")
    b, h, _, m = A.shape
    found = torch.zeros((b, h, m), dtype=torch.float64, device=A.device)
    for block in A.blocks():
        of_heads = value[block.batch, :, block.cols].double().repeat_interleave(A.problem.group, 1)
        found[block.batch, :, block.cols] += _moved(block, of_heads, A.problem.sinks).sum(2)
    return _averaged(A, found, kv_heads).to(A.dtype if A.dtype == torch.float64 else torch.float32)


def pooled(scores: Tensor, kernel: int, pool: Pool = "mean") -> Tensor:
    """Scores [B,G,M] smoothed over neighbouring keys, so that clusters stay together.

    Each finite score becomes the mean or the largest of the ``kernel`` around it; beyond the ends, and where
    scores are infinite, stands nothing, which counts as 0 in a mean.

    Args:
        scores: [B,G,M].
        kernel: how many keys; odd.
        pool: "mean" or "max". Default: "mean".

    Raises:
        ValueError: for an even kernel or one below 1, or another pool; TypeError: for what is no integer.

    Source: Li et al. 2024, "SnapKV: LLM knows what you are looking for before generation".

    Example:
        >>> import torch
        >>> from sightline.nn.scores import pooled
        >>> pooled(torch.tensor([[[0.0, 3.0, 0.0, 0.0]]]), 3).tolist()
        [[[1.0, 1.0, 1.0, 0.0]]]
    """
    check_tensor("scores", scores, "[B,G,M]")
    kernel = integer("kernel", kernel, 1)
    if kernel % 2 == 0:
        raise ValueError(f"kernel: must be odd, so that it has a middle, got {kernel}.")
    choice("pool", pool, get_args(Pool))
    outside = scores.isinf()
    if pool == "mean":
        smooth = torch.nn.functional.avg_pool1d(scores.masked_fill(outside, 0), kernel, 1, kernel // 2)
    else:
        inside = scores.masked_fill(outside, -math.inf)
        smooth = torch.nn.functional.max_pool1d(inside, kernel, 1, kernel // 2)
    return torch.where(outside, scores, smooth)


def _moved(block: MatrixBlock, value: Tensor, sinks: Tensor | None) -> Tensor:
    """[b,H,n,m]: the squared distance that each key's absence moves each context."""
    masked = block.masked.double()
    empty = masked == -math.inf
    top = masked.max(-1, keepdim=True)
    if sinks is None:
        total = masked.logsumexp(-1, keepdim=True)
        of_sink = torch.zeros_like(total)
    else:
        sink = sinks.double()[:, None, None].expand_as(top.values)
        total = torch.logaddexp(masked.logsumexp(-1, keepdim=True), sink)
        of_sink = (sink - total).exp()
    weights = (masked - total).exp().masked_fill(empty, 0)
    context = weights @ value
    distance = (value**2).sum(-1)[:, :, None] - 2 * context @ value.mT + (context**2).sum(-1)[..., None]
    moved = (weights / (1 - weights)) ** 2 * distance.clamp(min=0)
    # The largest weight of a row, without which it looks at the others alone.
    largest = weights.gather(-1, top.indices)
    others = weights.scatter(-1, top.indices, 0)
    left = others.sum(-1, keepdim=True) + of_sink
    alone = torch.where(left > 0, others @ value / left, 0)
    of_top = value.gather(2, top.indices.expand(*top.indices.shape[:3], value.shape[3]))
    moved = moved.scatter(-1, top.indices, largest**2 * ((of_top - alone) ** 2).sum(-1, keepdim=True))
    return moved.masked_fill(empty, 0)


def _whole(A: AttentionMatrix) -> None:
    """Raises for what is no matrix of four axes."""
    kind("A", A, AttentionMatrix, "an AttentionMatrix")
    if A.dim() != 4:
        raise ValueError(
            f"A: expected [B,H,N,M], got shape {list(A.shape)}. Keep batch and heads: A[:1, :1]."
        )


def _of_last(A: AttentionMatrix, count: int) -> Tensor:
    """[B,H,M]: what each key received from the last queries."""
    _whole(A)
    rows = slice(max(0, A.shape[2] - count), A.shape[2])
    return A.cell_rows(rows, slice(None), None, ("received",))["received"]


def _averaged(A: AttentionMatrix, of_heads: Tensor, kv_heads: int | None) -> Tensor:
    """[B,H,M] → [B,G,M]."""
    heads = of_heads.shape[1]
    groups = heads // A.problem.group if kv_heads is None else integer("kv_heads", kv_heads, 1)
    if groups and heads % groups:
        raise ValueError(f"kv_heads: {groups} (axis G) do not divide H={heads}.")
    return over_groups(of_heads, groups) / (heads // groups if groups else 1)
