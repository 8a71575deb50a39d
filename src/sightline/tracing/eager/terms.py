"""What is done to scores on their way to the softmax, and to weights behind it: scale, cap, bias, sinks."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from sightline.tracing.eager.followed import FollowedScores, number_of
from sightline.tracing.eager.softmax import normalised
from sightline.tracing.layout import KEY, NOTHING, ROW, Axes, Axis, Heads, find, heads_of
from sightline.tracing.scores import Scores, Term, placed
from sightline.tracing.storage import is_plain


def scaled(followed: FollowedScores, args: Any, kwargs: Any, out: Any) -> None:
    """scores · number; weights · a random mask."""
    tensor, factor = args[:2]
    known = followed.get(tensor)
    if known is None:
        tensor, factor = factor, tensor
        known = followed.get(tensor)
    if known is not None:
        after = _multiplied(followed, *known, tensor, factor, inverse=False)
        followed.pass_on(out, tensor, known[1], after)


def divided(followed: FollowedScores, args: Any, kwargs: Any, out: Any) -> None:
    """scores / number; exp(scores) / their sum."""
    tensor, divisor = args[:2]
    known = followed.get(tensor)
    if known is None:
        return
    if known[0].stage == "exp" and isinstance(divisor, Tensor) and divisor.numel() < tensor.numel():
        after = normalised(*known, tensor, divisor, out)
    else:
        after = _multiplied(followed, *known, tensor, divisor, inverse=True)
    followed.pass_on(out, tensor, known[1], after)


def _multiplied(
    followed: FollowedScores, scores: Scores, axes: Axes, tensor: Tensor, factor: Any, inverse: bool
) -> Scores:
    """Multiplied with a number or a tensor, or divided by it."""
    if scores.stage in ("exp", "log"):
        return scores.unknown("an unusual softmax")
    number = number_of(factor)
    if number is None:
        return _times_tensor(followed, scores, axes, tensor, factor, inverse)
    if scores.stage == "weights":
        # Of dropout: the kept weights divided by their share. A plain factor is not expected.
        return scores if scores.dropout else scores.altered("multiplied")
    return scores.times(1 / number if inverse and number else number)


def _times_tensor(
    followed: FollowedScores, scores: Scores, axes: Axes, tensor: Tensor, factor: Tensor, inverse: bool
) -> Scores:
    if scores.stage == "weights":
        share = followed.random.get(factor) if is_plain(factor) else None
        if share is not None:
            return scores._replace(dropout=True, share=share)
        return scores.altered("multiplied with a tensor (a mask of heads?)")
    query, key = scores.query, scores.key
    row, column = find(axes, ROW), find(axes, KEY)
    if query is None or key is None or scores.terms or scores.cap is not None or inverse:
        return scores.altered("multiplied with a tensor")
    full = factor[(None,) * (tensor.dim() - factor.dim())]
    if column is not None and full.shape[column] > 1 or tensor.dim() < 3:
        return scores.altered("multiplied with a tensor")
    # One factor for each head, or for each query: it belongs to the query.
    term = Term(full, tuple(tensor.shape), axes)
    rows = [] if row is None else [row]
    lead = heads_of(tensor.shape, axes, rows, tensor.dim() - 1 if column is None else column)
    count = query.shape[0]
    if not lead.complete(count):
        return scores.altered("multiplied with a tensor")
    per_row = placed(term, Heads((count,), (1,)), count, 1)[:, 0]
    return scores._replace(query=query * per_row.to(query.dtype))


def summed(followed: FollowedScores, args: Any, kwargs: Any, out: Any) -> None:
    """scores + bias; masks are biases too."""
    tensor, bias = args[:2]
    known, other = followed.get(tensor), followed.get(bias)
    # Of two products the larger one is the scores; a product of weights is neither.
    larger = other is not None and known is not None and known[0].stage == "scores"
    if known is None or (larger and bias.numel() > tensor.numel()):
        tensor, bias, known = bias, tensor, other
    if known is not None:
        after = _plus(*known, tensor, bias, float(kwargs.get("alpha", 1)))
        followed.pass_on(out, tensor, known[1], after)


def subtracted(followed: FollowedScores, args: Any, kwargs: Any, out: Any) -> None:
    """scores - shift."""
    tensor, shift = args[:2]
    known, other = followed.get(tensor), followed.get(shift)
    larger = other is not None and known is not None and known[0].stage == "scores"
    if other is not None and (known is None or (larger and shift.numel() > tensor.numel())):
        followed.pass_on(out, shift, other[1], other[0].altered("subtracted"))
    elif known is not None:
        after = _plus(*known, tensor, shift, -float(kwargs.get("alpha", 1)))
        followed.pass_on(out, tensor, known[1], after)


def _plus(scores: Scores, axes: Axes, tensor: Tensor, bias: Any, factor: float) -> Scores:
    """With a number, or a tensor times a factor, added."""
    if not isinstance(bias, Tensor) or (bias.dim() == 0 and is_plain(bias)):
        # The same number everywhere changes no weight; next to sinks it would.
        known = number_of(bias) is not None and scores.stage == "scores"
        return scores if known else scores.altered("added to")
    if bias.numel() > tensor.numel() or bias.dim() > tensor.dim():
        return scores.unknown("a bias with more axes than the scores")
    if scores.sinks is not None:
        # A shift of a whole row shifts its sink, too.
        if bias.shape[-1] == 1:
            return scores
        beside = beside_sinks(scores, axes, tensor, bias)
        return (
            scores.unknown("a bias of the sinks")
            if beside is None
            else scores.plus(Term(*beside, axes, factor))
        )
    return scores.plus(Term(bias, tuple(tensor.shape), axes, factor))


def tanh(followed: FollowedScores, args: Any, kwargs: Any, out: Any) -> None:
    """The middle of a soft cap."""
    known = followed.get(args[0])
    if known is not None:
        followed.pass_on(out, args[0], known[1], known[0].tanh())


def copied(followed: FollowedScores, args: Any, kwargs: Any, out: Any) -> None:
    """The same numbers in another place or dtype."""
    known = followed.get(args[0])
    if known is not None:
        followed.pass_on(out, args[0], known[1], known[0].rounded(out))


def copied_into(followed: FollowedScores, args: Any, kwargs: Any, out: Any) -> None:
    """The same numbers in a tensor that was there, or in a part of it."""
    target, source = args[:2]
    known = followed.get(source)
    if known is not None and target.shape == source.shape:
        followed.pass_on(target, source, known[1], known[0].rounded(target))
    elif followed.follows(target):
        followed.overwritten(target, "aten.copy_")


def joined(followed: FollowedScores, args: Any, kwargs: Any, out: Any) -> None:
    """cat([scores, sinks]), or the other way round: columns that take a share of the softmax."""
    tensors = args[0]
    dim = (args[1] if len(args) > 1 else kwargs.get("dim", 0)) % max(1, out.dim())
    for place in {0, len(tensors) - 1}:
        known = followed.get(tensors[place])
        if known is not None and len(tensors) > 1:
            others = tensors[1:] if place == 0 else tensors[:-1]
            if known[0].stage == "weights":
                followed.set(out, known[0].altered("joined with others"), known[1])
            elif not any(map(followed.follows, others)):
                sinks = others[0] if len(others) == 1 else torch.cat(list(others), dim)
                _beside(followed, *known, tensors[place], sinks, dim, out, first=place != 0)
            return


def padded(followed: FollowedScores, args: Any, kwargs: Any, out: Any) -> None:
    """One number put beside the scores: a softmax that may look at nothing."""
    known = followed.get(args[0])
    tensor, sizes, number = args[0], args[1], args[2] if len(args) > 2 else kwargs.get("value", 0)
    if known is None or known[0].stage != "scores" or any(sizes[2:]) or 0 not in sizes[:2]:
        return
    sinks = tensor.new_full((*(1 for _ in tensor.shape[1:]), max(sizes)), float(number))
    _beside(followed, *known, tensor, sinks, tensor.dim() - 1, out, first=sizes[0] > 0)


def _beside(
    followed: FollowedScores,
    scores: Scores,
    axes: Axes,
    tensor: Tensor,
    sinks: Tensor,
    dim: int,
    out: Tensor,
    first: bool,
) -> None:
    """Sinks beside the scores along ``dim``."""
    if axes[dim] == NOTHING and scores.key is not None and scores.key.shape[1] == 1:  # the first key of all
        axes = (*axes[:dim], Axis(KEY, 1), *axes[dim + 1 :])
    if scores.stage != "scores" or scores.sinks is not None or axes[dim].role != KEY or dim != out.dim() - 1:
        return
    term = Term(sinks, (*tensor.shape[:-1], sinks.shape[-1]), axes)
    followed.set(out, scores._replace(sinks=term, sinks_first=first), axes)


def beside_sinks(
    scores: Scores, axes: Axes, tensor: Tensor, term: Tensor, untouched: bool | float = 0
) -> tuple[Tensor, tuple[int, ...]] | None:
    """What a tensor does to scores beside sinks, and their size; ``None`` if it does it to sinks, too."""
    sinks, keys = scores.columns, tensor.shape[-1] - scores.columns
    if find(axes, KEY) != tensor.dim() - 1 or not term.dim() or term.shape[-1] != tensor.shape[-1]:
        return None
    places = (sinks, keys) if scores.sinks_first else (keys, sinks)
    before, after = term.split(places, -1)
    own, of_sinks = (after, before) if scores.sinks_first else (before, after)
    return (own, (*tensor.shape[:-1], keys)) if bool((of_sinks == untouched).all()) else None
