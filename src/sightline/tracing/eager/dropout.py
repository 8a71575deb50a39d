"""Dropout of weights: it leaves the matrix as it was, and a doubt about the call."""

from __future__ import annotations

from typing import Any

from sightline.tracing.eager.followed import FollowedScores
from sightline.tracing.storage import is_plain


def drawn(followed: FollowedScores, args: Any, kwargs: Any, out: Any) -> None:
    """A random mask."""
    if is_plain(args[0]):
        kept = args[1] if len(args) > 1 else kwargs.get("p", 0.5)
        followed.random.set(args[0] if out is None else out, 1 - kept)


def dropped(followed: FollowedScores, args: Any, kwargs: Any, out: Any) -> None:
    """native_dropout."""
    known = followed.get(args[0])
    if known is None or not isinstance(out, tuple):
        return
    scores, axes = known
    if scores.stage != "weights":
        scores = scores.altered("dropped")
    elif len(args) < 3 or args[2] is not False:
        scores = scores._replace(dropout=True, share=float(args[1]))
    followed.pass_on(out[0], args[0], axes, scores)
