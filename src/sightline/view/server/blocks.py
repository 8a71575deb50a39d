"""One head (or the mean or maximum over heads) of a lazy matrix, in blocks that stop when told to."""

from __future__ import annotations

import math
from collections.abc import Iterator
from threading import Event
from typing import NamedTuple

import torch
from torch import Tensor

from sightline.backend.problem import Problem
from sightline.backend.stages import Block, logits, schedule, weights_of
from sightline.matrix import AttentionMatrix


class StoppedError(Exception):
    """The computation was not wanted any more."""


class Weights(NamedTuple):
    """Weights [n,m] of rows × columns; ``visible`` is ``None`` where every weight is."""

    rows: range
    cols: range
    weights: Tensor
    visible: Tensor | None


def select(matrix: AttentionMatrix, batch: int, head: int | str) -> AttentionMatrix:
    """One batch entry and one head, or all heads for "mean" and "max": still lazy, [1,H,N,M] with H ≥ 1."""
    _ = matrix.lse  # once for the whole; the parts inherit it
    heads = slice(None) if isinstance(head, str) else slice(head, head + 1)
    chosen: AttentionMatrix = matrix[batch : batch + 1, heads]
    return chosen


def blocks(
    matrix: AttentionMatrix, head: int | str, rows: slice, cols: slice, cancel: Event
) -> Iterator[Weights]:
    """The weights of a region, block by block, without the keys that no row of a block may see.

    Raises:
        StoppedError: between two blocks, after ``cancel`` was set.
    """
    problem, lse = matrix.problem, matrix.lse
    masks = problem.ranges is not None or problem.visible is not None or problem.bias is not None
    for block in schedule(problem, rows, cols):
        if cancel.is_set():
            raise StoppedError
        if block.cols.start >= block.cols.stop:
            continue
        masked = _masked(problem, block)[0]
        visible = masked > -math.inf if masks else None
        weights = weights_of(masked, lse[0, :, block.rows])
        yield Weights(
            range(*block.rows.indices(matrix.shape[2])),
            range(block.cols.start, block.cols.stop),
            over_heads(weights, head),
            None if visible is None else visible.any(0),
        )


def _masked(problem: Problem, block: Block) -> Tensor:
    """``logits``, without a look at each key where all rows of the block see the same long run of keys."""
    ranges = problem.ranges
    if ranges is None or ranges.shape[3] != 1 or problem.visible is not None or problem.bias is not None:
        return logits(problem, block)
    here = ranges if ranges.shape[2] == 1 else ranges[:, :, block.rows]
    start = max(block.cols.start, int(here[..., 0].max()))
    stop = min(block.cols.stop, int(here[..., 1].min()))
    if 2 * (stop - start) < block.cols.stop - block.cols.start:
        return logits(problem, block)
    found = logits(problem, block, "biased")
    for first, last in ((block.cols.start, start), (stop, block.cols.stop)):
        if first < last:
            edge = slice(first - block.cols.start, last - block.cols.start)
            found[..., edge] = logits(problem, block._replace(cols=slice(first, last)))
    return found


def over_heads(weights: Tensor, head: int | str) -> Tensor:
    """[H,n,m] to [n,m]: the only head, or the mean or maximum over heads."""
    if len(weights) == 1:
        return weights[0]
    return weights.amax(0) if head == "max" else weights.mean(0)


def part(matrix: AttentionMatrix, head: int | str, rows: slice, cols: slice) -> Tensor:
    """Weights of a small part, NaN where a query may not look: [n,m]."""
    masked = matrix.scores(rows, cols, "masked")[0]
    weights = over_heads(weights_of(masked, matrix.lse[0, :, rows]), head)
    return torch.where((masked > -math.inf).any(0), weights, math.nan)
