"""How large the scores get before the softmax."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from sightline.matrix import AttentionMatrix
from sightline.measure.catalogue import catalogued
from sightline.measure.subject import subject
from sightline.measure.sweep import compute_dtype, scaled_blocks


@catalogued(
    formula="max over visible i, j of the score: scale · q_i·k_j, by default after softcap and bias",
    unit="logits",
    range=(-math.inf, math.inf),
    source="Kimi Team 2025, Kimi K2: open agentic intelligence (QK-Clip, which watches 100)",
    caveat="One outlying pair sets it; it says nothing of the rest. A row's softmax does not change when "
    "all of its scores shift.",
)
def max_logit(A: Any, *, stage: str = "masked", per_query: bool = False, unverified: bool = False) -> Tensor:
    """The largest score of a head, whose growth announces unstable training.

    Args:
        A: AttentionMatrix [B,H,N,M], or a traced call that holds one.
        stage: "masked", what the softmax sees, or "scaled", before softcap and bias: what grows unseen
            under a softcap.
        per_query: [B,H,N], the largest of each row.
        unverified: measure a traced call that was not verified, too.

    Returns:
        [B,H]; -inf where nothing is visible, as in a fully masked row.

    Raises:
        ValueError: for another stage; UnverifiedError: for an unverified call.

    Example:
        >>> import sightline.measure, torch
        >>> query, key = torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0, 0.0], [0.0, 4.0]])
        >>> A = sightline.AttentionMatrix(query[None, None], key[None, None], scale=1.0)
        >>> sightline.measure.max_logit(A)
        tensor([[8.]])
    """
    if stage not in ("masked", "scaled"):
        raise ValueError(f"stage: must be 'masked' or 'scaled', got {stage!r}.")
    given = subject(A, unverified)
    problem = given.matrix.problem
    bare = problem.softcap is None and problem.bias is problem.slopes is problem.table is None
    found = given.matrix.max_score() if stage == "masked" or bare else _max_scaled(given.matrix)
    if per_query:
        return given.shaped(found)
    return given.shaped(found.amax(-1) if found.shape[2] else found.new_full(found.shape[:2], -math.inf))


def _max_scaled(matrix: AttentionMatrix) -> Tensor:
    out = torch.full(
        matrix.problem.shape[:3], -math.inf, dtype=compute_dtype(matrix.problem), device=matrix.device
    )
    for (batch, rows, _), scaled, seen in scaled_blocks(matrix):
        out[batch, :, rows] = scaled.masked_fill(~seen, -math.inf).amax(-1)
    return out
