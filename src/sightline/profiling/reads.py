"""What is read of one attention call: one pass over its matrix for everything that needs one."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from sightline.backends.readouts import Values
from sightline.matrix import AttentionMatrix
from sightline.measure.rows import Visible, head_mean, visible

TOP = 8


class Reads:
    """A call's matrix without the padding's rows, and what was read off it in one pass.

    Args:
        matrix: [B,H,N,M].
        real: bool [B,N], False for queries that are padding; ``None`` where there are none.
        tokens: [B,M], the keys' ids; ``None`` where they are not known, and for cross-attention.
        needs: names of readouts.
    """

    def __init__(
        self, matrix: AttentionMatrix, real: Tensor | None, tokens: Tensor | None, needs: Sequence[str]
    ) -> None:
        # A matrix of its own: whether an unverified one is taken has been decided before.
        bare = AttentionMatrix.of_problem(matrix.problem, matrix.lse)
        self.matrix = bare if real is None else without_padding(bare, real)
        self.tokens, self._needs = tokens, tuple(needs)

    @functools.cached_property
    def _found(self) -> Any:
        top = min(TOP, self.matrix.problem.shape[3]) if "topk" in self._needs else None
        return self.matrix.readouts(*self._needs, topk=top)

    @property
    def entropy(self) -> Tensor:
        """[B,H,N]"""
        return self._found.entropy  # type: ignore[no-any-return]

    @property
    def max_score(self) -> Tensor:
        """[B,H,N]"""
        return self._found.max_score  # type: ignore[no-any-return]

    @property
    def topk(self) -> Values:
        """The 8 largest weights of each row, or all where there are fewer keys: [B,H,N,k]."""
        return self._found.topk  # type: ignore[no-any-return]

    @property
    def distance(self) -> Tensor:
        """[B,H,N]"""
        return self._found.distance  # type: ignore[no-any-return]

    @property
    def received(self) -> Tensor:
        """[B,H,M]"""
        return self._found.received  # type: ignore[no-any-return]

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
    """The matrix with nothing to look at for queries that are padding: they neither give nor count.

    Args:
        real: bool [B,N], False for padding.
    """
    problem = matrix.problem
    keys = torch.tensor([0, problem.shape[3]], dtype=torch.int32)
    ranges = keys.expand(1, 1, 1, 1, 2) if problem.ranges is None else problem.ranges
    ranges = torch.where(real[:, None, :, None, None], ranges, 0)
    empty = torch.tensor(-math.inf) if problem.sinks is None else problem.sinks[None, :, None]
    lse = torch.where(real[:, None], matrix.lse, empty.to(matrix.lse.dtype))
    return AttentionMatrix.of_problem(replace(problem, ranges=ranges), lse)
