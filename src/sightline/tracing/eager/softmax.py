"""The softmax along keys, in one step or in two."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from sightline.tracing.eager.followed import FollowedScores, plain_axes
from sightline.tracing.layout import KEY, LEAD, NOTHING, ROW, Axes, Axis, Heads, exchanged, find, heads_of
from sightline.tracing.scores import Scores
from sightline.tracing.storage import is_plain


def softmax(followed: FollowedScores, args: Any, kwargs: Any, out: Any) -> None:
    """The softmax itself, along keys."""
    tensor, dim = args[0], args[1] % max(1, args[0].dim())
    if is_plain(out) and out.dim() >= 2:
        _weights(followed, tensor, dim, out, "weights")


def exponential(followed: FollowedScores, args: Any, kwargs: Any, out: Any) -> None:
    """exp(scores), the first half of a softmax in two steps."""
    tensor = args[0]
    known = followed.get(tensor)
    if known is not None and known[0].stage == "scores" and tensor.dim() >= 2:
        column = find(known[1], KEY)
        _weights(followed, tensor, tensor.dim() - 1 if column is None else column, out, "exp")


def _weights(followed: FollowedScores, tensor: Tensor, dim: int, out: Tensor, stage: str) -> None:
    """``out`` is the softmax, or the exponential, of ``tensor`` along ``dim``."""
    known = followed.get(tensor)
    usual = plain_axes(tensor.dim())
    if known is None or known[0].stage != "scores":
        if dim != tensor.dim() - 1:
            return
        known = (Scores(None, None, opaque="the scores are not q·kᵀ"), usual)
    scores, axes = known
    if axes[dim].role == ROW and axes[dim].step:
        scores, axes = scores.exchanged(), exchanged(axes)
    row = find(axes, ROW)
    if row is None:
        row = dim - 1 if dim and axes[dim - 1] == NOTHING else None
    heads = heads_of(tensor.shape, axes, row, dim)
    if scores.query is not None and not _whole(scores, axes, tensor, row, dim, heads):
        scores, axes = scores.unknown("a softmax over a part of the keys"), usual
    if scores.query is None:
        axes = _canonical(tensor.shape)
        heads = heads_of(tensor.shape, axes, tensor.dim() - 2, tensor.dim() - 1)
    followed.pass_on(out, tensor, axes, replace(scores, stage=stage, heads=heads).rounded(out))


def _whole(scores: Scores, axes: Axes, tensor: Tensor, row: int | None, dim: int, heads: Heads) -> bool:
    """Whether the softmax runs over all keys of all queries and heads."""
    assert scores.query is not None
    assert scores.key is not None
    rows = 1 if row is None else tensor.shape[row]
    keys = scores.key.shape[1] + (scores.sinks is not None)
    along_keys = axes[dim].role == KEY or tensor.shape[dim] == 1
    return (
        along_keys
        and tensor.shape[dim] == keys
        and rows == scores.query.shape[1]
        and heads.complete(scores.query.shape[0])
    )


def _canonical(shape: torch.Size) -> Axes:
    """The axes of a tensor [..., N, M] whose leading axes are taken as they lie."""
    axes, step = [], 1
    for size in reversed(shape[:-2]):
        axes.append(NOTHING if size == 1 else Axis(LEAD, step))
        step *= size
    ends = [NOTHING if n == 1 else Axis(role, 1) for n, role in zip(shape[-2:], (ROW, KEY), strict=True)]
    return (*reversed(axes), *ends)
