"""Hand-written attention: follows q·kᵀ through whatever a model does to it, up to weights · value.

Operations are watched below autograd, where a model's ``@``, ``einsum``, ``softmax`` and the rest are a few
dozen ATen operators. Views need no watching: a tensor's strides say what was done (see ``layout``).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from sightline.tracing import layout
from sightline.tracing.found import DROPOUT, Found
from sightline.tracing.layout import KEY, LEAD, NOTHING, ROW, Axes, Axis, Place
from sightline.tracing.scores import HIDDEN, Scores, Term, placed
from sightline.tracing.storage import ByStorage, is_plain

aten = torch.ops.aten

#: Scores that are followed at a time: those of a layer, and some that turn out to be none.
_FOLLOWED = 24


class Known(NamedTuple):
    """Scores, and how they lie in a storage."""

    place: Place
    scores: Scores


class EagerMatcher:
    """Recognises softmax(q·kᵀ)·v in a stream of operations.

    Args:
        is_weight: whether a tensor is one of the model's parameters or buffers: x · weights is no q·kᵀ.
        heads: the number of heads that the running module says it has, or ``None``.
        emit: is called with what was found.
    """

    def __init__(
        self,
        is_weight: Callable[[Tensor], bool],
        heads: Callable[[], int | None],
        emit: Callable[[Found], None],
    ) -> None:
        self._is_weight, self._heads, self._emit = is_weight, heads, emit
        self._known: ByStorage[Known] = ByStorage(_FOLLOWED)
        self._random: ByStorage[bool] = ByStorage(_FOLLOWED)

    def clear(self) -> None:
        """Lets go of everything that is being followed."""
        self._known.clear()
        self._random.clear()

    @property
    def idle(self) -> bool:
        """Whether nothing is being followed."""
        return not len(self._known)

    def follows(self, tensor: Tensor) -> bool:
        """Whether anything is known about the tensor."""
        return self._known.get(tensor) is not None

    def let_go(self) -> None:
        """Forgets what nobody can use any more."""
        self._known.prune()

    # --- following --------------------------------------------------------------------------------

    def _of(self, tensor: Any) -> tuple[Scores, Axes] | None:
        """What is known about a tensor, as it lies."""
        if not is_plain(tensor):
            return None
        known = self._known.get(tensor)
        if known is None:
            return None
        axes = known.place.axes_of(tensor)
        if axes is None:
            if known.scores.stage != "weights":
                return None
            return known.scores.altered("cut up"), _plain_axes(tensor.dim())
        scores = known.scores
        if tensor.dim() == 4 and scores.given is None and scores.stage == "scores":
            scores = replace(scores, given=(tensor.shape[0], tensor.shape[1]))
        return scores, axes

    def _follow(self, tensor: Tensor, scores: Scores, axes: Axes) -> None:
        self._known.set(tensor, Known(Place.of(tensor, axes), scores))

    def _next(self, out: Tensor, before: Tensor, axes: Axes, scores: Scores) -> None:
        """The result of an operation that keeps the axes."""
        if not is_plain(out):
            return
        if out.numel() != before.numel() or out.dim() < before.dim():
            self._known.drop(out)
            return
        self._follow(out, scores, (NOTHING,) * (out.dim() - before.dim()) + axes)

    def other(self, name: str, tensors: list[Tensor], out: Any, written: bool) -> None:
        """An operation that has no place in attention."""
        if written:
            found = self._of(tensors[0]) if tensors else None
            if found is not None:
                self._follow(tensors[0], found[0].altered(f"changed by {name}"), found[1])
            return
        if not is_plain(out):
            return
        for tensor in tensors:
            found = self._of(tensor)
            if found and found[0].stage == "weights" and out.numel() == tensor.numel() and out.dim() > 1:
                if self._known.get(out) is None:  # no view
                    self._follow(out, found[0].altered(f"changed by {name}"), _plain_axes(out.dim()))
                return

    # --- products ---------------------------------------------------------------------------------

    def product(self, args: Any, kwargs: Any, out: Any) -> None:
        """a @ b: scores, or weights · value."""
        left, right = args[:2]
        if not self._finish(left, right, out):
            self._start(left, right, out, 1.0, None)

    def added_product(self, args: Any, kwargs: Any, out: Any) -> None:
        """beta · x + alpha · a @ b."""
        bias, left, right = args[:3]
        alpha, beta = kwargs.get("alpha", 1), kwargs.get("beta", 1)
        if beta == 0 or not self._finish(left, right, out, plain=False):
            self._start(left, right, out, float(alpha), (bias, float(beta)) if beta else None)

    def _start(
        self, left: Tensor, right: Tensor, out: Tensor, alpha: float, bias: tuple[Tensor, float] | None
    ) -> None:
        if not all(map(is_plain, (left, right, out))) or self._is_weight(left) or self._is_weight(right):
            return
        query, key = (left, right.transpose(-1, -2)) if left.dim() == 3 else (left[None], right.t()[None])
        axes = layout.of_product(out.shape)
        scores = Scores(query, key, alpha)
        if bias is not None:
            scores = scores.plus(Term(bias[0], tuple(out.shape), axes, bias[1]))
        self._follow(out, scores, axes)

    def _finish(self, left: Tensor, right: Tensor, out: Tensor, plain: bool = True) -> bool:
        """Whether this was weights · value."""
        for weights, value, turned in ((left, right, False), (right, left, True)):
            known = self._of(weights)
            if known is None or known[0].stage != "weights" or not is_plain(value):
                continue
            if self._is_weight(value):
                return False
            scores, axes = known
            if turned:
                weights, value, out = weights.mT, value.mT, out.mT
                axes = (*axes[:-2], axes[-1], axes[-2])
            if not plain:
                scores = replace(scores, changed=scores.changed or "added to")
            found = self._found(scores, axes, weights, value, out)
            if found is None:
                return False
            self._emit(found)
            return True
        return False

    def _found(self, scores: Scores, axes: Axes, weights: Tensor, value: Tensor, out: Tensor) -> Found | None:
        if weights.dim() == 2:
            weights, value, out, axes = weights[None], value[None], out[None], (NOTHING, *axes)
        right = (Axis(LEAD, 1), Axis(ROW, 1), Axis(KEY, 1))
        fits = all(axis in (NOTHING, wanted) for axis, wanted in zip(axes, right, strict=True))
        heads, count = scores.heads, weights.shape[0]
        if not fits or heads is None or not heads.complete(count):
            scores = scores.unknown("weights that were viewed in an unusual way")
            heads = layout.Heads((count,), (1,))
        batch, number = layout.batch_and_heads(heads.sizes, scores.given, self._heads())

        def split(tensor: Tensor) -> Tensor:
            return heads.split(tensor, batch, number)

        query, key = scores.query, scores.key
        if (
            query is None
            or key is None
            or query.shape[:2] != weights.shape[:2]
            or key.shape[1] != weights.shape[2]
        ):
            return self._dense(scores, split, weights, value, out)
        found = Found("softmax(q·kᵀ)·v", split(query), split(key), split(value), split(out), scores.scale)
        found.softcap, found.doubt, found.eps = scores.cap, _doubt(scores), scores.eps
        found.output = (out, split)
        for term in scores.terms:
            tensor = placed(term, heads, batch, number)
            if term.hides:
                (found.visible if term.inverted else found.hidden).append(tensor)
            elif tensor.shape[3] > 1 or weights.shape[2] == 1 or scores.sinks is not None:
                found.added.append(tensor if term.factor == 1 else tensor * term.factor)
            # The same number for every key of a row changes no weight.
        if scores.sinks is not None:
            sinks = placed(scores.sinks, heads, batch, number)
            found.sinks = sinks[0, :, 0, 0].expand(number) * scores.sinks.factor
        return found

    def _dense(
        self, scores: Scores, split: Callable[[Tensor], Tensor], weights: Tensor, value: Tensor, out: Tensor
    ) -> Found:
        nothing = weights.new_zeros(())
        weights, value, out4 = split(weights), split(value), split(out)
        found = Found(
            "softmax(scores)·v",
            nothing.expand(*weights.shape[:3], 1),
            nothing.expand(*value.shape[:3], 1),
            value,
            out4,
            1.0,
        )
        found.dense, found.doubt, found.eps = weights, _doubt(scores), scores.eps
        found.output = (out, split)
        return found

    # --- what scores go through -------------------------------------------------------------------

    def scaled(self, args: Any, kwargs: Any, out: Any, inverse: bool = False) -> None:
        """scores · number, scores / number; weights · a random mask."""
        tensor, factor = args[0], args[1]
        known = self._of(tensor)
        if known is None:
            if inverse or (known := self._of(factor)) is None:
                return
            tensor, factor = factor, tensor
        scores, axes = known
        if scores.stage == "exp":
            # exp(scores) / its sum
            ok = inverse and isinstance(factor, Tensor) and factor.numel() < tensor.numel()
            after = replace(scores, stage="weights") if ok else scores.unknown("an unusual softmax")
            return self._next(out, tensor, axes, after)
        number = _number(factor)
        if number is not None:
            if scores.stage == "weights":
                # Of dropout: the kept weights divided by their share. A plain factor is not expected.
                after = scores if scores.dropout else scores.altered("multiplied")
            else:
                after = scores.times(1 / number if inverse and number else number)
            return self._next(out, tensor, axes, after)
        self._next(out, tensor, axes, self._times(scores, axes, tensor, factor, inverse))

    def divided(self, args: Any, kwargs: Any, out: Any) -> None:
        """scores / number."""
        self.scaled(args, kwargs, out, inverse=True)

    def _times(self, scores: Scores, axes: Axes, tensor: Tensor, factor: Tensor, inverse: bool) -> Scores:
        """Multiplied with a tensor."""
        if scores.stage == "weights":
            if is_plain(factor) and self._random.get(factor):
                return replace(scores, dropout=True)
            return scores.altered("multiplied with a tensor (a mask of heads?)")
        query, key = scores.query, scores.key
        row, column = layout.find(axes, ROW), layout.find(axes, KEY)
        if query is None or key is None or scores.terms or scores.cap is not None or inverse:
            return scores.altered("multiplied with a tensor")
        full = factor[(None,) * (tensor.dim() - factor.dim())]
        if column is not None and full.shape[column] > 1 or tensor.dim() < 3:
            return scores.altered("multiplied with a tensor")
        # One factor for each head, or for each query: it belongs to the query.
        term = Term(full, tuple(tensor.shape), axes)
        lead = layout.heads_of(tensor.shape, axes, row, tensor.dim() - 1 if column is None else column)
        count = query.shape[0]
        if not lead.complete(count):
            return scores.altered("multiplied with a tensor")
        per_row = placed(term, layout.Heads((count,), (1,)), count, 1)[:, 0]
        return replace(scores, query=query * per_row.to(query.dtype))

    def summed(self, args: Any, kwargs: Any, out: Any, sign: float = 1.0) -> None:
        """scores + bias; masks are biases too."""
        tensor, bias = args[0], args[1]
        known, other = self._of(tensor), self._of(bias)
        if known is None or (
            # Of two products the larger one is the scores; a product of weights is neither.
            other is not None and known[0].stage == "scores" and bias.numel() > tensor.numel()
        ):
            if other is None:
                return
            if sign < 0:
                return self._next(out, bias, other[1], other[0].altered("subtracted"))
            known, tensor, bias = other, bias, tensor
        scores, axes = known
        if not isinstance(bias, Tensor) or (bias.dim() == 0 and is_plain(bias)):
            number = _number(bias)
            # The same number everywhere changes no weight; next to sinks it would.
            after = scores if number is not None and scores.stage == "scores" else scores.altered("added to")
            return self._next(out, tensor, axes, after)
        if bias.numel() > tensor.numel() or bias.dim() > tensor.dim():
            return self._next(out, tensor, axes, scores.unknown("a bias with more axes than the scores"))
        factor = sign * float(kwargs.get("alpha", 1))
        if scores.sinks is not None and bias.shape[-1] == 1:
            return self._next(out, tensor, axes, scores)  # a row's shift, sink included
        if scores.sinks is not None:
            return self._next(out, tensor, axes, scores.unknown("a bias after the sinks"))
        term = Term(bias, tuple(tensor.shape), axes, factor)
        self._next(out, tensor, axes, scores.plus(term))

    def subtracted(self, args: Any, kwargs: Any, out: Any) -> None:
        """scores - shift."""
        self.summed(args, kwargs, out, sign=-1.0)

    def tanh(self, args: Any, kwargs: Any, out: Any) -> None:
        """The middle of a soft cap."""
        known = self._of(args[0])
        if known is not None:
            self._next(out, args[0], known[1], known[0].tanh())

    def filled(self, args: Any, kwargs: Any, out: Any) -> None:
        """scores.masked_fill(mask, -inf)."""
        tensor, mask, number = args[:3]
        known = self._of(tensor)
        if known is not None:
            self._next(out, tensor, known[1], _hide(*known, tensor, mask, number, inverted=False))

    def chosen(self, args: Any, kwargs: Any, out: Any) -> None:
        """where(mask, scores, -inf)."""
        mask, yes, no = args[:3]
        for tensor, number, inverted in ((yes, no, True), (no, yes, False)):
            known = self._of(tensor)
            if known is not None:
                return self._next(out, tensor, known[1], _hide(*known, tensor, mask, number, inverted))

    def bounded(self, args: Any, kwargs: Any, out: Any) -> None:
        """max(scores, the least number): changes nothing that is seen."""
        known = self._of(args[0])
        bound = _number(args[1] if len(args) > 1 else kwargs.get("min"))
        if known is not None:
            harmless = bound is not None and bound <= HIDDEN and (len(args) < 3 or args[2] is None)
            self._next(out, args[0], known[1], known[0] if harmless else known[0].altered("clamped"))

    def copied(self, args: Any, kwargs: Any, out: Any) -> None:
        """The same numbers in another place or dtype."""
        known = self._of(args[0])
        if known is not None:
            self._next(out, args[0], known[1], known[0].rounded(out))

    def joined(self, args: Any, kwargs: Any, out: Any) -> None:
        """cat([scores, sinks]): one more column that takes a share of the softmax."""
        tensors = args[0]
        known = self._of(tensors[0]) if tensors else None
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
        self._follow(out, replace(scores, sinks=term), axes)

    # --- softmax ----------------------------------------------------------------------------------

    def softmax(self, args: Any, kwargs: Any, out: Any) -> None:
        """The softmax itself, along keys."""
        tensor, dim = args[0], args[1] % max(1, args[0].dim())
        if not is_plain(out) or out.dim() < 2:
            return
        self._weights(tensor, dim, out, "weights")

    def exponential(self, args: Any, kwargs: Any, out: Any) -> None:
        """exp(scores), the first half of a softmax in two steps."""
        known = self._of(args[0])
        if known is not None and known[0].stage == "scores" and args[0].dim() >= 2:
            column = layout.find(known[1], KEY)
            self._weights(args[0], args[0].dim() - 1 if column is None else column, out, "exp")

    def _weights(self, tensor: Tensor, dim: int, out: Tensor, stage: str) -> None:
        known = self._of(tensor)
        usual = _plain_axes(tensor.dim())
        if known is None or known[0].stage != "scores":
            if dim != tensor.dim() - 1:
                return
            known = (Scores(None, None, opaque="the scores are no q·kᵀ"), usual)
        scores, axes = known
        if axes[dim].role == ROW and axes[dim].step:
            scores, axes = scores.exchanged(), layout.exchanged(axes)
        row = layout.find(axes, ROW)
        if row is None:
            row = dim - 1 if dim and axes[dim - 1] == NOTHING else None
        heads = layout.heads_of(tensor.shape, axes, row, dim)
        if scores.query is not None and not _whole(scores, axes, tensor, row, dim, heads):
            scores, axes = scores.unknown("a softmax over a part of the keys"), usual
            heads = layout.heads_of(tensor.shape, usual, tensor.dim() - 2, tensor.dim() - 1)
        if scores.query is None:
            axes = _canonical(tensor.shape)
            heads = layout.heads_of(tensor.shape, axes, tensor.dim() - 2, tensor.dim() - 1)
        self._next(out, tensor, axes, replace(scores, stage=stage, heads=heads).rounded(out))

    # --- dropout ----------------------------------------------------------------------------------

    def drawn(self, args: Any, kwargs: Any, out: Any) -> None:
        """A random mask."""
        if is_plain(args[0]):
            self._random.set(args[0], True)

    def dropped(self, args: Any, kwargs: Any, out: Any) -> None:
        """native_dropout."""
        known = self._of(args[0])
        if known is not None and isinstance(out, tuple):
            scores = known[0]
            active = len(args) < 3 or args[2] is not False
            after = replace(scores, dropout=True) if active else scores
            self._next(
                out[0], args[0], known[1], after if scores.stage == "weights" else scores.altered("dropped")
            )


def _plain_axes(dims: int) -> Axes:
    return (NOTHING,) * dims


def _canonical(shape: torch.Size) -> Axes:
    """The axes of a tensor [..., N, M] whose leading axes are taken as they lie."""
    axes, step = [], 1
    for size in reversed(shape[:-2]):
        axes.append(NOTHING if size == 1 else Axis(LEAD, step))
        step *= size
    ends = [NOTHING if n == 1 else Axis(role, 1) for n, role in zip(shape[-2:], (ROW, KEY), strict=True)]
    return (*reversed(axes), *ends)


def _whole(
    scores: Scores, axes: Axes, tensor: Tensor, row: int | None, dim: int, heads: layout.Heads
) -> bool:
    """Whether the softmax runs over all keys of all queries and heads."""
    assert scores.query is not None
    assert scores.key is not None
    rows = 1 if row is None else tensor.shape[row]
    keys = scores.key.shape[1] + (scores.sinks is not None)
    known = axes[dim].role == KEY or tensor.shape[dim] == 1
    return (
        known
        and tensor.shape[dim] == keys
        and rows == scores.query.shape[1]
        and heads.complete(scores.query.shape[0])
    )


def _hide(scores: Scores, axes: Axes, tensor: Tensor, mask: Any, number: Any, inverted: bool) -> Scores:
    value = _number(number)
    if scores.stage == "weights":
        # Zeros where nothing was seen change nothing; the comparison of the contexts will tell.
        return scores if value == 0 else scores.altered("filled")
    if value is None or value > HIDDEN or scores.sinks is not None:
        return scores.unknown("scores that were filled with something else than -inf")
    if not is_plain(mask) or mask.dtype != torch.bool or mask.dim() > tensor.dim():
        return scores.unknown("an unusual mask")
    return scores.plus(Term(mask, tuple(tensor.shape), axes, hides=True, inverted=inverted))


def _doubt(scores: Scores) -> str | None:
    if scores.changed:
        return f"the weights were {scores.changed} after the softmax"
    if scores.dropout:
        return DROPOUT
    return None


def _number(value: Any) -> float | None:
    """A Python number, or that of a tensor with one entry."""
    if isinstance(value, bool):
        return None
    if isinstance(value, (int, float)):
        return float(value)
    if is_plain(value) and value.dim() == 0 and not math.isnan(number := float(value)):
        return number
    return None


#: What is done with an operation, by name of the EagerMatcher's method.
WATCHED: dict[Any, str] = {
    aten.bmm.default: "product",
    aten.mm.default: "product",
    aten.baddbmm.default: "added_product",
    aten.baddbmm_.default: "added_product",
    aten.mul.Tensor: "scaled",
    aten.mul.Scalar: "scaled",
    aten.mul_.Tensor: "scaled",
    aten.mul_.Scalar: "scaled",
    aten.div.Tensor: "divided",
    aten.div.Scalar: "divided",
    aten.div_.Tensor: "divided",
    aten.div_.Scalar: "divided",
    aten.add.Tensor: "summed",
    aten.add.Scalar: "summed",
    aten.add_.Tensor: "summed",
    aten.add_.Scalar: "summed",
    aten.sub.Tensor: "subtracted",
    aten.sub.Scalar: "subtracted",
    aten.sub_.Tensor: "subtracted",
    aten.sub_.Scalar: "subtracted",
    aten.tanh.default: "tanh",
    aten.tanh_.default: "tanh",
    aten.masked_fill.Scalar: "filled",
    aten.masked_fill.Tensor: "filled",
    aten.masked_fill_.Scalar: "filled",
    aten.masked_fill_.Tensor: "filled",
    aten.where.self: "chosen",
    aten.where.ScalarOther: "chosen",
    aten.clamp.default: "bounded",
    aten.clamp_min.default: "bounded",
    aten.maximum.default: "bounded",
    aten._to_copy.default: "copied",
    aten.clone.default: "copied",
    aten.nan_to_num.default: "copied",
    aten.cat.default: "joined",
    aten._softmax.default: "softmax",
    aten._safe_softmax.default: "softmax",
    aten.exp.default: "exponential",
    aten.exp_.default: "exponential",
    aten.bernoulli_.float: "drawn",
    aten.bernoulli.p: "drawn",
    aten.native_dropout.default: "dropped",
}
