"""Which axis of a tensor of scores is what, however it was viewed.

Scores start as q·kᵀ, [L,N,M]: L heads of all batch entries, N queries, M keys. Models view, permute and
copy them. A placement says what a tensor's axes run over: an axis of role ``LEAD``, ``ROW`` or ``KEY`` with a
step runs over every step-th of the L heads, N queries or M keys.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

LEAD, ROW, KEY = range(3)

#: Answers that are remembered: every layer of a model asks the same.
_LAYOUTS = 256


class Axis(NamedTuple):
    """What an axis runs over; axes of size 1 run over nothing."""

    role: int
    step: int


NOTHING = Axis(LEAD, 0)
Axes = tuple[Axis, ...]
#: Sizes and what they run over.
Pieces = tuple[tuple[int, Axis], ...]


def of_product(shape: Sequence[int]) -> Axes:
    """The axes of q·kᵀ as it was computed, [L,N,M] or [N,M]."""
    roles = (LEAD, ROW, KEY)[-len(shape) :]
    return tuple(NOTHING if size == 1 else Axis(role, 1) for role, size in zip(roles, shape, strict=True))


class Placement(NamedTuple):
    """A tensor in its storage, and what its axes run over."""

    sizes: tuple[int, ...]
    strides: tuple[int, ...]
    offset: int
    axes: Axes

    @classmethod
    def of(cls, tensor: Tensor, axes: Axes) -> Placement:
        """The placement of a tensor whose axes are known."""
        return cls(tuple(tensor.shape), tensor.stride(), int(tensor.storage_offset()), axes)

    def covers(self, view: Tensor) -> bool:
        """Whether another view of the same storage is all of this one, and its axes have names."""
        return view.numel() == math.prod(self.sizes) and self.axes_of(view) is not None

    def axes_of(self, view: Tensor) -> Axes | None:
        """What the axes of another view of the same storage run over; ``None`` where that has no name."""
        return self.axes_along(view.shape, view.stride()) if view.storage_offset() == self.offset else None

    @lru_cache(_LAYOUTS)  # noqa: B019  (a placement is nothing but numbers)
    def axes_along(self, sizes: tuple[int, ...], strides: tuple[int, ...]) -> Axes | None:
        """The same of a view with these sizes and strides, wherever in the storage it begins."""
        if sizes == self.sizes and strides == self.strides:
            return self.axes
        axes = [self._axis(size, stride) for size, stride in zip(sizes, strides, strict=True)]
        return None if None in axes else tuple(axis for axis in axes if axis is not None)

    def _axis(self, size: int, stride: int) -> Axis | None:
        """The axis of a view with this size and stride."""
        if size == 1:
            return NOTHING
        mine = sorted(
            (s, n, axis)
            for n, s, axis in zip(
                self.sizes, self.strides, ((a.role, a.step) for a in self.axes), strict=True
            )
            if n > 1
        )
        start = max((i for i, (s, _, _) in enumerate(mine) if 0 < s <= stride), default=None)
        if start is None or stride % mine[start][0]:
            return None
        inner, length, (role, step) = mine[start]
        factor = stride // inner
        reach = length
        for outer, count, (outer_role, outer_step) in mine[start + 1 :]:
            if size * factor <= reach:
                break
            if (outer, outer_role, outer_step) != (inner * reach, role, step * reach):
                return None
            reach *= count
        return Axis(role, step * factor) if (size - 1) * factor < reach else None

    def apart(self, view: Tensor) -> tuple[Pieces, ...] | None:
        """What the axes of another view run over, where a view has made one axis of several.

        Returns:
            for each axis of the view its pieces, outermost first; ``None`` where that has no name.
        """
        return self._apart(view.shape, view.stride()) if view.storage_offset() == self.offset else None

    @lru_cache(_LAYOUTS)  # noqa: B019
    def _apart(self, sizes: tuple[int, ...], strides: tuple[int, ...]) -> tuple[Pieces, ...] | None:
        pieces = [self._pieces(size, stride) for size, stride in zip(sizes, strides, strict=True)]
        return None if None in pieces else tuple(piece for piece in pieces if piece is not None)

    def _pieces(self, size: int, stride: int) -> Pieces | None:
        one = self._axis(size, stride)
        if one is not None:
            return ((size, one),) if size > 1 else ()
        mine = {
            stride: (count, axis)
            for count, stride, axis in zip(self.sizes, self.strides, self.axes, strict=True)
            if count > 1
        }
        found: list[tuple[int, Axis]] = []
        while size > 1:
            inner = max((step for step in mine if 0 < step <= stride), default=None)
            if inner is None or stride % inner:
                return None
            (count, axis), factor = mine[inner], stride // inner
            ends = size * factor <= count
            number = size if ends else count // factor
            if number * factor > count or (not ends and (count % factor or size % number)) or number < 2:
                return None
            found.append((number, Axis(axis.role, axis.step * factor)))
            size //= number
            stride = inner * count
        return tuple(reversed(found))

    def without(self, columns: int) -> Placement:
        """The placement of all but the first columns."""
        key = find(self.axes, KEY)
        if key is None:
            return self
        sizes = list(self.sizes)
        sizes[key] -= columns
        return Placement(tuple(sizes), self.strides, self.offset + columns * self.strides[key], self.axes)


def exchanged(axes: Axes) -> Axes:
    """The axes with queries and keys exchanged."""
    other = {LEAD: LEAD, ROW: KEY, KEY: ROW}
    return tuple(Axis(other[axis.role], axis.step) for axis in axes)


class Heads(NamedTuple):
    """How the L heads of all batch entries lie: sizes and steps of the axes that lead to them."""

    sizes: tuple[int, ...]
    steps: tuple[int, ...]

    def split(self, tensor: Tensor, batch: int, heads: int) -> Tensor:
        """[L, ...] -> [B,H, ...], a view where possible."""
        rest = tensor.shape[1:]
        named = [(step, size) for size, step in zip(self.sizes, self.steps, strict=True) if size > 1]
        order = sorted(range(len(named)), key=lambda i: -named[i][0])
        apart = tensor.reshape(*(named[i][1] for i in order), *rest)
        back = [order.index(i) for i in range(len(order))]
        apart = apart.permute(*back, *range(len(order), apart.dim()))
        return apart.reshape(batch, heads, *rest)

    def complete(self, count: int) -> bool:
        """Whether the axes lead to every one of ``count`` heads, once."""
        named = sorted((step, size) for size, step in zip(self.sizes, self.steps, strict=True) if size > 1)
        reach = 1
        for step, size in named:
            if step != reach:
                return False
            reach *= size
        return reach == count


def heads_of(sizes: Sequence[int], axes: Axes, rows: list[int], key: int) -> Heads:
    """The axes that are neither the queries' nor the keys', in order."""
    lead = [d for d in range(len(sizes)) if d != key and d not in rows]
    return Heads(tuple(sizes[d] for d in lead), tuple(axes[d].step for d in lead))


def all_of(axes: Axes, role: int) -> list[int]:
    """The axes of that role, in order."""
    return [d for d, axis in enumerate(axes) if axis.role == role and axis.step]


def find(axes: Axes, role: int) -> int | None:
    """The one axis of that role; ``None`` if there is none or more than one."""
    named = all_of(axes, role)
    return named[0] if len(named) == 1 else None


def chained(pieces: Sequence[tuple[int, Axis]]) -> bool:
    """Whether the pieces, outermost first, run over everything that they span without a gap."""
    reach = 1
    for size, axis in reversed(pieces):
        if size > 1 and axis.step != reach:
            return False
        reach *= size
    return True


def batch_and_heads(
    heads: Heads, given: tuple[int, int] | None, number: int | None, batch: int | None, key: Tensor | None
) -> tuple[Heads, int, int]:
    """(B, H) of leading axes [B,H], [B,G,r], [B,H,W] and so on, or of one axis B·H; and the batch in front.

    Args:
        heads: the leading axes.
        given: (B, H) from another view of the same scores, if one was seen.
        number: how many heads the module says that it has.
        batch: how many entries the input of the module has.
        key: [L,M,D], if the keys are known: those of a group of heads are the same.
    """
    if len(heads.sizes) == 2 and number and batch and heads.sizes[1] != number:
        heads = _first_apart(heads, batch, number)
    sizes, total = heads.sizes, math.prod(heads.sizes)
    if len(sizes) >= 2:
        chosen = heads_among(sizes, number)
        if chosen is None:
            shared = key is not None and _same_along_last(heads, key)
            chosen = list(range(1, len(sizes))) if len(sizes) == 2 or shared else [len(sizes) - 1]
        order = [d for d in range(len(sizes)) if d not in chosen] + chosen
        heads = Heads(tuple(sizes[d] for d in order), tuple(heads.steps[d] for d in order))
        count = math.prod(sizes[d] for d in chosen)
        return heads, total // max(1, count), count
    if given is not None and math.prod(given) == total:
        return heads, *given
    if number and total % number == 0:
        return heads, total // number, number
    if batch and total % batch == 0:
        return heads, batch, total // batch
    return heads, 1, total


def heads_among(sizes: Sequence[int], number: int | None) -> list[int] | None:
    """Which of the leading axes are ``number`` heads, if the first is the batch; ``None`` for no one way."""
    inner = range(1, len(sizes))
    if number is None:
        return None
    if math.prod(sizes[1:]) == number:
        return list(inner)
    return next(([d] for d in reversed(inner) if sizes[d] == number), None)


def _first_apart(heads: Heads, batch: int, number: int) -> Heads:
    """Leading axes [B·H,W] as [B,H,W]."""
    (first, second), (step, inner) = heads.sizes, heads.steps
    if first != batch * number or step == 0:
        return heads
    return Heads((batch, number, second), (step * number, step, inner))


def _same_along_last(heads: Heads, key: Tensor) -> bool:
    """Whether the keys repeat along the last of the leading axes, in the first place."""
    last = heads.steps[-1]
    return heads.sizes[-1] > 1 and torch.equal(key[0], key[last])
