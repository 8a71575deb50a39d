"""What a cache keeps of its keys' weights from step to step, so that the least wanted can go.

Letters: B batch, H heads, G key/value heads, n queries of a step, M keys.
"""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from sightline.backends import Problem
from sightline.call.received import over_groups, run_received
from sightline.matrix import AttentionMatrix

ScoreKind = Literal["received", "last", "window"]


class KeyScores(NamedTuple):
    """Which scores are kept.

    Attributes:
        kind: "received" (all weights so far, summed), "last" (those of the last query) or "window" (the mean
            of those of the last queries of a prompt).
        window: how many queries, for "window".
    """

    kind: ScoreKind
    window: int

    @property
    def first(self) -> float:
        """The score of a key that nobody has looked at yet: what is written after a prompt stays."""
        return math.inf if self.kind == "window" else 0.0

    def in_one_pass(self, problem: Problem, sums: Tensor, counts: list[int]) -> tuple[Tensor, Tensor] | None:
        """(context, lse) of a step whose weights joined the sums; ``None`` where that takes the matrix.

        Args:
            problem: the step's queries over all keys.
            sums: [B,G,M], over the query heads of each key/value head; changed in place.
            counts: of each entry, how many of the queries count.
        """
        n = problem.query.shape[2]
        if any(count != n for count in counts) or self.kind == "window" or (self.kind == "last" and n != 1):
            return None
        if self.kind == "last":
            sums.zero_()
        return run_received(problem, sums)

    def take(self, matrix: AttentionMatrix, sums: Tensor, counts: list[int], filled: list[int]) -> None:
        """The weights of a step join the sums.

        Args:
            matrix: the step's.
            sums, counts: as above.
            filled: of each entry, how many of the keys are its own.
        """
        if self.kind == "window" and max(counts, default=0) < 2:
            return
        with torch.no_grad():
            for first, last in runs(counts, filled):
                if counts[first]:
                    entries = slice(first, last)
                    self._take(matrix[entries], sums[entries], counts[first], filled[first])

    def _take(self, matrix: AttentionMatrix, sums: Tensor, count: int, filled: int) -> None:
        """The first ``count`` queries of entries that all have ``filled`` keys."""
        if self.kind == "received":
            sums += _received(matrix, slice(0, count), sums.shape[1])
        elif self.kind == "last":
            sums.copy_(_received(matrix, slice(count - 1, count), sums.shape[1]))
        elif count > 1:  # a single token continues a prompt, and is none
            size = min(self.window, count)
            sums.copy_(_received(matrix, slice(count - size, count), sums.shape[1]) / size)
            sums[:, :, filled - size :] = math.inf


def _received(matrix: AttentionMatrix, rows: slice, groups: int) -> Tensor:
    """[B,G,M]: what each key received from some queries."""
    found = matrix.cell_rows(rows, slice(None), None, ("received",))["received"]
    return over_groups(found, groups)


def runs(*columns: list[int]) -> list[tuple[int, int]]:
    """Runs of entries that agree in every column, so that an even batch is done at once."""
    rows = list(zip(*columns, strict=True))
    starts = [b for b in range(len(rows)) if b == 0 or rows[b] != rows[b - 1]]
    return list(zip(starts, [*starts[1:], len(rows)], strict=True))
