"""What is read of one attention call: a single pass over its matrix serves everything that needs one."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from sightline.matrix import AttentionMatrix, Readouts, Values
from sightline.measure.rows import Visible, head_mean, visible

TOP = 8


class Reads:
    """A call's matrix, padding left out, and what was read off it in one pass.

    Args:
        matrix: [B,H,N,M].
        real: bool [B,N], False for queries that are padding; ``None`` where there are none.
        tokens: [B,M], the keys' ids; ``None`` where they are not known, and for cross-attention.
        needs: the names of the readouts that will be used.
    """

    def __init__(
        self, matrix: AttentionMatrix, real: Tensor | None, tokens: Tensor | None, needs: Sequence[str]
    ) -> None:
        # A matrix of its own: whether to accept an unverified one was decided before.
        bare = AttentionMatrix.of_problem(matrix.problem, matrix.exact_lse)
        self.matrix = bare if real is None else without_padding(bare, real)
        self.tokens, self._needs = tokens, tuple(needs)

    @functools.cached_property
    def _readouts(self) -> Readouts:
        top = min(TOP, self.matrix.problem.shape[3]) if "topk" in self._needs else None
        return self.matrix.readouts(*self._needs, topk=top)

    @property
    def entropy(self) -> Tensor:
        """[B,H,N]"""
        entropy: Tensor = self._readouts.entropy
        return entropy

    @property
    def max_score(self) -> Tensor:
        """[B,H,N]"""
        max_score: Tensor = self._readouts.max_score
        return max_score

    @property
    def topk(self) -> Values:
        """The 8 largest weights of each row, or all where there are fewer keys: [B,H,N,k]."""
        topk: Values = self._readouts.topk
        return topk

    @property
    def distance(self) -> Tensor:
        """[B,H,N]"""
        distance: Tensor = self._readouts.distance
        return distance

    @property
    def received(self) -> Tensor:
        """[B,H,M]"""
        received: Tensor = self._readouts.received
        return received

    @functools.cached_property
    def seen(self) -> Visible:
        """What each row may see."""
        return visible(self.matrix)

    @functools.cached_property
    def rows(self) -> Tensor:
        """The rows that see a key: bool [B,H,N]."""
        return self.seen.counts > 0

    def mean(self, values: Tensor, rows: Tensor | None = None) -> Tensor:
        """The mean of [B,H,N] over rows that see a key, or over those given: [B,H]; NaN where none does."""
        return head_mean(values.double(), self.rows if rows is None else rows)


def without_padding(matrix: AttentionMatrix, real: Tensor) -> AttentionMatrix:
    """The matrix with empty rows for queries that are padding: they give no weight and do not count.

    Args:
        real: bool [B,N], False for padding.
    """
    problem = matrix.problem
    keys = torch.tensor([0, problem.shape[3]], dtype=torch.int32, device=real.device)
    ranges = keys.expand(1, 1, 1, 1, 2) if problem.ranges is None else problem.ranges
    ranges = torch.where(real[:, None, :, None, None], ranges, 0)
    empty = (
        torch.tensor(-math.inf, device=real.device) if problem.sinks is None else problem.sinks[None, :, None]
    )
    lse = matrix.exact_lse
    lse = torch.where(real[:, None], lse, empty.to(lse.dtype))
    return AttentionMatrix.of_problem(replace(problem, ranges=ranges), lse)
