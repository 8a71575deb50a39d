"""A call as an attention problem: its masks brought together, its keys once for each group of heads."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor

from sightline.backends import Problem
from sightline.matrix import DENSE_LIMIT
from sightline.positions import key_ranges
from sightline.tracing.caught import CaughtCall
from sightline.tracing.masks import MaskReader


def problem_of(caught: CaughtCall, masks: MaskReader) -> Problem:
    """The attention problem of a call, on the model's own tensors.

    Raises:
        MemoryError: for weights that can only be kept densely and are too large for that.
    """
    if caught.problem is not None:
        return replace(caught.problem, dropout=0.0, seed=None)
    key, value = _ungrouped(caught.key, caught.value)
    problem = Problem(
        caught.query,
        key,
        value,
        scale=1 / math.sqrt(caught.query.shape[3]) if caught.scale is None else float(caught.scale),
        softcap=caught.softcap,
        sinks=caught.sinks,
        ranges=caught.ranges,
    )
    if caught.dense is not None:
        size = caught.dense.numel() * 4
        if size > DENSE_LIMIT:
            raise MemoryError(
                f"the scores are not q·kᵀ, and the weights themselves, {list(caught.dense.shape)}, take "
                f"{size / 1e9:.1f} GB"
            )
        return replace(problem, bias=_logarithm(caught.dense))
    return _with_masks(problem, caught, masks)


def _logarithm(weights: Tensor) -> Tensor:
    """In float32 or better; that of 0 is -inf, with gradients of 0."""
    numbers = weights.to(torch.promote_types(weights.dtype, torch.float32))
    if not (numbers.requires_grad and torch.is_grad_enabled()):
        return numbers.log()
    tiny = torch.finfo(numbers.dtype).tiny
    return torch.where(numbers > 0, numbers.clamp(min=tiny).log(), -math.inf)


def _with_masks(problem: Problem, caught: CaughtCall, masks: MaskReader) -> Problem:
    _, _, n, m = problem.shape
    lowered = [masks.added(t, n, m) for t in caught.added]
    lowered += [masks.visible(t, n, m) for t in caught.visible]
    lowered += [masks.visible(t, n, m, inverted=True) for t in caught.hidden]
    if caught.causal:
        lowered.append(masks.causal(n, m, problem.query.device))
    for one in lowered:
        if one.ranges is not None:
            both = one.ranges if problem.ranges is None else key_ranges.intersect(problem.ranges, one.ranges)
            problem = replace(problem, ranges=both)
        if one.visible is not None:
            seen = one.visible if problem.visible is None else problem.visible & one.visible
            problem = replace(problem, visible=seen)
        if one.bias is not None:
            bias = one.bias if problem.bias is None else problem.bias + one.bias
            problem = replace(problem, bias=bias)
    return problem


def _ungrouped(key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
    """Keys and values once for each group of heads, where a model repeated them for its query heads."""
    heads = key.shape[1]
    if torch.is_grad_enabled() and (key.requires_grad or value.requires_grad):
        return key, value  # heads that are equal for now may have gradients of their own
    if heads < 2 or value.shape[1] != heads or 0 in key.shape or 0 in value.shape:
        return key, value
    if not torch.equal(key[0, 0, 0], key[0, 1, 0]):
        return key, value
    some = key[0, :, :: max(1, (key.shape[2] - 1) // 3)]
    equal = (some == some[:1]).flatten(1).all(-1)
    repeats = heads if bool(equal.all()) else int((~equal).to(torch.uint8).argmax())
    if repeats == 1 or heads % repeats:
        return key, value
    apart = [t.unflatten(1, (heads // repeats, repeats)) for t in (key, value)]
    if any(not torch.equal(t, t[:, :, :1].expand_as(t)) for t in apart):
        return key, value
    # Copies: a view would keep the repeated ones alive.
    return apart[0][:, :, 0].clone(), apart[1][:, :, 0].clone()
