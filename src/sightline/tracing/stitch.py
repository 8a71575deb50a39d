"""Generation with a cache: the steps of a layer become one matrix.

A step brings a few queries and the keys that there are by then. Whether it continues what came before is
read off the keys: those that were there are there again, and as many are new as there are queries. The last
step's keys hold all others, unless a windowed cache let some go, which are then kept.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from sightline.backends import Problem

_SAMPLED = 5


class Stitched:
    """The steps of one layer so far.

    Attributes:
        problem: the latest step's, with all keys that it was given.
        start: the place of its first key among all keys.
    """

    def __init__(self, problem: Problem, lse: Tensor | None) -> None:
        self._steps = [(problem, 0)]
        self._lse = [lse]
        self._gone: list[tuple[Tensor, Tensor | None]] = []
        self._widths: list[int] = []
        self.problem, self.start = problem, 0
        self._filled = _filled(problem)

    def __len__(self) -> int:
        return len(self._steps)

    def continued(self, problem: Problem, cross: bool, in_step: bool) -> int | None:
        """Where the first key of ``problem`` stands among all, if it is the next step; else ``None``.

        Args:
            problem: a later call of the same layer.
            cross: whether the keys are another sequence's, and stay the same.
            in_step: whether the self-attention that ran before continued its own.
        """
        last = self.problem
        if not _alike(last, problem):
            return None
        keys, queries = problem.shape[3], problem.shape[2]
        if cross:
            same = in_step and keys == last.shape[3] and _same(last.key, problem.key, 0, 0, keys)
            return self.start if same else None
        fills = keys == last.shape[3] and _filled(problem) == self._filled + queries <= keys
        if fills and _same(last.key, problem.key, 0, 0, self._filled):
            return self.start  # a static cache, with room for more
        start = self.start + last.shape[3] + queries - keys
        common = keys - queries
        if common <= 0 or start < self.start or self._filled < last.shape[3]:
            return None
        return start if _same(last.key, problem.key, start - self.start, 0, common) else None

    def append(self, problem: Problem, start: int, lse: Tensor | None) -> None:
        """Adds the next step, already kept."""
        dropped = start - self.start
        if dropped:
            old = self.problem
            value = None if old.value is None else old.value[:, :, :dropped].clone()
            self._gone.append((old.key[:, :, :dropped].clone(), value))
        last, place = self._steps[-1]
        # Of the steps before only queries and masks are needed.
        self._steps[-1] = (replace(last, key=last.key[:, :, :0], value=None), place)
        self._widths.append(last.shape[3])
        self._steps.append((problem, start))
        self._lse.append(lse)
        self.problem, self.start = problem, start
        self._filled = _filled(problem)

    def whole(self) -> tuple[Problem, Tensor | None]:
        """The one problem of all steps, and its lse where it is known."""
        if len(self._steps) == 1:
            return self.problem, self._lse[0]
        keys = [key for key, _ in self._gone] + [self.problem.key]
        values = [value for _, value in self._gone] + [self.problem.value]
        widths = [*self._widths, self.problem.shape[3]]
        total = self.start + self.problem.shape[3]
        steps = [(p, start, width) for (p, start), width in zip(self._steps, widths, strict=True)]
        problem = replace(
            self.problem,
            query=torch.cat([p.query for p, _, _ in steps], 2),
            key=torch.cat(keys, 2) if self._gone else self.problem.key,
            value=torch.cat([v for v in values if v is not None], 2) if self._gone else self.problem.value,
            ranges=_ranges(steps, total),
            visible=_columns([(p.visible, p, s, w) for p, s, w in steps], total, fill=True),
            bias=_columns([(p.bias, p, s, w) for p, s, w in steps], total, fill=False),
        )
        known = [lse for lse in self._lse if lse is not None]
        return problem, torch.cat(known, 2) if len(known) == len(self._lse) else None


def _alike(left: Problem, right: Problem) -> bool:
    """Whether two problems differ in nothing but lengths and masks."""
    fixed = (left.slopes, left.table, right.slopes, right.table)
    return (
        all(term is None for term in fixed)
        and left.query.shape[:2] == right.query.shape[:2]
        and left.query.shape[3] == right.query.shape[3]
        and left.key.shape[:2] == right.key.shape[:2]
        and left.query.dtype == right.query.dtype
        and (left.scale, left.softcap) == (right.scale, right.softcap)
        and (left.sinks is None) == (right.sinks is None)
    )


def _same(old: Tensor, new: Tensor, old_start: int, new_start: int, count: int) -> bool:
    """Whether some of ``count`` keys are equal, in every head of every batch entry."""
    if count <= 0 or old_start + count > old.shape[2]:
        return False
    at = torch.linspace(0, count - 1, min(count, _SAMPLED), device=new.device).long()
    before = old[:, :, (at + old_start).to(old.device)].to(new)
    return bool((before == new[:, :, at + new_start]).all())


def _filled(problem: Problem) -> int:
    """How many of the keys anybody sees, counted from the first."""
    keys = problem.shape[3]
    if problem.ranges is not None and problem.ranges.numel():
        return int(
            problem.ranges[..., 1].masked_fill(problem.ranges[..., 0] >= problem.ranges[..., 1], 0).max()
        )
    if problem.visible is not None and problem.visible.numel():
        seen = problem.visible.flatten(0, 2).any(0).expand(keys)
        return int(seen.nonzero().max()) + 1 if bool(seen.any()) else 0
    return keys


def _ranges(steps: list[tuple[Problem, int, int]], total: int) -> Tensor:
    """The steps' ranges one below the other, counted from the first of all keys."""
    parts = []
    for problem, start, width in steps:
        queries, device = problem.query.shape[2], problem.query.device
        ranges = problem.ranges
        if ranges is None:
            ranges = torch.tensor([0, width], dtype=torch.int32, device=device).expand(1, 1, queries, 1, 2)
        empty = ranges[..., :1] >= ranges[..., 1:]
        parts.append((ranges.expand(-1, -1, queries, -1, -1) + start).masked_fill(empty, total))
    shape = [max(part.shape[axis] for part in parts) for axis in (0, 1)]
    most = max(part.shape[3] for part in parts)
    padded = [torch.nn.functional.pad(p, (0, 0, 0, most - p.shape[3]), value=total) for p in parts]
    return torch.cat([p.expand(*shape, *p.shape[2:]) for p in padded], 2).int()


def _columns(steps: list[tuple[Tensor | None, Problem, int, int]], total: int, fill: bool) -> Tensor | None:
    """Dense terms [1|B,1|H,1|N,1|M] one below the other, with columns that no step had filled."""
    given = [term for term, _, _, _ in steps if term is not None]
    if not given:
        return None
    shape = [max(term.shape[axis] for term in given) for axis in (0, 1)]
    rows = []
    for term, problem, start, width in steps:
        queries = problem.query.shape[2]
        row = given[0].new_full((*shape, queries, total), fill)
        if term is not None:
            row[..., start : start + width] = term
        rows.append(row)
    return torch.cat(rows, 2)
