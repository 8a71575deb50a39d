"""Masks that are filled in: what hides keys from queries without being added to the scores."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from sightline.tracing.eager.followed import FollowedScores, number_of
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
    if scores.stage == "weights":
        # Zeros where nothing was seen change nothing; the comparison of the contexts will tell.
        return scores if value == 0 else scores.altered("filled")
    if value is None or value > HIDDEN or scores.sinks is not None:
        return scores.unknown("scores that were filled with something else than -inf")
    if not is_plain(mask) or mask.dtype != torch.bool or mask.dim() > tensor.dim():
        return scores.unknown("an unusual mask")
    return scores.plus(Term(mask, tuple(tensor.shape), axes, hides=True, inverted=inverted))
