"""What a reduction makes of one block, as a function of tensors alone, which can be compiled."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from sightline.backends import MatrixBlock
from sightline.backends.block import logits, numbers
from sightline.backends.contract import Over
from sightline.backends.problem import Problem, compute_dtype, with_tensors
from sightline.backends.schedule import Numbered
from sightline.backends.select import along
from sightline.backends.softmax import RowSums, SumsForBlock, in_two, own_sums, weights_of
from sightline.matrix.followed.reduction import Function, Operation, applied, neutral


class Given(NamedTuple):
    """What a block's reductions are made from: tensors alone, as others would make the code another.

    Attributes:
        problem: the block's own, cut out of the whole.
        place: which numbers its queries and keys have.
        sums: what its weights are made with, [b,H,n]; "own" if it holds all that its rows may see.
        extra: the caller's tensors, cut to the block.
    """

    problem: Problem
    place: Numbered
    sums: SumsForBlock
    extra: tuple[Tensor, ...]


def given(block: MatrixBlock, extra: Sequence[Tensor]) -> Given:
    """A block as its reductions take it."""
    problem, place = block.problem, block.place
    problem = with_tensors(problem, {}, value=None)
    for letter, index in (("B", place.batch), ("N", place.rows), ("M", place.cols)):
        problem = with_tensors(problem, along(problem, letter, index))
    problem.query = problem.query.contiguous()  # some rows of it or all: to compiled code they look alike
    sums = block.sums
    if isinstance(sums, Tensor):  # once for each row, not for each pair
        sums = in_two(sums, compute_dtype(problem))
    if isinstance(sums, RowSums):
        sums = RowSums(sums.top.contiguous(), sums.log_sum.contiguous())
    queries, keys = numbers(block.problem, place)
    return Given(problem, Numbered(queries.contiguous(), keys), sums, tuple(extra))


def reductions(functions: Sequence[Function], block: Given, over: Over, op: Operation) -> tuple[Tensor, ...]:
    """Of a block, by each function: [b,H,n] or [b,H,m]. What is compiled."""
    masked = logits(block.problem, block.place)
    sums = own_sums(masked, block.problem.sinks) if isinstance(block.sums, str) else block.sums
    hidden, weights = masked == -math.inf, weights_of(masked, sums)
    arguments = (weights, masked, block.place.queries, block.place.keys, *block.extra)
    found = []
    for function in functions:
        pairs = applied(function, arguments, masked.shape, masked.dtype).masked_fill(hidden, neutral(op))
        found.append(_reduced(pairs, over, op))
    return tuple(found)


def _reduced(pairs: Tensor, over: Over, op: Operation) -> Tensor:
    axis = -1 if over == "keys" else -2
    if op == "sum":
        return pairs.sum(axis, dtype=torch.float64 if over == "queries" else None)
    return pairs.amax(axis) if op == "max" else pairs.amin(axis)
