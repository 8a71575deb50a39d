"""Relations: how queries look like queries, keys like keys and values like values."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Literal, get_args

from torch import Tensor

from sightline.backends import Problem
from sightline.common.check import choice, integer
from sightline.losses.given import standing
from sightline.matrix import AttentionMatrix
from sightline.measure.subject import Measurable

Of = Literal["query", "key", "value"]


def relation(A: Measurable, of: str = "value", heads: int | None = None) -> AttentionMatrix:
    """How the values of positions look like each other, or their queries or keys: a matrix of its own.

    ``R = softmax(mask(x·xᵀ/√d))`` with x the values, say, of all heads side by side, cut anew into relation
    heads of width d, so that models of other widths and numbers of heads can be compared. Positions see each
    other as in the attention itself; biases, soft cap and sinks are left out. Queries and keys are those that
    met, turned where the model has rotary positions.

    Args:
        A: AttentionMatrix [B,H,N,N] of self-attention with its values, or a call that holds one. Gradients
            flow where they flow from it.
        of: "query", "key" or "value". Default: "value".
        heads: how many relation heads R, which divide the width of all heads together. Default: as many as
            there are; with grouped queries there are fewer of keys and values.

    Returns:
        AttentionMatrix [B,R,N,N], lazy.

    Raises:
        ValueError: for heads that do not divide the width, for cross-attention, a mask that differs between
            heads, or a matrix without values; TypeError: for what is no matrix.

    Sources: Wang et al. 2020, "MiniLM" (values); Wang et al. 2021, "MiniLMv2" (all three, relation heads).

    Example:
        >>> import sightline, torch
        >>> query, key, value = torch.randn(3, 1, 4, 10, 8)
        >>> A = sightline.AttentionMatrix(query, key, value)
        >>> sightline.losses.relation(A, "key", heads=2).shape
        torch.Size([1, 2, 10, 10])
    """
    choice("of", of, get_args(Of))
    matrix = standing(A, "A")
    b, h, n, m = matrix.sizes
    if n != m:
        raise ValueError(
            f"relation: is of self-attention, whose queries and keys are the same positions; N={n} queries "
            f"(axis N) and M={m} keys (axis M) are not."
        )
    x = getattr(matrix, of)
    if x is None:
        raise ValueError(
            "relation: this matrix has no values. Make it with AttentionMatrix(query, key, value)."
        )
    cut = _cut(x, x.shape[1] if heads is None else integer("heads", heads, 1), of)
    problem = _hidden_alike(matrix, cut.shape[1])
    made = replace(problem, query=cut, key=cut, scale=1 / math.sqrt(cut.shape[3]))
    return AttentionMatrix.of_problem(made, None, detach=False)


def _cut(x: Tensor, heads: int, of: str) -> Tensor:
    """[B,G,N,D] -> [B,R,N,d], with R·d = G·D."""
    width = x.shape[1] * x.shape[3]
    if width % heads:
        raise ValueError(
            f"heads: {heads} do not divide the width {width} of the {of} of all heads together "
            f"({x.shape[1]} heads of {x.shape[3]})."
        )
    if heads == x.shape[1]:
        return x
    b, _, n, _ = x.shape
    return x.transpose(1, 2).reshape(b, n, heads, width // heads).transpose(1, 2)


def _hidden_alike(matrix: AttentionMatrix, heads: int) -> Problem:
    """A problem in which positions are hidden from each other as in the matrix, and nothing else is."""
    given = matrix.problem
    visible = given.visible
    if given.bias is not None and not matrix.only_ranges:
        shown = given.bias.detach() > -math.inf
        visible = shown if visible is None else visible & shown
    for mask in (given.ranges, visible):
        if mask is not None and mask.shape[1] not in (1, heads):
            raise ValueError(
                f"relation: the mask differs between the H={mask.shape[1]} heads (axis H), and there are "
                f"{heads} relation heads. Relations need a mask that is the same for all heads."
            )
    return Problem(given.query, given.key, None, 1.0, ranges=given.ranges, visible=visible)
