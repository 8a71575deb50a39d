"""What is known about scores on their way from q·kᵀ to the weighted sum: an expression, not numbers.

The expression grows by one term with each operation that the model applies: scale, cap, bias, mask, sinks,
softmax. What has no place in ``softmax(mask(cap(scale · q·kᵀ) + bias))`` makes it opaque: the weights are
then taken as they are, densely.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from sightline.tracing.layout import KEY, ROW, Axes, Heads, all_of, exchanged
from sightline.tracing.storage import address

#: Scores at or below this are hidden: exp() of them is 0 next to any that is seen.
HIDDEN = -1e4

#: Why weights are no attention: a layer has learnt their queries or their keys.
PROJECTED = "the scores are a projection of one tensor: no query met a key"


class Term(NamedTuple):
    """A tensor that was combined with the scores, and what the scores' axes ran over then.

    Attributes:
        tensor: as many axes as the scores had, of their size or 1.
        sizes: the scores' shape then.
        axes: what the scores' axes ran over.
        factor: what the tensor was multiplied with since.
        hides: whether the tensor is bool and says who may look, instead of being added.
        inverted: of a tensor that hides: whether True means "may look" instead of "hidden".
    """

    tensor: Tensor
    sizes: tuple[int, ...]
    axes: Axes
    factor: float = 1.0
    hides: bool = False
    inverted: bool = False


class Scores(NamedTuple):
    """``softmax(cap · tanh(scale · q·kᵀ / cap) + terms)`` so far.

    Attributes:
        query: [L,N,D].
        key: [L,M,D].
        scale: what q·kᵀ is multiplied with.
        cap: the soft cap; ``None`` for none.
        terms: biases and masks, in order.
        sinks: [...,1], what was put beside the scores as one more column, or as several.
        sinks_first: whether it was put before them.
        given: (B, H), if a view of the scores told them apart.
        heads: the leading axes at the softmax.
        stage: "scores", "exp", "log" (of the weights) or "weights".
        opaque: why the expression says nothing about the scores; ``None`` if it does.
        changed: what was done to the weights after the softmax; ``None`` for nothing.
        dropout: whether weights were dropped at random.
        share: how many of them, where it is known.
        zeroed: whether weights were set to 0 where the terms hide them.
        eps: the coarsest rounding on the way, where it is known.
        made_of: the storages of queries and keys as they were multiplied.
        sources: the storages of the tensors that the expression is made of.
    """

    query: Tensor | None
    key: Tensor | None
    scale: float = 1.0
    cap: float | None = None
    terms: tuple[Term, ...] = ()
    sinks: Term | None = None
    sinks_first: bool = False
    given: tuple[int, int] | None = None
    heads: Heads | None = None
    stage: str = "scores"
    opaque: str | None = None
    changed: str | None = None
    dropout: bool = False
    share: float | None = None
    zeroed: bool = False
    eps: float = 0.0
    made_of: tuple[int, ...] = ()
    sources: frozenset[int] = frozenset()

    @property
    def columns(self) -> int:
        """How many columns of sinks there are beside the keys."""
        return 0 if self.sinks is None else self.sinks.tensor.shape[-1]

    def times(self, factor: float) -> Scores:
        """Multiplied with a number."""
        if self.stage != "scores" or not math.isfinite(factor):
            return self.altered("multiplied")
        if self.cap is not None and factor <= 0:
            return self.unknown("a negative soft cap")
        return self._replace(
            scale=self.scale * factor,
            cap=None if self.cap is None else self.cap * factor,
            terms=tuple(t._replace(factor=t.factor * factor) for t in self.terms),
            sinks=None if self.sinks is None else self.sinks._replace(factor=self.sinks.factor * factor),
        )

    def tanh(self) -> Scores:
        """Under tanh: the middle of a soft cap."""
        if self.terms or self.cap is not None or self.stage != "scores":
            return self.unknown("tanh of biased scores")
        return self._replace(cap=1.0)

    def plus(self, term: Term) -> Scores:
        """With a bias or a mask."""
        if self.stage != "scores":
            return self.altered("added to")
        return self._replace(terms=(*self.terms, term), sources=self.sources | {address(term.tensor)})

    def zeros(self, term: Term) -> Scores:
        """With weights set to 0: of whole rows, or where nothing was seen; the comparison will tell."""
        hidden = self._replace(stage="scores").plus(term)
        return hidden._replace(stage=self.stage, zeroed=True)

    def unknown(self, why: str) -> Scores:
        """Without an expression for the scores; what they were made of is let go."""
        opaque = self.opaque or why
        return self._replace(query=None, key=None, terms=(), opaque=opaque, sources=frozenset())

    def altered(self, how: str) -> Scores:
        """Changed in a way that the expression cannot say, at whatever stage."""
        if self.stage == "weights":
            return self._replace(changed=self.changed or how)
        return self.unknown(f"scores that were {how}")

    def rounded(self, to: Tensor) -> Scores:
        """As numbers of another tensor's dtype."""
        eps = torch.finfo(to.dtype).eps if to.is_floating_point() else 0.0
        return self._replace(eps=eps) if eps > self.eps else self

    def exchanged(self) -> Scores:
        """With queries and keys exchanged, for a softmax along the other axis."""
        return self._replace(
            query=self.key,
            key=self.query,
            made_of=self.made_of[::-1],
            terms=tuple(t._replace(axes=exchanged(t.axes)) for t in self.terms),
        )


def placed(term: Term, heads: Heads, batch: int, count: int) -> Tensor:
    """The term's tensor as [1|B, 1|H, 1|N, 1|M], a view where possible."""
    tensor = term.tensor[(None,) * (len(term.sizes) - term.tensor.dim())]
    rows, keys = (sorted(all_of(term.axes, role), key=lambda d: -term.axes[d].step) for role in (ROW, KEY))
    lead = [d for d in range(tensor.dim()) if d not in rows and d not in keys and term.sizes[d] > 1]
    lead.sort(key=lambda d: -term.axes[d].step)
    for several in (rows, keys):  # a grid, of which the tensor may have one side only
        if len({tensor.shape[d] > 1 for d in several}) > 1:
            tensor = tensor.expand([n if d in several else -1 for d, n in enumerate(term.sizes)])
    ones = [d for d in range(tensor.dim()) if d not in (*lead, *rows, *keys)]
    sizes = [math.prod(tensor.shape[d] for d in several) for several in (rows, keys)]
    tensor = tensor.permute(*lead, *rows, *keys, *ones)
    tensor = tensor.reshape(*tensor.shape[: len(lead)], *sizes)
    return _folded(tensor, [term.sizes[d] for d in lead], heads, batch, count)


def _folded(tensor: Tensor, lead: list[int], heads: Heads, batch: int, count: int) -> Tensor:
    """[l1, l2, ..., n, m] -> [1|B, 1|H, n, m], where the l are the sizes in ``lead`` or 1."""
    rest = tensor.shape[len(lead) :]
    if all(size == 1 for size in tensor.shape[: len(lead)]):
        return tensor.reshape(1, 1, *rest)
    cut = next((i for i in range(len(lead) + 1) if math.prod(lead[:i]) == batch), None)
    in_order = list(heads.steps) == sorted(heads.steps, reverse=True)
    if cut is not None and in_order and math.prod(lead) == batch * count:
        groups = [(tensor.shape[:cut], lead[:cut]), (tensor.shape[cut : len(lead)], lead[cut:])]
        if all(tuple(have) == tuple(full) or set(have) <= {1} for have, full in groups):
            return tensor.reshape(*(math.prod(have) for have, _ in groups), *rest)
    whole = tensor.expand(*lead, *rest).reshape(-1, *rest)
    return heads.split(whole, batch, count)
