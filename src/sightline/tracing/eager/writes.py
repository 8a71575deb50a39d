"""Scores that are written to, as a whole or through a view: what is written becomes a term of the expression.

Indices, masks and views say in many ways where something is written. None of them is read here: the operation
runs once more, on zeros and on ones that lie as the scores do. What it adds is what becomes of zeros; what it
overwrites is where zeros and ones become the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from sightline.tracing.eager.followed import FollowedScores
from sightline.tracing.layout import Axes, Placement
from sightline.tracing.scores import HIDDEN, Scores, Term
from sightline.tracing.storage import address, is_plain

_ADDING = {"add", "sub", "index_add", "scatter_add", "addcmul", "addcdiv"}
_OVERWRITING = {
    "copy", "diagonal_scatter", "fill", "fill_diagonal", "_index_put_impl", "index_copy", "index_fill",
    "index_put", "masked_fill", "masked_scatter", "scatter", "select_scatter", "slice_scatter",
}  # fmt: skip


def written(followed: FollowedScores, operation: Any, args: Any, kwargs: Any) -> None:
    """An operation wrote in place to a tensor whose storage holds scores: all of them or a part."""
    target, known = args[0], followed.record(args[0])
    if known is None or _onto_itself(operation, args):
        return
    placement, scores = known

    def again(number: float) -> Tensor:
        whole, part = _lying_as(placement, target, number)
        operation(part, *args[1:], **kwargs)
        return whole

    fits = _lies_within(placement, target)
    followed.revise(target, _after(scores, placement.axes, operation, args, again if fits else None))


def rewritten(followed: FollowedScores, operation: Any, args: Any, kwargs: Any, out: Any) -> None:
    """An operation made new scores of old ones by writing something else into a part of them."""
    known = followed.get(args[0])
    if known is None or not is_plain(out):
        return

    def again(number: float) -> Tensor:
        result: Tensor = operation(torch.full_like(args[0], number), *args[1:], **kwargs)
        return result

    followed.pass_on(out, args[0], known[1], _after(*known, operation, args, again))


def _after(scores: Scores, axes: Axes, operation: Any, args: Any, again: Any) -> Scores:
    """The scores after an operation; ``again`` repeats it on scores that are all one number."""
    kind = kind_of(operation, args)
    follows = scores.stage == "scores" and scores.query is not None and scores.sinks is None
    if not follows or kind is None or again is None or _reads_itself(args):
        return scores.altered(f"changed by {operation}")
    zeros = again(0.0)
    if kind == "adds":
        return scores.plus(Term(_once(zeros), tuple(zeros.shape), axes))
    ones = again(1.0)
    same = (zeros == ones) | (zeros.isnan() & ones.isnan())
    if not bool((~same | (zeros <= HIDDEN)).all()):
        return scores.unknown("scores of which some were overwritten")
    return scores.plus(Term(_once(same), tuple(same.shape), axes, hides=True))


def kind_of(operation: Any, args: Any = ()) -> str | None:
    """ "adds", "overwrites", or ``None`` for anything else."""
    packet, _, overload = str(operation).removeprefix("aten.").partition(".")
    name = packet.rstrip("_")
    if "reduce" in overload or not str(operation).startswith("aten."):
        return None
    if name in _ADDING or (name.endswith(("index_put", "index_put_impl")) and len(args) > 3 and args[3]):
        return "adds"
    return "overwrites" if name in _OVERWRITING else None


def _onto_itself(operation: Any, args: Any) -> bool:
    """The second half of ``scores[part] += bias``: the part is written to where it lies."""
    if operation is not torch.ops.aten.copy_.default or not is_plain(args[1]):
        return False
    target, source = args[:2]
    return (
        address(target) == address(source)
        and target.storage_offset() == source.storage_offset()
        and target.shape == source.shape
        and target.stride() == source.stride()
    )


def _reads_itself(args: Any) -> bool:
    """Whether what is written comes from the same storage, which by now has other numbers."""
    own = address(args[0])
    return any(is_plain(arg) and address(arg) == own for arg in args[1:])


def _lies_within(placement: Placement, view: Tensor) -> bool:
    """Whether the view ends where the scores do, or before."""
    start = int(view.storage_offset()) - placement.offset
    end = start + _span(view.shape, view.stride())
    return start >= 0 and end <= _span(placement.sizes, placement.strides)


def _span(sizes: Sequence[int], strides: Sequence[int]) -> int:
    """Places from the first entry to the last one."""
    return 1 + sum((size - 1) * stride for size, stride in zip(sizes, strides, strict=True))


def _lying_as(placement: Placement, view: Tensor, number: float) -> tuple[Tensor, Tensor]:
    """Tensors full of a number that lie as the scores and as a view of them."""
    memory = view.new_full((_span(placement.sizes, placement.strides),), number)
    whole = memory.as_strided(placement.sizes, placement.strides)
    part = memory.as_strided(view.shape, view.stride(), int(view.storage_offset()) - placement.offset)
    return whole, part


def _once(tensor: Tensor) -> Tensor:
    """Without the axes along which nothing changes."""
    for axis, size in enumerate(tensor.shape):
        if size > 1:
            first = tensor.narrow(axis, 0, 1)
            if torch.equal(tensor, first.expand_as(tensor)):
                tensor = first
    return tensor.clone()
