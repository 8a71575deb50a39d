"""What is done to scores on their way to the softmax, and to weights behind it: scale, cap, bias, sinks."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from torch import Tensor

from sightline.tracing.eager.followed import FollowedScores, number_of
from sightline.tracing.layout import KEY, ROW, Axes, Heads, find, heads_of
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
    if known is not None:
        after = _multiplied(followed, *known, tensor, divisor, inverse=True)
        followed.pass_on(out, tensor, known[1], after)


def _multiplied(
    followed: FollowedScores, scores: Scores, axes: Axes, tensor: Tensor, factor: Any, inverse: bool
) -> Scores:
    """Multiplied with a number or a tensor, or divided by it."""
    if scores.stage == "exp":
        is_sum = inverse and isinstance(factor, Tensor) and factor.numel() < tensor.numel()
        return replace(scores, stage="weights") if is_sum else scores.unknown("an unusual softmax")
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
        if is_plain(factor) and followed.random.get(factor):
            return replace(scores, dropout=True)
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
    lead = heads_of(tensor.shape, axes, row, tensor.dim() - 1 if column is None else column)
    count = query.shape[0]
    if not lead.complete(count):
        return scores.altered("multiplied with a tensor")
    per_row = placed(term, Heads((count,), (1,)), count, 1)[:, 0]
    return replace(scores, query=query * per_row.to(query.dtype))


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
        return scores if bias.shape[-1] == 1 else scores.unknown("a bias after the sinks")
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
    """cat([scores, sinks]): one more column that takes a share of the softmax."""
    tensors = args[0]
    known = followed.get(tensors[0]) if tensors else None
    if known is None:
        return
    scores, axes = known
    first, dim = tensors[0], (args[1] if len(args) > 1 else kwargs.get("dim", 0)) % out.dim()
    sink = tensors[1] if len(tensors) == 2 else None
    if (
        sink is None or scores.stage != "scores" or scores.sinks is not None
        or sink.shape[dim] != 1 or axes[dim].role != KEY
    ):  # fmt: skip
        return
    term = Term(sink, tuple(1 if d == dim else n for d, n in enumerate(first.shape)), axes)
    followed.set(out, replace(scores, sinks=term), axes)
