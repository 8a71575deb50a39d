"""The softmax along keys, in one step or in two."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from sightline.tracing.eager.followed import FollowedScores, plain_axes
from sightline.tracing.eager.grouping import grouped, heads_among_rows
from sightline.tracing.layout import (
    KEY,
    LEAD,
    NOTHING,
    ROW,
    Axes,
    Axis,
    Heads,
    all_of,
    exchanged,
    find,
    heads_of,
)
from sightline.tracing.scores import PROJECTED, Scores, Term
from sightline.tracing.storage import is_plain


def softmax(followed: FollowedScores, args: Any, kwargs: Any, out: Any) -> None:
    """The softmax itself, along keys."""
    tensor, dim = args[0], args[1] % max(1, args[0].dim())
    if is_plain(out) and out.dim() >= 2:
        _weights(followed, tensor, dim, out, "weights")


def log_softmax(followed: FollowedScores, args: Any, kwargs: Any, out: Any) -> None:
    """The softmax without its exp."""
    tensor, dim = args[0], args[1] % max(1, args[0].dim())
    if is_plain(out) and followed.get(tensor) is not None and out.dim() >= 2:
        _weights(followed, tensor, dim, out, "log")


def exponential(followed: FollowedScores, args: Any, kwargs: Any, out: Any) -> None:
    """exp(scores), the first half of a softmax in two steps; exp of what a log-softmax made."""
    tensor = args[0]
    known = followed.get(tensor)
    if known is not None and known[0].stage == "log":
        followed.pass_on(out, tensor, known[1], known[0]._replace(stage="weights"))
    elif known is not None and known[0].stage == "scores" and tensor.dim() >= 2:
        column = find(known[1], KEY)
        _weights(followed, tensor, tensor.dim() - 1 if column is None else column, out, "exp")


def _weights(followed: FollowedScores, tensor: Tensor, dim: int, out: Tensor, stage: str) -> None:
    """``out`` is the softmax, or the exponential, of ``tensor`` along ``dim``."""
    known = followed.get(tensor)
    usual = plain_axes(tensor.dim())
    if known is None or known[0].stage != "scores":
        if dim != tensor.dim() - 1:
            return
        learnt = followed.features.axes_of(tensor)
        why = PROJECTED if {dim, dim - 1} & set(learnt) else "the scores are not q·kᵀ"
        known = (Scores(None, None, opaque=why), usual)
    scores, axes = known
    if axes[dim].role == ROW and axes[dim].step:
        scores, axes = scores.exchanged(), exchanged(axes)
    if scores.query is not None:
        keys = scores.key.shape[1] if scores.key is not None else 0
        among = heads_among_rows(tensor.shape, axes, dim, keys, followed.module.heads())
        found = grouped(scores, tensor.shape, axes, among) if among else (scores, axes)
        scores, axes = found or (scores.unknown("heads that stand among the queries"), usual)
    rows = all_of(axes, ROW) or ([dim - 1] if dim and axes[dim - 1] == NOTHING else [])
    heads = heads_of(tensor.shape, axes, rows, dim)
    if scores.query is not None and not _whole(scores, axes, tensor, rows, dim, heads):
        scores, axes = scores.unknown("a softmax over a part of the keys"), usual
    if scores.query is None:
        axes = _canonical(tensor.shape)
        heads = heads_of(tensor.shape, axes, [tensor.dim() - 2], tensor.dim() - 1)
    followed.pass_on(out, tensor, axes, scores._replace(stage=stage, heads=heads).rounded(out))


def _whole(scores: Scores, axes: Axes, tensor: Tensor, rows: list[int], dim: int, heads: Heads) -> bool:
    """Whether the softmax runs over all keys of all queries and heads."""
    assert scores.query is not None
    assert scores.key is not None
    along_keys = axes[dim].role == KEY or tensor.shape[dim] == 1
    return (
        along_keys
        and tensor.shape[dim] == scores.key.shape[1] + scores.columns
        and math.prod(tensor.shape[d] for d in rows) == scores.query.shape[1]
        and heads.complete(scores.query.shape[0])
    )


def normalised(scores: Scores, axes: Axes, shares: Tensor, divisor: Any, out: Tensor) -> Scores:
    """exp(scores) divided: by their sum, or by more, which then went to a sink."""
    column = find(axes, KEY)
    column = shares.dim() - 1 if column is None else column
    weights = scores._replace(stage="weights")
    if sum_to_one(out, column):
        return weights
    if is_plain(divisor) and out.data_ptr() != shares.data_ptr() and scores.sinks is None:
        extra = divisor - shares.sum(column, keepdim=True)
        if extra.shape[column] == 1 and extra.dim() == shares.dim() and bool((extra >= 0).all()):
            sizes = tuple(1 if d == column else n for d, n in enumerate(shares.shape))
            return weights._replace(sinks=Term(extra.log(), sizes, axes))
    return weights.altered("not divided by their sums")


def sum_to_one(weights: Tensor, dim: int) -> bool:
    """Whether every row sums to 1, but for rounding, or sees nothing."""
    total = weights.sum(dim, dtype=torch.float32)
    off = (total - 1).abs() > 16 * torch.finfo(weights.dtype).eps * max(16, weights.shape[dim]) ** 0.5
    return not bool((off & ~total.isnan()).any())


def _canonical(shape: torch.Size) -> Axes:
    """The axes of a tensor [..., N, M] whose leading axes are taken as they lie."""
    axes, step = [], 1
    for size in reversed(shape[:-2]):
        axes.append(NOTHING if size == 1 else Axis(LEAD, step))
        step *= size
    ends = [NOTHING if n == 1 else Axis(role, 1) for n, role in zip(shape[-2:], (ROW, KEY), strict=True)]
    return (*reversed(axes), *ends)
