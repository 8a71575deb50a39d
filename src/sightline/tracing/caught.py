"""What was caught: one attention call in terms of its own tensors, before anything is kept of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from torch import Tensor

from sightline.backends.problem import Problem

#: The doubt about a call in which weights were dropped at random.
DROPOUT = "dropout is active: the matrix shows the weights before dropout, the model used others"


@dataclass
class CaughtCall:
    """One attention call.

    Attributes:
        how: what was recognised: "scaled_dot_product_attention", "softmax(q·kᵀ)·v", ...
        query, key, value: [B,H,N,D], [B,G,M,D], [B,G,M,E].
        context: [B,H,N,E], what the model computed; ``None`` where only the output behind it is known.
        scale, softcap, sinks: as in :func:`sightline.attention`.
        added: floating tensors [1|B,1|H,1|N,1|M] that were added to the scores; masks are among them.
        hidden, visible: bool tensors, likewise: True = may not look; True = may look.
        ranges: [1|B,1|H,N,R,2] key ranges.
        causal: whether a query sees the keys up to its own number, counted from the first key.
        problem: the whole problem, where it is known as such; then the terms above are not read.
        lse: [B,H,N], where the model computed it exactly.
        dense: [B,H,N,M] weights, where the scores are not q·kᵀ.
        doubt: why the weights are not those that made the context, if so.
        output: the tensor whose gradient is the context's, and how to see it as [B,H,N,E].
        compare: instead of ``context``: from the context of some rows to (recomputed, real) output rows.
        eps: the coarsest rounding in what the model computed, where it is coarser than the query's.
        thorough: whether every row is compared: what was done to the weights may differ from row to row.
        cross: whether it is cross-attention, where that is known.
        made_of: the storages that queries and keys lay in, where they are copies by now.
        dropout: the share of weights that the model drops at random; ``None`` where it is not known.
        lead: the query's leading axes, where there are more than a batch and heads; the batch then holds all
            but the last.
        inside: the name of the part of the running module that it belongs to; "" for the module itself.
        put: puts what comes of another context [B,H,N,E] where the model's own lies; ``None`` where
            ``output`` says where that is.
        result: what the operation made, the first of several.
        computed: whether it has been run, so that ``context`` is the model's own.
    """

    how: str
    query: Tensor
    key: Tensor
    value: Tensor
    context: Tensor | None
    scale: float | None = None
    softcap: float | None = None
    sinks: Tensor | None = None
    added: list[Tensor] = field(default_factory=list)
    hidden: list[Tensor] = field(default_factory=list)
    visible: list[Tensor] = field(default_factory=list)
    ranges: Tensor | None = None
    causal: bool = False
    problem: Problem | None = None
    lse: Tensor | None = None
    dense: Tensor | None = None
    doubt: str | None = None
    output: tuple[Tensor, Callable[[Tensor], Tensor]] | None = None
    compare: Callable[[Tensor, slice], tuple[Tensor, Tensor]] | None = None
    eps: float = 0.0
    thorough: bool = False
    cross: bool | None = None
    made_of: tuple[int, ...] = ()
    dropout: float | None = 0.0
    lead: tuple[int, ...] = ()
    inside: str = ""
    put: Callable[[Tensor], None] | None = None
    result: Tensor | None = None
    computed: bool = True
