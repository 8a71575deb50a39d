"""Where attention begins and ends: the products q·kᵀ and weights · value."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from sightline.tracing.aside import observing
from sightline.tracing.caught import DROPOUT, CaughtCall
from sightline.tracing.eager.followed import FollowedScores, ModuleFacts, plain_axes
from sightline.tracing.eager.product_grid import ProductGrid
from sightline.tracing.eager.softmax import sum_to_one
from sightline.tracing.layout import LEAD, NOTHING, ROW, Heads, Pieces, batch_and_heads, of_product
from sightline.tracing.scores import PROJECTED, Scores, Term, placed
from sightline.tracing.storage import address, is_plain

#: The least share of a row that sinks are taken to have.
_LEAST_SHARE = 1e-9


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
    made_of = (address(left), address(right))
    scores = Scores(query, key, alpha, made_of=made_of, sources=frozenset(made_of))
    if bias is not None:
        scores = scores.plus(Term(bias[0], tuple(out.shape), axes, bias[1]))
    followed.pass_on(out, out, axes, scores)


def _finish(followed: FollowedScores, left: Tensor, right: Tensor, out: Tensor, plain: bool = True) -> bool:
    """Whether this was weights · value."""
    for weights, value, turned in ((left, right, False), (right, left, True)):
        if not is_plain(value):
            continue
        if turned and followed.follows(weights):
            weights, value, out = weights.mT, value.mT, out.mT
        known = followed.operand(weights)
        if known is None:
            continue
        if followed.is_weight(value):
            return False
        scores, pieces = known
        along = {axis.role for _, axis in (pieces[-1] if pieces else ()) if axis != NOTHING}
        if LEAD in along:
            followed.set(out, scores.altered("mixed with each other"), plain_axes(out.dim()))
            return True
        if ROW in along:
            scores = scores.altered("summed along their queries")
        if not plain:
            scores = scores.altered("added to")
        with observing():
            followed.emit(_caught(scores, pieces, weights, value, out, followed.module))
        return True
    return False


def _caught(
    scores: Scores,
    pieces: tuple[Pieces, ...],
    weights: Tensor,
    value: Tensor,
    out: Tensor,
    module: ModuleFacts,
) -> CaughtCall:
    """The call that came to ``out`` = weights · value."""
    grid = ProductGrid.of(pieces, weights.shape)
    if grid is None:
        scores = scores.unknown("weights that were viewed in an unusual way")
        grid = ProductGrid.plain(weights.shape)
    result, context = out, grid.rows(out)
    weights, value = grid.rows(weights), grid.value(value)
    heads, count = scores.heads, weights.shape[0]
    if heads is None or not heads.complete(count):
        scores = scores.unknown("weights that were viewed in an unusual way")
        heads = Heads((count,), (1,))
    heads, batch, number = batch_and_heads(heads, scores.given, module.heads(), module.batch(), scores.key)

    def split(tensor: Tensor) -> Tensor:
        return heads.split(tensor, batch, number)

    query, key = scores.query, scores.key
    if query is None or key is None or (*query.shape[:2], key.shape[1]) != weights.shape:
        caught = _dense(scores, split(weights), split(value), split(context))
    else:
        caught = CaughtCall(
            "softmax(q·kᵀ)·v", split(query), split(key), split(value), split(context), scores.scale
        )
        caught.softcap, caught.thorough = scores.cap, scores.zeroed
        _add_terms(caught, scores, heads)
        if caught.sinks is None and scores.sinks is not None:
            caught = _dense(scores, split(weights), split(value), split(context))
    caught.doubt, caught.eps = _doubt(scores, weights), scores.eps
    caught.dropout = scores.share if scores.dropout else 0.0
    caught.made_of = scores.made_of
    caught.output = (result, lambda tensor: split(grid.rows(tensor)))
    return caught


def _dense(scores: Scores, weights: Tensor, value: Tensor, context: Tensor) -> CaughtCall:
    """A call whose weights are known, and nothing that they came from."""
    nothing = weights.new_zeros(())
    query, key = (nothing.expand(*tensor.shape[:3], 1) for tensor in (weights, value))
    caught = CaughtCall("softmax(scores)·v", query, key, value, context, 1.0)
    caught.dense = weights
    if scores.sinks is not None:
        # What is missing of each row went to its sinks: of weights relative to that, their logarithm is 0.
        missing = (1 - weights.sum(-1, keepdim=True, dtype=torch.float32)).clamp(min=_LEAST_SHARE)
        caught.dense = weights / missing
        caught.sinks = missing.new_zeros(weights.shape[1])
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
        sinks = placed(scores.sinks, heads, batch, number) * scores.sinks.factor
        sinks = sinks.logsumexp(-1, keepdim=True) if sinks.shape[3] > 1 else sinks
        first = sinks[:1, :, :1, 0]
        if torch.equal(sinks[..., 0], first.expand_as(sinks[..., 0])):
            caught.sinks = first[0, :, 0].expand(number)


def _doubt(scores: Scores, weights: Tensor) -> str | None:
    if scores.changed:
        return f"the weights were {scores.changed} after the softmax"
    if scores.opaque == PROJECTED:
        return PROJECTED
    if scores.stage == "exp" and not sum_to_one(weights, -1):
        return "exp(scores) met the values before it was divided by its sums"
    return DROPOUT if scores.dropout else None
