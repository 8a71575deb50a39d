"""Tables of contributions, added up over pairs of queries and keys."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from sightline.attribution.frozen import double
from sightline.attribution.sides import Side, Sides
from sightline.attribution.split import check_sum
from sightline.matrix import AttentionMatrix

_TOGETHER = 512  # keys at a time
#: Rounding steps, relative to the lengths of the parts, by which their sum may differ from the score; fewer
#: of half precision, whose steps are wide.
_STEPS, _STEPS_OF_HALF = 256, 16


class Sums:
    """Adds up the tables of pairs of one head in one batch entry.

    Args:
        sides: its queries and keys in parts.
        matrix: [1,1,N,M], its matrix.
        contrast: whether scores are those above the mean of what a query sees.
        eps: the coarsest rounding in what was recorded.
    """

    def __init__(self, sides: Sides, matrix: AttentionMatrix, contrast: bool, eps: float) -> None:
        self._sides, self._matrix, self._contrast = sides, matrix, contrast
        self._eps = max(eps, torch.finfo(matrix.query.dtype).eps)
        self._scale = float(matrix.problem.scale)
        self._keys = double(matrix.key[0, 0])  # [M,D], the head's own
        self._in_parts = self._all_keys() if contrast else None
        self._names: tuple[tuple[str, ...], tuple[str, ...]] = ((), ())
        self._table = self._of_query = self._of_key = torch.zeros((), dtype=torch.float64)
        self._score, self._pairs = 0.0, 0

    def add(self, rows: Tensor, cols: Tensor) -> None:
        """Pairs of queries [n] and keys [n]."""
        query = self._sides.queries(rows)
        queries = query.vectors * self._scale
        query_itself = double(self._matrix.query[0, 0][rows.to(self._matrix.device)]) * self._scale
        key, key_itself = self._keys_at(rows, cols)
        whole_query, whole_key = queries.sum(0), key.vectors.sum(0)
        score = (query_itself * key_itself).sum(-1)
        self._check(score - (whole_query * whole_key).sum(-1), _length(queries) * _length(key.vectors))
        self._names = (query.names, key.names)
        self._table = self._table + queries.flatten(1) @ key.vectors.flatten(1).T
        self._of_query = self._of_query + (queries * whole_key).sum(-1).abs().sum(1)
        self._of_key = self._of_key + (key.vectors * whole_query).sum(-1).abs().sum(1)
        self._score += float(score.sum())
        self._pairs += len(rows)

    def shared(self) -> dict[str, Any]:
        """What both kinds of answers have."""
        table, score = self._table / self._pairs, self._score / self._pairs
        return {
            "query_parts": self._names[0],
            "key_parts": self._names[1],
            "table": table,
            "score": score,
            "remainder": score - float(table.sum()),
            "contrast": self._contrast,
        }

    def of_many(self) -> dict[str, Any]:
        """What an answer of many pairs has besides."""
        return {
            "pairs": self._pairs,
            "absolute_of_query": self._of_query / self._pairs,
            "absolute_of_key": self._of_key / self._pairs,
        }

    def _keys_at(self, rows: Tensor, cols: Tensor) -> tuple[Side, Tensor]:
        """Keys in parts, [P,n,D], and as they are, [n,D]; with contrast less the means of what is seen."""
        if self._in_parts is None:
            return self._sides.keys(cols), self._keys[cols]
        names, vectors = self._in_parts
        seen = self._seen(rows)
        means = torch.einsum("nm,pmd->pnd", seen, vectors)
        return Side(names, vectors[:, cols] - means), self._keys[cols] - seen @ self._keys

    def _all_keys(self) -> Side:
        sides = [self._sides.keys(some) for some in torch.arange(len(self._keys)).split(_TOGETHER)]
        return Side(sides[0].names, torch.cat([side.vectors for side in sides], 1))

    def _seen(self, rows: Tensor) -> Tensor:
        """[n,M]: 1 / how many keys a query sees, where it sees one."""
        if self._matrix.only_ranges:
            visible = self._in_ranges(rows)
        else:
            masked = [self._matrix.scores(row, stage="masked")[0, 0] for row in rows.tolist()]
            visible = torch.cat(masked) > -torch.inf
        seen = double(visible)
        return seen / seen.sum(-1, keepdim=True).clamp(min=1)

    def _in_ranges(self, rows: Tensor) -> Tensor:
        """Bool [n,M]: which keys a query may see, where ranges alone say so."""
        ranges, m = self._matrix.problem.ranges, len(self._keys)
        if ranges is None:
            return torch.ones((len(rows), m), dtype=torch.bool)
        own = ranges[0, 0].cpu().expand(self._matrix.sizes[2], -1, -1)[rows]  # [n,R,2]
        key = torch.arange(m)
        return ((own[..., :1] <= key) & (key < own[..., 1:])).any(1)

    def _check(self, remainder: Tensor, length: Tensor) -> None:
        """Raises where the parts of a pair do not add up to its score."""
        steps = _STEPS if self._eps < 1e-5 else _STEPS_OF_HALF
        allowed = steps * self._eps * length
        at = int((remainder.abs() - allowed).argmax())
        check_sum(float(remainder[at].abs()), float(allowed[at]))


def _length(vectors: Tensor) -> Tensor:
    """[n], the root of the squares of all parts [P,n,D]."""
    return vectors.square().sum((0, 2)).sqrt()
