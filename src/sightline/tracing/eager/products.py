"""Where attention begins and ends: the products q·kᵀ and weights · value."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from torch import Tensor

from sightline.tracing.aside import observing
from sightline.tracing.caught import DROPOUT, CaughtCall
from sightline.tracing.eager.followed import FollowedScores
from sightline.tracing.layout import KEY, LEAD, NOTHING, ROW, Axes, Axis, Heads, batch_and_heads, of_product
from sightline.tracing.scores import Scores, Term, placed
from sightline.tracing.storage import address, is_plain


def product(followed: FollowedScores, args: Any, kwargs: Any, out: Any) -> None:
    """a @ b: scores, or weights · value."""
    left, right = args[:2]
    if not _finish(followed, left, right, out):
        _start(followed, left, right, out, 1.0, None)


def added_product(followed: FollowedScores, args: Any, kwargs: Any, out: Any) -> None:
    """beta · x + alpha · a @ b."""
    bias, left, right = args[:3]
    alpha, beta = kwargs.get("alpha", 1), kwargs.get("beta", 1)
    if beta == 0 or not _finish(followed, left, right, out, plain=False):
        _start(followed, left, right, out, float(alpha), (bias, float(beta)) if beta else None)


def _start(
    followed: FollowedScores,
    left: Tensor,
    right: Tensor,
    out: Tensor,
    alpha: float,
    bias: tuple[Tensor, float] | None,
) -> None:
    if not all(map(is_plain, (left, right, out))) or followed.is_weight(left) or followed.is_weight(right):
        return
    with observing():
        query, key = (left, right.mT) if left.dim() == 3 else (left[None], right.t()[None])
    axes = of_product(out.shape)
    scores = Scores(query, key, alpha, sources=frozenset((address(left), address(right))))
    if bias is not None:
        scores = scores.plus(Term(bias[0], tuple(out.shape), axes, bias[1]))
    followed.pass_on(out, out, axes, scores)


def _finish(followed: FollowedScores, left: Tensor, right: Tensor, out: Tensor, plain: bool = True) -> bool:
    """Whether this was weights · value."""
    for weights, value, turned in ((left, right, False), (right, left, True)):
        known = followed.get(weights)
        if known is None or known[0].stage != "weights" or not is_plain(value):
            continue
        if followed.is_weight(value):
            return False
        scores, axes = known
        if turned:
            weights, value, out = weights.mT, value.mT, out.mT
            axes = (*axes[:-2], axes[-1], axes[-2])
        if not plain:
            scores = replace(scores, changed=scores.changed or "added to")
        with observing():
            followed.emit(_caught(scores, axes, weights, value, out, followed.heads()))
        return True
    return False


def _caught(
    scores: Scores, axes: Axes, weights: Tensor, value: Tensor, out: Tensor, heads_of_module: int | None
) -> CaughtCall:
    """The call that came to ``out`` = weights · value."""
    if weights.dim() == 2:
        weights, value, out, axes = weights[None], value[None], out[None], (NOTHING, *axes)
    right = (Axis(LEAD, 1), Axis(ROW, 1), Axis(KEY, 1))
    fits = all(axis in (NOTHING, wanted) for axis, wanted in zip(axes, right, strict=True))
    heads, count = scores.heads, weights.shape[0]
    if not fits or heads is None or not heads.complete(count):
        scores = scores.unknown("weights that were viewed in an unusual way")
        heads = Heads((count,), (1,))
    batch, number = batch_and_heads(heads.sizes, scores.given, heads_of_module)

    def split(tensor: Tensor) -> Tensor:
        return heads.split(tensor, batch, number)

    query, key = scores.query, scores.key
    if query is None or key is None or (*query.shape[:2], key.shape[1]) != weights.shape:
        caught = _dense(split(weights), split(value), split(out))
    else:
        caught = CaughtCall(
            "softmax(q·kᵀ)·v", split(query), split(key), split(value), split(out), scores.scale
        )
        caught.softcap = scores.cap
        _add_terms(caught, scores, heads)
    caught.doubt, caught.eps, caught.output = _doubt(scores), scores.eps, (out, split)
    return caught


def _dense(weights: Tensor, value: Tensor, context: Tensor) -> CaughtCall:
    """A call whose weights are known, and nothing that they came from."""
    nothing = weights.new_zeros(())
    query, key = (nothing.expand(*tensor.shape[:3], 1) for tensor in (weights, value))
    caught = CaughtCall("softmax(scores)·v", query, key, value, context, 1.0)
    caught.dense = weights
    return caught


def _add_terms(caught: CaughtCall, scores: Scores, heads: Heads) -> None:
    """Biases, masks and sinks, as [1|B,1|H,1|N,1|M]."""
    batch, number, _, _ = caught.query.shape
    keys = caught.key.shape[2]
    for term in scores.terms:
        tensor = placed(term, heads, batch, number)
        if term.hides:
            (caught.visible if term.inverted else caught.hidden).append(tensor)
        elif tensor.shape[3] > 1 or keys == 1 or scores.sinks is not None:
            caught.added.append(tensor if term.factor == 1 else tensor * term.factor)
        # The same number for every key of a row changes no weight.
    if scores.sinks is not None:
        sinks = placed(scores.sinks, heads, batch, number)
        caught.sinks = sinks[0, :, 0, 0].expand(number) * scores.sinks.factor


def _doubt(scores: Scores) -> str | None:
    if scores.changed:
        return f"the weights were {scores.changed} after the softmax"
    return DROPOUT if scores.dropout else None
