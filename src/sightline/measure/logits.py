"""How large the scores get before the softmax."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from sightline.common.check import choice, flag
from sightline.matrix import AttentionMatrix
from sightline.measure.catalogue import catalogued
from sightline.measure.subject import Measurable, measured


@catalogued(
    formula="max over visible i, j of the score: scale · q_i·k_j, by default after softcap and bias",
    unit="logits",
    range=(-math.inf, math.inf),
    source="Kimi Team 2025, Kimi K2: open agentic intelligence (QK-Clip, which watches 100)",
    caveat="One outlying pair sets it; it says nothing of the rest. A row's softmax does not change when "
    "all of its scores shift.",
)
def max_logit(
    A: Measurable, *, stage: str = "masked", per_query: bool = False, unverified: bool = False
) -> Tensor:
    """The largest score of a head, whose growth announces unstable training.

    Args:
        stage: "masked", what the softmax sees, or "scaled", before softcap and bias: what grows unseen
            under a softcap. Default: "masked".
        per_query: [B,H,N], the largest of each row, instead of the largest of all. Default: of all.

    Returns:
        [B,H]; -inf where nothing is visible, as in a fully masked row.

    Raises:
        ValueError: for another stage.

    Example:
        >>> import sightline.measure, torch
        >>> query, key = torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0, 0.0], [0.0, 4.0]])
        >>> A = sightline.AttentionMatrix(query[None, None], key[None, None], scale=1.0)
        >>> sightline.measure.max_logit(A)
        tensor([[8.]])
    """
    choice("stage", stage, ("masked", "scaled"))
    per_query, one = flag("per_query", per_query), measured(A, unverified)
    bare = not {"capped", "biased"} & set(one.matrix.stages)
    largest = one.matrix.max_score() if stage == "masked" or bare else _max_scaled(one.matrix)
    if per_query:
        return one.shaped(largest)
    empty = not largest.shape[2]
    return one.shaped(largest.new_full(largest.shape[:2], -math.inf) if empty else largest.amax(-1))


def _max_scaled(matrix: AttentionMatrix) -> Tensor:
    largest = torch.full_like(matrix.lse, -math.inf)
    for block in matrix.blocks():
        visible = block.scaled.masked_fill(~block.visible, -math.inf)
        largest[block.batch, :, block.rows] = visible.amax(-1)
    return largest
