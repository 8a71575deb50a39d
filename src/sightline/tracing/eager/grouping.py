"""Heads that stand among the rows: keys that all heads share met the queries of all heads at once.

``einsum("bhid,bjd->bhij")`` computes [B, H·I, D] · [B, D, J] and views the result as [B,H,I,J]. Which of the
axes that run over the H·I rows are the queries is said by nothing but their order and sizes, and the module.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from sightline.tracing.layout import LEAD, NOTHING, ROW, Axes, Axis, Pieces, all_of, chained
from sightline.tracing.scores import Scores, Term


def heads_among_rows(sizes: Sequence[int], axes: Axes, key: int, keys: int, heads: int | None) -> list[int]:
    """The axes that run over rows and are heads.

    Args:
        sizes: of a tensor of scores.
        axes: what its axes run over.
        key: the axis of its keys.
        keys: how many keys there are.
        heads: how many heads the module says that it has.
    """
    rows = all_of(axes, ROW)
    lead = [d for d in all_of(axes, LEAD) if sizes[d] > 1]
    if not rows:
        return []
    near = max((d for d in rows if d < key), default=rows[-1])
    if len(rows) == 1:
        # [B,H,1,J]: the one query stands where queries stand.
        alone = key > 0 and near < key - 1 and sizes[key - 1] == 1 and sizes[near] == heads
        return [near] if alone else []
    others = [d for d in rows if d != near]
    number = math.prod(sizes[d] for d in others)
    if heads is not None:
        if number == heads or number * math.prod(sizes[d] for d in lead[1:]) == heads:
            return others
        if sizes[near] == heads and len(rows) == 2:
            return [near]
        if heads in (sizes[d] for d in lead):
            return []
    if math.prod(sizes[d] for d in rows) == keys:  # a grid that looks at itself
        return []
    return others if sizes[near] == keys or len(lead) < 2 else []


def grouped(scores: Scores, sizes: Sequence[int], axes: Axes, among: list[int]) -> tuple[Scores, Axes] | None:
    """The same with heads of their own for the axes in ``among``; ``None`` where that has no name."""
    query, key = scores.query, scores.key
    rows = sorted(all_of(axes, ROW), key=lambda d: -axes[d].step)
    pieces = tuple((sizes[d], axes[d]) for d in rows)
    if query is None or key is None or not chained(pieces) or _number(pieces) != query.shape[1]:
        return None
    inside = [place for place, d in enumerate(rows) if d in among]
    outside = [place for place, d in enumerate(rows) if d not in among]
    apart = query.unflatten(1, [size for size, _ in pieces])
    apart = apart.permute(0, *(1 + place for place in (*inside, *outside)), apart.dim() - 1)
    number = _number([pieces[place] for place in inside])
    names = _NewNames(pieces, inside, outside)

    def named(term: Term) -> Term:
        return term._replace(axes=names.of(term.sizes, term.axes))

    try:
        return scores._replace(
            query=apart.reshape(len(query) * number, -1, query.shape[2]),
            key=key[:, None].expand(-1, number, -1, -1).flatten(0, 1),
            terms=tuple(map(named, scores.terms)),
            sinks=None if scores.sinks is None else named(scores.sinks),
        ), names.of(sizes, axes)
    except LookupError:
        return None


class _NewNames:
    """What axes run over once some pieces of the rows are heads, the innermost ones."""

    def __init__(self, pieces: Pieces, inside: list[int], outside: list[int]) -> None:
        self._pieces = pieces
        self._heads = _number([pieces[place] for place in inside])
        self._new: dict[int, Axis] = {}
        for role, places in ((LEAD, inside), (ROW, outside)):
            for number, place in enumerate(places):
                self._new[place] = Axis(role, _number([pieces[p] for p in places[number + 1 :]]))

    def of(self, sizes: Sequence[int], axes: Axes) -> Axes:
        """The new axes; LookupError where an axis runs over heads and queries."""
        return tuple(map(self._one, sizes, axes))

    def _one(self, size: int, axis: Axis) -> Axis:
        if size == 1 or axis == NOTHING:
            return NOTHING
        if axis.role == LEAD:
            return Axis(LEAD, axis.step * self._heads)
        if axis.role != ROW:
            return axis
        place = next(p for p, (_, piece) in enumerate(self._pieces) if piece.step <= axis.step)
        count, piece = self._pieces[place]
        factor, rest = divmod(axis.step, piece.step)
        if rest or factor * (size - 1) >= count:
            raise LookupError("an axis over heads and queries")
        return Axis(self._new[place].role, self._new[place].step * factor)


def _number(pieces: Iterable[tuple[int, Axis]]) -> int:
    return math.prod(size for size, _ in pieces)
