"""Masks that are filled in: what hides keys from queries without being added to the scores."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from sightline.tracing.eager.followed import FollowedScores, number_of
from sightline.tracing.eager.terms import beside_sinks
from sightline.tracing.layout import Axes
from sightline.tracing.scores import HIDDEN, Scores, Term
from sightline.tracing.storage import is_plain


def filled(followed: FollowedScores, args: Any, kwargs: Any, out: Any) -> None:
    """scores.masked_fill(mask, -inf)."""
    tensor, mask, number = args[:3]
    known = followed.get(tensor)
    if known is not None:
        after = _hide(*known, tensor, mask, number, inverted=False)
        followed.pass_on(out, tensor, known[1], after)


def chosen(followed: FollowedScores, args: Any, kwargs: Any, out: Any) -> None:
    """where(mask, scores, -inf)."""
    mask, yes, no = args[:3]
    for tensor, number, inverted in ((yes, no, True), (no, yes, False)):
        known = followed.get(tensor)
        if known is not None:
            after = _hide(*known, tensor, mask, number, inverted)
            return followed.pass_on(out, tensor, known[1], after)


def bounded(followed: FollowedScores, args: Any, kwargs: Any, out: Any) -> None:
    """max(scores, the least number): changes nothing that is seen."""
    known = followed.get(args[0])
    bound = number_of(args[1] if len(args) > 1 else kwargs.get("min"))
    if known is not None:
        scores, axes = known
        harmless = bound is not None and bound <= HIDDEN and (len(args) < 3 or args[2] is None)
        followed.pass_on(out, args[0], axes, scores if harmless else scores.altered("clamped"))


def _hide(scores: Scores, axes: Axes, tensor: Tensor, mask: Any, number: Any, inverted: bool) -> Scores:
    value = number_of(number)
    if scores.stage == "weights" and value != 0:
        return scores.altered("filled")
    if scores.stage != "weights" and (value is None or value > HIDDEN):
        return scores.unknown("scores that were filled with something else than -inf")
    if not is_plain(mask) or mask.dtype != torch.bool or mask.dim() > tensor.dim():
        return scores.altered("filled with an unusual mask")
    term, sizes = mask, tuple(tensor.shape)
    if scores.sinks is not None and tensor.shape[-1] != _keys(scores):
        beside = beside_sinks(scores, axes, tensor, mask, untouched=inverted)
        if beside is None:
            return scores.altered("filled, and their sinks with them")
        term, sizes = beside
    hidden = Term(term, sizes, axes, hides=True, inverted=inverted)
    return scores.zeros(hidden) if scores.stage == "weights" else scores.plus(hidden)


def _keys(scores: Scores) -> int:
    return 0 if scores.key is None else scores.key.shape[1]
