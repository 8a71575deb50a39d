"""The scores and weights that are being followed, found by the storage that they lie in."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

from torch import Tensor

from sightline.tracing.caught import CaughtCall
from sightline.tracing.eager.features import Features
from sightline.tracing.layout import NOTHING, Axes, Pieces, Placement
from sightline.tracing.scores import Scores
from sightline.tracing.storage import ByStorage, address, is_plain

#: Scores that are followed at a time: those of a layer, and some that turn out to be none.
_FOLLOWED = 24


class KnownScores(NamedTuple):
    """Scores, and how they lie in a storage."""

    placement: Placement
    scores: Scores


class ModuleFacts(Protocol):
    """What is known about the module that runs."""

    def heads(self) -> int | None:
        """How many heads it says that it has."""

    def batch(self) -> int | None:
        """How many entries its input has."""


class FollowedScores:
    """What is known about a stream of operations that may come to softmax(q·kᵀ)·v.

    Args:
        is_weight: whether a tensor is one of the model's parameters or buffers: x · weights is not q·kᵀ.
        module: what is known about the running module.
        emit: takes each call that comes to its end.
    """

    def __init__(
        self,
        is_weight: Callable[[Tensor], bool],
        module: ModuleFacts,
        emit: Callable[[CaughtCall], None],
    ) -> None:
        self.is_weight, self.module, self.emit = is_weight, module, emit
        #: Which storages hold a random mask, and the share of it that is 0.
        self.random: ByStorage[float] = ByStorage(_FOLLOWED)
        #: Which tensors are outputs of projections.
        self.features = Features()
        self._known: ByStorage[KnownScores] = ByStorage(_FOLLOWED)

    def clear(self) -> None:
        """Lets go of everything that is being followed."""
        self._known.clear()
        self.random.clear()
        self.features.clear()

    @property
    def idle(self) -> bool:
        """Whether nothing is being followed."""
        return not len(self._known)

    @property
    def quiet(self) -> bool:
        """Whether nothing is being followed, and no random mask is known either."""
        return not (len(self._known) or len(self.random))

    def follows(self, tensor: Tensor) -> bool:
        """Whether anything is known about the tensor."""
        return self._known.get(tensor) is not None

    def record(self, tensor: Tensor) -> KnownScores | None:
        """What is known about the storage that a tensor lies in."""
        return self._known.get(tensor)

    def covers(self, tensor: Tensor) -> bool:
        """Whether a tensor that is followed is all of the scores, not a part of them."""
        known = self._known.get(tensor)
        return known is not None and known.placement.covers(tensor)

    def revise(self, tensor: Tensor, scores: Scores) -> None:
        """The scores that lie in the tensor's storage have become others, where they are."""
        known = self._known.get(tensor)
        if known is not None and scores is not known.scores:
            self._known.set(tensor, KnownScores(known.placement, scores))

    def overwritten(self, tensor: Tensor, how: str) -> None:
        """Something else was put into the tensor, all of the scores or a part of them."""
        known = self._known.get(tensor)
        if known is None or known.placement.covers(tensor):
            self._known.drop(tensor)
        else:
            self.revise(tensor, known.scores.altered(f"changed by {how}"))

    def source_written(self, tensor: Tensor) -> None:
        """A tensor was written to: scores that were made of it are no longer what their expression says."""
        source = address(tensor)

        def after(known: KnownScores) -> KnownScores:
            if source not in known.scores.sources:
                return known
            return known._replace(scores=known.scores.unknown("what they were made of was written to"))

        self._known.change(after)

    def let_go(self) -> None:
        """Forgets what nobody can use any more."""
        self._known.prune()

    def get(self, tensor: Any) -> tuple[Scores, Axes] | None:
        """What is known about a tensor, as it lies."""
        if not is_plain(tensor):
            return None
        known = self._known.get(tensor)
        if known is None:
            return None
        axes = known.placement.axes_of(tensor)
        if axes is None and known.scores.sinks_first and known.scores.stage == "weights":
            axes = known.placement.without(known.scores.columns).axes_of(tensor)
        if axes is None:
            if known.scores.stage != "weights":
                return None
            return known.scores.altered("cut up"), plain_axes(tensor.dim())
        scores = known.scores
        if tensor.dim() == 4 and scores.given is None and scores.stage == "scores":
            scores = scores._replace(given=(tensor.shape[0], tensor.shape[1]))
        return scores, axes

    def operand(self, tensor: Any) -> tuple[Scores, tuple[Pieces, ...]] | None:
        """What is known about weights in a product, where one axis may be several; ``None`` for others."""
        known = self._known.get(tensor) if is_plain(tensor) else None
        if known is None or known.scores.stage not in ("weights", "exp"):
            return None
        placement, scores = known
        pieces = placement.apart(tensor)
        if pieces is None and scores.sinks_first:
            pieces = placement.without(scores.columns).apart(tensor)
        if pieces is None:
            return scores.altered("cut up"), ()
        return scores, pieces

    def set(self, tensor: Tensor, scores: Scores, axes: Axes) -> None:
        """Follows a tensor."""
        self._known.set(tensor, KnownScores(Placement.of(tensor, axes), scores))

    def pass_on(self, out: Tensor, before: Tensor, axes: Axes, scores: Scores) -> None:
        """Follows the result of an operation that keeps the axes."""
        if not is_plain(out):
            return
        if out.numel() != before.numel() or out.dim() < before.dim():
            self._known.drop(out)
            return
        if address(out) in scores.sources:
            scores = scores.unknown("what they were made of was overwritten with them")
        self.set(out, scores, (NOTHING,) * (out.dim() - before.dim()) + axes)

    def mixed(self, source: Tensor, out: Any) -> None:
        """A layer made ``out`` of scores or weights of attention: their heads are mixed."""
        known = self._known.get(source)
        if known is None or not known.scores.made_of or not is_plain(out) or out.numel() != source.numel():
            return
        self.set(out, known.scores.altered("mixed by a layer"), plain_axes(out.dim()))

    def other(self, name: str, tensors: list[Tensor], out: Any) -> None:
        """An operation that has no place in attention made ``out``."""
        if not is_plain(out):
            return
        for tensor in tensors:
            known = self._known.get(tensor)
            if known is None or known.scores.stage != "weights":
                continue
            if out.numel() == tensor.numel() and out.dim() > 1:
                if not self.follows(out):  # no view
                    self.set(out, known.scores.altered(f"changed by {name}"), plain_axes(out.dim()))
                return


def plain_axes(dims: int) -> Axes:
    """Axes of which nothing is known."""
    return (NOTHING,) * dims


def number_of(value: Any) -> float | None:
    """A Python number, or that of a tensor with one entry."""
    if isinstance(value, bool):
        return None
    if isinstance(value, (int, float)):
        return float(value)
    if is_plain(value) and value.dim() == 0 and not math.isnan(number := float(value)):
        return number
    return None
